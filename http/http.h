/* The HTTP side: listeners, acceptor, loops, the routes of API.md, streams and the operations
 * listener. It knows the core by core.h and nothing of XMPP or stores. */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <stdbool.h>

#include "gateway/base/config.h"
#include "gateway/base/loop.h"
#include "gateway/core/core.h"

struct rg_http;

/* Binds the listeners (or takes those that the service manager passed in, LISTEN_FDS) and
 * prepares the http and event loops; nothing is accepted before rg_http_start. (borrow) all
 * until destroy. `main_loop` is the acceptor's and the operations listener's; `core_loop` is
 * the core's, watched by /livez. Returns (own), NULL with err filled (address in use, …).
 * Thread: main. */
struct rg_http *rg_http_create(const struct rg_config *config, struct rg_loop *main_loop,
                               struct rg_loop *core_loop, struct rg_core *core,
                               struct rg_err *err);
enum rg_code rg_http_start(struct rg_http *http, struct rg_err *err);
/* "http://127.0.0.1:8080" or "unix:/path": where it really listens (port 0 resolved). (borrow)
 */
const char *rg_http_address(const struct rg_http *http);
const char *rg_http_operations_address(const struct rg_http *http);

/* The stop sequence (DESIGN section 5). Thread: main. not_ready: /readyz says 503. quiesce: no
 * more connections. finish: when every request and stream has ended or after deadline_ms,
 * fn(arg), on the main loop. Then destroy joins the loops and stops libmicrohttpd. */
void rg_http_not_ready(struct rg_http *http);
void rg_http_quiesce(struct rg_http *http);
void rg_http_finish(struct rg_http *http, int64_t deadline_ms, void (*fn)(void *arg),
                    void *arg);
void rg_http_destroy(struct rg_http *http);

#endif

/* The core: users, their pooled XMPP sessions, versions and streams; one loop, one thread, no
 * lock around user state (DESIGN section 2). */
#ifndef GATEWAY_CORE_CORE_H
#define GATEWAY_CORE_CORE_H

#include "gateway/base/config.h"
#include "gateway/base/err.h"
#include "gateway/base/loop.h"
#include "gateway/core/door.h"
#include "gateway/core/op.h"
#include "gateway/core/stream.h"
#include "gateway/core/token.h"
#include "gateway/ports/store.h"
#include "gateway/ports/upstream.h"

struct rg_core;

/* (borrow) all arguments, until rg_core_destroy. Returns (own), NULL with err filled. */
struct rg_core *rg_core_create(const struct rg_config *config, struct rg_loop *loop,
                               struct rg_upstream *upstream, struct rg_store *store,
                               const struct rg_keys *keys, struct rg_err *err);
/* After rg_core_stop has called back, on the stopped loop. */
void rg_core_destroy(struct rg_core *core);

/* Thread: any. op->done follows on the core's thread. */
void rg_core_submit(struct rg_core *core, struct rg_op *op);
/* The reader of an attached stream is gone. (take) the reader's reference. Thread: any. */
void rg_core_close_stream_take(struct rg_core *core, struct rg_stream *stream);

struct rg_door *rg_core_door(struct rg_core *core);             /* Thread: any */
const struct rg_keys *rg_core_keys(const struct rg_core *core); /* Thread: any */

/* The keys were reloaded: sign-ins whose tokens open no longer are over, their streams say bye.
 * Thread: core. */
void rg_core_keys_changed(struct rg_core *core);

/* Drains (DESIGN section 5, Stop): every stream gets `bye` drain, parked requests are answered,
 * later ones get RG_E_CANCELLED; writes in flight end. Then fn(arg), on the core's thread.
 * Thread: core. */
void rg_core_drain(struct rg_core *core, void (*fn)(void *arg), void *arg);
/* After drain: closes the sessions, then the store. Then fn(arg). Thread: core. */
void rg_core_stop(struct rg_core *core, void (*fn)(void *arg), void *arg);

/* Appends `"xmpp":[…],"store":{…}` for /readyz. Thread: core. */
void rg_core_health(struct rg_core *core, struct rg_buf *buf);

#endif

/* The XMPP side of the gateway: worker processes that hold the sessions, and the front's end of
 * the link to them (ports/upstream.h). DESIGN section 2; traps: facts, libstrophe. */
#ifndef XMPP_UPSTREAM_H
#define XMPP_UPSTREAM_H

#include "gateway/base/config.h"
#include "gateway/base/loop.h"
#include "gateway/ports/upstream.h"

/* Starts the workers (posix_spawn of /proc/self/exe) and supervises them from `loop`. To be
 * called by the main thread before other threads exist; later replacements are spawned from the
 * loop by posix_spawn as well. (borrow) config and loop until destroy. A worker or server that
 * does not come up is no failure: it is retried and shown by status. Returns (own), NULL with
 * err filled. */
struct rg_upstream *rg_xmpp_create(const struct rg_config *config, struct rg_loop *loop,
                                   struct rg_err *err);

/* Is this process a worker (argv of rg_xmpp_create's making)? Then main calls rg_worker_main
 * and nothing else. */
bool rg_worker_is(int argc, char **argv);
int rg_worker_main(int argc, char **argv); /* the exit code */

#endif

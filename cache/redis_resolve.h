/* A host name's addresses by c-ares on the loop: hiredis would block the core on the look-up.
 * /etc/hosts counts. Inside cache/ only. Thread: the loop's. */
#ifndef CACHE_REDIS_RESOLVE_H
#define CACHE_REDIS_RESOLVE_H

#include "gateway/base/loop.h"

enum { RG_REDIS_ADDRESS_SIZE = 64 };

struct rg_redis_lookup;
/* (borrow) a literal; NULL: nothing found. */
typedef void (*rg_redis_lookup_fn)(void *arg, const char *address);
/* fn comes once, later. Returns (own) until then; NULL when it cannot be started. */
struct rg_redis_lookup *rg_redis_lookup_start(struct rg_loop *loop, const char *host,
                                              rg_redis_lookup_fn fn, void *arg);
void rg_redis_lookup_cancel(struct rg_redis_lookup *lookup); /* accepts NULL; no fn */

#endif

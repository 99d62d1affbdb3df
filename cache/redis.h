/* Redis over memory (ports/store.h): the memory store holds what this process works on; Redis
 * holds it for the next process and for other instances (DESIGN sections 4 and 5, README).
 * Thread: core. */
#ifndef CACHE_REDIS_H
#define CACHE_REDIS_H

#include "gateway/base/config.h"
#include "gateway/base/loop.h"
#include "gateway/base/mac.h"
#include "gateway/ports/store.h"

/* (borrow) config, loop; (take) mac, the keys of what is kept: NULL means out of memory. Redis
 * need not be there: it is connected to when the loop runs. Returns (own), NULL with err
 * filled.
 */
struct rg_store *rg_store_redis_create_take(const struct rg_config *config,
                                            struct rg_loop *loop, struct rg_mac *mac,
                                            struct rg_err *err);

#endif

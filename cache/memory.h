/* The embedded store: accounts in this process's memory, sign-outs also in a file if one is
 * configured (ports/store.h). Thread: core. */
#ifndef CACHE_MEMORY_H
#define CACHE_MEMORY_H

#include "gateway/base/config.h"
#include "gateway/base/loop.h"
#include "gateway/ports/store.h"

/* (borrow) config, loop. Reads session.state_file if set: a damaged line is reported and
 * skipped, an unreadable file is an error. Returns (own), NULL with err filled. */
struct rg_store *rg_store_memory_create(const struct rg_config *config, struct rg_loop *loop,
                                        struct rg_err *err);

#endif

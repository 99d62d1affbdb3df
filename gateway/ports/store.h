/* Where accounts live: their rosters, versions, journals and sign-outs. Implemented by cache/
 * (memory; redis over memory) and by a failing store in the unit tests; one contract suite runs
 * over all.
 *
 * Thread: core, for every call and callback. A store never makes a request fail: what it cannot
 * load is a fresh account, what it cannot keep is counted. Callbacks come exactly once, later,
 * never inside the call. */
#ifndef GATEWAY_PORTS_STORE_H
#define GATEWAY_PORTS_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/account.h"
#include "gateway/base/buf.h"
#include "gateway/base/err.h"

/* (ref to keep) account: always one, fresh if nothing was kept. NULL only when out of memory or
 * stopping. While the core holds a reference, loads of the same user give the same object. */
typedef void (*rg_store_load_fn)(void *arg, struct rg_account *account);
/* everywhere: the end is known on every instance (RG_OK), or only here for now (false). */
typedef void (*rg_store_end_fn)(void *arg, bool everywhere);
/* (borrow) account, held by the core: another instance ended some of its sign-ins. */
typedef void (*rg_store_news_fn)(void *arg, struct rg_account *account);

struct rg_store;
struct rg_store_ops {
    void (*load)(struct rg_store *store, const char *user, rg_store_load_fn fn, void *arg);
    /* The account changed: its last n_changes journal entries are new (n_changes SIZE_MAX: the
     * journal started anew), or only `ver`, presence or confirmation (0). Called after every
     * change, before anybody is told of it. */
    void (*commit)(struct rg_store *store, struct rg_account *account, size_t n_changes);
    /* Records that tokens are dead; the account's list already has it. */
    void (*end)(struct rg_store *store, struct rg_account *account, const struct rg_end *end,
                rg_store_end_fn fn, void *arg);
    /* A password's tag is good again. */
    void (*revive)(struct rg_store *store, struct rg_account *account);
    /* The core lets go of the account: it may leave memory from now on. (take) one reference.
     */
    void (*release_take)(struct rg_store *store, struct rg_account *account);
    /* Forgets everything about the user but its ends. */
    void (*erase)(struct rg_store *store, const char *user);
    /* Appends a JSON object for /readyz, such as {"store":"memory","degraded":false}. */
    void (*health)(struct rg_store *store, struct rg_buf *buf);
    /* Writes out what is pending, then fn(arg). */
    void (*stop)(struct rg_store *store, void (*fn)(void *arg), void *arg);
    void (*destroy)(struct rg_store *store); /* after stop */
    /* Who is to be told of ends that came from outside; once, before the loop runs. NULL: this
     * store has no outside. */
    void (*watch)(struct rg_store *store, rg_store_news_fn fn, void *arg);
};

/* First member of every implementation. */
struct rg_store {
    const struct rg_store_ops *ops;
};

#endif

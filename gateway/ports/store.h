/* Where accounts live: their rosters, versions, journals and sign-outs. Implemented by cache/
 * (memory; redis over memory) and by a failing store in the unit tests; one contract suite runs
 * over all.
 *
 * Thread: core, for every call and callback. A store never makes a request fail: what it cannot
 * load is a fresh account, what it cannot keep is counted. Callbacks come exactly once, later,
 * never inside the call.
 *
 * A store that several processes share says in account->role how this one stands to an account.
 * One of them, the owner, writes its history from its own XMPP session; the others follow that
 * history, whatever their sessions say, and one of them becomes owner when the owner gives the
 * account up, or is gone. Who cannot hear of the others is alone, under a MARK of its own. */
#ifndef GATEWAY_PORTS_STORE_H
#define GATEWAY_PORTS_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/account.h"
#include "gateway/base/buf.h"
#include "gateway/base/err.h"
#include "gateway/base/mac.h"

/* (ref to keep) account: always one, fresh if nothing was kept. NULL only when out of memory or
 * stopping. While the core holds a reference, loads of the same user give the same object. */
typedef void (*rg_store_load_fn)(void *arg, struct rg_account *account);
/* everywhere: the end is known on every instance (RG_OK), or only here for now (false). */
typedef void (*rg_store_end_fn)(void *arg, bool everywhere);
/* `commit` is over: what was committed is kept, or this process is alone, or it was overtaken
 * and the account is what the owner wrote. */
typedef void (*rg_store_kept_fn)(void *arg);
/* `sync` is over; account->role says what it led to. */
typedef void (*rg_store_sync_fn)(void *arg);

enum rg_sync {
    RG_SYNC_LOOK,  /* the account shows all that is kept at the time of the call, or later */
    RG_SYNC_CLAIM, /* and becomes this process's own if nobody alive owns it */
    RG_SYNC_TAKE   /* and the owner is asked to give it up; FOLLOWER: it did not within 10 s */
};

/* What comes from outside. Each is about an account that the core holds ((borrow)). */
struct rg_store_watcher {
    /* Another instance ended some of its sign-ins. */
    void (*ended)(void *arg, struct rg_account *account);
    /* Its content, or its role, is another one. */
    void (*moved)(void *arg, struct rg_account *account);
    /* Another instance asks for it: `disown` is to follow once nothing is under way. */
    void (*asked)(void *arg, struct rg_account *account);
    /* What this process owns, it owns until then (monotonic ms). */
    void (*leased)(void *arg, int64_t until_ms);
};

struct rg_store;
struct rg_store_ops {
    void (*load)(struct rg_store *store, const char *user, rg_store_load_fn fn, void *arg);
    /* The account changed, if only in `ver`, presence or confirmation. Called after every
     * change, before anybody is told of it. True: it may be told of at once, and fn does not
     * come. False: fn(arg) comes once all that was committed until then is kept; one fn for
     * several commits. */
    bool (*commit)(struct rg_store *store, struct rg_account *account, rg_store_kept_fn fn,
                   void *arg);
    /* Records that tokens are dead; the account's list already has it. */
    void (*end)(struct rg_store *store, struct rg_account *account, const struct rg_end *end,
                rg_store_end_fn fn, void *arg);
    /* A password's tag is good again. */
    void (*revive)(struct rg_store *store, struct rg_account *account, const uint8_t tag[16]);
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
    /* The keys under which it keeps anything outside the process are these from now on. (take)
     * mac. NULL: it keeps nothing there. */
    void (*rekey_take)(struct rg_store *store, struct rg_mac *mac);

    /* NULL, all three: this process is all there is, and every account's role is ALONE. */
    /* (borrow) watcher; once, before the loop runs. */
    void (*watch)(struct rg_store *store, const struct rg_store_watcher *watcher, void *arg);
    void (*sync)(struct rg_store *store, struct rg_account *account, enum rg_sync how,
                 rg_store_sync_fn fn, void *arg);
    /* This process has no live session for it any more, or was asked: what is committed is
     * written, then whoever wants may own it. */
    void (*disown)(struct rg_store *store, struct rg_account *account);
};

/* First member of every implementation. */
struct rg_store {
    const struct rg_store_ops *ops;
};

#endif

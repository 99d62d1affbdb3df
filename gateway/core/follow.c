#include <stdlib.h>
#include <string.h>

#include "gateway/core/internal.h"

/* DESIGN: accounts that several instances share (ports/store.h, DESIGN section 5)
 *
 * Each instance has an XMPP session of its own for a user, but one of them, the owner, turns
 * what its session says into versions; the others show what the owner has written. So all tell
 * the same versions in the same order.
 *
 *  - Nobody is told of a change before the store has it (`committing`): a version that a client
 *    holds is known everywhere, and a killed owner takes no told version with it. Reads wait
 *    meanwhile, as others may show it already.
 *  - A read at a follower looks into the store first; one at the owner need not, as long as its
 *    lease lasts (the door, core->lease_until_ms).
 *  - Who wants to write, or to read from the XMPP server, becomes owner first, and then reads
 * the roster: only so is everything there that happened while another session was listened to.
 * A proxy that keeps a user on one instance makes this rare.
 *  - The owner gives an account up when its session ends, or when it is asked and nothing is
 * under way. While it is asked it begins nothing new, so that two instances that both write
 * take turns.
 *
 * With a store of one process every account is ALONE and none of this happens. */

typedef void (*synced_fn)(struct rg_user *user);
struct sync {
    struct rg_user *user;
    synced_fn fn;
};

static void on_synced(void *arg)
{
    struct sync *sync = arg;
    struct rg_user *user = sync->user;
    synced_fn fn = sync->fn;
    free(sync);
    user->n_syncs--;
    fn(user);
    rg_user_release_idle(user);
}

/* False (out of memory): nothing follows. */
static bool start_sync(struct rg_user *user, enum rg_sync how, synced_fn fn)
{
    struct rg_store *store = user->core->store;
    struct sync *sync = malloc(sizeof(*sync));
    if (sync == NULL)
        return false;
    *sync = (struct sync){.user = user, .fn = fn};
    user->n_syncs++;
    store->ops->sync(store, user->account, how, on_synced, sync);
    return true;
}

/* ---- reading what others wrote */

static bool must_look(const struct rg_user *user)
{
    switch (user->account->role) {
    case RG_ROLE_ALONE:
        return false;
    case RG_ROLE_OWNER:
        return rg_loop_now_ms(user->core->loop) > user->core->lease_until_ms;
    case RG_ROLE_FOLLOWER:
        return true;
    }
    return true;
}

static void looked(struct rg_user *user)
{
    user->looks_done = user->looks_started;
    rg_op_list_run(&user->lookers);
}

bool rg_follow_is_current(const struct rg_op *op)
{
    return op->err.code == RG_OK || op->look != 0 || op->user->account == NULL ||
           !must_look(op->user);
}

bool rg_follow_wait(struct rg_op *op)
{
    struct rg_user *user = op->user;
    if (user->committing) {
        rg_op_list_in(&user->keepers, op);
        return true;
    }
    if (op->look == 0 && must_look(user))
        op->look = user->looks_started + 1; /* one that is under way may be too old */
    if (user->looks_done >= op->look)
        return false;
    if (user->looks_done == user->looks_started) {
        user->looks_started++;
        if (!start_sync(user, RG_SYNC_LOOK, looked)) {
            user->looks_done = user->looks_started;
            (void)rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
            rg_op_finish(op);
            return true;
        }
    }
    rg_op_list_in(&user->lookers, op);
    return true;
}

/* ---- becoming owner */

static void claimed(struct rg_user *user)
{
    struct rg_err err;
    if (user->link != RG_LINK_LOADING || user->getting)
        return; /* the session has ended meanwhile */
    if (user->account->role == RG_ROLE_FOLLOWER &&
        user->account->presence == RG_ROSTER_UNKNOWN) {
        /* Its owner has not written yet, or cannot be read: then this instance has to. */
        if (!user->took && start_sync(user, RG_SYNC_TAKE, claimed)) {
            user->took = true;
            return;
        }
        (void)rg_fail(&err, RG_E_TIMEOUT, "another instance holds this account");
        rg_pool_attempt_failed(user, &err);
        return;
    }
    rg_replica_get(user);
}

void rg_follow_bound(struct rg_user *user)
{
    user->took = false;
    if (user->core->store->ops->sync == NULL || !start_sync(user, RG_SYNC_CLAIM, claimed))
        rg_replica_get(user);
}

static bool may_lead(const struct rg_user *user)
{
    return user->link == RG_LINK_LIVE && !user->given_up;
}

/* Whoever has just become owner, or has nobody to follow any more, reads what its session
 * missed while it was not listened to. */
static void catch_up(struct rg_user *user)
{
    if (may_lead(user) && user->account->role != RG_ROLE_FOLLOWER && !user->account->trusted)
        rg_replica_barrier(user, NULL, false);
}

static void led(struct rg_user *user)
{
    user->leading = false;
    catch_up(user);
}

static void taken(struct rg_user *user)
{
    user->taking = false;
    if (user->account->role != RG_ROLE_FOLLOWER) {
        user->fresh = true;
        user->surely = true; /* just now, whatever the lease says */
        catch_up(user);
        rg_replica_go(user);
        rg_write_pump(user);
        user->surely = false;
        return;
    }
    struct rg_err err;
    (void)rg_fail(&err, RG_E_UNREACHABLE,
                  "the instance that holds this account does not answer");
    err.retry_after_s = 1;
    rg_replica_unanswered(user);
    rg_user_fail_waiting(user, &err);
}

static void take(struct rg_user *user)
{
    if (!user->taking)
        user->taking = start_sync(user, RG_SYNC_TAKE, taken);
}

bool rg_follow_may_ask(struct rg_user *user)
{
    if (user->account->role == RG_ROLE_FOLLOWER)
        take(user);
    else if (!user->asked || user->fresh)
        return true;
    return false; /* it goes on when it is ours, or given up */
}

/* An owner that was stopped for longer than its lease may have been overtaken, and what it
 * knows may be older than what others have been told: a condition is not judged by that. */
bool rg_follow_may_write(struct rg_user *user)
{
    if (!rg_follow_may_ask(user))
        return false;
    if (must_look(user) && !user->surely) {
        take(user);
        return false;
    }
    catch_up(user);
    return user->account->trusted;
}

/* ---- giving it up */

static void disown(struct rg_user *user)
{
    struct rg_store *store = user->core->store;
    user->asked = user->fresh = false;
    if (user->account->role != RG_ROLE_OWNER)
        return;
    store->ops->disown(store, user->account);
    rg_user_publish(user);
}

void rg_follow_lost(struct rg_user *user)
{
    disown(user);
}

void rg_follow_settle(struct rg_user *user)
{
    if (!user->asked || user->committing || user->getting || user->link == RG_LINK_LOADING ||
        !TAILQ_EMPTY(&user->in_flight) || (user->fresh && !TAILQ_EMPTY(&user->writes)))
        return;
    disown(user);
    if (!TAILQ_EMPTY(&user->writes))
        rg_write_pump(user);
    if (!TAILQ_EMPTY(&user->getters))
        rg_replica_go(user);
}

/* ---- what the store tells */

/* NULL: the core has let go of this very account. */
static struct rg_user *holder(struct rg_core *core, const struct rg_account *account)
{
    struct rg_user *user = rg_user_find(core, account->user);
    return user != NULL && user->account == account ? user : NULL;
}

static void ended(void *arg, struct rg_account *account)
{
    struct rg_user *user = holder(arg, account);
    if (user != NULL)
        rg_signins_ended_elsewhere(user);
}

static void moved(void *arg, struct rg_account *account)
{
    struct rg_core *core = arg;
    struct rg_user *user = holder(core, account);
    if (user == NULL) {
        core->store->ops->disown(core->store, account);
        return;
    }
    /* Redis was rolled back to when this process owned it: without a session it does not. */
    if (user->link != RG_LINK_LOADING && user->link != RG_LINK_LIVE)
        disown(user);
    if (!user->committing)
        rg_hub_tell(user);
    rg_user_publish(user);
    if (may_lead(user) && account->role == RG_ROLE_FOLLOWER && account->unled && !user->leading)
        user->leading = start_sync(user, RG_SYNC_CLAIM, led);
    catch_up(user);
}

static void asked(void *arg, struct rg_account *account)
{
    struct rg_core *core = arg;
    struct rg_user *user = holder(core, account);
    if (user == NULL) {
        core->store->ops->disown(core->store, account);
        return;
    }
    user->asked = true;
    rg_follow_settle(user);
}

static void leased(void *arg, int64_t until_ms)
{
    struct rg_core *core = arg;
    core->lease_until_ms = until_ms;
    rg_door_lease(core->door, until_ms);
}

void rg_follow_watch(struct rg_core *core)
{
    static const struct rg_store_watcher WATCHER = {
        .ended = ended, .moved = moved, .asked = asked, .leased = leased};
    if (core->store->ops->watch != NULL)
        core->store->ops->watch(core->store, &WATCHER, core);
}

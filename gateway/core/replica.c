#include <stdlib.h>
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/core/internal.h"

/* DESIGN: the copy of the server's roster
 *
 * Answers and pushes are applied in the order in which they come off the stream (R50). Whatever
 * changes goes the same way, once: account (version, journal) -> store -> door -> hub. A get
 * that serves as barrier is shared: an op that asks while one is on its way waits for the next,
 * as the one under way may have been answered already. */

enum { GET_RETRY_MS = 40 };

static void on_answer(void *arg, const struct rg_roster_answer *answer);
static void apply_early(struct rg_user *user);

static void start_get(struct rg_user *user)
{
    struct rg_upstream *up = user->core->upstream;
    const struct rg_account *account = user->account;
    const char *ver = NULL;
    size_t ver_len = 0;
    struct rg_err err;
    if (user->given_up)
        return; /* who waits is run again when it is closed */
    if (user->link == RG_LINK_LIVE && !account->trusted)
        rg_replica_drop_early(user); /* from before: the answer has them, and what followed */
    user->sent_ver = false;
    user->full = user->full || user->doubted;
    if (user->features.roster_versioning) {
        /* The `ver` of an empty roster is never sent: Prosody gives the same one to "never
         * written" and to the state after the first change (facts, libstrophe 5). */
        user->sent_ver = !user->full && account->ver.known && rg_user_has_roster(user) &&
                         account->roster->n > 0;
        ver = user->sent_ver ? account->ver.bytes : "";
        ver_len = user->sent_ver ? account->ver.len : 0;
    }
    user->getting = true;
    enum rg_code code =
        up->ops->roster_get(up, user->session, ver, ver_len, on_answer, user, &err);
    if (code == RG_OK) {
        user->full = false;
        user->doubt_asked = user->doubted;
        if (user->doubted)
            user->doubt_read_ms = rg_loop_now_ms(user->core->loop);
        return;
    }
    user->getting = false;
    if (code == RG_E_RATE) /* the server is busy, the session is well: it keeps its turn */
        rg_timer_start(&user->retry_timer, user->core->loop,
                       (int64_t)rg_random_spread(GET_RETRY_MS, 50));
    else
        rg_pool_abort(user);
}

void rg_replica_get(struct rg_user *user)
{
    if (!user->getting)
        start_get(user);
}

void rg_replica_barrier(struct rg_user *user, struct rg_op *op, bool full)
{
    user->full = user->full || full;
    if (op != NULL && op->timed)
        rg_timer_stop(&op->timer, user->core->loop); /* from now on the answer is waited for */
    if (op != NULL)
        rg_op_list_in(user->getting ? &user->next_getters : &user->getters, op);
    else if (user->getting)
        return; /* nobody waits: the one under way is as good */
    if (!user->getting && rg_follow_may_ask(user))
        start_get(user);
}

void rg_replica_go(struct rg_user *user)
{
    if (!TAILQ_EMPTY(&user->getters) && user->link == RG_LINK_LIVE && !user->getting &&
        rg_follow_may_ask(user))
        start_get(user);
}

static void answer_getters(struct rg_user *user, bool ok)
{
    struct rg_op_list now = TAILQ_HEAD_INITIALIZER(now);
    struct rg_op *op;
    TAILQ_CONCAT(&now, &user->getters, link);
    TAILQ_CONCAT(&user->getters, &user->next_getters, link);
    TAILQ_FOREACH(op, &user->getters, link)
    {
        op->list = &user->getters;
    }
    TAILQ_FOREACH(op, &now, link)
    {
        op->list = &now;
        op->flag = ok;
        op->timed_out = op->timed_out || !ok;
    }
    rg_replica_go(user);
    while ((op = TAILQ_FIRST(&now)) != NULL)
        rg_op_run(op);
}

void rg_replica_unanswered(struct rg_user *user)
{
    answer_getters(user, false);
}

void rg_replica_lost(struct rg_user *user)
{
    user->getting = false;
    user->full = false;
    user->doubted = user->doubt_asked =
        false; /* no `ver` is left: the next get is a full one */
    rg_op_list_run(&user->getters);
    rg_op_list_run(&user->next_getters);
}

/* ---- changes, wherever they come from */

static void log_failure(const struct rg_user *user, const char *event, const char *why)
{
    char name[RG_LOG_USER_SIZE];
    rg_log_user(name, user->name);
    rg_log(RG_LOG_WARN, "core", event, RG_STR("user", name), RG_STR("why", why));
}

/* What was committed is kept, here or, after an overtaking, by somebody else. */
static void kept(void *arg)
{
    struct rg_user *user = arg;
    user->committing = false;
    rg_hub_tell(user);
    rg_user_publish(user);
    if (user->link == RG_LINK_LOADING && user->answered)
        rg_pool_live(user);
    rg_op_list_run(&user->keepers);
    if (user->link == RG_LINK_LIVE && user->account->trusted)
        apply_early(user);
    rg_write_pump(user);
    rg_follow_settle(user);
    rg_user_release_idle(user);
}

/* The account has moved on: everybody hears of it, the store first. */
static void spread(struct rg_user *user)
{
    struct rg_store *store = user->core->store;
    user->committing =
        !store->ops->commit(store, user->account, kept, user) || user->committing;
    if (user->committing)
        rg_user_publish(user); /* from now on others may show it: reads wait */
    else
        rg_hub_tell(user);
}

void rg_replica_restamp(struct rg_user *user)
{
    rg_account_restamp(user->account);
    spread(user);
}

static void confirmed(struct rg_user *user)
{
    user->account->confirmed_s = rg_core_now_s(user->core);
    user->account->trusted = true;
}

/* The first answer with the pushes that came before it (R52). They go in at once: the answer
 * may already show what follows an early push (ejabberd pushes to sessions that never asked),
 * and nobody may see an item go back to what it was. Later pushes bring it forward again.
 * Returns (own), NULL when out of memory. */
static struct rg_roster *with_early(struct rg_user *user, struct rg_roster *answer)
{
    struct rg_roster *roster = rg_roster_ref(answer);
    struct rg_early_push *early;
    STAILQ_FOREACH(early, &user->early, link)
    {
        struct rg_roster *next = early->item != NULL ? rg_roster_with(roster, early->item)
                                                     : rg_roster_without(roster, early->jid);
        rg_roster_unref(roster);
        if (next == NULL)
            return NULL;
        roster = next;
        rg_presence_roster_moved(user, early->jid, early->item);
    }
    return roster;
}

static enum rg_code take_full(struct rg_user *user, const struct rg_roster_answer *answer,
                              struct rg_err *err)
{
    struct rg_account *account = user->account;
    size_t n_changes;
    bool reset;
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *roster = with_early(user, answer->roster);
    if (roster == NULL || rg_account_replace(account, roster, rg_core_now_s(user->core),
                                             &n_changes, &reset) != RG_OK)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    /* A `ver` that came with no item may be the client's own echo (R14); with early pushes put
     * in, no `ver` names what is here. */
    user->doubted = user->doubted && !user->doubt_asked;
    user->doubt_asked = false;
    bool keep = user->features.roster_versioning && answer->roster->n > 0 &&
                user->n_early == 0 && !user->doubted;
    rg_replica_drop_early(user);
    rg_account_set_ver(account, keep ? answer->ver : NULL, answer->ver_len);
    user->full_read_s = rg_core_now_s(user->core);
    confirmed(user);
    rg_metric_add(user->core->metrics.fetch_full, 1);
    spread(user);
    return RG_OK;
}

/* No roster is not an empty roster (API section 2). */
static void take_not_found(struct rg_user *user)
{
    enum rg_roster_presence before = user->account->presence;
    user->not_found_asked_ms = rg_loop_now_ms(user->core->loop);
    user->doubted = user->doubt_asked = false; /* nothing is here that could lack something */
    rg_account_set_not_found(user->account);
    confirmed(user);
    spread(user);
    if (before == RG_ROSTER_NOT_FOUND)
        return;
    rg_user_publish(user);
    if (user->link == RG_LINK_LIVE)
        rg_hub_state(user, "roster-not-found");
    rg_hub_wake_polls(user); /* what they wait for will never come */
}

/* Another instance wrote what is here, and its session may have been ahead of this one: pushes
 * from before the answer may say what has been told already. The answer is newer than either;
 * should it lack what they brought all the same, the roster is read once more. False: out of
 * memory. */
static bool drop_outdated(struct rg_user *user, struct rg_roster *answer)
{
    struct rg_early_push *early;
    bool lacks = false;
    if (user->n_early == 0 || user->account->mark != 0 || !rg_user_has_roster(user))
        return true; /* all that was told came before the first of them */
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *last = with_early(user, answer);
    if (last == NULL)
        return false;
    STAILQ_FOREACH(early, &user->early, link)
    {
        const struct rg_item *pushed = rg_roster_find(last, early->jid);
        const struct rg_item *answered = rg_roster_find(answer, early->jid);
        lacks = lacks || (pushed == NULL) != (answered == NULL) ||
                (pushed != NULL && !rg_item_equal(pushed, answered));
    }
    rg_replica_drop_early(user);
    if (lacks) {
        user->doubted = true;
        user->doubt_asked = false;
    }
    return true;
}

static enum rg_code take_answer(struct rg_user *user, const struct rg_roster_answer *answer,
                                struct rg_err *err)
{
    if (user->account->role == RG_ROLE_FOLLOWER) {
        /* Its owner has been told as well. This get was sent so that pushes come (RFC
         * 6121 2.2).
         */
        rg_replica_drop_early(user);
        return RG_OK;
    }
    if (answer->err.code == RG_E_XMPP && answer->err.xmpp.condition == RG_XMPP_ITEM_NOT_FOUND) {
        take_not_found(user);
        return RG_OK;
    }
    if (answer->err.code != RG_OK) {
        rg_metric_add(user->core->metrics.fetch_error, 1);
        *err = answer->err;
        return err->code;
    }
    if (answer->unchanged && !user->sent_ver)
        return rg_fail(err, RG_E_UNREACHABLE,
                       "the XMPP server called a roster unchanged that it was never told of");
    if (!drop_outdated(user, answer->unchanged ? user->account->roster : answer->roster))
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    if (!answer->unchanged)
        return take_full(user, answer, err);
    rg_metric_add(user->core->metrics.fetch_unchanged, 1);
    confirmed(user);
    spread(user);
    return RG_OK;
}

/* ---- pushes */

/* False: the push was not applied and the session is to end. */
static bool within_limit(struct rg_user *user, const char *jid, const struct rg_item *item)
{
    const struct rg_roster *roster = user->account->roster;
    size_t limit = (size_t)user->core->config->limits.items;
    if (item == NULL || roster == NULL || roster->n < limit ||
        rg_roster_find(roster, jid) != NULL)
        return true;
    log_failure(user, "roster-too-large", "a push goes beyond limits.items");
    return false;
}

static void apply_push(struct rg_user *user, const char *jid, struct rg_item *item,
                       const char *ver, size_t ver_len)
{
    struct rg_account *account = user->account;
    bool changed = false;
    if (!within_limit(user, jid, item) ||
        rg_account_push_take(account, item != NULL ? rg_item_ref(item) : NULL, jid,
                             rg_core_now_s(user->core), &changed) != RG_OK) {
        rg_pool_abort(user); /* reading anew repairs it */
        return;
    }
    /* Without a `ver`, or with an empty one, what is stored names another state (R48, R49). */
    bool keep = user->features.roster_versioning && ver_len > 0 && !user->doubted;
    rg_account_set_ver(account, keep ? ver : NULL, ver_len);
    confirmed(user);
    rg_presence_roster_moved(user, jid, item);
    spread(user);
    rg_write_saw_push(user, jid, item);
}

static void keep_early(struct rg_user *user, const struct rg_upstream_push *push)
{
    size_t len = strlen(push->jid);
    struct rg_early_push *early = NULL;
    if (user->n_early < RG_EARLY_PUSHES_MAX)
        early = calloc(1, sizeof(*early) + len + 1);
    if (early != NULL && push->ver != NULL) {
        early->ver = malloc(push->ver_len + 1);
        if (early->ver == NULL) {
            free(early);
            early = NULL;
        } else {
            memcpy(early->ver, push->ver, push->ver_len);
            early->ver[push->ver_len] = '\0';
            early->ver_len = push->ver_len;
        }
    }
    if (early == NULL) {
        rg_pool_abort(user);
        return;
    }
    memcpy(early->jid, push->jid, len);
    early->item = push->item != NULL ? rg_item_ref(push->item) : NULL;
    STAILQ_INSERT_TAIL(&user->early, early, link);
    user->n_early++;
}

static void early_free(struct rg_early_push *early)
{
    rg_item_unref(early->item);
    free(early->ver);
    free(early);
}

static void apply_early(struct rg_user *user)
{
    struct rg_early_push *early;
    while ((early = STAILQ_FIRST(&user->early)) != NULL) {
        STAILQ_REMOVE_HEAD(&user->early, link);
        user->n_early--;
        apply_push(user, early->jid, early->item, early->ver, early->ver_len);
        early_free(early);
    }
}

void rg_replica_drop_early(struct rg_user *user)
{
    struct rg_early_push *early;
    while ((early = STAILQ_FIRST(&user->early)) != NULL) {
        STAILQ_REMOVE_HEAD(&user->early, link);
        early_free(early);
    }
    user->n_early = 0;
}

void rg_replica_push(struct rg_user *user, const struct rg_upstream_push *push)
{
    /* After a push that could not be applied, a later one must not bring a newer `ver`: the
     * server would call the roster unchanged, and the lost change would stay lost. */
    if (user->given_up)
        return;
    if (user->account->role == RG_ROLE_FOLLOWER && user->link == RG_LINK_LIVE) {
        rg_presence_roster_moved(user, push->jid, push->item);
        return; /* the owner gets it as well, and writes it */
    }
    if (push->item == NULL && strchr(push->jid, '/') != NULL) {
        /* ejabberd 23.01 says result and pushes the removal of an item under a full JID, and
         * keeps it, with the `ver` it had. Only the whole roster tells. */
        user->doubt_read_ms = 0;
        rg_replica_doubt(user);
        return;
    }
    if (user->link == RG_LINK_OPENING || user->link == RG_LINK_LOADING ||
        !user->account->trusted || user->committing)
        keep_early(user, push); /* after the first result (R52), or one change after another */
    else
        apply_push(user, push->jid, push->item, push->ver, push->ver_len);
}

/* ---- doubt */

void rg_replica_settle_doubt(struct rg_user *user)
{
    struct rg_loop *loop = user->core->loop;
    if (!user->doubted || user->getting || user->given_up || user->link != RG_LINK_LIVE)
        return; /* asked again when the get under way is answered, or the session is live */
    int64_t now_ms = rg_loop_now_ms(loop);
    int64_t due_ms = user->doubt_read_ms + RG_DOUBT_EVERY_MS;
    if (user->doubt_read_ms != 0 && due_ms > now_ms)
        rg_timer_start(&user->reread_timer, loop, due_ms - now_ms);
    else
        rg_replica_barrier(user, NULL, true);
}

void rg_replica_doubt(struct rg_user *user)
{
    if (user->given_up || user->account == NULL || user->account->role == RG_ROLE_FOLLOWER)
        return;
    user->doubted = true;
    user->doubt_asked = false; /* a get under way may have been answered before the push */
    if (user->account->ver.known) {
        rg_account_set_ver(user->account, NULL, 0);
        spread(user);
    }
    rg_replica_settle_doubt(user);
}

/* ---- answers */

/* The first answer of a session. */
static void on_first_answer(struct rg_user *user, enum rg_code code, struct rg_err *err)
{
    if (code != RG_OK) {
        if (code == RG_E_UNCERTAIN) /* a read: nothing is uncertain but the server */
            (void)rg_fail(err, RG_E_TIMEOUT, "the XMPP server did not send the roster");
        rg_pool_attempt_failed(user, err);
        return;
    }
    apply_early(user);
    user->answered = true;
    if (!user->committing) /* else once it is kept */
        rg_pool_live(user);
}

static void on_answer(void *arg, const struct rg_roster_answer *answer)
{
    struct rg_user *user = arg;
    struct rg_err err = RG_ERR_INIT;
    user->getting = false;
    if (user->given_up || (user->link != RG_LINK_LOADING && user->link != RG_LINK_LIVE))
        return; /* closing: what waits is run again when it is closed */
    if (user->link == RG_LINK_LIVE && user->account->role == RG_ROLE_FOLLOWER) {
        rg_replica_go(user); /* overtaken meanwhile: whoever waits has to become owner again */
        rg_write_pump(user);
        return;
    }
    if (user->link == RG_LINK_LOADING && user->account->role == RG_ROLE_FOLLOWER &&
        user->account->presence == RG_ROSTER_UNKNOWN) {
        rg_follow_bound(user); /* overtaken by somebody who has not written yet */
        return;
    }
    if (user->link == RG_LINK_LIVE && user->account->trusted)
        apply_early(user); /* they came before the answer */
    enum rg_code code = take_answer(user, answer, &err);
    if (code != RG_OK)
        log_failure(user, "roster-get-failed", err.text);
    if (user->link == RG_LINK_LOADING) {
        on_first_answer(user, code, &err);
        return;
    }
    if (code != RG_OK && (code != RG_E_XMPP || !user->account->trusted)) {
        rg_pool_abort(user); /* no answer, or nonsense: the stream is not to be trusted */
        return;
    }
    if (!user->committing)
        apply_early(user);
    answer_getters(user, code == RG_OK);
    rg_replica_settle_doubt(user);
    rg_write_pump(user);
    rg_follow_settle(user);
}

#include <stdlib.h>
#include <string.h>

#include "gateway/core/internal.h"

/* DESIGN: writes (DESIGN section 5)
 *
 *   NEW -> QUEUED -> SENT ---- result, push seen (in either order) -----------------> done
 *                      |                                                     ^
 *                      +-- result --> GRACE -- push ------------------------>|
 *                                       |                                    |
 *                                       +-- 100 ms --> BARRIER -- answer ----+
 *
 * Done is what is kept: until the store has the change, KEPT waits for it (follow.c).
 *
 * A result alone proves nothing (R32): the answer is given when the change is visible in what
 * this process serves. Writes of one account keep their order; a second one to the same JID
 * waits for the first, so conditions are judged one after another.
 *
 * op->flag: SENT and GRACE: the push was seen; BARRIER: the get was answered. */

enum stage { NEW, QUEUED, SENT, GRACE, BARRIER, KEPT };
enum { AWAY_RETRY_S = 1 };

/* ---- ends */

static void finish(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_core *core = op->core;
    bool sent = op->stage >= SENT;
    rg_op_finish(op);
    if (sent)
        rg_core_write_ended(core);
    rg_write_pump(user);
    rg_follow_settle(user);
}

static void tell_when_to_retry(struct rg_op *op)
{
    if (op->err.code == RG_E_UNREACHABLE && op->err.retry_after_s == 0)
        op->err.retry_after_s = AWAY_RETRY_S;
}

static void finish_as(struct rg_op *op, enum rg_code code, const char *text)
{
    (void)rg_fail(&op->err, code, "%s", text);
    tell_when_to_retry(op);
    finish(op);
}

static struct rg_item *current_item(const struct rg_op *op)
{
    const struct rg_user *user = op->user;
    return rg_user_has_roster(user) ? rg_roster_find(user->account->roster, op->in.jid) : NULL;
}

static bool shows_it(const struct rg_op *op, const struct rg_item *item)
{
    if (op->kind == RG_OP_REMOVE)
        return item == NULL;
    return item != NULL &&
           rg_item_has(item, op->in.name, (const char *const *)op->in.groups, op->in.n_groups);
}

/* Servers may rewrite what they store (R34): what a set can change (RFC 6121 2.1.2) and now
 * differs from before is an answer, too. */
static bool stored_otherwise(const struct rg_op *op, const struct rg_item *item)
{
    return op->kind != RG_OP_REMOVE && item != NULL &&
           (op->before == NULL ||
            !rg_item_has(item, op->before->name, op->before->groups, op->before->n_groups));
}

/* The item and the version that shows it. */
static void note_item(struct rg_op *op, struct rg_item *item)
{
    const struct rg_account *account = op->user->account;
    rg_item_unref(op->out.item);
    op->out.item = item != NULL && op->kind != RG_OP_REMOVE ? rg_item_ref(item) : NULL;
    op->version[0] = '\0';
    if (rg_user_has_roster(op->user))
        (void)rg_account_version(account, op->version);
}

/* What the answer rests on has not been told yet: it waits for that. */
static void wait_until_kept(struct rg_op *op)
{
    rg_op_unlist(op);
    if (op->timed)
        rg_timer_stop(&op->timer, op->core->loop); /* the grace is over */
    op->core->n_writes += op->stage < SENT;
    op->stage = KEPT;
    rg_op_list_in(&op->user->keepers, op);
}

static void complete(struct rg_op *op)
{
    struct rg_item *item = current_item(op);
    if (op->stage == BARRIER && !shows_it(op, item) && !stored_otherwise(op, item)) {
        rg_metric_add(op->core->metrics.not_applied, 1);
        finish_as(op, RG_E_NOT_APPLIED,
                  "the XMPP server confirmed the change, but its roster does not show it");
        return;
    }
    /* What stands; but if another client has undone it, what stood when its push came. */
    if ((item != NULL) == (op->kind != RG_OP_REMOVE))
        note_item(op, item);
    op->out.created = op->before == NULL;
    if (op->user->committing)
        wait_until_kept(op);
    else
        finish(op);
}

/* What was committed is over. If the version that was to be told is not among what is kept,
 * then this instance was overtaken before, and only the new owner's version tells. */
static void kept(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_item *item = current_item(op);
    struct rg_version version;
    size_t index;
    if (op->err.code != RG_OK || op->version[0] == '\0' || !rg_user_has_roster(user) ||
        (rg_version_parse(&version, op->version, strlen(op->version)) &&
         rg_account_since(user->account, &version, &index))) {
        finish(op);
        return;
    }
    if (shows_it(op, item)) {
        note_item(op, item);
        finish(op);
        return;
    }
    op->version[0] = '\0';
    op->stage = GRACE; /* reads again, if it can */
    rg_op_run(op);
}

/* ---- judging and sending */

/* Does the item's ETag name this version? */
static bool is_of(const struct rg_account *account, const struct rg_item *item,
                  const struct rg_version *version)
{
    return account->epoch == version->epoch && rg_stamp_equal(item->changed, version->at);
}

static bool unchanged_since(const struct rg_account *account, const struct rg_item *item,
                            const struct rg_version *since)
{
    size_t index;
    return is_of(account, item, since) ||
           (rg_account_since(account, since, &index) && item->changed.seq <= since->at.seq);
}

static bool condition_holds(const struct rg_op *op, const struct rg_item *item)
{
    const struct rg_condition_in *condition = &op->in.condition;
    if (condition->if_none_match_any && item != NULL)
        return false;
    for (size_t i = 0; i < condition->n_none && item != NULL; i++)
        if (is_of(op->user->account, item, &condition->versions[condition->n_match + i]))
            return false;
    if (!condition->if_match)
        return true;
    if (item == NULL)
        return false;
    if (condition->if_match_any)
        return true;
    for (size_t i = 0; i < condition->n_match; i++)
        if (unchanged_since(op->user->account, item, &condition->versions[i]))
            return true;
    return false;
}

static char **copy_groups(const struct rg_item *item)
{
    char **groups = calloc(item->n_groups + 1, sizeof(char *));
    for (size_t i = 0; groups != NULL && i < item->n_groups; i++) {
        groups[i] = strdup(item->groups[i]);
        if (groups[i] != NULL)
            continue;
        while (i-- > 0)
            free(groups[i]);
        free(groups);
        return NULL;
    }
    return groups;
}

/* A set carries the whole item: what the patch does not name is sent again (R28). */
static bool merge_patch(struct rg_op *op, const struct rg_item *item)
{
    if (!op->in.name_set && item->name != NULL) {
        op->in.name = strdup(item->name);
        if (op->in.name == NULL)
            return false;
    }
    if (!op->in.groups_set) {
        op->in.groups = copy_groups(item);
        if (op->in.groups == NULL)
            return false;
        op->in.n_groups = item->n_groups;
    }
    return true;
}

static size_t creations(const struct rg_op_list *list, const struct rg_roster *roster)
{
    size_t n = 0;
    const struct rg_op *op;
    TAILQ_FOREACH(op, list, link)
    {
        if (op->kind == RG_OP_PUT && op->stage >= SENT && op->before == NULL &&
            (roster == NULL || rg_roster_find(roster, op->in.jid) == NULL))
            n++;
    }
    return n;
}

/* Is there no place for one more item, counting those on their way? A server would take it, and
 * a roster beyond the limit is not read any more: the account would be lost here. */
static bool roster_is_full(const struct rg_user *user)
{
    const struct rg_roster *roster = rg_user_has_roster(user) ? user->account->roster : NULL;
    size_t n = roster != NULL ? roster->n : 0;
    n += creations(&user->in_flight, roster) + creations(&user->getters, roster) +
         creations(&user->next_getters, roster);
    return n >= (size_t)user->core->config->limits.items;
}

static enum rg_code refuse_growth(struct rg_op *op)
{
    (void)rg_fail(&op->err, RG_E_XMPP, "the roster has as many items as limits.items allows");
    op->err.xmpp = (struct rg_xmpp_error){.condition = RG_XMPP_POLICY_VIOLATION,
                                          .type = RG_XMPP_TYPE_CANCEL};
    return RG_E_XMPP;
}

/* What can be said before anything is sent; RG_OK: send it. */
static enum rg_code judge(struct rg_op *op, struct rg_item *item)
{
    if (!condition_holds(op, item))
        return rg_fail(&op->err, RG_E_VERSION_MISMATCH,
                       item == NULL ? "the item is not there"
                                    : "the item is there or has changed since");
    if (item == NULL && op->kind != RG_OP_PUT)
        return rg_fail(&op->err, RG_E_ITEM_NOT_FOUND, "%.200s is not in the roster",
                       op->in.jid);
    if (op->kind == RG_OP_PATCH && !merge_patch(op, item))
        return rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
    if (item == NULL && roster_is_full(op->user))
        return refuse_growth(op);
    return RG_OK;
}

static void on_result(void *arg, const struct rg_err *err)
{
    struct rg_op *op = arg;
    struct rg_user *user = op->user;
    user->n_in_flight--;
    if (err->code == RG_OK && op->flag) {
        complete(op);
    } else if (err->code == RG_OK) {
        op->stage = GRACE;
        (void)rg_op_time(op, RG_PUSH_GRACE_MS);
    } else if (err->code == RG_E_XMPP) {
        /* The server does not have what is cached here: read it again. */
        if (err->xmpp.condition == RG_XMPP_ITEM_NOT_FOUND && user->link == RG_LINK_LIVE)
            rg_replica_barrier(user, NULL, true);
        op->err = *err;
        finish(op);
    } else if (err->code == RG_E_UNCERTAIN) {
        rg_metric_add(op->core->metrics.uncertain, 1);
        rg_pool_abort(user); /* read again over a new stream; what is queued waits for it */
        op->err = *err;
        finish(op);
    } else {
        if (err->code == RG_E_UNREACHABLE)
            rg_pool_abort(user); /* nothing more is sent to it while it goes down */
        op->err = *err;
        tell_when_to_retry(op);
        finish(op);
    }
}

static enum rg_code send_iq(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_upstream *up = op->core->upstream;
    if (op->kind == RG_OP_REMOVE)
        return up->ops->item_remove(up, user->session, op->in.jid, on_result, op, &op->err);
    return up->ops->item_set(up, user->session, op->in.jid, op->in.name,
                             (const char *const *)op->in.groups, op->in.n_groups, on_result, op,
                             &op->err);
}

static void start(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_item *item = current_item(op);
    op->before = item != NULL ? rg_item_ref(item) : NULL;
    op->flag = false;
    if (judge(op, item) != RG_OK || send_iq(op) != RG_OK) {
        tell_when_to_retry(op);
        if (op->user->committing)
            wait_until_kept(op);
        else
            rg_op_finish(op); /* the pump goes on by itself */
        return;
    }
    op->stage = SENT;
    rg_op_list_in(&user->in_flight, op);
    user->n_in_flight++;
    op->core->n_writes++;
}

static bool list_has_jid(const struct rg_op_list *list, const char *jid)
{
    const struct rg_op *op;
    TAILQ_FOREACH(op, list, link)
    {
        if (op->stage >= SENT && op->in.jid != NULL && strcmp(op->in.jid, jid) == 0)
            return true;
    }
    return false;
}

void rg_write_pump(struct rg_user *user)
{
    struct rg_op *op;
    while (user->link == RG_LINK_LIVE && !user->given_up && user->n_in_flight < RG_IQ_WINDOW &&
           (op = TAILQ_FIRST(&user->writes)) != NULL && rg_follow_may_write(user)) {
        if (list_has_jid(&user->in_flight, op->in.jid) ||
            list_has_jid(&user->getters, op->in.jid) ||
            list_has_jid(&user->next_getters, op->in.jid))
            return;
        rg_op_unlist(op);
        start(op);
    }
    user->fresh = user->fresh && !TAILQ_EMPTY(&user->writes) && TAILQ_EMPTY(&user->in_flight);
}

void rg_write_saw_push(struct rg_user *user, const char *jid, const struct rg_item *item)
{
    struct rg_op *op;
    struct rg_op *next;
    for (op = TAILQ_FIRST(&user->in_flight); op != NULL; op = next) {
        next = TAILQ_NEXT(op, link);
        if (strcmp(op->in.jid, jid) != 0 || !shows_it(op, item))
            continue;
        op->flag = true;
        note_item(op, current_item(op));
        if (op->stage == GRACE)
            complete(op);
        return; /* one write per JID is in flight */
    }
}

/* ---- running */

static enum rg_code accept_new(struct rg_op *op)
{
    struct rg_user *user = op->user;
    int64_t rate = op->core->config->limits.writes_user;
    bool own = strcmp(op->in.jid, user->name) == 0;
    /* ejabberd lets one's own JID into the roster: then it may be deleted. */
    bool there = rg_user_has_roster(user) && rg_roster_find(user->account->roster, op->in.jid);
    if (own && !(op->kind == RG_OP_REMOVE && there))
        return rg_fail(&op->err, RG_E_SELF_CONTACT, "your own JID cannot be a contact");
    if (!rg_bucket_take(&user->write_bucket, rate, rg_loop_now_ms(op->core->loop))) {
        (void)rg_fail(&op->err, RG_E_RATE, "more than %lld writes a second", (long long)rate);
        op->err.retry_after_s = 1;
        return RG_E_RATE;
    }
    return RG_OK;
}

static void queue(struct rg_op *op)
{
    struct rg_user *user = op->user;
    rg_pool_want(user);
    switch (user->link) {
    case RG_LINK_LIVE:
        rg_op_list_in(&user->writes, op);
        rg_write_pump(user);
        return;
    case RG_LINK_OPENING:
    case RG_LINK_LOADING:
    case RG_LINK_CLOSING:
        rg_user_wait(user, op, -1);
        return;
    case RG_LINK_WAITING:
    case RG_LINK_DOWN:
        finish_as(op, RG_E_UNREACHABLE, "the XMPP server is away; nothing was sent");
        return;
    }
}

void rg_write_run(struct rg_op *op)
{
    struct rg_user *user = op->user;
    switch ((enum stage)op->stage) {
    case NEW:
        if (accept_new(op) != RG_OK) {
            rg_op_finish(op);
            return;
        }
        op->stage = QUEUED;
        queue(op);
        return;
    case QUEUED:
        queue(op);
        return;
    case SENT:
        abort(); /* only its result moves it */
    case GRACE:
        if (user->link != RG_LINK_LIVE)
            break;
        op->stage = BARRIER;
        op->flag = false;
        op->timed_out = false;
        rg_replica_barrier(user, op, false);
        return;
    case BARRIER:
        if (!op->flag)
            break;
        complete(op);
        return;
    case KEPT:
        kept(op);
        return;
    }
    rg_metric_add(op->core->metrics.uncertain, 1);
    finish_as(op, RG_E_UNCERTAIN, "the session ended before the change could be seen");
}

#include <stdlib.h>
#include <string.h>

#include "gateway/core/internal.h"

/* Reads: the roster when the door cannot tell, changes, one item, and the start of a stream.
 * All of them want a live session and make do with the cached roster, honestly marked, while
 * the XMPP server is away (API sections 2 and 6).
 *
 * op->flag: a barrier get was answered for this op. op->stage 1 (CHANGES): parked for news. */

enum { STAGE_PARKED = 1, NOT_FOUND_ASK_MS = 1000, AWAY_RETRY_S = 1 };

static bool away(const struct rg_user *user)
{
    return user->link != RG_LINK_LIVE;
}

static void serve_roster(struct rg_op *op)
{
    struct rg_user *user = op->user;
    if (user->snapshot == NULL) {
        (void)rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
    } else {
        op->out.view = (struct rg_view){.snapshot = rg_snapshot_ref(user->snapshot),
                                        .hit = !op->flag,
                                        .stale = op->out.stale,
                                        .age_s = op->out.age_s};
    }
    rg_op_finish(op);
}

/* API section 3: which presence actions make sense in the item's state (RFC 6121 appendix A).
 */
static unsigned allowed_actions(const struct rg_user *user, const struct rg_item *item)
{
    bool to = item->subscription == RG_SUB_TO || item->subscription == RG_SUB_BOTH;
    bool from = item->subscription == RG_SUB_FROM || item->subscription == RG_SUB_BOTH;
    unsigned actions = 0;
    if (!to)
        actions |= item->ask ? RG_ACTION_CANCEL : RG_ACTION_REQUEST;
    else
        actions |= RG_ACTION_UNSUBSCRIBE;
    if (from)
        actions |= RG_ACTION_REVOKE;
    else if (rg_presence_asked(user, item->jid))
        actions |= RG_ACTION_APPROVE | RG_ACTION_DENY;
    else if (user->features.pre_approval && !item->approved)
        actions |= RG_ACTION_PREAPPROVE;
    if (!to || !from)
        actions |= RG_ACTION_BEFRIEND;
    return actions;
}

static void serve_item(struct rg_op *op)
{
    struct rg_item *item = rg_roster_find(op->user->account->roster, op->in.jid);
    if (item == NULL) {
        (void)rg_fail(&op->err, RG_E_ITEM_NOT_FOUND, "%.200s is not in the roster", op->in.jid);
    } else {
        op->out.item = rg_item_ref(item);
        op->out.allowed = allowed_actions(op->user, item);
    }
    rg_op_finish(op);
}

static void answer_changes(struct rg_op *op, size_t from)
{
    const struct rg_account *account = op->user->account;
    size_t n = account->journal_n - from;
    op->out.more = n > op->in.limit;
    n = op->out.more ? op->in.limit : n;
    op->out.changes = n == 0 ? NULL : calloc(n, sizeof(struct rg_change *));
    if (n != 0 && op->out.changes == NULL) {
        (void)rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
        rg_op_finish(op);
        return;
    }
    for (size_t i = 0; i < n; i++)
        op->out.changes[i] = rg_change_ref(rg_account_change(account, from + i));
    op->out.n_changes = n;
    if (op->out.more)
        rg_version_format(op->version, account->epoch, op->out.changes[n - 1]->at);
    rg_op_finish(op);
}

static void serve_changes(struct rg_op *op)
{
    struct rg_user *user = op->user;
    size_t from = 0;
    if (!op->in.since_known || !rg_account_since(user->account, &op->in.since, &from)) {
        (void)rg_fail(&op->err, RG_E_VERSION_EXPIRED,
                      "the changes since this version are not known");
        rg_op_finish(op);
        return;
    }
    bool news = from < user->account->journal_n;
    bool over = op->stage == STAGE_PARKED ? op->timed_out : op->in.wait_ms == 0;
    if (news || over || user->core->draining) {
        answer_changes(op, from);
        return;
    }
    if (op->stage != STAGE_PARKED) {
        op->stage = STAGE_PARKED;
        op->timed_out = false;
        if (!rg_op_time(op, op->in.wait_ms))
            return;
    }
    rg_op_list_in(&user->parked, op);
}

static void serve(struct rg_op *op)
{
    const struct rg_user *user = op->user;
    op->out.stale = away(user);
    if (op->out.stale)
        op->out.age_s = rg_core_now_s(op->core) - user->account->confirmed_s;
    if (op->kind == RG_OP_ROSTER)
        serve_roster(op);
    else if (op->kind == RG_OP_CHANGES)
        serve_changes(op);
    else if (op->kind == RG_OP_ITEM)
        serve_item(op);
    else
        rg_hub_attach(op);
}

/* The server said that there is no roster: asked anew, at most once a second (API section 2). A
 * stream opens all the same and waits for the first push. */
static void serve_not_found(struct rg_op *op)
{
    struct rg_user *user = op->user;
    int64_t now_ms = rg_loop_now_ms(op->core->loop);
    if (op->kind == RG_OP_STREAM) {
        rg_hub_attach(op);
        return;
    }
    if (!op->flag && !op->timed_out && !away(user) &&
        now_ms - user->not_found_asked_ms >= NOT_FOUND_ASK_MS) {
        user->not_found_asked_ms = now_ms;
        rg_replica_barrier(user, op, true);
        return;
    }
    (void)rg_fail(&op->err, RG_E_ROSTER_NOT_FOUND,
                  "the XMPP server has no roster for this account");
    rg_op_finish(op);
}

/* Nothing live to read from. True: the op waits, or was answered. */
static bool wait_for_session(struct rg_op *op)
{
    struct rg_user *user = op->user;
    bool cached = user->account->presence != RG_ROSTER_UNKNOWN; /* that there is none, too */
    rg_pool_want(user);
    switch (user->link) {
    case RG_LINK_OPENING:
    case RG_LINK_LOADING:
    case RG_LINK_CLOSING:
        if (cached && op->timed_out)
            return false;
        rg_user_wait(user, op, cached ? RG_STALE_AFTER_MS : -1);
        return true;
    case RG_LINK_WAITING:
    case RG_LINK_DOWN:
    case RG_LINK_LIVE:
        break;
    }
    if (cached)
        return false;
    (void)rg_fail(&op->err, RG_E_UNREACHABLE,
                  "the XMPP server is away and nothing is cached yet");
    op->err.retry_after_s = AWAY_RETRY_S;
    rg_op_finish(op);
    return true;
}

/* Does the client hold a later version of the very writer whose roster is here? Then Redis was
 * set back, or this instance is cut off from it. */
static bool is_ahead(const struct rg_op *op)
{
    const struct rg_account *account = op->user->account;
    const struct rg_stream_options *options;
    if (op->kind != RG_OP_STREAM || account->mark != 0 || !rg_user_has_roster(op->user))
        return false;
    options = &op->in.stream->options;
    return options->known && options->from.epoch == account->epoch &&
           options->from.at.mark == account->head.mark &&
           options->from.at.seq > account->head.seq;
}

/* Versions of one writer never go back in a stream: what is here is told under one of this
 * instance's own. True: the op waits, or was answered. */
static bool wait_for_own_version(struct rg_op *op)
{
    struct rg_user *user = op->user;
    if (user->account->role != RG_ROLE_FOLLOWER) {
        rg_replica_restamp(user);
        return rg_follow_wait(op);
    }
    if (!away(user) && !op->flag && !op->timed_out) {
        rg_replica_barrier(user, op, false); /* becomes owner */
        return true;
    }
    (void)rg_fail(&op->err, RG_E_UNREACHABLE,
                  "the XMPP server is away, and what is cached is older than your version");
    op->err.retry_after_s = AWAY_RETRY_S;
    rg_op_finish(op);
    return true;
}

void rg_read_run(struct rg_op *op)
{
    struct rg_user *user = op->user;
    bool parked = op->stage == STAGE_PARKED;
    if (!parked && away(user) && wait_for_session(op))
        return;
    if (away(user))
        rg_pool_want(user);
    if (op->in.refresh && !op->flag && !op->timed_out && !away(user)) {
        rg_replica_barrier(user, op, true);
        return;
    }
    if (rg_follow_wait(op) || (is_ahead(op) && wait_for_own_version(op)))
        return;
    if (user->account->presence == RG_ROSTER_NOT_FOUND)
        serve_not_found(op);
    else
        serve(op);
}

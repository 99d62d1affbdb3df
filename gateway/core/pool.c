#include <stdlib.h>
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/core/internal.h"

/* DESIGN: the user's XMPP session
 *
 *              want / sign-in             bound            first roster answer
 *      DOWN ------------------> OPENING --------> LOADING --------------------> LIVE
 *        ^  ^                      ^ |               |                           |  |
 *        |  |   token refused      | | failed        | failed                cut |  | idle,
 *        |  +----------------------|-+               |                           |  | nobody
 *        |                         | v               v                           v  v signed in
 *        |        retry timer      +-- WAITING <-------------------------------- +  CLOSING
 *        +------------------------------------------------------------------------------+
 *
 * The password of an attempt is a sign-in's (`opener`) or the one sealed in the newest token. A
 * refused opener only fails its own sign-in; a refused token is dead (API section 2). */

enum { RETRY_MIN_MS = 50, RETRY_FIRST_MS = 900, RETRY_MAX_MS = 30 * 1000 };
enum { CALLED_MAX = 2, CALL_SCAN_MAX = 64, CALL_SPREAD_MS = 500 };

static const char *domain_of(const struct rg_user *user)
{
    const char *at = strchr(user->name, '@');
    return at != NULL ? at + 1 : user->name;
}

static void stop_waiting(struct rg_user *user)
{
    rg_timer_stop(&user->retry_timer, user->core->loop);
    if (user->listed)
        TAILQ_REMOVE(&user->core->waiting, user, waiting_link);
    user->listed = false;
}

static void schedule_retry(struct rg_user *user)
{
    int64_t delay_ms;
    if (user->failures <= 1) {
        delay_ms = RETRY_MIN_MS + (int64_t)rg_random_below(RETRY_FIRST_MS - RETRY_MIN_MS);
    } else {
        unsigned doublings = user->failures - 2 < 5 ? user->failures - 2 : 5;
        int64_t whole_ms = 1000LL << doublings;
        whole_ms = whole_ms < RETRY_MAX_MS ? whole_ms : RETRY_MAX_MS;
        delay_ms = whole_ms / 2 + (int64_t)rg_random_below((uint64_t)whole_ms / 2);
    }
    stop_waiting(user);
    user->link = RG_LINK_WAITING;
    rg_timer_start(&user->retry_timer, user->core->loop, delay_ms);
    TAILQ_INSERT_TAIL(&user->core->waiting, user, waiting_link);
    user->listed = true;
    if (!rg_timer_armed(&user->idle_timer)) /* it was never live: trying ends as well */
        rg_timer_start(&user->idle_timer, user->core->loop,
                       user->core->config->xmpp.idle_timeout_ms);
}

/* A session of the domain came up: its server is back, so nobody has to sit out a long
 * back-off. Each success calls two that wait; they do the same, and so the calls grow with what
 * the server bears. */
static void call_waiting(const struct rg_user *up)
{
    struct rg_core *core = up->core;
    struct rg_user *user;
    int called = 0;
    int seen = 0;
    TAILQ_FOREACH(user, &core->waiting, waiting_link)
    {
        if (called == CALLED_MAX || seen++ == CALL_SCAN_MAX)
            return;
        if (strcmp(domain_of(user), domain_of(up)) != 0 ||
            user->retry_timer.due_ms <= rg_loop_now_ms(core->loop) + CALL_SPREAD_MS)
            continue;
        rg_timer_start(&user->retry_timer, core->loop,
                       (int64_t)rg_random_below(CALL_SPREAD_MS));
        called++;
    }
}

/* Back to waiting if somebody is still signed in, else to rest. */
static void fall_back(struct rg_user *user)
{
    user->link = RG_LINK_DOWN;
    if (rg_user_newest(user) != NULL && !user->core->draining)
        schedule_retry(user);
}

/* ---- what the upstream reports */

static void on_bound(void *arg, const struct rg_upstream_features *features)
{
    struct rg_user *user = arg;
    if (user->link != RG_LINK_OPENING)
        return; /* closing was asked for meanwhile */
    user->features = *features;
    user->link = RG_LINK_LOADING;
    user->answered = false;
    rg_follow_bound(user);
}

static void on_push(void *arg, const struct rg_upstream_push *push)
{
    rg_replica_push(arg, push);
}

static void on_doubt(void *arg)
{
    rg_replica_doubt(arg);
}

static void on_presence(void *arg, const struct rg_upstream_presence *presence)
{
    rg_presence_received(arg, presence);
}

static void log_closed(const struct rg_user *user, enum rg_link before,
                       const struct rg_err *why)
{
    char name[RG_LOG_USER_SIZE];
    rg_log_user(name, user->name);
    rg_log(RG_LOG_INFO, "core", before == RG_LINK_LIVE ? "session-ended" : "attempt-failed",
           RG_STR("user", name), RG_STR("code", rg_code_slug(why->code)),
           RG_STR("why", why->text));
}

/* The session is gone and user->link still says what it was. Decides what comes next. */
static void after_closed(struct rg_user *user, const struct rg_err *why)
{
    struct rg_op *opener = user->opener;
    enum rg_link before = user->link;
    bool refused = why->code == RG_E_UNAUTHORIZED && before == RG_LINK_OPENING;
    user->opener = NULL;
    if (before == RG_LINK_CLOSING) {
        user->link = RG_LINK_DOWN;
    } else if (refused) {
        /* A refused token is dead; a refused guess says nothing about who is signed in. Either
         * way, another token may open the session, and at once: the server is there. */
        user->link = RG_LINK_DOWN;
        if (opener == NULL)
            rg_pool_password_dead(user, user->tag);
        if (rg_user_newest(user) != NULL && !user->core->draining)
            rg_pool_want(user);
    } else {
        user->failures += opener == NULL;
        fall_back(user);
    }
    rg_user_publish(user);
    rg_hub_state(user, before == RG_LINK_CLOSING ? "idle" : rg_code_slug(why->code));
    rg_replica_lost(user);
    rg_op_list_run(&user->writes);
    if (opener != NULL)
        rg_signin_attempt_done(opener, why);
    if (user->wanted && user->link == RG_LINK_DOWN)
        rg_pool_want(user);
    user->wanted = false;
    rg_user_run_waiting(user);
    rg_user_release_idle(user);
}

static void on_closed(void *arg, const struct rg_err *why)
{
    struct rg_user *user = arg;
    struct rg_err *own_why = user->attempt_err;
    struct rg_err broken;
    user->attempt_err = NULL;
    if (own_why != NULL) {
        why = own_why;
    } else if (user->given_up && why->code == RG_E_CANCELLED && !user->core->draining) {
        /* What the core ends itself comes back as cancelled, but nobody cancelled it. */
        (void)rg_fail(&broken, RG_E_UNREACHABLE, "the XMPP session was of no use any more");
        why = &broken;
    }
    user->given_up = false;
    log_closed(user, user->link, why);
    if (user->link == RG_LINK_LIVE || user->link == RG_LINK_CLOSING) {
        /* Until now every change would have been pushed. */
        if (rg_user_has_roster(user))
            user->account->confirmed_s = rg_core_now_s(user->core);
        rg_metric_add(user->core->metrics.sessions, -1);
    }
    user->session = 0;
    user->announced = false;
    rg_timer_stop(&user->reread_timer, user->core->loop);
    rg_timer_stop(&user->retry_timer, user->core->loop);
    rg_replica_drop_early(user);
    rg_presence_forget(user);
    rg_follow_lost(user);
    after_closed(user, why);
    free(own_why);
}

static const struct rg_upstream_handler HANDLER = {
    .bound = on_bound,
    .push = on_push,
    .doubt = on_doubt,
    .presence = on_presence,
    .closed = on_closed,
};

/* ---- opening */

static enum rg_code open_take(struct rg_user *user, struct rg_secret *password,
                              const uint8_t tag[RG_ID_BYTES], struct rg_err *err)
{
    struct rg_upstream *up = user->core->upstream;
    enum rg_code code = up->ops->open(up, RG_UPSTREAM_SESSION, user->name, password, &HANDLER,
                                      user, &user->session, err);
    if (code != RG_OK)
        return code;
    memcpy(user->tag, tag, RG_ID_BYTES);
    user->link = RG_LINK_OPENING;
    stop_waiting(user);
    rg_user_publish(user);
    return RG_OK;
}

bool rg_pool_open_for(struct rg_user *user, struct rg_op *op, struct rg_err *err)
{
    /* The sign-in keeps its own: the token will be sealed from it. */
    struct rg_secret *copy =
        rg_secret_create(rg_secret_data(op->in.password), rg_secret_len(op->in.password));
    if (copy == NULL) {
        (void)rg_fail(err, RG_E_INTERNAL, "out of memory");
        return false;
    }
    if (open_take(user, copy, op->claims.password_tag, err) != RG_OK)
        return false;
    user->opener = op;
    return true;
}

static void open_with_token(struct rg_user *user)
{
    struct rg_err err = RG_ERR_INIT;
    const struct rg_sign_in *newest = rg_user_newest(user);
    struct rg_secret *password =
        newest == NULL
            ? NULL
            : rg_token_password(user->core->keys, newest->token, strlen(newest->token));
    if (password == NULL) {
        user->link = RG_LINK_DOWN;
        return;
    }
    rg_metric_add(user->core->metrics.reconnects, 1);
    if (open_take(user, password, newest->password_tag, &err) == RG_OK)
        return;
    log_closed(user, user->link, &err);
    user->failures++;
    fall_back(user);
    rg_user_publish(user);
    rg_user_run_waiting(user);
}

void rg_pool_want(struct rg_user *user)
{
    switch (user->link) {
    case RG_LINK_DOWN:
        open_with_token(user);
        break;
    case RG_LINK_CLOSING:
        user->wanted = true;
        break;
    case RG_LINK_WAITING:
    case RG_LINK_OPENING:
    case RG_LINK_LOADING:
    case RG_LINK_LIVE:
        break;
    }
}

static void retry(struct rg_timer *timer)
{
    struct rg_user *user = RG_CONTAINER_OF(timer, struct rg_user, retry_timer);
    if (user->link != RG_LINK_WAITING) {
        if (user->link == RG_LINK_LOADING || user->link == RG_LINK_LIVE)
            rg_replica_get(user);
        return;
    }
    stop_waiting(user);
    user->link = RG_LINK_DOWN;
    open_with_token(user);
    if (user->link == RG_LINK_DOWN)
        rg_user_release_idle(user);
}

void rg_pool_live(struct rg_user *user)
{
    struct rg_core *core = user->core;
    struct rg_op *opener = user->opener;
    user->link = RG_LINK_LIVE;
    user->opener = NULL;
    user->failures = 0;
    user->was_live = true;
    rg_metric_add(core->metrics.sessions, 1);
    rg_timer_start(&user->idle_timer, core->loop, core->config->xmpp.idle_timeout_ms);
    rg_timer_start(&user->reread_timer, core->loop,
                   (int64_t)rg_random_spread(RG_REREAD_S * 1000LL, 50));
    call_waiting(user);
    rg_replica_settle_doubt(user);
    rg_pool_announce(user);
    rg_user_publish(user);
    rg_hub_state(user, user->account->presence == RG_ROSTER_NOT_FOUND ? "roster-not-found"
                                                                      : "connected");
    if (opener != NULL)
        rg_signin_attempt_done(opener, NULL);
    rg_user_run_waiting(user);
    rg_write_pump(user);
    if (!rg_user_signed_in(user))
        rg_pool_close(user); /* all signed out while it was opening */
    rg_follow_settle(user);
}

/* ---- ending */

void rg_pool_close(struct rg_user *user)
{
    struct rg_upstream *up = user->core->upstream;
    switch (user->link) {
    case RG_LINK_WAITING:
        stop_waiting(user);
        user->link = RG_LINK_DOWN;
        rg_user_publish(user);
        rg_user_run_waiting(user);
        rg_user_release_idle(user);
        break;
    case RG_LINK_LIVE:
        user->link = RG_LINK_CLOSING;
        rg_user_publish(user);
        up->ops->close(up, user->session);
        break;
    case RG_LINK_OPENING:
    case RG_LINK_LOADING: /* ends by itself, one way or the other */
    case RG_LINK_DOWN:
    case RG_LINK_CLOSING:
        break;
    }
}

void rg_pool_abort(struct rg_user *user)
{
    struct rg_upstream *up = user->core->upstream;
    if (user->session == 0 || user->given_up)
        return;
    user->given_up = true;
    up->ops->abort(up, user->session);
}

void rg_pool_attempt_failed(struct rg_user *user, const struct rg_err *err)
{
    if (user->attempt_err == NULL)
        user->attempt_err = malloc(sizeof(*err));
    if (user->attempt_err != NULL)
        *user->attempt_err = *err; /* out of memory: `closed` says "cancelled" instead */
    rg_pool_abort(user);
}

static void end_recorded(void *arg, bool everywhere)
{
    /* Nobody waits for it: the password is dead here, and every instance finds out by itself.
     */
    (void)arg;
    (void)everywhere;
}

void rg_pool_password_dead(struct rg_user *user, const uint8_t tag[RG_ID_BYTES])
{
    struct rg_core *core = user->core;
    int64_t now_s = rg_core_now_s(core);
    for (size_t i = 0; i < user->account->n_ends; i++)
        if (user->account->ends[i].kind == RG_END_PASSWORD &&
            memcmp(user->account->ends[i].id, tag, RG_ID_BYTES) == 0)
            return; /* known already */
    struct rg_end end = {
        .kind = RG_END_PASSWORD, .at_s = now_s, .until_s = rg_core_last_token_s(core)};
    memcpy(end.id, tag, RG_ID_BYTES);
    if (rg_account_end(user->account, &end, now_s) == RG_OK)
        core->store->ops->end(core->store, user->account, &end, end_recorded, NULL);
    rg_user_forget(user, NULL, end.id);
    rg_user_publish(user);
    rg_hub_bye(user, NULL, end.id, RG_BYE_CREDENTIALS);
    rg_hub_wake_polls(user); /* those of the dead tokens end */
}

/* ---- presence, idleness, regular reading */

/* Looks at it after that time, or when its presence is to end, if that comes first. */
static void look_after(struct rg_user *user, int64_t after_ms)
{
    int64_t left_ms = (rg_user_presence_until_s(user) - rg_core_now_s(user->core)) * 1000;
    bool sooner = user->announced && left_ms > 0 && left_ms < after_ms;
    rg_timer_start(&user->idle_timer, user->core->loop, sooner ? left_ms : after_ms);
}

void rg_pool_announce(struct rg_user *user)
{
    struct rg_upstream *up = user->core->upstream;
    bool wants = rg_user_presence_until_s(user) > rg_core_now_s(user->core);
    if (user->link != RG_LINK_LIVE || user->given_up || (!wants && !user->announced))
        return;
    struct rg_err err;
    if (wants != user->announced && up->ops->announce(up, user->session, wants, &err) == RG_OK)
        user->announced = wants;
    if (wants)
        look_after(user, user->core->config->xmpp.idle_timeout_ms);
    else
        rg_presence_forget(user);
}

static void idle(struct rg_timer *timer)
{
    struct rg_user *user = RG_CONTAINER_OF(timer, struct rg_user, idle_timer);
    struct rg_core *core = user->core;
    int64_t limit_ms = core->config->xmpp.idle_timeout_ms;
    rg_pool_announce(user); /* the sign-in that listened may have expired without a word */
    if (rg_user_busy(user)) {
        look_after(user, limit_ms);
        return;
    }
    if (user->link == RG_LINK_DOWN) {
        rg_user_destroy(user);
        return;
    }
    int64_t used_ms = rg_door_last_used_ms(core->door, user->name);
    if (used_ms < user->last_used_ms)
        used_ms = user->last_used_ms;
    int64_t left_ms = used_ms + limit_ms - rg_loop_now_ms(core->loop);
    bool over = left_ms <= 0 || !rg_user_signed_in(user);
    look_after(user, over ? limit_ms : left_ms);
    if (over)
        rg_pool_close(user);
}

static void reread(struct rg_timer *timer)
{
    struct rg_user *user = RG_CONTAINER_OF(timer, struct rg_user, reread_timer);
    int64_t since_full_s = rg_core_now_s(user->core) - user->full_read_s;
    rg_timer_start(timer, user->core->loop,
                   (int64_t)rg_random_spread(RG_REREAD_S * 1000LL, 50));
    if (user->link == RG_LINK_LIVE && user->account->role != RG_ROLE_FOLLOWER)
        rg_replica_barrier(user, NULL, since_full_s >= RG_REREAD_FULL_S);
}

bool rg_pool_timers_init(struct rg_user *user)
{
    struct rg_loop *loop = user->core->loop;
    if (rg_timer_init(&user->retry_timer, loop, retry) != RG_OK)
        return false;
    if (rg_timer_init(&user->idle_timer, loop, idle) != RG_OK) {
        rg_timer_fini(&user->retry_timer, loop);
        return false;
    }
    if (rg_timer_init(&user->reread_timer, loop, reread) != RG_OK) {
        rg_timer_fini(&user->retry_timer, loop);
        rg_timer_fini(&user->idle_timer, loop);
        return false;
    }
    return true;
}

void rg_pool_timers_fini(struct rg_user *user)
{
    stop_waiting(user);
    rg_timer_fini(&user->retry_timer, user->core->loop);
    rg_timer_fini(&user->idle_timer, user->core->loop);
    rg_timer_fini(&user->reread_timer, user->core->loop);
}

#include "gateway/core/core.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/core/internal.h"

/* DESIGN
 *
 * An op arrives by message, finds its user and is run: rg_op_run calls the file of its kind,
 * which either finishes the op or leaves it in one of the user's lists. Whatever changes the
 * user's state runs the ops of the lists concerned again. So each kind is one function that
 * looks at the state and goes on from there, and nobody waits for a particular callback.
 *
 *   submit -> arrive -> run -> finish -> op->done
 *                        |  ^
 *                        v  | account loaded, session live or away, barrier answered, time is
 * up lists of the user
 */

enum { DRAIN_MS = 10 * 1000 };

int64_t rg_core_now_s(const struct rg_core *core)
{
    return rg_loop_unix_s(core->loop);
}

int64_t rg_core_last_token_s(const struct rg_core *core)
{
    /* Renewed for the last time just before max_age, it lives for lifetime from then. */
    return rg_core_now_s(core) +
           (core->config->session.max_age_ms + core->config->session.lifetime_ms) / 1000 + 1;
}

void rg_op_unlist(struct rg_op *op)
{
    if (op->list != NULL)
        TAILQ_REMOVE(op->list, op, link);
    op->list = NULL;
}

void rg_op_finish(struct rg_op *op)
{
    struct rg_user *user = op->user;
    rg_op_unlist(op);
    if (op->timed)
        rg_timer_fini(&op->timer, op->core->loop);
    op->timed = false;
    /* Who is not let in does not see how often a roster changes. */
    bool let_in = op->err.code != RG_E_UNAUTHORIZED && op->err.code != RG_E_CREDENTIALS;
    if (user != NULL && let_in && op->version[0] == '\0' && rg_follow_is_current(op))
        rg_user_version(user, op->version);
    op->user = NULL;
    op->done(op);
    if (user != NULL)
        rg_user_release_idle(user);
}

void rg_op_fail(struct rg_op *op, const struct rg_err *err)
{
    op->err = *err;
    rg_op_finish(op);
}

/* Is the sign-in still good? SIGN_IN has none yet, ERASE needs none; a write that has begun is
 * not stopped. */
static bool admit(struct rg_op *op)
{
    const struct rg_account *account = op->user->account;
    if (op->kind == RG_OP_SIGN_IN || op->kind == RG_OP_ERASE ||
        (op->stage != 0 && op->kind != RG_OP_CHANGES))
        return true;
    enum rg_code code = rg_ends_check(account->ends, account->n_ends, &op->claims);
    if (code == RG_OK)
        rg_user_saw(op->user, &op->claims, op->token);
    else
        (void)rg_fail(&op->err, code,
                      code == RG_E_CREDENTIALS
                          ? "the XMPP server no longer accepts the password of this sign-in"
                          : "this sign-in has ended");
    return code == RG_OK;
}

void rg_op_run(struct rg_op *op)
{
    rg_op_unlist(op);
    if (op->user->account == NULL) {
        rg_user_wait(op->user, op, -1);
        return;
    }
    if (!admit(op)) {
        rg_op_finish(op);
        return;
    }
    switch (op->kind) {
    case RG_OP_SIGN_IN:
        rg_signin_run(op);
        return;
    case RG_OP_SESSION:
        rg_session_info_run(op);
        return;
    case RG_OP_RENEW:
        rg_renew_run(op);
        return;
    case RG_OP_SIGN_OUT:
        rg_signout_run(op);
        return;
    case RG_OP_ROSTER:
    case RG_OP_CHANGES:
    case RG_OP_ITEM:
    case RG_OP_STREAM:
        rg_read_run(op);
        return;
    case RG_OP_PUT:
    case RG_OP_PATCH:
    case RG_OP_REMOVE:
        rg_write_run(op);
        return;
    case RG_OP_ERASE:
        rg_erase_run(op);
        return;
    case RG_OP_KIND_COUNT:
        break;
    }
    abort();
}

/* Refuses what must not even make a user object: unserved domains and too many guesses. */
static bool signin_may_start(struct rg_op *op)
{
    struct rg_core *core = op->core;
    const char *at = strchr(op->claims.user, '@');
    const char *domain = at != NULL ? at + 1 : op->claims.user;
    if (core->upstream->ops->serves(core->upstream, domain))
        return true;
    (void)rg_fail(&op->err, RG_E_DOMAIN, "the domain of this JID is not served here");
    return false;
}

static void op_arrive(struct rg_message *message)
{
    struct rg_op *op = RG_CONTAINER_OF(message, struct rg_op, message);
    struct rg_core *core = op->core;
    bool ok = false;
    if (core->draining)
        (void)rg_fail(&op->err, RG_E_CANCELLED, "this instance is stopping");
    else if (op->kind != RG_OP_SIGN_IN || signin_may_start(op))
        ok = true;
    if (ok) {
        op->user = rg_user_obtain(core, op->claims.user);
        if (op->user == NULL)
            (void)rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
    }
    if (op->user == NULL) {
        rg_op_finish(op);
        return;
    }
    rg_op_run(op);
}

void rg_core_submit(struct rg_core *core, struct rg_op *op)
{
    op->core = core;
    op->message.fn = op_arrive;
    rg_loop_post(core->loop, &op->message);
}

static void stream_farewell(struct rg_message *message)
{
    struct rg_stream *stream = RG_CONTAINER_OF(message, struct rg_stream, message);
    rg_hub_detach(stream);
    rg_stream_unref(stream);
}

void rg_core_close_stream_take(struct rg_core *core, struct rg_stream *stream)
{
    stream->message.fn = stream_farewell;
    rg_loop_post(core->loop, &stream->message);
}

struct rg_door *rg_core_door(struct rg_core *core)
{
    return core->door;
}

const struct rg_keys *rg_core_keys(const struct rg_core *core)
{
    return core->keys;
}

/* ---- life */

static void metrics_init(struct rg_core *core)
{
    static const char resumes[] = "Streams opened, by how they began.";
    static const char fetches[] = "Rosters read from XMPP servers, by answer.";
    core->metrics.sessions =
        rg_gauge("rostergate_xmpp_sessions", "XMPP sessions that are live.", "state=\"live\"");
    core->metrics.streams = rg_gauge("rostergate_streams_attached", "Streams fed now.", "");
    core->metrics.resumed =
        rg_counter("rostergate_stream_resumes_total", resumes, "outcome=\"resumed\"");
    core->metrics.snapshots =
        rg_counter("rostergate_stream_resumes_total", resumes, "outcome=\"snapshot\"");
    core->metrics.collapsed =
        rg_counter("rostergate_stream_collapses_total",
                   "Stream queues that overflowed into one roster event.", "");
    core->metrics.events =
        rg_counter("rostergate_stream_events_total", "Events queued on streams.", "");
    core->metrics.sign_in_failures = rg_counter("rostergate_login_failures_total",
                                                "Sign-ins that XMPP servers refused.", "");
    core->metrics.throttled = rg_counter("rostergate_login_throttled_total",
                                         "Sign-ins refused for too many failures.", "");
    core->metrics.reconnects = rg_counter("rostergate_xmpp_reconnects_total",
                                          "Attempts to bring a lost session back.", "");
    core->metrics.fetch_unchanged =
        rg_counter("rostergate_roster_fetch_total", fetches, "result=\"unchanged\"");
    core->metrics.fetch_full =
        rg_counter("rostergate_roster_fetch_total", fetches, "result=\"full\"");
    core->metrics.fetch_error =
        rg_counter("rostergate_roster_fetch_total", fetches, "result=\"error\"");
    core->metrics.not_applied =
        rg_counter("rostergate_writes_not_applied_total",
                   "Writes an XMPP server confirmed but did not make.", "");
    core->metrics.uncertain = rg_counter("rostergate_writes_uncertain_total",
                                         "Writes that got no answer in time.", "");
}

static void drain_timeout(struct rg_timer *timer);

struct rg_core *rg_core_create(const struct rg_config *config, struct rg_loop *loop,
                               struct rg_upstream *upstream, struct rg_store *store,
                               const struct rg_keys *keys, struct rg_err *err)
{
    struct rg_core *core = calloc(1, sizeof(*core));
    if (core == NULL) {
        (void)rg_fail(err, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    core->config = config;
    core->loop = loop;
    core->upstream = upstream;
    core->store = store;
    core->keys = keys;
    core->began_s = rg_core_now_s(core);
    core->door = rg_door_create();
    TAILQ_INIT(&core->waiting);
    core->throttle = rg_throttle_create();
    core->greeting = rg_event_comment("retry: 2000\n: rostergate\n\n");
    metrics_init(core);
    if (core->door == NULL || core->throttle == NULL || core->greeting == NULL ||
        rg_timer_init(&core->drain_timer, loop, drain_timeout) != RG_OK) {
        (void)rg_fail(err, RG_E_INTERNAL, "out of memory");
        rg_core_destroy(core);
        return NULL;
    }
    rg_follow_watch(core);
    return core;
}

void rg_core_destroy(struct rg_core *core)
{
    if (core == NULL)
        return;
    struct rg_user *user;
    struct rg_user *next;
    HASH_ITER(hh, core->users, user, next)
    {
        rg_user_destroy(user);
    }
    if (core->drain_timer.fn != NULL)
        rg_timer_fini(&core->drain_timer, core->loop);
    rg_event_unref(core->greeting);
    rg_throttle_destroy(core->throttle);
    rg_door_destroy(core->door);
    free(core);
}

/* ---- stopping */

static void drain_done(struct rg_core *core)
{
    void (*fn)(void *arg) = core->drained;
    core->drained = NULL;
    rg_timer_stop(&core->drain_timer, core->loop);
    if (fn != NULL)
        fn(core->drained_arg);
}

static void drain_timeout(struct rg_timer *timer)
{
    drain_done(RG_CONTAINER_OF(timer, struct rg_core, drain_timer));
}

void rg_core_write_ended(struct rg_core *core)
{
    core->n_writes--;
    /* Through the timer, as the caller is still in the middle of the user. */
    if (core->n_writes == 0 && core->draining && core->drained != NULL)
        rg_timer_start(&core->drain_timer, core->loop, 0);
}

void rg_core_drain(struct rg_core *core, void (*fn)(void *arg), void *arg)
{
    struct rg_user *user;
    struct rg_user *next;
    struct rg_err stopping;
    (void)rg_fail(&stopping, RG_E_CANCELLED, "this instance is stopping");
    core->draining = true;
    core->drained = fn;
    core->drained_arg = arg;
    HASH_ITER(hh, core->users, user, next)
    {
        rg_hub_bye(user, NULL, NULL, RG_BYE_DRAIN);
        rg_hub_wake_polls(user);
        rg_user_fail_waiting(user, &stopping);
    }
    rg_timer_start(&core->drain_timer, core->loop, core->n_writes == 0 ? 0 : DRAIN_MS);
}

static void store_stopped(void *arg)
{
    struct rg_core *core = arg;
    core->stopped(core->stopped_arg);
}

static void upstream_stopped(void *arg)
{
    struct rg_core *core = arg;
    core->store->ops->stop(core->store, store_stopped, core);
}

void rg_core_stop(struct rg_core *core, void (*fn)(void *arg), void *arg)
{
    core->stopped = fn;
    core->stopped_arg = arg;
    core->upstream->ops->stop(core->upstream, upstream_stopped, core);
}

void rg_core_health(struct rg_core *core, struct rg_buf *buf)
{
    struct rg_upstream_status status;
    rg_buf_puts(buf, "\"xmpp\":[");
    for (size_t i = 0; core->upstream->ops->status(core->upstream, i, &status); i++) {
        rg_buf_puts(buf, i == 0 ? "{\"domain\":\"" : ",{\"domain\":\"");
        rg_buf_puts(buf, status.domain);
        rg_buf_printf(buf, "\",\"degraded\":%s,\"sessions\":%zu}",
                      status.reachable ? "false" : "true", status.sessions);
    }
    rg_buf_puts(buf, "],\"store\":");
    core->store->ops->health(core->store, buf);
}

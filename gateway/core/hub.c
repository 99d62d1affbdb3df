#include <stdlib.h>
#include <string.h>

#include "gateway/core/internal.h"

/* Streams and long polls: whoever is told of a user's changes. */

static void wake_polls_later(struct rg_user *user);

static struct rg_event *roster_event(struct rg_user *user)
{
    if (user->roster_event == NULL && user->snapshot != NULL)
        user->roster_event = rg_event_roster(user->snapshot);
    return user->roster_event;
}

static const char *state_reason(const struct rg_user *user)
{
    if (user->link == RG_LINK_LIVE)
        return user->account->presence == RG_ROSTER_NOT_FOUND ? "roster-not-found"
                                                              : "connected";
    return "xmpp-unreachable";
}

static void collapse(struct rg_user *user, struct rg_stream *stream)
{
    struct rg_event *session = rg_event_session(rg_user_state(user), state_reason(user));
    rg_metric_add(user->core->metrics.collapsed, 1);
    rg_stream_collapse(stream, roster_event(user), session);
    rg_event_unref(session);
}

/* False: the queue collapsed into the newest roster, which already shows what follows. */
static bool feed(struct rg_user *user, struct rg_stream *stream, struct rg_event *event)
{
    rg_metric_add(user->core->metrics.events, 1);
    if (rg_stream_push(stream, event))
        return true;
    collapse(user, stream);
    return false;
}

static void feed_all(struct rg_user *user, struct rg_event *event)
{
    struct rg_stream *stream;
    TAILQ_FOREACH(stream, &user->streams, link)
    (void)feed(user, stream, event);
}

void rg_hub_event_take(struct rg_user *user, struct rg_event *event)
{
    if (event != NULL)
        feed_all(user, event);
    rg_event_unref(event);
}

/* Encodes the i-th change of the journal. */
static struct rg_event *change_event(const struct rg_user *user, size_t i)
{
    char version[RG_VERSION_SIZE];
    const struct rg_change *change = rg_account_change(user->account, i);
    rg_version_format(version, user->account->epoch, change->at);
    return rg_event_change(change, version);
}

void rg_hub_changes(struct rg_user *user, size_t n_changes)
{
    size_t n = user->account->journal_n;
    if (n_changes > n) {
        rg_hub_roster(user);
        return;
    }
    if (!TAILQ_EMPTY(&user->streams)) {
        struct rg_event **events = calloc(n_changes, sizeof(struct rg_event *));
        if (events == NULL) {
            rg_hub_roster(user);
            return;
        }
        for (size_t i = 0; i < n_changes; i++)
            events[i] = change_event(user, n - n_changes + i);
        struct rg_stream *stream;
        TAILQ_FOREACH(stream, &user->streams, link)
        {
            for (size_t i = 0; i < n_changes; i++)
                if (!feed(user, stream, events[i]))
                    break;
        }
        for (size_t i = 0; i < n_changes; i++)
            rg_event_unref(events[i]);
        free(events);
    }
    wake_polls_later(user);
}

void rg_hub_roster(struct rg_user *user)
{
    struct rg_stream *stream;
    TAILQ_FOREACH(stream, &user->streams, link)
    {
        /* NULL (out of memory) collapses to nothing and ends the stream: no gap is silent. */
        (void)feed(user, stream, roster_event(user));
    }
    wake_polls_later(user);
}

void rg_hub_state(struct rg_user *user, const char *reason)
{
    enum rg_state state = rg_user_state(user);
    bool not_found = user->account->presence == RG_ROSTER_NOT_FOUND;
    bool news = state != user->told || not_found;
    user->told = state;
    if (news && !TAILQ_EMPTY(&user->streams))
        rg_hub_event_take(user, rg_event_session(state, reason));
}

/* ---- long polls */

void rg_hub_wake_polls(struct rg_user *user)
{
    rg_op_list_run(&user->parked);
}

static void wake_polls_later(struct rg_user *user)
{
    struct rg_op *op;
    /* By their timers: the caller is in the middle of a change, and a burst is one answer. */
    TAILQ_FOREACH(op, &user->parked, link)
    {
        rg_timer_start(&op->timer, user->core->loop, 0);
    }
}

/* ---- attaching */

static void replay(struct rg_user *user, struct rg_stream *stream, size_t from)
{
    for (size_t i = from; i < user->account->journal_n; i++) {
        struct rg_event *event = change_event(user, i);
        bool fed = feed(user, stream, event);
        rg_event_unref(event);
        if (!fed)
            return;
    }
}

/* Sends what the client missed, or the whole; true if it could resume. */
static bool catch_up(struct rg_user *user, struct rg_stream *stream)
{
    const struct rg_stream_options *options = &stream->options;
    size_t from = 0;
    if (options->now || !rg_user_has_roster(user))
        return false;
    if (options->resume && options->known &&
        rg_account_since(user->account, &options->from, &from)) {
        rg_metric_add(user->core->metrics.resumed, 1);
        replay(user, stream, from);
        return true;
    }
    rg_metric_add(user->core->metrics.snapshots, 1);
    (void)feed(user, stream, roster_event(user));
    return false;
}

void rg_hub_attach(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_core *core = user->core;
    struct rg_stream *stream = op->in.stream;
    char version[RG_VERSION_SIZE];
    if (user->n_streams >= (size_t)core->config->limits.streams_user) {
        (void)rg_fail(&op->err, RG_E_RATE, "this user has %zu streams open, the most allowed",
                      user->n_streams);
        op->err.retry_after_s = 5;
        rg_op_finish(op);
        return;
    }
    stream->user = user;
    stream->core = core;
    (void)rg_stream_ref(stream); /* not inside the macro, which evaluates it four times */
    TAILQ_INSERT_TAIL(&user->streams, stream, link);
    user->n_streams++;
    rg_metric_add(core->metrics.streams, 1);

    (void)rg_stream_push(stream, core->greeting);
    bool resumed = catch_up(user, stream);
    rg_presence_greet(user, stream);
    if (user->link != RG_LINK_LIVE || user->account->presence == RG_ROSTER_NOT_FOUND) {
        struct rg_event *session = rg_event_session(rg_user_state(user), state_reason(user));
        (void)feed(user, stream, session);
        rg_event_unref(session);
    }
    rg_user_version(user, version);
    struct rg_event *sync = rg_event_sync(version, rg_user_state(user), resumed);
    (void)feed(user, stream, sync);
    rg_event_unref(sync);
    rg_op_finish(op);
}

void rg_hub_detach(struct rg_stream *stream)
{
    struct rg_user *user = stream->user;
    if (user == NULL)
        return;
    TAILQ_REMOVE(&user->streams, stream, link);
    stream->user = NULL;
    user->n_streams--;
    user->last_used_ms = rg_loop_now_ms(user->core->loop);
    rg_metric_add(user->core->metrics.streams, -1);
    rg_stream_unref(stream);
    rg_user_release_idle(user);
}

void rg_hub_bye(struct rg_user *user, const uint8_t *id, const uint8_t *tag, enum rg_bye reason)
{
    struct rg_stream *stream;
    TAILQ_FOREACH(stream, &user->streams, link)
    {
        if ((id == NULL || memcmp(stream->sign_in, id, RG_ID_BYTES) == 0) &&
            (tag == NULL || memcmp(stream->password_tag, tag, RG_ID_BYTES) == 0))
            rg_stream_bye(stream, reason);
    }
}

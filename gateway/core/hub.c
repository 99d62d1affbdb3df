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

static void force_take(struct rg_stream *stream, struct rg_event *event)
{
    rg_stream_force(stream, event);
    rg_event_unref(event);
}

static void force_sync(struct rg_user *user, struct rg_stream *stream, bool resumed)
{
    char version[RG_VERSION_SIZE];
    rg_user_version(user, version);
    force_take(stream, rg_event_sync(version, rg_user_state(user), resumed));
}

/* The newest roster and state stand for all that was lost, `lost` among it; what a new stream
 * begins with is said again if it was not sent yet, or is not true any more. */
static void collapse(struct rg_user *user, struct rg_stream *stream, unsigned lost)
{
    enum {
        GREETING = RG_EVENT_SUBSCRIPTIONS | RG_EVENT_SUBSCRIPTION | RG_EVENT_PRESENCE |
                   RG_EVENT_PRESENCE_RESET
    };
    rg_metric_add(user->core->metrics.collapsed, 1);
    lost |= rg_stream_empty(stream);
    if ((lost & RG_EVENT_COMMENT) != 0)
        rg_stream_force(stream, user->core->greeting);
    if (rg_user_has_roster(user))
        rg_stream_force(stream, roster_event(user));
    force_take(stream, rg_event_session(rg_user_state(user), state_reason(user)));
    if ((lost & GREETING) != 0)
        rg_presence_greet(user, stream);
    if ((lost & RG_EVENT_SYNC) != 0)
        force_sync(user, stream, false);
}

bool rg_hub_feed(struct rg_user *user, struct rg_stream *stream, struct rg_event *event)
{
    rg_metric_add(user->core->metrics.events, 1);
    if (rg_stream_push(stream, event))
        return true;
    collapse(user, stream, event != NULL ? event->type : 0);
    return false;
}

static void feed_all(struct rg_user *user, struct rg_event *event)
{
    struct rg_stream *stream;
    TAILQ_FOREACH(stream, &user->streams, link)
    (void)rg_hub_feed(user, stream, event);
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

static void tell_roster(struct rg_user *user)
{
    struct rg_stream *stream;
    TAILQ_FOREACH(stream, &user->streams, link)
    {
        /* NULL (out of memory) collapses to nothing and ends the stream: no gap is silent. */
        (void)rg_hub_feed(user, stream, roster_event(user));
    }
    wake_polls_later(user);
}

/* The journal's last ones. */
static void tell_changes(struct rg_user *user, size_t n_changes)
{
    size_t n = user->account->journal_n;
    if (!TAILQ_EMPTY(&user->streams)) {
        struct rg_event **events = calloc(n_changes, sizeof(struct rg_event *));
        if (events == NULL) {
            tell_roster(user);
            return;
        }
        for (size_t i = 0; i < n_changes; i++)
            events[i] = change_event(user, n - n_changes + i);
        struct rg_stream *stream;
        TAILQ_FOREACH(stream, &user->streams, link)
        {
            for (size_t i = 0; i < n_changes; i++)
                if (!rg_hub_feed(user, stream, events[i]))
                    break;
        }
        for (size_t i = 0; i < n_changes; i++)
            rg_event_unref(events[i]);
        free(events);
    }
    wake_polls_later(user);
}

void rg_hub_tell(struct rg_user *user)
{
    const struct rg_account *account = user->account;
    struct rg_version head = {.epoch = account->epoch, .at = account->head};
    size_t from = 0;
    bool known = user->shows && rg_account_since(account, &user->shown, &from);
    user->shows = rg_user_has_roster(user);
    if (known && from == account->journal_n)
        return;
    user->shown = head;
    rg_user_publish(user);
    if (!user->shows)
        return;
    if (known)
        tell_changes(user, account->journal_n - from);
    else
        tell_roster(user);
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

/* False: it was more than the queue holds, and one roster stands in its place. */
static bool replay(struct rg_user *user, struct rg_stream *stream, size_t from)
{
    for (size_t i = from; i < user->account->journal_n; i++) {
        struct rg_event *event = change_event(user, i);
        bool fed = rg_hub_feed(user, stream, event);
        rg_event_unref(event);
        if (!fed)
            return false;
    }
    return true;
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
        return replay(user, stream, from);
    }
    rg_metric_add(user->core->metrics.snapshots, 1);
    rg_stream_force(stream, roster_event(user));
    return false;
}

void rg_hub_attach(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_core *core = user->core;
    struct rg_stream *stream = op->in.stream;
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

    rg_stream_force(stream, core->greeting);
    bool resumed = catch_up(user, stream);
    rg_presence_greet(user, stream);
    if (user->link != RG_LINK_LIVE || user->account->presence == RG_ROSTER_NOT_FOUND)
        force_take(stream, rg_event_session(rg_user_state(user), state_reason(user)));
    force_sync(user, stream, resumed);
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

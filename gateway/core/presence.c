#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"
#include "gateway/core/internal.h"

/* Subscription requests and contacts' presence, as long as the session is announced (API
 * section 5, `listen`). Nothing here is kept beyond the session: the server sends both again
 * after the next initial presence (RFC 6121 3.1.3, 4.2). */

enum {
    REQUESTS_MAX = 1000,
    PRESENCES_MAX = 5000,
    REQUESTS_BYTES_MAX = 1024 * 1024, /* of their texts; a greeting carries all of them */
    PRESENCES_BYTES_MAX = 4 * 1024 * 1024
};

struct rg_request {
    UT_hash_handle hh;
    int64_t received_s;
    size_t bytes;
    char *message; /* NULL: none */
    char *nick;
    char jid[];
};

struct rg_contact_presence {
    UT_hash_handle hh;
    char *json; /* the event's data */
    size_t json_len;
    char full[]; /* jid/resource */
};

static void put_string(struct rg_buf *buf, const char *name, const char *value)
{
    rg_buf_printf(buf, ",\"%s\":", name);
    if (value == NULL)
        rg_buf_puts(buf, "null");
    else
        rg_json_string(buf, value, strlen(value));
}

/* ---- requests */

static struct rg_request *find_request(const struct rg_user *user, const char *jid)
{
    struct rg_request *request = NULL;
    HASH_FIND(hh, user->requests, jid, strlen(jid), request);
    return request;
}

bool rg_presence_asked(const struct rg_user *user, const char *jid)
{
    return find_request(user, jid) != NULL;
}

static void drop_request(struct rg_user *user, struct rg_request *request)
{
    if (request == NULL)
        return;
    HASH_DEL(user->requests, request);
    user->n_requests--;
    user->requests_bytes -= request->bytes;
    free(request->message);
    free(request->nick);
    free(request);
}

static void add_request(struct rg_user *user, const struct rg_upstream_presence *presence)
{
    size_t len = strlen(presence->jid);
    size_t bytes = len + (presence->status != NULL ? strlen(presence->status) : 0) +
                   (presence->nick != NULL ? strlen(presence->nick) : 0);
    /* Delivered again after each sign-in, it is the same request (R69). */
    if (find_request(user, presence->jid) != NULL || user->n_requests >= REQUESTS_MAX ||
        user->requests_bytes + bytes > REQUESTS_BYTES_MAX)
        return;
    struct rg_request *request = calloc(1, sizeof(*request) + len + 1);
    if (request == NULL)
        return;
    memcpy(request->jid, presence->jid, len);
    request->received_s = rg_core_now_s(user->core);
    request->message = presence->status != NULL ? strdup(presence->status) : NULL;
    request->nick = presence->nick != NULL ? strdup(presence->nick) : NULL;
    HASH_ADD_KEYPTR(hh, user->requests, request->jid, len, request);
    if (request->hh.tbl == NULL) {
        free(request->message);
        free(request->nick);
        free(request);
        return;
    }
    request->bytes = bytes;
    user->n_requests++;
    user->requests_bytes += bytes;
}

static const char *subscription_type(enum rg_presence_type type)
{
    switch (type) {
    case RG_PRESENCE_SUBSCRIBE:
        return "subscribe";
    case RG_PRESENCE_SUBSCRIBED:
        return "subscribed";
    case RG_PRESENCE_UNSUBSCRIBE:
        return "unsubscribe";
    case RG_PRESENCE_UNSUBSCRIBED:
        return "unsubscribed";
    case RG_PRESENCE_ERROR:
        return "error";
    case RG_PRESENCE_AVAILABLE:
    case RG_PRESENCE_UNAVAILABLE:
        break;
    }
    return "";
}

static void tell_subscription(struct rg_user *user, const struct rg_upstream_presence *presence)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    rg_buf_printf(&json, "{\"type\":\"%s\"", subscription_type(presence->type));
    put_string(&json, "jid", presence->jid);
    put_string(&json, "message", presence->status);
    put_string(&json, "nick", presence->nick);
    if (presence->type == RG_PRESENCE_ERROR) {
        rg_buf_printf(&json, ",\"xmpp\":{\"condition\":\"%s\",\"type\":\"%s\"",
                      rg_condition_name(presence->error.condition),
                      rg_xmpp_type_name(presence->error.type));
        put_string(&json, "text", presence->error.text);
        rg_buf_putc(&json, '}');
    }
    rg_buf_putc(&json, '}');
    rg_hub_event_take(user, rg_event_plain(RG_EVENT_SUBSCRIPTION, &json));
}

/* ---- presence */

static void drop_presence(struct rg_user *user, struct rg_contact_presence *known)
{
    if (known == NULL)
        return;
    HASH_DEL(user->presences, known);
    user->n_presences--;
    user->presences_bytes -= known->json_len;
    free(known->json);
    free(known);
}

static void presence_json(struct rg_buf *json, const struct rg_upstream_presence *presence)
{
    rg_buf_puts(json, "{\"jid\":");
    rg_json_string(json, presence->jid, strlen(presence->jid));
    put_string(json, "resource", presence->resource);
    put_string(json, "type",
               presence->type == RG_PRESENCE_AVAILABLE ? "available" : "unavailable");
    put_string(json, "show", presence->show);
    put_string(json, "status", presence->status);
    rg_buf_printf(json, ",\"priority\":%d}", presence->priority);
}

static void keep_presence(struct rg_user *user, const char *full, size_t len,
                          struct rg_buf *json)
{
    if (user->n_presences >= PRESENCES_MAX ||
        user->presences_bytes + json->len > PRESENCES_BYTES_MAX)
        return;
    struct rg_contact_presence *known = calloc(1, sizeof(*known) + len + 1);
    if (known == NULL)
        return;
    memcpy(known->full, full, len);
    known->json = rg_buf_take(json, &known->json_len);
    if (known->json != NULL)
        HASH_ADD_KEYPTR(hh, user->presences, known->full, len, known);
    if (known->json == NULL || known->hh.tbl == NULL) {
        free(known->json);
        free(known);
        return;
    }
    user->n_presences++;
    user->presences_bytes += known->json_len;
}

/* Only streams whose own sign-in listens are told (API section 2). */
static void tell_listeners(struct rg_user *user, struct rg_event *event)
{
    struct rg_stream *stream;
    TAILQ_FOREACH(stream, &user->streams, link)
    {
        if (stream->listen)
            (void)rg_hub_feed(user, stream, event);
    }
}

static void tell_presence(struct rg_user *user, const struct rg_upstream_presence *presence)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    RG_CLEANUP(rg_buf_fini) struct rg_buf full = RG_BUF_INIT;
    struct rg_contact_presence *known = NULL;
    rg_buf_puts(&full, presence->jid);
    if (presence->resource != NULL) {
        rg_buf_putc(&full, '/');
        rg_buf_puts(&full, presence->resource);
    }
    presence_json(&json, presence);
    struct rg_event *event = rg_event_plain(RG_EVENT_PRESENCE, &json);
    if (event == NULL || rg_buf_failed(&full)) {
        rg_event_unref(event);
        return;
    }
    HASH_FIND(hh, user->presences, full.data, full.len, known);
    drop_presence(user, known);
    rg_event_unref(RG_TAKE(user->contacts));
    if (presence->type == RG_PRESENCE_AVAILABLE)
        keep_presence(user, full.data, full.len, &json);
    tell_listeners(user, event); /* after it is kept: a full queue is greeted anew */
    rg_event_unref(event);
}

void rg_presence_received(struct rg_user *user, const struct rg_upstream_presence *presence)
{
    switch (presence->type) {
    case RG_PRESENCE_SUBSCRIBE:
        add_request(user, presence);
        tell_subscription(user, presence);
        break;
    case RG_PRESENCE_UNSUBSCRIBE:
        drop_request(user, find_request(user, presence->jid));
        tell_subscription(user, presence);
        break;
    case RG_PRESENCE_SUBSCRIBED:
    case RG_PRESENCE_UNSUBSCRIBED:
    case RG_PRESENCE_ERROR:
        tell_subscription(user, presence);
        break;
    case RG_PRESENCE_AVAILABLE:
    case RG_PRESENCE_UNAVAILABLE:
        tell_presence(user, presence);
        break;
    }
}

static void push_reset(struct rg_user *user, struct rg_stream *only)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    rg_buf_puts(&json, "{}");
    struct rg_event *event = rg_event_plain(RG_EVENT_PRESENCE_RESET, &json);
    if (only != NULL)
        rg_stream_force(only, event);
    else
        tell_listeners(user, event);
    rg_event_unref(event);
}

void rg_presence_forget(struct rg_user *user)
{
    bool had = user->presences != NULL;
    rg_event_unref(RG_TAKE(user->contacts));
    while (user->presences != NULL)
        drop_presence(user, user->presences);
    while (user->requests != NULL)
        drop_request(user, user->requests);
    if (had)
        push_reset(user, NULL);
}

void rg_presence_roster_moved(struct rg_user *user, const char *jid, const struct rg_item *item)
{
    if (item != NULL &&
        (item->subscription == RG_SUB_FROM || item->subscription == RG_SUB_BOTH))
        drop_request(user, find_request(user, jid));
}

/* ---- greeting a new stream */

static void put_incoming(struct rg_buf *json, const struct rg_user *user)
{
    const struct rg_request *request;
    rg_buf_puts(json, "{\"incoming\":[");
    for (request = user->requests; request != NULL; request = request->hh.next) {
        rg_buf_puts(json, request == user->requests ? "{\"jid\":" : ",{\"jid\":");
        rg_json_string(json, request->jid, strlen(request->jid));
        rg_buf_puts(json, ",\"received_at\":\"");
        rg_time_rfc3339(json, request->received_s);
        rg_buf_putc(json, '"');
        put_string(json, "message", request->message);
        put_string(json, "nick", request->nick);
        rg_buf_putc(json, '}');
    }
    rg_buf_putc(json, ']');
}

static void put_outgoing(struct rg_buf *json, const struct rg_user *user)
{
    const struct rg_roster *roster = rg_user_has_roster(user) ? user->account->roster : NULL;
    bool first = true;
    rg_buf_puts(json, ",\"outgoing\":[");
    for (size_t i = 0; roster != NULL && i < roster->n; i++) {
        const struct rg_item *item = roster->items[i];
        if (!item->ask)
            continue;
        rg_buf_puts(json, first ? "{\"jid\":" : ",{\"jid\":");
        rg_json_string(json, item->jid, item->jid_len);
        rg_buf_putc(json, '}');
        first = false;
    }
    rg_buf_putc(json, ']');
}

/* The greeting is bounded by what is known, not by the queue: it costs one reference, as a
 * roster does, or a user with many contacts online could never read a stream. */
static struct rg_event *shared(struct rg_event *event)
{
    if (event != NULL)
        event->shared = true;
    return event;
}

/* (borrow) All presences as they are, the same for every stream; NULL: out of memory. */
static struct rg_event *contacts(struct rg_user *user)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf text = RG_BUF_INIT;
    const struct rg_contact_presence *known;
    if (user->contacts != NULL)
        return user->contacts;
    for (known = user->presences; known != NULL; known = known->hh.next)
        rg_event_append(&text, RG_EVENT_PRESENCE, known->json, known->json_len);
    user->contacts = shared(rg_event_block(RG_EVENT_PRESENCE, &text));
    return user->contacts;
}

void rg_presence_greet(struct rg_user *user, struct rg_stream *stream)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    put_incoming(&json, user);
    put_outgoing(&json, user);
    rg_buf_printf(&json, ",\"listening\":%s}", user->announced ? "true" : "false");
    struct rg_event *event = shared(rg_event_plain(RG_EVENT_SUBSCRIPTIONS, &json));
    rg_stream_force(stream, event);
    rg_event_unref(event);
    if (!stream->listen)
        return;
    push_reset(user, stream);
    if (user->presences != NULL)
        rg_stream_force(stream, contacts(user));
}

#include "gateway/core/event.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"

static const struct {
    enum rg_event_type type;
    const char *name;
} NAMES[] = {
    {RG_EVENT_ROSTER, "roster"},
    {RG_EVENT_ROSTER_SET, "roster.set"},
    {RG_EVENT_ROSTER_REMOVE, "roster.remove"},
    {RG_EVENT_SUBSCRIPTIONS, "subscriptions"},
    {RG_EVENT_SUBSCRIPTION, "subscription"},
    {RG_EVENT_PRESENCE_RESET, "presence.reset"},
    {RG_EVENT_PRESENCE, "presence"},
    {RG_EVENT_SYNC, "sync"},
    {RG_EVENT_SESSION, "session"},
    {RG_EVENT_PING, "ping"},
    {RG_EVENT_BYE, "bye"},
};

unsigned rg_event_type_parse(const char *text, size_t len)
{
    for (size_t i = 0; i < RG_ARRAY_LEN(NAMES); i++)
        if (strlen(NAMES[i].name) == len && memcmp(NAMES[i].name, text, len) == 0)
            return NAMES[i].type;
    return 0;
}

static const char *type_name(enum rg_event_type type)
{
    for (size_t i = 0; i < RG_ARRAY_LEN(NAMES); i++)
        if (NAMES[i].type == type)
            return NAMES[i].name;
    return "";
}

const char *rg_bye_name(enum rg_bye reason)
{
    static const char *const names[RG_BYE_COUNT] = {
        [RG_BYE_DRAIN] = "drain",
        [RG_BYE_ROTATE] = "rotate",
        [RG_BYE_EXPIRED] = "expired",
        [RG_BYE_SIGNED_OUT] = "signed-out",
        [RG_BYE_CREDENTIALS] = "credentials",
        [RG_BYE_SLOW] = "slow",
    };
    return reason < RG_BYE_COUNT ? names[reason] : "";
}

struct rg_event *rg_event_ref(struct rg_event *event)
{
    atomic_fetch_add_explicit(&event->refs, 1, memory_order_relaxed);
    return event;
}

void rg_event_unref(struct rg_event *event)
{
    if (event != NULL && atomic_fetch_sub_explicit(&event->refs, 1, memory_order_acq_rel) == 1)
        free(event);
}

static struct rg_event *from_parts(enum rg_event_type type, const char *head, size_t head_len,
                                   const char *body, size_t body_len)
{
    struct rg_event *event = malloc(sizeof(*event) + head_len + body_len + 2);
    if (event == NULL)
        return NULL;
    atomic_init(&event->refs, 1);
    event->type = type;
    event->shared = false;
    memcpy(event->data, head, head_len);
    memcpy(event->data + head_len, body, body_len);
    memcpy(event->data + head_len + body_len, "\n\n", 2);
    event->len = head_len + body_len + 2;
    return event;
}

/* `data` is one line of JSON: the writer escapes every line break, so nothing that a peer sent
 * can start a field of its own (threat T13). */
static struct rg_event *encode(enum rg_event_type type, const char *id, const char *data,
                               size_t data_len)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf head = RG_BUF_INIT;
    if (id != NULL && *id != '\0')
        rg_buf_printf(&head, "id: %s\n", id);
    rg_buf_printf(&head, "event: %s\ndata: ", type_name(type));
    if (rg_buf_failed(&head))
        return NULL;
    return from_parts(type, head.data, head.len, data, data_len);
}

static struct rg_event *encode_buf(enum rg_event_type type, const char *id,
                                   const struct rg_buf *json)
{
    return rg_buf_failed(json) ? NULL : encode(type, id, json->data, json->len);
}

struct rg_event *rg_event_comment(const char *text)
{
    size_t len = strlen(text);
    struct rg_event *event = malloc(sizeof(*event) + len);
    if (event == NULL)
        return NULL;
    atomic_init(&event->refs, 1);
    event->type = RG_EVENT_COMMENT;
    event->shared = false;
    event->len = len;
    memcpy(event->data, text, len);
    return event;
}

struct rg_event *rg_event_ping(unsigned interval_s)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    rg_buf_printf(&json, "{\"interval\":%u}", interval_s);
    return encode_buf(RG_EVENT_PING, NULL, &json);
}

struct rg_event *rg_event_roster(struct rg_snapshot *snapshot)
{
    struct rg_blob *body = rg_snapshot_body(snapshot);
    struct rg_event *event =
        body == NULL ? NULL : encode(RG_EVENT_ROSTER, snapshot->version, body->data, body->len);
    if (event != NULL)
        event->shared = true;
    return event;
}

struct rg_event *rg_event_change(const struct rg_change *change, const char *version)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    rg_buf_printf(&json, "{\"version\":\"%s\",", version);
    if (change->item != NULL) {
        rg_buf_puts(&json, "\"item\":");
        rg_item_json(&json, change->item);
    } else {
        rg_buf_puts(&json, "\"jid\":");
        rg_json_string(&json, change->jid, strlen(change->jid));
    }
    rg_buf_putc(&json, '}');
    return encode_buf(change->item != NULL ? RG_EVENT_ROSTER_SET : RG_EVENT_ROSTER_REMOVE,
                      version, &json);
}

struct rg_event *rg_event_sync(const char *version, enum rg_state state, bool resumed)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    if (*version == '\0')
        rg_buf_puts(&json, "{\"version\":null");
    else
        rg_buf_printf(&json, "{\"version\":\"%s\"", version);
    rg_buf_printf(&json, ",\"state\":\"%s\",\"resumed\":%s}", rg_state_name(state),
                  resumed ? "true" : "false");
    return encode_buf(RG_EVENT_SYNC, version, &json);
}

struct rg_event *rg_event_session(enum rg_state state, const char *reason)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    rg_buf_printf(&json, "{\"state\":\"%s\",\"reason\":", rg_state_name(state));
    rg_json_string(&json, reason, strlen(reason));
    rg_buf_putc(&json, '}');
    return encode_buf(RG_EVENT_SESSION, NULL, &json);
}

struct rg_event *rg_event_bye(enum rg_bye reason)
{
    /* After these two only a new sign-in helps; an expired token may have been renewed already.
     */
    bool reconnect = reason != RG_BYE_SIGNED_OUT && reason != RG_BYE_CREDENTIALS;
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    rg_buf_printf(&json, "{\"reason\":\"%s\",\"reconnect\":%s}", rg_bye_name(reason),
                  reconnect ? "true" : "false");
    return encode_buf(RG_EVENT_BYE, NULL, &json);
}

struct rg_event *rg_event_plain(enum rg_event_type type, const struct rg_buf *json)
{
    return encode_buf(type, NULL, json);
}

void rg_event_append(struct rg_buf *text, enum rg_event_type type, const char *json,
                     size_t json_len)
{
    rg_buf_printf(text, "event: %s\ndata: ", type_name(type));
    rg_buf_append(text, json, json_len);
    rg_buf_puts(text, "\n\n");
}

struct rg_event *rg_event_block(enum rg_event_type type, const struct rg_buf *text)
{
    if (rg_buf_failed(text) || text->len < 2)
        return NULL;
    return from_parts(type, "", 0, text->data, text->len - 2); /* which adds them again */
}

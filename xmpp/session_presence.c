#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"
#include "gateway/ports/upstream.h"
#include "xmpp/session.h"
#include "xmpp/stanza_roster.h"

enum { TEXT_MAX = 1023 };
static const char NS_NICK[] = "http://jabber.org/protocol/nick";

/* RFC 6121 4.7.1. False: a type that says nothing about subscriptions or presence. */
static bool read_type(enum rg_presence_type *out, const char *type)
{
    static const struct {
        const char *name;
        enum rg_presence_type type;
    } rows[] = {
        {"subscribe", RG_PRESENCE_SUBSCRIBE},     {"subscribed", RG_PRESENCE_SUBSCRIBED},
        {"unsubscribe", RG_PRESENCE_UNSUBSCRIBE}, {"unsubscribed", RG_PRESENCE_UNSUBSCRIBED},
        {"unavailable", RG_PRESENCE_UNAVAILABLE}, {"error", RG_PRESENCE_ERROR},
    };
    if (type == NULL) {
        *out = RG_PRESENCE_AVAILABLE;
        return true;
    }
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].name, type) == 0) {
            *out = rows[i].type;
            return true;
        }
    }
    return false;
}

/* The text of a child element, cut; "" is none. Hostile, like everything here. */
static void put_child_text(struct rg_frame_out *frame, struct rg_session *session,
                           xmpp_stanza_t *child)
{
    char *text = child == NULL ? NULL : xmpp_stanza_get_text(child);
    size_t len = text == NULL ? 0 : rg_utf8_cut(text, strlen(text), TEXT_MAX);
    rg_put_text(frame, len == 0 ? NULL : text, len);
    if (text != NULL)
        xmpp_free(session->ctx, text);
}

static void put_show(struct rg_frame_out *frame, struct rg_session *session,
                     xmpp_stanza_t *stanza)
{
    static const char *const shows[] = {"away", "chat", "dnd", "xa"};
    xmpp_stanza_t *child = xmpp_stanza_get_child_by_name(stanza, "show");
    char *text = child == NULL ? NULL : xmpp_stanza_get_text(child);
    const char *show = NULL;
    for (size_t i = 0; text != NULL && i < RG_ARRAY_LEN(shows); i++)
        if (strcmp(text, shows[i]) == 0)
            show = shows[i];
    rg_put_str(frame, show);
    if (text != NULL)
        xmpp_free(session->ctx, text);
}

static int read_priority(struct rg_session *session, xmpp_stanza_t *stanza)
{
    xmpp_stanza_t *child = xmpp_stanza_get_child_by_name(stanza, "priority");
    char *text = child == NULL ? NULL : xmpp_stanza_get_text(child);
    long value = text == NULL ? 0 : strtol(text, NULL, 10);
    if (text != NULL)
        xmpp_free(session->ctx, text);
    return value < SCHAR_MIN || value > SCHAR_MAX ? 0 : (int)value;
}

int rg_session_on_presence(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg)
{
    struct rg_session *session = arg;
    struct rg_jid jid;
    struct rg_xmpp_error error = {.condition = RG_XMPP_NONE};
    enum rg_presence_type type;
    (void)conn;
    const char *from = xmpp_stanza_get_from(stanza);
    if (!session->announced || from == NULL || session->worker->ended ||
        !read_type(&type, xmpp_stanza_get_type(stanza)) ||
        rg_jid_prepare(&jid, from, strlen(from), NULL) != RG_OK ||
        (jid.bare_len == strlen(session->self.bare) &&
         memcmp(jid.text, session->self.bare, jid.bare_len) == 0))
        return 1;
    if (type == RG_PRESENCE_ERROR)
        rg_stanza_read_error(session->ctx, stanza, &error);
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_PRESENCE, session->index, session->generation, false);
    rg_put_u8(frame, (uint8_t)type);
    rg_put_text(frame, jid.text, jid.bare_len);
    rg_put_str(frame, jid.has_resource ? jid.text + jid.bare_len + 1 : NULL);
    put_show(frame, session, stanza);
    put_child_text(frame, session, xmpp_stanza_get_child_by_name(stanza, "status"));
    put_child_text(frame, session, xmpp_stanza_get_child_by_ns(stanza, NS_NICK));
    rg_put_u8(frame, (uint8_t)(read_priority(session, stanza) + 128));
    rg_put_u32(frame, error.condition);
    rg_put_u32(frame, error.type);
    rg_put_str(frame, error.text);
    rg_worker_send_take(session->worker, frame);
    return 1;
}

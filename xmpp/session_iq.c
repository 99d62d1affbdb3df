#include <stdlib.h>
#include <string.h>

#include "xmpp/session.h"
#include "xmpp/stanza_roster.h"

enum { NOTE_EVERY_MS = 10000, ITEMS_PER_FRAME = 48 * 1024 };

/* One line per rejected stanza, but not more than one of a kind in ten seconds per session: a
 * hostile peer must not fill the log. The counters have them all. */
void rg_session_note(struct rg_session *session, enum rg_note note)
{
    static const struct {
        const char *event;
        enum rg_count count;
        enum rg_log_level level;
    } notes[RG_NOTE_END] = {
        [RG_NOTE_PUSH_REJECTED] = {"push-rejected", RG_COUNT_PUSH_SENDER, RG_LOG_WARN},
        [RG_NOTE_PUSH_REFUSED] = {"push-refused", RG_COUNT_PUSH_ITEMS, RG_LOG_WARN},
        [RG_NOTE_ANSWER_REJECTED] = {"answer-rejected", RG_COUNT_RESULT_STRANGER, RG_LOG_WARN},
        [RG_NOTE_ITEM_SKIPPED] = {"item-skipped", RG_COUNT_ITEMS_SKIPPED, RG_LOG_WARN},
        /* Servers ping their clients: nothing to worry an administrator with. */
        [RG_NOTE_IQ_REFUSED] = {"iq-refused", RG_COUNT_FOREIGN_IQ, RG_LOG_DEBUG},
        [RG_NOTE_IQ_IGNORED] = {"iq-ignored", RG_COUNT_FOREIGN_IQ, RG_LOG_WARN},
    };
    struct rg_worker *worker = session->worker;
    int64_t *noted_ms = &session->noted_ms[note];
    worker->counts[notes[note].count]++;
    if (*noted_ms != 0 && worker->now_ms - *noted_ms < NOTE_EVERY_MS)
        return;
    *noted_ms = worker->now_ms;
    rg_log(notes[note].level, "xmpp", notes[note].event, RG_STR("user", session->name),
           RG_STR("domain", worker->domain));
}

void rg_session_send_take(struct rg_session *session, xmpp_stanza_t *stanza)
{
    if (stanza == NULL)
        return;
    xmpp_send(session->conn, stanza);
    xmpp_stanza_release(stanza);
    session->queued = true;
    rg_session_ready(session);
}

/* ---- towards the front ---- */

static struct rg_frame_out *frame_of(struct rg_session *session, enum rg_frame_type type)
{
    return rg_frame_new(type, session->index, session->generation, false);
}

static void send_done(struct rg_session *session, uint32_t request, const struct rg_err *err)
{
    struct rg_frame_out *frame = frame_of(session, RG_FRAME_DONE);
    rg_put_u32(frame, request);
    rg_put_u32(frame, err->code);
    rg_put_u32(frame, err->xmpp.condition);
    rg_put_u32(frame, err->xmpp.type);
    rg_put_str(frame, err->xmpp.text);
    rg_put_str(frame, err->text);
    rg_worker_send_take(session->worker, frame);
}

/* No text is longer than what every store can keep. */
static bool is_keepable(const struct rg_item_in *item)
{
    bool fits = item->name == NULL || strlen(item->name) <= UINT16_MAX;
    for (size_t i = 0; i < item->n_groups; i++)
        fits = fits && strlen(item->groups[i]) <= UINT16_MAX;
    return fits;
}

static void put_item(struct rg_frame_out *frame, const struct rg_item_in *item)
{
    if (frame != NULL && !is_keepable(item))
        frame->failed = true;
    rg_put_text(frame, item->jid.text, item->jid.len);
    rg_put_str(frame, item->name);
    rg_put_u8(frame, item->subscription);
    rg_put_u8(frame, item->ask);
    rg_put_u8(frame, item->approved);
    rg_put_u32(frame, (uint32_t)item->n_groups);
    for (size_t i = 0; i < item->n_groups; i++)
        rg_put_str(frame, item->groups[i]);
}

/* A server's `ver` that no frame or later request could carry is as good as none. */
static const char *usable_ver(xmpp_stanza_t *query)
{
    const char *ver = query == NULL ? NULL : xmpp_stanza_get_attribute(query, "ver");
    return ver != NULL && strlen(ver) < RG_FRAME_MAX / 2 ? ver : NULL;
}

/* Adds one item, beginning a new frame when this one is full. An item that fills a frame alone
 * cannot be shown: skipped and counted, here and in pushes alike. */
static struct rg_frame_out *pack_item(struct rg_session *session, struct rg_frame_out *frame,
                                      const struct rg_item_in *item)
{
    size_t mark = frame == NULL ? 0 : frame->len;
    put_item(frame, item);
    if (frame != NULL && frame->failed && mark > RG_FRAME_HEAD) {
        rg_frame_rewind(frame, mark);
        rg_worker_send_take(session->worker, frame);
        frame = frame_of(session, RG_FRAME_ROSTER_ITEMS);
        mark = frame == NULL ? 0 : frame->len;
        put_item(frame, item);
    }
    if (frame != NULL && frame->failed) {
        rg_frame_rewind(frame, mark);
        rg_session_note(session, RG_NOTE_ITEM_SKIPPED);
    }
    if (frame == NULL || frame->len < ITEMS_PER_FRAME)
        return frame;
    rg_worker_send_take(session->worker, frame);
    return frame_of(session, RG_FRAME_ROSTER_ITEMS);
}

static bool send_items(struct rg_session *session, xmpp_stanza_t *query)
{
    struct rg_frame_out *frame = frame_of(session, RG_FRAME_ROSTER_ITEMS);
    for (xmpp_stanza_t *at = rg_stanza_first_item(query); at != NULL;
         at = rg_stanza_next_item(xmpp_stanza_get_next(at))) {
        struct rg_item_in item;
        enum rg_code code = rg_item_in_read(&item, session->ctx, at);
        if (code == RG_OK && item.remove) { /* nonsense in a result: not an item (R16) */
            item.remove = false;
        } else if (code == RG_E_INVALID_JID) {
            rg_session_note(session, RG_NOTE_ITEM_SKIPPED); /* R18 */
            continue;
        } else if (code != RG_OK) {
            rg_frame_free(frame);
            return false;
        }
        frame = pack_item(session, frame, &item);
        rg_item_in_fini(&item);
    }
    if (frame != NULL && frame->len == RG_FRAME_HEAD)
        rg_frame_free(frame);
    else
        rg_worker_send_take(session->worker, frame);
    return true;
}

static size_t count_items(xmpp_stanza_t *query)
{
    size_t n = 0;
    for (xmpp_stanza_t *at = rg_stanza_first_item(query); at != NULL;
         at = rg_stanza_next_item(xmpp_stanza_get_next(at)))
        n++;
    return n;
}

static void send_roster(struct rg_session *session, uint32_t request, xmpp_stanza_t *iq)
{
    struct rg_err err = RG_ERR_INIT;
    xmpp_stanza_t *query = rg_stanza_query(iq);
    size_t max = session->worker->items_max;
    if (count_items(query) > max) {
        struct rg_xmpp_error said = {.condition = RG_XMPP_RESOURCE_CONSTRAINT,
                                     .type = RG_XMPP_TYPE_WAIT,
                                     .text = "the roster has more items than limits.items"};
        rg_fail_xmpp(&err, &said);
        send_done(session, request, &err);
        return;
    }
    struct rg_frame_out *begin = frame_of(session, RG_FRAME_ROSTER_BEGIN);
    rg_put_u32(begin, request);
    rg_put_str(begin, usable_ver(query));
    rg_worker_send_take(session->worker, begin);
    if (!send_items(session, query)) {
        rg_fail(&err, RG_E_INTERNAL, "out of memory");
        send_done(session, request, &err);
        return;
    }
    struct rg_frame_out *end = frame_of(session, RG_FRAME_ROSTER_END);
    rg_put_u32(end, request);
    rg_put_u8(end, query == NULL); /* R11: what `ver` named is current */
    rg_worker_send_take(session->worker, end);
}

/* ---- what the server sends ---- */

static void on_answer(struct rg_session *session, xmpp_stanza_t *stanza, bool is_error)
{
    struct rg_err err = RG_ERR_INIT;
    const char *id = xmpp_stanza_get_id(stanza);
    if (id != NULL && strncmp(id, "_xmpp_", 6) == 0)
        return; /* to libstrophe's own bind or session request, which brought us here */
    struct rg_iq *iq = rg_iq_find(&session->iqs, id);
    if (iq == NULL || !rg_self_answers(&session->self, xmpp_stanza_get_from(stanza))) {
        rg_session_note(session, RG_NOTE_ANSWER_REJECTED); /* R20 */
        return;
    }
    uint32_t request = iq->request;
    bool is_get = iq->kind == RG_IQ_ROSTER_GET;
    rg_iq_remove(&session->iqs, iq);
    if (is_error) {
        struct rg_xmpp_error said;
        rg_stanza_read_error(session->ctx, stanza, &said);
        rg_fail_xmpp(&err, &said);
        send_done(session, request, &err);
    } else if (is_get) {
        send_roster(session, request, stanza);
    } else {
        send_done(session, request, &err);
    }
}

static void send_push(struct rg_session *session, const struct rg_item_in *item,
                      const char *ver)
{
    struct rg_frame_out *frame = frame_of(session, RG_FRAME_PUSH);
    rg_put_str(frame, ver);
    size_t mark = frame == NULL ? 0 : frame->len;
    rg_put_u8(frame, item->remove);
    if (item->remove)
        rg_put_text(frame, item->jid.text, item->jid.len);
    else
        put_item(frame, item);
    if (frame != NULL &&
        frame->failed) { /* too large to show: as in a result, it is not there */
        rg_session_note(session, RG_NOTE_ITEM_SKIPPED);
        rg_frame_rewind(frame, mark);
        rg_put_u8(frame, 1);
        rg_put_text(frame, item->jid.text, item->jid.len);
    }
    rg_worker_send_take(session->worker, frame);
}

/* R39-R46. A stranger's push is ignored in silence: an answer would tell that we are here. */
static void on_push(struct rg_session *session, xmpp_stanza_t *stanza, xmpp_stanza_t *query)
{
    if (!rg_self_pushes(&session->self, xmpp_stanza_get_from(stanza))) {
        rg_session_note(session, RG_NOTE_PUSH_REJECTED);
        return;
    }
    xmpp_stanza_t *first = rg_stanza_first_item(query);
    struct rg_item_in item;
    enum rg_code code = RG_E_INVALID_JID;
    bool one = first != NULL && rg_stanza_next_item(xmpp_stanza_get_next(first)) == NULL;
    if (one)
        code = rg_item_in_read(&item, session->ctx, first);
    if (code == RG_E_INVALID_JID) {
        rg_session_note(session, RG_NOTE_PUSH_REFUSED);
        rg_session_send_take(session,
                             rg_stanza_refusal(session->ctx, stanza, "modify", "bad-request"));
        if (!one) /* what it said of good items is not known here now (Tigase packs them) */
            rg_worker_send_take(session->worker, frame_of(session, RG_FRAME_DOUBT));
        return;
    }
    if (code != RG_OK) { /* out of memory: a lost push would be a lie, a lost stream is not */
        rg_fail(&session->why, RG_E_UNREACHABLE, "out of memory");
        rg_session_leave(session);
        return;
    }
    session->worker->counts[RG_COUNT_PUSHES]++;
    rg_session_send_take(session, rg_stanza_result(session->ctx, stanza)); /* R43 */
    send_push(session, &item, usable_ver(query));
    rg_item_in_fini(&item);
}

int rg_session_on_iq(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg)
{
    struct rg_session *session = arg;
    (void)conn;
    const char *type = xmpp_stanza_get_type(stanza);
    if (type == NULL || session->worker->ended)
        return 1;
    if (strcmp(type, "result") == 0 || strcmp(type, "error") == 0) {
        on_answer(session, stanza, type[0] == 'e');
        return 1;
    }
    bool is_set = strcmp(type, "set") == 0;
    if ((!is_set && strcmp(type, "get") != 0) || xmpp_stanza_get_id(stanza) == NULL) {
        rg_session_note(session, RG_NOTE_IQ_IGNORED);
        return 1;
    }
    xmpp_stanza_t *query = is_set ? rg_stanza_query(stanza) : NULL;
    if (query != NULL) {
        on_push(session, stanza, query);
    } else {
        rg_session_note(session, RG_NOTE_IQ_REFUSED);
        rg_session_send_take(session, rg_stanza_refusal(session->ctx, stanza, "cancel",
                                                        "service-unavailable")); /* R54 */
    }
    return 1;
}

/* ---- what the front asks for ---- */

/* Sends what `build` made under a new id; answers at once if it cannot be sent. */
static struct rg_iq *begin_iq(struct rg_session *session, enum rg_iq_kind kind,
                              uint32_t request, struct rg_err *err)
{
    struct rg_worker *worker = session->worker;
    if (session->state != RG_SESSION_UP) {
        rg_fail(err, RG_E_UNREACHABLE, "the session is not up");
        return NULL;
    }
    struct rg_iq *iq = rg_iq_add(&session->iqs, kind, request,
                                 worker->now_ms + worker->iq_timeout_ms, session);
    if (iq == NULL)
        rg_fail(err, RG_E_INTERNAL, "out of memory");
    return iq;
}

static void finish_iq_take(struct rg_session *session, struct rg_iq *iq, xmpp_stanza_t *stanza,
                           struct rg_err *err)
{
    if (stanza != NULL) {
        rg_session_send_take(session, stanza);
        return;
    }
    rg_fail(err, RG_E_INTERNAL, "out of memory");
    send_done(session, iq->request, err);
    rg_iq_remove(&session->iqs, iq);
}

void rg_session_roster_get(struct rg_session *session, uint32_t request, const char *ver)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_iq *iq = begin_iq(session, RG_IQ_ROSTER_GET, request, &err);
    if (iq == NULL) {
        send_done(session, request, &err);
        return;
    }
    finish_iq_take(session, iq, rg_stanza_roster_get(session->ctx, iq->id, ver), &err);
}

void rg_session_item_set(struct rg_session *session, uint32_t request, const char *jid,
                         const char *name, const char *const *groups, size_t n_groups)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_iq *iq = NULL;
    if (rg_stanza_sendable(jid, name, groups, n_groups, &err) == RG_OK)
        iq = begin_iq(session, RG_IQ_ITEM_SET, request, &err);
    if (iq == NULL) {
        send_done(session, request, &err);
        return;
    }
    finish_iq_take(session, iq,
                   rg_stanza_item_set(session->ctx, iq->id, jid, name, groups, n_groups), &err);
}

void rg_session_item_remove(struct rg_session *session, uint32_t request, const char *jid)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_iq *iq = NULL;
    if (rg_stanza_sendable(jid, NULL, NULL, 0, &err) == RG_OK)
        iq = begin_iq(session, RG_IQ_ITEM_REMOVE, request, &err);
    if (iq == NULL) {
        send_done(session, request, &err);
        return;
    }
    finish_iq_take(session, iq, rg_stanza_item_remove(session->ctx, iq->id, jid), &err);
}

void rg_session_announce(struct rg_session *session, bool available)
{
    if (session->state != RG_SESSION_UP)
        return;
    session->announced = available;
    rg_session_send_take(session, rg_stanza_announce(session->ctx, available));
}

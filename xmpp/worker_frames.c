#include <stdlib.h>
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/base/text.h"
#include "xmpp/session.h"
#include "xmpp/worker.h"

enum { INDEX_MAX = 1 << 20, GROUPS_MAX = RG_FRAME_MAX / 6 };

static bool on_config(struct rg_worker *worker, struct rg_reader *reader)
{
    size_t len;
    const char *domain = rg_get_str(reader, &len);
    worker->plaintext = rg_get_bool(reader);
    uint64_t stanza_bytes = rg_get_u64(reader);
    uint64_t items = rg_get_u64(reader);
    uint64_t iq_timeout_ms = rg_get_u64(reader);
    uint8_t level = rg_get_u8(reader);
    if (!rg_reader_done(reader) || worker->configured || len >= sizeof(worker->domain) ||
        iq_timeout_ms > INT32_MAX || level > RG_LOG_ERROR)
        return false;
    memcpy(worker->domain, domain, len + 1);
    worker->stanza_bytes = (size_t)stanza_bytes;
    worker->items_max = (size_t)items;
    worker->iq_timeout_ms = (int64_t)iq_timeout_ms;
    rg_log_set_level((enum rg_log_level)level);
    worker->configured = true;
    struct rg_frame_out *ready = rg_frame_new(RG_FRAME_READY, 0, 0, false);
    rg_put_u32(ready, worker->session_max);
    rg_worker_send_take(worker, ready);
    return true;
}

static bool make_place(struct rg_worker *worker, uint32_t index)
{
    if (index < worker->table_n)
        return worker->table[index] == NULL;
    if (index >= INDEX_MAX)
        return false;
    size_t n = worker->table_n == 0 ? 256 : worker->table_n;
    while (n <= index)
        n *= 2;
    struct rg_session **table = realloc(worker->table, n * sizeof(*table));
    if (table == NULL)
        return false;
    memset(table + worker->table_n, 0, (n - worker->table_n) * sizeof(*table));
    worker->table = table;
    worker->table_n = n;
    return true;
}

static void refuse_open(struct rg_worker *worker, const struct rg_frame *frame,
                        const struct rg_err *err)
{
    struct rg_frame_out *closed =
        rg_frame_new(RG_FRAME_CLOSED, frame->session, frame->generation, false);
    rg_put_u32(closed, err->code);
    rg_put_u8(closed, RG_STAGE_CONNECT);
    rg_put_str(closed, err->text);
    rg_worker_send_take(worker, closed);
}

static bool on_open(struct rg_worker *worker, const struct rg_frame *frame,
                    struct rg_reader *reader)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_session_options options = {.index = frame->session,
                                         .generation = frame->generation};
    options.verify = rg_get_bool(reader);
    options.user = rg_get_str(reader, NULL);
    options.name = rg_get_str(reader, NULL);
    options.password = rg_get_str(reader, NULL);
    options.address = rg_get_str(reader, NULL);
    uint32_t port = rg_get_u32(reader);
    options.direct_tls = rg_get_bool(reader);
    options.port = (uint16_t)port;
    if (!rg_reader_done(reader) || port == 0 || port > UINT16_MAX ||
        !make_place(worker, frame->session))
        return false;
    if (worker->stopping)
        rg_fail(&err, RG_E_CANCELLED, "stopping");
    else
        rg_session_create(worker, &options, &err);
    if (err.code != RG_OK)
        refuse_open(worker, frame, &err);
    return true;
}

static bool on_roster_get(struct rg_session *session, struct rg_reader *reader)
{
    size_t len;
    uint32_t request = rg_get_u32(reader);
    const char *ver = rg_get_opt_str(reader, &len);
    if (!rg_reader_done(reader))
        return false;
    /* A version no server can have given is a damaged cache: as if nothing were cached (R5). */
    if (ver != NULL && !rg_text_sendable(ver, len))
        ver = "";
    rg_session_roster_get(session, request, ver);
    return true;
}

static bool on_item_set(struct rg_session *session, struct rg_reader *reader)
{
    uint32_t request = rg_get_u32(reader);
    const char *jid = rg_get_str(reader, NULL);
    const char *name = rg_get_opt_str(reader, NULL);
    uint32_t n = rg_get_u32(reader);
    if (reader->bad || n > GROUPS_MAX)
        return false;
    const char **groups = calloc(n + 1, sizeof(*groups));
    if (groups == NULL)
        return false;
    for (uint32_t i = 0; i < n; i++)
        groups[i] = rg_get_str(reader, NULL);
    bool good = rg_reader_done(reader);
    if (good)
        rg_session_item_set(session, request, jid, name, groups, n);
    free(groups);
    return good;
}

static bool on_item_remove(struct rg_session *session, struct rg_reader *reader)
{
    uint32_t request = rg_get_u32(reader);
    const char *jid = rg_get_str(reader, NULL);
    if (!rg_reader_done(reader))
        return false;
    rg_session_item_remove(session, request, jid);
    return true;
}

static bool on_announce(struct rg_session *session, struct rg_reader *reader)
{
    bool available = rg_get_bool(reader);
    if (!rg_reader_done(reader))
        return false;
    rg_session_announce(session, available);
    return true;
}

static bool on_end(struct rg_session *session, bool abort_it)
{
    if (abort_it)
        rg_session_end(session, true); /* the front has forgotten it already */
    else
        rg_session_leave(session);
    return true;
}

static void on_shutdown(struct rg_worker *worker)
{
    struct rg_session *session = TAILQ_FIRST(&worker->sessions);
    worker->stopping = true;
    worker->stop_by_ms = worker->now_ms + RG_WORKER_LEAVE_MS;
    while (session != NULL) {
        struct rg_session *next = TAILQ_NEXT(session, of_worker);
        rg_session_leave(session); /* may go to the dead at once */
        session = next;
    }
}

/* A frame to one session; one that is gone meanwhile is no mistake of the front. */
static bool to_session(struct rg_worker *worker, const struct rg_frame *frame,
                       struct rg_reader *reader)
{
    struct rg_session *session = rg_worker_find(worker, frame->session, frame->generation);
    if (session == NULL || session->state == RG_SESSION_DOWN)
        return true;
    if (frame->type == RG_FRAME_CLOSE)
        return on_end(session, false);
    if (frame->type == RG_FRAME_ABORT)
        return on_end(session, true);
    if (frame->type == RG_FRAME_ROSTER_GET)
        return on_roster_get(session, reader);
    if (frame->type == RG_FRAME_ITEM_SET)
        return on_item_set(session, reader);
    if (frame->type == RG_FRAME_ITEM_REMOVE)
        return on_item_remove(session, reader);
    return on_announce(session, reader);
}

bool rg_worker_frame(struct rg_worker *worker, const struct rg_frame *frame)
{
    struct rg_reader reader = rg_reader_of(frame);
    if (worker->configured == (frame->type == RG_FRAME_CONFIG))
        return false;
    switch (frame->type) {
    case RG_FRAME_CONFIG:
        return on_config(worker, &reader);
    case RG_FRAME_OPEN:
        return on_open(worker, frame, &reader);
    case RG_FRAME_CLOSE:
    case RG_FRAME_ABORT:
    case RG_FRAME_ROSTER_GET:
    case RG_FRAME_ITEM_SET:
    case RG_FRAME_ITEM_REMOVE:
    case RG_FRAME_ANNOUNCE:
        return to_session(worker, frame, &reader);
    case RG_FRAME_SHUTDOWN:
        on_shutdown(worker);
        return true;
    case RG_FRAME_READY:
    case RG_FRAME_BEAT:
    case RG_FRAME_SOCKET:
    case RG_FRAME_HANDSHAKE:
    case RG_FRAME_BOUND:
    case RG_FRAME_CLOSED:
    case RG_FRAME_PUSH:
    case RG_FRAME_DOUBT:
    case RG_FRAME_PRESENCE:
    case RG_FRAME_DONE:
    case RG_FRAME_ROSTER_BEGIN:
    case RG_FRAME_ROSTER_ITEMS:
    case RG_FRAME_ROSTER_END:
    case RG_FRAME_TYPE_END:
        break;
    }
    return false;
}

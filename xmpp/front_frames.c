/* What a worker says. Every word of it is checked: a worker that was taken over, or went mad,
 * may cost its own sessions and nothing else. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xmpp/front.h"

enum { GROUPS_MAX = RG_FRAME_MAX / 6 };

static bool on_ready(struct rg_process *process, struct rg_reader *reader)
{
    uint32_t capacity = rg_get_u32(reader);
    if (!rg_reader_done(reader))
        return false;
    process->capacity = capacity;
    return true;
}

static bool on_beat(struct rg_process *process, struct rg_reader *reader)
{
    if (rg_get_u32(reader) != RG_COUNT_END)
        return false;
    for (size_t i = 0; i < RG_COUNT_END; i++) {
        uint64_t now = rg_get_u64(reader);
        uint64_t before = process->counts[i];
        process->counts[i] = now;
        if (i == RG_COUNT_FD_FREE)
            rg_metric_set(process->fd_free, (int64_t)now);
        if (process->front->counters[i] != NULL && now > before)
            rg_metric_add(process->front->counters[i], (int64_t)(now - before));
    }
    return rg_reader_done(reader);
}

/* A copy of the socket, so that a handshake that hangs can be ended from here. */
static bool on_socket(struct rg_process *process, struct rg_visit *visit)
{
    int fd;
    if (!rg_link_take_fd(&process->link, &fd))
        return false;
    if (visit == NULL || visit->state != RG_VISIT_OPENING || visit->fd >= 0) {
        if (fd >= 0)
            close(fd);
        return true;
    }
    visit->fd = fd;
    if (fd < 0) /* no room for it: a sign-in that nobody could end is not begun */
        rg_visit_doom(visit, RG_E_UNREACHABLE, "out of descriptors");
    return true;
}

static bool on_handshake(struct rg_process *process, struct rg_visit *visit,
                         struct rg_reader *reader)
{
    bool begins = rg_get_bool(reader);
    if (!rg_reader_done(reader))
        return false;
    if (visit->state != RG_VISIT_OPENING)
        return true;
    if (!begins)
        visit->secured = true; /* or failed: then CLOSED follows */
    rg_process_handshake(process, begins ? visit : NULL);
    return true;
}

static bool on_bound(struct rg_visit *visit, struct rg_reader *reader)
{
    struct rg_upstream_features features;
    features.roster_versioning = rg_get_bool(reader);
    features.pre_approval = rg_get_bool(reader);
    if (!rg_reader_done(reader) || !visit->signing_in)
        return false;
    rg_visit_bound(visit, &features);
    return true;
}

static bool on_closed(struct rg_visit *visit, struct rg_reader *reader)
{
    struct rg_err why = RG_ERR_INIT;
    uint32_t code = rg_get_u32(reader);
    uint8_t stage = rg_get_u8(reader);
    const char *text = rg_get_str(reader, NULL);
    if (!rg_reader_done(reader) || code == RG_OK || code >= RG_CODE_COUNT ||
        stage >= RG_STAGE_COUNT)
        return false;
    visit->at_worker = false;
    rg_fail(&why, (enum rg_code)code, "%s", text);
    if (visit->state == RG_VISIT_OPENING) {
        if (stage == RG_STAGE_TLS)
            rg_visit_handshake_failed(visit);
        if (visit->state == RG_VISIT_OPENING)
            rg_visit_attempt_failed(visit, (enum rg_stage)stage, &why);
    } else if (visit->state == RG_VISIT_CLOSING || visit->front->stopping) {
        rg_visit_doom(visit, RG_E_CANCELLED, "closed");
    } else {
        rg_visit_doom(visit, RG_E_UNREACHABLE, why.text);
    }
    return true;
}

/* *out (own) is an item, NULL when the frame is nonsense or memory is short. */
static struct rg_item *read_item(struct rg_reader *reader)
{
    struct rg_item_spec spec = {0};
    size_t len;
    spec.jid = rg_get_str(reader, &len);
    spec.name = rg_get_opt_str(reader, NULL);
    uint8_t subscription = rg_get_u8(reader);
    spec.ask = rg_get_bool(reader);
    spec.approved = rg_get_bool(reader);
    uint32_t n = rg_get_u32(reader);
    if (reader->bad || len == 0 || subscription >= RG_SUB_COUNT || n > GROUPS_MAX)
        return NULL;
    spec.subscription = (enum rg_subscription)subscription;
    const char **groups = calloc(n + 1, sizeof(*groups));
    if (groups == NULL)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        groups[i] = rg_get_str(reader, NULL);
    spec.groups = groups;
    spec.n_groups = n;
    struct rg_item *item = reader->bad ? NULL : rg_item_create(&spec);
    free(groups);
    return item;
}

static bool on_push(struct rg_visit *visit, struct rg_reader *reader)
{
    struct rg_upstream_push push = {0};
    RG_CLEANUP(rg_item_unrefp) struct rg_item *item = NULL;
    push.ver = rg_get_opt_str(reader, &push.ver_len);
    if (rg_get_bool(reader)) {
        push.jid = rg_get_str(reader, NULL);
    } else {
        item = read_item(reader);
        if (item == NULL)
            return false;
        push.jid = item->jid;
        push.item = item;
    }
    if (!rg_reader_done(reader) || push.jid[0] == '\0')
        return false;
    if (visit->state == RG_VISIT_UP || visit->state == RG_VISIT_CLOSING)
        visit->handler->push(visit->arg, &push);
    return true;
}

static bool on_doubt(struct rg_visit *visit, struct rg_reader *reader)
{
    if (!rg_reader_done(reader))
        return false;
    if (visit->state == RG_VISIT_UP && visit->handler->doubt != NULL)
        visit->handler->doubt(visit->arg);
    return true;
}

static bool read_error(struct rg_reader *reader, struct rg_xmpp_error *out)
{
    size_t len;
    uint32_t condition = rg_get_u32(reader);
    uint32_t type = rg_get_u32(reader);
    const char *text = rg_get_str(reader, &len);
    if (reader->bad || condition >= RG_XMPP_CONDITION_COUNT || type >= RG_XMPP_TYPE_COUNT ||
        len >= sizeof(out->text))
        return false;
    out->condition = (enum rg_condition)condition;
    out->type = (enum rg_xmpp_type)type;
    memcpy(out->text, text, len + 1);
    return true;
}

static bool on_presence(struct rg_visit *visit, struct rg_reader *reader)
{
    struct rg_upstream_presence presence = {0};
    uint8_t type = rg_get_u8(reader);
    presence.jid = rg_get_str(reader, NULL);
    presence.resource = rg_get_opt_str(reader, NULL);
    presence.show = rg_get_opt_str(reader, NULL);
    presence.status = rg_get_opt_str(reader, NULL);
    presence.nick = rg_get_opt_str(reader, NULL);
    presence.priority = (int)rg_get_u8(reader) - 128;
    if (!read_error(reader, &presence.error) || !rg_reader_done(reader) ||
        type > RG_PRESENCE_ERROR)
        return false;
    presence.type = (enum rg_presence_type)type;
    if (visit->state == RG_VISIT_UP && visit->handler->presence != NULL)
        visit->handler->presence(visit->arg, &presence);
    return true;
}

static bool on_done(struct rg_visit *visit, struct rg_reader *reader)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_xmpp_error said = {0};
    uint32_t id = rg_get_u32(reader);
    uint32_t code = rg_get_u32(reader);
    if (!read_error(reader, &said) || code >= RG_CODE_COUNT)
        return false;
    const char *text = rg_get_str(reader, NULL);
    if (!rg_reader_done(reader))
        return false;
    if (code == RG_E_XMPP)
        rg_fail_xmpp(&err, &said);
    else if (code != RG_OK)
        rg_fail(&err, (enum rg_code)code, "%s", text);
    struct rg_request *request = rg_visit_take_request(visit, id);
    if (request == NULL || (request->on_roster != NULL && code == RG_OK)) {
        free(request); /* only nonsense can answer what nobody asked */
        return false;
    }
    rg_visit_drop_reading(visit);
    rg_visit_arm(visit);
    struct rg_roster_answer answer = {.err = err};
    if (request->on_roster != NULL)
        request->on_roster(request->arg, &answer);
    else
        request->on_done(request->arg, &err);
    free(request);
    return true;
}

/* ---- a roster: begin, items, end ---- */

static bool is_waiting_for(const struct rg_visit *visit, uint32_t id)
{
    const struct rg_request *request;
    TAILQ_FOREACH(request, &visit->requests, link)
    if (request->id == id)
        return request->on_roster != NULL;
    return false;
}

static bool on_roster_begin(struct rg_visit *visit, struct rg_reader *reader)
{
    size_t len;
    uint32_t id = rg_get_u32(reader);
    const char *ver = rg_get_opt_str(reader, &len);
    if (!rg_reader_done(reader) || visit->reading || !is_waiting_for(visit, id))
        return false;
    visit->reading_ver = ver == NULL ? NULL : strdup(ver);
    if (ver != NULL && visit->reading_ver == NULL)
        return false;
    visit->reading_ver_len = len;
    visit->reading = true;
    visit->reading_request = id;
    visit->reading_bytes = 0;
    rg_roster_builder_init(&visit->builder);
    return true;
}

static bool on_roster_items(struct rg_visit *visit, struct rg_reader *reader, size_t bytes)
{
    const struct rg_config *config = visit->front->config;
    visit->reading_bytes += bytes;
    if (!visit->reading || visit->reading_bytes > 2 * (size_t)config->limits.stanza_bytes)
        return false;
    while (!rg_reader_done(reader)) {
        struct rg_item *item = read_item(reader);
        if (item == NULL || visit->builder.n >= (size_t)config->limits.items) {
            rg_item_unref(item);
            return false;
        }
        rg_roster_builder_add_take(&visit->builder, item);
    }
    return true;
}

static bool on_roster_end(struct rg_visit *visit, struct rg_reader *reader)
{
    struct rg_roster_answer answer = {.err = RG_ERR_INIT};
    uint32_t id = rg_get_u32(reader);
    answer.unchanged = rg_get_bool(reader);
    if (!rg_reader_done(reader) || !visit->reading || visit->reading_request != id)
        return false;
    struct rg_request *request = rg_visit_take_request(visit, id);
    if (request == NULL || request->on_roster == NULL ||
        (answer.unchanged && visit->builder.n > 0)) {
        free(request);
        return false;
    }
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *roster = NULL;
    RG_CLEANUP(rg_freep) char *ver = RG_TAKE(visit->reading_ver);
    if (!answer.unchanged) {
        roster = rg_roster_builder_finish(&visit->builder);
        if (roster == NULL)
            rg_fail(&answer.err, RG_E_INTERNAL, "out of memory");
        rg_metric_add(visit->front->merged, (int64_t)visit->builder.duplicates); /* R17 */
    }
    answer.roster = roster;
    answer.ver = ver;
    answer.ver_len = visit->reading_ver_len;
    rg_visit_drop_reading(visit);
    rg_visit_arm(visit);
    request->on_roster(request->arg, &answer);
    free(request);
    return true;
}

/* ---- all of them ---- */

static bool about_visit(struct rg_process *process, struct rg_visit *visit,
                        const struct rg_frame *frame, struct rg_reader *reader)
{
    bool up = visit->state == RG_VISIT_UP || visit->state == RG_VISIT_CLOSING;
    switch (frame->type) {
    case RG_FRAME_HANDSHAKE:
        return on_handshake(process, visit, reader);
    case RG_FRAME_BOUND:
        return on_bound(visit, reader);
    case RG_FRAME_CLOSED:
        return on_closed(visit, reader);
    case RG_FRAME_PUSH:
        return up && on_push(visit, reader);
    case RG_FRAME_DOUBT:
        return up && on_doubt(visit, reader);
    case RG_FRAME_PRESENCE:
        return up && on_presence(visit, reader);
    case RG_FRAME_DONE:
        return up && on_done(visit, reader);
    case RG_FRAME_ROSTER_BEGIN:
        return up && on_roster_begin(visit, reader);
    case RG_FRAME_ROSTER_ITEMS:
        return up && on_roster_items(visit, reader, frame->len);
    case RG_FRAME_ROSTER_END:
        return up && on_roster_end(visit, reader);
    case RG_FRAME_CONFIG:
    case RG_FRAME_OPEN:
    case RG_FRAME_CLOSE:
    case RG_FRAME_ABORT:
    case RG_FRAME_ROSTER_GET:
    case RG_FRAME_ITEM_SET:
    case RG_FRAME_ITEM_REMOVE:
    case RG_FRAME_ANNOUNCE:
    case RG_FRAME_SHUTDOWN:
    case RG_FRAME_READY:
    case RG_FRAME_BEAT:
    case RG_FRAME_SOCKET:
    case RG_FRAME_TYPE_END:
        break;
    }
    return false;
}

bool rg_process_frame(struct rg_process *process, const struct rg_frame *frame)
{
    struct rg_reader reader = rg_reader_of(frame);
    struct rg_front *front = process->front;
    if (frame->type == RG_FRAME_READY)
        return on_ready(process, &reader);
    if (frame->type == RG_FRAME_BEAT)
        return on_beat(process, &reader);
    struct rg_visit *visit =
        frame->session < front->table_n ? front->table[frame->session] : NULL;
    /* Another worker's session, or an attempt that is over: late, not wrong. */
    if (visit != NULL && (visit->process != process || !visit->at_worker ||
                          visit->generation != frame->generation))
        visit = NULL;
    if (frame->type == RG_FRAME_SOCKET)
        return on_socket(process, visit);
    if (visit != NULL)
        return about_visit(process, visit, frame, &reader);
    return frame->type > RG_FRAME_BEAT;
}

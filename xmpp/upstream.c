#include "xmpp/upstream.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"
#include "xmpp/front.h"
#include "xmpp/stanza_roster.h"

static struct rg_front *front_of(struct rg_upstream *up)
{
    return RG_CONTAINER_OF(up, struct rg_front, up);
}

static struct rg_served *find_served(struct rg_front *front, const char *domain)
{
    for (size_t i = 0; i < front->n_served; i++)
        if (strcmp(front->served[i].domain.domain, domain) == 0)
            return &front->served[i];
    return NULL;
}

struct rg_visit *rg_front_visit(struct rg_front *front, uint64_t id)
{
    uint64_t place = id & UINT32_MAX;
    if (place == 0 || place > front->table_n)
        return NULL;
    struct rg_visit *visit = front->table[place - 1];
    return visit != NULL && visit->id == id ? visit : NULL;
}

/* ---- what is due, from the loop ---- */

static bool all_ended(const struct rg_front *front)
{
    if (front->n_visits > 0 || !LIST_EMPTY(&front->corpses))
        return false;
    for (size_t i = 0; i < front->n_served; i++)
        for (size_t k = 0; k < front->served[i].n_processes; k++)
            if (front->served[i].processes[k].running)
                return false;
    return true;
}

static void do_processes(struct rg_front *front)
{
    for (size_t i = 0; i < front->n_served; i++) {
        for (size_t k = 0; k < front->served[i].n_processes; k++) {
            struct rg_process *process = &front->served[i].processes[k];
            if (process->failing != NULL)
                rg_process_end(process, process->failing);
            else if (process->running && process->more)
                rg_process_read(process);
        }
    }
}

static void on_message(struct rg_message *message)
{
    struct rg_front *front = RG_CONTAINER_OF(message, struct rg_front, message);
    struct rg_visit_list doomed = TAILQ_HEAD_INITIALIZER(doomed);
    struct rg_visit *visit;
    front->posted = false;
    do_processes(front);
    TAILQ_CONCAT(&doomed, &front->doomed, link); /* those doomed meanwhile come next time */
    while ((visit = TAILQ_FIRST(&doomed)) != NULL) {
        TAILQ_REMOVE(&doomed, visit, link);
        rg_visit_bury(visit);
    }
    if (front->stopping && !front->stopped && all_ended(front)) {
        front->stopped = true;
        rg_timer_stop(&front->stop_timer, front->loop);
        front->stop_fn(front->stop_arg);
    }
}

void rg_front_later(struct rg_front *front)
{
    if (front->posted)
        return;
    front->posted = true;
    front->message.fn = on_message;
    rg_loop_post(front->loop, &front->message);
}

/* ---- the port ---- */

static bool op_serves(struct rg_upstream *up, const char *domain)
{
    return find_served(front_of(up), domain) != NULL;
}

static enum rg_code op_open(struct rg_upstream *up, enum rg_upstream_mode mode,
                            const char *user, struct rg_secret *password_take,
                            const struct rg_upstream_handler *handler, void *arg,
                            uint64_t *out_session, struct rg_err *err)
{
    struct rg_front *front = front_of(up);
    const char *at = strrchr(user, '@');
    struct rg_served *served = find_served(front, at == NULL ? user : at + 1);
    enum rg_code code = RG_OK;
    rg_loop_assert_owner(front->loop);
    if (front->stopping)
        code = rg_fail(err, RG_E_CANCELLED, "stopping");
    else if (served == NULL)
        code = rg_fail(err, RG_E_DOMAIN, "this domain is not served");
    if (code == RG_OK)
        return rg_visit_open(front, served, mode, user, password_take, handler, arg,
                             out_session, err);
    rg_secret_destroy(password_take);
    return code;
}

static void op_close(struct rg_upstream *up, uint64_t session)
{
    struct rg_visit *visit = rg_front_visit(front_of(up), session);
    if (visit != NULL)
        rg_visit_close(visit);
}

static void op_abort(struct rg_upstream *up, uint64_t session)
{
    struct rg_visit *visit = rg_front_visit(front_of(up), session);
    if (visit != NULL)
        rg_visit_doom(visit, RG_E_CANCELLED, "aborted");
}

/* The visit, if it can take a request now. */
static enum rg_code find_up(struct rg_front *front, uint64_t session,
                            struct rg_visit **out_visit, struct rg_err *err)
{
    struct rg_visit *visit = rg_front_visit(front, session);
    rg_loop_assert_owner(front->loop);
    if (visit == NULL || visit->state != RG_VISIT_UP || visit->process->failing != NULL)
        return rg_fail(err, RG_E_UNREACHABLE, "the XMPP session is not up");
    *out_visit = visit;
    return RG_OK;
}

static enum rg_code begin_request(struct rg_front *front, uint64_t session,
                                  struct rg_visit **out_visit, struct rg_request **out_request,
                                  struct rg_err *err)
{
    struct rg_visit *visit = NULL;
    enum rg_code code = find_up(front, session, &visit, err);
    if (code != RG_OK)
        return code;
    if (visit->served->iqs >= (size_t)front->config->limits.iqs_in_flight) {
        rg_fail(err, RG_E_RATE, "too many requests at this XMPP server at once");
        if (err != NULL)
            err->retry_after_s = 1;
        return RG_E_RATE;
    }
    struct rg_request *request = calloc(1, sizeof(*request));
    if (request == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    request->id = ++visit->last_request;
    request->sent_ms = rg_loop_now_ms(front->loop);
    request->due_ms = request->sent_ms + front->config->xmpp.iq_timeout_ms + RG_BACKSTOP_MS;
    *out_visit = visit;
    *out_request = request;
    return RG_OK;
}

/* (take) request and frame. */
static enum rg_code send_request_take(struct rg_visit *visit, struct rg_request *request,
                                      struct rg_frame_out *frame, struct rg_err *err)
{
    if (!rg_visit_send_take(visit, frame)) {
        free(request);
        return rg_fail(err, RG_E_TOO_LARGE,
                       "the item, with what it holds already, does not fit into 128 KiB");
    }
    TAILQ_INSERT_TAIL(&visit->requests, request, link);
    visit->n_requests++;
    visit->served->iqs++;
    if (visit->n_requests == 1)
        rg_visit_arm(visit);
    return RG_OK;
}

static enum rg_code op_roster_get(struct rg_upstream *up, uint64_t session, const char *ver,
                                  size_t ver_len, rg_roster_answer_fn fn, void *arg,
                                  struct rg_err *err)
{
    struct rg_front *front = front_of(up);
    struct rg_visit *visit = NULL;
    struct rg_request *request = NULL;
    enum rg_code code = begin_request(front, session, &visit, &request, err);
    if (code != RG_OK)
        return code;
    request->on_roster = fn;
    request->arg = arg;
    request->duration = front->get_seconds;
    /* What no server can have sent is a damaged cache: as if nothing were cached (R5). */
    bool usable = ver == NULL || (ver_len < RG_FRAME_MAX / 2 && rg_text_sendable(ver, ver_len));
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_ROSTER_GET, visit->index, visit->generation, false);
    rg_put_u32(frame, request->id);
    rg_put_text(frame, usable ? ver : "", usable ? ver_len : 0);
    return send_request_take(visit, request, frame, err);
}

/* A roster set under way: *out_frame names the session, the request and the JID, the rest is
 * the caller's to add and send. */
static enum rg_code begin_set(struct rg_front *front, uint64_t session, enum rg_frame_type type,
                              const char *jid, rg_upstream_done_fn fn, void *arg,
                              struct rg_visit **out_visit, struct rg_request **out_request,
                              struct rg_frame_out **out_frame, struct rg_err *err)
{
    struct rg_request *request = NULL;
    enum rg_code code = begin_request(front, session, out_visit, &request, err);
    if (code != RG_OK)
        return code;
    request->on_done = fn;
    request->arg = arg;
    request->duration = front->set_seconds;
    struct rg_frame_out *frame =
        rg_frame_new(type, (*out_visit)->index, (*out_visit)->generation, false);
    rg_put_u32(frame, request->id);
    rg_put_str(frame, jid);
    *out_request = request;
    *out_frame = frame;
    return RG_OK;
}

static enum rg_code op_item_set(struct rg_upstream *up, uint64_t session, const char *jid,
                                const char *name, const char *const *groups, size_t n_groups,
                                rg_upstream_done_fn fn, void *arg, struct rg_err *err)
{
    struct rg_visit *visit = NULL;
    struct rg_request *request = NULL;
    struct rg_frame_out *frame = NULL;
    enum rg_code code = rg_stanza_sendable(jid, name, groups, n_groups, err);
    if (code == RG_OK)
        code = begin_set(front_of(up), session, RG_FRAME_ITEM_SET, jid, fn, arg, &visit,
                         &request, &frame, err);
    if (code != RG_OK)
        return code;
    rg_put_str(frame, name);
    rg_put_u32(frame, (uint32_t)n_groups);
    for (size_t i = 0; i < n_groups; i++)
        rg_put_str(frame, groups[i]);
    return send_request_take(visit, request, frame, err);
}

static enum rg_code op_item_remove(struct rg_upstream *up, uint64_t session, const char *jid,
                                   rg_upstream_done_fn fn, void *arg, struct rg_err *err)
{
    struct rg_visit *visit = NULL;
    struct rg_request *request = NULL;
    struct rg_frame_out *frame = NULL;
    enum rg_code code = rg_stanza_sendable(jid, NULL, NULL, 0, err);
    if (code == RG_OK)
        code = begin_set(front_of(up), session, RG_FRAME_ITEM_REMOVE, jid, fn, arg, &visit,
                         &request, &frame, err);
    return code == RG_OK ? send_request_take(visit, request, frame, err) : code;
}

static enum rg_code op_announce(struct rg_upstream *up, uint64_t session, bool available,
                                struct rg_err *err)
{
    struct rg_visit *visit = NULL;
    enum rg_code code = find_up(front_of(up), session, &visit, err);
    if (code != RG_OK)
        return code;
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_ANNOUNCE, visit->index, visit->generation, false);
    rg_put_u8(frame, available);
    if (!rg_visit_send_take(visit, frame))
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    return RG_OK;
}

static bool op_status(struct rg_upstream *up, size_t i, struct rg_upstream_status *out)
{
    struct rg_front *front = front_of(up);
    if (i >= front->n_served)
        return false;
    const struct rg_served *served = &front->served[i];
    bool running = false;
    for (size_t k = 0; k < served->n_processes; k++)
        running = running || served->processes[k].running;
    *out = (struct rg_upstream_status){.domain = served->domain.domain,
                                       .reachable = served->reachable && running,
                                       .sessions = served->sessions};
    return true;
}

/* ---- stopping ---- */

static void for_all_processes(struct rg_front *front, void (*fn)(struct rg_process *process))
{
    for (size_t i = 0; i < front->n_served; i++)
        for (size_t k = 0; k < front->served[i].n_processes; k++)
            fn(&front->served[i].processes[k]);
}

static void ask_to_end(struct rg_process *process)
{
    rg_timer_stop(&process->respawn, process->front->loop);
    rg_process_send_take(process, rg_frame_new(RG_FRAME_SHUTDOWN, 0, 0, false));
}

static void make_end(struct rg_process *process)
{
    rg_process_fail(process, "did not stop");
}

static void on_stop_timer(struct rg_timer *timer)
{
    struct rg_front *front = RG_CONTAINER_OF(timer, struct rg_front, stop_timer);
    for_all_processes(front, make_end);
}

static void op_stop(struct rg_upstream *up, void (*fn)(void *arg), void *arg)
{
    struct rg_front *front = front_of(up);
    rg_loop_assert_owner(front->loop);
    front->stopping = true;
    front->stop_fn = fn;
    front->stop_arg = arg;
    for (uint32_t i = 0; i < front->table_n; i++) {
        struct rg_visit *visit = front->table[i];
        if (visit != NULL && visit->state != RG_VISIT_UP && visit->state != RG_VISIT_CLOSING)
            rg_visit_doom(visit, RG_E_CANCELLED, "stopping");
    }
    for_all_processes(front, ask_to_end);
    rg_timer_start(&front->stop_timer, front->loop, RG_STOP_MS);
    rg_front_later(front);
}

/* ---- making and unmaking ---- */

static void op_destroy(struct rg_upstream *up)
{
    struct rg_front *front = front_of(up);
    for (size_t i = 0; i < front->n_served; i++) {
        struct rg_served *served = &front->served[i];
        rg_lookup_cancel(served->lookup);
        for (size_t k = 0; k < served->n_processes; k++)
            rg_process_fini(&served->processes[k]);
        free(served->processes);
    }
    rg_corpses_forget(front);
    for (uint32_t i = 0; i < front->table_n; i++)
        if (front->table[i] != NULL)
            rg_visit_free(front->table[i]);
    rg_timer_fini(&front->stop_timer, front->loop);
    free(front->served);
    free(front->table);
    free(front->free_places);
    free(front);
}

static const struct rg_upstream_ops ops = {
    .serves = op_serves,
    .open = op_open,
    .close = op_close,
    .abort = op_abort,
    .roster_get = op_roster_get,
    .item_set = op_item_set,
    .item_remove = op_item_remove,
    .announce = op_announce,
    .status = op_status,
    .stop = op_stop,
    .destroy = op_destroy,
};

static void make_metrics(struct rg_front *front)
{
    static const char connects[] = "rostergate_xmpp_connects_total";
    static const char connects_help[] = "Sign-ins at XMPP servers by result.";
    static const char rejected[] = "rostergate_xmpp_stanzas_rejected_total";
    static const char rejected_help[] = "Stanzas that were refused or ignored, by reason.";
    static const char ended[] = "rostergate_xmpp_streams_ended_total";
    static const char ended_help[] = "Streams ended by us, by reason.";
    static const char seconds[] = "rostergate_xmpp_iq_duration_seconds";
    static const char seconds_help[] = "From asking the worker to its answer.";
    struct rg_metric **counters = front->counters;
    front->sessions =
        rg_gauge("rostergate_xmpp_sessions", "XMPP sessions, signing in or up.", "");
    front->get_seconds = rg_histogram(seconds, seconds_help, "kind=\"get\"");
    front->set_seconds = rg_histogram(seconds, seconds_help, "kind=\"set\"");
    front->connects_ok = rg_counter(connects, connects_help, "result=\"ok\"");
    front->connects_refused = rg_counter(connects, connects_help, "result=\"refused\"");
    front->connects_failed = rg_counter(connects, connects_help, "result=\"failed\"");
    front->lives_ended = rg_counter("rostergate_xmpp_workers_ended_total",
                                    "Workers that ended without being asked to.", "");
    front->hung_handshakes = rg_counter("rostergate_xmpp_handshakes_hung_total",
                                        "TLS handshakes ended after five seconds.", "");
    front->merged = rg_counter("rostergate_xmpp_items_merged_total",
                               "Items of one JID in one roster, merged.", "");
    counters[RG_COUNT_PUSHES] =
        rg_counter("rostergate_xmpp_pushes_total", "Roster pushes accepted.", "");
    counters[RG_COUNT_ITEMS_SKIPPED] = rg_counter("rostergate_xmpp_items_skipped_total",
                                                  "Items without valid JID or too large.", "");
    counters[RG_COUNT_PUSH_SENDER] =
        rg_counter(rejected, rejected_help, "reason=\"push-sender\"");
    counters[RG_COUNT_PUSH_ITEMS] =
        rg_counter(rejected, rejected_help, "reason=\"push-items\"");
    counters[RG_COUNT_RESULT_STRANGER] =
        rg_counter(rejected, rejected_help, "reason=\"result-stranger\"");
    counters[RG_COUNT_FOREIGN_IQ] =
        rg_counter(rejected, rejected_help, "reason=\"foreign-iq\"");
    counters[RG_COUNT_STANZA_BYTES] = rg_counter(ended, ended_help, "reason=\"stanza-bytes\"");
    counters[RG_COUNT_PARSE_ERROR] = rg_counter(ended, ended_help, "reason=\"parse-error\"");
    counters[RG_COUNT_IQ_TIMEOUT] = rg_counter(ended, ended_help, "reason=\"iq-timeout\"");
}

static enum rg_code make_served(struct rg_front *front, struct rg_served *served,
                                const char *text, struct rg_err *err)
{
    const struct rg_config *config = front->config;
    size_t n = config->xmpp.workers < 1 ? 1 : (size_t)config->xmpp.workers;
    served->front = front;
    served->reachable = true;
    served->plaintext = config->xmpp.plaintext_loopback;
    TAILQ_INIT(&served->resolving);
    enum rg_code code = rg_config_domain(text, &served->domain, err);
    if (code != RG_OK)
        return code;
    served->processes = calloc(n, sizeof(*served->processes));
    if (served->processes == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    served->n_processes = n;
    for (size_t i = 0; i < n; i++)
        if (rg_process_init(&served->processes[i], served, (unsigned)i) != RG_OK)
            return rg_fail(err, RG_E_INTERNAL, "out of memory");
    return RG_OK;
}

struct rg_upstream *rg_xmpp_create(const struct rg_config *config, struct rg_loop *loop,
                                   struct rg_err *err)
{
    struct rg_front *front = calloc(1, sizeof(*front));
    if (front == NULL) {
        rg_fail(err, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    front->up.ops = &ops;
    front->config = config;
    front->loop = loop;
    TAILQ_INIT(&front->doomed);
    LIST_INIT(&front->corpses);
    make_metrics(front);
    size_t n = config->xmpp.domains.n;
    front->served = calloc(n + 1, sizeof(*front->served));
    if (front->served == NULL ||
        rg_timer_init(&front->stop_timer, loop, on_stop_timer) != RG_OK) {
        rg_fail(err, RG_E_INTERNAL, "out of memory");
        op_destroy(&front->up);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        front->n_served++;
        if (make_served(front, &front->served[i], config->xmpp.domains.v[i], err) != RG_OK) {
            op_destroy(&front->up);
            return NULL;
        }
    }
    for_all_processes(front, rg_process_start);
    return &front->up;
}

/* GET /v1/events: one stream from the core's queue to one client (API section 5).
 *
 *   ATTACHING --op done--> FLOWING <--> PARKED (suspended: nothing to send)
 *
 * The core fills the queue; libmicrohttpd asks for bytes while FLOWING. When the queue is empty
 * the connection is suspended, and the queue's next push posts `message`, which resumes it. A
 * suspended connection neither times out nor shows that its client has left: the lane watches
 * the socket for it (gone.h), and the heartbeat finds those that vanish without a word (R24). A
 * client that takes nothing for 30 s is cut at its socket, because libmicrohttpd would wait for
 * it for ever (R25). One timer stands for all of it.
 *
 * The request is given back as soon as the stream runs: ten thousand idle streams should cost
 * what libmicrohttpd needs for them and little more. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "gateway/base/random.h"
#include "http/events_options.h"
#include "http/internal.h"

enum { SLOW_MS = 30 * 1000, BLOCK = 512, SEND_BUFFER = 16 * 1024 };

enum events_state { ATTACHING, FLOWING, PARKED, CUT };

struct rg_events {
    struct rg_exchange exchange;
    enum events_state state;
    atomic_bool posted; /* message is in the mailbox */
    bool gone;          /* completed; freed when message has arrived */
    bool counted;
    uint16_t ping_s;
    int fd;
    struct MHD_Connection *connection;
    struct MHD_Response *response; /* (borrow) until its headers are dropped */
    struct rg_stream *stream;
    struct rg_message message;
    struct rg_timer timer;
    int64_t heartbeat_ms, ping_ms, rotate_ms, expiry_s;
    int64_t progress_ms; /* when the queue was last empty, or last taken from */
    struct rg_address address;
    TAILQ_ENTRY(rg_events) link;
};

static struct rg_metric *closed_counter(enum rg_bye reason)
{
    char labels[48];
    snprintf(labels, sizeof(labels), "reason=\"%s\"",
             reason == RG_BYE_COUNT ? "gone" : rg_bye_name(reason));
    return rg_counter("rostergate_streams_closed_total", "Event streams ended.", labels);
}

/* --- beginning ---------------------------------------------------------------------------- */

/* Thread: any. */
static void wake(void *arg)
{
    struct rg_events *events = arg;
    if (!atomic_exchange(&events->posted, true))
        rg_loop_post(events->exchange.lane->loop, &events->message);
}

static void resume_parked(struct rg_events *events)
{
    if (events->state != PARKED)
        return;
    events->state = FLOWING;
    events->progress_ms = rg_loop_now_ms(events->exchange.lane->loop);
    rg_lane_resume(events->exchange.lane, events->connection);
}

static void on_wake(struct rg_message *message)
{
    struct rg_events *events = RG_CONTAINER_OF(message, struct rg_events, message);
    atomic_store(&events->posted, false);
    if (events->gone)
        free(events);
    else
        resume_parked(events);
}

static void count_key(const struct rg_events *events, char key[RG_ADDRESS_KEY_SIZE])
{
    rg_address_key(&events->address, false, key);
}

static enum rg_code count(struct rg_request *req, struct rg_events *events)
{
    char key[RG_ADDRESS_KEY_SIZE];
    rg_address_client(&events->address, req->http->trust, &req->conn->peer, &req->headers);
    count_key(events, key);
    enum rg_limit limit = rg_limits_enter(req->http->limits, RG_LIMITED_STREAMS, key);
    if (limit != RG_LIMIT_FINE) {
        rg_fail(&req->err, RG_E_RATE,
                limit == RG_LIMIT_ADDRESS ? "too many event streams from this address"
                                          : "too many event streams on this instance");
        req->err.retry_after_s = 5;
        return RG_E_RATE;
    }
    events->counted = true;
    return RG_OK;
}

/* Nobody but us knows the stream any more; the memory goes when no message is under way. */
static void events_free(struct rg_events *events)
{
    if (events->counted) {
        char key[RG_ADDRESS_KEY_SIZE];
        count_key(events, key);
        rg_limits_leave(events->exchange.lane->http->limits, RG_LIMITED_STREAMS, key);
    }
    events->gone = true;
    if (!atomic_load(&events->posted))
        free(events);
}

static void on_timer(struct rg_timer *timer);

static void add_stream_headers(struct MHD_Response *response, const struct rg_op *op)
{
    rg_response_header(response, "Content-Type", "text/event-stream");
    rg_response_header(response, "X-Accel-Buffering", "no");
    if (op->version[0] != '\0')
        rg_response_header(response, "Rostergate-Version", op->version);
}

/* HEAD: the core is asked about the session only. */
static void ask_head(struct rg_request *req)
{
    struct rg_op *op = rg_request_op(req, RG_OP_SESSION);
    if (op != NULL)
        rg_request_submit_take(req, op);
}

/* The same headers as the stream, and no body at all: libmicrohttpd would send the last chunk
 * after them (R27). */
static void answer_head(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK) {
        rg_request_failed(req, op);
        return;
    }
    struct MHD_Response *response = rg_response_empty();
    add_stream_headers(response, op);
    rg_request_send_take(req, 200, response, RG_VARY_PLAIN, "no-store");
}

void rg_events_get(struct rg_request *req)
{
    struct rg_stream_options options;
    int64_t ping_s = 0;
    if (rg_events_options(&req->query, &req->headers, &options, &ping_s, &req->err) != RG_OK) {
        rg_request_problem(req, &req->err, NULL);
        return;
    }
    if (req->method == RG_HEAD) {
        ask_head(req);
        return;
    }
    const struct rg_config *config = req->http->config;
    struct rg_events *events = calloc(1, sizeof(*events));
    if (events == NULL) {
        rg_request_fail(req, RG_E_INTERNAL, "out of memory");
        return;
    }
    events->exchange = (struct rg_exchange){RG_EXCHANGE_STREAM, req->exchange.lane};
    events->connection = req->connection;
    events->fd = req->conn->fd;
    events->ping_s = (uint16_t)ping_s;
    events->expiry_s = req->claims->expires_s;
    events->message.fn = on_wake;
    struct rg_op *op = NULL;
    if (count(req, events) != RG_OK)
        rg_request_problem(req, &req->err, NULL);
    else
        op = rg_request_op(req, RG_OP_STREAM);
    if (op == NULL) {
        events_free(events);
        return;
    }
    op->in.stream = rg_stream_create(req->claims, &options,
                                     (size_t)config->limits.stream_queue_bytes, wake, events);
    if (op->in.stream == NULL) {
        rg_op_destroy(op);
        events_free(events);
        rg_request_fail(req, RG_E_INTERNAL, "out of memory");
        return;
    }
    req->events = events;
    rg_request_submit_take(req, op);
}

/* --- flowing ------------------------------------------------------------------------------ */

static enum MHD_Result first_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    const char **found = cls;
    (void)kind;
    if (strcasecmp(name, "Connection") == 0)
        return MHD_YES; /* libmicrohttpd keeps a flag with this one */
    found[0] = name;
    found[1] = value;
    return MHD_NO;
}

/* The head has been sent; its lines would lie in memory for as long as the stream does, a tenth
 * of what an idle stream costs. */
static void drop_headers(struct rg_events *events)
{
    const char *found[2] = {NULL, NULL};
    do {
        found[0] = NULL;
        (void)MHD_get_response_headers(events->response, first_header, found);
    } while (found[0] != NULL &&
             MHD_del_response_header(events->response, found[0], found[1]) == MHD_YES);
    events->response = NULL;
}

/* libmicrohttpd wants bytes. Thread: the lane's, with the response's mutex held (R13). */
static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
    (void)pos;
    struct rg_events *events = cls;
    size_t len = 0;
    if (events->state == CUT)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (events->response != NULL)
        drop_headers(events);
    events->progress_ms = rg_loop_now_ms(events->exchange.lane->loop);
    switch (rg_stream_take(events->stream, buf, max, &len)) {
    case RG_TAKE_DATA:
        return (ssize_t)len;
    case RG_TAKE_PARKED:
        /* Returning 0 without suspending would be a busy loop (case K, R23). */
        events->state = PARKED;
        MHD_suspend_connection(events->connection);
        return 0;
    case RG_TAKE_END:
        break;
    }
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void arm(struct rg_events *events, int64_t now_ms)
{
    struct rg_loop *loop = events->exchange.lane->loop;
    int64_t due = least(events->heartbeat_ms, events->rotate_ms);
    if (events->ping_s != 0)
        due = least(due, events->ping_ms);
    /* The wall clock may jump: it is looked at again at least with each heartbeat. */
    int64_t left_s = events->expiry_s - rg_loop_unix_s(loop);
    due = least(due, now_ms + (left_s > 0 ? left_s * 1000 : 0));
    if (events->state == FLOWING)
        due = least(due, events->progress_ms + SLOW_MS);
    rg_timer_start(&events->timer, loop, due > now_ms ? due - now_ms : 0);
}

static void plan_heartbeat(struct rg_events *events, int64_t now_ms)
{
    uint64_t every = (uint64_t)events->exchange.lane->http->config->events.heartbeat_ms;
    events->heartbeat_ms = now_ms + (int64_t)rg_random_spread(every, 20);
}

static void push_ping(struct rg_events *events)
{
    struct rg_event *ping = rg_event_ping(events->ping_s);
    if (ping != NULL)
        rg_stream_push(events->stream, ping);
    rg_event_unref(ping);
}

static bool is_slow(struct rg_events *events, int64_t now_ms)
{
    return events->state == FLOWING && now_ms - events->progress_ms >= SLOW_MS;
}

static void on_timer(struct rg_timer *timer)
{
    struct rg_events *events = RG_CONTAINER_OF(timer, struct rg_events, timer);
    struct rg_loop *loop = events->exchange.lane->loop;
    int64_t now_ms = rg_loop_now_ms(loop);
    if (is_slow(events, now_ms)) {
        /* Nothing more is sent on it (R32); libmicrohttpd sees the dead socket and ends it. */
        rg_stream_bye(events->stream, RG_BYE_SLOW);
        events->state = CUT;
        shutdown(events->fd, SHUT_RDWR);
        return;
    }
    if (now_ms >= events->heartbeat_ms) {
        rg_stream_push(events->stream, events->exchange.lane->heartbeat);
        plan_heartbeat(events, now_ms);
    }
    if (events->ping_s != 0 && now_ms >= events->ping_ms) {
        push_ping(events);
        events->ping_ms = now_ms + (int64_t)events->ping_s * 1000;
    }
    if (rg_loop_unix_s(loop) >= events->expiry_s) {
        rg_stream_bye(events->stream, RG_BYE_EXPIRED);
        events->expiry_s = INT64_MAX / 4000; /* said once */
    } else if (now_ms >= events->rotate_ms) {
        rg_stream_bye(events->stream, RG_BYE_ROTATE);
        events->rotate_ms = INT64_MAX;
    }
    arm(events, now_ms);
}

/* The kernel would take megabytes for a client that reads nothing (facts 3.5). */
static void tune_socket(int fd)
{
    int size = SEND_BUFFER;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void drop(struct rg_request *req, struct rg_events *events, struct rg_stream *stream,
                 bool attached)
{
    if (stream != NULL) {
        rg_stream_forget_reader(stream);
        if (attached)
            rg_core_close_stream_take(req->http->core, stream);
        else
            rg_stream_unref(stream);
    }
    events_free(events);
}

void rg_events_unserved(struct rg_request *req, struct rg_op *op)
{
    drop(req, RG_TAKE(req->events), RG_TAKE(op->in.stream), op->err.code == RG_OK);
}

void rg_events_got(struct rg_request *req, struct rg_op *op)
{
    if (req->events == NULL) {
        answer_head(req, op);
        return;
    }
    struct rg_events *events = RG_TAKE(req->events);
    struct rg_lane *lane = req->exchange.lane;
    struct rg_stream *stream = RG_TAKE(op->in.stream);
    if (op->err.code != RG_OK || stream == NULL) {
        drop(req, events, stream, false);
        rg_request_failed(req, op);
        return;
    }
    struct MHD_Response *response =
        rg_timer_init(&events->timer, lane->loop, on_timer) == RG_OK
            ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, events,
                                                NULL)
            : NULL;
    events->stream = stream;
    events->response = response;
    events->state = FLOWING;
    int64_t now_ms = rg_loop_now_ms(lane->loop);
    events->progress_ms = now_ms;
    if (response != NULL) {
        add_stream_headers(response, op);
        tune_socket(events->fd);
        /* The small send buffer stays with the socket: no other call comes after the stream. */
        req->close = true;
        rg_request_send_take(req, 200, response, RG_VARY_PLAIN, "no-store");
    }
    if (req->state != RG_REQUEST_ANSWERED) {
        rg_timer_fini(&events->timer, lane->loop);
        drop(req, events, stream, true);
        return;
    }
    uint64_t age = (uint64_t)lane->http->config->events.max_age_ms;
    plan_heartbeat(events, now_ms);
    events->rotate_ms = now_ms + (int64_t)rg_random_spread(age, 10);
    events->ping_ms = now_ms + (int64_t)events->ping_s * 1000;
    TAILQ_INSERT_TAIL(&lane->streams, events, link);
    rg_gone_watch(lane->gone, events->fd, events);
    arm(events, now_ms);
    req->takeover = &events->exchange;
}

/* --- ending ------------------------------------------------------------------------------- */

void rg_events_completed(struct rg_events *events)
{
    struct rg_lane *lane = events->exchange.lane;
    rg_timer_fini(&events->timer, lane->loop);
    rg_gone_forget(lane->gone, events->fd);
    TAILQ_REMOVE(&lane->streams, events, link);
    rg_metric_add(closed_counter(rg_stream_reason(events->stream)), 1);
    rg_stream_forget_reader(events->stream);
    rg_core_close_stream_take(lane->http->core, RG_TAKE(events->stream));
    events_free(events);
}

static void cut_stream(struct rg_events *events)
{
    bool parked = events->state == PARKED;
    events->state = CUT;
    if (parked)
        rg_lane_resume(events->exchange.lane, events->connection);
}

void rg_events_gone(void *data)
{
    struct rg_events *events = data;
    cut_stream(events);
    shutdown(events->fd,
             SHUT_RDWR); /* one that flows waits to write: it sees the end at once */
}

void rg_events_abort_all(struct rg_lane *lane)
{
    struct rg_events *events;
    TAILQ_FOREACH(events, &lane->streams, link)
    {
        cut_stream(events);
    }
}

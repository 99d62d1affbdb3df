/* One request from its head to its end.
 *
 *   head -> guard, route, token -> READING -> (body) -> RUNNING -> ANSWERED
 *                                                 \-> SUSPENDED -> RESUMED -> ANSWERED
 *
 * The request lives from the first handler call to NOTIFY_COMPLETED, which comes only after a
 * resume (R9): while the core has its op, it cannot go away. Only at the very end of a lane may
 * an op outlive it; then the ticket says who frees what. */
#include "http/internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/base/log.h"
#include "gateway/base/text.h"
#include "http/body.h"

enum { TICKET_NONE, TICKET_CORE, TICKET_BACK, TICKET_ORPHAN };
enum { SPARE_MAX = 64 };

static int64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* --- lifetime ----------------------------------------------------------------------------- */

static struct rg_request *request_make(struct rg_lane *lane)
{
    struct rg_request *req = lane->spare;
    if (req != NULL) {
        lane->spare = req->next_spare;
        lane->n_spare--;
    } else {
        req = malloc(sizeof(*req));
        if (req == NULL)
            return NULL;
    }
    /* The header lines behind `n` are written before they are read. */
    memset(req, 0, offsetof(struct rg_request, headers) + offsetof(struct rg_headers, lines));
    req->exchange = (struct rg_exchange){RG_EXCHANGE_REQUEST, lane};
    req->http = lane->http;
    return req;
}

static void clear(struct rg_request *req)
{
    if (req->call != NULL && (req->call->flags & RG_CALL_SECRET) != 0 && req->body.data != NULL)
        rg_wipe(req->body.data, req->body.cap);
    rg_buf_fini(&req->body);
    rg_query_fini(&req->query);
    if (req->opened != NULL)
        rg_wipe(req->opened, sizeof(*req->opened));
    free(RG_TAKE(req->opened));
}

void rg_request_free(struct rg_request *req)
{
    clear(req);
    if (req->state == RG_REQUEST_RESUMED && req->op != NULL) {
        /* The client left while the core was busy: libmicrohttpd saw it before it asked us for
         * the answer. */
        if (req->events != NULL)
            rg_events_unserved(req, req->op);
        rg_op_destroy(RG_TAKE(req->op));
    }
    /* Only at the end of a lane: the core still has the op, and frees both when it is done. */
    int expected = TICKET_CORE;
    if (req->op != NULL &&
        atomic_compare_exchange_strong(&req->ticket, &expected, TICKET_ORPHAN))
        return;
    struct rg_lane *lane = req->exchange.lane;
    if (lane->n_spare == SPARE_MAX) {
        free(req);
        return;
    }
    req->next_spare = lane->spare;
    lane->spare = req;
    lane->n_spare++;
}

void rg_request_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                          enum MHD_RequestTerminationCode toe)
{
    struct rg_lane *lane = cls;
    struct rg_exchange *exchange = *con_cls;
    (void)toe;
    struct rg_conn *conn =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    if (conn != NULL)
        rg_conn_deadline(conn, RG_IDLE_MS);
    if (exchange == NULL) /* the head never became complete */
        return;
    *con_cls = NULL;
    if (exchange->kind == RG_EXCHANGE_STREAM)
        rg_events_completed((struct rg_events *)(void *)exchange);
    else
        rg_request_free((struct rg_request *)(void *)exchange);
    rg_lane_end(lane);
}

/* --- to the core and back ----------------------------------------------------------------- */

static void op_arrived(struct rg_message *message)
{
    struct rg_op *op = RG_CONTAINER_OF(message, struct rg_op, message);
    rg_request_resume(op->arg);
}

/* Thread: core. */
static void op_done(struct rg_op *op)
{
    struct rg_request *req = op->arg;
    if (atomic_exchange(&req->ticket, TICKET_BACK) == TICKET_ORPHAN) {
        free(req);
        rg_op_destroy(op);
        return;
    }
    op->message.fn = op_arrived;
    rg_loop_post(req->exchange.lane->loop, &op->message);
}

struct rg_op *rg_request_op(struct rg_request *req, enum rg_op_kind kind)
{
    struct rg_op *op = rg_op_create(kind, op_done, req);
    if (op != NULL && req->claims != NULL) {
        op->claims = *req->claims;
        op->token = malloc(req->auth.len + 1);
        if (op->token != NULL) {
            memcpy(op->token, req->auth.token, req->auth.len);
            op->token[req->auth.len] = '\0';
        }
    }
    if (op == NULL || (req->claims != NULL && op->token == NULL)) {
        rg_op_destroy(op);
        rg_request_fail(req, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    op->received_ms = req->received_ms;
    return op;
}

void rg_request_suspend(struct rg_request *req)
{
    req->state = RG_REQUEST_SUSPENDED;
    req->claims = NULL; /* the table of opened tokens goes on without us */
    TAILQ_INSERT_TAIL(&req->exchange.lane->waiting, req, link);
    req->exchange.lane->n_waiting++;
    MHD_suspend_connection(req->connection);
}

void rg_request_submit_take(struct rg_request *req, struct rg_op *op)
{
    req->op = op;
    atomic_store(&req->ticket, TICKET_CORE);
    rg_request_suspend(req);
    rg_core_submit(req->http->core, op);
}

static void wait_no_more(struct rg_request *req, enum rg_request_state state)
{
    struct rg_lane *lane = req->exchange.lane;
    if (req->state != RG_REQUEST_SUSPENDED)
        return;
    req->state = state;
    TAILQ_REMOVE(&lane->waiting, req, link);
    lane->n_waiting--;
    rg_lane_resume(lane, req->connection);
}

void rg_request_resume(struct rg_request *req)
{
    wait_no_more(req, RG_REQUEST_RESUMED);
}

void rg_request_abort(struct rg_request *req)
{
    wait_no_more(req, RG_REQUEST_ABORTED);
}

/* --- the head ----------------------------------------------------------------------------- */

/* libmicrohttpd ends each value at its first NUL, so that `Content-Length: 2<NUL>5` reads 2.
 * What is behind shows in the addresses only: each line begins where the one before has ended.
 */
struct walk {
    struct rg_headers *headers;
    const char *next; /* where the next line must begin; NULL: not known */
    bool hidden;
};

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct walk *walk = cls;
    walk->hidden = walk->hidden || (walk->next != NULL && name != walk->next);
    walk->next = value == NULL ? NULL : value + value_len + 2;
    if (value == NULL) {
        value = "";
        value_len = 0;
    } else if (!rg_header_in_place(name, name_len, value, value_len)) {
        walk->hidden = true;
    }
    rg_headers_add(walk->headers, name, name_len, value, value_len);
    return MHD_YES;
}

/* Does the head end where the walk has ended, with the empty line? `method` is its first byte.
 */
static bool ends_there(struct rg_request *req, const struct walk *walk, const char *method)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return walk->next == NULL || info == NULL || walk->next + 2 == method + info->header_size;
}

static const char *read_headers(struct rg_request *req, const char *method)
{
    struct walk walk = {&req->headers, NULL, false};
    (void)MHD_get_connection_values_n(req->connection, MHD_HEADER_KIND, on_header, &walk);
    if (walk.hidden || !ends_there(req, &walk, method))
        return "a header line is folded, holds NUL or does not end with CR LF";
    return rg_headers_check(&req->headers, req->http_1_1);
}

static bool id_fine(const char *id)
{
    size_t len = strlen(id);
    return len > 0 && len < RG_REQUEST_ID_SIZE &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
               len;
}

static void choose_id(struct rg_request *req)
{
    const char *given = rg_headers_get(&req->headers, RG_HEADER_X_REQUEST_ID);
    if (given != NULL && !rg_headers_twice(&req->headers, RG_HEADER_X_REQUEST_ID) &&
        id_fine(given))
        memcpy(req->id, given, strlen(given) + 1);
    else
        rg_lane_request_id(req->exchange.lane, req->id);
}

static void choose_origin(struct rg_request *req)
{
    const char *origin = rg_headers_get(&req->headers, RG_HEADER_ORIGIN);
    if (origin != NULL && !rg_headers_twice(&req->headers, RG_HEADER_ORIGIN) &&
        rg_origin_listed(origin, &req->http->config->server.origins))
        req->origin = origin;
}

/* Headers that make sense once only. */
static enum rg_code check_single(struct rg_request *req)
{
    if (rg_headers_twice(&req->headers, RG_HEADER_CONTENT_TYPE))
        return rg_fail(&req->err, RG_E_BAD_REQUEST, "more than one Content-Type");
    if (rg_headers_twice(&req->headers, RG_HEADER_LAST_EVENT_ID))
        return rg_fail(&req->err, RG_E_BAD_REQUEST, "more than one Last-Event-ID");
    return RG_OK;
}

static enum rg_code find_call(struct rg_request *req, const char *url)
{
    enum rg_code code = rg_path_split(&req->path, url, &req->err);
    if (code != RG_OK)
        return code;
    struct rg_lane *lane = req->exchange.lane;
    req->route = rg_route_find(lane->routes, lane->n_routes, &req->path, &req->wild);
    /* "/{asset}" matches any name: where there is no file, there is no path, for no method. */
    if (req->route != NULL && req->route->calls[0].begin == rg_asset_get &&
        !rg_asset_is_there(req))
        req->route = NULL;
    if (req->route == NULL)
        return rg_fail(&req->err, RG_E_NOT_FOUND, "there is nothing at this path");
    if (req->method == RG_OPTIONS)
        return RG_OK;
    req->call = rg_route_call(req->route, req->method == RG_HEAD ? RG_GET : req->method);
    if (req->call == NULL)
        return rg_fail(&req->err, RG_E_METHOD, "this path does not know the method");
    return RG_OK;
}

/* Whatever can be refused from the head alone, is: then the body is read only to be dropped. */
static void judge_head(struct rg_request *req, const char *url)
{
    req->body_limit = RG_BODY_MAX;
    if (check_single(req) != RG_OK || find_call(req, url) != RG_OK || req->call == NULL)
        return;
    unsigned flags = req->call->flags;
    if ((flags & RG_CALL_BULK) != 0)
        req->body_limit = RG_BODY_MAX_BULK;
    /* Nobody without a token makes us keep a body. */
    if (req->has_body && (flags & RG_CALL_OPEN) == 0)
        (void)rg_request_authorize(req, &req->err);
}

static enum MHD_Result refuse_framing(struct rg_request *req, const char *why)
{
    rg_meter_reject(RG_REJECT_FRAMING);
    req->close = true;
    rg_request_fail(req, RG_E_BAD_REQUEST, why);
    return req->state == RG_REQUEST_ANSWERED ? MHD_YES : MHD_NO;
}

static enum MHD_Result begin(struct rg_lane *lane, struct MHD_Connection *connection,
                             const char *url, const char *method, const char *version,
                             void **con_cls)
{
    struct rg_conn *conn =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    struct rg_request *req = conn != NULL ? request_make(lane) : NULL;
    if (req == NULL)
        return MHD_NO;
    *con_cls = req;
    rg_lane_begin(lane);
    req->conn = conn;
    req->connection = connection;
    req->received_ms = rg_loop_now_ms(lane->loop);
    req->received_us = monotonic_us();
    req->method = rg_method_parse(method);
    req->http_1_1 = strcmp(version, "HTTP/1.0") != 0;
    const char *wrong = read_headers(req, method);
    choose_id(req);
    if (wrong != NULL)
        return refuse_framing(req, wrong);
    choose_origin(req);
    uint64_t length = 0;
    bool declared = rg_headers_length(&req->headers, &length);
    req->has_body =
        declared ? length > 0 : rg_headers_has(&req->headers, RG_HEADER_TRANSFER_ENCODING);
    judge_head(req, url);
    rg_conn_deadline(conn, req->has_body ? RG_BODY_MS : 0);
    /* R20: only the first call can still stop a body that is too large; and a client that waits
     * for 100 (Continue) is told at once what is wrong. */
    if (length > req->body_limit && req->err.code == RG_OK)
        rg_fail(&req->err, RG_E_TOO_LARGE, "the body is over %zu bytes", req->body_limit);
    if (req->err.code != RG_OK && req->has_body) {
        if (length > req->body_limit || rg_headers_has(&req->headers, RG_HEADER_EXPECT)) {
            req->close = true;
            rg_request_problem(req, &req->err, NULL);
            return req->state == RG_REQUEST_ANSWERED ? MHD_YES : MHD_NO;
        }
        req->discard = true;
    }
    return MHD_YES;
}

/* --- the body ----------------------------------------------------------------------------- */

/* False: more came than anybody could have meant; the connection is cut. A chunked body over
 * the limit is read on for a while, because an answer cannot be queued before its end (R20). */
static bool collect(struct rg_request *req, const char *data, size_t len)
{
    bool secret = req->call != NULL && (req->call->flags & RG_CALL_SECRET) != 0;
    req->body_seen += len;
    if (req->body_seen > req->body_limit)
        req->too_large = true;
    if (!req->too_large && !req->discard) {
        /* A secret's buffer does not grow: that would leave copies behind. */
        if (secret)
            (void)rg_buf_reserve(&req->body, req->body_limit + 1 - req->body.len);
        rg_buf_append(&req->body, data, len);
    }
    /* libmicrohttpd's own buffer: what was read there is needed by nobody any more. */
    if (secret)
        rg_wipe((char *)(uintptr_t)data, len);
    return req->body_seen <= req->body_limit + RG_BODY_MAX_BULK;
}

/* --- running ------------------------------------------------------------------------------ */

static enum MHD_Result on_param(void *cls, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct rg_request *req = cls;
    return rg_query_add(&req->query, req->call->params, name, name_len, value, value_len,
                        &req->err) == RG_OK
               ? MHD_YES
               : MHD_NO;
}

static enum rg_code check_media(struct rg_request *req)
{
    unsigned flags = req->call->flags;
    if ((flags & (RG_CALL_JSON | RG_CALL_PATCH)) == 0 ||
        (req->body.len == 0 && (flags & RG_CALL_OPTIONAL_BODY) != 0))
        return RG_OK;
    bool patch = (flags & RG_CALL_PATCH) != 0;
    if (rg_media_is(rg_headers_get(&req->headers, RG_HEADER_CONTENT_TYPE),
                    patch ? RG_MEDIA_MERGE_PATCH : RG_MEDIA_JSON))
        return RG_OK;
    return rg_fail(&req->err, RG_E_MEDIA_TYPE, "Content-Type: %s is needed",
                   patch ? "application/merge-patch+json" : "application/json");
}

/* Everything that must be right before the call itself begins, in the order of what it tells to
 * whom: nothing about bodies and parameters to somebody without a token. */
static enum rg_code admit(struct rg_request *req)
{
    if (req->err.code != RG_OK)
        return req->err.code;
    if (atomic_load_explicit(&req->http->draining, memory_order_relaxed))
        return rg_fail(&req->err, RG_E_CANCELLED, "this instance is stopping");
    unsigned flags = req->call->flags;
    if ((flags & RG_CALL_OPEN) == 0 && rg_request_authorize(req, &req->err) != RG_OK)
        return req->err.code;
    if (req->too_large) {
        rg_meter_reject(RG_REJECT_SIZE);
        return rg_fail(&req->err, RG_E_TOO_LARGE, "the body is over %zu bytes",
                       req->body_limit);
    }
    if ((flags & RG_CALL_NOT_BUILT) != 0)
        return rg_fail(&req->err, RG_E_NOT_IMPLEMENTED, "this release does not have it yet");
    (void)MHD_get_connection_values_n(req->connection, MHD_GET_ARGUMENT_KIND, on_param, req);
    if (req->err.code == RG_OK && rg_buf_failed(&req->body))
        return rg_fail(&req->err, RG_E_INTERNAL, "out of memory");
    return req->err.code != RG_OK ? req->err.code : check_media(req);
}

static void run(struct rg_request *req)
{
    rg_conn_deadline(req->conn, 0);
    req->state = RG_REQUEST_RUNNING;
    if (req->method == RG_OPTIONS && req->err.code == RG_OK)
        rg_request_options(req);
    else if (admit(req) != RG_OK)
        rg_request_problem(req, &req->err, NULL);
    else
        req->call->begin(req);
}

static void finish(struct rg_request *req)
{
    struct rg_op *op = RG_TAKE(req->op);
    req->state = RG_REQUEST_RUNNING;
    req->call->finish(req, op);
    rg_op_destroy(op);
}

enum MHD_Result rg_request_access(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version,
                                  const char *upload_data, size_t *upload_data_size,
                                  void **con_cls)
{
    struct rg_exchange *exchange = *con_cls;
    if (exchange == NULL)
        return begin(cls, connection, url, method, version, con_cls);
    struct rg_request *req = (struct rg_request *)(void *)exchange;
    if (exchange->kind != RG_EXCHANGE_REQUEST)
        return MHD_NO;
    if (*upload_data_size != 0) {
        bool more = collect(req, upload_data, *upload_data_size);
        *upload_data_size = 0;
        return more ? MHD_YES : MHD_NO;
    }
    switch (req->state) {
    case RG_REQUEST_READING:
        run(req);
        break;
    case RG_REQUEST_RESUMED:
        finish(req);
        if (req->takeover != NULL) { /* a stream goes on in the request's place */
            *con_cls = req->takeover;
            rg_request_free(req);
            return MHD_YES;
        }
        break;
    case RG_REQUEST_RUNNING:
    case RG_REQUEST_SUSPENDED:
    case RG_REQUEST_ANSWERED:
    case RG_REQUEST_ABORTED:
        break;
    }
    return req->state == RG_REQUEST_ANSWERED || req->state == RG_REQUEST_SUSPENDED ? MHD_YES
                                                                                   : MHD_NO;
}

/* Answers: what belongs on every one of them (API section 7), JSON documents and problems. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/log.h"
#include "http/internal.h"

static const char METHODS[] = "GET, HEAD, POST, PUT, PATCH, DELETE";
static const char REQUEST_HEADERS[] =
    "Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID, Cache-Control, "
    "X-Request-Id, Traceparent";
static const char EXPOSED[] =
    "ETag, Location, Retry-After, Rostergate-Version, Cache-Status, Age, X-Request-Id";

void rg_response_header(struct MHD_Response *response, const char *name, const char *value)
{
    /* Fails for want of memory only: the values are ours. The answer goes out without it. */
    if (response != NULL)
        (void)MHD_add_response_header(response, name, value);
}

void rg_response_stale(struct MHD_Response *response, int64_t age_s)
{
    char age[24];
    snprintf(age, sizeof(age), "%lld", (long long)(age_s > 0 ? age_s : 0));
    rg_response_header(response, "Cache-Status", "rostergate; hit; detail=stale");
    rg_response_header(response, "Age", age);
}

struct MHD_Response *rg_response_from_buf(struct rg_buf *buf)
{
    size_t len = 0;
    char *data = rg_buf_take(buf, &len);
    if (data == NULL)
        return NULL;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        free(data);
    return response;
}

static void blob_free(void *blob)
{
    rg_blob_unref(blob);
}

struct MHD_Response *rg_response_from_blob_take(struct rg_blob *blob)
{
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        blob->len, blob->data, blob_free, blob);
    if (response == NULL)
        rg_blob_unref(blob);
    return response;
}

struct MHD_Response *rg_response_empty(void)
{
    return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
}

static void add_cors(struct rg_request *req, struct MHD_Response *response)
{
    if (req->origin == NULL)
        return;
    rg_response_header(response, "Access-Control-Allow-Origin", req->origin);
    rg_response_header(response, "Access-Control-Allow-Credentials", "true");
    rg_response_header(response, "Access-Control-Expose-Headers", EXPOSED);
}

void rg_request_send_take(struct rg_request *req, unsigned status,
                          struct MHD_Response *response, enum rg_vary vary, const char *cache)
{
    if (response == NULL)
        return; /* not answered: the connection is closed */
    rg_response_header(response, "X-Request-Id", req->id);
    rg_response_header(response, "Vary",
                       vary == RG_VARY_ROSTER ? "Accept-Encoding, Authorization, Cookie, Origin"
                                              : "Origin");
    rg_response_header(response, "X-Content-Type-Options", "nosniff");
    if (cache != NULL)
        rg_response_header(response, "Cache-Control", cache);
    add_cors(req, response);
    if (req->close || atomic_load_explicit(&req->http->closing, memory_order_relaxed))
        rg_response_header(response, "Connection", "close");
    if (MHD_queue_response(req->connection, status, response) == MHD_YES)
        req->state = RG_REQUEST_ANSWERED;
    MHD_destroy_response(response);
    rg_meter_request(req, status);
}

void rg_request_json(struct rg_request *req, unsigned status, struct rg_buf *body,
                     const char *version, const char *etag, const char *location)
{
    struct MHD_Response *response = rg_response_from_buf(body);
    rg_response_header(response, "Content-Type", "application/json");
    if (version != NULL && version[0] != '\0')
        rg_response_header(response, "Rostergate-Version", version);
    if (etag != NULL)
        rg_response_header(response, "ETag", etag);
    if (location != NULL)
        rg_response_header(response, "Location", location);
    rg_request_send_take(req, status, response, RG_VARY_PLAIN,
                         etag != NULL ? "private, no-cache" : "no-store");
}

void rg_request_no_content(struct rg_request *req, unsigned status, const char *version)
{
    struct MHD_Response *response = rg_response_empty();
    if (version != NULL && version[0] != '\0')
        rg_response_header(response, "Rostergate-Version", version);
    rg_request_send_take(req, status, response, RG_VARY_PLAIN, "no-store");
}

static void add_problem_headers(struct rg_request *req, struct MHD_Response *response,
                                const struct rg_err *err, unsigned status)
{
    unsigned retry = rg_reply_retry_after(err, status);
    if (retry > 0) {
        char text[16];
        snprintf(text, sizeof(text), "%u", retry);
        rg_response_header(response, "Retry-After", text);
    }
    if (status == 401)
        rg_response_header(response, "WWW-Authenticate", "Bearer");
    if (err->code == RG_E_VERSION_EXPIRED)
        rg_response_header(response, "Location", "/v1/roster");
    if (err->code == RG_E_METHOD && req->route != NULL) {
        RG_CLEANUP(rg_buf_fini) struct rg_buf allow = RG_BUF_INIT;
        rg_route_allow(req->route, &allow);
        if (!rg_buf_failed(&allow))
            rg_response_header(response, "Allow", allow.data);
    }
}

/* What fails is logged with the id the caller was told: quietly what callers do wrong, loudly
 * what we or the servers behind us do. */
static void log_problem(const struct rg_request *req, const struct rg_err *err, unsigned status)
{
    enum rg_log_level level = status < 500 || status == 501 ? RG_LOG_DEBUG : RG_LOG_WARN;
    if (!rg_log_enabled(level))
        return;
    rg_log(level, "http", "request-failed", RG_STR("request", req->id),
           RG_STR("method", rg_method_name(req->method)),
           RG_STR("route", req->route != NULL ? req->route->path : "none"),
           RG_INT("status", status), RG_STR("code", rg_reply_code(err)));
}

void rg_request_problem(struct rg_request *req, const struct rg_err *err, const char *version)
{
    /* At the sign-in the XMPP server was asked and did not answer well (502, 504); otherwise it
     * is away. */
    bool sign_in = req->call != NULL && req->call->begin == rg_rest_session_create;
    unsigned status = rg_reply_status(err, sign_in);
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    rg_reply_problem(&body, err, status, req->id);
    struct MHD_Response *response = rg_response_from_buf(&body);
    rg_response_header(response, "Content-Type", "application/problem+json");
    if (version != NULL && version[0] != '\0')
        rg_response_header(response, "Rostergate-Version", version);
    if (response != NULL)
        add_problem_headers(req, response, err, status);
    if (status == 429)
        rg_meter_reject(RG_REJECT_RATE);
    log_problem(req, err, status);
    rg_request_send_take(req, status, response, RG_VARY_PLAIN, "no-store");
}

void rg_request_failed(struct rg_request *req, struct rg_op *op)
{
    rg_request_problem(req, &op->err, op->version);
}

void rg_request_fail(struct rg_request *req, enum rg_code code, const char *detail)
{
    struct rg_err err = RG_ERR_INIT;
    rg_fail(&err, code, "%s", detail);
    rg_request_problem(req, &err, NULL);
}

void rg_request_options(struct rg_request *req)
{
    struct MHD_Response *response = rg_response_empty();
    RG_CLEANUP(rg_buf_fini) struct rg_buf allow = RG_BUF_INIT;
    rg_route_allow(req->route, &allow);
    if (!rg_buf_failed(&allow))
        rg_response_header(response, "Allow", allow.data);
    if (rg_headers_has(&req->headers, RG_HEADER_REQUEST_METHOD)) {
        if (req->origin != NULL) {
            rg_response_header(response, "Access-Control-Allow-Methods", METHODS);
            rg_response_header(response, "Access-Control-Allow-Headers", REQUEST_HEADERS);
            rg_response_header(response, "Access-Control-Max-Age", "600");
        } else {
            rg_meter_reject(RG_REJECT_ORIGIN);
        }
    }
    rg_request_send_take(req, 204, response, RG_VARY_PLAIN, "no-store");
}

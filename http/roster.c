/* GET /v1/roster: the cached read is answered from the door, on this thread, without a hop and
 * without copying the body (DESIGN section 5, Read). */
#include <string.h>

#include "http/etag.h"
#include "http/internal.h"

static void add_cache_status(struct MHD_Response *response, const struct rg_view *view)
{
    if (view->stale)
        rg_response_stale(response, view->age_s);
    else
        rg_response_header(response, "Cache-Status",
                           view->hit ? "rostergate; hit" : "rostergate; fwd=miss");
}

static void serve(struct rg_request *req, const struct rg_view *view)
{
    struct rg_snapshot *snapshot = view->snapshot;
    bool gzip = rg_accepts_gzip(&req->headers);
    bool same = rg_headers_has(&req->headers, RG_HEADER_IF_NONE_MATCH) &&
                rg_etag_none_match(&req->headers, snapshot->version, snapshot->version_len);
    struct rg_blob *blob = same   ? NULL
                           : gzip ? rg_snapshot_gzip(snapshot)
                                  : rg_snapshot_body(snapshot);
    if (blob == NULL && !same) {
        rg_request_fail(req, RG_E_INTERNAL, "out of memory");
        return;
    }
    /* A 304 has no body, and not the length of one either: RFC 9110 8.6 allows that, but
     * parsers that believe it wait for bytes that never come (measured with wrk). */
    struct MHD_Response *response =
        same ? rg_response_empty() : rg_response_from_blob_take(rg_blob_ref(blob));
    if (response != NULL) {
        char etag[RG_ETAG_SIZE];
        rg_etag_format(etag, snapshot->version, gzip);
        rg_response_header(response, "ETag", etag);
        rg_response_header(response, "Rostergate-Version", snapshot->version);
        add_cache_status(response, view);
        if (!same) {
            rg_response_header(response, "Content-Type", "application/json");
            if (gzip)
                rg_response_header(response, "Content-Encoding", "gzip");
        }
    }
    rg_request_send_take(req, same ? 304 : 200, response, RG_VARY_ROSTER, "private, no-cache");
}

static void ask_core(struct rg_request *req, bool refresh)
{
    struct rg_op *op = rg_request_op(req, RG_OP_ROSTER);
    if (op == NULL)
        return;
    op->in.refresh = refresh;
    rg_request_submit_take(req, op);
}

void rg_roster_get(struct rg_request *req)
{
    if (req->query.n > 0) {
        rg_request_fail(req, RG_E_NOT_IMPLEMENTED, "filters and paging are not built yet");
        return;
    }
    if (rg_wants_fresh(&req->headers)) {
        ask_core(req, true);
        return;
    }
    struct rg_view view = {.snapshot = NULL};
    enum rg_code code = rg_door_look(rg_core_door(req->http->core), req->claims,
                                     rg_loop_now_ms(req->exchange.lane->loop), &view);
    if (code == RG_OK)
        serve(req, &view);
    else if (code == RG_E_NOT_FOUND)
        ask_core(req, false);
    else
        rg_request_fail(req, code, "the sign-in has ended");
    rg_view_fini(&view);
}

void rg_roster_got(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK)
        rg_request_failed(req, op);
    else
        serve(req, &op->out.view);
}

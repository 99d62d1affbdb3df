/* GET /v1/roster/changes: what happened since a version, oldest first, every change once (API
 * section 3). */
#include <string.h>

#include "gateway/base/text.h"
#include "http/internal.h"

enum { CHANGES_MOST = 1000, WAIT_MOST_S = 60 };

static enum rg_code read_query(struct rg_request *req, int64_t *out_limit, int64_t *out_wait_s)
{
    int64_t limit = CHANGES_MOST, wait_s = 0;
    if (rg_query_get(&req->query, "since") == NULL)
        return rg_fail(&req->err, RG_E_INVALID_QUERY, "since: missing");
    enum rg_code code = rg_query_int(&req->query, "limit", 1, CHANGES_MOST, &limit, &req->err);
    if (code == RG_OK)
        code = rg_query_int(&req->query, "wait", 0, 999999999999, &wait_s, &req->err);
    if (code != RG_OK)
        return code;
    *out_limit = limit;
    *out_wait_s = wait_s < WAIT_MOST_S ? wait_s : WAIT_MOST_S;
    return RG_OK;
}

void rg_changes_get(struct rg_request *req)
{
    int64_t limit = 0, wait_s = 0;
    if (read_query(req, &limit, &wait_s) != RG_OK) {
        rg_request_problem(req, &req->err, NULL);
        return;
    }
    struct rg_op *op = rg_request_op(req, RG_OP_CHANGES);
    if (op == NULL)
        return;
    /* Whatever is not a version of ours is a version that is not known: 410, not 400. */
    const char *since = rg_query_get(&req->query, "since");
    size_t len = strlen(since);
    op->in.since_known = rg_version_parse(&op->in.since, since, len);
    if (len < sizeof(op->in.since_text))
        memcpy(op->in.since_text, since, len + 1);
    op->in.limit = (size_t)limit;
    op->in.wait_ms = wait_s * 1000;
    rg_request_submit_take(req, op);
}

static void put_change(struct rg_buf *buf, const struct rg_change *change, uint64_t epoch)
{
    char version[RG_VERSION_SIZE];
    size_t len = rg_version_format(version, epoch, change->at);
    rg_buf_puts(buf, "{\"version\":");
    rg_json_string(buf, version, len);
    if (change->item != NULL) {
        rg_buf_puts(buf, ",\"op\":\"set\",\"item\":");
        rg_item_json(buf, change->item);
    } else {
        rg_buf_puts(buf, ",\"op\":\"remove\",\"jid\":");
        rg_json_string(buf, change->jid, strlen(change->jid));
    }
    rg_buf_putc(buf, '}');
}

void rg_changes_got(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK) {
        rg_request_failed(req, op);
        return;
    }
    /* All versions of one account share the epoch, and `since` was known to be one of them. */
    uint64_t epoch = op->in.since.epoch;
    char sent[RG_VERSION_SIZE];
    if (op->out.n_changes > 0)
        rg_version_format(sent, epoch, op->out.changes[op->out.n_changes - 1]->at);
    else
        memcpy(sent, op->version, sizeof(sent));
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    rg_buf_puts(&body, "{\"since\":");
    rg_json_string(&body, op->in.since_text, strlen(op->in.since_text));
    rg_buf_puts(&body, ",\"version\":");
    rg_json_string(&body, sent, strlen(sent));
    rg_buf_puts(&body, op->out.more ? ",\"more\":true,\"changes\":["
                                    : ",\"more\":false,\"changes\":[");
    for (size_t i = 0; i < op->out.n_changes; i++) {
        if (i > 0)
            rg_buf_putc(&body, ',');
        put_change(&body, op->out.changes[i], epoch);
    }
    rg_buf_puts(&body, "]}");
    struct MHD_Response *response = rg_response_from_buf(&body);
    rg_response_header(response, "Content-Type", "application/json");
    rg_response_header(response, "Rostergate-Version",
                       op->version[0] != '\0' ? op->version : sent);
    if (op->out.stale)
        rg_response_stale(response, op->out.age_s);
    rg_request_send_take(req, 200, response, RG_VARY_PLAIN, "no-store");
}

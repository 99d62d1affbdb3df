/* /v1/roster/items/JID: one item, read and written (API section 3). */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/jid.h"
#include "gateway/base/text.h"
#include "http/body.h"
#include "http/etag.h"
#include "http/internal.h"

/* The JID in the path: decoded once, then prepared. A full JID can be read and deleted, because
 * a server may hold an item under one; it cannot be written. */
static enum rg_code read_jid(struct rg_request *req, bool full_is_fine, struct rg_jid *out)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf text = RG_BUF_INIT;
    struct rg_err why = RG_ERR_INIT;
    if (!rg_percent_decode(&text, req->wild.text, req->wild.len, false))
        return rg_fail(&req->err, RG_E_BAD_REQUEST, "the JID in the path does not decode");
    if (rg_buf_failed(&text))
        return rg_fail(&req->err, RG_E_INTERNAL, "out of memory");
    enum rg_code code = full_is_fine ? rg_jid_prepare(out, text.data, text.len, &why)
                                     : rg_jid_prepare_bare(out, text.data, text.len, &why);
    return code == RG_OK ? RG_OK : rg_fail(&req->err, code, "jid: %s", why.text);
}

static bool is_self(const struct rg_request *req, const struct rg_jid *jid)
{
    return strlen(req->claims->user) == jid->bare_len &&
           memcmp(req->claims->user, jid->text, jid->bare_len) == 0;
}

static enum rg_code read_conditions(struct rg_request *req, struct rg_condition_in *out)
{
    struct rg_etags match, none;
    rg_etags_read(&req->headers, RG_HEADER_IF_MATCH, &match);
    rg_etags_read(&req->headers, RG_HEADER_IF_NONE_MATCH, &none);
    out->if_none_match_any = none.any;
    out->if_match = match.present;
    out->if_match_any = match.any;
    if (match.n + none.n == 0)
        return RG_OK;
    out->versions = malloc((match.n + none.n) * sizeof(*out->versions));
    if (out->versions == NULL)
        return rg_fail(&req->err, RG_E_INTERNAL, "out of memory");
    memcpy(out->versions, match.versions, match.n * sizeof(*out->versions));
    memcpy(out->versions + match.n, none.versions, none.n * sizeof(*out->versions));
    out->n_match = match.n;
    out->n_none = none.n;
    return RG_OK;
}

/* An op on the item of the path; NULL: answered. */
static struct rg_op *item_op(struct rg_request *req, enum rg_op_kind kind)
{
    bool writes = kind == RG_OP_PUT || kind == RG_OP_PATCH;
    struct rg_jid jid;
    if (read_jid(req, !writes, &jid) == RG_OK && writes && is_self(req, &jid))
        rg_fail(&req->err, RG_E_SELF_CONTACT, "your own JID cannot be a contact");
    if (req->err.code != RG_OK) {
        rg_request_problem(req, &req->err, NULL);
        return NULL;
    }
    struct rg_op *op = rg_request_op(req, kind);
    if (op == NULL)
        return NULL;
    op->in.jid = strdup(jid.text);
    if (op->in.jid == NULL)
        rg_fail(&req->err, RG_E_INTERNAL, "out of memory");
    else if (kind != RG_OP_ITEM)
        (void)read_conditions(req, &op->in.condition);
    if (req->err.code == RG_OK)
        return op;
    rg_op_destroy(op);
    rg_request_problem(req, &req->err, NULL);
    return NULL;
}

void rg_items_get(struct rg_request *req)
{
    struct rg_op *op = item_op(req, RG_OP_ITEM);
    if (op != NULL)
        rg_request_submit_take(req, op);
}

/* The ETag of an item: the version at which it last changed. Its epoch is the roster's. */
static bool item_etag(const struct rg_op *op, char version[RG_VERSION_SIZE],
                      char etag[RG_ETAG_SIZE])
{
    struct rg_version roster;
    if (op->out.item == NULL || op->out.item->changed.mark == 0 ||
        !rg_version_parse(&roster, op->version, strlen(op->version)))
        return false;
    rg_version_format(version, roster.epoch, op->out.item->changed);
    rg_etag_format(etag, version, false);
    return true;
}

static void put_head(struct rg_buf *buf, const struct rg_op *op)
{
    rg_buf_puts(buf, "{\"version\":");
    if (op->version[0] == '\0')
        rg_buf_puts(buf, "null");
    else
        rg_json_string(buf, op->version, strlen(op->version));
    rg_buf_puts(buf, ",\"item\":");
    if (op->out.item != NULL)
        rg_item_json(buf, op->out.item);
    else
        rg_buf_puts(buf, "null");
}

static void put_allowed(struct rg_buf *buf, unsigned allowed)
{
    rg_buf_puts(buf, ",\"allowed\":[");
    bool first = true;
    for (unsigned bit = RG_ACTION_REQUEST; bit <= RG_ACTION_BEFRIEND; bit <<= 1) {
        if ((allowed & bit) == 0)
            continue;
        rg_buf_printf(buf, "%s\"%s\"", first ? "" : ",", rg_action_name(bit));
        first = false;
    }
    rg_buf_putc(buf, ']');
}

static void send_item(struct rg_request *req, struct rg_op *op, struct rg_buf *body,
                      const char *etag, bool same)
{
    struct MHD_Response *response = same ? rg_response_empty() : rg_response_from_buf(body);
    if (!same)
        rg_response_header(response, "Content-Type", "application/json");
    if (etag[0] != '\0')
        rg_response_header(response, "ETag", etag);
    if (op->version[0] != '\0')
        rg_response_header(response, "Rostergate-Version", op->version);
    if (op->out.stale)
        rg_response_stale(response, op->out.age_s);
    rg_request_send_take(req, same ? 304 : 200, response, RG_VARY_PLAIN, "private, no-cache");
}

void rg_items_got(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK) {
        rg_request_failed(req, op);
        return;
    }
    char version[RG_VERSION_SIZE] = "", etag[RG_ETAG_SIZE] = "";
    bool same = item_etag(op, version, etag) &&
                rg_etag_none_match(&req->headers, version, strlen(version));
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    put_head(&body, op);
    put_allowed(&body, op->out.allowed);
    rg_buf_putc(&body, '}');
    send_item(req, op, &body, etag, same);
}

static void write_item(struct rg_request *req, bool patch)
{
    RG_CLEANUP(rg_jsonp) json_t *json = NULL;
    struct rg_item_body body = {.name = NULL};
    if (rg_body_parse(req->body.data, req->body.len, &json, &req->err) != RG_OK ||
        rg_body_item(json, req->http->config, patch, &body, &req->err) != RG_OK) {
        rg_request_problem(req, &req->err, NULL);
        return;
    }
    struct rg_op *op = item_op(req, patch ? RG_OP_PATCH : RG_OP_PUT);
    if (op != NULL) {
        op->in.name = RG_TAKE(body.name);
        op->in.groups = RG_TAKE(body.groups);
        op->in.n_groups = body.n_groups;
        op->in.name_set = body.name_set;
        op->in.groups_set = body.groups_set;
        body.n_groups = 0;
        rg_request_submit_take(req, op);
    }
    rg_item_body_fini(&body);
}

void rg_items_put(struct rg_request *req)
{
    write_item(req, false);
}

void rg_items_patch(struct rg_request *req)
{
    write_item(req, true);
}

void rg_items_written(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK) {
        rg_request_failed(req, op);
        return;
    }
    char version[RG_VERSION_SIZE], etag[RG_ETAG_SIZE];
    bool tagged = item_etag(op, version, etag);
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    put_head(&body, op);
    rg_buf_putc(&body, '}');
    RG_CLEANUP(rg_buf_fini) struct rg_buf location = RG_BUF_INIT;
    if (op->out.created) {
        rg_buf_puts(&location, "/v1/roster/items/");
        rg_percent_encode(&location, op->in.jid, strlen(op->in.jid));
    }
    if (rg_buf_failed(&location)) {
        rg_request_fail(req, RG_E_INTERNAL, "out of memory");
        return;
    }
    rg_request_json(req, op->out.created ? 201 : 200, &body, op->version, tagged ? etag : NULL,
                    location.data);
}

void rg_items_delete(struct rg_request *req)
{
    struct rg_op *op = item_op(req, RG_OP_REMOVE);
    if (op != NULL)
        rg_request_submit_take(req, op);
}

void rg_items_deleted(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK)
        rg_request_failed(req, op);
    else
        rg_request_no_content(req, 204, op->version);
}

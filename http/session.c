/* /v1/session: sign-in, its state, renewal, sign-out (API section 2). */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"
#include "http/body.h"
#include "http/internal.h"

static void put_string(struct rg_buf *buf, const char *name, const char *value)
{
    rg_buf_printf(buf, "\"%s\":", name);
    rg_json_string(buf, value, strlen(value));
    rg_buf_putc(buf, ',');
}

static void put_version(struct rg_buf *buf, const char *version)
{
    rg_buf_puts(buf, "\"version\":");
    if (version[0] == '\0')
        rg_buf_puts(buf, "null");
    else
        rg_json_string(buf, version, strlen(version));
}

/* The address that sign-in failures count under. */
static void failure_address(struct rg_request *req, char out[RG_ADDRESS_KEY_SIZE])
{
    struct rg_address address;
    rg_address_client(&address, req->http->trust, &req->conn->peer, &req->headers);
    rg_address_key(&address, true, out);
}

/* A page of another site must not be able to sign its visitor in with an account of its own. A
 * client that is no browser sends neither header. */
static bool may_set_cookie(struct rg_request *req)
{
    if (!rg_headers_has(&req->headers, RG_HEADER_ORIGIN) &&
        !rg_headers_has(&req->headers, RG_HEADER_SEC_FETCH_SITE))
        return true;
    const struct rg_config *config = req->http->config;
    return rg_auth_same_site(&req->headers, &config->server.origins,
                             config->server.insecure_cookie);
}

void rg_rest_session_create(struct rg_request *req)
{
    RG_CLEANUP(rg_jsonp) json_t *body = NULL;
    struct rg_sign_in in = {.user = NULL};
    if (rg_body_parse(req->body.data, req->body.len, &body, &req->err) != RG_OK ||
        rg_body_sign_in(body, &in, &req->err) != RG_OK) {
        rg_request_problem(req, &req->err, NULL);
        return;
    }
    struct rg_op *op = NULL;
    if (in.cookie && !may_set_cookie(req)) {
        rg_meter_reject(RG_REJECT_CSRF);
        rg_request_fail(req, RG_E_CSRF, "a cookie is set for the same origin only");
    } else {
        op = rg_request_op(req, RG_OP_SIGN_IN);
    }
    if (op != NULL) {
        static_assert(sizeof(op->in.address) >= RG_ADDRESS_KEY_SIZE, "an address key fits");
        memcpy(op->claims.user, in.user, strlen(in.user) + 1);
        op->in.password = RG_TAKE(in.password);
        op->in.listen = in.listen;
        op->claims.presence = in.listen ? RG_TOKEN_LISTEN : RG_TOKEN_SILENT;
        failure_address(req, op->in.address);
        /* The finishing half needs to know it; a source of its own says so. */
        req->auth.source = in.cookie ? RG_AUTH_COOKIE : RG_AUTH_NONE;
        rg_request_submit_take(req, op);
    }
    rg_sign_in_fini(&in);
}

/* The whole answer holds the token: its bytes are wiped once they are sent. */
static void wipe_and_free(void *data)
{
    struct rg_buf *buf = data;
    rg_wipe(buf->data, buf->cap);
    rg_buf_fini(buf);
    free(buf);
}

static struct MHD_Response *secret_response(struct rg_buf *body)
{
    struct rg_buf *kept = malloc(sizeof(*kept));
    if (kept == NULL || rg_buf_failed(body)) {
        free(kept);
        return NULL;
    }
    *kept = *body;
    *body = (struct rg_buf)RG_BUF_INIT;
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        kept->len, kept->data, wipe_and_free, kept);
    if (response == NULL)
        wipe_and_free(kept);
    return response;
}

static void add_cookie(struct rg_request *req, struct MHD_Response *response, const char *token)
{
    bool insecure = req->http->config->server.insecure_cookie;
    RG_CLEANUP(rg_buf_fini) struct rg_buf cookie = RG_BUF_INIT;
    (void)rg_buf_reserve(&cookie, strlen(token) + 128);
    rg_buf_puts(&cookie, rg_auth_cookie_name(insecure));
    rg_buf_putc(&cookie, '=');
    rg_buf_puts(&cookie, token);
    rg_buf_puts(&cookie, insecure ? "; HttpOnly; SameSite=Strict; Path=/"
                                  : "; HttpOnly; Secure; SameSite=Strict; Path=/");
    if (token[0] == '\0')
        rg_buf_puts(&cookie, "; Max-Age=0");
    if (!rg_buf_failed(&cookie))
        rg_response_header(response, "Set-Cookie", cookie.data);
    if (cookie.data != NULL)
        rg_wipe(cookie.data, cookie.cap);
}

static void answer_token(struct rg_request *req, struct rg_op *op, unsigned status)
{
    const char *token = op->out.token.data;
    if (token == NULL || rg_buf_failed(&op->out.token)) {
        rg_request_fail(req, RG_E_INTERNAL, "out of memory");
        return;
    }
    struct rg_buf body = RG_BUF_INIT;
    (void)rg_buf_reserve(&body, op->out.token.len + 2 * RG_JID_BARE_MAX + 512);
    rg_buf_putc(&body, '{');
    put_string(&body, "token", token);
    put_string(&body, "token_type", "Bearer");
    rg_buf_puts(&body, "\"expires_at\":\"");
    rg_time_rfc3339(&body, op->out.claims.expires_s);
    rg_buf_puts(&body, "\",");
    put_string(&body, "jid", op->out.claims.user);
    put_string(&body, "state", rg_state_name(op->out.state));
    put_version(&body, op->version);
    rg_buf_putc(&body, '}');
    struct MHD_Response *response = secret_response(&body);
    rg_buf_fini(&body);
    rg_response_header(response, "Content-Type", "application/json");
    if (op->version[0] != '\0')
        rg_response_header(response, "Rostergate-Version", op->version);
    if (response != NULL && req->auth.source == RG_AUTH_COOKIE)
        add_cookie(req, response, token);
    rg_request_send_take(req, status, response, RG_VARY_PLAIN, "no-store");
}

void rg_rest_session_created(struct rg_request *req, struct rg_op *op)
{
    /* No version: to whom the password is not known, it would tell that the account is, and how
     * often its roster changed (API section 2: wrong password and unknown user are the same).
     */
    if (op->err.code != RG_OK)
        rg_request_problem(req, &op->err, NULL);
    else
        answer_token(req, op, 201);
}

static void submit_plain(struct rg_request *req, enum rg_op_kind kind)
{
    struct rg_op *op = rg_request_op(req, kind);
    if (op != NULL)
        rg_request_submit_take(req, op);
}

void rg_rest_session_get(struct rg_request *req)
{
    submit_plain(req, RG_OP_SESSION);
}

void rg_rest_session_got(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK) {
        rg_request_failed(req, op);
        return;
    }
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    rg_buf_putc(&body, '{');
    put_string(&body, "jid", op->claims.user);
    put_string(&body, "state", rg_state_name(op->out.state));
    rg_buf_puts(&body, "\"expires_at\":\"");
    rg_time_rfc3339(&body, op->claims.expires_s);
    rg_buf_puts(&body, "\",");
    put_string(&body, "presence", op->claims.presence == RG_TOKEN_LISTEN ? "listen" : "none");
    put_version(&body, op->version);
    rg_buf_printf(&body, ",\"roster_versioning\":%s,\"pre_approval\":%s}",
                  op->out.roster_versioning ? "true" : "false",
                  op->out.pre_approval ? "true" : "false");
    rg_request_json(req, 200, &body, op->version, NULL, NULL);
}

void rg_rest_session_renew(struct rg_request *req)
{
    bool set = false, listen = false;
    if (req->body.len > 0) {
        RG_CLEANUP(rg_jsonp) json_t *body = NULL;
        if (rg_body_parse(req->body.data, req->body.len, &body, &req->err) != RG_OK ||
            rg_body_renew(body, &set, &listen, &req->err) != RG_OK) {
            rg_request_problem(req, &req->err, NULL);
            return;
        }
    }
    struct rg_op *op = rg_request_op(req, RG_OP_RENEW);
    if (op == NULL)
        return;
    op->in.listen_set = set;
    op->in.listen = listen;
    rg_request_submit_take(req, op);
}

void rg_rest_session_renewed(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK)
        rg_request_failed(req, op);
    else
        answer_token(req, op, 200);
}

void rg_rest_session_delete(struct rg_request *req)
{
    const char *all = rg_query_get(&req->query, "all");
    if (all != NULL && strcmp(all, "1") != 0) {
        rg_request_fail(req, RG_E_INVALID_QUERY, "all: only 1 is allowed");
        return;
    }
    struct rg_op *op = rg_request_op(req, RG_OP_SIGN_OUT);
    if (op == NULL)
        return;
    op->in.all = all != NULL;
    rg_request_submit_take(req, op);
}

void rg_rest_session_deleted(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK) {
        rg_request_failed(req, op);
        return;
    }
    struct MHD_Response *response = rg_response_empty();
    if (response != NULL && req->auth.source == RG_AUTH_COOKIE)
        add_cookie(req, response, "");
    rg_request_send_take(req, op->out.everywhere ? 204 : 202, response, RG_VARY_PLAIN,
                         "no-store");
}

/* The operations listener: /livez, /readyz, /metrics (API section 7), and DELETE /accounts/JID,
 * which erases what is kept of an account. Its lane runs on the main loop, beside the acceptor.
 *
 * /livez posts a probe to every loop and answers when all have come back; a loop that does not
 * come round in two seconds makes it 503. One round of probes serves everybody who asks
 * meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/jid.h"
#include "gateway/base/text.h"
#include "http/internal.h"

enum { PROBE_MS = 2000 };

struct probe {
    struct rg_message message; /* out to the loop, and back */
    struct rg_operations *operations;
    struct rg_loop *loop;
    bool out;
};

struct waiter {
    struct rg_request *req;
    int64_t due_ms;
    struct waiter *next;
};

struct rg_operations {
    struct rg_http *http;
    struct rg_timer timer;
    struct rg_message health_message;
    struct rg_buf health;
    bool health_out, gone;
    struct waiter *live, *ready; /* who asked */
    size_t n_probes;
    struct probe probes[];
};

/* --- a round ------------------------------------------------------------------------------ */

/* Answers those whose time is up at due_ms; late: without what they asked for. */
static void resume(struct waiter **list, int64_t due_ms, bool late)
{
    while (*list != NULL) {
        struct waiter *waiter = *list;
        if (waiter->due_ms > due_ms) {
            list = &waiter->next;
            continue;
        }
        *list = waiter->next;
        waiter->req->late = late;
        rg_request_resume(waiter->req);
        free(waiter);
    }
}

static bool any_probe_out(const struct rg_operations *operations)
{
    for (size_t i = 0; i < operations->n_probes; i++) {
        if (operations->probes[i].out)
            return true;
    }
    return false;
}

/* The last message came home after everything else was gone. */
static bool freed(struct rg_operations *operations)
{
    if (!operations->gone || any_probe_out(operations) || operations->health_out)
        return false;
    rg_buf_fini(&operations->health);
    free(operations);
    return true;
}

static void on_probe_back(struct rg_message *message)
{
    struct probe *probe = RG_CONTAINER_OF(message, struct probe, message);
    struct rg_operations *operations = probe->operations;
    probe->out = false;
    if (!freed(operations) && !any_probe_out(operations))
        resume(&operations->live, INT64_MAX, false);
}

/* Thread: the probed loop's. */
static void on_probe(struct rg_message *message)
{
    struct probe *probe = RG_CONTAINER_OF(message, struct probe, message);
    message->fn = on_probe_back;
    rg_loop_post(probe->operations->http->main_loop, message);
}

static void on_health_back(struct rg_message *message)
{
    struct rg_operations *operations =
        RG_CONTAINER_OF(message, struct rg_operations, health_message);
    operations->health_out = false;
    if (freed(operations))
        return;
    /* Each has its own: the next who asks may begin another before these are answered. */
    for (struct waiter *waiter = operations->ready; waiter != NULL; waiter = waiter->next)
        rg_buf_append(&waiter->req->body, operations->health.data, operations->health.len);
    resume(&operations->ready, INT64_MAX, rg_buf_failed(&operations->health));
}

/* Thread: core. */
static void on_health(struct rg_message *message)
{
    struct rg_operations *operations =
        RG_CONTAINER_OF(message, struct rg_operations, health_message);
    rg_core_health(operations->http->core, &operations->health);
    message->fn = on_health_back;
    rg_loop_post(operations->http->main_loop, message);
}

static void start_timer(struct rg_operations *operations)
{
    struct rg_loop *loop = operations->http->main_loop;
    const struct waiter *lists[] = {operations->live, operations->ready};
    int64_t first_ms = INT64_MAX;
    for (size_t i = 0; i < 2; i++) {
        for (const struct waiter *waiter = lists[i]; waiter != NULL; waiter = waiter->next)
            first_ms = waiter->due_ms < first_ms ? waiter->due_ms : first_ms;
    }
    if (first_ms != INT64_MAX)
        rg_timer_start(&operations->timer, loop, first_ms - rg_loop_now_ms(loop));
}

static void on_late(struct rg_timer *timer)
{
    struct rg_operations *operations = RG_CONTAINER_OF(timer, struct rg_operations, timer);
    int64_t now_ms = rg_loop_now_ms(operations->http->main_loop);
    resume(&operations->live, now_ms, true);
    resume(&operations->ready, now_ms, true);
    start_timer(operations);
}

static bool wait_for(struct rg_operations *operations, struct waiter **list,
                     struct rg_request *req)
{
    struct waiter *waiter = malloc(sizeof(*waiter));
    if (waiter == NULL) {
        rg_request_fail(req, RG_E_INTERNAL, "out of memory");
        return false;
    }
    int64_t now_ms = rg_loop_now_ms(operations->http->main_loop);
    *waiter = (struct waiter){req, now_ms + PROBE_MS, *list};
    *list = waiter;
    rg_buf_clear(&req->body);
    rg_request_suspend(req);
    if (!rg_timer_armed(&operations->timer))
        start_timer(operations);
    return true;
}

/* --- answers ------------------------------------------------------------------------------ */

static void answer(struct rg_request *req, unsigned status, const char *type,
                   struct rg_buf *body)
{
    struct MHD_Response *response = rg_response_from_buf(body);
    rg_response_header(response, "Content-Type", type);
    rg_request_send_take(req, status, response, RG_VARY_PLAIN, "no-store");
}

void rg_operations_livez(struct rg_request *req)
{
    struct rg_operations *operations = req->http->operations;
    bool begun = operations->live != NULL;
    if (!wait_for(operations, &operations->live, req) || begun)
        return;
    for (size_t i = 0; i < operations->n_probes; i++) {
        struct probe *probe = &operations->probes[i];
        if (probe->out) /* of an earlier round; it says as much */
            continue;
        probe->out = true;
        probe->message.fn = on_probe;
        rg_loop_post(probe->loop, &probe->message);
    }
}

void rg_operations_livez_done(struct rg_request *req, struct rg_op *op)
{
    struct rg_operations *operations = req->http->operations;
    (void)op;
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    bool alive = !req->late;
    rg_buf_printf(&body, "{\"status\":\"%s\",\"loops\":[", alive ? "live" : "stuck");
    for (size_t i = 0; i < operations->n_probes; i++) {
        const struct probe *probe = &operations->probes[i];
        rg_buf_puts(&body, i > 0 ? ",{\"name\":" : "{\"name\":");
        rg_json_string(&body, rg_loop_name(probe->loop), strlen(rg_loop_name(probe->loop)));
        rg_buf_printf(&body, ",\"ticks\":%s}", req->late && probe->out ? "false" : "true");
    }
    rg_buf_puts(&body, "]}\n");
    answer(req, alive ? 200 : 503, "application/json", &body);
}

void rg_operations_readyz(struct rg_request *req)
{
    struct rg_operations *operations = req->http->operations;
    if (!wait_for(operations, &operations->ready, req) || operations->health_out)
        return;
    operations->health_out = true;
    rg_buf_clear(&operations->health);
    operations->health_message.fn = on_health;
    rg_loop_post(operations->http->core_loop, &operations->health_message);
}

void rg_operations_readyz_done(struct rg_request *req, struct rg_op *op)
{
    (void)op;
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    bool stopping = atomic_load(&req->http->not_ready) || atomic_load(&req->http->draining);
    bool known = !req->late && !rg_buf_failed(&req->body);
    rg_buf_printf(&body, "{\"status\":\"%s\"",
                  stopping ? "draining"
                  : known  ? "ready"
                           : "core not answering");
    if (known && req->body.len > 0) {
        rg_buf_putc(&body, ',');
        rg_buf_append(&body, req->body.data, req->body.len);
    }
    rg_buf_puts(&body, "}\n");
    answer(req, stopping || !known ? 503 : 200, "application/json", &body);
}

void rg_operations_metrics(struct rg_request *req)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    rg_metrics_write(&body);
    answer(req, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

/* --- erasing an account ------------------------------------------------------------------- */

/* No browser is wanted here: pages of this machine, or behind a name that leads to it, send
 * Origin with every DELETE. */
static bool is_a_browser(const struct rg_request *req)
{
    return rg_headers_has(&req->headers, RG_HEADER_ORIGIN) ||
           rg_headers_has(&req->headers, RG_HEADER_SEC_FETCH_SITE);
}

void rg_operations_erase(struct rg_request *req)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf text = RG_BUF_INIT;
    struct rg_err why = RG_ERR_INIT;
    struct rg_jid jid;
    if (is_a_browser(req)) {
        rg_meter_reject(RG_REJECT_CSRF);
        rg_request_fail(req, RG_E_CSRF, "not from a web page");
        return;
    }
    if (!rg_percent_decode(&text, req->wild.text, req->wild.len, false) ||
        rg_buf_failed(&text)) {
        rg_request_fail(req, RG_E_BAD_REQUEST, "the JID in the path does not decode");
        return;
    }
    if (rg_jid_prepare_bare(&jid, text.data, text.len, &why) != RG_OK || jid.local_len == 0) {
        rg_request_fail(req, RG_E_INVALID_JID, "the path names no account");
        return;
    }
    struct rg_op *op = rg_request_op(req, RG_OP_ERASE);
    if (op == NULL)
        return;
    memcpy(op->claims.user, jid.text, jid.len + 1);
    rg_request_submit_take(req, op);
}

void rg_operations_erased(struct rg_request *req, struct rg_op *op)
{
    if (op->err.code != RG_OK)
        rg_request_failed(req, op);
    else
        rg_request_no_content(req, op->out.everywhere ? 204 : 202, NULL);
}

/* --- lifetime ----------------------------------------------------------------------------- */

struct rg_operations *rg_operations_create(struct rg_http *http)
{
    size_t n = http->n_lanes + 1;
    struct rg_operations *operations =
        calloc(1, sizeof(*operations) + n * sizeof(operations->probes[0]));
    if (operations == NULL)
        return NULL;
    operations->http = http;
    operations->n_probes = n;
    for (size_t i = 0; i < n; i++) {
        operations->probes[i].operations = operations;
        operations->probes[i].loop = i < http->n_lanes ? http->lanes[i]->loop : http->core_loop;
    }
    if (rg_timer_init(&operations->timer, http->main_loop, on_late) != RG_OK) {
        free(operations);
        return NULL;
    }
    return operations;
}

void rg_operations_destroy(struct rg_operations *operations)
{
    if (operations == NULL)
        return;
    while (operations->live != NULL || operations->ready != NULL) {
        struct waiter **list =
            operations->live != NULL ? &operations->live : &operations->ready;
        struct waiter *waiter = *list;
        *list = waiter->next;
        free(waiter);
    }
    rg_timer_fini(&operations->timer, operations->http->main_loop);
    operations->gone = true;
    (void)freed(operations);
}

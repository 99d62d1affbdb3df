/* The life of a visit: looking up, one attempt per address, up, closing, doomed. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/jid.h"
#include "gateway/base/log.h"
#include "gateway/base/random.h"
#include "gateway/base/text.h"
#include "xmpp/front.h"

enum { RETRY_S = 5 };

/* ---- the gate: a domain whose servers hang in TLS is tried by one probe at a time ---- */

static bool gate_closed(const struct rg_served *served)
{
    return served->handshake_failures >= RG_HANDSHAKE_FAILURES;
}

/* Everybody else who might block the worker for another five seconds goes as well. */
static void close_gate(struct rg_served *served, struct rg_visit *but)
{
    rg_log(RG_LOG_WARN, "xmpp", "sign-ins-refused", RG_STR("domain", served->domain.domain),
           RG_INT("handshakes-failed", served->handshake_failures));
    for (size_t i = 0; i < served->n_processes; i++) {
        struct rg_visit *visit = TAILQ_FIRST(&served->processes[i].visits);
        while (visit != NULL) {
            struct rg_visit *next = TAILQ_NEXT(visit, link);
            if (visit != but && visit->state == RG_VISIT_OPENING && !visit->secured)
                rg_visit_doom(visit, RG_E_UNREACHABLE,
                              "TLS handshakes with the XMPP server fail or hang");
            visit = next;
        }
    }
}

void rg_visit_handshake_failed(struct rg_visit *visit)
{
    struct rg_served *served = visit->served;
    served->handshake_failures++;
    served->probe_after_ms = rg_loop_now_ms(visit->front->loop) + RG_PROBE_PAUSE_MS;
    if (served->handshake_failures == RG_HANDSHAKE_FAILURES)
        close_gate(served, visit);
}

/* ---- small parts ---- */

void rg_visit_drop_socket(struct rg_visit *visit)
{
    if (visit->fd < 0)
        return;
    close(visit->fd);
    visit->fd = -1;
}

void rg_visit_drop_reading(struct rg_visit *visit)
{
    if (!visit->reading)
        return;
    visit->reading = false;
    rg_roster_builder_fini(&visit->builder);
    free(visit->reading_ver);
    visit->reading_ver = NULL;
    visit->reading_ver_len = 0;
}

/* The sign-in is decided, one way or the other. */
static void end_sign_in(struct rg_visit *visit)
{
    if (!visit->signing_in)
        return;
    visit->signing_in = false;
    visit->served->signins--;
    if (visit->probe)
        visit->served->probing = false;
    visit->probe = false;
    rg_secret_destroy(visit->password);
    visit->password = NULL;
    rg_visit_drop_socket(visit);
}

static void leave_list(struct rg_visit *visit)
{
    if (visit->state == RG_VISIT_RESOLVING) {
        TAILQ_REMOVE(&visit->served->resolving, visit, link);
    } else if (visit->process != NULL) {
        if (visit->process->handshaking == visit)
            rg_process_handshake(visit->process, NULL);
        TAILQ_REMOVE(&visit->process->visits, visit, link);
        visit->process->n_visits--;
        visit->process = NULL;
    }
}

bool rg_visit_send_take(struct rg_visit *visit, struct rg_frame_out *frame)
{
    if (frame == NULL || frame->failed) {
        rg_frame_free(frame);
        return false;
    }
    rg_process_send_take(visit->process, frame);
    return true;
}

static void send_empty(struct rg_visit *visit, enum rg_frame_type type)
{
    if (visit->at_worker)
        rg_visit_send_take(visit, rg_frame_new(type, visit->index, visit->generation, false));
}

struct rg_request *rg_visit_take_request(struct rg_visit *visit, uint32_t id)
{
    struct rg_request *request;
    TAILQ_FOREACH(request, &visit->requests, link)
    {
        if (request->id != id)
            continue;
        TAILQ_REMOVE(&visit->requests, request, link);
        visit->n_requests--;
        visit->served->iqs--;
        int64_t took_ms = rg_loop_now_ms(visit->front->loop) - request->sent_ms;
        rg_metric_observe_us(request->duration, took_ms * 1000);
        return request;
    }
    return NULL;
}

void rg_visit_arm(struct rg_visit *visit)
{
    const struct rg_request *first = TAILQ_FIRST(&visit->requests);
    if (visit->state != RG_VISIT_UP)
        return; /* the other states keep the deadline they were given */
    if (first == NULL)
        rg_timer_stop(&visit->timer, visit->front->loop);
    else
        rg_timer_start(&visit->timer, visit->front->loop,
                       first->due_ms - rg_loop_now_ms(visit->front->loop));
}

/* ---- the end ---- */

void rg_visit_doom(struct rg_visit *visit, enum rg_code code, const char *why)
{
    struct rg_front *front = visit->front;
    if (visit->state == RG_VISIT_DOOMED)
        return;
    if (visit->at_worker && visit->fd >= 0)
        shutdown(visit->fd, SHUT_RDWR); /* gets the worker out of a handshake at once */
    send_empty(visit, RG_FRAME_ABORT);
    visit->at_worker = false;
    leave_list(visit);
    end_sign_in(visit);
    rg_timer_stop(&visit->timer, front->loop);
    rg_visit_drop_reading(visit);
    rg_fail(&visit->why, code, "%s", why);
    if (code == RG_E_UNREACHABLE)
        visit->why.retry_after_s = RETRY_S;
    visit->state = RG_VISIT_DOOMED;
    TAILQ_INSERT_TAIL(&front->doomed, visit, link);
    rg_front_later(front);
}

/* A request that was handed to the worker may have reached the server: nobody can tell. */
static void answer_uncertain(struct rg_visit *visit, struct rg_request *request)
{
    struct rg_roster_answer answer = {.err = RG_ERR_INIT};
    struct rg_err err = RG_ERR_INIT;
    rg_fail(&err, RG_E_UNCERTAIN, "no answer came: %s", visit->why.text);
    answer.err = err;
    if (request->on_roster != NULL)
        request->on_roster(request->arg, &answer);
    else
        request->on_done(request->arg, &err);
    free(request);
}

void rg_visit_bury(struct rg_visit *visit)
{
    struct rg_request *request;
    while ((request = TAILQ_FIRST(&visit->requests)) != NULL)
        answer_uncertain(visit, rg_visit_take_request(visit, request->id));
    visit->handler->closed(visit->arg, &visit->why);
    rg_visit_free(visit);
}

void rg_visit_free(struct rg_visit *visit)
{
    struct rg_front *front = visit->front;
    front->table[visit->index] = NULL;
    front->free_places[front->n_free++] = visit->index;
    front->n_visits--;
    visit->served->sessions--;
    rg_metric_add(front->sessions, -1);
    rg_timer_fini(&visit->timer, front->loop);
    rg_secret_destroy(visit->password);
    rg_visit_drop_socket(visit);
    rg_visit_drop_reading(visit);
    free(visit->user);
    free(visit);
}

/* ---- attempts ---- */

static void send_open(struct rg_visit *visit, const struct rg_address *address)
{
    char name[RG_LOG_USER_SIZE];
    rg_log_user(name, visit->user);
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_OPEN, visit->index, visit->generation, true);
    rg_put_u8(frame, visit->mode == RG_UPSTREAM_VERIFY);
    rg_put_str(frame, visit->user);
    rg_put_str(frame, name);
    rg_put_text(frame, rg_secret_data(visit->password), rg_secret_len(visit->password));
    rg_put_str(frame, address->text);
    rg_put_u32(frame, address->port);
    rg_put_u8(frame, address->direct_tls);
    visit->at_worker = rg_visit_send_take(visit, frame);
    if (!visit->at_worker)
        rg_visit_doom(visit, RG_E_INTERNAL, "out of memory");
}

/* Without TLS only loopback is ever reached, whatever a name resolves to. */
static const struct rg_address *next_address(struct rg_visit *visit)
{
    while (visit->next_address < visit->addresses.n) {
        const struct rg_address *at = &visit->addresses.v[visit->next_address++];
        if (!visit->served->plaintext || rg_address_is_loopback(at->text))
            return at;
    }
    return NULL;
}

static bool attempt(struct rg_visit *visit)
{
    const struct rg_address *address = next_address(visit);
    if (address == NULL)
        return false;
    visit->generation = ++visit->front->last_generation;
    visit->secured = false;
    send_open(visit, address);
    return true;
}

void rg_visit_attempt_failed(struct rg_visit *visit, enum rg_stage stage,
                             const struct rg_err *why)
{
    struct rg_served *served = visit->served;
    if (visit->fd >= 0)
        shutdown(visit->fd, SHUT_RDWR);
    send_empty(visit, RG_FRAME_ABORT);
    visit->at_worker = false;
    if (visit->process->handshaking == visit)
        rg_process_handshake(visit->process, NULL);
    rg_visit_drop_socket(visit);
    if (visit->state == RG_VISIT_OPENING && stage < RG_STAGE_AUTH && !visit->front->stopping &&
        attempt(visit))
        return;
    bool refused = why->code == RG_E_UNAUTHORIZED;
    rg_metric_add(refused ? visit->front->connects_refused : visit->front->connects_failed, 1);
    if (refused || stage >= RG_STAGE_AUTH) {
        served->handshake_failures = 0;
        served->reachable = true;
    }
    if (!refused && why->code != RG_E_CANCELLED) {
        served->reachable = false;
        served->addresses_until_ms = 0; /* look them up again next time */
    }
    rg_visit_doom(visit, why->code, why->text);
}

void rg_visit_bound(struct rg_visit *visit, const struct rg_upstream_features *features)
{
    visit->served->handshake_failures = 0;
    visit->served->reachable = true;
    rg_metric_add(visit->front->connects_ok, 1);
    if (visit->process->handshaking == visit)
        rg_process_handshake(visit->process, NULL);
    end_sign_in(visit);
    bool stays = visit->state == RG_VISIT_OPENING && visit->mode == RG_UPSTREAM_SESSION;
    if (stays) {
        visit->state = RG_VISIT_UP;
        rg_timer_stop(&visit->timer, visit->front->loop);
    } else {
        visit->state = RG_VISIT_CLOSING;
        rg_timer_start(&visit->timer, visit->front->loop, RG_CLOSE_MS);
    }
    visit->handler->bound(visit->arg, features);
}

static void on_timer(struct rg_timer *timer)
{
    struct rg_visit *visit = RG_CONTAINER_OF(timer, struct rg_visit, timer);
    switch (visit->state) {
    case RG_VISIT_RESOLVING:
    case RG_VISIT_OPENING:
        if (visit->process != NULL && visit->process->handshaking == visit)
            rg_visit_handshake_failed(visit);
        visit->served->reachable = false;
        rg_metric_add(visit->front->connects_failed, 1);
        rg_visit_doom(visit, RG_E_TIMEOUT, "the XMPP server did not answer the sign-in");
        break;
    case RG_VISIT_UP:
        rg_log(RG_LOG_ERROR, "xmpp", "worker-owes-an-answer",
               RG_STR("domain", visit->served->domain.domain));
        rg_visit_doom(visit, RG_E_UNREACHABLE, "the XMPP worker did not answer");
        break;
    case RG_VISIT_CLOSING:
        rg_visit_doom(visit, RG_E_CANCELLED, "closed");
        break;
    case RG_VISIT_DOOMED:
        break;
    }
}

/* ---- looking up ---- */

static void choose_process(struct rg_visit *visit)
{
    struct rg_served *served = visit->served;
    size_t at = rg_hash(visit->user, strlen(visit->user)) % served->n_processes;
    visit->process = &served->processes[at];
}

static void begin_attempts(struct rg_visit *visit)
{
    struct rg_process *process = visit->process;
    visit->addresses = visit->served->addresses;
    visit->next_address = 0;
    visit->state = RG_VISIT_OPENING;
    TAILQ_INSERT_TAIL(&process->visits, visit, link);
    process->n_visits++;
    if (!process->running)
        rg_visit_doom(visit, RG_E_UNREACHABLE, "the XMPP worker is being replaced");
    else if (!attempt(visit))
        rg_visit_doom(visit, RG_E_UNREACHABLE, "without TLS only loopback is reached");
}

static void on_looked_up(void *arg, const struct rg_addresses *addresses, const char *why)
{
    struct rg_served *served = arg;
    struct rg_visit *visit;
    served->lookup = NULL;
    if (addresses != NULL) {
        served->addresses = *addresses;
        served->addresses_until_ms = rg_loop_now_ms(served->front->loop) + RG_ADDRESS_TTL_MS;
    } else {
        served->reachable = false;
        rg_log(RG_LOG_WARN, "xmpp", "name-not-found", RG_STR("domain", served->domain.domain),
               RG_STR("reason", why));
    }
    while ((visit = TAILQ_FIRST(&served->resolving)) != NULL) {
        if (addresses == NULL) {
            rg_visit_doom(visit, RG_E_UNREACHABLE, "the XMPP server's name is not found");
            continue;
        }
        TAILQ_REMOVE(&served->resolving, visit, link);
        begin_attempts(visit);
    }
}

/* Finds out where the server is, unless that is known. */
static enum rg_code find_addresses(struct rg_visit *visit, struct rg_err *err)
{
    struct rg_served *served = visit->served;
    struct rg_address literal;
    if (rg_address_literal(&literal, served->domain.host, served->domain.port)) {
        literal.direct_tls = served->domain.direct_tls;
        served->addresses.n = 1;
        served->addresses.v[0] = literal;
        served->addresses_until_ms = INT64_MAX;
    }
    if (served->addresses_until_ms > rg_loop_now_ms(visit->front->loop)) {
        begin_attempts(visit);
        return RG_OK;
    }
    if (served->lookup == NULL)
        served->lookup =
            rg_lookup_start(visit->front->loop, &served->domain,
                            &visit->front->config->xmpp.dns_servers, on_looked_up, served, err);
    if (served->lookup == NULL)
        return err != NULL && err->code != RG_OK ? err->code : RG_E_UNREACHABLE;
    TAILQ_INSERT_TAIL(&served->resolving, visit, link);
    return RG_OK;
}

/* ---- opening ---- */

static enum rg_code admit(struct rg_front *front, struct rg_served *served, bool *out_probe,
                          struct rg_err *err)
{
    const struct rg_config *config = front->config;
    int64_t now_ms = rg_loop_now_ms(front->loop);
    if (front->n_visits >= (size_t)config->xmpp.max_sessions)
        return rg_fail(err, RG_E_POOL_FULL, "xmpp.max_sessions is reached");
    if (served->signins >= (size_t)config->limits.signins_in_flight) {
        rg_fail(err, RG_E_RATE, "too many sign-ins at this XMPP server at once");
        if (err != NULL)
            err->retry_after_s = 1;
        return RG_E_RATE;
    }
    *out_probe = gate_closed(served);
    if (*out_probe && (served->probing || now_ms < served->probe_after_ms)) {
        rg_fail(err, RG_E_UNREACHABLE, "TLS handshakes with the XMPP server fail or hang");
        if (err != NULL)
            err->retry_after_s = RETRY_S;
        return RG_E_UNREACHABLE;
    }
    return RG_OK;
}

static bool take_place(struct rg_front *front, struct rg_visit *visit)
{
    if (front->n_free == 0) {
        uint32_t n = front->table_n == 0 ? 64 : front->table_n * 2;
        struct rg_visit **table = realloc(front->table, n * sizeof(struct rg_visit *));
        if (table != NULL)
            front->table = table;
        uint32_t *places = realloc(front->free_places, n * sizeof(*places));
        if (places != NULL)
            front->free_places = places;
        if (table == NULL || places == NULL)
            return false;
        for (uint32_t i = n; i-- > front->table_n;) {
            front->table[i] = NULL;
            front->free_places[front->n_free++] = i;
        }
        front->table_n = n;
    }
    visit->index = front->free_places[--front->n_free];
    front->table[visit->index] = visit;
    visit->id = (uint64_t)++front->last_serial << 32 | (visit->index + 1U);
    return true;
}

static struct rg_visit *visit_create(struct rg_front *front, struct rg_served *served,
                                     const char *user)
{
    struct rg_visit *visit = calloc(1, sizeof(*visit));
    if (visit == NULL)
        return NULL;
    visit->front = front;
    visit->served = served;
    visit->fd = -1;
    visit->user = strdup(user);
    TAILQ_INIT(&visit->requests);
    bool timed = rg_timer_init(&visit->timer, front->loop, on_timer) == RG_OK;
    if (visit->user == NULL || !timed || !take_place(front, visit)) {
        if (timed)
            rg_timer_fini(&visit->timer, front->loop);
        free(visit->user);
        free(visit);
        return NULL;
    }
    front->n_visits++;
    served->sessions++;
    rg_metric_add(front->sessions, 1);
    return visit;
}

/* What no server could accept is not sent to one: libstrophe would cut a password at its first
 * NUL, and sign in anonymously for a JID without local part. */
static bool may_be_right(const char *user, const struct rg_secret *password)
{
    struct rg_jid jid;
    const char *text = rg_secret_data(password);
    size_t len = rg_secret_len(password);
    return rg_jid_prepare_bare(&jid, user, strlen(user), NULL) == RG_OK && jid.local_len > 0 &&
           len > 0 && len < RG_FRAME_MAX / 2 && memchr(text, '\0', len) == NULL &&
           rg_utf8_valid(text, len);
}

enum rg_code rg_visit_open(struct rg_front *front, struct rg_served *served,
                           enum rg_upstream_mode mode, const char *user,
                           struct rg_secret *password_take,
                           const struct rg_upstream_handler *handler, void *arg,
                           uint64_t *out_session, struct rg_err *err)
{
    RG_CLEANUP(rg_secret_destroyp) struct rg_secret *password = password_take;
    bool probe = false;
    enum rg_code code = admit(front, served, &probe, err);
    if (code != RG_OK)
        return code;
    struct rg_visit *visit = visit_create(front, served, user);
    if (visit == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    choose_process(visit);
    if (!visit->process->running) {
        rg_visit_free(visit);
        return rg_fail(err, RG_E_UNREACHABLE, "the XMPP worker is being replaced");
    }
    if (visit->process->n_visits >= visit->process->capacity) {
        rg_visit_free(visit);
        return rg_fail(err, RG_E_POOL_FULL, "the worker's descriptors are used up");
    }
    bool hopeless = !may_be_right(user, password);
    visit->mode = mode;
    visit->handler = handler;
    visit->arg = arg;
    visit->password = RG_TAKE(password);
    visit->signing_in = true;
    served->signins++;
    visit->probe = probe;
    served->probing = served->probing || probe;
    rg_timer_start(&visit->timer, front->loop, front->config->xmpp.connect_timeout_ms);
    if (!hopeless) {
        code = find_addresses(visit, err);
    } else {
        TAILQ_INSERT_TAIL(&served->resolving, visit, link);
        rg_visit_doom(visit, RG_E_UNAUTHORIZED,
                      "the XMPP server would refuse these credentials");
    }
    if (code != RG_OK) {
        end_sign_in(visit);
        rg_visit_free(visit);
        return code;
    }
    *out_session = visit->id;
    return RG_OK;
}

void rg_visit_close(struct rg_visit *visit)
{
    if (visit->state == RG_VISIT_CLOSING || visit->state == RG_VISIT_DOOMED)
        return;
    if (visit->state != RG_VISIT_UP) {
        rg_visit_doom(visit, RG_E_CANCELLED, "closed");
        return;
    }
    send_empty(visit, RG_FRAME_CLOSE);
    visit->state = RG_VISIT_CLOSING;
    rg_timer_start(&visit->timer, visit->front->loop, RG_CLOSE_MS);
}

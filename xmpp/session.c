#include "xmpp/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/random.h"
#include "xmpp/expat.h"

enum {
    RUNS_PER_TURN = 8,
    EMPTY_RUNS_TLS = 4, /* bytes may wait inside the SSL object, where nobody can see them */
    HUP_TURNS = 64,
    RESOURCE_SIZE = 26 /* '/', 24 hex digits, NUL */
};

/* The sockopt callback of libstrophe 0.12.2 has no user data. */
static struct rg_worker *the_worker;

/* ---- the slot ---- */

static void slot_park(struct rg_worker *worker)
{
    worker->bound = NULL;
    if (dup3(worker->devnull, worker->slot, O_CLOEXEC) < 0)
        abort(); /* without the slot every session would touch a stranger's socket */
}

static void slot_bind(struct rg_session *session)
{
    struct rg_worker *worker = session->worker;
    if (session->fd < 0 || worker->bound == session)
        return;
    if (dup3(session->fd, worker->slot, O_CLOEXEC) < 0)
        abort();
    worker->bound = session;
}

/* libstrophe has closed the slot's number, or will not use it again: occupies it, lets go of
 * the real socket. Out of epoll before the close, as the slot may still refer to the socket. */
static void drop_socket(struct rg_session *session)
{
    slot_park(session->worker);
    if (session->fd < 0)
        return;
    epoll_ctl(session->worker->epoll, EPOLL_CTL_DEL, session->fd, NULL);
    close(session->fd);
    session->fd = -1;
    session->worker->counts[RG_COUNT_FD_FREE]++;
}

static void set_int(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* A dead peer is found within a minute: 25 s of silence, three probes 10 s apart. */
static void set_options(int fd)
{
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 25);
    set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 55000);
}

/* Called by libstrophe between socket() and connect(). Refuses any number but the slot. The
 * front gets its copy before connect(), so that it can always end a handshake that hangs. */
static int on_socket(xmpp_conn_t *conn, void *at)
{
    (void)conn;
    struct rg_worker *worker = the_worker;
    struct rg_session *session = worker->opening;
    int fd = *(int *)at;
    if (session == NULL || fd != worker->slot)
        return -1;
    set_options(fd);
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_SOCKET, session->index, session->generation, false);
    if (frame == NULL)
        return -1;
    session->fd = fcntl(fd, F_DUPFD_CLOEXEC, RG_HIGH_FD);
    frame->fd = session->fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, RG_HIGH_FD);
    if (frame->fd < 0) {
        rg_frame_free(frame);
        if (session->fd >= 0)
            close(session->fd);
        session->fd = -1;
        return -1;
    }
    worker->counts[RG_COUNT_FD_FREE]--;
    rg_worker_send_take(worker, frame);
    return worker->ended ? -1 : 0;
}

/* ---- telling the front ---- */

static void tell_handshake(struct rg_session *session, bool begins)
{
    if (session->handshaking == begins)
        return;
    session->handshaking = begins;
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_HANDSHAKE, session->index, session->generation, false);
    rg_put_u8(frame, begins);
    rg_worker_send_take(session->worker, frame);
}

static void tell_bound(struct rg_session *session)
{
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_BOUND, session->index, session->generation, false);
    rg_put_u8(frame, session->log.roster_versioning);
    rg_put_u8(frame, session->log.pre_approval);
    rg_worker_send_take(session->worker, frame);
}

static void tell_closed(struct rg_session *session, enum rg_stage stage)
{
    struct rg_frame_out *frame =
        rg_frame_new(RG_FRAME_CLOSED, session->index, session->generation, false);
    rg_put_u32(frame, session->why.code);
    rg_put_u8(frame, (uint8_t)stage);
    rg_put_str(frame, session->why.text);
    rg_worker_send_take(session->worker, frame);
}

/* ---- states ---- */

void rg_session_not_ready(struct rg_session *session)
{
    if (session->ready_in == NULL)
        return;
    TAILQ_REMOVE(&session->ready_in->list, session, of_ready);
    session->ready_in->n--;
    session->ready_in = NULL;
}

static void set_state(struct rg_session *session, enum rg_session_state state)
{
    struct rg_worker *worker = session->worker;
    bool ticks = state == RG_SESSION_LOGIN || state == RG_SESSION_LEAVING;
    if (ticks && !session->in_ticking)
        TAILQ_INSERT_TAIL(&worker->ticking, session, of_ticking);
    if (!ticks && session->in_ticking)
        TAILQ_REMOVE(&worker->ticking, session, of_ticking);
    session->in_ticking = ticks;
    session->state = state;
    if (state != RG_SESSION_DOWN)
        return;
    rg_session_not_ready(session);
    if (session->in_waiting)
        TAILQ_REMOVE(&worker->waiting, session, of_waiting);
    session->in_waiting = false;
    if (worker->table[session->index] == session)
        worker->table[session->index] = NULL; /* the front may use the place again at once */
    TAILQ_REMOVE(&worker->sessions, session, of_worker);
    TAILQ_INSERT_TAIL(&worker->dead, session, of_worker);
    worker->n_sessions--;
}

static enum rg_stage stage_of(const struct rg_session *session)
{
    return session->self.full != NULL ? RG_STAGE_BOUND
                                      : rg_sasl_log_stage(&session->log, session->tls_wanted);
}

/* ---- called by libstrophe ---- */

static void note_certificate(const struct rg_session *session)
{
    if (session->log.tls == RG_TLS_BAD_CERTIFICATE)
        rg_log(RG_LOG_WARN, "xmpp", "certificate-refused",
               RG_STR("domain", session->worker->domain),
               RG_STR("reason", rg_certificate_fault_name(session->log.certificate)),
               RG_STR("address", session->address));
}

/* Every line of the debug log, passwords included: looked at, never kept (rule 13). */
static void on_log(void *arg, xmpp_log_level_t level, const char *area, const char *text)
{
    struct rg_session *session = arg;
    (void)level;
    (void)area;
    switch (rg_sasl_log_read(&session->log, text)) {
    case RG_LOG_TLS_BEGINS:
        tell_handshake(session, true);
        break;
    case RG_LOG_TLS_ENDED:
        if (session->handshaking)
            note_certificate(session); /* once: the line may be followed by another one */
        tell_handshake(session, false);
        break;
    case RG_LOG_AUTHENTICATED:
        session->verified = true;
        break;
    case RG_LOG_CLOSING:
        /* libstrophe now waits up to a second for the peer's close_notify: not with this. */
        if (session->fd >= 0)
            shutdown(session->fd, SHUT_RD);
        break;
    case RG_LOG_STANZA:
    case RG_LOG_PARSE_ERROR:
    case RG_LOG_NOTHING:
        break;
    }
}

/* RFC 6120 4.9.3, in the order of libstrophe's xmpp_error_type_t. */
static const char *stream_error_name(const xmpp_stream_error_t *error)
{
    static const char *const names[] = {"bad-format",
                                        "bad-namespace-prefix",
                                        "conflict",
                                        "connection-timeout",
                                        "host-gone",
                                        "host-unknown",
                                        "improper-addressing",
                                        "internal-server-error",
                                        "invalid-from",
                                        "invalid-id",
                                        "invalid-namespace",
                                        "invalid-xml",
                                        "not-authorized",
                                        "policy-violation",
                                        "remote-connection-failed",
                                        "resource-constraint",
                                        "restricted-xml",
                                        "see-other-host",
                                        "system-shutdown",
                                        "undefined-condition",
                                        "unsupported-encoding",
                                        "unsupported-stanza-type",
                                        "unsupported-version",
                                        "not-well-formed"};
    size_t type = (size_t)error->type;
    return type < RG_ARRAY_LEN(names) ? names[type] : "undefined-condition";
}

static void explain_end(struct rg_session *session, const xmpp_stream_error_t *error)
{
    if (session->why.code != RG_OK)
        return; /* we ended it and know why */
    if (session->state == RG_SESSION_LOGIN && session->log.sasl == RG_SASL_REFUSED)
        rg_sasl_log_explain(&session->log, &session->why);
    else if (error != NULL)
        rg_fail(&session->why, RG_E_UNREACHABLE, "the XMPP server ended the stream: %s",
                stream_error_name(error));
    else if (session->state == RG_SESSION_LOGIN)
        rg_sasl_log_explain(&session->log, &session->why);
    else if (session->state == RG_SESSION_LEAVING)
        rg_fail(&session->why, RG_E_CANCELLED, "closed");
    else
        rg_fail(&session->why, RG_E_UNREACHABLE, "the XMPP stream was cut");
}

static void on_bound(struct rg_session *session)
{
    xmpp_conn_set_pass(session->conn, NULL); /* wiped by the memory hook (rule 16) */
    if (session->state != RG_SESSION_LOGIN)
        return;
    const char *full = xmpp_conn_get_bound_jid(session->conn);
    struct rg_jid jid;
    if (full == NULL || rg_jid_prepare(&jid, full, strlen(full), NULL) != RG_OK ||
        jid.bare_len != strlen(session->self.bare) ||
        memcmp(jid.text, session->self.bare, jid.bare_len) != 0) {
        rg_fail(&session->why, RG_E_UNREACHABLE, "the XMPP server bound another JID");
        rg_session_leave(session);
        return;
    }
    session->self.full = strdup(jid.text);
    if (session->self.full == NULL)
        abort(); /* as the memory hook does: the worker is replaced */
    set_state(session, RG_SESSION_UP);
    xmpp_handler_add(session->conn, rg_session_on_iq, NULL, "iq", NULL, session);
    xmpp_handler_add(session->conn, rg_session_on_presence, NULL, "presence", NULL, session);
    tell_bound(session);
}

static void on_event(xmpp_conn_t *conn, xmpp_conn_event_t event, int error,
                     xmpp_stream_error_t *stream_error, void *arg)
{
    struct rg_session *session = arg;
    (void)conn;
    (void)error;
    if (event == XMPP_CONN_CONNECT) {
        on_bound(session);
        return;
    }
    drop_socket(session);
    if (session->state == RG_SESSION_DOWN)
        return;
    explain_end(session, stream_error);
    tell_handshake(session, false);
    set_state(session, RG_SESSION_DOWN);
    tell_closed(session, stage_of(session));
}

/* ---- life ---- */

static bool is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* A resource nobody can guess, so that strangers cannot address this session (rule 22). */
static void full_jid(char *out, size_t size, const char *user)
{
    uint8_t random[12];
    char hex[2 * sizeof(random) + 1];
    rg_random_bytes(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(hex + 2 * i, 3, "%02x", random[i]);
    snprintf(out, size, "%s/%s", user, hex);
}

static bool make_conn(struct rg_session *session, const char *user, const char *password)
{
    char jid[RG_JID_SIZE + RESOURCE_SIZE];
    rg_expat_charge(&session->memory);
    session->log_hook = (xmpp_log_t){.handler = on_log, .userdata = session};
    session->ctx = xmpp_ctx_new(&session->memory.hook, &session->log_hook);
    session->conn = session->ctx == NULL ? NULL : xmpp_conn_new(session->ctx);
    if (session->conn == NULL)
        return false;
    /* Always set: DISABLE_SM is uninitialised memory otherwise (rule 14). */
    long flags = XMPP_CONN_FLAG_DISABLE_SM;
    if (!session->tls_wanted)
        flags |= XMPP_CONN_FLAG_DISABLE_TLS;
    else
        flags |= XMPP_CONN_FLAG_MANDATORY_TLS |
                 (session->direct_tls ? XMPP_CONN_FLAG_LEGACY_SSL : 0);
    if (xmpp_conn_set_flags(session->conn, flags) != XMPP_EOK)
        return false;
    full_jid(jid, sizeof(jid), user);
    xmpp_conn_set_jid(session->conn, jid);
    xmpp_conn_set_pass(session->conn, password);
    xmpp_conn_set_sockopt_callback(session->conn, on_socket);
    return true;
}

enum rg_code rg_session_create(struct rg_worker *worker,
                               const struct rg_session_options *options, struct rg_err *err)
{
    struct rg_jid jid;
    /* Without local part libstrophe would sign in anonymously. */
    if (rg_jid_prepare_bare(&jid, options->user, strlen(options->user), err) != RG_OK ||
        jid.local_len == 0 || strcmp(jid.text + jid.domain_at, worker->domain) != 0)
        return rg_fail(err, RG_E_UNAUTHORIZED, "not a user of this domain");
    if (worker->plaintext && !is_loopback(options->address))
        return rg_fail(err, RG_E_UNREACHABLE, "without TLS only loopback is reached");
    struct rg_session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    session->worker = worker;
    session->index = options->index;
    session->generation = options->generation;
    session->fd = -1;
    session->verify = options->verify;
    session->tls_wanted = !worker->plaintext;
    session->direct_tls = options->direct_tls;
    session->port = options->port;
    snprintf(session->address, sizeof(session->address), "%s", options->address);
    snprintf(session->name, sizeof(session->name), "%s", options->name);
    session->self.bare = strdup(jid.text);
    session->self.domain = worker->domain;
    rg_iq_table_init(&session->iqs, &worker->iqs);
    rg_memory_init(&session->memory, worker->stanza_bytes, RG_PARSER_BYTES_MAX);
    if (session->self.bare == NULL || !make_conn(session, jid.text, options->password)) {
        rg_session_destroy(session);
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    session->in_waiting = true;
    TAILQ_INSERT_TAIL(&worker->waiting, session, of_waiting);
    TAILQ_INSERT_TAIL(&worker->sessions, session, of_worker);
    worker->table[session->index] = session;
    worker->n_sessions++;
    return RG_OK;
}

void rg_session_connect(struct rg_session *session)
{
    struct rg_worker *worker = session->worker;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = session};
    the_worker = worker;
    rg_expat_charge(&session->memory);
    set_state(session, RG_SESSION_LOGIN);
    worker->opening = session;
    worker->bound = NULL;
    close(worker->slot); /* the lowest free number now: socket() returns it again */
    int rc =
        xmpp_connect_client(session->conn, session->address, session->port, on_event, session);
    worker->opening = NULL;
    if (rc == XMPP_EOK && session->fd >= 0) {
        worker->bound = session;
        if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, session->fd, &event) == 0)
            return;
        rg_fail(&session->why, RG_E_UNREACHABLE, "out of descriptors");
        rg_session_end(session, false);
        return;
    }
    drop_socket(session);
    set_state(session, RG_SESSION_DOWN);
    rg_fail(&session->why, RG_E_UNREACHABLE, "no connection to the XMPP server");
    tell_closed(session, RG_STAGE_CONNECT);
}

void rg_session_ready(struct rg_session *session)
{
    struct rg_worker *worker = session->worker;
    if (session->ready_in != NULL || session->state == RG_SESSION_DOWN)
        return;
    session->ready_in =
        session->state == RG_SESSION_LOGIN ? &worker->ready_login : &worker->ready;
    TAILQ_INSERT_TAIL(&session->ready_in->list, session, of_ready);
    session->ready_in->n++;
}

static bool alive(const struct rg_session *session)
{
    return session->state != RG_SESSION_DOWN && session->fd >= 0;
}

static bool readable(const struct rg_session *session)
{
    int n = 0;
    return ioctl(session->fd, FIONREAD, &n) == 0 && n > 0;
}

static void end_hostile(struct rg_session *session, enum rg_count count, const char *event,
                        const char *text)
{
    session->worker->counts[count]++;
    rg_log(RG_LOG_WARN, "xmpp", event, RG_STR("user", session->name),
           RG_STR("domain", session->worker->domain));
    rg_fail(&session->why, RG_E_UNREACHABLE, "%s", text);
    rg_session_end(session, false);
}

/* One call into the library, and all it may leave behind that needs an end. */
static void run(struct rg_session *session)
{
    session->queued = false;
    rg_expat_charge(&session->memory);
    xmpp_run_once(session->ctx, 0);
    if (!alive(session))
        return;
    if (session->state == RG_SESSION_LOGIN && session->log.tls != RG_TLS_FINE) {
        /* libstrophe would wait two seconds for a stream that cannot end any more. */
        rg_sasl_log_explain(&session->log, &session->why);
        rg_session_end(session, false);
    } else if (session->log.parse_error) {
        end_hostile(session, RG_COUNT_PARSE_ERROR, "parse-error",
                    "what the XMPP server sends does not parse");
    } else if (rg_memory_over(&session->memory)) {
        end_hostile(session, RG_COUNT_STANZA_BYTES, "stanza-too-large",
                    "a stanza is larger than limits.stanza_bytes");
    } else if (session->verify && session->verified) {
        session->verified = false;
        xmpp_conn_set_pass(session->conn, NULL);
        tell_bound(session);
        rg_session_leave(session);
    }
}

static bool hung_up_for_good(struct rg_session *session)
{
    if (!session->hup || readable(session) || ++session->hup_turns < HUP_TURNS)
        return false;
    rg_fail(&session->why, RG_E_UNREACHABLE, "the XMPP stream was cut");
    rg_session_end(session, false);
    return true;
}

void rg_session_step(struct rg_session *session)
{
    int empty = 0;
    for (int k = 0; k < RUNS_PER_TURN && alive(session); k++) {
        slot_bind(session);
        run(session);
        if (!alive(session) || hung_up_for_good(session))
            return;
        if (readable(session)) {
            empty = 0;
            continue;
        }
        if (session->hup)
            continue; /* the end of the stream is still to be read */
        if (session->queued || session->state != RG_SESSION_UP) {
            slot_bind(session);
            run(session); /* what a handler queued is sent by the next call only (rule 1) */
            if (!alive(session))
                return;
        }
        if (readable(session)) {
            empty = 0;
            continue;
        }
        if (++empty > (session->tls_wanted ? EMPTY_RUNS_TLS : 0))
            return;
    }
    if (alive(session))
        rg_session_ready(session);
}

void rg_session_leave(struct rg_session *session)
{
    if (session->state == RG_SESSION_WAITING) {
        rg_fail(&session->why, RG_E_CANCELLED, "closed");
        rg_session_end(session, false);
        return;
    }
    if (session->state != RG_SESSION_LOGIN && session->state != RG_SESSION_UP)
        return;
    set_state(session, RG_SESSION_LEAVING);
    session->leave_by_ms = session->worker->now_ms + RG_WORKER_LEAVE_MS;
    if (session->why.code == RG_OK)
        rg_fail(&session->why, RG_E_CANCELLED, "closed");
    xmpp_disconnect(session->conn);
    rg_session_ready(session);
}

void rg_session_end(struct rg_session *session, bool silent)
{
    if (session->state == RG_SESSION_DOWN)
        return;
    set_state(session, RG_SESSION_DOWN);
    if (session->fd >= 0)
        shutdown(session->fd, SHUT_RDWR); /* libstrophe's TLS shutdown must not wait */
    if (!silent)
        tell_closed(session, stage_of(session));
}

void rg_session_destroy(struct rg_session *session)
{
    rg_iq_table_fini(&session->iqs);
    slot_bind(session);
    if (session->conn != NULL)
        xmpp_conn_release(session->conn); /* on_event drops the socket, if there is one */
    drop_socket(session);
    if (session->ctx != NULL)
        xmpp_ctx_free(session->ctx);
    rg_memory_fini(&session->memory);
    free(session->self.bare);
    free(session->self.full);
    free(session);
}

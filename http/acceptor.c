/* The acceptor: accepts, counts, looks at the first bytes without taking them, and hands the
 * connection to a lane (DESIGN section 2). Thread: main.
 *
 * Event streams get lanes of their own, because each resume in libmicrohttpd walks all
 * suspended connections of its daemon (facts 3.3). Which lane a connection belongs on shows in
 * the first bytes of its first request; a later request on the same connection is served
 * wherever it is. The peeked bytes stay in the socket, so the watch is edge-triggered:
 * level-triggered it would spin on them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "http/internal.h"

enum { PEEK_MS = 5000, PAUSE_MS = 250, ACCEPT_AT_ONCE = 64 };

struct peek {
    struct rg_acceptor *acceptor;
    struct rg_conn *conn;
    struct rg_watch *watch;
    struct rg_timer timer;
    TAILQ_ENTRY(peek) link;
};

struct rg_acceptor {
    struct rg_http *http;
    struct rg_watch *watch;
    struct rg_timer pause; /* out of descriptors */
    size_t next_http, next_event;
    TAILQ_HEAD(, peek) peeks;
};

/* --- the first bytes ---------------------------------------------------------------------- */

enum verdict { UNDECIDED, GONE, ORDINARY, EVENTS };

static enum verdict compare(const char *data, size_t len, const char *line)
{
    size_t whole = strlen(line);
    if (memcmp(data, line, len < whole ? len : whole) != 0)
        return ORDINARY;
    if (len <= whole)
        return UNDECIDED;
    return data[whole] == '?' || data[whole] == ' ' ? EVENTS : ORDINARY;
}

static enum verdict judge(const char *data, size_t len)
{
    enum verdict get = compare(data, len, "GET /v1/events");
    enum verdict head = compare(data, len, "HEAD /v1/events");
    if (get == EVENTS || head == EVENTS)
        return EVENTS;
    return get == UNDECIDED || head == UNDECIDED ? UNDECIDED : ORDINARY;
}

static void release(struct rg_conn *conn)
{
    char key[RG_ADDRESS_KEY_SIZE] = "";
    if (!rg_trust_has(conn->lane->http->trust, &conn->peer))
        rg_address_key(&conn->peer, false, key);
    rg_limits_leave(conn->lane->http->limits, RG_LIMITED_CONNECTIONS, key);
    close(conn->fd);
    free(conn);
}

/* What the bytes that lie there say; they stay where they are. */
static enum verdict look(const struct rg_conn *conn)
{
    char data[16];
    ssize_t len = recv(conn->fd, data, sizeof(data), MSG_PEEK | MSG_DONTWAIT);
    if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return UNDECIDED;
    return len <= 0 ? GONE : judge(data, (size_t)len);
}

/* Takes the connection where it belongs. verdict: not UNDECIDED. */
static void settle(struct rg_acceptor *acceptor, struct rg_conn *conn, enum verdict verdict)
{
    struct rg_http *http = acceptor->http;
    size_t n_events = http->n_lanes - http->n_http;
    if (verdict == GONE) {
        release(conn);
        return;
    }
    size_t i = verdict == EVENTS && n_events > 0
                   ? http->n_http + acceptor->next_event++ % n_events
                   : acceptor->next_http++ % http->n_http;
    rg_lane_adopt(http->lanes[i], conn);
}

static void peek_free(struct peek *peek)
{
    struct rg_acceptor *acceptor = peek->acceptor;
    rg_watch_destroy(peek->watch);
    rg_timer_fini(&peek->timer, acceptor->http->main_loop);
    TAILQ_REMOVE(&acceptor->peeks, peek, link);
    free(peek);
}

static void on_bytes(void *arg, int events)
{
    struct peek *peek = arg;
    struct rg_acceptor *acceptor = peek->acceptor;
    struct rg_conn *conn = peek->conn;
    (void)events;
    enum verdict verdict = look(conn);
    if (verdict == UNDECIDED)
        return; /* the watch stays as it is: a new one would report the same bytes at once */
    peek_free(peek); /* the watch goes before the descriptor can be closed */
    settle(acceptor, conn, verdict);
}

static void on_silence(struct rg_timer *timer)
{
    struct peek *peek = RG_CONTAINER_OF(timer, struct peek, timer);
    struct rg_conn *conn = peek->conn;
    peek_free(peek);
    release(conn);
}

/* --- accepting ---------------------------------------------------------------------------- */

static void wait_for_bytes(struct rg_acceptor *acceptor, struct rg_conn *conn)
{
    struct rg_loop *loop = acceptor->http->main_loop;
    struct peek *peek = calloc(1, sizeof(*peek));
    if (peek == NULL || rg_timer_init(&peek->timer, loop, on_silence) != RG_OK) {
        free(peek);
        release(conn);
        return;
    }
    peek->acceptor = acceptor;
    peek->conn = conn;
    TAILQ_INSERT_TAIL(&acceptor->peeks, peek, link);
    peek->watch = rg_loop_watch(loop, conn->fd, RG_WATCH_READ | RG_WATCH_EDGE, on_bytes, peek);
    if (peek->watch == NULL) {
        peek_free(peek);
        release(conn);
        return;
    }
    rg_timer_start(&peek->timer, loop, PEEK_MS);
}

/* At a limit libmicrohttpd could only stop accepting (R16): the answer is ours. */
static void refuse(struct rg_acceptor *acceptor, int fd)
{
    struct rg_err err = RG_ERR_INIT;
    char id[RG_REQUEST_ID_SIZE];
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    RG_CLEANUP(rg_buf_fini) struct rg_buf answer = RG_BUF_INIT;
    rg_fail(&err, RG_E_RATE, "too many connections");
    rg_lane_request_id(acceptor->http->operations_lane, id);
    rg_reply_problem(&body, &err, 503, id);
    rg_buf_printf(
        &answer,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        "Content-Length: %zu\r\nRetry-After: 5\r\nCache-Control: no-store\r\n"
        "Vary: Origin\r\nX-Request-Id: %s\r\nConnection: close\r\n\r\n",
        body.len, id);
    rg_buf_append(&answer, body.data, body.len);
    rg_meter_reject(RG_REJECT_CONNECTIONS);
    if (!rg_buf_failed(&answer) && !rg_buf_failed(&body)) {
        char rest[4096];
        (void)send(fd, answer.data, answer.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)shutdown(fd, SHUT_WR);
        /* Closing on unread bytes would reset the connection and take the answer along. */
        (void)recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
    }
    close(fd);
}

static void take(struct rg_acceptor *acceptor, int fd, const struct sockaddr *addr)
{
    struct rg_http *http = acceptor->http;
    struct rg_address peer;
    char key[RG_ADDRESS_KEY_SIZE] = "";
    rg_address_from_sockaddr(&peer, addr);
    if (!rg_trust_has(http->trust, &peer))
        rg_address_key(&peer, false, key);
    if (rg_limits_enter(http->limits, RG_LIMITED_CONNECTIONS, key) != RG_LIMIT_FINE) {
        refuse(acceptor, fd);
        return;
    }
    struct rg_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        rg_limits_leave(http->limits, RG_LIMITED_CONNECTIONS, key);
        close(fd);
        return;
    }
    conn->fd = fd;
    conn->peer = peer;
    conn->counted = true;
    conn->lane = http->lanes[0]; /* until it is handed over */
    enum verdict verdict = look(conn);
    if (verdict == UNDECIDED)
        wait_for_bytes(acceptor, conn);
    else
        settle(acceptor, conn, verdict);
}

static void on_pause_over(struct rg_timer *timer)
{
    struct rg_acceptor *acceptor = RG_CONTAINER_OF(timer, struct rg_acceptor, pause);
    if (acceptor->watch != NULL)
        rg_watch_change(acceptor->watch, RG_WATCH_READ);
}

/* Out of descriptors or memory: the backlog would wake us for ever. */
static void pause_accepting(struct rg_acceptor *acceptor, int why)
{
    rg_log(RG_LOG_ERROR, "http", "accept-failed", RG_STR("error", strerror(why)));
    rg_watch_change(acceptor->watch, 0);
    rg_timer_start(&acceptor->pause, acceptor->http->main_loop, PAUSE_MS);
}

static void on_connections(void *arg, int events)
{
    struct rg_acceptor *acceptor = arg;
    (void)events;
    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof(addr);
        int fd = accept4(acceptor->http->listener.fd, (struct sockaddr *)&addr, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(acceptor, fd, (const struct sockaddr *)&addr);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            pause_accepting(acceptor, errno);
            return;
        }
        /* Anything else concerns the one connection (accept(2), error handling). */
    }
}

enum rg_code rg_acceptor_create(struct rg_http *http, struct rg_acceptor **out,
                                struct rg_err *err)
{
    struct rg_acceptor *acceptor = calloc(1, sizeof(*acceptor));
    if (acceptor == NULL ||
        rg_timer_init(&acceptor->pause, http->main_loop, on_pause_over) != RG_OK) {
        free(acceptor);
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    acceptor->http = http;
    TAILQ_INIT(&acceptor->peeks);
    *out = acceptor;
    return RG_OK;
}

enum rg_code rg_acceptor_start(struct rg_acceptor *acceptor, struct rg_err *err)
{
    acceptor->watch = rg_loop_watch(acceptor->http->main_loop, acceptor->http->listener.fd,
                                    RG_WATCH_READ, on_connections, acceptor);
    if (acceptor->watch == NULL)
        return rg_fail(err, RG_E_INTERNAL, "cannot watch the listening socket");
    return RG_OK;
}

void rg_acceptor_destroy(struct rg_acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    while (!TAILQ_EMPTY(&acceptor->peeks))
        on_silence(&TAILQ_FIRST(&acceptor->peeks)->timer);
    rg_watch_destroy(acceptor->watch);
    rg_timer_fini(&acceptor->pause, acceptor->http->main_loop);
    free(acceptor);
}

/* A lane: one libmicrohttpd daemon, driven from one loop.
 *
 * libmicrohttpd's own epoll thread stalls when exactly 128 events come at once (facts 1.2), so
 * it gets no thread: its epoll descriptor is one more descriptor of the loop. Whatever may give
 * it work (that descriptor, a resume, a new connection, its own timeout) only marks the lane
 * dirty; the daemon runs once, right before the loop would wait. MHD_get_timeout() does not
 * know of a pending resume (R15), which is why a resume is always followed by a run in the same
 * turn. */
#include "http/internal.h"

#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/random.h"

enum { IDLE_TIMEOUT_S = 75, RUNS_AT_END = 64, CROWD = 64 };

/* --- connections -------------------------------------------------------------------------- */

static void conn_expired(struct rg_timer *timer)
{
    struct rg_conn *conn = RG_CONTAINER_OF(timer, struct rg_conn, timer);
    if (conn->deadline_ms == 0)
        return;
    int64_t left = conn->deadline_ms - rg_loop_now_ms(conn->lane->loop);
    if (left > 0)
        rg_timer_start(timer, conn->lane->loop, left);
    else
        shutdown(conn->fd, SHUT_RDWR); /* libmicrohttpd sees the end and closes it */
}

/* The timer is lazy: it stays where it is if it fires early enough, so that a busy keep-alive
 * connection does not move it twice per request. */
void rg_conn_deadline(struct rg_conn *conn, int64_t after_ms)
{
    if (after_ms == 0) {
        conn->deadline_ms = 0;
        return;
    }
    conn->deadline_ms = rg_loop_now_ms(conn->lane->loop) + after_ms;
    if (!rg_timer_armed(&conn->timer) || conn->timer.due_ms > conn->deadline_ms)
        rg_timer_start(&conn->timer, conn->lane->loop, after_ms);
}

static void conn_free(struct rg_conn *conn)
{
    if (conn->counted) {
        char key[RG_ADDRESS_KEY_SIZE] = "";
        if (!rg_trust_has(conn->lane->http->trust, &conn->peer))
            rg_address_key(&conn->peer, false, key);
        rg_limits_leave(conn->lane->http->limits, RG_LIMITED_CONNECTIONS, key);
    }
    free(conn);
}

static void notify_connection(void *cls, struct MHD_Connection *connection,
                              void **socket_context, enum MHD_ConnectionNotificationCode toe)
{
    struct rg_lane *lane = cls;
    if (toe == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct rg_conn *conn = *socket_context;
        if (conn != NULL) {
            rg_timer_fini(&conn->timer, lane->loop);
            conn_free(conn);
        }
        *socket_context = NULL;
        return;
    }
    struct rg_conn *conn = lane->adding;
    if (conn == NULL) { /* the operations lane accepts by itself */
        conn = calloc(1, sizeof(*conn));
        if (conn == NULL)
            return;
        conn->lane = lane;
        conn->fd =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    }
    if (rg_timer_init(&conn->timer, lane->loop, conn_expired) != RG_OK) {
        if (conn != lane->adding)
            free(conn);
        return;
    }
    lane->adding = NULL; /* libmicrohttpd has it from here on */
    *socket_context = conn;
    rg_conn_deadline(conn, RG_HEAD_MS);
}

/* The acceptor's hand-over arrives. */
static void adopt(struct rg_message *message)
{
    struct rg_conn *conn = RG_CONTAINER_OF(message, struct rg_conn, message);
    struct rg_lane *lane = conn->lane;
    int fd = conn->fd;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr = {.any = {.sa_family = AF_UNIX}};
    socklen_t len = sizeof(addr.any.sa_family);
    if (conn->peer.family == RG_FAMILY_V4) {
        addr.v4 = (struct sockaddr_in){.sin_family = AF_INET};
        len = sizeof(addr.v4);
    } else if (conn->peer.family == RG_FAMILY_V6) {
        addr.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
        len = sizeof(addr.v6);
    }
    lane->adding = conn;
    lane->dirty = true;
    bool added = MHD_add_connection(lane->daemon, fd, &addr.any, len) == MHD_YES;
    if (lane->adding != NULL) { /* never got as far as notify_connection */
        lane->adding = NULL;
        conn_free(conn);
    }
    if (!added)
        rg_log(RG_LOG_WARN, "http", "connection-not-added",
               RG_STR("lane", rg_loop_name(lane->loop)));
}

void rg_lane_adopt(struct rg_lane *lane, struct rg_conn *conn)
{
    conn->lane = lane;
    conn->message.fn = adopt;
    rg_loop_post(lane->loop, &conn->message);
}

/* --- running ------------------------------------------------------------------------------ */

static void on_epoll(void *arg, int events)
{
    (void)events;
    ((struct rg_lane *)arg)->dirty = true;
}

/* A crowd of requests that came at once leaves holes between the streams it became: five
 * kilobytes for each, which the allocator keeps. When nobody waits any more they go back to the
 * system. */
static void give_back(struct rg_lane *lane)
{
    if (lane->n_waiting > lane->crowd)
        lane->crowd = lane->n_waiting;
    if (lane->n_waiting > 0 || lane->crowd < CROWD)
        return;
    lane->crowd = 0;
    malloc_trim(0);
}

static int64_t prepare(void *arg)
{
    struct rg_lane *lane = arg;
    if (lane->daemon == NULL)
        return -1;
    give_back(lane);
    if (lane->dirty) {
        lane->dirty = false;
        (void)MHD_run_wait(lane->daemon, 0);
    }
    if (lane->dirty)
        return 0;
    MHD_UNSIGNED_LONG_LONG wait;
    if (MHD_get_timeout(lane->daemon, &wait) != MHD_YES)
        return -1;
    if (wait == 0)
        lane->dirty = true;
    return wait > INT32_MAX ? INT32_MAX : (int64_t)wait;
}

void rg_lane_resume(struct rg_lane *lane, struct MHD_Connection *connection)
{
    lane->dirty = true;
    MHD_resume_connection(connection);
}

void rg_lane_begin(struct rg_lane *lane)
{
    lane->in_flight++;
}

static void tell_finished(struct rg_lane *lane)
{
    if (!lane->finishing || lane->in_flight != 0)
        return;
    lane->finishing = false;
    rg_loop_post(lane->http->main_loop, &lane->finished_message);
}

void rg_lane_end(struct rg_lane *lane)
{
    lane->in_flight--;
    tell_finished(lane);
}

static void on_finish(struct rg_message *message)
{
    struct rg_lane *lane = RG_CONTAINER_OF(message, struct rg_lane, finish_message);
    lane->finishing = true;
    tell_finished(lane);
}

void rg_lane_finish(struct rg_lane *lane)
{
    lane->finish_message.fn = on_finish;
    lane->finished_message.fn = rg_http_lane_finished;
    rg_loop_post(lane->loop, &lane->finish_message);
}

void rg_lane_request_id(struct rg_lane *lane, char out[RG_REQUEST_ID_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    /* splitmix64: unique within the lane, and without a pattern to the eye. */
    uint64_t z = (lane->id_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    for (int i = 0; i < 16; i++, z >>= 4)
        out[i] = hex[z & 15];
    out[16] = '\0';
}

/* --- making and ending -------------------------------------------------------------------- */

/* R22: the path comes to us as it was sent; it is split before it is decoded. */
static size_t leave_alone(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls;
    (void)connection;
    return strlen(text);
}

/* The request line is there: the rest of the head has its time from now on (R17). */
static void *on_request_line(void *cls, const char *uri, struct MHD_Connection *connection)
{
    (void)cls;
    (void)uri;
    struct rg_conn *conn =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    if (conn != NULL)
        rg_conn_deadline(conn, RG_HEAD_MS);
    return NULL;
}

__attribute__((format(printf, 2, 0))) static void on_mhd_log(void *cls, const char *format,
                                                             va_list args)
{
    (void)cls;
    if (!rg_log_enabled(RG_LOG_DEBUG))
        return;
    char text[256];
    (void)vsnprintf(text, sizeof(text), format, args);
    rg_log(RG_LOG_DEBUG, "http", "libmicrohttpd", RG_STR("text", text));
}

static enum rg_code start_daemon(struct rg_lane *lane, const struct rg_lane_options *options,
                                 struct rg_err *err)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem listen[2] = {{MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}};
    if (options->listen_fd < 0)
        flags |= MHD_USE_NO_LISTEN_SOCKET;
    else
        listen[0] = (struct MHD_OptionItem){MHD_OPTION_LISTEN_SOCKET, options->listen_fd, NULL};
    /* The limits proper are the acceptor's; libmicrohttpd's default would be 1,020 (R16). */
    unsigned most = (unsigned)lane->http->config->limits.connections + 16;
    lane->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, rg_request_access, lane, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log,
        lane, MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->memory, MHD_OPTION_CONNECTION_LIMIT,
        most, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_COMPLETED, rg_request_completed,
        lane, MHD_OPTION_NOTIFY_CONNECTION, notify_connection, lane,
        MHD_OPTION_URI_LOG_CALLBACK, on_request_line, lane, MHD_OPTION_UNESCAPE_CALLBACK,
        leave_alone, NULL, MHD_OPTION_ARRAY, listen, MHD_OPTION_END);
    if (lane->daemon == NULL)
        return rg_fail(err, RG_E_INTERNAL, "libmicrohttpd does not start: %s", strerror(errno));
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(lane->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    lane->watch = rg_loop_watch(lane->loop, info->epoll_fd, RG_WATCH_READ, on_epoll, lane);
    if (lane->watch == NULL)
        return rg_fail(err, RG_E_INTERNAL, "cannot watch libmicrohttpd");
    rg_loop_prepare(lane->loop, prepare, lane);
    return RG_OK;
}

enum rg_code rg_lane_create(struct rg_http *http, struct rg_loop *loop,
                            const struct rg_lane_options *options, struct rg_lane **out,
                            struct rg_err *err)
{
    struct rg_lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    lane->http = http;
    lane->routes = options->routes;
    lane->n_routes = options->n_routes;
    lane->id_state = rg_random_u64();
    TAILQ_INIT(&lane->waiting);
    TAILQ_INIT(&lane->streams);
    lane->loop = loop;
    enum rg_code code = RG_OK;
    if (loop == NULL) {
        lane->own_loop = true;
        lane->loop = rg_loop_create(options->name, err);
        code = lane->loop != NULL ? RG_OK : RG_E_INTERNAL;
    }
    if (code == RG_OK) {
        lane->heartbeat = rg_event_comment(": hb\n\n");
        lane->tokens = options->cache_tokens ? rg_tokens_create() : NULL;
        if (lane->heartbeat == NULL || (options->cache_tokens && lane->tokens == NULL))
            code = rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    if (code == RG_OK) {
        lane->gone = rg_gone_create(lane->loop, rg_events_gone, err);
        code = lane->gone != NULL ? RG_OK : RG_E_INTERNAL;
    }
    if (code == RG_OK)
        code = start_daemon(lane, options, err);
    if (code != RG_OK) {
        rg_lane_destroy(lane);
        return code;
    }
    *out = lane;
    return RG_OK;
}

/* Stopping libmicrohttpd with one suspended connection aborts the process (case M, R10): all
 * are resumed and run before. Nothing waits any more for an answer that could still come. */
static void cut(struct rg_lane *lane)
{
    if (lane->daemon == NULL)
        return;
    while (!TAILQ_EMPTY(&lane->waiting))
        rg_request_abort(TAILQ_FIRST(&lane->waiting));
    rg_events_abort_all(lane);
    lane->dirty = true;
    for (int i = 0; lane->dirty && i < RUNS_AT_END; i++)
        (void)prepare(lane);
    rg_watch_destroy(lane->watch);
    lane->watch = NULL;
    MHD_socket listening = MHD_quiesce_daemon(lane->daemon); /* leaves a passed socket alive */
    (void)listening;                                         /* the listener's to close */
    MHD_stop_daemon(lane->daemon);
    lane->daemon = NULL;
}

static void *lane_main(void *arg)
{
    struct rg_lane *lane = arg;
    rg_loop_run(lane->loop);
    cut(lane); /* on the thread that owned it (R33) */
    return NULL;
}

enum rg_code rg_lane_start(struct rg_lane *lane, struct rg_err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&lane->thread, NULL, lane_main, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return rg_fail(err, RG_E_INTERNAL, "cannot start a thread: %s", strerror(failed));
    lane->running = true;
    return RG_OK;
}

void rg_lane_destroy(struct rg_lane *lane)
{
    if (lane == NULL)
        return;
    if (lane->running) {
        rg_loop_stop(lane->loop);
        pthread_join(lane->thread, NULL);
    } else {
        cut(lane);
    }
    if (!lane->own_loop && lane->loop != NULL)
        rg_loop_prepare(lane->loop, NULL, NULL);
    while (lane->spare != NULL) {
        struct rg_request *req = lane->spare;
        lane->spare = req->next_spare;
        free(req);
    }
    rg_gone_destroy(lane->gone);
    rg_tokens_destroy(lane->tokens);
    rg_event_unref(lane->heartbeat);
    if (lane->own_loop)
        rg_loop_destroy(lane->loop);
    free(lane);
}

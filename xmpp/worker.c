/* The main loop of a worker process.
 *
 * One thread, one epoll: the link to the front and the sockets of all sessions (edge-triggered,
 * so that a socket that could be written costs nothing while idle). A socket that reports
 * anything puts its session on the ready list; each ready session gets one bounded turn before
 * epoll is asked again. Timers exist only where they must: a beat every 3 s, 250 ms ticks while
 * a session signs in or leaves, the deadline of the oldest IQ. */
#include "xmpp/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/random.h"
#include "xmpp/expat.h"
#include "xmpp/session.h"
#include "xmpp/upstream.h"

enum { EVENTS = 128, CONNECTS_PER_TURN = 4, FRAMES_PER_TURN = 256, SPARE_FDS = 64 };
static const rlim_t STACK = 64 * 1024 * 1024;
static const char MARK[] = "--xmpp-worker";
static const char MARK_STACK[] = "stack-set";

bool rg_worker_is(int argc, char **argv)
{
    return argc >= 2 && strcmp(argv[1], MARK) == 0;
}

int64_t rg_worker_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct rg_session *rg_worker_find(const struct rg_worker *worker, uint32_t index,
                                  uint32_t generation)
{
    struct rg_session *session = index < worker->table_n ? worker->table[index] : NULL;
    return session != NULL && session->generation == generation ? session : NULL;
}

void rg_worker_send_take(struct rg_worker *worker, struct rg_frame_out *frame)
{
    if (!rg_link_send_take(&worker->link, frame))
        worker->ended = true;
}

void rg_worker_beat(struct rg_worker *worker)
{
    worker->now_ms = rg_worker_clock_ms();
    if (worker->now_ms < worker->beat_due_ms || !worker->configured)
        return;
    worker->beat_due_ms = worker->now_ms + RG_WORKER_BEAT_MS;
    worker->counts[RG_COUNT_SESSIONS] = worker->n_sessions;
    struct rg_frame_out *frame = rg_frame_new(RG_FRAME_BEAT, 0, 0, false);
    rg_put_u32(frame, RG_COUNT_END);
    for (size_t i = 0; i < RG_COUNT_END; i++)
        rg_put_u64(frame, worker->counts[i]);
    rg_worker_send_take(worker, frame);
}

/* ---- start ---- */

/* libstrophe recurses once per level of nesting: 150,000 levels crash an 8 MB stack (rule 22).
 * The main thread's stack is laid out at exec, so the limit is set and the program run again.
 */
static void take_a_large_stack(int argc, char **argv)
{
    struct rlimit limit;
    if (argc > 2 || getrlimit(RLIMIT_STACK, &limit) != 0 ||
        (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur >= STACK))
        return;
    limit.rlim_cur =
        limit.rlim_max == RLIM_INFINITY || limit.rlim_max > STACK ? STACK : limit.rlim_max;
    if (setrlimit(RLIMIT_STACK, &limit) != 0)
        return;
    char *again[] = {argv[0], argv[1], (char *)(uintptr_t)MARK_STACK, NULL};
    execv("/proc/self/exe", again); /* on failure: go on with the stack there is */
}

static void harden(void)
{
    struct rlimit limit = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &limit); /* a core file would hold passwords */
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* and the link's end, should the parent be gone */
    (void)prctl(PR_SET_NAME, "rg-xmpp-worker");
    /* The service manager and the terminal signal the whole group: the front decides here. */
    static const int ignored[] = {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < RG_ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
}

static uint32_t raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    rlim_t max = limit.rlim_cur > (1U << 20) ? (1U << 20) : limit.rlim_cur;
    return max > RG_HIGH_FD + SPARE_FDS ? (uint32_t)(max - RG_HIGH_FD - SPARE_FDS) : 0;
}

/* Opens what stays open, lowest numbers first, so that the slot is the lowest free number
 * whenever it is closed. */
static bool open_descriptors(struct rg_worker *worker)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
    worker->slot = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (worker->epoll < 0 || worker->devnull < 0 || worker->slot < 0 ||
        worker->slot >= RG_HIGH_FD)
        return false;
    return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->link.fd, &event) == 0;
}

static bool start(struct rg_worker *worker)
{
    TAILQ_INIT(&worker->sessions);
    TAILQ_INIT(&worker->dead);
    TAILQ_INIT(&worker->ready.list);
    TAILQ_INIT(&worker->ready_login.list);
    TAILQ_INIT(&worker->waiting);
    TAILQ_INIT(&worker->ticking);
    TAILQ_INIT(&worker->iqs);
    worker->epoll = worker->devnull = worker->slot = -1;
    worker->now_ms = rg_worker_clock_ms();
    worker->session_max = raise_fd_limit();
    worker->counts[RG_COUNT_FD_FREE] = worker->session_max;
    fcntl(RG_WORKER_FD, F_SETFD, FD_CLOEXEC);
    if (rg_random_init(NULL) != RG_OK ||
        !rg_link_init(&worker->link, RG_WORKER_FD, RG_WORKER_QUEUE_MAX, true) ||
        !open_descriptors(worker))
        return false;
    xmpp_initialize();
    rg_memory_init(&worker->first_memory, SIZE_MAX, SIZE_MAX);
    worker->first_ctx = xmpp_ctx_new(&worker->first_memory.hook, NULL);
    worker->first_conn = worker->first_ctx == NULL ? NULL : xmpp_conn_new(worker->first_ctx);
    return worker->first_conn != NULL && rg_expat_is_hooked();
}

/* ---- one turn ---- */

static void read_link(struct rg_worker *worker)
{
    worker->link_more = false;
    for (int n = 0; !worker->ended;) {
        struct rg_frame frame = {0};
        if (n == FRAMES_PER_TURN) {
            worker->link_more = true; /* in our buffer already: epoll would not tell */
            return;
        }
        enum rg_frame_parse parse = rg_link_next(&worker->link, &frame);
        if (parse == RG_FRAME_WHOLE) {
            n++;
            if (!rg_worker_frame(worker, &frame))
                parse = RG_FRAME_BAD;
        } else if (parse == RG_FRAME_PART) {
            enum rg_link_read read = rg_link_fill(&worker->link);
            if (read == RG_LINK_ENDED)
                worker->ended = true; /* the front is gone */
            if (read != RG_LINK_DATA)
                return;
        }
        if (parse == RG_FRAME_BAD) {
            rg_log(RG_LOG_ERROR, "xmpp", "link-nonsense", RG_INT("type", frame.type));
            worker->ended = true;
        }
    }
}

static void note_events(struct rg_worker *worker, const struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        struct rg_session *session = events[i].data.ptr;
        if (session == NULL) {
            read_link(worker);
            continue;
        }
        if ((events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
            session->hup = true;
        rg_session_ready(session);
    }
}

static void reap(struct rg_worker *worker)
{
    struct rg_session *session;
    while ((session = TAILQ_FIRST(&worker->dead)) != NULL) {
        TAILQ_REMOVE(&worker->dead, session, of_worker);
        rg_session_destroy(session);
    }
}

/* One turn for each that is ready now. False: the worker ends, the front is behind and nothing
 * more is read for now, or somebody blocked the worker. */
static bool step_ready(struct rg_worker *worker, struct rg_ready *ready)
{
    for (size_t n = ready->n; n > 0 && ready->n > 0; n--) {
        if (worker->ended || worker->link.queued > RG_WORKER_QUEUE_HIGH)
            return false;
        struct rg_session *session = TAILQ_FIRST(&ready->list);
        int64_t before_ms = worker->now_ms;
        rg_session_not_ready(session);
        rg_session_step(session);
        rg_worker_beat(worker);
        if (worker->now_ms - before_ms >= RG_WORKER_BLOCKED_MS)
            return false;
    }
    return true;
}

/* The front must have its copy of the socket before the connection may block anybody: so none
 * is opened while frames still wait to be sent. */
static void connect_waiting(struct rg_worker *worker)
{
    for (int i = 0; i < CONNECTS_PER_TURN && !rg_link_pending(&worker->link); i++) {
        struct rg_session *session = TAILQ_FIRST(&worker->waiting);
        if (session == NULL)
            return;
        TAILQ_REMOVE(&worker->waiting, session, of_waiting);
        session->in_waiting = false;
        if (session->state == RG_SESSION_WAITING)
            rg_session_connect(session);
    }
}

static void tick(struct rg_worker *worker)
{
    struct rg_session *session = TAILQ_FIRST(&worker->ticking);
    if (worker->now_ms < worker->tick_due_ms)
        return;
    worker->tick_due_ms = worker->now_ms + RG_WORKER_TICK_MS;
    while (session != NULL) {
        struct rg_session *next = TAILQ_NEXT(session, of_ticking);
        if (session->state == RG_SESSION_LEAVING && worker->now_ms >= session->leave_by_ms)
            rg_session_end(session, false);
        else
            rg_session_ready(session);
        session = next;
    }
}

/* A request without answer: the stream may be dead without a word (rule 20), so it ends. Judged
 * by the time at which epoll was asked last: what came while the worker was blocked has been
 * read by now, or its session is still ready. */
static void expire_iqs(struct rg_worker *worker, int64_t asked_ms)
{
    struct rg_iq *iq = TAILQ_FIRST(&worker->iqs);
    while (iq != NULL && iq->due_ms <= asked_ms) {
        struct rg_session *session = iq->owner;
        bool reading = session->ready_in != NULL && asked_ms - iq->due_ms < RG_WORKER_GRACE_MS;
        if (session->state == RG_SESSION_DOWN || reading) {
            iq = TAILQ_NEXT(iq, of_worker);
            continue;
        }
        worker->counts[RG_COUNT_IQ_TIMEOUT]++;
        rg_log(RG_LOG_WARN, "xmpp", "iq-timeout", RG_STR("user", session->name),
               RG_STR("domain", worker->domain));
        rg_fail(&session->why, RG_E_UNREACHABLE, "the XMPP server did not answer a request");
        rg_session_end(session, false);
        iq = TAILQ_FIRST(&worker->iqs);
    }
}

static int wait_ms(const struct rg_worker *worker)
{
    bool behind = worker->link.queued > RG_WORKER_QUEUE_HIGH;
    bool may_connect = !TAILQ_EMPTY(&worker->waiting) && !rg_link_pending(&worker->link);
    bool any_ready = worker->ready.n + worker->ready_login.n > 0;
    if ((any_ready && !behind) || may_connect || worker->link_more)
        return 0;
    int64_t due = worker->configured ? worker->beat_due_ms : worker->now_ms + 60000;
    if (!TAILQ_EMPTY(&worker->ticking) && worker->tick_due_ms < due)
        due = worker->tick_due_ms;
    const struct rg_iq *iq = TAILQ_FIRST(&worker->iqs);
    if (iq != NULL && iq->due_ms < due)
        due = iq->due_ms;
    if (worker->stopping && worker->stop_by_ms < due)
        due = worker->stop_by_ms;
    int64_t wait = due - worker->now_ms;
    return wait < 0 ? 0 : (int)wait;
}

static void watch_link(struct rg_worker *worker)
{
    bool want = rg_link_pending(&worker->link);
    if (want == worker->link_writing)
        return;
    struct epoll_event event = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = NULL};
    worker->link_writing = want;
    epoll_ctl(worker->epoll, EPOLL_CTL_MOD, worker->link.fd, &event);
}

static bool finished(const struct rg_worker *worker)
{
    if (worker->ended)
        return true;
    if (!worker->stopping)
        return false;
    bool drained = TAILQ_EMPTY(&worker->sessions) && !rg_link_pending(&worker->link);
    return drained || worker->now_ms >= worker->stop_by_ms + RG_WORKER_TICK_MS;
}

static void turn(struct rg_worker *worker)
{
    struct epoll_event events[EVENTS];
    watch_link(worker);
    int n = epoll_wait(worker->epoll, events, EVENTS, wait_ms(worker));
    worker->now_ms = rg_worker_clock_ms();
    if (worker->link_more)
        read_link(worker);
    note_events(worker, events, n < 0 ? 0 : n);
    if (!rg_link_flush(&worker->link))
        worker->ended = true;
    connect_waiting(worker);
    tick(worker);
    int64_t asked_ms = worker->now_ms;
    if (step_ready(worker, &worker->ready))
        step_ready(worker, &worker->ready_login);
    expire_iqs(worker, asked_ms);
    rg_worker_beat(worker);
    reap(worker);
}

int rg_worker_main(int argc, char **argv)
{
    static struct rg_worker worker; /* large, and named by the sockopt callback */
    take_a_large_stack(argc, argv);
    harden();
    if (!start(&worker)) {
        rg_log(RG_LOG_ERROR, "xmpp", "worker-start-failed", RG_INT("errno", errno));
        return EXIT_FAILURE;
    }
    rg_worker_confine();
    while (!finished(&worker))
        turn(&worker);
    /* The kernel closes the rest faster, and the front has been told what there was to tell. */
    return EXIT_SUCCESS;
}

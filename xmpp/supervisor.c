/* Worker processes: starting, watching, ending and replacing them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "xmpp/front.h"
#include "xmpp/worker.h"

enum { FRAMES_PER_TURN = 512, ENVIRONMENT_MAX = 8, FIRST_PAUSE_MS = 100 };

/* ---- starting ---- */

/* The trust store is the whole cost of TLS in a worker: OpenSSL loads its default file into
 * every context, twice per sign-in. An empty file and the folder of roots, looked up by hash,
 * trust the same for a fiftieth of the memory (DESIGN section 6; facts, rule 10). */
static size_t make_environment(const struct rg_config *config, char *out[ENVIRONMENT_MAX])
{
    size_t n = 0;
    bool own_ca = config->xmpp.ca_file != NULL && config->xmpp.ca_file[0] != '\0';
    if (asprintf(&out[n], "SSL_CERT_FILE=%s", own_ca ? config->xmpp.ca_file : "/dev/null") < 0)
        return n;
    n++;
    if (asprintf(&out[n], "SSL_CERT_DIR=%s", own_ca ? "/dev/null" : "/etc/ssl/certs") < 0)
        return n;
    n++;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    static const char *const kept[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
                                       "TSAN_OPTIONS"};
    for (size_t i = 0; i < RG_ARRAY_LEN(kept); i++)
        if (getenv(kept[i]) != NULL &&
            asprintf(&out[n], "%s=%s", kept[i], getenv(kept[i])) >= 0)
            n++;
#endif
    out[n] = NULL;
    return n;
}

static int add_actions(posix_spawn_file_actions_t *actions, int fd)
{
    int rc = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDWR, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_RDWR, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, fd, RG_WORKER_FD);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(actions, RG_WORKER_FD + 1);
    return rc;
}

static int set_signals(posix_spawnattr_t *attributes)
{
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int rc = posix_spawnattr_setsigdefault(attributes, &all);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attributes, &none);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attributes,
                                      POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    return rc;
}

/* Runs this program as a worker with `fd` as its end of the link. Returns 0 or an errno. */
static int spawn(const struct rg_config *config, int fd, pid_t *out_pid)
{
    char name[] = "rostergate", mark[] = "--xmpp-worker";
    char *argv[] = {name, mark, NULL};
    char *environment[ENVIRONMENT_MAX] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    size_t n = make_environment(config, environment);
    int rc = n < 2 ? ENOMEM : posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        goto fail_environment;
    rc = posix_spawnattr_init(&attributes);
    if (rc != 0)
        goto fail_actions;
    rc = add_actions(&actions, fd);
    if (rc == 0)
        rc = set_signals(&attributes);
    if (rc == 0)
        rc = posix_spawn(out_pid, "/proc/self/exe", &actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
fail_actions:
    posix_spawn_file_actions_destroy(&actions);
fail_environment:
    for (size_t i = 0; i < n; i++)
        free(environment[i]);
    return rc;
}

static void send_config(struct rg_process *process)
{
    const struct rg_config *config = process->front->config;
    enum rg_log_level level = RG_LOG_INFO;
    if (config->log.level != NULL)
        (void)rg_log_parse_level(&level, config->log.level);
    struct rg_frame_out *frame = rg_frame_new(RG_FRAME_CONFIG, 0, 0, false);
    rg_put_str(frame, process->served->domain.domain);
    rg_put_u8(frame, process->served->plaintext);
    rg_put_u64(frame, (uint64_t)config->limits.stanza_bytes);
    rg_put_u64(frame, (uint64_t)config->limits.items);
    rg_put_u64(frame, (uint64_t)config->xmpp.iq_timeout_ms);
    rg_put_u8(frame, (uint8_t)level);
    rg_process_send_take(process, frame);
}

static void on_link(void *arg, int events)
{
    struct rg_process *process = arg;
    if ((events & RG_WATCH_WRITE) != 0 && !rg_link_flush(&process->link))
        rg_process_fail(process, "link-write-failed");
    if ((events & RG_WATCH_READ) != 0)
        rg_process_read(process);
    bool want = process->running && rg_link_pending(&process->link);
    if (process->running && want != process->writing) {
        process->writing = want;
        rg_watch_change(process->watch, RG_WATCH_READ | (want ? RG_WATCH_WRITE : 0));
    }
}

static void on_exit_seen(void *arg, int events)
{
    struct rg_process *process = arg;
    (void)events;
    rg_process_fail(process, "exited");
}

/* Opens both ends and runs the worker on one of them. False: nothing is left behind. */
static bool launch(struct rg_process *process)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return false;
    int rc = spawn(process->front->config, ends[1], &process->pid);
    close(ends[1]);
    if (rc != 0) {
        close(ends[0]);
        errno = rc;
        return false;
    }
    process->pidfd = pidfd_open(process->pid, 0);
    if (process->pidfd >= 0 && rg_link_init(&process->link, ends[0], RG_TO_WORKER_MAX, false)) {
        process->watch =
            rg_loop_watch(process->front->loop, ends[0], RG_WATCH_READ, on_link, process);
        process->pid_watch = rg_loop_watch(process->front->loop, process->pidfd, RG_WATCH_READ,
                                           on_exit_seen, process);
        if (process->watch != NULL && process->pid_watch != NULL)
            return true;
        rg_watch_destroy(process->watch);
        rg_watch_destroy(process->pid_watch);
        rg_link_fini(&process->link);
    } else {
        close(ends[0]);
    }
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
    if (process->pidfd >= 0)
        close(process->pidfd);
    return false;
}

static void schedule_respawn(struct rg_process *process)
{
    int64_t pause = FIRST_PAUSE_MS;
    for (unsigned i = 1; i < process->short_lives && pause < RG_RESPAWN_MAX_MS; i++)
        pause *= 2;
    if (pause > RG_RESPAWN_MAX_MS)
        pause = RG_RESPAWN_MAX_MS;
    rg_timer_start(&process->respawn, process->front->loop, pause);
}

void rg_process_start(struct rg_process *process)
{
    struct rg_front *front = process->front;
    if (process->running || front->stopping)
        return;
    process->started_ms = process->heard_ms = rg_loop_now_ms(front->loop);
    memset(process->counts, 0, sizeof(process->counts));
    process->capacity = SIZE_MAX; /* until it says READY */
    process->failing = NULL;
    process->writing = process->more = false;
    if (!launch(process)) {
        rg_log(RG_LOG_ERROR, "xmpp", "worker-not-started",
               RG_STR("domain", process->served->domain.domain), RG_INT("errno", errno));
        process->short_lives++;
        schedule_respawn(process);
        return;
    }
    process->running = true;
    rg_log(RG_LOG_INFO, "xmpp", "worker-started",
           RG_STR("domain", process->served->domain.domain), RG_INT("number", process->number),
           RG_INT("pid", process->pid));
    send_config(process);
    rg_timer_start(&process->heart, front->loop, RG_HEART_MS);
}

/* ---- ending ---- */

static void corpse_free(struct rg_corpse *corpse)
{
    LIST_REMOVE(corpse, link);
    rg_watch_destroy(corpse->watch);
    close(corpse->pidfd);
    free(corpse);
}

static void on_corpse(void *arg, int events)
{
    struct rg_corpse *corpse = arg;
    struct rg_front *front = corpse->front;
    (void)events;
    if (waitpid(corpse->pid, NULL, WNOHANG) == 0)
        return;
    corpse_free(corpse);
    rg_front_later(front);
}

/* The process has been told to die; it is reaped when it has, without waiting for it. */
static void lay_out(struct rg_process *process)
{
    struct rg_corpse *corpse = calloc(1, sizeof(*corpse));
    rg_watch_destroy(process->pid_watch);
    process->pid_watch = NULL;
    if (corpse != NULL)
        corpse->watch = rg_loop_watch(process->front->loop, process->pidfd, RG_WATCH_READ,
                                      on_corpse, corpse);
    if (corpse == NULL || corpse->watch == NULL) {
        free(corpse);
        waitpid(process->pid, NULL, 0); /* SIGKILL is on its way: this is short */
        close(process->pidfd);
        return;
    }
    corpse->front = process->front;
    corpse->pid = process->pid;
    corpse->pidfd = process->pidfd;
    LIST_INSERT_HEAD(&process->front->corpses, corpse, link);
}

void rg_corpses_forget(struct rg_front *front)
{
    struct rg_corpse *corpse;
    while ((corpse = LIST_FIRST(&front->corpses)) != NULL) {
        waitpid(corpse->pid, NULL, 0);
        corpse_free(corpse);
    }
}

void rg_process_fail(struct rg_process *process, const char *why)
{
    if (!process->running || process->failing != NULL)
        return;
    process->failing = why;
    rg_front_later(process->front);
}

static void stop_watching(struct rg_process *process)
{
    rg_timer_stop(&process->heart, process->front->loop);
    rg_timer_stop(&process->handshake, process->front->loop);
    process->handshaking = NULL;
    rg_watch_destroy(process->watch);
    process->watch = NULL;
    rg_link_fini(&process->link);
}

void rg_process_end(struct rg_process *process, const char *why)
{
    struct rg_front *front = process->front;
    struct rg_visit *visit;
    if (!process->running)
        return;
    process->running = false;
    process->failing = NULL;
    int64_t lived_ms = rg_loop_now_ms(front->loop) - process->started_ms;
    if (!front->stopping) {
        rg_metric_add(front->lives_ended, 1);
        rg_log(RG_LOG_ERROR, "xmpp", "worker-ended", RG_STR("reason", why),
               RG_STR("domain", process->served->domain.domain),
               RG_INT("number", process->number), RG_INT("sessions", process->n_visits));
    }
    kill(process->pid, SIGKILL);
    stop_watching(process);
    lay_out(process);
    rg_metric_set(process->fd_free, 0);
    process->short_lives = lived_ms >= RG_STEADY_MS ? 0 : process->short_lives + 1;
    while ((visit = TAILQ_FIRST(&process->visits)) != NULL) {
        visit->at_worker = false;
        bool asked = front->stopping || visit->state == RG_VISIT_CLOSING;
        rg_visit_doom(visit, asked ? RG_E_CANCELLED : RG_E_UNREACHABLE,
                      asked ? "closed" : "the XMPP worker ended");
    }
    if (front->stopping)
        return;
    if (process->short_lives <= 1)
        rg_process_start(process);
    else
        schedule_respawn(process);
}

/* ---- watching ---- */

static void on_heart(struct rg_timer *timer)
{
    struct rg_process *process = RG_CONTAINER_OF(timer, struct rg_process, heart);
    int64_t silent_ms = rg_loop_now_ms(process->front->loop) - process->heard_ms;
    if (silent_ms >= RG_HEART_MS)
        rg_process_fail(process, "silent");
    else
        rg_timer_start(&process->heart, process->front->loop, RG_HEART_MS - silent_ms);
}

static void on_respawn(struct rg_timer *timer)
{
    rg_process_start(RG_CONTAINER_OF(timer, struct rg_process, respawn));
}

static void on_handshake(struct rg_timer *timer)
{
    struct rg_process *process = RG_CONTAINER_OF(timer, struct rg_process, handshake);
    struct rg_visit *visit = process->handshaking;
    struct rg_err why = RG_ERR_INIT;
    if (visit == NULL)
        return;
    rg_metric_add(process->front->hung_handshakes, 1);
    rg_log(RG_LOG_WARN, "xmpp", "handshake-hung",
           RG_STR("domain", process->served->domain.domain));
    rg_fail(&why, RG_E_UNREACHABLE, "the TLS handshake with the XMPP server hung");
    rg_visit_handshake_failed(visit);
    rg_visit_attempt_failed(visit, RG_STAGE_TLS, &why);
}

/* The worker is about to block in this visit's handshake (NULL: it is back). */
void rg_process_handshake(struct rg_process *process, struct rg_visit *visit)
{
    process->handshaking = visit;
    if (visit == NULL)
        rg_timer_stop(&process->handshake, process->front->loop);
    else
        rg_timer_start(&process->handshake, process->front->loop, RG_HANDSHAKE_MS);
}

void rg_process_send_take(struct rg_process *process, struct rg_frame_out *frame)
{
    if (!process->running || process->failing != NULL) {
        rg_frame_free(frame);
        return;
    }
    if (!rg_link_send_take(&process->link, frame)) {
        rg_process_fail(process, "link-overflow"); /* it does not read: hung, or worse */
        return;
    }
    if (rg_link_pending(&process->link) && !process->writing) {
        process->writing = true;
        rg_watch_change(process->watch, RG_WATCH_READ | RG_WATCH_WRITE);
    }
}

void rg_process_read(struct rg_process *process)
{
    process->more = false;
    for (int n = 0; process->running && process->failing == NULL;) {
        struct rg_frame frame;
        enum rg_frame_parse parse = rg_link_next(&process->link, &frame);
        if (parse == RG_FRAME_PART) {
            enum rg_link_read read = rg_link_fill(&process->link);
            if (read == RG_LINK_ENDED)
                rg_process_fail(process, "link-closed");
            if (read != RG_LINK_DATA)
                return;
            continue;
        }
        process->heard_ms = rg_loop_now_ms(process->front->loop);
        if (parse == RG_FRAME_BAD || !rg_process_frame(process, &frame)) {
            rg_process_fail(process, "nonsense");
            return;
        }
        if (++n == FRAMES_PER_TURN) { /* what is left is in our buffer already */
            process->more = true;
            rg_front_later(process->front);
            return;
        }
    }
}

/* ---- life ---- */

enum rg_code rg_process_init(struct rg_process *process, struct rg_served *served,
                             unsigned number)
{
    struct rg_loop *loop = served->front->loop;
    char labels[320];
    process->front = served->front;
    process->served = served;
    process->number = number;
    process->link.fd = -1;
    TAILQ_INIT(&process->visits);
    snprintf(labels, sizeof(labels), "worker=\"%s/%u\"", served->domain.domain, number);
    process->fd_free = rg_gauge("rostergate_xmpp_fd_slots_free",
                                "Sessions a worker's descriptors still allow.", labels);
    if (rg_timer_init(&process->heart, loop, on_heart) != RG_OK ||
        rg_timer_init(&process->handshake, loop, on_handshake) != RG_OK ||
        rg_timer_init(&process->respawn, loop, on_respawn) != RG_OK)
        return RG_E_INTERNAL;
    return RG_OK;
}

void rg_process_fini(struct rg_process *process)
{
    if (process->front == NULL)
        return;
    if (process->running) {
        kill(process->pid, SIGKILL);
        stop_watching(process);
        lay_out(process);
        process->running = false;
    }
    rg_timer_fini(&process->heart, process->front->loop);
    rg_timer_fini(&process->handshake, process->front->loop);
    rg_timer_fini(&process->respawn, process->front->loop);
}

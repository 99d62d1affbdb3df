#include "cache/redis_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cache/redis_resolve.h"
#include "gateway/base/log.h"
#include "gateway/base/random.h"

/* DESIGN
 *
 *      REST --timer--> RESOLVING --> CONNECTING --> GREETING --> UP
 *       ^                  |             |              |         |
 *       +------------------+-------------+--------------+---------+   lost, late, refused
 *
 * GREETING: AUTH, SELECT, PING (finds a server that is loading or wants a password) and, on the
 * connection for messages, SUBSCRIBE; one after the other. In UP at most WINDOW calls are on
 * their way, the others wait here, so that the deadline measures Redis and not the queue of a
 * busy restart.
 *
 * Of hiredis its formatter and its reader serve here. Its asynchronous context does not: 0.14.1
 * ends the process by assert() when a server sends what was not asked for, and frees itself
 * under its user's hands (R29). Answers come in the order of the calls. */

enum {
    WINDOW = 16,
    CONNECT_MS = RG_REDIS_DEADLINE_MS, /* calls made meanwhile wait for it */
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    READ_BYTES = 64 * 1024,
    READS_MAX = 16,                     /* in one turn: others want to be served too */
    REPLY_BYTES_MAX = 256 * 1024 * 1024 /* one answer that large is not to ours */
};

enum state { REST, RESOLVING, CONNECTING, GREETING, UP, STOPPED };
enum step { AUTH, SELECT, PING, SUBSCRIBE };

struct call {
    TAILQ_ENTRY(call) entry;
    const struct rg_redis_script *script;
    struct rg_redis_args args;
    rg_redis_reply_fn fn;
    void *arg;
    int64_t due_ms;
    bool in_full; /* the script's text was sent */
};
TAILQ_HEAD(calls, call);

struct rg_redis_link {
    const struct rg_redis_url *url;
    struct rg_loop *loop;
    const struct rg_redis_handler *handler;
    void *arg;
    enum state state;
    enum step step; /* of GREETING: the answer that is awaited */
    struct rg_redis_lookup *lookup;
    int fd;              /* -1: none */
    unsigned generation; /* of the connection */
    struct rg_watch *watch;
    redisReader *reader;
    size_t reply_bytes; /* read since the last whole answer */
    struct rg_buf out;
    struct calls waiting, sent;
    size_t n_waiting, n_sent;
    unsigned failures;
    bool late;             /* the deadline has passed once; it gets some time more */
    struct rg_timer timer; /* retry, connecting, deadline */
    struct rg_message pump_message;
    bool pump_posted, destroyed;
    char why[160];
};

static void lose(struct rg_redis_link *link, const char *why);
static void greet(struct rg_redis_link *link, enum step step);
static void flush(struct rg_redis_link *link);

/* ---- calls */

static void call_free(struct call *call)
{
    rg_redis_args_fini(&call->args);
    free(call);
}

static void arm_deadline(struct rg_redis_link *link)
{
    const struct call *oldest = TAILQ_FIRST(&link->sent);

    if (link->state != UP)
        return;
    link->late = false;
    if (oldest == NULL)
        rg_timer_stop(&link->timer, link->loop);
    else
        rg_timer_start(&link->timer, link->loop, oldest->due_ms - rg_loop_now_ms(link->loop));
}

static void pump(struct rg_redis_link *link);
static bool send_call(struct rg_redis_link *link, struct call *call);

/* Appends one command to what is to be written. */
static bool put_command(struct rg_redis_link *link, size_t n, const char **v,
                        const size_t *lens)
{
    char *text = NULL;
    int len = redisFormatCommandArgv(&text, (int)n, v, lens);

    if (len < 0)
        return false;
    rg_buf_append(&link->out, text, (size_t)len);
    rg_wipe(text, (size_t)len); /* AUTH is one of them */
    redisFreeCommand(text);
    return !rg_buf_failed(&link->out);
}

static bool send_call(struct rg_redis_link *link, struct call *call)
{
    size_t n = call->args.n + (call->script != NULL ? 2 : 0), at = 0;
    RG_CLEANUP(rg_freep) const char **v = calloc(n, sizeof(*v));
    RG_CLEANUP(rg_freep) size_t *lens = calloc(n, sizeof(*lens));

    if (v == NULL || lens == NULL)
        return false;
    if (call->script != NULL) {
        v[0] = call->in_full ? "EVAL" : "EVALSHA";
        v[1] = call->in_full ? call->script->text : call->script->sha1;
        lens[0] = strlen(v[0]);
        lens[1] = strlen(v[1]);
        at = 2;
    }
    for (size_t i = 0, from = 0; i < call->args.n; from = call->args.ends[i++], at++) {
        v[at] = call->args.bytes.data + from;
        lens[at] = call->args.ends[i] - from;
    }
    if (!put_command(link, n, v, lens))
        return false;
    call->due_ms = rg_loop_now_ms(link->loop) + RG_REDIS_DEADLINE_MS;
    TAILQ_INSERT_TAIL(&link->sent, call, entry);
    link->n_sent++;
    if (TAILQ_FIRST(&link->sent) == call)
        arm_deadline(link);
    return true;
}

/* The oldest call has its answer; (borrow) reply. */
static void answer(struct rg_redis_link *link, const redisReply *reply)
{
    struct call *call = TAILQ_FIRST(&link->sent);

    if (call == NULL) {
        lose(link, "Redis said something unasked");
        return;
    }
    TAILQ_REMOVE(&link->sent, call, entry);
    link->n_sent--;
    if (rg_redis_is_error(reply, "NOSCRIPT") && call->script != NULL && !call->in_full) {
        call->in_full = true; /* flushed or restarted: it learns the script anew */
        if (send_call(link, call)) {
            arm_deadline(link);
            flush(link);
            return;
        }
        reply = NULL;
    }
    call->fn(call->arg, reply);
    call_free(call);
    arm_deadline(link);
    pump(link);
}

/* On the way, for the first time or again: calls wait for the outcome, so that the requests
 * that come right after a start find what the last process left. */
static bool is_coming(const struct rg_redis_link *link)
{
    return link->state == RESOLVING || link->state == CONNECTING || link->state == GREETING ||
           (link->state == REST && link->failures == 0);
}

/* Sends what the window allows; without a connection, what waits gets its NULL. */
static void pump(struct rg_redis_link *link)
{
    struct call *call;

    if (is_coming(link))
        return;
    while ((call = TAILQ_FIRST(&link->waiting)) != NULL &&
           (link->state != UP || link->n_sent < WINDOW)) {
        TAILQ_REMOVE(&link->waiting, call, entry);
        link->n_waiting--;
        if (link->state == UP && send_call(link, call))
            continue;
        call->fn(call->arg, NULL);
        call_free(call);
    }
    flush(link);
}

static void pump_later(struct rg_message *message)
{
    struct rg_redis_link *link = RG_CONTAINER_OF(message, struct rg_redis_link, pump_message);

    link->pump_posted = false;
    if (link->destroyed) {
        free(link);
        return;
    }
    pump(link);
}

bool rg_redis_link_call_take(struct rg_redis_link *link, const struct rg_redis_script *script,
                             struct rg_redis_args *args, rg_redis_reply_fn fn, void *arg)
{
    bool open = link->state == UP || is_coming(link);
    struct call *call = !open || args->failed ? NULL : calloc(1, sizeof(*call));

    if (call == NULL) {
        rg_redis_args_fini(args);
        return false;
    }
    *call = (struct call){.script = script, .args = *args, .fn = fn, .arg = arg};
    *args = (struct rg_redis_args){.n = 0};
    TAILQ_INSERT_TAIL(&link->waiting, call, entry);
    link->n_waiting++;
    if (!link->pump_posted) {
        link->pump_posted = true;
        rg_loop_post(link->loop, &link->pump_message);
    }
    return true;
}

/* ---- the connection */

static void rest(struct rg_redis_link *link)
{
    unsigned doublings = link->failures < 6 ? link->failures : 6;
    uint64_t wait_ms = (uint64_t)BACKOFF_MIN_MS << doublings;

    link->state = REST;
    link->failures++;
    if (wait_ms > BACKOFF_MAX_MS)
        wait_ms = BACKOFF_MAX_MS;
    rg_timer_start(&link->timer, link->loop, (int64_t)rg_random_spread(wait_ms, 50));
}

static void hang_up(struct rg_redis_link *link)
{
    rg_watch_destroy(link->watch);
    link->watch = NULL;
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    link->generation++;
    if (link->reader != NULL)
        redisReaderFree(link->reader);
    link->reader = NULL;
    rg_buf_clear(&link->out);
}

/* Nobody knows whether Redis has done what was sent. */
static void give_null(struct rg_redis_link *link)
{
    struct calls lost = TAILQ_HEAD_INITIALIZER(lost);
    struct call *call;

    TAILQ_CONCAT(&lost, &link->sent, entry);
    link->n_sent = 0;
    while ((call = TAILQ_FIRST(&lost)) != NULL) {
        TAILQ_REMOVE(&lost, call, entry);
        call->fn(call->arg, NULL);
        call_free(call);
    }
    pump(link);
}

/* The connection is no more, or of no use. */
static void lose(struct rg_redis_link *link, const char *why)
{
    bool was_up = link->state == UP;

    if (link->state == STOPPED || link->state == REST)
        return;
    (void)snprintf(link->why, sizeof(link->why), "%s", why);
    if (was_up || link->failures == 0)
        rg_log(RG_LOG_WARN, "redis", "lost", RG_STR("why", link->why));
    hang_up(link);
    rest(link);
    give_null(link);
    if (was_up && link->handler->down != NULL)
        link->handler->down(link->arg);
}

static void flush(struct rg_redis_link *link)
{
    while (link->fd >= 0 && link->state != CONNECTING && link->out.len > 0) {
        ssize_t n = send(link->fd, link->out.data, link->out.len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break; /* full, or broken: then reading tells */
        rg_buf_consume(&link->out, (size_t)n);
    }
    if (link->watch != NULL)
        rg_watch_change(link->watch, RG_WATCH_READ | (link->out.len > 0 ? RG_WATCH_WRITE : 0));
}

/* A message of the channel. */
static void hear(struct rg_redis_link *link, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[2]->type != REDIS_REPLY_STRING ||
        strcmp(reply->element[0]->str, "message") != 0)
        lose(link, "no message of the channel");
    else
        link->handler->message(link->arg, reply->element[2]->str,
                               (size_t)reply->element[2]->len);
}

static void come_up(struct rg_redis_link *link)
{
    if (link->out.len == 0 && link->out.data != NULL)
        rg_wipe(link->out.data, link->out.cap); /* the password was in it */
    link->failures = 0;
    link->why[0] = '\0';
    link->state = UP;
    rg_timer_stop(&link->timer, link->loop);
    if (link->handler->channel == NULL)
        rg_log(RG_LOG_INFO, "redis", "connected");
    link->handler->up(link->arg);
    pump(link);
}

static void greeted(struct rg_redis_link *link, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR)
        lose(link, reply->str);
    else if (link->step == SUBSCRIBE && reply->type == REDIS_REPLY_ARRAY)
        come_up(link);
    else if (link->step == SUBSCRIBE || reply->type != REDIS_REPLY_STATUS)
        lose(link, "this is not Redis");
    else if (link->step == PING && link->handler->channel == NULL)
        come_up(link);
    else
        greet(link, link->step + 1);
}

/* Deals with all whole answers. */
static void take_answers(struct rg_redis_link *link)
{
    unsigned generation = link->generation;
    void *got = NULL;

    while (generation == link->generation) {
        if (redisReaderGetReply(link->reader, &got) != REDIS_OK) {
            lose(link, link->reader->errstr);
            return;
        }
        if (got == NULL)
            break;
        link->reply_bytes = 0;
        if (link->state == GREETING)
            greeted(link, got);
        else if (link->handler->channel != NULL)
            hear(link, got);
        else
            answer(link, got);
        freeReplyObject(got);
    }
    if (generation == link->generation && link->reply_bytes > REPLY_BYTES_MAX)
        lose(link, "an answer is too large");
}

static void read_some(struct rg_redis_link *link)
{
    unsigned generation = link->generation;
    char bytes[READ_BYTES];

    for (int reads = 0; reads < READS_MAX && generation == link->generation; reads++) {
        ssize_t n = read(link->fd, bytes, sizeof(bytes));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return; /* level-triggered: it comes again */
        if (n <= 0) {
            lose(link, n == 0 ? "closed by Redis" : strerror(errno));
            return;
        }
        link->reply_bytes += (size_t)n;
        if (redisReaderFeed(link->reader, bytes, (size_t)n) != REDIS_OK)
            lose(link, "out of memory");
        else
            take_answers(link);
    }
}

static void connected(struct rg_redis_link *link)
{
    int problem = 0;
    socklen_t len = sizeof(problem);

    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &problem, &len) != 0)
        problem = errno;
    if (problem != 0) {
        lose(link, strerror(problem));
        return;
    }
    link->state = GREETING;
    greet(link, AUTH);
}

static void on_event(void *arg, int events)
{
    struct rg_redis_link *link = arg;
    unsigned generation = link->generation;

    if (link->state == CONNECTING) {
        connected(link);
        return;
    }
    if ((events & RG_WATCH_READ) != 0)
        read_some(link);
    if ((events & RG_WATCH_WRITE) != 0 && generation == link->generation)
        flush(link);
}

/* ---- connecting */

static void dial(struct rg_redis_link *link, const char *literal)
{
    link->reader = redisReaderCreate();
    link->reply_bytes = 0;
    link->fd = rg_redis_socket(link->url, literal);
    if (link->fd < 0 || link->reader == NULL) {
        lose(link, link->fd < 0 ? strerror(errno) : "out of memory");
        return;
    }
    link->state = CONNECTING;
    rg_timer_start(&link->timer, link->loop, CONNECT_MS);
    link->watch = rg_loop_watch(link->loop, link->fd, RG_WATCH_WRITE, on_event, link);
    if (link->watch == NULL)
        lose(link, "out of memory");
}

static void on_address(void *arg, const char *address)
{
    struct rg_redis_link *link = arg;

    link->lookup = NULL;
    if (address == NULL)
        lose(link, "the host's name is not known");
    else
        dial(link, address);
}

static void begin(struct rg_redis_link *link)
{
    const struct rg_redis_url *url = link->url;

    link->state = RESOLVING;
    if (url->path[0] != '\0' || rg_redis_is_literal(url->host)) {
        dial(link, url->host);
        return;
    }
    rg_timer_stop(&link->timer, link->loop); /* the look-up has limits of its own */
    link->lookup = rg_redis_lookup_start(link->loop, url->host, on_address, link);
    if (link->lookup == NULL)
        lose(link, "the look-up of the host's name cannot be started");
}

/* The timer still runs from CONNECTING: all of the greeting falls under its limit. */
static void greet(struct rg_redis_link *link, enum step step)
{
    const struct rg_redis_url *url = link->url;
    const char *v[2] = {"PING", NULL};
    size_t lens[2];
    char number[16];

    if (step == AUTH && url->password == NULL)
        step = SELECT;
    if (step == SELECT && url->db == 0)
        step = PING;
    if (step == AUTH) {
        v[0] = "AUTH";
        v[1] = rg_secret_data(url->password);
    } else if (step == SELECT) {
        (void)snprintf(number, sizeof(number), "%u", url->db);
        v[0] = "SELECT";
        v[1] = number;
    } else if (step == SUBSCRIBE) {
        v[0] = "SUBSCRIBE";
        v[1] = link->handler->channel;
    }
    lens[0] = strlen(v[0]);
    lens[1] = step == AUTH ? rg_secret_len(url->password) : v[1] != NULL ? strlen(v[1]) : 0;
    link->step = step;
    if (put_command(link, v[1] != NULL ? 2 : 1, v, lens))
        flush(link);
    else
        lose(link, "out of memory");
}

/* ---- time */

static void on_timer(struct rg_timer *timer)
{
    struct rg_redis_link *link = RG_CONTAINER_OF(timer, struct rg_redis_link, timer);

    switch (link->state) {
    case REST:
        begin(link);
        return;
    case CONNECTING:
    case GREETING:
        lose(link, "no connection in time");
        return;
    case UP:
        /* If it was us who slept, Redis may have slept, too: it gets that long once more. */
        if (!link->late) {
            int64_t by = rg_loop_now_ms(link->loop) - TAILQ_FIRST(&link->sent)->due_ms + 1;
            link->late = true;
            rg_timer_start(&link->timer, link->loop, by < CONNECT_MS ? by : CONNECT_MS);
            return;
        }
        lose(link, "no answer in time");
        return;
    case RESOLVING:
    case STOPPED:
        return;
    }
}

/* ---- life */

struct rg_redis_link *rg_redis_link_create(const struct rg_redis_url *url, struct rg_loop *loop,
                                           const struct rg_redis_handler *handler, void *arg)
{
    struct rg_redis_link *link = calloc(1, sizeof(*link));

    if (link == NULL || rg_timer_init(&link->timer, loop, on_timer) != RG_OK) {
        free(link);
        return NULL;
    }
    link->url = url;
    link->loop = loop;
    link->handler = handler;
    link->arg = arg;
    link->fd = -1;
    link->pump_message.fn = pump_later;
    TAILQ_INIT(&link->waiting);
    TAILQ_INIT(&link->sent);
    (void)snprintf(link->why, sizeof(link->why), "connecting");
    rg_timer_start(&link->timer, loop, 0);
    return link;
}

void rg_redis_link_stop(struct rg_redis_link *link)
{
    if (link->state == STOPPED)
        return;
    link->state = STOPPED;
    hang_up(link);
    (void)snprintf(link->why, sizeof(link->why), "stopped");
    rg_timer_stop(&link->timer, link->loop);
    rg_redis_lookup_cancel(link->lookup);
    link->lookup = NULL;
    give_null(link);
}

void rg_redis_link_destroy(struct rg_redis_link *link)
{
    if (link == NULL)
        return;
    rg_redis_link_stop(link);
    rg_buf_fini(&link->out);
    rg_timer_fini(&link->timer, link->loop);
    if (link->pump_posted)
        link->destroyed = true; /* its message, still under way, frees it */
    else
        free(link);
}

bool rg_redis_link_is_up(const struct rg_redis_link *link)
{
    return link->state == UP;
}

size_t rg_redis_link_load(const struct rg_redis_link *link)
{
    return link->n_sent + link->n_waiting;
}

const char *rg_redis_link_why(const struct rg_redis_link *link)
{
    return link->why;
}

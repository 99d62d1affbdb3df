#include "cache/redis_link.h"

#include <hiredis/async.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "cache/redis_resolve.h"
#include "gateway/base/log.h"
#include "gateway/base/random.h"

/* DESIGN
 *
 *      REST --timer--> RESOLVING --> CONNECTING --> GREETING --> UP
 *       ^                  |             |              |         |
 *       +------------------+-------------+--------------+---------+   lost, late, refused
 *
 * GREETING: AUTH, SELECT, PING, one after the other; PING finds a server that is loading or
 * wants a password. In UP at most WINDOW calls are on their way, the others wait here, so that
 * the deadline measures Redis and not the queue of a busy restart.
 *
 * hiredis frees its context by itself after an error and may not be touched then (R29): `ac` is
 * only set while it may be. Each context has a port of its own, which outlives it by the event
 * in which it died. */

enum {
    WINDOW = 16,
    CONNECT_MS = 2000,
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    KEEPALIVE_S = 15,
    BULK_MAX = 64 * 1024 * 1024 /* one value that large is not ours */
};

enum state { REST, RESOLVING, CONNECTING, GREETING, UP, STOPPED };

struct call {
    struct rg_redis_link *link;
    TAILQ_ENTRY(call) entry;
    const struct rg_redis_script *script;
    struct rg_redis_args args;
    rg_redis_reply_fn fn;
    void *arg;
    int64_t due_ms;
    bool in_full; /* the script's text was sent */
};
TAILQ_HEAD(calls, call);

/* What the event loop knows of one context. */
struct port {
    struct rg_redis_link *link;
    redisAsyncContext *ac;
    struct rg_watch *watch;
    int events;
    bool busy, dead;
};

struct rg_redis_link {
    const struct rg_redis_url *url;
    struct rg_loop *loop;
    const struct rg_redis_handler *handler;
    void *arg;
    enum state state;
    redisAsyncContext *ac; /* NULL: none that may be touched */
    struct rg_redis_lookup *lookup;
    struct calls waiting, sent;
    size_t n_waiting, n_sent;
    unsigned failures;
    bool late; /* the deadline has passed once; what lies in the socket is read first */
    struct rg_timer timer; /* retry, connecting, deadline */
    struct rg_message pump_message;
    bool pump_posted, destroyed;
    char why[160];
};

static void lose(struct rg_redis_link *link, const char *why);
static void greet(struct rg_redis_link *link, int step);

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

static bool is_error(const redisReply *reply, const char *word)
{
    return reply != NULL && reply->type == REDIS_REPLY_ERROR && reply->str != NULL &&
           strncmp(reply->str, word, strlen(word)) == 0;
}

static void on_reply(redisAsyncContext *ac, void *data, void *privdata)
{
    struct call *call = privdata;
    struct rg_redis_link *link = call->link;
    const redisReply *reply = data;

    if (reply == NULL && ac == link->ac)
        lose(link, ac->errstr != NULL && *ac->errstr != '\0' ? ac->errstr : "connection lost");
    TAILQ_REMOVE(&link->sent, call, entry);
    link->n_sent--;
    if (is_error(reply, "NOSCRIPT") && call->script != NULL && !call->in_full) {
        call->in_full = true; /* flushed or restarted: it learns the script anew */
        if (send_call(link, call))
            return;
        reply = NULL;
    }
    call->fn(call->arg, reply);
    call_free(call);
    arm_deadline(link);
    pump(link);
}

static bool send_call(struct rg_redis_link *link, struct call *call)
{
    size_t n = call->args.n + (call->script != NULL ? 2 : 0), at = 0;
    RG_CLEANUP(rg_freep) const char **v = calloc(n, sizeof(*v));
    RG_CLEANUP(rg_freep) size_t *lens = calloc(n, sizeof(*lens));

    if (v == NULL || lens == NULL || link->ac == NULL)
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
    if (redisAsyncCommandArgv(link->ac, on_reply, call, (int)n, v, lens) != REDIS_OK)
        return false;
    call->due_ms = rg_loop_now_ms(link->loop) + RG_REDIS_DEADLINE_MS;
    TAILQ_INSERT_TAIL(&link->sent, call, entry);
    link->n_sent++;
    if (TAILQ_FIRST(&link->sent) == call)
        arm_deadline(link);
    return true;
}

/* Sends what the window allows; without a connection, what waits gets its NULL. */
static void pump(struct rg_redis_link *link)
{
    struct call *call;

    while ((call = TAILQ_FIRST(&link->waiting)) != NULL &&
           (link->state != UP || link->n_sent < WINDOW)) {
        TAILQ_REMOVE(&link->waiting, call, entry);
        link->n_waiting--;
        if (link->state == UP && send_call(link, call))
            continue;
        call->fn(call->arg, NULL);
        call_free(call);
    }
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
    struct call *call = link->state != UP || args->failed ? NULL : calloc(1, sizeof(*call));

    if (call == NULL) {
        rg_redis_args_fini(args);
        return false;
    }
    *call = (struct call){.link = link, .script = script, .args = *args, .fn = fn, .arg = arg};
    *args = (struct rg_redis_args){.n = 0};
    TAILQ_INSERT_TAIL(&link->waiting, call, entry);
    link->n_waiting++;
    if (!link->pump_posted) {
        link->pump_posted = true;
        rg_loop_post(link->loop, &link->pump_message);
    }
    return true;
}

/* ---- the adapter between hiredis and the loop */

static void on_event(void *arg, int events)
{
    struct port *port = arg;

    port->busy = true;
    if ((events & RG_WATCH_READ) != 0)
        redisAsyncHandleRead(port->ac);
    if ((events & RG_WATCH_WRITE) != 0 && !port->dead)
        redisAsyncHandleWrite(port->ac);
    port->busy = false;
    if (port->dead) {
        free(port);
        return;
    }
    if (port->ac == port->link->ac && port->ac->c.reader->len > BULK_MAX)
        lose(port->link, "a reply is too large");
}

static void port_events(struct port *port, int events)
{
    port->events = events;
    if (port->watch != NULL)
        rg_watch_change(port->watch, events);
    else if (events != 0)
        /* NULL: nothing will come, and the deadline ends it. */
        port->watch = rg_loop_watch(port->link->loop, port->ac->c.fd, events, on_event, port);
}

static void add_read(void *data)
{
    struct port *port = data;
    port_events(port, port->events | RG_WATCH_READ);
}

static void del_read(void *data)
{
    struct port *port = data;
    port_events(port, port->events & ~RG_WATCH_READ);
}

static void add_write(void *data)
{
    struct port *port = data;
    port_events(port, port->events | RG_WATCH_WRITE);
}

static void del_write(void *data)
{
    struct port *port = data;
    port_events(port, port->events & ~RG_WATCH_WRITE);
}

static void port_cleanup(void *data)
{
    struct port *port = data;

    rg_watch_destroy(port->watch);
    port->watch = NULL;
    port->dead = true;
    if (!port->busy)
        free(port);
}

static bool port_attach(struct rg_redis_link *link, redisAsyncContext *ac)
{
    struct port *port = calloc(1, sizeof(*port));

    if (port == NULL)
        return false;
    *port = (struct port){.link = link, .ac = ac};
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = port_cleanup;
    ac->ev.data = port;
    return true;
}

/* ---- connecting */

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

/* The connection is no more, or of no use. Calls on their way get their NULL from hiredis. */
static void lose(struct rg_redis_link *link, const char *why)
{
    redisAsyncContext *ac = link->ac;
    bool was_up = link->state == UP;

    if (link->state == STOPPED || link->state == REST)
        return;
    (void)snprintf(link->why, sizeof(link->why), "%s", why);
    if (was_up || link->failures == 0)
        rg_log(RG_LOG_WARN, "redis", "lost", RG_STR("why", link->why));
    link->ac = NULL;
    rest(link);
    /* After an error hiredis frees the context itself; else we do. */
    if (ac != NULL && ac->err == 0)
        redisAsyncFree(ac);
    pump(link);
    if (was_up && link->handler->down != NULL)
        link->handler->down(link->arg);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
    struct rg_redis_link *link = ac->data;

    if (ac != link->ac)
        return;
    if (status != REDIS_OK) {
        char why[sizeof(link->why)];

        (void)snprintf(why, sizeof(why), "%s",
                       ac->errstr != NULL && *ac->errstr != '\0' ? ac->errstr
                                                                 : "connection refused");
        link->ac = NULL; /* hiredis frees it after this */
        lose(link, why);
        return;
    }
    link->state = GREETING;
    greet(link, 0);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    struct rg_redis_link *link = ac->data;

    (void)status;
    if (ac != link->ac)
        return;
    link->ac = NULL;
    lose(link, ac->errstr != NULL && *ac->errstr != '\0' ? ac->errstr : "closed by Redis");
}

static void dial(struct rg_redis_link *link, const char *address)
{
    const struct rg_redis_url *url = link->url;
    redisAsyncContext *ac = url->path[0] != '\0' ? redisAsyncConnectUnix(url->path)
                                                 : redisAsyncConnect(address, url->port);

    if (ac == NULL) {
        lose(link, "out of memory");
        return;
    }
    if (ac->err != 0 || !port_attach(link, ac)) {
        char why[sizeof(link->why)];

        (void)snprintf(why, sizeof(why), "%s", ac->err != 0 ? ac->errstr : "out of memory");
        redisAsyncFree(ac);
        lose(link, why);
        return;
    }
    ac->data = link;
    link->ac = ac;
    link->state = CONNECTING;
    rg_timer_start(&link->timer, link->loop, CONNECT_MS);
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
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

/* ---- greeting */

enum { AUTH, SELECT, PING, GREETED };

static void on_message(redisAsyncContext *ac, void *data, void *privdata)
{
    struct rg_redis_link *link = privdata;
    const redisReply *reply = data;

    if (ac != link->ac || reply == NULL || reply->type != REDIS_REPLY_ARRAY ||
        reply->elements != 3 || reply->element[0]->type != REDIS_REPLY_STRING)
        return;
    if (strcmp(reply->element[0]->str, "subscribe") == 0 && link->state == GREETING) {
        link->state = UP;
        rg_timer_stop(&link->timer, link->loop);
        link->handler->up(link->arg);
    } else if (strcmp(reply->element[0]->str, "message") == 0 &&
               reply->element[2]->type == REDIS_REPLY_STRING) {
        link->handler->message(link->arg, reply->element[2]->str,
                               (size_t)reply->element[2]->len);
    }
}

static void come_up(struct rg_redis_link *link)
{
    int fd = link->ac->c.fd;

    link->failures = 0;
    link->why[0] = '\0';
    if (link->url->path[0] == '\0') {
        /* A peer that vanished without a word is noticed, on an idle connection too. */
        int on = 1, idle_s = KEEPALIVE_S, limit_ms = KEEPALIVE_S * 1000;
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof(idle_s));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof(limit_ms));
    }
    if (link->handler->channel != NULL) {
        if (redisAsyncCommand(link->ac, on_message, link, "SUBSCRIBE %s",
                              link->handler->channel) != REDIS_OK)
            lose(link, "cannot subscribe");
        return; /* up when Redis says so */
    }
    link->state = UP;
    rg_timer_stop(&link->timer, link->loop);
    rg_log(RG_LOG_INFO, "redis", "connected");
    link->handler->up(link->arg);
}

static void greeted(struct rg_redis_link *link, const redisReply *reply, int step)
{
    if (link->state != GREETING || reply == NULL)
        return; /* lost: the other callbacks deal with it */
    if (reply->type != REDIS_REPLY_STATUS) {
        lose(link, reply->type == REDIS_REPLY_ERROR ? reply->str : "this is not Redis");
        return;
    }
    greet(link, step + 1);
}

static void on_auth(redisAsyncContext *ac, void *reply, void *link)
{
    if (ac == ((struct rg_redis_link *)link)->ac)
        greeted(link, reply, AUTH);
}

static void on_select(redisAsyncContext *ac, void *reply, void *link)
{
    if (ac == ((struct rg_redis_link *)link)->ac)
        greeted(link, reply, SELECT);
}

static void on_ping(redisAsyncContext *ac, void *reply, void *link)
{
    if (ac == ((struct rg_redis_link *)link)->ac)
        greeted(link, reply, PING);
}

/* The timer still runs from CONNECTING: all of the greeting falls under its limit. */
static void greet(struct rg_redis_link *link, int step)
{
    const struct rg_redis_url *url = link->url;
    int sent = REDIS_OK;

    if (step == AUTH && url->password == NULL)
        step = SELECT;
    if (step == SELECT && url->db == 0)
        step = PING;
    if (step == AUTH)
        sent = redisAsyncCommand(link->ac, on_auth, link, "AUTH %b",
                                 rg_secret_data(url->password), rg_secret_len(url->password));
    else if (step == SELECT)
        sent = redisAsyncCommand(link->ac, on_select, link, "SELECT %u", url->db);
    else if (step == PING)
        sent = redisAsyncCommand(link->ac, on_ping, link, "PING");
    else
        come_up(link);
    if (sent != REDIS_OK)
        lose(link, "the greeting could not be sent");
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
        /* If it was us who slept, the answer lies in the socket: one more turn reads it. */
        if (!link->late) {
            link->late = true;
            rg_timer_start(&link->timer, link->loop, 1);
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
    link->pump_message.fn = pump_later;
    TAILQ_INIT(&link->waiting);
    TAILQ_INIT(&link->sent);
    (void)snprintf(link->why, sizeof(link->why), "connecting");
    rg_timer_start(&link->timer, loop, 0);
    return link;
}

void rg_redis_link_stop(struct rg_redis_link *link)
{
    redisAsyncContext *ac = link->ac;

    if (link->state == STOPPED)
        return;
    link->state = STOPPED;
    link->ac = NULL;
    (void)snprintf(link->why, sizeof(link->why), "stopped");
    rg_timer_stop(&link->timer, link->loop);
    rg_redis_lookup_cancel(link->lookup);
    link->lookup = NULL;
    if (ac != NULL && ac->err == 0)
        redisAsyncFree(ac);
    pump(link);
}

void rg_redis_link_destroy(struct rg_redis_link *link)
{
    if (link == NULL)
        return;
    rg_redis_link_stop(link);
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

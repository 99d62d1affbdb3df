#include "cache/redis_resolve.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

enum { TRY_MS = 1000, TRIES = 2, SOCKETS_MAX = 8 };

struct socket_watch {
    struct rg_redis_lookup *lookup;
    struct rg_watch *watch; /* NULL: free */
    ares_socket_t fd;
};

/* A channel for each look-up, so that a changed resolv.conf is noticed. */
struct rg_redis_lookup {
    struct rg_loop *loop;
    ares_channel channel;
    struct rg_timer timer;
    struct rg_message message; /* the answer's */
    struct socket_watch sockets[SOCKETS_MAX];
    rg_redis_lookup_fn fn;
    void *arg;
    bool done, cancelled, found;
    char address[RG_REDIS_ADDRESS_SIZE];
};

static void lookup_free(struct rg_redis_lookup *lookup)
{
    ares_destroy(lookup->channel); /* a query under way ends with ARES_EDESTRUCTION */
    for (size_t i = 0; i < SOCKETS_MAX; i++)
        rg_watch_destroy(lookup->sockets[i].watch);
    rg_timer_fini(&lookup->timer, lookup->loop);
    free(lookup);
}

static void deliver(struct rg_message *message)
{
    struct rg_redis_lookup *lookup = RG_CONTAINER_OF(message, struct rg_redis_lookup, message);

    if (!lookup->cancelled)
        lookup->fn(lookup->arg, lookup->found ? lookup->address : NULL);
    lookup_free(lookup);
}

static void arm(struct rg_redis_lookup *lookup)
{
    struct timeval most = {.tv_sec = TRY_MS / 1000}, left;
    const struct timeval *wait = ares_timeout(lookup->channel, &most, &left);

    rg_timer_start(&lookup->timer, lookup->loop,
                   wait->tv_sec * 1000 + wait->tv_usec / 1000 + 1);
}

static void process(struct rg_redis_lookup *lookup, ares_socket_t read_fd,
                    ares_socket_t write_fd)
{
    ares_process_fd(lookup->channel, read_fd, write_fd);
    if (!lookup->done)
        arm(lookup);
}

static void on_timer(struct rg_timer *timer)
{
    process(RG_CONTAINER_OF(timer, struct rg_redis_lookup, timer), ARES_SOCKET_BAD,
            ARES_SOCKET_BAD);
}

static void on_socket(void *arg, int events)
{
    struct socket_watch *at = arg;
    ares_socket_t fd = at->fd;

    process(at->lookup, events & RG_WATCH_READ ? fd : ARES_SOCKET_BAD,
            events & RG_WATCH_WRITE ? fd : ARES_SOCKET_BAD);
}

static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct rg_redis_lookup *lookup = arg;
    int events = (readable ? RG_WATCH_READ : 0) | (writable ? RG_WATCH_WRITE : 0);
    struct socket_watch *room = NULL;

    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        struct socket_watch *at = &lookup->sockets[i];

        if (at->watch == NULL) {
            room = room != NULL ? room : at;
        } else if (at->fd == fd && events != 0) {
            rg_watch_change(at->watch, events);
            return;
        } else if (at->fd == fd) {
            rg_watch_destroy(at->watch);
            at->watch = NULL;
            return;
        }
    }
    if (events == 0 || room == NULL)
        return; /* without a watch the query runs into its time limit */
    room->lookup = lookup;
    room->fd = fd;
    room->watch = rg_loop_watch(lookup->loop, fd, events, on_socket, room);
}

static void on_addresses(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
    struct rg_redis_lookup *lookup = arg;
    const struct ares_addrinfo_node *at = status == ARES_SUCCESS ? result->nodes : NULL;

    (void)timeouts;
    for (; at != NULL && !lookup->found; at = at->ai_next) {
        const void *address =
            at->ai_family == AF_INET
                ? (const void *)&((const struct sockaddr_in *)(const void *)at->ai_addr)
                      ->sin_addr
                : (const void *)&((const struct sockaddr_in6 *)(const void *)at->ai_addr)
                      ->sin6_addr;

        lookup->found =
            inet_ntop(at->ai_family, address, lookup->address, sizeof(lookup->address)) != NULL;
    }
    ares_freeaddrinfo(result);
    if (status == ARES_EDESTRUCTION)
        return;
    lookup->done = true;
    rg_timer_stop(&lookup->timer, lookup->loop);
    lookup->message.fn = deliver;
    rg_loop_post(lookup->loop, &lookup->message);
}

struct rg_redis_lookup *rg_redis_lookup_start(struct rg_loop *loop, const char *host,
                                              rg_redis_lookup_fn fn, void *arg)
{
    static bool ready;
    const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC,
                                              .ai_socktype = SOCK_STREAM};
    struct rg_redis_lookup *lookup = calloc(1, sizeof(*lookup));
    struct ares_options options = {.timeout = TRY_MS,
                                   .tries = TRIES,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = lookup};

    if (!ready)
        ready = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS;
    if (lookup == NULL || !ready || rg_timer_init(&lookup->timer, loop, on_timer) != RG_OK) {
        free(lookup);
        return NULL;
    }
    if (ares_init_options(&lookup->channel, &options,
                          ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB) !=
        ARES_SUCCESS) {
        rg_timer_fini(&lookup->timer, loop);
        free(lookup);
        return NULL;
    }
    lookup->loop = loop;
    lookup->fn = fn;
    lookup->arg = arg;
    ares_getaddrinfo(lookup->channel, host, NULL, &hints, on_addresses, lookup);
    if (!lookup->done)
        arm(lookup);
    return lookup;
}

void rg_redis_lookup_cancel(struct rg_redis_lookup *lookup)
{
    if (lookup == NULL)
        return;
    lookup->cancelled = true;
    if (!lookup->done)
        lookup_free(lookup); /* else its message is under way and frees it */
}

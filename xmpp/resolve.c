#include "xmpp/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

#include <ares.h>
#include <arpa/nameser.h>
#include <idna.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "gateway/base/random.h"

enum { RECORDS_MAX = 16, SOCKETS_MAX = 16, TRY_MS = 2000, TRIES = 2, XMPP_PORT = 5222 };

struct socket_watch {
    struct rg_lookup *lookup;
    ares_socket_t fd;
    struct rg_watch *watch;
    bool used;
};

/* A channel of its own for each look-up: a changed resolv.conf is noticed, and ending one
 * cannot disturb another. */
struct rg_lookup {
    struct rg_loop *loop;
    ares_channel channel;
    bool channel_open;
    rg_lookup_fn fn;
    void *arg;
    struct rg_domain domain;
    struct socket_watch sockets[SOCKETS_MAX];
    struct rg_timer timer;
    struct rg_message message;
    bool posted, cancelled;
    bool denied;       /* the domain says that it has no such server */
    unsigned srv_open; /* SRV answers still to come */
    struct rg_srv records[RECORDS_MAX];
    size_t n_records, next_record;
    struct rg_addresses found;
    const char *why;
};

bool rg_address_literal(struct rg_address *out, const char *host, uint16_t port)
{
    struct in6_addr any;
    if (inet_pton(AF_INET, host, &any) != 1 && inet_pton(AF_INET6, host, &any) != 1)
        return false;
    snprintf(out->text, sizeof(out->text), "%s", host);
    out->port = port;
    out->direct_tls = false;
    return true;
}

bool rg_address_is_loopback(const char *text)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static void swap(struct rg_srv *a, struct rg_srv *b)
{
    struct rg_srv c = *a;
    *a = *b;
    *b = c;
}

void rg_srv_sort(struct rg_srv *records, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t priority = records[i].priority;
        for (size_t k = i + 1; k < n; k++)
            priority = records[k].priority < priority ? records[k].priority : priority;
        uint64_t sum = 0;
        for (size_t k = i; k < n; k++)
            sum += records[k].priority == priority ? records[k].weight + 1U : 0;
        uint64_t pick = rg_random_below(sum);
        for (size_t k = i; k < n; k++) {
            uint64_t part = records[k].priority == priority ? records[k].weight + 1U : 0;
            if (part > pick) {
                swap(&records[i], &records[k]);
                break;
            }
            pick -= part;
        }
    }
}

/* ---- c-ares on the loop ---- */

static void arm(struct rg_lookup *lookup)
{
    struct timeval most = {.tv_sec = TRY_MS / 1000}, left;
    if (lookup->posted || !lookup->channel_open)
        return;
    struct timeval *wait = ares_timeout(lookup->channel, &most, &left);
    rg_timer_start(&lookup->timer, lookup->loop,
                   (int64_t)wait->tv_sec * 1000 + wait->tv_usec / 1000 + 1);
}

static void process(struct rg_lookup *lookup, ares_socket_t read_fd, ares_socket_t write_fd)
{
    ares_process_fd(lookup->channel, read_fd, write_fd);
    arm(lookup);
}

static void on_socket_ready(void *arg, int events)
{
    struct socket_watch *watch = arg;
    ares_socket_t fd = watch->fd;
    process(watch->lookup, (events & RG_WATCH_READ) != 0 ? fd : ARES_SOCKET_BAD,
            (events & RG_WATCH_WRITE) != 0 ? fd : ARES_SOCKET_BAD);
}

static void on_timer(struct rg_timer *timer)
{
    struct rg_lookup *lookup = RG_CONTAINER_OF(timer, struct rg_lookup, timer);
    process(lookup, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

/* c-ares says which of its sockets it wants to hear of; 0, 0: it is about to close it. */
static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct rg_lookup *lookup = arg;
    struct socket_watch *spare = NULL;
    int events = (readable ? RG_WATCH_READ : 0) | (writable ? RG_WATCH_WRITE : 0);
    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        struct socket_watch *at = &lookup->sockets[i];
        if (!at->used) {
            spare = at;
        } else if (at->fd == fd && events == 0) {
            rg_watch_destroy(at->watch);
            at->used = false;
            return;
        } else if (at->fd == fd) {
            rg_watch_change(at->watch, events);
            return;
        }
    }
    if (events == 0 || spare == NULL)
        return; /* beyond our room: c-ares' own timeout ends that query */
    *spare = (struct socket_watch){.lookup = lookup, .fd = fd, .used = true};
    spare->watch = rg_loop_watch(lookup->loop, fd, events, on_socket_ready, spare);
    spare->used = spare->watch != NULL;
}

/* ---- steps ---- */

static void release(struct rg_lookup *lookup)
{
    if (lookup->channel_open)
        ares_destroy(lookup->channel);
    for (size_t i = 0; i < SOCKETS_MAX; i++)
        if (lookup->sockets[i].used)
            rg_watch_destroy(lookup->sockets[i].watch);
    rg_timer_fini(&lookup->timer, lookup->loop);
    free(lookup);
}

static void on_message(struct rg_message *message)
{
    struct rg_lookup *lookup = RG_CONTAINER_OF(message, struct rg_lookup, message);
    if (!lookup->cancelled)
        lookup->fn(lookup->arg, lookup->found.n == 0 ? NULL : &lookup->found, lookup->why);
    release(lookup);
}

static void finish(struct rg_lookup *lookup)
{
    if (lookup->posted)
        return;
    lookup->posted = true;
    rg_timer_stop(&lookup->timer, lookup->loop);
    lookup->message.fn = on_message;
    rg_loop_post(lookup->loop, &lookup->message);
}

static void next_target(struct rg_lookup *lookup);

static void keep_address(struct rg_lookup *lookup, const struct sockaddr *address,
                         const struct rg_srv *record)
{
    if (lookup->found.n == RG_ADDRESSES_MAX)
        return;
    struct rg_address *at = &lookup->found.v[lookup->found.n];
    const void *raw = NULL;
    if (address->sa_family == AF_INET)
        raw = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address->sa_family == AF_INET6)
        raw = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (raw == NULL || inet_ntop(address->sa_family, raw, at->text, sizeof(at->text)) == NULL)
        return;
    at->port = record->port;
    at->direct_tls = record->direct_tls;
    lookup->found.n++;
}

static void on_addresses(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
    struct rg_lookup *lookup = arg;
    (void)timeouts;
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
        ares_freeaddrinfo(result);
        return;
    }
    if (status == ARES_SUCCESS)
        for (struct ares_addrinfo_node *at = result->nodes; at != NULL; at = at->ai_next)
            keep_address(lookup, at->ai_addr, &lookup->records[lookup->next_record]);
    else
        lookup->why = ares_strerror(status);
    ares_freeaddrinfo(result);
    lookup->next_record++;
    next_target(lookup);
}

static void next_target(struct rg_lookup *lookup)
{
    if (lookup->next_record >= lookup->n_records || lookup->found.n == RG_ADDRESSES_MAX) {
        finish(lookup);
        return;
    }
    const struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
    ares_getaddrinfo(lookup->channel, lookup->records[lookup->next_record].target, NULL, &hints,
                     on_addresses, lookup);
}

/* "." means: not served here (RFC 2782), and that nothing else is to be tried (RFC 6120
 * 3.2.1). */
static bool is_nowhere(const char *target)
{
    return target[0] == '\0' || strcmp(target, ".") == 0;
}

static void add_record(struct rg_lookup *lookup, const char *target, uint16_t port,
                       const struct ares_srv_reply *from, bool direct_tls)
{
    if (lookup->n_records == RECORDS_MAX || is_nowhere(target) || port == 0)
        return;
    struct rg_srv *record = &lookup->records[lookup->n_records];
    if ((size_t)snprintf(record->target, sizeof(record->target), "%s", target) >=
        sizeof(record->target))
        return;
    record->port = port;
    record->priority = from == NULL ? 0 : from->priority;
    record->weight = from == NULL ? 0 : from->weight;
    record->direct_tls = direct_tls;
    lookup->n_records++;
}

static void on_srv(struct rg_lookup *lookup, int status, const unsigned char *answer, int len,
                   bool direct_tls)
{
    struct ares_srv_reply *records = NULL;
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED)
        return;
    if (status == ARES_SUCCESS && ares_parse_srv_reply(answer, len, &records) == ARES_SUCCESS)
        for (const struct ares_srv_reply *at = records; at != NULL; at = at->next) {
            lookup->denied = lookup->denied || (!direct_tls && is_nowhere(at->host));
            add_record(lookup, at->host, at->port, at, direct_tls);
        }
    if (records != NULL)
        ares_free_data(records);
    if (--lookup->srv_open > 0)
        return;
    rg_srv_sort(lookup->records, lookup->n_records);
    if (lookup->n_records == 0 && lookup->denied)
        lookup->why = "the DNS says that XMPP is not served there";
    else if (lookup->n_records == 0) /* RFC 6120 3.2.2 */
        add_record(lookup, lookup->domain.domain, XMPP_PORT, NULL, false);
    next_target(lookup);
}

static void on_srv_starttls(void *arg, int status, int timeouts, unsigned char *answer, int len)
{
    (void)timeouts;
    on_srv(arg, status, answer, len, false);
}

static void on_srv_direct(void *arg, int status, int timeouts, unsigned char *answer, int len)
{
    (void)timeouts;
    on_srv(arg, status, answer, len, true);
}

/* The DNS knows internationalised domains in their ASCII form only (RFC 3490). */
static bool make_ascii(char *name, size_t size)
{
    char *ascii = NULL;
    if (name[0] == '\0')
        return true;
    if (idna_to_ascii_8z(name, &ascii, 0) != IDNA_SUCCESS)
        return false;
    bool fits = strlen(ascii) < size;
    if (fits)
        memcpy(name, ascii, strlen(ascii) + 1);
    free(ascii);
    return fits;
}

static void begin(struct rg_lookup *lookup)
{
    char name[sizeof(lookup->domain.domain) + 24];
    if (lookup->domain.host[0] != '\0') {
        add_record(lookup, lookup->domain.host, lookup->domain.port, NULL,
                   lookup->domain.direct_tls);
        next_target(lookup);
    } else {
        lookup->srv_open = 2;
        snprintf(name, sizeof(name), "_xmpp-client._tcp.%s", lookup->domain.domain);
        ares_query(lookup->channel, name, C_IN, T_SRV, on_srv_starttls, lookup);
        snprintf(name, sizeof(name), "_xmpps-client._tcp.%s", lookup->domain.domain);
        ares_query(lookup->channel, name, C_IN, T_SRV, on_srv_direct, lookup);
    }
    arm(lookup);
}

/* (own) "a,b"; NULL when out of memory. */
static char *join(const struct rg_strings *list)
{
    struct rg_buf buf = RG_BUF_INIT;
    for (size_t i = 0; i < list->n; i++) {
        rg_buf_puts(&buf, i > 0 ? "," : "");
        rg_buf_puts(&buf, list->v[i]);
    }
    return rg_buf_take(&buf, NULL);
}

/* Opens the channel. What an SRV record names is never completed by the search list of
 * resolv.conf: it would be another name. */
static int open_channel(struct rg_lookup *lookup, const struct rg_strings *servers)
{
    struct ares_options options = {.timeout = TRY_MS,
                                   .tries = TRIES,
                                   .flags =
                                       lookup->domain.host[0] == '\0' ? ARES_FLAG_NOSEARCH : 0,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = lookup};
    int status = ares_init_options(&lookup->channel, &options,
                                   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_FLAGS |
                                       ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS)
        return status;
    lookup->channel_open = true;
    if (servers == NULL || servers->n == 0)
        return ARES_SUCCESS;
    RG_CLEANUP(rg_freep) char *csv = join(servers);
    return csv == NULL ? ARES_ENOMEM : ares_set_servers_ports_csv(lookup->channel, csv);
}

struct rg_lookup *rg_lookup_start(struct rg_loop *loop, const struct rg_domain *domain,
                                  const struct rg_strings *servers, rg_lookup_fn fn, void *arg,
                                  struct rg_err *err)
{
    static bool ready;
    struct rg_lookup *lookup = calloc(1, sizeof(*lookup));
    if (lookup == NULL || rg_timer_init(&lookup->timer, loop, on_timer) != RG_OK) {
        free(lookup);
        rg_fail(err, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    lookup->loop = loop;
    lookup->fn = fn;
    lookup->arg = arg;
    lookup->domain = *domain;
    lookup->why = "no address";
    if (!make_ascii(lookup->domain.domain, sizeof(lookup->domain.domain)) ||
        !make_ascii(lookup->domain.host, sizeof(lookup->domain.host))) {
        release(lookup);
        rg_fail(err, RG_E_UNREACHABLE, "the domain has no ASCII form");
        return NULL;
    }
    if (!ready)
        ready = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS;
    int status = open_channel(lookup, servers);
    if (status != ARES_SUCCESS) {
        release(lookup);
        rg_fail(err, RG_E_UNREACHABLE, "name look-up: %s", ares_strerror(status));
        return NULL;
    }
    begin(lookup);
    return lookup;
}

void rg_lookup_cancel(struct rg_lookup *lookup)
{
    if (lookup == NULL)
        return;
    lookup->cancelled = true;
    if (!lookup->posted)
        release(lookup); /* otherwise the message on its way does */
}

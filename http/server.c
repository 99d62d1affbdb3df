/* The HTTP side as one object: made, started and stopped in order (DESIGN section 5, Stop). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "gateway/base/log.h"
#include "http/body.h"
#include "http/internal.h"

enum {
    HTTP_MEMORY = 32 * 1024,
    EVENT_MEMORY = 8 * 1024,
    DESCRIPTOR_RESERVE = 512 /* workers' links, Redis, files, the loops' own */
};

/* A connection needs a descriptor: the soft limit of most systems is 1,024. */
static void raise_descriptor_limit(const struct rg_config *config)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    int64_t wanted = config->limits.connections + DESCRIPTOR_RESERVE;
    if (limit.rlim_cur != RLIM_INFINITY && (int64_t)limit.rlim_cur < wanted)
        rg_log(RG_LOG_WARN, "http", "descriptor-limit-low", RG_INT("limit", limit.rlim_cur),
               RG_INT("wanted", wanted));
}

static enum rg_code create_lanes(struct rg_http *http, struct rg_err *err)
{
    const struct rg_config *config = http->config;
    http->n_http = (size_t)config->server.http_loops;
    size_t n = http->n_http + (size_t)config->server.event_loops;
    http->lanes = calloc(n, sizeof(struct rg_lane *));
    if (http->lanes == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        bool events = i >= http->n_http;
        struct rg_lane_options options = {
            .name = events ? "event" : "http",
            .routes = rg_public_routes,
            .n_routes = rg_public_routes_n,
            .memory = events ? EVENT_MEMORY : HTTP_MEMORY,
            .cache_tokens = !events,
            .listen_fd = -1,
        };
        enum rg_code code = rg_lane_create(http, NULL, &options, &http->lanes[i], err);
        if (code != RG_OK)
            return code;
        http->n_lanes = i + 1;
    }
    return RG_OK;
}

static enum rg_code create_operations(struct rg_http *http, struct rg_err *err)
{
    struct rg_lane_options options = {
        .name = "main",
        .routes = rg_operations_routes,
        .n_routes = rg_operations_routes_n,
        .memory = HTTP_MEMORY,
        .listen_fd = http->operations_listener.fd,
    };
    http->operations = rg_operations_create(http);
    if (http->operations == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    return rg_lane_create(http, http->main_loop, &options, &http->operations_lane, err);
}

static double ask_count(void *arg, enum rg_limited what)
{
    struct rg_http *http = arg;
    return (double)rg_limits_count(http->limits, what);
}

static double ask_connections(void *arg)
{
    return ask_count(arg, RG_LIMITED_CONNECTIONS);
}

static double ask_streams(void *arg)
{
    return ask_count(arg, RG_LIMITED_STREAMS);
}

static double ask_wakeups(void *arg)
{
    return (double)rg_loop_wakeups(arg);
}

static void add_wakeups(struct rg_loop *loop, size_t number)
{
    char labels[64];
    snprintf(labels, sizeof(labels), "loop=\"%s-%zu\"", rg_loop_name(loop), number);
    rg_metric_ask("rostergate_loop_wakeups_total", "Turns of an event loop.", labels, 1,
                  ask_wakeups, loop);
}

static void create_metrics(struct rg_http *http)
{
    rg_meter_init();
    rg_metric_set(rg_gauge("rostergate_build_info", "Which build this is; always 1.",
                           "version=\"" RG_VERSION "\""),
                  1);
    rg_metric_ask("rostergate_http_connections_open", "Connections of the public listener.", "",
                  0, ask_connections, http);
    rg_metric_ask("rostergate_streams_open", "Event streams open.", "", 0, ask_streams, http);
    for (size_t i = 0; i < http->n_lanes; i++)
        add_wakeups(http->lanes[i]->loop, i);
}

static void on_finish_late(struct rg_timer *timer);

static enum rg_code build(struct rg_http *http, struct rg_err *err)
{
    const struct rg_config *config = http->config;
    enum rg_code code = rg_trust_parse(&config->server.trusted_proxies, &http->trust, err);
    if (code != RG_OK)
        return code;
    http->limits = rg_limits_create();
    if (http->limits == NULL ||
        rg_timer_init(&http->finish_timer, http->main_loop, on_finish_late) != RG_OK)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    http->finish_timer_made = true;
    rg_limits_set(http->limits, RG_LIMITED_CONNECTIONS, config->limits.connections,
                  config->limits.connections_address);
    rg_limits_set(http->limits, RG_LIMITED_STREAMS, config->limits.streams,
                  config->limits.streams_address);
    code = rg_listener_open(&http->listener, config->server.listen, 0,
                            config->server.plain_http, err);
    if (code == RG_OK)
        code = rg_listener_open(&http->operations_listener, config->server.operations, 1, false,
                                err);
    if (code == RG_OK)
        code = create_lanes(http, err);
    if (code == RG_OK)
        code = create_operations(http, err);
    if (code == RG_OK)
        code = rg_acceptor_create(http, &http->acceptor, err);
    return code;
}

struct rg_http *rg_http_create(const struct rg_config *config, struct rg_loop *main_loop,
                               struct rg_loop *core_loop, struct rg_core *core,
                               struct rg_err *err)
{
    struct rg_http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        rg_fail(err, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    http->config = config;
    http->main_loop = main_loop;
    http->core_loop = core_loop;
    http->core = core;
    http->listener.fd = -1;
    http->operations_listener.fd = -1;
    rg_body_init();
    raise_descriptor_limit(config);
    if (build(http, err) != RG_OK) {
        rg_http_destroy(http);
        return NULL;
    }
    create_metrics(http);
    return http;
}

enum rg_code rg_http_start(struct rg_http *http, struct rg_err *err)
{
    for (size_t i = 0; i < http->n_lanes; i++) {
        enum rg_code code = rg_lane_start(http->lanes[i], err);
        if (code != RG_OK)
            return code;
    }
    return rg_acceptor_start(http->acceptor, err);
}

const char *rg_http_address(const struct rg_http *http)
{
    return http->listener.address;
}

const char *rg_http_operations_address(const struct rg_http *http)
{
    return http->operations_listener.address;
}

/* --- stopping ----------------------------------------------------------------------------- */

void rg_http_not_ready(struct rg_http *http)
{
    atomic_store(&http->not_ready, true);
}

void rg_http_quiesce(struct rg_http *http)
{
    atomic_store(&http->not_ready, true);
    atomic_store(&http->closing, true);
    rg_acceptor_destroy(RG_TAKE(http->acceptor));
    rg_listener_close(&http->listener);
}

static void call_finish(struct rg_http *http)
{
    void (*fn)(void *arg) = RG_TAKE(http->finish_fn);
    rg_timer_stop(&http->finish_timer, http->main_loop);
    if (fn != NULL)
        fn(http->finish_arg);
}

static void on_finish_late(struct rg_timer *timer)
{
    struct rg_http *http = RG_CONTAINER_OF(timer, struct rg_http, finish_timer);
    if (http->unfinished > 0)
        rg_log(RG_LOG_WARN, "http", "requests-cut", RG_INT("lanes", http->unfinished));
    call_finish(http);
}

void rg_http_lane_finished(struct rg_message *message)
{
    struct rg_lane *lane = RG_CONTAINER_OF(message, struct rg_lane, finished_message);
    struct rg_http *http = lane->http;
    http->unfinished--;
    if (http->unfinished == 0)
        call_finish(http);
}

void rg_http_finish(struct rg_http *http, int64_t deadline_ms, void (*fn)(void *arg), void *arg)
{
    atomic_store(&http->not_ready, true);
    atomic_store(&http->closing, true);
    atomic_store(&http->draining, true);
    http->finish_fn = fn;
    http->finish_arg = arg;
    http->unfinished = http->n_lanes;
    rg_timer_start(&http->finish_timer, http->main_loop, deadline_ms);
    for (size_t i = 0; i < http->n_lanes; i++)
        rg_lane_finish(http->lanes[i]);
}

void rg_http_destroy(struct rg_http *http)
{
    if (http == NULL)
        return;
    rg_acceptor_destroy(http->acceptor);
    for (size_t i = 0; i < http->n_lanes; i++)
        rg_lane_destroy(http->lanes[i]);
    free(http->lanes);
    rg_lane_destroy(http->operations_lane);
    rg_operations_destroy(http->operations);
    if (http->finish_timer_made)
        rg_timer_fini(&http->finish_timer, http->main_loop);
    rg_listener_close(&http->listener);
    rg_listener_close(&http->operations_listener);
    rg_limits_destroy(http->limits);
    rg_trust_destroy(http->trust);
    free(http);
}

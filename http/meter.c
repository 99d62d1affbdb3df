/* The HTTP side's metrics (operations-security 4.3). The route label is the template, so that
 * nobody outside can make labels. */
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "http/internal.h"

enum { ROUTES_MAX = 20, STATUSES = 32 };

static const unsigned STATUS[STATUSES] = {200, 201, 202, 204, 304, 400, 401, 403,
                                          404, 405, 409, 410, 412, 413, 415, 422,
                                          429, 500, 501, 502, 503, 504};

struct meters {
    _Atomic(struct rg_metric *) requests, duration;
};

static struct meters request_meters[2][ROUTES_MAX + 1][RG_METHOD_COUNT][STATUSES];
static struct rg_metric *rejected[RG_REJECT_COUNT];

void rg_meter_init(void)
{
    static const char *const reasons[RG_REJECT_COUNT] = {
        [RG_REJECT_FRAMING] = "reason=\"framing\"",
        [RG_REJECT_SIZE] = "reason=\"size\"",
        [RG_REJECT_CSRF] = "reason=\"csrf\"",
        [RG_REJECT_ORIGIN] = "reason=\"origin\"",
        [RG_REJECT_RATE] = "reason=\"rate\"",
        [RG_REJECT_AUTH] = "reason=\"auth\"",
        [RG_REJECT_CONNECTIONS] = "reason=\"connections\"",
    };
    for (int i = 0; i < RG_REJECT_COUNT; i++)
        rejected[i] =
            rg_counter("rostergate_http_rejected_total",
                       "Requests and connections refused before a call began.", reasons[i]);
}

void rg_meter_reject(enum rg_reject reason)
{
    if (rejected[reason] != NULL)
        rg_metric_add(rejected[reason], 1);
}

static struct rg_metric *lazy(_Atomic(struct rg_metric *) *slot, const struct rg_request *req,
                              unsigned status, bool counter)
{
    struct rg_metric *metric = atomic_load_explicit(slot, memory_order_acquire);
    if (metric != NULL)
        return metric;
    char labels[160];
    snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%s\",code=\"%u\"",
             rg_method_name(req->method), req->route != NULL ? req->route->path : "none",
             status);
    /* Making the same series twice gives the same series: no lock is needed here. */
    metric = counter
                 ? rg_counter("rostergate_http_requests_total", "Requests answered.", labels)
                 : rg_histogram("rostergate_http_request_duration_seconds",
                                "Time from the request's head to its answer.", labels);
    atomic_store_explicit(slot, metric, memory_order_release);
    return metric;
}

void rg_meter_request(const struct rg_request *req, unsigned status)
{
    const struct rg_lane *lane = req->exchange.lane;
    size_t table = lane->routes == rg_operations_routes ? 1 : 0;
    size_t route = req->route != NULL ? (size_t)(req->route - lane->routes) : ROUTES_MAX;
    size_t code = 0;
    while (code < STATUSES - 1 && STATUS[code] != status)
        code++;
    if (route > ROUTES_MAX)
        return;
    struct meters *meters = &request_meters[table][route][req->method][code];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 - req->received_us;
    rg_metric_add(lazy(&meters->requests, req, status, true), 1);
    rg_metric_observe_us(lazy(&meters->duration, req, status, false), us);
}

/* Counters, gauges and histograms in Prometheus' text form. Thread: any; changes are relaxed
 * atomics.
 *
 * A series is made once (create is idempotent: same name and labels, same series) and lives as
 * long as the process. No user ever stands in a label. */
#ifndef GATEWAY_BASE_METRICS_H
#define GATEWAY_BASE_METRICS_H

#include <stdint.h>

#include "gateway/base/buf.h"

struct rg_metric;

/* `labels` is "" or `name="value",…` as it stands between the braces. (borrow) all, copied.
 * Never NULL: when out of memory a spare series that is not shown. */
struct rg_metric *rg_counter(const char *name, const char *help, const char *labels);
struct rg_metric *rg_gauge(const char *name, const char *help, const char *labels);
/* Buckets from 1 ms to 10 s. */
struct rg_metric *rg_histogram(const char *name, const char *help, const char *labels);
/* A gauge or counter whose value is asked for when it is shown. */
typedef double (*rg_metric_fn)(void *arg);
void rg_metric_ask(const char *name, const char *help, const char *labels, int is_counter,
                   rg_metric_fn fn, void *arg);

void rg_metric_add(struct rg_metric *metric, int64_t n);
void rg_metric_set(struct rg_metric *metric, int64_t value);
void rg_metric_observe_us(struct rg_metric *metric, int64_t microseconds);
int64_t rg_metric_value(const struct rg_metric *metric);

/* Appends the whole exposition, process_* included. */
void rg_metrics_write(struct rg_buf *buf);

#endif

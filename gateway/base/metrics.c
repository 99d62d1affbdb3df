#include "gateway/base/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#define HASH_FUNCTION(key, len, out) (out) = (unsigned)rg_hash((key), (len))
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "gateway/base/mem.h"
#include "gateway/base/random.h"

/* Upper bounds of the histograms' buckets in microseconds, 1 ms to 10 s; one more for +Inf. */
static const int64_t bounds_us[] = {1000,   2500,   5000,    10000,   25000,   50000,   100000,
                                    250000, 500000, 1000000, 2500000, 5000000, 10000000};
enum { BUCKETS = RG_ARRAY_LEN(bounds_us) + 1 };

enum kind { COUNTER, GAUGE, HISTOGRAM };

struct rg_metric {
    struct rg_metric *next; /* in its family, in order of creation */
    enum kind kind;
    _Atomic(int64_t) value; /* histogram: the sum in microseconds */
    rg_metric_fn ask;
    void *ask_arg;
    atomic_uint_fast64_t *buckets; /* histogram: BUCKETS of them, not cumulated */
    char *labels;                  /* points into key */
    UT_hash_handle hh;
    char key[]; /* NAME{LABELS */
};

struct family {
    struct family *next;
    enum kind kind;
    char *help; /* points behind the name */
    struct rg_metric *first, *last;
    char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct family *families, *families_last;
static struct rg_metric *by_key;

/* Stands in when there is no memory, or a name is used with two kinds; never shown. */
static atomic_uint_fast64_t spare_buckets[BUCKETS];
static struct rg_metric spare = {.kind = HISTOGRAM, .buckets = spare_buckets};

static struct family *family_locked(const char *name, const char *help, enum kind kind)
{
    size_t name_len = strlen(name), help_len = strlen(help);
    struct family *family;

    for (family = families; family != NULL; family = family->next) {
        if (strcmp(family->name, name) == 0)
            return family->kind == kind ? family : NULL;
    }
    family = calloc(1, sizeof(*family) + name_len + help_len + 2);
    if (family == NULL)
        return NULL;
    family->kind = kind;
    family->help = family->name + name_len + 1;
    memcpy(family->name, name, name_len);
    memcpy(family->help, help, help_len);
    if (families_last != NULL)
        families_last->next = family;
    else
        families = family;
    families_last = family;
    return family;
}

static struct rg_metric *metric_alloc(const char *key, size_t key_len, size_t name_len,
                                      enum kind kind)
{
    struct rg_metric *metric = calloc(1, sizeof(*metric) + key_len + 1);

    if (metric == NULL)
        return NULL;
    metric->kind = kind;
    memcpy(metric->key, key, key_len);
    metric->labels = metric->key + name_len + 1;
    if (kind == HISTOGRAM) {
        metric->buckets = calloc(BUCKETS, sizeof(*metric->buckets));
        if (metric->buckets == NULL) {
            free(metric);
            return NULL;
        }
    }
    return metric;
}

static struct rg_metric *add_locked(const char *name, const char *help, const char *labels,
                                    enum kind kind, const struct rg_buf *key)
{
    struct rg_metric *metric;
    struct family *family;

    HASH_FIND(hh, by_key, key->data, key->len, metric);
    if (metric != NULL)
        return metric->kind == kind ? metric : NULL;
    family = family_locked(name, help, kind);
    if (family == NULL)
        return NULL;
    metric = metric_alloc(key->data, key->len, key->len - strlen(labels) - 1, kind);
    if (metric == NULL)
        return NULL;
    HASH_ADD_KEYPTR(hh, by_key, metric->key, key->len, metric);
    if (metric->hh.tbl == NULL) { /* no memory for the table */
        free(metric->buckets);
        free(metric);
        return NULL;
    }
    if (family->last != NULL)
        family->last->next = metric;
    else
        family->first = metric;
    family->last = metric;
    return metric;
}

static struct rg_metric *series(const char *name, const char *help, const char *labels,
                                enum kind kind, rg_metric_fn ask, void *arg)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf key = RG_BUF_INIT;
    struct rg_metric *metric = NULL;

    rg_buf_printf(&key, "%s{%s", name, labels);
    if (rg_buf_failed(&key))
        return &spare;
    pthread_mutex_lock(&lock);
    metric = add_locked(name, help, labels, kind, &key);
    if (metric != NULL && ask != NULL) {
        metric->ask = ask;
        metric->ask_arg = arg;
    }
    pthread_mutex_unlock(&lock);
    return metric != NULL ? metric : &spare;
}

struct rg_metric *rg_counter(const char *name, const char *help, const char *labels)
{
    return series(name, help, labels, COUNTER, NULL, NULL);
}

struct rg_metric *rg_gauge(const char *name, const char *help, const char *labels)
{
    return series(name, help, labels, GAUGE, NULL, NULL);
}

struct rg_metric *rg_histogram(const char *name, const char *help, const char *labels)
{
    return series(name, help, labels, HISTOGRAM, NULL, NULL);
}

void rg_metric_ask(const char *name, const char *help, const char *labels, int is_counter,
                   rg_metric_fn fn, void *arg)
{
    (void)series(name, help, labels, is_counter ? COUNTER : GAUGE, fn, arg);
}

void rg_metric_add(struct rg_metric *metric, int64_t n)
{
    atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
}

void rg_metric_set(struct rg_metric *metric, int64_t value)
{
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

void rg_metric_observe_us(struct rg_metric *metric, int64_t microseconds)
{
    size_t i = 0;

    if (metric->buckets == NULL)
        return; /* not a histogram */
    if (microseconds < 0)
        microseconds = 0;
    while (i < RG_ARRAY_LEN(bounds_us) && microseconds > bounds_us[i])
        i++;
    atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->value, microseconds, memory_order_relaxed);
}

int64_t rg_metric_value(const struct rg_metric *metric)
{
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

/* The text form */

static void write_head(struct rg_buf *buf, const char *name, const char *help, const char *type)
{
    rg_buf_printf(buf, "# HELP %s ", name);
    for (; *help != '\0'; help++) {
        if (*help == '\n')
            rg_buf_puts(buf, "\\n");
        else if (*help == '\\')
            rg_buf_puts(buf, "\\\\");
        else
            rg_buf_putc(buf, *help);
    }
    rg_buf_printf(buf, "\n# TYPE %s %s\n", name, type);
}

/* NAME, or NAME{LABELS}. */
static void write_series(struct rg_buf *buf, const char *name, const char *suffix,
                         const char *labels)
{
    rg_buf_puts(buf, name);
    rg_buf_puts(buf, suffix);
    if (labels[0] != '\0')
        rg_buf_printf(buf, "{%s}", labels);
    rg_buf_putc(buf, ' ');
}

static void write_histogram(struct rg_buf *buf, const char *name,
                            const struct rg_metric *metric)
{
    const char *comma = metric->labels[0] != '\0' ? "," : "";
    uint64_t total = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        total += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        rg_buf_printf(buf, "%s_bucket{%s%sle=\"", name, metric->labels, comma);
        if (i < RG_ARRAY_LEN(bounds_us))
            rg_buf_printf(buf, "%g", (double)bounds_us[i] / 1e6);
        else
            rg_buf_puts(buf, "+Inf");
        rg_buf_printf(buf, "\"} %" PRIu64 "\n", total);
    }
    write_series(buf, name, "_sum", metric->labels);
    rg_buf_printf(buf, "%.6f\n", (double)rg_metric_value(metric) / 1e6);
    write_series(buf, name, "_count",
                 metric->labels); /* equals +Inf, whatever came meanwhile */
    rg_buf_printf(buf, "%" PRIu64 "\n", total);
}

static void write_metric(struct rg_buf *buf, const char *name, const struct rg_metric *metric)
{
    if (metric->kind == HISTOGRAM) {
        write_histogram(buf, name, metric);
        return;
    }
    write_series(buf, name, "", metric->labels);
    if (metric->ask != NULL)
        rg_buf_printf(buf, "%.15g\n", metric->ask(metric->ask_arg));
    else
        rg_buf_printf(buf, "%" PRId64 "\n", rg_metric_value(metric));
}

static void write_process_value(struct rg_buf *buf, const char *name, const char *help,
                                const char *type, double value)
{
    write_head(buf, name, help, type);
    rg_buf_printf(buf, "%s %.15g\n", name, value);
}

static double cpu_seconds(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double n = -3; /* ".", ".." and the directory's own */

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* First line of a small file in /proc. */
static bool read_proc(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "re");
    bool fine;

    if (file == NULL)
        return false;
    fine = fgets(out, (int)size, file) != NULL;
    fclose(file);
    return fine;
}

/* Unix time of the process's start: field 22 of stat counts ticks since boot. */
static double start_time(void)
{
    char line[1024], *at;
    unsigned long long ticks = 0;
    double uptime = 0;
    struct timeval now;

    if (!read_proc("/proc/self/stat", line, sizeof(line)))
        return 0;
    at = strrchr(line, ')'); /* the command before it may hold anything */
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return 0;
    ticks = strtoull(at + 1, NULL, 10);
    if (!read_proc("/proc/uptime", line, sizeof(line)))
        return 0;
    uptime = strtod(line, NULL);
    gettimeofday(&now, NULL);
    return (double)now.tv_sec - uptime + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static pthread_once_t start_once = PTHREAD_ONCE_INIT;
static double started;

static void note_start(void)
{
    started = start_time(); /* once: the sum of two clocks would wander by a tick */
}

static void write_process(struct rg_buf *buf)
{
    double page = (double)sysconf(_SC_PAGESIZE);
    unsigned long long size = 0, resident = 0;
    struct rlimit files = {0};
    char line[256], *end;

    if (read_proc("/proc/self/statm", line, sizeof(line))) {
        size = strtoull(line, &end, 10);
        resident = strtoull(end, NULL, 10);
    }
    (void)pthread_once(&start_once, note_start);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    write_process_value(buf, "process_cpu_seconds_total", "CPU time used, user and system.",
                        "counter", cpu_seconds());
    write_process_value(buf, "process_resident_memory_bytes", "Resident memory.", "gauge",
                        (double)resident * page);
    write_process_value(buf, "process_virtual_memory_bytes", "Virtual memory.", "gauge",
                        (double)size * page);
    write_process_value(buf, "process_open_fds", "Open file descriptors.", "gauge", open_fds());
    write_process_value(buf, "process_max_fds", "Limit of open file descriptors.", "gauge",
                        (double)files.rlim_cur);
    write_process_value(buf, "process_start_time_seconds", "Unix time of the start.", "gauge",
                        started);
}

void rg_metrics_write(struct rg_buf *buf)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};

    pthread_mutex_lock(&lock);
    for (const struct family *family = families; family != NULL; family = family->next) {
        if (family->first == NULL)
            continue;
        write_head(buf, family->name, family->help, types[family->kind]);
        for (const struct rg_metric *m = family->first; m != NULL; m = m->next)
            write_metric(buf, family->name, m);
    }
    pthread_mutex_unlock(&lock);
    write_process(buf);
}

#include "gateway/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "gateway/base/random.h"
#include "gateway/base/text.h"

enum { VALUE_MAX = 1024 }; /* longer strings are cut, so that a line stays a line */

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int threshold = RG_LOG_INFO;

static pthread_mutex_t capture_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*capture_fn)(const char *line, void *arg);
static void *capture_arg;

void rg_log_set_level(enum rg_log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

bool rg_log_parse_level(enum rg_log_level *out, const char *text)
{
    for (size_t i = 0; i < RG_ARRAY_LEN(level_names); i++) {
        if (strcmp(level_names[i], text) == 0) {
            *out = (enum rg_log_level)i;
            return true;
        }
    }
    return false;
}

bool rg_log_enabled(enum rg_log_level level)
{
    return (int)level >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

static void put_text(struct rg_buf *line, const char *name, const char *text)
{
    rg_buf_putc(line, ',');
    rg_json_string(line, name, strlen(name));
    rg_buf_putc(line, ':');
    if (text == NULL)
        rg_buf_puts(line, "null");
    else
        rg_json_string(line, text, rg_utf8_cut(text, strnlen(text, VALUE_MAX + 1), VALUE_MAX));
}

static void put_field(struct rg_buf *line, const struct rg_field *field)
{
    switch (field->type) {
    case RG_FIELD_END:
        return;
    case RG_FIELD_STR:
        put_text(line, field->name, field->str);
        return;
    case RG_FIELD_INT:
        rg_buf_printf(line, ",\"%s\":%" PRId64, field->name, field->num);
        return;
    case RG_FIELD_BOOL:
        rg_buf_printf(line, ",\"%s\":%s", field->name, field->num != 0 ? "true" : "false");
        return;
    }
}

static void put_time(struct rg_buf *line)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        memset(&now, 0, sizeof(now));
    rg_time_rfc3339(line, now.tv_sec);
    if (line->len > 0 && line->data[line->len - 1] == 'Z')
        line->len--;
    rg_buf_printf(line, ".%03ldZ", now.tv_nsec / 1000000);
}

/* One write, so that lines of several threads and processes do not mix. What a full or closed
 * stderr does not take is lost: logging never blocks a loop by trying again. */
static void write_line(const struct rg_buf *line)
{
    ssize_t n;

    do {
        n = write(STDERR_FILENO, line->data, line->len);
    } while (n < 0 && errno == EINTR);
}

static bool give_to_capture(struct rg_buf *line)
{
    bool captured;

    pthread_mutex_lock(&capture_lock);
    captured = capture_fn != NULL;
    if (captured) {
        line->data[line->len - 1] = '\0'; /* without the line's end */
        capture_fn(line->data, capture_arg);
    }
    pthread_mutex_unlock(&capture_lock);
    return captured;
}

void rg_log_fields(enum rg_log_level level, const char *component, const char *event,
                   const struct rg_field *fields)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf line = RG_BUF_INIT;

    if (!rg_log_enabled(level))
        return;
    rg_buf_puts(&line, "{\"time\":\"");
    put_time(&line);
    rg_buf_putc(&line, '"');
    put_text(&line, "level", level_names[level]);
    put_text(&line, "component", component);
    put_text(&line, "event", event);
    for (; fields->type != RG_FIELD_END; fields++)
        put_field(&line, fields);
    rg_buf_puts(&line, "}\n");
    if (!rg_buf_failed(&line) && !give_to_capture(&line))
        write_line(&line);
}

void rg_log_user(char out[RG_LOG_USER_SIZE], const char *user)
{
    (void)snprintf(out, RG_LOG_USER_SIZE, "%016" PRIx64, rg_hash(user, strlen(user)));
}

void rg_log_capture(void (*fn)(const char *line, void *arg), void *arg)
{
    pthread_mutex_lock(&capture_lock);
    capture_fn = fn;
    capture_arg = arg;
    pthread_mutex_unlock(&capture_lock);
}

/* One event, one JSON object, one line on stderr (API section 8). Thread: any; a line is one
 * write(2).
 *
 * Lower layers return, edges log. No passwords, tokens, roster contents or stanza bodies at any
 * level; users appear as a keyed hash (rg_log_user). */
#ifndef GATEWAY_BASE_LOG_H
#define GATEWAY_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum rg_log_level { RG_LOG_DEBUG, RG_LOG_INFO, RG_LOG_WARN, RG_LOG_ERROR };

enum rg_field_type { RG_FIELD_END, RG_FIELD_STR, RG_FIELD_INT, RG_FIELD_BOOL };
struct rg_field {
    enum rg_field_type type;
    const char *name;
    const char *str;
    int64_t num;
};

#define RG_STR(n, v) ((struct rg_field){.type = RG_FIELD_STR, .name = (n), .str = (v)})
#define RG_INT(n, v) ((struct rg_field){.type = RG_FIELD_INT, .name = (n), .num = (int64_t)(v)})
#define RG_BOOL(n, v) ((struct rg_field){.type = RG_FIELD_BOOL, .name = (n), .num = (v)})

void rg_log_set_level(enum rg_log_level level);
bool rg_log_parse_level(enum rg_log_level *out, const char *text);
bool rg_log_enabled(enum rg_log_level level);

/* rg_log(RG_LOG_INFO, "xmpp", "session-closed", RG_STR("user", h), RG_INT("sessions", n)); */
#define rg_log(level, component, event, ...)                                                   \
    rg_log_fields((level), (component), (event),                                               \
                  (const struct rg_field[]){__VA_ARGS__ __VA_OPT__(, ){.type = RG_FIELD_END}})
void rg_log_fields(enum rg_log_level level, const char *component, const char *event,
                   const struct rg_field *fields);

/* Writes 16 hex digits that name the user in this process's logs. */
enum { RG_LOG_USER_SIZE = 17 };
void rg_log_user(char out[RG_LOG_USER_SIZE], const char *user);

/* Tests: lines go to this function instead of stderr; NULL restores. */
void rg_log_capture(void (*fn)(const char *line, void *arg), void *arg);

#endif

#include "gateway/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/internal.h"
#include "gateway/base/mem.h"
#include "gateway/base/text.h"

enum { FILE_MAX_BYTES = 1024 * 1024 };

/* One key: where it stands, what it may be, and what it is for. Defaults are written as the
 * environment would. */
struct key {
    const char *section, *name;
    enum rg_value_type type;
    size_t offset;
    const char *standard;
    int64_t min, max; /* INTEGER; DURATION in ms */
    const char *help;
};

#define AT(member) offsetof(struct rg_config, member)
#define STRING(s, k, d, h)                                                                     \
    {                                                                                          \
#s, #k, RG_VALUE_STRING, AT(s.k), d, 0, 0, h                                           \
    }
#define STRINGS(s, k, d, h)                                                                    \
    {                                                                                          \
#s, #k, RG_VALUE_STRINGS, AT(s.k), d, 0, 0, h                                          \
    }
#define BOOLEAN(s, k, d, h)                                                                    \
    {                                                                                          \
#s, #k, RG_VALUE_BOOLEAN, AT(s.k), d, 0, 1, h                                          \
    }
#define INTEGER(s, k, d, lo, hi, h)                                                            \
    {                                                                                          \
#s, #k, RG_VALUE_INTEGER, AT(s.k), d, lo, hi, h                                        \
    }
#define DURATION(s, k, d, lo, hi, h)                                                           \
    {                                                                                          \
#s, #k, RG_VALUE_DURATION, AT(s.k##_ms), d, lo, hi, h                                  \
    }

#define SECONDS INT64_C(1000)
#define MINUTES (60 * SECONDS)
#define HOURS (60 * MINUTES)
#define DAYS (24 * HOURS)
#define MIB (INT64_C(1024) * 1024)

static const struct key keys[] = {
    STRING(server, listen, "127.0.0.1:8080",
           "\"host:port\", \"[v6]:port\" or \"unix:/path\"; neither loopback nor unix needs "
           "plain_http"),
    STRING(server, operations, "127.0.0.1:9090",
           "where /livez, /readyz and /metrics are; same forms"),
    BOOLEAN(server, plain_http, "false",
            "allow plain HTTP beyond loopback: only behind a TLS proxy on a trusted network"),
    BOOLEAN(server, demo, "false", "serve the demo page at /"),
    BOOLEAN(server, insecure_cookie, "false", "development over plain HTTP only"),
    STRINGS(server, origins, "", "CORS allow-list, exact"),
    STRINGS(server, trusted_proxies, "127.0.0.0/8,::1,unix",
            "whose X-Forwarded-For counts; a trusted peer that sends none has no address"),
    INTEGER(server, http_loops, "0", 0, 256, "0: the number of cores"),
    INTEGER(server, event_loops, "16", 1, 256, "loops that carry event streams"),
    STRINGS(xmpp, domains, "",
            "served domains, \"domain\", \"domain=host:port\" or \"domain=host:port+tls\"; no "
            "other is reachable"),
    INTEGER(xmpp, workers, "1", 1, 64, "processes per domain"),
    BOOLEAN(xmpp, plaintext_loopback, "false",
            "no TLS, to loopback addresses only (demo, tests)"),
    STRING(xmpp, ca_file, "", "PEM file; empty: the system's roots"),
    STRINGS(xmpp, dns_servers, "",
            "\"address\" or \"address:port\"; empty: those of the system"),
    DURATION(xmpp, connect_timeout, "10s", 1 * SECONDS, 5 * MINUTES, "from TCP to bind"),
    DURATION(xmpp, iq_timeout, "10s", 100, 5 * MINUTES, "an IQ without an answer"),
    DURATION(xmpp, idle_timeout, "15m", 1 * SECONDS, 30 * DAYS,
             "an unused session closes its XMPP stream"),
    INTEGER(xmpp, max_sessions, "20000", 1, 1000000, "XMPP sessions in all"),
    STRING(cache, url,
           "memory:", "or \"redis://[:password@]host:port/db\", \"unix:///path?db=0\""),
    DURATION(cache, ttl, "30d", 1 * SECONDS, 3650 * DAYS, "how long an unused roster is kept"),
    STRING(session, keys_file, "",
           "one key a line, 64 hex digits; made if missing; none: tokens end with the process"),
    STRING(session, state_file, "", "sign-outs that must outlive the process"),
    DURATION(session, lifetime, "12h", 1 * SECONDS, 30 * DAYS, "of one token"),
    DURATION(session, max_age, "7d", 1 * SECONDS, 90 * DAYS,
             "of a sign-in, counted from the password"),
    INTEGER(limits, signin_failures, "10", 1, 1000000, "per JID in 5 minutes"),
    INTEGER(limits, signin_failures_address, "100", 1, 1000000, "per address in 5 minutes"),
    INTEGER(limits, signins_in_flight, "32", 1, 100000, "per domain"),
    INTEGER(limits, iqs_in_flight, "256", 1, 100000, "per domain"),
    INTEGER(limits, streams_user, "16", 1, 100000, "event streams per user"),
    INTEGER(limits, streams_address, "200", 1, 1000000, "event streams per address"),
    INTEGER(limits, streams, "10000", 1, 1000000, "event streams in all"),
    INTEGER(limits, connections_address, "400", 1, 1000000, "HTTP connections per address"),
    INTEGER(limits, connections, "20000", 1, 1000000, "HTTP connections in all"),
    INTEGER(limits, writes_user, "50", 1, 1000000, "per second and user"),
    INTEGER(limits, items, "20000", 1, 1000000, "in a roster"),
    INTEGER(limits, name_bytes, "1023", 1, 65535, "of a name"),
    INTEGER(limits, group_bytes, "1023", 1, 65535, "of a group's name"),
    INTEGER(limits, groups, "100", 1, 10000, "of an item"),
    INTEGER(limits, stanza_bytes, "67108864", 64 * 1024, 1024 * MIB,
            "memory of one XMPP session in a worker"),
    INTEGER(limits, stream_queue_bytes, "262144", 4096, 1024 * MIB,
            "unsent bytes of one event stream"),
    INTEGER(limits, journal_bytes, "268435456", 64 * 1024, 1024 * 1024 * MIB,
            "journals of all accounts"),
    DURATION(events, max_age, "10m", 1 * SECONDS, 30 * DAYS, "then bye with reason rotate"),
    DURATION(events, heartbeat, "12s", 100, 10 * MINUTES, "comment in an idle stream"),
    STRING(log, level, "info", "debug, info, warn, error"),
};

enum { KEYS = RG_ARRAY_LEN(keys), FROM_DEFAULT = 0, FROM_ENVIRONMENT = -1 };

/* Where each value came from: a line of the file, or one of the two above. */
struct builder {
    const char *name;
    struct rg_config *config;
    int from[KEYS];
    bool section_seen[KEYS]; /* by the section's first key */
};

static size_t find_section(const char *section)
{
    size_t i = 0;

    while (i < KEYS && strcmp(keys[i].section, section) != 0)
        i++;
    return i;
}

static size_t find_key(const char *section, const char *name)
{
    size_t i = 0;

    while (i < KEYS &&
           (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0))
        i++;
    return i;
}

static void *member(const struct rg_config *config, const struct key *key)
{
    return (char *)config + key->offset;
}

static const char *type_name(enum rg_value_type type)
{
    switch (type) {
    case RG_VALUE_STRING:
        return "a quoted string";
    case RG_VALUE_INTEGER:
        return "an integer";
    case RG_VALUE_BOOLEAN:
        return "true or false";
    case RG_VALUE_DURATION:
        return "a duration such as \"15s\", \"10m\", \"12h\", \"7d\", \"500ms\"";
    case RG_VALUE_STRINGS:
        return "a list of quoted strings";
    }
    return "";
}

static void put_duration(struct rg_buf *buf, int64_t ms)
{
    if (ms % DAYS == 0 && ms != 0)
        rg_buf_printf(buf, "%" PRId64 "d", ms / DAYS);
    else if (ms % HOURS == 0 && ms != 0)
        rg_buf_printf(buf, "%" PRId64 "h", ms / HOURS);
    else if (ms % MINUTES == 0 && ms != 0)
        rg_buf_printf(buf, "%" PRId64 "m", ms / MINUTES);
    else if (ms % SECONDS == 0)
        rg_buf_printf(buf, "%" PRId64 "s", ms / SECONDS);
    else
        rg_buf_printf(buf, "%" PRId64 "ms", ms);
}

static enum rg_code check_range(const struct key *key, int64_t number, struct rg_err *err)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf low = RG_BUF_INIT, high = RG_BUF_INIT;

    if (number >= key->min && number <= key->max)
        return RG_OK;
    if (key->type == RG_VALUE_DURATION) {
        put_duration(&low, key->min);
        put_duration(&high, key->max);
    } else {
        rg_buf_printf(&low, "%" PRId64, key->min);
        rg_buf_printf(&high, "%" PRId64, key->max);
    }
    if (rg_buf_failed(&low) || rg_buf_failed(&high))
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    return rg_fail(err, RG_E_INVALID_ITEM, "must be between %s and %s", low.data, high.data);
}

/* Moves the value into the configuration. Its type is the key's, or, for durations in a
 * document, a string. */
static enum rg_code set(struct rg_config *config, const struct key *key, struct rg_value *value,
                        struct rg_err *err)
{
    enum rg_code code;
    char **string;

    if (key->type == RG_VALUE_DURATION && value->type == RG_VALUE_STRING &&
        rg_config_duration(&value->number, value->string))
        value->type = RG_VALUE_DURATION;
    if (value->type != key->type)
        return rg_fail(err, RG_E_INVALID_ITEM, "must be %s", type_name(key->type));
    switch (key->type) {
    case RG_VALUE_STRING:
        string = member(config, key);
        free(*string);
        *string = RG_TAKE(value->string);
        return RG_OK;
    case RG_VALUE_STRINGS:
        rg_strings_fini(member(config, key));
        *(struct rg_strings *)member(config, key) = value->list;
        value->list = (struct rg_strings){0};
        return RG_OK;
    case RG_VALUE_BOOLEAN:
        *(bool *)member(config, key) = value->number != 0;
        return RG_OK;
    case RG_VALUE_INTEGER:
    case RG_VALUE_DURATION:
        code = check_range(key, value->number, err);
        if (code == RG_OK)
            *(int64_t *)member(config, key) = value->number;
        return code;
    }
    return rg_fail(err, RG_E_INTERNAL, "no such type");
}

static enum rg_code set_bare(struct rg_config *config, const struct key *key, const char *text,
                             struct rg_err *err)
{
    RG_CLEANUP(rg_value_fini) struct rg_value value = {0};
    enum rg_code code = rg_config_read_bare(&value, key->type, text, err);

    return code != RG_OK ? code : set(config, key, &value, err);
}

static enum rg_code on_key(void *arg, const char *section, const char *name,
                           struct rg_value *value, int line, struct rg_err *err)
{
    struct builder *builder = arg;
    size_t at = find_section(section);
    enum rg_code code;

    if (at == KEYS)
        return rg_fail(err, RG_E_INVALID_ITEM, "no such section");
    if (name == NULL) {
        if (builder->section_seen[at])
            return rg_fail(err, RG_E_INVALID_ITEM, "the section stands twice");
        builder->section_seen[at] = true;
        return RG_OK;
    }
    at = find_key(section, name);
    if (at == KEYS)
        return rg_fail(err, RG_E_INVALID_ITEM, "no such key");
    if (builder->from[at] != FROM_DEFAULT)
        return rg_fail(err, RG_E_INVALID_ITEM, "stands twice, first in line %d",
                       builder->from[at]);
    code = set(builder->config, &keys[at], value, err);
    if (code == RG_OK)
        builder->from[at] = line;
    return code;
}

static void env_name(const struct key *key, char *out, size_t size)
{
    (void)snprintf(out, size, "ROSTERGATE_%s_%s", key->section, key->name);
    for (; *out != '\0'; out++)
        *out = (char)toupper((unsigned char)*out);
}

/* Why it went wrong, with the variable's name in front. */
static enum rg_code env_fail(struct rg_err *err, enum rg_code code, const char *name)
{
    char why[sizeof(err->text)] = "";

    if (err == NULL)
        return code;
    memcpy(why, err->text, sizeof(why));
    return rg_fail(err, code, "environment: %.80s: %s", name, why);
}

/* Does the variable look like one of our sections' keys? Others of this prefix are let be:
 * orchestrators invent such names (ROSTERGATE_PORT_8080_TCP). */
static bool env_is_ours(const char *name, size_t len)
{
    for (size_t i = 0; i < KEYS; i++) {
        char prefix[80];
        size_t n;

        env_name(&keys[i], prefix, sizeof(prefix));
        n = strlen("ROSTERGATE_") + strlen(keys[i].section) + 1;
        if (len > n && strncmp(name, prefix, n) == 0)
            return true;
    }
    return false;
}

static enum rg_code apply_variable(struct builder *builder, const char *variable,
                                   struct rg_err *err)
{
    size_t len = strcspn(variable, "=");
    char name[80];
    enum rg_code code;

    for (size_t i = 0; i < KEYS; i++) {
        env_name(&keys[i], name, sizeof(name));
        if (strlen(name) != len || strncmp(name, variable, len) != 0)
            continue;
        code = variable[len] == '='
                   ? set_bare(builder->config, &keys[i], variable + len + 1, err)
                   : RG_OK;
        if (code != RG_OK)
            return env_fail(err, code, name);
        builder->from[i] = FROM_ENVIRONMENT;
        return RG_OK;
    }
    if (!env_is_ours(variable, len))
        return RG_OK;
    rg_fail(err, RG_E_INVALID_ITEM, "no such key");
    (void)snprintf(name, sizeof(name), "%.*s", (int)(len < 79 ? len : 79), variable);
    return env_fail(err, RG_E_INVALID_ITEM, name);
}

/* Puts where the value came from in front of what is wrong with it. */
static enum rg_code check_fail(const struct builder *builder, const char *key,
                               enum rg_code code, struct rg_err *err)
{
    const char *name = strchr(key, '.') + 1;
    char section[32], why[sizeof(err->text)] = "", variable[80];
    size_t at;

    if (err == NULL)
        return code;
    (void)snprintf(section, sizeof(section), "%.*s", (int)(name - key - 1), key);
    at = find_key(section, name);
    memcpy(why, err->text, sizeof(why));
    if (at < KEYS && builder->from[at] > 0)
        return rg_fail(err, code, "%.100s:%d: %s: %s", builder->name, builder->from[at], key,
                       why);
    if (at < KEYS && builder->from[at] == FROM_ENVIRONMENT) {
        env_name(&keys[at], variable, sizeof(variable));
        return rg_fail(err, code, "environment: %s: %s", variable, why);
    }
    return rg_fail(err, code, "%.100s: %s: %s", builder->name, key, why);
}

static enum rg_code set_defaults(struct rg_config *config, struct rg_err *err)
{
    for (size_t i = 0; i < KEYS; i++) {
        enum rg_code code = set_bare(config, &keys[i], keys[i].standard, err);

        if (code != RG_OK)
            return code;
    }
    return RG_OK;
}

static void settle(struct rg_config *config)
{
    long cores = config->server.http_loops == 0 ? sysconf(_SC_NPROCESSORS_ONLN) : 0;

    if (config->server.http_loops == 0)
        config->server.http_loops = cores < 1 ? 1 : cores > 256 ? 256 : cores;
}

RG_DEFINE_CLEANUP(struct rg_config, rg_config_destroy)

enum rg_code rg_config_build(const char *name, const char *text, size_t len, char *const *env,
                             struct rg_config **out, struct rg_err *err)
{
    RG_CLEANUP(rg_config_destroyp) struct rg_config *config = calloc(1, sizeof(*config));
    struct builder builder = {.name = name, .config = config};
    const char *key = NULL;
    enum rg_code code;

    if (config == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    code = set_defaults(config, err);
    if (code == RG_OK && text != NULL)
        code = rg_config_read(name, text, len, on_key, &builder, err);
    for (; code == RG_OK && env != NULL && *env != NULL; env++)
        code = apply_variable(&builder, *env, err);
    if (code != RG_OK)
        return code;
    code = rg_config_check(config, &key, err);
    if (code != RG_OK)
        return check_fail(&builder, key, code, err);
    settle(config);
    *out = RG_TAKE(config);
    return RG_OK;
}

static enum rg_code read_file(const char *path, struct rg_buf *out, struct rg_err *err)
{
    FILE *file = fopen(path, "re");
    bool failed;

    if (file == NULL)
        return rg_fail(err, RG_E_NOT_FOUND, "%.150s: %s", path, strerror(errno));
    while (out->len <= FILE_MAX_BYTES && rg_buf_reserve(out, 4096)) {
        size_t n = fread(out->data + out->len, 1, 4096, file);

        if (n == 0)
            break;
        out->len += n;
    }
    failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return rg_fail(err, RG_E_NOT_FOUND, "%.150s: cannot be read", path);
    if (rg_buf_failed(out))
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    if (out->len > FILE_MAX_BYTES)
        return rg_fail(err, RG_E_TOO_LARGE, "%.150s: larger than 1 MiB", path);
    return RG_OK;
}

enum rg_code rg_config_load(const char *path, struct rg_config **out, struct rg_err *err)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf text = RG_BUF_INIT;
    enum rg_code code = path != NULL ? read_file(path, &text, err) : RG_OK;

    if (code != RG_OK)
        return code;
    return rg_config_build(path != NULL ? path : "defaults", path != NULL ? text.data : NULL,
                           text.len, environ, out, err);
}

void rg_config_destroy(struct rg_config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < KEYS; i++) {
        if (keys[i].type == RG_VALUE_STRING)
            free(*(char **)member(config, &keys[i]));
        else if (keys[i].type == RG_VALUE_STRINGS)
            rg_strings_fini(member(config, &keys[i]));
    }
    free(config);
}

/* Everything between "://" and the last '@' may be a password. */
static void put_string(struct rg_buf *buf, const struct key *key, const char *text)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf shown = RG_BUF_INIT;
    const char *scheme = strstr(text, "://"), *at = NULL;

    if (key->offset == offsetof(struct rg_config, cache.url) && scheme != NULL)
        at = strrchr(scheme, '@');
    if (at != NULL) {
        rg_buf_append(&shown, text, (size_t)(scheme + 3 - text));
        rg_buf_puts(&shown, ":***");
        text = at;
    }
    rg_buf_puts(&shown, text);
    if (rg_buf_failed(&shown))
        buf->failed = true;
    else
        rg_json_string(buf, shown.len > 0 ? shown.data : "", shown.len); /* TOML's escapes */
}

static void put_value(struct rg_buf *buf, const struct rg_config *config, const struct key *key)
{
    const struct rg_strings *list;

    switch (key->type) {
    case RG_VALUE_STRING:
        put_string(buf, key, *(char **)member(config, key));
        return;
    case RG_VALUE_INTEGER:
        rg_buf_printf(buf, "%" PRId64, *(int64_t *)member(config, key));
        return;
    case RG_VALUE_BOOLEAN:
        rg_buf_puts(buf, *(bool *)member(config, key) ? "true" : "false");
        return;
    case RG_VALUE_DURATION:
        rg_buf_putc(buf, '"');
        put_duration(buf, *(int64_t *)member(config, key));
        rg_buf_putc(buf, '"');
        return;
    case RG_VALUE_STRINGS:
        list = member(config, key);
        rg_buf_putc(buf, '[');
        for (size_t i = 0; i < list->n; i++) {
            rg_buf_puts(buf, i > 0 ? ", " : "");
            rg_json_string(buf, list->v[i], strlen(list->v[i]));
        }
        rg_buf_putc(buf, ']');
        return;
    }
}

void rg_config_print(const struct rg_config *config, struct rg_buf *buf)
{
    const char *section = "";

    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(section, keys[i].section) != 0) {
            section = keys[i].section;
            rg_buf_printf(buf, "%s[%s]\n", i > 0 ? "\n" : "", section);
        }
        rg_buf_printf(buf, "%s = ", keys[i].name);
        put_value(buf, config, &keys[i]);
        rg_buf_printf(buf, " # %s\n", keys[i].help);
    }
}

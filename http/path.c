#include "http/path.h"

#include <string.h>
#include <strings.h>

#include "gateway/base/mem.h"
#include "gateway/base/text.h"

/* The absolute form (RFC 9112 3.2.2) must be understood by every server: what stands before the
 * path is left out. */
static const char *skip_authority(const char *url)
{
    const char *rest = NULL;
    if (strncasecmp(url, "http://", 7) == 0)
        rest = url + 7;
    else if (strncasecmp(url, "https://", 8) == 0)
        rest = url + 8;
    if (rest == NULL)
        return url;
    const char *slash = strchr(rest, '/');
    return slash != NULL ? slash : "/";
}

static bool decodes(const char *text, size_t len)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    return rg_percent_decode(&buf, text, len, false) && !rg_buf_failed(&buf);
}

/* Most paths hold nothing that could be malformed. */
static bool plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%' || (unsigned char)text[i] >= 0x80)
            return false;
    }
    return true;
}

enum rg_code rg_path_split(struct rg_path *out, const char *url, struct rg_err *err)
{
    const char *at = skip_authority(url);
    if (*at != '/')
        return rg_fail(err, RG_E_NOT_FOUND, "the target has no path");
    size_t len = strlen(at);
    struct rg_path path = {.n = 0};
    bool too_many = false;
    const char *end = at + len;
    at++;
    while (len > 1 && at <= end) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        size_t part = (size_t)((slash != NULL ? slash : end) - at);
        if (!plain(at, part) && !decodes(at, part))
            return rg_fail(err, RG_E_BAD_REQUEST,
                           "the path holds malformed percent-encoding, NUL or invalid UTF-8");
        if (path.n == RG_PATH_SEGMENTS)
            too_many = true;
        else
            path.segments[path.n++] = (struct rg_segment){at, part};
        at += part + 1;
    }
    if (too_many)
        return rg_fail(err, RG_E_NOT_FOUND, "the path has too many segments");
    *out = path;
    return RG_OK;
}

/* A segment may spell an unreserved character as %XX (RFC 3986 6.2.2.2). */
static bool segment_is(const struct rg_segment *segment, const char *text, size_t len)
{
    if (segment->len == len && memcmp(segment->text, text, len) == 0)
        return true;
    if (memchr(segment->text, '%', segment->len) == NULL)
        return false;
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    return rg_percent_decode(&buf, segment->text, segment->len, false) && buf.len == len &&
           memcmp(buf.data, text, len) == 0;
}

bool rg_path_match(const struct rg_path *path, const char *template,
                   struct rg_segment *out_wild)
{
    size_t i = 0;
    struct rg_segment wild = {NULL, 0};
    for (const char *at = template + 1; *at != '\0'; i++) {
        size_t len = strcspn(at, "/");
        if (i == path->n)
            return false;
        if (*at == '{') {
            if (path->segments[i].len == 0)
                return false;
            wild = path->segments[i];
        } else if (!segment_is(&path->segments[i], at, len)) {
            return false;
        }
        at += len;
        if (*at == '/')
            at++;
    }
    if (i != path->n)
        return false;
    if (wild.text != NULL)
        *out_wild = wild;
    return true;
}

void rg_query_fini(struct rg_query *query)
{
    rg_buf_fini(&query->text);
    query->n = 0;
}

static const char *find_allowed(const char *const *allowed, const char *name, size_t len)
{
    for (; allowed != NULL && *allowed != NULL; allowed++) {
        if (strlen(*allowed) == len && memcmp(*allowed, name, len) == 0)
            return *allowed;
    }
    return NULL;
}

enum rg_code rg_query_add(struct rg_query *query, const char *const *allowed, const char *name,
                          size_t name_len, const char *value, size_t value_len,
                          struct rg_err *err)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf decoded = RG_BUF_INIT;
    const char *known = NULL;
    if (name != NULL && rg_percent_decode(&decoded, name, name_len, false))
        known = find_allowed(allowed, decoded.len > 0 ? decoded.data : "", decoded.len);
    if (known == NULL)
        return rg_fail(err, RG_E_UNKNOWN_PARAMETER,
                       "the call does not know a query parameter that was sent");
    if (rg_query_get(query, known) != NULL || query->n == RG_QUERY_PARAMS)
        return rg_fail(err, RG_E_UNKNOWN_PARAMETER, "the query parameter %s stands twice",
                       known);
    size_t at = query->text.len;
    if (value != NULL && !rg_percent_decode(&query->text, value, value_len, false)) {
        query->text.len = at;
        return rg_fail(err, RG_E_INVALID_QUERY,
                       "%s: malformed percent-encoding, NUL or invalid UTF-8", known);
    }
    size_t len = query->text.len - at;
    rg_buf_putc(&query->text, '\0');
    if (rg_buf_failed(&query->text))
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    query->params[query->n].name = known;
    query->params[query->n].at = at;
    query->params[query->n].len = len;
    query->n++;
    return RG_OK;
}

const char *rg_query_get(const struct rg_query *query, const char *name)
{
    for (size_t i = 0; i < query->n; i++) {
        if (strcmp(query->params[i].name, name) == 0)
            return query->text.data + query->params[i].at;
    }
    return NULL;
}

enum rg_code rg_query_int(const struct rg_query *query, const char *name, int64_t min,
                          int64_t max, int64_t *out, struct rg_err *err)
{
    const char *text = rg_query_get(query, name);
    if (text == NULL)
        return RG_OK;
    size_t len = strlen(text);
    int64_t value = 0;
    bool good = len > 0 && len <= 12;
    for (size_t i = 0; good && i < len; i++) {
        good = text[i] >= '0' && text[i] <= '9';
        value = value * 10 + (text[i] - '0');
    }
    if (!good || value < min || value > max)
        return rg_fail(err, RG_E_INVALID_QUERY, "%s: a number from %lld to %lld is needed",
                       name, (long long)min, (long long)max);
    *out = value;
    return RG_OK;
}

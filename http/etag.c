#include "http/etag.h"

#include <string.h>
#include <strings.h>

static const char GZIP[] = "+gzip";

void rg_etag_format(char out[RG_ETAG_SIZE], const char *version, bool gzip)
{
    size_t len = strnlen(version, RG_VERSION_SIZE - 1);
    char *at = out;
    *at++ = '"';
    memcpy(at, version, len);
    at += len;
    if (gzip) {
        memcpy(at, GZIP, sizeof(GZIP) - 1);
        at += sizeof(GZIP) - 1;
    }
    *at++ = '"';
    *at = '\0';
}

/* The version inside an entity tag: W/ and the quotes and +gzip are left out. */
static bool unwrap(const char **text, size_t *len)
{
    if (*len >= 2 && (*text)[0] == 'W' && (*text)[1] == '/') {
        *text += 2;
        *len -= 2;
    }
    if (*len < 2 || (*text)[0] != '"' || (*text)[*len - 1] != '"')
        return false;
    *text += 1;
    *len -= 2;
    size_t tail = sizeof(GZIP) - 1;
    if (*len > tail && memcmp(*text + *len - tail, GZIP, tail) == 0)
        *len -= tail;
    return true;
}

bool rg_etag_none_match(const struct rg_headers *headers, const char *version,
                        size_t version_len)
{
    const struct rg_header_line *line;
    size_t i = 0;
    while ((line = rg_headers_next(headers, RG_HEADER_IF_NONE_MATCH, &i)) != NULL) {
        const char *at = line->value, *text;
        size_t len;
        while (rg_list_next(&at, &text, &len)) {
            if (len == 1 && *text == '*')
                return true;
            if (unwrap(&text, &len) && len == version_len && memcmp(text, version, len) == 0)
                return true;
        }
    }
    return false;
}

void rg_etags_read(const struct rg_headers *headers, enum rg_header header,
                   struct rg_etags *out)
{
    *out = (struct rg_etags){.present = rg_headers_has(headers, header)};
    const struct rg_header_line *line;
    size_t i = 0;
    while ((line = rg_headers_next(headers, header, &i)) != NULL) {
        const char *at = line->value, *text;
        size_t len;
        while (rg_list_next(&at, &text, &len)) {
            if (len == 1 && *text == '*')
                out->any = true;
            else if (out->n < RG_ETAG_VERSIONS && unwrap(&text, &len) &&
                     rg_version_parse(&out->versions[out->n], text, len))
                out->n++;
        }
    }
}

/* A qvalue of RFC 9110 12.4.2 in thousandths; 1000 without one, 0 for a malformed one. */
static int quality(const char *text, size_t len)
{
    const char *semi = memchr(text, ';', len);
    if (semi == NULL)
        return 1000;
    const char *end = text + len;
    const char *p = semi + 1;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    if (end - p < 3 || (*p != 'q' && *p != 'Q') || p[1] != '=')
        return 0;
    p += 2;
    if (*p != '0' && *p != '1')
        return 0;
    int value = (*p++ - '0') * 1000;
    if (p < end && *p == '.') {
        p++;
        for (int unit = 100; p < end && *p >= '0' && *p <= '9' && unit > 0; unit /= 10)
            value += (*p++ - '0') * unit;
    }
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p == end && value <= 1000 ? value : 0;
}

static bool coding_is(const char *text, size_t len, const char *name)
{
    size_t n = strcspn(text, "; \t,");
    n = n < len ? n : len;
    return n == strlen(name) && strncasecmp(text, name, n) == 0;
}

bool rg_accepts_gzip(const struct rg_headers *headers)
{
    int gzip = -1, identity = -1, any = -1;
    const struct rg_header_line *line;
    size_t i = 0;
    while ((line = rg_headers_next(headers, RG_HEADER_ACCEPT_ENCODING, &i)) != NULL) {
        const char *at = line->value, *text;
        size_t len;
        while (rg_list_next(&at, &text, &len)) {
            int q = quality(text, len);
            if (coding_is(text, len, "gzip") || coding_is(text, len, "x-gzip"))
                gzip = q > gzip ? q : gzip;
            else if (coding_is(text, len, "identity"))
                identity = q;
            else if (coding_is(text, len, "*"))
                any = q;
        }
    }
    if (gzip < 0)
        gzip = any;
    /* identity that is not named is acceptable, but asked for by nobody. */
    return gzip > 0 && gzip >= identity;
}

bool rg_wants_fresh(const struct rg_headers *headers)
{
    const struct rg_header_line *line;
    size_t i = 0;
    while ((line = rg_headers_next(headers, RG_HEADER_CACHE_CONTROL, &i)) != NULL) {
        const char *at = line->value, *text;
        size_t len;
        while (rg_list_next(&at, &text, &len)) {
            if (len == 8 && strncasecmp(text, "no-cache", 8) == 0)
                return true;
        }
    }
    return false;
}

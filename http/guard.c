#include "http/guard.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    uint8_t len;
} NAMES[RG_HEADER_COUNT] = {
#define NAME(header, text) [header] = {text, sizeof(text) - 1}
    NAME(RG_HEADER_HOST, "Host"),
    NAME(RG_HEADER_CONTENT_LENGTH, "Content-Length"),
    NAME(RG_HEADER_TRANSFER_ENCODING, "Transfer-Encoding"),
    NAME(RG_HEADER_CONTENT_TYPE, "Content-Type"),
    NAME(RG_HEADER_AUTHORIZATION, "Authorization"),
    NAME(RG_HEADER_COOKIE, "Cookie"),
    NAME(RG_HEADER_ORIGIN, "Origin"),
    NAME(RG_HEADER_SEC_FETCH_SITE, "Sec-Fetch-Site"),
    NAME(RG_HEADER_IF_MATCH, "If-Match"),
    NAME(RG_HEADER_IF_NONE_MATCH, "If-None-Match"),
    NAME(RG_HEADER_ACCEPT_ENCODING, "Accept-Encoding"),
    NAME(RG_HEADER_CACHE_CONTROL, "Cache-Control"),
    NAME(RG_HEADER_LAST_EVENT_ID, "Last-Event-ID"),
    NAME(RG_HEADER_X_FORWARDED_FOR, "X-Forwarded-For"),
    NAME(RG_HEADER_X_REQUEST_ID, "X-Request-Id"),
    NAME(RG_HEADER_EXPECT, "Expect"),
    NAME(RG_HEADER_REQUEST_METHOD, "Access-Control-Request-Method"),
#undef NAME
};

static enum rg_header find(const char *name, size_t len)
{
    for (int i = 0; i < RG_HEADER_COUNT; i++) {
        if (NAMES[i].len == len && strncasecmp(NAMES[i].name, name, len) == 0)
            return (enum rg_header)i;
    }
    return RG_HEADER_OTHER;
}

/* tchar of RFC 9110 5.6.2. A blank in a name is how `Content-Length : 5` is hidden. */
static bool token_char(unsigned char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!token_char((unsigned char)text[i]))
            return false;
    }
    return len > 0;
}

static bool value_clean(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

void rg_headers_add(struct rg_headers *headers, const char *name, size_t name_len,
                    const char *value, size_t value_len)
{
    if (!token(name, name_len))
        headers->malformed = "a header field name is empty or holds a forbidden character";
    if (!value_clean(value, value_len))
        headers->malformed = "a header field value holds a control character";
    enum rg_header header = find(name, name_len);
    if (header == RG_HEADER_OTHER)
        return;
    if (headers->n == RG_HEADER_LINES || value_len > UINT16_MAX) {
        headers->malformed = "too many lines of one header field";
        return;
    }
    uint32_t bit = 1u << header;
    headers->twice |= headers->seen & bit;
    headers->seen |= bit;
    headers->lines[headers->n++] =
        (struct rg_header_line){value, (uint16_t)value_len, (uint8_t)header};
}

static bool host_clean(const char *host)
{
    return host[strcspn(host, " \t,/@\\?#\"<>")] == '\0';
}

const char *rg_headers_check(const struct rg_headers *headers, bool http_1_1)
{
    if (headers->malformed != NULL)
        return headers->malformed;
    if (rg_headers_twice(headers, RG_HEADER_HOST))
        return "more than one Host";
    if (rg_headers_has(headers, RG_HEADER_HOST) &&
        !host_clean(rg_headers_get(headers, RG_HEADER_HOST)))
        return "malformed Host";
    if (http_1_1 && !rg_headers_has(headers, RG_HEADER_HOST))
        return "no Host";
    if (rg_headers_twice(headers, RG_HEADER_CONTENT_LENGTH))
        return "more than one Content-Length";
    if (rg_headers_has(headers, RG_HEADER_CONTENT_LENGTH) &&
        !rg_headers_length(headers, &(uint64_t){0}) &&
        !rg_headers_has(headers, RG_HEADER_TRANSFER_ENCODING))
        return "malformed Content-Length";
    if (!rg_headers_has(headers, RG_HEADER_TRANSFER_ENCODING))
        return NULL;
    if (rg_headers_has(headers, RG_HEADER_CONTENT_LENGTH))
        return "Content-Length beside Transfer-Encoding";
    if (rg_headers_twice(headers, RG_HEADER_TRANSFER_ENCODING))
        return "more than one Transfer-Encoding";
    if (!http_1_1)
        return "Transfer-Encoding in HTTP/1.0";
    if (strcasecmp(rg_headers_get(headers, RG_HEADER_TRANSFER_ENCODING), "chunked") != 0)
        return "a Transfer-Encoding other than chunked";
    return NULL;
}

const struct rg_header_line *rg_headers_next(const struct rg_headers *headers,
                                             enum rg_header header, size_t *at)
{
    if (!rg_headers_has(headers, header))
        return NULL;
    while (*at < headers->n) {
        const struct rg_header_line *line = &headers->lines[(*at)++];
        if (line->header == header)
            return line;
    }
    return NULL;
}

const char *rg_headers_get(const struct rg_headers *headers, enum rg_header header)
{
    size_t at = 0;
    const struct rg_header_line *line = rg_headers_next(headers, header, &at);
    return line != NULL ? line->value : NULL;
}

bool rg_headers_length(const struct rg_headers *headers, uint64_t *out)
{
    const char *text = rg_headers_get(headers, RG_HEADER_CONTENT_LENGTH);
    if (text == NULL || rg_headers_has(headers, RG_HEADER_TRANSFER_ENCODING))
        return false;
    size_t len = strlen(text);
    if (len == 0 || len > 18 || strspn(text, "0123456789") != len)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    *out = value;
    return true;
}

bool rg_header_in_place(const char *name, size_t name_len, const char *value, size_t value_len)
{
    const char *colon = name + name_len;
    /* Reading on is safe only while the two lie in one buffer: a few blanks are looked at, more
     * than that is not how anybody writes a header line. */
    if (value <= colon || value - colon > 64)
        return false;
    for (const char *at = colon + 1; at < value; at++) {
        if (*at != ' ' && *at != '\t')
            return false;
    }
    return value[value_len] == '\0' && value[value_len + 1] == '\0';
}

bool rg_list_next(const char **at, const char **out, size_t *out_len)
{
    const char *p = *at;
    while (*p == ' ' || *p == '\t' || *p == ',')
        p++;
    if (*p == '\0')
        return false;
    const char *start = p;
    bool quoted = false;
    for (; *p != '\0' && (quoted || *p != ','); p++) {
        if (*p == '"')
            quoted = !quoted;
        else if (quoted && *p == '\\' && p[1] != '\0')
            p++;
    }
    const char *end = p;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *at = p;
    *out = start;
    *out_len = (size_t)(end - start);
    return true;
}

#include "cache/redis_url.h"

#include <arpa/inet.h>
#include <string.h>

#include "gateway/base/buf.h"
#include "gateway/base/text.h"

enum { DEFAULT_PORT = 6379, DB_MAX = 1000000 };

bool rg_redis_is_literal(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

void rg_redis_url_fini(struct rg_redis_url *url)
{
    rg_secret_destroy(url->password);
    url->password = NULL;
}

static bool parse_number(unsigned *out, const char *text, size_t len, unsigned max)
{
    unsigned value = 0;

    if (len == 0 || len > 7)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *out = value;
    return value <= max;
}

static bool copy(char *out, size_t size, const char *text, size_t len)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static enum rg_code parse_unix(struct rg_redis_url *url, const char *text, struct rg_err *err)
{
    size_t len = strcspn(text, "?");
    const char *query = text + len;

    if (!copy(url->path, sizeof(url->path), text, len))
        return rg_fail(err, RG_E_INVALID_ITEM, "the path of the socket is too long");
    if (*query == '\0')
        return RG_OK;
    if (strncmp(query, "?db=", 4) != 0 ||
        !parse_number(&url->db, query + 4, strlen(query + 4), DB_MAX))
        return rg_fail(err, RG_E_INVALID_ITEM, "after the path only ?db=NUMBER may stand");
    return RG_OK;
}

static enum rg_code parse_password(struct rg_redis_url *url, const char *text, size_t len,
                                   struct rg_err *err)
{
    struct rg_buf plain = RG_BUF_INIT;
    bool good = len > 0 && *text == ':' &&
                rg_percent_decode(&plain, text + 1, len - 1, false) && !rg_buf_failed(&plain);

    if (good && plain.len > 0)
        url->password = rg_secret_create(plain.data, plain.len);
    good = good && (plain.len == 0 || url->password != NULL);
    if (plain.data != NULL)
        rg_wipe(plain.data, plain.cap);
    rg_buf_fini(&plain);
    return good ? RG_OK
                : rg_fail(err, RG_E_INVALID_ITEM,
                          "before the host only :PASSWORD@ may stand, percent-encoded");
}

static enum rg_code parse_host(struct rg_redis_url *url, const char *text, size_t len,
                               struct rg_err *err)
{
    bool bracket = len > 0 && *text == '[';
    const char *end = memchr(text, bracket ? ']' : ':', len);
    size_t host_len = end != NULL ? (size_t)(end - text) : len;
    unsigned port = DEFAULT_PORT;
    const char *rest;

    if (bracket && end == NULL)
        return rg_fail(err, RG_E_INVALID_ITEM, "a bracket is missing");
    if (!copy(url->host, sizeof(url->host), text + bracket, host_len - bracket))
        return rg_fail(err, RG_E_INVALID_ITEM, "the host is missing or too long");
    if (bracket && !rg_redis_is_literal(url->host))
        return rg_fail(err, RG_E_INVALID_ITEM, "no IPv6 address stands in the brackets");
    rest = text + host_len + bracket;
    len -= host_len + bracket;
    if (len > 0 &&
        (*rest != ':' || !parse_number(&port, rest + 1, len - 1, 65535) || port == 0))
        return rg_fail(err, RG_E_INVALID_ITEM, "the port is not a number from 1 to 65535");
    url->port = (uint16_t)port;
    return RG_OK;
}

static enum rg_code parse_tcp(struct rg_redis_url *url, const char *text, struct rg_err *err)
{
    const char *slash = strrchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    const char *at = memrchr(text, '@', len);

    if (slash != NULL && slash[1] != '\0' &&
        !parse_number(&url->db, slash + 1, strlen(slash + 1), DB_MAX))
        return rg_fail(err, RG_E_INVALID_ITEM, "the database is not a number");
    if (at != NULL) {
        enum rg_code code = parse_password(url, text, (size_t)(at - text), err);

        if (code != RG_OK)
            return code;
        len -= (size_t)(at - text) + 1;
        text = at + 1;
    }
    return parse_host(url, text, len, err);
}

enum rg_code rg_redis_url_parse(struct rg_redis_url *out, const char *text, struct rg_err *err)
{
    struct rg_redis_url url = {.port = 0};
    enum rg_code code;

    if (strncmp(text, "redis://", 8) == 0)
        code = parse_tcp(&url, text + 8, err);
    else if (strncmp(text, "unix:///", 8) == 0)
        code = parse_unix(&url, text + 7, err);
    else
        code = rg_fail(err, RG_E_INVALID_ITEM, "neither redis:// nor unix:///");
    if (code == RG_OK)
        *out = url;
    else
        rg_redis_url_fini(&url);
    return code;
}

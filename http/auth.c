#include "http/auth.h"

#include <string.h>
#include <strings.h>

const char *rg_auth_cookie_name(bool insecure)
{
    return insecure ? "rg" : "__Host-rg";
}

/* RFC 6750 2.1: "Bearer" and a token68. The scheme's name knows no case. */
static bool bearer(const char *value, struct rg_auth *out)
{
    if (strncasecmp(value, "Bearer", 6) != 0 || value[6] != ' ')
        return false;
    const char *token = value + 6 + strspn(value + 6, " ");
    size_t len = strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                               "0123456789-._~+/=");
    if (len == 0 || token[len + strspn(token + len, " \t")] != '\0')
        return false;
    *out = (struct rg_auth){RG_AUTH_HEADER, token, len};
    return true;
}

/* Counts the cookies of that name on one line; the last one's value goes to *out. */
static size_t cookies(const char *line, const char *name, struct rg_auth *out)
{
    size_t found = 0;
    size_t name_len = strlen(name);
    while (*line != '\0') {
        line += strspn(line, " \t;");
        size_t len = strcspn(line, ";");
        if (len > name_len && memcmp(line, name, name_len) == 0 && line[name_len] == '=') {
            const char *value = line + name_len + 1;
            size_t value_len = len - name_len - 1;
            while (value_len > 0 &&
                   (value[value_len - 1] == ' ' || value[value_len - 1] == '\t'))
                value_len--;
            *out = (struct rg_auth){RG_AUTH_COOKIE, value, value_len};
            found++;
        }
        line += len;
    }
    return found;
}

enum rg_code rg_auth_find(const struct rg_headers *headers, bool insecure_cookie,
                          struct rg_auth *out, struct rg_err *err)
{
    struct rg_auth found = {.source = RG_AUTH_NONE};
    const char *header = rg_headers_get(headers, RG_HEADER_AUTHORIZATION);
    if (header != NULL) {
        if (rg_headers_twice(headers, RG_HEADER_AUTHORIZATION))
            return rg_fail(err, RG_E_UNAUTHORIZED, "Authorization stands twice");
        if (!bearer(header, &found))
            return rg_fail(err, RG_E_UNAUTHORIZED, "Authorization is not a bearer token");
        *out = found;
        return RG_OK;
    }
    size_t n = 0, at = 0;
    const char *name = rg_auth_cookie_name(insecure_cookie);
    const struct rg_header_line *line;
    while ((line = rg_headers_next(headers, RG_HEADER_COOKIE, &at)) != NULL)
        n += cookies(line->value, name, &found);
    if (n > 1)
        return rg_fail(err, RG_E_UNAUTHORIZED, "two cookies named %s", name);
    *out = found;
    return RG_OK;
}

bool rg_origin_listed(const char *origin, const struct rg_strings *origins)
{
    for (size_t i = 0; i < origins->n; i++) {
        if (strcmp(origin, origins->v[i]) == 0)
            return true;
    }
    return false;
}

static bool own_origin(const char *origin, const char *host, bool insecure_cookie)
{
    const char *rest = NULL;
    if (strncmp(origin, "https://", 8) == 0)
        rest = origin + 8;
    else if (insecure_cookie && strncmp(origin, "http://", 7) == 0)
        rest = origin + 7; /* development over plain HTTP: there is no https:// origin */
    return rest != NULL && host != NULL && host[0] != '\0' && strcasecmp(rest, host) == 0;
}

bool rg_auth_same_site(const struct rg_headers *headers, const struct rg_strings *origins,
                       bool insecure_cookie)
{
    if (rg_headers_twice(headers, RG_HEADER_SEC_FETCH_SITE) ||
        rg_headers_twice(headers, RG_HEADER_ORIGIN))
        return false;
    const char *site = rg_headers_get(headers, RG_HEADER_SEC_FETCH_SITE);
    if (site != NULL)
        return strcmp(site, "same-origin") == 0;
    const char *origin = rg_headers_get(headers, RG_HEADER_ORIGIN);
    if (origin == NULL)
        return false;
    return own_origin(origin, rg_headers_get(headers, RG_HEADER_HOST), insecure_cookie) ||
           rg_origin_listed(origin, origins);
}

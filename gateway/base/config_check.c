/* The rules of the configuration that no single key's type and range can say. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "gateway/base/internal.h"
#include "gateway/base/jid.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"

static bool parse_port(uint16_t *out, const char *text)
{
    size_t len = strlen(text);
    unsigned value = 0;

    if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
        return false;
    for (; *text != '\0'; text++)
        value = value * 10 + (unsigned)(*text - '0');
    if (value > 65535)
        return false;
    *out = (uint16_t)value;
    return true;
}

/* "host:port" or "[v6]:port"; the brackets are not part of the host. */
static bool split_host_port(const char *text, char *host, size_t size, uint16_t *out_port)
{
    const char *colon = strrchr(text, ':'), *from = text;
    struct in6_addr v6;
    size_t len;

    if (colon == NULL || !parse_port(out_port, colon + 1))
        return false;
    len = (size_t)(colon - text);
    if (text[0] == '[') {
        if (len < 2 || text[len - 1] != ']')
            return false;
        from = text + 1;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL)
        return false; /* a bare v6 address cannot be told from its port */
    if (len == 0 || len >= size)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)from[i]) && strchr(".-_:", from[i]) == NULL)
            return false;
    }
    memcpy(host, from, len);
    host[len] = '\0';
    return from == text || inet_pton(AF_INET6, host, &v6) == 1;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

/* Where we listen. Passwords and tokens come this way, so plain HTTP stays on this machine
 * unless somebody says otherwise (threat T1). */
static enum rg_code check_listen(const char *text, bool plain_http, struct rg_err *err)
{
    char host[256];
    uint16_t port;

    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] != '/' ||
            strlen(text + 5) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
            return rg_fail(err, RG_E_INVALID_ITEM,
                           "unix: needs an absolute path of at most 107 bytes");
        return RG_OK;
    }
    if (!split_host_port(text, host, sizeof(host), &port))
        return rg_fail(err, RG_E_INVALID_ITEM,
                       "must be \"host:port\", \"[v6]:port\" or \"unix:/path\"");
    if (!plain_http && !is_loopback(host))
        return rg_fail(err, RG_E_INVALID_ITEM,
                       "neither loopback nor unix: passwords would cross the network in the "
                       "clear; put a TLS proxy in front, or set server.plain_http = true");
    return RG_OK;
}

/* scheme://host[:port], as a browser's Origin header has it. */
static enum rg_code check_origin(const char *text, struct rg_err *err)
{
    const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
                       : strncmp(text, "http://", 7) == 0 ? text + 7
                                                          : NULL;

    if (host == NULL || *host == '\0')
        return rg_fail(err, RG_E_INVALID_ITEM,
                       "an origin is https://host or https://host:port");
    for (; *host != '\0'; host++) {
        if (isupper((unsigned char)*host) ||
            (!isalnum((unsigned char)*host) && strchr(".-_:[]", *host) == NULL))
            return rg_fail(err, RG_E_INVALID_ITEM,
                           "an origin has a lower-case host and neither path nor slash at its "
                           "end");
    }
    return RG_OK;
}

/* An address, a network in CIDR form, or "unix". */
static enum rg_code check_proxy(const char *text, struct rg_err *err)
{
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchrnul(text, '/');
    size_t len = (size_t)(slash - text);
    struct in6_addr addr;
    uint16_t bits = 0;
    unsigned max;

    if (strcmp(text, "unix") == 0)
        return RG_OK;
    if (len < sizeof(host)) {
        memcpy(host, text, len);
        host[len] = '\0';
        max = inet_pton(AF_INET, host, &addr) == 1    ? 32
              : inet_pton(AF_INET6, host, &addr) == 1 ? 128
                                                      : 0;
        if (max != 0 && (*slash == '\0' || (parse_port(&bits, slash + 1) && bits <= max)))
            return RG_OK;
    }
    return rg_fail(err, RG_E_INVALID_ITEM,
                   "must be addresses, networks (10.0.0.0/8) or \"unix\"");
}

/* "host:port", or "host:port+tls": TLS from the first byte (XEP-0368), no STARTTLS. */
static bool parse_server(const char *text, struct rg_domain *domain)
{
    char plain[sizeof(domain->host) + 16];
    size_t len = strlen(text), tail = strlen("+tls");

    domain->direct_tls = len > tail && strcmp(text + len - tail, "+tls") == 0;
    len -= domain->direct_tls ? tail : 0;
    if (len >= sizeof(plain))
        return false;
    memcpy(plain, text, len);
    plain[len] = '\0';
    return split_host_port(plain, domain->host, sizeof(domain->host), &domain->port) &&
           domain->port != 0;
}

enum rg_code rg_config_domain(const char *text, struct rg_domain *out, struct rg_err *err)
{
    const char *equals = strchrnul(text, '=');
    char prepared[RG_JID_SIZE];
    struct rg_domain domain = {0};
    enum rg_code code;

    code = rg_jid_prepare_domain(prepared, text, (size_t)(equals - text), err);
    if (code != RG_OK)
        return code;
    if (strlen(prepared) >= sizeof(domain.domain))
        return rg_fail(err, RG_E_INVALID_ITEM, "a domain has at most 255 bytes");
    memcpy(domain.domain, prepared, strlen(prepared) + 1);
    if (*equals == '=' && !parse_server(equals + 1, &domain))
        return rg_fail(err, RG_E_INVALID_ITEM,
                       "must be \"domain\", \"domain=host:port\" or \"domain=host:port+tls\"");
    *out = domain;
    return RG_OK;
}

static enum rg_code check_domains(const struct rg_strings *list, bool plaintext,
                                  struct rg_err *err)
{
    struct rg_domain domain, other;

    for (size_t i = 0; i < list->n; i++) {
        enum rg_code code = rg_config_domain(list->v[i], &domain, err);

        if (code != RG_OK)
            return code;
        if (domain.direct_tls && plaintext)
            return rg_fail(err, RG_E_INVALID_ITEM,
                           "+tls and plaintext_loopback exclude each other");
        for (size_t j = 0; j < i; j++) {
            if (rg_config_domain(list->v[j], &other, err) == RG_OK &&
                strcmp(domain.domain, other.domain) == 0)
                return rg_fail(err, RG_E_INVALID_ITEM, "%s stands twice", domain.domain);
        }
    }
    return RG_OK;
}

/* The text may hold a password: it is never quoted. */
static enum rg_code check_url(const char *url, struct rg_err *err)
{
    if (strcmp(url, "memory:") == 0 || strncmp(url, "redis://", 8) == 0 ||
        strncmp(url, "unix:///", 8) == 0)
        return RG_OK;
    return rg_fail(err, RG_E_INVALID_ITEM,
                   "must be \"memory:\", \"redis://host:port/db\" or \"unix:///path?db=0\"");
}

static enum rg_code check_session(const struct rg_config *config, const char **out_key,
                                  struct rg_err *err)
{
    if (config->session.keys_file[0] != '\0' && config->session.state_file[0] == '\0' &&
        strcmp(config->cache.url, "memory:") == 0) {
        *out_key = "session.state_file";
        return rg_fail(err, RG_E_INVALID_ITEM,
                       "needed beside session.keys_file when cache.url is \"memory:\": tokens "
                       "outlive the process, so must sign-outs");
    }
    return RG_OK;
}

/* An address, or "address:port", "[v6]:port". */
static enum rg_code check_dns_server(const char *text, struct rg_err *err)
{
    char host[64];
    struct in6_addr addr;
    uint16_t port;
    bool bare = inet_pton(AF_INET, text, &addr) == 1 || inet_pton(AF_INET6, text, &addr) == 1;

    if (bare ||
        (split_host_port(text, host, sizeof(host), &port) && port != 0 &&
         (inet_pton(AF_INET, host, &addr) == 1 || inet_pton(AF_INET6, host, &addr) == 1)))
        return RG_OK;
    return rg_fail(err, RG_E_INVALID_ITEM, "must be addresses, with or without a port");
}

static enum rg_code check_lists(const struct rg_config *config, const char **out_key,
                                struct rg_err *err)
{
    enum rg_code code = RG_OK;

    *out_key = "server.origins";
    for (size_t i = 0; code == RG_OK && i < config->server.origins.n; i++)
        code = check_origin(config->server.origins.v[i], err);
    if (code != RG_OK)
        return code;
    *out_key = "server.trusted_proxies";
    for (size_t i = 0; code == RG_OK && i < config->server.trusted_proxies.n; i++)
        code = check_proxy(config->server.trusted_proxies.v[i], err);
    if (code != RG_OK)
        return code;
    *out_key = "xmpp.dns_servers";
    for (size_t i = 0; code == RG_OK && i < config->xmpp.dns_servers.n; i++)
        code = check_dns_server(config->xmpp.dns_servers.v[i], err);
    if (code != RG_OK)
        return code;
    *out_key = "xmpp.domains";
    return check_domains(&config->xmpp.domains, config->xmpp.plaintext_loopback, err);
}

enum rg_code rg_config_check(const struct rg_config *config, const char **out_key,
                             struct rg_err *err)
{
    enum rg_log_level level;
    enum rg_code code;

    *out_key = "server.listen";
    code = check_listen(config->server.listen, config->server.plain_http, err);
    if (code != RG_OK)
        return code;
    *out_key = "server.operations";
    code = check_listen(config->server.operations, config->server.plain_http, err);
    if (code != RG_OK)
        return code;
    code = check_lists(config, out_key, err);
    if (code != RG_OK)
        return code;
    *out_key = "cache.url";
    code = check_url(config->cache.url, err);
    if (code != RG_OK)
        return code;
    *out_key = "log.level";
    if (!rg_log_parse_level(&level, config->log.level))
        return rg_fail(err, RG_E_INVALID_ITEM, "must be debug, info, warn or error");
    return check_session(config, out_key, err);
}

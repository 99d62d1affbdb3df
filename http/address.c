#include "http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct range {
    struct rg_address base;
    unsigned bits;
};

struct rg_trust {
    bool unix_peers;
    size_t n;
    struct range ranges[];
};

static const uint8_t MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void set_v4(struct rg_address *out, const void *bytes)
{
    *out = (struct rg_address){.family = RG_FAMILY_V4};
    memcpy(out->bytes, bytes, 4);
}

static void set_v6(struct rg_address *out, const uint8_t bytes[16])
{
    if (memcmp(bytes, MAPPED, sizeof(MAPPED)) == 0) {
        set_v4(out, bytes + 12);
        return;
    }
    *out = (struct rg_address){.family = RG_FAMILY_V6};
    memcpy(out->bytes, bytes, 16);
}

void rg_address_from_sockaddr(struct rg_address *out, const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET) {
        set_v4(out, &((const struct sockaddr_in *)(const void *)addr)->sin_addr);
    } else if (addr->sa_family == AF_INET6) {
        set_v6(out, ((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr.s6_addr);
    } else {
        *out = (struct rg_address){.family = RG_FAMILY_UNIX};
    }
}

static bool digits(const char *text, size_t len)
{
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
    }
    return true;
}

/* Copies the host part, without brackets and port, to out. */
static bool host_part(char out[INET6_ADDRSTRLEN + 1], const char *text, size_t len)
{
    const char *host = text;
    size_t host_len = len;
    if (len > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', len);
        if (close == NULL)
            return false;
        size_t rest = len - (size_t)(close + 1 - text);
        if (rest > 0 && (close[1] != ':' || !digits(close + 2, rest - 1)))
            return false;
        host = text + 1;
        host_len = (size_t)(close - host);
        if (memchr(host, ':', host_len) == NULL)
            return false;
    } else {
        const char *colon = memchr(text, ':', len);
        if (colon != NULL && memchr(colon + 1, ':', len - (size_t)(colon + 1 - text)) == NULL) {
            if (!digits(colon + 1, len - (size_t)(colon + 1 - text)))
                return false;
            host_len = (size_t)(colon - text);
        }
    }
    if (host_len == 0 || host_len > INET6_ADDRSTRLEN)
        return false;
    memcpy(out, host, host_len);
    out[host_len] = '\0';
    return true;
}

bool rg_address_parse(struct rg_address *out, const char *text, size_t len)
{
    char host[INET6_ADDRSTRLEN + 1];
    uint8_t bytes[16];
    if (!host_part(host, text, len))
        return false;
    if (inet_pton(AF_INET, host, bytes) == 1)
        set_v4(out, bytes);
    else if (inet_pton(AF_INET6, host, bytes) == 1)
        set_v6(out, bytes);
    else
        return false;
    return true;
}

static bool parse_range(struct range *out, const char *text)
{
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct range range;
    if (len == 0 || memchr(text, '[', len) != NULL || !rg_address_parse(&range.base, text, len))
        return false;
    /* A port makes no sense in a range, and "1.2.3.4:80" would pass as an address. */
    if (range.base.family == RG_FAMILY_V4 && memchr(text, ':', len) != NULL)
        return false;
    unsigned most = range.base.family == RG_FAMILY_V4 ? 32 : 128;
    range.bits = most;
    if (slash != NULL) {
        if (!digits(slash + 1, strlen(slash + 1)))
            return false;
        range.bits = (unsigned)strtoul(slash + 1, NULL, 10);
    }
    if (range.bits > most)
        return false;
    *out = range;
    return true;
}

enum rg_code rg_trust_parse(const struct rg_strings *texts, struct rg_trust **out,
                            struct rg_err *err)
{
    struct rg_trust *trust = calloc(1, sizeof(*trust) + texts->n * sizeof(struct range));
    if (trust == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    for (size_t i = 0; i < texts->n; i++) {
        if (strcmp(texts->v[i], "unix") == 0) {
            trust->unix_peers = true;
        } else if (parse_range(&trust->ranges[trust->n], texts->v[i])) {
            trust->n++;
        } else {
            free(trust);
            return rg_fail(err, RG_E_BAD_REQUEST,
                           "server.trusted_proxies: \"%s\" is no address, range or \"unix\"",
                           texts->v[i]);
        }
    }
    *out = trust;
    return RG_OK;
}

void rg_trust_destroy(struct rg_trust *trust)
{
    free(trust);
}

static bool in_range(const struct range *range, const struct rg_address *address)
{
    if (range->base.family != address->family)
        return false;
    unsigned whole = range->bits / 8, rest = range->bits % 8;
    if (memcmp(range->base.bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 || ((range->base.bytes[whole] ^ address->bytes[whole]) >> (8 - rest)) == 0;
}

bool rg_trust_has(const struct rg_trust *trust, const struct rg_address *address)
{
    if (address->family == RG_FAMILY_UNIX)
        return trust->unix_peers;
    for (size_t i = 0; i < trust->n; i++) {
        if (in_range(&trust->ranges[i], address))
            return true;
    }
    return false;
}

/* The right-most element of text[0, *len), which is cut off; false when nothing is left. Empty
 * elements are skipped (RFC 9110 5.6.1.2). */
static bool last_element(const char *text, size_t *len, const char **out, size_t *out_len)
{
    while (*len > 0) {
        size_t end = *len, start;
        for (start = end; start > 0 && text[start - 1] != ','; start--)
            ;
        *len = start > 0 ? start - 1 : 0;
        while (end > start && (text[end - 1] == ' ' || text[end - 1] == '\t'))
            end--;
        while (start < end && (text[start] == ' ' || text[start] == '\t'))
            start++;
        if (end > start) {
            *out = text + start;
            *out_len = end - start;
            return true;
        }
    }
    return false;
}

void rg_address_client(struct rg_address *out, const struct rg_trust *trust,
                       const struct rg_address *peer, const struct rg_headers *headers)
{
    *out = *peer;
    if (!rg_trust_has(trust, peer))
        return;
    *out = (struct rg_address){.family = RG_FAMILY_NONE};
    for (size_t i = headers->n; i > 0; i--) {
        const struct rg_header_line *line = &headers->lines[i - 1];
        if (line->header != RG_HEADER_X_FORWARDED_FOR)
            continue;
        size_t left = line->len, len;
        const char *text;
        while (last_element(line->value, &left, &text, &len)) {
            struct rg_address hop;
            if (!rg_address_parse(&hop, text, len)) {
                /* Written by somebody we trust, and yet no address: we do not know. */
                *out = (struct rg_address){.family = RG_FAMILY_NONE};
                return;
            }
            *out = hop;
            if (!rg_trust_has(trust, &hop))
                return;
        }
    }
}

size_t rg_address_key(const struct rg_address *address, bool wide,
                      char out[RG_ADDRESS_KEY_SIZE])
{
    const uint8_t *b = address->bytes;
    int len = 0;
    out[0] = '\0';
    if (address->family == RG_FAMILY_V4 && wide)
        len = snprintf(out, RG_ADDRESS_KEY_SIZE, "%u.%u.%u.0/24", b[0], b[1], b[2]);
    else if (address->family == RG_FAMILY_V4)
        len = snprintf(out, RG_ADDRESS_KEY_SIZE, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
    else if (address->family == RG_FAMILY_V6)
        len = snprintf(out, RG_ADDRESS_KEY_SIZE, "%02x%02x:%02x%02x:%02x%02x:%02x%02x::/64",
                       b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]);
    return (size_t)len;
}

bool rg_address_loopback(const struct rg_address *address)
{
    static const uint8_t one[16] = {[15] = 1};
    if (address->family == RG_FAMILY_V4)
        return address->bytes[0] == 127;
    return address->family == RG_FAMILY_V6 && memcmp(address->bytes, one, 16) == 0;
}

/* cache.url, taken apart: redis://[:password@]host[:port][/db] or unix:///path[?db=0]. Inside
 * cache/ only. Thread: any. */
#ifndef CACHE_REDIS_URL_H
#define CACHE_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/err.h"
#include "gateway/base/secret.h"

struct rg_redis_url {
    char host[256]; /* a name or a literal, without brackets; "": path */
    uint16_t port;
    char path[108]; /* of a Unix socket; "": host */
    unsigned db;
    struct rg_secret *password; /* own; NULL: none */
};

/* The text is never quoted in an error: it may hold a password. */
enum rg_code rg_redis_url_parse(struct rg_redis_url *out, const char *text, struct rg_err *err);
void rg_redis_url_fini(struct rg_redis_url *url);
/* A literal IPv4 or IPv6 address? */
bool rg_redis_is_literal(const char *host);

/* A non-blocking socket on its way to url's path, or to the literal of its host; -1 with errno
 * set (redis_socket.c). */
int rg_redis_socket(const struct rg_redis_url *url, const char *literal);

#endif

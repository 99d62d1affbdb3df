/* One connection to Redis on the core loop, kept alive: resolves, connects, signs in, selects
 * the database, and when it is lost comes back with back-off and jitter. hiredis 0.14.1 has no
 * deadline and no reconnecting (facts, libmicrohttpd-hiredis-proxies 5 and R29); they are here.
 *
 * Every call has an answer: a reply, or NULL when the connection was lost or the deadline
 * passed; whether Redis has done it is not known then. A call over its deadline ends the
 * connection: an answer that late would belong to a state nobody relies on any more. Inside
 * cache/ only. Thread: core. */
#ifndef CACHE_REDIS_LINK_H
#define CACHE_REDIS_LINK_H

#include <hiredis/hiredis.h>
#include <stdbool.h>

#include "cache/redis_url.h"
#include "gateway/base/buf.h"
#include "gateway/base/loop.h"

enum { RG_REDIS_DEADLINE_MS = 500 };

/* The words of a command, in one piece of memory (redis_args.c). Zero-initialised: none. */
struct rg_redis_args {
    struct rg_buf bytes;
    size_t *ends; /* own */
    size_t n, cap;
    bool failed; /* out of memory */
};
void rg_redis_args_put(struct rg_redis_args *args, const void *data, size_t len);
void rg_redis_args_puts(struct rg_redis_args *args, const char *text);
void rg_redis_args_number(struct rg_redis_args *args, long long value);
void rg_redis_args_fini(struct rg_redis_args *args);

/* A script of cache/scripts, by its digest; sent in full when Redis does not know it. */
struct rg_redis_script {
    const char *sha1;
    const char *text;
};

struct rg_redis_link;
struct rg_redis_handler {
    void (*up)(void *arg);
    void (*down)(void *arg); /* after up; the calls have had their NULL */
    /* Messages of the channel; NULL: a connection for calls. */
    void (*message)(void *arg, const char *data, size_t len);
    const char *channel;
};
/* (borrow) reply; NULL: lost or late. */
typedef void (*rg_redis_reply_fn)(void *arg, const redisReply *reply);

/* (borrow) url, handler until destroyed. Begins to connect when the loop runs. Returns (own),
 * NULL when out of memory. */
struct rg_redis_link *rg_redis_link_create(const struct rg_redis_url *url, struct rg_loop *loop,
                                           const struct rg_redis_handler *handler, void *arg);
void rg_redis_link_destroy(struct rg_redis_link *link); /* accepts NULL; no callback comes */
/* Ends the connection and does not come back: calls get their NULL. */
void rg_redis_link_stop(struct rg_redis_link *link);

bool rg_redis_link_is_up(const struct rg_redis_link *link);
size_t rg_redis_link_load(const struct rg_redis_link *link); /* calls sent or waiting */
/* (borrow) why the connection is not there, "" if it is. */
const char *rg_redis_link_why(const struct rg_redis_link *link);

/* Sends a command (script NULL) or a script with `args` (number of keys, keys, arguments).
 * (take) args. fn comes once, later. False: neither up nor on the way there, or out of memory,
 * and fn does not come. */
bool rg_redis_link_call_take(struct rg_redis_link *link, const struct rg_redis_script *script,
                             struct rg_redis_args *args, rg_redis_reply_fn fn, void *arg);

/* An error that begins with this word? (redis_args.c) */
bool rg_redis_is_error(const redisReply *reply, const char *word);

#endif

/* Rates: failed sign-ins per JID and address, writes per user (API section 6, Limits). Thread:
 * core. */
#ifndef GATEWAY_CORE_THROTTLE_H
#define GATEWAY_CORE_THROTTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A token bucket that refills `rate` a second and holds `rate`. */
struct rg_bucket {
    int64_t filled_ms; /* 0: full */
    double left;
};
/* Takes one; false if there is none. */
bool rg_bucket_take(struct rg_bucket *bucket, int64_t rate, int64_t now_ms);

/* Counts of failures in a sliding window of five minutes, under string keys. Each guess is
 * reserved before it is tried, so that many at once do not slip through; a success takes its
 * reservation back. */
struct rg_throttle;
struct rg_throttle *rg_throttle_create(void);
void rg_throttle_destroy(struct rg_throttle *throttle);

/* Reserves a failure under key. 0: go on. Otherwise the seconds to wait before a try could
 * pass; nothing was reserved. limit <= 0: no limit. */
unsigned rg_throttle_reserve(struct rg_throttle *throttle, const char *key, int64_t limit,
                             int64_t now_ms);
/* The reserved try was no failure. */
void rg_throttle_give_back(struct rg_throttle *throttle, const char *key);
/* A success: the key starts anew. */
void rg_throttle_clear(struct rg_throttle *throttle, const char *key);

#endif

/* Randomness and keyed hashing by libsodium. rg_random_init must have succeeded first (main).
 * Thread: any. */
#ifndef GATEWAY_BASE_RANDOM_H
#define GATEWAY_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/base/err.h"

/* Starts libsodium and draws the process's hash key. Idempotent. */
enum rg_code rg_random_init(struct rg_err *err);

void rg_random_bytes(void *out, size_t len);
uint64_t rg_random_u64(void);
/* Uniform in [0, bound); 0 for bound 0. */
uint64_t rg_random_below(uint64_t bound);
/* value spread by up to percent on each side: the jitter of heartbeats, back-off, re-reading.
 */
uint64_t rg_random_spread(uint64_t value, unsigned percent);

/* SipHash-2-4 under the process's key: for hash tables (no flooding, threat T21) and for naming
 * users in logs. Not stable across processes. */
uint64_t rg_hash(const void *data, size_t len);

#endif

/* Rostergate's sync token: EPOCH.MARK-SEQ (DESIGN section 4).
 *
 * EPOCH names the account's record, MARK the period in which one process wrote its journal, SEQ
 * grows by one with each item that really changes. A token is known only if the journal holds
 * that SEQ with that MARK. Thread: any. */
#ifndef GATEWAY_BASE_VERSION_H
#define GATEWAY_BASE_VERSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RG_VERSION_SIZE = 65 }; /* longest token and its NUL (API section 1) */

/* A point in an account's history; the epoch stands beside it, in the account. */
struct rg_stamp {
    uint64_t mark;
    uint64_t seq;
};

struct rg_version {
    uint64_t epoch;
    struct rg_stamp at;
};

static inline bool rg_stamp_equal(struct rg_stamp a, struct rg_stamp b)
{
    return a.mark == b.mark && a.seq == b.seq;
}

/* A fresh random epoch or mark; never 0 (0 means: none). */
uint64_t rg_version_draw(void);

/* Writes the token, returns its length. */
size_t rg_version_format(char out[RG_VERSION_SIZE], uint64_t epoch, struct rg_stamp at);

/* Strict: only what rg_version_format writes. False leaves *out alone. */
bool rg_version_parse(struct rg_version *out, const char *text, size_t len);

#endif

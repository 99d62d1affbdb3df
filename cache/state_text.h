/* The text form of the file of sign-outs, and the set of records that a file amounts to. Inside
 * cache/ only. Thread: any, one at a time. */
#ifndef CACHE_STATE_TEXT_H
#define CACHE_STATE_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cache/table.h"

#include "gateway/base/account.h"
#include "gateway/base/buf.h"

#define RG_STATE_HEAD "rostergate-state 1\n"

/* One user's ends; the account is nobody else's. */
struct rg_state_record {
    UT_hash_handle hh; /* by account->user */
    struct rg_account *account;
};

/* What stands after reading all lines in order. Zero-initialised: empty. */
struct rg_state_set {
    struct rg_state_record *records;
    size_t damaged;
    long first_damaged_line;
};
void rg_state_set_fini(struct rg_state_set *set);

/* Appends a line: this end of the user's. buf's mark tells of lacking memory. */
void rg_state_put_end(struct rg_buf *buf, const char *user, const struct rg_end *end);
/* Appends lines: of the ends of passwords, the account has none but those it has now. */
void rg_state_put_passwords(struct rg_buf *buf, const struct rg_account *account);

/* Reads a whole file; expired records are left out. Fails with RG_E_INVALID_ITEM if it is not
 * one of ours. An empty one is fine. */
enum rg_code rg_state_read(struct rg_state_set *set, FILE *file, int64_t now_s,
                           struct rg_err *err);

#endif

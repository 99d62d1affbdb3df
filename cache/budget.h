/* The journals of all accounts share one budget (limits.journal_bytes): when it is over, the
 * oldest change of all goes first, whoever's it is. A heap of accounts by their oldest change:
 * O(log n) for each change made or dropped. Inside cache/ only. Thread: core. */
#ifndef CACHE_BUDGET_H
#define CACHE_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/account.h"

/* One account's place in it. Embedded by the store; zero-initialised: not in it. */
struct rg_share {
    struct rg_account *account; /* (borrow) */
    size_t bytes;               /* as counted */
    int64_t oldest_s;
    size_t heap_index; /* 1-based; 0: no journal */
};

struct rg_budget {
    size_t max_bytes, bytes;
    struct rg_share **heap; /* 1-based */
    size_t n, cap, promised;
    uint64_t dropped; /* changes dropped for the budget's sake */
};

void rg_budget_init(struct rg_budget *budget, size_t max_bytes);
void rg_budget_fini(struct rg_budget *budget);
/* Promises room for one more account, so that counting cannot fail. False: out of memory. */
bool rg_budget_join(struct rg_budget *budget, struct rg_share *share,
                    struct rg_account *account);
void rg_budget_leave(struct rg_budget *budget, struct rg_share *share);
/* Counts the account's journal anew, then drops what is over the budget or over its age. */
void rg_budget_count(struct rg_budget *budget, struct rg_share *share, int64_t now_s);

#endif

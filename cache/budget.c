#include "cache/budget.h"

#include <stdlib.h>

void rg_budget_init(struct rg_budget *budget, size_t max_bytes)
{
    *budget = (struct rg_budget){.max_bytes = max_bytes};
}

void rg_budget_fini(struct rg_budget *budget)
{
    free(budget->heap);
    budget->heap = NULL;
}

static void put(struct rg_budget *budget, size_t i, struct rg_share *share)
{
    budget->heap[i] = share;
    share->heap_index = i;
}

/* Moves the share from its place i to where it belongs. */
static void settle(struct rg_budget *budget, size_t i, struct rg_share *share)
{
    while (i > 1 && budget->heap[i / 2]->oldest_s > share->oldest_s) {
        put(budget, i, budget->heap[i / 2]);
        i /= 2;
    }
    for (;;) {
        size_t child = i * 2;

        if (child < budget->n &&
            budget->heap[child + 1]->oldest_s < budget->heap[child]->oldest_s)
            child++;
        if (child > budget->n || budget->heap[child]->oldest_s >= share->oldest_s)
            break;
        put(budget, i, budget->heap[child]);
        i = child;
    }
    put(budget, i, share);
}

static void heap_remove(struct rg_budget *budget, struct rg_share *share)
{
    size_t i = share->heap_index;
    struct rg_share *last;

    if (i == 0)
        return;
    share->heap_index = 0;
    last = budget->heap[budget->n--];
    if (last != share)
        settle(budget, i, last);
}

bool rg_budget_join(struct rg_budget *budget, struct rg_share *share,
                    struct rg_account *account)
{
    if (budget->promised + 1 >= budget->cap) {
        size_t cap = budget->cap == 0 ? 64 : budget->cap * 2;
        struct rg_share **heap = reallocarray(budget->heap, cap, sizeof(*heap));

        if (heap == NULL)
            return false;
        budget->heap = heap;
        budget->cap = cap;
    }
    budget->promised++;
    *share = (struct rg_share){.account = account};
    return true;
}

void rg_budget_leave(struct rg_budget *budget, struct rg_share *share)
{
    heap_remove(budget, share);
    budget->bytes -= share->bytes;
    share->bytes = 0;
    budget->promised--;
}

/* Takes over what the account's journal is now. */
static void recount(struct rg_budget *budget, struct rg_share *share)
{
    const struct rg_account *account = share->account;

    budget->bytes = budget->bytes - share->bytes + account->journal_bytes;
    share->bytes = account->journal_bytes;
    if (account->journal_n == 0) {
        heap_remove(budget, share);
        return;
    }
    share->oldest_s = rg_account_change(account, 0)->made_s;
    settle(budget, share->heap_index != 0 ? share->heap_index : ++budget->n, share);
}

void rg_budget_count(struct rg_budget *budget, struct rg_share *share, int64_t now_s)
{
    recount(budget, share);
    while (budget->n > 0) {
        struct rg_share *oldest = budget->heap[1];
        bool over = budget->bytes > budget->max_bytes;
        size_t before = oldest->account->journal_n;

        if (!over && now_s - oldest->oldest_s <= RG_JOURNAL_AGE_S)
            return;
        /* One byte less than it has is one change less. */
        rg_account_trim(oldest->account, now_s, over ? oldest->bytes - 1 : oldest->bytes);
        if (over)
            budget->dropped += before - oldest->account->journal_n;
        recount(budget, oldest);
    }
}

/* The journal of an account: a ring of counted changes, oldest first (account.h). */
#include <string.h>

#include "gateway/base/internal.h"

enum { FIRST_CAP = 8 };

struct rg_change *rg_change_create(struct rg_stamp before, struct rg_stamp at, int64_t made_s,
                                   struct rg_item *item, const char *jid)
{
    size_t len = strlen(jid);
    struct rg_change *change = malloc(sizeof(*change) + len + 1);

    if (change == NULL)
        return NULL;
    atomic_init(&change->refs, 1);
    change->at = at;
    change->before = before;
    change->made_s = made_s;
    change->item = item != NULL ? rg_item_ref(item) : NULL;
    memcpy(change->jid, jid, len + 1);
    return change;
}

struct rg_change *rg_change_ref(struct rg_change *change)
{
    atomic_fetch_add_explicit(&change->refs, 1, memory_order_relaxed);
    return change;
}

void rg_change_unref(struct rg_change *change)
{
    if (change == NULL ||
        atomic_fetch_sub_explicit(&change->refs, 1, memory_order_acq_rel) != 1)
        return;
    rg_item_unref(change->item);
    free(change);
}

size_t rg_change_bytes(const struct rg_change *change)
{
    return sizeof(*change) + strlen(change->jid) + 1 +
           (change->item != NULL ? rg_item_bytes(change->item) : 0);
}

struct rg_change *rg_account_change(const struct rg_account *account, size_t i)
{
    return account->journal[(account->journal_at + i) % account->journal_cap];
}

bool rg_journal_reserve(struct rg_account *account, size_t more)
{
    size_t need = account->journal_n + more, cap = account->journal_cap;
    struct rg_change **ring;

    if (need <= cap)
        return true;
    if (cap == 0)
        cap = FIRST_CAP;
    while (cap < need)
        cap *= 2;
    ring = calloc(cap, sizeof(struct rg_change *));
    if (ring == NULL)
        return false;
    for (size_t i = 0; i < account->journal_n; i++)
        ring[i] = rg_account_change(account, i);
    free(account->journal);
    account->journal = ring;
    account->journal_at = 0;
    account->journal_cap = cap;
    return true;
}

void rg_journal_append_take(struct rg_account *account, struct rg_change *change)
{
    size_t at = (account->journal_at + account->journal_n) % account->journal_cap;

    account->journal[at] = change;
    account->journal_n++;
    account->journal_bytes += rg_change_bytes(change);
}

static void drop_oldest(struct rg_account *account)
{
    struct rg_change *oldest = rg_account_change(account, 0);

    account->journal[account->journal_at] = NULL;
    account->journal_at = (account->journal_at + 1) % account->journal_cap;
    account->journal_n--;
    account->journal_bytes -= rg_change_bytes(oldest);
    rg_change_unref(oldest);
}

void rg_journal_trim(struct rg_account *account, int64_t now_s, size_t max_bytes, size_t keep)
{
    if (max_bytes > RG_JOURNAL_BYTES)
        max_bytes = RG_JOURNAL_BYTES;
    while (account->journal_n > keep) {
        const struct rg_change *oldest = rg_account_change(account, 0);

        if (account->journal_n <= RG_JOURNAL_MAX && account->journal_bytes <= max_bytes &&
            now_s - oldest->made_s <= RG_JOURNAL_AGE_S)
            return;
        drop_oldest(account);
    }
}

void rg_account_trim(struct rg_account *account, int64_t now_s, size_t max_bytes)
{
    rg_journal_trim(account, now_s, max_bytes, 0);
}

void rg_journal_clear(struct rg_account *account)
{
    while (account->journal_n > 0)
        drop_oldest(account);
}

void rg_journal_fini(struct rg_account *account)
{
    rg_journal_clear(account);
    free(account->journal);
    account->journal = NULL;
    account->journal_cap = 0;
}

bool rg_account_since(const struct rg_account *account, const struct rg_version *since,
                      size_t *out_index)
{
    const struct rg_change *oldest, *next;
    uint64_t index;

    /* Without a roster there is nothing a caller's copy could be continued to. */
    if (account->presence != RG_ROSTER_PRESENT || since->epoch != account->epoch)
        return false;
    if (rg_stamp_equal(since->at, account->head)) {
        *out_index = account->journal_n;
        return true;
    }
    if (account->journal_n == 0)
        return false;
    /* Each change begins where the one before it ended, so SEQ tells the place at once; the
     * mark tells whether the version is really the one that stood there. */
    oldest = rg_account_change(account, 0);
    if (since->at.seq < oldest->before.seq)
        return false;
    index = since->at.seq - oldest->before.seq;
    if (index >= account->journal_n)
        return false;
    next = rg_account_change(account, (size_t)index);
    if (!rg_stamp_equal(next->before, since->at))
        return false;
    *out_index = (size_t)index;
    return true;
}

#include "gateway/base/account.h"

#include <string.h>

#include "gateway/base/internal.h"
#include "gateway/base/mem.h"

/* Sign-outs kept for one account. A user could sign in and out for days; beyond this the older
 * half is folded into one RG_END_ALL, which ends at least the same sign-ins: fail closed. */
enum { ENDS_MAX = 1024 };

struct rg_account *rg_account_create(const char *user)
{
    size_t len = strlen(user);
    struct rg_account *account = calloc(1, sizeof(*account) + len + 1);

    if (account == NULL)
        return NULL;
    account->refs = 1;
    account->epoch = rg_version_draw();
    account->mark = rg_version_draw();
    account->head.mark = account->mark;
    account->presence = RG_ROSTER_UNKNOWN;
    memcpy(account->user, user, len + 1);
    return account;
}

struct rg_account *rg_account_ref(struct rg_account *account)
{
    account->refs++;
    return account;
}

void rg_account_unref(struct rg_account *account)
{
    if (account == NULL || --account->refs > 0)
        return;
    rg_journal_fini(account);
    rg_roster_unref(account->roster);
    free(account->ver.bytes);
    free(account->ends);
    free(account);
}

/* The stamp of the next change. The mark of an account that another process wrote is drawn at
 * this process's first change, and only then. */
static struct rg_stamp next_stamp(const struct rg_account *account, uint64_t mark,
                                  uint64_t steps)
{
    return (struct rg_stamp){.mark = mark, .seq = account->head.seq + steps};
}

static uint64_t own_mark(const struct rg_account *account)
{
    return account->mark != 0 ? account->mark : rg_version_draw();
}

static void set_roster_take(struct rg_account *account, struct rg_roster *roster)
{
    rg_roster_unref(account->roster);
    account->roster = roster;
    account->presence = RG_ROSTER_PRESENT;
}

/* Everything is at hand: the change happens. */
static void apply_take(struct rg_account *account, struct rg_roster *roster,
                       struct rg_change *change, int64_t now_s)
{
    account->mark = change->at.mark;
    account->head = change->at;
    set_roster_take(account, roster);
    rg_journal_append_take(account, change);
    rg_journal_trim(account, now_s, RG_JOURNAL_BYTES, 1);
}

enum rg_code rg_account_push_take(struct rg_account *account, struct rg_item *item,
                                  const char *jid, int64_t now_s, bool *out_changed)
{
    RG_CLEANUP(rg_item_unrefp) struct rg_item *taken = item, *stamped = NULL;
    const struct rg_roster *before = account->roster; /* NULL counts as empty */
    uint64_t mark = own_mark(account);
    struct rg_stamp at = next_stamp(account, mark, 1);
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *roster = NULL;
    const struct rg_item *held;
    struct rg_change *change;

    held = before != NULL ? rg_roster_find(before, taken != NULL ? taken->jid : jid) : NULL;
    if (taken == NULL ? held == NULL : held != NULL && rg_item_equal(held, taken)) {
        *out_changed = false;
        return RG_OK;
    }
    if (taken != NULL) {
        stamped = rg_item_restamp(taken, at);
        if (stamped == NULL)
            return RG_E_INTERNAL;
        roster = rg_roster_with(before, stamped);
    } else
        roster = rg_roster_without(before, jid);
    if (roster == NULL || !rg_journal_reserve(account, 1))
        return RG_E_INTERNAL;
    change = rg_change_create(account->head, at, now_s, stamped,
                              stamped != NULL ? stamped->jid : jid);
    if (change == NULL)
        return RG_E_INTERNAL;
    apply_take(account, RG_TAKE(roster), change, now_s);
    *out_changed = true;
    return RG_OK;
}

/* The outcome of a diff, kept aside until all of it is there. */
struct plan {
    const struct rg_account *account;
    uint64_t mark;
    int64_t now_s;
    bool journal; /* collect changes; false: the journal starts anew anyway */
    struct rg_stamp head;
    struct rg_roster *roster;   /* own; the next snapshot */
    struct rg_change **changes; /* own */
    size_t n, cap, bytes;
};

static void plan_fini(struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++)
        rg_change_unref(plan->changes[i]);
    free(plan->changes);
    rg_roster_unref(plan->roster);
}

static void plan_stop_journal(struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++)
        rg_change_unref(plan->changes[i]);
    plan->n = 0;
    plan->journal = false;
}

/* One more change, with item or, at NULL, without jid. False: out of memory. */
static bool plan_change(struct plan *plan, struct rg_item *item, const char *jid)
{
    struct rg_stamp at = {.mark = plan->mark, .seq = plan->head.seq + 1};
    struct rg_change *change;

    if (plan->journal && plan->n == plan->cap) {
        size_t cap = plan->cap == 0 ? 16 : plan->cap * 2;
        struct rg_change **changes = reallocarray(plan->changes, cap, sizeof(*changes));

        if (changes == NULL)
            return false;
        plan->changes = changes;
        plan->cap = cap;
    }
    if (plan->journal) {
        change = rg_change_create(plan->head, at, plan->now_s, item, jid);
        if (change == NULL)
            return false;
        plan->changes[plan->n++] = change;
        plan->bytes += rg_change_bytes(change);
        if (plan->n > RG_JOURNAL_MAX || plan->bytes > RG_JOURNAL_BYTES)
            plan_stop_journal(plan);
    }
    plan->head = at;
    return true;
}

static void plan_keep_take(struct plan *plan, struct rg_item *item)
{
    plan->roster->items[plan->roster->n++] = item;
    plan->roster->bytes += rg_item_bytes(item);
}

/* The item of the answer stands in the next snapshot: the one we hold if it does not differ, so
 * that it keeps its stamp, else a copy under the stamp of this change. */
static bool plan_item(struct plan *plan, struct rg_item *held, const struct rg_item *item)
{
    struct rg_stamp at = {.mark = plan->mark, .seq = plan->head.seq + 1};
    struct rg_item *stamped;

    if (held != NULL && rg_item_equal(held, item)) {
        plan_keep_take(plan, rg_item_ref(held));
        return true;
    }
    stamped = rg_item_restamp(item, at);
    if (stamped == NULL)
        return false;
    plan_keep_take(plan, stamped);
    return plan_change(plan, stamped, stamped->jid);
}

/* Walks both sorted sets side by side. */
static bool plan_diff(struct plan *plan, const struct rg_roster *old,
                      const struct rg_roster *next)
{
    size_t o = 0, n = 0;

    while (o < old->n || n < next->n) {
        int order = o == old->n    ? 1
                    : n == next->n ? -1
                                   : strcmp(old->items[o]->jid, next->items[n]->jid);
        bool done;

        if (order < 0) {
            done = plan_change(plan, NULL, old->items[o]->jid);
            o++;
        } else {
            done = plan_item(plan, order == 0 ? old->items[o] : NULL, next->items[n]);
            n++;
            if (order == 0)
                o++;
        }
        if (!done)
            return false;
    }
    return true;
}

/* The first roster we know: one step of the version, each item stamped with it. */
static bool plan_first(struct plan *plan, const struct rg_roster *next)
{
    plan->head = next_stamp(plan->account, plan->mark, 1);
    for (size_t i = 0; i < next->n; i++) {
        struct rg_item *stamped = rg_item_restamp(next->items[i], plan->head);

        if (stamped == NULL)
            return false;
        plan_keep_take(plan, stamped);
    }
    return true;
}

static bool plan_make(struct plan *plan, const struct rg_roster *next)
{
    const struct rg_account *account = plan->account;

    plan->roster = malloc(sizeof(*plan->roster) + next->n * sizeof(plan->roster->items[0]));
    if (plan->roster == NULL)
        return false;
    atomic_init(&plan->roster->refs, 1);
    plan->roster->n = 0;
    plan->roster->bytes = 0;
    return account->presence == RG_ROSTER_PRESENT ? plan_diff(plan, account->roster, next)
                                                  : plan_first(plan, next);
}

enum rg_code rg_account_replace(struct rg_account *account, struct rg_roster *roster,
                                int64_t now_s, size_t *out_changes, bool *out_reset)
{
    bool present = account->presence == RG_ROSTER_PRESENT;
    RG_CLEANUP(plan_fini)
    struct plan plan = {.account = account,
                        .mark = own_mark(account),
                        .now_s = now_s,
                        .journal = present,
                        .head = account->head};

    if (!plan_make(&plan, roster) || !rg_journal_reserve(account, plan.n))
        return RG_E_INTERNAL;
    *out_changes = plan.n;
    *out_reset = !plan.journal;
    if (plan.journal && plan.n == 0)
        return RG_OK; /* the same set: same snapshot, same version, no mark drawn */
    account->mark = plan.mark;
    account->head = plan.head;
    set_roster_take(account, RG_TAKE(plan.roster));
    if (!plan.journal)
        rg_journal_clear(account);
    for (size_t i = 0; i < plan.n; i++)
        rg_journal_append_take(account, plan.changes[i]);
    rg_journal_trim(account, now_s, RG_JOURNAL_BYTES, plan.n);
    plan.n = 0; /* handed over */
    return RG_OK;
}

void rg_kept_fini(struct rg_kept *kept)
{
    for (size_t i = 0; i < kept->n_changes; i++)
        rg_change_unref(kept->changes[i]);
    free(kept->changes);
    rg_roster_unref(kept->roster);
    free(kept->ver.bytes);
    *kept = (struct rg_kept){.epoch = 0};
}

enum rg_code rg_account_restore(struct rg_account *account, struct rg_kept *kept)
{
    if (!rg_journal_reserve(account, kept->n_changes))
        return RG_E_INTERNAL;
    rg_journal_clear(account);
    for (size_t i = 0; i < kept->n_changes; i++)
        rg_journal_append_take(account, kept->changes[i]);
    kept->n_changes = 0;
    rg_roster_unref(account->roster);
    account->roster = RG_TAKE(kept->roster);
    free(account->ver.bytes);
    account->ver = kept->ver;
    kept->ver = (struct rg_server_ver){.known = false};
    account->epoch = kept->epoch;
    account->mark = 0; /* drawn at this process's first change */
    account->head = kept->head;
    account->presence = kept->presence;
    account->confirmed_s = kept->confirmed_s;
    account->trusted = false;
    return RG_OK;
}

static bool fits(const struct rg_account *account, struct rg_change *const *changes, size_t n)
{
    struct rg_stamp at = account->head;

    for (size_t i = 0; i < n; i++) {
        if (!rg_stamp_equal(changes[i]->before, at))
            return false;
        at = changes[i]->at;
    }
    return account->presence == RG_ROSTER_PRESENT && n > 0;
}

bool rg_account_follow(struct rg_account *account, struct rg_change *const *changes, size_t n,
                       int64_t now_s)
{
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *roster = NULL;

    if (!fits(account, changes, n) || !rg_journal_reserve(account, n))
        return false;
    roster = rg_roster_ref(account->roster);
    for (size_t i = 0; i < n; i++) {
        struct rg_roster *next = changes[i]->item != NULL
                                     ? rg_roster_with(roster, changes[i]->item)
                                     : rg_roster_without(roster, changes[i]->jid);

        rg_roster_unref(roster);
        roster = next;
        if (roster == NULL)
            return false;
    }
    for (size_t i = 0; i < n; i++)
        rg_journal_append_take(account, rg_change_ref(changes[i]));
    rg_journal_trim(account, now_s, RG_JOURNAL_BYTES, n);
    account->head = changes[n - 1]->at;
    account->mark = 0;
    account->trusted = false;
    set_roster_take(account, RG_TAKE(roster));
    return true;
}

/* A step away from the head, no version that a caller may hold is continued by what comes
 * after. */
void rg_account_restamp(struct rg_account *account)
{
    account->mark = own_mark(account);
    account->head = next_stamp(account, account->mark, 1);
    rg_journal_clear(account);
}

void rg_account_set_not_found(struct rg_account *account)
{
    if (account->presence == RG_ROSTER_PRESENT)
        rg_account_restamp(account); /* the set that head named is gone */
    rg_journal_clear(account);
    rg_roster_unref(account->roster);
    account->roster = NULL;
    account->presence = RG_ROSTER_NOT_FOUND;
    rg_account_set_ver(account, NULL, 0);
}

void rg_account_set_ver(struct rg_account *account, const char *bytes, size_t len)
{
    char *copy = NULL;

    if (bytes != NULL && len <= RG_SERVER_VER_MAX)
        copy = malloc(len + 1); /* no memory: nothing is known, and all is read next time */
    if (copy != NULL) {
        memcpy(copy, bytes, len);
        copy[len] = '\0';
    }
    free(account->ver.bytes);
    account->ver.bytes = copy;
    account->ver.len = copy != NULL ? len : 0;
    account->ver.known = copy != NULL;
}

/* Drops what no living token can fall under any more. */
static void drop_expired(struct rg_account *account, int64_t now_s)
{
    size_t kept = 0;

    for (size_t i = 0; i < account->n_ends; i++) {
        if (account->ends[i].until_s >= now_s)
            account->ends[kept++] = account->ends[i];
    }
    account->n_ends = kept;
}

static bool same_end(const struct rg_end *a, const struct rg_end *b)
{
    return a->kind == b->kind && (a->kind == RG_END_ALL || memcmp(a->id, b->id, 16) == 0);
}

static void widen(struct rg_end *end, const struct rg_end *by)
{
    if (by->at_s > end->at_s)
        end->at_s = by->at_s;
    if (by->until_s > end->until_s)
        end->until_s = by->until_s;
}

static int by_time(const void *a, const void *b)
{
    int64_t at_a = ((const struct rg_end *)a)->at_s, at_b = ((const struct rg_end *)b)->at_s;

    return (at_a > at_b) - (at_a < at_b);
}

/* Folds the older half of the ends into one RG_END_ALL. */
static void fold_ends(struct rg_account *account)
{
    struct rg_end all = {.kind = RG_END_ALL};
    size_t kept = 0;

    qsort(account->ends, account->n_ends, sizeof(*account->ends), by_time);
    for (size_t i = 0; i < account->n_ends; i++) {
        if (i < ENDS_MAX / 2 || account->ends[i].kind == RG_END_ALL)
            widen(&all, &account->ends[i]);
        else
            account->ends[kept++] = account->ends[i];
    }
    account->ends[kept] = all;
    account->n_ends = kept + 1;
}

enum rg_code rg_account_end(struct rg_account *account, const struct rg_end *end, int64_t now_s)
{
    struct rg_end *ends;

    drop_expired(account, now_s);
    for (size_t i = 0; i < account->n_ends; i++) {
        if (same_end(&account->ends[i], end)) {
            widen(&account->ends[i], end);
            return RG_OK;
        }
    }
    if (account->n_ends >= ENDS_MAX)
        fold_ends(account);
    ends = reallocarray(account->ends, account->n_ends + 1, sizeof(*ends));
    if (ends == NULL)
        return RG_E_INTERNAL;
    account->ends = ends;
    account->ends[account->n_ends++] = *end;
    return RG_OK;
}

bool rg_account_revive_password(struct rg_account *account, const uint8_t tag[16])
{
    for (size_t i = 0; i < account->n_ends; i++) {
        struct rg_end *end = &account->ends[i];

        if (end->kind != RG_END_PASSWORD || memcmp(end->id, tag, 16) != 0)
            continue;
        memmove(end, end + 1, (account->n_ends - i - 1) * sizeof(*end));
        account->n_ends--;
        return true;
    }
    return false;
}

size_t rg_account_version(const struct rg_account *account, char out[RG_VERSION_SIZE])
{
    return rg_version_format(out, account->epoch, account->head);
}

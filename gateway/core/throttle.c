#include "gateway/core/throttle.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/table.h"

enum {
    WINDOW_MS = 5 * 60 * 1000,
    KEYS_MAX = 100 * 1000, /* beyond, newcomers are refused until old keys run out */
    SWEEP = 64             /* keys looked at per reservation, to forget those that ran out */
};

/* The newest failures of one key, as a ring of times. */
struct entry {
    UT_hash_handle hh;
    size_t limit;
    size_t at, n;
    int64_t *times_ms;
    char key[];
};

struct rg_throttle {
    struct entry *entries;
    struct entry *sweep; /* where the next sweep goes on */
};

bool rg_bucket_take(struct rg_bucket *bucket, int64_t rate, int64_t now_ms)
{
    double full = (double)rate;
    double gained = (double)(now_ms - bucket->filled_ms) * full / 1000.0;
    double left = bucket->filled_ms == 0 ? full : bucket->left + gained;
    left = left > full ? full : left;
    bucket->filled_ms = now_ms;
    bucket->left = left >= 1.0 ? left - 1.0 : left;
    return left >= 1.0;
}

struct rg_throttle *rg_throttle_create(void)
{
    return calloc(1, sizeof(struct rg_throttle));
}

static void entry_drop(struct rg_throttle *throttle, struct entry *entry)
{
    if (throttle->sweep == entry)
        throttle->sweep = entry->hh.next;
    HASH_DEL(throttle->entries, entry);
    free(entry->times_ms);
    free(entry);
}

void rg_throttle_destroy(struct rg_throttle *throttle)
{
    if (throttle == NULL)
        return;
    while (throttle->entries != NULL)
        entry_drop(throttle, throttle->entries);
    free(throttle);
}

static void forget_old(struct entry *entry, int64_t now_ms)
{
    while (entry->n > 0 && entry->times_ms[entry->at] <= now_ms - WINDOW_MS) {
        entry->at = (entry->at + 1) % entry->limit;
        entry->n--;
    }
}

static void sweep(struct rg_throttle *throttle, int64_t now_ms)
{
    for (int i = 0; i < SWEEP && throttle->entries != NULL; i++) {
        struct entry *entry = throttle->sweep != NULL ? throttle->sweep : throttle->entries;
        throttle->sweep = entry->hh.next;
        forget_old(entry, now_ms);
        if (entry->n == 0)
            entry_drop(throttle, entry);
        if (throttle->sweep == NULL)
            break;
    }
}

static struct entry *entry_find(struct rg_throttle *throttle, const char *key)
{
    struct entry *entry = NULL;
    HASH_FIND(hh, throttle->entries, key, strlen(key), entry);
    return entry;
}

static struct entry *entry_add(struct rg_throttle *throttle, const char *key, size_t limit)
{
    size_t len = strlen(key);
    if (HASH_COUNT(throttle->entries) >= KEYS_MAX)
        return NULL;
    struct entry *entry = calloc(1, sizeof(*entry) + len + 1);
    if (entry == NULL)
        return NULL;
    entry->limit = limit;
    entry->times_ms = calloc(limit, sizeof(*entry->times_ms));
    memcpy(entry->key, key, len);
    if (entry->times_ms != NULL)
        HASH_ADD_KEYPTR(hh, throttle->entries, entry->key, len, entry);
    if (entry->times_ms == NULL || entry->hh.tbl == NULL) {
        free(entry->times_ms);
        free(entry);
        return NULL;
    }
    return entry;
}

unsigned rg_throttle_reserve(struct rg_throttle *throttle, const char *key, int64_t limit,
                             int64_t now_ms)
{
    if (limit <= 0)
        return 0;
    sweep(throttle, now_ms);
    struct entry *entry = entry_find(throttle, key);
    if (entry == NULL)
        entry = entry_add(throttle, key, (size_t)limit);
    if (entry == NULL)
        return WINDOW_MS / 1000;
    forget_old(entry, now_ms);
    if (entry->n == entry->limit)
        return (unsigned)((entry->times_ms[entry->at] + WINDOW_MS - now_ms + 999) / 1000);
    entry->times_ms[(entry->at + entry->n) % entry->limit] = now_ms;
    entry->n++;
    return 0;
}

void rg_throttle_give_back(struct rg_throttle *throttle, const char *key)
{
    struct entry *entry = entry_find(throttle, key);
    if (entry == NULL || entry->n == 0)
        return;
    entry->n--; /* the newest: which of several it was does not matter */
    if (entry->n == 0)
        entry_drop(throttle, entry);
}

void rg_throttle_clear(struct rg_throttle *throttle, const char *key)
{
    struct entry *entry = entry_find(throttle, key);
    if (entry != NULL)
        entry_drop(throttle, entry);
}

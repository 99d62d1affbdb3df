#include "http/limits.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/table.h"
#include "http/address.h"

struct entry {
    int64_t counts[RG_LIMITED_COUNT];
    UT_hash_handle hh;
    char key[RG_ADDRESS_KEY_SIZE];
};

struct rg_limits {
    pthread_mutex_t mutex;
    struct entry *entries;
    int64_t counts[RG_LIMITED_COUNT];
    int64_t in_all[RG_LIMITED_COUNT];
    int64_t per_address[RG_LIMITED_COUNT];
};

struct rg_limits *rg_limits_create(void)
{
    struct rg_limits *limits = calloc(1, sizeof(*limits));
    if (limits != NULL)
        pthread_mutex_init(&limits->mutex, NULL);
    return limits;
}

void rg_limits_destroy(struct rg_limits *limits)
{
    if (limits == NULL)
        return;
    struct entry *entry, *next;
    HASH_ITER(hh, limits->entries, entry, next)
    {
        HASH_DEL(limits->entries, entry);
        free(entry);
    }
    pthread_mutex_destroy(&limits->mutex);
    free(limits);
}

void rg_limits_set(struct rg_limits *limits, enum rg_limited what, int64_t in_all,
                   int64_t per_address)
{
    limits->in_all[what] = in_all;
    limits->per_address[what] = per_address;
}

/* The entry of the key, made if needed; NULL when out of memory. */
static struct entry *entry_of_locked(struct rg_limits *limits, const char *key)
{
    struct entry *entry = NULL;
    size_t len = strlen(key);
    HASH_FIND(hh, limits->entries, key, len, entry);
    if (entry != NULL)
        return entry;
    entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    memcpy(entry->key, key, len);
    HASH_ADD_KEYPTR(hh, limits->entries, entry->key, len, entry);
    if (entry->hh.tbl == NULL) {
        free(entry);
        return NULL;
    }
    return entry;
}

static enum rg_limit enter_locked(struct rg_limits *limits, enum rg_limited what,
                                  const char *key)
{
    if (limits->counts[what] >= limits->in_all[what])
        return RG_LIMIT_IN_ALL;
    if (key[0] != '\0') {
        struct entry *entry = entry_of_locked(limits, key);
        if (entry == NULL)
            return RG_LIMIT_IN_ALL;
        if (entry->counts[what] >= limits->per_address[what])
            return RG_LIMIT_ADDRESS;
        entry->counts[what]++;
    }
    limits->counts[what]++;
    return RG_LIMIT_FINE;
}

enum rg_limit rg_limits_enter(struct rg_limits *limits, enum rg_limited what, const char *key)
{
    pthread_mutex_lock(&limits->mutex);
    enum rg_limit limit = enter_locked(limits, what, key);
    pthread_mutex_unlock(&limits->mutex);
    return limit;
}

static bool unused(const struct entry *entry)
{
    for (int i = 0; i < RG_LIMITED_COUNT; i++) {
        if (entry->counts[i] != 0)
            return false;
    }
    return true;
}

void rg_limits_leave(struct rg_limits *limits, enum rg_limited what, const char *key)
{
    pthread_mutex_lock(&limits->mutex);
    limits->counts[what]--;
    struct entry *entry = NULL;
    HASH_FIND(hh, limits->entries, key, strlen(key), entry);
    if (entry != NULL) {
        entry->counts[what]--;
        if (unused(entry)) {
            HASH_DEL(limits->entries, entry);
            free(entry);
        }
    }
    pthread_mutex_unlock(&limits->mutex);
}

int64_t rg_limits_count(struct rg_limits *limits, enum rg_limited what)
{
    pthread_mutex_lock(&limits->mutex);
    int64_t count = limits->counts[what];
    pthread_mutex_unlock(&limits->mutex);
    return count;
}

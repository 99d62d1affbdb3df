#include "gateway/core/door.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/table.h"

enum { SHARDS = 64 };

struct entry {
    UT_hash_handle hh;
    enum rg_state state;
    enum rg_door_reads reads;
    struct rg_snapshot *snapshot;
    struct rg_end *ends;
    size_t n_ends;
    _Atomic int64_t last_used_ms;
    char user[];
};

struct shard {
    pthread_mutex_t mutex;
    struct entry *entries;
};

struct rg_door {
    struct shard shards[SHARDS];
    _Atomic int64_t lease_until_ms;
};

const char *rg_state_name(enum rg_state state)
{
    switch (state) {
    case RG_STATE_CONNECTING:
        return "connecting";
    case RG_STATE_LIVE:
        return "live";
    case RG_STATE_RESUMING:
        return "resuming";
    case RG_STATE_OFFLINE:
        return "offline";
    }
    return "offline";
}

void rg_view_fini(struct rg_view *view)
{
    rg_snapshot_unref(view->snapshot);
    view->snapshot = NULL;
}

struct rg_door *rg_door_create(void)
{
    struct rg_door *door = calloc(1, sizeof(*door));
    if (door == NULL)
        return NULL;
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&door->shards[i].mutex, NULL);
    return door;
}

static void entry_free(struct entry *entry)
{
    rg_snapshot_unref(entry->snapshot);
    free(entry->ends);
    free(entry);
}

void rg_door_destroy(struct rg_door *door)
{
    if (door == NULL)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        struct entry *entry;
        struct entry *next;
        HASH_ITER(hh, door->shards[i].entries, entry, next)
        {
            HASH_DEL(door->shards[i].entries, entry);
            entry_free(entry);
        }
        pthread_mutex_destroy(&door->shards[i].mutex);
    }
    free(door);
}

static struct shard *shard_of(struct rg_door *door, const char *user, size_t len,
                              unsigned *out_hash)
{
    uint64_t hash = rg_hash(user, len);
    *out_hash = (unsigned)hash;
    return &door->shards[(hash >> 32) % SHARDS];
}

static struct entry *find_locked(struct shard *shard, const char *user, size_t len,
                                 unsigned hash)
{
    struct entry *entry = NULL;
    HASH_FIND_BYHASHVALUE(hh, shard->entries, user, len, hash, entry);
    return entry;
}

enum rg_code rg_ends_check(const struct rg_end *ends, size_t n, const struct rg_claims *claims)
{
    for (size_t i = 0; i < n; i++) {
        const struct rg_end *end = &ends[i];
        switch (end->kind) {
        case RG_END_SIGN_IN:
            if (memcmp(end->id, claims->sign_in, RG_ID_BYTES) == 0)
                return RG_E_UNAUTHORIZED;
            break;
        case RG_END_ALL:
            if (claims->given_s <= end->at_s)
                return RG_E_UNAUTHORIZED;
            break;
        case RG_END_PASSWORD:
            if (memcmp(end->id, claims->password_tag, RG_ID_BYTES) == 0)
                return RG_E_CREDENTIALS;
            break;
        }
    }
    return RG_OK;
}

void rg_door_lease(struct rg_door *door, int64_t until_ms)
{
    atomic_store_explicit(&door->lease_until_ms, until_ms, memory_order_relaxed);
}

/* With the shard's mutex held. */
static bool may_serve(struct rg_door *door, const struct entry *entry, int64_t now_ms)
{
    if (entry->state != RG_STATE_LIVE || entry->snapshot == NULL)
        return false;
    switch (entry->reads) {
    case RG_DOOR_FREE:
        return true;
    case RG_DOOR_LEASED:
        return now_ms <= atomic_load_explicit(&door->lease_until_ms, memory_order_relaxed);
    case RG_DOOR_ASK:
        return false;
    }
    return false;
}

enum rg_code rg_door_look(struct rg_door *door, const struct rg_claims *claims, int64_t now_ms,
                          struct rg_view *out)
{
    size_t len = strlen(claims->user);
    unsigned hash;
    struct shard *shard = shard_of(door, claims->user, len, &hash);
    enum rg_code code = RG_E_NOT_FOUND;
    pthread_mutex_lock(&shard->mutex);
    struct entry *entry = find_locked(shard, claims->user, len, hash);
    if (entry != NULL) {
        atomic_store_explicit(&entry->last_used_ms, now_ms, memory_order_relaxed);
        code = rg_ends_check(entry->ends, entry->n_ends, claims);
        if (code == RG_OK && !may_serve(door, entry, now_ms))
            code = RG_E_NOT_FOUND;
        if (code == RG_OK)
            *out = (struct rg_view){.snapshot = rg_snapshot_ref(entry->snapshot), .hit = true};
    }
    pthread_mutex_unlock(&shard->mutex);
    return code;
}

static struct entry *entry_create(const char *user, size_t len)
{
    struct entry *entry = calloc(1, sizeof(*entry) + len + 1);
    if (entry != NULL)
        memcpy(entry->user, user, len);
    return entry;
}

static struct entry *find_or_add_locked(struct shard *shard, const char *user, size_t len,
                                        unsigned hash)
{
    struct entry *entry = find_locked(shard, user, len, hash);
    if (entry != NULL)
        return entry;
    entry = entry_create(user, len);
    if (entry == NULL)
        return NULL;
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, shard->entries, entry->user, len, hash, entry);
    if (entry->hh.tbl == NULL) {
        free(entry);
        return NULL;
    }
    return entry;
}

enum rg_code rg_door_publish(struct rg_door *door, const char *user, enum rg_state state,
                             enum rg_door_reads reads, struct rg_snapshot *snapshot,
                             const struct rg_end *ends, size_t n_ends)
{
    size_t len = strlen(user);
    unsigned hash;
    struct shard *shard = shard_of(door, user, len, &hash);
    struct rg_end *ends_copy = NULL;
    if (n_ends != 0) {
        ends_copy = malloc(n_ends * sizeof(*ends));
        if (ends_copy == NULL) {
            /* A door that cannot hold what ended must not let anybody through. */
            rg_door_remove(door, user);
            return RG_E_INTERNAL;
        }
        memcpy(ends_copy, ends, n_ends * sizeof(*ends));
    }
    struct rg_snapshot *old_snapshot = NULL;
    struct rg_end *old_ends = ends_copy;
    pthread_mutex_lock(&shard->mutex);
    struct entry *entry = find_or_add_locked(shard, user, len, hash);
    if (entry != NULL) {
        old_snapshot = entry->snapshot;
        old_ends = entry->ends;
        entry->state = state;
        entry->reads = reads;
        entry->snapshot = snapshot != NULL ? rg_snapshot_ref(snapshot) : NULL;
        entry->ends = ends_copy;
        entry->n_ends = n_ends;
    }
    pthread_mutex_unlock(&shard->mutex);
    rg_snapshot_unref(old_snapshot);
    free(old_ends);
    return entry != NULL ? RG_OK : RG_E_INTERNAL;
}

void rg_door_remove(struct rg_door *door, const char *user)
{
    size_t len = strlen(user);
    unsigned hash;
    struct shard *shard = shard_of(door, user, len, &hash);
    pthread_mutex_lock(&shard->mutex);
    struct entry *entry = find_locked(shard, user, len, hash);
    if (entry != NULL)
        HASH_DEL(shard->entries, entry);
    pthread_mutex_unlock(&shard->mutex);
    if (entry != NULL)
        entry_free(entry);
}

int64_t rg_door_last_used_ms(struct rg_door *door, const char *user)
{
    size_t len = strlen(user);
    unsigned hash;
    struct shard *shard = shard_of(door, user, len, &hash);
    pthread_mutex_lock(&shard->mutex);
    struct entry *entry = find_locked(shard, user, len, hash);
    int64_t used =
        entry == NULL ? 0 : atomic_load_explicit(&entry->last_used_ms, memory_order_relaxed);
    pthread_mutex_unlock(&shard->mutex);
    return used;
}

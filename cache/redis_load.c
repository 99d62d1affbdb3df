/* From Redis into the account: loading and looking again (redis_store.h). */
#include <stdlib.h>
#include <string.h>

#include "cache/redis_store.h"
#include "gateway/base/log.h"

enum { OWNER, AT, STATE, ENDS, ITEMS, JOURNAL, PARTS };

static bool is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING;
}

static bool is_pairs(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements % 2 == 0;
}

static bool well_formed(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == PARTS &&
           is_text(reply->element[OWNER]) && is_text(reply->element[AT]) &&
           is_text(reply->element[STATE]) && is_pairs(reply->element[ENDS]) &&
           is_pairs(reply->element[ITEMS]) &&
           reply->element[JOURNAL]->type == REDIS_REPLY_ARRAY;
}

/* ---- what was kept */

static bool read_items(struct rg_kept *kept, const struct rg_redis_place *place,
                       const struct rg_redis_state *state, size_t key, const redisReply *items)
{
    struct rg_redis_digest digest;
    struct rg_roster_builder builder;

    if (state->count != items->elements / 2)
        return false;
    if (state->presence != RG_ROSTER_PRESENT)
        return state->count == 0;
    rg_roster_builder_init(&builder);
    for (size_t i = 0; i < items->elements; i += 2) {
        const redisReply *jid = items->element[i], *value = items->element[i + 1];
        struct rg_item *item = is_text(jid) && is_text(value)
                                   ? rg_redis_get_item(place, jid->str, (size_t)jid->len,
                                                       value->str, (size_t)value->len)
                                   : NULL;

        if (item == NULL) {
            rg_roster_builder_fini(&builder);
            return false;
        }
        rg_roster_builder_add_take(&builder, item);
    }
    kept->roster = rg_roster_builder_finish(&builder);
    if (kept->roster == NULL || kept->roster->n != state->count)
        return false;
    digest = rg_redis_digest_of(place, key, kept->roster);
    return digest.low == state->digest.low && digest.high == state->digest.high;
}

/* The journal's newest changes, as far back as each was made on the one before it; what does
 * not fit ends it there, and callers from before get a snapshot. */
static bool read_journal(struct rg_kept *kept, const struct rg_redis_place *place,
                         const redisReply *journal)
{
    struct rg_stamp at = kept->head;
    size_t n = journal->elements < RG_JOURNAL_MAX ? journal->elements : RG_JOURNAL_MAX;
    struct rg_change **changes = calloc(n + 1, sizeof(struct rg_change *));
    size_t first = n;

    if (changes == NULL)
        return false;
    while (first > 0) {
        const redisReply *value = journal->element[journal->elements - (n - first) - 1];
        struct rg_change *change =
            is_text(value) ? rg_redis_get_change(place, value->str, (size_t)value->len) : NULL;

        if (change == NULL || !rg_stamp_equal(change->at, at) ||
            change->before.seq + 1 != change->at.seq) {
            rg_change_unref(change);
            break;
        }
        changes[--first] = change;
        at = change->before;
    }
    memmove(changes, changes + first, (n - first) * sizeof(struct rg_change *));
    kept->changes = changes;
    kept->n_changes = n - first;
    return true;
}

static bool read_ver(struct rg_kept *kept, const struct rg_redis_state *state)
{
    if (!state->ver_known)
        return true;
    kept->ver.bytes = malloc(state->ver_len + 1);
    if (kept->ver.bytes == NULL)
        return false;
    memcpy(kept->ver.bytes, state->ver, state->ver_len);
    kept->ver.bytes[state->ver_len] = '\0';
    kept->ver.len = state->ver_len;
    kept->ver.known = true;
    return true;
}

/* All of it checks out, or it is a miss: nothing of it is taken. */
static bool adopt(struct rg_record *record, const redisReply *reply)
{
    struct rg_redis_place place = {.mac = record->redis->mac, .user = record->account->user};
    RG_CLEANUP(rg_kept_fini) struct rg_kept kept = {.epoch = 0};
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *roster = NULL;
    const redisReply *sealed = reply->element[STATE];
    struct rg_redis_state state;
    char at[RG_VERSION_SIZE];
    size_t key;

    if (!rg_redis_get_state(&state, &place, &key, sealed->str, (size_t)sealed->len))
        return false;
    rg_version_format(at, state.epoch, state.head);
    if (strcmp(at, record->at) != 0 || state.count > (uint64_t)record->redis->items_max)
        return false;
    place.epoch = state.epoch;
    kept.epoch = state.epoch;
    kept.head = state.head;
    kept.presence = state.presence;
    kept.confirmed_s = state.confirmed_s;
    if (!read_items(&kept, &place, &state, key, reply->element[ITEMS]) ||
        !read_journal(&kept, &place, reply->element[JOURNAL]) || !read_ver(&kept, &state))
        return false;
    if (kept.roster != NULL)
        roster = rg_roster_ref(kept.roster);
    if (rg_account_restore(record->account, &kept) != RG_OK)
        return false;
    rg_redis_base_fini(&record->base);
    record->base = (struct rg_redis_base){
        .digest = key == 0 ? state.digest : rg_redis_digest_of(&place, 0, roster),
        .known = true};
    memcpy(record->base.at, at, sizeof(at));
    record->base.roster = RG_TAKE(roster);
    return true;
}

/* Is what Redis has to take the place of what this process still had in memory? */
static bool wanted(const struct rg_record *record, const char *owner)
{
    const struct rg_account *account = record->account;
    struct rg_version held;
    size_t index;

    if (account->presence == RG_ROSTER_UNKNOWN)
        return true;
    /* What we wrote last, or an older state of it, tells nothing new; what somebody else wrote
     * since does. */
    if (strcmp(owner, record->redis->id) == 0)
        return false;
    return !rg_version_parse(&held, record->at, strlen(record->at)) ||
           !rg_account_since(account, &held, &index);
}

/* ---- replies */

/* Remembers whose and which version it is. */
static void note_place(struct rg_record *record, const redisReply *owner, const redisReply *at)
{
    if ((size_t)at->len >= sizeof(record->at) || strlen(at->str) != (size_t)at->len ||
        (size_t)owner->len >= sizeof(record->owner) ||
        strlen(owner->str) != (size_t)owner->len) {
        record->erase = true; /* none of our writing */
        return;
    }
    memcpy(record->at, at->str, (size_t)at->len + 1);
    record->owned = strcmp(owner->str, record->redis->id) == 0;
    if (record->base.known && strcmp(record->base.at, record->at) != 0)
        rg_redis_base_fini(&record->base);
}

static void take(struct rg_record *record, const redisReply *reply)
{
    struct rg_redis *redis = record->redis;
    struct rg_account *account = record->account;
    bool news = rg_record_merge_ends(record, reply->element[ENDS]);
    char version[RG_VERSION_SIZE];

    note_place(record, reply->element[OWNER], reply->element[AT]);
    rg_account_version(account, version);
    if (!record->loaded && !record->erase && record->at[0] != '\0' &&
        strcmp(record->at, version) != 0 && wanted(record, reply->element[OWNER]->str) &&
        !adopt(record, reply)) {
        rg_metric_add(redis->metrics.damaged, 1);
        rg_log(RG_LOG_WARN, "redis", "not-believed");
    }
    rg_account_version(account, version);
    if (account->trusted && strcmp(record->at, version) != 0)
        record->write = true;
    if (news && record->loaded && redis->on_ends != NULL)
        redis->on_ends(redis->on_ends_arg, account);
}

static void deliver(struct rg_record *record)
{
    struct rg_redis_waiter *waiter;

    record->loaded = true;
    record->redis->memory->ops->commit(record->redis->memory, record->account, 0);
    while ((waiter = STAILQ_FIRST(&record->waiters)) != NULL) {
        STAILQ_REMOVE_HEAD(&record->waiters, entry);
        waiter->fn(waiter->arg, record->redis->stopping ? NULL : record->account);
        free(waiter);
    }
}

static void not_read(struct rg_record *record, const redisReply *reply)
{
    struct rg_redis *redis = record->redis;

    rg_metric_add(redis->metrics.errors, 1);
    record->refresh = true;
    if (rg_redis_is_error(reply, "WRONGTYPE"))
        record->erase = true; /* somebody put something else there */
    else if (reply != NULL)
        rg_record_rest(record, RG_REDIS_ALIVE_MS);
}

static void on_loaded(void *arg, const redisReply *reply)
{
    struct rg_record *record = arg;

    record->pins++;
    if (reply != NULL && well_formed(reply))
        take(record, reply);
    else
        not_read(record, reply);
    if (!record->loaded)
        deliver(record);
    record->pins--;
    rg_record_done(record);
}

static bool ask(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;
    const char *user = record->account->user;
    struct rg_redis_args args = {.n = 0};
    char version[RG_VERSION_SIZE] = "";

    if (record->account->presence != RG_ROSTER_UNKNOWN)
        rg_account_version(record->account, version);
    rg_redis_args_puts(&args, "4");
    rg_redis_key(&args, user, "meta");
    rg_redis_key(&args, user, "items");
    rg_redis_key(&args, user, "journal");
    rg_redis_key(&args, user, "ends");
    rg_redis_args_puts(&args, version);
    return rg_redis_link_call_take(redis->link, &rg_redis_script_load, &args, on_loaded,
                                   record);
}

bool rg_record_start_refresh(struct rg_record *record)
{
    record->refresh = false;
    if (ask(record))
        return true;
    record->refresh = true;
    return false;
}

/* ---- the store's call */

static struct rg_record *record_create(struct rg_redis *redis, struct rg_account *account)
{
    struct rg_record *record = calloc(1, sizeof(*record));

    if (record == NULL)
        return NULL;
    STAILQ_INIT(&record->waiters);
    record->redis = redis;
    record->account = account;
    HASH_ADD_KEYPTR(hh, redis->records, account->user, strlen(account->user), record);
    if (record->hh.tbl == NULL) {
        free(record);
        return NULL;
    }
    rg_account_ref(account);
    /* Nobody followed the server while nobody held it. */
    account->trusted = false;
    return record;
}

static void on_later(struct rg_message *message)
{
    struct rg_record *record = RG_CONTAINER_OF(message, struct rg_record, later);

    record->posted = false;
    record->pins--;
    rg_record_consider(record);
}

/* The memory store's own reference is still under way. */
static void consider_later(struct rg_record *record)
{
    if (record->posted)
        return;
    record->posted = true;
    record->pins++;
    record->later.fn = on_later;
    rg_loop_post(record->redis->loop, &record->later);
}

static void on_memory(void *arg, struct rg_account *account)
{
    struct rg_redis_waiter *waiter = arg;
    struct rg_redis *redis = waiter->redis;
    struct rg_record *record;

    if (redis->stopping)
        account = NULL;
    record = account != NULL ? rg_record_find(redis, account->user) : NULL;
    if (record == NULL && account != NULL)
        record = record_create(redis, account);
    if (record == NULL || record->loaded) {
        if (record != NULL)
            consider_later(record);
        waiter->fn(waiter->arg, account);
        free(waiter);
        return;
    }
    STAILQ_INSERT_TAIL(&record->waiters, waiter, entry);
    if (record->busy)
        return;
    record->busy = ask(record);
    if (record->busy)
        return;
    record->refresh = true; /* its ends, when Redis is back */
    consider_later(record);
    deliver(record);
    rg_record_wish(record);
}

void rg_redis_load(struct rg_store *store, const char *user, rg_store_load_fn fn, void *arg)
{
    struct rg_redis *redis = RG_CONTAINER_OF(store, struct rg_redis, store);
    struct rg_redis_waiter *waiter = calloc(1, sizeof(*waiter));

    if (waiter == NULL) { /* then without Redis */
        redis->memory->ops->load(redis->memory, user, fn, arg);
        return;
    }
    *waiter = (struct rg_redis_waiter){.fn = fn, .arg = arg, .redis = redis};
    redis->memory->ops->load(redis->memory, user, on_memory, waiter);
}

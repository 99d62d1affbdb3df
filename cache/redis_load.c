/* From Redis into the account: loading and looking again (redis_store.h). */
#include <stdlib.h>
#include <string.h>

#include "cache/redis_store.h"
#include "gateway/base/log.h"

enum { OWNER, AT, STATE, ENDS, ITEMS, JOURNAL, EXTENT, RUN, UNREAD, PARTS };

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
           reply->element[JOURNAL]->type == REDIS_REPLY_ARRAY &&
           is_text(reply->element[EXTENT]) && is_text(reply->element[RUN]) &&
           is_text(reply->element[UNREAD]);
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
        .keys = record->redis->keys,
        .known = true};
    memcpy(record->base.at, at, sizeof(at));
    record->base.roster = RG_TAKE(roster);
    return true;
}

/* The same items, whatever their versions. */
static bool shows_the_same(const struct rg_record *record, const redisReply *reply)
{
    struct rg_redis_place place = {.mac = record->redis->mac, .user = record->account->user};
    RG_CLEANUP(rg_kept_fini) struct rg_kept kept = {.epoch = 0};
    const struct rg_account *account = record->account;
    const redisReply *sealed = reply->element[STATE];
    struct rg_redis_state state;
    size_t key;

    if (strcmp(reply->element[EXTENT]->str, "same") == 0)
        return record->at[0] != '\0'; /* this very version, or nothing yet */
    if (!rg_redis_get_state(&state, &place, &key, sealed->str, (size_t)sealed->len))
        return false;
    place.epoch = state.epoch;
    if (!read_items(&kept, &place, &state, key, reply->element[ITEMS]))
        return false;
    return state.presence == account->presence && rg_roster_equal(kept.roster, account->roster);
}

/* Its owner is alive: what was found alone is given up for what the owner shows once both are
 * the same. Then nobody is told anything older than before, and nothing has to be read again.
 */
static bool gives_way(struct rg_record *record, const redisReply *reply)
{
    if (rg_record_found_alone(record) && !shows_the_same(record, reply)) {
        rg_record_go_on_alone(record);
        return false;
    }
    record->account->trusted = false;
    record->write = false;
    return true;
}

/* ---- what came after what is here */

/* Does the base (the account as it is) become the state's set by these changes? */
static bool leads_to(const struct rg_record *record, const struct rg_redis_place *place,
                     const struct rg_kept *kept, const struct rg_redis_state *state)
{
    struct rg_redis_digest digest = record->base.digest;
    char version[RG_VERSION_SIZE];

    rg_account_version(record->account, version);
    if (!rg_record_has_base(record) || strcmp(record->base.at, version) != 0)
        return false;
    for (size_t i = 0; i < kept->n_changes; i++) {
        const struct rg_change *change = kept->changes[i];
        const struct rg_item *before = rg_roster_find(record->account->roster, change->jid);

        for (size_t k = 0; k < i; k++)
            if (strcmp(kept->changes[k]->jid, change->jid) == 0)
                before = kept->changes[k]->item;
        if (before != NULL)
            rg_redis_digest_remove(&digest, place, 0, before);
        if (change->item != NULL)
            rg_redis_digest_add(&digest, place, 0, change->item);
    }
    return digest.low == state->digest.low && digest.high == state->digest.high;
}

/* Appends what another instance has written since, if it fits; else all of it is to be read. */
static bool follow(struct rg_record *record, const redisReply *reply)
{
    struct rg_account *account = record->account;
    struct rg_redis_place place = {
        .mac = record->redis->mac, .user = account->user, .epoch = account->epoch};
    RG_CLEANUP(rg_kept_fini) struct rg_kept kept = {.epoch = 0};
    const redisReply *sealed = reply->element[STATE];
    struct rg_redis_state state;
    char at[RG_VERSION_SIZE];
    size_t key;

    if (!rg_redis_get_state(&state, &place, &key, sealed->str, (size_t)sealed->len) || key != 0)
        return false;
    rg_version_format(at, state.epoch, state.head);
    kept.head = state.head;
    if (strcmp(at, record->at) != 0 || state.epoch != account->epoch ||
        state.presence != RG_ROSTER_PRESENT ||
        !read_journal(&kept, &place, reply->element[JOURNAL]) ||
        !leads_to(record, &place, &kept, &state) ||
        !rg_account_follow(account, kept.changes, kept.n_changes,
                           rg_loop_unix_s(record->redis->loop)))
        return false;
    account->confirmed_s = state.confirmed_s;
    rg_account_set_ver(account, state.ver_known ? state.ver : NULL, state.ver_len);
    rg_redis_base_fini(&record->base);
    record->base = (struct rg_redis_base){.roster = rg_roster_ref(account->roster),
                                          .digest = state.digest,
                                          .keys = record->redis->keys,
                                          .known = true};
    memcpy(record->base.at, at, sizeof(at));
    rg_metric_add(record->redis->metrics.followed, (int64_t)kept.n_changes);
    return true;
}

/* ---- replies */

/* Remembers whose and which version it is, and when it was written. */
static void note_place(struct rg_record *record, const redisReply *reply)
{
    const redisReply *owner = reply->element[OWNER], *at = reply->element[AT];
    const char *run = reply->element[RUN]->str;

    record->unread = strcmp(reply->element[UNREAD]->str, "1") == 0;
    record->dumped =
        *run != '\0' && *record->redis->run != '\0' && strcmp(run, record->redis->run) != 0;
    if ((size_t)at->len >= sizeof(record->at) || strlen(at->str) != (size_t)at->len ||
        (size_t)owner->len >= sizeof(record->owner) ||
        strlen(owner->str) != (size_t)owner->len) {
        record->erase = true; /* none of our writing */
        record->owner[0] = '\0';
        return;
    }
    /* What was here before the first look is of before, too: nobody has signed in since. */
    record->erased = record->erased || ((record->at[0] != '\0' || !record->loaded) &&
                                        at->len == 0 && strcmp(run, "erased") == 0);
    memcpy(record->at, at->str, (size_t)at->len + 1);
    memcpy(record->owner, owner->str, (size_t)owner->len + 1);
}

/* Is what Redis has to take the place of what is here? An older state of it tells nothing new:
 * Redis was rolled back, or a write is on its way. Whoever writes in this run of Redis has read
 * the roster from the XMPP server; what was written in another one may be as old as the dump.
 */
static bool is_news(const struct rg_record *record)
{
    const struct rg_account *account = record->account;
    struct rg_version kept;

    if (account->trusted || record->erase || record->at[0] == '\0' ||
        rg_record_is_older(record))
        return false;
    if (account->presence == RG_ROSTER_UNKNOWN ||
        !rg_version_parse(&kept, record->at, strlen(record->at)))
        return true;
    return (kept.epoch == account->epoch && kept.at.seq > account->head.seq) ||
           (rg_record_is_foreign(record) && !record->dumped);
}

/* Takes over what Redis has, or finds that nobody can. */
static void take_content(struct rg_record *record, const redisReply *reply)
{
    if (strcmp(reply->element[EXTENT]->str, "same") == 0) {
        record->whole = true; /* it was taken for older when it was asked for */
        return;
    }
    if (strcmp(reply->element[EXTENT]->str, "tail") == 0) {
        record->whole = !follow(record, reply);
        record->moved = record->moved || !record->whole;
        return;
    }
    record->lame = !adopt(record, reply);
    if (!record->lame) {
        record->moved = true;
        return;
    }
    rg_metric_add(record->redis->metrics.damaged, 1);
    rg_log(RG_LOG_WARN, "redis", "not-believed");
}

static void take_roster(struct rg_record *record, const redisReply *reply)
{
    struct rg_account *account = record->account;
    char version[RG_VERSION_SIZE];

    rg_record_settle_role(record);
    rg_account_version(account, version);
    record->lame = false;
    record->whole = false;
    if (strcmp(record->at, version) != 0 && is_news(record))
        take_content(record, reply);
    else if (strcmp(record->at, version) != 0 && !account->trusted && !record->erase)
        rg_record_note_older(record);
    if (record->lame)
        rg_record_settle_role(record);
    if (record->base.known && strcmp(record->base.at, record->at) != 0)
        rg_redis_base_fini(&record->base);
    rg_account_version(account, version);
    if (account->trusted && !record->forgets && strcmp(record->at, version) != 0)
        record->write = true;
}

/* False: this process goes on alone, and looks again soon. */
static bool take(struct rg_record *record, const redisReply *reply)
{
    struct rg_redis *redis = record->redis;
    bool ends = rg_record_merge_ends(record, reply->element[ENDS]);
    bool taken = !record->yielding || gives_way(record, reply);

    if (record->erased)
        rg_record_forget(record);
    record->erased = false;
    if (taken) {
        record->disagrees_ms = 0;
        take_roster(record, reply);
    }
    if (ends && record->loaded && redis->watcher != NULL)
        redis->watcher->ended(redis->watcher_arg, record->account);
    return taken;
}

static void deliver(struct rg_record *record)
{
    struct rg_redis_waiter *waiter;

    record->loaded = true;
    record->moved = false; /* whoever loads looks at all of it */
    (void)record->redis->memory->ops->commit(record->redis->memory, record->account, NULL,
                                             NULL);
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
    else if (reply != NULL && !rg_redis_refused(redis, reply))
        rg_record_rest(record, RG_REDIS_ALIVE_MS);
    else if (reply != NULL)
        rg_record_rest(record, RG_REDIS_BEAT_MS);
    if (!redis->refuses) /* else it is read, and claimed once Redis writes again */
        record->claim = record->claim || record->account->trusted;
    rg_record_alone(record);
}

static void on_loaded(void *arg, const redisReply *reply)
{
    struct rg_record *record = arg;
    bool good = reply != NULL && well_formed(reply), busy = false, taken = false;

    record->pins++;
    if (good)
        note_place(record, reply);
    if (!good)
        not_read(record, reply);
    else if (rg_record_owner_asked_after(record))
        busy = true;
    else
        taken = take(record, reply);
    if (!record->loaded)
        deliver(record);
    if (taken)
        rg_record_share_loaded(record);
    record->pins--;
    if (!busy)
        rg_record_done(record);
}

static bool ask(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;
    const char *user = record->account->user;
    struct rg_redis_args args = {.n = 0};
    char version[RG_VERSION_SIZE] = "";

    if (rg_record_is_older(record) && !record->yields)
        memcpy(version, record->at, sizeof(version));
    else if (record->account->presence != RG_ROSTER_UNKNOWN)
        rg_account_version(record->account, version);
    record->claiming = !record->yields && rg_record_wants_claim(record);
    rg_redis_args_puts(&args, "4");
    rg_redis_key(&args, user, "meta");
    rg_redis_key(&args, user, "items");
    rg_redis_key(&args, user, "journal");
    rg_redis_key(&args, user, "ends");
    rg_redis_args_puts(&args, version);
    rg_redis_args_puts(&args, record->whole || record->yields || !rg_record_has_base(record)
                                  ? "whole"
                                  : "tail");
    rg_redis_args_puts(&args, record->claiming ? redis->id : "");
    rg_redis_args_puts(&args, record->dead);
    rg_redis_args_number(&args, redis->ttl_ms);
    rg_redis_put_news(&args, redis, RG_NEWS_LOOK, user);
    rg_redis_args_puts(&args, strcmp(record->owner, record->dead) != 0 ? record->owner : "");
    return rg_redis_link_call_take(redis->link, &rg_redis_script_load, &args, on_loaded,
                                   record);
}

bool rg_record_start_refresh(struct rg_record *record)
{
    if (!ask(record))
        return false;
    record->refresh = false;
    record->claim = false;
    record->yielding = record->yields;
    record->yields = false;
    record->dead[0] = '\0';
    STAILQ_CONCAT(&record->looking, &record->syncs);
    return true;
}

/* ---- the store's call */

static struct rg_record *record_create(struct rg_redis *redis, struct rg_account *account)
{
    struct rg_record *record = calloc(1, sizeof(*record));

    if (record == NULL)
        return NULL;
    STAILQ_INIT(&record->waiters);
    STAILQ_INIT(&record->syncs);
    STAILQ_INIT(&record->looking);
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
    account->role = RG_ROLE_FOLLOWER;
    account->unled = true;
    return record;
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
            rg_record_later(record); /* the memory store's own reference is still under way */
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
    account->role = RG_ROLE_ALONE;
    record->refresh = true; /* its ends, when Redis is back */
    rg_record_later(record);
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

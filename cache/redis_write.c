/* From the account into Redis (redis_store.h). */
#include <stdlib.h>
#include <string.h>

#include "cache/redis_store.h"
#include "gateway/base/log.h"

enum {
    TRIES = 5,
    CONTESTED_MS = RG_REDIS_ALIVE_MS,
    ERASED_MS = 60 * 60 * 1000 /* an instance that was cut off for longer may remember */
};

void rg_redis_base_fini(struct rg_redis_base *base)
{
    rg_roster_unref(base->roster);
    *base = (struct rg_redis_base){.known = false};
}

bool rg_record_has_base(const struct rg_record *record)
{
    return record->base.known && record->base.keys == record->redis->keys;
}

static struct rg_redis_place place_of(const struct rg_record *record)
{
    return (struct rg_redis_place){.mac = record->redis->mac,
                                   .user = record->account->user,
                                   .epoch = record->account->epoch};
}

/* ---- what is to be sent */

/* The changes since the base, each JID once. */
struct delta {
    struct rg_redis_args removed, set, log;
    size_t n_removed, n_set, n_log;
    struct rg_redis_digest digest;
};

static void delta_fini(struct delta *delta)
{
    rg_redis_args_fini(&delta->removed);
    rg_redis_args_fini(&delta->set);
    rg_redis_args_fini(&delta->log);
}

static void put_item(struct delta *delta, const struct rg_redis_place *place,
                     const struct rg_item *item)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;

    rg_redis_put_item(&value, place, item);
    rg_redis_args_puts(&delta->set, item->jid);
    rg_redis_args_put(&delta->set, value.data, value.len);
    delta->set.failed = delta->set.failed || rg_buf_failed(&value);
    delta->n_set++;
}

static void put_change(struct delta *delta, const struct rg_redis_place *place,
                       const struct rg_change *change)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;

    rg_redis_put_change(&value, place, change);
    rg_redis_args_put(&delta->log, value.data, value.len);
    delta->log.failed = delta->log.failed || rg_buf_failed(&value);
    delta->n_log++;
}

static bool removed_again(const struct rg_account *account, size_t from, const char *jid)
{
    for (size_t i = from; i < account->journal_n; i++)
        if (strcmp(rg_account_change(account, i)->jid, jid) == 0)
            return true;
    return false;
}

/* The i-th change, unless a later one of the same JID says more. */
static void put_outcome(struct delta *delta, const struct rg_redis_place *place,
                        const struct rg_record *record, size_t i)
{
    const struct rg_account *account = record->account;
    const struct rg_change *change = rg_account_change(account, i);
    const struct rg_item *now = rg_roster_find(account->roster, change->jid);
    const struct rg_item *before;

    if (now != NULL ? !rg_stamp_equal(now->changed, change->at)
                    : removed_again(account, i + 1, change->jid))
        return;
    before =
        record->base.roster != NULL ? rg_roster_find(record->base.roster, change->jid) : NULL;
    if (before != NULL)
        rg_redis_digest_remove(&delta->digest, place, 0, before);
    if (now != NULL) {
        rg_redis_digest_add(&delta->digest, place, 0, now);
        put_item(delta, place, now);
    } else {
        rg_redis_args_puts(&delta->removed, change->jid);
        delta->n_removed++;
    }
}

/* True: delta holds the way from the base to the account. */
static bool make_delta(struct delta *delta, const struct rg_record *record)
{
    const struct rg_account *account = record->account;
    struct rg_redis_place place = place_of(record);
    struct rg_version base;
    size_t from;

    if (!rg_record_has_base(record) || strcmp(record->base.at, record->at) != 0 ||
        !rg_version_parse(&base, record->at, strlen(record->at)) ||
        !rg_account_since(account, &base, &from))
        return false;
    delta->digest = record->base.digest;
    for (size_t i = from; i < account->journal_n; i++) {
        put_outcome(delta, &place, record, i);
        put_change(delta, &place, rg_account_change(account, i));
    }
    return true;
}

static void make_full(struct delta *delta, const struct rg_record *record)
{
    const struct rg_account *account = record->account;
    struct rg_redis_place place = place_of(record);

    delta->digest = rg_redis_digest_of(&place, 0, account->roster);
    for (size_t i = 0; account->roster != NULL && i < account->roster->n; i++)
        put_item(delta, &place, account->roster->items[i]);
    for (size_t i = 0; i < account->journal_n; i++)
        put_change(delta, &place, rg_account_change(account, i));
}

static void put_state(struct rg_redis_args *args, const struct rg_record *record,
                      const struct rg_redis_digest *digest)
{
    const struct rg_account *account = record->account;
    struct rg_redis_place place = place_of(record);
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
    struct rg_redis_state state = {.epoch = account->epoch,
                                   .head = account->head,
                                   .presence = account->presence,
                                   .confirmed_s = account->confirmed_s,
                                   .count = account->roster != NULL ? account->roster->n : 0,
                                   .digest = *digest,
                                   .ver_known = account->ver.known,
                                   .ver_len = account->ver.len};

    if (account->ver.known)
        memcpy(state.ver, account->ver.bytes, account->ver.len);
    rg_redis_put_state(&value, &place, &state);
    rg_redis_args_put(args, value.data, value.len);
    args->failed = args->failed || rg_buf_failed(&value);
}

static void append(struct rg_redis_args *args, const struct rg_redis_args *more)
{
    for (size_t i = 0, from = 0; i < more->n; from = more->ends[i++])
        rg_redis_args_put(args, more->bytes.data + from, more->ends[i] - from);
    args->failed = args->failed || more->failed;
}

static void put_script(struct rg_redis_args *args, const struct rg_record *record, bool full,
                       const struct delta *delta, const char *version)
{
    const struct rg_redis *redis = record->redis;
    const char *user = record->account->user;
    const struct rg_roster *base = record->base.roster;

    rg_redis_args_puts(args, "3");
    rg_redis_key(args, user, "meta");
    rg_redis_key(args, user, "items");
    rg_redis_key(args, user, "journal");
    rg_redis_args_puts(args, redis->id);
    rg_redis_args_puts(args, record->at);
    rg_redis_args_puts(args, version);
    put_state(args, record, &delta->digest);
    rg_redis_args_number(args, redis->ttl_ms);
    rg_redis_args_puts(args, full ? "full" : "delta");
    rg_redis_args_number(args, base != NULL ? (long long)base->n : 0);
    rg_redis_args_number(args, (long long)record->account->journal_n);
    rg_redis_put_news(args, redis, RG_NEWS_LOOK, user);
    rg_redis_args_puts(args, redis->run);
    rg_redis_args_number(args, (long long)delta->n_removed);
    rg_redis_args_number(args, (long long)delta->n_set);
    rg_redis_args_number(args, (long long)delta->n_log);
    append(args, &delta->removed);
    append(args, &delta->set);
    append(args, &delta->log);
}

/* ---- what comes back */

static bool is_text(const redisReply *reply, size_t size)
{
    return reply->type == REDIS_REPLY_STRING && (size_t)reply->len < size &&
           strlen(reply->str) == (size_t)reply->len;
}

static void written(struct rg_record *record)
{
    rg_metric_add(record->redis->metrics.written, 1);
    rg_redis_base_fini(&record->base);
    record->base = record->sent;
    record->sent = (struct rg_redis_base){.known = false};
    memcpy(record->at, record->base.at, sizeof(record->at));
    record->owned = true;
    record->doubted = false;
    memcpy(record->owner, record->redis->id, sizeof(record->owner));
    record->tries = 0;
    if (!record->again)
        record->write = false;
}

/* Redis has another version, or another writer: that is looked at before the next try. */
static void lost_race(struct rg_record *record, const redisReply *owner, const redisReply *at)
{
    rg_metric_add(record->redis->metrics.lost_races, 1);
    if (!is_text(owner, sizeof(record->owner)) || !is_text(at, sizeof(record->at))) {
        record->erase = true;
        return;
    }
    if (at->len == 0 && record->at[0] != '\0') { /* lost or erased: that is looked at first */
        record->write = record->write && !record->disown && record->account->trusted;
        record->refresh = true;
        return;
    }
    memcpy(record->at, at->str, (size_t)at->len + 1);
    memcpy(record->owner, owner->str, (size_t)owner->len + 1);
    record->owned = strcmp(record->owner, record->redis->id) == 0;
    if (record->sent.known && strcmp(record->sent.at, record->at) == 0) {
        /* A write of ours whose answer was lost. */
        rg_redis_base_fini(&record->base);
        record->base = record->sent;
        record->sent = (struct rg_redis_base){.known = false};
    } else if (record->base.known && strcmp(record->base.at, record->at) != 0) {
        rg_redis_base_fini(&record->base);
    }
    if (owner->len != 0 && !record->owned) {
        record->disown = false;
        record->write = record->account->trusted;
        record->claim = record->account->trusted;
        record->refresh = true;
    } else if (++record->tries > TRIES) {
        record->tries = 0;
        rg_record_rest(record, CONTESTED_MS);
    }
}

static void not_written(struct rg_record *record, const redisReply *reply)
{
    struct rg_redis *redis = record->redis;

    rg_metric_add(redis->metrics.errors, 1);
    if (rg_redis_is_error(reply, "WRONGTYPE"))
        record->erase = true;
    else if (reply != NULL && !rg_redis_refused(redis, reply))
        rg_record_rest(record, CONTESTED_MS);
    else if (reply != NULL)
        rg_record_rest(record, RG_REDIS_BEAT_MS);
    rg_record_alone(record); /* nobody is to wait for a Redis in trouble */
    record->refresh = true;
}

static void on_written(void *arg, const redisReply *reply)
{
    struct rg_record *record = arg;
    bool answer = reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
                  reply->element[0]->type == REDIS_REPLY_INTEGER;

    if (!answer) {
        not_written(record, reply);
    } else if (reply->element[0]->integer == 1) {
        written(record);
    } else if (reply->element[0]->integer == 2) {
        rg_redis_base_fini(&record->base); /* items are gone: all of it */
        rg_metric_add(record->redis->metrics.damaged, 1);
    } else if (reply->elements == 3) {
        lost_race(record, reply->element[1], reply->element[2]);
    }
    if (!record->write)
        rg_record_kept(record);
    rg_record_done(record);
}

bool rg_record_start_write(struct rg_record *record)
{
    struct rg_account *account = record->account;
    RG_CLEANUP(delta_fini) struct delta delta = {.n_set = 0};
    struct rg_redis_args args = {.n = 0};
    struct rg_redis_base sent = {.known = true, .keys = record->redis->keys};
    bool full;

    rg_account_version(account, sent.at);
    full = !make_delta(&delta, record);
    if (full)
        make_full(&delta, record);
    put_script(&args, record, full, &delta, sent.at);
    if (!rg_redis_link_call_take(record->redis->link, &rg_redis_script_commit, &args,
                                 on_written, record))
        return false;
    if (full)
        rg_metric_add(record->redis->metrics.full, 1);
    sent.digest = delta.digest;
    sent.roster = account->roster != NULL ? rg_roster_ref(account->roster) : NULL;
    rg_redis_base_fini(&record->sent);
    record->sent = sent;
    record->again = false;
    return true;
}

/* ---- starting from nothing */

static void on_erased(void *arg, const redisReply *reply)
{
    struct rg_record *record = arg;

    if (reply == NULL || reply->type != REDIS_REPLY_INTEGER) {
        record->erase = true;
        if (reply != NULL)
            not_written(record, reply);
    } else {
        record->at[0] = '\0';
        record->write = record->account->trusted;
        record->erase_for_all = false;
    }
    rg_record_done(record);
}

static void put_keys(struct rg_redis_args *args, const char *user)
{
    rg_redis_key(args, user, "meta");
    rg_redis_key(args, user, "items");
    rg_redis_key(args, user, "journal");
}

void rg_redis_put_erase(struct rg_redis_args *args, const struct rg_redis *redis,
                        const char *user)
{
    rg_redis_args_puts(args, "3");
    put_keys(args, user);
    rg_redis_args_number(args, ERASED_MS);
    rg_redis_put_news(args, redis, RG_NEWS_ERASED, user);
}

bool rg_record_start_erase(struct rg_record *record)
{
    const struct rg_redis_script *script =
        record->erase_for_all ? &rg_redis_script_erase : NULL;
    struct rg_redis_args args = {.n = 0};

    if (record->erase_for_all) {
        rg_redis_put_erase(&args, record->redis, record->account->user);
    } else {
        rg_redis_args_puts(&args, "DEL");
        put_keys(&args, record->account->user);
    }
    if (!rg_redis_link_call_take(record->redis->link, script, &args, on_erased, record))
        return false;
    record->erase = false;
    rg_redis_base_fini(&record->base);
    return true;
}

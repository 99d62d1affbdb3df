/* Sign-outs: kept in Redis for the next process, told to the other instances (redis_store.h).
 *
 * The channel only says whose ends have moved; each instance then reads them, and after every
 * reconnect it reads those of all accounts it holds, so that a lost message is late, not lost.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/redis_store.h"

enum {
    TTL_MAX_S = 366 * 24 * 3600, /* session.max_age is 90 days at most */
    SWEPT_AT_ONCE = 256
};

/* An end on its way: into the memory store's file and into Redis. */
struct ending {
    struct rg_record *record; /* NULL: no script is on its way */
    unsigned parts;
    bool everywhere;
    rg_store_end_fn fn;
    void *arg;
};

static void part_done(struct ending *ending, bool good)
{
    ending->everywhere = ending->everywhere && good;
    if (--ending->parts > 0)
        return;
    ending->fn(ending->arg, ending->everywhere);
    free(ending);
}

static void on_memory_end(void *arg, bool everywhere)
{
    part_done(arg, everywhere);
}

/* ---- writing */

static void put_end(struct rg_redis_args *args, const struct rg_redis_place *place,
                    const struct rg_end *end)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
    char field[RG_REDIS_END_FIELD_SIZE];

    rg_redis_put_end(&value, place, end);
    rg_redis_end_field(field, end);
    rg_redis_args_puts(args, field);
    rg_redis_args_put(args, value.data, value.len);
    args->failed = args->failed || rg_buf_failed(&value);
}

/* At least as long as a token can live that one of them ends. */
static int64_t ttl_ms(const struct rg_redis *redis, const struct rg_end *ends, size_t n)
{
    int64_t now_s = rg_loop_unix_s(redis->loop), longest_s = 1;

    for (size_t i = 0; i < n; i++) {
        int64_t left_s = ends[i].until_s - now_s + 1;

        longest_s = left_s > longest_s ? left_s : longest_s;
    }
    return (longest_s < TTL_MAX_S ? longest_s : TTL_MAX_S) * 1000;
}

/* revived: NULL, or the record whose revived passwords are forgotten. */
static bool send_ends(struct rg_redis *redis, const char *user, const struct rg_end *ends,
                      size_t n, const struct rg_record *revived, rg_redis_reply_fn fn,
                      void *arg)
{
    size_t n_revived = revived != NULL ? revived->n_revived : 0;
    struct rg_redis_place place = {.mac = redis->mac, .user = user};
    struct rg_redis_args args = {.n = 0};

    rg_redis_args_puts(&args, "1");
    rg_redis_key(&args, user, "ends");
    rg_redis_args_number(&args, ttl_ms(redis, ends, n));
    rg_redis_put_news(&args, redis, n_revived > 0 ? RG_NEWS_PASSWORDS : RG_NEWS_LOOK, user);
    rg_redis_args_number(&args, (long long)n_revived);
    for (size_t i = 0; i < n_revived; i++) {
        struct rg_end end = {.kind = RG_END_PASSWORD};
        char field[RG_REDIS_END_FIELD_SIZE];

        memcpy(end.id, revived->revived[i], sizeof(end.id));
        rg_redis_end_field(field, &end);
        rg_redis_args_puts(&args, field);
    }
    for (size_t i = 0; i < n; i++)
        put_end(&args, &place, &ends[i]);
    return rg_redis_link_call_take(redis->link, &rg_redis_script_end, &args, fn, arg);
}

static bool succeeded(const redisReply *reply)
{
    return reply != NULL && reply->type == REDIS_REPLY_ARRAY;
}

static void on_end(void *arg, const redisReply *reply)
{
    struct ending *ending = arg;
    struct rg_record *record = ending->record;
    bool good = succeeded(reply);

    if (!good) {
        rg_metric_add(record->redis->metrics.errors, 1);
        if (reply != NULL)
            (void)rg_redis_refused(record->redis, reply);
        record->write_ends = true;
        rg_record_wish(record);
    }
    part_done(ending, good);
    record->pins--;
    rg_record_consider(record);
}

void rg_redis_end(struct rg_store *store, struct rg_account *account, const struct rg_end *end,
                  rg_store_end_fn fn, void *arg)
{
    struct rg_redis *redis = RG_CONTAINER_OF(store, struct rg_redis, store);
    struct rg_store *memory = redis->memory;
    struct rg_record *record = rg_record_find(redis, account->user);
    struct ending *ending = calloc(1, sizeof(*ending));

    if (ending == NULL || record == NULL) {
        /* Known here, which is not everywhere; but nobody can be told so without memory. */
        free(ending);
        memory->ops->end(memory, account, end, fn, arg);
        return;
    }
    *ending =
        (struct ending){.record = record, .parts = 1, .everywhere = true, .fn = fn, .arg = arg};
    if (send_ends(redis, account->user, end, 1, NULL, on_end, ending)) {
        ending->parts++;
        record->pins++;
    } else {
        ending->everywhere = false;
        record->write_ends = true;
        rg_record_wish(record);
    }
    memory->ops->end(memory, account, end, on_memory_end, ending);
}

void rg_redis_revive(struct rg_store *store, struct rg_account *account, const uint8_t tag[16])
{
    struct rg_redis *redis = RG_CONTAINER_OF(store, struct rg_redis, store);
    struct rg_record *record = rg_record_find(redis, account->user);

    redis->memory->ops->revive(redis->memory, account, tag);
    if (record == NULL)
        return;
    record->write_ends = true;
    if (record->n_revived == RG_REDIS_REVIVED_MAX)
        record->n_revived--; /* that one is found dead again, and costs a sign-in */
    memcpy(record->revived[record->n_revived++], tag, 16);
    rg_record_hurry(record);
}

static void on_ends(void *arg, const redisReply *reply)
{
    struct rg_record *record = arg;

    if (!succeeded(reply)) {
        rg_metric_add(record->redis->metrics.errors, 1);
        record->write_ends = true;
        if (reply != NULL) {
            (void)rg_redis_refused(record->redis, reply);
            rg_record_rest(record, RG_REDIS_BEAT_MS);
        }
    } else {
        record->n_revived -= record->n_reviving;
        memmove(record->revived, record->revived + record->n_reviving,
                record->n_revived * sizeof(record->revived[0]));
    }
    rg_record_done(record);
}

bool rg_record_start_ends(struct rg_record *record)
{
    const struct rg_account *account = record->account;

    if (!send_ends(record->redis, account->user, account->ends, account->n_ends, record,
                   on_ends, record))
        return false;
    record->write_ends = false;
    record->n_reviving = record->n_revived;
    return true;
}

/* ---- reading */

/* Does the one end all that the other does? */
static bool covers(const struct rg_end *by, const struct rg_end *end)
{
    bool same = by->kind == end->kind &&
                (end->kind == RG_END_ALL || memcmp(by->id, end->id, sizeof(end->id)) == 0);
    bool all = by->kind == RG_END_ALL && end->kind == RG_END_SIGN_IN;

    return (same || all) && by->at_s >= end->at_s && by->until_s >= end->until_s;
}

static bool known(const struct rg_account *account, const struct rg_end *end)
{
    for (size_t i = 0; i < account->n_ends; i++) {
        if (covers(&account->ends[i], end))
            return true;
    }
    return false;
}

static bool has_field(const redisReply *ends, const struct rg_end *end)
{
    char field[RG_REDIS_END_FIELD_SIZE];

    rg_redis_end_field(field, end);
    for (size_t i = 0; i < ends->elements; i += 2)
        if (ends->element[i]->type == REDIS_REPLY_STRING &&
            strcmp(ends->element[i]->str, field) == 0)
            return true;
    return false;
}

/* Passwords that are good again elsewhere. */
static void drop_passwords(struct rg_account *account, const redisReply *ends)
{
    for (size_t i = account->n_ends; i-- > 0;)
        if (account->ends[i].kind == RG_END_PASSWORD && !has_field(ends, &account->ends[i]))
            (void)rg_account_revive_password(account, account->ends[i].id);
}

/* A password that is good again, which is on its way into Redis. */
static bool is_revived(const struct rg_record *record, const struct rg_end *end)
{
    for (size_t i = 0; end->kind == RG_END_PASSWORD && i < record->n_revived; i++)
        if (memcmp(record->revived[i], end->id, sizeof(end->id)) == 0)
            return true;
    return false;
}

static bool get_end(struct rg_end *end, const struct rg_record *record, const redisReply *value)
{
    struct rg_redis_place place = {.mac = record->redis->mac, .user = record->account->user};

    return value->type == REDIS_REPLY_STRING &&
           rg_redis_get_end(end, &place, value->str, (size_t)value->len);
}

static bool is_over(const struct rg_end *end, const struct rg_end *all, int64_t now_s)
{
    return end->until_s < now_s || (end->kind == RG_END_SIGN_IN && covers(all, end));
}

/* Forgets in Redis what no living token can fall under any more, or falls under the end of all
 * sign-ins that stands there as well: else ends would be kept as long as others are added. */
static void sweep_ends(struct rg_record *record, const redisReply *ends,
                       const struct rg_end *all)
{
    int64_t now_s = rg_loop_unix_s(record->redis->loop);
    struct rg_redis_args args = {.n = 0};
    size_t n = 0;

    rg_redis_args_puts(&args, "HDEL");
    rg_redis_key(&args, record->account->user, "ends");
    for (size_t i = 0; i < ends->elements && n < SWEPT_AT_ONCE; i += 2) {
        struct rg_end end;

        if (!get_end(&end, record, ends->element[i + 1]) || !is_over(&end, all, now_s))
            continue;
        rg_redis_args_put(&args, ends->element[i]->str, (size_t)ends->element[i]->len);
        n++;
    }
    if (n > 0)
        (void)rg_redis_link_call_take(record->redis->link, NULL, &args, rg_redis_ignore,
                                      record->redis);
    else
        rg_redis_args_fini(&args);
}

/* Was an end of all folded out of many here, which Redis has not heard of? */
static bool has_folded(const struct rg_account *account, const struct rg_end *all,
                       int64_t now_s)
{
    for (size_t i = 0; i < account->n_ends; i++) {
        const struct rg_end *held = &account->ends[i];

        if (held->kind == RG_END_ALL && held->until_s >= now_s && !covers(all, held))
            return true;
    }
    return false;
}

bool rg_record_merge_ends(struct rg_record *record, const redisReply *ends)
{
    struct rg_account *account = record->account;
    int64_t now_s = rg_loop_unix_s(record->redis->loop);
    struct rg_end all = {.kind = RG_END_PASSWORD}; /* Redis': none yet, which covers nothing */
    bool moved = false, expired = false, sign_in = false;

    if (record->drop_passwords && !record->write_ends)
        drop_passwords(account, ends);
    record->drop_passwords = false;
    for (size_t i = 0; i < ends->elements; i += 2) {
        struct rg_end end;

        if (!get_end(&end, record, ends->element[i + 1])) {
            rg_metric_add(record->redis->metrics.damaged, 1);
            continue;
        }
        if (end.kind == RG_END_ALL)
            all = end;
        expired = expired || end.until_s < now_s;
        sign_in = sign_in || end.kind == RG_END_SIGN_IN;
        if (end.until_s < now_s || is_revived(record, &end) || known(account, &end))
            continue;
        moved = rg_account_end(account, &end, now_s) == RG_OK || moved;
    }
    record->write_ends = record->write_ends || has_folded(account, &all, now_s);
    if (expired || (sign_in && all.kind == RG_END_ALL))
        sweep_ends(record, ends, &all);
    return moved;
}

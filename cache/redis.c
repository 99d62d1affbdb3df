#include "cache/redis.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "cache/memory.h"
#include "cache/redis_store.h"
#include "gateway/base/log.h"
#include "gateway/base/random.h"
#include "gateway/base/text.h"

enum { STOP_MS = 2000 };

static struct rg_redis *self(struct rg_store *store)
{
    return RG_CONTAINER_OF(store, struct rg_redis, store);
}

/* ---- words for Redis */

/* The braces are the hash tag: all keys of an account live on one node of a cluster. The JID is
 * encoded, so that it cannot hold a brace. */
void rg_redis_key(struct rg_redis_args *args, const char *user, const char *part)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf key = RG_BUF_INIT;

    rg_buf_puts(&key, "rg:{");
    rg_percent_encode(&key, user, strlen(user));
    rg_buf_puts(&key, "}:");
    rg_buf_puts(&key, part);
    rg_redis_args_put(args, key.data, key.len);
    args->failed = args->failed || rg_buf_failed(&key);
}

void rg_redis_alive_key(struct rg_redis_args *args, const char *id)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf key = RG_BUF_INIT;

    rg_buf_puts(&key, "rg:{alive}:"); /* two of them are asked for at once */
    rg_buf_puts(&key, id);
    rg_redis_args_put(args, key.data, key.len);
    args->failed = args->failed || rg_buf_failed(&key);
}

bool rg_redis_refused(struct rg_redis *redis, const redisReply *reply)
{
    static const char *const words[] = {"OOM",        "READONLY",   "MISCONF",
                                        "NOREPLICAS", "NOPERM",     "NOAUTH",
                                        "LOADING",    "MASTERDOWN", "MOVED"};

    for (size_t i = 0; i < RG_ARRAY_LEN(words); i++) {
        if (!rg_redis_is_error(reply, words[i]))
            continue;
        (void)snprintf(redis->refusal, sizeof(redis->refusal), "Redis answers %s", words[i]);
        if (redis->refuses)
            return true;
        rg_log(RG_LOG_WARN, "redis", "refuses-writes", RG_STR("why", words[i]));
        redis->refuses = true;
        rg_redis_all_alone(redis);
        return true;
    }
    return false;
}

/* ---- records */

struct rg_record *rg_record_find(struct rg_redis *redis, const char *user)
{
    struct rg_record *record;

    HASH_FIND_STR(redis->records, user, record);
    return record;
}

static bool wishes(const struct rg_record *record)
{
    return record->erase || record->refresh || record->write_ends || record->write ||
           record->disown;
}

static void unlist(struct rg_record *record)
{
    if (record->list != NULL)
        TAILQ_REMOVE(record->list, record, entry);
    record->list = NULL;
}

static void enlist(struct rg_record *record, struct rg_record_list *list)
{
    unlist(record);
    TAILQ_INSERT_TAIL(list, record, entry);
    record->list = list;
}

void rg_record_rest(struct rg_record *record, int64_t for_ms)
{
    record->rest_until_ms =
        rg_loop_now_ms(record->redis->loop) + (int64_t)rg_random_spread((uint64_t)for_ms, 20);
}

static void queue(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;

    if (record->busy || record->list != NULL || !wishes(record))
        return;
    enlist(record, !record->hurry && record->rest_until_ms > rg_loop_now_ms(redis->loop)
                       ? &redis->resting
                       : &redis->wishing);
}

void rg_record_wish(struct rg_record *record)
{
    queue(record);
    rg_redis_next(record->redis);
}

void rg_record_hurry(struct rg_record *record)
{
    record->hurry = true;
    if (record->list == &record->redis->resting)
        unlist(record);
    rg_record_wish(record);
}

static bool start(struct rg_record *record)
{
    if (record->erase)
        return rg_record_start_erase(record);
    if (record->disown && !record->write)
        return rg_record_start_release(record); /* before it is looked at for the next owner */
    if (record->n_revived > 0)
        return rg_record_start_ends(record); /* before it is read that the password is bad */
    if (record->refresh && !record->disown)
        return rg_record_start_refresh(record);
    if (record->write_ends)
        return rg_record_start_ends(record);
    return rg_record_start_write(record);
}

void rg_redis_next(struct rg_redis *redis)
{
    struct rg_record *record;

    while (rg_redis_link_is_up(redis->link) && redis->n_working < RG_REDIS_WORKING_MAX &&
           (record = TAILQ_FIRST(&redis->wishing)) != NULL) {
        if (redis->refuses && !record->refresh) {
            record->rest_until_ms = rg_loop_now_ms(redis->loop) + RG_REDIS_BEAT_MS;
            enlist(record, &redis->resting);
            continue;
        }
        if (!start(record)) { /* out of memory, or it has no form in Redis: others go on */
            record->hurry = false;
            rg_record_rest(record, RG_REDIS_BEAT_MS);
            enlist(record, &redis->resting);
            record->unsent = true;
            rg_record_later(record); /* nobody is called back within his call */
            continue;
        }
        unlist(record);
        record->busy = true;
        record->working = true;
        record->hurry = false;
        redis->n_working++;
    }
    rg_metric_set(redis->metrics.up, rg_redis_link_is_up(redis->link));
}

void rg_record_done(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;

    record->busy = false;
    if (record->working)
        redis->n_working--;
    record->working = false;
    queue(record);
    rg_record_consider(record);
    rg_redis_next(redis);
}

void rg_redis_ignore(void *arg, const redisReply *reply)
{
    (void)arg;
    (void)reply;
}

static void release_owner(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;
    struct rg_redis_args args = {.n = 0};

    rg_redis_put_release(&args, record);
    record->owned = false;
    /* Lost: the heartbeat's end does the same. */
    (void)rg_redis_link_call_take(redis->link, &rg_redis_script_release, &args, rg_redis_ignore,
                                  redis);
}

static void record_destroy(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;
    struct rg_account *account = record->account;

    unlist(record);
    HASH_DEL(redis->records, record);
    rg_redis_base_fini(&record->base);
    rg_redis_base_fini(&record->sent);
    free(record);
    redis->memory->ops->release_take(redis->memory, account);
}

static bool is_held(const struct rg_record *record)
{
    return record->account->refs > 2; /* by more than the memory store and this record */
}

static void give_up(struct rg_record *record)
{
    rg_record_alone(record);
    if (record->owned)
        release_owner(record); /* another one may do better */
    if (!is_held(record))
        record->write = record->write_ends = false;
}

static void on_later(struct rg_message *message)
{
    struct rg_record *record = RG_CONTAINER_OF(message, struct rg_record, later);

    record->posted = false;
    if (record->unsent)
        give_up(record);
    record->unsent = false;
    record->pins--;
    rg_record_consider(record);
}

void rg_record_later(struct rg_record *record)
{
    if (record->posted)
        return;
    record->posted = true;
    record->pins++;
    record->later.fn = on_later;
    rg_loop_post(record->redis->loop, &record->later);
}

void rg_record_consider(struct rg_record *record)
{
    struct rg_account *account = record->account;

    if (is_held(record) || record->busy || record->pins > 0 ||
        !STAILQ_EMPTY(&record->waiters) || !STAILQ_EMPTY(&record->syncs) ||
        record->kept != NULL)
        return;
    /* Reading again can wait until somebody wants it; what was to be written cannot, but it is
     * tried once: no session stands by it any more. */
    record->refresh = false;
    record->disown = false; /* letting go does it */
    account->trusted = false;
    if (record->forgets)
        rg_record_forget(record);
    if (wishes(record))
        return;
    if (record->owned)
        release_owner(record);
    record_destroy(record);
}

/* ---- the heartbeat */

static void wake_rested(struct rg_redis *redis)
{
    int64_t now_ms = rg_loop_now_ms(redis->loop);
    struct rg_record *record, *next;

    for (record = TAILQ_FIRST(&redis->resting); record != NULL; record = next) {
        next = TAILQ_NEXT(record, entry);
        if (record->rest_until_ms <= now_ms)
            enlist(record, &redis->wishing);
    }
    rg_metric_set(redis->metrics.accounts, (int64_t)HASH_COUNT(redis->records));
    rg_redis_next(redis);
}

static void go_on_stopping(struct rg_redis *redis);

static void on_beat(struct rg_timer *timer)
{
    struct rg_redis *redis = RG_CONTAINER_OF(timer, struct rg_redis, beat);

    if (redis->stopping) {
        go_on_stopping(redis);
        return;
    }
    rg_timer_start(timer, redis->loop, RG_REDIS_BEAT_MS);
    rg_redis_beat(redis);
    wake_rested(redis);
}

static void on_news(void *arg, const char *data, size_t len)
{
    rg_redis_news(arg, data, len);
}

static const struct rg_redis_handler calls_handler = {.up = rg_redis_up, .down = rg_redis_down};
static const struct rg_redis_handler news_handler = {.up = rg_redis_news_up,
                                                     .message = on_news,
                                                     .channel = RG_REDIS_CHANNEL};

/* ---- the store's calls */

static bool redis_commit(struct rg_store *store, struct rg_account *account,
                         rg_store_kept_fn fn, void *arg)
{
    struct rg_redis *redis = self(store);
    struct rg_record *record = rg_record_find(redis, account->user);

    (void)redis->memory->ops->commit(redis->memory, account, NULL, NULL);
    return record == NULL || rg_record_commit(record, fn, arg);
}

static void redis_release_take(struct rg_store *store, struct rg_account *account)
{
    struct rg_redis *redis = self(store);
    struct rg_record *record = rg_record_find(redis, account->user);

    redis->memory->ops->release_take(redis->memory, account);
    if (record != NULL)
        rg_record_consider(record);
}

static void redis_erase(struct rg_store *store, const char *user)
{
    struct rg_redis *redis = self(store);
    struct rg_record *record = rg_record_find(redis, user);
    struct rg_redis_args args = {.n = 0};

    redis->memory->ops->erase(redis->memory, user);
    if (record != NULL) {
        record->erase = true;
        record->erase_for_all = true;
        record->write = false;
        rg_record_wish(record);
        return;
    }
    rg_redis_put_erase(&args, redis, user);
    (void)rg_redis_link_call_take(redis->link, &rg_redis_script_erase, &args, rg_redis_ignore,
                                  redis);
}

static void redis_health(struct rg_store *store, struct rg_buf *buf)
{
    struct rg_redis *redis = self(store);
    bool up = rg_redis_link_is_up(redis->link);
    const char *why = !up                                 ? rg_redis_link_why(redis->link)
                      : redis->refuses                    ? redis->refusal
                      : !rg_redis_link_is_up(redis->news) ? rg_redis_link_why(redis->news)
                                                          : "";
    RG_CLEANUP(rg_buf_fini) struct rg_buf memory = RG_BUF_INIT;

    redis->memory->ops->health(redis->memory, &memory);
    rg_buf_printf(buf, "{\"store\":\"redis\",\"degraded\":%s,\"connected\":%s,\"why\":",
                  *why != '\0' ? "true" : "false", up ? "true" : "false");
    rg_json_string(buf, why, strlen(why));
    rg_buf_printf(buf, ",\"accounts\":%u,\"memory\":", HASH_COUNT(redis->records));
    rg_buf_append(buf, memory.data, memory.len);
    rg_buf_putc(buf, '}');
}

static void redis_rekey_take(struct rg_store *store, struct rg_mac *mac)
{
    struct rg_redis *redis = self(store);

    rg_mac_destroy(redis->mac);
    redis->mac = mac;
    redis->keys++;
    rg_redis_all_wish(redis, true);
}

static void redis_watch(struct rg_store *store, const struct rg_store_watcher *watcher,
                        void *arg)
{
    self(store)->watcher = watcher;
    self(store)->watcher_arg = arg;
}

/* ---- stopping: everything written, all accounts given up, then the connections */

static void finish_stop(struct rg_redis *redis)
{
    rg_timer_stop(&redis->beat, redis->loop);
    rg_redis_all_alone(redis); /* whoever still waits for Redis */
    rg_redis_link_stop(redis->link);
    rg_redis_link_stop(redis->news);
    redis->memory->ops->stop(redis->memory, redis->stopped, redis->stopped_arg);
}

static void release_all(struct rg_redis *redis)
{
    struct rg_redis_args args = {.n = 0};
    struct rg_record *record, *next;

    redis->releasing = true;
    HASH_ITER(hh, redis->records, record, next)
    {
        if (record->owned)
            release_owner(record);
    }
    rg_redis_args_puts(&args, "DEL");
    rg_redis_alive_key(&args, redis->id);
    (void)rg_redis_link_call_take(redis->link, NULL, &args, rg_redis_ignore, redis);
}

/* Looked at again in short turns: the end of what is on its way has many places. */
static void go_on_stopping(struct rg_redis *redis)
{
    bool over = rg_loop_now_ms(redis->loop) >= redis->stop_by_ms ||
                !rg_redis_link_is_up(redis->link) || redis->refuses;

    rg_redis_next(redis);
    if (!over && !redis->releasing && TAILQ_EMPTY(&redis->wishing) && redis->n_working == 0)
        release_all(redis);
    if (over || (redis->releasing && rg_redis_link_load(redis->link) == 0))
        finish_stop(redis);
    else
        rg_timer_start(&redis->beat, redis->loop, 2);
}

static void redis_stop(struct rg_store *store, void (*fn)(void *arg), void *arg)
{
    struct rg_redis *redis = self(store);

    redis->stopping = true;
    redis->stopped = fn;
    redis->stopped_arg = arg;
    redis->stop_by_ms = rg_loop_now_ms(redis->loop) + STOP_MS;
    rg_timer_start(&redis->beat, redis->loop, 0);
}

static void redis_destroy(struct rg_store *store)
{
    struct rg_record *record, *next;
    struct rg_redis_waiter *waiter;
    struct rg_redis *redis;

    if (store == NULL)
        return;
    redis = self(store);
    rg_redis_link_destroy(redis->link);
    rg_redis_link_destroy(redis->news);
    HASH_ITER(hh, redis->records, record, next)
    {
        while ((waiter = STAILQ_FIRST(&record->waiters)) != NULL) {
            STAILQ_REMOVE_HEAD(&record->waiters, entry);
            free(waiter);
        }
        rg_record_forget_syncs(record);
        record_destroy(record);
    }
    if (redis->beat.fn != NULL)
        rg_timer_fini(&redis->beat, redis->loop);
    if (redis->memory != NULL)
        redis->memory->ops->destroy(redis->memory);
    rg_mac_destroy(redis->mac);
    rg_redis_url_fini(&redis->url);
    free(redis);
}

static const struct rg_store_ops ops = {
    .load = rg_redis_load,
    .commit = redis_commit,
    .end = rg_redis_end,
    .revive = rg_redis_revive,
    .release_take = redis_release_take,
    .erase = redis_erase,
    .health = redis_health,
    .stop = redis_stop,
    .destroy = redis_destroy,
    .rekey_take = redis_rekey_take,
    .watch = redis_watch,
    .sync = rg_redis_sync,
    .disown = rg_redis_disown,
};

static void make_metrics(struct rg_redis *redis)
{
    redis->metrics.up = rg_gauge("rostergate_redis_up", "1 while Redis is connected.", "");
    redis->metrics.accounts =
        rg_gauge("rostergate_redis_accounts", "Accounts that Redis is kept in step with.", "");
    redis->metrics.damaged = rg_counter("rostergate_redis_not_believed_total",
                                        "Values in Redis that did not check out.", "");
    redis->metrics.errors = rg_counter("rostergate_redis_errors_total",
                                       "Calls that failed, were late or were refused.", "");
    redis->metrics.written =
        rg_counter("rostergate_redis_writes_total", "Accounts written.", "");
    redis->metrics.full = rg_counter("rostergate_redis_full_writes_total",
                                     "Of them, whole rosters and not changes.", "");
    redis->metrics.lost_races =
        rg_counter("rostergate_redis_conflicts_total",
                   "Writes that found another version or writer in Redis.", "");
    redis->metrics.asked = rg_counter("rostergate_redis_asked_total",
                                      "Times another instance was asked for an account.", "");
    redis->metrics.followed =
        rg_counter("rostergate_redis_followed_total",
                   "Changes taken over from the journal of another instance.", "");
}

struct rg_store *rg_store_redis_create_take(const struct rg_config *config,
                                            struct rg_loop *loop, struct rg_mac *mac,
                                            struct rg_err *err)
{
    struct rg_redis *redis = calloc(1, sizeof(*redis));
    uint8_t id[(RG_REDIS_OWNER_SIZE - 1) / 2];

    if (redis == NULL || mac == NULL) {
        rg_mac_destroy(mac);
        free(redis);
        (void)rg_fail(err, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    redis->store.ops = &ops;
    redis->loop = loop;
    redis->mac = mac;
    redis->ttl_ms = config->cache.ttl_ms;
    redis->items_max = config->limits.items;
    TAILQ_INIT(&redis->wishing);
    TAILQ_INIT(&redis->resting);
    rg_random_bytes(id, sizeof(id));
    (void)sodium_bin2hex(redis->id, sizeof(redis->id), id, sizeof(id));
    make_metrics(redis);
    if (rg_redis_url_parse(&redis->url, config->cache.url, err) != RG_OK)
        goto failed;
    redis->memory = rg_store_memory_create(config, loop, err);
    if (redis->memory == NULL)
        goto failed;
    (void)rg_fail(err, RG_E_INTERNAL, "out of memory");
    if (rg_timer_init(&redis->beat, loop, on_beat) != RG_OK)
        goto failed;
    redis->link = rg_redis_link_create(&redis->url, loop, &calls_handler, redis);
    redis->news = rg_redis_link_create(&redis->url, loop, &news_handler, redis);
    if (redis->link == NULL || redis->news == NULL)
        goto failed;
    err->code = RG_OK;
    rg_timer_start(&redis->beat, loop, RG_REDIS_BEAT_MS);
    if (config->session.keys_file[0] == '\0')
        rg_log(RG_LOG_WARN, "redis", "without-keys-file",
               RG_STR("why", "nothing in Redis outlives this process"));
    return &redis->store;
failed:
    redis_destroy(&redis->store);
    return NULL;
}

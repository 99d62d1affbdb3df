/* Is Redis there, is it the same, is this process known to be alive (redis_store.h)? */
#include <stdio.h>
#include <string.h>

#include "cache/redis_store.h"
#include "gateway/base/log.h"

void rg_redis_all_wish(struct rg_redis *redis, bool all)
{
    struct rg_record *record, *next;

    HASH_ITER(hh, redis->records, record, next)
    {
        record->claim = record->claim || record->account->trusted;
        record->refresh = record->refresh || all || record->claim || record->doubted;
        record->write = record->write || (record->account->trusted && !record->forgets);
        record->write_ends = record->write_ends || record->account->n_ends > 0;
        record->again = true; /* what is on its way may have been lost with the rest */
        rg_record_hurry(record);
    }
}

/* This process's heartbeat had run out: what it owned may have been taken over. */
static void doubt_owned(struct rg_redis *redis)
{
    struct rg_record *record, *next;

    HASH_ITER(hh, redis->records, record, next)
    record->doubted = record->account->role == RG_ROLE_OWNER;
}

static bool any_doubted(const struct rg_redis *redis)
{
    const struct rg_record *record, *next;

    HASH_ITER(hh, redis->records, record, next)
    {
        if (record->doubted && record->account->role == RG_ROLE_OWNER)
            return true;
    }
    return false;
}

static void on_beaten(void *arg, const redisReply *reply)
{
    struct rg_redis *redis = arg;
    int64_t now_ms = rg_loop_now_ms(redis->loop);
    bool missing, emptied, refused;

    redis->beating = false;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_REPLY_ERROR) {
        (void)rg_redis_refused(redis, reply);
        redis->beat_ok_ms = 0;
        return;
    }
    refused = redis->refuses;
    if (refused)
        rg_log(RG_LOG_INFO, "redis", "writes-again");
    redis->refuses = false;
    missing = reply->type == REDIS_REPLY_NIL && redis->beat_ok_ms != 0;
    /* The last beat is not there though it cannot have run out: Redis was emptied. */
    emptied = missing && now_ms - redis->beat_ok_ms < RG_REDIS_ALIVE_MS - RG_REDIS_BEAT_MS;
    redis->beat_ok_ms = now_ms;
    if (emptied) {
        redis->emptied_ms = now_ms;
        rg_log(RG_LOG_WARN, "redis", "emptied");
    }
    if (missing)
        doubt_owned(redis);
    if (redis->watcher != NULL && !any_doubted(redis))
        redis->watcher->leased(redis->watcher_arg,
                               redis->beat_sent_ms + RG_REDIS_ALIVE_MS - RG_REDIS_BEAT_MS);
    if (missing || refused)
        rg_redis_all_wish(redis, !emptied);
}

/* The value names the run of Redis that this process speaks to: a heartbeat that a dump brought
 * back says nothing about who is alive (redis_share.c). */
static void beat_once(struct rg_redis *redis)
{
    struct rg_redis_args args = {.n = 0};

    if (redis->beating || redis->stopping || !rg_redis_link_is_up(redis->link))
        return;
    rg_redis_args_puts(&args, "SET");
    rg_redis_alive_key(&args, redis->id);
    rg_redis_args_puts(&args, redis->run);
    rg_redis_args_puts(&args, "PX");
    rg_redis_args_number(&args, RG_REDIS_ALIVE_MS);
    rg_redis_args_puts(&args, "GET");
    redis->beat_sent_ms = rg_loop_now_ms(redis->loop);
    redis->beating = rg_redis_link_call_take(redis->link, NULL, &args, on_beaten, redis);
}

/* ---- the connections */

static void on_info(void *arg, const redisReply *reply)
{
    static const char name[] = "run_id:";
    struct rg_redis *redis = arg;
    const char *at =
        reply != NULL && reply->type == REDIS_REPLY_STRING ? strstr(reply->str, name) : NULL;

    redis->run[0] = '\0';
    if (at != NULL) {
        at += strlen(name);
        (void)snprintf(redis->run, sizeof(redis->run), "%.*s",
                       (int)strspn(at, "0123456789abcdef"), at);
    }
    redis->beating = false;
    if (reply == NULL)
        return; /* lost again */
    beat_once(redis);
    rg_redis_all_wish(redis, true);
}

void rg_redis_up(void *arg)
{
    struct rg_redis *redis = arg;
    struct rg_redis_args args = {.n = 0};

    redis->beating = true; /* not before it is known which Redis this is */
    redis->run[0] = '\0';
    redis->beat_ok_ms = 0;
    redis->refuses = false;
    rg_redis_args_puts(&args, "INFO");
    rg_redis_args_puts(&args, "server");
    if (!rg_redis_link_call_take(redis->link, NULL, &args, on_info, redis))
        on_info(redis, NULL);
}

void rg_redis_down(void *arg)
{
    struct rg_redis *redis = arg;

    rg_metric_set(redis->metrics.up, 0);
    redis->beating = false;
    rg_redis_all_alone(redis);
}

void rg_redis_news_up(void *arg)
{
    struct rg_redis *redis = arg;
    struct rg_record *record, *next;

    HASH_ITER(hh, redis->records, record, next)
    {
        record->refresh = true; /* what was said meanwhile */
        rg_record_hurry(record);
    }
}

void rg_redis_beat(struct rg_redis *redis)
{
    beat_once(redis);
    if (rg_redis_link_is_up(redis->link) && !redis->refuses)
        rg_redis_watch_owners(redis);
}

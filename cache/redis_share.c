/* One account, several instances: who owns it, who follows, who is told (redis_store.h).
 *
 *                          claimed: nobody alive owns it
 *        FOLLOWER ------------------------------------------------> OWNER
 *          ^  ^  <------------------------------------------------   |
 *          |  |    given up: no session any more, or asked for it    |
 *          |  +-------------- overtaken: its heartbeat stopped ------+
 *          |                                                         |
 *          +---- another one owns it and shows the same - ALONE <----+ Redis does not answer
 *
 * An owner is never overtaken while its heartbeat stands: it may be answering reads from
 * memory. So whoever wants an account asks, and asks again, until it is given up or the
 * heartbeat has run out. Who cannot reach Redis goes on alone, under a MARK of its own, and
 * afterwards until the owner shows the same, or the account is its own. */
#include <stdlib.h>
#include <string.h>

#include "cache/redis_store.h"
#include "gateway/base/log.h"

enum {
    TAKE_MS = 10 * 1000, /* the owner may wait for an answer of its XMPP server that long */
    ASK_EVERY_MS = 1000,
    DISAGREES_MS = 1500, /* an owner that is alive has come back and written by then */
    OWNERS_MAX = 256     /* instances that are looked after */
};

/* ---- roles */

static void set_role(struct rg_record *record, enum rg_role role, bool unled)
{
    struct rg_account *account = record->account;

    if (account->role == role && account->unled == unled)
        return;
    account->role = role;
    account->unled = unled;
    record->moved = true;
}

static void report(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;

    if (!record->moved || !record->loaded)
        return;
    record->moved = false;
    if (redis->watcher != NULL)
        redis->watcher->moved(redis->watcher_arg, record->account);
}

bool rg_record_wants_claim(const struct rg_record *record)
{
    const struct rg_redis_sync *sync;

    if (record->claim)
        return true;
    STAILQ_FOREACH(sync, &record->syncs, entry)
    {
        if (sync->how != RG_SYNC_LOOK)
            return true;
    }
    return false;
}

bool rg_record_is_older(const struct rg_record *record)
{
    return record->older[0] != '\0' && record->older_dumped == record->dumped &&
           record->older_unread == record->unread && strcmp(record->older, record->at) == 0;
}

void rg_record_note_older(struct rg_record *record)
{
    memcpy(record->older, record->at, sizeof(record->older));
    record->older_dumped = record->dumped;
    record->older_unread = record->unread;
}

bool rg_record_found_alone(const struct rg_record *record)
{
    return record->account->role == RG_ROLE_ALONE && record->account->trusted;
}

bool rg_record_is_foreign(const struct rg_record *record)
{
    const struct rg_account *account = record->account;
    struct rg_version kept;
    size_t index;

    if (!rg_version_parse(&kept, record->at, strlen(record->at)))
        return false;
    return (kept.epoch != account->epoch || kept.at.mark != account->head.mark) &&
           !rg_account_since(account, &kept, &index);
}

/* Who was alone becomes owner of what somebody else has written since Redis is back: what is
 * here stays, under a mark that is yet to be drawn, but is read again before it is written, as
 * the other one may have told of more. */
static void take_over(struct rg_record *record)
{
    struct rg_account *account = record->account;

    if (!rg_record_found_alone(record) || record->dumped || !rg_record_is_foreign(record))
        return;
    rg_record_note_older(record);
    account->trusted = false;
    account->mark = 0;
    record->write = false;
}

void rg_record_settle_role(struct rg_record *record)
{
    struct rg_account *account = record->account;

    record->owned = strcmp(record->owner, record->redis->id) == 0;
    record->doubted = record->doubted && !record->owned;
    if (record->redis->refuses) { /* it can be read, but nothing would be kept */
        set_role(record, RG_ROLE_ALONE, false);
        return;
    }
    if (record->owned && !record->disown) {
        take_over(record);
        set_role(record, RG_ROLE_OWNER, false);
        return;
    }
    if (account->trusted && !record->claiming) {
        /* Ours as far as our session goes: whether it is another one's has to be found out. */
        record->claim = true;
        record->refresh = true;
        return;
    }
    account->trusted = false;
    set_role(record, RG_ROLE_FOLLOWER, record->owner[0] == '\0' || record->lame);
}

void rg_record_kept(struct rg_record *record)
{
    rg_store_kept_fn fn = record->kept;

    record->kept = NULL;
    if (fn != NULL)
        fn(record->kept_arg);
}

/* ---- callers that wait */

static void finish_syncs(struct rg_redis_syncs *syncs)
{
    struct rg_redis_sync *sync;

    while ((sync = STAILQ_FIRST(syncs)) != NULL) {
        STAILQ_REMOVE_HEAD(syncs, entry);
        sync->fn(sync->arg);
        free(sync);
    }
}

void rg_record_forget_syncs(struct rg_record *record)
{
    struct rg_redis_sync *sync;

    STAILQ_CONCAT(&record->looking, &record->syncs);
    while ((sync = STAILQ_FIRST(&record->looking)) != NULL) {
        STAILQ_REMOVE_HEAD(&record->looking, entry);
        free(sync);
    }
}

void rg_record_alone(struct rg_record *record)
{
    struct rg_redis_syncs all = STAILQ_HEAD_INITIALIZER(all);

    record->pins++;
    record->claiming = false;
    set_role(record, RG_ROLE_ALONE, false);
    rg_record_kept(record);
    report(record);
    STAILQ_CONCAT(&all, &record->looking);
    STAILQ_CONCAT(&all, &record->syncs);
    finish_syncs(&all);
    record->pins--;
}

void rg_redis_all_alone(struct rg_redis *redis)
{
    struct rg_record *record, *next;

    HASH_ITER(hh, redis->records, record, next)
    {
        record->disagrees_ms = 0;
        if (record->loaded)
            rg_record_alone(record);
    }
}

/* Back among those that the next load answers, before those that came meanwhile. */
static void look_again(struct rg_record *record)
{
    STAILQ_CONCAT(&record->looking, &record->syncs);
    STAILQ_CONCAT(&record->syncs, &record->looking);
    record->refresh = true;
}

/* The answer to the question after this process's heartbeat and another one's. One of another
 * run of Redis came out of a dump, or is of an instance that has not come back to this Redis
 * yet: either way nobody who owns anything here. One that is missing has run out, unless Redis
 * was emptied: then this process's own is missing as well, or was a moment ago. */
static bool is_gone(const struct rg_redis *redis, const redisReply *reply)
{
    int64_t now_ms = rg_loop_now_ms(redis->loop);
    const redisReply *own, *other;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        return false;
    own = reply->element[0];
    other = reply->element[1];
    if (other->type == REDIS_REPLY_STRING)
        return strcmp(other->str, redis->run) != 0;
    return other->type == REDIS_REPLY_NIL && own->type == REDIS_REPLY_STRING &&
           (redis->emptied_ms == 0 || now_ms - redis->emptied_ms >= RG_REDIS_ALIVE_MS);
}

static void put_question(struct rg_redis_args *args, const struct rg_redis *redis,
                         const char *owner)
{
    rg_redis_args_puts(args, "MGET");
    rg_redis_alive_key(args, redis->id);
    rg_redis_alive_key(args, owner);
}

static void on_owner(void *arg, const redisReply *reply)
{
    struct rg_record *record = arg;

    if (reply == NULL) {
        rg_record_alone(record);
        record->refresh = true;
    } else if (is_gone(record->redis, reply)) {
        memcpy(record->dead, record->owner, sizeof(record->dead));
        record->claim = true;
        look_again(record);
        record->hurry = true;
    } else {
        record->yields = true;
        look_again(record);
        record->hurry = true;
    }
    rg_record_done(record);
}

bool rg_record_owner_asked_after(struct rg_record *record)
{
    struct rg_redis_args args = {.n = 0};

    if (!record->claiming || record->owner[0] == '\0' ||
        strcmp(record->owner, record->redis->id) == 0)
        return false;
    put_question(&args, record->redis, record->owner);
    return rg_redis_link_call_take(record->redis->link, NULL, &args, on_owner, record);
}

static void ask_owner(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;
    struct rg_redis_args args = {.n = 0};
    int64_t now_ms = rg_loop_now_ms(redis->loop);

    if (record->asked_ms != 0 && now_ms - record->asked_ms < ASK_EVERY_MS / 2)
        return;
    record->asked_ms = now_ms;
    rg_metric_add(redis->metrics.asked, 1);
    rg_redis_args_puts(&args, "PUBLISH");
    rg_redis_put_news(&args, redis, RG_NEWS_ASK, record->account->user);
    (void)rg_redis_link_call_take(redis->link, NULL, &args, rg_redis_ignore, redis);
}

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

void rg_record_go_on_alone(struct rg_record *record)
{
    int64_t now_ms = rg_loop_now_ms(record->redis->loop), for_ms;

    if (record->disagrees_ms == 0)
        record->disagrees_ms = now_ms;
    for_ms = now_ms - record->disagrees_ms;
    if (for_ms >= DISAGREES_MS)
        ask_owner(record);
    record->claim = true;
    record->refresh = true;
    rg_record_alone(record);
    rg_record_rest(record, clamp(for_ms / 2, DISAGREES_MS / 16, DISAGREES_MS / 2));
}

/* Still somebody else's: it is asked, and looked at again when it answers or in a second. */
static void wait_for_owner(struct rg_record *record, struct rg_redis_sync *sync)
{
    STAILQ_INSERT_TAIL(&record->syncs, sync, entry);
    ask_owner(record);
    record->refresh = true;
    rg_record_rest(record, ASK_EVERY_MS);
}

void rg_record_share_loaded(struct rg_record *record)
{
    struct rg_redis_syncs done = STAILQ_HEAD_INITIALIZER(done);
    const struct rg_account *account = record->account;
    int64_t now_ms = rg_loop_now_ms(record->redis->loop);
    struct rg_redis_sync *sync;

    record->claiming = false;
    /* Not all of it is here, or whose it is has to be found out: nobody is answered before. */
    if (record->whole || (record->claim && account->trusted && !record->owned)) {
        look_again(record);
        return;
    }
    if (account->role == RG_ROLE_FOLLOWER && !account->trusted && !record->write)
        rg_record_kept(record);
    report(record);
    while ((sync = STAILQ_FIRST(&record->looking)) != NULL) {
        STAILQ_REMOVE_HEAD(&record->looking, entry);
        if (sync->how == RG_SYNC_CLAIM && record->lame)
            sync->how = RG_SYNC_TAKE;
        if (sync->how == RG_SYNC_TAKE && account->role == RG_ROLE_FOLLOWER &&
            now_ms < sync->until_ms)
            wait_for_owner(record, sync);
        else
            STAILQ_INSERT_TAIL(&done, sync, entry);
    }
    finish_syncs(&done);
}

/* ---- the store's calls */

bool rg_record_commit(struct rg_record *record, rg_store_kept_fn fn, void *arg)
{
    const struct rg_account *account = record->account;
    bool owner = account->role == RG_ROLE_OWNER;

    if (!account->trusted || account->presence == RG_ROSTER_UNKNOWN)
        return true;
    record->write = true;
    record->again = true;
    record->forgets = false;
    if (account->role == RG_ROLE_FOLLOWER) {
        record->claim = true;
        record->refresh = true;
    }
    if (!owner || fn == NULL) {
        rg_record_wish(record);
        return true;
    }
    record->kept = fn;
    record->kept_arg = arg;
    rg_record_hurry(record);
    return false;
}

static void answer_alone(struct rg_message *message)
{
    struct rg_redis_sync *sync = RG_CONTAINER_OF(message, struct rg_redis_sync, message);

    sync->fn(sync->arg);
    free(sync);
}

void rg_redis_sync(struct rg_store *store, struct rg_account *account, enum rg_sync how,
                   rg_store_sync_fn fn, void *arg)
{
    struct rg_redis *redis = RG_CONTAINER_OF(store, struct rg_redis, store);
    struct rg_record *record = rg_record_find(redis, account->user);
    struct rg_redis_sync *sync = calloc(1, sizeof(*sync));

    if (sync == NULL)
        abort(); /* the caller would wait for ever, or believe what it must not */
    *sync = (struct rg_redis_sync){.how = how, .fn = fn, .arg = arg};
    sync->until_ms = rg_loop_now_ms(redis->loop) + TAKE_MS;
    if (record == NULL || redis->refuses || !rg_redis_link_is_up(redis->link)) {
        if (record != NULL)
            set_role(record, RG_ROLE_ALONE, false);
        sync->message.fn = answer_alone;
        rg_loop_post(redis->loop, &sync->message);
        return;
    }
    STAILQ_INSERT_TAIL(&record->syncs, sync, entry);
    record->refresh = true;
    record->asked_ms = 0;
    rg_record_hurry(record);
}

/* Who has signed in since finds nothing here that was erased; the next change is written. */
void rg_record_forget(struct rg_record *record)
{
    struct rg_redis *redis = record->redis;

    record->write = false;
    record->forgets = record->account->trusted;
    if (!record->forgets) {
        redis->memory->ops->erase(redis->memory, record->account->user);
        rg_redis_base_fini(&record->base);
        record->moved = true;
    }
    rg_record_kept(record); /* as far as it ever will be */
}

void rg_redis_disown(struct rg_store *store, struct rg_account *account)
{
    struct rg_redis *redis = RG_CONTAINER_OF(store, struct rg_redis, store);
    struct rg_record *record = rg_record_find(redis, account->user);

    if (record == NULL || account->role != RG_ROLE_OWNER)
        return;
    account->role = RG_ROLE_FOLLOWER; /* from now on; the caller knows */
    account->unled = false;           /* whoever asked comes first */
    account->trusted = false;
    record->disown = true;
    if (record->forgets)
        rg_record_forget(record);
    rg_record_hurry(record);
}

static void on_released(void *arg, const redisReply *reply)
{
    struct rg_record *record = arg;

    (void)reply; /* lost: the next look tells */
    rg_record_done(record);
}

void rg_redis_put_release(struct rg_redis_args *args, const struct rg_record *record)
{
    rg_redis_args_puts(args, "1");
    rg_redis_key(args, record->account->user, "meta");
    rg_redis_args_puts(args, record->redis->id);
    rg_redis_put_news(args, record->redis, RG_NEWS_FREE, record->account->user);
    rg_redis_args_number(args, record->redis->ttl_ms);
}

bool rg_record_start_release(struct rg_record *record)
{
    struct rg_redis_args args = {.n = 0};

    rg_redis_put_release(&args, record);
    if (!rg_redis_link_call_take(record->redis->link, &rg_redis_script_release, &args,
                                 on_released, record))
        return false;
    record->disown = false;
    record->owned = false;
    record->owner[0] = '\0';
    return true;
}

/* ---- owners that vanish */

struct owner_check {
    struct rg_redis *redis;
    char owner[RG_REDIS_OWNER_SIZE];
};

static void on_heartbeat(void *arg, const redisReply *reply)
{
    struct owner_check *check = arg;
    struct rg_redis *redis = check->redis;
    struct rg_record *record, *next;

    if (reply != NULL && is_gone(redis, reply)) {
        HASH_ITER(hh, redis->records, record, next)
        {
            if (record->account->role != RG_ROLE_FOLLOWER ||
                strcmp(record->owner, check->owner) != 0)
                continue;
            record->moved = true; /* each time: an earlier claim may have failed */
            set_role(record, RG_ROLE_FOLLOWER, true);
            report(record);
        }
    }
    free(check);
}

static void check_owner(struct rg_redis *redis, const char *owner)
{
    struct owner_check *check = malloc(sizeof(*check));
    struct rg_redis_args args = {.n = 0};

    if (check == NULL)
        return; /* in a second */
    check->redis = redis;
    memcpy(check->owner, owner, sizeof(check->owner));
    put_question(&args, redis, owner);
    if (!rg_redis_link_call_take(redis->link, NULL, &args, on_heartbeat, check))
        free(check);
}

void rg_redis_watch_owners(struct rg_redis *redis)
{
    const char *owners[OWNERS_MAX];
    struct rg_record *record, *next;
    size_t n = 0, i;

    HASH_ITER(hh, redis->records, record, next)
    {
        if (record->account->role != RG_ROLE_FOLLOWER || !record->loaded)
            continue;
        if (record->owner[0] == '\0') { /* given up, and nobody came */
            record->moved = true;       /* each time: who could not lead then may do so now */
            set_role(record, RG_ROLE_FOLLOWER, true);
            report(record);
            continue;
        }
        for (i = 0; i < n && strcmp(owners[i], record->owner) != 0; i++)
            ;
        if (i == n && n < OWNERS_MAX)
            owners[n++] = record->owner;
    }
    for (i = 0; i < n; i++)
        check_owner(redis, owners[i]);
}

/* ---- news */

void rg_redis_put_news(struct rg_redis_args *args, const struct rg_redis *redis,
                       enum rg_redis_news news, const char *user)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf message = RG_BUF_INIT;

    rg_buf_puts(&message, redis->id);
    rg_buf_putc(&message, (char)news);
    rg_buf_puts(&message, user);
    rg_redis_args_puts(args, RG_REDIS_CHANNEL);
    rg_redis_args_put(args, message.data, message.len);
    args->failed = args->failed || rg_buf_failed(&message);
}

void rg_redis_news(struct rg_redis *redis, const char *data, size_t len)
{
    enum { HEAD = RG_REDIS_OWNER_SIZE }; /* the instance and what it says */
    struct rg_record *record;

    if (len <= HEAD || memchr(data, '\0', len) != NULL ||
        strncmp(data, redis->id, RG_REDIS_OWNER_SIZE - 1) == 0)
        return;
    record = rg_record_find(redis, data + HEAD); /* hiredis ends it with a NUL */
    if (record == NULL) {
        if (data[HEAD - 1] == RG_NEWS_ERASED)
            redis->memory->ops->erase(redis->memory, data + HEAD);
        return;
    }
    switch (data[HEAD - 1]) {
    case RG_NEWS_ASK:
        if (record->account->role == RG_ROLE_OWNER && record->loaded && redis->watcher != NULL)
            redis->watcher->asked(redis->watcher_arg, record->account);
        return;
    case RG_NEWS_PASSWORDS:
        record->drop_passwords = true;
        break;
    case RG_NEWS_ERASED:
    case RG_NEWS_FREE:
    case RG_NEWS_LOOK:
    default:
        break;
    }
    record->refresh = true;
    rg_record_hurry(record);
}

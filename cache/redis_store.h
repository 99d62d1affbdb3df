/* What the files of the Redis store share. Inside cache/ only. Thread: core.
 *
 * DESIGN. Every account that the core holds, or that has something to be written, has a record.
 * A record has at most one script on its way (`busy`) and a few wishes; whoever fulfils a wish
 * asks for the next (rg_redis_next). Nothing is queued but the record itself: what has to be
 * written is the difference between what Redis is believed to hold (`at`, `base`) and the
 * account as it is now, so that a Redis that was away costs one script for each account,
 * however much has changed.
 *
 *   load ----> refresh?  ends?  write? ----> nothing left and not held: let go, owner cleared
 *
 * What Redis holds is never believed to be what it was: each write names the version that it
 * expects, and the answer to a wrong one brings the right one. */
#ifndef CACHE_REDIS_STORE_H
#define CACHE_REDIS_STORE_H

#include <sys/queue.h>

#include "cache/redis_link.h"
#include "cache/redis_script.h"
#include "cache/redis_url.h"
#include "cache/redis_value.h"
#include "cache/table.h"
#include "gateway/base/config.h"
#include "gateway/base/metrics.h"
#include "gateway/ports/store.h"

enum {
    RG_REDIS_OWNER_SIZE = 33, /* 128 bits in hex and a NUL */
    RG_REDIS_BEAT_MS = 1000,
    RG_REDIS_ALIVE_MS = 5000,
    RG_REDIS_WORKING_MAX = 8 /* records being written at a time; loads come on top */
};
#define RG_REDIS_CHANNEL "rg:ends"

struct rg_redis_waiter {
    rg_store_load_fn fn;
    void *arg;
    struct rg_redis *redis;
    STAILQ_ENTRY(rg_redis_waiter) entry;
};
STAILQ_HEAD(rg_redis_waiters, rg_redis_waiter);

/* A version of the account's roster that Redis holds or may hold. */
struct rg_redis_base {
    char at[RG_VERSION_SIZE];
    struct rg_roster *roster; /* own; NULL: empty */
    struct rg_redis_digest digest;
    bool known;
};

struct rg_record {
    UT_hash_handle hh;
    struct rg_redis *redis;
    struct rg_account *account; /* own reference, of the memory store */
    struct rg_redis_waiters waiters;
    bool loaded;             /* the account is what the core may have */
    bool busy, working;      /* working: counted among those */
    struct rg_message later; /* considers it, once the memory store has let go */
    bool posted;
    unsigned pins; /* callbacks under way that will look at it again */

    /* Wishes. */
    bool refresh;            /* see what Redis has of the ends and of the version */
    bool drop_passwords;     /* with refresh: ends of passwords that Redis has not are over */
    bool write_ends, revive; /* revive: and no others of passwords */
    bool write, erase;
    TAILQ_ENTRY(rg_record) entry; /* in redis->wishing or redis->resting */
    struct rg_record_list *list;
    int64_t rest_until_ms;
    bool hurry;     /* does not rest, even if what is on its way says so */
    unsigned tries; /* of one write, against a Redis that keeps moving */

    /* What Redis is believed to hold. */
    char at[RG_VERSION_SIZE];        /* "": nothing */
    char owner[RG_REDIS_OWNER_SIZE]; /* whom this process may follow as writer */
    struct rg_redis_base base;       /* the content of `at`, if known */
    struct rg_redis_base sent;       /* what the last write would make of it */
    bool again;                      /* the account moved while it was on its way */
    bool owned;                      /* meta names this process, as far as known */
};
TAILQ_HEAD(rg_record_list, rg_record);

struct rg_redis {
    struct rg_store store;
    struct rg_store *memory; /* own */
    struct rg_loop *loop;
    struct rg_mac *mac; /* own */
    struct rg_redis_url url;
    struct rg_redis_link *link, *news; /* own */
    char id[RG_REDIS_OWNER_SIZE];
    int64_t ttl_ms;
    int64_t items_max;
    struct rg_record *records; /* table */
    struct rg_record_list wishing, resting;
    size_t n_working;
    struct rg_timer beat;
    bool beating;
    int64_t beat_ok_ms; /* 0: none since the connection */
    bool refuses;       /* it answers, but does not write */
    char refusal[96];
    rg_store_news_fn on_ends;
    void *on_ends_arg;
    void (*stopped)(void *arg); /* set: stopping */
    void *stopped_arg;
    bool stopping, releasing;
    int64_t stop_by_ms;
    struct {
        struct rg_metric *up, *accounts, *damaged, *errors, *written, *full, *lost_races;
    } metrics;
};

/* ---- redis.c */
struct rg_record *rg_record_find(struct rg_redis *redis, const char *user);
void rg_redis_next(struct rg_redis *redis);    /* starts what may start */
void rg_record_wish(struct rg_record *record); /* it has a wish: queues it */
/* The same, even if it is resting: for what others wait for. */
void rg_record_hurry(struct rg_record *record);
void rg_record_rest(struct rg_record *record, int64_t for_ms);
/* A script has come back. */
void rg_record_done(struct rg_record *record);
/* Lets go of it if nothing is left to do. It may be gone afterwards. */
void rg_record_consider(struct rg_record *record);
/* Appends rg:{user}:part. */
void rg_redis_key(struct rg_redis_args *args, const char *user, const char *part);
void rg_redis_alive_key(struct rg_redis_args *args, const char *id);
/* Redis said this error; true if it is one of not writing at all. */
bool rg_redis_refused(struct rg_redis *redis, const redisReply *reply);

/* ---- redis_load.c */
void rg_redis_load(struct rg_store *store, const char *user, rg_store_load_fn fn, void *arg);
bool rg_record_start_refresh(struct rg_record *record);

/* ---- redis_write.c */
void rg_redis_base_fini(struct rg_redis_base *base);
bool rg_record_start_write(struct rg_record *record);
bool rg_record_start_erase(struct rg_record *record);

/* ---- redis_ends.c */
void rg_redis_end(struct rg_store *store, struct rg_account *account, const struct rg_end *end,
                  rg_store_end_fn fn, void *arg);
void rg_redis_revive(struct rg_store *store, struct rg_account *account);
bool rg_record_start_ends(struct rg_record *record);
/* Takes over what Redis knows: fields and values. True: the account has more than before. */
bool rg_record_merge_ends(struct rg_record *record, const redisReply *ends);
void rg_redis_news(struct rg_redis *redis, const char *data, size_t len);

#endif

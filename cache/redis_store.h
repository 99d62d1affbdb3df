/* What the files of the Redis store share. Inside cache/ only. Thread: core.
 *
 * DESIGN. Every account that the core holds, or that has something to be written, has a record.
 * A record has at most one script on its way (`busy`) and a few wishes; whoever fulfils a wish
 * asks for the next (rg_redis_next). Nothing is queued but the record itself: what has to be
 * written is the difference between what Redis is believed to hold (`at`, `base`) and the
 * account as it is now, so that a Redis that was away costs one script for each account,
 * however much has changed.
 *
 *   load --> erase?  disown?  revive?  refresh?  ends?  write? --> nothing left and not held:
 *                                                                   let go
 *
 * What Redis holds is never believed to be what it was: each write names the version that it
 * expects, and the answer to a wrong one brings the right one.
 *
 * Whose account it is (account->role) follows from what Redis answers, and is ALONE whenever it
 * does not. An account that this process's session stands behind (`trusted`) is claimed and
 * written; any other one takes over what Redis has. */
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
    RG_REDIS_RUN_SIZE = 65,
    RG_REDIS_BEAT_MS = 1000,
    RG_REDIS_ALIVE_MS = 5000,
    RG_REDIS_REVIVED_MAX = 4,
    RG_REDIS_WORKING_MAX = 8 /* records being written at a time; loads come on top */
};
#define RG_REDIS_CHANNEL "rg:news"
/* What a message of the channel says of an account: its last letter but the user. */
enum rg_redis_news {
    RG_NEWS_LOOK = 'k',      /* something of it is new */
    RG_NEWS_PASSWORDS = 'p', /* and ends of passwords that are not kept are over */
    RG_NEWS_FREE = 'r',      /* its owner has given it up */
    RG_NEWS_ERASED = 'x',    /* it is erased */
    RG_NEWS_ASK = 'a'        /* its owner may give it up: the sender would like to have it */
};

struct rg_redis_waiter {
    rg_store_load_fn fn;
    void *arg;
    struct rg_redis *redis;
    STAILQ_ENTRY(rg_redis_waiter) entry;
};
STAILQ_HEAD(rg_redis_waiters, rg_redis_waiter);

/* A caller of store.sync. */
struct rg_redis_sync {
    struct rg_message message; /* answers it when there is no Redis to ask */
    enum rg_sync how;
    rg_store_sync_fn fn;
    void *arg;
    int64_t until_ms; /* TAKE: gives up */
    STAILQ_ENTRY(rg_redis_sync) entry;
};
STAILQ_HEAD(rg_redis_syncs, rg_redis_sync);

/* A version of the account's roster that Redis holds or may hold. */
struct rg_redis_base {
    char at[RG_VERSION_SIZE];
    struct rg_roster *roster; /* own; NULL: empty */
    struct rg_redis_digest digest;
    unsigned keys; /* under which the digest was made: redis->keys then */
    bool known;
};

struct rg_record {
    UT_hash_handle hh;
    struct rg_redis *redis;
    struct rg_account *account; /* own reference, of the memory store */
    struct rg_redis_waiters waiters;
    bool loaded;             /* the account is what the core may have */
    bool busy, working;      /* working: counted among those */
    struct rg_message later; /* see rg_record_later */
    bool posted;
    bool unsent;   /* nothing of it could be sent: then it is alone */
    unsigned pins; /* callbacks under way that will look at it again */

    /* Wishes. */
    bool refresh;        /* see what Redis has of it */
    bool claim;          /* with refresh: and own it, if nobody alive does */
    bool drop_passwords; /* with refresh: ends of passwords that Redis has not are over */
    bool write_ends;
    uint8_t revived[RG_REDIS_REVIVED_MAX][16]; /* with write_ends: no longer dead */
    size_t n_revived, n_reviving;              /* reviving: of what is on its way */
    bool write, erase;
    bool erase_for_all;           /* with erase: the other instances forget it, too */
    bool disown;                  /* once nothing is to be written */
    TAILQ_ENTRY(rg_record) entry; /* in redis->wishing or redis->resting */
    struct rg_record_list *list;
    int64_t rest_until_ms;
    bool hurry;     /* does not rest, even if what is on its way says so */
    unsigned tries; /* of one write, against a Redis that keeps moving */

    /* What Redis is believed to hold. */
    char at[RG_VERSION_SIZE];        /* "": nothing */
    char owner[RG_REDIS_OWNER_SIZE]; /* whom meta names, as far as known; "": nobody */
    bool erased;                     /* what was here has been erased by somebody since */
    bool dumped;                     /* it was written in another run of Redis */
    bool unread;                     /* nobody has written since it was last claimed */
    char older[RG_VERSION_SIZE];     /* an `at` that tells less than what is here; "": none */
    bool older_dumped, older_unread; /* as long as they are these */
    char dead[RG_REDIS_OWNER_SIZE];  /* an owner without heartbeat: may be followed, once */
    struct rg_redis_base base;       /* the content of `at`, if known */
    struct rg_redis_base sent;       /* what the last write would make of it */
    bool again;                      /* the account moved while it was on its way */

    bool owned;   /* meta names this process, as far as known */
    bool doubted; /* the heartbeat had run out since: no lease until it is looked at */

    /* How the account is shared (redis_share.c). */
    struct rg_redis_syncs syncs;   /* answered by a load that is sent from now on */
    struct rg_redis_syncs looking; /* by the load under way */
    bool claiming;                 /* the load under way claims */
    bool yields;                   /* the owner is alive: the next load does not claim */
    bool yielding;                 /* the load under way is that one */
    int64_t disagrees_ms; /* since when the owner shows something else than was found here while
                             alone; 0: it does not */
    bool whole;           /* the next load is to bring everything */
    bool forgets;         /* an erased account's memory, once no session stands behind it */
    bool lame;            /* what Redis has of it cannot be read: only an owner helps */
    bool moved;           /* the core is to be told */
    int64_t asked_ms;     /* when its owner was last asked for it */
    rg_store_kept_fn kept; /* of the commits that are not kept yet; NULL: none */
    void *kept_arg;
};
TAILQ_HEAD(rg_record_list, rg_record);

struct rg_redis {
    struct rg_store store;
    struct rg_store *memory; /* own */
    struct rg_loop *loop;
    struct rg_mac *mac; /* own */
    unsigned keys;      /* how often it was exchanged */
    struct rg_redis_url url;
    struct rg_redis_link *link, *news; /* own */
    char id[RG_REDIS_OWNER_SIZE];
    char run[RG_REDIS_RUN_SIZE]; /* run_id of the Redis connected to; "": it does not tell */
    int64_t ttl_ms;
    int64_t items_max;
    struct rg_record *records; /* table */
    struct rg_record_list wishing, resting;
    size_t n_working;
    struct rg_timer beat;
    bool beating;
    int64_t beat_sent_ms;
    int64_t beat_ok_ms; /* 0: none since the connection */
    int64_t emptied_ms; /* when the last beat was found missing; 0: never */
    bool refuses;       /* it answers, but does not write */
    char refusal[96];
    const struct rg_store_watcher *watcher; /* NULL: nobody */
    void *watcher_arg;
    void (*stopped)(void *arg); /* set: stopping */
    void *stopped_arg;
    bool stopping, releasing;
    int64_t stop_by_ms;
    struct {
        struct rg_metric *up, *accounts, *damaged, *errors, *written, *full, *lost_races;
        struct rg_metric *asked, *followed;
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
/* Considers it on a later turn, when the caller has let go. */
void rg_record_later(struct rg_record *record);
/* Lets go of it if nothing is left to do. It may be gone afterwards. */
void rg_record_consider(struct rg_record *record);
/* Appends rg:{user}:part. */
void rg_redis_key(struct rg_redis_args *args, const char *user, const char *part);
void rg_redis_alive_key(struct rg_redis_args *args, const char *id);
/* Appends the channel and this process's message of that kind about the user. */
void rg_redis_put_news(struct rg_redis_args *args, const struct rg_redis *redis,
                       enum rg_redis_news news, const char *user);
void rg_redis_ignore(void *arg, const redisReply *reply); /* a reply that nobody waits for */
/* Redis said this error; true if it is one of not writing at all. */
bool rg_redis_refused(struct rg_redis *redis, const redisReply *reply);

/* ---- redis_beat.c */
void rg_redis_beat(struct rg_redis *redis); /* once a second */
/* Redis may hold anything, or nothing. What this process's sessions stand behind is claimed and
 * written; `all`: everything else is looked at again, too. */
void rg_redis_all_wish(struct rg_redis *redis, bool all);
void rg_redis_up(void *arg); /* the connection for calls is there */
void rg_redis_down(void *arg);
void rg_redis_news_up(void *arg); /* the one for news is */

/* ---- redis_load.c */
void rg_redis_load(struct rg_store *store, const char *user, rg_store_load_fn fn, void *arg);
bool rg_record_start_refresh(struct rg_record *record);

/* ---- redis_write.c */
void rg_redis_base_fini(struct rg_redis_base *base);
/* The base is known, and its digest is one of the first key. */
bool rg_record_has_base(const struct rg_record *record);
bool rg_record_start_write(struct rg_record *record);
bool rg_record_start_erase(struct rg_record *record);
/* The words of the erase script. */
void rg_redis_put_erase(struct rg_redis_args *args, const struct rg_redis *redis,
                        const char *user);

/* ---- redis_ends.c */
void rg_redis_end(struct rg_store *store, struct rg_account *account, const struct rg_end *end,
                  rg_store_end_fn fn, void *arg);
void rg_redis_revive(struct rg_store *store, struct rg_account *account, const uint8_t tag[16]);
bool rg_record_start_ends(struct rg_record *record);
/* Takes over what Redis knows: fields and values. True: the account has more than before. */
bool rg_record_merge_ends(struct rg_record *record, const redisReply *ends);

/* ---- redis_share.c */
bool rg_record_commit(struct rg_record *record, rg_store_kept_fn fn, void *arg);
void rg_redis_sync(struct rg_store *store, struct rg_account *account, enum rg_sync how,
                   rg_store_sync_fn fn, void *arg);
void rg_redis_disown(struct rg_store *store, struct rg_account *account);
/* The words of the release script. */
void rg_redis_put_release(struct rg_redis_args *args, const struct rg_record *record);
bool rg_record_start_release(struct rg_record *record);
bool rg_record_wants_claim(const struct rg_record *record);
/* What Redis has of it is known to tell less than what is here. */
bool rg_record_is_older(const struct rg_record *record);
void rg_record_note_older(struct rg_record *record);
/* Another instance erased it. What a session stands behind goes with the session, which is
 * about to end, and is not written any more. */
void rg_record_forget(struct rg_record *record);
/* Redis has told whose the account is: record->owner. */
void rg_record_settle_role(struct rg_record *record);
/* After a load that claimed: whether the owner it named is alive is being found out; the record
 * stays busy. False: there is nothing to find out. */
bool rg_record_owner_asked_after(struct rg_record *record);
/* This process has been alone, and its own session stands behind what is here. */
bool rg_record_found_alone(const struct rg_record *record);
/* What Redis has was written by somebody who has not heard of what is here. */
bool rg_record_is_foreign(const struct rg_record *record);
/* The owner is alive and shows something else than was found alone. If it knows of more, or has
 * been away from Redis as well, it writes; if it does not in time, it is asked for the account;
 * if it has died since, it loses the account with its heartbeat. */
void rg_record_go_on_alone(struct rg_record *record);
/* After a load: tells the core what has moved, answers those that waited for it. */
void rg_record_share_loaded(struct rg_record *record);
void rg_record_forget_syncs(struct rg_record *record); /* nobody is called */
/* Redis is not there, or of no use: nobody waits for it any more. */
void rg_record_alone(struct rg_record *record);
void rg_redis_all_alone(struct rg_redis *redis);
/* All that was committed is kept, or never will be. */
void rg_record_kept(struct rg_record *record);
/* Once a second: is the owner of what is followed still there? */
void rg_redis_watch_owners(struct rg_redis *redis);
void rg_redis_news(struct rg_redis *redis, const char *data, size_t len);

#endif

/* What the files of core/ share: the core, its users and their streams. Thread: core, but for
 * the members of rg_stream that its mutex guards. */
#ifndef GATEWAY_CORE_INTERNAL_H
#define GATEWAY_CORE_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "gateway/base/metrics.h"
#include "gateway/base/table.h"
#include "gateway/core/core.h"
#include "gateway/core/throttle.h"

enum {
    RG_IQ_WINDOW = 16,          /* IQs of one session in flight (DESIGN section 5) */
    RG_PUSH_GRACE_MS = 100,     /* after a result, before the barrier get */
    RG_STALE_AFTER_MS = 2000,   /* a read with a cached roster waits so long for a session */
    RG_SIGN_INS_MAX = 32,       /* of one user, remembered: those that are needed first */
    RG_EARLY_PUSHES_MAX = 1000, /* pushes before the first result; more ends the session */
    RG_REREAD_S = 6 * 3600,     /* +- 50 % */
    RG_REREAD_FULL_S = 24 * 3600,
    RG_DOUBT_EVERY_MS = 60 * 1000 /* a server that always packs its pushes */
};

struct rg_stream {
    atomic_uint refs;
    TAILQ_ENTRY(rg_stream) link; /* core */
    struct rg_user *user;        /* core; NULL: not attached */
    struct rg_message message;   /* the reader's farewell to the core */
    struct rg_core *core;
    struct rg_stream_options options;
    uint8_t sign_in[RG_ID_BYTES];
    uint8_t password_tag[RG_ID_BYTES];
    bool listen; /* its sign-in wants presence */

    pthread_mutex_t mutex; /* guards what follows; leaf but for the reader's mailbox */
    rg_stream_wake_fn wake;
    void *wake_arg;
    struct rg_event **ring;
    unsigned head, n, cap;
    bool parked;
    enum rg_bye reason;
    size_t offset; /* of the first event, already taken */
    size_t cost, bytes, max_bytes;
};
TAILQ_HEAD(rg_stream_list, rg_stream);

/* A sign-in of a user that this process has seen and that is not over, by its newest token. */
struct rg_sign_in {
    uint8_t id[RG_ID_BYTES];
    uint8_t password_tag[RG_ID_BYTES];
    int64_t given_s, issued_s, expires_s;
    bool listen;
    char *token; /* own, sealed; NULL when out of memory: the next request brings it again */
};

/* A push that came before the first roster result (R52). */
struct rg_early_push {
    STAILQ_ENTRY(rg_early_push) link;
    struct rg_item *item; /* NULL: remove */
    bool has_ver;
    size_t ver_len;
    char *ver;
    char jid[];
};
STAILQ_HEAD(rg_early_pushes, rg_early_push);

struct rg_contact_presence; /* presence.c */
struct rg_request;          /* presence.c */

/* Where the user's XMPP session stands. The state shown to clients follows from it
 * (user_state). */
enum rg_link {
    RG_LINK_DOWN,    /* none, and none wanted until a request comes */
    RG_LINK_WAITING, /* the retry timer runs */
    RG_LINK_OPENING, /* upstream.open was called: connect, TLS, SASL, bind */
    RG_LINK_LOADING, /* bound, the first roster get is on its way */
    RG_LINK_LIVE,
    RG_LINK_CLOSING /* close was asked for */
};

struct rg_user {
    UT_hash_handle hh;
    struct rg_core *core;
    bool loading;
    struct rg_account *account;    /* NULL until the store has loaded it */
    struct rg_snapshot *snapshot;  /* of the account's head; NULL: no roster */
    struct rg_event *roster_event; /* of snapshot, made when first needed */

    enum rg_link link;
    uint64_t session;
    struct rg_upstream_features features;
    struct rg_op
        *opener; /* the sign-in whose password the attempt carries; NULL: the token's */
    uint8_t tag[RG_ID_BYTES]; /* of the password that the attempt or session carries */
    bool wanted;              /* reopen at once when CLOSING has ended */
    bool given_up; /* abort was called: nothing is taken from the session or sent to it */
    struct rg_err *attempt_err; /* own: why a bound session was of no use; NULL: none */
    unsigned failures;          /* attempts since the last live session */
    bool was_live;              /* since the user object exists */
    enum rg_state told;         /* the state that streams know */
    bool shows;                 /* the door and the streams know a roster: */
    struct rg_version shown;    /* this version of it */
    struct rg_early_pushes early;
    size_t n_early;

    struct rg_sign_in *sign_ins;
    size_t n_sign_ins;
    bool announced;

    struct rg_op_list waiting; /* for the account, the session, or word that it is away */
    struct rg_op_list
        verifying;            /* sign-ins whose password is being tried on its own connection */
    struct rg_op_list writes; /* queued, in order */
    struct rg_op_list in_flight; /* sent writes */
    struct rg_op_list lookers;   /* for a look into the store */
    struct rg_op_list keepers;   /* for what was committed to be kept */
    size_t n_in_flight;
    struct rg_op_list parked; /* long polls */
    /* The roster get that serves as barrier: those it will answer, and those for the next one.
     */
    bool getting;
    bool sent_ver; /* the get in flight named a version */
    bool full;     /* the next get must not name one */
    /* A push was refused (R42): until a full answer to a get sent after it, no `ver` is kept.
     */
    bool doubted, doubt_asked;
    int64_t doubt_read_ms; /* when a get was last sent for it; 0: never */
    struct rg_op_list getters, next_getters;
    int64_t not_found_asked_ms;
    int64_t full_read_s; /* when the whole roster was last read */

    /* An account that others share (follow.c). */
    bool committing; /* the account is ahead of what is shown: the store has not kept it yet */
    bool answered;   /* LOADING: the first answer is in, and only has to be kept */
    unsigned looks_started, looks_done;
    unsigned n_syncs;     /* under way: they hold the user */
    bool taking, leading; /* a sync of that kind is */
    bool took;            /* this session has asked for the account */
    bool asked;           /* another instance would like to have it */
    bool fresh;           /* just taken: something is done before it is given up again */
    bool surely;          /* this very moment, it is known whose it is */

    struct rg_stream_list streams;
    size_t n_streams;
    struct rg_bucket write_bucket;
    struct rg_contact_presence *presences; /* table */
    size_t n_presences, presences_bytes;
    struct rg_event *contacts; /* own: all of them for a new stream; NULL: they have changed */
    struct rg_request *requests; /* table: subscription requests */
    size_t n_requests, requests_bytes;

    int64_t last_used_ms;
    struct rg_timer retry_timer;       /* WAITING: to open; LOADING, LIVE: for room for a get */
    TAILQ_ENTRY(rg_user) waiting_link; /* WAITING */
    bool listed;
    struct rg_timer idle_timer, reread_timer;
    size_t name_len;
    char name[]; /* bare JID */
};

struct rg_core {
    const struct rg_config *config;
    struct rg_loop *loop;
    struct rg_upstream *upstream;
    struct rg_store *store;
    const struct rg_keys *keys;
    struct rg_door *door;
    struct rg_user *users;         /* table */
    TAILQ_HEAD(, rg_user) waiting; /* users whose sessions wait for a retry */
    struct rg_throttle *throttle;
    struct rg_event *greeting; /* `retry:` and a comment: makes proxies forward the head */
    bool draining;
    int64_t began_s;        /* with this configuration */
    int64_t lease_until_ms; /* what this process owns, it owns until then */
    size_t n_writes;        /* in flight, of all users */
    void (*drained)(void *arg);
    void *drained_arg;
    void (*stopped)(void *arg);
    void *stopped_arg;
    struct rg_timer drain_timer;
    struct {
        struct rg_metric *sessions, *streams, *resumed, *snapshots, *collapsed;
        struct rg_metric *sign_in_failures, *throttled, *reconnects;
        struct rg_metric *fetch_unchanged, *fetch_full, *fetch_error;
        struct rg_metric *events, *not_applied, *uncertain;
    } metrics;
};

/* ---- core.c */
void rg_op_finish(struct rg_op *op);                         /* op->err is set: tells http */
void rg_op_fail(struct rg_op *op, const struct rg_err *err); /* (borrow) err */
void rg_op_unlist(struct rg_op *op); /* from the list it is in, if any */
/* Does (again) what the op wants, as far as the user's state allows. */
void rg_op_run(struct rg_op *op);
int64_t rg_core_now_s(const struct rg_core *core);
/* No token of a password given until now can be alive after this unix time. */
int64_t rg_core_last_token_s(const struct rg_core *core);
void rg_core_write_ended(struct rg_core *core);

/* ---- user.c */
struct rg_user *rg_user_find(struct rg_core *core, const char *name);
/* Finds or makes; starts loading the account of a new one. NULL: out of memory. */
struct rg_user *rg_user_obtain(struct rg_core *core, const char *name);
void rg_user_destroy(struct rg_user *user);
enum rg_state rg_user_state(const struct rg_user *user);
bool rg_user_has_roster(const struct rg_user *user);
/* Parks the op until rg_user_run_waiting, or for wait_ms (-1: no limit of its own). */
void rg_user_wait(struct rg_user *user, struct rg_op *op, int64_t wait_ms);
void rg_user_run_waiting(struct rg_user *user);
void rg_op_list_in(struct rg_op_list *list, struct rg_op *op);
void rg_op_list_run(struct rg_op_list *list);
/* Runs the op again, timed_out set, after so long; false (and the op is finished): out of
 * memory. */
bool rg_op_time(struct rg_op *op, int64_t after_ms);
/* Fails all that waits for the session. */
void rg_user_fail_waiting(struct rg_user *user, const struct rg_err *err);
/* Rebuilds the snapshot if the version moved and publishes all that the door knows. */
void rg_user_publish(struct rg_user *user);
/* Writes the head's token, or "" without a roster. */
void rg_user_version(const struct rg_user *user, char out[RG_VERSION_SIZE]);
/* A request with these claims was seen: it counts as use, may bring a newer token, may want
 * presence. */
void rg_user_saw(struct rg_user *user, const struct rg_claims *claims, const char *token);
/* (borrow) What is known of the sign-in by its newest token; NULL if nothing is. */
const struct rg_sign_in *rg_user_sign_in(struct rg_user *user, const struct rg_claims *claims);
/* The sign-in whose token is to open the session: the newest. NULL: none is known. */
const struct rg_sign_in *rg_user_newest(const struct rg_user *user);
/* Forgets the sign-ins with this id, or with this password, or all (both NULL). */
void rg_user_forget(struct rg_user *user, const uint8_t *id, const uint8_t *password_tag);
/* When the last sign-in that wants presence ends; in the past or 0: none does. */
int64_t rg_user_presence_until_s(const struct rg_user *user);
bool rg_user_signed_in(const struct rg_user *user); /* a token of it may still be alive */
bool rg_user_busy(const struct rg_user *user);      /* an op or a stream holds it */
/* Lets go of the user, on a later turn, if nothing holds it. */
void rg_user_release_idle(struct rg_user *user);

/* ---- pool.c: one XMPP session per user */
/* Makes sure that a session is there or on its way (unless the retry timer runs). */
void rg_pool_want(struct rg_user *user);
/* An attempt with a copy of the op's password; rg_signin_attempt_done follows. False: err says
 * why not, and nothing follows. */
bool rg_pool_open_for(struct rg_user *user, struct rg_op *op, struct rg_err *err);
void rg_pool_close(struct rg_user *user);
/* The first roster answer is in: the session is live. */
void rg_pool_live(struct rg_user *user);
/* Bound, but of no use: ends the attempt with err. */
void rg_pool_attempt_failed(struct rg_user *user, const struct rg_err *err);
/* The stream is thought dead: ends it at once, reconnects. */
void rg_pool_abort(struct rg_user *user);
void rg_pool_announce(struct rg_user *user);
bool rg_pool_timers_init(struct rg_user *user);
void rg_pool_timers_fini(struct rg_user *user);
/* Tokens that carry the password with this tag are dead from now on. */
void rg_pool_password_dead(struct rg_user *user, const uint8_t tag[RG_ID_BYTES]);

/* ---- follow.c: accounts that several instances share */
void rg_follow_watch(struct rg_core *core);
/* True: the op waits, and is run again, for what is shown to be what the store has. */
bool rg_follow_wait(struct rg_op *op);
/* Is what is shown the newest, as far as the op can say? */
bool rg_follow_is_current(const struct rg_op *op);
/* The session is bound: claims the account, then reads the roster. */
void rg_follow_bound(struct rg_user *user);
/* May the XMPP server be asked, for what is here? If not, that is on its way, and
 * rg_replica_go and rg_write_pump are called again. */
bool rg_follow_may_ask(struct rg_user *user);
bool rg_follow_may_write(struct rg_user *user); /* likewise: judge and send writes */
/* The session has ended: another instance may own the account. */
void rg_follow_lost(struct rg_user *user);
/* Something has ended that kept the account from being given up. */
void rg_follow_settle(struct rg_user *user);

/* ---- replica.c */
/* Reads the roster: the first get of a session, and one that found no room before. */
void rg_replica_get(struct rg_user *user);
void rg_replica_push(struct rg_user *user, const struct rg_upstream_push *push);
void rg_replica_drop_early(struct rg_user *user);
/* A push was refused: what is here may lack something. Reads again, now or within a minute. */
void rg_replica_doubt(struct rg_user *user);
void rg_replica_settle_doubt(struct rg_user *user); /* if there is one; LIVE is new */
/* Reads the roster again, in full or with `ver`; the op (may be NULL) is run again with
 * op->flag set once an answer has come to a get that was sent after this call. The session must
 * be live. */
void rg_replica_barrier(struct rg_user *user, struct rg_op *op, bool full);
/* Tells the roster anew, under a version that continues none. */
void rg_replica_restamp(struct rg_user *user);
void rg_replica_go(struct rg_user *user); /* asks, if somebody waits and it may */
/* What waits for a get is run again, unanswered. */
void rg_replica_unanswered(struct rg_user *user);
/* The session went away: what waits for a get is run again, unanswered. */
void rg_replica_lost(struct rg_user *user);

/* ---- hub.c */
/* The account has moved on from what is shown, or was exchanged: the door, then streams and
 * long polls, each change once, or the whole roster if continuity broke. */
void rg_hub_tell(struct rg_user *user);
void rg_hub_state(struct rg_user *user, const char *reason);
void rg_hub_event_take(struct rg_user *user, struct rg_event *event);
/* Queues the event; false: the queue collapsed into the newest roster and what else is true
 * now. (ref) event, NULL (out of memory) collapses. */
bool rg_hub_feed(struct rg_user *user, struct rg_stream *stream, struct rg_event *event);
void rg_hub_attach(struct rg_op *op);
void rg_hub_detach(struct rg_stream *stream);
/* Says bye to the streams of one sign-in (id), of one password (tag), or all (both NULL). */
void rg_hub_bye(struct rg_user *user, const uint8_t *id, const uint8_t *tag,
                enum rg_bye reason);
void rg_hub_wake_polls(struct rg_user *user);

/* ---- signin.c, read.c, write.c: run an op as far as it gets */
void rg_signin_run(struct rg_op *op);
void rg_signin_attempt_done(struct rg_op *op, const struct rg_err *err);
/* The account's ends grew from outside: what they end, ends here too. */
void rg_signins_ended_elsewhere(struct rg_user *user);
void rg_session_info_run(struct rg_op *op);
void rg_renew_run(struct rg_op *op);
void rg_signout_run(struct rg_op *op);
void rg_read_run(struct rg_op *op);
void rg_write_run(struct rg_op *op);
void rg_erase_run(struct rg_op *op);
/* Sends what the window and the order allow. */
void rg_write_pump(struct rg_user *user);
void rg_write_saw_push(struct rg_user *user, const char *jid, const struct rg_item *item);

/* ---- presence.c */
void rg_presence_received(struct rg_user *user, const struct rg_upstream_presence *presence);
void rg_presence_forget(struct rg_user *user); /* the session ended */
void rg_presence_roster_moved(struct rg_user *user, const char *jid,
                              const struct rg_item *item);
bool rg_presence_asked(const struct rg_user *user, const char *jid); /* a request is open */
/* What a new stream gets before `sync`. */
void rg_presence_greet(struct rg_user *user, struct rg_stream *stream);

#endif

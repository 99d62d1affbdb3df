/* One request to the core: what is wanted, and, when `done` is called, what came of it.
 *
 * Made by http on its own thread, handed over by rg_core_submit, changed by the core alone
 * until done(op) is called, exactly once, on the core's thread; after that it belongs to http
 * again. Which members of `in` and `out` hold for which kind stands beside them. */
#ifndef GATEWAY_CORE_OP_H
#define GATEWAY_CORE_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "gateway/base/account.h"
#include "gateway/base/buf.h"
#include "gateway/base/err.h"
#include "gateway/base/loop.h"
#include "gateway/base/secret.h"
#include "gateway/core/door.h"
#include "gateway/core/stream.h"
#include "gateway/core/token.h"

enum rg_op_kind {
    RG_OP_SIGN_IN,  /* POST /v1/session */
    RG_OP_SESSION,  /* GET /v1/session */
    RG_OP_RENEW,    /* POST /v1/session/renew */
    RG_OP_SIGN_OUT, /* DELETE /v1/session */
    RG_OP_ROSTER,   /* GET /v1/roster, when the door cannot tell */
    RG_OP_CHANGES,  /* GET /v1/roster/changes */
    RG_OP_ITEM,     /* GET /v1/roster/items/JID */
    RG_OP_PUT,      /* PUT … */
    RG_OP_PATCH,    /* PATCH … */
    RG_OP_REMOVE,   /* DELETE … */
    RG_OP_STREAM,   /* GET /v1/events */
    RG_OP_ERASE, /* DELETE /accounts/JID of the operations listener; no claims but the user */
    RG_OP_KIND_COUNT
};

/* What API section 3 calls `allowed`: actions that make sense in the item's state, in this
 * order. */
enum rg_action {
    RG_ACTION_REQUEST = 1 << 0,
    RG_ACTION_CANCEL = 1 << 1,
    RG_ACTION_UNSUBSCRIBE = 1 << 2,
    RG_ACTION_APPROVE = 1 << 3,
    RG_ACTION_DENY = 1 << 4,
    RG_ACTION_REVOKE = 1 << 5,
    RG_ACTION_PREAPPROVE = 1 << 6,
    RG_ACTION_BEFRIEND = 1 << 7
};
/* Name of the lowest bit. */
const char *rg_action_name(unsigned action);

/* If-Match / If-None-Match of an item call. */
struct rg_condition_in {
    bool if_match;               /* present; holds if any listed version matches, or `any` */
    bool if_match_any;           /* If-Match: * */
    bool if_none_match_any;      /* If-None-Match: * */
    struct rg_version *versions; /* own; well-formed ones of If-Match, then of If-None-Match */
    size_t n_match, n_none;
};

struct rg_core;
struct rg_user;
struct rg_op;
TAILQ_HEAD(rg_op_list, rg_op);
typedef void (*rg_op_fn)(struct rg_op *op);

struct rg_op {
    struct rg_message message;
    enum rg_op_kind kind;
    rg_op_fn done;
    void *arg;

    struct rg_claims claims; /* what the token says; SIGN_IN: `user` alone, the JID given */
    char *token;             /* own; all but SIGN_IN: the token itself, for reconnecting */
    int64_t received_ms;     /* monotonic: when the request came in */

    struct {
        struct rg_secret *password; /* own; SIGN_IN */
        bool listen;                /* SIGN_IN, RENEW: presence "listen" */
        bool listen_set;            /* RENEW: `presence` was given */
        bool all;                   /* SIGN_OUT: ?all=1 */
        char address[64];           /* SIGN_IN: what failures are counted under; "": none */

        bool refresh;            /* ROSTER: Cache-Control: no-cache */
        bool since_known;        /* CHANGES: `since` is a well-formed version */
        struct rg_version since; /* CHANGES */
        char since_text[RG_VERSION_SIZE];
        size_t limit;    /* CHANGES: 1-1000 */
        int64_t wait_ms; /* CHANGES: long poll */

        char *jid;     /* own; ITEM, PUT, PATCH, REMOVE: prepared; full only for ITEM, REMOVE */
        char *name;    /* own; PUT, PATCH; NULL: none */
        char **groups; /* own; PUT, PATCH; unique, not empty */
        size_t n_groups;
        bool name_set;                    /* PATCH: `name` was given */
        bool groups_set;                  /* PATCH: `groups` was given */
        struct rg_condition_in condition; /* PUT, PATCH, REMOVE */

        struct rg_stream *stream; /* own; STREAM */
    } in;

    struct rg_err err;             /* RG_OK or why not */
    char version[RG_VERSION_SIZE]; /* of the roster, "" if none is known: Rostergate-Version */

    struct {
        struct rg_buf token;     /* SIGN_IN, RENEW; wiped by rg_op_destroy */
        struct rg_claims claims; /* SIGN_IN, RENEW: of the new token */
        enum rg_state state;     /* SIGN_IN, RENEW, SESSION */
        bool roster_versioning;  /* SESSION */
        bool pre_approval;       /* SESSION */
        bool everywhere;         /* SIGN_OUT: false answers 202 */

        struct rg_view view; /* ROSTER */

        struct rg_change **changes; /* own, referenced; CHANGES, oldest first */
        size_t n_changes;
        bool more; /* CHANGES */

        struct rg_item *item; /* own; ITEM, PUT, PATCH: as it now stands */
        unsigned allowed;     /* ITEM: mask of rg_action */
        bool created;         /* PUT */
        bool stale;           /* reads: the XMPP server is away */
        int64_t age_s;        /* with stale */
    } out;

    /* The core's own, while it holds the op. */
    TAILQ_ENTRY(rg_op) link;
    struct rg_op_list *list; /* the one it is in */
    struct rg_core *core;
    struct rg_user *user;
    struct rg_timer timer;
    bool timed;             /* timer is initialised */
    bool timed_out;         /* what it waited for did not come in time */
    bool flag;              /* see the file that runs this kind */
    unsigned stage;         /* likewise */
    unsigned look;          /* the look into the store that it waits for; 0: none yet */
    struct rg_item *before; /* own; writes: the item just before */
};

/* Returns (own), zeroed but for the arguments; NULL when out of memory. Thread: any. */
struct rg_op *rg_op_create(enum rg_op_kind kind, rg_op_fn done, void *arg);
/* Frees everything the op owns and wipes what is secret; accepts NULL. Thread: any. */
void rg_op_destroy(struct rg_op *op);

#endif

/* What the core asks of XMPP: sessions of users on the XMPP servers, and their rosters.
 * Implemented by xmpp/ (worker processes) and by a fake in the unit tests; one contract suite
 * runs over both.
 *
 * Thread: core, for every call and callback. If a call fails at once, no callback comes;
 * otherwise each callback comes exactly once, later, even at shutdown (RG_E_CANCELLED). */
#ifndef GATEWAY_PORTS_UPSTREAM_H
#define GATEWAY_PORTS_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/base/err.h"
#include "gateway/base/roster.h"
#include "gateway/base/secret.h"

/* What this connection's stream features offered (RFC 6121 2.6.1, 3.4.1). */
struct rg_upstream_features {
    bool roster_versioning;
    bool pre_approval;
};

/* A roster push, already checked: its sender is nobody or the own bare JID, it has exactly one
 * item (RFC 6121 2.1.6, R39-R46); it is acknowledged by the implementation. */
struct rg_upstream_push {
    const char *jid;      /* (borrow) prepared */
    struct rg_item *item; /* (borrow, ref to keep) NULL: subscription='remove' */
    const char *ver;      /* (borrow) NULL: the push had none */
    size_t ver_len;
};

/* A presence stanza that concerns subscriptions, from another bare JID (RFC 6121 3). */
enum rg_presence_type {
    RG_PRESENCE_SUBSCRIBE,
    RG_PRESENCE_SUBSCRIBED,
    RG_PRESENCE_UNSUBSCRIBE,
    RG_PRESENCE_UNSUBSCRIBED,
    RG_PRESENCE_AVAILABLE,
    RG_PRESENCE_UNAVAILABLE,
    RG_PRESENCE_ERROR
};

struct rg_upstream_presence {
    enum rg_presence_type type;
    const char *jid;      /* (borrow) bare, prepared */
    const char *resource; /* (borrow) NULL: none */
    const char *show;     /* (borrow) away, chat, dnd, xa; NULL: none */
    const char *status; /* (borrow) hostile text, cut to 1,023 bytes, valid UTF-8; NULL: none */
    const char *nick;   /* (borrow) XEP-0172, likewise; NULL: none */
    int priority;
    struct rg_xmpp_error error; /* RG_PRESENCE_ERROR: what the other side said */
};

/* A session's life: bound once, then pushes, then closed once. Without bound when it never came
 * up. After closed the id is dead and no callback of the session or its requests follows. */
struct rg_upstream_handler {
    void (*bound)(void *arg, const struct rg_upstream_features *features);
    void (*push)(void *arg, const struct rg_upstream_push *push);
    /* (May be NULL.) A push of the own server was refused, so the roster may have moved unseen:
     * no `ver` that was known so far, or comes with a later push, proves it whole (R42). */
    void (*doubt)(void *arg);
    /* Only after announce(true); never from the own bare JID. */
    void (*presence)(void *arg, const struct rg_upstream_presence *presence);
    /* (borrow) why. Before bound: RG_E_UNAUTHORIZED (SASL refused the credentials),
     * RG_E_UNREACHABLE (no TCP, no TLS, wrong certificate, stream error), RG_E_TIMEOUT,
     * RG_E_RATE (too many sign-ins in flight at this server). After: RG_E_UNREACHABLE. Any
     * time: RG_E_CANCELLED (asked for by close, or the process stops). */
    void (*closed)(void *arg, const struct rg_err *why);
};

enum rg_upstream_mode {
    RG_UPSTREAM_SESSION, /* stays until closed */
    RG_UPSTREAM_VERIFY   /* ends by itself after SASL: bound, then closed with RG_E_CANCELLED */
};

struct rg_roster_answer {
    struct rg_err err; /* RG_OK, or RG_E_XMPP (what the server said: item-not-found …), or
                          RG_E_UNCERTAIN/RG_E_UNREACHABLE (no answer, stream gone) */
    bool unchanged;    /* a result without <query/>: what `ver` named is current */
    struct rg_roster *roster; /* (borrow, ref to keep) the whole set; NULL if unchanged */
    const char *ver;          /* (borrow) NULL: none */
    size_t ver_len;
};
typedef void (*rg_roster_answer_fn)(void *arg, const struct rg_roster_answer *answer);

/* (borrow) err: RG_OK the server said result; RG_E_XMPP it said error; RG_E_UNCERTAIN sent, but
 * no answer; RG_E_UNREACHABLE not sent. */
typedef void (*rg_upstream_done_fn)(void *arg, const struct rg_err *err);

struct rg_upstream_status {
    const char *domain; /* (borrow) */
    bool reachable;     /* as last seen */
    size_t sessions;
};

struct rg_upstream;
struct rg_upstream_ops {
    /* Is this domain served? (Prepared form.) */
    bool (*serves)(struct rg_upstream *up, const char *domain);

    /* Opens a session for the bare JID `user`. (take) password, on failure too. *out_session is
     * set before any callback. Fails at once with RG_E_DOMAIN, RG_E_POOL_FULL, RG_E_RATE,
     * RG_E_UNREACHABLE (a domain whose servers hang is refused but for probes), RG_E_CANCELLED.
     */
    enum rg_code (*open)(struct rg_upstream *up, enum rg_upstream_mode mode, const char *user,
                         struct rg_secret *password_take,
                         const struct rg_upstream_handler *handler, void *arg,
                         uint64_t *out_session, struct rg_err *err);
    /* Ends the stream properly; `closed` follows, requests in flight are answered before.
     * Unknown ids are ignored. */
    void (*close)(struct rg_upstream *up, uint64_t session);
    /* Ends the stream at once (it is thought dead); otherwise like close. */
    void (*abort)(struct rg_upstream *up, uint64_t session);

    /* One roster get; `ver` NULL: no attribute, "" : ver='' (RFC 6121 2.1.3, 2.6.2). */
    enum rg_code (*roster_get)(struct rg_upstream *up, uint64_t session, const char *ver,
                               size_t ver_len, rg_roster_answer_fn fn, void *arg,
                               struct rg_err *err);
    /* One roster set with exactly one item and no `subscription` (RFC 6121 2.1.5, 2.3). The
     * strings must be sendable (rg_text_sendable): the implementation checks again and fails
     * with RG_E_INVALID_ITEM rather than end the stream. */
    enum rg_code (*item_set)(struct rg_upstream *up, uint64_t session, const char *jid,
                             const char *name, const char *const *groups, size_t n_groups,
                             rg_upstream_done_fn fn, void *arg, struct rg_err *err);
    /* subscription='remove' and nothing else (RFC 6121 2.5); no presence is sent. */
    enum rg_code (*item_remove)(struct rg_upstream *up, uint64_t session, const char *jid,
                                rg_upstream_done_fn fn, void *arg, struct rg_err *err);
    /* Initial presence with priority -1, or unavailable. */
    enum rg_code (*announce)(struct rg_upstream *up, uint64_t session, bool available,
                             struct rg_err *err);

    /* The i-th served domain; false beyond the last. */
    bool (*status)(struct rg_upstream *up, size_t i, struct rg_upstream_status *out);

    /* Closes every session and the workers; fn(arg) once all have ended. */
    void (*stop)(struct rg_upstream *up, void (*fn)(void *arg), void *arg);
    void (*destroy)(struct rg_upstream *up); /* after stop */
};

/* First member of every implementation. */
struct rg_upstream {
    const struct rg_upstream_ops *ops;
};

#endif

/* The door: what every thread may know of the accounts without asking the core (DESIGN section
 * 2).
 *
 * A table in 64 shards, each with a leaf mutex: look up, check, take a reference, unlock. The
 * core publishes before it answers a write or posts an event, so a read through the door never
 * lags behind an answer. */
#ifndef GATEWAY_CORE_DOOR_H
#define GATEWAY_CORE_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/account.h"
#include "gateway/core/snapshot.h"
#include "gateway/core/token.h"

enum rg_state { RG_STATE_CONNECTING, RG_STATE_LIVE, RG_STATE_RESUMING, RG_STATE_OFFLINE };
const char *rg_state_name(enum rg_state state); /* as API section 2 spells it */

/* What a read needs. (own) snapshot. */
struct rg_view {
    struct rg_snapshot *snapshot;
    bool hit;      /* answered without asking the XMPP server */
    bool stale;    /* the XMPP server is away */
    int64_t age_s; /* since the XMPP server last confirmed it, when stale */
};
void rg_view_fini(struct rg_view *view);

struct rg_door;
struct rg_door *rg_door_create(void);
void rg_door_destroy(struct rg_door *door);

/* May a roster be served without asking the core? */
enum rg_door_reads {
    RG_DOOR_FREE,   /* yes */
    RG_DOOR_LEASED, /* as long as the lease lasts */
    RG_DOOR_ASK     /* no: another instance may have a newer one */
};

/* RG_OK: the roster may be served from *out at once. RG_E_UNAUTHORIZED or RG_E_CREDENTIALS: the
 * sign-in has ended. RG_E_NOT_FOUND: the door cannot tell, ask the core. Marks the user as
 * used. Thread: any. */
enum rg_code rg_door_look(struct rg_door *door, const struct rg_claims *claims, int64_t now_ms,
                          struct rg_view *out);

/* Has the sign-in ended, as far as these ends say? RG_OK, RG_E_UNAUTHORIZED or
 * RG_E_CREDENTIALS. Thread: any. */
enum rg_code rg_ends_check(const struct rg_end *ends, size_t n, const struct rg_claims *claims);

/* Core only from here on. `snapshot` NULL: nothing to serve. (ref) snapshot, (copied) ends. */
enum rg_code rg_door_publish(struct rg_door *door, const char *user, enum rg_state state,
                             enum rg_door_reads reads, struct rg_snapshot *snapshot,
                             const struct rg_end *ends, size_t n_ends);
/* The lease lasts until then (monotonic ms); none at first. */
void rg_door_lease(struct rg_door *door, int64_t until_ms);
void rg_door_remove(struct rg_door *door, const char *user);
/* Monotonic ms of the last look, 0 if none: for the idle timer. */
int64_t rg_door_last_used_ms(struct rg_door *door, const char *user);

#endif

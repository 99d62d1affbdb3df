/* One account: its roster, its version and its journal. Thread: core.
 *
 * The version advances here and nowhere else: by one for each item that really differs. The
 * account is what a store keeps and what the core works on; both hold references to the same
 * object, so there is one truth per process.
 *
 * The journal is the last changes, oldest first: 1,000, 7 days, 64 KiB; a store may cut it
 * further (its budget in all). What is cut off turns resume into a snapshot, never into
 * silence. */
#ifndef GATEWAY_BASE_ACCOUNT_H
#define GATEWAY_BASE_ACCOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "gateway/base/err.h"
#include "gateway/base/mem.h"
#include "gateway/base/roster.h"
#include "gateway/base/version.h"

enum {
    RG_JOURNAL_MAX = 1000,
    RG_JOURNAL_BYTES = 64 * 1024,
    RG_JOURNAL_AGE_S = 7 * 24 * 3600,
    RG_SERVER_VER_MAX = 1024 /* a longer `ver` is treated as none */
};

/* One change of one item; immutable and counted, readable from any thread that holds it. */
struct rg_change {
    atomic_uint refs;
    struct rg_stamp at;     /* the version after this change */
    struct rg_stamp before; /* the version it was made on */
    int64_t made_s;         /* unix time */
    struct rg_item *item;   /* NULL: the JID was removed */
    char jid[];             /* always set */
};
/* Returns (own) a change; (ref) item, NULL for a removal. NULL when out of memory. */
struct rg_change *rg_change_create(struct rg_stamp before, struct rg_stamp at, int64_t made_s,
                                   struct rg_item *item, const char *jid);
struct rg_change *rg_change_ref(struct rg_change *change);
void rg_change_unref(struct rg_change *change); /* accepts NULL */

/* The server's opaque roster version (RFC 6121 2.6): bytes, compared for equality only. */
struct rg_server_ver {
    bool known; /* false: send ver='' next time */
    size_t len;
    char *bytes; /* own */
};

enum rg_roster_presence {
    RG_ROSTER_UNKNOWN,  /* never read */
    RG_ROSTER_PRESENT,  /* `roster` is set */
    RG_ROSTER_NOT_FOUND /* the server said item-not-found */
};

/* What makes tokens dead before their time (API section 2). */
enum rg_end_kind {
    RG_END_SIGN_IN, /* the sign-in `id` and everything renewed from it */
    RG_END_ALL,     /* every sign-in whose password was given before or at `at_s` */
    RG_END_PASSWORD /* every sign-in that carries the password named by the keyed tag `id` */
};
struct rg_end {
    enum rg_end_kind kind;
    uint8_t id[16];
    int64_t at_s;    /* unix time of the sign-out */
    int64_t until_s; /* no such token can be alive after this */
};

/* How this process stands to an account that others may write as well; set by the store. */
enum rg_role {
    RG_ROLE_ALONE,   /* there is nobody else, or nobody can be heard */
    RG_ROLE_OWNER,   /* this process writes the history that all follow */
    RG_ROLE_FOLLOWER /* it does not: the account shows what was kept when last looked at */
};

struct rg_account {
    unsigned refs; /* core thread only */
    enum rg_role role;
    bool unled; /* FOLLOWER: nobody is known to write it */
    uint64_t epoch;
    uint64_t mark; /* under which this process writes; 0: not drawn yet */
    struct rg_stamp head;
    enum rg_roster_presence presence;
    struct rg_roster *roster; /* NULL unless present */
    struct rg_server_ver ver;
    int64_t confirmed_s; /* unix time at which the XMPP server last confirmed the roster; 0:
                            never */
    bool trusted; /* this process's own session stands behind it; a follower's never does */

    struct rg_change **journal; /* ring */
    size_t journal_at, journal_n, journal_cap;
    size_t journal_bytes;

    struct rg_end *ends;
    size_t n_ends;

    void *store_data; /* the store's own, opaque to everybody else */
    char user[];      /* bare JID */
};

/* Returns (own) one reference to an account nobody has read yet; NULL when out of memory. */
struct rg_account *rg_account_create(const char *user);
struct rg_account *rg_account_ref(struct rg_account *account);
void rg_account_unref(struct rg_account *account); /* accepts NULL */

/* Takes what a push said: item ((take), its stamp is set here) or, with item NULL, the removal
 * of jid. Advances the version only if it differs; *out_changed says whether it did. On a
 * roster that is unknown or not found, the change starts from an empty roster. A failure (out
 * of memory) leaves the account as it was. */
enum rg_code rg_account_push_take(struct rg_account *account, struct rg_item *item,
                                  const char *jid, int64_t now_s, bool *out_changed);

/* Takes a full answer: it replaces the set; each item that differs is one change, removals come
 * out as removals (API section 1). All or nothing. *out_changes is how many the journal gained
 * (they are its last ones); when the roster was not PRESENT before, or the journal cannot hold
 * them all, the journal starts anew, *out_changes is 0 and *out_reset is true. */
enum rg_code rg_account_replace(struct rg_account *account, struct rg_roster *roster,
                                int64_t now_s, size_t *out_changes, bool *out_reset);

/* What a store kept outside the process, on its way back. */
struct rg_kept {
    uint64_t epoch;
    struct rg_stamp head;
    enum rg_roster_presence presence;
    struct rg_roster *roster;   /* own; NULL unless present */
    struct rg_change **changes; /* own: the array and its references */
    size_t n_changes;           /* each made on the one before it, the last one is head */
    int64_t confirmed_s;
    struct rg_server_ver ver; /* own */
};
void rg_kept_fini(struct rg_kept *kept);
/* The account becomes what was kept, its ends apart: written by another process so far, so no
 * mark is drawn, and not trusted. Moves what it needs out of *kept. A failure (out of memory)
 * leaves the account as it was. */
enum rg_code rg_account_restore(struct rg_account *account, struct rg_kept *kept);

/* Appends what another process has written since: n changes ((ref) each), the first made on the
 * head, each on the one before it; the last is the new head. As after restoring, no mark is
 * drawn and nothing is trusted. False: they do not fit, or out of memory; the account is as it
 * was. */
bool rg_account_follow(struct rg_account *account, struct rg_change *const *changes, size_t n,
                       int64_t now_s);

/* The same roster under a version of this process's own that continues none: for whoever holds
 * a later one than the head of the process that wrote it. */
void rg_account_restamp(struct rg_account *account);

/* The server has no roster for the account (item-not-found). */
void rg_account_set_not_found(struct rg_account *account);

/* (borrow) bytes; NULL or too long: nothing is known any more. */
void rg_account_set_ver(struct rg_account *account, const char *bytes, size_t len);

/* The change after `since`: *out_index into the journal (journal_n: nothing missed). False: the
 * version is not known here. */
bool rg_account_since(const struct rg_account *account, const struct rg_version *since,
                      size_t *out_index);
/* (borrow) the i-th change, 0 the oldest. */
struct rg_change *rg_account_change(const struct rg_account *account, size_t i);
/* Drops the oldest changes until the journal is within its bounds at now_s and at most
 * max_bytes large. */
void rg_account_trim(struct rg_account *account, int64_t now_s, size_t max_bytes);

/* Adds an end ((borrow), copied; out of memory: RG_E_INTERNAL); expired ones are dropped. */
enum rg_code rg_account_end(struct rg_account *account, const struct rg_end *end,
                            int64_t now_s);
/* A successful sign-in with this password: its tag is not dead any more. True if it was. */
bool rg_account_revive_password(struct rg_account *account, const uint8_t tag[16]);

/* Token of the account's head; returns its length. */
size_t rg_account_version(const struct rg_account *account, char out[RG_VERSION_SIZE]);

#endif

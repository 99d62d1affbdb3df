/* Rosters: items and snapshots, immutable and counted (RFC 6121 section 2.1.2).
 *
 * An item or a snapshot is never changed after it was made; the next one is built instead,
 * sharing what stays. So a snapshot may be read by any thread that holds a reference. */
#ifndef GATEWAY_BASE_ROSTER_H
#define GATEWAY_BASE_ROSTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/buf.h"
#include "gateway/base/err.h"
#include "gateway/base/mem.h"
#include "gateway/base/version.h"

enum rg_subscription { RG_SUB_NONE, RG_SUB_TO, RG_SUB_FROM, RG_SUB_BOTH, RG_SUB_COUNT };

struct rg_item {
    atomic_uint refs;
    struct rg_stamp changed; /* when it last changed, as far as known */
    enum rg_subscription subscription;
    bool ask; /* ask="subscribe" */
    bool approved;
    size_t jid_len;
    size_t n_groups;
    const char *jid;           /* prepared */
    const char *name;          /* NULL: none; never "" */
    const char *const *groups; /* sorted by code point, unique */
};

/* What an item is made of, before it is one. (borrow) all pointers. */
struct rg_item_spec {
    const char *jid;           /* prepared by the caller */
    const char *name;          /* NULL or "": none */
    const char *const *groups; /* any order, duplicates are dropped, "" is dropped */
    size_t n_groups;
    enum rg_subscription subscription;
    bool ask;
    bool approved;
    struct rg_stamp changed;
};

/* Returns (own) one reference, NULL when out of memory. */
struct rg_item *rg_item_create(const struct rg_item_spec *spec);
/* The same content under another stamp; (own). */
struct rg_item *rg_item_restamp(const struct rg_item *item, struct rg_stamp changed);
struct rg_item *rg_item_ref(struct rg_item *item);
void rg_item_unref(struct rg_item *item); /* accepts NULL */
RG_DEFINE_CLEANUP(struct rg_item, rg_item_unref)
/* Equal in everything a caller can see; the stamp does not count. */
bool rg_item_equal(const struct rg_item *a, const struct rg_item *b);
/* Same name and groups: does a push show what was asked for? */
bool rg_item_has(const struct rg_item *item, const char *name, const char *const *groups,
                 size_t n_groups);
/* Bytes it occupies, for budgets. */
size_t rg_item_bytes(const struct rg_item *item);
/* The item as API section 1 shows it. */
void rg_item_json(struct rg_buf *buf, const struct rg_item *item);

const char *rg_subscription_name(enum rg_subscription subscription);
/* False for anything but none, to, from, both. */
bool rg_subscription_parse(enum rg_subscription *out, const char *text);

struct rg_roster {
    atomic_uint refs;
    size_t n;
    size_t bytes;            /* of all items */
    struct rg_item *items[]; /* by jid, code point order; each holds a reference */
};

struct rg_roster *rg_roster_ref(struct rg_roster *roster);
void rg_roster_unref(struct rg_roster *roster); /* accepts NULL */
RG_DEFINE_CLEANUP(struct rg_roster, rg_roster_unref)

/* (borrow) jid. Returns (borrow) the item or NULL. */
struct rg_item *rg_roster_find(const struct rg_roster *roster, const char *jid);
/* The next snapshot: with the item added or replaced ((ref) item), or without the JID. Returns
 * (own), NULL when out of memory. */
struct rg_roster *rg_roster_with(const struct rg_roster *roster, struct rg_item *item);
struct rg_roster *rg_roster_without(const struct rg_roster *roster, const char *jid);

/* Collects the items of a full answer in any order. Items of one JID are merged by union of
 * their groups (R17). */
struct rg_roster_builder {
    struct rg_item **items;
    size_t n, cap;
    size_t duplicates; /* how many were merged away, known after finish */
    bool failed;
};
void rg_roster_builder_init(struct rg_roster_builder *builder);
void rg_roster_builder_fini(struct rg_roster_builder *builder);
void rg_roster_builder_add_take(struct rg_roster_builder *builder, struct rg_item *item);
/* Returns (own) the sorted snapshot, NULL when out of memory; the builder is empty afterwards.
 */
struct rg_roster *rg_roster_builder_finish(struct rg_roster_builder *builder);

/* The same items; NULL is an empty one. */
bool rg_roster_equal(const struct rg_roster *a, const struct rg_roster *b);

/* `[{...},{...}]` */
void rg_roster_json(struct rg_buf *buf, const struct rg_roster *roster);

#endif

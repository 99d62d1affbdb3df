/* What stands in Redis, byte by byte: every value carries a mark that names its key and binds
 * it to its user, its place and its epoch (base/mac.h), so that nobody who can write into Redis
 * can make a roster up or move a piece to another place (threat T20). Reading trusts nothing:
 * whatever does not check out is not there. Inside cache/ only. Thread: any. */
#ifndef CACHE_REDIS_VALUE_H
#define CACHE_REDIS_VALUE_H

#include "gateway/base/account.h"
#include "gateway/base/buf.h"
#include "gateway/base/mac.h"

/* Whose value it is and under which keys. */
struct rg_redis_place {
    const struct rg_mac *mac; /* (borrow) */
    const char *user;         /* (borrow) */
    uint64_t epoch;
};

/* The sum of keyed hashes of the items of a set, whatever their order: with the count it tells
 * whether the set is whole. */
struct rg_redis_digest {
    uint64_t low, high;
};
/* `key`: the index that opening the state told; 0 for one's own. */
void rg_redis_digest_add(struct rg_redis_digest *digest, const struct rg_redis_place *place,
                         size_t key, const struct rg_item *item);
void rg_redis_digest_remove(struct rg_redis_digest *digest, const struct rg_redis_place *place,
                            size_t key, const struct rg_item *item);
struct rg_redis_digest rg_redis_digest_of(const struct rg_redis_place *place, size_t key,
                                          const struct rg_roster *roster); /* NULL: empty */

/* The account as a whole. */
struct rg_redis_state {
    uint64_t epoch;
    struct rg_stamp head;
    enum rg_roster_presence presence;
    int64_t confirmed_s;
    uint64_t count;
    struct rg_redis_digest digest;
    bool ver_known;
    size_t ver_len;
    char ver[RG_SERVER_VER_MAX];
};

/* Each appends one value; the buffer's mark tells of lacking memory. */
void rg_redis_put_state(struct rg_buf *buf, const struct rg_redis_place *place,
                        const struct rg_redis_state *state);
void rg_redis_put_item(struct rg_buf *buf, const struct rg_redis_place *place,
                       const struct rg_item *item);
void rg_redis_put_change(struct rg_buf *buf, const struct rg_redis_place *place,
                         const struct rg_change *change);
void rg_redis_put_end(struct rg_buf *buf, const struct rg_redis_place *place,
                      const struct rg_end *end);

/* (borrow) data. False or NULL: damaged, forged, misplaced or out of memory; *out is untouched.
 * The epoch of a state is its own, place->epoch does not matter there, nor for ends. */
bool rg_redis_get_state(struct rg_redis_state *out, const struct rg_redis_place *place,
                        size_t *out_key, const void *data, size_t len);
struct rg_item *rg_redis_get_item(const struct rg_redis_place *place, const char *jid,
                                  size_t jid_len, const void *data, size_t len); /* (own) */
struct rg_change *rg_redis_get_change(const struct rg_redis_place *place, const void *data,
                                      size_t len); /* (own) */
bool rg_redis_get_end(struct rg_end *out, const struct rg_redis_place *place, const void *data,
                      size_t len);

/* The name of an end's field in its hash. */
enum { RG_REDIS_END_FIELD_SIZE = 1 + 2 * 16 + 1 };
void rg_redis_end_field(char out[RG_REDIS_END_FIELD_SIZE], const struct rg_end *end);

#endif

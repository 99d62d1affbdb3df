/* Keyed marks on what is stored outside the process (threat T20): a mark names its key, the
 * first key marks, any of them is accepted. The keys come from the key file by way of
 * core/token. Thread: any (immutable once filled). */
#ifndef GATEWAY_BASE_MAC_H
#define GATEWAY_BASE_MAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/mem.h"

enum {
    RG_MAC_KEY_BYTES = 32,
    RG_MAC_ID_BYTES = 6, /* names the key */
    RG_MAC_SUM_BYTES = 16,
    RG_MAC_BYTES = RG_MAC_ID_BYTES + RG_MAC_SUM_BYTES
};

/* One stretch of what is marked. (borrow) data. */
struct rg_mac_part {
    const void *data;
    size_t len;
};

struct rg_mac;
/* Returns (own) room for n keys, NULL when out of memory. */
struct rg_mac *rg_mac_create(size_t n);
/* (borrow) both, copied. */
void rg_mac_set_key(struct rg_mac *mac, size_t i, const uint8_t id[RG_MAC_ID_BYTES],
                    const uint8_t key[RG_MAC_KEY_BYTES]);
void rg_mac_destroy(struct rg_mac *mac); /* wipes; accepts NULL */
RG_DEFINE_CLEANUP(struct rg_mac, rg_mac_destroy)

/* The mark of the parts, each counted with its length, under the first key. */
void rg_mac_mark(const struct rg_mac *mac, const struct rg_mac_part *parts, size_t n,
                 uint8_t out[RG_MAC_BYTES]);
/* Is this mark one of ours for these parts? *out_key (may be NULL) tells under which key. */
bool rg_mac_check(const struct rg_mac *mac, const struct rg_mac_part *parts, size_t n,
                  const uint8_t mark[RG_MAC_BYTES], size_t *out_key);
/* The bare keyed hash of the parts under the i-th key. */
void rg_mac_sum(const struct rg_mac *mac, size_t i, const struct rg_mac_part *parts, size_t n,
                uint8_t out[RG_MAC_SUM_BYTES]);

#endif

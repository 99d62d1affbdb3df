/* The keys of the tokens: what is derived from each line of the key file, and the set of them
 * that counts now. A set is immutable and counted; a reload puts another one in its place,
 * while whoever works with the old one finishes with it. Shared by keys.c and token.c only;
 * everybody else has token.h. Thread: any. */
#ifndef GATEWAY_CORE_KEYS_H
#define GATEWAY_CORE_KEYS_H

#include <sodium.h>
#include <stdatomic.h>

#include "gateway/core/token.h"

enum { RG_KID_BYTES = 6, RG_KID_CHARS = 8 };

/* Five keys for five purposes, and two names. Lives in locked memory. */
struct rg_key {
    uint8_t seal[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
    uint8_t password[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
    uint8_t tag[crypto_generichash_KEYBYTES];
    uint8_t route[crypto_generichash_KEYBYTES];
    uint8_t store[RG_MAC_KEY_BYTES];
    uint8_t store_id[RG_MAC_ID_BYTES + 10]; /* the first of them count */
    char kid[RG_KID_CHARS + 1];
};

struct rg_keyset {
    atomic_uint refs;
    size_t n;
    struct rg_secret *block; /* struct rg_key[n] */
};

/* (ref) the set that counts now. The lock behind it is a leaf and held for two instructions. */
struct rg_keyset *rg_keys_hold(const struct rg_keys *keys);
void rg_keyset_unref(struct rg_keyset *set); /* the last one wipes */
RG_DEFINE_CLEANUP(struct rg_keyset, rg_keyset_unref)

static inline const struct rg_key *rg_keyset_at(const struct rg_keyset *set, size_t i)
{
    return (const struct rg_key *)(const void *)rg_secret_data(set->block) + i;
}

/* The one base64url form of a KID or ROUTE. */
bool rg_key_encode_part(char out[RG_KID_CHARS + 1], const uint8_t bytes[RG_KID_BYTES]);

#endif

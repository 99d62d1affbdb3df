#include "gateway/base/mac.h"

#include <sodium.h>
#include <string.h>

#include "gateway/base/secret.h"

/* Lives in locked memory. */
struct mac_key {
    uint8_t id[RG_MAC_ID_BYTES];
    uint8_t key[RG_MAC_KEY_BYTES];
};

struct rg_mac {
    size_t n;
    struct rg_secret *block; /* struct mac_key[n] */
};

struct rg_mac *rg_mac_create(size_t n)
{
    struct rg_mac *mac = calloc(1, sizeof(*mac));

    if (mac == NULL)
        return NULL;
    mac->n = n;
    mac->block = rg_secret_create_empty(n * sizeof(struct mac_key));
    if (mac->block == NULL) {
        free(mac);
        return NULL;
    }
    return mac;
}

void rg_mac_set_key(struct rg_mac *mac, size_t i, const uint8_t id[RG_MAC_ID_BYTES],
                    const uint8_t key[RG_MAC_KEY_BYTES])
{
    struct mac_key *at = (struct mac_key *)(void *)rg_secret_edit(mac->block) + i;

    memcpy(at->id, id, RG_MAC_ID_BYTES);
    memcpy(at->key, key, RG_MAC_KEY_BYTES);
}

void rg_mac_destroy(struct rg_mac *mac)
{
    if (mac == NULL)
        return;
    rg_secret_destroy(mac->block);
    free(mac);
}

static const struct mac_key *key_at(const struct rg_mac *mac, size_t i)
{
    return (const struct mac_key *)(const void *)rg_secret_data(mac->block) + i;
}

void rg_mac_sum(const struct rg_mac *mac, size_t i, const struct rg_mac_part *parts, size_t n,
                uint8_t out[RG_MAC_SUM_BYTES])
{
    crypto_generichash_state state;

    crypto_generichash_init(&state, key_at(mac, i)->key, RG_MAC_KEY_BYTES, RG_MAC_SUM_BYTES);
    for (size_t part = 0; part < n; part++) {
        uint64_t len = parts[part].len;
        uint8_t count[8];

        /* Counted, so that no two lists of parts read alike. */
        for (size_t b = 0; b < sizeof(count); b++, len >>= 8)
            count[b] = (uint8_t)len;
        crypto_generichash_update(&state, count, sizeof(count));
        crypto_generichash_update(&state, parts[part].data, parts[part].len);
    }
    crypto_generichash_final(&state, out, RG_MAC_SUM_BYTES);
    rg_wipe(&state, sizeof(state));
}

void rg_mac_mark(const struct rg_mac *mac, const struct rg_mac_part *parts, size_t n,
                 uint8_t out[RG_MAC_BYTES])
{
    memcpy(out, key_at(mac, 0)->id, RG_MAC_ID_BYTES);
    rg_mac_sum(mac, 0, parts, n, out + RG_MAC_ID_BYTES);
}

bool rg_mac_check(const struct rg_mac *mac, const struct rg_mac_part *parts, size_t n,
                  const uint8_t mark[RG_MAC_BYTES], size_t *out_key)
{
    uint8_t sum[RG_MAC_SUM_BYTES];

    for (size_t i = 0; i < mac->n; i++) {
        if (memcmp(key_at(mac, i)->id, mark, RG_MAC_ID_BYTES) != 0)
            continue;
        rg_mac_sum(mac, i, parts, n, sum);
        if (sodium_memcmp(sum, mark + RG_MAC_ID_BYTES, sizeof(sum)) != 0)
            continue;
        if (out_key != NULL)
            *out_key = i;
        return true;
    }
    return false;
}

#include "gateway/base/random.h"

#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool ready;
static unsigned char hash_key[crypto_shorthash_siphash24_KEYBYTES];

static void start(void)
{
    if (sodium_init() < 0)
        return;
    randombytes_buf(hash_key, sizeof(hash_key));
    ready = true;
}

enum rg_code rg_random_init(struct rg_err *err)
{
    if (pthread_once(&once, start) != 0 || !ready)
        return rg_fail(err, RG_E_INTERNAL, "libsodium does not start");
    return RG_OK;
}

void rg_random_bytes(void *out, size_t len)
{
    randombytes_buf(out, len);
}

uint64_t rg_random_u64(void)
{
    uint64_t value;

    randombytes_buf(&value, sizeof(value));
    return value;
}

uint64_t rg_random_below(uint64_t bound)
{
    uint64_t value, reject;

    if (bound < 2)
        return 0;
    /* 2^64 mod bound values at the bottom would make the rest uneven: draw again for them. */
    reject = (0 - bound) % bound;
    do {
        value = rg_random_u64();
    } while (value < reject);
    return value % bound;
}

uint64_t rg_random_spread(uint64_t value, unsigned percent)
{
    uint64_t reach;

    if (percent > 100)
        percent = 100;
    reach = value / 100 * percent + value % 100 * percent / 100;
    return value - reach + rg_random_below(2 * reach + 1);
}

uint64_t rg_hash(const void *data, size_t len)
{
    uint64_t out;

    /* Without a drawn key every table could be flooded (T21), so there is no way around it. */
    if (rg_random_init(NULL) != RG_OK)
        abort();
    crypto_shorthash_siphash24((unsigned char *)&out, data, len, hash_key);
    return out;
}

#include "gateway/base/version.h"

#include <inttypes.h>
#include <stdio.h>

#include "gateway/base/random.h"

/* Sixteen hex digits, '.', sixteen, '-', up to twenty decimal ones: 54 bytes at most. */
enum { HEX_LEN = 16, DIGITS_AT = 2 * HEX_LEN + 2 };

uint64_t rg_version_draw(void)
{
    uint64_t value;

    do {
        value = rg_random_u64();
    } while (value == 0);
    return value;
}

size_t rg_version_format(char out[RG_VERSION_SIZE], uint64_t epoch, struct rg_stamp at)
{
    int len = snprintf(out, RG_VERSION_SIZE, "%016" PRIx64 ".%016" PRIx64 "-%" PRIu64, epoch,
                       at.mark, at.seq);

    return len > 0 ? (size_t)len : 0;
}

static bool parse_hex(uint64_t *out, const char *text)
{
    uint64_t value = 0;

    for (size_t i = 0; i < HEX_LEN; i++) {
        char c = text[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = value;
    return value != 0; /* 0 means none and is never drawn */
}

static bool parse_decimal(uint64_t *out, const char *text, size_t len)
{
    uint64_t value = 0;

    if (len == 0 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' ||
            __builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

bool rg_version_parse(struct rg_version *out, const char *text, size_t len)
{
    struct rg_version version;

    if (len <= DIGITS_AT || len >= RG_VERSION_SIZE || text[HEX_LEN] != '.' ||
        text[DIGITS_AT - 1] != '-')
        return false;
    if (!parse_hex(&version.epoch, text) || !parse_hex(&version.at.mark, text + HEX_LEN + 1) ||
        !parse_decimal(&version.at.seq, text + DIGITS_AT, len - DIGITS_AT))
        return false;
    *out = version;
    return true;
}

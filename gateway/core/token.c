#include "gateway/core/token.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/base/text.h"
#include "gateway/core/keys.h"

/* DESIGN
 *
 * A token is rg1.ROUTE.KID.BOX, every part base64url in its one canonical form:
 *
 *   BOX    = nonce | aead(seal key, ad = "rg1.ROUTE.KID", claims)
 *   claims = format, times, presence, sign_in, password_tag, user, password box; padded to 64
 * bytes password box = nonce | aead(password key, ad = user, length, password; padded to 64
 * bytes)
 *
 * The keys come from keys.c, five from each line of the key file, so that no key serves two
 * purposes. All open; the first seals. */

enum {
    CLEAR_CHARS = 4 + RG_KID_CHARS + 1 + RG_KID_CHARS, /* "rg1.ROUTE.KID" */
    NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
    PAD = 64,
    FORMAT = 1,
    FIXED = 1 + 3 * 8 + 1 + 2 * RG_ID_BYTES, /* claims before the two counted strings */
    PASSWORD_PLAIN_MAX = (2 + RG_PASSWORD_MAX + PAD - 1) / PAD * PAD,
    PASSWORD_BOX_MAX = NONCE + PASSWORD_PLAIN_MAX + TAG,
    CLAIMS_MAX = (FIXED + 2 + RG_JID_BARE_MAX + 2 + PASSWORD_BOX_MAX + PAD - 1) / PAD * PAD,
    BOX_MAX = NONCE + CLAIMS_MAX + TAG
};

static void tag_under(const struct rg_key *key, const char *user,
                      const struct rg_secret *password, uint8_t out[RG_ID_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, key->tag, sizeof(key->tag), RG_ID_BYTES);
    /* The NUL keeps user and password apart: neither can hold one. */
    crypto_generichash_update(&state, (const unsigned char *)user, strlen(user) + 1);
    crypto_generichash_update(&state, (const unsigned char *)rg_secret_data(password),
                              rg_secret_len(password));
    crypto_generichash_final(&state, out, RG_ID_BYTES);
    rg_wipe(&state, sizeof(state));
}

void rg_keys_password_tag(const struct rg_keys *keys, const char *user,
                          const struct rg_secret *password, uint8_t out[RG_ID_BYTES])
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = rg_keys_hold(keys);
    tag_under(rg_keyset_at(set, 0), user, password, out);
}

bool rg_keys_password_is(const struct rg_keys *keys, const char *user,
                         const struct rg_secret *password, const uint8_t tag[RG_ID_BYTES])
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = rg_keys_hold(keys);
    uint8_t own[RG_ID_BYTES];
    for (size_t i = 0; i < set->n; i++) {
        tag_under(rg_keyset_at(set, i), user, password, own);
        if (sodium_memcmp(own, tag, RG_ID_BYTES) == 0)
            return true;
    }
    return false;
}

/* ---- writing */

static uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        at[i] = (uint8_t)value;
    return at + 8;
}

static uint8_t *put_counted(uint8_t *at, const void *data, size_t len)
{
    at[0] = (uint8_t)(len >> 8);
    at[1] = (uint8_t)len;
    memcpy(at + 2, data, len);
    return at + 2 + len;
}

static size_t padded(size_t len)
{
    return (len + PAD - 1) / PAD * PAD;
}

/* out holds NONCE + len + TAG bytes afterwards. */
static size_t seal(uint8_t *out, const uint8_t *plain, size_t len, const void *ad,
                   size_t ad_len, const uint8_t *key)
{
    unsigned long long sealed = 0;
    randombytes_buf(out, NONCE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(out + NONCE, &sealed, plain, len, ad, ad_len,
                                               NULL, out, key);
    return NONCE + (size_t)sealed;
}

/* Returns the length of what was inside, or SIZE_MAX. */
static size_t unseal(uint8_t *out, const uint8_t *box, size_t len, const void *ad,
                     size_t ad_len, const uint8_t *key)
{
    unsigned long long opened = 0;
    if (len < NONCE + TAG ||
        crypto_aead_xchacha20poly1305_ietf_decrypt(out, &opened, NULL, box + NONCE, len - NONCE,
                                                   ad, ad_len, box, key) != 0)
        return SIZE_MAX;
    return (size_t)opened;
}

static size_t seal_password(uint8_t out[PASSWORD_BOX_MAX], const struct rg_key *key,
                            const char *user, const struct rg_secret *password)
{
    uint8_t plain[PASSWORD_PLAIN_MAX] = {0};
    put_counted(plain, rg_secret_data(password), rg_secret_len(password));
    size_t len = seal(out, plain, padded(2 + rg_secret_len(password)), user, strlen(user),
                      key->password);
    rg_wipe(plain, sizeof(plain));
    return len;
}

static void write_clear(char out[CLEAR_CHARS + 1], const struct rg_key *key, const char *user)
{
    uint8_t route[RG_KID_BYTES + 10];
    char part[RG_KID_CHARS + 1];
    crypto_generichash(route, sizeof(route), (const unsigned char *)user, strlen(user),
                       key->route, sizeof(key->route));
    (void)rg_key_encode_part(part, route);
    memcpy(out, "rg1.", 4);
    memcpy(out + 4, part, RG_KID_CHARS);
    out[4 + RG_KID_CHARS] = '.';
    memcpy(out + 5 + RG_KID_CHARS, key->kid, RG_KID_CHARS + 1);
}

enum rg_code rg_token_seal(const struct rg_keys *keys, const struct rg_claims *claims,
                           const struct rg_secret *password, struct rg_buf *out,
                           struct rg_err *err)
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = rg_keys_hold(keys);
    const struct rg_key *key = rg_keyset_at(set, 0);
    uint8_t password_box[PASSWORD_BOX_MAX];
    uint8_t plain[CLAIMS_MAX] = {0};
    uint8_t box[BOX_MAX];
    char clear[CLEAR_CHARS + 1];
    if (rg_secret_len(password) > RG_PASSWORD_MAX || strlen(claims->user) > RG_JID_BARE_MAX)
        return rg_fail(err, RG_E_INVALID_ITEM, "password or jid too long for a token");
    uint8_t *at = plain;
    *at++ = FORMAT;
    at = put_u64(at, (uint64_t)claims->given_s);
    at = put_u64(at, (uint64_t)claims->issued_s);
    at = put_u64(at, (uint64_t)claims->expires_s);
    *at++ = (uint8_t)claims->presence;
    memcpy(at, claims->sign_in, RG_ID_BYTES);
    memcpy(at + RG_ID_BYTES, claims->password_tag, RG_ID_BYTES);
    at = put_counted(at + 2 * RG_ID_BYTES, claims->user, strlen(claims->user));
    at =
        put_counted(at, password_box, seal_password(password_box, key, claims->user, password));
    write_clear(clear, key, claims->user);
    size_t len = seal(box, plain, padded((size_t)(at - plain)), clear, CLEAR_CHARS, key->seal);
    rg_buf_append(out, clear, CLEAR_CHARS);
    rg_buf_putc(out, '.');
    rg_base64url_encode(out, box, len);
    return rg_buf_failed(out) ? rg_fail(err, RG_E_INTERNAL, "out of memory") : RG_OK;
}

/* ---- reading */

struct reader {
    const uint8_t *at;
    size_t left;
    bool ok;
};

static const uint8_t *take(struct reader *reader, size_t len)
{
    reader->ok = reader->ok && reader->left >= len;
    if (!reader->ok)
        return NULL;
    const uint8_t *at = reader->at;
    reader->at += len;
    reader->left -= len;
    return at;
}

static int64_t take_i64(struct reader *reader)
{
    const uint8_t *at = take(reader, 8);
    uint64_t value = 0;
    for (int i = 0; at != NULL && i < 8; i++)
        value = value << 8 | at[i];
    return (int64_t)value;
}

static const uint8_t *take_counted(struct reader *reader, size_t *out_len)
{
    const uint8_t *len = take(reader, 2);
    if (len == NULL)
        return NULL;
    *out_len = (size_t)len[0] << 8 | len[1];
    return take(reader, *out_len);
}

static const struct rg_key *find_key(const struct rg_keyset *set, const char *kid)
{
    for (size_t i = 0; i < set->n; i++)
        if (memcmp(rg_keyset_at(set, i)->kid, kid, RG_KID_CHARS) == 0)
            return rg_keyset_at(set, i);
    return NULL;
}

static bool read_claims(const uint8_t *plain, size_t len, struct rg_claims *out,
                        const uint8_t **out_password, size_t *out_password_len)
{
    struct reader reader = {.at = plain, .left = len, .ok = true};
    size_t user_len = 0;
    const uint8_t *format = take(&reader, 1);
    out->given_s = take_i64(&reader);
    out->issued_s = take_i64(&reader);
    out->expires_s = take_i64(&reader);
    const uint8_t *presence = take(&reader, 1);
    const uint8_t *sign_in = take(&reader, RG_ID_BYTES);
    const uint8_t *tag = take(&reader, RG_ID_BYTES);
    const uint8_t *user = take_counted(&reader, &user_len);
    *out_password = take_counted(&reader, out_password_len);
    if (!reader.ok || *format != FORMAT || *presence > RG_TOKEN_LISTEN ||
        user_len > RG_JID_BARE_MAX)
        return false;
    out->presence = (enum rg_token_presence) * presence;
    memcpy(out->sign_in, sign_in, RG_ID_BYTES);
    memcpy(out->password_tag, tag, RG_ID_BYTES);
    memcpy(out->user, user, user_len);
    out->user[user_len] = '\0';
    return true;
}

/* Opens the outer box; what comes out holds the password only in its own box. */
static const struct rg_key *open_box(const struct rg_keyset *set, const char *token, size_t len,
                                     uint8_t plain[CLAIMS_MAX], size_t *out_len)
{
    uint8_t box[BOX_MAX];
    size_t box_len = 0;
    if (len <= CLEAR_CHARS + 1 || memcmp(token, "rg1.", 4) != 0 ||
        token[4 + RG_KID_CHARS] != '.' || token[CLEAR_CHARS] != '.')
        return NULL;
    const struct rg_key *key = find_key(set, token + 5 + RG_KID_CHARS);
    if (key == NULL || !rg_base64url_decode(token + CLEAR_CHARS + 1, len - CLEAR_CHARS - 1, box,
                                            sizeof(box), &box_len))
        return NULL;
    *out_len = unseal(plain, box, box_len, token, CLEAR_CHARS, key->seal);
    return *out_len == SIZE_MAX ? NULL : key;
}

enum rg_code rg_token_open(const struct rg_keys *keys, const char *token, size_t len,
                           int64_t now_s, struct rg_claims *out, struct rg_err *err)
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = rg_keys_hold(keys);
    uint8_t plain[CLAIMS_MAX];
    size_t plain_len = 0;
    const uint8_t *password;
    size_t password_len;
    struct rg_claims claims;
    if (open_box(set, token, len, plain, &plain_len) == NULL ||
        !read_claims(plain, plain_len, &claims, &password, &password_len))
        return rg_fail(err, RG_E_UNAUTHORIZED, "the token is not valid");
    if (claims.expires_s <= now_s)
        return rg_fail(err, RG_E_UNAUTHORIZED, "the token has expired");
    *out = claims;
    return RG_OK;
}

struct rg_secret *rg_token_password(const struct rg_keys *keys, const char *token, size_t len)
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = rg_keys_hold(keys);
    uint8_t plain[CLAIMS_MAX];
    size_t plain_len = 0;
    const uint8_t *box;
    size_t box_len;
    struct rg_claims claims;
    const struct rg_key *key = open_box(set, token, len, plain, &plain_len);
    if (key == NULL || !read_claims(plain, plain_len, &claims, &box, &box_len) ||
        box_len > PASSWORD_BOX_MAX)
        return NULL;
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *opened = rg_secret_create_empty(PASSWORD_PLAIN_MAX);
    if (opened == NULL)
        return NULL;
    size_t opened_len = unseal((uint8_t *)rg_secret_edit(opened), box, box_len, claims.user,
                               strlen(claims.user), key->password);
    size_t len_in = 0;
    struct reader reader = {
        .at = (const uint8_t *)rg_secret_data(opened), .left = opened_len, .ok = true};
    if (opened_len == SIZE_MAX)
        return NULL;
    const uint8_t *password = take_counted(&reader, &len_in);
    return password == NULL ? NULL : rg_secret_create(password, len_in);
}

enum rg_code rg_token_reseal(const struct rg_keys *keys, const struct rg_claims *claims,
                             const char *token, size_t len, struct rg_buf *out,
                             struct rg_err *err)
{
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *password = rg_token_password(keys, token, len);
    if (password == NULL)
        return rg_fail(err, RG_E_UNAUTHORIZED, "the token is not valid");
    return rg_token_seal(keys, claims, password, out, err);
}

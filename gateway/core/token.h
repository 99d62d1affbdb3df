/* Sealed tokens: rg1.ROUTE.KID.BOX (API sections 2 and 8; threats T2, T3, T7).
 *
 * ROUTE is a short keyed hash of the JID, clear, for a proxy to hash on. KID names the key. BOX
 * is XChaCha20-Poly1305 over the claims, padded to 64 bytes, with the clear part as associated
 * data. The password is inside the claims in a box of its own, so that opening a token does not
 * bring the password into memory; rg_token_password does. Thread: any; rg_keys_reload: one at a
 * time. */
#ifndef GATEWAY_CORE_TOKEN_H
#define GATEWAY_CORE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/base/err.h"
#include "gateway/base/jid.h"
#include "gateway/base/mac.h"
#include "gateway/base/secret.h"

enum { RG_ID_BYTES = 16, RG_TOKEN_MAX = 4096, RG_PASSWORD_MAX = 512 };

enum rg_token_presence { RG_TOKEN_SILENT, RG_TOKEN_LISTEN };

/* What a valid token says. */
struct rg_claims {
    char user[RG_JID_BARE_MAX + 1]; /* bare JID, prepared */
    uint8_t sign_in[RG_ID_BYTES];   /* the sign-in it belongs to, kept by renewal */
    uint8_t
        password_tag[RG_ID_BYTES]; /* keyed hash of user and password: equal for equal ones */
    int64_t given_s;               /* when the password was given */
    int64_t issued_s;
    int64_t expires_s;
    enum rg_token_presence presence;
};

struct rg_keys;

/* Reads the key file (made with mode 0600 if missing); path "" draws one key for this process.
 * (own) *out. */
enum rg_code rg_keys_load(const char *path, struct rg_keys **out, struct rg_err *err);
/* Reads the key file (not "") again and puts its keys in place of the old ones at once for all
 * threads. On failure nothing changes; a missing file is a failure here. */
enum rg_code rg_keys_reload(struct rg_keys *keys, const char *path, struct rg_err *err);
void rg_keys_destroy(struct rg_keys *keys);
/* Moves with each reload: what was opened under another generation may not open any more. */
unsigned rg_keys_generation(const struct rg_keys *keys);
size_t rg_keys_count(const struct rg_keys *keys);
/* The keys by which a store marks what it keeps, one for each line of the key file; (own) NULL
 * when out of memory. */
struct rg_mac *rg_keys_mac(const struct rg_keys *keys);

/* Computes claims->password_tag. */
void rg_keys_password_tag(const struct rg_keys *keys, const char *user,
                          const struct rg_secret *password, uint8_t out[RG_ID_BYTES]);
/* Is the tag this password's, under whichever of the keys? Sign-ins of one password have
 * different tags while keys are rotated. */
bool rg_keys_password_is(const struct rg_keys *keys, const char *user,
                         const struct rg_secret *password, const uint8_t tag[RG_ID_BYTES]);

/* Appends the token. (borrow) password. */
enum rg_code rg_token_seal(const struct rg_keys *keys, const struct rg_claims *claims,
                           const struct rg_secret *password, struct rg_buf *out,
                           struct rg_err *err);
/* Seals `claims` anew with the password that is sealed inside `token`, without opening it
 * further than needed. */
enum rg_code rg_token_reseal(const struct rg_keys *keys, const struct rg_claims *claims,
                             const char *token, size_t len, struct rg_buf *out,
                             struct rg_err *err);

/* Checks seal, shape and expiry. Any failure is RG_E_UNAUTHORIZED; *out is untouched then.
 * Whether the sign-in has ended is the door's and the core's to say. */
enum rg_code rg_token_open(const struct rg_keys *keys, const char *token, size_t len,
                           int64_t now_s, struct rg_claims *out, struct rg_err *err);

/* Opens the password of a token that rg_token_open accepted (its expiry does not matter here).
 * Returns (own), NULL if it does not open. */
struct rg_secret *rg_token_password(const struct rg_keys *keys, const char *token, size_t len);

#endif

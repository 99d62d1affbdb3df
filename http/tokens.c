/* Opening a token costs a hash, a decryption and a copy; the same few tokens come again and
 * again. A direct-mapped table keeps the last ones, each under its full bytes. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/random.h"
#include "http/internal.h"

enum { SLOTS = 1024 };

struct opened {
    uint64_t hash;
    struct rg_claims claims;
    size_t len;
    char token[];
};

struct rg_tokens {
    unsigned generation; /* of the keys that opened them */
    struct opened *slots[SLOTS];
};

struct rg_tokens *rg_tokens_create(void)
{
    return calloc(1, sizeof(struct rg_tokens));
}

static void drop(struct opened *opened)
{
    if (opened == NULL)
        return;
    rg_wipe(opened, sizeof(*opened) + opened->len);
    free(opened);
}

void rg_tokens_destroy(struct rg_tokens *tokens)
{
    if (tokens == NULL)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        drop(tokens->slots[i]);
    free(tokens);
}

/* A key may have gone since: what it opened is opened again, or not. */
static void follow_keys(struct rg_tokens *tokens, const struct rg_keys *keys)
{
    unsigned generation = rg_keys_generation(keys);
    if (tokens->generation == generation)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        drop(RG_TAKE(tokens->slots[i]));
    tokens->generation = generation;
}

/* Opens into the table; the claims are good until the next call on this lane. */
static enum rg_code open_cached(struct rg_request *req, int64_t now_s, struct rg_err *err)
{
    const struct rg_auth *auth = &req->auth;
    uint64_t hash = rg_hash(auth->token, auth->len);
    follow_keys(req->exchange.lane->tokens, rg_core_keys(req->http->core));
    struct opened **slot = &req->exchange.lane->tokens->slots[hash % SLOTS];
    struct opened *opened = *slot;
    if (opened != NULL && opened->hash == hash && opened->len == auth->len &&
        memcmp(opened->token, auth->token, auth->len) == 0) {
        if (opened->claims.expires_s > now_s) {
            req->claims = &opened->claims;
            return RG_OK;
        }
        drop(RG_TAKE(*slot));
        return rg_fail(err, RG_E_UNAUTHORIZED, "the token has expired");
    }
    opened = malloc(sizeof(*opened) + auth->len);
    if (opened == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    enum rg_code code = rg_token_open(rg_core_keys(req->http->core), auth->token, auth->len,
                                      now_s, &opened->claims, err);
    if (code != RG_OK) {
        free(opened);
        return code;
    }
    opened->hash = hash;
    opened->len = auth->len;
    memcpy(opened->token, auth->token, auth->len);
    drop(*slot);
    *slot = opened;
    req->claims = &opened->claims;
    return RG_OK;
}

static enum rg_code open_once(struct rg_request *req, int64_t now_s, struct rg_err *err)
{
    if (req->opened == NULL)
        req->opened = calloc(1, sizeof(*req->opened));
    if (req->opened == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    enum rg_code code = rg_token_open(rg_core_keys(req->http->core), req->auth.token,
                                      req->auth.len, now_s, req->opened, err);
    if (code == RG_OK)
        req->claims = req->opened;
    return code;
}

static enum rg_code authorize(struct rg_request *req, struct rg_err *err)
{
    const struct rg_config *config = req->http->config;
    bool insecure = config->server.insecure_cookie;
    enum rg_code code = rg_auth_find(&req->headers, insecure, &req->auth, err);
    if (code != RG_OK)
        return code;
    if (req->auth.source == RG_AUTH_NONE)
        return rg_fail(err, RG_E_UNAUTHORIZED, "no token");
    if (req->auth.len > RG_TOKEN_MAX)
        return rg_fail(err, RG_E_UNAUTHORIZED, "the token is not valid");
    if (req->auth.source == RG_AUTH_COOKIE && req->method != RG_GET && req->method != RG_HEAD &&
        !rg_auth_same_site(&req->headers, &config->server.origins, insecure)) {
        rg_meter_reject(RG_REJECT_CSRF);
        return rg_fail(err, RG_E_CSRF,
                       "a request with the cookie must come from the same origin");
    }
    int64_t now_s = rg_loop_unix_s(req->exchange.lane->loop);
    return req->exchange.lane->tokens != NULL ? open_cached(req, now_s, err)
                                              : open_once(req, now_s, err);
}

enum rg_code rg_request_authorize(struct rg_request *req, struct rg_err *err)
{
    enum rg_code code = authorize(req, err);
    if (code == RG_E_UNAUTHORIZED)
        rg_meter_reject(RG_REJECT_AUTH);
    return code;
}

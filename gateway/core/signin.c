#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/core/internal.h"

/* DESIGN: signing in
 *
 * Every sign-in proves its password to the XMPP server. The first of a user does so by opening
 * the pooled session; one that finds a session, or an attempt, by SASL on a connection of its
 * own (VERIFY), and then waits until the pooled session is live.
 *
 *   NEW --> OPENING ---------------------------------------------> done
 *    |                                                      ^
 *    +----> VERIFYING --> VERIFIED (waits for the session) -+--> OPENING if there is none
 *
 *   refused: REFUSED until the next full 500 ms after the request, so that the time tells
 * nothing (API section 2). */

enum stage { NEW, OPENING, VERIFYING, VERIFIED, REFUSED };
enum { REFUSAL_STEP_MS = 500 };

/* ---- guesses are counted */

static void jid_key(char *out, size_t size, const struct rg_op *op)
{
    (void)snprintf(out, size, "j%s", op->claims.user);
}

static void address_key(char *out, size_t size, const struct rg_op *op)
{
    (void)snprintf(out, size, "a%s", op->in.address);
}

static unsigned reserve_guess(struct rg_op *op)
{
    char key[RG_JID_BARE_MAX + 2];
    const struct rg_config *config = op->core->config;
    int64_t now_ms = rg_loop_now_ms(op->core->loop);
    jid_key(key, sizeof(key), op);
    unsigned wait_s =
        rg_throttle_reserve(op->core->throttle, key, config->limits.signin_failures, now_ms);
    if (wait_s != 0 || op->in.address[0] == '\0')
        return wait_s;
    address_key(key, sizeof(key), op);
    wait_s = rg_throttle_reserve(op->core->throttle, key,
                                 config->limits.signin_failures_address, now_ms);
    if (wait_s != 0) {
        jid_key(key, sizeof(key), op);
        rg_throttle_give_back(op->core->throttle, key);
    }
    return wait_s;
}

static void give_guess_back(struct rg_op *op, bool success)
{
    char key[RG_JID_BARE_MAX + 2];
    jid_key(key, sizeof(key), op);
    if (success)
        rg_throttle_clear(op->core->throttle, key);
    else
        rg_throttle_give_back(op->core->throttle, key);
    if (op->in.address[0] == '\0')
        return;
    address_key(key, sizeof(key), op);
    rg_throttle_give_back(op->core->throttle, key);
}

/* ---- ends */

static void refused(struct rg_op *op)
{
    char name[RG_LOG_USER_SIZE];
    int64_t took_ms = rg_loop_now_ms(op->core->loop) - op->received_ms;
    rg_log_user(name, op->claims.user);
    rg_log(RG_LOG_INFO, "core", "sign-in-refused", RG_STR("user", name));
    rg_metric_add(op->core->metrics.sign_in_failures, 1);
    (void)rg_fail(&op->err, RG_E_UNAUTHORIZED, "JID and password do not fit");
    op->stage = REFUSED;
    if (rg_op_time(op, REFUSAL_STEP_MS - took_ms % REFUSAL_STEP_MS) && op->list == NULL)
        rg_op_list_in(&op->user->verifying, op);
}

static void failed(struct rg_op *op, const struct rg_err *why)
{
    if (why->code == RG_E_UNAUTHORIZED) {
        refused(op);
        return;
    }
    give_guess_back(op, false);
    op->err = *why;
    rg_op_finish(op);
}

/* A moment after every sign-out of all, so that the new sign-in is not among the ended ones
 * even within the same second. */
static int64_t given_now(const struct rg_user *user)
{
    int64_t given_s = rg_core_now_s(user->core);
    for (size_t i = 0; i < user->account->n_ends; i++)
        if (user->account->ends[i].kind == RG_END_ALL && user->account->ends[i].at_s >= given_s)
            given_s = user->account->ends[i].at_s + 1;
    return given_s;
}

/* Whether the tag is that of the password just given, be it under a key that no longer seals.
 */
static bool same_password(const struct rg_op *op, const uint8_t tag[RG_ID_BYTES])
{
    return memcmp(tag, op->claims.password_tag, RG_ID_BYTES) == 0 ||
           rg_keys_password_is(op->core->keys, op->claims.user, op->in.password, tag);
}

/* The server accepts this password: what carries another one is dead, and this one is not. */
static void settle_passwords(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_store *store = user->core->store;
    const uint8_t *tag = op->claims.password_tag;
    uint8_t old[RG_ID_BYTES];
    for (size_t i = user->n_sign_ins; i-- > 0;) {
        if (i >= user->n_sign_ins || same_password(op, user->sign_ins[i].password_tag))
            continue;
        memcpy(old, user->sign_ins[i].password_tag, RG_ID_BYTES);
        rg_pool_password_dead(user, old); /* forgets all sign-ins that carry it */
    }
    memcpy(old, user->tag, RG_ID_BYTES);
    memcpy(user->tag, tag, RG_ID_BYTES);
    if (!same_password(op, old))
        rg_pool_password_dead(user, old); /* its sign-ins may be known elsewhere only */
    if (rg_account_revive_password(user->account, tag)) {
        store->ops->revive(store, user->account, tag);
        rg_user_publish(user);
    }
}

static void succeeded(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_claims *claims = &op->out.claims;
    give_guess_back(op, true);
    settle_passwords(op);
    *claims = op->claims;
    rg_random_bytes(claims->sign_in, RG_ID_BYTES);
    claims->given_s = given_now(user);
    claims->issued_s = claims->given_s;
    claims->expires_s = claims->given_s + op->core->config->session.lifetime_ms / 1000;
    claims->presence = op->in.listen ? RG_TOKEN_LISTEN : RG_TOKEN_SILENT;
    if (rg_token_seal(op->core->keys, claims, op->in.password, &op->out.token, &op->err) ==
        RG_OK) {
        rg_user_saw(user, claims, op->out.token.data);
        op->out.state = rg_user_state(user);
    }
    rg_op_finish(op);
}

/* ---- the two ways to prove a password */

static void on_verify_bound(void *arg, const struct rg_upstream_features *features)
{
    struct rg_op *op = arg;
    (void)features;
    op->flag = true;
}

static void on_verify_push(void *arg, const struct rg_upstream_push *push)
{
    (void)arg; /* the pooled session gets it as well */
    (void)push;
}

static void on_verify_presence(void *arg, const struct rg_upstream_presence *presence)
{
    (void)arg;
    (void)presence;
}

static void on_verify_closed(void *arg, const struct rg_err *why)
{
    struct rg_op *op = arg;
    if (op->flag) {
        op->stage = VERIFIED;
        rg_op_run(op);
    } else {
        failed(op, why);
    }
}

static const struct rg_upstream_handler VERIFY_HANDLER = {
    .bound = on_verify_bound,
    .push = on_verify_push,
    .presence = on_verify_presence,
    .closed = on_verify_closed,
};

static void verify(struct rg_op *op)
{
    struct rg_upstream *up = op->core->upstream;
    struct rg_err err = RG_ERR_INIT;
    uint64_t session;
    struct rg_secret *copy =
        rg_secret_create(rg_secret_data(op->in.password), rg_secret_len(op->in.password));
    if (copy == NULL)
        (void)rg_fail(&err, RG_E_INTERNAL, "out of memory");
    else
        (void)up->ops->open(up, RG_UPSTREAM_VERIFY, op->claims.user, copy, &VERIFY_HANDLER, op,
                            &session, &err);
    if (err.code != RG_OK) {
        failed(op, &err);
        return;
    }
    op->stage = VERIFYING;
    op->flag = false;
    rg_op_list_in(&op->user->verifying, op);
}

static void open_session(struct rg_op *op)
{
    struct rg_err err = RG_ERR_INIT;
    if (!rg_pool_open_for(op->user, op, &err)) {
        failed(op, &err);
        return;
    }
    op->stage = OPENING;
    rg_op_list_in(&op->user->verifying, op);
}

void rg_signin_attempt_done(struct rg_op *op, const struct rg_err *err)
{
    if (err == NULL)
        succeeded(op);
    else
        failed(op, err);
}

static void start(struct rg_op *op)
{
    unsigned wait_s = reserve_guess(op);
    if (wait_s != 0) {
        rg_metric_add(op->core->metrics.throttled, 1);
        (void)rg_fail(&op->err, RG_E_RATE, "too many failed sign-ins");
        op->err.retry_after_s = wait_s;
        rg_op_finish(op);
        return;
    }
    rg_keys_password_tag(op->core->keys, op->claims.user, op->in.password,
                         op->claims.password_tag);
    if (op->user->link == RG_LINK_DOWN || op->user->link == RG_LINK_WAITING)
        open_session(op);
    else
        verify(op);
}

void rg_signin_run(struct rg_op *op)
{
    switch ((enum stage)op->stage) {
    case NEW:
        start(op);
        return;
    case VERIFIED:
        break;
    case REFUSED:
        rg_op_finish(op);
        return;
    case OPENING:
    case VERIFYING:
        abort(); /* only the upstream's word moves them */
    }
    switch (op->user->link) {
    case RG_LINK_LIVE:
        succeeded(op);
        return;
    case RG_LINK_OPENING:
    case RG_LINK_LOADING:
    case RG_LINK_CLOSING:
        rg_user_wait(op->user, op, -1);
        return;
    case RG_LINK_DOWN:
    case RG_LINK_WAITING:
        open_session(op);
        return;
    }
}

/* ---- the other calls of /v1/session */

void rg_session_info_run(struct rg_op *op)
{
    struct rg_user *user = op->user;
    rg_pool_want(user);
    /* Presence belongs to the sign-in: a newer token of it may have said otherwise since. */
    const struct rg_sign_in *known = rg_user_sign_in(user, &op->claims);
    if (known != NULL)
        op->claims.presence = known->listen ? RG_TOKEN_LISTEN : RG_TOKEN_SILENT;
    op->out.state = rg_user_state(user);
    op->out.roster_versioning = user->features.roster_versioning;
    op->out.pre_approval = user->features.pre_approval;
    rg_op_finish(op);
}

void rg_renew_run(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_claims *claims = &op->out.claims;
    const struct rg_config *config = op->core->config;
    int64_t now_s = rg_core_now_s(op->core);
    int64_t last_s = op->claims.given_s + config->session.max_age_ms / 1000;
    const struct rg_sign_in *known = rg_user_sign_in(user, &op->claims);
    int64_t newest_s = known != NULL ? known->issued_s : op->claims.issued_s;
    *claims = op->claims;
    /* Always newer than those before, within one second too: the newest token says what is
     * wanted. */
    claims->issued_s = now_s > newest_s ? now_s : newest_s + 1;
    claims->expires_s = now_s + config->session.lifetime_ms / 1000;
    if (op->in.listen_set)
        claims->presence = op->in.listen ? RG_TOKEN_LISTEN : RG_TOKEN_SILENT;
    if (now_s >= last_s) {
        (void)rg_fail(&op->err, RG_E_SIGN_IN_AGAIN, "the password was given too long ago");
    } else if (rg_token_reseal(op->core->keys, claims, op->token, strlen(op->token),
                               &op->out.token, &op->err) == RG_OK) {
        rg_user_saw(user, claims, op->out.token.data);
        op->out.state = rg_user_state(user);
    }
    rg_op_finish(op);
}

/* Until when a token that this sign-out ends may live. The sign-in is renewed no more where its
 * end is known: in this process at once, in others only as soon as they hear of it. */
static int64_t end_lasts_until(const struct rg_op *op, int64_t now_s)
{
    const struct rg_core *core = op->core;
    int64_t renewed_now_s = now_s + core->config->session.lifetime_ms / 1000 + 1;
    /* Before this process began, tokens may have lived longer. */
    bool older = op->claims.given_s <= core->began_s;
    if (op->in.all || older || core->store->ops->sync != NULL)
        return rg_core_last_token_s(core);
    return renewed_now_s > op->claims.expires_s ? renewed_now_s : op->claims.expires_s;
}

static void end_recorded(void *arg, bool everywhere)
{
    struct rg_op *op = arg;
    op->out.everywhere = everywhere;
    rg_op_finish(op);
}

void rg_signout_run(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_core *core = op->core;
    int64_t now_s = rg_core_now_s(core);
    struct rg_end end = {.kind = op->in.all ? RG_END_ALL : RG_END_SIGN_IN,
                         .at_s = op->claims.given_s > now_s ? op->claims.given_s : now_s,
                         .until_s = end_lasts_until(op, now_s)};
    if (!op->in.all)
        memcpy(end.id, op->claims.sign_in, RG_ID_BYTES);
    if (rg_account_end(user->account, &end, now_s) != RG_OK) {
        (void)rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
        rg_op_finish(op);
        return;
    }
    const uint8_t *id = op->in.all ? NULL : op->claims.sign_in;
    rg_user_forget(user, id, NULL);
    rg_pool_announce(user);
    rg_user_publish(user);
    rg_hub_bye(user, id, NULL, RG_BYE_SIGNED_OUT);
    rg_hub_wake_polls(user); /* those of the ended sign-ins end */
    if (!rg_user_signed_in(user))
        rg_pool_close(user);
    rg_op_list_in(&user->verifying, op);
    core->store->ops->end(core->store, user->account, &end, end_recorded, op);
}

void rg_signins_ended_elsewhere(struct rg_user *user)
{
    const struct rg_account *account = user->account;
    for (size_t i = user->n_sign_ins; i-- > 0;) {
        struct rg_claims claims = {.given_s = user->sign_ins[i].given_s};
        memcpy(claims.sign_in, user->sign_ins[i].id, RG_ID_BYTES);
        memcpy(claims.password_tag, user->sign_ins[i].password_tag, RG_ID_BYTES);
        enum rg_code code = rg_ends_check(account->ends, account->n_ends, &claims);
        if (code == RG_OK)
            continue;
        rg_hub_bye(user, claims.sign_in, NULL,
                   code == RG_E_CREDENTIALS ? RG_BYE_CREDENTIALS : RG_BYE_SIGNED_OUT);
        rg_user_forget(user, claims.sign_in, NULL);
    }
    rg_pool_announce(user);
    rg_user_publish(user);
    rg_hub_wake_polls(user);
    if (!rg_user_signed_in(user))
        rg_pool_close(user);
}

/* Keys come and go while the process runs (keys.c). A sign-in whose newest token no longer
 * opens is over: its streams end with it, and its password is not used again. */
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/core/internal.h"

enum { BEFORE_ANY_EXPIRY_S = 0 };

static bool opens(const struct rg_core *core, const struct rg_sign_in *sign_in)
{
    struct rg_claims claims;
    return sign_in->token == NULL ||
           rg_token_open(core->keys, sign_in->token, strlen(sign_in->token),
                         BEFORE_ANY_EXPIRY_S, &claims, NULL) == RG_OK;
}

static size_t follow(struct rg_user *user)
{
    size_t ended = 0;
    for (size_t i = user->n_sign_ins; i-- > 0;) {
        uint8_t id[RG_ID_BYTES];
        if (i >= user->n_sign_ins || opens(user->core, &user->sign_ins[i]))
            continue;
        memcpy(id, user->sign_ins[i].id, RG_ID_BYTES);
        rg_user_forget(user, id, NULL);
        rg_hub_bye(user, id, NULL, RG_BYE_EXPIRED);
        ended++;
    }
    if (ended > 0) {
        rg_pool_announce(user);
        if (!rg_user_signed_in(user))
            rg_pool_close(user);
    }
    return ended;
}

/* What the store keeps is marked anew, before its old key goes. */
static void rekey_store(struct rg_core *core)
{
    if (core->store->ops->rekey_take == NULL)
        return;
    struct rg_mac *mac = rg_keys_mac(core->keys);
    if (mac != NULL)
        core->store->ops->rekey_take(core->store, mac);
    else
        rg_log(RG_LOG_ERROR, "core", "store-not-rekeyed", RG_STR("why", "out of memory"));
}

void rg_core_keys_changed(struct rg_core *core)
{
    struct rg_user *user, *next;
    size_t ended = 0;
    HASH_ITER(hh, core->users, user, next)
    {
        ended += follow(user);
    }
    rekey_store(core);
    rg_log(RG_LOG_INFO, "core", "keys-followed", RG_INT("keys", rg_keys_count(core->keys)),
           RG_INT("sign-ins-ended", ended));
}

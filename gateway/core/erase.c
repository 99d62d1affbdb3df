/* Erasing what is kept of an account (SECURITY.md, What is stored): all its sign-ins end, its
 * session closes, then the store forgets roster, versions and journal. What stays until no
 * token can be alive any more is the fact that the sign-ins ended: without it, erasing would
 * make dead tokens good again.
 *
 *   ASKED --(the end is recorded)--> ENDED --(the session is closed)--> erased */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/core/internal.h"

enum stage { ASKED, RECORDING, ENDED };
enum { CLOSE_MS = 5000 };

static void end_recorded(void *arg, bool everywhere)
{
    struct rg_op *op = arg;
    op->out.everywhere = everywhere;
    op->stage = ENDED;
    rg_op_run(op);
}

static void end_all(struct rg_op *op)
{
    struct rg_user *user = op->user;
    struct rg_store *store = op->core->store;
    int64_t now_s = rg_core_now_s(op->core);
    struct rg_end end = {
        .kind = RG_END_ALL, .at_s = now_s, .until_s = rg_core_last_token_s(op->core)};
    if (rg_account_end(user->account, &end, now_s) != RG_OK) {
        (void)rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
        rg_op_finish(op);
        return;
    }
    op->stage = RECORDING;
    rg_user_forget(user, NULL, NULL);
    rg_pool_announce(user);
    rg_user_publish(user);
    rg_hub_bye(user, NULL, NULL, RG_BYE_SIGNED_OUT);
    rg_hub_wake_polls(user);
    rg_op_list_in(&user->verifying, op);
    rg_pool_close(user);
    store->ops->end(store, user->account, &end, end_recorded, op);
}

static void erase(struct rg_op *op)
{
    struct rg_user *user = op->user;
    char name[RG_LOG_USER_SIZE];
    op->core->store->ops->erase(op->core->store, user->name);
    rg_user_publish(user);
    rg_log_user(name, user->name);
    rg_log(RG_LOG_INFO, "core", "account-erased", RG_STR("user", name));
    rg_op_finish(op);
}

void rg_erase_run(struct rg_op *op)
{
    switch ((enum stage)op->stage) {
    case ASKED:
        end_all(op);
        return;
    case RECORDING:
        abort(); /* only the store's word moves it */
    case ENDED:
        break;
    }
    if (op->user->link == RG_LINK_DOWN) {
        erase(op);
    } else if (op->timed_out) {
        (void)rg_fail(&op->err, RG_E_RATE, "somebody signs in to this account just now");
        op->err.retry_after_s = 1;
        rg_op_finish(op);
    } else {
        rg_user_wait(op->user, op, CLOSE_MS);
    }
}

#include "tests/contract/helper_redis_share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"

/* What an instance hears is written down; it gives up whatever it is asked for. */
static void on_ends(void *arg, struct rg_account *account)
{
    ((struct fixture *)arg)->told_of = account;
}

static void on_moved(void *arg, struct rg_account *account)
{
    (void)account;
    ((struct fixture *)arg)->moved++;
}

static void on_asked(void *arg, struct rg_account *account)
{
    struct fixture *f = arg;

    f->asked++;
    f->store->ops->disown(f->store, account);
}

static void on_leased(void *arg, int64_t until_ms)
{
    ((struct fixture *)arg)->lease_ms = until_ms;
}

const struct rg_store_watcher writes_down = {.ended = on_ends,
                                             .moved = on_moved,
                                             .asked = on_asked,
                                             .leased = on_leased};

static void on_synced(void *arg)
{
    ((struct fixture *)arg)->waiting--;
}

void sync_with(struct fixture *f, struct rg_store *store, struct rg_account *account,
               enum rg_sync how)
{
    f->waiting++;
    store->ops->sync(store, account, how, on_synced, f);
    run_until(f, nothing_waits);
}

/* Two instances hold the account; the first owns it, the second one's is f->account. Returns
 * the first one's. */
struct rg_account *two_instances(struct fixture *f)
{
    struct rg_account *mine;

    f->store->ops->watch(f->store, &writes_down, f);
    prepare(f);
    mine = RG_TAKE(f->account);
    sync_with(f, f->store, mine, RG_SYNC_CLAIM);
    assert_int_equal(mine->role, RG_ROLE_OWNER);
    f->other = open_store_with(f, 1);
    f->other->ops->watch(f->other, &writes_down, f);
    run_until(f, fine);
    load_from(f, f->other);
    assert_int_equal(f->account->role, RG_ROLE_FOLLOWER);
    assert_false(f->account->unled);
    assert_int_equal(f->account->roster->n, 4);
    return mine;
}

void let_go_of_both(struct fixture *f, struct rg_account *mine)
{
    let_go(f, f->other);
    f->store->ops->release_take(f->store, mine);
}

bool same_version(const struct rg_account *a, const struct rg_account *b)
{
    return a->epoch == b->epoch && rg_stamp_equal(a->head, b->head);
}

struct rg_account *awaited;
bool follows(struct fixture *f)
{
    return same_version(f->account, awaited);
}

bool is_alone(struct fixture *f)
{
    return f->account->role == RG_ROLE_ALONE;
}

bool is_owner(struct fixture *f)
{
    return f->account->role == RG_ROLE_OWNER;
}

/* Both have gone on alone. Returns the first one's account; the second one's knows of nurse@.
 */
struct rg_account *both_alone(struct fixture *f)
{
    struct rg_account *mine = two_instances(f);

    redis_do(&redis, "SAVE");
    redis_kill(&redis);
    run_until(f, is_alone);
    rg_account_restamp(f->account);
    push(f, f->other, "nurse@example.net", "Nurse");
    return mine;
}

bool keeps_nurse(struct fixture *f)
{
    assert_non_null(rg_roster_find(f->account->roster, "nurse@example.net"));
    return f->account->role == RG_ROLE_OWNER;
}

void let_beat(const char *owner, int for_ms)
{
    redisReply *info = redis_ask(&redis, "INFO server");

    redis_do(&redis, "SET rg:{alive}:%s %b PX %d", owner,
             strstr(info->str, "run_id:") + strlen("run_id:"), (size_t)40, for_ms);
    freeReplyObject(info);
}

/* Redis is back as it was, or emptied, and knows of the owner in this run. */
void start_again_with_its_owner(bool emptied)
{
    redisReply *owner;

    redis_again(&redis);
    owner = redis_ask(&redis, "HGET " KEY "meta owner");
    if (emptied)
        redis_do(&redis, "FLUSHALL");
    redis_do(&redis, "HSET " KEY "meta owner %s", owner->str);
    let_beat(owner->str, 3000);
    freeReplyObject(owner);
}

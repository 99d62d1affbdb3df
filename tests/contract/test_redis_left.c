/* Redis over memory against a real redis-server: accounts that somebody has left behind, by
 * signing out, by stopping for a while, or for ever (DESIGN section 5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "tests/contract/helper_redis_share.h"

#define SOMEBODY "0123456789abcdef0123456789abcdef"

static bool holds_no_account(struct fixture *f)
{
    struct rg_buf buf = RG_BUF_INIT;
    bool none;

    f->store->ops->health(f->store, &buf);
    none = strstr(buf.data, "\"accounts\":0,\"memory\"") != NULL;
    rg_buf_fini(&buf);
    return none;
}

/* ---- of nobody any more */

/* Changed while Redis was away, and then its user signed out: no session stands by it that
 * could win it from the owner that Redis names. */
static void redis__left__another_owners_is_not_written_for_ever(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    redis_do(&redis, "HSET " KEY "meta owner " SOMEBODY);
    redis_do(&redis, "SAVE");
    redis_kill(&redis);
    run_until(f, is_alone);
    push(f, f->store, "nurse@example.net", "Nurse");
    let_go(f, f->store);
    redis_again(&redis);
    run_until(f, fine);
    run_until(f, holds_no_account);
}

static bool mallory_is_free(struct fixture *f)
{
    (void)f;
    return redis_number(&redis, "HSTRLEN rg:{mallory@example.com}:meta owner") == 0;
}

static struct fixture *committing; /* in the call */
static void on_kept(void *arg)
{
    struct fixture *f = arg;

    assert_null(committing);
    f->waiting--;
}

/* A server that the gateway does not know to be hostile: an item that has no form in Redis. Who
 * waits is answered, but not within the call; others go on, other instances, too. */
static void redis__left__what_cannot_be_written_holds_up_nobody(void **state)
{
    enum { GROUPS = 66000 };
    struct fixture *f = *state;
    const char **groups = calloc(GROUPS, sizeof(*groups));
    char(*names)[12] = calloc(GROUPS, sizeof(*names));
    struct rg_item_spec spec = {
        .jid = "many@example.net", .groups = groups, .n_groups = GROUPS};
    struct rg_account *odd;
    bool changed;

    for (int i = 0; i < GROUPS; i++)
        (void)snprintf(names[i], sizeof(names[i]), "%d", i);
    for (int i = 0; i < GROUPS; i++)
        groups[i] = names[i];
    load_as(f, f->store, "mallory@example.com");
    odd = f->account;
    assert_int_equal(rg_account_push_take(odd, rg_item_create(&spec), spec.jid,
                                          rg_loop_unix_s(f->loop), &changed),
                     RG_OK);
    sync_with(f, f->store, odd, RG_SYNC_CLAIM);
    assert_int_equal(odd->role, RG_ROLE_OWNER);
    odd->trusted = true;
    f->waiting++;
    committing = f;
    assert_false(f->store->ops->commit(f->store, odd, on_kept, f));
    committing = NULL;
    run_until(f, nothing_waits);
    assert_int_equal(odd->role, RG_ROLE_ALONE);
    run_until(f, mallory_is_free);
    f->account = NULL;
    prepare(f);
    f->store->ops->release_take(f->store, odd);
    let_go(f, f->store);
    run_until(f, holds_no_account);
    free(groups);
    free(names);
}

static bool has_moved(struct fixture *f)
{
    return f->moved > 0;
}

/* Who could not lead when the owner gave it up, as its own session was not there yet, is asked
 * again. */
static void redis__left__is_offered_until_somebody_leads(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f);

    f->store->ops->disown(f->store, mine);
    sync_with(f, f->other, f->account, RG_SYNC_LOOK);
    assert_true(f->account->unled);
    for (int i = 0; i < 2; i++) {
        f->moved = 0;
        run_until(f, has_moved);
    }
    sync_with(f, f->other, f->account, RG_SYNC_CLAIM);
    assert_int_equal(f->account->role, RG_ROLE_OWNER);
    let_go_of_both(f, mine);
}

/* ---- overtaken, or given up */

/* It was stopped for longer than its heartbeat stands, and has not heard of it. */
static void redis__overtaken__a_look_finds_it_out_before_it_is_answered(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f);

    assert_int_equal(mine->role, RG_ROLE_OWNER);
    redis_do(&redis, "HSET " KEY "meta owner " SOMEBODY);
    let_beat(SOMEBODY, 60000);
    sync_with(f, f->store, mine, RG_SYNC_LOOK);
    assert_int_equal(mine->role, RG_ROLE_FOLLOWER);
    assert_false(mine->trusted);
    let_go_of_both(f, mine);
}

static struct rg_account *leased_for;
static bool leased_as_owner, is_leased;
static void on_leased(void *arg, int64_t until_ms)
{
    (void)arg;
    (void)until_ms;
    is_leased = true;
    leased_as_owner = leased_for->role == RG_ROLE_OWNER;
}

static bool leased_again(struct fixture *f)
{
    (void)f;
    return is_leased;
}

/* Its heartbeat ran out: before it answers from memory again it looks at what it owned. */
static void redis__overtaken__no_lease_before_it_is_found_out(void **state)
{
    struct fixture *f = *state;
    struct rg_store_watcher watcher = writes_down;
    struct rg_account *mine = two_instances(f);
    redisReply *owner = redis_ask(&redis, "HGET " KEY "meta owner");

    leased_for = mine;
    watcher.leased = on_leased;
    f->store->ops->watch(f->store, &watcher, f);
    redis_do(&redis, "HSET " KEY "meta owner " SOMEBODY);
    let_beat(SOMEBODY, 60000);
    redis_do(&redis, "DEL rg:{alive}:%s", owner->str);
    freeReplyObject(owner);
    is_leased = leased_as_owner = false;
    run_until(f, leased_again);
    assert_false(leased_as_owner);
    let_go_of_both(f, mine);
    f->store->ops->watch(f->store, &writes_down, f);
}

/* What was found alone may be newer than what Redis has, so it is shown until an owner has read
 * the roster and stands by what it found, even if that is what was there. */
static void redis__given_up__the_next_owners_list_is_shown(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = both_alone(f), *theirs = f->account;

    start_again_with_its_owner(false);
    run_until(f, keeps_nurse);
    f->other->ops->disown(f->other, theirs); /* it has no session to read with */
    sync_with(f, f->store, mine, RG_SYNC_CLAIM);
    assert_int_equal(mine->role, RG_ROLE_OWNER);
    sync_with(f, f->other, theirs, RG_SYNC_LOOK);
    assert_non_null(rg_roster_find(theirs->roster, "nurse@example.net"));
    mine->trusted = true;
    (void)f->store->ops->commit(f->store, mine, NULL, NULL);
    awaited = mine;
    run_until(f, follows);
    let_go_of_both(f, mine);
}

/* All keys of an account go at once. */
static void redis__given_up__does_not_outlive_its_items(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f);

    redis_do(&redis, "PEXPIRE " KEY "meta 100000");
    f->store->ops->disown(f->store, mine);
    sync_with(f, f->store, mine, RG_SYNC_LOOK);
    assert_int_equal(redis_number(&redis, "HSTRLEN " KEY "meta owner"), 0);
    assert_true(redis_number(&redis, "PTTL " KEY "meta") <= 100000);
    let_go_of_both(f, mine);
}

/* The news of it was missed, but not the mark. */
static void redis__erased__what_memory_kept_is_forgotten_at_the_first_look(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    let_go(f, f->store);
    run_until(f, holds_no_account);
    redis_do(&redis, "DEL " KEY "meta " KEY "items " KEY "journal");
    redis_do(&redis, "HSET " KEY "meta run erased");
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_UNKNOWN);
    assert_int_equal(f->account->journal_n, 0);
}

/* ---- sign-outs */

static void on_ended(void *arg, bool everywhere)
{
    struct fixture *f = arg;

    assert_true(everywhere);
    f->waiting--;
}

static void end_it(struct fixture *f, enum rg_end_kind kind, uint8_t id, int64_t for_s)
{
    struct rg_end end = {.kind = kind, .id = {id}, .at_s = rg_loop_unix_s(f->loop)};

    end.until_s = end.at_s + for_s;
    assert_int_equal(rg_account_end(f->account, &end, end.at_s), RG_OK);
    f->waiting++;
    f->store->ops->end(f->store, f->account, &end, on_ended, f);
    run_until(f, nothing_waits);
}

static bool one_end_is_left(struct fixture *f)
{
    (void)f;
    return redis_number(&redis, "HLEN " KEY "ends") == 1;
}

static void redis__ends__what_another_one_covers_goes(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    for (uint8_t id = 1; id <= 5; id++)
        end_it(f, RG_END_SIGN_IN, id, 3600);
    assert_int_equal(redis_number(&redis, "HLEN " KEY "ends"), 5);
    end_it(f, RG_END_ALL, 0, 3600);
    sync_with(f, f->store, f->account, RG_SYNC_LOOK);
    run_until(f, one_end_is_left);
    /* And comes back from nowhere. */
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->n_ends, 1);
    assert_int_equal(f->account->ends[0].kind, RG_END_ALL);
}

/* Dead in Redis, good again while it was away. */
static void redis__ends__a_revived_password_stays_so(void **state)
{
    struct fixture *f = *state;
    const uint8_t tag[16] = {7}, other[16] = {8};

    prepare(f);
    end_it(f, RG_END_PASSWORD, 7, 3600);
    end_it(f, RG_END_PASSWORD, 8, 3600);
    redis_do(&redis, "SAVE");
    redis_kill(&redis);
    run_until(f, is_alone);
    assert_true(rg_account_revive_password(f->account, tag));
    assert_true(rg_account_revive_password(f->account, other)); /* found dead elsewhere */
    f->store->ops->revive(f->store, f->account, tag);
    redis_again(&redis);
    run_until(f, fine);
    run_until(f, one_end_is_left);
    sync_with(f, f->store, f->account, RG_SYNC_LOOK);
    assert_int_equal(f->account->n_ends, 1);
    assert_int_equal(f->account->ends[0].id[0], 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(redis__left__another_owners_is_not_written_for_ever),
        TEST(redis__left__what_cannot_be_written_holds_up_nobody),
        TEST(redis__left__is_offered_until_somebody_leads),
        TEST(redis__overtaken__a_look_finds_it_out_before_it_is_answered),
        TEST(redis__overtaken__no_lease_before_it_is_found_out),
        TEST(redis__given_up__the_next_owners_list_is_shown),
        TEST(redis__given_up__does_not_outlive_its_items),
        TEST(redis__erased__what_memory_kept_is_forgotten_at_the_first_look),
        TEST(redis__ends__what_another_one_covers_goes),
        TEST(redis__ends__a_revived_password_stays_so),
    };

    return run_suite("redis_left", tests, RG_ARRAY_LEN(tests));
}

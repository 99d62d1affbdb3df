/* Redis over memory against a real redis-server: several instances on one, and what they
 * hold against each other when it was away (DESIGN section 5). */
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

/* ---- owner and followers */

static void redis__share__a_follower_shows_what_the_owner_writes(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f), *theirs = f->account;
    struct rg_version before = head(theirs);
    size_t index;

    f->account = mine; /* push works on it */
    push(f, f->store, "nurse@example.net", "Nurse");
    push(f, f->store, "romeo@example.net", NULL);
    f->account = theirs;
    awaited = mine;
    run_until(f, follows);
    assert_non_null(rg_roster_find(theirs->roster, "nurse@example.net"));
    assert_null(rg_roster_find(theirs->roster, "romeo@example.net"));
    assert_true(rg_account_since(theirs, &before, &index));
    assert_int_equal(theirs->journal_n - index, 2);
    assert_true(theirs->mark == 0);
    assert_false(theirs->trusted);
    assert_true(f->moved > 0);
    /* Not told, but looked: the same. */
    sync_with(f, f->other, theirs, RG_SYNC_LOOK);
    assert_int_equal(theirs->role, RG_ROLE_FOLLOWER);
    sync_with(f, f->other, theirs, RG_SYNC_CLAIM);
    assert_int_equal(theirs->role, RG_ROLE_FOLLOWER); /* the owner is alive */
    let_go_of_both(f, mine);
}

static void redis__share__more_than_the_journal_holds_comes_whole(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f), *theirs = f->account;
    struct rg_version before = head(theirs);
    size_t index;

    f->account = mine;
    first_roster(f, f->store, 1500);
    f->account = theirs;
    awaited = mine;
    run_until(f, follows);
    assert_int_equal(theirs->roster->n, 1500);
    assert_false(rg_account_since(theirs, &before, &index));
    let_go_of_both(f, mine);
}

static void redis__share__it_is_given_to_who_asks(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f), *theirs = f->account;

    sync_with(f, f->other, theirs, RG_SYNC_TAKE);
    assert_true(f->asked > 0);
    assert_int_equal(theirs->role, RG_ROLE_OWNER);
    assert_int_equal(mine->role, RG_ROLE_FOLLOWER);
    assert_false(mine->trusted);
    push(f, f->other, "nurse@example.net", "Nurse"); /* works on theirs */
    f->account = mine;
    awaited = theirs;
    run_until(f, follows);
    f->account = theirs;
    let_go_of_both(f, mine);
}

static bool is_unknown(struct fixture *f)
{
    return f->account->presence == RG_ROSTER_UNKNOWN;
}

static void redis__share__what_is_erased_is_forgotten_by_all(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f);

    f->store->ops->erase(f->store, USER);
    run_until(f, is_unknown);
    assert_true(mine->presence == RG_ROSTER_UNKNOWN);
    assert_int_equal(redis_number(&redis, "EXISTS " KEY "items " KEY "journal"), 0);
    let_go_of_both(f, mine);
}

/* Its owner forgets it when its session has ended, and writes nothing back. */
static void redis__share__what_is_erased_elsewhere_goes_with_the_session(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f), *theirs = f->account;

    f->other->ops->erase(f->other, USER);
    sync_with(f, f->other, theirs, RG_SYNC_LOOK); /* the news is on its way before */
    assert_true(mine->presence == RG_ROSTER_PRESENT);
    f->store->ops->disown(f->store, mine);
    f->account = mine;
    run_until(f, is_unknown);
    sync_with(f, f->store, mine, RG_SYNC_LOOK);
    assert_true(mine->presence == RG_ROSTER_UNKNOWN);
    assert_int_equal(redis_number(&redis, "EXISTS " KEY "items " KEY "journal"), 0);
    f->account = theirs;
    let_go_of_both(f, mine);
}

static bool owner_is_gone(struct fixture *f)
{
    return f->account->unled;
}

static void redis__share__a_dead_owner_is_followed(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f);

    rg_account_unref(mine);
    kill_store(f->store);
    f->store = RG_TAKE(f->other);
    run_until(f, owner_is_gone); /* once its heartbeat has run out */
    sync_with(f, f->store, f->account, RG_SYNC_CLAIM);
    assert_int_equal(f->account->role, RG_ROLE_OWNER);
    assert_int_equal(f->account->roster->n, 4);
    push(f, f->store, "nurse@example.net", "Nurse");
    run_until(f, written);
}

static bool leased(struct fixture *f)
{
    return f->lease_ms > rg_loop_now_ms(f->loop);
}

static void redis__share__without_redis_each_is_alone(void **state)
{
    struct fixture *f = *state;

    f->store->ops->watch(f->store, &writes_down, f);
    prepare(f);
    sync_with(f, f->store, f->account, RG_SYNC_CLAIM);
    run_until(f, is_owner);
    run_until(f, leased);
    f->moved = 0;
    redis_kill(&redis);
    run_until(f, is_alone);
    assert_int_equal(f->moved, 1);
    sync_with(f, f->store, f->account, RG_SYNC_TAKE); /* answered all the same */
    assert_int_equal(f->account->role, RG_ROLE_ALONE);
    redis_again(&redis);
    run_until(f, is_owner); /* what is trusted is claimed */
    run_until(f, written);
}

/* ---- and Redis is not what it was */

static void redis__rolled_back__no_older_list_is_taken_over(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f), *theirs = f->account;

    redis_do(&redis, "SAVE");
    sync_with(f, f->other, theirs, RG_SYNC_TAKE);
    first_roster(f, f->other, 1500); /* no journal leads here */
    run_until(f, written);
    f->account = mine;
    awaited = theirs;
    run_until(f, follows);
    f->account = theirs;
    f->other->ops->disown(f->other, theirs); /* nobody has a session any more */
    sync_with(f, f->other, theirs, RG_SYNC_LOOK);
    redis_kill(&redis);
    run_until(f, is_alone);
    redis_again(&redis);
    run_until(f, fine);
    for (int i = 0; i < 2; i++) {
        sync_with(f, f->other, theirs, RG_SYNC_LOOK);
        sync_with(f, f->store, mine, RG_SYNC_LOOK);
        assert_int_equal(theirs->roster->n, 1500);
        assert_int_equal(mine->roster->n, 1500);
        assert_true(same_version(mine, theirs));
    }
    /* Whoever has a session again writes what is true, and all believe it. */
    f->account = mine;
    sync_with(f, f->store, mine, RG_SYNC_CLAIM);
    assert_int_equal(mine->role, RG_ROLE_OWNER);
    first_roster(f, f->store, 2);
    run_until(f, written);
    f->account = theirs;
    awaited = mine;
    run_until(f, follows);
    assert_int_equal(theirs->roster->n, 2);
    let_go_of_both(f, mine);
}

/* The very list of the dump, once its owner stands by it again. */
static void redis__rolled_back__what_the_owner_stands_by_is_taken_over(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = two_instances(f), *theirs = f->account;

    redis_do(&redis, "SAVE");
    redis_kill(&redis);
    run_until(f, is_alone);
    rg_account_restamp(theirs);
    mine->trusted = false; /* its session is gone */
    redis_again(&redis);
    run_until(f, fine);
    sync_with(f, f->other, theirs, RG_SYNC_LOOK);
    assert_false(same_version(mine, theirs));
    mine->trusted = true;
    (void)f->store->ops->commit(f->store, mine, NULL, NULL);
    awaited = mine;
    run_until(f, follows);
    let_go_of_both(f, mine);
}

static void redis__alone__nothing_is_given_up_for_a_dead_owner(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = both_alone(f);

    rg_account_unref(mine);
    kill_store(f->store);
    f->store = RG_TAKE(f->other);
    start_again_with_its_owner(false);
    run_until(f, keeps_nurse); /* once the heartbeat has run out */
    run_until(f, written);
}

static void redis__alone__a_living_owner_that_knows_less_is_asked(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = both_alone(f);

    start_again_with_its_owner(false);
    run_until(f, keeps_nurse);
    assert_int_equal(f->asked, 1);
    /* The other one may have told of more: the core reads the roster before this is written. */
    assert_false(f->account->trusted);
    assert_false(written(f));
    sync_with(f, f->other, f->account, RG_SYNC_LOOK);
    assert_true(keeps_nurse(f));
    push(f, f->other, "tybalt@example.net", "Tybalt");
    run_until(f, written);
    let_go_of_both(f, mine);
}

/* What it writes then may be older than what was found here. */
static void redis__alone__nothing_is_given_up_for_an_owner_that_has_not_written(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = both_alone(f), *theirs = f->account;

    mine->trusted = false;
    start_again_with_its_owner(true);
    f->account = mine;
    run_until(f, is_owner);
    push(f, f->store, "tybalt@example.net", "Tybalt");
    f->account = theirs;
    run_until(f, keeps_nurse);
    let_go_of_both(f, mine);
}

static void redis__alone__who_knows_the_same_follows_at_once(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine = both_alone(f);

    push(f, f->other, "nurse@example.net", NULL);
    start_again_with_its_owner(false);
    awaited = mine;
    run_until(f, follows);
    assert_int_equal(f->account->role, RG_ROLE_FOLLOWER);
    assert_int_equal(f->asked, 0);
    let_go_of_both(f, mine);
}

static void on_ended(void *arg, bool everywhere)
{
    struct fixture *f = arg;

    f->everywhere = everywhere;
    f->waiting--;
}

static bool told(struct fixture *f)
{
    return f->told_of != NULL;
}

static struct rg_end sign_out(struct fixture *f, uint8_t id)
{
    struct rg_end end = {.kind = RG_END_SIGN_IN, .id = {id}};

    end.at_s = rg_loop_unix_s(f->loop);
    end.until_s = end.at_s + 3600;
    return end;
}

static void redis__end__reaches_the_other_instance(void **state)
{
    struct fixture *f = *state;
    struct rg_end end = sign_out(f, 9);
    struct rg_account *mine;
    int64_t start;

    prepare(f);
    mine = RG_TAKE(f->account);
    f->other = open_store_with(f, 1);
    f->other->ops->watch(f->other, &writes_down, f);
    run_until(f, fine);
    load_from(f, f->other);
    assert_int_equal(f->account->n_ends, 0);
    assert_int_equal(rg_account_end(mine, &end, end.at_s), RG_OK);
    start = rg_loop_now_ms(f->loop);
    f->waiting++;
    f->store->ops->end(f->store, mine, &end, on_ended, f);
    run_until(f, nothing_waits);
    assert_true(f->everywhere);
    run_until(f, told);
    assert_true(rg_loop_now_ms(f->loop) - start < 1000);
    assert_ptr_equal(f->told_of, f->account);
    assert_int_equal(f->account->n_ends, 1);
    assert_true(redis_number(&redis, "PTTL " KEY "ends") > 3500 * 1000);
    let_go_of_both(f, mine);
}

static void redis__end__outlives_the_process_and_an_absence(void **state)
{
    struct fixture *f = *state;
    struct rg_end end = sign_out(f, 9), late = sign_out(f, 10);

    prepare(f);
    assert_int_equal(rg_account_end(f->account, &end, end.at_s), RG_OK);
    f->waiting++;
    f->store->ops->end(f->store, f->account, &end, on_ended, f);
    run_until(f, nothing_waits);
    assert_true(f->everywhere);
    redis_do(&redis, "SAVE");
    redis_kill(&redis);
    run_until(f, ailing);
    assert_int_equal(rg_account_end(f->account, &late, late.at_s), RG_OK);
    f->waiting++;
    f->store->ops->end(f->store, f->account, &late, on_ended, f);
    run_until(f, nothing_waits);
    assert_false(f->everywhere); /* 202: elsewhere when it is back */
    redis_again(&redis);
    run_until(f, fine);
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->n_ends, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(redis__share__a_follower_shows_what_the_owner_writes),
        TEST(redis__share__more_than_the_journal_holds_comes_whole),
        TEST(redis__share__it_is_given_to_who_asks),
        TEST(redis__share__what_is_erased_is_forgotten_by_all),
        TEST(redis__share__what_is_erased_elsewhere_goes_with_the_session),
        TEST(redis__share__a_dead_owner_is_followed),
        TEST(redis__share__without_redis_each_is_alone),
        TEST(redis__rolled_back__no_older_list_is_taken_over),
        TEST(redis__rolled_back__what_the_owner_stands_by_is_taken_over),
        TEST(redis__alone__nothing_is_given_up_for_a_dead_owner),
        TEST(redis__alone__a_living_owner_that_knows_less_is_asked),
        TEST(redis__alone__nothing_is_given_up_for_an_owner_that_has_not_written),
        TEST(redis__alone__who_knows_the_same_follows_at_once),
        TEST(redis__end__reaches_the_other_instance),
        TEST(redis__end__outlives_the_process_and_an_absence),
    };

    return run_suite("redis_share", tests, RG_ARRAY_LEN(tests));
}

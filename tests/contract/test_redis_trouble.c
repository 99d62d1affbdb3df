/* Redis over memory against a real redis-server: Redis in trouble (DESIGN section 5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "tests/contract/helper_redis_store.h"

/* ---- Redis in trouble */

static void redis__flush__is_written_back_under_the_same_version(void **state)
{
    struct fixture *f = *state;
    struct rg_version before;

    prepare(f);
    before = head(f->account);
    redis_do(&redis, "FLUSHALL");
    run_until(f, written); /* the heartbeat notices */
    redis_do(&redis, "SCRIPT FLUSH");
    push(f, f->store, "nurse@example.net", "Nurse");
    run_until(f, written);
    assert_true(f->account->epoch == before.epoch);
    assert_true(f->account->head.mark == before.at.mark);
}

static void redis__rolled_back__is_written_again(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    redis_do(&redis, "SAVE");
    push(f, f->store, "nurse@example.net", "Nurse");
    push(f, f->store, "contact0@example.net", NULL);
    run_until(f, written);
    redis_kill(&redis);
    redis_again(&redis);
    run_until(f, written);
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->roster->n, 4);
    assert_non_null(rg_roster_find(f->account->roster, "nurse@example.net"));
}

/* An old dump under a new process: no version it gives out was ever another state's. */
static void redis__rolled_back__names_no_version_twice(void **state)
{
    struct fixture *f = *state;
    struct rg_version lost;
    size_t index;

    prepare(f);
    redis_do(&redis, "SAVE");
    push(f, f->store, "nurse@example.net", "Nurse");
    lost = head(f->account);
    run_until(f, written);
    let_go(f, f->store);
    close_store(f, f->store);
    redis_kill(&redis);
    redis_again(&redis);
    f->store = open_store_with(f, 1);
    run_until(f, fine);
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_PRESENT);
    push(f, f->store, "other@example.net", "Other");
    assert_true(f->account->head.seq == lost.at.seq);
    assert_false(rg_account_since(f->account, &lost, &index));
}

static void redis__away__goes_on_and_catches_up(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    redis_kill(&redis);
    run_until(f, ailing);
    push(f, f->store, "nurse@example.net", "Nurse");
    let_go(f, f->store);
    load_from(f, f->store); /* answered from memory */
    assert_int_equal(f->account->roster->n, 5);
    push(f, f->store, "tybalt@example.net", "Tybalt");
    redis_again(&redis);
    run_until(f, written);
    assert_int_equal(redis_number(&redis, "HLEN " KEY "items"), 6);
    run_until(f, fine);
}

static void redis__read_only__goes_on_and_catches_up(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    redis_do(&redis, "REPLICAOF 127.0.0.1 1");
    redis_do(&redis, "CONFIG SET replica-serve-stale-data yes");
    push(f, f->store, "nurse@example.net", "Nurse");
    run_until(f, ailing);
    assert_false(written(f));
    redis_do(&redis, "REPLICAOF NO ONE");
    run_until(f, written);
    run_until(f, fine);
}

static void redis__full__goes_on_and_catches_up(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    redis_do(&redis, "CONFIG SET maxmemory 1");
    push(f, f->store, "nurse@example.net", "Nurse");
    run_until(f, ailing);
    assert_int_equal(redis_number(&redis, "HLEN " KEY "items"), 4);
    redis_do(&redis, "CONFIG SET maxmemory 0");
    run_until(f, written);
    run_until(f, fine);
}

static void redis__slow__load_is_answered_in_time(void **state)
{
    struct fixture *f = *state;
    int64_t start;

    prepare(f);
    let_go(f, f->store);
    redis_do(&redis, "CLIENT PAUSE 3000 ALL");
    start = rg_loop_now_ms(f->loop);
    load_from(f, f->store);
    assert_int_equal(f->account->roster->n, 4);
    assert_true(rg_loop_now_ms(f->loop) - start < 1500);
    redis_kill(&redis); /* the pause would hold up the next test */
    redis_again(&redis);
    run_until(f, fine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(redis__flush__is_written_back_under_the_same_version),
        TEST(redis__rolled_back__is_written_again),
        TEST(redis__rolled_back__names_no_version_twice),
        TEST(redis__away__goes_on_and_catches_up),
        TEST(redis__read_only__goes_on_and_catches_up),
        TEST(redis__full__goes_on_and_catches_up),
        TEST(redis__slow__load_is_answered_in_time),
    };

    return run_suite("redis_trouble", tests, RG_ARRAY_LEN(tests));
}

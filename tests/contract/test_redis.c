/* Redis over memory against a real redis-server: what outlives the process, and what nobody is
 * made to believe (DESIGN sections 4 and 5, threat T20). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/base/metrics.h"
#include "tests/contract/helper_redis_store.h"

/* ---- what outlives the process */

static void redis__load__finds_what_the_last_process_wrote(void **state)
{
    struct fixture *f = *state;
    struct rg_version first, last;
    size_t index;

    load_from(f, f->store);
    first_roster(f, f->store, 3);
    first = head(f->account);
    push(f, f->store, "romeo@example.net", "Romeo");
    push(f, f->store, "contact1@example.net", NULL);
    push(f, f->store, "romeo@example.net", "My Romeo");
    last = head(f->account);
    next_process(f, 1);

    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(f->account->roster->n, 3);
    assert_string_equal(rg_roster_find(f->account->roster, "romeo@example.net")->name,
                        "My Romeo");
    assert_null(rg_roster_find(f->account->roster, "contact1@example.net"));
    assert_int_equal(f->account->ver.len, 4);
    assert_memory_equal(f->account->ver.bytes, "v\0er", 4);
    assert_false(f->account->trusted);
    assert_true(f->account->mark == 0);
    assert_true(rg_account_since(f->account, &last, &index));
    assert_int_equal(index, f->account->journal_n);
    assert_true(rg_account_since(f->account, &first, &index));
    assert_int_equal(f->account->journal_n - index, 3);

    /* This process's first change is under a mark of its own. */
    push(f, f->store, "nurse@example.net", "Nurse");
    assert_true(f->account->head.mark != last.at.mark);
    assert_true(f->account->head.seq == last.at.seq + 1);
    assert_true(rg_account_since(f->account, &first, &index));
    run_until(f, written);
}

static void redis__write__a_burst_is_all_there(void **state)
{
    struct fixture *f = *state;
    size_t journal_n;

    load_from(f, f->store);
    first_roster(f, f->store, 1);
    for (int i = 0; i < 500; i++) {
        char jid[32];

        (void)snprintf(jid, sizeof(jid), "burst%d@example.net", i % 40);
        push(f, f->store, jid, i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c");
    }
    run_until(f, written);
    journal_n = f->account->journal_n;
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->roster->n, 41);
    assert_true(journal_n > 100);
    assert_int_equal(f->account->journal_n, journal_n);
}

static void redis__push__writes_less_than_2_kb(void **state)
{
    struct fixture *f = *state;
    long long before, bytes;

    load_from(f, f->store);
    first_roster(f, f->store, 5000);
    run_until(f, written);
    before = redis_info(&redis, "total_net_input_bytes");
    push(f, f->store, "contact77@example.net", "Somebody Else");
    run_until(f, written);
    bytes = redis_info(&redis, "total_net_input_bytes") - before;
    print_message("a push to 5,000 items: %lld bytes with this test's own questions\n", bytes);
    assert_true(bytes < 2048);
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->roster->n, 5000);
}

static void redis__not_found__is_kept(void **state)
{
    struct fixture *f = *state;

    load_from(f, f->store);
    rg_account_set_not_found(f->account);
    f->account->trusted = true;
    (void)f->store->ops->commit(f->store, f->account, NULL, NULL);
    run_until(f, written);
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_NOT_FOUND);
    push(f, f->store, "romeo@example.net", "Romeo");
    run_until(f, written);
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->roster->n, 1);
}

static void redis__keys__all_of_one_ttl_and_tag(void **state)
{
    struct fixture *f = *state;
    long long meta;

    load_from(f, f->store);
    first_roster(f, f->store, 2);
    push(f, f->store, "romeo@example.net", "Romeo");
    run_until(f, written);
    meta = redis_number(&redis, "PTTL " KEY "meta");
    assert_true(meta > 0 && meta <= f->config->cache.ttl_ms);
    meta = redis_number(&redis, "PEXPIRETIME " KEY "meta"); /* at which a script runs at once */
    assert_int_equal(redis_number(&redis, "PEXPIRETIME " KEY "items"), meta);
    assert_int_equal(redis_number(&redis, "PEXPIRETIME " KEY "journal"), meta);
}

static bool marked_by_key_2(struct fixture *f)
{
    redisReply *state = redis_ask(&redis, "HGET " KEY "meta state");
    bool is = state->type == REDIS_REPLY_STRING && state->len > 1 && state->str[1] == 2;

    (void)f;
    freeReplyObject(state);
    return is;
}

/* The old key may go as soon as what is held has been marked anew. */
static void redis__keys_exchanged__what_is_held_is_marked_anew(void **state)
{
    struct fixture *f = *state;
    struct rg_version before;

    prepare(f);
    before = head(f->account);
    f->store->ops->rekey_take(f->store, two_keys(2, 1));
    run_until(f, marked_by_key_2);
    push(f, f->store, "nurse@example.net", "Nurse");
    run_until(f, written);
    next_process(f, 2);
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(f->account->roster->n, 5);
    assert_true(f->account->epoch == before.epoch && f->account->head.mark == before.at.mark);
}

/* ---- what nobody is made to believe */

static void redis__load__other_keys_are_a_miss(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    next_process(f, 2);
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_UNKNOWN);
}

static void redis__load__an_evicted_item_is_a_miss(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    redis_do(&redis, "HDEL " KEY "items contact1@example.net");
    expect_miss(f);
}

static void redis__load__evicted_items_are_a_miss(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    redis_do(&redis, "DEL " KEY "items");
    expect_miss(f);
}

static void redis__load__an_older_item_is_a_miss(void **state)
{
    struct fixture *f = *state;
    redisReply *old;

    prepare(f);
    old = redis_ask(&redis, "HGET " KEY "items romeo@example.net");
    push(f, f->store, "romeo@example.net", "Another");
    run_until(f, written);
    redis_do(&redis, "HSET " KEY "items romeo@example.net %b", old->str, (size_t)old->len);
    freeReplyObject(old);
    expect_miss(f);
}

static void redis__load__a_moved_item_is_a_miss(void **state)
{
    struct fixture *f = *state;
    redisReply *item;

    prepare(f);
    item = redis_ask(&redis, "HGET " KEY "items contact0@example.net");
    redis_do(&redis, "HSET " KEY "items contact1@example.net %b", item->str, (size_t)item->len);
    freeReplyObject(item);
    expect_miss(f);
}

static void redis__load__a_changed_state_is_a_miss(void **state)
{
    struct fixture *f = *state;
    redisReply *sealed;

    prepare(f);
    sealed = redis_ask(&redis, "HGET " KEY "meta state");
    sealed->str[sealed->len - 1] ^= 1;
    redis_do(&redis, "HSET " KEY "meta state %b", sealed->str, (size_t)sealed->len);
    freeReplyObject(sealed);
    expect_miss(f);
}

static void redis__load__wrong_types_are_a_miss(void **state)
{
    static const char *const parts[] = {"meta", "items", "journal", "ends"};
    struct fixture *f = *state;

    for (size_t i = 0; i < RG_ARRAY_LEN(parts); i++) {
        prepare(f);
        redis_do(&redis, "SET " KEY "%s nonsense", parts[i]);
        next_process(f, 1);
        load_from(f, f->store);
        first_roster(f, f->store, 4);
        run_until(f, written);
        assert_int_equal(redis_number(&redis, "HLEN " KEY "items"), 4);
        next_process(f, 1);
        redis_do(&redis, "FLUSHALL");
    }
}

static void redis__load__a_poisoned_journal_ends_there(void **state)
{
    struct fixture *f = *state;
    struct rg_version first;
    size_t index;

    load_from(f, f->store);
    first_roster(f, f->store, 1);
    first = head(f->account);
    for (int i = 0; i < 6; i++)
        push(f, f->store, "romeo@example.net", i % 2 == 0 ? "a" : "b");
    run_until(f, written);
    redis_do(&redis, "LSET " KEY "journal 2 nonsense");
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(f->account->journal_n, 3);
    assert_false(rg_account_since(f->account, &first, &index));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(redis__load__finds_what_the_last_process_wrote),
        TEST(redis__write__a_burst_is_all_there),
        TEST(redis__push__writes_less_than_2_kb),
        TEST(redis__not_found__is_kept),
        TEST(redis__keys__all_of_one_ttl_and_tag),
        TEST(redis__keys_exchanged__what_is_held_is_marked_anew),
        TEST(redis__load__other_keys_are_a_miss),
        TEST(redis__load__an_evicted_item_is_a_miss),
        TEST(redis__load__evicted_items_are_a_miss),
        TEST(redis__load__an_older_item_is_a_miss),
        TEST(redis__load__a_moved_item_is_a_miss),
        TEST(redis__load__a_changed_state_is_a_miss),
        TEST(redis__load__wrong_types_are_a_miss),
        TEST(redis__load__a_poisoned_journal_ends_there),
    };

    return run_suite("redis", tests, RG_ARRAY_LEN(tests));
}

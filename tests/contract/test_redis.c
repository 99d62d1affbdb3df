/* Redis over memory against a real redis-server: what outlives the process, and what nobody is
 * made to believe (DESIGN sections 4 and 5, threat T20). A store here is a process: two stores
 * with the same keys are two instances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/redis.h"
#include "gateway/base/mem.h"
#include "gateway/base/metrics.h"
#include "gateway/base/random.h"
#include "tests/contract/helper_redis.h"

static const char USER[] = "juliet@example.com";
#define KEY "rg:{juliet@example.com}:"

static struct redis redis;

struct fixture {
    struct rg_config *config;
    struct rg_loop *loop;
    struct rg_store *store;     /* this instance */
    struct rg_store *other;     /* another one; NULL: none */
    struct rg_account *account; /* own: the last one loaded */
    struct rg_account *told_of; /* by `other`, about ends */
    int waiting;
    bool everywhere;
    int64_t conflicts;
    struct rg_timer poll;
    bool (*until)(struct fixture *f);
};

/* ---- running the loop */

static void on_poll(struct rg_timer *timer)
{
    struct fixture *f = RG_CONTAINER_OF(timer, struct fixture, poll);

    if (f->until(f))
        rg_loop_stop(f->loop);
    else
        rg_timer_start(timer, f->loop, 1);
}

static void run_until(struct fixture *f, bool (*until)(struct fixture *f))
{
    f->until = until;
    rg_timer_start(&f->poll, f->loop, 0);
    rg_loop_run(f->loop);
}

static bool nothing_waits(struct fixture *f)
{
    return f->waiting == 0;
}

static bool degraded(struct rg_store *store)
{
    struct rg_buf buf = RG_BUF_INIT;
    bool is;

    store->ops->health(store, &buf);
    is = strstr(buf.data, "\"degraded\":true") != NULL;
    rg_buf_fini(&buf);
    return is;
}

static bool fine(struct fixture *f)
{
    return !degraded(f->store) && (f->other == NULL || !degraded(f->other));
}

static bool ailing(struct fixture *f)
{
    return degraded(f->store);
}

/* Redis holds the version that the account has. */
static bool written(struct fixture *f)
{
    char version[RG_VERSION_SIZE];
    redisReply *reply = redisCommand(redis.context, "HGET " KEY "meta at");
    bool is;

    assert_non_null(reply); /* an error is fine: something else stands there still */
    rg_account_version(f->account, version);
    is = reply->type == REDIS_REPLY_STRING && strcmp(reply->str, version) == 0;
    freeReplyObject(reply);
    return is;
}

/* ---- stores */

static struct rg_store *open_store_with(struct fixture *f, uint8_t key)
{
    static const uint8_t id[RG_MAC_ID_BYTES] = {7};
    uint8_t bytes[RG_MAC_KEY_BYTES] = {key};
    struct rg_err err = RG_ERR_INIT;
    struct rg_mac *mac = rg_mac_create(1);
    struct rg_store *store;

    rg_mac_set_key(mac, 0, id, bytes);
    store = rg_store_redis_create_take(f->config, f->loop, mac, &err);
    if (store == NULL)
        fail_msg("%s", err.text);
    return store;
}

static void on_stopped(void *arg)
{
    ((struct fixture *)arg)->waiting--;
}

static void close_store(struct fixture *f, struct rg_store *store)
{
    f->waiting++;
    store->ops->stop(store, on_stopped, f);
    run_until(f, nothing_waits);
    store->ops->destroy(store);
}

/* As kill -9 does it: nothing is written any more, nothing given up. */
static void kill_store(struct rg_store *store)
{
    store->ops->destroy(store);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct rg_err err = RG_ERR_INIT;

    assert_int_equal(rg_random_init(&err), RG_OK);
    assert_int_equal(rg_config_load(NULL, &f->config, &err), RG_OK);
    free(f->config->cache.url);
    f->config->cache.url = strdup(redis.url);
    f->loop = rg_loop_create("core", &err);
    assert_int_equal(rg_timer_init(&f->poll, f->loop, on_poll), RG_OK);
    redis_do(&redis, "FLUSHALL");
    f->store = open_store_with(f, 1);
    run_until(f, fine);
    *state = f;
    return 0;
}

static void let_go(struct fixture *f, struct rg_store *store)
{
    if (f->account != NULL)
        store->ops->release_take(store, RG_TAKE(f->account));
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    let_go(f, f->store);
    if (f->store != NULL)
        close_store(f, f->store);
    if (f->other != NULL)
        close_store(f, f->other);
    rg_timer_fini(&f->poll, f->loop);
    rg_loop_destroy(f->loop);
    rg_config_destroy(f->config);
    free(f);
    return 0;
}

static void on_loaded(void *arg, struct rg_account *account)
{
    struct fixture *f = arg;

    assert_non_null(account);
    f->account = rg_account_ref(account);
    f->waiting--;
}

static void load_from(struct fixture *f, struct rg_store *store)
{
    f->waiting++;
    store->ops->load(store, USER, on_loaded, f);
    run_until(f, nothing_waits);
}

/* ---- changes as the core makes them: confirmed by the server */

static void roster_of(struct fixture *f, size_t n)
{
    struct rg_roster_builder builder;
    struct rg_roster *roster;
    size_t changes;
    bool reset;

    rg_roster_builder_init(&builder);
    for (size_t i = 0; i < n; i++) {
        char jid[64];
        const char *const groups[] = {"Friends"};
        struct rg_item_spec spec = {
            .jid = jid, .name = "Somebody", .groups = groups, .n_groups = 1};

        (void)snprintf(jid, sizeof(jid), "contact%zu@example.net", i);
        rg_roster_builder_add_take(&builder, rg_item_create(&spec));
    }
    roster = rg_roster_builder_finish(&builder);
    assert_int_equal(
        rg_account_replace(f->account, roster, rg_loop_unix_s(f->loop), &changes, &reset),
        RG_OK);
    rg_roster_unref(roster);
    rg_account_set_ver(f->account, "v\0er", 4);
    f->account->trusted = true;
    f->account->confirmed_s = rg_loop_unix_s(f->loop);
}

static void first_roster(struct fixture *f, struct rg_store *store, size_t n)
{
    roster_of(f, n);
    store->ops->commit(store, f->account, SIZE_MAX);
}

static void push(struct fixture *f, struct rg_store *store, const char *jid, const char *name)
{
    struct rg_item_spec spec = {.jid = jid, .name = name};
    bool changed = false;

    assert_int_equal(rg_account_push_take(f->account,
                                          name != NULL ? rg_item_create(&spec) : NULL, jid,
                                          rg_loop_unix_s(f->loop), &changed),
                     RG_OK);
    assert_true(changed);
    f->account->trusted = true;
    store->ops->commit(store, f->account, 1);
}

static struct rg_version head(const struct rg_account *account)
{
    return (struct rg_version){.epoch = account->epoch, .at = account->head};
}

/* The store ends as a process does and the next one begins. */
static void next_process(struct fixture *f, uint8_t key)
{
    let_go(f, f->store);
    close_store(f, f->store);
    f->store = open_store_with(f, key);
    run_until(f, fine);
}

static void expect_miss(struct fixture *f)
{
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_UNKNOWN);
    assert_false(f->account->ver.known);
    assert_int_equal(f->account->head.seq, 0);
}

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
    f->store->ops->commit(f->store, f->account, 0);
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
    assert_true(llabs(redis_number(&redis, "PTTL " KEY "items") - meta) < 100);
    assert_true(llabs(redis_number(&redis, "PTTL " KEY "journal") - meta) < 100);
}

/* ---- what nobody is made to believe */

static void prepare(struct fixture *f)
{
    load_from(f, f->store);
    first_roster(f, f->store, 3);
    push(f, f->store, "romeo@example.net", "Romeo");
    run_until(f, written);
}

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
    redis_do(&redis, "SELECT 3");
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
    redis_do(&redis, "SELECT 3");
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
    redis_do(&redis, "SELECT 3");
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
    redis_do(&redis, "SELECT 3");
    run_until(f, fine);
}

/* ---- several instances */

static int64_t conflicts(void)
{
    return rg_metric_value(rg_counter("rostergate_redis_conflicts_total", "", ""));
}

static bool another_conflict(struct fixture *f)
{
    return conflicts() > f->conflicts;
}

static void redis__fence__a_second_writer_waits_for_the_first(void **state)
{
    struct fixture *f = *state;
    struct rg_account *mine;
    redisReply *owner, *still;

    prepare(f);
    mine = RG_TAKE(f->account);
    owner = redis_ask(&redis, "HGET " KEY "meta owner");
    f->other = open_store_with(f, 1);
    run_until(f, fine);
    load_from(f, f->other);
    assert_int_equal(f->account->roster->n, 4);
    f->conflicts = conflicts();
    push(f, f->other, "nurse@example.net", "Nurse");
    f->store->ops->commit(f->store, mine, 0);
    run_until(f, another_conflict); /* the second has asked; the first's version stands */
    still = redis_ask(&redis, "HGET " KEY "meta owner");
    assert_string_equal(still->str, owner->str);
    assert_false(written(f));
    freeReplyObject(still);
    freeReplyObject(owner);
    /* It gives the account up: the second writes what it has. */
    f->store->ops->release_take(f->store, mine);
    run_until(f, written);
    let_go(f, f->other);
}

static void redis__fence__a_dead_writer_is_followed(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    rg_account_unref(RG_TAKE(f->account));
    kill_store(f->store);
    f->store = open_store_with(f, 1);
    run_until(f, fine);
    load_from(f, f->store);
    assert_int_equal(f->account->roster->n, 4);
    push(f, f->store, "nurse@example.net", "Nurse");
    run_until(f, written); /* once its heartbeat has run out */
}

static void on_news(void *arg, struct rg_account *account)
{
    ((struct fixture *)arg)->told_of = account;
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
    f->other->ops->watch(f->other, on_news, f);
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
    let_go(f, f->other);
    f->store->ops->release_take(f->store, mine);
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
    redis_do(&redis, "SELECT 3");
    run_until(f, fine);
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->n_ends, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(redis__load__finds_what_the_last_process_wrote),
        TEST(redis__write__a_burst_is_all_there),
        TEST(redis__push__writes_less_than_2_kb),
        TEST(redis__not_found__is_kept),
        TEST(redis__keys__all_of_one_ttl_and_tag),
        TEST(redis__load__other_keys_are_a_miss),
        TEST(redis__load__an_evicted_item_is_a_miss),
        TEST(redis__load__evicted_items_are_a_miss),
        TEST(redis__load__an_older_item_is_a_miss),
        TEST(redis__load__a_moved_item_is_a_miss),
        TEST(redis__load__a_changed_state_is_a_miss),
        TEST(redis__load__wrong_types_are_a_miss),
        TEST(redis__load__a_poisoned_journal_ends_there),
        TEST(redis__flush__is_written_back_under_the_same_version),
        TEST(redis__rolled_back__is_written_again),
        TEST(redis__rolled_back__names_no_version_twice),
        TEST(redis__away__goes_on_and_catches_up),
        TEST(redis__read_only__goes_on_and_catches_up),
        TEST(redis__full__goes_on_and_catches_up),
        TEST(redis__slow__load_is_answered_in_time),
        TEST(redis__fence__a_second_writer_waits_for_the_first),
        TEST(redis__fence__a_dead_writer_is_followed),
        TEST(redis__end__reaches_the_other_instance),
        TEST(redis__end__outlives_the_process_and_an_absence),
    };
    int failed;

    redis_start(&redis);
    failed = cmocka_run_group_tests_name("redis", tests, NULL, NULL);
    redis_remove(&redis);
    return failed;
}

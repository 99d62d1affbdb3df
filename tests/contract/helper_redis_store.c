#include "tests/contract/helper_redis_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/base/random.h"

struct redis redis;

/* ---- running the loop */

int run_suite(const char *name, const struct CMUnitTest *tests, size_t n)
{
    int failed;

    redis_start(&redis);
    failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
    redis_remove(&redis);
    return failed;
}

static void on_poll(struct rg_timer *timer)
{
    struct fixture *f = RG_CONTAINER_OF(timer, struct fixture, poll);

    if (f->until(f))
        rg_loop_stop(f->loop);
    else
        rg_timer_start(timer, f->loop, 1);
}

void run_until(struct fixture *f, bool (*until)(struct fixture *f))
{
    f->until = until;
    rg_timer_start(&f->poll, f->loop, 0);
    rg_loop_run(f->loop);
}

bool nothing_waits(struct fixture *f)
{
    return f->waiting == 0;
}

bool degraded(struct rg_store *store)
{
    struct rg_buf buf = RG_BUF_INIT;
    bool is;

    store->ops->health(store, &buf);
    is = strstr(buf.data, "\"degraded\":true") != NULL;
    rg_buf_fini(&buf);
    return is;
}

bool fine(struct fixture *f)
{
    return !degraded(f->store) && (f->other == NULL || !degraded(f->other));
}

bool ailing(struct fixture *f)
{
    return degraded(f->store);
}

/* Redis holds the version that the account has. */
bool written(struct fixture *f)
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

static void set_key(struct rg_mac *mac, size_t i, uint8_t key)
{
    uint8_t name[RG_MAC_ID_BYTES] = {key}, bytes[RG_MAC_KEY_BYTES] = {key};

    rg_mac_set_key(mac, i, name, bytes);
}

struct rg_mac *two_keys(uint8_t first, uint8_t second)
{
    struct rg_mac *mac = rg_mac_create(2);

    set_key(mac, 0, first);
    set_key(mac, 1, second);
    return mac;
}

struct rg_store *open_store_with(struct fixture *f, uint8_t key)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_mac *mac = rg_mac_create(1);
    struct rg_store *store;

    set_key(mac, 0, key);
    store = rg_store_redis_create_take(f->config, f->loop, mac, &err);
    if (store == NULL)
        fail_msg("%s", err.text);
    return store;
}

static void on_stopped(void *arg)
{
    ((struct fixture *)arg)->waiting--;
}

void close_store(struct fixture *f, struct rg_store *store)
{
    f->waiting++;
    store->ops->stop(store, on_stopped, f);
    run_until(f, nothing_waits);
    store->ops->destroy(store);
}

/* As kill -9 does it: nothing is written any more, nothing given up. */
void kill_store(struct rg_store *store)
{
    store->ops->destroy(store);
}

int set_up(void **state)
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

void let_go(struct fixture *f, struct rg_store *store)
{
    if (f->account != NULL)
        store->ops->release_take(store, RG_TAKE(f->account));
}

int tear_down(void **state)
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

void load_as(struct fixture *f, struct rg_store *store, const char *user)
{
    f->waiting++;
    store->ops->load(store, user, on_loaded, f);
    run_until(f, nothing_waits);
}

void load_from(struct fixture *f, struct rg_store *store)
{
    load_as(f, store, USER);
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

void first_roster(struct fixture *f, struct rg_store *store, size_t n)
{
    roster_of(f, n);
    (void)store->ops->commit(store, f->account, NULL, NULL);
}

void push(struct fixture *f, struct rg_store *store, const char *jid, const char *name)
{
    struct rg_item_spec spec = {.jid = jid, .name = name};
    bool changed = false;

    assert_int_equal(rg_account_push_take(f->account,
                                          name != NULL ? rg_item_create(&spec) : NULL, jid,
                                          rg_loop_unix_s(f->loop), &changed),
                     RG_OK);
    assert_true(changed);
    f->account->trusted = true;
    (void)store->ops->commit(store, f->account, NULL, NULL);
}

struct rg_version head(const struct rg_account *account)
{
    return (struct rg_version){.epoch = account->epoch, .at = account->head};
}

/* The store ends as a process does and the next one begins. */
void next_process(struct fixture *f, uint8_t key)
{
    let_go(f, f->store);
    close_store(f, f->store);
    f->store = open_store_with(f, key);
    run_until(f, fine);
}

void expect_miss(struct fixture *f)
{
    next_process(f, 1);
    load_from(f, f->store);
    assert_int_equal(f->account->presence, RG_ROSTER_UNKNOWN);
    assert_false(f->account->ver.known);
    assert_int_equal(f->account->head.seq, 0);
}

void prepare(struct fixture *f)
{
    load_from(f, f->store);
    first_roster(f, f->store, 3);
    push(f, f->store, "romeo@example.net", "Romeo");
    run_until(f, written);
}

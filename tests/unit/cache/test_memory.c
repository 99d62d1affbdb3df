/* What the contract suite cannot see: time and bounds of the memory store, on a manual loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/memory.h"

enum { TTL_S = 3600 };

struct fixture {
    struct rg_config *config;
    struct rg_loop *loop;
    struct rg_store *store;
    struct rg_account *account;
};

static int start(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_int_equal(rg_config_load(NULL, &f->config, NULL), RG_OK);
    f->config->cache.ttl_ms = TTL_S * 1000;
    f->config->limits.journal_bytes = 20000;
    f->loop = rg_loop_create_manual(INT64_C(1700000000000));
    f->store = rg_store_memory_create(f->config, f->loop, NULL);
    assert_non_null(f->store);
    *state = f;
    return 0;
}

static void nothing(void *arg)
{
    (void)arg;
}

static int finish(void **state)
{
    struct fixture *f = *state;

    f->store->ops->stop(f->store, nothing, NULL);
    rg_loop_advance(f->loop, 0);
    f->store->ops->destroy(f->store);
    rg_loop_destroy(f->loop);
    rg_config_destroy(f->config);
    free(f);
    return 0;
}

static void on_loaded(void *arg, struct rg_account *account)
{
    ((struct fixture *)arg)->account = rg_account_ref(account);
}

static struct rg_account *load(struct fixture *f, const char *user)
{
    f->store->ops->load(f->store, user, on_loaded, f);
    rg_loop_advance(f->loop, 0);
    return f->account;
}

static void push(struct fixture *f, struct rg_account *account, const char *name)
{
    struct rg_item_spec spec = {.jid = "x@y", .name = name};
    bool changed;

    assert_int_equal(rg_account_push_take(account, rg_item_create(&spec), "x@y",
                                          rg_loop_unix_s(f->loop), &changed),
                     RG_OK);
    (void)f->store->ops->commit(f->store, account, NULL, NULL);
}

static int accounts(struct fixture *f)
{
    struct rg_buf buf = RG_BUF_INIT;
    int n = -1;

    f->store->ops->health(f->store, &buf);
    assert_int_equal(sscanf(strstr(buf.data, "\"accounts\":"), "\"accounts\":%d", &n), 1);
    rg_buf_fini(&buf);
    return n;
}

static void memory__ttl__forgets_what_is_idle(void **state)
{
    struct fixture *f = *state;
    struct rg_account *account = load(f, "a@b");
    uint64_t epoch = account->epoch;

    push(f, account, "1");
    f->store->ops->release_take(f->store, account);
    rg_loop_advance(f->loop, TTL_S * 1000 - 1);
    account = load(f, "a@b"); /* just in time; the clock starts anew at its release */
    assert_true(account->epoch == epoch);
    f->store->ops->release_take(f->store, account);
    rg_loop_advance(f->loop, TTL_S * 1000 - 1);
    assert_int_equal(accounts(f), 1);
    rg_loop_advance(f->loop, 1);
    assert_int_equal(accounts(f), 0);
    account = load(f, "a@b");
    assert_true(account->epoch != epoch);
    assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
    f->store->ops->release_take(f->store, account);
}

static void memory__ttl__does_not_run_while_held(void **state)
{
    struct fixture *f = *state;
    struct rg_account *account = load(f, "a@b");

    push(f, account, "1");
    rg_loop_advance(f->loop, TTL_S * 10000);
    assert_int_equal(accounts(f), 1);
    assert_int_equal(account->presence, RG_ROSTER_PRESENT);
    f->store->ops->release_take(f->store, account);
}

static void on_ended(void *arg, bool everywhere)
{
    *(int *)arg += everywhere;
}

/* The roster goes after the ttl; a sign-out stays as long as a token could live. */
static void memory__ttl__keeps_living_ends(void **state)
{
    struct fixture *f = *state;
    struct rg_account *account = load(f, "a@b");
    struct rg_end end = {.kind = RG_END_ALL};
    uint64_t epoch = account->epoch;
    int ended = 0;

    end.until_s = rg_loop_unix_s(f->loop) + 5 * TTL_S / 2;
    push(f, account, "1");
    assert_int_equal(rg_account_end(account, &end, 0), RG_OK);
    f->store->ops->end(f->store, account, &end, on_ended, &ended);
    rg_loop_advance(f->loop, 0);
    assert_int_equal(ended, 1);
    f->store->ops->release_take(f->store, account);
    rg_loop_advance(f->loop, TTL_S * 1000);
    assert_int_equal(accounts(f), 1);
    account = load(f, "a@b");
    assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
    assert_true(account->epoch != epoch);
    assert_int_equal(account->n_ends, 1);
    f->store->ops->release_take(f->store, account);
    rg_loop_advance(f->loop, 3 * TTL_S * 1000);
    assert_int_equal(accounts(f), 0);
}

static void memory__release__drops_the_empty_at_once(void **state)
{
    struct fixture *f = *state;

    f->store->ops->release_take(f->store, load(f, "a@b"));
    assert_int_equal(accounts(f), 0);
}

static void memory__erase__while_held_is_in_place(void **state)
{
    struct fixture *f = *state;
    struct rg_account *account = load(f, "a@b");

    push(f, account, "1");
    f->store->ops->erase(f->store, "a@b");
    assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
    assert_int_equal(account->journal_n, 0);
    assert_ptr_equal(load(f, "a@b"), account);
    f->store->ops->release_take(f->store, account);
    f->store->ops->release_take(f->store, account);
    assert_int_equal(accounts(f), 0);
}

static void memory__journal__stays_in_the_budget(void **state)
{
    struct fixture *f = *state;
    struct rg_account *held[50];
    size_t bytes = 0;

    for (int i = 0; i < 50; i++) {
        char user[24], name[16];

        (void)snprintf(user, sizeof(user), "u%d@b", i);
        held[i] = load(f, user);
        for (int n = 0; n < 10; n++) {
            (void)snprintf(name, sizeof(name), "%d", n);
            push(f, held[i], name);
        }
    }
    for (int i = 0; i < 50; i++) {
        bytes += held[i]->journal_bytes;
        f->store->ops->release_take(f->store, held[i]);
    }
    assert_true(bytes <= 20000);
    assert_true(bytes > 19000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory__ttl__forgets_what_is_idle, start, finish),
        cmocka_unit_test_setup_teardown(memory__ttl__does_not_run_while_held, start, finish),
        cmocka_unit_test_setup_teardown(memory__ttl__keeps_living_ends, start, finish),
        cmocka_unit_test_setup_teardown(memory__release__drops_the_empty_at_once, start,
                                        finish),
        cmocka_unit_test_setup_teardown(memory__erase__while_held_is_in_place, start, finish),
        cmocka_unit_test_setup_teardown(memory__journal__stays_in_the_budget, start, finish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What every store must do (gateway/ports/store.h), run over all implementations. Adding one:
 * a row in `factories`. A store runs on a real loop here; a test waits for callbacks, never for
 * time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/memory.h"
#include "cache/redis.h"
#include "gateway/base/mem.h"
#include "tests/contract/helper_redis.h"

static struct redis redis;

struct factory {
    const char *name;
    bool with_state_file;
    bool persistent; /* sign-outs outlive the store */
    bool alone;      /* ends are known here only */
    struct rg_store *(*create)(const struct rg_config *config, struct rg_loop *loop,
                               struct rg_err *err);
};

/* Is Redis there by now? Health is all that a store says of itself. */
struct patience {
    struct rg_store *store;
    struct rg_loop *loop;
    struct rg_timer timer;
};

static void look(struct rg_timer *timer)
{
    struct patience *patience = RG_CONTAINER_OF(timer, struct patience, timer);
    struct rg_buf buf = RG_BUF_INIT;

    patience->store->ops->health(patience->store, &buf);
    if (strstr(buf.data, "\"degraded\":true") == NULL)
        rg_loop_stop(patience->loop);
    else
        rg_timer_start(timer, patience->loop, 1);
    rg_buf_fini(&buf);
}

static struct rg_store *create_redis_at(const char *url, const struct rg_config *config,
                                        struct rg_loop *loop, struct rg_err *err)
{
    static const uint8_t id[RG_MAC_ID_BYTES] = {1}, key[RG_MAC_KEY_BYTES] = {2};
    struct rg_config *given = (struct rg_config *)config; /* of this test */
    struct rg_mac *mac = rg_mac_create(1);

    rg_mac_set_key(mac, 0, id, key);
    free(given->cache.url);
    given->cache.url = strdup(url);
    return rg_store_redis_create_take(config, loop, mac, err);
}

static struct rg_store *create_redis(const struct rg_config *config, struct rg_loop *loop,
                                     struct rg_err *err)
{
    struct rg_store *store = create_redis_at(redis.url, config, loop, err);
    struct patience patience = {.store = store, .loop = loop};

    if (store == NULL)
        return NULL;
    assert_int_equal(rg_timer_init(&patience.timer, loop, look), RG_OK);
    rg_timer_start(&patience.timer, loop, 0);
    rg_loop_run(loop);
    rg_timer_fini(&patience.timer, loop);
    return store;
}

/* The store that always fails: nobody listens there. */
static struct rg_store *create_failing(const struct rg_config *config, struct rg_loop *loop,
                                       struct rg_err *err)
{
    return create_redis_at("unix:///tmp/rg-nobody-listens-here", config, loop, err);
}

static const struct factory factories[] = {
    {"memory", .create = rg_store_memory_create},
    {"memory with a state file", .with_state_file = true, .persistent = true,
     .create = rg_store_memory_create},
    {"redis", .persistent = true, .create = create_redis},
    {"redis, not there", .alone = true, .create = create_failing},
    {"redis with a state file, not there", .with_state_file = true, .persistent = true,
     .alone = true, .create = create_failing},
};

struct fixture {
    const struct factory *factory;
    struct rg_config *config;
    struct rg_loop *loop;
    struct rg_store *store;
    char dir[32], state_file[64];
    int waiting; /* callbacks not yet come */
};

static void came(struct fixture *f)
{
    if (--f->waiting == 0)
        rg_loop_stop(f->loop);
}

/* Runs the loop until every callback asked for has come. */
static void settle(struct fixture *f)
{
    if (f->waiting > 0)
        rg_loop_run(f->loop);
    assert_int_equal(f->waiting, 0);
}

static void open_store(struct fixture *f)
{
    struct rg_err err = RG_ERR_INIT;

    f->store = f->factory->create(f->config, f->loop, &err);
    if (f->store == NULL)
        fail_msg("%s: %s", f->factory->name, err.text);
}

static void on_stopped(void *arg)
{
    came(arg);
}

static void close_store(struct fixture *f)
{
    f->waiting++;
    f->store->ops->stop(f->store, on_stopped, f);
    settle(f);
    f->store->ops->destroy(f->store);
    f->store = NULL;
}

static void start(struct fixture *f, const struct factory *factory)
{
    struct rg_err err = RG_ERR_INIT;

    memset(f, 0, sizeof(*f));
    f->factory = factory;
    assert_int_equal(rg_config_load(NULL, &f->config, &err), RG_OK);
    strcpy(f->dir, "/tmp/rg-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    if (factory->with_state_file) {
        (void)snprintf(f->state_file, sizeof(f->state_file), "%s/state", f->dir);
        free(f->config->session.state_file);
        f->config->session.state_file = strdup(f->state_file);
    }
    f->loop = rg_loop_create("core", &err);
    assert_non_null(f->loop);
    redis_do(&redis, "FLUSHALL");
    open_store(f);
}

static void finish(struct fixture *f)
{
    if (f->store != NULL)
        close_store(f);
    rg_loop_destroy(f->loop);
    rg_config_destroy(f->config);
    if (f->state_file[0] != '\0')
        unlink(f->state_file);
    assert_int_equal(rmdir(f->dir), 0); /* nothing else is left behind */
}

struct loaded {
    struct fixture *f;
    struct rg_account *account; /* own reference, if `keep` */
    bool keep;
    int calls;
};

static void on_loaded(void *arg, struct rg_account *account)
{
    struct loaded *loaded = arg;

    loaded->calls++;
    if (account != NULL && loaded->keep)
        loaded->account = rg_account_ref(account);
    came(loaded->f);
}

static void ask(struct fixture *f, const char *user, struct loaded *loaded)
{
    *loaded = (struct loaded){.f = f, .keep = true};
    f->waiting++;
    f->store->ops->load(f->store, user, on_loaded, loaded);
    assert_int_equal(loaded->calls, 0); /* never inside the call */
}

/* Returns (own) the account. */
static struct rg_account *load(struct fixture *f, const char *user)
{
    struct loaded loaded;

    ask(f, user, &loaded);
    settle(f);
    assert_int_equal(loaded.calls, 1);
    assert_non_null(loaded.account);
    assert_string_equal(loaded.account->user, user);
    return loaded.account;
}

static void release(struct fixture *f, struct rg_account *account)
{
    f->store->ops->release_take(f->store, account);
}

struct ended {
    struct fixture *f;
    int calls;
    bool everywhere;
};

static void on_ended(void *arg, bool everywhere)
{
    struct ended *ended = arg;

    ended->calls++;
    ended->everywhere = everywhere;
    came(ended->f);
}

static void end(struct fixture *f, struct rg_account *account, enum rg_end_kind kind,
                uint8_t id)
{
    struct rg_end made = {.kind = kind, .id = {id}};
    struct ended ended = {.f = f};

    made.at_s = rg_loop_unix_s(f->loop);
    made.until_s = made.at_s + 3600;
    assert_int_equal(rg_account_end(account, &made, made.at_s), RG_OK);
    f->waiting++;
    f->store->ops->end(f->store, account, &made, on_ended, &ended);
    assert_int_equal(ended.calls, 0);
    settle(f);
    assert_int_equal(ended.calls, 1);
    assert_int_equal(ended.everywhere, !f->factory->alone);
}

static bool has_end(const struct rg_account *account, enum rg_end_kind kind, uint8_t id)
{
    for (size_t i = 0; i < account->n_ends; i++) {
        if (account->ends[i].kind == kind && account->ends[i].id[0] == id)
            return true;
    }
    return false;
}

static void push(struct fixture *f, struct rg_account *account, const char *jid,
                 const char *name)
{
    struct rg_item_spec spec = {.jid = jid, .name = name};
    bool changed = false;

    assert_int_equal(rg_account_push_take(account, name != NULL ? rg_item_create(&spec) : NULL,
                                          jid, rg_loop_unix_s(f->loop), &changed),
                     RG_OK);
    assert_true(changed);
    (void)f->store->ops->commit(f->store, account, NULL, NULL);
}

static void first_roster(struct fixture *f, struct rg_account *account)
{
    struct rg_roster_builder builder;
    struct rg_roster *roster;
    struct rg_item_spec spec = {.jid = "romeo@example.net", .name = "Romeo"};
    size_t changes;
    bool reset;

    rg_roster_builder_init(&builder);
    rg_roster_builder_add_take(&builder, rg_item_create(&spec));
    roster = rg_roster_builder_finish(&builder);
    assert_int_equal(
        rg_account_replace(account, roster, rg_loop_unix_s(f->loop), &changes, &reset), RG_OK);
    assert_true(reset);
    rg_account_set_ver(account, "v\0er", 4);
    (void)f->store->ops->commit(f->store, account, NULL, NULL);
    rg_roster_unref(roster);
}

static struct rg_version head(const struct rg_account *account)
{
    return (struct rg_version){.epoch = account->epoch, .at = account->head};
}

static void store__load__gives_a_fresh_account(struct fixture *f)
{
    struct rg_account *account = load(f, "juliet@example.com");

    assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
    assert_true(account->epoch != 0);
    assert_int_equal(account->n_ends, 0);
    assert_false(account->ver.known);
    release(f, account);
}

static void store__load__same_object_while_held(struct fixture *f)
{
    struct rg_account *one = load(f, "juliet@example.com"), *two, *other;

    two = load(f, "juliet@example.com");
    other = load(f, "romeo@example.com");
    assert_ptr_equal(one, two);
    assert_ptr_not_equal(one, other);
    release(f, one);
    one = load(f, "juliet@example.com");
    assert_ptr_equal(one, two);
    release(f, one);
    release(f, two);
    release(f, other);
}

static void store__load__two_at_once_are_one_object(struct fixture *f)
{
    struct loaded one, two;

    ask(f, "juliet@example.com", &one);
    ask(f, "juliet@example.com", &two);
    settle(f);
    assert_non_null(one.account);
    assert_ptr_equal(one.account, two.account);
    release(f, one.account);
    release(f, two.account);
}

static void store__load__not_kept_is_no_leak(struct fixture *f)
{
    struct loaded loaded;

    ask(f, "juliet@example.com", &loaded);
    loaded.keep = false;
    settle(f);
    assert_int_equal(loaded.calls, 1);
    release(f, load(f, "juliet@example.com"));
}

static void store__commit__outlives_the_release(struct fixture *f)
{
    struct rg_account *account = load(f, "juliet@example.com");
    struct rg_version first, second;
    size_t index;

    first_roster(f, account);
    first = head(account);
    push(f, account, "nurse@example.com", "Nurse");
    push(f, account, "romeo@example.net", NULL);
    second = head(account);
    release(f, account);

    account = load(f, "juliet@example.com");
    assert_int_equal(account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(account->roster->n, 1);
    assert_string_equal(account->roster->items[0]->name, "Nurse");
    assert_true(account->ver.known && account->ver.len == 4);
    assert_memory_equal(account->ver.bytes, "v\0er", 4);
    assert_true(rg_account_since(account, &second, &index));
    assert_int_equal(index, account->journal_n);
    assert_true(rg_account_since(account, &first, &index));
    assert_int_equal(account->journal_n - index, 2);
    assert_string_equal(rg_account_change(account, index)->jid, "nurse@example.com");
    assert_null(rg_account_change(account, index + 1)->item);
    push(f, account, "x@example.com", "X"); /* and it goes on from there */
    assert_true(rg_account_since(account, &first, &index));
    assert_int_equal(account->journal_n - index, 3);
    release(f, account);
}

static void store__users__do_not_mix(struct fixture *f)
{
    enum { N = 200 };
    struct rg_account *accounts[N];
    char user[32], name[32];

    for (int i = 0; i < N; i++) {
        (void)snprintf(user, sizeof(user), "u%d@example.com", i);
        (void)snprintf(name, sizeof(name), "n%d", i);
        accounts[i] = load(f, user);
        first_roster(f, accounts[i]);
        push(f, accounts[i], "x@example.com", name);
    }
    for (int i = 0; i < N; i++)
        release(f, accounts[i]);
    for (int i = N - 1; i >= 0; i--) {
        (void)snprintf(user, sizeof(user), "u%d@example.com", i);
        (void)snprintf(name, sizeof(name), "n%d", i);
        accounts[i] = load(f, user);
        assert_string_equal(rg_roster_find(accounts[i]->roster, "x@example.com")->name, name);
        release(f, accounts[i]);
    }
}

static void store__end__is_found_by_the_next_load(struct fixture *f)
{
    struct rg_account *account = load(f, "juliet@example.com");

    end(f, account, RG_END_SIGN_IN, 1);
    end(f, account, RG_END_ALL, 0);
    release(f, account);
    account = load(f, "juliet@example.com");
    assert_true(has_end(account, RG_END_SIGN_IN, 1));
    assert_true(has_end(account, RG_END_ALL, 0));
    assert_int_equal(account->n_ends, 2);
    release(f, account);
    account = load(f, "romeo@example.com");
    assert_int_equal(account->n_ends, 0);
    release(f, account);
}

static void store__revive__is_found_by_the_next_load(struct fixture *f)
{
    struct rg_account *account = load(f, "juliet@example.com");
    uint8_t tag[16] = {5};

    end(f, account, RG_END_PASSWORD, 5);
    end(f, account, RG_END_PASSWORD, 6);
    assert_true(rg_account_revive_password(account, tag));
    f->store->ops->revive(f->store, account, tag);
    release(f, account);
    account = load(f, "juliet@example.com");
    assert_false(has_end(account, RG_END_PASSWORD, 5));
    assert_true(has_end(account, RG_END_PASSWORD, 6));
    release(f, account);
}

static void store__erase__forgets_all_but_ends(struct fixture *f)
{
    struct rg_account *account = load(f, "juliet@example.com");
    struct rg_version before;
    size_t index;

    first_roster(f, account);
    push(f, account, "nurse@example.com", "Nurse");
    before = head(account);
    end(f, account, RG_END_SIGN_IN, 1);
    release(f, account);
    f->store->ops->erase(f->store, "juliet@example.com");
    f->store->ops->erase(f->store, "nobody@example.com");
    account = load(f, "juliet@example.com");
    assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
    assert_false(account->ver.known);
    assert_true(has_end(account, RG_END_SIGN_IN, 1));
    first_roster(f, account);
    assert_false(rg_account_since(account, &before, &index));
    release(f, account);
}

static void store__health__is_an_object(struct fixture *f)
{
    struct rg_buf buf = RG_BUF_INIT;

    f->store->ops->health(f->store, &buf);
    assert_int_equal(buf.data[0], '{');
    assert_int_equal(buf.data[buf.len - 1], '}');
    assert_non_null(strstr(buf.data, "\"store\":\""));
    assert_non_null(strstr(buf.data, "\"degraded\":false"));
    rg_buf_fini(&buf);
}

/* Every callback comes once, also those asked for just before and after the stop. */
static void store__stop__answers_everything(struct fixture *f)
{
    struct rg_account *account = load(f, "juliet@example.com");
    struct rg_end made = {.kind = RG_END_SIGN_IN, .id = {9}, .until_s = INT64_MAX / 2};
    struct loaded before, after;
    struct ended ended = {.f = f};

    ask(f, "romeo@example.com", &before);
    assert_int_equal(rg_account_end(account, &made, 0), RG_OK);
    f->waiting += 2;
    f->store->ops->end(f->store, account, &made, on_ended, &ended);
    f->store->ops->stop(f->store, on_stopped, f);
    ask(f, "nurse@example.com", &after);
    settle(f);
    assert_int_equal(before.calls, 1);
    assert_int_equal(after.calls, 1);
    assert_null(after.account);
    assert_int_equal(ended.calls, 1);
    if (before.account != NULL)
        release(f, before.account);
    release(f, account);
    f->store->ops->destroy(f->store);
    f->store = NULL;
}

/* With a state file or Redis, sign-outs outlive the process. */
static void store__end__outlives_the_process(struct fixture *f)
{
    struct rg_account *account;
    uint8_t tag[16] = {5};

    if (!f->factory->persistent)
        return;
    account = load(f, "juliet@example.com");
    end(f, account, RG_END_SIGN_IN, 1);
    end(f, account, RG_END_PASSWORD, 5);
    end(f, account, RG_END_PASSWORD, 6);
    assert_true(rg_account_revive_password(account, tag));
    f->store->ops->revive(f->store, account, tag);
    release(f, account);
    for (int round = 0; round < 2; round++) {
        close_store(f);
        open_store(f);
        account = load(f, "juliet@example.com");
        assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
        assert_true(has_end(account, RG_END_SIGN_IN, 1));
        assert_true(has_end(account, RG_END_PASSWORD, 6));
        assert_false(has_end(account, RG_END_PASSWORD, 5));
        assert_int_equal(account->n_ends, 2);
        release(f, account);
    }
}

static void (*const suite[])(struct fixture *f) = {
    store__load__gives_a_fresh_account,      store__load__same_object_while_held,
    store__load__two_at_once_are_one_object, store__load__not_kept_is_no_leak,
    store__commit__outlives_the_release,     store__users__do_not_mix,
    store__end__is_found_by_the_next_load,   store__revive__is_found_by_the_next_load,
    store__erase__forgets_all_but_ends,      store__health__is_an_object,
    store__stop__answers_everything,         store__end__outlives_the_process,
};
static const char *const suite_names[] = {
    "store__load__gives_a_fresh_account",      "store__load__same_object_while_held",
    "store__load__two_at_once_are_one_object", "store__load__not_kept_is_no_leak",
    "store__commit__outlives_the_release",     "store__users__do_not_mix",
    "store__end__is_found_by_the_next_load",   "store__revive__is_found_by_the_next_load",
    "store__erase__forgets_all_but_ends",      "store__health__is_an_object",
    "store__stop__answers_everything",         "store__end__outlives_the_process",
};

struct run {
    const struct factory *factory;
    void (*test)(struct fixture *f);
    char name[96];
};

static void run_one(void **state)
{
    const struct run *run = *state;
    struct fixture f;

    start(&f, run->factory);
    run->test(&f);
    finish(&f);
}

int main(void)
{
    enum { TESTS = RG_ARRAY_LEN(suite), ALL = TESTS * RG_ARRAY_LEN(factories) };
    static struct run runs[ALL];
    struct CMUnitTest tests[ALL];
    int failed;

    for (size_t i = 0; i < ALL; i++) {
        runs[i].factory = &factories[i / TESTS];
        runs[i].test = suite[i % TESTS];
        (void)snprintf(runs[i].name, sizeof(runs[i].name), "%s [%s]", suite_names[i % TESTS],
                       runs[i].factory->name);
        tests[i] = (struct CMUnitTest){
            .name = runs[i].name, .test_func = run_one, .initial_state = &runs[i]};
    }
    redis_start(&redis);
    failed = cmocka_run_group_tests_name("store", tests, NULL, NULL);
    redis_remove(&redis);
    return failed;
}

/* A store over the test's own Redis, an account in it, and a loop that runs until something is
 * so. A store here is a process: two stores with the same keys are two instances. */
#ifndef TESTS_CONTRACT_HELPER_REDIS_STORE_H
#define TESTS_CONTRACT_HELPER_REDIS_STORE_H

#include "cache/redis.h"
#include "gateway/base/loop.h"
#include "tests/contract/helper_redis.h"

#define USER "juliet@example.com"
#define KEY "rg:{juliet@example.com}:"

extern struct redis redis; /* started by main */

struct fixture {
    struct rg_config *config;
    struct rg_loop *loop;
    struct rg_store *store;     /* this instance */
    struct rg_store *other;     /* another one; NULL: none */
    struct rg_account *account; /* own: the last one loaded */
    struct rg_account *told_of; /* by `other`, about ends */
    int waiting;
    bool everywhere;
    int moved, asked;
    int64_t lease_ms;
    struct rg_timer poll;
    bool (*until)(struct fixture *f);
};

/* A main: the tests over a Redis of their own. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
struct CMUnitTest;
int run_suite(const char *name, const struct CMUnitTest *tests, size_t n);

/* Runs the loop until the condition holds. */
void run_until(struct fixture *f, bool (*until)(struct fixture *f));
bool nothing_waits(struct fixture *f);
bool degraded(struct rg_store *store);
bool fine(struct fixture *f);
bool ailing(struct fixture *f);
/* Redis holds the version that the account has. */
bool written(struct fixture *f);
/* Keys that are all this byte, and named by it. */
struct rg_mac *two_keys(uint8_t first, uint8_t second);
/* A store with one such key. */
struct rg_store *open_store_with(struct fixture *f, uint8_t key);
void close_store(struct fixture *f, struct rg_store *store);
void kill_store(struct rg_store *store);
int set_up(void **state);
void let_go(struct fixture *f, struct rg_store *store);
int tear_down(void **state);
void load_as(struct fixture *f, struct rg_store *store, const char *user);
void load_from(struct fixture *f, struct rg_store *store);
/* Changes as the core makes them: confirmed by the server. */
void first_roster(struct fixture *f, struct rg_store *store, size_t n);
void push(struct fixture *f, struct rg_store *store, const char *jid, const char *name);
struct rg_version head(const struct rg_account *account);
/* The store ends as a process does and the next one begins. */
void next_process(struct fixture *f, uint8_t key);
void expect_miss(struct fixture *f);
/* A written roster of four items. */
void prepare(struct fixture *f);

#endif

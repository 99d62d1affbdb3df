#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/budget.h"
#include "gateway/base/random.h"

enum { NOW = 1700000000 };

static void push(struct rg_account *account, const char *name, int64_t now_s)
{
    struct rg_item_spec spec = {.jid = "x@y", .name = name};
    bool changed;

    assert_int_equal(
        rg_account_push_take(account, rg_item_create(&spec), "x@y", now_s, &changed), RG_OK);
    assert_true(changed);
}

static size_t one_change(void)
{
    struct rg_account *account = rg_account_create("a@b");
    size_t bytes;

    push(account, "1", NOW);
    bytes = account->journal_bytes;
    rg_account_unref(account);
    return bytes;
}

static void budget__count__drops_the_oldest_of_all(void **state)
{
    struct rg_account *accounts[3];
    struct rg_share shares[3] = {{0}};
    struct rg_budget budget;

    (void)state;
    rg_budget_init(&budget, 6 * one_change());
    for (int i = 0; i < 3; i++) {
        accounts[i] = rg_account_create("a@b");
        assert_true(rg_budget_join(&budget, &shares[i], accounts[i]));
    }
    /* Account 0 writes first, then 1; 2 makes the budget overflow. */
    for (int n = 0; n < 9; n++) {
        char name[2] = {(char)('0' + n), 0};

        push(accounts[n / 3], name, NOW + n);
        rg_budget_count(&budget, &shares[n / 3], NOW + n);
        assert_true(budget.bytes <= budget.max_bytes);
    }
    assert_int_equal(accounts[0]->journal_n, 0);
    assert_int_equal(accounts[1]->journal_n, 3);
    assert_int_equal(accounts[2]->journal_n, 3);
    assert_int_equal(budget.dropped, 3);
    push(accounts[0], "z", NOW + 20); /* now account 1 has the oldest */
    rg_budget_count(&budget, &shares[0], NOW + 20);
    assert_int_equal(accounts[0]->journal_n, 1);
    assert_int_equal(accounts[1]->journal_n, 2);
    for (int i = 0; i < 3; i++) {
        rg_budget_leave(&budget, &shares[i]);
        rg_account_unref(accounts[i]);
    }
    assert_int_equal(budget.bytes, 0);
    assert_int_equal(budget.n, 0);
    rg_budget_fini(&budget);
}

static void budget__count__drops_what_is_a_week_old(void **state)
{
    struct rg_account *old = rg_account_create("a@b"), *busy = rg_account_create("c@d");
    struct rg_share old_share = {0}, busy_share = {0};
    struct rg_budget budget;

    (void)state;
    rg_budget_init(&budget, SIZE_MAX);
    assert_true(rg_budget_join(&budget, &old_share, old));
    assert_true(rg_budget_join(&budget, &busy_share, busy));
    push(old, "1", NOW);
    rg_budget_count(&budget, &old_share, NOW);
    push(busy, "1", NOW + RG_JOURNAL_AGE_S + 1);
    rg_budget_count(&budget, &busy_share, NOW + RG_JOURNAL_AGE_S + 1);
    assert_int_equal(old->journal_n, 0); /* though nobody touched it */
    assert_int_equal(busy->journal_n, 1);
    assert_int_equal(budget.dropped, 0);
    rg_budget_leave(&budget, &old_share);
    rg_budget_leave(&budget, &busy_share);
    rg_account_unref(old);
    rg_account_unref(busy);
    rg_budget_fini(&budget);
}

/* At random: the sum is right and the heap's top is the oldest, at every step. */
static void budget__heap__holds_at_random(void **state)
{
    enum { N = 50 };
    struct rg_account *accounts[N];
    struct rg_share shares[N];
    struct rg_budget budget;
    bool in[N] = {false};

    (void)state;
    memset(shares, 0, sizeof(shares));
    rg_budget_init(&budget, 60 * one_change());
    for (int i = 0; i < N; i++)
        accounts[i] = rg_account_create("a@b");
    for (int step = 0; step < 5000; step++) {
        size_t i = rg_random_below(N), sum = 0;
        int64_t oldest = INT64_MAX;
        char name[16];

        if (!in[i]) {
            assert_true(rg_budget_join(&budget, &shares[i], accounts[i]));
            in[i] = true;
        } else if (rg_random_below(20) == 0) {
            rg_account_trim(accounts[i], NOW + step, 0);
            rg_budget_leave(&budget, &shares[i]);
            in[i] = false;
        }
        if (in[i]) {
            (void)snprintf(name, sizeof(name), "%d", step);
            push(accounts[i], name, NOW + step);
            rg_budget_count(&budget, &shares[i], NOW + step);
        }
        for (size_t k = 0; k < N; k++) {
            const struct rg_account *account = accounts[k];

            sum += in[k] ? account->journal_bytes : 0;
            if (in[k] && account->journal_n > 0 &&
                rg_account_change(account, 0)->made_s < oldest)
                oldest = rg_account_change(account, 0)->made_s;
        }
        assert_int_equal(budget.bytes, sum);
        assert_true(sum <= budget.max_bytes);
        if (budget.n > 0)
            assert_true(budget.heap[1]->oldest_s == oldest);
    }
    for (int i = 0; i < N; i++) {
        if (in[i])
            rg_budget_leave(&budget, &shares[i]);
        rg_account_unref(accounts[i]);
    }
    assert_int_equal(budget.bytes, 0);
    rg_budget_fini(&budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget__count__drops_the_oldest_of_all),
        cmocka_unit_test(budget__count__drops_what_is_a_week_old),
        cmocka_unit_test(budget__heap__holds_at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

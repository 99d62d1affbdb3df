/* Sign-outs of an account. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/account.h"

enum { NOW = 1700000000 };

static struct rg_end end_of(enum rg_end_kind kind, uint8_t id, int64_t at_s)
{
    struct rg_end end = {.kind = kind, .at_s = at_s, .until_s = at_s + 1000};

    end.id[0] = id;
    return end;
}

static void account__end__adds_widens_and_expires(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_end end = end_of(RG_END_SIGN_IN, 1, NOW);

    (void)state;
    assert_int_equal(rg_account_end(account, &end, NOW), RG_OK);
    end.at_s += 5;
    end.until_s += 5;
    assert_int_equal(rg_account_end(account, &end, NOW), RG_OK);
    assert_int_equal(account->n_ends, 1);
    assert_int_equal(account->ends[0].until_s, NOW + 1005);
    end = end_of(RG_END_PASSWORD, 1, NOW); /* same id, another kind */
    assert_int_equal(rg_account_end(account, &end, NOW), RG_OK);
    end = end_of(RG_END_ALL, 0, NOW);
    assert_int_equal(rg_account_end(account, &end, NOW), RG_OK);
    assert_int_equal(account->n_ends, 3);
    end = end_of(RG_END_SIGN_IN, 2, NOW + 1006); /* all others are over by then */
    assert_int_equal(rg_account_end(account, &end, NOW + 1006), RG_OK);
    assert_int_equal(account->n_ends, 1);
    assert_int_equal(account->ends[0].id[0], 2);
    rg_account_unref(account);
}

static void account__revive__removes_the_tag(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    uint8_t tag[16] = {7};

    (void)state;
    for (uint8_t id = 6; id < 9; id++) {
        struct rg_end end = end_of(RG_END_PASSWORD, id, NOW);

        assert_int_equal(rg_account_end(account, &end, NOW), RG_OK);
    }
    struct rg_end sign_in = end_of(RG_END_SIGN_IN, 7, NOW);
    assert_int_equal(rg_account_end(account, &sign_in, NOW), RG_OK);
    assert_true(rg_account_revive_password(account, tag));
    assert_false(rg_account_revive_password(account, tag));
    assert_int_equal(account->n_ends, 3);
    assert_int_equal(account->ends[1].id[0], 8);
    assert_int_equal(account->ends[2].kind, RG_END_SIGN_IN);
    rg_account_unref(account);
}

/* A bound that nobody can grow past, and nothing that was ended comes back to life. */
static void account__end__folds_the_older_ones(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    const struct rg_end *all = NULL;

    (void)state;
    for (int i = 0; i < 5000; i++) {
        struct rg_end end = {
            .kind = RG_END_SIGN_IN, .at_s = NOW + i, .until_s = NOW + 100000 + i};

        memcpy(end.id, &i, sizeof(i));
        assert_int_equal(rg_account_end(account, &end, NOW), RG_OK);
        assert_true(account->n_ends <= 1024);
    }
    for (size_t i = 0; i < account->n_ends; i++) {
        if (account->ends[i].kind == RG_END_ALL)
            all = &account->ends[i];
    }
    assert_non_null(all);
    for (int i = 0; i < 5000; i++) {
        bool dead = NOW + i <= all->at_s && all->until_s >= NOW + 100000 + i;

        for (size_t e = 0; !dead && e < account->n_ends; e++)
            dead = memcmp(account->ends[e].id, &i, sizeof(i)) == 0;
        assert_true(dead);
    }
    rg_account_unref(account);
}

/* Read out of Redis they come in any order: the newest fold last. */
static void account__end__folds_by_time(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    const struct rg_end *all = NULL;

    (void)state;
    for (int i = 0; i <= 1024; i++) {
        struct rg_end end = {
            .kind = RG_END_SIGN_IN, .at_s = NOW + 5000 - i, .until_s = NOW + 100000};

        memcpy(end.id, &i, sizeof(i));
        assert_int_equal(rg_account_end(account, &end, NOW), RG_OK);
    }
    for (size_t i = 0; i < account->n_ends; i++) {
        if (account->ends[i].kind == RG_END_ALL)
            all = &account->ends[i];
    }
    assert_non_null(all);
    assert_true(all->at_s < NOW + 5000 - 500);
    rg_account_unref(account);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(account__end__adds_widens_and_expires),
        cmocka_unit_test(account__revive__removes_the_tag),
        cmocka_unit_test(account__end__folds_the_older_ones),
        cmocka_unit_test(account__end__folds_by_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

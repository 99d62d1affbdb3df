/* Erasing what is kept of an account: everything goes but the fact that its sign-ins ended. */
#include "tests/unit/core/helper_core.h"

#define ROSTER "romeo@example.net|Romeo|both|Friends"

static struct call *c_erase(struct world *w)
{
    struct call *call = c_new(w, RG_OP_ERASE, NULL);
    memcpy(call->op->claims.user, JULIET, sizeof(JULIET));
    return c_send(call);
}

static void expect_empty(struct world *w)
{
    const struct rg_account *account = w_account(w, JULIET);
    assert_true(account == NULL || account->presence == RG_ROSTER_UNKNOWN);
    assert_true(account == NULL || account->roster == NULL);
}

static void erase__live_account__ends_closes_forgets(void **state)
{
    struct world *w = *state;
    struct call *first = c_live(w, ROSTER, "v1"), *opened;
    struct reader *reader = r_open(w, first, NULL, 0, &opened);
    struct call *erased = c_erase(w);
    w_run(w, 10);
    c_expect(erased, RG_OK);
    assert_true(fake_last(w->up)->ended);
    expect_empty(w);
    r_expect(reader, "roster", "romeo");
    r_expect(reader, "subscriptions", "[]");
    r_expect(reader, "sync", "live");
    r_expect(reader, "bye", "signed-out");
    assert_true(c_token_dead(w, first, RG_E_UNAUTHORIZED));
}

static void erase__afterwards__a_sign_in_reads_all_anew(void **state)
{
    struct world *w = *state;
    c_live(w, ROSTER, "v1");
    c_expect(c_erase(w), RG_OK);
    w_run(w, 10);
    struct call *again = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    assert_int_equal(fake_get(fake_last(w->up))->ver_len, 0); /* not the version of before */
    fake_answer(fake_get(fake_last(w->up)), ROSTER, "v1");
    c_expect(again, RG_OK);
    c_expect(c_do(w, RG_OP_ROSTER, again), RG_OK);
}

static void erase__unknown_account__is_fine(void **state)
{
    struct world *w = *state;
    c_expect(c_erase(w), RG_OK);
    c_expect(c_erase(w), RG_OK);
    expect_empty(w);
    w_run(w, 10);
    assert_null(w_user(w, JULIET));
}

static void erase__while_opening__waits_for_its_end(void **state)
{
    struct world *w = *state;
    struct call *sign_in = c_send(c_sign_in(w, JULIET, "secret"));
    struct call *erased = c_erase(w);
    c_pending(erased);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    c_expect(sign_in, RG_E_UNREACHABLE);
    w_run(w, 10);
    c_expect(erased, RG_OK);
}

static void erase__sign_in_that_does_not_end__says_so(void **state)
{
    struct world *w = *state;
    c_send(c_sign_in(w, JULIET, "secret"));
    struct call *erased = c_erase(w);
    w_run(w, 6000);
    c_expect(erased, RG_E_RATE);
    assert_int_equal(erased->op->err.retry_after_s, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(erase__live_account__ends_closes_forgets),
        TEST(erase__afterwards__a_sign_in_reads_all_anew),
        TEST(erase__unknown_account__is_fine),
        TEST(erase__while_opening__waits_for_its_end),
        TEST(erase__sign_in_that_does_not_end__says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Signing out (API section 2). */
#include "tests/unit/core/helper_core.h"

static void signout__of_one__leaves_the_others(void **state)
{
    struct world *w = *state;
    struct call *stream_call;
    struct call *first = c_live(w, "", NULL);
    struct fake_session *session = fake_last(w->up);
    struct call *second = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    struct call *renewed = c_do(w, RG_OP_RENEW, first);
    struct reader *mine = r_open(w, first, "now", 0, &stream_call);
    struct reader *other = r_open(w, second, "now", 0, &stream_call);
    struct call *poll = c_changes(w, first, first->op->version, 10, 60000);
    r_expect(mine, "subscriptions", "");
    r_expect(mine, "sync", "");
    r_expect(other, "subscriptions", "");
    r_expect(other, "sync", "");
    struct call *out = c_do(w, RG_OP_SIGN_OUT, renewed);
    c_expect(out, RG_OK);
    assert_true(out->op->out.everywhere);
    r_expect(mine, "bye", "\"signed-out\",\"reconnect\":false");
    r_nothing(other);
    c_expect(poll, RG_E_UNAUTHORIZED);
    assert_true(c_token_dead(w, first, RG_E_UNAUTHORIZED));
    assert_true(c_token_dead(w, renewed, RG_E_UNAUTHORIZED));
    c_expect(c_do(w, RG_OP_SESSION, second), RG_OK);
    assert_false(session->close_asked);
    c_expect(c_do(w, RG_OP_SIGN_OUT, second), RG_OK);
    assert_true(session->close_asked);
    r_expect(other, "bye", "signed-out");
}

/* A script that signs in and out for a day must not end the browser's sign-in. */
static void signout__every_minute_for_a_day__leaves_the_others(void **state)
{
    struct world *w = *state;
    w->config.xmpp.idle_timeout_ms = 48 * 3600 * 1000LL;
    struct call *stays = c_live(w, "", NULL);
    for (int i = 0; i < 24 * 60; i++) {
        if (i % 360 == 359)
            stays = c_do(w, RG_OP_RENEW, stays);
        struct call *script = c_send(c_sign_in(w, JULIET, "secret"));
        fake_bind(fake_last(w->up));
        c_expect(c_do(w, RG_OP_SIGN_OUT, script), RG_OK);
        w_run(w, 60 * 1000);
    }
    c_expect(c_do(w, RG_OP_SESSION, stays), RG_OK);
}

static void signout__of_the_last__lets_go_of_the_user(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    c_expect(c_do(w, RG_OP_SIGN_OUT, by), RG_OK);
    w_run(w, 1);
    assert_true(fake_last(w->up)->ended);
    assert_null(w_user(w, JULIET));
    /* The sign-out is remembered by the account. */
    c_expect(c_do(w, RG_OP_SESSION, by), RG_E_UNAUTHORIZED);
}

static void signout__of_all__allows_a_new_sign_in_within_the_second(void **state)
{
    struct world *w = *state;
    struct call *by[4];
    by[0] = c_live(w, "", NULL);
    for (int i = 0; i < 3; i++) {
        struct call *out = c_new(w, RG_OP_SIGN_OUT, by[i]);
        out->op->in.all = true;
        c_expect(c_send(out), RG_OK);
        w_run(w, 1);
        by[i + 1] = c_live(w, "", NULL);
        for (int j = 0; j <= i; j++)
            assert_true(c_token_dead(w, by[j], RG_E_UNAUTHORIZED));
        c_expect(c_do(w, RG_OP_SESSION, by[i + 1]), RG_OK);
    }
    assert_in_range(w_now(w), 1700000000, 1700000000 + 999);
}

static void signout__while_opening__closes_once_it_is_live(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    w_run(w, 1000);
    struct fake_session *session = fake_last(w->up);
    assert_false(session->bound);
    c_expect(c_do(w, RG_OP_SIGN_OUT, by), RG_OK);
    fake_bind(session);
    fake_answer(fake_get(session), "", NULL);
    w_run(w, 1);
    assert_true(session->ended);
    assert_null(w_user(w, JULIET));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(signout__of_one__leaves_the_others),
        TEST(signout__every_minute_for_a_day__leaves_the_others),
        TEST(signout__of_the_last__lets_go_of_the_user),
        TEST(signout__of_all__allows_a_new_sign_in_within_the_second),
        TEST(signout__while_opening__closes_once_it_is_live),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

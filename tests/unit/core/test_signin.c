#include "tests/unit/core/helper_core.h"

static void signin__opens__answers_when_the_roster_is_there(void **state)
{
    struct world *w = *state;
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    assert_string_equal(session->user, JULIET);
    assert_string_equal(session->password, "secret");
    assert_int_equal(session->mode, RG_UPSTREAM_SESSION);
    c_pending(call);
    fake_bind(session);
    c_pending(call);
    assert_true(fake_get(session)->has_ver);
    assert_int_equal(fake_get(session)->ver_len, 0);
    fake_answer(fake_get(session), "romeo@example.net|Romeo|both|Friends", "v1");
    c_expect(call, RG_OK);
    assert_int_equal(call->op->out.state, RG_STATE_LIVE);
    assert_true(call->op->version[0] != '\0');
    const struct rg_claims *claims = &call->op->out.claims;
    assert_int_equal(claims->expires_s - claims->given_s, 12 * 3600);
    struct rg_claims opened;
    struct rg_err err;
    assert_int_equal(rg_token_open(w->keys, call->op->out.token.data, call->op->out.token.len,
                                   claims->given_s, &opened, &err),
                     RG_OK);
    assert_string_equal(opened.user, JULIET);
}

static void signin__opens__sends_no_ver_without_the_feature(void **state)
{
    struct world *w = *state;
    w->up->features.roster_versioning = false;
    c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    assert_false(fake_get(fake_last(w->up))->has_ver);
}

/* Refusals come at the next full 500 ms after the request, whatever the server's haste. */
static void signin__refused__answers_on_the_half_second(void **state)
{
    static const int64_t took_ms[] = {0, 1, 170, 499, 500, 501, 760, 3210};
    struct world *w = *state;
    w->config.limits.signin_failures = 1000;
    for (size_t i = 0; i < RG_ARRAY_LEN(took_ms); i++) {
        struct call *call = c_send(c_sign_in(w, JULIET, "wrong"));
        int64_t sent_ms = w_now(w);
        w_run(w, took_ms[i]);
        fake_end(fake_last(w->up), RG_E_UNAUTHORIZED);
        c_pending(call);
        w_run(w, 500);
        c_expect(call, RG_E_UNAUTHORIZED);
        assert_int_equal(call->done_ms - sent_ms, (took_ms[i] / 500 + 1) * 500);
    }
    w_run(w, 1000);
    assert_null(w_user(w, JULIET));
    /* A guess leaves nothing behind, or many would fold into a sign-out of all. */
    assert_int_equal(w_account(w, JULIET)->n_ends, 0);
}

static void signin__starts__refuses_a_domain_not_served(void **state)
{
    struct world *w = *state;
    c_expect(c_send(c_sign_in(w, "juliet@example.org", "secret")), RG_E_DOMAIN);
    c_expect(c_send(c_sign_in(w, "juliet", "secret")), RG_E_DOMAIN);
    assert_int_equal(w->up->n_sessions, 0);
    assert_null(w->core->users);
}

static void guess(struct world *w, const char *jid, const char *address)
{
    size_t before = w->up->n_sessions;
    struct call *call = c_sign_in(w, jid, "wrong");
    (void)snprintf(call->op->in.address, sizeof(call->op->in.address), "%s", address);
    c_send(call);
    if (w->up->n_sessions != before)
        fake_end(fake_last(w->up), RG_E_UNAUTHORIZED);
    else
        assert_in_range(call->op->err.retry_after_s, 1, 300);
}

static void signin__guessed__reaches_the_server_seldom(void **state)
{
    struct world *w = *state;
    char address[32];
    for (int i = 0; i < 10000; i++) {
        (void)snprintf(address, sizeof(address), "192.0.%d.0", i % 256);
        guess(w, JULIET, address);
        w_run(w, 60); /* ten minutes in all */
    }
    assert_in_range(w->up->n_sessions, 20, 30);
}

static void signin__guessed__is_counted_per_address(void **state)
{
    struct world *w = *state;
    char jid[64];
    for (int i = 0; i < 400; i++) {
        (void)snprintf(jid, sizeof(jid), "user%d@example.com", i);
        guess(w, jid, "192.0.2.0");
        w_run(w, 10);
    }
    assert_int_equal(w->up->n_sessions, 100);
    /* Another address, and one that is not known, are not concerned. */
    guess(w, "a@example.com", "198.51.100.0");
    guess(w, "b@example.com", "");
    assert_int_equal(w->up->n_sessions, 102);
}

static void signin__succeeds__clears_the_count(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 9; i++)
        guess(w, JULIET, "192.0.2.0");
    c_live(w, "", NULL);
    size_t before = w->up->n_sessions;
    for (int i = 0; i < 10; i++)
        guess(w, JULIET, "192.0.2.0");
    assert_int_equal(w->up->n_sessions, before + 10);
    c_expect(c_send(c_sign_in(w, JULIET, "secret")), RG_E_RATE);
}

static void signin__fails__counts_no_failure_of_the_server(void **state)
{
    static const enum rg_code codes[] = {RG_E_UNREACHABLE, RG_E_TIMEOUT, RG_E_RATE};
    struct world *w = *state;
    for (int i = 0; i < 30; i++) {
        enum rg_code code = codes[i % RG_ARRAY_LEN(codes)];
        struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
        fake_end(fake_last(w->up), code);
        c_expect(call, code);
    }
    w_run(w, 10);
    assert_null(w_user(w, JULIET));
}

static void signin__fails__at_once(void **state)
{
    static const enum rg_code codes[] = {RG_E_POOL_FULL, RG_E_UNREACHABLE, RG_E_RATE};
    struct world *w = *state;
    for (size_t i = 0; i < RG_ARRAY_LEN(codes); i++) {
        w->up->refuse_open = codes[i];
        c_expect(c_send(c_sign_in(w, JULIET, "secret")), codes[i]);
    }
    w_run(w, 10);
    assert_null(w_user(w, JULIET));
}

static void signin__fails__when_the_first_get_does(void **state)
{
    static const struct {
        enum rg_code said, told;
    } rows[] = {
        {RG_E_UNCERTAIN, RG_E_TIMEOUT},
        {RG_E_UNREACHABLE, RG_E_UNREACHABLE},
        {RG_E_XMPP, RG_E_XMPP},
    };
    struct world *w = *state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
        struct fake_session *session = fake_last(w->up);
        fake_bind(session);
        fake_answer_error(fake_get(session), rows[i].said, RG_XMPP_SERVICE_UNAVAILABLE);
        w_run(w, 0);
        assert_true(session->ended);
        c_expect(call, rows[i].told);
    }
}

static void signin__fails__when_the_get_cannot_be_sent(void **state)
{
    struct world *w = *state;
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    w->up->refuse_calls = RG_E_UNREACHABLE;
    fake_bind(fake_last(w->up));
    w_run(w, 0);
    c_expect(call, RG_E_UNREACHABLE);
}

static void signin__fails__when_unchanged_was_never_asked(void **state)
{
    struct world *w = *state;
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    fake_unchanged(fake_get(fake_last(w->up)));
    w_run(w, 0);
    c_expect(call, RG_E_UNREACHABLE);
    assert_int_equal(w_account(w, JULIET)->presence, RG_ROSTER_UNKNOWN);
}

static void signin__again__is_verified_on_its_own_connection(void **state)
{
    struct world *w = *state;
    struct call *first = c_live(w, "", NULL);
    struct fake_session *session = fake_last(w->up);
    struct call *second = c_send(c_sign_in(w, JULIET, "secret"));
    assert_int_equal(fake_last(w->up)->mode, RG_UPSTREAM_VERIFY);
    c_pending(second);
    fake_bind(fake_last(w->up));
    c_expect(second, RG_OK);
    assert_false(session->ended);
    assert_memory_not_equal(first->op->out.claims.sign_in, second->op->out.claims.sign_in, 16);
    c_expect(c_do(w, RG_OP_SESSION, first), RG_OK);
    c_expect(c_do(w, RG_OP_SESSION, second), RG_OK);
}

static void signin__again__waits_for_a_session_on_its_way(void **state)
{
    struct world *w = *state;
    struct call *first = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    struct call *second = c_send(c_sign_in(w, JULIET, "secret"));
    assert_int_equal(fake_last(w->up)->mode, RG_UPSTREAM_VERIFY);
    fake_bind(fake_last(w->up));
    c_pending(second);
    fake_bind(session);
    fake_answer(fake_get(session), "", NULL);
    c_expect(first, RG_OK);
    c_expect(second, RG_OK);
}

/* The first one's password is wrong: the second opens the session itself. */
static void signin__again__opens_when_the_first_is_refused(void **state)
{
    struct world *w = *state;
    struct call *first = c_send(c_sign_in(w, JULIET, "wrong"));
    struct fake_session *session = fake_last(w->up);
    struct call *second = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    fake_end(session, RG_E_UNAUTHORIZED);
    assert_string_equal(fake_last(w->up)->password, "secret");
    assert_int_equal(fake_last(w->up)->mode, RG_UPSTREAM_SESSION);
    fake_bind(fake_last(w->up));
    fake_answer(fake_get(fake_last(w->up)), "", NULL);
    c_expect(second, RG_OK);
    w_run(w, 500);
    c_expect(first, RG_E_UNAUTHORIZED);
    c_expect(c_do(w, RG_OP_SESSION, second), RG_OK);
}

static void signin__again__with_a_wrong_password_hurts_nobody(void **state)
{
    struct world *w = *state;
    struct call *stream_call;
    struct call *first = c_live(w, "", NULL);
    struct fake_session *session = fake_last(w->up);
    struct reader *reader = r_open(w, first, "now", 0, &stream_call);
    c_expect(stream_call, RG_OK);
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "sync", "live");
    struct call *second = c_send(c_sign_in(w, JULIET, "wrong"));
    fake_end(fake_last(w->up), RG_E_UNAUTHORIZED);
    w_run(w, 500);
    c_expect(second, RG_E_UNAUTHORIZED);
    assert_false(session->ended);
    c_expect(c_do(w, RG_OP_SESSION, first), RG_OK);
    r_nothing(reader);
}

static void signin__again__with_another_password_ends_the_old_one(void **state)
{
    struct world *w = *state;
    struct call *stream_call;
    struct call *first = c_live(w, "", NULL);
    struct reader *reader = r_open(w, first, "now", 0, &stream_call);
    struct call *poll = c_changes(w, first, first->op->version, 10, 60000);
    c_pending(poll);
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "sync", "live");
    struct call *second = c_send(c_sign_in(w, JULIET, "changed"));
    fake_bind(fake_last(w->up));
    c_expect(second, RG_OK);
    r_expect(reader, "bye", "\"credentials\",\"reconnect\":false");
    r_pump(reader, 4096);
    assert_true(reader->ended);
    assert_true(c_token_dead(w, first, RG_E_CREDENTIALS));
    c_expect(poll, RG_E_CREDENTIALS);
    c_expect(c_do(w, RG_OP_SESSION, second), RG_OK);
    /* Back to the first password: its tag lives again, and so does what carries it. */
    struct call *third = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    c_expect(third, RG_OK);
    c_expect(c_do(w, RG_OP_SESSION, third), RG_OK);
    assert_true(c_token_dead(w, second, RG_E_CREDENTIALS));
}

static void signin__without_roster__has_no_version(void **state)
{
    struct world *w = *state;
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    fake_answer_error(fake_get(fake_last(w->up)), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    c_expect(call, RG_OK);
    assert_string_equal(call->op->version, "");
    assert_int_equal(call->op->out.state, RG_STATE_LIVE);
}

static void signin__after_restart__sends_the_known_ver(void **state)
{
    struct world *w = *state;
    struct call *first = c_live(w, "romeo@example.net|Romeo|both|Friends", "v7");
    w_restart(w);
    struct call *second = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    struct fake_call *get = fake_get(fake_last(w->up));
    assert_int_equal(get->ver_len, 2);
    assert_memory_equal(get->ver, "v7", 2);
    fake_unchanged(get);
    c_expect(second, RG_OK);
    assert_string_equal(second->op->version, first->op->version);
}

/* The `ver` of an empty roster proves nothing (facts, libstrophe 5). */
static void signin__after_restart__sends_no_ver_of_an_empty_roster(void **state)
{
    struct world *w = *state;
    c_live(w, "", "1");
    w_restart(w);
    c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    assert_true(fake_get(fake_last(w->up))->has_ver);
    assert_int_equal(fake_get(fake_last(w->up))->ver_len, 0);
}

static void signin__with_early_pushes__applies_them_after_the_result(void **state)
{
    struct world *w = *state;
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    fake_push(session, "nurse@example.com|Nurse|none|", "v2");
    fake_push_remove(session, "romeo@example.net", "v3");
    c_pending(call);
    assert_int_equal(w_account(w, JULIET)->presence, RG_ROSTER_UNKNOWN);
    fake_answer(fake_get(session), "romeo@example.net|Romeo|both|Friends", "v1");
    c_expect(call, RG_OK);
    struct rg_account *account = w_account(w, JULIET);
    assert_int_equal(account->roster->n, 1);
    assert_string_equal(account->roster->items[0]->jid, "nurse@example.com");
    assert_false(account->ver.known); /* no server version names this mixture */
    char version[RG_VERSION_SIZE];
    rg_account_version(account, version);
    assert_string_equal(call->op->version, version);
}

/* ejabberd pushes to sessions that have not asked yet, and its answer may show what follows. */
static void signin__with_an_early_push_older_than_the_answer__shows_nothing_twice(void **state)
{
    struct world *w = *state;
    c_live(w, "romeo@example.net|First|both|", "v1");
    w_restart(w);
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    size_t before = w_account(w, JULIET)->journal_n;
    fake_push(session, "romeo@example.net|Second|both|", "v2");
    fake_answer(fake_get(session), "romeo@example.net|Third|both|", "v3");
    c_expect(call, RG_OK);
    struct rg_account *account = w_account(w, JULIET);
    assert_int_equal(account->journal_n, before + 1);
    assert_string_equal(account->roster->items[0]->name, "Second");
    fake_push(session, "romeo@example.net|Third|both|", "v3");
    assert_int_equal(account->journal_n, before + 2);
    assert_string_equal(account->roster->items[0]->name, "Third");
}

static void signin__with_too_many_early_pushes__fails(void **state)
{
    struct world *w = *state;
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    w->up->hold_ends = true;
    fake_bind(session);
    for (int i = 0; i < RG_EARLY_PUSHES_MAX; i++)
        fake_push(session, "nurse@example.com|Nurse|none|", "v2");
    assert_false(session->abort_asked);
    fake_push(session, "lost@example.com|Lost|none|", "v3");
    assert_true(session->abort_asked);
    /* What still comes from the dying stream counts for nothing: a push was lost. */
    fake_push(session, "late@example.com|Late|none|", "v4");
    fake_answer(fake_get(session), "romeo@example.net|Romeo|both|Friends", "v1");
    c_pending(call);
    fake_end(session, RG_E_CANCELLED);
    c_expect(call, RG_E_UNREACHABLE);
    assert_int_equal(w_account(w, JULIET)->presence, RG_ROSTER_UNKNOWN);
}

static void signin__while_loading__waits_for_the_account(void **state)
{
    struct world *w = *state;
    w_hold_loads(w, true);
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    assert_int_equal(w->up->n_sessions, 0);
    w_hold_loads(w, false);
    w_run(w, 0);
    assert_int_equal(w->up->n_sessions, 1);
    c_pending(call);
}

/* A failed load (out of memory) fails who waited for it, not who comes after. */
static void signin__after_a_failed_load__loads_again(void **state)
{
    struct world *w = *state;
    struct call *second = c_sign_in(w, JULIET, "secret");
    w_hold_loads(w, true);
    w_fail_loads(w, true);
    struct call *first = c_send(c_sign_in(w, JULIET, "secret"));
    c_pending(first);
    w_fail_loads(w, false);
    w_hold_loads(w, false);
    c_send(second); /* finds the user whose load has just failed */
    c_expect(first, RG_E_INTERNAL);
    c_pending(second);
    assert_int_equal(w->up->n_sessions, 1);
}

static void session__asked__tells_state_and_features(void **state)
{
    struct world *w = *state;
    w->up->features.pre_approval = true;
    struct call *by = c_live(w, "", NULL);
    struct call *call = c_do(w, RG_OP_SESSION, by);
    c_expect(call, RG_OK);
    assert_int_equal(call->op->out.state, RG_STATE_LIVE);
    assert_true(call->op->out.roster_versioning && call->op->out.pre_approval);
    assert_string_equal(call->op->version, by->op->version);
}

static void renew__asked__keeps_the_sign_in_and_the_password(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    w_run(w, 3600 * 1000);
    struct call *call = c_new(w, RG_OP_RENEW, by);
    call->op->in.listen_set = call->op->in.listen = true;
    c_send(call);
    c_expect(call, RG_OK);
    const struct rg_claims *old = &by->op->out.claims;
    const struct rg_claims *renewed = &call->op->out.claims;
    assert_memory_equal(old->sign_in, renewed->sign_in, RG_ID_BYTES);
    assert_int_equal(renewed->given_s, old->given_s);
    assert_int_equal(renewed->expires_s - old->expires_s, 3600);
    assert_int_equal(renewed->presence, RG_TOKEN_LISTEN);
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *password =
        rg_token_password(w->keys, call->op->out.token.data, call->op->out.token.len);
    assert_string_equal(rg_secret_data(password), "secret");
    c_expect(c_do(w, RG_OP_SESSION, by), RG_OK); /* the old one stays valid */
}

/* A token may outlive max_age by its lifetime; its renewal may not. */
static void renew__asked__ends_with_max_age(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    int64_t last_s = by->op->out.claims.given_s + 7 * 24 * 3600;
    while (w_now(w) / 1000 + 8 * 3600 < last_s) {
        w_run(w, 8 * 3600 * 1000);
        struct call *call = c_do(w, RG_OP_RENEW, by);
        c_expect(call, RG_OK);
        assert_int_equal(call->op->out.claims.expires_s, w_now(w) / 1000 + 12 * 3600);
        by = call;
    }
    w_run(w, last_s * 1000 - w_now(w) - 1);
    c_expect(c_do(w, RG_OP_RENEW, by), RG_OK);
    w_run(w, 1);
    c_expect(c_do(w, RG_OP_RENEW, by), RG_E_SIGN_IN_AGAIN);
    c_expect(c_do(w, RG_OP_SESSION, by), RG_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(signin__opens__answers_when_the_roster_is_there),
        TEST(signin__opens__sends_no_ver_without_the_feature),
        TEST(signin__refused__answers_on_the_half_second),
        TEST(signin__starts__refuses_a_domain_not_served),
        TEST(signin__guessed__reaches_the_server_seldom),
        TEST(signin__guessed__is_counted_per_address),
        TEST(signin__succeeds__clears_the_count),
        TEST(signin__fails__counts_no_failure_of_the_server),
        TEST(signin__fails__at_once),
        TEST(signin__fails__when_the_first_get_does),
        TEST(signin__fails__when_the_get_cannot_be_sent),
        TEST(signin__fails__when_unchanged_was_never_asked),
        TEST(signin__again__is_verified_on_its_own_connection),
        TEST(signin__again__waits_for_a_session_on_its_way),
        TEST(signin__again__opens_when_the_first_is_refused),
        TEST(signin__again__with_a_wrong_password_hurts_nobody),
        TEST(signin__again__with_another_password_ends_the_old_one),
        TEST(signin__without_roster__has_no_version),
        TEST(signin__after_restart__sends_the_known_ver),
        TEST(signin__after_restart__sends_no_ver_of_an_empty_roster),
        TEST(signin__with_early_pushes__applies_them_after_the_result),
        TEST(signin__with_an_early_push_older_than_the_answer__shows_nothing_twice),
        TEST(signin__with_too_many_early_pushes__fails),
        TEST(signin__while_loading__waits_for_the_account),
        TEST(signin__after_a_failed_load__loads_again),
        TEST(session__asked__tells_state_and_features),
        TEST(renew__asked__keeps_the_sign_in_and_the_password),
        TEST(renew__asked__ends_with_max_age),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

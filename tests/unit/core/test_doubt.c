#include "tests/unit/core/helper_core.h"

/* A push that was refused (R42) leaves doubt: what it said is missing here, and a `ver` that
 * comes later would have the server call a roster unchanged that is not. */

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)
#define ROMEO "romeo@example.net|Romeo|both|"
#define NURSE "nurse@example.com|Nurse|none|"

static size_t gets(struct world *w)
{
    return fake_count(fake_last(w->up), FAKE_GET);
}

static void expect_full_get(struct world *w)
{
    const struct fake_call *get = fake_get(fake_last(w->up));
    assert_true(get->has_ver);
    assert_int_equal(get->ver_len, 0);
}

static void doubt__live__reads_again_in_full_at_once(void **state)
{
    struct world *w = *state;
    c_live(w, ROMEO, "v1");
    fake_doubt(fake_last(w->up));
    assert_int_equal(gets(w), 2);
    expect_full_get(w);
    fake_answer(fake_get(fake_last(w->up)), ROMEO ";" NURSE, "v3");
    assert_int_equal(w_user(w, JULIET)->account->roster->n, 2);
    fake_push(fake_last(w->up), "late@example.com|Late|none|", "v4");
    assert_string_equal(w_user(w, JULIET)->account->ver.bytes, "v4"); /* trusted again */
    w_run(w, 120 * 1000);
    assert_int_equal(gets(w), 2);
}

static void doubt__open__no_ver_is_kept(void **state)
{
    struct world *w = *state;
    c_live(w, ROMEO, "v1");
    struct fake_session *session = fake_last(w->up);
    fake_doubt(session);
    assert_false(w_user(w, JULIET)->account->ver.known);
    fake_push(session, NURSE, "v3");
    assert_false(w_user(w, JULIET)->account->ver.known);
    fake_end(session, RG_E_UNREACHABLE); /* the answer never came */
    while (fake_last(w->up) == session)
        w_run(w, 10);
    fake_bind(fake_last(w->up));
    expect_full_get(w);
}

static void doubt__get_under_way__that_answer_is_too_old(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO, "v1");
    struct fake_session *session = fake_last(w->up);
    struct call *read = c_new(w, RG_OP_ROSTER, by);
    read->op->in.refresh = true;
    c_send(read);
    assert_int_equal(gets(w), 2);
    fake_doubt(session);
    assert_int_equal(gets(w), 2);
    fake_answer(fake_get(session), ROMEO, "v2");
    assert_false(w_user(w, JULIET)->account->ver.known);
    assert_int_equal(gets(w), 3);
    expect_full_get(w);
    fake_answer(fake_get(session), ROMEO ";" NURSE, "v3");
    assert_string_equal(w_user(w, JULIET)->account->ver.bytes, "v3");
}

static void doubt__while_loading__is_settled_once_live(void **state)
{
    struct world *w = *state;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    fake_doubt(session);
    fake_answer(fake_get(session), ROMEO, "v1");
    c_expect(by, RG_OK);
    assert_int_equal(gets(w), 2);
    expect_full_get(w);
}

static void doubt__again_and_again__asks_once_a_minute(void **state)
{
    struct world *w = *state;
    c_live(w, ROMEO, "v1");
    struct fake_session *session = fake_last(w->up);
    size_t answered = 1;
    fake_doubt(session);
    for (int i = 0; i < 30; i++) { /* each answer is followed by another refused push */
        for (; answered < gets(w); answered++)
            fake_answer(fake_get(session), ROMEO, "v1");
        fake_doubt(session);
        w_run(w, 10 * 1000);
    }
    assert_in_range(gets(w), 5, 7);
    assert_false(session->ended);
}

/* ejabberd 23.01 pushes the removal of an item under a full JID and keeps the item. */
static void remove__full_jid_pushed_but_kept__is_not_applied(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO ";full@example.com/home|Full|none|", "v1");
    struct fake_session *session = fake_last(w->up);
    struct call *remove = c_new(w, RG_OP_REMOVE, by);
    c_set_jid(remove, "full@example.com/home");
    c_send(remove);
    fake_push_remove(session, "full@example.com/home", "v1");
    assert_int_equal(gets(w), 2);
    expect_full_get(w);
    fake_result(fake_write(session));
    fake_answer(fake_get(session), ROMEO ";full@example.com/home|Full|none|", "v1");
    c_pending(remove);
    w_run(w, 100);
    fake_unchanged(fake_get(session));
    c_expect(remove, RG_E_NOT_APPLIED);
    assert_int_equal(w_user(w, JULIET)->account->roster->n, 2);
}

static void remove__full_jid_pushed_and_gone__is_gone(void **state)
{
    struct world *w = *state;
    c_live(w, ROMEO ";full@example.com/home|Full|none|", "v1");
    for (int i = 0; i < 2; i++) { /* not once a minute: it is asked at each */
        fake_push_remove(fake_last(w->up), "full@example.com/home", "v2");
        expect_full_get(w);
        fake_answer(fake_get(fake_last(w->up)), ROMEO, "v2");
        assert_int_equal(w_user(w, JULIET)->account->roster->n, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(doubt__live__reads_again_in_full_at_once),
        TEST(doubt__open__no_ver_is_kept),
        TEST(doubt__get_under_way__that_answer_is_too_old),
        TEST(doubt__while_loading__is_settled_once_live),
        TEST(doubt__again_and_again__asks_once_a_minute),
        TEST(remove__full_jid_pushed_but_kept__is_not_applied),
        TEST(remove__full_jid_pushed_and_gone__is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

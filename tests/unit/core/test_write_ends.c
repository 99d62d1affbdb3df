/* Writes whose session, or process, ends. */
#include "tests/unit/core/helper_scene.h"

/* ---- sessions that end */

static void put__no_answer__replaces_the_session(void **state)
{
    struct scene s = s_live(state, "");
    struct call *first = s_put(&s, NURSE, "Nurse", "");
    struct call *same = s_put(&s, NURSE, "Angelica", "");
    s.w->up->hold_ends = true;
    fake_error(fake_write(s.session), RG_E_UNCERTAIN, RG_XMPP_NONE);
    c_expect(first, RG_E_UNCERTAIN);
    assert_true(s.session->abort_asked);
    c_pending(same);
    /* Nothing more goes into the stream that is thought dead. */
    struct call *late = s_put(&s, ROMEO, "Romeo", "");
    assert_int_equal(s_in_flight(s.session), 0);
    assert_int_equal(s.w->up->late, 0);
    fake_end(s.session, RG_E_CANCELLED);
    c_expect(same, RG_E_UNREACHABLE);
    c_expect(late, RG_E_UNREACHABLE);
    assert_true(late->op->err.retry_after_s > 0);
    w_run(s.w, 1000);
    assert_ptr_not_equal(fake_last(s.w->up), s.session);
}

static void put__session_lost_when_sent__is_uncertain(void **state)
{
    struct scene s = s_live(state, "");
    struct call *sent = s_put(&s, NURSE, "Nurse", "");
    struct call *queued = s_put(&s, NURSE, "Angelica", "");
    fake_end(s.session, RG_E_UNREACHABLE);
    c_expect(sent, RG_E_UNCERTAIN);
    c_expect(queued, RG_E_UNREACHABLE);
    assert_int_equal(s.w->up->late, 0);
}

static void put__session_lost_in_grace__is_uncertain(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_result(fake_write(s.session));
    fake_end(s.session, RG_E_UNREACHABLE);
    s.w->up->refuse_open = RG_E_UNREACHABLE;
    w_run(s.w, 100);
    c_expect(call, RG_E_UNCERTAIN);
}

/* The new session is there before the grace is over: its roster settles the matter. */
static void put__session_back_in_grace__is_settled_there(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_result(fake_write(s.session));
    fake_end(s.session, RG_E_UNREACHABLE);
    for (int i = 0; i < 99 && fake_last(s.w->up) == s.session; i++)
        w_run(s.w, 1);
    struct fake_session *again = fake_last(s.w->up);
    if (again == s.session) {
        w_run(s.w, 1); /* the draw of the retry was longer than the grace */
        c_expect(call, RG_E_UNCERTAIN);
        return;
    }
    fake_bind(again);
    fake_answer(fake_get(again), NURSE "|Nurse|none|", "v2");
    w_run(s.w, 100);
    fake_unchanged(fake_get(again));
    s_expect_item(call, NURSE "|Nurse|none|");
}

static void put__session_lost_at_the_barrier__is_uncertain(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_result(fake_write(s.session));
    w_run(s.w, 100);
    c_pending(call);
    fake_end(s.session, RG_E_UNREACHABLE);
    c_expect(call, RG_E_UNCERTAIN);
}

static void put__barrier_refused__is_uncertain(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_result(fake_write(s.session));
    w_run(s.w, 100);
    fake_answer_error(fake_get(s.session), RG_E_XMPP, RG_XMPP_RESOURCE_CONSTRAINT);
    c_expect(call, RG_E_UNCERTAIN);
}

static void put__not_sent__says_so(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_error(fake_write(s.session), RG_E_UNREACHABLE, RG_XMPP_NONE);
    c_expect(call, RG_E_UNREACHABLE);
    assert_true(call->op->err.retry_after_s > 0);
    w_run(s.w, 0);
    s.w->up->refuse_calls = RG_E_RATE;
}

static void put__refused_at_once__says_so(void **state)
{
    struct scene s = s_live(state, "");
    s.w->up->refuse_calls = RG_E_RATE;
    c_expect(s_put(&s, NURSE, "Nurse", ""), RG_E_RATE);
    s.w->up->refuse_calls = RG_E_UNREACHABLE;
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    c_expect(call, RG_E_UNREACHABLE);
    assert_true(call->op->err.retry_after_s > 0);
}

static void put__server_away__is_refused_with_a_time(void **state)
{
    struct scene s = s_live(state, "");
    fake_end(s.session, RG_E_UNREACHABLE);
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    c_expect(call, RG_E_UNREACHABLE);
    assert_true(call->op->err.retry_after_s > 0);
}

static void put__session_opening__waits_for_it(void **state)
{
    struct scene s = s_live(state, "");
    fake_end(s.session, RG_E_UNREACHABLE);
    w_run(s.w, 1000);
    struct fake_session *again = fake_last(s.w->up);
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    c_pending(call);
    fake_bind(again);
    fake_answer(fake_get(again), "", NULL);
    fake_push(again, NURSE "|Nurse|none|", "v2");
    fake_result(fake_write(again));
    s_expect_item(call, NURSE "|Nurse|none|");
}

/* ---- draining */

static void note(void *arg)
{
    ++*(int *)arg;
}

static void drain__writes_in_flight__are_waited_for(void **state)
{
    struct scene s = s_live(state, "");
    int drained = 0;
    struct call *sent = s_put(&s, NURSE, "Nurse", "");
    struct call *queued = s_put(&s, NURSE, "Angelica", "");
    rg_core_drain(s.w->core, note, &drained);
    w_run(s.w, 5000);
    assert_int_equal(drained, 0);
    c_expect(queued, RG_E_CANCELLED);
    c_expect(s_put(&s, ROMEO, "R", ""), RG_E_CANCELLED);
    fake_result(fake_write(s.session));
    w_run(s.w, 0);
    assert_int_equal(drained, 0);
    fake_push(s.session, NURSE "|Nurse|none|", "v2");
    c_expect(sent, RG_OK);
    w_run(s.w, 1);
    assert_int_equal(drained, 1);
    w_run(s.w, 60 * 1000);
    assert_int_equal(drained, 1);
}

static void drain__no_answer__ends_all_the_same(void **state)
{
    struct scene s = s_live(state, "");
    int drained = 0;
    struct call *sent = s_put(&s, NURSE, "Nurse", "");
    rg_core_drain(s.w->core, note, &drained);
    w_run(s.w, 9999);
    assert_int_equal(drained, 0);
    w_run(s.w, 1);
    assert_int_equal(drained, 1);
    c_pending(sent);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(put__no_answer__replaces_the_session),
        TEST(put__session_lost_when_sent__is_uncertain),
        TEST(put__session_lost_in_grace__is_uncertain),
        TEST(put__session_back_in_grace__is_settled_there),
        TEST(put__session_lost_at_the_barrier__is_uncertain),
        TEST(put__barrier_refused__is_uncertain),
        TEST(put__not_sent__says_so),
        TEST(put__refused_at_once__says_so),
        TEST(put__server_away__is_refused_with_a_time),
        TEST(put__session_opening__waits_for_it),
        TEST(drain__writes_in_flight__are_waited_for),
        TEST(drain__no_answer__ends_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

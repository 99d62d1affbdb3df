#include "tests/unit/core/helper_scene.h"

/* ---- result and push */

static void put__result_then_push__answers_with_the_push(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "Servants,Family");
    struct fake_call *set = fake_write(s.session);
    assert_string_equal(set->jid, NURSE);
    assert_string_equal(set->name, "Nurse");
    fake_result(set);
    w_run(s.w, 99);
    c_pending(call);
    fake_push(s.session, NURSE "|Nurse|none|Family,Servants", "v2");
    s_expect_item(call, NURSE "|Nurse|none|Family,Servants");
    assert_true(call->op->out.created);
    /* Read your writes: the door shows it under the version that was answered. */
    struct rg_view view;
    assert_int_equal(
        rg_door_look(rg_core_door(s.w->core), &s.by->op->out.claims, w_now(s.w), &view), RG_OK);
    assert_string_equal(view.snapshot->version, call->op->version);
    rg_view_fini(&view);
    w_run(s.w, 1000);
    assert_int_equal(fake_count(s.session, FAKE_GET), 1); /* no barrier was needed */
}

static void put__push_then_result__answers_at_the_result(void **state)
{
    struct scene s = s_live(state, NURSE "|Old|both|");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_push(s.session, NURSE "|Nurse|both|", "v2");
    c_pending(call);
    fake_result(fake_write(s.session));
    s_expect_item(call, NURSE "|Nurse|both|");
    assert_false(call->op->out.created);
}

static void put__other_pushes__do_not_answer(void **state)
{
    struct scene s = s_live(state, NURSE "|Old|both|");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_push(s.session, ROMEO "|Nurse|none|", "v2");
    fake_push(s.session, NURSE "|Other|both|", "v3");
    fake_push_remove(s.session, ROMEO, "v4");
    fake_result(fake_write(s.session));
    c_pending(call);
    fake_push(s.session, NURSE "|Nurse|both|", "v5");
    s_expect_item(call, NURSE "|Nurse|both|");
}

static void put__no_push__is_answered_by_the_barrier(void **state)
{
    struct scene s = s_live(state, ROMEO "|Romeo|both|Friends");
    struct call *call = s_put(&s, ROMEO, "Romeo", "Friends");
    fake_result(fake_write(s.session));
    w_run(s.w, 99);
    assert_int_equal(fake_count(s.session, FAKE_GET), 1);
    w_run(s.w, 1);
    struct fake_call *get = fake_get(s.session);
    assert_string_equal(get->ver, "v1");
    c_pending(call);
    fake_unchanged(get);
    s_expect_item(call, ROMEO "|Romeo|both|Friends");
    assert_string_equal(call->op->version, s.by->op->version); /* nothing differs */
}

static void put__swallowed__is_not_applied(void **state)
{
    struct scene s = s_live(state, ROMEO "|Romeo|both|Friends");
    struct call *call = s_put(&s, ROMEO, "Montague", "Friends");
    struct call *add = s_put(&s, NURSE, NULL, "");
    fake_result(fake_write(s.session));
    fake_result(fake_write(s.session));
    w_run(s.w, 100);
    fake_unchanged(fake_get(s.session));
    c_expect(call, RG_E_NOT_APPLIED);
    if (add->done == 0)
        fake_unchanged(fake_get(s.session));
    c_expect(add, RG_E_NOT_APPLIED);
}

static void put__swallowed_while_the_contact_approves__is_not_applied(void **state)
{
    struct scene s = s_live(state, ROMEO "|Romeo|none|Friends");
    struct call *call = s_put(&s, ROMEO, "Montague", "Friends");
    fake_push(s.session, ROMEO "|Romeo|to|Friends", "v2");
    fake_result(fake_write(s.session));
    w_run(s.w, 100);
    fake_unchanged(fake_get(s.session));
    c_expect(call, RG_E_NOT_APPLIED);
}

static void put__rewritten__answers_what_the_server_stored(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "  Nurse  ", "");
    fake_push(s.session, NURSE "|Nurse|none|Default", "v2");
    fake_result(fake_write(s.session));
    c_pending(call);
    w_run(s.w, 100);
    fake_unchanged(fake_get(s.session));
    s_expect_item(call, NURSE "|Nurse|none|Default");
}

static void put__removed_by_another_right_after__was_applied(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_push(s.session, NURSE "|Nurse|none|", "v2");
    fake_push_remove(s.session, NURSE, "v3");
    fake_result(fake_write(s.session));
    s_expect_item(call, NURSE "|Nurse|none|");
}

static void put__changed_by_another_right_after__answers_what_stands(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = s_put(&s, NURSE, "Nurse", "");
    fake_push(s.session, NURSE "|Nurse|none|", "v2");
    fake_push(s.session, NURSE "|Angelica|none|", "v3");
    fake_result(fake_write(s.session));
    s_expect_item(call, NURSE "|Angelica|none|");
}

static void put__without_a_roster__makes_one(void **state)
{
    struct world *w = *state;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    fake_answer_error(fake_get(session), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    struct call *removal = c_send(c_remove(w, by, NURSE));
    c_expect(removal, RG_E_ITEM_NOT_FOUND);
    struct call *call = c_send(c_put(w, by, NURSE, "Nurse", ""));
    fake_result(fake_write(session));
    fake_push(session, NURSE "|Nurse|none|", "v1");
    s_expect_item(call, NURSE "|Nurse|none|");
    assert_true(call->op->version[0] != '\0');
}

static void put__without_a_roster__may_leave_it_so(void **state)
{
    struct world *w = *state;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    fake_answer_error(fake_get(session), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    struct call *call = c_send(c_put(w, by, NURSE, "Nurse", ""));
    fake_result(fake_write(session));
    w_run(w, 100);
    fake_answer_error(fake_get(session), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    c_expect(call, RG_E_NOT_APPLIED);
}

static void remove__either_order__answers_when_it_is_gone(void **state)
{
    struct scene s = s_live(state, NURSE "|N|none|;" ROMEO "|R|both|");
    struct call *first = c_send(c_remove(s.w, s.by, NURSE));
    struct call *second = c_send(c_remove(s.w, s.by, ROMEO));
    assert_int_equal(fake_write(s.session)->kind, FAKE_REMOVE);
    fake_push_remove(s.session, NURSE, "v2");
    c_pending(first);
    fake_result(fake_write(s.session));
    c_expect(first, RG_OK);
    fake_result(fake_write(s.session));
    c_pending(second);
    fake_push_remove(s.session, ROMEO, "v3");
    c_expect(second, RG_OK);
    assert_int_equal(w_account(s.w, JULIET)->roster->n, 0);
}

static void remove__not_in_the_roster__is_not_sent(void **state)
{
    struct scene s = s_live(state, "");
    c_expect(c_send(c_remove(s.w, s.by, NURSE)), RG_E_ITEM_NOT_FOUND);
    assert_int_equal(fake_count(s.session, FAKE_REMOVE), 0);
}

static void remove__unknown_to_the_server__reads_the_roster_again(void **state)
{
    struct scene s = s_live(state, NURSE "|N|none|");
    struct call *call = c_send(c_remove(s.w, s.by, NURSE));
    fake_error(fake_write(s.session), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    c_expect(call, RG_E_XMPP);
    assert_int_equal(fake_get(s.session)->ver_len, 0); /* in full */
    fake_answer(fake_get(s.session), "", "v2");
    assert_int_equal(w_account(s.w, JULIET)->roster->n, 0);
}

static void put__refused__tells_the_condition_and_changes_nothing(void **state)
{
    static const enum rg_condition conditions[] = {RG_XMPP_FORBIDDEN, RG_XMPP_NOT_ACCEPTABLE,
                                                   RG_XMPP_BAD_REQUEST, RG_XMPP_NOT_ALLOWED};
    struct scene s = s_live(state, "");
    for (size_t i = 0; i < RG_ARRAY_LEN(conditions); i++) {
        struct call *call = s_put(&s, NURSE, "Nurse", "");
        fake_error(fake_write(s.session), RG_E_XMPP, conditions[i]);
        c_expect(call, RG_E_XMPP);
        assert_int_equal(call->op->err.xmpp.condition, conditions[i]);
        assert_string_equal(call->op->version, s.by->op->version);
    }
    assert_false(s.session->abort_asked);
}

/* ---- window, order, conditions */

static void put__many__keeps_sixteen_in_flight_in_order(void **state)
{
    struct scene s = s_live(state, "");
    struct call *calls[40];
    char jid[40][64];
    for (int i = 0; i < 40; i++) {
        (void)snprintf(jid[i], sizeof(jid[i]), "c%d@example.com", i);
        calls[i] = s_put(&s, jid[i], "C", "");
    }
    for (int i = 0; i < 40; i++) {
        char item[80];
        assert_int_equal(s_in_flight(s.session), i < 24 ? 16 : 40 - i);
        struct fake_call *set = fake_write(s.session);
        assert_string_equal(set->jid, jid[i]);
        (void)snprintf(item, sizeof(item), "c%d@example.com|C|none|", i);
        fake_push(s.session, item, "v");
        fake_result(set);
        c_expect(calls[i], RG_OK);
    }
}

static void put__same_jid__one_after_another(void **state)
{
    struct scene s = s_live(state, "");
    struct call *first = s_put(&s, NURSE, "One", "");
    struct call *second = s_put(&s, NURSE, "Two", "");
    struct call *other = s_put(&s, ROMEO, "Romeo", "");
    assert_int_equal(s_in_flight(s.session), 1);
    fake_result(fake_write(s.session));
    assert_int_equal(s_in_flight(s.session), 0); /* in its grace the first is not done yet */
    w_run(s.w, 100);
    fake_answer(fake_get(s.session), NURSE "|One|none|", "v2");
    c_expect(first, RG_OK);
    assert_true(first->op->out.created);
    assert_int_equal(s_in_flight(s.session), 2);
    fake_push(s.session, NURSE "|Two|none|", "v3");
    fake_result(fake_write(s.session));
    s_expect_item(second, NURSE "|Two|none|");
    assert_false(second->op->out.created);
    fake_push(s.session, ROMEO "|Romeo|none|", "v4");
    fake_result(fake_write(s.session));
    c_expect(other, RG_OK);
}

static void put__same_if_match__one_wins(void **state)
{
    struct scene s = s_live(state, NURSE "|Nurse|both|");
    struct call *calls[5];
    for (int i = 0; i < 5; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "N%d", i);
        calls[i] = c_put(s.w, s.by, NURSE, name, "");
        c_if_match(calls[i], s.by->op->version);
        c_send(calls[i]);
    }
    fake_push(s.session, NURSE "|N0|both|", "v2");
    fake_result(fake_write(s.session));
    c_expect(calls[0], RG_OK);
    for (int i = 1; i < 5; i++)
        c_expect(calls[i], RG_E_VERSION_MISMATCH);
    assert_int_equal(fake_count(s.session, FAKE_SET), 1);
}

static void put__if_match__judges_the_item_alone(void **state)
{
    struct scene s = s_live(state, NURSE "|Nurse|both|;" ROMEO "|Romeo|both|");
    char old[RG_VERSION_SIZE];
    char mid[RG_VERSION_SIZE];
    memcpy(old, s.by->op->version, sizeof(old));
    fake_push(s.session, ROMEO "|R2|both|", "v2");
    rg_account_version(w_account(s.w, JULIET), mid);
    fake_push(s.session, ROMEO "|R3|both|", "v3");
    static const struct {
        const char *jid;
        int since; /* 0: old, 1: mid, 2: unknown */
        bool holds;
    } rows[] = {
        {NURSE, 0, true},  {NURSE, 1, true},  {NURSE, 2, false},
        {ROMEO, 0, false}, {ROMEO, 1, false}, {"x@example.com", 0, false},
    };
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct call *call = c_remove(s.w, s.by, rows[i].jid);
        c_if_match(call, rows[i].since == 0   ? old
                         : rows[i].since == 1 ? mid
                                              : "0123456789abcdef.0123456789abcdef-1");
        c_send(call);
        if (!rows[i].holds) {
            c_expect(call, RG_E_VERSION_MISMATCH);
            continue;
        }
        fake_error(fake_write(s.session), RG_E_XMPP, RG_XMPP_FORBIDDEN);
        c_expect(call, RG_E_XMPP);
    }
}

static void put__if_match_any__needs_the_item(void **state)
{
    struct scene s = s_live(state, NURSE "|Nurse|both|");
    struct call *call = c_put(s.w, s.by, ROMEO, "R", "");
    call->op->in.condition.if_match = call->op->in.condition.if_match_any = true;
    c_expect(c_send(call), RG_E_VERSION_MISMATCH);
    call = c_put(s.w, s.by, NURSE, "R", "");
    call->op->in.condition.if_match = call->op->in.condition.if_match_any = true;
    c_pending(c_send(call));
}

static void put__create_only__refuses_what_is_there(void **state)
{
    struct scene s = s_live(state, NURSE "|Nurse|both|");
    struct call *first = c_put(s.w, s.by, NURSE, "N", "");
    first->op->in.condition.if_none_match_any = true;
    c_expect(c_send(first), RG_E_VERSION_MISMATCH);
    /* Judged after the one before it: the second of two creations loses. */
    struct call *second = c_put(s.w, s.by, ROMEO, "R", "");
    struct call *third = c_put(s.w, s.by, ROMEO, "S", "");
    second->op->in.condition.if_none_match_any = true;
    third->op->in.condition.if_none_match_any = true;
    c_send(second);
    c_send(third);
    fake_push(s.session, ROMEO "|R|none|", "v2");
    fake_result(fake_write(s.session));
    c_expect(second, RG_OK);
    c_expect(third, RG_E_VERSION_MISMATCH);
}

static void patch__names_one_member__sends_the_whole_item(void **state)
{
    static const struct {
        const char *name, *groups; /* NULL: not named; "": cleared */
        const char *sent_name, *sent_groups;
    } rows[] = {
        {"New", NULL, "New", "A,B"}, {NULL, "C", "Nurse", "C"},    {"", NULL, NULL, "A,B"},
        {NULL, "", "Nurse", ""},     {NULL, NULL, "Nurse", "A,B"},
    };
    struct scene s = s_live(state, NURSE "|Nurse|both|B,A");
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct call *call = c_patch(s.w, s.by, NURSE);
        if (rows[i].name != NULL)
            c_set_name(call, rows[i].name[0] != '\0' ? rows[i].name : NULL);
        if (rows[i].groups != NULL)
            c_set_groups(call, rows[i].groups);
        c_send(call);
        struct fake_call *set = fake_write(s.session);
        assert_int_equal(set->has_name, rows[i].sent_name != NULL);
        assert_string_equal(set->name, rows[i].sent_name != NULL ? rows[i].sent_name : "");
        assert_string_equal(set->groups, rows[i].sent_groups);
        fake_error(set, RG_E_XMPP, RG_XMPP_FORBIDDEN);
        c_expect(call, RG_E_XMPP);
    }
}

static void patch__unknown_item__is_not_found(void **state)
{
    struct scene s = s_live(state, "");
    struct call *call = c_patch(s.w, s.by, NURSE);
    c_set_name(call, "N");
    c_expect(c_send(call), RG_E_ITEM_NOT_FOUND);
}

static void put__own_jid__is_refused(void **state)
{
    struct scene s = s_live(state, JULIET "|Me|both|");
    c_expect(s_put(&s, JULIET, "Me", ""), RG_E_SELF_CONTACT);
    struct call *patch = c_patch(s.w, s.by, JULIET);
    c_set_name(patch, "I");
    c_expect(c_send(patch), RG_E_SELF_CONTACT);
    /* A server that let it in can be rid of it. */
    struct call *removal = c_send(c_remove(s.w, s.by, JULIET));
    fake_push_remove(s.session, JULIET, "v2");
    fake_result(fake_write(s.session));
    c_expect(removal, RG_OK);
    c_expect(c_send(c_remove(s.w, s.by, JULIET)), RG_E_SELF_CONTACT);
}

static void put__too_many_a_second__is_limited(void **state)
{
    struct scene s = s_live(state, "");
    s.w->config.limits.writes_user = 5;
    for (int i = 0; i < 5; i++)
        c_pending(s_put(&s, NURSE, "N", ""));
    struct call *sixth = s_put(&s, NURSE, "N", "");
    c_expect(sixth, RG_E_RATE);
    assert_true(sixth->op->err.retry_after_s > 0);
    w_run(s.w, 199);
    c_expect(s_put(&s, NURSE, "N", ""), RG_E_RATE);
    w_run(s.w, 1);
    c_pending(s_put(&s, NURSE, "N", ""));
}

/* A roster beyond the limit would not be read any more: the server must not get that far. */
static void put__roster_full__is_refused(void **state)
{
    struct scene s = s_live(state, ROMEO "|Romeo|none|");
    s.w->config.limits.items = 2;
    struct call *last = s_put(&s, NURSE, "Nurse", "");
    struct call *beyond = s_put(&s, JULIET "x", "Mercutio", "");
    c_expect(beyond, RG_E_XMPP);
    assert_int_equal(beyond->op->err.xmpp.condition, RG_XMPP_POLICY_VIOLATION);
    fake_push(s.session, NURSE "|Nurse|none|", "v2");
    c_expect(s_put(&s, JULIET "x", "Mercutio", ""), RG_E_XMPP);
    fake_result(fake_write(s.session));
    c_expect(last, RG_OK);
    c_expect(s_put(&s, JULIET "x", "Mercutio", ""), RG_E_XMPP);
    c_pending(s_put(&s, ROMEO, "Montague", ""));
    fake_push_remove(s.session, NURSE, "v3");
    c_pending(s_put(&s, JULIET "x", "Mercutio", ""));
    assert_int_equal(s_in_flight(s.session), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(put__result_then_push__answers_with_the_push),
        TEST(put__push_then_result__answers_at_the_result),
        TEST(put__other_pushes__do_not_answer),
        TEST(put__no_push__is_answered_by_the_barrier),
        TEST(put__swallowed__is_not_applied),
        TEST(put__swallowed_while_the_contact_approves__is_not_applied),
        TEST(put__rewritten__answers_what_the_server_stored),
        TEST(put__removed_by_another_right_after__was_applied),
        TEST(put__changed_by_another_right_after__answers_what_stands),
        TEST(put__without_a_roster__makes_one),
        TEST(put__without_a_roster__may_leave_it_so),
        TEST(remove__either_order__answers_when_it_is_gone),
        TEST(remove__not_in_the_roster__is_not_sent),
        TEST(remove__unknown_to_the_server__reads_the_roster_again),
        TEST(put__refused__tells_the_condition_and_changes_nothing),
        TEST(put__many__keeps_sixteen_in_flight_in_order),
        TEST(put__same_jid__one_after_another),
        TEST(put__same_if_match__one_wins),
        TEST(put__if_match__judges_the_item_alone),
        TEST(put__if_match_any__needs_the_item),
        TEST(put__create_only__refuses_what_is_there),
        TEST(patch__names_one_member__sends_the_whole_item),
        TEST(patch__unknown_item__is_not_found),
        TEST(put__own_jid__is_refused),
        TEST(put__too_many_a_second__is_limited),
        TEST(put__roster_full__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/unit/core/helper_core.h"

#define ROMEO "romeo@example.net"
#define NURSE "nurse@example.com"

static struct call *item(struct world *w, const struct call *by, const char *jid)
{
    struct call *call = c_new(w, RG_OP_ITEM, by);
    c_set_jid(call, jid);
    return c_send(call);
}

static struct call *fresh(struct world *w, const struct call *by)
{
    struct call *call = c_new(w, RG_OP_ROSTER, by);
    call->op->in.refresh = true;
    return c_send(call);
}

static enum rg_code look(struct world *w, const struct call *by)
{
    struct rg_view view;
    enum rg_code code =
        rg_door_look(rg_core_door(w->core), &by->op->out.claims, w_now(w), &view);
    if (code == RG_OK) {
        assert_true(view.hit && !view.stale);
        rg_view_fini(&view);
    }
    return code;
}

static void door__looked__lets_through_only_what_is_live(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    assert_int_equal(look(w, by), RG_OK);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    assert_int_equal(look(w, by), RG_E_NOT_FOUND);
    w_run(w, 1000);
    assert_int_equal(look(w, by), RG_E_NOT_FOUND);
    fake_bind(fake_last(w->up));
    assert_int_equal(look(w, by), RG_E_NOT_FOUND);
    fake_unchanged(fake_get(fake_last(w->up)));
    assert_int_equal(look(w, by), RG_OK);
}

static void roster__server_away__is_stale_with_its_age(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    w_run(w, 100 * 1000);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE); /* confirmed until now */
    w->up->refuse_open = RG_E_UNREACHABLE;
    w_run(w, 42 * 1000);
    struct call *call = c_do(w, RG_OP_ROSTER, by);
    c_expect(call, RG_OK);
    assert_true(call->op->out.stale && call->op->out.view.stale);
    assert_int_equal(call->op->out.view.age_s, 42);
    assert_string_equal(call->op->out.view.snapshot->version, by->op->version);
}

static void roster__session_slow__is_stale_after_two_seconds(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    w_run(w, 1000);
    struct call *call = c_do(w, RG_OP_ROSTER, by);
    w_run(w, 1999);
    c_pending(call);
    w_run(w, 1);
    c_expect(call, RG_OK);
    assert_true(call->op->out.stale);
}

static void roster__nothing_cached__needs_the_server(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    by->op->out.claims.user[0] = 'x';
    struct call *call = c_do(w, RG_OP_ROSTER, by);
    w_run(w, 60 * 1000); /* it waits for the attempt, however long that takes */
    c_pending(call);
    fake_end(fake_last(w->up), RG_E_TIMEOUT);
    c_expect(call, RG_E_UNREACHABLE);
    assert_true(call->op->err.retry_after_s > 0);
}

static void roster__refreshed__is_read_in_full_first(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct fake_session *session = fake_last(w->up);
    struct call *first = fresh(w, by);
    struct fake_call *get = fake_get(session);
    assert_true(get->has_ver);
    assert_int_equal(get->ver_len, 0);
    /* One that comes while a get is on its way needs the next one. */
    struct call *second = fresh(w, by);
    struct call *third = fresh(w, by);
    fake_answer(get, ROMEO "|R2|both|", "v2");
    c_expect(first, RG_OK);
    assert_false(first->op->out.view.hit);
    c_pending(second);
    assert_int_equal(fake_count(session, FAKE_GET), 3); /* shared by the two */
    get = fake_get(session);
    assert_int_equal(get->ver_len, 0);
    fake_answer(get, ROMEO "|R3|both|", "v3");
    c_expect(second, RG_OK);
    c_expect(third, RG_OK);
    assert_string_equal(third->op->out.view.snapshot->roster->items[0]->name, "R3");
    assert_string_equal(third->op->version, third->op->out.view.snapshot->version);
}

static void roster__refresh_refused__serves_what_there_is(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct call *call = fresh(w, by);
    fake_answer_error(fake_get(fake_last(w->up)), RG_E_XMPP, RG_XMPP_INTERNAL_SERVER_ERROR);
    c_expect(call, RG_OK);
    assert_true(call->op->out.view.hit);
    assert_false(fake_last(w->up)->abort_asked);
}

/* The two seconds are for the session only; the barrier is waited for. */
static void roster__refreshed_while_resuming__waits_for_the_answer(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    w_run(w, 1000);
    struct call *call = fresh(w, by);
    w_run(w, 1500);
    fake_bind(fake_last(w->up));
    fake_unchanged(fake_get(fake_last(w->up)));
    c_pending(call);
    w_run(w, 5000);
    c_pending(call);
    fake_answer(fake_get(fake_last(w->up)), ROMEO "|R2|both|", "v2");
    c_expect(call, RG_OK);
    assert_false(call->op->out.view.hit);
}

static void roster__not_found__is_asked_again_once_a_second(void **state)
{
    struct world *w = *state;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    fake_answer_error(fake_get(session), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    c_expect(c_do(w, RG_OP_ROSTER, by), RG_E_ROSTER_NOT_FOUND);
    w_run(w, 999);
    c_expect(c_do(w, RG_OP_ROSTER, by), RG_E_ROSTER_NOT_FOUND);
    assert_int_equal(fake_count(session, FAKE_GET), 1);
    w_run(w, 1);
    struct call *first = c_do(w, RG_OP_ROSTER, by);
    struct call *second = c_do(w, RG_OP_ROSTER, by);
    assert_int_equal(fake_count(session, FAKE_GET), 2);
    c_pending(first);
    c_expect(second, RG_E_ROSTER_NOT_FOUND);
    fake_answer_error(fake_get(session), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    c_expect(first, RG_E_ROSTER_NOT_FOUND);
    w_run(w, 1000);
    struct call *third = c_do(w, RG_OP_ROSTER, by);
    fake_answer(fake_get(session), "", "v1");
    c_expect(third, RG_OK);
    assert_int_equal(third->op->out.view.snapshot->roster->n, 0);
}

/* After an idle close the word of the old session is not good enough. */
static void roster__not_found_and_resting__asks_the_new_session(void **state)
{
    struct world *w = *state;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    fake_answer_error(fake_get(fake_last(w->up)), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    w_run(w, 16 * 60 * 1000);
    assert_null(w_user(w, JULIET));
    struct call *call = c_do(w, RG_OP_ROSTER, by);
    c_pending(call);
    fake_bind(fake_last(w->up));
    fake_answer(fake_get(fake_last(w->up)), ROMEO "|Romeo|both|", "v1");
    c_expect(call, RG_OK);
    /* And with the server away it is the best there is. */
    w_restart(w);
}

static void item__asked__has_its_own_version(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|Friends;" NURSE "|Nurse|none|", "v1");
    fake_push(fake_last(w->up), NURSE "|N2|none|", "v2");
    struct call *romeo = item(w, by, ROMEO);
    struct call *nurse = item(w, by, NURSE);
    c_expect(romeo, RG_OK);
    c_expect(nurse, RG_OK);
    assert_int_equal(romeo->op->out.item->changed.seq + 1, nurse->op->out.item->changed.seq);
    assert_int_equal(nurse->op->out.item->changed.seq, w_account(w, JULIET)->head.seq);
    c_expect(item(w, by, "nobody@example.com"), RG_E_ITEM_NOT_FOUND);
}

static void item__asked__tells_what_is_allowed(void **state)
{
    enum {
        REQUEST = RG_ACTION_REQUEST,
        CANCEL = RG_ACTION_CANCEL,
        UNSUBSCRIBE = RG_ACTION_UNSUBSCRIBE,
        REVOKE = RG_ACTION_REVOKE,
        PREAPPROVE = RG_ACTION_PREAPPROVE,
        BEFRIEND = RG_ACTION_BEFRIEND
    };
    static const struct {
        const char *subscription;
        unsigned plain, pre_approval;
    } rows[] = {
        {"none", REQUEST | BEFRIEND, REQUEST | BEFRIEND | PREAPPROVE},
        {"none?", CANCEL | BEFRIEND, CANCEL | BEFRIEND | PREAPPROVE},
        {"none!", REQUEST | BEFRIEND, REQUEST | BEFRIEND},
        {"to", UNSUBSCRIBE | BEFRIEND, UNSUBSCRIBE | BEFRIEND | PREAPPROVE},
        {"from", REQUEST | REVOKE | BEFRIEND, REQUEST | REVOKE | BEFRIEND},
        {"from?", CANCEL | REVOKE | BEFRIEND, CANCEL | REVOKE | BEFRIEND},
        {"both", UNSUBSCRIBE | REVOKE, UNSUBSCRIBE | REVOKE},
    };
    struct world *w = *state;
    for (int pre = 0; pre < 2; pre++) {
        w->up->features.pre_approval = pre == 1;
        struct call *by = c_live(w, "", NULL);
        for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
            char text[80];
            (void)snprintf(text, sizeof(text), ROMEO "||%s|", rows[i].subscription);
            fake_push(fake_last(w->up), text, "v");
            struct call *call = item(w, by, ROMEO);
            c_expect(call, RG_OK);
            assert_int_equal(call->op->out.allowed,
                             pre == 1 ? rows[i].pre_approval : rows[i].plain);
        }
        c_expect(c_do(w, RG_OP_SIGN_OUT, by), RG_OK);
        w_run(w, 1);
    }
}

static void item__they_asked__may_be_approved(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "||none|", "v1");
    fake_presence(fake_last(w->up), RG_PRESENCE_SUBSCRIBE, ROMEO, NULL, "please");
    assert_int_equal(item(w, by, ROMEO)->op->out.allowed,
                     RG_ACTION_REQUEST | RG_ACTION_APPROVE | RG_ACTION_DENY |
                         RG_ACTION_BEFRIEND);
}

static void actions__named__in_order(void **state)
{
    static const char *const names[] = {"request", "cancel", "unsubscribe", "approve",
                                        "deny",    "revoke", "preapprove",  "befriend"};
    (void)state;
    for (unsigned i = 0; i < RG_ARRAY_LEN(names); i++)
        assert_string_equal(rg_action_name(1U << i), names[i]);
    assert_string_equal(rg_action_name(0), "");
}

/* ---- changes */

static void changes__asked__are_complete_in_order_and_limited(void **state)
{
    struct world *w = *state;
    char versions[6][RG_VERSION_SIZE];
    struct call *by = c_live(w, "", NULL);
    memcpy(versions[0], by->op->version, RG_VERSION_SIZE);
    for (int i = 1; i <= 5; i++) {
        char text[80];
        (void)snprintf(text, sizeof(text), NURSE "|N%d|none|", i);
        fake_push(fake_last(w->up), text, "v");
        rg_account_version(w_account(w, JULIET), versions[i]);
    }
    for (int from = 0; from <= 5; from++)
        for (int limit = 1; limit <= 6; limit++) {
            struct call *call = c_changes(w, by, versions[from], (size_t)limit, 0);
            int n = 5 - from < limit ? 5 - from : limit;
            c_expect(call, RG_OK);
            assert_int_equal(call->op->out.n_changes, n);
            assert_int_equal(call->op->out.more, n < 5 - from);
            assert_string_equal(call->op->version, versions[from + n]);
            for (int i = 0; i < n; i++)
                assert_int_equal(call->op->out.changes[i]->item->name[1], '1' + from + i);
        }
}

static void changes__unknown__are_expired(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    c_expect(c_changes(w, by, "0123456789abcdef.0123456789abcdef-1", 10, 0),
             RG_E_VERSION_EXPIRED);
    c_expect(c_changes(w, by, "whatever", 10, 60000), RG_E_VERSION_EXPIRED);
}

static void changes__waited_for__come_when_they_come(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    struct call *first = c_changes(w, by, by->op->version, 10, 60000);
    struct call *second = c_changes(w, by, by->op->version, 10, 60000);
    w_run(w, 59999);
    c_pending(first);
    fake_push(fake_last(w->up), NURSE "|N|none|", "v1");
    fake_push(fake_last(w->up), ROMEO "|R|none|", "v2");
    w_run(w, 1);
    c_expect(first, RG_OK);
    c_expect(second, RG_OK);
    assert_int_equal(first->op->out.n_changes, 2); /* a burst is one answer */
}

static void changes__nothing_new__is_an_empty_answer(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    struct call *call = c_changes(w, by, by->op->version, 10, 5000);
    w_run(w, 4999);
    c_pending(call);
    w_run(w, 1);
    c_expect(call, RG_OK);
    assert_int_equal(call->op->out.n_changes, 0);
    assert_string_equal(call->op->version, by->op->version);
}

static void changes__parked_over_a_cut__go_on(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|R|both|", "v1");
    struct call *call = c_changes(w, by, by->op->version, 10, 60000);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    c_pending(call);
    w_run(w, 1000);
    fake_bind(fake_last(w->up));
    fake_answer(fake_get(fake_last(w->up)), ROMEO "|R2|both|", "v2");
    w_run(w, 1);
    c_expect(call, RG_OK);
    assert_int_equal(call->op->out.n_changes, 1);
}

/* The server's answer that changes nothing advances nothing. */
static void push__same_item__advances_nothing(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|R|both|B,A", "v1");
    fake_push(fake_last(w->up), ROMEO "|R|both|A,B", "v2");
    fake_push_remove(fake_last(w->up), NURSE, "v3");
    struct call *call = c_do(w, RG_OP_SESSION, by);
    assert_string_equal(call->op->version, by->op->version);
    assert_string_equal(w_account(w, JULIET)->ver.bytes, "v3");
}

static void push__without_ver__drops_what_is_stored(void **state)
{
    static const char *const vers[] = {NULL, ""};
    struct world *w = *state;
    c_live(w, ROMEO "|R|both|", "v1");
    for (size_t i = 0; i < RG_ARRAY_LEN(vers); i++) {
        fake_push(fake_last(w->up), ROMEO "|R1|both|", "v2");
        assert_true(w_account(w, JULIET)->ver.known);
        fake_push(fake_last(w->up), ROMEO "|R2|both|", vers[i]);
        assert_false(w_account(w, JULIET)->ver.known);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(door__looked__lets_through_only_what_is_live),
        TEST(roster__server_away__is_stale_with_its_age),
        TEST(roster__session_slow__is_stale_after_two_seconds),
        TEST(roster__nothing_cached__needs_the_server),
        TEST(roster__refreshed__is_read_in_full_first),
        TEST(roster__refresh_refused__serves_what_there_is),
        TEST(roster__refreshed_while_resuming__waits_for_the_answer),
        TEST(roster__not_found__is_asked_again_once_a_second),
        TEST(roster__not_found_and_resting__asks_the_new_session),
        TEST(item__asked__has_its_own_version),
        TEST(item__asked__tells_what_is_allowed),
        TEST(item__they_asked__may_be_approved),
        TEST(actions__named__in_order),
        TEST(changes__asked__are_complete_in_order_and_limited),
        TEST(changes__unknown__are_expired),
        TEST(changes__waited_for__come_when_they_come),
        TEST(changes__nothing_new__is_an_empty_answer),
        TEST(changes__parked_over_a_cut__go_on),
        TEST(push__same_item__advances_nothing),
        TEST(push__without_ver__drops_what_is_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

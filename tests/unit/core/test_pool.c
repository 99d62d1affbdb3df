#include "tests/unit/core/helper_core.h"

#define ROMEO "romeo@example.net"

/* Moves time until another session is opened; returns how long it took, at most limit_ms. */
static int64_t until_next(struct world *w, int64_t limit_ms)
{
    size_t before = w->up->n_sessions;
    int64_t start_ms = w_now(w);
    while (w->up->n_sessions == before && w_now(w) - start_ms < limit_ms)
        w_run(w, 1);
    assert_int_equal(w->up->n_sessions, before + 1);
    return w_now(w) - start_ms;
}

static void bring_up(struct world *w, const char *roster, const char *ver)
{
    fake_bind(fake_last(w->up));
    fake_answer(fake_get(fake_last(w->up)), roster, ver);
}

static struct reader *watch(struct world *w, const struct call *by)
{
    struct call *call;
    struct reader *reader = r_open(w, by, "now", 0, &call);
    c_expect(call, RG_OK);
    r_expect(reader, "subscriptions", "");
    return reader;
}

static void session__cut__comes_back_within_a_second(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct fake_session *first = fake_last(w->up);
    struct reader *reader = watch(w, by);
    r_expect(reader, "sync", "live");
    fake_push(first, ROMEO "|R2|both|", "v2");
    r_expect(reader, "roster.set", "R2");
    fake_end(first, RG_E_UNREACHABLE);
    r_expect(reader, "session", "\"resuming\",\"reason\":\"xmpp-unreachable\"");
    assert_in_range(until_next(w, 2000), 1, 1000);
    assert_string_equal(fake_last(w->up)->password, "secret");
    r_nothing(reader); /* it is still resuming */
    fake_bind(fake_last(w->up));
    struct fake_call *get = fake_get(fake_last(w->up));
    assert_string_equal(get->ver, "v2"); /* of the last push (R10) */
    fake_answer(get, ROMEO "|R3|both|;nurse@example.com|N|none|", "v3");
    r_expect(reader, "roster.set", "nurse");
    r_expect(reader, "roster.set", "R3");
    r_expect(reader, "session", "\"live\",\"reason\":\"connected\"");
    r_nothing(reader);
}

static void session__away__backs_off_to_thirty_seconds(void **state)
{
    struct world *w = *state;
    int64_t base_ms = 1000;
    struct reader *reader;
    c_live(w, "", NULL);
    reader = watch(w, w->calls); /* so that it does not become idle */
    (void)reader;
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    assert_in_range(until_next(w, 2000), 1, 1000);
    for (int i = 0; i < 12; i++) {
        fake_end(fake_last(w->up), i % 2 == 0 ? RG_E_UNREACHABLE : RG_E_TIMEOUT);
        int64_t took_ms = until_next(w, 60 * 1000);
        assert_in_range(took_ms, base_ms * 15 / 32,
                        base_ms); /* the last step is 30 s, not 32 */
        assert_in_range(took_ms, 1, 30 * 1000);
        base_ms = base_ms * 2 < 32 * 1000 ? base_ms * 2 : 32 * 1000;
    }
    bring_up(w, "", NULL);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    assert_in_range(until_next(w, 2000), 1, 1000); /* it begins anew */
}

static void session__server_back__calls_those_that_wait(void **state)
{
    struct world *w = *state;
    c_live(w, "", NULL);
    (void)watch(w, w->calls);
    for (int i = 0; i < 7; i++) {
        fake_end(fake_last(w->up), RG_E_UNREACHABLE);
        (void)until_next(w, 60 * 1000);
    }
    fake_end(fake_last(w->up), RG_E_UNREACHABLE); /* now it waits for 15 s at least */
    struct call *other = c_send(c_sign_in(w, "romeo@example.com", "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    fake_answer(fake_get(session), "", NULL);
    c_expect(other, RG_OK);
    assert_in_range(until_next(w, 2000), 0, 500);
}

static void session__away__retries_differ(void **state)
{
    struct world *w = *state;
    int64_t took[8];
    bool differ = false;
    c_live(w, "", NULL);
    for (int i = 0; i < 8; i++) {
        fake_end(fake_last(w->up), RG_E_UNREACHABLE);
        took[i] = until_next(w, 2000);
        differ = differ || took[i] != took[0];
        bring_up(w, "", NULL);
    }
    assert_true(differ);
}

static void session__open_refused_at_once__is_retried(void **state)
{
    struct world *w = *state;
    c_live(w, "", NULL);
    w->up->refuse_open = RG_E_UNREACHABLE;
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    w_run(w, 10 * 1000);
    assert_int_equal(w->up->n_sessions, 1);
    w->up->refuse_open = RG_OK;
    assert_in_range(until_next(w, 30 * 1000), 1, 30 * 1000);
}

static void session__credentials_refused__is_not_retried(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    struct reader *reader = watch(w, by);
    r_expect(reader, "sync", "live");
    struct call *poll = c_changes(w, by, by->op->version, 10, 60000);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    r_expect(reader, "session", "resuming");
    until_next(w, 2000);
    struct call *waiting = c_do(w, RG_OP_ROSTER, by);
    c_pending(waiting);
    fake_end(fake_last(w->up), RG_E_UNAUTHORIZED);
    r_expect(reader, "bye", "\"credentials\",\"reconnect\":false");
    c_expect(waiting, RG_E_CREDENTIALS);
    c_expect(poll, RG_E_CREDENTIALS);
    assert_true(c_token_dead(w, by, RG_E_CREDENTIALS));
    size_t before = w->up->n_sessions;
    w_run(w, 120 * 1000);
    assert_int_equal(w->up->n_sessions, before);
    c_expect(c_do(w, RG_OP_ROSTER, by), RG_E_CREDENTIALS);
    assert_int_equal(w->up->n_sessions, before);
    /* The account remembers it. */
    r_leave(reader);
    w_run(w, 20 * 60 * 1000);
    assert_null(w_user(w, JULIET));
    c_expect(c_do(w, RG_OP_ROSTER, by), RG_E_CREDENTIALS);
    /* With a new password all is well again, with the old one as well once it is accepted. */
    struct call *again = c_live(w, "", NULL);
    c_expect(c_do(w, RG_OP_ROSTER, again), RG_OK);
}

/* A stream of another sign-in, with a newer password, must not be left without a session. */
static void session__credentials_refused__tries_another_sign_in(void **state)
{
    struct world *w = *state;
    struct call *old = c_live(w, "", NULL);
    struct call *changed = c_send(c_sign_in(w, JULIET, "changed"));
    fake_bind(fake_last(w->up));
    c_expect(changed, RG_OK);
    rg_account_revive_password(w_account(w, JULIET), old->op->out.claims.password_tag);
    old->op->out.claims.given_s += 5; /* as another instance, whose clock is ahead, says */
    c_expect(c_do(w, RG_OP_SESSION, old), RG_OK);
    struct reader *reader = watch(w, changed);
    r_expect(reader, "sync", "live");
    for (size_t i = 0; i < w->up->n_sessions; i++)
        if (!w->up->sessions[i]->ended)
            fake_end(w->up->sessions[i], RG_E_UNREACHABLE);
    until_next(w, 2000);
    assert_string_equal(fake_last(w->up)->password, "secret");
    fake_end(fake_last(w->up), RG_E_UNAUTHORIZED);
    assert_string_equal(fake_last(w->up)->password, "changed");
    bring_up(w, "", NULL);
    r_expect(reader, "session", "resuming");
    r_expect(reader, "session", "live");
    r_nothing(reader);
}

/* A wrong guess at the moment when the session is away must not cost who is signed in theirs.
 */
static void session__away__a_wrong_guess_does_not_delay_it(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    struct call *guess = c_send(c_sign_in(w, JULIET, "wrong"));
    struct fake_session *attempt = fake_last(w->up);
    assert_string_equal(attempt->password, "wrong");
    struct call *read = c_do(w, RG_OP_ROSTER, by);
    c_pending(read);
    fake_end(attempt, RG_E_UNAUTHORIZED);
    assert_string_equal(fake_last(w->up)->password, "secret");
    c_pending(read);
    bring_up(w, "", NULL);
    c_expect(read, RG_OK);
    assert_false(read->op->out.stale);
    w_run(w, 500);
    c_expect(guess, RG_E_UNAUTHORIZED);
}

static void session__given_up__tells_no_draining(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    struct reader *reader = watch(w, by);
    r_expect(reader, "sync", "live");
    struct call *read = c_new(w, RG_OP_ROSTER, by);
    read->op->in.refresh = true;
    c_send(read);
    fake_answer_error(fake_get(fake_last(w->up)), RG_E_UNCERTAIN, RG_XMPP_NONE);
    w_run(w, 0);
    assert_true(fake_last(w->up)->ended);
    r_expect(reader, "session", "\"resuming\",\"reason\":\"xmpp-unreachable\"");
    c_expect(read, RG_OK);
    assert_true(read->op->out.stale);
}

/* A push that could not be applied is repaired by reading again with the older `ver`. */
static void session__beyond_the_item_limit__reads_again(void **state)
{
    struct world *w = *state;
    w->config.limits.items = 1;
    c_live(w, ROMEO "|Romeo|both|", "v1");
    struct fake_session *session = fake_last(w->up);
    w->up->hold_ends = true;
    fake_push(session, ROMEO "|R2|both|", "v2"); /* no new item */
    assert_false(session->abort_asked);
    fake_push(session, "lost@example.com|Lost|none|", "v3");
    assert_true(session->abort_asked);
    fake_push(session, ROMEO "|R3|both|", "v4");
    fake_end(session, RG_E_CANCELLED);
    until_next(w, 2000);
    fake_bind(fake_last(w->up));
    assert_string_equal(fake_get(fake_last(w->up))->ver, "v2");
}

static void session__idle__closes_and_opens_again_silently(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct fake_session *session = fake_last(w->up);
    w_run(w, 15 * 60 * 1000 - 1);
    assert_false(session->close_asked);
    w_run(w, 2);
    assert_true(session->close_asked && session->ended);
    assert_null(w_user(w, JULIET));
    size_t before = w->up->n_sessions;
    w_run(w, 3600 * 1000);
    assert_int_equal(w->up->n_sessions, before); /* nobody asked for it */
    struct call *read = c_do(w, RG_OP_ROSTER, by);
    c_pending(read);
    assert_string_equal(fake_last(w->up)->password, "secret");
    fake_bind(fake_last(w->up));
    assert_string_equal(fake_get(fake_last(w->up))->ver, "v1");
    fake_unchanged(fake_get(fake_last(w->up)));
    c_expect(read, RG_OK);
    assert_false(read->op->out.stale);
    assert_string_equal(read->op->version, by->op->version);
}

static void session__used__does_not_become_idle(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    struct fake_session *session = fake_last(w->up);
    struct rg_view view;
    for (int i = 0; i < 10; i++) {
        w_run(w, 10 * 60 * 1000);
        if (i % 2 == 0) {
            c_expect(c_do(w, RG_OP_SESSION, by), RG_OK);
            continue;
        }
        assert_int_equal(
            rg_door_look(rg_core_door(w->core), &by->op->out.claims, w_now(w), &view), RG_OK);
        rg_view_fini(&view);
    }
    assert_false(session->ended);
    struct reader *reader = watch(w, by);
    w_run(w, 3600 * 1000);
    assert_false(session->ended);
    r_leave(reader);
    w_run(w, 31 * 60 * 1000);
    assert_true(session->ended);
}

static void session__idle_close_under_way__reopens_for_a_request(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct fake_session *session = fake_last(w->up);
    w->up->hold_ends = true;
    w_run(w, 15 * 60 * 1000 + 1);
    assert_true(session->close_asked);
    struct call *read = c_do(w, RG_OP_ROSTER, by);
    struct call *put = c_send(c_put(w, by, ROMEO, "R", ""));
    c_pending(read);
    fake_end(session, RG_E_CANCELLED);
    assert_ptr_not_equal(fake_last(w->up), session);
    fake_bind(fake_last(w->up));
    fake_unchanged(fake_get(fake_last(w->up)));
    c_expect(read, RG_OK);
    assert_string_equal(fake_write(fake_last(w->up))->name, "R");
    c_pending(put);
}

/* Nobody asks any more: it stops trying after the idle time, too. */
static void session__away_and_idle__stops_trying(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    for (int round = 0; round < 2; round++) {
        fake_end(fake_last(w->up), RG_E_UNREACHABLE);
        w->up->refuse_open = RG_E_UNREACHABLE;
        w_run(w, 31 * 60 * 1000);
        assert_null(w_user(w, JULIET));
        w->up->refuse_open = RG_OK;
        /* The second time it has never been live since the user object exists. */
        c_pending(c_do(w, RG_OP_ROSTER, by));
    }
}

/* One who does not wait for it reopens it all the same. */
static void session__idle_close_under_way__is_wanted_back(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct fake_session *session = fake_last(w->up);
    w->up->hold_ends = true;
    w_run(w, 15 * 60 * 1000 + 1);
    struct call *call = c_do(w, RG_OP_SESSION, by);
    c_expect(call, RG_OK);
    assert_int_equal(call->op->out.state, RG_STATE_OFFLINE);
    fake_end(session, RG_E_CANCELLED);
    assert_ptr_not_equal(fake_last(w->up), session);
}

/* The limit of IQs in flight at a server is no fault of the session. */
static void session__server_busy__keeps_its_turn(void **state)
{
    struct world *w = *state;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    w->up->refuse_calls = RG_E_RATE;
    fake_bind(session);
    w_run(w, 500);
    c_pending(by);
    assert_false(session->abort_asked);
    w->up->refuse_calls = RG_OK;
    w_run(w, 100);
    fake_answer(fake_get(session), ROMEO "|Romeo|both|", "v1");
    c_expect(by, RG_OK);
    struct call *read = c_new(w, RG_OP_ROSTER, by);
    read->op->in.refresh = true;
    w->up->refuse_calls = RG_E_RATE;
    c_send(read);
    w_run(w, 500);
    c_pending(read);
    w->up->refuse_calls = RG_OK;
    w_run(w, 100);
    assert_int_equal(fake_get(session)->ver_len, 0); /* still in full */
    fake_answer(fake_get(session), ROMEO "|R2|both|", "v2");
    c_expect(read, RG_OK);
    w_run(w, 1000);
    assert_int_equal(fake_count(session, FAKE_GET), 2);
    /* A session that ends meanwhile is brought back as any other. */
    w->up->refuse_calls = RG_E_RATE;
    read = c_new(w, RG_OP_ROSTER, by);
    read->op->in.refresh = true;
    c_send(read);
    fake_end(session, RG_E_UNREACHABLE);
    c_expect(read, RG_OK);
    assert_true(read->op->out.stale);
    until_next(w, 2000);
    assert_int_equal(w->up->late, 0);
}

static void session__tokens_expired__is_not_retried(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    watch(w, by);
    w_run(w, 12 * 3600 * 1000);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    w_run(w, 120 * 1000);
    assert_int_equal(w->up->n_sessions, 1);
}

/* Pushes that waited for a first answer are void when the session ends without it. */
static void session__cut_while_loading__forgets_early_pushes(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    until_next(w, 2000);
    fake_bind(fake_last(w->up));
    fake_push(fake_last(w->up), ROMEO "|Old|both|", "v2");
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    until_next(w, 3000);
    bring_up(w, ROMEO "|New|both|", "v3");
    struct call *read = c_do(w, RG_OP_ROSTER, by);
    assert_string_equal(read->op->out.view.snapshot->roster->items[0]->name, "New");
    assert_string_equal(w_account(w, JULIET)->ver.bytes, "v3");
}

/* Nor is the `ver` of a roster that became empty by pushes ever sent. */
static void session__emptied_by_pushes__sends_no_ver(void **state)
{
    struct world *w = *state;
    c_live(w, ROMEO "|Romeo|both|", "v1");
    fake_push_remove(fake_last(w->up), ROMEO, "v2");
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    until_next(w, 2000);
    fake_bind(fake_last(w->up));
    assert_true(fake_get(fake_last(w->up))->has_ver);
    assert_int_equal(fake_get(fake_last(w->up))->ver_len, 0);
}

static void session__read_regularly__with_ver_and_in_full_once_a_day(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct fake_session *session = fake_last(w->up);
    struct reader *reader = watch(w, by);
    size_t gets = 1;
    size_t full = 0;
    (void)reader;
    for (int hour = 0; hour < 72; hour++) {
        w_run(w, 3600 * 1000);
        if (fake_count(session, FAKE_GET) == gets)
            continue;
        assert_int_equal(fake_count(session, FAKE_GET), ++gets);
        struct fake_call *get = fake_get(session);
        if (get->ver_len == 0) {
            full++;
            fake_answer(get, ROMEO "|Romeo|both|", "v1");
        } else {
            assert_string_equal(get->ver, "v1");
            fake_unchanged(get);
        }
    }
    assert_in_range(gets - 1, 7, 24);
    assert_in_range(full, 1, 3);
    assert_false(session->ended);
}

static void session__closed_with_requests_waiting__finishes_each_once(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    until_next(w, 2000);
    struct call *calls[5];
    calls[0] = c_do(w, RG_OP_ROSTER, by);
    calls[1] = c_send(c_put(w, by, ROMEO, "R", ""));
    calls[2] = c_changes(w, by, by->op->version, 10, 0);
    calls[3] = c_new(w, RG_OP_ITEM, by);
    c_set_jid(calls[3], ROMEO);
    c_send(calls[3]);
    calls[4] = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *verify = fake_last(w->up);
    for (int i = 0; i < 5; i++)
        c_pending(calls[i]);
    for (size_t i = 0; i < w->up->n_sessions; i++)
        if (!w->up->sessions[i]->ended && w->up->sessions[i] != verify)
            fake_end(w->up->sessions[i], RG_E_TIMEOUT);
    c_expect(calls[0], RG_OK);
    c_expect(calls[1], RG_E_UNREACHABLE);
    c_expect(calls[2], RG_OK);
    c_expect(calls[3], RG_OK);
    assert_true(calls[0]->op->out.stale && calls[2]->op->out.stale && calls[3]->op->out.stale);
    fake_bind(verify);
    c_pending(calls[4]); /* it opens the session itself */
    bring_up(w, "", NULL);
    c_expect(calls[4], RG_OK);
}

static void drain__said__ends_streams_polls_and_waiting_requests(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct reader *reader = watch(w, by);
    r_expect(reader, "sync", "");
    struct call *poll = c_changes(w, by, by->op->version, 10, 60000);
    struct call *refused = c_send(c_sign_in(w, JULIET, "wrong"));
    fake_end(fake_last(w->up), RG_E_UNAUTHORIZED);
    rg_core_drain(w->core, NULL, NULL);
    c_expect(poll, RG_OK);
    assert_int_equal(poll->op->out.n_changes, 0);
    r_expect(reader, "bye", "\"drain\",\"reconnect\":true");
    w_run(w, 500);
    c_expect(refused, RG_E_UNAUTHORIZED);
    fake_end(w->up->sessions[0], RG_E_UNREACHABLE);
    w_run(w, 60 * 1000);
    assert_int_equal(fake_open_sessions(w->up), 0); /* no reconnecting while stopping */
}

static void health__asked__is_json(void **state)
{
    struct world *w = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    rg_core_health(w->core, &buf);
    assert_string_equal(buf.data, "\"xmpp\":[{\"domain\":\"example.com\",\"degraded\":false,"
                                  "\"sessions\":0}],\"store\":{\"store\":\"fake\","
                                  "\"degraded\":false}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(session__cut__comes_back_within_a_second),
        TEST(session__away__backs_off_to_thirty_seconds),
        TEST(session__server_back__calls_those_that_wait),
        TEST(session__away__retries_differ),
        TEST(session__open_refused_at_once__is_retried),
        TEST(session__credentials_refused__is_not_retried),
        TEST(session__credentials_refused__tries_another_sign_in),
        TEST(session__away__a_wrong_guess_does_not_delay_it),
        TEST(session__given_up__tells_no_draining),
        TEST(session__beyond_the_item_limit__reads_again),
        TEST(session__idle__closes_and_opens_again_silently),
        TEST(session__used__does_not_become_idle),
        TEST(session__idle_close_under_way__reopens_for_a_request),
        TEST(session__idle_close_under_way__is_wanted_back),
        TEST(session__server_busy__keeps_its_turn),
        TEST(session__tokens_expired__is_not_retried),
        TEST(session__cut_while_loading__forgets_early_pushes),
        TEST(session__emptied_by_pushes__sends_no_ver),
        TEST(session__away_and_idle__stops_trying),
        TEST(session__read_regularly__with_ver_and_in_full_once_a_day),
        TEST(session__closed_with_requests_waiting__finishes_each_once),
        TEST(drain__said__ends_streams_polls_and_waiting_requests),
        TEST(health__asked__is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

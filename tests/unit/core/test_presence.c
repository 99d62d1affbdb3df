#include "tests/unit/core/helper_core.h"

#define ROMEO "romeo@example.net"
#define NURSE "nurse@example.com"

/* Signs in with presence "listen" and comes live. */
static struct call *listen_live(struct world *w, const char *roster)
{
    struct call *call = c_sign_in(w, JULIET, "secret");
    call->op->in.listen = true;
    c_send(call);
    fake_bind(fake_last(w->up));
    fake_answer(fake_get(fake_last(w->up)), roster, "v1");
    c_expect(call, RG_OK);
    return call;
}

static struct reader *open_now(struct world *w, const struct call *by)
{
    struct call *call;
    struct reader *reader = r_open(w, by, "now", 0, &call);
    c_expect(call, RG_OK);
    return reader;
}

static void presence__wanted__is_sent_while_a_sign_in_wants_it(void **state)
{
    struct world *w = *state;
    struct call *silent = c_live(w, "", NULL);
    struct fake_session *session = fake_last(w->up);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 0);
    struct call *listening = c_sign_in(w, JULIET, "secret");
    listening->op->in.listen = true;
    c_send(listening);
    fake_bind(fake_last(w->up));
    c_expect(listening, RG_OK);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 1);
    assert_true(fake_call_at(session, FAKE_ANNOUNCE, 0)->available);
    c_do(w, RG_OP_SESSION, silent);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 1);
    c_expect(c_do(w, RG_OP_SIGN_OUT, listening), RG_OK);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 2);
    assert_false(fake_call_at(session, FAKE_ANNOUNCE, 1)->available);
}

static void presence__renewed_otherwise__changes(void **state)
{
    struct world *w = *state;
    struct call *by = listen_live(w, "");
    struct fake_session *session = fake_last(w->up);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 1);
    w_run(w, 1000);
    struct call *renew = c_new(w, RG_OP_RENEW, by);
    renew->op->in.listen_set = true;
    c_expect(c_send(renew), RG_OK);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 2);
    /* The older token of the same sign-in does not bring it back. */
    c_expect(c_do(w, RG_OP_SESSION, by), RG_OK);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 2);
}

/* Presence ends with the sign-in that wanted it, though nobody says so. */
static void presence__sign_in_expired__is_withdrawn(void **state)
{
    struct world *w = *state;
    w->config.xmpp.idle_timeout_ms = 7 * 3600 * 1000;
    listen_live(w, "");
    struct fake_session *session = fake_last(w->up);
    struct call *silent = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    struct reader *reader = open_now(w, silent); /* keeps the session from becoming idle */
    w_run(w, 11 * 3600 * 1000);
    struct call *renewed = c_do(w, RG_OP_RENEW, silent);
    c_expect(renewed, RG_OK);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 1);
    w_run(w, 3600 * 1000 + 1000);
    assert_false(session->ended);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 2);
    assert_false(fake_call_at(session, FAKE_ANNOUNCE, 1)->available);
    (void)reader;
}

/* Others that come and go do not push out the one that listens. */
static void presence__many_sign_ins__stays(void **state)
{
    struct world *w = *state;
    struct call *by = listen_live(w, "");
    struct fake_session *session = fake_last(w->up);
    struct reader *reader = open_now(w, by);
    for (int i = 0; i < 100; i++) {
        struct call *script;
        w_run(w, 60 * 1000);
        script = c_send(c_sign_in(w, JULIET, "secret"));
        fake_bind(fake_last(w->up));
        c_expect(script, RG_OK);
    }
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 1);
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "presence.reset", "");
    r_expect(reader, "sync", "");
    r_nothing(reader);
}

/* A stranger's server cannot fill the memory: what is kept is bounded by bytes, and all streams
 * share one greeting. */
static void presence__large__is_bounded_and_shared(void **state)
{
    enum { BIG = 1000, SENT = 6000 };
    struct world *w = *state;
    struct call *by = listen_live(w, "");
    char status[BIG + 1], jid[64];
    struct event_seen event;
    struct reader *readers[2];
    memset(status, 's', BIG);
    status[BIG] = '\0';
    for (int i = 0; i < SENT; i++) {
        (void)snprintf(jid, sizeof(jid), "u%d@example.com", i);
        fake_presence(fake_last(w->up), RG_PRESENCE_AVAILABLE, jid, "r", status);
        fake_presence(fake_last(w->up), RG_PRESENCE_SUBSCRIBE, jid, NULL, status);
    }
    struct rg_user *user = w_user(w, JULIET);
    assert_in_range(user->presences_bytes, 3 * 1024 * 1024, 4 * 1024 * 1024);
    assert_in_range(user->requests_bytes, 900 * 1000, 1024 * 1024);
    for (int i = 0; i < 2; i++)
        readers[i] = open_now(w, by);
    assert_non_null(user->contacts);
    assert_int_equal(atomic_load(&user->contacts->refs), 3);
    for (int i = 0; i < 2; i++) {
        unsigned seen = 0;
        r_pump(readers[i], 4096);
        while (r_next(readers[i], &event)) {
            seen += strcmp(event.type, "presence") == 0;
            free(event.data);
        }
        assert_int_equal(seen, user->n_presences);
    }
    for (int i = 0; i < SENT; i++) {
        (void)snprintf(jid, sizeof(jid), "u%d@example.com", i);
        fake_presence(fake_last(w->up), RG_PRESENCE_UNAVAILABLE, jid, "r", NULL);
    }
    assert_int_equal(user->presences_bytes, 0);
    assert_null(user->contacts);
}

static void presence__session_back__is_sent_again(void **state)
{
    struct world *w = *state;
    listen_live(w, "");
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    w_run(w, 1000);
    fake_bind(fake_last(w->up));
    assert_int_equal(fake_count(fake_last(w->up), FAKE_ANNOUNCE), 0); /* after the get (R7) */
    fake_answer(fake_get(fake_last(w->up)), "", "v1");
    assert_int_equal(fake_count(fake_last(w->up), FAKE_ANNOUNCE), 1);
}

static void request__received__is_kept_once_per_jid(void **state)
{
    struct world *w = *state;
    struct call *by = listen_live(w, ROMEO "||none?|");
    struct fake_session *session = fake_last(w->up);
    struct reader *reader = open_now(w, by);
    r_expect(reader, "subscriptions",
             "{\"incoming\":[],\"outgoing\":[{\"jid\":\"" ROMEO "\"}],\"listening\":true}");
    r_expect(reader, "presence.reset", "{}");
    r_expect(reader, "sync", "");
    fake_presence(session, RG_PRESENCE_SUBSCRIBE, NURSE, NULL, "let me \"in\"\n");
    r_expect(reader, "subscription",
             "{\"type\":\"subscribe\",\"jid\":\"" NURSE "\",\"message\":\"let me "
             "\\\"in\\\"\\n\",\"nick\":null}");
    fake_presence(session, RG_PRESENCE_SUBSCRIBE, NURSE, NULL, "again");
    r_expect(reader, "subscription", "again");
    struct reader *second = open_now(w, by);
    struct event_seen event;
    r_pump(second, 4096);
    assert_true(r_next(second, &event));
    assert_string_equal(event.type, "subscriptions");
    assert_string_equal(event.id, "");
    char *first = strstr(event.data, NURSE);
    assert_non_null(first);
    assert_null(strstr(first + 1, NURSE));
    assert_non_null(strstr(event.data, "\"received_at\":\"1970-01-20T16:13:20Z\""));
    free(event.data);
}

static void request__approved_or_withdrawn__is_gone(void **state)
{
    struct world *w = *state;
    listen_live(w, "");
    struct fake_session *session = fake_last(w->up);
    struct rg_user *user = w_user(w, JULIET);
    fake_presence(session, RG_PRESENCE_SUBSCRIBE, NURSE, NULL, NULL);
    fake_presence(session, RG_PRESENCE_SUBSCRIBE, ROMEO, NULL, NULL);
    assert_true(rg_presence_asked(user, NURSE));
    fake_push(session, NURSE "||to|", "v2");
    assert_true(rg_presence_asked(user, NURSE));
    fake_push(session, NURSE "||both|", "v3");
    assert_false(rg_presence_asked(user, NURSE));
    fake_presence(session, RG_PRESENCE_UNSUBSCRIBE, ROMEO, NULL, NULL);
    assert_false(rg_presence_asked(user, ROMEO));
    assert_int_equal(user->n_requests, 0);
}

static void request__too_many__are_bounded(void **state)
{
    struct world *w = *state;
    listen_live(w, "");
    for (int i = 0; i < 1500; i++) {
        char jid[64];
        (void)snprintf(jid, sizeof(jid), "u%d@example.com", i);
        fake_presence(fake_last(w->up), RG_PRESENCE_SUBSCRIBE, jid, NULL, NULL);
    }
    assert_int_equal(w_user(w, JULIET)->n_requests, 1000);
}

static void subscription__any_kind__is_told(void **state)
{
    static const struct {
        enum rg_presence_type type;
        const char *part;
    } rows[] = {
        {RG_PRESENCE_SUBSCRIBED, "{\"type\":\"subscribed\",\"jid\":\"" NURSE "\""},
        {RG_PRESENCE_UNSUBSCRIBE, "{\"type\":\"unsubscribe\""},
        {RG_PRESENCE_UNSUBSCRIBED, "{\"type\":\"unsubscribed\""},
        {RG_PRESENCE_ERROR, "\"xmpp\":{\"condition\":\"remote-server-not-found\""},
    };
    struct world *w = *state;
    struct call *by = listen_live(w, "");
    struct reader *reader = open_now(w, by);
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "presence.reset", "");
    r_expect(reader, "sync", "");
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        fake_presence(fake_last(w->up), rows[i].type, NURSE, NULL, NULL);
        r_expect(reader, "subscription", rows[i].part);
    }
}

static void presence__received__goes_to_listeners_only(void **state)
{
    struct world *w = *state;
    struct call *listening = listen_live(w, "");
    struct fake_session *session = fake_last(w->up);
    struct call *silent = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    c_expect(silent, RG_OK);
    struct reader *deaf = open_now(w, silent);
    struct reader *reader = open_now(w, listening);
    r_expect(deaf, "subscriptions", "\"listening\":true");
    r_expect(deaf, "sync", "");
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "presence.reset", "");
    r_expect(reader, "sync", "");
    fake_presence(session, RG_PRESENCE_AVAILABLE, ROMEO, "orchard", "here");
    r_expect(reader, "presence",
             "{\"jid\":\"" ROMEO "\",\"resource\":\"orchard\",\"type\":\"available\","
             "\"show\":null,\"status\":\"here\",\"priority\":0}");
    r_nothing(deaf);
}

static void presence__known__greets_a_new_stream(void **state)
{
    struct world *w = *state;
    struct call *by = listen_live(w, "");
    struct fake_session *session = fake_last(w->up);
    fake_presence(session, RG_PRESENCE_AVAILABLE, ROMEO, "orchard", "one");
    fake_presence(session, RG_PRESENCE_AVAILABLE, ROMEO, "orchard", "two");
    fake_presence(session, RG_PRESENCE_AVAILABLE, ROMEO, "balcony", "three");
    fake_presence(session, RG_PRESENCE_AVAILABLE, NURSE, NULL, "four");
    fake_presence(session, RG_PRESENCE_UNAVAILABLE, NURSE, NULL, NULL);
    struct reader *reader = open_now(w, by);
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "presence.reset", "");
    r_expect(reader, "presence", "two");
    r_expect(reader, "presence", "three");
    r_expect(reader, "sync", "");
    r_nothing(reader);
    /* The session ends: all that was known of others is void. */
    fake_end(session, RG_E_UNREACHABLE);
    r_expect(reader, "presence.reset", "{}");
    r_expect(reader, "session", "resuming");
    r_nothing(reader);
    assert_int_equal(w_user(w, JULIET)->n_presences, 0);
}

/* A greeting far larger than the queue still comes whole, before sync. */
static void presence__many_contacts__greet_whole(void **state)
{
    enum { CONTACTS = 3000 };
    struct world *w = *state;
    struct call *call;
    struct event_seen event;
    struct call *by = listen_live(w, "");
    for (int i = 0; i < CONTACTS; i++) {
        char jid[64];
        (void)snprintf(jid, sizeof(jid), "u%d@example.com", i);
        fake_presence(fake_last(w->up), RG_PRESENCE_AVAILABLE, jid, "r", "status");
    }
    struct reader *reader = r_stream(w, by, "now", 0, 4096, &call);
    unsigned seen = 0;
    r_pump(reader, 4096);
    while (r_next(reader, &event)) {
        seen += strcmp(event.type, "presence") == 0;
        if (strcmp(event.type, "sync") == 0)
            assert_int_equal(seen, CONTACTS);
        free(event.data);
    }
    assert_int_equal(seen, CONTACTS);
}

/* Presence that finds no room is a gap as well: reset and all that is known come again. */
static void presence__overflow__is_said_again(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct event_seen event;
    struct call *by = listen_live(w, "");
    struct reader *reader = r_stream(w, by, "now", 0, 1500, &call);
    for (int i = 0; i < 40; i++) {
        char status[16];
        (void)snprintf(status, sizeof(status), "s%d", i);
        fake_presence(fake_last(w->up), RG_PRESENCE_AVAILABLE, i % 2 ? ROMEO : NURSE, "r",
                      status);
    }
    char last[2][16] = {"", ""};
    r_pump(reader, 4096);
    while (r_next(reader, &event)) {
        if (strcmp(event.type, "presence.reset") == 0)
            last[0][0] = last[1][0] = '\0';
        if (strcmp(event.type, "presence") == 0)
            assert_int_equal(sscanf(strstr(event.data, "\"status\":"), "\"status\":\"%15[^\"]",
                                    last[strstr(event.data, ROMEO) != NULL]),
                             1);
        free(event.data);
    }
    assert_string_equal(last[0], "s38");
    assert_string_equal(last[1], "s39");
}

/* The older tokens of a sign-in stay valid, and say nothing about presence any more. */
static void presence__renewed_in_one_second__is_what_was_said_last(void **state)
{
    struct world *w = *state;
    struct call *by = listen_live(w, "");
    struct fake_session *session = fake_last(w->up);
    struct call *silent = c_new(w, RG_OP_RENEW, by);
    silent->op->in.listen_set = true;
    c_expect(c_send(silent), RG_OK);
    assert_false(fake_call_at(session, FAKE_ANNOUNCE, 1)->available);
    struct call *shown = c_do(w, RG_OP_SESSION, by);
    assert_int_equal(shown->op->claims.presence, RG_TOKEN_SILENT);
    struct call *loud = c_new(w, RG_OP_RENEW, by);
    loud->op->in.listen_set = loud->op->in.listen = true;
    c_expect(c_send(loud), RG_OK);
    c_expect(c_do(w, RG_OP_SESSION, silent), RG_OK);
    c_expect(c_do(w, RG_OP_SESSION, by), RG_OK);
    assert_true(fake_call_at(session, FAKE_ANNOUNCE, 2)->available);
    assert_int_equal(fake_count(session, FAKE_ANNOUNCE), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(presence__wanted__is_sent_while_a_sign_in_wants_it),
        TEST(presence__renewed_otherwise__changes),
        TEST(presence__sign_in_expired__is_withdrawn),
        TEST(presence__many_sign_ins__stays),
        TEST(presence__large__is_bounded_and_shared),
        TEST(presence__session_back__is_sent_again),
        TEST(request__received__is_kept_once_per_jid),
        TEST(request__approved_or_withdrawn__is_gone),
        TEST(request__too_many__are_bounded),
        TEST(subscription__any_kind__is_told),
        TEST(presence__received__goes_to_listeners_only),
        TEST(presence__renewed_in_one_second__is_what_was_said_last),
        TEST(presence__known__greets_a_new_stream),
        TEST(presence__many_contacts__greet_whole),
        TEST(presence__overflow__is_said_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

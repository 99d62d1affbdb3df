#include "tests/unit/core/helper_core.h"

#define ROMEO "romeo@example.net"
#define NURSE "nurse@example.com"

static struct reader *open_ok(struct world *w, const struct call *by, const char *since)
{
    struct call *call;
    struct reader *reader = r_open(w, by, since, 0, &call);
    c_expect(call, RG_OK);
    return reader;
}

static void head(struct world *w, char out[RG_VERSION_SIZE])
{
    rg_account_version(w_account(w, JULIET), out);
}

/* ---- beginning */

static void stream__opened__begins_with_the_roster(void **state)
{
    struct world *w = *state;
    struct event_seen event;
    struct call *by = c_live(w, ROMEO "|Romeo|both|Friends", "v1");
    struct reader *reader = open_ok(w, by, NULL);
    r_pump(reader, 4096);
    assert_memory_equal(reader->text.data, "retry: ", 7);
    assert_true(r_next(reader, &event));
    assert_string_equal(event.type, "roster");
    assert_string_equal(event.id, by->op->version);
    assert_non_null(strstr(event.data, "\"name\":\"Romeo\""));
    free(event.data);
    r_expect(reader, "subscriptions", "{\"incoming\":[],\"outgoing\":[],\"listening\":false}");
    assert_true(r_next(reader, &event));
    assert_string_equal(event.type, "sync");
    assert_string_equal(event.id, by->op->version);
    assert_non_null(strstr(event.data, "\"live\",\"resumed\":false"));
    free(event.data);
    r_nothing(reader);
    assert_true(reader->parked);
}

static void stream__resumed__gets_what_was_missed_from_any_point(void **state)
{
    enum { CHANGES = 30 };
    struct world *w = *state;
    char versions[CHANGES + 1][RG_VERSION_SIZE];
    struct call *by = c_live(w, "", NULL);
    head(w, versions[0]);
    for (int i = 0; i < CHANGES; i++) {
        char item[80];
        (void)snprintf(item, sizeof(item), "c%d@example.com|C|none|", i / 2);
        if (i % 2 == 0)
            fake_push(fake_last(w->up), item, "v");
        else
            fake_push_remove(fake_last(w->up), strtok(item, "|"), "v");
        head(w, versions[i + 1]);
    }
    for (int from = 0; from <= CHANGES; from++) {
        struct reader *reader = open_ok(w, by, versions[from]);
        struct event_seen event;
        r_pump(reader, 4096);
        for (int i = from; i < CHANGES; i++) {
            assert_true(r_next(reader, &event));
            assert_string_equal(event.type, i % 2 == 0 ? "roster.set" : "roster.remove");
            assert_string_equal(event.id, versions[i + 1]);
            free(event.data);
        }
        r_expect(reader, "subscriptions", "");
        assert_true(r_next(reader, &event));
        assert_string_equal(event.type, "sync");
        assert_string_equal(event.id, versions[CHANGES]);
        assert_non_null(strstr(event.data, "\"resumed\":true"));
        free(event.data);
        r_nothing(reader);
        r_leave(reader);
    }
}

static void stream__unknown_version__gets_the_roster(void **state)
{
    static const char *const unknown[] = {"0123456789abcdef.0123456789abcdef-1", "nonsense",
                                          ""};
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", NULL);
    for (size_t i = 0; i < RG_ARRAY_LEN(unknown); i++) {
        struct reader *reader = open_ok(w, by, unknown[i]);
        r_expect(reader, "roster", "Romeo");
        r_expect(reader, "subscriptions", "");
        r_expect(reader, "sync", "\"resumed\":false");
    }
}

static void stream__since_now__gets_sync_only(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", NULL);
    struct reader *reader = open_ok(w, by, "now");
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "sync", "\"resumed\":false");
    r_nothing(reader);
}

/* More was missed than the queue holds: the roster instead, and it says so. */
static void stream__resumed_too_far_back__gets_the_roster(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct call *by = c_live(w, "", NULL);
    for (int i = 0; i < 50; i++) {
        char item[80];
        (void)snprintf(item, sizeof(item), "c%d@example.com|C|none|", i);
        fake_push(fake_last(w->up), item, "v");
    }
    struct reader *reader = r_stream(w, by, by->op->version, 0, 4096, &call);
    c_expect(call, RG_OK);
    r_expect(reader, "roster", "c49@example.com");
    r_expect(reader, "session", "live");
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "sync", "\"resumed\":false");
    r_nothing(reader);
}

static void stream__types__leaves_out_the_others(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", NULL);
    struct reader *reader = r_open(w, by, NULL, RG_EVENT_ROSTER_REMOVE, &call);
    r_expect(reader, "roster", "");
    r_expect(reader, "sync", "");
    fake_push(fake_last(w->up), NURSE "|Nurse|none|", "v2");
    r_nothing(reader);
    fake_push_remove(fake_last(w->up), NURSE, "v3");
    r_expect(reader, "roster.remove", NURSE);
    r_nothing(reader);
}

static void stream__server_away__opens_stale(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", NULL);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    struct reader *reader = open_ok(w, by, NULL);
    r_expect(reader, "roster", "Romeo");
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "session", "\"resuming\",\"reason\":\"xmpp-unreachable\"");
    r_expect(reader, "sync", "\"resuming\"");
}

static void stream__nothing_cached__is_refused(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct call *by = c_live(w, "", NULL);
    c_expect(by, RG_OK);
    by->op->out.claims.user[0] = 'x'; /* nobody has read this user's roster */
    r_open(w, by, NULL, 0, &call);
    c_pending(call);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    c_expect(call, RG_E_UNREACHABLE);
    assert_true(call->op->err.retry_after_s > 0);
}

static void stream__roster_not_found__waits_for_the_first_push(void **state)
{
    struct world *w = *state;
    struct event_seen event;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    fake_answer_error(fake_get(fake_last(w->up)), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    struct reader *reader = open_ok(w, by, NULL);
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "session", "\"live\",\"reason\":\"roster-not-found\"");
    assert_true(r_next(reader, &event));
    assert_string_equal(event.type, "sync");
    assert_string_equal(event.id, "");
    assert_non_null(strstr(event.data, "\"version\":null"));
    free(event.data);
    fake_push(fake_last(w->up), NURSE "|Nurse|none|", "v1");
    r_expect(reader, "roster", NURSE);
    fake_push(fake_last(w->up), ROMEO "|Romeo|none|", "v2");
    r_expect(reader, "roster.set", ROMEO);
}

/* The roster goes away while it is watched: told once, and no old version lives on. */
static void stream__roster_vanishes__is_told(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, ROMEO "|Romeo|both|", "v1");
    struct reader *reader = open_ok(w, by, "now");
    r_expect(reader, "subscriptions", "");
    r_expect(reader, "sync", "");
    struct call *poll = c_changes(w, by, by->op->version, 10, 60000);
    struct call *read = c_new(w, RG_OP_ROSTER, by);
    read->op->in.refresh = true;
    c_send(read);
    fake_answer_error(fake_get(fake_last(w->up)), RG_E_XMPP, RG_XMPP_ITEM_NOT_FOUND);
    c_expect(read, RG_E_ROSTER_NOT_FOUND);
    c_expect(poll, RG_E_ROSTER_NOT_FOUND);
    r_expect(reader, "session", "roster-not-found");
    r_nothing(reader);
    assert_true(c_token_dead(w, by, RG_OK)); /* the sign-in goes on */
    fake_push(fake_last(w->up), ROMEO "|Romeo|both|", "v2");
    r_expect(reader, "roster", ROMEO);
    c_expect(c_changes(w, by, by->op->version, 10, 0), RG_E_VERSION_EXPIRED);
}

/* ---- limits and ends */

static void stream__too_many_of_a_user__is_refused(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct call *by = c_live(w, "", NULL);
    struct reader *first = open_ok(w, by, NULL);
    for (int i = 1; i < 16; i++)
        open_ok(w, by, NULL);
    r_open(w, by, NULL, 0, &call);
    c_expect(call, RG_E_RATE);
    assert_true(call->op->err.retry_after_s > 0);
    r_leave(first);
    open_ok(w, by, NULL);
}

static void stream__left__lets_go_of_the_user(void **state)
{
    struct world *w = *state;
    struct call *by = c_live(w, "", NULL);
    struct reader *reader = open_ok(w, by, NULL);
    int64_t streams = rg_metric_value(w->core->metrics.streams);
    fake_end(fake_last(w->up), RG_E_UNREACHABLE);
    w_run(w, 1000);
    fake_end(fake_last(w->up), RG_E_UNAUTHORIZED);
    assert_non_null(w_user(w, JULIET));
    r_leave(reader);
    w_run(w, 1);
    assert_null(w_user(w, JULIET));
    assert_int_equal(rg_metric_value(w->core->metrics.streams), streams - 1);
}

/* ---- overflow */

static void stream__overflows__says_again_what_was_lost(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct event_seen event;
    char version[RG_VERSION_SIZE];
    struct call *by = c_live(w, "", NULL);
    struct reader *reader = r_stream(w, by, NULL, 0, 1024, &call);
    for (int i = 0; i < 20; i++) {
        char item[80];
        (void)snprintf(item, sizeof(item), "c%d@example.com|C|none|", i);
        fake_push(fake_last(w->up), item, "v");
    }
    head(w, version);
    r_pump(reader, 4096);
    assert_memory_equal(reader->text.data, "retry: ", 7);
    bool synced = false;
    char last[RG_VERSION_SIZE] = "";
    while (r_next(reader, &event)) {
        synced = synced || strcmp(event.type, "sync") == 0;
        if (event.id[0] != '\0')
            memcpy(last, event.id, sizeof(last));
        free(event.data);
    }
    assert_true(synced); /* it was thrown away before it was sent, so it came again */
    assert_string_equal(last, version);
    r_nothing(reader);
}

/* A client of the hub: what it holds after all it was sent. */
struct model {
    char items[64][128];
    size_t n;
    uint64_t seq;
    bool synced;
};

static void model_remove(struct model *model, const char *jid)
{
    char start[96];
    int len = snprintf(start, sizeof(start), "{\"jid\":\"%s\"", jid);
    for (size_t i = 0; i < model->n; i++)
        if (strncmp(model->items[i], start, (size_t)len) == 0) {
            memcpy(model->items[i], model->items[--model->n], sizeof(model->items[i]));
            return;
        }
}

/* Takes the item that starts at text (no braces inside); returns what follows it. */
static const char *model_set(struct model *model, const char *text)
{
    const char *end = strchr(text, '}');
    char jid[96];
    assert_non_null(end);
    size_t len = (size_t)(end - text) + 1;
    assert_true(len < sizeof(model->items[0]));
    assert_int_equal(sscanf(text, "{\"jid\":\"%95[^\"]", jid), 1);
    model_remove(model, jid);
    assert_true(model->n < RG_ARRAY_LEN(model->items));
    memcpy(model->items[model->n], text, len);
    model->items[model->n++][len] = '\0';
    return end + 1;
}

static void model_take(struct model *model, const struct event_seen *event)
{
    struct rg_version version;
    if (event->id[0] != '\0') {
        assert_true(rg_version_parse(&version, event->id, strlen(event->id)));
        assert_true(version.at.seq >= model->seq);
        if (strncmp(event->type, "roster.", 7) == 0)
            assert_int_equal(version.at.seq, model->seq + 1); /* no gap */
        model->seq = version.at.seq;
    }
    if (strcmp(event->type, "roster") == 0) {
        const char *at = strstr(event->data, "\"items\":[");
        model->n = 0;
        for (at += 9; *at == '{' || *at == ',';)
            at = *at == ',' ? at + 1 : model_set(model, at);
    } else if (strcmp(event->type, "roster.set") == 0) {
        model_set(model, strstr(event->data, "\"item\":") + 7);
    } else if (strcmp(event->type, "roster.remove") == 0) {
        char jid[96];
        assert_int_equal(sscanf(strstr(event->data, "\"jid\":"), "\"jid\":\"%95[^\"]", jid), 1);
        model_remove(model, jid);
    } else if (strcmp(event->type, "sync") == 0) {
        model->synced = true;
    }
}

static void model_pump(struct model *model, struct reader *reader, size_t max)
{
    struct event_seen event;
    char buf[512];
    size_t len = 0;
    if (max == 0) {
        r_pump(reader, sizeof(buf));
    } else if (rg_stream_take(reader->stream, buf, max, &len) == RG_TAKE_DATA) {
        rg_buf_append(&reader->text, buf, len);
    }
    while (r_next(reader, &event)) {
        model_take(model, &event);
        free(event.data);
    }
}

static void model_equals(const struct model *model, const struct rg_account *account)
{
    assert_int_equal(model->seq, account->head.seq);
    assert_int_equal(model->n, account->roster->n);
    for (size_t i = 0; i < account->roster->n; i++) {
        RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
        bool found = false;
        rg_item_json(&json, account->roster->items[i]);
        for (size_t m = 0; m < model->n; m++)
            found = found || strcmp(model->items[m], json.data) == 0;
        assert_true(found);
    }
}

static unsigned draw(unsigned *seed, unsigned bound)
{
    *seed = *seed * 1103515245U + 12345U;
    return (*seed >> 16) % bound;
}

static void push_random(struct fake_session *session, unsigned *seed)
{
    static const char *const subscriptions[] = {"none", "to", "from", "both"};
    char item[128];
    unsigned contact = draw(seed, 12);
    if (draw(seed, 3) == 0) {
        (void)snprintf(item, sizeof(item), "c%u@example.com", contact);
        fake_push_remove(session, item, "v");
        return;
    }
    (void)snprintf(item, sizeof(item), "c%u@example.com|N%u|%s|G%u", contact, draw(seed, 3),
                   subscriptions[draw(seed, 4)], draw(seed, 2));
    fake_push(session, item, "v");
}

/* However small the queue and however slow the reader: what was received always adds up to the
 * roster once all is read; ids never go backwards; between two rosters no change is missing. */
static void stream__any_pace__adds_up_to_the_roster(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct call *by = c_live(w, "", NULL);
    int64_t collapsed = rg_metric_value(w->core->metrics.collapsed);
    for (unsigned round = 1; round <= 300; round++) {
        unsigned seed = round;
        struct model model = {.n = 0};
        size_t room = 300 + draw(&seed, 3000);
        struct reader *reader = r_stream(w, by, NULL, 0, room, &call);
        c_expect(call, RG_OK);
        for (int step = 0; step < 60; step++) {
            for (unsigned n = draw(&seed, 6); n > 0; n--)
                push_random(fake_last(w->up), &seed);
            model_pump(&model, reader, 1 + draw(&seed, 500));
            if (draw(&seed, 10) == 0) {
                model_pump(&model, reader, 0);
                assert_true(model.synced);
                model_equals(&model, w_account(w, JULIET));
            }
        }
        model_pump(&model, reader, 0);
        model_equals(&model, w_account(w, JULIET));
        r_leave(reader);
    }
    assert_true(rg_metric_value(w->core->metrics.collapsed) - collapsed > 100);
}

/* The same over cuts: the stream goes on through sessions whose answers differ. */
static void stream__over_cuts__adds_up_to_the_roster(void **state)
{
    struct world *w = *state;
    struct call *call;
    struct call *by = c_live(w, "", NULL);
    struct model model = {.n = 0};
    unsigned seed = 7;
    struct reader *reader = r_stream(w, by, NULL, 0, 2000, &call);
    for (int round = 0; round < 100; round++) {
        RG_CLEANUP(rg_buf_fini) struct rg_buf roster = RG_BUF_INIT;
        for (unsigned n = draw(&seed, 5); n > 0; n--)
            push_random(fake_last(w->up), &seed);
        fake_end(fake_last(w->up), RG_E_UNREACHABLE);
        while (fake_last(w->up)->ended)
            w_run(w, 50);
        fake_bind(fake_last(w->up));
        rg_buf_puts(&roster, "");
        for (unsigned i = 0; i < 12; i++)
            if (draw(&seed, 2) == 0)
                rg_buf_printf(&roster, "%sc%u@example.com|N%u|none|", roster.len ? ";" : "", i,
                              draw(&seed, 3));
        fake_answer(fake_get(fake_last(w->up)), roster.len != 0 ? roster.data : "", "v");
        model_pump(&model, reader, round % 7 == 0 ? 0 : 300);
    }
    model_pump(&model, reader, 0);
    model_equals(&model, w_account(w, JULIET));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stream__opened__begins_with_the_roster),
        TEST(stream__resumed__gets_what_was_missed_from_any_point),
        TEST(stream__unknown_version__gets_the_roster),
        TEST(stream__since_now__gets_sync_only),
        TEST(stream__resumed_too_far_back__gets_the_roster),
        TEST(stream__types__leaves_out_the_others),
        TEST(stream__server_away__opens_stale),
        TEST(stream__nothing_cached__is_refused),
        TEST(stream__roster_not_found__waits_for_the_first_push),
        TEST(stream__roster_vanishes__is_told),
        TEST(stream__too_many_of_a_user__is_refused),
        TEST(stream__left__lets_go_of_the_user),
        TEST(stream__overflows__says_again_what_was_lost),
        TEST(stream__any_pace__adds_up_to_the_roster),
        TEST(stream__over_cuts__adds_up_to_the_roster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "gateway/base/random.h"
#include "tests/unit/core/helper_core.h"

/* The queue alone, and between two threads. */

static struct rg_event *plain(const char *data)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf json = RG_BUF_INIT;
    rg_buf_puts(&json, data);
    struct rg_event *event = rg_event_plain(RG_EVENT_SUBSCRIPTION, &json);
    assert_non_null(event);
    return event;
}

static void count(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static struct rg_stream *make(unsigned types, size_t max_bytes, atomic_uint *woken)
{
    struct rg_claims claims = {.presence = RG_TOKEN_LISTEN};
    struct rg_stream_options options = {.types = types};
    struct rg_stream *stream = rg_stream_create(&claims, &options, max_bytes, count, woken);
    assert_non_null(stream);
    return stream;
}

static bool push(struct rg_stream *stream, const char *data)
{
    struct rg_event *event = plain(data);
    bool fits = rg_stream_push(stream, event);
    rg_event_unref(event);
    return fits;
}

static void take__any_split__gives_the_same_bytes(void **state)
{
    char whole[4096];
    size_t total = 0;
    atomic_uint woken = 0;
    (void)state;
    for (size_t step = 1; step <= 400; step++) {
        struct rg_stream *stream = make(RG_EVENT_ALL, 100000, &woken);
        char got[4096];
        size_t n = 0;
        size_t len;
        for (int i = 0; i < 12; i++) {
            char data[32];
            (void)snprintf(data, sizeof(data), "{\"n\":%d}", i * i * i);
            assert_true(push(stream, data));
        }
        size_t queued = rg_stream_queued(stream);
        while (rg_stream_take(stream, got + n, step, &len) == RG_TAKE_DATA) {
            assert_in_range(len, 1, step);
            n += len;
            assert_int_equal(rg_stream_queued(stream), queued - n);
        }
        assert_int_equal(n, queued);
        if (step == 1) {
            total = n;
            memcpy(whole, got, n);
        }
        assert_int_equal(n, total);
        assert_memory_equal(got, whole, n);
        rg_stream_unref(stream);
    }
}

static void push__parked__wakes_once(void **state)
{
    char buf[256];
    size_t len;
    atomic_uint woken = 0;
    struct rg_stream *stream = make(RG_EVENT_ALL, 4096, &woken);
    (void)state;
    push(stream, "1");
    assert_int_equal(woken, 0); /* nobody waits yet */
    assert_int_equal(rg_stream_take(stream, buf, sizeof(buf), &len), RG_TAKE_DATA);
    push(stream, "2");
    assert_int_equal(woken, 0); /* read, but not parked */
    assert_int_equal(rg_stream_take(stream, buf, sizeof(buf), &len), RG_TAKE_DATA);
    assert_int_equal(rg_stream_take(stream, buf, sizeof(buf), &len), RG_TAKE_PARKED);
    assert_int_equal(len, 0);
    push(stream, "3");
    push(stream, "4");
    rg_stream_bye(stream, RG_BYE_ROTATE);
    assert_int_equal(woken, 1);
    rg_stream_unref(stream);
}

static void push__unwanted__is_left_out_and_wakes_nobody(void **state)
{
    char buf[256];
    size_t len;
    atomic_uint woken = 0;
    struct rg_stream *stream = make(RG_EVENT_PING, 4096, &woken);
    (void)state;
    assert_int_equal(rg_stream_take(stream, buf, sizeof(buf), &len), RG_TAKE_PARKED);
    assert_true(push(stream, "1"));
    assert_int_equal(woken, 0);
    assert_int_equal(rg_stream_queued(stream), 0);
    struct rg_event *ping = rg_event_ping(30);
    assert_true(rg_stream_push(stream, ping));
    rg_event_unref(ping);
    assert_int_equal(woken, 1);
    rg_stream_unref(stream);
}

static void forget_reader__parked__is_never_woken(void **state)
{
    char buf[256];
    size_t len;
    atomic_uint woken = 0;
    struct rg_stream *stream = make(RG_EVENT_ALL, 4096, &woken);
    (void)state;
    assert_int_equal(rg_stream_take(stream, buf, sizeof(buf), &len), RG_TAKE_PARKED);
    rg_stream_forget_reader(stream);
    push(stream, "1");
    rg_stream_bye(stream, RG_BYE_DRAIN);
    assert_int_equal(woken, 0);
    rg_stream_unref(stream);
}

static void bye__each_reason__ends_with_the_first(void **state)
{
    static const struct {
        enum rg_bye reason;
        const char *data;
    } rows[] = {
        {RG_BYE_DRAIN, "{\"reason\":\"drain\",\"reconnect\":true}"},
        {RG_BYE_ROTATE, "{\"reason\":\"rotate\",\"reconnect\":true}"},
        {RG_BYE_EXPIRED, "{\"reason\":\"expired\",\"reconnect\":true}"},
        {RG_BYE_SIGNED_OUT, "{\"reason\":\"signed-out\",\"reconnect\":false}"},
        {RG_BYE_CREDENTIALS, "{\"reason\":\"credentials\",\"reconnect\":false}"},
        {RG_BYE_SLOW, "{\"reason\":\"slow\",\"reconnect\":true}"},
    };
    (void)state;
    assert_int_equal(RG_ARRAY_LEN(rows), RG_BYE_COUNT);
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        char buf[512];
        size_t len;
        atomic_uint woken = 0;
        struct rg_stream *stream = make(0, 4096, &woken);
        assert_int_equal(rg_stream_reason(stream), RG_BYE_COUNT);
        rg_stream_bye(stream, rows[i].reason);
        rg_stream_bye(stream, RG_BYE_ROTATE);
        assert_int_equal(rg_stream_reason(stream), rows[i].reason);
        assert_true(push(stream, "late"));
        rg_stream_force(stream, NULL);
        assert_int_equal(rg_stream_take(stream, buf, sizeof(buf) - 1, &len), RG_TAKE_DATA);
        buf[len] = '\0';
        assert_non_null(strstr(buf, rows[i].data));
        assert_null(strstr(strstr(buf, "event: ") + 1, "event: "));
        assert_int_equal(rg_stream_take(stream, buf, sizeof(buf), &len), RG_TAKE_END);
        rg_stream_unref(stream);
    }
}

static void empty__begun_event__is_kept_whole(void **state)
{
    char buf[512];
    size_t len;
    atomic_uint woken = 0;
    (void)state;
    for (size_t begun = 0; begun < 30; begun++) {
        struct rg_stream *stream = make(RG_EVENT_ALL, 4096, &woken);
        size_t n = 0;
        push(stream, "first");
        push(stream, "second");
        if (begun > 0) {
            assert_int_equal(rg_stream_take(stream, buf, begun, &n), RG_TAKE_DATA);
            assert_int_equal(n, begun);
        }
        assert_int_equal(rg_stream_empty(stream), RG_EVENT_SUBSCRIPTION);
        struct rg_event *third = plain("third");
        rg_stream_force(stream, third);
        rg_event_unref(third);
        while (rg_stream_take(stream, buf + n, sizeof(buf) - 1 - n, &len) == RG_TAKE_DATA)
            n += len;
        buf[n] = '\0';
        assert_string_equal(buf, begun == 0 ? "event: subscription\ndata: third\n\n"
                                            : "event: subscription\ndata: first\n\nevent: "
                                              "subscription\ndata: third\n\n");
        rg_stream_unref(stream);
    }
}

static void push__full__refuses_and_queues_nothing(void **state)
{
    atomic_uint woken = 0;
    struct rg_stream *stream = make(RG_EVENT_ALL, 100, &woken);
    (void)state;
    assert_true(push(stream, "0123456789"));
    size_t queued = rg_stream_queued(stream);
    assert_true(push(stream, "0123456789"));
    assert_false(push(stream, "0123456789"));
    assert_int_equal(rg_stream_queued(stream), 2 * queued);
    assert_false(rg_stream_push(stream, NULL));
    rg_stream_unref(stream);
}

/* A roster counts as one reference, however large. */
static void push__large_roster__fits(void **state)
{
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *roster = NULL;
    RG_CLEANUP(rg_buf_fini) struct rg_buf text = RG_BUF_INIT;
    atomic_uint woken = 0;
    size_t changes;
    bool reset;
    (void)state;
    for (int i = 0; i < 500; i++)
        rg_buf_printf(&text, "%sc%d@example.com|Somebody|both|Group", i ? ";" : "", i);
    roster = fake_roster(text.data);
    struct rg_account *account = rg_account_create(JULIET);
    assert_int_equal(rg_account_replace(account, roster, 1, &changes, &reset), RG_OK);
    struct rg_snapshot *snapshot = rg_snapshot_create(account);
    struct rg_event *event = rg_event_roster(snapshot);
    struct rg_stream *stream = make(RG_EVENT_ALL, 4096, &woken);
    assert_true(event->len > 4096);
    assert_true(rg_stream_push(stream, event));
    assert_true(rg_stream_push(stream, event));
    rg_event_unref(event);
    rg_snapshot_unref(snapshot);
    rg_account_unref(account);
    rg_stream_unref(stream);
}

/* One thread pushes, one takes and parks, as core and event loop do. Nothing is lost, no wake
 * is missed or doubled. */
struct pair {
    struct rg_stream *stream;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned wakes; /* under mutex */
};

enum { PAIR_EVENTS = 20000 };

static void pair_wake(void *arg)
{
    struct pair *pair = arg;
    pthread_mutex_lock(&pair->mutex);
    pair->wakes++;
    pthread_cond_signal(&pair->cond);
    pthread_mutex_unlock(&pair->mutex);
}

static void *pair_push(void *arg)
{
    struct pair *pair = arg;
    struct rg_event *event = plain("{}");
    for (int i = 0; i < PAIR_EVENTS; i++)
        while (!rg_stream_push(pair->stream, event))
            sched_yield();
    rg_event_unref(event);
    rg_stream_bye(pair->stream, RG_BYE_ROTATE);
    rg_stream_unref(pair->stream);
    return NULL;
}

static void threads__push_and_take__lose_nothing(void **state)
{
    struct pair pair = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct rg_claims claims = {.presence = RG_TOKEN_SILENT};
    struct rg_stream_options options = {.types = RG_EVENT_ALL};
    struct rg_event *one = plain("{}");
    struct rg_event *last = rg_event_bye(RG_BYE_ROTATE);
    pthread_t thread;
    char buf[777];
    size_t len;
    size_t total = 0;
    bool over = false;
    (void)state;
    pair.stream = rg_stream_create(&claims, &options, 2000, pair_wake, &pair);
    rg_stream_ref(pair.stream);
    assert_int_equal(pthread_create(&thread, NULL, pair_push, &pair), 0);
    while (!over) {
        switch (rg_stream_take(pair.stream, buf, sizeof(buf), &len)) {
        case RG_TAKE_DATA:
            total += len;
            break;
        case RG_TAKE_PARKED:
            pthread_mutex_lock(&pair.mutex);
            while (pair.wakes == 0)
                pthread_cond_wait(&pair.cond, &pair.mutex);
            assert_int_equal(pair.wakes, 1);
            pair.wakes = 0;
            pthread_mutex_unlock(&pair.mutex);
            break;
        case RG_TAKE_END:
            over = true;
        }
    }
    pthread_join(thread, NULL);
    assert_int_equal(total, PAIR_EVENTS * one->len + last->len);
    rg_stream_forget_reader(pair.stream);
    rg_stream_unref(pair.stream);
    rg_event_unref(one);
    rg_event_unref(last);
}

static void event__parsed_and_written__fit_together(void **state)
{
    static const char *const names[] = {"roster",        "roster.set",   "roster.remove",
                                        "subscriptions", "subscription", "presence.reset",
                                        "presence",      "sync",         "session",
                                        "ping",          "bye"};
    (void)state;
    for (unsigned i = 0; i < RG_ARRAY_LEN(names); i++)
        assert_int_equal(rg_event_type_parse(names[i], strlen(names[i])), 1U << i);
    assert_int_equal(rg_event_type_parse("rosters", 7), 0);
    assert_int_equal(rg_event_type_parse("roster.set", 6), RG_EVENT_ROSTER);
    assert_int_equal(rg_event_type_parse("", 0), 0);
}

/* Nothing that a peer wrote can start a line of its own (threat T13). */
static void event__hostile_name__stays_on_its_line(void **state)
{
    const char *const groups[] = {"a\nid: 7\n\nevent: bye\ndata: {}"};
    struct rg_item_spec spec = {.jid = "x@example.com",
                                .name = "\r\nid: 1\r\revent: bye\n\n\xE2\x80\xA8",
                                .groups = groups,
                                .n_groups = 1};
    struct rg_account *account = rg_account_create(JULIET);
    bool changed;
    (void)state;
    assert_int_equal(
        rg_account_push_take(account, rg_item_create(&spec), spec.jid, 1, &changed), RG_OK);
    struct rg_event *event = rg_event_change(rg_account_change(account, 0), "v");
    size_t lines = 0;
    for (size_t i = 0; i < event->len; i++) {
        assert_int_not_equal(event->data[i], '\r');
        lines += event->data[i] == '\n';
    }
    assert_int_equal(lines, 4); /* id, event, data, the empty one */
    rg_event_unref(event);
    rg_account_unref(account);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(take__any_split__gives_the_same_bytes),
        cmocka_unit_test(push__parked__wakes_once),
        cmocka_unit_test(push__unwanted__is_left_out_and_wakes_nobody),
        cmocka_unit_test(forget_reader__parked__is_never_woken),
        cmocka_unit_test(bye__each_reason__ends_with_the_first),
        cmocka_unit_test(empty__begun_event__is_kept_whole),
        cmocka_unit_test(push__full__refuses_and_queues_nothing),
        cmocka_unit_test(push__large_roster__fits),
        cmocka_unit_test(threads__push_and_take__lose_nothing),
        cmocka_unit_test(event__parsed_and_written__fit_together),
        cmocka_unit_test(event__hostile_name__stays_on_its_line),
    };
    struct rg_err err;
    if (rg_random_init(&err) != RG_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

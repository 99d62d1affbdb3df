#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/core/core.h"
#include "http/events_options.h"
#include "tests/unit/http/helper_headers.h"

static const char *const PARAMS[] = {"since", "types", "ping", NULL};

static enum rg_code read_options(const char *name, const char *value, const char *last,
                                 struct rg_stream_options *out, int64_t *ping)
{
    struct rg_query query = {.n = 0};
    struct rg_headers headers = {.n = 0};
    struct rg_err err = RG_ERR_INIT;
    if (name != NULL)
        assert_int_equal(
            rg_query_add(&query, PARAMS, name, strlen(name), value, strlen(value), &err),
            RG_OK);
    if (last != NULL)
        rg_headers_add(&headers, "Last-Event-ID", 13, last, strlen(last));
    enum rg_code code = rg_events_options(&query, &headers, out, ping, &err);
    rg_query_fini(&query);
    return code;
}

static void options__last_event_id__resumes_by_known_versions_only(void **state)
{
    (void)state;
    char good[RG_VERSION_SIZE];
    rg_version_format(good, 5, (struct rg_stamp){6, 7});
    static const char *const bad[] = {
        "x",
        "now",
        "-",
        "0",
        "-1",
        "\"v\"",
        "a.b-c",
        "1.2-",
        ".-1",
        "1.2-3-4",
        "1.2-18446744073709551616",
        "\xc3\xa9",
        " ",
        "0000000000000000000000000000000000000000000000000000000000000000000000"};
    struct rg_stream_options options;
    int64_t ping;
    assert_int_equal(read_options(NULL, NULL, good, &options, &ping), RG_OK);
    assert_true(options.resume && options.known && !options.now);
    assert_int_equal(options.from.at.seq, 7);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(read_options(NULL, NULL, bad[i], &options, &ping), RG_OK);
        if (!options.resume || options.known || options.now)
            fail_msg("%s", bad[i]);
    }
    assert_int_equal(read_options(NULL, NULL, "", &options, &ping), RG_OK);
    assert_false(options.resume);
}

static void options__last_event_id__wins_over_since(void **state)
{
    (void)state;
    char first[RG_VERSION_SIZE], second[RG_VERSION_SIZE];
    rg_version_format(first, 5, (struct rg_stamp){6, 7});
    rg_version_format(second, 5, (struct rg_stamp){6, 9});
    struct rg_stream_options options;
    int64_t ping;
    assert_int_equal(read_options("since", first, second, &options, &ping), RG_OK);
    assert_int_equal(options.from.at.seq, 9);
    assert_int_equal(read_options("since", "now", second, &options, &ping), RG_OK);
    assert_true(options.known && !options.now);
    assert_int_equal(read_options("since", first, "", &options, &ping), RG_OK);
    assert_int_equal(options.from.at.seq, 7);
}

static void options__since__knows_now(void **state)
{
    (void)state;
    struct rg_stream_options options;
    int64_t ping;
    assert_int_equal(read_options("since", "now", NULL, &options, &ping), RG_OK);
    assert_true(options.now && !options.known);
    assert_int_equal(read_options("since", "", NULL, &options, &ping), RG_OK);
    assert_true(options.resume && !options.known && !options.now);
    assert_int_equal(read_options(NULL, NULL, NULL, &options, &ping), RG_OK);
    assert_true(!options.resume && !options.now);
}

static void options__types__must_all_be_known(void **state)
{
    (void)state;
    struct rg_stream_options options;
    int64_t ping;
    assert_int_equal(read_options("types", "roster.set,presence", NULL, &options, &ping),
                     RG_OK);
    assert_int_equal(options.types & RG_EVENT_ROSTER_REMOVE, 0);
    assert_int_not_equal(options.types & RG_EVENT_ROSTER_SET, 0);
    static const char *const bad[] = {
        "",       ",", "roster.set,", "x", "roster.set,x", "Roster", "roster.set, presence",
        "comment"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (read_options("types", bad[i], NULL, &options, &ping) != RG_E_INVALID_QUERY)
            fail_msg("%s", bad[i]);
    }
}

static void options__ping__is_bounded(void **state)
{
    (void)state;
    struct rg_stream_options options;
    int64_t ping = -1;
    assert_int_equal(read_options(NULL, NULL, NULL, &options, &ping), RG_OK);
    assert_int_equal(ping, 0);
    assert_int_equal(read_options("ping", "5", NULL, &options, &ping), RG_OK);
    assert_int_equal(ping, 5);
    static const char *const bad[] = {"4", "301", "0", "-5", "", "5s"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(read_options("ping", bad[i], NULL, &options, &ping),
                         RG_E_INVALID_QUERY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options__last_event_id__resumes_by_known_versions_only),
        cmocka_unit_test(options__last_event_id__wins_over_since),
        cmocka_unit_test(options__since__knows_now),
        cmocka_unit_test(options__types__must_all_be_known),
        cmocka_unit_test(options__ping__is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

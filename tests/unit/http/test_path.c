#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/random.h"
#include "http/path.h"

static const char JIDS[] = "/v1/roster/items/{jid}";

static void path__split__takes_segments_apart_raw(void **state)
{
    (void)state;
    struct rg_path path;
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(rg_path_split(&path, "/v1/roster/items/romeo%40example.net%2Fx", &err),
                     RG_OK);
    assert_int_equal(path.n, 4);
    assert_memory_equal(path.segments[3].text, "romeo%40example.net%2Fx", path.segments[3].len);
    assert_int_equal(rg_path_split(&path, "/", &err), RG_OK);
    assert_int_equal(path.n, 0);
}

static void path__split__understands_the_absolute_form(void **state)
{
    (void)state;
    struct rg_path path;
    struct rg_err err = RG_ERR_INIT;
    struct rg_segment wild;
    assert_int_equal(rg_path_split(&path, "http://host:1/v1/roster", &err), RG_OK);
    assert_true(rg_path_match(&path, "/v1/roster", &wild));
    assert_int_equal(rg_path_split(&path, "HTTPS://host", &err), RG_OK);
    assert_int_equal(path.n, 0);
    assert_int_equal(rg_path_split(&path, "*", &err), RG_E_NOT_FOUND);
    assert_int_equal(rg_path_split(&path, "", &err), RG_E_NOT_FOUND);
}

static void path__split__refuses_what_does_not_decode(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "/v1/%",   "/v1/%4",       "/v1/%zz",  "/v1/a%00b",        "/%00",
        "/v1/%ff", "/v1/%c0%af",   "/v1/\xff", "/v1/%ed%a0%80",    "/v1/%g0/x",
        "/v1/%2",  "/v1/roster/%", "/v1/\xc3", "/v1/%f5%80%80%80",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rg_path path = {.n = 77};
        struct rg_err err = RG_ERR_INIT;
        assert_int_equal(rg_path_split(&path, bad[i], &err), RG_E_BAD_REQUEST);
        assert_int_equal(path.n, 77);
    }
}

static void path__split__bounds_the_segments(void **state)
{
    (void)state;
    struct rg_path path;
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(rg_path_split(&path, "/1/2/3/4/5/6/7/8", &err), RG_OK);
    assert_int_equal(rg_path_split(&path, "/1/2/3/4/5/6/7/8/9", &err), RG_E_NOT_FOUND);
}

struct match {
    const char *url, *template;
    bool matches;
};

static void path__match__is_exact(void **state)
{
    (void)state;
    static const struct match table[] = {
        {"/v1/roster", "/v1/roster", true},
        {"/v1/roster/", "/v1/roster", false},
        {"//v1/roster", "/v1/roster", false},
        {"/v1//roster", "/v1/roster", false},
        {"/v1/Roster", "/v1/roster", false},
        {"/v1/%72oster", "/v1/roster", true},
        {"/v1/roste", "/v1/roster", false},
        {"/v1/rosters", "/v1/roster", false},
        {"/v1", "/v1/roster", false},
        {"/v1/./roster", "/v1/roster", false},
        {"/v1/x/../roster", "/v1/roster", false},
        {"/v1/%2e%2e/roster", "/v1/roster", false},
        {"/v1%2Froster", "/v1/roster", false},
        {"/", "/", true},
        {"/x", "/", false},
        {"/v1/roster/items/a", JIDS, true},
        {"/v1/roster/items/", JIDS, false},
        {"/v1/roster/items", JIDS, false},
        {"/v1/roster/items/a/b", JIDS, false},
        {"/v1/roster/items/a%2Fb", JIDS, true},
        {"/v1/roster/items/a/subscription", "/v1/roster/items/{jid}/subscription", true},
        {"/v1/roster/items//subscription", "/v1/roster/items/{jid}/subscription", false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct rg_path path;
        struct rg_err err = RG_ERR_INIT;
        struct rg_segment wild = {NULL, 0};
        assert_int_equal(rg_path_split(&path, table[i].url, &err), RG_OK);
        if (rg_path_match(&path, table[i].template, &wild) != table[i].matches)
            fail_msg("%s against %s", table[i].url, table[i].template);
    }
}

static void path__match__leaves_the_wild_segment_raw(void **state)
{
    (void)state;
    struct rg_path path;
    struct rg_err err = RG_ERR_INIT;
    struct rg_segment wild = {NULL, 0};
    assert_int_equal(rg_path_split(&path, "/v1/roster/items/a%40b/subscription", &err), RG_OK);
    assert_true(rg_path_match(&path, "/v1/roster/items/{jid}/subscription", &wild));
    assert_int_equal(wild.len, 5);
    assert_memory_equal(wild.text, "a%40b", 5);
}

static const char *const ALLOWED[] = {"since", "limit", NULL};

static enum rg_code add(struct rg_query *query, const char *name, const char *value)
{
    struct rg_err err = RG_ERR_INIT;
    return rg_query_add(query, ALLOWED, name, strlen(name), value,
                        value != NULL ? strlen(value) : 0, &err);
}

static void query__add__knows_each_parameter_once(void **state)
{
    (void)state;
    struct rg_query query = {.n = 0};
    assert_int_equal(add(&query, "since", "a%2Bb"), RG_OK);
    assert_string_equal(rg_query_get(&query, "since"), "a+b");
    assert_int_equal(add(&query, "since", "x"), RG_E_UNKNOWN_PARAMETER);
    assert_int_equal(add(&query, "sin%63e", "x"), RG_E_UNKNOWN_PARAMETER);
    assert_int_equal(add(&query, "Since", "x"), RG_E_UNKNOWN_PARAMETER);
    assert_int_equal(add(&query, "", "x"), RG_E_UNKNOWN_PARAMETER);
    assert_int_equal(add(&query, "token", "x"), RG_E_UNKNOWN_PARAMETER);
    assert_int_equal(add(&query, "limit", NULL), RG_OK);
    assert_string_equal(rg_query_get(&query, "limit"), "");
    assert_string_equal(rg_query_get(&query, "since"), "a+b");
    rg_query_fini(&query);
}

static void query__add__refuses_values_that_do_not_decode(void **state)
{
    (void)state;
    static const char *const bad[] = {"%", "%z", "%00", "a%00", "%ff", "\xff", "%c0%80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rg_query query = {.n = 0};
        assert_int_equal(add(&query, "since", bad[i]), RG_E_INVALID_QUERY);
        assert_null(rg_query_get(&query, "since"));
        assert_int_equal(add(&query, "since", "good"), RG_OK);
        assert_string_equal(rg_query_get(&query, "since"), "good");
        rg_query_fini(&query);
    }
}

static void query__add__without_parameters_knows_none(void **state)
{
    (void)state;
    struct rg_query query = {.n = 0};
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(rg_query_add(&query, NULL, "a", 1, "b", 1, &err), RG_E_UNKNOWN_PARAMETER);
}

static enum rg_code number(const char *text, int64_t *out)
{
    struct rg_query query = {.n = 0};
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(add(&query, "limit", text), RG_OK);
    enum rg_code code = rg_query_int(&query, "limit", 1, 1000, out, &err);
    rg_query_fini(&query);
    return code;
}

static void query__int__is_plain_and_bounded(void **state)
{
    (void)state;
    int64_t value = 7;
    static const char *const bad[] = {"",
                                      "0",
                                      "1001",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "0x1",
                                      "1e2",
                                      "99999999999999999999",
                                      "a",
                                      "1a",
                                      "\xd9\xa1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(number(bad[i], &value), RG_E_INVALID_QUERY);
        assert_int_equal(value, 7);
    }
    assert_int_equal(number("1", &value), RG_OK);
    assert_int_equal(value, 1);
    assert_int_equal(number("1000", &value), RG_OK);
    assert_int_equal(value, 1000);
    assert_int_equal(number("0017", &value), RG_OK);
    assert_int_equal(value, 17);
}

static void query__int__absent_keeps_the_default(void **state)
{
    (void)state;
    struct rg_query query = {.n = 0};
    struct rg_err err = RG_ERR_INIT;
    int64_t value = 42;
    assert_int_equal(rg_query_int(&query, "limit", 1, 10, &value, &err), RG_OK);
    assert_int_equal(value, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path__split__takes_segments_apart_raw),
        cmocka_unit_test(path__split__understands_the_absolute_form),
        cmocka_unit_test(path__split__refuses_what_does_not_decode),
        cmocka_unit_test(path__split__bounds_the_segments),
        cmocka_unit_test(path__match__is_exact),
        cmocka_unit_test(path__match__leaves_the_wild_segment_raw),
        cmocka_unit_test(query__add__knows_each_parameter_once),
        cmocka_unit_test(query__add__refuses_values_that_do_not_decode),
        cmocka_unit_test(query__add__without_parameters_knows_none),
        cmocka_unit_test(query__int__is_plain_and_bounded),
        cmocka_unit_test(query__int__absent_keeps_the_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/log.h"

struct lines {
    int n;
    char last[4096];
};

static void keep(const char *line, void *arg)
{
    struct lines *lines = arg;

    lines->n++;
    (void)snprintf(lines->last, sizeof(lines->last), "%s", line);
}

static void log__fields__make_one_json_line(void **state)
{
    struct lines lines = {0};

    (void)state;
    rg_log_capture(keep, &lines);
    rg_log(RG_LOG_WARN, "xmpp", "cut", RG_STR("why", "a\"b\n"), RG_INT("n", -5),
           RG_BOOL("again", true), RG_STR("none", NULL));
    rg_log(RG_LOG_INFO, "core", "bare");
    rg_log_capture(NULL, NULL);
    assert_int_equal(lines.n, 2);
    assert_non_null(strstr(lines.last, "\"component\":\"core\",\"event\":\"bare\"}"));
    assert_null(strchr(lines.last, '\n'));
}

static void log__fields__are_typed_and_escaped(void **state)
{
    struct lines lines = {0};

    (void)state;
    rg_log_capture(keep, &lines);
    rg_log(RG_LOG_WARN, "xmpp", "cut", RG_STR("why", "a\"b\n"), RG_INT("n", -5),
           RG_BOOL("again", true), RG_STR("none", NULL));
    rg_log_capture(NULL, NULL);
    assert_int_equal(strncmp(lines.last, "{\"time\":\"20", 11), 0);
    assert_non_null(strstr(lines.last, "Z\",\"level\":\"warn\",\"component\":\"xmpp\","
                                       "\"event\":\"cut\",\"why\":\"a\\\"b\\n\",\"n\":-5,"
                                       "\"again\":true,\"none\":null}"));
}

static void log__level__filters(void **state)
{
    struct lines lines = {0};
    enum rg_log_level level = RG_LOG_ERROR;

    (void)state;
    rg_log_capture(keep, &lines);
    rg_log(RG_LOG_DEBUG, "a", "b");
    assert_int_equal(lines.n, 0);
    assert_true(rg_log_parse_level(&level, "debug"));
    rg_log_set_level(level);
    rg_log(RG_LOG_DEBUG, "a", "b");
    assert_int_equal(lines.n, 1);
    rg_log_set_level(RG_LOG_ERROR);
    assert_false(rg_log_enabled(RG_LOG_WARN));
    rg_log(RG_LOG_WARN, "a", "b");
    assert_int_equal(lines.n, 1);
    rg_log_set_level(RG_LOG_INFO);
    rg_log_capture(NULL, NULL);
    level = RG_LOG_ERROR;
    assert_false(rg_log_parse_level(&level, "loud"));
    assert_int_equal(level, RG_LOG_ERROR);
}

static void log__value__is_cut(void **state)
{
    struct lines lines = {0};
    char text[3000];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    rg_log_capture(keep, &lines);
    rg_log(RG_LOG_ERROR, "a", "b", RG_STR("text", text));
    rg_log_capture(NULL, NULL);
    assert_true(strlen(lines.last) < 1300);
    assert_int_equal(lines.last[strlen(lines.last) - 1], '}');
}

static void log__user__is_a_hash(void **state)
{
    char a[RG_LOG_USER_SIZE], b[RG_LOG_USER_SIZE], c[RG_LOG_USER_SIZE];

    (void)state;
    rg_log_user(a, "juliet@example.com");
    rg_log_user(b, "juliet@example.com");
    rg_log_user(c, "romeo@example.com");
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    assert_int_equal(strlen(a), 16);
    assert_int_equal(strspn(a, "0123456789abcdef"), 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log__fields__make_one_json_line),
        cmocka_unit_test(log__fields__are_typed_and_escaped),
        cmocka_unit_test(log__level__filters),
        cmocka_unit_test(log__value__is_cut),
        cmocka_unit_test(log__user__is_a_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

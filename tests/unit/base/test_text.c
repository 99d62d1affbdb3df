#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/base/text.h"

#define LIT(s) (s), sizeof(s) - 1

static void text__utf8_valid__table(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        bool valid;
    } rows[] = {
        {LIT(""), true},
        {LIT("abc"), true},
        {LIT("a\0b"), true},
        {LIT("\x7F"), true},
        {LIT("\xC2\x80"), true},
        {LIT("\xDF\xBF"), true},
        {LIT("\xE0\xA0\x80"), true},
        {LIT("\xED\x9F\xBF"), true},
        {LIT("\xEE\x80\x80"), true},
        {LIT("\xEF\xBF\xBF"), true},
        {LIT("\xF0\x90\x80\x80"), true},
        {LIT("\xF4\x8F\xBF\xBF"), true},
        {LIT("\x80"), false},             /* lone continuation */
        {LIT("\xC0\x80"), false},         /* overlong NUL */
        {LIT("\xC1\xBF"), false},         /* overlong */
        {LIT("\xE0\x9F\xBF"), false},     /* overlong */
        {LIT("\xF0\x8F\xBF\xBF"), false}, /* overlong */
        {LIT("\xED\xA0\x80"), false},     /* surrogate */
        {LIT("\xED\xBF\xBF"), false},     /* surrogate */
        {LIT("\xF4\x90\x80\x80"), false}, /* beyond the last */
        {LIT("\xF5\x80\x80\x80"), false},
        {LIT("\xFF"), false},
        {LIT("\xC2"), false}, /* cut */
        {LIT("\xE2\x82"), false},
        {LIT("\xF0\x9F\x98"), false},
        {LIT("\xC2\x41"), false}, /* no continuation */
        {LIT("\xE2\x82\x41"), false},
        {LIT("ok\xE2\x82\xAC\xC3"), false},
    };

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        if (rg_utf8_valid(rows[i].text, rows[i].len) != rows[i].valid)
            fail_msg("row %zu", i);
    }
}

static void text__sendable__refuses_controls(void **state)
{
    char c[2] = "";

    (void)state;
    for (unsigned i = 0; i < 0x80; i++) {
        c[0] = (char)i;
        assert_int_equal(rg_text_sendable(c, 1), i >= 0x20 && i != 0x7F);
    }
    assert_false(rg_text_sendable(LIT("\xC2\x80")));
    assert_false(rg_text_sendable(LIT("\xC2\x9F")));
    assert_true(rg_text_sendable(LIT("\xC2\xA0")));
    assert_false(rg_text_sendable(LIT("\xEF\xBF\xBE")));
    assert_false(rg_text_sendable(LIT("\xEF\xBF\xBF")));
    assert_true(rg_text_sendable(LIT("\xEF\xBF\xBD")));
    assert_false(rg_text_sendable(LIT("\xC3")));
    assert_true(rg_text_sendable(LIT("")));
}

static void text__utf8_cut__keeps_characters_whole(void **state)
{
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"; /* 1+2+3+4+1 */
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};

    (void)state;
    for (size_t max = 0; max < RG_ARRAY_LEN(want); max++)
        assert_int_equal(rg_utf8_cut(text, sizeof(text) - 1, max), want[max]);
}

static void check_json(const char *text, size_t len, const char *want)
{
    struct rg_buf buf = RG_BUF_INIT;

    rg_json_string(&buf, text, len);
    assert_string_equal(buf.data, want);
    rg_buf_fini(&buf);
}

static void text__json_string__escapes(void **state)
{
    (void)state;
    check_json(LIT(""), "\"\"");
    check_json(LIT("plain"), "\"plain\"");
    check_json(LIT("a\"b\\c"), "\"a\\\"b\\\\c\"");
    check_json(LIT("\n\r\t"), "\"\\n\\r\\t\"");
    check_json(LIT("\0\x1f\x7f"), "\"\\u0000\\u001f\\u007f\"");
    check_json(LIT("\xE2\x80\xA8\xE2\x80\xA9"), "\"\\u2028\\u2029\"");
    check_json(LIT("\xF0\x9F\x98\x80"), "\"\xF0\x9F\x98\x80\"");
    check_json(LIT("a\xFFz"), "\"a\xEF\xBF\xBDz\"");
    check_json(LIT("\xE2\x82"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

static void text__percent_decode__table(void **state)
{
    static const struct {
        const char *text;
        bool plus;
        const char *want; /* NULL: refused */
    } rows[] = {
        {"", false, ""},         {"a%40b", false, "a@b"},
        {"%2F%2f", false, "//"}, {"%C3%A9", false, "\xC3\xA9"},
        {"a+b", false, "a+b"},   {"a+b", true, "a b"},
        {"%2B", true, "+"},      {"%252F", false, "%2F"},
        {"%", false, NULL},      {"%4", false, NULL},
        {"a%4g", false, NULL},   {"%g4", false, NULL},
        {"%00", false, NULL},    {"a%00b", false, NULL},
        {"%C3", false, NULL},    {"%ED%A0%80", false, NULL},
        {"\xFF", false, NULL},
    };

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_buf buf = RG_BUF_INIT;
        bool done;

        rg_buf_puts(&buf, "before");
        done = rg_percent_decode(&buf, rows[i].text, strlen(rows[i].text), rows[i].plus);
        assert_int_equal(done, rows[i].want != NULL);
        assert_string_equal(buf.data + 6, rows[i].want != NULL ? rows[i].want : "");
        rg_buf_fini(&buf);
    }
}

static void text__percent_encode__comes_back(void **state)
{
    struct rg_buf coded = RG_BUF_INIT, back = RG_BUF_INIT;
    char all[0x7F];

    (void)state;
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (char)(i + 1);
    rg_percent_encode(&coded, all, sizeof(all));
    assert_null(strpbrk(coded.data, " /?#+\"<>"));
    assert_non_null(strchr(coded.data, '@'));
    assert_true(rg_percent_decode(&back, coded.data, coded.len, true));
    assert_int_equal(back.len, sizeof(all));
    assert_memory_equal(back.data, all, sizeof(all));
    rg_buf_fini(&coded);
    rg_buf_fini(&back);
}

static void text__base64url__comes_back(void **state)
{
    uint8_t data[64], out[64];
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 37 + 251);
    for (size_t len = 0; len <= sizeof(data); len++) {
        struct rg_buf buf = RG_BUF_INIT;

        rg_base64url_encode(&buf, data, len);
        assert_true(rg_base64url_decode(len > 0 ? buf.data : "", buf.len, out, len, &n));
        assert_int_equal(n, len);
        assert_memory_equal(out, data, len);
        if (len > 0)
            assert_false(rg_base64url_decode(buf.data, buf.len, out, len - 1, &n));
        rg_buf_fini(&buf);
    }
}

static void text__base64url__one_spelling_only(void **state)
{
    static const char *const bad[] = {"A",      "AA=",   "AA==",  "AB",
                                      "AAB",    "AA A",  "A+A",   "AA/A",
                                      "AAA\n",  "AAAA=", "AAAAA", "\x80\xC0\x80\xF5",
                                      "AAA\x80"};
    uint8_t out[8];
    size_t n = 99;

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(bad); i++) {
        if (rg_base64url_decode(bad[i], strlen(bad[i]), out, sizeof(out), &n))
            fail_msg("%s was taken", bad[i]);
    }
    assert_int_equal(n, 99);
    assert_true(rg_base64url_decode("AA", 2, out, sizeof(out), &n));
    assert_int_equal(n, 1);
    assert_true(rg_base64url_decode("-_-_", 4, out, sizeof(out), &n));
    assert_memory_equal(out, "\xFB\xFF\xBF", 3);
}

static void text__rfc3339__table(void **state)
{
    static const struct {
        long long t;
        const char *want;
    } rows[] = {{0, "1970-01-01T00:00:00Z"},          {951782400, "2000-02-29T00:00:00Z"},
                {1700000000, "2023-11-14T22:13:20Z"}, {4102444799, "2099-12-31T23:59:59Z"},
                {-5, "1970-01-01T00:00:00Z"},         {INT64_MAX, "9999-12-31T23:59:59Z"}};

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_buf buf = RG_BUF_INIT;

        rg_time_rfc3339(&buf, rows[i].t);
        assert_string_equal(buf.data, rows[i].want);
        rg_buf_fini(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text__utf8_valid__table),
        cmocka_unit_test(text__sendable__refuses_controls),
        cmocka_unit_test(text__utf8_cut__keeps_characters_whole),
        cmocka_unit_test(text__json_string__escapes),
        cmocka_unit_test(text__percent_decode__table),
        cmocka_unit_test(text__percent_encode__comes_back),
        cmocka_unit_test(text__base64url__comes_back),
        cmocka_unit_test(text__base64url__one_spelling_only),
        cmocka_unit_test(text__rfc3339__table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

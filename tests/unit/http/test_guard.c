#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/http/helper_headers.h"

static const char *check(const char *const *lines, bool http_1_1)
{
    struct rg_headers headers;
    headers_of(&headers, lines);
    return rg_headers_check(&headers, http_1_1);
}

static void guard__check__passes_what_can_be_read_in_one_way(void **state)
{
    (void)state;
    assert_null(check(HEADERS("Host: a"), true));
    assert_null(check(HEADERS("Host: a:8080", "Content-Length: 0"), true));
    assert_null(check(HEADERS("Host: [::1]:80", "Transfer-Encoding: Chunked"), true));
    assert_null(
        check(HEADERS("Host: a", "X-A: b\tc", "X-A: d", "Cookie: a=b", "Cookie: c=d"), true));
    assert_null(check(HEADERS("X-A: b"), false));
    assert_null(check(HEADERS("Host: a", "X-A: \xc3\xa9"), true));
}

static void guard__check__refuses_every_seed_of_smuggling(void **state)
{
    (void)state;
    static const char *const bad[][4] = {
        {"Host: a", "Host: a"},
        {"Host: a", "hOST: b"},
        {"X-A: b"},
        {"Host: a", "Content-Length: 2", "Content-Length: 3"},
        {"Host: a", "Content-Length: 2", "content-length: 2"},
        {"Host: a", "Content-Length: 2", "Transfer-Encoding: chunked"},
        {"Host: a", "Transfer-Encoding: chunked", "Content-Length: 2"},
        {"Host: a", "Transfer-Encoding: gzip"},
        {"Host: a", "Transfer-Encoding: gzip, chunked"},
        {"Host: a", "Transfer-Encoding: chunked, chunked"},
        {"Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"},
        {"Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"},
        {"Host: a", "Transfer-Encoding: \x0b"
                    "chunked"},
        {"Host: a", "Transfer-Encoding: chunked;x"},
        {"Host: a", "Transfer-Encoding: "},
        {"Host: a", "Content-Length : 2"},
        {"Host: a", "Content-Length\t: 2"},
        {"Host: a", " Content-Length: 2"},
        {"Host: a", "Content-Length: -1"},
        {"Host: a", "Content-Length: +1"},
        {"Host: a", "Content-Length: 0x2"},
        {"Host: a", "Content-Length: 2, 2"},
        {"Host: a", "Content-Length: "},
        {"Host: a", "Content-Length: 18446744073709551617"},
        {"Host: a", ": x"},
        {"Host: a", "X(A): x"},
        {"Host: a", "X\x80: x"},
        {"Host: a", "X-A: a\rb"},
        {"Host: a", "X-A: a\x01"},
        {"Host: a", "X-A: a\x7f"},
        {"Host: a b"},
        {"Host: a/b"},
        {"Host: u@a"},
        {"Host: a, b"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (check(bad[i], true) == NULL)
            fail_msg("row %zu is accepted: %s", i, bad[i][1] != NULL ? bad[i][1] : bad[i][0]);
    }
    assert_non_null(check(HEADERS("Transfer-Encoding: chunked"), false));
}

static void guard__add__bounds_the_lines(void **state)
{
    (void)state;
    const char *lines[RG_HEADER_LINES + 3] = {"Host: a"};
    for (size_t i = 1; i <= RG_HEADER_LINES; i++)
        lines[i] = "Cookie: a=b";
    lines[RG_HEADER_LINES] = NULL;
    assert_null(check(lines, true));
    lines[RG_HEADER_LINES] = "Cookie: a=b";
    assert_non_null(check(lines, true));
}

static void guard__get__finds_lines_in_order(void **state)
{
    (void)state;
    struct rg_headers headers;
    headers_of(&headers, HEADERS("Host: a", "if-none-match: \"1\"", "X-Other: y",
                                 "IF-NONE-MATCH: \"2\""));
    assert_string_equal(rg_headers_get(&headers, RG_HEADER_IF_NONE_MATCH), "\"1\"");
    assert_true(rg_headers_twice(&headers, RG_HEADER_IF_NONE_MATCH));
    assert_null(rg_headers_get(&headers, RG_HEADER_ORIGIN));
    size_t at = 0;
    assert_string_equal(rg_headers_next(&headers, RG_HEADER_IF_NONE_MATCH, &at)->value,
                        "\"1\"");
    assert_string_equal(rg_headers_next(&headers, RG_HEADER_IF_NONE_MATCH, &at)->value,
                        "\"2\"");
    assert_null(rg_headers_next(&headers, RG_HEADER_IF_NONE_MATCH, &at));
}

static void guard__in_place__tells_hidden_bytes(void **state)
{
    (void)state;
    static const char clean[] = "Name\0 value\0\0";
    assert_true(rg_header_in_place(clean, 4, clean + 6, 5));
    static const char nul[] = "Name\0 va\0lue\0\0";
    assert_false(rg_header_in_place(nul, 4, nul + 6, 2));
    static const char bare_lf[] = "Name\0 value\0Next";
    assert_false(rg_header_in_place(bare_lf, 4, bare_lf + 6, 5));
    static const char moved[] = "value\0\0Namecontinued";
    assert_false(rg_header_in_place(moved + 7, 13, moved, 5));
    static const char apart[] = "Name\0x value\0\0";
    assert_false(rg_header_in_place(apart, 4, apart + 7, 5));
}

static void list__next__skips_blanks_and_empty_elements(void **state)
{
    (void)state;
    const char *at = " , a ,,\"b,c\" , W/\"d\\\",e\",f";
    static const char *const want[] = {"a", "\"b,c\"", "W/\"d\\\",e\"", "f"};
    const char *text;
    size_t len;
    for (size_t i = 0; i < 4; i++) {
        assert_true(rg_list_next(&at, &text, &len));
        assert_int_equal(len, strlen(want[i]));
        assert_memory_equal(text, want[i], len);
    }
    assert_false(rg_list_next(&at, &text, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard__check__passes_what_can_be_read_in_one_way),
        cmocka_unit_test(guard__check__refuses_every_seed_of_smuggling),
        cmocka_unit_test(guard__add__bounds_the_lines),
        cmocka_unit_test(guard__get__finds_lines_in_order),
        cmocka_unit_test(guard__in_place__tells_hidden_bytes),
        cmocka_unit_test(list__next__skips_blanks_and_empty_elements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

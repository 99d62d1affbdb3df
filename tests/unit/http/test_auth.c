#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "http/auth.h"
#include "tests/unit/http/helper_headers.h"

struct row {
    const char *lines[4];
    enum rg_code code;
    enum rg_auth_source source;
    const char *token;
};

static void run_rows(const struct row *rows, size_t n, bool insecure)
{
    for (size_t i = 0; i < n; i++) {
        struct rg_headers headers;
        struct rg_auth auth = {.source = RG_AUTH_NONE};
        struct rg_err err = RG_ERR_INIT;
        headers_of(&headers, rows[i].lines);
        enum rg_code code = rg_auth_find(&headers, insecure, &auth, &err);
        if (code != rows[i].code || auth.source != rows[i].source)
            fail_msg("row %zu: code %d, source %d", i, (int)code, (int)auth.source);
        if (rows[i].token != NULL) {
            assert_int_equal(auth.len, strlen(rows[i].token));
            assert_memory_equal(auth.token, rows[i].token, auth.len);
        }
    }
}

static void auth__find__header_wins_and_must_be_right(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {{"Authorization: Bearer abc"}, RG_OK, RG_AUTH_HEADER, "abc"},
        {{"authorization: bearer rg1.a.b.c-_"}, RG_OK, RG_AUTH_HEADER, "rg1.a.b.c-_"},
        {{"Authorization: Bearer   abc"}, RG_OK, RG_AUTH_HEADER, "abc"},
        {{"Authorization: Bearer abc", "Cookie: __Host-rg=def"}, RG_OK, RG_AUTH_HEADER, "abc"},
        {{"Authorization: Basic abc", "Cookie: __Host-rg=def"},
         RG_E_UNAUTHORIZED,
         RG_AUTH_NONE,
         NULL},
        {{"Authorization: Bearer", "Cookie: __Host-rg=def"},
         RG_E_UNAUTHORIZED,
         RG_AUTH_NONE,
         NULL},
        {{"Authorization: Bearer "}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Authorization: "}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Authorization: Bearer a b"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Authorization: Bearer a,Bearer b"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Authorization: Bearerabc"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Authorization: Bearer\tabc"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Authorization: Bearer abc", "Authorization: Bearer abc"},
         RG_E_UNAUTHORIZED,
         RG_AUTH_NONE,
         NULL},
        {{"Authorization: abc"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Host: a"}, RG_OK, RG_AUTH_NONE, NULL},
    };
    run_rows(rows, sizeof(rows) / sizeof(rows[0]), false);
}

static void auth__find__takes_our_cookie_once(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {{"Cookie: __Host-rg=abc"}, RG_OK, RG_AUTH_COOKIE, "abc"},
        {{"Cookie: a=b; __Host-rg=abc; c=d"}, RG_OK, RG_AUTH_COOKIE, "abc"},
        {{"Cookie: a=b;__Host-rg=abc"}, RG_OK, RG_AUTH_COOKIE, "abc"},
        {{"Cookie: a=b", "Cookie: __Host-rg=abc"}, RG_OK, RG_AUTH_COOKIE, "abc"},
        {{"Cookie: __Host-rg=abc; __Host-rg=abc"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Cookie: __Host-rg=abc", "Cookie: __Host-rg=def"},
         RG_E_UNAUTHORIZED,
         RG_AUTH_NONE,
         NULL},
        {{"Cookie: __Host-rg=; __Host-rg=def"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Cookie: rg=abc"}, RG_OK, RG_AUTH_NONE, NULL},
        {{"Cookie: x__Host-rg=abc"}, RG_OK, RG_AUTH_NONE, NULL},
        {{"Cookie: __Host-rgx=abc"}, RG_OK, RG_AUTH_NONE, NULL},
        {{"Cookie: __host-rg=abc"}, RG_OK, RG_AUTH_NONE, NULL},
        {{"Cookie: a=__Host-rg=abc"}, RG_OK, RG_AUTH_NONE, NULL},
        {{"Cookie: __Host-rg"}, RG_OK, RG_AUTH_NONE, NULL},
    };
    run_rows(rows, sizeof(rows) / sizeof(rows[0]), false);
}

static void auth__find__has_another_name_without_tls(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {{"Cookie: rg=abc"}, RG_OK, RG_AUTH_COOKIE, "abc"},
        {{"Cookie: __Host-rg=abc"}, RG_OK, RG_AUTH_NONE, NULL},
        {{"Cookie: rg=abc; rg=def"}, RG_E_UNAUTHORIZED, RG_AUTH_NONE, NULL},
        {{"Cookie: rg=abc; __Host-rg=def"}, RG_OK, RG_AUTH_COOKIE, "abc"},
    };
    run_rows(rows, sizeof(rows) / sizeof(rows[0]), true);
}

/* Threat T4: every Sec-Fetch-Site against every Origin. */
static void auth__same_site__is_a_matrix(void **state)
{
    (void)state;
    static const char *const sites[] = {NULL,   "same-origin", "same-site", "cross-site",
                                        "none", "Same-Origin", ""};
    static const struct {
        const char *origin;
        bool fine; /* when there is no Sec-Fetch-Site */
    } origins[] = {
        {NULL, false},
        {"https://rg.example", true},
        {"https://app.example", true},
        {"http://rg.example", false},
        {"https://rg.example:444", false},
        {"https://rg.example.evil", false},
        {"https://evil.example", false},
        {"https://app.example.", false},
        {"null", false},
        {"", false},
    };
    char *list[] = {"https://app.example"};
    struct rg_strings listed = {list, 1};
    for (size_t s = 0; s < sizeof(sites) / sizeof(sites[0]); s++) {
        for (size_t o = 0; o < sizeof(origins) / sizeof(origins[0]); o++) {
            struct rg_headers headers = {.n = 0};
            rg_headers_add(&headers, "Host", 4, "rg.example", 10);
            if (sites[s] != NULL)
                rg_headers_add(&headers, "Sec-Fetch-Site", 14, sites[s], strlen(sites[s]));
            if (origins[o].origin != NULL)
                rg_headers_add(&headers, "Origin", 6, origins[o].origin,
                               strlen(origins[o].origin));
            bool want =
                sites[s] != NULL ? strcmp(sites[s], "same-origin") == 0 : origins[o].fine;
            if (rg_auth_same_site(&headers, &listed, false) != want)
                fail_msg("site %s, origin %s", sites[s] ? sites[s] : "-",
                         origins[o].origin ? origins[o].origin : "-");
        }
    }
}

static void auth__same_site__refuses_doubled_headers(void **state)
{
    (void)state;
    struct rg_headers headers;
    struct rg_strings none = {NULL, 0};
    headers_of(&headers,
               HEADERS("Host: a", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"));
    assert_false(rg_auth_same_site(&headers, &none, false));
    headers_of(&headers, HEADERS("Host: a", "Origin: https://a", "Origin: https://b"));
    assert_false(rg_auth_same_site(&headers, &none, false));
}

static void auth__same_site__over_plain_http_in_development(void **state)
{
    (void)state;
    struct rg_headers headers;
    struct rg_strings none = {NULL, 0};
    headers_of(&headers, HEADERS("Host: 192.0.2.1:8080", "Origin: http://192.0.2.1:8080"));
    assert_true(rg_auth_same_site(&headers, &none, true));
    assert_false(rg_auth_same_site(&headers, &none, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auth__find__header_wins_and_must_be_right),
        cmocka_unit_test(auth__find__takes_our_cookie_once),
        cmocka_unit_test(auth__find__has_another_name_without_tls),
        cmocka_unit_test(auth__same_site__is_a_matrix),
        cmocka_unit_test(auth__same_site__refuses_doubled_headers),
        cmocka_unit_test(auth__same_site__over_plain_http_in_development),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

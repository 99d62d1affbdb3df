#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http/etag.h"
#include "tests/unit/http/helper_headers.h"

static void etag__none_match__knows_every_form(void **state)
{
    (void)state;
    static const struct {
        const char *lines[3];
        bool matches;
    } rows[] = {
        {{NULL}, false},
        {{"If-None-Match: \"v1-7\""}, true},
        {{"If-None-Match: W/\"v1-7\""}, true},
        {{"If-None-Match: \"v1-7+gzip\""}, true},
        {{"If-None-Match: W/\"v1-7+gzip\""}, true},
        {{"If-None-Match: *"}, true},
        {{"If-None-Match: \"a\", \"v1-7\""}, true},
        {{"If-None-Match: \"a\",W/\"b\" , \"v1-7+gzip\""}, true},
        {{"If-None-Match: \"a\"", "If-None-Match: \"v1-7\""}, true},
        {{"If-None-Match: \"v1-8\""}, false},
        {{"If-None-Match: v1-7"}, false},
        {{"If-None-Match: \"v1-7"}, false},
        {{"If-None-Match: w/\"v1-7\""}, false},
        {{"If-None-Match: \"v1-7+br\""}, false},
        {{"If-None-Match: \"+gzip\""}, false},
        {{"If-None-Match: \"a,v1-7\""}, false},
        {{"If-None-Match: \"\""}, false},
        {{"If-None-Match: \""}, false},
        {{"If-None-Match: "}, false},
        {{"If-Match: \"v1-7\""}, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rg_headers headers;
        headers_of(&headers, rows[i].lines);
        if (rg_etag_none_match(&headers, "v1-7", 4) != rows[i].matches)
            fail_msg("row %zu", i);
    }
}

static void etag__format__quotes(void **state)
{
    (void)state;
    char etag[RG_ETAG_SIZE];
    char longest[RG_VERSION_SIZE];
    rg_etag_format(etag, "v1-7", false);
    assert_string_equal(etag, "\"v1-7\"");
    rg_etag_format(etag, "v1-7", true);
    assert_string_equal(etag, "\"v1-7+gzip\"");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    rg_etag_format(etag, longest, true);
    assert_int_equal(strlen(etag), 64 + 7);
}

static void etags__read__keeps_our_versions(void **state)
{
    (void)state;
    char version[RG_VERSION_SIZE], line[256];
    struct rg_version made = {.epoch = 5, .at = {.mark = 6, .seq = 7}};
    rg_version_format(version, made.epoch, made.at);
    snprintf(line, sizeof(line), "If-Match: \"%s\", W/\"%s+gzip\", \"junk\"", version, version);
    struct rg_headers headers;
    struct rg_etags etags;
    headers_of(&headers, HEADERS(line));
    rg_etags_read(&headers, RG_HEADER_IF_MATCH, &etags);
    assert_true(etags.present);
    assert_false(etags.any);
    assert_int_equal(etags.n, 2);
    assert_true(rg_stamp_equal(etags.versions[1].at, made.at));
    headers_of(&headers, HEADERS("If-Match: *"));
    rg_etags_read(&headers, RG_HEADER_IF_MATCH, &etags);
    assert_true(etags.present && etags.any);
    headers_of(&headers, HEADERS("If-Match: \"junk\""));
    rg_etags_read(&headers, RG_HEADER_IF_MATCH, &etags);
    assert_true(etags.present && !etags.any && etags.n == 0);
    headers_of(&headers, HEADERS("Host: a"));
    rg_etags_read(&headers, RG_HEADER_IF_MATCH, &etags);
    assert_false(etags.present);
}

static void accept__gzip__weighs(void **state)
{
    (void)state;
    static const struct {
        const char *lines[3];
        bool gzip;
    } rows[] = {
        {{NULL}, false},
        {{"Accept-Encoding: gzip"}, true},
        {{"Accept-Encoding: GZIP"}, true},
        {{"Accept-Encoding: x-gzip"}, true},
        {{"Accept-Encoding: gzip, deflate, br, zstd"}, true},
        {{"Accept-Encoding: deflate, br"}, false},
        {{"Accept-Encoding: gzip;q=0"}, false},
        {{"Accept-Encoding: gzip;q=0.000"}, false},
        {{"Accept-Encoding: gzip; q=0.5"}, true},
        {{"Accept-Encoding: gzip;q=0.5, identity"}, false},
        {{"Accept-Encoding: gzip;q=0.5, identity;q=0.5"}, true},
        {{"Accept-Encoding: gzip;q=0.8, identity;q=0.9"}, false},
        {{"Accept-Encoding: identity;q=0, gzip"}, true},
        {{"Accept-Encoding: *"}, true},
        {{"Accept-Encoding: *;q=0"}, false},
        {{"Accept-Encoding: gzip;q=0, *"}, false},
        {{"Accept-Encoding: identity"}, false},
        {{"Accept-Encoding: "}, false},
        {{"Accept-Encoding: br", "Accept-Encoding: gzip"}, true},
        {{"Accept-Encoding: gzip;q=2"}, false},
        {{"Accept-Encoding: gzip;q="}, false},
        {{"Accept-Encoding: gzip;q=a"}, false},
        {{"Accept-Encoding: gzip;q=1.001"}, false},
        {{"Accept-Encoding: gzipped"}, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rg_headers headers;
        headers_of(&headers, rows[i].lines);
        if (rg_accepts_gzip(&headers) != rows[i].gzip)
            fail_msg("row %zu: %s", i, rows[i].lines[0]);
    }
}

static void cache_control__no_cache__is_found_in_a_list(void **state)
{
    (void)state;
    struct rg_headers headers;
    headers_of(&headers, HEADERS("Cache-Control: max-age=0, No-Cache"));
    assert_true(rg_wants_fresh(&headers));
    headers_of(&headers, HEADERS("Cache-Control: max-age=0"));
    assert_false(rg_wants_fresh(&headers));
    headers_of(&headers, HEADERS("Cache-Control: no-cached"));
    assert_false(rg_wants_fresh(&headers));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(etag__none_match__knows_every_form),
        cmocka_unit_test(etag__format__quotes),
        cmocka_unit_test(etags__read__keeps_our_versions),
        cmocka_unit_test(accept__gzip__weighs),
        cmocka_unit_test(cache_control__no_cache__is_found_in_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

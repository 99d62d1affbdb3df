#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cache/redis_url.h"

static struct rg_redis_url parse(const char *text)
{
    struct rg_redis_url url;
    struct rg_err err = RG_ERR_INIT;

    if (rg_redis_url_parse(&url, text, &err) != RG_OK)
        fail_msg("%s: %s", text, err.text);
    return url;
}

static void redis_url__parse__reads_all_parts(void **state)
{
    struct rg_redis_url url = parse("redis://:p%40ss/w%3ard@cache.example.com:6380/5");

    (void)state;
    assert_string_equal(url.host, "cache.example.com");
    assert_int_equal(url.port, 6380);
    assert_int_equal(url.db, 5);
    assert_string_equal(rg_secret_data(url.password), "p@ss/w:rd");
    rg_redis_url_fini(&url);
}

static void redis_url__parse__fills_in_what_is_missing(void **state)
{
    struct rg_redis_url url = parse("redis://localhost");

    (void)state;
    assert_string_equal(url.host, "localhost");
    assert_int_equal(url.port, 6379);
    assert_int_equal(url.db, 0);
    assert_null(url.password);
    url = parse("redis://[::1]:7000");
    assert_string_equal(url.host, "::1");
    assert_int_equal(url.port, 7000);
    url = parse("unix:///run/redis.sock");
    assert_string_equal(url.path, "/run/redis.sock");
    assert_int_equal(url.db, 0);
    url = parse("unix:///run/redis.sock?db=12");
    assert_string_equal(url.path, "/run/redis.sock");
    assert_int_equal(url.db, 12);
}

static void redis_url__parse__refuses_nonsense(void **state)
{
    static const char *const bad[] = {
        "redis://",          "redis://:6379", "redis://h:0",    "redis://h:65536",
        "redis://h:x",       "redis://h/x",   "redis://h/-1",   "redis://user:pw@h",
        "redis://:%zz@h",    "redis://[::1",  "redis://[name]", "unix:///p?db=",
        "unix:///p?other=1", "memory:",       "rediss://h",     "redis://h:1x/0"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rg_redis_url url = {.port = 77};
        struct rg_err err = RG_ERR_INIT;

        if (rg_redis_url_parse(&url, bad[i], &err) == RG_OK)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(url.port, 77); /* untouched */
    }
}

static void redis_url__parse__never_quotes_the_password(void **state)
{
    struct rg_redis_url url;
    struct rg_err err = RG_ERR_INIT;

    (void)state;
    assert_int_not_equal(rg_redis_url_parse(&url, "redis://:hunter2@h:x", &err), RG_OK);
    assert_null(strstr(err.text, "hunter2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_url__parse__reads_all_parts),
        cmocka_unit_test(redis_url__parse__fills_in_what_is_missing),
        cmocka_unit_test(redis_url__parse__refuses_nonsense),
        cmocka_unit_test(redis_url__parse__never_quotes_the_password),
    };

    return cmocka_run_group_tests_name("redis_url", tests, NULL, NULL);
}

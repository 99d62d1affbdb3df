#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/base/random.h"
#include "http/limits.h"

static int setup(void **state)
{
    struct rg_err err = RG_ERR_INIT;
    if (rg_random_init(&err) != RG_OK)
        return -1;
    struct rg_limits *limits = rg_limits_create();
    rg_limits_set(limits, RG_LIMITED_CONNECTIONS, 5, 2);
    rg_limits_set(limits, RG_LIMITED_STREAMS, 100, 1);
    *state = limits;
    return 0;
}

static int teardown(void **state)
{
    rg_limits_destroy(*state);
    return 0;
}

static enum rg_limit enter(struct rg_limits *limits, const char *key)
{
    return rg_limits_enter(limits, RG_LIMITED_CONNECTIONS, key);
}

static void limits__enter__counts_per_address_and_in_all(void **state)
{
    struct rg_limits *limits = *state;
    assert_int_equal(enter(limits, "a"), RG_LIMIT_FINE);
    assert_int_equal(enter(limits, "a"), RG_LIMIT_FINE);
    assert_int_equal(enter(limits, "a"), RG_LIMIT_ADDRESS);
    assert_int_equal(enter(limits, "b"), RG_LIMIT_FINE);
    assert_int_equal(enter(limits, ""), RG_LIMIT_FINE);
    assert_int_equal(enter(limits, ""), RG_LIMIT_FINE);
    assert_int_equal(enter(limits, "c"), RG_LIMIT_IN_ALL);
    assert_int_equal(rg_limits_count(limits, RG_LIMITED_CONNECTIONS), 5);
}

static void limits__leave__makes_room(void **state)
{
    struct rg_limits *limits = *state;
    assert_int_equal(enter(limits, "a"), RG_LIMIT_FINE);
    assert_int_equal(enter(limits, "a"), RG_LIMIT_FINE);
    rg_limits_leave(limits, RG_LIMITED_CONNECTIONS, "a");
    assert_int_equal(enter(limits, "a"), RG_LIMIT_FINE);
    assert_int_equal(enter(limits, "a"), RG_LIMIT_ADDRESS);
    rg_limits_leave(limits, RG_LIMITED_CONNECTIONS, "a");
    rg_limits_leave(limits, RG_LIMITED_CONNECTIONS, "a");
    assert_int_equal(rg_limits_count(limits, RG_LIMITED_CONNECTIONS), 0);
}

static void limits__kinds__are_apart(void **state)
{
    struct rg_limits *limits = *state;
    assert_int_equal(enter(limits, "a"), RG_LIMIT_FINE);
    assert_int_equal(rg_limits_enter(limits, RG_LIMITED_STREAMS, "a"), RG_LIMIT_FINE);
    assert_int_equal(rg_limits_enter(limits, RG_LIMITED_STREAMS, "a"), RG_LIMIT_ADDRESS);
    assert_int_equal(enter(limits, "a"), RG_LIMIT_FINE);
    rg_limits_leave(limits, RG_LIMITED_CONNECTIONS, "a");
    rg_limits_leave(limits, RG_LIMITED_CONNECTIONS, "a");
    assert_int_equal(rg_limits_enter(limits, RG_LIMITED_STREAMS, "a"), RG_LIMIT_ADDRESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(limits__enter__counts_per_address_and_in_all, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(limits__leave__makes_room, setup, teardown),
        cmocka_unit_test_setup_teardown(limits__kinds__are_apart, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

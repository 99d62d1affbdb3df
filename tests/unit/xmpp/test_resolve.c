#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/random.h"
#include "xmpp/resolve.h"

static int set_up(void **state)
{
    (void)state;
    return rg_random_init(NULL) == RG_OK ? 0 : -1;
}

static void resolve__literal__v4_and_v6_only(void **state)
{
    (void)state;
    struct rg_address address;
    assert_true(rg_address_literal(&address, "192.0.2.1", 5222));
    assert_string_equal(address.text, "192.0.2.1");
    assert_int_equal(address.port, 5222);
    assert_true(rg_address_literal(&address, "::1", 5222));
    assert_false(rg_address_literal(&address, "localhost", 5222));
    assert_false(rg_address_literal(&address, "127.1", 5222));
    assert_false(rg_address_literal(&address, "", 5222));
}

static void resolve__loopback__whole_net_and_v6(void **state)
{
    (void)state;
    assert_true(rg_address_is_loopback("127.0.0.1"));
    assert_true(rg_address_is_loopback("127.9.8.7"));
    assert_true(rg_address_is_loopback("::1"));
    assert_false(rg_address_is_loopback("128.0.0.1"));
    assert_false(rg_address_is_loopback("::ffff:127.0.0.1"));
    assert_false(rg_address_is_loopback("localhost"));
}

static void resolve__srv_sort__priority_then_weighted_chance(void **state)
{
    (void)state;
    unsigned heavy_first = 0;
    for (int i = 0; i < 400; i++) {
        struct rg_srv records[] = {{.target = "late", .priority = 20, .weight = 500},
                                   {.target = "light", .priority = 10, .weight = 0},
                                   {.target = "heavy", .priority = 10, .weight = 99}};
        rg_srv_sort(records, 3);
        assert_string_equal(records[2].target, "late");
        heavy_first += strcmp(records[0].target, "heavy") == 0 ? 1 : 0;
    }
    /* 100 of 101 on average: fewer than 370 of 400 would be a coin that is not ours. */
    assert_true(heavy_first > 370);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resolve__literal__v4_and_v6_only),
        cmocka_unit_test(resolve__loopback__whole_net_and_v6),
        cmocka_unit_test(resolve__srv_sort__priority_then_weighted_chance),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

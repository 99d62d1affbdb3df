#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "http/address.h"
#include "tests/unit/http/helper_headers.h"

static struct rg_trust *trust_of(char **texts, size_t n)
{
    struct rg_strings strings = {texts, n};
    struct rg_trust *trust = NULL;
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(rg_trust_parse(&strings, &trust, &err), RG_OK);
    return trust;
}

struct row {
    const char *peer; /* NULL: a Unix socket */
    const char *lines[3];
    const char *key; /* "": no address */
};

static void address__client__walks_from_the_right(void **state)
{
    (void)state;
    char *texts[] = {"127.0.0.0/8", "::1", "unix", "10.1.0.0/16", "2001:db8:1::/48"};
    struct rg_trust *trust = trust_of(texts, 5);
    static const struct row rows[] = {
        {"192.0.2.7", {NULL}, "192.0.2.7"},
        {"192.0.2.7", {"X-Forwarded-For: 198.51.100.1"}, "192.0.2.7"},
        {"127.0.0.1", {NULL}, ""},
        {NULL, {NULL}, ""},
        {NULL, {"X-Forwarded-For: 198.51.100.1"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1"}, "198.51.100.1"},
        {"::1", {"X-Forwarded-For: 198.51.100.1"}, "198.51.100.1"},
        {"::ffff:127.0.0.1", {"X-Forwarded-For: 198.51.100.1"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: 203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: 203.0.113.9,198.51.100.1,10.1.2.3"}, "198.51.100.1"},
        {"127.0.0.1",
         {"X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.1"},
         "198.51.100.1"},
        {"127.0.0.1",
         {"X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 10.1.2.3"},
         "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: 10.1.2.3"}, "10.1.2.3"},
        {"127.0.0.1", {"X-Forwarded-For: 10.1.9.9, 10.1.2.3"}, "10.1.9.9"},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1:4711"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: [2001:db8:2::5]:4711"}, "2001:0db8:0002:0000::/64"},
        {"127.0.0.1", {"X-Forwarded-For: [2001:db8:2::5]"}, "2001:0db8:0002:0000::/64"},
        {"127.0.0.1", {"X-Forwarded-For: 2001:db8:2::5"}, "2001:0db8:0002:0000::/64"},
        {"127.0.0.1", {"X-Forwarded-For: ::ffff:198.51.100.1"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1, 2001:db8:1::7"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: junk"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: junk, 198.51.100.1"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1, junk"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1, junk, 10.1.2.3"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: unknown"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: "}, ""},
        {"127.0.0.1", {"X-Forwarded-For: ,, ,"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1, ,"}, "198.51.100.1"},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.256"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1:99999999"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: 198.51.100.1:"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: [198.51.100.1]"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: [2001:db8::1"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: [2001:db8::1]x"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: fe80::1%eth0"}, ""},
        {"127.0.0.1", {"X-Forwarded-For: \"198.51.100.1\""}, ""},
        {"10.2.0.1", {"X-Forwarded-For: 198.51.100.1"}, "10.2.0.1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rg_address peer = {.family = RG_FAMILY_UNIX}, client;
        struct rg_headers headers;
        char key[RG_ADDRESS_KEY_SIZE];
        if (rows[i].peer != NULL)
            assert_true(rg_address_parse(&peer, rows[i].peer, strlen(rows[i].peer)));
        headers_of(&headers, rows[i].lines);
        rg_address_client(&client, trust, &peer, &headers);
        rg_address_key(&client, false, key);
        if (strcmp(key, rows[i].key) != 0)
            fail_msg("row %zu: %s instead of %s", i, key, rows[i].key);
    }
    rg_trust_destroy(trust);
}

static void trust__parse__knows_ranges(void **state)
{
    (void)state;
    char *texts[] = {"10.128.0.0/9", "2001:db8::/33", "192.0.2.1"};
    struct rg_trust *trust = trust_of(texts, 3);
    static const struct {
        const char *text;
        bool trusted;
    } rows[] = {
        {"10.128.0.0", true},  {"10.255.255.255", true},    {"10.127.255.255", false},
        {"11.128.0.0", false}, {"192.0.2.1", true},         {"192.0.2.2", false},
        {"2001:db8::1", true}, {"2001:db8:8000::1", false}, {"::ffff:10.200.0.1", true}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rg_address address;
        assert_true(rg_address_parse(&address, rows[i].text, strlen(rows[i].text)));
        if (rg_trust_has(trust, &address) != rows[i].trusted)
            fail_msg("%s", rows[i].text);
    }
    struct rg_address socket = {.family = RG_FAMILY_UNIX};
    assert_false(rg_trust_has(trust, &socket));
    rg_trust_destroy(trust);
}

static void trust__parse__refuses_junk(void **state)
{
    (void)state;
    static const char *const bad[] = {"",          "x",          "10.0.0.0/33", "::/129",
                                      "10.0.0.0/", "10.0.0.0/a", "10.0.0.0/-1", "10.0.0.0:80",
                                      "[::1]",     "localhost",  "Unix"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *text = (char *)(uintptr_t)bad[i];
        struct rg_strings strings = {&text, 1};
        struct rg_trust *trust = NULL;
        struct rg_err err = RG_ERR_INIT;
        if (rg_trust_parse(&strings, &trust, &err) == RG_OK)
            fail_msg("%s is accepted", bad[i]);
        assert_null(trust);
    }
}

static void address__key__groups_by_network(void **state)
{
    (void)state;
    struct rg_address address;
    char key[RG_ADDRESS_KEY_SIZE];
    assert_true(rg_address_parse(&address, "198.51.100.77", 13));
    rg_address_key(&address, true, key);
    assert_string_equal(key, "198.51.100.0/24");
    assert_true(rg_address_parse(&address, "2001:db8:1:2:3:4:5:6", 20));
    rg_address_key(&address, true, key);
    assert_string_equal(key, "2001:0db8:0001:0002::/64");
    address = (struct rg_address){.family = RG_FAMILY_UNIX};
    assert_int_equal(rg_address_key(&address, true, key), 0);
    assert_string_equal(key, "");
}

static void address__from_sockaddr__maps(void **state)
{
    (void)state;
    struct rg_address address;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    rg_address_from_sockaddr(&address, (const struct sockaddr *)&v4);
    assert_int_equal(address.family, RG_FAMILY_V4);
    assert_true(rg_address_loopback(&address));
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    rg_address_from_sockaddr(&address, (const struct sockaddr *)&v6);
    assert_int_equal(address.family, RG_FAMILY_V6);
    assert_true(rg_address_loopback(&address));
    struct sockaddr un = {.sa_family = AF_UNIX};
    rg_address_from_sockaddr(&address, &un);
    assert_int_equal(address.family, RG_FAMILY_UNIX);
    assert_false(rg_address_loopback(&address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address__client__walks_from_the_right),
        cmocka_unit_test(trust__parse__knows_ranges),
        cmocka_unit_test(trust__parse__refuses_junk),
        cmocka_unit_test(address__key__groups_by_network),
        cmocka_unit_test(address__from_sockaddr__maps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

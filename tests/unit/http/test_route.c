#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "http/internal.h"

static const struct rg_route *find(const char *url)
{
    struct rg_path path;
    struct rg_segment wild;
    struct rg_err err = RG_ERR_INIT;
    if (rg_path_split(&path, url, &err) != RG_OK)
        return NULL;
    return rg_route_find(rg_public_routes, rg_public_routes_n, &path, &wild);
}

static void route__table__knows_every_call_of_the_contract(void **state)
{
    (void)state;
    static const struct {
        enum rg_method method;
        const char *url;
        bool built;
    } rows[] = {
        {RG_POST, "/v1/session", true},
        {RG_GET, "/v1/session", true},
        {RG_DELETE, "/v1/session", true},
        {RG_POST, "/v1/session/renew", true},
        {RG_GET, "/v1/roster", true},
        {RG_PUT, "/v1/roster", false},
        {RG_GET, "/v1/roster/changes", true},
        {RG_GET, "/v1/roster/items/a@b", true},
        {RG_PUT, "/v1/roster/items/a@b", true},
        {RG_PATCH, "/v1/roster/items/a@b", true},
        {RG_DELETE, "/v1/roster/items/a@b", true},
        {RG_POST, "/v1/roster/batch", false},
        {RG_GET, "/v1/roster/groups", false},
        {RG_POST, "/v1/roster/groups/rename", false},
        {RG_POST, "/v1/roster/groups/drop", false},
        {RG_POST, "/v1/roster/items/a@b/subscription", false},
        {RG_GET, "/v1/subscriptions", false},
        {RG_GET, "/v1/events", true},
        {RG_GET, "/v1/problems/draining", true},
        {RG_GET, "/v1/openapi.json", true},
        {RG_GET, "/rostergate.js", true},
        {RG_GET, "/", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct rg_route *route = find(rows[i].url);
        const struct rg_call *call =
            route != NULL ? rg_route_call(route, rows[i].method) : NULL;
        if (call == NULL)
            fail_msg("%s", rows[i].url);
        assert_int_equal((call->flags & RG_CALL_NOT_BUILT) == 0, rows[i].built);
        assert_int_equal(call->begin != NULL, rows[i].built);
    }
}

static void route__table__asks_for_a_token_everywhere_else(void **state)
{
    (void)state;
    for (size_t i = 0; i < rg_public_routes_n; i++) {
        const struct rg_route *route = &rg_public_routes[i];
        for (size_t c = 0; c < route->n_calls; c++) {
            bool open = (route->calls[c].flags & RG_CALL_OPEN) != 0;
            bool may =
                strncmp(route->path, "/v1/", 4) != 0 ||
                strncmp(route->path, "/v1/problems/", 13) == 0 ||
                strcmp(route->path, "/v1/openapi.json") == 0 ||
                (strcmp(route->path, "/v1/session") == 0 && route->calls[c].method == RG_POST);
            if (open && !may)
                fail_msg("%s is open", route->path);
        }
    }
}

static void route__find__knows_nothing_else(void **state)
{
    (void)state;
    static const char *const bad[] = {"/v1",
                                      "/v1/",
                                      "/v2/roster",
                                      "/v1/roster/",
                                      "/v1/roster/items",
                                      "/v1/roster/items/",
                                      "/v1/roster/items/a/b",
                                      "/v1/sessions",
                                      "/v1/session/",
                                      "/v1/events/x",
                                      "/livez/x",
                                      "/v1/metrics",
                                      "/v1/problems/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct rg_route *route = find(bad[i]);
        if (route != NULL && strcmp(route->path, "/{asset}") != 0)
            fail_msg("%s is %s", bad[i], route->path);
    }
}

static void route__allow__lists_methods(void **state)
{
    (void)state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    rg_route_allow(find("/v1/roster/items/a@b"), &buf);
    assert_string_equal(buf.data, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS");
}

static void method__parse__is_exact(void **state)
{
    (void)state;
    assert_int_equal(rg_method_parse("GET"), RG_GET);
    assert_int_equal(rg_method_parse("PATCH"), RG_PATCH);
    assert_int_equal(rg_method_parse("get"), RG_METHOD_OTHER);
    assert_int_equal(rg_method_parse("TRACE"), RG_METHOD_OTHER);
    assert_int_equal(rg_method_parse(""), RG_METHOD_OTHER);
    assert_int_equal(rg_method_parse("other"), RG_METHOD_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(route__table__knows_every_call_of_the_contract),
        cmocka_unit_test(route__table__asks_for_a_token_everywhere_else),
        cmocka_unit_test(route__find__knows_nothing_else),
        cmocka_unit_test(route__allow__lists_methods),
        cmocka_unit_test(method__parse__is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

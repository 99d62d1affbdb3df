/* The route table: every path of API.md, and what happens there. */
#include <string.h>

#include "http/internal.h"

static const char *const NO_PARAMS[] = {NULL};
static const char *const SIGN_OUT_PARAMS[] = {"all", NULL};
static const char *const ROSTER_PARAMS[] = {"group", "subscription", "q",
                                            "limit", "cursor",       NULL};
static const char *const CHANGES_PARAMS[] = {"since", "limit", "wait", NULL};
static const char *const EVENTS_PARAMS[] = {"since", "types", "ping", NULL};

#define CALL(m, b, f, fl, p)                                                                   \
    {                                                                                          \
        .method = (m), .begin = (b), .finish = (f), .flags = (fl), .params = (p)               \
    }
#define NOT_BUILT(m, fl)                                                                       \
    {                                                                                          \
        .method = (m), .flags = RG_CALL_NOT_BUILT | (fl), .params = NO_PARAMS                  \
    }

/* The cached read stands first: the table is searched from the top. */
const struct rg_route rg_public_routes[] = {
    {"/v1/roster",
     {CALL(RG_GET, rg_roster_get, rg_roster_got, 0, ROSTER_PARAMS),
      NOT_BUILT(RG_PUT, RG_CALL_BULK)},
     2},
    {"/v1/roster/items/{jid}",
     {CALL(RG_GET, rg_items_get, rg_items_got, 0, NO_PARAMS),
      CALL(RG_PUT, rg_items_put, rg_items_written, RG_CALL_JSON, NO_PARAMS),
      CALL(RG_PATCH, rg_items_patch, rg_items_written, RG_CALL_PATCH, NO_PARAMS),
      CALL(RG_DELETE, rg_items_delete, rg_items_deleted, 0, NO_PARAMS)},
     4},
    {"/v1/events", {CALL(RG_GET, rg_events_get, rg_events_got, 0, EVENTS_PARAMS)}, 1},
    {"/v1/roster/changes",
     {CALL(RG_GET, rg_changes_get, rg_changes_got, 0, CHANGES_PARAMS)},
     1},
    {"/v1/session",
     {CALL(RG_POST, rg_rest_session_create, rg_rest_session_created,
           RG_CALL_OPEN | RG_CALL_JSON | RG_CALL_SECRET, NO_PARAMS),
      CALL(RG_GET, rg_rest_session_get, rg_rest_session_got, 0, NO_PARAMS),
      CALL(RG_DELETE, rg_rest_session_delete, rg_rest_session_deleted, 0, SIGN_OUT_PARAMS)},
     3},
    {"/v1/session/renew",
     {CALL(RG_POST, rg_rest_session_renew, rg_rest_session_renewed,
           RG_CALL_JSON | RG_CALL_OPTIONAL_BODY, NO_PARAMS)},
     1},
    {"/v1/roster/items/{jid}/subscription", {NOT_BUILT(RG_POST, 0)}, 1},
    {"/v1/subscriptions", {NOT_BUILT(RG_GET, 0)}, 1},
    {"/v1/roster/batch", {NOT_BUILT(RG_POST, RG_CALL_BULK)}, 1},
    {"/v1/roster/groups", {NOT_BUILT(RG_GET, 0)}, 1},
    {"/v1/roster/groups/rename", {NOT_BUILT(RG_POST, 0)}, 1},
    {"/v1/roster/groups/drop", {NOT_BUILT(RG_POST, 0)}, 1},
    {"/v1/problems/{code}", {CALL(RG_GET, rg_problem_get, NULL, RG_CALL_OPEN, NO_PARAMS)}, 1},
    {"/v1/openapi.json", {CALL(RG_GET, rg_asset_get, NULL, RG_CALL_OPEN, NO_PARAMS)}, 1},
    {"/{asset}", {CALL(RG_GET, rg_asset_get, NULL, RG_CALL_OPEN, NO_PARAMS)}, 1},
    {"/", {CALL(RG_GET, rg_asset_get, NULL, RG_CALL_OPEN, NO_PARAMS)}, 1},
};
const size_t rg_public_routes_n = RG_ARRAY_LEN(rg_public_routes);

const struct rg_route rg_operations_routes[] = {
    {"/livez",
     {CALL(RG_GET, rg_operations_livez, rg_operations_livez_done, RG_CALL_OPEN, NO_PARAMS)},
     1},
    {"/readyz",
     {CALL(RG_GET, rg_operations_readyz, rg_operations_readyz_done, RG_CALL_OPEN, NO_PARAMS)},
     1},
    {"/metrics", {CALL(RG_GET, rg_operations_metrics, NULL, RG_CALL_OPEN, NO_PARAMS)}, 1},
    {"/accounts/{jid}",
     {CALL(RG_DELETE, rg_operations_erase, rg_operations_erased, RG_CALL_OPEN, NO_PARAMS)},
     1},
};
const size_t rg_operations_routes_n = RG_ARRAY_LEN(rg_operations_routes);

static const char *const METHOD_NAMES[RG_METHOD_COUNT] = {
    [RG_GET] = "GET",         [RG_HEAD] = "HEAD",          [RG_POST] = "POST",
    [RG_PUT] = "PUT",         [RG_PATCH] = "PATCH",        [RG_DELETE] = "DELETE",
    [RG_OPTIONS] = "OPTIONS", [RG_METHOD_OTHER] = "other",
};

enum rg_method rg_method_parse(const char *text)
{
    for (int i = 0; i < RG_METHOD_OTHER; i++) {
        if (strcmp(text, METHOD_NAMES[i]) == 0)
            return (enum rg_method)i;
    }
    return RG_METHOD_OTHER;
}

const char *rg_method_name(enum rg_method method)
{
    return METHOD_NAMES[method];
}

const struct rg_route *rg_route_find(const struct rg_route *routes, size_t n,
                                     const struct rg_path *path, struct rg_segment *out_wild)
{
    for (size_t i = 0; i < n; i++) {
        if (rg_path_match(path, routes[i].path, out_wild))
            return &routes[i];
    }
    return NULL;
}

const struct rg_call *rg_route_call(const struct rg_route *route, enum rg_method method)
{
    for (size_t i = 0; i < route->n_calls; i++) {
        if (route->calls[i].method == method)
            return &route->calls[i];
    }
    return NULL;
}

void rg_route_allow(const struct rg_route *route, struct rg_buf *buf)
{
    for (size_t i = 0; i < route->n_calls; i++) {
        enum rg_method method = route->calls[i].method;
        rg_buf_puts(buf, method == RG_GET ? "GET, HEAD" : METHOD_NAMES[method]);
        rg_buf_puts(buf, ", ");
    }
    rg_buf_puts(buf, "OPTIONS");
}

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "http/reply.h"

/* API section 6, row by row. */
static void reply__status__follows_the_table(void **state)
{
    (void)state;
    static const struct {
        enum rg_code code;
        unsigned status;
    } rows[] = {
        {RG_OK, 200},
        {RG_E_INTERNAL, 500},
        {RG_E_CANCELLED, 503},
        {RG_E_BAD_REQUEST, 400},
        {RG_E_INVALID_JSON, 400},
        {RG_E_INVALID_ITEM, 422},
        {RG_E_INVALID_JID, 422},
        {RG_E_INVALID_QUERY, 400},
        {RG_E_UNKNOWN_PARAMETER, 400},
        {RG_E_TOO_LARGE, 413},
        {RG_E_MEDIA_TYPE, 415},
        {RG_E_NOT_FOUND, 404},
        {RG_E_METHOD, 405},
        {RG_E_NOT_IMPLEMENTED, 501},
        {RG_E_UNAUTHORIZED, 401},
        {RG_E_CREDENTIALS, 401},
        {RG_E_SIGN_IN_AGAIN, 401},
        {RG_E_CSRF, 403},
        {RG_E_DOMAIN, 403},
        {RG_E_RATE, 429},
        {RG_E_POOL_FULL, 503},
        {RG_E_UNREACHABLE, 503},
        {RG_E_TIMEOUT, 504},
        {RG_E_UNCERTAIN, 504},
        {RG_E_NOT_APPLIED, 502},
        {RG_E_ITEM_NOT_FOUND, 404},
        {RG_E_ROSTER_NOT_FOUND, 404},
        {RG_E_SELF_CONTACT, 403},
        {RG_E_VERSION_EXPIRED, 410},
        {RG_E_VERSION_MISMATCH, 412},
        {RG_E_VERSION_CHANGED, 409},
    };
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_err err = {.code = rows[i].code};
        if (rg_reply_status(&err, false) != rows[i].status)
            fail_msg("%s", rg_code_slug(rows[i].code));
    }
    struct rg_err away = {.code = RG_E_UNREACHABLE};
    assert_int_equal(rg_reply_status(&away, true), 502);
}

static void reply__status__follows_the_conditions(void **state)
{
    (void)state;
    static const struct {
        enum rg_condition condition;
        unsigned status;
    } rows[] = {
        {RG_XMPP_BAD_REQUEST, 400},
        {RG_XMPP_JID_MALFORMED, 400},
        {RG_XMPP_NOT_ACCEPTABLE, 422},
        {RG_XMPP_ITEM_NOT_FOUND, 404},
        {RG_XMPP_FORBIDDEN, 403},
        {RG_XMPP_NOT_ALLOWED, 403},
        {RG_XMPP_REGISTRATION_REQUIRED, 403},
        {RG_XMPP_SUBSCRIPTION_REQUIRED, 403},
        {RG_XMPP_CONFLICT, 409},
        {RG_XMPP_UNEXPECTED_REQUEST, 409},
        {RG_XMPP_FEATURE_NOT_IMPLEMENTED, 501},
        {RG_XMPP_POLICY_VIOLATION, 403},
        {RG_XMPP_RESOURCE_CONSTRAINT, 503},
        {RG_XMPP_SERVICE_UNAVAILABLE, 503},
        {RG_XMPP_RECIPIENT_UNAVAILABLE, 503},
        {RG_XMPP_REMOTE_SERVER_NOT_FOUND, 502},
        {RG_XMPP_INTERNAL_SERVER_ERROR, 502},
        {RG_XMPP_UNDEFINED_CONDITION, 502},
        {RG_XMPP_GONE, 502},
        {RG_XMPP_REDIRECT, 502},
        {RG_XMPP_NOT_AUTHORIZED, 502},
        {RG_XMPP_NONE, 502},
        {RG_XMPP_REMOTE_SERVER_TIMEOUT, 504},
    };
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_err err = {.code = RG_E_XMPP, .xmpp.condition = rows[i].condition};
        if (rg_reply_status(&err, false) != rows[i].status)
            fail_msg("%s", rg_condition_name(rows[i].condition));
    }
    struct rg_err busy = {.code = RG_E_XMPP,
                          .xmpp = {RG_XMPP_POLICY_VIOLATION, RG_XMPP_TYPE_WAIT, ""}};
    assert_int_equal(rg_reply_status(&busy, false), 429);
}

static void reply__retry_after__stands_where_it_helps(void **state)
{
    (void)state;
    struct rg_err err = {.code = RG_E_RATE};
    assert_true(rg_reply_retry_after(&err, 429) > 0);
    assert_true(rg_reply_retry_after(&err, 503) > 0);
    assert_int_equal(rg_reply_retry_after(&err, 404), 0);
    err.retry_after_s = 17;
    assert_int_equal(rg_reply_retry_after(&err, 429), 17);
}

static json_t *problem(const struct rg_err *err, unsigned status)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    rg_reply_problem(&buf, err, status, "req-1");
    json_t *json = json_loadb(buf.data, buf.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    return json;
}

static const char *text(json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

static void problem__write__has_every_member(void **state)
{
    (void)state;
    struct rg_err err = RG_ERR_INIT;
    rg_fail(&err, RG_E_INVALID_ITEM, "groups[1]: \"empty\"");
    json_t *json = problem(&err, 422);
    assert_string_equal(text(json, "type"), "/v1/problems/invalid-item");
    assert_string_equal(text(json, "code"), "invalid-item");
    assert_string_equal(text(json, "detail"), "groups[1]: \"empty\"");
    assert_string_equal(text(json, "instance"), "req-1");
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 422);
    assert_non_null(text(json, "title"));
    assert_null(json_object_get(json, "xmpp"));
    json_decref(json);
}

static void problem__write__says_what_the_server_said(void **state)
{
    (void)state;
    struct rg_xmpp_error said = {RG_XMPP_FORBIDDEN, RG_XMPP_TYPE_AUTH, "no \"way\""};
    struct rg_err err = RG_ERR_INIT;
    rg_fail_xmpp(&err, &said);
    json_t *json = problem(&err, 403);
    assert_string_equal(text(json, "code"), "forbidden");
    assert_string_equal(text(json, "type"), "/v1/problems/forbidden");
    json_t *xmpp = json_object_get(json, "xmpp");
    assert_string_equal(text(xmpp, "condition"), "forbidden");
    assert_string_equal(text(xmpp, "type"), "auth");
    assert_string_equal(text(xmpp, "text"), "no \"way\"");
    json_decref(json);
}

static void problem__explain__knows_every_code(void **state)
{
    (void)state;
    for (int i = RG_OK + 1; i < RG_CODE_COUNT; i++) {
        if (i == RG_E_XMPP)
            continue;
        RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
        const char *slug = rg_code_slug((enum rg_code)i);
        assert_true(rg_reply_explain(&buf, slug, strlen(slug)));
    }
    for (int i = RG_XMPP_NONE + 1; i < RG_XMPP_CONDITION_COUNT; i++) {
        RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
        const char *name = rg_condition_name((enum rg_condition)i);
        if (!rg_reply_explain(&buf, name, strlen(name)))
            fail_msg("%s", name);
        json_t *json = json_loadb(buf.data, buf.len, 0, NULL);
        assert_string_equal(text(json, "code"), name);
        json_decref(json);
    }
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    assert_false(rg_reply_explain(&buf, "nonsense", 8));
    assert_false(rg_reply_explain(&buf, "ok", 2));
    assert_false(rg_reply_explain(&buf, "xmpp", 4));
    assert_false(rg_reply_explain(&buf, "", 0));
    assert_int_equal(buf.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reply__status__follows_the_table),
        cmocka_unit_test(reply__status__follows_the_conditions),
        cmocka_unit_test(reply__retry_after__stands_where_it_helps),
        cmocka_unit_test(problem__write__has_every_member),
        cmocka_unit_test(problem__write__says_what_the_server_said),
        cmocka_unit_test(problem__explain__knows_every_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

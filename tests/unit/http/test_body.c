#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/body.h"

static struct rg_config config = {
    .limits = {.name_bytes = 1023, .group_bytes = 1023, .groups = 100}};

/* Text with its length, so that a NUL may stand in it. */
struct text {
    const char *bytes;
    size_t len;
};
#define T(s)                                                                                   \
    {                                                                                          \
        s, sizeof(s) - 1                                                                       \
    }

/* What does not parse as JSON, or is not the JSON we take: 400. */
static const struct text BROKEN[] = {
    T(""),
    T(" "),
    T("\n"),
    T("{"),
    T("}"),
    T("["),
    T("]"),
    T("{]"),
    T("[}"),
    T("{\"a\"}"),
    T("{\"a\":}"),
    T("{\"a\":1,}"),
    T("{,}"),
    T("{\"a\":1 \"b\":2}"),
    T("{\"a\" 1}"),
    T("{a:1}"),
    T("{'a':1}"),
    T("{\"a\":1}}"),
    T("{\"a\":1}x"),
    T("{\"a\":1} {}"),
    T("{\"a\":1},"),
    T("[1,]"),
    T("[,1]"),
    T("[1 2]"),
    T("nul"),

    T("NaN"),
    T("Infinity"),
    T("{\"a\":NaN}"),
    T("{\"a\":-Infinity}"),
    T("{\"a\":+1}"),
    T("{\"a\":01}"),
    T("{\"a\":1.}"),
    T("{\"a\":.1}"),
    T("{\"a\":1e}"),
    T("{\"a\":0x1}"),
    T("{\"a\":-}"),
    T("{\"a\":1e999}"),
    T("{\"a\":99999999999999999999999}"),
    T("{\"a\":tru}"),
    T("{\"a\":True}"),
    T("{\"a\":undefined}"),
    T("{\"a\":\"}"),
    T("{\"a\":\"\\\"}"),
    T("{\"a\":\"\\x41\"}"),
    T("{\"a\":\"\\u12\"}"),
    T("{\"a\":\"\\u12g4\"}"),
    T("{\"a\":\"\\'\"}"),
    T("{\"a\":\"\t\"}"),
    T("{\"a\":\"\n\"}"),
    T("{\"a\":\"\x01\"}"),
    T("{\"a\":\"\0\"}"),
    T("{\"a\":\"\\ud800\"}"),
    T("{\"a\":\"\\udc00\"}"),
    T("{\"a\":\"\\ud800\\ud800\"}"),
    T("{\"a\":\"\\ud800x\"}"),
    T("{\"a\":\"\\udc00\\ud800\"}"),
    T("{\"a\":\"\\ud800\\u0041\"}"),
    T("{\"\\ud800\":1}"),
    T("{\"\\u0000\":1}"),
    T("{\"a\\u0000b\":1}"),
    T("{\"a\":\"\xff\"}"),
    T("{\"a\":\"\xc0\xaf\"}"),
    T("{\"a\":\"\xc3\"}"),
    T("{\"a\":\"\xed\xa0\x80\"}"),
    T("{\"a\":\"\xf5\x80\x80\x80\"}"),
    T("{\"a\":\"\xf4\x90\x80\x80\"}"),
    T("{\"a\":\"\xe2\x82\"}"),
    T("{\"a\":\"\x80\"}"),
    T("{\"\xff\":1}"),
    T("\xef\xbb\xbf{}"),
    T("\xff\xfe{\0}\0"),
    T("{\"a\":1,\"a\":2}"),
    T("{\"a\":1,\"\\u0061\":2}"),
    T("{\"a\":{\"b\":1,\"b\":1}}"),
    T("{\"name\":\"x\",\"name\":\"x\"}"),
    T("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]"),
    T("{\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}"),
    T("[[[[[[[[[[[[[[[[["),
    T("{\"a\":1}\0"),
    T("\0"),
    T("{\0}"),
    T("// x\n{}"),
    T("{} // x"),
    T("/* */{}"),
    T("#\n{}"),
    T("{\"a\":1;}"),
    T("{\"a\"=1}"),
    T("<a/>"),
    T("a=b"),
    T("name=x&groups=y"),
    T("--x\r\n"),
    T("{\"a\":`x`}"),
    T("{\"a\":1,\"b\"}"),
    T("{\"a\":[1,2}"),
    T("{\"a\":{\"b\":1]}"),
    T("{\"a\"::1}"),
    T("{\"a\":1,,\"b\":2}"),
    T("{:1}"),
    T("{1:1}"),
    T("{null:1}"),
    T("{\"a\":\"\\\n\"}"),
    T("{\"a\":\"\\u{41}\"}"),
    T("{\"a\":\"\\U00000041\"}"),
    T("{\"a\":--1}"),
    T("{\"a\":1-1}"),
    T("{\"a\":1 000}"),
    T("{\"a\":1_000}"),
    T("{\"a\":(1)}"),
    T("{\"a\":nullx}"),
    T("\"\\"),
    T("{\"a\":\"b\" \"c\"}"),
    T("{\"a\":\"\x7f\x80\"}"),
    T("\x1e{}"),
    T("{}\x1a"),
    T("{\"a\":\f1}"),
};

static void body__parse__refuses_what_is_not_json(void **state)
{
    (void)state;
    assert_true(sizeof(BROKEN) / sizeof(BROKEN[0]) >= 100);
    for (size_t i = 0; i < sizeof(BROKEN) / sizeof(BROKEN[0]); i++) {
        json_t *json = NULL;
        struct rg_err err = RG_ERR_INIT;
        enum rg_code code = rg_body_parse(BROKEN[i].bytes, BROKEN[i].len, &json, &err);
        if (code != RG_E_INVALID_JSON || json != NULL)
            fail_msg("row %zu: %s: code %d", i, BROKEN[i].bytes, (int)code);
        assert_int_equal(err.code, RG_E_INVALID_JSON);
    }
}

static void body__parse__takes_objects_of_sixteen_levels(void **state)
{
    (void)state;
    static const char *const good[] = {"{}",
                                       " { \"a\" : [ ] } ",
                                       "{\"a\":\"[[[[[[[[[[[[[[[[[[[[\"}",
                                       "{\"a\":\"\\\"{{{{{{{{{{{{{{{{{{{{\"}",
                                       "{\"a\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}",
                                       "{\"a\":\"\\ud83d\\ude00\"}",
                                       "{\"a\":\"\\u0000\"}",
                                       "{\"a\":1.5e3}"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        RG_CLEANUP(rg_jsonp) json_t *json = NULL;
        struct rg_err err = RG_ERR_INIT;
        if (rg_body_parse(good[i], strlen(good[i]), &json, &err) != RG_OK)
            fail_msg("%s: %s", good[i], err.text);
    }
}

static void body__parse__wants_an_object(void **state)
{
    (void)state;
    static const char *const others[] = {"[]", "[{}]", "null", "true", "7", "\"x\"", "1.5"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        json_t *json = NULL;
        struct rg_err err = RG_ERR_INIT;
        if (rg_body_parse(others[i], strlen(others[i]), &json, &err) != RG_E_INVALID_ITEM)
            fail_msg("%s", others[i]);
        assert_null(json);
    }
}

static void body__parse__does_not_quote_the_body(void **state)
{
    (void)state;
    static const char text[] = "{\"password\":\"hunter2\" hunter3}";
    json_t *json = NULL;
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(rg_body_parse(text, sizeof(text) - 1, &json, &err), RG_E_INVALID_JSON);
    assert_null(strstr(err.text, "hunter"));
}

static enum rg_code item(const char *text, bool patch, struct rg_item_body *out,
                         struct rg_err *err)
{
    RG_CLEANUP(rg_jsonp) json_t *json = NULL;
    enum rg_code code = rg_body_parse(text, strlen(text), &json, err);
    return code != RG_OK ? code : rg_body_item(json, &config, patch, out, err);
}

struct bad_item {
    const char *text;
    const char *member; /* named in the detail */
};

static void item__read__names_the_member_that_is_wrong(void **state)
{
    (void)state;
    static const struct bad_item bad[] = {
        {"{\"name\":1}", "name"},
        {"{\"name\":true}", "name"},
        {"{\"name\":[]}", "name"},
        {"{\"name\":{}}", "name"},
        {"{\"name\":\"a\\u0000b\"}", "name"},
        {"{\"name\":\"a\\tb\"}", "name"},
        {"{\"name\":\"a\\nb\"}", "name"},
        {"{\"name\":\"a\\rb\"}", "name"},
        {"{\"name\":\"\\u0001\"}", "name"},
        {"{\"name\":\"\\u007f\"}", "name"},
        {"{\"name\":\"\\u0085\"}", "name"},
        {"{\"name\":\"\\ufffe\"}", "name"},
        {"{\"name\":\"\\uffff\"}", "name"},
        {"{\"groups\":\"a\"}", "groups"},
        {"{\"groups\":{}}", "groups"},
        {"{\"groups\":null}", "groups"},
        {"{\"groups\":[1]}", "groups[0]"},
        {"{\"groups\":[\"a\",null]}", "groups[1]"},
        {"{\"groups\":[\"a\",[\"b\"]]}", "groups[1]"},
        {"{\"groups\":[\"\"]}", "groups[0]"},
        {"{\"groups\":[\"a\",\"b\",\"a\"]}", "groups"},
        {"{\"groups\":[\"\\u00c5\",\"b\",\"\\u212b\"]}",
         "groups"}, /* as ejabberd compares them (R25) */
        {"{\"groups\":[\"ab\",\"a\\u00adb\"]}", "groups"},
        {"{\"groups\":[\"a\\u0000\"]}", "groups[0]"},
        {"{\"groups\":[\"\\u0009\"]}", "groups[0]"},
        {"{\"nmae\":\"a\"}", "nmae"},
        {"{\"jid\":\"a@b\"}", "jid"},
        {"{\"subscription\":\"both\"}", "subscription"},
        {"{\"name\":\"a\",\"approved\":false}", "approved"},
        {"{\"Name\":\"a\"}", "Name"},
        {"{\"\":1}", "unknown"},
        {"{\"\\u0001\":1}", "unknown"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rg_item_body out = {.name = NULL};
        struct rg_err err = RG_ERR_INIT;
        if (item(bad[i].text, false, &out, &err) != RG_E_INVALID_ITEM)
            fail_msg("%s is accepted", bad[i].text);
        if (strstr(err.text, bad[i].member) == NULL)
            fail_msg("%s: %s", bad[i].text, err.text);
        assert_null(out.name);
        assert_null(out.groups);
    }
}

static void item__read__takes_what_is_right(void **state)
{
    (void)state;
    struct rg_item_body out = {.name = NULL};
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(item("{\"name\":\" N\xc3\xbcrse \",\"groups\":[\"b\",\"a\",\" a\"]}",
                          false, &out, &err),
                     RG_OK);
    assert_string_equal(out.name, " N\xc3\xbcrse ");
    assert_int_equal(out.n_groups, 3);
    assert_string_equal(out.groups[0], "b");
    assert_true(out.name_set && out.groups_set);
    rg_item_body_fini(&out);
    assert_int_equal(item("{}", false, &out, &err), RG_OK);
    assert_null(out.name);
    assert_false(out.name_set || out.groups_set);
    rg_item_body_fini(&out);
    assert_int_equal(item("{\"name\":\"\"}", false, &out, &err), RG_OK);
    assert_null(out.name);
    rg_item_body_fini(&out);
    assert_int_equal(item("{\"name\":null}", false, &out, &err), RG_OK);
    assert_null(out.name);
    rg_item_body_fini(&out);
}

static void item__read__null_clears_in_a_patch(void **state)
{
    (void)state;
    struct rg_item_body out = {.name = NULL};
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(item("{\"name\":null,\"groups\":null}", true, &out, &err), RG_OK);
    assert_true(out.name_set && out.groups_set);
    assert_null(out.name);
    assert_int_equal(out.n_groups, 0);
    rg_item_body_fini(&out);
    assert_int_equal(item("{\"groups\":[]}", true, &out, &err), RG_OK);
    assert_true(!out.name_set && out.groups_set);
    rg_item_body_fini(&out);
}

static void item__read__bounds_lengths_and_numbers(void **state)
{
    (void)state;
    char text[8192];
    char long_name[1200];
    struct rg_item_body out = {.name = NULL};
    struct rg_err err = RG_ERR_INIT;
    memset(long_name, 'x', 1024);
    long_name[1023] = '\0';
    snprintf(text, sizeof(text), "{\"name\":\"%s\",\"groups\":[\"%s\"]}", long_name, long_name);
    assert_int_equal(item(text, false, &out, &err), RG_OK);
    rg_item_body_fini(&out);
    long_name[1023] = 'x';
    long_name[1024] = '\0';
    snprintf(text, sizeof(text), "{\"name\":\"%s\"}", long_name);
    assert_int_equal(item(text, false, &out, &err), RG_E_INVALID_ITEM);
    snprintf(text, sizeof(text), "{\"groups\":[\"%s\"]}", long_name);
    assert_int_equal(item(text, false, &out, &err), RG_E_INVALID_ITEM);
    for (size_t n = 100; n <= 101; n++) {
        size_t len = (size_t)snprintf(text, sizeof(text), "{\"groups\":[\"0\"");
        for (size_t i = 1; i < n; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, ",\"%zu\"", i);
        snprintf(text + len, sizeof(text) - len, "]}");
        assert_int_equal(item(text, false, &out, &err), n == 100 ? RG_OK : RG_E_INVALID_ITEM);
        if (n == 100)
            rg_item_body_fini(&out);
    }
}

static enum rg_code sign_in(const char *text, struct rg_sign_in *out, struct rg_err *err)
{
    RG_CLEANUP(rg_jsonp) json_t *json = NULL;
    enum rg_code code = rg_body_parse(text, strlen(text), &json, err);
    return code != RG_OK ? code : rg_body_sign_in(json, out, err);
}

static void sign_in__read__takes_what_is_right(void **state)
{
    (void)state;
    struct rg_sign_in in;
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(
        sign_in("{\"jid\":\"Juliet@EXAMPLE.com\",\"password\":\"p\\u00e4ss\"}", &in, &err),
        RG_OK);
    assert_string_equal(in.user, "juliet@example.com");
    assert_string_equal(rg_secret_data(in.password), "p\xc3\xa4ss");
    assert_false(in.listen || in.cookie);
    rg_sign_in_fini(&in);
    assert_int_equal(
        sign_in("{\"jid\":\"a@b\",\"password\":\"p\",\"presence\":\"listen\",\"cookie\":true}",
                &in, &err),
        RG_OK);
    assert_true(in.listen && in.cookie);
    rg_sign_in_fini(&in);
}

static void sign_in__read__refuses_the_rest(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum rg_code code;
        const char *member;
    } bad[] = {
        {"{}", RG_E_INVALID_ITEM, "password"},
        {"{\"jid\":\"a@b\"}", RG_E_INVALID_ITEM, "password"},
        {"{\"password\":\"p\"}", RG_E_INVALID_ITEM, "jid"},
        {"{\"jid\":1,\"password\":\"p\"}", RG_E_INVALID_ITEM, "jid"},
        {"{\"jid\":null,\"password\":\"p\"}", RG_E_INVALID_ITEM, "jid"},
        {"{\"jid\":\"a@b\",\"password\":1}", RG_E_INVALID_ITEM, "password"},
        {"{\"jid\":\"a@b\",\"password\":\"\"}", RG_E_INVALID_ITEM, "password"},
        {"{\"jid\":\"a@b\",\"password\":\"a\\u0000b\"}", RG_E_INVALID_ITEM, "password"},
        {"{\"jid\":\"a@b/r\",\"password\":\"p\"}", RG_E_INVALID_JID, "jid"},
        {"{\"jid\":\"b\",\"password\":\"p\"}", RG_E_INVALID_JID, "jid"},
        {"{\"jid\":\"\",\"password\":\"p\"}", RG_E_INVALID_JID, "jid"},
        {"{\"jid\":\"@b\",\"password\":\"p\"}", RG_E_INVALID_JID, "jid"},
        {"{\"jid\":\"a@\",\"password\":\"p\"}", RG_E_INVALID_JID, "jid"},
        {"{\"jid\":\"a\\u0000@b\",\"password\":\"p\"}", RG_E_INVALID_JID, "jid"},
        {"{\"jid\":\"a b@c\",\"password\":\"p\"}", RG_E_INVALID_JID, "jid"},
        {"{\"jid\":\"a@b\",\"password\":\"p\",\"presence\":\"away\"}", RG_E_INVALID_ITEM,
         "presence"},
        {"{\"jid\":\"a@b\",\"password\":\"p\",\"presence\":null}", RG_E_INVALID_ITEM,
         "presence"},
        {"{\"jid\":\"a@b\",\"password\":\"p\",\"presence\":\"none\\u0000\"}", RG_E_INVALID_ITEM,
         "presence"},
        {"{\"jid\":\"a@b\",\"password\":\"p\",\"cookie\":1}", RG_E_INVALID_ITEM, "cookie"},
        {"{\"jid\":\"a@b\",\"password\":\"p\",\"cookie\":\"true\"}", RG_E_INVALID_ITEM,
         "cookie"},
        {"{\"jid\":\"a@b\",\"password\":\"p\",\"token\":\"x\"}", RG_E_INVALID_ITEM, "token"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rg_sign_in in;
        struct rg_err err = RG_ERR_INIT;
        enum rg_code code = sign_in(bad[i].text, &in, &err);
        if (code != bad[i].code || strstr(err.text, bad[i].member) == NULL)
            fail_msg("%s: code %d, %s", bad[i].text, (int)code, err.text);
    }
}

static void sign_in__read__bounds_the_password(void **state)
{
    (void)state;
    char password[600], text[800];
    struct rg_sign_in in;
    struct rg_err err = RG_ERR_INIT;
    for (size_t len = 512; len <= 513; len++) {
        memset(password, 'p', len);
        password[len] = '\0';
        snprintf(text, sizeof(text), "{\"jid\":\"a@b\",\"password\":\"%s\"}", password);
        assert_int_equal(sign_in(text, &in, &err), len == 512 ? RG_OK : RG_E_INVALID_ITEM);
        if (len == 512)
            rg_sign_in_fini(&in);
    }
}

static void renew__read__takes_presence_only(void **state)
{
    (void)state;
    bool set = false, listen = false;
    struct rg_err err = RG_ERR_INIT;
    RG_CLEANUP(rg_jsonp) json_t *empty = json_object();
    assert_int_equal(rg_body_renew(empty, &set, &listen, &err), RG_OK);
    assert_false(set);
    RG_CLEANUP(rg_jsonp) json_t *good = json_pack("{s:s}", "presence", "listen");
    assert_int_equal(rg_body_renew(good, &set, &listen, &err), RG_OK);
    assert_true(set && listen);
    RG_CLEANUP(rg_jsonp) json_t *bad = json_pack("{s:s}", "password", "p");
    assert_int_equal(rg_body_renew(bad, &set, &listen, &err), RG_E_INVALID_ITEM);
}

static void media__is__json_in_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"application/json",
                                       "Application/JSON",
                                       "application/json; charset=utf-8",
                                       "application/json;charset=UTF-8",
                                       "application/json ; charset=\"utf-8\"",
                                       "application/json;"};
    static const char *const bad[] = {"",
                                      "text/plain",
                                      "application/jsonx",
                                      "application/json+x",
                                      "application/merge-patch+json",
                                      "application/x-www-form-urlencoded",
                                      "application/json; charset=latin1",
                                      "application/json; charset=utf-16",
                                      "application/json; charset=\"utf-8",
                                      "application/json, text/plain",
                                      "application/json; boundary=x",
                                      "json"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(rg_media_is(good[i], RG_MEDIA_JSON));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (rg_media_is(bad[i], RG_MEDIA_JSON))
            fail_msg("%s", bad[i]);
    }
    assert_false(rg_media_is(NULL, RG_MEDIA_JSON));
    assert_true(rg_media_is("application/merge-patch+json", RG_MEDIA_MERGE_PATCH));
    assert_false(rg_media_is("application/json", RG_MEDIA_MERGE_PATCH));
}

static int setup(void **state)
{
    (void)state;
    rg_body_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(body__parse__refuses_what_is_not_json),
        cmocka_unit_test(body__parse__takes_objects_of_sixteen_levels),
        cmocka_unit_test(body__parse__wants_an_object),
        cmocka_unit_test(body__parse__does_not_quote_the_body),
        cmocka_unit_test(item__read__names_the_member_that_is_wrong),
        cmocka_unit_test(item__read__takes_what_is_right),
        cmocka_unit_test(item__read__null_clears_in_a_patch),
        cmocka_unit_test(item__read__bounds_lengths_and_numbers),
        cmocka_unit_test(sign_in__read__takes_what_is_right),
        cmocka_unit_test(sign_in__read__refuses_the_rest),
        cmocka_unit_test(sign_in__read__bounds_the_password),
        cmocka_unit_test(renew__read__takes_presence_only),
        cmocka_unit_test(media__is__json_in_utf8),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}

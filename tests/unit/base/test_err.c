#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/err.h"
#include "gateway/base/text.h"

static void err__fail__fills_and_clears(void **state)
{
    struct rg_err err = {.retry_after_s = 9, .xmpp = {.condition = RG_XMPP_GONE}};

    (void)state;
    assert_int_equal(rg_fail(&err, RG_E_RATE, "%s %d", "after", 3), RG_E_RATE);
    assert_int_equal(err.code, RG_E_RATE);
    assert_int_equal(err.retry_after_s, 0);
    assert_int_equal(err.xmpp.condition, RG_XMPP_NONE);
    assert_string_equal(err.text, "after 3");
    assert_int_equal(rg_fail(NULL, RG_E_RATE, "nobody listens"), RG_E_RATE);
}

static void err__fail__cuts_at_a_character(void **state)
{
    struct rg_err err = RG_ERR_INIT;
    char text[400];

    (void)state;
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 4);
        rg_fail(&err, RG_E_INTERNAL, "%s", text);
        assert_true(rg_utf8_valid(err.text, strlen(err.text)));
        assert_true(strlen(err.text) > sizeof(err.text) - 5);
    }
}

static void err__fail__is_always_utf8(void **state)
{
    struct rg_err err = RG_ERR_INIT;

    (void)state;
    rg_fail(&err, RG_E_INTERNAL, "a\xFF%s", "\xC3");
    assert_true(rg_utf8_valid(err.text, strlen(err.text)));
}

static void err__fail_xmpp__keeps_what_was_said(void **state)
{
    struct rg_xmpp_error said = {
        .condition = RG_XMPP_FORBIDDEN, .type = RG_XMPP_TYPE_AUTH, .text = "go away"};
    struct rg_err err = RG_ERR_INIT;

    (void)state;
    assert_int_equal(rg_fail_xmpp(&err, &said), RG_E_XMPP);
    assert_int_equal(err.code, RG_E_XMPP);
    assert_int_equal(err.xmpp.condition, RG_XMPP_FORBIDDEN);
    assert_int_equal(err.xmpp.type, RG_XMPP_TYPE_AUTH);
    assert_string_equal(err.xmpp.text, "go away");
    assert_non_null(strstr(err.text, "forbidden"));
    assert_int_equal(rg_fail_xmpp(&err, &err.xmpp), RG_E_XMPP); /* from itself */
    assert_string_equal(err.xmpp.text, "go away");
    assert_int_equal(rg_fail_xmpp(NULL, &said), RG_E_XMPP);
}

static void err__codes__have_slug_title_help(void **state)
{
    (void)state;
    for (int i = 0; i < RG_CODE_COUNT; i++) {
        assert_true(rg_code_slug((enum rg_code)i)[0] != '\0');
        assert_true(rg_code_title((enum rg_code)i)[0] != '\0');
        assert_true(rg_code_help((enum rg_code)i)[0] != '\0');
        for (int j = 0; j < i; j++)
            assert_string_not_equal(rg_code_slug((enum rg_code)i),
                                    rg_code_slug((enum rg_code)j));
    }
    assert_string_equal(rg_code_slug(RG_E_ITEM_NOT_FOUND), "item-not-found");
}

static void err__conditions__come_back(void **state)
{
    (void)state;
    for (int i = RG_XMPP_NONE + 1; i < RG_XMPP_CONDITION_COUNT; i++)
        assert_int_equal(rg_condition_parse(rg_condition_name((enum rg_condition)i)), i);
    assert_string_equal(rg_condition_name(RG_XMPP_NONE), "");
    assert_int_equal(rg_condition_parse("made-up"), RG_XMPP_UNDEFINED_CONDITION);
    assert_int_equal(rg_condition_parse(""), RG_XMPP_UNDEFINED_CONDITION);
    for (int i = 0; i < RG_XMPP_TYPE_COUNT; i++)
        assert_int_equal(rg_xmpp_type_parse(rg_xmpp_type_name((enum rg_xmpp_type)i)), i);
    assert_int_equal(rg_xmpp_type_parse("other"), RG_XMPP_TYPE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err__fail__fills_and_clears),
        cmocka_unit_test(err__fail__cuts_at_a_character),
        cmocka_unit_test(err__fail__is_always_utf8),
        cmocka_unit_test(err__fail_xmpp__keeps_what_was_said),
        cmocka_unit_test(err__codes__have_slug_title_help),
        cmocka_unit_test(err__conditions__come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

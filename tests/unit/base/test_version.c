#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/base/version.h"

static void version__draw__is_never_zero_and_differs(void **state)
{
    uint64_t last = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = rg_version_draw();

        assert_true(value != 0 && value != last);
        last = value;
    }
}

static void version__format__comes_back(void **state)
{
    static const uint64_t seqs[] = {0, 1, 9, 10, 4294967296, UINT64_MAX};
    struct rg_version got;
    char text[RG_VERSION_SIZE];

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(seqs); i++) {
        struct rg_stamp at = {.mark = UINT64_MAX, .seq = seqs[i]};
        size_t len = rg_version_format(text, 1, at);

        assert_int_equal(len, strlen(text));
        assert_true(len < RG_VERSION_SIZE);
        assert_int_equal(
            strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-"),
            len);
        assert_true(rg_version_parse(&got, text, len));
        assert_true(got.epoch == 1 && rg_stamp_equal(got.at, at));
    }
}

static void version__format__is_prefix_and_seq(void **state)
{
    char text[RG_VERSION_SIZE];

    (void)state;
    rg_version_format(text, 0xabc, (struct rg_stamp){.mark = 0xdef, .seq = 42});
    assert_string_equal(text, "0000000000000abc.0000000000000def-42");
}

static void version__parse__is_strict(void **state)
{
    static const char *const bad[] = {
        "",
        "0000000000000abc.0000000000000def-",
        "0000000000000abc.0000000000000def",
        "0000000000000abc.0000000000000def-042",
        "0000000000000abc.0000000000000def-00",
        "0000000000000abc.0000000000000def-+4",
        "0000000000000abc.0000000000000def- 4",
        "0000000000000abc.0000000000000def--4",
        "0000000000000abc.0000000000000def-4 ",
        "0000000000000abc.0000000000000def-4\n",
        "0000000000000abc.0000000000000def-4x",
        "0000000000000abc.0000000000000def-18446744073709551616",
        "0000000000000abc.0000000000000def-99999999999999999999",
        "0000000000000abc.0000000000000def-184467440737095516150",
        "0000000000000ABC.0000000000000def-4",
        "0000000000000abc.0000000000000DEF-4",
        "0000000000000abg.0000000000000def-4",
        "0000000000000abc-0000000000000def-4",
        "0000000000000abc.0000000000000def.4",
        "000000000000abc.0000000000000def-4",
        "00000000000000abc.0000000000000def-4",
        "0000000000000abc.000000000000def-4",
        "0000000000000000.0000000000000def-4",
        "0000000000000abc.0000000000000000-4",
        "W/0000000000000abc.0000000000000def-4",
        "\"0000000000000abc.0000000000000def-4\"",
        "now",
    };
    struct rg_version got = {.epoch = 7};

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(bad); i++) {
        if (rg_version_parse(&got, bad[i], strlen(bad[i])))
            fail_msg("%s was taken", bad[i]);
    }
    assert_false(rg_version_parse(&got, "0000000000000abc.0000000000000def-4\0", 36));
    assert_int_equal(got.epoch, 7);
    assert_true(rg_version_parse(&got, "0000000000000abc.0000000000000def-4", 35));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version__draw__is_never_zero_and_differs),
        cmocka_unit_test(version__format__comes_back),
        cmocka_unit_test(version__format__is_prefix_and_seq),
        cmocka_unit_test(version__parse__is_strict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

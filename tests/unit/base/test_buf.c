#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/buf.h"

static void buf__append__keeps_a_nul_behind(void **state)
{
    struct rg_buf buf = RG_BUF_INIT;
    char want[5001] = "";

    (void)state;
    for (size_t i = 0; i < 5000; i++) {
        want[i] = (char)('a' + i % 26);
        rg_buf_putc(&buf, want[i]);
        assert_int_equal(buf.data[buf.len], '\0');
    }
    assert_int_equal(buf.len, 5000);
    assert_string_equal(buf.data, want);
    assert_true(buf.cap > buf.len);
    rg_buf_fini(&buf);
    assert_null(buf.data);
}

static void buf__append__takes_any_bytes(void **state)
{
    struct rg_buf buf = RG_BUF_INIT;

    (void)state;
    rg_buf_append(&buf, NULL, 0);
    assert_int_equal(buf.len, 0);
    rg_buf_append(&buf, "a\0b", 3);
    rg_buf_puts(&buf, "");
    rg_buf_puts(&buf, "cd");
    assert_int_equal(buf.len, 5);
    assert_memory_equal(buf.data, "a\0bcd", 6);
    rg_buf_fini(&buf);
}

static void buf__printf__appends(void **state)
{
    struct rg_buf buf = RG_BUF_INIT;
    char long_text[1000];

    (void)state;
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    rg_buf_printf(&buf, "%d-%s", 42, "z");
    assert_string_equal(buf.data, "42-z");
    rg_buf_printf(&buf, "%s", long_text);
    assert_int_equal(buf.len, 4 + 999);
    assert_string_equal(buf.data + 4, long_text);
    rg_buf_fini(&buf);
}

static void buf__put_u64__writes_decimals(void **state)
{
    struct rg_buf buf = RG_BUF_INIT;

    (void)state;
    rg_buf_put_u64(&buf, 0);
    rg_buf_putc(&buf, ' ');
    rg_buf_put_u64(&buf, 1234567890);
    rg_buf_putc(&buf, ' ');
    rg_buf_put_u64(&buf, UINT64_MAX);
    assert_string_equal(buf.data, "0 1234567890 18446744073709551615");
    rg_buf_fini(&buf);
}

static void buf__consume__removes_the_front(void **state)
{
    struct rg_buf buf = RG_BUF_INIT;

    (void)state;
    rg_buf_consume(&buf, 5);
    rg_buf_puts(&buf, "hello world");
    rg_buf_consume(&buf, 6);
    assert_string_equal(buf.data, "world");
    rg_buf_consume(&buf, 0);
    assert_int_equal(buf.len, 5);
    rg_buf_consume(&buf, 99);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
    rg_buf_fini(&buf);
}

static void buf__failure__is_kept_until_cleared(void **state)
{
    struct rg_buf buf = RG_BUF_INIT;
    size_t len = 7;

    (void)state;
    rg_buf_puts(&buf, "abc");
    assert_false(rg_buf_reserve(&buf, SIZE_MAX - 1));
    assert_true(rg_buf_failed(&buf));
    rg_buf_puts(&buf, "def");
    assert_string_equal(buf.data, "abc");
    rg_buf_clear(&buf);
    assert_false(rg_buf_failed(&buf));
    rg_buf_puts(&buf, "ghi");
    assert_string_equal(buf.data, "ghi");
    assert_false(rg_buf_reserve(&buf, SIZE_MAX / 2));
    assert_null(rg_buf_take(&buf, &len));
    assert_int_equal(len, 7);
    assert_false(rg_buf_failed(&buf));
}

static void buf__take__hands_over(void **state)
{
    struct rg_buf buf = RG_BUF_INIT;
    size_t len;
    char *data;

    (void)state;
    assert_null(rg_buf_take(&buf, &len));
    rg_buf_puts(&buf, "mine");
    data = rg_buf_take(&buf, &len);
    assert_string_equal(data, "mine");
    assert_int_equal(len, 4);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf__append__keeps_a_nul_behind),
        cmocka_unit_test(buf__append__takes_any_bytes),
        cmocka_unit_test(buf__printf__appends),
        cmocka_unit_test(buf__put_u64__writes_decimals),
        cmocka_unit_test(buf__consume__removes_the_front),
        cmocka_unit_test(buf__failure__is_kept_until_cleared),
        cmocka_unit_test(buf__take__hands_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

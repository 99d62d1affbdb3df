#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "xmpp/frame.h"

static struct rg_frame parse_whole(const struct rg_frame_out *out)
{
    struct rg_frame frame;
    size_t used = 0;
    assert_int_equal(rg_frame_parse(out->data, out->len, &frame, &used), RG_FRAME_WHOLE);
    assert_int_equal(used, out->len);
    return frame;
}

static void frame__round_trip__every_kind_of_value(void **state)
{
    (void)state;
    RG_CLEANUP(rg_frame_freep)
    struct rg_frame_out *out = rg_frame_new(RG_FRAME_PUSH, 7, 9, false);
    size_t len;
    rg_put_u8(out, 200);
    rg_put_u8(out, 1);
    rg_put_u32(out, 0xfedcba98U);
    rg_put_u64(out, UINT64_C(0x0123456789abcdef));
    rg_put_str(out, "h\xc3\xa9");
    rg_put_str(out, "");
    rg_put_str(out, NULL);
    assert_true(rg_frame_seal(out));
    struct rg_frame frame = parse_whole(out);
    assert_int_equal(frame.type, RG_FRAME_PUSH);
    assert_int_equal(frame.session, 7);
    assert_int_equal(frame.generation, 9);
    struct rg_reader reader = rg_reader_of(&frame);
    assert_int_equal(rg_get_u8(&reader), 200);
    assert_true(rg_get_bool(&reader));
    assert_int_equal(rg_get_u32(&reader), 0xfedcba98U);
    assert_true(rg_get_u64(&reader) == UINT64_C(0x0123456789abcdef));
    assert_string_equal(rg_get_str(&reader, &len), "h\xc3\xa9");
    assert_int_equal(len, 3);
    assert_string_equal(rg_get_str(&reader, &len), "");
    assert_null(rg_get_opt_str(&reader, &len));
    assert_true(rg_reader_done(&reader));
}

static void frame__parse__waits_for_the_rest(void **state)
{
    (void)state;
    RG_CLEANUP(rg_frame_freep)
    struct rg_frame_out *out = rg_frame_new(RG_FRAME_BEAT, 0, 0, false);
    struct rg_frame frame;
    size_t used = 99;
    rg_put_str(out, "some text");
    assert_true(rg_frame_seal(out));
    for (size_t n = 0; n < out->len; n++)
        assert_int_equal(rg_frame_parse(out->data, n, &frame, &used), RG_FRAME_PART);
    assert_int_equal(used, 99);
}

static void frame__parse__refuses_lengths_and_types(void **state)
{
    (void)state;
    static const uint8_t heads[][16] = {
        {0, 0, 0, 0, 1},             /* shorter than its head */
        {15, 0, 0, 0, 1},            /* likewise */
        {1, 0, 2, 0, 1},             /* 128 KiB and one byte */
        {0xff, 0xff, 0xff, 0xff, 1}, /* would wrap around */
        {16, 0, 0, 0, 0},            /* no such type */
        {16, 0, 0, 0, RG_FRAME_TYPE_END},
        {16, 0, 0, 0, 1, 1}, /* type beyond one byte */
    };
    struct rg_frame frame;
    size_t used;
    for (size_t i = 0; i < RG_ARRAY_LEN(heads); i++)
        assert_int_equal(rg_frame_parse(heads[i], 16, &frame, &used), RG_FRAME_BAD);
}

/* One body, read as an optional string. */
static bool reads(const void *body, size_t len)
{
    struct rg_frame frame = {.type = RG_FRAME_PUSH, .body = body, .len = len};
    struct rg_reader reader = rg_reader_of(&frame);
    (void)rg_get_opt_str(&reader, NULL);
    return rg_reader_done(&reader);
}

static void frame__get_str__refuses_hostile_strings(void **state)
{
    (void)state;
    assert_true(reads("\2\0\0\0ab\0", 7));
    assert_true(reads("\xff\xff\xff\xff", 4));
    assert_false(reads("\2\0\0\0ab", 6));         /* no room for the NUL */
    assert_false(reads("\2\0\0\0abc", 7));        /* no NUL */
    assert_false(reads("\3\0\0\0a\0b\0", 8));     /* a NUL inside */
    assert_false(reads("\2\0\0\0\xc3\x28\0", 7)); /* not UTF-8 */
    assert_false(reads("\xfe\xff\xff\xff", 4));   /* longer than any frame */
    assert_false(reads("\2\0\0", 3));             /* half a length */
    assert_false(reads("\2\0\0\0ab\0x", 8));      /* something behind it */
}

static void frame__reader__stays_bad(void **state)
{
    (void)state;
    struct rg_frame frame = {.type = RG_FRAME_PUSH, .body = (const uint8_t *)"\2", .len = 1};
    struct rg_reader reader = rg_reader_of(&frame);
    assert_false(rg_get_bool(&reader)); /* 2 is no truth */
    assert_int_equal(rg_get_u32(&reader), 0);
    assert_string_equal(rg_get_str(&reader, NULL), "");
    assert_false(rg_reader_done(&reader));
}

static void frame__put__fails_beyond_the_bound_and_rewinds(void **state)
{
    (void)state;
    RG_CLEANUP(rg_frame_freep)
    struct rg_frame_out *out = rg_frame_new(RG_FRAME_PUSH, 0, 0, true);
    static char text[RG_FRAME_MAX];
    memset(text, 'a', sizeof(text));
    size_t fits = RG_FRAME_MAX - RG_FRAME_HEAD - 5;
    size_t mark = out->len;
    rg_put_text(out, text, fits + 1);
    assert_false(rg_frame_seal(out));
    rg_frame_rewind(out, mark);
    rg_put_text(out, text, fits);
    assert_true(rg_frame_seal(out));
    assert_int_equal(out->len, RG_FRAME_MAX);
    rg_put_u8(out, 0);
    assert_false(rg_frame_seal(out));
    assert_false(rg_frame_seal(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame__round_trip__every_kind_of_value),
        cmocka_unit_test(frame__parse__waits_for_the_rest),
        cmocka_unit_test(frame__parse__refuses_lengths_and_types),
        cmocka_unit_test(frame__get_str__refuses_hostile_strings),
        cmocka_unit_test(frame__reader__stays_bad),
        cmocka_unit_test(frame__put__fails_beyond_the_bound_and_rewinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

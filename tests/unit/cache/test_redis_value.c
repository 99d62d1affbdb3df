#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/redis_value.h"
#include "gateway/base/random.h"

static struct rg_mac *mac_of(uint8_t first, uint8_t second)
{
    struct rg_mac *mac = rg_mac_create(2);
    uint8_t id[RG_MAC_ID_BYTES] = {first}, key[RG_MAC_KEY_BYTES] = {first};

    rg_mac_set_key(mac, 0, id, key);
    id[0] = second;
    key[0] = second;
    rg_mac_set_key(mac, 1, id, key);
    return mac;
}

static struct rg_redis_place place_of(const struct rg_mac *mac)
{
    return (struct rg_redis_place){.mac = mac, .user = "juliet@example.com", .epoch = 77};
}

static struct rg_item *romeo(const char *name)
{
    static const char *const groups[] = {"Friends", "Montague"};
    struct rg_item_spec spec = {.jid = "romeo@example.net",
                                .name = name,
                                .groups = groups,
                                .n_groups = 2,
                                .subscription = RG_SUB_BOTH,
                                .ask = true,
                                .changed = {.mark = 5, .seq = 9}};

    return rg_item_create(&spec);
}

static struct rg_item *get(const struct rg_redis_place *place, const struct rg_buf *value)
{
    return rg_redis_get_item(place, "romeo@example.net", 17, value->data, value->len);
}

static void redis_value__item__comes_back(void **state)
{
    RG_CLEANUP(rg_mac_destroyp) struct rg_mac *mac = mac_of(1, 2), *rotated = mac_of(3, 1);
    RG_CLEANUP(rg_item_unrefp) struct rg_item *item = romeo("Romeo");
    RG_CLEANUP(rg_item_unrefp) struct rg_item *back = NULL, *later = NULL;
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
    struct rg_redis_place place = place_of(mac), after = place_of(rotated);

    (void)state;
    rg_redis_put_item(&value, &place, item);
    back = get(&place, &value);
    assert_non_null(back);
    assert_true(rg_item_equal(item, back));
    assert_true(rg_stamp_equal(item->changed, back->changed));
    later = get(&after, &value); /* any listed key is accepted */
    assert_non_null(later);
}

static void redis_value__item__only_in_its_place(void **state)
{
    RG_CLEANUP(rg_mac_destroyp) struct rg_mac *mac = mac_of(1, 2), *others = mac_of(3, 4);
    RG_CLEANUP(rg_item_unrefp) struct rg_item *item = romeo("Romeo");
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
    struct rg_redis_place place = place_of(mac), elsewhere = place, before = place,
                          foreign = place_of(others);

    (void)state;
    rg_redis_put_item(&value, &place, item);
    elsewhere.user = "nurse@example.com";
    before.epoch = 76;
    assert_null(get(&elsewhere, &value));
    assert_null(get(&before, &value));
    assert_null(get(&foreign, &value));
    assert_null(rg_redis_get_item(&place, "x@example.net", 13, value.data, value.len));
    assert_null(rg_redis_get_change(&place, value.data, value.len));
}

/* Threat T20: 10,000 entries with one bit flipped, only misses. */
static void redis_value__flipped_bit__is_a_miss(void **state)
{
    RG_CLEANUP(rg_mac_destroyp) struct rg_mac *mac = mac_of(1, 2);
    RG_CLEANUP(rg_item_unrefp) struct rg_item *item = romeo("Romeo");
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
    struct rg_redis_place place = place_of(mac);

    (void)state;
    rg_redis_put_item(&value, &place, item);
    for (int i = 0; i < 10000; i++) {
        size_t bit = rg_random_below(value.len * 8);

        value.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_null(get(&place, &value));
        value.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t len = 0; len < value.len; len++)
        assert_null(rg_redis_get_item(&place, "romeo@example.net", 17, value.data, len));
}

static void redis_value__change__comes_back(void **state)
{
    RG_CLEANUP(rg_mac_destroyp) struct rg_mac *mac = mac_of(1, 2);
    RG_CLEANUP(rg_item_unrefp) struct rg_item *item = romeo(NULL);
    struct rg_stamp before = {.mark = 4, .seq = 8}, at = {.mark = 5, .seq = 9};
    struct rg_redis_place place = place_of(mac);

    (void)state;
    for (int removal = 0; removal < 2; removal++) {
        RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
        struct rg_change *change =
            rg_change_create(before, at, 1234, removal ? NULL : item, "romeo@example.net");
        struct rg_change *back;

        rg_redis_put_change(&value, &place, change);
        back = rg_redis_get_change(&place, value.data, value.len);
        assert_non_null(back);
        assert_true(rg_stamp_equal(back->before, before) && rg_stamp_equal(back->at, at));
        assert_int_equal(back->made_s, 1234);
        assert_string_equal(back->jid, "romeo@example.net");
        assert_true(removal ? back->item == NULL : rg_item_equal(back->item, item));
        rg_change_unref(change);
        rg_change_unref(back);
    }
}

static void redis_value__state__comes_back(void **state)
{
    RG_CLEANUP(rg_mac_destroyp) struct rg_mac *mac = mac_of(1, 2), *rotated = mac_of(3, 1);
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
    struct rg_redis_place place = place_of(mac), after = place_of(rotated);
    struct rg_redis_state in = {.epoch = 77,
                                .head = {.mark = 5, .seq = 9},
                                .presence = RG_ROSTER_PRESENT,
                                .confirmed_s = 99,
                                .count = 3,
                                .digest = {1, 2},
                                .ver_known = true,
                                .ver_len = 4,
                                .ver = "v\0er"};
    struct rg_redis_state out;
    size_t key = 9;

    (void)state;
    rg_redis_put_state(&value, &place, &in);
    assert_true(rg_redis_get_state(&out, &place, &key, value.data, value.len));
    assert_int_equal(key, 0);
    assert_true(out.epoch == 77 && out.count == 3 && out.digest.low == 1 &&
                out.digest.high == 2 && out.confirmed_s == 99 && out.ver_len == 4);
    assert_memory_equal(out.ver, "v\0er", 4);
    assert_true(rg_redis_get_state(&out, &after, &key, value.data, value.len));
    assert_int_equal(key, 1);
    value.data[value.len - 1] ^= 1;
    assert_false(rg_redis_get_state(&out, &place, &key, value.data, value.len));
}

static void redis_value__digest__follows_the_set(void **state)
{
    RG_CLEANUP(rg_mac_destroyp) struct rg_mac *mac = mac_of(1, 2);
    RG_CLEANUP(rg_item_unrefp) struct rg_item *one = romeo("Romeo"), *two = romeo("Other");
    struct rg_redis_place place = place_of(mac);
    struct rg_redis_digest a = {0, 0}, b = {0, 0};

    (void)state;
    rg_redis_digest_add(&a, &place, 0, one);
    rg_redis_digest_add(&b, &place, 0, two);
    assert_true(a.low != b.low && a.high != b.high);
    rg_redis_digest_add(&a, &place, 0, two);
    rg_redis_digest_add(&b, &place, 0, one);
    assert_true(a.low == b.low && a.high == b.high); /* whatever the order */
    rg_redis_digest_remove(&a, &place, 0, one);
    rg_redis_digest_remove(&a, &place, 0, two);
    assert_true(a.low == 0 && a.high == 0);
}

static void redis_value__end__comes_back(void **state)
{
    RG_CLEANUP(rg_mac_destroyp) struct rg_mac *mac = mac_of(1, 2);
    RG_CLEANUP(rg_buf_fini) struct rg_buf value = RG_BUF_INIT;
    struct rg_redis_place place = place_of(mac);
    struct rg_end end = {.kind = RG_END_PASSWORD, .id = {0xab}, .at_s = 5, .until_s = 7}, back;
    char field[RG_REDIS_END_FIELD_SIZE];

    (void)state;
    rg_redis_put_end(&value, &place, &end);
    assert_true(rg_redis_get_end(&back, &place, value.data, value.len));
    assert_true(back.kind == end.kind && back.at_s == 5 && back.until_s == 7);
    assert_memory_equal(back.id, end.id, 16);
    rg_redis_end_field(field, &end);
    assert_string_equal(field, "pab000000000000000000000000000000");
    end.kind = RG_END_ALL;
    rg_redis_end_field(field, &end);
    assert_string_equal(field, "a");
}

static int set_up(void **state)
{
    struct rg_err err = RG_ERR_INIT;

    (void)state;
    return rg_random_init(&err) == RG_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_value__item__comes_back),
        cmocka_unit_test(redis_value__item__only_in_its_place),
        cmocka_unit_test(redis_value__flipped_bit__is_a_miss),
        cmocka_unit_test(redis_value__change__comes_back),
        cmocka_unit_test(redis_value__state__comes_back),
        cmocka_unit_test(redis_value__digest__follows_the_set),
        cmocka_unit_test(redis_value__end__comes_back),
    };

    return cmocka_run_group_tests_name("redis_value", tests, set_up, NULL);
}

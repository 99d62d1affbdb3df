#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/roster.h"

#define GROUPS(...)                                                                            \
    .groups = (const char *const[]){__VA_ARGS__},                                              \
    .n_groups = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static struct rg_item *make(struct rg_item_spec spec)
{
    struct rg_item *item = rg_item_create(&spec);

    assert_non_null(item);
    return item;
}

static void check_json(const struct rg_item *item, const char *want)
{
    struct rg_buf buf = RG_BUF_INIT;

    rg_item_json(&buf, item);
    assert_string_equal(buf.data, want);
    rg_buf_fini(&buf);
}

static void roster__item__sorts_groups_and_drops_doubles(void **state)
{
    struct rg_item *item = make((struct rg_item_spec){
        .jid = "a@b", .name = "A \"q\"", GROUPS("b", "", "a", "b", "\xC3\xA9", "Z")});

    (void)state;
    check_json(item,
               "{\"jid\":\"a@b\",\"name\":\"A \\\"q\\\"\",\"groups\":[\"Z\",\"a\",\"b\","
               "\"\xC3\xA9\"],\"subscription\":\"none\",\"ask\":null,\"approved\":false}");
    rg_item_unref(item);
}

static void roster__item__empty_name_is_none(void **state)
{
    struct rg_item *item = make((struct rg_item_spec){
        .jid = "b", .name = "", .subscription = RG_SUB_BOTH, .ask = true, .approved = true});

    (void)state;
    assert_null(item->name);
    check_json(item, "{\"jid\":\"b\",\"name\":null,\"groups\":[],\"subscription\":\"both\","
                     "\"ask\":\"subscribe\",\"approved\":true}");
    rg_item_unref(item);
}

static void roster__item__is_a_copy(void **state)
{
    char jid[] = "a@b", name[] = "n", group[] = "g";
    const char *groups[] = {group};
    struct rg_item *item =
        make((struct rg_item_spec){.jid = jid, .name = name, .groups = groups, .n_groups = 1});

    (void)state;
    jid[0] = name[0] = group[0] = 'X';
    groups[0] = NULL;
    assert_string_equal(item->jid, "a@b");
    assert_string_equal(item->name, "n");
    assert_string_equal(item->groups[0], "g");
    assert_true(rg_item_bytes(item) >= sizeof(*item) + 4 + 2 + 2);
    rg_item_unref(item);
    rg_item_unref(NULL);
}

static void roster__item_equal__sees_what_callers_see(void **state)
{
    struct rg_item_spec base = {.jid = "a@b", .name = "n", GROUPS("g", "h")}, other;
    struct rg_item *a = make(base), *b;

    (void)state;
#define DIFFERS(change)                                                                        \
    do {                                                                                       \
        other = base;                                                                          \
        change;                                                                                \
        b = make(other);                                                                       \
        assert_false(rg_item_equal(a, b));                                                     \
        assert_false(rg_item_equal(b, a));                                                     \
        rg_item_unref(b);                                                                      \
    } while (0)
    DIFFERS(other.jid = "a@c");
    DIFFERS(other.name = "m");
    DIFFERS(other.name = NULL);
    DIFFERS(other.n_groups = 1);
    DIFFERS(other.groups = ((const char *const[]){"g", "i"}));
    DIFFERS(other.subscription = RG_SUB_TO);
    DIFFERS(other.ask = true);
    DIFFERS(other.approved = true);
    b = rg_item_restamp(a, (struct rg_stamp){.mark = 1, .seq = 2});
    assert_non_null(b);
    assert_true(rg_item_equal(a, b)); /* the stamp does not count */
    assert_int_equal(b->changed.seq, 2);
    rg_item_unref(b);
    rg_item_unref(a);
}

static void roster__item_has__compares_sets(void **state)
{
    struct rg_item *item =
        make((struct rg_item_spec){.jid = "a@b", .name = "n", GROUPS("g", "h")});

    (void)state;
    assert_true(rg_item_has(item, "n", (const char *const[]){"h", "g"}, 2));
    assert_true(rg_item_has(item, "n", (const char *const[]){"h", "g", "h", ""}, 4));
    assert_false(rg_item_has(item, "n", (const char *const[]){"h"}, 1));
    assert_false(rg_item_has(item, "n", (const char *const[]){"h", "h"}, 2));
    assert_false(rg_item_has(item, "n", (const char *const[]){"h", "g", "i"}, 3));
    assert_false(rg_item_has(item, "m", (const char *const[]){"h", "g"}, 2));
    assert_false(rg_item_has(item, NULL, (const char *const[]){"h", "g"}, 2));
    rg_item_unref(item);
    item = make((struct rg_item_spec){.jid = "a@b"});
    assert_true(rg_item_has(item, NULL, NULL, 0));
    assert_true(rg_item_has(item, "", NULL, 0));
    rg_item_unref(item);
}

static struct rg_roster *build(const char *const *jids, size_t n)
{
    struct rg_roster_builder builder;
    struct rg_roster *roster;

    rg_roster_builder_init(&builder);
    for (size_t i = 0; i < n; i++)
        rg_roster_builder_add_take(&builder, make((struct rg_item_spec){.jid = jids[i]}));
    roster = rg_roster_builder_finish(&builder);
    assert_non_null(roster);
    return roster;
}

static size_t bytes_of(const struct rg_roster *roster)
{
    size_t bytes = 0;

    for (size_t i = 0; i < roster->n; i++)
        bytes += rg_item_bytes(roster->items[i]);
    return bytes;
}

static void roster__builder__sorts(void **state)
{
    struct rg_roster *roster =
        build((const char *const[]){"c@x", "a@x", "\xC3\xA9@x", "B@x", "b@x"}, 5);

    (void)state;
    assert_int_equal(roster->n, 5);
    for (size_t i = 1; i < roster->n; i++)
        assert_true(strcmp(roster->items[i - 1]->jid, roster->items[i]->jid) < 0);
    assert_int_equal(roster->bytes, bytes_of(roster));
    rg_roster_unref(roster);
}

static void roster__builder__empty(void **state)
{
    struct rg_roster *roster = build(NULL, 0);
    struct rg_buf buf = RG_BUF_INIT;

    (void)state;
    assert_int_equal(roster->n, 0);
    rg_roster_json(&buf, roster);
    assert_string_equal(buf.data, "[]");
    rg_buf_fini(&buf);
    rg_roster_unref(roster);
}

/* R17: one contact listed several times, in any order, is one item with all its groups. */
static void roster__builder__merges_doubles_in_any_order(void **state)
{
    static const int orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {0, 2, 1}};
    const struct rg_item_spec copies[] = {
        {.jid = "a@b", .name = "Zed", GROUPS("one", "two"), .subscription = RG_SUB_TO},
        {.jid = "a@b", .name = "Abe", GROUPS("two", "three"), .subscription = RG_SUB_FROM},
        {.jid = "a@b", .ask = true, .approved = true},
    };

    (void)state;
    for (size_t o = 0; o < sizeof(orders) / sizeof(orders[0]); o++) {
        struct rg_roster_builder builder;
        struct rg_roster *roster;

        rg_roster_builder_init(&builder);
        rg_roster_builder_add_take(&builder, make((struct rg_item_spec){.jid = "z@b"}));
        for (int i = 0; i < 3; i++)
            rg_roster_builder_add_take(&builder, make(copies[orders[o][i]]));
        roster = rg_roster_builder_finish(&builder);
        assert_int_equal(builder.duplicates, 2);
        assert_int_equal(roster->n, 2);
        check_json(roster->items[0],
                   "{\"jid\":\"a@b\",\"name\":\"Abe\",\"groups\":[\"one\",\"three\",\"two\"],"
                   "\"subscription\":\"both\",\"ask\":\"subscribe\",\"approved\":true}");
        rg_roster_unref(roster);
    }
}

static void roster__builder__failure_gives_no_roster(void **state)
{
    struct rg_roster_builder builder;

    (void)state;
    rg_roster_builder_init(&builder);
    rg_roster_builder_add_take(&builder, make((struct rg_item_spec){.jid = "a@b"}));
    rg_roster_builder_add_take(&builder, NULL); /* an item that found no memory */
    rg_roster_builder_add_take(&builder, make((struct rg_item_spec){.jid = "c@d"}));
    assert_null(rg_roster_builder_finish(&builder));
    rg_roster_builder_add_take(&builder, make((struct rg_item_spec){.jid = "a@b"}));
    rg_roster_builder_fini(&builder);
}

static void roster__find__finds_each(void **state)
{
    static const char *const jids[] = {"a@x", "b@x", "c@x", "d@x", "e@x"};
    struct rg_roster *roster = build(jids, 5);

    (void)state;
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(rg_roster_find(roster, jids[i])->jid, jids[i]);
    assert_null(rg_roster_find(roster, "0"));
    assert_null(rg_roster_find(roster, "bb@x"));
    assert_null(rg_roster_find(roster, "z"));
    assert_null(rg_roster_find(NULL, "a@x"));
    rg_roster_unref(roster);
}

static void roster__with__adds_or_replaces(void **state)
{
    struct rg_roster *one = build((const char *const[]){"b@x", "d@x"}, 2), *two, *three;
    struct rg_item *c = make((struct rg_item_spec){.jid = "c@x"});
    struct rg_item *d = make((struct rg_item_spec){.jid = "d@x", .name = "a long name here"});

    (void)state;
    two = rg_roster_with(one, c);
    three = rg_roster_with(two, d);
    assert_int_equal(one->n, 2);
    assert_int_equal(two->n, 3);
    assert_int_equal(three->n, 3);
    assert_ptr_equal(two->items[1], c);
    assert_ptr_equal(two->items[0], one->items[0]); /* shared */
    assert_ptr_equal(three->items[2], d);
    assert_null(two->items[2]->name); /* the older snapshot is as it was */
    assert_int_equal(two->bytes, bytes_of(two));
    assert_int_equal(three->bytes, bytes_of(three));
    rg_item_unref(c);
    rg_item_unref(d);
    rg_roster_unref(one);
    rg_roster_unref(three);
    assert_string_equal(two->items[1]->jid, "c@x"); /* it holds its own references */
    rg_roster_unref(two);
}

static void roster__with__starts_from_nothing(void **state)
{
    struct rg_item *item = make((struct rg_item_spec){.jid = "c@x"});
    struct rg_roster *roster = rg_roster_with(NULL, item);

    (void)state;
    assert_int_equal(roster->n, 1);
    assert_int_equal(roster->bytes, bytes_of(roster));
    rg_item_unref(item);
    rg_roster_unref(roster);
}

static void roster__without__removes(void **state)
{
    struct rg_roster *one = build((const char *const[]){"a@x", "b@x", "c@x"}, 3), *two, *same;

    (void)state;
    two = rg_roster_without(one, "b@x");
    same = rg_roster_without(one, "zz");
    assert_int_equal(two->n, 2);
    assert_null(rg_roster_find(two, "b@x"));
    assert_int_equal(two->bytes, bytes_of(two));
    assert_int_equal(same->n, 3);
    assert_int_equal(same->bytes, one->bytes);
    rg_roster_unref(one);
    rg_roster_unref(two);
    rg_roster_unref(same);
}

static void roster__subscription__names(void **state)
{
    enum rg_subscription sub = RG_SUB_TO;

    (void)state;
    for (int i = 0; i < RG_SUB_COUNT; i++) {
        assert_true(rg_subscription_parse(&sub, rg_subscription_name((enum rg_subscription)i)));
        assert_int_equal(sub, i);
    }
    assert_false(rg_subscription_parse(&sub, "remove"));
    assert_false(rg_subscription_parse(&sub, ""));
    assert_int_equal(sub, RG_SUB_BOTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roster__item__sorts_groups_and_drops_doubles),
        cmocka_unit_test(roster__item__empty_name_is_none),
        cmocka_unit_test(roster__item__is_a_copy),
        cmocka_unit_test(roster__item_equal__sees_what_callers_see),
        cmocka_unit_test(roster__item_has__compares_sets),
        cmocka_unit_test(roster__builder__sorts),
        cmocka_unit_test(roster__builder__empty),
        cmocka_unit_test(roster__builder__merges_doubles_in_any_order),
        cmocka_unit_test(roster__builder__failure_gives_no_roster),
        cmocka_unit_test(roster__find__finds_each),
        cmocka_unit_test(roster__with__adds_or_replaces),
        cmocka_unit_test(roster__with__starts_from_nothing),
        cmocka_unit_test(roster__without__removes),
        cmocka_unit_test(roster__subscription__names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

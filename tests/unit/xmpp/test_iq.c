#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/random.h"
#include "xmpp/iq.h"

static int set_up(void **state)
{
    (void)state;
    return rg_random_init(NULL) == RG_OK ? 0 : -1;
}

static void iq__add__finds_by_id_in_order_of_deadline(void **state)
{
    (void)state;
    struct rg_iq_list all = TAILQ_HEAD_INITIALIZER(all);
    struct rg_iq_table one, two;
    rg_iq_table_init(&one, &all);
    rg_iq_table_init(&two, &all);
    struct rg_iq *a = rg_iq_add(&one, RG_IQ_ROSTER_GET, 1, 100, &one);
    struct rg_iq *b = rg_iq_add(&two, RG_IQ_ITEM_SET, 2, 200, &two);
    assert_int_equal(strlen(a->id), RG_IQ_ID_SIZE - 1);
    assert_string_not_equal(a->id, b->id);
    assert_ptr_equal(rg_iq_find(&one, a->id), a);
    assert_null(rg_iq_find(&one, b->id)); /* another session's */
    assert_null(rg_iq_find(&one, NULL));
    assert_null(rg_iq_find(&one, ""));
    assert_ptr_equal(TAILQ_FIRST(&all), a);
    rg_iq_remove(&one, a);
    assert_ptr_equal(TAILQ_FIRST(&all), b);
    assert_int_equal(one.n, 0);
    rg_iq_table_fini(&two);
    assert_true(TAILQ_EMPTY(&all));
}

static const struct rg_self self = {.bare = "juliet@example.com",
                                    .full = "juliet@example.com/balcony",
                                    .domain = "example.com"};

static void iq__answers__come_from_nobody_us_or_the_domain(void **state)
{
    (void)state;
    assert_true(rg_self_answers(&self, NULL));
    assert_true(rg_self_answers(&self, "juliet@example.com"));
    assert_true(rg_self_answers(&self, "JULIET@Example.COM"));
    assert_true(rg_self_answers(&self, "juliet@example.com/balcony"));
    assert_true(rg_self_answers(&self, "example.com"));
    assert_false(rg_self_answers(&self, "juliet@example.com/Balcony"));
    assert_false(rg_self_answers(&self, "romeo@example.com"));
    assert_false(rg_self_answers(&self, "example.com/x"));
    assert_false(rg_self_answers(&self, "com"));
    assert_false(rg_self_answers(&self, ""));
    assert_false(rg_self_answers(&self, "@"));
}

static void iq__pushes__come_from_nobody_or_the_bare_jid(void **state)
{
    (void)state;
    assert_true(rg_self_pushes(&self, NULL));
    assert_true(rg_self_pushes(&self, "juliet@example.com"));
    assert_true(rg_self_pushes(&self, "Juliet@example.com"));
    assert_false(rg_self_pushes(&self, "juliet@example.com/balcony"));
    assert_false(rg_self_pushes(&self, "example.com"));
    assert_false(rg_self_pushes(&self, "romeo@example.com"));
    assert_false(rg_self_pushes(&self, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iq__add__finds_by_id_in_order_of_deadline),
        cmocka_unit_test(iq__answers__come_from_nobody_us_or_the_domain),
        cmocka_unit_test(iq__pushes__come_from_nobody_or_the_bare_jid),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

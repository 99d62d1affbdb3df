#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "xmpp/memory.h"

static void memory__hook__counts_and_notices(void **state)
{
    (void)state;
    struct rg_memory memory;
    rg_memory_init(&memory, 100, 100);
    const xmpp_mem_t *hook = &memory.hook;
    char *a = hook->alloc(60, hook->userdata);
    assert_int_equal(memory.live, 60);
    assert_false(rg_memory_over(&memory));
    strcpy(a, "password");
    a = hook->realloc(a, 30, hook->userdata);
    assert_string_equal(a, "password");
    assert_int_equal(memory.live, 30);
    assert_int_equal(memory.peak, 90); /* old and new block at once, while it is copied */
    char *b = hook->realloc(NULL, 71, hook->userdata);
    assert_true(rg_memory_over(&memory));
    hook->free(a, hook->userdata);
    hook->free(b, hook->userdata);
    hook->free(NULL, hook->userdata);
    assert_int_equal(memory.live, 0);
    assert_false(rg_memory_over(&memory));
    rg_memory_fini(&memory);
}

static void memory__parser__has_its_own_bound(void **state)
{
    (void)state;
    struct rg_memory memory, other;
    rg_memory_init(&memory, 1000, 100);
    rg_memory_init(&other, 1000, 100);
    void *block = rg_memory_parser_alloc(&memory, 90);
    assert_false(rg_memory_over(&memory));
    /* A block stays charged to whom it was charged first. */
    block = rg_memory_parser_realloc(&other, block, 101);
    assert_int_equal(other.live, 0);
    assert_int_equal(memory.parser_live, 101);
    assert_true(rg_memory_over(&memory));
    rg_memory_parser_free(block);
    assert_int_equal(memory.live, 0);
    assert_int_equal(memory.parser_live, 0);
}

/* libstrophe leaves parts of a broken-off authentication behind. */
static void memory__fini__releases_what_was_left(void **state)
{
    (void)state;
    struct rg_memory memory;
    rg_memory_init(&memory, 1000, 1000);
    (void)memory.hook.alloc(10, memory.hook.userdata);
    (void)rg_memory_parser_alloc(&memory, 20);
    rg_memory_fini(&memory);
    assert_int_equal(memory.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory__hook__counts_and_notices),
        cmocka_unit_test(memory__parser__has_its_own_bound),
        cmocka_unit_test(memory__fini__releases_what_was_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

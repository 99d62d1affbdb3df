#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "gateway/base/secret.h"

static void secret__create__copies_and_ends_with_nul(void **state)
{
    struct rg_secret *secret = rg_secret_create("pass\0word", 9);

    (void)state;
    assert_non_null(secret);
    assert_int_equal(rg_secret_len(secret), 9);
    assert_memory_equal(rg_secret_data(secret), "pass\0word", 10);
    rg_secret_destroy(secret);
    rg_secret_destroy(NULL);
}

static void secret__create_empty__is_zero_and_editable(void **state)
{
    (void)state;
    /* Slots are used again: whatever was in one before must not be seen. */
    for (int round = 0; round < 200; round++) {
        struct rg_secret *secret = rg_secret_create_empty(512);

        assert_non_null(secret);
        for (size_t i = 0; i <= 512; i++)
            assert_int_equal(rg_secret_data(secret)[i], 0);
        memset(rg_secret_edit(secret), 0xAA, 512);
        rg_secret_destroy(secret);
    }
}

static void secret__create__takes_every_size(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 512, 1000, 1006, 1007, 1008, 1024, 5000, 300000};
    struct rg_secret *held[sizeof(sizes) / sizeof(sizes[0])];

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        held[i] = rg_secret_create_empty(sizes[i]);
        assert_non_null(held[i]);
        assert_int_equal(rg_secret_len(held[i]), sizes[i]);
        memset(rg_secret_edit(held[i]), (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(rg_secret_data(held[i])[at], (int)i + 1);
        assert_int_equal(rg_secret_data(held[i])[sizes[i]], 0);
        rg_secret_destroy(held[i]);
    }
    assert_null(rg_secret_create_empty(SIZE_MAX));
}

/* Freed slots are wiped: the one that comes back first is the one given back last. */
static void secret__destroy__wipes(void **state)
{
    struct rg_secret *secret = rg_secret_create("correct horse", 13), *again;

    (void)state;
    rg_secret_destroy(secret);
    again = rg_secret_create_empty(13);
    assert_ptr_equal(again, secret);
    assert_memory_equal(rg_secret_data(again), "\0\0\0\0\0\0\0\0\0\0\0\0\0", 14);
    rg_secret_destroy(again);
}

static void secret__create__survives_a_small_memlock_limit(void **state)
{
    struct rlimit before, none = {0};
    struct rg_secret *secrets[300], *large;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    for (size_t i = 0; i < 300; i++) {
        secrets[i] = rg_secret_create("x", 1);
        assert_non_null(secrets[i]);
    }
    large = rg_secret_create_empty(100000);
    assert_non_null(large);
    for (size_t i = 0; i < 300; i++) {
        assert_string_equal(rg_secret_data(secrets[i]), "x");
        rg_secret_destroy(secrets[i]);
    }
    rg_secret_destroy(large);
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

static void secret__wipe__zeroes(void **state)
{
    char text[8] = "secret!";

    (void)state;
    rg_wipe(text, 6);
    assert_memory_equal(text, "\0\0\0\0\0\0!", 8);
    rg_wipe(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secret__create__copies_and_ends_with_nul),
        cmocka_unit_test(secret__create_empty__is_zero_and_editable),
        cmocka_unit_test(secret__create__takes_every_size),
        cmocka_unit_test(secret__destroy__wipes),
        cmocka_unit_test(secret__create__survives_a_small_memlock_limit),
        cmocka_unit_test(secret__wipe__zeroes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

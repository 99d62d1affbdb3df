#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gateway/base/random.h"
#include "gateway/core/throttle.h"

enum { MINUTE_MS = 60 * 1000, WINDOW_MS = 5 * MINUTE_MS };

static int setup(void **state)
{
    *state = rg_throttle_create();
    return *state == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    rg_throttle_destroy(*state);
    return 0;
}

static void reserve__any_five_minutes__hold_the_limit(void **state)
{
    struct rg_throttle *throttle = *state;
    int64_t passed[100];
    size_t n = 0;
    for (int64_t now_ms = 1; now_ms < 20 * MINUTE_MS; now_ms += 777) {
        unsigned wait_s = rg_throttle_reserve(throttle, "j", 7, now_ms);
        if (wait_s == 0)
            passed[n++] = now_ms;
        else /* the time told is right to the second */
            assert_in_range(passed[n - 7] + WINDOW_MS - now_ms, (wait_s - 1) * 1000 + 1,
                            wait_s * 1000);
        if (wait_s == 0 && n > 7)
            assert_true(passed[n - 1] - passed[n - 8] >= WINDOW_MS);
    }
    assert_in_range(n, 22, 28);
}

/* What ran out is forgotten at the next try, wherever the sweep has come to. */
static void reserve__among_many_keys__forgets_in_time(void **state)
{
    struct rg_throttle *throttle = *state;
    char key[32];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(rg_throttle_reserve(throttle, key, 1, 1000), 0);
    }
    assert_int_equal(rg_throttle_reserve(throttle, "k999", 1, 999 + WINDOW_MS), 1);
    for (int i = 999; i >= 900; i--) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(rg_throttle_reserve(throttle, key, 1, 1000 + WINDOW_MS), 0);
    }
}

static void give_back__taken__makes_room(void **state)
{
    struct rg_throttle *throttle = *state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rg_throttle_reserve(throttle, "j", 2, i), 0);
        rg_throttle_give_back(throttle, "j");
    }
    assert_int_equal(rg_throttle_reserve(throttle, "j", 2, 200), 0);
    assert_int_equal(rg_throttle_reserve(throttle, "j", 2, 201), 0);
    assert_int_not_equal(rg_throttle_reserve(throttle, "j", 2, 202), 0);
    rg_throttle_give_back(throttle, "j");
    assert_int_equal(rg_throttle_reserve(throttle, "j", 2, 203), 0);
    rg_throttle_give_back(throttle, "nobody");
}

static void clear__said__starts_anew(void **state)
{
    struct rg_throttle *throttle = *state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(rg_throttle_reserve(throttle, "j", 3, i), 0);
    assert_int_not_equal(rg_throttle_reserve(throttle, "j", 3, 5), 0);
    rg_throttle_clear(throttle, "j");
    rg_throttle_clear(throttle, "j");
    for (int i = 0; i < 3; i++)
        assert_int_equal(rg_throttle_reserve(throttle, "j", 3, 10 + i), 0);
}

static void reserve__no_limit__always_passes(void **state)
{
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rg_throttle_reserve(*state, "j", 0, 1), 0);
}

/* A hundred thousand keys are the most; when they have run out, there is room again. */
static void reserve__too_many_keys__refuses_the_newcomer(void **state)
{
    struct rg_throttle *throttle = *state;
    char key[32];
    for (int i = 0; i < 100 * 1000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(rg_throttle_reserve(throttle, key, 10, 1000), 0);
    }
    assert_int_equal(rg_throttle_reserve(throttle, "new", 10, 1001), 300);
    assert_int_equal(rg_throttle_reserve(throttle, "k5", 10, 1001), 0);
    assert_int_equal(rg_throttle_reserve(throttle, "new", 10, 1001 + WINDOW_MS), 0);
}

static void bucket__taken__refills_evenly(void **state)
{
    struct rg_bucket bucket = {.filled_ms = 0};
    int taken = 0;
    (void)state;
    for (int i = 0; i < 60; i++)
        taken += rg_bucket_take(&bucket, 50, 1000);
    assert_int_equal(taken, 50);
    for (int64_t now_ms = 1001; now_ms <= 3000; now_ms++)
        taken += rg_bucket_take(&bucket, 50, now_ms);
    assert_in_range(taken, 149, 150);
    for (int i = 0; i < 200; i++)
        taken += rg_bucket_take(&bucket, 50, 100 * 1000); /* it holds one second's worth */
    assert_in_range(taken, 199, 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reserve__any_five_minutes__hold_the_limit),
        TEST(reserve__among_many_keys__forgets_in_time),
        TEST(give_back__taken__makes_room),
        TEST(clear__said__starts_anew),
        TEST(reserve__no_limit__always_passes),
        TEST(reserve__too_many_keys__refuses_the_newcomer),
        TEST(bucket__taken__refills_evenly),
    };
    struct rg_err err;
    if (rg_random_init(&err) != RG_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

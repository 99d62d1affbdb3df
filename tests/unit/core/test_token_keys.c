/* Keys that are rotated while tokens are sealed and opened (threat T3). Runs under TSan, too.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "gateway/base/random.h"
#include "tests/unit/core/helper_core.h"

#define HEX_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"
#define HEX_B "ff112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff\n"
#define HEX_C "aa112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff\n"

enum { NOW_S = 1700000000, ROTATIONS = 150, THREADS = 3 };

static void write_keys(char path[64], const char *text)
{
    if (path[0] == '\0') {
        memcpy(path, "/tmp/rg-keys-XXXXXX", sizeof("/tmp/rg-keys-XXXXXX"));
        int made = mkstemp(path);
        assert_true(made >= 0);
        assert_int_equal(close(made), 0);
    }
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
}

static struct rg_keys *load(const char *path)
{
    struct rg_keys *keys = NULL;
    struct rg_err err = RG_ERR_INIT;
    assert_int_equal(rg_keys_load(path, &keys, &err), RG_OK);
    return keys;
}

static bool seal(const struct rg_keys *keys, struct rg_buf *out)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_claims claims = {.user = JULIET, .given_s = NOW_S, .expires_s = NOW_S + 60};
    RG_CLEANUP(rg_secret_destroyp) struct rg_secret *password = rg_secret_create("secret", 6);
    return rg_token_seal(keys, &claims, password, out, &err) == RG_OK;
}

static enum rg_code open_now(const struct rg_keys *keys, const struct rg_buf *token)
{
    struct rg_claims claims;
    struct rg_err err = RG_ERR_INIT;
    return rg_token_open(keys, token->data, token->len, NOW_S, &claims, &err);
}

static void keys__reloaded__take_the_place_of_the_old(void **state)
{
    char path[64] = "";
    struct rg_err err = RG_ERR_INIT;
    RG_CLEANUP(rg_buf_fini) struct rg_buf old = RG_BUF_INIT, new = RG_BUF_INIT;
    (void)state;
    write_keys(path, HEX_A);
    struct rg_keys *keys = load(path);
    unsigned generation = rg_keys_generation(keys);
    assert_true(seal(keys, &old));
    write_keys(path, HEX_B HEX_A);
    assert_int_equal(rg_keys_reload(keys, path, &err), RG_OK);
    assert_int_equal(rg_keys_count(keys), 2);
    assert_int_not_equal(rg_keys_generation(keys), generation);
    assert_int_equal(open_now(keys, &old), RG_OK);
    assert_true(seal(keys, &new));
    write_keys(path, HEX_B);
    assert_int_equal(rg_keys_reload(keys, path, &err), RG_OK);
    assert_int_equal(open_now(keys, &old), RG_E_UNAUTHORIZED);
    assert_int_equal(open_now(keys, &new), RG_OK);
    rg_keys_destroy(keys);
    unlink(path);
}

static void keys__reload_fails__changes_nothing(void **state)
{
    static const char *const bad[] = {"", "# none\n", HEX_B "00\n", HEX_B "no key\n", NULL};
    char path[64] = "";
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    (void)state;
    write_keys(path, HEX_A);
    struct rg_keys *keys = load(path);
    unsigned generation = rg_keys_generation(keys);
    assert_true(seal(keys, &token));
    for (size_t i = 0; i < RG_ARRAY_LEN(bad); i++) {
        struct rg_err err = RG_ERR_INIT;
        if (bad[i] != NULL)
            write_keys(path, bad[i]);
        else
            assert_int_equal(unlink(path), 0);
        assert_int_not_equal(rg_keys_reload(keys, path, &err), RG_OK);
        assert_non_null(strstr(err.text, path));
        assert_null(strstr(err.text, "ff1122"));
        assert_int_equal(rg_keys_generation(keys), generation);
        assert_int_equal(open_now(keys, &token), RG_OK);
    }
    assert_int_not_equal(access(path, F_OK), 0); /* a reload makes no file */
    rg_keys_destroy(keys);
}

struct load {
    struct rg_keys *keys;
    atomic_bool stop;
    atomic_uint failed, done;
};

static void *seal_and_open(void *arg)
{
    struct load *work = arg;
    RG_CLEANUP(rg_buf_fini) struct rg_buf previous = RG_BUF_INIT;
    if (!seal(work->keys, &previous))
        atomic_fetch_add(&work->failed, 1);
    while (!atomic_load(&work->stop)) {
        struct rg_buf token = RG_BUF_INIT;
        struct rg_secret *password = NULL;
        bool good = seal(work->keys, &token) && open_now(work->keys, &token) == RG_OK &&
                    open_now(work->keys, &previous) == RG_OK;
        if (good)
            password = rg_token_password(work->keys, token.data, token.len);
        good = good && password != NULL && strcmp(rg_secret_data(password), "secret") == 0;
        rg_secret_destroy(password);
        rg_buf_fini(&previous);
        previous = token;
        atomic_fetch_add(good ? &work->done : &work->failed, 1);
    }
    return NULL;
}

/* Two keys that change places, as in a rotation: whatever a thread holds goes on opening. */
static void keys__reloaded_under_load__fail_no_request(void **state)
{
    char path[64] = "";
    struct rg_err err = RG_ERR_INIT;
    pthread_t threads[THREADS];
    (void)state;
    write_keys(path, HEX_A HEX_B);
    struct load work = {.keys = load(path)};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, seal_and_open, &work), 0);
    for (int i = 0; i < ROTATIONS || atomic_load(&work.done) < ROTATIONS; i++) {
        write_keys(path, i % 2 == 0 ? HEX_B HEX_A : HEX_A HEX_B HEX_C);
        assert_int_equal(rg_keys_reload(work.keys, path, &err), RG_OK);
    }
    atomic_store(&work.stop, true);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&work.failed), 0);
    rg_keys_destroy(work.keys);
    unlink(path);
}

static void password__asked__is_known_under_every_key(void **state)
{
    char path[64] = "";
    struct rg_err err = RG_ERR_INIT;
    uint8_t old[RG_ID_BYTES], new[RG_ID_BYTES];
    RG_CLEANUP(rg_secret_destroyp) struct rg_secret *right = rg_secret_create("secret", 6);
    RG_CLEANUP(rg_secret_destroyp) struct rg_secret *wrong = rg_secret_create("secreT", 6);
    (void)state;
    write_keys(path, HEX_A);
    struct rg_keys *keys = load(path);
    rg_keys_password_tag(keys, JULIET, right, old);
    write_keys(path, HEX_B HEX_A);
    assert_int_equal(rg_keys_reload(keys, path, &err), RG_OK);
    rg_keys_password_tag(keys, JULIET, right, new);
    assert_memory_not_equal(old, new, RG_ID_BYTES);
    assert_true(rg_keys_password_is(keys, JULIET, right, old));
    assert_true(rg_keys_password_is(keys, JULIET, right, new));
    assert_false(rg_keys_password_is(keys, JULIET, wrong, old));
    assert_false(rg_keys_password_is(keys, "romeo@example.com", right, old));
    rg_keys_destroy(keys);
    unlink(path);
}

/* ---- the core follows */

static struct call *sign_in_again(struct world *w, const char *password)
{
    struct call *call = c_send(c_sign_in(w, JULIET, password));
    assert_int_equal(fake_last(w->up)->mode, RG_UPSTREAM_VERIFY);
    fake_bind(fake_last(w->up));
    c_expect(call, RG_OK);
    return call;
}

static void rotate(struct world *w, char path[64], const char *text)
{
    struct rg_err err = RG_ERR_INIT;
    write_keys(path, text);
    assert_int_equal(rg_keys_reload(w->keys, path, &err), RG_OK);
    rg_core_keys_changed(w->core);
    w_run(w, 1);
}

static void rotation__same_password__keeps_older_sign_ins(void **state)
{
    struct world *w = *state;
    char path[64] = "";
    rotate(w, path, HEX_A);
    struct call *first = c_live(w, "romeo@example.net|Romeo|both|Friends", "v1");
    rotate(w, path, HEX_B HEX_A);
    struct call *second = sign_in_again(w, "secret");
    assert_false(c_token_dead(w, first, RG_E_UNAUTHORIZED));
    assert_false(c_token_dead(w, second, RG_E_UNAUTHORIZED));
    c_expect(c_do(w, RG_OP_ROSTER, first), RG_OK);
    unlink(path);
}

static void rotation__key_dropped__ends_its_sign_ins_and_streams(void **state)
{
    struct world *w = *state;
    char path[64] = "";
    rotate(w, path, HEX_A);
    struct call *first = c_live(w, "", NULL), *opened;
    struct reader *early = r_open(w, first, NULL, 0, &opened);
    rotate(w, path, HEX_B HEX_A);
    struct call *second = sign_in_again(w, "secret");
    struct reader *late = r_open(w, second, NULL, 0, &opened);
    r_expect(late, "roster", "items");
    r_expect(late, "subscriptions", "[]");
    r_expect(late, "sync", "live");
    rotate(w, path, HEX_B);
    r_expect(early, "roster", "items");
    r_expect(early, "subscriptions", "[]");
    r_expect(early, "sync", "live");
    r_expect(early, "bye", "expired");
    r_nothing(late);
    assert_int_equal(w_user(w, JULIET)->n_sign_ins, 1);
    rotate(w, path, HEX_C);
    r_expect(late, "bye", "expired");
    assert_int_equal(w_user(w, JULIET)->n_sign_ins, 0);
    unlink(path);
}

#define TEST(name) cmocka_unit_test(name)
#define WORLD(name) cmocka_unit_test_setup_teardown(name, w_setup, w_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys__reloaded__take_the_place_of_the_old),
        TEST(keys__reload_fails__changes_nothing),
        TEST(keys__reloaded_under_load__fail_no_request),
        TEST(password__asked__is_known_under_every_key),
        WORLD(rotation__same_password__keeps_older_sign_ins),
        WORLD(rotation__key_dropped__ends_its_sign_ins_and_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/base/random.h"
#include "gateway/core/token.h"

enum { NOW_S = 1700000000 };

struct keyring {
    struct rg_keys *keys;
    char path[64];
};

static int setup(void **state)
{
    struct rg_err err;
    struct keyring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL || rg_keys_load("", &ring->keys, &err) != RG_OK)
        return -1;
    memcpy(ring->path, "/tmp/rg-keys-XXXXXX", sizeof("/tmp/rg-keys-XXXXXX"));
    int fd = mkstemp(ring->path);
    if (fd < 0 || close(fd) != 0 || unlink(ring->path) != 0)
        return -1;
    *state = ring;
    return 0;
}

static int teardown(void **state)
{
    struct keyring *ring = *state;
    rg_keys_destroy(ring->keys);
    (void)unlink(ring->path);
    free(ring);
    return 0;
}

static struct rg_claims claims_of(const char *user)
{
    struct rg_claims claims = {.given_s = NOW_S,
                               .issued_s = NOW_S + 5,
                               .expires_s = NOW_S + 3600,
                               .presence = RG_TOKEN_LISTEN};
    memcpy(claims.user, user, strlen(user) + 1);
    rg_random_bytes(claims.sign_in, RG_ID_BYTES);
    rg_random_bytes(claims.password_tag, RG_ID_BYTES);
    return claims;
}

static void seal_n(const struct rg_keys *keys, const struct rg_claims *claims,
                   const char *password, size_t len, struct rg_buf *out)
{
    struct rg_err err;
    RG_CLEANUP(rg_secret_destroyp) struct rg_secret *secret = rg_secret_create(password, len);
    assert_int_equal(rg_token_seal(keys, claims, secret, out, &err), RG_OK);
}

static void seal(const struct rg_keys *keys, const struct rg_claims *claims,
                 const char *password, struct rg_buf *out)
{
    seal_n(keys, claims, password, strlen(password), out);
}

static enum rg_code open_at(const struct rg_keys *keys, const char *token, size_t len,
                            int64_t now_s)
{
    struct rg_claims out;
    struct rg_claims untouched;
    struct rg_err err;
    memset(&out, 7, sizeof(out));
    memset(&untouched, 7, sizeof(untouched));
    enum rg_code code = rg_token_open(keys, token, len, now_s, &out, &err);
    if (code != RG_OK)
        assert_memory_equal(&out, &untouched, sizeof(out));
    return code;
}

static enum rg_code open_now(const struct rg_keys *keys, const char *token, size_t len)
{
    return open_at(keys, token, len, NOW_S);
}

static void token__sealed__opens_to_the_same(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    struct rg_claims opened;
    struct rg_err err;
    seal(ring->keys, &claims, "secret", &token);
    assert_int_equal(rg_token_open(ring->keys, token.data, token.len, NOW_S, &opened, &err),
                     RG_OK);
    assert_string_equal(opened.user, claims.user);
    assert_memory_equal(opened.sign_in, claims.sign_in, RG_ID_BYTES);
    assert_memory_equal(opened.password_tag, claims.password_tag, RG_ID_BYTES);
    assert_true(opened.given_s == claims.given_s && opened.issued_s == claims.issued_s &&
                opened.expires_s == claims.expires_s && opened.presence == claims.presence);
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *password = rg_token_password(ring->keys, token.data, token.len);
    assert_int_equal(rg_secret_len(password), 6);
    assert_memory_equal(rg_secret_data(password), "secret", 6);
    assert_null(strstr(token.data, "juliet"));
    assert_true(token.len <= RG_TOKEN_MAX);
}

static void token__largest__opens(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_claims claims = claims_of("");
    char password[RG_PASSWORD_MAX + 1];
    struct rg_err err;
    memset(claims.user, 'u', RG_JID_BARE_MAX);
    memset(password, 'p', sizeof(password));
    seal_n(ring->keys, &claims, password, RG_PASSWORD_MAX, &token);
    assert_true(token.len <= RG_TOKEN_MAX);
    assert_int_equal(open_now(ring->keys, token.data, token.len), RG_OK);
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *opened = rg_token_password(ring->keys, token.data, token.len);
    assert_int_equal(rg_secret_len(opened), RG_PASSWORD_MAX);
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *longer = rg_secret_create(password, RG_PASSWORD_MAX + 1);
    assert_int_not_equal(rg_token_seal(ring->keys, &claims, longer, &token, &err), RG_OK);
}

static void token__any_bit_flipped__is_refused(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    seal(ring->keys, &claims, "secret", &token);
    for (size_t bit = 0; bit < token.len * 8; bit++) {
        token.data[bit / 8] = (char)(token.data[bit / 8] ^ (1 << bit % 8));
        assert_int_equal(open_now(ring->keys, token.data, token.len), RG_E_UNAUTHORIZED);
        assert_null(rg_token_password(ring->keys, token.data, token.len));
        token.data[bit / 8] = (char)(token.data[bit / 8] ^ (1 << bit % 8));
    }
    assert_int_equal(open_now(ring->keys, token.data, token.len), RG_OK);
}

/* One token has one spelling: any other character in any place is refused, too. */
static void token__any_other_character__is_refused(void **state)
{
    static const char others[] = "AQgw05-_=+/. \n";
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    seal(ring->keys, &claims, "secret", &token);
    for (size_t i = 0; i < token.len; i++) {
        char right = token.data[i];
        for (const char *other = others; *other != '\0'; other++) {
            token.data[i] = *other;
            if (*other != right)
                assert_int_equal(open_now(ring->keys, token.data, token.len),
                                 RG_E_UNAUTHORIZED);
        }
        token.data[i] = right;
    }
}

static void token__cut_or_lengthened__is_refused(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    seal(ring->keys, &claims, "secret", &token);
    size_t len = token.len;
    for (size_t cut = 0; cut < len; cut++) {
        /* In memory of its own, so that a read beyond the end is seen. */
        char *exact = malloc(cut + 1);
        assert_non_null(exact);
        memcpy(exact + 1, token.data, cut);
        assert_int_equal(open_now(ring->keys, exact + 1, cut), RG_E_UNAUTHORIZED);
        free(exact);
    }
    rg_buf_puts(&token, "AAAAAAAA");
    for (size_t more = len + 1; more <= token.len; more++)
        assert_int_equal(open_now(ring->keys, token.data, more), RG_E_UNAUTHORIZED);
    rg_buf_clear(&token);
    for (int i = 0; i < 2 * RG_TOKEN_MAX; i++)
        rg_buf_putc(&token, 'A');
    assert_int_equal(open_now(ring->keys, token.data, token.len), RG_E_UNAUTHORIZED);
}

static void token__expired__is_refused(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    seal(ring->keys, &claims, "secret", &token);
    assert_int_equal(open_at(ring->keys, token.data, token.len, claims.expires_s - 1), RG_OK);
    assert_int_equal(open_at(ring->keys, token.data, token.len, claims.expires_s),
                     RG_E_UNAUTHORIZED);
}

static void token__other_key__is_refused(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_keys *other = NULL;
    struct rg_err err;
    struct rg_claims claims = claims_of("juliet@example.com");
    seal(ring->keys, &claims, "secret", &token);
    assert_int_equal(rg_keys_load("", &other, &err), RG_OK);
    assert_int_equal(open_now(other, token.data, token.len), RG_E_UNAUTHORIZED);
    assert_null(rg_token_password(other, token.data, token.len));
    rg_keys_destroy(other);
}

/* How long the password is stays hidden up to 62 bytes, then in steps of 64. */
static void token__password_length__is_hidden(void **state)
{
    struct keyring *ring = *state;
    struct rg_claims claims = claims_of("juliet@example.com");
    char password[RG_PASSWORD_MAX];
    size_t lengths[RG_PASSWORD_MAX + 1];
    memset(password, 'p', sizeof(password));
    for (size_t len = 0; len <= RG_PASSWORD_MAX; len++) {
        RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
        seal_n(ring->keys, &claims, password, len, &token);
        lengths[len] = token.len;
        RG_CLEANUP(rg_secret_destroyp)
        struct rg_secret *opened = rg_token_password(ring->keys, token.data, token.len);
        assert_int_equal(rg_secret_len(opened), len);
        assert_memory_equal(rg_secret_data(opened), password, len);
    }
    for (size_t len = 1; len <= RG_PASSWORD_MAX; len++) {
        if ((len + 2 + 63) / 64 == (len + 1 + 63) / 64)
            assert_int_equal(lengths[len], lengths[len - 1]);
        else
            assert_true(lengths[len] > lengths[len - 1]);
    }
}

static void token__route__is_the_same_for_a_user(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf a = RG_BUF_INIT;
    RG_CLEANUP(rg_buf_fini) struct rg_buf b = RG_BUF_INIT;
    RG_CLEANUP(rg_buf_fini) struct rg_buf c = RG_BUF_INIT;
    struct rg_claims juliet = claims_of("juliet@example.com");
    struct rg_claims romeo = claims_of("romeo@example.com");
    seal(ring->keys, &juliet, "secret", &a);
    seal(ring->keys, &juliet, "other", &b);
    seal(ring->keys, &romeo, "secret", &c);
    assert_memory_equal(a.data, b.data, 12);
    assert_memory_not_equal(a.data, c.data, 12);
    assert_string_not_equal(a.data + 22, b.data + 22);
}

static void token__resealed__keeps_the_password(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    RG_CLEANUP(rg_buf_fini) struct rg_buf renewed = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    struct rg_err err;
    seal(ring->keys, &claims, "secret", &token);
    claims.expires_s += 1000;
    assert_int_equal(
        rg_token_reseal(ring->keys, &claims, token.data, token.len, &renewed, &err), RG_OK);
    assert_int_equal(open_at(ring->keys, renewed.data, renewed.len, NOW_S + 4000), RG_OK);
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *password = rg_token_password(ring->keys, renewed.data, renewed.len);
    assert_string_equal(rg_secret_data(password), "secret");
    token.data[30] ^= 1;
    assert_int_equal(
        rg_token_reseal(ring->keys, &claims, token.data, token.len, &renewed, &err),
        RG_E_UNAUTHORIZED);
}

static void tag__computed__names_user_and_password(void **state)
{
    struct keyring *ring = *state;
    static const struct {
        const char *user, *password;
    } rows[] = {{"a@b", "pw"}, {"a@b", "pw2"}, {"a@bp", "w"}, {"c@b", "pw"}, {"a@b", ""}};
    uint8_t tags[RG_ARRAY_LEN(rows)][RG_ID_BYTES];
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        uint8_t again[RG_ID_BYTES];
        RG_CLEANUP(rg_secret_destroyp)
        struct rg_secret *secret = rg_secret_create(rows[i].password, strlen(rows[i].password));
        rg_keys_password_tag(ring->keys, rows[i].user, secret, tags[i]);
        rg_keys_password_tag(ring->keys, rows[i].user, secret, again);
        assert_memory_equal(tags[i], again, RG_ID_BYTES);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(tags[i], tags[j], RG_ID_BYTES);
    }
}

/* ---- the key file */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static enum rg_code load(const char *path, struct rg_keys **out)
{
    struct rg_err err = RG_ERR_INIT;
    enum rg_code code = rg_keys_load(path, out, &err);
    if (code != RG_OK)
        assert_non_null(strstr(err.text, path));
    return code;
}

static void keys__file_missing__is_made(void **state)
{
    struct keyring *ring = *state;
    RG_CLEANUP(rg_buf_fini) struct rg_buf token = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    struct rg_keys *first = NULL;
    struct rg_keys *second = NULL;
    struct stat stat_buf;
    assert_int_equal(load(ring->path, &first), RG_OK);
    assert_int_equal(stat(ring->path, &stat_buf), 0);
    assert_int_equal(stat_buf.st_mode & 07777, 0600);
    assert_int_equal(stat_buf.st_size, 65);
    assert_int_equal(load(ring->path, &second), RG_OK);
    seal(first, &claims, "secret", &token);
    assert_int_equal(open_now(second, token.data, token.len), RG_OK);
    rg_keys_destroy(first);
    rg_keys_destroy(second);
}

#define HEX_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEX_B "ff112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff"

static void keys__rotated__first_seals_and_all_open(void **state)
{
    static const char *const files[] = {HEX_A "\n", "# new first\n" HEX_B "\r\n\n" HEX_A,
                                        HEX_B "\n"};
    struct keyring *ring = *state;
    struct rg_keys *keys[3];
    RG_CLEANUP(rg_buf_fini) struct rg_buf old = RG_BUF_INIT;
    RG_CLEANUP(rg_buf_fini) struct rg_buf renewed = RG_BUF_INIT;
    struct rg_claims claims = claims_of("juliet@example.com");
    struct rg_err err;
    for (int i = 0; i < 3; i++) {
        write_file(ring->path, files[i]);
        assert_int_equal(load(ring->path, &keys[i]), RG_OK);
    }
    seal(keys[0], &claims, "secret", &old);
    assert_int_equal(open_now(keys[1], old.data, old.len), RG_OK);
    assert_int_equal(open_now(keys[2], old.data, old.len), RG_E_UNAUTHORIZED);
    assert_int_equal(rg_token_reseal(keys[1], &claims, old.data, old.len, &renewed, &err),
                     RG_OK);
    assert_int_equal(open_now(keys[2], renewed.data, renewed.len), RG_OK);
    assert_int_equal(open_now(keys[0], renewed.data, renewed.len), RG_E_UNAUTHORIZED);
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *password = rg_token_password(keys[1], old.data, old.len);
    assert_string_equal(rg_secret_data(password), "secret");
    for (int i = 0; i < 3; i++)
        rg_keys_destroy(keys[i]);
}

static void keys__bad_file__is_an_error(void **state)
{
    static const char *const files[] = {
        "",
        "\n# nothing\n",
        "0011\n",
        HEX_A "0\n",
        HEX_A "00\n",
        HEX_A "\n" HEX_B "x\n",
        "g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
        " " HEX_A "\n",
        "00 112233445566778899aabbccddeeff00112233445566778899aabbccddeef\n"};
    struct keyring *ring = *state;
    for (size_t i = 0; i < RG_ARRAY_LEN(files); i++) {
        struct rg_keys *keys = NULL;
        write_file(ring->path, files[i]);
        assert_int_not_equal(load(ring->path, &keys), RG_OK);
        assert_null(keys);
    }
    struct rg_keys *keys = NULL;
    assert_int_not_equal(load("/nonexistent-folder/keys", &keys), RG_OK);
    assert_null(keys);
}

static void quiet(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(token__sealed__opens_to_the_same),
        TEST(token__largest__opens),
        TEST(token__any_bit_flipped__is_refused),
        TEST(token__any_other_character__is_refused),
        TEST(token__cut_or_lengthened__is_refused),
        TEST(token__expired__is_refused),
        TEST(token__other_key__is_refused),
        TEST(token__password_length__is_hidden),
        TEST(token__route__is_the_same_for_a_user),
        TEST(token__resealed__keeps_the_password),
        TEST(tag__computed__names_user_and_password),
        TEST(keys__file_missing__is_made),
        TEST(keys__rotated__first_seals_and_all_open),
        TEST(keys__bad_file__is_an_error),
    };
    struct rg_err err;
    if (rg_random_init(&err) != RG_OK)
        return 1;
    rg_log_capture(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "gateway/core/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/log.h"

/* DESIGN
 *
 * The key file has one key a line; the first seals, all open. To rotate without a refused
 * request: put the new key second on every instance and reload, then first and reload, and take
 * the old one out when the tokens it sealed have ended. A reload reads and checks the whole
 * file before anything changes; a bad file changes nothing.
 *
 * Readers take a reference to the set under a leaf lock and let go of it when they are done, so
 * none ever sees half of one set and half of another. The generation tells caches of opened
 * tokens that a key may be gone. */

enum { MASTER_BYTES = 32, KEY_FILE_MAX = 64 * 1024, KEYS_MAX = 64 };

struct ring {
    pthread_mutex_t mutex; /* leaf */
    struct rg_keyset *set; /* own */
    atomic_uint generation;
};

struct rg_keys {
    struct ring *ring; /* so that holders of a const handle may still take the lock */
};

static void derive(uint8_t *out, size_t len, const char *purpose, const uint8_t *master)
{
    crypto_generichash(out, len, (const unsigned char *)purpose, strlen(purpose), master,
                       MASTER_BYTES);
}

bool rg_key_encode_part(char out[RG_KID_CHARS + 1], const uint8_t bytes[RG_KID_BYTES])
{
    return sodium_bin2base64(out, RG_KID_CHARS + 1, bytes, RG_KID_BYTES,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING) != NULL;
}

static void key_fill(struct rg_key *key, const uint8_t *master)
{
    uint8_t kid[RG_KID_BYTES + 10]; /* generichash gives 16 bytes at least */
    derive(key->seal, sizeof(key->seal), "rostergate seal 1", master);
    derive(key->password, sizeof(key->password), "rostergate password 1", master);
    derive(key->tag, sizeof(key->tag), "rostergate tag 1", master);
    derive(key->route, sizeof(key->route), "rostergate route 1", master);
    derive(key->store, sizeof(key->store), "rostergate store 1", master);
    derive(key->store_id, sizeof(key->store_id), "rostergate store id 1", master);
    derive(kid, sizeof(kid), "rostergate kid 1", master);
    (void)rg_key_encode_part(key->kid, kid);
}

/* masters: n keys of MASTER_BYTES. */
static enum rg_code keyset_from(const uint8_t *masters, size_t n, struct rg_keyset **out,
                                struct rg_err *err)
{
    struct rg_keyset *set = calloc(1, sizeof(*set));
    if (set == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    atomic_init(&set->refs, 1);
    set->n = n;
    set->block = rg_secret_create_empty(n * sizeof(struct rg_key));
    if (set->block == NULL) {
        free(set);
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    for (size_t i = 0; i < n; i++)
        key_fill((struct rg_key *)(void *)rg_secret_edit(set->block) + i,
                 masters + i * MASTER_BYTES);
    *out = set;
    return RG_OK;
}

void rg_keyset_unref(struct rg_keyset *set)
{
    if (set == NULL || atomic_fetch_sub(&set->refs, 1) != 1)
        return;
    rg_secret_destroy(set->block);
    free(set);
}

struct rg_keyset *rg_keys_hold(const struct rg_keys *keys)
{
    pthread_mutex_lock(&keys->ring->mutex);
    struct rg_keyset *set = keys->ring->set;
    atomic_fetch_add(&set->refs, 1);
    pthread_mutex_unlock(&keys->ring->mutex);
    return set;
}

unsigned rg_keys_generation(const struct rg_keys *keys)
{
    return atomic_load(&keys->ring->generation);
}

/* ---- the file */

/* One key a line, 64 hex digits; blank lines and lines that start with # do not count. */
static enum rg_code parse_keys(const char *path, const char *text, uint8_t *masters, size_t *n,
                               struct rg_err *err)
{
    unsigned line_no = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        size_t trimmed = len > 0 && text[len - 1] == '\r' ? len - 1 : len;
        const char *line = text;
        text += len + (text[len] == '\n');
        line_no++;
        if (trimmed == 0 || *line == '#')
            continue;
        size_t got = 0;
        if (*n == KEYS_MAX)
            return rg_fail(err, RG_E_INTERNAL, "%s: more than %d keys", path, KEYS_MAX);
        if (trimmed != 2 * MASTER_BYTES ||
            sodium_hex2bin(masters + *n * MASTER_BYTES, MASTER_BYTES, line, trimmed, NULL, &got,
                           NULL) != 0 ||
            got != MASTER_BYTES)
            return rg_fail(err, RG_E_INTERNAL, "%s:%u: not 64 hex digits", path, line_no);
        ++*n;
    }
    if (*n == 0)
        return rg_fail(err, RG_E_INTERNAL, "%s: holds no key", path);
    return RG_OK;
}

static enum rg_code write_new_file(const char *path, const uint8_t *master, struct rg_err *err)
{
    char hex[2 * MASTER_BYTES + 2];
    sodium_bin2hex(hex, sizeof(hex), master, MASTER_BYTES);
    hex[sizeof(hex) - 2] = '\n';
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        rg_wipe(hex, sizeof(hex));
        return rg_fail(err, RG_E_INTERNAL, "%s: cannot be made: %s", path, strerror(errno));
    }
    ssize_t wrote = write(fd, hex, sizeof(hex) - 1);
    bool ok = wrote == (ssize_t)sizeof(hex) - 1 && fsync(fd) == 0;
    rg_wipe(hex, sizeof(hex));
    ok = close(fd) == 0 && ok;
    if (ok)
        return RG_OK;
    (void)unlink(path);
    return rg_fail(err, RG_E_INTERNAL, "%s: cannot be written: %s", path, strerror(errno));
}

/* Reads the whole file into text (size bytes, NUL-terminated). */
static enum rg_code read_file(const char *path, int fd, char *text, size_t size,
                              struct rg_err *err)
{
    size_t len = 0;
    for (;;) {
        ssize_t got = read(fd, text + len, size - 1 - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return rg_fail(err, RG_E_INTERNAL, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0)
            break;
        len += (size_t)got;
        if (len == size - 1)
            return rg_fail(err, RG_E_INTERNAL, "%s: larger than %d bytes", path, KEY_FILE_MAX);
    }
    text[len] = '\0';
    return RG_OK;
}

/* Opens the key file. Others who may read it could open every token: that is said, not refused,
 * as whoever set it so may have a reason that a mode does not show. */
static enum rg_code open_file(const char *path, int *out_fd, struct rg_err *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return rg_fail(err, errno == ENOENT ? RG_E_NOT_FOUND : RG_E_INTERNAL,
                       "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return rg_fail(err, RG_E_INTERNAL, "%s: is no file", path);
    }
    if ((info.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        rg_log(RG_LOG_WARN, "core", "keys-file-open-to-others", RG_STR("file", path),
               RG_INT("mode", info.st_mode & 0777U));
    *out_fd = fd;
    return RG_OK;
}

/* path: not empty. make: a missing file is made. */
static enum rg_code load_file(const char *path, bool make, struct rg_keyset **out,
                              struct rg_err *err)
{
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *masters = rg_secret_create_empty(KEYS_MAX * MASTER_BYTES);
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *text = rg_secret_create_empty(KEY_FILE_MAX);
    int fd = -1;
    if (masters == NULL || text == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    uint8_t *bytes = (uint8_t *)rg_secret_edit(masters);
    enum rg_code code = open_file(path, &fd, err);
    if (code == RG_E_NOT_FOUND && make) {
        randombytes_buf(bytes, MASTER_BYTES);
        code = write_new_file(path, bytes, err);
        return code == RG_OK ? keyset_from(bytes, 1, out, err) : code;
    }
    if (code != RG_OK)
        return code;
    size_t n = 0;
    code = read_file(path, fd, rg_secret_edit(text), KEY_FILE_MAX, err);
    close(fd);
    if (code == RG_OK)
        code = parse_keys(path, rg_secret_data(text), bytes, &n, err);
    return code == RG_OK ? keyset_from(bytes, n, out, err) : code;
}

static enum rg_code draw_one(struct rg_keyset **out, struct rg_err *err)
{
    RG_CLEANUP(rg_secret_destroyp)
    struct rg_secret *master = rg_secret_create_empty(MASTER_BYTES);
    if (master == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    randombytes_buf(rg_secret_edit(master), MASTER_BYTES);
    return keyset_from((const uint8_t *)rg_secret_data(master), 1, out, err);
}

/* ---- the handle */

enum rg_code rg_keys_load(const char *path, struct rg_keys **out, struct rg_err *err)
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = NULL;
    bool file = path != NULL && *path != '\0';
    enum rg_code code = file ? load_file(path, true, &set, err) : draw_one(&set, err);
    if (code != RG_OK)
        return code;
    struct rg_keys *keys = calloc(1, sizeof(*keys));
    struct ring *ring = calloc(1, sizeof(*ring));
    if (keys == NULL || ring == NULL || pthread_mutex_init(&ring->mutex, NULL) != 0) {
        free(ring);
        free(keys);
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    ring->set = RG_TAKE(set);
    atomic_init(&ring->generation, 1);
    keys->ring = ring;
    *out = keys;
    return RG_OK;
}

enum rg_code rg_keys_reload(struct rg_keys *keys, const char *path, struct rg_err *err)
{
    struct rg_keyset *set = NULL;
    enum rg_code code = load_file(path, false, &set, err);
    if (code != RG_OK)
        return code;
    pthread_mutex_lock(&keys->ring->mutex);
    struct rg_keyset *old = keys->ring->set;
    keys->ring->set = set;
    atomic_fetch_add(&keys->ring->generation, 1);
    pthread_mutex_unlock(&keys->ring->mutex);
    rg_keyset_unref(old);
    return RG_OK;
}

size_t rg_keys_count(const struct rg_keys *keys)
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = rg_keys_hold(keys);
    return set->n;
}

void rg_keys_destroy(struct rg_keys *keys)
{
    if (keys == NULL)
        return;
    rg_keyset_unref(keys->ring->set);
    pthread_mutex_destroy(&keys->ring->mutex);
    free(keys->ring);
    free(keys);
}

struct rg_mac *rg_keys_mac(const struct rg_keys *keys)
{
    RG_CLEANUP(rg_keyset_unrefp) struct rg_keyset *set = rg_keys_hold(keys);
    struct rg_mac *mac = rg_mac_create(set->n);
    for (size_t i = 0; mac != NULL && i < set->n; i++)
        rg_mac_set_key(mac, i, rg_keyset_at(set, i)->store_id, rg_keyset_at(set, i)->store);
    return mac;
}

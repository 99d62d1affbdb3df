#include "gateway/base/secret.h"

#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* DESIGN. One secret is made per request that opens a token, so it must not cost a handful of
 * system calls and four mappings, as sodium_malloc does (20,000 of them would hit the kernel's
 * limit of mappings). Small secrets live in slots of 1 KiB, cut from slabs of 64 KiB that are
 * mapped once, locked as far as RLIMIT_MEMLOCK allows and left out of core files.
 * A slab is never unmapped: the peak number of secrets bounds them. Bigger secrets get a
 * mapping of their own. Freed slots are wiped; under the address sanitizer they are poisoned,
 * so that a use after release is found all the same. */

#if defined(__SANITIZE_ADDRESS__)
#define RG_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RG_ASAN 1
#endif
#endif
#ifdef RG_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum { SLOT_BYTES = 1024, SLAB_BYTES = 64 * 1024 };

struct rg_secret {
    size_t len;
    size_t mapped; /* length of its own mapping; 0: a slot */
    char data[];
};

struct slot {
    struct slot *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot *free_slots;

static void *map_locked(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    /* Best effort: a small RLIMIT_MEMLOCK must not end sign-ins. */
    (void)mlock(p, bytes);
    (void)madvise(p, bytes, MADV_DONTDUMP);
    return p;
}

static bool add_slab_locked(void)
{
    char *slab = map_locked(SLAB_BYTES);

    if (slab == NULL)
        return false;
    for (size_t at = 0; at < SLAB_BYTES; at += SLOT_BYTES) {
        struct slot *slot = (struct slot *)(void *)(slab + at);

        slot->next = free_slots;
        free_slots = slot;
        POISON(slot + 1, SLOT_BYTES - sizeof(*slot));
    }
    return true;
}

static struct rg_secret *take_slot(void)
{
    struct slot *slot = NULL;

    pthread_mutex_lock(&lock);
    if (free_slots != NULL || add_slab_locked()) {
        slot = free_slots;
        free_slots = slot->next;
    }
    pthread_mutex_unlock(&lock);
    if (slot == NULL)
        return NULL;
    UNPOISON(slot, SLOT_BYTES);
    memset(slot, 0, sizeof(*slot));
    return (struct rg_secret *)(void *)slot;
}

struct rg_secret *rg_secret_create_empty(size_t len)
{
    struct rg_secret *secret;
    size_t need, mapped = 0;

    if (len > SIZE_MAX / 2)
        return NULL;
    need = sizeof(*secret) + len + 1;
    if (need <= SLOT_BYTES)
        secret = take_slot();
    else {
        mapped = need;
        secret = map_locked(mapped);
    }
    if (secret == NULL)
        return NULL;
    secret->len = len;
    secret->mapped = mapped;
    return secret;
}

struct rg_secret *rg_secret_create(const void *data, size_t len)
{
    struct rg_secret *secret = rg_secret_create_empty(len);

    if (secret != NULL && len > 0)
        memcpy(secret->data, data, len);
    return secret;
}

void rg_secret_destroy(struct rg_secret *secret)
{
    struct slot *slot = (struct slot *)(void *)secret;

    if (secret == NULL)
        return;
    if (secret->mapped != 0) {
        size_t mapped = secret->mapped;

        rg_wipe(secret, mapped);
        (void)munmap(secret, mapped);
        return;
    }
    rg_wipe(secret, SLOT_BYTES);
    POISON(slot + 1, SLOT_BYTES - sizeof(*slot));
    pthread_mutex_lock(&lock);
    slot->next = free_slots;
    free_slots = slot;
    pthread_mutex_unlock(&lock);
}

const char *rg_secret_data(const struct rg_secret *secret)
{
    return secret->data;
}

char *rg_secret_edit(struct rg_secret *secret)
{
    return secret->data;
}

size_t rg_secret_len(const struct rg_secret *secret)
{
    return secret->len;
}

void rg_wipe(void *data, size_t len)
{
    if (data != NULL && len > 0)
        sodium_memzero(data, len);
}

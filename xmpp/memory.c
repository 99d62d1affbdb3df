#include "xmpp/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/secret.h"

/* In front of every block, so that release knows how much to wipe; keeps malloc's alignment. */
union head {
    size_t size;
    max_align_t align;
};

static void count(struct rg_memory *memory, size_t size)
{
    memory->live += size;
    if (memory->live > memory->peak)
        memory->peak = memory->live;
    if (memory->live > memory->max)
        memory->over = true;
}

static void *hook_alloc(size_t size, void *userdata)
{
    struct rg_memory *memory = userdata;
    if (size > SIZE_MAX - sizeof(union head))
        return NULL;
    union head *head = malloc(sizeof(*head) + size);
    if (head == NULL)
        abort(); /* the worker is replaced; libstrophe would go on with a NULL */
    head->size = size;
    count(memory, size);
    return head + 1;
}

static void hook_free(void *block, void *userdata)
{
    struct rg_memory *memory = userdata;
    if (block == NULL)
        return;
    union head *head = (union head *)block - 1;
    memory->live -= head->size;
    rg_wipe(block, head->size);
    free(head);
}

static void *hook_realloc(void *block, size_t size, void *userdata)
{
    if (block == NULL)
        return hook_alloc(size, userdata);
    size_t old = ((union head *)block - 1)->size;
    void *next = hook_alloc(size, userdata);
    if (next == NULL)
        return NULL;
    memcpy(next, block, old < size ? old : size);
    hook_free(block, userdata);
    return next;
}

void rg_memory_init(struct rg_memory *memory, size_t max)
{
    *memory = (struct rg_memory){
        .hook = {.alloc = hook_alloc, .free = hook_free, .realloc = hook_realloc},
        .max = max,
    };
    memory->hook.userdata = memory;
}

#include "xmpp/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/secret.h"

/* In front of every block: how much to wipe, and whom it is charged to. */
struct rg_block {
    LIST_ENTRY(rg_block) link;
    struct rg_memory *memory;
    size_t size;
    bool is_parser;
    max_align_t data[];
};

static struct rg_block *block_of(void *data)
{
    return (struct rg_block *)(void *)((char *)data - offsetof(struct rg_block, data));
}

static void *take(struct rg_memory *memory, size_t size, bool is_parser)
{
    if (size > SIZE_MAX - sizeof(struct rg_block))
        return NULL;
    struct rg_block *block = malloc(sizeof(*block) + size);
    if (block == NULL)
        abort(); /* the worker is replaced; libstrophe would go on with a NULL */
    block->memory = memory;
    block->size = size;
    block->is_parser = is_parser;
    LIST_INSERT_HEAD(&memory->blocks, block, link);
    memory->live += size;
    memory->parser_live += is_parser ? size : 0;
    memory->n_large += !is_parser && size >= RG_TEXT_MAX;
    if (memory->live > memory->peak)
        memory->peak = memory->live;
    return block->data;
}

static void give(struct rg_block *block)
{
    struct rg_memory *memory = block->memory;
    LIST_REMOVE(block, link);
    memory->live -= block->size;
    memory->parser_live -= block->is_parser ? block->size : 0;
    memory->n_large -= !block->is_parser && block->size >= RG_TEXT_MAX;
    rg_wipe(block->data, block->size);
    free(block);
}

static void *change(struct rg_memory *memory, void *data, size_t size, bool is_parser)
{
    if (data == NULL)
        return take(memory, size, is_parser);
    struct rg_block *block = block_of(data);
    void *next = take(block->memory, size, is_parser);
    if (next == NULL)
        return NULL;
    memcpy(next, data, block->size < size ? block->size : size);
    give(block);
    return next;
}

static void *hook_alloc(size_t size, void *userdata)
{
    return take(userdata, size, false);
}

static void hook_free(void *data, void *userdata)
{
    (void)userdata;
    if (data != NULL)
        give(block_of(data));
}

static void *hook_realloc(void *data, size_t size, void *userdata)
{
    return change(userdata, data, size, false);
}

void *rg_memory_parser_alloc(struct rg_memory *memory, size_t size)
{
    return take(memory, size, true);
}

void *rg_memory_parser_realloc(struct rg_memory *memory, void *data, size_t size)
{
    return change(memory, data, size, true);
}

void rg_memory_parser_free(void *data)
{
    if (data != NULL)
        give(block_of(data));
}

void rg_memory_init(struct rg_memory *memory, size_t max, size_t parser_max)
{
    *memory = (struct rg_memory){
        .hook = {.alloc = hook_alloc, .free = hook_free, .realloc = hook_realloc},
        .max = max,
        .parser_max = parser_max,
    };
    memory->hook.userdata = memory;
    LIST_INIT(&memory->blocks);
}

void rg_memory_fini(struct rg_memory *memory)
{
    struct rg_block *block;
    while ((block = LIST_FIRST(&memory->blocks)) != NULL)
        give(block);
}

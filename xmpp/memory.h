/* The memory of one libstrophe context: counted, bounded, wiped when released.
 *
 * libstrophe has no limit on the size of a stanza and frees passwords without wiping them
 * (facts, libstrophe rules 16, 21). Every context therefore gets this hook. It never refuses:
 * libstrophe does not survive that everywhere. It only counts: whoever is beyond the bound when
 * the library has returned, at most 4 KiB of input later, is ended. (What libstrophe needs for
 * a moment to print a whole stanza does not count.)
 *
 * Expat's memory is counted as well (expat.h), and has a bound of its own: it is what one
 * unfinished tag may take. Thread: worker. */
#ifndef XMPP_MEMORY_H
#define XMPP_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include <strophe.h>
#include <sys/queue.h>

/* The most that one text node may hold. Asked between two calls into the library, when the
 * copies are gone that it makes of a whole stanza: what is large then is a text that still
 * grows, and libstrophe's time for it grows with the square of its length. */
enum { RG_TEXT_MAX = 1024 * 1024 };

struct rg_block;
LIST_HEAD(rg_block_list, rg_block);

struct rg_memory {
    xmpp_mem_t hook; /* for xmpp_ctx_new; keeps pointing here, so the struct must not move */
    size_t live, peak, max;
    size_t parser_live, parser_max; /* Expat's part of live */
    size_t n_large;                 /* live blocks of RG_TEXT_MAX and more, Expat's apart */
    struct rg_block_list blocks;    /* all of them */
};

void rg_memory_init(struct rg_memory *memory, size_t max, size_t parser_max);
/* After the context is freed: wipes and frees what libstrophe left behind (it forgets parts of
 * an authentication that was cut off, which may hold the password). */
void rg_memory_fini(struct rg_memory *memory);

static inline bool rg_memory_over(const struct rg_memory *memory)
{
    return memory->live > memory->max || memory->parser_live > memory->parser_max ||
           memory->n_large > 0;
}

/* For Expat, whose functions get no user data: a block remembers whom it is charged to. */
void *rg_memory_parser_alloc(struct rg_memory *memory, size_t size);
void *rg_memory_parser_realloc(struct rg_memory *memory, void *data, size_t size);
void rg_memory_parser_free(void *data);

#endif

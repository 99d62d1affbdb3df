/* The memory of one libstrophe context: counted, bounded, wiped when released.
 *
 * libstrophe has no limit on the size of a stanza and frees passwords without wiping them
 * (facts, libstrophe rules 16, 21). Every context therefore gets this hook. It never refuses:
 * libstrophe does not survive that everywhere. It only notes that the bound was crossed; the
 * session is ended as soon as the library has returned, at most 4 KiB of input later.
 *
 * Expat's own buffers of all contexts but the first are outside of it; session.c bounds those
 * by the bytes received since the last stanza. Thread: worker. */
#ifndef XMPP_MEMORY_H
#define XMPP_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include <strophe.h>

struct rg_memory {
    xmpp_mem_t hook; /* for xmpp_ctx_new; keeps pointing here, so the struct must not move */
    size_t live, peak, max;
    bool over; /* live was beyond max once */
};

void rg_memory_init(struct rg_memory *memory, size_t max);

#endif

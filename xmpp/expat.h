/* A hand on Expat, which libstrophe uses and hides (facts, libstrophe rule 21).
 *
 * Debian's Expat delays a tag that was cut by a read until twice as many bytes have come (its
 * answer to CVE-2023-52425). On a stream that waits for us, they may never come: a roster push
 * whose last few bytes arrive alone is not seen until something else is sent, and the request
 * it belongs to times out. libstrophe 0.12.2 neither feeds Expat again nor turns that off; its
 * parser is out of reach. So the program defines XML_ParserCreate_MM and XML_ParserReset
 * itself: the dynamic linker gives libstrophe these, which call Expat's and turn the delay off.
 * What the delay was for, quadratic time over one huge tag, is bounded here by the memory of a
 * parser.
 *
 * Expat's memory is charged to the session whose turn it is. Thread: worker. */
#ifndef XMPP_EXPAT_H
#define XMPP_EXPAT_H

#include <stdbool.h>

#include "xmpp/memory.h"

enum { RG_PARSER_BYTES_MAX = 2 * 1024 * 1024 }; /* for one unfinished tag, and Expat's tables */

/* Parsers made or fed from now on are charged to this memory; never NULL once it was set. */
void rg_expat_charge(struct rg_memory *memory);
/* Has libstrophe come here for a parser? If not, the worker must not run. */
bool rg_expat_is_hooked(void);

#endif

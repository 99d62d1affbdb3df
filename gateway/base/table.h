/* Hash tables: uthash under the process's keyed hash, so that nobody outside can choose keys
 * that collide (threat T21). Include this instead of uthash.h. Thread: the table's owner's.
 *
 * Out of memory is no abort: HASH_ADD leaves the element's hh.tbl NULL. */
#ifndef GATEWAY_BASE_TABLE_H
#define GATEWAY_BASE_TABLE_H

#include "gateway/base/random.h"

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(keyptr, keylen, hashv)                                                   \
    do {                                                                                       \
        (hashv) = (unsigned)rg_hash((keyptr), (keylen));                                       \
    } while (0)
#include <uthash.h>

#endif

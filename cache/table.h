/* uthash as cache/ uses it: the process's keyed hash, so that nobody can choose colliding keys
 * (T21), and lacking memory is told (the entry's hh.tbl is NULL) instead of ending the process.
 * Inside cache/ only. */
#ifndef CACHE_TABLE_H
#define CACHE_TABLE_H

#include "gateway/base/random.h"

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, len, out) (out) = (unsigned)rg_hash((key), (len))
#include <uthash.h>

#endif

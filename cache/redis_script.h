/* The scripts of cache/scripts, embedded at build time (embed.cmake). Each touches the keys of
 * one account only. Inside cache/ only. */
#ifndef CACHE_REDIS_SCRIPT_H
#define CACHE_REDIS_SCRIPT_H

#include "cache/redis_link.h"

extern const struct rg_redis_script rg_redis_script_load;
extern const struct rg_redis_script rg_redis_script_commit;
extern const struct rg_redis_script rg_redis_script_end;
extern const struct rg_redis_script rg_redis_script_erase;
extern const struct rg_redis_script rg_redis_script_release;

#endif

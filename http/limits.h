/* How many connections and streams there are, per client address and in all. Thread: any; one
 * leaf mutex. The newcomer is refused, nobody is evicted (DESIGN section 7). */
#ifndef HTTP_LIMITS_H
#define HTTP_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rg_limited { RG_LIMITED_CONNECTIONS, RG_LIMITED_STREAMS, RG_LIMITED_COUNT };

struct rg_limits;
/* NULL when out of memory. */
struct rg_limits *rg_limits_create(void);
void rg_limits_destroy(struct rg_limits *limits); /* accepts NULL */
/* Before anything is counted. */
void rg_limits_set(struct rg_limits *limits, enum rg_limited what, int64_t in_all,
                   int64_t per_address);

enum rg_limit { RG_LIMIT_FINE, RG_LIMIT_IN_ALL, RG_LIMIT_ADDRESS };
/* Counts one more, unless a limit is reached. key "": no address, only the sum counts. Out of
 * memory for a new address counts as RG_LIMIT_IN_ALL. */
enum rg_limit rg_limits_enter(struct rg_limits *limits, enum rg_limited what, const char *key);
void rg_limits_leave(struct rg_limits *limits, enum rg_limited what, const char *key);
int64_t rg_limits_count(struct rg_limits *limits, enum rg_limited what);

#endif

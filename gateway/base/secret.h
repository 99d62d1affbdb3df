/* Passwords and keys: locked memory, wiped when released, no print function. Thread: one at a
 * time. */
#ifndef GATEWAY_BASE_SECRET_H
#define GATEWAY_BASE_SECRET_H

#include <stddef.h>

#include "gateway/base/mem.h"

struct rg_secret; /* locked by mlock where the limit allows, kept out of core files */

/* (borrow) data. Returns (own), NULL when out of memory. A NUL follows the bytes. */
struct rg_secret *rg_secret_create(const void *data, size_t len);
/* Returns (own) room for len bytes, all zero. */
struct rg_secret *rg_secret_create_empty(size_t len);
void rg_secret_destroy(struct rg_secret *secret); /* wipes; accepts NULL */
RG_DEFINE_CLEANUP(struct rg_secret, rg_secret_destroy)

/* (borrow) until the secret is destroyed. */
const char *rg_secret_data(const struct rg_secret *secret);
char *rg_secret_edit(struct rg_secret *secret);
size_t rg_secret_len(const struct rg_secret *secret);

/* Overwrites memory that held a secret, in a way the compiler keeps. */
void rg_wipe(void *data, size_t len);

#endif

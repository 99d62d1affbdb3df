/* One version of one roster, ready to be served: immutable, counted, its encoded bodies made by
 * the first reader (DESIGN section 2). Thread: any that holds a reference. */
#ifndef GATEWAY_CORE_SNAPSHOT_H
#define GATEWAY_CORE_SNAPSHOT_H

#include <stdatomic.h>
#include <stddef.h>

#include "gateway/base/account.h"
#include "gateway/base/mem.h"
#include "gateway/base/roster.h"
#include "gateway/base/version.h"

/* Bytes shared by many readers; immutable. */
struct rg_blob {
    atomic_uint refs;
    size_t len;
    char data[];
};
struct rg_blob *rg_blob_ref(struct rg_blob *blob);
void rg_blob_unref(struct rg_blob *blob); /* accepts NULL */

struct rg_snapshot {
    atomic_uint refs;
    struct rg_roster *roster;
    size_t version_len;
    char version[RG_VERSION_SIZE];
    _Atomic(struct rg_blob *) body; /* {"version":…,"items":[…]} */
    _Atomic(struct rg_blob *) gzip;
};
/* Of an account whose roster is present. (own); NULL when out of memory. */
struct rg_snapshot *rg_snapshot_create(const struct rg_account *account);
struct rg_snapshot *rg_snapshot_ref(struct rg_snapshot *snapshot);
void rg_snapshot_unref(struct rg_snapshot *snapshot); /* accepts NULL */

/* (borrow) for as long as the snapshot is held; NULL when out of memory. */
struct rg_blob *rg_snapshot_body(struct rg_snapshot *snapshot);
struct rg_blob *rg_snapshot_gzip(struct rg_snapshot *snapshot);

#endif

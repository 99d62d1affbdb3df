#include "gateway/core/snapshot.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/buf.h"
#include "gateway/base/text.h"

enum { GZIP_LEVEL = 6 };

struct rg_blob *rg_blob_ref(struct rg_blob *blob)
{
    atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void rg_blob_unref(struct rg_blob *blob)
{
    if (blob != NULL && atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) == 1)
        free(blob);
}

static struct rg_blob *blob_alloc(size_t len)
{
    struct rg_blob *blob = malloc(sizeof(*blob) + len);
    if (blob == NULL)
        return NULL;
    atomic_init(&blob->refs, 1);
    blob->len = len;
    return blob;
}

struct rg_snapshot *rg_snapshot_create(const struct rg_account *account)
{
    struct rg_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL)
        return NULL;
    atomic_init(&snapshot->refs, 1);
    snapshot->roster = rg_roster_ref(account->roster);
    snapshot->version_len = rg_account_version(account, snapshot->version);
    return snapshot;
}

struct rg_snapshot *rg_snapshot_ref(struct rg_snapshot *snapshot)
{
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    return snapshot;
}

void rg_snapshot_unref(struct rg_snapshot *snapshot)
{
    if (snapshot == NULL ||
        atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
        return;
    rg_roster_unref(snapshot->roster);
    rg_blob_unref(atomic_load_explicit(&snapshot->body, memory_order_relaxed));
    rg_blob_unref(atomic_load_explicit(&snapshot->gzip, memory_order_relaxed));
    free(snapshot);
}

/* Several readers may make the same bytes at once; the first to put its own in wins. */
static struct rg_blob *publish_take(_Atomic(struct rg_blob *) *slot, struct rg_blob *made)
{
    struct rg_blob *there = NULL;
    if (made == NULL)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(slot, &there, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    rg_blob_unref(made);
    return there;
}

static struct rg_blob *encode(const struct rg_snapshot *snapshot)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    rg_buf_puts(&buf, "{\"version\":");
    rg_json_string(&buf, snapshot->version, snapshot->version_len);
    rg_buf_puts(&buf, ",\"items\":");
    rg_roster_json(&buf, snapshot->roster);
    rg_buf_putc(&buf, '}');
    if (rg_buf_failed(&buf))
        return NULL;
    struct rg_blob *blob = blob_alloc(buf.len);
    if (blob != NULL)
        memcpy(blob->data, buf.data, buf.len);
    return blob;
}

struct rg_blob *rg_snapshot_body(struct rg_snapshot *snapshot)
{
    struct rg_blob *body = atomic_load_explicit(&snapshot->body, memory_order_acquire);
    return body != NULL ? body : publish_take(&snapshot->body, encode(snapshot));
}

static struct rg_blob *compress(const struct rg_blob *body)
{
    struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(GZIP_LEVEL);
    if (compressor == NULL)
        return NULL;
    size_t bound = libdeflate_gzip_compress_bound(compressor, body->len);
    struct rg_blob *roomy = blob_alloc(bound);
    struct rg_blob *blob = NULL;
    size_t len = roomy == NULL ? 0
                               : libdeflate_gzip_compress(compressor, body->data, body->len,
                                                          roomy->data, bound);
    if (len != 0) {
        /* The bound is larger than the body; what lives as long as the version should fit. */
        roomy->len = len;
        blob = realloc(roomy, sizeof(*roomy) + len);
        roomy = blob != NULL ? NULL : roomy;
    }
    rg_blob_unref(roomy);
    libdeflate_free_compressor(compressor);
    return blob;
}

struct rg_blob *rg_snapshot_gzip(struct rg_snapshot *snapshot)
{
    struct rg_blob *gzip = atomic_load_explicit(&snapshot->gzip, memory_order_acquire);
    if (gzip != NULL)
        return gzip;
    struct rg_blob *body = rg_snapshot_body(snapshot);
    return body == NULL ? NULL : publish_take(&snapshot->gzip, compress(body));
}

/* Conditional requests and content coding: If-Match, If-None-Match, Accept-Encoding, request
 * Cache-Control (RFC 9110 13.1, 12.5.3; API section 3). An ETag here is "VERSION", or
 * "VERSION+gzip" for the compressed form; callers may send either, weak or strong. Pure
 * functions. Thread: any. */
#ifndef HTTP_ETAG_H
#define HTTP_ETAG_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/version.h"
#include "http/guard.h"

enum { RG_ETAG_SIZE = RG_VERSION_SIZE + 8, RG_ETAG_VERSIONS = 32 };

/* Writes "VERSION" or "VERSION+gzip" with its quotes. */
void rg_etag_format(char out[RG_ETAG_SIZE], const char *version, bool gzip);

/* Is this version listed (or `*`) in If-None-Match? */
bool rg_etag_none_match(const struct rg_headers *headers, const char *version,
                        size_t version_len);

/* The well-formed versions of an If-Match or If-None-Match. */
struct rg_etags {
    bool present;
    bool any; /* `*` */
    size_t n; /* further ones than RG_ETAG_VERSIONS are left out: they do not match */
    struct rg_version versions[RG_ETAG_VERSIONS];
};
void rg_etags_read(const struct rg_headers *headers, enum rg_header header,
                   struct rg_etags *out);

/* Does the client want gzip rather than plain bytes? */
bool rg_accepts_gzip(const struct rg_headers *headers);
/* Request `Cache-Control: no-cache`. */
bool rg_wants_fresh(const struct rg_headers *headers);

#endif

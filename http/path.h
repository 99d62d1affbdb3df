/* The request's path and query string, taken apart by ourselves: libmicrohttpd would decode the
 * path before it is split, so that `%2F` in a JID looked like a separator and `%00` cut the
 * string (facts/libmicrohttpd 7, R22). Pure functions. Thread: any. */
#ifndef HTTP_PATH_H
#define HTTP_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/base/err.h"

enum { RG_PATH_SEGMENTS = 8, RG_QUERY_PARAMS = 8 };

/* One raw segment, still percent-encoded. */
struct rg_segment {
    const char *text;
    size_t len;
};

/* (borrow) the url it was split from. A trailing slash is an empty last segment, which no route
 * matches. */
struct rg_path {
    size_t n;
    struct rg_segment segments[RG_PATH_SEGMENTS];
};

/* Splits an origin-form or absolute-form target on '/'. RG_E_BAD_REQUEST: malformed
 * percent-encoding, NUL or invalid UTF-8 anywhere. RG_E_NOT_FOUND: more segments than any route
 * has, or no path at all. */
enum rg_code rg_path_split(struct rg_path *out, const char *url, struct rg_err *err);

/* Does the path match the template ("/v1/roster/items/{jid}")? *out_wild is the segment under
 * the last {…}, untouched if there is none. */
bool rg_path_match(const struct rg_path *path, const char *template,
                   struct rg_segment *out_wild);

/* The parameters of a query string, decoded. */
struct rg_query {
    size_t n;
    struct {
        const char *name; /* (borrow) one of `allowed` */
        size_t at, len;   /* in text */
    } params[RG_QUERY_PARAMS];
    struct rg_buf text; /* values, each with a NUL behind it */
};
void rg_query_fini(struct rg_query *query);

/* Adds one parameter as libmicrohttpd hands it over: '+' is a space already, value NULL when
 * there was no '='. `allowed` is a list that ends with NULL, or NULL for none.
 * RG_E_UNKNOWN_PARAMETER: not in `allowed`, or there already. RG_E_INVALID_QUERY: the value
 * does not decode. */
enum rg_code rg_query_add(struct rg_query *query, const char *const *allowed, const char *name,
                          size_t name_len, const char *value, size_t value_len,
                          struct rg_err *err);
/* (borrow) until the query changes; NULL if it was not given. */
const char *rg_query_get(const struct rg_query *query, const char *name);
/* A plain decimal number in [min, max]; absent: *out stays. */
enum rg_code rg_query_int(const struct rg_query *query, const char *name, int64_t min,
                          int64_t max, int64_t *out, struct rg_err *err);

#endif

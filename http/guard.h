/* The head of one request: the header lines the gateway looks at, collected in one walk, and
 * the guard against requests that two parsers could read in two ways. libmicrohttpd 0.9.75
 * alone lets requests be smuggled (finding F2, facts/libmicrohttpd 7, R21). Pure functions.
 * Thread: any. */
#ifndef HTTP_GUARD_H
#define HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rg_header {
    RG_HEADER_HOST,
    RG_HEADER_CONTENT_LENGTH,
    RG_HEADER_TRANSFER_ENCODING,
    RG_HEADER_CONTENT_TYPE,
    RG_HEADER_AUTHORIZATION,
    RG_HEADER_COOKIE,
    RG_HEADER_ORIGIN,
    RG_HEADER_SEC_FETCH_SITE,
    RG_HEADER_IF_MATCH,
    RG_HEADER_IF_NONE_MATCH,
    RG_HEADER_ACCEPT_ENCODING,
    RG_HEADER_CACHE_CONTROL,
    RG_HEADER_LAST_EVENT_ID,
    RG_HEADER_X_FORWARDED_FOR,
    RG_HEADER_X_REQUEST_ID,
    RG_HEADER_EXPECT,
    RG_HEADER_REQUEST_METHOD, /* Access-Control-Request-Method */
    RG_HEADER_COUNT,
    RG_HEADER_OTHER = RG_HEADER_COUNT
};

enum { RG_HEADER_LINES = 32 };

struct rg_header_line {
    const char *value; /* (borrow) from libmicrohttpd, for as long as the request lasts */
    uint16_t len;
    uint8_t header;
};

/* The known lines in order of arrival. */
struct rg_headers {
    uint32_t seen;  /* bit per header */
    uint32_t twice; /* stands on more than one line */
    uint8_t n;
    const char *malformed; /* NULL: well-formed so far */
    struct rg_header_line lines[RG_HEADER_LINES];
};

/* Takes one header line; what is wrong with it shows in rg_headers_check. (borrow) all. */
void rg_headers_add(struct rg_headers *headers, const char *name, size_t name_len,
                    const char *value, size_t value_len);
/* The guard: NULL if the request can be read in one way only, else what is wrong with it (a
 * literal); such a connection must be closed. */
const char *rg_headers_check(const struct rg_headers *headers, bool http_1_1);

/* (borrow) the first line of that header, NULL if there is none. */
const char *rg_headers_get(const struct rg_headers *headers, enum rg_header header);
/* The next line of that header from *at on; *at starts at 0. */
const struct rg_header_line *rg_headers_next(const struct rg_headers *headers,
                                             enum rg_header header, size_t *at);
static inline bool rg_headers_has(const struct rg_headers *headers, enum rg_header header)
{
    return (headers->seen >> header & 1u) != 0;
}
static inline bool rg_headers_twice(const struct rg_headers *headers, enum rg_header header)
{
    return (headers->twice >> header & 1u) != 0;
}

/* Declared body length; false if there is none, or it is chunked. */
bool rg_headers_length(const struct rg_headers *headers, uint64_t *out);

/* True if name and value stand in the read buffer the way one clean line leaves them: the value
 * right behind its name and ended by CR LF. A folded line (obs-fold, RFC 9112 5.2) makes
 * libmicrohttpd move the name elsewhere and glue the continuation to it; a NUL cuts the value
 * short; both would hide bytes that another parser sees. Reads the byte behind the value's NUL,
 * which in libmicrohttpd's buffer is the second byte of the line's end. */
bool rg_header_in_place(const char *name, size_t name_len, const char *value, size_t value_len);

/* One element of a comma-separated list: *at moves on; false at the end. Blanks around it are
 * left out, empty elements are skipped. */
bool rg_list_next(const char **at, const char **out, size_t *out_len);

#endif

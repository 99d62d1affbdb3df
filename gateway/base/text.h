/* Rules for strings that cross between JSON, HTTP and XML. Thread: any. */
#ifndef GATEWAY_BASE_TEXT_H
#define GATEWAY_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/buf.h"

/* Well-formed UTF-8: no overlong forms, surrogates or code points beyond U+10FFFF. NUL is a
 * character like any other here. */
bool rg_utf8_valid(const char *text, size_t len);

/* True if the text may go to an XMPP server as name, group, JID or status: valid UTF-8, no
 * control character (C0 with TAB, LF, CR; DEL; C1), no U+FFFE/U+FFFF. One such byte would end
 * the stream with not-well-formed, or come back changed (facts, libstrophe rule 19). */
bool rg_text_sendable(const char *text, size_t len);

/* The longest prefix of at most max bytes that does not cut a character. */
size_t rg_utf8_cut(const char *text, size_t len, size_t max);

/* Appends text as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD, so that whatever
 * a peer sent, the document stays JSON and stays on one line (U+2028/2029 are escaped too). */
void rg_json_string(struct rg_buf *buf, const char *text, size_t len);

/* Strict percent-decoding of one path segment or query value, once. `plus` turns '+' into a
 * space (query only). False if a '%' is not followed by two hex digits, or the result holds NUL
 * or is not valid UTF-8. Appends to buf. */
bool rg_percent_decode(struct rg_buf *buf, const char *text, size_t len, bool plus);
/* Appends text as one path segment; unreserved characters and '@' stay bare. */
void rg_percent_encode(struct rg_buf *buf, const char *text, size_t len);

/* base64url without padding (RFC 4648 5). Decoding is strict: canonical form only, so that one
 * token has one spelling. Returns false on any other byte or if out_cap is too small. */
void rg_base64url_encode(struct rg_buf *buf, const void *data, size_t len);
bool rg_base64url_decode(const char *text, size_t len, void *out, size_t out_cap,
                         size_t *out_len);

/* Appends an RFC 3339 UTC time with 'Z', whole seconds since 1970. */
void rg_time_rfc3339(struct rg_buf *buf, long long unix_s);

#endif

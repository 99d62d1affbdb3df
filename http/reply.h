/* Which HTTP status an outcome becomes, and the document that explains it (API section 6,
 * RFC 9457). Pure functions. Thread: any. */
#ifndef HTTP_REPLY_H
#define HTTP_REPLY_H

#include <stdbool.h>

#include "gateway/base/buf.h"
#include "gateway/base/err.h"

/* What RG_E_UNREACHABLE means depends on the call: a sign-in went through to the XMPP server
 * and failed there (502), anything else cannot be served now (503). */
unsigned rg_reply_status(const struct rg_err *err, bool sign_in);
/* The problem's `code`: the XMPP condition, or the outcome's slug. (borrow) a literal. */
const char *rg_reply_code(const struct rg_err *err);
/* Seconds for Retry-After; 0: the header does not belong there. */
unsigned rg_reply_retry_after(const struct rg_err *err, unsigned status);

/* Appends the application/problem+json document. */
void rg_reply_problem(struct rg_buf *buf, const struct rg_err *err, unsigned status,
                      const char *instance);
/* Appends what /v1/problems/SLUG says; false if there is no such slug. */
bool rg_reply_explain(struct rg_buf *buf, const char *slug, size_t len);

#endif

/* Outcomes of everything that can fail. Lower layers return a code and may fill a caller-owned
 * struct rg_err; nothing is allocated while failing. Thread: any. */
#ifndef GATEWAY_BASE_ERR_H
#define GATEWAY_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* One row per outcome: name, slug (the problem's `code`, API section 6), title, what it means
 * and what to do about it (served at /v1/problems/SLUG). The HTTP status stands in
 * http/reply.c. */
#define RG_CODES(X)                                                                            \
    X(OK, "ok", "OK", "Nothing went wrong.")                                                   \
    X(E_INTERNAL, "internal-server-error", "Internal error",                                   \
      "Rostergate failed in a way it should not, or is out of memory. Try again; report it "   \
      "with the request id.")                                                                  \
    X(E_CANCELLED, "draining", "Stopping",                                                     \
      "This instance is stopping. Send the request again: another instance, or the restarted " \
      "one, answers it.")                                                                      \
    X(E_BAD_REQUEST, "bad-request", "Malformed request",                                       \
      "The request line, path, a header or the framing is malformed. `detail` says which.")    \
    X(E_INVALID_JSON, "invalid-json", "Body is not acceptable JSON",                           \
      "The body does not parse, is not valid UTF-8, nests deeper than 16 or names a member "   \
      "twice.")                                                                                \
    X(E_INVALID_ITEM, "invalid-item", "Invalid member",                                        \
      "A member of the body is missing, unknown, of the wrong type, too long or holds a "      \
      "character that XMPP cannot carry. `detail` names it.")                                  \
    X(E_INVALID_JID, "invalid-jid", "Invalid JID",                                             \
      "The JID cannot be prepared by the profiles of RFC 6122, or is a full JID where a bare " \
      "one is needed.")                                                                        \
    X(E_INVALID_QUERY, "invalid-query", "Invalid query parameter",                             \
      "A query parameter is missing or its value is not allowed. `detail` names it.")          \
    X(E_UNKNOWN_PARAMETER, "unknown-parameter", "Unknown query parameter",                     \
      "The call does not know this query parameter, or it stands twice.")                      \
    X(E_TOO_LARGE, "too-large", "Body too large",                                              \
      "The body is over the limit of this call. Send less at a time.")                         \
    X(E_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type",                        \
      "Send `Content-Type: application/json` (PATCH: `application/merge-patch+json`).")        \
    X(E_NOT_FOUND, "not-found", "No such path", "There is nothing at this path.")              \
    X(E_METHOD, "method-not-allowed", "Method not allowed",                                    \
      "This path does not know the method. `Allow` lists those it knows.")                     \
    X(E_NOT_IMPLEMENTED, "not-implemented", "Not built yet",                                   \
      "The contract names this call, but this release does not have it yet.")                  \
    X(E_UNAUTHORIZED, "unauthorized", "Not signed in",                                         \
      "No token, a token that is not valid (any more), or JID and password do not fit. Sign "  \
      "in with POST /v1/session.")                                                             \
    X(E_CREDENTIALS, "credentials-rejected", "The XMPP server refuses the password",           \
      "The password in this token is no longer accepted by the XMPP server. Sign in again.")   \
    X(E_SIGN_IN_AGAIN, "sign-in-again", "Sign in again",                                       \
      "The password was given too long ago to renew the token. Sign in with the password.")    \
    X(E_CSRF, "csrf", "Cross-site request refused",                                            \
      "A request with the cookie must come from the same origin or a listed one.")             \
    X(E_DOMAIN, "domain-not-served", "Domain not served",                                      \
      "This gateway does not serve the domain of the JID.")                                    \
    X(E_RATE, "too-many-requests", "Too many requests",                                        \
      "A limit of this user, address or instance is reached. Wait for `Retry-After` seconds.") \
    X(E_POOL_FULL, "pool-full", "All XMPP sessions in use",                                    \
      "The pool of XMPP sessions is full; nobody is thrown out for a newcomer. Try later.")    \
    X(E_UNREACHABLE, "xmpp-unreachable", "XMPP server unreachable",                            \
      "The XMPP server cannot be reached or cannot be trusted. The cached roster stays "       \
      "readable; writes wait until it is back.")                                               \
    X(E_TIMEOUT, "xmpp-timeout", "No answer in time",                                          \
      "The XMPP server did not answer the sign-in in time. Try again.")                        \
    X(E_UNCERTAIN, "outcome-unknown", "Outcome unknown",                                       \
      "The change was sent, but no answer came. It may have happened: the roster is read "     \
      "again, the stream tells. Repeating the write is safe.")                                 \
    X(E_NOT_APPLIED, "not-applied", "Confirmed but not done",                                  \
      "The XMPP server said it made the change, yet the roster read afterwards does not show " \
      "it.")                                                                                   \
    X(E_XMPP, "xmpp", "Refused by the XMPP server",                                            \
      "The XMPP server answered with an error; its condition is the problem's `code`.")        \
    X(E_ITEM_NOT_FOUND, "item-not-found", "Not in the roster",                                 \
      "The roster has no item with this JID.")                                                 \
    X(E_ROSTER_NOT_FOUND, "roster-not-found", "No roster",                                     \
      "The XMPP server has no roster for this account. Writing an item makes one.")            \
    X(E_SELF_CONTACT, "self-contact", "Own JID", "Your own JID cannot be a contact.")          \
    X(E_VERSION_EXPIRED, "version-expired", "Version not known any more",                      \
      "The changes since this version are not known. Read the whole roster at `Location`.")    \
    X(E_VERSION_MISMATCH, "version-mismatch", "Changed meanwhile",                             \
      "The item changed since the version in `If-Match`, or is there despite "                 \
      "`If-None-Match: *`. Read it again and decide anew.")                                    \
    X(E_VERSION_CHANGED, "version-changed", "Roster changed while paging",                     \
      "The cursor belongs to an older version. Start again without `cursor`.")

enum rg_code {
#define RG_CODE_ENUM(name, slug, title, help) RG_##name,
    RG_CODES(RG_CODE_ENUM)
#undef RG_CODE_ENUM
        RG_CODE_COUNT
};

/* Stanza error conditions of RFC 6120 8.3.3. */
#define RG_CONDITIONS(X)                                                                       \
    X(NONE, "")                                                                                \
    X(BAD_REQUEST, "bad-request")                                                              \
    X(CONFLICT, "conflict")                                                                    \
    X(FEATURE_NOT_IMPLEMENTED, "feature-not-implemented")                                      \
    X(FORBIDDEN, "forbidden")                                                                  \
    X(GONE, "gone")                                                                            \
    X(INTERNAL_SERVER_ERROR, "internal-server-error")                                          \
    X(ITEM_NOT_FOUND, "item-not-found")                                                        \
    X(JID_MALFORMED, "jid-malformed")                                                          \
    X(NOT_ACCEPTABLE, "not-acceptable")                                                        \
    X(NOT_ALLOWED, "not-allowed")                                                              \
    X(NOT_AUTHORIZED, "not-authorized")                                                        \
    X(POLICY_VIOLATION, "policy-violation")                                                    \
    X(RECIPIENT_UNAVAILABLE, "recipient-unavailable")                                          \
    X(REDIRECT, "redirect")                                                                    \
    X(REGISTRATION_REQUIRED, "registration-required")                                          \
    X(REMOTE_SERVER_NOT_FOUND, "remote-server-not-found")                                      \
    X(REMOTE_SERVER_TIMEOUT, "remote-server-timeout")                                          \
    X(RESOURCE_CONSTRAINT, "resource-constraint")                                              \
    X(SERVICE_UNAVAILABLE, "service-unavailable")                                              \
    X(SUBSCRIPTION_REQUIRED, "subscription-required")                                          \
    X(UNDEFINED_CONDITION, "undefined-condition")                                              \
    X(UNEXPECTED_REQUEST, "unexpected-request")

enum rg_condition {
#define RG_CONDITION_ENUM(name, text) RG_XMPP_##name,
    RG_CONDITIONS(RG_CONDITION_ENUM)
#undef RG_CONDITION_ENUM
        RG_XMPP_CONDITION_COUNT
};

/* The `type` of a stanza error, RFC 6120 8.3.2. */
enum rg_xmpp_type {
    RG_XMPP_TYPE_NONE,
    RG_XMPP_TYPE_AUTH,
    RG_XMPP_TYPE_CANCEL,
    RG_XMPP_TYPE_CONTINUE,
    RG_XMPP_TYPE_MODIFY,
    RG_XMPP_TYPE_WAIT,
    RG_XMPP_TYPE_COUNT
};

/* What the XMPP server said; all zero when it said nothing. `text` is valid UTF-8, cut to fit.
 */
struct rg_xmpp_error {
    enum rg_condition condition;
    enum rg_xmpp_type type;
    char text[160];
};

struct rg_err {
    enum rg_code code;
    unsigned retry_after_s; /* 0: none to tell */
    struct rg_xmpp_error xmpp;
    char text[240]; /* for people; valid UTF-8, names what was wrong, holds no secret */
};

#define RG_ERR_INIT                                                                            \
    {                                                                                          \
        .code = RG_OK                                                                          \
    }

/* Fills err (which may be NULL) with code and a formatted text, cut at a character boundary;
 * clears err->xmpp and err->retry_after_s. Returns code, so that `return rg_fail(...)` reads
 * well. */
enum rg_code rg_fail(struct rg_err *err, enum rg_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Like rg_fail with RG_E_XMPP, keeping what the server said. (borrow) said. */
enum rg_code rg_fail_xmpp(struct rg_err *err, const struct rg_xmpp_error *said);

const char *rg_code_slug(enum rg_code code);
const char *rg_code_title(enum rg_code code);
const char *rg_code_help(enum rg_code code);

/* The condition's element name (RFC 6120 8.3.3), "" for NONE; and back: unknown names are
 * RG_XMPP_UNDEFINED_CONDITION. */
const char *rg_condition_name(enum rg_condition condition);
enum rg_condition rg_condition_parse(const char *name);
const char *rg_xmpp_type_name(enum rg_xmpp_type type);
enum rg_xmpp_type rg_xmpp_type_parse(const char *name);

#endif

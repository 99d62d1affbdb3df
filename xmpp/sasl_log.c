#include "xmpp/sasl_log.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"

static bool begins(const char *text, const char *with, const char **out_rest)
{
    size_t n = strlen(with);
    if (strncmp(text, with, n) != 0)
        return false;
    if (out_rest != NULL)
        *out_rest = text + n;
    return true;
}

/* RFC 6120 6.5. Where the server cannot know better than "these credentials do not work", the
 * caller has to be told so; everything else is the server's trouble and may be tried again. */
static enum rg_sasl_failure classify_failure(const char *stanza)
{
    static const struct {
        const char *element;
        enum rg_sasl_failure means;
    } rows[] = {
        {"<not-authorized", RG_SASL_REFUSED},
        {"<account-disabled", RG_SASL_REFUSED},
        {"<credentials-expired", RG_SASL_REFUSED},
        {"<invalid-authzid", RG_SASL_REFUSED},
        {"<malformed-request", RG_SASL_REFUSED},
        {"<incorrect-encoding", RG_SASL_REFUSED},
        {"<temporary-auth-failure", RG_SASL_TEMPORARY},
    };
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++)
        if (strstr(stanza, rows[i].element) != NULL)
            return rows[i].means;
    return RG_SASL_UNUSABLE;
}

static enum rg_log_mark read_stanza(struct rg_sasl_log *log, const char *stanza)
{
    if (log->authenticated && log->final_features)
        return RG_LOG_STANZA; /* signed in and features known: nothing more to learn */
    if (begins(stanza, "<stream:features", NULL) || begins(stanza, "<features", NULL)) {
        log->roster_versioning = strstr(stanza, "urn:xmpp:features:rosterver") != NULL;
        log->pre_approval = strstr(stanza, "urn:xmpp:features:pre-approval") != NULL;
        log->final_features = log->authenticated;
    } else if (begins(stanza, "<failure", NULL) && !log->authenticated) {
        if (strstr(stanza, "urn:ietf:params:xml:ns:xmpp-sasl") != NULL)
            log->sasl = classify_failure(stanza);
        else
            log->tls = RG_TLS_FAILED; /* RFC 6120 5.4.2.2 */
    }
    return RG_LOG_STANZA;
}

/* OpenSSL's X509_V_ERR_... stands at the end of the line, in parentheses. The numbers are part
 * of its interface; its headers are not needed for them. */
static enum rg_certificate_fault classify_certificate(const char *text)
{
    const char *number = strrchr(text, '(');
    switch (number == NULL ? 0 : atoi(number + 1)) {
    case 9: /* CERT_NOT_YET_VALID */
        return RG_CERTIFICATE_NOT_YET;
    case 10: /* CERT_HAS_EXPIRED */
        return RG_CERTIFICATE_EXPIRED;
    case 18: /* DEPTH_ZERO_SELF_SIGNED_CERT */
        return RG_CERTIFICATE_SELF_SIGNED;
    case 2:  /* UNABLE_TO_GET_ISSUER_CERT */
    case 19: /* SELF_SIGNED_CERT_IN_CHAIN: a root that is not ours */
    case 20: /* UNABLE_TO_GET_ISSUER_CERT_LOCALLY */
    case 21: /* UNABLE_TO_VERIFY_LEAF_SIGNATURE */
    case 27: /* CERT_UNTRUSTED */
        return RG_CERTIFICATE_UNKNOWN_CA;
    case 62: /* HOSTNAME_MISMATCH */
        return RG_CERTIFICATE_WRONG_NAME;
    default:
        return RG_CERTIFICATE_OTHER;
    }
}

const char *rg_certificate_fault_name(enum rg_certificate_fault fault)
{
    switch (fault) {
    case RG_CERTIFICATE_EXPIRED:
        return "expired";
    case RG_CERTIFICATE_NOT_YET:
        return "not-yet-valid";
    case RG_CERTIFICATE_SELF_SIGNED:
        return "self-signed";
    case RG_CERTIFICATE_UNKNOWN_CA:
        return "unknown-ca";
    case RG_CERTIFICATE_WRONG_NAME:
        return "wrong-name";
    case RG_CERTIFICATE_OTHER:
        break;
    }
    return "other";
}

static enum rg_log_mark read_tls(struct rg_sasl_log *log, const char *text)
{
    if (begins(text, "proceeding with TLS", NULL) ||
        begins(text, "using legacy SSL connection", NULL)) {
        log->handshaking = true;
        return RG_LOG_TLS_BEGINS;
    }
    if (begins(text, "Certificate verification passed", NULL)) {
        log->secured = true; /* taken back below if the handshake failed all the same */
        return RG_LOG_TLS_ENDED;
    }
    if (begins(text, "Certificate verification FAILED", NULL)) {
        log->tls = RG_TLS_BAD_CERTIFICATE;
        log->certificate = classify_certificate(text);
        return RG_LOG_TLS_ENDED;
    }
    if (begins(text, "Couldn't start TLS!", NULL)) {
        if (log->tls == RG_TLS_FINE)
            log->tls = RG_TLS_FAILED;
        log->secured = false;
        return RG_LOG_TLS_ENDED;
    }
    if (begins(text, "TLS is not supported, but set as mandatory", NULL))
        log->tls = RG_TLS_MISSING;
    return RG_LOG_NOTHING;
}

static enum rg_log_mark read_sasl(struct rg_sasl_log *log, const char *text)
{
    const char *rest;
    if (begins(text, "SASL ", &rest) && strstr(rest, " auth successful") != NULL) {
        log->authenticated = true;
        log->sasl = RG_SASL_FINE;
        return RG_LOG_AUTHENTICATED;
    }
    if (begins(text, "Cannot authenticate with known methods", NULL) &&
        log->sasl == RG_SASL_FINE)
        log->sasl = RG_SASL_UNUSABLE;
    if (begins(text, "Binding failed.", NULL) ||
        begins(text, "Session establishment failed.", NULL) ||
        begins(text, "Stream features does not allow resource bind.", NULL))
        log->bind_failed = true;
    if (begins(text, "Did not receive stream features", NULL) ||
        begins(text, "didn't get stream features", NULL) ||
        begins(text, "Server did not reply to", NULL))
        log->timed_out = true;
    return RG_LOG_NOTHING;
}

enum rg_log_mark rg_sasl_log_read(struct rg_sasl_log *log, const char *text)
{
    const char *rest;
    if (begins(text, "SENT: ", NULL))
        return RG_LOG_NOTHING; /* may hold the password: not even looked at */
    if (begins(text, "RECV: ", &rest))
        return read_stanza(log, rest);
    if (begins(text, "parse error", NULL)) {
        log->parse_error = true;
        return RG_LOG_PARSE_ERROR;
    }
    if (begins(text, "Closing socket.", NULL))
        return RG_LOG_CLOSING;
    if (begins(text, "connection successful", NULL)) {
        log->connected = true;
        return RG_LOG_NOTHING;
    }
    if (begins(text, "connection failed, error ", &rest)) {
        log->connect_errno = atoi(rest);
        return RG_LOG_NOTHING;
    }
    if (begins(text, "Connection attempt timed out.", NULL)) {
        log->timed_out = true;
        return RG_LOG_NOTHING;
    }
    enum rg_log_mark mark = read_tls(log, text);
    return mark != RG_LOG_NOTHING ? mark : read_sasl(log, text);
}

enum rg_stage rg_sasl_log_stage(const struct rg_sasl_log *log, bool tls_wanted)
{
    if (!log->connected)
        return RG_STAGE_CONNECT;
    if (log->tls != RG_TLS_FINE || (log->handshaking && !log->secured))
        return RG_STAGE_TLS;
    if (tls_wanted && !log->secured)
        return RG_STAGE_STREAM;
    return RG_STAGE_AUTH;
}

static enum rg_code explain_tls(const struct rg_sasl_log *log, struct rg_err *err)
{
    switch (log->tls) {
    case RG_TLS_MISSING:
        return rg_fail(err, RG_E_UNREACHABLE, "the XMPP server offers no TLS");
    case RG_TLS_BAD_CERTIFICATE:
        return rg_fail(err, RG_E_UNREACHABLE,
                       "the XMPP server's certificate is not trusted (%s)",
                       rg_certificate_fault_name(log->certificate));
    case RG_TLS_FAILED:
    case RG_TLS_FINE:
        break;
    }
    return rg_fail(err, RG_E_UNREACHABLE, "the TLS handshake with the XMPP server failed");
}

enum rg_code rg_sasl_log_explain(const struct rg_sasl_log *log, struct rg_err *err)
{
    if (log->sasl == RG_SASL_REFUSED)
        return rg_fail(err, RG_E_UNAUTHORIZED, "the XMPP server refused the credentials");
    if (log->parse_error)
        return rg_fail(err, RG_E_UNREACHABLE, "what the XMPP server sends does not parse");
    if (log->tls != RG_TLS_FINE || (log->handshaking && !log->secured))
        return explain_tls(log, err);
    if (log->sasl == RG_SASL_TEMPORARY)
        return rg_fail(err, RG_E_UNREACHABLE, "the XMPP server cannot authenticate just now");
    if (log->sasl == RG_SASL_UNUSABLE)
        return rg_fail(err, RG_E_UNREACHABLE, "no SASL mechanism in common");
    if (log->timed_out)
        return rg_fail(err, RG_E_TIMEOUT, "the XMPP server did not answer the sign-in");
    if (log->bind_failed)
        return rg_fail(err, RG_E_UNREACHABLE, "the XMPP server refused to bind the session");
    if (!log->connected)
        return rg_fail(err, RG_E_UNREACHABLE, "no TCP connection to the XMPP server (%s)",
                       log->connect_errno != 0 ? strerror(log->connect_errno) : "refused");
    return rg_fail(err, RG_E_UNREACHABLE, "the XMPP server ended the stream");
}

/* Why a sign-in failed, and what the stream offered: read from libstrophe's debug log, because
 * its events do not tell (facts, libstrophe rules 12, 18, 20).
 *
 * The log also contains the password (rule 13). So a line is matched against a few known
 * beginnings and forgotten; not one byte of it is kept. Thread: worker. */
#ifndef XMPP_SASL_LOG_H
#define XMPP_SASL_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/err.h"
#include "xmpp/frame.h"

/* What one line meant. */
enum rg_log_mark {
    RG_LOG_NOTHING,
    RG_LOG_STANZA,        /* a whole stanza was received */
    RG_LOG_TLS_BEGINS,    /* the TLS handshake is about to block */
    RG_LOG_TLS_ENDED,     /* it is over, well or badly */
    RG_LOG_AUTHENTICATED, /* SASL success */
    RG_LOG_CLOSING,       /* libstrophe is about to shut TLS down and close the socket */
    RG_LOG_PARSE_ERROR    /* the stream is dead, but libstrophe will not say so */
};

enum rg_tls_failure { RG_TLS_FINE, RG_TLS_FAILED, RG_TLS_BAD_CERTIFICATE, RG_TLS_MISSING };
/* Why a certificate was refused. */
enum rg_certificate_fault {
    RG_CERTIFICATE_OTHER,
    RG_CERTIFICATE_EXPIRED,
    RG_CERTIFICATE_NOT_YET,
    RG_CERTIFICATE_SELF_SIGNED,
    RG_CERTIFICATE_UNKNOWN_CA,
    RG_CERTIFICATE_WRONG_NAME
};
enum rg_sasl_failure {
    RG_SASL_FINE,
    RG_SASL_REFUSED,   /* the credentials are wrong, expired or disabled */
    RG_SASL_TEMPORARY, /* the server cannot tell just now */
    RG_SASL_UNUSABLE   /* no mechanism in common, or one the server wants otherwise */
};

struct rg_sasl_log {
    bool connected; /* TCP */
    bool secured;   /* the TLS handshake succeeded */
    bool handshaking;
    bool authenticated;
    bool timed_out; /* connecting, or waiting for features or bind */
    bool bind_failed;
    bool parse_error;
    bool roster_versioning; /* of the newest features */
    bool pre_approval;
    bool final_features; /* those after authentication were seen */
    int connect_errno;
    enum rg_tls_failure tls;
    enum rg_certificate_fault certificate; /* with RG_TLS_BAD_CERTIFICATE */
    enum rg_sasl_failure sasl;
};

/* (borrow) text: one line of libstrophe's log. */
enum rg_log_mark rg_sasl_log_read(struct rg_sasl_log *log, const char *text);

/* How far the sign-in got. `tls_wanted`: the stream was to be secured. */
enum rg_stage rg_sasl_log_stage(const struct rg_sasl_log *log, bool tls_wanted);

/* "expired", "wrong-name", … */
const char *rg_certificate_fault_name(enum rg_certificate_fault fault);

/* What a stream that ended before it was bound is reported as. */
enum rg_code rg_sasl_log_explain(const struct rg_sasl_log *log, struct rg_err *err);

#endif

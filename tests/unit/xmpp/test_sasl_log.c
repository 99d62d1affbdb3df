#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "xmpp/sasl_log.h"

#define SASL_NS "xmlns=\"urn:ietf:params:xml:ns:xmpp-sasl\""

/* Reads the lines up to NULL, then explains. */
static enum rg_code explain(struct rg_sasl_log *log, const char *const *lines)
{
    struct rg_err err = RG_ERR_INIT;
    *log = (struct rg_sasl_log){0};
    for (size_t i = 0; lines[i] != NULL; i++)
        rg_sasl_log_read(log, lines[i]);
    enum rg_code code = rg_sasl_log_explain(log, &err);
    assert_true(err.text[0] != '\0');
    return code;
}
#define EXPLAIN(log, ...) explain((log), (const char *const[]){__VA_ARGS__, NULL})

static void sasl_log__explain__wrong_password(void **state)
{
    (void)state;
    struct rg_sasl_log log;
    assert_int_equal(EXPLAIN(&log, "connection successful",
                             "RECV: <failure " SASL_NS "><not-authorized/></failure>",
                             "SASL SCRAM-SHA-1 auth failed",
                             "Cannot authenticate with known methods"),
                     RG_E_UNAUTHORIZED);
    assert_int_equal(rg_sasl_log_stage(&log, false), RG_STAGE_AUTH);
}

static void sasl_log__explain__servers_trouble_is_not_the_users(void **state)
{
    (void)state;
    struct rg_sasl_log log;
    assert_int_equal(EXPLAIN(&log, "connection successful",
                             "RECV: <failure " SASL_NS "><temporary-auth-failure/></failure>"),
                     RG_E_UNREACHABLE);
    assert_int_equal(EXPLAIN(&log, "connection successful",
                             "RECV: <failure " SASL_NS "><invalid-mechanism/></failure>"),
                     RG_E_UNREACHABLE);
    assert_int_equal(
        EXPLAIN(&log, "connection successful", "Cannot authenticate with known methods"),
        RG_E_UNREACHABLE);
    assert_int_equal(EXPLAIN(&log, "connection successful"), RG_E_UNREACHABLE);
}

/* EXTERNAL may be refused before the mechanism that decides: the last word counts. */
static void sasl_log__explain__last_failure_counts(void **state)
{
    (void)state;
    struct rg_sasl_log log;
    assert_int_equal(EXPLAIN(&log, "connection successful",
                             "RECV: <failure " SASL_NS "><not-authorized/></failure>",
                             "RECV: <failure " SASL_NS "><temporary-auth-failure/></failure>"),
                     RG_E_UNREACHABLE);
    assert_int_equal(EXPLAIN(&log, "connection successful",
                             "RECV: <failure " SASL_NS "><not-authorized/></failure>",
                             "SASL PLAIN auth successful", "Binding failed."),
                     RG_E_UNREACHABLE);
}

static void sasl_log__explain__no_tcp(void **state)
{
    (void)state;
    struct rg_sasl_log log;
    assert_int_equal(EXPLAIN(&log, "connection failed, error 111"), RG_E_UNREACHABLE);
    assert_int_equal(rg_sasl_log_stage(&log, true), RG_STAGE_CONNECT);
    assert_int_equal(EXPLAIN(&log, "Connection attempt timed out."), RG_E_TIMEOUT);
}

static void sasl_log__explain__tls(void **state)
{
    (void)state;
    struct rg_sasl_log log;
    assert_int_equal(EXPLAIN(&log, "connection successful",
                             "TLS is not supported, but set as mandatory for this connection"),
                     RG_E_UNREACHABLE);
    assert_int_equal(log.tls, RG_TLS_MISSING);
    assert_int_equal(EXPLAIN(&log, "connection successful", "proceeding with TLS",
                             "Certificate verification FAILED, result=X(20)",
                             "Couldn't start TLS! error -3 tls_error 1"),
                     RG_E_UNREACHABLE);
    assert_int_equal(log.tls, RG_TLS_BAD_CERTIFICATE);
    assert_int_equal(rg_sasl_log_stage(&log, true), RG_STAGE_TLS);
    /* Nothing was presented: libstrophe says "passed", then that it failed all the same. */
    assert_int_equal(EXPLAIN(&log, "connection successful", "proceeding with TLS",
                             "Certificate verification passed",
                             "Couldn't start TLS! error -3 tls_error 5"),
                     RG_E_UNREACHABLE);
    assert_int_equal(rg_sasl_log_stage(&log, true), RG_STAGE_TLS);
    assert_int_equal(EXPLAIN(&log, "connection successful", "proceeding with TLS",
                             "Certificate verification passed"),
                     RG_E_UNREACHABLE);
    assert_int_equal(rg_sasl_log_stage(&log, true), RG_STAGE_AUTH);
}

static void sasl_log__certificate__tells_why(void **state)
{
    static const struct {
        const char *line, *name;
    } rows[] = {
        {"Certificate verification FAILED, result=certificate has expired(10)", "expired"},
        {"Certificate verification FAILED, result=certificate is not yet valid(9)",
         "not-yet-valid"},
        {"Certificate verification FAILED, result=self-signed certificate(18)", "self-signed"},
        {"Certificate verification FAILED, result=self-signed certificate in chain(19)",
         "unknown-ca"},
        {"Certificate verification FAILED, result=unable to get local issuer (CRL)(20)",
         "unknown-ca"},
        {"Certificate verification FAILED, result=unable to verify(21)", "unknown-ca"},
        {"Certificate verification FAILED, result=hostname mismatch(62)", "wrong-name"},
        {"Certificate verification FAILED, result=something new(999)", "other"},
        {"Certificate verification FAILED", "other"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rg_sasl_log log = {.connected = true};
        struct rg_err err = RG_ERR_INIT;
        assert_int_equal(rg_sasl_log_read(&log, rows[i].line), RG_LOG_TLS_ENDED);
        assert_string_equal(rg_certificate_fault_name(log.certificate), rows[i].name);
        assert_int_equal(rg_sasl_log_explain(&log, &err), RG_E_UNREACHABLE);
        assert_non_null(strstr(err.text, rows[i].name));
    }
}

static void sasl_log__stage__plain_where_tls_was_wanted(void **state)
{
    (void)state;
    struct rg_sasl_log log = {.connected = true};
    assert_int_equal(rg_sasl_log_stage(&log, true), RG_STAGE_STREAM);
    assert_int_equal(rg_sasl_log_stage(&log, false), RG_STAGE_AUTH);
}

static void sasl_log__read__features_of_the_last_stream(void **state)
{
    (void)state;
    struct rg_sasl_log log = {0};
    rg_sasl_log_read(&log, "RECV: <stream:features><ver "
                           "xmlns=\"urn:xmpp:features:rosterver\"/></stream:features>");
    rg_sasl_log_read(&log, "SASL PLAIN auth successful");
    assert_int_equal(rg_sasl_log_read(&log, "RECV: <stream:features><sub "
                                            "xmlns=\"urn:xmpp:features:pre-approval\"/>"
                                            "</stream:features>"),
                     RG_LOG_STANZA);
    assert_false(log.roster_versioning);
    assert_true(log.pre_approval);
    /* Later stanzas are not believed to be features. */
    rg_sasl_log_read(&log, "RECV: <stream:features><ver "
                           "xmlns=\"urn:xmpp:features:rosterver\"/></stream:features>");
    assert_false(log.roster_versioning);
}

static void sasl_log__read__marks(void **state)
{
    (void)state;
    struct rg_sasl_log log = {0};
    assert_int_equal(rg_sasl_log_read(&log, "proceeding with TLS"), RG_LOG_TLS_BEGINS);
    assert_int_equal(rg_sasl_log_read(&log, "Certificate verification passed"),
                     RG_LOG_TLS_ENDED);
    assert_int_equal(rg_sasl_log_read(&log, "SASL PLAIN auth successful"),
                     RG_LOG_AUTHENTICATED);
    assert_int_equal(rg_sasl_log_read(&log, "Closing socket."), RG_LOG_CLOSING);
    assert_int_equal(rg_sasl_log_read(&log, "parse error [<a>]"), RG_LOG_PARSE_ERROR);
    assert_true(log.parse_error);
}

/* What a stanza, ours or the server's, says about itself is no line of the log. */
static void sasl_log__read__text_inside_stanzas_means_nothing(void **state)
{
    (void)state;
    struct rg_sasl_log log = {0}, untouched = {0};
    rg_sasl_log_read(&log, "SENT: <auth>SASL PLAIN auth successful</auth>");
    rg_sasl_log_read(&log, "RECV: <message>SASL PLAIN auth successful</message>");
    rg_sasl_log_read(&log, "RECV: <message>\nparse error [</message>");
    rg_sasl_log_read(&log, "SENT: <failure " SASL_NS "><not-authorized/></failure>");
    assert_memory_equal(&log, &untouched, sizeof(log));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sasl_log__explain__wrong_password),
        cmocka_unit_test(sasl_log__explain__servers_trouble_is_not_the_users),
        cmocka_unit_test(sasl_log__explain__last_failure_counts),
        cmocka_unit_test(sasl_log__explain__no_tcp),
        cmocka_unit_test(sasl_log__explain__tls),
        cmocka_unit_test(sasl_log__certificate__tells_why),
        cmocka_unit_test(sasl_log__stage__plain_where_tls_was_wanted),
        cmocka_unit_test(sasl_log__read__features_of_the_last_stream),
        cmocka_unit_test(sasl_log__read__marks),
        cmocka_unit_test(sasl_log__read__text_inside_stanzas_means_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/internal.h"
#include "gateway/base/mem.h"

static struct rg_config *build(const char *text, char *const *env)
{
    struct rg_config *config = NULL;
    struct rg_err err = RG_ERR_INIT;

    if (rg_config_build("f.toml", text, text != NULL ? strlen(text) : 0, env, &config, &err) !=
        RG_OK)
        fail_msg("%s", err.text);
    return config;
}

static void config__defaults__are_those_of_the_contract(void **state)
{
    struct rg_config *c = build(NULL, NULL);

    (void)state;
    assert_string_equal(c->server.listen, "127.0.0.1:8080");
    assert_string_equal(c->server.operations, "127.0.0.1:9090");
    assert_false(c->server.plain_http || c->server.demo || c->server.insecure_cookie);
    assert_int_equal(c->server.origins.n, 0);
    assert_int_equal(c->server.trusted_proxies.n, 3);
    assert_string_equal(c->server.trusted_proxies.v[2], "unix");
    assert_true(c->server.http_loops >= 1);
    assert_int_equal(c->server.event_loops, 16);
    assert_int_equal(c->xmpp.domains.n, 0);
    assert_int_equal(c->xmpp.workers, 1);
    assert_int_equal(c->xmpp.connect_timeout_ms, 10000);
    assert_int_equal(c->xmpp.idle_timeout_ms, 15 * 60000);
    assert_int_equal(c->xmpp.max_sessions, 20000);
    assert_string_equal(c->cache.url, "memory:");
    assert_true(c->cache.ttl_ms == INT64_C(30) * 24 * 3600000);
    assert_string_equal(c->session.keys_file, "");
    assert_int_equal(c->session.lifetime_ms, 12 * 3600000);
    assert_int_equal(c->session.max_age_ms, 7 * 24 * 3600000);
    assert_int_equal(c->limits.signin_failures, 10);
    assert_int_equal(c->limits.signins_in_flight, 32);
    assert_int_equal(c->limits.iqs_in_flight, 256);
    assert_int_equal(c->limits.connections_address, 400);
    assert_int_equal(c->limits.connections, 20000);
    assert_int_equal(c->limits.name_bytes, 1023);
    assert_int_equal(c->limits.group_bytes, 1023);
    assert_int_equal(c->limits.groups, 100);
    assert_int_equal(c->limits.items, 20000);
    assert_int_equal(c->limits.stanza_bytes, 64 << 20);
    assert_int_equal(c->limits.stream_queue_bytes, 256 << 10);
    assert_int_equal(c->limits.journal_bytes, 256 << 20);
    assert_int_equal(c->events.max_age_ms, 600000);
    assert_int_equal(c->events.heartbeat_ms, 12000);
    assert_string_equal(c->log.level, "info");
    rg_config_destroy(c);
    rg_config_destroy(NULL);
}

static void config__file__every_kind_of_value(void **state)
{
    struct rg_config *c = build("# a comment\r\n"
                                "[server] # the front\n"
                                "  listen = \"[::1]:80\"# close by\n"
                                "demo=true\n"
                                "event_loops = 2_5\n"
                                "origins = [ \"https://a.example\", # first\n"
                                "\n"
                                "   'https://b.example:8443',\n"
                                "]\n"
                                "[xmpp]\n"
                                "domains = []\n"
                                "iq_timeout = \"500ms\"\n"
                                "ca_file = \"/a \\\"b\\\" \\\\ \\u00e9\\U0001F600;#\"\n"
                                "[session]\n"
                                "keys_file = 'C:\\raw'\n"
                                "state_file = \"/var/lib/x\"",
                                NULL);

    (void)state;
    assert_string_equal(c->server.listen, "[::1]:80");
    assert_true(c->server.demo);
    assert_int_equal(c->server.event_loops, 25);
    assert_int_equal(c->server.origins.n, 2);
    assert_string_equal(c->server.origins.v[1], "https://b.example:8443");
    assert_int_equal(c->xmpp.iq_timeout_ms, 500);
    assert_string_equal(c->xmpp.ca_file, "/a \"b\" \\ \xC3\xA9\xF0\x9F\x98\x80;#");
    assert_string_equal(c->session.keys_file, "C:\\raw");
    assert_string_equal(c->session.state_file, "/var/lib/x");
    rg_config_destroy(c);
}

static void config__durations__table(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } rows[] = {{"15s", 15000},
                {"10m", 600000},
                {"12h", 43200000},
                {"7d", 604800000},
                {"500ms", 500},
                {"0s", 0},
                {"", -1},
                {"15", -1},
                {"s", -1},
                {"-5s", -1},
                {"+5s", -1},
                {"1.5s", -1},
                {"5 s", -1},
                {"05s", -1},
                {"5S", -1},
                {"5sec", -1},
                {"1h30m", -1},
                {"99999999999999999999s", -1},
                {"9223372036854775807d", -1}};
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        ms = -1;
        if (rg_config_duration(&ms, rows[i].text) != (rows[i].ms >= 0) || ms != rows[i].ms)
            fail_msg("%s: %lld", rows[i].text, (long long)ms);
    }
}

/* Each mistake is told with file, line and key. */
static void config__errors__name_file_line_and_key(void **state)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"[server]\nlisten = 5\n", "f.toml:2: server.listen: must be a quoted string"},
        {"[server]\n\n\ndemo = \"yes\"", "f.toml:4: server.demo: must be true or false"},
        {"[server]\norigins = \"x\"", "f.toml:2: server.origins: must be a list"},
        {"[server]\norigins = [1]", "f.toml:2: server.origins: a list holds strings only"},
        {"[server]\norigins = [\"a\"\n\"b\"]",
         "f.toml:3: server.origins: a list is not closed"},
        {"[server]\norigins = [\n\"a\",\n", "f.toml:4: server.origins: a list is not closed"},
        {"[server]\nevent_loops = 0",
         "f.toml:2: server.event_loops: must be between 1 and 256"},
        {"[server]\nevent_loops = 257", "f.toml:2: server.event_loops: must be between"},
        {"[server]\nevent_loops = 1.5", "f.toml:2: server.event_loops: neither"},
        {"[server]\nevent_loops = 007", "f.toml:2: server.event_loops: neither"},
        {"[server]\nevent_loops = 1__0", "f.toml:2: server.event_loops: neither"},
        {"[server]\nevent_loops = 99999999999999999999", "f.toml:2: server.event_loops"},
        {"[server]\nevent_loops = \"4\"", "f.toml:2: server.event_loops: must be an integer"},
        {"[server]\nevent_loops =", "f.toml:2: server.event_loops: a value was expected"},
        {"[server]\ndemo = True", "f.toml:2: server.demo: neither"},
        {"[xmpp]\niq_timeout = 10", "f.toml:2: xmpp.iq_timeout: must be a duration"},
        {"[xmpp]\niq_timeout = \"10\"", "f.toml:2: xmpp.iq_timeout: must be a duration"},
        {"[xmpp]\niq_timeout = \"1ms\"",
         "f.toml:2: xmpp.iq_timeout: must be between 100ms and"},
        {"[server]\nnope = 1", "f.toml:2: server.nope: no such key"},
        {"[nope]\n", "f.toml:1: nope: no such section"},
        {"[server]\ndemo = true\ndemo = false",
         "f.toml:3: server.demo: stands twice, first in line 2"},
        {"[server]\n[xmpp]\n[server]\n", "f.toml:3: server: the section stands twice"},
        {"demo = true\n", "f.toml:1: demo: a key stands before"},
        {"[server]\ndemo: true", "f.toml:2: server.demo: '=' was expected"},
        {"[server]\ndemo", "f.toml:2: server.demo: '=' was expected"},
        {"[server]\ndemo = true false", "f.toml:2: server.demo: unexpected text"},
        {"[server]\ndemo = true ; no", "f.toml:2: server.demo: unexpected text"},
        {"[server]\nlisten = \"a", "f.toml:2: server.listen: a string is not closed"},
        {"[server]\nlisten = \"a\nb\"", "f.toml:2: server.listen: a string is not closed"},
        {"[server]\nlisten = \"\\q\"", "f.toml:2: server.listen: a string holds an unknown"},
        {"[server]\nlisten = \"\\u0000\"",
         "f.toml:2: server.listen: a string holds an unknown"},
        {"[server]\nlisten = \"\\ud800\"",
         "f.toml:2: server.listen: a string holds an unknown"},
        {"[server]\nlisten = \"a\x01\"", "f.toml:2: server.listen: a string holds a control"},
        {"[server\n", "f.toml:1: server: the head of a section is not closed"},
        {"[]\n", "f.toml:1: a section was expected"},
        {"[server] x\n", "f.toml:1: server: unexpected text"},
        {"[server]\nDemo = true", "f.toml:2: server: a key or a [section] was expected"},
        {"; note\n", "f.toml:1: a key or a [section] was expected"},
        {"[server]\rdemo = true", "f.toml:1: server: unexpected text"},
        {"\xFF", "f.toml: not a text in UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_config *config = NULL;
        struct rg_err err = RG_ERR_INIT;

        if (rg_config_build("f.toml", rows[i].text, strlen(rows[i].text), NULL, &config,
                            &err) == RG_OK)
            fail_msg("row %zu was taken: %s", i, rows[i].text);
        if (strncmp(err.text, rows[i].want, strlen(rows[i].want)) != 0)
            fail_msg("row %zu: %s", i, err.text);
        assert_null(config);
    }
}

/* The rules between keys, told with the line of the key at fault. */
static void config__check__table(void **state)
{
    static const struct {
        const char *text, *want; /* NULL: fine */
    } rows[] = {
        {"[server]\nlisten = \"0.0.0.0:80\"", "f.toml:2: server.listen: neither loopback"},
        {"[server]\nlisten = \"[::]:80\"", "f.toml:2: server.listen: neither loopback"},
        {"[server]\nlisten = \"example.com:80\"", "f.toml:2: server.listen: neither loopback"},
        {"[server]\nlisten = \"0.0.0.0:80\"\nplain_http = true", NULL},
        {"[server]\nlisten = \"127.9.9.9:0\"", NULL},
        {"[server]\nlisten = \"localhost:80\"", NULL},
        {"[server]\nlisten = \"[::1]:80\"", NULL},
        {"[server]\nlisten = \"unix:/run/x.sock\"", NULL},
        {"[server]\nlisten = \"unix:x.sock\"", "f.toml:2: server.listen: unix: needs"},
        {"[server]\nlisten = \"unix:\"", "f.toml:2: server.listen: unix: needs"},
        {"[server]\nlisten = \"127.0.0.1\"", "f.toml:2: server.listen: must be"},
        {"[server]\nlisten = \":80\"", "f.toml:2: server.listen: must be"},
        {"[server]\nlisten = \"::1:80\"", "f.toml:2: server.listen: must be"},
        {"[server]\nlisten = \"[127.0.0.1]:80\"", "f.toml:2: server.listen: must be"},
        {"[server]\nlisten = \"127.0.0.1:65536\"", "f.toml:2: server.listen: must be"},
        {"[server]\nlisten = \"127.0.0.1:+80\"", "f.toml:2: server.listen: must be"},
        {"[server]\noperations = \"0.0.0.0:90\"", "f.toml:2: server.operations: neither"},
        {"[server]\norigins = [\"https://a.b\"]", NULL},
        {"[server]\norigins = [\"https://a.b/\"]", "f.toml:2: server.origins: an origin"},
        {"[server]\norigins = [\"https://A.b\"]", "f.toml:2: server.origins: an origin"},
        {"[server]\norigins = [\"*\"]", "f.toml:2: server.origins: an origin"},
        {"[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1/128\", \"unix\"]", NULL},
        {"[server]\ntrusted_proxies = [\"10.0.0.0/33\"]", "f.toml:2: server.trusted_proxies"},
        {"[server]\ntrusted_proxies = [\"proxy\"]", "f.toml:2: server.trusted_proxies"},
        {"[server]\ntrusted_proxies = [\"10.0.0.0/\"]", "f.toml:2: server.trusted_proxies"},
        {"[xmpp]\ndomains = [\"a.example=127.0.0.1:5222\", \"b.example\"]", NULL},
        {"[xmpp]\ndomains = [\"a_b\"]", "f.toml:2: xmpp.domains: the domain"},
        {"[xmpp]\ndomains = [\"a.b=x\"]", "f.toml:2: xmpp.domains: must be"},
        {"[xmpp]\ndomains = [\"a.b\",\n\"A.B.\"]", "f.toml:2: xmpp.domains: a.b stands twice"},
        {"[cache]\nurl = \"redis://:s3cret@h:1/0\"", NULL},
        {"[cache]\nurl = \"http://s3cret\"", "f.toml:2: cache.url: must be"},
        {"[log]\nlevel = \"loud\"", "f.toml:2: log.level: must be"},
        {"[session]\nlifetime = \"8d\"\nmax_age = \"1s\"", NULL},
        {"[session]\nkeys_file = \"/k\"", "f.toml: session.state_file: needed"},
        {"[session]\nkeys_file = \"/k\"\nstate_file = \"/s\"", NULL},
        {"[session]\nkeys_file = \"/k\"\n[cache]\nurl = \"unix:///r\"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_config *config = NULL;
        struct rg_err err = RG_ERR_INIT;
        enum rg_code code =
            rg_config_build("f.toml", rows[i].text, strlen(rows[i].text), NULL, &config, &err);

        if ((code == RG_OK) != (rows[i].want == NULL))
            fail_msg("row %zu: %s: %s", i, rows[i].text, err.text);
        if (code != RG_OK && strncmp(err.text, rows[i].want, strlen(rows[i].want)) != 0)
            fail_msg("row %zu: %s", i, err.text);
        assert_null(strstr(err.text, "s3cret"));
        rg_config_destroy(config);
    }
}

static void config__environment__overrides(void **state)
{
    char *const env[] = {"PATH=/bin",
                         "ROSTERGATE_SERVER_LISTEN=unix:/a b.sock",
                         "ROSTERGATE_SERVER_ORIGINS= https://a.example , https://b.example",
                         "ROSTERGATE_SERVER_TRUSTED_PROXIES=",
                         "ROSTERGATE_SERVER_DEMO=true",
                         "ROSTERGATE_LIMITS_STREAMS=77",
                         "ROSTERGATE_EVENTS_HEARTBEAT=9s",
                         "ROSTERGATE_PORT_8080_TCP=tcp://10.0.0.1",
                         "ROSTERGATE_SERVICE_HOST=10.0.0.1",
                         NULL};
    struct rg_config *c = build("[limits]\nstreams = 5\nitems = 6\n", env);

    (void)state;
    assert_string_equal(c->server.listen, "unix:/a b.sock");
    assert_int_equal(c->server.origins.n, 2);
    assert_string_equal(c->server.origins.v[0], "https://a.example");
    assert_string_equal(c->server.origins.v[1], "https://b.example");
    assert_int_equal(c->server.trusted_proxies.n, 0);
    assert_true(c->server.demo);
    assert_int_equal(c->limits.streams, 77);
    assert_int_equal(c->limits.items, 6);
    assert_int_equal(c->events.heartbeat_ms, 9000);
    rg_config_destroy(c);
}

static void config__environment__errors_name_the_variable(void **state)
{
    static const struct {
        const char *variable, *want;
    } rows[] = {
        {"ROSTERGATE_SERVER_LISTN=x", "environment: ROSTERGATE_SERVER_LISTN: no such key"},
        {"ROSTERGATE_SERVER_DEMO=yes", "environment: ROSTERGATE_SERVER_DEMO: neither true"},
        {"ROSTERGATE_LIMITS_STREAMS=0", "environment: ROSTERGATE_LIMITS_STREAMS: must be"},
        {"ROSTERGATE_LIMITS_STREAMS=x", "environment: ROSTERGATE_LIMITS_STREAMS: not an"},
        {"ROSTERGATE_XMPP_IQ_TIMEOUT=5", "environment: ROSTERGATE_XMPP_IQ_TIMEOUT: not a"},
        {"ROSTERGATE_XMPP_DOMAINS=a.b,,c.d", "environment: ROSTERGATE_XMPP_DOMAINS: the list"},
        {"ROSTERGATE_SERVER_LISTEN=0.0.0.0:1",
         "environment: ROSTERGATE_SERVER_LISTEN: neither"},
        {"ROSTERGATE_LOG_LEVEL=\xFF", "environment: ROSTERGATE_LOG_LEVEL: not a text"},
    };

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        char *const env[] = {(char *)rows[i].variable, NULL};
        struct rg_config *config = NULL;
        struct rg_err err = RG_ERR_INIT;

        assert_int_not_equal(rg_config_build("f.toml", "", 0, env, &config, &err), RG_OK);
        if (strncmp(err.text, rows[i].want, strlen(rows[i].want)) != 0)
            fail_msg("row %zu: %s", i, err.text);
    }
}

/* What is printed can be read again and says the same; the password is not in it. */
static void config__print__comes_back_without_secrets(void **state)
{
    struct rg_config *c = build("[server]\norigins = [\"https://a.b\"]\nhttp_loops = 3\n"
                                "[xmpp]\ndomains = [\"a.b\"]\nca_file = \"x\\n\\\"y\"\n"
                                "iq_timeout = \"1500ms\"\n"
                                "[cache]\nurl = \"redis://:p@ss/w@rd@host:1/0\"\n",
                                NULL);
    struct rg_buf text = RG_BUF_INIT, again_text = RG_BUF_INIT;
    struct rg_config *again;

    (void)state;
    rg_config_print(c, &text);
    assert_null(strstr(text.data, "p@ss"));
    assert_null(strstr(text.data, "w@rd"));
    assert_non_null(strstr(text.data, "url = \"redis://:***@host:1/0\""));
    assert_non_null(strstr(text.data, "iq_timeout = \"1500ms\""));
    assert_non_null(strstr(text.data, "idle_timeout = \"15m\""));
    again = build(text.data, NULL);
    rg_config_print(again, &again_text);
    assert_string_equal(text.data, again_text.data);
    rg_config_destroy(c);
    rg_config_destroy(again);
    rg_buf_fini(&text);
    rg_buf_fini(&again_text);
}

static void config__load__reads_a_file(void **state)
{
    char path[] = "/tmp/rg-config-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "[limits]\nstreams = 5\n";
    struct rg_config *config = NULL;
    struct rg_err err = RG_ERR_INIT;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    close(fd);
    assert_int_equal(rg_config_load(path, &config, &err), RG_OK);
    assert_int_equal(config->limits.streams, 5);
    rg_config_destroy(config);
    unlink(path);
    config = NULL;
    assert_int_not_equal(rg_config_load(path, &config, &err), RG_OK);
    assert_null(config);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(rg_config_load(NULL, &config, &err), RG_OK);
    rg_config_destroy(config);
}

static void config__domain__splits(void **state)
{
    struct rg_domain domain;

    (void)state;
    assert_int_equal(rg_config_domain("Example.COM.=127.0.0.1:5222", &domain, NULL), RG_OK);
    assert_string_equal(domain.domain, "example.com");
    assert_string_equal(domain.host, "127.0.0.1");
    assert_int_equal(domain.port, 5222);
    assert_int_equal(rg_config_domain("a.b=[::1]:5222", &domain, NULL), RG_OK);
    assert_string_equal(domain.host, "::1");
    assert_int_equal(rg_config_domain("a.b=xmpp_server:5222", &domain, NULL), RG_OK);
    assert_int_equal(rg_config_domain("a.b", &domain, NULL), RG_OK);
    assert_string_equal(domain.host, "");
    assert_int_equal(domain.port, 0);
    assert_false(domain.direct_tls);
    assert_int_equal(rg_config_domain("a.b=[::1]:5223+tls", &domain, NULL), RG_OK);
    assert_string_equal(domain.host, "::1");
    assert_int_equal(domain.port, 5223);
    assert_true(domain.direct_tls);
    assert_int_equal(rg_config_domain("a.b", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=+tls", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=host+tls", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=host:1+ssl", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=host", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=host:0", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=host:x", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("a.b=ho st:1", &domain, NULL), RG_OK);
    assert_int_not_equal(rg_config_domain("=host:1", &domain, NULL), RG_OK);
    assert_string_equal(domain.domain, "a.b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config__defaults__are_those_of_the_contract),
        cmocka_unit_test(config__file__every_kind_of_value),
        cmocka_unit_test(config__durations__table),
        cmocka_unit_test(config__errors__name_file_line_and_key),
        cmocka_unit_test(config__check__table),
        cmocka_unit_test(config__environment__overrides),
        cmocka_unit_test(config__environment__errors_name_the_variable),
        cmocka_unit_test(config__print__comes_back_without_secrets),
        cmocka_unit_test(config__load__reads_a_file),
        cmocka_unit_test(config__domain__splits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

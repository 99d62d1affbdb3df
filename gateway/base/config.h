/* The configuration, read once at start (API section 8): a strict subset of TOML in a file,
 * then the environment over it. Owner: main. Immutable afterwards, so any thread may read it.
 */
#ifndef GATEWAY_BASE_CONFIG_H
#define GATEWAY_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/base/err.h"

struct rg_strings {
    char **v;
    size_t n;
};

struct rg_config {
    struct {
        char *listen; /* "host:port", "[v6]:port" or "unix:/path" */
        char *operations;
        bool plain_http;
        bool demo;
        bool insecure_cookie;
        struct rg_strings origins;
        struct rg_strings trusted_proxies;
        int64_t http_loops; /* never 0 after loading: the number of cores stands in */
        int64_t event_loops;
    } server;
    struct {
        struct rg_strings domains;
        int64_t workers;
        bool plaintext_loopback;
        char *ca_file; /* "": the system's roots */
        struct rg_strings dns_servers;
        int64_t connect_timeout_ms;
        int64_t iq_timeout_ms;
        int64_t idle_timeout_ms;
        int64_t max_sessions;
    } xmpp;
    struct {
        char *url;
        int64_t ttl_ms;
    } cache;
    struct {
        char *keys_file;
        char *state_file;
        int64_t lifetime_ms;
        int64_t max_age_ms;
    } session;
    struct {
        int64_t signin_failures;
        int64_t signin_failures_address;
        int64_t signins_in_flight; /* per domain */
        int64_t iqs_in_flight;     /* per domain */
        int64_t streams_user;
        int64_t streams_address;
        int64_t streams;
        int64_t connections_address;
        int64_t connections;
        int64_t writes_user; /* a second */
        int64_t items;
        int64_t name_bytes;
        int64_t group_bytes;
        int64_t groups;
        int64_t stanza_bytes; /* live memory of one XMPP session in a worker */
        int64_t stream_queue_bytes;
        int64_t journal_bytes; /* of all accounts */
    } limits;
    struct {
        int64_t max_age_ms;
        int64_t heartbeat_ms;
    } events;
    struct {
        char *level;
    } log;
};

/* Reads `path` (NULL: defaults only) and the environment. On success *out is (own). On failure
 * err names file, line and key. Adding a key: one row in config.c's table and a member here. */
enum rg_code rg_config_load(const char *path, struct rg_config **out, struct rg_err *err);
void rg_config_destroy(struct rg_config *config);
/* Appends every key with its value and a comment; secrets (the password in cache.url) are
 * hidden. */
void rg_config_print(const struct rg_config *config, struct rg_buf *buf);

/* One entry of xmpp.domains, "domain[=host:port[+tls]]". */
struct rg_domain {
    char domain[256]; /* prepared */
    char host[256];   /* "": look up by SRV */
    uint16_t port;    /* 0 with an empty host */
    bool direct_tls;  /* "+tls" */
};
enum rg_code rg_config_domain(const char *text, struct rg_domain *out, struct rg_err *err);

#endif

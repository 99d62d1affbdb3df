/* Paths and query strings, header lines and lists: no input may do more than be refused. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "http/address.h"
#include "http/auth.h"
#include "http/etag.h"
#include "http/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const PARAMS[] = {"since", "limit", NULL};

static void try_path(const char *text)
{
    struct rg_path path;
    struct rg_segment wild = {NULL, 0};
    struct rg_err err = RG_ERR_INIT;
    if (rg_path_split(&path, text, &err) != RG_OK)
        return;
    if (rg_path_match(&path, "/v1/roster/items/{jid}", &wild) && wild.len == 0)
        abort();
    for (size_t i = 0; i < path.n; i++) {
        if (memchr(path.segments[i].text, '/', path.segments[i].len) != NULL)
            abort();
    }
}

static void try_query(const char *text, size_t len)
{
    struct rg_query query = {.n = 0};
    struct rg_err err = RG_ERR_INIT;
    int64_t number = 5;
    (void)rg_query_add(&query, PARAMS, "since", 5, text, len, &err);
    (void)rg_query_add(&query, PARAMS, text, len, "1", 1, &err);
    (void)rg_query_int(&query, "limit", 1, 1000, &number, &err);
    if (number < 1 || number > 1000)
        abort();
    rg_query_fini(&query);
}

static void try_headers(const char *text)
{
    static const char *const names[] = {"Host",         "Cookie",          "Authorization",
                                        "If-Match",     "Accept-Encoding", "X-Forwarded-For",
                                        "Cache-Control"};
    struct rg_headers headers = {.n = 0};
    for (size_t i = 0; i < RG_ARRAY_LEN(names); i++)
        rg_headers_add(&headers, names[i], strlen(names[i]), text, strlen(text));
    (void)rg_headers_check(&headers, true);
    struct rg_auth auth;
    struct rg_err err = RG_ERR_INIT;
    if (rg_auth_find(&headers, false, &auth, &err) == RG_OK && auth.source == RG_AUTH_HEADER &&
        (auth.token < text || auth.token + auth.len > text + strlen(text)))
        abort();
    struct rg_etags etags;
    rg_etags_read(&headers, RG_HEADER_IF_MATCH, &etags);
    (void)rg_accepts_gzip(&headers);
    (void)rg_wants_fresh(&headers);
    char *trusted = "unix";
    struct rg_strings texts = {&trusted, 1};
    struct rg_trust *trust = NULL;
    if (rg_trust_parse(&texts, &trust, &err) == RG_OK) {
        struct rg_address peer = {.family = RG_FAMILY_UNIX}, client;
        char key[RG_ADDRESS_KEY_SIZE];
        rg_address_client(&client, trust, &peer, &headers);
        if (rg_address_key(&client, true, key) >= sizeof(key))
            abort();
        rg_trust_destroy(trust);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 8192)
        return 0;
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    try_path(text);
    try_query(text, size);
    try_headers(text);
    free(text);
    return 0;
}

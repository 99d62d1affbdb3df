/* Files built into the program: /rostergate.js, the OpenAPI document and, under server.demo,
 * the page. And the meaning of each problem code. */
#include "http/assets.h"

#include <string.h>

#include "http/internal.h"

/* No script, style or connection but our own; nothing may frame the page; what a roster holds
 * is shown as text (threat T6). */
static const char POLICY[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
                             "'self'; connect-src 'self'; "
                             "form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

static const char *type_of(const char *name)
{
    static const struct {
        const char *ending, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".json", "application/json"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/vnd.microsoft.icon"},
        {".map", "application/json"},
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < RG_ARRAY_LEN(types); i++) {
        if (strcmp(dot, types[i].ending) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

static const struct rg_asset *find(const char *name, size_t len)
{
    for (size_t i = 0; i < rg_assets_n; i++) {
        if (strlen(rg_assets[i].name) == len && memcmp(rg_assets[i].name, name, len) == 0)
            return &rg_assets[i];
    }
    return NULL;
}

static const struct rg_asset *wanted(const struct rg_request *req)
{
    const char *name = "index.html";
    size_t len = strlen(name);
    if (req->path.n == 1) {
        name = req->path.segments[0].text;
        len = req->path.segments[0].len;
    } else if (req->path.n > 1) {
        name = "openapi.json";
        len = strlen(name);
    }
    const struct rg_asset *asset = find(name, len);
    bool always = req->path.n > 1 || (len == 13 && memcmp(name, "rostergate.js", 13) == 0);
    /* One document, one address. */
    if (req->path.n == 1 && asset != NULL &&
        (strcmp(asset->name, "index.html") == 0 || strcmp(asset->name, "openapi.json") == 0))
        return NULL;
    return always || req->http->config->server.demo ? asset : NULL;
}

static bool unchanged(const struct rg_request *req, const char *etag)
{
    const struct rg_header_line *line;
    size_t i = 0;
    while ((line = rg_headers_next(&req->headers, RG_HEADER_IF_NONE_MATCH, &i)) != NULL) {
        const char *at = line->value, *text;
        size_t len;
        while (rg_list_next(&at, &text, &len)) {
            if (len > 2 && text[0] == 'W' && text[1] == '/') {
                text += 2;
                len -= 2;
            }
            if ((len == 1 && *text == '*') ||
                (len == strlen(etag) && memcmp(text, etag, len) == 0))
                return true;
        }
    }
    return false;
}

bool rg_asset_is_there(const struct rg_request *req)
{
    return wanted(req) != NULL;
}

void rg_asset_get(struct rg_request *req)
{
    const struct rg_asset *asset = wanted(req);
    if (asset == NULL) { /* not reached: find_call() has looked */
        rg_request_fail(req, RG_E_NOT_FOUND, "there is nothing at this path");
        return;
    }
    bool same = unchanged(req, asset->etag);
    struct MHD_Response *response =
        same ? rg_response_empty()
             : MHD_create_response_from_buffer(asset->len, (void *)(uintptr_t)asset->data,
                                               MHD_RESPMEM_PERSISTENT);
    rg_response_header(response, "ETag", asset->etag);
    if (!same) {
        rg_response_header(response, "Content-Type", type_of(asset->name));
        rg_response_header(response, "Content-Security-Policy", POLICY);
        rg_response_header(response, "Referrer-Policy", "no-referrer");
        rg_response_header(response, "X-Frame-Options", "DENY");
        rg_response_header(response, "Cross-Origin-Opener-Policy", "same-origin");
    }
    rg_request_send_take(req, same ? 304 : 200, response, RG_VARY_PLAIN, "no-cache");
}

void rg_problem_get(struct rg_request *req)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    if (rg_reply_explain(&body, req->wild.text, req->wild.len))
        rg_request_json(req, 200, &body, NULL, NULL, NULL);
    else
        rg_request_fail(req, RG_E_NOT_FOUND, "there is no such problem code");
}

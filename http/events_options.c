#include "http/events_options.h"

#include <string.h>

#include "gateway/core/core.h"

enum { PING_MIN_S = 5, PING_MAX_S = 300 };

static enum rg_code read_types(const char *text, unsigned *out, struct rg_err *err)
{
    unsigned mask = 0;
    if (text == NULL) {
        *out = RG_EVENT_ALL;
        return RG_OK;
    }
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        unsigned type = rg_event_type_parse(at, len);
        if (type == 0)
            return rg_fail(err, RG_E_INVALID_QUERY,
                           "types: a name is none of the stream's events");
        mask |= type;
        at += len;
        if (*at == '\0')
            break;
    }
    *out = mask;
    return RG_OK;
}

enum rg_code rg_events_options(const struct rg_query *query, const struct rg_headers *headers,
                               struct rg_stream_options *out, int64_t *out_ping_s,
                               struct rg_err *err)
{
    struct rg_stream_options options = {.resume = false};
    int64_t ping_s = 0;
    enum rg_code code = read_types(rg_query_get(query, "types"), &options.types, err);
    if (code == RG_OK)
        code = rg_query_int(query, "ping", PING_MIN_S, PING_MAX_S, &ping_s, err);
    if (code != RG_OK)
        return code;
    const char *since = rg_query_get(query, "since");
    const char *last = rg_headers_get(headers, RG_HEADER_LAST_EVENT_ID);
    if (last != NULL && last[0] != '\0')
        since = last;
    else
        options.now = since != NULL && strcmp(since, "now") == 0;
    if (since != NULL) {
        options.resume = true;
        options.known = !options.now && rg_version_parse(&options.from, since, strlen(since));
    }
    *out = options;
    *out_ping_s = ping_s;
    return RG_OK;
}

/* What a caller of GET /v1/events asks for (API section 5). Pure function. Thread: any. */
#ifndef HTTP_EVENTS_OPTIONS_H
#define HTTP_EVENTS_OPTIONS_H

#include <stdint.h>

#include "gateway/core/stream.h"
#include "http/guard.h"
#include "http/path.h"

/* Reads since=, types=, ping= and Last-Event-ID, which wins over since=. A version that is none
 * of ours is no error: the stream then starts with the whole roster. *out_ping_s: 0 for none.
 */
enum rg_code rg_events_options(const struct rg_query *query, const struct rg_headers *headers,
                               struct rg_stream_options *out, int64_t *out_ping_s,
                               struct rg_err *err);

#endif

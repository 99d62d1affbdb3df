/* One client's event stream: a bounded queue of shared, ready-made Server-Sent Events between
 * the core (fills it) and one event loop (sends it). API section 5.
 *
 * Overflow is final: what is queued is thrown away and one `roster` event stands in its place,
 * the newest; nothing before it is ever sent after it. Roster events count as one reference. */
#ifndef GATEWAY_CORE_STREAM_H
#define GATEWAY_CORE_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/loop.h"
#include "gateway/base/version.h"
#include "gateway/core/token.h"

/* The event names of API section 5, as bits of a mask. */
enum rg_event_type {
    RG_EVENT_ROSTER = 1 << 0,
    RG_EVENT_ROSTER_SET = 1 << 1,
    RG_EVENT_ROSTER_REMOVE = 1 << 2,
    RG_EVENT_SUBSCRIPTIONS = 1 << 3,
    RG_EVENT_SUBSCRIPTION = 1 << 4,
    RG_EVENT_PRESENCE_RESET = 1 << 5,
    RG_EVENT_PRESENCE = 1 << 6,
    RG_EVENT_SYNC = 1 << 7,
    RG_EVENT_SESSION = 1 << 8,
    RG_EVENT_PING = 1 << 9,
    RG_EVENT_BYE = 1 << 10,
    RG_EVENT_COMMENT = 1 << 11,
    RG_EVENT_ALWAYS =
        RG_EVENT_ROSTER | RG_EVENT_SYNC | RG_EVENT_SESSION | RG_EVENT_BYE | RG_EVENT_COMMENT,
    RG_EVENT_ALL = (1 << 12) - 1
};
/* The type named by text (len bytes), 0 if there is none. Comments have no name. */
unsigned rg_event_type_parse(const char *text, size_t len);

enum rg_bye {
    RG_BYE_DRAIN,
    RG_BYE_ROTATE,
    RG_BYE_EXPIRED,
    RG_BYE_SIGNED_OUT,
    RG_BYE_CREDENTIALS,
    RG_BYE_SLOW,
    RG_BYE_COUNT
};
const char *rg_bye_name(enum rg_bye reason);

/* One encoded event, shared by all streams that get it; immutable. */
struct rg_event {
    atomic_uint refs;
    enum rg_event_type type;
    size_t len;
    char data[]; /* "id: …\nevent: …\ndata: …\n\n" */
};
struct rg_event *rg_event_ref(struct rg_event *event);
void rg_event_unref(struct rg_event *event); /* accepts NULL */
/* ": hb\n\n" and the like. (own), NULL when out of memory. Thread: any. */
struct rg_event *rg_event_comment(const char *text);
struct rg_event *rg_event_ping(unsigned interval_s);

struct rg_stream_options {
    bool resume; /* `since` or Last-Event-ID was given */
    bool now;    /* since=now */
    bool known;  /* resume names a well-formed version: `from` */
    struct rg_version from;
    unsigned types; /* mask; RG_EVENT_ALWAYS is added */
};

struct rg_stream;
/* Called once when a parked stream has something to take; from any thread, outside locks. It
 * must only post. */
typedef void (*rg_stream_wake_fn)(void *arg);

/* (own) one reference; (borrow) claims, copied as far as needed. max_bytes bounds the queue.
 * Thread: any. */
struct rg_stream *rg_stream_create(const struct rg_claims *claims,
                                   const struct rg_stream_options *options, size_t max_bytes,
                                   rg_stream_wake_fn wake, void *arg);
struct rg_stream *rg_stream_ref(struct rg_stream *stream);
void rg_stream_unref(struct rg_stream *stream); /* accepts NULL */

enum rg_take { RG_TAKE_DATA, RG_TAKE_PARKED, RG_TAKE_END };
/* Copies up to max bytes of what is queued. RG_TAKE_DATA: *out_len > 0. RG_TAKE_PARKED: nothing
 * to send; the next push calls wake. RG_TAKE_END: all is sent and bye was said. Thread: the
 * event loop. */
enum rg_take rg_stream_take(struct rg_stream *stream, char *out, size_t max, size_t *out_len);
/* Bytes waiting: a reader that makes no progress while this is not 0 is slow. Thread: any. */
size_t rg_stream_queued(struct rg_stream *stream);
/* No wake after this returns: the reader is gone. Thread: the event loop. */
void rg_stream_forget_reader(struct rg_stream *stream);

/* (ref) event; left out if the stream does not want its type, or after bye. Out of room: the
 * queue collapses as described above. Thread: any. */
void rg_stream_push(struct rg_stream *stream, struct rg_event *event);
/* Queues `bye`, after which the stream ends. The first reason stays. Thread: any. */
void rg_stream_bye(struct rg_stream *stream, enum rg_bye reason);
/* RG_BYE_COUNT while nobody said bye. Thread: any. */
enum rg_bye rg_stream_reason(struct rg_stream *stream);

#endif

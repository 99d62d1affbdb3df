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
#include "gateway/core/event.h"
#include "gateway/core/token.h"

struct rg_stream_options {
    bool resume; /* `since` or Last-Event-ID was given */
    bool now;    /* since=now */
    bool known;  /* resume names a well-formed version: `from` */
    struct rg_version from;
    unsigned types; /* mask; RG_EVENT_ALWAYS is added */
};

struct rg_stream;
/* Called once when a parked stream has something to take; from any thread, under the stream's
 * lock. It must only post. */
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

/* (ref) event; left out if the stream does not want its type, or after bye. False: out of room,
 * nothing was queued. Thread: any. */
bool rg_stream_push(struct rg_stream *stream, struct rg_event *event);
/* What follows a push that found no room: throws away everything queued but an event already
 * begun. Returns the mask of the types that are lost. Thread: core. */
unsigned rg_stream_empty(struct rg_stream *stream);
/* Like push, whatever room there is: for the few events that make up for what was lost, and
 * those that every stream begins with. NULL or out of memory ends the stream (`slow`), so that
 * no gap is silent. Thread: core. */
void rg_stream_force(struct rg_stream *stream, struct rg_event *event);
/* Queues `bye`, after which the stream ends. The first reason stays. Thread: any. */
void rg_stream_bye(struct rg_stream *stream, enum rg_bye reason);
/* RG_BYE_COUNT while nobody said bye. Thread: any. */
enum rg_bye rg_stream_reason(struct rg_stream *stream);

#endif

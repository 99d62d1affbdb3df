#include "gateway/core/stream.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/internal.h"

enum {
    RING_MIN = 8,
    SHARED_COST = 64 /* it counts as one reference */
};

static size_t cost(const struct rg_event *event)
{
    return event->shared ? SHARED_COST : event->len;
}

struct rg_stream *rg_stream_create(const struct rg_claims *claims,
                                   const struct rg_stream_options *options, size_t max_bytes,
                                   rg_stream_wake_fn wake, void *arg)
{
    struct rg_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL)
        return NULL;
    atomic_init(&stream->refs, 1);
    pthread_mutex_init(&stream->mutex, NULL);
    stream->wake = wake;
    stream->wake_arg = arg;
    stream->max_bytes = max_bytes;
    stream->reason = RG_BYE_COUNT;
    stream->options = *options;
    stream->options.types |= RG_EVENT_ALWAYS;
    memcpy(stream->sign_in, claims->sign_in, RG_ID_BYTES);
    memcpy(stream->password_tag, claims->password_tag, RG_ID_BYTES);
    stream->listen = claims->presence == RG_TOKEN_LISTEN;
    return stream;
}

struct rg_stream *rg_stream_ref(struct rg_stream *stream)
{
    atomic_fetch_add_explicit(&stream->refs, 1, memory_order_relaxed);
    return stream;
}

/* The i-th queued event. */
static struct rg_event **slot(struct rg_stream *stream, size_t i)
{
    return &stream->ring[(stream->head + i) & (stream->cap - 1)];
}

void rg_stream_unref(struct rg_stream *stream)
{
    if (stream == NULL ||
        atomic_fetch_sub_explicit(&stream->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < stream->n; i++)
        rg_event_unref(*slot(stream, i));
    free(stream->ring);
    pthread_mutex_destroy(&stream->mutex);
    free(stream);
}

static bool grow_locked(struct rg_stream *stream)
{
    unsigned cap = stream->cap == 0 ? RING_MIN : stream->cap * 2;
    struct rg_event **ring = malloc(cap * sizeof(struct rg_event *));
    if (ring == NULL)
        return false;
    for (size_t i = 0; i < stream->n; i++)
        ring[i] = *slot(stream, i);
    free(stream->ring);
    stream->ring = ring;
    stream->cap = cap;
    stream->head = 0;
    return true;
}

static bool append_locked(struct rg_stream *stream, struct rg_event *event)
{
    if (stream->n == stream->cap && !grow_locked(stream))
        return false;
    *slot(stream, stream->n++) = rg_event_ref(event);
    stream->cost += cost(event);
    stream->bytes += event->len;
    return true;
}

/* Wakes a parked reader, under the lock: so forget_reader can promise that no wake follows it.
 */
static void unpark_locked(struct rg_stream *stream)
{
    if (stream->parked && stream->wake != NULL)
        stream->wake(stream->wake_arg);
    stream->parked = false;
}

bool rg_stream_push(struct rg_stream *stream, struct rg_event *event)
{
    if (event == NULL)
        return false;
    bool fits = true;
    pthread_mutex_lock(&stream->mutex);
    if (stream->reason == RG_BYE_COUNT && (stream->options.types & event->type) != 0) {
        fits = stream->cost + cost(event) <= stream->max_bytes && append_locked(stream, event);
        if (fits)
            unpark_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
    return fits;
}

unsigned rg_stream_empty(struct rg_stream *stream)
{
    unsigned lost = 0;
    pthread_mutex_lock(&stream->mutex);
    size_t keep = stream->offset > 0 ? 1 : 0;
    while (stream->reason == RG_BYE_COUNT && stream->n > keep) {
        struct rg_event *event = *slot(stream, --stream->n);
        lost |= event->type;
        stream->cost -= cost(event);
        stream->bytes -= event->len;
        rg_event_unref(event);
    }
    pthread_mutex_unlock(&stream->mutex);
    return lost;
}

void rg_stream_force(struct rg_stream *stream, struct rg_event *event)
{
    if (event == NULL) {
        rg_stream_bye(stream, RG_BYE_SLOW);
        return;
    }
    pthread_mutex_lock(&stream->mutex);
    if (stream->reason == RG_BYE_COUNT && (stream->options.types & event->type) != 0) {
        if (!append_locked(stream, event))
            stream->reason = RG_BYE_SLOW; /* out of memory: end it, the client resumes */
        unpark_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
}

void rg_stream_bye(struct rg_stream *stream, enum rg_bye reason)
{
    struct rg_event *event = rg_event_bye(reason);
    pthread_mutex_lock(&stream->mutex);
    if (stream->reason == RG_BYE_COUNT) {
        /* Without memory for the event the stream still ends. */
        if (event != NULL)
            (void)append_locked(stream, event);
        stream->reason = reason;
        unpark_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
    rg_event_unref(event);
}

enum rg_bye rg_stream_reason(struct rg_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    enum rg_bye reason = stream->reason;
    pthread_mutex_unlock(&stream->mutex);
    return reason;
}

/* An idle stream keeps no ring: ten thousand of them are mostly idle. */
static void drop_ring_locked(struct rg_stream *stream)
{
    free(stream->ring);
    stream->ring = NULL;
    stream->cap = 0;
    stream->head = 0;
}

enum rg_take rg_stream_take(struct rg_stream *stream, char *out, size_t max, size_t *out_len)
{
    size_t filled = 0;
    pthread_mutex_lock(&stream->mutex);
    while (stream->n > 0 && filled < max) {
        struct rg_event *event = *slot(stream, 0);
        size_t part = event->len - stream->offset;
        part = part < max - filled ? part : max - filled;
        memcpy(out + filled, event->data + stream->offset, part);
        filled += part;
        stream->offset += part;
        if (stream->offset < event->len)
            break;
        stream->offset = 0;
        stream->cost -= cost(event);
        stream->bytes -= event->len;
        stream->head = (stream->head + 1) & (stream->cap - 1);
        stream->n--;
        rg_event_unref(event);
    }
    enum rg_take result = RG_TAKE_DATA;
    if (filled == 0 && stream->n == 0) {
        drop_ring_locked(stream);
        result = stream->reason != RG_BYE_COUNT ? RG_TAKE_END : RG_TAKE_PARKED;
        stream->parked = result == RG_TAKE_PARKED;
    }
    pthread_mutex_unlock(&stream->mutex);
    *out_len = filled;
    return result;
}

size_t rg_stream_queued(struct rg_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    size_t queued = stream->bytes - stream->offset;
    pthread_mutex_unlock(&stream->mutex);
    return queued;
}

void rg_stream_forget_reader(struct rg_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    stream->wake = NULL;
    stream->parked = false;
    pthread_mutex_unlock(&stream->mutex);
}

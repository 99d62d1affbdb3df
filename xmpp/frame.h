/* The language of the link between the front and a worker process: frames of at most 128 KiB.
 *
 *   length u32 | type u32 | session u32 | generation u32 | body        (little-endian)
 *
 * `length` counts the whole frame. `session` is a place in the front's table, `generation` one
 * attempt to sign in there: a frame of an older generation is late and dropped. Both sides
 * treat what they read as hostile: every length, count and string is checked, and a reader that
 * met one bad value stays bad. Strings are valid UTF-8 without NUL and carry a NUL behind them,
 * so that they can be used in place. Thread: any; one at a time. */
#ifndef XMPP_FRAME_H
#define XMPP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "gateway/base/mem.h"

/* The largest item of the API, 100 groups and a name of 1,023 bytes each, fits. */
enum { RG_FRAME_MAX = 128 * 1024, RG_FRAME_HEAD = 16 };

/* Bodies, in the order of writing. `str?` is a string that may be missing. */
enum rg_frame_type {
    /* front -> worker */
    RG_FRAME_CONFIG = 1,  /* domain str, plaintext u8, stanza_bytes u64, items u64,
                             iq_timeout_ms u64, log level u8 */
    RG_FRAME_OPEN,        /* mode u8, user str, user in logs str, password str, address str,
                             port u32, direct TLS u8 */
    RG_FRAME_CLOSE,       /* empty: end the stream properly */
    RG_FRAME_ABORT,       /* empty: drop it at once */
    RG_FRAME_ROSTER_GET,  /* request u32, ver str? */
    RG_FRAME_ITEM_SET,    /* request u32, jid str, name str?, groups (u32, str...) */
    RG_FRAME_ITEM_REMOVE, /* request u32, jid str */
    RG_FRAME_ANNOUNCE,    /* available u8 */
    RG_FRAME_SHUTDOWN,    /* empty: close every stream, then exit */

    /* worker -> front */
    RG_FRAME_READY,     /* how many sessions its descriptors allow u32 */
    RG_FRAME_BEAT,      /* counters (u32, u64...) in the order of enum rg_count */
    RG_FRAME_SOCKET,    /* empty; a copy of the session's socket comes with its first byte */
    RG_FRAME_HANDSHAKE, /* begins u8: the worker is about to block in TLS, or is back */
    RG_FRAME_BOUND,     /* roster versioning u8, pre-approval u8 */
    RG_FRAME_CLOSED,    /* code u32, stage u8, text str */
    RG_FRAME_PUSH,      /* ver str?, removed u8, then jid str or an item */
    RG_FRAME_DOUBT,     /* empty: a push of the own server was refused */
    RG_FRAME_PRESENCE,  /* type u8, jid str, resource str?, show str?, status str?, nick str?,
                           priority + 128 u8, condition u32, error type u32, text str */
    RG_FRAME_DONE,      /* request u32, code u32, condition u32, type u32, xmpp text str,
                           text str */
    RG_FRAME_ROSTER_BEGIN, /* request u32, ver str? */
    RG_FRAME_ROSTER_ITEMS, /* items until the frame ends: jid str, name str?, subscription u8,
                              ask u8, approved u8, groups (u32, str...) */
    RG_FRAME_ROSTER_END,   /* request u32, unchanged u8 */
    RG_FRAME_TYPE_END
};

/* How far a sign-in got when its stream ended: what decides if the next address is tried. */
enum rg_stage {
    RG_STAGE_CONNECT, /* no TCP connection */
    RG_STAGE_STREAM,  /* connected, nothing secured or authenticated */
    RG_STAGE_TLS,     /* the TLS handshake failed */
    RG_STAGE_AUTH,    /* secured (or meant to be plain): authentication and binding */
    RG_STAGE_BOUND,
    RG_STAGE_COUNT
};

/* What a worker counts; shipped with each beat. */
enum rg_count {
    RG_COUNT_SESSIONS, /* gauge */
    RG_COUNT_FD_FREE,  /* gauge */
    RG_COUNT_PUSHES,
    RG_COUNT_PUSH_SENDER,     /* pushes of somebody else, ignored */
    RG_COUNT_PUSH_ITEMS,      /* pushes with none or several items, or a bad one */
    RG_COUNT_RESULT_STRANGER, /* answers nobody waits for, or from the wrong sender */
    RG_COUNT_ITEMS_SKIPPED,   /* items without (valid) jid, or too large to show */
    RG_COUNT_FOREIGN_IQ,      /* other requests, answered service-unavailable */
    RG_COUNT_STANZA_BYTES,    /* sessions ended by limits.stanza_bytes */
    RG_COUNT_PARSE_ERROR,     /* sessions ended because their XML does not parse */
    RG_COUNT_IQ_TIMEOUT,      /* sessions ended because an IQ had no answer */
    RG_COUNT_END
};

/* A frame being written, then waiting to be sent. */
struct rg_frame_out {
    STAILQ_ENTRY(rg_frame_out) link;
    int fd;      /* own; sent along with the first byte; -1: none */
    bool secret; /* wiped when released */
    bool failed; /* out of memory or beyond RG_FRAME_MAX */
    size_t len, cap, sent;
    uint8_t *data; /* own */
};
STAILQ_HEAD(rg_frame_queue, rg_frame_out);

/* (own); NULL when out of memory. `secret`: every buffer it ever had is wiped. */
struct rg_frame_out *rg_frame_new(enum rg_frame_type type, uint32_t session,
                                  uint32_t generation, bool secret);
void rg_frame_free(struct rg_frame_out *frame); /* closes fd; accepts NULL */
RG_DEFINE_CLEANUP(struct rg_frame_out, rg_frame_free)

/* Appending to a failed (or NULL) frame does nothing: ask once, at the end. */
void rg_put_u8(struct rg_frame_out *frame, uint8_t value);
void rg_put_u32(struct rg_frame_out *frame, uint32_t value);
void rg_put_u64(struct rg_frame_out *frame, uint64_t value);
void rg_put_text(struct rg_frame_out *frame, const char *text, size_t len);
void rg_put_str(struct rg_frame_out *frame, const char *text); /* NULL: missing */
/* Takes back what was appended since len was `mark`, and the failure with it. */
void rg_frame_rewind(struct rg_frame_out *frame, size_t mark);
/* Writes the length into the head. False: the frame failed. */
bool rg_frame_seal(struct rg_frame_out *frame);

/* A frame that was read; body (borrow) until the link is read again. */
struct rg_frame {
    enum rg_frame_type type;
    uint32_t session;
    uint32_t generation;
    const uint8_t *body;
    size_t len;
};

enum rg_frame_parse { RG_FRAME_WHOLE, RG_FRAME_PART, RG_FRAME_BAD };
/* Looks at the first `len` bytes of a stream. WHOLE: *out is set and *out_used bytes belong to
 * it. BAD: no frame begins like this. */
enum rg_frame_parse rg_frame_parse(const uint8_t *data, size_t len, struct rg_frame *out,
                                   size_t *out_used);

struct rg_reader {
    const uint8_t *at, *end;
    bool bad;
};
struct rg_reader rg_reader_of(const struct rg_frame *frame);
uint8_t rg_get_u8(struct rg_reader *reader);
bool rg_get_bool(struct rg_reader *reader); /* anything but 0 and 1 is bad */
uint32_t rg_get_u32(struct rg_reader *reader);
uint64_t rg_get_u64(struct rg_reader *reader);
/* (borrow) from the frame, NUL-terminated; never NULL, "" once the reader is bad. */
const char *rg_get_str(struct rg_reader *reader, size_t *out_len);
/* NULL if missing (or bad). */
const char *rg_get_opt_str(struct rg_reader *reader, size_t *out_len);
/* True if everything was read and nothing was bad. */
bool rg_reader_done(const struct rg_reader *reader);

#endif

#include "xmpp/frame.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/secret.h"
#include "gateway/base/text.h"

enum { FIRST_ROOM = 256 };
static const uint32_t MISSING = UINT32_MAX;

static void store_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t load_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
           (uint32_t)at[3] << 24;
}

struct rg_frame_out *rg_frame_new(enum rg_frame_type type, uint32_t session,
                                  uint32_t generation, bool secret)
{
    struct rg_frame_out *frame = calloc(1, sizeof(*frame));
    if (frame == NULL)
        return NULL;
    frame->data = malloc(FIRST_ROOM);
    if (frame->data == NULL) {
        free(frame);
        return NULL;
    }
    frame->fd = -1;
    frame->secret = secret;
    frame->cap = FIRST_ROOM;
    frame->len = RG_FRAME_HEAD;
    store_u32(frame->data, 0);
    store_u32(frame->data + 4, (uint32_t)type);
    store_u32(frame->data + 8, session);
    store_u32(frame->data + 12, generation);
    return frame;
}

void rg_frame_free(struct rg_frame_out *frame)
{
    if (frame == NULL)
        return;
    if (frame->fd >= 0)
        close(frame->fd);
    if (frame->secret)
        rg_wipe(frame->data, frame->cap);
    free(frame->data);
    free(frame);
}

/* Room for `more` bytes, or a failed frame. Never realloc: it would leave a copy of a secret
 * behind. */
static bool reserve(struct rg_frame_out *frame, size_t more)
{
    if (frame == NULL || frame->failed)
        return false;
    if (more > RG_FRAME_MAX - frame->len) {
        frame->failed = true;
        return false;
    }
    if (frame->len + more <= frame->cap)
        return true;
    size_t cap = frame->cap;
    while (cap < frame->len + more)
        cap *= 2;
    uint8_t *data = malloc(cap);
    if (data == NULL) {
        frame->failed = true;
        return false;
    }
    memcpy(data, frame->data, frame->len);
    if (frame->secret)
        rg_wipe(frame->data, frame->cap);
    free(frame->data);
    frame->data = data;
    frame->cap = cap;
    return true;
}

void rg_put_u8(struct rg_frame_out *frame, uint8_t value)
{
    if (reserve(frame, 1))
        frame->data[frame->len++] = value;
}

void rg_put_u32(struct rg_frame_out *frame, uint32_t value)
{
    if (!reserve(frame, 4))
        return;
    store_u32(frame->data + frame->len, value);
    frame->len += 4;
}

void rg_put_u64(struct rg_frame_out *frame, uint64_t value)
{
    rg_put_u32(frame, (uint32_t)value);
    rg_put_u32(frame, (uint32_t)(value >> 32));
}

void rg_put_text(struct rg_frame_out *frame, const char *text, size_t len)
{
    if (text == NULL) {
        rg_put_u32(frame, MISSING);
        return;
    }
    if (len >= RG_FRAME_MAX || !reserve(frame, len + 5)) {
        if (frame != NULL)
            frame->failed = true;
        return;
    }
    rg_put_u32(frame, (uint32_t)len);
    memcpy(frame->data + frame->len, text, len);
    frame->len += len;
    frame->data[frame->len++] = 0;
}

void rg_put_str(struct rg_frame_out *frame, const char *text)
{
    rg_put_text(frame, text, text == NULL ? 0 : strlen(text));
}

void rg_frame_rewind(struct rg_frame_out *frame, size_t mark)
{
    if (frame == NULL || mark > frame->len)
        return;
    frame->len = mark;
    frame->failed = false;
}

bool rg_frame_seal(struct rg_frame_out *frame)
{
    if (frame == NULL || frame->failed)
        return false;
    store_u32(frame->data, (uint32_t)frame->len);
    return true;
}

enum rg_frame_parse rg_frame_parse(const uint8_t *data, size_t len, struct rg_frame *out,
                                   size_t *out_used)
{
    if (len < 4)
        return RG_FRAME_PART;
    uint32_t length = load_u32(data);
    if (length < RG_FRAME_HEAD || length > RG_FRAME_MAX)
        return RG_FRAME_BAD;
    if (len < RG_FRAME_HEAD)
        return RG_FRAME_PART;
    uint32_t type = load_u32(data + 4);
    if (type == 0 || type >= RG_FRAME_TYPE_END)
        return RG_FRAME_BAD;
    if (len < length)
        return RG_FRAME_PART;
    *out = (struct rg_frame){
        .type = (enum rg_frame_type)type,
        .session = load_u32(data + 8),
        .generation = load_u32(data + 12),
        .body = data + RG_FRAME_HEAD,
        .len = length - RG_FRAME_HEAD,
    };
    *out_used = length;
    return RG_FRAME_WHOLE;
}

struct rg_reader rg_reader_of(const struct rg_frame *frame)
{
    return (struct rg_reader){.at = frame->body, .end = frame->body + frame->len};
}

static const uint8_t *take(struct rg_reader *reader, size_t n)
{
    if (reader->bad || (size_t)(reader->end - reader->at) < n) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *at = reader->at;
    reader->at += n;
    return at;
}

uint8_t rg_get_u8(struct rg_reader *reader)
{
    const uint8_t *at = take(reader, 1);
    return at == NULL ? 0 : *at;
}

bool rg_get_bool(struct rg_reader *reader)
{
    uint8_t value = rg_get_u8(reader);
    if (value > 1)
        reader->bad = true;
    return value == 1;
}

uint32_t rg_get_u32(struct rg_reader *reader)
{
    const uint8_t *at = take(reader, 4);
    return at == NULL ? 0 : load_u32(at);
}

uint64_t rg_get_u64(struct rg_reader *reader)
{
    uint64_t low = rg_get_u32(reader);
    return low | (uint64_t)rg_get_u32(reader) << 32;
}

const char *rg_get_opt_str(struct rg_reader *reader, size_t *out_len)
{
    if (out_len != NULL)
        *out_len = 0;
    uint32_t len = rg_get_u32(reader);
    if (reader->bad || len == MISSING)
        return NULL;
    if (len >= RG_FRAME_MAX) {
        reader->bad = true;
        return NULL;
    }
    const char *text = (const char *)take(reader, (size_t)len + 1);
    if (text == NULL)
        return NULL;
    if (text[len] != '\0' || memchr(text, '\0', len) != NULL || !rg_utf8_valid(text, len)) {
        reader->bad = true;
        return NULL;
    }
    if (out_len != NULL)
        *out_len = len;
    return text;
}

const char *rg_get_str(struct rg_reader *reader, size_t *out_len)
{
    const char *text = rg_get_opt_str(reader, out_len);
    if (text == NULL)
        reader->bad = true;
    return text == NULL ? "" : text;
}

bool rg_reader_done(const struct rg_reader *reader)
{
    return !reader->bad && reader->at == reader->end;
}

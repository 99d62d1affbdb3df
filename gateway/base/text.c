#include "gateway/base/text.h"

#include <sodium.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* Reads one character at text[0..len), len > 0. Returns how many bytes it takes and sets *out;
 * 0: not well-formed (Unicode table 3-7). */
static size_t read_char(uint32_t *out, const unsigned char *text, size_t len)
{
    unsigned char lead = text[0], low = 0x80, high = 0xBF;
    size_t n;

    if (lead < 0x80) {
        *out = lead;
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF)
        n = 2;
    else if (lead >= 0xE0 && lead <= 0xEF) {
        n = 3;
        if (lead == 0xE0)
            low = 0xA0; /* overlong below */
        else if (lead == 0xED)
            high = 0x9F; /* surrogates above */
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        n = 4;
        if (lead == 0xF0)
            low = 0x90;
        else if (lead == 0xF4)
            high = 0x8F; /* U+10FFFF is the last */
    } else
        return 0;
    if (len < n || text[1] < low || text[1] > high)
        return 0;
    *out = lead & (0xFFu >> (n + 1));
    *out = *out << 6 | (text[1] & 0x3F);
    for (size_t i = 2; i < n; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
        *out = *out << 6 | (text[i] & 0x3F);
    }
    return n;
}

bool rg_utf8_valid(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    uint32_t c;

    while (len > 0) {
        size_t n = read_char(&c, at, len);

        if (n == 0)
            return false;
        at += n;
        len -= n;
    }
    return true;
}

static bool forbidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0xFFFE || c == 0xFFFF;
}

bool rg_text_sendable(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    uint32_t c;

    while (len > 0) {
        size_t n = read_char(&c, at, len);

        if (n == 0 || forbidden(c))
            return false;
        at += n;
        len -= n;
    }
    return true;
}

size_t rg_utf8_cut(const char *text, size_t len, size_t max)
{
    size_t end = len < max ? len : max, start, want;
    unsigned char lead;

    if (end == 0)
        return 0;
    /* Step back over at most three continuation bytes to the lead of the last character. */
    for (start = end - 1; start > 0 && end - start < 4; start--) {
        if (((unsigned char)text[start] & 0xC0) != 0x80)
            break;
    }
    lead = (unsigned char)text[start];
    want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return want > end - start ? start : end;
}

static void json_escape(struct rg_buf *buf, uint32_t c)
{
    switch (c) {
    case '"':
        rg_buf_append(buf, "\\\"", 2);
        return;
    case '\\':
        rg_buf_append(buf, "\\\\", 2);
        return;
    case '\n':
        rg_buf_append(buf, "\\n", 2);
        return;
    case '\r':
        rg_buf_append(buf, "\\r", 2);
        return;
    case '\t':
        rg_buf_append(buf, "\\t", 2);
        return;
    default:
        rg_buf_printf(buf, "\\u%04x", (unsigned)c);
    }
}

static bool json_plain(uint32_t c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7F && c != 0x2028 && c != 0x2029;
}

void rg_json_string(struct rg_buf *buf, const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text, *run = at, *end = at + len;
    uint32_t c = 0;

    rg_buf_putc(buf, '"');
    while (at < end) {
        size_t n = read_char(&c, at, (size_t)(end - at));

        if (n != 0 && json_plain(c)) {
            at += n;
            continue;
        }
        rg_buf_append(buf, run, (size_t)(at - run));
        if (n == 0) {
            rg_buf_puts(buf, "\xEF\xBF\xBD");
            n = 1;
        } else
            json_escape(buf, c);
        at += n;
        run = at;
    }
    rg_buf_append(buf, run, (size_t)(at - run));
    rg_buf_putc(buf, '"');
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* False: malformed. The bytes are not judged yet. */
static bool percent_bytes(struct rg_buf *buf, const char *text, size_t len, bool plus)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%') {
            int high = i + 1 < len ? hex_value(text[i + 1]) : -1;
            int low = i + 2 < len ? hex_value(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus)
            c = ' ';
        if (c == '\0')
            return false;
        rg_buf_putc(buf, c);
    }
    return true;
}

bool rg_percent_decode(struct rg_buf *buf, const char *text, size_t len, bool plus)
{
    size_t before = buf->len;

    /* Out of memory is false, too: nobody must go on with half a path. */
    if (percent_bytes(buf, text, len, plus) && !buf->failed &&
        (buf->len == before || rg_utf8_valid(buf->data + before, buf->len - before)))
        return true;
    buf->len = before;
    if (buf->data != NULL)
        buf->data[before] = '\0';
    return false;
}

void rg_percent_encode(struct rg_buf *buf, const char *text, size_t len)
{
    static const char bare[] = "-._~@";
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

        if (alnum || (c != '\0' && strchr(bare, c) != NULL))
            rg_buf_putc(buf, (char)c);
        else {
            char escape[3] = {'%', digits[c >> 4], digits[c & 15]};

            rg_buf_append(buf, escape, sizeof(escape));
        }
    }
}

void rg_base64url_encode(struct rg_buf *buf, const void *data, size_t len)
{
    size_t room;

    if (len == 0)
        return;
    if (len > SIZE_MAX / 4) {
        buf->failed = true;
        return;
    }
    room = sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    if (!rg_buf_reserve(buf, room))
        return;
    sodium_bin2base64(buf->data + buf->len, room, data, len,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    buf->len += strlen(buf->data + buf->len);
}

static bool base64url_alphabet(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_'))
            return false;
    }
    return true;
}

bool rg_base64url_decode(const char *text, size_t len, void *out, size_t out_cap,
                         size_t *out_len)
{
    size_t n;

    if (len == 0) {
        *out_len = 0;
        return true;
    }
    /* libsodium refuses stray bits behind the last byte, so one token has one spelling. But
     * 1.0.18 takes some bytes from 0x80 on for '_' (found by fuzz_text), hence the look at the
     * alphabet. */
    if (!base64url_alphabet(text, len) ||
        sodium_base642bin(out, out_cap, text, len, NULL, &n, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
        return false;
    *out_len = n;
    return true;
}

void rg_time_rfc3339(struct rg_buf *buf, long long unix_s)
{
    static const long long last = 253402300799; /* 9999-12-31T23:59:59Z */
    time_t t = (time_t)(unix_s < 0 ? 0 : unix_s > last ? last : unix_s);
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL) {
        buf->failed = true;
        return;
    }
    rg_buf_printf(buf, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                  tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

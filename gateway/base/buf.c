#include "gateway/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 128 };

void rg_buf_fini(struct rg_buf *buf)
{
    free(buf->data);
    *buf = (struct rg_buf)RG_BUF_INIT;
}

void rg_buf_clear(struct rg_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

bool rg_buf_reserve(struct rg_buf *buf, size_t more)
{
    size_t cap = buf->cap == 0 ? FIRST_CAP : buf->cap;
    char *data;

    if (buf->failed)
        return false;
    if (buf->data != NULL && more < buf->cap - buf->len)
        return true;
    if (more >= SIZE_MAX / 2 - buf->len) {
        buf->failed = true;
        return false;
    }
    while (cap <= buf->len + more)
        cap *= 2;
    data = realloc(buf->data, cap);
    if (data == NULL) {
        buf->failed = true;
        return false;
    }
    data[buf->len] = '\0';
    buf->data = data;
    buf->cap = cap;
    return true;
}

void rg_buf_append(struct rg_buf *buf, const void *data, size_t len)
{
    if (len == 0 || !rg_buf_reserve(buf, len))
        return;
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void rg_buf_puts(struct rg_buf *buf, const char *text)
{
    rg_buf_append(buf, text, strlen(text));
}

void rg_buf_putc(struct rg_buf *buf, char c)
{
    rg_buf_append(buf, &c, 1);
}

void rg_buf_printf(struct rg_buf *buf, const char *format, ...)
{
    va_list args, again;
    int len;

    va_start(args, format);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, format, args);
    if (len < 0)
        buf->failed = true;
    else if (rg_buf_reserve(buf, (size_t)len)) {
        (void)vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

void rg_buf_put_u64(struct rg_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    rg_buf_append(buf, digits + at, sizeof(digits) - at);
}

void rg_buf_consume(struct rg_buf *buf, size_t n)
{
    if (n > buf->len)
        n = buf->len;
    if (n == 0)
        return;
    buf->len -= n;
    memmove(buf->data, buf->data + n, buf->len + 1);
}

bool rg_buf_failed(const struct rg_buf *buf)
{
    return buf->failed;
}

char *rg_buf_take(struct rg_buf *buf, size_t *out_len)
{
    char *data = buf->data;

    if (buf->failed || buf->len == 0) {
        rg_buf_fini(buf);
        return NULL;
    }
    if (out_len != NULL)
        *out_len = buf->len;
    *buf = (struct rg_buf)RG_BUF_INIT;
    return data;
}

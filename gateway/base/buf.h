/* A growing byte buffer. Owner: whoever initialised it. Thread: one at a time.
 *
 * Appending never returns an error: the first failed allocation marks the buffer, later appends
 * do nothing, and the user asks once at the end with rg_buf_failed(). */
#ifndef GATEWAY_BASE_BUF_H
#define GATEWAY_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rg_buf {
    char *data; /* NUL-terminated whenever not NULL; the NUL does not count in len */
    size_t len;
    size_t cap;
    bool failed;
};

#define RG_BUF_INIT                                                                            \
    {                                                                                          \
        .data = NULL                                                                           \
    }

void rg_buf_fini(struct rg_buf *buf);  /* frees; also right for RG_CLEANUP */
void rg_buf_clear(struct rg_buf *buf); /* len = 0, keeps the memory, clears the mark */
void rg_buf_append(struct rg_buf *buf, const void *data, size_t len);
void rg_buf_puts(struct rg_buf *buf, const char *text);
void rg_buf_putc(struct rg_buf *buf, char c);
void rg_buf_printf(struct rg_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void rg_buf_put_u64(struct rg_buf *buf, uint64_t value); /* decimal */
/* Makes room for at least `more` bytes behind len. False: out of memory, the buffer is marked.
 */
bool rg_buf_reserve(struct rg_buf *buf, size_t more);
/* Removes the first n bytes. */
void rg_buf_consume(struct rg_buf *buf, size_t n);
bool rg_buf_failed(const struct rg_buf *buf);
/* Hands the bytes over: returns (own) data, NULL if failed or empty; the buffer is as after
 * INIT. */
char *rg_buf_take(struct rg_buf *buf, size_t *out_len);

#endif

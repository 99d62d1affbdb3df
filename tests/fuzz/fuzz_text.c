/* Texts: encodings come back, JSON strings stay on one line and valid, cuts keep characters. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void want(bool holds)
{
    if (!holds)
        abort();
}

static void check_json(const char *text, size_t size)
{
    struct rg_buf buf = RG_BUF_INIT;

    rg_json_string(&buf, text, size);
    want(buf.len >= 2 && buf.data[0] == '"' && buf.data[buf.len - 1] == '"');
    want(rg_utf8_valid(buf.data, buf.len));
    for (size_t i = 1; i + 1 < buf.len; i++) {
        want((unsigned char)buf.data[i] >= 0x20 && buf.data[i] != '"');
        if (buf.data[i] == '\\')
            i++;
    }
    want(strstr(buf.data, "\xE2\x80\xA8") == NULL && strstr(buf.data, "\xE2\x80\xA9") == NULL);
    rg_buf_fini(&buf);
}

static void check_percent(const char *text, size_t size)
{
    struct rg_buf buf = RG_BUF_INIT, back = RG_BUF_INIT;

    if (rg_percent_decode(&buf, text, size, false)) {
        const char *data = buf.data != NULL ? buf.data : "";

        want(rg_utf8_valid(data, buf.len) && memchr(data, '\0', buf.len) == NULL);
    } else
        want(buf.len == 0);
    rg_buf_clear(&buf);
    rg_percent_encode(&buf, text, size);
    if (rg_utf8_valid(text, size) && memchr(text, '\0', size) == NULL && size > 0) {
        want(rg_percent_decode(&back, buf.data, buf.len, true));
        want(back.len == size && memcmp(back.data, text, size) == 0);
    }
    rg_buf_fini(&buf);
    rg_buf_fini(&back);
}

static void check_base64(const char *text, size_t size)
{
    struct rg_buf buf = RG_BUF_INIT;
    uint8_t *out = malloc(size + 1);
    size_t n;

    want(out != NULL);
    rg_base64url_encode(&buf, text, size);
    want(rg_base64url_decode(buf.data != NULL ? buf.data : "", buf.len, out, size, &n));
    want(n == size && memcmp(out, text, n) == 0);
    rg_buf_clear(&buf);
    if (rg_base64url_decode(text, size, out, size, &n)) { /* one spelling only */
        rg_base64url_encode(&buf, out, n);
        want(buf.len == size && (size == 0 || memcmp(buf.data, text, size) == 0));
    }
    rg_buf_fini(&buf);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char empty[1];
    const char *text = size > 0 ? (const char *)data : empty;
    bool valid = rg_utf8_valid(text, size);

    want(valid || !rg_text_sendable(text, size));
    for (size_t max = 0; max <= size && max < 16; max++) {
        size_t cut = rg_utf8_cut(text, size, max);

        want(cut <= max && (!valid || (rg_utf8_valid(text, cut) && cut + 4 > max)));
    }
    check_json(text, size);
    check_percent(text, size);
    check_base64(text, size);
    return 0;
}

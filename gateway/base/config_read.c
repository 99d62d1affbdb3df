/* Reads the configuration's text: sections of `key = value` in a strict subset of TOML 1.0.
 *
 * libinih is not used here: it cuts lines at 200 bytes, takes ':' for '=' and ';' for a comment
 * inside of quoted text, and does not tell the line (facts of its header). What it would leave
 * to do is the larger part. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/internal.h"
#include "gateway/base/mem.h"
#include "gateway/base/text.h"

enum { NAME_MAX_LEN = 63, LIST_MAX = 1000 };

struct reader {
    const char *name;
    const char *at, *end;
    int line;
    struct rg_err *err;
    char section[NAME_MAX_LEN + 1];
    char key[NAME_MAX_LEN + 1];
};

void rg_strings_fini(struct rg_strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->v[i]);
    free(list->v);
    list->v = NULL;
    list->n = 0;
}

void rg_value_fini(struct rg_value *value)
{
    free(value->string);
    value->string = NULL;
    rg_strings_fini(&value->list);
}

/* (take) text. */
static enum rg_code list_add_take(struct rg_strings *list, char *text, struct rg_err *err)
{
    char **v;

    if (list->n >= LIST_MAX) {
        free(text);
        return rg_fail(err, RG_E_INVALID_ITEM, "a list has at most %d entries", LIST_MAX);
    }
    v = reallocarray(list->v, list->n + 1, sizeof(*v));
    if (v == NULL) {
        free(text);
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    list->v = v;
    list->v[list->n++] = text;
    return RG_OK;
}

static enum rg_code wrong(struct reader *r, const char *why)
{
    return rg_fail(r->err, RG_E_INVALID_ITEM, "%s", why);
}

static bool ended(const struct reader *r)
{
    return r->at == r->end;
}

static char peek(const struct reader *r)
{
    return ended(r) ? '\0' : *r->at;
}

static void skip_blanks(struct reader *r)
{
    while (!ended(r) && (*r->at == ' ' || *r->at == '\t'))
        r->at++;
}

static void skip_comment(struct reader *r)
{
    if (peek(r) != '#')
        return;
    while (!ended(r) && *r->at != '\n')
        r->at++;
}

/* Takes one line end; false: something else, or the end of the document. */
static bool take_newline(struct reader *r)
{
    const char *at = r->at;

    if (at < r->end && *at == '\r')
        at++;
    if (at == r->end || *at != '\n')
        return false;
    r->at = at + 1;
    r->line++;
    return true;
}

static enum rg_code end_line(struct reader *r)
{
    skip_blanks(r);
    skip_comment(r);
    if (ended(r) || *r->at == '\n' ||
        (*r->at == '\r' && r->at + 1 < r->end && r->at[1] == '\n'))
        return RG_OK;
    return wrong(r, "unexpected text behind the value");
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

static enum rg_code read_name(struct reader *r, char out[NAME_MAX_LEN + 1], const char *what)
{
    size_t n = 0;

    while (!ended(r) && is_name_char(*r->at)) {
        if (n == NAME_MAX_LEN)
            return rg_fail(r->err, RG_E_INVALID_ITEM, "the name of a %s is too long", what);
        out[n++] = *r->at++;
    }
    if (n == 0)
        return rg_fail(r->err, RG_E_INVALID_ITEM, "a %s was expected", what);
    out[n] = '\0';
    return RG_OK;
}

static void put_code_point(struct rg_buf *buf, uint32_t c)
{
    if (c < 0x80)
        rg_buf_putc(buf, (char)c);
    else if (c < 0x800) {
        rg_buf_putc(buf, (char)(0xC0 | c >> 6));
        rg_buf_putc(buf, (char)(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
        rg_buf_putc(buf, (char)(0xE0 | c >> 12));
        rg_buf_putc(buf, (char)(0x80 | (c >> 6 & 0x3F)));
        rg_buf_putc(buf, (char)(0x80 | (c & 0x3F)));
    } else {
        rg_buf_putc(buf, (char)(0xF0 | c >> 18));
        rg_buf_putc(buf, (char)(0x80 | (c >> 12 & 0x3F)));
        rg_buf_putc(buf, (char)(0x80 | (c >> 6 & 0x3F)));
        rg_buf_putc(buf, (char)(0x80 | (c & 0x3F)));
    }
}

static bool read_hex(struct reader *r, size_t digits, uint32_t *out)
{
    uint32_t value = 0;

    for (size_t i = 0; i < digits; i++) {
        char c = peek(r);

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            value = value << 4 | (uint32_t)(c - 'A' + 10);
        else
            return false;
        r->at++;
    }
    *out = value;
    return true;
}

/* Behind the backslash. NUL is refused: values are C strings. */
static bool read_escape(struct reader *r, struct rg_buf *buf)
{
    static const char from[] = "\"\\btnfr", to[] = "\"\\\b\t\n\f\r";
    char c = peek(r);
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    uint32_t point = 0;

    if (ended(r))
        return false;
    r->at++;
    if (found != NULL) {
        rg_buf_putc(buf, to[found - from]);
        return true;
    }
    if ((c != 'u' && c != 'U') || !read_hex(r, c == 'u' ? 4 : 8, &point) || point == 0 ||
        point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
        return false;
    put_code_point(buf, point);
    return true;
}

/* "basic" or 'literal' text on one line; (own) *out. */
static enum rg_code read_string(struct reader *r, char **out)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf buf = RG_BUF_INIT;
    char quote = *r->at++;

    for (;;) {
        char c = peek(r);

        if (ended(r) || c == '\n')
            return wrong(r, "a string is not closed");
        if ((unsigned char)c < 0x20 && c != '\t')
            return wrong(r, "a string holds a control character");
        r->at++;
        if (c == quote)
            break;
        if (c != '\\' || quote == '\'')
            rg_buf_putc(&buf, c);
        else if (!read_escape(r, &buf))
            return wrong(r, "a string holds an unknown escape");
    }
    *out = buf.len > 0 ? rg_buf_take(&buf, NULL) : strdup("");
    if (*out == NULL)
        return rg_fail(r->err, RG_E_INTERNAL, "out of memory");
    return RG_OK;
}

/* Digits with single underscores between them, as in 20_000. */
static bool parse_integer(int64_t *out, const char *text, size_t len)
{
    bool negative = len > 0 && text[0] == '-', digit = false;
    size_t i = negative || (len > 0 && text[0] == '+') ? 1 : 0;
    int64_t value = 0;

    if (len - i > 1 && text[i] == '0')
        return false;
    for (; i < len; i++) {
        if (text[i] == '_' && digit && i + 1 < len) {
            digit = false;
            continue;
        }
        if (text[i] < '0' || text[i] > '9' ||
            __builtin_mul_overflow(value, (int64_t)10, &value) ||
            __builtin_sub_overflow(value, (int64_t)(text[i] - '0'), &value))
            return false;
        digit = true;
    }
    /* Counted downwards, since the negative range is the larger one. */
    if (!digit || (!negative && __builtin_sub_overflow((int64_t)0, value, &value)))
        return false;
    *out = value;
    return true;
}

/* Letters, digits and signs: an integer or a boolean. */
static enum rg_code read_word(struct reader *r, struct rg_value *value)
{
    const char *start = r->at;
    size_t len;

    while (!ended(r) && strchr(" \t\r\n#,]", *r->at) == NULL)
        r->at++;
    len = (size_t)(r->at - start);
    if (len == 0)
        return wrong(r, "a value was expected");
    value->type = RG_VALUE_BOOLEAN;
    value->number = len == 4 && memcmp(start, "true", 4) == 0;
    if (value->number == 1 || (len == 5 && memcmp(start, "false", 5) == 0))
        return RG_OK;
    value->type = RG_VALUE_INTEGER;
    if (!parse_integer(&value->number, start, len))
        return wrong(r, "neither an integer, a boolean nor a quoted string");
    return RG_OK;
}

/* Blanks, comments and line ends between the entries of a list. */
static void skip_in_list(struct reader *r)
{
    do {
        skip_blanks(r);
        skip_comment(r);
    } while (take_newline(r));
}

static enum rg_code read_list(struct reader *r, struct rg_value *value)
{
    enum rg_code code;
    char *text;

    value->type = RG_VALUE_STRINGS;
    r->at++;
    for (;;) {
        skip_in_list(r);
        if (peek(r) == ']')
            break;
        if (peek(r) != '"' && peek(r) != '\'')
            return wrong(r, ended(r) ? "a list is not closed" : "a list holds strings only");
        if ((code = read_string(r, &text)) != RG_OK ||
            (code = list_add_take(&value->list, text, r->err)) != RG_OK)
            return code;
        skip_in_list(r);
        if (peek(r) == ',')
            r->at++;
        else if (peek(r) != ']')
            return wrong(r, "a list is not closed");
    }
    r->at++;
    return RG_OK;
}

static enum rg_code read_value(struct reader *r, struct rg_value *value)
{
    switch (peek(r)) {
    case '"':
    case '\'':
        value->type = RG_VALUE_STRING;
        return read_string(r, &value->string);
    case '[':
        return read_list(r, value);
    default:
        return read_word(r, value);
    }
}

static enum rg_code read_section(struct reader *r, rg_config_key_fn fn, void *arg)
{
    enum rg_code code;

    r->section[0] = '\0';
    r->at++;
    skip_blanks(r);
    code = read_name(r, r->section, "section");
    if (code != RG_OK)
        return code;
    skip_blanks(r);
    if (peek(r) != ']')
        return wrong(r, "the head of a section is not closed");
    r->at++;
    code = fn(arg, r->section, NULL, NULL, r->line, r->err);
    return code != RG_OK ? code : end_line(r);
}

static enum rg_code read_key(struct reader *r, rg_config_key_fn fn, void *arg)
{
    RG_CLEANUP(rg_value_fini) struct rg_value value = {0};
    enum rg_code code;
    int line = r->line;

    code = read_name(r, r->key, "key");
    if (code != RG_OK)
        return code;
    skip_blanks(r);
    if (peek(r) != '=')
        return wrong(r, "'=' was expected");
    r->at++;
    skip_blanks(r);
    if ((code = read_value(r, &value)) != RG_OK || (code = end_line(r)) != RG_OK)
        return code;
    if (r->section[0] == '\0')
        return wrong(r, "a key stands before the first section");
    code = fn(arg, r->section, r->key, &value, line, r->err);
    if (code != RG_OK)
        r->line = line; /* a list may have gone on for lines */
    return code;
}

static enum rg_code read_line(struct reader *r, rg_config_key_fn fn, void *arg)
{
    r->key[0] = '\0';
    skip_blanks(r);
    if (peek(r) == '[')
        return read_section(r, fn, arg);
    if (is_name_char(peek(r)))
        return read_key(r, fn, arg);
    return end_line(r) == RG_OK ? RG_OK : wrong(r, "a key or a [section] was expected");
}

/* Puts the place in front of what went wrong. */
static enum rg_code locate(struct reader *r, enum rg_code code)
{
    char why[sizeof(r->err->text)] = "";

    if (r->err == NULL)
        return code;
    memcpy(why, r->err->text, sizeof(why));
    return rg_fail(r->err, code, "%.100s:%d: %s%s%s%s%s", r->name, r->line, r->section,
                   r->section[0] != '\0' && r->key[0] != '\0' ? "." : "", r->key,
                   r->section[0] != '\0' || r->key[0] != '\0' ? ": " : "", why);
}

enum rg_code rg_config_read(const char *name, const char *text, size_t len, rg_config_key_fn fn,
                            void *arg, struct rg_err *err)
{
    struct reader r = {.name = name, .at = text, .end = text + len, .line = 1, .err = err};
    enum rg_code code = RG_OK;

    if (!rg_utf8_valid(text, len) || memchr(text, '\0', len) != NULL)
        return rg_fail(err, RG_E_INVALID_ITEM, "%.100s: not a text in UTF-8", name);
    while (!ended(&r)) {
        code = read_line(&r, fn, arg);
        if (code != RG_OK)
            return locate(&r, code);
        if (!take_newline(&r) && !ended(&r))
            return locate(&r, wrong(&r, "a line ends with a bare carriage return"));
    }
    return RG_OK;
}

bool rg_config_duration(int64_t *out, const char *text)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(text, "0123456789");
    int64_t value, ms;

    if (!parse_integer(&value, text, digits))
        return false;
    for (size_t i = 0; i < RG_ARRAY_LEN(units); i++) {
        if (strcmp(text + digits, units[i].unit) != 0)
            continue;
        if (__builtin_mul_overflow(value, units[i].ms, &ms))
            return false;
        *out = ms;
        return true;
    }
    return false;
}

/* "a, b" into two strings; blanks around entries do not count, "" is the empty list. */
static enum rg_code split(struct rg_strings *list, const char *text, struct rg_err *err)
{
    if (text[strspn(text, " \t")] == '\0')
        return RG_OK;
    for (;;) {
        size_t len = strcspn(text, ","), first = strspn(text, " \t"), last = len;
        enum rg_code code;
        char *entry;

        while (last > first && (text[last - 1] == ' ' || text[last - 1] == '\t'))
            last--;
        if (first >= last)
            return rg_fail(err, RG_E_INVALID_ITEM, "the list has an empty entry");
        entry = strndup(text + first, last - first);
        if (entry == NULL)
            return rg_fail(err, RG_E_INTERNAL, "out of memory");
        code = list_add_take(list, entry, err);
        if (code != RG_OK || text[len] == '\0')
            return code;
        text += len + 1;
    }
}

static enum rg_code read_bare(struct rg_value *out, const char *text, struct rg_err *err)
{
    switch (out->type) {
    case RG_VALUE_STRING:
        out->string = strdup(text);
        return out->string != NULL ? RG_OK : rg_fail(err, RG_E_INTERNAL, "out of memory");
    case RG_VALUE_INTEGER:
        if (parse_integer(&out->number, text, strlen(text)))
            return RG_OK;
        return rg_fail(err, RG_E_INVALID_ITEM, "not an integer");
    case RG_VALUE_BOOLEAN:
        out->number = strcmp(text, "true") == 0;
        if (out->number == 1 || strcmp(text, "false") == 0)
            return RG_OK;
        return rg_fail(err, RG_E_INVALID_ITEM, "neither true nor false");
    case RG_VALUE_DURATION:
        if (rg_config_duration(&out->number, text))
            return RG_OK;
        return rg_fail(err, RG_E_INVALID_ITEM,
                       "not a duration such as 15s, 10m, 12h, 7d, 500ms");
    case RG_VALUE_STRINGS:
        return split(&out->list, text, err);
    }
    return rg_fail(err, RG_E_INTERNAL, "no such type");
}

enum rg_code rg_config_read_bare(struct rg_value *out, enum rg_value_type type,
                                 const char *text, struct rg_err *err)
{
    RG_CLEANUP(rg_value_fini) struct rg_value value = {.type = type};
    enum rg_code code;

    if (!rg_utf8_valid(text, strlen(text)))
        return rg_fail(err, RG_E_INVALID_ITEM, "not a text in UTF-8");
    code = read_bare(&value, text, err);
    if (code != RG_OK)
        return code;
    *out = value;
    value = (struct rg_value){0};
    return RG_OK;
}

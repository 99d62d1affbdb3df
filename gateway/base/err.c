#include "gateway/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/base/text.h"

static const char *const slugs[] = {
#define ROW(name, slug, title, help) slug,
    RG_CODES(ROW)
#undef ROW
};
static const char *const titles[] = {
#define ROW(name, slug, title, help) title,
    RG_CODES(ROW)
#undef ROW
};
static const char *const helps[] = {
#define ROW(name, slug, title, help) help,
    RG_CODES(ROW)
#undef ROW
};
static const char *const conditions[] = {
#define ROW(name, text) text,
    RG_CONDITIONS(ROW)
#undef ROW
};
static const char *const types[] = {"", "auth", "cancel", "continue", "modify", "wait"};

_Static_assert(RG_ARRAY_LEN(types) == RG_XMPP_TYPE_COUNT, "one name per stanza error type");

/* Texts end up in JSON documents. A text that was cut, or that quotes a peer's bytes, must not
 * carry half a character with it. */
static void keep_utf8(char *text, size_t size)
{
    size_t len = strnlen(text, size - 1);

    len = rg_utf8_cut(text, len, len);
    text[len] = '\0';
    if (rg_utf8_valid(text, len))
        return;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] >= 0x80)
            text[i] = '?';
    }
}

enum rg_code rg_fail(struct rg_err *err, enum rg_code code, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return code;
    err->code = code;
    err->retry_after_s = 0;
    memset(&err->xmpp, 0, sizeof(err->xmpp));
    va_start(args, format);
    if (vsnprintf(err->text, sizeof(err->text), format, args) < 0)
        err->text[0] = '\0';
    va_end(args);
    keep_utf8(err->text, sizeof(err->text));
    return code;
}

enum rg_code rg_fail_xmpp(struct rg_err *err, const struct rg_xmpp_error *said)
{
    struct rg_xmpp_error copy = *said; /* said may stand inside err */

    copy.text[sizeof(copy.text) - 1] = '\0';
    keep_utf8(copy.text, sizeof(copy.text));
    rg_fail(err, RG_E_XMPP, "the XMPP server answered %s%s%s",
            copy.condition == RG_XMPP_NONE ? "an error" : rg_condition_name(copy.condition),
            copy.text[0] != '\0' ? ": " : "", copy.text);
    if (err != NULL)
        err->xmpp = copy;
    return RG_E_XMPP;
}

const char *rg_code_slug(enum rg_code code)
{
    return (size_t)code < RG_ARRAY_LEN(slugs) ? slugs[code] : slugs[RG_E_INTERNAL];
}

const char *rg_code_title(enum rg_code code)
{
    return (size_t)code < RG_ARRAY_LEN(titles) ? titles[code] : titles[RG_E_INTERNAL];
}

const char *rg_code_help(enum rg_code code)
{
    return (size_t)code < RG_ARRAY_LEN(helps) ? helps[code] : helps[RG_E_INTERNAL];
}

const char *rg_condition_name(enum rg_condition condition)
{
    return (size_t)condition < RG_ARRAY_LEN(conditions)
               ? conditions[condition]
               : conditions[RG_XMPP_UNDEFINED_CONDITION];
}

enum rg_condition rg_condition_parse(const char *name)
{
    for (size_t i = RG_XMPP_NONE + 1; i < RG_ARRAY_LEN(conditions); i++) {
        if (strcmp(conditions[i], name) == 0)
            return (enum rg_condition)i;
    }
    return RG_XMPP_UNDEFINED_CONDITION;
}

const char *rg_xmpp_type_name(enum rg_xmpp_type type)
{
    return (size_t)type < RG_ARRAY_LEN(types) ? types[type] : "";
}

enum rg_xmpp_type rg_xmpp_type_parse(const char *name)
{
    for (size_t i = RG_XMPP_TYPE_NONE + 1; i < RG_ARRAY_LEN(types); i++) {
        if (strcmp(types[i], name) == 0)
            return (enum rg_xmpp_type)i;
    }
    return RG_XMPP_TYPE_NONE;
}

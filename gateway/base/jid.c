#include "gateway/base/jid.h"

#include <arpa/inet.h>
#include <idna.h>
#include <stdlib.h>
#include <string.h>
#include <stringprep.h>

#include "gateway/base/mem.h"
#include "gateway/base/text.h"

/* DESIGN. A JID is split by RFC 7622 3.1 on its raw bytes (RFC 6122 2.1 gives the same parts
 * for valid ones): the resource begins after the first '/', the local part ends at the first
 * '@' of what is before. Each part is prepared by its profile; unassigned code points are let
 * through, as the servers do, since a contact with an emoji in its JID is a contact all the
 * same.
 *
 * Domains follow RFC 6122 2.2: nameprep, then ToASCII must succeed for each label with
 * UseSTD3ASCIIRules, so only letters, digits and inner hyphens of ASCII ('_' is not allowed);
 * the result stays Unicode. The ideographic dots of IDNA 3.1 are dots. A bracketed IPv6 address
 * is taken as it is.
 *
 * Nearly all JIDs are ASCII; for these the profiles come down to a table walk, which saves six
 * allocations per part. The unit tests hold both ways against each other. */

enum { PART_MAX = 1023, RAW_MAX = 4095 };

struct part {
    const char *name; /* for errors */
    char text[RAW_MAX + 1];
    size_t len;
};

static bool is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] >= 0x80)
            return false;
    }
    return true;
}

static enum rg_code bad(struct rg_err *err, const char *what, const char *why)
{
    return rg_fail(err, RG_E_INVALID_JID, "the %s of the JID %s", what, why);
}

/* Copies the raw bytes of a part. */
static enum rg_code load(struct part *part, const char *name, const char *text, size_t len,
                         struct rg_err *err)
{
    part->name = name;
    if (len == 0)
        return bad(err, name, "is empty");
    if (len > RAW_MAX)
        return bad(err, name, "is longer than 1023 bytes");
    memcpy(part->text, text, len);
    part->text[len] = '\0';
    part->len = len;
    return RG_OK;
}

/* What every part must be once it is prepared. */
static enum rg_code judge(struct part *part, struct rg_err *err)
{
    part->len = strlen(part->text);
    if (part->len == 0)
        return bad(err, part->name, "is empty once prepared");
    if (part->len > PART_MAX)
        return bad(err, part->name, "is longer than 1023 bytes");
    /* The profiles forbid these already; a stream ends at the first one that slips through. */
    if (!rg_text_sendable(part->text, part->len))
        return bad(err, part->name, "holds a character that XMPP cannot carry");
    return RG_OK;
}

/* Runs a stringprep profile. It can be unstable once in a while: what is still changing in the
 * second round would not be one contact with one spelling, so it is refused. */
static enum rg_code run_profile(struct part *part, const Stringprep_profile *profile,
                                struct rg_err *err)
{
    char again[RAW_MAX + 1];
    int rc = stringprep(part->text, sizeof(part->text), 0, profile);

    if (rc == STRINGPREP_OK) {
        memcpy(again, part->text, strlen(part->text) + 1);
        rc = stringprep(again, sizeof(again), 0, profile);
        if (rc == STRINGPREP_OK && strcmp(again, part->text) != 0)
            return bad(err, part->name, "has no stable prepared form");
    }
    switch (rc) {
    case STRINGPREP_OK:
        return judge(part, err);
    case STRINGPREP_MALLOC_ERROR:
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    case STRINGPREP_TOO_SMALL_BUFFER:
        return bad(err, part->name, "is longer than 1023 bytes");
    case STRINGPREP_BIDI_BOTH_L_AND_RAL:
    case STRINGPREP_BIDI_LEADTRAIL_NOT_RAL:
    case STRINGPREP_BIDI_CONTAINS_PROHIBITED:
        return bad(err, part->name, "mixes writing directions");
    default:
        return bad(err, part->name, "holds a character that is not allowed");
    }
}

static void lower_ascii(struct part *part)
{
    for (size_t i = 0; i < part->len; i++) {
        if (part->text[i] >= 'A' && part->text[i] <= 'Z')
            part->text[i] = (char)(part->text[i] - 'A' + 'a');
    }
}

static enum rg_code prepare_local(struct part *part, struct rg_err *err)
{
    if (!is_ascii(part->text, part->len))
        return run_profile(part, stringprep_xmpp_nodeprep, err);
    lower_ascii(part);
    for (size_t i = 0; i < part->len; i++) {
        char c = part->text[i];

        /* RFC 6122 A.5 */
        if (c <= ' ' || c == 0x7F || strchr("\"&'/:<>@", c) != NULL)
            return bad(err, part->name, "holds a character that is not allowed");
    }
    return judge(part, err);
}

static enum rg_code prepare_resource(struct part *part, struct rg_err *err)
{
    if (!is_ascii(part->text, part->len))
        return run_profile(part, stringprep_xmpp_resourceprep, err);
    return judge(part, err); /* ASCII: only the controls are forbidden, RFC 6122 B.5 */
}

static bool is_ipv6(const char *text, size_t len)
{
    char inner[INET6_ADDRSTRLEN];
    struct in6_addr addr;

    if (len < 4 || text[0] != '[' || text[len - 1] != ']' || len - 2 >= sizeof(inner))
        return false;
    memcpy(inner, text + 1, len - 2);
    inner[len - 2] = '\0';
    return inet_pton(AF_INET6, inner, &addr) == 1;
}

/* U+3002, U+FF0E, U+FF61 are dots (RFC 3490 3.1); nameprep has turned the latter two into '.'
 * and the first already. In place, the text only shrinks. */
static void ideographic_dots(struct part *part)
{
    char *from = part->text, *to = part->text;

    while (*from != '\0') {
        if (strncmp(from, "\xE3\x80\x82", 3) == 0) {
            *to++ = '.';
            from += 3;
        } else
            *to++ = *from++;
    }
    *to = '\0';
    part->len = (size_t)(to - part->text);
}

/* ASCII labels: letters, digits, inner hyphens, 1 to 63 bytes. */
static bool ascii_labels(const char *text, size_t len)
{
    size_t start = 0;

    for (size_t i = 0; i <= len; i++) {
        char c = i < len ? text[i] : '.';

        if (c == '.') {
            if (i == start || i - start > 63 || text[start] == '-' || text[i - 1] == '-')
                return false;
            start = i + 1;
        } else if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

/* Every label can be turned into ASCII (RFC 6122 2.2). */
static bool idn_labels(const char *text)
{
    char *ascii = NULL;
    bool fine =
        idna_to_ascii_8z(text, &ascii, IDNA_ALLOW_UNASSIGNED | IDNA_USE_STD3_ASCII_RULES) ==
        IDNA_SUCCESS;

    fine = fine && ascii_labels(ascii, strlen(ascii));
    free(ascii);
    return fine;
}

static enum rg_code prepare_domain(struct part *part, struct rg_err *err)
{
    bool ascii = is_ascii(part->text, part->len);
    enum rg_code code;

    if (ascii)
        lower_ascii(part);
    else {
        code = run_profile(part, stringprep_nameprep, err);
        if (code != RG_OK)
            return code;
        ideographic_dots(part);
        ascii = is_ascii(part->text, part->len);
        if (ascii)
            lower_ascii(part);
    }
    if (part->len > 0 && part->text[part->len - 1] == '.')
        part->text[--part->len] = '\0'; /* RFC 7622 3.2 */
    code = judge(part, err);
    if (code != RG_OK || is_ipv6(part->text, part->len))
        return code;
    if (part->text[0] == '.' || strstr(part->text, "..") != NULL ||
        (part->len > 0 && part->text[part->len - 1] == '.'))
        return bad(err, part->name, "has an empty label");
    if (ascii ? !ascii_labels(part->text, part->len) : !idn_labels(part->text))
        return bad(err, part->name, "is not a domain name");
    return RG_OK;
}

static void append(struct rg_jid *jid, const char *text, size_t len)
{
    memcpy(jid->text + jid->len, text, len);
    jid->len += len;
    jid->text[jid->len] = '\0';
}

static enum rg_code check_raw(const char *text, size_t len, struct rg_err *err)
{
    if (len == 0)
        return rg_fail(err, RG_E_INVALID_JID, "the JID is empty");
    if (memchr(text, '\0', len) != NULL)
        return rg_fail(err, RG_E_INVALID_JID, "the JID holds a NUL");
    if (!rg_utf8_valid(text, len))
        return rg_fail(err, RG_E_INVALID_JID, "the JID is not valid UTF-8");
    return RG_OK;
}

/* local@domain; `jid` is being built. */
static enum rg_code prepare_bare(struct rg_jid *jid, const char *text, size_t len,
                                 struct rg_err *err)
{
    const char *at = memchr(text, '@', len);
    struct part part;
    enum rg_code code;

    if (at != NULL) {
        size_t local_len = (size_t)(at - text);

        if ((code = load(&part, "local part", text, local_len, err)) != RG_OK ||
            (code = prepare_local(&part, err)) != RG_OK)
            return code;
        append(jid, part.text, part.len);
        jid->local_len = part.len;
        append(jid, "@", 1);
        text += local_len + 1;
        len -= local_len + 1;
    }
    if ((code = load(&part, "domain", text, len, err)) != RG_OK ||
        (code = prepare_domain(&part, err)) != RG_OK)
        return code;
    if (jid->len + part.len > RG_JID_BARE_MAX)
        return rg_fail(err, RG_E_INVALID_JID, "the bare JID is longer than %d bytes",
                       RG_JID_BARE_MAX);
    jid->domain_at = jid->len;
    jid->domain_len = part.len;
    append(jid, part.text, part.len);
    jid->bare_len = jid->len;
    return RG_OK;
}

enum rg_code rg_jid_prepare(struct rg_jid *out, const char *text, size_t len,
                            struct rg_err *err)
{
    const char *slash;
    struct rg_jid jid;
    enum rg_code code;
    struct part part;

    jid.text[0] = '\0';
    jid.len = 0;
    jid.local_len = 0;
    jid.has_resource = false;
    code = check_raw(text, len, err);
    if (code != RG_OK)
        return code;
    slash = memchr(text, '/', len);
    code = prepare_bare(&jid, text, slash != NULL ? (size_t)(slash - text) : len, err);
    if (code != RG_OK)
        return code;
    if (slash != NULL) {
        slash++;
        if ((code = load(&part, "resource", slash, len - (size_t)(slash - text), err)) !=
                RG_OK ||
            (code = prepare_resource(&part, err)) != RG_OK)
            return code;
        append(&jid, "/", 1);
        append(&jid, part.text, part.len);
        jid.has_resource = true;
    }
    *out = jid;
    return RG_OK;
}

enum rg_code rg_jid_prepare_bare(struct rg_jid *out, const char *text, size_t len,
                                 struct rg_err *err)
{
    if (len > 0 && memchr(text, '/', len) != NULL) {
        enum rg_code code = check_raw(text, len, err);

        return code != RG_OK ? code
                             : rg_fail(err, RG_E_INVALID_JID,
                                       "a bare JID is needed, this one has a resource");
    }
    return rg_jid_prepare(out, text, len, err);
}

enum rg_code rg_jid_prepare_domain(char out[RG_JID_SIZE], const char *text, size_t len,
                                   struct rg_err *err)
{
    enum rg_code code = check_raw(text, len, err);
    struct part part;

    if (code != RG_OK || (code = load(&part, "domain", text, len, err)) != RG_OK ||
        (code = prepare_domain(&part, err)) != RG_OK)
        return code;
    memcpy(out, part.text, part.len + 1);
    return RG_OK;
}

enum rg_code rg_jid_prepare_resource(char out[RG_JID_SIZE], const char *text, size_t len,
                                     struct rg_err *err)
{
    enum rg_code code = check_raw(text, len, err);
    struct part part;

    if (code != RG_OK || (code = load(&part, "resource", text, len, err)) != RG_OK ||
        (code = prepare_resource(&part, err)) != RG_OK)
        return code;
    memcpy(out, part.text, part.len + 1);
    return RG_OK;
}

/* A line is
 *
 *     CHECK OP KIND ID AT UNTIL USER
 *
 * with CHECK the first 8 bytes of a hash of what follows, OP `end`, or `clear`: none of this
 * user's ends of this kind holds any more but those on later lines; KIND `sign-in`, `all` or
 * `password`, ID 32 hex digits, both times in unix seconds. A prepared bare JID holds no blank.
 */
#include "cache/state_text.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/jid.h"
#include "gateway/base/mem.h"
#include "gateway/base/text.h"

enum { CHECK_BYTES = 8, CHECK_HEX = 16 };

static const char *const kinds[] =
    {[RG_END_SIGN_IN] = "sign-in", [RG_END_ALL] = "all", [RG_END_PASSWORD] = "password"};

struct line {
    struct rg_end end;
    bool clear;
    const char *user;
};

static void put_hex(struct rg_buf *buf, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rg_buf_printf(buf, "%02x", bytes[i]);
}

static void check_sum(uint8_t out[CHECK_BYTES], const char *text, size_t len)
{
    uint8_t hash[crypto_generichash_BYTES];

    crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, len, NULL, 0);
    memcpy(out, hash, CHECK_BYTES);
}

static void put_line(struct rg_buf *buf, const char *op, const char *user,
                     const struct rg_end *end)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf body = RG_BUF_INIT;
    uint8_t sum[CHECK_BYTES];

    rg_buf_printf(&body, "%s %s ", op, kinds[end->kind]);
    put_hex(&body, end->id, sizeof(end->id));
    rg_buf_printf(&body, " %" PRId64 " %" PRId64 " %s", end->at_s, end->until_s, user);
    if (rg_buf_failed(&body)) {
        buf->failed = true;
        return;
    }
    check_sum(sum, body.data, body.len);
    put_hex(buf, sum, sizeof(sum));
    rg_buf_putc(buf, ' ');
    rg_buf_append(buf, body.data, body.len);
    rg_buf_putc(buf, '\n');
}

void rg_state_put_end(struct rg_buf *buf, const char *user, const struct rg_end *end)
{
    put_line(buf, "end", user, end);
}

void rg_state_put_passwords(struct rg_buf *buf, const struct rg_account *account)
{
    static const struct rg_end passwords = {.kind = RG_END_PASSWORD};

    put_line(buf, "clear", account->user, &passwords);
    for (size_t i = 0; i < account->n_ends; i++) {
        if (account->ends[i].kind == RG_END_PASSWORD)
            put_line(buf, "end", account->user, &account->ends[i]);
    }
}

/* The next word of *at, which moves behind it; NULL at the end. */
static char *word(char **at)
{
    return strsep(at, " ");
}

static bool parse_kind(enum rg_end_kind *out, const char *text)
{
    for (size_t i = 0; text != NULL && i < RG_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i], text) == 0) {
            *out = (enum rg_end_kind)i;
            return true;
        }
    }
    return false;
}

static bool parse_hex(uint8_t *out, size_t n, const char *text)
{
    size_t len;

    return text != NULL && strlen(text) == 2 * n &&
           sodium_hex2bin(out, n, text, 2 * n, NULL, &len, NULL) == 0 && len == n;
}

static bool parse_time(int64_t *out, const char *text)
{
    char *end;

    if (text == NULL || *text < '0' || *text > '9')
        return false;
    *out = strtoll(text, &end, 10);
    return *end == '\0';
}

/* Takes the line apart in place; without its line end. */
static bool parse_line(struct line *out, char *text, size_t len)
{
    uint8_t sum[CHECK_BYTES], found[CHECK_BYTES];
    char *at = text, *op;

    if (len <= CHECK_HEX || text[CHECK_HEX] != ' ' || strlen(text) != len)
        return false;
    check_sum(sum, text + CHECK_HEX + 1, len - CHECK_HEX - 1);
    if (!parse_hex(found, sizeof(found), word(&at)) || memcmp(sum, found, sizeof(sum)) != 0)
        return false;
    op = word(&at);
    if (op == NULL || (strcmp(op, "end") != 0 && strcmp(op, "clear") != 0))
        return false;
    out->clear = op[0] == 'c';
    if (!parse_kind(&out->end.kind, word(&at)) ||
        !parse_hex(out->end.id, sizeof(out->end.id), word(&at)) ||
        !parse_time(&out->end.at_s, word(&at)) || !parse_time(&out->end.until_s, word(&at)))
        return false;
    out->user = at;
    return at != NULL && *at != '\0' && strlen(at) <= RG_JID_BARE_MAX &&
           rg_text_sendable(at, strlen(at));
}

void rg_state_set_fini(struct rg_state_set *set)
{
    struct rg_state_record *record, *next;

    HASH_ITER(hh, set->records, record, next)
    {
        HASH_DEL(set->records, record);
        rg_account_unref(record->account);
        free(record);
    }
}

/* The user's record, made if missing; NULL: out of memory. */
static struct rg_state_record *record_get(struct rg_state_set *set, const char *user)
{
    struct rg_state_record *record;

    HASH_FIND_STR(set->records, user, record);
    if (record != NULL)
        return record;
    record = calloc(1, sizeof(*record));
    if (record == NULL)
        return NULL;
    record->account = rg_account_create(user);
    if (record->account != NULL) {
        HASH_ADD_KEYPTR(hh, set->records, record->account->user, strlen(user), record);
        if (record->hh.tbl != NULL)
            return record;
    }
    rg_account_unref(record->account);
    free(record);
    return NULL;
}

static void clear(struct rg_account *account, enum rg_end_kind kind)
{
    size_t kept = 0;

    for (size_t i = 0; i < account->n_ends; i++) {
        if (account->ends[i].kind != kind)
            account->ends[kept++] = account->ends[i];
    }
    account->n_ends = kept;
}

/* False: out of memory. */
static bool apply(struct rg_state_set *set, const struct line *line, int64_t now_s)
{
    struct rg_state_record *record;

    if (!line->clear && line->end.until_s < now_s)
        return true;
    record = record_get(set, line->user);
    if (record == NULL)
        return false;
    if (!line->clear)
        return rg_account_end(record->account, &line->end, now_s) == RG_OK;
    clear(record->account, line->end.kind);
    return true;
}

enum rg_code rg_state_read(struct rg_state_set *set, FILE *file, int64_t now_s,
                           struct rg_err *err)
{
    RG_CLEANUP(rg_freep) char *text = NULL;
    size_t size = 0;
    ssize_t len;

    for (long number = 1; (len = getline(&text, &size, file)) >= 0; number++) {
        bool whole = len > 0 && text[len - 1] == '\n'; /* else torn by a crash */
        struct line line;

        if (number == 1 && strcmp(text, RG_STATE_HEAD) != 0)
            return rg_fail(err, RG_E_INVALID_ITEM, "is not a state file of Rostergate");
        if (number == 1)
            continue;
        if (whole)
            text[--len] = '\0';
        if (!whole || !parse_line(&line, text, (size_t)len)) {
            if (set->damaged++ == 0)
                set->first_damaged_line = number;
        } else if (!apply(set, &line, now_s))
            return rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    return feof(file) ? RG_OK : rg_fail(err, RG_E_INTERNAL, "cannot be read");
}

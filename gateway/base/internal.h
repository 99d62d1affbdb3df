/* Shared inside gateway/base only. */
#ifndef GATEWAY_BASE_INTERNAL_H
#define GATEWAY_BASE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/account.h"
#include "gateway/base/config.h"

/* The journal of an account (journal.c). Thread: core. */

size_t rg_change_bytes(const struct rg_change *change);
/* Makes room for `more` further changes; false: out of memory, nothing happened. */
bool rg_journal_reserve(struct rg_account *account, size_t more);
/* Appends; the room was reserved. */
void rg_journal_append_take(struct rg_account *account, struct rg_change *change);
/* Drops the oldest until the journal is within its bounds and at most max_bytes large, but
 * never the newest `keep` ones. */
void rg_journal_trim(struct rg_account *account, int64_t now_s, size_t max_bytes, size_t keep);
void rg_journal_clear(struct rg_account *account);
void rg_journal_fini(struct rg_account *account);

/* The configuration's text (config_read.c). */

enum rg_value_type {
    RG_VALUE_STRING,
    RG_VALUE_INTEGER,
    RG_VALUE_BOOLEAN,
    RG_VALUE_DURATION, /* in a document it is a string; the key's type makes it this */
    RG_VALUE_STRINGS
};
struct rg_value {
    enum rg_value_type type;
    int64_t number;         /* INTEGER, BOOLEAN (0 or 1), DURATION in ms */
    char *string;           /* own */
    struct rg_strings list; /* own */
};
void rg_value_fini(struct rg_value *value);
void rg_strings_fini(struct rg_strings *list);

/* Called for each section's head (key and value NULL) and for each key. A failure ends the
 * reading; the reader puts file and line before its text. (borrow) all, but what is moved out
 * of value and cleared there. */
typedef enum rg_code (*rg_config_key_fn)(void *arg, const char *section, const char *key,
                                         struct rg_value *value, int line, struct rg_err *err);
/* Reads a document; `name` stands in front of errors. */
enum rg_code rg_config_read(const char *name, const char *text, size_t len, rg_config_key_fn fn,
                            void *arg, struct rg_err *err);

/* "15s", "10m", "12h", "7d", "500ms" in milliseconds. */
bool rg_config_duration(int64_t *out, const char *text);
/* Reads a value as the environment holds it: strings bare, lists comma-separated. (own) *out.
 */
enum rg_code rg_config_read_bare(struct rg_value *out, enum rg_value_type type,
                                 const char *text, struct rg_err *err);

/* The rules between and beyond single values (config_check.c). On failure *out_key names the
 * key, "section.key". */
enum rg_code rg_config_check(const struct rg_config *config, const char **out_key,
                             struct rg_err *err);

/* Defaults, then the document (text NULL: none), then the environment (as in environ, NULL:
 * none). (own) *out. */
enum rg_code rg_config_build(const char *name, const char *text, size_t len, char *const *env,
                             struct rg_config **out, struct rg_err *err);

#endif

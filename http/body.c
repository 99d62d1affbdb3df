#include "http/body.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/base/jid.h"
#include "gateway/base/text.h"

static void wiping_free(void *p)
{
    if (p == NULL)
        return;
    rg_wipe(p, malloc_usable_size(p));
    free(p);
}

void rg_body_init(void)
{
    json_set_alloc_funcs(malloc, wiping_free);
}

/* The only parameter that makes sense is charset, and it has one value (RFC 8259 8.1). */
static bool charset_fine(const char *rest)
{
    rest += strspn(rest, " \t");
    if (*rest == '\0')
        return true;
    if (*rest++ != ';')
        return false;
    rest += strspn(rest, " \t");
    if (*rest == '\0')
        return true;
    if (strncasecmp(rest, "charset=", 8) != 0)
        return false;
    rest += 8;
    bool quoted = *rest == '"';
    rest += quoted;
    if (strncasecmp(rest, "utf-8", 5) != 0)
        return false;
    rest += 5;
    if (quoted && *rest++ != '"')
        return false;
    return rest[strspn(rest, " \t;")] == '\0';
}

bool rg_media_is(const char *type, enum rg_media wanted)
{
    const char *name =
        wanted == RG_MEDIA_JSON ? "application/json" : "application/merge-patch+json";
    size_t len = strlen(name);
    return type != NULL && strncasecmp(type, name, len) == 0 && charset_fine(type + len);
}

/* jansson's own limit is 2,048 levels; ours is checked before it recurses. */
static bool too_deep(const char *text, size_t len)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > RG_BODY_DEPTH)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

enum rg_code rg_body_parse(const char *text, size_t len, json_t **out, struct rg_err *err)
{
    if (len == 0)
        return rg_fail(err, RG_E_INVALID_JSON, "the body is empty");
    if (!rg_utf8_valid(text, len))
        return rg_fail(err, RG_E_INVALID_JSON, "the body is not valid UTF-8");
    if (too_deep(text, len))
        return rg_fail(err, RG_E_INVALID_JSON, "the body nests deeper than %d", RG_BODY_DEPTH);
    /* The error's text is not passed on: it quotes the body, which may hold a password. */
    json_error_t error;
    json_t *json = json_loadb(
        text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (json == NULL)
        return rg_fail(err, RG_E_INVALID_JSON, "%s at line %d, column %d",
                       json_error_code(&error) == json_error_duplicate_key
                           ? "a member stands twice"
                           : "the body does not parse",
                       error.line, error.column);
    if (!json_is_object(json)) {
        json_decref(json);
        return rg_fail(err, RG_E_INVALID_ITEM, "the body is not an object");
    }
    *out = json;
    return RG_OK;
}

/* Every member must be one of `known` (ends with NULL). */
static enum rg_code known_only(json_t *body, const char *const *known, struct rg_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(body, key, value)
    {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL) {
            /* The name is echoed only as far as it is harmless. */
            size_t len = rg_utf8_cut(key, strlen(key), 64);
            bool fine = rg_text_sendable(key, len);
            return rg_fail(err, RG_E_INVALID_ITEM, "%.*s: unknown member", fine ? (int)len : 1,
                           fine ? key : "?");
        }
    }
    return RG_OK;
}

static enum rg_code need_string(json_t *value, const char *name, size_t max, bool empty_is_fine,
                                struct rg_err *err)
{
    if (!json_is_string(value))
        return rg_fail(err, RG_E_INVALID_ITEM, "%s: %s", name,
                       value == NULL ? "missing" : "not a string");
    size_t len = json_string_length(value);
    if (len > max)
        return rg_fail(err, RG_E_INVALID_ITEM, "%s: longer than %zu bytes", name, max);
    if (len == 0 && !empty_is_fine)
        return rg_fail(err, RG_E_INVALID_ITEM, "%s: empty", name);
    if (!rg_text_sendable(json_string_value(value), len))
        return rg_fail(err, RG_E_INVALID_ITEM,
                       "%s: holds a control character or another one that XMPP cannot carry",
                       name);
    return RG_OK;
}

static enum rg_code read_presence(json_t *value, bool *out_listen, struct rg_err *err)
{
    const char *text = json_string_value(value);
    if (text != NULL && json_string_length(value) == strlen(text)) {
        if (strcmp(text, "none") == 0 || strcmp(text, "listen") == 0) {
            *out_listen = text[0] == 'l';
            return RG_OK;
        }
    }
    return rg_fail(err, RG_E_INVALID_ITEM, "presence: neither \"none\" nor \"listen\"");
}

static enum rg_code read_jid(json_t *value, char **out, struct rg_err *err)
{
    if (!json_is_string(value))
        return rg_fail(err, RG_E_INVALID_ITEM, "jid: %s",
                       value == NULL ? "missing" : "not a string");
    struct rg_jid jid;
    struct rg_err why = RG_ERR_INIT;
    if (rg_jid_prepare_bare(&jid, json_string_value(value), json_string_length(value), &why) !=
        RG_OK)
        return rg_fail(err, RG_E_INVALID_JID, "jid: %s", why.text);
    if (jid.local_len == 0)
        return rg_fail(err, RG_E_INVALID_JID, "jid: no local part");
    *out = strdup(jid.text);
    return *out != NULL ? RG_OK : rg_fail(err, RG_E_INTERNAL, "out of memory");
}

enum rg_code rg_body_sign_in(json_t *body, struct rg_sign_in *out, struct rg_err *err)
{
    static const char *const known[] = {"jid", "password", "presence", "cookie", NULL};
    struct rg_sign_in in = {.user = NULL};
    json_t *password = json_object_get(body, "password");
    json_t *presence = json_object_get(body, "presence");
    json_t *cookie = json_object_get(body, "cookie");
    enum rg_code code = known_only(body, known, err);
    if (code == RG_OK)
        code = need_string(password, "password", 512, false, err);
    if (code == RG_OK && presence != NULL)
        code = read_presence(presence, &in.listen, err);
    if (code == RG_OK && cookie != NULL && !json_is_boolean(cookie))
        code = rg_fail(err, RG_E_INVALID_ITEM, "cookie: not a boolean");
    in.cookie = json_is_true(cookie);
    if (code == RG_OK)
        code = read_jid(json_object_get(body, "jid"), &in.user, err);
    if (code == RG_OK) {
        in.password =
            rg_secret_create(json_string_value(password), json_string_length(password));
        if (in.password == NULL)
            code = rg_fail(err, RG_E_INTERNAL, "out of memory");
    }
    if (code != RG_OK) {
        rg_sign_in_fini(&in);
        return code;
    }
    *out = in;
    return RG_OK;
}

void rg_sign_in_fini(struct rg_sign_in *in)
{
    free(in->user);
    rg_secret_destroy(in->password);
    *in = (struct rg_sign_in){.user = NULL};
}

enum rg_code rg_body_renew(json_t *body, bool *out_set, bool *out_listen, struct rg_err *err)
{
    static const char *const known[] = {"presence", NULL};
    json_t *presence = json_object_get(body, "presence");
    bool listen = false;
    enum rg_code code = known_only(body, known, err);
    if (code == RG_OK && presence != NULL)
        code = read_presence(presence, &listen, err);
    if (code != RG_OK)
        return code;
    *out_set = presence != NULL;
    *out_listen = listen;
    return RG_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Servers refuse an item whose groups are equal to them (RFC 6121 2.3.3 leaves open how they
 * compare, ejabberd does by resourceprep, Prosody by bytes): refused here, so that no caller
 * depends on which server it is (R25). The texts themselves stay as they are. What resourceprep
 * does not know, such as newer emoji, is compared as it is. Returns (own). */
static char *comparable(const char *group)
{
    char prepared[RG_JID_SIZE];
    size_t len = strlen(group);
    bool known = rg_jid_prepare_resource(prepared, group, len, NULL) == RG_OK;
    return strdup(known ? prepared : group);
}

static enum rg_code unique(char *const *groups, size_t n, struct rg_err *err)
{
    enum rg_code code = RG_OK;
    size_t made = 0;
    RG_CLEANUP(rg_freep) char **sorted = calloc(n > 0 ? n : 1, sizeof(*sorted));
    while (sorted != NULL && made < n && (sorted[made] = comparable(groups[made])) != NULL)
        made++;
    if (sorted == NULL || made < n)
        code = rg_fail(err, RG_E_INTERNAL, "out of memory");
    else
        qsort(sorted, n, sizeof(*sorted), compare_names);
    for (size_t i = 1; i < n && code == RG_OK; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            code = rg_fail(err, RG_E_INVALID_ITEM, "groups: a group stands twice");
    }
    while (made > 0)
        free(sorted[--made]);
    return code;
}

static enum rg_code read_groups(json_t *value, const struct rg_config *config,
                                struct rg_item_body *out, struct rg_err *err)
{
    if (!json_is_array(value))
        return rg_fail(err, RG_E_INVALID_ITEM, "groups: not an array");
    size_t n = json_array_size(value);
    if (n > (size_t)config->limits.groups)
        return rg_fail(err, RG_E_INVALID_ITEM, "groups: more than %lld",
                       (long long)config->limits.groups);
    out->groups = calloc(n + 1, sizeof(*out->groups));
    if (out->groups == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        json_t *group = json_array_get(value, i);
        char name[32];
        snprintf(name, sizeof(name), "groups[%zu]", i);
        enum rg_code code =
            need_string(group, name, (size_t)config->limits.group_bytes, false, err);
        if (code != RG_OK)
            return code;
        out->groups[i] = strdup(json_string_value(group));
        if (out->groups[i] == NULL)
            return rg_fail(err, RG_E_INTERNAL, "out of memory");
        out->n_groups = i + 1;
    }
    return unique(out->groups, n, err);
}

enum rg_code rg_body_item(json_t *body, const struct rg_config *config, bool patch,
                          struct rg_item_body *out, struct rg_err *err)
{
    static const char *const known[] = {"name", "groups", NULL};
    struct rg_item_body item = {.name = NULL};
    json_t *name = json_object_get(body, "name");
    json_t *groups = json_object_get(body, "groups");
    item.name_set = name != NULL;
    item.groups_set = groups != NULL;
    enum rg_code code = known_only(body, known, err);
    if (code == RG_OK && name != NULL && !json_is_null(name)) {
        code = need_string(name, "name", (size_t)config->limits.name_bytes, true, err);
        if (code == RG_OK && json_string_length(name) > 0) {
            item.name = strdup(json_string_value(name));
            if (item.name == NULL)
                code = rg_fail(err, RG_E_INTERNAL, "out of memory");
        }
    }
    if (code == RG_OK && groups != NULL && !(patch && json_is_null(groups)))
        code = read_groups(groups, config, &item, err);
    if (code != RG_OK) {
        rg_item_body_fini(&item);
        return code;
    }
    *out = item;
    return RG_OK;
}

void rg_item_body_fini(struct rg_item_body *body)
{
    for (size_t i = 0; i < body->n_groups; i++)
        free(body->groups[i]);
    free(body->groups);
    free(body->name);
    *body = (struct rg_item_body){.name = NULL};
}

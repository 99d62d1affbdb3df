/* Request bodies: JSON, read strictly (API section 6), and the members of the calls' bodies.
 * jansson's memory is wiped when freed (rg_body_init), as it may have held a password.
 * Pure functions. Thread: any. */
#ifndef HTTP_BODY_H
#define HTTP_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/config.h"
#include "gateway/base/err.h"
#include "gateway/base/mem.h"
#include "gateway/base/secret.h"

enum { RG_BODY_DEPTH = 16, RG_BODY_MAX = 64 * 1024, RG_BODY_MAX_BULK = 4 * 1024 * 1024 };

/* Once per process, before anything is parsed. */
void rg_body_init(void);

/* For RG_CLEANUP on json_t *. */
static inline void rg_jsonp(json_t **json)
{
    json_decref(*json);
}

enum rg_media { RG_MEDIA_JSON, RG_MEDIA_MERGE_PATCH };
/* Is Content-Type `type` the wanted one, in UTF-8? NULL: no. */
bool rg_media_is(const char *type, enum rg_media wanted);

/* RG_E_INVALID_JSON: does not parse, a member twice, a lone surrogate, invalid UTF-8, deeper
 * than 16. RG_E_INVALID_ITEM: no object. (own) *out. */
enum rg_code rg_body_parse(const char *text, size_t len, json_t **out, struct rg_err *err);

/* Body of POST /v1/session. */
struct rg_sign_in {
    char *user; /* own; prepared bare JID */
    struct rg_secret *password;
    bool listen;
    bool cookie;
};
enum rg_code rg_body_sign_in(json_t *body, struct rg_sign_in *out, struct rg_err *err);
void rg_sign_in_fini(struct rg_sign_in *in);

/* Body of POST /v1/session/renew. */
enum rg_code rg_body_renew(json_t *body, bool *out_set, bool *out_listen, struct rg_err *err);

/* Body of PUT and PATCH of an item. */
struct rg_item_body {
    char *name; /* own; NULL: none */
    char **groups;
    size_t n_groups;
    bool name_set, groups_set;
};
/* patch: null clears (RFC 7396); else a groups of null is a wrong type. */
enum rg_code rg_body_item(json_t *body, const struct rg_config *config, bool patch,
                          struct rg_item_body *out, struct rg_err *err);
void rg_item_body_fini(struct rg_item_body *body);

#endif

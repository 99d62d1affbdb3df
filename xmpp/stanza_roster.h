/* Roster stanzas: building requests, reading answers and pushes (RFC 6121 section 2). Pure: no
 * connection, no session. Thread: worker. */
#ifndef XMPP_STANZA_ROSTER_H
#define XMPP_STANZA_ROSTER_H

#include <stdbool.h>
#include <stddef.h>

#include <strophe.h>

#include "gateway/base/err.h"
#include "gateway/base/jid.h"
#include "gateway/base/mem.h"
#include "gateway/base/roster.h"

/* Requests. (own) the stanza, NULL when out of memory. The caller has checked every string by
 * rg_stanza_sendable: one bad byte would end the user's stream (rule 19). */
xmpp_stanza_t *rg_stanza_roster_get(xmpp_ctx_t *ctx, const char *id, const char *ver);
xmpp_stanza_t *rg_stanza_item_set(xmpp_ctx_t *ctx, const char *id, const char *jid,
                                  const char *name, const char *const *groups, size_t n_groups);
xmpp_stanza_t *rg_stanza_item_remove(xmpp_ctx_t *ctx, const char *id, const char *jid);
/* Initial presence of priority -1, or unavailable. */
xmpp_stanza_t *rg_stanza_announce(xmpp_ctx_t *ctx, bool available);

/* Answers to somebody else's request: same id, to its sender (R43, R54). */
xmpp_stanza_t *rg_stanza_result(xmpp_ctx_t *ctx, const xmpp_stanza_t *request);
xmpp_stanza_t *rg_stanza_refusal(xmpp_ctx_t *ctx, const xmpp_stanza_t *request,
                                 const char *type, const char *condition);

/* RG_OK, or RG_E_INVALID_ITEM with the member named. */
enum rg_code rg_stanza_sendable(const char *jid, const char *name, const char *const *groups,
                                size_t n_groups, struct rg_err *err);

/* One item as received. Strings belong to it. */
struct rg_item_in {
    struct rg_jid jid;
    const char *name; /* (borrow) from the stanza; NULL: none */
    char **groups;    /* own */
    size_t n_groups;
    enum rg_subscription subscription;
    bool remove; /* subscription='remove': only pushes may say so */
    bool ask, approved;
};
/* RG_OK: *out is set, release it with fini. RG_E_INVALID_JID: no or no valid jid.
 * RG_E_INTERNAL: out of memory. */
enum rg_code rg_item_in_read(struct rg_item_in *out, xmpp_ctx_t *ctx, xmpp_stanza_t *item);
void rg_item_in_fini(struct rg_item_in *item);

/* The <query/> of the roster in an IQ, (borrow); NULL if there is none. */
xmpp_stanza_t *rg_stanza_query(xmpp_stanza_t *iq);
/* The first <item/> at or behind `at`, a child of the query; NULL at the end. */
xmpp_stanza_t *rg_stanza_next_item(xmpp_stanza_t *at);
static inline xmpp_stanza_t *rg_stanza_first_item(xmpp_stanza_t *query)
{
    return query == NULL ? NULL : rg_stanza_next_item(xmpp_stanza_get_children(query));
}

/* What an IQ of type='error' says (RFC 6120 8.3). */
void rg_stanza_read_error(xmpp_ctx_t *ctx, xmpp_stanza_t *iq, struct rg_xmpp_error *out);

#endif

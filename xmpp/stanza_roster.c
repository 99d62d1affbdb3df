#include "xmpp/stanza_roster.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"

static void release(xmpp_stanza_t **stanza)
{
    if (*stanza != NULL)
        xmpp_stanza_release(*stanza);
}

/* A new element, NULL when out of memory. */
static xmpp_stanza_t *element(xmpp_ctx_t *ctx, const char *name, const char *ns)
{
    RG_CLEANUP(release) xmpp_stanza_t *stanza = xmpp_stanza_new(ctx);
    if (stanza == NULL || xmpp_stanza_set_name(stanza, name) != XMPP_EOK)
        return NULL;
    if (ns != NULL && xmpp_stanza_set_ns(stanza, ns) != XMPP_EOK)
        return NULL;
    return RG_TAKE(stanza);
}

/* Hands `child` over to `parent`. False, with the child released, if either is missing. */
static bool adopt_take(xmpp_stanza_t *parent, xmpp_stanza_t *child)
{
    if (child == NULL)
        return false;
    bool done = parent != NULL && xmpp_stanza_add_child(parent, child) == XMPP_EOK;
    xmpp_stanza_release(child);
    return done;
}

static bool add_text_take(xmpp_ctx_t *ctx, xmpp_stanza_t *parent, const char *text)
{
    xmpp_stanza_t *child = xmpp_stanza_new(ctx);
    if (child != NULL && xmpp_stanza_set_text(child, text) != XMPP_EOK) {
        xmpp_stanza_release(child);
        return false;
    }
    return adopt_take(parent, child);
}

/* An IQ around a roster query; *out_query (borrow). */
static xmpp_stanza_t *roster_iq(xmpp_ctx_t *ctx, const char *type, const char *id,
                                xmpp_stanza_t **out_query)
{
    RG_CLEANUP(release) xmpp_stanza_t *iq = xmpp_iq_new(ctx, type, id);
    xmpp_stanza_t *query = element(ctx, "query", XMPP_NS_ROSTER);
    if (iq == NULL || !adopt_take(iq, query))
        return NULL;
    *out_query = query;
    return RG_TAKE(iq);
}

xmpp_stanza_t *rg_stanza_roster_get(xmpp_ctx_t *ctx, const char *id, const char *ver)
{
    xmpp_stanza_t *query = NULL;
    RG_CLEANUP(release) xmpp_stanza_t *iq = roster_iq(ctx, "get", id, &query);
    if (iq == NULL)
        return NULL;
    if (ver != NULL && xmpp_stanza_set_attribute(query, "ver", ver) != XMPP_EOK)
        return NULL;
    return RG_TAKE(iq);
}

/* One <item/> in a roster set; *out_item (borrow). */
static xmpp_stanza_t *item_iq(xmpp_ctx_t *ctx, const char *id, const char *jid,
                              xmpp_stanza_t **out_item)
{
    xmpp_stanza_t *query = NULL;
    RG_CLEANUP(release) xmpp_stanza_t *iq = roster_iq(ctx, "set", id, &query);
    xmpp_stanza_t *item = element(ctx, "item", NULL);
    if (!adopt_take(query, item))
        return NULL;
    if (xmpp_stanza_set_attribute(item, "jid", jid) != XMPP_EOK)
        return NULL;
    *out_item = item;
    return RG_TAKE(iq);
}

xmpp_stanza_t *rg_stanza_item_set(xmpp_ctx_t *ctx, const char *id, const char *jid,
                                  const char *name, const char *const *groups, size_t n_groups)
{
    xmpp_stanza_t *item = NULL;
    RG_CLEANUP(release) xmpp_stanza_t *iq = item_iq(ctx, id, jid, &item);
    if (iq == NULL)
        return NULL;
    if (name != NULL && name[0] != '\0' &&
        xmpp_stanza_set_attribute(item, "name", name) != XMPP_EOK)
        return NULL;
    for (size_t i = 0; i < n_groups; i++) {
        xmpp_stanza_t *group = element(ctx, "group", NULL);
        if (!adopt_take(item, group) || !add_text_take(ctx, group, groups[i]))
            return NULL;
    }
    return RG_TAKE(iq);
}

xmpp_stanza_t *rg_stanza_item_remove(xmpp_ctx_t *ctx, const char *id, const char *jid)
{
    xmpp_stanza_t *item = NULL;
    RG_CLEANUP(release) xmpp_stanza_t *iq = item_iq(ctx, id, jid, &item);
    if (iq == NULL || xmpp_stanza_set_attribute(item, "subscription", "remove") != XMPP_EOK)
        return NULL;
    return RG_TAKE(iq);
}

xmpp_stanza_t *rg_stanza_announce(xmpp_ctx_t *ctx, bool available)
{
    RG_CLEANUP(release) xmpp_stanza_t *presence = xmpp_presence_new(ctx);
    if (presence == NULL)
        return NULL;
    if (!available)
        return xmpp_stanza_set_type(presence, "unavailable") == XMPP_EOK ? RG_TAKE(presence)
                                                                         : NULL;
    xmpp_stanza_t *priority = element(ctx, "priority", NULL);
    if (!adopt_take(presence, priority) || !add_text_take(ctx, priority, "-1"))
        return NULL;
    return RG_TAKE(presence);
}

static xmpp_stanza_t *reply(xmpp_ctx_t *ctx, const xmpp_stanza_t *request, const char *type)
{
    /* libstrophe's getters take no const, but change nothing. */
    xmpp_stanza_t *of = (xmpp_stanza_t *)(uintptr_t)request;
    const char *id = xmpp_stanza_get_id(of);
    const char *from = xmpp_stanza_get_from(of);
    RG_CLEANUP(release) xmpp_stanza_t *iq = xmpp_iq_new(ctx, type, id);
    if (iq == NULL || (from != NULL && xmpp_stanza_set_to(iq, from) != XMPP_EOK))
        return NULL;
    return RG_TAKE(iq);
}

xmpp_stanza_t *rg_stanza_result(xmpp_ctx_t *ctx, const xmpp_stanza_t *request)
{
    return reply(ctx, request, "result");
}

xmpp_stanza_t *rg_stanza_refusal(xmpp_ctx_t *ctx, const xmpp_stanza_t *request,
                                 const char *type, const char *condition)
{
    RG_CLEANUP(release) xmpp_stanza_t *iq = reply(ctx, request, "error");
    xmpp_stanza_t *error = element(ctx, "error", NULL);
    if (!adopt_take(iq, error) || xmpp_stanza_set_type(error, type) != XMPP_EOK ||
        !adopt_take(error, element(ctx, condition, XMPP_NS_STANZAS_IETF)))
        return NULL;
    return RG_TAKE(iq);
}

enum rg_code rg_stanza_sendable(const char *jid, const char *name, const char *const *groups,
                                size_t n_groups, struct rg_err *err)
{
    if (jid[0] == '\0' || !rg_text_sendable(jid, strlen(jid)))
        return rg_fail(err, RG_E_INVALID_ITEM, "jid holds a character XMPP cannot carry");
    if (name != NULL && !rg_text_sendable(name, strlen(name)))
        return rg_fail(err, RG_E_INVALID_ITEM, "name holds a character XMPP cannot carry");
    for (size_t i = 0; i < n_groups; i++)
        if (groups[i][0] == '\0' || !rg_text_sendable(groups[i], strlen(groups[i])))
            return rg_fail(err, RG_E_INVALID_ITEM,
                           "groups[%zu] is empty or holds a character XMPP cannot carry", i);
    return RG_OK;
}

static bool is_element(xmpp_stanza_t *stanza, const char *name, const char *ns)
{
    const char *its_name = xmpp_stanza_is_tag(stanza) ? xmpp_stanza_get_name(stanza) : NULL;
    const char *its_ns = its_name == NULL ? NULL : xmpp_stanza_get_ns(stanza);
    return its_name != NULL && strcmp(its_name, name) == 0 && its_ns != NULL &&
           strcmp(its_ns, ns) == 0;
}

xmpp_stanza_t *rg_stanza_query(xmpp_stanza_t *iq)
{
    xmpp_stanza_t *child = xmpp_stanza_get_children(iq);
    while (child != NULL && !is_element(child, "query", XMPP_NS_ROSTER))
        child = xmpp_stanza_get_next(child);
    return child;
}

xmpp_stanza_t *rg_stanza_next_item(xmpp_stanza_t *at)
{
    while (at != NULL && !is_element(at, "item", XMPP_NS_ROSTER))
        at = xmpp_stanza_get_next(at);
    return at;
}

static enum rg_code read_groups(struct rg_item_in *out, xmpp_ctx_t *ctx, xmpp_stanza_t *item)
{
    size_t n = 0;
    for (xmpp_stanza_t *at = xmpp_stanza_get_children(item); at != NULL;
         at = xmpp_stanza_get_next(at))
        n += is_element(at, "group", XMPP_NS_ROSTER) ? 1 : 0;
    if (n == 0)
        return RG_OK;
    out->groups = calloc(n, sizeof(*out->groups));
    if (out->groups == NULL)
        return RG_E_INTERNAL;
    for (xmpp_stanza_t *at = xmpp_stanza_get_children(item); at != NULL;
         at = xmpp_stanza_get_next(at)) {
        if (!is_element(at, "group", XMPP_NS_ROSTER))
            continue;
        char *text = xmpp_stanza_get_text(at); /* NULL: empty, as ejabberd and Prosody allow */
        if (text == NULL)
            continue;
        char *copy = strdup(text);
        xmpp_free(ctx, text);
        if (copy == NULL)
            return RG_E_INTERNAL;
        out->groups[out->n_groups++] = copy;
    }
    return RG_OK;
}

static bool is_true(const char *value)
{
    return value != NULL && (strcmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

enum rg_code rg_item_in_read(struct rg_item_in *out, xmpp_ctx_t *ctx, xmpp_stanza_t *item)
{
    struct rg_item_in in = {.subscription = RG_SUB_NONE};
    const char *jid = xmpp_stanza_get_attribute(item, "jid");
    if (jid == NULL || rg_jid_prepare(&in.jid, jid, strlen(jid), NULL) != RG_OK)
        return RG_E_INVALID_JID;
    in.name = xmpp_stanza_get_attribute(item, "name");
    if (in.name != NULL && in.name[0] == '\0')
        in.name = NULL; /* R30 */
    const char *subscription = xmpp_stanza_get_attribute(item, "subscription");
    if (subscription != NULL && strcmp(subscription, "remove") == 0)
        in.remove = true;
    else if (subscription == NULL || !rg_subscription_parse(&in.subscription, subscription))
        in.subscription = RG_SUB_NONE; /* R16, R46: other values are ignored */
    const char *ask = xmpp_stanza_get_attribute(item, "ask");
    in.ask = ask != NULL && strcmp(ask, "subscribe") == 0;
    in.approved = is_true(xmpp_stanza_get_attribute(item, "approved"));
    enum rg_code code = in.remove ? RG_OK : read_groups(&in, ctx, item);
    if (code != RG_OK) {
        rg_item_in_fini(&in);
        return code;
    }
    *out = in;
    return RG_OK;
}

void rg_item_in_fini(struct rg_item_in *item)
{
    for (size_t i = 0; i < item->n_groups; i++)
        free(item->groups[i]);
    free(item->groups);
    item->groups = NULL;
    item->n_groups = 0;
}

void rg_stanza_read_error(xmpp_ctx_t *ctx, xmpp_stanza_t *iq, struct rg_xmpp_error *out)
{
    *out = (struct rg_xmpp_error){.condition = RG_XMPP_UNDEFINED_CONDITION};
    xmpp_stanza_t *error = xmpp_stanza_get_child_by_name(iq, "error");
    if (error == NULL)
        return;
    const char *type = xmpp_stanza_get_attribute(error, "type");
    if (type != NULL)
        out->type = rg_xmpp_type_parse(type);
    for (xmpp_stanza_t *at = xmpp_stanza_get_children(error); at != NULL;
         at = xmpp_stanza_get_next(at)) {
        const char *ns = xmpp_stanza_is_tag(at) ? xmpp_stanza_get_ns(at) : NULL;
        if (ns == NULL || strcmp(ns, XMPP_NS_STANZAS_IETF) != 0)
            continue;
        if (strcmp(xmpp_stanza_get_name(at), "text") != 0) {
            out->condition = rg_condition_parse(xmpp_stanza_get_name(at));
            continue;
        }
        char *text = xmpp_stanza_get_text(at);
        if (text == NULL)
            continue;
        size_t keep = rg_utf8_cut(text, strlen(text), sizeof(out->text) - 1);
        memcpy(out->text, text, keep);
        out->text[keep] = '\0';
        xmpp_free(ctx, text);
    }
}

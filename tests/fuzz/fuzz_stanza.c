/* Whatever an XMPP server may send that parses as XML: rosters, pushes, errors, presence. The
 * input is one stanza as text, and once more a line of libstrophe's log. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/random.h"
#include "xmpp/iq.h"
#include "xmpp/sasl_log.h"
#include "xmpp/stanza_roster.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_items(xmpp_ctx_t *ctx, xmpp_stanza_t *stanza)
{
    for (xmpp_stanza_t *at = rg_stanza_first_item(rg_stanza_query(stanza)); at != NULL;
         at = rg_stanza_next_item(xmpp_stanza_get_next(at))) {
        struct rg_item_in item;
        if (rg_item_in_read(&item, ctx, at) != RG_OK)
            continue;
        const struct rg_item_spec spec = {.jid = item.jid.text,
                                          .name = item.name,
                                          .groups = (const char *const *)item.groups,
                                          .n_groups = item.n_groups,
                                          .subscription = item.subscription};
        rg_item_unref(rg_item_create(&spec));
        rg_item_in_fini(&item);
    }
}

static void release(xmpp_stanza_t *stanza)
{
    if (stanza != NULL)
        xmpp_stanza_release(stanza);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static xmpp_ctx_t *ctx;
    static char bare[] = "juliet@example.com", full[] = "juliet@example.com/r";
    const struct rg_self self = {.bare = bare, .full = full, .domain = "example.com"};
    struct rg_sasl_log log = {0};
    struct rg_xmpp_error said;
    struct rg_err err;
    if (ctx == NULL) {
        xmpp_initialize();
        if (rg_random_init(NULL) != RG_OK || (ctx = xmpp_ctx_new(NULL, NULL)) == NULL)
            abort();
    }
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    rg_sasl_log_read(&log, text);
    rg_sasl_log_explain(&log, &err);
    xmpp_stanza_t *stanza = xmpp_stanza_new_from_string(ctx, text);
    if (stanza != NULL) {
        read_items(ctx, stanza);
        rg_stanza_read_error(ctx, stanza, &said);
        (void)rg_self_pushes(&self, xmpp_stanza_get_from(stanza));
        (void)rg_self_answers(&self, xmpp_stanza_get_from(stanza));
        release(rg_stanza_result(ctx, stanza));
        release(rg_stanza_refusal(ctx, stanza, "cancel", "service-unavailable"));
        xmpp_stanza_release(stanza);
    }
    free(text);
    return 0;
}

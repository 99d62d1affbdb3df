/* The problem documents: one per answer, and what each code means at /v1/problems/CODE. */
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/base/text.h"
#include "http/reply.h"

struct explanation {
    const char *slug, *title, *help;
};

/* The conditions of RFC 6120 8.3.3, and what the contract names for calls that the table of
 * outcomes does not have yet. Outcomes of the same name come first. */
static const struct explanation EXTRA[] = {
    {"conflict", "Conflict", "The XMPP server says that something of this name exists."},
    {"feature-not-implemented", "Not offered by the XMPP server",
     "The XMPP server does not have this feature."},
    {"forbidden", "Forbidden by the XMPP server",
     "The XMPP server does not let this account do that."},
    {"gone", "Gone", "The XMPP server says that the address is gone for good."},
    {"jid-malformed", "JID malformed", "The XMPP server does not accept the JID."},
    {"not-acceptable", "Not acceptable to the XMPP server",
     "A value is beyond what the XMPP server accepts: a name too long, a group empty."},
    {"not-allowed", "Not allowed by the XMPP server",
     "The XMPP server allows this to nobody, or not to this account."},
    {"not-authorized", "Not authorised at the XMPP server",
     "The XMPP server wants other credentials for this."},
    {"policy-violation", "Against the XMPP server's policy",
     "The XMPP server refused by its policy, with 429 only for now; or the roster has as many "
     "items as this gateway allows."},
    {"recipient-unavailable", "Recipient unavailable",
     "The XMPP server cannot reach the recipient now. Try later."},
    {"redirect", "Redirected", "The XMPP server names another address for this."},
    {"registration-required", "Registration required",
     "The XMPP server wants a registration first."},
    {"remote-server-not-found", "Remote server not found",
     "The XMPP server does not find the other domain."},
    {"remote-server-timeout", "Remote server timeout",
     "The XMPP server did not hear from the other domain in time. Try later."},
    {"resource-constraint", "XMPP server short of resources",
     "The XMPP server lacks the resources at present. Try later."},
    {"service-unavailable", "Service unavailable at the XMPP server",
     "The XMPP server does not offer this, or not now."},
    {"subscription-required", "Subscription required", "The XMPP server wants a subscription."},
    {"undefined-condition", "Undefined error of the XMPP server",
     "The XMPP server answered with an error that is none of RFC 6120's."},
    {"unexpected-request", "Unexpected by the XMPP server",
     "The XMPP server did not expect this now."},
    {"no-effect", "No effect", "The action makes no sense in the item's present state."},
    {"group-not-found", "No such group", "No item of the roster is in this group."},
    {"too-many-removals", "Too many removals",
     "The wanted state would remove more than `max_removes` allows. Look at the plan with "
     "`dry_run=1`, then say how many."},
    {"in-progress", "Already in progress",
     "Another wanted state is being brought about for this account. Try when it is done."},
    {"not-attempted", "Not attempted",
     "The session was lost before this part was sent. Sending it again is safe."},
};

static bool find(const char *slug, size_t len, struct explanation *out)
{
    for (int i = RG_OK + 1; i < RG_CODE_COUNT; i++) {
        enum rg_code code = (enum rg_code)i;
        const char *name = rg_code_slug(code);
        if (code != RG_E_XMPP && strlen(name) == len && memcmp(name, slug, len) == 0) {
            *out = (struct explanation){name, rg_code_title(code), rg_code_help(code)};
            return true;
        }
    }
    for (size_t i = 0; i < RG_ARRAY_LEN(EXTRA); i++) {
        if (strlen(EXTRA[i].slug) == len && memcmp(EXTRA[i].slug, slug, len) == 0) {
            *out = EXTRA[i];
            return true;
        }
    }
    return false;
}

static void member(struct rg_buf *buf, const char *name, const char *value)
{
    if (buf->len > 0 && buf->data[buf->len - 1] != '{')
        rg_buf_putc(buf, ',');
    rg_buf_putc(buf, '"');
    rg_buf_puts(buf, name);
    rg_buf_puts(buf, "\":");
    rg_json_string(buf, value, strlen(value));
}

void rg_reply_problem(struct rg_buf *buf, const struct rg_err *err, unsigned status,
                      const char *instance)
{
    const char *code = rg_reply_code(err);
    struct explanation about = {code, rg_code_title(err->code), ""};
    if (err->code == RG_E_XMPP)
        (void)find(code, strlen(code), &about);
    rg_buf_puts(buf, "{\"type\":\"/v1/problems/");
    rg_buf_puts(buf, code);
    rg_buf_putc(buf, '"');
    member(buf, "title", about.title);
    rg_buf_printf(buf, ",\"status\":%u", status);
    member(buf, "detail", err->text[0] != '\0' ? err->text : about.title);
    member(buf, "code", code);
    member(buf, "instance", instance);
    if (err->code == RG_E_XMPP || err->xmpp.condition != RG_XMPP_NONE) {
        rg_buf_puts(buf, ",\"xmpp\":{");
        member(buf, "condition", rg_condition_name(err->xmpp.condition));
        member(buf, "type", rg_xmpp_type_name(err->xmpp.type));
        member(buf, "text", err->xmpp.text);
        rg_buf_putc(buf, '}');
    }
    rg_buf_putc(buf, '}');
}

bool rg_reply_explain(struct rg_buf *buf, const char *slug, size_t len)
{
    struct explanation about;
    if (!find(slug, len, &about))
        return false;
    rg_buf_putc(buf, '{');
    member(buf, "code", about.slug);
    member(buf, "title", about.title);
    member(buf, "meaning", about.help);
    rg_buf_putc(buf, '}');
    return true;
}

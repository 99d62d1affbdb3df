/* JIDs: whatever comes in, what comes out is a fixed point, sendable, within its lengths, and
 * its parts lie where they are said to be. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/jid.h"
#include "gateway/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void want(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct rg_err err = RG_ERR_INIT;
    struct rg_jid jid, again, bare;
    char domain[RG_JID_SIZE];

    if (rg_jid_prepare(&jid, text, size, &err) != RG_OK) {
        want(err.code == RG_E_INVALID_JID || err.code == RG_E_INTERNAL);
        want(rg_utf8_valid(err.text, strlen(err.text)));
        want(rg_jid_prepare_bare(&bare, text, size, NULL) != RG_OK);
        return 0;
    }
    want(jid.len == strlen(jid.text) && jid.len <= RG_JID_FULL_MAX);
    want(jid.bare_len <= RG_JID_BARE_MAX && jid.domain_len > 0);
    want(jid.domain_at == (jid.local_len > 0 ? jid.local_len + 1 : 0));
    want(jid.bare_len == jid.domain_at + jid.domain_len);
    want(jid.has_resource == (jid.bare_len < jid.len));
    want(rg_text_sendable(jid.text, jid.len));
    want(rg_jid_prepare(&again, jid.text, jid.len, NULL) == RG_OK);
    want(again.len == jid.len && memcmp(again.text, jid.text, jid.len) == 0);
    want((rg_jid_prepare_bare(&bare, text, size, NULL) == RG_OK) == !jid.has_resource);
    want(rg_jid_prepare_domain(domain, jid.text + jid.domain_at, jid.domain_len, NULL) ==
         RG_OK);
    want(strlen(domain) == jid.domain_len);
    return 0;
}

/* Bodies: whatever parses must be something that XMPP can carry. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/text.h"
#include "http/body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_item(json_t *json, bool patch)
{
    static const struct rg_config config = {
        .limits = {.name_bytes = 1023, .group_bytes = 1023, .groups = 100}};
    struct rg_item_body item;
    struct rg_err err = RG_ERR_INIT;
    if (rg_body_item(json, &config, patch, &item, &err) != RG_OK)
        return;
    if (item.name != NULL &&
        (item.name[0] == '\0' || !rg_text_sendable(item.name, strlen(item.name))))
        abort();
    for (size_t i = 0; i < item.n_groups; i++) {
        if (item.groups[i][0] == '\0' ||
            !rg_text_sendable(item.groups[i], strlen(item.groups[i])))
            abort();
    }
    rg_item_body_fini(&item);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json = NULL;
    struct rg_err err = RG_ERR_INIT;
    if (size > RG_BODY_MAX || rg_body_parse((const char *)data, size, &json, &err) != RG_OK)
        return 0;
    try_item(json, false);
    try_item(json, true);
    struct rg_sign_in in;
    if (rg_body_sign_in(json, &in, &err) == RG_OK)
        rg_sign_in_fini(&in);
    bool set, listen;
    (void)rg_body_renew(json, &set, &listen, &err);
    json_decref(json);
    return 0;
}

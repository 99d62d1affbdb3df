/* Configuration: any text is taken or refused with a reason; what was taken prints to a text
 * that is taken again and prints the same. The first byte chooses a variable of the
 * environment that gets the rest, too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/internal.h"
#include "gateway/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void want(bool holds)
{
    if (!holds)
        abort();
}

static void check_round(struct rg_config *config)
{
    struct rg_buf text = RG_BUF_INIT, second = RG_BUF_INIT;
    struct rg_config *again = NULL;
    struct rg_err err = RG_ERR_INIT;

    rg_config_print(config, &text);
    want(!rg_buf_failed(&text));
    want(rg_config_build("again", text.data, text.len, NULL, &again, &err) == RG_OK);
    rg_config_print(again, &second);
    want(strcmp(text.data, second.data) == 0);
    rg_config_destroy(again);
    rg_buf_fini(&text);
    rg_buf_fini(&second);
}

static void check(const char *text, size_t size, char *const *env)
{
    struct rg_config *config = NULL;
    struct rg_err err = RG_ERR_INIT;

    if (rg_config_build("fuzz", text, size, env, &config, &err) == RG_OK)
        check_round(config);
    else
        want(config == NULL && err.code != RG_OK && err.text[0] != '\0');
    rg_config_destroy(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {
        "ROSTERGATE_SERVER_LISTEN", "ROSTERGATE_XMPP_DOMAINS", "ROSTERGATE_LIMITS_STREAMS",
        "ROSTERGATE_EVENTS_MAX_AGE", "ROSTERGATE_SERVER_TRUSTED_PROXIES"};
    char *variable = NULL;

    check((const char *)data, size, NULL);
    if (size > 0 && asprintf(&variable, "%s=%.*s", names[data[0] % RG_ARRAY_LEN(names)],
                             (int)size - 1, (const char *)data + 1) >= 0) {
        char *const env[] = {variable, NULL};

        check(NULL, 0, env);
        free(variable);
    }
    return 0;
}

#include "tests/unit/http/helper_headers.h"

#include <string.h>

void headers_of(struct rg_headers *out, const char *const *lines)
{
    *out = (struct rg_headers){.n = 0};
    for (; *lines != NULL; lines++) {
        const char *colon = strchr(*lines, ':');
        const char *value = colon + 1;
        value += strspn(value, " ");
        rg_headers_add(out, *lines, (size_t)(colon - *lines), value, strlen(value));
    }
}

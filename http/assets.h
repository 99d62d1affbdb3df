/* The files that are built into the program (http/embed.cmake writes the table from deploy/web/
 * and http/openapi.json). Immutable. Thread: any. */
#ifndef HTTP_ASSETS_H
#define HTTP_ASSETS_H

#include <stddef.h>

struct rg_asset {
    const char *name; /* file name, without folder */
    const char *etag; /* with its quotes */
    const unsigned char *data;
    size_t len;
};
extern const struct rg_asset rg_assets[];
extern const size_t rg_assets_n;

#endif

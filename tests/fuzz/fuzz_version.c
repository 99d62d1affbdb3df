/* Versions: only what rg_version_format writes is taken, byte for byte. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/version.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rg_version version;
    char text[RG_VERSION_SIZE];

    if (rg_version_parse(&version, (const char *)data, size) &&
        (rg_version_format(text, version.epoch, version.at) != size ||
         memcmp(text, data, size) != 0))
        abort();
    /* And back: any three numbers come through. */
    if (size >= sizeof(version)) {
        struct rg_version in;

        memcpy(&in, data, sizeof(in));
        in.epoch |= 1;
        in.at.mark |= 1;
        if (!rg_version_parse(&version, text, rg_version_format(text, in.epoch, in.at)) ||
            version.epoch != in.epoch || !rg_stamp_equal(version.at, in.at))
            abort();
    }
    return 0;
}

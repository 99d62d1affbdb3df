#include "xmpp/expat.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

#include <expat.h>

typedef XML_Parser (*create_fn)(const XML_Char *encoding,
                                const XML_Memory_Handling_Suite *suite,
                                const XML_Char *separator);
typedef XML_Bool (*reset_fn)(XML_Parser parser, const XML_Char *encoding);
typedef XML_Bool (*defer_fn)(XML_Parser parser, XML_Bool enabled);

static struct rg_memory *charged;
static bool hooked;

void rg_expat_charge(struct rg_memory *memory)
{
    charged = memory;
}

bool rg_expat_is_hooked(void)
{
    return hooked;
}

static void *suite_alloc(size_t size)
{
    return rg_memory_parser_alloc(charged, size);
}

static void *suite_realloc(void *block, size_t size)
{
    return rg_memory_parser_realloc(charged, block, size);
}

/* dlsym gives an object pointer; POSIX promises that it holds a function's address. */
static uintptr_t real(const char *name)
{
    return (uintptr_t)dlsym(RTLD_NEXT, name);
}

static void stop_deferring(XML_Parser parser)
{
    defer_fn defer = (defer_fn)real("XML_SetReparseDeferralEnabled");
    if (defer != NULL) /* an older Expat does not delay */
        defer(parser, XML_FALSE);
}

XML_Parser XML_ParserCreate_MM(const XML_Char *encoding, const XML_Memory_Handling_Suite *suite,
                               const XML_Char *separator)
{
    static const XML_Memory_Handling_Suite counting = {suite_alloc, suite_realloc,
                                                       rg_memory_parser_free};
    create_fn create = (create_fn)real("XML_ParserCreate_MM");
    if (create == NULL)
        return NULL;
    hooked = true;
    if (suite == NULL && charged != NULL)
        suite = &counting;
    XML_Parser parser = create(encoding, suite, separator);
    if (parser != NULL)
        stop_deferring(parser);
    return parser;
}

/* libstrophe begins each stream of a connection by a reset, which turns the delay on again. */
XML_Bool XML_ParserReset(XML_Parser parser, const XML_Char *encoding)
{
    reset_fn reset = (reset_fn)real("XML_ParserReset");
    if (reset == NULL || reset(parser, encoding) != XML_TRUE)
        return XML_FALSE;
    stop_deferring(parser);
    return XML_TRUE;
}

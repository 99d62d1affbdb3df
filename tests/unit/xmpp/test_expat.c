#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <expat.h>

#include "xmpp/expat.h"

static unsigned elements;

static void on_element(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    (void)arg;
    (void)name;
    (void)attributes;
    elements++;
}

static XML_Parser make_parser(struct rg_memory *memory)
{
    rg_memory_init(memory, 1 << 20, 64 * 1024);
    rg_expat_charge(memory);
    XML_Parser parser = XML_ParserCreate_MM(NULL, NULL, NULL);
    assert_non_null(parser);
    return parser;
}

static void feed(XML_Parser parser, const char *text)
{
    assert_int_equal(XML_Parse(parser, text, (int)strlen(text), 0), XML_STATUS_OK);
}

/* A tag whose few last bytes come alone: Debian's Expat would wait for as much again. */
static void assert_sees_a_cut_tag(XML_Parser parser)
{
    XML_SetStartElementHandler(parser, on_element);
    elements = 0;
    feed(parser, "<stream><item jid='somebody-with-a-long-name@example.org' name='x");
    assert_int_equal(elements, 1);
    feed(parser, "y'/>");
    assert_int_equal(elements, 2);
}

static void expat__create__sees_a_cut_tag_at_once(void **state)
{
    (void)state;
    struct rg_memory memory;
    XML_Parser parser = make_parser(&memory);
    assert_true(rg_expat_is_hooked());
    assert_sees_a_cut_tag(parser);
    XML_ParserFree(parser);
    assert_int_equal(memory.live, 0);
}

static void expat__reset__sees_a_cut_tag_at_once(void **state)
{
    (void)state;
    struct rg_memory memory;
    XML_Parser parser = make_parser(&memory);
    assert_sees_a_cut_tag(parser);
    assert_int_equal(XML_ParserReset(parser, NULL), XML_TRUE);
    assert_sees_a_cut_tag(parser);
    XML_ParserFree(parser);
    assert_int_equal(memory.live, 0);
}

static void expat__memory__an_endless_tag_is_noticed(void **state)
{
    (void)state;
    struct rg_memory memory;
    XML_Parser parser = make_parser(&memory);
    feed(parser, "<stream><item name='");
    assert_false(rg_memory_over(&memory));
    for (int i = 0; i < 2000; i++)
        feed(parser, "0123456789012345678901234567890123456789");
    assert_true(rg_memory_over(&memory));
    XML_ParserFree(parser);
    assert_int_equal(memory.parser_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expat__create__sees_a_cut_tag_at_once),
        cmocka_unit_test(expat__reset__sees_a_cut_tag_at_once),
        cmocka_unit_test(expat__memory__an_endless_tag_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

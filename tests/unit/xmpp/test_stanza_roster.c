#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "xmpp/stanza_roster.h"

static xmpp_ctx_t *ctx;

static int set_up(void **state)
{
    (void)state;
    xmpp_initialize();
    ctx = xmpp_ctx_new(NULL, NULL);
    return ctx == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    xmpp_ctx_free(ctx);
    xmpp_shutdown();
    return 0;
}

/* (take) stanza. */
static void assert_xml_take(xmpp_stanza_t *stanza, const char *wanted)
{
    char *text = NULL;
    size_t len = 0;
    assert_non_null(stanza);
    assert_int_equal(xmpp_stanza_to_text(stanza, &text, &len), XMPP_EOK);
    assert_string_equal(text, wanted);
    xmpp_free(ctx, text);
    xmpp_stanza_release(stanza);
}

static xmpp_stanza_t *parse(const char *text)
{
    xmpp_stanza_t *stanza = xmpp_stanza_new_from_string(ctx, text);
    assert_non_null(stanza);
    return stanza;
}

static void stanza_roster__get__ver_only_if_given(void **state)
{
    (void)state;
    assert_xml_take(rg_stanza_roster_get(ctx, "i1", NULL),
                    "<iq id=\"i1\" type=\"get\"><query xmlns=\"jabber:iq:roster\"/></iq>");
    assert_xml_take(
        rg_stanza_roster_get(ctx, "i1", ""),
        "<iq id=\"i1\" type=\"get\"><query xmlns=\"jabber:iq:roster\" ver=\"\"/></iq>");
    assert_xml_take(rg_stanza_roster_get(ctx, "i1", "a\"<7"),
                    "<iq id=\"i1\" type=\"get\"><query xmlns=\"jabber:iq:roster\" "
                    "ver=\"a&quot;&lt;7\"/></iq>");
}

static void stanza_roster__set__one_item_without_subscription(void **state)
{
    (void)state;
    const char *groups[] = {"A & B", "C"};
    assert_xml_take(rg_stanza_item_set(ctx, "i2", "n@x.y", "N <1>", groups, 2),
                    "<iq id=\"i2\" type=\"set\"><query xmlns=\"jabber:iq:roster\">"
                    "<item jid=\"n@x.y\" name=\"N &lt;1&gt;\"><group>A &amp; B</group>"
                    "<group>C</group></item></query></iq>");
    assert_xml_take(rg_stanza_item_set(ctx, "i2", "n@x.y", NULL, NULL, 0),
                    "<iq id=\"i2\" type=\"set\"><query xmlns=\"jabber:iq:roster\">"
                    "<item jid=\"n@x.y\"/></query></iq>");
}

static void stanza_roster__remove__nothing_but_the_jid(void **state)
{
    (void)state;
    xmpp_stanza_t *iq = rg_stanza_item_remove(ctx, "i3", "n@x.y");
    xmpp_stanza_t *item =
        rg_stanza_query(iq) == NULL ? NULL : xmpp_stanza_get_children(rg_stanza_query(iq));
    assert_non_null(item);
    assert_int_equal(xmpp_stanza_get_attribute_count(item), 2);
    assert_string_equal(xmpp_stanza_get_attribute(item, "subscription"), "remove");
    assert_null(xmpp_stanza_get_children(item));
    xmpp_stanza_release(iq);
}

static void stanza_roster__replies__go_to_the_sender_or_nobody(void **state)
{
    (void)state;
    xmpp_stanza_t *from = parse("<iq type='set' id='p' from='juliet@example.com'/>");
    xmpp_stanza_t *silent = parse("<iq type='set' id='q'/>");
    xmpp_stanza_t *answer = rg_stanza_result(ctx, from);
    assert_string_equal(xmpp_stanza_get_to(answer), "juliet@example.com");
    assert_string_equal(xmpp_stanza_get_id(answer), "p");
    assert_string_equal(xmpp_stanza_get_type(answer), "result");
    xmpp_stanza_release(answer);
    answer = rg_stanza_refusal(ctx, silent, "cancel", "service-unavailable");
    assert_null(xmpp_stanza_get_to(answer));
    assert_non_null(xmpp_stanza_get_child_by_name(
        xmpp_stanza_get_child_by_name(answer, "error"), "service-unavailable"));
    xmpp_stanza_release(answer);
    xmpp_stanza_release(from);
    xmpp_stanza_release(silent);
}

static void stanza_roster__sendable__refuses_what_would_end_the_stream(void **state)
{
    (void)state;
    const char *good[] = {"G"}, *empty[] = {""}, *control[] = {"a\nb"};
    assert_int_equal(rg_stanza_sendable("n@x.y", "N", good, 1, NULL), RG_OK);
    assert_int_equal(rg_stanza_sendable("n@x.y", NULL, NULL, 0, NULL), RG_OK);
    assert_int_equal(rg_stanza_sendable("", NULL, NULL, 0, NULL), RG_E_INVALID_ITEM);
    assert_int_equal(rg_stanza_sendable("n@x.y", "a\x01", NULL, 0, NULL), RG_E_INVALID_ITEM);
    assert_int_equal(rg_stanza_sendable("n@x.y", "\xed\xa0\x80", NULL, 0, NULL),
                     RG_E_INVALID_ITEM);
    assert_int_equal(rg_stanza_sendable("n@x.y", NULL, empty, 1, NULL), RG_E_INVALID_ITEM);
    assert_int_equal(rg_stanza_sendable("n@x.y", NULL, control, 1, NULL), RG_E_INVALID_ITEM);
}

#define ITEM(attributes, inside)                                                               \
    "<item xmlns='jabber:iq:roster' " attributes ">" inside "</item>"

/* (own) *out by fini. */
static enum rg_code read_item(struct rg_item_in *out, const char *text)
{
    xmpp_stanza_t *item = parse(text);
    enum rg_code code = rg_item_in_read(out, ctx, item);
    if (code == RG_OK)
        out->name = out->name == NULL ? NULL : "kept"; /* its bytes go with the stanza */
    xmpp_stanza_release(item);
    return code;
}

static void stanza_roster__item__whole(void **state)
{
    (void)state;
    struct rg_item_in item;
    assert_int_equal(read_item(&item, ITEM("jid='Nurse@Example.COM' name='N' ask='subscribe' "
                                           "subscription='to' approved='1'",
                                           "<group>B</group><group/><foo/>"
                                           "<group xmlns='other'>X</group><group>A</group>")),
                     RG_OK);
    assert_string_equal(item.jid.text, "nurse@example.com");
    assert_non_null(item.name);
    assert_true(item.ask);
    assert_true(item.approved);
    assert_false(item.remove);
    assert_int_equal(item.subscription, RG_SUB_TO);
    assert_int_equal(item.n_groups, 2);
    assert_string_equal(item.groups[0], "B");
    assert_string_equal(item.groups[1], "A");
    rg_item_in_fini(&item);
}

static void stanza_roster__item__unknown_values_are_ignored(void **state)
{
    (void)state;
    struct rg_item_in item;
    assert_int_equal(
        read_item(&item, ITEM("jid='a@b.c' name='' ask='maybe' subscription='weird'", "")),
        RG_OK);
    assert_null(item.name);
    assert_false(item.ask);
    assert_int_equal(item.subscription, RG_SUB_NONE);
    rg_item_in_fini(&item);
    assert_int_equal(
        read_item(&item, ITEM("jid='a@b.c' subscription='remove'", "<group>ignored</group>")),
        RG_OK);
    assert_true(item.remove);
    assert_int_equal(item.n_groups, 0);
    rg_item_in_fini(&item);
}

static void stanza_roster__item__needs_a_valid_jid(void **state)
{
    (void)state;
    struct rg_item_in item;
    assert_int_equal(read_item(&item, ITEM("name='x'", "")), RG_E_INVALID_JID);
    assert_int_equal(read_item(&item, ITEM("jid=''", "")), RG_E_INVALID_JID);
    assert_int_equal(read_item(&item, ITEM("jid='@b.c'", "")), RG_E_INVALID_JID);
    assert_int_equal(read_item(&item, ITEM("jid='icq.example.com'", "")), RG_OK);
    rg_item_in_fini(&item);
    assert_int_equal(read_item(&item, ITEM("jid='a@b.c/home'", "")), RG_OK);
    assert_string_equal(item.jid.text, "a@b.c/home"); /* shown as the server holds it */
    rg_item_in_fini(&item);
}

static void stanza_roster__query__only_the_rosters_own(void **state)
{
    (void)state;
    xmpp_stanza_t *iq = parse("<iq><query xmlns='other'/><query xmlns='jabber:iq:roster'>"
                              "<foo/><item jid='a'/><item xmlns='other' jid='b'/>"
                              "<item jid='c'/></query></iq>");
    xmpp_stanza_t *item = rg_stanza_first_item(rg_stanza_query(iq));
    assert_string_equal(xmpp_stanza_get_attribute(item, "jid"), "a");
    item = rg_stanza_next_item(xmpp_stanza_get_next(item));
    assert_string_equal(xmpp_stanza_get_attribute(item, "jid"), "c");
    assert_null(rg_stanza_next_item(xmpp_stanza_get_next(item)));
    xmpp_stanza_release(iq);
    iq = parse("<iq><query xmlns='other'><item jid='b'/></query></iq>");
    assert_null(rg_stanza_query(iq));
    assert_null(rg_stanza_first_item(NULL));
    xmpp_stanza_release(iq);
}

static void stanza_roster__error__condition_type_text(void **state)
{
    (void)state;
    struct rg_xmpp_error said;
    xmpp_stanza_t *iq =
        parse("<iq type='error'><error type='modify'>"
              "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>too long</text>"
              "<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
              "<forbidden xmlns='other'/></error></iq>");
    rg_stanza_read_error(ctx, iq, &said);
    assert_int_equal(said.condition, RG_XMPP_NOT_ACCEPTABLE);
    assert_int_equal(said.type, RG_XMPP_TYPE_MODIFY);
    assert_string_equal(said.text, "too long");
    xmpp_stanza_release(iq);
    iq = parse("<iq type='error'/>");
    rg_stanza_read_error(ctx, iq, &said);
    assert_int_equal(said.condition, RG_XMPP_UNDEFINED_CONDITION);
    xmpp_stanza_release(iq);
}

static void stanza_roster__announce__negative_priority(void **state)
{
    (void)state;
    assert_xml_take(rg_stanza_announce(ctx, true),
                    "<presence><priority>-1</priority></presence>");
    assert_xml_take(rg_stanza_announce(ctx, false), "<presence type=\"unavailable\"/>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stanza_roster__get__ver_only_if_given),
        cmocka_unit_test(stanza_roster__set__one_item_without_subscription),
        cmocka_unit_test(stanza_roster__remove__nothing_but_the_jid),
        cmocka_unit_test(stanza_roster__replies__go_to_the_sender_or_nobody),
        cmocka_unit_test(stanza_roster__sendable__refuses_what_would_end_the_stream),
        cmocka_unit_test(stanza_roster__item__whole),
        cmocka_unit_test(stanza_roster__item__unknown_values_are_ignored),
        cmocka_unit_test(stanza_roster__item__needs_a_valid_jid),
        cmocka_unit_test(stanza_roster__query__only_the_rosters_own),
        cmocka_unit_test(stanza_roster__error__condition_type_text),
        cmocka_unit_test(stanza_roster__announce__negative_priority),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

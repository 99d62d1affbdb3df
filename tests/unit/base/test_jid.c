#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stringprep.h>

#include <cmocka.h>

#include "gateway/base/jid.h"
#include "gateway/base/mem.h"

#define LIT(s) (s), sizeof(s) - 1
#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

struct row {
    const char *in;
    size_t len;
    const char *want; /* NULL: refused */
};

static const struct row rows[] = {
    /* parts */
    {LIT("example.com"), "example.com"},
    {LIT("a@example.com"), "a@example.com"},
    {LIT("a@example.com/r"), "a@example.com/r"},
    {LIT("example.com/r"), "example.com/r"},
    {LIT("a@b/c/d"), "a@b/c/d"},
    {LIT("a@b/c@d"), "a@b/c@d"},
    {LIT("b/c@d"), "b/c@d"},
    {LIT("a@b/@"), "a@b/@"},
    {LIT("a@b//"), "a@b//"},
    {LIT("a@b/ "), "a@b/ "},
    {LIT("1"), "1"},
    {LIT(""), NULL},
    {LIT("@"), NULL},
    {LIT("/"), NULL},
    {LIT("@b"), NULL},
    {LIT("a@"), NULL},
    {LIT("a@b/"), NULL},
    {LIT("b/"), NULL},
    {LIT("/r"), NULL},
    {LIT("@/r"), NULL},
    {LIT("a@/r"), NULL},
    {LIT("a@b@c"), NULL},
    {LIT("a@@b"), NULL},
    {LIT(" "), NULL},
    /* local part */
    {LIT("JULIET@example.com"), "juliet@example.com"},
    {LIT("a.b+c-d_e~f!g#h$i%j*k=l?m^n`o{p|q}r@b"), "a.b+c-d_e~f!g#h$i%j*k=l?m^n`o{p|q}r@b"},
    {LIT("a\\20b@c"), "a\\20b@c"}, /* XEP-0106 is not ours to undo */
    {LIT("a;b,c(d)[e]@x"), "a;b,c(d)[e]@x"},
    {LIT("a b@c"), NULL},
    {LIT("a\"b@c"), NULL},
    {LIT("a&b@c"), NULL},
    {LIT("a'b@c"), NULL},
    {LIT("a:b@c"), NULL},
    {LIT("a<b@c"), NULL},
    {LIT("a>b@c"), NULL},
    {LIT("a\tb@c"), NULL},
    {LIT("a\nb@c"), NULL},
    {LIT("a\x7F"
         "b@c"),
     NULL},
    {LIT("a\0b@c"), NULL},
    {LIT("a@b\0"), NULL},
    {LIT("\0"), NULL},
    {LIT("a@b/c\0d"), NULL},
    {LIT("a\xC2\x80@c"), NULL},         /* C1 */
    {LIT("a\xC2\xA0@c"), NULL},         /* no-break space */
    {LIT("a\xE2\x80\xA8@c"), NULL},     /* U+2028 */
    {LIT("\xEE\x80\x80@c"), NULL},      /* private use */
    {LIT("\xEF\xBF\xBE@c"), NULL},      /* U+FFFE */
    {LIT("\xEF\xBF\xBD@c"), NULL},      /* U+FFFD */
    {LIT("\xE2\x80\x8E@c"), NULL},      /* LRM */
    {LIT("\xE2\xBF\xB0@c"), NULL},      /* ideographic description */
    {LIT("\xF3\xA0\x80\x81@c"), NULL},  /* language tag */
    {LIT("a\xEF\xBC\xA0x@c"), NULL},    /* fullwidth @ becomes @ */
    {LIT("a\xEF\xBC\x8Fx@c"), NULL},    /* fullwidth / becomes / */
    {LIT("\xC2\xAD@c"), NULL},          /* soft hyphen alone: empty once prepared */
    {LIT("a\xC2\xAD@c"), "a@c"},        /* mapped to nothing */
    {LIT("a\xE2\x80\x8B@c"), "a@c"},    /* zero width space: mapped to nothing */
    {LIT("\xC3\x84@c"), "\xC3\xA4@c"},  /* A umlaut */
    {LIT("A\xCC\x88@c"), "\xC3\xA4@c"}, /* composed by NFKC */
    {LIT("stra\xC3\x9F"
         "e@c"),
     "strasse@c"},
    {LIT("\xEF\xBC\xA1@c"), "a@c"},                    /* fullwidth A */
    {LIT("\xE2\x84\xAA@c"), "k@c"},                    /* Kelvin sign */
    {LIT("\xCE\xA3@c"), "\xCF\x83@c"},                 /* sigma */
    {LIT("\xE2\x85\xA3@c"), "iv@c"},                   /* Roman four */
    {LIT("\xEF\xAC\x81@c"), "fi@c"},                   /* ligature */
    {LIT("\xD0\xB0@c"), "\xD0\xB0@c"},                 /* Cyrillic a stays another */
    {LIT("\xF0\x9F\x98\x80@c"), "\xF0\x9F\x98\x80@c"}, /* emoji: unassigned in 3.2 */
    {LIT("\xE5\xB1\xB1@c"), "\xE5\xB1\xB1@c"},         /* Han */
    {LIT("\xD7\x90\xD7\x91@c"), "\xD7\x90\xD7\x91@c"}, /* Hebrew */
    {LIT("\xD7\x90z@c"), NULL},                        /* both directions */
    {LIT("\xD7\x90\x31@c"), NULL},                     /* must end right to left */
    {LIT("a\xFF@c"), NULL},                            /* not UTF-8 */
    {LIT("a\xC3@c"), NULL},                            /* cut */
    {LIT("a\xED\xA0\x80@c"), NULL},                    /* surrogate */
    {LIT("a\xC0\xAF@c"), NULL},                        /* overlong slash */
    /* domain */
    {LIT("a@EXAMPLE.Com"), "a@example.com"},
    {LIT("a@example.com."), "a@example.com"},
    {LIT("example.com."), "example.com"},
    {LIT("a@example.com./r"), "a@example.com/r"},
    {LIT("a@."), NULL},
    {LIT("a@.."), NULL},
    {LIT("a@.b"), NULL},
    {LIT("a@b..c"), NULL},
    {LIT("a@b.."), NULL},
    {LIT("a@-b"), NULL},
    {LIT("a@b-"), NULL},
    {LIT("a@b-.c"), NULL},
    {LIT("a@b-c.d"), "a@b-c.d"},
    {LIT("a@b_c"), NULL}, /* RFC 6122 2.2: UseSTD3ASCIIRules */
    {LIT("a@b c"), NULL},
    {LIT("a@b!"), NULL},
    {LIT("a@b%2e"), NULL},
    {LIT("a@b:5222"), NULL},
    {LIT("a@b\\c"), NULL},
    {LIT("a@127.0.0.1"), "a@127.0.0.1"},
    {LIT("a@[::1]"), "a@[::1]"},
    {LIT("a@[2001:DB8::1]"), "a@[2001:db8::1]"},
    {LIT("a@[::1"), NULL},
    {LIT("a@::1"), NULL},
    {LIT("a@[]"), NULL},
    {LIT("a@[1.2.3.4]"), NULL},
    {LIT("a@[::1%lo]"), NULL},
    {LIT("a@[::g]"), NULL},
    {LIT("a@xn--mnchen-3ya.de"), "a@xn--mnchen-3ya.de"},
    {LIT("a@m\xC3\xBCnchen.de"), "a@m\xC3\xBCnchen.de"},
    {LIT("a@M\xC3\x9CNCHEN.DE"), "a@m\xC3\xBCnchen.de"},
    {LIT("a@b\xE3\x80\x82"
         "c"),
     "a@b.c"}, /* ideographic full stop */
    {LIT("a@b\xEF\xBC\x8E"
         "c"),
     "a@b.c"}, /* fullwidth full stop */
    {LIT("a@b\xEF\xBD\xA1"
         "c"),
     "a@b.c"}, /* halfwidth ideographic full stop */
    {LIT("a@b\xE3\x80\x82\xE3\x80\x82"
         "c"),
     NULL},
    {LIT("a@\xE3\x80\x82"), NULL},
    {LIT("a@\xEF\xBC\xA5xample"), "a@example"},
    {LIT("a@b\xEF\xBC\x8F"
         "c"),
     NULL}, /* fullwidth slash becomes '/' */
    {LIT("a@b\xEF\xBC\xA0"
         "c"),
     NULL},
    {LIT("a@\xC2\xAD"), NULL},
    {LIT("a@b\xE2\x80\x8B"
         "c"),
     "a@bc"},
    {LIT("a@xn--\xC3\xBC"), NULL}, /* an ACE prefix before anything else */
    {LIT("a@" L63), "a@" L63},
    {LIT("a@" L63 "a"), NULL},
    {LIT("a@" L63 "." L63), "a@" L63 "." L63},
    /* resource */
    {LIT("a@b/R"), "a@b/R"},
    {LIT("a@b/a b"), "a@b/a b"},
    {LIT("a@b/<&>\"'"), "a@b/<&>\"'"},
    {LIT("a@b/\t"), NULL},
    {LIT("a@b/\x7F"), NULL},
    {LIT("a@b/\xC2\xA0"), "a@b/ "}, /* a no-break space becomes one by NFKC */
    {LIT("a@b/\xE2\x84\xAA"), "a@b/K"},
    {LIT("a@b/\xF0\x9F\x98\x80"), "a@b/\xF0\x9F\x98\x80"},
    {LIT("a@b/\xC2\xAD"), NULL},
    {LIT("a@b/\xEE\x80\x80"), NULL},
    {LIT("a@b/\xFF"), NULL},
};

static void jid__prepare__table(void **state)
{
    (void)state;
    assert_true(RG_ARRAY_LEN(rows) >= 100);
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_err err = RG_ERR_INIT;
        struct rg_jid jid;
        enum rg_code code = rg_jid_prepare(&jid, rows[i].in, rows[i].len, &err);

        if (code != (rows[i].want != NULL ? RG_OK : RG_E_INVALID_JID))
            fail_msg("row %zu, %s: %s", i, rows[i].in, err.text);
        if (code == RG_OK && strcmp(jid.text, rows[i].want) != 0)
            fail_msg("row %zu, %s: got %s", i, rows[i].in, jid.text);
        if (code != RG_OK)
            assert_true(err.code == code && err.text[0] != '\0');
    }
}

/* The parts lie where they are said to be, and a prepared JID prepares to itself. */
static void jid__prepare__is_consistent(void **state)
{
    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_jid jid, again;

        if (rows[i].want == NULL)
            continue;
        assert_int_equal(rg_jid_prepare(&jid, rows[i].in, rows[i].len, NULL), RG_OK);
        assert_int_equal(jid.len, strlen(jid.text));
        assert_int_equal(jid.domain_at, jid.local_len > 0 ? jid.local_len + 1 : 0);
        assert_int_equal(jid.bare_len, jid.domain_at + jid.domain_len);
        assert_int_equal(jid.has_resource, jid.bare_len < jid.len);
        assert_int_equal(jid.text[jid.bare_len], jid.has_resource ? '/' : '\0');
        assert_int_equal(rg_jid_prepare(&again, jid.text, jid.len, NULL), RG_OK);
        assert_string_equal(again.text, jid.text);
    }
}

static void jid__prepare__leaves_out_alone_on_failure(void **state)
{
    struct rg_jid jid;

    (void)state;
    assert_int_equal(rg_jid_prepare(&jid, "a@b/c", 5, NULL), RG_OK);
    assert_int_equal(rg_jid_prepare(&jid, "a@b/", 4, NULL), RG_E_INVALID_JID);
    assert_int_equal(rg_jid_prepare_bare(&jid, "x@y/z", 5, NULL), RG_E_INVALID_JID);
    assert_string_equal(jid.text, "a@b/c");
}

static void jid__prepare__names_the_part(void **state)
{
    static const struct {
        const char *in, *word;
    } said[] = {{"a b@c", "local part"},
                {"a@b_c", "domain"},
                {"a@b/", "resource"},
                {"\xFF", "UTF-8"},
                {"", "empty"}};

    (void)state;
    for (size_t i = 0; i < RG_ARRAY_LEN(said); i++) {
        struct rg_err err = RG_ERR_INIT;
        struct rg_jid jid;

        assert_int_equal(rg_jid_prepare(&jid, said[i].in, strlen(said[i].in), &err),
                         RG_E_INVALID_JID);
        assert_non_null(strstr(err.text, said[i].word));
    }
}

/* Builds N times c, then the tail, and prepares it. */
static enum rg_code prepare_long(struct rg_jid *out, const char *head, const char *unit,
                                 size_t n, const char *tail)
{
    size_t size = strlen(head) + n * strlen(unit) + strlen(tail) + 1;
    char *text = calloc(1, size);
    enum rg_code code;

    assert_non_null(text);
    strcat(text, head);
    for (size_t i = 0, at = strlen(head); i < n; i++, at += strlen(unit))
        memcpy(text + at, unit, strlen(unit));
    strcat(text, tail);
    code = rg_jid_prepare(out, text, strlen(text), NULL);
    free(text);
    return code;
}

static void jid__prepare__lengths(void **state)
{
    struct rg_jid jid;

    (void)state;
    assert_int_equal(prepare_long(&jid, "", "a", 1022, "@b"), RG_OK); /* bare 1024 */
    assert_int_equal(prepare_long(&jid, "", "a", 1023, "@b"), RG_E_INVALID_JID);
    assert_int_equal(prepare_long(&jid, "", "a", 1024, "@b"), RG_E_INVALID_JID);
    assert_int_equal(prepare_long(&jid, "a@b/", "r", 1023, ""), RG_OK);
    assert_int_equal(prepare_long(&jid, "a@b/", "r", 1024, ""), RG_E_INVALID_JID);
    assert_int_equal(prepare_long(&jid, "", "a.", 511, "b"), RG_OK);
    assert_int_equal(prepare_long(&jid, "", "a.", 512, "b"), RG_E_INVALID_JID);
    assert_int_equal(prepare_long(&jid, "a@b/", "r", 100000, ""), RG_E_INVALID_JID);
    /* Counted once prepared: three bytes become one. */
    assert_int_equal(prepare_long(&jid, "", "\xEF\xBC\xA1", 1000, "@b"), RG_OK);
    assert_int_equal(jid.local_len, 1000);
    /* U+FDFA grows from 3 bytes to 33. */
    assert_int_equal(prepare_long(&jid, "", "\xEF\xB7\xBA", 40, "@b"), RG_E_INVALID_JID);
}

static void jid__prepare_bare__refuses_resources(void **state)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_jid jid;

    (void)state;
    assert_int_equal(rg_jid_prepare_bare(&jid, "A@B", 3, NULL), RG_OK);
    assert_string_equal(jid.text, "a@b");
    assert_int_equal(rg_jid_prepare_bare(&jid, "a@b/c", 5, &err), RG_E_INVALID_JID);
    assert_non_null(strstr(err.text, "bare"));
    assert_int_equal(rg_jid_prepare_bare(&jid, "a@b/", 4, NULL), RG_E_INVALID_JID);
    assert_int_equal(rg_jid_prepare_bare(&jid, "", 0, NULL), RG_E_INVALID_JID);
}

static void jid__prepare_domain__is_only_a_domain(void **state)
{
    char out[RG_JID_SIZE] = "kept";

    (void)state;
    assert_int_equal(rg_jid_prepare_domain(out, "a@b", 3, NULL), RG_E_INVALID_JID);
    assert_int_equal(rg_jid_prepare_domain(out, "b/c", 3, NULL), RG_E_INVALID_JID);
    assert_int_equal(rg_jid_prepare_domain(out, "", 0, NULL), RG_E_INVALID_JID);
    assert_string_equal(out, "kept");
    assert_int_equal(rg_jid_prepare_domain(out, "Example.COM.", 12, NULL), RG_OK);
    assert_string_equal(out, "example.com");
}

/* The short way for ASCII gives what libidn gives, for every character at every place. */
static void jid__prepare_resource__is_how_groups_are_compared(void **state)
{
    char out[RG_JID_SIZE] = "as it was";

    (void)state;
    assert_int_equal(rg_jid_prepare_resource(out, "", 0, NULL), RG_E_INVALID_JID);
    assert_int_equal(rg_jid_prepare_resource(out, "\xEE\x80\x80", 3, NULL), RG_E_INVALID_JID);
    assert_string_equal(out, "as it was");
    assert_int_equal(rg_jid_prepare_resource(out, "A/b@c", 5, NULL), RG_OK);
    assert_string_equal(out, "A/b@c");
    assert_int_equal(rg_jid_prepare_resource(out, "\xE2\x84\xAB", 3, NULL), RG_OK);
    assert_string_equal(out, "\xC3\x85"); /* the sign for Angstrom is a letter */
}

static void jid__prepare__ascii_agrees_with_libidn(void **state)
{
    (void)state;
    for (int c = 1; c < 0x80; c++) {
        char local[16] = "xYx", resource[16] = "xYx", whole[64];
        struct rg_jid jid;
        bool ours, theirs;

        if (c == '/' || c == '@')
            continue;
        local[1] = (char)c;
        resource[1] = (char)c;
        (void)snprintf(whole, sizeof(whole), "%s@b/r", local);
        ours = rg_jid_prepare(&jid, whole, strlen(whole), NULL) == RG_OK;
        theirs = stringprep(local, sizeof(local), 0, stringprep_xmpp_nodeprep) == STRINGPREP_OK;
        assert_int_equal(ours, theirs);
        if (ours)
            assert_memory_equal(jid.text, local, 3);
        (void)snprintf(whole, sizeof(whole), "a@b/%s", resource);
        ours = rg_jid_prepare(&jid, whole, strlen(whole), NULL) == RG_OK;
        theirs = stringprep(resource, sizeof(resource), 0, stringprep_xmpp_resourceprep) ==
                 STRINGPREP_OK;
        assert_int_equal(ours, theirs);
        if (ours)
            assert_string_equal(jid.text + 4, resource);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jid__prepare__table),
        cmocka_unit_test(jid__prepare__is_consistent),
        cmocka_unit_test(jid__prepare__leaves_out_alone_on_failure),
        cmocka_unit_test(jid__prepare__names_the_part),
        cmocka_unit_test(jid__prepare__lengths),
        cmocka_unit_test(jid__prepare_bare__refuses_resources),
        cmocka_unit_test(jid__prepare_domain__is_only_a_domain),
        cmocka_unit_test(jid__prepare_resource__is_how_groups_are_compared),
        cmocka_unit_test(jid__prepare__ascii_agrees_with_libidn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

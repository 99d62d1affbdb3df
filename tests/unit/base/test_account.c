#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/account.h"

enum { NOW = 1700000000 };

static struct rg_item *item(const char *jid, const char *name)
{
    struct rg_item_spec spec = {.jid = jid, .name = name};
    struct rg_item *made = rg_item_create(&spec);

    assert_non_null(made);
    return made;
}

/* "a=1 b=2": items a and b with names 1 and 2. */
static struct rg_roster *roster(const char *text)
{
    struct rg_roster_builder builder;
    struct rg_roster *made;
    char copy[256], *at = copy, *word;

    rg_roster_builder_init(&builder);
    (void)snprintf(copy, sizeof(copy), "%s", text);
    while ((word = strsep(&at, " ")) != NULL) {
        char *equals = strchr(word, '=');

        if (*word == '\0')
            continue;
        *equals = '\0';
        rg_roster_builder_add_take(&builder, item(word, equals + 1));
    }
    made = rg_roster_builder_finish(&builder);
    assert_non_null(made);
    return made;
}

static void replace(struct rg_account *account, const char *text, size_t want_changes,
                    bool want_reset)
{
    struct rg_roster *next = roster(text);
    size_t changes = 99;
    bool reset = !want_reset;

    assert_int_equal(rg_account_replace(account, next, NOW, &changes, &reset), RG_OK);
    assert_int_equal(changes, want_changes);
    assert_int_equal(reset, want_reset);
    rg_roster_unref(next);
}

static bool push(struct rg_account *account, const char *jid, const char *name)
{
    bool changed = false;

    assert_int_equal(rg_account_push_take(account, name != NULL ? item(jid, name) : NULL, jid,
                                          NOW, &changed),
                     RG_OK);
    return changed;
}

static struct rg_version head(const struct rg_account *account)
{
    return (struct rg_version){.epoch = account->epoch, .at = account->head};
}

/* The i-th change reads like "jid=name" or "-jid". */
static void check_change(const struct rg_account *account, size_t i, const char *want)
{
    const struct rg_change *change = rg_account_change(account, i);
    char got[64];

    if (change->item != NULL)
        (void)snprintf(got, sizeof(got), "%s=%s", change->jid, change->item->name);
    else
        (void)snprintf(got, sizeof(got), "-%s", change->jid);
    assert_string_equal(got, want);
}

/* What must hold at any time: each change begins where the one before it ended, the last ends
 * at head, each item's stamp is a stamp of this account. */
static void check_journal(const struct rg_account *account)
{
    struct rg_stamp at = account->head;
    size_t bytes = 0;

    for (size_t i = account->journal_n; i-- > 0;) {
        const struct rg_change *change = rg_account_change(account, i);

        assert_true(rg_stamp_equal(change->at, at));
        assert_int_equal(change->at.seq, change->before.seq + 1);
        if (change->item != NULL) {
            assert_true(rg_stamp_equal(change->item->changed, change->at));
            bytes += rg_item_bytes(change->item);
        }
        bytes += sizeof(*change) + strlen(change->jid) + 1;
        at = change->before;
    }
    assert_int_equal(bytes, account->journal_bytes);
}

static void account__create__is_unknown(void **state)
{
    struct rg_account *account = rg_account_create("juliet@example.com");
    struct rg_version at = head(account);
    size_t index;

    (void)state;
    assert_string_equal(account->user, "juliet@example.com");
    assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
    assert_true(account->epoch != 0 && account->mark != 0);
    assert_false(account->ver.known);
    assert_false(rg_account_since(account, &at, &index));
    rg_account_unref(account);
    rg_account_unref(NULL);
}

static void account__replace__first_is_a_snapshot(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    uint64_t mark = account->mark;

    (void)state;
    replace(account, "x=1 y=2", 0, true);
    assert_int_equal(account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(account->head.seq, 1);
    assert_true(account->head.mark == mark);
    assert_int_equal(account->journal_n, 0);
    assert_int_equal(account->roster->n, 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(rg_stamp_equal(account->roster->items[i]->changed, account->head));
    rg_account_unref(account);
}

static void account__replace__first_may_be_empty(void **state)
{
    struct rg_account *account = rg_account_create("a@b");

    (void)state;
    replace(account, "", 0, true);
    assert_int_equal(account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(account->head.seq, 1);
    assert_int_equal(account->roster->n, 0);
    rg_account_unref(account);
}

static void account__replace__same_set_changes_nothing(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    const struct rg_roster *held;

    (void)state;
    replace(account, "x=1 y=2", 0, true);
    held = account->roster;
    replace(account, "y=2 x=1", 0, false);
    assert_ptr_equal(account->roster, held);
    assert_int_equal(account->head.seq, 1);
    rg_account_unref(account);
}

static void account__replace__diffs_in_jid_order(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_item *kept;
    struct rg_stamp first;

    (void)state;
    replace(account, "b=1 d=1 f=1 h=1", 0, true);
    first = account->head;
    kept = rg_roster_find(account->roster, "d");
    replace(account, "a=1 c=1 d=1 f=2 i=1", 6, false);
    assert_int_equal(account->journal_n, 6);
    check_change(account, 0, "a=1");
    check_change(account, 1, "-b");
    check_change(account, 2, "c=1");
    check_change(account, 3, "f=2");
    check_change(account, 4, "-h");
    check_change(account, 5, "i=1");
    check_journal(account);
    assert_int_equal(account->head.seq, first.seq + 6);
    assert_ptr_equal(rg_roster_find(account->roster, "d"), kept); /* its stamp, too */
    assert_true(rg_stamp_equal(kept->changed, first));
    assert_int_equal(account->roster->n, 5);
    assert_int_equal(rg_roster_find(account->roster, "f")->changed.seq, first.seq + 4);
    rg_account_unref(account);
}

static void account__replace__by_nothing_removes_all(void **state)
{
    struct rg_account *account = rg_account_create("a@b");

    (void)state;
    replace(account, "x=1 y=2", 0, true);
    replace(account, "", 2, false);
    check_change(account, 0, "-x");
    check_change(account, 1, "-y");
    assert_int_equal(account->roster->n, 0);
    check_journal(account);
    rg_account_unref(account);
}

/* More than the journal holds: it starts anew, yet every difference is counted. */
static void account__replace__too_many_start_the_journal_anew(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_roster_builder builder;
    struct rg_version before;
    struct rg_roster *large;
    size_t changes, index;
    char jid[32];
    bool reset;

    (void)state;
    replace(account, "0=1", 0, true);
    push(account, "1", "x");
    before = head(account);
    rg_roster_builder_init(&builder);
    for (int i = 0; i < RG_JOURNAL_MAX; i++) {
        (void)snprintf(jid, sizeof(jid), "j%d", i);
        rg_roster_builder_add_take(&builder, item(jid, NULL));
    }
    large = rg_roster_builder_finish(&builder);
    assert_int_equal(rg_account_replace(account, large, NOW, &changes, &reset), RG_OK);
    assert_int_equal(changes, 0);
    assert_true(reset);
    assert_int_equal(account->journal_n, 0);
    assert_int_equal(account->journal_bytes, 0);
    assert_int_equal(account->head.seq, before.at.seq + 2 + RG_JOURNAL_MAX);
    assert_false(rg_account_since(account, &before, &index));
    rg_roster_unref(large);
    rg_account_unref(account);
}

static void account__push__advances_only_if_it_differs(void **state)
{
    struct rg_account *account = rg_account_create("a@b");

    (void)state;
    replace(account, "x=1", 0, true);
    assert_false(push(account, "x", "1"));
    assert_int_equal(account->head.seq, 1);
    assert_true(push(account, "x", "2"));
    assert_int_equal(account->head.seq, 2);
    assert_true(push(account, "y", "1"));
    assert_true(push(account, "x", NULL));
    assert_false(push(account, "x", NULL));
    assert_int_equal(account->head.seq, 4);
    assert_int_equal(account->journal_n, 3);
    check_change(account, 0, "x=2");
    check_change(account, 1, "y=1");
    check_change(account, 2, "-x");
    check_journal(account);
    assert_int_equal(account->roster->n, 1);
    rg_account_unref(account);
}

static void account__push__keeps_older_snapshots(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_roster *held;

    (void)state;
    replace(account, "x=1", 0, true);
    held = rg_roster_ref(account->roster);
    push(account, "x", "2");
    assert_string_equal(held->items[0]->name, "1");
    rg_account_unref(account);
    assert_string_equal(held->items[0]->name, "1");
    rg_roster_unref(held);
}

static void account__push__unknown_starts_from_empty(void **state)
{
    struct rg_account *account = rg_account_create("a@b");

    (void)state;
    assert_false(push(account, "x", NULL));
    assert_int_equal(account->presence, RG_ROSTER_UNKNOWN);
    assert_true(push(account, "x", "1"));
    assert_int_equal(account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(account->roster->n, 1);
    check_journal(account);
    replace(account, "x=1 y=1", 1, false); /* known now: an ordinary change */
    rg_account_unref(account);
}

/* The roster vanishes and comes back: nothing held before may be continued. */
static void account__not_found__breaks_continuity(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_version before, older;
    size_t index;

    (void)state;
    replace(account, "x=1 y=1", 0, true);
    older = head(account);
    push(account, "z", "1");
    before = head(account);
    rg_account_set_ver(account, "v", 1);
    rg_account_set_not_found(account);
    assert_int_equal(account->presence, RG_ROSTER_NOT_FOUND);
    assert_null(account->roster);
    assert_false(account->ver.known);
    assert_false(rg_account_since(account, &before, &index));
    assert_true(push(account, "n", "1"));
    assert_int_equal(account->presence, RG_ROSTER_PRESENT);
    assert_int_equal(account->roster->n, 1);
    assert_false(rg_account_since(account, &before, &index));
    assert_false(rg_account_since(account, &older, &index));
    assert_true(account->head.seq > before.at.seq);
    check_journal(account);
    rg_account_unref(account);
}

static void account__not_found__then_a_full_answer(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_version before;
    size_t index;

    (void)state;
    replace(account, "x=1", 0, true);
    before = head(account);
    rg_account_set_not_found(account);
    rg_account_set_not_found(account);
    replace(account, "x=1", 0, true);
    assert_false(rg_account_since(account, &before, &index));
    rg_account_unref(account);
}

static void account__since__knows_each_version_of_the_journal(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_version at[6];
    size_t index = 99;
    char name[16];

    (void)state;
    replace(account, "x=0", 0, true);
    at[0] = head(account);
    for (int i = 1; i < 6; i++) {
        (void)snprintf(name, sizeof(name), "%d", i);
        push(account, "x", name);
        at[i] = head(account);
    }
    for (size_t i = 0; i < 6; i++) {
        assert_true(rg_account_since(account, &at[i], &index));
        assert_int_equal(index, i);
    }
    assert_int_equal(account->journal_n, 5);
    rg_account_trim(account, NOW, account->journal_bytes - 1);
    assert_int_equal(account->journal_n, 4);
    assert_false(rg_account_since(account, &at[0], &index));
    assert_true(rg_account_since(account, &at[1], &index));
    assert_int_equal(index, 0);
    rg_account_unref(account);
}

static void account__since__wants_epoch_mark_and_seq(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_version at, wrong;
    size_t index = 99;

    (void)state;
    replace(account, "x=0", 0, true);
    at = head(account);
    push(account, "x", "1");
    wrong = at;
    wrong.epoch++;
    assert_false(rg_account_since(account, &wrong, &index));
    wrong = at;
    wrong.at.mark++;
    assert_false(rg_account_since(account, &wrong, &index));
    wrong = head(account);
    wrong.at.mark++;
    assert_false(rg_account_since(account, &wrong, &index));
    wrong = head(account);
    wrong.at.seq++;
    assert_false(rg_account_since(account, &wrong, &index));
    wrong = at;
    wrong.at.seq--;
    assert_false(rg_account_since(account, &wrong, &index));
    wrong.at.seq = UINT64_MAX;
    assert_false(rg_account_since(account, &wrong, &index));
    assert_int_equal(index, 99);
    rg_account_unref(account);
}

/* An account that another process wrote: its mark goes on until we change something. */
static void account__mark__is_drawn_at_the_first_own_change(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_version theirs;
    size_t index;

    (void)state;
    replace(account, "x=0", 0, true);
    push(account, "x", "1");
    theirs = head(account);
    account->mark = 0; /* as after loading it */
    assert_false(push(account, "x", "1"));
    replace(account, "x=1", 0, false);
    assert_true(account->mark == 0);
    assert_true(rg_stamp_equal(account->head, theirs.at));
    assert_true(push(account, "x", "2"));
    assert_true(account->mark != 0 && account->mark != theirs.at.mark);
    assert_true(account->head.mark == account->mark);
    assert_int_equal(account->head.seq, theirs.at.seq + 1);
    assert_true(rg_account_since(account, &theirs, &index)); /* still continued */
    assert_int_equal(index, 1);
    check_journal(account);
    rg_account_unref(account);
}

static void account__journal__holds_a_thousand(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    char name[16];

    (void)state;
    replace(account, "", 0, true);
    for (int i = 0; i < 3 * RG_JOURNAL_MAX; i++) {
        (void)snprintf(name, sizeof(name), "%d", i % 7);
        push(account, "x", name);
        assert_true(account->journal_n <= RG_JOURNAL_MAX);
        assert_true(account->journal_bytes <= RG_JOURNAL_BYTES);
    }
    check_journal(account);
    assert_int_equal(account->head.seq, 1 + 3 * RG_JOURNAL_MAX);
    rg_account_unref(account);
}

static void account__journal__holds_64_kib(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    char name[1001];

    (void)state;
    replace(account, "", 0, true);
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    for (int i = 0; i < 200; i++) {
        name[0] = (char)('a' + i % 26);
        push(account, "x", name);
        assert_true(account->journal_bytes <= RG_JOURNAL_BYTES);
    }
    assert_true(account->journal_n > 40 && account->journal_n < 66);
    check_journal(account);
    rg_account_unref(account);
}

/* One change larger than the whole bound is still told to those who listen. */
static void account__journal__keeps_the_newest_at_least(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    char *name = calloc(1, RG_JOURNAL_BYTES + 2);

    (void)state;
    memset(name, 'n', RG_JOURNAL_BYTES + 1);
    replace(account, "", 0, true);
    push(account, "x", "1");
    push(account, "x", name);
    assert_int_equal(account->journal_n, 1);
    push(account, "x", "2");
    assert_int_equal(account->journal_n, 1);
    check_change(account, 0, "x=2");
    check_journal(account);
    free(name);
    rg_account_unref(account);
}

static void account__trim__drops_what_is_a_week_old(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    bool changed;

    (void)state;
    replace(account, "", 0, true);
    for (int day = 0; day < 10; day++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "%d", day);
        assert_int_equal(
            rg_account_push_take(account, item("x", name), "x", NOW + day * 86400, &changed),
            RG_OK);
    }
    assert_int_equal(account->journal_n, 8); /* days 2 to 9 */
    check_change(account, 0, "x=2");
    rg_account_trim(account, NOW + 16 * 86400, SIZE_MAX);
    assert_int_equal(account->journal_n, 1);
    rg_account_trim(account, NOW + 17 * 86400, SIZE_MAX);
    assert_int_equal(account->journal_n, 0);
    assert_int_equal(account->journal_bytes, 0);
    rg_account_unref(account);
}

static void account__change__outlives_the_account(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    struct rg_change *held;

    (void)state;
    replace(account, "", 0, true);
    push(account, "x", "1");
    held = rg_change_ref(rg_account_change(account, 0));
    rg_account_unref(account);
    assert_string_equal(held->item->name, "1");
    rg_change_unref(held);
    rg_change_unref(NULL);
}

static void account__ver__is_bytes(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    char large[RG_SERVER_VER_MAX + 1] = "";

    (void)state;
    rg_account_set_ver(account, "a\0b", 3);
    assert_true(account->ver.known);
    assert_int_equal(account->ver.len, 3);
    assert_memory_equal(account->ver.bytes, "a\0b", 3);
    rg_account_set_ver(account, large, RG_SERVER_VER_MAX);
    assert_true(account->ver.known);
    rg_account_set_ver(account, large, RG_SERVER_VER_MAX + 1);
    assert_false(account->ver.known);
    rg_account_set_ver(account, "x", 1);
    rg_account_set_ver(account, NULL, 0);
    assert_false(account->ver.known);
    assert_null(account->ver.bytes);
    rg_account_unref(account);
}

static void account__version__is_the_heads_token(void **state)
{
    struct rg_account *account = rg_account_create("a@b");
    char token[RG_VERSION_SIZE];
    struct rg_version parsed;
    size_t len;

    (void)state;
    replace(account, "x=1", 0, true);
    len = rg_account_version(account, token);
    assert_true(rg_version_parse(&parsed, token, len));
    assert_true(parsed.epoch == account->epoch && rg_stamp_equal(parsed.at, account->head));
    rg_account_unref(account);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(account__create__is_unknown),
        cmocka_unit_test(account__replace__first_is_a_snapshot),
        cmocka_unit_test(account__replace__first_may_be_empty),
        cmocka_unit_test(account__replace__same_set_changes_nothing),
        cmocka_unit_test(account__replace__diffs_in_jid_order),
        cmocka_unit_test(account__replace__by_nothing_removes_all),
        cmocka_unit_test(account__replace__too_many_start_the_journal_anew),
        cmocka_unit_test(account__push__advances_only_if_it_differs),
        cmocka_unit_test(account__push__keeps_older_snapshots),
        cmocka_unit_test(account__push__unknown_starts_from_empty),
        cmocka_unit_test(account__not_found__breaks_continuity),
        cmocka_unit_test(account__not_found__then_a_full_answer),
        cmocka_unit_test(account__since__knows_each_version_of_the_journal),
        cmocka_unit_test(account__since__wants_epoch_mark_and_seq),
        cmocka_unit_test(account__mark__is_drawn_at_the_first_own_change),
        cmocka_unit_test(account__journal__holds_a_thousand),
        cmocka_unit_test(account__journal__holds_64_kib),
        cmocka_unit_test(account__journal__keeps_the_newest_at_least),
        cmocka_unit_test(account__trim__drops_what_is_a_week_old),
        cmocka_unit_test(account__change__outlives_the_account),
        cmocka_unit_test(account__ver__is_bytes),
        cmocka_unit_test(account__version__is_the_heads_token),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

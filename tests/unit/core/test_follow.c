/* Accounts that several instances share (follow.c). */
#include "tests/unit/core/helper_shared.h"

static bool door_is_open(struct scene *scene)
{
    struct rg_view view;
    if (rg_door_look(rg_core_door(scene->w->core), &scene->by->op->out.claims, w_now(scene->w),
                     &view) != RG_OK)
        return false;
    rg_view_fini(&view);
    return true;
}

static const char *name_of(const struct call *roster)
{
    c_expect(roster, RG_OK);
    return roster->op->out.view.snapshot->roster->items[0]->name;
}

/* A stream that has been told what there is. */
static struct reader *listen_to(struct scene *scene)
{
    struct call *opened;
    struct reader *reader =
        r_open(scene->w, scene->by, NULL, RG_EVENT_ALWAYS | RG_EVENT_ROSTER_SET, &opened);
    if (sh_questions() != 0)
        sh_answer(scene->w, RG_SYNC_LOOK, RG_ROLE_FOLLOWER);
    r_expect(reader, "roster", "Romeo");
    r_expect(reader, "sync", "live");
    return reader;
}

/* ---- the owner */

static void owner__change_not_kept_yet__nobody_is_told_and_reads_wait(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_OWNER, ROMEO "|Romeo|both|");
    struct reader *reader = listen_to(&scene);
    assert_true(door_is_open(&scene));
    sh_hold_commits(true);
    fake_push(scene.session, ROMEO "|R2|both|", "v2");
    r_nothing(reader);
    /* Others may show it from now on, so nobody here may be shown what was before. */
    assert_false(door_is_open(&scene));
    struct call *read = c_do(scene.w, RG_OP_ROSTER, scene.by);
    c_pending(read);
    sh_keep(scene.w);
    assert_string_equal(name_of(read), "R2");
    assert_true(door_is_open(&scene));
    r_expect(reader, "roster.set", "R2");
}

static void owner__lease_over__looks_before_it_shows(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_OWNER, ROMEO "|Romeo|both|");
    sh_lease(w_now(scene.w) - 1);
    assert_false(door_is_open(&scene));
    struct call *read = c_do(scene.w, RG_OP_ROSTER, scene.by);
    c_pending(read);
    sh_answer(scene.w, RG_SYNC_LOOK, RG_ROLE_OWNER);
    assert_string_equal(name_of(read), "Romeo");
}

/* What it knows may be older than what others have been told: no condition is judged by that.
 */
static void owner__lease_over__finds_out_before_it_writes(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_OWNER, ROMEO "|Romeo|both|");
    sh_lease(w_now(scene.w) - 1);
    struct call *put = s_put(&scene, NURSE, "Nurse", "");
    assert_int_equal(s_in_flight(scene.session), 0);
    sh_answer(scene.w, RG_SYNC_TAKE, RG_ROLE_OWNER);
    assert_int_equal(s_in_flight(scene.session), 1);
    fake_push(scene.session, NURSE "|Nurse|none|", "v2");
    fake_result(fake_write(scene.session));
    s_expect_item(put, NURSE "|Nurse|none|");
    /* Overtaken: nothing is sent. */
    put = s_put(&scene, ROMEO, "R2", "");
    sh_answer(scene.w, RG_SYNC_TAKE, RG_ROLE_FOLLOWER);
    c_expect(put, RG_E_UNREACHABLE);
    assert_int_equal(s_in_flight(scene.session), 0);
}

static void owner__asked__gives_it_up_once_nothing_is_under_way(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_OWNER, ROMEO "|Romeo|both|");
    struct call *put = s_put(&scene, NURSE, "Nurse", "");
    sh_asked(scene.w);
    assert_int_equal(sh_given_up(), 0);
    struct call *next = s_put(&scene, ROMEO, "R2", "");
    assert_int_equal(fake_count(scene.session, FAKE_SET), 1); /* nothing new is begun */
    fake_push(scene.session, NURSE "|Nurse|none|", "v2");
    fake_result(fake_write(scene.session));
    c_expect(put, RG_OK);
    assert_int_equal(sh_given_up(), 1);
    /* What waits has to ask in its turn. */
    c_pending(next);
    sh_answer(scene.w, RG_SYNC_TAKE, RG_ROLE_OWNER);
    fake_answer(fake_get(scene.session), ROMEO "|Romeo|both|;" NURSE "|Nurse|none|", "v2");
    assert_int_equal(fake_count(scene.session, FAKE_SET), 2);
}

static void owner__session_ends__gives_it_up(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_OWNER, ROMEO "|Romeo|both|");
    fake_end(scene.session, RG_E_UNREACHABLE);
    assert_int_equal(sh_given_up(), 1);
}

/* Redis rolled back to when this instance owned it. */
static void owner__named_without_a_session__gives_it_up(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    scene.w->up->refuse_open = RG_E_UNREACHABLE;
    fake_end(scene.session, RG_E_UNREACHABLE);
    w_run(scene.w, 100);
    sh_role(scene.w, RG_ROLE_OWNER, false);
    assert_int_equal(sh_given_up(), 1);
}

/* Others have told of more than this instance knew while it was alone. */
static void owner__of_what_is_not_trusted__reads_before_it_writes(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_OWNER, ROMEO "|Romeo|both|");
    size_t gets = fake_count(scene.session, FAKE_GET);
    sh_role(scene.w, RG_ROLE_OWNER, false);
    assert_int_equal(fake_count(scene.session, FAKE_GET), gets + 1);
    struct call *put = s_put(&scene, NURSE, "Nurse", "");
    assert_int_equal(s_in_flight(scene.session), 0);
    fake_answer(fake_get(scene.session), ROMEO "|R2|both|", "v2");
    assert_int_equal(s_in_flight(scene.session), 1);
    c_pending(put);
    assert_string_equal(name_of(c_do(scene.w, RG_OP_ROSTER, scene.by)), "R2");
}

/* ---- a follower */

static void follower__push__is_left_to_the_owner(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    size_t commits = w_commits(scene.w);
    fake_push(scene.session, ROMEO "|R2|both|", "v2");
    assert_int_equal(w_commits(scene.w), commits);
    struct call *read = c_do(scene.w, RG_OP_ROSTER, scene.by);
    c_pending(read);
    sh_write(scene.w, ROMEO "|R2|both|");
    sh_answer(scene.w, RG_SYNC_LOOK, RG_ROLE_FOLLOWER);
    assert_string_equal(name_of(read), "R2");
}

static void follower__reads_at_once__share_one_look_that_began_after_them(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    struct call *first = c_do(scene.w, RG_OP_ROSTER, scene.by);
    struct call *second = c_do(scene.w, RG_OP_ROSTER, scene.by);
    struct call *third = c_do(scene.w, RG_OP_ROSTER, scene.by);
    assert_int_equal(sh_questions(), 1);
    sh_answer(scene.w, RG_SYNC_LOOK, RG_ROLE_FOLLOWER);
    c_expect(first, RG_OK);
    c_pending(second); /* that look may have been answered before it was asked */
    c_pending(third);
    assert_int_equal(sh_questions(), 1);
    sh_answer(scene.w, RG_SYNC_LOOK, RG_ROLE_FOLLOWER);
    c_expect(second, RG_OK);
    c_expect(third, RG_OK);
}

static void follower__owner_writes__streams_are_told(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    struct reader *reader = listen_to(&scene);
    sh_write(scene.w, NURSE "|Nurse|none|");
    r_expect(reader, "roster.set", "Nurse");
}

static void follower__write__takes_it_and_reads_first(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    size_t gets = fake_count(scene.session, FAKE_GET);
    struct call *put = s_put(&scene, NURSE, "Nurse", "");
    assert_int_equal(fake_count(scene.session, FAKE_GET), gets);
    sh_answer(scene.w, RG_SYNC_TAKE, RG_ROLE_OWNER);
    assert_int_equal(s_in_flight(scene.session), 0);
    fake_answer(fake_get(scene.session), ROMEO "|Romeo|both|", "v2");
    assert_int_equal(s_in_flight(scene.session), 1);
    fake_push(scene.session, NURSE "|Nurse|none|", "v3");
    fake_result(fake_write(scene.session));
    s_expect_item(put, NURSE "|Nurse|none|");
}

static void follower__owner_does_not_answer__write_is_503(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    struct call *put = s_put(&scene, NURSE, "Nurse", "");
    sh_answer(scene.w, RG_SYNC_TAKE, RG_ROLE_FOLLOWER);
    c_expect(put, RG_E_UNREACHABLE);
    assert_int_equal(put->op->err.retry_after_s, 1);
    assert_int_equal(s_in_flight(scene.session), 0);
}

static void follower__owner_gone__claims_it_and_catches_up(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    struct reader *reader = listen_to(&scene);
    sh_role(scene.w, RG_ROLE_FOLLOWER, true);
    sh_answer(scene.w, RG_SYNC_CLAIM, RG_ROLE_OWNER);
    fake_answer(fake_get(scene.session), ROMEO "|R2|both|", "v2");
    r_expect(reader, "roster.set", "R2");
}

/* ---- overtaken */

/* The owner that got in between has not written yet: then there is nothing to go live with. */
static void overtaken__in_the_first_get_with_nothing_known__asks_anew(void **state)
{
    struct world *w = *state;
    struct call *by = c_send(c_sign_in(w, JULIET, "secret"));
    struct fake_session *session = fake_last(w->up);
    fake_bind(session);
    sh_answer(w, RG_SYNC_CLAIM, RG_ROLE_ALONE);
    sh_role(w, RG_ROLE_FOLLOWER, false);
    fake_answer(fake_get(session), ROMEO "|Romeo|both|", "v1");
    c_pending(by);
    sh_answer(w, RG_SYNC_CLAIM, RG_ROLE_FOLLOWER);
    sh_answer(w, RG_SYNC_TAKE, RG_ROLE_OWNER);
    fake_answer(fake_get(session), ROMEO "|Romeo|both|", "v1");
    c_expect(by, RG_OK);
    assert_string_equal(name_of(c_do(w, RG_OP_ROSTER, by)), "Romeo");
}

static void overtaken__while_a_write_waits_for_the_roster__it_asks_anew(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_FOLLOWER, ROMEO "|Romeo|both|");
    struct call *put = s_put(&scene, NURSE, "Nurse", "");
    sh_answer(scene.w, RG_SYNC_TAKE, RG_ROLE_ALONE); /* the store was lost */
    struct fake_call *get = fake_get(scene.session);
    sh_role(scene.w, RG_ROLE_FOLLOWER, false); /* it is back, and somebody else was faster */
    fake_answer(get, ROMEO "|Romeo|both|", "v1");
    c_pending(put);
    sh_answer(scene.w, RG_SYNC_TAKE, RG_ROLE_OWNER);
    fake_answer(fake_get(scene.session), ROMEO "|Romeo|both|", "v1");
    assert_int_equal(s_in_flight(scene.session), 1);
}

static void
overtaken__before_a_change_was_kept__its_write_is_answered_by_the_owner(void **state)
{
    struct scene scene = sh_live(state, RG_ROLE_OWNER, ROMEO "|Romeo|both|");
    struct call *put = s_put(&scene, NURSE, "Nurse", "");
    sh_hold_commits(true);
    fake_push(scene.session, NURSE "|Nurse|none|", "v2");
    fake_result(fake_write(scene.session));
    c_pending(put);
    sh_write(scene.w, ROMEO "|R2|both|"); /* upon the change, as its own session brought it */
    sh_hold_commits(false);
    sh_keep(scene.w);
    s_expect_item(put, NURSE "|Nurse|none|");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, sh_setup, sh_teardown)
    const struct CMUnitTest tests[] = {
        TEST(owner__change_not_kept_yet__nobody_is_told_and_reads_wait),
        TEST(owner__lease_over__looks_before_it_shows),
        TEST(owner__lease_over__finds_out_before_it_writes),
        TEST(owner__asked__gives_it_up_once_nothing_is_under_way),
        TEST(owner__session_ends__gives_it_up),
        TEST(owner__named_without_a_session__gives_it_up),
        TEST(owner__of_what_is_not_trusted__reads_before_it_writes),
        TEST(follower__push__is_left_to_the_owner),
        TEST(follower__reads_at_once__share_one_look_that_began_after_them),
        TEST(follower__owner_writes__streams_are_told),
        TEST(follower__write__takes_it_and_reads_first),
        TEST(follower__owner_does_not_answer__write_is_503),
        TEST(follower__owner_gone__claims_it_and_catches_up),
        TEST(overtaken__in_the_first_get_with_nothing_known__asks_anew),
        TEST(overtaken__while_a_write_waits_for_the_roster__it_asks_anew),
        TEST(overtaken__before_a_change_was_kept__its_write_is_answered_by_the_owner),
    };
    return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}

#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>

#include "gateway/base/random.h"
#include "tests/unit/core/helper_core.h"

static struct rg_snapshot *snapshot_of(const char *roster)
{
    size_t changes;
    bool reset;
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *set = fake_roster(roster);
    struct rg_account *account = rg_account_create(JULIET);
    assert_non_null(account);
    assert_int_equal(rg_account_replace(account, set, 1, &changes, &reset), RG_OK);
    struct rg_snapshot *snapshot = rg_snapshot_create(account);
    assert_non_null(snapshot);
    rg_account_unref(account);
    return snapshot;
}

static struct rg_claims claims_of(const char *user)
{
    struct rg_claims claims = {.given_s = 100};
    memcpy(claims.user, user, strlen(user) + 1);
    memset(claims.sign_in, 1, RG_ID_BYTES);
    memset(claims.password_tag, 2, RG_ID_BYTES);
    return claims;
}

static enum rg_code look(struct rg_door *door, const struct rg_claims *claims, int64_t now_ms)
{
    struct rg_view view = {.snapshot = NULL};
    enum rg_code code = rg_door_look(door, claims, now_ms, &view);
    assert_int_equal(view.snapshot != NULL, code == RG_OK);
    rg_view_fini(&view);
    return code;
}

static void door__published__serves_when_live(void **state)
{
    static const struct {
        enum rg_state state;
        bool served;
    } rows[] = {{RG_STATE_CONNECTING, false},
                {RG_STATE_LIVE, true},
                {RG_STATE_RESUMING, false},
                {RG_STATE_OFFLINE, false}};
    struct rg_door *door = rg_door_create();
    struct rg_snapshot *snapshot = snapshot_of("");
    struct rg_claims claims = claims_of(JULIET);
    (void)state;
    assert_int_equal(look(door, &claims, 5), RG_E_NOT_FOUND);
    assert_int_equal(rg_door_last_used_ms(door, JULIET), 0);
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        rg_door_publish(door, JULIET, rows[i].state, RG_DOOR_FREE, snapshot, NULL, 0);
        assert_int_equal(look(door, &claims, 6), rows[i].served ? RG_OK : RG_E_NOT_FOUND);
    }
    rg_door_publish(door, JULIET, RG_STATE_LIVE, RG_DOOR_FREE, NULL, NULL, 0);
    assert_int_equal(look(door, &claims, 7), RG_E_NOT_FOUND);
    assert_int_equal(rg_door_last_used_ms(door, JULIET), 7);
    rg_door_remove(door, JULIET);
    rg_door_remove(door, JULIET);
    assert_int_equal(look(door, &claims, 8), RG_E_NOT_FOUND);
    rg_snapshot_unref(snapshot);
    rg_door_destroy(door);
}

static void door__ends__refuse_what_they_name(void **state)
{
    struct rg_door *door = rg_door_create();
    struct rg_snapshot *snapshot = snapshot_of("");
    struct rg_claims claims = claims_of(JULIET);
    struct rg_end other = {.kind = RG_END_SIGN_IN, .id = {9}, .at_s = 500};
    struct rg_end rows[3] = {{.kind = RG_END_SIGN_IN, .at_s = 0},
                             {.kind = RG_END_ALL, .at_s = 100},
                             {.kind = RG_END_PASSWORD, .at_s = 0}};
    static const enum rg_code codes[] = {RG_E_UNAUTHORIZED, RG_E_UNAUTHORIZED,
                                         RG_E_CREDENTIALS};
    (void)state;
    memset(rows[0].id, 1, RG_ID_BYTES);
    memset(rows[2].id, 2, RG_ID_BYTES);
    for (size_t i = 0; i < RG_ARRAY_LEN(rows); i++) {
        struct rg_end ends[] = {other, rows[i]};
        rg_door_publish(door, JULIET, RG_STATE_LIVE, RG_DOOR_FREE, snapshot, ends, 2);
        assert_int_equal(look(door, &claims, 1), codes[i]);
        rg_door_publish(door, JULIET, RG_STATE_OFFLINE, RG_DOOR_FREE, snapshot, ends, 2);
        assert_int_equal(look(door, &claims, 1), codes[i]); /* dead even while away */
    }
    rows[1].at_s = 99; /* before the password was given */
    rg_door_publish(door, JULIET, RG_STATE_LIVE, RG_DOOR_FREE, snapshot, rows + 1, 1);
    assert_int_equal(look(door, &claims, 1), RG_OK);
    /* A tag or id of 16 bytes must fit in whole. */
    memset(rows[2].id, 2, RG_ID_BYTES);
    rows[2].id[RG_ID_BYTES - 1] = 3;
    rg_door_publish(door, JULIET, RG_STATE_LIVE, RG_DOOR_FREE, snapshot, rows + 2, 1);
    assert_int_equal(look(door, &claims, 1), RG_OK);
    rg_snapshot_unref(snapshot);
    rg_door_destroy(door);
}

/* ---- many threads */

enum { THREADS = 8, USERS = 16, ROUNDS = 4000 };

struct hammer {
    struct rg_door *door;
    struct rg_snapshot *snapshots[4];
    atomic_bool stop;
    atomic_ulong served, refused;
    char users[USERS][64];
};

static void *hammer_look(void *arg)
{
    struct hammer *hammer = arg;
    for (unsigned i = 0; !atomic_load(&hammer->stop); i++) {
        struct rg_claims claims = claims_of(hammer->users[i % USERS]);
        struct rg_view view;
        if (rg_door_look(hammer->door, &claims, i, &view) != RG_OK) {
            atomic_fetch_add(&hammer->refused, 1);
            continue;
        }
        /* The view outlives whatever the core does meanwhile. */
        struct rg_blob *body = rg_snapshot_body(view.snapshot);
        if (body == NULL || memcmp(body->data, "{\"version\":\"", 12) != 0)
            abort();
        rg_view_fini(&view);
        atomic_fetch_add(&hammer->served, 1);
    }
    return NULL;
}

static void door__hammered__stays_whole(void **state)
{
    struct hammer *hammer = calloc(1, sizeof(*hammer));
    struct rg_end end = {.kind = RG_END_ALL, .at_s = 1000};
    pthread_t threads[THREADS];
    (void)state;
    assert_non_null(hammer);
    hammer->door = rg_door_create();
    rg_door_lease(hammer->door, INT64_MAX);
    for (size_t i = 0; i < RG_ARRAY_LEN(hammer->snapshots); i++)
        hammer->snapshots[i] = snapshot_of("romeo@example.net|Romeo|both|Friends");
    for (int i = 0; i < USERS; i++)
        (void)snprintf(hammer->users[i], sizeof(hammer->users[i]), "u%d@example.com", i);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_look, hammer), 0);
    for (unsigned i = 0;
         i < ROUNDS || atomic_load(&hammer->served) == 0 || atomic_load(&hammer->refused) == 0;
         i++) {
        const char *user = hammer->users[i * 7 % USERS];
        if (i % 5 == 4)
            rg_door_remove(hammer->door, user);
        else
            rg_door_publish(hammer->door, user, i % 3 ? RG_STATE_LIVE : RG_STATE_OFFLINE,
                            RG_DOOR_LEASED, hammer->snapshots[i % 4], &end, i % 4 == 0);
        (void)rg_door_last_used_ms(hammer->door, user);
    }
    atomic_store(&hammer->stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    rg_door_destroy(hammer->door);
    for (size_t i = 0; i < RG_ARRAY_LEN(hammer->snapshots); i++) {
        assert_int_equal(hammer->snapshots[i]->refs, 1);
        rg_snapshot_unref(hammer->snapshots[i]);
    }
    free(hammer);
}

struct makers {
    struct rg_snapshot *snapshot;
    pthread_barrier_t barrier;
    struct rg_blob *bodies[THREADS], *gzips[THREADS];
};

struct maker {
    struct makers *makers;
    int i;
};

static void *make_bodies(void *arg)
{
    struct maker *maker = arg;
    struct makers *makers = maker->makers;
    pthread_barrier_wait(&makers->barrier);
    makers->gzips[maker->i] = rg_snapshot_gzip(makers->snapshot);
    makers->bodies[maker->i] = rg_snapshot_body(makers->snapshot);
    return NULL;
}

static void snapshot__made_by_many__is_one_body(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct makers makers = {.snapshot = snapshot_of("a@example.com|A|both|G;b@x|B|to|")};
        struct maker maker[THREADS];
        pthread_t threads[THREADS];
        pthread_barrier_init(&makers.barrier, NULL, THREADS);
        for (int i = 0; i < THREADS; i++) {
            maker[i] = (struct maker){&makers, i};
            assert_int_equal(pthread_create(&threads[i], NULL, make_bodies, &maker[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < THREADS; i++) {
            assert_ptr_equal(makers.bodies[i], makers.bodies[0]);
            assert_ptr_equal(makers.gzips[i], makers.gzips[0]);
        }
        pthread_barrier_destroy(&makers.barrier);
        rg_snapshot_unref(makers.snapshot);
    }
}

static void snapshot__bodies__say_the_same(void **state)
{
    struct rg_snapshot *snapshot = snapshot_of("b@example.com|B|to|;a@example.com||none?|H,G");
    char want[512];
    char plain[512];
    size_t len = 0;
    (void)state;
    (void)snprintf(
        want, sizeof(want),
        "{\"version\":\"%s\",\"items\":[{\"jid\":\"a@example.com\",\"name\":null,\"groups\":"
        "[\"G\",\"H\"],\"subscription\":\"none\",\"ask\":\"subscribe\",\"approved\":false},"
        "{\"jid\":\"b@example.com\",\"name\":\"B\",\"groups\":[],\"subscription\":\"to\","
        "\"ask\":null,\"approved\":false}]}",
        snapshot->version);
    struct rg_blob *body = rg_snapshot_body(snapshot);
    assert_int_equal(body->len, strlen(want));
    assert_memory_equal(body->data, want, body->len);
    struct rg_blob *gzip = rg_snapshot_gzip(snapshot);
    struct libdeflate_decompressor *decompressor = libdeflate_alloc_decompressor();
    assert_int_equal(libdeflate_gzip_decompress(decompressor, gzip->data, gzip->len, plain,
                                                sizeof(plain), &len),
                     LIBDEFLATE_SUCCESS);
    libdeflate_free_decompressor(decompressor);
    assert_int_equal(len, body->len);
    assert_memory_equal(plain, body->data, len);
    rg_snapshot_unref(snapshot);
}

static void door__shared__owners_serve_while_their_lease_lasts(void **state)
{
    struct rg_door *door = rg_door_create();
    struct rg_snapshot *snapshot = snapshot_of("");
    struct rg_claims claims = claims_of(JULIET);
    (void)state;
    rg_door_publish(door, JULIET, RG_STATE_LIVE, RG_DOOR_LEASED, snapshot, NULL, 0);
    assert_int_equal(look(door, &claims, 1), RG_E_NOT_FOUND);
    rg_door_lease(door, 5);
    assert_int_equal(look(door, &claims, 5), RG_OK);
    assert_int_equal(look(door, &claims, 6), RG_E_NOT_FOUND);
    rg_door_publish(door, JULIET, RG_STATE_LIVE, RG_DOOR_ASK, snapshot, NULL, 0);
    assert_int_equal(look(door, &claims, 5), RG_E_NOT_FOUND);
    rg_snapshot_unref(snapshot);
    rg_door_destroy(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(door__published__serves_when_live),
        cmocka_unit_test(door__shared__owners_serve_while_their_lease_lasts),
        cmocka_unit_test(door__ends__refuse_what_they_name),
        cmocka_unit_test(door__hammered__stays_whole),
        cmocka_unit_test(snapshot__made_by_many__is_one_body),
        cmocka_unit_test(snapshot__bodies__say_the_same),
    };
    struct rg_err err;
    if (rg_random_init(&err) != RG_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/unit/core/helper_shared.h"

struct question {
    struct rg_account *account;
    enum rg_sync how;
    rg_store_sync_fn fn;
    void *arg;
    struct question *next;
};

static struct {
    struct rg_store_ops ops;
    const struct rg_store_ops *plain;
    const struct rg_store_watcher *watcher;
    void *watcher_arg;
    struct question *questions; /* oldest first */
    bool hold;
    rg_store_kept_fn kept;
    void *kept_arg;
    size_t given_up;
} shared;

static bool commit(struct rg_store *store, struct rg_account *account, rg_store_kept_fn fn,
                   void *arg)
{
    (void)shared.plain->commit(store, account, NULL, NULL);
    if (!shared.hold || account->role != RG_ROLE_OWNER)
        return true;
    shared.kept = fn;
    shared.kept_arg = arg;
    return false;
}

static void watch(struct rg_store *store, const struct rg_store_watcher *watcher, void *arg)
{
    (void)store;
    shared.watcher = watcher;
    shared.watcher_arg = arg;
}

static void sync(struct rg_store *store, struct rg_account *account, enum rg_sync how,
                 rg_store_sync_fn fn, void *arg)
{
    struct question *question = calloc(1, sizeof(*question));
    struct question **last = &shared.questions;
    (void)store;
    assert_non_null(question);
    *question = (struct question){.account = account, .how = how, .fn = fn, .arg = arg};
    while (*last != NULL)
        last = &(*last)->next;
    *last = question;
}

static void disown(struct rg_store *store, struct rg_account *account)
{
    (void)store;
    if (account->role != RG_ROLE_OWNER)
        return;
    account->role = RG_ROLE_FOLLOWER;
    account->unled = false;
    account->trusted = false;
    shared.given_up++;
}

int sh_setup(void **state)
{
    if (w_setup(state) != 0)
        return -1;
    struct world *w = *state;
    struct rg_store *store = (struct rg_store *)w->store;
    shared.plain = store->ops;
    shared.ops = *shared.plain;
    shared.ops.commit = commit;
    shared.ops.watch = watch;
    shared.ops.sync = sync;
    shared.ops.disown = disown;
    shared.given_up = 0;
    store->ops = &shared.ops;
    w_restart(w);
    sh_lease(INT64_MAX);
    return 0;
}

static void answer(struct world *w, enum rg_role role)
{
    struct question *question = shared.questions;
    shared.questions = question->next;
    question->account->role = role;
    question->account->unled = false;
    if (role == RG_ROLE_FOLLOWER)
        question->account->trusted = false;
    question->fn(question->arg);
    free(question);
    w_run(w, 0);
}

int sh_teardown(void **state)
{
    struct world *w = *state;
    sh_hold_commits(false);
    if (sh_is_committing())
        sh_keep(w);
    while (shared.questions != NULL)
        answer(w, RG_ROLE_ALONE);
    return w_teardown(state);
}

void sh_hold_commits(bool hold)
{
    shared.hold = hold;
}

bool sh_is_committing(void)
{
    return shared.kept != NULL;
}

void sh_keep(struct world *w)
{
    rg_store_kept_fn kept = shared.kept;
    assert_non_null(kept);
    shared.kept = NULL;
    kept(shared.kept_arg);
    w_run(w, 0);
}

void sh_answer(struct world *w, enum rg_sync how, enum rg_role role)
{
    assert_non_null(shared.questions);
    assert_int_equal(shared.questions->how, how);
    answer(w, role);
}

size_t sh_questions(void)
{
    size_t n = 0;
    for (const struct question *question = shared.questions; question != NULL;
         question = question->next)
        n++;
    return n;
}

size_t sh_given_up(void)
{
    return shared.given_up;
}

void sh_lease(int64_t until_ms)
{
    shared.watcher->leased(shared.watcher_arg, until_ms);
}

void sh_role(struct world *w, enum rg_role role, bool unled)
{
    struct rg_account *account = w_account(w, JULIET);
    account->role = role;
    account->unled = unled;
    account->trusted = false;
    shared.watcher->moved(shared.watcher_arg, account);
    w_run(w, 0);
}

void sh_write(struct world *w, const char *text)
{
    struct rg_account *account = w_account(w, JULIET);
    struct rg_item *item = fake_item(text);
    bool changed;
    assert_int_equal(rg_account_push_take(account, item, item->jid, 1700000000, &changed),
                     RG_OK);
    sh_role(w, RG_ROLE_FOLLOWER, false);
}

void sh_asked(struct world *w)
{
    shared.watcher->asked(shared.watcher_arg, w_account(w, JULIET));
    w_run(w, 0);
}

struct scene sh_live(void **state, enum rg_role role, const char *roster)
{
    struct scene scene = {.w = *state};
    scene.by = c_send(c_sign_in(scene.w, JULIET, "secret"));
    scene.session = fake_last(scene.w->up);
    fake_bind(scene.session);
    sh_answer(scene.w, RG_SYNC_CLAIM, RG_ROLE_OWNER);
    fake_answer(fake_get(scene.session), roster, "v1");
    c_expect(scene.by, RG_OK);
    if (role != RG_ROLE_OWNER)
        sh_role(scene.w, role, false);
    return scene;
}

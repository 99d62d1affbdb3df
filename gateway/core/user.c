#include <stdlib.h>
#include <string.h>

#include "gateway/core/internal.h"

/* A user object lives while something holds it: an op, a stream, a session or one that is
 * wanted back. What must outlast it is in the account, which is the store's. */

struct rg_user *rg_user_find(struct rg_core *core, const char *name)
{
    struct rg_user *user = NULL;
    HASH_FIND(hh, core->users, name, strlen(name), user);
    return user;
}

static void account_loaded(void *arg, struct rg_account *account)
{
    struct rg_user *user = arg;
    if (account == NULL) {
        struct rg_err err;
        (void)rg_fail(&err, RG_E_INTERNAL, "the account could not be loaded");
        user->loading = false;
        rg_user_fail_waiting(user, &err);
        rg_user_release_idle(user);
        return;
    }
    user->loading = false;
    user->account = rg_account_ref(account);
    rg_hub_tell(user);
    rg_user_publish(user);
    rg_user_run_waiting(user);
}

static void load(struct rg_user *user)
{
    struct rg_store *store = user->core->store;
    user->loading = true;
    store->ops->load(store, user->name, account_loaded, user);
}

static void init_lists(struct rg_user *user)
{
    TAILQ_INIT(&user->waiting);
    TAILQ_INIT(&user->verifying);
    TAILQ_INIT(&user->writes);
    TAILQ_INIT(&user->in_flight);
    TAILQ_INIT(&user->lookers);
    TAILQ_INIT(&user->keepers);
    TAILQ_INIT(&user->parked);
    TAILQ_INIT(&user->getters);
    TAILQ_INIT(&user->next_getters);
    TAILQ_INIT(&user->streams);
    STAILQ_INIT(&user->early);
}

struct rg_user *rg_user_obtain(struct rg_core *core, const char *name)
{
    struct rg_user *user = rg_user_find(core, name);
    if (user != NULL && user->account == NULL && !user->loading)
        load(user); /* the last try failed, and the user has not been let go of yet */
    if (user != NULL)
        return user;
    size_t len = strlen(name);
    user = calloc(1, sizeof(*user) + len + 1);
    if (user == NULL)
        return NULL;
    user->core = core;
    user->name_len = len;
    memcpy(user->name, name, len);
    user->last_used_ms = rg_loop_now_ms(core->loop);
    user->told = RG_STATE_OFFLINE;
    init_lists(user);
    if (!rg_pool_timers_init(user)) {
        free(user);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, core->users, user->name, len, user);
    if (user->hh.tbl == NULL) {
        rg_pool_timers_fini(user);
        free(user);
        return NULL;
    }
    load(user);
    return user;
}

void rg_user_destroy(struct rg_user *user)
{
    struct rg_core *core = user->core;
    struct rg_stream *stream;
    HASH_DEL(core->users, user);
    while ((stream = TAILQ_FIRST(&user->streams)) != NULL)
        rg_hub_detach(stream);
    rg_pool_timers_fini(user);
    rg_door_remove(core->door, user->name);
    rg_replica_drop_early(user);
    rg_presence_forget(user);
    rg_user_forget(user, NULL, NULL);
    rg_snapshot_unref(user->snapshot);
    rg_event_unref(user->roster_event);
    if (user->account != NULL)
        core->store->ops->release_take(core->store, user->account);
    free(user->sign_ins);
    free(user);
}

enum rg_state rg_user_state(const struct rg_user *user)
{
    switch (user->link) {
    case RG_LINK_LIVE:
        return RG_STATE_LIVE;
    case RG_LINK_OPENING:
    case RG_LINK_LOADING:
        return user->was_live || rg_user_has_roster(user) ? RG_STATE_RESUMING
                                                          : RG_STATE_CONNECTING;
    case RG_LINK_WAITING:
        return RG_STATE_RESUMING;
    case RG_LINK_CLOSING:
    case RG_LINK_DOWN:
        return RG_STATE_OFFLINE;
    }
    return RG_STATE_OFFLINE;
}

bool rg_user_has_roster(const struct rg_user *user)
{
    return user->account != NULL && user->account->presence == RG_ROSTER_PRESENT;
}

/* ---- ops that wait */

static void wait_over(struct rg_timer *timer)
{
    struct rg_op *op = RG_CONTAINER_OF(timer, struct rg_op, timer);
    op->timed_out = true;
    rg_op_run(op);
}

void rg_op_list_in(struct rg_op_list *list, struct rg_op *op)
{
    TAILQ_INSERT_TAIL(list, op, link);
    op->list = list;
}

/* Arms the op's timer; false (and the op is finished) when out of memory. */
bool rg_op_time(struct rg_op *op, int64_t after_ms)
{
    struct rg_loop *loop = op->core->loop;
    if (!op->timed && rg_timer_init(&op->timer, loop, wait_over) != RG_OK) {
        (void)rg_fail(&op->err, RG_E_INTERNAL, "out of memory");
        rg_op_finish(op);
        return false;
    }
    op->timed = true;
    rg_timer_start(&op->timer, loop, after_ms);
    return true;
}

void rg_user_wait(struct rg_user *user, struct rg_op *op, int64_t wait_ms)
{
    if (wait_ms >= 0 && !op->timed && !rg_op_time(op, wait_ms))
        return;
    rg_op_list_in(&user->waiting, op);
}

void rg_op_list_run(struct rg_op_list *list)
{
    /* Those that wait again go to the end of the same list: only the ones there now are run. */
    struct rg_op_list now = TAILQ_HEAD_INITIALIZER(now);
    struct rg_op *op;
    TAILQ_CONCAT(&now, list, link);
    TAILQ_FOREACH(op, &now, link)
    op->list = &now;
    while ((op = TAILQ_FIRST(&now)) != NULL)
        rg_op_run(op);
}

void rg_user_run_waiting(struct rg_user *user)
{
    rg_op_list_run(&user->waiting);
}

void rg_user_fail_waiting(struct rg_user *user, const struct rg_err *err)
{
    struct rg_op_list now = TAILQ_HEAD_INITIALIZER(now);
    struct rg_op *op;
    TAILQ_CONCAT(&now, &user->waiting, link);
    TAILQ_CONCAT(&now, &user->writes, link);
    TAILQ_FOREACH(op, &now, link)
    op->list = &now;
    while ((op = TAILQ_FIRST(&now)) != NULL)
        rg_op_fail(op, err);
}

/* ---- what the outside may know */

void rg_user_version(const struct rg_user *user, char out[RG_VERSION_SIZE])
{
    out[0] = '\0';
    if (user->shows)
        (void)rg_version_format(out, user->shown.epoch, user->shown.at);
}

static void refresh_snapshot(struct rg_user *user)
{
    char version[RG_VERSION_SIZE];
    rg_user_version(user, version);
    if (user->snapshot != NULL && strcmp(user->snapshot->version, version) == 0)
        return;
    rg_snapshot_unref(user->snapshot);
    rg_event_unref(user->roster_event);
    user->roster_event = NULL;
    /* Out of memory: no snapshot, so that the door lets nobody read an old version. */
    user->snapshot = user->shows ? rg_snapshot_create(user->account) : NULL;
}

static enum rg_door_reads reads(const struct rg_user *user)
{
    if (user->committing)
        return RG_DOOR_ASK;
    switch (user->account->role) {
    case RG_ROLE_ALONE:
        return RG_DOOR_FREE;
    case RG_ROLE_OWNER:
        return RG_DOOR_LEASED;
    case RG_ROLE_FOLLOWER:
        return RG_DOOR_ASK;
    }
    return RG_DOOR_ASK;
}

void rg_user_publish(struct rg_user *user)
{
    if (user->account == NULL)
        return;
    if (!user->committing) /* else the account is ahead of what may be shown */
        refresh_snapshot(user);
    if (rg_door_publish(user->core->door, user->name, rg_user_state(user), reads(user),
                        user->snapshot, user->account->ends, user->account->n_ends) != RG_OK)
        rg_door_remove(user->core->door, user->name); /* then reads ask the core */
}

/* ---- sign-ins and tokens */

static void wipe_token(struct rg_sign_in *sign_in)
{
    if (sign_in->token != NULL)
        rg_wipe(sign_in->token, strlen(sign_in->token));
    free(sign_in->token);
    sign_in->token = NULL;
}

static void drop_sign_in(struct rg_user *user, size_t i)
{
    wipe_token(&user->sign_ins[i]);
    user->sign_ins[i] = user->sign_ins[--user->n_sign_ins];
}

void rg_user_forget(struct rg_user *user, const uint8_t *id, const uint8_t *password_tag)
{
    for (size_t i = user->n_sign_ins; i-- > 0;) {
        const struct rg_sign_in *known = &user->sign_ins[i];
        if ((id == NULL || memcmp(known->id, id, RG_ID_BYTES) == 0) &&
            (password_tag == NULL ||
             memcmp(known->password_tag, password_tag, RG_ID_BYTES) == 0))
            drop_sign_in(user, i);
    }
}

const struct rg_sign_in *rg_user_newest(const struct rg_user *user)
{
    const struct rg_sign_in *newest = NULL;
    int64_t now_s = rg_core_now_s(user->core);
    for (size_t i = 0; i < user->n_sign_ins; i++) {
        const struct rg_sign_in *known = &user->sign_ins[i];
        if (known->token != NULL && known->expires_s > now_s &&
            (newest == NULL || known->given_s > newest->given_s ||
             (known->given_s == newest->given_s && known->issued_s > newest->issued_s)))
            newest = known;
    }
    return newest;
}

/* Presence is sent for it, or a stream of it is to hear of its end. */
static bool is_needed(const struct rg_user *user, const struct rg_sign_in *sign_in)
{
    const struct rg_stream *stream;
    TAILQ_FOREACH(stream, &user->streams, link)
    {
        if (memcmp(stream->sign_in, sign_in->id, RG_ID_BYTES) == 0)
            return true;
    }
    return sign_in->listen;
}

/* The one that ends first, of those that are not needed if there are any. */
static void make_room(struct rg_user *user)
{
    int64_t now_s = rg_core_now_s(user->core);
    size_t goes = 0;
    for (size_t i = user->n_sign_ins; i-- > 0;)
        if (user->sign_ins[i].expires_s <= now_s)
            drop_sign_in(user, i);
    if (user->n_sign_ins < RG_SIGN_INS_MAX)
        return;
    for (size_t i = 1; i < user->n_sign_ins; i++) {
        const struct rg_sign_in *it = &user->sign_ins[i], *other = &user->sign_ins[goes];
        bool needed = is_needed(user, it), other_needed = is_needed(user, other);
        if (needed != other_needed ? other_needed : it->expires_s < other->expires_s)
            goes = i;
    }
    drop_sign_in(user, goes);
}

static struct rg_sign_in *find_sign_in(struct rg_user *user, const uint8_t *id)
{
    for (size_t i = 0; i < user->n_sign_ins; i++)
        if (memcmp(user->sign_ins[i].id, id, RG_ID_BYTES) == 0)
            return &user->sign_ins[i];
    return NULL;
}

static struct rg_sign_in *add_sign_in(struct rg_user *user, const struct rg_claims *claims)
{
    make_room(user);
    struct rg_sign_in *grown = realloc(user->sign_ins, (user->n_sign_ins + 1) * sizeof(*grown));
    if (grown == NULL)
        return NULL;
    user->sign_ins = grown;
    struct rg_sign_in *added = &grown[user->n_sign_ins++];
    *added = (struct rg_sign_in){.given_s = claims->given_s};
    memcpy(added->id, claims->sign_in, RG_ID_BYTES);
    memcpy(added->password_tag, claims->password_tag, RG_ID_BYTES);
    return added;
}

const struct rg_sign_in *rg_user_sign_in(struct rg_user *user, const struct rg_claims *claims)
{
    return find_sign_in(user, claims->sign_in);
}

void rg_user_saw(struct rg_user *user, const struct rg_claims *claims, const char *token)
{
    user->last_used_ms = rg_loop_now_ms(user->core->loop);
    struct rg_sign_in *known = find_sign_in(user, claims->sign_in);
    if (known == NULL)
        known = add_sign_in(user, claims);
    /* Of several tokens of a sign-in the newest says what is wanted. */
    if (known == NULL || (known->token != NULL && claims->issued_s < known->issued_s))
        return;
    if (known->token == NULL || claims->issued_s > known->issued_s) {
        wipe_token(known);
        known->token = strdup(token);
    }
    known->issued_s = claims->issued_s;
    known->expires_s = claims->expires_s;
    known->listen = claims->presence == RG_TOKEN_LISTEN;
    rg_pool_announce(user);
}

int64_t rg_user_presence_until_s(const struct rg_user *user)
{
    int64_t until_s = 0;
    for (size_t i = 0; i < user->n_sign_ins; i++)
        if (user->sign_ins[i].listen && user->sign_ins[i].expires_s > until_s)
            until_s = user->sign_ins[i].expires_s;
    return until_s;
}

bool rg_user_signed_in(const struct rg_user *user)
{
    int64_t now_s = rg_core_now_s(user->core);
    for (size_t i = 0; i < user->n_sign_ins; i++)
        if (user->sign_ins[i].expires_s > now_s)
            return true;
    return false;
}

bool rg_user_busy(const struct rg_user *user)
{
    return user->loading || user->opener != NULL || !TAILQ_EMPTY(&user->waiting) ||
           !TAILQ_EMPTY(&user->verifying) || !TAILQ_EMPTY(&user->writes) ||
           !TAILQ_EMPTY(&user->in_flight) || !TAILQ_EMPTY(&user->parked) ||
           !TAILQ_EMPTY(&user->getters) || !TAILQ_EMPTY(&user->next_getters) ||
           !TAILQ_EMPTY(&user->lookers) || !TAILQ_EMPTY(&user->keepers) || user->committing ||
           user->n_syncs != 0 || user->n_streams != 0;
}

void rg_user_release_idle(struct rg_user *user)
{
    if (user->link == RG_LINK_DOWN && !rg_user_busy(user))
        rg_timer_start(&user->idle_timer, user->core->loop, 0);
}

#include "tests/unit/core/helper_upstream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct fake_upstream *self(struct rg_upstream *base)
{
    return RG_CONTAINER_OF(base, struct fake_upstream, base);
}

static void copy(char *out, size_t size, const char *text)
{
    assert_true(strlen(text) < size);
    memcpy(out, text, strlen(text) + 1);
}

static struct fake_session *find(struct fake_upstream *up, uint64_t id)
{
    for (size_t i = 0; i < up->n_sessions; i++)
        if (up->sessions[i]->id == id)
            return up->sessions[i];
    return NULL;
}

/* ---- endings */

static void answer_all(struct fake_session *session, enum rg_code code)
{
    struct fake_upstream *up = session->up;
    for (size_t i = 0; i < up->n_calls; i++) {
        struct fake_call *call = up->calls[i];
        if (call->session != session || call->answered || call->kind == FAKE_ANNOUNCE)
            continue;
        if (call->kind == FAKE_GET)
            fake_answer_error(call, code, RG_XMPP_NONE);
        else
            fake_error(call, code, RG_XMPP_NONE);
    }
}

void fake_end(struct fake_session *session, enum rg_code why)
{
    struct rg_err err;
    assert_false(session->ended);
    answer_all(session, RG_E_UNCERTAIN);
    session->ended = true;
    (void)rg_fail(&err, why, "the fake ended it");
    session->handler->closed(session->arg, &err);
}

static void deliver(struct rg_message *message)
{
    struct fake_upstream *up = RG_CONTAINER_OF(message, struct fake_upstream, message);
    up->posted = false;
    for (size_t i = 0; i < up->n_sessions; i++)
        if (up->sessions[i]->leaving && !up->sessions[i]->ended)
            fake_end(up->sessions[i], RG_E_CANCELLED);
    if (up->stop_fn == NULL)
        return;
    void (*fn)(void *arg) = up->stop_fn;
    up->stop_fn = NULL;
    fn(up->stop_arg);
}

static void post(struct fake_upstream *up)
{
    if (up->posted)
        return;
    up->posted = true;
    up->message.fn = deliver;
    rg_loop_post(up->loop, &up->message);
}

static void leave(struct fake_session *session)
{
    session->leaving = !session->up->hold_ends;
    if (session->leaving)
        post(session->up);
}

/* ---- the port */

static bool serves(struct rg_upstream *base, const char *domain)
{
    (void)base;
    return strcmp(domain, "example.com") == 0;
}

static enum rg_code open_session(struct rg_upstream *base, enum rg_upstream_mode mode,
                                 const char *user, struct rg_secret *password_take,
                                 const struct rg_upstream_handler *handler, void *arg,
                                 uint64_t *out_session, struct rg_err *err)
{
    struct fake_upstream *up = self(base);
    RG_CLEANUP(rg_secret_destroyp) struct rg_secret *password = password_take;
    if (up->stopped)
        return rg_fail(err, RG_E_CANCELLED, "stopped");
    if (up->refuse_open != RG_OK)
        return rg_fail(err, up->refuse_open, "the fake refuses");
    struct fake_session *session = calloc(1, sizeof(*session));
    assert_non_null(session);
    *session = (struct fake_session){.up = up, .mode = mode, .handler = handler, .arg = arg};
    session->id = 1000 + up->n_sessions;
    copy(session->user, sizeof(session->user), user);
    copy(session->password, sizeof(session->password), rg_secret_data(password));
    up->sessions = realloc(up->sessions, (up->n_sessions + 1) * sizeof(session));
    assert_non_null(up->sessions);
    up->sessions[up->n_sessions++] = session;
    *out_session = session->id;
    return RG_OK;
}

static void close_session(struct rg_upstream *base, uint64_t id)
{
    struct fake_session *session = find(self(base), id);
    if (session == NULL || session->ended)
        return;
    session->close_asked = true;
    leave(session);
}

static void abort_session(struct rg_upstream *base, uint64_t id)
{
    struct fake_session *session = find(self(base), id);
    if (session == NULL || session->ended)
        return;
    session->abort_asked = true;
    leave(session);
}

static struct fake_call *record(struct fake_upstream *up, struct fake_session *session,
                                enum fake_kind kind)
{
    struct fake_call *call = calloc(1, sizeof(*call));
    assert_non_null(call);
    call->kind = kind;
    call->session = session;
    up->calls = realloc(up->calls, (up->n_calls + 1) * sizeof(call));
    assert_non_null(up->calls);
    up->calls[up->n_calls++] = call;
    return call;
}

/* NULL, with err filled: the session takes no calls. */
static struct fake_session *usable(struct fake_upstream *up, uint64_t id, struct rg_err *err)
{
    struct fake_session *session = find(up, id);
    assert_non_null(session);
    if (session->ended || session->close_asked || session->abort_asked)
        up->late++;
    if (session->ended || up->refuse_calls != RG_OK) {
        (void)rg_fail(err, session->ended ? RG_E_UNREACHABLE : up->refuse_calls, "not sent");
        return NULL;
    }
    assert_true(session->bound);
    return session;
}

static enum rg_code roster_get(struct rg_upstream *base, uint64_t id, const char *ver,
                               size_t ver_len, rg_roster_answer_fn fn, void *arg,
                               struct rg_err *err)
{
    struct fake_upstream *up = self(base);
    struct fake_session *session = usable(up, id, err);
    if (session == NULL)
        return err->code;
    struct fake_call *call = record(up, session, FAKE_GET);
    call->has_ver = ver != NULL;
    assert_true(ver_len < sizeof(call->ver));
    if (ver != NULL)
        memcpy(call->ver, ver, ver_len);
    call->ver_len = ver_len;
    call->answer = fn;
    call->arg = arg;
    return RG_OK;
}

static enum rg_code item_set(struct rg_upstream *base, uint64_t id, const char *jid,
                             const char *name, const char *const *groups, size_t n_groups,
                             rg_upstream_done_fn fn, void *arg, struct rg_err *err)
{
    struct fake_upstream *up = self(base);
    struct fake_session *session = usable(up, id, err);
    if (session == NULL)
        return err->code;
    struct fake_call *call = record(up, session, FAKE_SET);
    copy(call->jid, sizeof(call->jid), jid);
    call->has_name = name != NULL;
    copy(call->name, sizeof(call->name), name != NULL ? name : "");
    for (size_t i = 0; i < n_groups; i++) {
        size_t len = strlen(call->groups);
        (void)snprintf(call->groups + len, sizeof(call->groups) - len, "%s%s",
                       i == 0 ? "" : ",", groups[i]);
    }
    call->done = fn;
    call->arg = arg;
    return RG_OK;
}

static enum rg_code item_remove(struct rg_upstream *base, uint64_t id, const char *jid,
                                rg_upstream_done_fn fn, void *arg, struct rg_err *err)
{
    struct fake_upstream *up = self(base);
    struct fake_session *session = usable(up, id, err);
    if (session == NULL)
        return err->code;
    struct fake_call *call = record(up, session, FAKE_REMOVE);
    copy(call->jid, sizeof(call->jid), jid);
    call->done = fn;
    call->arg = arg;
    return RG_OK;
}

static enum rg_code announce(struct rg_upstream *base, uint64_t id, bool available,
                             struct rg_err *err)
{
    struct fake_upstream *up = self(base);
    struct fake_session *session = usable(up, id, err);
    if (session == NULL)
        return err->code;
    record(up, session, FAKE_ANNOUNCE)->available = available;
    return RG_OK;
}

static bool status(struct rg_upstream *base, size_t i, struct rg_upstream_status *out)
{
    if (i > 0)
        return false;
    *out = (struct rg_upstream_status){
        .domain = "example.com", .reachable = true, .sessions = fake_open_sessions(self(base))};
    return true;
}

static void stop(struct rg_upstream *base, void (*fn)(void *arg), void *arg)
{
    struct fake_upstream *up = self(base);
    up->stopped = true;
    up->stop_fn = fn;
    up->stop_arg = arg;
    for (size_t i = 0; i < up->n_sessions; i++)
        up->sessions[i]->leaving = true;
    post(up);
}

static void destroy(struct rg_upstream *base)
{
    fake_upstream_destroy(self(base));
}

static const struct rg_upstream_ops OPS = {
    .serves = serves,
    .open = open_session,
    .close = close_session,
    .abort = abort_session,
    .roster_get = roster_get,
    .item_set = item_set,
    .item_remove = item_remove,
    .announce = announce,
    .status = status,
    .stop = stop,
    .destroy = destroy,
};

struct fake_upstream *fake_upstream_create(struct rg_loop *loop)
{
    struct fake_upstream *up = calloc(1, sizeof(*up));
    assert_non_null(up);
    up->base.ops = &OPS;
    up->loop = loop;
    up->features.roster_versioning = true;
    return up;
}

void fake_upstream_destroy(struct fake_upstream *up)
{
    for (size_t i = 0; i < up->n_sessions; i++)
        free(up->sessions[i]);
    for (size_t i = 0; i < up->n_calls; i++)
        free(up->calls[i]);
    free(up->sessions);
    free(up->calls);
    free(up);
}

/* ---- what the test looks at */

struct fake_session *fake_last(struct fake_upstream *up)
{
    return up->n_sessions == 0 ? NULL : up->sessions[up->n_sessions - 1];
}

size_t fake_open_sessions(const struct fake_upstream *up)
{
    size_t n = 0;
    for (size_t i = 0; i < up->n_sessions; i++)
        n += !up->sessions[i]->ended;
    return n;
}

struct fake_call *fake_call_at(struct fake_session *session, enum fake_kind kind, size_t i)
{
    struct fake_upstream *up = session->up;
    for (size_t c = 0; c < up->n_calls; c++)
        if (up->calls[c]->session == session && up->calls[c]->kind == kind && i-- == 0)
            return up->calls[c];
    return NULL;
}

size_t fake_count(struct fake_session *session, enum fake_kind kind)
{
    size_t n = 0;
    while (fake_call_at(session, kind, n) != NULL)
        n++;
    return n;
}

struct fake_call *fake_get(struct fake_session *session)
{
    for (size_t i = 0; fake_call_at(session, FAKE_GET, i) != NULL; i++)
        if (!fake_call_at(session, FAKE_GET, i)->answered)
            return fake_call_at(session, FAKE_GET, i);
    fail_msg("no roster get is in flight");
    return NULL;
}

struct fake_call *fake_write(struct fake_session *session)
{
    struct fake_upstream *up = session->up;
    for (size_t c = 0; c < up->n_calls; c++) {
        struct fake_call *call = up->calls[c];
        if (call->session == session && !call->answered &&
            (call->kind == FAKE_SET || call->kind == FAKE_REMOVE))
            return call;
    }
    fail_msg("no write is in flight");
    return NULL;
}

/* ---- what the test says */

void fake_bind(struct fake_session *session)
{
    assert_false(session->bound || session->ended);
    session->bound = true;
    session->handler->bound(session->arg, &session->up->features);
    if (session->mode == RG_UPSTREAM_VERIFY)
        fake_end(session, RG_E_CANCELLED);
}

static char *field(char **at, char separator)
{
    char *start = *at;
    char *end = strchr(start, separator);
    if (end == NULL) {
        *at = start + strlen(start);
    } else {
        *end = '\0';
        *at = end + 1;
    }
    return start;
}

struct rg_item *fake_item(const char *text)
{
    char buf[1024];
    const char *groups[16];
    copy(buf, sizeof(buf), text);
    char *at = buf;
    struct rg_item_spec spec = {.jid = field(&at, '|'), .groups = groups};
    spec.name = field(&at, '|');
    char *subscription = field(&at, '|');
    size_t len = strlen(subscription);
    if (len > 0 && (subscription[len - 1] == '?' || subscription[len - 1] == '!')) {
        spec.ask = subscription[len - 1] == '?';
        spec.approved = !spec.ask;
        subscription[len - 1] = '\0';
    }
    if (*subscription != '\0')
        assert_true(rg_subscription_parse(&spec.subscription, subscription));
    while (*at != '\0')
        groups[spec.n_groups++] = field(&at, ',');
    struct rg_item *item = rg_item_create(&spec);
    assert_non_null(item);
    return item;
}

struct rg_roster *fake_roster(const char *text)
{
    struct rg_roster_builder builder;
    char *all = strdup(text);
    char *at = all;
    assert_non_null(all);
    rg_roster_builder_init(&builder);
    while (*at != '\0')
        rg_roster_builder_add_take(&builder, fake_item(field(&at, ';')));
    free(all);
    struct rg_roster *roster = rg_roster_builder_finish(&builder);
    assert_non_null(roster);
    return roster;
}

static void answer(struct fake_call *get, const struct rg_roster_answer *what)
{
    assert_int_equal(get->kind, FAKE_GET);
    assert_false(get->answered);
    get->answered = true;
    get->answer(get->arg, what);
}

void fake_answer(struct fake_call *get, const char *roster, const char *ver)
{
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *set = fake_roster(roster);
    answer(get, &(struct rg_roster_answer){
                    .roster = set, .ver = ver, .ver_len = ver != NULL ? strlen(ver) : 0});
}

void fake_unchanged(struct fake_call *get)
{
    answer(get, &(struct rg_roster_answer){.unchanged = true});
}

static struct rg_err make_err(enum rg_code code, enum rg_condition condition)
{
    struct rg_err err;
    struct rg_xmpp_error said = {.condition = condition};
    if (code == RG_E_XMPP)
        (void)rg_fail_xmpp(&err, &said);
    else
        (void)rg_fail(&err, code, "the fake says so");
    return err;
}

void fake_answer_error(struct fake_call *get, enum rg_code code, enum rg_condition condition)
{
    struct rg_roster_answer what = {.err = make_err(code, condition)};
    answer(get, &what);
}

static void push_take(struct fake_session *session, const char *jid, struct rg_item *item,
                      const char *ver)
{
    struct rg_upstream_push push = {
        .jid = jid, .item = item, .ver = ver, .ver_len = ver != NULL ? strlen(ver) : 0};
    assert_true(session->bound && !session->ended);
    session->handler->push(session->arg, &push);
    rg_item_unref(item);
}

void fake_push(struct fake_session *session, const char *item, const char *ver)
{
    struct rg_item *made = fake_item(item);
    push_take(session, made->jid, made, ver);
}

void fake_push_remove(struct fake_session *session, const char *jid, const char *ver)
{
    push_take(session, jid, NULL, ver);
}

void fake_doubt(struct fake_session *session)
{
    assert_true(session->bound && !session->ended);
    session->handler->doubt(session->arg);
}

void fake_result(struct fake_call *write)
{
    fake_error(write, RG_OK, RG_XMPP_NONE);
}

void fake_error(struct fake_call *write, enum rg_code code, enum rg_condition condition)
{
    struct rg_err err = RG_ERR_INIT;
    if (code != RG_OK)
        err = make_err(code, condition);
    assert_false(write->answered);
    write->answered = true;
    write->done(write->arg, &err);
}

void fake_presence(struct fake_session *session, enum rg_presence_type type, const char *jid,
                   const char *resource, const char *status_text)
{
    struct rg_upstream_presence presence = {
        .type = type, .jid = jid, .resource = resource, .status = status_text};
    if (type == RG_PRESENCE_ERROR)
        presence.error.condition = RG_XMPP_REMOTE_SERVER_NOT_FOUND;
    session->handler->presence(session->arg, &presence);
}

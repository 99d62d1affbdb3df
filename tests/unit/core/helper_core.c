#include "tests/unit/core/helper_core.h"

#include "gateway/base/log.h"
#include "gateway/base/random.h"

enum { START_MS = 1700000000 };

/* ---- a plain store */

struct kept {
    struct rg_account *account;
    struct kept *next;
};

struct job {
    struct rg_message message;
    struct fake_store *store;
    rg_store_load_fn load;
    rg_store_end_fn end;
    void (*stopped)(void *arg);
    void *arg;
    struct rg_account *account;
    struct job *next;
};

struct fake_store {
    struct rg_store base;
    struct rg_loop *loop;
    struct kept *kept;
    struct job *held;
    bool hold, fails;
    size_t commits, ends, revives;
};

static struct fake_store *self(struct rg_store *base)
{
    return RG_CONTAINER_OF(base, struct fake_store, base);
}

static void job_run(struct rg_message *message)
{
    struct job *job = RG_CONTAINER_OF(message, struct job, message);
    if (job->load != NULL && job->store->hold) {
        job->next = job->store->held;
        job->store->held = job;
        return;
    }
    if (job->load != NULL)
        job->load(job->arg, job->account);
    if (job->end != NULL)
        job->end(job->arg, true);
    if (job->stopped != NULL)
        job->stopped(job->arg);
    free(job);
}

static struct job *post(struct fake_store *store, void *arg)
{
    struct job *job = calloc(1, sizeof(*job));
    assert_non_null(job);
    job->store = store;
    job->arg = arg;
    job->message.fn = job_run;
    rg_loop_post(store->loop, &job->message);
    return job;
}

static struct rg_account *kept_account(struct fake_store *store, const char *user)
{
    for (struct kept *kept = store->kept; kept != NULL; kept = kept->next)
        if (strcmp(kept->account->user, user) == 0)
            return kept->account;
    return NULL;
}

static void load(struct rg_store *base, const char *user, rg_store_load_fn fn, void *arg)
{
    struct fake_store *store = self(base);
    struct rg_account *account = kept_account(store, user);
    if (account == NULL) {
        struct kept *kept = calloc(1, sizeof(*kept));
        assert_non_null(kept);
        account = rg_account_create(user);
        assert_non_null(account);
        *kept = (struct kept){.account = account, .next = store->kept};
        store->kept = kept;
    }
    struct job *job = post(store, arg);
    job->account = store->fails ? NULL : account;
    job->load = fn;
}

static bool commit(struct rg_store *base, struct rg_account *account, rg_store_kept_fn fn,
                   void *arg)
{
    (void)account;
    (void)fn;
    (void)arg;
    self(base)->commits++;
    return true;
}

static void end(struct rg_store *base, struct rg_account *account, const struct rg_end *what,
                rg_store_end_fn fn, void *arg)
{
    (void)account;
    (void)what;
    self(base)->ends++;
    post(self(base), arg)->end = fn;
}

static void revive(struct rg_store *base, struct rg_account *account, const uint8_t tag[16])
{
    (void)account;
    (void)tag;
    self(base)->revives++;
}

static void release_take(struct rg_store *base, struct rg_account *account)
{
    (void)base;
    rg_account_unref(account);
}

static void erase(struct rg_store *base, const char *user)
{
    struct rg_account *account = kept_account(self(base), user);
    if (account == NULL)
        return;
    rg_account_set_not_found(account);
    account->presence = RG_ROSTER_UNKNOWN;
    account->head = (struct rg_stamp){.mark = account->mark};
    account->trusted = false;
}

static void health(struct rg_store *base, struct rg_buf *buf)
{
    (void)base;
    rg_buf_puts(buf, "{\"store\":\"fake\",\"degraded\":false}");
}

static void stop(struct rg_store *base, void (*fn)(void *arg), void *arg)
{
    post(self(base), arg)->stopped = fn;
}

static void destroy(struct rg_store *base)
{
    (void)base;
}

static const struct rg_store_ops OPS = {
    .load = load,
    .commit = commit,
    .end = end,
    .revive = revive,
    .release_take = release_take,
    .erase = erase,
    .health = health,
    .stop = stop,
    .destroy = destroy,
};

static void store_destroy(struct fake_store *store)
{
    while (store->kept != NULL) {
        struct kept *kept = store->kept;
        store->kept = kept->next;
        /* The core has let go of every account. */
        assert_int_equal(kept->account->refs, 1);
        rg_account_unref(kept->account);
        free(kept);
    }
    free(store);
}

void w_hold_loads(struct world *w, bool hold)
{
    w->store->hold = hold;
    while (!hold && w->store->held != NULL) {
        struct job *job = w->store->held;
        w->store->held = job->next;
        rg_loop_post(w->loop, &job->message);
    }
}

void w_fail_loads(struct world *w, bool fails)
{
    w->store->fails = fails;
}

size_t w_commits(const struct world *w)
{
    return w->store->commits;
}

struct rg_account *w_account(struct world *w, const char *user)
{
    return kept_account(w->store, user);
}

struct rg_user *w_user(struct world *w, const char *name)
{
    return rg_user_find(w->core, name);
}

/* ---- the world */

static void quiet(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

static void configure(struct rg_config *config)
{
    config->xmpp.idle_timeout_ms = 15 * 60 * 1000;
    config->session.lifetime_ms = 12 * 3600 * 1000;
    config->session.max_age_ms = 7 * 24 * 3600 * 1000LL;
    config->limits.signin_failures = 10;
    config->limits.signin_failures_address = 100;
    config->limits.streams_user = 16;
    config->limits.writes_user = 50;
    config->limits.items = 20000;
    config->limits.stream_queue_bytes = 262144;
}

static void start(struct world *w)
{
    struct rg_err err;
    w->up = fake_upstream_create(w->loop);
    w->core = rg_core_create(&w->config, w->loop, &w->up->base, &w->store->base, w->keys, &err);
    assert_non_null(w->core);
}

int w_setup(void **state)
{
    struct rg_err err;
    struct world *w = calloc(1, sizeof(*w));
    if (w == NULL || rg_random_init(&err) != RG_OK || rg_keys_load("", &w->keys, &err) != RG_OK)
        return -1;
    rg_log_capture(quiet, NULL);
    configure(&w->config);
    w->loop = rg_loop_create_manual(START_MS);
    w->store = calloc(1, sizeof(*w->store));
    assert_non_null(w->store);
    w->store->base.ops = &OPS;
    w->store->loop = w->loop;
    start(w);
    *state = w;
    return 0;
}

static void mark(void *arg)
{
    *(bool *)arg = true;
}

static void shut_down(struct world *w)
{
    bool drained = false;
    bool stopped = false;
    w_hold_loads(w, false);
    w->up->hold_ends = false;
    if (!w->core->draining) {
        rg_core_drain(w->core, mark, &drained);
        w_run(w, 11 * 1000); /* the longest a drain may take */
        assert_true(drained);
    }
    rg_core_stop(w->core, mark, &stopped);
    w_run(w, 1000);
    assert_true(stopped);
    /* Every request was answered once, whatever the test left open. */
    for (const struct call *call = w->calls; call != NULL; call = call->next)
        assert_true(call->op->message.fn == NULL || call->done == 1);
    rg_core_destroy(w->core);
    fake_upstream_destroy(w->up);
}

int w_teardown(void **state)
{
    struct world *w = *state;
    while (w->readers != NULL) {
        struct reader *reader = w->readers;
        w->readers = reader->next;
        if (reader->stream != NULL)
            r_leave(reader);
        rg_buf_fini(&reader->text);
        free(reader);
    }
    w_run(w, 0);
    shut_down(w);
    while (w->calls != NULL) {
        struct call *call = w->calls;
        w->calls = call->next;
        rg_op_destroy(call->op);
        free(call);
    }
    store_destroy(w->store);
    rg_keys_destroy(w->keys);
    rg_loop_destroy(w->loop);
    rg_log_capture(NULL, NULL);
    free(w);
    return 0;
}

void w_restart(struct world *w)
{
    shut_down(w);
    start(w);
}

void w_run(struct world *w, int64_t ms)
{
    rg_loop_advance(w->loop, ms);
}

int64_t w_now(struct world *w)
{
    return rg_loop_now_ms(w->loop);
}

/* ---- requests */

static void on_done(struct rg_op *op)
{
    struct call *call = op->arg;
    call->done++;
    call->done_ms = rg_loop_now_ms(call->w->loop);
}

static char *dup_or_fail(const char *text)
{
    char *copy = strdup(text);
    assert_non_null(copy);
    return copy;
}

struct call *c_new(struct world *w, enum rg_op_kind kind, const struct call *by)
{
    struct call *call = calloc(1, sizeof(*call));
    assert_non_null(call);
    call->w = w;
    call->op = rg_op_create(kind, on_done, call);
    assert_non_null(call->op);
    call->op->received_ms = w_now(w);
    call->next = w->calls;
    w->calls = call;
    if (by != NULL) {
        assert_non_null(by->op->out.token.data);
        call->op->claims = by->op->out.claims;
        call->op->token = dup_or_fail(by->op->out.token.data);
    }
    return call;
}

struct call *c_send(struct call *call)
{
    rg_core_submit(call->w->core, call->op);
    w_run(call->w, 0);
    return call;
}

struct call *c_sign_in(struct world *w, const char *jid, const char *password)
{
    struct call *call = c_new(w, RG_OP_SIGN_IN, NULL);
    assert_true(strlen(jid) < sizeof(call->op->claims.user));
    memcpy(call->op->claims.user, jid, strlen(jid) + 1);
    call->op->in.password = rg_secret_create(password, strlen(password));
    memcpy(call->op->in.address, "192.0.2.0", sizeof("192.0.2.0"));
    return call;
}

struct call *c_live(struct world *w, const char *roster, const char *ver)
{
    struct call *call = c_send(c_sign_in(w, JULIET, "secret"));
    fake_bind(fake_last(w->up));
    fake_answer(fake_get(fake_last(w->up)), roster, ver);
    c_expect(call, RG_OK);
    return call;
}

struct call *c_do(struct world *w, enum rg_op_kind kind, const struct call *by)
{
    return c_send(c_new(w, kind, by));
}

void c_set_jid(struct call *call, const char *jid)
{
    call->op->in.jid = dup_or_fail(jid);
}

void c_set_name(struct call *call, const char *name)
{
    call->op->in.name_set = true;
    call->op->in.name = name != NULL ? dup_or_fail(name) : NULL;
}

void c_set_groups(struct call *call, const char *groups)
{
    size_t n = 0;
    char *copy = dup_or_fail(groups);
    char *at = copy;
    call->op->in.groups_set = true;
    call->op->in.groups = calloc(16, sizeof(char *));
    assert_non_null(call->op->in.groups);
    for (char *group; (group = strsep(&at, ",")) != NULL;)
        if (*group != '\0')
            call->op->in.groups[n++] = dup_or_fail(group);
    call->op->in.n_groups = n;
    free(copy);
}

void c_if_match(struct call *call, const char *version)
{
    struct rg_condition_in *condition = &call->op->in.condition;
    condition->if_match = true;
    condition->versions = calloc(1, sizeof(struct rg_version));
    assert_non_null(condition->versions);
    condition->n_match = rg_version_parse(condition->versions, version, strlen(version));
}

struct call *c_put(struct world *w, const struct call *by, const char *jid, const char *name,
                   const char *groups)
{
    struct call *call = c_new(w, RG_OP_PUT, by);
    c_set_jid(call, jid);
    c_set_name(call, name);
    c_set_groups(call, groups);
    return call;
}

struct call *c_patch(struct world *w, const struct call *by, const char *jid)
{
    struct call *call = c_new(w, RG_OP_PATCH, by);
    c_set_jid(call, jid);
    return call;
}

struct call *c_remove(struct world *w, const struct call *by, const char *jid)
{
    struct call *call = c_new(w, RG_OP_REMOVE, by);
    c_set_jid(call, jid);
    return call;
}

struct call *c_changes(struct world *w, const struct call *by, const char *since, size_t limit,
                       int64_t wait_ms)
{
    struct call *call = c_new(w, RG_OP_CHANGES, by);
    call->op->in.since_known = rg_version_parse(&call->op->in.since, since, strlen(since));
    call->op->in.limit = limit;
    call->op->in.wait_ms = wait_ms;
    return c_send(call);
}

void c_expect(const struct call *call, enum rg_code code)
{
    if (call->done != 1 || call->op->err.code != code)
        fail_msg("done %u times, code %s (%s), expected %s", call->done,
                 rg_code_slug(call->op->err.code), call->op->err.text, rg_code_slug(code));
}

void c_pending(const struct call *call)
{
    assert_int_equal(call->done, 0);
}

bool c_token_dead(struct world *w, const struct call *by, enum rg_code code)
{
    struct rg_view view;
    enum rg_code door =
        rg_door_look(rg_core_door(w->core), &by->op->out.claims, w_now(w), &view);
    if (door == RG_OK)
        rg_view_fini(&view);
    struct call *call = c_do(w, RG_OP_SESSION, by);
    assert_int_equal(call->done, 1);
    return call->op->err.code == code && (door == code || door == RG_E_NOT_FOUND);
}

/* ---- streams */

static void wake(void *arg)
{
    struct reader *reader = arg;
    reader->woken++;
}

struct reader *r_stream(struct world *w, const struct call *by, const char *since,
                        unsigned types, size_t max_bytes, struct call **out_call)
{
    struct rg_stream_options options = {.types = types != 0 ? types : RG_EVENT_ALL};
    struct reader *reader = calloc(1, sizeof(*reader));
    assert_non_null(reader);
    if (since != NULL && strcmp(since, "now") == 0) {
        options.now = true;
    } else if (since != NULL) {
        options.resume = true;
        options.known = rg_version_parse(&options.from, since, strlen(since));
    }
    reader->w = w;
    reader->next = w->readers;
    w->readers = reader;
    reader->stream = rg_stream_create(&by->op->out.claims, &options, max_bytes, wake, reader);
    assert_non_null(reader->stream);
    *out_call = c_new(w, RG_OP_STREAM, by);
    (*out_call)->op->in.stream = rg_stream_ref(reader->stream);
    c_send(*out_call);
    return reader;
}

struct reader *r_open(struct world *w, const struct call *by, const char *since, unsigned types,
                      struct call **out_call)
{
    return r_stream(w, by, since, types, (size_t)w->config.limits.stream_queue_bytes, out_call);
}

void r_pump(struct reader *reader, size_t max)
{
    char buf[4096];
    size_t len = 0;
    assert_true(max <= sizeof(buf));
    for (;;) {
        enum rg_take take = rg_stream_take(reader->stream, buf, max, &len);
        reader->parked = take == RG_TAKE_PARKED;
        reader->ended = take == RG_TAKE_END;
        if (take != RG_TAKE_DATA)
            return;
        assert_in_range(len, 1, max);
        rg_buf_append(&reader->text, buf, len);
    }
}

static void copy_line(char *out, size_t size, const char *from, size_t len)
{
    assert_true(len < size);
    memcpy(out, from, len);
    out[len] = '\0';
}

static void read_line(const char *line, size_t len, struct event_seen *out)
{
    if (len > 4 && memcmp(line, "id: ", 4) == 0)
        copy_line(out->id, sizeof(out->id), line + 4, len - 4);
    else if (len > 7 && memcmp(line, "event: ", 7) == 0)
        copy_line(out->type, sizeof(out->type), line + 7, len - 7);
    else if (len > 6 && memcmp(line, "data: ", 6) == 0)
        out->data = strndup(line + 6, len - 6);
    else
        assert_true(line[0] == ':' || memcmp(line, "retry: ", 7) == 0);
}

bool r_next(struct reader *reader, struct event_seen *out)
{
    for (;;) {
        const char *at = reader->text.data == NULL ? "" : reader->text.data + reader->seen;
        const char *end = strstr(at, "\n\n");
        *out = (struct event_seen){.data = NULL};
        if (end == NULL)
            return false;
        reader->seen += (size_t)(end - at) + 2;
        while (at < end) {
            size_t len = strcspn(at, "\n");
            read_line(at, len, out);
            at += len + 1;
        }
        if (out->type[0] != '\0')
            return true;
        free(out->data);
    }
}

void r_expect(struct reader *reader, const char *type, const char *part)
{
    struct event_seen event;
    r_pump(reader, 4096);
    if (!r_next(reader, &event))
        fail_msg("no event came, expected %s", type);
    if (strcmp(event.type, type) != 0 || strstr(event.data, part) == NULL)
        fail_msg("%s %s came, expected %s with %s", event.type, event.data, type, part);
    free(event.data);
}

void r_nothing(struct reader *reader)
{
    struct event_seen event;
    r_pump(reader, 4096);
    if (r_next(reader, &event))
        fail_msg("%s %s came, expected nothing", event.type, event.data);
}

void r_leave(struct reader *reader)
{
    rg_stream_forget_reader(reader->stream);
    rg_core_close_stream_take(reader->w->core, reader->stream);
    reader->stream = NULL;
    w_run(reader->w, 0);
}

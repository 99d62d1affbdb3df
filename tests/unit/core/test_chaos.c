/* A server that keeps its word, a network that does not, and clients that do everything at
 * once, all drawn from a seed. What must hold whatever happens: each request is answered
 * exactly once, nothing is sent to a session that was given up, no `ver` of a wrong copy is
 * ever confirmed, the ids of a stream have no gap, and nothing is leaked. */
#include "tests/unit/core/helper_core.h"

enum { CONTACTS = 8, STEPS = 400, SEEDS = 60, QUEUE = 512, READERS = 4 };

struct contact {
    bool there;
    unsigned name, subscription;
};

/* A stanza on its way to the gateway. */
struct stanza {
    enum { ANSWER, UNCHANGED, REFUSED_GET, PUSH, RESULT, REFUSED } kind;
    struct fake_call *call;
    unsigned contact;
    char text[2048], ver[24];
};

struct line {
    struct fake_session *session;
    bool interested;
    struct stanza queue[QUEUE];
    size_t head, n;
    size_t calls_seen;
};

struct chaos {
    struct world *w;
    unsigned seed;
    struct contact contacts[CONTACTS];
    unsigned ver;
    struct line *lines[512];
    size_t n_lines;
    struct call *sign_ins[64];
    size_t n_sign_ins;
    struct call *writes[STEPS];
    size_t n_writes;
    struct reader *readers[READERS];
    uint64_t seqs[READERS];
    size_t ok_writes, unchanged;
};

static const char *const SUBSCRIPTIONS[] = {"none", "to", "from", "both"};

static unsigned draw(struct chaos *c, unsigned bound)
{
    c->seed = c->seed * 1103515245U + 12345U;
    return (c->seed >> 16) % bound;
}

static void contact_text(const struct chaos *c, unsigned i, char *out, size_t size)
{
    (void)snprintf(out, size, "c%u@example.com|N%u|%s|", i, c->contacts[i].name,
                   SUBSCRIPTIONS[c->contacts[i].subscription]);
}

static void roster_text(const struct chaos *c, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < CONTACTS; i++) {
        char item[96];
        if (!c->contacts[i].there)
            continue;
        contact_text(c, i, item, sizeof(item));
        len += (size_t)snprintf(out + len, size - len, "%s%s", len != 0 ? ";" : "", item);
    }
}

/* ---- the server */

static struct stanza *put_line(struct chaos *c, struct line *line)
{
    assert_true(line->n < QUEUE);
    struct stanza *stanza = &line->queue[(line->head + line->n++) % QUEUE];
    *stanza = (struct stanza){.kind = ANSWER};
    (void)snprintf(stanza->ver, sizeof(stanza->ver), "v%u", c->ver);
    return stanza;
}

static void push_all(struct chaos *c, unsigned contact)
{
    for (size_t i = 0; i < c->n_lines; i++) {
        if (c->lines[i]->session->ended || !c->lines[i]->interested)
            continue;
        struct stanza *stanza = put_line(c, c->lines[i]);
        stanza->kind = PUSH;
        stanza->contact = contact;
        if (c->contacts[contact].there)
            contact_text(c, contact, stanza->text, sizeof(stanza->text));
    }
}

static void change(struct chaos *c, unsigned contact, bool there, unsigned name,
                   unsigned subscription)
{
    struct contact *held = &c->contacts[contact];
    bool differs = held->there != there ||
                   (there && (held->name != name || held->subscription != subscription));
    *held = (struct contact){.there = there, .name = name, .subscription = subscription};
    c->ver += differs;
    if (differs || draw(c, 2) == 0)
        push_all(c, contact);
}

static void serve_get(struct chaos *c, struct line *line, struct fake_call *call)
{
    char ver[24];
    (void)snprintf(ver, sizeof(ver), "v%u", c->ver);
    struct stanza *stanza = put_line(c, line);
    line->interested = true;
    stanza->call = call;
    if (draw(c, 25) == 0) {
        stanza->kind = REFUSED_GET;
    } else if (call->ver_len == strlen(ver) && memcmp(call->ver, ver, call->ver_len) == 0) {
        stanza->kind = UNCHANGED;
        c->unchanged++;
    } else {
        roster_text(c, stanza->text, sizeof(stanza->text));
    }
}

static void serve_write(struct chaos *c, struct line *line, struct fake_call *call)
{
    unsigned contact = 0;
    unsigned name = 0;
    bool result_first = draw(c, 2) == 0;
    unsigned fate = draw(c, 10);
    assert_int_equal(sscanf(call->jid, "c%u@", &contact), 1);
    (void)sscanf(call->name, "N%u", &name);
    unsigned subscription = c->contacts[contact].there ? c->contacts[contact].subscription : 0;
    if (fate > 1 && !result_first)
        change(c, contact, call->kind == FAKE_SET, name, subscription);
    struct stanza *stanza = put_line(c, line);
    stanza->kind = fate == 0 ? REFUSED : RESULT; /* fate 1: swallowed */
    stanza->call = call;
    if (fate > 1 && result_first)
        change(c, contact, call->kind == FAKE_SET, name, subscription);
}

static struct line *line_of(struct chaos *c, struct fake_session *session)
{
    for (size_t i = 0; i < c->n_lines; i++)
        if (c->lines[i]->session == session)
            return c->lines[i];
    assert_true(c->n_lines < RG_ARRAY_LEN(c->lines));
    struct line *line = calloc(1, sizeof(*line));
    assert_non_null(line);
    line->session = session;
    c->lines[c->n_lines++] = line;
    return line;
}

/* The server reads what was sent to it, in order. */
static void serve(struct chaos *c)
{
    struct fake_upstream *up = c->w->up;
    for (size_t i = 0; i < up->n_calls; i++) {
        struct fake_call *call = up->calls[i];
        struct line *line = line_of(c, call->session);
        if (i < line->calls_seen || call->session->ended)
            continue;
        line->calls_seen = i + 1;
        if (call->kind == FAKE_GET)
            serve_get(c, line, call);
        else if (call->kind != FAKE_ANNOUNCE)
            serve_write(c, line, call);
    }
}

static void deliver(struct line *line)
{
    if (line->n == 0 || line->session->ended)
        return;
    struct stanza stanza = line->queue[line->head];
    char jid[32];
    line->head = (line->head + 1) % QUEUE;
    line->n--;
    (void)snprintf(jid, sizeof(jid), "c%u@example.com", stanza.contact);
    switch (stanza.kind) {
    case ANSWER:
        fake_answer(stanza.call, stanza.text, stanza.ver);
        break;
    case UNCHANGED:
        fake_unchanged(stanza.call);
        break;
    case REFUSED_GET:
        fake_answer_error(stanza.call, RG_E_XMPP, RG_XMPP_RESOURCE_CONSTRAINT);
        break;
    case PUSH:
        if (stanza.text[0] != '\0')
            fake_push(line->session, stanza.text, stanza.ver);
        else
            fake_push_remove(line->session, jid, stanza.ver);
        break;
    case RESULT:
        fake_result(stanza.call);
        break;
    case REFUSED:
        fake_error(stanza.call, RG_E_XMPP, RG_XMPP_NOT_ALLOWED);
    }
}

/* ---- the network */

static void move_session(struct chaos *c, struct fake_session *session)
{
    if (session->ended)
        return;
    if (session->close_asked || session->abort_asked) {
        fake_end(session, RG_E_CANCELLED);
    } else if (!session->bound) {
        if (strcmp(session->password, "secret") != 0)
            fake_end(session, RG_E_UNAUTHORIZED);
        else if (draw(c, 4) == 0)
            fake_end(session, draw(c, 2) ? RG_E_UNREACHABLE : RG_E_TIMEOUT);
        else
            fake_bind(session);
    } else if (draw(c, 12) == 0) {
        fake_end(session, RG_E_UNREACHABLE);
    }
}

static void move_some(struct chaos *c, unsigned one_in)
{
    for (size_t i = 0; i < c->w->up->n_sessions; i++)
        if (!c->w->up->sessions[i]->ended && draw(c, one_in) == 0)
            move_session(c, c->w->up->sessions[i]);
}

/* ---- the clients */

static const struct call *some_sign_in(struct chaos *c)
{
    for (int i = 0; i < 8 && c->n_sign_ins > 0; i++) {
        const struct call *call = c->sign_ins[draw(c, (unsigned)c->n_sign_ins)];
        if (call->done == 1 && call->op->err.code == RG_OK)
            return call;
    }
    return NULL;
}

static void write_one(struct chaos *c, const struct call *by)
{
    char jid[32];
    char name[16];
    struct call *call;
    (void)snprintf(jid, sizeof(jid), "c%u@example.com", draw(c, CONTACTS));
    (void)snprintf(name, sizeof(name), "N%u", draw(c, 3));
    switch (draw(c, 3)) {
    case 0:
        call = c_put(c->w, by, jid, name, "");
        break;
    case 1:
        call = c_patch(c->w, by, jid);
        c_set_name(call, name);
        break;
    default:
        call = c_remove(c->w, by, jid);
    }
    if (draw(c, 3) == 0 && by->op->version[0] != '\0')
        c_if_match(call, by->op->version);
    c->writes[c->n_writes++] = c_send(call);
}

static void open_stream(struct chaos *c, const struct call *by)
{
    struct call *call;
    unsigned i = draw(c, READERS);
    if (c->readers[i] != NULL)
        r_leave(c->readers[i]);
    c->seqs[i] = 0;
    c->readers[i] = r_stream(c->w, by, NULL, 0, 600 + draw(c, 4000), &call);
    w_run(c->w, 0);
}

static void act(struct chaos *c)
{
    const struct call *by = some_sign_in(c);
    unsigned what = draw(c, 20);
    if (by == NULL || what == 0) {
        if (c->n_sign_ins == RG_ARRAY_LEN(c->sign_ins))
            return;
        struct call *call = c_sign_in(c->w, JULIET, draw(c, 4) ? "secret" : "wrong");
        c->sign_ins[c->n_sign_ins++] = call;
        call->op->in.listen = draw(c, 2) == 0;
        c_send(call);
    } else if (what < 8) {
        write_one(c, by);
    } else if (what < 10) {
        open_stream(c, by);
    } else if (what == 10) {
        struct call *call = c_new(c->w, RG_OP_SIGN_OUT, by);
        call->op->in.all = draw(c, 3) == 0;
        c_send(call);
    } else if (what == 11) {
        c_do(c->w, RG_OP_RENEW, by);
    } else if (what < 15) {
        c_changes(c->w, by, by->op->version, 1 + draw(c, 5), draw(c, 2) ? 30000 : 0);
    } else {
        struct call *call = c_new(c->w, RG_OP_ROSTER, by);
        call->op->in.refresh = draw(c, 2) == 0;
        c_send(call);
    }
}

/* ---- what must hold */

static void check_writes(struct chaos *c)
{
    for (size_t i = 0; i < c->n_writes; i++) {
        struct call *call = c->writes[i];
        if (call == NULL || call->done == 0)
            continue;
        c->writes[i] = NULL;
        if (call->op->err.code != RG_OK)
            continue;
        c->ok_writes++;
        assert_true(call->op->version[0] != '\0');
        assert_int_equal(call->op->out.item == NULL, call->op->kind == RG_OP_REMOVE);
    }
}

static void read_streams(struct chaos *c, size_t max)
{
    for (unsigned i = 0; i < READERS; i++) {
        char buf[512];
        size_t len = 0;
        struct event_seen event;
        struct rg_version version;
        struct reader *reader = c->readers[i];
        if (reader == NULL)
            continue;
        if (rg_stream_take(reader->stream, buf, max, &len) == RG_TAKE_DATA)
            rg_buf_append(&reader->text, buf, len);
        while (r_next(reader, &event)) {
            if (event.id[0] != '\0') {
                assert_true(rg_version_parse(&version, event.id, strlen(event.id)));
                assert_true(version.at.seq >= c->seqs[i]);
                if (strncmp(event.type, "roster.", 7) == 0)
                    assert_int_equal(version.at.seq, c->seqs[i] + 1);
                c->seqs[i] = version.at.seq;
            }
            free(event.data);
        }
    }
}

static void run_seed(struct chaos *c)
{
    c->w->up->hold_ends = true;
    for (int step = 0; step < STEPS; step++) {
        if (draw(c, 3) == 0)
            act(c);
        if (draw(c, 6) == 0) {
            change(c, draw(c, CONTACTS), draw(c, 4) != 0, draw(c, 3), draw(c, 4));
        }
        serve(c);
        for (size_t i = 0; i < c->n_lines; i++)
            for (unsigned n = draw(c, 4); n > 0; n--) {
                deliver(c->lines[i]);
                serve(c);
                check_writes(c);
            }
        if (draw(c, 4) == 0)
            move_some(c, 3);
        read_streams(c, 1 + draw(c, 400));
        w_run(c->w, draw(c, 5) == 0 ? (int64_t)draw(c, 40000) : (int64_t)draw(c, 150));
        assert_int_equal(c->w->up->late, 0);
    }
}

/* Nothing breaks any more. */
static void calm(struct chaos *c, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        serve(c);
        for (size_t l = 0; l < c->n_lines; l++)
            deliver(c->lines[l]);
        for (size_t s = 0; s < c->w->up->n_sessions; s++) {
            struct fake_session *session = c->w->up->sessions[s];
            if (session->ended)
                continue;
            if (session->close_asked || session->abort_asked)
                fake_end(session, RG_E_CANCELLED);
            else if (!session->bound && strcmp(session->password, "secret") != 0)
                fake_end(session, RG_E_UNAUTHORIZED);
            else if (!session->bound)
                fake_bind(session);
        }
        w_run(c->w, 500);
    }
}

/* At rest: one more sign-in, and the copy is the server's roster. */
static void settle(struct chaos *c)
{
    struct world *w = c->w;
    struct call *by = NULL;
    char text[2048];
    calm(c, QUEUE);
    for (int i = 0; i < 5 && (by == NULL || by->op->err.code != RG_OK); i++) {
        by = c_send(c_sign_in(w, JULIET, "secret")); /* the server may refuse a get */
        calm(c, 100);
    }
    c_expect(by, RG_OK);
    check_writes(c);
    struct rg_account *account = w_account(w, JULIET);
    roster_text(c, text, sizeof(text));
    RG_CLEANUP(rg_roster_unrefp) struct rg_roster *wanted = fake_roster(text);
    assert_int_equal(account->roster->n, wanted->n);
    for (size_t i = 0; i < wanted->n; i++)
        assert_true(rg_item_equal(account->roster->items[i], wanted->items[i]));
}

static void core__anything_happens__keeps_its_promises(void **state)
{
    size_t ok_writes = 0;
    size_t unchanged = 0;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct chaos *c = calloc(1, sizeof(*c));
        void *world = NULL;
        assert_non_null(c);
        assert_int_equal(w_setup(&world), 0);
        c->w = world;
        c->w->config.limits.signin_failures = 1000;
        c->seed = seed;
        c->ver = 1;
        run_seed(c);
        settle(c);
        for (unsigned i = 0; i < READERS; i++)
            c->readers[i] = NULL;
        ok_writes += c->ok_writes;
        unchanged += c->unchanged;
        assert_int_equal(w_teardown(&world), 0); /* each request once, each account let go */
        for (size_t i = 0; i < c->n_lines; i++)
            free(c->lines[i]);
        free(c);
    }
    /* It did try what it is about. */
    assert_true(ok_writes > SEEDS * 3);
    assert_true(unchanged > SEEDS);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(core__anything_happens__keeps_its_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

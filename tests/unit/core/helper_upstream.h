/* A scripted rg_upstream: nothing happens by itself but what the core asked for (close, abort),
 * and the test says the rest. Every call is recorded. Callbacks come from the test's own calls
 * or from messages, never inside a call of the core. */
#ifndef TESTS_UNIT_CORE_HELPER_UPSTREAM_H
#define TESTS_UNIT_CORE_HELPER_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/loop.h"
#include "gateway/ports/upstream.h"

enum fake_kind { FAKE_GET, FAKE_SET, FAKE_REMOVE, FAKE_ANNOUNCE };

struct fake_session;

struct fake_call {
    enum fake_kind kind;
    struct fake_session *session;
    bool has_ver; /* FAKE_GET: a `ver` attribute was to be sent */
    char ver[256];
    size_t ver_len;
    char jid[128];
    char name[128];
    bool has_name;
    char groups[256]; /* joined by commas, in the order sent */
    bool available;   /* FAKE_ANNOUNCE */
    bool answered;
    rg_roster_answer_fn answer;
    rg_upstream_done_fn done;
    void *arg;
};

struct fake_session {
    struct fake_upstream *up;
    uint64_t id;
    enum rg_upstream_mode mode;
    char user[128];
    char password[600];
    const struct rg_upstream_handler *handler;
    void *arg;
    bool bound, ended;
    bool close_asked, abort_asked;
    bool leaving; /* ends by itself with the next message */
};

struct fake_upstream {
    struct rg_upstream base;
    struct rg_loop *loop;
    struct rg_message message;
    bool posted;
    struct fake_session **sessions;
    size_t n_sessions;
    struct fake_call **calls;
    size_t n_calls;
    struct rg_upstream_features features; /* of the sessions bound next */
    enum rg_code refuse_open;             /* not RG_OK: open fails at once with it */
    enum rg_code refuse_calls;            /* not RG_OK: gets and sets fail at once with it */
    bool hold_ends; /* a session that was told to end waits for fake_end */
    unsigned late;  /* calls on sessions that had ended or were told to end */
    bool stopped;
    void (*stop_fn)(void *arg);
    void *stop_arg;
};

struct fake_upstream *fake_upstream_create(struct rg_loop *loop);
void fake_upstream_destroy(struct fake_upstream *up);

/* The newest session opened, NULL if none. */
struct fake_session *fake_last(struct fake_upstream *up);
size_t fake_open_sessions(const struct fake_upstream *up);
void fake_bind(struct fake_session *session);
/* Ends the session: requests in flight are answered (sent, no answer), then `closed`. */
void fake_end(struct fake_session *session, enum rg_code why);

/* The i-th call of this kind on the session (0 the oldest), NULL beyond. */
struct fake_call *fake_call_at(struct fake_session *session, enum fake_kind kind, size_t i);
size_t fake_count(struct fake_session *session, enum fake_kind kind);
/* The oldest unanswered get, or set or remove, of the session; fails the test if there is none.
 */
struct fake_call *fake_get(struct fake_session *session);
struct fake_call *fake_write(struct fake_session *session);

/* A roster as text: "jid|name|subscription|group,group;jid|…"; "" is empty. Flags behind the
 * subscription: "none?" is ask='subscribe', "none!" approved. (own). */
struct rg_roster *fake_roster(const char *text);
struct rg_item *fake_item(const char *text); /* one item of that form; (own) */

void fake_answer(struct fake_call *get, const char *roster, const char *ver);
void fake_unchanged(struct fake_call *get);
/* RG_E_XMPP with this condition, or another code. */
void fake_answer_error(struct fake_call *get, enum rg_code code, enum rg_condition condition);
void fake_push(struct fake_session *session, const char *item, const char *ver);
void fake_doubt(struct fake_session *session); /* a push was refused */
void fake_push_remove(struct fake_session *session, const char *jid, const char *ver);
void fake_result(struct fake_call *write);
void fake_error(struct fake_call *write, enum rg_code code, enum rg_condition condition);
void fake_presence(struct fake_session *session, enum rg_presence_type type, const char *jid,
                   const char *resource, const char *status);

#endif

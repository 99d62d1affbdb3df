/* A core on a manual loop between a scripted upstream and a plain store, and requests to it.
 * Time moves only by w_run. */
#ifndef TESTS_UNIT_CORE_HELPER_CORE_H
#define TESTS_UNIT_CORE_HELPER_CORE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/config.h"
#include "gateway/core/core.h"
#include "gateway/core/internal.h"
#include "tests/unit/core/helper_upstream.h"

#define JULIET "juliet@example.com"

/* Keeps every account; loads and ends are answered by messages. */
struct fake_store;

struct world {
    struct rg_config config;
    struct rg_loop *loop;
    struct fake_upstream *up;
    struct fake_store *store;
    struct rg_keys *keys;
    struct rg_core *core;
    struct call *calls; /* all, for the clean-up */
    struct reader *readers;
};

/* One request: made, sent, and kept until the world ends. */
struct call {
    struct rg_op *op;
    struct world *w;
    unsigned done; /* how often the core called back */
    int64_t done_ms;
    struct call *next;
};

int w_setup(void **state);
int w_teardown(void **state);
void w_run(struct world *w, int64_t ms); /* moves time, delivers what is due */
int64_t w_now(struct world *w);
/* Another core, upstream and clock go on over the same store and keys, as after a restart. */
void w_restart(struct world *w);
size_t w_commits(const struct world *w);
/* What the store keeps of the user; NULL: nothing. (borrow) */
struct rg_account *w_account(struct world *w, const char *user);
/* The core's user object; NULL: it has let go of it. */
struct rg_user *w_user(struct world *w, const char *name);
void w_hold_loads(struct world *w, bool hold);  /* loads wait until false */
void w_fail_loads(struct world *w, bool fails); /* loads answer NULL */

/* Makes a call that is not sent yet; `by` is the sign-in whose token it carries (NULL: none).
 */
struct call *c_new(struct world *w, enum rg_op_kind kind, const struct call *by);
struct call *c_send(struct call *call); /* submits and delivers; returns call */
struct call *c_sign_in(struct world *w, const char *jid, const char *password);
/* Signs in, binds, answers the get: a session that is live with this roster. */
struct call *c_live(struct world *w, const char *roster, const char *ver);
struct call *c_do(struct world *w, enum rg_op_kind kind, const struct call *by);
struct call *c_put(struct world *w, const struct call *by, const char *jid, const char *name,
                   const char *groups); /* name NULL: none; groups joined by commas */
struct call *c_patch(struct world *w, const struct call *by, const char *jid);
struct call *c_remove(struct world *w, const struct call *by, const char *jid);
void c_set_jid(struct call *call, const char *jid);
void c_set_name(struct call *call, const char *name);
void c_set_groups(struct call *call, const char *groups);
void c_if_match(struct call *call, const char *version);
struct call *c_changes(struct world *w, const struct call *by, const char *since, size_t limit,
                       int64_t wait_ms);
void c_expect(const struct call *call, enum rg_code code); /* done once, with this code */
void c_pending(const struct call *call);
bool c_token_dead(struct world *w, const struct call *by, enum rg_code code);

/* A client of an event stream. */
struct reader {
    struct world *w;
    struct rg_stream *stream;
    unsigned woken;
    bool parked, ended;
    struct rg_buf text; /* all that was received */
    size_t seen;        /* of text, by r_next */
    struct reader *next;
};
struct event_seen {
    char id[80], type[32];
    char *data; /* own, by the reader's world; "" for comments */
};
/* since: NULL, "now" or a version; types 0: all. The call is in *out_call. */
struct reader *r_open(struct world *w, const struct call *by, const char *since, unsigned types,
                      struct call **out_call);
struct reader *r_stream(struct world *w, const struct call *by, const char *since,
                        unsigned types, size_t max_bytes, struct call **out_call);
void r_pump(struct reader *reader, size_t max); /* takes all there is, max bytes at a time */
/* The next event after a pump; false: none. Comments are passed over. */
bool r_next(struct reader *reader, struct event_seen *out);
void r_expect(struct reader *reader, const char *type, const char *part); /* pumps, too */
void r_nothing(struct reader *reader);
void r_leave(struct reader *reader);

#endif

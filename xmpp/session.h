/* One XMPP session inside a worker: a libstrophe context of its own, a socket, its IQs.
 *
 *   WAITING -> LOGIN -> UP -> LEAVING -> DOWN        (any state may go DOWN at once)
 *
 * WAITING: not connected yet. LEAVING: </stream:stream> is queued, or a VERIFY has its answer.
 * DOWN: the socket is gone, the front has been told; released at the end of the turn, never
 * inside libstrophe (facts, rule 25).
 *
 * The slot: libstrophe waits with select(), so a descriptor of 1024 or more would abort the
 * process (rule 5). Its socket is always one low number, the slot; the real one is a duplicate
 * beyond 1024 that epoll watches. Before each call that may touch the socket the session's
 * descriptor is bound to the slot; /dev/null stands there otherwise. Thread: worker. */
#ifndef XMPP_SESSION_H
#define XMPP_SESSION_H

#include <sys/queue.h>

#include <strophe.h>

#include "gateway/base/log.h"
#include "xmpp/iq.h"
#include "xmpp/memory.h"
#include "xmpp/sasl_log.h"
#include "xmpp/worker.h"

enum rg_session_state {
    RG_SESSION_WAITING,
    RG_SESSION_LOGIN,
    RG_SESSION_UP,
    RG_SESSION_LEAVING,
    RG_SESSION_DOWN
};

/* What a server sends that is refused or ignored: each has a counter and a line in the log. */
enum rg_note {
    RG_NOTE_PUSH_REJECTED,   /* from somebody else: ignored in silence */
    RG_NOTE_PUSH_REFUSED,    /* without exactly one good item */
    RG_NOTE_ANSWER_REJECTED, /* to nothing, or from the wrong sender */
    RG_NOTE_ITEM_SKIPPED,    /* without (valid) jid, or too large to show */
    RG_NOTE_IQ_REFUSED,      /* another request: service-unavailable */
    RG_NOTE_IQ_IGNORED,      /* no IQ by RFC 6120 8.2.3 */
    RG_NOTE_END
};

struct rg_session {
    TAILQ_ENTRY(rg_session) of_worker; /* all, or the dead */
    TAILQ_ENTRY(rg_session) of_ready;
    TAILQ_ENTRY(rg_session) of_waiting;
    TAILQ_ENTRY(rg_session) of_ticking;
    struct rg_worker *worker;
    uint32_t index, generation;
    enum rg_session_state state;
    struct rg_ready *ready_in; /* NULL: not ready */
    bool in_waiting, in_ticking;
    bool verify;    /* ends after SASL */
    bool verified;  /* SASL succeeded, not reported yet */
    bool announced; /* presence was sent: others' presence is of interest */
    bool tls_wanted, direct_tls;
    bool handshaking; /* the front was told that TLS may block us */
    bool queued;      /* a handler queued something: run_once must come again (rule 1) */
    bool hup;         /* the peer has hung up: read on until libstrophe says so */
    unsigned hup_turns;

    xmpp_ctx_t *ctx;
    xmpp_conn_t *conn;
    xmpp_log_t log_hook;
    struct rg_memory memory;
    struct rg_sasl_log log;
    int fd; /* own, >= 1024; -1: none */
    char address[64];
    uint16_t port;
    int64_t leave_by_ms;

    struct rg_self self;
    char name[RG_LOG_USER_SIZE]; /* in logs: the front's keyed hash of the user */
    struct rg_iq_table iqs;
    int64_t noted_ms[RG_NOTE_END]; /* when such a thing was logged last; 0: never */
    struct rg_err why;             /* what DOWN is reported as, once set */
};

struct rg_session_options {
    uint32_t index, generation;
    bool verify;
    const char *user; /* prepared */
    const char *name; /* in logs */
    const char *password;
    const char *address; /* a literal */
    uint16_t port;
    bool direct_tls;
};
/* (borrow) options. Puts the session on the worker's list, WAITING. RG_E_UNREACHABLE: a
 * plaintext session to anywhere but loopback. */
enum rg_code rg_session_create(struct rg_worker *worker,
                               const struct rg_session_options *options, struct rg_err *err);
void rg_session_connect(struct rg_session *session);
/* One turn: at most 8 run_once, so that a large roster cannot starve the others. */
void rg_session_step(struct rg_session *session);
void rg_session_leave(struct rg_session *session);
/* Ends it now, whatever it is doing; the front is told unless `silent`. Not inside libstrophe.
 */
void rg_session_end(struct rg_session *session, bool silent);
/* Only after DOWN. */
void rg_session_destroy(struct rg_session *session);
void rg_session_ready(struct rg_session *session);
void rg_session_not_ready(struct rg_session *session);

/* session_iq.c, session_presence.c: what goes in and out once bound. */
void rg_session_send_take(struct rg_session *session, xmpp_stanza_t *stanza);
/* Counts, and logs one line unless the session did so in the last ten seconds. */
void rg_session_note(struct rg_session *session, enum rg_note note);
int rg_session_on_presence(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg);
int rg_session_on_iq(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg);
void rg_session_roster_get(struct rg_session *session, uint32_t request, const char *ver);
void rg_session_item_set(struct rg_session *session, uint32_t request, const char *jid,
                         const char *name, const char *const *groups, size_t n_groups);
void rg_session_item_remove(struct rg_session *session, uint32_t request, const char *jid);
void rg_session_announce(struct rg_session *session, bool available);

#endif

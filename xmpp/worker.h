/* A worker process from the inside: one thread, one epoll, the sessions of one domain. Shared
 * by worker.c, session.c and session_iq.c only. Thread: worker. */
#ifndef XMPP_WORKER_H
#define XMPP_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include <strophe.h>

#include "gateway/base/err.h"
#include "xmpp/frame.h"
#include "xmpp/iq.h"
#include "xmpp/link.h"
#include "xmpp/memory.h"

struct rg_session;
TAILQ_HEAD(rg_session_queue, rg_session);

enum {
    RG_WORKER_FD = 3,  /* where the front put the link */
    RG_HIGH_FD = 1024, /* sessions' sockets live from here on: beyond select() */
    RG_WORKER_BEAT_MS = 3000,
    RG_WORKER_TICK_MS = 250, /* libstrophe's own timers, while signing in or leaving */
    RG_WORKER_LEAVE_MS = 2000,
    RG_WORKER_GRACE_MS = 5000,  /* for an answer that is being read when its time is up */
    RG_WORKER_BLOCKED_MS = 200, /* a turn that took so long has blocked */
    RG_WORKER_QUEUE_MAX = 64 * 1024 * 1024, /* towards the front; beyond it the worker ends */
    RG_WORKER_QUEUE_HIGH = 4 * 1024 * 1024  /* beyond it no session is read from */
};

struct rg_worker {
    struct rg_link link;
    bool link_more;    /* whole frames wait in the link's buffer */
    bool link_writing; /* epoll is asked for EPOLLOUT */
    int epoll, devnull;
    int slot;                   /* the number libstrophe sees */
    struct rg_session *bound;   /* whose socket stands there; NULL: /dev/null */
    struct rg_session *opening; /* inside xmpp_connect_client */
    uint32_t session_max;

    bool configured;
    bool plaintext;
    char domain[256];
    size_t stanza_bytes;
    size_t items_max;
    int64_t iq_timeout_ms;

    struct rg_session **table; /* by the front's index */
    size_t table_n;
    struct rg_session_queue sessions, dead; /* each session is on one of these */
    struct rg_session_queue waiting, ticking;
    /* Sessions that sign in may block in TLS: they come last, and one of them that did block
     * ends the turn, so that the others are served in between. */
    struct rg_ready {
        struct rg_session_queue list;
        size_t n;
    } ready, ready_login;
    size_t n_sessions;
    struct rg_iq_list iqs; /* of all sessions, by deadline */
    uint64_t counts[RG_COUNT_END];

    int64_t now_ms;
    int64_t beat_due_ms, tick_due_ms, stop_by_ms;
    bool stopping, ended;

    /* The first context of the process: Expat's static memory hook points at it for ever. */
    struct rg_memory first_memory;
    xmpp_ctx_t *first_ctx;
    xmpp_conn_t *first_conn;
};

int64_t rg_worker_clock_ms(void);
/* The session at index, of this generation; NULL: none (any more). */
struct rg_session *rg_worker_find(const struct rg_worker *worker, uint32_t index,
                                  uint32_t generation);
/* (take). A link that breaks ends the worker. */
void rg_worker_send_take(struct rg_worker *worker, struct rg_frame_out *frame);
/* Beats if it is time: called between sessions, as each may block for a while. */
void rg_worker_beat(struct rg_worker *worker);
/* confine.c: gives up what a worker never needs; once, when everything is open. */
void rg_worker_confine(void);
/* worker_frames.c: handles one frame from the front. False: nonsense, the worker ends. */
bool rg_worker_frame(struct rg_worker *worker, const struct rg_frame *frame);

#endif

/* The front's end of the worker link, from the inside: shared by upstream.c, front_session.c,
 * front_frames.c and supervisor.c only. Thread: core.
 *
 *   front      one per process: the port's implementation
 *   served     one per domain: where its server is, how it behaves, how much is in flight
 *   process    one worker process and the link to it; replaced when it ends
 *   visit      one session as the core knows it: RESOLVING -> OPENING -> UP -> CLOSING ->
 * DOOMED
 *
 * A visit may be OPENING several times, once per address; each attempt has a generation of its
 * own. DOOMED: what there is to tell is told from the loop, never inside a call: requests
 * first, then `closed`. */
#ifndef XMPP_FRONT_H
#define XMPP_FRONT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "gateway/base/config.h"
#include "gateway/base/loop.h"
#include "gateway/base/metrics.h"
#include "gateway/ports/upstream.h"
#include "xmpp/link.h"
#include "xmpp/resolve.h"

enum {
    RG_HANDSHAKE_MS = 5000,    /* a TLS handshake longer than this is ended */
    RG_HANDSHAKE_FAILURES = 3, /* in a row: from then on one probe at a time */
    RG_PROBE_PAUSE_MS = 1000,  /* after a probe that failed */
    RG_HEART_MS = 10000,       /* a worker that says nothing for so long is killed */
    RG_CLOSE_MS = 4000,        /* for the worker to end a stream properly */
    RG_STOP_MS = 5000,         /* for the workers to end by themselves */
    RG_BACKSTOP_MS = 5000,     /* beyond iq_timeout: a hung worker leaves nobody waiting */
    RG_ADDRESS_TTL_MS = 60000, /* a look-up is good for so long */
    RG_STEADY_MS = 10000,      /* a worker that lived so long is replaced at once */
    RG_RESPAWN_MAX_MS = 10000,
    RG_TO_WORKER_MAX = 16 * 1024 * 1024
};

struct rg_front;
struct rg_served;
struct rg_visit;
TAILQ_HEAD(rg_visit_list, rg_visit);

struct rg_process {
    struct rg_front *front;
    struct rg_served *served;
    unsigned number;
    bool running;
    const char *failing; /* a literal: why it is about to be ended, from the loop */
    pid_t pid;
    struct rg_link link;
    struct rg_watch *watch, *pid_watch;
    int pidfd;
    bool writing, more;
    struct rg_visit_list visits;
    size_t n_visits, capacity;
    struct rg_visit *handshaking; /* the one the worker blocks in */
    struct rg_timer handshake, heart, respawn;
    int64_t started_ms, heard_ms;
    unsigned short_lives;
    uint64_t counts[RG_COUNT_END];
    struct rg_metric *fd_free;
};

/* A worker that was ended and is not reaped yet. */
struct rg_corpse {
    LIST_ENTRY(rg_corpse) link;
    struct rg_front *front;
    pid_t pid;
    int pidfd;
    struct rg_watch *watch;
};

struct rg_served {
    struct rg_front *front;
    struct rg_domain domain;
    bool plaintext;
    struct rg_process *processes;
    size_t n_processes;
    size_t sessions, signins, iqs;
    bool reachable;

    struct rg_addresses addresses;
    int64_t addresses_until_ms;
    struct rg_lookup *lookup;
    struct rg_visit_list resolving;

    unsigned handshake_failures; /* in a row */
    bool probing;
    int64_t probe_after_ms;
};

enum rg_visit_state {
    RG_VISIT_RESOLVING,
    RG_VISIT_OPENING,
    RG_VISIT_UP,
    RG_VISIT_CLOSING,
    RG_VISIT_DOOMED
};

struct rg_request {
    TAILQ_ENTRY(rg_request) link;
    uint32_t id;
    int64_t due_ms, sent_ms;
    rg_roster_answer_fn on_roster; /* one of these */
    rg_upstream_done_fn on_done;
    void *arg;
    struct rg_metric *duration;
};
TAILQ_HEAD(rg_request_list, rg_request);

struct rg_visit {
    TAILQ_ENTRY(rg_visit) link; /* of the process, the resolving, or the doomed */
    struct rg_front *front;
    struct rg_served *served;
    struct rg_process *process;
    enum rg_visit_state state;
    bool at_worker; /* the worker knows this generation */
    bool signing_in, probe, secured;
    uint32_t index, generation;
    uint64_t id;
    enum rg_upstream_mode mode;
    char *user;                 /* own */
    struct rg_secret *password; /* own, until bound */
    const struct rg_upstream_handler *handler;
    void *arg;
    struct rg_addresses addresses;
    size_t next_address;
    int fd; /* own: a copy of the worker's socket, while signing in; -1 */
    struct rg_timer timer;
    struct rg_err why; /* once doomed */

    struct rg_request_list requests;
    size_t n_requests;
    uint32_t last_request;

    bool reading; /* a roster is coming in */
    uint32_t reading_request;
    struct rg_roster_builder builder;
    size_t reading_bytes;
    char *reading_ver; /* own */
    size_t reading_ver_len;
};

struct rg_front {
    struct rg_upstream up; /* first */
    const struct rg_config *config;
    struct rg_loop *loop;
    struct rg_served *served;
    size_t n_served;
    struct rg_visit **table;
    uint32_t table_n, *free_places, n_free;
    uint32_t last_generation, last_serial;
    size_t n_visits;

    struct rg_message message;
    bool posted, stopping, stopped;
    struct rg_visit_list doomed;
    LIST_HEAD(, rg_corpse) corpses;
    struct rg_timer stop_timer;
    void (*stop_fn)(void *arg);
    void *stop_arg;

    struct rg_metric *sessions, *get_seconds, *set_seconds, *merged;
    struct rg_metric *counters[RG_COUNT_END];
    struct rg_metric *connects_ok, *connects_refused, *connects_failed;
    struct rg_metric *lives_ended, *hung_handshakes;
};

/* upstream.c */
void rg_front_later(struct rg_front *front); /* posts the message that does what is due */
struct rg_visit *rg_front_visit(struct rg_front *front, uint64_t id);

/* front_session.c */
enum rg_code rg_visit_open(struct rg_front *front, struct rg_served *served,
                           enum rg_upstream_mode mode, const char *user,
                           struct rg_secret *password_take,
                           const struct rg_upstream_handler *handler, void *arg,
                           uint64_t *out_session, struct rg_err *err);
void rg_visit_bound(struct rg_visit *visit, const struct rg_upstream_features *features);
/* The attempt ended before it was bound: tries the next address, or dooms the visit. */
void rg_visit_attempt_failed(struct rg_visit *visit, enum rg_stage stage,
                             const struct rg_err *why);
void rg_visit_close(struct rg_visit *visit);
/* Ends it; `closed` comes from the loop. (borrow) why, copied. */
void rg_visit_doom(struct rg_visit *visit, enum rg_code code, const char *why);
/* Tells requests and `closed`, then frees. From the loop only. */
void rg_visit_bury(struct rg_visit *visit);
void rg_visit_free(struct rg_visit *visit);
/* Takes a request off; its callback is the caller's to call. */
struct rg_request *rg_visit_take_request(struct rg_visit *visit, uint32_t id);
void rg_visit_arm(struct rg_visit *visit); /* the timer, by state */
void rg_visit_drop_reading(struct rg_visit *visit);
/* Notes that the TLS handshake of this attempt failed or hung. */
void rg_visit_handshake_failed(struct rg_visit *visit);
void rg_visit_drop_socket(struct rg_visit *visit);
/* Sends a frame about the visit; false: it did not fit into a frame. (take). */
bool rg_visit_send_take(struct rg_visit *visit, struct rg_frame_out *frame);

/* front_frames.c: false: nonsense, the worker is to be ended. */
bool rg_process_frame(struct rg_process *process, const struct rg_frame *frame);

/* supervisor.c */
enum rg_code rg_process_init(struct rg_process *process, struct rg_served *served,
                             unsigned number);
void rg_process_fini(struct rg_process *process); /* kills and waits */
void rg_process_start(struct rg_process *process);
void rg_process_send_take(struct rg_process *process, struct rg_frame_out *frame);
void rg_process_fail(struct rg_process *process, const char *why); /* ends it, from the loop */
void rg_process_end(struct rg_process *process, const char *why);  /* from the loop only */
void rg_process_read(struct rg_process *process);
void rg_process_handshake(struct rg_process *process, struct rg_visit *visit);
void rg_corpses_forget(struct rg_front *front); /* waits for all */

#endif

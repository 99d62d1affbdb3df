/* Shared inside http/ only: the lane (one libmicrohttpd daemon on one loop), its connections,
 * requests and streams, and the routes.
 *
 * A lane belongs to its loop's thread, and with it everything that hangs on it. The core's
 * answers and the streams' wake-ups reach it as messages. Only the lane suspends and resumes
 * its connections: suspended before something is handed over, resumed exactly once
 * (facts/libmicrohttpd 2, R1-R15). */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "gateway/base/config.h"
#include "gateway/base/err.h"
#include "gateway/base/loop.h"
#include "gateway/base/metrics.h"
#include "gateway/core/core.h"
#include "http/address.h"
#include "http/auth.h"
#include "http/gone.h"
#include "http/guard.h"
#include "http/http.h"
#include "http/limits.h"
#include "http/path.h"
#include "http/reply.h"

enum rg_method {
    RG_GET,
    RG_HEAD,
    RG_POST,
    RG_PUT,
    RG_PATCH,
    RG_DELETE,
    RG_OPTIONS,
    RG_METHOD_OTHER,
    RG_METHOD_COUNT
};

enum { RG_REQUEST_ID_SIZE = 65 };

struct rg_lane;
struct rg_request;

/* --- routes ------------------------------------------------------------------------------- */

enum {
    RG_CALL_OPEN = 1 << 0,          /* no token needed */
    RG_CALL_JSON = 1 << 1,          /* takes application/json */
    RG_CALL_PATCH = 1 << 2,         /* takes application/merge-patch+json */
    RG_CALL_OPTIONAL_BODY = 1 << 3, /* an empty body will do */
    RG_CALL_SECRET = 1 << 4,        /* the body holds a password: wipe it */
    RG_CALL_BULK = 1 << 5,          /* bodies up to 4 MiB */
    RG_CALL_NOT_BUILT = 1 << 6      /* 501 */
};

/* One method of one path. begin() answers, or submits an op and is done; finish() then answers
 * with what came of it (the op stays the caller's). */
struct rg_call {
    enum rg_method method;
    void (*begin)(struct rg_request *req);
    void (*finish)(struct rg_request *req, struct rg_op *op);
    unsigned flags;
    const char *const *params; /* query parameters it knows */
};

struct rg_route {
    const char *path; /* template; also the route's label in the metrics */
    struct rg_call calls[4];
    size_t n_calls;
};

/* The first route of the lane that matches; NULL if there is none. */
const struct rg_route *rg_route_find(const struct rg_route *routes, size_t n,
                                     const struct rg_path *path, struct rg_segment *out_wild);
const struct rg_call *rg_route_call(const struct rg_route *route, enum rg_method method);
/* The value of Allow. */
void rg_route_allow(const struct rg_route *route, struct rg_buf *buf);
enum rg_method rg_method_parse(const char *text);
const char *rg_method_name(enum rg_method method);

extern const struct rg_route rg_public_routes[];
extern const size_t rg_public_routes_n;
extern const struct rg_route rg_operations_routes[];
extern const size_t rg_operations_routes_n;

/* --- connections -------------------------------------------------------------------------- */

/* One accepted connection, from the acceptor to libmicrohttpd's close. Its timer enforces what
 * libmicrohttpd does not: absolute limits for heads, bodies and idle time (R17). */
struct rg_conn {
    struct rg_message message; /* acceptor -> lane */
    struct rg_lane *lane;
    struct rg_timer timer;
    int64_t deadline_ms; /* 0: none */
    int fd;
    bool counted;
    struct rg_address peer;
};

enum {
    RG_HEAD_MS = 10 * 1000,
    RG_BODY_MS = 30 * 1000,
    RG_IDLE_MS = 90 * 1000 /* longer than the proxies' 60 s, so that they close first */
};
/* after_ms 0: no deadline. Thread: the lane's. */
void rg_conn_deadline(struct rg_conn *conn, int64_t after_ms);

/* --- lanes -------------------------------------------------------------------------------- */

enum rg_exchange_kind { RG_EXCHANGE_REQUEST, RG_EXCHANGE_STREAM };
/* What *con_cls points to: first member of struct rg_request and struct rg_events. */
struct rg_exchange {
    enum rg_exchange_kind kind;
    struct rg_lane *lane;
};

TAILQ_HEAD(rg_request_list, rg_request);
struct rg_events;
TAILQ_HEAD(rg_events_list, rg_events);

struct rg_lane {
    struct rg_http *http;
    struct rg_loop *loop;
    struct MHD_Daemon *daemon;
    struct rg_watch *watch;
    const struct rg_route *routes;
    size_t n_routes;
    pthread_t thread;
    bool own_loop; /* made, run and destroyed by us */
    bool running;
    bool dirty;             /* libmicrohttpd has something to do before the next wait */
    bool finishing;         /* tell main when nothing is in flight */
    size_t in_flight;       /* requests and streams */
    struct rg_conn *adding; /* inside MHD_add_connection */
    struct rg_request *spare;
    size_t n_spare;
    struct rg_request_list waiting; /* suspended for the core */
    size_t n_waiting;
    size_t crowd; /* the most that waited since nobody did */
    struct rg_events_list streams;
    struct rg_gone *gone;     /* finds streams whose client has left */
    struct rg_tokens *tokens; /* opened ones; NULL on event lanes */
    struct rg_event *heartbeat;
    uint64_t id_state;
    struct rg_message finish_message, finished_message, probe_message;
    atomic_int probe; /* /livez: 0 idle, 1 asked, 2 answered */
};

struct rg_lane_options {
    const char *name; /* a literal */
    const struct rg_route *routes;
    size_t n_routes;
    size_t memory; /* per connection */
    bool cache_tokens;
    int listen_fd; /* -1: connections are added by the acceptor */
};

/* (borrow) all. With `loop` NULL the lane makes its own loop and thread. (own) *out. */
enum rg_code rg_lane_create(struct rg_http *http, struct rg_loop *loop,
                            const struct rg_lane_options *options, struct rg_lane **out,
                            struct rg_err *err);
enum rg_code rg_lane_start(struct rg_lane *lane, struct rg_err *err);
/* Ends what is left (streams and waiting requests are cut), joins the thread. Thread: main. */
void rg_lane_destroy(struct rg_lane *lane);
/* Adds the connection ((take), in its message). Thread: any. */
void rg_lane_adopt(struct rg_lane *lane, struct rg_conn *conn);
/* Asks for a word (http's finished) once nothing is in flight. Thread: main. */
void rg_lane_finish(struct rg_lane *lane);
/* An exchange begins or ends. Thread: the lane's. */
void rg_lane_begin(struct rg_lane *lane);
void rg_lane_end(struct rg_lane *lane);
/* Resumes; libmicrohttpd runs before the loop waits again. Thread: the lane's. */
void rg_lane_resume(struct rg_lane *lane, struct MHD_Connection *connection);
void rg_lane_request_id(struct rg_lane *lane, char out[RG_REQUEST_ID_SIZE]);

/* --- opened tokens ------------------------------------------------------------------------ */

/* A bounded table of tokens that opened lately, by their full bytes; wiped when dropped.
 * Thread: the lane's. */
struct rg_tokens;
struct rg_tokens *rg_tokens_create(void);
void rg_tokens_destroy(struct rg_tokens *tokens); /* accepts NULL */

/* --- requests ----------------------------------------------------------------------------- */

enum rg_request_state {
    RG_REQUEST_READING,   /* head seen, body coming */
    RG_REQUEST_RUNNING,   /* in a handler */
    RG_REQUEST_SUSPENDED, /* the core has it */
    RG_REQUEST_RESUMED,
    RG_REQUEST_ANSWERED,
    RG_REQUEST_ABORTED /* the lane ends: nothing is answered any more */
};

struct rg_request {
    struct rg_exchange exchange;
    struct rg_http *http;
    struct rg_conn *conn;
    struct MHD_Connection *connection;
    const struct rg_route *route; /* NULL: no such path */
    const struct rg_call *call;   /* NULL: no such method, or OPTIONS */
    enum rg_method method;
    enum rg_request_state state;
    bool close;             /* Connection: close */
    bool http_1_1;          /* chunks are understood */
    bool has_body;          /* declared */
    const char *origin;     /* a listed Origin, else NULL */
    struct rg_segment wild; /* the JID or problem in the path, raw */
    int64_t received_ms;
    int64_t received_us;
    struct rg_auth auth;
    const struct rg_claims *claims; /* (borrow) in begin() only; NULL on open calls */
    struct rg_claims *opened;       /* own; where no cache holds the claims */
    struct rg_op *op;               /* own; while answering */
    atomic_int ticket;              /* whose the op is */
    struct rg_events *events;       /* own; GET /v1/events, between begin and finish */
    struct rg_exchange *takeover;   /* goes on in this request's place: a stream */
    TAILQ_ENTRY(rg_request) link;
    struct rg_request *next_spare;
    char id[RG_REQUEST_ID_SIZE];
    size_t body_limit, body_seen;
    bool too_large, discard;
    bool late; /* operations: answered because its time was up */
    struct rg_buf body;
    struct rg_query query;
    struct rg_err err; /* why it fails, found before the body was there */
    struct rg_path path;
    struct rg_headers headers;
};

enum MHD_Result rg_request_access(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version,
                                  const char *upload_data, size_t *upload_data_size,
                                  void **con_cls);
void rg_request_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                          enum MHD_RequestTerminationCode toe);
/* Cuts a waiting request at the end of its lane. */
void rg_request_abort(struct rg_request *req);
void rg_request_free(struct rg_request *req);

/* Finds and opens the token; checks the CSRF rule. */
enum rg_code rg_request_authorize(struct rg_request *req, struct rg_err *err);

/* An op for this request, with its claims and token; NULL: out of memory, answered. */
struct rg_op *rg_request_op(struct rg_request *req, enum rg_op_kind kind);
/* Suspends, then hands over. */
void rg_request_submit_take(struct rg_request *req, struct rg_op *op);
/* Suspends for something other than the core; the lane's thread calls rg_request_resume. */
void rg_request_suspend(struct rg_request *req);
void rg_request_resume(struct rg_request *req);

/* --- answers ------------------------------------------------------------------------------ */

enum rg_vary { RG_VARY_PLAIN, RG_VARY_ROSTER };

/* (take) buf's bytes. NULL when out of memory. */
struct MHD_Response *rg_response_from_buf(struct rg_buf *buf);
struct MHD_Response *rg_response_from_blob_take(struct rg_blob *blob);
struct MHD_Response *rg_response_empty(void);
void rg_response_header(struct MHD_Response *response, const char *name, const char *value);
/* The marks of an answer from the cache while the XMPP server is away (API section 6). */
void rg_response_stale(struct MHD_Response *response, int64_t age_s);

/* Adds what belongs on every answer and queues it. (take) response; NULL closes the connection.
 * cache: the value of Cache-Control. */
void rg_request_send_take(struct rg_request *req, unsigned status,
                          struct MHD_Response *response, enum rg_vary vary, const char *cache);
/* A JSON document; version "" or NULL: no Rostergate-Version. etag may be NULL. */
void rg_request_json(struct rg_request *req, unsigned status, struct rg_buf *body,
                     const char *version, const char *etag, const char *location);
void rg_request_no_content(struct rg_request *req, unsigned status, const char *version);
void rg_request_problem(struct rg_request *req, const struct rg_err *err, const char *version);
/* The problem of an op that failed. */
void rg_request_failed(struct rg_request *req, struct rg_op *op);
void rg_request_fail(struct rg_request *req, enum rg_code code, const char *detail);
void rg_request_options(struct rg_request *req);

/* --- calls -------------------------------------------------------------------------------- */

void rg_rest_session_create(struct rg_request *req);
void rg_rest_session_created(struct rg_request *req, struct rg_op *op);
void rg_rest_session_get(struct rg_request *req);
void rg_rest_session_got(struct rg_request *req, struct rg_op *op);
void rg_rest_session_renew(struct rg_request *req);
void rg_rest_session_renewed(struct rg_request *req, struct rg_op *op);
void rg_rest_session_delete(struct rg_request *req);
void rg_rest_session_deleted(struct rg_request *req, struct rg_op *op);
void rg_roster_get(struct rg_request *req);
void rg_roster_got(struct rg_request *req, struct rg_op *op);
void rg_changes_get(struct rg_request *req);
void rg_changes_got(struct rg_request *req, struct rg_op *op);
void rg_items_get(struct rg_request *req);
void rg_items_got(struct rg_request *req, struct rg_op *op);
void rg_items_put(struct rg_request *req);
void rg_items_written(struct rg_request *req, struct rg_op *op);
void rg_items_patch(struct rg_request *req);
void rg_items_delete(struct rg_request *req);
void rg_items_deleted(struct rg_request *req, struct rg_op *op);
void rg_events_get(struct rg_request *req);
void rg_events_got(struct rg_request *req, struct rg_op *op);
void rg_problem_get(struct rg_request *req);
void rg_asset_get(struct rg_request *req);
/* Is there a file at this path of the asset routes, whatever the method? */
bool rg_asset_is_there(const struct rg_request *req);
void rg_operations_livez(struct rg_request *req);
void rg_operations_livez_done(struct rg_request *req, struct rg_op *op);
void rg_operations_readyz(struct rg_request *req);
void rg_operations_readyz_done(struct rg_request *req, struct rg_op *op);
void rg_operations_metrics(struct rg_request *req);
void rg_operations_erase(struct rg_request *req);
void rg_operations_erased(struct rg_request *req, struct rg_op *op);

/* The stream behind *con_cls: what request.c and loop.c need of it. */
void rg_events_completed(struct rg_events *events);
/* The op of rg_events_get came back, but the client has left. */
void rg_events_unserved(struct rg_request *req, struct rg_op *op);
/* The client of a stream has left (data is its rg_events). */
void rg_events_gone(void *data);
/* Cuts all streams at the end of their lane. */
void rg_events_abort_all(struct rg_lane *lane);

/* --- metrics ------------------------------------------------------------------------------ */

void rg_meter_request(const struct rg_request *req, unsigned status);
enum rg_reject {
    RG_REJECT_FRAMING,
    RG_REJECT_SIZE,
    RG_REJECT_CSRF,
    RG_REJECT_ORIGIN,
    RG_REJECT_RATE,
    RG_REJECT_AUTH,
    RG_REJECT_CONNECTIONS,
    RG_REJECT_COUNT
};
void rg_meter_reject(enum rg_reject reason);
void rg_meter_init(void);

/* --- the server --------------------------------------------------------------------------- */

struct rg_listener {
    int fd;
    char address[160]; /* "http://127.0.0.1:8080", "unix:/path" */
    char *unlink_path; /* own; a socket file we made */
};
/* Binds and listens, or takes the passed descriptor `index` (LISTEN_FDS) if there is one. */
enum rg_code rg_listener_open(struct rg_listener *out, const char *text, unsigned index,
                              bool plain_http, struct rg_err *err);
void rg_listener_close(struct rg_listener *listener);

struct rg_acceptor;
enum rg_code rg_acceptor_create(struct rg_http *http, struct rg_acceptor **out,
                                struct rg_err *err);
/* Starts watching the listener. */
enum rg_code rg_acceptor_start(struct rg_acceptor *acceptor, struct rg_err *err);
void rg_acceptor_destroy(
    struct rg_acceptor *acceptor); /* accepts NULL; closes what it peeks at */

struct rg_operations;
struct rg_operations *rg_operations_create(struct rg_http *http);
void rg_operations_destroy(struct rg_operations *operations); /* accepts NULL */

struct rg_http {
    const struct rg_config *config;
    struct rg_loop *main_loop, *core_loop;
    struct rg_core *core;
    struct rg_trust *trust;
    struct rg_limits *limits;
    struct rg_listener listener, operations_listener;
    struct rg_acceptor *acceptor;
    struct rg_lane **lanes; /* the http lanes, then the event lanes */
    size_t n_lanes, n_http;
    struct rg_lane *operations_lane;
    struct rg_operations *operations;
    atomic_bool not_ready; /* /readyz says so */
    atomic_bool closing;   /* keep-alive ends with each answer */
    atomic_bool draining;  /* requests are refused */
    size_t unfinished;
    struct rg_timer finish_timer;
    bool finish_timer_made;
    void (*finish_fn)(void *arg);
    void *finish_arg;
};
/* One lane has nothing in flight any more. Thread: main. */
void rg_http_lane_finished(struct rg_message *message);

#endif

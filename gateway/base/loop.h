/* An event loop owned by one thread: descriptors, timers, messages from other threads. Wraps a
 * libevent base.
 *
 * Messages and timers are embedded in the caller's structs, so that posting and arming cannot
 * fail: a promised callback always comes. A manual loop has no thread and no real time: the
 * test moves its clock, and due timers and posted messages run inside rg_loop_advance(). */
#ifndef GATEWAY_BASE_LOOP_H
#define GATEWAY_BASE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/err.h"
#include "gateway/base/mem.h"

struct rg_loop;
struct rg_message;
struct rg_timer;
struct rg_watch;

typedef void (*rg_message_fn)(struct rg_message *message);
typedef void (*rg_timer_fn)(struct rg_timer *timer);

/* Embedded; find the outer struct with RG_CONTAINER_OF. In one mailbox at a time. */
struct rg_message {
    rg_message_fn fn;
    struct rg_message *next;
};

/* Embedded; zero-initialised means: not armed. Thread: the loop's. */
struct rg_timer {
    rg_timer_fn fn;
    int64_t due_ms;
    size_t heap_index; /* 1-based; 0: not armed */
};

/* (own); NULL with err filled on failure. `name` is a literal, for logs and thread names. */
struct rg_loop *rg_loop_create(const char *name, struct rg_err *err);
/* A loop whose clock stands still at start_ms (and at unix time start_ms / 1000). */
struct rg_loop *rg_loop_create_manual(int64_t start_ms);
void rg_loop_destroy(struct rg_loop *loop);

/* Runs until rg_loop_stop. The calling thread becomes the owner. */
void rg_loop_run(struct rg_loop *loop);
/* Thread: any. Messages posted before are still delivered. */
void rg_loop_stop(struct rg_loop *loop);
/* Manual loops: runs what is due while moving the clock by ms (0: only what is due now). */
void rg_loop_advance(struct rg_loop *loop, int64_t ms);

/* Thread: any. Delivers in order of posting, on the loop's thread, never inside this call. */
void rg_loop_post(struct rg_loop *loop, struct rg_message *message);

/* Aborts if the calling thread does not own the loop (one that never ran has no owner). */
void rg_loop_assert_owner(const struct rg_loop *loop);

/* Monotonic and wall clock. rg_loop_now_ms is read once per turn of the loop. Thread: the
 * loop's for now_ms, any for unix_s. */
int64_t rg_loop_now_ms(const struct rg_loop *loop);
int64_t rg_loop_unix_s(const struct rg_loop *loop);

/* (Re-)arms; a due time in the past fires on the next turn. Cannot fail: the heap's room is
 * reserved by rg_timer_init. */
enum rg_code rg_timer_init(struct rg_timer *timer, struct rg_loop *loop, rg_timer_fn fn);
void rg_timer_fini(struct rg_timer *timer,
                   struct rg_loop *loop); /* disarms; gives the room back */
void rg_timer_start(struct rg_timer *timer, struct rg_loop *loop, int64_t after_ms);
void rg_timer_stop(struct rg_timer *timer, struct rg_loop *loop);
static inline bool rg_timer_armed(const struct rg_timer *timer)
{
    return timer->heap_index != 0;
}

enum { RG_WATCH_READ = 1, RG_WATCH_WRITE = 2, RG_WATCH_EDGE = 4 };
typedef void (*rg_watch_fn)(void *arg, int events);
/* Watches a descriptor; (borrow) fd stays the caller's. Returns (own) the watch, NULL on
 * failure. Not on manual loops. Thread: the loop's (or before it runs). */
struct rg_watch *rg_loop_watch(struct rg_loop *loop, int fd, int events, rg_watch_fn fn,
                               void *arg);
void rg_watch_change(struct rg_watch *watch, int events); /* 0: pause */
void rg_watch_destroy(struct rg_watch *watch); /* accepts NULL; before the fd is closed */

/* Signals, delivered on the loop. */
struct rg_watch *rg_loop_signal(struct rg_loop *loop, int signo, rg_watch_fn fn, void *arg);

/* Runs fn(arg, wait_ms) at the start of every turn, before the loop waits; it returns the
 * longest wait it can bear in ms, -1 for any. For libmicrohttpd, whose timeouts are asked for.
 */
typedef int64_t (*rg_prepare_fn)(void *arg);
void rg_loop_prepare(struct rg_loop *loop, rg_prepare_fn fn, void *arg);

/* How often the loop woke up since it started: the idle test reads it from /metrics. Thread:
 * any.
 */
uint64_t rg_loop_wakeups(const struct rg_loop *loop);
/* The libevent base, for adapters (hiredis). Thread: the loop's. */
struct event_base *rg_loop_base(struct rg_loop *loop);
const char *rg_loop_name(const struct rg_loop *loop);

#endif

#include "gateway/base/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/util.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* DESIGN. One turn of a loop:
 *
 *      messages -> due timers -> prepare hook -> wait (libevent) -> callbacks of descriptors
 *          ^                                                              |
 *          +--------------------------------------------------------------+
 *
 * libevent waits and calls descriptors; messages and timers are ours, because posting and
 * arming must not fail. The timers are a binary heap of pointers into the callers' structs; one
 * libevent timer stands for the earliest. The mailbox is a linked list under a leaf mutex with
 * an eventfd beside it, written only when the list was empty and the poster is not the owner
 * (who looks into it before every wait anyway).
 *
 * The base runs one wait at a time (EVLOOP_ONCE), so that the prepare hook comes before each of
 * them. The clock is read once per turn, at the first question after the wait. */

struct rg_loop {
    const char *name;
    struct event_base *base; /* NULL: a manual loop */
    struct event *wait_timer;
    struct event *mail_event;
    int mail_fd;

    pthread_mutex_t mail_lock; /* leaf */
    struct rg_message *mail_first, *mail_last;
    bool stopping; /* under mail_lock */

    struct rg_timer **heap; /* 1-based */
    size_t heap_n, heap_cap, heap_promised;
    bool in_timers;

    rg_prepare_fn prepare;
    void *prepare_arg;

    int64_t now_ms;
    bool now_stale;
    _Atomic(unsigned long) owner; /* pthread_t; 0: none */
    atomic_uint_fast64_t wakeups;
};

struct rg_watch {
    struct rg_loop *loop;
    struct event *event;
    rg_watch_fn fn;
    void *arg;
    int fd;
    bool is_signal;
};

static int64_t clock_ms(void)
{
    struct timespec ts;

    if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0)
        abort(); /* cannot fail with this clock on Linux; no time, no loop */
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Mailbox */

static void on_mail(evutil_socket_t fd, short events, void *arg)
{
    uint64_t count;

    (void)events;
    (void)arg;
    /* EAGAIN only: the messages are taken at the top of the next turn. */
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
        continue;
}

static void on_wait_timer(evutil_socket_t fd, short events, void *arg)
{
    (void)fd;
    (void)events;
    (void)arg; /* it only ends the wait */
}

static void wake(struct rg_loop *loop)
{
    uint64_t one = 1;

    if (loop->mail_fd < 0)
        return;
    /* EAGAIN: the counter is full, so the loop is being woken. */
    while (write(loop->mail_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

static bool owned_by_caller(const struct rg_loop *loop)
{
    return atomic_load_explicit(&loop->owner, memory_order_relaxed) ==
           (unsigned long)pthread_self();
}

void rg_loop_post(struct rg_loop *loop, struct rg_message *message)
{
    bool was_empty;

    message->next = NULL;
    pthread_mutex_lock(&loop->mail_lock);
    was_empty = loop->mail_first == NULL;
    if (was_empty)
        loop->mail_first = message;
    else
        loop->mail_last->next = message;
    loop->mail_last = message;
    /* Inside the lock: once it is released the loop may deliver, end and be destroyed. */
    if (was_empty && !owned_by_caller(loop))
        wake(loop);
    pthread_mutex_unlock(&loop->mail_lock);
}

void rg_loop_stop(struct rg_loop *loop)
{
    pthread_mutex_lock(&loop->mail_lock);
    loop->stopping = true;
    wake(loop);
    pthread_mutex_unlock(&loop->mail_lock);
}

/* Delivers what is there now; messages posted meanwhile wait for the next round, so that one
 * that posts itself again does not keep descriptors waiting. Returns whether any was there. */
static bool run_messages(struct rg_loop *loop)
{
    struct rg_message *message, *next;

    pthread_mutex_lock(&loop->mail_lock);
    message = loop->mail_first;
    loop->mail_first = NULL;
    loop->mail_last = NULL;
    pthread_mutex_unlock(&loop->mail_lock);
    if (message == NULL)
        return false;
    for (; message != NULL; message = next) {
        next = message->next; /* fn may free or post it again */
        message->next = NULL;
        message->fn(message);
    }
    return true;
}

/* Timers */

static void heap_put(struct rg_loop *loop, size_t i, struct rg_timer *timer)
{
    loop->heap[i] = timer;
    timer->heap_index = i;
}

static void heap_up(struct rg_loop *loop, size_t i, struct rg_timer *timer)
{
    while (i > 1 && loop->heap[i / 2]->due_ms > timer->due_ms) {
        heap_put(loop, i, loop->heap[i / 2]);
        i /= 2;
    }
    heap_put(loop, i, timer);
}

static void heap_down(struct rg_loop *loop, size_t i, struct rg_timer *timer)
{
    while (i * 2 <= loop->heap_n) {
        size_t child = i * 2;

        if (child < loop->heap_n && loop->heap[child + 1]->due_ms < loop->heap[child]->due_ms)
            child++;
        if (loop->heap[child]->due_ms >= timer->due_ms)
            break;
        heap_put(loop, i, loop->heap[child]);
        i = child;
    }
    heap_put(loop, i, timer);
}

enum rg_code rg_timer_init(struct rg_timer *timer, struct rg_loop *loop, rg_timer_fn fn)
{
    if (loop->heap_promised + 1 >= loop->heap_cap) {
        size_t cap = loop->heap_cap == 0 ? 64 : loop->heap_cap * 2;
        struct rg_timer **heap = reallocarray(loop->heap, cap, sizeof(*heap));

        if (heap == NULL)
            return RG_E_INTERNAL;
        loop->heap = heap;
        loop->heap_cap = cap;
    }
    loop->heap_promised++;
    timer->fn = fn;
    timer->due_ms = 0;
    timer->heap_index = 0;
    return RG_OK;
}

void rg_timer_fini(struct rg_timer *timer, struct rg_loop *loop)
{
    if (timer->fn == NULL)
        return; /* never initialised, or done already */
    rg_timer_stop(timer, loop);
    timer->fn = NULL;
    loop->heap_promised--;
}

void rg_timer_stop(struct rg_timer *timer, struct rg_loop *loop)
{
    size_t i = timer->heap_index;
    struct rg_timer *last;

    if (i == 0)
        return;
    timer->heap_index = 0;
    last = loop->heap[loop->heap_n--];
    if (last == timer)
        return;
    if (i > 1 && loop->heap[i / 2]->due_ms > last->due_ms)
        heap_up(loop, i, last);
    else
        heap_down(loop, i, last);
}

void rg_timer_start(struct rg_timer *timer, struct rg_loop *loop, int64_t after_ms)
{
    int64_t now = rg_loop_now_ms(loop);

    rg_timer_stop(timer, loop);
    /* One that arms itself with 0 while timers run waits for the next turn. */
    if (after_ms < (loop->in_timers ? 1 : 0))
        after_ms = loop->in_timers ? 1 : 0;
    timer->due_ms = after_ms > INT64_MAX - now ? INT64_MAX : now + after_ms;
    loop->heap_n++;
    heap_up(loop, loop->heap_n, timer);
}

static void run_timers(struct rg_loop *loop)
{
    int64_t now = rg_loop_now_ms(loop);

    loop->in_timers = true;
    while (loop->heap_n > 0 && loop->heap[1]->due_ms <= now) {
        struct rg_timer *timer = loop->heap[1];

        rg_timer_stop(timer, loop);
        timer->fn(timer);
    }
    loop->in_timers = false;
}

/* Life */

static struct rg_loop *loop_alloc(const char *name)
{
    struct rg_loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL)
        return NULL;
    loop->name = name;
    loop->mail_fd = -1;
    if (pthread_mutex_init(&loop->mail_lock, NULL) != 0) {
        free(loop);
        return NULL;
    }
    return loop;
}

static bool open_base(struct rg_loop *loop)
{
    struct event_config *config = event_config_new();

    if (config == NULL)
        return false;
    /* The coarse clock lags by up to 4 ms: timers would fire early, find nothing due and wake
     * the loop a second time. The base is its thread's own, so it needs no locks. */
    if (event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
        event_config_require_features(config, EV_FEATURE_ET) == 0)
        loop->base = event_base_new_with_config(config);
    event_config_free(config);
    if (loop->base == NULL)
        return false;
    loop->wait_timer = event_new(loop->base, -1, 0, on_wait_timer, NULL);
    loop->mail_event =
        event_new(loop->base, loop->mail_fd, EV_READ | EV_PERSIST, on_mail, NULL);
    return loop->wait_timer != NULL && loop->mail_event != NULL &&
           event_add(loop->mail_event, NULL) == 0;
}

struct rg_loop *rg_loop_create(const char *name, struct rg_err *err)
{
    struct rg_loop *loop = loop_alloc(name);

    if (loop == NULL) {
        rg_fail(err, RG_E_INTERNAL, "loop %s: out of memory", name);
        return NULL;
    }
    loop->mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->mail_fd < 0 || !open_base(loop)) {
        rg_fail(err, RG_E_INTERNAL, "loop %s: no event descriptor: %s", name, strerror(errno));
        rg_loop_destroy(loop);
        return NULL;
    }
    loop->now_stale = true;
    return loop;
}

struct rg_loop *rg_loop_create_manual(int64_t start_ms)
{
    struct rg_loop *loop = loop_alloc("manual");

    if (loop == NULL)
        return NULL;
    loop->now_ms = start_ms;
    return loop;
}

void rg_loop_destroy(struct rg_loop *loop)
{
    if (loop == NULL)
        return;
    if (loop->mail_event != NULL)
        event_free(loop->mail_event);
    if (loop->wait_timer != NULL)
        event_free(loop->wait_timer);
    if (loop->base != NULL)
        event_base_free(loop->base);
    if (loop->mail_fd >= 0)
        close(loop->mail_fd);
    pthread_mutex_destroy(&loop->mail_lock);
    free(loop->heap);
    free(loop);
}

/* Running */

/* Mail to be delivered, or the end: *out_stop. */
static bool mail_waits(struct rg_loop *loop, bool *out_stop)
{
    bool waits;

    pthread_mutex_lock(&loop->mail_lock);
    waits = loop->mail_first != NULL;
    *out_stop = loop->stopping;
    pthread_mutex_unlock(&loop->mail_lock);
    return waits;
}

/* How long this turn may wait in ms; -1: until something happens. */
static int64_t longest_wait(struct rg_loop *loop)
{
    int64_t wait = loop->prepare != NULL ? loop->prepare(loop->prepare_arg) : -1;

    if (loop->heap_n > 0) {
        int64_t timer = loop->heap[1]->due_ms - rg_loop_now_ms(loop);

        if (timer < 0)
            timer = 0;
        if (wait < 0 || timer < wait)
            wait = timer;
    }
    return wait;
}

static void arm_wait_timer(struct rg_loop *loop, int64_t wait_ms)
{
    static const int64_t longest = 24 * 3600 * 1000;
    struct timeval tv;

    if (wait_ms < 0) {
        (void)event_del(loop->wait_timer);
        return;
    }
    if (wait_ms > longest)
        wait_ms = longest;
    tv.tv_sec = (time_t)(wait_ms / 1000);
    tv.tv_usec = (suseconds_t)(wait_ms % 1000 * 1000);
    /* It fails only without memory for libevent's heap, which holds one entry for good. */
    if (event_add(loop->wait_timer, &tv) != 0)
        abort();
}

static void wait_once(struct rg_loop *loop, int64_t wait_ms, bool poll)
{
    int flags = EVLOOP_ONCE;

    if (poll || wait_ms == 0)
        flags |= EVLOOP_NONBLOCK;
    else
        arm_wait_timer(loop, wait_ms);
    loop->now_stale = true;
    if (event_base_loop(loop->base, flags) < 0)
        abort(); /* the back end lost its descriptor: nothing would ever be called again */
    atomic_fetch_add_explicit(&loop->wakeups, 1, memory_order_relaxed);
}

void rg_loop_run(struct rg_loop *loop)
{
    bool stop = false, mail;

    atomic_store(&loop->owner, (unsigned long)pthread_self());
    if (getpid() != gettid()) /* the main thread's name is the process's */
        (void)pthread_setname_np(pthread_self(), loop->name);
    for (;;) {
        int64_t wait;

        (void)run_messages(loop);
        run_timers(loop);
        wait = longest_wait(loop);
        mail = mail_waits(loop, &stop); /* after the hook, which may post, too */
        if (stop)
            break;
        wait_once(loop, wait, mail);
    }
    while (run_messages(loop))
        continue;
    pthread_mutex_lock(&loop->mail_lock);
    loop->stopping = false; /* this stop is done with; the loop may be run again */
    pthread_mutex_unlock(&loop->mail_lock);
    atomic_store(&loop->owner, 0);
}

void rg_loop_advance(struct rg_loop *loop, int64_t ms)
{
    int64_t target = loop->now_ms + ms;

    for (;;) {
        bool any = run_messages(loop);

        if (loop->heap_n > 0 && loop->heap[1]->due_ms <= target) {
            if (loop->heap[1]->due_ms > loop->now_ms)
                loop->now_ms = loop->heap[1]->due_ms;
            run_timers(loop);
            any = true;
        }
        if (any && loop->prepare != NULL)
            (void)loop->prepare(loop->prepare_arg);
        if (!any)
            break;
    }
    loop->now_ms = target;
}

void rg_loop_assert_owner(const struct rg_loop *loop)
{
    unsigned long owner = atomic_load_explicit(&loop->owner, memory_order_relaxed);

    if (owner != 0 && owner != (unsigned long)pthread_self())
        abort();
}

int64_t rg_loop_now_ms(const struct rg_loop *loop)
{
    if (loop->now_stale) {
        struct rg_loop *self = (struct rg_loop *)loop; /* a cached value only */

        self->now_ms = clock_ms();
        self->now_stale = false;
    }
    return loop->now_ms;
}

int64_t rg_loop_unix_s(const struct rg_loop *loop)
{
    return loop->base == NULL ? loop->now_ms / 1000 : (int64_t)time(NULL);
}

void rg_loop_prepare(struct rg_loop *loop, rg_prepare_fn fn, void *arg)
{
    loop->prepare = fn;
    loop->prepare_arg = arg;
}

uint64_t rg_loop_wakeups(const struct rg_loop *loop)
{
    return atomic_load_explicit(&loop->wakeups, memory_order_relaxed);
}

struct event_base *rg_loop_base(struct rg_loop *loop)
{
    return loop->base;
}

const char *rg_loop_name(const struct rg_loop *loop)
{
    return loop->name;
}

/* Watches */

static void on_watch(evutil_socket_t fd, short events, void *arg)
{
    struct rg_watch *watch = arg;
    int seen = 0;

    if (watch->is_signal)
        seen = (int)fd;
    else {
        if ((events & EV_READ) != 0)
            seen |= RG_WATCH_READ;
        if ((events & EV_WRITE) != 0)
            seen |= RG_WATCH_WRITE;
    }
    watch->fn(watch->arg, seen); /* may destroy the watch */
}

static short event_flags(int events)
{
    return (short)(EV_PERSIST | ((events & RG_WATCH_READ) != 0 ? EV_READ : 0) |
                   ((events & RG_WATCH_WRITE) != 0 ? EV_WRITE : 0) |
                   ((events & RG_WATCH_EDGE) != 0 ? EV_ET : 0));
}

static struct rg_watch *watch_create(struct rg_loop *loop, int fd, short flags, bool wanted,
                                     rg_watch_fn fn, void *arg)
{
    struct rg_watch *watch;

    if (loop->base == NULL)
        return NULL;
    watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return NULL;
    watch->loop = loop;
    watch->fn = fn;
    watch->arg = arg;
    watch->fd = fd;
    watch->is_signal = (flags & EV_SIGNAL) != 0;
    watch->event = event_new(loop->base, fd, flags, on_watch, watch);
    if (watch->event == NULL || (wanted && event_add(watch->event, NULL) != 0)) {
        rg_watch_destroy(watch);
        return NULL;
    }
    return watch;
}

struct rg_watch *rg_loop_watch(struct rg_loop *loop, int fd, int events, rg_watch_fn fn,
                               void *arg)
{
    bool wanted = (events & (RG_WATCH_READ | RG_WATCH_WRITE)) != 0;

    return watch_create(loop, fd, event_flags(events), wanted, fn, arg);
}

struct rg_watch *rg_loop_signal(struct rg_loop *loop, int signo, rg_watch_fn fn, void *arg)
{
    return watch_create(loop, signo, EV_SIGNAL | EV_PERSIST, true, fn, arg);
}

void rg_watch_change(struct rg_watch *watch, int events)
{
    bool wanted = (events & (RG_WATCH_READ | RG_WATCH_WRITE)) != 0;

    if (watch->is_signal)
        return;
    if (event_del(watch->event) != 0)
        abort();
    if (!wanted)
        return;
    /* The descriptor was watched before, so libevent's slot is there; epoll refuses only what
     * is not a descriptor any more, which is a mistake of ours. */
    if (event_assign(watch->event, watch->loop->base, watch->fd, event_flags(events), on_watch,
                     watch) != 0 ||
        event_add(watch->event, NULL) != 0)
        abort();
}

void rg_watch_destroy(struct rg_watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->event != NULL)
        event_free(watch->event);
    free(watch);
}

#include "http/gone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 64 };

struct rg_gone {
    int fd;
    rg_gone_fn fn;
    struct rg_watch *watch;
};

/* One at a time: fn may end another stream of the same batch, whose data would be freed. */
static void on_ready(void *arg, int events)
{
    struct rg_gone *gone = arg;
    (void)events;
    for (int i = 0; i < BATCH; i++) {
        struct epoll_event event;
        if (epoll_wait(gone->fd, &event, 1, 0) != 1)
            return;
        gone->fn(event.data.ptr);
    }
}

struct rg_gone *rg_gone_create(struct rg_loop *loop, rg_gone_fn fn, struct rg_err *err)
{
    struct rg_gone *gone = calloc(1, sizeof(*gone));
    if (gone == NULL) {
        rg_fail(err, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    gone->fn = fn;
    gone->fd = epoll_create1(EPOLL_CLOEXEC);
    if (gone->fd >= 0)
        gone->watch = rg_loop_watch(loop, gone->fd, RG_WATCH_READ, on_ready, gone);
    if (gone->watch == NULL) {
        rg_fail(err, RG_E_INTERNAL, "cannot watch for clients that leave: %s", strerror(errno));
        rg_gone_destroy(gone);
        return NULL;
    }
    return gone;
}

void rg_gone_destroy(struct rg_gone *gone)
{
    if (gone == NULL)
        return;
    rg_watch_destroy(gone->watch);
    if (gone->fd >= 0)
        close(gone->fd);
    free(gone);
}

void rg_gone_watch(struct rg_gone *gone, int fd, void *data)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = data};
    (void)epoll_ctl(gone->fd, EPOLL_CTL_ADD, fd, &event);
}

void rg_gone_forget(struct rg_gone *gone, int fd)
{
    (void)epoll_ctl(gone->fd, EPOLL_CTL_DEL, fd, NULL);
}

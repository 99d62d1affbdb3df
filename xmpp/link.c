#include "xmpp/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gateway/base/secret.h"

enum { BATCH = 16 };

bool rg_link_init(struct rg_link *link, int fd_take, size_t max_queued, bool wipe)
{
    uint8_t *in = malloc(RG_LINK_IN);
    if (in == NULL)
        return false;
    *link = (struct rg_link){.fd = fd_take, .max_queued = max_queued, .in = in, .wipe = wipe};
    STAILQ_INIT(&link->queue);
    return true;
}

static void drop_queue(struct rg_link *link)
{
    struct rg_frame_out *frame;
    while ((frame = STAILQ_FIRST(&link->queue)) != NULL) {
        STAILQ_REMOVE_HEAD(&link->queue, link);
        rg_frame_free(frame);
    }
    link->queued = 0;
}

void rg_link_fini(struct rg_link *link)
{
    if (link->in == NULL)
        return;
    drop_queue(link);
    int fd;
    while (rg_link_take_fd(link, &fd))
        if (fd >= 0)
            close(fd);
    if (link->wipe)
        rg_wipe(link->in, RG_LINK_IN);
    free(link->in);
    link->in = NULL;
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

bool rg_link_send_take(struct rg_link *link, struct rg_frame_out *frame)
{
    if (link->broken || !rg_frame_seal(frame) || frame->len > link->max_queued - link->queued) {
        link->broken = true;
        rg_frame_free(frame);
        return false;
    }
    link->queued += frame->len;
    STAILQ_INSERT_TAIL(&link->queue, frame, link);
    return rg_link_flush(link);
}

/* One sendmsg: the head of the queue, and what follows it up to the next frame that carries a
 * descriptor (one per message). */
static ssize_t send_some(struct rg_link *link)
{
    struct iovec iov[BATCH];
    struct msghdr message = {.msg_iov = iov};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct rg_frame_out *frame;
    STAILQ_FOREACH(frame, &link->queue, link)
    {
        if (message.msg_iovlen == BATCH)
            break;
        bool with_fd = frame->fd >= 0 && frame->sent == 0;
        if (with_fd && message.msg_iovlen > 0)
            break;
        if (with_fd) {
            memset(&control, 0, sizeof(control));
            message.msg_control = control.bytes;
            message.msg_controllen = sizeof(control.bytes);
            struct cmsghdr *head = CMSG_FIRSTHDR(&message);
            head->cmsg_level = SOL_SOCKET;
            head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(head), &frame->fd, sizeof(int));
        }
        iov[message.msg_iovlen++] = (struct iovec){.iov_base = frame->data + frame->sent,
                                                   .iov_len = frame->len - frame->sent};
    }
    return sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void sent_bytes(struct rg_link *link, size_t n)
{
    link->queued -= n;
    while (n > 0) {
        struct rg_frame_out *frame = STAILQ_FIRST(&link->queue);
        size_t left = frame->len - frame->sent;
        if (n < left) {
            frame->sent += n;
            return;
        }
        n -= left;
        STAILQ_REMOVE_HEAD(&link->queue, link);
        rg_frame_free(frame);
    }
}

bool rg_link_flush(struct rg_link *link)
{
    while (!link->broken && rg_link_pending(link)) {
        ssize_t n = send_some(link);
        if (n > 0) {
            sent_bytes(link, (size_t)n);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        link->broken = true;
    }
    return !link->broken;
}

/* Moves the descriptors of one message into the list; false if there are too many. The kernel
 * drops a descriptor this process has no room for: -1 stands in its place, so that the next one
 * does not go to the wrong session. */
static bool keep_fds(struct rg_link *link, struct msghdr *message)
{
    bool fits = true;
    if ((message->msg_flags & MSG_CTRUNC) != 0 && CMSG_FIRSTHDR(message) == NULL) {
        if (link->n_fds == RG_LINK_FDS)
            return false;
        link->fds[link->n_fds++] = -1;
    }
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
            if (link->n_fds < RG_LINK_FDS) {
                link->fds[link->n_fds++] = fd;
            } else {
                close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

static void compact(struct rg_link *link)
{
    if (link->in_at == 0)
        return;
    memmove(link->in, link->in + link->in_at, link->in_len - link->in_at);
    size_t kept = link->in_len - link->in_at;
    if (link->wipe)
        rg_wipe(link->in + kept, link->in_len - kept);
    link->in_len = kept;
    link->in_at = 0;
}

enum rg_link_read rg_link_fill(struct rg_link *link)
{
    compact(link);
    if (link->in_len == RG_LINK_IN)
        return RG_LINK_NOTHING; /* whole frames wait in it: the buffer is larger than one */
    struct iovec iov = {.iov_base = link->in + link->in_len,
                        .iov_len = RG_LINK_IN - link->in_len};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return RG_LINK_NOTHING;
    if (n <= 0)
        return RG_LINK_ENDED;
    link->in_len += (size_t)n;
    return keep_fds(link, &message) ? RG_LINK_DATA : RG_LINK_ENDED;
}

enum rg_frame_parse rg_link_next(struct rg_link *link, struct rg_frame *out)
{
    size_t used = 0;
    enum rg_frame_parse parse =
        rg_frame_parse(link->in + link->in_at, link->in_len - link->in_at, out, &used);
    if (parse == RG_FRAME_WHOLE)
        link->in_at += used;
    else if (parse == RG_FRAME_PART)
        compact(link);
    return parse;
}

bool rg_link_take_fd(struct rg_link *link, int *out_fd)
{
    if (link->n_fds == 0)
        return false;
    *out_fd = link->fds[0];
    link->n_fds--;
    memmove(link->fds, link->fds + 1, link->n_fds * sizeof(int));
    return true;
}

/* One end of the link: a non-blocking stream socket with a bounded queue of frames to send and
 * a buffer of what was read. Owner: whoever initialised it. Thread: the owner's.
 *
 * Neither side ever blocks on the other. Nothing is dropped either: a queue beyond its bound is
 * an overflow, and the link is not usable any more. */
#ifndef XMPP_LINK_H
#define XMPP_LINK_H

#include "xmpp/frame.h"

enum { RG_LINK_FDS = 64, RG_LINK_IN = 2 * RG_FRAME_MAX };

struct rg_link {
    int fd; /* own; -1 once closed */
    struct rg_frame_queue queue;
    size_t queued, max_queued; /* bytes */
    bool broken;               /* overflow, a failed frame or a failed write */
    uint8_t *in;               /* own */
    size_t in_at, in_len;
    bool wipe; /* what was read may hold passwords: wiped once used */
    int fds[RG_LINK_FDS];
    size_t n_fds;
};

/* (take) fd on success. False: out of memory. */
bool rg_link_init(struct rg_link *link, int fd_take, size_t max_queued, bool wipe);
void rg_link_fini(struct rg_link *link); /* closes; also right for a zeroed one with fd -1 */

/* Queues the frame and tries to send. (take). False: the link is broken. */
bool rg_link_send_take(struct rg_link *link, struct rg_frame_out *frame);
/* Sends what the socket accepts. False: broken. */
bool rg_link_flush(struct rg_link *link);
static inline bool rg_link_pending(const struct rg_link *link)
{
    return !STAILQ_EMPTY(&link->queue);
}

enum rg_link_read { RG_LINK_DATA, RG_LINK_NOTHING, RG_LINK_ENDED };
/* One read. ENDED: the peer is gone, or the read failed, or it sent too many descriptors. */
enum rg_link_read rg_link_fill(struct rg_link *link);
/* The next whole frame; its body is (borrow) until the next rg_link_next or rg_link_fill. */
enum rg_frame_parse rg_link_next(struct rg_link *link, struct rg_frame *out);
/* The oldest descriptor received, (own) *out_fd; -1 if this process had no room for it. False:
 * none came. */
bool rg_link_take_fd(struct rg_link *link, int *out_fd);

#endif

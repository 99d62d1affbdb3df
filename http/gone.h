/* Tells when the client of a socket has left. libmicrohttpd does not look at a suspended
 * connection, so a parked stream would keep its place among `limits.streams_user` and
 * `streams_address` until a heartbeat fails to be written; a page that reloads a few times
 * would lock itself out.
 *
 * One epoll set for all streams of a lane: no memory of ours per stream. A client that closes
 * only its sending side counts as gone, as it does for the proxies. Thread: the loop's. */
#ifndef HTTP_GONE_H
#define HTTP_GONE_H

#include "gateway/base/err.h"
#include "gateway/base/loop.h"

struct rg_gone;
typedef void (*rg_gone_fn)(void *data);

/* (own); NULL with err filled. */
struct rg_gone *rg_gone_create(struct rg_loop *loop, rg_gone_fn fn, struct rg_err *err);
void rg_gone_destroy(struct rg_gone *gone); /* accepts NULL; on the loop's thread or after it */
/* fn(data) is called once when the other side of fd has closed. Without room in the kernel the
 * heartbeat finds it, later. (borrow) fd. */
void rg_gone_watch(struct rg_gone *gone, int fd, void *data);
/* No call for fd after this. Before fd is closed. */
void rg_gone_forget(struct rg_gone *gone, int fd);

#endif

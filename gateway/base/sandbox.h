/* What a process gives up once it has started (DESIGN sections 2 and 6, SECURITY.md):
 * privileges, system calls it never needs, and, for a worker, every file but the trust store.
 * Nothing here is given back, and children inherit it.
 *
 * Thread: the only one, or for rg_sandbox_front any. Fails soft: what the kernel does not offer
 * is told in *out and the process goes on without; err says why. */
#ifndef GATEWAY_BASE_SANDBOX_H
#define GATEWAY_BASE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/err.h"

struct rg_sandbox {
    bool no_new_privileges;
    bool no_capabilities;
    bool filter;  /* seccomp */
    int landlock; /* version of the kernel's Landlock that holds; 0: none */
};

/* Before any thread: no capability but CAP_NET_BIND_SERVICE (a listener may still have to be
 * bound), none to be had again, no new ones by exec. */
enum rg_code rg_sandbox_begin(struct rg_sandbox *out, struct rg_err *err);
/* Once the listeners are bound: no capability at all for this thread, no core file, no ptrace;
 * for all threads a filter of system calls that no server of this kind needs. Processes may
 * still be spawned: workers are. */
enum rg_code rg_sandbox_front(struct rg_sandbox *out, struct rg_err *err);
/* A worker: only reads below the n paths (missing ones do not count), no writing, no program,
 * no listening, no sockets but TCP, and of system calls those on a list. */
enum rg_code rg_sandbox_worker(const char *const *readable, size_t n, struct rg_sandbox *out,
                               struct rg_err *err);
/* The version of Landlock that the kernel offers; 0: none. */
int rg_sandbox_landlock(void);

#endif

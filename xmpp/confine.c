/* A worker gives up all it has no use for before it reads its first byte from the front. What
 * it still has to read are certificates: the system's roots by path, a file of the
 * configuration as a copy made now, so that neither the file's place nor its later content
 * matters. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/sandbox.h"
#include "xmpp/worker.h"

static const char CERT_FILE[] = "SSL_CERT_FILE"; /* set by the supervisor */
static const char NOTHING[] = "/dev/null";

/* The roots' folder holds links to the other two. */
static const char *const TRUST_STORE[] = {"/etc/ssl/certs", "/usr/share/ca-certificates",
                                          "/usr/local/share/ca-certificates", NOTHING};

static bool copy_all(int from, int to)
{
    char buffer[16 * 1024];
    for (;;) {
        ssize_t n = read(from, buffer, sizeof(buffer));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        for (ssize_t done = 0, wrote; done < n; done += wrote) {
            wrote = write(to, buffer + done, (size_t)(n - done));
            if (wrote < 0)
                return false;
        }
    }
}

/* Returns an unchangeable copy of the file, -1 if there is none to be had. */
static int frozen_copy(const char *path)
{
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = from < 0 ? -1 : memfd_create("trust", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool good = to >= 0 && copy_all(from, to) &&
                fcntl(to, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0;
    if (from >= 0)
        close(from);
    if (to >= 0 && !good)
        close(to);
    return good ? to : -1;
}

static void freeze_trust(void)
{
    const char *path = getenv(CERT_FILE);
    char name[32];
    if (path == NULL || strcmp(path, NOTHING) == 0)
        return;
    int copy = frozen_copy(path);
    if (copy < 0) {
        rg_log(RG_LOG_ERROR, "xmpp", "ca-file-unreadable", RG_STR("file", path),
               RG_INT("errno", errno));
        return;
    }
    snprintf(name, sizeof(name), "/proc/self/fd/%d", copy);
    (void)setenv(CERT_FILE, name, 1);
}

void rg_worker_confine(void)
{
    struct rg_sandbox held;
    struct rg_err err = RG_ERR_INIT;
    freeze_trust();
    tzset(); /* reads /etc/localtime now, while it may */
    /* What the kernel lacks the front has said already. */
    if (rg_sandbox_worker(TRUST_STORE, RG_ARRAY_LEN(TRUST_STORE), &held, &err) != RG_OK)
        rg_log(RG_LOG_WARN, "xmpp", "worker-less-confined", RG_STR("why", err.text),
               RG_BOOL("seccomp", held.filter), RG_INT("landlock", held.landlock));
}

/* Listening sockets: TCP, Unix, or passed in by the service manager (LISTEN_FDS). */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/internal.h"

enum { BACKLOG = 4096, FIRST_PASSED = 3, PASSED_MAX = 64 };

/* Writes where the socket really listens. */
static void describe(struct rg_listener *out)
{
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t len = sizeof(addr);
    char host[64], port[8];
    if (getsockname(out->fd, &addr.any, &len) != 0) {
        snprintf(out->address, sizeof(out->address), "unknown");
    } else if (addr.any.sa_family == AF_UNIX) {
        addr.un.sun_path[sizeof(addr.un.sun_path) - 1] = '\0';
        snprintf(out->address, sizeof(out->address), "unix:%s", addr.un.sun_path);
    } else if (getnameinfo(&addr.any, len, host, sizeof(host), port, sizeof(port),
                           NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        bool v6 = addr.any.sa_family == AF_INET6;
        snprintf(out->address, sizeof(out->address), v6 ? "http://[%s]:%s" : "http://%s:%s",
                 host, port);
    }
}

/* The index-th descriptor of the protocol of sd_listen_fds(3), or -1. */
static int passed_fd(unsigned index)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != (long)getpid())
        return -1;
    long n = strtol(count, NULL, 10);
    if (n > PASSED_MAX || (long)index >= n)
        return -1;
    int fd = FIRST_PASSED + (int)index, listening = 0;
    socklen_t len = sizeof(listening);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0 || listening == 0)
        return -1;
    return fd;
}

static enum rg_code prepare_fd(int fd, struct rg_err *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return rg_fail(err, RG_E_INTERNAL, "cannot prepare the passed socket: %s",
                       strerror(errno));
    return RG_OK;
}

/* A socket file nobody listens on is left over from a process that was killed. */
static bool abandoned(const struct sockaddr_un *addr)
{
    struct stat info;
    if (lstat(addr->sun_path, &info) != 0 || !S_ISSOCK(info.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool refused =
        connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static enum rg_code open_unix(struct rg_listener *out, const char *path, struct rg_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (path[0] != '/' || strlen(path) >= sizeof(addr.sun_path))
        return rg_fail(err, RG_E_BAD_REQUEST, "unix:%s: no absolute path of fitting length",
                       path);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    if (abandoned(&addr))
        unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return rg_fail(err, RG_E_INTERNAL, "socket: %s", strerror(errno));
    char *copy = strdup(path);
    /* The proxy runs under another user: with 0755 it could not connect (facts 1.1). */
    if (copy == NULL || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        chmod(path, 0666) != 0 || listen(fd, BACKLOG) != 0) {
        rg_fail(err, RG_E_INTERNAL, "unix:%s: %s", path, strerror(errno));
        close(fd);
        free(copy);
        return RG_E_INTERNAL;
    }
    out->fd = fd;
    out->unlink_path = copy;
    return RG_OK;
}

/* "host:port" or "[v6]:port" into its parts. */
static bool split_host_port(const char *text, char host[256], char port[8])
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || strlen(colon + 1) == 0 || strlen(colon + 1) > 5)
        return false;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= 256)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

static enum rg_code bind_tcp(struct rg_listener *out, const struct addrinfo *info,
                             const char *text, bool plain_http, struct rg_err *err)
{
    struct rg_address address;
    rg_address_from_sockaddr(&address, info->ai_addr);
    if (!plain_http && !rg_address_loopback(&address))
        return rg_fail(err, RG_E_BAD_REQUEST,
                       "%s is not loopback: put a proxy with TLS in front, or say "
                       "plain_http = true",
                       text);
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return rg_fail(err, RG_E_INTERNAL, "socket: %s", strerror(errno));
    int one = 1;
    /* REUSEADDR: a restart must not wait for TIME_WAIT. Accepted sockets inherit NODELAY. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        rg_fail(err, RG_E_INTERNAL, "%s: %s", text, strerror(errno));
        close(fd);
        return RG_E_INTERNAL;
    }
    out->fd = fd;
    return RG_OK;
}

static enum rg_code open_tcp(struct rg_listener *out, const char *text, bool plain_http,
                             struct rg_err *err)
{
    char host[256], port[8];
    if (!split_host_port(text, host, port))
        return rg_fail(err, RG_E_BAD_REQUEST, "%s is not host:port", text);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *info = NULL;
    int failed = getaddrinfo(host, port, &hints, &info);
    if (failed != 0)
        return rg_fail(err, RG_E_BAD_REQUEST, "%s: %s", text, gai_strerror(failed));
    enum rg_code code = bind_tcp(out, info, text, plain_http, err);
    freeaddrinfo(info);
    return code;
}

enum rg_code rg_listener_open(struct rg_listener *out, const char *text, unsigned index,
                              bool plain_http, struct rg_err *err)
{
    struct rg_listener listener = {.fd = passed_fd(index)};
    enum rg_code code;
    if (listener.fd >= 0)
        code = prepare_fd(listener.fd, err);
    else if (strncmp(text, "unix:", 5) == 0)
        code = open_unix(&listener, text + 5, err);
    else
        code = open_tcp(&listener, text, plain_http, err);
    if (code != RG_OK)
        return code;
    describe(&listener);
    *out = listener;
    return RG_OK;
}

void rg_listener_close(struct rg_listener *listener)
{
    if (listener->fd >= 0)
        close(listener->fd);
    listener->fd = -1;
    if (listener->unlink_path != NULL)
        unlink(listener->unlink_path);
    free(listener->unlink_path);
    listener->unlink_path = NULL;
}

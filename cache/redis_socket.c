#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cache/redis_url.h"

enum { KEEPALIVE_S = 15 };

/* A peer that vanished without a word is noticed, on an idle connection too. */
static void keep_alive(int fd)
{
    int on = 1, idle_s = KEEPALIVE_S, limit_ms = KEEPALIVE_S * 1000;

    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof(limit_ms));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static socklen_t fill_address(struct sockaddr_storage *out, const struct rg_redis_url *url,
                              const char *literal)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)out;
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out;

    memset(out, 0, sizeof(*out));
    if (url->path[0] != '\0') {
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, url->path, strlen(url->path));
        return sizeof(*un);
    }
    if (inet_pton(AF_INET, literal, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(url->port);
        return sizeof(*v4);
    }
    (void)inet_pton(AF_INET6, literal, &v6->sin6_addr);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(url->port);
    return sizeof(*v6);
}

int rg_redis_socket(const struct rg_redis_url *url, const char *literal)
{
    struct sockaddr_storage address;
    socklen_t len = fill_address(&address, url, literal);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int problem;

    if (fd < 0)
        return -1;
    if (address.ss_family != AF_UNIX)
        keep_alive(fd);
    if (connect(fd, (const struct sockaddr *)&address, len) == 0 || errno == EINPROGRESS)
        return fd;
    problem = errno;
    close(fd);
    errno = problem;
    return -1;
}

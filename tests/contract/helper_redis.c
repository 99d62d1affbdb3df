#include "tests/contract/helper_redis.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

static void connect_to(struct redis *redis)
{
    for (int tries = 0; tries < 5000; tries++) {
        redisReply *reply;

        redis->context = redisConnectUnix(redis->socket);
        reply = redis->context != NULL && redis->context->err == 0
                    ? redisCommand(redis->context, "PING")
                    : NULL;
        if (reply != NULL && reply->type == REDIS_REPLY_STATUS) {
            freeReplyObject(reply);
            return;
        }
        if (reply != NULL)
            freeReplyObject(reply);
        redisFree(redis->context);
        redis->context = NULL;
        usleep(2000); /* it is starting: there is nothing to wait on but itself */
    }
    fail_msg("redis-server does not answer");
}

void redis_again(struct redis *redis)
{
    char *argv[] = {(char *)"redis-server",
                    (char *)"--port",
                    (char *)"0",
                    (char *)"--unixsocket",
                    redis->socket,
                    (char *)"--dir",
                    redis->dir,
                    (char *)"--save",
                    (char *)"",
                    (char *)"--appendonly",
                    (char *)"no",
                    (char *)"--logfile",
                    (char *)"/dev/null",
                    (char *)"--enable-debug-command",
                    (char *)"local",
                    NULL};

    assert_int_equal(posix_spawnp(&redis->pid, argv[0], NULL, NULL, argv, environ), 0);
    connect_to(redis);
    redis_do(redis, "SELECT 3"); /* the database of the URL */
}

void redis_start(struct redis *redis)
{
    memset(redis, 0, sizeof(*redis));
    strcpy(redis->dir, "/tmp/rg-redis-XXXXXX");
    assert_non_null(mkdtemp(redis->dir));
    (void)snprintf(redis->socket, sizeof(redis->socket), "%s/s", redis->dir);
    (void)snprintf(redis->url, sizeof(redis->url), "unix://%s?db=3", redis->socket);
    redis_again(redis);
}

void redis_kill(struct redis *redis)
{
    int status;

    redisFree(redis->context);
    redis->context = NULL;
    if (redis->pid == 0)
        return;
    (void)kill(redis->pid, SIGKILL);
    (void)waitpid(redis->pid, &status, 0);
    redis->pid = 0;
    (void)unlink(redis->socket);
}

void redis_remove(struct redis *redis)
{
    char dump[64];

    redis_kill(redis);
    (void)snprintf(dump, sizeof(dump), "%s/dump.rdb", redis->dir);
    (void)unlink(dump);
    assert_int_equal(rmdir(redis->dir), 0);
}

static redisReply *ask(struct redis *redis, const char *format, va_list args)
{
    redisReply *reply = redisvCommand(redis->context, format, args);

    if (reply == NULL)
        fail_msg("%s: %s", format, redis->context->errstr);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", format, reply->str);
    return reply;
}

redisReply *redis_ask(struct redis *redis, const char *format, ...)
{
    va_list args;
    redisReply *reply;

    va_start(args, format);
    reply = ask(redis, format, args);
    va_end(args);
    return reply;
}

long long redis_number(struct redis *redis, const char *format, ...)
{
    va_list args;
    redisReply *reply;
    long long value;

    va_start(args, format);
    reply = ask(redis, format, args);
    va_end(args);
    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    value = reply->integer;
    freeReplyObject(reply);
    return value;
}

void redis_do(struct redis *redis, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    freeReplyObject(ask(redis, format, args));
    va_end(args);
}

long long redis_info(struct redis *redis, const char *name)
{
    redisReply *reply = redis_ask(redis, "INFO");
    const char *at = strstr(reply->str, name);
    long long value = at != NULL ? atoll(at + strlen(name) + 1) : -1;

    freeReplyObject(reply);
    return value;
}

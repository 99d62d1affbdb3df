/* A real redis-server of one's own: a Unix socket in a folder of its own, no TCP port, no
 * persistence but what a test asks for. Calls are synchronous and fail the test. */
#ifndef TESTS_CONTRACT_HELPER_REDIS_H
#define TESTS_CONTRACT_HELPER_REDIS_H

#include <hiredis/hiredis.h>
#include <sys/types.h>

struct redis {
    pid_t pid; /* 0: not running */
    char dir[40];
    char socket[64], url[96];
    redisContext *context;
};

void redis_start(struct redis *redis);
void redis_kill(struct redis *redis);  /* at once; its files stay */
void redis_again(struct redis *redis); /* the same one, with what it has saved */
void redis_remove(struct redis *redis);
/* One command; (own) reply. */
redisReply *redis_ask(struct redis *redis, const char *format, ...);
/* The same for its integer, or for nothing. */
long long redis_number(struct redis *redis, const char *format, ...);
void redis_do(struct redis *redis, const char *format, ...);
/* A number out of INFO. */
long long redis_info(struct redis *redis, const char *name);

#endif

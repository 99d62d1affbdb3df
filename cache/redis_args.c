#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/redis_link.h"

void rg_redis_args_put(struct rg_redis_args *args, const void *data, size_t len)
{
    if (args->n == args->cap) {
        size_t cap = args->cap == 0 ? 16 : args->cap * 2;
        size_t *ends = reallocarray(args->ends, cap, sizeof(*ends));

        if (ends == NULL) {
            args->failed = true;
            return;
        }
        args->ends = ends;
        args->cap = cap;
    }
    rg_buf_append(&args->bytes, data, len);
    args->ends[args->n++] = args->bytes.len;
    args->failed = args->failed || rg_buf_failed(&args->bytes);
}

void rg_redis_args_puts(struct rg_redis_args *args, const char *text)
{
    rg_redis_args_put(args, text, strlen(text));
}

void rg_redis_args_number(struct rg_redis_args *args, long long value)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%lld", value);

    rg_redis_args_put(args, text, (size_t)len);
}

void rg_redis_args_fini(struct rg_redis_args *args)
{
    rg_buf_fini(&args->bytes);
    free(args->ends);
    *args = (struct rg_redis_args){.n = 0};
}

bool rg_redis_is_error(const redisReply *reply, const char *word)
{
    return reply != NULL && reply->type == REDIS_REPLY_ERROR && reply->str != NULL &&
           strncmp(reply->str, word, strlen(word)) == 0;
}

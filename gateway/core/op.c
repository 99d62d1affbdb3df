#include "gateway/core/op.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"

static const char *const ACTIONS[] = {"request", "cancel", "unsubscribe", "approve",
                                      "deny",    "revoke", "preapprove",  "befriend"};

const char *rg_action_name(unsigned action)
{
    for (size_t i = 0; i < RG_ARRAY_LEN(ACTIONS); i++)
        if (action & (1U << i))
            return ACTIONS[i];
    return "";
}

struct rg_op *rg_op_create(enum rg_op_kind kind, rg_op_fn done, void *arg)
{
    struct rg_op *op = calloc(1, sizeof(*op));
    if (op == NULL)
        return NULL;
    op->kind = kind;
    op->done = done;
    op->arg = arg;
    return op;
}

void rg_op_destroy(struct rg_op *op)
{
    if (op == NULL)
        return;
    if (op->token != NULL)
        rg_wipe(op->token, strlen(op->token));
    free(op->token);
    rg_secret_destroy(op->in.password);
    free(op->in.jid);
    free(op->in.name);
    for (size_t i = 0; i < op->in.n_groups; i++)
        free(op->in.groups[i]);
    free(op->in.groups);
    free(op->in.condition.versions);
    rg_stream_unref(op->in.stream);
    if (op->out.token.data != NULL)
        rg_wipe(op->out.token.data, op->out.token.cap);
    rg_buf_fini(&op->out.token);
    rg_view_fini(&op->out.view);
    for (size_t i = 0; i < op->out.n_changes; i++)
        rg_change_unref(op->out.changes[i]);
    free(op->out.changes);
    rg_item_unref(op->out.item);
    rg_item_unref(op->before);
    free(op);
}

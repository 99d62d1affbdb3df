#include "xmpp/iq.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/random.h"

void rg_iq_table_init(struct rg_iq_table *table, struct rg_iq_list *all)
{
    TAILQ_INIT(&table->list);
    table->all = all;
    table->n = 0;
}

static void draw_id(char out[RG_IQ_ID_SIZE])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    uint8_t bytes[RG_IQ_ID_SIZE - 1];
    rg_random_bytes(bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        out[i] = letters[bytes[i] % 32]; /* 5 bits each: 120 in all */
    out[sizeof(bytes)] = '\0';
}

struct rg_iq *rg_iq_add(struct rg_iq_table *table, enum rg_iq_kind kind, uint32_t request,
                        int64_t due_ms, void *owner)
{
    struct rg_iq *iq = calloc(1, sizeof(*iq));
    if (iq == NULL)
        return NULL;
    iq->kind = kind;
    iq->request = request;
    iq->due_ms = due_ms;
    iq->owner = owner;
    draw_id(iq->id);
    TAILQ_INSERT_TAIL(&table->list, iq, of_session);
    TAILQ_INSERT_TAIL(table->all, iq, of_worker);
    table->n++;
    return iq;
}

struct rg_iq *rg_iq_find(const struct rg_iq_table *table, const char *id)
{
    struct rg_iq *iq;
    if (id == NULL)
        return NULL;
    TAILQ_FOREACH(iq, &table->list, of_session)
    if (strcmp(iq->id, id) == 0)
        return iq;
    return NULL;
}

void rg_iq_remove(struct rg_iq_table *table, struct rg_iq *iq)
{
    TAILQ_REMOVE(&table->list, iq, of_session);
    TAILQ_REMOVE(table->all, iq, of_worker);
    table->n--;
    free(iq);
}

void rg_iq_table_fini(struct rg_iq_table *table)
{
    struct rg_iq *iq;
    while ((iq = TAILQ_FIRST(&table->list)) != NULL)
        rg_iq_remove(table, iq);
}

static bool is_one_of(const char *from, const char *const *mine, size_t n)
{
    struct rg_jid jid;
    for (size_t i = 0; i < n; i++)
        if (mine[i] != NULL && strcmp(from, mine[i]) == 0)
            return true;
    if (rg_jid_prepare(&jid, from, strlen(from), NULL) != RG_OK)
        return false;
    for (size_t i = 0; i < n; i++)
        if (mine[i] != NULL && strcmp(jid.text, mine[i]) == 0)
            return true;
    return false;
}

bool rg_self_answers(const struct rg_self *self, const char *from)
{
    const char *mine[] = {self->bare, self->full, self->domain};
    return from == NULL || is_one_of(from, mine, 3);
}

bool rg_self_pushes(const struct rg_self *self, const char *from)
{
    const char *mine[] = {self->bare};
    return from == NULL || is_one_of(from, mine, 1);
}

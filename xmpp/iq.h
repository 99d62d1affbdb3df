/* The IQ requests of one session that wait for an answer.
 *
 * libstrophe's id handlers would match on the id alone; here the sender is checked too (R20,
 * R31), ids hold 120 random bits, and each request has a deadline. All requests of a worker
 * have the same patience, so the worker-wide list is in order of deadline by itself. Thread:
 * worker. */
#ifndef XMPP_IQ_H
#define XMPP_IQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "gateway/base/jid.h"

enum rg_iq_kind { RG_IQ_ROSTER_GET, RG_IQ_ITEM_SET, RG_IQ_ITEM_REMOVE };
enum { RG_IQ_ID_SIZE = 25 };

struct rg_iq {
    TAILQ_ENTRY(rg_iq) of_session;
    TAILQ_ENTRY(rg_iq) of_worker;
    enum rg_iq_kind kind;
    uint32_t request; /* the front's number */
    int64_t due_ms;
    void *owner; /* the session */
    char id[RG_IQ_ID_SIZE];
};
TAILQ_HEAD(rg_iq_list, rg_iq);

struct rg_iq_table {
    struct rg_iq_list list;
    struct rg_iq_list *all; /* the worker's, borrowed */
    size_t n;
};

void rg_iq_table_init(struct rg_iq_table *table, struct rg_iq_list *all);
/* Draws an id and appends; (borrow) until removed, NULL when out of memory. */
struct rg_iq *rg_iq_add(struct rg_iq_table *table, enum rg_iq_kind kind, uint32_t request,
                        int64_t due_ms, void *owner);
struct rg_iq *rg_iq_find(const struct rg_iq_table *table, const char *id);
void rg_iq_remove(struct rg_iq_table *table, struct rg_iq *iq); /* frees it */
void rg_iq_table_fini(struct rg_iq_table *table);

/* The addresses of one session, prepared. (own) all but domain. */
struct rg_self {
    char *bare;
    char *full;         /* NULL until bound */
    const char *domain; /* (borrow) */
};
/* May an answer to a request without `to` come from here? Nobody, the own bare or full JID, or
 * the own domain (old servers), R20. `from` may be NULL. */
bool rg_self_answers(const struct rg_self *self, const char *from);
/* May a roster push come from here? Nobody or the own bare JID, and nobody else (RFC 6121
 * 2.1.6, R39). */
bool rg_self_pushes(const struct rg_self *self, const char *from);

#endif

/* Two instances that share an account, and what may happen to them. */
#ifndef TESTS_CONTRACT_HELPER_REDIS_SHARE_H
#define TESTS_CONTRACT_HELPER_REDIS_SHARE_H

#include "tests/contract/helper_redis_store.h"

/* What an instance hears is written down; it gives up whatever it is asked for. */
extern const struct rg_store_watcher writes_down;
/* Asks the store and waits for the answer. */
void sync_with(struct fixture *f, struct rg_store *store, struct rg_account *account,
               enum rg_sync how);
/* Two instances hold the account; the first owns it, the second one's is f->account. Returns
 * the first one's. Both watch with writes_down. */
struct rg_account *two_instances(struct fixture *f);
void let_go_of_both(struct fixture *f, struct rg_account *mine);
/* Both have gone on alone. Returns the first one's account; the second one's knows of nurse@.
 */
struct rg_account *both_alone(struct fixture *f);
/* A heartbeat of this run of Redis. */
void let_beat(const char *owner, int for_ms);
/* Redis is back as it was, or emptied, and knows of the owner in this run. */
void start_again_with_its_owner(bool emptied);

bool same_version(const struct rg_account *a, const struct rg_account *b);
extern struct rg_account *awaited;
bool follows(struct fixture *f); /* f->account shows what `awaited` shows */
bool is_alone(struct fixture *f);
bool is_owner(struct fixture *f);
bool keeps_nurse(struct fixture *f); /* and is the owner; fails if she is gone */

#endif

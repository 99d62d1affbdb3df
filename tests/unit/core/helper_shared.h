/* The plain store as one that several instances share: the test says what the others do, what
 * they are told, and when a change is kept. */
#ifndef TESTS_UNIT_CORE_HELPER_SHARED_H
#define TESTS_UNIT_CORE_HELPER_SHARED_H

#include "tests/unit/core/helper_scene.h"

int sh_setup(void **state);
int sh_teardown(void **state);
/* Commits wait for sh_keep until false. */
void sh_hold_commits(bool hold);
bool sh_is_committing(void);
void sh_keep(struct world *w);
/* Answers the oldest question to the store, which has to be this one. */
void sh_answer(struct world *w, enum rg_sync how, enum rg_role role);
size_t sh_questions(void);
/* How often an account was given up. */
size_t sh_given_up(void);
void sh_lease(int64_t until_ms);
/* What others did: JULIET's account has this role now. */
void sh_role(struct world *w, enum rg_role role, bool unled);
/* An owner elsewhere wrote this item. */
void sh_write(struct world *w, const char *item);
void sh_asked(struct world *w); /* another instance would like to have it */

/* JULIET, signed in and live, with or without the account. */
struct scene sh_live(void **state, enum rg_role role, const char *roster);

#endif

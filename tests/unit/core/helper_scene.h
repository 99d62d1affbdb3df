/* One user who is signed in and live, and writes. */
#ifndef TESTS_UNIT_CORE_HELPER_SCENE_H
#define TESTS_UNIT_CORE_HELPER_SCENE_H

#include "tests/unit/core/helper_core.h"

#define ROMEO "romeo@example.net"
#define NURSE "nurse@example.com"

struct scene {
    struct world *w;
    struct call *by;
    struct fake_session *session;
};

struct scene s_live(void **state, const char *roster);
struct call *s_put(struct scene *scene, const char *jid, const char *name, const char *groups);
/* The call was answered with this item. */
void s_expect_item(const struct call *call, const char *item);
/* Sets and removes of the session without an answer. */
size_t s_in_flight(struct fake_session *session);

#endif

#include "tests/unit/core/helper_scene.h"

struct scene s_live(void **state, const char *roster)
{
    struct scene scene = {.w = *state};
    scene.by = c_live(scene.w, roster, "v1");
    scene.session = fake_last(scene.w->up);
    return scene;
}

struct call *s_put(struct scene *scene, const char *jid, const char *name, const char *groups)
{
    return c_send(c_put(scene->w, scene->by, jid, name, groups));
}

void s_expect_item(const struct call *call, const char *item)
{
    RG_CLEANUP(rg_item_unrefp) struct rg_item *wanted = fake_item(item);
    c_expect(call, RG_OK);
    assert_non_null(call->op->out.item);
    assert_true(rg_item_equal(call->op->out.item, wanted));
}

size_t s_in_flight(struct fake_session *session)
{
    size_t n = 0;
    for (size_t i = 0; i < session->up->n_calls; i++) {
        const struct fake_call *call = session->up->calls[i];
        n += call->session == session && !call->answered &&
             (call->kind == FAKE_SET || call->kind == FAKE_REMOVE);
    }
    return n;
}

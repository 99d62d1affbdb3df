/* The bytes of a worker that was taken over, as the front reads them: frames about a session
 * that is signing in (first byte even) or up with two requests in flight (odd). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/random.h"
#include "xmpp/front.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rg_config config = {.limits = {.items = 100, .stanza_bytes = 1 << 20}};
static struct rg_front front;
static struct rg_served served;
static struct rg_process process;

static void on_bound(void *arg, const struct rg_upstream_features *features)
{
    (void)arg;
    (void)features;
}
static void on_push(void *arg, const struct rg_upstream_push *push)
{
    (void)arg;
    if (push->jid == NULL || push->jid[0] == '\0')
        abort();
}
static void on_presence(void *arg, const struct rg_upstream_presence *presence)
{
    (void)arg;
    if (presence->jid == NULL)
        abort();
}
static void on_closed(void *arg, const struct rg_err *why)
{
    (void)arg;
    (void)why;
}
static void on_roster(void *arg, const struct rg_roster_answer *answer)
{
    (void)arg;
    if (answer->err.code == RG_OK && !answer->unchanged && answer->roster == NULL)
        abort();
}
static void on_done(void *arg, const struct rg_err *err)
{
    (void)arg;
    (void)err;
}
static const struct rg_upstream_handler handler = {.bound = on_bound,
                                                   .push = on_push,
                                                   .presence = on_presence,
                                                   .closed = on_closed};

static void set_up(void)
{
    int ends[2];
    if (front.loop != NULL)
        return;
    if (rg_random_init(NULL) != RG_OK ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
        abort();
    front.loop = rg_loop_create_manual(1000);
    front.config = &config;
    TAILQ_INIT(&front.doomed);
    front.posted = true; /* nothing is ever posted: the process below is not a real one */
    front.sessions = front.get_seconds = front.set_seconds = front.merged =
        rg_gauge("fuzz", "fuzz", "");
    front.connects_ok = front.connects_refused = front.connects_failed = front.sessions;
    front.lives_ended = front.hung_handshakes = front.sessions;
    served.front = &front;
    served.processes = &process;
    served.n_processes = 1;
    memcpy(served.domain.domain, "example.com", 12);
    TAILQ_INIT(&served.resolving);
    if (rg_process_init(&process, &served, 0) != RG_OK ||
        !rg_link_init(&process.link, ends[0], SIZE_MAX, false))
        abort();
    process.running = true;
    process.writing = true; /* there is no watch to change */
    front.served = &served;
    front.n_served = 1;
}

static void add_request(struct rg_visit *visit, uint32_t id, bool roster)
{
    struct rg_request *request = calloc(1, sizeof(*request));
    if (request == NULL)
        abort();
    request->id = id;
    request->on_roster = roster ? on_roster : NULL;
    request->on_done = roster ? NULL : on_done;
    request->duration = front.sessions;
    TAILQ_INSERT_TAIL(&visit->requests, request, link);
    visit->n_requests++;
    served.iqs++;
}

/* A visit the way rg_visit_open leaves it, at place 0 under generation 1. */
static void open_visit(bool up)
{
    uint64_t id = 0;
    served.addresses.n = 1;
    memcpy(served.addresses.v[0].text, "127.0.0.1", 10);
    served.addresses_until_ms = INT64_MAX;
    served.handshake_failures = 0;
    served.probing = false;
    front.last_generation = 0;
    process.failing = NULL;
    process.capacity = SIZE_MAX;
    config.xmpp.max_sessions = config.limits.signins_in_flight = 10;
    if (rg_visit_open(&front, &served, RG_UPSTREAM_SESSION, "juliet@example.com",
                      rg_secret_create("secret", 6), &handler, NULL, &id, NULL) != RG_OK)
        abort();
    struct rg_visit *visit = front.table[0];
    if (up) {
        const struct rg_upstream_features features = {0};
        rg_visit_bound(visit, &features);
        add_request(visit, 1, true);
        add_request(visit, 2, false);
    }
}

static void close_all(void)
{
    struct rg_visit *visit = front.table[0];
    struct rg_request *request;
    rg_visit_doom(visit, RG_E_CANCELLED, "end");
    TAILQ_REMOVE(&front.doomed, visit, link);
    while ((request = TAILQ_FIRST(&visit->requests)) != NULL)
        free(rg_visit_take_request(visit, request->id));
    rg_visit_free(visit);
    if (served.iqs != 0 || served.signins != 0 || served.sessions != 0)
        abort();
    struct rg_frame_out *frame;
    while ((frame = STAILQ_FIRST(&process.link.queue)) != NULL) {
        STAILQ_REMOVE_HEAD(&process.link.queue, link);
        rg_frame_free(frame);
    }
    process.link.queued = 0; /* nobody reads the other end: what was sent is thrown away */
    process.link.broken = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    set_up();
    open_visit((data[0] & 1) != 0);
    data++;
    size--;
    struct rg_frame frame;
    size_t used;
    while (rg_frame_parse(data, size, &frame, &used) == RG_FRAME_WHOLE) {
        if (!rg_process_frame(&process, &frame))
            break;
        data += used;
        size -= used;
    }
    close_all();
    return 0;
}

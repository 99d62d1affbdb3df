#include "gateway/wire.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "cache/memory.h"
#include "cache/redis.h"
#include "gateway/base/log.h"
#include "gateway/base/loop.h"
#include "gateway/base/metrics.h"
#include "gateway/base/sandbox.h"
#include "gateway/core/core.h"
#include "http/http.h"
#include "xmpp/upstream.h"

/* DESIGN
 *
 * Two loops meet here: main (acceptor, signals) and core. Stopping passes between them:
 *
 *   main: SIGTERM -> not ready, no more connections
 *   core:                 drain: bye to all streams, parked requests answered, writes end
 *   main:                         finish: requests and streams have gone out; http is taken
 * down core:                                 stop: sessions closed, workers ended, store closed
 *   main:                                       the core's loop joined, exit */

enum { FINISH_MS = 30 * 1000 };

struct wire {
    const struct rg_config *config;
    struct rg_loop *main_loop, *core_loop;
    struct rg_keys *keys;
    struct rg_upstream *upstream;
    struct rg_store *store;
    struct rg_core *core;
    struct rg_http *http;
    struct rg_watch *sigterm, *sigint, *sighup;
    struct rg_message keys_message;
    atomic_bool keys_posted;
    pthread_t core_thread;
    bool core_runs, stopping;
    struct rg_message message; /* the one step under way between the loops */
};

/* ---- the stop, step by step */

static void step(struct wire *wire, struct rg_loop *loop, rg_message_fn fn)
{
    wire->message.fn = fn;
    rg_loop_post(loop, &wire->message);
}

static struct wire *wire_of(struct rg_message *message)
{
    return RG_CONTAINER_OF(message, struct wire, message);
}

static void all_ended(struct rg_message *message)
{
    struct wire *wire = wire_of(message);
    rg_loop_stop(wire->core_loop);
    rg_loop_stop(wire->main_loop);
}

static void core_stopped(void *arg)
{
    struct wire *wire = arg;
    step(wire, wire->main_loop, all_ended);
}

static void stop_core(struct rg_message *message)
{
    struct wire *wire = wire_of(message);
    rg_core_stop(wire->core, core_stopped, wire);
}

/* While the core still runs, as the last farewells of streams go to it. */
static void destroy_http(struct rg_message *message)
{
    struct wire *wire = wire_of(message);
    rg_http_destroy(wire->http);
    wire->http = NULL;
    step(wire, wire->core_loop, stop_core);
}

static void http_finished(void *arg)
{
    struct wire *wire = arg;
    step(wire, wire->main_loop, destroy_http);
}

static void finish_http(struct rg_message *message)
{
    struct wire *wire = wire_of(message);
    rg_http_finish(wire->http, FINISH_MS, http_finished, wire);
}

static void core_drained(void *arg)
{
    struct wire *wire = arg;
    step(wire, wire->main_loop, finish_http);
}

static void drain_core(struct rg_message *message)
{
    struct wire *wire = wire_of(message);
    rg_core_drain(wire->core, core_drained, wire);
}

static void on_signal(void *arg, int signo)
{
    struct wire *wire = arg;
    if (wire->stopping) {
        rg_log(RG_LOG_WARN, "main", "stopped-at-once", RG_INT("signal", signo));
        _exit(1);
    }
    wire->stopping = true;
    rg_log(RG_LOG_INFO, "main", "stopping", RG_INT("signal", signo));
    rg_http_not_ready(wire->http);
    rg_http_quiesce(wire->http);
    step(wire, wire->core_loop, drain_core);
}

/* ---- reloading: the key file only, everything else needs a restart */

/* Thread: core. The flag falls first: a reload from now on posts again. */
static void follow_keys(struct rg_message *message)
{
    struct wire *wire = RG_CONTAINER_OF(message, struct wire, keys_message);
    atomic_store(&wire->keys_posted, false);
    rg_core_keys_changed(wire->core);
}

static void on_reload(void *arg, int signo)
{
    struct wire *wire = arg;
    const char *path = wire->config->session.keys_file;
    struct rg_err err = RG_ERR_INIT;
    (void)signo;
    if (wire->stopping)
        return;
    if (path == NULL || *path == '\0') {
        rg_log(RG_LOG_WARN, "main", "nothing-to-reload", RG_STR("why", "no session.keys_file"));
        return;
    }
    if (rg_keys_reload(wire->keys, path, &err) != RG_OK) {
        rg_log(RG_LOG_ERROR, "main", "keys-kept", RG_STR("why", err.text));
        return;
    }
    rg_log(RG_LOG_INFO, "main", "keys-reloaded", RG_INT("keys", rg_keys_count(wire->keys)));
    if (strcmp(wire->config->cache.url, "memory:") != 0)
        rg_log(RG_LOG_WARN, "main", "store-keeps-its-keys",
               RG_STR("why", "the marks in Redis follow at the next start"));
    if (!atomic_exchange(&wire->keys_posted, true)) {
        wire->keys_message.fn = follow_keys;
        rg_loop_post(wire->core_loop, &wire->keys_message);
    }
}

/* ---- building */

static double wakeups(void *arg)
{
    return (double)rg_loop_wakeups(arg);
}

static struct rg_store *make_store(const struct wire *wire, struct rg_err *err)
{
    const struct rg_config *config = wire->config;
    if (strcmp(config->cache.url, "memory:") == 0)
        return rg_store_memory_create(config, wire->core_loop, err);
    return rg_store_redis_create_take(config, wire->core_loop, rg_keys_mac(wire->keys), err);
}

/* ---- privileges: fewer before the first thread, none once the listeners are bound */

static void begin_sandbox(void)
{
    struct rg_sandbox held;
    struct rg_err err = RG_ERR_INIT;
    if (rg_sandbox_begin(&held, &err) != RG_OK)
        rg_log(RG_LOG_WARN, "main", "privileges-kept", RG_STR("why", err.text));
}

static void enter_sandbox(void)
{
    struct rg_sandbox held;
    struct rg_err err = RG_ERR_INIT;
    bool whole = rg_sandbox_front(&held, &err) == RG_OK;
    rg_log(whole ? RG_LOG_INFO : RG_LOG_WARN, "main", "confined",
           RG_BOOL("seccomp", held.filter), RG_BOOL("no_capabilities", held.no_capabilities),
           RG_INT("landlock_of_workers", rg_sandbox_landlock()),
           RG_STR("why", whole ? "" : err.text));
}

static enum rg_code build(struct wire *wire, struct rg_err *err)
{
    const struct rg_config *config = wire->config;
    wire->main_loop = rg_loop_create("main", err);
    wire->core_loop = wire->main_loop == NULL ? NULL : rg_loop_create("core", err);
    if (wire->core_loop == NULL)
        return err->code;
    rg_metric_ask("rostergate_loop_wakeups_total", "Turns of an event loop.", "loop=\"main\"",
                  1, wakeups, wire->main_loop);
    rg_metric_ask("rostergate_loop_wakeups_total", "Turns of an event loop.", "loop=\"core\"",
                  1, wakeups, wire->core_loop);
    if (rg_keys_load(config->session.keys_file, &wire->keys, err) != RG_OK)
        return err->code;
    begin_sandbox();
    /* Workers are spawned before any thread exists (DESIGN section 2). */
    wire->upstream = rg_xmpp_create(config, wire->core_loop, err);
    if (wire->upstream == NULL)
        return err->code;
    wire->store = make_store(wire, err);
    if (wire->store == NULL)
        return err->code;
    wire->core =
        rg_core_create(config, wire->core_loop, wire->upstream, wire->store, wire->keys, err);
    if (wire->core == NULL)
        return err->code;
    wire->http = rg_http_create(config, wire->main_loop, wire->core_loop, wire->core, err);
    if (wire->http == NULL)
        return err->code;
    wire->sigterm = rg_loop_signal(wire->main_loop, SIGTERM, on_signal, wire);
    wire->sigint = rg_loop_signal(wire->main_loop, SIGINT, on_signal, wire);
    wire->sighup = rg_loop_signal(wire->main_loop, SIGHUP, on_reload, wire);
    if (wire->sigterm == NULL || wire->sigint == NULL || wire->sighup == NULL)
        return rg_fail(err, RG_E_INTERNAL, "signals cannot be watched");
    return RG_OK;
}

static void *run_core(void *arg)
{
    struct wire *wire = arg;
    rg_loop_run(wire->core_loop);
    return NULL;
}

static void stop_core_loop_only(struct rg_message *message)
{
    rg_loop_stop(wire_of(message)->core_loop);
}

static void take_down(struct wire *wire)
{
    if (wire->core_runs) {
        if (!wire->stopping) /* http did not start: nothing was served, nothing is to drain */
            step(wire, wire->core_loop, stop_core_loop_only);
        pthread_join(wire->core_thread, NULL);
    }
    rg_http_destroy(wire->http); /* NULL after a stop */
    rg_core_destroy(wire->core);
    if (wire->store != NULL)
        wire->store->ops->destroy(wire->store);
    if (wire->upstream != NULL)
        wire->upstream->ops->destroy(wire->upstream);
    rg_keys_destroy(wire->keys);
    rg_watch_destroy(wire->sigterm);
    rg_watch_destroy(wire->sigint);
    rg_watch_destroy(wire->sighup);
    rg_loop_destroy(wire->core_loop);
    rg_loop_destroy(wire->main_loop);
}

static enum rg_code run(struct wire *wire, struct rg_err *err)
{
    if (pthread_create(&wire->core_thread, NULL, run_core, wire) != 0)
        return rg_fail(err, RG_E_INTERNAL, "a thread cannot be started");
    wire->core_runs = true;
    if (rg_http_start(wire->http, err) != RG_OK)
        return err->code;
    rg_log(RG_LOG_INFO, "main", "ready", RG_STR("version", RG_VERSION),
           RG_STR("listen", rg_http_address(wire->http)),
           RG_STR("operations", rg_http_operations_address(wire->http)));
    rg_loop_run(wire->main_loop);
    return RG_OK;
}

enum rg_code rg_wire_run(const struct rg_config *config, struct rg_err *err)
{
    struct wire wire = {.config = config};
    enum rg_code code = build(&wire, err);
    if (code == RG_OK) {
        enter_sandbox();
        code = run(&wire, err);
    }
    take_down(&wire);
    if (code == RG_OK)
        rg_log(RG_LOG_INFO, "main", "stopped");
    return code;
}

/* The XMPP side alone, driven by lines on stdin: for trying it against real and hostile
 * servers. Not installed. Usage: upstream_cli CONFIG; then
 *
 *   open USER PASSWORD | verify USER PASSWORD | get ID [VER] | set ID JID NAME [GROUP...]
 *   remove ID JID | announce ID | close ID | abort ID | status | metrics | stop
 *
 * Each outcome is one line on stdout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/config.h"
#include "gateway/base/metrics.h"
#include "gateway/base/random.h"
#include "xmpp/upstream.h"

enum { WORDS = 32 };

static struct rg_upstream *up;
static struct rg_loop *loop;
static char line[70000];
static size_t line_len;

struct visit {
    uint64_t id;
    long number;
};
static struct visit visits[20000];
static long n_visits;

static void on_bound(void *arg, const struct rg_upstream_features *features)
{
    printf("%ld bound versioning=%d preapproval=%d\n", ((struct visit *)arg)->number,
           features->roster_versioning, features->pre_approval);
}

static void on_push(void *arg, const struct rg_upstream_push *push)
{
    printf("%ld push %s %s name=%s groups=%zu ver=%s\n", ((struct visit *)arg)->number,
           push->item == NULL ? "remove" : "set", push->jid,
           push->item == NULL || push->item->name == NULL ? "-" : push->item->name,
           push->item == NULL ? 0 : push->item->n_groups, push->ver == NULL ? "-" : push->ver);
}

static void on_presence(void *arg, const struct rg_upstream_presence *presence)
{
    printf("%ld presence %d %s\n", ((struct visit *)arg)->number, presence->type,
           presence->jid);
}

static void on_closed(void *arg, const struct rg_err *why)
{
    printf("%ld closed %s %s\n", ((struct visit *)arg)->number, rg_code_slug(why->code),
           why->text);
}

static const struct rg_upstream_handler handler = {.bound = on_bound,
                                                   .push = on_push,
                                                   .presence = on_presence,
                                                   .closed = on_closed};

static void on_roster(void *arg, const struct rg_roster_answer *answer)
{
    printf("%ld roster %s unchanged=%d n=%zu ver=%s %s %s\n", ((struct visit *)arg)->number,
           rg_code_slug(answer->err.code), answer->unchanged,
           answer->roster == NULL ? 0 : answer->roster->n,
           answer->ver == NULL ? "-" : answer->ver,
           rg_condition_name(answer->err.xmpp.condition), answer->err.text);
}

static void on_done(void *arg, const struct rg_err *err)
{
    printf("%ld done %s %s %s\n", ((struct visit *)arg)->number, rg_code_slug(err->code),
           rg_condition_name(err->xmpp.condition), err->xmpp.text);
}

static void on_stopped(void *arg)
{
    (void)arg;
    printf("stopped\n");
    rg_loop_stop(loop);
}

static void report(const struct visit *visit, enum rg_code code, const struct rg_err *err)
{
    if (code != RG_OK)
        printf("%ld failed %s %s\n", visit->number, rg_code_slug(code), err->text);
}

static void do_open(char **words, enum rg_upstream_mode mode)
{
    struct rg_err err = RG_ERR_INIT;
    struct visit *visit = &visits[n_visits];
    visit->number = n_visits++;
    enum rg_code code =
        up->ops->open(up, mode, words[1], rg_secret_create(words[2], strlen(words[2])),
                      &handler, visit, &visit->id, &err);
    report(visit, code, &err);
}

static void show(struct rg_buf *buf)
{
    fwrite(buf->data, 1, buf->len, stdout);
    rg_buf_fini(buf);
}

static void show_status(void)
{
    struct rg_upstream_status status;
    for (size_t i = 0; up->ops->status(up, i, &status); i++)
        printf("status %s reachable=%d sessions=%zu\n", status.domain, status.reachable,
               status.sessions);
}

static void command(char **words, int n)
{
    struct rg_err err = RG_ERR_INIT;
    struct visit *visit = n > 1 ? &visits[atol(words[1]) % 20000] : visits;
    enum rg_code code = RG_OK;
    if (strcmp(words[0], "open") == 0 && n == 3)
        do_open(words, RG_UPSTREAM_SESSION);
    else if (strcmp(words[0], "verify") == 0 && n == 3)
        do_open(words, RG_UPSTREAM_VERIFY);
    else if (strcmp(words[0], "get") == 0)
        code = up->ops->roster_get(up, visit->id, n > 2 ? words[2] : "",
                                   n > 2 ? strlen(words[2]) : 0, on_roster, visit, &err);
    else if (strcmp(words[0], "set") == 0 && n >= 4)
        code = up->ops->item_set(up, visit->id, words[2], words[3],
                                 (const char *const *)(words + 4), (size_t)(n - 4), on_done,
                                 visit, &err);
    else if (strcmp(words[0], "remove") == 0 && n == 3)
        code = up->ops->item_remove(up, visit->id, words[2], on_done, visit, &err);
    else if (strcmp(words[0], "announce") == 0)
        code = up->ops->announce(up, visit->id, true, &err);
    else if (strcmp(words[0], "close") == 0)
        up->ops->close(up, visit->id);
    else if (strcmp(words[0], "abort") == 0)
        up->ops->abort(up, visit->id);
    else if (strcmp(words[0], "status") == 0)
        show_status();
    else if (strcmp(words[0], "metrics") == 0) {
        struct rg_buf buf = RG_BUF_INIT;
        rg_metrics_write(&buf);
        show(&buf);
    } else if (strcmp(words[0], "stop") == 0)
        up->ops->stop(up, on_stopped, NULL);
    else
        printf("what is %s?\n", words[0]);
    report(visit, code, &err);
}

static void run_line(char *text)
{
    char *words[WORDS];
    int n = 0;
    for (char *at = strtok(text, " "); at != NULL && n < WORDS; at = strtok(NULL, " "))
        words[n++] = at;
    if (n > 0)
        command(words, n);
}

static void on_stdin(void *arg, int events)
{
    (void)arg;
    (void)events;
    ssize_t got = read(0, line + line_len, sizeof(line) - line_len - 1);
    if (got <= 0) {
        rg_loop_stop(loop);
        return;
    }
    line_len += (size_t)got;
    line[line_len] = '\0';
    char *at = line, *end;
    while ((end = strchr(at, '\n')) != NULL) {
        *end = '\0';
        run_line(at);
        at = end + 1;
    }
    line_len -= (size_t)(at - line);
    memmove(line, at, line_len);
}

int main(int argc, char **argv)
{
    struct rg_err err = RG_ERR_INIT;
    struct rg_config *config = NULL;
    if (rg_worker_is(argc, argv))
        return rg_worker_main(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2 || rg_random_init(&err) != RG_OK ||
        rg_config_load(argv[1], &config, &err) != RG_OK ||
        (loop = rg_loop_create("core", &err)) == NULL ||
        (up = rg_xmpp_create(config, loop, &err)) == NULL) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct rg_watch *watch = rg_loop_watch(loop, 0, RG_WATCH_READ, on_stdin, NULL);
    rg_loop_run(loop);
    rg_watch_destroy(watch);
    up->ops->destroy(up);
    rg_loop_destroy(loop);
    rg_config_destroy(config);
    return 0;
}

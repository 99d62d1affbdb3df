/* The writer's thread is waited for by closing the file: then everything has been posted. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/state_file.h"
#include "cache/state_text.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"

enum { NOW = 1700000000 };

struct fixture {
    char dir[32], path[64];
    struct rg_loop *loop;
    struct rg_state_file *file;
    char seen[4096]; /* "user:kind:id " of each end that was read, in no order */
    int users, damage_logged, written, late;
};

struct job {
    struct rg_state_job job;
    struct fixture *f;
};

static void on_log(const char *line, void *arg)
{
    struct fixture *f = arg;

    if (strstr(line, "state-file-damaged") != NULL)
        f->damage_logged++;
}

static int start(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    strcpy(f->dir, "/tmp/rg-state-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/state", f->dir);
    f->loop = rg_loop_create_manual(INT64_C(1000) * NOW);
    rg_log_capture(on_log, f);
    *state = f;
    return 0;
}

static int finish(void **state)
{
    struct fixture *f = *state;

    rg_state_file_close(f->file);
    rg_log_capture(NULL, NULL);
    rg_loop_destroy(f->loop);
    unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0); /* no PATH.new left behind */
    free(f);
    return 0;
}

static void on_record(void *arg, const struct rg_account *account)
{
    struct fixture *f = arg;

    f->users++;
    for (size_t i = 0; i < account->n_ends; i++) {
        size_t len = strlen(f->seen);

        (void)snprintf(f->seen + len, sizeof(f->seen) - len, "%s:%d:%d ", account->user,
                       (int)account->ends[i].kind, account->ends[i].id[0]);
    }
}

static enum rg_code open_file(struct fixture *f, int64_t now_s, struct rg_err *err)
{
    f->seen[0] = '\0';
    f->users = 0;
    return rg_state_file_open(f->path, f->loop, now_s, on_record, f, &f->file, err);
}

static void must_open(struct fixture *f, int64_t now_s)
{
    struct rg_err err = RG_ERR_INIT;

    if (open_file(f, now_s, &err) != RG_OK)
        fail_msg("%s", err.text);
}

static void close_file(struct fixture *f)
{
    rg_state_file_close(f->file);
    f->file = NULL;
    rg_loop_advance(f->loop, 0);
}

static void on_job(struct rg_message *message)
{
    struct job *job = RG_CONTAINER_OF(message, struct job, job.message);

    if (job->job.written)
        job->f->written++;
    else
        job->f->late++;
    free(job);
}

static void append_text(struct fixture *f, char *lines)
{
    struct job *job = calloc(1, sizeof(*job));

    job->f = f;
    job->job.message.fn = on_job;
    rg_state_file_append_take(f->file, &job->job, lines, NOW);
}

static void append(struct fixture *f, const char *user, enum rg_end_kind kind, uint8_t id,
                   int64_t until_s)
{
    struct rg_end end = {.kind = kind, .id = {id}, .at_s = NOW, .until_s = until_s};
    struct rg_buf lines = RG_BUF_INIT;

    rg_state_put_end(&lines, user, &end);
    append_text(f, rg_buf_take(&lines, NULL));
}

static void write_raw(struct fixture *f, const char *text, size_t len, int flags)
{
    int fd = open(f->path, O_WRONLY | O_CREAT | flags, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
}

static char *read_raw(struct fixture *f)
{
    static char text[65536];
    int fd = open(f->path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof(text) - 1);

    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
    return text;
}

static void state_file__append__is_read_again(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    must_open(f, NOW);
    append(f, "a@b", RG_END_SIGN_IN, 1, NOW + 100);
    append(f, "a@b", RG_END_ALL, 0, NOW + 100);
    append(f, "c@d", RG_END_PASSWORD, 2, NOW + 100);
    close_file(f);
    assert_int_equal(f->written, 3);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    must_open(f, NOW);
    assert_int_equal(f->users, 2);
    assert_non_null(strstr(f->seen, "a@b:0:1 "));
    assert_non_null(strstr(f->seen, "a@b:1:0 "));
    assert_non_null(strstr(f->seen, "c@d:2:2 "));
    assert_int_equal(f->damage_logged, 0);
}

static void state_file__expired__are_dropped_at_start(void **state)
{
    struct fixture *f = *state;

    must_open(f, NOW);
    append(f, "a@b", RG_END_SIGN_IN, 1, NOW + 100);
    append(f, "a@b", RG_END_SIGN_IN, 2, NOW + 200);
    close_file(f);
    must_open(f, NOW + 101);
    assert_string_equal(f->seen, "a@b:0:2 ");
    close_file(f);
    assert_null(strstr(read_raw(f), "1700000100"));
    must_open(f, NOW + 201);
    assert_int_equal(f->users, 0);
    close_file(f);
    assert_string_equal(read_raw(f), RG_STATE_HEAD);
}

static void state_file__passwords__are_cleared(void **state)
{
    struct fixture *f = *state;
    struct rg_account *account = rg_account_create("a@b");
    struct rg_end left = {.kind = RG_END_PASSWORD, .id = {3}, .until_s = NOW + 100};
    struct rg_buf lines = RG_BUF_INIT;

    must_open(f, NOW);
    append(f, "a@b", RG_END_PASSWORD, 2, NOW + 100);
    append(f, "a@b", RG_END_PASSWORD, 3, NOW + 100);
    append(f, "a@b", RG_END_SIGN_IN, 4, NOW + 100);
    append(f, "c@d", RG_END_PASSWORD, 2, NOW + 100);
    assert_int_equal(rg_account_end(account, &left, NOW), RG_OK);
    rg_state_put_passwords(&lines, account);
    append_text(f, rg_buf_take(&lines, NULL));
    rg_account_unref(account);
    close_file(f);
    must_open(f, NOW);
    assert_null(strstr(f->seen, "a@b:2:2"));
    assert_non_null(strstr(f->seen, "a@b:2:3"));
    assert_non_null(strstr(f->seen, "a@b:0:4"));
    assert_non_null(strstr(f->seen, "c@d:2:2"));
}

/* Each byte of each line damaged in turn: that line is skipped and reported, the rest stands.
 */
static void state_file__damage__costs_one_line(void **state)
{
    struct fixture *f = *state;
    char *good, *second;
    size_t len, line_len;

    must_open(f, NOW);
    append(f, "a@b", RG_END_SIGN_IN, 1, NOW + 100);
    append(f, "c@d", RG_END_SIGN_IN, 2, NOW + 100);
    append(f, "e@f", RG_END_SIGN_IN, 3, NOW + 100);
    close_file(f);
    good = strdup(read_raw(f));
    len = strlen(good);
    second = strchr(strchr(good, '\n') + 1, '\n') + 1;
    line_len = (size_t)(strchr(second, '\n') - second);
    for (size_t i = 0; i < line_len; i++) {
        f->damage_logged = 0;
        second[i] ^= 1;
        write_raw(f, good, len, O_TRUNC);
        second[i] ^= 1;
        must_open(f, NOW);
        assert_int_equal(f->users, 2);
        assert_non_null(strstr(f->seen, "a@b:0:1 "));
        assert_non_null(strstr(f->seen, "e@f:0:3 "));
        assert_int_equal(f->damage_logged, 1);
        close_file(f);
    }
    free(good);
}

/* A crash in the middle of a line. */
static void state_file__torn_end__is_skipped(void **state)
{
    struct fixture *f = *state;
    char *good;
    size_t len, first;

    must_open(f, NOW);
    append(f, "a@b", RG_END_SIGN_IN, 1, NOW + 100);
    append(f, "c@d", RG_END_SIGN_IN, 2, NOW + 100);
    close_file(f);
    good = strdup(read_raw(f));
    len = strlen(good);
    first = (size_t)(strchr(strchr(good, '\n') + 1, '\n') + 1 - good);
    for (size_t cut = first + 1; cut < len; cut += 7) {
        write_raw(f, good, cut, O_TRUNC);
        must_open(f, NOW);
        assert_string_equal(f->seen, "a@b:0:1 ");
        close_file(f);
    }
    free(good);
}

static void state_file__nonsense_lines__are_skipped(void **state)
{
    struct fixture *f = *state;
    char *large = malloc(100000);
    struct rg_buf line = RG_BUF_INIT;
    struct rg_end end = {.kind = RG_END_ALL, .until_s = NOW + 5};

    memset(large, 'x', 100000);
    write_raw(f, RG_STATE_HEAD, strlen(RG_STATE_HEAD), O_TRUNC);
    write_raw(f, large, 100000, O_APPEND);
    write_raw(f, "\n\n\0\0\n     \nend all\n", 19, O_APPEND);
    rg_state_put_end(&line, "a@b", &end);
    write_raw(f, line.data, line.len, O_APPEND);
    must_open(f, NOW);
    assert_string_equal(f->seen, "a@b:1:0 ");
    assert_int_equal(f->damage_logged, 1);
    rg_buf_fini(&line);
    free(large);
}

/* Somebody named the wrong file: it is left alone. */
static void state_file__foreign_file__is_refused(void **state)
{
    struct fixture *f = *state;
    struct rg_err err = RG_ERR_INIT;

    write_raw(f, "precious\n", 9, O_TRUNC);
    assert_int_not_equal(open_file(f, NOW, &err), RG_OK);
    assert_non_null(strstr(err.text, f->path));
    assert_string_equal(read_raw(f), "precious\n");
}

static void state_file__in_use__is_refused(void **state)
{
    struct fixture *f = *state;
    struct rg_state_file *other = NULL;
    struct rg_err err = RG_ERR_INIT;

    must_open(f, NOW);
    assert_int_not_equal(rg_state_file_open(f->path, f->loop, NOW, on_record, f, &other, &err),
                         RG_OK);
    assert_null(other);
    assert_non_null(strstr(err.text, "in use"));
    append(f, "a@b", RG_END_SIGN_IN, 1, NOW + 100); /* the first one goes on */
    close_file(f);
    assert_int_equal(f->written, 1);
    must_open(f, NOW);
    assert_string_equal(f->seen, "a@b:0:1 ");
}

static void state_file__missing_folder__is_an_error(void **state)
{
    struct fixture *f = *state;
    struct rg_state_file *file = NULL;
    struct rg_err err = RG_ERR_INIT;

    assert_int_not_equal(
        rg_state_file_open("/nonexistent/state", f->loop, NOW, on_record, f, &file, &err),
        RG_OK);
    assert_non_null(strstr(err.text, "/nonexistent/state"));
    rg_state_file_close(NULL);
}

/* The disk is full: told as not written, kept, and on the disk once there is room. */
static void state_file__no_room__is_kept_and_written_later(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, small;

    must_open(f, NOW);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = strlen(RG_STATE_HEAD) + 30; /* half a line fits */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    append(f, "a@b", RG_END_SIGN_IN, 1, NOW + 100);
    while (f->late == 0)
        rg_loop_advance(f->loop, 0); /* until the writer has tried */
    assert_true(rg_state_file_failing(f->file));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    append(f, "c@d", RG_END_SIGN_IN, 2, NOW + 100);
    close_file(f);
    assert_int_equal(f->written, 1);
    assert_int_equal(f->late, 1);
    must_open(f, NOW);
    assert_int_equal(f->users, 2);
    assert_int_equal(f->damage_logged, 0);
}

/* Growth is bounded by rewriting: many expired records do not stay. */
static void state_file__growth__is_rewritten(void **state)
{
    struct fixture *f = *state;
    char user[256];
    struct stat st;

    memset(user, 'u', sizeof(user) - 1);
    user[sizeof(user) - 1] = '\0';
    must_open(f, NOW);
    for (int i = 0; i < 10000; i++)
        append(f, user, RG_END_SIGN_IN, (uint8_t)i, NOW - 1); /* over already */
    append(f, "a@b", RG_END_SIGN_IN, 1, NOW + 100);
    close_file(f);
    assert_int_equal(f->written, 10001);
    assert_int_equal(stat(f->path, &st), 0);
    assert_true(st.st_size < 3 * 1024 * 1024);
    must_open(f, NOW);
    assert_string_equal(f->seen, "a@b:0:1 ");
}

static void state_file__no_memory__is_told(void **state)
{
    struct fixture *f = *state;

    must_open(f, NOW);
    append_text(f, NULL);
    close_file(f);
    assert_int_equal(f->late, 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, finish)
    const struct CMUnitTest tests[] = {
        TEST(state_file__append__is_read_again),
        TEST(state_file__expired__are_dropped_at_start),
        TEST(state_file__passwords__are_cleared),
        TEST(state_file__damage__costs_one_line),
        TEST(state_file__torn_end__is_skipped),
        TEST(state_file__nonsense_lines__are_skipped),
        TEST(state_file__foreign_file__is_refused),
        TEST(state_file__in_use__is_refused),
        TEST(state_file__missing_folder__is_an_error),
        TEST(state_file__no_room__is_kept_and_written_later),
        TEST(state_file__growth__is_rewritten),
        TEST(state_file__no_memory__is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

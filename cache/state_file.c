#include "cache/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/state_text.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"

/* DESIGN. Jobs are handed to the writer's thread under a leaf mutex. It takes all that wait,
 * writes them behind the last good byte, syncs once, and posts their messages to the core loop.
 * What could not be written stays in a backlog, which is written first next time and tried once
 * a second; the jobs are told `written = false` at once.
 *
 * A rewrite makes PATH.new, syncs it, renames it over PATH and syncs the directory: there is a
 * whole file under the name at any moment. The lock (flock) is on the file itself; whoever
 * opens PATH checks after locking that it still is the file under that name. */

enum { BACKLOG_MAX = 1024 * 1024, GROWTH_MIN = 1024 * 1024, RETRY_S = 1 };

struct rg_state_file {
    char *path, *new_path, *dir;
    struct rg_loop *loop;
    int fd;
    off_t size;      /* up to here all is well; writer only */
    off_t rewritten; /* size after the last rewrite; writer only */
    int64_t now_s;   /* of the newest job; writer only */
    struct rg_buf backlog;
    atomic_bool failing;

    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock; /* leaf */
    pthread_cond_t changed;
    struct rg_state_job *first, *last;
    bool closing;
};

static bool write_all(int fd, const char *data, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
        at += n;
    }
    return true;
}

static bool sync_dir(const struct rg_state_file *file)
{
    int fd = open(file->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool fine = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return fine;
}

/* Rewriting */

static bool put_set(struct rg_buf *out, const struct rg_state_set *set)
{
    const struct rg_state_record *record;

    rg_buf_puts(out, RG_STATE_HEAD);
    for (record = set->records; record != NULL; record = record->hh.next) {
        const struct rg_account *account = record->account;

        for (size_t i = 0; i < account->n_ends; i++)
            rg_state_put_end(out, account->user, &account->ends[i]);
    }
    return !rg_buf_failed(out);
}

/* Puts a file with these records under the name. On failure the old one stands as it was. */
static enum rg_code replace(struct rg_state_file *file, const struct rg_state_set *set,
                            struct rg_err *err)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf text = RG_BUF_INIT;
    int fd;

    if (!put_set(&text, set))
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    (void)unlink(file->new_path); /* left over from a crash */
    fd = open(file->new_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return rg_fail(err, RG_E_INTERNAL, "%.150s: %s", file->new_path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || !write_all(fd, text.data, text.len, 0) ||
        fsync(fd) != 0 || rename(file->new_path, file->path) != 0 || !sync_dir(file)) {
        rg_fail(err, RG_E_INTERNAL, "%.150s: %s", file->new_path, strerror(errno));
        (void)unlink(file->new_path);
        close(fd);
        return RG_E_INTERNAL;
    }
    close(file->fd);
    file->fd = fd;
    file->size = (off_t)text.len;
    file->rewritten = file->size;
    return RG_OK;
}

/* Reads what is under file->fd. */
static enum rg_code read_set(struct rg_state_file *file, int64_t now_s,
                             struct rg_state_set *set, struct rg_err *err)
{
    int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;
    enum rg_code code;

    if (stream == NULL) {
        if (fd >= 0)
            close(fd);
        return rg_fail(err, RG_E_INTERNAL, "%.150s: %s", file->path, strerror(errno));
    }
    rewind(stream);
    code = rg_state_read(set, stream, now_s, err);
    (void)fclose(stream);
    if (set->damaged > 0)
        rg_log(RG_LOG_WARN, "cache", "state-file-damaged", RG_STR("path", file->path),
               RG_INT("lines", set->damaged), RG_INT("first_line", set->first_damaged_line));
    return code;
}

/* Writer: the file has doubled; most of it is probably expired. */
static void rewrite(struct rg_state_file *file)
{
    RG_CLEANUP(rg_state_set_fini) struct rg_state_set set = {0};
    struct rg_err err = RG_ERR_INIT;

    if (read_set(file, file->now_s, &set, &err) == RG_OK && replace(file, &set, &err) == RG_OK)
        return;
    rg_log(RG_LOG_WARN, "cache", "state-file-not-rewritten", RG_STR("reason", err.text));
    file->rewritten = file->size; /* not again before it has doubled once more */
}

/* Writing */

static void note_outcome(struct rg_state_file *file, bool written, int why)
{
    bool was = atomic_exchange(&file->failing, !written);

    if (!written && !was)
        rg_log(RG_LOG_ERROR, "cache", "state-file-write-failed", RG_STR("path", file->path),
               RG_STR("reason", strerror(why)));
    else if (written && was)
        rg_log(RG_LOG_INFO, "cache", "state-file-writes-again", RG_STR("path", file->path));
}

/* Failed: what is behind `kept` stays in the backlog if there is room. */
static void keep_for_later(struct rg_buf *backlog, size_t kept)
{
    if (backlog->len <= BACKLOG_MAX)
        return;
    rg_log(RG_LOG_ERROR, "cache", "state-file-backlog-full",
           RG_INT("lost_bytes", backlog->len - kept));
    backlog->len = kept;
}

/* Writes the backlog and then text; what fails becomes the backlog. */
static bool write_text(struct rg_state_file *file, const struct rg_buf *text)
{
    struct rg_buf *backlog = &file->backlog;
    size_t kept = backlog->len;
    bool written = false;
    int why = ENOMEM;

    rg_buf_append(backlog, text->data, text->len);
    if (backlog->len > 0 && !rg_buf_failed(backlog)) {
        written = write_all(file->fd, backlog->data, backlog->len, file->size) &&
                  fdatasync(file->fd) == 0;
        why = errno;
        if (written) {
            file->size += (off_t)backlog->len;
            rg_buf_clear(backlog);
        } else if (ftruncate(file->fd, file->size) != 0)
            why = errno; /* half a line stays: it is overwritten, or skipped when read */
    }
    /* A mark for lacking memory must not outlast the moment; the bytes before it are whole. */
    backlog->failed = false;
    if (!written)
        keep_for_later(backlog, kept);
    note_outcome(file, written, why);
    if (written && file->size > 2 * file->rewritten + GROWTH_MIN)
        rewrite(file);
    return written;
}

static void write_jobs(struct rg_state_file *file, struct rg_state_job *jobs)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf text = RG_BUF_INIT;
    struct rg_state_job *job, *next;
    bool written;

    for (job = jobs; job != NULL; job = job->next) {
        file->now_s = job->now_s;
        if (job->lines != NULL)
            rg_buf_puts(&text, job->lines);
    }
    written = !rg_buf_failed(&text) && write_text(file, &text);
    for (job = jobs; job != NULL; job = next) {
        next = job->next; /* whoever gets the message may free the job */
        job->written = written && job->lines != NULL;
        free(job->lines);
        job->lines = NULL;
        rg_loop_post(file->loop, &job->message);
    }
}

/* Waits for jobs, for the end, or for the time to try the backlog again. */
static void wait_locked(struct rg_state_file *file)
{
    while (file->first == NULL && !file->closing) {
        struct timespec until;

        if (file->backlog.len == 0) {
            pthread_cond_wait(&file->changed, &file->lock);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += RETRY_S;
        if (pthread_cond_timedwait(&file->changed, &file->lock, &until) == ETIMEDOUT)
            return;
    }
}

static void *writer(void *arg)
{
    static const struct rg_buf nothing = RG_BUF_INIT;
    struct rg_state_file *file = arg;
    bool closing;

    (void)pthread_setname_np(pthread_self(), "state-file");
    do {
        struct rg_state_job *jobs;

        pthread_mutex_lock(&file->lock);
        wait_locked(file);
        jobs = file->first;
        file->first = NULL;
        file->last = NULL;
        closing = file->closing;
        pthread_mutex_unlock(&file->lock);
        if (jobs != NULL)
            write_jobs(file, jobs);
        else if (file->backlog.len > 0)
            (void)write_text(file, &nothing);
    } while (!closing); /* nothing is appended once it is closing */
    return NULL;
}

void rg_state_file_append_take(struct rg_state_file *file, struct rg_state_job *job,
                               char *lines, int64_t now_s)
{
    job->lines = lines;
    job->written = false;
    job->now_s = now_s;
    job->next = NULL;
    pthread_mutex_lock(&file->lock);
    if (file->first == NULL)
        file->first = job;
    else
        file->last->next = job;
    file->last = job;
    pthread_cond_signal(&file->changed);
    pthread_mutex_unlock(&file->lock);
}

bool rg_state_file_failing(const struct rg_state_file *file)
{
    return atomic_load_explicit(&file->failing, memory_order_relaxed);
}

/* Life */

static bool start_thread(struct rg_state_file *file)
{
    sigset_t all, before;

    /* Signals belong to the loop that watches them. */
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return false;
    file->thread_runs = pthread_create(&file->thread, NULL, writer, file) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return file->thread_runs;
}

static struct rg_state_file *file_alloc(const char *path, struct rg_loop *loop)
{
    struct rg_state_file *file = calloc(1, sizeof(*file));
    RG_CLEANUP(rg_freep) char *copy = strdup(path);
    pthread_condattr_t attr;

    if (file == NULL)
        return NULL;
    file->fd = -1;
    file->loop = loop;
    file->path = strdup(path);
    file->dir = copy != NULL ? strdup(dirname(copy)) : NULL;
    if (asprintf(&file->new_path, "%s.new", path) < 0)
        file->new_path = NULL;
    pthread_mutex_init(&file->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&file->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (file->path != NULL && file->dir != NULL && file->new_path != NULL)
        return file;
    rg_state_file_close(file);
    return NULL;
}

/* Opens and locks what is under the name; makes it if it is missing. */
static enum rg_code open_locked(struct rg_state_file *file, struct rg_err *err)
{
    struct stat ours, named;

    file->fd = open(file->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->fd < 0)
        return rg_fail(err, RG_E_INTERNAL, "%.150s: %s", file->path, strerror(errno));
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0)
        return rg_fail(err, RG_E_INTERNAL, "%.150s: in use by another process", file->path);
    if (fstat(file->fd, &ours) != 0 || stat(file->path, &named) != 0)
        return rg_fail(err, RG_E_INTERNAL, "%.150s: %s", file->path, strerror(errno));
    if (!S_ISREG(ours.st_mode))
        return rg_fail(err, RG_E_INTERNAL, "%.150s: not a regular file", file->path);
    if (ours.st_ino != named.st_ino || ours.st_dev != named.st_dev)
        return rg_fail(err, RG_E_INTERNAL, "%.150s: in use by another process", file->path);
    return RG_OK;
}

static enum rg_code open_steps(struct rg_state_file *file, int64_t now_s,
                               struct rg_state_set *set, struct rg_err *err)
{
    char why[sizeof(err->text)];
    enum rg_code code = open_locked(file, err);

    if (code != RG_OK)
        return code;
    code = read_set(file, now_s, set, err);
    if (code != RG_OK && err != NULL) {
        memcpy(why, err->text, sizeof(why));
        return rg_fail(err, code, "%.100s: %s", file->path, why);
    }
    if (code != RG_OK)
        return code;
    file->now_s = now_s;
    code = replace(file, set, err);
    if (code == RG_OK && !start_thread(file))
        code = rg_fail(err, RG_E_INTERNAL, "%.150s: no thread to write it", file->path);
    return code;
}

enum rg_code rg_state_file_open(const char *path, struct rg_loop *loop, int64_t now_s,
                                rg_state_record_fn fn, void *arg, struct rg_state_file **out,
                                struct rg_err *err)
{
    RG_CLEANUP(rg_state_set_fini) struct rg_state_set set = {0};
    struct rg_state_file *file = file_alloc(path, loop);
    const struct rg_state_record *record;
    enum rg_code code;

    if (file == NULL)
        return rg_fail(err, RG_E_INTERNAL, "out of memory");
    code = open_steps(file, now_s, &set, err);
    if (code != RG_OK) {
        rg_state_file_close(file);
        return code;
    }
    for (record = set.records; record != NULL; record = record->hh.next)
        fn(arg, record->account);
    *out = file;
    return RG_OK;
}

void rg_state_file_close(struct rg_state_file *file)
{
    if (file == NULL)
        return;
    if (file->thread_runs) {
        pthread_mutex_lock(&file->lock);
        file->closing = true;
        pthread_cond_signal(&file->changed);
        pthread_mutex_unlock(&file->lock);
        pthread_join(file->thread, NULL);
    }
    if (file->fd >= 0)
        close(file->fd);
    pthread_cond_destroy(&file->changed);
    pthread_mutex_destroy(&file->lock);
    rg_buf_fini(&file->backlog);
    free(file->path);
    free(file->new_path);
    free(file->dir);
    free(file);
}

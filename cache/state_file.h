/* The file of sign-outs, for tokens that outlive the process (session.state_file; API 8).
 * Inside cache/ only.
 *
 * One line per record, each with a checksum; appended and synced by a thread of its own, so
 * that the disk never holds up the core loop; rewritten without what is expired at start and
 * whenever it has doubled. Owner: the store. Thread: core, but where said. */
#ifndef CACHE_STATE_FILE_H
#define CACHE_STATE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/account.h"
#include "gateway/base/loop.h"

struct rg_state_file;

/* One record on its way to the disk. Embedded by the caller; in one append at a time. */
struct rg_state_job {
    struct rg_message message; /* posted to the loop once `written` is known */
    bool written;              /* true: on the disk; false: kept and tried again */
    int64_t now_s;
    char *lines; /* own; set and released by the file */
    struct rg_state_job *next;
};

/* A user's living ends that were read: (borrow) all. */
typedef void (*rg_state_record_fn)(void *arg, const struct rg_account *account);

/* Reads the file (made with mode 0600 if missing), tells every living record, rewrites it and
 * locks it against other processes. A damaged line is logged and skipped. (borrow) loop. (own)
 * *out. */
enum rg_code rg_state_file_open(const char *path, struct rg_loop *loop, int64_t now_s,
                                rg_state_record_fn fn, void *arg, struct rg_state_file **out,
                                struct rg_err *err);

/* Appends lines (state_text.h), (take), NULL: no memory for them, which is told as not written.
 * job->message.fn is set by the caller; the message comes exactly once, later. */
void rg_state_file_append_take(struct rg_state_file *file, struct rg_state_job *job,
                               char *lines, int64_t now_s);

/* The last write failed and its records wait to be written. Thread: any. */
bool rg_state_file_failing(const struct rg_state_file *file);

/* Writes what is pending, ends the thread; all messages have been posted then. Accepts NULL. */
void rg_state_file_close(struct rg_state_file *file);

#endif

#include "cache/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "cache/budget.h"
#include "cache/state_file.h"
#include "cache/state_text.h"
#include "cache/table.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/base/metrics.h"

/* DESIGN. A table of entries by user. Each holds one reference to its account; the core and the
 * callbacks under way hold others. An entry whose account nobody else holds stands in the queue
 * of the idle, in order of time, and leaves memory when it has been there for cache.ttl; at
 * once if there is nothing in it worth keeping. Living sign-outs are worth keeping: they must
 * be found by whoever shows the token next.
 *
 * Callbacks are messages to the loop. A few are kept in reserve, so that a promise can be kept
 * when there is no memory at the moment; what stands in reserve is used again and again. */

enum { RESERVE = 32 };

struct entry {
    struct rg_account *account; /* own reference */
    struct rg_share share;
    bool idle;
    int64_t idle_since_ms;
    TAILQ_ENTRY(entry) idle_link;
    UT_hash_handle hh; /* by account->user */
};

/* A callback under way. */
struct answer {
    struct rg_state_job job; /* its message delivers */
    struct memory *memory;
    rg_store_load_fn load;
    rg_store_end_fn end;
    void (*stopped)(void *arg);
    void *arg;
    struct rg_account *account; /* own reference; load only */
    struct answer *next;        /* in reserve */
    bool reserved;
};

struct memory {
    struct rg_store store;
    struct rg_loop *loop;
    int64_t ttl_ms;
    struct entry *entries;
    TAILQ_HEAD(, entry) idle;
    struct rg_timer timer; /* for the first of the idle */
    struct rg_budget budget;
    struct rg_state_file *file; /* NULL: none */
    struct answer reserve[RESERVE];
    struct answer *free_answers;
    size_t writing; /* answers that the state file holds */
    struct answer *stop_answer;
    bool stopping;
    struct rg_metric *accounts, *journal_bytes, *journal_dropped, *load_failures;
};

static struct memory *self(struct rg_store *store)
{
    return RG_CONTAINER_OF(store, struct memory, store);
}

static struct entry *entry_of(const struct rg_account *account)
{
    return account->store_data;
}

static void show_numbers(struct memory *m)
{
    rg_metric_set(m->accounts, (int64_t)HASH_COUNT(m->entries));
    rg_metric_set(m->journal_bytes, (int64_t)m->budget.bytes);
    rg_metric_set(m->journal_dropped, (int64_t)m->budget.dropped);
}

/* Answers */

static struct answer *answer_create(struct memory *m)
{
    struct answer *answer = calloc(1, sizeof(*answer));

    if (answer == NULL) {
        answer = m->free_answers;
        if (answer == NULL)
            abort(); /* a promised callback could not come: the core would wait for ever */
        m->free_answers = answer->next;
        *answer = (struct answer){.reserved = true};
    }
    answer->memory = m;
    return answer;
}

static void answer_release(struct answer *answer)
{
    if (!answer->reserved) {
        free(answer);
        return;
    }
    answer->next = answer->memory->free_answers;
    answer->memory->free_answers = answer;
}

/* Entries */

static struct entry *entry_find(struct memory *m, const char *user)
{
    struct entry *entry;

    HASH_FIND_STR(m->entries, user, entry);
    return entry;
}

/* A new entry with a fresh account; NULL: out of memory. */
static struct entry *entry_create(struct memory *m, const char *user)
{
    struct entry *entry = calloc(1, sizeof(*entry));

    if (entry == NULL)
        return NULL;
    entry->account = rg_account_create(user);
    if (entry->account == NULL || !rg_budget_join(&m->budget, &entry->share, entry->account)) {
        rg_account_unref(entry->account);
        free(entry);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, m->entries, entry->account->user, strlen(entry->account->user), entry);
    if (entry->hh.tbl == NULL) {
        rg_budget_leave(&m->budget, &entry->share);
        rg_account_unref(entry->account);
        free(entry);
        return NULL;
    }
    entry->account->store_data = entry;
    show_numbers(m);
    return entry;
}

static void entry_destroy(struct memory *m, struct entry *entry)
{
    if (entry->idle)
        TAILQ_REMOVE(&m->idle, entry, idle_link);
    HASH_DEL(m->entries, entry);
    rg_budget_leave(&m->budget, &entry->share);
    entry->account->store_data = NULL;
    rg_account_unref(entry->account);
    free(entry);
    show_numbers(m);
}

/* As if it had never been read; the ends stay. No version given out before is known after. */
static void forget_roster(struct memory *m, struct entry *entry)
{
    struct rg_account *account = entry->account;

    rg_account_set_not_found(account); /* roster, journal and `ver` go */
    account->presence = RG_ROSTER_UNKNOWN;
    account->epoch = rg_version_draw();
    account->mark = rg_version_draw();
    account->head = (struct rg_stamp){.mark = account->mark};
    account->confirmed_s = 0;
    account->trusted = false;
    rg_budget_count(&m->budget, &entry->share, rg_loop_unix_s(m->loop));
    show_numbers(m);
}

static bool has_living_end(const struct rg_account *account, int64_t now_s)
{
    for (size_t i = 0; i < account->n_ends; i++) {
        if (account->ends[i].until_s >= now_s)
            return true;
    }
    return false;
}

/* Idleness */

static void arm_timer(struct memory *m)
{
    const struct entry *first = TAILQ_FIRST(&m->idle);

    if (first == NULL)
        rg_timer_stop(&m->timer, m->loop);
    else
        rg_timer_start(&m->timer, m->loop,
                       first->idle_since_ms + m->ttl_ms - rg_loop_now_ms(m->loop));
}

static void leave_idle(struct memory *m, struct entry *entry)
{
    if (!entry->idle)
        return;
    TAILQ_REMOVE(&m->idle, entry, idle_link);
    entry->idle = false;
}

static void enter_idle(struct memory *m, struct entry *entry)
{
    entry->idle = true;
    entry->idle_since_ms = rg_loop_now_ms(m->loop);
    TAILQ_INSERT_TAIL(&m->idle, entry, idle_link);
    if (!rg_timer_armed(&m->timer))
        arm_timer(m);
}

/* Somebody gave a reference back. */
static void consider(struct memory *m, struct entry *entry)
{
    const struct rg_account *account = entry->account;

    if (account->refs > 1 || entry->idle)
        return;
    if (account->presence == RG_ROSTER_UNKNOWN &&
        !has_living_end(account, rg_loop_unix_s(m->loop)))
        entry_destroy(m, entry);
    else
        enter_idle(m, entry);
}

static void on_timer(struct rg_timer *timer)
{
    struct memory *m = RG_CONTAINER_OF(timer, struct memory, timer);
    int64_t now_ms = rg_loop_now_ms(m->loop), now_s = rg_loop_unix_s(m->loop);
    struct entry *entry;

    while ((entry = TAILQ_FIRST(&m->idle)) != NULL &&
           entry->idle_since_ms + m->ttl_ms <= now_ms) {
        if (!has_living_end(entry->account, now_s)) {
            entry_destroy(m, entry);
            continue;
        }
        leave_idle(m, entry);
        forget_roster(m, entry);
        enter_idle(m, entry); /* at the tail, for another ttl */
    }
    arm_timer(m);
}

/* The store's calls */

static void deliver_load(struct rg_message *message)
{
    struct answer *answer = RG_CONTAINER_OF(message, struct answer, job.message);
    struct memory *m = answer->memory;
    struct rg_account *account = answer->account;
    struct entry *entry;

    answer->load(answer->arg, m->stopping ? NULL : account);
    answer_release(answer);
    if (account == NULL)
        return;
    entry = entry_of(account);
    rg_account_unref(account);
    if (entry != NULL)
        consider(m, entry);
}

static void memory_load(struct rg_store *store, const char *user, rg_store_load_fn fn,
                        void *arg)
{
    struct memory *m = self(store);
    struct answer *answer = answer_create(m);
    struct entry *entry = NULL;

    if (!m->stopping) {
        entry = entry_find(m, user);
        if (entry == NULL)
            entry = entry_create(m, user);
        if (entry == NULL)
            rg_metric_add(m->load_failures, 1);
    }
    if (entry != NULL) {
        leave_idle(m, entry);
        rg_budget_count(&m->budget, &entry->share, rg_loop_unix_s(m->loop));
        answer->account = rg_account_ref(entry->account);
    }
    answer->load = fn;
    answer->arg = arg;
    answer->job.message.fn = deliver_load;
    rg_loop_post(m->loop, &answer->job.message);
}

static bool memory_commit(struct rg_store *store, struct rg_account *account,
                          rg_store_kept_fn fn, void *arg)
{
    struct memory *m = self(store);
    struct entry *entry = entry_of(account);

    (void)fn; /* the account is the store's own object: it has the changes already */
    (void)arg;
    rg_budget_count(&m->budget, &entry->share, rg_loop_unix_s(m->loop));
    show_numbers(m);
    return true;
}

static void finish_stop(struct memory *m)
{
    struct answer *answer = m->stop_answer;

    if (answer == NULL || m->writing > 0)
        return;
    m->stop_answer = NULL;
    rg_loop_post(m->loop, &answer->job.message);
}

/* Something is on the disk, or known to be late. */
static void deliver_written(struct rg_message *message)
{
    struct answer *answer = RG_CONTAINER_OF(message, struct answer, job.message);
    struct memory *m = answer->memory;

    m->writing--;
    if (answer->end != NULL)
        answer->end(answer->arg, answer->job.written);
    answer_release(answer);
    finish_stop(m);
}

static void deliver_end(struct rg_message *message)
{
    struct answer *answer = RG_CONTAINER_OF(message, struct answer, job.message);

    answer->end(answer->arg, true); /* this process is all there is */
    answer_release(answer);
}

static void memory_end(struct rg_store *store, struct rg_account *account,
                       const struct rg_end *end, rg_store_end_fn fn, void *arg)
{
    struct memory *m = self(store);
    struct answer *answer = answer_create(m);
    struct rg_buf lines = RG_BUF_INIT;

    answer->end = fn;
    answer->arg = arg;
    if (m->file == NULL) {
        answer->job.message.fn = deliver_end;
        rg_loop_post(m->loop, &answer->job.message);
        return;
    }
    answer->job.message.fn = deliver_written;
    m->writing++;
    rg_state_put_end(&lines, account->user, end);
    rg_state_file_append_take(m->file, &answer->job, rg_buf_take(&lines, NULL),
                              rg_loop_unix_s(m->loop));
}

static void memory_revive(struct rg_store *store, struct rg_account *account,
                          const uint8_t tag[16])
{
    struct rg_buf lines = RG_BUF_INIT;
    struct memory *m = self(store);
    struct answer *answer;

    (void)tag; /* all that are dead are written */
    if (m->file == NULL)
        return;
    answer = answer_create(m);
    answer->job.message.fn = deliver_written;
    m->writing++;
    rg_state_put_passwords(&lines, account);
    rg_state_file_append_take(m->file, &answer->job, rg_buf_take(&lines, NULL),
                              rg_loop_unix_s(m->loop));
}

static void memory_release_take(struct rg_store *store, struct rg_account *account)
{
    struct entry *entry = entry_of(account);

    rg_account_unref(account);
    if (entry != NULL)
        consider(self(store), entry);
}

static void memory_erase(struct rg_store *store, const char *user)
{
    struct memory *m = self(store);
    struct entry *entry = entry_find(m, user);

    if (entry == NULL)
        return;
    forget_roster(m, entry);
    leave_idle(m, entry);
    consider(m, entry);
}

static void memory_health(struct rg_store *store, struct rg_buf *buf)
{
    struct memory *m = self(store);
    bool failing = m->file != NULL && rg_state_file_failing(m->file);

    rg_buf_printf(buf,
                  "{\"store\":\"memory\",\"degraded\":%s,\"accounts\":%u,"
                  "\"journal_bytes\":%zu,\"state_file\":\"%s\"}",
                  failing ? "true" : "false", HASH_COUNT(m->entries), m->budget.bytes,
                  m->file == NULL ? "none"
                  : failing       ? "failing"
                                  : "fine");
}

static void deliver_stopped(struct rg_message *message)
{
    struct answer *answer = RG_CONTAINER_OF(message, struct answer, job.message);

    answer->stopped(answer->arg);
    answer_release(answer);
}

static void memory_stop(struct rg_store *store, void (*fn)(void *arg), void *arg)
{
    struct memory *m = self(store);
    struct answer *answer = answer_create(m);

    m->stopping = true;
    answer->stopped = fn;
    answer->arg = arg;
    answer->job.message.fn = deliver_stopped;
    m->stop_answer = answer;
    finish_stop(m);
}

static void memory_destroy(struct rg_store *store)
{
    struct memory *m;
    struct entry *entry, *next;

    if (store == NULL)
        return;
    m = self(store);
    rg_state_file_close(m->file);
    rg_timer_fini(&m->timer, m->loop);
    HASH_ITER(hh, m->entries, entry, next)
    {
        entry_destroy(m, entry);
    }
    rg_budget_fini(&m->budget);
    free(m);
}

static const struct rg_store_ops ops = {
    .load = memory_load,
    .commit = memory_commit,
    .end = memory_end,
    .revive = memory_revive,
    .release_take = memory_release_take,
    .erase = memory_erase,
    .health = memory_health,
    .stop = memory_stop,
    .destroy = memory_destroy,
};

/* What the state file tells at start. */
struct intake {
    struct memory *memory;
    bool failed;
};

static void take_record(void *arg, const struct rg_account *kept)
{
    struct intake *intake = arg;
    struct memory *m = intake->memory;
    struct entry *entry = kept->n_ends > 0 ? entry_create(m, kept->user) : NULL;

    if (kept->n_ends == 0)
        return; /* cleared */
    if (entry == NULL) {
        intake->failed = true;
        return;
    }
    for (size_t i = 0; i < kept->n_ends; i++) {
        if (rg_account_end(entry->account, &kept->ends[i], rg_loop_unix_s(m->loop)) != RG_OK)
            intake->failed = true;
    }
    consider(m, entry);
}

static bool open_file(struct memory *m, const char *path, struct rg_err *err)
{
    struct intake intake = {.memory = m};

    if (rg_state_file_open(path, m->loop, rg_loop_unix_s(m->loop), take_record, &intake,
                           &m->file, err) != RG_OK)
        return false;
    if (intake.failed)
        rg_fail(err, RG_E_INTERNAL, "out of memory"); /* a sign-out must not be forgotten */
    return !intake.failed;
}

static void make_metrics(struct memory *m)
{
    m->accounts = rg_gauge("rostergate_store_accounts", "Accounts held in memory.", "");
    m->journal_bytes = rg_gauge("rostergate_store_journal_bytes", "Bytes of all journals.", "");
    m->journal_dropped =
        rg_counter("rostergate_store_journal_dropped_total",
                   "Changes dropped because limits.journal_bytes was reached.", "");
    m->load_failures = rg_counter("rostergate_store_load_failures_total",
                                  "Accounts not loaded for lack of memory.", "");
}

struct rg_store *rg_store_memory_create(const struct rg_config *config, struct rg_loop *loop,
                                        struct rg_err *err)
{
    struct memory *m = calloc(1, sizeof(*m));

    if (m == NULL || rg_timer_init(&m->timer, loop, on_timer) != RG_OK) {
        free(m);
        rg_fail(err, RG_E_INTERNAL, "out of memory");
        return NULL;
    }
    m->store.ops = &ops;
    m->loop = loop;
    m->ttl_ms = config->cache.ttl_ms;
    TAILQ_INIT(&m->idle);
    rg_budget_init(&m->budget, (size_t)config->limits.journal_bytes);
    for (size_t i = 0; i < RESERVE; i++) {
        m->reserve[i].next = m->free_answers;
        m->free_answers = &m->reserve[i];
    }
    make_metrics(m);
    if (config->session.state_file[0] != '\0' &&
        !open_file(m, config->session.state_file, err)) {
        memory_destroy(&m->store);
        return NULL;
    }
    return &m->store;
}

/* Most tests use a manual loop. Those of the real one run until a callback stops it: they wait
 * for what they test, never for time to pass. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/loop.h"
#include "gateway/base/random.h"

enum { START = 1000000 };

/* A timer or message that writes its letter. */
struct note {
    struct rg_timer timer;
    struct rg_message message;
    struct rg_loop *loop;
    char letter;
    int64_t again_ms; /* > 0: arms or posts itself again */
    int left;         /* how often */
    struct note *other;
    int fd;
};

static char log_text[256];
static int64_t log_at[256];

static void start_log(void)
{
    log_text[0] = '\0';
}

static void write_note(const struct note *note)
{
    size_t len = strlen(log_text);

    assert_true(len + 1 < sizeof(log_text));
    log_at[len] = rg_loop_now_ms(note->loop);
    log_text[len] = note->letter;
    log_text[len + 1] = '\0';
}

static void on_timer(struct rg_timer *timer)
{
    struct note *note = RG_CONTAINER_OF(timer, struct note, timer);

    write_note(note);
    if (note->left-- > 0)
        rg_timer_start(&note->timer, note->loop, note->again_ms);
    if (note->other != NULL)
        rg_timer_stop(&note->other->timer, note->loop);
}

static void on_message(struct rg_message *message)
{
    struct note *note = RG_CONTAINER_OF(message, struct note, message);

    write_note(note);
    if (note->left-- > 0)
        rg_loop_post(note->loop, &note->message);
    else if (note->other != NULL)
        rg_loop_stop(note->loop);
}

static void init_note(struct note *note, struct rg_loop *loop, char letter)
{
    memset(note, 0, sizeof(*note));
    note->loop = loop;
    note->letter = letter;
    note->message.fn = on_message;
    assert_int_equal(rg_timer_init(&note->timer, loop, on_timer), RG_OK);
}

static void loop__timers__fire_in_order_of_time(void **state)
{
    struct rg_loop *loop = rg_loop_create_manual(START);
    struct note notes[5];

    (void)state;
    start_log();
    for (int i = 0; i < 5; i++)
        init_note(&notes[i], loop, (char)('a' + i));
    rg_timer_start(&notes[0].timer, loop, 50);
    rg_timer_start(&notes[1].timer, loop, 10);
    rg_timer_start(&notes[2].timer, loop, 40);
    rg_timer_start(&notes[3].timer, loop, 20);
    rg_timer_start(&notes[4].timer, loop, 30);
    rg_loop_advance(loop, 9);
    assert_string_equal(log_text, "");
    rg_loop_advance(loop, 1);
    assert_string_equal(log_text, "b");
    assert_int_equal(log_at[0], START + 10);
    rg_loop_advance(loop, 25);
    assert_string_equal(log_text, "bde");
    assert_int_equal(log_at[2], START + 30); /* at their time, not at the end of the step */
    rg_loop_advance(loop, 1000);
    assert_string_equal(log_text, "bdeca");
    assert_int_equal(rg_loop_now_ms(loop), START + 1035);
    assert_int_equal(rg_loop_unix_s(loop), (START + 1035) / 1000);
    for (int i = 0; i < 5; i++) {
        assert_false(rg_timer_armed(&notes[i].timer));
        rg_timer_fini(&notes[i].timer, loop);
    }
    rg_loop_destroy(loop);
}

static void loop__timer__stop_and_restart(void **state)
{
    struct rg_loop *loop = rg_loop_create_manual(START);
    struct note note;

    (void)state;
    start_log();
    init_note(&note, loop, 'a');
    rg_timer_stop(&note.timer, loop);
    rg_timer_start(&note.timer, loop, 10);
    assert_true(rg_timer_armed(&note.timer));
    rg_timer_stop(&note.timer, loop);
    rg_loop_advance(loop, 20);
    assert_string_equal(log_text, "");
    rg_timer_start(&note.timer, loop, 10);
    rg_loop_advance(loop, 5);
    rg_timer_start(&note.timer, loop, 10); /* later now */
    rg_loop_advance(loop, 9);
    assert_string_equal(log_text, "");
    rg_loop_advance(loop, 1);
    assert_string_equal(log_text, "a");
    rg_timer_start(&note.timer, loop, -5); /* the past: next turn */
    rg_loop_advance(loop, 0);
    assert_string_equal(log_text, "aa");
    rg_timer_start(&note.timer, loop, INT64_MAX); /* for ever, without overflow */
    rg_loop_advance(loop, 1000000);
    assert_string_equal(log_text, "aa");
    rg_timer_fini(&note.timer, loop);
    rg_timer_fini(&note.timer, loop);
    rg_loop_destroy(loop);
}

static void loop__timer__may_rearm_itself(void **state)
{
    struct rg_loop *loop = rg_loop_create_manual(START);
    struct note note;

    (void)state;
    start_log();
    init_note(&note, loop, 'a');
    note.again_ms = 10;
    note.left = 3;
    rg_timer_start(&note.timer, loop, 10);
    rg_loop_advance(loop, 100);
    assert_string_equal(log_text, "aaaa");
    assert_int_equal(log_at[3], START + 40);
    note.again_ms = 0; /* not within the same turn, or the loop would never go on */
    note.left = 3;
    rg_timer_start(&note.timer, loop, 0);
    rg_loop_advance(loop, 0);
    assert_string_equal(log_text, "aaaaa");
    rg_loop_advance(loop, 10);
    assert_string_equal(log_text, "aaaaaaaa");
    rg_timer_fini(&note.timer, loop);
    rg_loop_destroy(loop);
}

static void loop__timer__may_stop_another_that_is_due(void **state)
{
    struct rg_loop *loop = rg_loop_create_manual(START);
    struct note a, b;

    (void)state;
    start_log();
    init_note(&a, loop, 'a');
    init_note(&b, loop, 'b');
    a.other = &b;
    rg_timer_start(&b.timer, loop, 11);
    rg_timer_start(&a.timer, loop, 10);
    rg_loop_advance(loop, 100);
    assert_string_equal(log_text, "a");
    rg_timer_fini(&a.timer, loop);
    rg_timer_fini(&b.timer, loop);
    rg_loop_destroy(loop);
}

/* Many timers, started and stopped at random: none is lost, none comes early or out of order.
 */
static int64_t last_due;
static int fired;

static void on_random(struct rg_timer *timer)
{
    assert_true(timer->due_ms >= last_due);
    last_due = timer->due_ms;
    fired++;
}

static void loop__heap__keeps_order_at_random(void **state)
{
    enum { N = 2000 };
    struct rg_loop *loop = rg_loop_create_manual(START);
    struct rg_timer *timers = calloc(N, sizeof(*timers));
    int armed = 0;

    (void)state;
    last_due = 0;
    fired = 0;
    for (int i = 0; i < N; i++)
        assert_int_equal(rg_timer_init(&timers[i], loop, on_random), RG_OK);
    for (int i = 0; i < 5 * N; i++) {
        struct rg_timer *timer = &timers[rg_random_below(N)];

        if (rg_random_below(3) == 0)
            rg_timer_stop(timer, loop);
        else
            rg_timer_start(timer, loop, (int64_t)rg_random_below(10000));
    }
    for (int i = 0; i < N; i++)
        armed += rg_timer_armed(&timers[i]);
    rg_loop_advance(loop, 5000);
    for (int i = 0; i < N; i++)
        assert_true(!rg_timer_armed(&timers[i]) || timers[i].due_ms > START + 5000);
    rg_loop_advance(loop, 5000);
    assert_int_equal(fired, armed);
    for (int i = 0; i < N; i++)
        rg_timer_fini(&timers[i], loop);
    free(timers);
    rg_loop_destroy(loop);
}

static void loop__post__delivers_in_order_later(void **state)
{
    struct rg_loop *loop = rg_loop_create_manual(START);
    struct note notes[4];

    (void)state;
    start_log();
    for (int i = 0; i < 4; i++) {
        init_note(&notes[i], loop, (char)('a' + i));
        rg_loop_post(loop, &notes[i].message);
    }
    assert_string_equal(log_text, "");
    rg_loop_advance(loop, 0);
    assert_string_equal(log_text, "abcd");
    for (int i = 0; i < 4; i++)
        rg_timer_fini(&notes[i].timer, loop);
    rg_loop_destroy(loop);
}

static void loop__post__from_a_message_comes_after_timers_of_the_turn(void **state)
{
    struct rg_loop *loop = rg_loop_create_manual(START);
    struct note message, timer;

    (void)state;
    start_log();
    init_note(&message, loop, 'm');
    init_note(&timer, loop, 't');
    message.left = 2;
    rg_loop_post(loop, &message.message);
    rg_timer_start(&timer.timer, loop, 0);
    rg_loop_advance(loop, 0);
    assert_string_equal(log_text, "mtmm");
    rg_timer_fini(&message.timer, loop);
    rg_timer_fini(&timer.timer, loop);
    rg_loop_destroy(loop);
}

/* The real loop */

static void *run_loop(void *arg)
{
    rg_loop_run(arg);
    return NULL;
}

struct sum {
    struct rg_message message;
    struct rg_loop *loop;
    uint64_t *total;
    uint64_t value;
    uint64_t *last; /* of this sender */
};

static void on_sum(struct rg_message *message)
{
    struct sum *sum = RG_CONTAINER_OF(message, struct sum, message);

    rg_loop_assert_owner(sum->loop);
    assert_true(sum->value > *sum->last); /* in order of posting, per sender */
    *sum->last = sum->value;
    *sum->total += sum->value;
}

enum { SENDERS = 3, EACH = 5000 };
struct sender {
    struct rg_loop *loop;
    struct sum *sums;
};

static void *send_all(void *arg)
{
    struct sender *sender = arg;

    for (int i = 0; i < EACH; i++)
        rg_loop_post(sender->loop, &sender->sums[i].message);
    return NULL;
}

static void loop__post__from_many_threads_loses_nothing(void **state)
{
    struct rg_loop *loop = rg_loop_create("test", NULL);
    struct sender senders[SENDERS];
    uint64_t total = 0, last[SENDERS] = {0};
    pthread_t runner, threads[SENDERS];

    (void)state;
    assert_non_null(loop);
    for (int s = 0; s < SENDERS; s++) {
        senders[s] = (struct sender){loop, calloc(EACH, sizeof(struct sum))};
        for (int i = 0; i < EACH; i++)
            senders[s].sums[i] = (struct sum){.message = {.fn = on_sum},
                                              .loop = loop,
                                              .total = &total,
                                              .value = (uint64_t)i + 1,
                                              .last = &last[s]};
    }
    assert_int_equal(pthread_create(&runner, NULL, run_loop, loop), 0);
    for (int s = 0; s < SENDERS; s++)
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, &senders[s]), 0);
    for (int s = 0; s < SENDERS; s++)
        pthread_join(threads[s], NULL);
    rg_loop_stop(loop); /* what was posted before is still delivered */
    pthread_join(runner, NULL);
    assert_int_equal(total, (uint64_t)SENDERS * EACH * (EACH + 1) / 2);
    for (int s = 0; s < SENDERS; s++)
        free(senders[s].sums);
    rg_loop_destroy(loop);
}

/* Two loops on two threads send one ball to and fro: each catch needs the other to be woken
 * from its wait. A lost wake-up would end in the alarm. */
struct ball {
    struct rg_message message;
    struct rg_loop *loops[2];
    int throws;
};

static void on_ball(struct rg_message *message)
{
    struct ball *ball = RG_CONTAINER_OF(message, struct ball, message);

    rg_loop_assert_owner(ball->loops[ball->throws % 2]);
    ball->throws++;
    if (ball->throws < 2000) {
        rg_loop_post(ball->loops[ball->throws % 2], &ball->message);
        return;
    }
    rg_loop_stop(ball->loops[0]);
    rg_loop_stop(ball->loops[1]);
}

static void loop__post__wakes_a_waiting_loop(void **state)
{
    struct ball ball = {.message = {.fn = on_ball}};
    pthread_t runners[2];

    (void)state;
    alarm(60);
    for (int i = 0; i < 2; i++) {
        ball.loops[i] = rg_loop_create("ball", NULL);
        assert_non_null(ball.loops[i]);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&runners[i], NULL, run_loop, ball.loops[i]), 0);
    rg_loop_post(ball.loops[0], &ball.message);
    for (int i = 0; i < 2; i++)
        pthread_join(runners[i], NULL);
    alarm(0);
    assert_int_equal(ball.throws, 2000);
    for (int i = 0; i < 2; i++)
        rg_loop_destroy(ball.loops[i]);
}

static void on_readable(void *arg, int events)
{
    struct note *note = arg;
    char c;

    assert_int_equal(events, RG_WATCH_READ);
    assert_int_equal(read(note->fd, &c, 1), 1);
    note->letter = c;
    write_note(note);
    if (c == 'z')
        rg_loop_stop(note->loop);
}

static void loop__watch__calls_when_readable(void **state)
{
    struct rg_loop *loop = rg_loop_create("test", NULL);
    struct rg_watch *watch;
    struct note note = {.loop = loop};
    int fds[2];

    (void)state;
    start_log();
    assert_int_equal(pipe(fds), 0);
    note.fd = fds[0];
    watch = rg_loop_watch(loop, fds[0], 0, on_readable, &note); /* paused */
    assert_non_null(watch);
    rg_watch_change(watch, RG_WATCH_READ);
    assert_int_equal(write(fds[1], "abz", 3), 3);
    rg_loop_run(loop);
    assert_string_equal(log_text, "abz");
    rg_watch_change(watch, 0);
    rg_watch_destroy(watch);
    rg_watch_destroy(NULL);
    rg_loop_destroy(loop);
    close(fds[0]);
    close(fds[1]);
}

static void stop_on_signal(void *arg, int signo)
{
    struct note *note = arg;

    note->left = signo;
    rg_loop_stop(note->loop);
}

static void loop__signal__arrives_on_the_loop(void **state)
{
    struct rg_loop *loop = rg_loop_create("test", NULL);
    struct note note = {.loop = loop};
    struct rg_watch *watch = rg_loop_signal(loop, SIGUSR1, stop_on_signal, &note);

    (void)state;
    assert_non_null(watch);
    assert_int_equal(raise(SIGUSR1), 0);
    rg_loop_run(loop);
    assert_int_equal(note.left, SIGUSR1);
    rg_watch_destroy(watch);
    rg_loop_destroy(loop);
}

struct prepared {
    struct rg_loop *loop;
    int calls, stop_at;
};

static int64_t on_prepare(void *arg)
{
    struct prepared *prepared = arg;

    if (++prepared->calls == prepared->stop_at)
        rg_loop_stop(prepared->loop);
    return 0; /* do not wait at all */
}

static void loop__prepare__zero_polls(void **state)
{
    struct rg_loop *loop = rg_loop_create("test", NULL);
    struct prepared prepared = {.loop = loop, .stop_at = 10};

    (void)state;
    rg_loop_prepare(loop, on_prepare, &prepared);
    rg_loop_run(loop);
    assert_int_equal(prepared.calls, 10);
    assert_int_equal(rg_loop_wakeups(loop), 9); /* once before every wait */
    rg_loop_destroy(loop);
}

static void stop_on_timer(struct rg_timer *timer)
{
    rg_loop_stop(RG_CONTAINER_OF(timer, struct note, timer)->loop);
}

/* A timer wakes the loop once, and not before its time. */
static void loop__timer__wakes_once(void **state)
{
    struct rg_loop *loop = rg_loop_create("test", NULL);
    struct note note = {.loop = loop};
    int64_t start;

    (void)state;
    assert_int_equal(rg_timer_init(&note.timer, loop, stop_on_timer), RG_OK);
    start = rg_loop_now_ms(loop);
    rg_timer_start(&note.timer, loop, 20);
    rg_loop_run(loop);
    assert_true(rg_loop_now_ms(loop) - start >= 20);
    assert_in_range(rg_loop_wakeups(loop), 1, 2);
    rg_timer_fini(&note.timer, loop);
    rg_loop_destroy(loop);
}

static void loop__stop__may_come_first_and_again(void **state)
{
    struct rg_loop *loop = rg_loop_create("test", NULL);
    struct note note;

    (void)state;
    start_log();
    init_note(&note, loop, 'a');
    rg_loop_post(loop, &note.message);
    rg_loop_stop(loop);
    rg_loop_run(loop);
    assert_string_equal(log_text, "a");
    note.other = &note; /* now the message stops it */
    rg_loop_post(loop, &note.message);
    rg_loop_run(loop);
    assert_string_equal(log_text, "aa");
    rg_timer_fini(&note.timer, loop);
    rg_loop_destroy(loop);
}

static void loop__manual__has_no_base(void **state)
{
    struct rg_loop *loop = rg_loop_create_manual(0);

    (void)state;
    assert_null(rg_loop_base(loop));
    assert_null(rg_loop_watch(loop, 0, RG_WATCH_READ, on_readable, NULL));
    assert_null(rg_loop_signal(loop, SIGUSR1, on_readable, NULL));
    rg_loop_assert_owner(loop);
    rg_loop_destroy(loop);
    rg_loop_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loop__timers__fire_in_order_of_time),
        cmocka_unit_test(loop__timer__stop_and_restart),
        cmocka_unit_test(loop__timer__may_rearm_itself),
        cmocka_unit_test(loop__timer__may_stop_another_that_is_due),
        cmocka_unit_test(loop__heap__keeps_order_at_random),
        cmocka_unit_test(loop__post__delivers_in_order_later),
        cmocka_unit_test(loop__post__from_a_message_comes_after_timers_of_the_turn),
        cmocka_unit_test(loop__post__from_many_threads_loses_nothing),
        cmocka_unit_test(loop__post__wakes_a_waiting_loop),
        cmocka_unit_test(loop__watch__calls_when_readable),
        cmocka_unit_test(loop__signal__arrives_on_the_loop),
        cmocka_unit_test(loop__prepare__zero_polls),
        cmocka_unit_test(loop__timer__wakes_once),
        cmocka_unit_test(loop__stop__may_come_first_and_again),
        cmocka_unit_test(loop__manual__has_no_base),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

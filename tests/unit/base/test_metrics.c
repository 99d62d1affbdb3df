#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/metrics.h"

static struct rg_buf shown;

static const char *show(void)
{
    rg_buf_clear(&shown);
    rg_metrics_write(&shown);
    assert_false(rg_buf_failed(&shown));
    return shown.data;
}

static void metrics__counter__text_form(void **state)
{
    struct rg_metric *metric = rg_counter("t_one_total", "Counts \\ this\nhere.", "");

    (void)state;
    rg_metric_add(metric, 3);
    rg_metric_add(metric, 1);
    assert_int_equal(rg_metric_value(metric), 4);
    assert_non_null(strstr(show(), "# HELP t_one_total Counts \\\\ this\\nhere.\n"
                                   "# TYPE t_one_total counter\nt_one_total 4\n"));
}

static void metrics__create__is_idempotent(void **state)
{
    struct rg_metric *a = rg_counter("t_two_total", "Two.", "code=\"200\"");
    struct rg_metric *b = rg_counter("t_two_total", "Two.", "code=\"404\"");

    (void)state;
    assert_ptr_equal(a, rg_counter("t_two_total", "Two.", "code=\"200\""));
    assert_ptr_not_equal(a, b);
    rg_metric_add(a, 1);
    rg_metric_add(b, 2);
    /* One head, then the series of the family together. */
    assert_non_null(strstr(show(), "# TYPE t_two_total counter\n"
                                   "t_two_total{code=\"200\"} 1\n"
                                   "t_two_total{code=\"404\"} 2\n"));
}

static void metrics__gauge__is_set(void **state)
{
    struct rg_metric *metric = rg_gauge("t_three", "Three.", "");

    (void)state;
    rg_metric_set(metric, 10);
    rg_metric_add(metric, -12);
    assert_non_null(strstr(show(), "# TYPE t_three gauge\nt_three -2\n"));
}

static void metrics__histogram__is_cumulative(void **state)
{
    struct rg_metric *metric = rg_histogram("t_four_seconds", "Four.", "route=\"/x\"");
    static const char *const lines[] = {
        "# TYPE t_four_seconds histogram\n",
        "t_four_seconds_bucket{route=\"/x\",le=\"0.001\"} 2\n", /* 0 and exactly 1 ms */
        "t_four_seconds_bucket{route=\"/x\",le=\"0.0025\"} 3\n",
        "t_four_seconds_bucket{route=\"/x\",le=\"1\"} 3\n",
        "t_four_seconds_bucket{route=\"/x\",le=\"10\"} 4\n",
        "t_four_seconds_bucket{route=\"/x\",le=\"+Inf\"} 5\n",
        "t_four_seconds_sum{route=\"/x\"} 30.002001\n",
        "t_four_seconds_count{route=\"/x\"} 5\n"};

    (void)state;
    rg_metric_observe_us(metric, -5);
    rg_metric_observe_us(metric, 1000);
    rg_metric_observe_us(metric, 1001);
    rg_metric_observe_us(metric, 10000000);
    rg_metric_observe_us(metric, 20000000);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strstr(show(), lines[i]) == NULL)
            fail_msg("missing: %s in\n%s", lines[i], shown.data);
    }
}

static void metrics__histogram__without_labels(void **state)
{
    (void)state;
    rg_histogram("t_five_seconds", "Five.", "");
    assert_non_null(strstr(show(), "t_five_seconds_bucket{le=\"0.001\"} 0\n"));
    assert_non_null(strstr(shown.data, "t_five_seconds_count 0\n"));
}

static double asked(void *arg)
{
    return *(double *)arg;
}

static void metrics__ask__asks_when_shown(void **state)
{
    static double value = 1.5; /* lives as long as the series */

    (void)state;
    rg_metric_ask("t_six", "Six.", "loop=\"core\"", 0, asked, &value);
    rg_metric_ask("t_seven_total", "Seven.", "", 1, asked, &value);
    assert_non_null(strstr(show(), "# TYPE t_six gauge\nt_six{loop=\"core\"} 1.5\n"));
    value = 4294967296.0;
    assert_non_null(strstr(show(), "# TYPE t_seven_total counter\nt_seven_total 4294967296\n"));
}

/* A name used with two kinds is our mistake: it must neither crash nor spoil the text. */
static void metrics__kinds__do_not_mix(void **state)
{
    struct rg_metric *metric;

    (void)state;
    rg_counter("t_eight_total", "Eight.", "");
    metric = rg_gauge("t_eight_total", "Eight.", "");
    assert_non_null(metric);
    rg_metric_set(metric, 99);
    rg_metric_observe_us(metric, 5);
    rg_metric_observe_us(rg_counter("t_eight_total", "Eight.", ""), 5);
    assert_non_null(strstr(show(), "t_eight_total 0\n"));
    assert_null(strstr(shown.data, "t_eight_total gauge"));
}

static void metrics__process__is_there(void **state)
{
    static const char *const names[] = {"process_cpu_seconds_total ",
                                        "process_resident_memory_bytes ",
                                        "process_open_fds ",
                                        "process_max_fds ",
                                        "process_virtual_memory_bytes ",
                                        "process_start_time_seconds "};
    double value;

    (void)state;
    show();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char line[80];
        const char *at;

        (void)snprintf(line, sizeof(line), "\n%s", names[i]);
        at = strstr(shown.data, line);
        assert_non_null(at);
        assert_int_equal(sscanf(at + strlen(line), "%lf", &value), 1);
        assert_true(value > 0 || i == 0);
    }
}

/* Each line is a comment or NAME[{...}] VALUE. */
static void metrics__text__each_line_is_well_formed(void **state)
{
    char *line, *at = (char *)show();

    (void)state;
    while ((line = strsep(&at, "\n")) != NULL && *line != '\0') {
        char *blank = strrchr(line, ' '), *end;

        if (strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0)
            continue;
        assert_non_null(blank);
        (void)strtod(blank + 1, &end);
        assert_true(end != blank + 1 && *end == '\0');
        assert_true(blank[-1] == '}' || strchr(line, '{') == NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics__counter__text_form),
        cmocka_unit_test(metrics__create__is_idempotent),
        cmocka_unit_test(metrics__gauge__is_set),
        cmocka_unit_test(metrics__histogram__is_cumulative),
        cmocka_unit_test(metrics__histogram__without_labels),
        cmocka_unit_test(metrics__ask__asks_when_shown),
        cmocka_unit_test(metrics__kinds__do_not_mix),
        cmocka_unit_test(metrics__process__is_there),
        cmocka_unit_test(metrics__text__each_line_is_well_formed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    rg_buf_fini(&shown);
    return failed;
}

#include "libcommon/metrics.h"

#include "libcommon/testing.h"

static struct buffer page;

static int set_up(void **state) {
    (void)state;
    buffer_init(&page);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    buffer_deinit(&page);
    return 0;
}

static const char *text(void) {
    buffer_append(&page, "", 1);
    assert_false(page.failed);
    return (const char *)page.data;
}

static void a_page_has_families_with_samples(void **state) {
    (void)state;
    metrics_one(&page, "a_total", METRICS_COUNTER, UINT64_MAX, "All of it.");
    metrics_family(&page, "b_seconds", METRICS_GAUGE, "So long.");
    metrics_seconds(&page, "b_seconds", 1500001, "shard=\"%d\"", 3);
    metrics_seconds(&page, "b_seconds", -20, "shard=\"%d\"", 4);
    assert_string_equal(text(), "# HELP a_total All of it.\n# TYPE a_total counter\na_total 18446744073709551615\n"
                                "# HELP b_seconds So long.\n# TYPE b_seconds gauge\n"
                                "b_seconds{shard=\"3\"} 1.500001\nb_seconds{shard=\"4\"} -0.000020\n");
}

/* Each bucket holds what is not above its bound, and all that the smaller ones hold. */
static void a_histogram_is_cumulative(void **state) {
    (void)state;
    struct metrics_histogram one = {0}, sum = {0};
    metrics_observe(&one, 50, 2);
    metrics_observe(&one, 51, 1);
    metrics_observe(&one, 9000000, 1);
    metrics_merge(&sum, &one);
    metrics_merge(&sum, &one);
    metrics_histogram(&page, "d_seconds", &sum, "stage=\"%s\"", "log");
    const char *all = text();
    assert_non_null(strstr(all, "d_seconds_bucket{stage=\"log\",le=\"5e-05\"} 4\n"));
    assert_non_null(strstr(all, "d_seconds_bucket{stage=\"log\",le=\"0.0001\"} 6\n"));
    assert_non_null(strstr(all, "d_seconds_bucket{stage=\"log\",le=\"5\"} 6\n"));
    assert_non_null(strstr(all, "d_seconds_bucket{stage=\"log\",le=\"+Inf\"} 8\n"));
    assert_non_null(strstr(all, "d_seconds_sum{stage=\"log\"} 18.000302\n"));
    assert_non_null(strstr(all, "d_seconds_count{stage=\"log\"} 8\n"));
}

static void labels_from_outside_cannot_end_the_line(void **state) {
    (void)state;
    char room[16];
    assert_string_equal(metrics_quote("a\"b\\c\nd", room, sizeof room), "a\\\"b\\\\c\\nd");
    assert_int_equal(strlen(metrics_quote("\"\"\"\"\"\"\"\"\"\"\"\"\"\"", room, sizeof room)), 14);
}

static void a_line_that_does_not_fit_spoils_the_page(void **state) {
    (void)state;
    char help[2000];
    memset(help, 'x', sizeof help - 1);
    help[sizeof help - 1] = '\0';
    metrics_family(&page, "a", METRICS_GAUGE, help);
    assert_true(page.failed);
}

static double figure(const char *all, const char *name) {
    char begin[100];
    (void)snprintf(begin, sizeof begin, "\n%s ", name);
    const char *at = strstr(all, begin);
    assert_non_null(at);
    return strtod(at + strlen(begin), NULL);
}

/* Every figure of the process is there and not nothing. */
static void the_process_is_told_of(void **state) {
    (void)state;
    metrics_process(&page, "test");
    const char *all = text();
    static const char *const names[] = {"process_start_time_seconds",
                                        "process_resident_memory_bytes",
                                        "process_virtual_memory_bytes",
                                        "process_open_fds",
                                        "process_max_fds",
                                        "process_threads",
                                        "skerry_clock_seconds"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_true(figure(all, names[i]) > 0);
    assert_non_null(strstr(all, "skerry_build_info{daemon=\"test\",version=\"" SKERRY_VERSION "\"} 1\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_page_has_families_with_samples, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_histogram_is_cumulative, set_up, tear_down),
        cmocka_unit_test_setup_teardown(labels_from_outside_cannot_end_the_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_line_that_does_not_fit_spoils_the_page, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_process_is_told_of, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

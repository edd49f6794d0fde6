#include "histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static int make(void **state) {
    *state = calloc(3, sizeof(struct histogram));
    return *state == NULL ? -1 : 0;
}

static int drop(void **state) {
    free(*state);
    return 0;
}

static void empty_answers_zero(void **state) {
    struct histogram *histogram = *state;
    assert_int_equal(histogram_count(histogram), 0);
    assert_int_equal(histogram_percentile(histogram, 50), 0);
    assert_int_equal(histogram_max(histogram), 0);
}

static void small_values_are_exact(void **state) {
    struct histogram *histogram = *state;
    for (uint64_t value = 1; value <= 1000; value++) histogram_record(histogram, value, 1);
    assert_int_equal(histogram_count(histogram), 1000);
    assert_int_equal(histogram_percentile(histogram, 0), 1);
    assert_int_equal(histogram_percentile(histogram, 50), 500);
    assert_int_equal(histogram_percentile(histogram, 99), 990);
    assert_int_equal(histogram_percentile(histogram, 99.9), 999);
    assert_int_equal(histogram_percentile(histogram, 100), 1000);
    assert_int_equal(histogram_max(histogram), 1000);
}

/* For values of any size, one alone reads back as itself and, beside a larger one, within a thousandth. */
static void three_digits_at_any_size(void **state) {
    struct histogram *histogram = *state;
    for (uint64_t value = 2000; value < HISTOGRAM_MOST / 2; value = value * 17 / 16 + 1) {
        memset(histogram, 0, sizeof *histogram);
        histogram_record(histogram, value, 1);
        assert_int_equal(histogram_percentile(histogram, 50), value);
        histogram_record(histogram, HISTOGRAM_MOST, 1);
        uint64_t median = histogram_percentile(histogram, 50);
        assert_true(median >= value);
        assert_true((double)(median - value) <= (double)value / 1000.0);
    }
}

/* Every bucket is reached, in order, and none beyond the last. */
static void buckets_touch(void **state) {
    struct histogram *histogram = *state;
    for (uint32_t power = 11; power < 37; power++) {
        uint64_t edge = 1ull << power;
        for (uint64_t value = edge - 1; value <= edge + 1; value++) histogram_record(histogram, value, 1);
    }
    histogram_record(histogram, HISTOGRAM_MOST, 1);
    histogram_record(histogram, UINT64_MAX, 1);
    assert_int_equal(histogram_count(histogram), 26 * 3 + 2);
    assert_int_equal(atomic_load(&histogram->counts[HISTOGRAM_BUCKETS - 1]), 2);
    assert_int_equal(atomic_load(&histogram->counts[HISTOGRAM_EXACT - 1]), 1);
    assert_int_equal(atomic_load(&histogram->counts[HISTOGRAM_EXACT]), 2); /* 2048 and 2049 */
}

static void counts_many_at_once(void **state) {
    struct histogram *histogram = *state;
    histogram_record(histogram, 10, 99);
    histogram_record(histogram, 20, 1);
    histogram_record(histogram, 30, 0);
    assert_int_equal(histogram_count(histogram), 100);
    assert_int_equal(histogram_percentile(histogram, 99), 10);
    assert_int_equal(histogram_percentile(histogram, 99.5), 20);
    assert_int_equal(histogram_max(histogram), 20);
}

static void intervals_hold_what_is_new(void **state) {
    struct histogram *all = *state, *before = all + 1, *interval = all + 2;
    histogram_record(all, 100, 5);
    histogram_add_interval(all, before, interval);
    assert_int_equal(histogram_count(interval), 5);
    memset(interval, 0, sizeof *interval);
    histogram_record(all, 7, 3);
    histogram_add_interval(all, before, interval);
    assert_int_equal(histogram_count(interval), 3);
    assert_int_equal(histogram_percentile(interval, 99), 7);
    assert_int_equal(histogram_max(interval), 7);
    memset(interval, 0, sizeof *interval);
    histogram_add_interval(all, before, interval);
    assert_int_equal(histogram_count(interval), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(empty_answers_zero, make, drop),
        cmocka_unit_test_setup_teardown(small_values_are_exact, make, drop),
        cmocka_unit_test_setup_teardown(three_digits_at_any_size, make, drop),
        cmocka_unit_test_setup_teardown(buckets_touch, make, drop),
        cmocka_unit_test_setup_teardown(counts_many_at_once, make, drop),
        cmocka_unit_test_setup_teardown(intervals_hold_what_is_new, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

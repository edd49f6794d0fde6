#include "gateway/history.h"

#include "libcommon/testing.h"

#define START_MS 5000u /* of the clock */

struct story {
    struct tally tally;
    struct history history;
    uint64_t now_ms;
    struct history_sample samples[HISTORY_SAMPLES];
    uint32_t count;
};

static int set_up(void **state) {
    struct story *story = calloc(1, sizeof *story);
    assert_non_null(story);
    story->now_ms = START_MS;
    history_take(&story->history, &story->tally, 0, story->now_ms);
    *state = story;
    return 0;
}

static int tear_down(void **state) {
    free(*state);
    return 0;
}

static void pass(struct story *story, uint64_t ms) {
    story->now_ms += ms;
    history_take(&story->history, &story->tally, 7, story->now_ms);
    story->count = history_read(&story->history, story->samples);
}

static const uint32_t *last(const struct story *story) {
    assert_true(story->count > 0);
    return story->samples[story->count - 1].values;
}

static void command(struct story *story, int command, int err, int times) {
    for (int i = 0; i < times; i++) tally_command(&story->tally, command, err);
}

static void the_first_look_is_no_sample(void **state) {
    struct story *story = *state;
    assert_int_equal(history_read(&story->history, story->samples), 0);
    pass(story, 999);
    assert_int_equal(story->count, 0);
    pass(story, 1);
    assert_int_equal(story->count, 1);
    assert_int_equal(story->samples[0].at_ms, START_MS + 1000);
}

static void commands_are_counted_by_kind(void **state) {
    struct story *story = *state;
    command(story, COMMAND_ID_GET, SK_OK, 30);
    command(story, COMMAND_ID_SET, SK_OK, 20);
    command(story, TALLY_ATOMIC, SK_OK, 1);
    command(story, COMMAND_ID_PING, SK_OK, 100); /* is neither */
    command(story, COMMAND_ID_GET, SK_UNAVAILABLE, 2);
    command(story, TALLY_INVALID, SK_BADREQUEST, 3);
    tally_refusal(&story->tally, SK_OVERLOADED);
    pass(story, 1000);
    assert_int_equal(last(story)[HISTORY_READS], 30);
    assert_int_equal(last(story)[HISTORY_WRITES], 21);
    assert_int_equal(last(story)[HISTORY_ERRORS], 6);
    assert_int_equal(last(story)[HISTORY_IN_FLIGHT], 7);
    pass(story, 1000); /* and only once */
    assert_int_equal(last(story)[HISTORY_READS], 0);
    assert_int_equal(last(story)[HISTORY_WRITES], 0);
    assert_int_equal(last(story)[HISTORY_ERRORS], 0);
}

static void rates_are_by_the_time_that_passed(void **state) {
    struct story *story = *state;
    command(story, COMMAND_ID_GET, SK_OK, 100);
    pass(story, 4000); /* the loop stood still */
    assert_int_equal(story->count, 1);
    assert_int_equal(last(story)[HISTORY_READS], 25);
    command(story, COMMAND_ID_GET, SK_OK, 9);
    pass(story, 1200);
    assert_int_equal(last(story)[HISTORY_READS], 8); /* 7.5 */
    pass(story, 700);                                /* the same second still */
    assert_int_equal(story->count, 2);
    pass(story, 100); /* the next one has begun 800 ms after the last look */
    assert_int_equal(story->count, 3);
}

static void latencies_are_of_this_second(void **state) {
    struct story *story = *state;
    metrics_observe(&story->tally.durations[TALLY_READ], 200, 99);
    metrics_observe(&story->tally.durations[TALLY_READ], 2000000, 1);
    pass(story, 1000);
    assert_in_range(last(story)[HISTORY_READ_P50_US], 100, 250);
    assert_in_range(last(story)[HISTORY_READ_P99_US], 100, 250);
    assert_int_equal(last(story)[HISTORY_WRITE_P50_US], HISTORY_NONE);
    metrics_observe(&story->tally.durations[TALLY_WRITE], 7000, 50);
    metrics_observe(&story->tally.durations[TALLY_WRITE], 700000, 1);
    pass(story, 1000);
    assert_int_equal(last(story)[HISTORY_READ_P50_US], HISTORY_NONE);
    assert_in_range(last(story)[HISTORY_WRITE_P50_US], 5000, 10000);
    assert_in_range(last(story)[HISTORY_WRITE_P99_US], 500000, 1000000);
}

static void five_minutes_are_kept(void **state) {
    struct story *story = *state;
    for (uint32_t i = 1; i <= 3 * HISTORY_SLOTS; i++) {
        command(story, COMMAND_ID_GET, SK_OK, (int)(i % 1000));
        pass(story, 1000);
        assert_int_equal(story->count, i < HISTORY_SAMPLES ? i : HISTORY_SAMPLES);
        for (uint32_t s = 0; s < story->count; s++) { /* oldest first */
            uint32_t of = i - story->count + 1 + s;
            assert_int_equal(story->samples[s].at_ms, START_MS + of * 1000u);
            assert_int_equal(story->samples[s].values[HISTORY_READS], of % 1000);
        }
    }
}

static void quantiles_are_interpolated(void **state) {
    static const uint64_t bounds_us[] = METRICS_BOUNDS_US;
    uint64_t counts[METRICS_BUCKETS] = {0};
    (void)state;
    assert_int_equal(history_quantile_us(counts, 500), HISTORY_NONE);
    counts[3] = 1; /* 250 to 500 */
    assert_int_equal(history_quantile_us(counts, 0), 375);
    assert_int_equal(history_quantile_us(counts, 500), 375);
    assert_int_equal(history_quantile_us(counts, 1000), 375);
    counts[3] = 100;
    assert_int_equal(history_quantile_us(counts, 10), 251);  /* the first lies at half a hundredth */
    assert_int_equal(history_quantile_us(counts, 500), 373); /* the fiftieth */
    assert_int_equal(history_quantile_us(counts, 990), 496);
    counts[0] = 900;
    assert_in_range(history_quantile_us(counts, 500), 0, 50);
    assert_in_range(history_quantile_us(counts, 900), 49, 50);
    assert_in_range(history_quantile_us(counts, 901), 250, 253);
    counts[METRICS_BUCKETS - 1] = 1000000;
    assert_int_equal(history_quantile_us(counts, 990), bounds_us[METRICS_BUCKETS - 2]);
}

static void every_value_has_a_name(void **state) {
    (void)state;
    for (int i = 0; i < HISTORY_VALUES; i++) assert_non_null(history_value_name((enum history_value)i));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_look_is_no_sample, set_up, tear_down),
        cmocka_unit_test_setup_teardown(commands_are_counted_by_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rates_are_by_the_time_that_passed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(latencies_are_of_this_second, set_up, tear_down),
        cmocka_unit_test_setup_teardown(five_minutes_are_kept, set_up, tear_down),
        cmocka_unit_test(quantiles_are_interpolated),
        cmocka_unit_test(every_value_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

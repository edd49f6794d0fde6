#include "shardd/progress.h"

#include "libcommon/testing.h"

/* A follower whose entries flow since `now_us`. */
static struct progress streaming(uint64_t now_us) {
    struct progress progress = {.node = 2, .replica_id = 12, .incarnation = 7};
    progress_restart(&progress, now_us);
    progress.state = PROGRESS_STREAM;
    return progress;
}

/* R4: what another process of it, or an earlier epoch, had acknowledged counts no more. Who it is stays. */
static void test_r4_a_restart_forgets_what_it_has(void **state) {
    (void)state;
    struct progress progress = streaming(1000);
    progress_on_match(&progress, 40, 50, 2000);
    progress.next_index = 45;
    progress.opened_us = progress.sent_us = 1500;
    progress_restart(&progress, 3000);
    assert_int_equal(progress.state, PROGRESS_PROBE);
    assert_int_equal(progress.match_index, 0);
    assert_int_equal(progress.opened_us, 0); /* OPEN is due */
    assert_int_equal(progress.since_us, 3000);
    assert_int_equal(progress.level_us, 3000);
    assert_int_equal(progress.node, 2);
    assert_int_equal(progress.replica_id, 12);
    assert_int_equal(progress.incarnation, 7);
    assert_int_equal(progress.acked_index, 40); /* and what it may not have lost (R31) */
}

static void test_a_late_match_takes_nothing_back(void **state) {
    (void)state;
    struct progress progress = streaming(1000);
    progress_on_match(&progress, 40, 50, 2000);
    progress_on_match(&progress, 30, 50, 2100);
    assert_int_equal(progress.match_index, 40);
    assert_int_equal(progress.acked_index, 40);
}

/* R31: what one process has acknowledged the next one owes, and the one after it, until a new epoch begins. */
static void test_r31_processes_owe_what_was_acknowledged(void **state) {
    (void)state;
    struct progress progress = streaming(1000);
    progress_on_match(&progress, 40, 50, 2000);
    progress_change_process(&progress, 8, 3000);
    assert_int_equal(progress.state, PROGRESS_PROBE);
    assert_int_equal(progress.incarnation, 8);
    assert_int_equal(progress.owed_index, 40);
    assert_int_equal(progress.acked_index, 0);
    progress.state = PROGRESS_STREAM;
    progress_on_match(&progress, 30, 50, 4000);
    progress_change_process(&progress, 9, 5000);
    assert_int_equal(progress.owed_index, 40);
    progress_begin_epoch(&progress, 6000);
    assert_int_equal(progress.owed_index, 0);
    assert_int_equal(progress.incarnation, 9);
}

/* R18: slow is who was not level for long, whatever the log did meanwhile. */
static void test_r18_level_with_all_of_the_log(void **state) {
    (void)state;
    struct progress progress = streaming(1000);
    progress_on_match(&progress, 50, 50, 2000);
    assert_int_equal(progress.level_us, 2000);
    progress_tick(&progress, 50, 3000);
    assert_int_equal(progress.level_us, 3000);
    progress_tick(&progress, 51, 4000);
    assert_int_equal(progress.level_us, 3000);
}

/* R18: under writes that never pause it has all of the log at no time, but all that there was a while ago. */
static void test_r18_level_with_a_log_that_grows(void **state) {
    (void)state;
    struct progress progress = streaming(1000);
    uint64_t last_index = 100;
    for (uint64_t now_us = 2000; now_us <= 20000; now_us += 1000) {
        last_index += 10;
        progress_tick(&progress, last_index, now_us);
        progress_on_match(&progress, last_index - 5, last_index, now_us + 500); /* always behind */
        assert_true(progress.level_us + 2000 >= now_us);
    }
    /* and when it stops it is not level any more */
    uint64_t level_us = progress.level_us;
    for (uint64_t now_us = 21000; now_us <= 30000; now_us += 1000) {
        last_index += 10;
        progress_tick(&progress, last_index, now_us);
        progress_on_match(&progress, progress.match_index, last_index, now_us + 500);
    }
    assert_true(progress.level_us <= level_us + 1000);
}

/* One whose log is not opened, or gets a snapshot, is level with nothing. */
static void test_r18_only_a_stream_is_level(void **state) {
    (void)state;
    struct progress progress = streaming(1000);
    progress_on_match(&progress, 50, 50, 2000);
    progress.state = PROGRESS_SNAPSHOT;
    progress_tick(&progress, 50, 3000);
    progress.state = PROGRESS_PROBE;
    progress_tick(&progress, 50, 4000);
    assert_int_equal(progress.level_us, 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_r4_a_restart_forgets_what_it_has),
        cmocka_unit_test(test_a_late_match_takes_nothing_back),
        cmocka_unit_test(test_r31_processes_owe_what_was_acknowledged),
        cmocka_unit_test(test_r18_level_with_all_of_the_log),
        cmocka_unit_test(test_r18_level_with_a_log_that_grows),
        cmocka_unit_test(test_r18_only_a_stream_is_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

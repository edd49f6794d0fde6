/* The log as the lane sees it. Recovery from damaged files is wal_scan_test.c's. */
#include "shardd/wal_fixture.h"

static void test_round_trip_over_segments(void **state) {
    struct log *log = *state;
    log_open(log);
    for (unsigned i = 0; i < 300; i++) log_commit(log, i, 1000);
    assert_true(wal_end(log->wal) / SEGMENT_BYTES > 3);
    log_reopen(log);
    log_assert_replayed(log, 0, 300);
    assert_int_equal(log->report.torn_bytes, 0);
    for (unsigned i = 300; i < 310; i++) log_commit(log, i, 10);
    log_reopen(log);
    log_assert_replayed(log, 0, 310);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip_over_segments, log_setup, log_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

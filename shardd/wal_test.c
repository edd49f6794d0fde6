/* The log as the lane sees it: groups, segments, failing and full disks. Recovery from damaged files is
 * wal_scan_test.c's. */
#include "shardd/wal_fixture.h"

static void test_round_trip_over_segments(void **state) {
    struct log *log = *state;
    log_open(log);
    for (unsigned i = 0; i < 300; i++) log_commit(log, i, 1000);
    assert_true(wal_end(log->wal) / SEGMENT_BYTES > 3);
    log_reopen(log);
    log_assert_replayed(log, 0, 300);
    assert_int_equal(log->report.torn_bytes, 0);
    for (unsigned i = 300; i < 310; i++) log_commit(log, i, i % 9);
    log_reopen(log);
    log_assert_replayed(log, 0, 310);
}

static void test_group_commit_is_one_write_and_one_sync(void **state) {
    struct log *log = *state;
    log_open(log);
    log_wait_for_files(log, 2);
    faults.pwrites = faults.fdatasyncs = 0;
    for (unsigned i = 0; i < 100; i++) assert_int_equal(log_append(log, i, 40), SK_OK);
    assert_int_equal(faults.pwrites, 0);
    log_sync(log, 99);
    assert_int_equal(faults.pwrites, 1);
    assert_int_equal(faults.fdatasyncs, 1);
    assert_true(log->durable > log->positions[99]);
}

static void test_next_group_gathers_while_one_is_synced(void **state) {
    struct log *log = *state;
    log_open(log);
    log_wait_for_files(log, 2);
    faults.pwrites = 0;
    faults.sync_held = true;
    assert_int_equal(log_append(log, 0, 10), SK_OK);
    wal_flush(log->wal);
    while (faults.pwrites == 0) sched_yield();
    wal_position durable = wal_complete(log->wal);
    assert_true(durable <= log->positions[0]);
    unsigned number = 1;
    while (log_append(log, number, 1000) == SK_OK) {
        wal_flush(log->wal);
        number++;
    }
    assert_int_equal(log_append(log, number, 1000), SK_BUSY);
    assert_true(number > 10);
    assert_int_equal(faults.pwrites, 1);
    faults.sync_held = false;
    log_wait(log);
    assert_true(log->durable > log->positions[0]);
    assert_true(log->durable <= log->positions[1]);
    log_sync(log, number - 1);
    assert_int_equal(faults.pwrites, 2);
    log_reopen(log);
    log_assert_replayed(log, 0, number);
}

static void test_close_writes_what_has_gathered(void **state) {
    struct log *log = *state;
    log_open(log);
    assert_int_equal(log_append(log, 0, 10), SK_OK);
    wal_flush(log->wal);
    assert_int_equal(log_append(log, 1, 10), SK_OK);
    log_reopen(log);
    log_assert_replayed(log, 0, 2);
}

static void test_large_entries(void **state) {
    struct log *log = *state;
    log_open(log);
    size_t most = SEGMENT_BYTES - WAL_BLOCK_BYTES - WAL_GROUP_HEADER_BYTES - WAL_ENTRY_HEADER_BYTES;
    assert_int_equal(log_append(log, 0, most + 1), SK_TOOLARGE);
    log_commit(log, 0, 1);
    log_commit(log, 1, most);
    log_commit(log, 2, most - 7);
    log_append_patiently(log, 3, 1);
    /* Larger than a group may grow, and there are entries in this one already. */
    assert_int_equal(log_append(log, 4, GROUP_BYTES_MAX + 1), SK_BUSY);
    log_commit(log, 4, GROUP_BYTES_MAX + 1);
    log_reopen(log);
    log_assert_replayed(log, 0, 5);
}

/* A follower appends what a peer sends, more in one step than a group holds. */
static void test_batches_larger_than_a_group(void **state) {
    struct log *log = *state;
    log_open(log);
    unsigned count = 0, refused = 0;
    for (unsigned batch = 0; batch < 20; batch++) {
        unsigned end = count + 60;
        while (count < end) {
            wal_position before = wal_end(log->wal);
            int err = log_append(log, count, 1000);
            if (err == SK_OK) {
                count++;
                continue;
            }
            assert_int_equal(err, SK_BUSY);
            assert_int_equal(wal_end(log->wal), before); /* nothing of it is in the log */
            refused++;
            wal_flush(log->wal);
            log_wait(log); /* one callback is enough to go on, or to flush what was full */
        }
        wal_flush(log->wal);
    }
    log_sync(log, count - 1);
    assert_in_range(refused, 20, 500);
    for (unsigned i = 1; i < count; i++) assert_true(log->positions[i] > log->positions[i - 1]);
    log_reopen(log);
    log_assert_replayed(log, 0, count);
}

static void test_end_is_where_the_next_entry_lies(void **state) {
    struct log *log = *state;
    log_open(log);
    for (unsigned i = 0; i < 20; i++) {
        wal_position end = wal_end(log->wal);
        log_append_patiently(log, i, 100);
        assert_int_equal(log->positions[i], end);
        if (i % 3 == 0) log_sync(log, i);
    }
}

static bool current_is_recycled(const struct log *log) {
    uint8_t *bytes = log_read_segment(log, (wal_end(log->wal) - WAL_GROUP_HEADER_BYTES) / SEGMENT_BYTES);
    if (bytes == NULL) return false;
    struct wal_segment_header header;
    bool recycled = wal_decode_segment_header(bytes, &header) == SK_OK && header.recycled;
    free(bytes);
    return recycled;
}

/* Commits and releases until the log writes to a segment that was used before. Returns the next number. */
static unsigned fill_until_recycled(struct log *log) {
    unsigned number = 0;
    while (!current_is_recycled(log)) {
        log_commit(log, number, 3000);
        wal_release(log->wal, log->positions[number]);
        number++;
        assert_true(number < ENTRIES_MAX - 100);
    }
    return number;
}

static void test_recycled_segments_with_stale_content(void **state) {
    struct log *log = *state;
    log_open(log);
    unsigned number = fill_until_recycled(log);
    for (unsigned i = 0; i < 10; i++) {
        log_close(log);
        log_open(log);
        assert_int_equal(log->report.torn_bytes, 0);
        assert_true(log->replayed > 0);
        assert_int_equal(log->replayed_numbers[log->replayed - 1], number - 1);
        for (unsigned j = 1; j < log->replayed; j++) {
            assert_int_equal(log->replayed_numbers[j], log->replayed_numbers[0] + j);
        }
        log_commit(log, number++, 100 * i);
    }
}

static void test_release_bounds_the_files(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log_open(log);
    for (unsigned i = 0; i < 1000; i++) log_commit(log, i, 3000);
    assert_true(wal_disk_bytes(log->wal) > 40 * SEGMENT_BYTES);
    wal_release(log->wal, log->positions[999]);
    /* The current, the next, and up to two to use again: one if the next has been made of one since. */
    log_wait_for_oldest(log, log->positions[999] / SEGMENT_BYTES);
    while (wal_disk_bytes(log->wal) > 4 * SEGMENT_BYTES) sched_yield();
    log_reopen(log);
    assert_int_equal(log->replayed_numbers[log->replayed - 1], 999);
    assert_true(log->replayed < 25);
}

/* Released is what lies before the position, not the segment that holds it. */
static void test_release_keeps_what_was_not_released(void **state) {
    struct log *log = *state;
    log_open(log);
    unsigned count = 100;
    for (unsigned i = 0; i < count; i++) log_commit(log, i, 3000);
    unsigned kept = count / 2;
    wal_release(log->wal, log->positions[kept]);
    log_wait_for_oldest(log, log->positions[kept] / SEGMENT_BYTES);
    log_reopen(log);
    unsigned first = log->replayed_numbers[0];
    assert_in_range(first, 1, kept);
    log_assert_replayed(log, first, count);
}

static void test_release_keeps_what_is_not_durable(void **state) {
    struct log *log = *state;
    log_open(log);
    log_commit(log, 0, 10);
    wal_release(log->wal, wal_end(log->wal) + 100 * SEGMENT_BYTES);
    log_reopen(log);
    log_assert_replayed(log, 0, 1);
}

/* --- failing disks --- */

static void test_failed_sync_is_final(void **state) {
    struct log *log = *state;
    log_open(log);
    log_wait_for_files(log, 2);
    log_commit(log, 0, 10);
    faults.fdatasync_fails_at = faults.fdatasyncs + 1;
    faults.sync_held = true;
    assert_int_equal(log_append(log, 1, 10), SK_OK);
    wal_flush(log->wal);
    assert_int_equal(log_append(log, 2, 10), SK_OK);
    faults.sync_held = false;
    log_wait(log);
    assert_int_equal(log->err, SK_EIO);
    assert_true(log->durable <= log->positions[1]);
    assert_int_equal(log_append(log, 3, 10), SK_EIO);
    unsigned syncs = faults.fdatasyncs;
    unsigned pwrites = faults.pwrites;
    wal_flush(log->wal);
    log_close(log);
    assert_int_equal(faults.pwrites, pwrites);
    assert_int_equal(faults.fdatasyncs, syncs);
    /* The page cache still has the group, as if it were on disk: it counts only when it is written and synced anew. */
    log_open(log);
    log_assert_replayed(log, 0, 2);
    assert_int_equal(faults.pwrites, pwrites + 1);
    assert_int_equal(faults.fdatasyncs, syncs + 1);
}

static void failed_write(struct log *log, int error, bool tears) {
    log_open(log);
    log_wait_for_files(log, 2);
    log_commit(log, 0, 10);
    faults.error = error;
    faults.pwrite_tears = tears;
    faults.pwrite_fails_at = faults.pwrites + 1;
    assert_int_equal(log_append(log, 1, 4000), SK_OK);
    wal_flush(log->wal);
    log_wait(log);
    assert_int_equal(log->err, error_from_errno(error));
    assert_int_equal(log_append(log, 2, 10), SK_EIO);
    log_reopen(log);
    log_assert_replayed(log, 0, 1);
    assert_true((log->report.torn_bytes > 0) == tears);
    log_commit(log, 1, 10);
    log_reopen(log);
    log_assert_replayed(log, 0, 2);
}

static void test_failed_write_is_final(void **state) { failed_write(*state, EIO, false); }

static void test_torn_write_is_final(void **state) { failed_write(*state, EIO, true); }

static void test_full_disk_in_the_middle_of_a_write_is_final(void **state) { failed_write(*state, ENOSPC, true); }

static void test_full_disk_before_a_write_is_waited_out(void **state) {
    struct log *log = *state;
    log_open(log);
    log_wait_for_files(log, 2);
    log_commit(log, 0, 10);
    faults.writes_full = true;
    assert_int_equal(log_append(log, 1, 10), SK_OK);
    wal_flush(log->wal);
    int err;
    unsigned number = 2;
    while ((err = log_append(log, number, 10)) == SK_OK || err == SK_BUSY) {
        if (err == SK_OK) number++;
        else sched_yield();
    }
    assert_int_equal(err, SK_ENOSPC);
    faults.writes_full = false;
    log_wait(log);
    assert_int_equal(log->err, SK_OK);
    log_commit(log, number, 10);
    log_reopen(log);
    log_assert_replayed(log, 0, number + 1);
}

static void test_full_disk_that_stays_does_not_hold_up_closing(void **state) {
    struct log *log = *state;
    log_open(log);
    log_commit(log, 0, 10);
    faults.writes_full = true;
    assert_int_equal(log_append(log, 1, 10), SK_OK);
    wal_flush(log->wal);
    log_close(log);
    faults.writes_full = false;
    log_open(log);
    log_assert_replayed(log, 0, 1);
}

static void test_no_space_for_a_segment(void **state) {
    struct log *log = *state;
    log_open(log);
    log_wait_for_files(log, 2);
    faults.disk_full = true;
    unsigned number = 0;
    int err = SK_OK;
    while (err != SK_ENOSPC) {
        err = log_append(log, number, 3000);
        if (err == SK_OK) number++;
        if (err == SK_BUSY) {
            wal_flush(log->wal);
            log_wait(log);
        }
        assert_true(err == SK_OK || err == SK_BUSY || err == SK_ENOSPC);
    }
    log_sync(log, number - 1);
    assert_true(wal_end(log->wal) / SEGMENT_BYTES >= 2);
    assert_int_equal(log_append(log, number, 3000), SK_ENOSPC);
    faults.disk_full = false;
    log_append_patiently(log, number, 3000); /* woken when there is space */
    log_sync(log, number);
    log_reopen(log);
    log_assert_replayed(log, 0, number + 1);
    assert_false(log_has_file(log, "prepare.tmp"));
}

static void test_no_space_at_creation(void **state) {
    struct log *log = *state;
    faults.disk_full = true;
    assert_int_equal(log_try_open(log), SK_ENOSPC);
    faults.disk_full = false;
    log_open(log);
    log_commit(log, 0, 10);
}

/* Whatever call fails, what was acknowledged is there afterwards. */
static void fail_nth(struct log *log, atomic_uint *fails_at, unsigned nth, bool tears) {
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", log->path);
    assert_int_equal(system(command), 0);
    memset((void *)&faults, 0, sizeof faults);
    memset(log->positions, 0, sizeof log->positions);
    faults.error = EIO;
    faults.sync_for_show = true;
    faults.pwrite_tears = tears;
    *fails_at = nth;
    unsigned appended = 0;
    log->durable = 0;
    if (log_try_open(log) == SK_OK) {
        while (appended < 60 && log->err == SK_OK) {
            int err = log_append(log, appended, 5000);
            if (err == SK_OK) appended++;
            else if (err != SK_BUSY) break;
            wal_flush(log->wal);
            if (err == SK_BUSY) log_wait(log);
        }
        log_close(log);
    }
    *fails_at = 0;
    wal_position durable = log->durable;
    log_open(log);
    unsigned acknowledged = 0;
    while (acknowledged < appended && log->positions[acknowledged] < durable) acknowledged++;
    assert_in_range(log->replayed, acknowledged, appended);
    for (unsigned i = 0; i < log->replayed; i++) assert_int_equal(log->replayed_numbers[i], i);
    log_close(log);
}

static void test_every_call_may_fail(void **state) {
    struct log *log = *state;
    for (unsigned nth = 1; nth < 50; nth++) {
        fail_nth(log, &faults.pwrite_fails_at, nth, false);
        fail_nth(log, &faults.pwrite_fails_at, nth, true);
        fail_nth(log, &faults.fdatasync_fails_at, nth, false);
    }
    for (unsigned nth = 1; nth < 5; nth++) fail_nth(log, &faults.fallocate_fails_at, nth, false);
}

/* --- interval mode --- */

static void test_interval_counts_at_once_and_syncs_at_close(void **state) {
    struct log *log = *state;
    log->options.sync_interval_ms = 3600 * 1000;
    log_open(log);
    log_wait_for_files(log, 2);
    faults.fdatasyncs = 0;
    wal_position synced = wal_synced(log->wal);
    for (unsigned i = 0; i < 10; i++) log_commit(log, i, 10);
    assert_int_equal(faults.fdatasyncs, 0);
    assert_int_equal(wal_synced(log->wal), synced);
    log_close(log);
    assert_int_equal(faults.fdatasyncs, 1);
    log_open(log);
    log_assert_replayed(log, 0, 10);
}

static void test_interval_syncs_by_itself(void **state) {
    struct log *log = *state;
    log->options.sync_interval_ms = 5;
    log_open(log);
    log_wait_for_files(log, 2);
    faults.fdatasyncs = 0;
    log_commit(log, 0, 10);
    while (faults.fdatasyncs == 0) sched_yield();
    log_commit(log, 1, 10);
    while (faults.fdatasyncs == 1) sched_yield();
}

static void test_interval_syncs_a_segment_before_the_next(void **state) {
    struct log *log = *state;
    log->options.sync_interval_ms = 3600 * 1000;
    log_open(log);
    log_wait_for_files(log, 2);
    faults.fdatasyncs = 0;
    unsigned number = 0;
    while (wal_end(log->wal) < 2 * SEGMENT_BYTES) log_commit(log, number++, 3000);
    log_wait_for_files(log, 3); /* preparing the third makes one sync, too */
    assert_int_equal(faults.fdatasyncs, 2);
}

static void test_interval_failed_sync_is_final(void **state) {
    struct log *log = *state;
    log->options.sync_interval_ms = 1;
    log_open(log);
    log_wait_for_files(log, 2);
    faults.fdatasync_fails_at = faults.fdatasyncs + 1;
    log_append_patiently(log, 0, 10);
    wal_flush(log->wal);
    while (log->err == SK_OK) log_wait(log);
    assert_int_equal(log->err, SK_EIO);
    assert_int_equal(log_append(log, 1, 10), SK_EIO);
    unsigned syncs = faults.fdatasyncs;
    log_close(log);
    assert_int_equal(faults.fdatasyncs, syncs);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, log_setup, log_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip_over_segments),
        TEST(test_group_commit_is_one_write_and_one_sync),
        TEST(test_next_group_gathers_while_one_is_synced),
        TEST(test_close_writes_what_has_gathered),
        TEST(test_large_entries),
        TEST(test_batches_larger_than_a_group),
        TEST(test_end_is_where_the_next_entry_lies),
        TEST(test_recycled_segments_with_stale_content),
        TEST(test_release_bounds_the_files),
        TEST(test_release_keeps_what_was_not_released),
        TEST(test_release_keeps_what_is_not_durable),
        TEST(test_failed_sync_is_final),
        TEST(test_failed_write_is_final),
        TEST(test_torn_write_is_final),
        TEST(test_full_disk_in_the_middle_of_a_write_is_final),
        TEST(test_full_disk_before_a_write_is_waited_out),
        TEST(test_full_disk_that_stays_does_not_hold_up_closing),
        TEST(test_no_space_for_a_segment),
        TEST(test_no_space_at_creation),
        TEST(test_every_call_may_fail),
        TEST(test_interval_counts_at_once_and_syncs_at_close),
        TEST(test_interval_syncs_by_itself),
        TEST(test_interval_syncs_a_segment_before_the_next),
        TEST(test_interval_failed_sync_is_final),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

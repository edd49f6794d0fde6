/* Reading entries again while the log is being written, released and used again. */
#include "shardd/wal_fixture.h"

#include "shardd/wal_reader.h"

#include <dirent.h>

#define TEST(name)         cmocka_unit_test_setup_teardown(name, log_setup, log_teardown)
#define LARGE_SEGMENT      (UINT64_C(4) << 20)
#define READER_BYTES_LEAST (256u * 1024) /* what it reads at once */

static size_t malloc_fails_from; /* bytes; 0: never */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size) {
    return malloc_fails_from != 0 && size >= malloc_fails_from ? NULL : __real_malloc(size);
}

static int try_read(struct log *log, unsigned number) {
    struct wal_entry entry;
    return wal_read(log->wal, log->positions[number], &entry);
}

static void assert_reads(struct log *log, unsigned number, size_t payload_bytes) {
    struct wal_entry entry;
    assert_int_equal(wal_read(log->wal, log->positions[number], &entry), SK_OK);
    assert_int_equal(entry.shard, number % 64);
    assert_int_equal(entry.type, WAL_COMMAND);
    assert_int_equal(entry.replica_id, 7);
    assert_int_equal(entry.epoch, 3);
    assert_int_equal(entry.index, number + 1);
    assert_int_equal(entry.time_us, 1000000u + number);
    assert_int_equal(entry.payload.size, payload_bytes);
    assert_true(payload_is_of(entry.payload, number));
}

/* Entries of 0 to 2999 bytes, several to a group, over some segments. */
static size_t mixed_bytes(unsigned number) { return number * 997u % 3000u; }

static unsigned fill(struct log *log, uint64_t segments) {
    faults.sync_for_show = true;
    log_open(log);
    unsigned number = 0;
    for (; wal_end(log->wal) < (segments + 1) * SEGMENT_BYTES; number++) {
        assert_true(number < ENTRIES_MAX);
        log_append_patiently(log, number, mixed_bytes(number));
        if (number % 7 == 0) wal_flush(log->wal);
    }
    log_sync(log, number - 1);
    return number;
}

static void test_entries_are_read_in_any_order(void **state) {
    struct log *log = *state;
    unsigned count = fill(log, 5);
    for (int opening = 0; opening < 2; opening++) {
        for (unsigned i = 0; i < count; i++) assert_reads(log, i, mixed_bytes(i));
        for (unsigned i = count; i-- > 0;) assert_reads(log, i, mixed_bytes(i));
        for (unsigned i = 0; i < 2 * count; i++) {
            unsigned number = i * 7919u % count;
            assert_reads(log, number, mixed_bytes(number));
        }
        log_reopen(log); /* then the positions are what the replay tells */
        log_assert_replayed(log, 0, count);
    }
}

static void test_neighbours_cost_no_system_call(void **state) {
    struct log *log = *state;
    log_open(log);
    for (unsigned i = 0; i < 100; i++) assert_int_equal(log_append(log, i, 100), SK_OK);
    log_sync(log, 99);
    faults.preads = 0;
    for (unsigned i = 0; i < 100; i++) assert_reads(log, i, 100);
    for (unsigned i = 100; i-- > 0;) assert_reads(log, i, 100);
    assert_int_equal(faults.preads, 1);
}

static void test_only_what_is_durable_is_read(void **state) {
    struct log *log = *state;
    log_open(log);
    log_commit(log, 0, 10);
    assert_int_equal(log_append(log, 1, 10), SK_OK);
    assert_int_equal(try_read(log, 1), SK_RETRY);
    unsigned syncs = faults.fdatasyncs;
    wal_flush(log->wal);
    assert_int_equal(try_read(log, 1), SK_RETRY);
    while (faults.fdatasyncs == syncs) sched_yield();
    assert_int_equal(try_read(log, 1), SK_RETRY); /* it may be, but nobody has taken the completion */
    log_wait(log);
    assert_reads(log, 1, 10);
    assert_reads(log, 0, 10);
    struct wal_entry entry;
    assert_int_equal(wal_read(log->wal, 0, &entry), SK_NOT_FOUND);
    assert_int_equal(wal_read(log->wal, wal_end(log->wal), &entry), SK_RETRY);
}

/* The buffer was filled while what follows was not yet written, then while it was being written. */
static void test_what_comes_after_a_reading_is_not_stale(void **state) {
    struct log *log = *state;
    log_open(log);
    log_commit(log, 0, 100);
    for (unsigned i = 1; i < 60; i++) {
        assert_reads(log, i - 1, 100);
        unsigned pwrites = faults.pwrites;
        faults.sync_held = true;
        assert_int_equal(log_append(log, i, 100), SK_OK);
        wal_flush(log->wal);
        if (i % 2 == 0) {
            while (faults.pwrites == pwrites) sched_yield();
        }
        assert_reads(log, 0, 100);
        assert_reads(log, i - 1, 100);
        faults.sync_held = false;
        log_sync(log, i);
        assert_reads(log, i, 100);
    }
}

/* As in a lane that serves a follower under load: nothing waits for anything but the log itself. */
static void test_reading_beside_the_writing(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log_open(log);
    unsigned read = 0;
    for (unsigned i = 0; i < 2000; i++) {
        log_append_patiently(log, i, mixed_bytes(i));
        wal_flush(log->wal);
        while (log->positions[read] < log->durable && read <= i) {
            assert_reads(log, read, mixed_bytes(read));
            read++;
        }
        if (i % 100 == 0 && read > 0) wal_release(log->wal, log->positions[read - 1]);
    }
    assert_true(read > 1000);
}

static void test_large_entries(void **state) {
    struct log *log = *state;
    log->options.segment_bytes = LARGE_SEGMENT;
    log_open(log);
    static const size_t sizes[] = {
        10,
        LARGE_SEGMENT - WAL_BLOCK_BYTES - WAL_GROUP_HEADER_BYTES - WAL_ENTRY_HEADER_BYTES, /* fills a segment */
        READER_BYTES_LEAST,
        READER_BYTES_LEAST - WAL_ENTRY_HEADER_BYTES,
        READER_BYTES_LEAST - WAL_ENTRY_HEADER_BYTES + 1,
        20,
        1000000,
        999999,
        0,
    };
    unsigned count = sizeof sizes / sizeof *sizes;
    for (unsigned i = 0; i < count; i++) log_commit(log, i, sizes[i]);
    for (unsigned i = 0; i < count; i++) assert_reads(log, i, sizes[i]);
    for (unsigned i = count; i-- > 0;) assert_reads(log, i, sizes[i]);
    log_reopen(log);
    for (unsigned i = 0; i < 3 * count; i++) assert_reads(log, i * 5 % count, sizes[i * 5 % count]);
}

static void test_more_segments_than_open_files(void **state) {
    struct log *log = *state;
    unsigned count = fill(log, 2 * WAL_READER_FILES + 1);
    for (unsigned step = 1; step < 100; step += 9) {
        for (unsigned i = 0; i < count; i += step) assert_reads(log, i, mixed_bytes(i));
    }
}

/* Files of the log that this process has open though they are not part of it any more, or wait to be used again. */
static unsigned count_leaked(const struct log *log) {
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    unsigned leaked = 0;
    for (struct dirent *found; (found = readdir(directory)) != NULL;) {
        char path[300], target[512];
        snprintf(path, sizeof path, "/proc/self/fd/%.250s", found->d_name);
        ssize_t size = readlink(path, target, sizeof target - 1);
        if (size < 0) continue;
        target[size] = 0;
        if (strncmp(target, log->path, strlen(log->path)) != 0) continue;
        leaked += strstr(target, ".spare") != NULL || strstr(target, "(deleted)") != NULL;
    }
    closedir(directory);
    return leaked;
}

static void test_released_entries_are_not_found(void **state) {
    struct log *log = *state;
    unsigned count = fill(log, 6);
    assert_int_equal(wal_released(log->wal), SEGMENT_BYTES);
    for (unsigned i = 0; i < count; i++) assert_reads(log, i, mixed_bytes(i));
    assert_reads(log, 0, mixed_bytes(0)); /* the buffer is of the first segment */
    unsigned kept = count / 2;
    wal_position oldest = log->positions[kept] / SEGMENT_BYTES * SEGMENT_BYTES;
    wal_release(log->wal, log->positions[kept]);
    assert_int_equal(wal_released(log->wal), oldest);
    for (unsigned i = 0; i < count; i++) {
        if (log->positions[i] < oldest) assert_int_equal(try_read(log, i), SK_NOT_FOUND);
        else assert_reads(log, i, mixed_bytes(i));
    }
    log_wait_for_oldest(log, oldest / SEGMENT_BYTES);
    assert_int_equal(count_leaked(log), 0);
    wal_release(log->wal, log->positions[1]); /* backwards: nothing */
    assert_int_equal(wal_released(log->wal), oldest);
    log_reopen(log);
    assert_int_equal(wal_released(log->wal), oldest);
    assert_int_equal(try_read(log, 0), SK_NOT_FOUND);
    assert_reads(log, kept, mixed_bytes(kept));
}

static void test_released_never_passes_what_is_durable(void **state) {
    struct log *log = *state;
    log_open(log);
    assert_int_equal(wal_released(log->wal), SEGMENT_BYTES);
    log_commit(log, 0, 10);
    wal_release(log->wal, wal_end(log->wal) + 100 * SEGMENT_BYTES);
    assert_int_equal(wal_released(log->wal), SEGMENT_BYTES);
    assert_reads(log, 0, 10);
}

/* Everything is read when it is written, from files that are used again and again. */
static void test_recycled_segments(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log_open(log);
    for (unsigned i = 0; i < 500; i++) {
        log_commit(log, i, 3000);
        assert_reads(log, i, 3000);
        if (i < 30) continue;
        assert_reads(log, i - 20, 3000);
        wal_release(log->wal, log->positions[i - 20]);
    }
    assert_true(wal_disk_bytes(log->wal) <= 8 * SEGMENT_BYTES);
    assert_int_equal(count_leaked(log), 0);
}

static void flip(const struct log *log, wal_position at) {
    char path[160];
    log_segment_path(log, at / SEGMENT_BYTES, path, sizeof path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, (off_t)(at % SEGMENT_BYTES)), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(at % SEGMENT_BYTES)), 1);
    close(fd);
}

static void test_damaged_entries_are_told(void **state) {
    struct log *log = *state;
    log_open(log);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(log_append(log, i, 301), SK_OK);
    log_sync(log, 4);
    for (size_t at = 0; at < wal_entry_bytes(301); at += at < 64 ? 1 : 17) {
        flip(log, log->positions[3] + at);
        assert_reads(log, 2, 301); /* and fills the buffer anew, as that begins behind it */
        assert_int_equal(try_read(log, 3), SK_ECORRUPT);
        assert_int_equal(try_read(log, 3), SK_ECORRUPT);
        assert_reads(log, 4, 301);
        flip(log, log->positions[3] + at);
        assert_reads(log, 3, 301); /* what was read then is not kept */
    }
    struct wal_entry entry;
    assert_int_equal(wal_read(log->wal, log->positions[3] + 8, &entry), SK_ECORRUPT);
    assert_int_equal(wal_read(log->wal, log->durable - 8, &entry), SK_ECORRUPT);
}

static void test_failed_readings_may_be_tried_again(void **state) {
    struct log *log = *state;
    unsigned count = fill(log, 2);
    log_reopen(log);
    faults.pread_fails_at = faults.preads + 1;
    assert_int_equal(try_read(log, 0), SK_EIO);
    assert_reads(log, 0, mixed_bytes(0));
    faults.pread_fails_at = faults.preads + 1;
    assert_int_equal(try_read(log, count - 1), SK_EIO);
    assert_reads(log, 0, mixed_bytes(0));
    assert_reads(log, count - 1, mixed_bytes(count - 1));
    log_reopen(log);
    char path[160], moved[192];
    log_segment_path(log, 1, path, sizeof path);
    snprintf(moved, sizeof moved, "%s.moved", path);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(try_read(log, 0), SK_EIO);
    assert_int_equal(rename(moved, path), 0);
    assert_reads(log, 0, mixed_bytes(0));
}

static void test_without_memory(void **state) {
    struct log *log = *state;
    log->options.segment_bytes = LARGE_SEGMENT;
    log_open(log);
    log_commit(log, 0, 100);
    log_commit(log, 1, 1000000);
    malloc_fails_from = READER_BYTES_LEAST;
    assert_int_equal(try_read(log, 0), SK_ENOMEM);
    assert_int_equal(try_read(log, 0), SK_ENOMEM);
    malloc_fails_from = 0;
    assert_reads(log, 0, 100);
    malloc_fails_from = 1000000;
    assert_int_equal(try_read(log, 1), SK_ENOMEM);
    assert_reads(log, 0, 100);
    malloc_fails_from = 0;
    assert_reads(log, 1, 1000000);
}

static void test_a_failed_log_still_reads(void **state) {
    struct log *log = *state;
    log_open(log);
    log_wait_for_files(log, 2);
    log_commit(log, 0, 10);
    faults.fdatasync_fails_at = faults.fdatasyncs + 1;
    assert_int_equal(log_append(log, 1, 10), SK_OK);
    wal_flush(log->wal);
    log_wait(log);
    assert_int_equal(log->err, SK_EIO);
    assert_reads(log, 0, 10);
    assert_int_equal(try_read(log, 1), SK_RETRY);
}

/* The group that could not be written was to lie in the next segment: what is released goes by what is durable. */
static void test_a_failed_group_moves_nothing(void **state) {
    struct log *log = *state;
    log_open(log);
    log_wait_for_files(log, 2);
    size_t most = SEGMENT_BYTES - WAL_BLOCK_BYTES - WAL_GROUP_HEADER_BYTES - WAL_ENTRY_HEADER_BYTES;
    log_commit(log, 0, most); /* its end is the begin of the next segment */
    assert_int_equal(log->durable, 2 * SEGMENT_BYTES);
    log_append_patiently(log, 1, 10);
    log_wait_for_files(log, 3); /* what is prepared is written, too */
    wal_release(log->wal, log->positions[1]);
    assert_int_equal(wal_released(log->wal), SEGMENT_BYTES);
    faults.pwrite_fails_at = faults.pwrites + 1;
    wal_flush(log->wal);
    log_wait(log);
    assert_int_equal(log->err, SK_EIO);
    wal_release(log->wal, log->positions[1]);
    assert_int_equal(wal_released(log->wal), SEGMENT_BYTES);
    assert_reads(log, 0, most);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_entries_are_read_in_any_order),
        TEST(test_neighbours_cost_no_system_call),
        TEST(test_only_what_is_durable_is_read),
        TEST(test_what_comes_after_a_reading_is_not_stale),
        TEST(test_reading_beside_the_writing),
        TEST(test_large_entries),
        TEST(test_more_segments_than_open_files),
        TEST(test_released_entries_are_not_found),
        TEST(test_released_never_passes_what_is_durable),
        TEST(test_recycled_segments),
        TEST(test_damaged_entries_are_told),
        TEST(test_failed_readings_may_be_tried_again),
        TEST(test_without_memory),
        TEST(test_a_failed_log_still_reads),
        TEST(test_a_failed_group_moves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

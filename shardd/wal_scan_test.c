/* Recovery: what is cut, what is damage, and that nothing is ever dropped silently (docs/replication.md, R24). The
 * disk is simulated by writing the log's files back with changes. */
#include "shardd/wal_fixture.h"

#include <xxhash.h>

#define TEST(name) cmocka_unit_test_setup_teardown(name, log_setup, log_teardown)

static size_t group_bytes(size_t payload_bytes) { return WAL_GROUP_HEADER_BYTES + wal_entry_bytes(payload_bytes); }

/* Where the group of a committed entry begins. */
static wal_position group_at(const struct log *log, unsigned number) {
    return log->positions[number] - WAL_GROUP_HEADER_BYTES;
}

/* Appends after a cut work, and are there with all before them after another opening. */
static void assert_goes_on(struct log *log, unsigned first, unsigned number) {
    log_assert_replayed(log, first, number);
    wal_position before = log->positions[number];
    log->positions[number] = 0;
    log_commit(log, number, 50);
    log_reopen(log);
    log_assert_replayed(log, first, number + 1);
    assert_int_equal(log->report.torn_bytes, 0);
    log_close(log);
    log->positions[number] = before;
}

/* Commits `number` as a group of its own and closes; gives the files before and after. */
static void commit_between_images(struct log *log, unsigned number, size_t payload_bytes, struct image *before,
                                  struct image *after) {
    log_close(log);
    image_take(before, log, 1);
    log_open(log);
    log_commit(log, number, payload_bytes);
    log_close(log);
    image_take(after, log, 1);
}

static void test_cut_at_every_byte_of_the_last_group(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log_open(log);
    for (unsigned i = 0; i < 5; i++) log_commit(log, i, 100);
    struct image before, after;
    commit_between_images(log, 5, 100, &before, &after);
    wal_position at = group_at(log, 5);
    for (size_t cut = 0; cut < group_bytes(100); cut++) {
        image_restore(&before, log);
        uint8_t *bytes = log_read_segment(log, 1);
        memcpy(bytes + at % SEGMENT_BYTES, image_at(&after, at), cut);
        log_write_segment(log, 1, bytes);
        bool differs = memcmp(bytes, after.segments[0], SEGMENT_BYTES) != 0;
        free(bytes);
        log_open(log);
        if (differs) {
            assert_true((log->report.torn_bytes > 0) == (cut > 0));
            assert_true(log->report.torn_bytes <= cut + 7);
            assert_goes_on(log, 0, 5);
        } else {
            log_assert_replayed(log, 0, 6); /* only zeros were cut off */
            log_close(log);
        }
    }
    image_free(&before);
    image_free(&after);
}

/* Sectors of the last group reach the disk in any order: every subset of them. */
static void test_sectors_of_the_last_group_out_of_order(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log_open(log);
    for (unsigned i = 0; i < 3; i++) log_commit(log, i, 300);
    struct image before, after;
    commit_between_images(log, 3, 2500, &before, &after);
    size_t first = group_at(log, 3) % SEGMENT_BYTES / 512;
    size_t sectors = (group_at(log, 3) % SEGMENT_BYTES + group_bytes(2500) - 1) / 512 - first + 1;
    assert_in_range(sectors, 5, 8);
    for (unsigned subset = 0; subset < 1u << sectors; subset++) {
        image_restore(&before, log);
        uint8_t *bytes = log_read_segment(log, 1);
        for (size_t i = 0; i < sectors; i++) {
            size_t at = (first + i) * 512;
            if (subset & 1u << i) memcpy(bytes + at, after.segments[0] + at, 512);
        }
        log_write_segment(log, 1, bytes);
        free(bytes);
        log_open(log);
        bool whole = subset == (1u << sectors) - 1;
        assert_true((log->report.torn_bytes > 0) == (subset > 0 && !whole));
        if (whole) {
            log_assert_replayed(log, 0, 4);
            log_close(log);
        } else {
            assert_goes_on(log, 0, 3);
        }
    }
    image_free(&before);
    image_free(&after);
}

/* Commits groups of different sizes over several segments, closes, and tells how many. */
static unsigned make_log(struct log *log, uint64_t segments) {
    log_open(log);
    unsigned number = 0;
    do {
        log_commit(log, number, number % 5 == 0 ? 17 : 6000 + number);
        number++;
    } while (wal_end(log->wal) / SEGMENT_BYTES < segments || number % 8 != 0);
    log_close(log);
    return number;
}

static size_t payload_of(unsigned number) { return number % 5 == 0 ? 17 : 6000 + number; }

static void flip(struct log *log, const struct image *image, wal_position at, unsigned bit) {
    image_at(image, at)[0] ^= (uint8_t)(1u << bit);
    log_write_segment(log, at / SEGMENT_BYTES, image->segments[at / SEGMENT_BYTES - image->first]);
}

static void test_flipped_bits_are_damage(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    unsigned count = make_log(log, 3);
    struct image image;
    image_take(&image, log, 1);
    for (unsigned i = 0; i + 1 < count; i++) {
        size_t bytes = group_bytes(payload_of(i));
        for (size_t at = 0; at < bytes; at += at < 128 ? 1 : 601) {
            flip(log, &image, group_at(log, i) + at, (unsigned)at % 8);
            assert_int_equal(log_try_open(log), SK_ECORRUPT);
            log_assert_damaged(log, group_at(log, i), group_at(log, i) + bytes);
            assert_int_equal(log->replayed, i);
            flip(log, &image, group_at(log, i) + at, (unsigned)at % 8);
        }
    }
    log_open(log);
    log_assert_replayed(log, 0, count);
    image_free(&image);
}

/* By itself it cannot be told from a torn write; with what the checkpoint knows it can. */
static void test_flipped_bit_in_the_last_group(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    unsigned count = make_log(log, 2), last = count - 1;
    wal_position last_at = group_at(log, last);
    struct image image;
    image_take(&image, log, 1);
    for (size_t at = 0; at < group_bytes(payload_of(last)); at += 97) {
        image_restore(&image, log);
        flip(log, &image, last_at + at, 3);
        log->synced = log->positions[last] + 1;
        assert_int_equal(log_try_open(log), SK_ECORRUPT);
        log_assert_damaged(log, last_at, last_at + group_bytes(payload_of(last)));
        log->synced = log->positions[last];
        log_open(log);
        assert_true(log->report.torn_bytes > 0);
        assert_goes_on(log, 0, last);
        flip(log, &image, last_at + at, 3);
    }
    image_free(&image);
}

/* A write that the disk lost, or a sector that reads as zeros: no bad bytes to see, but later groups prove it. */
static void test_lost_groups_are_damage(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    unsigned count = make_log(log, 3);
    struct image whole;
    image_take(&whole, log, 1);
    for (unsigned i = 0; i + 1 < count; i++) {
        image_restore(&whole, log);
        struct image image;
        image_take(&image, log, 1);
        memset(image_at(&image, group_at(log, i)), 0, group_bytes(payload_of(i)));
        image_restore(&image, log);
        image_free(&image);
        assert_int_equal(log_try_open(log), SK_ECORRUPT);
        assert_int_equal(log->replayed, i);
        /* Its place, or the end of the segment before. */
        wal_position reported = strtoull(strrchr(log->report.damaged_file, '/') + 1, NULL, 16) * SEGMENT_BYTES;
        reported += log->report.damaged_offset;
        assert_in_range(reported, i > 0 ? group_at(log, i - 1) : 0, group_at(log, i));
    }
    image_free(&whole);
}

static void test_flipped_bits_in_segment_headers_are_damage(void **state) {
    struct log *log = *state;
    unsigned count = make_log(log, 2);
    struct image image;
    image_take(&image, log, 1);
    for (size_t segment = 1; segment <= image.count; segment++) {
        for (size_t at = 0; at < WAL_SEGMENT_HEADER_BYTES; at++) {
            flip(log, &image, segment * SEGMENT_BYTES + at, 5);
            assert_int_equal(log_try_open(log), SK_ECORRUPT);
            log_assert_damaged(log, segment * SEGMENT_BYTES, segment * SEGMENT_BYTES + 1);
            flip(log, &image, segment * SEGMENT_BYTES + at, 5);
        }
    }
    log_open(log);
    log_assert_replayed(log, 0, count);
    image_free(&image);
}

/* Stored bytes that look like a group, in front of a torn place, prove nothing. */
static void test_stored_bytes_are_never_taken_for_groups(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log_open(log);
    for (unsigned i = 0; i < 4; i++) log_commit(log, i, 200);
    log_close(log);
    struct image image;
    image_take(&image, log, 1);
    log_open(log);
    uint8_t *stored = image_at(&image, group_at(log, 0));
    struct wal_entry entry = {.shard = 4, .type = WAL_COMMAND, .index = 5, .payload = slice_of(stored, 1000)};
    wal_position position;
    assert_int_equal(wal_append(log->wal, &entry, &position), SK_OK);
    log_close(log);
    image_free(&image);
    image_take(&image, log, 1);
    flip(log, &image, position, 0);
    log_open(log);
    log_assert_replayed(log, 0, 4);
    assert_true(log->report.torn_bytes >= 1000);
    image_free(&image);
}

/* --- segments used again --- */

static uint64_t current_segment(const struct log *log) {
    return (wal_end(log->wal) - WAL_GROUP_HEADER_BYTES) / SEGMENT_BYTES;
}

static bool segment_is_recycled(const struct log *log, uint64_t segment) {
    uint8_t *bytes = log_read_segment(log, segment);
    assert_non_null(bytes);
    struct wal_segment_header header;
    assert_int_equal(wal_decode_segment_header(bytes, &header), SK_OK);
    free(bytes);
    return header.recycled;
}

static void test_torn_group_among_stale_bytes(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log_open(log);
    unsigned number = 0;
    do {
        log_commit(log, number, 3000);
        wal_release(log->wal, log->positions[number++]);
    } while (!segment_is_recycled(log, current_segment(log)));
    log_commit(log, number++, 300);
    uint64_t segment = current_segment(log);
    log_close(log);
    uint8_t *before = log_read_segment(log, segment);
    log_open(log);
    unsigned first = log->replayed_numbers[0];
    log_commit(log, number, 700);
    assert_int_equal(current_segment(log), segment);
    log_close(log);
    uint8_t *after = log_read_segment(log, segment);
    size_t at = group_at(log, number) % SEGMENT_BYTES;

    uint8_t *bytes = malloc(SEGMENT_BYTES);
    assert_non_null(bytes);
    for (size_t cut = 0; cut < group_bytes(700) - 8; cut += cut < 120 ? 1 : 13) {
        memcpy(bytes, before, SEGMENT_BYTES);
        memcpy(bytes + at, after + at, cut);
        log_write_segment(log, segment, bytes);
        log_open(log);
        assert_true((log->report.torn_bytes > 0) == (cut > 0));
        assert_goes_on(log, first, number);
    }
    /* Only the second half has arrived: nothing begins there. */
    memcpy(bytes, before, SEGMENT_BYTES);
    memcpy(bytes + at + 400, after + at + 400, group_bytes(700) - 400);
    log_write_segment(log, segment, bytes);
    log_open(log);
    assert_goes_on(log, first, number);
    free(bytes);
    free(before);
    free(after);
}

/* --- delayed syncs --- */

/* The machine stops before the sync; the last groups have reached the disk without one before them. */
static void test_interval_hole_is_cut_with_all_behind_it(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    log->options.sync_interval_ms = 3600 * 1000;
    log_open(log);
    for (unsigned i = 0; i < 3; i++) log_commit(log, i, 100);
    log_reopen(log); /* synced up to here */
    for (unsigned i = 3; i < 8; i++) log_commit(log, i, 100);
    log_close(log);
    struct image image;
    image_take(&image, log, 1);
    for (unsigned hole = 3; hole < 8; hole++) {
        struct image damaged;
        image_restore(&image, log);
        image_take(&damaged, log, 1);
        memset(image_at(&damaged, group_at(log, hole)), 0, group_bytes(100));
        image_restore(&damaged, log);
        image_free(&damaged);
        log_open(log);
        assert_true((log->report.torn_bytes > 0) == (hole < 7));
        assert_goes_on(log, 0, hole);
    }
    for (unsigned hole = 0; hole < 3; hole++) { /* what was synced is not cut */
        image_restore(&image, log);
        flip(log, &image, group_at(log, hole) + 60, 1);
        assert_int_equal(log_try_open(log), SK_ECORRUPT);
        log_assert_damaged(log, group_at(log, hole), group_at(log, hole) + group_bytes(100));
        flip(log, &image, group_at(log, hole) + 60, 1);
    }
    image_free(&image);
}

/* --- the directory --- */

static void set_version(const struct log *log, uint64_t segment, uint8_t version) {
    uint8_t *bytes = log_read_segment(log, segment);
    assert_non_null(bytes);
    bytes[8] = version;
    uint64_t checksum = XXH3_64bits(bytes, 56);
    memcpy(bytes + 56, &checksum, sizeof checksum);
    log_write_segment(log, segment, bytes);
    free(bytes);
}

static void test_other_versions_are_refused(void **state) {
    struct log *log = *state;
    unsigned count = make_log(log, 2);
    for (uint8_t version = 0; version <= WAL_FORMAT_VERSION + 1; version++) {
        if (version == WAL_FORMAT_VERSION) continue;
        for (uint64_t segment = 1; segment <= 2; segment++) {
            set_version(log, segment, version);
            assert_int_equal(log_try_open(log), SK_EVERSION);
            char path[160];
            log_segment_path(log, segment, path, sizeof path);
            assert_string_equal(log->report.damaged_file, path);
            set_version(log, segment, WAL_FORMAT_VERSION);
        }
    }
    log_open(log);
    log_assert_replayed(log, 0, count);
}

static void test_other_segment_size_is_refused(void **state) {
    struct log *log = *state;
    make_log(log, 1);
    log->options.segment_bytes = 2 * SEGMENT_BYTES;
    assert_int_equal(log_try_open(log), SK_ECONFIG);
    assert_non_null(strstr(log->report.damaged_file, "0000000000000001.log"));
    log->options.segment_bytes = SEGMENT_BYTES + 1;
    assert_int_equal(log_try_open(log), SK_ECONFIG);
    log->options.segment_bytes = SEGMENT_BYTES;
    log_open(log);
}

static void test_missing_segment_is_damage(void **state) {
    struct log *log = *state;
    make_log(log, 3);
    char path[160];
    log_segment_path(log, 2, path, sizeof path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(log_try_open(log), SK_ECORRUPT);
    assert_string_equal(log->report.damaged_file, path);
}

static void test_short_segment_is_damage(void **state) {
    struct log *log = *state;
    make_log(log, 2);
    char path[160];
    log_segment_path(log, 1, path, sizeof path);
    for (off_t size = (off_t)SEGMENT_BYTES - 1; size >= 0; size = size * 2 / 3 - 1) {
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(log_try_open(log), SK_ECORRUPT);
        assert_string_equal(log->report.damaged_file, path);
    }
}

static void test_segment_of_another_log_is_damage(void **state) {
    struct log *log = *state;
    make_log(log, 2);
    uint8_t *other = log_read_segment(log, 2);
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", log->path);
    assert_int_equal(system(command), 0);
    memset(log->positions, 0, sizeof log->positions);
    make_log(log, 2);
    log_write_segment(log, 2, other);
    free(other);
    assert_int_equal(log_try_open(log), SK_ECORRUPT);
    assert_non_null(strstr(log->report.damaged_file, "0000000000000002.log"));
}

static void test_emptied_directory_is_damage(void **state) {
    struct log *log = *state;
    log->synced = 3 * SEGMENT_BYTES + 5000;
    assert_int_equal(log_try_open(log), SK_ECORRUPT);
    assert_non_null(strstr(log->report.damaged_file, "0000000000000003.log"));
}

static void test_foreign_files(void **state) {
    struct log *log = *state;
    unsigned count = make_log(log, 1);
    log_make_file(log, "notes.txt");
    log_make_file(log, "prepare.tmp");
    log_make_file(log, "00000000000000ff.spare");
    log_open(log);
    log_assert_replayed(log, 0, count);
    log_close(log);
    assert_true(log_has_file(log, "notes.txt"));
    assert_false(log_has_file(log, "00000000000000ff.spare"));
    log_make_file(log, "copy of 0000000000000001.log");
    assert_int_equal(log_try_open(log), SK_ECORRUPT);
    assert_non_null(strstr(log->report.damaged_file, "copy of 0000000000000001.log"));
}

static void test_read_errors_are_not_torn_tails(void **state) {
    struct log *log = *state;
    faults.sync_for_show = true;
    unsigned count = make_log(log, 3);
    unsigned nth = 0;
    for (;;) {
        nth++;
        faults.preads = 0;
        faults.pread_fails_at = nth;
        int err = log_try_open(log);
        if (err == SK_OK) break;
        assert_int_equal(err, SK_EIO);
        assert_non_null(strstr(log->report.damaged_file, ".log"));
    }
    assert_true(nth > 6);
    log_assert_replayed(log, 0, count);
}

static int refuse_third_cb(void *arg, const struct wal_entry *entry, wal_position position) {
    (void)position;
    unsigned *calls = arg;
    ++*calls;
    return entry->index == 3 ? SK_ECONFIG : SK_OK;
}

static void test_replay_error_ends_opening(void **state) {
    struct log *log = *state;
    make_log(log, 1);
    unsigned calls = 0;
    struct wal *wal = NULL;
    int err = wal_open(&wal, &log->options, 0, refuse_third_cb, &calls, &log->report);
    assert_int_equal(err, SK_ECONFIG);
    assert_int_equal(calls, 3);
    assert_null(wal);
}

struct notes {
    unsigned count;
    struct wal_entry seen[8]; /* without payload */
};

static int note_cb(void *arg, const struct wal_entry *entry, wal_position position) {
    (void)position;
    struct notes *notes = arg;
    assert_true(notes->count < 8);
    assert_int_equal(entry->payload.size, 0);
    notes->seen[notes->count] = *entry;
    notes->seen[notes->count++].payload = (struct slice){0};
    return SK_OK;
}

/* What replication notes between the entries comes back as it was, in its place. */
static void test_notes_of_replication_are_replayed(void **state) {
    struct log *log = *state;
    const struct wal_entry written[] = {
        {.shard = 4, .type = WAL_NOOP, .replica_id = 2, .epoch = 1, .index = 1, .time_us = 5},
        {.shard = 4, .type = WAL_NOOP, .replica_id = 2, .epoch = 1, .index = 2, .time_us = 6},
        {.type = WAL_TIME, .time_us = 70},
        {.shard = 4, .type = WAL_EPOCH, .replica_id = 2, .epoch = 3, .index = 1},
        {.shard = 4, .type = WAL_NOOP, .replica_id = 2, .epoch = 3, .index = 2, .time_us = 80},
    };
    unsigned count = sizeof written / sizeof *written;
    log_open(log);
    for (unsigned i = 0; i < count; i++) {
        wal_position position;
        assert_int_equal(wal_append(log->wal, &written[i], &position), SK_OK);
        if (i % 2 == 0) wal_flush(log->wal);
    }
    log_close(log);
    struct notes notes = {0};
    assert_int_equal(wal_open(&log->wal, &log->options, 0, note_cb, &notes, &log->report), SK_OK);
    assert_int_equal(notes.count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(notes.seen[i].shard, written[i].shard);
        assert_int_equal(notes.seen[i].type, written[i].type);
        assert_int_equal(notes.seen[i].replica_id, written[i].replica_id);
        assert_int_equal(notes.seen[i].epoch, written[i].epoch);
        assert_int_equal(notes.seen[i].index, written[i].index);
        assert_int_equal(notes.seen[i].time_us, written[i].time_us);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_cut_at_every_byte_of_the_last_group),
        TEST(test_sectors_of_the_last_group_out_of_order),
        TEST(test_flipped_bits_are_damage),
        TEST(test_flipped_bit_in_the_last_group),
        TEST(test_lost_groups_are_damage),
        TEST(test_flipped_bits_in_segment_headers_are_damage),
        TEST(test_stored_bytes_are_never_taken_for_groups),
        TEST(test_torn_group_among_stale_bytes),
        TEST(test_interval_hole_is_cut_with_all_behind_it),
        TEST(test_other_versions_are_refused),
        TEST(test_other_segment_size_is_refused),
        TEST(test_missing_segment_is_damage),
        TEST(test_short_segment_is_damage),
        TEST(test_segment_of_another_log_is_damage),
        TEST(test_emptied_directory_is_damage),
        TEST(test_foreign_files),
        TEST(test_read_errors_are_not_torn_tails),
        TEST(test_replay_error_ends_opening),
        TEST(test_notes_of_replication_are_replayed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/sim/drive.h"

#include "libcommon/testing.h"

static void append(struct drive *drive, uint64_t index, uint32_t entry) {
    assert_true(drive_append(drive, &(struct record){.kind = RECORD_ENTRY, .index = index, .entry = entry}));
}

static void sync_all(struct drive *drive) {
    if (drive_flush(drive)) drive_complete(drive);
}

static bool has(const struct drive *drive, uint64_t index, uint32_t wanted) {
    uint32_t entry;
    return drive_has(drive, index, &entry) && entry == wanted;
}

static void test_a_crash_keeps_what_is_synced_and_a_beginning_of_the_group(void **state) {
    (void)state;
    bool none = false, some = false, all = false;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct drive drive;
        struct chance chance;
        chance_init(&chance, seed);
        drive_init(&drive, 1);
        append(&drive, 1, 11);
        sync_all(&drive);
        append(&drive, 2, 12);
        append(&drive, 3, 13);
        assert_true(drive_flush(&drive));
        append(&drive, 4, 14); /* not in the group */
        assert_false(has(&drive, 2, 12));
        drive_crash(&drive, &chance);
        assert_true(has(&drive, 1, 11));
        assert_true(drive.end <= 3);
        assert_int_equal(drive.synced, drive.end);
        none |= drive.end == 1;
        some |= drive.end == 2 && has(&drive, 2, 12) && !has(&drive, 3, 13);
        all |= drive.end == 3 && has(&drive, 3, 13);
        drive_deinit(&drive);
    }
    assert_true(none && some && all);
}

static void test_a_cut_counts_when_it_is_synced(void **state) {
    (void)state;
    struct drive drive;
    drive_init(&drive, 1);
    append(&drive, 1, 11);
    append(&drive, 2, 12);
    sync_all(&drive);
    assert_true(drive_append(&drive, &(struct record){.kind = RECORD_ADOPT, .epoch = 2, .index = 1}));
    append(&drive, 2, 22);
    assert_true(has(&drive, 2, 12));
    sync_all(&drive);
    assert_true(has(&drive, 1, 11) && has(&drive, 2, 22));
    drive_deinit(&drive);
}

static void test_a_full_disk_takes_nothing(void **state) {
    (void)state;
    struct drive drive;
    drive_init(&drive, 1);
    drive.full = true;
    assert_false(drive_append(&drive, &(struct record){.kind = RECORD_ENTRY, .index = 1, .entry = 1}));
    assert_int_equal(drive.end, 0);
    drive_deinit(&drive);
}

static void test_a_checkpoint_is_there_when_it_is_done(void **state) {
    (void)state;
    struct drive drive;
    struct chance chance;
    struct image image = {.machine.applied_index = 1, .replay_from = 1};
    chance_init(&chance, 1);
    drive_init(&drive, 1);
    append(&drive, 1, 11);
    sync_all(&drive);
    drive_start_checkpoint(&drive, &image);
    drive_crash(&drive, &chance);
    assert_int_equal(drive.image.machine.applied_index, 0);
    drive_start_checkpoint(&drive, &image);
    drive_end_checkpoint(&drive, true);
    assert_int_equal(drive.image.machine.applied_index, 1);
    assert_true(has(&drive, 1, 0));
    drive_deinit(&drive);
}

/* R30: the store counts as empty until an install is done; the epoch stays stored (R1). */
static void test_a_crash_amid_an_install_leaves_nothing(void **state) {
    (void)state;
    struct drive drive;
    struct chance chance;
    chance_init(&chance, 1);
    drive_init(&drive, 1);
    assert_true(drive_append(&drive, &(struct record){.kind = RECORD_ADOPT, .epoch = 5}));
    append(&drive, 1, 11);
    sync_all(&drive);
    drive_start_install(&drive);
    drive_crash(&drive, &chance);
    assert_false(has(&drive, 1, 11));
    assert_int_equal(drive.image.stored_epoch, 5);
    assert_int_equal(drive.image.replay_from, drive.end);
    drive_deinit(&drive);
}

static void test_an_install_replaces_the_log(void **state) {
    (void)state;
    struct drive drive;
    struct image image = {.machine.applied_index = 40};
    drive_init(&drive, 1);
    append(&drive, 1, 11);
    sync_all(&drive);
    append(&drive, 2, 12); /* not synced: of before */
    drive_start_install(&drive);
    drive_end_install(&drive, &image);
    sync_all(&drive);
    assert_true(has(&drive, 40, 0));
    assert_false(has(&drive, 41, 0));
    append(&drive, 41, 51);
    sync_all(&drive);
    assert_true(has(&drive, 41, 51));
    drive_deinit(&drive);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crash_keeps_what_is_synced_and_a_beginning_of_the_group),
        cmocka_unit_test(test_a_cut_counts_when_it_is_synced),
        cmocka_unit_test(test_a_full_disk_takes_nothing),
        cmocka_unit_test(test_a_checkpoint_is_there_when_it_is_done),
        cmocka_unit_test(test_a_crash_amid_an_install_leaves_nothing),
        cmocka_unit_test(test_an_install_replaces_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "verify_stats.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"

static struct verify_finding finding_of(uint64_t index, enum verify_fault fault) {
    return (struct verify_finding){.generation = 3, .index = index, .shard = 9, .node = 2, .fault = fault};
}

static void test_the_latest_findings_are_kept(void **state) {
    (void)state;
    struct verify_stats stats = {0};
    for (uint64_t i = 1; i <= VERIFY_FINDINGS_MAX + 2; i++) {
        struct verify_finding finding = finding_of(i, VERIFY_FAULT_DIFFERS);
        verify_stats_note(&stats, &finding);
    }
    assert_int_equal(stats.finding_count, VERIFY_FINDINGS_MAX);
    assert_int_equal(stats.findings[0].index, 3);
    assert_int_equal(stats.findings[VERIFY_FINDINGS_MAX - 1].index, VERIFY_FINDINGS_MAX + 2);
    assert_int_equal(stats.differing, VERIFY_FINDINGS_MAX + 2);
    assert_int_equal(stats.damaged + stats.undecided, 0);
}

static void test_lanes_together(void **state) {
    (void)state;
    struct verify_stats sum = {.generation = 4, .verified = 1, .running = 1};
    struct verify_stats other = {.generation = 3, .verified = 2, .running = 2};
    struct verify_finding damaged = finding_of(5, VERIFY_FAULT_DAMAGED);
    struct verify_finding undecided = finding_of(6, VERIFY_FAULT_UNDECIDED);
    verify_stats_set_done(&sum, 0);
    verify_stats_set_done(&other, 16383);
    verify_stats_note(&sum, &damaged);
    verify_stats_note(&other, &undecided);
    verify_stats_add(&sum, &other);
    assert_int_equal(sum.generation, 3);
    assert_int_equal(sum.done[0], 1);
    assert_int_equal(sum.done[SHARD_COUNT_MAX / 8 - 1], 0x80);
    assert_int_equal(sum.verified, 3);
    assert_int_equal(sum.running, 3);
    assert_int_equal(sum.damaged, 1);
    assert_int_equal(sum.undecided, 1); /* once */
    assert_int_equal(sum.finding_count, 2);
    assert_int_equal(sum.findings[1].index, 6);
}

/* `skerry admin verify` reads this (cli/verify.c). */
static void test_bytes(void **state) {
    (void)state;
    struct verify_stats stats = {.generation = 7};
    struct verify_finding finding = finding_of(5, VERIFY_FAULT_DIFFERS);
    struct buffer buffer;
    buffer_init(&buffer);
    verify_stats_set_done(&stats, 9);
    verify_stats_note(&stats, &finding);
    verify_stats_encode(&stats, &buffer);
    static const uint8_t expected[] = "\x83\xaageneration\x07\xa4"
                                      "done\xc4\x02\x00\x02\xa8"
                                      "findings\x91\x95\x03\x05\x09\x02\xa7"
                                      "differs";
    assert_int_equal(buffer.size, sizeof expected - 1);
    assert_memory_equal(buffer.data, expected, buffer.size);
    buffer_deinit(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_latest_findings_are_kept),
        cmocka_unit_test(test_lanes_together),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Stories in virtual time: a replica, events, what it must answer. */
#include "shardd/replica.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NODE = 3, GRACE_US = 700000 };

static struct map_shard config_of(uint64_t epoch, uint64_t version, uint32_t leader, uint64_t incarnation) {
    return (struct map_shard){.leader_epoch = epoch,
                              .config_version = version,
                              .leader = leader,
                              .leader_incarnation = incarnation,
                              .min_isr = 1,
                              .isr_count = 1,
                              .isr = {leader}};
}

static struct replica_effects step(struct replica *replica, struct replica_event event) {
    struct replica_effects effects;
    replica_step(replica, &event, &effects);
    return effects;
}

static struct replica_effects configure(struct replica *replica, struct map_shard config, uint64_t boot_us,
                                        uint64_t wall_us) {
    return step(replica, (struct replica_event){
                             .type = REPLICA_CONFIG, .config = &config, .boot_us = boot_us, .wall_us = wall_us});
}

static struct replica fresh(void) {
    struct replica replica;
    replica_init(&replica, 5, 77, GRACE_US);
    replica_identify(&replica, NODE, 9);
    return replica;
}

static void appended(struct replica *replica, uint64_t index) {
    step(replica, (struct replica_event){.type = REPLICA_APPENDED, .index = index});
}

static void durable(struct replica *replica, uint64_t index) {
    step(replica, (struct replica_event){.type = REPLICA_DURABLE, .index = index});
}

static void executed(struct replica *replica, uint64_t index) {
    step(replica, (struct replica_event){.type = REPLICA_EXECUTED, .index = index});
}

/* A leader of epoch 4 with its first entry committed. */
static struct replica leading(void) {
    struct replica replica = fresh();
    configure(&replica, config_of(4, 10, NODE, 9), 1000, 5000000);
    appended(&replica, 1);
    durable(&replica, 1);
    executed(&replica, 1);
    assert_int_equal(replica.role, REPLICA_LEADER);
    return replica;
}

static void test_nothing_is_served_before_a_map(void **state) {
    (void)state;
    struct replica replica = fresh();
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_WRITE}).refused, SK_NOT_LEADER);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_READ}).refused, SK_NOT_LEADER);
}

static void test_r5_first_entry_before_service(void **state) {
    (void)state;
    struct replica replica = fresh();
    struct replica_effects effects = configure(&replica, config_of(4, 10, NODE, 9), 1000, 5000000);
    assert_true(effects.became_leader);
    assert_int_equal(effects.append, REPLICA_ENTRY_NOOP);
    assert_int_equal(effects.epoch, 4);
    assert_int_equal(effects.index, 1);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_READ}).refused, SK_NOT_LEADER);
    appended(&replica, 1);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_WRITE}).refused, SK_NOT_LEADER);
    durable(&replica, 1);
    assert_int_equal(replica.commit_index, 1);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_READ}).refused, SK_NOT_LEADER);
    executed(&replica, 1);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_READ}).refused, SK_OK);
}

/* What an earlier epoch left in the log is committed with the first entry of the new one, not before. */
static void test_r5_old_entries_wait_for_the_new_epoch(void **state) {
    (void)state;
    struct replica replica = fresh();
    replica_restore_state(&replica, 10, 3, 1000);
    assert_int_equal(replica_restore_entry(&replica, 11, 3, 2000, 10), SK_OK);
    assert_int_equal(replica_restore_entry(&replica, 12, 3, 3000, 10), SK_OK);
    assert_int_equal(replica.commit_index, 10);
    configure(&replica, config_of(4, 10, NODE, 9), 1000, 5000000);
    durable(&replica, 12);
    assert_int_equal(replica.commit_index, 10);
    appended(&replica, 13);
    durable(&replica, 13);
    assert_int_equal(replica.commit_index, 13);
    /* and a read that came before they are executed would miss them */
    for (uint64_t index = 11; index <= 13; index++) {
        assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_READ}).refused, SK_NOT_LEADER);
        executed(&replica, index);
    }
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_READ}).refused, SK_OK);
}

static void test_r5_first_entry_is_asked_for_again(void **state) {
    (void)state;
    struct replica replica = fresh();
    struct map_shard config = config_of(4, 10, NODE, 9);
    assert_int_equal(configure(&replica, config, 1000, 5000000).append, REPLICA_ENTRY_NOOP);
    assert_int_equal(configure(&replica, config, 2000, 5000000).append, REPLICA_ENTRY_NOOP);
    appended(&replica, 1);
    assert_int_equal(configure(&replica, config, 3000, 5000000).append, REPLICA_ENTRY_NONE);
}

static void test_r6_only_the_named_incarnation_leads(void **state) {
    (void)state;
    struct replica replica = fresh();
    assert_false(configure(&replica, config_of(4, 10, NODE, 8), 1000, 5000000).became_leader);
    assert_int_equal(replica.role, REPLICA_FOLLOWER);
}

static void test_r8_no_answer_after_another_leads(void **state) {
    (void)state;
    struct replica replica = leading();
    assert_true(replica_may_answer(&replica, 4));
    assert_true(configure(&replica, config_of(5, 11, 2, 1), 2000, 5000000).stepped_down);
    assert_false(replica_may_answer(&replica, 4));
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_WRITE}).refused, SK_NOT_LEADER);
}

/* Led again, but in another epoch: what was appended in the old one is "unknown". */
static void test_r8_a_new_epoch_of_the_same_leader(void **state) {
    (void)state;
    struct replica replica = leading();
    struct replica_effects effects = configure(&replica, config_of(5, 11, NODE, 9), 2000, 5000000);
    assert_true(effects.stepped_down && effects.became_leader);
    assert_int_equal(effects.index, 2);
    appended(&replica, 2);
    durable(&replica, 2);
    executed(&replica, 2);
    assert_false(replica_may_answer(&replica, 4));
    assert_true(replica_may_answer(&replica, 5));
}

static void test_r11_below_min_isr_nothing_commits(void **state) {
    (void)state;
    struct replica replica = leading();
    struct map_shard config = config_of(4, 11, NODE, 9);
    config.min_isr = 2;
    configure(&replica, config, 2000, 5000000);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_WRITE}).refused, SK_UNAVAILABLE);
}

static void test_r23_failed_is_final(void **state) {
    (void)state;
    struct replica replica = leading();
    assert_true(step(&replica, (struct replica_event){.type = REPLICA_FAIL}).stepped_down);
    configure(&replica, config_of(9, 99, NODE, 9), 2000, 5000000);
    assert_int_equal(replica.role, REPLICA_FAILED);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_WRITE}).refused, SK_UNAVAILABLE);
    assert_int_equal(step(&replica, (struct replica_event){.type = REPLICA_READ}).refused, SK_UNAVAILABLE);
}

static void test_r26_time_never_goes_back(void **state) {
    (void)state;
    struct replica replica = fresh();
    replica_restore_state(&replica, 10, 3, 9000000);
    /* The wall clock is far behind what the log has seen. */
    struct replica_effects effects = configure(&replica, config_of(4, 10, NODE, 9), 1000, 5000000);
    assert_int_equal(effects.time_us, 9000000 + GRACE_US);
    appended(&replica, 11);
    durable(&replica, 11);
    executed(&replica, 11);
    /* Within the epoch it advances by CLOCK_BOOTTIME alone. */
    effects = step(&replica, (struct replica_event){.type = REPLICA_WRITE, .boot_us = 251000});
    assert_int_equal(effects.time_us, 9000000 + GRACE_US + 250000);
    effects = step(&replica, (struct replica_event){.type = REPLICA_READ, .boot_us = 1000});
    assert_int_equal(effects.time_us, 9000000 + GRACE_US + 250000);
}

static void test_r29_an_older_map_is_ignored(void **state) {
    (void)state;
    struct replica replica = leading();
    assert_false(configure(&replica, config_of(9, 9, 2, 1), 2000, 5000000).stepped_down);
    assert_int_equal(replica.role, REPLICA_LEADER);
}

/* A metad that lost its data names epochs below those in the log: refused, nothing is changed. */
static void test_an_epoch_below_the_log_is_refused(void **state) {
    (void)state;
    struct replica replica = fresh();
    replica_restore_state(&replica, 10, 7, 1000);
    assert_int_equal(configure(&replica, config_of(6, 10, NODE, 9), 1000, 5000000).refused, SK_STALE_EPOCH);
    assert_int_equal(replica.role, REPLICA_FOLLOWER);
}

static void test_a_log_with_a_hole_is_damage(void **state) {
    (void)state;
    struct replica replica = fresh();
    replica_restore_state(&replica, 10, 7, 1000);
    assert_int_equal(replica_restore_entry(&replica, 12, 7, 2000, 10), SK_ECORRUPT);
    assert_int_equal(replica_restore_entry(&replica, 11, 6, 2000, 10), SK_ECORRUPT);
    assert_int_equal(replica_restore_entry(&replica, 11, 7, 2000, 11), SK_ECORRUPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_served_before_a_map),
        cmocka_unit_test(test_r5_first_entry_before_service),
        cmocka_unit_test(test_r5_old_entries_wait_for_the_new_epoch),
        cmocka_unit_test(test_r5_first_entry_is_asked_for_again),
        cmocka_unit_test(test_r6_only_the_named_incarnation_leads),
        cmocka_unit_test(test_r8_no_answer_after_another_leads),
        cmocka_unit_test(test_r8_a_new_epoch_of_the_same_leader),
        cmocka_unit_test(test_r11_below_min_isr_nothing_commits),
        cmocka_unit_test(test_r23_failed_is_final),
        cmocka_unit_test(test_r26_time_never_goes_back),
        cmocka_unit_test(test_r29_an_older_map_is_ignored),
        cmocka_unit_test(test_an_epoch_below_the_log_is_refused),
        cmocka_unit_test(test_a_log_with_a_hole_is_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Stories about reads that a follower serves (R17): what it may show, and for how long. */
#include "shardd/replica_fixture.h"

static struct replica_effects *read_stale(struct world *world, uint32_t id) {
    return world_tell(world, id, (struct replica_event){.type = REPLICA_READ_STALE});
}

static void expect_served(struct world *world, uint32_t id) {
    assert_int_equal(read_stale(world, id)->refused, SK_OK);
}

static void expect_refused(struct world *world, uint32_t id) {
    assert_int_equal(read_stale(world, id)->refused, SK_NOT_LEADER);
}

/* The next beacon of the leader to `to`, and nothing else of it. */
static struct mail next_beacon(struct world *world, uint32_t to) {
    struct mail beacon;
    while (!world_take(world, 1, to, REPLICA_BEACON, &beacon)) world_tick(world);
    return beacon;
}

/* A beacon of the leader that vouches, made up. */
static struct replica_message beacon_to(struct world *world, uint32_t to, uint64_t echo_us) {
    const struct replica *leader = world_replica(world, 1);
    return (struct replica_message){.type = REPLICA_BEACON,
                                    .from = 1,
                                    .to = to,
                                    .from_incarnation = world->nodes[1].incarnation,
                                    .replica_id = 10 + to,
                                    .epoch = leader->config.leader_epoch,
                                    .commit_index = leader->commit_index,
                                    .time_us = replica_time_us(leader, world->now_us),
                                    .sent_us = world->now_us,
                                    .echo_us = echo_us,
                                    .echo_incarnation = world->nodes[to].incarnation};
}

/* Nothing of it comes from anybody, and nobody's change reaches metad. */
static void isolate(struct world *world, uint32_t id) {
    for (uint32_t other = 1; other <= world->count; other++) {
        if (other != id) world_cut_off(world, id, other);
        world->nodes[other].mute = true;
    }
}

/* ---- who serves ---- */

static void test_followers_serve_what_is_committed(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    assert_int_equal(world_write(world, 1), SK_OK);
    world_pass(world, 2 * BEACON_US);
    for (uint32_t id = 2; id <= 3; id++) {
        assert_int_equal(world_read(world, id), SK_NOT_LEADER); /* a read that may not be stale */
        expect_served(world, id);
        assert_int_equal(world_replica(world, id)->applied_index, world_replica(world, 1)->commit_index);
    }
    world_free(world);
}

/* As any other read of it, and refused as one. */
static void test_a_leader_serves_it_as_a_read(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica_effects *effects = read_stale(world, 1);
    assert_int_equal(effects->refused, SK_OK);
    assert_int_equal(effects->time_us, replica_time_us(world_replica(world, 1), world->now_us));
    world_wait(world, LEASE_US);
    assert_int_equal(read_stale(world, 1)->refused, SK_UNAVAILABLE);
    world_free(world);
    world = world_new(2, 2);
    world_configure(world, 1);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_STARTING);
    assert_int_equal(read_stale(world, 1)->refused, SK_NOT_LEADER);
    world_free(world);
}

static void test_a_failed_replica_serves_nothing(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    expect_served(world, 2);
    world_tell(world, 2, (struct replica_event){.type = REPLICA_FAIL});
    assert_int_equal(read_stale(world, 2)->refused, SK_UNAVAILABLE);
    world_free(world);
}

static void test_only_members_of_the_in_sync_set_serve(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    expect_served(world, 2);
    uint32_t rest[] = {1, 3};
    record_set_isr(&world->record, rest, 2, 0);
    world_decree(world);
    expect_refused(world, 2);
    expect_served(world, 3);
    world_free(world);
}

/* Nor another stay of the shard on the same node. */
static void test_only_the_recorded_stay_serves(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world->record.replicas[1].replica_id++;
    world->record.config_version++;
    world_configure(world, 2);
    expect_refused(world, 2);
    world_free(world);
}

/* While a snapshot replaces the state there is none to read; and metad may have been wrong about who is in sync. */
static void test_nothing_is_read_while_a_snapshot_is_installed(void **state) {
    (void)state;
    struct world *world = world_serving(2, 1);
    uint32_t alone[] = {1};
    world_pass(world, BEACON_US);
    world->nodes[1].mute = true;
    record_set_isr(&world->record, alone, 1, 0);
    world_decree(world);
    struct replica_event install = {
        .type = REPLICA_INSTALL, .index = world_replica(world, 2)->last_index + 5, .epoch = 1};
    assert_int_equal(world_tell(world, 2, install)->refused, SK_OK);
    world->record.isr[world->record.isr_count++] = 2;
    world_decree(world);
    expect_refused(world, 2);
    world_tell(world, 2, (struct replica_event){.type = REPLICA_INSTALL_FAILED});
    expect_served(world, 2);
    world_free(world);
}

/* ---- how stale ---- */

/* It counts from the follower's clock when it promised, not from when the beacon was sent, or came. */
static void test_staleness_counts_from_the_promise(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_lose_mail(world);
    struct mail beacon = next_beacon(world, 2);
    world_hand(world, &beacon);
    struct mail promise = world_expect(world, 2, 1, REPLICA_PROMISE);
    uint64_t promised_us = world->now_us;
    assert_int_equal(promise.message.promised_us, promised_us);
    world_hand(world, &promise);
    beacon = next_beacon(world, 2);
    assert_true(world->now_us > promised_us);
    assert_int_equal(beacon.message.echo_us, promised_us);
    world_wait(world, 200000);
    world_hand(world, &beacon);
    world_wait(world, promised_us + REPLICA_STALE_US - world->now_us);
    expect_served(world, 2);
    world_wait(world, 1);
    expect_refused(world, 2);
    world_free(world);
}

/* R14: a process that stands still between two reads refuses the second. */
static void test_each_read_looks_at_the_time(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    expect_served(world, 2);
    world_wait(world, 5000000);
    expect_refused(world, 2);
    world_pass(world, 1000000);
    expect_served(world, 2);
    world_free(world);
}

/* The state has to hold what the leader had committed when it vouched. */
static void test_what_is_vouched_for_is_executed_first(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world->nodes[2].idle = true;
    assert_int_equal(world_write(world, 1), SK_OK);
    world_pass(world, 2 * BEACON_US);
    const struct replica *follower = world_replica(world, 2);
    assert_int_equal(follower->vouched.commit_index, follower->applied_index + 1);
    expect_refused(world, 2);
    world_execute(world, 2);
    expect_served(world, 2);
    world_free(world);
}

/* Beacons may come late and in any order (R27): of two the one with the later promise counts, whole. */
static void test_a_late_beacon_changes_nothing(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    const struct replica *follower = world_replica(world, 2);
    uint64_t first_us = world->now_us + 100, second_us = world->now_us + 200;
    world_wait(world, 1000);
    struct replica_message first = beacon_to(world, 2, first_us), second = beacon_to(world, 2, second_us);
    first.time_us++;
    second.commit_index--;
    world_hand_message(world, second);
    world_hand_message(world, first);
    assert_int_equal(follower->vouched.echo_us, second_us);
    assert_int_equal(follower->vouched.commit_index, second.commit_index);
    assert_int_equal(follower->vouched.time_us, second.time_us);
    world_free(world);
}

/* ---- who vouches ---- */

/* A leader that is cut off from all but this follower, and does not know it, goes on with its beacons. Meanwhile another
 * has served: the follower must not show what was before that for longer. */
static void test_who_holds_no_lease_vouches_for_nothing(void **state) {
    (void)state;
    struct world *world = world_serving(3, 1);
    world_cut_off(world, 1, 3);
    world_cut_off(world, 2, 3);
    for (uint32_t id = 1; id <= 2; id++) world->nodes[id].deaf = world->nodes[id].mute = true;
    uint64_t before = world_replica(world, 2)->applied_index;
    while (world_write(world, 3) != SK_OK) world_pass(world, TICK_US);
    world_settle(world);
    while (world_replica(world, 3)->applied_index < world_replica(world, 3)->last_index)
        world_pass(world, TICK_US);
    assert_true(world_replica(world, 3)->applied_index > before);
    uint64_t acknowledged_us = world->now_us;
    world_pass(world, acknowledged_us + REPLICA_STALE_US - world->now_us + TICK_US);
    assert_true(world_replica(world, 2)->heard_us + BEACON_US >= world->now_us); /* beacons still come */
    assert_int_equal(world_replica(world, 1)->role, REPLICA_LEADER);
    expect_refused(world, 2);
    world_free(world);
}

/* R16: with somebody eligible beside the in-sync set only metad could tell whether another leads. */
static void test_who_may_not_read_alone_does_not_vouch(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    isolate(world, 3);
    world->record.isr_count = 2;
    world->record.eligible_count = 1;
    world->record.eligible[0] = 3;
    world_decree(world);
    world_lose_mail(world);
    assert_int_equal(next_beacon(world, 2).message.echo_us, 0);
    world_free(world);
}

static void test_a_starting_leader_does_not_vouch(void **state) {
    (void)state;
    struct world *world = world_new(2, 2);
    world_publish(world);
    world->nodes[1].idle = true; /* the first entry of its epoch is not executed (R5) */
    world_pass(world, 2 * GRACE_US);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_STARTING);
    assert_true(world_replica(world, 1)->progress[1].promised_us > 0);
    expect_refused(world, 2);
    world->nodes[1].idle = false;
    world_pass(world, 2 * BEACON_US);
    expect_served(world, 2);
    world_free(world);
}

/* A process may be stopped between reading its clock and taking a promise: then the lease that it sees is not there any
 * more. What came at the very time by which it is judged is echoed with the next beacon. */
static void test_a_promise_is_echoed_by_a_later_clock(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_lose_mail(world);
    struct mail beacon = next_beacon(world, 2);
    world_hand(world, &beacon);
    struct mail promise = world_expect(world, 2, 1, REPLICA_PROMISE);
    world_wait(world, BEACON_US);
    world_hand(world, &promise);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK, .time_us = world->nodes[1].time_us});
    assert_int_equal(world_expect(world, 1, 2, REPLICA_BEACON).message.echo_us, 0);
    assert_int_equal(next_beacon(world, 2).message.echo_us, promise.message.promised_us);
    world_free(world);
}

/* The latest promise counts, of the process that is there now, in this epoch. */
static void test_which_promise_is_echoed(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    const struct progress *progress = &world_replica(world, 1)->progress[1];
    world_lose_mail(world);
    struct replica_message promise = {.type = REPLICA_PROMISE,
                                      .from = 2,
                                      .to = 1,
                                      .from_incarnation = world->nodes[2].incarnation,
                                      .replica_id = 12,
                                      .epoch = 1,
                                      .sent_us = world->now_us,
                                      .promised_us = progress->promised_us - 1,
                                      .durable_index = progress->match_index,
                                      .last_index = progress->match_index};
    uint64_t latest_us = progress->promised_us;
    world_hand_message(world, promise); /* late */
    assert_int_equal(progress->promised_us, latest_us);
    promise.epoch = 2;
    promise.promised_us = latest_us + 1;
    world_hand_message(world, promise);
    promise.epoch = 1;
    promise.from_incarnation = 1; /* an earlier process */
    world_hand_message(world, promise);
    assert_int_equal(progress->promised_us, latest_us);
    promise.from_incarnation = world->nodes[2].incarnation + 1; /* another, which has opened nothing yet */
    promise.type = REPLICA_REFUSAL;
    world_hand_message(world, promise);
    assert_int_equal(progress->promised_us, 0);
    world_free(world);
}

/* What was promised to an earlier process, on a machine that may have had another clock, is not ours. */
static void test_an_echo_of_an_earlier_process_is_ignored(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica_message late = beacon_to(world, 2, world->now_us);
    world_crash(world, 2);
    world_restart(world, 2);
    const struct replica *follower = world_replica(world, 2);
    while (follower->opened_epoch != 1) world_pass(world, TICK_US);
    assert_int_equal(follower->vouched.epoch, 0);
    world_hand_message(world, late);
    assert_int_equal(follower->vouched.epoch, 0);
    world_pass(world, 2 * BEACON_US);
    expect_served(world, 2);
    world_free(world);
}

/* ---- epochs ---- */

/* A later epoch is known: the old leader's word counts no more, until the new one vouches. */
static void test_a_later_epoch_ends_it(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    expect_served(world, 3);
    world_crash(world, 1);
    world->record.isr_count = 0;
    world->record.isr[world->record.isr_count++] = 2;
    world->record.isr[world->record.isr_count++] = 3;
    record_set_leader(world, 2);
    world->record.config_version++;
    world_configure(world, 3);
    expect_refused(world, 3);
    world_publish(world);
    world_settle(world);
    assert_int_equal(world_replica(world, 3)->opened_epoch, 2);
    expect_refused(world, 3);
    world_pass(world, GRACE_US + 2 * BEACON_US);
    assert_int_equal(world_replica(world, 2)->role, REPLICA_LEADER);
    expect_served(world, 3);
    world_free(world);
}

/* An echo in a new epoch counts though one of the epoch before was later. */
static void test_each_epoch_begins_anew(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *follower = world_replica(world, 2);
    follower->vouched.epoch = 0;
    follower->vouched.echo_us = world->now_us + 1000000;
    world_hand_message(world, beacon_to(world, 2, world->now_us));
    assert_int_equal(follower->vouched.echo_us, world->now_us);
    expect_served(world, 2);
    world_free(world);
}

/* ---- time ---- */

/* Expiry is judged by the leader's time in the beacon, or by that of what was executed since. */
static void test_r26_the_time_is_the_state_s(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_lose_mail(world);
    struct mail beacon = next_beacon(world, 2);
    world_hand(world, &beacon);
    world_wait(world, 1000);
    struct replica_effects *effects = read_stale(world, 2);
    assert_int_equal(effects->refused, SK_OK);
    assert_int_equal(effects->time_us, beacon.message.time_us);
    assert_int_equal(world_write(world, 1), SK_OK);
    world_settle(world);
    assert_int_equal(world_write(world, 1), SK_OK); /* its APPEND tells that the first is committed */
    world_settle(world);
    uint64_t executed = world_replica(world, 2)->applied_index;
    effects = read_stale(world, 2);
    assert_int_equal(effects->refused, SK_OK);
    assert_true(effects->time_us > beacon.message.time_us);
    assert_int_equal(effects->time_us, world->nodes[2].log[executed].time_us);
    world_free(world);
}

/* A time that is not near enough to what is on disk is not shown: a restart of all could fall behind it. */
static void test_r26_no_time_is_shown_that_may_be_forgotten(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica_message beacon = beacon_to(world, 2, world->now_us);
    beacon.time_us = world_replica(world, 2)->recorded_time_us + REPLICA_TIME_AGE_US + 1;
    world_hand_message(world, beacon);
    expect_refused(world, 2);
    world_tell(world, 2, (struct replica_event){.type = REPLICA_TICK, .time_us = beacon.time_us});
    expect_served(world, 2);
    world_free(world);
}

/* Nor does a leader lend a time that it would not show itself. */
static void test_r26_a_leader_whose_time_stands_still_does_not_vouch(void **state) {
    (void)state;
    struct world *world = world_serving(2, 1);
    world->nodes[1].full = true;
    world_pass(world, 5000000);
    assert_int_equal(world_read(world, 1), SK_OK);
    world_lose_mail(world);
    assert_int_equal(next_beacon(world, 2).message.echo_us, 0);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_followers_serve_what_is_committed),
        cmocka_unit_test(test_a_leader_serves_it_as_a_read),
        cmocka_unit_test(test_a_failed_replica_serves_nothing),
        cmocka_unit_test(test_only_members_of_the_in_sync_set_serve),
        cmocka_unit_test(test_only_the_recorded_stay_serves),
        cmocka_unit_test(test_nothing_is_read_while_a_snapshot_is_installed),
        cmocka_unit_test(test_staleness_counts_from_the_promise),
        cmocka_unit_test(test_each_read_looks_at_the_time),
        cmocka_unit_test(test_what_is_vouched_for_is_executed_first),
        cmocka_unit_test(test_a_late_beacon_changes_nothing),
        cmocka_unit_test(test_who_holds_no_lease_vouches_for_nothing),
        cmocka_unit_test(test_who_may_not_read_alone_does_not_vouch),
        cmocka_unit_test(test_a_starting_leader_does_not_vouch),
        cmocka_unit_test(test_a_promise_is_echoed_by_a_later_clock),
        cmocka_unit_test(test_which_promise_is_echoed),
        cmocka_unit_test(test_an_echo_of_an_earlier_process_is_ignored),
        cmocka_unit_test(test_a_later_epoch_ends_it),
        cmocka_unit_test(test_each_epoch_begins_anew),
        cmocka_unit_test(test_r26_the_time_is_the_state_s),
        cmocka_unit_test(test_r26_no_time_is_shown_that_may_be_forgotten),
        cmocka_unit_test(test_r26_a_leader_whose_time_stands_still_does_not_vouch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

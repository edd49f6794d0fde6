/* Stories about who leads and when it serves: epochs, promises and leases, claims, hand-over, time, maps. */
#include "shardd/replica_fixture.h"

static struct replica_message from_leader(const struct world *world, uint32_t from, uint32_t to,
                                          enum replica_message_type type, uint64_t epoch) {
    return (struct replica_message){.type = type,
                                    .from = from,
                                    .to = to,
                                    .from_incarnation = world->nodes[from].incarnation,
                                    .replica_id = 10 + to,
                                    .epoch = epoch};
}

static void end_leader(struct world *world, uint32_t id) {
    world_crash(world, id);
    for (uint32_t other = 1; other <= world->count; other++) {
        if (!world->nodes[other].up) continue;
        world_tell(world, other, (struct replica_event){.type = REPLICA_PEER_DOWN, .peer = id});
    }
}

/* ---- R5: the start of an epoch ---- */

static void test_nothing_is_served_before_a_map(void **state) {
    (void)state;
    struct world *world = world_new(1, 1);
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    assert_int_equal(world_read(world, 1), SK_NOT_LEADER);
    world_free(world);
}

/* An empty entry first; nothing is served before it is committed and, with all that lies before it, executed. */
static void test_r5_the_first_entry_comes_before_service(void **state) {
    (void)state;
    struct world *world = world_new(2, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].idle = true;
    world_wait(world, 1000000); /* past what it counts as promised */
    world_publish(world);
    assert_int_equal(leader->role, REPLICA_STARTING);
    world_settle(world);
    assert_int_equal(leader->commit_index, 1);
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    assert_int_equal(world_read(world, 1), SK_NOT_LEADER);
    assert_false(replica_may_answer(leader, 1));
    world_execute(world, 1);
    assert_int_equal(leader->role, REPLICA_LEADER);
    assert_int_equal(world_write(world, 1), SK_OK);
    assert_true(replica_may_answer(leader, 1));
    world_free(world);
}

/* Three entries of epoch 1 are on all disks, and nobody but their leader knows that they are committed; node 2 leads next,
 * with nothing promised, and has been told that node 3 has them. */
static struct world *world_with_old_entries(void) {
    struct world *world = world_serving(3, 2);
    for (uint32_t i = 0; i < 3; i++) world_write(world, 1);
    world_flush(world, 1);
    for (uint32_t id = 2; id <= 3; id++) {
        struct mail append = world_expect(world, 1, id, REPLICA_APPEND);
        world_hand(world, &append);
        world_sync(world, id);
    }
    world_lose_mail(world);
    world_crash(world, 1);
    world_wait(world, 1000000);
    world->record.isr_count = ids_without(world->record.isr, 3, 1, world->record.isr);
    record_set_leader(world, 2);
    world_decree(world);
    world_sync(world, 2);
    world_flush(world, 2);
    struct mail open = world_expect(world, 2, 3, REPLICA_OPEN);
    world_hand(world, &open);
    world_sync(world, 3);
    world_flush(world, 3);
    struct mail ack = world_expect(world, 3, 2, REPLICA_ACK);
    world_hand(world, &ack);
    world_lose_mail(world);
    return world;
}

/* What earlier epochs have left is committed with the first entry of this one, not before: who led them may come back
 * with more (Raft, figure 8). */
static void test_r5_old_entries_wait_for_the_new_epoch(void **state) {
    (void)state;
    struct world *world = world_with_old_entries();
    struct replica *leader = world_replica(world, 2);
    uint64_t old = leader->first_of_epoch - 1;
    assert_int_equal(old, leader->commit_index + 3);
    world_sync(world, 2);
    world_tell(world, 2,
               (struct replica_event){.type = REPLICA_TICK}); /* node 3 has the old ones, not the first */
    assert_int_equal(leader->progress[2].match_index, old);
    assert_int_equal(leader->commit_index, old - 3);
    world_settle(world);
    assert_int_equal(leader->commit_index, old + 1);
    world_free(world);
}

/* And it is executed before anything is served: a read would miss it, and a repeat be done twice. */
static void test_r5_old_entries_are_executed_before_service(void **state) {
    (void)state;
    struct world *world = world_with_old_entries();
    struct replica *leader = world_replica(world, 2);
    world->nodes[2].idle = true;
    world_settle(world);
    assert_int_equal(leader->commit_index, leader->first_of_epoch);
    while (leader->applied_index < leader->commit_index) {
        assert_int_equal(world_read(world, 2), SK_NOT_LEADER);
        assert_int_equal(world_write(world, 2), SK_NOT_LEADER);
        node_tell_only(world, 2,
                       (struct replica_event){.type = REPLICA_EXECUTED, .index = leader->applied_index + 1});
    }
    assert_int_equal(world_read(world, 2), SK_OK);
    world_free(world);
}

/* The first entry could not be appended: it is asked for until it can, and nobody is told that a leader is there. */
static void test_r5_the_first_entry_is_asked_for_again(void **state) {
    (void)state;
    struct world *world = world_new(1, 1);
    world->nodes[1].full = true;
    world_publish(world);
    world_pass(world, 100000);
    assert_int_equal(world_replica(world, 1)->last_index, 0);
    world->nodes[1].full = false;
    world_pass(world, 1000000);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_LEADER);
    assert_int_equal(world_replica(world, 1)->last_index, 1);
    world_free(world);
}

/* It is appended when enough others have opened the epoch; before that it could only make the logs differ. */
static void test_r5_the_first_entry_waits_for_followers(void **state) {
    (void)state;
    struct world *world = world_new(3, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[2].paused = world->nodes[3].paused = true;
    world_publish(world);
    world_pass(world, 1000000);
    assert_int_equal(leader->last_index, 0);
    assert_int_equal(leader->stored_epoch, 1);
    world->nodes[2].paused = false;
    world_pass(world, 100000);
    assert_int_equal(leader->last_index, 1);
    assert_int_equal(leader->first_of_epoch, 1);
    world->nodes[3].paused =
        false; /* the table that it was sent while nothing was appended said where it would begin */
    world_pass(world, 1000000);
    assert_int_equal(world_replica(world, 3)->last_index, 1);
    world_free(world);
}

/* R22: a leader that cannot append it sends no beacons: others lead. */
static void test_r5_who_cannot_append_it_does_not_lead_for_long(void **state) {
    (void)state;
    struct world *world = world_new(3, 2);
    world_publish(world);
    world_sync(world, 1);
    world->nodes[1].full = true;
    world_settle(world);
    assert_int_equal(world_replica(world, 1)->progress[1].state, PROGRESS_STREAM);
    assert_int_equal(world_replica(world, 1)->last_index, 0);
    world_pass(world, 2000000);
    assert_int_not_equal(world->record.leader, 1);
    world_free(world);
}

/* R15 as well: whoever is made leader waits out its own promise before it commits, answers or takes anybody in. */
static void test_r5_nothing_before_the_own_promise_has_run_out(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    /* node 3 is out of the in-sync set, and level when 2 takes over */
    world->record.isr_count = 2;
    world_decree(world);
    world_replica(world, 1)->progress[2].join_us = UINT64_MAX;
    world_pass(world, 500000);
    uint64_t promised_us = world_replica(world, 2)->promise_until_us;
    assert_true(promised_us > world->now_us);
    end_leader(world, 1);
    world->record.min_isr = 1;
    world->record.isr[0] = 2;
    world->record.isr_count = 1;
    record_set_leader(world, 2);
    world->record.config_version++;
    world->nodes[2].asks = 0;
    world_publish(world);
    struct replica *leader = world_replica(world, 2);
    while (world->now_us + TICK_US < promised_us) {
        world_pass(world, TICK_US);
        assert_int_equal(leader->role, REPLICA_STARTING);
        assert_true(leader->commit_index < leader->first_of_epoch);
        assert_int_equal(world->nodes[2].asks, 0);
    }
    world_pass(world, 3 * TICK_US);
    assert_int_equal(leader->role, REPLICA_LEADER);
    assert_true(world_in_isr(world, 3));
    world_free(world);
}

/* ---- R6: a restart ends leadership ---- */

static void test_r6_only_the_named_process_leads(void **state) {
    (void)state;
    struct world *world = world_new(1, 1);
    world->record.leader_incarnation = 99;
    world_publish(world);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_FOLLOWER);
    assert_int_equal(world->nodes[1].became_leader, 0);
    world_free(world);
}

/* It leads again in a new epoch only. */
static void test_r6_a_restarted_leader_begins_a_new_epoch(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    world_write(world, 1);
    world_settle(world);
    struct map_shard old = world->record;
    world_crash(world, 1);
    world_start(world, 1);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_CONFIG, .config = &old});
    assert_int_equal(world_replica(world, 1)->role, REPLICA_FOLLOWER);
    record_set_leader(world, 1);
    world_decree(world);
    world_pass(world, 1000000);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_LEADER);
    assert_int_equal(world_replica(world, 1)->last_epoch, 2);
    world_free(world);
}

/* A leader sends before its own sync but counts itself only after it. */
static void test_r6_the_own_sync_counts(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].stuck = true;
    world_write(world, 1);
    world_settle(world);
    assert_int_equal(leader->progress[1].match_index, leader->last_index);
    assert_int_equal(leader->commit_index, leader->last_index - 1);
    world_sync(world, 1);
    assert_int_equal(leader->commit_index, leader->last_index);
    world_free(world);
}

/* ---- R8, R9: what an answer may say ---- */

static void test_r8_no_answer_after_another_leads(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *leader = world_replica(world, 1);
    world_write(world, 1);
    assert_true(replica_may_answer(leader, 1));
    record_set_leader(world, 2);
    world->record.config_version++;
    assert_true(world_configure(world, 1)->stepped_down);
    assert_false(replica_may_answer(leader, 1));
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    world_free(world);
}

/* Led again, but in another epoch: what was appended in the old one is "unknown". */
static void test_r8_a_new_epoch_of_the_same_leader(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    record_set_leader(world, 1);
    world->record.config_version++;
    struct replica_effects *effects = world_configure(world, 1);
    assert_true(effects->stepped_down && effects->became_leader);
    world_settle(world);
    assert_false(replica_may_answer(world_replica(world, 1), 1));
    assert_true(replica_may_answer(world_replica(world, 1), 2));
    world_free(world);
}

/* A refusal is "surely not done": nothing is appended. What is appended is never refused afterwards: when the reign ends
 * before its commit, whoever waits is told that its fate is unknown. */
static void test_r9_refused_or_unknown(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *leader = world_replica(world, 1);
    world->record.min_isr = 3;
    world_decree(world);
    uint64_t last = leader->last_index;
    struct replica_effects *effects = world_tell(world, 1, (struct replica_event){.type = REPLICA_WRITE});
    assert_int_equal(effects->refused, SK_UNAVAILABLE);
    assert_int_equal(effects->append, REPLICA_ENTRY_NONE);
    world->record.min_isr = 2;
    world_decree(world);
    assert_int_equal(world_write(world, 1), SK_OK);
    assert_int_equal(leader->last_index, last + 1);
    record_set_leader(world, 2);
    world->record.config_version++;
    effects = world_configure(world, 1);
    assert_true(effects->stepped_down);
    assert_int_equal(leader->last_index, last + 1);
    effects = world_tell(world, 1, (struct replica_event){.type = REPLICA_WRITE});
    assert_int_equal(effects->refused, SK_NOT_LEADER);
    assert_int_equal(effects->append, REPLICA_ENTRY_NONE);
    world_free(world);
}

/* R23: after a failed sync nothing is acknowledged, answered or led any more. */
static void test_r23_a_failed_disk_ends_it(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_write(world, 1);
    assert_true(world_tell(world, 1, (struct replica_event){.type = REPLICA_FAIL})->stepped_down);
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    assert_int_equal(world_write(world, 1), SK_UNAVAILABLE);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK});
    world_flush(world, 1);
    record_set_leader(world, 1);
    world_decree(world);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_FAILED);
    assert_int_equal(world->mails, 0);
    world_free(world);
}

/* ---- R14, R15, R16: reads ---- */

/* A process that stands still between two reads finds its lease gone at the second, without any tick between them. */
static void test_r14_each_read_looks_at_the_time(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    assert_int_equal(world_read(world, 1), SK_OK);
    world_wait(world, 5000000);
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    world_free(world);
}

/* The lease counts from the sending of the beacon, by the leader's clock, not from when its answer came. */
static void test_r15_a_lease_counts_from_the_sending(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *leader = world_replica(world, 1);
    uint64_t before_us = leader->progress[1].answered_us;
    while (world->mails == 0) world_tick(world);
    struct mail beacon = world_expect(world, 1, 2, REPLICA_BEACON);
    uint64_t sent_us = world->now_us;
    assert_true(sent_us > before_us);
    world_wait(world, 300000);
    world_hand(world, &beacon);
    struct mail promise = world_expect(world, 2, 1, REPLICA_PROMISE);
    world_wait(world, 100000);
    world_hand(world, &promise);
    assert_int_equal(replica_lease_until_us(leader), sent_us + LEASE_US);
    world_wait(world, sent_us + LEASE_US - 1 - world->now_us);
    assert_int_equal(world_read(world, 1), SK_OK);
    world_wait(world, 1);
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    world_free(world);
}

/* Of several answers the latest sent beacon counts; one of another epoch, or that claims the future, counts not at all. */
static void test_r15_which_answers_count(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *leader = world_replica(world, 1);
    uint64_t answered_us = leader->progress[1].answered_us;
    struct replica_message promise = from_leader(world, 2, 1, REPLICA_PROMISE, 1);
    promise.replica_id = 12;
    promise.durable_index = promise.last_index = leader->last_index;
    promise.sent_us = answered_us - 200000; /* late, on an old connection */
    world_hand_message(world, promise);
    assert_int_equal(leader->progress[1].answered_us, answered_us);
    promise.sent_us = world->now_us + 1;
    world_hand_message(world, promise);
    assert_int_equal(leader->progress[1].answered_us, answered_us);
    world_wait(world, 50000);
    promise.sent_us = world->now_us;
    promise.epoch = 2;
    world_hand_message(world, promise);
    assert_int_equal(leader->progress[1].answered_us, answered_us);
    promise.epoch = 1;
    promise.from_incarnation = 1; /* an earlier process */
    world_hand_message(world, promise);
    assert_int_equal(leader->progress[1].answered_us, answered_us);
    promise.from_incarnation = world->nodes[2].incarnation;
    world_hand_message(world, promise);
    assert_int_equal(leader->progress[1].answered_us, world->now_us);
    world_free(world);
}

/* Every member of the widest set has to have answered; whoever is proposed for it counts at once (R3). */
static void test_r15_every_member_of_the_widest_set(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].mute = true; /* nobody can be put out */
    world_cut_off(world, 1, 3);
    world->nodes[3].mute = true;
    world_pass(world, 300000);
    assert_int_equal(world_read(world, 1), SK_OK);
    world_pass(world, 400000);
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    world->record.isr_count = 2; /* confirmed: node 3 is out, and cannot lead */
    world_decree(world);
    assert_int_equal(world_read(world, 1), SK_OK);
    leader->proposed = 1u << 2;
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    world_free(world);
}

/* The answer is a promise, and lasts from the beacon's arrival: longer than the lease that it gives. */
static void test_r15_an_answer_is_a_promise(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *follower = world_replica(world, 2);
    world_wait(world, 50000);
    struct replica_message beacon = from_leader(world, 1, 2, REPLICA_BEACON, 1);
    beacon.sent_us = world->now_us - 400000; /* it was long under way */
    struct replica_effects *effects = world_hand_message(world, beacon);
    assert_int_equal(effects->sends[0].message.type, REPLICA_PROMISE);
    assert_int_equal(effects->sends[0].message.sent_us, beacon.sent_us);
    assert_int_equal(follower->promise_until_us, world->now_us + GRACE_US);
    /* a beacon of an epoch that is not its own gets a refusal, and no promise */
    uint64_t until_us = follower->promise_until_us;
    world_wait(world, 10000);
    beacon.epoch = 2;
    effects = world_hand_message(world, beacon);
    assert_int_equal(effects->sends[0].message.type, REPLICA_REFUSAL);
    assert_int_equal(follower->promise_until_us, until_us);
    world_free(world);
}

/* A restarted process has forgotten what it had promised: it counts as having promised at its start, also when metad's
 * record says that it leads. */
static void test_r15_a_restart_counts_as_a_promise(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_crash(world, 2);
    world->record.isr_count = 1;
    world->record.isr[0] = 2;
    world->record.min_isr = 1;
    world->record.leader = 2;
    world_restart(world, 2);
    uint64_t start_us = world->now_us;
    struct replica *leader = world_replica(world, 2);
    world->nodes[1].paused = true;
    while (world->now_us < start_us + GRACE_US - TICK_US) {
        world_pass(world, TICK_US);
        assert_int_equal(leader->role, REPLICA_STARTING);
    }
    world_pass(world, 2 * TICK_US);
    assert_int_equal(leader->role, REPLICA_LEADER);
    world_free(world);
}

/* A leader that stood still for seconds wakes up fenced, and the one after it serves only when its lease was gone. */
static void test_r15_a_stopped_leader_wakes_up_fenced(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *old = world_replica(world, 1);
    uint64_t lease_us = replica_lease_until_us(old);
    world->nodes[1].paused = true;
    while (world_replica(world, 2)->role != REPLICA_LEADER && world_replica(world, 3)->role != REPLICA_LEADER) {
        world_pass(world, TICK_US);
        assert_true(world->now_us < BEGIN_US + 10000000);
    }
    assert_true(world->now_us >= lease_us);
    assert_int_equal(world_read(world, world->record.leader), SK_OK);
    world->nodes[1].paused = false;
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    assert_int_equal(world_write(world, 1), SK_OK); /* which is never committed */
    uint64_t tail = old->last_index;
    world_pass(world, 1000000);
    assert_true(old->role == REPLICA_FOLLOWER && old->last_index < tail + 2);
    world_assert_agree(world);
    world_free(world);
}

/* Alone, with nobody eligible, no one else can lead: reads go on. */
static void test_r16_alone(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    world_wait(world, 60000000);
    assert_int_equal(world_read(world, 1), SK_OK);
    world_free(world);
}

static void test_r16_with_somebody_eligible(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->record.isr_count = 1;
    world->record.eligible_count = 2;
    world->record.eligible[0] = 2;
    world->record.eligible[1] = 3;
    world_decree(world);
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    world_free(world);
}

/* Also if others are in the set and answer: who claims from outside it becomes its only member, and needs none of them. */
static void test_r16_with_others_and_somebody_eligible(void **state) {
    (void)state;
    struct world *world = world_serving(5, 3);
    world->record.isr_count = 2;
    world->record.eligible_count = 1;
    world->record.eligible[0] = 3;
    world->nodes[1].mute = true;
    world_decree(world);
    world_pass(world, 200000);
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    world->record.eligible_count = 0;
    world_decree(world);
    assert_int_equal(world_read(world, 1), SK_OK);
    world_free(world);
}

/* ---- claims ---- */

static void test_a_silent_leader_is_followed_by_another(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].paused = true;
    world_pass(world, 600000);
    assert_int_equal(world->record.leader, 1);
    world_pass(world, 300000);
    assert_int_not_equal(world->record.leader, 1);
    assert_int_equal(world->record.leader_epoch, 2);
    assert_false(world_in_isr(world, 1));
    world_free(world);
}

/* A leader that is started again and again and never heard of keeps nobody from claiming, though each start is an epoch. */
static void test_a_leader_that_dies_again_and_again_is_followed(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].paused = true;
    for (uint32_t i = 0; i < 9 && world->record.leader == 1; i++) {
        world->record.leader_epoch++;
        world->record.leader_incarnation = ++world->next_incarnation;
        world_decree(world);
        world_pass(world, 100000);
    }
    assert_int_not_equal(world->record.leader, 1);
    world_free(world);
}

/* Sooner if its connection is gone, too; who leads then still waits for its own promise. */
static void test_a_leader_whose_connection_is_gone_is_followed_sooner(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    end_leader(world, 1);
    world_pass(world, 400000);
    uint32_t next = world->record.leader;
    assert_int_not_equal(next, 1);
    assert_int_equal(world_replica(world, next)->role, REPLICA_STARTING);
    world_pass(world, 400000);
    assert_int_equal(world_replica(world, next)->role, REPLICA_LEADER);
    world_free(world);
}

/* Two replicas that cannot reach each other, but metad: each claims after the other, again and again. Their logs may not
 * grow apart by more epochs than are remembered, or none could ever follow the other again (R7). */
static void test_r5_two_that_claim_in_turns_find_together_again(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_write(world, 1);
    world_cut_off(world, 1, 2);
    world_pass(world, 120000000);
    assert_true(world->record.leader_epoch > 2 * EPOCHS_MAX);
    world_join(world, 1, 2);
    world_pass(world, 3000000);
    assert_null(world->nodes[1].failed);
    assert_null(world->nodes[2].failed);
    assert_int_equal(world_replica(world, world->record.leader)->role, REPLICA_LEADER);
    assert_int_equal(world_write(world, world->record.leader), SK_OK);
    world_settle(world);
    world_assert_agree(world);
    world_free(world);
}

/* R18: a claim names the record that it was decided on, and is not asked for in every tick. */
static void test_r18_claims_name_their_record(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world->nodes[1].paused = true;
    world->nodes[2].mute = true;
    world_pass(world, 800000);
    assert_int_equal(world->nodes[2].asked.kind, REPLICA_CHANGE_CLAIM);
    assert_int_equal(world->nodes[2].asked.config_version, world->record.config_version);
    assert_int_equal(world->nodes[2].asked.leader_epoch, 1);
    assert_int_equal(world->nodes[2].asks, 1);
    world_free(world);
}

/* Only who holds everything committed: by metad's record, and as the stay that the record names. */
static void test_r11_who_may_claim(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].paused = true;
    world->nodes[2].mute = world->nodes[3].mute = true;
    world->record.isr_count = 2; /* 3 is out */
    world_decree(world);
    world_pass(world, 2000000);
    assert_true(world->nodes[2].asks > 0);
    assert_int_equal(world->nodes[3].asks, 0);
    world->record.isr_count = 1; /* 2 is eligible */
    world->record.eligible[world->record.eligible_count++] = 2;
    world_decree(world);
    world->nodes[2].asks = 0;
    world_pass(world, 2000000);
    assert_true(world->nodes[2].asks > 0);
    world->record.replicas[1].replica_id = 99; /* another stay than this one */
    world_decree(world);
    world->nodes[2].asks = 0;
    world_pass(world, 2000000);
    assert_int_equal(world->nodes[2].asks, 0);
    world_free(world);
}

/* R22: who cannot write cannot lead. */
static void test_r22_a_hanging_disk_claims_nothing(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world->nodes[2].mute = true;
    world->nodes[2].stuck = true;
    world_write(world, 1);
    world_settle(world);
    world->nodes[1].paused = true;
    world_pass(world, 2000000);
    assert_int_equal(world->nodes[2].asks, 0);
    world_sync(world, 2);
    world_pass(world, 100000);
    assert_true(world->nodes[2].asks > 0);
    world_free(world);
}

/* It was the follower that stood still: what it has not heard may lie in its queue. */
static void test_who_stood_still_hears_first(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world->nodes[2].paused = world->nodes[2].mute = true;
    world_wait(world, 5000000);
    world->nodes[2].paused = false;
    world_tell(world, 2, (struct replica_event){.type = REPLICA_TICK});
    assert_int_equal(world->nodes[2].asks, 0);
    world_free(world);
}

/* ---- R20: hand-over ---- */

static void wish(struct world *world, uint32_t to) {
    world->record.wanted_leader = to;
    world_decree(world);
}

/* Writes stop, all become level, metad changes the leader, its success is known, the promises are void: no gap. */
static void test_r20_a_hand_over_leaves_no_gap(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world_write(world, 1);
    wish(world, 2);
    world_pass(world, 50000);
    assert_int_equal(world->record.leader, 2);
    assert_int_equal(world_replica(world, 2)->role, REPLICA_LEADER);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_FOLLOWER);
    assert_int_equal(world_read(world, 2), SK_OK);
    assert_int_equal(world_write(world, 2), SK_OK);
    world_pass(world, 200000);
    assert_int_equal(world->record.isr_count, 3);
    world_assert_agree(world);
    world_free(world);
}

/* Not before every member is level, and no write comes in between. */
static void test_r20_everybody_levels_first(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].stuck = true;
    world_write(world, 1);
    wish(world, 2);
    world_pass(world, 200000);
    assert_int_equal(world->record.leader, 1);
    assert_int_equal(world->nodes[1].asks, 0);
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    assert_int_equal(world_tell(world, 1, (struct replica_event){.type = REPLICA_SWEEP})->refused, SK_NOT_LEADER);
    assert_int_equal(world_read(world, 1), SK_OK);
    world->nodes[3].stuck = false;
    world_pass(world, 100000);
    assert_int_equal(world->record.leader, 2);
    world_free(world);
}

/* Writes wait for it, so it is asked for as soon as the last one has what was written, not in a tick. */
static void test_r20_asked_for_when_the_last_is_level(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    world->nodes[3].stuck = true;
    assert_int_equal(world_write(world, 1), SK_OK);
    wish(world, 2);
    world_tick(world);
    world_settle(world);
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    assert_int_equal(world->nodes[1].asks, 0);
    world->nodes[3].stuck = false;
    world_settle(world);
    assert_int_equal(world->nodes[1].asks, 1);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_HANDOVER);
    world_free(world);
}

/* Only a serving leader hands over, and to a member that answers. */
static void test_r20_who_hands_over_to_whom(void **state) {
    (void)state;
    struct world *world = world_new(3, 2);
    world->record.wanted_leader = 2;
    world_publish(world);
    world_pass(world, 500000); /* its promise from its start holds it */
    assert_int_equal(world_replica(world, 1)->role, REPLICA_STARTING);
    assert_int_equal(world->record.leader, 1);
    world_free(world);

    world = world_serving(3, 2);
    world->record.isr_count = 2;
    wish(world, 3); /* is in no set */
    world_replica(world, 1)->progress[2].join_us = UINT64_MAX;
    world_pass(world, 500000);
    assert_int_equal(world->record.leader, 1);
    assert_int_equal(world_write(world, 1), SK_OK);
    world_settle(world);
    world->nodes[2].paused = true;
    world_pass(world, 600000);
    wish(world, 2);
    world_pass(world, 100000);
    assert_int_equal(world->record.leader, 1);
    assert_int_equal(world_write(world, 1), SK_OK);
    world_free(world);
}

/* Refused by metad, or something else came first: the old leader goes on. */
static void test_r20_given_up_if_metad_refuses(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    wish(world, 2);
    world_pass(world, 100000);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_HANDOVER);
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    world->record.wanted_leader = 0;
    world_decree(world); /* a higher version under the same leader: the request can no more be done */
    assert_int_equal(world_write(world, 1), SK_OK);
    world_settle(world);
    assert_false(world_replica(world, 2)->promise_until_us <= world->now_us);
    world_free(world);
}

/* Somebody does not level: after 500 ms the wish is given back, and writes go on before that is confirmed. */
static void test_r20_given_up_after_a_while(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    world->nodes[3].stuck = true;
    world_write(world, 1);
    wish(world, 2);
    world_pass(world, 450000);
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    world_pass(world, 150000);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_STAY);
    assert_int_equal(world_write(world, 1), SK_OK);
    uint32_t asks = world->nodes[1].asks;
    world_pass(world, 300000);
    assert_in_range(world->nodes[1].asks, asks + 2, asks + 4);
    world->nodes[1].mute = false;
    world_pass(world, 200000);
    assert_int_equal(world->record.wanted_leader, 0);
    assert_int_equal(world->record.leader, 1);
    world_free(world);
}

/* An unknown outcome means no release. The new leader then waits for its promise, as after a crash. */
static void test_r20_an_unknown_outcome_releases_nothing(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = world->nodes[1].deaf = true;
    wish(world, 2);
    struct map_shard record = world->record;
    world_tell(world, 1, (struct replica_event){.type = REPLICA_CONFIG, .config = &record});
    world_pass(world, 50000);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_HANDOVER);
    uint64_t until_us = world_replica(world, 2)->promise_until_us;
    assert_true(
        world_change(world, 1, &world->nodes[1].asked)); /* metad has done it; node 1 does not hear of it */
    world->nodes[1].asks_now = false;
    world_publish(world);
    world_pass(world, 100000);
    assert_int_equal(world_replica(world, 2)->role, REPLICA_STARTING);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_FOLLOWER); /* it has seen the new epoch */
    assert_int_equal(world_replica(world, 2)->promise_until_us, until_us);
    /* when it hears of it, it never serves that epoch again: the promises are void */
    world_configure(world, 1);
    world_settle(world);
    assert_true(world_replica(world, 2)->promise_until_us <= world->now_us);
    world_pass(world, TICK_US);
    assert_int_equal(world_replica(world, 2)->role, REPLICA_LEADER);
    world_free(world);
}

/* R21: metad goes away while the hand-over is asked for. What came of it is not known for long; writes go on all the
 * same. When it shows that it has happened, the epoch ends as it would have. */
static void test_r20_an_outage_of_metad_stops_no_writes(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    wish(world, 2);
    world_pass(world, 50000);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_HANDOVER);
    struct replica_change handover = world->nodes[1].asked;
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    world_pass(world, 600000);
    assert_int_equal(world_write(world, 1), SK_OK);
    world_settle(world);
    struct replica *old = world_replica(world, 1), *next = world_replica(world, 2);
    assert_int_equal(old->commit_index, old->last_index);
    assert_int_equal(world_read(world, 1), SK_OK);
    assert_true(next->promise_until_us > world->now_us);
    assert_true(world_change(world, 1, &handover));
    world->nodes[1].asks_now = false;
    world_publish(world);
    world_settle(world);
    world_pass(world, TICK_US);
    assert_int_equal(old->role, REPLICA_FOLLOWER);
    assert_int_equal(next->role, REPLICA_LEADER);
    world_assert_agree(world);
    world_free(world);
}

/* A record that shows another's reign than the one that was asked for releases nothing. */
static void test_r20_only_the_own_hand_over_releases(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    wish(world, 2);
    world_pass(world, 50000);
    record_set_leader(world, 3); /* it had claimed */
    world->record.config_version++;
    world_configure(world, 1);
    assert_int_equal(world->mails, 0);
    world_free(world);

    world = world_serving(3, 2);
    world->nodes[1].mute = true;
    wish(world, 2);
    world_pass(world, 50000);
    record_set_leader(world, 2); /* it was handed over, and it has restarted since: maps may skip versions */
    record_set_leader(world, 2);
    world->record.config_version += 2;
    world_configure(world, 1);
    assert_int_equal(world->mails, 0);
    world_free(world);
}

/* RELEASE is before the record at the next leader: an old beacon that comes after it gets no promise any more. */
static void test_r20_a_release_ends_the_epoch(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *next = world_replica(world, 2);
    assert_true(next->promise_until_us > world->now_us);
    world_hand_message(world, from_leader(world, 1, 2, REPLICA_RELEASE, 1));
    assert_true(next->promise_until_us <= world->now_us);
    struct replica_effects *effects = world_hand_message(world, from_leader(world, 1, 2, REPLICA_BEACON, 1));
    assert_int_equal(effects->sends[0].message.type, REPLICA_REFUSAL);
    assert_true(next->promise_until_us <= world->now_us);
    world_lose_mail(world);
    world->nodes[1].paused = true;
    world->record.isr_count = ids_without(world->record.isr, 3, 1, world->record.isr);
    record_set_leader(world, 2);
    world_decree(world);
    world_settle(world);
    assert_int_equal(next->role, REPLICA_LEADER);
    world_free(world);
}

/* A RELEASE that comes late, when something was promised in a later epoch, is about none of that. */
static void test_r20_a_late_release_frees_no_later_promise(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    wish(world, 2);
    world_pass(world, 300000);
    assert_int_equal(world->record.leader, 2);
    struct replica *follower = world_replica(world, 3);
    uint64_t until_us = follower->promise_until_us;
    assert_int_equal(follower->promised_epoch, 2);
    world_hand_message(world, from_leader(world, 1, 3, REPLICA_RELEASE, 1));
    assert_int_equal(follower->promise_until_us, until_us);
    /* nor after a restart, when only the stored epoch tells: its predecessor had promised in it */
    world_crash(world, 3);
    world_start(world, 3);
    until_us = follower->promise_until_us;
    follower->seen_epoch = 3;
    world_hand_message(world, from_leader(world, 1, 3, REPLICA_RELEASE, 1));
    assert_int_equal(follower->promise_until_us, until_us);
    world_free(world);
}

/* ---- R26: time ---- */

static void test_r26_time_never_goes_back(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    struct replica *leader = world_replica(world, 1);
    uint64_t first_us = replica_time_us(leader, world->now_us);
    world_wait(world, 30000);
    assert_int_equal(replica_time_us(leader, world->now_us), first_us + 30000); /* by CLOCK_BOOTTIME */
    world_write(world, 1);
    assert_int_equal(leader->last_time_us, first_us + 30000);
    world->nodes[1].wall_offset_us = -3600000000; /* within an epoch nobody looks at the wall clock */
    world_wait(world, 10000);
    struct replica_effects *effects = world_tell(world, 1, (struct replica_event){.type = REPLICA_READ});
    assert_int_equal(effects->time_us, first_us + 40000);
    /* and what a read has shown as expired stays so */
    leader->epoch_wall_us -= 1000000;
    world_write(world, 1);
    assert_true(leader->last_time_us >= first_us + 40000);
    world_free(world);
}

/* A new leader begins no lower than the highest time it has seen plus grace, however late its own clock is. */
static void test_r26_a_new_leader_starts_behind_what_was_shown(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    for (uint32_t id = 2; id <= 3; id++) world->nodes[id].wall_offset_us = -3600000000;
    world_write(world, 1);
    world_pass(world, 200000);
    uint64_t seen_us = world_replica(world, 2)->last_time_us;
    assert_true(seen_us >= WALL_ZERO_US);
    world->nodes[1].paused = true;
    world_pass(world, 2000000);
    struct replica *next = world_replica(world, world->record.leader);
    assert_ptr_not_equal(next, world_replica(world, 1));
    assert_int_equal(next->epoch_wall_us, seen_us + GRACE_US);
    world_free(world);
}

/* Lanes tick less often where all are: whoever misses its leader, or waits to serve, is not. */
static void test_settled_while_the_leader_is_heard(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world_pass(world, 500000);
    for (uint32_t id = 1; id <= 3; id++) assert_true(replica_is_settled(world_replica(world, id), world->now_us));
    uint32_t dead = world->record.leader;
    end_leader(world, dead);
    uint64_t heard_us = world_replica(world, dead % 3 + 1)->heard_us;
    while (world->now_us < heard_us + 2 * BEACON_US) world_pass(world, TICK_US);
    for (uint32_t id = 1; id <= 3; id++) {
        if (id != dead) assert_false(replica_is_settled(world_replica(world, id), world->now_us));
    }
    while (world->record.leader == dead) world_pass(world, TICK_US);
    const struct replica *next = world_replica(world, world->record.leader);
    assert_false(replica_is_settled(next, world->now_us));
    while (next->role != REPLICA_LEADER) world_pass(world, TICK_US);
    assert_true(replica_is_settled(next, world->now_us));
    world_free(world);
}

/* Each leader begins ahead of the one before it. That does not add up: within a while time is that of the clock again. */
static void test_r26_time_comes_back_to_the_clock(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    for (int change = 0; change < 5; change++) {
        uint32_t dead = world->record.leader;
        end_leader(world, dead);
        while (world->record.leader == dead) world_pass(world, TICK_US);
        while (world_replica(world, world->record.leader)->role != REPLICA_LEADER) world_pass(world, TICK_US);
        world_restart(world, dead);
        for (uint32_t other = 1; other <= world->count; other++) {
            if (other == dead) continue;
            world_tell(world, other, (struct replica_event){.type = REPLICA_PEER_UP, .peer = dead});
        }
        while (!world_in_isr(world, dead)) world_pass(world, TICK_US);
        struct node *node = &world->nodes[world->record.leader];
        assert_true(node->replica.epoch_ahead_us > 0);
        uint64_t before_us = replica_time_us(&node->replica, world->now_us);
        world_wait(world, 800000);
        assert_int_equal(replica_time_us(&node->replica, world->now_us),
                         before_us + 700000); /* by an eighth slower */
        world_pass(world, 8 * node->replica.epoch_ahead_us);
        assert_int_equal(replica_time_us(&node->replica, world->now_us), node_wall_us(world, node));
    }
    world_free(world);
}

/* What a read has shown as expired stays so, also if nothing was written for long and the next leader's clock is late: a
 * read is served by the answer to a beacon that was sent less than a lease ago, and carried the time. */
static void test_r26_reads_of_an_idle_leader_show_nothing_twice(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    for (uint32_t id = 2; id <= 3; id++) world->nodes[id].wall_offset_us = -3600000000;
    world_pass(world, 60000000);
    world_wait(world, TICK_US / 2);
    struct replica_effects *effects = world_tell(world, 1, (struct replica_event){.type = REPLICA_READ});
    assert_int_equal(effects->refused, SK_OK);
    uint64_t shown_us = effects->time_us;
    end_leader(world, 1);
    while (world->record.leader == 1) world_pass(world, TICK_US);
    while (world_replica(world, world->record.leader)->role != REPLICA_LEADER) world_pass(world, TICK_US);
    effects = world_tell(world, world->record.leader, (struct replica_event){.type = REPLICA_READ});
    assert_int_equal(effects->refused, SK_OK);
    assert_true(effects->time_us >= shown_us);
    world_free(world);
}

/* Also when all of them restart, and only the disk says what time it was: it went there a moment ago. The promise that a
 * restart counts as may be over before the map comes. */
static void test_r26_after_a_restart_of_all(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    struct node *node = &world->nodes[1];
    world_pass(world, 3000000);
    while (node->time_at_us != world->now_us) world_pass(world, TICK_US);
    world_pass(world, REPLICA_TIME_KEPT_US - TICK_US);
    assert_true(node->time_at_us < world->now_us);
    struct replica_effects *effects = world_tell(world, 1, (struct replica_event){.type = REPLICA_READ});
    assert_int_equal(effects->refused, SK_OK);
    uint64_t shown_us = effects->time_us;
    world_crash(world, 1);
    node->wall_offset_us = -3600000000;
    world_start(world, 1);
    world_wait(world, 1000000);
    record_set_leader(world, 1);
    world_decree(world);
    world_settle(world);
    effects = world_tell(world, 1, (struct replica_event){.type = REPLICA_READ});
    assert_int_equal(effects->refused, SK_OK);
    assert_true(effects->time_us >= shown_us);
    world_free(world);
}

static uint64_t time_of_read(struct world *world, uint32_t id) {
    struct replica_effects *effects = world_tell(world, id, (struct replica_event){.type = REPLICA_READ});
    assert_int_equal(effects->refused, SK_OK);
    return effects->time_us;
}

/* While nothing can be recorded reads go on, and their time stands still before a restart could fall behind it. */
static void test_r26_time_that_cannot_be_recorded_stands_still(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    struct node *node = &world->nodes[1];
    world_pass(world, 3000000);
    for (uint32_t i = 0; i < 300; i++) { /* as long as it can be, time goes on without a halt */
        world_pass(world, TICK_US);
        assert_int_equal(time_of_read(world, 1), replica_time_us(&node->replica, world->now_us));
    }
    node->full = true;
    world_pass(world, 10000000);
    uint64_t shown_us = time_of_read(world, 1);
    assert_int_equal(shown_us, node->time_us + REPLICA_TIME_AGE_US);
    world_crash(world, 1);
    node->wall_offset_us = -3600000000;
    node->full = false;
    world_start(world, 1);
    world_wait(world, 1000000);
    record_set_leader(world, 1);
    world_decree(world);
    world_settle(world);
    assert_true(time_of_read(world, 1) >= shown_us);
    world_free(world);
}

/* A follower that cannot record the time might lead next, with an old one: it answers no more and leaves the set, until it
 * can. */
static void test_r26_who_cannot_record_the_time_is_not_counted_on(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].full = true;
    world_pass(world, 10000000);
    assert_int_equal(world->record.isr_count, 2);
    assert_int_equal(world_read(world, 1), SK_OK);
    world->nodes[3].full = false;
    world_pass(world, 12000000);
    assert_int_equal(world->record.isr_count, 3);
    world_free(world);
}

/* A time that is far ahead, as after a pause of all, is recorded first; then the same beacon is answered. */
static void test_r26_a_beacon_is_answered_once_its_time_is_recorded(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct mail answer;
    struct replica_message beacon = from_leader(world, 1, 2, REPLICA_BEACON, 1);
    beacon.sent_us = 77;
    beacon.time_us = world_replica(world, 2)->recorded_time_us + REPLICA_TIME_AGE_US + 1;
    world_lose_mail(world);
    world_hand_message(world, beacon);
    world_flush(world, 2);
    assert_false(world_take(world, 2, 1, REPLICA_PROMISE, &answer));
    assert_true(world_replica(world, 2)->promise_until_us >= world->now_us + GRACE_US);
    world_tell(world, 2, (struct replica_event){.type = REPLICA_TICK, .time_us = beacon.time_us});
    world_flush(world, 2);
    answer = world_expect(world, 2, 1, REPLICA_PROMISE);
    assert_int_equal(answer.message.sent_us, 77);
    world_flush(world, 2);
    assert_false(world_take(world, 2, 1, REPLICA_PROMISE, &answer)); /* once */
    world_free(world);
}

/* It goes on with the first entry that is synced, or record of the time, and reads never fall behind entries. */
static void test_r26_time_goes_on_once_it_is_recorded(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    struct node *node = &world->nodes[1];
    node->full = true;
    world_pass(world, 10000000);
    uint64_t now_us = replica_time_us(&node->replica, world->now_us);
    assert_true(time_of_read(world, 1) < now_us);
    node->full = false;
    assert_int_equal(world_write(world, 1), SK_OK);
    assert_true(time_of_read(world, 1) < now_us); /* not synced yet */
    world_settle(world);
    assert_int_equal(time_of_read(world, 1), now_us);
    node->full = true;
    world_pass(world, 10000000);
    now_us = replica_time_us(&node->replica, world->now_us);
    assert_true(time_of_read(world, 1) < now_us);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK, .time_us = now_us});
    assert_int_equal(time_of_read(world, 1), now_us);
    world_free(world);
}

/* ---- R29: maps ---- */

static void test_r29_older_maps_are_ignored(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct map_shard old = world->record;
    wish(world, 0);
    old.leader = 2;
    old.leader_epoch = 9;
    struct replica_effects *effects =
        world_tell(world, 1, (struct replica_event){.type = REPLICA_CONFIG, .config = &old});
    assert_false(effects->stepped_down);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_LEADER);
    old.config_version = world->record.config_version; /* the same version says the same */
    effects = world_tell(world, 1, (struct replica_event){.type = REPLICA_CONFIG, .config = &old});
    assert_false(effects->stepped_down);
    assert_int_equal(world_replica(world, 1)->config.leader, 1);
    world_free(world);
}

/* A map that is newer in version and older in epoch than the log: nobody leads by it, and the shell is told. */
static void test_r29_a_log_of_a_later_epoch_than_metad_knows(void **state) {
    (void)state;
    struct world *world = world_serving(1, 1);
    world_crash(world, 1);
    world->record.leader_epoch = 6;
    world_restart(world, 1);
    world_settle(world);
    assert_int_equal(world_replica(world, 1)->stored_epoch, 7);
    world_crash(world, 1);
    world_start(world, 1);
    world->record.leader_epoch = 3; /* metad was set back */
    world->record.leader_incarnation = world->nodes[1].incarnation;
    world->record.config_version++;
    struct replica_effects *effects = world_configure(world, 1);
    assert_int_equal(effects->refused, SK_STALE_EPOCH);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_FOLLOWER);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_served_before_a_map),
        cmocka_unit_test(test_r5_the_first_entry_comes_before_service),
        cmocka_unit_test(test_r5_old_entries_wait_for_the_new_epoch),
        cmocka_unit_test(test_r5_old_entries_are_executed_before_service),
        cmocka_unit_test(test_r5_the_first_entry_is_asked_for_again),
        cmocka_unit_test(test_r5_the_first_entry_waits_for_followers),
        cmocka_unit_test(test_r5_who_cannot_append_it_does_not_lead_for_long),
        cmocka_unit_test(test_r5_nothing_before_the_own_promise_has_run_out),
        cmocka_unit_test(test_r6_only_the_named_process_leads),
        cmocka_unit_test(test_r6_a_restarted_leader_begins_a_new_epoch),
        cmocka_unit_test(test_r6_the_own_sync_counts),
        cmocka_unit_test(test_r8_no_answer_after_another_leads),
        cmocka_unit_test(test_r8_a_new_epoch_of_the_same_leader),
        cmocka_unit_test(test_r9_refused_or_unknown),
        cmocka_unit_test(test_r23_a_failed_disk_ends_it),
        cmocka_unit_test(test_r14_each_read_looks_at_the_time),
        cmocka_unit_test(test_r15_a_lease_counts_from_the_sending),
        cmocka_unit_test(test_r15_which_answers_count),
        cmocka_unit_test(test_r15_every_member_of_the_widest_set),
        cmocka_unit_test(test_r15_an_answer_is_a_promise),
        cmocka_unit_test(test_r15_a_restart_counts_as_a_promise),
        cmocka_unit_test(test_r15_a_stopped_leader_wakes_up_fenced),
        cmocka_unit_test(test_r16_alone),
        cmocka_unit_test(test_r16_with_somebody_eligible),
        cmocka_unit_test(test_r16_with_others_and_somebody_eligible),
        cmocka_unit_test(test_a_silent_leader_is_followed_by_another),
        cmocka_unit_test(test_a_leader_that_dies_again_and_again_is_followed),
        cmocka_unit_test(test_a_leader_whose_connection_is_gone_is_followed_sooner),
        cmocka_unit_test(test_r5_two_that_claim_in_turns_find_together_again),
        cmocka_unit_test(test_r18_claims_name_their_record),
        cmocka_unit_test(test_r11_who_may_claim),
        cmocka_unit_test(test_r22_a_hanging_disk_claims_nothing),
        cmocka_unit_test(test_who_stood_still_hears_first),
        cmocka_unit_test(test_r20_a_hand_over_leaves_no_gap),
        cmocka_unit_test(test_r20_everybody_levels_first),
        cmocka_unit_test(test_r20_asked_for_when_the_last_is_level),
        cmocka_unit_test(test_r20_who_hands_over_to_whom),
        cmocka_unit_test(test_r20_given_up_if_metad_refuses),
        cmocka_unit_test(test_r20_given_up_after_a_while),
        cmocka_unit_test(test_r20_an_unknown_outcome_releases_nothing),
        cmocka_unit_test(test_r20_an_outage_of_metad_stops_no_writes),
        cmocka_unit_test(test_r20_only_the_own_hand_over_releases),
        cmocka_unit_test(test_r20_a_release_ends_the_epoch),
        cmocka_unit_test(test_r20_a_late_release_frees_no_later_promise),
        cmocka_unit_test(test_r26_time_never_goes_back),
        cmocka_unit_test(test_r26_a_new_leader_starts_behind_what_was_shown),
        cmocka_unit_test(test_r26_time_comes_back_to_the_clock),
        cmocka_unit_test(test_r26_reads_of_an_idle_leader_show_nothing_twice),
        cmocka_unit_test(test_r26_after_a_restart_of_all),
        cmocka_unit_test(test_r26_time_that_cannot_be_recorded_stands_still),
        cmocka_unit_test(test_r26_who_cannot_record_the_time_is_not_counted_on),
        cmocka_unit_test(test_r26_a_beacon_is_answered_once_its_time_is_recorded),
        cmocka_unit_test(test_settled_while_the_leader_is_heard),
        cmocka_unit_test(test_r26_time_goes_on_once_it_is_recorded),
        cmocka_unit_test(test_r29_older_maps_are_ignored),
        cmocka_unit_test(test_r29_a_log_of_a_later_epoch_than_metad_knows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

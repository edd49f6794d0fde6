/* Stories about the in-sync set: what is committed on it, who joins it, who leaves it, and what is asked of metad. */
#include "shardd/replica_fixture.h"

static struct replica_message ack_of(const struct world *world, uint32_t from, uint64_t index) {
    return (struct replica_message){.type = REPLICA_ACK,
                                    .from = from,
                                    .to = 1,
                                    .from_incarnation = world->nodes[from].incarnation,
                                    .replica_id = 10 + from,
                                    .epoch = world->record.leader_epoch,
                                    .durable_index = index,
                                    .last_index = index};
}

static void peer_is(struct world *world, uint32_t id, uint32_t peer, bool up) {
    world_tell(world, id, (struct replica_event){.type = up ? REPLICA_PEER_UP : REPLICA_PEER_DOWN, .peer = peer});
}

static bool asks_for_isr(const struct world *world, uint32_t id, uint32_t a, uint32_t b, uint32_t c) {
    const struct replica_change *change = &world->nodes[id].asked;
    uint32_t wanted[] = {a, b, c}, count = c != 0 ? 3 : 2;
    if (change->kind != REPLICA_CHANGE_ISR || change->isr_count != count) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!ids_have(change->isr, count, wanted[i])) return false;
    }
    return true;
}

/* Node 3 is out of the in-sync set, connected and level; node 1 leads, and nothing it asks for reaches metad. */
static struct world *world_without_three(void) {
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    world->record.isr_count = 2;
    world_decree(world);
    return world;
}

/* ---- R1, R2, R3: what is committed ---- */

/* Every member has to have it: an old leader cannot commit once any other member has moved on. */
static void test_r1_every_member_must_have_it(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].mute = true;
    uint64_t commit = leader->commit_index;
    world_cut_off(world, 1, 3);
    world->nodes[3].mute = true;
    world_write(world, 1);
    world_settle(world);
    assert_int_equal(leader->progress[1].match_index, leader->last_index);
    assert_int_equal(leader->commit_index, commit);
    world_join(world, 1, 3);
    peer_is(world, 1, 3, true);
    world_settle(world);
    assert_int_equal(leader->commit_index, leader->last_index);
    world_free(world);
}

/* A leader asks metad to take a member out, and counts it until metad has. */
static void test_r2_no_shrinking_alone(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].mute = true;
    world_cut_off(world, 1, 3);
    world->nodes[3].mute = true;
    world_write(world, 1);
    world_pass(world, 1000000);
    assert_true(asks_for_isr(world, 1, 1, 2, 0));
    assert_int_equal(leader->commit_index, leader->last_index - 1);
    world->nodes[1].mute = false;
    world_settle(world);
    assert_false(world_in_isr(world, 3));
    assert_int_equal(leader->commit_index, leader->last_index);
    world_free(world);
}

/* One proposed for addition counts at once: it may be in the set before the leader hears so, and lead. */
static void test_r3_who_is_proposed_counts_at_once(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    world_pass(world, 500000);
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    world->nodes[3].stuck = true;
    world_write(world, 1);
    world_settle(world);
    assert_int_equal(leader->commit_index, leader->last_index - 1);
    world_sync(world, 3);
    world_settle(world);
    assert_int_equal(leader->commit_index, leader->last_index);
    world_free(world);
}

/* A proposal stays open until a higher config_version is seen: neither time nor a disconnection closes it. The same one is
 * sent again. */
static void test_r3_a_proposal_stays_open(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    world_pass(world, 400000);
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    struct replica_change first = world->nodes[1].asked;
    world->nodes[1].asks = 0;
    world_pass(world, 500000);
    assert_in_range(world->nodes[1].asks, 3, 6); /* again after retry_us, not in every tick */
    assert_memory_equal(&world->nodes[1].asked, &first, sizeof first);
    world_cut_off(world, 1, 3);
    world->nodes[3].mute = true;
    peer_is(world, 1, 3, false);
    world_write(world, 1);
    world_pass(world, 5000000);
    peer_is(world, 1, 3, true);
    world_pass(world, 100000);
    assert_int_equal(leader->commit_index, leader->last_index - 1);
    assert_int_equal(world->record.config_version, first.config_version);
    world->record.config_version++; /* something else came first: now it can no more be applied */
    world_configure(world, 1);
    assert_int_equal(leader->commit_index, leader->last_index);
    world_free(world);
}

/* Two changes under one config_version: at most one of them is applied, and commit counts the members of both. */
static void test_r3_the_members_of_all_proposals_count(void **state) {
    (void)state;
    struct world *world = world_serving(5, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].mute = true;
    world->record.isr_count = 2;
    world_decree(world);
    leader->progress[3].join_us = leader->progress[4].join_us = UINT64_MAX;
    world_pass(world, 500000);
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    peer_is(world, 1, 3, false); /* and another one is asked for: with 4 in its place */
    leader->progress[3].join_us = 0;
    world_pass(world, 100000);
    assert_true(asks_for_isr(world, 1, 1, 2, 4));
    world->nodes[3].stuck = true;
    world->nodes[4].stuck = true;
    world_write(world, 1);
    world_settle(world);
    uint64_t last = leader->last_index;
    for (uint32_t id = 3; id <= 4; id++) {
        assert_int_equal(leader->commit_index, last - 1);
        world_hand_message(world, ack_of(world, id, last));
    }
    assert_int_equal(leader->commit_index, last);
    world_free(world);
}

/* Somebody was proposed and has died since; its proposal may never have arrived, and holds up what is written. Another
 * change takes the version away from it. */
static void test_r3_a_proposal_is_superseded(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    world_pass(world, 500000);
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    world_crash(world, 3);
    peer_is(world, 1, 3, false);
    world_write(world, 1);
    world_pass(world, 300000);
    assert_int_equal(leader->commit_index, leader->last_index - 1);
    assert_int_equal(world->nodes[1].asked.kind,
                     REPLICA_CHANGE_STAY); /* metad refuses the set that is there already */
    world->nodes[1].mute = false;
    world_pass(world, 300000);
    assert_int_equal(leader->commit_index, leader->last_index);
    world_free(world);
}

/* ---- R4: joining ---- */

/* Not before it has durably what is committed. */
static void test_r4_who_joins_has_what_is_committed(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    world->nodes[3].stuck = true;
    for (uint32_t i = 0; i < 5; i++) {
        world_write(world, 1);
        world_settle(world);
    }
    assert_int_equal(leader->commit_index, leader->last_index);
    assert_true(leader->progress[2].match_index < leader->commit_index);
    leader->progress[2].level_us = world->now_us; /* were it only for that */
    leader->progress[2].join_us = 0;
    world_tick(world);
    assert_int_equal(world->nodes[1].asks, 0);
    world_sync(world, 3);
    world_settle(world);
    world_tick(world);
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    world_free(world);
}

/* While others write without end, a follower whose way or disk is a little longer never has all that is committed. So
 * what is committed waits for it, and only until it can join. */
static void test_r4_who_is_nearly_level_is_waited_for(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    world->nodes[3].stuck = true;
    leader->progress[2].join_us = 0;
    for (uint32_t i = 0; i < 20 && world->nodes[1].asks == 0; i++) {
        world_write(world, 1);
        world_sync(world, 3); /* the write before this one */
        world_settle(world);
        world_tick(world);
    }
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    world_free(world);
}

/* One that stops being level is not waited for any longer. */
static void test_r4_who_falls_back_is_not_waited_for(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    world->nodes[3].stuck = true;
    world_write(world, 1);
    world_settle(world);
    assert_int_equal(leader->commit_index, leader->last_index);
    leader->progress[2].join_us = 0;
    world_tick(world);
    world_write(world, 1);
    world_settle(world);
    assert_int_equal(leader->commit_index, leader->last_index - 1);
    world_pass(world, LAG_US / 4);
    assert_int_equal(leader->commit_index, leader->last_index);
    assert_int_equal(world->nodes[1].asks, 0);
    world_free(world);
}

/* That a connection is there again says nothing of the process behind it: what counts is an answer that came over it. */
static void test_r4_a_new_connection_is_no_answer(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    leader->progress[2].join_us = UINT64_MAX;
    world_pass(world, 300000);
    world_cut_off(world, 1, 3);
    world_cut_off(world, 3, 1);
    peer_is(world, 1, 3, false);
    leader->progress[2].join_us = 0;
    peer_is(world, 1, 3, true);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK});
    assert_int_equal(world->nodes[1].asks, 0);
    struct replica_message answer = ack_of(world, 3, leader->last_index);
    answer.type = REPLICA_PROMISE;
    answer.sent_us = world->now_us - 1; /* of the connection before */
    world_hand_message(world, answer);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK});
    assert_int_equal(world->nodes[1].asks, 0);
    answer.sent_us = world->now_us;
    world_hand_message(world, answer);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK});
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    world_free(world);
}

/* And the beginning of this epoch: with less it could not be told from one whose log goes on differently. */
static void test_r4_who_joins_has_the_beginning_of_the_epoch(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->record.isr_count = 1;
    world->record.min_isr = 1;
    record_set_leader(world, 1);
    world->nodes[1].mute = true;
    world->nodes[2].stuck = world->nodes[3].stuck = true;
    world->nodes[1].idle = true;
    world_decree(world);
    world_wait(world, 1000000);
    world_sync(world, 1);
    struct replica *leader = world_replica(world, 1);
    leader->commit_index = leader->applied_index; /* as if its own promise had just run out */
    for (uint32_t id = 2; id <= 3; id++) {
        struct replica_message ack = ack_of(world, id, leader->first_of_epoch - 1);
        world_hand_message(world, ack);
        ack.type = REPLICA_PROMISE;
        ack.sent_us = world->now_us;
        world_hand_message(world, ack);
        leader->progress[id - 1].level_us = world->now_us;
    }
    leader->commit_index = leader->applied_index;
    leader->durable_index = leader->commit_index; /* and its own first entry were not synced yet */
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK});
    assert_int_equal(world->nodes[1].asks, 0);
    world_hand_message(world, ack_of(world, 2, leader->first_of_epoch));
    world_tell(world, 1, (struct replica_event){.type = REPLICA_TICK});
    assert_true(asks_for_isr(world, 1, 1, 2, 0));
    world_free(world);
}

/* What another process of it has acknowledged is ignored, and a new one starts from nothing. */
static void test_r4_acknowledgements_of_other_processes(void **state) {
    (void)state;
    struct world *world = world_without_three();
    struct replica *leader = world_replica(world, 1);
    leader->progress[2].join_us = UINT64_MAX;
    struct replica_message late = ack_of(world, 3, leader->last_index + 1);
    world_crash(world, 3);
    world_start(world, 3);
    struct replica_message ack = ack_of(world, 3, leader->last_index);
    world_write(world, 1);
    world_hand_message(world, ack); /* of the new process: all it had counts again only now */
    assert_int_equal(leader->progress[2].incarnation, world->nodes[3].incarnation);
    assert_int_equal(leader->progress[2].match_index, ack.durable_index);
    world_hand_message(world, late); /* of the old one */
    assert_int_equal(leader->progress[2].match_index, ack.durable_index);
    ack = ack_of(world, 3, leader->last_index);
    ack.replica_id = 99; /* of another stay */
    world_hand_message(world, ack);
    assert_int_equal(leader->progress[2].match_index, leader->last_index - 1);
    ack.replica_id = 13;
    ack.epoch = 7; /* of another epoch */
    world_hand_message(world, ack);
    assert_int_equal(leader->progress[2].match_index, leader->last_index - 1);
    ack.epoch = 1;
    ack.from_incarnation++; /* a process that is not known, and what it has matches nothing yet */
    ack.durable_index = ack.last_index = 1;
    world_hand_message(world, ack);
    assert_true(leader->progress[2].match_index <= 1);
    world_free(world);
}

/* metad checks it again: a proposal carries the incarnations that were heard. */
static void test_r4_a_proposal_names_incarnations(void **state) {
    (void)state;
    struct world *world = world_without_three();
    world_pass(world, 500000);
    const struct replica_change *change = &world->nodes[1].asked;
    assert_int_equal(change->isr_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(change->incarnations[i], world->nodes[change->isr[i]].incarnation);
    }
    assert_int_equal(change->config_version, world->record.config_version);
    assert_int_equal(change->leader_epoch, 1);
    world_crash(world, 3);
    world_start(world, 3); /* in between it has restarted */
    assert_false(world_change(world, 1, change));
    world_free(world);
}

/* A replica that stays at its node under another id is another replica; one at another place in the list is the same. */
static void test_r4_progress_follows_the_replica(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *leader = world_replica(world, 1);
    world_write(world, 1);
    world_settle(world);
    uint64_t match = leader->progress[1].match_index;
    struct map_replica two = world->record.replicas[1];
    world->record.replicas[1] = world->record.replicas[2];
    world->record.replicas[2] = two;
    world_decree(world);
    assert_int_equal(leader->progress[2].node, 2);
    assert_int_equal(leader->progress[2].match_index, match);
    assert_int_equal(leader->progress[2].state, PROGRESS_STREAM);
    world_write(world, 1);
    world_settle(world);
    assert_int_equal(leader->commit_index, leader->last_index);
    world->record.replicas[2].replica_id = 99;
    world->record.isr_count = 2;
    world->record.isr[1] = 3;
    world_decree(world);
    assert_int_equal(leader->progress[2].match_index, 0);
    assert_int_equal(leader->progress[2].answered_us, 0);
    assert_int_equal(leader->progress[2].state, PROGRESS_PROBE);
    world_free(world);
}

/* ---- R5: the set at the start of an epoch ---- */

/* Below min_isr it could otherwise never commit: members may join before the first entry is committed. */
static void test_r5_joining_before_the_first_commit(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->record.isr_count = 1;
    record_set_leader(world, 1);
    world_decree(world);
    world_pass(world, 1000000);
    assert_int_equal(world->record.isr_count, 3);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_LEADER);
    world_free(world);
}

/* ---- R11: min_isr ---- */

/* Judged on the confirmed set: below it nothing commits, and what is new is surely not done. */
static void test_r11_below_min_isr_nothing_commits(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].mute = true;
    assert_int_equal(world_write(world, 1), SK_OK);
    uint64_t commit = leader->commit_index;
    world->record.isr_count = 1;
    world_decree(world);
    world_pass(world, 1000000); /* others are proposed, and have it all: that changes nothing */
    assert_true(asks_for_isr(world, 1, 1, 2, 3));
    assert_int_equal(leader->commit_index, commit);
    assert_int_equal(world_write(world, 1), SK_UNAVAILABLE);
    world->nodes[1].mute = false;
    world_pass(world, 300000);
    assert_true(leader->commit_index > commit);
    assert_int_equal(world_write(world, 1), SK_OK);
    world_free(world);
}

/* A new min_isr holds from the moment at which it is known. */
static void test_r11_min_isr_changes(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].mute = true;
    world->record.isr_count = 2;
    world->record.min_isr = 3;
    world_decree(world);
    uint64_t commit = leader->commit_index;
    assert_int_equal(world_write(world, 1), SK_UNAVAILABLE);
    world->record.min_isr = 2;
    world_decree(world);
    assert_int_equal(world_write(world, 1), SK_OK);
    world_settle(world);
    assert_int_equal(leader->commit_index, commit + 1);
    world_free(world);
}

/* ---- R18: slow is who was not level for long ---- */

/* A member that is silent is put out after lag_us, one whose process is gone at once. */
static void test_r18_who_is_put_out_when(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].mute = true;
    world_cut_off(world, 1, 3);
    world_pass(world, 300000);
    assert_true(world_in_isr(world, 3));
    world_pass(world, 300000);
    assert_false(world_in_isr(world, 3));
    world_join(world, 1, 3);
    world_pass(world, 1000000);
    assert_true(world_in_isr(world, 3));
    world_crash(world, 3);
    peer_is(world, 1, 3, false);
    world_pass(world, 2 * TICK_US);
    assert_false(world_in_isr(world, 3));
    world_free(world);
}

/* One that answers, and whose disk does not: it is never level. */
static void test_r18_a_member_that_does_not_level(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].stuck = true;
    for (uint32_t i = 0; i < 40; i++) {
        world_write(world, 1);
        world_pass(world, 20000);
    }
    assert_false(world_in_isr(world, 3));
    assert_int_equal(world_replica(world, 1)->commit_index, world_replica(world, 1)->last_index);
    world_free(world);
}

/* One that keeps up with writes that never pause is level, though it has all of the log at no time. */
static void test_r18_a_member_that_keeps_up_stays(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    for (uint32_t i = 0; i < 100; i++) {
        world_settle(world);
        world_write(world, 1); /* every tick finds something that nobody has yet */
        world_tick(world);
        assert_true(world_in_isr(world, 3));
    }
    world_free(world);
}

/* Nobody could answer a leader that stood still itself. */
static void test_r18_a_leader_that_stood_still_puts_nobody_out(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[2].mute = world->nodes[3].mute = true;
    world_wait(world, 3000000);
    world_pass(world, 300000);
    assert_int_equal(world->nodes[1].asks, 0);
    assert_int_equal(world->record.isr_count, 3);
    assert_int_equal(world_read(world, 1), SK_OK);
    world_free(world);
}

/* Who was put out stays out for a while, and twice as long each time. */
static void test_r18_back_off(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].mute = true;
    uint64_t out_us[3];
    for (uint32_t i = 0; i < 3; i++) {
        peer_is(world, 1, 3, false);
        while (world_in_isr(world, 3)) world_pass(world, TICK_US);
        uint64_t left_us = world->now_us;
        peer_is(world, 1, 3, true);
        while (!world_in_isr(world, 3)) world_pass(world, TICK_US);
        out_us[i] = world->now_us - left_us;
    }
    assert_in_range(out_us[0], 250000, 400000);
    assert_in_range(out_us[1], 500000, 650000);
    assert_in_range(out_us[2], 1000000, 1150000);
    /* after a minute without it starts over */
    world_pass(world, 61000000);
    peer_is(world, 1, 3, false);
    world_pass(world, 2 * TICK_US);
    peer_is(world, 1, 3, true);
    world_pass(world, 400000);
    assert_true(world_in_isr(world, 3));
    world_free(world);
}

/* Nobody backs off because the replicas stand in another order, or more of them. */
static void test_r18_another_order_of_the_replicas(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *leader = world_replica(world, 1);
    world->nodes[1].mute = true;
    world->record.isr_count = 2; /* 1 and 2 */
    world_decree(world);
    world_pass(world, 500000);
    uint64_t back_off_us = leader->progress[2].back_off_us;
    struct map_replica first = world->record.replicas[0];
    world->record.replicas[0] = world->record.replicas[2];
    world->record.replicas[2] = first;
    world_decree(world);
    assert_int_equal(leader->progress[0].node, 3);
    assert_int_equal(leader->progress[0].back_off_us, back_off_us);
    assert_true(leader->progress[0].join_us <= world->now_us);
    assert_int_equal(leader->progress[1].joined_us, 0);
    world->record.isr_count = 1;
    world->record.replicas[world->record.replica_count++] = (struct map_replica){.node = 4, .replica_id = 14};
    world_decree(world); /* and 2 was put out at the same time */
    assert_true(leader->progress[1].join_us > world->now_us);
    world_free(world);
}

/* ---- R22: half-dead nodes ---- */

/* A leader never takes the set below min_isr: with the members as they are one of them may lead instead. */
static void test_r22_never_below_min_isr(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    for (uint32_t id = 2; id <= 3; id++) {
        world->nodes[id].mute = true;
        world_cut_off(world, 1, id);
        peer_is(world, 1, id, false);
    }
    world_pass(world, 5000000);
    assert_int_equal(world->record.isr_count, 2);
    assert_int_equal(world->record.leader, 1);
    uint32_t other = world->record.isr[0] == 1 ? world->record.isr[1] : world->record.isr[0];
    world->nodes[other].mute = false;
    for (uint32_t i = 0; i < 100 && world->record.leader == 1; i++) world_pass(world, TICK_US);
    assert_int_equal(world->record.leader, other);
    world_free(world);
}

/* Those whose connection is gone leave first. */
static void test_r22_the_dead_leave_before_the_slow(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = world->nodes[2].mute = world->nodes[3].mute = true;
    world_cut_off(world, 1, 2);
    world_cut_off(world, 1, 3);
    world_pass(world, 450000);
    peer_is(world, 1, 3, false);
    world_pass(world, 2 * TICK_US);
    assert_true(asks_for_isr(world, 1, 1, 2, 0));
    world_free(world);
}

/* A leader whose disk hangs stops answering as leader, so that others claim; it does not put out those who are silent
 * because it is. */
static void test_r22_a_leader_whose_disk_hangs(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[2].mute = world->nodes[3].mute = true;
    world->nodes[1].stuck = true;
    world_write(world, 1);
    world_pass(world, 3500000);
    assert_int_equal(world_read(world, 1), SK_UNAVAILABLE);
    assert_int_equal(world->record.isr_count, 3);
    assert_int_equal(world->nodes[2].asked.kind, REPLICA_CHANGE_CLAIM);
    assert_int_equal(world->nodes[3].asked.kind, REPLICA_CHANGE_CLAIM);
    world->nodes[2].mute = world->nodes[3].mute = false;
    world_pass(world, 1000000);
    assert_int_not_equal(world->record.leader, 1);
    world_free(world);
}

/* ---- R24: content that differs ---- */

static int rebuild(struct world *world, uint32_t leader, uint32_t node, uint32_t successor) {
    struct replica_event event = {.type = REPLICA_REBUILD, .peer = node, .successor = successor};
    return world_tell(world, leader, event)->refused;
}

/* A marker is an entry like others. */
static void test_r24_a_marker_is_committed(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica_event verify = {.type = REPLICA_VERIFY};
    uint64_t last_index = world_replica(world, 1)->last_index;
    assert_int_equal(world_tell(world, 2, verify)->refused, SK_NOT_LEADER);
    assert_int_equal(world_tell(world, 1, verify)->refused, SK_OK);
    world_settle(world);
    assert_int_equal(world_replica(world, 1)->commit_index, last_index + 1);
    assert_int_equal(world_replica(world, 3)->last_index, last_index + 1);
    world_free(world);
}

static void test_r24_who_differs_is_to_begin_anew(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    assert_int_equal(rebuild(world, 2, 3, 0), SK_NOT_LEADER);
    assert_int_equal(rebuild(world, 1, 9, 0), SK_UNAVAILABLE);
    assert_int_equal(world->nodes[1].asks, 0);
    assert_int_equal(rebuild(world, 1, 3, 0), SK_OK);
    const struct replica_change *asked = &world->nodes[1].asked;
    assert_int_equal(asked->kind, REPLICA_CHANGE_REBUILD);
    assert_int_equal(asked->config_version, world->record.config_version);
    assert_int_equal(asked->to, 3);
    assert_int_equal(asked->successor, 0);
    assert_int_equal(rebuild(world, 1, 3, 0), SK_OK); /* not at once again, */
    assert_int_equal(world->nodes[1].asks, 1);
    world_pass(world, 150000);
    assert_int_equal(rebuild(world, 1, 3, 0), SK_OK); /* but then */
    assert_int_equal(world->nodes[1].asks, 2);
    assert_int_equal(rebuild(world, 1, 1, 2), SK_OK);
    assert_int_equal(asked->to, 1);
    assert_int_equal(asked->successor, 2);

    world->nodes[3].stuck = true; /* R2: until metad has confirmed, it counts */
    uint64_t commit_index = world_replica(world, 1)->commit_index;
    world_write(world, 1);
    world_pass(world, 150000);
    assert_int_equal(world_replica(world, 1)->commit_index, commit_index);
    world_free(world);
}

/* As one of min_isr copies it is better than none. Outside the in-sync set nobody counts on it. */
static void test_r24_not_below_min_isr(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].mute = true;
    record_set_isr(&world->record, (const uint32_t[]){1, 2}, 2, 0);
    world_crash(world, 3);
    world_decree(world);
    assert_int_equal(rebuild(world, 1, 2, 0), SK_UNAVAILABLE);
    assert_int_equal(rebuild(world, 1, 1, 2), SK_UNAVAILABLE);
    assert_int_equal(world->nodes[1].asks, 0);
    assert_int_equal(rebuild(world, 1, 3, 0), SK_OK);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_REBUILD);
    world_free(world);
}

/* metad would refuse it for ever, and as long as it is asked for nothing is handed over. */
static void test_r24_nobody_follows_who_is_not_in_sync(void **state) {
    (void)state;
    struct world *world = world_serving(4, 2);
    record_set_isr(&world->record, (const uint32_t[]){1, 2, 3}, 3, 0);
    world_crash(world, 4);
    world_decree(world);
    world->nodes[1].mute = true;
    uint32_t asks = world->nodes[1].asks;
    assert_int_equal(rebuild(world, 1, 1, 4), SK_UNAVAILABLE);
    assert_int_equal(rebuild(world, 1, 1, 1), SK_UNAVAILABLE);
    assert_int_equal(world->nodes[1].asks, asks);
    assert_int_equal(rebuild(world, 1, 1, 3), SK_OK);
    world_free(world);
}

/* One thing after the other (R18). */
static void test_r24_another_change_comes_first(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    world_cut_off(world, 1, 2);
    world_pass(world, 500000);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_ISR);
    assert_int_equal(rebuild(world, 1, 3, 0), SK_BUSY);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_ISR);
    world_free(world);
}

/* ---- R31: a lost tail ---- */

/* The disk of a node forgets what it had called durable. */
static void lose_tail(struct world *world, uint32_t id, uint32_t records) {
    world_crash(world, id);
    world->nodes[id].records -= records;
    world->nodes[id].synced -= records;
    world_start(world, id);
}

/* A follower that returns with less than it had acknowledged leaves the in-sync set before it counts again. */
static void test_r31_a_lost_tail_is_retired(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = world->nodes[3].mute = true;
    for (uint32_t i = 0; i < 4; i++) world_write(world, 1);
    world_settle(world);
    lose_tail(world, 3, 2);
    world_pass(world, 150000);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_RETIRE);
    assert_int_equal(world->nodes[1].asked.to, 3);
    assert_int_equal(world_replica(world, 1)->progress[2].state, PROGRESS_PROBE);
    assert_int_equal(world_replica(world, 1)->progress[2].match_index, 0);
    world->nodes[1].mute = false;
    world_settle(world);
    assert_false(world_in_isr(world, 3));
    assert_int_equal(world->record.eligible_count, 0);
    world_free(world);
}

/* Whether it was committed or not: a disk that loses what it had called durable is damaged. */
static void test_r31_what_is_not_committed_counts_too(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[1].mute = true;
    world->nodes[2].stuck = true;
    for (uint32_t i = 0; i < 4; i++) world_write(world, 1);
    world_settle(world);
    assert_int_equal(world_replica(world, 1)->commit_index, world_replica(world, 1)->last_index - 4);
    lose_tail(world, 3, 2);
    world_pass(world, 150000);
    assert_int_equal(world->nodes[1].asked.kind, REPLICA_CHANGE_RETIRE);
    assert_int_equal(world->nodes[1].asked.to, 3);
    world_free(world);
}

/* Once it is out of the set nobody counts on it: it gets what it lacks, and joins again. */
static void test_r31_who_was_retired_comes_back(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].mute = true;
    for (uint32_t i = 0; i < 4; i++) world_write(world, 1);
    world_settle(world);
    lose_tail(world, 3, 2);
    world_pass(world, 200000);
    assert_false(world_in_isr(world, 3));
    world_pass(world, 1000000);
    assert_true(world_in_isr(world, 3));
    assert_int_equal(world_replica(world, 3)->last_index, world_replica(world, 1)->last_index);
    /* and what it owed is forgotten with it: the next restart is an ordinary one */
    world->nodes[1].asks = 0;
    world_crash(world, 3);
    world_start(world, 3);
    world_pass(world, 200000);
    assert_int_equal(world->nodes[1].asks, 0);
    world_free(world);
}

/* A later leader has not seen the acknowledgements, but it knows what is committed, and so what each member has to have. */
static void test_r31_also_under_another_leader(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[3].mute = true;
    for (uint32_t i = 0; i < 4; i++) world_write(world, 1);
    world_pass(world, 200000);
    lose_tail(world, 3, 3);
    record_set_leader(world, 2);
    world->nodes[2].mute = true;
    world_decree(world);
    world_pass(world, 200000);
    assert_int_equal(world->nodes[2].asked.kind, REPLICA_CHANGE_RETIRE);
    assert_int_equal(world->nodes[2].asked.to, 3);
    world_free(world);
}

/* What comes late says less than what came before it: nothing was lost. */
static void test_r31_a_late_acknowledgement_proves_no_loss(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica_message late = ack_of(world, 3, world_replica(world, 1)->last_index);
    struct replica_message refusal = late;
    refusal.type = REPLICA_REFUSAL;
    for (uint32_t i = 0; i < 4; i++) world_write(world, 1);
    world_pass(world, 300000);
    world_hand_message(world, refusal); /* of before its log was opened */
    assert_int_equal(world_replica(world, 1)->progress[2].state, PROGRESS_PROBE);
    world_hand_message(world, late);
    assert_int_equal(world->nodes[1].asks, 0);
    world_pass(world, 300000);
    assert_int_equal(world->nodes[1].asks, 0);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_r1_every_member_must_have_it),
        cmocka_unit_test(test_r2_no_shrinking_alone),
        cmocka_unit_test(test_r3_who_is_proposed_counts_at_once),
        cmocka_unit_test(test_r3_a_proposal_stays_open),
        cmocka_unit_test(test_r3_the_members_of_all_proposals_count),
        cmocka_unit_test(test_r3_a_proposal_is_superseded),
        cmocka_unit_test(test_r4_who_joins_has_what_is_committed),
        cmocka_unit_test(test_r4_who_is_nearly_level_is_waited_for),
        cmocka_unit_test(test_r4_who_falls_back_is_not_waited_for),
        cmocka_unit_test(test_r4_a_new_connection_is_no_answer),
        cmocka_unit_test(test_r4_who_joins_has_the_beginning_of_the_epoch),
        cmocka_unit_test(test_r4_acknowledgements_of_other_processes),
        cmocka_unit_test(test_r4_a_proposal_names_incarnations),
        cmocka_unit_test(test_r4_progress_follows_the_replica),
        cmocka_unit_test(test_r5_joining_before_the_first_commit),
        cmocka_unit_test(test_r11_below_min_isr_nothing_commits),
        cmocka_unit_test(test_r11_min_isr_changes),
        cmocka_unit_test(test_r18_who_is_put_out_when),
        cmocka_unit_test(test_r18_a_member_that_does_not_level),
        cmocka_unit_test(test_r18_a_member_that_keeps_up_stays),
        cmocka_unit_test(test_r18_a_leader_that_stood_still_puts_nobody_out),
        cmocka_unit_test(test_r18_back_off),
        cmocka_unit_test(test_r18_another_order_of_the_replicas),
        cmocka_unit_test(test_r22_never_below_min_isr),
        cmocka_unit_test(test_r22_the_dead_leave_before_the_slow),
        cmocka_unit_test(test_r22_a_leader_whose_disk_hangs),
        cmocka_unit_test(test_r24_a_marker_is_committed),
        cmocka_unit_test(test_r24_who_differs_is_to_begin_anew),
        cmocka_unit_test(test_r24_not_below_min_isr),
        cmocka_unit_test(test_r24_nobody_follows_who_is_not_in_sync),
        cmocka_unit_test(test_r24_another_change_comes_first),
        cmocka_unit_test(test_r31_a_lost_tail_is_retired),
        cmocka_unit_test(test_r31_what_is_not_committed_counts_too),
        cmocka_unit_test(test_r31_who_was_retired_comes_back),
        cmocka_unit_test(test_r31_also_under_another_leader),
        cmocka_unit_test(test_r31_a_late_acknowledgement_proves_no_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

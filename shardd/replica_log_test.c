/* Stories about logs: how an epoch is opened at a follower, what is cut, what is sent again, snapshots. */
#include "shardd/replica_fixture.h"

/* What a follower in `epoch` would hear of its leader. */
static struct replica_message from_leader(const struct world *world, uint32_t from, uint32_t to,
                                          enum replica_message_type type, uint64_t epoch) {
    return (struct replica_message){.type = type,
                                    .from = from,
                                    .to = to,
                                    .from_incarnation = world->nodes[from].incarnation,
                                    .replica_id = 10 + to,
                                    .epoch = epoch};
}

static struct replica_message open_of(const struct world *world, uint32_t from, uint32_t to, uint64_t epoch,
                                      uint64_t begins_at) {
    struct replica_message open = from_leader(world, from, to, REPLICA_OPEN, epoch);
    open.counted = true;
    epochs_add(&open.epochs, 1, 1);
    epochs_add(&open.epochs, epoch, begins_at);
    return open;
}

static uint64_t last_of(const struct world *world, uint32_t id) { return world->nodes[id].replica.last_index; }

/* ---- R1: epochs fence ---- */

/* A follower acknowledges nothing in an epoch that a crash could make it forget. */
static void test_r1_an_epoch_is_durable_before_it_is_acknowledged(void **state) {
    (void)state;
    struct world *world = world_new(2, 2);
    world_publish(world);
    world->nodes[2].stuck = true;
    world_pass(world, 50000);
    assert_int_equal(world_replica(world, 2)->adopting_epoch, 1);
    assert_int_equal(world->nodes[1].replica.progress[1].state, PROGRESS_PROBE);
    world_flush(world, 2);
    assert_int_equal(world->mails, 0);
    /* nor does it promise */
    struct replica_message beacon = from_leader(world, 1, 2, REPLICA_BEACON, 1);
    assert_int_equal(world_hand_message(world, beacon)->send_count, 0);
    world_sync(world, 2);
    world_flush(world, 2);
    assert_true(world_take(world, 2, 1, REPLICA_ACK, NULL));
    world_free(world);
}

/* Nor does a leader send anything in it. */
static void test_r1_a_leaders_epoch_is_durable_before_its_first_frame(void **state) {
    (void)state;
    struct world *world = world_new(2, 2);
    world->nodes[1].stuck = true;
    world_publish(world);
    for (uint32_t i = 0; i < 30; i++) {
        world_tick(world);
        world_flush(world, 1);
        assert_int_equal(world->mails, 0);
    }
    world_sync(world, 1);
    world_flush(world, 1);
    assert_true(world_take(world, 1, 2, REPLICA_OPEN, NULL));
    world_free(world);
}

/* Lower epochs are refused, of entries and of beacons, and for ever: also by the next process. */
static void test_r1_lower_epochs_are_refused_for_ever(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica_message open = open_of(world, 3, 2, 4, last_of(world, 2) + 1);
    assert_true(world_hand_message(world, open)->adopt);
    world_sync(world, 2);
    for (uint32_t i = 0; i < 2; i++) {
        enum replica_message_type types[] = {REPLICA_OPEN, REPLICA_APPEND, REPLICA_BEACON};
        for (uint32_t j = 0; j < 3; j++) {
            struct replica_effects *effects =
                world_hand_message(world, from_leader(world, 1, 2, types[j], i == 0 ? 1 : 3));
            assert_int_equal(effects->send_count, 1);
            assert_int_equal(effects->sends[0].message.type, REPLICA_REFUSAL);
            assert_int_equal(effects->sends[0].message.epoch, 4);
            assert_int_equal(effects->sends[0].message.to, 1);
        }
        world_crash(world, 2);
        world_start(world, 2); /* and has no map yet */
    }
    world_free(world);
}

/* A leader that is refused for a higher epoch leads no more, and knows nothing of who does. */
static void test_r1_a_refused_leader_steps_down(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica_message refusal = from_leader(world, 2, 1, REPLICA_REFUSAL, 1);
    refusal.replica_id = 12;
    world_hand_message(world, refusal); /* of our own epoch: it has to be opened again, no more */
    assert_int_equal(world_replica(world, 1)->role, REPLICA_LEADER);
    refusal.epoch = 2;
    assert_true(world_hand_message(world, refusal)->stepped_down);
    assert_int_equal(world_replica(world, 1)->role, REPLICA_FOLLOWER);
    assert_int_equal(world_write(world, 1), SK_NOT_LEADER);
    assert_int_equal(world_read(world, 1), SK_NOT_LEADER);
    world_free(world);
}

/* So does one that hears another leader's OPEN. Its own record of metad may come later. */
static void test_r1_an_open_of_a_higher_epoch_ends_a_reign(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world_write(world, 1);
    struct replica_effects *effects =
        world_hand_message(world, open_of(world, 2, 1, 2, world_replica(world, 1)->commit_index + 1));
    assert_true(effects->stepped_down);
    assert_true(effects->adopt);
    world_free(world);
}

/* Two leaders follow each other faster than the disk: what is durable of the first opens nothing of the second. */
static void test_r1_the_sync_of_an_older_epoch_opens_nothing(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    uint64_t last = last_of(world, 2);
    world->nodes[2].stuck = true;
    assert_true(world_hand_message(world, open_of(world, 3, 2, 6, last + 1))->adopt);
    assert_true(world_hand_message(world, open_of(world, 1, 2, 7, last + 1))->adopt);
    node_tell_only(world, 2, (struct replica_event){.type = REPLICA_STORED, .epoch = 6});
    assert_int_equal(world_replica(world, 2)->stored_epoch, 6);
    assert_int_equal(world_replica(world, 2)->opened_epoch, 0);
    assert_false(
        world_hand_message(world, open_of(world, 1, 2, 7, last + 1))->adopt); /* 7 is under way as before */
    world_flush(world, 2);
    assert_int_equal(world->mails, 0);
    node_tell_only(world, 2, (struct replica_event){.type = REPLICA_STORED, .epoch = 7});
    world_flush(world, 2);
    struct mail ack = world_expect(world, 2, 1, REPLICA_ACK);
    assert_int_equal(ack.message.epoch, 7);
    /* nor does the sync of one that metad's record has overtaken */
    assert_true(world_hand_message(world, open_of(world, 1, 2, 8, last + 1))->adopt);
    world->record.leader = 3;
    world->record.leader_epoch = 9;
    world_decree(world);
    node_tell_only(world, 2, (struct replica_event){.type = REPLICA_STORED, .epoch = 8});
    assert_int_equal(world_replica(world, 2)->opened_epoch, 0);
    world_free(world);
}

/* The shell could not write the record: nothing has happened, and the next OPEN asks again. */
static void test_r1_an_epoch_that_was_not_written_is_asked_for_again(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    uint64_t last = last_of(world, 2);
    world->nodes[2].full = true;
    struct replica_message open = open_of(world, 1, 2, 4, last + 1);
    assert_true(world_hand_message(world, open)->adopt);
    world_flush(world, 2);
    assert_int_equal(world->mails, 0);
    world->nodes[2].full = false;
    assert_true(world_hand_message(world, open)->adopt);
    assert_false(world_hand_message(world, open)->adopt); /* it is under way */
    world_sync(world, 2);
    assert_int_equal(world_replica(world, 2)->opened_epoch, 4);
    world_free(world);
}

/* ---- R7: cutting the tail ---- */

/* Node 1 has two entries that nobody else has, and its followers go on without it. */
static struct world *world_with_a_tail(void) {
    struct world *world = world_serving(3, 2);
    world_cut_off(world, 1, 2);
    world_cut_off(world, 1, 3);
    world->nodes[1].deaf = world->nodes[1].mute = true;
    world_write(world, 1);
    world_write(world, 1);
    world_settle(world);
    world_pass(world, 3000000);
    assert_int_not_equal(world->record.leader, 1);
    world_write(world, world->record.leader);
    world_settle(world);
    return world;
}

static void test_r7_a_tail_is_cut_behind_the_common_point(void **state) {
    (void)state;
    struct world *world = world_with_a_tail();
    struct replica *old = world_replica(world, 1), *leader = world_replica(world, world->record.leader);
    uint64_t commit = old->commit_index, tail = old->last_index;
    assert_int_equal(tail, commit + 2);
    world_join(world, 1, 2);
    world_join(world, 1, 3);
    world->nodes[1].deaf = world->nodes[1].mute = false;
    world_pass(world, 2000000);
    assert_int_equal(old->last_index, leader->last_index);
    assert_int_equal(old->last_epoch, leader->last_epoch);
    assert_int_equal(old->commit_index, leader->commit_index);
    assert_true(world_in_isr(world, 1));
    world_assert_agree(world);
    world_free(world);
}

/* The record cuts the log on disk as well. */
static void test_r7_the_cut_holds_after_a_restart(void **state) {
    (void)state;
    struct world *world = world_with_a_tail();
    uint64_t commit = world_replica(world, 1)->commit_index;
    struct replica_message open = open_of(world, 2, 1, 9, commit + 1);
    assert_true(world_hand_message(world, open)->adopt);
    world_sync(world, 1);
    world_crash(world, 1);
    world_start(world, 1);
    assert_int_equal(last_of(world, 1), commit);
    assert_int_equal(world_replica(world, 1)->stored_epoch, 9);
    world_free(world);
}

/* Not "at the commit index": what lies behind it and is the leader's too may be committed, and this the last copy. */
static void test_r7_nothing_is_cut_that_both_have(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world_cut_off(world, 2, 3);
    for (uint32_t i = 0; i < 5; i++) world_write(world, 1);
    world->nodes[1].idle = true;
    world_flush(world, 1);
    struct mail append = world_expect(world, 1, 2, REPLICA_APPEND);
    world_hand(world, &append);
    world_sync(world, 2);
    struct replica *follower = world_replica(world, 2);
    assert_int_equal(follower->last_index, follower->commit_index + 5);
    uint64_t last = follower->last_index;
    struct replica_effects *effects = world_hand_message(world, open_of(world, 3, 2, 4, last + 1));
    assert_true(effects->adopt);
    assert_int_equal(effects->index, last);
    assert_int_equal(follower->last_index, last);
    world_free(world);
}

/* A frame of an epoch never cuts an entry of that epoch: OPEN comes again, late, when entries have come. */
static void test_r7_a_late_open_cuts_nothing_of_its_own_epoch(void **state) {
    (void)state;
    struct world *world = world_new(2, 2);
    world_publish(world);
    world_sync(world, 1);
    world_flush(world, 1);
    struct mail open = world_expect(world, 1, 2, REPLICA_OPEN);
    world_hand(world, &open);
    world_pass(world, 1000000);
    for (uint32_t i = 0; i < 5; i++) world_write(world, 1);
    world_settle(world);
    uint64_t last = last_of(world, 2);
    struct replica_effects *effects = world_hand(world, &open);
    assert_false(effects->adopt);
    /* nor by a process that has forgotten that it had opened it */
    world_crash(world, 2);
    world_start(world, 2);
    effects = world_hand(world, &open);
    assert_true(effects->adopt);
    assert_int_equal(effects->index, last);
    assert_int_equal(last_of(world, 2), last);
    world_free(world);
}

/* A leader without what is committed proves a bug: the replica stops, says so and changes nothing. */
static void test_r7_what_is_committed_is_never_cut(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    for (uint32_t i = 0; i < 5; i++) world_write(world, 1);
    world_pass(world, 300000);
    struct replica *follower = world_replica(world, 2);
    uint64_t last = follower->last_index, records = world->nodes[2].records;
    assert_int_equal(follower->commit_index, last);
    struct replica_effects *effects = world_hand_message(world, open_of(world, 1, 2, 4, last - 1));
    assert_false(effects->adopt);
    assert_non_null(effects->failed);
    assert_int_equal(follower->role, REPLICA_FAILED);
    assert_int_equal(follower->last_index, last);
    assert_int_equal(world->nodes[2].records, records);
    /* and it says nothing any more */
    world_flush(world, 2);
    world_tell(world, 2, (struct replica_event){.type = REPLICA_TICK});
    world_hand_message(world, from_leader(world, 1, 2, REPLICA_BEACON, 4));
    assert_int_equal(world->mails, 0);
    world_free(world);
}

/* The leader has forgotten where the common epoch lies. A copy that somebody may count on is not cut by guessing. */
static void test_r7_a_counted_copy_is_not_cut_by_guessing(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica_message open = from_leader(world, 1, 2, REPLICA_OPEN, 90);
    epochs_add(&open.epochs, 80, 200);
    epochs_add(&open.epochs, 90, 300);
    open.counted = true;
    world->nodes[2].full = true;
    uint64_t last = last_of(world, 2);
    assert_false(world_hand_message(world, open)->adopt);
    assert_int_equal(last_of(world, 2), last);
    world_free(world);
}

/* But one that is neither in sync nor eligible is, down to what is surely the leader's too. */
static void test_r7_an_uncounted_copy_is_cut_at_what_is_committed(void **state) {
    (void)state;
    struct world *world = world_with_a_tail();
    struct replica_message open = from_leader(world, 2, 1, REPLICA_OPEN, 90);
    epochs_add(&open.epochs, 80, 200);
    epochs_add(&open.epochs, 90, 300);
    struct replica_effects *effects = world_hand_message(world, open);
    assert_true(effects->adopt);
    assert_int_equal(effects->index, world_replica(world, 1)->commit_index);
    world_free(world);
}

/* A sync of what was cut meanwhile says nothing of what lies there now. */
static void test_r7_the_sync_of_a_cut_entry_counts_for_nothing(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *follower = world_replica(world, 2);
    uint64_t last = follower->last_index;
    world->nodes[2].stuck = true;
    world_write(world, 1);
    world_write(world, 1);
    world_flush(world, 1);
    struct mail append = world_expect(world, 1, 2, REPLICA_APPEND);
    world_hand(world, &append);
    assert_int_equal(follower->last_index, last + 2);
    /* cut by the leader of epoch 4, which then writes an entry of its own there */
    assert_true(world_hand_message(world, open_of(world, 1, 2, 4, last + 1))->adopt);
    assert_int_equal(follower->last_index, last);
    node_tell_only(world, 2, (struct replica_event){.type = REPLICA_STORED, .epoch = 4});
    append.message.epoch = 4;
    append.message.entry_count = 1;
    append.entries[0].epoch = 4;
    world_hand(world, &append);
    assert_int_equal(follower->last_index, last + 1);
    node_tell_only(world, 2, (struct replica_event){.type = REPLICA_DURABLE, .index = last + 1, .epoch = 1});
    node_tell_only(world, 2, (struct replica_event){.type = REPLICA_DURABLE, .index = last + 2, .epoch = 1});
    assert_int_equal(follower->durable_index, last);
    node_tell_only(world, 2, (struct replica_event){.type = REPLICA_DURABLE, .index = last + 1, .epoch = 4});
    assert_int_equal(follower->durable_index, last + 1);
    world_free(world);
}

/* What an earlier leader has said is committed is nothing that a later one's log is measured by. */
static void test_r7_a_new_leaders_commit_index_starts_anew(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *follower = world_replica(world, 2);
    uint64_t last = follower->last_index;
    struct replica_message beacon = from_leader(world, 1, 2, REPLICA_BEACON, 1);
    beacon.commit_index = last + 10;
    world_hand_message(world, beacon);
    world_hand_message(world, open_of(world, 1, 2, 4, last + 1));
    world_sync(world, 2);
    struct mail append = {.message = from_leader(world, 1, 2, REPLICA_APPEND, 4)};
    append.message.shard = SHARD;
    append.message.prev_index = last;
    append.message.prev_epoch = 1;
    append.message.entry_count = 1;
    append.entries[0] = (struct entry){.epoch = 4, .time_us = WALL_ZERO_US, .tag = 999};
    world_hand(world, &append);
    world_sync(world, 2);
    assert_int_equal(follower->durable_index, last + 1);
    assert_int_equal(follower->commit_index, last);
    world_free(world);
}

/* A store is opened whose checkpoint has 105 entries, the last five of epoch 7. The log is kept for followers and begins
 * before that, with entries of epoch 6 that were cut at 100 when epoch 7 was adopted. */
static struct replica opened_at_105(void) {
    struct replica replica;
    struct epochs epochs = {0};
    replica_init(&replica, SHARD, 12, &story_times, BEGIN_US);
    epochs_add(&epochs, 6, 1);
    epochs_add(&epochs, 7, 101);
    replica_restore_state(&replica, 105, &epochs, 7, WALL_ZERO_US);
    return replica;
}

static void test_r7_a_tail_from_before_the_checkpoint_is_left_out(void **state) {
    (void)state;
    struct replica replica = opened_at_105();
    for (uint64_t index = 106; index <= 110; index++) { /* those before it the shell leaves out */
        assert_int_equal(replica_restore_entry(&replica, index, 6, WALL_ZERO_US, 99), SK_STALE_EPOCH);
    }
    assert_int_equal(replica_restore_end(&replica), SK_ECORRUPT); /* it has to have been cut */
    assert_int_equal(replica_restore_adopted(&replica, 7, 100), SK_OK);
    assert_int_equal(replica_restore_end(&replica), SK_OK);
    assert_int_equal(replica_restore_entry(&replica, 106, 7, WALL_ZERO_US, 105), SK_OK);
    assert_int_equal(replica.last_index, 106);
    assert_int_equal(replica.last_epoch, 7);
    assert_int_equal(replica_restore_end(&replica), SK_OK);
}

/* Where segments were recycled the log may begin amid such a tail; and nothing of this epoch need be there. */
static void test_r7_a_log_that_begins_amid_a_tail(void **state) {
    (void)state;
    struct replica replica = opened_at_105();
    assert_int_equal(replica_restore_entry(&replica, 109, 7, WALL_ZERO_US, 99), SK_STALE_EPOCH);
    assert_int_equal(replica_restore_entry(&replica, 110, 7, WALL_ZERO_US, 99), SK_STALE_EPOCH);
    assert_int_equal(replica_restore_adopted(&replica, 8, 105), SK_OK);
    assert_int_equal(replica_restore_end(&replica), SK_OK);
    assert_int_equal(replica_restore_entry(&replica, 106, 8, WALL_ZERO_US, 105), SK_OK);
    assert_int_equal(replica.stored_epoch, 8);
}

/* But entries that are missing are damage, not a tail (R24). */
static void test_r24_missing_entries_are_damage(void **state) {
    (void)state;
    struct replica replica = opened_at_105();
    assert_int_equal(replica_restore_entry(&replica, 107, 7, WALL_ZERO_US, 105), SK_STALE_EPOCH);
    assert_int_equal(replica_restore_end(&replica), SK_ECORRUPT);
    assert_int_equal(replica_restore_adopted(&replica, 8, 107), SK_OK); /* cuts behind it */
    assert_int_equal(replica_restore_end(&replica), SK_ECORRUPT);
    assert_int_equal(replica_restore_entry(&replica, 106, 7, WALL_ZERO_US, 105), SK_ECORRUPT);
    replica = opened_at_105();
    assert_int_equal(replica_restore_entry(&replica, 106, 7, WALL_ZERO_US, 106), SK_ECORRUPT);
    assert_int_equal(replica_restore_entry(&replica, 106, 7, WALL_ZERO_US, 105), SK_OK);
    assert_int_equal(replica_restore_entry(&replica, 107, 7, WALL_ZERO_US, 106), SK_OK);
    assert_int_equal(replica_restore_adopted(&replica, 8, 105), SK_ECORRUPT); /* below what is committed */
}

/* ---- R10: once ---- */

/* What is sent again is not appended again: an entry is executed once however often it arrives. */
static void test_r10_repeated_entries_are_taken_once(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    uint64_t last = last_of(world, 2);
    for (uint32_t i = 0; i < 3; i++) world_write(world, 1);
    world_flush(world, 1);
    struct mail append = world_expect(world, 1, 2, REPLICA_APPEND);
    world_hand(world, &append);
    assert_int_equal(last_of(world, 2), last + 3);
    assert_int_equal(world_hand(world, &append)->take_count, 0);
    /* and of what overlaps only the rest */
    world_write(world, 1);
    append.entries[3] = world->nodes[1].log[last + 4];
    append.message.entry_count = 4;
    struct replica_effects *effects = world_hand(world, &append);
    assert_int_equal(effects->take_skip, 3);
    assert_int_equal(effects->take_count, 1);
    assert_int_equal(last_of(world, 2), last + 4);
    world_free(world);
}

/* ---- R27: pipelines lose, delay and repeat ---- */

static void test_r27_a_gap_is_told_and_filled(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    uint64_t last = last_of(world, 2);
    world_write(world, 1);
    world_flush(world, 1);
    world_lose_mail(world);
    world_write(world, 1);
    world_flush(world, 1);
    struct mail append = world_expect(world, 1, 2, REPLICA_APPEND);
    assert_int_equal(append.message.prev_index, last + 1);
    assert_int_equal(world_hand(world, &append)->take_count, 0);
    assert_int_equal(last_of(world, 2), last);
    world_flush(world, 2);
    struct mail ack = world_expect(world, 2, 1, REPLICA_ACK);
    assert_true(ack.message.gap);
    world_hand(world, &ack);
    world_settle(world);
    assert_int_equal(last_of(world, 2), last + 2);
    world_assert_agree(world);
    world_free(world);
}

/* The end of what was sent is lost, and nothing follows it: a later beacon's answer shows it. */
static void test_r27_a_lost_end_is_sent_again(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_write(world, 1);
    world_flush(world, 1);
    world_lose_mail(world);
    uint64_t last = last_of(world, 1);
    world_pass(world, 300000);
    assert_int_equal(last_of(world, 2), last - 1); /* it may still be under way */
    world_pass(world, 700000);
    assert_int_equal(world_replica(world, 1)->commit_index, last);
    world_free(world);
}

/* A reconnection may have dropped frames: all that was not acknowledged is sent again at once. */
static void test_r27_a_new_connection_rewinds(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_write(world, 1);
    world_flush(world, 1);
    world_lose_mail(world);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_PEER_UP, .peer = 2});
    world_flush(world, 1);
    assert_true(world_take(world, 1, 2, REPLICA_APPEND, NULL));
    /* and the follower's acknowledgement may be lost as well */
    world_settle(world);
    world_tell(world, 2, (struct replica_event){.type = REPLICA_PEER_UP, .peer = 1});
    world_flush(world, 2);
    assert_true(world_take(world, 2, 1, REPLICA_ACK, NULL));
    world_free(world);
}

/* A frame is accepted only where it continues at the expected (epoch, index). */
static void test_r27_entries_that_do_not_continue_the_log_prove_a_bug(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *follower = world_replica(world, 2);
    world_write(world, 1);
    world_flush(world, 1);
    struct mail append = world_expect(world, 1, 2, REPLICA_APPEND);
    world_hand(world, &append);
    world_sync(world, 2);
    append.message.prev_index++;
    append.message.prev_epoch = 7;
    append.message.commit_index = follower->last_index;
    uint64_t last = follower->last_index, commit = follower->commit_index;
    assert_non_null(world_hand(world, &append)->failed);
    assert_int_equal(follower->last_index, last);
    assert_int_equal(follower->commit_index, commit);
    world_free(world);
}

/* Only of the process that opened the epoch: a stale connection may deliver what an earlier one has sent. */
static void test_r27_nothing_is_taken_of_an_epoch_that_is_not_open(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world_write(world, 1);
    world_flush(world, 1);
    struct mail append = world_expect(world, 1, 2, REPLICA_APPEND);
    struct mail other = append;
    other.message.from_incarnation = 1;
    struct replica_effects *effects = world_hand(world, &other);
    assert_int_equal(effects->take_count, 0);
    assert_int_equal(effects->sends[0].message.type, REPLICA_REFUSAL);
    /* a process that has not opened it yet; its refusal makes the leader open it */
    world_crash(world, 2);
    world_start(world, 2);
    effects = world_hand(world, &append);
    assert_int_equal(effects->take_count, 0);
    struct mail refusal = world_expect(world, 2, 1, REPLICA_REFUSAL);
    world_lose_mail(world);
    world_hand(world, &refusal);
    world_flush(world, 1);
    assert_true(world_take(world, 1, 2, REPLICA_OPEN, NULL));
    /* and one of another stay on this node is heard by nobody */
    append.message.replica_id = 99;
    effects = world_hand(world, &append);
    assert_int_equal(effects->take_count + effects->send_count, 0);
    world_free(world);
}

/* The window: what is not acknowledged has an end. */
static void test_r27_the_window_is_bounded(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    struct replica *leader = world_replica(world, 1);
    world_write(world, 1);
    leader->progress[1].next_index = leader->last_index;
    leader->progress[1].match_index = leader->last_index - 1;
    world_flush(world, 1);
    assert_int_equal(world->mails, 1);
    leader->progress[1].next_index = leader->last_index = leader->durable_index = 100000;
    leader->progress[1].match_index = 90000;
    struct replica_effects effects;
    replica_step(leader, &(struct replica_event){.type = REPLICA_FLUSH, .boot_us = world->now_us}, &effects);
    assert_int_equal(effects.send_count, 0);
    world_free(world);
}

/* The shell could not append what came: no event tells the core so, and the leader sends it again. */
static void test_r27_entries_that_could_not_be_appended_come_again(void **state) {
    (void)state;
    struct world *world = world_serving(2, 2);
    world->nodes[2].full = true;
    world_write(world, 1);
    world_settle(world);
    uint64_t last = last_of(world, 1);
    assert_int_equal(last_of(world, 2), last - 1);
    world->nodes[2].full = false;
    world_pass(world, 1000000);
    assert_int_equal(last_of(world, 2), last);
    assert_int_equal(world_replica(world, 1)->commit_index, last);
    world_free(world);
}

/* ---- R30: snapshots ---- */

static struct replica_event install_of(uint64_t epoch, uint64_t index) {
    return (struct replica_event){.type = REPLICA_INSTALL, .epoch = epoch, .index = index};
}

/* Node 3 is put out of the in-sync set and gets so far behind that the log does not reach back to what it needs. */
static void leave_behind(struct world *world) {
    world_cut_off(world, 1, 3);
    world_cut_off(world, 2, 3);
    world->nodes[3].mute = true;
    world_pass(world, 1000000);
    assert_false(world_in_isr(world, 3));
    for (uint32_t i = 0; i < 10; i++) world_write(world, 1);
    world_settle(world);
    node_tell_only(world, 1, (struct replica_event){.type = REPLICA_RELEASED, .index = last_of(world, 1)});
    world_join(world, 1, 3);
    world_join(world, 2, 3);
    world_tell(world, 1, (struct replica_event){.type = REPLICA_PEER_UP, .peer = 3});
    world_pass(world, 300000);
}

static struct world *world_with_a_straggler(void) {
    struct world *world = world_serving(3, 2);
    leave_behind(world);
    return world;
}

static void test_r30_a_straggler_gets_a_snapshot(void **state) {
    (void)state;
    struct world *world = world_with_a_straggler();
    struct replica *leader = world_replica(world, 1), *straggler = world_replica(world, 3);
    assert_int_equal(world->nodes[1].snapshot_to, 3);
    assert_int_equal(leader->progress[2].state, PROGRESS_SNAPSHOT);
    uint64_t index = leader->applied_index;
    assert_int_equal(world_tell(world, 3, install_of(1, index))->refused, SK_OK);
    node_tell_only(world, 3,
                   (struct replica_event){.type = REPLICA_INSTALLED,
                                          .index = index,
                                          .epoch = 1,
                                          .time_us = leader->last_time_us,
                                          .epochs = &leader->epochs});
    assert_int_equal(straggler->last_index, index);
    world->nodes[3].mute = false;
    world_pass(world, 1000000);
    assert_int_equal(leader->progress[2].state, PROGRESS_STREAM);
    assert_true(world_in_isr(world, 3));
    world_free(world);
}

/* It failed: the follower is asked what it has, and gets another. */
static void test_r30_a_snapshot_that_failed_is_made_again(void **state) {
    (void)state;
    struct world *world = world_with_a_straggler();
    node_tell_only(world, 1, (struct replica_event){.type = REPLICA_SNAPSHOT_FAILED, .peer = 3});
    assert_int_equal(world_replica(world, 1)->progress[2].state, PROGRESS_PROBE);
    world->nodes[1].snapshot_to = 0;
    world_pass(world, 300000);
    assert_int_equal(world->nodes[1].snapshot_to, 3);
    world_free(world);
}

/* Never below what it has, of another epoch, or of one that it has not opened. */
static void test_r30_what_may_not_be_installed(void **state) {
    (void)state;
    struct world *world = world_with_a_straggler();
    struct replica *straggler = world_replica(world, 3);
    uint64_t index = world_replica(world, 1)->applied_index;
    assert_int_equal(world_tell(world, 3, install_of(1, straggler->applied_index))->refused, SK_CONFLICT);
    assert_int_equal(world_tell(world, 3, install_of(2, index))->refused, SK_STALE_EPOCH);
    assert_int_equal(world_tell(world, 3, install_of(1, index))->refused, SK_OK);
    assert_int_equal(world_tell(world, 3, install_of(1, index))->refused, SK_CONFLICT); /* one at a time */
    node_tell_only(world, 3, (struct replica_event){.type = REPLICA_INSTALL_FAILED});
    assert_int_equal(world_tell(world, 3, install_of(1, index))->refused, SK_OK);
    world_free(world);
}

/* What is committed is executed first: nothing executes on a state that is being replaced. */
static void test_r30_not_before_what_is_committed_is_executed(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    struct replica *straggler = world_replica(world, 3);
    world->nodes[3].idle = true;
    world_write(world, 1);
    world_pass(world, 300000);
    leave_behind(world);
    assert_true(straggler->applied_index < straggler->commit_index);
    uint64_t index = world_replica(world, 1)->applied_index;
    assert_int_equal(world_tell(world, 3, install_of(1, index))->refused, SK_BUSY);
    world->nodes[3].idle = false;
    world_execute(world, 3);
    assert_int_equal(straggler->applied_index, straggler->commit_index);
    assert_int_equal(world_tell(world, 3, install_of(1, index))->refused, SK_OK);
    world_free(world);
}

/* Nor below the end of its log: what lies there it has acknowledged, and metad may have it in the in-sync set by now, of
 * which it hears late. */
static void test_r30_nothing_acknowledged_is_replaced(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->record.isr_count = 2;
    world_decree(world);
    world->nodes[3].idle = true;
    for (uint32_t i = 0; i < 5; i++) world_write(world, 1);
    world_settle(world);
    uint64_t last = last_of(world, 3);
    assert_true(world_replica(world, 3)->applied_index < last);
    assert_int_equal(world_tell(world, 3, install_of(1, last))->refused, SK_CONFLICT);
    assert_int_equal(world_tell(world, 3, install_of(1, last - 1))->refused, SK_CONFLICT);
    world_free(world);
}

/* A member of the in-sync set, or who is eligible, has what others count on. */
static void test_r30_never_onto_a_copy_that_counts(void **state) {
    (void)state;
    struct world *world = world_serving(3, 2);
    world->nodes[2].full = true;
    world_write(world, 1);
    world_settle(world);
    uint64_t index = last_of(world, 1);
    assert_int_equal(world_tell(world, 2, install_of(1, index))->refused, SK_CONFLICT);
    world->record.isr_count = 1;
    world->record.eligible_count = 1;
    world->record.eligible[0] = 2;
    world_decree(world);
    assert_int_equal(world_tell(world, 2, install_of(1, index))->refused, SK_CONFLICT);
    world->record.eligible_count = 0;
    world_decree(world);
    assert_int_equal(world_tell(world, 2, install_of(1, index))->refused, SK_OK);
    world_free(world);
}

/* Nor does a leader offer one to whom it counts, whatever the follower knows of that. */
static void test_r30_nothing_is_sent_to_a_copy_that_counts(void **state) {
    (void)state;
    struct world *world = world_with_a_straggler();
    world->record.isr[world->record.isr_count++] = 3;
    world->nodes[1].mute = true;
    world_decree(world);
    world->nodes[1].snapshot_to = 0;
    world_pass(world, 200000);
    assert_int_equal(world->nodes[1].snapshot_to, 0);
    world->record.isr_count--;
    world_decree(world);
    world_pass(world, 200000);
    assert_int_equal(world->nodes[1].snapshot_to, 3);
    world_free(world);
}

/* Made leader by force in the middle of an install: it holds neither the old state nor the new one. */
static void test_r30_nobody_leads_in_the_middle_of_an_install(void **state) {
    (void)state;
    struct world *world = world_with_a_straggler();
    world_tell(world, 3, install_of(1, world_replica(world, 1)->applied_index));
    world->record.isr[0] = 3;
    world->record.isr_count = 1;
    world->record.min_isr = 1;
    record_set_leader(world, 3);
    world->record.config_version++;
    assert_int_equal(world_configure(world, 3)->refused, SK_CONFLICT);
    assert_int_equal(world_replica(world, 3)->role, REPLICA_FOLLOWER);
    node_tell_only(world, 3, (struct replica_event){.type = REPLICA_INSTALL_FAILED});
    assert_int_equal(world_configure(world, 3)->refused, SK_OK); /* the same record, once it can be */
    assert_int_equal(world_replica(world, 3)->role, REPLICA_STARTING);
    world_free(world);
}

/* In the middle of an install its state is nothing: it never claims, is cut by nobody and takes nothing. */
static void test_r30_in_the_middle_of_an_install(void **state) {
    (void)state;
    struct world *world = world_with_a_straggler();
    struct replica *straggler = world_replica(world, 3);
    world_tell(world, 3, install_of(1, world_replica(world, 1)->applied_index));
    uint64_t commit = straggler->commit_index, last = straggler->last_index;
    struct replica_message append = from_leader(world, 1, 3, REPLICA_APPEND, 1);
    append.prev_index = last;
    append.entry_count = 1;
    append.commit_index = last + 1;
    assert_int_equal(world_hand_message(world, append)->take_count, 0);
    assert_int_equal(straggler->commit_index, commit);
    assert_false(world_hand_message(world, open_of(world, 2, 3, 4, last + 1))->adopt);
    /* metad's record may say what it will */
    world->nodes[1].paused = world->nodes[2].paused = true;
    world->record.isr[world->record.isr_count++] = 3;
    world->record.leader_epoch = 4;
    world->record.leader = 2;
    world_decree(world);
    uint32_t asks = world->nodes[3].asks;
    world_pass(world, 2000000);
    assert_int_equal(world->nodes[3].asks, asks);
    node_tell_only(world, 3, (struct replica_event){.type = REPLICA_INSTALL_FAILED});
    world_pass(world, 2000000);
    assert_int_equal(world->nodes[3].asked.kind, REPLICA_CHANGE_CLAIM);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_r1_an_epoch_is_durable_before_it_is_acknowledged),
        cmocka_unit_test(test_r1_a_leaders_epoch_is_durable_before_its_first_frame),
        cmocka_unit_test(test_r1_lower_epochs_are_refused_for_ever),
        cmocka_unit_test(test_r1_a_refused_leader_steps_down),
        cmocka_unit_test(test_r1_an_open_of_a_higher_epoch_ends_a_reign),
        cmocka_unit_test(test_r1_the_sync_of_an_older_epoch_opens_nothing),
        cmocka_unit_test(test_r1_an_epoch_that_was_not_written_is_asked_for_again),
        cmocka_unit_test(test_r7_a_tail_is_cut_behind_the_common_point),
        cmocka_unit_test(test_r7_the_cut_holds_after_a_restart),
        cmocka_unit_test(test_r7_nothing_is_cut_that_both_have),
        cmocka_unit_test(test_r7_a_late_open_cuts_nothing_of_its_own_epoch),
        cmocka_unit_test(test_r7_what_is_committed_is_never_cut),
        cmocka_unit_test(test_r7_a_counted_copy_is_not_cut_by_guessing),
        cmocka_unit_test(test_r7_an_uncounted_copy_is_cut_at_what_is_committed),
        cmocka_unit_test(test_r7_the_sync_of_a_cut_entry_counts_for_nothing),
        cmocka_unit_test(test_r7_a_new_leaders_commit_index_starts_anew),
        cmocka_unit_test(test_r7_a_tail_from_before_the_checkpoint_is_left_out),
        cmocka_unit_test(test_r7_a_log_that_begins_amid_a_tail),
        cmocka_unit_test(test_r24_missing_entries_are_damage),
        cmocka_unit_test(test_r10_repeated_entries_are_taken_once),
        cmocka_unit_test(test_r27_a_gap_is_told_and_filled),
        cmocka_unit_test(test_r27_a_lost_end_is_sent_again),
        cmocka_unit_test(test_r27_a_new_connection_rewinds),
        cmocka_unit_test(test_r27_entries_that_do_not_continue_the_log_prove_a_bug),
        cmocka_unit_test(test_r27_nothing_is_taken_of_an_epoch_that_is_not_open),
        cmocka_unit_test(test_r27_the_window_is_bounded),
        cmocka_unit_test(test_r27_entries_that_could_not_be_appended_come_again),
        cmocka_unit_test(test_r30_a_straggler_gets_a_snapshot),
        cmocka_unit_test(test_r30_a_snapshot_that_failed_is_made_again),
        cmocka_unit_test(test_r30_what_may_not_be_installed),
        cmocka_unit_test(test_r30_not_before_what_is_committed_is_executed),
        cmocka_unit_test(test_r30_nothing_acknowledged_is_replaced),
        cmocka_unit_test(test_r30_never_onto_a_copy_that_counts),
        cmocka_unit_test(test_r30_nothing_is_sent_to_a_copy_that_counts),
        cmocka_unit_test(test_r30_nobody_leads_in_the_middle_of_an_install),
        cmocka_unit_test(test_r30_in_the_middle_of_an_install),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

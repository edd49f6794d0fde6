/* The core as a follower: adopts an epoch, copies its leader's log, promises, and claims when the leader is silent. */
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/plant.h"
#include "shardd/replica_internal.h"

#define CLAIM_BEACONS                                                                                             \
    3u /* a leader whose connection is gone and that is silent for so many is claimed after early */

static void refuse(struct replica *replica, const struct replica_message *message,
                   struct replica_effects *effects) {
    replica_send(replica, effects, REPLICA_REFUSAL, message->from, replica->replica_id, replica->seen_epoch);
}

/* Whether a message is of the leader whose log this one copies. */
static bool is_of_leader(const struct replica *replica, const struct replica_message *message) {
    return message->epoch == replica->opened_epoch && message->epoch == replica->seen_epoch &&
           message->from == replica->open_node && message->from_incarnation == replica->open_incarnation;
}

void follower_advance_commit(struct replica *replica) {
    uint64_t commit = replica->leader_commit;
    if (replica->installing) return; /* the state is being replaced */
    if (commit > replica->durable_index) commit = replica->durable_index;
    /* Only a log that is a copy of the leader's may take the leader's word for its own indexes. */
    if (replica->opened_epoch == 0 || replica->opened_epoch != replica->seen_epoch) return;
    if (commit > replica->commit_index) replica->commit_index = commit;
}

/* R7: where the cut lies is computed here and now, from the leader's table. */
static void on_open(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    uint64_t keep;
    if (is_of_leader(replica, message)) { /* our answer was lost, or is under way */
        replica->ack_owed = true;
        return;
    }
    if (replica->installing || replica->adopting_epoch == message->epoch) return;
    if (message->epochs.count == 0 || message->epochs.starts[message->epochs.count - 1].epoch != message->epoch) {
        return; /* not a leader's table */
    }
    bool known = epochs_common(&replica->epochs, replica->last_index, &message->epochs, &keep);
    /* Nobody counts on a copy outside the ISR, and what is committed is surely the leader's too. */
    if (!known && !message->counted) keep = replica->commit_index;
    if (PLANTED(CUT_AT_COMMIT)) keep = replica->commit_index;
    if (!known && message->counted) {
        replica_fail(replica, "the logs differ by more epochs than are remembered", effects);
    } else if (keep < replica->commit_index) {
        replica_fail(replica, "the leader's log lacks committed entries", effects);
    } else {
        replica->open_node = message->from;
        replica->open_incarnation = message->from_incarnation;
        replica->opened_epoch = 0;
        effects->adopt = true;
        effects->epoch = message->epoch;
        effects->index = keep;
    }
}

void follower_on_adopted(struct replica *replica, const struct replica_event *event) {
    sk_assert(event->index >= replica->commit_index && event->index <= replica->last_index);
    epochs_cut(&replica->epochs, event->index);
    replica->last_index = event->index;
    replica->last_epoch = epochs_at(&replica->epochs, event->index);
    if (replica->durable_index > event->index) replica->durable_index = event->index;
    if (replica->durable_index == replica->last_index) replica->unsynced_us = 0;
    replica->adopting_epoch = event->epoch;
    replica->leader_commit = 0;
}

/* R1: only now may anything be acknowledged in this epoch. */
void follower_on_stored(struct replica *replica, const struct replica_event *event) {
    if (event->epoch > replica->stored_epoch) replica->stored_epoch = event->epoch;
    if (replica->adopting_epoch != event->epoch) return;
    replica->adopting_epoch = 0;
    if (event->epoch != replica->seen_epoch || replica->role != REPLICA_FOLLOWER) return;
    replica->opened_epoch = event->epoch;
    replica->ack_owed = true;
}

/* R27: entries continue ours, or what we have is skipped, or some are missing. */
static void on_append(struct replica *replica, const struct replica_event *event,
                      struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    if (replica->installing) return;
    bool gap = message->prev_index > replica->last_index;
    uint64_t epoch = gap ? 0 : epochs_at(&replica->epochs, message->prev_index);
    if (epoch != 0 && message->prev_epoch != 0 && epoch != message->prev_epoch) {
        replica_fail(replica, "entries do not continue this log", effects);
        return;
    }
    if (message->commit_index > replica->leader_commit) replica->leader_commit = message->commit_index;
    follower_advance_commit(replica);
    if (gap) {
        replica->gap_owed = true;
        return;
    }
    uint64_t skip = replica->last_index - message->prev_index;
    if (skip >= message->entry_count) {
        replica->ack_owed = true;
        return;
    }
    effects->take_skip = (uint32_t)skip;
    effects->take_count = message->entry_count - (uint32_t)skip;
}

/* Not before a time is on disk from which this replica, if all died now and it led next, would begin behind what the leader
 * shows (R26). A full disk so ends in leaving the in-sync set. */
static void answer_beacon(struct replica *replica, uint64_t now_us, struct replica_effects *effects) {
    if (replica->beacon.epoch == 0 || replica->beacon.epoch != replica->seen_epoch) return;
    if (replica->beacon.time_us > replica->recorded_time_us + REPLICA_TIME_AGE_US) return;
    struct replica_message *answer = replica_send(replica, effects, REPLICA_PROMISE, replica->beacon.from,
                                                  replica->replica_id, replica->beacon.epoch);
    answer->sent_us = replica->beacon.sent_us;
    answer->promised_us = now_us;
    answer->durable_index = replica->durable_index;
    answer->last_index = replica->last_index;
    replica->beacon.epoch = 0;
}

/* R17: state and time belong together, so what a later beacon says counts whole or, if it came after one that was sent
 * after it, not at all. An earlier process of this replica may have had another clock. */
static void note_vouched(struct replica *replica, const struct replica_event *event) {
    const struct replica_message *message = event->message;
    bool ours = message->echo_us != 0 && message->echo_incarnation == replica->incarnation;
    bool later = message->epoch != replica->vouched.epoch || message->echo_us > replica->vouched.echo_us;
    if (!ours || !later) return;
    replica->vouched.epoch = message->epoch;
    replica->vouched.echo_us = message->echo_us;
    replica->vouched.commit_index = message->commit_index;
    replica->vouched.time_us = message->time_us;
}

/* R17: of a member of the in-sync set, and not before it has executed what the leader had committed. Its time is shown under
 * the same condition as the beacon that it came with is answered (R26); entries have shown theirs. */
void follower_read(const struct replica *replica, const struct replica_event *event,
                   struct replica_effects *effects) {
    uint64_t epoch = replica->vouched.epoch;
    bool follows = epoch != 0 && epoch == replica->opened_epoch && epoch == replica->seen_epoch;
    bool whole = !replica->installing && replica->applied_index >= replica->vouched.commit_index;
    bool fresh = event->boot_us - replica->vouched.echo_us <= REPLICA_STALE_US;
    bool shown = replica->vouched.time_us <= replica->recorded_time_us + REPLICA_TIME_AGE_US;
    if (!follows || !whole || !fresh || !shown || !replica_is_in_sync(replica)) {
        effects->refused = SK_NOT_LEADER;
        return;
    }
    effects->time_us = replica->vouched.time_us;
    if (replica->executed_time_us > effects->time_us) effects->time_us = replica->executed_time_us;
}

/* R15: the promise is recorded before its answer leaves. */
static void on_beacon(struct replica *replica, const struct replica_event *event,
                      struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    if (message->commit_index > replica->leader_commit) replica->leader_commit = message->commit_index;
    follower_advance_commit(replica);
    if (message->keep_index > replica->keep_index) replica->keep_index = message->keep_index;
    if (message->time_us > replica->last_time_us) replica->last_time_us = message->time_us;
    replica->time_is_old = false;
    uint64_t until_us = event->boot_us + replica->times.grace_us;
    if (until_us > replica->promise_until_us) replica->promise_until_us = until_us;
    replica->promised_epoch = message->epoch;
    replica->beacon.from = message->from;
    replica->beacon.epoch = message->epoch;
    replica->beacon.sent_us = message->sent_us;
    replica->beacon.time_us = message->time_us;
    note_vouched(replica, event);
    answer_beacon(replica, event->boot_us, effects);
}

/* R20: the leader of that epoch serves no more and so nobody needs our promise, nor those before it: that leader has
 * served, so it had outwaited them. */
static void on_release(struct replica *replica, const struct replica_event *event,
                       struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    if (replica->promised_epoch > message->epoch) return;
    if (message->epoch + 1 < replica->seen_epoch) return;
    replica_see_epoch(replica, message->epoch + 1, effects);
    if (replica->promise_until_us > event->boot_us) replica->promise_until_us = event->boot_us;
}

void follower_on_message(struct replica *replica, const struct replica_event *event,
                         struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    if (message->type == REPLICA_RELEASE) {
        on_release(replica, event, effects);
        if (replica_leads(replica)) leader_advance_commit(replica, event->boot_us);
        return;
    }
    if (message->epoch < replica->seen_epoch) { /* R1 */
        refuse(replica, message, effects);
        return;
    }
    if (message->epoch == replica->seen_epoch && replica_leads(replica)) return; /* nobody else leads our epoch */
    if (message->type == REPLICA_OPEN) {
        replica_see_epoch(replica, message->epoch, effects);
        replica->heard_us = event->boot_us;
        on_open(replica, event, effects);
        return;
    }
    replica->heard_us = event->boot_us;
    if (!is_of_leader(replica, message)) {
        if (replica->adopting_epoch != message->epoch) refuse(replica, message, effects);
    } else if (message->type == REPLICA_APPEND) {
        on_append(replica, event, effects);
    } else {
        on_beacon(replica, event, effects);
    }
}

/* ---- snapshots ---- */

/* R30. Nor below the end of the log: that is the leader's own, may have been acknowledged, and reaches further. */
void follower_on_install(struct replica *replica, const struct replica_event *event,
                         struct replica_effects *effects) {
    bool follows = replica->role == REPLICA_FOLLOWER && replica->opened_epoch == event->epoch &&
                   replica->seen_epoch == event->epoch;
    if (!follows) {
        effects->refused = SK_STALE_EPOCH;
    } else if (replica->installing || replica_may_lead(replica) || event->index <= replica->last_index) {
        effects->refused = SK_CONFLICT;
    } else if (replica->applied_index < replica->commit_index) {
        effects->refused = SK_BUSY; /* nothing executes on a state that is being replaced */
    } else {
        replica->installing = true;
    }
}

void follower_on_installed(struct replica *replica, const struct replica_event *event) {
    sk_assert(replica->installing && event->index > replica->applied_index);
    replica->installing = false;
    replica->last_index = replica->durable_index = replica->commit_index = replica->applied_index = event->index;
    replica->first_index = event->index + 1;
    replica->epochs = *event->epochs;
    replica->last_epoch = epochs_at(&replica->epochs, event->index);
    replica->unsynced_us = 0;
    replica_restore_time(replica, event->time_us); /* it is on disk with the state */
    replica->ack_owed = true;
}

/* ---- time ---- */

static bool leader_is_silent(const struct replica *replica, uint64_t now_us) {
    uint64_t silent_us = now_us - replica->heard_us;
    if (now_us <= replica->heard_us) return false;
    int slot = replica_slot(replica, replica->config.leader);
    bool down = slot >= 0 && replica->progress[slot].down;
    return silent_us >= replica->times.grace_us || (down && silent_us >= CLAIM_BEACONS * replica->times.beacon_us);
}

/* R22: who cannot write cannot lead. */
static bool disk_hangs(const struct replica *replica, uint64_t now_us) {
    return replica->unsynced_us != 0 && now_us - replica->unsynced_us > replica->times.lag_us;
}

/* Asking early is safe: who leads by it serves only when its own promise has run out (R5, R15). */
void follower_tick(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    const struct map_shard *config = &replica->config;
    uint64_t since_us = replica->tick_us;
    replica->tick_us = event->boot_us;
    if (since_us != 0 && event->boot_us - since_us > replica->times.beacon_us) {
        /* It was us who stood still: beacons may lie in the queue. */
        uint64_t least_us = event->boot_us - replica->times.grace_us / 2;
        if (replica->heard_us < least_us) replica->heard_us = least_us;
    }
    if (disk_hangs(replica, event->boot_us)) return;
    if (replica->installing || config->config_version == 0 || !replica_may_lead(replica)) return;
    if (replica->seen_epoch > config->leader_epoch) return; /* there is a newer map */
    if (config->leader == replica->node && config->leader_incarnation == replica->incarnation) return;
    if (config->leader != 0 && !leader_is_silent(replica, event->boot_us)) return;
    if (replica->claimed_us != 0 && event->boot_us - replica->claimed_us < 2 * replica->times.retry_us) return;
    replica->claimed_us = event->boot_us;
    effects->change = (struct replica_change){
        .kind = REPLICA_CHANGE_CLAIM,
        .config_version = config->config_version,
        .leader_epoch = config->leader_epoch,
    };
}

void follower_flush(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    answer_beacon(replica, event->boot_us, effects);
    bool owed = replica->ack_owed || replica->gap_owed;
    if (!owed || replica->opened_epoch == 0 || replica->opened_epoch != replica->seen_epoch) return;
    struct replica_message *ack = replica_send(replica, effects, REPLICA_ACK, replica->open_node,
                                               replica->replica_id, replica->opened_epoch);
    ack->durable_index = replica->durable_index;
    ack->last_index = replica->last_index;
    ack->gap = replica->gap_owed;
    replica->ack_owed = replica->gap_owed = false;
}

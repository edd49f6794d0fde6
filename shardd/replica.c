#include "shardd/replica.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/plant.h"
#include "shardd/replica_internal.h"

#include <string.h>

#define SLOWER_BY 8u /* time that is ahead of the clock goes slower by this part of it */

const char *replica_role_name(enum replica_role role) {
    switch (role) {
    case REPLICA_FOLLOWER:
        return "follower";
    case REPLICA_STARTING:
        return "starting";
    case REPLICA_LEADER:
        return "leader";
    case REPLICA_FAILED:
        return "failed";
    }
    return "unknown";
}

/* ---- opening ---- */

void replica_init(struct replica *replica, uint32_t shard, uint64_t replica_id, const struct replica_times *times,
                  uint64_t start_us) {
    *replica = (struct replica){
        .shard = shard,
        .replica_id = replica_id,
        .times = *times,
        .role = REPLICA_FOLLOWER,
        .first_index = 1,
        .heard_us = start_us,
        .promise_until_us = start_us + times->grace_us, /* R15: as if it had promised at its start */
        .time_is_old = true,
    };
    if (PLANTED(PROMISE_FORGOTTEN)) replica->promise_until_us = 0;
}

void replica_identify(struct replica *replica, uint32_t node, uint64_t incarnation) {
    replica->node = node;
    replica->incarnation = incarnation;
}

void replica_restore_state(struct replica *replica, uint64_t applied_index, const struct epochs *epochs,
                           uint64_t stored_epoch, uint64_t time_us) {
    replica->last_index = replica->durable_index = replica->commit_index = replica->applied_index = applied_index;
    replica->first_index = applied_index + 1;
    replica->epochs = *epochs;
    epochs_cut(&replica->epochs, applied_index);
    replica->last_epoch = epochs_at(&replica->epochs, applied_index);
    replica->stored_epoch = replica->seen_epoch = stored_epoch;
    replica->last_time_us = replica->recorded_time_us = time_us;
}

int replica_restore_entry(struct replica *replica, uint64_t index, uint64_t epoch, uint64_t time_us,
                          uint64_t commit_index) {
    bool continues = index == replica->last_index + 1 && epoch >= replica->last_epoch;
    if (commit_index >= index || (continues && replica->left_out != 0)) return SK_ECORRUPT;
    if (!continues) {
        if (replica->left_out == 0 || index < replica->left_out) replica->left_out = index;
        return SK_STALE_EPOCH;
    }
    epochs_add(&replica->epochs, epoch, index);
    replica->last_index = replica->durable_index = index;
    replica->last_epoch = epoch;
    if (epoch > replica->stored_epoch) replica->stored_epoch = epoch;
    if (epoch > replica->seen_epoch) replica->seen_epoch = epoch;
    if (commit_index > replica->commit_index) replica->commit_index = commit_index;
    replica_restore_time(replica, time_us);
    return SK_OK;
}

/* A record from before the checkpoint may name an index below what the checkpoint holds; it cut what was above. That was
 * left out if it did not happen to continue the state. */
int replica_restore_adopted(struct replica *replica, uint64_t epoch, uint64_t index) {
    uint64_t keep = index > replica->applied_index ? index : replica->applied_index;
    if (keep < replica->commit_index) return SK_ECORRUPT;
    if (index < replica->left_out) replica->left_out = 0;
    if (keep < replica->last_index) {
        epochs_cut(&replica->epochs, keep);
        replica->last_index = replica->durable_index = keep;
        replica->last_epoch = epochs_at(&replica->epochs, keep);
    }
    if (epoch > replica->stored_epoch) replica->stored_epoch = epoch;
    if (epoch > replica->seen_epoch) replica->seen_epoch = epoch;
    return SK_OK;
}

static void note_recorded(struct replica *replica, uint64_t time_us) {
    if (time_us > replica->recorded_time_us) replica->recorded_time_us = time_us;
}

void replica_restore_time(struct replica *replica, uint64_t time_us) {
    if (time_us > replica->last_time_us) replica->last_time_us = time_us;
    note_recorded(replica, time_us);
}

int replica_restore_end(const struct replica *replica) { return replica->left_out == 0 ? SK_OK : SK_ECORRUPT; }

/* ---- what the parts share ---- */

bool replica_leads(const struct replica *replica) {
    return replica->role == REPLICA_STARTING || replica->role == REPLICA_LEADER;
}

int replica_slot(const struct replica *replica, uint32_t node) {
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (replica->config.replicas[i].node == node) return (int)i;
    }
    return -1;
}

static uint32_t mask_of(const struct replica *replica, const uint32_t *nodes, uint32_t count) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < count; i++) {
        int slot = replica_slot(replica, nodes[i]);
        if (slot >= 0) mask |= 1u << slot;
    }
    return mask;
}

uint32_t replica_isr(const struct replica *replica) {
    return mask_of(replica, replica->config.isr, replica->config.isr_count);
}

uint32_t replica_widest(const struct replica *replica) {
    if (PLANTED(SHRUNK_EARLY) && replica->proposed != 0) return replica->proposed;
    if (PLANTED(JOINER_NOT_COUNTED)) return replica_isr(replica);
    return replica_isr(replica) | replica->proposed;
}

/* Whether this replica, and not an earlier stay on this node, is one of `mask`. */
static bool is_one_of(const struct replica *replica, uint32_t mask) {
    int slot = replica_slot(replica, replica->node);
    if (slot < 0 || replica->config.replicas[slot].replica_id != replica->replica_id) return false;
    return (mask >> slot & 1) != 0;
}

bool replica_is_in_sync(const struct replica *replica) { return is_one_of(replica, replica_isr(replica)); }

bool replica_may_lead(const struct replica *replica) {
    const struct map_shard *config = &replica->config;
    uint32_t eligible = mask_of(replica, config->eligible, config->eligible_count);
    return is_one_of(replica, replica_isr(replica) | eligible);
}

struct replica_message *replica_send(struct replica *replica, struct replica_effects *effects,
                                     enum replica_message_type type, uint32_t to, uint64_t replica_id,
                                     uint64_t epoch) {
    sk_assert(effects->send_count < REPLICA_SENDS_MAX);
    struct replica_send *send = &effects->sends[effects->send_count++];
    send->with_entries = false;
    send->message = (struct replica_message){
        .type = type,
        .shard = replica->shard,
        .from = replica->node,
        .to = to,
        .from_incarnation = replica->incarnation,
        .replica_id = replica_id,
        .epoch = epoch,
    };
    return &send->message;
}

void replica_see_epoch(struct replica *replica, uint64_t epoch, struct replica_effects *effects) {
    if (epoch <= replica->seen_epoch) return;
    replica->seen_epoch = epoch;
    if (!replica_leads(replica)) return;
    leader_end_epoch(replica);
    effects->stepped_down = true;
}

void replica_fail(struct replica *replica, const char *why, struct replica_effects *effects) {
    effects->stepped_down = effects->stepped_down || replica_leads(replica);
    effects->failed = why;
    replica->role = REPLICA_FAILED;
}

/* It advances by CLOCK_BOOTTIME within an epoch and never goes back (R26). What the epoch had to begin ahead of the clock it
 * gives back by going slower: else each new leader would add its grace to that of the one before, for ever. */
uint64_t replica_time_us(const struct replica *replica, uint64_t boot_us) {
    uint64_t since_us = boot_us - replica->epoch_boot_us;
    uint64_t back_us = since_us / SLOWER_BY;
    if (back_us > replica->epoch_ahead_us) back_us = replica->epoch_ahead_us;
    uint64_t time_us = replica->epoch_wall_us + since_us - back_us;
    return time_us > replica->last_time_us ? time_us : replica->last_time_us;
}

/* Entries are on disk before anyone sees what they have done; the time of a read is not, and a restart must find one that
 * is not far behind. While nothing can be recorded it stands still (R26). What entries have shown is never later: all that
 * is executed is synced here. */
static uint64_t read_time_us(const struct replica *replica, uint64_t boot_us) {
    uint64_t time_us = replica_time_us(replica, boot_us);
    uint64_t bound_us = replica->recorded_time_us + REPLICA_TIME_AGE_US;
    return time_us < bound_us ? time_us : bound_us;
}

/* ---- configuration ---- */

/* Who follows may have changed: what is known of those who stay is kept. */
static void take_replicas(struct replica *replica, const struct map_shard *config, uint64_t now_us) {
    struct progress old[MAP_REPLICAS_MAX];
    uint32_t old_count = replica->config.replica_count;
    memcpy(old, replica->progress, sizeof old);
    for (uint32_t i = 0; i < config->replica_count; i++) {
        const struct map_replica *wanted = &config->replicas[i];
        struct progress *progress = &replica->progress[i];
        *progress = (struct progress){.node = wanted->node, .replica_id = wanted->replica_id};
        progress_restart(progress, now_us);
        for (uint32_t j = 0; j < old_count; j++) {
            if (old[j].node != wanted->node) continue;
            if (old[j].replica_id == wanted->replica_id) {
                *progress = old[j];
            } else {
                progress->down = old[j].down;
            }
        }
    }
}

static void become_follower(struct replica *replica, uint64_t now_us) {
    replica->role = REPLICA_FOLLOWER;
    replica->heard_us = now_us;
}

/* R20: the hand-over that we asked for has happened. What was promised to us is void: we never serve this epoch again. */
static bool was_handed_over(const struct replica *replica, const struct map_shard *config) {
    return replica->may_have_left && config->leader == replica->handover_to &&
           config->leader_epoch == replica->config.leader_epoch + 1;
}

static void on_config(struct replica *replica, const struct replica_event *event,
                      struct replica_effects *effects) {
    const struct map_shard *config = event->config;
    bool newer = config->config_version > replica->config.config_version; /* R29 */
    if (!newer || replica->role == REPLICA_FAILED) return;

    bool leads = config->leader == replica->node && config->leader_incarnation == replica->incarnation; /* R6 */
    if (leads && config->leader_epoch < replica->seen_epoch) {
        /* A later epoch exists: this map is old, or not of the metad that this log was written under. */
        leads = false;
        effects->refused = SK_STALE_EPOCH;
    } else if (leads && replica->installing) { /* R30: it holds neither the old state nor the new one */
        effects->refused = SK_CONFLICT;
        return;
    }
    bool was_leader = replica_leads(replica);
    bool same_reign = was_leader && leads && config->leader_epoch == replica->config.leader_epoch;
    if (was_handed_over(replica, config)) {
        int slot = replica_slot(replica, config->leader);
        uint64_t replica_id = slot < 0 ? 0 : replica->config.replicas[slot].replica_id;
        replica_send(replica, effects, REPLICA_RELEASE, config->leader, replica_id, replica->config.leader_epoch);
    }
    struct map_shard old = replica->config;
    take_replicas(replica, config, event->boot_us);
    replica->config = *config;
    replica->proposed = 0;
    replica->open.kind = REPLICA_CHANGE_NONE;
    if (same_reign) {
        leader_on_config(replica, &old, event->boot_us);
        return;
    }
    effects->stepped_down = was_leader;
    replica->may_have_left = false;
    if (config->leader_epoch > replica->seen_epoch) replica->seen_epoch = config->leader_epoch;
    if (!leads) {
        /* Another leader gets time to be heard; the same one, started again, is as silent as before: else one that
         * dies over and over could keep all others from claiming. */
        if (was_leader || config->leader != old.leader) become_follower(replica, event->boot_us);
        return;
    }
    effects->became_leader = true;
    leader_begin_epoch(replica, event, effects);
}

/* ---- the own log ---- */

static void on_appended(struct replica *replica, const struct replica_event *event) {
    sk_assert(event->index == replica->last_index + 1);
    epochs_add(&replica->epochs, event->epoch, event->index);
    replica->last_index = event->index;
    replica->last_epoch = event->epoch;
    if (event->time_us > replica->last_time_us) replica->last_time_us = event->time_us;
    if (replica->unsynced_us == 0) replica->unsynced_us = event->boot_us;
    bool opens = replica_leads(replica) && replica->first_of_epoch == 0;
    if (opens) {
        sk_assert(event->epoch == replica->config.leader_epoch);
        replica->first_of_epoch = event->index;
    }
}

/* An entry that was cut meanwhile has another epoch than what lies there now. */
static void on_durable(struct replica *replica, const struct replica_event *event) {
    uint64_t epoch = epochs_at(&replica->epochs, event->index);
    if (event->index > replica->last_index || (epoch != 0 && epoch != event->epoch)) return;
    if (event->index > replica->durable_index) replica->durable_index = event->index;
    if (event->epoch > replica->stored_epoch) replica->stored_epoch = event->epoch;
    note_recorded(replica, event->time_us);
    replica->unsynced_us = replica->durable_index == replica->last_index ? 0 : event->boot_us;
    if (replica_leads(replica)) {
        leader_advance_commit(replica, event->boot_us);
    } else {
        replica->ack_owed = true;
        follower_advance_commit(replica);
    }
}

/* R5: what earlier epochs have committed must be executed too before a read or a repeat is answered. */
static void on_executed(struct replica *replica, const struct replica_event *event) {
    sk_assert(event->index == replica->applied_index + 1);
    sk_assert(!replica->installing);
    replica->applied_index = event->index;
    replica->executed_time_us = event->time_us;
    if (replica->role == REPLICA_STARTING && replica->first_of_epoch != 0 &&
        replica->applied_index >= replica->first_of_epoch) {
        replica->role = REPLICA_LEADER;
    }
}

/* ---- commands ---- */

static int refusal(const struct replica *replica) {
    if (replica->role == REPLICA_LEADER) return SK_OK;
    return replica->role == REPLICA_FAILED ? SK_UNAVAILABLE : SK_NOT_LEADER;
}

static void on_write(struct replica *replica, const struct replica_event *event, enum replica_entry_kind kind,
                     struct replica_effects *effects) {
    effects->refused = refusal(replica);
    if (effects->refused != SK_OK) return;
    if (replica->handover_to != 0 && !replica->wants_to_stay) { /* R20 */
        effects->refused = SK_NOT_LEADER;
    } else if (replica->config.isr_count < replica->config.min_isr) { /* R11 */
        effects->refused = SK_UNAVAILABLE;
    } else {
        leader_propose_entry(replica, event, kind, effects);
    }
}

int replica_read_refusal(const struct replica *replica, uint64_t now_us) {
    int refused = PLANTED(EARLY_READS) && replica_leads(replica) ? SK_OK : refusal(replica);
    if (PLANTED(LEASE_KEPT)) now_us = replica->tick_us;
    if (refused == SK_OK && now_us >= replica_lease_until_us(replica)) refused = SK_UNAVAILABLE;
    return refused;
}

/* R14, R15: the event's time was taken after the request had come, and the state is read right after this. */
static void on_read(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    effects->refused = replica_read_refusal(replica, event->boot_us);
    if (effects->refused == SK_OK) effects->time_us = read_time_us(replica, event->boot_us);
}

uint64_t replica_lease_until_us(const struct replica *replica) {
    uint32_t others = replica_widest(replica);
    int self = replica_slot(replica, replica->node);
    if (self >= 0) others &= ~(1u << self);
    /* R16: who is eligible may lead and has promised nothing: only metad could tell. Alone, with nobody eligible, no one
     * else can lead. */
    if (replica->config.eligible_count > 0) return 0;
    uint64_t until_us = UINT64_MAX;
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if ((others >> i & 1) == 0) continue;
        uint64_t answered_us = replica->progress[i].answered_us;
        uint64_t one_us = answered_us == 0 ? 0 : answered_us + replica->times.lease_us;
        if (one_us < until_us) until_us = one_us;
    }
    return until_us;
}

uint64_t replica_behind(const struct replica *replica) {
    uint64_t behind = 0;
    for (uint32_t i = 0; replica_leads(replica) && i < replica->config.replica_count; i++) {
        if (replica->config.replicas[i].node == replica->node) continue;
        behind += replica->last_index - replica->progress[i].match_index;
    }
    return behind;
}

bool replica_is_settled(const struct replica *replica, uint64_t boot_us) {
    if (replica->role == REPLICA_FOLLOWER) return boot_us < replica->heard_us + 2 * replica->times.beacon_us;
    return replica->role == REPLICA_LEADER && replica->commit_index == replica->last_index &&
           replica->handover_to == 0 && !replica->wants_to_stay;
}

bool replica_may_answer(const struct replica *replica, uint64_t epoch) {
    return replica->role == REPLICA_LEADER && replica->config.leader_epoch == epoch;
}

/* ---- peers ---- */

static void on_message(struct replica *replica, const struct replica_event *event,
                       struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    sk_assert(message->shard == replica->shard);
    if (replica->role == REPLICA_FAILED || replica->node == 0) return;
    switch (message->type) {
    case REPLICA_OPEN:
    case REPLICA_APPEND:
    case REPLICA_BEACON:
    case REPLICA_RELEASE:
        if (message->replica_id == replica->replica_id) follower_on_message(replica, event, effects);
        return;
    case REPLICA_ACK:
    case REPLICA_PROMISE:
    case REPLICA_REFUSAL:
        leader_on_message(replica, event, effects);
        return;
    }
}

static void on_peer(struct replica *replica, const struct replica_event *event, bool up) {
    int slot = replica_slot(replica, event->peer);
    if (slot < 0) return;
    struct progress *progress = &replica->progress[slot];
    progress->down = !up;
    if (!up) return;
    progress->up_us = event->boot_us;
    if (replica_leads(replica)) {
        leader_on_peer_up(replica, progress);
    } else if (event->peer == replica->open_node) {
        replica->ack_owed = true; /* the last one may be lost (R27) */
    }
}

static void on_snapshot_failed(struct replica *replica, const struct replica_event *event) {
    int slot = replica_slot(replica, event->peer);
    if (slot < 0 || replica->progress[slot].state != PROGRESS_SNAPSHOT) return;
    progress_restart(&replica->progress[slot], event->boot_us);
    replica->progress[slot].opened_us = event->boot_us; /* not at once again */
}

/* ---- the step ---- */

static void assert_invariants(const struct replica *replica) {
    sk_assert(replica->applied_index <= replica->commit_index);
    sk_assert(replica->commit_index <= replica->last_index);
    sk_assert(replica->durable_index <= replica->last_index);
    sk_assert(replica->last_epoch <= replica->seen_epoch);
    sk_assert(replica->stored_epoch <= replica->seen_epoch);
    sk_assert(!replica_leads(replica) || replica->seen_epoch == replica->config.leader_epoch);
    sk_assert(!replica_leads(replica) || replica->commit_index <= replica->durable_index);
}

static void effects_clear(struct replica_effects *effects) {
    effects->refused = SK_OK;
    effects->adopt = effects->became_leader = effects->stepped_down = false;
    effects->append = REPLICA_ENTRY_NONE;
    effects->take_skip = effects->take_count = 0;
    effects->epoch = effects->index = effects->time_us = 0;
    effects->failed = NULL;
    effects->change.kind = REPLICA_CHANGE_NONE;
    effects->snapshot_to = 0;
    effects->send_count = 0;
}

void replica_step(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    effects_clear(effects);
    switch (event->type) {
    case REPLICA_CONFIG:
        on_config(replica, event, effects);
        break;
    case REPLICA_WRITE:
        on_write(replica, event, REPLICA_ENTRY_COMMAND, effects);
        break;
    case REPLICA_SWEEP:
        on_write(replica, event, REPLICA_ENTRY_SWEEP, effects);
        break;
    case REPLICA_VERIFY:
        on_write(replica, event, REPLICA_ENTRY_VERIFY, effects);
        break;
    case REPLICA_REBUILD:
        effects->refused = refusal(replica);
        if (effects->refused == SK_OK) leader_on_rebuild(replica, event, effects);
        break;
    case REPLICA_READ:
        on_read(replica, event, effects);
        break;
    case REPLICA_READ_STALE:
        if (replica->role == REPLICA_FOLLOWER) follower_read(replica, event, effects);
        else on_read(replica, event, effects);
        break;
    case REPLICA_APPENDED:
        on_appended(replica, event);
        if (PLANTED(ACKNOWLEDGE_BEFORE_SYNC)) on_durable(replica, event);
        break;
    case REPLICA_DURABLE:
        on_durable(replica, event);
        break;
    case REPLICA_ADOPTED:
        follower_on_adopted(replica, event);
        break;
    case REPLICA_STORED:
        follower_on_stored(replica, event);
        break;
    case REPLICA_EXECUTED:
        on_executed(replica, event);
        break;
    case REPLICA_MESSAGE:
        on_message(replica, event, effects);
        break;
    case REPLICA_SENT:
        leader_on_sent(replica, event);
        break;
    case REPLICA_FLUSH:
        if (replica_leads(replica)) leader_flush(replica, event, effects);
        else if (replica->role == REPLICA_FOLLOWER) follower_flush(replica, event, effects);
        break;
    case REPLICA_TICK:
        note_recorded(replica, event->time_us);
        if (replica_leads(replica)) leader_tick(replica, event, effects);
        else if (replica->role == REPLICA_FOLLOWER) follower_tick(replica, event, effects);
        break;
    case REPLICA_PEER_DOWN:
        on_peer(replica, event, false);
        break;
    case REPLICA_PEER_UP:
        on_peer(replica, event, true);
        break;
    case REPLICA_RELEASED:
        replica->first_index = event->index;
        break;
    case REPLICA_SNAPSHOT_FAILED:
        on_snapshot_failed(replica, event);
        break;
    case REPLICA_INSTALL:
        follower_on_install(replica, event, effects);
        break;
    case REPLICA_INSTALLED:
        follower_on_installed(replica, event);
        break;
    case REPLICA_INSTALL_FAILED:
        replica->installing = false;
        break;
    case REPLICA_FAIL:
        replica_fail(replica, NULL, effects);
        break;
    }
    /* A stamp that was given out is never gone below, also by reads: they have shown what had expired by then. */
    if (effects->time_us > replica->last_time_us) replica->last_time_us = effects->time_us;
    assert_invariants(replica);
}

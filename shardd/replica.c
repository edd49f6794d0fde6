#include "shardd/replica.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

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

void replica_init(struct replica *replica, uint32_t shard, uint64_t replica_id, uint64_t grace_us) {
    *replica = (struct replica){
        .shard = shard,
        .replica_id = replica_id,
        .grace_us = grace_us,
        .role = REPLICA_FOLLOWER,
    };
}

void replica_identify(struct replica *replica, uint32_t node, uint64_t incarnation) {
    replica->node = node;
    replica->incarnation = incarnation;
}

static void assert_invariants(const struct replica *replica) {
    sk_assert(replica->applied_index <= replica->commit_index);
    sk_assert(replica->commit_index <= replica->last_index);
    sk_assert(replica->durable_index <= replica->last_index);
    sk_assert(replica->last_epoch <= replica->leader_epoch || replica->leader_epoch == 0);
}

void replica_restore_state(struct replica *replica, uint64_t applied_index, uint64_t epoch, uint64_t time_us) {
    replica->last_index = replica->durable_index = replica->commit_index = replica->applied_index = applied_index;
    replica->last_epoch = epoch;
    replica->last_time_us = time_us;
}

int replica_restore_entry(struct replica *replica, uint64_t index, uint64_t epoch, uint64_t time_us,
                          uint64_t commit_index) {
    if (index != replica->last_index + 1 || epoch < replica->last_epoch || commit_index >= index)
        return SK_ECORRUPT;
    replica->last_index = replica->durable_index = index;
    replica->last_epoch = epoch;
    if (time_us > replica->last_time_us) replica->last_time_us = time_us;
    if (commit_index > replica->commit_index) replica->commit_index = commit_index;
    return SK_OK;
}

/* The leader's time: it advances by CLOCK_BOOTTIME within an epoch and never goes back (R26). */
static uint64_t leader_time_us(const struct replica *replica, uint64_t boot_us) {
    uint64_t time_us = replica->epoch_wall_us + (boot_us - replica->epoch_boot_us);
    return time_us > replica->last_time_us ? time_us : replica->last_time_us;
}

static void propose(const struct replica *replica, const struct replica_event *event, enum replica_entry_kind kind,
                    struct replica_effects *effects) {
    effects->append = kind;
    effects->epoch = replica->leader_epoch;
    effects->index = replica->last_index + 1;
    effects->time_us = leader_time_us(replica, event->boot_us);
}

/* R5: the first entry of an epoch is empty, and nothing is served before it is committed. */
static void begin_epoch(struct replica *replica, const struct replica_event *event,
                        struct replica_effects *effects) {
    uint64_t least_us = replica->last_time_us == 0 ? 0 : replica->last_time_us + replica->grace_us;
    replica->role = REPLICA_STARTING;
    replica->epoch_wall_us = event->wall_us > least_us ? event->wall_us : least_us;
    replica->epoch_boot_us = event->boot_us;
    replica->first_of_epoch = 0;
    propose(replica, event, REPLICA_ENTRY_NOOP, effects);
}

static void on_config(struct replica *replica, const struct replica_event *event,
                      struct replica_effects *effects) {
    const struct map_shard *config = event->config;
    bool newer = config->config_version > replica->config_version; /* R29 */
    if (!newer) {
        /* The entry that opens the epoch could not be appended (disk full, full buffer): the lane asks again. */
        if (replica->role == REPLICA_STARTING && replica->first_of_epoch == 0) {
            propose(replica, event, REPLICA_ENTRY_NOOP, effects);
        }
        return;
    }

    if (config->leader_epoch < replica->last_epoch) { /* not the metad that this log was written under */
        effects->refused = SK_STALE_EPOCH;
        return;
    }

    bool was_leader = replica->role == REPLICA_STARTING || replica->role == REPLICA_LEADER;
    uint64_t old_epoch = replica->leader_epoch;
    replica->config_version = config->config_version;
    replica->leader_epoch = config->leader_epoch;
    replica->leader = config->leader;
    replica->isr_count = config->isr_count;
    replica->min_isr = config->min_isr;
    if (replica->role == REPLICA_FAILED) return;

    bool leads = config->leader == replica->node && config->leader_incarnation == replica->incarnation; /* R6 */
    bool same_reign = was_leader && leads && config->leader_epoch == old_epoch;
    if (same_reign) return;
    effects->stepped_down = was_leader;
    if (!leads) {
        replica->role = REPLICA_FOLLOWER;
        return;
    }
    effects->became_leader = true;
    begin_epoch(replica, event, effects);
}

static void on_appended(struct replica *replica, const struct replica_event *event) {
    sk_assert(replica->role == REPLICA_STARTING || replica->role == REPLICA_LEADER);
    sk_assert(event->index == replica->last_index + 1);
    replica->last_index = event->index;
    replica->last_epoch = replica->leader_epoch;
    if (replica->first_of_epoch == 0) replica->first_of_epoch = event->index;
}

/* With an in-sync set of one, what is durable here is committed: but only once the epoch's own first entry is. */
static void on_durable(struct replica *replica, const struct replica_event *event) {
    sk_assert(event->index <= replica->last_index);
    if (event->index > replica->durable_index) replica->durable_index = event->index;
    if (replica->role != REPLICA_STARTING && replica->role != REPLICA_LEADER) return;
    if (replica->isr_count < replica->min_isr || replica->isr_count > 1) return; /* R11 */
    if (replica->first_of_epoch == 0 || replica->durable_index < replica->first_of_epoch) return;
    replica->commit_index = replica->durable_index;
}

/* R5: what earlier epochs have committed must be executed too before a read or a repeat is answered. */
static void on_executed(struct replica *replica, const struct replica_event *event) {
    sk_assert(event->index == replica->applied_index + 1);
    replica->applied_index = event->index;
    if (replica->role == REPLICA_STARTING && replica->first_of_epoch != 0 &&
        replica->applied_index >= replica->first_of_epoch) {
        replica->role = REPLICA_LEADER;
    }
}

static void on_write(struct replica *replica, const struct replica_event *event, enum replica_entry_kind kind,
                     struct replica_effects *effects) {
    if (replica->role != REPLICA_LEADER) {
        effects->refused = replica->role == REPLICA_FAILED ? SK_UNAVAILABLE : SK_NOT_LEADER;
        return;
    }
    if (replica->isr_count < replica->min_isr) { /* R11 */
        effects->refused = SK_UNAVAILABLE;
        return;
    }
    propose(replica, event, kind, effects);
}

/* R16: alone and with nobody eligible, no one else can lead: a read needs no lease. */
static void on_read(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    if (replica->role != REPLICA_LEADER) {
        effects->refused = replica->role == REPLICA_FAILED ? SK_UNAVAILABLE : SK_NOT_LEADER;
        return;
    }
    effects->time_us = leader_time_us(replica, event->boot_us);
}

void replica_step(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    *effects = (struct replica_effects){0};
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
    case REPLICA_APPENDED:
        on_appended(replica, event);
        break;
    case REPLICA_DURABLE:
        on_durable(replica, event);
        break;
    case REPLICA_EXECUTED:
        on_executed(replica, event);
        break;
    case REPLICA_READ:
        on_read(replica, event, effects);
        break;
    case REPLICA_FAIL:
        effects->stepped_down = replica->role == REPLICA_STARTING || replica->role == REPLICA_LEADER;
        replica->role = REPLICA_FAILED;
        break;
    }
    /* A stamp that was given out is never gone below, also by reads: they have shown what had expired by then. */
    if (effects->time_us > replica->last_time_us) replica->last_time_us = effects->time_us;
    assert_invariants(replica);
}

bool replica_may_answer(const struct replica *replica, uint64_t epoch) {
    return replica->role == REPLICA_LEADER && replica->leader_epoch == epoch;
}

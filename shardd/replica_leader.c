/* The core as a leader: opens its epoch at the followers, streams its log to them, commits what every member of the widest
 * in-sync set has, keeps its lease by beacons, asks metad for changes of the set, and hands over. */
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/plant.h"
#include "shardd/replica_internal.h"

#define WINDOW_ENTRIES 8192u     /* sent to a follower and not acknowledged */
#define STALL_LAGS     5u        /* a disk that has not synced for so many lag_us hangs (R22) */
#define RESEND_RETRIES 5u        /* retry_us without the acknowledgement of what a later beacon overtook */
#define HANDOVER_US    500000u   /* a hand-over is given up after this (R20) */
#define NEAR_SHARE     8u        /* lag_us / this: so little behind, a follower is waited for until it can join */
#define BACK_OFF_US    250000u   /* a member that was put out stays out so long at first (R18), */
#define BACK_OFF_MAX   10000000u /* twice as long each time up to this, */
#define STEADY_US      60000000u /* and starts over after so long in the set */

/* ---- an epoch begins and ends ---- */

void leader_propose_entry(const struct replica *replica, const struct replica_event *event,
                          enum replica_entry_kind kind, struct replica_effects *effects) {
    effects->append = kind;
    effects->epoch = replica->config.leader_epoch;
    effects->index = replica->last_index + 1;
    effects->time_us = replica_time_us(replica, event->boot_us);
}

static bool is_other(const struct replica *replica, uint32_t slot) {
    return replica->config.replicas[slot].node != replica->node;
}

/* Whether as many replicas have opened the epoch as a commit needs. */
static bool enough_follow(const struct replica *replica) {
    uint32_t count = 1;
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (is_other(replica, i) && replica->progress[i].state == PROGRESS_STREAM) count++;
    }
    return count >= replica->config.min_isr;
}

/* R5: the first entry of an epoch is empty, and nothing is served before it is committed. It waits until it can be: two
 * replicas that lead in turns, without each other, would else grow apart by more epochs than are remembered (R7). Until
 * then the epoch is stored by a record that cuts nothing (R1). */
static void begin_log(const struct replica *replica, const struct replica_event *event,
                      struct replica_effects *effects) {
    if (replica->first_of_epoch != 0) return;
    if (enough_follow(replica)) {
        leader_propose_entry(replica, event, REPLICA_ENTRY_NOOP, effects);
    } else if (replica->stored_epoch < replica->config.leader_epoch &&
               replica->adopting_epoch != replica->config.leader_epoch) {
        effects->adopt = true;
        effects->epoch = replica->config.leader_epoch;
        effects->index = replica->last_index;
    }
}

void leader_begin_epoch(struct replica *replica, const struct replica_event *event,
                        struct replica_effects *effects) {
    replica->role = REPLICA_STARTING;
    uint64_t least_us = replica->last_time_us == 0 ? 0 : replica->last_time_us + replica->times.grace_us; /* R26 */
    if (least_us > 0 && replica->time_is_old) least_us += REPLICA_TIME_AGE_US;
    if (PLANTED(TIME_OF_CLOCK)) least_us = 0;
    replica->time_is_old = false;
    replica->epoch_ahead_us = least_us > event->wall_us ? least_us - event->wall_us : 0;
    replica->epoch_wall_us = event->wall_us + replica->epoch_ahead_us;
    replica->last_time_us = replica->epoch_wall_us; /* also if this epoch ends before its first tick */
    replica->epoch_boot_us = event->boot_us;
    replica->opened_epoch = replica->adopting_epoch = 0;
    replica->first_of_epoch = 0;
    replica->joining = 0;
    replica->tick_us = replica->resumed_us = event->boot_us;
    replica->handover_to = 0;
    replica->may_have_left = replica->wants_to_stay = false;
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        progress_begin_epoch(&replica->progress[i], event->boot_us);
    }
    begin_log(replica, event, effects);
}

void leader_end_epoch(struct replica *replica) {
    replica->role = REPLICA_FOLLOWER; /* whether it was by our hand-over, the record of metad will tell */
}

/* ---- what followers have ---- */

static bool is_in(uint32_t mask, uint32_t slot) { return (mask >> slot & 1) != 0; }

/* R3: on the widest set, and whoever is about to join it; R5: not before its own promise has run out; R11: not below min_isr. */
void leader_advance_commit(struct replica *replica, uint64_t now_us) {
    if (PLANTED(PROMISE_NOT_WAITED)) now_us = UINT64_MAX;
    if (replica->first_of_epoch == 0 || now_us < replica->promise_until_us) return;
    if (replica->config.isr_count < replica->config.min_isr) return;
    uint32_t counted = replica_widest(replica) | replica->joining;
    uint64_t commit = replica->durable_index;
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (!is_in(counted, i) || !is_other(replica, i)) continue;
        const struct progress *progress = &replica->progress[i];
        uint64_t match = progress->state == PROGRESS_PROBE ? 0 : progress->match_index;
        if (match < commit) commit = match;
    }
    if (commit >= replica->first_of_epoch && commit > replica->commit_index) replica->commit_index = commit;
}

/* The follower whose message this is, or NULL if the message is of no one that counts now (R4). */
static struct progress *find_sender(struct replica *replica, const struct replica_message *message,
                                    uint64_t now_us) {
    int slot = replica_slot(replica, message->from);
    if (slot < 0 || !is_other(replica, (uint32_t)slot)) return NULL;
    struct progress *progress = &replica->progress[slot];
    if (message->replica_id != progress->replica_id || message->from_incarnation < progress->incarnation)
        return NULL;
    if (progress->incarnation == 0) progress->incarnation = message->from_incarnation;
    if (message->from_incarnation > progress->incarnation)
        progress_change_process(progress, message->from_incarnation, now_us);
    return progress;
}

static void ask_to_retire(struct replica *replica, const struct progress *progress, uint64_t now_us,
                          struct replica_effects *effects);

/* Whether others count on what the replica has: it is in the widest in-sync set, or eligible. */
static bool is_counted(const struct replica *replica, uint32_t slot) {
    const struct map_shard *config = &replica->config;
    for (uint32_t i = 0; i < config->eligible_count; i++) {
        if (config->eligible[i] == config->replicas[slot].node) return true;
    }
    return is_in(replica_widest(replica), slot);
}

/* R31: what its earlier processes had acknowledged; and who may lead has all that is committed. Late messages say less
 * than earlier ones did, so this process's own acknowledgements count for it. */
static bool has_lost(const struct replica *replica, const struct progress *progress, uint64_t last_index) {
    uint64_t has = last_index > progress->acked_index ? last_index : progress->acked_index;
    return has < progress->owed_index || has < replica->commit_index;
}

/* ACK and PROMISE say what the follower has. */
static void on_has(struct replica *replica, struct progress *progress, const struct replica_event *event,
                   struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    if (message->last_index > replica->last_index || message->durable_index > message->last_index) return;
    if (progress->state == PROGRESS_PROBE) {
        uint32_t slot = (uint32_t)(progress - replica->progress);
        if (is_counted(replica, slot) && has_lost(replica, progress, message->last_index)) { /* R31 */
            ask_to_retire(replica, progress, event->boot_us, effects);
            return;
        }
        progress->state = PROGRESS_STREAM;
        progress->next_index = message->last_index + 1;
    }
    bool reaches = message->last_index + 1 >= replica->first_index;
    if (progress->state == PROGRESS_SNAPSHOT && reaches) {
        progress->state = PROGRESS_STREAM;
        progress->next_index = message->last_index + 1;
    }
    progress_on_match(progress, message->durable_index, replica->last_index, event->boot_us);
    if (progress->next_index <= progress->match_index) progress->next_index = progress->match_index + 1;
    bool behind = message->last_index + 1 < progress->next_index && message->last_index >= progress->match_index;
    /* What a beacon overtook that long ago is lost; mostly a disconnection or a gap has told before (R27). */
    bool lost = message->type == REPLICA_PROMISE && message->sent_us > progress->sent_us &&
                event->boot_us - progress->sent_us > RESEND_RETRIES * replica->times.retry_us;
    if (behind && (message->gap || lost)) progress->next_index = message->last_index + 1;
    leader_advance_commit(replica, event->boot_us);
}

static void hand_over_if_level(struct replica *replica, uint64_t now_us, struct replica_effects *effects);

void leader_on_message(struct replica *replica, const struct replica_event *event,
                       struct replica_effects *effects) {
    const struct replica_message *message = event->message;
    if (message->type == REPLICA_REFUSAL && message->epoch > replica->seen_epoch) { /* R1 */
        replica_see_epoch(replica, message->epoch, effects);
        return;
    }
    if (!replica_leads(replica)) return;
    struct progress *progress = find_sender(replica, message, event->boot_us);
    if (progress == NULL) return;
    if (message->type == REPLICA_REFUSAL) {
        /* It has not opened our epoch, or has forgotten it with its process. */
        if (progress->state == PROGRESS_STREAM && event->boot_us - progress->opened_us < replica->times.retry_us)
            return;
        if (progress->state != PROGRESS_PROBE) progress_restart(progress, event->boot_us);
        return;
    }
    if (message->epoch != replica->config.leader_epoch) return;
    on_has(replica, progress, event, effects);
    bool ours = message->type == REPLICA_PROMISE && message->sent_us <= event->boot_us;
    if (ours && message->sent_us > progress->answered_us) progress->answered_us = message->sent_us; /* R15 */
    if (PLANTED(LEASE_FROM_ANSWER) && ours) progress->answered_us = event->boot_us;
    if (ours && message->promised_us > progress->promised_us) {
        progress->promised_us = message->promised_us;
        progress->promised_at_us = event->boot_us;
    }
    begin_log(replica, event, effects);
    hand_over_if_level(replica, event->boot_us, effects);
}

void leader_on_sent(struct replica *replica, const struct replica_event *event) {
    int slot = replica_slot(replica, event->peer);
    if (slot < 0) return;
    struct progress *progress = &replica->progress[slot];
    if (event->index >= progress->next_index) progress->next_index = event->index + 1;
    progress->sent_us = event->boot_us;
}

/* R27: what was under way on the old connection may be lost. */
void leader_on_peer_up(struct replica *replica, struct progress *progress) {
    (void)replica;
    if (progress->state == PROGRESS_STREAM) progress->next_index = progress->match_index + 1;
    progress->opened_us = progress->beacon_us = 0;
}

/* ---- sending ---- */

static void send_open(struct replica *replica, uint32_t slot, uint64_t now_us, struct replica_effects *effects) {
    struct progress *progress = &replica->progress[slot];
    if ((replica->stored_epoch < replica->config.leader_epoch && !PLANTED(EPOCH_NOT_STORED)) || progress->down)
        return; /* R1 */
    if (progress->opened_us != 0 && now_us - progress->opened_us < replica->times.retry_us) return;
    progress->opened_us = now_us;
    struct replica_message *open = replica_send(replica, effects, REPLICA_OPEN, progress->node,
                                                progress->replica_id, replica->config.leader_epoch);
    open->counted = is_counted(replica, slot);
    open->epochs = replica->epochs;
    if (replica->first_of_epoch == 0) { /* where it will begin */
        epochs_add(&open->epochs, replica->config.leader_epoch, replica->last_index + 1);
    }
}

static void send_entries(struct replica *replica, uint32_t slot, struct replica_effects *effects) {
    struct progress *progress = &replica->progress[slot];
    if (progress->state != PROGRESS_STREAM || progress->down) return;
    if (progress->next_index > replica->last_index) return;
    if (progress->next_index - progress->match_index > WINDOW_ENTRIES) return;
    if (progress->next_index < replica->first_index) {
        progress->state = PROGRESS_SNAPSHOT;
        return;
    }
    struct replica_message *append = replica_send(replica, effects, REPLICA_APPEND, progress->node,
                                                  progress->replica_id, replica->config.leader_epoch);
    append->prev_index = progress->next_index - 1;
    append->prev_epoch = epochs_at(&replica->epochs, append->prev_index);
    append->commit_index = replica->commit_index;
    effects->sends[effects->send_count - 1].with_entries = true;
}

/* What every replica has, as far as is known; those not heard of in this epoch keep it where it was. */
static void advance_keep(struct replica *replica) {
    uint64_t keep = replica->commit_index;
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        const struct progress *progress = &replica->progress[i];
        if (!is_other(replica, i)) continue;
        uint64_t has = progress->state == PROGRESS_PROBE ? replica->keep_index : progress->match_index;
        if (has < keep) keep = has;
    }
    if (keep > replica->keep_index) replica->keep_index = keep;
}

/* R22: then it is no leader, and others are to lead. */
static bool disk_hangs(const struct replica *replica, uint64_t now_us) {
    return replica->unsynced_us != 0 && now_us - replica->unsynced_us > STALL_LAGS * replica->times.lag_us;
}

/* R17: at this moment, which is later than the follower's clock in its promise, we hold the lease; so nobody else has
 * acknowledged anything by then that we do not know. A promise that came in this very instant may have come after the clock
 * was read, when the lease was over: the next beacon has it. And only a time that a read here would show. */
static void vouch(const struct replica *replica, const struct progress *progress, uint64_t now_us,
                  struct replica_message *beacon) {
    if (progress->promised_at_us >= now_us || replica_read_refusal(replica, now_us) != SK_OK) return;
    if (beacon->time_us > replica->recorded_time_us + REPLICA_TIME_AGE_US) return;
    beacon->echo_us = progress->promised_us;
    beacon->echo_incarnation = progress->incarnation;
}

static void send_beacon(struct replica *replica, uint32_t slot, uint64_t now_us, struct replica_effects *effects) {
    struct progress *progress = &replica->progress[slot];
    if (progress->state == PROGRESS_PROBE || progress->down || disk_hangs(replica, now_us)) return;
    if (progress->beacon_us != 0 && now_us - progress->beacon_us < replica->times.beacon_us) return;
    progress->beacon_us = now_us;
    struct replica_message *beacon = replica_send(replica, effects, REPLICA_BEACON, progress->node,
                                                  progress->replica_id, replica->config.leader_epoch);
    beacon->commit_index = replica->commit_index;
    beacon->keep_index = replica->keep_index;
    /* R26: as late as it is now, not as what was given out last: a read may show a moment later what has expired since */
    replica->last_time_us = beacon->time_us = replica_time_us(replica, now_us);
    beacon->sent_us = now_us;
    vouch(replica, progress, now_us, beacon);
}

/* The first beacon of a follower does not wait for a tick: the lease of a new leader begins with it. */
void leader_flush(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (!is_other(replica, i)) continue;
        if (replica->progress[i].state == PROGRESS_PROBE) send_open(replica, i, event->boot_us, effects);
        send_entries(replica, i, effects);
        if (replica->progress[i].beacon_us == 0) send_beacon(replica, i, event->boot_us, effects);
    }
}

/* ---- changes of the in-sync set ---- */

static uint64_t latest(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Whether a member has not kept up. While we stood still ourselves nobody could answer. */
static bool is_slow(const struct replica *replica, const struct progress *progress, uint64_t now_us) {
    uint64_t lag_us = replica->times.lag_us;
    uint64_t since_us = latest(progress->since_us, progress->up_us);
    uint64_t answered_us = latest(progress->answered_us, latest(since_us, replica->resumed_us));
    uint64_t level_us = latest(progress->level_us, replica->resumed_us);
    return progress->down || now_us - answered_us > lag_us || now_us - level_us > lag_us;
}

/* That it runs an answer proves that was sent on the present connection: the last one may have died with its process. */
static bool is_steady(const struct replica *replica, const struct progress *progress, uint64_t level_us_max,
                      uint64_t now_us) {
    bool answers = progress->answered_us != 0 && progress->answered_us >= progress->up_us &&
                   now_us - progress->answered_us <= replica->times.lag_us;
    return progress->state == PROGRESS_STREAM && !progress->down && now_us >= progress->join_us && answers &&
           now_us - progress->level_us <= level_us_max;
}

/* R4: it has what is committed and the beginning of our epoch, durably, under the incarnation that it runs as. */
static bool may_join(const struct replica *replica, const struct progress *progress, uint64_t now_us) {
    bool has = progress->match_index >= replica->commit_index && replica->first_of_epoch != 0 &&
               progress->match_index >= replica->first_of_epoch;
    bool steady = is_steady(replica, progress, replica->times.lag_us, now_us);
    return has && steady && now_us >= replica->promise_until_us; /* R5 */
}

/* Who is outside the in-sync set and a moment behind. Where the others are faster and writes never end it would stay so for
 * ever (R4), so what is committed waits for it, and it joins. It had all of the log a moment ago: that is not long. */
static uint32_t find_joining(const struct replica *replica, uint64_t now_us) {
    uint32_t isr = replica_isr(replica), joining = 0;
    uint64_t near_us = replica->times.lag_us / NEAR_SHARE;
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        bool out = is_other(replica, i) && !is_in(isr, i);
        if (out && is_steady(replica, &replica->progress[i], near_us, now_us)) joining |= 1u << i;
    }
    return joining;
}

static uint32_t count_of(uint32_t mask) { return (uint32_t)__builtin_popcount(mask); }

/* The in-sync set as it should be. Never below min_isr: who cannot commit leaves the members as they are, so that they
 * may claim (R22). Those whose connection is gone leave first. */
static uint32_t choose_isr(const struct replica *replica, uint64_t now_us) {
    uint32_t isr = replica_isr(replica), wanted = isr;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < replica->config.replica_count; i++) {
            const struct progress *progress = &replica->progress[i];
            bool leaves = is_other(replica, i) && is_in(wanted, i) && (pass == 1 || progress->down) &&
                          is_slow(replica, progress, now_us);
            if (leaves && count_of(wanted) > replica->config.min_isr) wanted &= ~(1u << i);
        }
    }
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        bool out = is_other(replica, i) && !is_in(isr, i);
        if (out && may_join(replica, &replica->progress[i], now_us)) wanted |= 1u << i;
    }
    return wanted;
}

/* One change, asked for again until metad's record is newer (R3). Another one under the same config_version is allowed:
 * at most one of them can be applied, and commit counts the members of all. */
static void ask(struct replica *replica, const struct replica_change *change, uint64_t now_us,
                struct replica_effects *effects) {
    const struct replica_change *open = &replica->open;
    bool same = open->kind == change->kind && open->to == change->to && open->successor == change->successor &&
                open->isr_count == change->isr_count;
    for (uint32_t i = 0; same && i < change->isr_count; i++) {
        same = open->isr[i] == change->isr[i] && open->incarnations[i] == change->incarnations[i];
    }
    if (same && now_us - replica->open_us < replica->times.retry_us) return;
    replica->open = effects->change = *change;
    replica->open_us = now_us;
}

static struct replica_change new_change(const struct replica *replica, enum replica_change_kind kind,
                                        uint32_t to) {
    return (struct replica_change){
        .kind = kind,
        .config_version = replica->config.config_version,
        .leader_epoch = replica->config.leader_epoch,
        .to = to,
    };
}

static void ask_for_isr(struct replica *replica, uint64_t now_us, struct replica_effects *effects) {
    uint32_t isr = replica_isr(replica), wanted = choose_isr(replica, now_us);
    if (PLANTED(PROPOSAL_TIMES_OUT) && now_us - replica->open_us > replica->times.retry_us) replica->proposed = 0;
    bool withdrawn = (replica->proposed & ~isr & ~wanted) != 0;
    if (wanted == isr && !withdrawn) return;
    if (wanted == isr) {
        /* Somebody was proposed who should not join any more: a change of nothing takes the version away from that. */
        struct replica_change nothing = new_change(replica, REPLICA_CHANGE_STAY, 0);
        ask(replica, &nothing, now_us, effects);
        return;
    }
    struct replica_change change = new_change(replica, REPLICA_CHANGE_ISR, 0);
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (!is_in(wanted, i)) continue;
        change.isr[change.isr_count] = replica->config.replicas[i].node;
        change.incarnations[change.isr_count++] =
            is_other(replica, i) ? replica->progress[i].incarnation : replica->incarnation;
    }
    replica->proposed |= wanted;
    ask(replica, &change, now_us, effects);
}

static void ask_to_retire(struct replica *replica, const struct progress *progress, uint64_t now_us,
                          struct replica_effects *effects) {
    struct replica_change change = new_change(replica, REPLICA_CHANGE_RETIRE, progress->node);
    ask(replica, &change, now_us, effects);
}

/* R24: whoever has other content than the rest leaves the in-sync set, and begins anew, empty. Not below min_isr: then what
 * it has may be the second copy of something. Until metad has confirmed it counts, as each member does (R2). Who leads
 * after us is in sync. metad looks at the same: what it refuses for ever would keep us from handing over. */
void leader_on_rebuild(struct replica *replica, const struct replica_event *event,
                       struct replica_effects *effects) {
    uint32_t isr = replica_isr(replica);
    int slot = replica_slot(replica, event->peer), next = replica_slot(replica, event->successor);
    bool leaves = slot >= 0 && is_in(isr, (uint32_t)slot);
    bool follows = next >= 0 && next != slot && is_in(isr, (uint32_t)next);
    bool is_own = event->peer == replica->node;
    if (slot < 0 || (leaves && count_of(isr) <= replica->config.min_isr) || (is_own && !follows)) {
        effects->refused = SK_UNAVAILABLE;
    } else if (replica->open.kind != REPLICA_CHANGE_NONE && replica->open.kind != REPLICA_CHANGE_REBUILD) {
        effects->refused = SK_BUSY;
    } else {
        struct replica_change rebuild = new_change(replica, REPLICA_CHANGE_REBUILD, event->peer);
        rebuild.successor = event->successor;
        ask(replica, &rebuild, event->boot_us, effects);
    }
}

/* Under the same leader: who came and who went. The replicas may stand in another order now. */
void leader_on_config(struct replica *replica, const struct map_shard *old, uint64_t now_us) {
    uint32_t isr = replica_isr(replica);
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        struct progress *progress = &replica->progress[i];
        bool was_in = map_in_isr(old, progress->node);
        bool steady = progress->joined_us == 0 || now_us - progress->joined_us > STEADY_US;
        if (was_in && !is_in(isr, i)) { /* R18 */
            uint64_t back_off_us = steady ? BACK_OFF_US : progress->back_off_us * 2;
            if (back_off_us < BACK_OFF_US) back_off_us = BACK_OFF_US;
            progress->back_off_us = back_off_us < BACK_OFF_MAX ? back_off_us : BACK_OFF_MAX;
            progress->join_us = now_us + progress->back_off_us;
        } else if (!was_in && is_in(isr, i)) {
            progress->joined_us = now_us;
        }
    }
    replica->handover_to =
        0; /* R20: metad has refused it, or something else came first; a wish that stands begins anew */
    replica->may_have_left = replica->wants_to_stay = false;
    replica->joining = 0; /* until the next tick */
    leader_advance_commit(replica, now_us);
}

/* ---- handing over (R20) ---- */

static bool all_are_level(const struct replica *replica) {
    uint32_t widest = replica_widest(replica);
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (!is_in(widest, i) || !is_other(replica, i)) continue;
        if (replica->progress[i].match_index < replica->last_index) return false;
    }
    return replica->commit_index == replica->last_index;
}

static void begin_handover(struct replica *replica, uint64_t now_us) {
    uint32_t to = replica->config.wanted_leader;
    int slot = replica_slot(replica, to);
    if (to == 0 || to == replica->node || slot < 0 || replica->role != REPLICA_LEADER) return;
    if (!is_in(replica_isr(replica), (uint32_t)slot) || replica->open.kind != REPLICA_CHANGE_NONE) return;
    if (is_slow(replica, &replica->progress[slot], now_us) || now_us >= replica_lease_until_us(replica)) return;
    replica->handover_to = to;
    replica->handover_us = now_us;
}

static void ask_to_hand_over(struct replica *replica, uint64_t now_us, struct replica_effects *effects) {
    struct replica_change handover = new_change(replica, REPLICA_CHANGE_HANDOVER, replica->handover_to);
    replica->may_have_left = true;
    ask(replica, &handover, now_us, effects);
}

/* Writes wait for it, so it does not wait for a tick. */
static void hand_over_if_level(struct replica *replica, uint64_t now_us, struct replica_effects *effects) {
    bool levelling = replica->handover_to != 0 && !replica->may_have_left && !replica->wants_to_stay;
    if (!levelling || effects->change.kind != REPLICA_CHANGE_NONE || !all_are_level(replica)) return;
    ask_to_hand_over(replica, now_us, effects);
}

static void tick_handover(struct replica *replica, uint64_t now_us, struct replica_effects *effects) {
    if (replica->wants_to_stay) {
        struct replica_change stay = new_change(replica, REPLICA_CHANGE_STAY, 0);
        ask(replica, &stay, now_us, effects);
        return;
    }
    if (replica->handover_to == 0) begin_handover(replica, now_us);
    if (replica->handover_to == 0) return;
    if (now_us - replica->handover_us > HANDOVER_US) {
        /* Asked for already it may still happen, and only metad's record will tell. That may take long, when metad is
         * down, and nobody is released before; so writes go on (R21): they commit if it has not happened. */
        replica->wants_to_stay = true;
        if (!replica->may_have_left) replica->handover_to = 0;
    } else if (replica->may_have_left || all_are_level(replica)) {
        ask_to_hand_over(replica, now_us, effects);
    }
}

/* ---- time ---- */

/* R30: nobody counts on what it has. And it is there: who does not answer would only keep others from theirs. */
static bool wants_snapshot(const struct replica *replica, uint32_t slot, uint64_t now_us) {
    const struct progress *progress = &replica->progress[slot];
    bool answers = progress->answered_us != 0 && now_us - progress->answered_us <= replica->times.grace_us;
    return progress->state == PROGRESS_SNAPSHOT && !progress->down && answers && !is_counted(replica, slot);
}

void leader_tick(struct replica *replica, const struct replica_event *event, struct replica_effects *effects) {
    uint64_t now_us = event->boot_us;
    if (now_us - replica->tick_us > replica->times.beacon_us) replica->resumed_us = now_us;
    replica->tick_us = now_us;
    replica->last_time_us = replica_time_us(replica, now_us); /* R26: what goes to disk every second is that */
    begin_log(replica, event, effects);
    bool cannot_append = effects->adopt || effects->append != REPLICA_ENTRY_NONE; /* a full disk, or buffer: */
    if (cannot_append) return;                                                    /* let others lead (R22) */
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (!is_other(replica, i)) continue;
        struct progress *progress = &replica->progress[i];
        progress_tick(progress, replica->last_index, now_us);
        if (progress->state == PROGRESS_PROBE) send_open(replica, i, now_us, effects);
        if (wants_snapshot(replica, i, now_us)) effects->snapshot_to = progress->node;
    }
    replica->joining = find_joining(replica, now_us);
    leader_advance_commit(replica, now_us);
    advance_keep(replica);
    for (uint32_t i = 0; i < replica->config.replica_count; i++) {
        if (is_other(replica, i)) send_beacon(replica, i, now_us, effects);
    }
    tick_handover(replica, now_us, effects);
    /* R22: whose disk hangs sends no beacons, so that nobody answers; it gives way instead of putting them out */
    bool waits = replica->may_have_left || replica->wants_to_stay || disk_hangs(replica, now_us);
    if (!waits) ask_for_isr(replica, now_us, effects);
}

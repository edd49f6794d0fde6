/* The shell of the replication core: feeds it events and carries out what it wants. */
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "shardd/lane_internal.h"

#include <stdlib.h>

#define EXECUTE_BUDGET 256u /* entries per step: no step of a lane is long */

/* ---- the log ---- */

static int ring_reserve(struct unsynced_ring *ring) {
    if (ring->count < ring->capacity) return SK_OK;
    uint32_t capacity = ring->capacity == 0 ? 256 : ring->capacity * 2;
    struct unsynced *slots = malloc(capacity * sizeof *slots);
    if (slots == NULL) return SK_ENOMEM;
    for (uint32_t i = 0; i < ring->count; i++) slots[i] = ring->slots[(ring->head + i) & (ring->capacity - 1)];
    free(ring->slots);
    *ring = (struct unsynced_ring){.slots = slots, .capacity = capacity, .count = ring->count};
    return SK_OK;
}

static void ring_push(struct unsynced_ring *ring, const struct unsynced *record) {
    ring->slots[(ring->head + ring->count++) & (ring->capacity - 1)] = *record;
}

void lane_step_inner(struct lane *lane, struct shard *shard, struct replica_event *event) {
    event->boot_us = lane->now_us;
    replica_step(&shard->replica, event, &lane->inner);
    sk_assert(lane->inner.send_count == 0 && lane->inner.change.kind == REPLICA_CHANGE_NONE);
}

/* An entry into the log's buffer, and everywhere that knows of it. */
int lane_append_entry(struct lane *lane, struct shard *shard, const struct wal_entry *logged, struct frame *frame,
                      uint64_t number) {
    struct pending *pending;
    wal_position position;
    bool room = ring_reserve(&lane->unsynced) == SK_OK && log_index_reserve(&shard->log) == SK_OK;
    int err = room ? pending_new(&pending, logged) : SK_ENOMEM;
    if (err != SK_OK) return err == SK_ENOMEM ? SK_BUSY : err;
    err = pending->entry.commit_index < logged->index ? wal_append(lane->wal, logged, &position) : SK_EPROTO;
    if (err != SK_OK) {
        pending_free(pending);
        return err == SK_ENOMEM ? SK_BUSY : err;
    }
    pending->number = number;
    pending->appended_us = lane->now_us;
    if (frame != NULL) pending->frame = frame_ref(frame);
    if (shard_add_pending(shard, pending) != SK_OK) lane_die(lane, shard, SK_ENOMEM, "add_pending");
    lane->pending_bytes += pending->payload_bytes;
    (void)log_index_add(&shard->log, logged->index, position); /* room was reserved */
    ring_push(&lane->unsynced, &(struct unsynced){.position = position,
                                                  .shard = shard->id,
                                                  .is_entry = true,
                                                  .replica_id = logged->replica_id,
                                                  .index = logged->index,
                                                  .epoch = logged->epoch,
                                                  .time_us = logged->time_us});
    struct replica_event event = {
        .type = REPLICA_APPENDED, .index = logged->index, .epoch = logged->epoch, .time_us = logged->time_us};
    lane_step_inner(lane, shard, &event);
    lane_mark_dirty(lane, shard);
    return SK_OK;
}

static uint8_t wal_type_of(enum replica_entry_kind kind) {
    switch (kind) {
    case REPLICA_ENTRY_NOOP:
        return WAL_NOOP;
    case REPLICA_ENTRY_SWEEP:
        return WAL_SWEEP;
    case REPLICA_ENTRY_VERIFY:
        return WAL_VERIFY;
    default:
        return WAL_COMMAND;
    }
}

int lane_append(struct lane *lane, struct shard *shard, enum replica_entry_kind kind, uint64_t epoch,
                uint64_t index, uint64_t time_us, struct entry *entry, struct frame *frame, uint64_t number) {
    buffer_clear(&lane->payload, 1u << 20);
    if (entry != NULL) {
        entry->commit_index = shard->replica.commit_index;
        entry_encode_command(&lane->payload, entry);
    } else {
        entry_encode_plain(&lane->payload, shard->replica.commit_index);
    }
    if (lane->payload.failed) return SK_BUSY;
    struct wal_entry logged = {
        .shard = shard->id,
        .type = wal_type_of(kind),
        .replica_id = shard->replica.replica_id,
        .epoch = epoch,
        .index = index,
        .time_us = time_us,
        .payload = buffer_slice(&lane->payload),
    };
    return lane_append_entry(lane, shard, &logged, frame, number);
}

/* What the log has made durable: told to the cores, record by record. */
void lane_note_durable(struct lane *lane) {
    struct unsynced_ring *ring = &lane->unsynced;
    if (lane->time_position < lane->durable) lane->synced_time_us = lane->stored_time_us;
    while (ring->count > 0 && ring->slots[ring->head].position < lane->durable) {
        struct unsynced record = ring->slots[ring->head];
        ring->head = (ring->head + 1) & (ring->capacity - 1);
        ring->count--;
        struct shard *shard = shard_table_find(&lane->shards, record.shard);
        if (shard == NULL || shard->replica.replica_id != record.replica_id) continue;
        struct replica_event event = {.type = record.is_entry ? REPLICA_DURABLE : REPLICA_STORED,
                                      .index = record.index,
                                      .epoch = record.epoch,
                                      .time_us = record.time_us};
        lane_step_inner(lane, shard, &event);
        struct pending *pending = record.is_entry ? shard_find_pending(shard, record.index) : NULL;
        if (pending != NULL) pending->durable_us = lane->now_us;
        if (!record.is_entry) shard->changed = true; /* R1: its epoch outlives this record of the log */
        lane_mark_dirty(lane, shard);
    }
}

/* ---- what the core wants ---- */

/* R1, R7: one record stores the epoch and cuts the log. What cannot be appended now the leader's next OPEN brings again. */
static void adopt(struct lane *lane, struct shard *shard, uint64_t epoch, uint64_t index) {
    wal_position position;
    struct wal_entry logged = {.shard = shard->id,
                               .type = WAL_EPOCH,
                               .replica_id = shard->replica.replica_id,
                               .epoch = epoch,
                               .index = index};
    if (ring_reserve(&lane->unsynced) != SK_OK || wal_append(lane->wal, &logged, &position) != SK_OK) return;
    ring_push(&lane->unsynced,
              &(struct unsynced){
                  .position = position, .shard = shard->id, .replica_id = logged.replica_id, .epoch = epoch});
    if (index < shard->replica.last_index) {
        log_event(LOG_INFO, "log_cut", "shard=%u epoch=%llu index=%llu last_index=%llu", shard->id,
                  (unsigned long long)epoch, (unsigned long long)index,
                  (unsigned long long)shard->replica.last_index);
    }
    struct pending *last;
    while ((last = shard_last_pending(shard)) != NULL && last->index > index) {
        (void)shard_pop_pending(shard);
        lane->pending_bytes -= last->payload_bytes;
        lane_release_waiter(lane, last);
        pending_free(last);
    }
    shard->sweep_pending = false;
    log_index_cut(&shard->log, index);
    struct replica_event event = {.type = REPLICA_ADOPTED, .epoch = epoch, .index = index};
    lane_step_inner(lane, shard, &event);
}

/* `ahead_us`: of a leader, how far its epoch began ahead of the wall clock (R26). */
static void log_role(const struct shard *shard) {
    const struct replica *replica = &shard->replica;
    log_event(LOG_INFO, "role", "shard=%u role=%s epoch=%llu index=%llu ahead_us=%llu", shard->id,
              replica_role_name(replica->role), (unsigned long long)replica->config.leader_epoch,
              (unsigned long long)replica->last_index,
              (unsigned long long)(replica_leads(replica) ? replica->epoch_ahead_us : 0));
}

static void carry_out(struct lane *lane, struct shard *shard, const struct replica_effects *effects) {
    if (effects->failed != NULL) {
        log_event(LOG_ERROR, "replica_failed", "shard=%u reason=\"%s\"", shard->id, effects->failed);
    }
    if (effects->stepped_down) lane_release_waiters(lane, shard, shard->replica.applied_index);
    if (effects->became_leader || effects->stepped_down) log_role(shard);
    if (effects->adopt) adopt(lane, shard, effects->epoch, effects->index);
    if (effects->take_count > 0) {
        lane->take_err = lane_take_entries(lane, shard, effects->take_skip, effects->take_count);
    }
    if (effects->change.kind != REPLICA_CHANGE_NONE) {
        lane->options.change_cb(lane->options.arg, shard->id, &effects->change);
    }
    if (effects->snapshot_to != 0) lane_want_snapshot(lane, shard, effects->snapshot_to);
    lane_send(lane, shard, effects);
    bool plain = effects->append != REPLICA_ENTRY_NONE && effects->append != REPLICA_ENTRY_COMMAND;
    if (plain) {
        int err = lane_append(lane, shard, effects->append, effects->epoch, effects->index, effects->time_us, NULL,
                              NULL, 0);
        if (err == SK_OK && effects->append == REPLICA_ENTRY_SWEEP) shard->sweep_pending = true;
        if (err == SK_OK && effects->append == REPLICA_ENTRY_VERIFY) {
            lane_on_marker_appended(lane, shard, effects->epoch, effects->index);
        }
    }
}

void lane_mark_dirty(struct lane *lane, struct shard *shard) {
    if (shard->is_dirty) return;
    shard->is_dirty = true;
    shard->next_dirty = NULL;
    if (lane->dirty_tail == NULL) {
        lane->dirty_head = shard;
    } else {
        lane->dirty_tail->next_dirty = shard;
    }
    lane->dirty_tail = shard;
}

void lane_mark_all_dirty(struct lane *lane) {
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        if (lane->shards.slots[i] != NULL) lane_mark_dirty(lane, lane->shards.slots[i]);
    }
}

const struct replica_effects *lane_drive(struct lane *lane, struct shard *shard, struct replica_event *event) {
    /* R14: a read is judged by a time after it has come, everything else by that of the step */
    bool reads = event->type == REPLICA_READ || event->type == REPLICA_READ_STALE;
    if (event->boot_us == 0) event->boot_us = reads ? clock_boottime_us() : lane->now_us;
    replica_step(&shard->replica, event, &lane->effects);
    carry_out(lane, shard, &lane->effects);
    return &lane->effects;
}

/* ---- the end of a step ---- */

void lane_flush_shards(struct lane *lane) {
    lane->more_to_send = false;
    for (struct shard *shard = lane->dirty_head; shard != NULL; shard = shard->next_dirty) {
        struct replica_event event = {.type = REPLICA_FLUSH};
        (void)lane_drive(lane, shard, &event);
    }
}

/* A checkpoint takes long, or fails and is tried again, and followers cannot tell their leader to wait: entries wait in
 * memory instead. */
static bool store_may_grow(const struct lane *lane) {
    bool makes_room = store_checkpoint_running(lane->store) || store_checkpoint_failed(lane->store);
    return !store_memtable_full(lane->store) || !makes_room ||
           store_memtable_bytes(lane->store) < 2 * lane->options.memtable_bytes;
}

bool lane_waits_to_execute(const struct lane *lane) { return lane->more_to_execute || !store_may_grow(lane); }

/* Not of a replica that has failed, nor of a stay that is over: what it has goes, and nobody begins a scrub of it. */
static bool may_execute(const struct shard *shard) { return shard->replica.role != REPLICA_FAILED; }

/* Executes what is committed, shard by shard, at most EXECUTE_BUDGET entries; who is not done stays in the list. */
void lane_execute_shards(struct lane *lane) {
    uint32_t left = store_may_grow(lane) ? EXECUTE_BUDGET : 0;
    struct shard *shard = lane->dirty_head;
    lane->dirty_head = lane->dirty_tail = NULL;
    lane->more_to_execute = false;
    while (shard != NULL) {
        struct shard *next = shard->next_dirty;
        int err = SK_OK;
        bool starting = shard->replica.role == REPLICA_STARTING;
        shard->is_dirty = false;
        lane_note_committed(lane, shard);
        while (left > 0 && may_execute(shard) &&
               (err = shard_execute_next(shard, &lane->result, lane_executed_cb, lane)) == SK_OK)
            left--;
        if (err == SK_ECORRUPT) {
            lane_on_damage(lane, shard);
            err = SK_NOT_FOUND;
        }
        if (err != SK_OK && err != SK_NOT_FOUND) lane_die(lane, shard, err, "execute");
        if (starting && shard->replica.role == REPLICA_LEADER) log_role(shard);
        bool more = shard->replica.applied_index < shard->replica.commit_index && may_execute(shard);
        /* while entries can be sent on, each step sends some */
        if (more || lane->more_to_send) lane_mark_dirty(lane, shard);
        lane->more_to_execute = lane->more_to_execute || more;
        shard = next;
    }
    if (!store_may_grow(lane)) lane->more_to_execute = false; /* the checkpoint's end wakes us */
}

/* ---- membership ---- */

/* A stay of a shard on this node begins: a record in the log, and a shard without state. What an earlier stay has left in
 * the store goes first, durably, so that opening never takes it for this one's. */
static int start_stay(struct lane *lane, uint32_t id, uint32_t shard_count, uint64_t replica_id) {
    struct shard *shard;
    wal_position position;
    struct wal_entry start = {.shard = id,
                              .type = WAL_START,
                              .replica_id = replica_id,
                              .payload = slice_of(&shard_count, sizeof shard_count)};
    int err = wal_append(lane->wal, &start, &position);
    if (err != SK_OK) return err;
    struct shard_options options = {.id = id,
                                    .shard_count = shard_count,
                                    .replica_id = replica_id,
                                    .segment_bytes = lane->options.segment_bytes,
                                    .start_us = lane->start_us,
                                    .times = &lane->options.times};
    err = store_shard(lane->store, id, &options.kv);
    if (err == SK_OK) err = shard_new(&shard, &options);
    if (err != SK_OK) lane_die(lane, NULL, err, "new_shard");
    shard->log_from = position;
    shard->changed = true;
    if (shard_table_add(&lane->shards, shard) != SK_OK) lane_die(lane, shard, SK_ENOMEM, "new_shard");
    return SK_OK;
}

/* False: it is to lead, and cannot before its snapshot is installed. */
static bool configure(struct lane *lane, struct shard *shard, const struct map_shard *config) {
    struct replica_event event = {.type = REPLICA_CONFIG, .wall_us = clock_realtime_us(), .config = config};
    replica_identify(&shard->replica, lane->node, lane->incarnation);
    const struct replica_effects *effects = lane_drive(lane, shard, &event);
    int refused = effects->refused;
    lane_tell_peers_down(lane, shard);
    lane_mark_dirty(lane, shard);
    if (refused == SK_OK || refused == SK_CONFLICT) return refused == SK_OK;
    log_event(LOG_ERROR, "config_refused", "shard=%u reason=%s epoch=%llu seen_epoch=%llu", shard->id,
              error_name(refused), (unsigned long long)config->leader_epoch,
              (unsigned long long)shard->replica.seen_epoch);
    return true;
}

/* A stay ends: it is over with this record of the log. What it has in the store goes once the record is durable. */
static int end_stay(struct lane *lane, struct shard *shard) {
    bool installing = lane->in.state >= IN_INSTALLING && lane->in.shard == shard->id;
    struct wal_entry drop = {.shard = shard->id, .type = WAL_DROP, .replica_id = shard->replica.replica_id};
    int err = installing ? SK_BUSY : wal_append(lane->wal, &drop, &shard->dropped_at);
    if (err != SK_OK) return err;
    log_event(LOG_INFO, "replica_dropped", "shard=%u replica=%llu", shard->id,
              (unsigned long long)shard->replica.replica_id);
    lane_end_verification(lane, shard);
    struct replica_event event = {.type = REPLICA_FAIL};
    (void)lane_drive(lane, shard, &event);
    lane_release_waiters(lane, shard, shard->replica.applied_index);
    shard_table_remove(&lane->shards, shard);
    shard->next_ended = lane->ended;
    lane->ended = shard;
    return SK_OK;
}

static bool is_ending(const struct lane *lane, uint32_t id) {
    for (const struct shard *shard = lane->ended; shard != NULL; shard = shard->next_ended) {
        if (shard->id == id) return true;
    }
    return false;
}

void lane_drop_ended(struct lane *lane) {
    struct shard **at = &lane->ended;
    while (*at != NULL) {
        struct shard *shard = *at;
        bool may_go =
            shard->dropped_at < lane->durable && !shard->is_dirty &&
            store_drop_shard(lane->store, shard->id) == SK_OK; /* what is busy or failed is tried again */
        if (!may_go) {
            at = &shard->next_ended;
            continue;
        }
        *at = shard->next_ended;
        lane->pending_bytes -= shard->payload_bytes;
        shard_free(shard);
    }
}

/* False: something could not be done now. */
static bool apply_to_shard(struct lane *lane, uint32_t id) {
    const struct map_shard *config = &lane->map->shards[id];
    const struct map_replica *replica = map_find_replica(config, lane->node);
    struct shard *shard = shard_table_find(&lane->shards, id);
    bool ended = shard != NULL && (replica == NULL || replica->replica_id != shard->replica.replica_id);
    if (ended) { /* R29: the map is metad's word */
        if (end_stay(lane, shard) != SK_OK) return false;
        shard = NULL;
    }
    if (replica == NULL) return true;
    if (shard == NULL) {
        if (is_ending(lane, id) || start_stay(lane, id, lane->map->shard_count, replica->replica_id) != SK_OK)
            return false;
        shard = shard_table_find(&lane->shards, id);
    }
    return configure(lane, shard, config);
}

/* Brings every shard of the lane to what the map says. What could not be done now is tried again at each tick. */
void lane_apply_map(struct lane *lane) {
    const struct map *map = lane->map;
    bool whole = true;
    lane->map_applied = false;
    if (map == NULL || lane->node == 0 || lane->failed || map->shard_count == 0) return;
    if (shard_table_reserve(&lane->shards, map->shard_count) != SK_OK) return;
    for (uint32_t id = lane->options.number; id < map->shard_count; id += lane->options.lane_count) {
        whole = apply_to_shard(lane, id) && whole;
    }
    lane->map_applied = whole;
}

/* ---- time ---- */

static void sweep(struct lane *lane, struct shard *shard) {
    uint64_t deadline_us = UINT64_MAX;
    if (shard->sweep_pending || shard->replica.role != REPLICA_LEADER) return;
    int err = exec_next_deadline(&shard->exec, &deadline_us);
    if (err == SK_ECORRUPT) {
        lane_on_damage(lane, shard);
        return;
    }
    if (err != SK_OK) lane_die(lane, shard, err, "next_deadline");
    uint64_t ids_us = dedup_next_expiry_us(shard->dedup);
    if (ids_us < deadline_us) deadline_us = ids_us;
    if (deadline_us == UINT64_MAX || lane_write_gate(lane) != SK_OK) return;
    if (deadline_us > replica_time_us(&shard->replica, lane->now_us)) return;
    struct replica_event event = {.type = REPLICA_SWEEP};
    (void)lane_drive(lane, shard, &event);
}

uint64_t lane_time_us(const struct lane *lane) {
    uint64_t time_us = lane->stored_time_us;
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        if (shard != NULL && shard->replica.last_time_us > time_us) time_us = shard->replica.last_time_us;
    }
    return time_us;
}

/* R26: what a leader has shown as expired must stay so under the next, also when all of them have restarted. One record at
 * a time is on its way, so that each is seen to be synced. */
static void store_time(struct lane *lane) {
    uint64_t time_us = lane_time_us(lane);
    struct wal_entry record = {.type = WAL_TIME, .time_us = time_us};
    bool waits = lane->synced_time_us < lane->stored_time_us;
    if (waits || lane->failed || time_us < lane->stored_time_us + REPLICA_TIME_KEPT_US) return;
    if (wal_append(lane->wal, &record, &lane->time_position) == SK_OK) lane->stored_time_us = time_us;
}

void lane_tick_shards(struct lane *lane) {
    for (uint32_t i = 0; i < lane->shards.slot_count && !lane->failed; i++) {
        struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        struct replica_event event = {.type = REPLICA_TICK, .time_us = lane->synced_time_us};
        (void)lane_drive(lane, shard, &event);
        lane_mark_dirty(lane, shard);
        sweep(lane, shard);
        lane_tick_verification(lane, shard);
    }
    lane_tick_snapshots(lane);
    store_time(lane);
    if (lane->now_us - lane->second_us < 1000000u || lane->failed) return;
    lane->second_us = lane->now_us;
    lane_release_log(lane);
}

void lane_fail_shards(struct lane *lane) {
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        struct replica_event event = {.type = REPLICA_FAIL};
        (void)lane_drive(lane, shard, &event);
        lane_release_waiters(lane, shard, shard->replica.applied_index);
    }
    lane->unsynced.count = 0; /* nothing of it will be durable */
}

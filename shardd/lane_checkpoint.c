/* What is executed goes to the store in checkpoints, and what the store has leaves the log. */
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "shardd/lane_internal.h"

#define RETRY_US           1000000u /* a failed checkpoint is tried again after this */
#define FAULT_QUOTED_BYTES 600u

/* ---- checkpoints ---- */

/* The log is needed from the oldest entry that is not executed: the store gets the state before it. And from the oldest
 * record that is not durable: what that changes is not in the store either (R1). */
static wal_position oldest_pending(const struct lane *lane) {
    wal_position oldest = wal_end(lane->wal), position;
    const struct unsynced_ring *unsynced = &lane->unsynced;
    if (unsynced->count > 0) oldest = unsynced->slots[unsynced->head].position;
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        int err = log_index_find(&shard->log, shard->replica.applied_index + 1, &position);
        if (err == SK_OK && position < oldest) oldest = position;
    }
    return oldest;
}

/* And from the oldest that some replica lacks, but not for ever: who lags that far gets a snapshot. */
static wal_position oldest_kept(const struct lane *lane) {
    wal_position end = wal_end(lane->wal), oldest = end, position;
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        if (shard == NULL || shard->replica.config.replica_count < 2) continue;
        int err = log_index_find(&shard->log, shard->replica.keep_index + 1, &position);
        if (err != SK_OK) {
            uint64_t first = log_index_first(&shard->log);
            bool all_lie_behind = first > shard->replica.keep_index;
            if (first == 0 || !all_lie_behind || log_index_find(&shard->log, first, &position) != SK_OK) continue;
        }
        if (position < oldest) oldest = position;
    }
    wal_position least = end > lane->options.log_keep_bytes ? end - lane->options.log_keep_bytes : 0;
    return oldest > least ? oldest : least;
}

/* Tells the shards which of their entries the log has no more. */
static void forget_released(struct lane *lane) {
    wal_position released = wal_released(lane->wal);
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        log_index_release(&shard->log, released);
        uint64_t first = log_index_first(&shard->log);
        if (first == 0) first = shard->replica.last_index + 1;
        if (first == shard->replica.first_index) continue;
        struct replica_event event = {.type = REPLICA_RELEASED, .index = first};
        (void)lane_drive(lane, shard, &event);
    }
}

void lane_release_log(struct lane *lane) {
    wal_position kept = oldest_kept(lane), keep = lane->checkpoint_keep;
    if (kept < keep) keep = kept;
    if (lane_snapshot_keeps(lane) < keep) keep = lane_snapshot_keeps(lane);
    if (keep <= wal_released(lane->wal)) return;
    wal_release(lane->wal, keep);
    forget_released(lane);
}

static void save_shard(struct lane *lane, struct shard *shard, uint64_t time_us) {
    int err = shard->changed ? shard_save(shard, wal_synced(lane->wal), time_us) : SK_OK;
    if (err != SK_OK) lane_die(lane, shard, err, "save_shard");
}

/* What a stay that is over has changed is written, too, until it can be dropped; and a shard's content without its record
 * would be damage. */
static void start_checkpoint(struct lane *lane) {
    uint64_t time_us = lane_time_us(lane); /* records of it leave the log with the rest */
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        if (lane->shards.slots[i] != NULL) save_shard(lane, lane->shards.slots[i], time_us);
    }
    for (struct shard *shard = lane->ended; shard != NULL; shard = shard->next_ended) {
        save_shard(lane, shard, time_us);
    }
    lane->checkpoint_next = oldest_pending(lane);
    lane->checkpoint_us = lane->now_us;
    int err = store_checkpoint_start(lane->store);
    if (err != SK_OK) lane_die(lane, NULL, err, "checkpoint_start");
}

/* A failed sync of the log is final (R23), one of a checkpoint is not: the log is kept until a checkpoint is whole, and
 * trying again writes all its pages anew before it syncs. */
void lane_on_checkpointed(struct lane *lane) {
    lane->checkpointed = false;
    int err = lane->checkpoint_err = store_checkpoint_complete(lane->store);
    if (err == SK_OK) {
        lane->checkpoint_keep = lane->checkpoint_next;
        lane_release_log(lane);
        lane->disk_full = false;
        log_event(LOG_DEBUG, "checkpoint_done", "lane=%u took_ms=%llu store_bytes=%llu", lane->options.number,
                  (unsigned long long)((lane->now_us - lane->checkpoint_us) / 1000),
                  (unsigned long long)store_disk_bytes(lane->store));
        return;
    }
    char quoted[FAULT_QUOTED_BYTES];
    log_event(LOG_WARNING, "checkpoint_failed", "lane=%u error=%s what=%s", lane->options.number, error_name(err),
              log_quote(store_fault_text(lane->store), quoted, sizeof quoted));
    if (err == SK_ECORRUPT) lane_die(lane, NULL, err, "checkpoint");
    lane->retry_us = lane->now_us + RETRY_US;
}

void lane_maybe_checkpoint(struct lane *lane) {
    if (store_checkpoint_running(lane->store)) return;
    if (store_checkpoint_failed(lane->store)) {
        if (lane->now_us < lane->retry_us) return;
        int err = store_checkpoint_retry(lane->store);
        if (err != SK_OK) lane_die(lane, NULL, err, "checkpoint_retry");
        return;
    }
    uint64_t age_us = lane->now_us - lane->checkpoint_us;
    bool old = age_us >= lane->options.checkpoint_interval_ms * 1000 && store_memtable_bytes(lane->store) > 0;
    if (store_memtable_full(lane->store) || old) start_checkpoint(lane);
}

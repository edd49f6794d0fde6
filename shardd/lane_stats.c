/* What others may know of a lane: figures that it publishes at each tick, and how long commands took. */
#include "libcommon/clock.h"
#include "shardd/lane_internal.h"

#include <stdlib.h>

/* ---- published ---- */

static void sum_shard(struct lane_stats *stats, const struct shard *shard) {
    stats->shards++;
    stats->leading += shard->replica.role == REPLICA_LEADER;
    stats->applied += shard->replica.applied_index;
    stats->unapplied += shard->replica.last_index - shard->replica.applied_index;
    stats->behind += replica_behind(&shard->replica);
    stats->keys += shard->exec.counters.keys;
    stats->expires += shard->exec.counters.expires;
    stats->key_bytes += shard->exec.counters.key_bytes;
    stats->value_bytes += shard->exec.counters.value_bytes;
    stats->ids += dedup_id_count(shard->dedup);
}

static struct lane_shard_stats describe(const struct lane *lane, const struct shard *shard) {
    const struct replica *replica = &shard->replica;
    bool leads = replica->role == REPLICA_LEADER;
    uint64_t until_us = leads ? replica_lease_until_us(replica) : 0;
    return (struct lane_shard_stats){
        .shard = shard->id,
        .role = replica->role,
        .epoch = replica->config.leader_epoch,
        .commit_index = replica->commit_index,
        .applied_index = replica->applied_index,
        .last_index = replica->last_index,
        .behind = replica_behind(replica),
        .garbage = shard->exec.counters.garbage,
        .replicas = replica->config.replica_count,
        .isr = replica->config.isr_count,
        .in_sync = map_in_isr(&replica->config, lane->node),
        .alone = until_us == UINT64_MAX,
        .lease_margin_us = leads && until_us != UINT64_MAX ? (int64_t)(until_us - lane->now_us) : 0,
    };
}

/* With the lock held. Out of memory fewer are told of. */
static void reserve_shards(struct lane *lane) {
    if (lane->shard_stats_capacity >= lane->shards.slot_count) return;
    struct lane_shard_stats *larger =
        realloc(lane->shard_stats, lane->shards.slot_count * sizeof *lane->shard_stats);
    if (larger == NULL) return;
    lane->shard_stats = larger;
    lane->shard_stats_capacity = lane->shards.slot_count;
}

void lane_publish_stats(struct lane *lane) {
    struct lane_stats stats = {.reads = lane->reads,
                               .follower_reads = lane->follower_reads,
                               .writes = lane->writes,
                               .syncs = lane->syncs,
                               .snapshot_bytes = lane->snapshot_bytes,
                               .log_bytes = wal_disk_bytes(lane->wal),
                               .store_bytes = store_disk_bytes(lane->store),
                               .memtable_bytes = store_memtable_bytes(lane->store),
                               .disk_full = lane->disk_full,
                               .failed = lane->failed};
    pthread_mutex_lock(&lane->stats_lock);
    reserve_shards(lane);
    size_t count = 0;
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        sum_shard(&stats, shard);
        if (count < lane->shard_stats_capacity) lane->shard_stats[count++] = describe(lane, shard);
    }
    lane->shard_stats_count = count;
    lane->stats = stats;
    lane_fill_verify_stats(lane, &lane->verify_stats);
    pthread_mutex_unlock(&lane->stats_lock);
    atomic_store_explicit(&lane->seen_us, lane->now_us, memory_order_relaxed);
}

/* ---- any thread ---- */

void lane_stats(struct lane *lane, struct lane_stats *stats) {
    pthread_mutex_lock(&lane->stats_lock);
    *stats = lane->stats;
    pthread_mutex_unlock(&lane->stats_lock);
}

void lane_verify_stats(struct lane *lane, struct verify_stats *stats) {
    pthread_mutex_lock(&lane->stats_lock);
    *stats = lane->verify_stats;
    pthread_mutex_unlock(&lane->stats_lock);
}

static size_t count_shard_stats(const struct lane *lane, size_t most) {
    return lane->shard_stats_count < most ? lane->shard_stats_count : most;
}

/* The lane must not wait for the pages of `stats`, which may be touched here for the first time: of 16384 shards, half a
 * millisecond with the lock held instead of a tenth. */
size_t lane_shard_stats(struct lane *lane, struct lane_shard_stats *stats, size_t most) {
    pthread_mutex_lock(&lane->stats_lock);
    size_t touched = count_shard_stats(lane, most);
    pthread_mutex_unlock(&lane->stats_lock);
    if (touched > 0) memset(stats, 0, touched * sizeof *stats);
    pthread_mutex_lock(&lane->stats_lock);
    size_t count = count_shard_stats(lane, touched);
    if (count > 0) memcpy(stats, lane->shard_stats, count * sizeof *stats);
    pthread_mutex_unlock(&lane->stats_lock);
    return count;
}

const struct lane_metrics *lane_metrics(const struct lane *lane) { return &lane->metrics; }

uint64_t lane_seen_us(const struct lane *lane) { return metrics_get(&lane->seen_us); }

/* ---- how long commands took ---- */

void lane_note_committed(const struct lane *lane, struct shard *shard) {
    uint64_t index = shard->committed_noted;
    if (index < shard->replica.applied_index) index = shard->replica.applied_index;
    while (index < shard->replica.commit_index) {
        struct pending *pending = shard_find_pending(shard, ++index);
        if (pending == NULL) break; /* not here yet */
        pending->committed_us = lane->now_us;
        shard->committed_noted = index;
    }
}

static void observe(struct metrics_histogram *histogram, uint64_t from_us, uint64_t to_us) {
    metrics_observe(histogram, to_us > from_us ? to_us - from_us : 0, 1);
}

void lane_observe_write(struct lane *lane, const struct pending *pending) {
    struct metrics_histogram *write = lane->metrics.write;
    observe(&write[LANE_STAGE_QUEUE], pending->frame->received_us, pending->appended_us);
    observe(&write[LANE_STAGE_LOG], pending->appended_us, pending->durable_us);
    observe(&write[LANE_STAGE_REPLICATE], pending->durable_us, pending->committed_us);
    observe(&write[LANE_STAGE_EXECUTE], pending->committed_us, clock_boottime_us());
}

void lane_observe_read(struct lane *lane, const struct frame *frame) {
    observe(&lane->metrics.read, frame->received_us, lane->taking_us);
}

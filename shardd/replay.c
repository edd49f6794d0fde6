#include "shardd/replay.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <stdlib.h>

/* Makes a shard over the store's view of it. */
static int new_shard(struct replay *replay, uint32_t id, uint32_t shard_count, uint64_t replica_id,
                     struct shard **shard) {
    struct shard_options options = {.id = id,
                                    .shard_count = shard_count,
                                    .replica_id = replica_id,
                                    .segment_bytes = replay->segment_bytes,
                                    .start_us = replay->start_us,
                                    .times = replay->times};
    int err = store_shard(replay->store, id, &options.kv);
    return err == SK_OK ? shard_new(shard, &options) : err;
}

static int load_shard_cb(void *arg, uint32_t id) {
    struct replay *replay = arg;
    struct shard *shard;
    wal_position synced;
    if (!shard_table_owns(replay->table, id)) return SK_ECORRUPT;
    if (store_shard_is_partial(replay->store, id)) { /* an install was broken off (R30): dropped later */
        log_event(LOG_WARNING, "shard_partial", "shard=%u", id);
        return SK_OK;
    }
    int err = new_shard(replay, id, 1, 0, &shard); /* its record says the rest */
    if (err != SK_OK) return err;
    err = shard_load(shard, &synced);
    if (err == SK_NOT_FOUND) err = SK_ECORRUPT;
    if (err == SK_OK) err = shard_table_add(replay->table, shard);
    if (err != SK_OK) {
        shard_free(shard);
        return err;
    }
    if (synced > replay->synced) replay->synced = synced;
    return SK_OK;
}

int replay_load_shards(struct replay *replay) { return store_each_shard(replay->store, load_shard_cb, replay); }

/* A stay begins: whatever the log has said of the shard so far was of another one. The store holds nothing of an earlier
 * stay, for that is dropped, durably, before the record of the next is written. */
static int on_start(struct replay *replay, const struct wal_entry *logged, wal_position position) {
    struct shard *shard = shard_table_find(replay->table, logged->shard);
    if (shard != NULL && position <= shard->log_from) return SK_OK; /* in the store already */
    if (store_shard_is_partial(replay->store, logged->shard))
        return SK_OK; /* this stay is begun anew after opening */
    uint32_t shard_count;
    if (logged->payload.size != sizeof shard_count) return SK_ECORRUPT;
    memcpy(&shard_count, logged->payload.data, sizeof shard_count);
    if (shard != NULL) {
        shard_table_remove(replay->table, shard);
        shard_free(shard);
        store_forget_shard(replay->store, logged->shard);
    }
    int err = new_shard(replay, logged->shard, shard_count, logged->replica_id, &shard);
    if (err != SK_OK) return err;
    err = shard_table_add(replay->table, shard);
    if (err != SK_OK) {
        shard_free(shard);
        return err;
    }
    shard->log_from = position;
    shard->changed = true;
    return SK_OK;
}

/* R7: the record cut the log behind its index. */
static int on_epoch(struct shard *shard, const struct wal_entry *logged) {
    struct pending *last;
    if (replica_restore_adopted(&shard->replica, logged->epoch, logged->index) != SK_OK) return SK_ECORRUPT;
    while ((last = shard_last_pending(shard)) != NULL && last->index > logged->index) {
        pending_free(shard_pop_pending(shard));
    }
    log_index_cut(&shard->log, logged->index);
    return SK_OK;
}

static int add_entry(struct shard *shard, const struct wal_entry *logged) {
    struct pending *pending;
    int err = pending_new(&pending, logged);
    if (err != SK_OK) return err == SK_ENOMEM ? err : SK_ECORRUPT;
    err = replica_restore_entry(&shard->replica, logged->index, logged->epoch, logged->time_us,
                                pending->entry.commit_index);
    if (err == SK_OK) err = shard_add_pending(shard, pending);
    if (err != SK_OK) pending_free(pending);
    return err;
}

/* Nobody waits for what is replayed. */
static void executed_cb(void *arg, struct shard *shard, const struct pending *pending, int err,
                        struct slice body) {
    (void)arg, (void)shard, (void)pending, (void)err, (void)body;
}

/* R7: the store may have the state of a later time than the entry's. Where that has another epoch the entry was cut, by a
 * record that is yet to come. */
static bool is_cut_later(const struct replica *replica, const struct wal_entry *logged) {
    if (logged->index <= replica->applied_index) {
        uint64_t epoch = epochs_at(&replica->epochs, logged->index);
        return epoch != 0 && epoch != logged->epoch;
    }
    return replica->last_index == replica->applied_index && logged->epoch < replica->last_epoch;
}

static int note_position(struct shard *shard, uint64_t index, wal_position position) {
    uint64_t last = log_index_last(&shard->log);
    if (last != 0 && index != last + 1) log_index_clear(&shard->log);
    return log_index_add(&shard->log, index, position);
}

/* What is committed. A record that cannot be read is this shard's affair and no other's (R24): its entries stay where they
 * are, and the replica takes no part in anything. */
static int execute(struct replay *replay, struct shard *shard) {
    int err = SK_OK;
    while (err == SK_OK && !shard->verify.is_damaged) {
        err = shard_execute_next(shard, &replay->scratch, executed_cb, NULL);
    }
    if (err == SK_ECORRUPT) {
        shard->verify.is_damaged = true;
        log_event(LOG_ERROR, "shard_damaged", "shard=%u index=%llu", shard->id,
                  (unsigned long long)shard->replica.applied_index + 1);
        return SK_OK;
    }
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int on_entry(struct replay *replay, struct shard *shard, const struct wal_entry *logged,
                    wal_position position) {
    if (is_cut_later(&shard->replica, logged)) return SK_OK;
    bool is_new = logged->index > shard->replica.applied_index;
    int err = is_new ? add_entry(shard, logged) : SK_OK;
    if (err == SK_STALE_EPOCH) return SK_OK;
    if (err == SK_OK) err = note_position(shard, logged->index, position);
    return err == SK_OK && is_new ? execute(replay, shard) : err;
}

int replay_entry_cb(void *arg, const struct wal_entry *logged, wal_position position) {
    struct replay *replay = arg;
    if (logged->type == WAL_TIME) {
        if (logged->time_us > replay->time_us) replay->time_us = logged->time_us;
        return SK_OK;
    }
    if (!shard_table_owns(replay->table, logged->shard)) return SK_ECORRUPT;
    if (logged->type == WAL_START) return on_start(replay, logged, position);
    struct shard *shard = shard_table_find(replay->table, logged->shard);
    bool of_ended_stay = shard == NULL || shard->replica.replica_id != logged->replica_id;
    if (of_ended_stay || position < shard->log_from) return SK_OK;
    switch ((enum wal_type)logged->type) {
    case WAL_EPOCH:
        return on_epoch(shard, logged);
    case WAL_DROP:
        shard_table_remove(replay->table, shard);
        shard_free(shard);
        store_forget_shard(replay->store, logged->shard);
        return SK_OK;
    default:
        return on_entry(replay, shard, logged, position);
    }
}

static void finish_shard(const struct replay *replay, struct shard *shard) {
    struct replica_effects none;
    /* A log that was not synced may have lost what the store has. */
    if (log_index_last(&shard->log) != shard->replica.last_index) log_index_clear(&shard->log);
    uint64_t first = log_index_first(&shard->log);
    struct replica_event event = {.type = REPLICA_RELEASED,
                                  .index = first == 0 ? shard->replica.last_index + 1 : first};
    replica_restore_time(&shard->replica, replay->time_us);
    replica_step(&shard->replica, &event, &none);
    if (!shard->verify.is_damaged) return;
    event = (struct replica_event){.type = REPLICA_FAIL};
    replica_step(&shard->replica, &event, &none);
}

int replay_finish(struct replay *replay) {
    for (uint32_t i = 0; i < replay->table->slot_count; i++) {
        const struct shard *shard = replay->table->slots[i];
        if (shard == NULL) continue;
        if (shard->replica.last_time_us > replay->time_us) replay->time_us = shard->replica.last_time_us;
        if (replica_restore_end(&shard->replica) == SK_OK) continue;
        log_event(LOG_ERROR, "log_has_hole", "shard=%u last_index=%llu", shard->id,
                  (unsigned long long)shard->replica.last_index);
        return SK_ECORRUPT;
    }
    for (uint32_t i = 0; i < replay->table->slot_count; i++) {
        if (replay->table->slots[i] != NULL) finish_shard(replay, replay->table->slots[i]);
    }
    return SK_OK;
}

void replay_deinit(struct replay *replay) { buffer_deinit(&replay->scratch); }

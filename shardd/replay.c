#include "shardd/replay.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <stdlib.h>

/* Makes a shard over the store's view of it. */
static int new_shard(struct replay *replay, uint32_t id, uint32_t shard_count, uint64_t replica_id,
                     struct shard **shard) {
    struct kv *kv;
    int err = store_shard(replay->store, id, &kv);
    return err == SK_OK ? shard_new(shard, id, shard_count, kv, replica_id, replay->grace_us) : err;
}

static int load_shard_cb(void *arg, uint32_t id) {
    struct replay *replay = arg;
    struct shard *shard;
    wal_position synced;
    if (!shard_table_owns(replay->table, id)) return SK_ECORRUPT;
    if (store_shard_is_partial(replay->store, id)) {
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

static int on_start(struct replay *replay, const struct wal_entry *logged) {
    struct shard *shard = shard_table_find(replay->table, logged->shard);
    if (store_shard_is_partial(replay->store, logged->shard)) return SK_OK; /* what the log has leads nowhere */
    if (shard != NULL && shard->replica.replica_id >= logged->replica_id) return SK_OK; /* in the store already */
    if (shard != NULL) return SK_ECORRUPT; /* a stay that was never dropped */
    uint32_t shard_count;
    if (logged->payload.size != sizeof shard_count) return SK_ECORRUPT;
    memcpy(&shard_count, logged->payload.data, sizeof shard_count);
    int err = new_shard(replay, logged->shard, shard_count, logged->replica_id, &shard);
    if (err != SK_OK) return err;
    err = shard_table_add(replay->table, shard);
    if (err != SK_OK) {
        shard_free(shard);
        return err;
    }
    shard->changed = true;
    return SK_OK;
}

/* The entry as pending, with a copy of its payload. NULL: out of memory. */
static struct pending *new_pending(const struct wal_entry *logged, wal_position position) {
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL) return NULL;
    pending->copy = malloc(logged->payload.size + 1);
    if (pending->copy == NULL) {
        free(pending);
        return NULL;
    }
    if (logged->payload.size > 0) memcpy(pending->copy, logged->payload.data, logged->payload.size);
    pending->position = position;
    pending->index = logged->index;
    pending->epoch = logged->epoch;
    pending->time_us = logged->time_us;
    pending->type = logged->type;
    return pending;
}

static int add_entry(struct shard *shard, const struct wal_entry *logged, wal_position position) {
    struct pending *pending = new_pending(logged, position);
    if (pending == NULL) return SK_ENOMEM;
    int err =
        entry_decode(slice_of(pending->copy, logged->payload.size), logged->type == WAL_COMMAND, &pending->entry);
    if (err == SK_OK) {
        err = replica_restore_entry(&shard->replica, logged->index, logged->epoch, logged->time_us,
                                    pending->entry.commit_index);
    }
    if (err != SK_OK) {
        pending_free(pending);
        return SK_ECORRUPT;
    }
    shard_add_pending(shard, pending);
    return SK_OK;
}

/* Nobody waits for what is replayed. */
static void executed_cb(void *arg, const struct pending *pending, int err, struct slice body) {
    (void)arg, (void)pending, (void)err, (void)body;
}

int replay_entry_cb(void *arg, const struct wal_entry *logged, wal_position position) {
    struct replay *replay = arg;
    if (logged->type == WAL_EPOCH || logged->type == WAL_TIME) return SK_OK; /* nothing writes them yet */
    if (!shard_table_owns(replay->table, logged->shard)) return SK_ECORRUPT;
    if (logged->type == WAL_START) return on_start(replay, logged);
    struct shard *shard = shard_table_find(replay->table, logged->shard);
    if (shard == NULL || shard->replica.replica_id != logged->replica_id) return SK_OK; /* of an ended stay */
    if (logged->index <= shard->replica.applied_index) return SK_OK;
    int err = add_entry(shard, logged, position);
    while (err == SK_OK) err = shard_execute_next(shard, &replay->scratch, executed_cb, NULL);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

void replay_deinit(struct replay *replay) { buffer_deinit(&replay->scratch); }

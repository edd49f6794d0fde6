#include "shardd/shard.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "shardd/record_kind.h"

#include <stdlib.h>

#define RECORD_FORMAT  1u
#define SWEEP_KEYS_MAX 256u /* per entry, so that no step is long */

/* Fixed part of the record; the names of writes follow. */
struct shard_record {
    uint64_t format;
    uint64_t replica_id;
    uint64_t applied_index;
    uint64_t applied_epoch;
    uint64_t time_us;
    uint64_t synced;
    uint64_t shard_count;
    uint64_t keys, expires, key_bytes, value_bytes;
};

int shard_new(struct shard **made, uint32_t id, uint32_t shard_count, struct kv *kv, uint64_t replica_id,
              uint64_t grace_us) {
    struct shard *shard = calloc(1, sizeof *shard);
    if (shard == NULL) return SK_ENOMEM;
    int err = dedup_new(&shard->dedup, kv);
    if (err != SK_OK) {
        free(shard);
        return err;
    }
    shard->id = id;
    shard->kv = kv;
    exec_init(&shard->exec, kv, id, shard_count);
    replica_init(&shard->replica, id, replica_id, grace_us);
    *made = shard;
    return SK_OK;
}

void pending_free_reads(struct pending *pending) {
    while (pending->reads != NULL) {
        struct after_read *read = pending->reads;
        pending->reads = read->next;
        frame_unref(read->frame);
        free(read);
    }
}

void pending_free(struct pending *pending) {
    pending_free_reads(pending);
    frame_unref(pending->frame);
    free(pending->copy);
    free(pending);
}

void shard_free(struct shard *shard) {
    if (shard == NULL) return;
    while (shard->head != NULL) {
        struct pending *pending = shard->head;
        shard->head = pending->next;
        pending_free(pending);
    }
    exec_deinit(&shard->exec);
    dedup_free(shard->dedup);
    free(shard);
}

int shard_save(struct shard *shard, wal_position synced) {
    struct buffer buffer;
    buffer_init(&buffer);
    const struct exec_counters *counters = &shard->exec.counters;
    struct shard_record record = {
        .format = RECORD_FORMAT,
        .replica_id = shard->replica.replica_id,
        .applied_index = shard->replica.applied_index,
        .applied_epoch = shard->applied_epoch,
        .time_us = shard->replica.last_time_us,
        .synced = synced,
        .shard_count = shard->exec.shard_count,
        .keys = counters->keys,
        .expires = counters->expires,
        .key_bytes = counters->key_bytes,
        .value_bytes = counters->value_bytes,
    };
    buffer_append(&buffer, &record, sizeof record);
    dedup_save(shard->dedup, &buffer);
    int err = buffer.failed ? SK_ENOMEM : kv_put(shard->kv, record_shard_key(), buffer_slice(&buffer));
    buffer_deinit(&buffer);
    if (err == SK_OK) shard->changed = false;
    return err;
}

int shard_load(struct shard *shard, wal_position *synced) {
    struct slice value;
    struct shard_record record;
    int err = kv_get(shard->kv, record_shard_key(), &value);
    if (err != SK_OK) return err;
    if (value.size < sizeof record) return SK_ECORRUPT;
    memcpy(&record, value.data, sizeof record);
    if (record.format != RECORD_FORMAT) return SK_EVERSION;
    err = dedup_load(shard->dedup, slice_of(value.data + sizeof record, value.size - sizeof record));
    if (err != SK_OK) return err;
    shard->exec.shard_count = (uint32_t)record.shard_count;
    shard->exec.counters = (struct exec_counters){.keys = record.keys,
                                                  .expires = record.expires,
                                                  .key_bytes = record.key_bytes,
                                                  .value_bytes = record.value_bytes};
    shard->applied_epoch = record.applied_epoch;
    shard->replica.replica_id = record.replica_id;
    replica_restore_state(&shard->replica, record.applied_index, record.applied_epoch, record.time_us);
    *synced = record.synced;
    return SK_OK;
}

void shard_add_pending(struct shard *shard, struct pending *pending) {
    sk_assert(pending->index == (shard->tail == NULL ? shard->replica.applied_index : shard->tail->index) + 1);
    pending->shard = shard;
    pending->next = NULL;
    if (shard->tail == NULL) {
        shard->head = pending;
    } else {
        shard->tail->next = pending;
    }
    shard->tail = pending;
}

/* R10: the name is checked and the result stored in the step that executes the write. */
static int execute_command(struct shard *shard, const struct pending *pending, struct buffer *answer,
                           int *outcome) {
    const struct entry *entry = &pending->entry;
    struct dedup_result earlier;
    int err = dedup_find(shard->dedup, &entry->name, pending->time_us, &earlier);
    if (err == SK_OK) {
        *outcome = earlier.err;
        buffer_append(answer, earlier.body.data, earlier.body.size);
        return SK_OK;
    }
    if (err == SK_FORGOTTEN) {
        *outcome = SK_FORGOTTEN;
        return SK_OK;
    }
    if (err != SK_NOT_FOUND) return err;

    err = exec_run(&shard->exec, entry->body, entry->atomic, pending->time_us, answer);
    if (err < 0) return err;
    *outcome = err;
    return dedup_store(shard->dedup, &entry->name, pending->time_us, err, buffer_slice(answer));
}

static int execute_sweep(struct shard *shard, const struct pending *pending) {
    uint32_t removed;
    int err = exec_sweep(&shard->exec, pending->time_us, SWEEP_KEYS_MAX, &removed);
    return err == SK_OK ? dedup_sweep(shard->dedup, pending->time_us, SWEEP_KEYS_MAX) : err;
}

int shard_execute_next(struct shard *shard, struct buffer *answer, shard_executed_cb *cb, void *arg) {
    struct pending *pending = shard->head;
    if (pending == NULL || pending->index > shard->replica.commit_index) return SK_NOT_FOUND;
    sk_assert(pending->index == shard->replica.applied_index + 1);

    int err = SK_OK, outcome = SK_OK;
    buffer_clear(answer, 1u << 20);
    if (pending->type == WAL_COMMAND) {
        err = execute_command(shard, pending, answer, &outcome);
    } else if (pending->type == WAL_SWEEP) {
        err = execute_sweep(shard, pending);
        shard->sweep_pending = false;
    }
    if (err == SK_OK && answer->failed) err = SK_ENOMEM;
    if (err != SK_OK) return err;

    struct replica_effects none;
    replica_step(&shard->replica, &(struct replica_event){.type = REPLICA_EXECUTED, .index = pending->index},
                 &none);
    shard->applied_epoch = pending->epoch;
    shard->changed = true;
    shard->head = pending->next;
    if (shard->head == NULL) shard->tail = NULL;
    cb(arg, pending, outcome, buffer_slice(answer));
    pending_free(pending);
    return SK_OK;
}

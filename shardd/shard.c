#include "shardd/shard.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "shardd/record_kind.h"

#include <stdlib.h>

#define RECORD_FORMAT  3u
#define SWEEP_KEYS_MAX 256u /* per entry, so that no step is long */

/* Fixed part of the record; the names of writes follow. */
struct shard_record {
    uint64_t format;
    uint64_t replica_id;
    uint64_t applied_index;
    uint64_t stored_epoch;
    uint64_t time_us;
    uint64_t synced;
    uint64_t log_from;
    uint64_t shard_count;
    uint64_t keys, expires, key_bytes, value_bytes, garbage, changes;
    struct epochs epochs;
};

int shard_new(struct shard **made, const struct shard_options *options) {
    struct shard *shard = calloc(1, sizeof *shard);
    if (shard == NULL) return SK_ENOMEM;
    int err = dedup_new(&shard->dedup, options->kv);
    if (err != SK_OK) {
        free(shard);
        return err;
    }
    shard->id = options->id;
    shard->kv = options->kv;
    exec_init(&shard->exec, options->kv, options->id, options->shard_count);
    log_index_init(&shard->log, options->segment_bytes);
    replica_init(&shard->replica, options->id, options->replica_id, options->times, options->start_us);
    *made = shard;
    return SK_OK;
}

/* ---- entries that wait ---- */

int pending_new(struct pending **made, const struct wal_entry *logged) {
    struct pending *pending = malloc(sizeof *pending + logged->payload.size);
    if (pending == NULL) return SK_ENOMEM;
    *pending = (struct pending){
        .index = logged->index,
        .epoch = logged->epoch,
        .time_us = logged->time_us,
        .type = logged->type,
        .payload_bytes = logged->payload.size,
    };
    if (logged->payload.size > 0) memcpy(pending->payload, logged->payload.data, logged->payload.size);
    int err = entry_decode(slice_of(pending->payload, pending->payload_bytes), logged->type == WAL_COMMAND,
                           &pending->entry);
    if (err != SK_OK) {
        free(pending);
        return SK_EPROTO;
    }
    *made = pending;
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
    free(pending);
}

static int ring_grow(struct pending_ring *ring) {
    uint32_t capacity = ring->capacity == 0 ? 16 : ring->capacity * 2;
    struct pending **slots = malloc(capacity * sizeof *slots);
    if (slots == NULL) return SK_ENOMEM;
    for (uint32_t i = 0; i < ring->count; i++) {
        uint64_t index = ring->first + i;
        slots[index & (capacity - 1)] = ring->slots[index & (ring->capacity - 1)];
    }
    free(ring->slots);
    ring->slots = slots;
    ring->capacity = capacity;
    return SK_OK;
}

int shard_add_pending(struct shard *shard, struct pending *pending) {
    struct pending_ring *ring = &shard->pending;
    uint64_t next = ring->count == 0 ? shard->replica.applied_index + 1 : ring->first + ring->count;
    sk_assert(pending->index == next);
    if (ring->count == ring->capacity && ring_grow(ring) != SK_OK) return SK_ENOMEM;
    if (ring->count == 0) ring->first = pending->index;
    ring->slots[pending->index & (ring->capacity - 1)] = pending;
    ring->count++;
    shard->payload_bytes += pending->payload_bytes;
    return SK_OK;
}

struct pending *shard_find_pending(const struct shard *shard, uint64_t index) {
    const struct pending_ring *ring = &shard->pending;
    if (ring->count == 0 || index < ring->first || index >= ring->first + ring->count) return NULL;
    return ring->slots[index & (ring->capacity - 1)];
}

struct pending *shard_last_pending(const struct shard *shard) {
    const struct pending_ring *ring = &shard->pending;
    return ring->count == 0 ? NULL : shard_find_pending(shard, ring->first + ring->count - 1);
}

struct pending *shard_pop_pending(struct shard *shard) {
    struct pending *pending = shard_last_pending(shard);
    if (pending == NULL) return NULL;
    shard->pending.count--;
    shard->payload_bytes -= pending->payload_bytes;
    return pending;
}

static struct pending *shift_pending(struct shard *shard) {
    struct pending *pending = shard_find_pending(shard, shard->pending.first);
    shard->pending.first++;
    shard->pending.count--;
    shard->payload_bytes -= pending->payload_bytes;
    return pending;
}

void shard_free(struct shard *shard) {
    if (shard == NULL) return;
    struct pending *pending;
    scrub_free(shard->verify.scrub);
    while ((pending = shard_pop_pending(shard)) != NULL) pending_free(pending);
    free(shard->pending.slots);
    log_index_deinit(&shard->log);
    exec_deinit(&shard->exec);
    dedup_free(shard->dedup);
    free(shard);
}

/* ---- the record ---- */

int shard_save(struct shard *shard, wal_position synced, uint64_t time_us) {
    struct buffer buffer;
    buffer_init(&buffer);
    const struct exec_counters *counters = &shard->exec.counters;
    struct shard_record record = {
        .format = RECORD_FORMAT,
        .replica_id = shard->replica.replica_id,
        .applied_index = shard->replica.applied_index,
        .stored_epoch = shard->replica.stored_epoch,
        .time_us = time_us > shard->replica.last_time_us ? time_us : shard->replica.last_time_us,
        .synced = synced,
        .log_from = shard->log_from,
        .shard_count = shard->exec.shard_count,
        .keys = counters->keys,
        .expires = counters->expires,
        .key_bytes = counters->key_bytes,
        .value_bytes = counters->value_bytes,
        .garbage = counters->garbage,
        .changes = counters->changes,
        .epochs = shard->replica.epochs,
    };
    epochs_cut(&record.epochs, record.applied_index);
    buffer_append(&buffer, &record, sizeof record);
    dedup_save(shard->dedup, &buffer);
    int err = buffer.failed ? SK_ENOMEM : kv_put(shard->kv, record_shard_key(), buffer_slice(&buffer));
    buffer_deinit(&buffer);
    if (err == SK_OK) shard->changed = false;
    return err;
}

static int read_record(struct slice value, struct shard_record *record) {
    if (value.size < sizeof record->format) return SK_ECORRUPT;
    memcpy(&record->format, value.data, sizeof record->format);
    if (record->format != RECORD_FORMAT) return SK_EVERSION;
    if (value.size < sizeof *record) return SK_ECORRUPT;
    memcpy(record, value.data, sizeof *record);
    return epochs_are_valid(&record->epochs, record->applied_index) ? SK_OK : SK_ECORRUPT;
}

/* All but what the replica knows. */
static int load(struct shard *shard, struct shard_record *record) {
    struct slice value;
    int err = kv_get(shard->kv, record_shard_key(), &value);
    if (err == SK_OK) err = read_record(value, record);
    if (err != SK_OK) return err;
    err = dedup_load(shard->dedup, slice_of(value.data + sizeof *record, value.size - sizeof *record));
    if (err != SK_OK) return err;
    shard->exec.shard_count = (uint32_t)record->shard_count;
    shard->exec.counters = (struct exec_counters){.keys = record->keys,
                                                  .expires = record->expires,
                                                  .key_bytes = record->key_bytes,
                                                  .value_bytes = record->value_bytes,
                                                  .garbage = record->garbage,
                                                  .changes = record->changes};
    shard->log_from = record->log_from;
    return SK_OK;
}

int shard_load(struct shard *shard, wal_position *synced) {
    struct shard_record record;
    int err = load(shard, &record);
    if (err != SK_OK) return err;
    shard->replica.replica_id = record.replica_id;
    replica_restore_state(&shard->replica, record.applied_index, &record.epochs, record.stored_epoch,
                          record.time_us);
    *synced = record.synced;
    return SK_OK;
}

int shard_reload(struct shard *shard) {
    struct shard_record record;
    struct pending *pending;
    while ((pending = shard_pop_pending(shard)) != NULL) pending_free(pending);
    uint32_t shard_count = shard->exec.shard_count;
    exec_deinit(&shard->exec);
    exec_init(&shard->exec, shard->kv, shard->id, shard_count);
    dedup_free(shard->dedup);
    int err = dedup_new(&shard->dedup, shard->kv);
    log_index_clear(&shard->log);
    shard->changed = shard->sweep_pending = false;
    return err == SK_OK ? load(shard, &record) : err;
}

int shard_adapt_record(const struct shard *shard, struct slice foreign, wal_position log_from, wal_position synced,
                       struct buffer *adapted) {
    struct shard_record record;
    int err = read_record(foreign, &record);
    if (err != SK_OK) return err;
    record.replica_id = shard->replica.replica_id;
    record.stored_epoch = shard->replica.stored_epoch;
    record.log_from = log_from;
    record.synced = synced;
    buffer_append(adapted, &record, sizeof record);
    buffer_append(adapted, foreign.data + sizeof record, foreign.size - sizeof record);
    return adapted->failed ? SK_ENOMEM : SK_OK;
}

int shard_read_record(struct slice value, uint64_t *applied_index, uint64_t *time_us, struct epochs *epochs) {
    struct shard_record record;
    int err = read_record(value, &record);
    if (err != SK_OK) return err;
    *applied_index = record.applied_index;
    *time_us = record.time_us;
    *epochs = record.epochs;
    return SK_OK;
}

/* Not the epochs, which tables forget, and not the time: beacons carry it, too, and each replica hears other ones. */
int shard_hash_memory(const struct shard *shard, const struct pending *marker, struct buffer *scratch,
                      struct scrub_sum *hash) {
    const struct exec_counters *counters = &shard->exec.counters;
    uint64_t numbers[] = {marker->index,     marker->epoch,     marker->time_us,     shard->exec.shard_count,
                          counters->keys,    counters->expires, counters->key_bytes, counters->value_bytes,
                          counters->garbage, counters->changes};
    buffer_clear(scratch, 1u << 20);
    dedup_save(shard->dedup, scratch);
    if (scratch->failed) return SK_ENOMEM;
    *hash = scrub_hash(slice_of(numbers, sizeof numbers), buffer_slice(scratch));
    return SK_OK;
}

/* ---- executing ---- */

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

    struct exec_moment moment = {.time_us = pending->time_us, .chance = entry->chance, .waits = entry->waits};
    err = exec_run(&shard->exec, entry->body, entry->atomic, &moment, answer);
    if (err < 0) return err;
    *outcome = err;
    if (err == SK_RETRY) return SK_OK; /* it waits, and will be executed again under its name */
    return dedup_store(shard->dedup, &entry->name, pending->time_us, err, buffer_slice(answer));
}

static int execute_sweep(struct shard *shard, const struct pending *pending) {
    uint32_t removed;
    int err = exec_sweep(&shard->exec, pending->time_us, SWEEP_KEYS_MAX, &removed);
    return err == SK_OK ? dedup_sweep(shard->dedup, pending->time_us, SWEEP_KEYS_MAX) : err;
}

int shard_execute_next(struct shard *shard, struct buffer *answer, shard_executed_cb *cb, void *arg) {
    struct pending *pending = shard_find_pending(shard, shard->replica.applied_index + 1);
    if (pending == NULL || pending->index > shard->replica.commit_index) return SK_NOT_FOUND;

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
    replica_step(
        &shard->replica,
        &(struct replica_event){.type = REPLICA_EXECUTED, .index = pending->index, .time_us = pending->time_us},
        &none);
    shard->changed = true;
    (void)shift_pending(shard);
    cb(arg, shard, pending, outcome, buffer_slice(answer));
    pending_free(pending);
    return SK_OK;
}

/* One shard on its lane: the replication core, the state it executes on, and the entries that are in the log but not
 * executed yet. The lane is the only caller. */
#pragma once

#include "shardd/dedup.h"
#include "shardd/exec.h"
#include "shardd/frontend.h"
#include "shardd/replica.h"
#include "shardd/wal.h"

/* A read that runs after an entry of the log (REQUEST_AFTER). */
struct after_read {
    struct after_read *next;
    struct frame *frame; /* owned reference */
    struct request_item item;
};

/* An entry of the log that waits for its commit, with whoever waits for its result. */
struct pending {
    struct pending *next;        /* in the shard, by index */
    struct pending *next_in_log; /* in the lane, by position; lane.c's */
    struct shard *shard;
    wal_position position;
    uint64_t index, epoch, time_us;
    uint8_t type;                         /* enum wal_type */
    struct entry entry;                   /* slices point into the frame or into `copy` */
    struct frame *frame;                  /* owned reference: who asked; NULL: nobody (replay, the lane itself) */
    uint64_t number;                      /* of the request, with frame */
    struct after_read *reads, *last_read; /* owned; oldest first */
    uint8_t *copy;                        /* owned; replay's */
};

struct shard {
    uint32_t id;
    struct kv *kv; /* the store's */
    struct replica replica;
    struct exec exec;
    struct dedup *dedup;         /* owned */
    uint64_t applied_epoch;      /* of the entry at replica.applied_index */
    bool changed;                /* executed something since its record was put */
    bool sweep_pending;          /* a sweep is in the log and not executed */
    struct pending *head, *tail; /* owned */
};

/* What came of an executed entry: err as exec_run gives it, `answer` result or text. */
typedef void shard_executed_cb(void *arg, const struct pending *pending, int err, struct slice answer);

/* A shard without state. `kv` is the store's. SK_ENOMEM. */
int shard_new(struct shard **shard, uint32_t id, uint32_t shard_count, struct kv *kv, uint64_t replica_id,
              uint64_t grace_us);
void shard_free(struct shard *shard); /* with what is pending */

/* The shard's own record: applied index, epoch, time, counters and names, in the state itself, so that a checkpoint
 * holds all of it in one transaction (R25). `synced`: where the log was synced when the record was put.
 * shard_load: SK_OK, SK_NOT_FOUND (no record), SK_ECORRUPT, SK_EVERSION or a fault. */
int shard_save(struct shard *shard, wal_position synced);
int shard_load(struct shard *shard, wal_position *synced);

/* Puts an entry behind the others (its index follows). Owns `pending`. */
void shard_add_pending(struct shard *shard, struct pending *pending);

/* Executes the next entry if it is committed and tells `cb`. SK_OK, SK_NOT_FOUND (none is committed), or a fault after
 * which the state cannot be trusted. `answer` is scratch. */
int shard_execute_next(struct shard *shard, struct buffer *answer, shard_executed_cb *cb, void *arg);

void pending_free_reads(struct pending *pending); /* those that were answered otherwise */
void pending_free(struct pending *pending);

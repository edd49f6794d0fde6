/* One shard on its lane: the replication core, the state it executes on, and the entries that are in the log but not
 * executed yet. The lane is the only caller. */
#pragma once

#include "shardd/blocking.h"
#include "shardd/dedup.h"
#include "shardd/exec.h"
#include "shardd/frontend.h"
#include "shardd/log_index.h"
#include "shardd/replica.h"
#include "shardd/verify.h"
#include "shardd/wal.h"

/* A read that runs after an entry of the log (REQUEST_AFTER). */
struct after_read {
    struct after_read *next;
    struct frame *frame; /* owned reference */
    struct request_item item;
    bool of_its_frame; /* the entry was appended for a command of the same frame, before it */
};

/* An entry of the log that waits for its commit, with whoever waits for its result. */
struct pending {
    uint64_t index, epoch, time_us;
    uint8_t type;          /* enum wal_type */
    struct entry entry;    /* slices point into the payload */
    struct frame *frame;   /* owned reference: who asked; NULL: nobody (replay, a peer, the lane itself) */
    uint64_t number;       /* of the request, with frame */
    struct waiter *waiter; /* who asked, in place of `frame`, if it may wait; of the lane's blocking */
    uint64_t appended_us, durable_us, committed_us; /* when, as seen here */
    struct after_read *reads, *last_read;           /* owned; oldest first */
    size_t payload_bytes;
    uint8_t payload[]; /* as in the log, and as followers get it */
};

/* The pending entries of a shard: they follow each other without a gap. */
struct pending_ring {
    struct pending **slots; /* owned, and what they point to */
    uint32_t capacity;      /* a power of two, or 0 */
    uint32_t count;
    uint64_t first; /* index of the oldest; with count = 0 no meaning */
};

struct shard {
    uint32_t id;
    struct kv *kv; /* the store's */
    struct replica replica;
    struct exec exec;
    struct dedup *dedup;   /* owned */
    wal_position log_from; /* what the log has of this shard before here is of an earlier stay, or void */
    struct log_index log;  /* where the entries lie that the log still has */
    bool changed;          /* executed something since its record was put */
    bool sweep_pending;    /* a sweep is in the log and not executed */
    struct pending_ring pending;
    size_t payload_bytes; /* of them */

    /* the lane's */
    struct verification verify;
    struct blocking_shard waiting;
    uint64_t committed_noted; /* of entries up to here it is noted when they were committed */
    uint64_t refused_turn;    /* the frame (lane's frame_turn) of which something was refused, */
    int refused_err;          /* and why */
    bool is_dirty;            /* in the list of shards that have something to do at the end of a step */
    struct shard *next_dirty;
    struct shard *next_ended; /* in the list of those whose stay is over, */
    wal_position dropped_at;  /* by the record here */
};

/* What came of an executed entry: err as exec_run gives it, `answer` result or text. */
typedef void shard_executed_cb(void *arg, struct shard *shard, const struct pending *pending, int err,
                               struct slice answer);

/* A shard without state. `kv` is the store's. SK_ENOMEM. */
struct shard_options {
    uint32_t id;
    uint32_t shard_count;
    uint64_t replica_id;
    uint64_t segment_bytes; /* of the log */
    uint64_t start_us;      /* of this process (R15) */
    const struct replica_times *times;
    struct kv *kv;
};
int shard_new(struct shard **shard, const struct shard_options *options);
void shard_free(struct shard *shard); /* with what is pending, and its scrub: before `kv` goes, if there is one */

/* The shard's own record: applied index, epochs, time, counters and names, in the state itself, so that a checkpoint
 * holds all of it in one transaction (R25). `synced`: where the log was synced when the record was put; `time_us`: the
 * highest leader time that the lane has seen (R26).
 * shard_load: SK_OK, SK_NOT_FOUND (no record), SK_ECORRUPT, SK_EVERSION or a fault. */
int shard_save(struct shard *shard, wal_position synced, uint64_t time_us);
int shard_load(struct shard *shard, wal_position *synced);

/* After a snapshot was installed: what lies in memory is made anew from what the store has now. Nothing of the old log
 * is left; the replica is told by REPLICA_INSTALLED. */
int shard_reload(struct shard *shard);

/* The record of another replica's snapshot as this replica's own: its stay and its log. Appended to `record`. SK_OK,
 * SK_ECORRUPT, SK_EVERSION. */
int shard_adapt_record(const struct shard *shard, struct slice foreign, wal_position log_from, wal_position synced,
                       struct buffer *record);
/* What the record says of the log. */
int shard_read_record(struct slice record, uint64_t *applied_index, uint64_t *time_us, struct epochs *epochs);

/* An entry as pending with a copy of its payload; SK_ENOMEM, SK_EPROTO (the payload is malformed). */
int pending_new(struct pending **pending, const struct wal_entry *logged);
void pending_free(struct pending *pending);
void pending_free_reads(struct pending *pending); /* those that were answered otherwise */

/* Puts an entry behind the others (its index follows). Owns `pending` on SK_OK. SK_ENOMEM. */
int shard_add_pending(struct shard *shard, struct pending *pending);
/* NULL: not pending. */
struct pending *shard_find_pending(const struct shard *shard, uint64_t index);
struct pending *shard_last_pending(const struct shard *shard);
/* Takes the last one out, to be freed. NULL: none. */
struct pending *shard_pop_pending(struct shard *shard);

/* The hash of what is the same on every replica that has executed the entries up to `marker`, the last, and lies in memory:
 * names of writes and counters. SK_ENOMEM. `scratch` is scratch. */
int shard_hash_memory(const struct shard *shard, const struct pending *marker, struct buffer *scratch,
                      struct scrub_sum *hash);

/* Executes the next entry if it is committed and tells `cb`. SK_OK, SK_NOT_FOUND (none is committed), or a fault after
 * which the state cannot be trusted, of this shard (SK_ECORRUPT: a record cannot be read) or at all. `answer` is scratch. */
int shard_execute_next(struct shard *shard, struct buffer *answer, shard_executed_cb *cb, void *arg);

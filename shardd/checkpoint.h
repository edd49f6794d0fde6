/* Writes frozen memtables to the disk layer on a thread of its own: sorted, in synced transactions that each hold
 * whole shards. A failed one leaves whole transactions behind and may be written again from the start: the same
 * changes over themselves are the same state.
 *
 * Threads: the lane calls everything. From checkpoint_start to the callback the disk's writer side is this
 * thread's. */
#pragma once

#include "shardd/disk.h"
#include "shardd/memtable.h"

struct checkpoint;

struct checkpoint_options {
    struct disk *disk;         /* borrowed */
    uint64_t txn_bytes;        /* a transaction ends with the shard that exceeds this in keys and values */
    uint64_t pace_bytes_per_s; /* keys and values; 0 = as fast as it goes */
    void (*ended_cb)(void *arg, int err); /* on the thread, after everything else of the checkpoint */
    void *arg;
};

/* Starts the thread. SK_ENOMEM. */
int checkpoint_new(struct checkpoint **checkpoint, const struct checkpoint_options *options);

/* Lets a running one end, without pauses, and stops the thread. */
void checkpoint_free(struct checkpoint *checkpoint); /* NULL is allowed */

/* Starts writing `frozen` (borrowed, not to change before the callback). None runs. */
void checkpoint_start(struct checkpoint *checkpoint, const struct memtable *frozen);

/* After the callback: how it ended. */
int checkpoint_take_result(struct checkpoint *checkpoint);

/* Frees a table on the thread, for giving back a large one takes longer than a step may. Owned from here. `trim`: then
 * also gives what malloc has free back to the system. */
void checkpoint_discard_take(struct checkpoint *checkpoint, struct memtable *table, bool trim);

/* For tests: called on the thread after each commit with the number of those so far in this checkpoint. */
extern void (*checkpoint_committed_hook)(uint32_t commits);

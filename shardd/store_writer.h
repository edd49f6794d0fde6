/* The thread of a store that writes to LMDB, which has one writer: checkpoints, and the steps of an install
 * (shardd/snapshot_install.h) while no checkpoint is to be written. It also gives back the memory of memtables that are no
 * longer needed.
 *
 * A job ends with the callback. From then until the lane has released it, the thread leaves the disk alone, so that the lane
 * may take over what was written, or reopen it; other jobs wait.
 *
 * Threads: the lane calls everything. While a job is not ended, the disk's writer side is this thread's. */
#pragma once

#include "shardd/memtable.h"
#include "shardd/snapshot_install.h"

struct store_writer;

enum store_job { STORE_CHECKPOINT, STORE_INSTALL, STORE_JOBS };

struct store_writer_options {
    struct disk *disk;                                        /* borrowed */
    uint64_t txn_bytes;                                       /* as checkpoint.h has it, */
    uint64_t pace_bytes_per_s;                                /* and this */
    void (*ended_cb)(void *arg, enum store_job job, int err); /* on the thread, after everything else of the job */
    void *arg;
};

/* Starts the thread. SK_ENOMEM. */
int store_writer_new(struct store_writer **writer, const struct store_writer_options *options);

/* Lets what was started end, a checkpoint without its pauses, and stops the thread. An install is cancelled before, or
 * this takes as long as it does. */
void store_writer_free(struct store_writer *writer); /* NULL is allowed */

/* Starts writing `frozen` (borrowed, not to change before the callback; without the shard that an install has cleared). No
 * checkpoint runs, and none is unreleased. */
void store_writer_checkpoint(struct store_writer *writer, const struct memtable *frozen);

/* Starts an install (borrowed until it is released). None runs, and none is unreleased. */
void store_writer_install(struct store_writer *writer, struct snapshot_install *install);

/* After the callback: how it ended. */
int store_writer_result(struct store_writer *writer, enum store_job job);
void store_writer_release(struct store_writer *writer, enum store_job job);

/* Frees a table on the thread, for giving back a large one takes longer than a step may. Owned from here. `trim`: then
 * also gives what malloc has free back to the system. */
void store_writer_discard_take(struct store_writer *writer, struct memtable *table, bool trim);

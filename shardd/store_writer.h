/* The thread of a store that writes to LMDB, which has one writer: it writes checkpoints, and gives back the memory of
 * memtables that are no longer needed.
 *
 * Threads: the lane calls everything. From store_writer_checkpoint to the callback the disk's writer side is this
 * thread's. */
#pragma once

#include "shardd/disk.h"
#include "shardd/memtable.h"

struct store_writer;

struct store_writer_options {
    struct disk *disk;                    /* borrowed */
    uint64_t txn_bytes;                   /* as checkpoint.h has it, */
    uint64_t pace_bytes_per_s;            /* and this */
    void (*ended_cb)(void *arg, int err); /* on the thread, after everything else of the checkpoint */
    void *arg;
};

/* Starts the thread. SK_ENOMEM. */
int store_writer_new(struct store_writer **writer, const struct store_writer_options *options);

/* Lets a running checkpoint end, without pauses, and stops the thread. */
void store_writer_free(struct store_writer *writer); /* NULL is allowed */

/* Starts writing `frozen` (borrowed, not to change before the callback). No checkpoint runs. */
void store_writer_checkpoint(struct store_writer *writer, const struct memtable *frozen);

/* After the callback: how it ended. */
int store_writer_take_result(struct store_writer *writer);

/* Frees a table on the thread, for giving back a large one takes longer than a step may. Owned from here. `trim`: then
 * also gives what malloc has free back to the system. */
void store_writer_discard_take(struct store_writer *writer, struct memtable *table, bool trim);

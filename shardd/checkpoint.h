/* Writes a frozen memtable to the disk layer: sorted, in synced transactions that each hold whole shards. One that failed
 * leaves whole transactions behind and may be written again from the start: the same changes over themselves are the same
 * state. On the thread that has the disk's writer side (shardd/store_writer.h). */
#pragma once

#include "shardd/disk.h"
#include "shardd/memtable.h"

struct checkpoint_options {
    struct disk *disk;         /* borrowed */
    uint64_t txn_bytes;        /* a transaction ends with the shard that exceeds this in keys and values */
    uint64_t pace_bytes_per_s; /* keys and values; 0 = as fast as it goes */
    uint32_t skipped_shard;    /* its changes count no more; SHARD_COUNT_MAX: none */
    void (*pause_cb)(void *arg, uint64_t wait_us); /* waits between transactions; less when there is a hurry */
    void *arg;
};

/* `frozen` does not change meanwhile. SK_OK or a fault. */
int checkpoint_write(const struct checkpoint_options *options, const struct memtable *frozen);

/* For tests: called after each commit with the number of those so far in this checkpoint. */
extern void (*checkpoint_committed_hook)(uint32_t commits);

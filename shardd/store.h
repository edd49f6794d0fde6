/* A lane's store: one LMDB environment with one named database per shard, and over it the memtables of what is not yet
 * there. The lane reads and changes shards through kv.h. A checkpoint freezes the memtable; the store's own thread
 * writes it, sorted and paced, in synced transactions that each hold whole shards, while the lane goes on with a new
 * memtable over the frozen one over LMDB. disk.c alone includes lmdb.h.
 *
 * A shard's applied index, epochs and names are ordinary records of it, put by the lane just before it freezes: so one
 * transaction holds them with the state (docs/replication.md, R25).
 *
 * Threads: the lane calls everything; checkpointed_cb runs on the checkpoint thread. */
#pragma once

#include "shardd/kv.h"

struct store;

struct store_options {
    const char *directory;   /* made if missing */
    uint64_t map_bytes;      /* LMDB map size; 1 TiB */
    uint64_t memtable_bytes; /* a memtable is full from here */
    uint64_t txn_bytes;      /* changes after which a checkpoint's transaction ends with the shard; about 4 MiB */
    uint64_t pace_bytes_per_s; /* 0 = as fast as it goes */
    /* A checkpoint has ended. Posts to the lane, which calls store_checkpoint_complete. */
    void (*checkpointed_cb)(void *arg, int err);
    void *arg;
};

/* SK_ECORRUPT (LMDB says the file is damaged), SK_EVERSION (newer format), SK_ENOSPC, SK_EIO, SK_ENOMEM. `text` (of
 * `text_bytes`) then names the file and what is wrong. */
int store_open(struct store **store, const struct store_options *options, char *text, size_t text_bytes);
/* Waits for a running checkpoint. What is in memtables is not written: it is in the log. */
void store_close(struct store *store);

/* The shards that have a database. Calls cb for each; stops at an error and returns it. */
int store_each_shard(struct store *store, int (*cb)(void *arg, uint32_t shard), void *arg);

/* The view of a shard, made at the first call; its database is made by the first checkpoint that has it. Owned by the
 * store, valid until store_close or store_drop_shard. */
int store_shard(struct store *store, uint32_t shard, struct kv **kv);

/* Removes a shard's database and what memtables hold of it, and frees its view. Not while a checkpoint runs (SK_BUSY)
 * and not in a step. Synced. On an error nothing was removed. */
int store_drop_shard(struct store *store, uint32_t shard);

/* A lane's step: between begin and end reads see one state of LMDB, and values read stay valid as kv.h says. Short: a
 * read transaction that is held for long makes the file grow. kv_get and iterators are called within a step alone, and
 * no iterator outlives it. */
int store_step_begin(struct store *store);
void store_step_end(struct store *store);

/* Bytes in the active memtable. */
uint64_t store_memtable_bytes(const struct store *store);
/* The active memtable is full: freeze, or if a checkpoint runs, wait with writes. */
bool store_memtable_full(const struct store *store);
bool store_checkpoint_running(const struct store *store);

/* Freezes the active memtable and starts the checkpoint. SK_BUSY while one runs. */
int store_checkpoint_start(struct store *store);

/* After checkpointed_cb. Not in a step. On SK_OK the frozen memtable is dropped. On SK_ENOSPC or another error it stays, still read,
 * and store_checkpoint_retry tries the same again. Returns the error of the checkpoint. */
int store_checkpoint_complete(struct store *store);
int store_checkpoint_retry(struct store *store);
bool store_checkpoint_failed(const struct store *store);

/* For status: bytes of the LMDB file in use. */
uint64_t store_disk_bytes(const struct store *store);

/* What the last fault of the store was, for the log line: file, place and what is wrong. The lane's; lives until the
 * next fault. */
const char *store_fault_text(const struct store *store);

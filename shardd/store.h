/* A lane's store: one LMDB environment with one named database per shard, and over it the memtables of what is not yet
 * there. The lane reads and changes shards through kv.h. A checkpoint freezes the memtable; the store's own thread
 * writes it, sorted and paced, in synced transactions that each hold whole shards, while the lane goes on with a new
 * memtable over the frozen one over LMDB. disk.c alone includes lmdb.h.
 *
 * A shard's applied index, epochs and names are ordinary records of it, put by the lane just before it freezes: so one
 * transaction holds them with the state (docs/replication.md, R25).
 *
 * Snapshots of single shards are copied out beside all that, and installed between checkpoints.
 *
 * Threads: the lane calls everything; the callbacks come on threads of the store. */
#pragma once

#include "shardd/kv.h"

struct store;

struct store_options {
    const char *directory;   /* made if missing */
    uint64_t map_bytes;      /* LMDB map size; 1 TiB */
    uint64_t memtable_bytes; /* a memtable is full from here */
    uint64_t cache_bytes;    /* of records that reads have found in LMDB; none if it is too small for a few */
    uint64_t txn_bytes;      /* changes after which a checkpoint's transaction ends with the shard; about 4 MiB */
    uint64_t pace_bytes_per_s; /* 0 = as fast as it goes */
    /* A checkpoint has ended. Posts to the lane, which calls store_checkpoint_complete. */
    void (*checkpointed_cb)(void *arg, int err);
    /* The same for store_snapshot_complete and store_install_complete. NULL where there are no snapshots. */
    void (*snapshot_cb)(void *arg, int err);
    void (*installed_cb)(void *arg, int err);
    void *arg;
};

/* SK_ECORRUPT (LMDB says the file is damaged), SK_EVERSION (newer format), SK_ENOSPC, SK_EIO, SK_ENOMEM. `text` (of
 * `text_bytes`) then names the file and what is wrong. */
int store_open(struct store **store, const struct store_options *options, char *text, size_t text_bytes);
/* Waits for a running checkpoint; breaks off a snapshot or an install. Their callbacks come before it returns. What is in
 * memtables is not written: it is in the log. */
void store_close(struct store *store);

/* The shards that have a database, those that are partial among them. Calls cb for each; stops at an error and returns
 * it. */
int store_each_shard(struct store *store, int (*cb)(void *arg, uint32_t shard), void *arg);

/* An install of this shard was broken off after its old content was gone, by a crash, an error or store_close. What it has
 * is not to be used: its view may not be read or changed (sk_assert) before an install has succeeded or the shard was
 * dropped. */
bool store_shard_is_partial(const struct store *store, uint32_t shard);

/* The view of a shard, made at the first call; its database is made by the first checkpoint that has it. Owned by the
 * store, valid until store_close or store_drop_shard. */
int store_shard(struct store *store, uint32_t shard, struct kv **kv);

/* Removes a shard's database, also a partial one, and what memtables hold of it, and frees its view. Not while a checkpoint
 * or an install runs or a snapshot of this shard is copied (SK_BUSY), and not in a step. Synced. On an error nothing was
 * removed. */
int store_drop_shard(struct store *store, uint32_t shard);

/* Forgets what memtables hold of a shard that has no database and no user: a stay that the log has ended. */
void store_forget_shard(struct store *store, uint32_t shard);

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

/* ---- snapshots ---- */

/* What a snapshot has become. */
struct store_snapshot {
    uint64_t bytes;      /* of the file */
    uint64_t records;    /* the shard's own among them */
    struct slice record; /* value of the shard's own (RECORD_SHARD): lives until the next store_snapshot_start */
};

/* Starts copying a shard into a file (shardd/snapshot_file.h), as LMDB has it now: the state of its last checkpoint, whose
 * applied index stands in the shard's own record. A thread of its own, and one read transaction for as long as it takes:
 * meanwhile the file of the store grows by what checkpoints change. The file stands under `path` when it is whole.
 * SK_BUSY (one is being copied), SK_NOT_FOUND (LMDB has no database of the shard yet, or a partial one), SK_ENOMEM, or a
 * fault. */
int store_snapshot_start(struct store *store, uint32_t shard, uint64_t cluster, const char *path);

/* After snapshot_cb. On an error there is no file: SK_ENOSPC, SK_EIO, SK_ENOMEM, SK_ECORRUPT (a damaged record in LMDB, or
 * the shard's own missing; store_fault_text says more), SK_RETRY (the store had to reopen LMDB: start again). */
int store_snapshot_complete(struct store *store, struct store_snapshot *snapshot);

/* Starts replacing all that a shard has by what a snapshot's file has, with `record` (copied) as the shard's own record
 * instead of the file's. From here to completion its view may not be read or changed (sk_assert), and no iterator of it is
 * open. The file is read whole and verified before anything is changed. Then it is written in transactions of a bounded size
 * (four times txn_bytes), the first of which marks the shard as partial and removes its old content, the last of which puts
 * the record and takes the mark away, each synced.
 *
 * The lane's other shards go on: a checkpoint may be started, run, failed or retried meanwhile, and is written between two
 * of those transactions, so it waits for one at most. Ten gigabytes take minutes. SK_BUSY (one is being installed),
 * SK_ENOMEM. */
int store_install_start(struct store *store, uint32_t shard, uint64_t cluster, const char *path,
                        struct slice record);

/* The running install ends soon, with SK_ECLOSED unless it is done. */
void store_install_cancel(struct store *store);

/* After installed_cb. Not in a step. SK_OK: the shard's view has the new content and nothing else, and that is durable.
 * After an error store_shard_is_partial tells: false, and nothing was changed, in memtables neither, and the view may be
 * used again; or true, and the shard is to be installed again or dropped. SK_ECORRUPT, SK_EVERSION, SK_CONFLICT (of another
 * shard or cluster) tell of the file; SK_ENOSPC, SK_EIO, SK_ENOMEM; SK_ECLOSED (cancelled). */
int store_install_complete(struct store *store);

/* ---- status ---- */

/* For status: bytes of the LMDB file in use. */
uint64_t store_disk_bytes(const struct store *store);

/* What the last fault of the store or of a snapshot's file was, for the log line: file, place and what is wrong. The lane's; lives until the
 * next fault. */
const char *store_fault_text(const struct store *store);

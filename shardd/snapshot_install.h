/* Replaces one shard's database by what a file has (shardd/snapshot_file.h), a step at a time, so that checkpoints go on
 * between the steps:
 *
 *   verify: the whole file is read; nothing is changed before its last checksum was right
 *   clear:  one transaction marks the shard as partial and removes what it had
 *   fill:   transactions of a bounded size (LMDB keeps a transaction's pages in memory); the last one puts the shard's own
 *           record and takes the mark away
 *
 * Each is synced. A crash after the first leaves the mark: what the database has then is not to be used.
 *
 * Threads: steps are the thread's that has the disk's writer side (shardd/store_writer.h), cancel is anyone's, the rest the
 * lane's, before the first and after the last step. */
#pragma once

#include "shardd/disk.h"
#include "shardd/snapshot_file.h"

struct snapshot_install;

struct snapshot_install_options {
    struct disk *disk; /* borrowed */
    struct snapshot_id id;
    const char *path;    /* for the call */
    struct slice record; /* for the call: what the shard's own record becomes, instead of the file's */
    uint64_t txn_bytes;  /* keys and values of a transaction, about; a step is no longer than that */
};

/* SK_ENOMEM. Nothing is read or changed yet. */
int snapshot_install_new(struct snapshot_install **install, const struct snapshot_install_options *options);
void snapshot_install_free(struct snapshot_install *install); /* NULL is allowed */

/* One step. True: it was the last, and `err` says how it ended: SK_OK; SK_ECORRUPT, SK_EVERSION, SK_CONFLICT (of another
 * shard or cluster) about the file; SK_ENOSPC, SK_EIO, SK_ENOMEM; SK_ECLOSED (cancelled). */
bool snapshot_install_step(struct snapshot_install *install, int *err);

/* The next step ends it. */
void snapshot_install_cancel(struct snapshot_install *install);

/* Whether the shard's old content counts no more: from the first transaction on. */
bool snapshot_install_has_cleared(const struct snapshot_install *install);

uint32_t snapshot_install_shard(const struct snapshot_install *install);

/* What was wrong with the file; empty when it was something else. */
const char *snapshot_install_text(const struct snapshot_install *install);

/* For tests: called after each commit with the number of those so far in this install. */
extern void (*snapshot_install_committed_hook)(uint32_t commits);

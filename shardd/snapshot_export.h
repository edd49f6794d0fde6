/* Copies one shard, as LMDB holds it when the export begins, into a file (shardd/snapshot_file.h), on a thread of its own:
 * lane and checkpoints go on beside it. One LMDB read transaction from begin to end, so it goes as fast as it can.
 *
 * Threads: the lane calls everything. */
#pragma once

#include "shardd/disk.h"
#include "shardd/snapshot_file.h"

struct snapshot_export;

struct snapshot_export_options {
    struct disk *disk; /* borrowed; not reopened, and the shard not dropped, before the export is stopped */
    struct snapshot_id id;
    const char *path; /* for the call */
    /* On the thread, after everything else. */
    void (*ended_cb)(void *arg, int err);
    void *arg;
};

struct snapshot_export_result {
    uint64_t bytes;      /* of the file */
    uint64_t records;    /* the shard's own among them */
    struct slice record; /* value of the shard's own, borrowed from the export */
    const char *text;    /* what is wrong and where, if something is; borrowed from the export */
};

/* SK_NOT_FOUND (the shard has no database), SK_ENOMEM, or a fault of the disk. */
int snapshot_export_start(struct snapshot_export **export, const struct snapshot_export_options *options);

/* Makes one that runs end with SK_RETRY, and waits for its thread; the callback has come then. Also after its end, again
 * and again. */
void snapshot_export_stop(struct snapshot_export *export);

/* How it ended; it was stopped. SK_ENOSPC, SK_EIO, SK_ENOMEM, SK_ECORRUPT (a record that is damaged, or the shard's own
 * missing), SK_RETRY: there is no file, nor a part of one. */
int snapshot_export_result(const struct snapshot_export *export, struct snapshot_export_result *result);

void snapshot_export_free(struct snapshot_export *export); /* stops it; NULL is allowed */

/* metad's data directory:
 *   lock    held by flock while a process uses the directory
 *   metad   who this is: format version, server id, and the cluster's id once it exists; text, replaced whole
 *   version the highest map version seen, as far as it reached the disk; text, overwritten without a sync
 *   raft/   libraft's files
 * `metad` says what must be in raft/, so that a directory which lost it is noticed and never taken for a new one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATADIR_FORMAT 1u

struct datadir; /* one thread */

/* Makes the directory if it is missing, locks it and reads who it is. On failure `text` is one line with the path:
 * SK_ECONFIG (cannot be made or written, or is another server's), SK_ELOCKED, SK_EVERSION (a newer format),
 * SK_ECORRUPT (files of an earlier run that do not fit together), SK_EIO, SK_ENOSPC, SK_ENOMEM. */
int datadir_open(struct datadir **datadir, const char *path, uint64_t server_id, char *text, size_t text_bytes);

/* Where libraft's files go; lives as long as the datadir. */
const char *datadir_raft_path(const struct datadir *datadir);

/* The cluster of an earlier run; 0 = none yet, so the log may be begun. */
uint64_t datadir_cluster(const struct datadir *datadir);

/* Notes the cluster, durably. Errors as for datadir_open. */
int datadir_set_cluster(struct datadir *datadir, uint64_t cluster, char *text, size_t text_bytes);

/* A lower bound of the map version in raft/, from earlier runs. */
uint64_t datadir_version(const struct datadir *datadir);

/* Notes a version. Not synced, which would cost more than the entry itself: a crash of the process keeps it, one of the
 * machine may leave an older one. Failures are ignored: the note only ever helps to find damage. */
void datadir_note_version(struct datadir *datadir, uint64_t version);

/* Unlocks. NULL is allowed. */
void datadir_close(struct datadir *datadir);

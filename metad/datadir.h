/* metad's data directory:
 *   lock    held by flock while a process uses the directory
 *   metad   who this is: format version, server id (random, made with the directory), and the cluster's id once it is
 *           known; text, replaced whole
 *   seen    how far raft/ has been, as far as it reached the disk; text, overwritten without a sync
 *   raft/   libraft's files
 * `metad` says what must be in raft/, so that a directory which lost it is noticed and never taken for a new one.
 */
#pragma once

#include "metad/raft_loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATADIR_FORMAT 1u

struct datadir; /* one thread */

/* Makes the directory if it is missing, locks it and reads who it is. On failure `text` is one line with the path:
 * SK_ECONFIG (cannot be made or written), SK_ELOCKED, SK_EVERSION (a newer format),
 * SK_ECORRUPT (files of an earlier run that do not fit together), SK_EIO, SK_ENOSPC, SK_ENOMEM. */
int datadir_open(struct datadir **datadir, const char *path, char *text, size_t text_bytes);

/* Who this is, for ever: > 0. */
uint64_t datadir_server(const struct datadir *datadir);

/* Where libraft's files go; lives as long as the datadir. */
const char *datadir_raft_path(const struct datadir *datadir);

/* The cluster of an earlier run; 0 = none yet. */
uint64_t datadir_cluster(const struct datadir *datadir);

/* Notes the cluster, durably. Errors as for datadir_open. */
int datadir_set_cluster(struct datadir *datadir, uint64_t cluster, char *text, size_t text_bytes);

/* How far raft/ has been in earlier runs, at least. */
struct raft_loop_seen datadir_seen(const struct datadir *datadir);

/* Notes that it has been so far. Not synced, which would cost more than the entry itself: a crash of the process keeps it, one
 * of the machine may leave an older one. Failures are ignored: the note only ever helps to find damage. */
void datadir_note_seen(struct datadir *datadir, struct raft_loop_seen seen);

/* Unlocks. NULL is allowed. */
void datadir_close(struct datadir *datadir);

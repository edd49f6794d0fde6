/* The log's second thread: keeps the next segment ready, since zeroing one takes longer than a commit may, and
 * takes out segments that are no longer needed, to use them again. What fails (a full disk above all) is tried
 * again every second.
 *
 * wal_prepare_start and _stop are called by the lane, and so are the others in between. */
#pragma once

#include "shardd/wal_segment.h"

struct wal_prepare;

/* `oldest` and `newest` are the segments there are; `ready_fd` is of newest+1 if that exists as well and is empty
 * (owned from here on), else -1. `ready_cb` is called on the preparing thread when, after one was
 * refused, a segment is ready or cannot be made. SK_OK, SK_ENOMEM. */
int wal_prepare_start(struct wal_prepare **prepare, const struct wal_files *files, uint64_t oldest,
                      uint64_t newest, int ready_fd, uint32_t retry_ms, void (*ready_cb)(void *arg), void *arg);
/* Gives up what is being prepared. NULL is allowed. */
void wal_prepare_stop(struct wal_prepare *prepare);

/* Takes the ready segment; `fd` is then the caller's. SK_OK, SK_BUSY (being prepared), or why it cannot be made:
 * SK_ENOSPC, SK_EIO. After a refusal ready_cb is called when the answer may be another. */
int wal_prepare_take(struct wal_prepare *prepare, uint64_t *sequence, int *fd);

/* What wal_prepare_take would answer, with the same promise. */
int wal_prepare_ask(struct wal_prepare *prepare);

/* Segments before `sequence` are no longer needed. */
void wal_prepare_release(struct wal_prepare *prepare, uint64_t sequence);

/* Bytes of all files. Any thread. */
uint64_t wal_prepare_disk_bytes(struct wal_prepare *prepare);

/* The segment files of a log directory: `NNNNNNNNNNNNNNNN.log`, the sequence number in hexadecimal. A file gets
 * that name only when it is whole and synced; until then it is `prepare.tmp`, and a segment that waits to be used
 * again is `NNNNNNNNNNNNNNNN.spare`. Both are removed when the log is opened. Not for two threads at once on the
 * same file; the struct itself is constant after wal_files_open and may be shared. */
#pragma once

#include "shardd/wal.h"
#include "shardd/wal_codec.h"

#include <stdatomic.h>

struct wal_files {
    char *directory; /* owned */
    int directory_fd;
    uint64_t segment_bytes;
    uint64_t seed; /* set once the oldest segment has been read, or made for a new log */
    struct wal_io io;
};

/* Opens the directory, makes it if it is missing. SK_OK, SK_ENOMEM, SK_ENOSPC, SK_EIO. */
int wal_files_open(struct wal_files *files, const char *directory, uint64_t segment_bytes,
                   const struct wal_io *io);
void wal_files_close(struct wal_files *files);

/* The sequence numbers in order; `sequences` is then the caller's to free. Removes leftovers of an unfinished
 * preparation. SK_ECORRUPT: a file that ends in .log and is none of ours, or a gap; the report names it. */
int wal_files_list(const struct wal_files *files, uint64_t **sequences, size_t *count, struct wal_report *report);

/* Names a segment's file and an offset in the report. */
void wal_files_blame(const struct wal_files *files, uint64_t sequence, uint64_t offset, struct wal_report *report);

/* Opens an existing segment and checks its header and size. `first`: take the seed from it, else it must be the
 * same. SK_OK, SK_ECORRUPT, SK_EVERSION, SK_ECONFIG (other segment size), SK_EIO; the report then names the file.
 */
int wal_segment_open(struct wal_files *files, uint64_t sequence, bool first, int *fd, bool *recycled,
                     struct wal_report *report);

/* Opens an existing segment a second time, read-only; its header is not looked at. SK_OK, SK_EIO, SK_ENOMEM. */
int wal_segment_open_to_read(const struct wal_files *files, uint64_t sequence, int *fd);

/* Makes a segment of zeros, whole and synced. Gives up with SK_ECLOSED soon after `stop` (may be NULL) turns true.
 * What is unfinished is removed. SK_OK, SK_ENOSPC, SK_EIO, SK_ECLOSED. */
int wal_segment_create(const struct wal_files *files, uint64_t sequence, const atomic_bool *stop, int *fd);

/* Turns the spare of `old_sequence` into a segment; on an error the spare is removed. SK_OK, SK_ENOSPC, SK_EIO. */
int wal_segment_recycle(const struct wal_files *files, uint64_t old_sequence, uint64_t sequence, int *fd);

/* Takes the oldest segment out of the log, as a spare or for good. Durable before the next is taken out, so a
 * crash leaves no gap. */
int wal_segment_retire(const struct wal_files *files, uint64_t sequence, bool keep_spare);

/* Reads, writes exactly `size` bytes. `written` (may be NULL) gets how much was written, also on an error. */
int wal_file_read(const struct wal_files *files, int fd, void *data, size_t size, uint64_t offset);
int wal_file_write(const struct wal_files *files, int fd, const void *data, size_t size, uint64_t offset,
                   size_t *written);
int wal_file_sync(const struct wal_files *files, int fd);

/* Overwrites a range with zeros; not synced. */
int wal_file_zero(const struct wal_files *files, int fd, uint64_t from, uint64_t to, const atomic_bool *stop);

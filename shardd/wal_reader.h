/* Reads single entries of a log again, while it is being written: for a follower that catches up. Entries are read
 * through a buffer, so neighbouring ones cost no further system call, and the files that were used last stay open. What
 * lies before the durable end of the log never changes again, and the buffer never holds more than that: it cannot be
 * stale. Every entry is checked against its own checksum, which also covers where it lies.
 *
 * Embedded in the log; the lane's thread only. */
#pragma once

#include "shardd/wal_segment.h"

#define WAL_READER_FILES 8u /* shards that catch up at different places of the log */

struct wal_reader {
    const struct wal_files *files; /* borrowed */

    /* private */
    uint8_t *data; /* owned: the bytes of the log from `from` on */
    size_t capacity;
    size_t size;
    wal_position from;
    struct wal_reader_file {
        uint64_t segment; /* 0: none */
        int fd;           /* owned */
        uint64_t used;    /* grows with every use of any */
    } open_files[WAL_READER_FILES];
    uint64_t uses;
};

/* `files` may be opened later, but before the first entry is read, and stays until wal_reader_deinit. */
void wal_reader_init(struct wal_reader *reader, const struct wal_files *files);
void wal_reader_deinit(struct wal_reader *reader);

/* The entry at `position`, which is before `durable`; everything before that is in the files. The payload is valid until
 * the next call. SK_OK, SK_ECORRUPT (no whole entry lies there), SK_EIO, SK_ENOMEM; what failed is logged with its place,
 * and nothing of it is kept: it may be tried again. */
int wal_reader_read(struct wal_reader *reader, wal_position position, wal_position durable,
                    struct wal_entry *entry);

/* Closes the files of the segments before `segment`: they are about to be removed or used again. */
void wal_reader_release(struct wal_reader *reader, uint64_t segment);

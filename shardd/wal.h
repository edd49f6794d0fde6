/* A lane's write-ahead log: segments of a fixed size under one directory, preallocated, zeroed and recycled. Entries of
 * all shards of the lane lie in order of arrival. What has gathered goes out as one group: one write, one fdatasync
 * (group commit). The sync runs on the log's own thread beside the lane, which goes on filling the next group; the
 * write of a group starts only after the sync of the one before has ended, so a whole group behind a bad one proves
 * damage, not a torn tail (docs/replication.md, R24).
 *
 * Threads: every function is the lane's, but for synced_cb, which runs on the syncing thread. The log has two threads of
 * its own: one syncs, one prepares segments ahead (zeroing takes longer than a commit may). */
#pragma once

#include "libcommon/error.h"
#include "libcommon/slice.h"

#include <sys/types.h>

struct wal;

/* A place in the log: segment sequence number × segment bytes + offset. Grows for ever; 0 is before everything. */
typedef uint64_t wal_position;

enum wal_type {
    WAL_START = 1,   /* a replica's stay begins: index 0, payload: the cluster's count of shards (u32) */
    WAL_COMMAND = 2, /* payload: name and command (shardd/entry.h) */
    WAL_NOOP = 3,    /* first entry of an epoch (R5) */
    WAL_SWEEP = 4,   /* removal of what has expired by the entry's time */
    WAL_DROP = 5,    /* a replica's stay ends: replay skips its entries */
    WAL_EPOCH =
        6, /* the replica has adopted leader epoch `epoch` (R1), and its log is cut behind `index` (R7): entries
                      * of the shard above it that lie before this record do not exist; no payload */
    WAL_TIME = 7, /* the highest leader time that the lane has seen, of all its shards, is `time_us` (R26); shard,
                      * replica and index 0, no payload */

    WAL_VERIFY = 8, /* changes nothing: replicas compare their content as of here (shardd/verify.h) */
};

/* Whether leaders send such entries to followers; the other types are a replica's own. */
static inline bool wal_type_is_replicated(uint8_t type) {
    return type == WAL_COMMAND || type == WAL_NOOP || type == WAL_SWEEP || type == WAL_VERIFY;
}

struct wal_entry {
    uint32_t shard;
    uint8_t type; /* enum wal_type */
    uint64_t replica_id;
    uint64_t epoch;
    uint64_t
        index; /* 1-based within the shard; 0 for START, DROP and TIME. EPOCH: the last that is kept, may be 0 */
    uint64_t time_us; /* stamped by the leader (R26) */
    struct slice payload;
};

/* The system calls the log makes, for tests that fail and tear them. Each as the call it is named for,
 * on the log's threads as well; NULL: the real one. */
struct wal_io {
    ssize_t (*pwrite)(int fd, const void *data, size_t size, off_t offset);
    int (*fdatasync)(int fd);
    int (*fallocate)(int fd, int mode, off_t offset, off_t size);
    ssize_t (*pread)(int fd, void *data, size_t size, off_t offset);
};

struct wal_options {
    const char *directory;  /* made if missing; its parent is not */
    uint64_t segment_bytes; /* fixed with the directory: another value than at creation is refused. A multiple of
                                  4096, from 16 KiB to 4 GiB */
    uint64_t
        group_bytes_max; /* a filling group beyond this takes no more (one larger entry may be alone in one) */
    uint32_t
        sync_interval_ms; /* 0: sync before a group counts as durable. Else: a written group counts at once and a
                                  sync follows within this time (process crashes safe, power loss not). */
    uint32_t retry_ms;    /* how long until what a full disk refused is tried again; 0: a second */
    const struct wal_io *io; /* NULL: the real ones */
    /* A group has ended: `err` SK_OK, or what failed; after a failure nothing is ever written again (R23). On the
     * syncing thread: post to the lane, which calls wal_complete. Also called, with SK_OK and without a group, when
     * space has been found for an append that got SK_BUSY or SK_ENOSPC because there was no segment for it: so a second
     * call may come before the first has led to wal_complete. */
    void (*synced_cb)(void *arg, int err);
    void *arg;
};

/* What opening found, for the log line and for tests. */
struct wal_report {
    uint64_t entries;        /* replayed */
    uint64_t bytes;          /* of valid groups read */
    uint64_t torn_bytes;     /* cut off at the tail: of a group that was never acknowledged */
    char damaged_file[512];  /* SK_ECORRUPT, SK_EVERSION, SK_ECONFIG and SK_EIO, if it is about a file: which, */
    uint64_t damaged_offset; /* and where in it */
};

/* Opens or creates, calls `replay_cb` for every entry from the oldest kept on (payload borrowed for the call; an error
 * ends the opening with that error), and is then ready to append behind the last whole group. `synced`: everything
 * before this position is known to have been synced (from the last checkpoint): bad bytes there are damage too.
 * SK_ECORRUPT, SK_EVERSION (older or newer format), SK_ECONFIG (segment size), SK_ENOSPC, SK_EIO, SK_ENOMEM. */
int wal_open(struct wal **wal, const struct wal_options *options, wal_position synced,
             int (*replay_cb)(void *arg, const struct wal_entry *entry, wal_position position), void *replay_arg,
             struct wal_report *report);

/* Waits for the group in flight, writes and syncs what has gathered, stops the threads. synced_cb may be called until it
 * returns. NULL is allowed. */
void wal_close(struct wal *wal);

/* Copies an entry into the filling group. `position` gets where it will lie. SK_BUSY: the filling group is full or the
 * next segment not ready yet: flush, and wait for the next synced_cb. SK_ENOSPC: no segment to put it in; tried again by
 * itself, so ask again after the next synced_cb or later. SK_TOOLARGE: larger than a segment can hold. SK_ENOMEM. After a
 * failed sync, and while a new segment meets another error than a full disk: SK_EIO. */
int wal_append(struct wal *wal, const struct wal_entry *entry, wal_position *position);

/* Bytes that an entry with `payload_bytes` takes at most. */
uint64_t wal_entry_bytes(uint64_t payload_bytes);

/* Hands the filling group to the syncing thread, if there is one and none is in flight. */
void wal_flush(struct wal *wal);

/* After synced_cb: takes the completion, if there is one. Everything before the returned position is durable. */
wal_position wal_complete(struct wal *wal);

/* The entry at a position that wal_append or the replay once told, read from its file. The payload is valid until the next
 * wal_read of this log. SK_NOT_FOUND: it has been released. SK_RETRY: not durable yet, as wal_complete tells it. SK_ECORRUPT:
 * its checksum is wrong. SK_EIO, SK_ENOMEM. Nothing of this changes the log, and it may be tried again. Works after a failed
 * sync, too, for what was durable before. */
int wal_read(struct wal *wal, wal_position position, struct wal_entry *entry);

/* Everything before it is on disk. With sync_interval_ms it may be less than what wal_complete calls durable: what a
 * checkpoint says of the log must hold after a power loss too. */
wal_position wal_synced(const struct wal *wal);

/* Where the next entry will lie, or a little before it (the header of a new group or segment may come between). */
wal_position wal_end(const struct wal *wal);

/* Nothing before `position` is needed any more: whole segments before it are recycled or removed. */
void wal_release(struct wal *wal, wal_position position);

/* Everything from here on is still kept: wal_read answers. At most what was asked to be released, as segments go whole, and
 * the one of the last durable entry stays. */
wal_position wal_released(const struct wal *wal);

/* Bytes of all segment files. */
uint64_t wal_disk_bytes(const struct wal *wal);

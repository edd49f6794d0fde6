/* Reads a log back: finds its end, tells a torn tail from damage (docs/replication.md, R24) and makes a torn tail
 * harmless. Used while the log is opened, by one thread.
 *
 * Groups are read one after the other. Where one is not whole, reading of that segment stops, and what follows,
 * there and in later segments, is searched for group headers. A group says what was synced when it was written. So
 * a header that says that more was synced than we could read proves damage; with none, what is missing was never
 * synced and is cut. With a sync before every write any later group is such a proof. Without (sync_interval_ms),
 * groups behind a torn one may have reached the disk and are cut with it: they were never promised. */
#pragma once

#include "shardd/wal_segment.h"

typedef int (*wal_replay_cb)(void *arg, const struct wal_entry *entry, wal_position position);

/* Where appending goes on. */
struct wal_scan_end {
    uint64_t segment;        /* sequence number */
    uint64_t offset;         /* in it; segment_bytes when it is full */
    uint64_t group_sequence; /* of the next group */
};

/* Scans the segments first, first+1, … (`count` > 0). Zeroes a torn tail and syncs the segment where the log ends,
 * so all that was replayed is durable. SK_OK; SK_ECORRUPT, SK_EVERSION, SK_ECONFIG and SK_EIO with file and offset
 * in the report; SK_ENOMEM; or what `replay_cb` answered. Nothing is changed on disk unless all has been read. */
int wal_scan(struct wal_files *files, uint64_t first, size_t count, wal_position synced, wal_replay_cb replay_cb,
             void *replay_arg, struct wal_report *report, struct wal_scan_end *end);

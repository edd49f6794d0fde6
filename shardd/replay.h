/* Opening a lane: its shards from the store, and what the log has behind each. What was committed is executed; the few
 * entries behind wait, as pending of their shard, until a leader's epoch decides about them (docs/replication.md, R5,
 * R7). Used while the lane is opened, in a step of its store, by one thread. */
#pragma once

#include "shardd/shard_table.h"
#include "shardd/store.h"

struct replay {
    struct shard_table *table; /* borrowed: filled */
    struct store *store;       /* borrowed */
    uint64_t segment_bytes;    /* of the log */
    uint64_t start_us;         /* of this process */
    const struct replica_times *times;
    struct buffer scratch;
    wal_position synced; /* out: the log is known to have been synced up to here */
    uint64_t time_us;    /* out: the highest leader time that the lane has stored anywhere (R26) */
};

/* First. SK_OK, SK_ECORRUPT (a database without its shard's record, or of another lane), SK_EVERSION, or a fault. */
int replay_load_shards(struct replay *replay);

/* Then for every entry of the log, in order: wal_open's replay_cb with the replay as `arg`. */
int replay_entry_cb(void *replay, const struct wal_entry *logged, wal_position position);

/* At the end of the log: what every shard must know. SK_OK, SK_ECORRUPT (entries of a stay that goes on are missing; the
 * log line says of which). */
int replay_finish(struct replay *replay);

void replay_deinit(struct replay *replay);

/* Opening a lane: its shards from the store, and what the log has behind each. What was committed is executed; the few
 * entries behind wait, as pending of their shard, for the first entry of a new epoch (docs/replication.md, R5). A
 * shard whose install was broken off is passed over, in store and log (R30). Used while the lane is opened, in a step of its
 * store, by one thread. */
#pragma once

#include "shardd/shard_table.h"
#include "shardd/store.h"

struct replay {
    struct shard_table *table; /* borrowed: filled */
    struct store *store;       /* borrowed */
    uint64_t grace_us;         /* of the replicas */
    struct buffer scratch;
    wal_position synced; /* out: the log is known to have been synced up to here */
};

/* First. SK_OK, SK_ECORRUPT (a database without its shard's record, or of another lane), SK_EVERSION, or a fault. */
int replay_load_shards(struct replay *replay);

/* Then for every entry of the log, in order: wal_open's replay_cb with the replay as `arg`. */
int replay_entry_cb(void *replay, const struct wal_entry *logged, wal_position position);

void replay_deinit(struct replay *replay);

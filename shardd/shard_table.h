/* The shards of a lane: shard s of lane n has s mod lanes = n. Owns them. Only the lane calls. */
#pragma once

#include "shardd/shard.h"

struct shard_table {
    uint32_t lane, lane_count;
    uint32_t slot_count;  /* of `slots`; private but for loops over all */
    struct shard **slots; /* owned; NULL where this node has none */
};

/* All zero but `lane` and `lane_count` is an empty table. */
void shard_table_deinit(struct shard_table *table);

/* NULL: not a shard of this lane, or none here. */
struct shard *shard_table_find(const struct shard_table *table, uint32_t id);

/* Whether a shard belongs to this lane. */
bool shard_table_owns(const struct shard_table *table, uint32_t id);

/* Room for all shards of the lane below `shard_count`. SK_ENOMEM. */
int shard_table_reserve(struct shard_table *table, uint32_t shard_count);

/* Takes a shard that is not there yet. SK_ENOMEM: it stays the caller's. */
int shard_table_add(struct shard_table *table, struct shard *shard);

/* Takes a shard out: the caller's from now on. */
void shard_table_remove(struct shard_table *table, const struct shard *shard);

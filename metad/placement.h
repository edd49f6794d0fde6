/* Where replicas go: pure functions of the catalog's nodes; whoever calls proposes what they answer. Any thread.
 */
#pragma once

#include "metad/catalog.h"

/* Spreads `shard_count` shards, each with `replica_count` replicas on as many nodes, over `node_count` nodes:
 *   - every node leads shard_count / node_count shards, rounded one way or the other;
 *   - a node's shards are neighbours. A lane takes shard s mod lanes on each node, so a run of neighbours fills
 * all lanes of a node alike, whatever their number; dealing out shards in turn would leave lanes empty whenever
 *     node and lane counts share a divisor;
 *   - the followers of one leader's shards are spread over all the other nodes, so that its work, when it dies, is
 * too. `node_ids`: node_count ids, distinct; 1 <= replica_count <= node_count. `placed`: room for shard_count *
 * replica_count ids; the first of each shard leads. */
void placement_initial(const uint32_t *node_ids, uint32_t node_count, uint32_t shard_count, uint32_t replica_count,
                       uint32_t *placed);

/* How many of a shard's replicas a write must be on: a majority. */
uint32_t placement_min_isr(uint32_t replica_count);

/* A replica that another node is to have: COMMAND_REPLACE_REPLICA. */
struct placement_replacement {
    uint32_t shard;
    uint64_t config_version;
    uint32_t from, to; /* nodes */
};

/* Whether an older node that still has replicas was where this one is: they are to come to it (R13). */
bool placement_inherits(const struct catalog *catalog, uint32_t node);

/* Who has come where the dead node was, and is alive and a member: that one has an empty directory, so what the dead one
 * had is gone, or will not be started again. 0 = nobody. */
uint32_t placement_heir(const struct catalog *catalog, const struct map_node *dead);

/* R13: where a node is dead and a newer one has come under its address, somebody has started it on an empty directory. Its
 * replicas go to the new one, except those whose data may be needed: they stay until the shard's leader does without
 * them. Fills `replacements` with up to `most` and answers how many. */
uint32_t placement_replacements(const struct catalog *catalog, struct placement_replacement *replacements,
                                uint32_t most);

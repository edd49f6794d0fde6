#include "metad/placement.h"

#include "libcommon/check.h"

/* The first item of part `part` when `items` are cut into `parts` runs that differ by one at most. */
static uint64_t run_start(uint64_t part, uint64_t items, uint64_t parts) {
    return (part * items + parts - 1) / parts;
}

/* Which run an item lies in: the inverse of run_start. */
static uint64_t run_of(uint64_t item, uint64_t items, uint64_t parts) { return item * parts / items; }

void placement_initial(const uint32_t *node_ids, uint32_t node_count, uint32_t shard_count, uint32_t replica_count,
                       uint32_t *placed) {
    sk_assert(replica_count >= 1);
    sk_assert(replica_count <= node_count);
    for (uint32_t shard = 0; shard < shard_count; shard++) {
        uint64_t leader = run_of(shard, shard_count, node_count);
        uint32_t *replicas = &placed[(uint64_t)shard * replica_count];
        replicas[0] = node_ids[leader];
        if (replica_count == 1) continue;
        uint64_t first = run_start(leader, shard_count, node_count);
        uint64_t run = run_start(leader + 1, shard_count, node_count) - first;
        uint64_t others = node_count - 1;
        uint64_t turn = run_of(shard - first, run, others);
        for (uint32_t i = 1; i < replica_count; i++) {
            uint64_t distance = 1 + (turn + i - 1) % others; /* 1 to others: never the leader, never twice */
            replicas[i] = node_ids[(leader + distance) % node_count];
        }
    }
}

uint32_t placement_min_isr(uint32_t replica_count) { return replica_count / 2 + 1; }

#include "metad/placement.h"

#include "libcommon/check.h"
#include "metad/shard_record.h"

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

bool placement_inherits(const struct catalog *catalog, uint32_t node) {
    const struct map_node *heir = &catalog_find_node(catalog, node)->map;
    for (uint32_t id = 1; id < node; id++) {
        const struct map_node *older = &catalog_find_node(catalog, id)->map;
        if (map_same_place(heir, older) && catalog_count_replicas(catalog, id) > 0) return true;
    }
    return false;
}

uint32_t placement_heir(const struct catalog *catalog, const struct map_node *dead) {
    for (uint32_t id = catalog->node_count; id > dead->id; id--) {
        const struct map_node *node = &catalog_find_node(catalog, id)->map;
        if (map_takes_replicas(node) && map_same_place(node, dead)) return id;
    }
    return 0;
}

/* By id; false = nobody has one. */
static bool find_heirs(const struct catalog *catalog, uint32_t heirs[MAP_NODES_MAX + 1]) {
    bool any = false;
    for (uint32_t id = 1; id <= catalog->node_count; id++) {
        const struct map_node *node = &catalog_find_node(catalog, id)->map;
        heirs[id] = node->alive ? 0 : placement_heir(catalog, node);
        any = any || heirs[id] != 0;
    }
    return any;
}

/* The replica of `shard` that has an heir and may go, as node ids; false = there is none. */
static bool find_replacement(const struct map_shard *shard, const uint32_t heirs[MAP_NODES_MAX + 1],
                             struct placement_replacement *replacement) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t node = shard->replicas[i].node;
        if (heirs[node] == 0 || map_find_replica(shard, heirs[node]) != NULL) continue;
        bool goes =
            node == shard->move_from && shard->isr_count >= shard->min_isr; /* and is not needed until then */
        if (goes) continue;
        if (shard_record_is_counted(shard, node)) continue;
        replacement->from = node;
        replacement->to = heirs[node];
        return true;
    }
    return false;
}

uint32_t placement_replacements(const struct catalog *catalog, struct placement_replacement *replacements,
                                uint32_t most) {
    uint32_t heirs[MAP_NODES_MAX + 1], count = 0;
    if (!find_heirs(catalog, heirs)) return 0;
    for (uint32_t i = 0; i < catalog->shard_count && count < most; i++) {
        if (!find_replacement(&catalog->shards[i], heirs, &replacements[count])) continue;
        replacements[count].shard = i;
        replacements[count].config_version = catalog->shards[i].config_version;
        count++;
    }
    return count;
}

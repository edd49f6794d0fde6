#include "obstacle.h"

#include <inttypes.h>
#include <stdio.h>

static bool has_taker(const struct map *map, const struct map_shard *shard) {
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct map_node *node = &map->nodes[i];
        if (map_takes_replicas(node) && map_find_replica(shard, node->id) == NULL) return true;
    }
    return false;
}

static void explain_move(const struct map *map, uint32_t number, char text[OBSTACLE_TEXT_BYTES]) {
    const struct map_shard *shard = &map->shards[number];
    const char *why = "too few others are in sync for a replica to go";
    if (!map_is_alive(map, shard->move_to)) why = "that node is dead";
    else if (!map_in_isr(shard, shard->move_to)) why = "its replica there is not level yet";
    (void)snprintf(text, OBSTACLE_TEXT_BYTES, "shard %" PRIu32 " moves to node %" PRIu32 ": %s", number,
                   shard->move_to, why);
}

bool obstacle_find(const struct map *map, uint32_t node, char text[OBSTACLE_TEXT_BYTES]) {
    const struct map_node *of = map_find_node(map, node);
    for (uint32_t i = 0; i < map->shard_count; i++) {
        const struct map_shard *shard = &map->shards[i];
        bool leaves = of != NULL && of->state != MAP_NODE_MEMBER && map_find_replica(shard, node) != NULL;
        if (shard->move_to == 0 && !leaves) continue;
        if (!map_is_alive(map, shard->leader)) {
            (void)snprintf(text, OBSTACLE_TEXT_BYTES, "shard %" PRIu32 " has no leader that is alive", i);
            return true;
        }
        if (shard->move_to != 0) {
            explain_move(map, i, text);
            return true;
        }
        if (!has_taker(map, shard)) {
            (void)snprintf(text, OBSTACLE_TEXT_BYTES,
                           "nobody can take the replica of shard %" PRIu32 ": start another node", i);
            return true;
        }
    }
    return false;
}

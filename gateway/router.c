#include "gateway/router.h"

#include "libcommon/error.h"

void router_init(struct router *router) { router->map = NULL; }

void router_deinit(struct router *router) {
    map_unref(router->map);
    router->map = NULL;
}

bool router_take_map(struct router *router, struct map *map) {
    if (router->map != NULL && map->version <= router->map->version) { /* R29 */
        map_unref(map);
        return false;
    }
    map_unref(router->map);
    router->map = map;
    return true;
}

uint32_t router_shard_count(const struct router *router) {
    return router->map == NULL ? 0 : router->map->shard_count;
}

uint64_t router_map_version(const struct router *router) { return router->map == NULL ? 0 : router->map->version; }

int router_find(const struct router *router, uint32_t shard, struct route *route) {
    if (shard >= router_shard_count(router)) return SK_UNAVAILABLE;
    const struct map_shard *record = &router->map->shards[shard];
    if (record->leader == 0) return SK_UNAVAILABLE;
    *route = (struct route){.node = record->leader, .epoch = record->leader_epoch};
    return SK_OK;
}

uint32_t router_in_sync(const struct router *router, uint32_t shard, uint32_t nodes[MAP_REPLICAS_MAX]) {
    uint32_t count = 0;
    if (shard >= router_shard_count(router)) return 0;
    const struct map_shard *record = &router->map->shards[shard];
    for (uint32_t i = 0; i < record->isr_count; i++) {
        const struct map_node *node = map_find_node(router->map, record->isr[i]);
        if (node == NULL || !node->alive) continue;
        uint32_t at = count++;
        for (; at > 0 && nodes[at - 1] > node->id; at--) nodes[at] = nodes[at - 1];
        nodes[at] = node->id;
    }
    return count;
}

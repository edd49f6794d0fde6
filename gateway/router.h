/* Where a shard is served: slot → shard → leader with its epoch, by the newest map. The gateway never guesses
 * (R28): without a leader in the map there is no route. The loop thread only. */
#pragma once

#include "libcommon/map.h"

struct router {
    struct map *map; /* private, one reference; NULL = none yet */
};

struct route {
    uint32_t node;
    uint64_t epoch;
};

void router_init(struct router *router);
void router_deinit(struct router *router);

/* Takes over the reference to `map`. False, and the map is dropped, when it is not newer than the one held. */
bool router_take_map(struct router *router, struct map *map);

/* 0 = no map, or the cluster has not been created yet. */
uint32_t router_shard_count(const struct router *router);
uint64_t router_map_version(const struct router *router); /* 0 = none */

/* SK_OK; SK_UNAVAILABLE: no map, or the shard has no leader now. */
int router_find(const struct router *router, uint32_t shard, struct route *route);

/* The nodes whose replicas of the shard are in sync, but for dead ones, by id; the leader's is among them. How many. */
uint32_t router_in_sync(const struct router *router, uint32_t shard, uint32_t nodes[MAP_REPLICAS_MAX]);

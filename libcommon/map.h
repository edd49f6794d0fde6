/* The map of a cluster as metad publishes it: nodes, shards, who leads what. Immutable and counted, so threads share
 * one without locks. Encoded as one MessagePack map; unknown keys are skipped. */
#pragma once

#include "buffer.h"

#define MAP_ADDRESS_BYTES 128                    /* with the final 0 */
#define MAP_REPLICAS_MAX  8                      /* per shard */
#define MAP_WANTED_MAX    (MAP_REPLICAS_MAX - 1) /* may be wanted: a move has one more for a while (R19) */
#define MAP_NODES_MAX     1024

/* What metad does with a node. */
enum map_node_state {
    MAP_NODE_MEMBER,   /* gets its share of the shards */
    MAP_NODE_DRAINING, /* its replicas go to others, one after the other; it gets none */
    MAP_NODE_REMOVING, /* the same, and with the last one it is REMOVED */
    MAP_NODE_REMOVED,  /* for ever; in the map no more: only metad remembers */
    MAP_NODE_STATE_LAST = MAP_NODE_REMOVED,
};

const char *map_node_state_name(enum map_node_state state);

/* A shardd. Ids are given by metad at the first registration: 1, 2, …; 0 is no node. */
struct map_node {
    uint32_t id;
    bool alive; /* by metad's liveness; advice, not authority */
    enum map_node_state state;
    uint8_t store_id[16];
    uint64_t incarnation; /* given at its last start */
    uint32_t lanes;
    char host[MAP_ADDRESS_BYTES];                /* for people */
    char frames_address[MAP_ADDRESS_BYTES];      /* nng URL: gateways push requests here */
    char replication_address[MAP_ADDRESS_BYTES]; /* nng URL: peers push here */
};

struct map_replica {
    uint32_t node;
    uint64_t replica_id; /* names this stay of the shard on the node */
};

/* metad's record of a shard (docs/replication.md). */
struct map_shard {
    uint64_t leader_epoch;   /* raised when the leader changes */
    uint64_t config_version; /* raised by every change */
    uint32_t leader;         /* node, 0 = none */
    uint64_t leader_incarnation;
    uint32_t wanted_leader; /* node that the leader is asked to hand over to (R20), 0 = none */
    uint32_t move_to;       /* node whose replica came last, to stay when it has joined (R19); 0 = nothing moves */
    uint32_t move_from;     /* node whose replica goes then; 0 = the shard gets one replica more */
    uint32_t min_isr;
    uint64_t data_loss_generation;
    uint32_t replica_count, isr_count, eligible_count;
    struct map_replica replicas[MAP_REPLICAS_MAX];
    uint32_t isr[MAP_REPLICAS_MAX];      /* nodes */
    uint32_t eligible[MAP_REPLICAS_MAX]; /* nodes */
};

struct map {
    uint64_t version;           /* raised by every change of the map */
    uint64_t cluster;           /* random, made with the cluster */
    uint64_t verify_generation; /* raised when a person wants every shard verified; 0 = never */
    uint32_t shard_count;       /* power of two; 0 = not created yet */
    uint32_t node_count;
    struct map_shard *shards; /* owned */
    struct map_node *nodes;   /* owned, by id */
    uint32_t refs;            /* private, atomic */
};

/* An empty map with room, one reference. SK_ENOMEM. */
int map_new(struct map **map, uint32_t shard_count, uint32_t node_count);
struct map *map_ref(const struct map *map);
void map_unref(struct map *map); /* NULL is allowed */

const struct map_node *map_find_node(const struct map *map, uint32_t id); /* NULL = unknown */

/* Whether it can be given replicas. */
bool map_takes_replicas(const struct map_node *node);

/* Whether two stores are, one after the other, of the same process: an address is nobody else's meanwhile. */
bool map_same_place(const struct map_node *a, const struct map_node *b);

/* Whether the node is known and alive in `nodes`, which here is a struct map. */
typedef bool map_alive(const void *nodes, uint32_t node);
map_alive map_is_alive;

/* The replica of `node` in `shard`, or NULL. */
const struct map_replica *map_find_replica(const struct map_shard *shard, uint32_t node);

bool map_in_isr(const struct map_shard *shard, uint32_t node);

/* Whether enough of those are alive who have to acknowledge a write. No leader takes the in-sync set itself below min_isr (R22), so
 * the dead may still be in it. */
bool map_takes_writes(const struct map_shard *shard, map_alive *is_alive, const void *nodes);

void map_encode(const struct map *map, struct buffer *buffer);

/* SK_OK, SK_EPROTO (malformed, or counts and ids that make no sense), SK_ENOMEM. */
int map_decode(struct slice bytes, struct map **map);

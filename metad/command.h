/* What an entry of metad's Raft log says: one command to the catalog, as MessagePack
 *
 *   [1 (format), kind, origin, number, argument, …]
 *
 * padded with zero bytes to a multiple of 8, which libraft asks of every entry. The format of what is stored: a
 * change that old servers cannot read raises COMMAND_FORMAT. Pure; any thread. */
#pragma once

#include "libcommon/shard_change.h"

#define COMMAND_FORMAT           1u
#define COMMAND_START_NAME_BYTES 16u

enum command_kind {
    COMMAND_INIT = 1,            /* the cluster comes into being; the first command of every log */
    COMMAND_REGISTER_NODE = 2,   /* a shardd has started */
    COMMAND_CREATE_SHARDS = 3,   /* the initial map */
    COMMAND_NODE_ALIVE = 4,      /* the leader has decided that a node is dead, or is back */
    COMMAND_CHANGE_SHARDS = 5,   /* a shardd asks for changes of records; each is applied or refused by itself */
    COMMAND_WISH_LEADER = 6,     /* the leader of a shard is asked to hand it over */
    COMMAND_REPLACE_REPLICA = 7, /* a replica of a dead node goes to another */
    COMMAND_FORCE_LEADER = 8,    /* a person makes a node lead, whatever is lost */
    COMMAND_MOVE_REPLICA = 9,    /* one step of the move of a replica (R19) */
    COMMAND_CHANGE_NODE = 10,    /* a person adds, drains or removes a node */
    COMMAND_VERIFY = 11,         /* a person wants the replicas of every shard compared; no arguments */
    COMMAND_KIND_LAST = COMMAND_VERIFY,
};

struct command_init {
    uint64_t cluster; /* random, not 0 */
    uint32_t shard_count;
    uint32_t replicas; /* wanted for each shard */
    uint32_t expect_nodes;
};

struct command_register_node {
    uint8_t store_id[16];
    uint32_t node_id; /* what the store says it was given; 0 = nothing yet */
    uint64_t cluster; /* the same for the cluster */
    uint32_t lanes;
    uint32_t start_name_bytes; /* 0 = the start has no name: every registration is another start */
    uint8_t start_name[COMMAND_START_NAME_BYTES]; /* names one start of the process, so that a repeat is known */
    char host[MAP_ADDRESS_BYTES];
    char frames_address[MAP_ADDRESS_BYTES];
    char replication_address[MAP_ADDRESS_BYTES];
};

struct command_create_shards {
    uint64_t catalog_version; /* applied only if the catalog still has it */
    uint32_t shard_count;
    uint32_t replica_count; /* of each shard */
    uint32_t *nodes;        /* owned; [shard * replica_count + replica], the first replica leads */
};

struct command_node_alive {
    uint32_t node_id;
    uint64_t incarnation; /* the decision is about this start of the node and no later one */
    bool alive;
};

struct command_change_shards {
    uint32_t node_id;             /* who asks, */
    uint64_t incarnation;         /* as which start */
    uint32_t change_count;        /* up to SHARD_CHANGES_MAX */
    struct shard_change *changes; /* owned */
};

/* These four are applied only if the shard's record still has `config_version`. */
struct command_wish_leader {
    uint32_t shard;
    uint64_t config_version;
    uint32_t node;  /* 0 = the wish is withdrawn */
    bool preferred; /* by a person: from now on, too */
};

struct command_replace_replica {
    uint32_t shard;
    uint64_t config_version;
    uint32_t from, to; /* nodes */
};

struct command_force_leader {
    uint32_t shard;
    uint64_t config_version;
    uint32_t node;
};

enum command_move { COMMAND_MOVE_START, COMMAND_MOVE_FINISH, COMMAND_MOVE_CANCEL };

struct command_move_replica {
    uint32_t shard;
    uint64_t config_version;
    enum command_move step;
    uint32_t from, to; /* nodes; START: `from` may be 0; else both are */
};

/* Applied as often as it comes: what is so already stays so. */
enum command_node {
    COMMAND_NODE_ADD,    /* it gets its share again */
    COMMAND_NODE_DRAIN,  /* its replicas go to others */
    COMMAND_NODE_REMOVE, /* it never comes back; a dead one with replicas only when these have gone to others */
};

struct command_change_node {
    uint32_t node_id;
    enum command_node change;
};

struct log_command {
    enum command_kind kind;
    uint64_t origin; /* random per process: with `number` lets the proposer find its answer */
    uint64_t number;
    union {
        struct command_init init;
        struct command_register_node register_node;
        struct command_create_shards create_shards;
        struct command_node_alive node_alive;
        struct command_change_shards change_shards;
        struct command_wish_leader wish_leader;
        struct command_replace_replica replace_replica;
        struct command_force_leader force_leader;
        struct command_move_replica move_replica;
        struct command_change_node change_node;
    };
};

/* Appends the padded encoding to an empty `buffer`; failure shows in buffer->failed. */
void command_encode(const struct log_command *command, struct buffer *buffer);

/* SK_OK: the caller calls command_deinit. SK_EPROTO (malformed, or values that no proposer writes), SK_EVERSION (a
 * format or kind from the future), SK_ENOMEM: nothing to free. */
int command_decode(struct slice bytes, struct log_command *command);

void command_deinit(struct log_command *command);

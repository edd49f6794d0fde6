/* The catalog: nodes, shards, epochs and settings of the cluster, in memory. It changes only by the commands of
 * the Raft log, in their order (fsm.h), so every server has the same one; it reads no clock and makes nothing up.
 * Each change checks itself against what is there and answers; a refused one changes nothing. One thread.
 *
 * `version` is the map's: raised by each change of what the map shows, never going back. */
#pragma once

#include "metad/command.h"

#include "libcommon/map.h"

#define CATALOG_TEXT_BYTES 256

/* What one of the changes of a COMMAND_CHANGE_SHARDS came to (metad/shard_record.h). */
struct catalog_change_answer {
    int err;
    const char *text;        /* static; NULL when err is SK_OK */
    uint64_t config_version; /* of the record now, changed or not; 0 = there is no such shard */
};

/* What a command came to. */
struct catalog_answer {
    int err; /* SK_OK, or an answer: SK_CONFLICT, SK_NOT_FOUND, SK_TOOLARGE, SK_BADREQUEST, SK_RETRY, SK_UNAVAILABLE,
              SK_REMOVED */
    char text[CATALOG_TEXT_BYTES]; /* for people, when err != SK_OK */
    uint64_t cluster;              /* of COMMAND_REGISTER_NODE */
    uint32_t node_id;
    uint64_t incarnation;
    uint64_t verify_generation;            /* of COMMAND_VERIFY */
    uint64_t config_version;               /* of COMMAND_WISH_LEADER, COMMAND_FORCE_LEADER: the record's now */
    struct catalog_change_answer *changes; /* owned; of COMMAND_CHANGE_SHARDS: one for each */
    uint32_t change_count;
};

void catalog_answer_deinit(struct catalog_answer *answer);

struct catalog_node {
    struct map_node map;
    uint32_t start_name_bytes; /* of its last registration; 0 = none */
    uint8_t start_name[COMMAND_START_NAME_BYTES];
};

/* Embedded in struct fsm; read freely on its thread, changed only by the functions here. */
struct catalog {
    uint64_t version;                                      /* 0 = nothing has happened yet */
    uint64_t cluster;                                      /* 0 = COMMAND_INIT has not come yet */
    uint32_t shards_wanted, replicas_wanted, expect_nodes; /* settings of the cluster, by COMMAND_INIT */
    uint64_t last_incarnation;
    uint64_t last_replica_id;
    uint64_t verify_generation; /* the map's */
    uint32_t node_count;        /* ids are 1 … node_count */
    uint32_t shard_count;       /* 0 until COMMAND_CREATE_SHARDS, then shards_wanted */
    struct catalog_node *nodes; /* owned; node `id` at id - 1 */
    struct map_shard *shards;   /* owned */
};

void catalog_init(struct catalog *catalog);
void catalog_deinit(struct catalog *catalog);

/* Applies one command. SK_OK: `answer` says what became of it, refusals included; the caller calls
 * catalog_answer_deinit. SK_ENOMEM: nothing has changed and nothing is decided; the same command must be applied again or
 * the process must end. */
int catalog_apply(struct catalog *catalog, const struct log_command *command, struct catalog_answer *answer);

/* NULL = unknown. Valid until the next change. */
const struct catalog_node *catalog_find_node(const struct catalog *catalog, uint32_t id);
const struct catalog_node *catalog_find_store(const struct catalog *catalog, const uint8_t store_id[16]);

/* NULL = there is none. Valid until the next change. */
const struct map_shard *catalog_find_shard(const struct catalog *catalog, uint32_t shard);

/* Whether enough nodes have come that are alive members for the shards to be created, and they are not. */
bool catalog_wants_shards(const struct catalog *catalog);

/* How many replicas the node has, those that come or go included. */
uint32_t catalog_count_replicas(const struct catalog *catalog, uint32_t node);

/* The map as others see it, without the nodes that were removed: one reference, the caller's. SK_ENOMEM. */
int catalog_make_map(const struct catalog *catalog, struct map **map);

/* The whole catalog as bytes, for a snapshot: MessagePack behind a format number, padded to a multiple of 8.
 * Failure shows in buffer->failed. */
void catalog_encode(const struct catalog *catalog, struct buffer *buffer);

/* Replaces `catalog` by what the bytes say. SK_EPROTO (malformed), SK_EVERSION (a newer format), SK_ENOMEM:
 * `catalog` is as before. */
int catalog_decode(struct catalog *catalog, struct slice bytes);

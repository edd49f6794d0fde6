#include "metad/command.h"

#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/mp.h"

#include <stdlib.h>

/* libraft 0.22 dies at start after an entry of another length. */
#define ENTRY_ALIGNMENT 8u

static void encode_init(const struct command_init *init, struct buffer *buffer) {
    mp_write_uint(buffer, init->cluster);
    mp_write_uint(buffer, init->shard_count);
    mp_write_uint(buffer, init->replicas);
    mp_write_uint(buffer, init->expect_nodes);
}

static void encode_register_node(const struct command_register_node *node, struct buffer *buffer) {
    mp_write_bin(buffer, slice_of(node->store_id, sizeof node->store_id));
    mp_write_uint(buffer, node->node_id);
    mp_write_uint(buffer, node->cluster);
    mp_write_uint(buffer, node->lanes);
    mp_write_bin(buffer, slice_of(node->start_name, node->start_name_bytes));
    mp_write_text(buffer, node->host);
    mp_write_text(buffer, node->frames_address);
    mp_write_text(buffer, node->replication_address);
}

static void encode_create_shards(const struct command_create_shards *create, struct buffer *buffer) {
    mp_write_uint(buffer, create->catalog_version);
    mp_write_uint(buffer, create->shard_count);
    mp_write_uint(buffer, create->replica_count);
    uint32_t total = create->shard_count * create->replica_count;
    mp_write_array(buffer, total);
    for (uint32_t i = 0; i < total; i++) mp_write_uint(buffer, create->nodes[i]);
}

static void encode_node_alive(const struct command_node_alive *node, struct buffer *buffer) {
    mp_write_uint(buffer, node->node_id);
    mp_write_uint(buffer, node->incarnation);
    mp_write_bool(buffer, node->alive);
}

static void encode_change_shards(const struct command_change_shards *change, struct buffer *buffer) {
    mp_write_uint(buffer, change->node_id);
    mp_write_uint(buffer, change->incarnation);
    mp_write_array(buffer, change->change_count);
    for (uint32_t i = 0; i < change->change_count; i++) shard_change_encode(&change->changes[i], buffer);
}

static void encode_wish_leader(const struct command_wish_leader *wish, struct buffer *buffer) {
    mp_write_uint(buffer, wish->shard);
    mp_write_uint(buffer, wish->config_version);
    mp_write_uint(buffer, wish->node);
    mp_write_bool(buffer, wish->preferred);
}

static void encode_replace_replica(const struct command_replace_replica *replace, struct buffer *buffer) {
    mp_write_uint(buffer, replace->shard);
    mp_write_uint(buffer, replace->config_version);
    mp_write_uint(buffer, replace->from);
    mp_write_uint(buffer, replace->to);
}

static void encode_force_leader(const struct command_force_leader *force, struct buffer *buffer) {
    mp_write_uint(buffer, force->shard);
    mp_write_uint(buffer, force->config_version);
    mp_write_uint(buffer, force->node);
}

static void encode_move_replica(const struct command_move_replica *move, struct buffer *buffer) {
    mp_write_uint(buffer, move->shard);
    mp_write_uint(buffer, move->config_version);
    mp_write_uint(buffer, move->step);
    mp_write_uint(buffer, move->from);
    mp_write_uint(buffer, move->to);
}

static void encode_change_node(const struct command_change_node *change, struct buffer *buffer) {
    mp_write_uint(buffer, change->node_id);
    mp_write_uint(buffer, change->change);
}

static const uint32_t argument_count[COMMAND_KIND_LAST + 1] = {[COMMAND_INIT] = 4,
                                                               [COMMAND_REGISTER_NODE] = 8,
                                                               [COMMAND_CREATE_SHARDS] = 4,
                                                               [COMMAND_NODE_ALIVE] = 3,
                                                               [COMMAND_CHANGE_SHARDS] = 3,
                                                               [COMMAND_WISH_LEADER] = 4,
                                                               [COMMAND_REPLACE_REPLICA] = 4,
                                                               [COMMAND_FORCE_LEADER] = 3,
                                                               [COMMAND_MOVE_REPLICA] = 5,
                                                               [COMMAND_CHANGE_NODE] = 2,
                                                               [COMMAND_VERIFY] = 0};

void command_encode(const struct log_command *command, struct buffer *buffer) {
    mp_write_array(buffer, 4 + argument_count[command->kind]);
    mp_write_uint(buffer, COMMAND_FORMAT);
    mp_write_uint(buffer, command->kind);
    mp_write_uint(buffer, command->origin);
    mp_write_uint(buffer, command->number);
    switch (command->kind) {
    case COMMAND_INIT:
        encode_init(&command->init, buffer);
        break;
    case COMMAND_REGISTER_NODE:
        encode_register_node(&command->register_node, buffer);
        break;
    case COMMAND_CREATE_SHARDS:
        encode_create_shards(&command->create_shards, buffer);
        break;
    case COMMAND_NODE_ALIVE:
        encode_node_alive(&command->node_alive, buffer);
        break;
    case COMMAND_CHANGE_SHARDS:
        encode_change_shards(&command->change_shards, buffer);
        break;
    case COMMAND_WISH_LEADER:
        encode_wish_leader(&command->wish_leader, buffer);
        break;
    case COMMAND_REPLACE_REPLICA:
        encode_replace_replica(&command->replace_replica, buffer);
        break;
    case COMMAND_FORCE_LEADER:
        encode_force_leader(&command->force_leader, buffer);
        break;
    case COMMAND_MOVE_REPLICA:
        encode_move_replica(&command->move_replica, buffer);
        break;
    case COMMAND_CHANGE_NODE:
        encode_change_node(&command->change_node, buffer);
        break;
    case COMMAND_VERIFY:
        break;
    }
    static const uint8_t zeros[ENTRY_ALIGNMENT];
    buffer_append(buffer, zeros, (ENTRY_ALIGNMENT - buffer->size % ENTRY_ALIGNMENT) % ENTRY_ALIGNMENT);
}

static int read_u32(struct mp_reader *reader, uint32_t *number) {
    uint64_t wide;
    int err = mp_read_uint(reader, &wide);
    if (err != SK_OK) return err;
    if (wide > UINT32_MAX) return SK_EPROTO;
    *number = (uint32_t)wide;
    return SK_OK;
}

/* A text without a 0 in it that fits in `room` of MAP_ADDRESS_BYTES. */
static int read_address(struct mp_reader *reader, char *room) {
    struct slice text;
    int err = mp_read_str(reader, &text);
    if (err != SK_OK) return err;
    if (text.size >= MAP_ADDRESS_BYTES || (text.size > 0 && memchr(text.data, 0, text.size) != NULL)) {
        return SK_EPROTO;
    }
    if (text.size > 0) memcpy(room, text.data, text.size);
    room[text.size] = 0;
    return SK_OK;
}

static bool shard_count_ok(uint32_t count) {
    return count > 0 && count <= SHARD_COUNT_MAX && (count & (count - 1)) == 0;
}

static bool replica_count_ok(uint32_t count) { return count > 0 && count <= MAP_WANTED_MAX; }

static int decode_init(struct mp_reader *reader, struct command_init *init) {
    int err = mp_read_uint(reader, &init->cluster);
    if (err == SK_OK) err = read_u32(reader, &init->shard_count);
    if (err == SK_OK) err = read_u32(reader, &init->replicas);
    if (err == SK_OK) err = read_u32(reader, &init->expect_nodes);
    if (err != SK_OK) return err;
    bool sane = init->cluster != 0 && shard_count_ok(init->shard_count) && replica_count_ok(init->replicas) &&
                init->expect_nodes > 0 && init->expect_nodes <= MAP_NODES_MAX;
    return sane ? SK_OK : SK_EPROTO;
}

static int decode_register_node(struct mp_reader *reader, struct command_register_node *node) {
    struct slice store_id, start_name;
    int err = mp_read_bytes(reader, &store_id);
    if (err == SK_OK) err = read_u32(reader, &node->node_id);
    if (err == SK_OK) err = mp_read_uint(reader, &node->cluster);
    if (err == SK_OK) err = read_u32(reader, &node->lanes);
    if (err == SK_OK) err = mp_read_bytes(reader, &start_name);
    if (err == SK_OK) err = read_address(reader, node->host);
    if (err == SK_OK) err = read_address(reader, node->frames_address);
    if (err == SK_OK) err = read_address(reader, node->replication_address);
    if (err != SK_OK) return err;
    if (store_id.size != sizeof node->store_id || start_name.size > sizeof node->start_name) return SK_EPROTO;
    memcpy(node->store_id, store_id.data, store_id.size);
    node->start_name_bytes = (uint32_t)start_name.size;
    if (start_name.size > 0) memcpy(node->start_name, start_name.data, start_name.size);
    return SK_OK;
}

static int decode_create_shards(struct mp_reader *reader, struct command_create_shards *create) {
    uint32_t total;
    int err = mp_read_uint(reader, &create->catalog_version);
    if (err == SK_OK) err = read_u32(reader, &create->shard_count);
    if (err == SK_OK) err = read_u32(reader, &create->replica_count);
    if (err == SK_OK) err = mp_read_array(reader, &total);
    if (err != SK_OK) return err;
    if (!shard_count_ok(create->shard_count) || !replica_count_ok(create->replica_count) ||
        total != create->shard_count * create->replica_count) {
        return SK_EPROTO;
    }
    create->nodes = calloc(total, sizeof *create->nodes);
    if (create->nodes == NULL) return SK_ENOMEM;
    for (uint32_t i = 0; i < total && err == SK_OK; i++) err = read_u32(reader, &create->nodes[i]);
    return err;
}

static int decode_node_alive(struct mp_reader *reader, struct command_node_alive *node) {
    int err = read_u32(reader, &node->node_id);
    if (err == SK_OK) err = mp_read_uint(reader, &node->incarnation);
    if (err == SK_OK) err = mp_read_bool(reader, &node->alive);
    return err;
}

static int decode_change_shards(struct mp_reader *reader, struct command_change_shards *change) {
    uint32_t count;
    int err = read_u32(reader, &change->node_id);
    if (err == SK_OK) err = mp_read_uint(reader, &change->incarnation);
    if (err == SK_OK) err = mp_read_array(reader, &count);
    if (err != SK_OK) return err;
    if (count == 0 || count > SHARD_CHANGES_MAX) return SK_EPROTO;
    change->changes = calloc(count, sizeof *change->changes);
    if (change->changes == NULL) return SK_ENOMEM;
    change->change_count = count;
    for (uint32_t i = 0; i < count && err == SK_OK; i++) err = shard_change_decode(reader, &change->changes[i]);
    return err;
}

static int read_shard(struct mp_reader *reader, uint32_t *shard) {
    int err = read_u32(reader, shard);
    if (err != SK_OK) return err;
    return *shard < SHARD_COUNT_MAX ? SK_OK : SK_EPROTO;
}

static int decode_wish_leader(struct mp_reader *reader, struct command_wish_leader *wish) {
    int err = read_shard(reader, &wish->shard);
    if (err == SK_OK) err = mp_read_uint(reader, &wish->config_version);
    if (err == SK_OK) err = read_u32(reader, &wish->node);
    if (err == SK_OK) err = mp_read_bool(reader, &wish->preferred);
    return err;
}

static int decode_replace_replica(struct mp_reader *reader, struct command_replace_replica *replace) {
    int err = read_shard(reader, &replace->shard);
    if (err == SK_OK) err = mp_read_uint(reader, &replace->config_version);
    if (err == SK_OK) err = read_u32(reader, &replace->from);
    if (err == SK_OK) err = read_u32(reader, &replace->to);
    return err;
}

static int decode_force_leader(struct mp_reader *reader, struct command_force_leader *force) {
    int err = read_shard(reader, &force->shard);
    if (err == SK_OK) err = mp_read_uint(reader, &force->config_version);
    if (err == SK_OK) err = read_u32(reader, &force->node);
    return err;
}

static int decode_move_replica(struct mp_reader *reader, struct command_move_replica *move) {
    uint32_t step = 0;
    int err = read_shard(reader, &move->shard);
    if (err == SK_OK) err = mp_read_uint(reader, &move->config_version);
    if (err == SK_OK) err = read_u32(reader, &step);
    if (err == SK_OK) err = read_u32(reader, &move->from);
    if (err == SK_OK) err = read_u32(reader, &move->to);
    if (err != SK_OK) return err;
    if (step > COMMAND_MOVE_CANCEL) return SK_EPROTO;
    move->step = (enum command_move)step;
    return SK_OK;
}

static int decode_change_node(struct mp_reader *reader, struct command_change_node *change) {
    uint32_t what = 0;
    int err = read_u32(reader, &change->node_id);
    if (err == SK_OK) err = read_u32(reader, &what);
    if (err != SK_OK) return err;
    if (what > COMMAND_NODE_REMOVE) return SK_EPROTO;
    change->change = (enum command_node)what;
    return SK_OK;
}

static int decode_arguments(struct mp_reader *reader, struct log_command *command) {
    switch (command->kind) {
    case COMMAND_INIT:
        return decode_init(reader, &command->init);
    case COMMAND_REGISTER_NODE:
        return decode_register_node(reader, &command->register_node);
    case COMMAND_CREATE_SHARDS:
        return decode_create_shards(reader, &command->create_shards);
    case COMMAND_NODE_ALIVE:
        return decode_node_alive(reader, &command->node_alive);
    case COMMAND_CHANGE_SHARDS:
        return decode_change_shards(reader, &command->change_shards);
    case COMMAND_WISH_LEADER:
        return decode_wish_leader(reader, &command->wish_leader);
    case COMMAND_REPLACE_REPLICA:
        return decode_replace_replica(reader, &command->replace_replica);
    case COMMAND_FORCE_LEADER:
        return decode_force_leader(reader, &command->force_leader);
    case COMMAND_MOVE_REPLICA:
        return decode_move_replica(reader, &command->move_replica);
    case COMMAND_CHANGE_NODE:
        return decode_change_node(reader, &command->change_node);
    case COMMAND_VERIFY:
        return SK_OK;
    }
    return SK_EVERSION;
}

/* What follows the command is padding and nothing else. */
static bool padding_ok(const struct mp_reader *reader) {
    if (mp_left(reader) >= ENTRY_ALIGNMENT) return false;
    for (const uint8_t *at = reader->at; at < reader->end; at++) {
        if (*at != 0) return false;
    }
    return true;
}

int command_decode(struct slice bytes, struct log_command *command) {
    *command = (struct log_command){0};
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t count;
    uint64_t format, kind;
    int err = mp_read_array(&reader, &count);
    if (err == SK_OK && count < 4) err = SK_EPROTO;
    if (err == SK_OK) err = mp_read_uint(&reader, &format);
    if (err != SK_OK) return err;
    if (format != COMMAND_FORMAT) return format > COMMAND_FORMAT ? SK_EVERSION : SK_EPROTO;
    err = mp_read_uint(&reader, &kind);
    if (err == SK_OK) err = mp_read_uint(&reader, &command->origin);
    if (err == SK_OK) err = mp_read_uint(&reader, &command->number);
    if (err != SK_OK) return err;
    if (kind < COMMAND_INIT) return SK_EPROTO;
    if (kind > COMMAND_KIND_LAST) return SK_EVERSION;
    if (count - 4 != argument_count[kind]) return SK_EPROTO;
    command->kind = (enum command_kind)kind;
    err = decode_arguments(&reader, command);
    if (err == SK_OK && !padding_ok(&reader)) err = SK_EPROTO;
    if (err != SK_OK) command_deinit(command);
    return err;
}

void command_deinit(struct log_command *command) {
    if (command->kind == COMMAND_CREATE_SHARDS) {
        free(command->create_shards.nodes);
        command->create_shards.nodes = NULL;
    } else if (command->kind == COMMAND_CHANGE_SHARDS) {
        free(command->change_shards.changes);
        command->change_shards.changes = NULL;
    }
}

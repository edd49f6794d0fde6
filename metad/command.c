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

void command_encode(const struct log_command *command, struct buffer *buffer) {
    static const uint32_t argument_count[] = {
        [COMMAND_INIT] = 4, [COMMAND_REGISTER_NODE] = 8, [COMMAND_CREATE_SHARDS] = 4, [COMMAND_NODE_ALIVE] = 3};
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

static bool replica_count_ok(uint32_t count) { return count > 0 && count <= MAP_REPLICAS_MAX; }

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

static int decode_arguments(struct mp_reader *reader, struct log_command *command, uint32_t argument_count) {
    switch (command->kind) {
    case COMMAND_INIT:
        return argument_count == 4 ? decode_init(reader, &command->init) : SK_EPROTO;
    case COMMAND_REGISTER_NODE:
        return argument_count == 8 ? decode_register_node(reader, &command->register_node) : SK_EPROTO;
    case COMMAND_CREATE_SHARDS:
        return argument_count == 4 ? decode_create_shards(reader, &command->create_shards) : SK_EPROTO;
    case COMMAND_NODE_ALIVE:
        return argument_count == 3 ? decode_node_alive(reader, &command->node_alive) : SK_EPROTO;
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
    if (kind > COMMAND_NODE_ALIVE) return SK_EVERSION;
    command->kind = (enum command_kind)kind;
    err = decode_arguments(&reader, command, count - 4);
    if (err == SK_OK && !padding_ok(&reader)) err = SK_EPROTO;
    if (err != SK_OK) command_deinit(command);
    return err;
}

void command_deinit(struct log_command *command) {
    if (command->kind != COMMAND_CREATE_SHARDS) return;
    free(command->create_shards.nodes);
    command->create_shards.nodes = NULL;
}

#include "map.h"

#include "check.h"
#include "error.h"
#include "limits.h"
#include "mp.h"

#include <stdlib.h>

const char *map_node_state_name(enum map_node_state state) {
    static const char *const names[] = {[MAP_NODE_MEMBER] = "member",
                                        [MAP_NODE_DRAINING] = "draining",
                                        [MAP_NODE_REMOVING] = "removing",
                                        [MAP_NODE_REMOVED] = "removed"};
    return names[state];
}

int map_new(struct map **map, uint32_t shard_count, uint32_t node_count) {
    struct map *made = calloc(1, sizeof *made);
    if (made == NULL) return SK_ENOMEM;
    made->refs = 1;
    made->shard_count = shard_count;
    made->node_count = node_count;
    /* calloc may answer NULL for 0: one more than asked for keeps NULL an error. */
    made->shards = calloc((size_t)shard_count + 1, sizeof *made->shards);
    made->nodes = calloc((size_t)node_count + 1, sizeof *made->nodes);
    if (made->shards == NULL || made->nodes == NULL) {
        map_unref(made);
        return SK_ENOMEM;
    }
    *map = made;
    return SK_OK;
}

struct map *map_ref(const struct map *map) {
    struct map *counted = (struct map *)map; /* the count is the one thing that changes */
    uint32_t before = __atomic_fetch_add(&counted->refs, 1, __ATOMIC_RELAXED);
    sk_assert(before > 0);
    return counted;
}

void map_unref(struct map *map) {
    if (map == NULL) return;
    uint32_t before = __atomic_fetch_sub(&map->refs, 1, __ATOMIC_ACQ_REL);
    sk_assert(before > 0);
    if (before > 1) return;
    free(map->shards);
    free(map->nodes);
    free(map);
}

const struct map_node *map_find_node(const struct map *map, uint32_t id) {
    if (id == 0) return NULL;
    /* Ids are 1, 2, …: unless a node was removed, node `id` stands at its place. */
    if (id <= map->node_count && map->nodes[id - 1].id == id) return &map->nodes[id - 1];
    uint32_t low = 0, high = map->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (map->nodes[middle].id < id) low = middle + 1;
        else high = middle;
    }
    return low < map->node_count && map->nodes[low].id == id ? &map->nodes[low] : NULL;
}

bool map_takes_replicas(const struct map_node *node) { return node->alive && node->state == MAP_NODE_MEMBER; }

bool map_same_place(const struct map_node *a, const struct map_node *b) {
    return strcmp(a->replication_address, b->replication_address) == 0 ||
           strcmp(a->frames_address, b->frames_address) == 0;
}

bool map_is_alive(const void *nodes, uint32_t node) {
    const struct map_node *found = map_find_node(nodes, node);
    return found != NULL && found->alive;
}

const struct map_replica *map_find_replica(const struct map_shard *shard, uint32_t node) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i].node == node) return &shard->replicas[i];
    }
    return NULL;
}

bool map_in_isr(const struct map_shard *shard, uint32_t node) {
    for (uint32_t i = 0; i < shard->isr_count; i++) {
        if (shard->isr[i] == node) return true;
    }
    return false;
}

bool map_takes_writes(const struct map_shard *shard, map_alive *is_alive, const void *nodes) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < shard->isr_count; i++) count += is_alive(nodes, shard->isr[i]);
    return count >= shard->min_isr;
}

/* Encoding: {version, cluster, verify_generation, nodes: [{…}], shards: [{…, replicas: [[node, replica_id], …], isr: [node, …], …}]}.
 */

static void write_key_uint(struct buffer *buffer, const char *key, uint64_t number) {
    mp_write_text(buffer, key);
    mp_write_uint(buffer, number);
}

static void write_key_text(struct buffer *buffer, const char *key, const char *text) {
    mp_write_text(buffer, key);
    mp_write_text(buffer, text);
}

static void write_key_ids(struct buffer *buffer, const char *key, const uint32_t *ids, uint32_t count) {
    mp_write_text(buffer, key);
    mp_write_array(buffer, count);
    for (uint32_t i = 0; i < count; i++) mp_write_uint(buffer, ids[i]);
}

static void encode_node(const struct map_node *node, struct buffer *buffer) {
    mp_write_map(buffer, 9);
    write_key_uint(buffer, "id", node->id);
    mp_write_text(buffer, "alive");
    mp_write_bool(buffer, node->alive);
    write_key_uint(buffer, "state", node->state);
    mp_write_text(buffer, "store_id");
    mp_write_bin(buffer, slice_of(node->store_id, sizeof node->store_id));
    write_key_uint(buffer, "incarnation", node->incarnation);
    write_key_uint(buffer, "lanes", node->lanes);
    write_key_text(buffer, "host", node->host);
    write_key_text(buffer, "frames_address", node->frames_address);
    write_key_text(buffer, "replication_address", node->replication_address);
}

static void encode_shard(const struct map_shard *shard, struct buffer *buffer) {
    mp_write_map(buffer, shard->move_to != 0 ? 12 : 10);
    write_key_uint(buffer, "leader_epoch", shard->leader_epoch);
    write_key_uint(buffer, "config_version", shard->config_version);
    write_key_uint(buffer, "leader", shard->leader);
    write_key_uint(buffer, "leader_incarnation", shard->leader_incarnation);
    write_key_uint(buffer, "wanted_leader", shard->wanted_leader);
    write_key_uint(buffer, "min_isr", shard->min_isr);
    write_key_uint(buffer, "data_loss_generation", shard->data_loss_generation);
    mp_write_text(buffer, "replicas");
    mp_write_array(buffer, shard->replica_count);
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        mp_write_array(buffer, 2);
        mp_write_uint(buffer, shard->replicas[i].node);
        mp_write_uint(buffer, shard->replicas[i].replica_id);
    }
    write_key_ids(buffer, "isr", shard->isr, shard->isr_count);
    write_key_ids(buffer, "eligible", shard->eligible, shard->eligible_count);
    if (shard->move_to == 0) return;
    write_key_uint(buffer, "move_to", shard->move_to);
    write_key_uint(buffer, "move_from", shard->move_from);
}

void map_encode(const struct map *map, struct buffer *buffer) {
    mp_write_map(buffer, 5);
    write_key_uint(buffer, "version", map->version);
    write_key_uint(buffer, "cluster", map->cluster);
    write_key_uint(buffer, "verify_generation", map->verify_generation);
    mp_write_text(buffer, "nodes");
    mp_write_array(buffer, map->node_count);
    for (uint32_t i = 0; i < map->node_count; i++) encode_node(&map->nodes[i], buffer);
    mp_write_text(buffer, "shards");
    mp_write_array(buffer, map->shard_count);
    for (uint32_t i = 0; i < map->shard_count; i++) encode_shard(&map->shards[i], buffer);
}

static bool key_is(struct slice key, const char *name) { return slice_equal(key, slice_of_text(name)); }

static int read_u32(struct mp_reader *reader, uint32_t *number) {
    uint64_t wide;
    int rc = mp_read_uint(reader, &wide);
    if (rc != SK_OK) return rc;
    if (wide > UINT32_MAX) return SK_EPROTO;
    *number = (uint32_t)wide;
    return SK_OK;
}

static int read_address(struct mp_reader *reader, char address[MAP_ADDRESS_BYTES]) {
    struct slice text;
    int rc = mp_read_str(reader, &text);
    if (rc != SK_OK) return rc;
    if (text.size >= MAP_ADDRESS_BYTES || (text.size > 0 && memchr(text.data, 0, text.size) != NULL))
        return SK_EPROTO;
    memset(address, 0, MAP_ADDRESS_BYTES);
    if (text.size > 0) memcpy(address, text.data, text.size);
    return SK_OK;
}

static int read_store_id(struct mp_reader *reader, uint8_t store_id[16]) {
    struct slice bytes;
    int rc = mp_read_bytes(reader, &bytes);
    if (rc != SK_OK) return rc;
    if (bytes.size != 16) return SK_EPROTO;
    memcpy(store_id, bytes.data, 16);
    return SK_OK;
}

static int read_ids(struct mp_reader *reader, uint32_t ids[MAP_REPLICAS_MAX], uint32_t *count) {
    uint32_t given;
    int rc = mp_read_array(reader, &given);
    if (rc != SK_OK) return rc;
    if (given > MAP_REPLICAS_MAX) return SK_EPROTO;
    for (uint32_t i = 0; i < given; i++) {
        rc = read_u32(reader, &ids[i]);
        if (rc != SK_OK) return rc;
    }
    *count = given;
    return SK_OK;
}

static int read_replicas(struct mp_reader *reader, struct map_shard *shard) {
    uint32_t given;
    int rc = mp_read_array(reader, &given);
    if (rc != SK_OK) return rc;
    if (given > MAP_REPLICAS_MAX) return SK_EPROTO;
    for (uint32_t i = 0; i < given; i++) {
        uint32_t parts;
        rc = mp_read_array(reader, &parts);
        if (rc != SK_OK) return rc;
        if (parts != 2) return SK_EPROTO;
        rc = read_u32(reader, &shard->replicas[i].node);
        if (rc == SK_OK) rc = mp_read_uint(reader, &shard->replicas[i].replica_id);
        if (rc != SK_OK) return rc;
    }
    shard->replica_count = given;
    return SK_OK;
}

static int read_state(struct mp_reader *reader, enum map_node_state *state) {
    uint64_t number;
    int rc = mp_read_uint(reader, &number);
    if (rc != SK_OK) return rc;
    if (number > MAP_NODE_STATE_LAST) return SK_EPROTO;
    *state = (enum map_node_state)number;
    return SK_OK;
}

static int decode_node_field(struct mp_reader *reader, struct slice key, struct map_node *node) {
    if (key_is(key, "id")) return read_u32(reader, &node->id);
    if (key_is(key, "alive")) return mp_read_bool(reader, &node->alive);
    if (key_is(key, "state")) return read_state(reader, &node->state);
    if (key_is(key, "store_id")) return read_store_id(reader, node->store_id);
    if (key_is(key, "incarnation")) return mp_read_uint(reader, &node->incarnation);
    if (key_is(key, "lanes")) return read_u32(reader, &node->lanes);
    if (key_is(key, "host")) return read_address(reader, node->host);
    if (key_is(key, "frames_address")) return read_address(reader, node->frames_address);
    if (key_is(key, "replication_address")) return read_address(reader, node->replication_address);
    return mp_skip(reader, NULL);
}

static int decode_shard_field(struct mp_reader *reader, struct slice key, struct map_shard *shard) {
    if (key_is(key, "leader_epoch")) return mp_read_uint(reader, &shard->leader_epoch);
    if (key_is(key, "config_version")) return mp_read_uint(reader, &shard->config_version);
    if (key_is(key, "leader")) return read_u32(reader, &shard->leader);
    if (key_is(key, "leader_incarnation")) return mp_read_uint(reader, &shard->leader_incarnation);
    if (key_is(key, "wanted_leader")) return read_u32(reader, &shard->wanted_leader);
    if (key_is(key, "move_to")) return read_u32(reader, &shard->move_to);
    if (key_is(key, "move_from")) return read_u32(reader, &shard->move_from);
    if (key_is(key, "min_isr")) return read_u32(reader, &shard->min_isr);
    if (key_is(key, "data_loss_generation")) return mp_read_uint(reader, &shard->data_loss_generation);
    if (key_is(key, "replicas")) return read_replicas(reader, shard);
    if (key_is(key, "isr")) return read_ids(reader, shard->isr, &shard->isr_count);
    if (key_is(key, "eligible")) return read_ids(reader, shard->eligible, &shard->eligible_count);
    return mp_skip(reader, NULL);
}

static int decode_nodes(struct mp_reader reader, struct map *map) {
    uint32_t count;
    int rc = mp_read_array(&reader, &count);
    for (uint32_t i = 0; rc == SK_OK && i < count; i++) {
        uint32_t fields;
        rc = mp_read_map(&reader, &fields);
        for (uint32_t field = 0; rc == SK_OK && field < fields; field++) {
            struct slice key;
            rc = mp_read_str(&reader, &key);
            if (rc == SK_OK) rc = decode_node_field(&reader, key, &map->nodes[i]);
        }
    }
    return rc;
}

static int decode_shards(struct mp_reader reader, struct map *map) {
    uint32_t count;
    int rc = mp_read_array(&reader, &count);
    for (uint32_t i = 0; rc == SK_OK && i < count; i++) {
        uint32_t fields;
        rc = mp_read_map(&reader, &fields);
        for (uint32_t field = 0; rc == SK_OK && field < fields; field++) {
            struct slice key;
            rc = mp_read_str(&reader, &key);
            if (rc == SK_OK) rc = decode_shard_field(&reader, key, &map->shards[i]);
        }
    }
    return rc;
}

/* 0 is nobody. */
static bool is_replica_or_none(const struct map_shard *shard, uint32_t node) {
    return node == 0 || map_find_replica(shard, node) != NULL;
}

/* Every one a replica of the shard, none twice. */
static bool ids_make_sense(const struct map_shard *shard, const uint32_t *ids, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (map_find_replica(shard, ids[i]) == NULL) return false;
        for (uint32_t j = 0; j < i; j++) {
            if (ids[j] == ids[i]) return false;
        }
    }
    return true;
}

static bool shard_makes_sense(const struct map *map, const struct map_shard *shard) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (map_find_node(map, shard->replicas[i].node) == NULL) return false;
        for (uint32_t j = 0; j < i; j++) {
            if (shard->replicas[j].node == shard->replicas[i].node) return false;
        }
    }
    if (!is_replica_or_none(shard, shard->leader) || !is_replica_or_none(shard, shard->wanted_leader))
        return false;
    if (!is_replica_or_none(shard, shard->move_to) || !is_replica_or_none(shard, shard->move_from)) return false;
    return ids_make_sense(shard, shard->isr, shard->isr_count) &&
           ids_make_sense(shard, shard->eligible, shard->eligible_count);
}

static bool map_makes_sense(const struct map *map) {
    if ((map->shard_count & (map->shard_count - 1)) != 0) return false; /* 0 passes: not created yet */
    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].id <= (i == 0 ? 0 : map->nodes[i - 1].id)) return false;
    }
    for (uint32_t i = 0; i < map->shard_count; i++) {
        if (!shard_makes_sense(map, &map->shards[i])) return false;
    }
    return true;
}

/* The first pass: where the two arrays lie, and the plain fields. */
struct map_parts {
    uint64_t version, cluster, verify_generation;
    uint32_t node_count, shard_count;
    struct slice nodes, shards;
};

/* The span of the next value, an array of at most `most` elements. */
static int read_array_span(struct mp_reader *reader, struct slice *span, uint32_t *count, uint32_t most) {
    struct mp_reader ahead = *reader;
    int rc = mp_read_array(&ahead, count);
    if (rc != SK_OK) return rc;
    if (*count > most) return SK_EPROTO;
    return mp_skip(reader, span);
}

static int read_part(struct mp_reader *reader, struct slice key, struct map_parts *parts) {
    if (key_is(key, "version")) return mp_read_uint(reader, &parts->version);
    if (key_is(key, "cluster")) return mp_read_uint(reader, &parts->cluster);
    if (key_is(key, "verify_generation")) return mp_read_uint(reader, &parts->verify_generation);
    if (key_is(key, "nodes")) return read_array_span(reader, &parts->nodes, &parts->node_count, MAP_NODES_MAX);
    if (key_is(key, "shards"))
        return read_array_span(reader, &parts->shards, &parts->shard_count, SHARD_COUNT_MAX);
    return mp_skip(reader, NULL);
}

static int read_parts(struct slice bytes, struct map_parts *parts) {
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t fields;
    int rc = mp_read_map(&reader, &fields);
    for (uint32_t i = 0; rc == SK_OK && i < fields; i++) {
        struct slice key;
        rc = mp_read_str(&reader, &key);
        if (rc == SK_OK) rc = read_part(&reader, key, parts);
    }
    if (rc != SK_OK) return rc;
    return mp_left(&reader) == 0 ? SK_OK : SK_EPROTO;
}

int map_decode(struct slice bytes, struct map **map) {
    struct map_parts parts = {0};
    int rc = read_parts(bytes, &parts);
    if (rc != SK_OK) return rc;
    struct map *made;
    rc = map_new(&made, parts.shard_count, parts.node_count);
    if (rc != SK_OK) return rc;
    made->version = parts.version;
    made->cluster = parts.cluster;
    made->verify_generation = parts.verify_generation;
    if (parts.node_count > 0) rc = decode_nodes(mp_reader_of(parts.nodes), made);
    if (rc == SK_OK && parts.shard_count > 0) rc = decode_shards(mp_reader_of(parts.shards), made);
    if (rc == SK_OK && !map_makes_sense(made)) rc = SK_EPROTO;
    if (rc != SK_OK) {
        map_unref(made);
        return rc;
    }
    *map = made;
    return SK_OK;
}

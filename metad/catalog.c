#include "metad/catalog.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/mp.h"
#include "metad/shard_record.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* 1: without wanted_leader in the map, whose decoder then answers 0. 2: the same, of moves, states of nodes and
 * verify_generation. Servers of those times would lose them. */
#define SNAPSHOT_FORMAT       3u
#define SNAPSHOT_FORMAT_LEAST 1u
#define SNAPSHOT_ALIGNMENT    8u

void catalog_init(struct catalog *catalog) { *catalog = (struct catalog){0}; }

void catalog_deinit(struct catalog *catalog) {
    free(catalog->nodes);
    free(catalog->shards);
    *catalog = (struct catalog){0};
}

const struct catalog_node *catalog_find_node(const struct catalog *catalog, uint32_t id) {
    return id >= 1 && id <= catalog->node_count ? &catalog->nodes[id - 1] : NULL;
}

static struct catalog_node *find_store(const struct catalog *catalog, const uint8_t store_id[16]) {
    for (uint32_t i = 0; i < catalog->node_count; i++) {
        if (memcmp(catalog->nodes[i].map.store_id, store_id, 16) == 0) return &catalog->nodes[i];
    }
    return NULL;
}

const struct catalog_node *catalog_find_store(const struct catalog *catalog, const uint8_t store_id[16]) {
    return find_store(catalog, store_id);
}

const struct map_shard *catalog_find_shard(const struct catalog *catalog, uint32_t shard) {
    return shard < catalog->shard_count ? &catalog->shards[shard] : NULL;
}

void catalog_answer_deinit(struct catalog_answer *answer) {
    free(answer->changes);
    answer->changes = NULL;
    answer->change_count = 0;
}

bool catalog_wants_shards(const struct catalog *catalog) {
    if (catalog->cluster == 0 || catalog->shard_count != 0) return false;
    uint32_t alive = 0;
    for (uint32_t i = 0; i < catalog->node_count; i++) alive += map_takes_replicas(&catalog->nodes[i].map);
    return alive >= catalog->expect_nodes;
}

uint32_t catalog_count_replicas(const struct catalog *catalog, uint32_t node) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        count += map_find_replica(&catalog->shards[i], node) != NULL;
    }
    return count;
}

/* Fills a refusal. */
static void __attribute__((format(printf, 3, 4)))
refuse(struct catalog_answer *answer, int err, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    answer->err = err;
    (void)vsnprintf(answer->text, sizeof answer->text, format, arguments);
    va_end(arguments);
}

static int apply_init(struct catalog *catalog, const struct command_init *init, struct catalog_answer *answer) {
    if (catalog->cluster != 0) {
        refuse(answer, SK_CONFLICT, "the cluster exists already: %016" PRIx64, catalog->cluster);
        return SK_OK;
    }
    catalog->cluster = init->cluster;
    catalog->shards_wanted = init->shard_count;
    catalog->replicas_wanted = init->replicas;
    catalog->expect_nodes = init->expect_nodes;
    catalog->version++;
    return SK_OK;
}

static bool start_is_known(const struct catalog_node *node, const struct command_register_node *start) {
    return start->start_name_bytes > 0 && start->start_name_bytes == node->start_name_bytes &&
           memcmp(start->start_name, node->start_name, start->start_name_bytes) == 0;
}

/* Whether the store may be what it says: the map of another cluster or node must never reach it. */
static bool claims_ok(const struct catalog *catalog, const struct command_register_node *start,
                      const struct catalog_node *node, struct catalog_answer *answer) {
    if (start->cluster != 0 && start->cluster != catalog->cluster) {
        refuse(answer, SK_CONFLICT, "the store belongs to cluster %016" PRIx64 ", and this is cluster %016" PRIx64,
               start->cluster, catalog->cluster);
    } else if (start->node_id != 0 && node == NULL) {
        refuse(answer, SK_CONFLICT,
               "the store says that it is node %" PRIu32 ", but this cluster does not know it", start->node_id);
    } else if (start->node_id != 0 && start->node_id != node->map.id) {
        refuse(answer, SK_CONFLICT,
               "the store says that it is node %" PRIu32 ", but it is registered as node %" PRIu32, start->node_id,
               node->map.id);
    } else if (node != NULL && node->map.state == MAP_NODE_REMOVED) {
        refuse(answer, SK_REMOVED,
               "the store is that of node %" PRIu32
               ", which was removed for ever; with an empty data directory it joins as a new node",
               node->map.id);
    }
    return answer->err == SK_OK;
}

/* A slot for one node more; not counted yet. SK_ENOMEM. */
static int make_room_for_node(struct catalog *catalog, struct catalog_node **node) {
    size_t count = catalog->node_count;
    struct catalog_node *nodes = realloc(catalog->nodes, (count + 1) * sizeof *nodes);
    if (nodes == NULL) return SK_ENOMEM;
    catalog->nodes = nodes;
    nodes[count] = (struct catalog_node){.map.id = (uint32_t)count + 1};
    *node = &nodes[count];
    return SK_OK;
}

static void copy_address(char to[MAP_ADDRESS_BYTES], const char from[MAP_ADDRESS_BYTES]) {
    memcpy(to, from, MAP_ADDRESS_BYTES);
}

static int apply_register_node(struct catalog *catalog, const struct command_register_node *start,
                               struct catalog_answer *answer) {
    if (catalog->cluster == 0) {
        refuse(answer, SK_RETRY, "the cluster is not there yet");
        return SK_OK;
    }
    struct catalog_node *node = find_store(catalog, start->store_id);
    if (!claims_ok(catalog, start, node, answer)) return SK_OK;
    if (start->lanes == 0 || start->frames_address[0] == 0 || start->replication_address[0] == 0) {
        refuse(answer, SK_BADREQUEST, "a node needs lanes and addresses");
        return SK_OK;
    }
    if (node == NULL) {
        if (catalog->node_count == MAP_NODES_MAX) {
            refuse(answer, SK_TOOLARGE, "the cluster has %u nodes, the most it can have", MAP_NODES_MAX);
            return SK_OK;
        }
        int err = make_room_for_node(catalog, &node);
        if (err != SK_OK) return err;
        memcpy(node->map.store_id, start->store_id, sizeof node->map.store_id);
        catalog->node_count++;
    }
    bool new_start = node->map.incarnation == 0 || !start_is_known(node, start);
    bool changed = new_start || !node->map.alive || node->map.lanes != start->lanes ||
                   strcmp(node->map.host, start->host) != 0 ||
                   strcmp(node->map.frames_address, start->frames_address) != 0 ||
                   strcmp(node->map.replication_address, start->replication_address) != 0;
    if (changed) {
        node->map.alive = true;
        node->map.lanes = start->lanes;
        copy_address(node->map.host, start->host);
        copy_address(node->map.frames_address, start->frames_address);
        copy_address(node->map.replication_address, start->replication_address);
        catalog->version++;
    }
    if (new_start) {
        node->map.incarnation = ++catalog->last_incarnation;
        node->start_name_bytes = start->start_name_bytes;
        memcpy(node->start_name, start->start_name, sizeof node->start_name);
        for (uint32_t i = 0; i < catalog->shard_count; i++) {
            (void)shard_record_restart(&catalog->shards[i], &node->map); /* R6 */
        }
    }
    answer->cluster = catalog->cluster;
    answer->node_id = node->map.id;
    answer->incarnation = node->map.incarnation;
    return SK_OK;
}

/* Whether the replicas of each shard are distinct, known nodes. */
static bool placement_ok(const struct catalog *catalog, const struct command_create_shards *create) {
    for (uint32_t shard = 0; shard < create->shard_count; shard++) {
        const uint32_t *replicas = &create->nodes[shard * create->replica_count];
        for (uint32_t i = 0; i < create->replica_count; i++) {
            if (catalog_find_node(catalog, replicas[i]) == NULL) return false;
            for (uint32_t j = 0; j < i; j++) {
                if (replicas[i] == replicas[j]) return false;
            }
        }
    }
    return true;
}

static void start_shard(struct catalog *catalog, struct map_shard *shard, const uint32_t *ids, uint32_t count) {
    const struct map_node *nodes[MAP_REPLICAS_MAX];
    for (uint32_t i = 0; i < count; i++) nodes[i] = &catalog_find_node(catalog, ids[i])->map;
    shard_record_start(shard, nodes, count, catalog->last_replica_id + 1);
    catalog->last_replica_id += count;
}

static int apply_create_shards(struct catalog *catalog, const struct command_create_shards *create,
                               struct catalog_answer *answer) {
    if (catalog->shard_count != 0) {
        refuse(answer, SK_CONFLICT, "the shards exist already");
    } else if (create->catalog_version != catalog->version) {
        refuse(answer, SK_CONFLICT, "decided on version %" PRIu64 ", the catalog is at %" PRIu64,
               create->catalog_version, catalog->version);
    } else if (create->shard_count != catalog->shards_wanted) {
        refuse(answer, SK_CONFLICT, "%" PRIu32 " shards, the cluster has %" PRIu32, create->shard_count,
               catalog->shards_wanted);
    } else if (!placement_ok(catalog, create)) {
        refuse(answer, SK_CONFLICT, "the placement names an unknown node or one twice");
    }
    if (answer->err != SK_OK) return SK_OK;
    struct map_shard *shards = calloc(create->shard_count, sizeof *shards);
    if (shards == NULL) return SK_ENOMEM;
    for (uint32_t i = 0; i < create->shard_count; i++) {
        start_shard(catalog, &shards[i], &create->nodes[i * create->replica_count], create->replica_count);
    }
    free(catalog->shards);
    catalog->shards = shards;
    catalog->shard_count = create->shard_count;
    catalog->version++;
    return SK_OK;
}

static int no_node(uint32_t node, struct catalog_answer *answer) {
    refuse(answer, SK_NOT_FOUND, "there is no node %" PRIu32, node);
    return SK_OK;
}

static int apply_node_alive(struct catalog *catalog, const struct command_node_alive *change,
                            struct catalog_answer *answer) {
    if (catalog_find_node(catalog, change->node_id) == NULL) return no_node(change->node_id, answer);
    struct map_node *node = &catalog->nodes[change->node_id - 1].map;
    if (node->incarnation != change->incarnation) {
        refuse(answer, SK_CONFLICT, "node %" PRIu32 " has started again", change->node_id);
        return SK_OK;
    }
    if (node->state == MAP_NODE_REMOVED) {
        refuse(answer, SK_CONFLICT, "node %" PRIu32 " was removed", change->node_id);
        return SK_OK;
    }
    if (node->alive != change->alive) {
        node->alive = change->alive;
        catalog->version++;
    }
    return SK_OK;
}

/* ---- records of shards: the rules are shard_record's ---- */

struct record {
    struct map_shard *shard;
    const struct map_node *nodes[MAP_REPLICAS_MAX]; /* of its replicas */
};

static bool find_record(const struct catalog *catalog, uint32_t shard, struct record *record) {
    if (shard >= catalog->shard_count) return false;
    record->shard = &catalog->shards[shard];
    for (uint32_t i = 0; i < record->shard->replica_count; i++) {
        record->nodes[i] = &catalog_find_node(catalog, record->shard->replicas[i].node)->map;
    }
    return true;
}

static void change_one(struct catalog *catalog, const struct map_node *sender, const struct shard_change *change,
                       struct catalog_change_answer *answer) {
    struct record record;
    if (!find_record(catalog, change->shard, &record)) {
        *answer = (struct catalog_change_answer){.err = SK_NOT_FOUND, .text = "there is no such shard"};
        return;
    }
    if (change->kind == SHARD_CHANGE_REBUILD) {
        answer->err = shard_record_rebuild(record.shard, record.nodes, sender, change,
                                           catalog->last_replica_id + 1, &answer->text);
        if (answer->err == SK_OK) catalog->last_replica_id++;
    } else {
        answer->err = shard_record_change(record.shard, record.nodes, sender, change, &answer->text);
    }
    answer->config_version = record.shard->config_version;
    if (answer->err == SK_OK) catalog->version++;
}

static int apply_change_shards(struct catalog *catalog, const struct command_change_shards *command,
                               struct catalog_answer *answer) {
    const struct catalog_node *sender = catalog_find_node(catalog, command->node_id);
    if (sender == NULL || sender->map.incarnation != command->incarnation) { /* R6 */
        refuse(answer, SK_CONFLICT, "node %" PRIu32 " has started again", command->node_id);
        return SK_OK;
    }
    answer->changes = calloc(command->change_count, sizeof *answer->changes);
    if (answer->changes == NULL) return SK_ENOMEM;
    answer->change_count = command->change_count;
    for (uint32_t i = 0; i < command->change_count; i++) {
        change_one(catalog, &sender->map, &command->changes[i], &answer->changes[i]);
    }
    return SK_OK;
}

/* What one of the functions below came to. */
static int conclude(struct catalog *catalog, const struct record *record, int err, const char *text,
                    struct catalog_answer *answer) {
    if (err == SK_OK) {
        catalog->version++;
    } else {
        refuse(answer, err, "%s", text);
    }
    answer->config_version = record->shard->config_version;
    return SK_OK;
}

static int no_shard(uint32_t shard, struct catalog_answer *answer) {
    refuse(answer, SK_NOT_FOUND, "there is no shard %" PRIu32, shard);
    return SK_OK;
}

static int apply_wish_leader(struct catalog *catalog, const struct command_wish_leader *wish,
                             struct catalog_answer *answer) {
    struct record record;
    if (!find_record(catalog, wish->shard, &record)) return no_shard(wish->shard, answer);
    const char *text = NULL;
    int err =
        shard_record_wish(record.shard, record.nodes, wish->config_version, wish->node, wish->preferred, &text);
    return conclude(catalog, &record, err, text, answer);
}

static int apply_replace_replica(struct catalog *catalog, const struct command_replace_replica *replace,
                                 struct catalog_answer *answer) {
    struct record record;
    const struct catalog_node *to = catalog_find_node(catalog, replace->to);
    if (!find_record(catalog, replace->shard, &record)) return no_shard(replace->shard, answer);
    if (to == NULL) return no_node(replace->to, answer);
    const char *text = NULL;
    int err = shard_record_replace(record.shard, record.nodes, replace->config_version, replace->from, &to->map,
                                   catalog->last_replica_id + 1, &text);
    if (err == SK_OK) catalog->last_replica_id++;
    return conclude(catalog, &record, err, text, answer);
}

static int apply_force_leader(struct catalog *catalog, const struct command_force_leader *force,
                              struct catalog_answer *answer) {
    struct record record;
    if (!find_record(catalog, force->shard, &record)) return no_shard(force->shard, answer);
    const char *text = NULL;
    int err = shard_record_force(record.shard, record.nodes, force->config_version, force->node,
                                 catalog->last_replica_id + 1, &text);
    if (err == SK_OK) catalog->last_replica_id += record.shard->replica_count - 1;
    return conclude(catalog, &record, err, text, answer);
}

/* Leaders see it in the map; nothing else changes. */
static int apply_verify(struct catalog *catalog, struct catalog_answer *answer) {
    if (catalog->shard_count == 0) {
        refuse(answer, SK_UNAVAILABLE, "there are no shards yet");
        return SK_OK;
    }
    answer->verify_generation = ++catalog->verify_generation;
    catalog->version++;
    return SK_OK;
}

/* A move that only adds a replica is for shards that have fewer than are wanted. */
static int start_move(struct catalog *catalog, struct record *record, const struct command_move_replica *move,
                      const struct map_node *to, const char **text) {
    uint32_t before = record->shard->replica_count;
    if (move->from == 0 && before >= catalog->replicas_wanted) {
        *text = "the shard has as many replicas as are wanted";
        return SK_CONFLICT;
    }
    int err = shard_record_start_move(record->shard, record->nodes, move->config_version, move->from, to,
                                      catalog->last_replica_id + 1, text);
    if (err == SK_OK && record->shard->replica_count > before) catalog->last_replica_id++;
    return err;
}

static int apply_move_replica(struct catalog *catalog, const struct command_move_replica *move,
                              struct catalog_answer *answer) {
    struct record record;
    const struct catalog_node *to = catalog_find_node(catalog, move->to);
    if (!find_record(catalog, move->shard, &record)) return no_shard(move->shard, answer);
    if (move->step == COMMAND_MOVE_START && to == NULL) return no_node(move->to, answer);
    const char *text = NULL;
    int err = SK_OK;
    switch (move->step) {
    case COMMAND_MOVE_START:
        err = start_move(catalog, &record, move, &to->map, &text);
        break;
    case COMMAND_MOVE_FINISH:
        err = shard_record_finish_move(record.shard, move->config_version, &text);
        break;
    case COMMAND_MOVE_CANCEL:
        err = shard_record_cancel_move(record.shard, move->config_version, &text);
        break;
    }
    return conclude(catalog, &record, err, text, answer);
}

/* ---- nodes, by persons ---- */

/* The most replicas that a shard has when nothing moves. */
static uint32_t most_replicas(const struct catalog *catalog) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        uint32_t count = shard->replica_count - (shard->move_from != 0 ? 1 : 0);
        if (count > most) most = count;
    }
    return most;
}

/* Another store has started where it was: it only has not been missed yet. */
static bool is_succeeded(const struct catalog *catalog, const struct map_node *node) {
    for (uint32_t id = node->id + 1; id <= catalog->node_count; id++) {
        const struct map_node *later = &catalog_find_node(catalog, id)->map;
        if (later->state != MAP_NODE_REMOVED && map_same_place(later, node)) return true;
    }
    return false;
}

/* Whether the others can have every replica of `node`. */
static bool may_drain(const struct catalog *catalog, uint32_t node, struct catalog_answer *answer) {
    uint32_t takers = 0, most = most_replicas(catalog);
    for (uint32_t i = 0; i < catalog->node_count; i++) {
        const struct map_node *other = &catalog->nodes[i].map;
        takers += other->id != node && map_takes_replicas(other) && !is_succeeded(catalog, other);
    }
    if (takers >= most) return true;
    refuse(answer, SK_UNAVAILABLE,
           "shards have %" PRIu32 " replicas, and without node %" PRIu32 " only %" PRIu32
           " nodes are there to have them: start another one first",
           most, node, takers);
    return false;
}

static enum map_node_state drained_state(const struct catalog *catalog, const struct map_node *node,
                                         struct catalog_answer *answer) {
    if (node->state == MAP_NODE_REMOVING) {
        refuse(answer, SK_CONFLICT, "node %" PRIu32 " is being removed", node->id);
    } else if (node->state == MAP_NODE_MEMBER && may_drain(catalog, node->id, answer)) {
        return MAP_NODE_DRAINING;
    }
    return node->state;
}

static enum map_node_state removed_state(const struct catalog *catalog, const struct map_node *node,
                                         struct catalog_answer *answer) {
    uint32_t replicas = catalog_count_replicas(catalog, node->id);
    if (replicas == 0) return MAP_NODE_REMOVED;
    if (node->alive && node->state != MAP_NODE_REMOVING) {
        refuse(answer, SK_CONFLICT, "node %" PRIu32 " is alive and has %" PRIu32 " replicas: drain it first",
               node->id, replicas);
        return node->state;
    }
    return MAP_NODE_REMOVING;
}

static enum map_node_state next_state(const struct catalog *catalog, const struct map_node *node,
                                      enum command_node change, struct catalog_answer *answer) {
    switch (change) {
    case COMMAND_NODE_ADD:
        return MAP_NODE_MEMBER;
    case COMMAND_NODE_DRAIN:
        return drained_state(catalog, node, answer);
    case COMMAND_NODE_REMOVE:
        return removed_state(catalog, node, answer);
    }
    return node->state;
}

static int apply_change_node(struct catalog *catalog, const struct command_change_node *command,
                             struct catalog_answer *answer) {
    if (catalog_find_node(catalog, command->node_id) == NULL) return no_node(command->node_id, answer);
    struct map_node *node = &catalog->nodes[command->node_id - 1].map;
    if (node->state == MAP_NODE_REMOVED) {
        if (command->change != COMMAND_NODE_REMOVE) {
            refuse(answer, SK_CONFLICT,
                   "node %" PRIu32 " was removed for ever; with an empty data directory it joins as a new node",
                   node->id);
        }
        return SK_OK;
    }
    enum map_node_state state = next_state(catalog, node, command->change, answer);
    if (answer->err != SK_OK || state == node->state) return SK_OK;
    node->state = state;
    if (state == MAP_NODE_REMOVED) node->alive = false;
    catalog->version++;
    return SK_OK;
}

int catalog_apply(struct catalog *catalog, const struct log_command *command, struct catalog_answer *answer) {
    *answer = (struct catalog_answer){0};
    switch (command->kind) {
    case COMMAND_INIT:
        return apply_init(catalog, &command->init, answer);
    case COMMAND_REGISTER_NODE:
        return apply_register_node(catalog, &command->register_node, answer);
    case COMMAND_CREATE_SHARDS:
        return apply_create_shards(catalog, &command->create_shards, answer);
    case COMMAND_NODE_ALIVE:
        return apply_node_alive(catalog, &command->node_alive, answer);
    case COMMAND_CHANGE_SHARDS:
        return apply_change_shards(catalog, &command->change_shards, answer);
    case COMMAND_WISH_LEADER:
        return apply_wish_leader(catalog, &command->wish_leader, answer);
    case COMMAND_REPLACE_REPLICA:
        return apply_replace_replica(catalog, &command->replace_replica, answer);
    case COMMAND_FORCE_LEADER:
        return apply_force_leader(catalog, &command->force_leader, answer);
    case COMMAND_MOVE_REPLICA:
        return apply_move_replica(catalog, &command->move_replica, answer);
    case COMMAND_CHANGE_NODE:
        return apply_change_node(catalog, &command->change_node, answer);
    case COMMAND_VERIFY:
        return apply_verify(catalog, answer);
    }
    return SK_EUNEXPECTED; /* command_decode lets no other kind through */
}

static int make_map(const struct catalog *catalog, bool with_removed, struct map **map) {
    int err = map_new(map, catalog->shard_count, catalog->node_count);
    if (err != SK_OK) return err;
    (*map)->version = catalog->version;
    (*map)->cluster = catalog->cluster;
    (*map)->verify_generation = catalog->verify_generation;
    (*map)->node_count = 0;
    for (uint32_t i = 0; i < catalog->node_count; i++) {
        const struct map_node *node = &catalog->nodes[i].map;
        if (with_removed || node->state != MAP_NODE_REMOVED) (*map)->nodes[(*map)->node_count++] = *node;
    }
    if (catalog->shard_count > 0) {
        memcpy((*map)->shards, catalog->shards, catalog->shard_count * sizeof *catalog->shards);
    }
    return SK_OK;
}

int catalog_make_map(const struct catalog *catalog, struct map **map) { return make_map(catalog, false, map); }

/* The snapshot is the map with all nodes, which has an encoding already, and beside it what the map does not show. */
void catalog_encode(const struct catalog *catalog, struct buffer *buffer) {
    struct map *map;
    if (make_map(catalog, true, &map) != SK_OK) {
        buffer->failed = true;
        return;
    }
    mp_write_array(buffer, 8);
    mp_write_uint(buffer, SNAPSHOT_FORMAT);
    mp_write_uint(buffer, catalog->shards_wanted);
    mp_write_uint(buffer, catalog->replicas_wanted);
    mp_write_uint(buffer, catalog->expect_nodes);
    mp_write_uint(buffer, catalog->last_incarnation);
    mp_write_uint(buffer, catalog->last_replica_id);
    mp_write_array(buffer, catalog->node_count);
    for (uint32_t i = 0; i < catalog->node_count; i++) {
        const struct catalog_node *node = &catalog->nodes[i];
        mp_write_bin(buffer, slice_of(node->start_name, node->start_name_bytes));
    }
    map_encode(map, buffer);
    map_unref(map);
    static const uint8_t zeros[SNAPSHOT_ALIGNMENT];
    buffer_append(buffer, zeros, (SNAPSHOT_ALIGNMENT - buffer->size % SNAPSHOT_ALIGNMENT) % SNAPSHOT_ALIGNMENT);
}

static int read_u32(struct mp_reader *reader, uint32_t *number) {
    uint64_t wide;
    int err = mp_read_uint(reader, &wide);
    if (err != SK_OK) return err;
    if (wide > UINT32_MAX) return SK_EPROTO;
    *number = (uint32_t)wide;
    return SK_OK;
}

static int decode_settings(struct mp_reader *reader, struct catalog *catalog) {
    uint32_t count;
    uint64_t format;
    int err = mp_read_array(reader, &count);
    if (err == SK_OK) err = mp_read_uint(reader, &format);
    if (err != SK_OK) return err;
    if (format > SNAPSHOT_FORMAT) return SK_EVERSION;
    if (format < SNAPSHOT_FORMAT_LEAST) return SK_EPROTO;
    if (count != 8) return SK_EPROTO;
    err = read_u32(reader, &catalog->shards_wanted);
    if (err == SK_OK) err = read_u32(reader, &catalog->replicas_wanted);
    if (err == SK_OK) err = read_u32(reader, &catalog->expect_nodes);
    if (err == SK_OK) err = mp_read_uint(reader, &catalog->last_incarnation);
    if (err == SK_OK) err = mp_read_uint(reader, &catalog->last_replica_id);
    return err;
}

static int decode_start_names(struct mp_reader *reader, struct catalog *catalog) {
    uint32_t count;
    int err = mp_read_array(reader, &count);
    if (err != SK_OK) return err;
    if (count > MAP_NODES_MAX) return SK_EPROTO;
    catalog->nodes = calloc(count + 1, sizeof *catalog->nodes); /* + 1: never of size 0 */
    if (catalog->nodes == NULL) return SK_ENOMEM;
    catalog->node_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        err = mp_read_bytes(reader, &name);
        if (err != SK_OK) return err;
        if (name.size > COMMAND_START_NAME_BYTES) return SK_EPROTO;
        catalog->nodes[i].start_name_bytes = (uint32_t)name.size;
        if (name.size > 0) memcpy(catalog->nodes[i].start_name, name.data, name.size);
    }
    return SK_OK;
}

static int take_map(struct catalog *catalog, const struct map *map) {
    if (map->node_count != catalog->node_count) return SK_EPROTO;
    catalog->version = map->version;
    catalog->cluster = map->cluster;
    catalog->verify_generation = map->verify_generation;
    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].id != i + 1) return SK_EPROTO;
        catalog->nodes[i].map = map->nodes[i];
    }
    for (uint32_t i = 0; i < map->shard_count; i++) {
        if (!shard_record_is_sound(&map->shards[i])) return SK_EPROTO;
    }
    if (map->shard_count == 0) return SK_OK;
    catalog->shards = calloc(map->shard_count, sizeof *catalog->shards);
    if (catalog->shards == NULL) return SK_ENOMEM;
    catalog->shard_count = map->shard_count;
    memcpy(catalog->shards, map->shards, map->shard_count * sizeof *catalog->shards);
    return SK_OK;
}

static int decode_map(struct mp_reader *reader, struct catalog *catalog) {
    struct slice bytes;
    int err = mp_skip(reader, &bytes);
    if (err != SK_OK) return err;
    struct map *map;
    err = map_decode(bytes, &map);
    if (err != SK_OK) return err;
    err = take_map(catalog, map);
    map_unref(map);
    return err;
}

int catalog_decode(struct catalog *catalog, struct slice bytes) {
    struct catalog loaded;
    catalog_init(&loaded);
    struct mp_reader reader = mp_reader_of(bytes);
    int err = decode_settings(&reader, &loaded);
    if (err == SK_OK) err = decode_start_names(&reader, &loaded);
    if (err == SK_OK) err = decode_map(&reader, &loaded);
    if (err == SK_OK && mp_left(&reader) >= SNAPSHOT_ALIGNMENT) err = SK_EPROTO;
    if (err != SK_OK) {
        catalog_deinit(&loaded);
        return err;
    }
    catalog_deinit(catalog);
    *catalog = loaded;
    return SK_OK;
}

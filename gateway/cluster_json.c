#include "gateway/cluster_json.h"

#include "gateway/json.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What a node has of the shards. */
struct share {
    uint32_t leads, holds, in_sync;
};

/* By the node's place in the map; owned by the caller. NULL: out of memory. */
static struct share *count_shares(const struct map *map) {
    struct share *shares = calloc(map->node_count + 1u, sizeof *shares);
    for (uint32_t i = 0; shares != NULL && i < map->shard_count; i++) {
        const struct map_shard *shard = &map->shards[i];
        for (uint32_t r = 0; r < shard->replica_count; r++) {
            const struct map_node *node = map_find_node(map, shard->replicas[r].node);
            if (node == NULL) continue;
            struct share *share = &shares[node - map->nodes];
            share->holds++;
            share->leads += shard->leader == node->id;
            share->in_sync += map_in_isr(shard, node->id);
        }
    }
    return shares;
}

/* Numbers and booleans; what is deeper is for others. */
static void write_stats(struct json *json, struct slice stats) {
    struct mp_reader reader = mp_reader_of(stats);
    uint32_t count;
    if (mp_read_map(&reader, &count) != SK_OK) return;
    json_begin_object(json, "stats");
    for (uint32_t i = 0; i < count; i++) {
        struct slice name, span;
        struct mp_value value;
        if (mp_read_bytes(&reader, &name) != SK_OK || mp_skip(&reader, &span) != SK_OK) break;
        struct mp_reader inner = mp_reader_of(span);
        if (mp_read(&inner, &value) != SK_OK) break;
        if (value.type == MP_UINT) json_named_uint(json, name, value.uint);
        if (value.type == MP_BOOL) json_named_bool(json, name, value.boolean);
    }
    json_end_object(json);
}

static void write_node(struct json *json, const struct status *status, const struct map_node *node,
                       const struct share *share) {
    uint64_t age_ms;
    json_begin_object(json, NULL);
    json_uint(json, "id", node->id);
    json_text(json, "host", slice_of_text(node->host));
    json_text(json, "address", slice_of_text(node->frames_address));
    json_bool(json, "alive", node->alive);
    json_text(json, "state", slice_of_text(map_node_state_name(node->state)));
    json_uint(json, "lanes", node->lanes);
    json_uint(json, "leads", share->leads);
    json_uint(json, "holds", share->holds);
    json_uint(json, "in_sync", share->in_sync);
    if (status_find_age(status, node->id, &age_ms)) json_uint(json, "age_ms", age_ms);
    write_stats(json, status_stats_of(status, node->id));
    json_end_object(json);
}

static void write_nodes(struct json *json, const struct status *status) {
    const struct map *map = status->map;
    struct share *shares = count_shares(map);
    if (shares == NULL) json->out->failed = true;
    json_begin_array(json, "nodes");
    for (uint32_t i = 0; shares != NULL && i < map->node_count; i++) {
        write_node(json, status, &map->nodes[i], &shares[i]);
    }
    json_end_array(json);
    free(shares);
}

/* An array without names: there may be thousands. */
static void write_shard(struct json *json, const struct map_shard *shard) {
    json_begin_array(json, NULL);
    json_uint(json, NULL, shard->leader);
    json_uint(json, NULL, shard->leader_epoch);
    json_uint(json, NULL, shard->min_isr);
    json_begin_array(json, NULL);
    for (uint32_t i = 0; i < shard->replica_count; i++) json_uint(json, NULL, shard->replicas[i].node);
    json_end_array(json);
    json_begin_array(json, NULL);
    for (uint32_t i = 0; i < shard->isr_count; i++) json_uint(json, NULL, shard->isr[i]);
    json_end_array(json);
    json_uint(json, NULL, shard->move_from);
    json_uint(json, NULL, shard->move_to);
    json_uint(json, NULL, shard->data_loss_generation);
    json_end_array(json);
}

/* [[id, name, whether it votes, whether it leads], …] */
static void write_servers(struct json *json, struct slice metad) {
    struct slice servers, name;
    uint32_t count, parts;
    uint64_t id;
    bool votes, leads;
    if (!status_find_value(metad, "servers", &servers)) return;
    struct mp_reader reader = mp_reader_of(servers);
    if (mp_read_array(&reader, &count) != SK_OK) return;
    json_begin_array(json, "metad");
    for (uint32_t i = 0; i < count; i++) {
        if (mp_read_array(&reader, &parts) != SK_OK || parts != 4 || mp_read_uint(&reader, &id) != SK_OK ||
            mp_read_bytes(&reader, &name) != SK_OK || mp_read_bool(&reader, &votes) != SK_OK ||
            mp_read_bool(&reader, &leads) != SK_OK)
            break;
        json_begin_object(json, NULL);
        json_text(json, "name", name);
        json_bool(json, "votes", votes);
        json_bool(json, "leads", leads);
        json_end_object(json);
    }
    json_end_array(json);
}

static void write_text_of(struct json *json, const char *name, struct slice map, const char *key) {
    struct slice value, text;
    if (!status_find_value(map, key, &value)) return;
    struct mp_reader reader = mp_reader_of(value);
    if (mp_read_bytes(&reader, &text) == SK_OK) json_text(json, name, text);
}

static void write_gateway(struct json *json, struct slice gateway) {
    struct slice value;
    uint64_t age_ms;
    json_begin_object(json, NULL);
    write_text_of(json, "host", gateway, "host");
    write_text_of(json, "address", gateway, "frames_address");
    if (status_find_value(gateway, "age_ms", &value)) {
        struct mp_reader reader = mp_reader_of(value);
        if (mp_read_uint(&reader, &age_ms) == SK_OK) json_uint(json, "age_ms", age_ms);
    }
    if (status_find_value(gateway, "stats", &value)) write_stats(json, value);
    json_end_object(json);
}

static void write_gateways(struct json *json, struct slice gateways) {
    struct mp_reader reader = mp_reader_of(gateways);
    struct slice gateway;
    uint32_t count;
    if (mp_read_array(&reader, &count) != SK_OK) return;
    json_begin_array(json, "gateways");
    for (uint32_t i = 0; i < count && mp_skip(&reader, &gateway) == SK_OK; i++) write_gateway(json, gateway);
    json_end_array(json);
}

void cluster_json_write(const struct status *status, struct buffer *out) {
    const struct map *map = status->map;
    struct json json;
    char cluster[24];
    json_init(&json, out);
    (void)snprintf(cluster, sizeof cluster, "%016" PRIx64, map->cluster);
    json_begin_object(&json, NULL);
    json_uint(&json, "map_version", map->version);
    json_text(&json, "cluster", slice_of_text(cluster));
    write_nodes(&json, status);
    json_begin_array(&json, "shards");
    for (uint32_t i = 0; i < map->shard_count; i++) write_shard(&json, &map->shards[i]);
    json_end_array(&json);
    write_servers(&json, status->metad);
    write_gateways(&json, status->gateways);
    json_end_object(&json);
}

#include "gateway/cluster_json.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"

static struct map *make_map(uint32_t shards, uint32_t nodes) {
    struct map *map;
    assert_int_equal(map_new(&map, shards, nodes), SK_OK);
    map->version = 12;
    map->cluster = 0xabc;
    for (uint32_t i = 0; i < nodes; i++) {
        map->nodes[i].id = i + 1;
        map->nodes[i].alive = i != 1;
        map->nodes[i].lanes = 2;
        (void)snprintf(map->nodes[i].host, MAP_ADDRESS_BYTES, "host-%u", i + 1);
        (void)snprintf(map->nodes[i].frames_address, MAP_ADDRESS_BYTES, "tcp://host-%u:1", i + 1);
    }
    for (uint32_t i = 0; i < shards; i++) {
        struct map_shard *shard = &map->shards[i];
        shard->leader = i % nodes + 1;
        shard->leader_epoch = 5;
        shard->min_isr = 2;
        shard->replica_count = nodes < 3 ? nodes : 3;
        for (uint32_t r = 0; r < shard->replica_count; r++) {
            shard->replicas[r] = (struct map_replica){.node = (i + r) % nodes + 1, .replica_id = 1};
            shard->isr[r] = shard->replicas[r].node;
        }
        shard->isr_count = shard->replica_count;
    }
    return map;
}

static void expect(const struct status *status, const char *text) {
    struct buffer out;
    buffer_init(&out);
    cluster_json_write(status, &out);
    buffer_append(&out, "", 1);
    assert_false(out.failed);
    assert_string_equal((const char *)out.data, text);
    buffer_deinit(&out);
}

static void a_map_alone(void **state) {
    (void)state;
    struct status status = {.map = make_map(2, 2)};
    struct map_shard *shard = &status.map->shards[1];
    status.map->nodes[1].state = MAP_NODE_DRAINING;
    shard->isr_count = 1;
    shard->move_from = 2;
    shard->move_to = 3;
    shard->data_loss_generation = 1;
    expect(&status,
           "{\"map_version\":12,\"cluster\":\"0000000000000abc\",\"nodes\":["
           "{\"id\":1,\"host\":\"host-1\",\"address\":\"tcp://host-1:1\",\"alive\":true,\"state\":\"member\","
           "\"lanes\":2,\"leads\":1,\"holds\":2,\"in_sync\":1},"
           "{\"id\":2,\"host\":\"host-2\",\"address\":\"tcp://host-2:1\",\"alive\":false,\"state\":\"draining\","
           "\"lanes\":2,\"leads\":1,\"holds\":2,\"in_sync\":2}],"
           "\"shards\":[[1,5,2,[1,2],[1,2],0,0,0],[2,5,2,[2,1],[2],2,3,1]]}");
    status_deinit(&status);
}

/* What each daemon told stands beside it: numbers and truths, whatever they are called. */
static void write_node_stats(struct buffer *stats) {
    mp_write_map(stats, 1);
    mp_write_uint(stats, 1);
    mp_write_map(stats, 5);
    mp_write_text(stats, "keys");
    mp_write_uint(stats, 77);
    mp_write_text(stats, "<b>");
    mp_write_bool(stats, true);
    mp_write_text(stats, "deep");
    mp_write_array(stats, 1);
    mp_write_uint(stats, 1);
    mp_write_text(stats, "text");
    mp_write_text(stats, "no");
    mp_write_text(stats, "leading");
    mp_write_uint(stats, 1);
}

static void write_metad(struct buffer *metad) {
    mp_write_map(metad, 1);
    mp_write_text(metad, "servers");
    mp_write_array(metad, 1);
    mp_write_array(metad, 4);
    mp_write_uint(metad, 9);
    mp_write_text(metad, "a\"b:7100");
    mp_write_bool(metad, true);
    mp_write_bool(metad, false);
}

static void write_gateways(struct buffer *gateways) {
    mp_write_array(gateways, 2);
    mp_write_map(gateways, 4);
    mp_write_text(gateways, "host");
    mp_write_text(gateways, "<img src=x>");
    mp_write_text(gateways, "frames_address");
    mp_write_text(gateways, "tcp://g:7410");
    mp_write_text(gateways, "age_ms");
    mp_write_uint(gateways, 300);
    mp_write_text(gateways, "stats");
    mp_write_map(gateways, 1);
    mp_write_text(gateways, "requests");
    mp_write_uint(gateways, 5);
    mp_write_map(gateways, 0);
}

static void what_daemons_tell(void **state) {
    (void)state;
    struct buffer stats, ages, metad, gateways;
    buffer_init(&stats), buffer_init(&ages), buffer_init(&metad), buffer_init(&gateways);
    write_node_stats(&stats);
    write_metad(&metad);
    write_gateways(&gateways);
    mp_write_map(&ages, 1);
    mp_write_uint(&ages, 1);
    mp_write_uint(&ages, 450);
    struct status status = {.map = make_map(1, 1),
                            .stats = buffer_slice(&stats),
                            .ages_ms = buffer_slice(&ages),
                            .metad = buffer_slice(&metad),
                            .gateways = buffer_slice(&gateways)};
    expect(&status,
           "{\"map_version\":12,\"cluster\":\"0000000000000abc\",\"nodes\":["
           "{\"id\":1,\"host\":\"host-1\",\"address\":\"tcp://host-1:1\",\"alive\":true,\"state\":\"member\","
           "\"lanes\":2,\"leads\":1,\"holds\":1,\"in_sync\":1,\"age_ms\":450,"
           "\"stats\":{\"keys\":77,\"\\u003cb>\":true,\"leading\":1}}],"
           "\"shards\":[[1,5,2,[1],[1],0,0,0]],"
           "\"metad\":[{\"name\":\"a\\\"b:7100\",\"votes\":true,\"leads\":false}],"
           "\"gateways\":[{\"host\":\"\\u003cimg src=x>\",\"address\":\"tcp://g:7410\",\"age_ms\":300,"
           "\"stats\":{\"requests\":5}},{}]}");
    status_deinit(&status);
    buffer_deinit(&stats), buffer_deinit(&ages), buffer_deinit(&metad), buffer_deinit(&gateways);
}

/* Whatever an answer of another version holds, the brackets match. */
static void other_shapes_are_left_out(void **state) {
    (void)state;
    static const uint8_t number[] = {0x07},
                         map_of_wrong[] = {0x81, 0xa7, 's', 'e', 'r', 'v', 'e', 'r', 's', 0x91, 0x90};
    struct status status = {.map = make_map(1, 1),
                            .stats = slice_of(number, 1),
                            .ages_ms = slice_of(number, 1),
                            .metad = slice_of(map_of_wrong, sizeof map_of_wrong),
                            .gateways = slice_of(number, 1)};
    expect(&status,
           "{\"map_version\":12,\"cluster\":\"0000000000000abc\",\"nodes\":["
           "{\"id\":1,\"host\":\"host-1\",\"address\":\"tcp://host-1:1\",\"alive\":true,\"state\":\"member\","
           "\"lanes\":2,\"leads\":1,\"holds\":1,\"in_sync\":1}],\"shards\":[[1,5,2,[1],[1],0,0,0]],\"metad\":[]}");
    status_deinit(&status);
}

static void a_large_cluster_stays_small(void **state) {
    (void)state;
    struct status status = {.map = make_map(1024, 32)};
    struct buffer out;
    buffer_init(&out);
    cluster_json_write(&status, &out);
    assert_false(out.failed);
    assert_in_range(out.size, 20000, 65536);
    buffer_deinit(&out);
    status_deinit(&status);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_alone),
        cmocka_unit_test(what_daemons_tell),
        cmocka_unit_test(other_shapes_are_left_out),
        cmocka_unit_test(a_large_cluster_stays_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "map.h"

#include "error.h"
#include "mp.h"

#include <pthread.h>

#include "testing.h"

/* Two nodes, with ids that leave a gap, and two shards. */
static struct map *sample(void) {
    struct map *map;
    assert_int_equal(map_new(&map, 2, 2), SK_OK);
    map->version = 7;
    map->cluster = 0xfedcba9876543210;
    map->verify_generation = 12;
    for (uint32_t i = 0; i < 2; i++) {
        struct map_node *node = &map->nodes[i];
        node->id = i == 0 ? 1 : 5;
        node->alive = i == 0;
        node->state = i == 0 ? MAP_NODE_MEMBER : MAP_NODE_DRAINING;
        memset(node->store_id, (int)(0x10 + i), sizeof node->store_id);
        node->incarnation = 100 + i;
        node->lanes = 3 + i;
        snprintf(node->host, sizeof node->host, "host%u", i);
        snprintf(node->frames_address, sizeof node->frames_address, "tcp://host%u:7200", i);
        snprintf(node->replication_address, sizeof node->replication_address, "tcp://host%u:7210", i);
    }
    for (uint32_t i = 0; i < 2; i++) {
        map->shards[i] = (struct map_shard){
            .leader_epoch = 4 + i,
            .config_version = 9 + i,
            .leader = i == 0 ? 5 : 0,
            .leader_incarnation = 101,
            .wanted_leader = i == 0 ? 1 : 0,
            .move_to = i == 0 ? 0 : 1,
            .move_from = i == 0 ? 0 : 5,
            .min_isr = 2,
            .data_loss_generation = i,
            .replica_count = 2,
            .isr_count = 1,
            .eligible_count = 1,
            .replicas = {{.node = 5, .replica_id = 50 + i}, {.node = 1, .replica_id = UINT64_MAX}},
            .isr = {5},
            .eligible = {1},
        };
    }
    return map;
}

static void assert_ids_equal(const uint32_t *a, const uint32_t *b, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) assert_int_equal(a[i], b[i]);
}

static void assert_maps_equal(const struct map *a, const struct map *b) {
    assert_true(a->version == b->version && a->cluster == b->cluster);
    assert_true(a->verify_generation == b->verify_generation);
    assert_true(a->shard_count == b->shard_count && a->node_count == b->node_count);
    for (uint32_t i = 0; i < a->node_count; i++) {
        const struct map_node *x = &a->nodes[i], *y = &b->nodes[i];
        assert_true(x->id == y->id && x->alive == y->alive && x->incarnation == y->incarnation);
        assert_int_equal(x->state, y->state);
        assert_int_equal(x->lanes, y->lanes);
        assert_memory_equal(x->store_id, y->store_id, sizeof x->store_id);
        assert_string_equal(x->host, y->host);
        assert_string_equal(x->frames_address, y->frames_address);
        assert_string_equal(x->replication_address, y->replication_address);
    }
    for (uint32_t i = 0; i < a->shard_count; i++) {
        const struct map_shard *x = &a->shards[i], *y = &b->shards[i];
        assert_true(x->leader_epoch == y->leader_epoch && x->config_version == y->config_version);
        assert_true(x->leader == y->leader && x->leader_incarnation == y->leader_incarnation);
        assert_int_equal(x->wanted_leader, y->wanted_leader);
        assert_true(x->move_to == y->move_to && x->move_from == y->move_from);
        assert_true(x->min_isr == y->min_isr && x->data_loss_generation == y->data_loss_generation);
        assert_true(x->replica_count == y->replica_count && x->isr_count == y->isr_count);
        assert_int_equal(x->eligible_count, y->eligible_count);
        for (uint32_t j = 0; j < x->replica_count; j++) {
            assert_int_equal(x->replicas[j].node, y->replicas[j].node);
            assert_true(x->replicas[j].replica_id == y->replicas[j].replica_id);
        }
        assert_ids_equal(x->isr, y->isr, x->isr_count);
        assert_ids_equal(x->eligible, y->eligible, x->eligible_count);
    }
}

/* Encodes, decodes; NULL if it is refused. Takes the map. */
static struct map *through_bytes(struct map *map) {
    struct buffer buffer;
    buffer_init(&buffer);
    map_encode(map, &buffer);
    assert_false(buffer.failed);
    map_unref(map);
    struct map *decoded = NULL;
    int rc = map_decode(buffer_slice(&buffer), &decoded);
    assert_int_equal(rc, decoded == NULL ? SK_EPROTO : SK_OK);
    buffer_deinit(&buffer);
    return decoded;
}

static void test_round_trip(void **state) {
    (void)state;
    struct map *map = sample();
    struct map *decoded = through_bytes(map_ref(map));
    assert_non_null(decoded);
    assert_maps_equal(map, decoded);
    map_unref(map);
    map_unref(decoded);
}

static void test_empty_and_largest(void **state) {
    (void)state;
    struct map *map;
    assert_int_equal(map_new(&map, 0, 0), SK_OK);
    struct map *decoded = through_bytes(map);
    assert_non_null(decoded);
    assert_true(decoded->shard_count == 0 && decoded->node_count == 0 && decoded->version == 0);
    assert_null(map_find_node(decoded, 1));
    map_unref(decoded);

    assert_int_equal(map_new(&map, 16384, MAP_NODES_MAX), SK_OK);
    for (uint32_t i = 0; i < MAP_NODES_MAX; i++) map->nodes[i].id = i + 1;
    memset(map->nodes[0].host, 'h', MAP_ADDRESS_BYTES - 1);
    for (uint32_t i = 0; i < 16384; i++) {
        struct map_shard *shard = &map->shards[i];
        shard->replica_count = shard->isr_count = shard->eligible_count = MAP_REPLICAS_MAX;
        for (uint32_t j = 0; j < MAP_REPLICAS_MAX; j++) {
            shard->replicas[j] = (struct map_replica){.node = j + 1, .replica_id = i};
            shard->isr[j] = shard->eligible[j] = j + 1;
        }
    }
    decoded = through_bytes(map_ref(map));
    assert_non_null(decoded);
    assert_maps_equal(map, decoded);
    map_unref(map);
    map_unref(decoded);
}

static void test_finding(void **state) {
    (void)state;
    struct map *map = sample();
    assert_ptr_equal(map_find_node(map, 1), &map->nodes[0]);
    assert_ptr_equal(map_find_node(map, 5), &map->nodes[1]); /* not at its own place */
    assert_null(map_find_node(map, 0));
    assert_null(map_find_node(map, 2));
    assert_null(map_find_node(map, 6));
    assert_null(map_find_node(map, UINT32_MAX));
    assert_ptr_equal(map_find_replica(&map->shards[0], 1), &map->shards[0].replicas[1]);
    assert_null(map_find_replica(&map->shards[0], 2));
    map_unref(map);
    map_unref(NULL);
}

static void test_nodes(void **state) {
    (void)state;
    struct map *map = sample();
    struct map_node *first = &map->nodes[0], *fifth = &map->nodes[1];
    for (unsigned alive = 0; alive <= 1; alive++) {
        fifth->alive = alive != 0;
        assert_int_equal(map_is_alive(map, 5), alive);
        fifth->state = MAP_NODE_MEMBER;
        assert_int_equal(map_takes_replicas(fifth), alive);
        fifth->state = MAP_NODE_DRAINING;
        assert_false(map_takes_replicas(fifth));
    }
    assert_false(map_is_alive(map, 0));
    assert_false(map_is_alive(map, 2));
    strcpy(first->frames_address, "tcp://a:1");
    strcpy(first->replication_address, "tcp://a:2");
    strcpy(fifth->frames_address, "tcp://a:2");
    strcpy(fifth->replication_address, "tcp://a:1");
    assert_false(map_same_place(first, fifth));
    strcpy(fifth->frames_address, "tcp://a:1");
    assert_true(map_same_place(first, fifth));
    strcpy(fifth->frames_address, "tcp://b:1");
    strcpy(fifth->replication_address, "tcp://a:2");
    assert_true(map_same_place(first, fifth));
    map_unref(map);
}

static void test_writes_need_the_living(void **state) {
    (void)state;
    struct map *map = sample();
    struct map_shard shard = {.min_isr = 1, .isr_count = 3, .isr = {1, 5, 7}}; /* 7: is not known */
    map->nodes[0].alive = map->nodes[1].alive = true;
    assert_true(map_takes_writes(&shard, map_is_alive, map));
    shard.min_isr = 2;
    assert_true(map_takes_writes(&shard, map_is_alive, map));
    shard.min_isr = 3; /* it is in sync, and nobody has heard of it */
    assert_false(map_takes_writes(&shard, map_is_alive, map));
    shard.min_isr = 2;
    map->nodes[0].alive = false;
    assert_false(map_takes_writes(&shard, map_is_alive, map));
    shard.min_isr = 1;
    assert_true(map_takes_writes(&shard, map_is_alive, map));
    map_unref(map);
}

static void assert_refused(struct map *map) {
    struct map *decoded = through_bytes(map);
    assert_null(decoded);
}

static void test_what_makes_no_sense(void **state) {
    (void)state;
    struct map *map;
    map = sample(), map->shards[0].leader = 2, assert_refused(map);           /* no replica of the shard */
    map = sample(), map->shards[0].wanted_leader = 2, assert_refused(map);    /* likewise */
    map = sample(), map->shards[1].move_to = 2, assert_refused(map);          /* likewise */
    map = sample(), map->shards[1].move_from = 2, assert_refused(map);        /* likewise */
    map = sample(), map->nodes[0].state = 4, assert_refused(map);             /* no state */
    map = sample(), map->shards[0].isr[0] = 2, assert_refused(map);           /* likewise */
    map = sample(), map->shards[0].eligible[0] = 0, assert_refused(map);      /* no node */
    map = sample(), map->shards[1].replicas[0].node = 2, assert_refused(map); /* unknown node */
    map = sample(), map->shards[1].replicas[0].node = 1, assert_refused(map); /* twice */
    map = sample(), map->nodes[0].id = 0, assert_refused(map);
    map = sample(), map->nodes[0].id = 5, assert_refused(map); /* twice */
    map = sample(), map->nodes[0].id = 9, assert_refused(map); /* out of order */
    map = sample(), map->shards[0].isr_count = 2, map->shards[0].isr[1] = 5, assert_refused(map);

    assert_int_equal(map_new(&map, 3, 0), SK_OK); /* no power of two */
    assert_refused(map);
    assert_int_equal(map_new(&map, 32768, 0), SK_OK);
    assert_refused(map);
    assert_int_equal(map_new(&map, 0, MAP_NODES_MAX + 1), SK_OK);
    for (uint32_t i = 0; i < map->node_count; i++) map->nodes[i].id = i + 1;
    assert_refused(map);
}

static void test_truncated_and_changed_bytes(void **state) {
    (void)state;
    struct map *map = sample(), *decoded;
    struct buffer buffer;
    buffer_init(&buffer);
    map_encode(map, &buffer);
    for (size_t size = 0; size < buffer.size; size++) {
        assert_int_equal(map_decode(slice_of(buffer.data, size), &decoded), SK_EPROTO);
    }
    for (size_t at = 0; at < buffer.size; at++) {
        uint8_t right = buffer.data[at];
        for (unsigned value = 0; value < 256; value++) {
            buffer.data[at] = (uint8_t)value;
            int rc = map_decode(buffer_slice(&buffer), &decoded);
            assert_true(rc == SK_OK || rc == SK_EPROTO);
            if (rc == SK_OK) map_unref(decoded);
        }
        buffer.data[at] = right;
    }
    buffer_append(&buffer, "\xc0", 1); /* something after it */
    assert_int_equal(map_decode(buffer_slice(&buffer), &decoded), SK_EPROTO);
    buffer_deinit(&buffer);
    map_unref(map);
}

/* {"version": 3, "news": [{"a": 1}], "nodes": [{"id": 1, "colour": "red"}], "shards": []} */
static void test_unknown_keys_are_skipped(void **state) {
    (void)state;
    struct buffer buffer;
    struct map *decoded;
    buffer_init(&buffer);
    mp_write_map(&buffer, 4);
    mp_write_text(&buffer, "version");
    mp_write_uint(&buffer, 3);
    mp_write_text(&buffer, "news");
    mp_write_raw(&buffer, slice_of("\x91\x81\xa1\x61\x01", 5));
    mp_write_text(&buffer, "nodes");
    mp_write_array(&buffer, 1);
    mp_write_map(&buffer, 2);
    mp_write_text(&buffer, "id");
    mp_write_uint(&buffer, 1);
    mp_write_text(&buffer, "colour");
    mp_write_text(&buffer, "red");
    mp_write_text(&buffer, "shards");
    mp_write_array(&buffer, 0);
    assert_int_equal(map_decode(buffer_slice(&buffer), &decoded), SK_OK);
    assert_int_equal(decoded->version, 3);
    assert_int_equal(decoded->node_count, 1);
    assert_string_equal(decoded->nodes[0].host, "");
    map_unref(decoded);
    buffer_deinit(&buffer);
}

/* {"nodes": [{"id": 1, key: value}]} */
static int decode_node_with(const char *key, struct slice value) {
    struct buffer buffer;
    struct map *decoded;
    buffer_init(&buffer);
    mp_write_map(&buffer, 1);
    mp_write_text(&buffer, "nodes");
    mp_write_array(&buffer, 1);
    mp_write_map(&buffer, 2);
    mp_write_text(&buffer, "id");
    mp_write_uint(&buffer, 1);
    mp_write_text(&buffer, key);
    mp_write_raw(&buffer, value);
    int rc = map_decode(buffer_slice(&buffer), &decoded);
    if (rc == SK_OK) map_unref(decoded);
    buffer_deinit(&buffer);
    return rc;
}

static void test_fields_of_the_wrong_shape(void **state) {
    (void)state;
    char text[MAP_ADDRESS_BYTES + 2];
    memset(text, 'x', sizeof text);
    text[0] = (char)0xd9; /* str of 8 bits' length */
    text[1] = (char)(MAP_ADDRESS_BYTES - 1);
    assert_int_equal(decode_node_with("host", slice_of(text, sizeof text - 1)), SK_OK);
    text[1] = (char)MAP_ADDRESS_BYTES;
    assert_int_equal(decode_node_with("host", slice_of(text, sizeof text)), SK_EPROTO);
    assert_int_equal(decode_node_with("host", slice_of("\xa2x\0", 3)), SK_EPROTO);
    assert_int_equal(decode_node_with("host", slice_of("\x01", 1)), SK_EPROTO);
    assert_int_equal(decode_node_with("store_id", slice_of("\xc4\x01x", 3)), SK_EPROTO);
    assert_int_equal(decode_node_with("lanes", slice_of("\xcf\0\0\0\1\0\0\0\0", 9)), SK_EPROTO); /* over 32 bits */
    assert_int_equal(decode_node_with("lanes", slice_of("\xff", 1)), SK_EPROTO);
    assert_int_equal(decode_node_with("alive", slice_of("\x01", 1)), SK_EPROTO);
}

static void *hold_and_release(void *arg) {
    for (int i = 0; i < 10000; i++) map_unref(map_ref(arg));
    map_unref(arg);
    return NULL;
}

static void test_counted_by_many_threads(void **state) {
    (void)state;
    struct map *map = sample();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hold_and_release, map_ref(map)), 0);
    }
    map_unref(map); /* the last thread frees it */
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_empty_and_largest),
        cmocka_unit_test(test_finding),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_writes_need_the_living),
        cmocka_unit_test(test_what_makes_no_sense),
        cmocka_unit_test(test_truncated_and_changed_bytes),
        cmocka_unit_test(test_unknown_keys_are_skipped),
        cmocka_unit_test(test_fields_of_the_wrong_shape),
        cmocka_unit_test(test_counted_by_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

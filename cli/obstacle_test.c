/* Two shards on nodes 1 to 3, and node 4, which has nothing. */
#include "obstacle.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

static struct map *map;
static char text[OBSTACLE_TEXT_BYTES];

static int set_up(void **state) {
    (void)state;
    if (map_new(&map, 2, 4) != SK_OK) return -1;
    for (uint32_t i = 0; i < 4; i++) {
        map->nodes[i].id = i + 1;
        map->nodes[i].alive = true;
    }
    for (uint32_t i = 0; i < 2; i++) {
        map->shards[i] = (struct map_shard){.leader = 1,
                                            .min_isr = 2,
                                            .replica_count = 3,
                                            .replicas = {{1, 1}, {2, 2}, {3, 3}},
                                            .isr_count = 3,
                                            .isr = {1, 2, 3}};
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    map_unref(map);
    return 0;
}

static void move(struct map_shard *shard) {
    shard->replicas[shard->replica_count++] = (struct map_replica){4, 4};
    shard->move_from = 2;
    shard->move_to = 4;
}

static void nothing_waits(void **state) {
    (void)state;
    assert_false(obstacle_find(map, 2, text));
    map->nodes[1].state = MAP_NODE_DRAINING; /* its turn comes */
    assert_false(obstacle_find(map, 2, text));
}

static void nobody_can_take_it(void **state) {
    (void)state;
    map->nodes[1].state = MAP_NODE_DRAINING;
    map->nodes[3].alive = false;
    assert_true(obstacle_find(map, 2, text));
    assert_string_equal(text, "nobody can take the replica of shard 0: start another node");
    assert_false(obstacle_find(map, 4, text));
}

static void nobody_leads(void **state) {
    (void)state;
    map->nodes[1].state = MAP_NODE_REMOVING;
    map->nodes[0].alive = false;
    assert_true(obstacle_find(map, 2, text));
    assert_string_equal(text, "shard 0 has no leader that is alive");
}

static void a_move_stands_still(void **state) {
    (void)state;
    move(&map->shards[1]);
    assert_true(obstacle_find(map, 4, text));
    assert_string_equal(text, "shard 1 moves to node 4: its replica there is not level yet");
    map->nodes[3].alive = false;
    assert_true(obstacle_find(map, 4, text));
    assert_string_equal(text, "shard 1 moves to node 4: that node is dead");
    map->nodes[3].alive = true;
    map->shards[1].isr[map->shards[1].isr_count++] = 4;
    assert_true(obstacle_find(map, 2, text));
    assert_string_equal(text, "shard 1 moves to node 4: too few others are in sync for a replica to go");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_can_take_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_leads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_move_stands_still, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/router.h"
#include "libcommon/error.h"

static struct map *map_of(uint64_t version, uint32_t shards) {
    struct map *map;
    assert_int_equal(map_new(&map, shards, 0), SK_OK);
    map->version = version;
    return map;
}

static void no_map_no_route(void **state) {
    (void)state;
    struct router router;
    struct route route;
    router_init(&router);
    assert_int_equal(router_shard_count(&router), 0);
    assert_int_equal(router_map_version(&router), 0);
    assert_int_equal(router_find(&router, 0, &route), SK_UNAVAILABLE);
    router_deinit(&router);
}

static void the_newest_map_says_who_leads(void **state) {
    (void)state;
    struct router router;
    struct route route;
    router_init(&router);
    struct map *map = map_of(5, 4);
    map->shards[2].leader = 3;
    map->shards[2].leader_epoch = 8;
    assert_true(router_take_map(&router, map));
    assert_int_equal(router_find(&router, 2, &route), SK_OK);
    assert_int_equal(route.node, 3);
    assert_int_equal(route.epoch, 8);
    assert_int_equal(router_find(&router, 1, &route), SK_UNAVAILABLE); /* no leader */
    assert_int_equal(router_find(&router, 4, &route), SK_UNAVAILABLE); /* no such shard */
    assert_false(router_take_map(&router, map_of(5, 4)));              /* R29 */
    assert_false(router_take_map(&router, map_of(4, 4)));
    assert_int_equal(router_find(&router, 2, &route), SK_OK);
    assert_true(router_take_map(&router, map_of(6, 4)));
    assert_int_equal(router_find(&router, 2, &route), SK_UNAVAILABLE);
    assert_int_equal(router_map_version(&router), 6);
    router_deinit(&router);
}

/* Who is dead by the map, or not in it, is left out; by id, whatever the record's order. */
static void the_in_sync_replicas_that_live(void **state) {
    (void)state;
    struct router router;
    uint32_t nodes[MAP_REPLICAS_MAX];
    struct map *map;
    router_init(&router);
    assert_int_equal(router_in_sync(&router, 0, nodes), 0);
    assert_int_equal(map_new(&map, 2, 4), SK_OK);
    map->version = 1;
    for (uint32_t i = 0; i < 4; i++) map->nodes[i] = (struct map_node){.id = i + 1, .alive = i != 1};
    map->shards[1] = (struct map_shard){.leader = 4, .isr_count = 5, .isr = {4, 2, 3, 9, 1}};
    assert_true(router_take_map(&router, map));
    assert_int_equal(router_in_sync(&router, 0, nodes), 0);
    assert_int_equal(router_in_sync(&router, 2, nodes), 0); /* no such shard */
    assert_int_equal(router_in_sync(&router, 1, nodes), 3);
    assert_true(nodes[0] == 1 && nodes[1] == 3 && nodes[2] == 4);
    router_deinit(&router);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_map_no_route),
        cmocka_unit_test(the_newest_map_says_who_leads),
        cmocka_unit_test(the_in_sync_replicas_that_live),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_map_no_route),
        cmocka_unit_test(the_newest_map_says_who_leads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "metad/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SHARDS_MAX 16384u
#define NODES_MAX  64u

static uint32_t placed[SHARDS_MAX * 7];
static uint32_t ids[NODES_MAX];

static void place(uint32_t nodes, uint32_t shards, uint32_t replicas) {
    for (uint32_t i = 0; i < nodes; i++) ids[i] = 100 + i; /* ids are not positions */
    placement_initial(ids, nodes, shards, replicas, placed);
}

static uint32_t position(uint32_t id, uint32_t nodes) {
    assert_in_range(id, 100, 100 + nodes - 1);
    return id - 100;
}

static void assert_even(const uint32_t *counts, uint32_t count, uint32_t slack) {
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (counts[i] < least) least = counts[i];
        if (counts[i] > most) most = counts[i];
    }
    assert_true(most - least <= slack);
}

static void leaders_are_spread_evenly(void **state) {
    (void)state;
    for (uint32_t nodes = 1; nodes <= 9; nodes++) {
        for (uint32_t shards = 1; shards <= 1024; shards *= 2) {
            uint32_t led[NODES_MAX] = {0};
            place(nodes, shards, 1);
            for (uint32_t shard = 0; shard < shards; shard++) led[position(placed[shard], nodes)]++;
            assert_even(led, nodes, 1);
        }
    }
}

static void replicas_are_distinct_and_even(void **state) {
    (void)state;
    for (uint32_t nodes = 1; nodes <= 9; nodes++) {
        for (uint32_t replicas = 1; replicas <= nodes && replicas <= 7; replicas++) {
            uint32_t held[NODES_MAX] = {0};
            place(nodes, 1024, replicas);
            for (uint32_t shard = 0; shard < 1024; shard++) {
                bool seen[NODES_MAX] = {false};
                for (uint32_t i = 0; i < replicas; i++) {
                    uint32_t at = position(placed[shard * replicas + i], nodes);
                    assert_false(seen[at]);
                    seen[at] = true;
                    held[at]++;
                }
            }
            assert_even(held, nodes, nodes * replicas);
        }
    }
}

/* When a leader dies its shards must fall to all the others alike. */
static void followers_of_a_leader_are_spread(void **state) {
    (void)state;
    place(5, 1024, 3);
    for (uint32_t leader = 0; leader < 5; leader++) {
        uint32_t first_followers[NODES_MAX] = {0};
        for (uint32_t shard = 0; shard < 1024; shard++) {
            if (position(placed[shard * 3], 5) != leader) continue;
            first_followers[position(placed[shard * 3 + 1], 5)]++;
        }
        assert_int_equal(first_followers[leader], 0);
        first_followers[leader] = first_followers[(leader + 1) % 5];
        assert_even(first_followers, 5, 1);
    }
}

/* Shard s takes lane s mod lanes on each node: for any number of lanes all of them are used alike. */
static void lanes_of_a_node_are_filled_alike(void **state) {
    (void)state;
    for (uint32_t nodes = 1; nodes <= 6; nodes++) {
        for (uint32_t lanes = 1; lanes <= 8; lanes++) {
            place(nodes, 64, 1);
            uint32_t used[NODES_MAX][8] = {{0}};
            for (uint32_t shard = 0; shard < 64; shard++) used[position(placed[shard], nodes)][shard % lanes]++;
            for (uint32_t node = 0; node < nodes; node++) assert_even(used[node], lanes, 1);
        }
    }
}

static void more_nodes_than_shards(void **state) {
    (void)state;
    place(64, 16, 3);
    bool leads[NODES_MAX] = {false};
    for (uint32_t shard = 0; shard < 16; shard++) {
        uint32_t at = position(placed[shard * 3], 64);
        assert_false(leads[at]);
        leads[at] = true;
    }
}

static void the_most_shards(void **state) {
    (void)state;
    uint32_t led[NODES_MAX] = {0};
    place(3, SHARDS_MAX, 3);
    for (uint32_t shard = 0; shard < SHARDS_MAX; shard++) led[position(placed[shard * 3], 3)]++;
    assert_even(led, 3, 1);
}

static void min_isr_is_a_majority(void **state) {
    (void)state;
    assert_int_equal(placement_min_isr(1), 1);
    assert_int_equal(placement_min_isr(2), 2);
    assert_int_equal(placement_min_isr(3), 2);
    assert_int_equal(placement_min_isr(4), 3);
    assert_int_equal(placement_min_isr(5), 3);
}

/* ---- R13 ---- */

#define STORES 6u

/* Nodes 1 to 4, and shard 0 on 1, 2, 3 and shard 1 on 2, 3, 4, all in sync but node 3; each at an address of its own. */
static struct catalog_node stores[STORES];
static struct map_shard shards[2];
static struct catalog catalog;
static struct placement_replacement found[4];

static void set_address(uint32_t id, const char *frames, const char *replication) {
    (void)snprintf(stores[id - 1].map.frames_address, MAP_ADDRESS_BYTES, "%s", frames);
    (void)snprintf(stores[id - 1].map.replication_address, MAP_ADDRESS_BYTES, "%s", replication);
}

static void make_catalog(void) {
    memset(stores, 0, sizeof stores);
    for (uint32_t id = 1; id <= STORES; id++) {
        char address[32];
        (void)snprintf(address, sizeof address, "tcp://host%u", (unsigned)id);
        stores[id - 1].map = (struct map_node){.id = id, .alive = true};
        set_address(id, address, address);
    }
    for (uint32_t i = 0; i < 2; i++) {
        shards[i] = (struct map_shard){.config_version = 7 + i, .leader = 2, .min_isr = 2, .replica_count = 3};
        for (uint32_t j = 0; j < 3; j++) {
            uint32_t node = 1 + i + j;
            shards[i].replicas[j].node = node;
            if (node != 3) shards[i].isr[shards[i].isr_count++] = node;
        }
    }
    catalog = (struct catalog){.node_count = 4, .nodes = stores, .shard_count = 2, .shards = shards};
}

/* Node `id` has come at the address of node 3. */
static void come_at_3(uint32_t id) {
    catalog.node_count = id;
    set_address(id, stores[2].map.frames_address, stores[2].map.replication_address);
}

static void r13_a_dead_node_is_replaced_by_who_came_in_its_place(void **state) {
    (void)state;
    make_catalog();
    stores[2].map.alive = false;
    assert_int_equal(placement_replacements(&catalog, found, 4), 0); /* nobody has */
    come_at_3(5);
    assert_int_equal(placement_replacements(&catalog, found, 4), 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(found[i].shard, i);
        assert_int_equal(found[i].config_version, 7 + i);
        assert_int_equal(found[i].from, 3);
        assert_int_equal(found[i].to, 5);
    }
    assert_int_equal(placement_replacements(&catalog, found, 1), 1);
    come_at_3(6); /* wiped once more: the newest one */
    assert_int_equal(placement_replacements(&catalog, found, 4), 2);
    assert_int_equal(found[0].to, 6);
    stores[5].map.alive = false;
    assert_int_equal(placement_replacements(&catalog, found, 4), 2);
    assert_int_equal(found[0].to, 5);
    stores[4].map.alive = false;
    assert_int_equal(placement_replacements(&catalog, found, 4), 0);
}

static void r13_one_address_of_the_two_is_enough(void **state) {
    (void)state;
    make_catalog();
    stores[2].map.alive = false;
    catalog.node_count = 5;
    set_address(5, stores[2].map.frames_address, "tcp://elsewhere");
    assert_int_equal(placement_replacements(&catalog, found, 4), 2);
    set_address(5, "tcp://elsewhere", stores[2].map.replication_address);
    assert_int_equal(placement_replacements(&catalog, found, 4), 2);
    set_address(5, "tcp://elsewhere", "tcp://elsewhere");
    assert_int_equal(placement_replacements(&catalog, found, 4), 0);
}

static void r13_data_that_may_be_needed_is_not_given_up(void **state) {
    (void)state;
    make_catalog();
    come_at_3(5);
    assert_int_equal(placement_replacements(&catalog, found, 4), 0); /* node 3 is alive */
    stores[2].map.alive = false;
    shards[0].isr[shards[0].isr_count++] = 3;
    shards[1].isr_count = 1;
    shards[1].eligible[shards[1].eligible_count++] = 3;
    assert_int_equal(placement_replacements(&catalog, found, 4), 0);
    shards[0].isr_count--;
    assert_int_equal(placement_replacements(&catalog, found, 4), 1);
    assert_int_equal(found[0].shard, 0);
}

static void r13_nobody_gets_two_replicas_of_a_shard(void **state) {
    (void)state;
    make_catalog();
    stores[2].map.alive = false;
    set_address(4, stores[2].map.frames_address, stores[2].map.replication_address);
    assert_int_equal(placement_replacements(&catalog, found, 4), 1);
    assert_int_equal(found[0].shard, 0); /* shard 1 has one there */
}

/* One that is drained gets nothing; and a replica that moves away is replaced only if it is needed until then. */
static void r13_members_replace_what_does_not_move(void **state) {
    (void)state;
    make_catalog();
    stores[2].map.alive = false;
    come_at_3(5);
    stores[4].map.state = MAP_NODE_DRAINING;
    assert_int_equal(placement_replacements(&catalog, found, 4), 0);
    stores[4].map.state = MAP_NODE_MEMBER;
    shards[0].move_from = 3;
    assert_int_equal(placement_replacements(&catalog, found, 4), 1);
    assert_int_equal(found[0].shard, 1);
    shards[0].isr_count = 1;
    assert_int_equal(placement_replacements(&catalog, found, 4), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaders_are_spread_evenly),
        cmocka_unit_test(replicas_are_distinct_and_even),
        cmocka_unit_test(followers_of_a_leader_are_spread),
        cmocka_unit_test(lanes_of_a_node_are_filled_alike),
        cmocka_unit_test(more_nodes_than_shards),
        cmocka_unit_test(the_most_shards),
        cmocka_unit_test(min_isr_is_a_majority),
        cmocka_unit_test(r13_a_dead_node_is_replaced_by_who_came_in_its_place),
        cmocka_unit_test(r13_members_replace_what_does_not_move),
        cmocka_unit_test(r13_one_address_of_the_two_is_enough),
        cmocka_unit_test(r13_data_that_may_be_needed_is_not_given_up),
        cmocka_unit_test(r13_nobody_gets_two_replicas_of_a_shard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

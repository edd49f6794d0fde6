#include "metad/catalog.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CLUSTER 0xabcdefu

static struct catalog_answer apply(struct catalog *catalog, struct log_command command) {
    struct catalog_answer answer;
    assert_int_equal(catalog_apply(catalog, &command, &answer), SK_OK);
    return answer;
}

static void create_cluster(struct catalog *catalog, uint32_t shards, uint32_t expect_nodes) {
    catalog_init(catalog);
    struct log_command command = {.kind = COMMAND_INIT, .init = {CLUSTER, shards, 3, expect_nodes}};
    assert_int_equal(apply(catalog, command).err, SK_OK);
}

/* A start of the store whose id is all `store`, without a name and without claims. */
static struct log_command start_of(uint8_t store) {
    struct log_command command = {.kind = COMMAND_REGISTER_NODE, .register_node = {.lanes = 2}};
    memset(command.register_node.store_id, store, 16);
    (void)snprintf(command.register_node.host, MAP_ADDRESS_BYTES, "host%u", store);
    (void)snprintf(command.register_node.frames_address, MAP_ADDRESS_BYTES, "tcp://host%u:7200", store);
    (void)snprintf(command.register_node.replication_address, MAP_ADDRESS_BYTES, "tcp://host%u:7210", store);
    return command;
}

static struct log_command named_start_of(uint8_t store, const char *name) {
    struct log_command command = start_of(store);
    command.register_node.start_name_bytes = (uint32_t)strlen(name);
    memcpy(command.register_node.start_name, name, strlen(name));
    return command;
}

static struct catalog_answer place_all_on(struct catalog *catalog, uint64_t version, uint32_t shards,
                                          uint32_t replicas, const uint32_t *nodes) {
    uint32_t *placed = calloc((size_t)shards * replicas, sizeof *placed);
    for (uint32_t i = 0; i < shards * replicas; i++) placed[i] = nodes[i % replicas];
    struct log_command command = {.kind = COMMAND_CREATE_SHARDS,
                                  .create_shards = {version, shards, replicas, placed}};
    struct catalog_answer answer = apply(catalog, command);
    free(placed);
    return answer;
}

/* `shards` shards, each on nodes 1 to 3, led by node 1. */
static void create_replicated(struct catalog *catalog, uint32_t shards) {
    create_cluster(catalog, shards, 3);
    for (uint8_t store = 1; store <= 3; store++) (void)apply(catalog, start_of(store));
    assert_int_equal(place_all_on(catalog, catalog->version, shards, 3, (uint32_t[]){1, 2, 3}).err, SK_OK);
}

static void declare(struct catalog *catalog, uint32_t node, bool alive) {
    uint64_t incarnation = catalog_find_node(catalog, node)->map.incarnation;
    struct log_command command = {.kind = COMMAND_NODE_ALIVE, .node_alive = {node, incarnation, alive}};
    assert_int_equal(apply(catalog, command).err, SK_OK);
}

/* `answer.changes` is the caller's. */
static struct catalog_answer change(struct catalog *catalog, uint32_t node, struct shard_change *changes,
                                    uint32_t count) {
    uint64_t incarnation = catalog_find_node(catalog, node)->map.incarnation;
    struct log_command command = {.kind = COMMAND_CHANGE_SHARDS,
                                  .change_shards = {node, incarnation, count, changes}};
    return apply(catalog, command);
}

static void a_cluster_is_made_once(void **state) {
    (void)state;
    struct catalog catalog;
    catalog_init(&catalog);
    assert_int_equal(apply(&catalog, start_of(1)).err, SK_RETRY); /* not before there is one */
    assert_int_equal(catalog.version, 0);
    catalog_deinit(&catalog);
    create_cluster(&catalog, 64, 2);
    assert_true(catalog.cluster == CLUSTER);
    struct log_command again = {.kind = COMMAND_INIT, .init = {1, 8, 1, 1}};
    struct catalog_answer answer = apply(&catalog, again);
    assert_int_equal(answer.err, SK_CONFLICT);
    assert_string_equal(answer.text, "the cluster exists already: 0000000000abcdef");
    assert_int_equal(catalog.shards_wanted, 64);
    assert_int_equal(catalog.version, 1);
    catalog_deinit(&catalog);
}

static void nodes_get_ids_and_every_start_an_incarnation(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 1);
    struct catalog_answer first = apply(&catalog, start_of(1));
    struct catalog_answer second = apply(&catalog, start_of(2));
    struct catalog_answer again = apply(&catalog, start_of(1));
    assert_int_equal(first.err, SK_OK);
    assert_true(first.cluster == CLUSTER);
    assert_int_equal(first.node_id, 1);
    assert_int_equal(second.node_id, 2);
    assert_int_equal(again.node_id, 1);
    assert_int_equal(first.incarnation, 1);
    assert_int_equal(second.incarnation, 2);
    assert_int_equal(again.incarnation, 3);
    assert_int_equal(catalog.version, 4);
    assert_null(catalog_find_node(&catalog, 0));
    assert_null(catalog_find_node(&catalog, 3));
    assert_ptr_equal(catalog_find_store(&catalog, start_of(2).register_node.store_id),
                     catalog_find_node(&catalog, 2));
    assert_null(catalog_find_store(&catalog, start_of(9).register_node.store_id));
    catalog_deinit(&catalog);
}

static void a_repeated_registration_is_the_same_start(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 1);
    struct catalog_answer first = apply(&catalog, named_start_of(1, "a"));
    uint64_t version = catalog.version;
    struct catalog_answer repeat = apply(&catalog, named_start_of(1, "a"));
    assert_int_equal(repeat.incarnation, first.incarnation);
    assert_true(catalog.version == version); /* nothing has changed */

    /* The same start under another address: the map changes, the incarnation does not. */
    struct log_command moved = named_start_of(1, "a");
    (void)snprintf(moved.register_node.frames_address, MAP_ADDRESS_BYTES, "tcp://elsewhere:1");
    assert_int_equal(apply(&catalog, moved).incarnation, first.incarnation);
    assert_true(catalog.version == version + 1);
    assert_string_equal(catalog_find_node(&catalog, 1)->map.frames_address, "tcp://elsewhere:1");

    assert_int_equal(apply(&catalog, named_start_of(1, "b")).incarnation, first.incarnation + 1);
    assert_int_equal(apply(&catalog, named_start_of(2, "b")).incarnation,
                     first.incarnation + 2); /* another store */
    assert_int_equal(apply(&catalog, named_start_of(1, "bb")).incarnation, first.incarnation + 3);
    assert_int_equal(apply(&catalog, named_start_of(1, "b")).incarnation, first.incarnation + 4);
    catalog_deinit(&catalog);
}

static void stores_of_others_are_refused(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 1);
    (void)apply(&catalog, start_of(1));
    (void)apply(&catalog, start_of(2));
    uint64_t version = catalog.version;

    struct log_command command = start_of(1);
    command.register_node.cluster = 5;
    struct catalog_answer answer = apply(&catalog, command);
    assert_int_equal(answer.err, SK_CONFLICT);
    assert_string_equal(answer.text,
                        "the store belongs to cluster 0000000000000005, and this is cluster 0000000000abcdef");

    command = start_of(1);
    command.register_node.node_id = 2;
    answer = apply(&catalog, command);
    assert_int_equal(answer.err, SK_CONFLICT);
    assert_string_equal(answer.text, "the store says that it is node 2, but it is registered as node 1");

    command = start_of(3);
    command.register_node.node_id = 3;
    answer = apply(&catalog, command);
    assert_int_equal(answer.err, SK_CONFLICT);
    assert_string_equal(answer.text, "the store says that it is node 3, but this cluster does not know it");

    assert_true(catalog.version == version);
    assert_int_equal(catalog.node_count, 2);

    command = start_of(2); /* and what is right is not */
    command.register_node.node_id = 2;
    command.register_node.cluster = CLUSTER;
    assert_int_equal(apply(&catalog, command).err, SK_OK);
    catalog_deinit(&catalog);
}

static void a_node_needs_lanes_and_addresses(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 1);
    struct log_command command = start_of(1);
    command.register_node.lanes = 0;
    assert_int_equal(apply(&catalog, command).err, SK_BADREQUEST);
    command = start_of(1);
    command.register_node.frames_address[0] = 0;
    assert_int_equal(apply(&catalog, command).err, SK_BADREQUEST);
    command = start_of(1);
    command.register_node.replication_address[0] = 0;
    assert_int_equal(apply(&catalog, command).err, SK_BADREQUEST);
    assert_int_equal(catalog.node_count, 0);
    catalog_deinit(&catalog);
}

static void nodes_have_a_limit(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 1);
    for (uint32_t i = 0; i < MAP_NODES_MAX; i++) {
        struct log_command command = start_of(0);
        memcpy(command.register_node.store_id, &i, sizeof i);
        assert_int_equal(apply(&catalog, command).node_id, i + 1);
    }
    assert_int_equal(apply(&catalog, start_of(9)).err, SK_TOOLARGE);
    struct log_command known = start_of(0); /* one that is known may still come back */
    assert_int_equal(apply(&catalog, known).err, SK_OK);
    catalog_deinit(&catalog);
}

static void shards_are_wanted_when_enough_have_come(void **state) {
    (void)state;
    struct catalog catalog;
    catalog_init(&catalog);
    assert_false(catalog_wants_shards(&catalog)); /* there is no cluster */
    create_cluster(&catalog, 8, 2);
    assert_false(catalog_wants_shards(&catalog));
    (void)apply(&catalog, start_of(1));
    (void)apply(&catalog, start_of(1)); /* the same one again does not count */
    assert_false(catalog_wants_shards(&catalog));
    (void)apply(&catalog, start_of(2));
    assert_true(catalog_wants_shards(&catalog));
    assert_int_equal(place_all_on(&catalog, catalog.version, 8, 1, (uint32_t[]){1}).err, SK_OK);
    assert_false(catalog_wants_shards(&catalog));
    catalog_deinit(&catalog);
}

static void a_dead_node_does_not_count_among_the_expected(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 2);
    uint64_t incarnation = apply(&catalog, start_of(1)).incarnation;
    struct log_command dead = {.kind = COMMAND_NODE_ALIVE, .node_alive = {1, incarnation, false}};
    assert_int_equal(apply(&catalog, dead).err, SK_OK);
    (void)apply(&catalog, start_of(2));
    assert_false(catalog_wants_shards(&catalog));
    (void)apply(&catalog, start_of(3));
    assert_true(catalog_wants_shards(&catalog));
    catalog_deinit(&catalog);
}

static void shards_begin_in_epoch_1(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 3);
    for (uint8_t store = 1; store <= 3; store++) (void)apply(&catalog, start_of(store));
    uint64_t version = catalog.version;
    assert_int_equal(place_all_on(&catalog, version, 8, 3, (uint32_t[]){2, 3, 1}).err, SK_OK);
    assert_true(catalog.version == version + 1);
    assert_int_equal(catalog.shard_count, 8);
    for (uint32_t i = 0; i < 8; i++) {
        const struct map_shard *shard = &catalog.shards[i];
        assert_int_equal(shard->leader, 2);
        assert_int_equal(shard->leader_incarnation, catalog_find_node(&catalog, 2)->map.incarnation);
        assert_int_equal(shard->leader_epoch, 1);
        assert_int_equal(shard->config_version, 1);
        assert_int_equal(shard->min_isr, 2);
        assert_int_equal(shard->replica_count, 3);
        assert_int_equal(shard->isr_count, 3);
        assert_int_equal(shard->eligible_count, 0);
        for (uint32_t j = 0; j < 3; j++) {
            assert_int_equal(shard->replicas[j].replica_id, i * 3 + j + 1); /* unique for each stay */
            assert_int_equal(shard->isr[j], shard->replicas[j].node);
        }
    }
    catalog_deinit(&catalog);
}

static void a_placement_that_does_not_fit_is_refused(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 8, 1);
    (void)apply(&catalog, start_of(1));
    uint64_t version = catalog.version;
    assert_int_equal(place_all_on(&catalog, version - 1, 8, 1, (uint32_t[]){1}).err,
                     SK_CONFLICT); /* decided before */
    assert_int_equal(place_all_on(&catalog, version, 16, 1, (uint32_t[]){1}).err, SK_CONFLICT);
    assert_int_equal(place_all_on(&catalog, version, 8, 1, (uint32_t[]){2}).err, SK_CONFLICT); /* unknown */
    assert_int_equal(place_all_on(&catalog, version, 8, 1, (uint32_t[]){0}).err, SK_CONFLICT);
    assert_int_equal(place_all_on(&catalog, version, 8, 2, (uint32_t[]){1, 1}).err, SK_CONFLICT); /* twice */
    assert_true(catalog.version == version);
    assert_int_equal(catalog.shard_count, 0);
    assert_int_equal(place_all_on(&catalog, version, 8, 1, (uint32_t[]){1}).err, SK_OK);
    assert_int_equal(place_all_on(&catalog, version + 1, 8, 1, (uint32_t[]){1}).err, SK_CONFLICT); /* exist */
    catalog_deinit(&catalog);
}

/* R6: who restarted leads again only in a new epoch, and only under its new incarnation. */
static void r6_a_restart_begins_new_epochs(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 2);
    (void)apply(&catalog, named_start_of(1, "a"));
    (void)apply(&catalog, named_start_of(2, "a"));
    uint32_t placed[] = {1, 1, 2, 2};
    struct log_command create = {.kind = COMMAND_CREATE_SHARDS, .create_shards = {catalog.version, 4, 1, placed}};
    assert_int_equal(apply(&catalog, create).err, SK_OK);

    uint64_t incarnation = apply(&catalog, named_start_of(1, "b")).incarnation;
    for (uint32_t i = 0; i < 4; i++) {
        bool led = i < 2;
        assert_int_equal(catalog.shards[i].leader_epoch, led ? 2 : 1);
        assert_int_equal(catalog.shards[i].config_version, led ? 2 : 1);
        assert_true((catalog.shards[i].leader_incarnation == incarnation) == led);
        assert_int_equal(catalog.shards[i].leader, led ? 1 : 2);
        assert_int_equal(catalog.shards[i].isr_count, 1);
    }
    (void)apply(&catalog, named_start_of(1, "b")); /* a repeat is not a restart */
    assert_int_equal(catalog.shards[0].leader_epoch, 2);
    catalog_deinit(&catalog);
}

/* R13: an empty directory at an old address is another store, and leads nothing. */
static void r13_a_wiped_disk_is_a_new_node(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 1);
    (void)apply(&catalog, start_of(1));
    (void)place_all_on(&catalog, catalog.version, 4, 1, (uint32_t[]){1});
    struct log_command wiped = start_of(1);
    memset(wiped.register_node.store_id, 7, 16);
    assert_int_equal(apply(&catalog, wiped).node_id, 2);
    assert_int_equal(catalog.shards[0].leader, 1);
    assert_int_equal(catalog.shards[0].leader_epoch, 1);
    catalog_deinit(&catalog);
}

/* R18: each change of an array is applied or refused by itself. */
static void r18_changes_are_answered_one_by_one(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    uint64_t version = catalog.version;
    struct shard_change changes[] = {
        {.kind = SHARD_CHANGE_CLAIM, .shard = 0, .config_version = 1},
        {.kind = SHARD_CHANGE_CLAIM, .shard = 0, .config_version = 1}, /* the one before was first */
        {.kind = SHARD_CHANGE_CLAIM, .shard = 4, .config_version = 1}, /* no such shard */
        {.kind = SHARD_CHANGE_CLAIM, .shard = 3, .config_version = 7},
        {.kind = SHARD_CHANGE_CLAIM, .shard = 2, .config_version = 1},
    };
    struct catalog_answer answer = change(&catalog, 2, changes, 5);
    assert_int_equal(answer.err, SK_OK);
    assert_int_equal(answer.change_count, 5);
    const int errs[] = {SK_OK, SK_CONFLICT, SK_NOT_FOUND, SK_CONFLICT, SK_OK};
    const uint64_t versions[] = {2, 2, 0, 1, 2};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(answer.changes[i].err, errs[i]);
        assert_true(answer.changes[i].config_version == versions[i]);
        assert_int_equal(answer.changes[i].text == NULL, errs[i] == SK_OK);
    }
    catalog_answer_deinit(&answer);
    assert_true(catalog.version == version + 2);
    assert_int_equal(catalog.shards[0].leader, 2);
    assert_int_equal(catalog.shards[0].leader_incarnation, catalog_find_node(&catalog, 2)->map.incarnation);
    assert_int_equal(catalog.shards[1].leader, 1);
    assert_int_equal(catalog.shards[2].leader, 2);
    assert_int_equal(catalog.shards[2].leader_epoch, 2);

    answer = change(&catalog, 2, changes, 2); /* nothing of it is new: the map stays as it is */
    catalog_answer_deinit(&answer);
    assert_true(catalog.version == version + 2);
    catalog_deinit(&catalog);
}

/* R6: a process that has been replaced since it asked. */
static void r6_an_old_start_changes_nothing(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    uint64_t version = catalog.version;
    struct shard_change claim = {.kind = SHARD_CHANGE_CLAIM, .shard = 0, .config_version = 1};
    struct log_command command = {.kind = COMMAND_CHANGE_SHARDS, .change_shards = {2, 1, 1, &claim}};
    struct catalog_answer answer = apply(&catalog, command);
    assert_int_equal(answer.err, SK_CONFLICT);
    assert_string_equal(answer.text, "node 2 has started again");
    assert_null(answer.changes);
    command.change_shards.node_id = 9;
    assert_int_equal(apply(&catalog, command).err, SK_CONFLICT);
    assert_true(catalog.version == version);
    catalog_deinit(&catalog);
}

/* What is alive and which incarnation a node has comes from the catalog. */
static void changes_are_judged_by_the_nodes_of_the_catalog(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    struct shard_change claim = {.kind = SHARD_CHANGE_CLAIM, .shard = 0, .config_version = 1};
    declare(&catalog, 2, false);
    struct catalog_answer answer = change(&catalog, 2, &claim, 1);
    assert_int_equal(answer.changes[0].err, SK_UNAVAILABLE);
    catalog_answer_deinit(&answer);

    struct shard_change isr = {.kind = SHARD_CHANGE_ISR,
                               .shard = 0,
                               .config_version = 1,
                               .leader_epoch = 1,
                               .isr_count = 2,
                               .isr = {1, 2}};
    answer = change(&catalog, 1, &isr, 1);
    assert_int_equal(answer.changes[0].err, SK_OK);
    catalog_answer_deinit(&answer);
    isr.config_version = 2;
    isr.isr_count = 3;
    isr.isr[2] = 3;
    isr.incarnations[2] = catalog_find_node(&catalog, 3)->map.incarnation;
    (void)apply(&catalog, start_of(3)); /* R4: it has started again since it caught up */
    answer = change(&catalog, 1, &isr, 1);
    assert_int_equal(answer.changes[0].err, SK_CONFLICT);
    catalog_answer_deinit(&answer);
    isr.incarnations[2] = catalog_find_node(&catalog, 3)->map.incarnation;
    answer = change(&catalog, 1, &isr, 1);
    assert_int_equal(answer.changes[0].err, SK_OK);
    catalog_answer_deinit(&answer);
    catalog_deinit(&catalog);
}

static void a_leader_is_wished_for(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    uint64_t version = catalog.version;
    struct log_command wish = {.kind = COMMAND_WISH_LEADER, .wish_leader = {1, 1, 2, false}};
    struct catalog_answer answer = apply(&catalog, wish);
    assert_int_equal(answer.err, SK_OK);
    assert_int_equal(answer.config_version, 2);
    assert_int_equal(catalog.shards[1].wanted_leader, 2);
    assert_true(catalog.version == version + 1);
    answer = apply(&catalog, wish);
    assert_int_equal(answer.err, SK_CONFLICT);
    assert_string_equal(answer.text, "the record has changed since this was decided");
    wish.wish_leader.shard = 4;
    answer = apply(&catalog, wish);
    assert_int_equal(answer.err, SK_NOT_FOUND);
    assert_string_equal(answer.text, "there is no shard 4");
    assert_true(catalog.version == version + 1);
    assert_int_equal(catalog_find_shard(&catalog, 3)->wanted_leader, 0);
    assert_null(catalog_find_shard(&catalog, 4));
    catalog_deinit(&catalog);
}

/* R13, all the way: the wiped node is another one; its old self leaves the set, then its places are given to it. */
static void r13_the_places_of_a_wiped_node_are_given_to_the_new_one(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    assert_int_equal(catalog.last_replica_id, 12);
    declare(&catalog, 3, false);
    assert_int_equal(apply(&catalog, start_of(4)).node_id, 4);
    struct log_command replace = {.kind = COMMAND_REPLACE_REPLICA, .replace_replica = {2, 1, 3, 4}};
    assert_int_equal(apply(&catalog, replace).err, SK_CONFLICT); /* its data may be needed */
    struct shard_change isr = {.kind = SHARD_CHANGE_ISR,
                               .shard = 2,
                               .config_version = 1,
                               .leader_epoch = 1,
                               .isr_count = 2,
                               .isr = {1, 2}};
    struct catalog_answer answer = change(&catalog, 1, &isr, 1);
    assert_int_equal(answer.changes[0].err, SK_OK);
    catalog_answer_deinit(&answer);
    uint64_t version = catalog.version;
    replace.replace_replica.config_version = 2;
    replace.replace_replica.to = 5;
    assert_int_equal(apply(&catalog, replace).err, SK_NOT_FOUND);
    assert_int_equal(catalog.last_replica_id, 12);
    replace.replace_replica.to = 4;
    assert_int_equal(apply(&catalog, replace).err, SK_OK);
    assert_true(catalog.version == version + 1);
    assert_int_equal(catalog.last_replica_id, 13);
    assert_int_equal(catalog.shards[2].replicas[2].node, 4);
    assert_int_equal(catalog.shards[2].replicas[2].replica_id, 13);
    assert_int_equal(catalog.shards[2].isr_count, 2);
    replace.replace_replica.shard = 9;
    assert_int_equal(apply(&catalog, replace).err, SK_NOT_FOUND);
    catalog_deinit(&catalog);
}

/* R12: ids of stays that are over are never used again. */
static void r12_a_forced_leader_gets_new_stays_for_the_others(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    declare(&catalog, 1, false);
    struct log_command force = {.kind = COMMAND_FORCE_LEADER, .force_leader = {3, 1, 1}};
    assert_int_equal(apply(&catalog, force).err, SK_UNAVAILABLE);
    assert_int_equal(catalog.last_replica_id, 12);
    force.force_leader.node = 2;
    struct catalog_answer answer = apply(&catalog, force);
    assert_int_equal(answer.err, SK_OK);
    assert_int_equal(answer.config_version, 2);
    assert_int_equal(catalog.last_replica_id, 14);
    assert_int_equal(catalog.shards[3].leader, 2);
    assert_int_equal(catalog.shards[3].data_loss_generation, 1);
    assert_int_equal(catalog.shards[3].replicas[0].replica_id, 13);
    assert_int_equal(catalog.shards[3].replicas[1].replica_id, 11);
    assert_int_equal(catalog.shards[3].replicas[2].replica_id, 14);
    force.force_leader.shard = 4;
    assert_int_equal(apply(&catalog, force).err, SK_NOT_FOUND);
    catalog_deinit(&catalog);
}

/* R24 */
static void r24_a_rebuilt_replica_gets_a_new_stay(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    uint32_t leader = catalog.shards[3].leader, other = catalog.shards[3].replicas[1].node;
    struct shard_change changes[] = {
        {.kind = SHARD_CHANGE_REBUILD, .shard = 3, .config_version = 1, .node = other, .successor = other},
        {.kind = SHARD_CHANGE_REBUILD, .shard = 3, .config_version = 1, .node = other}};
    struct log_command command = {
        .kind = COMMAND_CHANGE_SHARDS,
        .change_shards = {leader, catalog_find_node(&catalog, leader)->map.incarnation, 2, changes}};
    uint64_t version = catalog.version;
    struct catalog_answer answer;
    assert_int_equal(catalog_apply(&catalog, &command, &answer), SK_OK);
    assert_int_equal(answer.changes[0].err, SK_BADREQUEST);
    assert_int_equal(answer.changes[1].err, SK_OK);
    assert_int_equal(answer.changes[1].config_version, 2);
    catalog_answer_deinit(&answer);
    assert_int_equal(catalog.last_replica_id, 13);
    assert_int_equal(catalog.shards[3].replicas[1].replica_id, 13);
    assert_int_equal(catalog.shards[3].isr_count, 2);
    assert_true(catalog.version == version + 1);
    catalog_deinit(&catalog);
}

static void verifying_is_wanted_in_generations(void **state) {
    (void)state;
    struct catalog catalog;
    struct log_command verify = {.kind = COMMAND_VERIFY};
    create_cluster(&catalog, 4, 1);
    assert_int_equal(apply(&catalog, verify).err, SK_UNAVAILABLE);
    assert_int_equal(catalog.verify_generation, 0);
    catalog_deinit(&catalog);
    create_replicated(&catalog, 4);
    uint64_t version = catalog.version;
    assert_int_equal(apply(&catalog, verify).verify_generation, 1);
    assert_int_equal(apply(&catalog, verify).verify_generation, 2);
    assert_true(catalog.version == version + 2);
    struct map *map;
    assert_int_equal(catalog_make_map(&catalog, &map), SK_OK);
    assert_int_equal(map->verify_generation, 2);
    map_unref(map);
    catalog_deinit(&catalog);
}

static void life_and_death_raise_the_version(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 1);
    uint64_t incarnation = apply(&catalog, start_of(1)).incarnation;
    uint64_t version = catalog.version;
    struct log_command dead = {.kind = COMMAND_NODE_ALIVE, .node_alive = {1, incarnation, false}};
    assert_int_equal(apply(&catalog, dead).err, SK_OK);
    assert_false(catalog_find_node(&catalog, 1)->map.alive);
    assert_true(catalog.version == version + 1);
    assert_int_equal(apply(&catalog, dead).err, SK_OK); /* said twice is said once */
    assert_true(catalog.version == version + 1);

    (void)apply(&catalog, start_of(1)); /* a start brings it back … */
    assert_true(catalog_find_node(&catalog, 1)->map.alive);
    assert_int_equal(apply(&catalog, dead).err,
                     SK_CONFLICT); /* … and what was decided about the old one is void */
    assert_true(catalog_find_node(&catalog, 1)->map.alive);
    dead.node_alive.node_id = 2;
    assert_int_equal(apply(&catalog, dead).err, SK_NOT_FOUND);
    catalog_deinit(&catalog);
}

/* The same start, declared dead, that registers again is alive. */
static void a_repeat_brings_a_dead_node_back(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 1);
    uint64_t incarnation = apply(&catalog, named_start_of(1, "a")).incarnation;
    struct log_command dead = {.kind = COMMAND_NODE_ALIVE, .node_alive = {1, incarnation, false}};
    (void)apply(&catalog, dead);
    assert_int_equal(apply(&catalog, named_start_of(1, "a")).incarnation, incarnation);
    assert_true(catalog_find_node(&catalog, 1)->map.alive);
    catalog_deinit(&catalog);
}

static void fill(struct catalog *catalog) {
    create_cluster(catalog, 16, 2);
    (void)apply(catalog, named_start_of(1, "start"));
    (void)apply(catalog, start_of(2));
    (void)place_all_on(catalog, catalog->version, 16, 2, (uint32_t[]){1, 2});
    struct log_command wish = {.kind = COMMAND_WISH_LEADER, .wish_leader = {5, 1, 2, false}};
    (void)apply(catalog, wish);
    (void)apply(catalog, (struct log_command){.kind = COMMAND_VERIFY});
    struct log_command dead = {.kind = COMMAND_NODE_ALIVE, .node_alive = {2, 2, false}};
    (void)apply(catalog, dead);
}

static void the_map_shows_the_catalog(void **state) {
    (void)state;
    struct catalog catalog;
    struct map *map;
    create_cluster(&catalog, 16, 2);
    assert_int_equal(catalog_make_map(&catalog, &map), SK_OK);
    assert_int_equal(map->shard_count, 0);
    assert_int_equal(map->node_count, 0);
    map_unref(map);
    catalog_deinit(&catalog);

    fill(&catalog);
    assert_int_equal(catalog_make_map(&catalog, &map), SK_OK);
    assert_true(map->version == catalog.version);
    assert_true(map->cluster == CLUSTER);
    assert_int_equal(map->shard_count, 16);
    assert_int_equal(map->node_count, 2);
    assert_true(map_find_node(map, 1)->alive);
    assert_false(map_find_node(map, 2)->alive);
    assert_string_equal(map_find_node(map, 2)->frames_address, "tcp://host2:7200");
    assert_int_equal(map->shards[15].leader, 1);
    assert_non_null(map_find_replica(&map->shards[15], 2));
    map_unref(map);
    catalog_deinit(&catalog);
}

static void assert_same(const struct catalog *a, const struct catalog *b) {
    struct buffer x, y;
    buffer_init(&x);
    buffer_init(&y);
    catalog_encode(a, &x);
    catalog_encode(b, &y);
    assert_false(x.failed);
    assert_int_equal(x.size % 8, 0);
    assert_true(slice_equal(buffer_slice(&x), buffer_slice(&y)));
    buffer_deinit(&x);
    buffer_deinit(&y);
}

static void a_snapshot_brings_all_of_it_back(void **state) {
    (void)state;
    struct catalog catalog, loaded;
    struct buffer bytes;
    buffer_init(&bytes);
    fill(&catalog);
    catalog_encode(&catalog, &bytes);
    create_cluster(&loaded, 4, 1);
    (void)apply(&loaded, start_of(8)); /* replaced */
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_OK);
    assert_same(&catalog, &loaded);
    assert_int_equal(loaded.shards[5].wanted_leader, 2);
    assert_int_equal(loaded.verify_generation, 1);
    /* Counters go on where they were, and a named start is still known. */
    assert_int_equal(apply(&loaded, named_start_of(1, "start")).incarnation, 1);
    assert_int_equal(apply(&loaded, start_of(3)).incarnation, 3);
    assert_int_equal(loaded.last_replica_id, 32);
    catalog_deinit(&catalog);
    catalog_deinit(&loaded);
    buffer_deinit(&bytes);

    buffer_init(&bytes); /* an empty one, too */
    catalog_init(&catalog);
    catalog_encode(&catalog, &bytes);
    catalog_init(&loaded);
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_OK);
    assert_same(&catalog, &loaded);
    catalog_deinit(&loaded);
    buffer_deinit(&bytes);
}

/* ---- moves and nodes ---- */

static struct catalog_answer move(struct catalog *catalog, uint32_t shard, enum command_move step, uint32_t from,
                                  uint32_t to) {
    const struct map_shard *record = catalog_find_shard(catalog, shard);
    uint64_t version = record == NULL ? 0 : record->config_version;
    struct log_command command = {.kind = COMMAND_MOVE_REPLICA, .move_replica = {shard, version, step, from, to}};
    return apply(catalog, command);
}

static struct catalog_answer change_node(struct catalog *catalog, uint32_t node, enum command_node change) {
    struct log_command command = {.kind = COMMAND_CHANGE_NODE, .change_node = {node, change}};
    return apply(catalog, command);
}

static void join(struct catalog *catalog, uint32_t shard, uint32_t newcomer) {
    const struct map_shard *record = catalog_find_shard(catalog, shard);
    struct shard_change isr = {.kind = SHARD_CHANGE_ISR,
                               .shard = shard,
                               .config_version = record->config_version,
                               .leader_epoch = record->leader_epoch};
    for (uint32_t i = 0; i <= record->isr_count; i++) {
        isr.isr[i] = i < record->isr_count ? record->isr[i] : newcomer;
        isr.incarnations[i] = catalog_find_node(catalog, isr.isr[i])->map.incarnation;
    }
    isr.isr_count = record->isr_count + 1;
    struct catalog_answer answer = change(catalog, record->leader, &isr, 1);
    assert_int_equal(answer.changes[0].err, SK_OK);
    catalog_answer_deinit(&answer);
}

static void move_all(struct catalog *catalog, uint32_t from, uint32_t to) {
    for (uint32_t shard = 0; shard < catalog->shard_count; shard++) {
        assert_int_equal(move(catalog, shard, COMMAND_MOVE_START, from, to).err, SK_OK);
        join(catalog, shard, to);
        assert_int_equal(move(catalog, shard, COMMAND_MOVE_FINISH, 0, 0).err, SK_OK);
    }
}

static void r19_a_replica_moves(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 4);
    (void)apply(&catalog, start_of(4));
    assert_int_equal(move(&catalog, 4, COMMAND_MOVE_START, 2, 4).err, SK_NOT_FOUND);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 2, 5).err, SK_NOT_FOUND);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_FINISH, 0, 0).err, SK_CONFLICT);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 0, 4).err,
                     SK_CONFLICT); /* it has 3, and 3 are wanted */
    uint64_t version = catalog.version, last_id = catalog.last_replica_id;
    struct catalog_answer answer = move(&catalog, 0, COMMAND_MOVE_START, 2, 4);
    assert_int_equal(answer.err, SK_OK);
    assert_true(answer.config_version == 2 && catalog.version == version + 1);
    assert_true(catalog.shards[0].replicas[3].replica_id == last_id + 1);
    assert_true(catalog.last_replica_id == last_id + 1);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 3, 4).err, SK_OK); /* another goes: no other stay */
    assert_true(catalog.last_replica_id == last_id + 1);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_CANCEL, 0, 0).err, SK_OK);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 2, 4).err, SK_OK);
    assert_true(catalog.shards[0].replicas[3].replica_id == last_id + 2); /* ids are never used again */
    join(&catalog, 0, 4);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_FINISH, 0, 0).err, SK_OK);
    assert_null(map_find_replica(&catalog.shards[0], 2));
    catalog_deinit(&catalog);
}

static void a_shard_grows_no_further_than_is_wanted(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 1);
    for (uint8_t store = 1; store <= 4; store++) (void)apply(&catalog, start_of(store));
    assert_int_equal(place_all_on(&catalog, catalog.version, 4, 1, (uint32_t[]){1}).err, SK_OK);
    for (uint32_t node = 2; node <= 3; node++) {
        assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 0, node).err, SK_OK);
        join(&catalog, 0, node);
        assert_int_equal(move(&catalog, 0, COMMAND_MOVE_FINISH, 0, 0).err, SK_OK);
    }
    assert_int_equal(catalog.shards[0].replica_count, 3);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 0, 4).err, SK_CONFLICT);
    catalog_deinit(&catalog);
}

static void a_node_is_drained_and_removed(void **state) {
    (void)state;
    struct catalog catalog;
    struct map *map;
    create_replicated(&catalog, 2);
    assert_int_equal(change_node(&catalog, 9, COMMAND_NODE_DRAIN).err, SK_NOT_FOUND);
    struct catalog_answer answer = change_node(&catalog, 3, COMMAND_NODE_DRAIN);
    assert_int_equal(answer.err, SK_UNAVAILABLE);
    assert_string_equal(answer.text, "shards have 3 replicas, and without node 3 only 2 nodes are there to have "
                                     "them: start another one first");
    (void)apply(&catalog, start_of(4));
    declare(&catalog, 4, false);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_UNAVAILABLE); /* it is dead */
    declare(&catalog, 4, true);
    answer = change_node(&catalog, 3, COMMAND_NODE_REMOVE);
    assert_int_equal(answer.err, SK_CONFLICT);
    assert_string_equal(answer.text, "node 3 is alive and has 2 replicas: drain it first");
    uint64_t version = catalog.version;
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK);
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_DRAINING);
    assert_true(catalog.version == version + 1);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK); /* again */
    assert_true(catalog.version == version + 1);
    assert_int_equal(change_node(&catalog, 4, COMMAND_NODE_DRAIN).err, SK_UNAVAILABLE); /* one drains already */
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 1, 3).err, SK_CONFLICT);     /* and gets nothing */

    move_all(&catalog, 3, 4);
    assert_int_equal(catalog_count_replicas(&catalog, 3), 0);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_REMOVE).err, SK_OK);
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_REMOVED);
    assert_false(catalog.nodes[2].map.alive);
    version = catalog.version;
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_REMOVE).err, SK_OK); /* again */
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_ADD).err, SK_CONFLICT);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_CONFLICT);
    assert_true(catalog.version == version);
    assert_int_equal(catalog_make_map(&catalog, &map), SK_OK); /* nobody else hears of it any more */
    assert_int_equal(map->node_count, 3);
    assert_null(map_find_node(map, 3));
    assert_int_equal(map_find_node(map, 4)->id, 4);
    map_unref(map);
    catalog_deinit(&catalog);
}

/* What is under way is not judged again: the drain goes on when others have come. */
static void a_drain_that_is_asked_for_again_goes_on(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 2);
    (void)apply(&catalog, start_of(4));
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK);
    declare(&catalog, 4, false);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK);
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_DRAINING);
    catalog_deinit(&catalog);
}

static void a_drain_needs_nodes_for_the_largest_shard(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 1);
    for (uint8_t store = 1; store <= 2; store++) (void)apply(&catalog, start_of(store));
    assert_int_equal(place_all_on(&catalog, catalog.version, 4, 1, (uint32_t[]){1}).err, SK_OK);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 0, 2).err, SK_OK);
    join(&catalog, 0, 2);
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_FINISH, 0, 0).err, SK_OK);
    struct catalog_answer answer = change_node(&catalog, 2, COMMAND_NODE_DRAIN);
    assert_int_equal(answer.err, SK_UNAVAILABLE);
    assert_string_equal(answer.text, "shards have 2 replicas, and without node 2 only 1 nodes are there to have "
                                     "them: start another one first");
    catalog_deinit(&catalog);

    create_replicated(&catalog, 2); /* one that comes takes the place of one that goes */
    (void)apply(&catalog, start_of(4));
    assert_int_equal(move(&catalog, 0, COMMAND_MOVE_START, 2, 4).err, SK_OK);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK);
    catalog_deinit(&catalog);
}

/* A lost disk was replaced, and nobody has missed the old store yet: both are the same one node that could have more. */
static void a_node_whose_disk_was_replaced_counts_once(void **state) {
    (void)state;
    for (int same_frames = 0; same_frames <= 1; same_frames++) { /* either address is enough to know it by */
        struct catalog catalog;
        create_replicated(&catalog, 2);
        struct log_command again = start_of(4);
        char *address = same_frames ? again.register_node.frames_address : again.register_node.replication_address;
        (void)snprintf(address, MAP_ADDRESS_BYTES, same_frames ? "tcp://host2:7200" : "tcp://host2:7210");
        (void)apply(&catalog, again);
        assert_true(catalog.nodes[1].map.alive);
        assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_UNAVAILABLE);
        (void)apply(&catalog, start_of(5));
        assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK);

        assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_ADD).err, SK_OK); /* the new store goes again */
        assert_int_equal(change_node(&catalog, 4, COMMAND_NODE_REMOVE).err, SK_OK);
        assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK);
        catalog_deinit(&catalog);
    }
}

static void the_store_of_a_removed_node_is_refused(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 1);
    for (uint8_t store = 1; store <= 2; store++) (void)apply(&catalog, start_of(store));
    assert_int_equal(change_node(&catalog, 2, COMMAND_NODE_REMOVE).err, SK_OK); /* it never had anything */
    struct catalog_answer answer = apply(&catalog, start_of(2));
    assert_int_equal(answer.err, SK_REMOVED);
    assert_string_equal(answer.text, "the store is that of node 2, which was removed for ever; with an empty data "
                                     "directory it joins as a new node");
    uint64_t incarnation = catalog.nodes[1].map.incarnation;
    struct log_command alive = {.kind = COMMAND_NODE_ALIVE, .node_alive = {2, incarnation, true}};
    assert_int_equal(apply(&catalog, alive).err, SK_CONFLICT);
    assert_int_equal(apply(&catalog, start_of(3)).node_id, 3); /* ids are never used again */
    catalog_deinit(&catalog);
}

static void a_drain_is_cancelled(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 2);
    (void)apply(&catalog, start_of(4));
    uint64_t version = catalog.version;
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_ADD).err, SK_OK);
    assert_true(catalog.version == version); /* it is a member */
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_OK);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_ADD).err, SK_OK);
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_MEMBER);
    catalog_deinit(&catalog);
}

static void a_dead_node_is_removed_when_its_replicas_have_gone(void **state) {
    (void)state;
    struct catalog catalog;
    create_replicated(&catalog, 2);
    declare(&catalog, 3, false);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_REMOVE).err,
                     SK_OK); /* also if nobody can take them yet */
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_REMOVING);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_REMOVE).err, SK_OK);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_DRAIN).err, SK_CONFLICT);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_ADD).err, SK_OK); /* it has been found again */
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_REMOVE).err, SK_OK);
    assert_int_equal(apply(&catalog, start_of(3)).node_id,
                     3); /* it comes back, and helps as long as it has anything */
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_REMOVE).err, SK_OK);
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_REMOVING);
    (void)apply(&catalog, start_of(4));
    move_all(&catalog, 3, 4);
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_REMOVING);
    assert_int_equal(change_node(&catalog, 3, COMMAND_NODE_REMOVE).err, SK_OK);
    assert_int_equal(catalog.nodes[2].map.state, MAP_NODE_REMOVED);
    catalog_deinit(&catalog);
}

static void only_members_count_for_the_first_shards(void **state) {
    (void)state;
    struct catalog catalog;
    create_cluster(&catalog, 4, 2);
    for (uint8_t store = 1; store <= 2; store++) (void)apply(&catalog, start_of(store));
    assert_true(catalog_wants_shards(&catalog));
    assert_int_equal(change_node(&catalog, 2, COMMAND_NODE_DRAIN).err, SK_OK);
    assert_false(catalog_wants_shards(&catalog));
    catalog_deinit(&catalog);
}

static void a_snapshot_knows_moves_and_removed_nodes(void **state) {
    (void)state;
    struct catalog catalog, loaded;
    struct buffer bytes;
    buffer_init(&bytes);
    create_replicated(&catalog, 2);
    for (uint8_t store = 4; store <= 6; store++) (void)apply(&catalog, start_of(store));
    assert_int_equal(move(&catalog, 1, COMMAND_MOVE_START, 2, 4).err, SK_OK);
    assert_int_equal(change_node(&catalog, 5, COMMAND_NODE_REMOVE).err, SK_OK);
    assert_int_equal(change_node(&catalog, 2, COMMAND_NODE_DRAIN).err, SK_OK);
    catalog_encode(&catalog, &bytes);
    catalog_init(&loaded);
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_OK);
    assert_same(&catalog, &loaded);
    assert_true(loaded.shards[1].move_from == 2 && loaded.shards[1].move_to == 4);
    assert_int_equal(loaded.nodes[4].map.state, MAP_NODE_REMOVED);
    assert_int_equal(loaded.nodes[1].map.state, MAP_NODE_DRAINING);
    assert_int_equal(apply(&loaded, start_of(5)).err, SK_REMOVED);
    catalog_deinit(&catalog);
    catalog_deinit(&loaded);
    buffer_deinit(&bytes);
}

/* Of before wanted_leader and what came after it: everything else is the same. */
static void a_snapshot_of_the_format_before_is_read(void **state) {
    (void)state;
    struct catalog catalog, loaded;
    struct buffer bytes;
    buffer_init(&bytes);
    fill(&catalog);
    catalog_encode(&catalog, &bytes);
    uint8_t *name = memmem(bytes.data, bytes.size, "wanted_leader", 13);
    assert_non_null(name);
    while (name != NULL) { /* a key that is not known */
        name[0] = 'W';
        name = memmem(bytes.data, bytes.size, "wanted_leader", 13);
    }
    name = memmem(bytes.data, bytes.size, "verify_generation", 17);
    assert_non_null(name);
    name[0] = 'V';
    bytes.data[1] = 1;
    catalog_init(&loaded);
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_OK);
    catalog.shards[5].wanted_leader = 0;
    catalog.verify_generation = 0;
    assert_same(&catalog, &loaded);
    catalog_deinit(&catalog);
    catalog_deinit(&loaded);
    buffer_deinit(&bytes);
}

/* A record that no change can have made is damage. */
static void a_snapshot_with_an_unsound_record_is_refused(void **state) {
    (void)state;
    struct catalog catalog, loaded;
    struct buffer bytes;
    buffer_init(&bytes);
    fill(&catalog);
    catalog.shards[3].isr_count = 1;
    catalog.shards[3].isr[0] = 2; /* and node 1 leads */
    catalog_encode(&catalog, &bytes);
    catalog_init(&loaded);
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_EPROTO);
    catalog_deinit(&catalog);
    catalog_deinit(&loaded);
    buffer_deinit(&bytes);
}

static void a_damaged_snapshot_changes_nothing(void **state) {
    (void)state;
    struct catalog catalog, loaded;
    struct buffer bytes;
    buffer_init(&bytes);
    fill(&catalog);
    catalog_encode(&catalog, &bytes);
    create_cluster(&loaded, 4, 1);
    size_t content = bytes.size;
    while (bytes.data[content - 1] == 0) content--;
    for (size_t cut = 0; cut + 8 < content; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, bytes.data, cut);
        assert_int_equal(catalog_decode(&loaded, slice_of(exact, cut)), SK_EPROTO);
        free(exact);
    }
    buffer_append(&bytes, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_EPROTO);
    bytes.data[1] = 0; /* the format */
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_EPROTO);
    bytes.data[1] = 4;
    assert_int_equal(catalog_decode(&loaded, buffer_slice(&bytes)), SK_EVERSION);
    assert_int_equal(loaded.version, 1);
    assert_int_equal(loaded.shards_wanted, 4);
    catalog_deinit(&catalog);
    catalog_deinit(&loaded);
    buffer_deinit(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_is_made_once),
        cmocka_unit_test(nodes_get_ids_and_every_start_an_incarnation),
        cmocka_unit_test(a_repeated_registration_is_the_same_start),
        cmocka_unit_test(stores_of_others_are_refused),
        cmocka_unit_test(a_node_needs_lanes_and_addresses),
        cmocka_unit_test(nodes_have_a_limit),
        cmocka_unit_test(shards_are_wanted_when_enough_have_come),
        cmocka_unit_test(a_dead_node_does_not_count_among_the_expected),
        cmocka_unit_test(shards_begin_in_epoch_1),
        cmocka_unit_test(a_placement_that_does_not_fit_is_refused),
        cmocka_unit_test(r6_a_restart_begins_new_epochs),
        cmocka_unit_test(r13_a_wiped_disk_is_a_new_node),
        cmocka_unit_test(r18_changes_are_answered_one_by_one),
        cmocka_unit_test(r6_an_old_start_changes_nothing),
        cmocka_unit_test(changes_are_judged_by_the_nodes_of_the_catalog),
        cmocka_unit_test(a_leader_is_wished_for),
        cmocka_unit_test(r13_the_places_of_a_wiped_node_are_given_to_the_new_one),
        cmocka_unit_test(r12_a_forced_leader_gets_new_stays_for_the_others),
        cmocka_unit_test(r24_a_rebuilt_replica_gets_a_new_stay),
        cmocka_unit_test(verifying_is_wanted_in_generations),
        cmocka_unit_test(life_and_death_raise_the_version),
        cmocka_unit_test(a_repeat_brings_a_dead_node_back),
        cmocka_unit_test(the_map_shows_the_catalog),
        cmocka_unit_test(a_snapshot_brings_all_of_it_back),
        cmocka_unit_test(r19_a_replica_moves),
        cmocka_unit_test(a_shard_grows_no_further_than_is_wanted),
        cmocka_unit_test(a_node_is_drained_and_removed),
        cmocka_unit_test(a_drain_that_is_asked_for_again_goes_on),
        cmocka_unit_test(a_drain_needs_nodes_for_the_largest_shard),
        cmocka_unit_test(a_node_whose_disk_was_replaced_counts_once),
        cmocka_unit_test(the_store_of_a_removed_node_is_refused),
        cmocka_unit_test(a_drain_is_cancelled),
        cmocka_unit_test(a_dead_node_is_removed_when_its_replicas_have_gone),
        cmocka_unit_test(only_members_count_for_the_first_shards),
        cmocka_unit_test(a_snapshot_knows_moves_and_removed_nodes),
        cmocka_unit_test(a_snapshot_of_the_format_before_is_read),
        cmocka_unit_test(a_snapshot_with_an_unsound_record_is_refused),
        cmocka_unit_test(a_damaged_snapshot_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

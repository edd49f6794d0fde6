/* Stories in virtual time: a catalog that changes by its commands, watched each 100 ms. */
#include "metad/balance.h"

#include "libcommon/error.h"
#include "metad/placement.h"
#include "metad/shard_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NODES  3u
#define SHARDS 16u
#define STEP   100u

static struct catalog catalog;
static struct balance balance;
static uint64_t now_ms;

static int apply(struct log_command command) {
    struct catalog_answer answer;
    assert_int_equal(catalog_apply(&catalog, &command, &answer), SK_OK);
    int err = answer.err;
    if (err == SK_OK && answer.change_count > 0) err = answer.changes[0].err;
    catalog_answer_deinit(&answer);
    return err;
}

static void start_node(uint8_t store) {
    struct log_command command = {.kind = COMMAND_REGISTER_NODE, .register_node = {.lanes = 1}};
    memset(command.register_node.store_id, store, 16);
    (void)snprintf(command.register_node.frames_address, MAP_ADDRESS_BYTES, "tcp://host%u:1", store);
    (void)snprintf(command.register_node.replication_address, MAP_ADDRESS_BYTES, "tcp://host%u:2", store);
    assert_int_equal(apply(command), SK_OK);
}

/* Three nodes, 16 shards on all of them, as placement spreads them. */
static int set_up(void **state) {
    (void)state;
    now_ms = 1000000;
    catalog_init(&catalog);
    balance_init(&balance, now_ms);
    assert_int_equal(apply((struct log_command){.kind = COMMAND_INIT, .init = {1, SHARDS, NODES, NODES}}), SK_OK);
    for (uint8_t store = 1; store <= NODES; store++) start_node(store);
    uint32_t ids[NODES] = {1, 2, 3}, placed[SHARDS * NODES];
    placement_initial(ids, NODES, SHARDS, NODES, placed);
    assert_int_equal(apply((struct log_command){.kind = COMMAND_CREATE_SHARDS,
                                                .create_shards = {catalog.version, SHARDS, NODES, placed}}),
                     SK_OK);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    catalog_deinit(&catalog);
    return 0;
}

static void declare(uint32_t node, bool alive) {
    uint64_t incarnation = catalog_find_node(&catalog, node)->map.incarnation;
    assert_int_equal(
        apply((struct log_command){.kind = COMMAND_NODE_ALIVE, .node_alive = {node, incarnation, alive}}), SK_OK);
}

static void change(uint32_t node, struct shard_change wanted) {
    const struct map_shard *shard = &catalog.shards[wanted.shard];
    wanted.config_version = shard->config_version;
    wanted.leader_epoch = shard->leader_epoch;
    uint64_t incarnation = catalog_find_node(&catalog, node)->map.incarnation;
    assert_int_equal(apply((struct log_command){.kind = COMMAND_CHANGE_SHARDS,
                                                .change_shards = {node, incarnation, 1, &wanted}}),
                     SK_OK);
}

static void claim(uint32_t node, uint32_t shard) {
    change(node, (struct shard_change){.kind = SHARD_CHANGE_CLAIM, .shard = shard});
}

/* The leader takes everybody into the isr. */
static void fill_isr(uint32_t shard) {
    const struct map_shard *record = &catalog.shards[shard];
    struct shard_change isr = {.kind = SHARD_CHANGE_ISR, .shard = shard};
    for (uint32_t i = 0; i < record->replica_count; i++) {
        isr.isr[i] = record->replicas[i].node;
        isr.incarnations[i] = catalog_find_node(&catalog, isr.isr[i])->map.incarnation;
        isr.isr_count++;
    }
    change(record->leader, isr);
}

static void hand_over(uint32_t shard) {
    const struct map_shard *record = &catalog.shards[shard];
    change(record->leader,
           (struct shard_change){.kind = SHARD_CHANGE_HANDOVER, .shard = shard, .node = record->wanted_leader});
}

static void give_up(uint32_t shard) {
    change(catalog.shards[shard].leader,
           (struct shard_change){.kind = SHARD_CHANGE_HANDOVER_GIVEN_UP, .shard = shard});
}

/* Time passes, watched. */
static void pass(uint64_t ms) {
    for (uint64_t until_ms = now_ms + ms; now_ms < until_ms;) {
        now_ms += STEP;
        balance_watch(&balance, &catalog, now_ms);
    }
}

/* Proposes what is chosen, and has it applied. False = nothing is. */
static bool act(struct balance_wish *wish) {
    if (!balance_choose(&balance, &catalog, now_ms, wish)) return false;
    assert_int_equal(
        apply((struct log_command){.kind = COMMAND_WISH_LEADER,
                                   .wish_leader = {wish->shard, wish->config_version, wish->node, false}}),
        SK_OK);
    balance_watch_shard(&balance, &catalog, wish->shard, now_ms);
    return true;
}

/* Time passes until something is chosen, which is then done; how long that took. */
static uint64_t act_when_due(struct balance_wish *wish, uint64_t most_ms) {
    uint64_t start_ms = now_ms;
    while (!act(wish)) {
        assert_true(now_ms - start_ms <= most_ms);
        pass(STEP);
    }
    return now_ms - start_ms;
}

static void assert_quiet(uint64_t ms) {
    struct balance_wish wish;
    for (uint64_t until_ms = now_ms + ms; now_ms < until_ms;) {
        assert_false(balance_choose(&balance, &catalog, now_ms, &wish));
        pass(STEP);
    }
}

static uint64_t incarnation_of(uint32_t node) { return catalog_find_node(&catalog, node)->map.incarnation; }

static void leaders_in_their_places_are_left_there(void **state) {
    (void)state;
    assert_quiet(60000);
}

static void a_returned_leader_gets_its_shards_back(void **state) {
    (void)state;
    struct balance_wish wish;
    assert_int_equal(catalog.shards[0].replicas[0].node, 1);
    pass(60000);
    declare(1, false);
    claim(2, 0);
    declare(1, true);
    assert_quiet(60000); /* alive, and not in sync */
    fill_isr(0);
    assert_in_range(act_when_due(&wish, 6000), BALANCE_READY_MS, BALANCE_READY_MS + 2 * STEP);
    assert_int_equal(wish.shard, 0);
    assert_int_equal(wish.node, 1);
    hand_over(0);
    assert_int_equal(catalog.shards[0].leader, 1);
    assert_quiet(60000);
}

/* What was seen of it before it was gone proves nothing. */
static void readiness_begins_anew(void **state) {
    (void)state;
    struct balance_wish wish;
    claim(2, 0);
    fill_isr(0);
    pass(4000);
    declare(1, false);
    pass(STEP);
    declare(1, true);
    assert_quiet(4000);
    start_node(1); /* its process, too: within one look */
    assert_quiet(4900);
    (void)act_when_due(&wish, 1000);
    assert_int_equal(wish.node, 1);
}

static void a_stall_of_metad_is_no_time(void **state) {
    (void)state;
    struct balance_wish wish;
    claim(2, 0);
    fill_isr(0);
    pass(STEP);
    now_ms += 10000; /* stopped */
    balance_watch(&balance, &catalog, now_ms);
    assert_quiet(4900);
    assert_true(act_when_due(&wish, 1000) > 0);
}

static void few_at_a_time(void **state) {
    (void)state;
    struct balance_wish wish;
    uint32_t of_node_1 = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        if (catalog.shards[shard].replicas[0].node != 1) continue;
        claim(2, shard);
        fill_isr(shard);
        of_node_1++;
    }
    assert_int_equal(of_node_1, 6);
    pass(BALANCE_READY_MS + STEP);
    assert_true(act(&wish));
    uint32_t first = wish.shard;
    assert_true(act(&wish));
    assert_int_not_equal(wish.shard, first);
    assert_false(act(&wish)); /* two are open */
    hand_over(first);
    pass(STEP);
    assert_true(act(&wish));
    assert_int_not_equal(wish.shard, first);
}

/* Node 2 has come to lead shard 0, and is asked to hand it back to node 1. */
static void make_wish(struct balance_wish *wish) {
    claim(2, 0);
    fill_isr(0);
    pass(STEP);
    (void)act_when_due(wish, 6000);
}

static void r18_a_wish_that_is_not_fulfilled_is_withdrawn(void **state) {
    (void)state;
    struct balance_wish wish;
    claim(2, 0);
    fill_isr(0);
    pass(STEP);
    assert_true(act_when_due(&wish, 6000) > 0);
    assert_int_equal(act_when_due(&wish, 6000), BALANCE_WISH_MS); /* the leader does not answer */
    assert_int_equal(wish.shard, 0);
    assert_int_equal(wish.node, 0);
    assert_int_equal(catalog.shards[0].wanted_leader, 0);
    assert_quiet(BALANCE_ALONE_MS - STEP);
    (void)act_when_due(&wish, 2 * STEP); /* and once more */
    assert_int_equal(wish.node, 1);
}

/* Between two looks, even. */
static void r18_a_leader_that_gives_up_is_left_alone(void **state) {
    (void)state;
    struct balance_wish wish;
    make_wish(&wish);
    give_up(0);
    pass(STEP);
    assert_quiet(BALANCE_ALONE_MS - STEP);
    (void)act_when_due(&wish, 2 * STEP);
    assert_int_equal(wish.node, 1);
}

/* metad does not look between the leader's word and the next choice. */
static void r18_a_wish_is_not_made_again_before_its_end_was_looked_at(void **state) {
    (void)state;
    struct balance_wish wish;
    make_wish(&wish);
    give_up(0);
    assert_false(balance_choose(&balance, &catalog, now_ms + 20, &wish));
    pass(STEP);
    assert_quiet(BALANCE_ALONE_MS - STEP);
}

/* It will not lead any more when that would be done. */
static void a_wish_for_one_that_is_about_to_end_is_withdrawn(void **state) {
    (void)state;
    struct balance_wish wish;
    make_wish(&wish);
    assert_int_equal(wish.node, 1);
    balance_note_leaving(&balance, 1, incarnation_of(1));
    assert_true(act(&wish));
    assert_int_equal(wish.shard, 0);
    assert_int_equal(wish.node, 0);
}

static void a_dead_leader_is_not_asked(void **state) {
    (void)state;
    struct balance_wish wish;
    claim(2, 0);
    fill_isr(0);
    declare(2, false);
    assert_quiet(20000);
    declare(2, true);
    pass(STEP);
    assert_true(act(&wish));
}

/* Its leaders are spread over the others as long as it is gone. */
static void the_next_alive_one_stands_in(void **state) {
    (void)state;
    struct balance_wish wish;
    uint32_t leads[NODES + 1] = {0};
    declare(1, false);
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        if (catalog.shards[shard].leader == 1) claim(2, shard); /* all by the same one */
    }
    for (int round = 0; round < 100; round++) {
        pass(STEP);
        if (act(&wish)) hand_over(wish.shard);
    }
    for (uint32_t shard = 0; shard < SHARDS; shard++) leads[catalog.shards[shard].leader]++;
    assert_int_equal(leads[1], 0);
    assert_int_equal(leads[2], 8);
    assert_int_equal(leads[3], 8);
}

/* A person's wish, and the ones that are there when a metad begins to lead. */
/* ---- R19: the leader's replica moves to a fourth node ---- */

static void start_move(uint32_t shard, uint32_t from, uint32_t to) {
    uint64_t version = catalog.shards[shard].config_version;
    assert_int_equal(apply((struct log_command){.kind = COMMAND_MOVE_REPLICA,
                                                .move_replica = {shard, version, COMMAND_MOVE_START, from, to}}),
                     SK_OK);
}

static void r19_a_leader_that_is_to_go_hands_over_at_once(void **state) {
    (void)state;
    struct balance_wish wish;
    start_node(4);
    start_move(0, 1, 4);
    assert_quiet(60000); /* 4 has not joined */
    fill_isr(0);
    pass(STEP);
    assert_true(act(&wish));
    assert_int_equal(wish.node, 4); /* it stands first when 1 has gone */
    hand_over(0);
    assert_quiet(60000);
    uint64_t version = catalog.shards[0].config_version;
    assert_int_equal(apply((struct log_command){.kind = COMMAND_MOVE_REPLICA,
                                                .move_replica = {0, version, COMMAND_MOVE_FINISH, 0, 0}}),
                     SK_OK);
    assert_quiet(60000);
}

/* 3 leads and is to go; 1, which should lead, is not in sync, and 4 has come. */
static void r19_anybody_is_better_than_who_has_to_go(void **state) {
    (void)state;
    struct balance_wish wish;
    claim(3, 0);
    start_node(4);
    start_move(0, 3, 4);
    struct shard_change isr = {.kind = SHARD_CHANGE_ISR, .shard = 0, .isr_count = 3, .isr = {2, 3, 4}};
    isr.incarnations[2] = catalog_find_node(&catalog, 4)->map.incarnation;
    change(3, isr);
    pass(STEP);
    assert_true(act(&wish));
    assert_true(wish.node == 2 || wish.node == 4);
}

static uint32_t count_led(uint32_t node) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < SHARDS; i++) count += catalog.shards[i].leader == node;
    return count;
}

/* All that it leads at once, some at a time, and to none that is about to end as well. */
static void a_node_that_ends_hands_over_what_it_leads(void **state) {
    (void)state;
    struct balance_wish wish;
    uint32_t open = 0;
    pass(STEP);
    balance_note_leaving(&balance, 1, incarnation_of(1));
    balance_note_leaving(&balance, 2, incarnation_of(2) + 1); /* of another start: nothing to it */
    pass(STEP);
    while (act(&wish)) {
        assert_int_equal(catalog.shards[wish.shard].leader, 1);
        assert_int_not_equal(wish.node, 1);
        open++;
    }
    assert_int_equal(open, count_led(1) < BALANCE_LEAVING_MAX ? count_led(1) : BALANCE_LEAVING_MAX);
    for (uint32_t i = 0; i < SHARDS; i++) {
        if (catalog.shards[i].wanted_leader != 0) hand_over(i);
    }
    pass(STEP);
    assert_int_equal(count_led(1), 0);
    assert_quiet(BALANCE_READY_MS + STEP); /* they do not come back to it */
    balance_note_leaving(&balance, 2, incarnation_of(2));
    pass(STEP);
    while (act(&wish)) {
        assert_int_equal(wish.node, 3);
        hand_over(wish.shard);
        pass(STEP);
    }
    assert_int_equal(count_led(3), SHARDS);
    balance_note_leaving(&balance, 3, incarnation_of(3)); /* and now there is nobody */
    assert_quiet(BALANCE_READY_MS + STEP);
}

static void a_node_that_has_started_again_is_not_about_to_end(void **state) {
    (void)state;
    struct balance_wish wish;
    balance_note_leaving(&balance, 1, incarnation_of(1));
    start_node(1);
    pass(STEP);
    assert_false(act(&wish));
}

static void any_open_wish_ends(void **state) {
    (void)state;
    struct balance_wish wish;
    struct log_command by_person = {.kind = COMMAND_WISH_LEADER, .wish_leader = {0, 1, 3, true}};
    assert_int_equal(apply(by_person), SK_OK);
    balance_init(&balance, now_ms);
    pass(STEP);
    assert_int_equal(act_when_due(&wish, 6000), BALANCE_WISH_MS);
    assert_int_equal(wish.node, 0);
}

/* Whatever happened to the record since it was looked at. */
static void a_wish_is_about_the_record_as_it_is(void **state) {
    (void)state;
    struct balance_wish wish;
    claim(2, 0);
    fill_isr(0);
    pass(BALANCE_READY_MS + STEP);
    claim(3, 0);
    fill_isr(0);
    assert_true(balance_choose(&balance, &catalog, now_ms, &wish));
    assert_true(wish.config_version == catalog.shards[0].config_version);
    declare(1, false);
    assert_false(balance_choose(&balance, &catalog, now_ms, &wish));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leaders_in_their_places_are_left_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_returned_leader_gets_its_shards_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readiness_begins_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stall_of_metad_is_no_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(few_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(r18_a_wish_that_is_not_fulfilled_is_withdrawn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(r18_a_leader_that_gives_up_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(r18_a_wish_is_not_made_again_before_its_end_was_looked_at, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_wish_for_one_that_is_about_to_end_is_withdrawn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dead_leader_is_not_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_next_alive_one_stands_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(r19_a_leader_that_is_to_go_hands_over_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(r19_anybody_is_better_than_who_has_to_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_that_ends_hands_over_what_it_leads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_that_has_started_again_is_not_about_to_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_open_wish_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wish_is_about_the_record_as_it_is, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

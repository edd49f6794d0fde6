/* Stories in virtual time: a catalog that changes by its commands, watched each 100 ms. The rest of the cluster does what it
 * has to: new replicas join, leaders hand over. */
#include "metad/moves.h"

#include "libcommon/error.h"
#include "metad/balance.h"
#include "metad/placement.h"
#include "metad/shard_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define WATCH_MS 100u
#define DEAD_MS  600000u

static struct catalog catalog;
static struct moves moves;
static uint64_t now_ms;
static struct moves_step step;

/* ---- the catalog ---- */

static int apply(struct log_command command) {
    struct catalog_answer answer;
    assert_int_equal(catalog_apply(&catalog, &command, &answer), SK_OK);
    int err = answer.err;
    if (err == SK_OK && answer.change_count > 0) err = answer.changes[0].err;
    catalog_answer_deinit(&answer);
    return err;
}

static void start_node_at(uint32_t store, uint32_t host) {
    struct log_command command = {.kind = COMMAND_REGISTER_NODE, .register_node = {.lanes = 1}};
    memcpy(command.register_node.store_id, &store, sizeof store);
    (void)snprintf(command.register_node.frames_address, MAP_ADDRESS_BYTES, "tcp://host%u:1", host);
    (void)snprintf(command.register_node.replication_address, MAP_ADDRESS_BYTES, "tcp://host%u:2", host);
    assert_int_equal(apply(command), SK_OK);
}

static void start_node(uint32_t store) { start_node_at(store, store); }

/* `count` nodes, the first `holders` of which have all the shards. */
static void make_cluster(uint32_t count, uint32_t holders, uint32_t shards, uint32_t replicas, uint32_t wanted) {
    uint32_t ids[MAP_NODES_MAX];
    uint32_t *placed = calloc((size_t)shards * replicas, sizeof *placed);
    now_ms = 1000000;
    catalog_deinit(&catalog);
    catalog_init(&catalog);
    moves_init(&moves, 1, DEAD_MS, now_ms);
    assert_int_equal(apply((struct log_command){.kind = COMMAND_INIT, .init = {1, shards, wanted, 1}}), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = i + 1;
        start_node(i + 1);
    }
    placement_initial(ids, holders, shards, replicas, placed);
    assert_int_equal(apply((struct log_command){.kind = COMMAND_CREATE_SHARDS,
                                                .create_shards = {catalog.version, shards, replicas, placed}}),
                     SK_OK);
    free(placed);
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

static void change_node(uint32_t node, enum command_node change) {
    assert_int_equal(apply((struct log_command){.kind = COMMAND_CHANGE_NODE, .change_node = {node, change}}),
                     SK_OK);
}

static bool is_alive(uint32_t node) { return catalog_find_node(&catalog, node)->map.alive; }

static void change(uint32_t node, struct shard_change wanted) {
    const struct map_shard *shard = &catalog.shards[wanted.shard];
    wanted.config_version = shard->config_version;
    wanted.leader_epoch = shard->leader_epoch;
    uint64_t incarnation = catalog_find_node(&catalog, node)->map.incarnation;
    assert_int_equal(apply((struct log_command){.kind = COMMAND_CHANGE_SHARDS,
                                                .change_shards = {node, incarnation, 1, &wanted}}),
                     SK_OK);
}

/* ---- what the nodes do ---- */

/* A shard whose leader is dead gets another one, whoever of the isr is alive first. */
static void elect(uint32_t shard) {
    const struct map_shard *record = &catalog.shards[shard];
    for (uint32_t i = 0; i < record->isr_count && !is_alive(record->leader); i++) {
        if (!is_alive(record->isr[i])) continue;
        change(record->isr[i], (struct shard_change){.kind = SHARD_CHANGE_CLAIM, .shard = shard});
    }
}

/* Everybody who is alive is in the isr, and the others are not as far as may be. */
static void fill_isr(uint32_t shard) {
    const struct map_shard *record = &catalog.shards[shard];
    struct shard_change isr = {.kind = SHARD_CHANGE_ISR, .shard = shard};
    bool same = true;
    elect(shard);
    for (uint32_t pass = 0; pass < 2; pass++) { /* those that are dead stay if they must */
        for (uint32_t i = 0; i < record->replica_count; i++) {
            uint32_t node = record->replicas[i].node;
            bool in = map_in_isr(record, node);
            bool wanted = pass == 0 ? is_alive(node) : !is_alive(node) && in && isr.isr_count < record->min_isr;
            if (!wanted) continue;
            isr.isr[isr.isr_count] = node;
            isr.incarnations[isr.isr_count++] = catalog_find_node(&catalog, node)->map.incarnation;
            same = same && in;
        }
    }
    if (is_alive(record->leader) && (!same || isr.isr_count != record->isr_count)) change(record->leader, isr);
}

static void hand_over_to(uint32_t shard, uint32_t node) {
    change(catalog.shards[shard].leader,
           (struct shard_change){.kind = SHARD_CHANGE_HANDOVER, .shard = shard, .node = node});
}

/* New replicas join at once, and a leader that has to go hands over to the one that came. */
static void let_nodes_act(void) {
    for (uint32_t i = 0; i < catalog.shard_count; i++) {
        const struct map_shard *shard = &catalog.shards[i];
        fill_isr(i);
        bool goes = shard->move_from != 0 && shard->leader == shard->move_from;
        if (goes && map_in_isr(shard, shard->move_to)) hand_over_to(i, shard->move_to);
        if (shard->wanted_leader != 0) hand_over_to(i, shard->wanted_leader);
    }
}

/* ---- time ---- */

static void pass(uint64_t ms) {
    for (uint64_t until_ms = now_ms + ms; now_ms < until_ms;) {
        now_ms += WATCH_MS;
        moves_watch(&moves, &catalog, now_ms);
    }
}

/* Whether there is a step; into `step`. */
static bool choose(void) { return moves_choose(&moves, &catalog, now_ms, &step); }

static void obey(void) {
    struct log_command command = {
        .kind = COMMAND_MOVE_REPLICA,
        .move_replica = {
            .shard = step.shard, .config_version = step.config_version, .from = step.from, .to = step.to}};
    if (step.kind == MOVES_FINISH) command.move_replica.step = COMMAND_MOVE_FINISH;
    if (step.kind == MOVES_CANCEL) command.move_replica.step = COMMAND_MOVE_CANCEL;
    if (step.kind == MOVES_PREFER) {
        command = (struct log_command){.kind = COMMAND_WISH_LEADER,
                                       .wish_leader = {step.shard, step.config_version, step.to, true}};
    }
    assert_int_equal(apply(command), SK_OK);
}

static void assert_quiet(uint64_t ms) {
    for (uint64_t until_ms = now_ms + ms; now_ms < until_ms;) {
        assert_false(choose());
        pass(WATCH_MS);
    }
}

/* Until a step is there; how long that took. */
static uint64_t wait_for_step(uint64_t most_ms) {
    uint64_t start_ms = now_ms;
    while (!choose()) {
        assert_true(now_ms - start_ms <= most_ms);
        pass(WATCH_MS);
    }
    return now_ms - start_ms;
}

static void assert_step(enum moves_kind kind, uint32_t shard, uint32_t from, uint32_t to) {
    assert_true(choose());
    assert_int_equal(step.kind, kind);
    assert_int_equal(step.shard, shard);
    assert_int_equal(step.from, from);
    assert_int_equal(step.to, to);
}

/* Until nothing is to be done any more; how many replicas have moved. */
static uint32_t settle(uint32_t most_steps) {
    uint32_t starts = 0;
    for (uint32_t steps = 0;; steps++) {
        let_nodes_act();
        pass(WATCH_MS);
        if (!choose()) break;
        assert_true(steps <= most_steps);
        starts += step.kind == MOVES_START;
        obey();
    }
    assert_quiet(60000);
    return starts;
}

/* ---- what has become of it ---- */

static uint32_t count_firsts(uint32_t node) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < catalog.shard_count; i++) count += catalog.shards[i].replicas[0].node == node;
    return count;
}

static void assert_even_among_takers(uint32_t (*count)(uint32_t node)) {
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t id = 1; id <= catalog.node_count; id++) {
        const struct map_node *node = &catalog_find_node(&catalog, id)->map;
        if (!node->alive || node->state != MAP_NODE_MEMBER) continue;
        uint32_t has = count(id);
        if (has < least) least = has;
        if (has > most) most = has;
    }
    assert_true(most <= least + 1);
}

static uint32_t count_replicas(uint32_t node) { return catalog_count_replicas(&catalog, node); }

static void assert_settled(uint32_t replicas) {
    assert_even_among_takers(count_replicas);
    assert_even_among_takers(count_firsts);
    for (uint32_t i = 0; i < catalog.shard_count; i++) {
        assert_int_equal(catalog.shards[i].replica_count, replicas);
        assert_int_equal(catalog.shards[i].min_isr, placement_min_isr(replicas));
        assert_int_equal(catalog.shards[i].move_to, 0);
    }
}

/* ---- stories ---- */

/* As it is placed at first it is nearly even. */
static void a_new_cluster_is_left_alone(void **state) {
    (void)state;
    for (uint32_t nodes = 1; nodes <= 7; nodes++) {
        for (uint32_t replicas = 1; replicas <= 3 && replicas <= nodes; replicas++) {
            make_cluster(nodes, nodes, 64, replicas, replicas);
            assert_true(settle(10) <= 2);
            assert_settled(replicas);
        }
    }
}

/* Three nodes become five and three again, and no replica moves without need. */
static void a_cluster_grows_and_shrinks(void **state) {
    (void)state;
    make_cluster(3, 3, 64, 3, 3);
    assert_int_equal(settle(0), 0);
    start_node(4);
    assert_int_equal(settle(200), 48); /* 64 × 3 / 4 */
    assert_settled(3);
    start_node(5);
    assert_in_range(settle(200), 38, 39);
    assert_settled(3);
    change_node(4, COMMAND_NODE_DRAIN);
    assert_true(choose());
    (void)settle(300);
    assert_int_equal(count_replicas(4), 0);
    change_node(1, COMMAND_NODE_DRAIN);
    (void)settle(300);
    assert_int_equal(count_replicas(1), 0);
    assert_settled(3);
}

/* Followers of what a node leads are spread: when it dies, its work is. */
static void followers_stay_spread(void **state) {
    (void)state;
    make_cluster(3, 3, 64, 3, 3);
    for (uint32_t store = 4; store <= 6; store++) start_node(store);
    (void)settle(400);
    assert_settled(3);
    for (uint32_t leader = 1; leader <= 6; leader++) {
        uint32_t followed[7] = {0};
        for (uint32_t i = 0; i < catalog.shard_count; i++) {
            const struct map_shard *shard = &catalog.shards[i];
            if (shard->replicas[0].node != leader) continue;
            for (uint32_t j = 1; j < shard->replica_count; j++) followed[shard->replicas[j].node]++;
        }
        for (uint32_t node = 1; node <= 6; node++) {
            if (node != leader) assert_in_range(followed[node], 1, 9); /* 64 / 6 × 2 / 5 = 4.3 */
        }
    }
}

static void a_shard_gets_the_replicas_that_are_wanted(void **state) {
    (void)state;
    make_cluster(1, 1, 16, 1, 3);
    assert_quiet(60000);
    start_node(2);
    (void)settle(200);
    assert_settled(2);
    start_node(3);
    (void)settle(200);
    assert_settled(3);
    start_node(4);
    (void)settle(200);
    assert_settled(3);
}

/* It gets the replicas of the store that it has come for, and not others in their place: metad may not know yet that the old
 * one is dead. */
static void r13_an_heir_waits_for_what_it_inherits(void **state) {
    (void)state;
    make_cluster(3, 3, 16, 3, 3);
    start_node_at(4, 3);
    assert_quiet(60000);
}

/* It got one of a shard before metad knew that its predecessor, which has one too, is dead: that one will not be taken over,
 * and goes at once. */
static void r13_what_an_heir_cannot_take_over_goes_to_others(void **state) {
    (void)state;
    make_cluster(4, 4, 16, 3, 3);
    uint32_t had = count_replicas(3), taken = 0;
    start_node_at(5, 3);
    change_node(4, COMMAND_NODE_DRAIN);
    (void)settle(100);
    declare(3, false);
    let_nodes_act();
    for (uint32_t i = 0; i < catalog.shard_count; i++) {
        taken +=
            map_find_replica(&catalog.shards[i], 3) == NULL || map_find_replica(&catalog.shards[i], 5) == NULL;
    }
    assert_in_range(taken, 1, 15);
    (void)settle(100);
    assert_int_equal(count_replicas(3), had - (16 - taken)); /* the others are its heir's, by another way */
    for (uint32_t i = 0; i < catalog.shard_count; i++) {
        const struct map_shard *shard = &catalog.shards[i];
        assert_true(map_find_replica(shard, 3) == NULL || map_find_replica(shard, 5) == NULL);
    }
}

/* However uneven it is what a person makes of it, they get to its end; then it becomes even again. */
static void what_a_person_wishes_stands_for_a_while(void **state) {
    (void)state;
    make_cluster(3, 3, 16, 3, 3);
    (void)settle(100);
    for (uint32_t shard = 0; shard < 16; shard++) {
        if (catalog.shards[shard].replicas[0].node == 1) continue;
        moves_note_wish(&moves, now_ms);
        struct log_command wish = {.kind = COMMAND_WISH_LEADER,
                                   .wish_leader = {shard, catalog.shards[shard].config_version, 1, true}};
        assert_int_equal(apply(wish), SK_OK);
        let_nodes_act();
        assert_quiet(MOVES_WISHED_MS - 2 * WATCH_MS);
    }
    assert_int_equal(count_firsts(1), 16);
    pass(2 * WATCH_MS);
    (void)settle(100);
    assert_settled(3);
}

static void a_node_that_is_dead_for_long_loses_its_replicas(void **state) {
    (void)state;
    make_cluster(4, 4, 16, 3, 3);
    pass(WATCH_MS);
    uint32_t had = count_replicas(4);
    declare(4, false);
    let_nodes_act();
    pass(WATCH_MS);
    pass(400000);
    assert_false(choose());
    declare(4, true); /* a moment: what was before does not count */
    pass(WATCH_MS);
    declare(4, false);
    assert_in_range(wait_for_step(DEAD_MS + 1000), DEAD_MS - 1000, DEAD_MS + 1000);
    assert_int_equal(step.kind, MOVES_START);
    assert_int_equal(step.from, 4);
    assert_int_equal(settle(100), had);
    assert_int_equal(count_replicas(4), 0);
    assert_settled(3);
    declare(4, true); /* it comes back, and gets its share again */
    assert_int_equal(settle(100), had);
    assert_settled(3);
}

static void r21_nobody_is_dead_for_long_before_that_was_seen(void **state) {
    (void)state;
    make_cluster(4, 4, 16, 3, 3);
    declare(4, false);
    let_nodes_act();
    pass(DEAD_MS - 1000);
    moves_init(&moves, 1, DEAD_MS, now_ms); /* metad has another leader */
    pass(DEAD_MS - 1000);
    assert_false(choose());
    now_ms += DEAD_MS; /* this process stood still */
    moves_watch(&moves, &catalog, now_ms);
    assert_in_range(wait_for_step(DEAD_MS), DEAD_MS - WATCH_MS, DEAD_MS);
}

static void a_dead_node_that_is_removed_loses_its_replicas_at_once(void **state) {
    (void)state;
    make_cluster(4, 4, 16, 3, 3);
    declare(4, false);
    let_nodes_act();
    pass(1000);
    assert_false(choose());
    change_node(4, COMMAND_NODE_REMOVE);
    (void)settle(100);
    assert_int_equal(count_replicas(4), 0);
    change_node(4, COMMAND_NODE_REMOVE);
    assert_int_equal(catalog_find_node(&catalog, 4)->map.state, MAP_NODE_REMOVED);
}

/* What is lost comes before what is drained, and that before the spread. */
static void the_worst_comes_first(void **state) {
    (void)state;
    make_cluster(6, 5, 16, 3, 3);
    change_node(2, COMMAND_NODE_DRAIN);
    declare(3, false);
    let_nodes_act();
    pass(WATCH_MS);
    change_node(3, COMMAND_NODE_REMOVE);
    assert_true(choose());
    assert_int_equal(step.from, 3);
    declare(3, true);
    change_node(3, COMMAND_NODE_ADD);
    let_nodes_act();
    pass(WATCH_MS);
    assert_true(choose());
    assert_int_equal(step.from, 2);
    change_node(2, COMMAND_NODE_ADD);
    assert_true(choose());
    assert_int_equal(step.to, 6);
}

static void one_shard_moves_at_a_time(void **state) {
    (void)state;
    make_cluster(4, 3, 16, 3, 3);
    pass(WATCH_MS);
    assert_true(choose());
    obey();
    assert_quiet(60000);
    moves.open_max = 2;
    assert_true(choose());
    obey();
    assert_quiet(60000);
}

static void a_move_waits_for_those_that_stay(void **state) {
    (void)state;
    make_cluster(4, 3, 1, 3, 3);
    change_node(3, COMMAND_NODE_DRAIN);
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, 3, 4);
    obey();
    change(1, (struct shard_change){.kind = SHARD_CHANGE_ISR, /* 4 is in, and 2 is a little behind */
                                    .shard = 0,
                                    .isr_count = 3,
                                    .isr = {1, 3, 4},
                                    .incarnations = {1, 3, 4}});
    assert_in_range(wait_for_step(MOVES_SETTLE_MS + 1000), MOVES_SETTLE_MS, MOVES_SETTLE_MS + 1000);
    assert_step(MOVES_FINISH, 0, 0, 0);
    fill_isr(0);
    pass(WATCH_MS);
    assert_step(MOVES_FINISH, 0, 0, 0);
}

/* The only shard's replica on `node` is to go, and the one on `to` has joined. */
static void drain_until_joined(uint32_t node, uint32_t to) {
    change_node(node, COMMAND_NODE_DRAIN);
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, node, to);
    obey();
    fill_isr(0);
}

/* The other follower has just died: with it the in-sync set would be large enough, and nothing could be written. */
static void a_move_does_not_count_on_the_dead(void **state) {
    (void)state;
    make_cluster(4, 3, 1, 3, 3);
    drain_until_joined(3, 4);
    declare(2, false);
    declare(4, false);
    pass(MOVES_SETTLE_MS);
    assert_false(choose());
    declare(4, true);
    pass(WATCH_MS);
    assert_step(MOVES_FINISH, 0, 0, 0);
}

static void a_move_to_a_node_that_dies_is_cancelled(void **state) {
    (void)state;
    make_cluster(5, 3, 1, 3, 3);
    change_node(3, COMMAND_NODE_DRAIN);
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, 3, 4);
    obey();
    pass(1000);
    declare(4, false);
    pass(MOVES_AWAY_MS / 2);
    assert_false(choose());
    declare(4, true);
    pass(WATCH_MS);
    declare(4, false);
    assert_in_range(wait_for_step(MOVES_AWAY_MS + 1000), MOVES_AWAY_MS, MOVES_AWAY_MS + 1000);
    assert_step(MOVES_CANCEL, 0, 0, 0);
    obey();
    pass(WATCH_MS);
    assert_in_range(wait_for_step(MOVES_ALONE_MS + 1000), MOVES_ALONE_MS - 1000, MOVES_ALONE_MS + 1000); /* R18 */
    assert_step(MOVES_START, 0, 3, 5);
}

static void a_move_to_a_node_that_is_drained_is_cancelled(void **state) {
    (void)state;
    make_cluster(5, 3, 1, 3, 3);
    change_node(3, COMMAND_NODE_DRAIN);
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, 3, 4);
    obey();
    change_node(4, COMMAND_NODE_DRAIN);
    assert_step(MOVES_CANCEL, 0, 0, 0);
    let_nodes_act(); /* but once it is in sync the move is done first */
    pass(WATCH_MS);
    assert_step(MOVES_FINISH, 0, 0, 0);
    obey();
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, 4, 5);
}

static void a_move_of_which_nothing_comes_is_cancelled(void **state) {
    (void)state;
    make_cluster(4, 3, 1, 3, 3);
    change_node(3, COMMAND_NODE_DRAIN);
    pass(WATCH_MS);
    assert_true(choose());
    obey();
    pass(MOVES_IDLE_MS / 2);
    moves_note_received(&moves, 4, 1, now_ms); /* a snapshot comes */
    pass(MOVES_IDLE_MS / 2 + 1000);
    moves_note_received(&moves, 4, 1, now_ms); /* and stops */
    assert_in_range(wait_for_step(MOVES_IDLE_MS + 1000), MOVES_IDLE_MS / 2 - 2000, MOVES_IDLE_MS / 2);
    assert_step(MOVES_CANCEL, 0, 0, 0);
    let_nodes_act();
    pass(WATCH_MS);
    assert_step(MOVES_FINISH, 0, 0, 0); /* it has joined in the last moment */
}

/* The one that goes leads, and does not hand over. The one that came has its time anew when it leaves the set. */
static void a_move_that_waits_for_its_leader_is_not_idle(void **state) {
    (void)state;
    make_cluster(5, 3, 1, 3, 3);
    drain_until_joined(1, 4);
    assert_quiet(2 * MOVES_IDLE_MS);
    change(1, (struct shard_change){.kind = SHARD_CHANGE_RETIRE, .shard = 0, .node = 4});
    pass(WATCH_MS);
    assert_in_range(wait_for_step(MOVES_IDLE_MS + 1000), MOVES_IDLE_MS - 1000, MOVES_IDLE_MS + 1000);
    assert_step(MOVES_CANCEL, 0, 0, 0);
}

/* R21: while this process stands still it does not see what comes. */
static void a_move_is_not_idle_while_nobody_watches(void **state) {
    (void)state;
    make_cluster(4, 3, 1, 3, 3);
    change_node(3, COMMAND_NODE_DRAIN);
    pass(WATCH_MS);
    assert_true(choose());
    obey();
    pass(WATCH_MS);
    now_ms += MOVES_IDLE_MS;
    pass(WATCH_MS);
    assert_false(choose());
}

/* Shard 0 has lost its leader when the new replica had joined: nothing can be done before somebody is back. */
static void a_move_that_hangs_holds_up_no_others(void **state) {
    (void)state;
    make_cluster(8, 3, 2, 3, 3);
    const struct map_node *others[] = {&catalog_find_node(&catalog, 5)->map, &catalog_find_node(&catalog, 6)->map,
                                       &catalog_find_node(&catalog, 7)->map};
    shard_record_start(&catalog.shards[1], others, 3, 100);
    drain_until_joined(3, 4);
    pass(WATCH_MS);
    change(1, (struct shard_change){.kind = SHARD_CHANGE_ISR, /* 3 is a little behind */
                                    .shard = 0,
                                    .isr_count = 3,
                                    .isr = {1, 2, 4},
                                    .incarnations = {1, 2, 4}});
    declare(1, false), declare(2, false), declare(4, false), declare(7, false);
    fill_isr(1);
    change_node(7, COMMAND_NODE_REMOVE);
    pass(WATCH_MS);
    assert_in_range(wait_for_step(MOVES_IDLE_MS), MOVES_IDLE_MS - 1000, MOVES_IDLE_MS);
    assert_step(MOVES_START, 1, 7, 8);
    declare(1, true); /* and then it goes on */
    declare(2, true);
    pass(WATCH_MS);
    assert_step(MOVES_FINISH, 0, 0, 0);
}

/* 1 is drained to 4; 2 and 3 die, and only 1 and 4 are in sync. When 2 is lost for good, it goes instead of 1. */
static void a_move_that_cannot_finish_rids_the_shard_of_who_is_lost(void **state) {
    (void)state;
    make_cluster(5, 3, 1, 3, 3);
    drain_until_joined(1, 4);
    declare(2, false);
    declare(3, false);
    fill_isr(0);
    assert_int_equal(catalog.shards[0].isr_count, 2);
    hand_over_to(0, 4);
    pass(60000);
    assert_false(choose());
    change_node(2, COMMAND_NODE_REMOVE);
    assert_step(MOVES_START, 0, 2, 4);
    obey();
    pass(WATCH_MS);
    assert_step(MOVES_FINISH, 0, 0, 0);
    obey();
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, 1, 5); /* and then 1, again */
}

/* A shard that grows needs more in sync from then on: not while one of those that would be needed is dead. */
static void a_shard_does_not_grow_onto_the_dead(void **state) {
    (void)state;
    make_cluster(2, 1, 1, 1, 2);
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, 0, 2);
    obey();
    fill_isr(0);
    declare(2, false);
    pass(MOVES_SETTLE_MS);
    assert_false(choose());
    declare(2, true);
    pass(WATCH_MS);
    assert_step(MOVES_FINISH, 0, 0, 0);
}

/* 2 and 3 die when 4 has joined: two in sync are too few for four replicas. The one that is lost goes instead. */
static void a_shard_that_cannot_grow_gets_rid_of_who_is_lost(void **state) {
    (void)state;
    make_cluster(6, 3, 1, 3, 4);
    pass(WATCH_MS);
    assert_step(MOVES_START, 0, 0, 4);
    obey();
    fill_isr(0);
    declare(2, false);
    declare(3, false);
    fill_isr(0);
    pass(60000);
    assert_false(choose());
    change_node(2, COMMAND_NODE_REMOVE);
    assert_step(MOVES_START, 0, 2, 4);
    (void)settle(100);
    change_node(3, COMMAND_NODE_REMOVE);
    (void)settle(100);
    assert_settled(4);
}

/* 3 is drained to 4, which has joined; then all but 1 die, and 4 last, so that 1 cannot do without it. 3 is in no set, so it
 * can go, and others get what is lost: nothing that was acknowledged is. */
static void a_move_ends_when_all_but_one_are_lost(void **state) {
    (void)state;
    make_cluster(6, 3, 1, 3, 3);
    drain_until_joined(3, 4);
    declare(2, false);
    declare(3, false);
    fill_isr(0);
    declare(4, false);
    assert_in_range(wait_for_step(MOVES_AWAY_MS + 1000), MOVES_AWAY_MS, MOVES_AWAY_MS + 1000);
    assert_step(MOVES_FINISH, 0, 0, 0);
    obey();
    (void)wait_for_step(DEAD_MS);
    assert_step(MOVES_START, 0, 2, 5);
    (void)settle(100);
    assert_int_equal(catalog.shards[0].data_loss_generation, 0);
    assert_settled(3);
}

/* The same, and the only one left is the one that came; the one that goes may have what was committed. */
static void a_move_ends_when_only_the_one_that_came_is_left(void **state) {
    (void)state;
    make_cluster(6, 3, 1, 3, 3);
    drain_until_joined(3, 4);
    hand_over_to(0, 4);
    declare(1, false);
    declare(2, false);
    fill_isr(0);
    declare(3, false);
    assert_quiet(60000);
    change_node(1, COMMAND_NODE_REMOVE);
    assert_step(MOVES_START, 0, 1, 4);
    obey();
    (void)wait_for_step(MOVES_SETTLE_MS + 1000);
    assert_step(MOVES_FINISH, 0, 0, 0);
    change_node(2, COMMAND_NODE_REMOVE);
    (void)settle(100);
    assert_int_equal(catalog.shards[0].data_loss_generation, 0);
    assert_settled(3);
}

/* R12: a person makes the one that came lead, alone. */
static void r12_a_move_ends_under_a_forced_leader(void **state) {
    (void)state;
    make_cluster(6, 3, 1, 3, 3);
    drain_until_joined(1, 4);
    for (uint32_t node = 1; node <= 3; node++) declare(node, false);
    assert_int_equal(apply((struct log_command){.kind = COMMAND_FORCE_LEADER,
                                                .force_leader = {0, catalog.shards[0].config_version, 4}}),
                     SK_OK);
    for (uint32_t node = 1; node <= 3; node++) change_node(node, COMMAND_NODE_REMOVE);
    pass(MOVES_AWAY_MS + WATCH_MS);
    (void)settle(100);
    assert_settled(3);
}

static void a_shard_without_a_leader_is_not_moved(void **state) {
    (void)state;
    make_cluster(4, 3, 1, 3, 3);
    change_node(3, COMMAND_NODE_DRAIN);
    declare(1, false);
    pass(WATCH_MS);
    assert_false(choose());
    elect(0);
    assert_step(MOVES_START, 0, 3, 4);
}

/* Nodes 1 and 2 share shards, 2 and 3 do, 1 and 3 do not: places are passed on by way of 2. */
static void first_places_are_passed_on(void **state) {
    (void)state;
    make_cluster(3, 3, 8, 1, 2);
    struct map_shard *shards = catalog.shards;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t a = i < 4 ? 1 : 2, b = i < 4 ? 2 : 3;
        shard_record_start(&shards[i],
                           (const struct map_node *[]){&catalog_find_node(&catalog, a)->map,
                                                       &catalog_find_node(&catalog, b)->map},
                           2, 100 + 2 * i);
    }
    assert_int_equal(count_firsts(3), 0);
    (void)settle(100);
    assert_settled(2);
}

/* A few hand-overs at a time, whoever wants them. */
static void first_places_are_passed_on_slowly(void **state) {
    (void)state;
    make_cluster(1, 1, 8, 1, 2);
    start_node(2);
    for (uint32_t i = 0; i < 8; i++) {
        pass(WATCH_MS);
        assert_true(choose());
        obey();
        fill_isr(i);
        pass(WATCH_MS);
        assert_true(choose());
        obey();
    }
    for (uint32_t i = 0; i < BALANCE_WISHES_MAX; i++) {
        assert_true(choose());
        assert_int_equal(step.kind, MOVES_PREFER);
        obey();
    }
    assert_quiet(60000);
    let_nodes_act();
    assert_true(choose());
}

/* What a person has chosen is not what is changed first. */
static void what_was_changed_last_stays(void **state) {
    (void)state;
    make_cluster(2, 2, 8, 2, 2);
    assert_int_equal(count_firsts(1), 4);
    assert_int_equal(apply((struct log_command){.kind = COMMAND_WISH_LEADER, .wish_leader = {5, 1, 1, true}}),
                     SK_OK);
    hand_over_to(5, 1);
    pass(WATCH_MS);
    assert_true(choose());
    assert_int_equal(step.kind, MOVES_PREFER);
    assert_int_not_equal(step.shard, 5);
    (void)settle(10);
    assert_int_equal(catalog.shards[5].replicas[0].node, 1);
}

static uint32_t roll(uint32_t below) {
    static uint32_t random = 815;
    random = random * 1664525u + 1013904223u;
    return (random >> 8) % below;
}

/* Any number of nodes, shards on some of them without any order, some of them draining or dead. */
static void make_random_cluster(void) {
    uint32_t nodes = 1 + roll(9), replicas = 1 + roll(nodes < 4 ? nodes : 4), shards = 1u << roll(7);
    make_cluster(nodes, nodes, shards, replicas, replicas + roll(2));
    for (uint32_t i = 0; i < shards; i++) {
        const struct map_node *placed[MAP_REPLICAS_MAX];
        uint32_t order[9], at = 0, from = roll(3) == 0 ? nodes : replicas; /* often all on few */
        for (uint32_t j = 0; j < nodes; j++) order[j] = j + 1;
        for (uint32_t j = 0; j < replicas; j++) {
            uint32_t other = j + roll(from > j ? from - j : 1), kept = order[j];
            order[j] = order[other];
            order[other] = kept;
            placed[at++] = &catalog_find_node(&catalog, order[j])->map;
        }
        shard_record_start(&catalog.shards[i], placed, replicas, 1000 + i * MAP_REPLICAS_MAX);
    }
    catalog.last_replica_id = 1000 + shards * MAP_REPLICAS_MAX;
    for (uint32_t id = 1; id <= nodes; id++) {
        struct log_command drain = {.kind = COMMAND_CHANGE_NODE, .change_node = {id, COMMAND_NODE_DRAIN}};
        if (roll(5) == 0) (void)apply(drain);
    }
}

/* From whatever there is, it comes to rest within what has to move, and all is even then. */
static void it_comes_to_rest(void **state) {
    (void)state;
    for (uint32_t round = 0; round < 1500; round++) {
        make_random_cluster();
        uint32_t takers = 0, wanted = catalog.replicas_wanted;
        for (uint32_t id = 1; id <= catalog.node_count; id++) {
            takers += catalog_find_node(&catalog, id)->map.state == MAP_NODE_MEMBER;
        }
        if (wanted > takers) wanted = takers;
        if (wanted < catalog.shards[0].replica_count) wanted = catalog.shards[0].replica_count;
        moves.open_max = 1 + roll(3);
        uint32_t all = catalog.shard_count * wanted;
        assert_true(settle(100 + 40 * all) <= 2 * all);
        assert_settled(wanted);
        for (uint32_t id = 1; id <= catalog.node_count; id++) {
            if (catalog_find_node(&catalog, id)->map.state == MAP_NODE_DRAINING)
                assert_int_equal(count_replicas(id), 0);
        }
    }
}

/* ---- anything may happen ---- */

/* What nodes have of the shards, in numbers of committed entries: an entry is on every member of the isr. */
static uint64_t committed[64], held[64][MAP_NODES_MAX + 1];
static uint32_t hosts[MAP_NODES_MAX + 1]; /* by node */

static bool may_lead(const struct map_shard *shard, uint32_t node) { return shard_record_is_counted(shard, node); }

/* Whoever leads has all that was committed, or somebody's data is lost; and what more is committed all members have. */
static void commit(uint32_t i) {
    const struct map_shard *shard = &catalog.shards[i];
    bool all_alive = shard->isr_count >= shard->min_isr;
    if (!is_alive(shard->leader)) return;
    assert_true(held[i][shard->leader] == committed[i]);
    for (uint32_t j = 0; j < shard->isr_count; j++) all_alive = all_alive && is_alive(shard->isr[j]);
    if (!all_alive) return;
    committed[i]++;
    for (uint32_t j = 0; j < shard->isr_count; j++) held[i][shard->isr[j]] = committed[i];
}

/* A new stay on a node begins empty. */
static void note_stays(uint32_t i, const struct map_shard *before) {
    const struct map_shard *shard = &catalog.shards[i];
    for (uint32_t j = 0; j < shard->replica_count; j++) {
        const struct map_replica *old = map_find_replica(before, shard->replicas[j].node);
        bool same = old != NULL && old->replica_id == shard->replicas[j].replica_id;
        if (!same) held[i][shard->replicas[j].node] = 0;
    }
}

static void elect_anyone(uint32_t i) {
    const struct map_shard *shard = &catalog.shards[i];
    for (uint32_t j = 0; j < shard->replica_count && !is_alive(shard->leader); j++) {
        uint32_t node = shard->replicas[j].node;
        if (!is_alive(node) || !may_lead(shard, node)) continue;
        change(node, (struct shard_change){.kind = SHARD_CHANGE_CLAIM, .shard = i});
    }
}

static void let_one_act(uint32_t i, bool joins) {
    const struct map_shard *shard = &catalog.shards[i];
    elect_anyone(i);
    if (!is_alive(shard->leader)) return;
    commit(i);
    if (joins) {
        fill_isr(i);
        for (uint32_t j = 0; j < shard->isr_count; j++) {
            if (is_alive(shard->isr[j])) held[i][shard->isr[j]] = committed[i]; /* R4 */
        }
    }
    bool goes = shard->move_from != 0 && shard->leader == shard->move_from;
    bool came = map_in_isr(shard, shard->move_to) && is_alive(shard->move_to);
    if (goes && came) hand_over_to(i, shard->move_to);
    if (shard->wanted_leader != 0 && is_alive(shard->wanted_leader)) hand_over_to(i, shard->wanted_leader);
    commit(i);
}

static void replace_wiped(void) {
    struct placement_replacement found;
    while (placement_replacements(&catalog, &found, 1) == 1) {
        struct map_shard before = catalog.shards[found.shard];
        assert_int_equal(apply((struct log_command){
                             .kind = COMMAND_REPLACE_REPLICA,
                             .replace_replica = {found.shard, found.config_version, found.from, found.to}}),
                         SK_OK);
        note_stays(found.shard, &before);
    }
}

static void end_removals(void) {
    for (uint32_t id = 1; id <= catalog.node_count; id++) {
        bool ends = catalog_find_node(&catalog, id)->map.state == MAP_NODE_REMOVING && count_replicas(id) == 0;
        if (ends) change_node(id, COMMAND_NODE_REMOVE);
    }
}

static bool take_step(void) {
    if (!choose()) return false;
    struct map_shard before = catalog.shards[step.shard];
    obey();
    note_stays(step.shard, &before);
    return true;
}

static void rebuild_one(uint32_t i) {
    const struct map_shard *shard = &catalog.shards[i];
    struct map_shard before = *shard;
    struct shard_change wanted = {
        .kind = SHARD_CHANGE_REBUILD, .shard = i, .node = shard->replicas[roll(shard->replica_count)].node};
    if (!is_alive(shard->leader)) return;
    if (wanted.node == shard->leader) wanted.successor = shard->isr[roll(shard->isr_count)];
    wanted.config_version = shard->config_version;
    wanted.leader_epoch = shard->leader_epoch;
    uint64_t incarnation = catalog_find_node(&catalog, shard->leader)->map.incarnation;
    (void)apply((struct log_command){.kind = COMMAND_CHANGE_SHARDS,
                                     .change_shards = {shard->leader, incarnation, 1, &wanted}});
    note_stays(i, &before);
}

static void force(uint32_t i, uint32_t node) {
    struct map_shard before = catalog.shards[i];
    assert_int_equal(apply((struct log_command){.kind = COMMAND_FORCE_LEADER,
                                                .force_leader = {i, before.config_version, node}}),
                     SK_OK);
    note_stays(i, &before);
    committed[i] = held[i][node]; /* the rest is lost */
}

static void start_again_at(uint32_t node, uint32_t host) {
    start_node_at(node, host);
    hosts[node] = host;
}

static void add_node_at(uint32_t host) { start_again_at(catalog.node_count + 1, host); }

/* Another store is where this one was. */
static bool is_wiped(uint32_t node) {
    for (uint32_t id = node + 1; id <= catalog.node_count; id++) {
        if (hosts[id] == hosts[node]) return true;
    }
    return false;
}

static void disturb(uint32_t nodes_max) {
    uint32_t node = 1 + roll(catalog.node_count), i = roll(catalog.shard_count);
    const struct map_node *of = &catalog_find_node(&catalog, node)->map;
    struct log_command command = {.kind = COMMAND_CHANGE_NODE, .change_node = {node, (enum command_node)roll(3)}};
    switch (roll(8)) {
    case 0:
    case 1:
        if (of->state != MAP_NODE_REMOVED && !is_wiped(node)) declare(node, !of->alive);
        break;
    case 2:
        (void)apply(command);
        break;
    case 3:
        if (!of->alive && !is_wiped(node) && catalog.node_count < nodes_max) add_node_at(hosts[node]);
        break;
    case 4:
    case 5:
        rebuild_one(i);
        break;
    case 6:
        if (roll(5) == 0) moves_init(&moves, moves.open_max, DEAD_MS, now_ms);
        break;
    default:
        pass(roll(4) == 0 ? DEAD_MS : roll(60000));
    }
}

/* Who is dead stays so, and a person does what only a person can. */
static void calm_down(void) {
    uint32_t takers = 0;
    for (uint32_t id = 1; id <= catalog.node_count; id++) {
        const struct map_node *node = &catalog_find_node(&catalog, id)->map;
        takers += node->alive && node->state == MAP_NODE_MEMBER;
    }
    for (; takers < catalog.replicas_wanted; takers++) add_node_at(1000 + takers);
    for (uint32_t i = 0; i < catalog.shard_count; i++) {
        const struct map_shard *shard = &catalog.shards[i];
        uint32_t alive = 0;
        elect_anyone(i);
        for (uint32_t j = 0; j < shard->replica_count; j++) {
            if (is_alive(shard->replicas[j].node)) alive = shard->replicas[j].node;
        }
        if (alive == 0) start_again_at(alive = shard->replicas[0].node, 2000 + i);
        elect_anyone(i);
        if (!is_alive(shard->leader)) force(i, alive);
    }
}

static bool is_at_rest(void) {
    for (uint32_t i = 0; i < catalog.shard_count; i++) {
        const struct map_shard *shard = &catalog.shards[i];
        bool whole = shard->isr_count == shard->replica_count && shard->move_to == 0 &&
                     shard->replica_count == catalog.replicas_wanted && is_alive(shard->leader);
        for (uint32_t j = 0; j < shard->replica_count; j++) {
            const struct map_node *node = &catalog_find_node(&catalog, shard->replicas[j].node)->map;
            whole = whole && node->alive && node->state == MAP_NODE_MEMBER;
        }
        if (!whole) return false;
    }
    return true;
}

static void let_all_act(uint32_t join_one_in) {
    for (uint32_t i = 0; i < catalog.shard_count; i++) let_one_act(i, roll(join_one_in) == 0);
    replace_wiped();
    end_removals();
    pass(WATCH_MS);
}

/* Nodes die, come back, lose their disks, are drained, removed and added, replicas begin anew (R24), metad changes its leader: at
 * any moment of any move. Nothing that was acknowledged is lost but by a person's force, and when all that stops, every
 * shard has all its replicas again, on nodes that stay. */
static void whatever_happens_every_shard_is_whole_again(void **state) {
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t nodes = 3 + roll(5), replicas = 1 + roll(3), wanted = replicas + roll(3), shards = 1u << roll(4);
        make_cluster(nodes, replicas + roll(nodes - replicas + 1), shards, replicas, wanted);
        moves.open_max = 1 + roll(2);
        memset(committed, 0, sizeof committed);
        memset(held, 0, sizeof held);
        for (uint32_t id = 1; id <= nodes; id++) hosts[id] = id;
        for (uint32_t event = 0; event < 200; event++) {
            disturb(20);
            let_all_act(3);
            (void)take_step();
        }
        calm_down();
        uint64_t end_ms = now_ms + 10 * DEAD_MS;
        while (now_ms < end_ms && !is_at_rest()) {
            let_all_act(1);
            if (!take_step()) pass(1000);
        }
        assert_true(is_at_rest());
        (void)settle(5000);
        assert_settled(wanted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_cluster_is_left_alone),
        cmocka_unit_test(a_cluster_grows_and_shrinks),
        cmocka_unit_test(followers_stay_spread),
        cmocka_unit_test(a_shard_gets_the_replicas_that_are_wanted),
        cmocka_unit_test(r13_an_heir_waits_for_what_it_inherits),
        cmocka_unit_test(r13_what_an_heir_cannot_take_over_goes_to_others),
        cmocka_unit_test(what_a_person_wishes_stands_for_a_while),
        cmocka_unit_test(a_node_that_is_dead_for_long_loses_its_replicas),
        cmocka_unit_test(r21_nobody_is_dead_for_long_before_that_was_seen),
        cmocka_unit_test(a_dead_node_that_is_removed_loses_its_replicas_at_once),
        cmocka_unit_test(the_worst_comes_first),
        cmocka_unit_test(one_shard_moves_at_a_time),
        cmocka_unit_test(a_move_waits_for_those_that_stay),
        cmocka_unit_test(a_move_does_not_count_on_the_dead),
        cmocka_unit_test(a_move_to_a_node_that_dies_is_cancelled),
        cmocka_unit_test(a_move_to_a_node_that_is_drained_is_cancelled),
        cmocka_unit_test(a_move_of_which_nothing_comes_is_cancelled),
        cmocka_unit_test(a_move_that_waits_for_its_leader_is_not_idle),
        cmocka_unit_test(a_move_is_not_idle_while_nobody_watches),
        cmocka_unit_test(a_move_that_hangs_holds_up_no_others),
        cmocka_unit_test(a_move_that_cannot_finish_rids_the_shard_of_who_is_lost),
        cmocka_unit_test(a_shard_does_not_grow_onto_the_dead),
        cmocka_unit_test(a_shard_that_cannot_grow_gets_rid_of_who_is_lost),
        cmocka_unit_test(a_move_ends_when_all_but_one_are_lost),
        cmocka_unit_test(a_move_ends_when_only_the_one_that_came_is_left),
        cmocka_unit_test(r12_a_move_ends_under_a_forced_leader),
        cmocka_unit_test(a_shard_without_a_leader_is_not_moved),
        cmocka_unit_test(first_places_are_passed_on),
        cmocka_unit_test(first_places_are_passed_on_slowly),
        cmocka_unit_test(what_was_changed_last_stays),
        cmocka_unit_test(it_comes_to_rest),
        cmocka_unit_test(whatever_happens_every_shard_is_whole_again),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}

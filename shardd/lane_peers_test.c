/* Lanes that replicate to each other: what a client may rely on while nodes come and go and messages are lost, and what
 * the shell of the core makes of peers that do not behave. */
#include "shardd/lane_fixture.h"

/* Followers have executed what the leader has. */
static bool all_are_level(struct cluster *cluster) {
    struct lane_stats first = stats_of(cluster, 1);
    bool level = first.unapplied == 0;
    for (uint32_t id = 2; id <= NODES; id++) {
        struct lane_stats stats = stats_of(cluster, id);
        level = level && stats.applied == first.applied && stats.unapplied == 0;
    }
    return level;
}

static bool leads_all(const struct cluster *cluster, uint32_t id) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        if (cluster->map->shards[shard].leader != id) return false;
    }
    return true;
}

static bool isr_count_is(const struct cluster *cluster, uint32_t count) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        if (cluster->map->shards[shard].isr_count != count) return false;
    }
    return true;
}

/* ---- tests ---- */

static void test_written_survives_who_wrote_it(void **state) {
    struct cluster *cluster = *state;
    char key[32];
    start_all(cluster);
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        set(cluster, key, "first");
    }
    wait_until(cluster, all_are_level(cluster));
    stop_node(cluster, 1);
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        expect(cluster, key, "first");
        set(cluster, key, "second");
    }
    assert_int_not_equal(record_of(cluster, 0).leader, 1);
    start_node(cluster, 1);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    for (uint32_t id = 1; id <= NODES; id++) restart_node(cluster, id);
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        expect(cluster, key, "second");
    }
}

/* R7: a leader that was cut off has a tail that nobody else has. It is cut, and the node opens again, also when a checkpoint
 * has what came instead. */
static void test_r7_a_tail_is_cut(void **state) {
    struct cluster *cluster = *state;
    char key[32], words[64];
    for (uint32_t id = 1; id <= NODES; id++) cluster->nodes[id].options.checkpoint_interval_ms = 50;
    start_all(cluster);
    set(cluster, "key-0", "first");
    set(cluster, "key-1", "first");
    wait_until(cluster, leads_all(cluster, 1));
    for (uint32_t id = 2; id <= NODES; id++) lose_between(cluster, 1, id, ALL_MESSAGES);
    uint64_t first = cluster->numbers + 1;
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "key-%d", i % 10);
        snprintf(words, sizeof words, "SET %s lost", key);
        ask_node(cluster, 1, next_number(cluster), shard_of(key), REQUEST_WRITE, words, 0);
    }
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        set(cluster, key, "second");
    }
    for (uint32_t id = 2; id <= NODES; id++) lose_between(cluster, 1, id, 0);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    for (int i = 0; i < 50; i++) assert_int_not_equal(await(cluster, first + (uint64_t)i, NULL), SK_OK);
    wait_until(cluster, stats_of(cluster, 1).memtable_bytes == 0);
    restart_node(cluster, 1);
    for (uint32_t id = 2; id <= NODES; id++) {
        wait_until(cluster, isr_count_is(cluster, NODES));
        restart_node(cluster, id);
    }
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        expect(cluster, key, "second");
    }
}

/* R10: whatever is lost between nodes, and whoever leads, each command takes effect once. */
static void test_r10_once_through_losses(void **state) {
    struct cluster *cluster = *state;
    char result[RESULT_BYTES] = "";
    start_all(cluster);
    lose_one_in(cluster, 4);
    for (int i = 1; i <= 60; i++) {
        if (i % 20 == 0) restart_node(cluster, (uint32_t)(i / 20));
        assert_int_equal(run_for(cluster, "n", REQUEST_WRITE, "INCR n", 0, result), SK_OK);
        assert_int_equal(atoi(result), i);
    }
    lose_one_in(cluster, 0);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    expect(cluster, "n", "60");
}

/* R30: who comes back to a log that begins later gets a snapshot; and whatever becomes of that replica then, its node
 * opens again. */
static void test_r30_a_snapshot_instead_of_the_log(void **state) {
    struct cluster *cluster = *state;
    char words[64];
    for (uint32_t id = 1; id <= NODES; id++) {
        struct lane_options *options = &cluster->nodes[id].options;
        options->checkpoint_interval_ms = 20;
        options->segment_bytes = 256 * 1024;
        options->log_keep_bytes = 256 * 1024;
    }
    start_all(cluster);
    set(cluster, "key", "first");
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    stop_node(cluster, 3);
    for (int i = 0; i < 40; i++) {
        snprintf(words, sizeof words, "SET filled-%d", i);
        assert_int_equal(run_for(cluster, words + 4, REQUEST_WRITE, words, 50000, NULL), SK_OK);
    }
    set(cluster, "key", "second");
    start_node(cluster, 3);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    set(cluster, "key", "third");
    wait_until(cluster, all_are_level(cluster));
    restart_node(cluster, 3);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));

    pthread_mutex_lock(&cluster->lock);
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        struct map_shard *record = change_record(cluster, shard);
        record->replicas[2].replica_id += 5;
        record->isr_count = 2; /* nodes 1 and 2 */
        record->isr[0] = 1;
        record->isr[1] = 2;
        if (record->leader == 3) set_leader(cluster, record, 1);
    }
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    restart_node(cluster, 3);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    for (uint32_t id = 1; id < NODES; id++) stop_node(cluster, id);
    start_node(cluster, 2);
    expect(cluster, "key", "third");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_cluster, teardown_cluster)

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST(test_written_survives_who_wrote_it),
        TEST(test_r7_a_tail_is_cut),
        TEST(test_r10_once_through_losses),
        TEST(test_r30_a_snapshot_instead_of_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

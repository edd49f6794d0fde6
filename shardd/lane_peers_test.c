/* Lanes that replicate to each other: what a client may rely on while nodes come and go and messages are lost, and what
 * the shell of the core makes of peers that do not behave. */
#include "shardd/lane_fixture.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

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
    /* 2 MB, and they let go of their logs once a second: before that the log would do */
    for (uint32_t id = 1; id < NODES; id++) wait_until(cluster, stats_of(cluster, id).log_bytes < 1500000);
    start_node(cluster, 3);
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    wait_until(cluster, stats_of(cluster, 3).snapshot_bytes > 0);
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

/* Bytes from peers are not trusted: an entry that makes no sense is refused for good and holds up nobody. */
static void test_malformed_entries_hold_up_nobody(void **state) {
    struct cluster *cluster = *state;
    start_node(cluster, 1);
    make_puppet_leader(cluster, 2);
    for (uint32_t shard = 0; shard < SHARDS; shard++) puppet_open(cluster, 2, 1, shard, 50);
    uint64_t commit_index = 1;
    puppet_append_payload(cluster, 2, 1, 0, 50, 0, WAL_COMMAND, slice_of_text("nonsense"));
    puppet_append_payload(cluster, 2, 1, 0, 50, 0, WAL_NOOP, slice_of(&commit_index, sizeof commit_index));
    const char *other = shard_of("a") == 1 ? "a" : "b";
    assert_int_equal(shard_of(other), 1);
    puppet_append(cluster, 2, 1, other, 50, 0, 0);
    wait_until(cluster, cluster->passed[1][2][1][REPLICA_ACK].last.durable_index == 1);
    const char *same = shard_of("a") == 0 ? "a" : "b";
    puppet_append(cluster, 2, 1, same, 50, 0, 0);
    wait_until(cluster, cluster->passed[1][2][0][REPLICA_ACK].last.durable_index == 1);
    restart_node(cluster, 1);
    assert_int_equal(stats_of(cluster, 1).failed, false);
}

/* R1: an epoch that was acknowledged stays the lowest that is accepted, when the record of it has left the log, too. */
static void test_r1_an_epoch_outlives_its_record(void **state) {
    struct cluster *cluster = *state;
    struct lane_options *options = &cluster->nodes[1].options;
    options->segment_bytes = 64 * 1024;
    options->log_keep_bytes = 0;
    options->checkpoint_interval_ms = 1;
    const char *key = shard_of("a") == 1 ? "a" : "b";
    start_node(cluster, 1);
    make_puppet_leader(cluster, 2);
    puppet_open(cluster, 2, 1, 1, 50);
    puppet_append(cluster, 2, 1, key, 50, 0, 10);
    puppet_beacon(cluster, 2, 1, 1, 50, 1);
    wait_until(cluster, stats_of(cluster, 1).memtable_bytes == 0 && stats_of(cluster, 1).applied == 1);
    puppet_open(cluster, 2, 1, 0, 50); /* behind the checkpoint; nothing of that shard changes from here on */
    for (uint64_t index = 1; index < 20; index++) puppet_append(cluster, 2, 1, key, 50, index, 20000);
    wait_until(cluster, cluster->passed[1][2][1][REPLICA_ACK].last.durable_index == 20);
    for (uint64_t index = 2; index <= 20; index++) { /* one checkpoint after the other */
        puppet_beacon(cluster, 2, 1, 1, 50, index);
        wait_until(cluster, stats_of(cluster, 1).applied == index && stats_of(cluster, 1).memtable_bytes == 0);
    }
    wait_until(cluster, stats_of(cluster, 1).log_bytes <= 4 * 64 * 1024);
    restart_node(cluster, 1);
    struct replica_message open = puppet_message(cluster, 3, 1, 0, REPLICA_OPEN, 49);
    open.epochs = (struct epochs){.count = 1, .starts = {{.epoch = 49, .index = 1}}};
    struct passed refusal, ack;
    do {
        puppet_send(cluster, &open); /* until the node has its map */
        wait_until(cluster, true);
        refusal = passed_of(cluster, 1, 3, 0, REPLICA_REFUSAL);
        ack = passed_of(cluster, 1, 3, 0, REPLICA_ACK);
    } while (refusal.count + ack.count == 0);
    assert_int_equal(ack.count, 0);
    assert_int_equal(refusal.last.epoch, 50);
}

/* A replica that does not lead has entries that nobody may ever commit: a read does not wait for them. */
static void test_a_follower_answers_at_once(void **state) {
    struct cluster *cluster = *state;
    start_node(cluster, 1);
    make_puppet_leader(cluster, 2);
    puppet_open(cluster, 2, 1, shard_of("a"), 50);
    puppet_append(cluster, 2, 1, "a", 50, 0, 10);
    wait_until(cluster, cluster->passed[1][2][shard_of("a")][REPLICA_ACK].last.durable_index == 1);
    uint64_t number = next_number(cluster);
    ask_node(cluster, 1, number, shard_of("a"), REQUEST_AFTER, "GET a", 0);
    assert_int_equal(await(cluster, number, NULL), SK_NOT_LEADER);
}

/* Node 1 leads and goes on leading, but nobody's acknowledgements reach it and metad is silent: nothing is committed. */
static void start_without_acknowledgements(struct cluster *cluster) {
    start_all(cluster);
    set(cluster, "a", "first");
    set(cluster, "b", "first");
    wait_until(cluster, isr_count_is(cluster, NODES) && all_are_level(cluster));
    wait_until(cluster, leads_all(cluster, 1));
    silence_metad(cluster, true);
    for (uint32_t id = 2; id <= NODES; id++) lose(cluster, id, 1, 1u << REPLICA_ACK | 1u << REPLICA_PROMISE);
}

/* Whoever waits when the lane ends is told. */
static void test_nobody_waits_for_a_lane_that_ends(void **state) {
    struct cluster *cluster = *state;
    start_without_acknowledgements(cluster);
    uint64_t write = next_number(cluster), read = next_number(cluster);
    ask_node(cluster, 1, write, shard_of("a"), REQUEST_WRITE, "SET a second", 0);
    ask_node(cluster, 1, read, shard_of("a"), REQUEST_AFTER, "GET a", 0);
    wait_until(cluster, stats_of(cluster, 1).unapplied == 1);
    stop_node(cluster, 1);
    assert_int_equal(await(cluster, write, NULL), SK_LOST);
    assert_int_equal(await(cluster, read, NULL), SK_NOT_LEADER);
    assert_int_equal(cluster->asked[write].answers, 1);
    assert_int_equal(cluster->asked[read].answers, 1);
}

/* What waits for its commit is bounded: beyond that a write is refused, and the other shards go on. */
static void test_writes_that_are_not_committed_are_bounded(void **state) {
    struct cluster *cluster = *state;
    enum { WRITES = 100 };
    start_without_acknowledgements(cluster);
    uint64_t first = cluster->numbers + 1;
    for (int i = 0; i < WRITES; i++) {
        ask_node(cluster, 1, next_number(cluster), shard_of("a"), REQUEST_WRITE, "SET a", 1 << 20);
    }
    assert_int_equal(await(cluster, first + WRITES - 1, NULL), SK_BUSY);
    uint64_t read = next_number(cluster); /* behind a write that was refused it would tell of the time before */
    ask_node(cluster, 1, read, shard_of("a"), REQUEST_AFTER, "GET a", 0);
    assert_int_equal(await(cluster, read, NULL), SK_BUSY);
    for (uint32_t id = 2; id <= NODES; id++) lose(cluster, id, 1, 0);
    unsigned taken = 0;
    for (int i = 0; i < WRITES; i++) {
        int err = await(cluster, first + (uint64_t)i, NULL);
        assert_true(err == SK_OK || err == SK_BUSY);
        taken += err == SK_OK;
    }
    assert_true(taken > 10 && taken < 70);
    set(cluster, "a", "third");
}

/* A follower takes what is not committed however much it is: its leader may wait for just that. */
static void test_a_follower_takes_what_is_not_committed(void **state) {
    struct cluster *cluster = *state;
    enum { ENTRIES = 80 };
    start_node(cluster, 1);
    make_puppet_leader(cluster, 2);
    puppet_open(cluster, 2, 1, shard_of("a"), 50);
    for (uint64_t index = 0; index < ENTRIES; index++) puppet_append(cluster, 2, 1, "a", 50, index, 1 << 20);
    wait_until(cluster, cluster->passed[1][2][shard_of("a")][REPLICA_ACK].last.durable_index == ENTRIES);
}

/* A read at one node, whoever leads; a moment later, so that it can be tried over and over. */
static int read_at(struct cluster *cluster, uint32_t id, const char *key, uint8_t flags, char *result) {
    char words[64];
    uint64_t number = next_number(cluster);
    struct timespec deadline = wait_deadline();
    pthread_mutex_lock(&cluster->lock);
    wait_a_little(cluster, &deadline);
    pthread_mutex_unlock(&cluster->lock);
    snprintf(words, sizeof words, "GET %s", key);
    ask_node(cluster, id, number, shard_of(key), flags, words, 0);
    return await(cluster, number, result);
}

static void test_r17_followers_serve_for_a_while(void **state) {
    struct cluster *cluster = *state;
    char result[RESULT_BYTES];
    start_all(cluster);
    set(cluster, "key", "first");
    wait_until(cluster, leads_all(cluster, 1) && isr_count_is(cluster, NODES) && all_are_level(cluster));
    for (uint32_t id = 2; id <= NODES; id++) {
        assert_int_equal(read_at(cluster, id, "key", 0, NULL), SK_NOT_LEADER);
        while (read_at(cluster, id, "key", REQUEST_STALE, result) != SK_OK) continue; /* until it is vouched for */
        assert_string_equal(result, "first");
        wait_until(cluster, stats_of(cluster, id).follower_reads > 0);
    }
    assert_int_equal(read_at(cluster, 1, "key", REQUEST_STALE, result), SK_OK);
    assert_int_equal(stats_of(cluster, 1).follower_reads, 0);
    lose_between(cluster, 1, 2, ALL_MESSAGES);
    uint64_t cut_us = clock_boottime_us();
    while (read_at(cluster, 2, "key", REQUEST_STALE, NULL) == SK_OK) continue;
    assert_true(clock_boottime_us() < cut_us + 60000000);
    lose_between(cluster, 1, 2, 0);
    set(cluster, "key", "second");
    uint64_t set_us = clock_boottime_us();
    for (bool old = true; old;) { /* what it served when it was asked so long after must not be the old value */
        uint64_t asked_us = clock_boottime_us();
        old = read_at(cluster, 2, "key", REQUEST_STALE, result) != SK_OK || strcmp(result, "second") != 0;
        assert_true(!old || asked_us <= set_us + REPLICA_STALE_US || strcmp(result, "first") != 0);
    }
}

/* ---- a store whose syncs take as long as a test wants ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_held;
    uint32_t permits, waiting; /* of syncs */
} syncs = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* In the place of libc's: those of node 3's LMDB file wait for a permit. */
int fdatasync(int fd) {
    char name[64], path[512] = "";
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (readlink(name, path, sizeof path - 1) > 0 && strstr(path, "node-3/store/data.mdb") != NULL) {
        pthread_mutex_lock(&syncs.lock);
        syncs.waiting++;
        pthread_cond_broadcast(&syncs.changed);
        while (syncs.is_held && syncs.permits == 0) pthread_cond_wait(&syncs.changed, &syncs.lock);
        if (syncs.is_held) syncs.permits--;
        syncs.waiting--;
        pthread_mutex_unlock(&syncs.lock);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void hold_syncs(bool is_held) {
    pthread_mutex_lock(&syncs.lock);
    syncs.is_held = is_held;
    pthread_cond_broadcast(&syncs.changed);
    pthread_mutex_unlock(&syncs.lock);
}

/* Lets so many be done, and waits until one more has begun. */
static void let_sync(uint32_t count) {
    pthread_mutex_lock(&syncs.lock);
    syncs.permits += count;
    pthread_cond_broadcast(&syncs.changed);
    while (syncs.permits > 0 || syncs.waiting == 0) pthread_cond_wait(&syncs.changed, &syncs.lock);
    pthread_mutex_unlock(&syncs.lock);
}

/* Shard 0 comes to node 3, or goes again. */
static void move_shard(struct cluster *cluster, bool comes) {
    pthread_mutex_lock(&cluster->lock);
    struct map_shard *record = change_record(cluster, 0);
    leave_isr(record, 3);
    record->replica_count = comes ? 3 : 2;
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
    wait_until(cluster, stats_of(cluster, 3).shards == (comes ? 2 : 1));
}

/* R29: a stay begins and ends while a checkpoint is written, and what it has cannot be dropped at once. The next checkpoint
 * writes some of it. If the process dies then, its directory opens. */
static void test_a_stay_ends_while_a_checkpoint_is_written(void **state) {
    struct cluster *cluster = *state;
    char words[256], copy[sizeof cluster->nodes[3].directory];
    struct node *node = &cluster->nodes[3];
    const char *here = shard_of("a") == 0 ? "a" : "b", *other = shard_of("a") == 0 ? "b" : "a";
    assert_int_equal(shard_of(here), 0);
    assert_int_equal(shard_of(other), 1);
    cluster->map->shards[0].replica_count = cluster->map->shards[0].isr_count = 2;
    node->options.checkpoint_interval_ms = 1;
    start_all(cluster);
    set(cluster, other, "first");
    wait_until(cluster, stats_of(cluster, 3).applied > 1 && stats_of(cluster, 3).memtable_bytes == 0);
    hold_syncs(true);
    set(cluster, other, "second");
    let_sync(0);
    move_shard(cluster, true);
    set(cluster, here, "there");
    wait_until(cluster, stats_of(cluster, 3).keys == 2);
    move_shard(cluster, false);
    let_sync(2);
    snprintf(copy, sizeof copy, "%s/copy", cluster->directory);
    snprintf(words, sizeof words, "cp -r %s %s", node->directory, copy);
    assert_int_equal(system(words), 0);
    hold_syncs(false);
    stop_node(cluster, 3);
    snprintf(node->directory, sizeof node->directory, "%s", copy);
    start_node(cluster, 3);
    wait_until(cluster, cluster->map->shards[1].isr_count == 3);
}

static bool has_summed(const struct cluster *cluster, uint32_t id) {
    return cluster->replies[id][1].news == VERIFY_SUMMED;
}

static uint64_t count_running(struct cluster *cluster, uint32_t id) {
    struct verify_stats stats = {0};
    lane_verify_stats(cluster->nodes[id].lane, &stats);
    return stats.running;
}

/* What a stay that is over has in its log is not executed: a marker would begin a scrub of what is about to be dropped. */
static void test_a_stay_that_is_over_executes_nothing(void **state) {
    struct cluster *cluster = *state;
    char words[256];
    const char *here = shard_of("a") == 0 ? "a" : "b";
    cluster->nodes[3].options.memtable_bytes = 64 * 1024;
    start_all(cluster);
    set(cluster, here, "first");
    wait_until(cluster, stats_of(cluster, 3).applied > 1);
    hold_syncs(true); /* checkpoints take long, and node 3 executes no more when there is too much in memory */
    for (int i = 0; i < 30; i++) {
        snprintf(words, sizeof words, "SET key-%d", i);
        if (shard_of(words + 4) != 0) continue;
        assert_int_equal(run_for(cluster, words + 4, REQUEST_WRITE, words, 30000, NULL), SK_OK);
    }
    pthread_mutex_lock(&cluster->lock);
    (void)change_record(cluster, 1);
    cluster->map->verify_generation++;
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
    wait_until(cluster, has_summed(cluster, 2));
    set(cluster, here, "last"); /* tells node 3 what is committed */
    wait_until(cluster, stats_of(cluster, 3).unapplied > 1);
    move_shard(cluster, false);
    hold_syncs(false);
    move_shard(cluster, true);
    wait_until(cluster, cluster->map->shards[0].isr_count == NODES && count_running(cluster, 3) == 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_cluster, teardown_cluster)

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST(test_written_survives_who_wrote_it),
        TEST(test_r7_a_tail_is_cut),
        TEST(test_r10_once_through_losses),
        TEST(test_r30_a_snapshot_instead_of_the_log),
        TEST(test_malformed_entries_hold_up_nobody),
        TEST(test_r1_an_epoch_outlives_its_record),
        TEST(test_a_follower_answers_at_once),
        TEST(test_nobody_waits_for_a_lane_that_ends),
        TEST(test_writes_that_are_not_committed_are_bounded),
        TEST(test_a_follower_takes_what_is_not_committed),
        TEST(test_r17_followers_serve_for_a_while),
        TEST(test_a_stay_ends_while_a_checkpoint_is_written),
        TEST(test_a_stay_that_is_over_executes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

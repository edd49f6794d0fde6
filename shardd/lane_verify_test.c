/* Lanes that compare what they have: equal content is found equal, whatever happens meanwhile, and a replica that is not what
 * the others are is found, reported, and begins anew. */
#include "shardd/lane_fixture.h"
#include "shardd/store.h"

#include <fcntl.h>

enum { KEYS = 40 };

static bool isr_is_whole(const struct cluster *cluster) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        const struct map_shard *record = &cluster->map->shards[shard];
        if (record->isr_count != record->replica_count) return false;
    }
    return true;
}

static struct verify_stats verify_of(struct cluster *cluster, uint32_t id) {
    struct verify_stats stats = {0};
    if (cluster->nodes[id].lane != NULL) lane_verify_stats(cluster->nodes[id].lane, &stats);
    return stats;
}

/* With the lock: all shards are done for the map's generation. */
static bool all_are_verified(struct cluster *cluster) {
    unsigned done = 0;
    for (uint32_t id = 1; id <= NODES; id++) {
        struct verify_stats stats = verify_of(cluster, id);
        if (stats.generation == cluster->map->verify_generation) done |= stats.done[0];
    }
    return done == (1u << SHARDS) - 1;
}

static void want_verify(struct cluster *cluster) {
    pthread_mutex_lock(&cluster->lock);
    (void)change_record(cluster, 0);
    cluster->map->verify_generation++;
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
}

static void verify(struct cluster *cluster) {
    want_verify(cluster);
    wait_until(cluster, all_are_verified(cluster));
}

/* Of all nodes together. */
static unsigned count_findings(struct cluster *cluster, uint32_t node, enum verify_fault fault) {
    unsigned count = 0;
    for (uint32_t id = 1; id <= NODES; id++) {
        struct verify_stats stats = verify_of(cluster, id);
        for (uint32_t i = 0; i < stats.finding_count; i++) {
            count += stats.findings[i].node == node && stats.findings[i].fault == fault;
        }
    }
    return count;
}

static unsigned count_all_findings(struct cluster *cluster) {
    unsigned count = 0;
    for (uint32_t id = 1; id <= NODES; id++) count += verify_of(cluster, id).finding_count;
    return count;
}

/* Verifies until so much was found: whoever is out of the in-sync set for a moment is not compared. */
static void find(struct cluster *cluster, uint32_t node, enum verify_fault fault, unsigned count) {
    do {
        verify(cluster);
    } while (count_findings(cluster, node, fault) < count);
    assert_int_equal(count_findings(cluster, node, fault), count);
}

static void write_keys(struct cluster *cluster, const char *value) {
    char key[32];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        set(cluster, key, value);
    }
}

static void expect_keys(struct cluster *cluster, const char *value) {
    char key[32];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        expect(cluster, key, value);
    }
}

/* Everything is in LMDB, at every node. */
static bool is_checkpointed(struct cluster *cluster) {
    for (uint32_t id = 1; id <= NODES; id++) {
        struct lane_stats stats = stats_of(cluster, id);
        if (stats.memtable_bytes != 0 || stats.unapplied != 0) return false;
    }
    return true;
}

static void start_with_data(struct cluster *cluster) {
    for (uint32_t id = 1; id <= NODES; id++) cluster->nodes[id].options.checkpoint_interval_ms = 50;
    start_all(cluster);
    write_keys(cluster, "value-as-it-should-be");
    wait_until(cluster, isr_is_whole(cluster) && is_checkpointed(cluster));
}

/* ---- a node that is not running gets other content ---- */

static bool is_missed(const struct cluster *cluster, uint32_t id) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        const struct map_shard *record = &cluster->map->shards[shard];
        if (map_in_isr(record, id) && record->isr_count > record->min_isr) return false;
    }
    return true;
}

/* Until the others go on without it: so that when it is in sync again it has come back. */
static void stop_and_miss(struct cluster *cluster, uint32_t id) {
    stop_node(cluster, id);
    wait_until(cluster, is_missed(cluster, id));
}

struct planting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended;
};

static void planted_cb(void *arg, int err) {
    struct planting *planting = arg;
    (void)err;
    pthread_mutex_lock(&planting->lock);
    planting->ended = true;
    pthread_cond_broadcast(&planting->changed);
    pthread_mutex_unlock(&planting->lock);
}

/* A byte of some value of the shard, with the checksum that goes with it. */
static void change_value(struct store *store, uint32_t shard) {
    struct kv *kv;
    struct kv_iter *iter;
    struct slice key, value;
    uint8_t name[KV_KEY_BYTES_MAX], changed[256];
    assert_int_equal(store_shard(store, shard, &kv), SK_OK);
    assert_int_equal(store_step_begin(store), SK_OK);
    assert_int_equal(kv_iter_open(kv, slice_of("\0", 1), &iter), SK_OK);
    assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
    assert_true(value.size > 0 && value.size <= sizeof changed);
    memcpy(name, key.data, key.size);
    memcpy(changed, value.data, value.size);
    changed[value.size - 1] ^= 1;
    kv_iter_close(iter);
    assert_int_equal(kv_put(kv, slice_of(name, key.size), slice_of(changed, value.size)), SK_OK);
    store_step_end(store);
}

static void plant_difference(struct cluster *cluster, uint32_t id, uint32_t shard) {
    struct planting planting = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    char directory[128], text[512];
    struct store *store;
    snprintf(directory, sizeof directory, "%s/store", cluster->nodes[id].directory);
    struct store_options options = {.directory = directory,
                                    .map_bytes = 1 << 30,
                                    .memtable_bytes = 4 << 20,
                                    .txn_bytes = 4 << 20,
                                    .checkpointed_cb = planted_cb,
                                    .arg = &planting};
    assert_int_equal(store_open(&store, &options, text, sizeof text), SK_OK);
    change_value(store, shard);
    assert_int_equal(store_checkpoint_start(store), SK_OK);
    pthread_mutex_lock(&planting.lock);
    while (!planting.ended) pthread_cond_wait(&planting.changed, &planting.lock);
    pthread_mutex_unlock(&planting.lock);
    assert_int_equal(store_checkpoint_complete(store), SK_OK);
    store_close(store);
}

/* A byte of each value in the file, whose checksums then tell. */
static void plant_damage(struct cluster *cluster, uint32_t id) {
    static uint8_t bytes[8u << 20];
    const char *value = "value-as-it-should-be";
    char path[128];
    snprintf(path, sizeof path, "%s/store/data.mdb", cluster->nodes[id].directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    assert_true(size > 0 && (size_t)size < sizeof bytes);
    const uint8_t *at = bytes, *end = bytes + size;
    while ((at = memmem(at, (size_t)(end - at), value, strlen(value))) != NULL) {
        assert_int_equal(pwrite(fd, "V", 1, at - bytes), 1);
        at++;
    }
    close(fd);
}

/* ---- tests ---- */

static void test_equal_content_is_found_equal(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    assert_int_equal(verify_of(cluster, 1).verified, 0);
    verify(cluster);
    write_keys(cluster, "another"); /* partly in memtables, partly in LMDB */
    verify(cluster);
    assert_int_equal(count_all_findings(cluster), 0);
    assert_int_equal(verify_of(cluster, 1).verified, 2 * SHARDS);
    assert_int_equal(verify_of(cluster, 1).running, 0);
}

/* Names of writes, what has expired, a snapshot, a replay, another leader: all of it is the same everywhere. */
static void test_it_is_equal_after_all_that_happens(void **state) {
    struct cluster *cluster = *state;
    for (uint32_t id = 1; id <= NODES; id++) {
        cluster->nodes[id].options.segment_bytes = 256 * 1024;
        cluster->nodes[id].options.log_keep_bytes = 256 * 1024;
    }
    start_with_data(cluster);
    char words[64];
    assert_int_equal(run_for(cluster, "a", REQUEST_WRITE, "SET a short PX 20", 0, NULL), SK_OK);
    assert_int_equal(run_for(cluster, "b", REQUEST_WRITE, "SET b long EX 1000", 0, NULL), SK_OK);
    stop_node(cluster, 3);
    for (int i = 0; i < 40; i++) { /* more than the log keeps: node 3 gets snapshots */
        snprintf(words, sizeof words, "SET filled-%d", i);
        assert_int_equal(run_for(cluster, words + 4, REQUEST_WRITE, words, 50000, NULL), SK_OK);
    }
    start_node(cluster, 3);
    wait_until(cluster, isr_is_whole(cluster));
    verify(cluster);
    stop_node(cluster, 1);
    write_keys(cluster, "second");
    start_node(cluster, 1);
    wait_until(cluster, isr_is_whole(cluster));
    verify(cluster);
    assert_int_equal(run_for(cluster, "key-1", REQUEST_WRITE, "DEL key-1", 0, NULL), SK_OK);
    verify(cluster);
    assert_int_equal(count_all_findings(cluster), 0);
}

static void test_a_follower_that_differs_begins_anew(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 3);
    plant_difference(cluster, 3, 1);
    start_node(cluster, 3);
    wait_until(cluster, isr_is_whole(cluster));
    uint64_t before = record_of(cluster, 1).replicas[2].replica_id;
    find(cluster, 3, VERIFY_FAULT_DIFFERS, 1);
    assert_int_equal(count_all_findings(cluster), 1);
    wait_until(cluster, cluster->map->shards[1].replicas[2].replica_id != before && isr_is_whole(cluster));
    verify(cluster);
    assert_int_equal(count_all_findings(cluster), 1);
    assert_int_equal(record_of(cluster, 0).replicas[2].replica_id, 12); /* that one was right */
    for (uint32_t id = 1; id <= NODES; id++) restart_node(cluster, id);
    expect_keys(cluster, "value-as-it-should-be");
}

/* Nor does it let others begin anew, who are right. */
static void test_a_leader_that_differs_leads_no_more(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 1);
    wait_until(cluster, cluster->map->shards[0].leader != 1 && cluster->map->shards[1].leader != 1);
    plant_difference(cluster, 1, 0);
    start_node(cluster, 1);
    wait_until(cluster, isr_is_whole(cluster));
    pthread_mutex_lock(&cluster->lock);
    set_leader(cluster, change_record(cluster, 0), 1);
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
    wait_until(cluster, stats_of(cluster, 1).leading == 1);
    find(cluster, 1, VERIFY_FAULT_DIFFERS, 1);
    wait_until(cluster, cluster->map->shards[0].replicas[0].replica_id != 10 && isr_is_whole(cluster));
    assert_int_not_equal(record_of(cluster, 0).leader, 1);
    assert_int_equal(record_of(cluster, 0).replicas[1].replica_id, 11);
    assert_int_equal(record_of(cluster, 0).replicas[2].replica_id, 12);
    verify(cluster);
    assert_int_equal(count_all_findings(cluster), 1);
    expect_keys(cluster, "value-as-it-should-be");
}

/* R24 */
static void test_r24_a_damaged_follower_begins_anew(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 2);
    plant_damage(cluster, 2);
    start_node(cluster, 2);
    wait_until(cluster, isr_is_whole(cluster));
    find(cluster, 2, VERIFY_FAULT_DAMAGED, SHARDS);
    assert_int_equal(count_all_findings(cluster), SHARDS);
    wait_until(cluster, cluster->map->shards[0].replicas[1].replica_id != 11 &&
                            cluster->map->shards[1].replicas[1].replica_id != 21 && isr_is_whole(cluster));
    verify(cluster);
    assert_int_equal(count_all_findings(cluster), SHARDS);
    for (uint32_t id = 1; id <= NODES; id++) restart_node(cluster, id);
    expect_keys(cluster, "value-as-it-should-be");
}

/* One of two is right, and nobody can tell which. */
static void test_of_two_that_differ_none_is_touched(void **state) {
    struct cluster *cluster = *state;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        cluster->map->shards[shard].replica_count = cluster->map->shards[shard].isr_count = 2;
    }
    start_with_data(cluster);
    stop_and_miss(cluster, 2);
    plant_difference(cluster, 2, 0);
    start_node(cluster, 2);
    wait_until(cluster, isr_is_whole(cluster));
    find(cluster, 0, VERIFY_FAULT_UNDECIDED, 1);
    assert_int_equal(count_all_findings(cluster), 1);
    find(cluster, 0, VERIFY_FAULT_UNDECIDED, 2);
    assert_int_equal(record_of(cluster, 0).replicas[0].replica_id, 10);
    assert_int_equal(record_of(cluster, 0).replicas[1].replica_id, 11);
}

/* R2, R11: as one of two copies that count it stays, until there is a third. */
static void test_a_replica_that_is_needed_waits(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 2);
    plant_damage(cluster, 2);
    start_node(cluster, 2);
    wait_until(cluster, isr_is_whole(cluster));
    stop_node(cluster, 3);
    wait_until(cluster, cluster->map->shards[0].isr_count == 2 && cluster->map->shards[1].isr_count == 2);
    find(cluster, 2, VERIFY_FAULT_DAMAGED, SHARDS);
    set(cluster, "goes", "on"); /* with both: they are min_isr */
    assert_int_equal(record_of(cluster, 0).replicas[1].replica_id, 11);
    start_node(cluster, 3);
    wait_until(cluster, cluster->map->shards[0].replicas[1].replica_id != 11 &&
                            cluster->map->shards[1].replicas[1].replica_id != 21 && isr_is_whole(cluster));
    verify(cluster);
    assert_int_equal(count_all_findings(cluster), SHARDS);
}

/* The first to be found is needed; the second is what is missing. */
static void test_a_replica_that_is_needed_keeps_no_other_waiting(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 3);
    cluster->nodes[3].options.checkpoint_interval_ms = 3600 * 1000;
    start_node(cluster, 3);
    wait_until(cluster, isr_is_whole(cluster));
    write_keys(cluster, "value-as-it-should-be");
    wait_until(cluster, stats_of(cluster, 3).unapplied == 0 &&
                            stats_of(cluster, 3).applied == stats_of(cluster, 1).applied);
    stop_and_miss(cluster, 3);
    plant_damage(cluster, 3); /* what it opens with needs these records */
    wait_until(cluster, stats_of(cluster, 2).memtable_bytes == 0 && stats_of(cluster, 2).unapplied == 0);
    stop_node(cluster, 2);
    plant_damage(cluster, 2);
    start_node(cluster, 2);
    find(cluster, 2, VERIFY_FAULT_DAMAGED, SHARDS);
    assert_int_equal(record_of(cluster, 0).replicas[1].replica_id, 11);
    start_node(cluster, 3);
    for (uint32_t node = 2; node <= 3; node++) {
        wait_until(cluster, cluster->map->shards[0].replicas[node - 1].replica_id > 100 &&
                                cluster->map->shards[1].replicas[node - 1].replica_id > 100);
    }
    wait_until(cluster, isr_is_whole(cluster));
    expect_keys(cluster, "value-as-it-should-be");
}

/* R24: a write needs a record that cannot be read. Only this replica of the node has to go. */
static void test_r24_executing_meets_damage(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 2);
    plant_damage(cluster, 2);
    start_node(cluster, 2);
    wait_until(cluster, isr_is_whole(cluster));
    set(cluster, "key-3", "anew");
    uint32_t shard = shard_of("key-3");
    wait_until(cluster, cluster->map->shards[shard].replicas[1].replica_id != 10 * (shard + 1) + 1);
    wait_until(cluster, isr_is_whole(cluster));
    assert_int_equal(count_findings(cluster, 2, VERIFY_FAULT_DAMAGED), 1);
    assert_int_equal(record_of(cluster, 1 - shard).replicas[1].replica_id, 10 * (2 - shard) + 1);
    expect(cluster, "key-3", "anew");
    find(cluster, 2, VERIFY_FAULT_DAMAGED, 2); /* the other shard has its damage yet */
}

static void test_r24_a_leader_meets_damage(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 1);
    plant_damage(cluster, 1);
    wait_until(cluster, cluster->map->shards[0].leader != 1 && cluster->map->shards[1].leader != 1);
    start_node(cluster, 1);
    wait_until(cluster, isr_is_whole(cluster));
    uint32_t shard = shard_of("key-3");
    pthread_mutex_lock(&cluster->lock);
    set_leader(cluster, change_record(cluster, shard), 1);
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
    set(cluster, "key-3", "anew");
    assert_int_not_equal(record_of(cluster, shard).leader, 1);
    wait_until(cluster,
               cluster->map->shards[shard].replicas[0].replica_id != 10 * (shard + 1) && isr_is_whole(cluster));
    expect(cluster, "key-3", "anew");
}

/* A read that met damage is answered with a fault; the next may find another leader. */
static void test_r24_a_read_meets_damage(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 1);
    plant_damage(cluster, 1);
    wait_until(cluster, cluster->map->shards[0].leader != 1 && cluster->map->shards[1].leader != 1);
    start_node(cluster, 1);
    wait_until(cluster, isr_is_whole(cluster));
    uint32_t shard = shard_of("key-3");
    pthread_mutex_lock(&cluster->lock);
    set_leader(cluster, change_record(cluster, shard), 1);
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
    assert_int_equal(run_for(cluster, "key-3", 0, "GET key-3", 0, NULL), SK_INTERNAL);
    wait_until(cluster, cluster->map->shards[shard].leader != 1 && isr_is_whole(cluster));
    assert_int_not_equal(record_of(cluster, shard).replicas[0].replica_id, 10 * (shard + 1));
    expect(cluster, "key-3", "value-as-it-should-be");
}

static void test_r24_a_followers_read_meets_damage(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 2);
    plant_damage(cluster, 2);
    start_node(cluster, 2);
    wait_until(cluster, isr_is_whole(cluster));
    uint32_t shard = shard_of("key-3");
    struct timespec deadline = wait_deadline();
    int err;
    do { /* until it may serve */
        uint64_t number = next_number(cluster);
        ask_node(cluster, 2, number, shard, REQUEST_STALE, "GET key-3", 0);
        err = await(cluster, number, NULL);
        assert_int_not_equal(err, SK_OK);
        pthread_mutex_lock(&cluster->lock);
        wait_a_little(cluster, &deadline); /* it refuses as fast as it is asked */
        pthread_mutex_unlock(&cluster->lock);
    } while (err != SK_INTERNAL);
    wait_until(cluster, cluster->map->shards[shard].replicas[1].replica_id != 10 * (shard + 1) + 1 &&
                            isr_is_whole(cluster));
    assert_int_equal(count_findings(cluster, 2, VERIFY_FAULT_DAMAGED), 1);
}

/* Opening replays what is behind the last checkpoint. */
static void test_r24_replaying_meets_damage(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    stop_and_miss(cluster, 2);
    cluster->nodes[2].options.checkpoint_interval_ms = 3600 * 1000;
    start_node(cluster, 2);
    wait_until(cluster, isr_is_whole(cluster));
    write_keys(cluster, "second");
    wait_until(cluster, stats_of(cluster, 2).unapplied == 0 &&
                            stats_of(cluster, 2).applied == stats_of(cluster, 1).applied);
    stop_and_miss(cluster, 2);
    plant_damage(cluster, 2);
    start_node(cluster, 2);
    wait_until(cluster, cluster->map->shards[0].replicas[1].replica_id != 11 &&
                            cluster->map->shards[1].replicas[1].replica_id != 21 && isr_is_whole(cluster));
    verify(cluster);
    stop_node(cluster, 1);
    stop_node(cluster, 3);
    start_node(cluster, 3);
    expect_keys(cluster, "second");
}

static void test_it_happens_in_the_background(void **state) {
    struct cluster *cluster = *state;
    for (uint32_t id = 1; id <= NODES; id++) cluster->nodes[id].options.verify_interval_ms = 100;
    start_with_data(cluster);
    wait_until(cluster, verify_of(cluster, 1).verified >= 6);
    assert_int_equal(count_all_findings(cluster), 0);
}

static void test_losses_only_delay_it(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    lose_one_in(cluster, 3);
    for (int i = 0; i < 3; i++) verify(cluster);
    assert_int_equal(count_all_findings(cluster), 0);
}

/* What a process was asked for before it died it does not know. It says so, and the leader begins again. */
static void test_who_has_lost_its_sum_says_so(void **state) {
    struct cluster *cluster = *state;
    start_with_data(cluster);
    verify(cluster);
    restart_node(cluster, 3);
    wait_until(cluster, isr_is_whole(cluster));
    struct map_shard record = record_of(cluster, 0);
    struct verify_question question = {
        .shard = 0, .replica_id = record.replicas[2].replica_id, .epoch = record.leader_epoch, .index = 1};
    struct buffer items;
    buffer_init(&items);
    peer_wire_add_question(&items, &question);
    puppet_deliver(cluster, 1, 3, &items, false);
    wait_until(cluster, cluster->replies[3][1].to.index == 1);
    assert_int_equal(cluster->replies[3][1].news, VERIFY_DROPPED);

    lose(cluster, 1, 3, 1); /* nothing is asked of node 3, so the verification stays open */
    want_verify(cluster);
    wait_until(cluster, cluster->replies[2][1].news == VERIFY_SUMMED && cluster->replies[2][1].to.index > 1);
    assert_false(all_are_verified(cluster));
    restart_node(cluster, 3);
    lose(cluster, 1, 3, 0);
    wait_until(cluster, isr_is_whole(cluster) && all_are_verified(cluster));
    assert_int_equal(count_all_findings(cluster), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_cluster, teardown_cluster)

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST(test_equal_content_is_found_equal),
        TEST(test_it_is_equal_after_all_that_happens),
        TEST(test_a_follower_that_differs_begins_anew),
        TEST(test_a_leader_that_differs_leads_no_more),
        TEST(test_r24_a_damaged_follower_begins_anew),
        TEST(test_of_two_that_differ_none_is_touched),
        TEST(test_a_replica_that_is_needed_waits),
        TEST(test_a_replica_that_is_needed_keeps_no_other_waiting),
        TEST(test_r24_executing_meets_damage),
        TEST(test_r24_a_leader_meets_damage),
        TEST(test_r24_a_read_meets_damage),
        TEST(test_r24_a_followers_read_meets_damage),
        TEST(test_r24_replaying_meets_damage),
        TEST(test_it_happens_in_the_background),
        TEST(test_losses_only_delay_it),
        TEST(test_who_has_lost_its_sum_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

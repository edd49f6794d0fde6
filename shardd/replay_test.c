/* What opening a lane makes of a log and a store, whatever order a crash has left them in. */
#include "shardd/replay.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/slot.h"
#include "libcommon/testing.h"

#include <pthread.h>

enum { SHARDS = 4, SHARD = 1, STAY = 7 };

static const struct replica_times times = REPLICA_TIMES_DEFAULT;

struct fixture {
    char directory[64], text[512];
    char key[32]; /* of SHARD */
    struct store *store;
    struct wal *wal;
    struct shard_table table;
    struct replay replay;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    unsigned synced, checkpointed;
};

/* ---- the lane's end of completions ---- */

static void note(struct fixture *fixture, unsigned *counter) {
    pthread_mutex_lock(&fixture->lock);
    ++*counter;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static void wait_for(struct fixture *fixture, unsigned *counter) {
    pthread_mutex_lock(&fixture->lock);
    while (*counter == 0) pthread_cond_wait(&fixture->changed, &fixture->lock);
    --*counter;
    pthread_mutex_unlock(&fixture->lock);
}

static void synced_cb(void *arg, int err) {
    struct fixture *fixture = arg;
    if (err != SK_OK) abort();
    note(fixture, &fixture->synced);
}

static void checkpointed_cb(void *arg, int err) {
    struct fixture *fixture = arg;
    if (err != SK_OK) abort();
    note(fixture, &fixture->checkpointed);
}

/* ---- opening and closing, as a lane does ---- */

static int try_open(struct fixture *fixture) {
    char store_path[96], log_path[96];
    struct wal_report report;
    snprintf(store_path, sizeof store_path, "%s/store", fixture->directory);
    snprintf(log_path, sizeof log_path, "%s/log", fixture->directory);
    struct store_options store_options = {.directory = store_path,
                                          .map_bytes = (uint64_t)1 << 30,
                                          .memtable_bytes = 1 << 20,
                                          .txn_bytes = 1 << 20,
                                          .checkpointed_cb = checkpointed_cb,
                                          .arg = fixture};
    struct wal_options wal_options = {.directory = log_path,
                                      .segment_bytes = 16384,
                                      .group_bytes_max = 8192,
                                      .synced_cb = synced_cb,
                                      .arg = fixture};
    assert_int_equal(store_open(&fixture->store, &store_options, fixture->text, sizeof fixture->text), SK_OK);
    fixture->table = (struct shard_table){.lane_count = 1};
    fixture->replay = (struct replay){.table = &fixture->table,
                                      .store = fixture->store,
                                      .segment_bytes = wal_options.segment_bytes,
                                      .times = &times};
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    int err = replay_load_shards(&fixture->replay);
    if (err == SK_OK) {
        err = wal_open(&fixture->wal, &wal_options, fixture->replay.synced, replay_entry_cb, &fixture->replay,
                       &report);
    }
    if (err == SK_OK) err = replay_finish(&fixture->replay);
    store_step_end(fixture->store);
    return err;
}

static void close_all(struct fixture *fixture) {
    wal_close(fixture->wal);
    fixture->wal = NULL;
    fixture->synced = 0;
    shard_table_deinit(&fixture->table);
    replay_deinit(&fixture->replay);
    store_close(fixture->store);
    fixture->store = NULL;
}

static void reopen(struct fixture *fixture) {
    close_all(fixture);
    assert_int_equal(try_open(fixture), SK_OK);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/skerry-replay-XXXXXX");
    if (mkdtemp(fixture->directory) == NULL) return -1;
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    for (int i = 0; i == 0 || slot_shard(slot_of_key(slice_of_text(fixture->key)), SHARDS) != SHARD; i++) {
        snprintf(fixture->key, sizeof fixture->key, "key-%d", i);
    }
    assert_int_equal(try_open(fixture), SK_OK);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    char command[128];
    close_all(fixture);
    snprintf(command, sizeof command, "rm -rf %s", fixture->directory);
    int rc = system(command);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->lock);
    free(fixture);
    return rc;
}

/* ---- what a crash finds ---- */

static wal_position append(struct fixture *fixture, const struct wal_entry *entry) {
    wal_position position;
    int err;
    while ((err = wal_append(fixture->wal, entry, &position)) == SK_BUSY) wait_for(fixture, &fixture->synced);
    assert_int_equal(err, SK_OK);
    wal_flush(fixture->wal);
    do {
        wait_for(fixture, &fixture->synced);
    } while (wal_complete(fixture->wal) <= position);
    return position;
}

static void append_start(struct fixture *fixture, uint64_t stay) {
    uint32_t shard_count = SHARDS;
    append(fixture, &(struct wal_entry){.shard = SHARD,
                                        .type = WAL_START,
                                        .replica_id = stay,
                                        .payload = slice_of(&shard_count, sizeof shard_count)});
}

static void append_mark(struct fixture *fixture, enum wal_type type, uint64_t stay, uint64_t epoch,
                        uint64_t index) {
    append(fixture,
           &(struct wal_entry){
               .shard = SHARD, .type = (uint8_t)type, .replica_id = stay, .epoch = epoch, .index = index});
}

/* APPEND key letter: so the value tells what was executed, and how often. */
static void append_letter(struct fixture *fixture, uint64_t stay, uint64_t epoch, uint64_t index, uint64_t commit,
                          char letter) {
    struct buffer body, payload;
    char text[2] = {letter, 0};
    buffer_init(&body);
    buffer_init(&payload);
    mp_write_text(&body, "APPEND");
    mp_write_array(&body, 2);
    mp_write_bin(&body, slice_of_text(fixture->key));
    mp_write_bin(&body, slice_of_text(text));
    struct entry entry = {.commit_index = commit,
                          .name = {.session = 5, .number = epoch << 32 | index},
                          .body = buffer_slice(&body)};
    entry_encode_command(&payload, &entry);
    append(fixture, &(struct wal_entry){.shard = SHARD,
                                        .type = WAL_COMMAND,
                                        .replica_id = stay,
                                        .epoch = epoch,
                                        .index = index,
                                        .time_us = 1000000 * index,
                                        .payload = buffer_slice(&payload)});
    buffer_deinit(&body);
    buffer_deinit(&payload);
}

static struct shard *shard_of(struct fixture *fixture) { return shard_table_find(&fixture->table, SHARD); }

static void checkpoint(struct fixture *fixture, wal_position synced, uint64_t time_us) {
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(shard_save(shard_of(fixture), synced, time_us), SK_OK);
    store_step_end(fixture->store);
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    wait_for(fixture, &fixture->checkpointed);
    assert_int_equal(store_checkpoint_complete(fixture->store), SK_OK);
}

static void expect_text(struct fixture *fixture, const char *expected) {
    struct buffer body, result;
    struct mp_value value;
    buffer_init(&body);
    buffer_init(&result);
    mp_write_text(&body, "GET");
    mp_write_array(&body, 1);
    mp_write_bin(&body, slice_of_text(fixture->key));
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(exec_read(&shard_of(fixture)->exec, buffer_slice(&body), &(struct exec_moment){0}, &result),
                     SK_OK);
    store_step_end(fixture->store);
    struct mp_reader reader = mp_reader_of(buffer_slice(&result));
    assert_int_equal(mp_read(&reader, &value), SK_OK);
    if (expected == NULL) {
        assert_int_equal(value.type, MP_NIL);
    } else {
        assert_int_equal(value.type, MP_BIN);
        assert_int_equal(value.bytes.size, strlen(expected));
        assert_memory_equal(value.bytes.data, expected, strlen(expected));
    }
    buffer_deinit(&body);
    buffer_deinit(&result);
}

/* The log's entry at an index, as it would be sent to a follower, is of this epoch. */
static void expect_logged(struct fixture *fixture, uint64_t index, uint64_t epoch) {
    wal_position position;
    struct wal_entry entry;
    assert_int_equal(log_index_find(&shard_of(fixture)->log, index, &position), SK_OK);
    assert_int_equal(wal_read(fixture->wal, position, &entry), SK_OK);
    assert_int_equal(entry.index, index);
    assert_int_equal(entry.epoch, epoch);
}

/* ---- tests ---- */

/* R7: entries that were cut still lie in the log, before the record that cut them. A state from behind that record, in the
 * store by a checkpoint, is not theirs: neither those that it does not reach up to nor those that it has replaced. */
static void test_r7_the_store_is_ahead_of_a_cut(void **state) {
    struct fixture *fixture = *state;
    append_start(fixture, STAY);
    append_letter(fixture, STAY, 1, 1, 0, 'a');
    for (uint64_t index = 2; index <= 6; index++) append_letter(fixture, STAY, 1, index, 1, 'x');
    append_mark(fixture, WAL_EPOCH, STAY, 2, 1);
    append_letter(fixture, STAY, 2, 2, 1, 'b');
    append_letter(fixture, STAY, 2, 3, 2, 'c');
    append_letter(fixture, STAY, 2, 4, 3, 'd');
    reopen(fixture);
    expect_text(fixture, "abc");
    assert_int_equal(shard_of(fixture)->replica.applied_index, 3);
    checkpoint(fixture, wal_synced(fixture->wal), 0);

    reopen(fixture);
    struct shard *shard = shard_of(fixture);
    assert_int_equal(shard->replica.applied_index, 3);
    assert_int_equal(shard->replica.last_index, 4);
    assert_int_equal(shard->replica.last_epoch, 2);
    expect_text(fixture, "abc");
    expect_logged(fixture, 1, 1);
    for (uint64_t index = 2; index <= 4; index++) expect_logged(fixture, index, 2);
    append_letter(fixture, STAY, 2, 5, 4, 'e');
    reopen(fixture);
    expect_text(fixture, "abcd");
}

/* A cut whose record the log has lost (interval durability, a power loss): what it cut is not taken for what the store
 * has. */
static void test_r7_a_cut_that_was_lost(void **state) {
    struct fixture *fixture = *state;
    char command[256];
    append_start(fixture, STAY);
    append_letter(fixture, STAY, 1, 1, 0, 'a');
    append_letter(fixture, STAY, 1, 2, 1, 'x');
    append_letter(fixture, STAY, 1, 3, 1, 'x');
    snprintf(command, sizeof command, "cp -r %s/log %s/before", fixture->directory, fixture->directory);
    assert_int_equal(system(command), 0);
    wal_position synced = wal_synced(fixture->wal);
    append_mark(fixture, WAL_EPOCH, STAY, 2, 1);
    append_letter(fixture, STAY, 2, 2, 1, 'b');
    append_letter(fixture, STAY, 2, 3, 2, 'c');
    reopen(fixture);
    assert_int_equal(shard_of(fixture)->replica.applied_index, 2);
    checkpoint(fixture, synced, 0);

    close_all(fixture);
    snprintf(command, sizeof command, "rm -r %s/log && mv %s/before %s/log", fixture->directory,
             fixture->directory, fixture->directory);
    assert_int_equal(system(command), 0);
    assert_int_equal(try_open(fixture), SK_OK);
    expect_text(fixture, "ab");
    assert_int_equal(shard_of(fixture)->replica.last_index, 2);
    wal_position position;
    assert_int_equal(log_index_find(&shard_of(fixture)->log, 2, &position), SK_NOT_FOUND);
    assert_int_equal(shard_of(fixture)->replica.first_index, 3);
}

/* A stay that got a snapshot and has ended: its log has a hole, and nothing in the store covers it any more. */
static void test_an_ended_stay_with_a_hole(void **state) {
    struct fixture *fixture = *state;
    append_start(fixture, STAY);
    append_letter(fixture, STAY, 1, 1, 0, 'a');
    append_letter(fixture, STAY, 2, 100, 99, 'x');
    append_mark(fixture, WAL_EPOCH, STAY, 3, 99);
    append_letter(fixture, STAY, 3, 100, 99, 'x');
    append_mark(fixture, WAL_DROP, STAY, 0, 0);
    reopen(fixture);
    assert_null(shard_of(fixture));
    append_start(fixture, STAY + 1);
    append_letter(fixture, STAY + 1, 4, 1, 0, 'b');
    append_letter(fixture, STAY + 1, 4, 2, 1, 'c');
    reopen(fixture);
    expect_text(fixture, "b");
}

/* The same, begun anew under its name: an install of it was broken off. */
static void test_a_hole_before_a_new_beginning(void **state) {
    struct fixture *fixture = *state;
    append_start(fixture, STAY);
    append_letter(fixture, STAY, 1, 1, 0, 'a');
    append_letter(fixture, STAY, 2, 100, 99, 'x');
    append_start(fixture, STAY);
    append_letter(fixture, STAY, 3, 1, 0, 'b');
    append_letter(fixture, STAY, 3, 2, 1, 'c');
    reopen(fixture);
    expect_text(fixture, "b");
}

/* R24: in a stay that goes on it is damage. */
static void test_r24_a_hole_is_damage(void **state) {
    struct fixture *fixture = *state;
    append_start(fixture, STAY);
    append_letter(fixture, STAY, 1, 1, 0, 'a');
    append_letter(fixture, STAY, 1, 3, 1, 'c');
    close_all(fixture);
    assert_int_equal(try_open(fixture), SK_ECORRUPT);
}

/* The stay ended while the store was busy; meanwhile a checkpoint let go of some of its log. */
static void test_an_ended_stay_that_the_store_still_has(void **state) {
    struct fixture *fixture = *state;
    append_start(fixture, STAY);
    append_letter(fixture, STAY, 1, 1, 0, 'a');
    append_letter(fixture, STAY, 1, 2, 1, 'b');
    reopen(fixture);
    checkpoint(fixture, wal_synced(fixture->wal), 0);
    uint64_t index = 3;
    while (wal_end(fixture->wal) < 3 * 16384) {
        append_letter(fixture, STAY, 1, index, index - 1, 'x');
        index++;
    }
    append_mark(fixture, WAL_DROP, STAY, 0, 0);
    wal_release(fixture->wal, wal_end(fixture->wal));
    assert_true(wal_released(fixture->wal) > 16384);
    reopen(fixture);
    assert_null(shard_of(fixture));
}

/* R26: what any of the lane's shards has seen holds for all of them, wherever it stands. */
static void test_r26_time_of_the_lane(void **state) {
    struct fixture *fixture = *state;
    uint32_t shard_count = SHARDS;
    append_start(fixture, STAY);
    append(fixture, &(struct wal_entry){.shard = SHARD + 1,
                                        .type = WAL_START,
                                        .replica_id = 1,
                                        .payload = slice_of(&shard_count, sizeof shard_count)});
    append(fixture, &(struct wal_entry){.type = WAL_TIME, .time_us = 500});
    append_letter(fixture, STAY, 1, 1, 0, 'a'); /* at a second */
    append_letter(fixture, STAY, 1, 2, 1, 'b');
    reopen(fixture);
    const struct shard *other = shard_table_find(&fixture->table, SHARD + 1);
    assert_int_equal(other->replica.last_time_us, 2000000);
    assert_int_equal(fixture->replay.time_us, 2000000);

    checkpoint(fixture, wal_synced(fixture->wal), 7000000);
    reopen(fixture);
    other = shard_table_find(&fixture->table, SHARD + 1);
    assert_int_equal(other->replica.last_time_us, 7000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_r7_the_store_is_ahead_of_a_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r7_a_cut_that_was_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_ended_stay_with_a_hole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_hole_before_a_new_beginning, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r24_a_hole_is_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_ended_stay_that_the_store_still_has, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r26_time_of_the_lane, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

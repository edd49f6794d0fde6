/* Replicas that execute one log are equal, whatever lies in memtables or LMDB meanwhile, and wherever they began: one in memory,
 * one over a store that checkpoints at any time, one that loses its memtables and replays, and one that is made of a
 * snapshot midway. Random commands of all types, of long and colliding names, in batches and alone. SEED repeats a run. */
#include "shardd/collection.h"
#include "shardd/exec.h"
#include "shardd/kv_memory.h"
#include "shardd/store_fixture.h"

#include "shardd/random_entries.h"

enum { SHARD = 0, CLUSTER = 9, ENTRIES = 6000, COMPARED_EACH = 400 };

/* ---- replicas ---- */

struct replica {
    struct fixture *files; /* NULL: in memory alone */
    struct kv *kv;
    struct exec exec;
    uint32_t applied; /* entries */
    struct buffer answer;
    struct kv_watch watch;
};

/* What a checkpoint has besides the records: as a shard's own record. */
struct saved {
    uint32_t applied;
    struct exec_counters counters;
};

/* Hashes that collide: of a name few bits count, and long names share them all but for three kinds. */
static uint64_t weak_hash64(struct slice key) {
    return (keyspace_hasher_xxh3.hash64(key) % 61) * 0x0410410410410410u;
}
static void weak_hash128(struct slice key, uint8_t hash[16]) {
    memset(hash, key.size > 0 ? key.data[key.size - 1] % 3 : 0, 16);
}
static const struct keyspace_hasher weak_hasher = {.hash64 = weak_hash64, .hash128 = weak_hash128};
static const struct keyspace_hasher *hasher;

static void nothing_changes(struct kv_watch *watch, struct slice key, const struct slice *value) {
    (void)watch, (void)key, (void)value;
    fail_msg("a read has changed something");
}

static void begin_step(struct replica *replica) {
    if (replica->files != NULL) assert_int_equal(store_step_begin(replica->files->store), SK_OK);
}

static void end_step(struct replica *replica) {
    if (replica->files != NULL) store_step_end(replica->files->store);
}

/* Over the state that its store has. */
static void start(struct replica *replica) {
    struct slice value;
    struct saved saved = {0};
    if (replica->files != NULL) replica->kv = shard(replica->files, SHARD);
    exec_init(&replica->exec, replica->kv, SHARD, 1);
    replica->exec.hasher = hasher;
    begin_step(replica);
    if (kv_get(replica->kv, record_shard_key(), &value) == SK_OK) {
        assert_int_equal(value.size, sizeof saved);
        memcpy(&saved, value.data, sizeof saved);
    }
    end_step(replica);
    replica->exec.counters = saved.counters;
    replica->applied = saved.applied;
}

static void replica_init(struct replica *replica, bool in_memory) {
    *replica = (struct replica){.watch.changing_cb = nothing_changes};
    buffer_init(&replica->answer);
    if (in_memory) {
        assert_int_equal(kv_new_memory(&replica->kv), SK_OK);
    } else {
        assert_int_equal(setup((void **)&replica->files), 0);
        replica->files->options.map_bytes =
            1u << 30; /* the thread sanitizer has no room for several as large as usual */
        open_store(replica->files);
    }
    start(replica);
}

static void replica_deinit(struct replica *replica) {
    exec_deinit(&replica->exec);
    buffer_deinit(&replica->answer);
    if (replica->files == NULL) {
        kv_free_memory(replica->kv);
    } else {
        void *files = replica->files;
        teardown(&files);
    }
}

static void save(struct replica *replica) {
    struct saved saved;
    memset(&saved, 0, sizeof saved);
    saved.applied = replica->applied;
    saved.counters = replica->exec.counters;
    begin_step(replica);
    assert_int_equal(kv_put(replica->kv, record_shard_key(), slice_of(&saved, sizeof saved)), SK_OK);
    end_step(replica);
}

/* Begins a checkpoint, or ends the one that runs. */
static void move_checkpoint(struct replica *replica) {
    if (store_checkpoint_running(replica->files->store)) {
        assert_int_equal(finish_checkpoint(replica->files), SK_OK);
        return;
    }
    save(replica);
    assert_int_equal(store_checkpoint_start(replica->files->store), SK_OK);
}

static void end_checkpoint(struct replica *replica) {
    if (store_checkpoint_running(replica->files->store)) move_checkpoint(replica);
}

/* As after a crash: what memtables had is gone, and the entries behind the last checkpoint come again. */
static void lose_memtables(struct replica *replica) {
    exec_deinit(&replica->exec);
    close_store(replica->files);
    open_store(replica->files);
    start(replica);
}

/* `to` becomes what `from` has checkpointed. */
static void install_snapshot(struct replica *from, struct replica *to) {
    struct store_snapshot snapshot;
    struct store *store = from->files->store;
    end_checkpoint(from);
    assert_int_equal(store_snapshot_start(store, SHARD, CLUSTER, from->files->snapshot_path), SK_OK);
    wait_for(from->files, SNAPSHOT_COPIED);
    assert_int_equal(store_snapshot_complete(store, &snapshot), SK_OK);
    end_checkpoint(to);
    exec_deinit(&to->exec);
    assert_int_equal(
        store_install_start(to->files->store, SHARD, CLUSTER, from->files->snapshot_path, snapshot.record), SK_OK);
    wait_for(to->files, INSTALLED);
    assert_int_equal(store_install_complete(to->files->store), SK_OK);
    start(to);
}

/* What executing answers: err, and answer in the replica. */
static int execute(struct replica *replica, const struct logged *entry) {
    struct exec *exec = &replica->exec;
    struct slice body = buffer_slice(&entry->body);
    uint32_t removed = 0;
    int err;
    buffer_clear(&replica->answer, 65536);
    begin_step(replica);
    if (entry->kind == ENTRY_READ) {
        struct exec_counters before = exec->counters;
        kv_set_watch(replica->kv, &replica->watch);
        err = exec_read(exec, body, &entry->moment, &replica->answer);
        kv_set_watch(replica->kv, NULL);
        assert_memory_equal(&before, &exec->counters, sizeof before);
    } else if (entry->kind == ENTRY_SWEEP) {
        err = exec_sweep(exec, entry->moment.time_us, entry->limit, &removed);
        mp_write_int(&replica->answer, removed);
    } else {
        bool atomic = entry->kind != ENTRY_WRITE;
        err = exec_check(exec, body, atomic, true, &replica->answer);
        if (err == SK_OK) err = exec_run(exec, body, atomic, &entry->moment, &replica->answer);
    }
    end_step(replica);
    if (err < 0) fail_msg("entry %u: %s", replica->applied, error_name(err));
    return err;
}

static void catch_up(struct replica *replica, const struct logged *log, uint32_t to) {
    for (; replica->applied < to; replica->applied++) {
        const struct logged *entry = &log[replica->applied];
        if (entry->kind != ENTRY_READ) (void)execute(replica, entry); /* reads are not in the log */
    }
}

static void assert_alike(const struct replica *a, int err_a, const struct replica *b, int err_b) {
    if (err_a == err_b && slice_equal(buffer_slice(&a->answer), buffer_slice(&b->answer))) return;
    fail_msg("entry %u: %s and %s, or other answers", a->applied, error_name(err_a), error_name(err_b));
}

static struct slice next_record(struct kv_iter *iter, struct slice *value) {
    struct slice key;
    int err;
    do {
        err = kv_iter_next(iter, &key, value);
    } while (err == SK_OK && slice_equal(key, record_shard_key()));
    assert_true(err == SK_OK || err == SK_NOT_FOUND);
    return err == SK_OK ? key : slice_of(NULL, 0);
}

/* Counters, and every record. */
static void assert_same_state(struct replica *a, struct replica *b) {
    struct kv_iter *iter_a, *iter_b;
    struct slice key_a, key_b, value_a, value_b;
    assert_memory_equal(&a->exec.counters, &b->exec.counters, sizeof a->exec.counters);
    begin_step(a);
    begin_step(b);
    assert_int_equal(kv_iter_open(a->kv, slice_of("", 0), &iter_a), SK_OK);
    assert_int_equal(kv_iter_open(b->kv, slice_of("", 0), &iter_b), SK_OK);
    do {
        key_a = next_record(iter_a, &value_a);
        key_b = next_record(iter_b, &value_b);
        assert_true(slice_equal(key_a, key_b));
        if (key_a.size > 0) assert_true(slice_equal(value_a, value_b));
    } while (key_a.size > 0);
    kv_iter_close(iter_a);
    kv_iter_close(iter_b);
    uint64_t next_a, next_b;
    assert_int_equal(exec_next_deadline(&a->exec, &next_a), SK_OK);
    assert_int_equal(exec_next_deadline(&b->exec, &next_b), SK_OK);
    assert_true(next_a == next_b);
    end_step(b);
    end_step(a);
}

/* When all keys are gone and all is swept, nothing is left. */
static void remove_all(struct replica *replica, uint64_t time_us) {
    struct exec_moment moment = {.time_us = time_us};
    struct kv_iter *iter;
    struct slice key, value;
    uint32_t removed;
    begin_step(replica);
    for (;;) {
        struct buffer body;
        struct record record;
        assert_int_equal(kv_iter_open(replica->kv, slice_of("", 0), &iter), SK_OK);
        key = next_record(iter, &value);
        bool is_data = key.size > 0 && key.data[0] < RECORD_EXPIRY;
        buffer_init(&body);
        if (is_data) {
            assert_int_equal(keyspace_read_record(key, value, &record), SK_OK);
            mp_write_text(&body, "DEL");
            mp_write_array(&body, 1);
            mp_write_bin(&body, record.key);
        }
        kv_iter_close(iter);
        if (is_data) {
            int err = exec_run(&replica->exec, buffer_slice(&body), false, &moment, &replica->answer);
            assert_int_equal(err, SK_OK);
        }
        buffer_deinit(&body);
        if (!is_data) break;
    }
    while (replica->exec.counters.garbage > 0) {
        assert_int_equal(exec_sweep(&replica->exec, time_us, 100, &removed), SK_OK);
    }
    assert_int_equal(kv_iter_open(replica->kv, slice_of("", 0), &iter), SK_OK);
    assert_int_equal(next_record(iter, &value).size, 0);
    kv_iter_close(iter);
    end_step(replica);
    struct exec_counters nothing = {.changes = replica->exec.counters.changes};
    assert_memory_equal(&nothing, &replica->exec.counters, sizeof nothing);
}

static void run_log(const struct logged *log) {
    struct replica memory, checkpoints, crashes, copied;
    replica_init(&memory, true);
    replica_init(&checkpoints, false);
    replica_init(&crashes, false);
    replica_init(&copied, false);
    bool is_copy = false;
    while (memory.applied < ENTRIES) {
        uint32_t at = memory.applied;
        int err = execute(&memory, &log[at]);
        assert_alike(&memory, err, &checkpoints, execute(&checkpoints, &log[at]));
        memory.applied = checkpoints.applied = at + 1;
        if (draw(25) == 0) move_checkpoint(&checkpoints);
        if (draw(40) == 0) {
            catch_up(&crashes, log, at + 1);
            if (draw(2) == 0) lose_memtables(&crashes);
            else move_checkpoint(&crashes);
        }
        if (at > ENTRIES / 3 && !is_copy) {
            save(&checkpoints);
            end_checkpoint(&checkpoints);
            assert_int_equal(checkpoint(checkpoints.files), SK_OK);
            install_snapshot(&checkpoints, &copied);
            is_copy = true;
        }
        if ((at + 1) % COMPARED_EACH != 0) continue;
        assert_same_state(&memory, &checkpoints);
        catch_up(&crashes, log, at + 1);
        assert_same_state(&memory, &crashes);
        if (!is_copy) continue;
        catch_up(&copied, log, at + 1);
        assert_same_state(&memory, &copied);
    }
    remove_all(&memory, log[ENTRIES - 1].moment.time_us);
    remove_all(&copied, log[ENTRIES - 1].moment.time_us);
    replica_deinit(&memory);
    replica_deinit(&checkpoints);
    replica_deinit(&crashes);
    replica_deinit(&copied);
}

static void run(const struct keyspace_hasher *by) {
    struct logged *log = calloc(ENTRIES, sizeof *log);
    uint64_t time_us = 1700000000000000;
    assert_non_null(log);
    draw_seed();
    hasher = by;
    for (uint32_t i = 0; i < ENTRIES; i++) make_entry(&log[i], &time_us);
    run_log(log);
    for (uint32_t i = 0; i < ENTRIES; i++) buffer_deinit(&log[i].body);
    free(log);
}

static void replicas_are_alike(void **state) {
    (void)state;
    run(&keyspace_hasher_xxh3);
}

static void replicas_are_alike_when_names_collide(void **state) {
    (void)state;
    run(&weak_hasher);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replicas_are_alike),
        cmocka_unit_test(replicas_are_alike_when_names_collide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Snapshots of one shard: copied out of a store beside its other work, and installed into one, whatever goes wrong. */
#include "libcommon/limits.h"
#include "shardd/record_kind.h"
#include "shardd/snapshot_file.h"
#include "shardd/snapshot_install.h"
#include "shardd/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { SHARD = 5, OTHER = 6, CLUSTER = 1234 };

/* ---- faults: stand before the C library's for the whole program ---- */

static atomic_bool sync_fails;      /* a commit fails, and nothing worse */
static atomic_int meta_write_fails; /* so many writes of LMDB's meta page fail, which breaks its environment */
static atomic_bool meta_write_lies; /* the first of those reaches the disk all the same */

int fdatasync(int fd) {
    if (!atomic_load(&sync_fails)) return fsync(fd);
    errno = EIO;
    return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    if (size < 4096 && atomic_load(&meta_write_fails) > 0) {
        if (atomic_exchange(&meta_write_lies, false)) syscall(SYS_pwrite64, fd, bytes, size, offset);
        atomic_fetch_sub(&meta_write_fails, 1);
        errno = EIO;
        return -1;
    }
    return (ssize_t)syscall(SYS_pwrite64, fd, bytes, size, offset);
}

/* ---- what a shard has ---- */

#define VALUE_BYTES 100

static void fill_value(char value[VALUE_BYTES], const char *tag, uint32_t number) {
    memset(value, '.', VALUE_BYTES);
    int used = snprintf(value, VALUE_BYTES, "%s %u", tag, number);
    value[used] = '.';
}

/* `count` records tagged `tag`, and the shard's own. */
static void fill(struct fixture *fixture, uint32_t number, uint32_t count, const char *tag) {
    char key[16], value[VALUE_BYTES];
    struct kv *kv = shard(fixture, number);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "key%07u", i);
        fill_value(value, tag, i);
        assert_int_equal(kv_put(kv, slice_of_text(key), slice_of(value, sizeof value)), SK_OK);
    }
    assert_int_equal(kv_put(kv, record_shard_key(), slice_of_text(tag)), SK_OK);
}

/* Exactly that is there, with `record` as the shard's own. */
static void assert_content(struct fixture *fixture, uint32_t number, uint32_t count, const char *tag,
                           const char *record) {
    char expected_key[16], expected[VALUE_BYTES];
    struct kv_iter *iter;
    struct slice key, value;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_iter_open(shard(fixture, number), slice_of("", 0), &iter), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(expected_key, sizeof expected_key, "key%07u", i);
        fill_value(expected, tag, i);
        assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
        assert_true(slice_equal(key, slice_of_text(expected_key)));
        assert_true(slice_equal(value, slice_of(expected, sizeof expected)));
    }
    assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
    assert_true(slice_equal(key, record_shard_key()));
    assert_true(slice_equal(value, slice_of_text(record)));
    assert_int_equal(kv_iter_next(iter, &key, &value), SK_NOT_FOUND);
    kv_iter_close(iter);
    store_step_end(fixture->store);
}

static int finish_snapshot(struct fixture *fixture, struct store_snapshot *snapshot) {
    wait_for(fixture, SNAPSHOT_COPIED);
    return store_snapshot_complete(fixture->store, snapshot);
}

static int start_snapshot(struct fixture *fixture) {
    return store_snapshot_start(fixture->store, SHARD, CLUSTER, fixture->snapshot_path);
}

static int snapshot(struct fixture *fixture) {
    struct store_snapshot result;
    assert_int_equal(start_snapshot(fixture), SK_OK);
    return finish_snapshot(fixture, &result);
}

static int finish_install(struct fixture *fixture) {
    wait_for(fixture, INSTALLED);
    return store_install_complete(fixture->store);
}

static int start_install(struct fixture *fixture, const char *record) {
    return store_install_start(fixture->store, SHARD, CLUSTER, fixture->snapshot_path, slice_of_text(record));
}

static int install(struct fixture *fixture, const char *record) {
    assert_int_equal(start_install(fixture, record), SK_OK);
    return finish_install(fixture);
}

/* A snapshot's file of a shard with `count` records tagged "new"; the store then has nothing of the shard. */
static void make_snapshot(struct fixture *fixture, uint32_t count) {
    fill(fixture, SHARD, count, "new");
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_int_equal(snapshot(fixture), SK_OK);
    assert_int_equal(store_drop_shard(fixture->store, SHARD), SK_OK);
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

static bool part_exists(const struct fixture *fixture) {
    char path[128];
    snprintf(path, sizeof path, "%s.part", fixture->snapshot_path);
    return exists(path);
}

/* ---- there and back ---- */

static void test_many_records(void **state) {
    struct fixture *fixture = *state, *other = NULL;
    enum { COUNT = 200000 };
    assert_int_equal(setup((void **)&other), 0);
    open_store(fixture);
    open_store(other);
    fill(fixture, SHARD, COUNT, "tag");
    assert_int_equal(checkpoint(fixture), SK_OK);
    struct store_snapshot result;
    assert_int_equal(start_snapshot(fixture), SK_OK);
    assert_int_equal(finish_snapshot(fixture, &result), SK_OK);
    struct stat file;
    assert_int_equal(stat(fixture->snapshot_path, &file), 0);
    assert_int_equal(result.bytes, file.st_size);
    assert_int_equal(result.records, COUNT + 1);
    assert_true(slice_equal(result.record, slice_of_text("tag")));

    assert_int_equal(rename(fixture->snapshot_path, other->snapshot_path), 0);
    fill(other, OTHER, 10, "untouched");
    assert_int_equal(install(other, "record"), SK_OK);
    assert_content(other, SHARD, COUNT, "tag", "record");
    assert_content(other, OTHER, 10, "untouched", "untouched");
    put(shard(other, SHARD), "key0000007x", "added");
    assert_kv(other, SHARD, "key0000007x", "added");
    close_store(other);
    open_store(other);
    assert_false(store_shard_is_partial(other->store, SHARD));
    assert_content(other, SHARD, COUNT, "tag", "record");
    teardown((void **)&other);
}

/* Records of all sizes, none but the shard's own, and what comes behind it. */
static void test_unusual_records(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    size_t size = (16u << 20) + 70000;
    uint8_t *large = malloc(size), last_key[KV_KEY_BYTES_MAX];
    for (size_t i = 0; i < size; i++) large[i] = (uint8_t)(i * 31 >> 3);
    memset(last_key, 0xff, sizeof last_key);
    for (int round = 0; round < 2; round++) {
        fill(fixture, SHARD, 0, "tag");
        if (round == 1) {
            put(shard(fixture, SHARD), "empty", "");
            assert_int_equal(kv_put(shard(fixture, SHARD), slice_of_text("large"), slice_of(large, size)), SK_OK);
            assert_int_equal(
                kv_put(shard(fixture, SHARD), slice_of(last_key, sizeof last_key), slice_of_text("last")), SK_OK);
        }
        assert_int_equal(checkpoint(fixture), SK_OK);
        assert_int_equal(snapshot(fixture), SK_OK);
        assert_int_equal(install(fixture, "again"), SK_OK);
        assert_int_equal(snapshot(fixture), SK_OK); /* of what was installed */
        assert_int_equal(install(fixture, "and again"), SK_OK);
        if (round == 0) assert_content(fixture, SHARD, 0, "", "and again");
    }
    struct slice value;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_get(shard(fixture, SHARD), slice_of_text("large"), &value), SK_OK);
    assert_true(slice_equal(value, slice_of(large, size)));
    assert_int_equal(kv_get(shard(fixture, SHARD), slice_of(last_key, sizeof last_key), &value), SK_OK);
    assert_true(slice_equal(value, slice_of_text("last")));
    assert_int_equal(kv_get(shard(fixture, SHARD), record_shard_key(), &value), SK_OK);
    assert_true(slice_equal(value, slice_of_text("and again")));
    store_step_end(fixture->store);
    assert_kv(fixture, SHARD, "empty", "");
    free(large);
}

/* ---- export ---- */

/* What a file says, against the records of `fill`. */
static void assert_file(const char *path, uint32_t count, const char *tag) {
    struct snapshot_reader *reader;
    struct slice key, value;
    char text[256], expected[VALUE_BYTES];
    const struct snapshot_id id = {.cluster = CLUSTER, .shard = SHARD};
    assert_int_equal(snapshot_reader_open(&reader, path, &id, text, sizeof text), SK_OK);
    assert_true(slice_equal(snapshot_reader_record(reader), slice_of_text(tag)));
    for (uint32_t i = 0; i < count; i++) {
        fill_value(expected, tag, i);
        assert_int_equal(snapshot_reader_next(reader, &key, &value), SK_OK);
        assert_true(slice_equal(value, slice_of(expected, sizeof expected)));
    }
    assert_int_equal(snapshot_reader_next(reader, &key, &value), SK_NOT_FOUND);
    snapshot_reader_close(reader);
}

/* The export writes into a pipe instead of a file, so it goes on when the test lets it. */
static void make_pipe(struct fixture *fixture, char path[128]) {
    snprintf(path, 128, "%s.part", fixture->snapshot_path);
    assert_int_equal(mkfifo(path, 0600), 0);
}

/* Takes what comes out of the pipe into a file beside it, which then stands where the pipe was. */
static void drain_pipe(struct fixture *fixture, const char *path) {
    char copy_path[128];
    static uint8_t bytes[65536];
    snprintf(copy_path, sizeof copy_path, "%s.copy", fixture->snapshot_path);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(copy_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(from >= 0 && to >= 0);
    ssize_t got;
    while ((got = read(from, bytes, sizeof bytes)) > 0) assert_int_equal(write(to, bytes, (size_t)got), got);
    assert_int_equal(got, 0);
    close(from);
    close(to);
    wait_for(fixture, SNAPSHOT_COPIED);
    note_ended(fixture, SNAPSHOT_COPIED);
    assert_int_equal(rename(copy_path, fixture->snapshot_path), 0);
}

/* The lane writes and checkpoints; the snapshot is of the moment when it was started. */
static void test_export_beside_writes_and_checkpoints(void **state) {
    struct fixture *fixture = *state;
    enum { COUNT = 20000 };
    char pipe_path[128];
    open_store(fixture);
    fill(fixture, SHARD, COUNT, "then");
    fill(fixture, OTHER, COUNT, "then");
    assert_int_equal(checkpoint(fixture), SK_OK);
    fill(fixture, SHARD, COUNT, "in memory alone");
    make_pipe(fixture, pipe_path);
    assert_int_equal(start_snapshot(fixture), SK_OK);
    for (int round = 0; round < 3; round++) {
        fill(fixture, SHARD, COUNT + 100, "later");
        fill(fixture, OTHER, COUNT, "later");
        assert_int_equal(checkpoint(fixture), SK_OK);
        assert_content(fixture, SHARD, COUNT + 100, "later", "later");
    }
    assert_false(has_ended(fixture, SNAPSHOT_COPIED));
    assert_int_equal(start_snapshot(fixture), SK_BUSY);
    assert_int_equal(store_drop_shard(fixture->store, SHARD), SK_BUSY);
    assert_int_equal(store_drop_shard(fixture->store, OTHER), SK_OK);
    drain_pipe(fixture, pipe_path);
    struct store_snapshot result;
    assert_int_equal(finish_snapshot(fixture, &result), SK_OK);
    assert_int_equal(result.records, COUNT + 1);
    assert_true(slice_equal(result.record, slice_of_text("then")));
    assert_file(fixture->snapshot_path, COUNT, "then");
    assert_content(fixture, SHARD, COUNT + 100, "later", "later");
    assert_int_equal(snapshot(fixture), SK_OK);
    assert_file(fixture->snapshot_path, COUNT + 100, "later");
    assert_int_equal(store_drop_shard(fixture->store, SHARD), SK_OK);
}

static void test_export_refused(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    assert_int_equal(start_snapshot(fixture), SK_NOT_FOUND);
    fill(fixture, SHARD, 1, "in memory alone");
    assert_int_equal(start_snapshot(fixture), SK_NOT_FOUND);
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_int_equal(snapshot(fixture), SK_OK);

    assert_int_equal(kv_del(shard(fixture, SHARD), record_shard_key()), SK_OK);
    assert_int_equal(checkpoint(fixture), SK_OK);
    unlink(fixture->snapshot_path);
    assert_int_equal(snapshot(fixture), SK_ECORRUPT);
    assert_non_null(strstr(store_fault_text(fixture->store), "shard 5 has no record of its own"));
    assert_false(exists(fixture->snapshot_path) || part_exists(fixture));
}

static void test_export_meets_a_full_disk(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    fill(fixture, SHARD, 20000, "tag");
    assert_int_equal(checkpoint(fixture), SK_OK);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit tight = {.rlim_cur = 1u << 20, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    int err = snapshot(fixture);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, SK_ENOSPC);
    assert_non_null(strstr(store_fault_text(fixture->store), fixture->snapshot_path));
    assert_false(exists(fixture->snapshot_path) || part_exists(fixture));
    assert_int_equal(snapshot(fixture), SK_OK);
    assert_file(fixture->snapshot_path, 20000, "tag");
}

/* A flipped bit in a page of LMDB does not become a snapshot. */
static void test_export_meets_damage(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    fill(fixture, SHARD, 1000, "tag");
    put(shard(fixture, SHARD), "key0000500x", "a value that nobody else has");
    assert_int_equal(checkpoint(fixture), SK_OK);
    close_store(fixture);
    char path[128];
    snprintf(path, sizeof path, "%s/data.mdb", fixture->directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat file;
    assert_true(fd >= 0 && fstat(fd, &file) == 0);
    uint8_t *bytes = malloc((size_t)file.st_size);
    assert_int_equal(pread(fd, bytes, (size_t)file.st_size, 0), file.st_size);
    uint8_t *at = memmem(bytes, (size_t)file.st_size, "nobody else", 11);
    assert_non_null(at);
    *at ^= 1;
    assert_int_equal(pwrite(fd, at, 1, at - bytes), 1);
    close(fd);
    free(bytes);
    open_store(fixture);
    assert_int_equal(snapshot(fixture), SK_ECORRUPT);
    assert_non_null(strstr(store_fault_text(fixture->store), "does not match its checksum"));
    assert_false(exists(fixture->snapshot_path) || part_exists(fixture));
}

/* Closing does not wait for gigabytes, and leaves no half of a file. */
static void test_close_while_exporting(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    fill(fixture, SHARD, 100000, "tag");
    assert_int_equal(checkpoint(fixture), SK_OK);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(start_snapshot(fixture), SK_OK);
        close_store(fixture);
        assert_false(part_exists(fixture));
        if (exists(fixture->snapshot_path)) assert_file(fixture->snapshot_path, 100000, "tag");
        unlink(fixture->snapshot_path);
        open_store(fixture);
    }
}

/* ---- install ---- */

/* Stops the writer's thread after a commit of an install until the test lets it go on. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint32_t stop_at; /* 0: never */
    bool stopped, going_on;
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void gate_hook(uint32_t commits) {
    pthread_mutex_lock(&gate.mutex);
    if (commits == gate.stop_at) {
        gate.stopped = true;
        pthread_cond_broadcast(&gate.changed);
        while (!gate.going_on) pthread_cond_wait(&gate.changed, &gate.mutex);
    }
    pthread_mutex_unlock(&gate.mutex);
}

/* Starts an install and waits until it has made `commits`. */
static void install_up_to(struct fixture *fixture, uint32_t commits) {
    snapshot_install_committed_hook = gate_hook;
    pthread_mutex_lock(&gate.mutex);
    gate.stop_at = commits;
    gate.stopped = gate.going_on = false;
    pthread_mutex_unlock(&gate.mutex);
    assert_int_equal(start_install(fixture, "record"), SK_OK);
    pthread_mutex_lock(&gate.mutex);
    while (!gate.stopped) pthread_cond_wait(&gate.changed, &gate.mutex);
    pthread_mutex_unlock(&gate.mutex);
}

static void go_on(void) {
    pthread_mutex_lock(&gate.mutex);
    gate.stop_at = 0;
    gate.going_on = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
}

static int teardown_gate(void **state) {
    snapshot_install_committed_hook = NULL;
    atomic_store(&sync_fails, false);
    atomic_store(&meta_write_fails, 0);
    atomic_store(&meta_write_lies, false);
    return teardown(state);
}

/* Old content in all three layers, and each key in another one. */
static void fill_layers(struct fixture *fixture) {
    fill(fixture, SHARD, 3000, "old");
    put(shard(fixture, SHARD), "a of disk", "old");
    assert_int_equal(checkpoint(fixture), SK_OK);
    put(shard(fixture, SHARD), "b of frozen", "old");
    put(shard(fixture, OTHER), "b of frozen", "other");
    del(shard(fixture, SHARD), "key0000001");
    atomic_store(&sync_fails, true);
    assert_int_equal(checkpoint(fixture), SK_EIO);
    atomic_store(&sync_fails, false);
    put(shard(fixture, SHARD), "c of active", "old");
    put(shard(fixture, OTHER), "c of active", "other");
    del(shard(fixture, SHARD), "key0000002");
}

static void test_install_over_three_layers(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    make_snapshot(fixture, 2000);
    fill_layers(fixture);
    assert_int_equal(install(fixture, "record"), SK_OK);
    assert_content(fixture, SHARD, 2000, "new", "record");
    assert_walk(fixture, OTHER, "", "b of frozen=other c of active=other");
    put(shard(fixture, SHARD), "d", "after");
    del(shard(fixture, SHARD), "d");
    assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_content(fixture, SHARD, 2000, "new", "record");
    close_store(fixture);
    open_store(fixture);
    assert_content(fixture, SHARD, 2000, "new", "record");
    assert_walk(fixture, OTHER, "", "b of frozen=other c of active=other");
}

/* A checkpoint waits for one transaction of an install, not for all; and what it has of the old content is not written
 * into the new one. */
static void test_checkpoint_between_steps(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 10000;
    open_store(fixture);
    make_snapshot(fixture, 2000);
    for (uint32_t commits = 1; commits < 5; commits++) {
        fill_layers(fixture);
        install_up_to(fixture, commits);
        put(shard(fixture, OTHER), "written", "meanwhile");
        assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
        go_on();
        assert_int_equal(finish_checkpoint(fixture), SK_OK);
        assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
        wait_for(fixture, CHECKPOINTED);
        /* The thread rests until this one is completed. */
        assert_false(has_ended(fixture, INSTALLED));
        assert_int_equal(store_checkpoint_complete(fixture->store), SK_OK);
        assert_kv(fixture, OTHER, "written", "meanwhile");
        assert_int_equal(finish_install(fixture), SK_OK);
        assert_content(fixture, SHARD, 2000, "new", "record");
        close_store(fixture);
        open_store(fixture);
        assert_content(fixture, SHARD, 2000, "new", "record");
        assert_kv(fixture, OTHER, "c of active", "other");
        assert_kv(fixture, OTHER, "written", "meanwhile");
    }
}

/* The memtable that is frozen while an install runs, and written after it, has the shard's old content. */
static void test_checkpoint_started_in_and_written_after_an_install(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    make_snapshot(fixture, 100);
    put(shard(fixture, SHARD), "old", "in memory");
    assert_int_equal(install(fixture, "record"), SK_OK);
    put(shard(fixture, SHARD), "new", "in memory");
    install_up_to(fixture, 2); /* the last commit */
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    go_on();
    wait_for(fixture, INSTALLED);
    assert_false(has_ended(fixture, CHECKPOINTED)); /* rests */
    assert_int_equal(store_install_complete(fixture->store), SK_OK);
    assert_content(fixture, SHARD, 100, "new", "record");
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    assert_content(fixture, SHARD, 100, "new", "record");
}

static void test_install_busy(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    make_snapshot(fixture, 100);
    fill(fixture, OTHER, 10, "other");
    assert_int_equal(checkpoint(fixture), SK_OK);
    install_up_to(fixture, 1);
    assert_int_equal(start_install(fixture, "second"), SK_BUSY);
    assert_int_equal(store_drop_shard(fixture->store, SHARD), SK_BUSY);
    assert_int_equal(store_drop_shard(fixture->store, OTHER), SK_BUSY);
    assert_int_equal(start_snapshot(fixture), SK_NOT_FOUND);
    go_on();
    assert_int_equal(finish_install(fixture), SK_OK);
    assert_int_equal(store_drop_shard(fixture->store, OTHER), SK_OK);
    assert_int_equal(snapshot(fixture), SK_OK);
}

/* A store, without being asked: nothing was changed, in no layer. */
static void assert_layers_as_before(struct fixture *fixture) {
    assert_false(store_shard_is_partial(fixture->store, SHARD));
    assert_kv(fixture, SHARD, "a of disk", "old");
    assert_kv(fixture, SHARD, "b of frozen", "old");
    assert_kv(fixture, SHARD, "c of active", "old");
    assert_kv(fixture, SHARD, "key0000001", NULL);
    assert_kv(fixture, SHARD, "key0000002", NULL);
}

static void flip_last_byte(const char *path) {
    struct stat file;
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &file) == 0);
    assert_int_equal(pread(fd, &byte, 1, file.st_size - 1), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, file.st_size - 1), 1);
    close(fd);
}

static void test_files_that_are_refused(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 10000;
    open_store(fixture);
    make_snapshot(fixture, 2000);
    fill_layers(fixture);
    const char *path = fixture->snapshot_path;

    /* Of another cluster, of another shard: that has no database, and gets none. */
    assert_int_equal(store_install_start(fixture->store, SHARD, CLUSTER + 1, path, slice_of_text("r")), SK_OK);
    assert_int_equal(finish_install(fixture), SK_CONFLICT);
    assert_layers_as_before(fixture);
    assert_int_equal(store_install_start(fixture->store, SHARD + 9, CLUSTER, path, slice_of_text("r")), SK_OK);
    assert_int_equal(finish_install(fixture), SK_CONFLICT);
    assert_false(store_shard_is_partial(fixture->store, SHARD + 9));
    assert_non_null(strstr(store_fault_text(fixture->store), "of shard 5"));
    assert_walk(fixture, SHARD + 9, "", "");

    flip_last_byte(path);
    assert_int_equal(install(fixture, "record"), SK_ECORRUPT);
    assert_non_null(strstr(store_fault_text(fixture->store), path));
    assert_layers_as_before(fixture);

    unlink(path);
    assert_int_equal(install(fixture, "record"), SK_EIO);
    assert_layers_as_before(fixture);

    /* And all of it is in the next checkpoint. */
    assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    assert_int_equal(checkpoint(fixture), SK_OK);
    close_store(fixture);
    open_store(fixture);
    assert_layers_as_before(fixture);
}

static int count_shard(void *arg, uint32_t number) {
    *(uint32_t *)arg += number;
    return SK_OK;
}

/* Whoever uses the content of a partial shard has a bug, and is stopped. */
static void assert_view_is_locked(struct fixture *fixture) {
    struct kv *kv = shard(fixture, SHARD);
    for (int use = 0; use < 3; use++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct slice value;
            struct kv_iter *iter;
            struct rlimit no_core = {0};
            signal(SIGABRT, SIG_DFL);
            setrlimit(RLIMIT_CORE, &no_core);
            close(STDERR_FILENO);
            if (use == 0) kv_get(kv, slice_of_text("key0000001"), &value);
            if (use == 1) kv_put(kv, slice_of_text("key0000001"), slice_of_text("v"));
            if (use == 2) kv_iter_open(kv, slice_of_text("k"), &iter);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

static void assert_partial(struct fixture *fixture) {
    uint32_t sum = 0;
    assert_true(store_shard_is_partial(fixture->store, SHARD));
    assert_false(store_shard_is_partial(fixture->store, OTHER));
    assert_int_equal(store_each_shard(fixture->store, count_shard, &sum), SK_OK);
    assert_int_equal(sum, SHARD + OTHER);
    assert_int_equal(start_snapshot(fixture), SK_NOT_FOUND);
    assert_content(fixture, OTHER, 50, "other", "other");
}

/* A process that ends after each commit of an install leaves a shard that is marked, up to the last, which makes it
 * whole. It can be installed again or dropped. */
static void test_crash_between_commits(void **state) {
    struct fixture *fixture = *state;
    enum { COUNT = 700, COMMITS_MAX = 50 };
    fixture->options.txn_bytes = 5000;
    open_store(fixture);
    make_snapshot(fixture, COUNT);
    fill(fixture, OTHER, 50, "other");
    assert_int_equal(checkpoint(fixture), SK_OK);
    bool whole = false;
    uint32_t commits;
    for (commits = 1; !whole; commits++) {
        fill(fixture, SHARD, 900, "old");
        assert_int_equal(checkpoint(fixture), SK_OK);
        close_store(fixture);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            open_store(fixture);
            install_up_to(fixture, commits);
            _exit(42);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
        open_store(fixture);
        whole = !store_shard_is_partial(fixture->store, SHARD);
        if (whole) break;
        assert_partial(fixture);
        if (commits == 2) assert_view_is_locked(fixture);
        if (commits % 2 == 0) {
            assert_int_equal(store_drop_shard(fixture->store, SHARD), SK_OK);
            assert_false(store_shard_is_partial(fixture->store, SHARD));
            assert_walk(fixture, SHARD, "", "");
            close_store(fixture);
            open_store(fixture);
            assert_false(store_shard_is_partial(fixture->store, SHARD));
            assert_walk(fixture, SHARD, "", "");
        } else {
            assert_int_equal(install(fixture, "again"), SK_OK);
            assert_content(fixture, SHARD, COUNT, "new", "again");
        }
        assert_true(commits < COMMITS_MAX);
    }
    assert_true(commits >= 4);
    assert_content(fixture, SHARD, COUNT, "new", "record");
    assert_content(fixture, OTHER, 50, "other", "other");
}

static void test_install_locks_the_view(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    make_snapshot(fixture, 100);
    fill(fixture, SHARD, 10, "old");
    install_up_to(fixture, 1);
    assert_view_is_locked(fixture);
    go_on();
    assert_int_equal(finish_install(fixture), SK_OK);
    assert_content(fixture, SHARD, 100, "new", "record");
}

static void test_install_meets_a_full_disk(void **state) {
    struct fixture *fixture = *state;
    enum { COUNT = 20000 };
    fixture->options.txn_bytes = 50000;
    open_store(fixture);
    fill(fixture, OTHER, 50, "other");
    make_snapshot(fixture, COUNT);
    close_store(fixture); /* LMDB's free pages would be enough */
    char path[128];
    snprintf(path, sizeof path, "%s/data.mdb", fixture->directory);
    assert_int_equal(unlink(path), 0);
    open_store(fixture);
    fill(fixture, OTHER, 50, "other");
    fill(fixture, SHARD, 50, "old");
    assert_int_equal(checkpoint(fixture), SK_OK);
    put(shard(fixture, SHARD), "old", "in memory");

    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    install_up_to(fixture, 3);
    struct rlimit tight = {.rlim_cur = store_disk_bytes(fixture->store) + (300u << 10), .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    go_on();
    int err = finish_install(fixture);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, SK_ENOSPC);
    assert_non_null(strstr(store_fault_text(fixture->store), "data.mdb"));
    assert_partial(fixture);
    assert_view_is_locked(fixture);
    /* Life goes on, and nothing of the old content comes back with it. */
    put(shard(fixture, OTHER), "key0000000", "changed");
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_true(store_shard_is_partial(fixture->store, SHARD));
    assert_int_equal(install(fixture, "record"), SK_OK);
    assert_false(store_shard_is_partial(fixture->store, SHARD));
    assert_content(fixture, SHARD, COUNT, "new", "record");
    close_store(fixture);
    open_store(fixture);
    assert_content(fixture, SHARD, COUNT, "new", "record");
    assert_kv(fixture, OTHER, "key0000000", "changed");
}

/* The file changes after it was verified. */
static void test_file_damaged_in_between(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 10000;
    open_store(fixture);
    make_snapshot(fixture, 2000);
    fill(fixture, OTHER, 50, "other");
    fill(fixture, SHARD, 50, "old");
    assert_int_equal(checkpoint(fixture), SK_OK);
    install_up_to(fixture, 1);
    flip_last_byte(fixture->snapshot_path);
    go_on();
    assert_int_equal(finish_install(fixture), SK_ECORRUPT);
    assert_partial(fixture);
    /* Refused from the start, it is as partial as before. */
    assert_int_equal(install(fixture, "record"), SK_ECORRUPT);
    assert_partial(fixture);
    close_store(fixture);
    open_store(fixture);
    assert_partial(fixture);
    flip_last_byte(fixture->snapshot_path);
    assert_int_equal(install(fixture, "record"), SK_OK);
    assert_content(fixture, SHARD, 2000, "new", "record");
}

static void test_cancel(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 10000;
    open_store(fixture);
    make_snapshot(fixture, 2000);
    fill(fixture, OTHER, 50, "other");
    assert_int_equal(checkpoint(fixture), SK_OK);
    install_up_to(fixture, 2);
    store_install_cancel(fixture->store);
    go_on();
    assert_int_equal(finish_install(fixture), SK_ECLOSED);
    assert_partial(fixture);
    store_install_cancel(fixture->store); /* there is none */
    assert_int_equal(store_drop_shard(fixture->store, SHARD), SK_OK);
    assert_int_equal(install(fixture, "record"), SK_OK);
    assert_content(fixture, SHARD, 2000, "new", "record");
    /* All has been done when this one is cancelled. */
    install_up_to(fixture, 1);
    gate.stop_at = 1000;
    go_on();
    wait_for(fixture, INSTALLED);
    store_install_cancel(fixture->store);
    assert_int_equal(store_install_complete(fixture->store), SK_OK);
}

static void test_close_while_installing(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 2000;
    open_store(fixture);
    make_snapshot(fixture, 20000);
    fill(fixture, OTHER, 50, "other");
    assert_int_equal(checkpoint(fixture), SK_OK);
    install_up_to(fixture, 1);
    go_on();
    close_store(fixture);
    open_store(fixture);
    if (store_shard_is_partial(fixture->store, SHARD)) assert_partial(fixture);
    else assert_content(fixture, SHARD, 20000, "new", "record");
}

/* ---- when LMDB has to be opened anew ---- */

/* In a checkpoint, in the middle of an install: that goes on with the new environment. */
static void test_checkpoint_breaks_lmdb_in_an_install(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 10000;
    open_store(fixture);
    make_snapshot(fixture, 2000);
    for (uint32_t commits = 1; commits < 4; commits++) {
        install_up_to(fixture, commits);
        fill(fixture, OTHER, 50, "other");
        atomic_store(&meta_write_fails, 2); /* and the attempt to put the old one back */
        assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
        go_on();
        assert_int_equal(finish_checkpoint(fixture), SK_EIO);
        assert_int_equal(atomic_load(&meta_write_fails), 0);
        assert_content(fixture, OTHER, 50, "other", "other");
        assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
        assert_int_equal(finish_checkpoint(fixture), SK_OK);
        assert_int_equal(finish_install(fixture), SK_OK);
        assert_content(fixture, SHARD, 2000, "new", "record");
        assert_content(fixture, OTHER, 50, "other", "other");
    }
}

/* In each commit of an install, a checkpoint waiting behind it. */
static void test_install_breaks_lmdb(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 10000;
    open_store(fixture);
    make_snapshot(fixture, 1000);
    for (uint32_t commits = 1; commits < 4; commits++) {
        fill(fixture, SHARD, 50, "old");
        fill(fixture, OTHER, 50, "other");
        assert_int_equal(checkpoint(fixture), SK_OK);
        install_up_to(fixture, commits);
        atomic_store(&meta_write_fails, 2);
        go_on();
        wait_for(fixture, INSTALLED);
        assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
        assert_int_equal(store_install_complete(fixture->store), SK_EIO);
        assert_int_equal(finish_checkpoint(fixture), SK_OK);
        assert_partial(fixture);
        assert_int_equal(install(fixture, "record"), SK_OK);
        assert_content(fixture, SHARD, 1000, "new", "record");
        close_store(fixture);
        open_store(fixture);
        assert_content(fixture, SHARD, 1000, "new", "record");
    }
}

/* The first commit: whether the mark has reached the disk or not, the answer says so. */
static void test_install_breaks_lmdb_at_once(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    make_snapshot(fixture, 1000);
    fill_layers(fixture);
    atomic_store(&meta_write_fails, 2);
    assert_int_equal(install(fixture, "record"), SK_EIO);
    assert_layers_as_before(fixture);
    atomic_store(&meta_write_lies, true);
    atomic_store(&meta_write_fails, 2);
    assert_int_equal(install(fixture, "record"), SK_EIO);
    assert_true(store_shard_is_partial(fixture->store, SHARD));
    assert_int_equal(install(fixture, "record"), SK_OK);
    assert_content(fixture, SHARD, 1000, "new", "record");
}

/* The last commit, which has reached the disk: nobody can rely on that, so the shard counts as partial. */
static void test_install_breaks_lmdb_at_the_end(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    make_snapshot(fixture, 100);
    fill(fixture, SHARD, 200, "old");
    install_up_to(fixture, 1);
    atomic_store(&meta_write_lies, true);
    atomic_store(&meta_write_fails, 2);
    go_on();
    assert_int_equal(finish_install(fixture), SK_EIO);
    assert_true(store_shard_is_partial(fixture->store, SHARD));
    assert_view_is_locked(fixture);
    flip_last_byte(fixture->snapshot_path);
    assert_int_equal(install(fixture, "record"), SK_ECORRUPT);
    assert_true(store_shard_is_partial(fixture->store, SHARD));
    close_store(fixture);
    open_store(fixture);
    assert_false(store_shard_is_partial(fixture->store, SHARD));
    assert_content(fixture, SHARD, 100, "new", "record");
}

static void *drain_thread(void *arg) {
    static uint8_t bytes[65536];
    int fd = open(arg, O_RDONLY | O_CLOEXEC);
    while (read(fd, bytes, sizeof bytes) > 0) continue;
    close(fd);
    return NULL;
}

/* An export would read from pages that are no longer mapped. It is broken off, unless it was quicker. */
static void test_checkpoint_breaks_lmdb_in_an_export(void **state) {
    struct fixture *fixture = *state;
    char pipe_path[128];
    pthread_t drain;
    open_store(fixture);
    fill(fixture, SHARD, 100000, "tag");
    assert_int_equal(checkpoint(fixture), SK_OK);
    make_pipe(fixture, pipe_path);
    assert_int_equal(start_snapshot(fixture), SK_OK);
    put(shard(fixture, OTHER), "a", "1");
    atomic_store(&meta_write_fails, 2);
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    wait_for(fixture, CHECKPOINTED);
    assert_false(has_ended(fixture, SNAPSHOT_COPIED));
    assert_int_equal(pthread_create(&drain, NULL, drain_thread, pipe_path), 0);
    assert_int_equal(store_checkpoint_complete(fixture->store), SK_EIO);
    assert_true(has_ended(fixture, SNAPSHOT_COPIED));
    struct store_snapshot result;
    int err = finish_snapshot(fixture, &result);
    assert_true(err == SK_RETRY || err == SK_OK);
    if (err != SK_OK) assert_false(exists(fixture->snapshot_path) || part_exists(fixture));
    assert_int_equal(pthread_join(drain, NULL), 0);
    assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    unlink(fixture->snapshot_path);
    assert_int_equal(snapshot(fixture), SK_OK);
    assert_file(fixture->snapshot_path, 100000, "tag");
}

/* ---- at random, against a model ---- */

enum { MODEL_SHARDS = 4, MODEL_KEYS = 300, MODEL_INSTALLS = 40 };

/* Every key's value by its number; 0: not there. `record`: the shard's own; 0: the shard has never been written. */
struct model_shard {
    uint32_t record;
    uint32_t values[MODEL_KEYS];
};

struct model {
    struct model_shard now[MODEL_SHARDS], frozen[MODEL_SHARDS], disk[MODEL_SHARDS], saved[MODEL_SHARDS];
    uint32_t exporting, installing; /* MODEL_SHARDS: none */
    uint32_t installed_record;      /* the shard's own, to be */
    uint32_t number;                /* of values */
    uint32_t installs;
};

static void model_path(struct fixture *fixture, uint32_t number, char path[128]) {
    snprintf(path, 128, "%s-%u", fixture->snapshot_path, number);
}

static void model_put(struct fixture *fixture, struct model *model, uint32_t number, uint32_t key, bool removed) {
    char name[16];
    uint32_t value = ++model->number;
    struct kv *kv = shard(fixture, number);
    snprintf(name, sizeof name, "k%04u", key);
    int err = removed ? kv_del(kv, slice_of_text(name))
                      : kv_put(kv, slice_of_text(name), slice_of(&value, sizeof value));
    assert_int_equal(err, SK_OK);
    assert_int_equal(kv_put(kv, record_shard_key(), slice_of(&value, sizeof value)), SK_OK);
    model->now[number].values[key] = removed ? 0 : value;
    model->now[number].record = value;
}

static void assert_model_shard(struct fixture *fixture, const struct model_shard *expected, uint32_t number) {
    struct kv_iter *iter;
    struct slice key, value;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_iter_open(shard(fixture, number), slice_of("", 0), &iter), SK_OK);
    for (uint32_t i = 0; i <= MODEL_KEYS; i++) {
        uint32_t wanted = i == MODEL_KEYS ? expected->record : expected->values[i];
        if (wanted == 0) continue;
        char name[16];
        snprintf(name, sizeof name, "k%04u", i);
        assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
        assert_true(slice_equal(key, i == MODEL_KEYS ? record_shard_key() : slice_of_text(name)));
        assert_true(slice_equal(value, slice_of(&wanted, sizeof wanted)));
    }
    assert_int_equal(kv_iter_next(iter, &key, &value), SK_NOT_FOUND);
    kv_iter_close(iter);
    store_step_end(fixture->store);
}

static void model_complete(struct fixture *fixture, struct model *model) {
    struct store_snapshot result;
    if (store_checkpoint_running(fixture->store) && has_ended(fixture, CHECKPOINTED)) {
        assert_int_equal(finish_checkpoint(fixture), SK_OK);
        memcpy(model->disk, model->frozen, sizeof model->disk);
    }
    if (model->exporting < MODEL_SHARDS && has_ended(fixture, SNAPSHOT_COPIED)) {
        assert_int_equal(finish_snapshot(fixture, &result), SK_OK);
        uint32_t record = model->saved[model->exporting].record;
        assert_true(slice_equal(result.record, slice_of(&record, sizeof record)));
        model->exporting = MODEL_SHARDS;
    }
    if (model->installing < MODEL_SHARDS && has_ended(fixture, INSTALLED)) {
        uint32_t number = model->installing;
        assert_int_equal(finish_install(fixture), SK_OK);
        model->now[number] = model->saved[number];
        model->now[number].record = model->installed_record;
        model->frozen[number] = model->disk[number] = model->now[number];
        model->installing = MODEL_SHARDS;
        model->installs++;
        assert_model_shard(fixture, &model->now[number], number);
    }
}

static void model_start(struct fixture *fixture, struct model *model, unsigned *seed) {
    char path[128];
    uint32_t number = (uint32_t)rand_r(seed) % MODEL_SHARDS;
    bool checkpointing = store_checkpoint_running(fixture->store);
    model_path(fixture, number, path);
    switch (rand_r(seed) % 3) {
    case 0:
        if (checkpointing) return;
        assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
        memcpy(model->frozen, model->now, sizeof model->frozen);
        return;
    case 1: /* while nothing is being written it is known what LMDB has */
        if (checkpointing || model->exporting < MODEL_SHARDS || model->installing == number) return;
        if (model->disk[number].record == 0) return;
        assert_int_equal(store_snapshot_start(fixture->store, number, CLUSTER, path), SK_OK);
        model->saved[number] = model->disk[number];
        model->exporting = number;
        return;
    default:
        if (model->installing < MODEL_SHARDS || model->exporting == number || model->saved[number].record == 0) {
            return;
        }
        model->installing = number;
        model->installed_record = ++model->number;
        struct slice record = slice_of(&model->installed_record, sizeof model->installed_record);
        assert_int_equal(store_install_start(fixture->store, number, CLUSTER, path, record), SK_OK);
    }
}

static void test_random_against_model(void **state) {
    struct fixture *fixture = *state;
    const char *given = getenv("SEED");
    unsigned seed = given != NULL ? (unsigned)atoi(given) : (unsigned)getpid();
    print_message("SEED=%u\n", seed);
    static struct model model;
    memset(&model, 0, sizeof model);
    model.exporting = model.installing = MODEL_SHARDS;
    fixture->options.txn_bytes = 300;
    open_store(fixture);
    while (model.installs < MODEL_INSTALLS) {
        model_complete(fixture, &model);
        uint32_t number = (uint32_t)rand_r(&seed) % MODEL_SHARDS;
        uint32_t key = (uint32_t)rand_r(&seed) % MODEL_KEYS;
        if (number != model.installing) model_put(fixture, &model, number, key, rand_r(&seed) % 4 == 0);
        if (rand_r(&seed) % 20 == 0) model_start(fixture, &model, &seed);
        number = (uint32_t)rand_r(&seed) % MODEL_SHARDS;
        if (number != model.installing && rand_r(&seed) % 10 == 0) {
            assert_model_shard(fixture, &model.now[number], number);
        }
    }
    while (model.installing < MODEL_SHARDS || model.exporting < MODEL_SHARDS ||
           store_checkpoint_running(fixture->store)) {
        model_complete(fixture, &model);
    }
    assert_int_equal(checkpoint(fixture), SK_OK);
    close_store(fixture);
    open_store(fixture);
    for (uint32_t number = 0; number < MODEL_SHARDS; number++) {
        char path[128];
        assert_model_shard(fixture, &model.now[number], number);
        model_path(fixture, number, path);
        unlink(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unusual_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_export_beside_writes_and_checkpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_export_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_export_meets_a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_export_meets_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_while_exporting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_over_three_layers, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_checkpoint_between_steps, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_checkpoint_started_in_and_written_after_an_install, setup,
                                        teardown_gate),
        cmocka_unit_test_setup_teardown(test_install_busy, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_files_that_are_refused, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_crash_between_commits, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_install_locks_the_view, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_install_meets_a_full_disk, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_file_damaged_in_between, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_close_while_installing, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_checkpoint_breaks_lmdb_in_an_install, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_install_breaks_lmdb, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_install_breaks_lmdb_at_once, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_install_breaks_lmdb_at_the_end, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_checkpoint_breaks_lmdb_in_an_export, setup, teardown_gate),
        cmocka_unit_test_setup_teardown(test_random_against_model, setup, teardown_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

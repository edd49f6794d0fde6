#include "store.h"

#include "shardd/checkpoint.h"
#include "shardd/store_fixture.h"

#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void test_reopen_has_what_was_checkpointed(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    put(shard(fixture, 0), "a", "1");
    put(shard(fixture, 63), "a", "other");
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_kv(fixture, 0, "a", "1");
    put(shard(fixture, 0), "later", "x");
    assert_kv(fixture, 0, "later", "x");
    close_store(fixture);
    open_store(fixture);
    assert_walk(fixture, 0, "", "a=1");
    assert_walk(fixture, 63, "", "a=other");
    assert_walk(fixture, 5, "", "");
}

static void test_walk_over_three_layers(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    struct kv *kv = shard(fixture, 2);
    for (const char *key = "abcdefgh"; *key != '\0'; key++) put(kv, (char[]){*key, '\0'}, "disk");
    assert_int_equal(checkpoint(fixture), SK_OK);
    put(kv, "b", "frozen");
    put(kv, "c", "frozen");
    del(kv, "d");
    del(kv, "e");
    put(kv, "i", "frozen");
    del(kv, "zz");
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    put(kv, "c", "active");
    put(kv, "d", "active");
    del(kv, "f");
    del(kv, "i");
    put(kv, "j", "active");
    const char *expected = "a=disk b=frozen c=active d=active g=disk h=disk j=active";
    assert_walk(fixture, 2, "", expected);
    assert_walk(fixture, 2, "cc", expected + strlen("a=disk b=frozen c=active "));
    assert_walk(fixture, 2, "i", "j=active");
    assert_walk(fixture, 2, "k", "");
    assert_kv(fixture, 2, "e", NULL);
    assert_kv(fixture, 2, "b", "frozen");
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    assert_walk(fixture, 2, "", expected);
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_walk(fixture, 2, "", expected);
    close_store(fixture);
    open_store(fixture);
    assert_walk(fixture, 2, "", expected);
}

static void test_rollback(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    struct kv *kv = shard(fixture, 0);
    put(kv, "disk", "1");
    assert_int_equal(checkpoint(fixture), SK_OK);
    put(kv, "active", "1");
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_begin(kv), SK_OK);
    put(kv, "disk", "2");
    put(kv, "disk", "3");
    del(kv, "active");
    put(kv, "new", "1");
    del(kv, "new");
    put(kv, "new", "2");
    del(kv, "never");
    assert_int_equal(kv_rollback(kv), SK_OK);
    store_step_end(fixture->store);
    assert_walk(fixture, 0, "", "active=1 disk=1");

    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_begin(kv), SK_OK);
    put(kv, "disk", "2");
    del(kv, "active");
    kv_commit(kv);
    store_step_end(fixture->store);
    assert_walk(fixture, 0, "", "disk=2");
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_walk(fixture, 0, "", "disk=2");
}

/* The largest keys and values, through all layers. */
static void test_limits(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    size_t size = (16u << 20) + 70000;
    uint8_t *large = malloc(size), key[KV_KEY_BYTES_MAX];
    for (size_t i = 0; i < size; i++) large[i] = (uint8_t)(i * 31 >> 3);
    memset(key, 0xff, sizeof key);
    struct slice value, long_key = slice_of(key, sizeof key);
    struct kv *kv = shard(fixture, 16383);
    assert_int_equal(kv_put(kv, long_key, slice_of(large, size)), SK_OK);
    put(kv, "empty", "");
    for (int round = 0; round < 3; round++) {
        assert_int_equal(store_step_begin(fixture->store), SK_OK);
        assert_int_equal(kv_get(shard(fixture, 16383), long_key, &value), SK_OK);
        assert_true(slice_equal(value, slice_of(large, size)));
        store_step_end(fixture->store);
        assert_kv(fixture, 16383, "empty", "");
        if (round == 0) assert_int_equal(checkpoint(fixture), SK_OK);
        if (round == 1) close_store(fixture), open_store(fixture);
    }
    free(large);
}

static int count_shard(void *arg, uint32_t number) {
    *(uint32_t *)arg += number;
    return number == 99 ? SK_BUSY : SK_OK;
}

static uint32_t sum_of_shards(struct fixture *fixture) {
    uint32_t sum = 0;
    assert_int_equal(store_each_shard(fixture->store, count_shard, &sum), SK_OK);
    return sum;
}

static void test_drop_shard(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    for (uint32_t number = 1; number <= 3; number++) put(shard(fixture, number), "a", "disk");
    assert_int_equal(sum_of_shards(fixture), 0);
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_int_equal(sum_of_shards(fixture), 6);
    put(shard(fixture, 2), "b", "active");
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    assert_int_equal(store_drop_shard(fixture->store, 2), SK_BUSY);
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    put(shard(fixture, 2), "c", "active");
    assert_int_equal(store_drop_shard(fixture->store, 2), SK_OK);
    assert_int_equal(store_drop_shard(fixture->store, 7), SK_OK);
    assert_int_equal(sum_of_shards(fixture), 4);
    assert_walk(fixture, 2, "", "");
    assert_walk(fixture, 3, "", "a=disk");
    put(shard(fixture, 2), "again", "1");
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_walk(fixture, 2, "", "again=1");
    close_store(fixture);
    open_store(fixture);
    assert_walk(fixture, 2, "", "again=1");
    assert_int_equal(sum_of_shards(fixture), 6);
    put(shard(fixture, 99), "a", "1");
    assert_int_equal(checkpoint(fixture), SK_OK);
    uint32_t sum = 0;
    assert_int_equal(store_each_shard(fixture->store, count_shard, &sum), SK_BUSY);
}

/* What is read stays open from step to step, but never behind what was committed: else reads would be old, handles of databases
 * that come and go unknown, and pages that are free could not be used again. */
static void test_reads_follow_commits(void **state) {
    struct fixture *fixture = *state;
    enum { ROUNDS = 60, SETTLED = 20 };
    uint64_t settled_bytes = 0;
    open_store(fixture);
    put(shard(fixture, 0), "a", "1");
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_kv(fixture, 0, "a", "1");
    put(shard(fixture, 0), "a", "2");
    put(shard(fixture, 1), "b", "3");
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_kv(fixture, 0, "a", "2");
    assert_kv(fixture, 1, "b", "3");
    assert_int_equal(store_drop_shard(fixture->store, 1), SK_OK);
    assert_kv(fixture, 0, "a", "2");
    assert_kv(fixture, 1, "b", NULL);
    for (int round = 0; round < ROUNDS; round++) {
        char value[16];
        snprintf(value, sizeof value, "round %d", round);
        fill_shards(fixture, 8, value);
        assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
        assert_true(shard_is_whole(fixture, 7, value));
        assert_int_equal(finish_checkpoint(fixture), SK_OK);
        assert_true(shard_is_whole(fixture, 7, value));
        if (round == SETTLED) settled_bytes = store_disk_bytes(fixture->store);
    }
    assert_true(store_disk_bytes(fixture->store) <= settled_bytes * 5 / 4);
}

/* ---- when there is no room ---- */

static void test_full_map(void **state) {
    struct fixture *fixture = *state;
    fixture->options.map_bytes = 1u << 20;
    fixture->options.txn_bytes = 1;
    open_store(fixture);
    fill_shards(fixture, 40, "first");
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    assert_int_equal(finish_checkpoint(fixture), SK_ENOSPC);
    assert_true(store_checkpoint_failed(fixture->store));
    assert_false(store_checkpoint_running(fixture->store));
    assert_non_null(strstr(store_fault_text(fixture->store), fixture->directory));
    assert_int_equal(store_checkpoint_start(fixture->store), SK_BUSY);
    put(shard(fixture, 39), "key000", "changed since");
    for (uint32_t number = 0; number < 39; number++) assert_true(shard_is_whole(fixture, number, "first"));
    assert_kv(fixture, 39, "key000", "changed since");
    assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
    assert_int_equal(store_checkpoint_retry(fixture->store), SK_BUSY);
    assert_int_equal(finish_checkpoint(fixture), SK_ENOSPC);
    close_store(fixture);

    /* What fitted is there, each shard whole. */
    fixture->options.map_bytes = 64u << 20;
    open_store(fixture);
    uint32_t whole = 0;
    for (uint32_t number = 0; number < 40; number++) whole += shard_is_whole(fixture, number, "first");
    assert_in_range(whole, 1, 39);
}

/* A file that may not grow, for a while: as a full disk, and the retry makes it good. */
static void test_full_disk_and_retry(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 1;
    open_store(fixture);
    fill_shards(fixture, 10, "first");
    assert_int_equal(checkpoint(fixture), SK_OK);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit tight = {.rlim_cur = store_disk_bytes(fixture->store) + (64u << 10), .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    fill_shards(fixture, 60, "second");
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    int err = finish_checkpoint(fixture);
    bool read_on = true;
    for (uint32_t number = 0; number < 60; number++) read_on &= shard_is_whole(fixture, number, "second");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, SK_ENOSPC);
    assert_true(read_on);
    assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    assert_false(store_checkpoint_failed(fixture->store));
    close_store(fixture);
    open_store(fixture);
    for (uint32_t number = 0; number < 60; number++) assert_true(shard_is_whole(fixture, number, "second"));
}

/* ---- crashes ---- */

static uint32_t exit_after;

static void exit_hook(uint32_t commits) {
    if (commits == exit_after) _exit(42);
}

/* A process that ends after each of the transactions of a checkpoint leaves whole shards: new up to there, then
 * old. */
static void test_crash_between_transactions(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 2 * 100 * 405; /* two shards each */
    open_store(fixture);
    fill_shards(fixture, 10, "round0");
    assert_int_equal(checkpoint(fixture), SK_OK);
    close_store(fixture);
    for (uint32_t round = 1; round <= 5; round++) {
        char before[16], after[16];
        snprintf(before, sizeof before, "round%u", round - 1);
        snprintf(after, sizeof after, "round%u", round);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            exit_after = round;
            checkpoint_committed_hook = exit_hook;
            open_store(fixture);
            fill_shards(fixture, 10, after);
            checkpoint(fixture);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
        open_store(fixture);
        for (uint32_t number = 0; number < 10; number++) {
            assert_true(shard_is_whole(fixture, number, number < 2 * round ? after : before));
        }
        fill_shards(fixture, 10, after);
        assert_int_equal(checkpoint(fixture), SK_OK);
        close_store(fixture);
    }
}

/* ---- damage ---- */

static int open_data_file(struct fixture *fixture) {
    char path[128];
    snprintf(path, sizeof path, "%s/data.mdb", fixture->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void assert_refused(struct fixture *fixture, int expected, const char *words) {
    fixture->store = NULL;
    int err = store_open(&fixture->store, &fixture->options, fixture->text, sizeof fixture->text);
    if (err != expected) fail_msg("%s instead of %s: %s", error_name(err), error_name(expected), fixture->text);
    assert_null(fixture->store);
    assert_non_null(strstr(fixture->text, fixture->directory));
    if (strstr(fixture->text, words) == NULL) fail_msg("'%s' does not say '%s'", fixture->text, words);
}

static void test_garbage_file(void **state) {
    struct fixture *fixture = *state;
    int fd = open_data_file(fixture);
    uint8_t garbage[16384];
    memset(garbage, 0xa5, sizeof garbage);
    assert_int_equal(pwrite(fd, garbage, sizeof garbage, 0), sizeof garbage);
    assert_refused(fixture, SK_ECORRUPT, "data.mdb");
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_refused(fixture, SK_ECORRUPT, "data.mdb");
    close(fd);
}

/* Cut off at any page: refused with the place, again and again, and never a SIGBUS. */
static void test_truncated_file(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    fill_shards(fixture, 4, "value");
    assert_int_equal(checkpoint(fixture), SK_OK);
    close_store(fixture);
    int fd = open_data_file(fixture);
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    uint8_t *copy = malloc((size_t)file.st_size);
    assert_int_equal(pread(fd, copy, (size_t)file.st_size, 0), file.st_size);
    for (off_t size = 3 * 4096; size < file.st_size; size += 4096 - 1) {
        assert_int_equal(ftruncate(fd, size), 0);
        char words[64];
        snprintf(words, sizeof words, "cut off at offset %lld", (long long)size);
        for (int i = 0; i < 2; i++) assert_refused(fixture, SK_ECORRUPT, words);
        assert_int_equal(pwrite(fd, copy, (size_t)file.st_size, 0), file.st_size);
    }
    close(fd);
    free(copy);
    open_store(fixture);
    for (uint32_t number = 0; number < 4; number++) assert_true(shard_is_whole(fixture, number, "value"));
}

/* Pages at the end that are free are not missed: LMDB counts such pages without having to write them. One page more
 * than those is damage. */
static void test_file_without_its_free_end(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 1;
    open_store(fixture);
    fill_shards(fixture, 20, "value");
    assert_int_equal(checkpoint(fixture), SK_OK);
    for (uint32_t number = 2; number < 20; number++) {
        assert_int_equal(store_drop_shard(fixture->store, number), SK_OK);
    }
    close_store(fixture);
    int fd = open_data_file(fixture);
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    uint8_t *copy = malloc((size_t)file.st_size);
    assert_int_equal(pread(fd, copy, (size_t)file.st_size, 0), file.st_size);
    int opened = 0, refused = 0;
    for (off_t size = file.st_size - 4096; size > 3 * 4096; size -= 4096) {
        assert_int_equal(ftruncate(fd, size), 0);
        int err = store_open(&fixture->store, &fixture->options, fixture->text, sizeof fixture->text);
        if (err == SK_OK) {
            opened++;
            assert_int_equal(refused, 0);
            for (uint32_t number = 0; number < 2; number++) assert_true(shard_is_whole(fixture, number, "value"));
            close_store(fixture);
        } else {
            refused++;
            assert_int_equal(err, SK_ECORRUPT);
        }
        assert_int_equal(pwrite(fd, copy, (size_t)file.st_size, 0), file.st_size);
    }
    assert_true(opened > 0 && refused > 0);
    close(fd);
    free(copy);
}

/* A flipped bit in a value is found when it is read, and the place is said. */
static void test_flipped_bit(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    put(shard(fixture, 3), "key", "a value that nobody else has");
    put(shard(fixture, 3), "other", "fine");
    assert_int_equal(checkpoint(fixture), SK_OK);
    close_store(fixture);
    int fd = open_data_file(fixture);
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    uint8_t *bytes = malloc((size_t)file.st_size);
    assert_int_equal(pread(fd, bytes, (size_t)file.st_size, 0), file.st_size);
    uint8_t *at = memmem(bytes, (size_t)file.st_size, "nobody else", 11);
    assert_non_null(at);
    at[3] ^= 0x10;
    assert_int_equal(pwrite(fd, at + 3, 1, at + 3 - bytes), 1);
    close(fd);
    open_store(fixture);
    struct slice key, value;
    struct kv_iter *iter;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_get(shard(fixture, 3), slice_of_text("key"), &value), SK_ECORRUPT);
    char words[64];
    snprintf(words, sizeof words, "offset %lld", (long long)(at - bytes) - (long long)strlen("a value that "));
    assert_non_null(strstr(store_fault_text(fixture->store), words));
    assert_int_equal(kv_get(shard(fixture, 3), slice_of_text("other"), &value), SK_OK);
    assert_int_equal(kv_iter_open(shard(fixture, 3), slice_of("l", 1), &iter), SK_OK);
    assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
    kv_iter_close(iter);
    assert_int_equal(kv_iter_open(shard(fixture, 3), slice_of("", 0), &iter), SK_ECORRUPT);
    store_step_end(fixture->store);
    free(bytes);
}

/* What another program, or a later version, has made. `meta`: NULL for none. */
static void write_foreign(struct fixture *fixture, const uint8_t *meta, size_t meta_bytes) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, fixture->directory, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, meta == NULL ? "theirs" : "meta", MDB_CREATE, &dbi), 0);
    MDB_val key = {.mv_size = 6, .mv_data = "format"}, value = {.mv_size = meta_bytes, .mv_data = (void *)meta};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void test_newer_and_foreign_formats(void **state) {
    struct fixture *fixture = *state;
    write_foreign(fixture, NULL, 0);
    assert_refused(fixture, SK_ECORRUPT, "not one of a Skerry store");
    write_foreign(fixture, (const uint8_t[]){1, 2}, 2);
    assert_refused(fixture, SK_ECORRUPT, "not one of a Skerry store");
    write_foreign(fixture, (const uint8_t[]){2, 1, 0, 0}, 4);
    assert_refused(fixture, SK_EVERSION, "has format 258, this version knows 1");
    write_foreign(fixture, (const uint8_t[]){1, 0, 0, 0}, 4);
    open_store(fixture);
}

static void test_bad_directory(void **state) {
    struct fixture *fixture = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/a/b", fixture->directory);
    fixture->options.directory = path;
    assert_refused(fixture, SK_EIO, "No such file or directory");
    fixture->options.directory = fixture->directory;
}

/* ---- at random, against a model ---- */

enum { MODEL_SHARDS = 5, MODEL_KEYS = 400, MODEL_STEPS = 6000 };

/* Every key's value by its number; 0: not there. */
struct model {
    uint32_t values[MODEL_SHARDS][MODEL_KEYS];
};

static struct slice model_key(uint32_t number, char room[KV_KEY_BYTES_MAX]) {
    /* Some are long, some share all of the first eight bytes. Their order is that of the numbers. */
    int size = snprintf(room, KV_KEY_BYTES_MAX, number % 3 == 0 ? "%04u" : "%04u with a longer tail", number);
    return slice_of(room, (size_t)size);
}

/* Sizes up to some pages, told by the value's number. */
static struct slice model_value(uint32_t value, uint8_t *room) {
    size_t size = value % 50 == 0 ? value % 90000 : value % 300;
    memset(room, (int)(value & 0xff), size);
    if (size >= sizeof value) memcpy(room, &value, sizeof value);
    return slice_of(room, size);
}

static void assert_model_key(struct fixture *fixture, const struct model *model, uint32_t number, uint32_t key) {
    static uint8_t room[100000];
    char key_room[KV_KEY_BYTES_MAX];
    struct slice value;
    int err = kv_get(shard(fixture, number), model_key(key, key_room), &value);
    uint32_t expected = model->values[number][key];
    assert_int_equal(err, expected == 0 ? SK_NOT_FOUND : SK_OK);
    if (expected != 0) assert_true(slice_equal(value, model_value(expected, room)));
}

/* `end` is not walked to; MODEL_KEYS: no bound. */
static void assert_model_walk(struct fixture *fixture, const struct model *model, uint32_t number, uint32_t from,
                              uint32_t end, uint32_t limit) {
    static uint8_t room[100000];
    char key_room[KV_KEY_BYTES_MAX], end_room[KV_KEY_BYTES_MAX];
    struct kv_iter *iter;
    struct slice key, value;
    assert_int_equal(kv_iter_open(shard(fixture, number), model_key(from, key_room), &iter), SK_OK);
    if (end < MODEL_KEYS) kv_iter_end_at(iter, model_key(end, end_room));
    for (uint32_t i = from; i < end && limit > 0; i++) {
        uint32_t expected = model->values[number][i];
        if (expected == 0) continue;
        limit--;
        assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
        assert_true(slice_equal(key, model_key(i, key_room)));
        assert_true(slice_equal(value, model_value(expected, room)));
    }
    if (limit > 0) assert_int_equal(kv_iter_next(iter, &key, &value), SK_NOT_FOUND);
    kv_iter_close(iter);
}

/* From the key before `below` down to `end`; 0: no bound. */
static void assert_model_walk_down(struct fixture *fixture, const struct model *model, uint32_t number,
                                   uint32_t below, uint32_t end, uint32_t limit) {
    static uint8_t room[100000];
    char key_room[KV_KEY_BYTES_MAX], end_room[KV_KEY_BYTES_MAX];
    struct kv_iter *iter;
    struct slice key, value;
    assert_int_equal(kv_iter_open_below(shard(fixture, number), model_key(below, key_room), &iter), SK_OK);
    if (end > 0) kv_iter_end_at(iter, model_key(end, end_room));
    for (uint32_t i = below; i-- > end && limit > 0;) {
        uint32_t expected = model->values[number][i];
        if (expected == 0) continue;
        limit--;
        assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
        assert_true(slice_equal(key, model_key(i, key_room)));
        assert_true(slice_equal(value, model_value(expected, room)));
    }
    if (limit > 0) assert_int_equal(kv_iter_next(iter, &key, &value), SK_NOT_FOUND);
    kv_iter_close(iter);
}

static void model_change(struct fixture *fixture, struct model *model, uint32_t number, uint32_t key,
                         uint32_t value) {
    static uint8_t room[100000];
    char key_room[KV_KEY_BYTES_MAX];
    struct slice name = model_key(key, key_room);
    struct kv *kv = shard(fixture, number);
    int err = value == 0 ? kv_del(kv, name) : kv_put(kv, name, model_value(value, room));
    assert_int_equal(err, SK_OK);
    model->values[number][key] = value;
}

/* One turn of the lane: some reads and changes, now and then undone. */
static void model_step(struct fixture *fixture, struct model *model, unsigned *seed) {
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    uint32_t number = (uint32_t)rand_r(seed) % MODEL_SHARDS;
    bool undone = rand_r(seed) % 8 == 0;
    struct model before = *model;
    if (undone) assert_int_equal(kv_begin(shard(fixture, number)), SK_OK);
    for (int i = rand_r(seed) % 6; i >= 0; i--) {
        uint32_t key = (uint32_t)rand_r(seed) % MODEL_KEYS;
        switch (rand_r(seed) % 8) {
        case 0:
        case 1:
            model_change(fixture, model, number, key, 0);
            break;
        case 2:
        case 3:
        case 4:
            model_change(fixture, model, number, key, 1 + (uint32_t)rand_r(seed) % 1000000);
            break;
        case 5:
            assert_model_walk(fixture, model, number, key, MODEL_KEYS, 1 + (uint32_t)rand_r(seed) % 30);
            assert_model_walk_down(fixture, model, number, key, 0, 1 + (uint32_t)rand_r(seed) % 30);
            assert_model_walk(fixture, model, number, key, (uint32_t)rand_r(seed) % MODEL_KEYS, 20);
            assert_model_walk_down(fixture, model, number, key, (uint32_t)rand_r(seed) % MODEL_KEYS, 20);
            break;
        default:
            assert_model_key(fixture, model, number, key);
        }
    }
    if (undone) {
        assert_int_equal(kv_rollback(shard(fixture, number)), SK_OK);
        *model = before;
    }
    store_step_end(fixture->store);
}

static void assert_model(struct fixture *fixture, const struct model *model) {
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    for (uint32_t number = 0; number < MODEL_SHARDS; number++) {
        assert_model_walk(fixture, model, number, 0, MODEL_KEYS, UINT32_MAX);
        assert_model_walk_down(fixture, model, number, MODEL_KEYS, 0, UINT32_MAX);
    }
    store_step_end(fixture->store);
}

static void test_random_against_model(void **state) {
    struct fixture *fixture = *state;
    const char *given = getenv("SEED");
    unsigned seed = given != NULL ? (unsigned)atoi(given) : (unsigned)getpid();
    print_message("SEED=%u\n", seed);
    fixture->options.txn_bytes = 100u << 10;
    static struct model model, frozen, checkpointed;
    memset(&model, 0, sizeof model);
    frozen = checkpointed = model;
    open_store(fixture);
    for (int step = 0; step < MODEL_STEPS; step++) {
        model_step(fixture, &model, &seed);
        if (store_checkpoint_running(fixture->store) && has_ended(fixture, CHECKPOINTED)) {
            assert_int_equal(finish_checkpoint(fixture), SK_OK);
            checkpointed = frozen;
        }
        int chance = rand_r(&seed) % 1000;
        if (chance < 10 && !store_checkpoint_running(fixture->store)) {
            assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
            frozen = model;
        } else if (chance < 12) {
            /* Closing lets a running checkpoint end; what was only in memory is gone. */
            bool running = store_checkpoint_running(fixture->store);
            close_store(fixture);
            open_store(fixture);
            if (running) checkpointed = frozen;
            model = checkpointed;
            assert_model(fixture, &model);
        } else if (chance < 14 && !store_checkpoint_running(fixture->store)) {
            uint32_t number = (uint32_t)rand_r(&seed) % MODEL_SHARDS;
            assert_int_equal(store_drop_shard(fixture->store, number), SK_OK);
            memset(model.values[number], 0, sizeof model.values[number]);
            memset(checkpointed.values[number], 0, sizeof checkpointed.values[number]);
        }
    }
    assert_model(fixture, &model);
}

/* The lane reads and writes while a slow checkpoint writes; nothing that it reads goes backwards. */
static void test_lane_goes_on_during_checkpoint(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 1;
    open_store(fixture);
    fill_shards(fixture, 30, "first");
    assert_int_equal(checkpoint(fixture), SK_OK);
    fill_shards(fixture, 30, "second");
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    do {
        for (uint32_t number = 0; number < 30; number += 2) {
            assert_true(shard_is_whole(fixture, number, "second"));
            put(shard(fixture, number + 1), "lane", "was here");
            assert_kv(fixture, number + 1, "lane", "was here");
        }
    } while (!has_ended(fixture, CHECKPOINTED));
    assert_int_equal(finish_checkpoint(fixture), SK_OK);
    for (uint32_t number = 0; number < 30; number += 2) assert_true(shard_is_whole(fixture, number, "second"));
}

/* Closing does not sit out the pauses of a paced checkpoint: at this pace it would take hours. */
static void test_close_hurries_a_paced_checkpoint(void **state) {
    struct fixture *fixture = *state;
    fixture->options.txn_bytes = 1;
    fixture->options.pace_bytes_per_s = 100;
    open_store(fixture);
    fill_shards(fixture, 20, "value");
    assert_false(store_memtable_full(fixture->store));
    assert_true(store_memtable_bytes(fixture->store) > 20 * 100 * 400);
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    close_store(fixture);
    fixture->options.pace_bytes_per_s = 0;
    open_store(fixture);
    for (uint32_t number = 0; number < 20; number++) assert_true(shard_is_whole(fixture, number, "value"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reopen_has_what_was_checkpointed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_walk_over_three_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rollback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drop_shard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reads_follow_commits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_map, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_and_retry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crash_between_transactions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncated_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_without_its_free_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_and_foreign_formats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_against_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lane_goes_on_during_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_hurries_a_paced_checkpoint, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The cache of records between memtables and LMDB, by what a shard's view promises: what is read is never old and stays as it is
 * until the step ends, while records are changed, rolled back, checkpointed, replaced by snapshots and dropped. */
#include "shardd/kv_layers.h"
#include "shardd/record_kind.h"
#include "shardd/store_fixture.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>

enum { SHARDS = 4, KEYS = 3000, CLUSTER = 77, STEPS = 6000, HELD_MAX = 1500, NOBODY = SHARDS };

/* ---- faults: this stands before the C library's for the whole program ---- */

static atomic_int
    meta_writes_fail; /* so many of LMDB's meta page, which breaks its environment: it is opened anew */

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    if (size < 4096 && atomic_load(&meta_writes_fail) > 0) {
        atomic_fetch_sub(&meta_writes_fail, 1);
        errno = EIO;
        return -1;
    }
    return (ssize_t)syscall(SYS_pwrite64, fd, bytes, size, offset);
}

/* ---- what there should be ---- */

/* Versions of records, 0: none; of key 0, which is the shard's own record, too. */
struct content {
    uint32_t versions[KEYS];
};

struct model {
    unsigned seed;
    uint32_t version; /* the last one that was written */
    struct content now[SHARDS], frozen[SHARDS], disk[SHARDS], saved[SHARDS];
    bool is_partial[SHARDS];        /* an install was broken off */
    bool fails;                     /* the checkpoint under way meets a fault */
    uint32_t exporting, installing; /* NOBODY */
    uint32_t installed_version;
    uint32_t hits, rollbacks, checkpoints, failures, installs, cancelled, drops;
};

static uint32_t draw(struct model *model, uint32_t below) { return (uint32_t)rand_r(&model->seed) % below; }

/* Keys that begin alike, some of which others continue. */
static struct slice key_of(uint32_t key, char room[64]) {
    if (key == 0) return record_shard_key();
    int size = snprintf(room, 64, "%s%0*u", key % 3 == 0 ? "e" : "eight by", 1 + (int)(key % 30), key);
    return slice_of(room, (size_t)size);
}

static size_t value_bytes(uint32_t shard, uint32_t key, uint32_t version) {
    uint32_t mixed = (shard * 31 + key) * 2654435761u + version * 40503u;
    if (key == 0) return 4;
    if (mixed % 997 == 0) return 200000 + mixed % 1000;
    return mixed % 50 == 0 ? 3900 + mixed % 300 : mixed % 400;
}

/* Whether `value` is that version's: all its bytes follow from it. */
static bool is_version(struct slice value, uint32_t shard, uint32_t key, uint32_t version) {
    if (value.size != value_bytes(shard, key, version)) return false;
    if (key == 0) return memcmp(value.data, &version, 4) == 0;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] != (uint8_t)(version * 7 + key + shard * 3 + i / 5)) return false;
    }
    return true;
}

static void change(struct fixture *fixture, struct model *model, uint32_t number, uint32_t key, bool deletes) {
    static uint8_t value[201000];
    char room[64];
    uint32_t version = deletes ? 0 : ++model->version;
    model->now[number].versions[key] = version;
    if (deletes) {
        assert_int_equal(kv_del(shard(fixture, number), key_of(key, room)), SK_OK);
        return;
    }
    size_t bytes = value_bytes(number, key, version);
    for (size_t i = 0; i < bytes; i++) value[i] = (uint8_t)(version * 7 + key + number * 3 + i / 5);
    if (key == 0) memcpy(value, &version, 4);
    assert_int_equal(kv_put(shard(fixture, number), key_of(key, room), slice_of(value, bytes)), SK_OK);
}

static bool is_readable(const struct model *model, uint32_t number) {
    return number != model->installing && !model->is_partial[number];
}

/* ---- steps ---- */

struct held {
    struct slice value;
    uint32_t shard, key, version;
};

/* Some keys often, most of them now and then. */
static uint32_t draw_key(struct model *model) {
    uint32_t few = draw(model, 3) == 0 ? KEYS : 400;
    return draw(model, few);
}

/* All values that a step has read stay until it changes something. */
static void read_many(struct fixture *fixture, struct model *model, uint32_t count) {
    static struct held held[HELD_MAX];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        char room[64];
        struct slice value;
        uint32_t number = draw(model, SHARDS), key = draw_key(model);
        if (!is_readable(model, number)) continue;
        uint32_t version = model->now[number].versions[key];
        struct kv *kv = shard(fixture, number);
        if (draw(model, 8) == 0) kv_keep_reads(kv, false);
        int err = kv_get(kv, key_of(key, room), &value);
        assert_int_equal(err, version == 0 ? SK_NOT_FOUND : SK_OK);
        if (version != 0) held[kept++] = (struct held){value, number, key, version};
        struct slice found;
        if (version != 0) model->hits += record_cache_get(kv->layers->cache, number, key_of(key, room), &found);
    }
    for (uint32_t i = 0; i < kept; i++) {
        if (!is_version(held[i].value, held[i].shard, held[i].key, held[i].version))
            fail_msg("shard %u, key %u: not version %u any more", held[i].shard, held[i].key, held[i].version);
    }
}

static void change_some(struct fixture *fixture, struct model *model) {
    static struct content before;
    uint32_t number = draw(model, SHARDS);
    if (!is_readable(model, number)) return;
    bool undone = draw(model, 3) == 0, journals = undone || draw(model, 2) == 0;
    before = model->now[number];
    if (journals) assert_int_equal(kv_begin(shard(fixture, number)), SK_OK);
    for (uint32_t left = draw(model, 20); left > 0; left--) {
        uint32_t key = draw_key(model);
        change(fixture, model, number, key, key != 0 && draw(model, 5) == 0);
        if (draw(model, 3) == 0) read_many(fixture, model, 5);
    }
    if (undone) {
        assert_int_equal(kv_rollback(shard(fixture, number)), SK_OK);
        model->now[number] = before;
        model->rollbacks++;
    } else if (journals) {
        kv_commit(shard(fixture, number));
    }
}

static void step(struct fixture *fixture, struct model *model) {
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    read_many(fixture, model, draw(model, 20) == 0 ? HELD_MAX : draw(model, 60));
    if (draw(model, 2) == 0) change_some(fixture, model);
    read_many(fixture, model, draw(model, 20));
    store_step_end(fixture->store);
}

/* ---- between steps ---- */

static void path_of(const struct fixture *fixture, uint32_t number, char path[128]) {
    snprintf(path, 128, "%s.%u", fixture->directory, number);
}

static void take_checkpoint(struct fixture *fixture, struct model *model) {
    int err = finish_checkpoint(fixture);
    atomic_store(&meta_writes_fail, 0); /* there may have been nothing to write */
    if (model->fails && err != SK_OK) {
        model->failures++;
        model->fails = false;
        assert_int_equal(store_checkpoint_retry(fixture->store), SK_OK);
        return;
    }
    assert_int_equal(err, SK_OK);
    model->fails = false;
    memcpy(model->disk, model->frozen, sizeof model->disk);
    model->checkpoints++;
}

static void take_install(struct fixture *fixture, struct model *model) {
    uint32_t number = model->installing;
    wait_for(fixture, INSTALLED);
    int err = store_install_complete(fixture->store);
    model->installing = NOBODY;
    model->is_partial[number] = store_shard_is_partial(fixture->store, number);
    if (err != SK_OK) {
        assert_int_equal(err, SK_ECLOSED);
        model->cancelled++;
    } else {
        assert_false(model->is_partial[number]);
        model->now[number] = model->saved[number];
        model->now[number].versions[0] = model->installed_version;
        model->installs++;
    }
    if (err == SK_OK) model->frozen[number] = model->disk[number] = model->now[number];
}

static void take_ended(struct fixture *fixture, struct model *model) {
    struct store_snapshot copied;
    if (store_checkpoint_running(fixture->store) && has_ended(fixture, CHECKPOINTED))
        take_checkpoint(fixture, model);
    if (model->exporting != NOBODY && has_ended(fixture, SNAPSHOT_COPIED)) {
        wait_for(fixture, SNAPSHOT_COPIED);
        int err = store_snapshot_complete(fixture->store, &copied);
        if (err != SK_OK) { /* LMDB was opened anew in between */
            assert_int_equal(err, SK_RETRY);
            memset(&model->saved[model->exporting], 0, sizeof model->saved[0]);
        }
        model->exporting = NOBODY;
    }
    if (model->installing != NOBODY && has_ended(fixture, INSTALLED)) take_install(fixture, model);
}

static bool is_writing(const struct fixture *fixture, const struct model *model) {
    return store_checkpoint_running(fixture->store) || model->installing != NOBODY;
}

static void drop(struct fixture *fixture, struct model *model, uint32_t number) {
    if (is_writing(fixture, model) || model->exporting == number) return;
    assert_int_equal(store_drop_shard(fixture->store, number), SK_OK);
    memset(&model->now[number], 0, sizeof model->now[0]);
    memset(&model->disk[number], 0, sizeof model->disk[0]);
    memset(&model->frozen[number], 0, sizeof model->frozen[0]);
    model->is_partial[number] = false;
    model->drops++;
}

static void start_checkpoint(struct fixture *fixture, struct model *model) {
    if (store_checkpoint_running(fixture->store)) return;
    memcpy(model->frozen, model->now, sizeof model->frozen);
    model->fails = model->installing == NOBODY && draw(model, 6) == 0;
    if (model->fails) atomic_store(&meta_writes_fail, 2); /* LMDB's own second try included */
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    if (model->fails) take_checkpoint(fixture, model); /* what is broken until then cannot be read from */
}

/* What LMDB has is known while nobody writes. */
static void start_export(struct fixture *fixture, struct model *model, uint32_t number) {
    char path[128];
    if (is_writing(fixture, model) || model->exporting != NOBODY || !is_readable(model, number)) return;
    if (model->disk[number].versions[0] == 0) return;
    path_of(fixture, number, path);
    assert_int_equal(store_snapshot_start(fixture->store, number, CLUSTER, path), SK_OK);
    model->saved[number] = model->disk[number];
    model->exporting = number;
}

static void start_install(struct fixture *fixture, struct model *model, uint32_t number) {
    char path[128];
    if (model->installing != NOBODY || model->exporting == number || model->saved[number].versions[0] == 0) return;
    path_of(fixture, number, path);
    model->installed_version = ++model->version;
    model->installing = number;
    struct slice record = slice_of(&model->installed_version, 4);
    assert_int_equal(store_install_start(fixture->store, number, CLUSTER, path, record), SK_OK);
    if (draw(model, 5) == 0) {
        (void)usleep(draw(model, 3000));
        store_install_cancel(fixture->store);
    }
}

static void finish_all(struct fixture *fixture, struct model *model) {
    while (is_writing(fixture, model) || model->exporting != NOBODY) take_ended(fixture, model);
}

static void between_steps(struct fixture *fixture, struct model *model) {
    uint32_t number = draw(model, SHARDS);
    take_ended(fixture, model);
    switch (draw(model, 60)) {
    case 0:
    case 1:
    case 2:
        start_checkpoint(fixture, model);
        return;
    case 3:
        start_export(fixture, model, number);
        return;
    case 4:
        start_install(fixture, model, number);
        return;
    case 5:
        drop(fixture, model, number);
        return;
    case 6:
        if (draw(model, 10) != 0) return;
        finish_all(fixture, model);
        close_store(fixture);
        open_store(fixture);
        memcpy(model->now, model->disk, sizeof model->now);
        return;
    default:
        return;
    }
}

static void assert_all(struct fixture *fixture, struct model *model) {
    for (uint32_t number = 0; number < SHARDS; number++) {
        if (!is_readable(model, number)) continue;
        for (uint32_t key = 0; key < KEYS; key++) {
            char room[64];
            struct slice value;
            uint32_t version = model->now[number].versions[key];
            assert_int_equal(store_step_begin(fixture->store), SK_OK);
            int err = kv_get(shard(fixture, number), key_of(key, room), &value);
            assert_int_equal(err, version == 0 ? SK_NOT_FOUND : SK_OK);
            assert_true(version == 0 || is_version(value, number, key, version));
            store_step_end(fixture->store);
        }
    }
}

static void test_random_against_model(void **state) {
    struct fixture *fixture = *state;
    static struct model model;
    const char *given = getenv("SEED");
    model.seed = given != NULL ? (unsigned)atoi(given) : (unsigned)getpid();
    model.exporting = model.installing = NOBODY;
    print_message("SEED=%u\n", model.seed);
    fixture->options.cache_bytes = RECORD_CACHE_BYTES_MIN; /* it comes round often */
    fixture->options.txn_bytes = 20000;
    open_store(fixture);
    for (uint32_t number = 0; number < SHARDS; number++) {
        for (uint32_t key = 0; key < KEYS; key++) change(fixture, &model, number, key, false);
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        step(fixture, &model);
        between_steps(fixture, &model);
    }
    finish_all(fixture, &model);
    assert_all(fixture, &model);
    print_message("hits=%u rollbacks=%u checkpoints=%u failures=%u installs=%u cancelled=%u drops=%u\n",
                  model.hits, model.rollbacks, model.checkpoints, model.failures, model.installs, model.cancelled,
                  model.drops);
    assert_true(model.hits > 1000 && model.rollbacks > 100 && model.checkpoints > 10);
    for (uint32_t number = 0; number < SHARDS; number++) {
        char path[128];
        path_of(fixture, number, path);
        unlink(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_against_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

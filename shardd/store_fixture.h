/* For the tests of the store: one in a directory of its own, the lane's end of its completions, and what a shard is
 * expected to have. Included by one test program each. */
#pragma once

#include "libcommon/error.h"
#include "shardd/store.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum completion { CHECKPOINTED, SNAPSHOT_COPIED, INSTALLED, STORE_COMPLETIONS };

/* A store in a directory of its own, and the lane's end of its completions. */
struct fixture {
    char directory[64];
    struct store_options options;
    struct store *store;
    char text[512];
    char snapshot_path[96];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool ended[STORE_COMPLETIONS]; /* and not yet taken */
};

static inline void note_ended(struct fixture *fixture, enum completion completion) {
    pthread_mutex_lock(&fixture->mutex);
    fixture->ended[completion] = true;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->mutex);
}

static inline void checkpointed_cb(void *arg, int err) {
    (void)err;
    note_ended(arg, CHECKPOINTED);
}

static inline void snapshot_cb(void *arg, int err) {
    (void)err;
    note_ended(arg, SNAPSHOT_COPIED);
}

static inline void installed_cb(void *arg, int err) {
    (void)err;
    note_ended(arg, INSTALLED);
}

static inline int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/sk-store-XXXXXX");
    if (mkdtemp(fixture->directory) == NULL) return -1;
    snprintf(fixture->snapshot_path, sizeof fixture->snapshot_path, "%s/snapshot", fixture->directory);
    pthread_mutex_init(&fixture->mutex, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    fixture->options = (struct store_options){
        .directory = fixture->directory,
        .map_bytes = (uint64_t)1 << 40,
        .memtable_bytes = 32u << 20,
        .cache_bytes = 1u << 20,
        .txn_bytes = 4u << 20,
        .checkpointed_cb = checkpointed_cb,
        .snapshot_cb = snapshot_cb,
        .installed_cb = installed_cb,
        .arg = fixture,
    };
    *state = fixture;
    return 0;
}

static inline void close_store(struct fixture *fixture) {
    store_close(fixture->store);
    fixture->store = NULL;
    memset(fixture->ended, 0, sizeof fixture->ended);
}

static inline int teardown(void **state) {
    struct fixture *fixture = *state;
    close_store(fixture);
    char path[128];
    unlink(fixture->snapshot_path);
    snprintf(path, sizeof path, "%s.part", fixture->snapshot_path);
    unlink(path);
    snprintf(path, sizeof path, "%s/data.mdb", fixture->directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/lock.mdb", fixture->directory);
    unlink(path);
    rmdir(fixture->directory);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->mutex);
    free(fixture);
    return 0;
}

static inline void open_store(struct fixture *fixture) {
    int err = store_open(&fixture->store, &fixture->options, fixture->text, sizeof fixture->text);
    if (err != SK_OK) fail_msg("%s: %s", error_name(err), fixture->text);
}

static inline struct kv *shard(struct fixture *fixture, uint32_t number) {
    struct kv *kv;
    assert_int_equal(store_shard(fixture->store, number, &kv), SK_OK);
    kv_keep_reads(kv, true);
    return kv;
}

/* Whether it has ended; it stays so until it is waited for. */
static inline bool has_ended(struct fixture *fixture, enum completion completion) {
    pthread_mutex_lock(&fixture->mutex);
    bool ended = fixture->ended[completion];
    pthread_mutex_unlock(&fixture->mutex);
    return ended;
}

static inline void wait_for(struct fixture *fixture, enum completion completion) {
    pthread_mutex_lock(&fixture->mutex);
    while (!fixture->ended[completion]) pthread_cond_wait(&fixture->changed, &fixture->mutex);
    fixture->ended[completion] = false;
    pthread_mutex_unlock(&fixture->mutex);
}

static inline int finish_checkpoint(struct fixture *fixture) {
    wait_for(fixture, CHECKPOINTED);
    return store_checkpoint_complete(fixture->store);
}

static inline int checkpoint(struct fixture *fixture) {
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    return finish_checkpoint(fixture);
}

static inline void put(struct kv *kv, const char *key, const char *value) {
    assert_int_equal(kv_put(kv, slice_of_text(key), slice_of_text(value)), SK_OK);
}

static inline void del(struct kv *kv, const char *key) { assert_int_equal(kv_del(kv, slice_of_text(key)), SK_OK); }

/* NULL: the key is not there. */
static inline void assert_kv(struct fixture *fixture, uint32_t number, const char *key, const char *expected) {
    struct slice value;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    int err = kv_get(shard(fixture, number), slice_of_text(key), &value);
    assert_int_equal(err, expected == NULL ? SK_NOT_FOUND : SK_OK);
    if (expected != NULL) assert_true(slice_equal(value, slice_of_text(expected)));
    store_step_end(fixture->store);
}

/* `expected`: "key=value key=value …" from `from` on. */
static inline void assert_walk(struct fixture *fixture, uint32_t number, const char *from, const char *expected) {
    char text[1024] = "";
    struct kv_iter *iter;
    struct slice key, value;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_iter_open(shard(fixture, number), slice_of_text(from), &iter), SK_OK);
    int err;
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%.*s=%.*s", used > 0 ? " " : "", (int)key.size,
                 (const char *)key.data, (int)value.size, (const char *)value.data);
    }
    assert_int_equal(err, SK_NOT_FOUND);
    assert_int_equal(kv_iter_next(iter, &key, &value), SK_NOT_FOUND);
    kv_iter_close(iter);
    store_step_end(fixture->store);
    assert_string_equal(text, expected);
}

/* `count` shards of 100 records each, with `value` in all of them. */
static inline void fill_shards(struct fixture *fixture, uint32_t count, const char *value) {
    char key[16], padded[400];
    snprintf(padded, sizeof padded, "%-399s", value);
    for (uint32_t number = 0; number < count; number++) {
        for (int i = 0; i < 100; i++) {
            snprintf(key, sizeof key, "key%03d", i);
            put(shard(fixture, number), key, padded);
        }
    }
}

/* Whether all of a shard's records have `value`; else none has. */
static inline bool shard_is_whole(struct fixture *fixture, uint32_t number, const char *value) {
    struct kv_iter *iter;
    struct slice key, found;
    int same = 0, all = 0;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_iter_open(shard(fixture, number), slice_of("", 0), &iter), SK_OK);
    while (kv_iter_next(iter, &key, &found) == SK_OK) {
        all++;
        if (found.size == 399 && memcmp(found.data, value, strlen(value)) == 0) same++;
    }
    kv_iter_close(iter);
    store_step_end(fixture->store);
    assert_true(same == 0 || (same == 100 && all == 100));
    return same == 100;
}

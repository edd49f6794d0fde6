#include "store.h"

#include "libcommon/error.h"
#include "shardd/checkpoint.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* A store in a directory of its own, and the lane's end of its completions. */
struct fixture {
    char directory[64];
    struct store_options options;
    struct store *store;
    char text[512];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool ended;
};

static void ended_cb(void *arg, int err) {
    (void)err;
    struct fixture *fixture = arg;
    pthread_mutex_lock(&fixture->mutex);
    fixture->ended = true;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->mutex);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/sk-store-XXXXXX");
    if (mkdtemp(fixture->directory) == NULL) return -1;
    pthread_mutex_init(&fixture->mutex, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    fixture->options = (struct store_options){
        .directory = fixture->directory,
        .map_bytes = (uint64_t)1 << 40,
        .memtable_bytes = 32u << 20,
        .txn_bytes = 4u << 20,
        .checkpointed_cb = ended_cb,
        .arg = fixture,
    };
    *state = fixture;
    return 0;
}

static void close_store(struct fixture *fixture) {
    store_close(fixture->store);
    fixture->store = NULL;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    close_store(fixture);
    char path[128];
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

static void open_store(struct fixture *fixture) {
    int err = store_open(&fixture->store, &fixture->options, fixture->text, sizeof fixture->text);
    if (err != SK_OK) fail_msg("%s: %s", error_name(err), fixture->text);
}

static struct kv *shard(struct fixture *fixture, uint32_t number) {
    struct kv *kv;
    assert_int_equal(store_shard(fixture->store, number, &kv), SK_OK);
    return kv;
}

static int finish_checkpoint(struct fixture *fixture) {
    pthread_mutex_lock(&fixture->mutex);
    while (!fixture->ended) pthread_cond_wait(&fixture->changed, &fixture->mutex);
    fixture->ended = false;
    pthread_mutex_unlock(&fixture->mutex);
    return store_checkpoint_complete(fixture->store);
}

static int checkpoint(struct fixture *fixture) {
    assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    return finish_checkpoint(fixture);
}

static void put(struct kv *kv, const char *key, const char *value) {
    assert_int_equal(kv_put(kv, slice_of_text(key), slice_of_text(value)), SK_OK);
}

static void del(struct kv *kv, const char *key) { assert_int_equal(kv_del(kv, slice_of_text(key)), SK_OK); }

/* NULL: the key is not there. */
static void assert_kv(struct fixture *fixture, uint32_t number, const char *key, const char *expected) {
    struct slice value;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    int err = kv_get(shard(fixture, number), slice_of_text(key), &value);
    assert_int_equal(err, expected == NULL ? SK_NOT_FOUND : SK_OK);
    if (expected != NULL) assert_true(slice_equal(value, slice_of_text(expected)));
    store_step_end(fixture->store);
}

/* `expected`: "key=value key=value …" from `from` on. */
static void assert_walk(struct fixture *fixture, uint32_t number, const char *from, const char *expected) {
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reopen_has_what_was_checkpointed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_walk_over_three_layers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

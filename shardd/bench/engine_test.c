/* A lane by itself answers, waits its turn, and finds its data again. */
#include "shardd/bench/engine.h"

#include "libcommon/buffer.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"
#include "shardd/bench/bare_lmdb.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct engine *open_engine(const char *directory, uint64_t checkpoint_interval_ms) {
    struct engine_options options = {.directory = directory,
                                     .shard_count = 4,
                                     .memtable_bytes = 1 << 20,
                                     .cache_bytes = 1 << 20,
                                     .map_bytes = 1 << 30,
                                     .checkpoint_interval_ms = checkpoint_interval_ms,
                                     .frames_max = 2};
    struct engine *engine;
    char text[512] = "";
    int err = engine_open(&engine, &options, text, sizeof text);
    if (err != SK_OK) fail_msg("%s: %s", error_name(err), text);
    return engine;
}

/* METHOD key [value] */
static void add(struct engine *engine, const char *method, const char *key, const char *value) {
    struct buffer body;
    buffer_init(&body);
    mp_write_text(&body, method);
    mp_write_array(&body, value != NULL ? 2 : 1);
    mp_write_bin(&body, slice_of_text(key));
    if (value != NULL) mp_write_bin(&body, slice_of_text(value));
    engine_add(engine, slice_of_text(key), strcmp(method, "GET") != 0, buffer_slice(&body));
    buffer_deinit(&body);
}

static void set_many(struct engine *engine, unsigned frames, unsigned commands) {
    for (unsigned i = 0; i < frames * commands; i++) {
        char key[32];
        snprintf(key, sizeof key, "key:%u", i);
        add(engine, "SET", key, "value");
        if ((i + 1) % commands == 0) assert_int_equal(engine_send(engine), SK_OK);
    }
    assert_int_equal(engine_drain(engine), SK_OK);
}

static void answers_are_counted(void **state) {
    struct engine *engine = open_engine(*state, 60000);
    add(engine, "SET", "a", "1");
    assert_int_equal(engine_drain(engine), SK_OK);
    add(engine, "GET", "a", NULL);
    add(engine, "GET", "b", NULL);
    add(engine, "LPUSH", "a", "x"); /* of another type */
    assert_int_equal(engine_drain(engine), SK_OK);
    struct engine_counts counts = engine_counts(engine);
    assert_int_equal(counts.answered, 4);
    assert_int_equal(counts.missing, 1);
    assert_int_equal(counts.refused, 1);
    assert_int_equal(counts.refused_err, SK_WRONGTYPE);
    engine_close(engine);
}

static void more_frames_than_may_be_under_way_are_sent(void **state) {
    struct engine *engine = open_engine(*state, 60000);
    set_many(engine, 50, 7);
    struct engine_counts counts = engine_counts(engine);
    assert_int_equal(counts.answered, 350);
    assert_int_equal(counts.refused, 0);
    assert_int_equal(engine_drain(engine), SK_OK); /* nothing is under way */
    engine_close(engine);
}

static void data_is_found_again(void **state) {
    struct engine *engine = open_engine(*state, 100);
    set_many(engine, 10, 10);
    engine_wait_for_checkpoint(engine);
    struct engine_state seen = engine_state(engine);
    assert_int_equal(seen.memtable_bytes, 0);
    assert_true(seen.lane_cpu_us > 0 && seen.store_bytes > 0 && seen.log_bytes > 0);
    add(engine, "SET", "late", "in the log alone");
    assert_int_equal(engine_drain(engine), SK_OK);
    engine_close(engine);

    engine = open_engine(*state, 60000);
    add(engine, "GET", "key:99", NULL);
    add(engine, "GET", "late", NULL);
    assert_int_equal(engine_drain(engine), SK_OK);
    assert_int_equal(engine_counts(engine).answered, 2);
    assert_int_equal(engine_counts(engine).missing, 0);
    engine_close(engine);
}

static void what_cannot_be_opened_says_why(void **state) {
    (void)state;
    struct engine_options options = {.directory = "/nonexistent/lane", .shard_count = 1, .frames_max = 1};
    struct engine *engine;
    char text[512] = "";
    assert_true(engine_open(&engine, &options, text, sizeof text) != SK_OK);
    assert_non_null(strstr(text, "/nonexistent/lane"));
}

static void lmdb_alone_keeps_what_is_put(void **state) {
    struct bare_lmdb *lmdb;
    struct slice value;
    char directory[128], text[512] = "";
    snprintf(directory, sizeof directory, "%s/bare", (const char *)*state);
    assert_int_equal(bare_lmdb_open(&lmdb, directory, text, sizeof text), SK_OK);
    assert_int_equal(bare_lmdb_begin(lmdb), SK_OK);
    assert_int_equal(bare_lmdb_put(lmdb, slice_of_text("a"), slice_of_text("1")), SK_OK);
    assert_int_equal(bare_lmdb_put(lmdb, slice_of_text("b"), slice_of_text("2")), SK_OK);
    assert_int_equal(bare_lmdb_commit(lmdb), SK_OK);
    assert_int_equal(bare_lmdb_begin_reading(lmdb), SK_OK);
    assert_int_equal(bare_lmdb_get(lmdb, slice_of_text("b"), &value), SK_OK);
    assert_true(slice_equal(value, slice_of_text("2")));
    assert_int_equal(bare_lmdb_get(lmdb, slice_of_text("c"), &value), SK_NOT_FOUND);
    bare_lmdb_end_reading(lmdb);
    bare_lmdb_close(lmdb);
    assert_true(bare_lmdb_open(&lmdb, directory, text, sizeof text) != SK_OK); /* it is there */
    assert_non_null(strstr(text, directory));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_are_counted, testing_make_directory, testing_remove_directory),
        cmocka_unit_test_setup_teardown(more_frames_than_may_be_under_way_are_sent, testing_make_directory,
                                        testing_remove_directory),
        cmocka_unit_test_setup_teardown(data_is_found_again, testing_make_directory, testing_remove_directory),
        cmocka_unit_test(what_cannot_be_opened_says_why),
        cmocka_unit_test_setup_teardown(lmdb_alone_keeps_what_is_put, testing_make_directory,
                                        testing_remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

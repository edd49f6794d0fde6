/* The commands of the engine's loads, and whole runs on a lane of their own. */
#include "engine_bench.h"

#include "engine_load.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"
#include "session.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- commands ---- */

/* The arguments of a load's command, with '|' between. */
static void write_load(const char *name, uint64_t number, char *words, size_t room) {
    struct buffer body;
    uint8_t key[KEYS_BYTES];
    buffer_init(&body);
    const struct engine_load *load = engine_load_find(slice_of_text(name));
    assert_non_null(load);
    engine_load_write(load, number, slice_of_text("value"), &body, key);
    struct mp_reader reader = mp_reader_of(buffer_slice(&body));
    struct slice word;
    uint32_t count;
    assert_int_equal(mp_read_str(&reader, &word), SK_OK);
    int used = snprintf(words, room, "%.*s", (int)word.size, (const char *)word.data);
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct mp_value value;
        assert_int_equal(mp_read(&reader, &value), SK_OK);
        if (value.type == MP_UINT)
            used += snprintf(words + used, room - (size_t)used, "|%u", (unsigned)value.uint);
        else
            used += snprintf(words + used, room - (size_t)used, "|%.*s", (int)value.bytes.size,
                             (const char *)value.bytes.data);
    }
    assert_int_equal(mp_left(&reader), 0);
    buffer_deinit(&body);
}

static void loads_are_commands(void **state) {
    (void)state;
    static const struct {
        const char *name, *words;
    } cases[] = {
        {"get", "GET|key:000000000207"},
        {"SET", "SET|key:000000000207|value"},
        {"Incr", "INCR|num:000000000207"},
        {"HSET", "HSET|map:000000000002|key:000000000207|value"},
        {"ZADD", "ZADD|set:000000000002|207|key:000000000207"},
        {"LPUSH", "LPUSH|lst:000000000002|value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char words[128];
        write_load(cases[i].name, 207, words, sizeof words);
        assert_string_equal(words, cases[i].words);
    }
    assert_null(engine_load_find(slice_of_text("GETSET")));
    assert_null(engine_load_find(slice_of_text("")));
}

/* ---- whole runs ---- */

static struct engine_bench_options small_options(const char *data) {
    struct engine_bench_options options = engine_bench_defaults();
    options.data = data;
    options.keys = 500;
    options.shards = 4;
    options.batch = 10;
    options.json = true;
    return options;
}

/* Runs and reads the JSON that it prints. */
static json_t *run_json(const struct engine_bench_options *options) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_int_equal(engine_bench_run(options, out), EXIT_OK);
    fclose(out);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

static json_int_t commands_of(const json_t *json, size_t at, const char *name) {
    const json_t *load = json_array_get(json_object_get(json, "loads"), at);
    assert_string_equal(json_string_value(json_object_get(load, "name")), name);
    return json_integer_value(json_object_get(load, "commands"));
}

static void every_load_runs(void **state) {
    struct engine_bench_options options = small_options(*state);
    options.loads = "GET,SET,INCR,HSET,ZADD,LPUSH";
    options.operations = 200;
    options.load = true;
    json_t *json = run_json(&options);
    for (size_t at = 0; engine_load_at(at) != NULL; at++)
        assert_int_equal(commands_of(json, at, engine_load_name(engine_load_at(at))), 200);
    json_decref(json);
}

static void a_timed_run_stands_beside_lmdb(void **state) {
    struct engine_bench_options options = small_options(*state);
    options.load = true;
    options.duration_ms = 50;
    json_t *json = run_json(&options);
    for (size_t at = 0; at < 2; at++) {
        assert_true(commands_of(json, at, at == 0 ? "GET" : "SET") > 0);
        const json_t *load = json_array_get(json_object_get(json, "loads"), at);
        const json_t *beside = json_object_get(load, "floor");
        assert_string_equal(json_string_value(json_object_get(beside, "name")),
                            at == 0 ? "LMDB get" : "sorted LMDB puts");
        assert_true(json_real_value(json_object_get(beside, "per_second")) > 0);
        assert_true(json_real_value(json_object_get(beside, "ratio")) > 0);
    }
    json_decref(json);
    char floor[256];
    snprintf(floor, sizeof floor, "%s/bare-lmdb", (const char *)*state);
    assert_int_equal(access(floor, F_OK), -1); /* LMDB's file is not kept */
}

static void data_is_kept_and_used_again(void **state) {
    struct engine_bench_options options = small_options(*state);
    options.load = true;
    options.operations = 10;
    json_decref(run_json(&options));
    options.load = false;
    options.reads_percent = 50;
    json_t *json = run_json(&options);
    assert_int_equal(commands_of(json, 0, "mixed"), 10);
    json_decref(json);
}

static void unknown_loads_are_refused(void **state) {
    struct engine_bench_options options = small_options(*state);
    options.loads = "GET,NONSENSE";
    assert_int_equal(engine_bench_run(&options, stdout), EXIT_USAGE);
}

static void a_directory_that_cannot_be_is_refused(void **state) {
    (void)state;
    struct engine_bench_options options = small_options("/nonexistent/directory");
    assert_int_equal(engine_bench_run(&options, stdout), EXIT_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_are_commands),
        cmocka_unit_test_setup_teardown(every_load_runs, testing_make_directory, testing_remove_directory),
        cmocka_unit_test_setup_teardown(a_timed_run_stands_beside_lmdb, testing_make_directory,
                                        testing_remove_directory),
        cmocka_unit_test_setup_teardown(data_is_kept_and_used_again, testing_make_directory,
                                        testing_remove_directory),
        cmocka_unit_test_setup_teardown(unknown_loads_are_refused, testing_make_directory,
                                        testing_remove_directory),
        cmocka_unit_test(a_directory_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

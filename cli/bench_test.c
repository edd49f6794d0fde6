/* Requests and keys of the bench, and a whole run against a gateway that answers from a script. */
#include "bench.h"

#include "bench_request.h"
#include "fake_gateway.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

static void keys_are_sixteen_bytes(void **state) {
    (void)state;
    uint8_t key[KEYS_BYTES];
    keys_write(0, key);
    assert_memory_equal(key, "key:000000000000", 16);
    keys_write(42, key);
    assert_memory_equal(key, "key:000000000042", 16);
    keys_write(999999999999, key);
    assert_memory_equal(key, "key:999999999999", 16);
}

static void sequential_goes_round(void **state) {
    (void)state;
    struct keys_plan plan;
    keys_plan_init(&plan, KEYS_SEQUENTIAL, 3);
    struct keys_chooser a, b;
    keys_chooser_init(&a, &plan, 1);
    keys_chooser_init(&b, &plan, 2);
    assert_int_equal(keys_choose(&a), 0);
    assert_int_equal(keys_choose(&b), 1);
    assert_int_equal(keys_choose(&a), 2);
    assert_int_equal(keys_choose(&a), 0);
}

/* How often the most frequent of 1000 keys comes among 100,000. */
static uint32_t most_frequent(enum keys_distribution distribution) {
    struct keys_plan plan;
    keys_plan_init(&plan, distribution, 1000);
    struct keys_chooser chooser;
    keys_chooser_init(&chooser, &plan, 7);
    uint32_t counts[1000] = {0}, most = 0;
    for (int i = 0; i < 100000; i++) {
        uint64_t key = keys_choose(&chooser);
        assert_true(key < 1000);
        if (++counts[key] > most) most = counts[key];
    }
    return most;
}

static void distributions_have_their_shape(void **state) {
    (void)state;
    uint32_t uniform = most_frequent(KEYS_UNIFORM), zipf = most_frequent(KEYS_ZIPF);
    assert_in_range(uniform, 100, 200);  /* 100 expected of each */
    assert_in_range(zipf, 10000, 20000); /* 1 / zeta(1000, 0.99), 13 %, for the first rank */
}

static void small_key_spaces_work(void **state) {
    (void)state;
    for (int distribution = KEYS_UNIFORM; distribution <= KEYS_SEQUENTIAL; distribution++)
        for (uint64_t count = 1; count <= 3; count++) {
            struct keys_plan plan;
            keys_plan_init(&plan, (enum keys_distribution)distribution, count);
            struct keys_chooser chooser;
            keys_chooser_init(&chooser, &plan, 7);
            for (int i = 0; i < 1000; i++) assert_true(keys_choose(&chooser) < count);
        }
}

static void check_params(struct mp_reader *reader, bool write, uint64_t key, uint64_t value_bytes) {
    uint8_t expected[KEYS_BYTES];
    keys_write(key, expected);
    uint32_t count;
    struct slice bytes;
    assert_int_equal(mp_read_array(reader, &count), SK_OK);
    assert_int_equal(count, write ? 2 : 1);
    assert_int_equal(mp_read_bytes(reader, &bytes), SK_OK);
    assert_true(slice_equal(bytes, slice_of(expected, sizeof expected)));
    if (!write) return;
    assert_int_equal(mp_read_bytes(reader, &bytes), SK_OK);
    assert_int_equal(bytes.size, value_bytes);
}

static int new_maker(struct bench_maker **maker, uint64_t value_bytes, uint64_t batch_max, bool ids) {
    struct bench_maker_options options = {
        .value_bytes = value_bytes, .batch_max = batch_max, .ids = ids, .timeout_ms = 5000};
    return bench_maker_new(maker, &options);
}

static void requests_are_what_the_gateway_reads(void **state) {
    (void)state;
    static const uint64_t sizes[] = {0, 100, 300, 70000};
    const struct bench_command commands[] = {{.key = 7, .write = true}, {.key = 8, .write = false}};
    const uint64_t id[2] = {1, 2};
    for (size_t s = 0; s < 4; s++) {
        struct bench_maker *maker;
        assert_int_equal(new_maker(&maker, sizes[s], 2, true), SK_OK);
        uint8_t *room = malloc(bench_request_bytes_max(maker, 2));
        for (uint64_t count = 1; count <= 2; count++) {
            size_t size = bench_request_write(maker, room, 77, commands, count, id);
            assert_true(size <= bench_request_bytes_max(maker, count));
            struct fake_request request;
            assert_true(fake_request_read(slice_of(room, size), &request));
            assert_int_equal(request.msgid, 77);
            assert_true(slice_equal(request.method, slice_of_text(count == 1 ? "SET" : "batch")));
            struct mp_reader reader = mp_reader_of(request.params);
            uint32_t pairs;
            struct slice method;
            if (count == 1) {
                check_params(&reader, true, 7, sizes[s]);
                continue;
            }
            assert_int_equal(mp_read_array(&reader, &pairs), SK_OK);
            assert_int_equal(pairs, 2);
            for (int i = 0; i < 2; i++) {
                assert_int_equal(mp_read_array(&reader, &pairs), SK_OK);
                assert_int_equal(pairs, 2);
                assert_int_equal(mp_read_str(&reader, &method), SK_OK);
                assert_true(slice_equal(method, slice_of_text(i == 0 ? "SET" : "GET")));
                check_params(&reader, i == 0, 7 + (uint64_t)i, sizes[s]);
            }
        }
        free(room);
        bench_maker_free(maker);
    }
}

static void only_writes_get_ids(void **state) {
    (void)state;
    struct bench_maker *maker;
    const uint64_t id[2] = {1, 2};
    uint8_t room[1024];
    for (int ids = 0; ids < 2; ids++)
        for (int write = 0; write < 2; write++) {
            assert_int_equal(new_maker(&maker, 10, 1, ids == 1), SK_OK);
            const struct bench_command command = {.key = 1, .write = write == 1};
            struct fake_request request;
            size_t size = bench_request_write(maker, room, 1, &command, 1, id);
            assert_true(fake_request_read(slice_of(room, size), &request));
            bool has_id = memmem(request.options.data, request.options.size, "\xa2id\xc4\x10", 5) != NULL;
            assert_int_equal(has_id, ids == 1 && write == 1);
            if (has_id) assert_memory_equal(request.options.data + request.options.size - 16, id, 16);
            bench_maker_free(maker);
        }
}

/* Beside the id, which stays the last. */
static void reads_of_followers_are_asked_for(void **state) {
    (void)state;
    struct bench_maker *maker;
    const uint64_t id[2] = {1, 2};
    uint8_t room[1024];
    for (int follower = 0; follower < 2; follower++)
        for (int write = 0; write < 2; write++) {
            struct bench_maker_options options = {.value_bytes = 10,
                                                  .batch_max = 1,
                                                  .ids = true,
                                                  .follower_reads = follower == 1,
                                                  .timeout_ms = 5000};
            assert_int_equal(bench_maker_new(&maker, &options), SK_OK);
            const struct bench_command command = {.key = 1, .write = write == 1};
            struct fake_request request;
            size_t size = bench_request_write(maker, room, 1, &command, 1, id);
            assert_true(fake_request_read(slice_of(room, size), &request));
            static const char asked[] = "\xa4read\xa8"
                                        "follower";
            bool asks = memmem(request.options.data, request.options.size, asked, sizeof asked - 1) != NULL;
            assert_int_equal(asks, follower == 1);
            if (write == 1) assert_memory_equal(request.options.data + request.options.size - 16, id, 16);
            bench_maker_free(maker);
        }
}

static void too_large_a_batch_is_refused(void **state) {
    (void)state;
    struct bench_maker *maker;
    assert_int_equal(new_maker(&maker, 16 << 20, 4, false), SK_TOOLARGE);
}

static void replies_are_counted(void **state) {
    (void)state;
    struct bench_answers answers;
    assert_int_equal(bench_reply_read(slice_of_text("\x94\x01\x07\xc0\xa2OK"), 1, &answers), SK_OK);
    assert_true(answers.ok == 1 && answers.missing == 0 && answers.failed == 0);
    assert_int_equal(bench_reply_read(slice_of_text("\x94\x01\x07\xc0\xc0"), 1, &answers), SK_OK);
    assert_true(answers.ok == 1 && answers.missing == 1 && answers.failed == 0);
    assert_int_equal(
        bench_reply_read(slice_of_text("\x94\x01\x07\xc0\x93\x92\xc0\xc0\x92\xc0\xa2OK\x92\x92\xa1X\xa0\xc0"), 3,
                         &answers),
        SK_OK);
    assert_true(answers.ok == 2 && answers.missing == 1 && answers.failed == 1);
    assert_true(slice_equal(answers.code, slice_of_text("X")));
    assert_int_equal(bench_reply_read(slice_of_text("\x94\x01\x07\x92\xa1Y\xa0\xc0"), 3, &answers), SK_OK);
    assert_true(answers.ok == 0 && answers.failed == 3);
    static const char *const bad[] = {"\xc1", "\x94\x01", "\x94\x01\x07\xc0\x91\x92\xc0\xc0",
                                      "\x94\x01\x07\x05\xc0", "\x94\x01\x07\xc0\x93\x92\xc0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(bench_reply_read(slice_of_text(bad[i]), 3, &answers), SK_EPROTO);
}

/* ---- whole runs ---- */

struct script {
    atomic_uint_fast64_t requests, sets, gets, both; /* both: requests with SET and GET in them */
    uint64_t hang_up_every, refuse_every;            /* 0: never */
};

static void count_command(struct script *script, struct slice method) {
    if (slice_equal(method, slice_of_text("SET"))) atomic_fetch_add(&script->sets, 1);
    else atomic_fetch_add(&script->gets, 1);
}

static void answer_script(void *arg, struct slice bytes, struct buffer *reply) {
    struct script *script = arg;
    struct fake_request request;
    if (!fake_request_read(bytes, &request)) abort();
    uint64_t number = atomic_fetch_add(&script->requests, 1) + 1;
    if (script->hang_up_every > 0 && number % script->hang_up_every == 0) return;
    if (script->refuse_every > 0 && number % script->refuse_every == 0) {
        fake_reply_error(reply, request.msgid, "OVERLOADED", "");
        return;
    }
    fake_reply_begin(reply, request.msgid);
    if (!slice_equal(request.method, slice_of_text("batch"))) {
        count_command(script, request.method);
        mp_write_nil(reply);
        return;
    }
    struct mp_reader reader = mp_reader_of(request.params);
    uint32_t count, two;
    mp_read_array(&reader, &count);
    mp_write_array(reply, count);
    bool set = false, get = false;
    for (uint32_t i = 0; i < count; i++) {
        struct slice method;
        mp_read_array(&reader, &two);
        mp_read_str(&reader, &method);
        mp_skip(&reader, NULL);
        count_command(script, method);
        set = set || slice_equal(method, slice_of_text("SET"));
        get = get || slice_equal(method, slice_of_text("GET"));
        mp_write_array(reply, 2);
        mp_write_nil(reply);
        mp_write_text(reply, "OK");
    }
    if (set && get) atomic_fetch_add(&script->both, 1);
}

static int run_bench(struct script *script, struct bench_options *options) {
    struct fake_gateway *fake = fake_gateway_new(answer_script, script);
    assert_non_null(fake);
    options->gateway = fake_gateway_address(fake);
    options->timeout_ms = 1000;
    int code = bench_run(options);
    fake_gateway_free(fake);
    return code;
}

static void a_run_loads_every_key_once(void **state) {
    (void)state;
    struct script script = {0};
    struct bench_options options = bench_defaults();
    options.load = true;
    options.keys = 1234;
    options.reads_percent = 100;
    options.duration_ms = 50;
    options.connections = 3;
    options.in_flight = 7;
    options.json = true;
    assert_int_equal(run_bench(&script, &options), EXIT_OK);
    assert_int_equal(script.sets, 1234);
    assert_true(script.gets > 0);
}

static void batches_and_ids_run(void **state) {
    (void)state;
    struct script script = {0};
    struct bench_options options = bench_defaults();
    options.batch = 10;
    options.reads_percent = 0;
    options.duration_ms = 50;
    options.ids = true;
    options.distribution = KEYS_ZIPF;
    assert_int_equal(run_bench(&script, &options), EXIT_OK);
    assert_true(script.sets > 0 && script.sets % 10 == 0 && script.gets == 0);
}

static void batches_are_of_one_kind_if_wanted(void **state) {
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        struct script script = {0};
        struct bench_options options = bench_defaults();
        options.batch = 10;
        options.whole_batches = whole == 1;
        options.duration_ms = 50;
        assert_int_equal(run_bench(&script, &options), EXIT_OK);
        assert_true(script.sets > 0 && script.gets > 0);
        assert_int_equal(script.both > 0, whole == 0);
    }
}

/* A load goes on through errors and lost connections and sets every key at least once. */
static void a_load_survives_errors(void **state) {
    (void)state;
    struct script script = {.hang_up_every = 5, .refuse_every = 3};
    struct bench_options options = bench_defaults();
    options.load = true;
    options.keys = 2000;
    options.in_flight = 4;
    options.duration_ms = 1;
    run_bench(&script, &options);
    assert_true(script.sets >= 2000);
}

static void errors_are_an_exit_code(void **state) {
    (void)state;
    struct script script = {.refuse_every = 2};
    struct bench_options options = bench_defaults();
    options.duration_ms = 50;
    assert_int_equal(run_bench(&script, &options), EXIT_ERROR_ANSWER);
}

static void nobody_listens(void **state) {
    (void)state;
    struct bench_options options = bench_defaults();
    options.gateway = "ipc:///nonexistent/socket";
    options.timeout_ms = 1000;
    assert_int_equal(bench_run(&options), EXIT_UNREACHABLE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_sixteen_bytes),
        cmocka_unit_test(sequential_goes_round),
        cmocka_unit_test(distributions_have_their_shape),
        cmocka_unit_test(small_key_spaces_work),
        cmocka_unit_test(requests_are_what_the_gateway_reads),
        cmocka_unit_test(only_writes_get_ids),
        cmocka_unit_test(reads_of_followers_are_asked_for),
        cmocka_unit_test(too_large_a_batch_is_refused),
        cmocka_unit_test(replies_are_counted),
        cmocka_unit_test(a_run_loads_every_key_once),
        cmocka_unit_test(batches_and_ids_run),
        cmocka_unit_test(batches_are_of_one_kind_if_wanted),
        cmocka_unit_test(a_load_survives_errors),
        cmocka_unit_test(errors_are_an_exit_code),
        cmocka_unit_test(nobody_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

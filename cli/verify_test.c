/* Against a metad that a test plays: four shards, nodes 1 and 2 lead two each. */
#include "verify.h"

#include "fake_gateway.h"
#include "libcommon/error.h"
#include "libcommon/map.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"
#include "session.h"

static struct play {
    unsigned looks, done_after; /* node 2 has done its shards after so many looks at the status */
    bool never;                 /* shard 2 is never done */
    uint64_t generation_told;   /* by node 1 */
    const char *fault;          /* that node 2 has found, of node 3 in shard 3; NULL = none */
    uint64_t fault_generation;
    uint32_t isr_count;
    const char *refusal; /* of verify; NULL = none */
    unsigned asked;
} play;

static void write_map(struct buffer *reply) {
    struct map *map;
    assert_int_equal(map_new(&map, 4, 3), SK_OK);
    map->version = map->cluster = 1;
    for (uint32_t i = 0; i < 3; i++) map->nodes[i].id = i + 1;
    for (uint32_t shard = 0; shard < 4; shard++) {
        map->shards[shard] = (struct map_shard){.leader = 1 + shard % 2,
                                                .replica_count = 3,
                                                .replicas = {{1, 1}, {2, 2}, {3, 3}},
                                                .isr_count = play.isr_count,
                                                .isr = {1, 2, 3}};
    }
    map_encode(map, reply);
    map_unref(map);
}

/* As shardd/verify_stats.h says. */
static void write_verify(struct buffer *reply, uint64_t generation, uint8_t done, const char *fault) {
    mp_write_text(reply, "verify");
    mp_write_map(reply, 3);
    mp_write_text(reply, "generation");
    mp_write_uint(reply, generation);
    mp_write_text(reply, "done");
    mp_write_bin(reply, slice_of(&done, done == 0 ? 0 : 1));
    mp_write_text(reply, "findings");
    mp_write_array(reply, fault == NULL ? 0 : 1);
    if (fault == NULL) return;
    mp_write_array(reply, 5);
    mp_write_uint(reply, play.fault_generation);
    mp_write_uint(reply, 1234); /* index */
    mp_write_uint(reply, 3);
    mp_write_uint(reply, strcmp(fault, "undecided") == 0 ? 0 : 3);
    mp_write_text(reply, fault);
}

/* Node 3 tells nothing of it: an older one. */
static void write_status(struct buffer *reply) {
    mp_write_map(reply, 2);
    mp_write_text(reply, "map");
    write_map(reply);
    mp_write_text(reply, "stats");
    mp_write_map(reply, 3);
    uint8_t first = play.never ? 0x01 : 0x05, second = play.looks++ < play.done_after ? 0x00 : 0x0a;
    mp_write_uint(reply, 1);
    mp_write_map(reply, 1);
    write_verify(reply, play.generation_told, first, NULL);
    mp_write_uint(reply, 2);
    mp_write_map(reply, 1);
    write_verify(reply, 7, second, play.fault);
    mp_write_uint(reply, 3);
    mp_write_map(reply, 1);
    mp_write_text(reply, "keys");
    mp_write_uint(reply, 1);
}

static void play_metad(void *arg, struct slice bytes, struct buffer *reply) {
    struct fake_request request;
    (void)arg;
    if (!fake_request_read(bytes, &request)) return;
    if (slice_equal(request.method, slice_of_text("status"))) {
        fake_reply_begin(reply, request.msgid);
        write_status(reply);
        return;
    }
    if (!slice_equal(request.method, slice_of_text("verify"))) return;
    play.asked++;
    if (play.refusal != NULL) {
        fake_reply_error(reply, request.msgid, "UNAVAILABLE", play.refusal);
        return;
    }
    fake_reply_begin(reply, request.msgid);
    mp_write_map(reply, 2);
    mp_write_text(reply, "map_version");
    mp_write_uint(reply, 2);
    mp_write_text(reply, "generation");
    mp_write_uint(reply, 7);
}

static char said[4096], complained[4096];

static int run(uint64_t wait_seconds, bool json) {
    struct fake_gateway *metad = fake_gateway_new(play_metad, NULL);
    assert_non_null(metad);
    struct verify_options options = {
        .metad = fake_gateway_address(metad), .timeout_ms = 5000, .wait_seconds = wait_seconds, .json = json};
    struct capture out, err;
    capture_begin(&out, STDOUT_FILENO);
    capture_begin(&err, STDERR_FILENO);
    int code = verify_run(&options);
    capture_end(&err, complained, sizeof complained);
    capture_end(&out, said, sizeof said);
    fake_gateway_free(metad);
    return code;
}

static int set_up(void **state) {
    (void)state;
    play = (struct play){.done_after = 2, .generation_told = 8, .isr_count = 3, .fault_generation = 7};
    return 0;
}

static void it_waits_until_all_are_compared(void **state) {
    (void)state;
    assert_int_equal(run(60, false), EXIT_OK);
    assert_string_equal(said, "4 of 4 shards compared: all replicas are equal\n");
    assert_string_equal(complained, "");
    assert_int_equal(play.asked, 1);
    assert_int_equal(play.looks, 3);
}

static void what_is_not_compared_in_time_is_told(void **state) {
    (void)state;
    play.never = true;
    play.done_after = 0;
    assert_int_equal(run(0, false), EXIT_ERROR_ANSWER);
    assert_string_equal(said, "not compared in time: shard 2\n3 of 4 shards compared: NOT ALL IS WELL\n");
    play.generation_told = 6; /* what is done for an earlier generation is not for this one */
    assert_int_equal(run(0, false), EXIT_ERROR_ANSWER);
    assert_string_equal(said, "not compared in time: shard 0 2\n2 of 4 shards compared: NOT ALL IS WELL\n");
}

static void who_differs_is_named(void **state) {
    (void)state;
    play.fault = "differs";
    assert_int_equal(run(60, false), EXIT_ERROR_ANSWER);
    assert_string_equal(said, "shard 3: node 3 differs from the others; its replica begins anew\n"
                              "4 of 4 shards compared: NOT ALL IS WELL\n");
    play.fault = "damaged";
    assert_int_equal(run(60, false), EXIT_ERROR_ANSWER);
    assert_non_null(strstr(said, "shard 3: node 3 has records that cannot be read"));
    play.fault = "undecided";
    assert_int_equal(run(60, false), EXIT_ERROR_ANSWER);
    assert_non_null(strstr(said, "shard 3: the replicas differ, and there is no majority"));
}

static void what_was_found_before_is_not_told_again(void **state) {
    (void)state;
    play.fault = "differs";
    play.fault_generation = 6;
    assert_int_equal(run(60, false), EXIT_OK);
}

static void replicas_that_are_not_in_sync_are_counted(void **state) {
    (void)state;
    play.isr_count = 2;
    assert_int_equal(run(60, false), EXIT_OK);
    assert_string_equal(said, "4 replicas are not in sync and were not compared\n"
                              "4 of 4 shards compared: all replicas are equal\n");
}

static void it_is_told_as_json(void **state) {
    (void)state;
    play.fault = "differs";
    play.never = true;
    play.done_after = 0;
    assert_int_equal(run(0, true), EXIT_ERROR_ANSWER);
    assert_string_equal(said, "{\"generation\":7,\"shards\":4,\"compared\":3,\"replicas_not_in_sync\":0,"
                              "\"equal\":false,\"missing\":[2],\"findings\":[{\"shard\":3,\"node\":3,"
                              "\"index\":1234,\"fault\":\"differs\"}]}\n");
}

static void a_refusal_is_told(void **state) {
    (void)state;
    play.refusal = "there are no shards yet";
    assert_int_equal(run(60, false), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: UNAVAILABLE there are no shards yet\n");
    assert_string_equal(said, "");
    struct verify_options options = {.metad = "ipc:///nonexistent/socket", .timeout_ms = 50};
    struct capture err;
    capture_begin(&err, STDERR_FILENO);
    int unreachable = verify_run(&options);
    options.metad = "nonsense";
    int nonsense = verify_run(&options);
    capture_end(&err, complained, sizeof complained);
    assert_int_equal(unreachable, EXIT_UNREACHABLE);
    assert_int_equal(nonsense, EXIT_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(it_waits_until_all_are_compared, set_up),
        cmocka_unit_test_setup(what_is_not_compared_in_time_is_told, set_up),
        cmocka_unit_test_setup(who_differs_is_named, set_up),
        cmocka_unit_test_setup(what_was_found_before_is_not_told_again, set_up),
        cmocka_unit_test_setup(replicas_that_are_not_in_sync_are_counted, set_up),
        cmocka_unit_test_setup(it_is_told_as_json, set_up),
        cmocka_unit_test_setup(a_refusal_is_told, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

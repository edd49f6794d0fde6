/* A lane with a real log, a real store and real frames, driven by a gateway of the test: what a client may rely on
 * through restarts. */
#include "shardd/lane.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/slot.h"
#include "shardd/snapshot_file.h"
#include "shardd/snapshot_install.h"
#include "shardd/store.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLUSTER = 77, NODE = 1, SHARDS = 4, WAIT_MS = 20000, RESULT_BYTES = 256 };

struct fixture {
    char directory[64];
    uint64_t incarnation; /* one more at each start */
    uint64_t session, frame_number, number;
    struct lane_options options;
    struct frontend *frontend;
    struct lane *lane;
    nng_socket push, pull;
    char answers[64];
};

static unsigned address_number;

static void frame_cb(void *arg, struct frame *frame) {
    struct fixture *fixture = arg;
    assert_int_equal(lane_post_frame(fixture->lane, frame), SK_OK);
}

static void failed_cb(void *arg) { (void)arg; }

/* Stands before the C library's for the whole program. */
static enum { NO_SYNC_FAILS, LOG_SYNC_FAILS, STORE_SYNC_FAILS } _Atomic sync_fails;

int fdatasync(int fd) {
    char link[64], path[256] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int failing = atomic_load(&sync_fails);
    if (failing == NO_SYNC_FAILS || readlink(link, path, sizeof path - 1) < 0) return fsync(fd);
    bool of_store = strstr(path, "data.mdb") != NULL;
    if (of_store != (failing == STORE_SYNC_FAILS)) return fsync(fd);
    errno = EIO;
    return -1;
}

/* A map in which this node leads everything, as metad makes it after a start. */
static struct map *make_map(uint64_t incarnation) {
    struct map *map;
    assert_int_equal(map_new(&map, SHARDS, 1), SK_OK);
    map->version = incarnation;
    map->cluster = CLUSTER;
    for (uint32_t i = 0; i < SHARDS; i++) {
        map->shards[i] = (struct map_shard){.leader_epoch = incarnation,
                                            .config_version = incarnation,
                                            .leader = NODE,
                                            .leader_incarnation = incarnation,
                                            .min_isr = 1,
                                            .replica_count = 1,
                                            .isr_count = 1,
                                            .replicas = {{.node = NODE, .replica_id = 10 + i}},
                                            .isr = {NODE}};
    }
    return map;
}

static int try_start(struct fixture *fixture, char *text, size_t text_bytes) {
    char listen[64];
    unsigned number = address_number++;
    snprintf(listen, sizeof listen, "inproc://lane-%u", number);
    snprintf(fixture->answers, sizeof fixture->answers, "inproc://lane-gateway-%u", number);
    struct frontend_options options = {.listen = listen, .frame_cb = frame_cb, .arg = fixture};
    assert_int_equal(frontend_open(&fixture->frontend, &options, text, text_bytes, NULL), SK_OK);
    fixture->options.frontend = fixture->frontend;
    int err = lane_open(&fixture->lane, &fixture->options, text, text_bytes);
    if (err != SK_OK) {
        frontend_close(fixture->frontend);
        return err;
    }
    fixture->incarnation++;
    fixture->frame_number = 0;
    frontend_start(fixture->frontend, CLUSTER, fixture->incarnation);
    assert_int_equal(lane_identify(fixture->lane, NODE, fixture->incarnation), SK_OK);
    struct map *map = make_map(fixture->incarnation);
    assert_int_equal(lane_set_map(fixture->lane, map), SK_OK);
    map_unref(map);
    assert_int_equal(nng_pull0_open(&fixture->pull), 0);
    assert_int_equal(nng_listen(fixture->pull, fixture->answers, NULL, 0), 0);
    assert_int_equal(nng_push0_open(&fixture->push), 0);
    assert_int_equal(nng_dial(fixture->push, listen, NULL, 0), 0);
    nng_socket_set_ms(fixture->pull, NNG_OPT_RECVTIMEO, WAIT_MS);
    nng_socket_set_ms(fixture->push, NNG_OPT_SENDTIMEO, WAIT_MS);
    return SK_OK;
}

static void start(struct fixture *fixture) {
    char text[512] = "";
    int err = try_start(fixture, text, sizeof text);
    if (err != SK_OK) fail_msg("lane_open: %s: %s", error_name(err), text);
}

static void stop(struct fixture *fixture) {
    nng_close(fixture->push);
    frontend_stop_receiving(fixture->frontend);
    lane_close(fixture->lane);
    frontend_close(fixture->frontend);
    nng_close(fixture->pull);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/skerry-lane-XXXXXX");
    if (mkdtemp(fixture->directory) == NULL) return -1;
    fixture->session = 9;
    fixture->options = (struct lane_options){.directory = fixture->directory,
                                             .lane_count = 1,
                                             .segment_bytes = 1 << 20,
                                             .memtable_bytes = 1 << 20,
                                             .map_bytes = 1 << 30,
                                             .checkpoint_interval_ms = 3600 * 1000,
                                             .id_window_ms = 600 * 1000,
                                             .ids_max = 1000,
                                             .times = REPLICA_TIMES_DEFAULT,
                                             .failed_cb = failed_cb};
    start(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    char command[128];
    stop(fixture);
    snprintf(command, sizeof command, "rm -rf %s", fixture->directory);
    int rc = system(command);
    free(fixture);
    return rc;
}

/* Words to a body: method, params. */
static void encode_body(struct buffer *buffer, const char *words) {
    char copy[512], *rest = NULL;
    const char *argument[16] = {0};
    uint32_t count = 0;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        argument[count++] = word;
    }
    mp_write_text(buffer, argument[0]);
    mp_write_array(buffer, count - 1);
    for (uint32_t i = 1; i < count; i++) mp_write_bin(buffer, slice_of_text(argument[i]));
}

static void send_items(struct fixture *fixture, const struct request_item *items, uint32_t count) {
    struct buffer buffer;
    buffer_init(&buffer);
    struct frame_header header = {.kind = FRAME_REQUESTS,
                                  .cluster = CLUSTER,
                                  .session = fixture->session,
                                  .incarnation = fixture->incarnation,
                                  .return_address = slice_of_text(fixture->answers)};
    frame_begin(&buffer, &header);
    for (uint32_t i = 0; i < count; i++) frame_add_request(&buffer, &items[i]);
    frame_finish(buffer.data, ++fixture->frame_number, 0, count);
    assert_int_equal(nng_send(fixture->push, buffer.data, buffer.size, 0), 0);
    buffer_deinit(&buffer);
}

/* The answer to `number`; others before it are dropped. The result goes to `result` as text. */
static int await(struct fixture *fixture, uint64_t number, char *result) {
    for (;;) {
        nng_msg *message;
        struct frame_header header;
        struct answer_item item;
        struct slice rest;
        assert_int_equal(nng_recvmsg(fixture->pull, &message, 0), 0);
        assert_int_equal(frame_read_header(slice_of(nng_msg_body(message), nng_msg_len(message)), &header, &rest),
                         SK_OK);
        while (frame_read_answer(&rest, &item) == SK_OK) {
            if (item.number != number) continue;
            struct mp_reader reader = mp_reader_of(item.body);
            struct mp_value value = {.type = MP_NIL};
            result[0] = 0;
            if (item.err == SK_OK && mp_read(&reader, &value) == SK_OK) {
                if (value.type == MP_UINT) snprintf(result, RESULT_BYTES, "%llu", (unsigned long long)value.uint);
                if (value.type == MP_STR || value.type == MP_BIN) {
                    snprintf(result, RESULT_BYTES, "%.*s", (int)value.bytes.size, (const char *)value.bytes.data);
                }
            }
            int err = item.err;
            nng_msg_free(message);
            return err;
        }
        nng_msg_free(message);
    }
}

/* Sends a command under a name until it is not refused (the lane starts its epochs when it gets to it). */
static int run_named(struct fixture *fixture, uint32_t shard, bool write, uint64_t number, uint64_t floor,
                     const char *id, const char *words, char *result) {
    struct buffer body;
    buffer_init(&body);
    encode_body(&body, words);
    struct request_item item = {.number = number,
                                .floor = floor,
                                .shard = shard,
                                .timeout_ms = 60000,
                                .flags = write ? REQUEST_WRITE : 0,
                                .id = slice_of_text(id),
                                .body = buffer_slice(&body)};
    int err;
    do {
        send_items(fixture, &item, 1);
        err = await(fixture, number, result);
    } while (err == SK_NOT_LEADER);
    buffer_deinit(&body);
    return err;
}

static uint32_t shard_of(const char *key) { return slot_shard(slot_of_key(slice_of_text(key)), SHARDS); }

static int run_write(struct fixture *fixture, const char *key, const char *words, char *result) {
    uint64_t number = ++fixture->number;
    return run_named(fixture, shard_of(key), true, number, number, "", words, result);
}

static int run_read(struct fixture *fixture, const char *key, const char *words, char *result) {
    return run_named(fixture, shard_of(key), false, ++fixture->number, 0, "", words, result);
}

static void expect(struct fixture *fixture, const char *key, const char *expected) {
    char words[128], result[RESULT_BYTES];
    snprintf(words, sizeof words, "GET %s", key);
    assert_int_equal(run_read(fixture, key, words, result), SK_OK);
    assert_string_equal(result, expected);
}

static void set(struct fixture *fixture, const char *key, const char *value) {
    char words[256], result[RESULT_BYTES];
    snprintf(words, sizeof words, "SET %s %s", key, value);
    assert_int_equal(run_write(fixture, key, words, result), SK_OK);
    assert_string_equal(result, "OK");
}

static void test_written_is_there_after_a_restart(void **state) {
    struct fixture *fixture = *state;
    set(fixture, "a", "1");
    set(fixture, "b", "2");
    set(fixture, "a", "3");
    expect(fixture, "a", "3");
    stop(fixture);
    start(fixture);
    expect(fixture, "a", "3");
    expect(fixture, "b", "2");
}

/* More than several memtables and segments: checkpoints, recycled segments, and a log that reaches back to them. */
static void test_through_checkpoints(void **state) {
    struct fixture *fixture = *state;
    char key[32], value[200], words[256], result[RESULT_BYTES];
    memset(value, 'v', sizeof value);
    value[sizeof value - 1] = 0;
    struct lane_stats stats;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            snprintf(key, sizeof key, "key-%d", i);
            snprintf(words, sizeof words, "SET %s %d-%.190s", key, round, value);
            uint64_t number = ++fixture->number;
            struct buffer body;
            buffer_init(&body);
            encode_body(&body, words);
            struct request_item item = {.number = number,
                                        .floor = number > 500 ? number - 500 : 0,
                                        .shard = shard_of(key),
                                        .timeout_ms = 60000,
                                        .flags = REQUEST_WRITE,
                                        .body = buffer_slice(&body)};
            if (i == 0) {
                assert_int_equal(run_write(fixture, key, words, result), SK_OK);
            } else {
                send_items(fixture, &item, 1);
                if (i % 100 == 99) assert_int_equal(await(fixture, number, result), SK_OK);
            }
            buffer_deinit(&body);
        }
        set(fixture, "last", "x");
        if (round == 1) {
            stop(fixture);
            start(fixture);
        }
    }
    stop(fixture);
    start(fixture);
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        snprintf(words, sizeof words, "GET %s", key);
        assert_int_equal(run_read(fixture, key, words, result), SK_OK);
        assert_int_equal(result[0], '2');
    }
    lane_stats(fixture->lane, &stats);
    assert_false(stats.failed);
}

/* R10: the same name again gets the first result, also after a restart. */
static void test_r10_a_repeat_takes_effect_once(void **state) {
    struct fixture *fixture = *state;
    char result[RESULT_BYTES];
    uint32_t shard = shard_of("n");
    fixture->number = 100;
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_OK);
    assert_string_equal(result, "1");
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_OK);
    assert_string_equal(result, "1");
    assert_int_equal(run_named(fixture, shard, true, 51, 50, "some id", "INCR n", result), SK_OK);
    assert_string_equal(result, "2");
    stop(fixture);
    start(fixture);
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_OK);
    assert_string_equal(result, "1");
    assert_int_equal(run_named(fixture, shard, true, 99, 50, "some id", "INCR n", result), SK_OK);
    assert_string_equal(result, "2");
    /* the floor moves on: an old number is an error and not a new write */
    assert_int_equal(run_named(fixture, shard, true, 60, 60, "", "INCR n", result), SK_OK);
    assert_string_equal(result, "3");
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_FORGOTTEN);
    expect(fixture, "n", "3");
}

/* Both kinds of names also survive in a checkpoint alone, when the log that wrote them is gone. */
static void test_r25_names_travel_with_the_state(void **state) {
    struct fixture *fixture = *state;
    char result[RESULT_BYTES];
    uint32_t shard = shard_of("n");
    fixture->number = 100;
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_OK);
    assert_int_equal(run_named(fixture, shard, true, 51, 50, "some id", "INCR n", result), SK_OK);
    stop(fixture);
    fixture->options.checkpoint_interval_ms = 1;
    start(fixture);
    struct lane_stats stats;
    do {
        expect(fixture, "n", "2");
        lane_stats(fixture->lane, &stats);
    } while (stats.memtable_bytes > 0 || stats.store_bytes == 0);
    stop(fixture);
    start(fixture);
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_OK);
    assert_string_equal(result, "1");
    assert_int_equal(run_named(fixture, shard, true, 52, 50, "some id", "INCR n", result), SK_OK);
    assert_string_equal(result, "2");
    expect(fixture, "n", "2");
}

/* Again if a file went away meanwhile: the log prepares its next segment under another name. */
static void copy_files(const char *from, const char *to) {
    char command[1024];
    int rc = 1;
    snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s 2>/dev/null", to, from, to);
    for (int tries = 0; rc != 0 && tries < 100; tries++) rc = system(command);
    assert_int_equal(rc, 0);
}

/* With an interval a power loss may take the log back to before the last checkpoint. That is no damage: the checkpoint
 * said no more of the log than what had been synced. */
static void test_interval_after_a_power_loss(void **state) {
    struct fixture *fixture = *state;
    char directory[128], log[160], log_copy[160], crashed[128];
    snprintf(directory, sizeof directory, "%s/interval", fixture->directory);
    snprintf(crashed, sizeof crashed, "%s/crashed", fixture->directory);
    snprintf(log, sizeof log, "%s/log", directory);
    snprintf(log_copy, sizeof log_copy, "%s/log-copy", fixture->directory);
    stop(fixture);
    fixture->options.directory = directory;
    fixture->options.sync_interval_ms = 3600 * 1000;
    fixture->options.checkpoint_interval_ms = 1;
    start(fixture);
    set(fixture, "a", "before");
    copy_files(log, log_copy);
    set(fixture, "a", "after");
    struct lane_stats stats;
    do { /* until nothing is left to be written to the store */
        expect(fixture, "a", "after");
        lane_stats(fixture->lane, &stats);
    } while (stats.writes < 2 || stats.memtable_bytes > 0);
    stop(fixture);

    copy_files(directory, crashed);
    snprintf(log, sizeof log, "%s/log", crashed);
    char command[1024];
    snprintf(command, sizeof command, "rm -r %s && mv %s %s", log, log_copy, log);
    assert_int_equal(system(command), 0);
    fixture->options.directory = crashed;
    start(fixture);
    expect(fixture, "a", "after"); /* the checkpoint is on disk */
    set(fixture, "a", "later");
    stop(fixture);
    start(fixture);
    expect(fixture, "a", "later");
}

/* The write is unknown; nothing is acknowledged after it, and nobody waits in vain: neither the read of the same frame
 * that comes behind the write nor what is sent later. */
static void test_r23_a_failed_sync_is_final(void **state) {
    struct fixture *fixture = *state;
    char result[RESULT_BYTES];
    set(fixture, "a", "1");
    atomic_store(&sync_fails, LOG_SYNC_FAILS);
    struct buffer write, read;
    buffer_init(&write);
    buffer_init(&read);
    encode_body(&write, "SET a 2");
    encode_body(&read, "GET a");
    uint32_t shard = shard_of("a");
    struct request_item items[] = {
        {.number = 100, .floor = 1, .shard = shard, .flags = REQUEST_WRITE, .body = buffer_slice(&write)},
        {.number = 101, .shard = shard, .flags = REQUEST_AFTER, .body = buffer_slice(&read)},
        {.number = 102, .shard = shard, .flags = REQUEST_AFTER, .body = buffer_slice(&read)},
    };
    send_items(fixture, items, 2);
    assert_int_equal(await(fixture, 101, result), SK_NOT_LEADER);
    send_items(fixture, items, 1);
    assert_int_equal(await(fixture, 100, result), SK_UNAVAILABLE);
    atomic_store(&sync_fails, NO_SYNC_FAILS);
    send_items(fixture, items + 2, 1);
    assert_int_equal(await(fixture, 102, result), SK_UNAVAILABLE);
    assert_int_equal(run_write(fixture, "a", "SET a 3", result), SK_UNAVAILABLE);
    buffer_deinit(&write);
    buffer_deinit(&read);
}

/* Writes end when the memtable is full, with an error that does not speak of a full disk; they come back by themselves
 * and nothing was lost. */
static void test_a_checkpoint_that_fails_is_tried_again(void **state) {
    struct fixture *fixture = *state;
    char words[RESULT_BYTES + 16], result[RESULT_BYTES], directory[128];
    stop(fixture);
    snprintf(directory, sizeof directory, "%s/small", fixture->directory);
    fixture->options.directory = directory;
    fixture->options.memtable_bytes = 64 * 1024;
    start(fixture);
    atomic_store(&sync_fails, STORE_SYNC_FAILS);
    int err, number = 0;
    do {
        snprintf(words, sizeof words, "SET key-%d %0200d", number, number);
        snprintf(result, sizeof result, "key-%d", number);
        err = run_write(fixture, result, words, result);
        number++;
    } while (err == SK_OK);
    assert_int_equal(err, SK_UNAVAILABLE);
    expect(fixture, "other", "");
    atomic_store(&sync_fails, NO_SYNC_FAILS);
    while (run_write(fixture, "a", "SET a again", result) != SK_OK) continue;
    stop(fixture);
    start(fixture);
    expect(fixture, "a", "again");
    snprintf(result, sizeof result, "key-%d", number - 2); /* the last that was answered with OK */
    snprintf(words, sizeof words, "STRLEN key-%d", number - 2);
    assert_int_equal(run_read(fixture, result, words, result), SK_OK);
    assert_string_equal(result, "200");
}

/* R15, R16: without a lease nothing is read, nor is a write answered that has been done before. */
static void test_r15_reads_wait_for_the_lease(void **state) {
    struct fixture *fixture = *state;
    char result[RESULT_BYTES];
    uint32_t shard = shard_of("n");
    fixture->number = 100;
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_OK);
    struct map *map = make_map(fixture->incarnation);
    map->version++;
    map->shards[shard].config_version++;
    map->shards[shard].eligible[map->shards[shard].eligible_count++] = NODE + 1;
    assert_int_equal(lane_set_map(fixture->lane, map), SK_OK);
    map_unref(map);
    int err;
    do { /* the map comes by the mailbox too, but beside the frames */
        err = run_read(fixture, "n", "GET n", result);
    } while (err == SK_OK);
    assert_int_equal(err, SK_UNAVAILABLE);
    assert_int_equal(run_named(fixture, shard, true, 50, 50, "", "INCR n", result), SK_UNAVAILABLE);
    map = make_map(fixture->incarnation);
    map->version += 2;
    map->shards[shard].config_version += 2;
    assert_int_equal(lane_set_map(fixture->lane, map), SK_OK);
    map_unref(map);
    do {
        err = run_read(fixture, "n", "GET n", result);
    } while (err == SK_UNAVAILABLE);
    assert_int_equal(err, SK_OK);
    assert_string_equal(result, "1");
}

static void test_bad_commands_are_not_logged(void **state) {
    struct fixture *fixture = *state;
    char result[RESULT_BYTES];
    assert_int_equal(run_named(fixture, shard_of("k"), true, 1, 1, "", "NOSUCH k", result), SK_BADREQUEST);
    assert_int_equal(run_named(fixture, shard_of("k"), true, 2, 1, "", "SET k", result), SK_BADREQUEST);
    assert_int_equal(run_named(fixture, (shard_of("k") + 1) % SHARDS, true, 3, 1, "", "SET k v", result),
                     SK_BADREQUEST);
    assert_int_equal(run_named(fixture, shard_of("k"), false, 4, 1, "", "SET k v", result), SK_BADREQUEST);
    fixture->number = 10;
    set(fixture, "k", "v");
}

/* What nobody reads again is removed through the log. */
static void test_expired_keys_are_swept(void **state) {
    struct fixture *fixture = *state;
    char key[32], words[64], result[RESULT_BYTES];
    struct lane_stats stats;
    for (int i = 0; i < 600; i++) {
        snprintf(key, sizeof key, "e-%d", i);
        snprintf(words, sizeof words, "SET %s v PX 1", key);
        assert_int_equal(run_write(fixture, key, words, result), SK_OK);
    }
    set(fixture, "stays", "v");
    do {
        expect(fixture, "stays", "v");
        lane_stats(fixture->lane, &stats);
    } while (stats.keys != 1 || stats.expires != 0); /* what is told may be older than the last write */
    stop(fixture);
    start(fixture);
    expect(fixture, "stays", "v");
}

/* R26: reads show no time that is far beyond what is on disk; the lane records it without anything written, and tells
 * the cores. */
static void test_r26_time_passes_for_reads_alone(void **state) {
    struct fixture *fixture = *state;
    char result[RESULT_BYTES];
    assert_int_equal(run_write(fixture, "t", "SET t 1 PX 600000", result), SK_OK);
    uint64_t end_us = clock_boottime_us() + WAIT_MS * 1000u;
    do {
        assert_true(clock_boottime_us() < end_us);
        assert_int_equal(run_read(fixture, "t", "PTTL t", result), SK_OK);
    } while (strtoul(result, NULL, 10) > 600000 - 2 * REPLICA_TIME_AGE_US / 1000);
}

static void test_ids_are_bounded(void **state) {
    struct fixture *fixture = *state;
    char id[32], result[RESULT_BYTES];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "id-%u", i);
        assert_int_equal(run_named(fixture, shard_of("n"), true, ++fixture->number, 1, id, "INCR n", result),
                         SK_OK);
    }
    assert_int_equal(run_named(fixture, shard_of("n"), true, ++fixture->number, 1, "one more", "INCR n", result),
                     SK_OVERLOADED);
    expect(fixture, "n", "1000");
}

/* Marks each number of the answers that come, with its code, until those from 1 to `last` all have one. */
static void collect(struct fixture *fixture, uint32_t last, int *codes) {
    for (uint32_t missing = last; missing > 0;) {
        struct frame_header header;
        struct answer_item item;
        struct slice rest;
        nng_msg *message;
        assert_int_equal(nng_recvmsg(fixture->pull, &message, 0), 0);
        struct slice bytes = slice_of(nng_msg_body(message), nng_msg_len(message));
        assert_int_equal(frame_read_header(bytes, &header, &rest), SK_OK);
        while (frame_read_answer(&rest, &item) == SK_OK) {
            assert_true(item.number > 0 && item.number <= last);
            assert_int_equal(codes[item.number], -1);
            codes[item.number] = item.err;
            missing--;
        }
        nng_msg_free(message);
    }
}

/* A gateway that takes nothing asks for far more than the link to it may hold. Each command has a definite answer in the
 * end: reads beyond the soft cap are busy, also those behind a write; writes happen, and only their large results are not
 * told. A write that follows a read in its frame is not taken where that is busy, or it would overtake it. Another gateway is
 * served meanwhile. */
static void test_no_answer_is_dropped(void **state) {
    struct fixture *fixture = *state;
    enum { READS = 600, VALUE_BYTES = 512 * 1024, SMALL = READS + 1, LARGE, BEHIND, REFUSED, NEXT, LAST = NEXT };
    static char value[VALUE_BYTES];
    memset(value, 'v', sizeof value);
    char result[RESULT_BYTES], answers[sizeof fixture->answers];
    int codes[LAST + 1];
    memset(codes, 0xff, sizeof codes);
    struct buffer set_big, get, append_big, getset;
    struct buffer *bodies[] = {&set_big, &get, &append_big, &getset};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) buffer_init(bodies[i]);
    mp_write_text(&set_big, "SET");
    mp_write_array(&set_big, 2);
    mp_write_text(&set_big, "big");
    mp_write_bin(&set_big, slice_of(value, sizeof value));
    encode_body(&get, "GET big");
    encode_body(&append_big, "APPEND big x");
    encode_body(&getset, "GETSET big small");
    uint32_t shard = shard_of("big");
    struct request_item set_item = {.number = 1000000,
                                    .floor = 1,
                                    .shard = shard,
                                    .timeout_ms = 60000,
                                    .flags = REQUEST_WRITE,
                                    .body = buffer_slice(&set_big)};
    set(fixture, "other", "x"); /* the shard of `big` leads soon, too */
    do {
        send_items(fixture, &set_item, 1);
    } while (await(fixture, set_item.number, result) == SK_NOT_LEADER);

    memcpy(answers, fixture->answers, sizeof answers);
    snprintf(fixture->answers, sizeof fixture->answers,
             "inproc://lane-gateway-deaf"); /* nobody listens there yet */
    fixture->session++;
    struct request_item read = {.shard = shard, .timeout_ms = 60000, .body = buffer_slice(&get)};
    for (uint32_t i = 1; i <= READS; i++) {
        read.number = i;
        send_items(fixture, &read, 1);
    }
    struct request_item ordered[] = {read, read};
    ordered[0].number = REFUSED;
    ordered[1].number = NEXT;
    ordered[1].flags = REQUEST_WRITE;
    ordered[1].body = buffer_slice(&getset);
    send_items(fixture, ordered, 2);
    struct request_item writes[] = {read, read, read};
    writes[0].number = SMALL;
    writes[0].flags = REQUEST_WRITE;
    writes[0].body = buffer_slice(&append_big);
    writes[1].number = LARGE;
    writes[1].flags = REQUEST_WRITE;
    writes[1].body = buffer_slice(&getset);
    writes[2].number = BEHIND;
    writes[2].flags = REQUEST_AFTER;
    send_items(fixture, writes, 3);

    /* what the other gateway reads comes after all of it */
    memcpy(fixture->answers, answers, sizeof answers);
    fixture->session--;
    do {
        assert_int_equal(run_read(fixture, "big", "GET big", result), SK_OK);
    } while (strcmp(result, "small") != 0);

    assert_int_equal(nng_listen(fixture->pull, "inproc://lane-gateway-deaf", NULL, 0), 0);
    collect(fixture, LAST, codes);
    uint32_t busy = 0;
    for (uint32_t i = 1; i <= READS; i++) {
        assert_true(codes[i] == SK_OK || codes[i] == SK_BUSY);
        busy += codes[i] == SK_BUSY;
    }
    assert_true(busy > 0 && (READS - busy) * VALUE_BYTES >= ANSWERS_BYTES_SOFT);
    assert_int_equal(codes[SMALL], SK_OK);
    assert_int_equal(codes[LARGE], SK_DONE);
    assert_int_equal(codes[BEHIND], SK_BUSY);
    assert_int_equal(codes[REFUSED], SK_BUSY);
    assert_int_equal(codes[NEXT], SK_BUSY);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) buffer_deinit(bodies[i]);
}

static void ended_cb(void *arg, int err) {
    (void)err;
    atomic_store((atomic_bool *)arg, true);
}

static void damage_file_hook(uint32_t commits) {
    (void)commits;
    if (truncate(getenv("SNAPSHOT"), 10) != 0) abort();
}

/* Leaves the shard as a process does that ends in the middle of an install. */
static void make_partial(struct fixture *fixture, uint32_t shard) {
    char directory[128], path[128], text[512];
    atomic_bool ended = false;
    struct store *store;
    struct snapshot_writer *writer;
    uint64_t bytes, records;
    snprintf(directory, sizeof directory, "%s/store", fixture->directory);
    snprintf(path, sizeof path, "%s/snapshot", fixture->directory);
    struct snapshot_id id = {.cluster = CLUSTER, .shard = shard};
    struct slice record = slice_of_text("record");
    assert_int_equal(snapshot_writer_open(&writer, path, &id, record, text, sizeof text), SK_OK);
    assert_int_equal(snapshot_writer_finish(writer, &bytes, &records), SK_OK);
    snapshot_writer_close(writer);
    struct store_options options = {.directory = directory,
                                    .map_bytes = (uint64_t)1 << 30,
                                    .txn_bytes = 1000,
                                    .installed_cb = ended_cb,
                                    .arg = &ended};
    assert_int_equal(store_open(&store, &options, text, sizeof text), SK_OK);
    setenv("SNAPSHOT", path, 1);
    snapshot_install_committed_hook = damage_file_hook;
    assert_int_equal(store_install_start(store, shard, CLUSTER, path, record), SK_OK);
    while (!atomic_load(&ended)) sched_yield();
    snapshot_install_committed_hook = NULL;
    assert_int_equal(store_install_complete(store), SK_ECORRUPT);
    assert_true(store_shard_is_partial(store, shard));
    store_close(store);
}

/* R30: what an install that was broken off has left is dropped, and the replica begins anew, whatever the log still has of
 * it; the others are as they were. */
static void test_r30_a_partial_shard_begins_anew(void **state) {
    struct fixture *fixture = *state;
    set(fixture, "a", "1");
    set(fixture, "b", "2");
    assert_int_not_equal(shard_of("a"), shard_of("b"));
    stop(fixture);
    make_partial(fixture, shard_of("a"));
    start(fixture);
    expect(fixture, "b", "2");
    expect(fixture, "a", "");
    set(fixture, "a", "3");
    stop(fixture);
    start(fixture);
    expect(fixture, "a", "3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_is_there_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_through_checkpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r10_a_repeat_takes_effect_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r25_names_travel_with_the_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interval_after_a_power_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r23_a_failed_sync_is_final, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_checkpoint_that_fails_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r15_reads_wait_for_the_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_commands_are_not_logged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expired_keys_are_swept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r26_time_passes_for_reads_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_answer_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r30_a_partial_shard_begins_anew, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

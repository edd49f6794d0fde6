#include "member.h"

#include "clock.h"
#include "error.h"
#include "log.h"

#include <errno.h>
#include <time.h>

#include "testing_metad.h"

#define WAIT_S  30 /* for what must come */
#define STATS   "\x81\xa4keys\x07"
#define CLUSTER 0x1234567890abcdefu
#define FOREVER 3600000u /* ms: a heartbeat that a test does not see */

static const char *const names[] = {"requests", "publish"};
static char directory[32];
static char requests_address[64], publish_address[64];

/* The fake metad's catalog and what it was asked; the test's side of the callbacks. Both sides under the lock. */
static struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* What metad answers. */
    int register_rc, heartbeat_rc, map_rc, change_rc;
    bool change_waits;       /* a request with changes is answered only when this is false again */
    struct slice change_raw; /* instead of the answer, if not empty */
    uint64_t version;        /* of its map */
    uint64_t map_cluster;
    bool map_in_bin;
    struct slice map_raw; /* instead of the map, if not empty */
    struct member_identity identity;
    /* What it was asked. */
    unsigned registrations, heartbeats, fetches;
    uint64_t known_version; /* of the last fetch */
    uint64_t node_id_sent, cluster_sent;
    uint64_t incarnation_sent;
    unsigned change_requests, changes;
    unsigned largest_request; /* changes in it */
    struct shard_change last_change;
    bool params_ok; /* everything asked so far was as the table in docs/ARCHITECTURE.md says */
    /* What the member told. */
    unsigned registered_calls, map_calls, refused_calls;
    uint64_t map_version;
    int refused_err;
    char refused_text[256];
    bool map_before_registered;
    struct member_identity told;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct fake_metad metad;
static nng_socket publisher;

static bool key_is(struct slice key, const char *name) { return slice_equal(key, slice_of_text(name)); }

static bool read_registration(struct mp_reader *reader, bool shardd) {
    uint32_t fields, seen = 0;
    if (mp_read_map(reader, &fields) != SK_OK) return false;
    for (uint32_t i = 0; i < fields; i++) {
        struct slice key, value;
        uint64_t number = 0;
        if (mp_read_str(reader, &key) != SK_OK) return false;
        if (key_is(key, "store_id")) {
            if (mp_read_bytes(reader, &value) != SK_OK || value.size != 16 || value.data[0] != 0x55) return false;
        } else if (key_is(key, "host") || key_is(key, "frames_address")) {
            if (mp_read_str(reader, &value) != SK_OK || value.size == 0) return false;
        } else if (shardd && key_is(key, "replication_address")) {
            if (mp_read_str(reader, &value) != SK_OK || value.size == 0) return false;
        } else if (shardd && key_is(key, "start")) {
            if (mp_read_bytes(reader, &value) != SK_OK || value.size != 16) return false;
        } else if (shardd && mp_read_uint(reader, &number) == SK_OK) {
            if (key_is(key, "node_id")) world.node_id_sent = number;
            else if (key_is(key, "cluster")) world.cluster_sent = number;
            else if (!key_is(key, "lanes") || number != 4) return false;
        } else {
            return false;
        }
        seen++;
    }
    return seen == (shardd ? 8u : 3u);
}

static bool on_register(struct mp_reader *reader, uint32_t parts, struct buffer *result) {
    struct slice kind;
    if (parts != 2 || mp_read_str(reader, &kind) != SK_OK) return false;
    world.registrations++;
    mp_write_map(result, 4);
    mp_write_text(result, "cluster");
    mp_write_uint(result, world.identity.cluster);
    mp_write_text(result, "something_newer");
    mp_write_raw(result, slice_of("\x91\xc0", 2));
    mp_write_text(result, "node_id");
    mp_write_uint(result, world.identity.node_id);
    mp_write_text(result, "incarnation");
    mp_write_uint(result, world.identity.incarnation);
    return read_registration(reader, key_is(kind, "shardd")) &&
           (key_is(kind, "shardd") || key_is(kind, "gateway"));
}

static bool on_heartbeat(struct mp_reader *reader, uint32_t parts, struct buffer *result) {
    struct slice kind, store_id, stats;
    uint64_t node_id;
    mp_write_map(result, 1);
    mp_write_text(result, "map_version");
    mp_write_uint(result, world.version);
    world.heartbeats++;
    return parts == 5 && mp_read_str(reader, &kind) == SK_OK && mp_read_uint(reader, &node_id) == SK_OK &&
           node_id == world.identity.node_id && mp_read_uint(reader, &world.incarnation_sent) == SK_OK &&
           mp_read_bytes(reader, &store_id) == SK_OK && store_id.size == 16 && mp_skip(reader, &stats) == SK_OK &&
           slice_equal(stats, key_is(kind, "shardd") ? slice_of_text(STATS) : slice_of("\x80", 1));
}

static void write_map(struct buffer *result) {
    struct map *map;
    struct buffer encoded;
    if (map_new(&map, 0, 0) != SK_OK) abort();
    map->version = world.version;
    map->cluster = world.map_cluster;
    buffer_init(&encoded);
    map_encode(map, &encoded);
    map_unref(map);
    if (world.map_in_bin) mp_write_bin(result, buffer_slice(&encoded));
    else mp_write_raw(result, buffer_slice(&encoded));
    buffer_deinit(&encoded);
}

static bool on_map(struct mp_reader *reader, uint32_t parts, struct buffer *result) {
    bool ok = parts == 1 && mp_read_uint(reader, &world.known_version) == SK_OK;
    world.fetches++;
    if (world.map_raw.size > 0) mp_write_raw(result, world.map_raw);
    else if (world.version > world.known_version) write_map(result);
    else mp_write_nil(result);
    return ok;
}

/* Under the lock, which it lets go while the test wants a request to wait. */
static bool on_change(struct mp_reader *reader, uint32_t parts, struct buffer *result) {
    struct slice store_id;
    uint64_t node_id, incarnation;
    uint32_t count = 0;
    bool ok = parts == 4 && mp_read_uint(reader, &node_id) == SK_OK && node_id == world.identity.node_id &&
              mp_read_uint(reader, &incarnation) == SK_OK && incarnation == world.identity.incarnation &&
              mp_read_bytes(reader, &store_id) == SK_OK && store_id.size == 16 && store_id.data[0] == 0x55 &&
              mp_read_array(reader, &count) == SK_OK && count > 0 && count <= SHARD_CHANGES_MAX;
    for (uint32_t i = 0; ok && i < count; i++) ok = shard_change_decode(reader, &world.last_change) == SK_OK;
    world.change_requests++;
    world.changes += count;
    if (count > world.largest_request) world.largest_request = count;
    pthread_cond_broadcast(&world.changed);
    while (world.change_waits) pthread_cond_wait(&world.changed, &world.lock);
    if (world.change_raw.size > 0) {
        mp_write_raw(result, world.change_raw);
        return ok;
    }
    mp_write_map(result, 3);
    mp_write_text(result, "something_newer");
    mp_write_nil(result);
    mp_write_text(result, "map_version");
    mp_write_uint(result, world.version);
    mp_write_text(result, "changes");
    mp_write_array(result, count);
    for (uint32_t i = 0; i < count; i++) {
        mp_write_array(result, 2);
        if (i % 2 == 0) {
            mp_write_nil(result);
        } else {
            mp_write_array(result, 2);
            mp_write_text(result, "CONFLICT");
            mp_write_text(result, "as the test says");
        }
        mp_write_uint(result, 9);
    }
    return ok;
}

static int answer(void *arg, struct slice method, struct slice params, struct buffer *result, char *text) {
    (void)arg;
    struct mp_reader reader = mp_reader_of(params);
    uint32_t parts = 0;
    bool ok = mp_read_array(&reader, &parts) == SK_OK;
    int rc = SK_BADREQUEST;
    pthread_mutex_lock(&world.lock);
    if (key_is(method, "register")) {
        ok = on_register(&reader, parts, result) && ok;
        rc = world.register_rc;
    } else if (key_is(method, "heartbeat")) {
        ok = on_heartbeat(&reader, parts, result) && ok;
        rc = world.heartbeat_rc;
    } else if (key_is(method, "map")) {
        ok = on_map(&reader, parts, result) && ok;
        rc = world.map_rc;
    } else if (key_is(method, "change")) {
        ok = on_change(&reader, parts, result) && ok;
        rc = world.change_rc;
    }
    if (!ok || mp_left(&reader) != 0) world.params_ok = false;
    strcpy(text, "as the test says");
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
    return rc;
}

static void registered_cb(void *arg, const struct member_identity *identity) {
    (void)arg;
    pthread_mutex_lock(&world.lock);
    world.registered_calls++;
    world.told = *identity;
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

static void map_cb(void *arg, const struct map *map) {
    (void)arg;
    pthread_mutex_lock(&world.lock);
    world.map_calls++;
    if (world.registered_calls == 0) world.map_before_registered = true;
    world.map_version = map->version;
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

static void stats_cb(void *arg, struct buffer *stats) {
    (void)arg;
    mp_write_raw(stats, slice_of_text(STATS));
}

static void refused_cb(void *arg, int err, const char *text) {
    (void)arg;
    pthread_mutex_lock(&world.lock);
    world.refused_calls++;
    world.refused_err = err;
    snprintf(world.refused_text, sizeof world.refused_text, "%s", text);
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

/* Holds the lock until `condition`, which is about `world`, holds; fails when it does not come about. */
#define WAIT_FOR(condition)                                                                                       \
    do {                                                                                                          \
        struct timespec until;                                                                                    \
        clock_gettime(CLOCK_REALTIME, &until);                                                                    \
        until.tv_sec += WAIT_S;                                                                                   \
        int wait_rc = 0;                                                                                          \
        pthread_mutex_lock(&world.lock);                                                                          \
        while (!(condition) && wait_rc == 0)                                                                      \
            wait_rc = pthread_cond_timedwait(&world.changed, &world.lock, &until);                                \
        bool came = (condition);                                                                                  \
        pthread_mutex_unlock(&world.lock);                                                                        \
        if (!came) fail_msg("%s does not come about", #condition);                                                \
    } while (0)

#define CHANGE(statement)                                                                                         \
    do {                                                                                                          \
        pthread_mutex_lock(&world.lock);                                                                          \
        statement;                                                                                                \
        pthread_mutex_unlock(&world.lock);                                                                        \
    } while (0)

static unsigned read_count(const unsigned *count) {
    pthread_mutex_lock(&world.lock);
    unsigned read = *count;
    pthread_mutex_unlock(&world.lock);
    return read;
}

static struct member_options options_of(enum member_kind kind, uint32_t heartbeat_ms) {
    struct member_options options = {
        .kind = kind,
        .metad_addresses = requests_address,
        .publish_addresses = publish_address,
        .store_id = {0x55},
        .lanes = 4,
        .host = "host",
        .frames_address = "tcp://host:7200",
        .replication_address = "tcp://host:7210",
        .heartbeat_ms = heartbeat_ms,
    };
    return options;
}

static const struct member_callbacks callbacks = {
    .registered_cb = registered_cb, .map_cb = map_cb, .stats_cb = stats_cb, .refused_cb = refused_cb};

static struct member *open_member(uint32_t heartbeat_ms) {
    struct member_options options = options_of(MEMBER_SHARDD, heartbeat_ms);
    struct member *member;
    assert_int_equal(member_open(&member, &options, &callbacks), SK_OK);
    return member;
}

static void start_metad(void) { fake_start(&metad, requests_address, answer, NULL); }

static void publish(uint64_t version) {
    struct buffer message;
    buffer_init(&message);
    buffer_append(&message, "map", 3);
    mp_write_uint(&message, version);
    assert_int_equal(nng_send(publisher, message.data, message.size, 0), 0);
    buffer_deinit(&message);
}

static int set_up(void **state) {
    (void)state;
    pthread_mutex_lock(&world.lock);
    size_t from = offsetof(struct world, register_rc);
    memset((char *)&world + from, 0, sizeof world - from);
    world.version = 1;
    world.map_cluster = CLUSTER;
    world.identity = (struct member_identity){.cluster = CLUSTER, .node_id = 3, .incarnation = 17};
    world.params_ok = true;
    pthread_mutex_unlock(&world.lock);
    directory_make(directory);
    address_in(directory, "requests", requests_address);
    address_in(directory, "publish", publish_address);
    if (nng_pub0_open(&publisher) != 0) return -1;
    return nng_listen(publisher, publish_address, NULL, 0);
}

static int tear_down(void **state) {
    (void)state;
    nng_close(publisher);
    directory_remove(directory, names, 2);
    return 0;
}

static void test_registers_and_gets_the_map(void **state) {
    (void)state;
    start_metad();
    struct member_options options = options_of(MEMBER_SHARDD, 10);
    options.node_id = 3;
    options.cluster = CLUSTER;
    struct member *member;
    assert_int_equal(member_open(&member, &options, &callbacks), SK_OK);
    WAIT_FOR(world.map_version == 1);
    WAIT_FOR(world.heartbeats >= 3);
    assert_int_equal(world.registered_calls, 1);
    assert_true(world.told.cluster == CLUSTER && world.told.node_id == 3 && world.told.incarnation == 17);
    CHANGE(world.version = 2); /* heartbeats tell */
    WAIT_FOR(world.map_version == 2);
    member_close(member);
    assert_true(world.params_ok);
    assert_false(world.map_before_registered);
    assert_int_equal(world.map_calls, 2);
    assert_int_equal(world.registrations, 1);
    assert_true(world.node_id_sent == 3 && world.cluster_sent == CLUSTER && world.incarnation_sent == 17);
    fake_stop(&metad);
}

static void test_a_gateway(void **state) {
    (void)state;
    world.identity = (struct member_identity){.cluster = CLUSTER};
    world.map_in_bin = true;
    start_metad();
    struct member_options options = options_of(MEMBER_GATEWAY, 10);
    struct member_callbacks without_stats = callbacks;
    without_stats.stats_cb = NULL;
    struct member *member;
    assert_int_equal(member_open(&member, &options, &without_stats), SK_OK);
    WAIT_FOR(world.map_version == 1);
    WAIT_FOR(world.heartbeats >= 2);
    member_close(member);
    assert_true(world.params_ok);
    fake_stop(&metad);
}

static void test_metad_comes_later(void **state) {
    (void)state;
    struct capture capture;
    char text[8192];
    capture_begin(&capture, STDERR_FILENO);
    struct member *member = open_member(10);
    world.register_rc = SK_RETRY; /* and is not ready at first */
    start_metad();
    WAIT_FOR(world.registrations >= 3);
    CHANGE(world.register_rc = SK_OK);
    WAIT_FOR(world.map_version == 1);
    member_close(member);
    capture_end(&capture, text, sizeof text);
    assert_int_equal(count_of(text, "event=member_waiting"), 1);
    assert_int_equal(count_of(text, "event=member_registered"), 1);
    assert_int_equal(count_of(text, "\n"), 2);
    fake_stop(&metad);
}

static void test_lost_and_back(void **state) {
    (void)state;
    struct capture capture;
    char text[8192];
    start_metad();
    capture_begin(&capture, STDERR_FILENO);
    struct member *member = open_member(200);
    WAIT_FOR(world.map_version == 1);
    CHANGE(world.heartbeat_rc = SK_UNAVAILABLE; world.map_rc = SK_UNAVAILABLE);
    unsigned before = read_count(&world.heartbeats);
    WAIT_FOR(world.heartbeats >= before + 5);
    CHANGE(world.heartbeat_rc = SK_OK; world.map_rc = SK_OK; world.version = 2);
    WAIT_FOR(world.map_version == 2);
    /* The same with a server that is gone and another in its place. It goes between two heartbeats: nng 1.5.2 does not
     * like to be closed while a message comes in. */
    before = read_count(&world.heartbeats);
    WAIT_FOR(world.heartbeats > before);
    fake_stop(&metad);
    CHANGE(world.version = 3);
    start_metad();
    WAIT_FOR(world.map_version == 3);
    member_close(member);
    capture_end(&capture, text, sizeof text);
    size_t lost = count_of(text, "event=member_lost");
    assert_true(lost == 1 || lost == 2); /* the restart may have gone unnoticed between two heartbeats */
    assert_int_equal(count_of(text, "event=member_back"), lost);
    assert_int_equal(count_of(text, "event=member_registered"), 1);
    assert_int_equal(count_of(text, "\n"), 2 * lost + 1);
    assert_int_equal(world.registered_calls, 1);
    fake_stop(&metad);
}

static void test_unknown_gateway_registers_again(void **state) {
    (void)state;
    start_metad();
    struct member_options options = options_of(MEMBER_GATEWAY, 10);
    struct member *member;
    assert_int_equal(member_open(&member, &options, &callbacks), SK_OK);
    WAIT_FOR(world.map_version == 1);
    CHANGE(world.heartbeat_rc = SK_NOT_FOUND; world.identity.incarnation = 18);
    WAIT_FOR(world.registrations >= 2);
    CHANGE(world.heartbeat_rc = SK_OK);
    WAIT_FOR(world.incarnation_sent == 18);
    CHANGE(world.version = 2);
    WAIT_FOR(world.map_version == 2);
    member_close(member);
    assert_int_equal(world.registered_calls, 1);
    fake_stop(&metad);
}

/* Its node id has been given to another start meanwhile: two processes must not take it from each other for ever. */
static void test_replaced_shardd_is_refused(void **state) {
    (void)state;
    start_metad();
    struct member *member = open_member(10);
    WAIT_FOR(world.map_version == 1);
    assert_true(world.node_id_sent == 0 && world.cluster_sent == 0); /* a new store */
    CHANGE(world.heartbeat_rc = SK_NOT_FOUND);
    WAIT_FOR(world.refused_calls == 1);
    member_close(member);
    assert_int_equal(world.refused_err, SK_CONFLICT);
    assert_non_null(strstr(world.refused_text, "node 3: another process runs on a copy of its data directory"));
    assert_int_equal(world.registrations, 1);
    fake_stop(&metad);
}

static void test_refused_for_good(void **state) {
    (void)state;
    world.register_rc = SK_CONFLICT;
    start_metad();
    struct member *member = open_member(10);
    WAIT_FOR(world.refused_calls == 1);
    member_refresh(member, 100); /* harmless */
    member_close(member);
    assert_int_equal(world.refused_err, SK_CONFLICT);
    assert_string_equal(world.refused_text, "as the test says");
    assert_true(world.registered_calls == 0 && world.registrations == 1 && world.heartbeats == 0);
    fake_stop(&metad);
}

/* Whether it runs or starts again. */
static void test_a_removed_shardd_is_told_so(void **state) {
    (void)state;
    for (int running = 0; running < 2; running++) {
        world.refused_calls = 0;
        world.register_rc = running ? SK_OK : SK_REMOVED;
        start_metad();
        struct member *member = open_member(10);
        if (running) {
            WAIT_FOR(world.map_version == 1);
            CHANGE(world.heartbeat_rc = SK_REMOVED);
        }
        WAIT_FOR(world.refused_calls == 1);
        member_close(member);
        assert_int_equal(world.refused_err, SK_REMOVED);
        assert_string_equal(world.refused_text, "as the test says");
        fake_stop(&metad);
    }
}

/* With the heartbeat far off, each new version must come by the way that is tested. The question of each second would
 * bring them too, but not so many in the time. */
#define ROUNDS 25u

static void test_publications(void **state) {
    (void)state;
    start_metad();
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.map_version == 1);
    uint64_t before_ms = clock_boottime_ms();
    for (uint64_t version = 2; version < 2 + ROUNDS; version++) {
        CHANGE(world.version = version);
        publish(version);
        WAIT_FOR(world.map_version == version);
    }
    assert_true(clock_boottime_ms() - before_ms < ROUNDS * 1000 / 2);
    /* What is not ours, old or malformed does no harm. */
    assert_int_equal(nng_send(publisher, (char *)"map", 3, 0), 0);
    assert_int_equal(nng_send(publisher, (char *)"map\xff", 4, 0), 0);
    assert_int_equal(nng_send(publisher, (char *)"other", 5, 0), 0);
    publish(1);
    publish(UINT64_MAX); /* asks once and learns that there is none */
    CHANGE(world.version = 1000);
    publish(1000);
    WAIT_FOR(world.map_version == 1000);
    member_close(member);
    fake_stop(&metad);
}

static void test_refresh_wakes_the_thread(void **state) {
    (void)state;
    start_metad();
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.map_version == 1);
    uint64_t before_ms = clock_boottime_ms();
    for (uint64_t version = 2; version < 2 + ROUNDS; version++) {
        CHANGE(world.version = version);
        member_refresh(member, version - 1);
        WAIT_FOR(world.map_version == version);
    }
    assert_true(clock_boottime_ms() - before_ms < ROUNDS * 1000 / 2);
    unsigned fetches = read_count(&world.fetches);
    for (int i = 0; i < 100000; i++) member_refresh(member, 1); /* we have more than that */
    /* These ask, but not each by a call of its own. */
    before_ms = clock_boottime_ms();
    for (int i = 0; i < 100000; i++) member_refresh(member, 1 + ROUNDS);
    WAIT_FOR(world.fetches > fetches);
    uint64_t spent_ms = clock_boottime_ms() - before_ms;
    assert_true(read_count(&world.fetches) - fetches <= 3 + spent_ms / 20);
    member_close(member);
    fake_stop(&metad);
}

static struct shard_change claim_of(uint32_t shard, uint64_t config_version) {
    return (struct shard_change){.kind = SHARD_CHANGE_CLAIM, .shard = shard, .config_version = config_version};
}

static void change(struct member *member, uint32_t shard, uint64_t config_version) {
    struct shard_change claim = claim_of(shard, config_version);
    member_change(member, &claim);
}

/* The map with the result comes with the answer: no heartbeat, publication or question of each second is needed. */
static void test_a_change_is_sent_and_its_map_fetched(void **state) {
    (void)state;
    start_metad();
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.map_version == 1);
    uint64_t before_ms = clock_boottime_ms();
    for (uint64_t version = 2; version < 2 + ROUNDS; version++) {
        CHANGE(world.version = version);
        change(member, 5, version);
        WAIT_FOR(world.map_version == version);
    }
    assert_true(clock_boottime_ms() - before_ms < ROUNDS * 1000 / 2);
    member_close(member);
    assert_true(world.params_ok);
    assert_int_equal(world.change_requests, ROUNDS);
    assert_int_equal(world.changes, ROUNDS);
    assert_int_equal(world.last_change.shard, 5);
    assert_true(world.last_change.config_version == 1 + ROUNDS);
    assert_int_equal(world.map_calls, 1 + ROUNDS);
    fake_stop(&metad);
}

/* While one request is under way everything gathers, the newest of each shard; then it goes in as few as can be. */
static void test_changes_gather(void **state) {
    (void)state;
    start_metad();
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.map_version == 1);
    CHANGE(world.change_waits = true);
    change(member, 1, 1);
    WAIT_FOR(world.change_requests == 1);
    for (uint64_t config_version = 1; config_version <= 3; config_version++) {
        for (uint32_t shard = 0; shard < 5000; shard++) change(member, shard, config_version);
    }
    CHANGE(world.change_waits = false; pthread_cond_broadcast(&world.changed));
    WAIT_FOR(world.changes == 5001);
    change(member, 7, 4); /* and it goes on */
    WAIT_FOR(world.changes == 5002);
    member_close(member);
    assert_true(world.params_ok);
    assert_int_equal(world.change_requests, 4);
    assert_int_equal(world.largest_request, SHARD_CHANGES_MAX);
    assert_true(world.last_change.config_version == 4);
    fake_stop(&metad);
}

/* An unknown outcome: the map may be newer, whatever the answer was. */
static void test_a_lost_change_is_not_repeated(void **state) {
    (void)state;
    struct capture capture;
    char text[8192];
    start_metad();
    capture_begin(&capture, STDERR_FILENO);
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.map_version == 1);
    CHANGE(world.change_rc = SK_UNAVAILABLE; world.version = 2);
    change(member, 1, 1);
    WAIT_FOR(world.map_version == 2);
    static const char *const bad[] = {"\xc0",
                                      "\x81\xa7"
                                      "changes\x90",
                                      "\x81\xa7"
                                      "changes\x91\x91\xc0"};
    CHANGE(world.change_rc = SK_OK);
    for (uint32_t i = 0; i < 3; i++) {
        CHANGE(world.change_raw = slice_of_text(bad[i]); world.version++);
        change(member, 2, 1);
        WAIT_FOR(world.map_version == 3 + i);
    }
    CHANGE(world.change_raw = slice_of(NULL, 0); world.version++);
    change(member, 3, 1);
    WAIT_FOR(world.map_version == 6);
    member_close(member);
    capture_end(&capture, text, sizeof text);
    assert_int_equal(world.changes, 5); /* each was sent once */
    assert_int_equal(count_of(text, "event=changes_lost count=1 err=UNAVAILABLE"), 1);
    assert_int_equal(count_of(text, "event=changes_lost"), 1);
    assert_int_equal(count_of(text, "event=changes_back"), 1);
    fake_stop(&metad);
}

static void test_nobody_asks_before_the_registration(void **state) {
    (void)state;
    world.register_rc = SK_RETRY;
    start_metad();
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.registrations > 0);
    change(member, 1, 1);
    CHANGE(world.register_rc = SK_OK);
    WAIT_FOR(world.map_version == 1);
    change(member, 2, 1);
    WAIT_FOR(world.changes > 0);
    member_close(member);
    assert_int_equal(world.changes, 1);
    assert_int_equal(world.last_change.shard, 2);
    fake_stop(&metad);
}

static void test_close_while_changes_are_under_way(void **state) {
    (void)state;
    start_metad();
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.map_version == 1);
    CHANGE(world.change_rc = FAKE_SILENT);
    change(member, 1, 1);
    WAIT_FOR(world.change_requests == 1);
    for (uint32_t shard = 0; shard < 100; shard++) change(member, shard, 2); /* never leave */
    member_stop(member);
    change(member, 1, 3); /* harmless, and so is the next */
    member_refresh(member, 100);
    member_stop(member);
    member_close(member);
    assert_int_equal(world.changes, 1);
    fake_stop(&metad);
}

static void test_asks_each_second(void **state) {
    (void)state;
    start_metad();
    struct member *member = open_member(FOREVER);
    WAIT_FOR(world.map_version == 1);
    CHANGE(world.version = 2); /* and nobody says so */
    WAIT_FOR(world.map_version == 2);
    member_close(member);
    fake_stop(&metad);
}

static void test_bad_maps(void **state) {
    (void)state;
    static const char *const bad[] = {"\x01", "\x81\xa7version\xc3", "\xc4\x01\x01", "\xa3map"};
    start_metad();
    struct member *member = open_member(10);
    WAIT_FOR(world.map_version == 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned fetches = read_count(&world.fetches);
        CHANGE(world.version++; world.map_raw = slice_of_text(bad[i]));
        WAIT_FOR(world.fetches >= fetches + 2); /* the first of them was taken in */
    }
    assert_int_equal(world.map_calls, 1);
    unsigned fetches = read_count(&world.fetches);
    CHANGE(world.map_raw = slice_of(NULL, 0); world.map_cluster = 99); /* of another cluster */
    WAIT_FOR(world.fetches >= fetches + 3);
    assert_int_equal(read_count(&world.map_calls), 1);
    CHANGE(world.map_cluster = CLUSTER);
    WAIT_FOR(world.map_calls == 2);
    member_close(member);
    fake_stop(&metad);
}

static void test_close(void **state) {
    (void)state;
    member_close(open_member(10)); /* nobody there */
    start_metad();
    /* Its connections are past their handshakes by then: nng 1.5.2 does not like to be closed in them either. */
    for (int i = 0; i < 10; i++) {
        struct member *member = open_member(1);
        WAIT_FOR(world.heartbeats >= 20u + (unsigned)i);
        member_close(member);
        CHANGE(world.heartbeats = 0; world.registrations = 0);
    }
    CHANGE(world.register_rc = FAKE_SILENT); /* in the middle of a call */
    struct member *member = open_member(10);
    WAIT_FOR(world.registrations > 0);
    member_close(member);
    fake_stop(&metad);
    member_close(NULL);
}

static void test_bad_addresses(void **state) {
    (void)state;
    struct member_options options = options_of(MEMBER_SHARDD, 10);
    struct member *member;
    options.metad_addresses = "nonsense";
    assert_int_equal(member_open(&member, &options, &callbacks), SK_ECONFIG);
    options = options_of(MEMBER_SHARDD, 10);
    options.publish_addresses = "nonsense";
    assert_int_equal(member_open(&member, &options, &callbacks), SK_ECONFIG);
    options.publish_addresses = "ipc:///tmp/x,";
    assert_int_equal(member_open(&member, &options, &callbacks), SK_ECONFIG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_registers_and_gets_the_map),
        TEST(test_a_gateway),
        TEST(test_metad_comes_later),
        TEST(test_lost_and_back),
        TEST(test_unknown_gateway_registers_again),
        TEST(test_replaced_shardd_is_refused),
        TEST(test_refused_for_good),
        TEST(test_a_removed_shardd_is_told_so),
        TEST(test_publications),
        TEST(test_refresh_wakes_the_thread),
        TEST(test_a_change_is_sent_and_its_map_fetched),
        TEST(test_changes_gather),
        TEST(test_a_lost_change_is_not_repeated),
        TEST(test_nobody_asks_before_the_registration),
        TEST(test_close_while_changes_are_under_way),
        TEST(test_asks_each_second),
        TEST(test_bad_maps),
        TEST(test_close),
        TEST(test_bad_addresses),
    };
    log_init("test", LOG_INFO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

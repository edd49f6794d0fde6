#include "status.h"

#include "fake_gateway.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "session.h"

#include "libcommon/testing.h"

/* Two nodes, two shards, each led by one. */
static struct map *make_map(bool second_alive, uint32_t second_leader) {
    struct map *map;
    assert_int_equal(map_new(&map, 2, 2), SK_OK);
    map->version = 9;
    map->cluster = 1;
    for (uint32_t i = 0; i < 2; i++) {
        map->nodes[i].id = i + 1;
        map->nodes[i].alive = i == 0 || second_alive;
        map->nodes[i].lanes = 1;
        snprintf(map->nodes[i].host, sizeof map->nodes[i].host, "h");
        snprintf(map->nodes[i].frames_address, sizeof map->nodes[i].frames_address, "tcp://h:1");
        snprintf(map->nodes[i].replication_address, sizeof map->nodes[i].replication_address, "tcp://h:2");
        struct map_shard *shard = &map->shards[i];
        shard->leader_epoch = shard->config_version = 1;
        shard->leader = i == 0 ? 1 : second_leader;
        shard->min_isr = 1;
        shard->replica_count = shard->isr_count = 1;
        shard->replicas[0] = (struct map_replica){.node = i + 1, .replica_id = i + 1};
        shard->isr[0] = i + 1;
    }
    return map;
}

static void shards_need_leaders_alive(void **state) {
    (void)state;
    static const struct {
        bool alive;
        uint32_t leader;
        uint32_t led;
        const char *missing;
    } cases[] = {
        {true, 2, 2, ""},
        {false, 2, 1, "1 of 2 shards have no leader alive (1 of 2 nodes are)"},
        {true, 0, 1, "1 of 2 shards have no leader alive (2 of 2 nodes are)"},
    };
    for (size_t i = 0; i < 3; i++) {
        struct map *map = make_map(cases[i].alive, cases[i].leader);
        char missing[256] = "";
        assert_int_equal(status_count_shards(map).led, cases[i].led);
        assert_int_equal(status_map_serves(map, missing, sizeof missing), cases[i].led == 2);
        assert_string_equal(missing, cases[i].missing);
        map_unref(map);
    }
}

/* Whatever may be wrong with a shard is counted and shown; what is right is not, unless all are wanted. */
static void shards_that_are_not_well_are_shown(void **state) {
    (void)state;
    struct map *map = make_map(true, 2);
    struct map_shard *shard = &map->shards[1];
    *shard = (struct map_shard){.leader_epoch = 7,
                                .leader = 2,
                                .wanted_leader = 1,
                                .min_isr = 2,
                                .data_loss_generation = 3,
                                .replica_count = 2,
                                .replicas = {{1, 1}, {2, 2}},
                                .isr_count = 1,
                                .isr = {2},
                                .eligible_count = 1,
                                .eligible = {1}};
    struct status_shards shards = status_count_shards(map);
    assert_int_equal(shards.led, 2);
    assert_int_equal(shards.short_isr, 1);
    assert_int_equal(shards.behind, 1);
    assert_int_equal(shards.lost, 1);
    struct status status = {.map = map};
    struct capture out;
    char text[4096];
    for (int all = 0; all < 2; all++) {
        capture_begin(&out, STDOUT_FILENO);
        status_print_shards(&status, all != 0);
        capture_end(&out, text, sizeof text);
        assert_non_null(strstr(text, "shards: 2, 2 led, 0 without a leader alive\n"
                                     "  1 below min_isr, 1 with replicas not in sync, 1 that may have lost data, "
                                     "0 on the move\n"));
        assert_non_null(strstr(text,
                               "  1     epoch=7    leader=2    isr=2 replicas=1,2 eligible=1 wanted_leader=1 "
                               "data_loss_generation=3 BELOW MIN_ISR 2\n"));
        assert_int_equal(strstr(text, "  0     epoch=1    leader=1    isr=1 replicas=1\n") != NULL, all);
    }
    shard->leader = 0;
    capture_begin(&out, STDOUT_FILENO);
    status_print_shards(&status, false);
    capture_end(&out, text, sizeof text);
    assert_non_null(strstr(text, " NO LEADER ALIVE\n"));
    map_unref(map);
}

/* Two of three have died, and the third goes on leading: it may not take them out of the set. */
static void the_dead_in_sync_do_not_count(void **state) {
    (void)state;
    struct map *map = make_map(true, 1);
    struct map_shard *shard = &map->shards[0];
    map->shards[1].isr[0] = 1;
    shard->min_isr = 2;
    shard->isr_count = shard->replica_count = 2;
    shard->isr[1] = shard->replicas[1].node = 2;
    map->nodes[1].alive = true;
    assert_int_equal(status_count_shards(map).short_isr, 0);
    map->nodes[1].alive = false;
    assert_int_equal(status_count_shards(map).short_isr, 1);
    assert_int_equal(status_count_shards(map).led, 2);
    map_unref(map);
}

static void moves_are_shown(void **state) {
    (void)state;
    struct map *map = make_map(true, 1);
    struct map_shard *shard = &map->shards[0];
    shard->replicas[shard->replica_count++] = (struct map_replica){.node = 2, .replica_id = 9};
    shard->move_to = 2;
    struct status status = {.map = map};
    const struct {
        uint32_t from, leader;
        bool joined;
        const char *text;
    } cases[] = {
        {0, 1, false, " move=>2 (catches up)\n"},
        {1, 1, false, " move=1>2 (catches up)\n"},
        {1, 1, true, " move=1>2 (in sync, the leader hands over)\n"},
        {1, 2, true, " move=1>2 (in sync)\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct capture out;
        char text[4096];
        shard->move_from = cases[i].from;
        shard->leader = cases[i].leader;
        shard->isr[1] = 2;
        shard->isr_count = cases[i].joined ? 2 : 1;
        capture_begin(&out, STDOUT_FILENO);
        status_print_shards(&status, false);
        capture_end(&out, text, sizeof text);
        assert_non_null(strstr(text, "1 on the move\n"));
        assert_non_null(strstr(text, cases[i].text));
    }
    map_unref(map);
}

static void no_map_yet(void **state) {
    (void)state;
    struct map *map;
    assert_int_equal(map_new(&map, 0, 0), SK_OK);
    char missing[256] = "";
    assert_false(status_map_serves(map, missing, sizeof missing));
    assert_string_equal(missing, "the shard map is not there yet (0 nodes are)");
    map_unref(map);
}

/* The result of `status` as metad sends it. */
static void write_status(struct buffer *out, const struct map *map) {
    mp_write_map(out, 4);
    mp_write_text(out, "map");
    map_encode(map, out);
    mp_write_text(out, "metad");
    mp_write_map(out, 1);
    mp_write_text(out, "term");
    mp_write_uint(out, 3);
    mp_write_text(out, "stats");
    mp_write_map(out, 1);
    mp_write_uint(out, 1);
    mp_write_map(out, 2);
    mp_write_text(out, "keys");
    mp_write_uint(out, 12);
    mp_write_text(out, "log_bytes");
    mp_write_uint(out, 1 << 20);
    mp_write_text(out, "gateways");
    mp_write_array(out, 1);
    mp_write_map(out, 2);
    mp_write_text(out, "host");
    mp_write_text(out, "g");
    mp_write_text(out, "age_ms");
    mp_write_uint(out, 5);
}

/* stats: {2: {figures…, tails: …}} */
static bool find_tail_in(struct slice tails, uint32_t node, uint32_t shard, uint64_t *epoch, uint64_t *index) {
    struct buffer stats;
    buffer_init(&stats);
    mp_write_map(&stats, 1);
    mp_write_uint(&stats, 2);
    mp_write_map(&stats, 2);
    mp_write_text(&stats, "keys");
    mp_write_uint(&stats, 12);
    mp_write_text(&stats, "tails");
    mp_write_raw(&stats, tails);
    struct status status = {.stats = buffer_slice(&stats)};
    bool found = status_find_tail(&status, node, shard, epoch, index);
    buffer_deinit(&stats);
    return found;
}

static void tails_are_found_where_they_are_told(void **state) {
    (void)state;
    struct slice tails = slice_of_text("\x82\7\x92\3\4\x08\x92\5\6"); /* {7: [3, 4], 8: [5, 6]} */
    uint64_t epoch, index;
    assert_true(find_tail_in(tails, 2, 8, &epoch, &index));
    assert_int_equal(epoch, 5);
    assert_int_equal(index, 6);
    assert_true(find_tail_in(tails, 2, 7, &epoch, &index));
    assert_int_equal(index, 4);
    assert_false(find_tail_in(tails, 2, 9, &epoch, &index));
    assert_false(find_tail_in(tails, 1, 7, &epoch, &index));
    static const char *const bad[] = {"\xc0", "\x81\xc0\xc0", "\x81\7\7", "\x81\7\x91\3", "\x81\7\x92\3\xc0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(find_tail_in(slice_of_text(bad[i]), 2, 7, &epoch, &index));
    }
    struct status none = {0};
    assert_false(status_find_tail(&none, 2, 7, &epoch, &index));
}

/* ---- against a metad and a gateway that a test plays: they speak the same protocol ---- */

struct play {
    struct map *map;
    bool read_fails;
};

static void play_metad(void *arg, struct slice bytes, struct buffer *reply) {
    struct play *play = arg;
    struct fake_request request;
    if (!fake_request_read(bytes, &request)) return;
    fake_reply_begin(reply, request.msgid);
    write_status(reply, play->map);
}

static void play_gateway(void *arg, struct slice bytes, struct buffer *reply) {
    struct play *play = arg;
    struct fake_request request;
    if (!fake_request_read(bytes, &request)) return;
    if (play->read_fails && slice_equal(request.method, slice_of_text("DBSIZE"))) {
        fake_reply_error(reply, request.msgid, "UNAVAILABLE", "no route");
        return;
    }
    fake_reply_begin(reply, request.msgid);
    mp_write_uint(reply, 0);
}

static int wait_once(struct play *play, char *missing, size_t missing_bytes) {
    struct fake_gateway *metad = fake_gateway_new(play_metad, play),
                        *gateway = fake_gateway_new(play_gateway, play);
    assert_true(metad != NULL && gateway != NULL);
    struct status_wait wait = {.metad = fake_gateway_address(metad), .gateway = fake_gateway_address(gateway)};
    int err = status_wait_ready(&wait, missing, missing_bytes);
    fake_gateway_free(metad);
    fake_gateway_free(gateway);
    map_unref(play->map);
    return err;
}

static void ready_when_map_and_gateway_serve(void **state) {
    (void)state;
    char missing[256] = "";
    struct play play = {.map = make_map(true, 2)};
    assert_int_equal(wait_once(&play, missing, sizeof missing), SK_OK);
}

static void not_ready_says_what_is_missing(void **state) {
    (void)state;
    char missing[256] = "";
    struct play dead = {.map = make_map(false, 2)};
    assert_int_equal(wait_once(&dead, missing, sizeof missing), SK_ETIMEDOUT);
    assert_string_equal(missing, "1 of 2 shards have no leader alive (1 of 2 nodes are)");
    struct play closed = {.map = make_map(true, 2), .read_fails = true};
    assert_int_equal(wait_once(&closed, missing, sizeof missing), SK_ETIMEDOUT);
    assert_string_equal(missing, "DBSIZE through the gateway: UNAVAILABLE no route");
}

static void a_gateway_that_is_not_there_is_missing(void **state) {
    (void)state;
    char missing[256] = "";
    struct play play = {.map = make_map(true, 2)};
    struct fake_gateway *metad = fake_gateway_new(play_metad, &play);
    struct status_wait wait = {.metad = fake_gateway_address(metad), .gateway = "ipc:///nonexistent/socket"};
    assert_int_equal(status_wait_ready(&wait, missing, sizeof missing), SK_ETIMEDOUT);
    assert_non_null(strstr(missing, "cannot reach the gateway at ipc:///nonexistent/socket"));
    fake_gateway_free(metad);
    map_unref(play.map);
}

static void run_shows_and_answers_codes(void **state) {
    (void)state;
    struct play play = {.map = make_map(true, 2)};
    struct fake_gateway *metad = fake_gateway_new(play_metad, &play),
                        *gateway = fake_gateway_new(play_gateway, &play);
    struct status_options options = {.metad = fake_gateway_address(metad),
                                     .gateway = fake_gateway_address(gateway),
                                     .timeout_ms = 5000,
                                     .shards = true};
    assert_int_equal(status_run(&options), EXIT_OK);
    options.json = true;
    options.wait = true;
    options.wait_seconds = 5;
    assert_int_equal(status_run(&options), EXIT_OK);
    options.gateway = "ipc:///nonexistent/socket";
    options.wait_seconds = 0;
    assert_int_equal(status_run(&options), EXIT_ERROR_ANSWER);
    fake_gateway_free(metad);
    fake_gateway_free(gateway);
    map_unref(play.map);
}

/* It was stopped, while others lead. */
static void play_silent(void *arg, struct slice bytes, struct buffer *reply) {
    (void)arg;
    (void)bytes;
    (void)reply;
    usleep(1500000);
}

static void a_silent_server_of_several_hides_nothing(void **state) {
    (void)state;
    char list[256];
    struct play play = {.map = make_map(true, 2)};
    struct fake_gateway *silent = fake_gateway_new(play_silent, NULL),
                        *metad = fake_gateway_new(play_metad, &play);
    assert_true(silent != NULL && metad != NULL);
    snprintf(list, sizeof list, "%s,%s", fake_gateway_address(silent), fake_gateway_address(metad));
    struct status_options options = {.metad = list, .gateway = "ipc:///nonexistent/socket", .timeout_ms = 5000};
    assert_int_equal(status_run(&options), EXIT_OK);
    fake_gateway_free(silent);
    fake_gateway_free(metad);
    map_unref(play.map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_need_leaders_alive),
        cmocka_unit_test(shards_that_are_not_well_are_shown),
        cmocka_unit_test(the_dead_in_sync_do_not_count),
        cmocka_unit_test(moves_are_shown),
        cmocka_unit_test(no_map_yet),
        cmocka_unit_test(tails_are_found_where_they_are_told),
        cmocka_unit_test(ready_when_map_and_gateway_serve),
        cmocka_unit_test(not_ready_says_what_is_missing),
        cmocka_unit_test(a_gateway_that_is_not_there_is_missing),
        cmocka_unit_test(a_silent_server_of_several_hides_nothing),
        cmocka_unit_test(run_shows_and_answers_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

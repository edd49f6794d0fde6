/* Against a metad that a test plays: four shards on nodes 1 and 2 at first, and node 3, which has nothing. */
#include "admin_node.h"

#include "fake_gateway.h"
#include "libcommon/error.h"
#include "libcommon/map.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"
#include "session.h"

#define SHARDS 4u

static struct play {
    enum map_node_state state; /* of node 2 */
    bool removed;              /* it is in the map no more */
    uint32_t moved, moved_max; /* shards whose replica on node 2 has gone to node 3; one more with each look */
    uint32_t led;              /* of these, those that node 3 leads */
    bool backwards;            /* from 3 to 2 instead: 2 has come back */
    const char *refusal;       /* of the request; NULL = none */
    unsigned asked, looks;
    char change[16];
} play;

static void write_map(struct buffer *reply) {
    struct map *map;
    uint32_t nodes = play.removed ? 2 : 3;
    assert_int_equal(map_new(&map, SHARDS, nodes), SK_OK);
    map->version = 1;
    for (uint32_t i = 0; i < nodes; i++) {
        map->nodes[i].id = play.removed && i == 1 ? 3 : i + 1;
        map->nodes[i].alive = true;
    }
    if (!play.removed) map->nodes[1].state = play.state;
    uint32_t from = play.backwards ? 3 : 2, to = play.backwards ? 2 : 3;
    for (uint32_t i = 0; i < SHARDS; i++) {
        uint32_t other = i < play.moved ? to : from;
        map->shards[i] = (struct map_shard){.leader = i % 2 == 0 ? 1 : other,
                                            .min_isr = 2,
                                            .replica_count = 2,
                                            .replicas = {{1, 1}, {other, 2}},
                                            .isr_count = 2,
                                            .isr = {1, other}};
    }
    if (play.moved < play.moved_max && !play.removed) {
        struct map_shard *shard = &map->shards[play.moved];
        shard->replicas[shard->replica_count++] = (struct map_replica){to, 3};
        shard->move_from = from;
        shard->move_to = to;
    }
    map_encode(map, reply);
    map_unref(map);
}

static void play_metad(void *arg, struct slice bytes, struct buffer *reply) {
    struct fake_request request;
    (void)arg;
    if (!fake_request_read(bytes, &request)) return;
    if (slice_equal(request.method, slice_of_text("status"))) {
        fake_reply_begin(reply, request.msgid);
        mp_write_map(reply, 1);
        mp_write_text(reply, "map");
        write_map(reply);
        play.looks++;
        if (play.moved < play.moved_max) play.moved++;
        else if (play.state == MAP_NODE_REMOVING) play.removed = true;
        return;
    }
    struct mp_reader reader = mp_reader_of(request.params);
    struct slice change;
    uint32_t count;
    uint64_t node;
    bool ok = slice_equal(request.method, slice_of_text("node")) && mp_read_array(&reader, &count) == SK_OK &&
              count == 2 && mp_read_uint(&reader, &node) == SK_OK && node == 2 &&
              mp_read_bytes(&reader, &change) == SK_OK && change.size < sizeof play.change;
    play.asked++;
    if (!ok || play.refusal != NULL) {
        fake_reply_error(reply, request.msgid, ok ? "UNAVAILABLE" : "BADREQUEST", play.refusal);
        return;
    }
    memcpy(play.change, change.data, change.size);
    fake_reply_begin(reply, request.msgid);
    mp_write_map(reply, 0);
}

static char said[4096], complained[4096];

static int run(enum admin_node_change change, bool no_wait) {
    struct fake_gateway *metad = fake_gateway_new(play_metad, NULL);
    assert_non_null(metad);
    struct admin_node_options options = {
        .metad = fake_gateway_address(metad), .timeout_ms = 5000, .node = 2, .change = change, .no_wait = no_wait};
    struct capture out, err;
    capture_begin(&out, STDOUT_FILENO);
    capture_begin(&err, STDERR_FILENO);
    int code = admin_node(&options);
    capture_end(&err, complained, sizeof complained);
    capture_end(&out, said, sizeof said);
    fake_gateway_free(metad);
    return code;
}

static int set_up(void **state) {
    (void)state;
    play = (struct play){.moved_max = SHARDS};
    return 0;
}

static void a_drain_is_shown_until_nothing_is_left(void **state) {
    (void)state;
    play.state = MAP_NODE_DRAINING;
    assert_int_equal(run(ADMIN_NODE_DRAIN, false), EXIT_OK);
    assert_string_equal(said, "node 2: 4 replicas, 2 leaders left; 1 on the move\n"
                              "node 2: 3 replicas, 2 leaders left; 1 on the move\n"
                              "node 2: 2 replicas, 1 leaders left; 1 on the move\n"
                              "node 2: 1 replicas, 1 leaders left; 1 on the move\n"
                              "node 2 is drained: it can be stopped, and removed\n");
    assert_string_equal(play.change, "drain");
    assert_int_equal(play.asked, 1);
    assert_int_equal(run(ADMIN_NODE_DRAIN, false), EXIT_OK); /* again */
    assert_string_equal(said, "node 2 is drained: it can be stopped, and removed\n");
}

static void nobody_has_to_wait(void **state) {
    (void)state;
    play.state = MAP_NODE_DRAINING;
    assert_int_equal(run(ADMIN_NODE_DRAIN, true), EXIT_OK);
    assert_string_equal(said, "");
    assert_int_equal(play.looks, 0);
}

static void a_refusal_says_why(void **state) {
    (void)state;
    play.refusal = "too few nodes";
    assert_int_equal(run(ADMIN_NODE_DRAIN, false), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: UNAVAILABLE too few nodes\n");
    assert_int_equal(play.looks, 0);
}

static void a_node_that_is_added_gets_its_share(void **state) {
    (void)state;
    play.backwards = true; /* 3 has all of it, and half of that comes back */
    play.moved_max = 2;
    assert_int_equal(run(ADMIN_NODE_ADD, false), EXIT_OK);
    assert_string_equal(play.change, "add");
    assert_string_equal(said, "node 2: 1 replicas, 0 leaders; 1 on the move\n"
                              "node 2: 2 replicas, 0 leaders; 1 on the move\n"
                              "node 2 has its share: 2 replicas, 1 leaders\n");
}

static void a_removed_node_is_in_the_map_no_more(void **state) {
    (void)state;
    play.state = MAP_NODE_REMOVING;
    play.moved = SHARDS - 1;
    assert_int_equal(run(ADMIN_NODE_REMOVE, false), EXIT_OK);
    assert_string_equal(play.change, "remove");
    assert_string_equal(said, "node 2: 1 replicas, 1 leaders left; 1 on the move\n"
                              "node 2: 0 replicas, 0 leaders left\n"
                              "node 2 is removed\n");
}

static void what_somebody_else_does_is_told(void **state) {
    (void)state;
    play.state = MAP_NODE_MEMBER; /* the drain is over */
    assert_int_equal(run(ADMIN_NODE_DRAIN, false), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: somebody else has changed node 2 meanwhile: it is member\n");
    play.state = MAP_NODE_DRAINING;
    assert_int_equal(run(ADMIN_NODE_ADD, false), EXIT_ERROR_ANSWER);
    assert_int_equal(run(ADMIN_NODE_REMOVE, false), EXIT_ERROR_ANSWER);
    play.removed = true;
    assert_int_equal(run(ADMIN_NODE_DRAIN, false), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: somebody else has changed node 2 meanwhile: it is removed\n");
}

static void changes_have_names(void **state) {
    (void)state;
    enum admin_node_change change;
    assert_true(admin_node_parse("add", &change) && change == ADMIN_NODE_ADD);
    assert_true(admin_node_parse("drain", &change) && change == ADMIN_NODE_DRAIN);
    assert_true(admin_node_parse("remove", &change) && change == ADMIN_NODE_REMOVE);
    assert_false(admin_node_parse("handover", &change));
    struct admin_node_options nowhere = {.metad = "nowhere", .timeout_ms = 100, .node = 2};
    struct capture err;
    capture_begin(&err, STDERR_FILENO);
    assert_int_equal(admin_node(&nowhere), EXIT_USAGE);
    capture_end(&err, complained, sizeof complained);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_drain_is_shown_until_nothing_is_left, set_up),
        cmocka_unit_test_setup(nobody_has_to_wait, set_up),
        cmocka_unit_test_setup(a_refusal_says_why, set_up),
        cmocka_unit_test_setup(a_node_that_is_added_gets_its_share, set_up),
        cmocka_unit_test_setup(a_removed_node_is_in_the_map_no_more, set_up),
        cmocka_unit_test_setup(what_somebody_else_does_is_told, set_up),
        cmocka_unit_test(changes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Against a metad that a test plays: one shard on nodes 1 to 3, led by 1. */
#include "admin.h"

#include "fake_gateway.h"
#include "libcommon/error.h"
#include "libcommon/map.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"
#include "session.h"

/* What the leader does with a wish. */
enum leader { FOLLOWS, GIVES_UP };

static struct play {
    struct map_shard shard;
    bool alive[3];
    enum leader leader;
    unsigned looks_until; /* the leader answers the wish: so many looks at the map later */
    const char *refusal;  /* of the next request, but for status; NULL = none */
    unsigned handovers, forces;
} play;

static void write_map(struct buffer *reply) {
    struct map *map;
    assert_int_equal(map_new(&map, 1, 3), SK_OK);
    map->version = 1;
    map->cluster = 1;
    for (uint32_t i = 0; i < 3; i++) {
        map->nodes[i].id = i + 1;
        map->nodes[i].alive = play.alive[i];
    }
    map->shards[0] = play.shard;
    map_encode(map, reply);
    map_unref(map);
}

/* Node 3 tells how far its log reaches; node 2 tells of another shard only. */
static void write_status(struct buffer *reply) {
    mp_write_map(reply, 2);
    mp_write_text(reply, "map");
    write_map(reply);
    mp_write_text(reply, "stats");
    mp_write_map(reply, 2);
    for (uint32_t node = 2; node <= 3; node++) {
        mp_write_uint(reply, node);
        mp_write_map(reply, 2);
        mp_write_text(reply, "keys");
        mp_write_uint(reply, 1);
        mp_write_text(reply, "tails");
        mp_write_map(reply, 1);
        mp_write_uint(reply, node == 3 ? 0 : 9);
        mp_write_array(reply, 2);
        mp_write_uint(reply, 4);
        mp_write_uint(reply, 1234);
    }
}

static void answer_wish(void) {
    if (play.shard.wanted_leader == 0 || play.looks_until-- > 0) return;
    if (play.leader == FOLLOWS) {
        play.shard.leader = play.shard.wanted_leader;
        play.shard.leader_epoch++;
    }
    play.shard.wanted_leader = 0;
}

static void play_metad(void *arg, struct slice bytes, struct buffer *reply) {
    struct fake_request request;
    (void)arg;
    if (!fake_request_read(bytes, &request)) return;
    if (slice_equal(request.method, slice_of_text("status"))) {
        answer_wish();
        fake_reply_begin(reply, request.msgid);
        write_status(reply);
        return;
    }
    struct mp_reader reader = mp_reader_of(request.params);
    uint32_t count;
    uint64_t shard, node;
    bool ok = mp_read_array(&reader, &count) == SK_OK && count == 2 && mp_read_uint(&reader, &shard) == SK_OK &&
              shard == 0 && mp_read_uint(&reader, &node) == SK_OK;
    if (!ok || play.refusal != NULL) {
        fake_reply_error(reply, request.msgid, ok ? "UNAVAILABLE" : "BADREQUEST", play.refusal);
        return;
    }
    if (slice_equal(request.method, slice_of_text("handover"))) {
        play.handovers++;
        if (play.shard.leader != node) play.shard.wanted_leader = (uint32_t)node;
    } else if (slice_equal(request.method, slice_of_text("force_leader"))) {
        play.forces++;
        play.shard.leader = (uint32_t)node;
        play.shard.leader_epoch++;
        play.shard.data_loss_generation++;
    }
    fake_reply_begin(reply, request.msgid);
    mp_write_map(reply, 0);
}

static char said[4096], complained[4096];

static int run(int (*command)(const struct admin_options *), uint32_t shard, uint32_t node, bool yes) {
    struct fake_gateway *metad = fake_gateway_new(play_metad, NULL);
    assert_non_null(metad);
    struct admin_options options = {.metad = fake_gateway_address(metad),
                                    .timeout_ms = 5000,
                                    .shard = shard,
                                    .node = node,
                                    .yes_lose_data = yes};
    struct capture out, err;
    capture_begin(&out, STDOUT_FILENO);
    capture_begin(&err, STDERR_FILENO);
    int code = command(&options);
    capture_end(&err, complained, sizeof complained);
    capture_end(&out, said, sizeof said);
    fake_gateway_free(metad);
    return code;
}

static int set_up(void **state) {
    (void)state;
    play = (struct play){.alive = {true, true, true},
                         .looks_until = 3,
                         .shard = {.leader_epoch = 5,
                                   .config_version = 9,
                                   .leader = 1,
                                   .min_isr = 2,
                                   .replica_count = 3,
                                   .replicas = {{1, 1}, {2, 2}, {3, 3}},
                                   .isr_count = 2,
                                   .isr = {1, 2}}};
    return 0;
}

static void a_handover_is_waited_for(void **state) {
    (void)state;
    assert_int_equal(run(admin_handover, 0, 2, false), EXIT_OK);
    assert_string_equal(said, "node 2 leads shard 0 in epoch 6\n");
    assert_string_equal(complained, "");
    assert_int_equal(run(admin_handover, 0, 2, false),
                     EXIT_OK); /* it leads: asked all the same, for it to be preferred */
    assert_int_equal(play.handovers, 2);
}

static void a_handover_that_does_not_come_says_why(void **state) {
    (void)state;
    play.leader = GIVES_UP;
    assert_int_equal(run(admin_handover, 0, 2, false), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: node 1, which leads shard 0, has not handed it over to node 2\n");
    play.refusal = "the node is not in sync";
    assert_int_equal(run(admin_handover, 0, 3, false), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: UNAVAILABLE the node is not in sync\n");
    assert_string_equal(said, "");
}

/* R12: nothing is lost by mistake. */
static void r12_force_leader_only_shows_without_the_word(void **state) {
    (void)state;
    play.alive[0] = play.alive[1] = false;
    assert_int_equal(run(admin_force_leader, 0, 3, false), EXIT_USAGE);
    assert_int_equal(play.forces, 0);
    assert_string_equal(said, "shard 0: epoch=5 leader=1 min_isr=2\n"
                              "  node 1    DEAD  in sync \n"
                              "  node 2    DEAD  in sync \n"
                              "  node 3    alive behind   last entry: epoch 4, index 1234\n");
    assert_non_null(strstr(complained, "nothing was done"));
}

static void r12_force_leader_tells_what_it_did(void **state) {
    (void)state;
    play.shard.isr_count = 1;
    play.shard.eligible_count = 1;
    play.shard.eligible[0] = 2;
    assert_int_equal(run(admin_force_leader, 0, 3, true), EXIT_OK);
    assert_int_equal(play.forces, 1);
    assert_non_null(strstr(said, "  node 2    alive eligible\n"));
    assert_non_null(strstr(said, "node 3 leads shard 0 in epoch 6\n"
                                 "data may be lost: data_loss_generation of the shard is 1\n"));
    assert_string_equal(complained, "");
    play.refusal = "the node counts as dead";
    assert_int_equal(run(admin_force_leader, 0, 3, true), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: UNAVAILABLE the node counts as dead\n");
}

static void a_shard_that_is_not_there(void **state) {
    (void)state;
    assert_int_equal(run(admin_force_leader, 1, 3, true), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: there is no shard 1 of 1\n");
    assert_int_equal(play.forces, 0);
}

static void a_metad_that_is_not_there(void **state) {
    (void)state;
    struct capture err;
    struct admin_options options = {.metad = "ipc:///nonexistent/socket", .timeout_ms = 50, .node = 1};
    capture_begin(&err, STDERR_FILENO);
    int handover = admin_handover(&options), force = admin_force_leader(&options);
    options.metad = "nonsense";
    int nonsense = admin_handover(&options);
    capture_end(&err, complained, sizeof complained);
    assert_int_equal(handover, EXIT_UNREACHABLE);
    assert_int_equal(force, EXIT_UNREACHABLE);
    assert_int_equal(nonsense, EXIT_USAGE);
    assert_non_null(strstr(complained, "metad at ipc:///nonexistent/socket does not answer"));
    assert_non_null(strstr(complained, "'nonsense' is not an address of metad"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_handover_is_waited_for, set_up),
        cmocka_unit_test_setup(a_handover_that_does_not_come_says_why, set_up),
        cmocka_unit_test_setup(r12_force_leader_only_shows_without_the_word, set_up),
        cmocka_unit_test_setup(r12_force_leader_tells_what_it_did, set_up),
        cmocka_unit_test_setup(a_shard_that_is_not_there, set_up),
        cmocka_unit_test_setup(a_metad_that_is_not_there, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

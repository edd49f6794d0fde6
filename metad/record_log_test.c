#include "metad/record_log.h"

#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/testing.h"

/* One shard with as many replicas as it can have, on nodes with the longest ids. */
static struct map_shard shard;
static struct catalog_node node = {.map = {.id = 1, .state = MAP_NODE_DRAINING}};
static const struct catalog catalog = {
    .version = 99, .node_count = 1, .nodes = &node, .shard_count = 1, .shards = &shard};
static char text[4096];

static const char *log_of(struct log_command command, struct catalog_answer answer) {
    struct capture capture;
    capture_begin(&capture, STDERR_FILENO);
    record_log(&catalog, &command, &answer);
    capture_end(&capture, text, sizeof text);
    return text;
}

static void fill_shard(void) {
    shard = (struct map_shard){.leader_epoch = 2,
                               .config_version = 5,
                               .leader = UINT32_MAX,
                               .wanted_leader = 7,
                               .replica_count = MAP_REPLICAS_MAX,
                               .isr_count = MAP_REPLICAS_MAX,
                               .eligible_count = MAP_REPLICAS_MAX};
    for (uint32_t i = 0; i < MAP_REPLICAS_MAX; i++) {
        shard.replicas[i].node = shard.isr[i] = shard.eligible[i] = UINT32_MAX - i;
    }
}

#define IDS  "4294967295,4294967294,4294967293,4294967292,4294967291,4294967290,4294967289,"
#define LAST "4294967288"

static void a_change_is_one_line_with_the_record(void **state) {
    (void)state;
    fill_shard();
    struct shard_change changes[] = {{.kind = SHARD_CHANGE_CLAIM}, {.kind = SHARD_CHANGE_RETIRE}};
    struct catalog_change_answer outcomes[] = {{.err = SK_OK}, {.err = SK_CONFLICT, .text = "why"}};
    struct log_command command = {.kind = COMMAND_CHANGE_SHARDS, .change_shards = {1, 2, 2, changes}};
    const char *line = log_of(command, (struct catalog_answer){.changes = outcomes, .change_count = 2});
    assert_int_equal(count_of(line, "\n"), 1); /* the refused one only where every detail is wanted */
    assert_non_null(strstr(line, "level=info"));
    assert_non_null(
        strstr(line, "event=shard_changed by=claim shard=0 epoch=2 config=5 leader=4294967295 wanted=7 "
                     "isr=" IDS LAST " eligible=" IDS LAST " replicas=" IDS LAST " move=0>0 losses=0 map=99\n"));
}

static void each_kind_has_its_name(void **state) {
    (void)state;
    fill_shard();
    shard.eligible_count = 0;
    struct catalog_answer done = {0}, refused = {.err = SK_CONFLICT};
    const struct {
        enum command_kind kind;
        const char *by;
    } kinds[] = {{COMMAND_WISH_LEADER, "by=wish shard=0"},
                 {COMMAND_REPLACE_REPLICA, "by=replace shard=0"},
                 {COMMAND_FORCE_LEADER, "by=force shard=0"}};
    for (size_t i = 0; i < 3; i++) {
        struct log_command command = {.kind = kinds[i].kind};
        assert_non_null(strstr(log_of(command, done), kinds[i].by));
        assert_non_null(strstr(text, " eligible= "));
        assert_int_equal(strstr(text, "level=warning") != NULL, kinds[i].kind == COMMAND_FORCE_LEADER);
        assert_string_equal(log_of(command, refused), "");
    }
    assert_string_equal(log_of((struct log_command){.kind = COMMAND_NODE_ALIVE}, done), "");
}

static void each_step_of_a_move_has_its_name(void **state) {
    (void)state;
    fill_shard();
    shard.move_from = 3;
    shard.move_to = 4;
    static const char *const names[] = {"by=move_start shard=0", "by=move_finish shard=0",
                                        "by=move_cancel shard=0"};
    for (int step = COMMAND_MOVE_START; step <= COMMAND_MOVE_CANCEL; step++) {
        struct log_command command = {.kind = COMMAND_MOVE_REPLICA, .move_replica.step = (enum command_move)step};
        assert_non_null(strstr(log_of(command, (struct catalog_answer){0}), names[step]));
        assert_non_null(strstr(text, " move=3>4 "));
    }
}

static void a_node_is_told_with_its_state(void **state) {
    (void)state;
    struct log_command command = {.kind = COMMAND_CHANGE_NODE, .change_node = {1, COMMAND_NODE_DRAIN}};
    assert_non_null(
        strstr(log_of(command, (struct catalog_answer){0}), "event=node_changed node=1 state=draining"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_is_one_line_with_the_record),
        cmocka_unit_test(each_kind_has_its_name),
        cmocka_unit_test(each_step_of_a_move_has_its_name),
        cmocka_unit_test(a_node_is_told_with_its_state),
    };
    log_init("test", LOG_INFO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

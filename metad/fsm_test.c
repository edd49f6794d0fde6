/* The state machine under libraft's fixture: three servers in memory, in virtual time. */
#include "metad/fsm.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <raft/fixture.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SERVERS 3u

static struct raft_fixture fixture;
static struct fsm machines[SERVERS];
static unsigned applied_counts[SERVERS];
static struct catalog_answer last_answer; /* of server 0 */

static void count_applied(void *arg, const struct log_command *command, struct catalog_answer *answer) {
    unsigned *count = arg;
    if (command == NULL) return;
    ++*count;
    if (count == &applied_counts[0]) last_answer = *answer;
}

static int set_up(void **state) {
    (void)state;
    struct raft_configuration configuration;
    memset(&fixture, 0, sizeof fixture); /* raft_fixture_init leaves the last leader in it */
    assert_int_equal(raft_fixture_init(&fixture), 0);
    for (unsigned i = 0; i < SERVERS; i++) {
        applied_counts[i] = 0;
        fsm_init(&machines[i], count_applied, &applied_counts[i]);
        assert_int_equal(raft_fixture_grow(&fixture, &machines[i].raft), 0);
        raft_fixture_get(&fixture, i)->tracer = NULL; /* it would tell every message */
    }
    assert_int_equal(raft_fixture_configuration(&fixture, SERVERS, &configuration), 0);
    assert_int_equal(raft_fixture_bootstrap(&fixture, &configuration), 0);
    raft_configuration_close(&configuration);
    assert_int_equal(raft_fixture_start(&fixture), 0);
    raft_fixture_elect(&fixture, 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    raft_fixture_close(&fixture);
    for (unsigned i = 0; i < SERVERS; i++) fsm_deinit(&machines[i]);
    return 0;
}

static void done_cb(struct raft_apply *request, int status, void *result) {
    assert_null(result);
    int *seen = request->data;
    *seen = status;
}

/* Proposes at the leader and steps until it is applied there. */
static void commit(const struct log_command *command) {
    struct buffer entry;
    buffer_init(&entry);
    command_encode(command, &entry);
    assert_false(entry.failed);
    struct raft_buffer copy = {.base = raft_malloc(entry.size), .len = entry.size};
    memcpy(copy.base, entry.data, entry.size);
    buffer_deinit(&entry);
    int status = -1;
    struct raft_apply request = {.data = &status};
    unsigned leader = raft_fixture_leader_index(&fixture);
    assert_int_equal(raft_apply(raft_fixture_get(&fixture, leader), &request, &copy, 1, done_cb), 0);
    for (int i = 0; i < 10000 && status == -1; i++) (void)raft_fixture_step(&fixture);
    assert_int_equal(status, 0);
}

static void commit_init(void) {
    struct log_command command = {.kind = COMMAND_INIT, .init = {0xc1, 16, 3, 1}};
    commit(&command);
}

static void commit_start(uint8_t store) {
    struct log_command command = {.kind = COMMAND_REGISTER_NODE, .register_node = {.lanes = 1}};
    memset(command.register_node.store_id, store, 16);
    (void)snprintf(command.register_node.frames_address, MAP_ADDRESS_BYTES, "tcp://h%u:1", store);
    (void)snprintf(command.register_node.replication_address, MAP_ADDRESS_BYTES, "tcp://h%u:2", store);
    commit(&command);
}

static void commit_shards(void) {
    uint32_t placed[16];
    for (unsigned i = 0; i < 16; i++) placed[i] = 1;
    unsigned leader = raft_fixture_leader_index(&fixture);
    struct log_command command = {.kind = COMMAND_CREATE_SHARDS,
                                  .create_shards = {machines[leader].catalog.version, 16, 1, placed}};
    commit(&command);
}

static void assert_same(const struct catalog *a, const struct catalog *b) {
    struct buffer x, y;
    buffer_init(&x);
    buffer_init(&y);
    catalog_encode(a, &x);
    catalog_encode(b, &y);
    assert_true(slice_equal(buffer_slice(&x), buffer_slice(&y)));
    buffer_deinit(&x);
    buffer_deinit(&y);
}

static bool server_level(struct raft_fixture *f, void *arg) {
    (void)f;
    const unsigned *server = arg;
    unsigned leader = raft_fixture_leader_index(&fixture);
    return leader < SERVERS && machines[*server].catalog.version == machines[leader].catalog.version;
}

static void all_servers_apply_alike(void **state) {
    (void)state;
    commit_init();
    commit_start(1);
    commit_start(2);
    commit_shards();
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_true(raft_fixture_step_until(&fixture, server_level, &i, 10000));
        assert_same(&machines[0].catalog, &machines[i].catalog);
        assert_int_equal(applied_counts[i], 4);
    }
}

/* A refusal is applied, too: on every server, with the same answer and no effect. */
static void a_refusal_is_an_answer(void **state) {
    (void)state;
    commit_init();
    commit_init();
    assert_int_equal(last_answer.err, SK_CONFLICT);
    assert_true(machines[0].catalog.version == 1);
    struct log_command dead = {.kind = COMMAND_NODE_ALIVE, .node_alive = {9, 1, false}};
    commit(&dead);
    assert_int_equal(last_answer.err, SK_NOT_FOUND);
    commit_start(1);
    assert_int_equal(last_answer.err, SK_OK);
    assert_int_equal(last_answer.node_id, 1);
    assert_string_equal(machines[0].fault, "");
}

static void the_next_leader_goes_on(void **state) {
    (void)state;
    commit_init();
    commit_start(1);
    raft_fixture_kill(&fixture, 0);
    assert_true(raft_fixture_step_until_has_no_leader(&fixture, 10000));
    assert_true(raft_fixture_step_until_has_leader(&fixture, 30000));
    unsigned leader = raft_fixture_leader_index(&fixture);
    assert_int_not_equal(leader, 0);
    commit_start(1); /* a new incarnation, not the first one again */
    commit_start(2);
    const struct catalog *catalog = &machines[leader].catalog;
    assert_int_equal(catalog->node_count, 2);
    assert_int_equal(catalog_find_node(catalog, 1)->map.incarnation, 2);
    assert_int_equal(catalog_find_node(catalog, 2)->map.incarnation, 3);

    raft_fixture_revive(&fixture, 0);
    unsigned back = 0;
    assert_true(raft_fixture_step_until(&fixture, server_level, &back, 30000));
    assert_same(&machines[0].catalog, catalog);
}

/* A follower that was away for longer than the log reaches back is brought level by a snapshot. */
static void a_late_follower_gets_a_snapshot(void **state) {
    (void)state;
    for (unsigned i = 0; i < SERVERS; i++) {
        raft_set_snapshot_threshold(raft_fixture_get(&fixture, i), 16);
        raft_set_snapshot_trailing(raft_fixture_get(&fixture, i), 4);
    }
    commit_init();
    raft_fixture_disconnect(&fixture, 0, 2);
    raft_fixture_disconnect(&fixture, 2, 0);
    raft_fixture_kill(&fixture, 2);
    unsigned before = applied_counts[2];
    for (int i = 0; i < 60; i++) commit_start((uint8_t)(1 + i % 3));
    commit_shards();
    for (int i = 0; i < 20; i++) commit_start(3);
    raft_fixture_revive(&fixture, 2);
    raft_fixture_reconnect(&fixture, 0, 2);
    raft_fixture_reconnect(&fixture, 2, 0);
    unsigned late = 2;
    assert_true(raft_fixture_step_until(&fixture, server_level, &late, 60000));
    assert_same(&machines[0].catalog, &machines[2].catalog);
    assert_true(raft_fixture_n_send(&fixture, 0, RAFT_INSTALL_SNAPSHOT) > 0);
    assert_true(applied_counts[2] - before < 81); /* most came with the snapshot */
    assert_int_equal(machines[2].catalog.shard_count, 16);
}

/* The callbacks by themselves: a server that restarts from its own snapshot and the log after it. */
static void snapshot_and_restore(void **state) {
    (void)state;
    commit_init();
    commit_start(1);
    commit_shards();
    struct raft_buffer *parts;
    unsigned count;
    assert_int_equal(machines[0].raft.snapshot(&machines[0].raft, &parts, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(parts[0].len % 8, 0);
    struct fsm restarted;
    fsm_init(&restarted, NULL, NULL);
    assert_int_equal(restarted.raft.restore(&restarted.raft, &parts[0]), 0); /* frees the buffer */
    raft_free(parts);
    assert_same(&machines[0].catalog, &restarted.catalog);
    fsm_deinit(&restarted);
}

/* What cannot be read is never skipped: the server stops rather than differ from the others. */
static void what_cannot_be_read_is_a_fault(void **state) {
    (void)state;
    struct fsm machine;
    fsm_init(&machine, NULL, NULL);
    uint8_t junk[16] = {0xc1};
    struct raft_buffer entry = {.base = junk, .len = sizeof junk};
    void *result;
    assert_int_equal(machine.raft.apply(&machine.raft, &entry, &result), RAFT_MALFORMED);
    assert_string_equal(machine.fault, "an entry of the log cannot be read: malformed bytes");
    assert_int_equal(machine.raft.restore(&machine.raft, &entry), RAFT_MALFORMED);
    assert_string_equal(machine.fault, "the snapshot cannot be read: malformed bytes");
    fsm_deinit(&machine);
}

int main(void) {
    log_init("fsm_test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_servers_apply_alike, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refusal_is_an_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_next_leader_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_follower_gets_a_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(snapshot_and_restore, set_up, tear_down),
        cmocka_unit_test(what_cannot_be_read_is_a_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

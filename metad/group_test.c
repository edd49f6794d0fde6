/* The group's decisions, in virtual time, over a Raft loop that a test plays: who is a member, who answers, what is asked for. */
#include "metad/group.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ASKS_MAX 64u
#define SELF     1u
#define CLUSTER  77u

/* ---- what is played ---- */

static uint64_t now_ms;

uint64_t clock_boottime_ms(void) { return now_ms; }
uint64_t clock_boottime_us(void) { return now_ms * 1000; }
uint64_t clock_realtime_us(void) { return now_ms * 1000; }

static struct play {
    struct raft_loop_server members[RAFT_LOOP_SERVERS_MAX];
    uint32_t member_count;
    uint64_t cluster;

    struct {
        char address[TRANSPORT_ADDRESS_BYTES];
        transport_asked_cb asked_cb; /* NULL: it has been answered */
        void *arg;
    } asks[ASKS_MAX];
    uint32_t ask_count;

    raft_loop_done_cb done_cb; /* of the change or transfer under way; NULL = there is none */
    void *done_arg;
    enum raft_loop_change change;
    uint64_t change_id;
    char change_name[METAD_NAME_BYTES];
    uint32_t change_count, transfer_count;

    int started; /* -1 = not yet */
    int wished, wish_count;
    char wish_text[GROUP_TEXT_BYTES];
} play;

static struct group *group;

uint32_t raft_loop_servers(const struct raft_loop *loop, struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX]) {
    (void)loop;
    memcpy(servers, play.members, sizeof play.members);
    return play.member_count;
}

int raft_loop_ask(struct raft_loop *loop, const char *address, transport_asked_cb asked_cb, void *arg) {
    (void)loop;
    assert_true(play.ask_count < ASKS_MAX);
    (void)snprintf(play.asks[play.ask_count].address, TRANSPORT_ADDRESS_BYTES, "%s", address);
    play.asks[play.ask_count].asked_cb = asked_cb;
    play.asks[play.ask_count++].arg = arg;
    return SK_OK;
}

int raft_loop_change(struct raft_loop *loop, enum raft_loop_change change, uint64_t id, const char *name,
                     raft_loop_done_cb done_cb, void *arg) {
    (void)loop;
    assert_null(play.done_cb);
    play.change = change;
    play.change_id = id;
    (void)snprintf(play.change_name, sizeof play.change_name, "%s", name);
    play.change_count++;
    play.done_cb = done_cb;
    play.done_arg = arg;
    return SK_OK;
}

int raft_loop_transfer(struct raft_loop *loop, raft_loop_done_cb done_cb, void *arg) {
    (void)loop;
    assert_null(play.done_cb);
    play.transfer_count++;
    play.done_cb = done_cb;
    play.done_arg = arg;
    return SK_OK;
}

static void finish(int err) {
    raft_loop_done_cb done_cb = play.done_cb;
    assert_non_null(done_cb);
    play.done_cb = NULL;
    done_cb(play.done_arg, err);
}

static uint64_t cluster_cb(void *arg) {
    (void)arg;
    return play.cluster;
}

static void start_cb(void *arg, enum raft_loop_start how) {
    (void)arg;
    assert_int_equal(play.started, -1);
    play.started = (int)how;
}

static void wished_cb(void *arg, int err, const char *text) {
    (void)arg;
    play.wished = err;
    play.wish_count++;
    (void)snprintf(play.wish_text, sizeof play.wish_text, "%s", text);
}

/* ---- stories ---- */

static char names[METAD_SERVERS_MAX][METAD_NAME_BYTES] = {"a:7100", "b:7100", "c:7100", "d:7100", "e:7100",
                                                          "f:7100", "g:7100", "h:7100", "i:7100"};

/* Server `self` of the list, or one that is not in it. */
static void begin(const char *self, uint32_t peer_count, uint64_t cluster) {
    play = (struct play){.cluster = cluster, .started = -1, .wished = -1};
    now_ms = 1000;
    struct group_options options = {.id = SELF,
                                    .name = self,
                                    .peers = names,
                                    .peer_count = peer_count,
                                    .cluster_cb = cluster_cb,
                                    .start_cb = start_cb};
    assert_int_equal(group_new(&group, &options), SK_OK);
    group_attach(group, NULL);
}

static void member(uint64_t id, const char *name, bool votes) {
    play.members[play.member_count++] =
        (struct raft_loop_server){.id = id, .name = name, .votes = votes, .heard = true};
}

static void leave(uint64_t id) {
    uint32_t at = 0;
    while (play.members[at].id != id) at++;
    memmove(&play.members[at], &play.members[at + 1], (play.member_count - at - 1) * sizeof play.members[0]);
    play.member_count--;
}

static void tick(void) {
    now_ms += RAFT_LOOP_TICK_MS;
    group_on_tick(group, true);
}

static void ticks(uint64_t ms) {
    for (uint64_t end_ms = now_ms + ms; now_ms < end_ms;) tick();
}

static struct handshake_server server(uint64_t id, const char *name, uint64_t cluster) {
    struct handshake_server self = {0}, made = {.id = id, .cluster = cluster, .last_index = cluster != 0 ? 9 : 0};
    group_self(group, &self);
    made.peers = self.peers;
    (void)snprintf(made.name, sizeof made.name, "%s", name);
    return made;
}

/* Open questions to that name. */
static uint32_t count_asks(const char *name) {
    char address[TRANSPORT_ADDRESS_BYTES];
    uint32_t count = 0;
    assert_int_equal(metad_name_shift(name, METAD_RAFT_OFFSET, address, sizeof address), SK_OK);
    for (uint32_t i = 0; i < play.ask_count; i++) {
        count += play.asks[i].asked_cb != NULL && strcmp(play.asks[i].address, address) == 0;
    }
    return count;
}

/* To the first that is open. */
static void answer(const char *name, int err, const struct handshake_server *who) {
    char address[TRANSPORT_ADDRESS_BYTES];
    assert_int_equal(metad_name_shift(name, METAD_RAFT_OFFSET, address, sizeof address), SK_OK);
    for (uint32_t i = 0; i < play.ask_count; i++) {
        transport_asked_cb asked_cb = play.asks[i].asked_cb;
        if (asked_cb == NULL || strcmp(play.asks[i].address, address) != 0) continue;
        play.asks[i].asked_cb = NULL;
        if (who != NULL) group_met(group, who);
        asked_cb(play.asks[i].arg, err, who);
        return;
    }
    fail_msg("nobody asked %s", name);
}

static void answer_as(const char *name, uint64_t id, uint64_t cluster) {
    struct handshake_server who = server(id, name, cluster);
    answer(name, SK_OK, &who);
}

static void wish(enum group_wish kind, const char *name) {
    group_wish(group, kind, slice_of_text(name), wished_cb, NULL);
}

static void expect_change(enum raft_loop_change change, uint64_t id) {
    assert_non_null(play.done_cb);
    assert_int_equal(play.change, change);
    assert_int_equal(play.change_id, id);
}

static void end(void) { group_free(group); }

/* ---- the beginning ---- */

static void the_first_waits_for_all_others(void **state) {
    (void)state;
    begin("a:7100", 3, 0);
    tick();
    answer_as("b:7100", 2, 0);
    ticks(3000);
    assert_int_equal(play.started, -1);
    answer("c:7100", SK_ENET, NULL);
    tick();
    assert_int_equal(play.started, -1);
    ticks(600);
    answer_as("c:7100", 3, 0);
    tick();
    assert_int_equal(play.started, RAFT_LOOP_FORM);
    end();
}

static void other_lists_form_nothing(void **state) {
    (void)state;
    begin("a:7100", 2, 0);
    tick();
    struct handshake_server b = server(2, "b:7100", 0);
    b.peers++;
    answer("b:7100", SK_OK, &b);
    ticks(400);
    assert_int_equal(play.started, -1);
    end();
}

static void a_group_that_is_there_is_not_formed_again(void **state) {
    (void)state;
    begin("a:7100", 3, 0);
    tick();
    answer_as("c:7100", 3, CLUSTER); /* b has not answered, and need not */
    tick();
    assert_int_equal(play.started, RAFT_LOOP_JOIN);
    end();
    enum raft_loop_start how;
    begin("b:7100", 3, 0);
    assert_true(group_knows_start(group, &how));
    assert_int_equal(how, RAFT_LOOP_JOIN);
    end();
    begin("a:7100", 3, CLUSTER);
    assert_true(group_knows_start(group, &how));
    assert_int_equal(how, RAFT_LOOP_GO_ON);
    end();
    begin("a:7100", 0, 0);
    assert_true(group_knows_start(group, &how));
    assert_int_equal(how, RAFT_LOOP_FORM);
    end();
}

/* ---- who is taken in ---- */

static void those_of_the_list_are_added_one_by_one(void **state) {
    (void)state;
    begin("a:7100", 3, CLUSTER);
    member(SELF, "a:7100", true);
    tick();
    answer_as("b:7100", 2, 0);
    answer_as("c:7100", 3, 0);
    tick();
    expect_change(RAFT_LOOP_ADD, 2);
    assert_string_equal(play.change_name, "b:7100");
    member(2, "b:7100", false);
    finish(SK_OK);
    tick();
    expect_change(RAFT_LOOP_PROMOTE, 2);
    finish(SK_TIMEOUT);
    tick();
    assert_null(play.done_cb); /* not at once */
    ticks(600);
    expect_change(RAFT_LOOP_PROMOTE, 2);
    play.members[1].votes = true;
    finish(SK_OK);
    tick();
    expect_change(RAFT_LOOP_ADD, 3);
    end();
}

/* Before the cluster's id is known to all that are to share it, a server that is added could be told another's. */
static void nobody_is_added_to_a_cluster_without_name(void **state) {
    (void)state;
    begin("a:7100", 2, 0);
    member(SELF, "a:7100", true);
    tick();
    answer_as("b:7100", 2, 0);
    ticks(200);
    assert_int_equal(play.change_count, 0);
    end();
}

static void a_wiped_server_waits_for_a_person(void **state) {
    (void)state;
    begin("a:7100", 3, CLUSTER);
    member(SELF, "a:7100", true);
    member(2, "b:7100", true);
    member(3, "c:7100", true);
    tick();
    answer_as("b:7100", 2, CLUSTER);
    answer_as("c:7100", 33, 0);
    ticks(1000);
    assert_int_equal(play.change_count, 0);
    wish(GROUP_ADD, "c:7100");
    tick();
    answer_as("c:7100", 33, 0);
    tick();
    expect_change(RAFT_LOOP_REMOVE, 3);
    leave(3);
    finish(SK_OK);
    tick();
    expect_change(RAFT_LOOP_ADD, 33);
    member(33, "c:7100", false);
    finish(SK_OK);
    tick();
    expect_change(RAFT_LOOP_PROMOTE, 33);
    play.members[2].votes = true;
    finish(SK_OK);
    tick();
    assert_int_equal(play.wished, SK_OK);
    end();
}

/* ---- wishes ---- */

static void a_wish_asks_once(void **state) {
    (void)state;
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    wish(GROUP_ADD, "x:7100");
    ticks(1000);
    assert_int_equal(count_asks("x:7100"), 1);
    answer("x:7100", SK_ETIMEDOUT, NULL);
    assert_int_equal(play.wished, SK_UNAVAILABLE);
    end();
}

/* An answer to one that was given up says nothing to the next. */
static void a_late_answer_is_nobodys(void **state) {
    (void)state;
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    wish(GROUP_ADD, "x:7100");
    tick();
    group_give_up(group);
    assert_int_equal(play.wish_count, 1);
    wish(GROUP_ADD, "y:7100");
    tick();
    answer_as("x:7100", 24, 0);
    tick();
    assert_int_equal(play.change_count, 0);
    answer_as("y:7100", 25, 0);
    tick();
    expect_change(RAFT_LOOP_ADD, 25);
    assert_string_equal(play.change_name, "y:7100");
    end();
}

static void a_late_failure_is_nobodys(void **state) {
    (void)state;
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    wish(GROUP_ADD, "x:7100");
    tick();
    group_give_up(group);
    wish(GROUP_ADD, "y:7100");
    answer("x:7100", SK_ENET, NULL);
    assert_int_equal(play.wish_count, 1);
    end();
}

/* It is at another address now, and healthy: whoever is where it once was does not take its place. */
static void a_server_that_has_moved_is_not_replaced(void **state) {
    (void)state;
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    member(2, "b:7100", true);
    struct handshake_server moved = server(2, "m:7100", CLUSTER);
    group_met(group, &moved);
    wish(GROUP_ADD, "b:7100");
    tick();
    answer_as("b:7100", 22, 0);
    tick();
    expect_change(RAFT_LOOP_ADD, 22);
    end();
}

static void a_leader_that_is_to_go_hands_over_first(void **state) {
    (void)state;
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    wish(GROUP_REMOVE, "a:7100");
    tick();
    assert_int_equal(play.wished, SK_BADREQUEST); /* the last one */
    member(2, "b:7100", true);
    wish(GROUP_REMOVE, "a:7100");
    tick();
    assert_int_equal(play.transfer_count, 1);
    finish(SK_OK); /* libraft does not say whether */
    tick();
    assert_int_equal(play.transfer_count, 1); /* while it hands over it refuses all writes */
    ticks(600);
    assert_int_equal(play.transfer_count, 2);
    group_give_up(group);
    assert_int_equal(play.wished, SK_TIMEOUT); /* what was begun may come to pass */
    end();
}

/* libraft counts what they have in their logs, and not whether they are there. */
static void nobody_dead_is_counted_on(void **state) {
    (void)state;
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    for (uint64_t id = 2; id <= 5; id++) member(id, names[id - 1], true);
    play.members[3].heard = play.members[4].heard = false;
    wish(GROUP_REMOVE, "b:7100");
    tick();
    assert_int_equal(play.wished, SK_UNAVAILABLE);
    wish(GROUP_ADD, "b:7100");
    tick();
    answer_as("b:7100", 22, 0);
    play.wished = -1;
    tick();
    assert_int_equal(play.wished, SK_UNAVAILABLE);
    assert_int_equal(play.change_count, 0);
    wish(GROUP_REMOVE, "d:7100");
    tick();
    expect_change(RAFT_LOOP_REMOVE, 4);
    leave(4);
    finish(SK_OK);
    tick();
    assert_int_equal(play.wished, SK_OK);
    end();
}

static void names_are_checked(void **state) {
    (void)state;
    char longest[METAD_NAME_BYTES + 8];
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    memset(longest, 'x', sizeof longest);
    static const char *const bad[] = {"", "x", "x:", "x:0", "x:65530", ":7100", "x y:7100", "tcp://x:7100"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wish(GROUP_ADD, bad[i]);
        assert_int_equal(play.wished, SK_BADREQUEST);
        play.wished = -1;
    }
    group_wish(group, GROUP_ADD, slice_of(longest, sizeof longest), wished_cb, NULL);
    assert_int_equal(play.wished, SK_BADREQUEST);
    end();
}

static void one_wish_at_a_time(void **state) {
    (void)state;
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    wish(GROUP_ADD, "x:7100");
    wish(GROUP_REMOVE, "a:7100");
    assert_int_equal(play.wished, SK_BUSY);
    ticks(46000);
    assert_int_equal(play.wished, SK_TIMEOUT);
    assert_int_equal(play.wish_count, 2);
    end();
}

/* Its person has gone (the leader changed in the middle), and no list names it. */
static void whoever_has_been_taken_in_votes_in_the_end(void **state) {
    (void)state;
    begin("a:7100", 2, CLUSTER);
    member(SELF, "a:7100", true);
    member(2, "b:7100", true);
    member(24, "x:7100", false);
    ticks(1000);
    expect_change(RAFT_LOOP_PROMOTE, 24);
    finish(SK_TIMEOUT);
    ticks(2000);
    assert_int_equal(play.change_count, 1); /* it may be gone for long */
    ticks(10000);
    assert_int_equal(play.change_count, 2);
    end();
}

/* A list may be longer than a group. */
static void a_group_that_is_full_is_left_alone(void **state) {
    (void)state;
    begin("a:7100", 9, CLUSTER);
    member(SELF, "a:7100", true);
    for (uint64_t i = 1; i < RAFT_LOOP_SERVERS_MAX; i++) member(i + 1, names[i], true);
    tick();
    answer_as("h:7100", 8, 0);
    answer_as("i:7100", 9, 0);
    ticks(400);
    assert_int_equal(play.change_count, 0);
    end();
}

/* ---- names ---- */

static void a_server_is_where_it_was_met_last(void **state) {
    (void)state;
    char address[TRANSPORT_ADDRESS_BYTES];
    begin("a:7100", 0, CLUSTER);
    member(SELF, "a:7100", true);
    member(2, "b:7100", true);
    assert_string_equal(group_name_of(group, 2), "b:7100");
    assert_string_equal(group_name_of(group, SELF), "a:7100");
    assert_null(group_name_of(group, 99));
    for (uint64_t id = 100; id < 200; id++, now_ms++) { /* of whom only some are remembered */
        struct handshake_server passer = server(id, "p:7100", 0);
        group_met(group, &passer);
    }
    struct handshake_server moved = server(2, "m:7100", CLUSTER);
    group_met(group, &moved);
    assert_string_equal(group_name_of(group, 2), "m:7100");
    group_address(group, 2, "b:7100", address);
    assert_string_equal(address, "m:7110");
    group_address(group, 3, "[::1]:7100", address);
    assert_string_equal(address, "[::1]:7110");
    group_address(group, 3, "nonsense", address);
    assert_string_equal(address, "");
    end();
}

int main(void) {
    log_init("group_test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_waits_for_all_others),
        cmocka_unit_test(other_lists_form_nothing),
        cmocka_unit_test(a_group_that_is_there_is_not_formed_again),
        cmocka_unit_test(those_of_the_list_are_added_one_by_one),
        cmocka_unit_test(nobody_is_added_to_a_cluster_without_name),
        cmocka_unit_test(a_wiped_server_waits_for_a_person),
        cmocka_unit_test(a_wish_asks_once),
        cmocka_unit_test(a_late_answer_is_nobodys),
        cmocka_unit_test(a_late_failure_is_nobodys),
        cmocka_unit_test(a_server_that_has_moved_is_not_replaced),
        cmocka_unit_test(a_leader_that_is_to_go_hands_over_first),
        cmocka_unit_test(nobody_dead_is_counted_on),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(one_wish_at_a_time),
        cmocka_unit_test(whoever_has_been_taken_in_votes_in_the_end),
        cmocka_unit_test(a_group_that_is_full_is_left_alone),
        cmocka_unit_test(a_server_is_where_it_was_met_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

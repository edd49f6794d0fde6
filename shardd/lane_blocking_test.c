/* Blocking commands at lanes that replicate to each other: who waits, who is served, and that nothing is taken for nobody. */
#include "shardd/lane_fixture.h"

#include <stdlib.h>

#define WAITS (REQUEST_WRITE | REQUEST_WAITS)
#define KEY   "{q}1"

/* Asks the leader once and does not wait; the number. */
static uint64_t ask(struct cluster *cluster, uint8_t flags, const char *words) {
    uint64_t number = next_number(cluster);
    ask_node(cluster, record_of(cluster, shard_of(KEY)).leader, number, shard_of(KEY), flags, words, 0);
    return number;
}

static void ask_again(struct cluster *cluster, uint64_t number, const char *words) {
    ask_node(cluster, record_of(cluster, shard_of(KEY)).leader, number, shard_of(KEY), WAITS, words, 0);
}

static void run(struct cluster *cluster, uint8_t flags, const char *words, const char *expected) {
    char result[RESULT_BYTES] = "";
    assert_int_equal(run_for(cluster, KEY, flags, words, 0, result), SK_OK);
    assert_string_equal(result, expected);
}

static void expect_answer(struct cluster *cluster, uint64_t number, int err, const char *expected) {
    char result[RESULT_BYTES] = "";
    assert_int_equal(await(cluster, number, result), err);
    assert_string_equal(result, expected);
}

static unsigned answers(struct cluster *cluster, uint64_t number) {
    pthread_mutex_lock(&cluster->lock);
    unsigned count = cluster->asked[number].answers;
    pthread_mutex_unlock(&cluster->lock);
    return count;
}

/* Frames are taken in their order: whatever was asked before has been looked at. */
static void wait_until_taken(struct cluster *cluster) { run(cluster, 0, "EXISTS {q}none", "0"); }

static void start_and_settle(struct cluster *cluster) {
    start_all(cluster);
    run(cluster, REQUEST_WRITE, "SET {q}s v", "OK");
}

/* ---- tests ---- */

static void test_waits_without_an_entry_until_something_is_there(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t applied = stats_of(cluster, 1).applied;
    uint64_t number = ask(cluster, WAITS, "BLPOP {q}0 {q}1 0");
    wait_until_taken(cluster);
    assert_int_equal(answers(cluster, number), 0);
    assert_int_equal(stats_of(cluster, 1).applied, applied);
    run(cluster, REQUEST_WRITE, "RPUSH {q}2 other", "1");
    assert_int_equal(answers(cluster, number), 0);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a b", "2");
    expect_answer(cluster, number, SK_OK, "{q}1 a");
    run(cluster, 0, "LRANGE {q}1 0 -1", "b");
    run(cluster, WAITS, "BLPOP {q}0 {q}1 0", "{q}1 b"); /* at once */
    assert_int_equal(answers(cluster, number), 1);
}

/* What is refused does not wait. */
static void test_refusals_do_not_wait(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    expect_answer(cluster, ask(cluster, WAITS, "BLPOP {q}1 x"), SK_BADREQUEST, "");
    expect_answer(cluster, ask(cluster, WAITS, "BLPOP {q}1"), SK_BADREQUEST, "");
    expect_answer(cluster, ask(cluster, WAITS, "BLMPOP 0 0 {q}1 LEFT"), SK_BADREQUEST, "");
    expect_answer(cluster, ask(cluster, WAITS, "BLPOP {q}1 {q}s 0"), SK_WRONGTYPE, "");
    expect_answer(cluster, ask(cluster, WAITS, "NOTHING {q}1"), SK_BADREQUEST, "");
    run(cluster, WAITS, "SET {q}t v", "OK"); /* and so does what never waits */
    uint64_t number = ask(cluster, WAITS, "BLMOVE {q}1 {q}s LEFT LEFT 0");
    wait_until_taken(cluster);
    assert_int_equal(answers(cluster, number), 0);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a", "1");
    expect_answer(cluster, number, SK_WRONGTYPE, "");
    run(cluster, 0, "LRANGE {q}1 0 -1", "a");
}

/* A slice ends with nil; its name is of no use any more. */
static void test_a_slice_ends(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t begin_us = clock_boottime_us();
    uint64_t number = ask(cluster, WAITS, "BLPOP {q}1 0");
    expect_answer(cluster, number, SK_OK, "");
    assert_true(clock_boottime_us() - begin_us >= WAIT_SLICE_MS * 1000u);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a", "1");
    ask_again(cluster, number, "BLPOP {q}1 0"); /* it was on its way twice */
    wait_until(cluster, is_answered(cluster, number, 2));
    expect_answer(cluster, number, SK_OK, "");
    run(cluster, 0, "LRANGE {q}1 0 -1", "a");
    run(cluster, WAITS, "BLPOP {q}1 0", "{q}1 a");
}

/* Without the flag nobody waits, and nil is the answer of the name. */
static void test_nil_at_once_is_remembered(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t number = ask(cluster, REQUEST_WRITE, "BLPOP {q}1 0");
    expect_answer(cluster, number, SK_OK, "");
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a", "1");
    ask_again(cluster, number, "BLPOP {q}1 0");
    wait_until(cluster, is_answered(cluster, number, 2));
    expect_answer(cluster, number, SK_OK, "");
    run(cluster, 0, "LLEN {q}1", "1");
}

static void test_one_request_seen_twice_takes_once(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t number = ask(cluster, WAITS, "BLPOP {q}1 0");
    ask_again(cluster, number, "BLPOP {q}1 0");
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a b", "2");
    ask_again(cluster, number, "BLPOP {q}1 0");
    expect_answer(cluster, number, SK_OK, "{q}1 a");
    ask_again(cluster, number, "BLPOP {q}1 0"); /* remembered as any write */
    wait_until_taken(cluster);
    expect_answer(cluster, number, SK_OK, "{q}1 a");
    run(cluster, 0, "LRANGE {q}1 0 -1", "b");
}

static void test_who_came_first_is_served_first(void **state) {
    struct cluster *cluster = *state;
    uint64_t numbers[5];
    start_and_settle(cluster);
    for (int i = 0; i < 5; i++) numbers[i] = ask(cluster, WAITS, i == 2 ? "BLPOP {q}0 {q}1 0" : "BLPOP {q}1 0");
    wait_until_taken(cluster);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a b c", "3");
    expect_answer(cluster, numbers[0], SK_OK, "{q}1 a");
    expect_answer(cluster, numbers[1], SK_OK, "{q}1 b");
    expect_answer(cluster, numbers[2], SK_OK, "{q}1 c");
    assert_int_equal(answers(cluster, numbers[3]), 0);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 d", "1");
    expect_answer(cluster, numbers[3], SK_OK, "{q}1 d");
    run(cluster, REQUEST_WRITE, "LPUSH {q}1 e", "1");
    expect_answer(cluster, numbers[4], SK_OK, "{q}1 e");
}

/* Who comes when something is on its way does not get it before those who wait; nor does anything stay for long that somebody
 * has left. */
static void test_nobody_overtakes(void **state) {
    struct cluster *cluster = *state;
    char words[64];
    uint64_t numbers[40];
    start_and_settle(cluster);
    for (int i = 0; i < 20; i++) numbers[i] = ask(cluster, WAITS, i % 2 ? "BLPOP {q}1 0" : "BLPOP {q}0 {q}1 0");
    for (int i = 0; i < 20; i++) {
        snprintf(words, sizeof words, "RPUSH {q}1 %d %d", 2 * i, 2 * i + 1);
        (void)ask(cluster, REQUEST_WRITE, words);
        numbers[20 + i] = ask(cluster, WAITS, "BLPOP {q}1 0");
    }
    for (int i = 0; i < 40; i++) {
        snprintf(words, sizeof words, "{q}1 %d", i);
        expect_answer(cluster, numbers[i], SK_OK, words);
    }
    uint64_t refused = ask(cluster, WAITS, "BLMOVE {q}1 {q}s LEFT LEFT 0");
    uint64_t next = ask(cluster, WAITS, "BLPOP {q}1 0");
    wait_until_taken(cluster);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a", "1");
    expect_answer(cluster, refused, SK_WRONGTYPE, "");
    expect_answer(cluster, next, SK_OK, "{q}1 a");
}

/* What BLMOVE puts there wakes who waits there. */
static void test_a_chain(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t last = ask(cluster, WAITS, "BLPOP {q}3 0");
    uint64_t second = ask(cluster, WAITS, "BRPOPLPUSH {q}2 {q}3 0");
    uint64_t moving = ask(cluster, WAITS, "BLMOVE {q}1 {q}2 LEFT LEFT 0");
    wait_until_taken(cluster);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a", "1");
    expect_answer(cluster, moving, SK_OK, "a");
    expect_answer(cluster, second, SK_OK, "a");
    expect_answer(cluster, last, SK_OK, "{q}3 a");
}

/* Others may take what somebody was woken for: it waits on. */
static void test_somebody_may_be_faster(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t number = ask(cluster, WAITS, "BLPOP {q}1 0");
    uint64_t popped[20];
    for (int i = 0; i < 20; i++) {
        (void)ask(cluster, REQUEST_WRITE, "RPUSH {q}1 a");
        popped[i] = ask(cluster, REQUEST_WRITE, "LPOP {q}1");
    }
    uint64_t got = 0;
    for (int i = 0; i < 20; i++) {
        char result[RESULT_BYTES] = "";
        assert_int_equal(await(cluster, popped[i], result), SK_OK);
        got += result[0] != 0;
    }
    char left[RESULT_BYTES] = "";
    wait_until_taken(cluster);
    assert_int_equal(run_for(cluster, KEY, REQUEST_WRITE, "RPUSH {q}1 b", 0, left), SK_OK);
    char result[RESULT_BYTES] = "";
    assert_int_equal(await(cluster, number, result), SK_OK);
    assert_int_equal(strncmp(result, "{q}1 ", 5), 0);
    assert_int_equal(run_for(cluster, KEY, 0, "LLEN {q}1", 0, left), SK_OK);
    assert_int_equal(got + 1 + strtoull(left, NULL, 10), 21); /* each element once */
}

/* What is committed may already be there: the log decides, in its order. */
static void test_behind_what_is_in_the_log(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    for (int i = 0; i < 20; i++) {
        (void)ask(cluster, REQUEST_WRITE, "RPUSH {q}1 a");
        expect_answer(cluster, ask(cluster, WAITS, "BLPOP {q}1 0"), SK_OK, "{q}1 a");
    }
    run(cluster, 0, "EXISTS {q}1", "0");
}

/* Who waits where nobody leads any more is told so, and waits at the next leader under the same name. */
static void test_waiting_survives_its_leader(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t number = ask(cluster, WAITS, "BLPOP {q}1 0");
    wait_until_taken(cluster);
    stop_node(cluster, 1);
    expect_answer(cluster, number, SK_NOT_LEADER, "");
    run(cluster, REQUEST_WRITE, "SET {q}s w", "OK"); /* the next serves */
    unsigned before = answers(cluster, number);
    ask_again(cluster, number, "BLPOP {q}1 0");
    wait_until_taken(cluster);
    assert_int_equal(answers(cluster, number), before);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a b", "2");
    wait_until(cluster, is_answered(cluster, number, before + 1));
    expect_answer(cluster, number, SK_OK, "{q}1 a");
    start_node(cluster, 1);
    run(cluster, 0, "LRANGE {q}1 0 -1", "b");
}

static bool steps_down(struct cluster *cluster, uint64_t number) {
    const struct asked *asked = &cluster->asked[number];
    return asked->answers == 1 && asked->err != SK_OK;
}

/* A leader that is cut off answers no nil: what it has not heard of may have been pushed at the next. */
static void test_a_leader_that_is_cut_off_says_nothing(void **state) {
    struct cluster *cluster = *state;
    start_and_settle(cluster);
    uint64_t number = next_number(cluster);
    for (uint32_t id = 2; id <= NODES; id++) lose_between(cluster, 1, id, ALL_MESSAGES);
    ask_node(cluster, 1, number, shard_of(KEY), WAITS, "BLPOP {q}1 0", 0);
    wait_until(cluster, cluster->map->shards[shard_of(KEY)].leader != 1);
    run(cluster, REQUEST_WRITE, "RPUSH {q}1 a", "1");
    wait_until(cluster, steps_down(cluster, number));
    for (uint32_t id = 2; id <= NODES; id++) lose_between(cluster, 1, id, 0);
    run(cluster, WAITS, "BLPOP {q}1 0", "{q}1 a");
}

/* However the commands and their answers are lost, each element is taken once. */
static void test_r10_each_element_once_through_losses(void **state) {
    struct cluster *cluster = *state;
    char result[RESULT_BYTES], words[64];
    bool taken[60] = {0};
    start_and_settle(cluster);
    lose_one_in(cluster, 4);
    for (int i = 0; i < 60; i++) {
        if (i % 20 == 10) restart_node(cluster, (uint32_t)(1 + i / 20));
        uint64_t number = ask(cluster, WAITS, "BLPOP {q}1 0");
        snprintf(words, sizeof words, "RPUSH {q}1 %d", i);
        assert_int_equal(run_for(cluster, KEY, REQUEST_WRITE, words, 0, result), SK_OK);
        wait_until_taken(cluster);
        for (unsigned seen = 0;; seen++) {
            wait_until(cluster, is_answered(cluster, number, seen + 1));
            int err = await(cluster, number, result);
            if (err == SK_OK) break;
            ask_again(cluster, number, "BLPOP {q}1 0");
        }
        if (result[0] == 0) continue; /* its time was over */
        int value = atoi(result + strlen(KEY) + 1);
        assert_false(taken[value]);
        taken[value] = true;
    }
    lose_one_in(cluster, 0);
    for (;;) {
        assert_int_equal(run_for(cluster, KEY, REQUEST_WRITE, "LPOP {q}1", 0, result), SK_OK);
        if (result[0] == 0) break;
        assert_false(taken[atoi(result)]);
        taken[atoi(result)] = true;
    }
    for (int i = 0; i < 60; i++) assert_true(taken[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_waits_without_an_entry_until_something_is_there, setup_cluster,
                                        teardown_cluster),
        cmocka_unit_test_setup_teardown(test_refusals_do_not_wait, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_a_slice_ends, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_nil_at_once_is_remembered, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_one_request_seen_twice_takes_once, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_who_came_first_is_served_first, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_nobody_overtakes, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_a_chain, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_somebody_may_be_faster, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_behind_what_is_in_the_log, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_waiting_survives_its_leader, setup_cluster, teardown_cluster),
        cmocka_unit_test_setup_teardown(test_a_leader_that_is_cut_off_says_nothing, setup_cluster,
                                        teardown_cluster),
        cmocka_unit_test_setup_teardown(test_r10_each_element_once_through_losses, setup_cluster,
                                        teardown_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

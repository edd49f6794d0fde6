#include "shardd/collection.h"
#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_INT   "-BADREQUEST value is not an integer or out of range"
#define SYNTAX    "-BADREQUEST syntax error"

#define AB_BC                                                                                                     \
    {"ZADD {z}1 1 a 2 b", "2"}, { "ZADD {z}2 10 b 20 c", "2" }

static void unites(void **state) {
    (void)state;
    FIXTURE_TABLE(AB_BC, {"ZUNION 2 {z}1 {z}2", "[\"a\" \"b\" \"c\"]"},
                  {"ZUNION 2 {z}1 {z}2 WITHSCORES", "[[\"a\" #1] [\"b\" #12] [\"c\" #20]]"},
                  {"ZUNION 2 {z}1 {z}2 AGGREGATE MIN WITHSCORES", "[[\"a\" #1] [\"b\" #2] [\"c\" #20]]"},
                  {"ZUNION 2 {z}1 {z}2 aggregate max withscores", "[[\"a\" #1] [\"b\" #10] [\"c\" #20]]"},
                  {"ZUNION 2 {z}1 {z}2 WEIGHTS 30 -1 WITHSCORES", "[[\"c\" #-20] [\"a\" #30] [\"b\" #50]]"},
                  {"ZUNION 3 {z}1 {z}none {z}1 WITHSCORES", "[[\"a\" #2] [\"b\" #4]]"}, {"ZUNION 1 {z}none", "[]"},
                  {"ZUNIONSTORE {z}d 2 {z}1 {z}2 WEIGHTS 1 2", "3"},
                  {"ZRANGE {z}d 0 -1 WITHSCORES", "[[\"a\" #1] [\"b\" #22] [\"c\" #40]]"},
                  {"ZUNIONSTORE {z}1 2 {z}1 {z}1", "2"},
                  {"ZRANGE {z}1 0 -1 WITHSCORES", "[[\"a\" #2] [\"b\" #4]]"}, {"ZUNIONSTORE {z}d 1 {z}none", "0"},
                  {"EXISTS {z}d", "0"},
                  {"ZUNION 2 {z}2 {z}2 WEIGHTS 1 2 WEIGHTS 2 3 WITHSCORES", "[[\"b\" #50] [\"c\" #100]]"});
}

/* Redis makes 0 of what is not a number, and so does this. */
static void infinities(void **state) {
    (void)state;
    FIXTURE_TABLE({"ZADD {z}1 inf a 0 b", "2"}, {"ZADD {z}2 -inf a inf b", "2"},
                  {"ZUNION 2 {z}1 {z}2 WITHSCORES", "[[\"a\" #0] [\"b\" #inf]]"},
                  {"ZINTER 2 {z}1 {z}2 WITHSCORES", "[[\"a\" #0] [\"b\" #inf]]"},
                  {"ZUNION 1 {z}1 WEIGHTS 0 WITHSCORES", "[[\"a\" #0] [\"b\" #0]]"},
                  {"ZINTER 2 {z}1 {z}2 WEIGHTS 0 inf AGGREGATE MAX WITHSCORES", "[[\"a\" #0] [\"b\" #inf]]"},
                  {"ZINTER 2 {z}1 {z}2 WEIGHTS 1 0 AGGREGATE MIN WITHSCORES", "[[\"b\" #0] [\"a\" #inf]]"});
}

static void intersects_and_subtracts(void **state) {
    (void)state;
    FIXTURE_TABLE(AB_BC, {"ZINTER 2 {z}1 {z}2", "[\"b\"]"}, {"ZINTER 2 {z}1 {z}2 WITHSCORES", "[[\"b\" #12]]"},
                  {"ZINTER 2 {z}1 {z}2 WEIGHTS 2 3 AGGREGATE MAX WITHSCORES", "[[\"b\" #30]]"},
                  {"ZINTER 2 {z}1 {z}1 WEIGHTS 1 2 WITHSCORES", "[[\"a\" #3] [\"b\" #6]]"},
                  {"ZINTER 2 {z}1 {z}none", "[]"}, {"ZINTERSTORE {z}d 2 {z}1 {z}2", "1"}, {"ZSCORE {z}d b", "#12"},
                  {"ZINTERSTORE {z}d 2 {z}1 {z}none", "0"}, {"EXISTS {z}d", "0"}, {"ZINTERCARD 2 {z}1 {z}2", "1"},
                  {"ZINTERCARD 2 {z}1 {z}1 LIMIT 1", "1"}, {"ZINTERCARD 1 {z}1 LIMIT 0", "2"},
                  {"ZINTERCARD 1 {z}1 limit 9", "2"}, {"ZINTERCARD 1 {z}none", "0"},
                  {"ZDIFF 2 {z}1 {z}2", "[\"a\"]"}, {"ZDIFF 2 {z}2 {z}1 WITHSCORES", "[[\"c\" #20]]"},
                  {"ZDIFF 2 {z}1 {z}1", "[]"}, {"ZDIFF 2 {z}1 {z}none", "[\"a\" \"b\"]"},
                  {"ZDIFF 1 {z}none", "[]"}, {"ZDIFFSTORE {z}d 2 {z}1 {z}2", "1"}, {"ZRANGE {z}d 0 -1", "[\"a\"]"},
                  {"ZDIFFSTORE {z}d 2 {z}1 {z}1", "0"}, {"EXISTS {z}d", "0"});
}

static void refuses(void **state) {
    (void)state;
    FIXTURE_TABLE(
        AB_BC, {"ZUNION 0 {z}1", "-BADREQUEST at least 1 input key is needed for 'zunion' command"},
        {"ZINTERSTORE d -1 {z}1", "-BADREQUEST at least 1 input key is needed for 'zinterstore' command"},
        {"ZDIFF x {z}1", NOT_INT}, {"ZUNION 3 {z}1 {z}2", SYNTAX}, {"ZUNION 1 {z}1 WHAT", SYNTAX},
        {"ZUNION 2 {z}1 {z}2 WEIGHTS 1", SYNTAX},
        {"ZUNION 1 {z}1 WEIGHTS x", "-BADREQUEST weight value is not a float"},
        {"ZUNION 1 {z}1 AGGREGATE", SYNTAX}, {"ZUNION 1 {z}1 AGGREGATE AVG", SYNTAX},
        {"ZUNIONSTORE {z}d 1 {z}1 WITHSCORES", SYNTAX}, {"ZDIFF 1 {z}1 WEIGHTS 1", SYNTAX},
        {"ZDIFF 1 {z}1 AGGREGATE SUM", SYNTAX}, {"ZINTERCARD 1 {z}1 WITHSCORES", SYNTAX},
        {"ZINTERCARD 1 {z}1 LIMIT", SYNTAX}, {"ZINTERCARD 1 {z}1 LIMIT -1", "-BADREQUEST LIMIT can't be negative"},
        {"ZINTERCARD 1 {z}1 LIMIT x", "-BADREQUEST LIMIT can't be negative"}, {"ZINTER 1 {z}1 LIMIT 1", SYNTAX},
        {"SET {z}s v", "+OK"}, {"ZUNION 2 {z}1 {z}s WHAT", WRONGTYPE}, {"ZDIFFSTORE {z}s 1 {z}1", "2"},
        {"TYPE {z}s", "+zset"}, {"ZUNION 2 {z}1 other", "-CROSSSLOT Keys in request don't hash to the same slot"},
        {"ZUNIONSTORE other 1 {z}1", "-CROSSSLOT Keys in request don't hash to the same slot"});
}

/* A plain set with names 0, 1, … */
static void put_set(struct fixture *fixture, const char *key, unsigned count) {
    struct call call = {.exec = &fixture->exec, .now_us = fixture->now_us, .answer = &fixture->answer};
    struct collection set;
    assert_int_equal(collection_replace(&call, slice_of_text(key), OBJECT_SET, &set), SK_OK);
    collection_begin(&call, &set);
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        struct element element;
        snprintf(name, sizeof name, "%u", i);
        assert_int_equal(element_find(&fixture->exec, set.id, slice_of_text(name), &element), SK_OK);
        assert_int_equal(collection_put(&call, &set, &element, slice_of("", 0)), SK_OK);
    }
    assert_int_equal(collection_save(&call, &set), SK_OK);
}

static void sets_count_with_one(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    put_set(&fixture, "{z}s", 3);
    static const struct fixture_step steps[] = {
        {"ZADD {z}1 5 0 6 x", "2"},
        {"ZUNION 2 {z}1 {z}s WITHSCORES", "[[\"1\" #1] [\"2\" #1] [\"0\" #6] [\"x\" #6]]"},
        {"ZINTER 2 {z}s {z}1 WEIGHTS 3 1 WITHSCORES", "[[\"0\" #8]]"},
        {"ZDIFF 2 {z}s {z}1 WITHSCORES", "[[\"1\" #1] [\"2\" #1]]"},
        {"ZUNIONSTORE {z}s 1 {z}s WEIGHTS 2", "3"},
        {"ZRANGE {z}s 0 -1 WITHSCORES", "[[\"0\" #2] [\"1\" #2] [\"2\" #2]]"},
    };
    fixture_run_steps(&fixture, steps, sizeof steps / sizeof steps[0]);
    fixture_deinit(&fixture);
}

/* What is looked at has a limit; what is not looked at, because a small set is intersected, has none. */
static void large_sets_have_a_limit(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    put_set(&fixture, "{z}large", ELEMENTS_MET_MAX + 1);
    put_set(&fixture, "{z}middle", ELEMENTS_CHANGED_MAX + 1);
    put_set(&fixture, "{z}small", 3);
    static const struct fixture_step steps[] = {
        {"ZUNIONSTORE {z}d 1 {z}large", "-TOOLARGE more than 250000 elements to combine"},
        {"ZDIFF 2 {z}large {z}small", "-TOOLARGE more than 250000 elements to combine"},
        {"ZINTERCARD 1 {z}large", "-TOOLARGE more than 250000 elements to combine"},
        {"ZINTERCARD 2 {z}large {z}large LIMIT 9", "9"},
        {"ZINTERCARD 1 {z}middle", "50001"},
        {"ZINTERSTORE {z}d 1 {z}middle", "-TOOLARGE more than 50000 members to change at once"},
        {"ZINTERSTORE {z}d 2 {z}large {z}small", "3"},
        {"ZDIFF 2 {z}small {z}large", "[]"},
    };
    fixture_run_steps(&fixture, steps, sizeof steps / sizeof steps[0]);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unites),
        cmocka_unit_test(infinities),
        cmocka_unit_test(intersects_and_subtracts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(sets_count_with_one),
        cmocka_unit_test(large_sets_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_INT   "-BADREQUEST value is not an integer or out of range"
#define NOT_FLOAT "-BADREQUEST min or max is not a float"
#define NOT_NAME  "-BADREQUEST min or max not valid string range item"
#define SYNTAX    "-BADREQUEST syntax error"

#define ABCD                                                                                                      \
    { "ZADD z 1 a 2 b 3 c 4 d", "4" }

static void by_rank(void **state) {
    (void)state;
    FIXTURE_TABLE(
        ABCD, {"ZRANGE z 0 -1", "[\"a\" \"b\" \"c\" \"d\"]"}, {"ZRANGE z 1 2", "[\"b\" \"c\"]"},
        {"ZRANGE z -2 -1", "[\"c\" \"d\"]"}, {"ZRANGE z -100 0", "[\"a\"]"}, {"ZRANGE z 3 100", "[\"d\"]"},
        {"ZRANGE z 4 5", "[]"}, {"ZRANGE z 2 1", "[]"}, {"ZRANGE z 0 -5", "[]"}, {"ZRANGE none 0 -1", "[]"},
        {"ZRANGE z 0 0 WITHSCORES", "[[\"a\" #1]]"}, {"ZRANGE z 0 1 REV", "[\"d\" \"c\"]"},
        {"ZRANGE z -1 -1 rev withscores", "[[\"a\" #1]]"}, {"ZREVRANGE z 0 1", "[\"d\" \"c\"]"},
        {"ZREVRANGE z 0 0 WITHSCORES", "[[\"d\" #4]]"}, {"ZRANGE z x 1", NOT_INT}, {"ZRANGE z 0 1.5", NOT_INT},
        {"ZRANGE z 0 9223372036854775807", "[\"a\" \"b\" \"c\" \"d\"]"},
        {"ZRANGE z -9223372036854775808 0", "[\"a\"]"}, {"ZRANGE z 0 9223372036854775808", NOT_INT},
        {"ZREVRANGE z 0 1 REV", SYNTAX}, {"ZRANGE z 0 1 WHAT", SYNTAX}, {"ZRANGE z 0 1 REV REV", SYNTAX},
        {"ZRANGE z 0 -1 LIMIT 1 -1", "[\"a\" \"b\" \"c\" \"d\"]"},
        {"ZRANGE z 0 -1 LIMIT 0 1",
         "-BADREQUEST syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"},
        {"ZRANGE z 0 -1 LIMIT 0", SYNTAX}, {"ZRANGE z 0 -1 LIMIT 0 x", NOT_INT}, {"SET s v", "+OK"},
        {"ZRANGE s 0 -1", WRONGTYPE}, {"ZRANGE s x -1", NOT_INT});
}

static void by_score(void **state) {
    (void)state;
    FIXTURE_TABLE(
        ABCD, {"ZRANGEBYSCORE z 2 3", "[\"b\" \"c\"]"}, {"ZRANGEBYSCORE z (2 3", "[\"c\"]"},
        {"ZRANGEBYSCORE z 2 (3", "[\"b\"]"}, {"ZRANGEBYSCORE z (2 (3", "[]"}, {"ZRANGEBYSCORE z (2 (2", "[]"},
        {"ZRANGEBYSCORE z -inf +inf", "[\"a\" \"b\" \"c\" \"d\"]"}, {"ZRANGEBYSCORE z 3 2", "[]"},
        {"ZRANGEBYSCORE z 3 inf WITHSCORES", "[[\"c\" #3] [\"d\" #4]]"},
        {"ZRANGEBYSCORE z 0 9 LIMIT 1 2", "[\"b\" \"c\"]"}, {"ZRANGEBYSCORE z 0 9 LIMIT 3 -1", "[\"d\"]"},
        {"ZRANGEBYSCORE z 0 9 LIMIT 4 1", "[]"}, {"ZRANGEBYSCORE z 0 9 LIMIT -1 2", "[]"},
        {"ZRANGEBYSCORE z 0 9 LIMIT 1 0", "[]"}, {"ZRANGEBYSCORE z 0 9 LIMIT 100 1", "[]"},
        {"ZRANGEBYSCORE z 0 9 LIMIT 1 1 WITHSCORES LIMIT 0 1", "[[\"a\" #1]]"},
        {"ZREVRANGEBYSCORE z 3 2", "[\"c\" \"b\"]"}, {"ZREVRANGEBYSCORE z 2 3", "[]"},
        {"ZREVRANGEBYSCORE z +inf (2 LIMIT 1 5", "[\"c\"]"},
        {"ZREVRANGEBYSCORE z (3 (1 WITHSCORES", "[[\"b\" #2]]"}, {"ZRANGE z 2 3 BYSCORE", "[\"b\" \"c\"]"},
        {"ZRANGE z 3 2 BYSCORE REV", "[\"c\" \"b\"]"}, {"ZRANGE z 3 2 REV BYSCORE LIMIT 1 1", "[\"b\"]"},
        {"ZRANGEBYSCORE none 1 2", "[]"}, {"ZRANGEBYSCORE z x 2", NOT_FLOAT}, {"ZRANGEBYSCORE z 1 nan", NOT_FLOAT},
        {"ZRANGEBYSCORE z ((1 2", NOT_FLOAT}, {"ZRANGEBYSCORE z [1 2", NOT_FLOAT},
        {"ZRANGEBYSCORE z \"\" 1", "[\"a\"]"}, {"ZRANGEBYSCORE z ( 1", "[\"a\"]"},
        {"ZRANGEBYSCORE z \"( 1\" 1e400", "[\"b\" \"c\" \"d\"]"}, {"ZRANGEBYSCORE z \"1 \" 2", NOT_FLOAT},
        {"ZRANGEBYSCORE z 1 2 REV", SYNTAX}, {"ZRANGEBYSCORE z 1 2 BYLEX", SYNTAX},
        {"ZRANGE z 1 2 BYSCORE BYSCORE", SYNTAX}, {"ZRANGE z 1 2 BYSCORE BYLEX", SYNTAX});
    FIXTURE_TABLE({"ZADD z 0 a -inf b inf c -1 d", "4"}, {"ZRANGEBYSCORE z -0 -0", "[\"a\"]"},
                  {"ZRANGEBYSCORE z (-inf (inf", "[\"d\" \"a\"]"}, {"ZRANGEBYSCORE z inf inf", "[\"c\"]"},
                  {"ZCOUNT z -inf 0", "3"}, {"ZCOUNT z (0 inf", "1"}, {"ZCOUNT z 1 0", "0"},
                  {"ZCOUNT none 0 1", "0"}, {"ZCOUNT z a 1", NOT_FLOAT}, {"SET s v", "+OK"},
                  {"ZCOUNT s 0 1", WRONGTYPE});
}

static void by_name(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"ZADD z 0 a 0 b 0 c 0 d 0 \"\" 0 bb", "6"},
        {"ZRANGEBYLEX z - +", "[\"\" \"a\" \"b\" \"bb\" \"c\" \"d\"]"}, {"ZRANGEBYLEX z [b (c", "[\"b\" \"bb\"]"},
        {"ZRANGEBYLEX z (b [c", "[\"bb\" \"c\"]"}, {"ZRANGEBYLEX z ( (a", "[]"},
        {"ZRANGEBYLEX z [ [a", "[\"\" \"a\"]"}, {"ZRANGEBYLEX z + -", "[]"}, {"ZRANGEBYLEX z + +", "[]"},
        {"ZRANGEBYLEX z - -", "[]"}, {"ZRANGEBYLEX z [c [b", "[]"}, {"ZRANGEBYLEX z [x +", "[]"},
        {"ZRANGEBYLEX z - [a LIMIT 1 1", "[\"a\"]"}, {"ZREVRANGEBYLEX z + [bb", "[\"d\" \"c\" \"bb\"]"},
        {"ZREVRANGEBYLEX z - +", "[]"}, {"ZREVRANGEBYLEX z (c - LIMIT 1 2", "[\"b\" \"a\"]"},
        {"ZRANGE z [b + BYLEX LIMIT 1 1", "[\"bb\"]"}, {"ZRANGE z + [c BYLEX REV", "[\"d\" \"c\"]"},
        {"ZRANGE z - + BYLEX WITHSCORES",
         "-BADREQUEST syntax error, WITHSCORES not supported in combination with BYLEX"},
        {"ZRANGEBYLEX z a b", NOT_NAME}, {"ZRANGEBYLEX z -a +", NOT_NAME}, {"ZRANGEBYLEX z \"\" +", NOT_NAME},
        {"ZRANGEBYLEX none - +", "[]"}, {"ZLEXCOUNT z - +", "6"}, {"ZLEXCOUNT z (a [c", "3"},
        {"ZLEXCOUNT z + -", "0"}, {"ZLEXCOUNT z 1 2", NOT_NAME}, {"ZLEXCOUNT none - +", "0"});
    /* Of several scores: from a name of the lowest to one of the highest. */
    FIXTURE_TABLE({"ZADD z 1 a 1 c 2 a 3 a 3 x 3 z", "4"}, {"ZRANGEBYLEX z - +", "[\"c\" \"a\" \"x\" \"z\"]"},
                  {"ZRANGEBYLEX z [c [x", "[\"c\" \"a\" \"x\"]"}, {"ZRANGEBYLEX z (c +", "[\"a\" \"x\" \"z\"]"},
                  {"ZRANGEBYLEX z [x [c", "[]"}, {"ZREMRANGEBYLEX z (a [a", "0"}, {"ZLEXCOUNT z + [z", "0"},
                  {"ZREVRANGEBYLEX z - [a", "[]"});
}

static void stores_ranges(void **state) {
    (void)state;
    FIXTURE_TABLE(ABCD, {"ZRANGESTORE {z}d z 1 2", "2"},
                  {"ZRANGE {z}d 0 -1 WITHSCORES", "[[\"b\" #2] [\"c\" #3]]"}, {"EXPIRE {z}d 100", "1"},
                  {"ZRANGESTORE {z}d z 0 0 REV", "1"}, {"TTL {z}d", "-1"}, {"ZRANGE {z}d 0 -1", "[\"d\"]"},
                  {"ZRANGESTORE {z}d z (1 +inf BYSCORE LIMIT 1 2", "2"}, {"ZRANGE {z}d 0 -1", "[\"c\" \"d\"]"},
                  {"ZRANGESTORE {z}d z [b (d BYLEX", "2"}, {"ZRANGESTORE {z}d z 5 6", "0"}, {"EXISTS {z}d", "0"},
                  {"SET {z}s v", "+OK"}, {"ZRANGESTORE {z}s z 0 1", "2"}, {"TYPE {z}s", "+zset"},
                  {"SET {z}s v", "+OK"}, {"ZRANGESTORE {z}s {z}none 0 -1", "0"}, {"EXISTS {z}s", "0"},
                  {"SET {z}s v", "+OK"}, {"ZRANGESTORE {z}d {z}s 0 -1", WRONGTYPE},
                  {"ZRANGESTORE {z}d z 0 -1 WITHSCORES", SYNTAX}, {"ZRANGESTORE z z 1 -1", "3"},
                  {"ZRANGE z 0 -1", "[\"b\" \"c\" \"d\"]"}, {"ZRANGESTORE z z + - BYLEX REV LIMIT 0 1", "1"},
                  {"ZRANGE z 0 -1", "[\"d\"]"}, {"ZRANGESTORE z z 1 -1", "0"}, {"EXISTS z", "0"},
                  {"ZRANGESTORE a b 0 1", "-CROSSSLOT Keys in request don't hash to the same slot"});
}

static void removes_ranges(void **state) {
    (void)state;
    FIXTURE_TABLE(ABCD, {"ZREMRANGEBYRANK z 1 2", "2"}, {"ZRANGE z 0 -1", "[\"a\" \"d\"]"},
                  {"ZREMRANGEBYRANK z 2 5", "0"}, {"ZREMRANGEBYRANK z -1 -1", "1"},
                  {"ZREMRANGEBYRANK z x 1", NOT_INT}, {"ZREMRANGEBYRANK none 0 -1", "0"},
                  {"ZREMRANGEBYRANK z 0 -1", "1"}, {"EXISTS z", "0"});
    FIXTURE_TABLE(ABCD, {"EXPIRE z 100", "1"}, {"ZREMRANGEBYSCORE z (1 2", "1"}, {"TTL z", "100"},
                  {"ZRANGE z 0 -1", "[\"a\" \"c\" \"d\"]"}, {"ZREMRANGEBYSCORE z 5 inf", "0"},
                  {"ZREMRANGEBYSCORE z x 1", NOT_FLOAT}, {"ZREMRANGEBYSCORE z -inf inf", "3"}, {"EXISTS z", "0"},
                  {"ZREMRANGEBYSCORE z -inf inf", "0"}, {"SET s v", "+OK"}, {"ZREMRANGEBYSCORE s 0 1", WRONGTYPE});
    FIXTURE_TABLE({"ZADD z 0 a 0 b 0 c", "3"}, {"ZREMRANGEBYLEX z [b +", "2"}, {"ZREMRANGEBYLEX z - (a", "0"},
                  {"ZREMRANGEBYLEX z b c", NOT_NAME}, {"ZREMRANGEBYLEX z - +", "1"}, {"EXISTS z", "0"});
}

static void fill(struct fixture *fixture, const char *key, uint64_t from, uint64_t count) {
    for (uint64_t i = from; i < from + count; i++) {
        buffer_clear(&fixture->body, 65536);
        mp_write_text(&fixture->body, "ZADD");
        mp_write_array(&fixture->body, 3);
        mp_write_text(&fixture->body, key);
        mp_write_uint(&fixture->body, i);
        mp_write_uint(&fixture->body, i);
        assert_string_equal(fixture_run_body(fixture, false, true), "1");
    }
}

/* More than one command may do at once: refused, and told without a walk; all of a set goes at any size. */
static void large_ranges_have_a_limit(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fill(&fixture, "z", 0, ELEMENTS_CHANGED_MAX + 2);
    uint64_t before = kv_memory_met(fixture.kv);
    fixture_expect(&fixture, "ZPOPMAX z 50001", "-TOOLARGE more than 50000 members to change at once");
    fixture_expect(&fixture, "ZREMRANGEBYSCORE z 1 inf", "-TOOLARGE more than 50000 members to change at once");
    fixture_expect(&fixture, "ZRANGESTORE {z}d z 0 -1", "-TOOLARGE more than 50000 members to change at once");
    fixture_expect(&fixture, "ZCOUNT z 10 50010", "49992");
    assert_true(kv_memory_met(fixture.kv) - before < 2000);
    fixture_expect(&fixture, "ZREMRANGEBYSCORE z 2 50001", "50000");
    fixture_expect(&fixture, "ZRANGE z 0 -1", "[\"0\" \"1\"]");
    fill(&fixture, "z", 2, ELEMENTS_CHANGED_MAX);
    fixture_expect(&fixture, "ZREMRANGEBYRANK z 0 -1", "50002");
    fixture_expect(&fixture, "EXISTS z", "0");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Names of more bytes than an answer or a change may have. */
static void large_names_have_a_limit(void **state) {
    (void)state;
    enum { COUNT = RESULT_BYTES_MAX / KEY_BYTES_MAX + 1 };
    struct fixture fixture;
    fixture_init(&fixture);
    static uint8_t name[KEY_BYTES_MAX];
    for (uint64_t i = 0; i < COUNT; i++) {
        put_u64(name, i);
        buffer_clear(&fixture.body, 65536);
        mp_write_text(&fixture.body, "ZADD");
        mp_write_array(&fixture.body, 3);
        mp_write_text(&fixture.body, "z");
        mp_write_uint(&fixture.body, i);
        mp_write_bin(&fixture.body, slice_of(name, sizeof name));
        assert_string_equal(fixture_run_body(&fixture, false, true), "1");
    }
    static const char *const refused[] = {"ZRANGESTORE {z}d z 0 -1", "ZPOPMIN z 2000", "ZUNIONSTORE {z}d 1 z",
                                          "ZRANDMEMBER z -2000"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        fixture_expect(&fixture, refused[i], "-TOOLARGE more than 67043328 bytes of members at once");
    }
    fixture_expect(&fixture, "ZRANGE z 0 -1", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "ZRANDMEMBER z 2000", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "ZREMRANGEBYRANK z 1 -1", "1023");
    fixture_expect(&fixture, "ZREMRANGEBYRANK z 0 -1", "1");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* A window of time: added at the end, removed from the start by scores, again and again. Counted in records, and in deleted
 * ones, that are met. */
static void a_window_costs_what_moves(void **state) {
    (void)state;
    enum { ROUNDS = 3000, WINDOW = 100 };
    struct fixture fixture;
    fixture_init(&fixture);
    fill(&fixture, "z", 0, WINDOW);
    uint64_t before = kv_memory_met(fixture.kv) + kv_memory_passed(fixture.kv);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        char line[64];
        snprintf(line, sizeof line, "ZREMRANGEBYSCORE z -inf %llu", (unsigned long long)i);
        fixture_expect(&fixture, line, "1");
        fill(&fixture, "z", WINDOW + i, 1);
        fixture_expect(&fixture, "ZCARD z", "100");
    }
    assert_true(kv_memory_met(fixture.kv) + kv_memory_passed(fixture.kv) - before < 40 * ROUNDS);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_rank),
        cmocka_unit_test(by_score),
        cmocka_unit_test(by_name),
        cmocka_unit_test(stores_ranges),
        cmocka_unit_test(removes_ranges),
        cmocka_unit_test(large_ranges_have_a_limit),
        cmocka_unit_test(large_names_have_a_limit),
        cmocka_unit_test(a_window_costs_what_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

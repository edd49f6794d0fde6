#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define SYNTAX    "-BADREQUEST syntax error"
#define POSITIVE  "-BADREQUEST value is out of range, must be positive"

#define ABCD                                                                                                      \
    { "ZADD z 1 a 2 b 3 c 4 d", "4" }

static void pops(void **state) {
    (void)state;
    FIXTURE_TABLE(ABCD, {"ZPOPMIN z", "[\"a\" #1]"}, {"ZPOPMAX z", "[\"d\" #4]"}, {"ZPOPMIN z 1", "[[\"b\" #2]]"},
                  {"ZPOPMIN z 0", "[]"}, {"ZPOPMIN z -1", POSITIVE}, {"ZPOPMIN z x", POSITIVE},
                  {"ZPOPMIN z 1 2", SYNTAX}, {"ZPOPMAX z 100", "[[\"c\" #3]]"}, {"EXISTS z", "0"},
                  {"ZPOPMIN z", "[]"}, {"ZPOPMAX z 3", "[]"}, {"SET s v", "+OK"}, {"ZPOPMIN s", WRONGTYPE},
                  {"ZPOPMIN s 0", WRONGTYPE}, {"ZPOPMIN s x", POSITIVE});
    FIXTURE_TABLE(ABCD, {"ZPOPMAX z 2", "[[\"d\" #4] [\"c\" #3]]"}, {"ZPOPMIN z 2", "[[\"a\" #1] [\"b\" #2]]"},
                  {"DBSIZE", "0"});
}

static void pops_of_several(void **state) {
    (void)state;
    FIXTURE_TABLE(ABCD, {"ZMPOP 2 {z}none z MIN", "[\"z\" [[\"a\" #1]]]"},
                  {"ZMPOP 1 z max COUNT 2", "[\"z\" [[\"d\" #4] [\"c\" #3]]]"},
                  {"ZMPOP 1 z MIN COUNT 9", "[\"z\" [[\"b\" #2]]]"}, {"ZMPOP 1 z MIN", "nil"}, {"EXISTS z", "0"},
                  {"ZMPOP 0 z MIN", "-BADREQUEST numkeys should be greater than 0"},
                  {"ZMPOP x z MIN", "-BADREQUEST numkeys should be greater than 0"}, {"ZMPOP 9 z MIN", SYNTAX},
                  {"ZMPOP 1 z WHAT", SYNTAX}, {"ZMPOP 1 z MIN COUNT", SYNTAX}, {"ZMPOP 1 z MIN WHAT 1", SYNTAX},
                  {"ZMPOP 1 z MIN COUNT 0", "-BADREQUEST count should be greater than 0"},
                  {"ZMPOP 1 z MIN COUNT x", "-BADREQUEST count should be greater than 0"},
                  {"ZMPOP 1 z MIN COUNT 1 COUNT 1", SYNTAX}, {"SET {z}s v", "+OK"}, ABCD,
                  {"ZMPOP 2 {z}s z MIN", WRONGTYPE}, {"ZMPOP 2 z {z}s MIN", "[\"z\" [[\"a\" #1]]]"});
}

/* Here nobody waits; where they do is lane_blocking_test's. */
static void blocking_forms(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"BZPOPMIN {t}z 0x", "-BADREQUEST timeout is not a float or out of range"},
        {"BZPOPMIN {t}z -1", "-BADREQUEST timeout is negative"},
        {"BZPOPMIN {t}z x", "-BADREQUEST timeout is not a float or out of range"}, {"ZADD {t}z 1 a 2 b 3 c", "3"},
        {"BZPOPMIN {t}none {t}z 0", "[\"{t}z\" \"a\" #1]"}, {"BZPOPMAX {t}z {t}none 0", "[\"{t}z\" \"c\" #3]"},
        {"BZPOPMAX {t}z x", "-BADREQUEST timeout is not a float or out of range"}, {"SET {t}s 1", "+OK"},
        {"BZPOPMIN {t}s {t}z 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"},
        {"BZPOPMIN {t}none {t}s 0.01", "-WRONGTYPE Operation against a key holding the wrong kind of value"},
        {"BZPOPMIN {t}none 0.01", "nil"}, {"ZADD {t}z 5 e", "1"},
        {"BZMPOP 0 1 {t}z MIN", "[\"{t}z\" [[\"b\" #2]]]"},
        {"BZMPOP 0 2 {t}none {t}z MAX COUNT 5", "[\"{t}z\" [[\"e\" #5]]]"},
        {"BZMPOP x 1 {t}z MIN", "-BADREQUEST timeout is not a float or out of range"},
        {"BZMPOP -1 1 {t}z MIN", "-BADREQUEST timeout is negative"},
        {"BZMPOP 0 0 {t}z MIN", "-BADREQUEST numkeys should be greater than 0"},
        {"BZMPOP 0 1 {t}z FOO", "-BADREQUEST syntax error"},
        {"BZMPOP 0 1 {t}z MIN COUNT 0", "-BADREQUEST count should be greater than 0"},
        {"BZMPOP 0 1 {t}z MIN COUNT", "-BADREQUEST syntax error"},
        {"BZMPOP 0 9 {t}z MIN", "-BADREQUEST syntax error"},
        {"BZMPOP x 0 {t}z MIN", "-BADREQUEST numkeys should be greater than 0"},
        {"BZMPOP x 1 {t}z FOO", "-BADREQUEST syntax error"}, {"BZMPOP 0.01 1 {t}none MIN", "nil"});
}

static void random_forms(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"ZRANDMEMBER z", "nil"}, {"ZRANDMEMBER z 3", "[]"}, {"ZRANDMEMBER z -3 WITHSCORES", "[]"},
        {"ZADD z 1 a", "1"}, {"ZRANDMEMBER z", "\"a\""}, {"ZRANDMEMBER z 0", "[]"}, {"ZRANDMEMBER z 5", "[\"a\"]"},
        {"ZRANDMEMBER z -3", "[\"a\" \"a\" \"a\"]"}, {"ZRANDMEMBER z -2 withscores", "[[\"a\" #1] [\"a\" #1]]"},
        {"ZRANDMEMBER z 9223372036854775807", "[\"a\"]"},
        {"ZRANDMEMBER z x", "-BADREQUEST value is not an integer or out of range"},
        {"ZRANDMEMBER z 1 WHAT", SYNTAX}, {"ZRANDMEMBER z 1 WITHSCORES x", SYNTAX},
        {"ZRANDMEMBER z -9223372036854775807 WITHSCORES", "-BADREQUEST value is out of range"},
        {"ZRANDMEMBER z -9223372036854775808",
         "-BADREQUEST value is out of range, value must between -9223372036854775807 and 9223372036854775807"},
        {"ZRANDMEMBER z -10001", "-TOOLARGE the count is limited to 10000"}, {"SET s v", "+OK"},
        {"ZRANDMEMBER s", WRONGTYPE}, {"ZRANDMEMBER s 1", WRONGTYPE});
}

/* Numbers as names, of an answer. */
static uint32_t read_numbers(const struct fixture *fixture, uint32_t *numbers) {
    struct mp_reader reader = mp_reader_of(buffer_slice(&fixture->answer));
    uint32_t count;
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        char text[16] = "";
        assert_int_equal(mp_read_bytes(&reader, &name), SK_OK);
        memcpy(text, name.data, name.size);
        numbers[i] = (uint32_t)strtoul(text, NULL, 10);
    }
    return count;
}

enum { MEMBERS = 500 };

/* Each member about as often as the others; none twice where none may be; in no order. */
static void check_draws(struct fixture *fixture, int wanted) {
    uint32_t numbers[MEMBERS * 2], seen[MEMBERS] = {0};
    int rounds = 200 * MEMBERS / abs(wanted), ascending = 0;
    char line[64];
    snprintf(line, sizeof line, "ZRANDMEMBER z %d", wanted);
    for (int round = 0; round < rounds; round++) {
        bool here[MEMBERS] = {false};
        fixture_run(fixture, line);
        uint32_t count = read_numbers(fixture, numbers);
        assert_int_equal(count, abs(wanted));
        for (uint32_t i = 0; i < count; i++) {
            assert_true(numbers[i] < MEMBERS);
            assert_false(wanted > 0 && here[numbers[i]]);
            here[numbers[i]] = true;
            seen[numbers[i]]++;
            ascending += i > 0 && numbers[i] > numbers[i - 1];
        }
    }
    for (int i = 0; i < MEMBERS; i++) assert_in_range(seen[i], 200 - 70, 200 + 70); /* five deviations */
    int pairs = rounds * (abs(wanted) - 1);
    if (wanted != 1) assert_in_range(ascending, pairs * 4 / 10, pairs * 6 / 10);
}

static void draws_are_even(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    for (int i = 0; i < MEMBERS; i++) {
        char line[64];
        snprintf(line, sizeof line, "ZADD z %d %d", i % 7, i);
        fixture_expect(&fixture, line, "1");
    }
    static const int counts[] = {1, 10, MEMBERS / 3, MEMBERS * 3 / 4, MEMBERS - 1, -10, -2 * MEMBERS};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) check_draws(&fixture, counts[i]);
    uint32_t seen[MEMBERS] = {0}, number;
    for (int i = 0; i < 200 * MEMBERS; i++) {
        const char *told = fixture_run(&fixture, "ZRANDMEMBER z");
        number = (uint32_t)strtoul(told + 1, NULL, 10);
        assert_true(number < MEMBERS);
        seen[number]++;
    }
    for (int i = 0; i < MEMBERS; i++) assert_in_range(seen[i], 200 - 70, 200 + 70);
    fixture_deinit(&fixture);
}

/* A queue by priority, which is popped from either end while it stays small: what has been popped is not passed again. */
static void a_queue_costs_what_it_moves(void **state) {
    (void)state;
    enum { ROUNDS = 5000 };
    static const char *const pops[] = {"ZPOPMIN z", "ZPOPMAX z"};
    for (int from_end = 0; from_end < 2; from_end++) {
        struct fixture fixture;
        fixture_init(&fixture);
        uint64_t before = 0;
        for (int i = 0; i < ROUNDS; i++) {
            char line[64];
            snprintf(line, sizeof line, "ZADD z %d m%d", from_end ? -i : i, i);
            fixture_expect(&fixture, line, "1");
            if (i < 50) continue;
            if (i == 50) before = kv_memory_met(fixture.kv) + kv_memory_passed(fixture.kv);
            fixture_run(&fixture, pops[from_end]);
            assert_int_equal(fixture.err, SK_OK);
        }
        fixture_expect(&fixture, "ZCARD z", "50");
        assert_true(kv_memory_met(fixture.kv) + kv_memory_passed(fixture.kv) - before < 20 * ROUNDS);
        fixture_audit(&fixture);
        fixture_deinit(&fixture);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pops),           cmocka_unit_test(pops_of_several),
        cmocka_unit_test(blocking_forms), cmocka_unit_test(random_forms),
        cmocka_unit_test(draws_are_even), cmocka_unit_test(a_queue_costs_what_it_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

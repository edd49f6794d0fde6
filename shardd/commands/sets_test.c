#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_INT   "-BADREQUEST value is not an integer or out of range"
#define SYNTAX    "-BADREQUEST syntax error"
#define POSITIVE  "-BADREQUEST value is out of range, must be positive"

static void adds_and_removes(void **state) {
    (void)state;
    FIXTURE_TABLE({"SCARD s", "0"}, {"SADD s a b a", "2"}, {"SADD s a", "0"}, {"SADD s \"\" :7", "2"},
                  {"SCARD s", "4"}, {"SISMEMBER s 7", "1"}, {"SISMEMBER s \"\"", "1"}, {"SISMEMBER s c", "0"},
                  {"SISMEMBER n c", "0"}, {"SMISMEMBER s a n b", "[1 0 1]"}, {"SMISMEMBER n a b", "[0 0]"},
                  {"TYPE s", "+set"}, {"SREM s a a n", "1"}, {"SREM n a", "0"}, {"SREM s n", "0"},
                  {"SCARD s", "3"}, {"EXPIRE s 10", "1"}, {"SADD s c", "1"}, {"SREM s c", "1"}, {"TTL s", "10"},
                  {"SREM s \"\" 7 b", "3"}, {"EXISTS s", "0"}, {"SADD s a", "1"}, {"TTL s", "-1"},
                  {"SADD s", "-BADREQUEST wrong number of arguments for 'sadd' command"},
                  {"SREM s", "-BADREQUEST wrong number of arguments for 'srem' command"});
    FIXTURE_TABLE({"SMEMBERS s", "[]"}, {"SADD s a b c", "3"}, {"SMEMBERS s", "[\"b\" \"c\" \"a\"]"},
                  {"SSCAN s 0", "[\"0\" [\"b\" \"c\" \"a\"]]"}, {"DEL s", "1"}, {"SMEMBERS s", "[]"});
}

static void moves(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET {k} x", "+OK"}, {"SADD k{k} a b", "2"}, {"SMOVE n{k} {k} a", "0"},
                  {"SMOVE k{k} {k} a", WRONGTYPE}, {"SMOVE k{k} {k} z", WRONGTYPE},
                  {"SMOVE {k} k{k} a", WRONGTYPE}, {"SMOVE {k} {k} a", WRONGTYPE}, {"SMOVE n{k} k{k} a", "0"},
                  {"SMOVE k{k} k{k} a", "1"}, {"SMOVE k{k} k{k} z", "0"}, {"SMOVE k{k} n{k} z", "0"},
                  {"EXISTS n{k}", "0"}, {"SMOVE k{k} n{k} a", "1"}, {"SMEMBERS n{k}", "[\"a\"]"},
                  {"SADD n{k} b", "1"}, {"SMOVE k{k} n{k} b", "1"}, {"EXISTS k{k}", "0"}, {"SCARD n{k}", "2"},
                  {"SMOVE k j a", "-CROSSSLOT Keys in request don't hash to the same slot"});
}

static void draws_members(void **state) {
    (void)state;
    FIXTURE_TABLE({"SRANDMEMBER n", "nil"}, {"SRANDMEMBER n 3", "[]"}, {"SADD s a", "1"},
                  {"SRANDMEMBER s", "\"a\""}, {"SRANDMEMBER s 0", "[]"}, {"SRANDMEMBER s 3", "[\"a\"]"},
                  {"SRANDMEMBER s -3", "[\"a\" \"a\" \"a\"]"}, {"SRANDMEMBER s x", NOT_INT},
                  {"SRANDMEMBER n x", NOT_INT}, {"SRANDMEMBER s 1 2", SYNTAX},
                  {"SRANDMEMBER s -9223372036854775808",
                   "-BADREQUEST value is out of range, value must between -9223372036854775807 and "
                   "9223372036854775807"},
                  {"SRANDMEMBER n -9223372036854775807", "[]"}, {"SRANDMEMBER s 9223372036854775807", "[\"a\"]"},
                  {"SRANDMEMBER s -10001", "-TOOLARGE count is limited to 10000, unless it is that of all"},
                  {"SCARD s", "1"});
}

static void pops_members(void **state) {
    (void)state;
    FIXTURE_TABLE({"SPOP n", "nil"}, {"SPOP n 3", "[]"}, {"SADD s a", "1"}, {"SPOP s 0", "[]"},
                  {"SPOP s -1", POSITIVE}, {"SPOP n -1", POSITIVE}, {"SPOP s x", POSITIVE}, {"SPOP s 1 2", SYNTAX},
                  {"SPOP s 9223372036854775808", POSITIVE}, {"SPOP s", "\"a\""}, {"EXISTS s", "0"},
                  {"SADD s a b c", "3"}, {"SPOP s 9223372036854775807", "[\"b\" \"c\" \"a\"]"}, {"EXISTS s", "0"},
                  {"SADD s a b c", "3"}, {"SPOP s 3", "[\"b\" \"c\" \"a\"]"}, {"EXISTS s", "0"}, {"SADD s a", "1"},
                  {"EXPIRE s 5", "1"}, {"@5000", ""}, {"SPOP s", "nil"});
}

static void other_types_are_refused(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "HSET h a 1", "1");
    static const char *const refused[] = {
        "SADD h a", "SREM h a",      "SISMEMBER h a", "SMISMEMBER h a", "SMEMBERS h",      "SCARD h",    "SPOP h",
        "SPOP h 0", "SRANDMEMBER h", "SSCAN h 0",     "SSCAN h 0 x",    "SRANDMEMBER h 0", "SMOVE h h a"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        fixture_expect(&fixture, refused[i], WRONGTYPE);
    }
    fixture_expect(&fixture, "SPOP h x", POSITIVE);
    fixture_expect(&fixture, "SRANDMEMBER h x", NOT_INT);
    fixture_expect(&fixture, "SRANDMEMBER h 1 2", SYNTAX);
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* SADD of the numbers from `first` on. */
static void add_numbers(struct fixture *fixture, const char *key, unsigned first, unsigned count) {
    buffer_clear(&fixture->body, 0);
    mp_write_text(&fixture->body, "SADD");
    mp_write_array(&fixture->body, 1 + count);
    mp_write_text(&fixture->body, key);
    for (unsigned i = 0; i < count; i++) mp_write_uint(&fixture->body, first + i);
    fixture_run_body(fixture, false, true);
    assert_int_equal(fixture->err, SK_OK);
}

/* Counts the members "0" to "<limit - 1>" of an answer that is an array. */
static uint32_t count_numbers(struct fixture *fixture, unsigned *seen, unsigned limit) {
    struct mp_reader reader = mp_reader_of(buffer_slice(&fixture->answer));
    uint32_t count;
    assert_int_equal(fixture->err, SK_OK);
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct slice bytes;
        uint64_t number;
        assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
        assert_true(args_parse_uint(bytes, &number) && number < limit);
        seen[number]++;
    }
    return count;
}

/* Whatever way is taken to choose them: what is popped is gone, each once, and nothing else. */
static void what_is_popped_is_gone(void **state) {
    (void)state;
    enum { MEMBERS = 20000 };
    static const unsigned counts[] = {1, 2, 7, 100, 600, 5000, 10000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct fixture fixture;
        static unsigned seen[MEMBERS];
        char line[64];
        memset(seen, 0, sizeof seen);
        fixture_init(&fixture);
        add_numbers(&fixture, "s", 0, MEMBERS - 1);
        unsigned left = MEMBERS - 1;
        for (unsigned round = 0; round < 20 && left > 0; round++) {
            snprintf(line, sizeof line, "SPOP s %u", counts[i]);
            fixture_run(&fixture, line);
            unsigned popped = left < counts[i] ? left : counts[i];
            assert_int_equal(count_numbers(&fixture, seen, MEMBERS), popped);
            left -= popped;
            snprintf(line, sizeof line, "%u", left);
            fixture_expect(&fixture, "SCARD s", line);
        }
        fixture_run(&fixture, "SMEMBERS s");
        assert_int_equal(count_numbers(&fixture, seen, MEMBERS), left);
        for (unsigned number = 0; number < MEMBERS - 1; number++) assert_int_equal(seen[number], 1);
        fixture_audit(&fixture);
        fixture_deinit(&fixture);
    }
}

static void what_one_pop_takes_is_limited(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    add_numbers(&fixture, "s", 0, 15000);
    fixture_expect(&fixture, "SPOP s 10001", "-TOOLARGE count is limited to 10000, unless it is that of all");
    fixture_expect(&fixture, "SCARD s", "15000");
    fixture_run(&fixture, "SPOP s 15000");
    static unsigned seen[15000];
    assert_int_equal(count_numbers(&fixture, seen, 15000), 15000);
    fixture_expect(&fixture, "EXISTS s", "0");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* The commands of one batch draw for themselves. */
static void a_batch_draws_again_and_again(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    add_numbers(&fixture, "s", 0, 1000);
    static const char *const lines[] = {"SRANDMEMBER s", "SRANDMEMBER s", "SRANDMEMBER s", "SPOP s"};
    unsigned differ = 0;
    for (int i = 0; i < 10; i++) {
        fixture_run_atomic(&fixture, lines, 4);
        assert_int_equal(fixture.err, SK_OK);
        unsigned first, second, third, popped;
        assert_int_equal(sscanf((const char *)fixture.told.data,
                                "[[nil \"%u\"] [nil \"%u\"] [nil \"%u\"] [nil \"%u\"]]", &first, &second, &third,
                                &popped),
                         4);
        differ += first != second && second != third && first != third;
    }
    assert_true(differ >= 8);
    fixture_expect(&fixture, "SCARD s", "990");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* What was drawn says nothing but the entry's chance, so all replicas draw the same. */
static void replicas_pop_the_same(void **state) {
    (void)state;
    struct fixture fixtures[2];
    for (int i = 0; i < 2; i++) fixture_init(&fixtures[i]);
    for (int i = 0; i < 2; i++) add_numbers(&fixtures[i], "s", 0, 5000);
    static const char *const lines[] = {"SPOP s", "SPOP s 3", "SPOP s 400"};
    for (int round = 0; round < 12; round++) {
        fixture_run(&fixtures[0], lines[round % 3]);
        fixtures[1].chance = fixtures[0].chance - 1;
        assert_string_equal((const char *)fixtures[0].told.data, fixture_run(&fixtures[1], lines[round % 3]));
        fixture_run(&fixtures[0], "SRANDMEMBER s"); /* what one of them reads changes nothing */
    }
    for (int i = 0; i < 2; i++) fixture_deinit(&fixtures[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_and_removes),
        cmocka_unit_test(moves),
        cmocka_unit_test(draws_members),
        cmocka_unit_test(pops_members),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(what_is_popped_is_gone),
        cmocka_unit_test(what_one_pop_takes_is_limited),
        cmocka_unit_test(a_batch_draws_again_and_again),
        cmocka_unit_test(replicas_pop_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

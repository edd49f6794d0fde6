#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define SYNTAX    "-BADREQUEST syntax error"
#define NUMKEYS   "-BADREQUEST numkeys should be greater than 0"
#define TOO_MANY  "-BADREQUEST Number of keys can't be greater than number of args"
#define LIMIT     "-BADREQUEST LIMIT can't be negative"

/* Members lie in the order d b c a; a union tells those of its first set first. */
static void intersects(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET s{k} x", "+OK"}, {"SADD {k} a b c d", "4"}, {"SADD 2{k} b c d e", "4"},
                  {"SADD 3{k} d c x", "3"}, {"SINTER {k} 2{k}", "[\"d\" \"b\" \"c\"]"},
                  {"SINTER 2{k} 3{k} {k}", "[\"d\" \"c\"]"}, {"SINTER {k} {k} 3{k}", "[\"d\" \"c\"]"},
                  {"SINTER 3{k}", "[\"d\" \"c\" \"x\"]"}, {"SINTER n{k}", "[]"}, {"SINTER {k} n{k}", "[]"},
                  {"SINTER n{k} {k} s{k}", WRONGTYPE}, {"SINTER s{k} n{k}", WRONGTYPE},
                  {"SINTER k j", "-CROSSSLOT Keys in request don't hash to the same slot"});
}

static void unites(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET s{k} x", "+OK"}, {"SADD {k} a b", "2"}, {"SADD 2{k} b c", "2"},
                  {"SUNION {k}", "[\"b\" \"a\"]"}, {"SUNION {k} {k}", "[\"b\" \"a\"]"},
                  {"SUNION {k} 2{k}", "[\"b\" \"a\" \"c\"]"}, {"SUNION n{k} 2{k} {k}", "[\"b\" \"c\" \"a\"]"},
                  {"SUNION n{k}", "[]"}, {"SUNION {k} s{k}", WRONGTYPE}, {"SUNION n{k} s{k}", WRONGTYPE});
}

static void subtracts(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET s{k} x", "+OK"}, {"SADD {k} a b c d", "4"}, {"SADD 2{k} b x", "2"}, {"SADD 3{k} d", "1"},
                  {"SDIFF {k}", "[\"d\" \"b\" \"c\" \"a\"]"}, {"SDIFF {k} 2{k}", "[\"d\" \"c\" \"a\"]"},
                  {"SDIFF {k} 2{k} n{k} 3{k}", "[\"c\" \"a\"]"}, {"SDIFF {k} {k}", "[]"}, {"SDIFF n{k} {k}", "[]"},
                  {"SDIFF n{k} s{k}", WRONGTYPE}, {"SDIFF s{k} {k}", WRONGTYPE},
                  {"SDIFF {k} 3{k} s{k}", WRONGTYPE});
}

static void stores(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET s{k} x", "+OK"}, {"SADD {k} a b c", "3"}, {"SADD 2{k} b c d", "3"},
                  {"SINTERSTORE d{k} n{k} s{k}", WRONGTYPE}, {"EXISTS d{k}", "0"},
                  {"SINTERSTORE d{k} {k} 2{k}", "2"}, {"SMEMBERS d{k}", "[\"b\" \"c\"]"},
                  {"SUNIONSTORE d{k} {k} 2{k}", "4"}, {"SMEMBERS d{k}", "[\"d\" \"b\" \"c\" \"a\"]"},
                  {"SDIFFSTORE d{k} {k} 2{k}", "1"}, {"SMEMBERS d{k}", "[\"a\"]"},
                  {"SDIFFSTORE d{k} {k} {k}", "0"}, {"EXISTS d{k}", "0"}, {"SUNIONSTORE d{k} n{k}", "0"},
                  {"EXISTS d{k}", "0"}, {"SINTERSTORE s{k} {k} 2{k}", "2"}, {"TYPE s{k}", "+set"},
                  {"SET s{k} x EX 10", "+OK"}, {"SUNIONSTORE s{k} {k}", "3"}, {"TTL s{k}", "-1"},
                  {"SET s{k} x", "+OK"}, {"SINTERSTORE s{k} {k} n{k}", "0"}, {"EXISTS s{k}", "0"});
    /* onto one of its sets, and what it had is gone */
    FIXTURE_TABLE({"SADD {k} a b", "2"}, {"SADD 2{k} b c", "2"}, {"EXPIRE {k} 10", "1"},
                  {"SUNIONSTORE {k} {k} 2{k}", "3"}, {"TTL {k}", "-1"}, {"SMEMBERS {k}", "[\"b\" \"c\" \"a\"]"},
                  {"SDIFFSTORE {k} {k} 2{k}", "1"}, {"SMEMBERS {k}", "[\"a\"]"}, {"SINTERSTORE {k} {k} {k}", "1"},
                  {"SINTERSTORE {k} {k} 2{k}", "0"}, {"EXISTS {k}", "0"});
}

static void counts(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET s{k} x", "+OK"}, {"SADD {k} a b c d", "4"}, {"SADD 2{k} b c d e", "4"},
                  {"SINTERCARD 1 {k}", "4"}, {"SINTERCARD 2 {k} 2{k}", "3"}, {"SINTERCARD 2 {k} n{k}", "0"},
                  {"SINTERCARD 2 {k} 2{k} LIMIT 0", "3"}, {"SINTERCARD 2 {k} 2{k} limit 2", "2"},
                  {"SINTERCARD 2 {k} 2{k} LIMIT 9", "3"}, {"SINTERCARD 1 {k} LIMIT 2 LIMIT 3", "3"},
                  {"SINTERCARD 0 {k}", NUMKEYS}, {"SINTERCARD x {k}", NUMKEYS}, {"SINTERCARD -1 {k}", NUMKEYS},
                  {"SINTERCARD 9223372036854775808 {k}", NUMKEYS}, {"SINTERCARD 2 {k}", TOO_MANY},
                  {"SINTERCARD 4294967297 {k}", TOO_MANY}, {"SINTERCARD 1 {k} LIMIT", SYNTAX},
                  {"SINTERCARD 1 {k} x", SYNTAX}, {"SINTERCARD 1 {k} LIMIT 1 x", SYNTAX},
                  {"SINTERCARD 1 {k} LIMIT -1", LIMIT}, {"SINTERCARD 1 {k} LIMIT x", LIMIT},
                  {"SINTERCARD 1 s{k}", WRONGTYPE}, {"SINTERCARD 2 n{k} s{k}", WRONGTYPE},
                  {"SINTERCARD 1 s{k} LIMIT -1", LIMIT}, {"SINTERCARD 1 s{k} x", SYNTAX},
                  {"SINTERCARD", "-BADREQUEST wrong number of arguments for 'sintercard' command"},
                  {"SINTERCARD 2 k j", "-CROSSSLOT Keys in request don't hash to the same slot"});
}

/* Random sets of numbers against the same as bits. */

enum { NUMBERS = 3000, SETS = 4 };

static bool bits[SETS + 1][NUMBERS];

static void fill(struct fixture *fixture, unsigned set, unsigned *seed) {
    unsigned share = 1 + (unsigned)rand_r(seed) % 8;
    char line[64];
    memset(bits[set], 0, sizeof bits[set]);
    snprintf(line, sizeof line, "{s}%u", set);
    struct buffer params = {0};
    uint32_t count = 1;
    mp_write_text(&params, line);
    for (unsigned i = 0; i < NUMBERS; i++) {
        bits[set][i] = (unsigned)rand_r(seed) % 8 < share;
        if (!bits[set][i]) continue;
        mp_write_uint(&params, i);
        count++;
    }
    buffer_clear(&fixture->body, 0);
    mp_write_text(&fixture->body, "SADD");
    mp_write_array(&fixture->body, count);
    mp_write_raw(&fixture->body, buffer_slice(&params));
    fixture_run_body(fixture, false, true);
    assert_int_equal(fixture->err, SK_OK);
    buffer_deinit(&params);
}

static bool is_in(int operation, unsigned sets, unsigned number) {
    bool in = bits[0][number];
    for (unsigned set = 1; set < sets; set++) {
        bool other = bits[set][number];
        in = operation == 0 ? in && other : operation == 1 ? in || other : in && !other;
    }
    return in;
}

static void expect_numbers(struct fixture *fixture, int operation, unsigned sets) {
    struct mp_reader reader = mp_reader_of(buffer_slice(&fixture->answer));
    static bool seen[NUMBERS];
    uint32_t count;
    memset(seen, 0, sizeof seen);
    assert_int_equal(fixture->err, SK_OK);
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct slice bytes;
        uint64_t number;
        assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
        assert_true(args_parse_uint(bytes, &number) && number < NUMBERS && !seen[number]);
        seen[number] = true;
    }
    for (unsigned i = 0; i < NUMBERS; i++) assert_int_equal(seen[i], is_in(operation, sets, i));
}

static void agrees_with_bits(void **state) {
    (void)state;
    static const char *const names[] = {"SINTER", "SUNION", "SDIFF"};
    for (unsigned seed = 1; seed <= 10; seed++) {
        print_message("seed %u\n", seed);
        unsigned random = seed;
        struct fixture fixture;
        fixture_init(&fixture);
        for (unsigned set = 0; set < SETS; set++) fill(&fixture, set, &random);
        for (int operation = 0; operation < 3; operation++) {
            for (unsigned sets = 1; sets <= SETS; sets++) {
                char keys[64] = "", line[128];
                for (unsigned set = 0; set < sets; set++) snprintf(keys + 5 * set, 6, " {s}%u", set);
                snprintf(line, sizeof line, "%s%s", names[operation], keys);
                fixture_run(&fixture, line);
                expect_numbers(&fixture, operation, sets);
                snprintf(line, sizeof line, "%sSTORE {s}d%s", names[operation], keys);
                fixture_run(&fixture, line);
                fixture_audit(&fixture);
                fixture_run(&fixture, "SMEMBERS {s}d");
                expect_numbers(&fixture, operation, sets);
            }
        }
        fixture_deinit(&fixture);
    }
}

/* Hashes that all are one: a union still has everything once. */
static uint64_t one_hash(struct slice key) {
    (void)key;
    return 0x1234567890abcdef;
}

static void names_that_collide_are_told_apart(void **state) {
    (void)state;
    static const struct keyspace_hasher hasher = {.hash64 = one_hash};
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &hasher;
    fixture_expect(&fixture, "SADD {k} a b c", "3");
    fixture_expect(&fixture, "SADD 2{k} b c d", "3");
    fixture_expect(&fixture, "SUNION {k} 2{k}", "[\"a\" \"b\" \"c\" \"d\"]");
    fixture_expect(&fixture, "SINTER {k} 2{k}", "[\"b\" \"c\"]");
    fixture_deinit(&fixture);
}

static void add_numbers(struct fixture *fixture, const char *key, unsigned first, unsigned count) {
    for (unsigned done = 0; done < count; done += 10000) {
        unsigned part = count - done < 10000 ? count - done : 10000;
        buffer_clear(&fixture->body, 0);
        mp_write_text(&fixture->body, "SADD");
        mp_write_array(&fixture->body, 1 + part);
        mp_write_text(&fixture->body, key);
        for (unsigned i = 0; i < part; i++) mp_write_uint(&fixture->body, first + done + i);
        fixture_run_body(fixture, false, true);
        assert_int_equal(fixture->err, SK_OK);
    }
}

static void work_is_limited(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    add_numbers(&fixture, "{k}", 0, 250001);
    fixture_expect(&fixture, "SUNIONSTORE d{k} {k}", "-TOOLARGE the sets are too large for one command");
    fixture_expect(&fixture, "EXISTS d{k}", "0");
    fixture_expect(&fixture, "SREM {k} 7", "1");
    fixture_expect(&fixture, "SUNIONSTORE d{k} {k}", "250000");
    fixture_audit(&fixture);
    /* half a million is walked over, and as much compared and a little more; or four looked up for each of a quarter */
    fixture_expect(&fixture, "SUNION {k} {k} {k}", "-TOOLARGE the sets are too large for one command");
    fixture_expect(&fixture, "SINTERCARD 5 {k} {k} {k} {k} d{k}",
                   "-TOOLARGE the sets are too large for one command");
    fixture_expect(&fixture, "SINTERCARD 5 {k} {k} {k} {k} d{k} LIMIT 1000", "1000");
    fixture_deinit(&fixture);
}

/* A long key whose record is refused: nothing is left of what had been stored for it. */
static void same_hash128(struct slice key, uint8_t hash[16]) {
    (void)key;
    memset(hash, 7, 16);
}

static void a_refused_key_leaves_nothing(void **state) {
    (void)state;
    static const struct keyspace_hasher hasher = {.hash64 = one_hash, .hash128 = same_hash128};
    static const char *const commands[] = {"SADD %s a b",    "HSET %s a 1 b 2",     "HSETNX %s a 1",
                                           "HINCRBY %s a 1", "SUNIONSTORE %s {k}s", "SMOVE {k}s %s a"};
    struct fixture fixture;
    char key[520], line[600];
    fixture_init(&fixture);
    fixture.exec.hasher = &hasher;
    fixture_expect(&fixture, "SADD {k}s a b", "2");
    memset(key, 'x', 500);
    memcpy(key, "{k}", 3);
    for (unsigned i = 0; i < KEYSPACE_DISCRIMINATORS; i++) {
        snprintf(key + 495, sizeof key - 495, "%04u", i);
        snprintf(line, sizeof line, "SET %s v", key);
        fixture_expect(&fixture, line, "+OK");
    }
    snprintf(key + 495, sizeof key - 495, "last");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const char *hole = strstr(commands[i], "%s");
        snprintf(line, sizeof line, "%.*s%s%s", (int)(hole - commands[i]), commands[i], key, hole + 2);
        fixture_expect(&fixture, line, "-TOOLARGE too many keys with the hash of this one");
        fixture_audit(&fixture);
    }
    fixture_expect(&fixture, "SCARD {k}s", "2");
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intersects),
        cmocka_unit_test(unites),
        cmocka_unit_test(subtracts),
        cmocka_unit_test(stores),
        cmocka_unit_test(counts),
        cmocka_unit_test(agrees_with_bits),
        cmocka_unit_test(names_that_collide_are_told_apart),
        cmocka_unit_test(work_is_limited),
        cmocka_unit_test(a_refused_key_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

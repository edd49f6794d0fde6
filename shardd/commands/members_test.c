#include "shardd/commands/members.h"

#include "shardd/exec_fixture.h"

#include <math.h>

enum { MEMBERS_MAX = 20000 };

static void run_numbers(struct fixture *fixture, const char *method, const char *key, unsigned first,
                        unsigned count) {
    for (unsigned done = 0; done < count; done += 10000) {
        unsigned part = count - done < 10000 ? count - done : 10000;
        buffer_clear(&fixture->body, 0);
        mp_write_text(&fixture->body, method);
        mp_write_array(&fixture->body, 1 + part);
        mp_write_text(&fixture->body, key);
        for (unsigned i = 0; i < part; i++) mp_write_uint(&fixture->body, first + done + i);
        fixture_run_body(fixture, false, true);
        assert_int_equal(fixture->err, SK_OK);
    }
}

/* Counts the numbers of the last answer, an array. */
static uint32_t count_numbers(struct fixture *fixture, unsigned *seen) {
    struct mp_reader reader = mp_reader_of(buffer_slice(&fixture->answer));
    uint32_t count;
    assert_int_equal(fixture->err, SK_OK);
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct slice bytes;
        uint64_t number;
        assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
        assert_true(args_parse_uint(bytes, &number) && number < MEMBERS_MAX);
        seen[number]++;
    }
    return count;
}

/* SRANDMEMBER s <count> without telling the answer as text, which takes longer than drawing. */
static uint32_t draw(struct fixture *fixture, int64_t count, unsigned *seen) {
    buffer_clear(&fixture->body, 65536);
    buffer_clear(&fixture->answer, 1u << 20);
    mp_write_text(&fixture->body, "SRANDMEMBER");
    mp_write_array(&fixture->body, 2);
    mp_write_text(&fixture->body, "s");
    mp_write_int(&fixture->body, count);
    struct exec_moment moment = fixture_moment(fixture);
    moment.chance *= 0x123456789abcdefu; /* as far apart as a lane's */
    fixture->err = exec_read(&fixture->exec, buffer_slice(&fixture->body), &moment, &fixture->answer);
    return count_numbers(fixture, seen);
}

/* Chi squared of equally likely members has a mean of `members` - 1 and a variance of twice that. */
static double deviation(const unsigned *seen, unsigned members, double expected) {
    double chi = 0, degrees = members - 1;
    for (unsigned i = 0; i < members; i++) chi += (seen[i] - expected) * (seen[i] - expected) / expected;
    return (chi - degrees) / sqrt(2 * degrees);
}

/* Whatever the size of the set and the way that is taken. Where members are not repeated chi squared is smaller. */
static void draws_are_uniform(void **state) {
    (void)state;
    static const struct {
        unsigned members;
        int64_t count;
    } cases[] = {{2, -500},      {7, -500},  {7, 3},      {128, -1000},   {128, 17}, {129, -1000},
                 {1000, -10000}, {1000, 20}, {1000, 300}, {5000, -10000}, {5000, 50}};
    static unsigned seen[MEMBERS_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture fixture;
        fixture_init(&fixture);
        run_numbers(&fixture, "SADD", "s", 0, cases[i].members);
        memset(seen, 0, sizeof seen);
        uint64_t each = (uint64_t)llabs(cases[i].count), drawn = 0;
        while (drawn < 10 * cases[i].members) drawn += draw(&fixture, cases[i].count, seen);
        assert_int_equal(drawn % each, 0);
        double sigmas = deviation(seen, cases[i].members, (double)drawn / cases[i].members);
        print_message("%u members, count %lld: %.1f sigma\n", cases[i].members, (long long)cases[i].count, sigmas);
        assert_true(sigmas < 4.5);
        fixture_deinit(&fixture);
    }
}

static void what_is_not_repeated_differs(void **state) {
    (void)state;
    static const unsigned counts[] = {1, 2, 10, 100, 600, 700, 5000, 9999};
    static unsigned seen[MEMBERS_MAX];
    struct fixture fixture;
    fixture_init(&fixture);
    run_numbers(&fixture, "SADD", "s", 0, MEMBERS_MAX);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        memset(seen, 0, sizeof seen);
        assert_int_equal(draw(&fixture, counts[i], seen), counts[i]);
        for (unsigned number = 0; number < MEMBERS_MAX; number++) assert_true(seen[number] <= 1);
    }
    fixture_deinit(&fixture);
}

static uint64_t two_hashes(struct slice key) {
    return key.size > 0 && key.data[key.size - 1] == '7' ? 77 : 0xf000000000000000u;
}

/* Crafted names: draws still end, and give what was asked for. */
static void names_that_collide_are_drawn(void **state) {
    (void)state;
    static const struct keyspace_hasher hasher = {.hash64 = two_hashes};
    static unsigned seen[MEMBERS_MAX];
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &hasher;
    run_numbers(&fixture, "SADD", "s", 0, 19000);
    for (unsigned count = 1; count < 600; count = 3 * count + 1) {
        memset(seen, 0, sizeof seen);
        assert_int_equal(draw(&fixture, count, seen), count);
        for (unsigned number = 0; number < MEMBERS_MAX; number++) assert_true(seen[number] <= 1);
        assert_int_equal(draw(&fixture, -(int64_t)count, seen), count);
    }
    fixture_run(&fixture, "SPOP s 50");
    assert_int_equal(fixture.err, SK_OK);
    fixture_expect(&fixture, "SCARD s", "18950");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* What a set once had does not make it slow: neither to draw from nor to tell, and not its neighbours either. */
static void what_was_removed_is_not_passed_again(void **state) {
    (void)state;
    static unsigned seen[MEMBERS_MAX];
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SADD before a", "1");
    run_numbers(&fixture, "SADD", "s", 0, MEMBERS_MAX);
    fixture_expect(&fixture, "SADD behind a", "1");
    run_numbers(&fixture, "SREM", "s", 10, MEMBERS_MAX - 10);
    fixture_audit(&fixture);
    uint64_t passed = kv_memory_passed(fixture.kv);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(draw(&fixture, -1, seen), 1);
        fixture_run(&fixture, "SMEMBERS s");
        assert_int_equal(count_numbers(&fixture, seen), 10);
        fixture_expect(&fixture, "SMEMBERS before", "[\"a\"]");
        fixture_expect(&fixture, "SRANDMEMBER before", "\"a\"");
        fixture_expect(&fixture, "SMEMBERS behind", "[\"a\"]");
    }
    assert_int_equal(kv_memory_passed(fixture.kv), passed);
    fixture_deinit(&fixture);
}

/* Popping all, one by one, passes each that is gone a few times. */
static void popping_all_costs_a_little_each(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    run_numbers(&fixture, "SADD", "s", 0, MEMBERS_MAX);
    uint64_t passed = kv_memory_passed(fixture.kv), met = kv_memory_met(fixture.kv);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        fixture_run(&fixture, "SPOP s");
        assert_int_equal(fixture.err, SK_OK);
        if (i % 5000 == 0) fixture_audit(&fixture);
    }
    fixture_expect(&fixture, "EXISTS s", "0");
    fixture_audit(&fixture);
    print_message("%u popped: %llu passed, %llu met\n", MEMBERS_MAX,
                  (unsigned long long)(kv_memory_passed(fixture.kv) - passed),
                  (unsigned long long)(kv_memory_met(fixture.kv) - met));
    assert_true(kv_memory_passed(fixture.kv) - passed < 200u * MEMBERS_MAX);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_are_uniform),
        cmocka_unit_test(what_is_not_repeated_differs),
        cmocka_unit_test(names_that_collide_are_drawn),
        cmocka_unit_test(what_was_removed_is_not_passed_again),
        cmocka_unit_test(popping_all_costs_a_little_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

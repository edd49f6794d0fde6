#include "shardd/commands/scan_page.h"

#include "shardd/exec_fixture.h"

#define NOT_INT "-BADREQUEST value is not an integer or out of range"
#define SYNTAX  "-BADREQUEST syntax error"
#define CURSOR  "-BADREQUEST invalid cursor"

static void options_are_checked(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"HSET h a 1", "1"}, {"SADD s a", "1"},
        {"HSCAN h", "-BADREQUEST wrong number of arguments for 'hscan' command"},
        {"HSCAN h 0", "[\"0\" [\"a\" \"1\"]]"}, {"SSCAN s :0", "[\"0\" [\"a\"]]"}, {"HSCAN h x", CURSOR},
        {"HSCAN n x", CURSOR}, {"HSCAN h \" 0\"", CURSOR}, {"HSCAN h 18446744073709551616", CURSOR},
        {"HSCAN h 18446744073709551615", "[\"0\" []]"}, {"HSCAN h 281474976710655", "[\"0\" []]"},
        {"HSCAN h 281474976710656", "[\"0\" []]"}, {"HSCAN n 0", "[\"0\" []]"}, {"HSCAN n 0 WHAT", "[\"0\" []]"},
        {"HSCAN h 0 WHAT", SYNTAX}, {"HSCAN h 0 WHAT x", SYNTAX}, {"SSCAN s 0 COUNT 0", SYNTAX},
        {"SSCAN s 0 COUNT x", NOT_INT}, {"SSCAN s 0 COUNT", SYNTAX}, {"SSCAN s 0 MATCH", SYNTAX},
        {"SSCAN s 0 TYPE set", SYNTAX}, {"SSCAN s 0 MATCH x*", "[\"0\" []]"},
        {"SSCAN s 0 MATCH x MATCH a COUNT 1 COUNT 5", "[\"0\" [\"a\"]]"}, {"HSCAN h 0 MATCH 1", "[\"0\" []]"},
        {"SSCAN s 0 COUNT 10001", "-TOOLARGE COUNT is limited to 10000"});
}

/* One page: the next cursor into `cursor`; of each name, a number, seen[] is raised. Answers how many items there are. */
static uint32_t scan(struct fixture *fixture, const char *method, char cursor[32], unsigned count,
                     unsigned per_name, unsigned *seen) {
    char line[100];
    snprintf(line, sizeof line, "%s k %s COUNT %u", method, cursor, count);
    fixture_run(fixture, line);
    assert_int_equal(fixture->err, SK_OK);
    struct mp_reader reader = mp_reader_of(buffer_slice(&fixture->answer));
    uint32_t items;
    struct slice bytes;
    assert_int_equal(mp_read_array(&reader, &items), SK_OK);
    assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
    snprintf(cursor, 32, "%.*s", (int)bytes.size, (const char *)bytes.data);
    assert_int_equal(mp_read_array(&reader, &items), SK_OK);
    for (uint32_t i = 0; i < items; i++) {
        assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
        uint64_t number;
        if (i % per_name == 0 && args_parse_uint(bytes, &number)) seen[number]++;
    }
    return items;
}

static void change(struct fixture *fixture, bool adds, bool is_hash, unsigned number) {
    char line[64];
    const char *method = is_hash ? (adds ? "HSET" : "HDEL") : adds ? "SADD" : "SREM";
    snprintf(line, sizeof line, "%s k %u%s", method, number, is_hash && adds ? " v" : "");
    fixture_run(fixture, line);
    assert_int_equal(fixture->err, SK_OK);
}

/* Redis's promise, also across the moving of the elements to a new id, which many removals bring about. */
static void sees_what_stays(void **state) {
    (void)state;
    enum { STAY = 300, ALL = 4000 };
    unsigned seed = 77;
    print_message("seed %u\n", seed);
    for (int is_hash = 0; is_hash < 2; is_hash++) {
        for (unsigned count = 1; count <= 100; count = count * 4 + 1) {
            struct fixture fixture;
            static unsigned seen[ALL];
            char cursor[32] = "0";
            const char *method = is_hash ? "HSCAN" : "SSCAN";
            unsigned per_name = is_hash ? 2 : 1;
            fixture_init(&fixture);
            memset(seen, 0, sizeof seen);
            for (unsigned i = 0; i < STAY; i++) change(&fixture, true, is_hash, i);
            do {
                uint32_t items = scan(&fixture, method, cursor, count, per_name, seen);
                assert_true(items == count * per_name || strcmp(cursor, "0") == 0);
            } while (strcmp(cursor, "0") != 0);
            for (unsigned i = 0; i < STAY; i++) assert_int_equal(seen[i], 1);
            memset(seen, 0, sizeof seen);
            for (unsigned i = STAY; i < ALL; i++) change(&fixture, true, is_hash, i);
            unsigned gone = STAY;
            do {
                scan(&fixture, method, cursor, count, per_name, seen);
                for (unsigned i = 0; i < count && gone < ALL; i++) change(&fixture, false, is_hash, gone++);
                change(&fixture, rand_r(&seed) % 2 == 0, is_hash, STAY + (unsigned)rand_r(&seed) % (ALL - STAY));
            } while (strcmp(cursor, "0") != 0);
            for (unsigned i = 0; i < STAY; i++) assert_int_equal(seen[i], 1);
            fixture_audit(&fixture);
            fixture_deinit(&fixture);
        }
    }
}

static uint64_t few_hashes(struct slice key) { return (uint64_t)(key.data[key.size - 1] % 2) << 63; }

static void never_stops_between_equals(void **state) {
    (void)state;
    static const struct keyspace_hasher hasher = {.hash64 = few_hashes};
    struct fixture fixture;
    unsigned seen[20] = {0};
    char cursor[32] = "0";
    fixture_init(&fixture);
    fixture.exec.hasher = &hasher;
    for (unsigned i = 0; i < 20; i++) change(&fixture, true, false, i);
    assert_int_equal(scan(&fixture, "SSCAN", cursor, 1, 1, seen), 10);
    assert_string_equal(cursor, "140737488355328");
    assert_int_equal(scan(&fixture, "SSCAN", cursor, 1, 1, seen), 10);
    assert_string_equal(cursor, "0");
    fixture_deinit(&fixture);
}

/* A page of large values ends before COUNT; one element is always told. */
static void pages_are_limited(void **state) {
    (void)state;
    struct fixture fixture;
    unsigned seen[40] = {0}, pages = 0;
    char cursor[32] = "0";
    uint8_t *value = calloc(1, 2000000);
    fixture_init(&fixture);
    for (unsigned i = 0; i < 20; i++) {
        buffer_clear(&fixture.body, 0);
        mp_write_text(&fixture.body, "HSET");
        mp_write_array(&fixture.body, 3);
        mp_write_text(&fixture.body, "k");
        mp_write_uint(&fixture.body, i);
        mp_write_bin(&fixture.body, slice_of(value, i % 2 == 0 ? 2000000 : 1));
        fixture_run_body(&fixture, false, true);
        assert_int_equal(fixture.err, SK_OK);
    }
    do {
        assert_true(scan(&fixture, "HSCAN", cursor, 10000, 2, seen) > 0);
        pages++;
    } while (strcmp(cursor, "0") != 0);
    assert_true(pages == 10 || pages == 11); /* what follows the last large one may make a page */
    for (unsigned i = 0; i < 20; i++) assert_int_equal(seen[i], 1);
    free(value);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(sees_what_stays),
        cmocka_unit_test(never_stops_between_equals),
        cmocka_unit_test(pages_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

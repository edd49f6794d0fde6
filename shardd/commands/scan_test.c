#include "shardd/exec_fixture.h"

#include "shardd/commands/scan.h"

#define NOT_INT "-BADREQUEST value is not an integer or out of range"
#define SYNTAX  "-BADREQUEST syntax error"

static void options_are_checked(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"SCAN 0", "[\"0\" []]"}, {"SCAN :0", "[\"0\" []]"}, {"SCAN x", "-BADREQUEST invalid cursor"},
        {"SCAN -1", "-BADREQUEST invalid cursor"}, {"SCAN \"\"", "-BADREQUEST invalid cursor"},
        {"SCAN 18446744073709551616", "-BADREQUEST invalid cursor"}, {"SCAN 18446744073709551615", "[\"0\" []]"},
        {"SCAN 0 COUNT 0", SYNTAX}, {"SCAN 0 COUNT -1", SYNTAX}, {"SCAN 0 COUNT x", NOT_INT},
        {"SCAN 0 COUNT", SYNTAX}, {"SCAN 0 MATCH", SYNTAX}, {"SCAN 0 TYPE", SYNTAX}, {"SCAN 0 WHAT x", SYNTAX},
        {"SCAN 0 count 10000 match * type string", "[\"0\" []]"},
        {"SCAN 0 COUNT 10001", "-TOOLARGE COUNT is limited to 10000"}, {"SET k v", "+OK"},
        {"SCAN 0", "[\"0\" [\"k\"]]"}, {"SCAN 0 MATCH k*", "[\"0\" [\"k\"]]"}, {"SCAN 0 MATCH j*", "[\"0\" []]"},
        {"SCAN 0 TYPE STRING", "[\"0\" [\"k\"]]"}, {"SCAN 0 TYPE list", "[\"0\" []]"},
        {"SCAN 0 TYPE \"\"", "[\"0\" []]"}, {"PEXPIRE k 1", "1"}, {"@1", ""}, {"SCAN 0", "[\"0\" []]"});
}

static void patterns_are_limited(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    static char line[1100] = "SCAN 0 MATCH ";
    memset(line + 13, 'a', 1025);
    fixture_expect(&fixture, line, "-TOOLARGE MATCH is limited to 1024 bytes");
    line[13 + 1024] = '\0';
    fixture_expect(&fixture, line, "[\"0\" []]");
    fixture_deinit(&fixture);
}

/* Reads a SCAN's answer: the next cursor into `cursor`, each key "k<n>" counted in seen[n]. Answers how many keys.
 */
static uint32_t read_page(struct fixture *fixture, char cursor[32], unsigned *seen, unsigned limit) {
    assert_int_equal(fixture->err, SK_OK);
    struct mp_reader reader = mp_reader_of(buffer_slice(&fixture->answer));
    uint32_t count;
    struct slice bytes;
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
    snprintf(cursor, 32, "%.*s", (int)bytes.size, (const char *)bytes.data);
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)bytes.size, (const char *)bytes.data);
        unsigned number = (unsigned)strtoul(name + 1, NULL, 10);
        assert_true(number < limit);
        seen[number]++;
    }
    return count;
}

static uint32_t scan_page(struct fixture *fixture, char cursor[32], unsigned count, unsigned *seen,
                          unsigned limit) {
    char line[100];
    snprintf(line, sizeof line, "SCAN %s COUNT %u", cursor, count);
    fixture_run(fixture, line);
    return read_page(fixture, cursor, seen, limit);
}

/* A command whose only argument but for `after` is a key with a number in it. */
static void run_numbered(struct fixture *fixture, const char *before, unsigned number, const char *after) {
    char line[100];
    snprintf(line, sizeof line, "%s%u%s", before, number, after);
    fixture_run(fixture, line);
    assert_int_equal(fixture->err, SK_OK);
}

/* Redis's promise: keys that are there from the first page to the last are seen, whatever comes and goes; without
 * changes each exactly once. */
static void sees_what_stays(void **state) {
    (void)state;
    enum { STAY = 300, ALL = 600 };
    unsigned seed = 77;
    print_message("seed %u\n", seed);
    for (unsigned count = 1; count <= 100; count = count * 3 + 1) {
        struct fixture fixture;
        fixture_init(&fixture);
        for (unsigned i = 0; i < STAY; i++) run_numbered(&fixture, "SET k", i, " v");
        static unsigned seen[ALL];
        memset(seen, 0, sizeof seen);
        char cursor[32] = "0";
        do {
            uint32_t found = scan_page(&fixture, cursor, count, seen, ALL);
            assert_true(found == count || strcmp(cursor, "0") == 0);
        } while (strcmp(cursor, "0") != 0);
        for (unsigned i = 0; i < STAY; i++) assert_int_equal(seen[i], 1);

        memset(seen, 0, sizeof seen);
        do {
            scan_page(&fixture, cursor, count, seen, ALL);
            for (int change = 0; change < 5; change++) {
                unsigned number = STAY + (unsigned)rand_r(&seed) % (ALL - STAY);
                if (rand_r(&seed) % 2 == 0) {
                    run_numbered(&fixture, "SET k", number, " v");
                } else {
                    run_numbered(&fixture, "DEL k", number, "");
                }
            }
        } while (strcmp(cursor, "0") != 0);
        for (unsigned i = 0; i < STAY; i++) assert_int_equal(seen[i], 1);
        fixture_audit(&fixture);
        fixture_deinit(&fixture);
    }
}

static uint64_t few_hashes(struct slice key) { return (uint64_t)(key.data[key.size - 1] % 2) << 63; }

/* Keys of one position are never parted by a page's end. */
static void never_stops_between_equals(void **state) {
    (void)state;
    static const struct keyspace_hasher hasher = {.hash64 = few_hashes};
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &hasher;
    for (unsigned i = 0; i < 20; i++)
        run_numbered(&fixture, "SET \"k", i * 10, " {t}\" v"); /* last byte '}': one hash */
    unsigned seen[200] = {0};
    char cursor[32] = "0";
    assert_int_equal(scan_page(&fixture, cursor, 1, seen, 200), 20);
    assert_string_equal(cursor, "0");
    fixture_deinit(&fixture);
    fixture_init(&fixture);
    fixture.exec.hasher = &hasher;
    for (unsigned i = 0; i < 10; i++) run_numbered(&fixture, "SET \"k", i, " {t}0\" v");
    for (unsigned i = 10; i < 20; i++) run_numbered(&fixture, "SET \"k", i, " {t}1\" v");
    assert_int_equal(scan_page(&fixture, cursor, 1, seen, 200), 10);
    assert_string_not_equal(cursor, "0");
    assert_int_equal(scan_page(&fixture, cursor, 1, seen, 200), 10);
    assert_string_equal(cursor, "0");
    fixture_deinit(&fixture);
}

/* A page of large keys ends before COUNT. */
static void pages_are_limited(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    static char key[60000];
    for (unsigned i = 0; i < 40; i++) {
        memset(key, 'x', sizeof key);
        snprintf(key, sizeof key, "k%u", i);
        buffer_clear(&fixture.body, 0);
        mp_write_text(&fixture.body, "SET");
        mp_write_array(&fixture.body, 2);
        mp_write_bin(&fixture.body, slice_of(key, sizeof key));
        mp_write_text(&fixture.body, "v");
        assert_string_equal(fixture_run_body(&fixture, false, true), "+OK");
    }
    unsigned seen[40] = {0};
    char cursor[32] = "0";
    unsigned pages = 0;
    do {
        assert_true(scan_page(&fixture, cursor, 10000, seen, 40) <= 20);
        pages++;
    } while (strcmp(cursor, "0") != 0);
    assert_int_equal(pages, 3);
    for (unsigned i = 0; i < 40; i++) assert_int_equal(seen[i], 1);
    fixture_deinit(&fixture);
}

/* Every shard hands over to the next: four shards walked as the gateway does it. */
static void walks_over_shards(void **state) {
    (void)state;
    enum { SHARDS = 4, KEYS = 200 };
    struct fixture shards[SHARDS];
    for (uint32_t i = 0; i < SHARDS; i++) fixture_init_shard(&shards[i], i, SHARDS);
    for (unsigned i = 0; i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%u", i);
        run_numbered(&shards[slot_shard(slot_of_key(slice_of_text(key)), SHARDS)], "SET k", i, " v");
    }
    unsigned seen[KEYS] = {0};
    char cursor[32] = "0";
    do {
        uint64_t position = strtoull(cursor, NULL, 10);
        uint32_t shard = slot_shard((uint32_t)(position >> 48), SHARDS);
        for (uint32_t i = 0; i < SHARDS; i++) {
            assert_int_equal(scan_cursor_is_for(slice_of_text(cursor), i, SHARDS), i == shard);
        }
        scan_page(&shards[shard], cursor, 7, seen, KEYS);
    } while (strcmp(cursor, "0") != 0);
    for (unsigned i = 0; i < KEYS; i++) assert_int_equal(seen[i], 1);
    fixture_expect(&shards[1], "SCAN 0", "-BADREQUEST invalid cursor");
    fixture_expect(&shards[3], "SCAN 18446744073709551615", "[\"0\" []]");
    for (uint32_t i = 0; i < SHARDS; i++) fixture_deinit(&shards[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked), cmocka_unit_test(patterns_are_limited),
        cmocka_unit_test(sees_what_stays),     cmocka_unit_test(never_stops_between_equals),
        cmocka_unit_test(pages_are_limited),   cmocka_unit_test(walks_over_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

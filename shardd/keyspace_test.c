#include "shardd/exec_fixture.h"

/* Hashes that collide for every key: only prefix, slot and the full key tell keys apart. */
static uint64_t same_hash64(struct slice key) {
    (void)key;
    return 0x1234567890abcdef;
}

static void same_hash128(struct slice key, uint8_t hash[16]) {
    (void)key;
    memset(hash, 7, 16);
}

static const struct keyspace_hasher colliding = {.hash64 = same_hash64, .hash128 = same_hash128};

/* "{t}" and filling to `size` bytes, told apart by the number at the end alone. */
static struct slice long_key(char *room, size_t size, unsigned number) {
    memset(room, 'x', size);
    memcpy(room, "{t}", 3);
    snprintf(room + size - 8, 9, "%08u", number);
    return slice_of(room, size);
}

static void encode_params(struct fixture *fixture, const char *method, const struct slice *params,
                          uint32_t count) {
    buffer_clear(&fixture->body, 65536);
    mp_write_text(&fixture->body, method);
    mp_write_array(&fixture->body, count);
    for (uint32_t i = 0; i < count; i++) mp_write_bin(&fixture->body, params[i]);
}

static const char *run_params(struct fixture *fixture, const char *method, const struct slice *params,
                              uint32_t count) {
    encode_params(fixture, method, params, count);
    return fixture_run_body(fixture, false, fixture_is_write(&fixture->body));
}

static const char *run_key(struct fixture *fixture, const char *method, struct slice key) {
    return run_params(fixture, method, &key, 1);
}

static const char *run_set(struct fixture *fixture, struct slice key, const char *value) {
    return run_params(fixture, "SET", (struct slice[]){key, slice_of_text(value)}, 2);
}

static void records_are_laid_out_as_written(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    fixture.now_us = 1000;
    fixture_expect(&fixture, "SET foo bar", "+OK"); /* slot 12182 = 0x2f96 */
    struct slice value;
    assert_int_equal(kv_get(fixture.kv,
                            slice_of("\x2f\x96\x12\x34\x56\x78\x90\xab"
                                     "foo",
                                     11),
                            &value),
                     SK_OK);
    assert_true(slice_equal(value, slice_of("\x01\x00\0\0\0\0\0\0\0\x01"
                                            "bar",
                                            13)));
    fixture_expect(&fixture, "PEXPIRE foo 1", "1"); /* 2000 us = 0x07d0 */
    assert_int_equal(kv_get(fixture.kv,
                            slice_of("\x40\0\0\0\0\0\0\x07\xd0\x2f\x96\x12\x34\x56\x78\x90\xab"
                                     "foo",
                                     20),
                            &value),
                     SK_OK);
    assert_int_equal(value.size, 0);
    assert_int_equal(kv_get(fixture.kv,
                            slice_of("\x2f\x96\x12\x34\x56\x78\x90\xab"
                                     "foo",
                                     11),
                            &value),
                     SK_OK);
    assert_true(slice_equal(value, slice_of("\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x07\xd0"
                                            "bar",
                                            21)));
    fixture_deinit(&fixture);
}

/* The real hash is part of the format: another one would lose the keys of every store. */
static void hashes_are_fixed(void **state) {
    (void)state;
    assert_true(keyspace_hasher_xxh3.hash64(slice_of("", 0)) == 0x2d06800538d394c2);
    uint8_t hash[16];
    keyspace_hasher_xxh3.hash128(slice_of("", 0), hash);
    assert_memory_equal(hash, "\x99\xaa\x06\xd3\x01\x47\x98\xd8\x60\x01\xc3\x24\x46\x8d\x49\x7f", 16);
}

static void keys_of_every_length(void **state) {
    (void)state;
    static char room[KEY_BYTES_MAX + 9];
    static const size_t sizes[] = {0, 1, 8, 399, 400, 401, 408, 409, 425, 503, 511, 512, 4096, KEY_BYTES_MAX};
    struct fixture fixture;
    fixture_init(&fixture);
    memset(room, 'k', sizeof room);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct slice key = slice_of(room, sizes[i]);
        char value[32];
        snprintf(value, sizeof value, "%zu", sizes[i]);
        assert_string_equal(run_set(&fixture, key, value), "+OK");
        assert_string_equal(run_params(&fixture, "EXPIRE", (struct slice[]){key, slice_of_text("100")}, 2), "1");
        fixture_audit(&fixture);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct slice key = slice_of(room, sizes[i]);
        char value[32];
        snprintf(value, sizeof value, "\"%zu\"", sizes[i]);
        assert_string_equal(run_key(&fixture, "GET", key), value);
        if (i % 2 == 0) assert_string_equal(run_key(&fixture, "DEL", key), "1");
    }
    fixture_audit(&fixture);
    assert_string_equal(run_key(&fixture, "GET", slice_of(room, KEY_BYTES_MAX + 1)),
                        "-TOOLARGE key exceeds maximum allowed size of 65536 bytes");
    uint32_t removed;
    assert_int_equal(exec_sweep(&fixture.exec, UINT64_MAX - 1, 1000, &removed), SK_OK);
    assert_int_equal(removed, sizeof sizes / sizeof sizes[0] / 2);
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Keys that collide come and go in random order; a plain array knows what should be there. */
static void collisions_are_harmless(void **state) {
    (void)state;
    enum { KEYS = 24 };
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    int values[KEYS];
    for (int i = 0; i < KEYS; i++) values[i] = -1;
    unsigned seed = 20240601;
    print_message("seed %u\n", seed);
    static char room[500];
    for (int step = 0; step < 3000; step++) {
        int number = (int)((unsigned)rand_r(&seed) % KEYS);
        struct slice key = long_key(room, number % 3 == 0 ? 450 : 430, (unsigned)number);
        char text[32], expected[32] = "nil";
        if (values[number] >= 0) snprintf(expected, sizeof expected, "\"%d\"", values[number]);
        assert_string_equal(run_key(&fixture, "GET", key), expected);
        if (rand_r(&seed) % 3 == 0) {
            assert_string_equal(run_key(&fixture, "DEL", key), values[number] >= 0 ? "1" : "0");
            values[number] = -1;
        } else {
            snprintf(text, sizeof text, "%d", step);
            assert_string_equal(run_set(&fixture, key, text), "+OK");
            values[number] = step;
        }
    }
    fixture_audit(&fixture);
    fixture_expect(&fixture, "SCAN 0 COUNT 1 MATCH none", "[\"0\" []]"); /* one position: one page */
    fixture_deinit(&fixture);
}

/* Short keys with one hash differ by themselves, and a long key is never taken for a short one. */
static void short_keys_collide_too(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    fixture_expect(&fixture, "MSET {t}a 1 {t}b 2 {t} 3", "+OK");
    fixture_expect(&fixture, "MGET {t}a {t}b {t} {t}c", "[\"1\" \"2\" \"3\" nil]");
    static char room[500];
    struct slice key = long_key(room, 401, 1);
    assert_string_equal(run_set(&fixture, key, "long"), "+OK");
    assert_string_equal(run_key(&fixture, "GET", slice_of(room, 400)), "nil");
    fixture_expect(&fixture, "DBSIZE", "4");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* 256 keys fill a chain; the next is refused and nothing is changed, also in the middle of an MSET. */
static void a_full_chain_is_refused(void **state) {
    (void)state;
    static char rooms[3][500];
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    for (unsigned i = 0; i < KEYSPACE_DISCRIMINATORS - 1; i++) {
        assert_string_equal(run_set(&fixture, long_key(rooms[0], 430, i), "v"), "+OK");
    }
    struct slice first = long_key(rooms[0], 430, 1000), second = long_key(rooms[1], 430, 1001);
    struct slice pairs[] = {slice_of_text("{t}short"), slice_of_text("1"), first, slice_of_text("2"), second,
                            slice_of_text("3")};
    struct exec_counters before = fixture.exec.counters;
    assert_string_equal(run_params(&fixture, "MSET", pairs, 6),
                        "-TOOLARGE too many keys with the hash of this one");
    assert_memory_equal(&before, &fixture.exec.counters, sizeof before);
    fixture_expect(&fixture, "GET {t}short", "nil");
    assert_string_equal(run_params(&fixture, "MSET", pairs, 4), "+OK");
    static const char *const refused[] = {"SETNX", "GETSET", "APPEND", "SET"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_string_equal(run_params(&fixture, refused[i], (struct slice[]){second, slice_of_text("v")}, 2),
                            "-TOOLARGE too many keys with the hash of this one");
    }
    assert_string_equal(run_key(&fixture, "INCR", second), "-TOOLARGE too many keys with the hash of this one");
    assert_string_equal(run_key(&fixture, "GET", second), "nil");
    assert_string_equal(run_key(&fixture, "DEL", second), "0");
    assert_string_equal(run_set(&fixture, first, "again"), "+OK"); /* one that is in it may change */
    fixture_audit(&fixture);
    assert_string_equal(run_key(&fixture, "DEL", long_key(rooms[2], 430, 100)), "1");
    assert_string_equal(run_set(&fixture, second, "now"), "+OK");
    assert_string_equal(run_key(&fixture, "GET", second), "\"now\"");
    assert_string_equal(run_key(&fixture, "GET", first), "\"again\"");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

static void reads_change_nothing(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SET k v PX 1", "+OK");
    fixture.now_us += 1000;
    struct exec_counters before = fixture.exec.counters;
    static const char *const reads[] = {"GET k",   "MGET k",        "EXISTS k", "TTL k",
                                        "TYPE k",  "STRLEN k",      "SCAN 0",   "GETRANGE k 0 -1",
                                        "TOUCH k", "PEXPIRETIME k", "INFO",     "DBSIZE"};
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        fixture_run(&fixture, reads[i]);
        assert_int_equal(fixture.err, SK_OK);
        assert_memory_equal(&before, &fixture.exec.counters, sizeof before);
        fixture_audit(&fixture);
    }
    fixture_expect(&fixture, "DEL k", "0"); /* a write removes what has expired */
    assert_int_equal(fixture.exec.counters.keys, 0);
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Records that no version writes are damage, wherever they are met. */
static void damage_is_noticed(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } values[] = {{"", 0}, {"\x01", 1}, {"\x01\x80", 2}, {"\x01\x01\0\0", 4}, {"\x01\x02\0\0\0\1k", 7}};
    struct fixture fixture;
    fixture_init(&fixture);
    struct object object;
    assert_int_equal(keyspace_find(&fixture.exec, slice_of_text("k"), 1, &object), SK_OK);
    assert_false(object.found);
    struct slice record_key = slice_of(object.record_key, object.record_key_size);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_int_equal(kv_put(fixture.kv, record_key, slice_of(values[i].bytes, values[i].size)), SK_OK);
        struct object other;
        assert_int_equal(keyspace_find(&fixture.exec, slice_of_text("k"), 1, &other), SK_ECORRUPT);
        buffer_clear(&fixture.body, 0);
        fixture_encode(&fixture.body, "SCAN 0");
        assert_int_equal(exec_run(&fixture.exec, buffer_slice(&fixture.body), false,
                                  &(struct exec_moment){.time_us = 1}, &fixture.answer),
                         SK_ECORRUPT);
    }
    struct record record;
    uint8_t long_record_key[KEYSPACE_RECORD_KEY_MAX] = {0};
    struct slice long_one = slice_of(long_record_key, sizeof long_record_key);
    assert_int_equal(keyspace_read_record(long_one, slice_of("\x01\x00", 2), &record), SK_ECORRUPT);
    assert_int_equal(keyspace_read_record(long_one, slice_of("\x01\x02\0\0", 4), &record), SK_ECORRUPT);
    assert_int_equal(keyspace_read_record(long_one, slice_of("\x01\x02\0\0\0\x05k", 7), &record), SK_ECORRUPT);
    fixture_deinit(&fixture);
}

static void a_wrong_index_is_noticed(void **state) {
    (void)state;
    static const char *const spoil[] = {"PERSIST k", "DEL k", "SET k v PX 500"};
    for (size_t i = 0; i < sizeof spoil / sizeof spoil[0]; i++) {
        struct fixture fixture;
        fixture_init(&fixture);
        fixture_expect(&fixture, "SET k v PX 1", "+OK");
        struct kv_iter *iter;
        struct slice key, value;
        uint8_t entry[KEYSPACE_INDEX_KEY_MAX];
        assert_int_equal(kv_iter_open(fixture.kv, slice_of("\x40", 1), &iter), SK_OK);
        assert_int_equal(kv_iter_next(iter, &key, &value), SK_OK);
        size_t size = key.size;
        memcpy(entry, key.data, size);
        kv_iter_close(iter);
        fixture_run(&fixture, spoil[i]);
        assert_int_equal(kv_put(fixture.kv, slice_of(entry, size), slice_of("", 0)), SK_OK);
        uint32_t removed;
        assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us + 1000, 10, &removed), SK_ECORRUPT);
        fixture_deinit(&fixture);
    }
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SET k v PX 1", "+OK");
    /* a deadline, and no key behind it */
    assert_int_equal(kv_put(fixture.kv, slice_of("\x40\0\0\0\0\0\0\0\0", 9), slice_of("", 0)), SK_OK);
    uint64_t deadline_us;
    uint32_t removed;
    assert_int_equal(exec_next_deadline(&fixture.exec, &deadline_us), SK_ECORRUPT);
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us, 10, &removed), SK_ECORRUPT);
    fixture_deinit(&fixture);
}

/* A long key that is not there is looked for among those that share its hashes, and not behind them. */
static void what_was_removed_behind_a_long_key_is_not_passed(void **state) {
    (void)state;
    struct fixture fixture;
    char line[64 + KEYSPACE_KEY_INLINE_MAX];
    fixture_init(&fixture);
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "SET key%u v", i);
        fixture_expect(&fixture, line, "+OK");
        snprintf(line, sizeof line, "DEL key%u", i);
        fixture_expect(&fixture, line, "1");
    }
    for (uint32_t i = 0; i < 20; i++) {
        snprintf(line, sizeof line, "GET %0*u", (int)KEYSPACE_KEY_INLINE_MAX + 1, i);
        fixture_expect(&fixture, line, "nil");
    }
    assert_int_equal(kv_memory_passed(fixture.kv), 0);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_laid_out_as_written),
        cmocka_unit_test(hashes_are_fixed),
        cmocka_unit_test(keys_of_every_length),
        cmocka_unit_test(collisions_are_harmless),
        cmocka_unit_test(short_keys_collide_too),
        cmocka_unit_test(a_full_chain_is_refused),
        cmocka_unit_test(reads_change_nothing),
        cmocka_unit_test(what_was_removed_behind_a_long_key_is_not_passed),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(a_wrong_index_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

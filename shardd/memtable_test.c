#include "memtable.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static int setup(void **state) {
    struct memtable *table = NULL;
    if (memtable_new(&table) != SK_OK) return -1;
    *state = table;
    return 0;
}

static int teardown(void **state) {
    memtable_free(*state);
    return 0;
}

static void assert_value(const struct memtable *table, uint32_t shard, const char *key, const char *expected) {
    struct slice value;
    assert_int_equal(memtable_get(table, shard, slice_of_text(key), &value), MEMTABLE_VALUE);
    assert_true(slice_equal(value, slice_of_text(expected)));
}

static void put(struct memtable *table, uint32_t shard, const char *key, const char *value) {
    assert_int_equal(memtable_put(table, shard, slice_of_text(key), slice_of_text(value)), SK_OK);
}

static void test_put_get_delete(void **state) {
    struct memtable *table = *state;
    struct slice value;
    assert_int_equal(memtable_get(table, 0, slice_of_text("a"), &value), MEMTABLE_ABSENT);
    put(table, 0, "a", "1");
    put(table, 7, "a", "seven");
    put(table, 0, "b", "");
    assert_value(table, 0, "a", "1");
    assert_value(table, 7, "a", "seven");
    assert_value(table, 0, "b", "");
    assert_int_equal(memtable_delete(table, 0, slice_of_text("a")), SK_OK);
    assert_int_equal(memtable_delete(table, 0, slice_of_text("never")), SK_OK);
    assert_int_equal(memtable_get(table, 0, slice_of_text("a"), &value), MEMTABLE_DELETED);
    assert_int_equal(memtable_get(table, 0, slice_of_text("never"), &value), MEMTABLE_DELETED);
    assert_value(table, 7, "a", "seven");
    assert_int_equal(memtable_entries(table, 0), 3);
    put(table, 0, "a", "back");
    assert_value(table, 0, "a", "back");
    assert_int_equal(memtable_entries(table, 0), 3);
    assert_int_equal(memtable_entries(table, 1), 0);
    assert_true(memtable_shard_limit(table) >= 8);
}

/* A value that fits where the old one was costs nothing. */
static void test_overwrite_in_place(void **state) {
    struct memtable *table = *state;
    put(table, 0, "key", "0123456789");
    uint64_t bytes = memtable_bytes(table);
    for (int i = 0; i < 1000; i++) put(table, 0, "key", i % 2 ? "01234" : "9876543210");
    assert_value(table, 0, "key", "01234");
    put(table, 0, "key", "");
    assert_value(table, 0, "key", "");
    assert_int_equal(memtable_bytes(table), bytes);
    put(table, 0, "key", "longer than it was before");
    assert_value(table, 0, "key", "longer than it was before");
    assert_true(memtable_bytes(table) > bytes);
}

/* The value put may be a part of the value that it replaces, in place or moved. */
static void test_put_from_own_value(void **state) {
    struct memtable *table = *state;
    struct slice value;
    put(table, 0, "key", "0123456789");
    assert_int_equal(memtable_get(table, 0, slice_of_text("key"), &value), MEMTABLE_VALUE);
    assert_int_equal(memtable_put(table, 0, slice_of_text("key"), slice_of(value.data + 2, 8)), SK_OK);
    assert_value(table, 0, "key", "23456789");

    size_t size = 200000;
    uint8_t *large = malloc(size);
    for (size_t i = 0; i < size; i++) large[i] = (uint8_t)(i * 7);
    assert_int_equal(memtable_put(table, 0, slice_of_text("large"), slice_of(large, size)), SK_OK);
    assert_int_equal(memtable_get(table, 0, slice_of_text("large"), &value), MEMTABLE_VALUE);
    assert_int_equal(memtable_put(table, 0, slice_of_text("large"), slice_of(value.data + 150000, 100)), SK_OK);
    assert_int_equal(memtable_get(table, 0, slice_of_text("large"), &value), MEMTABLE_VALUE);
    assert_true(slice_equal(value, slice_of(large + 150000, 100)));
    free(large);
}

/* Large values have memory of their own, which goes back when they are replaced or deleted. */
static void test_large_values_give_memory_back(void **state) {
    struct memtable *table = *state;
    size_t size = 16u << 20;
    uint8_t *large = malloc(size);
    memset(large, 'x', size);
    put(table, 0, "a", "small");
    uint64_t bytes = memtable_bytes(table);
    for (int i = 0; i < 8; i++) {
        large[0] = (uint8_t)i;
        assert_int_equal(memtable_put(table, 0, slice_of_text("a"), slice_of(large, size - (size_t)i)), SK_OK);
        assert_true(memtable_bytes(table) > size && memtable_bytes(table) < size + (size / 2));
        struct slice value;
        assert_int_equal(memtable_get(table, 0, slice_of_text("a"), &value), MEMTABLE_VALUE);
        assert_true(slice_equal(value, slice_of(large, size - (size_t)i)));
        if (i % 3 == 2) {
            assert_int_equal(memtable_delete(table, 0, slice_of_text("a")), SK_OK);
            assert_true(memtable_bytes(table) < bytes + 4096);
        }
    }
    put(table, 0, "a", "small again");
    assert_value(table, 0, "a", "small again");
    assert_true(memtable_bytes(table) < bytes + 4096);
    free(large);
}

static int compare_slices(const void *a, const void *b) {
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Keys that share long prefixes, continue each other and have all lengths come out in order, whatever order they
 * went in by. */
enum { KEYS = 20000 };

/* Keys of shard 3, each its own value; `keys` may have some twice. */
static void check_order(const struct memtable *table, struct slice *keys, uint32_t count) {
    qsort(keys, count, sizeof *keys, compare_slices);
    struct memtable_cursor cursor = memtable_seek(table, 3, keys[0]);
    struct slice key, value;
    uint64_t unique = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && slice_equal(keys[i], keys[i - 1])) continue;
        unique++;
        assert_int_equal(memtable_cursor_get(&cursor, &key, &value), MEMTABLE_VALUE);
        assert_true(slice_equal(key, keys[i]) && slice_equal(value, keys[i]));
        struct memtable_cursor found = memtable_seek(table, 3, keys[i]);
        assert_int_equal(memtable_cursor_get(&found, &key, &value), MEMTABLE_VALUE);
        assert_true(slice_equal(key, keys[i]));
        memtable_cursor_next(&cursor);
    }
    assert_int_equal(memtable_cursor_get(&cursor, &key, &value), MEMTABLE_ABSENT);
    assert_int_equal(memtable_entries(table, 3), unique);

    static const uint8_t behind_all[1] = {0xff};
    cursor = memtable_seek_below(table, 3, slice_of(behind_all, 1));
    for (uint32_t i = count; i-- > 0;) {
        if (i > 0 && slice_equal(keys[i], keys[i - 1])) continue;
        assert_int_equal(memtable_cursor_get(&cursor, &key, &value), MEMTABLE_VALUE);
        assert_true(slice_equal(key, keys[i]) && slice_equal(value, keys[i]));
        memtable_cursor_previous(&cursor);
        struct memtable_cursor found = memtable_seek_below(table, 3, keys[i]);
        assert_memory_equal(&found, &cursor, sizeof cursor);
    }
    assert_int_equal(memtable_cursor_get(&cursor, &key, &value), MEMTABLE_ABSENT);
    cursor = memtable_seek_below(table, 4, slice_of(behind_all, 1));
    assert_int_equal(memtable_cursor_get(&cursor, &key, &value), MEMTABLE_ABSENT);
}

static struct slice put_random_key(struct memtable *table, struct slice beginning, size_t size, unsigned *seed) {
    uint8_t *key = malloc(beginning.size + size);
    if (beginning.size > 0) memcpy(key, beginning.data, beginning.size);
    for (size_t b = 0; b < size; b++) key[beginning.size + b] = (uint8_t)(rand_r(seed) % 3 * 127);
    struct slice made = slice_of(key, beginning.size + size);
    assert_int_equal(memtable_put(table, 3, made, made), SK_OK);
    return made;
}

static void free_keys(struct slice *keys) {
    for (uint32_t i = 0; i < KEYS; i++) free((void *)keys[i].data);
    free(keys);
}

static void test_order(void **state) {
    struct memtable *table = *state;
    struct slice *keys = calloc(KEYS, sizeof *keys);
    static const uint8_t zeros[511];
    unsigned seed = 12345;
    for (uint32_t i = 0; i < KEYS; i++) {
        keys[i] = i < 511 ? put_random_key(table, slice_of(zeros, i + 1), 0, &seed)
                          : put_random_key(table, slice_of(NULL, 0), 1 + (size_t)rand_r(&seed) % 40, &seed);
    }
    check_order(table, keys, KEYS);
    free_keys(keys);
}

/* As elements of collections do; between them, and before and behind them, lie keys that share less. */
static void test_keys_that_begin_alike(void **state) {
    struct memtable *table = *state;
    struct slice *keys = calloc(KEYS, sizeof *keys);
    unsigned seed = 54321;
    for (uint32_t i = 0; i < KEYS; i++) {
        char beginning[40];
        int size = snprintf(beginning, sizeof beginning, "e%08u%s", i % 5, i % 2 ? "" : "a longer beginning");
        if (i % 100 == 0) size = rand_r(&seed) % size;
        keys[i] = put_random_key(table, slice_of(beginning, (size_t)size), 1 + (size_t)rand_r(&seed) % 12, &seed);
    }
    check_order(table, keys, KEYS);
    free_keys(keys);
}

/* Keys in order fill their nodes; backwards they still come out right. */
static void test_ascending_and_descending(void **state) {
    struct memtable *table = *state;
    enum { COUNT = 50000 };
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t up[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        uint32_t j = COUNT - 1 - i;
        uint8_t down[4] = {(uint8_t)(j >> 24), (uint8_t)(j >> 16), (uint8_t)(j >> 8), (uint8_t)j};
        assert_int_equal(memtable_put(table, 0, slice_of(up, 4), slice_of(up, 4)), SK_OK);
        assert_int_equal(memtable_put(table, 1, slice_of(down, 4), slice_of(down, 4)), SK_OK);
    }
    for (uint32_t shard = 0; shard < 2; shard++) {
        struct memtable_cursor cursor = memtable_seek(table, shard, slice_of("\0", 1));
        for (uint32_t i = 0; i < COUNT; i++) {
            uint8_t expected[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
            struct slice key, value;
            assert_int_equal(memtable_cursor_get(&cursor, &key, &value), MEMTABLE_VALUE);
            assert_true(slice_equal(key, slice_of(expected, 4)) && slice_equal(value, key));
            memtable_cursor_next(&cursor);
        }
    }
}

static void test_forget(void **state) {
    struct memtable *table = *state;
    put(table, 0, "a", "1");
    put(table, 1, "a", "2");
    memtable_forget(table, 0);
    memtable_forget(table, 999);
    struct slice value;
    assert_int_equal(memtable_get(table, 0, slice_of_text("a"), &value), MEMTABLE_ABSENT);
    assert_int_equal(memtable_entries(table, 0), 0);
    assert_value(table, 1, "a", "2");
    put(table, 0, "a", "3");
    assert_value(table, 0, "a", "3");
}

/* ---- against a sorted list ---- */

enum { LISTED_MAX = 2000, LISTED_SHARDS = 3, LISTED_KEY_BYTES = 300 };

struct listed {
    uint8_t key[LISTED_KEY_BYTES];
    uint32_t key_size, version; /* 0: deleted */
};

struct listing {
    struct listed records[LISTED_MAX];
    uint32_t count;
};

static struct slice listed_key(const struct listed *record) { return slice_of(record->key, record->key_size); }

/* The first that is not before `key`. */
static uint32_t listed_position(const struct listing *listing, struct slice key) {
    uint32_t low = 0, high = listing->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (slice_compare(listed_key(&listing->records[middle]), key) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Begins with up to 64 bytes that others begin with as well; or is next to one that is there. */
static struct slice draw_key(const struct listing *listing, uint8_t room[LISTED_KEY_BYTES], unsigned *seed) {
    static const uint8_t fills[] = {0, 'e', 0xff};
    size_t size = (size_t)rand_r(seed) % 65, end = size + (size_t)rand_r(seed) % 10;
    if (listing->count > 0 && rand_r(seed) % 3 == 0) {
        const struct listed *record = &listing->records[(uint32_t)rand_r(seed) % listing->count];
        memcpy(room, record->key, record->key_size);
        size = record->key_size;
        if (rand_r(seed) % 3 == 0 && size > 1) return slice_of(room, size - 1);
        if (rand_r(seed) % 2 == 0 && size < LISTED_KEY_BYTES) room[size++] = fills[rand_r(seed) % 3];
        else room[(size_t)rand_r(seed) % size] ^= (uint8_t)(1 << rand_r(seed) % 8);
        return slice_of(room, size);
    }
    memset(room, fills[rand_r(seed) % 3], size);
    for (; size < end; size++) room[size] = (uint8_t)(rand_r(seed) % 3 * 127);
    if (size == 0) room[size++] = fills[rand_r(seed) % 3];
    return slice_of(room, size);
}

static void change_both(struct memtable *table, uint32_t shard, struct listing *listing, struct slice key,
                        uint32_t version) {
    uint32_t at = listed_position(listing, key);
    struct listed *record = &listing->records[at];
    if (at == listing->count || !slice_equal(listed_key(record), key)) {
        if (listing->count == LISTED_MAX) return;
        memmove(record + 1, record, (listing->count - at) * sizeof *record);
        listing->count++;
        memcpy(record->key, key.data, key.size);
        record->key_size = (uint32_t)key.size;
    }
    record->version = version;
    struct slice value = slice_of(&record->version, sizeof record->version);
    int err = version == 0 ? memtable_delete(table, shard, key) : memtable_put(table, shard, key, value);
    assert_int_equal(err, SK_OK);
}

static void check_record(enum memtable_found found, struct slice value, const struct listed *record) {
    assert_int_equal(found, record->version == 0 ? MEMTABLE_DELETED : MEMTABLE_VALUE);
    if (record->version != 0) assert_true(slice_equal(value, slice_of(&record->version, sizeof record->version)));
}

/* What stands from `key` on, or before it, `count` records far. */
static void check_walks(const struct memtable *table, uint32_t shard, const struct listing *listing,
                        struct slice key, uint32_t count) {
    struct slice found_key, value = slice_of(NULL, 0);
    uint32_t at = listed_position(listing, key), up = at, down = at;
    bool is_there = at < listing->count && slice_equal(listed_key(&listing->records[at]), key);
    enum memtable_found found = memtable_get(table, shard, key, &value);
    if (is_there) check_record(found, value, &listing->records[at]);
    else assert_int_equal(found, MEMTABLE_ABSENT);
    struct memtable_cursor cursor = memtable_seek(table, shard, key);
    for (; up < listing->count && up < at + count; up++, memtable_cursor_next(&cursor)) {
        found = memtable_cursor_get(&cursor, &found_key, &value);
        check_record(found, value, &listing->records[up]);
        assert_true(slice_equal(found_key, listed_key(&listing->records[up])));
    }
    if (up == listing->count) assert_int_equal(memtable_cursor_get(&cursor, &found_key, &value), MEMTABLE_ABSENT);
    cursor = memtable_seek_below(table, shard, key);
    for (; down > 0 && down + count > at; down--, memtable_cursor_previous(&cursor)) {
        found = memtable_cursor_get(&cursor, &found_key, &value);
        check_record(found, value, &listing->records[down - 1]);
        assert_true(slice_equal(found_key, listed_key(&listing->records[down - 1])));
    }
    if (down == 0) assert_int_equal(memtable_cursor_get(&cursor, &found_key, &value), MEMTABLE_ABSENT);
}

static void test_random_against_list(void **state) {
    static struct listing listings[LISTED_SHARDS];
    struct memtable *table = *state;
    const char *given = getenv("SEED");
    unsigned seed = given != NULL ? (unsigned)atoi(given) : (unsigned)getpid();
    print_message("SEED=%u\n", seed);
    memset(listings, 0, sizeof listings);
    for (uint32_t i = 1; i < 60000; i++) {
        uint8_t room[LISTED_KEY_BYTES];
        uint32_t number = (uint32_t)rand_r(&seed) % LISTED_SHARDS;
        struct listing *listing = &listings[number];
        struct slice key = draw_key(listing, room, &seed);
        if (rand_r(&seed) % 3 == 0) check_walks(table, number, listing, key, 30);
        else change_both(table, number, listing, key, rand_r(&seed) % 5 == 0 ? 0 : i);
        if (rand_r(&seed) % 20000 != 0) continue;
        memtable_forget(table, number);
        listing->count = 0;
    }
    for (uint32_t number = 0; number < LISTED_SHARDS; number++) {
        assert_int_equal(memtable_entries(table, number), listings[number].count);
        check_walks(table, number, &listings[number], slice_of("", 0), LISTED_MAX);
        check_walks(table, number, &listings[number], slice_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9),
                    LISTED_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_get_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overwrite_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_from_own_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_values_give_memory_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_that_begin_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_against_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ascending_and_descending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "memtable.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_get_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overwrite_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_from_own_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_values_give_memory_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_that_begin_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ascending_and_descending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

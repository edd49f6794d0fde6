#include "record_cache.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int setup(void **state) {
    struct record_cache *cache = NULL;
    if (record_cache_new(&cache, RECORD_CACHE_BYTES_MIN) != SK_OK) return -1;
    record_cache_step_begin(cache);
    *state = cache;
    return 0;
}

static int teardown(void **state) {
    record_cache_free(*state);
    return 0;
}

/* It is offered until it is worth a copy. */
static void put_slices(struct record_cache *cache, uint32_t shard, struct slice key, struct slice value) {
    struct slice found;
    for (int i = 0; i < 2; i++) {
        if (!record_cache_get(cache, shard, key, &found)) record_cache_offer(cache, shard, key, value);
    }
}

static void put(struct record_cache *cache, uint32_t shard, const char *key, const char *value) {
    put_slices(cache, shard, slice_of_text(key), slice_of_text(value));
}

static bool has(struct record_cache *cache, uint32_t shard, const char *key, const char *value) {
    struct slice found;
    if (!record_cache_get(cache, shard, slice_of_text(key), &found)) return false;
    assert_true(slice_equal(found, slice_of_text(value)));
    return true;
}

static void what_is_put_is_found(void **state) {
    struct record_cache *cache = *state;
    assert_false(has(cache, 1, "a", "x"));
    put(cache, 1, "a", "x");
    put(cache, 2, "a", "y");
    put(cache, 1, "b", "");
    assert_true(has(cache, 1, "a", "x"));
    assert_true(has(cache, 2, "a", "y"));
    assert_true(has(cache, 1, "b", ""));
    assert_false(has(cache, 3, "a", "x"));
    assert_false(has(cache, 1, "aa", "x"));
}

/* Many others in between make it forgotten that something was offered once. Some few are taken for others. */
static void what_is_offered_once_is_not_kept(void **state) {
    struct record_cache *cache = *state;
    unsigned kept = 0;
    assert_false(has(cache, 1, "a", "x"));
    record_cache_offer(cache, 1, slice_of_text("a"), slice_of_text("x"));
    for (uint32_t shard = 2; shard < 10000; shard++) {
        assert_false(has(cache, shard, "a", "x"));
        record_cache_offer(cache, shard, slice_of_text("a"), slice_of_text("x"));
        kept += has(cache, shard, "a", "x");
    }
    assert_true(kept < 10);
    for (unsigned offered = 0; offered < 2; offered++) {
        assert_false(has(cache, 1, "a", "x"));
        record_cache_offer(cache, 1, slice_of_text("a"), slice_of_text("x"));
    }
    assert_true(has(cache, 1, "a", "x"));
}

static void what_is_dropped_is_gone(void **state) {
    struct record_cache *cache = *state;
    put(cache, 1, "a", "x");
    put(cache, 1, "b", "y");
    record_cache_drop(cache, 1, slice_of_text("a"));
    record_cache_drop(cache, 2, slice_of_text("b")); /* of another shard */
    assert_false(has(cache, 1, "a", "x"));
    assert_true(has(cache, 1, "b", "y"));
    put(cache, 1, "a", "new");
    assert_true(has(cache, 1, "a", "new"));
    record_cache_clear(cache);
    assert_false(has(cache, 1, "a", "new"));
    assert_false(has(cache, 1, "b", "y"));
}

/* Keys and values by number; their sizes differ. */
static struct slice key_of(unsigned number, char room[32]) {
    return slice_of(room, (size_t)snprintf(room, 32, "%*u", 5 + (int)(number % 20), number));
}

static struct slice value_of(unsigned number, char room[512]) {
    return slice_of(room, (size_t)snprintf(room, 512, "%0*u", 1 + (int)(number * 7 % 400), number));
}

static void put_number(struct record_cache *cache, unsigned number) {
    char key[32], value[512];
    put_slices(cache, 7, key_of(number, key), value_of(number, value));
}

static bool has_number(struct record_cache *cache, unsigned number) {
    char key[32], value[512];
    struct slice found;
    if (!record_cache_get(cache, 7, key_of(number, key), &found)) return false;
    assert_true(slice_equal(found, value_of(number, value)));
    return true;
}

static void the_newest_push_out_the_oldest(void **state) {
    struct record_cache *cache = *state;
    enum { COUNT = 20000, NEWEST = 300 };
    unsigned found = 0;
    for (unsigned number = 0; number < COUNT; number++) {
        record_cache_step_begin(cache);
        put_number(cache, number);
        assert_true(has_number(cache, number));
    }
    for (unsigned number = 0; number < COUNT; number++) found += has_number(cache, number);
    assert_in_range(found, NEWEST, RECORD_CACHE_BYTES_MIN / 100);
    for (unsigned number = COUNT - NEWEST; number < COUNT; number++) assert_true(has_number(cache, number));
    assert_false(has_number(cache, 0));
    record_cache_clear(cache);
    for (unsigned number = 0; number < COUNT; number++) assert_false(has_number(cache, number));
    put_number(cache, COUNT);
    assert_true(has_number(cache, COUNT));
}

/* However much a step puts, what it was given before stays as it is. */
static void values_stay_for_the_step(void **state) {
    struct record_cache *cache = *state;
    unsigned next = 0, oldest = 0, refused = 0;
    for (unsigned step = 0; step < 200; step++) {
        char key[32], copy[512];
        struct slice value = slice_of(NULL, 0);
        record_cache_step_begin(cache);
        while (oldest < next && !record_cache_get(cache, 7, key_of(oldest, key), &value)) oldest++;
        if (value.size > 0) memcpy(copy, value.data, value.size);
        for (unsigned i = 0; i < 200; i++, next++) {
            put_number(cache, next);
            refused += !has_number(cache, next);
        }
        if (value.size > 0) assert_memory_equal(value.data, copy, value.size);
    }
    assert_true(oldest > 0 && refused > 0); /* the ring has come round, and steps have come to their limit */
}

static void large_values_are_not_kept(void **state) {
    struct record_cache *cache = *state;
    static const uint8_t bytes[5000];
    struct slice value;
    put_slices(cache, 1, slice_of_text("large"), slice_of(bytes, sizeof bytes));
    assert_false(record_cache_get(cache, 1, slice_of_text("large"), &value));
    put_slices(cache, 1, slice_of_text("less"), slice_of(bytes, 4000));
    assert_true(record_cache_get(cache, 1, slice_of_text("less"), &value));
    assert_int_equal(value.size, 4000);
}

/* As a store uses it: what changes is dropped, and put again as it is then. */
static void nothing_old_is_found(void **state) {
    struct record_cache *cache = *state;
    enum { KEYS = 5000 };
    static unsigned versions[KEYS];
    unsigned seed = 99, hits = 0;
    for (unsigned i = 0; i < 300000; i++) {
        char key[32], value[64];
        unsigned number = (unsigned)rand_r(&seed) % KEYS;
        struct slice name = key_of(number, key), found;
        if (i % 50 == 0) record_cache_step_begin(cache);
        if (rand_r(&seed) % 8 == 0) {
            versions[number]++;
            record_cache_drop(cache, 1, name);
            continue;
        }
        struct slice now =
            slice_of(value, (size_t)snprintf(value, sizeof value, "%u of %u", versions[number], number));
        if (record_cache_get(cache, 1, name, &found)) {
            hits++;
            assert_true(slice_equal(found, now));
        } else {
            put_slices(cache, 1, name, now);
        }
    }
    assert_true(hits > 100000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_offered_once_is_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_dropped_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_push_out_the_oldest, setup, teardown),
        cmocka_unit_test_setup_teardown(values_stay_for_the_step, setup, teardown),
        cmocka_unit_test_setup_teardown(large_values_are_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_old_is_found, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

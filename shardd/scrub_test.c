#include "scrub.h"

#include "shardd/record_kind.h"
#include "shardd/store_fixture.h"

#include <fcntl.h>

enum { KEYS = 120, BIG_BYTES = 300000 };

/* The sum over a shard's records as they are now, all at once. */
static struct scrub_sum full_sum(struct fixture *fixture, struct scrub_sum base) {
    struct scrub_sum sum = base;
    struct slice key, value;
    struct kv_iter *iter;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(kv_iter_open(shard(fixture, 0), slice_of("\0", 1), &iter), SK_OK);
    while (kv_iter_next(iter, &key, &value) == SK_OK) {
        if (key.data[0] == RECORD_SHARD) continue;
        struct scrub_sum one = scrub_hash(key, value);
        sum.low += one.low;
        sum.high += one.high;
    }
    kv_iter_close(iter);
    store_step_end(fixture->store);
    return sum;
}

static struct scrub *begin(struct fixture *fixture, struct scrub_sum base) {
    struct scrub *scrub;
    assert_int_equal(scrub_new(&scrub, shard(fixture, 0), base), SK_OK);
    return scrub;
}

static void step(struct fixture *fixture, struct scrub *scrub, uint32_t records_max) {
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(scrub_step(scrub, records_max, 1u << 20), SK_OK);
    store_step_end(fixture->store);
}

static struct scrub_sum finish(struct fixture *fixture, struct scrub *scrub) {
    while (scrub_state(scrub) == SCRUB_RUNS) step(fixture, scrub, 7);
    assert_int_equal(scrub_state(scrub), SCRUB_DONE);
    return scrub_result(scrub);
}

static void assert_sum(struct scrub_sum sum, struct scrub_sum expected) {
    assert_true(scrub_sum_equal(sum, expected));
}

static const struct scrub_sum nothing = {0, 0};

static void test_an_empty_shard_is_its_base(void **state) {
    struct fixture *fixture = *state;
    struct scrub_sum base = {.low = 3, .high = UINT64_MAX};
    open_store(fixture);
    struct scrub *scrub = begin(fixture, base);
    assert_sum(finish(fixture, scrub), base);
    assert_int_equal(scrub_records(scrub), 0);
    scrub_free(scrub);
}

static void test_it_is_the_content_that_counts(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    put(shard(fixture, 0), "a", "1");
    put(shard(fixture, 0), "b", "2");
    put(shard(fixture, 1), "c", "another shard's");
    struct scrub_sum memory = full_sum(fixture, nothing);
    struct scrub *scrub = begin(fixture, nothing);
    assert_sum(finish(fixture, scrub), memory);
    assert_int_equal(scrub_records(scrub), 2);
    scrub_free(scrub);
    assert_int_equal(checkpoint(fixture), SK_OK);
    assert_int_equal(kv_put(shard(fixture, 0), record_shard_key(), slice_of_text("each its own")), SK_OK);
    del(shard(fixture, 0), "never there");
    scrub = begin(fixture, nothing);
    assert_sum(finish(fixture, scrub), memory);
    scrub_free(scrub);

    static const char *const others[][2] = {{"a", "2"}, {"b", "1"}, {"ab", ""}, {"c", "1"}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) { /* one thing is different each time */
        put(shard(fixture, 0), others[i][0], others[i][1]);
        scrub = begin(fixture, nothing);
        assert_false(scrub_sum_equal(finish(fixture, scrub), memory));
        scrub_free(scrub);
        memory = full_sum(fixture, nothing);
    }
}

/* Each way to change a record that the cursor has not reached, and one that it has. */
static void test_writes_beside_it_do_not_count(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    struct kv *kv = shard(fixture, 0);
    for (const char *key = "bdfhjlnp"; *key != 0; key++) put(kv, (char[]){*key, 0}, "old");
    assert_int_equal(checkpoint(fixture), SK_OK);
    struct scrub_sum expected = full_sum(fixture, nothing);
    struct scrub *scrub = begin(fixture, nothing);
    step(fixture, scrub, 3); /* b d f */
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    put(kv, "a", "new");
    put(kv, "b", "new");
    del(kv, "d");
    put(kv, "e", "new");
    put(kv, "f", "new");
    put(kv, "g", "new");
    put(kv, "g", "newer");
    put(kv, "h", "new");
    put(kv, "h", "newer");
    del(kv, "j");
    del(kv, "k");
    put(kv, "k", "new");
    del(kv, "k");
    del(kv, "l");
    put(kv, "l", "new");
    assert_int_equal(kv_begin(kv), SK_OK);
    put(kv, "n", "undone");
    del(kv, "p");
    put(kv, "z", "undone");
    put(kv, "b", "undone");
    assert_int_equal(kv_rollback(kv), SK_OK);
    assert_int_equal(kv_put(kv, record_shard_key(), slice_of_text("new")), SK_OK);
    store_step_end(fixture->store);
    assert_sum(finish(fixture, scrub), expected);
    put(kv, "q", "after it nobody is told"); /* of what follows: else the next could not begin */
    scrub_free(scrub);
    expected = full_sum(fixture, nothing);
    scrub = begin(fixture, nothing);
    assert_sum(finish(fixture, scrub), expected);
    scrub_free(scrub);
}

/* Reached is compared by all of a key, of any length. */
static void test_keys_as_long_as_they_may_be(void **state) {
    struct fixture *fixture = *state;
    uint8_t key[KV_KEY_BYTES_MAX];
    memset(key, 'k', sizeof key);
    open_store(fixture);
    for (size_t bytes = KV_KEY_BYTES_MAX - 3; bytes <= KV_KEY_BYTES_MAX; bytes++) {
        assert_int_equal(kv_put(shard(fixture, 0), slice_of(key, bytes), slice_of_text("value")), SK_OK);
    }
    key[KV_KEY_BYTES_MAX - 1] = 'z';
    assert_int_equal(kv_put(shard(fixture, 0), slice_of(key, sizeof key), slice_of_text("value")), SK_OK);
    assert_int_equal(checkpoint(fixture), SK_OK);
    struct scrub *scrub = begin(fixture, nothing);
    while (scrub_state(scrub) == SCRUB_RUNS) step(fixture, scrub, 1);
    assert_int_equal(scrub_records(scrub), 5);
    assert_sum(scrub_result(scrub), full_sum(fixture, nothing));
    scrub_free(scrub);
}

static void test_a_step_is_bounded(void **state) {
    struct fixture *fixture = *state;
    open_store(fixture);
    fill_shards(fixture, 1, "value"); /* 100 records of 405 bytes */
    struct scrub *scrub = begin(fixture, nothing);
    step(fixture, scrub, 30);
    assert_int_equal(scrub_records(scrub), 30);
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    assert_int_equal(scrub_step(scrub, 1000, 405 * 10), SK_OK);
    assert_int_equal(scrub_records(scrub), 40);
    store_step_end(fixture->store);
    scrub_free(scrub); /* dropped in the middle: the shard can be watched again */
    scrub = begin(fixture, nothing);
    assert_sum(finish(fixture, scrub), full_sum(fixture, nothing));
    scrub_free(scrub);
}

/* ---- any order of things ---- */

struct chance {
    unsigned seed;
};

static unsigned below(struct chance *chance, unsigned limit) { return (unsigned)rand_r(&chance->seed) % limit; }

/* Kinds of records among each other, the shard's own too. */
static size_t random_key(struct chance *chance, uint8_t key[16]) {
    static const uint8_t kinds[] = {0x00, 0x01, 0x3f, RECORD_EXPIRY, RECORD_NAME, RECORD_NAME_ORDER};
    if (below(chance, 50) == 0) {
        key[0] = RECORD_SHARD;
        return 1;
    }
    key[0] = kinds[below(chance, sizeof kinds)];
    return 1 + (size_t)snprintf((char *)key + 1, 15, "%u", below(chance, KEYS));
}

static void change_one(struct chance *chance, struct kv *kv) {
    static uint8_t value[BIG_BYTES];
    uint8_t bytes[16];
    struct slice key = slice_of(bytes, random_key(chance, bytes));
    size_t size = below(chance, 40) == 0 ? BIG_BYTES : below(chance, 60);
    memset(value, (int)below(chance, 256), size);
    int err = below(chance, 3) == 0 ? kv_del(kv, key) : kv_put(kv, key, slice_of(value, size));
    assert_int_equal(err, SK_OK);
}

/* One command, or several that are undone. */
static void change_some(struct fixture *fixture, struct chance *chance) {
    struct kv *kv = shard(fixture, 0);
    bool undone = below(chance, 5) == 0;
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    if (undone) assert_int_equal(kv_begin(kv), SK_OK);
    for (unsigned i = below(chance, 6); i > 0; i--) change_one(chance, kv);
    if (undone) assert_int_equal(kv_rollback(kv), SK_OK);
    store_step_end(fixture->store);
}

/* Freezes, or takes a checkpoint over that is running. */
static void move_layers(struct fixture *fixture) {
    if (store_checkpoint_running(fixture->store)) {
        assert_int_equal(finish_checkpoint(fixture), SK_OK);
    } else {
        assert_int_equal(store_checkpoint_start(fixture->store), SK_OK);
    }
}

static void scrub_in_a_storm(struct fixture *fixture, struct chance *chance) {
    struct scrub_sum base = {.low = below(chance, 1000), .high = below(chance, 1000)};
    struct scrub_sum expected = full_sum(fixture, base);
    struct scrub *scrub = begin(fixture, base);
    while (scrub_state(scrub) == SCRUB_RUNS) {
        switch (below(chance, 12)) {
        case 0:
            move_layers(fixture);
            break;
        case 1:
        case 2:
        case 3:
            step(fixture, scrub, 1 + below(chance, 20));
            break;
        default:
            change_some(fixture, chance);
            break;
        }
    }
    assert_int_equal(scrub_state(scrub), SCRUB_DONE);
    if (!scrub_sum_equal(scrub_result(scrub), expected)) fail_msg("the sum is another; seed %u", chance->seed);
    scrub_free(scrub);
}

static void test_any_order_of_things(void **state) {
    struct fixture *fixture = *state;
    struct chance chance = {.seed = 1};
    open_store(fixture);
    for (int i = 0; i < 200; i++) change_some(fixture, &chance);
    for (int round = 0; round < 40; round++) scrub_in_a_storm(fixture, &chance);
    if (store_checkpoint_running(fixture->store)) assert_int_equal(finish_checkpoint(fixture), SK_OK);
}

/* ---- damage ---- */

/* Flips a byte of the value in LMDB's file; the store is closed. */
static void damage_value(struct fixture *fixture, const char *value) {
    char path[128];
    static uint8_t bytes[4u << 20];
    snprintf(path, sizeof path, "%s/data.mdb", fixture->directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    assert_true(size > 0);
    const uint8_t *found = memmem(bytes, (size_t)size, value, strlen(value));
    assert_non_null(found);
    while (found != NULL) { /* LMDB may have older pages too */
        uint8_t flipped = *found ^ 1;
        assert_int_equal(pwrite(fd, &flipped, 1, found - bytes), 1);
        size_t left = (size_t)size - (size_t)(found + 1 - bytes);
        found = memmem(found + 1, left, value, strlen(value));
    }
    close(fd);
}

static void open_with_damage(struct fixture *fixture) {
    open_store(fixture);
    put(shard(fixture, 0), "a", "whole");
    put(shard(fixture, 0), "b", "to be damaged");
    assert_int_equal(checkpoint(fixture), SK_OK);
    close_store(fixture);
    damage_value(fixture, "to be damaged");
    open_store(fixture);
}

/* R24 */
static void test_damage_is_found(void **state) {
    struct fixture *fixture = *state;
    open_with_damage(fixture);
    struct scrub *scrub = begin(fixture, nothing);
    step(fixture, scrub, 1);
    assert_int_equal(scrub_state(scrub), SCRUB_RUNS);
    step(fixture, scrub, 1);
    assert_int_equal(scrub_state(scrub), SCRUB_DAMAGED);
    assert_non_null(strstr(store_fault_text(fixture->store), "checksum"));
    put(shard(fixture, 0), "c", "goes on");
    scrub_free(scrub);
}

/* A write over what is damaged is none the worse for being watched. */
static void test_damage_is_found_by_a_write(void **state) {
    struct fixture *fixture = *state;
    open_with_damage(fixture);
    struct scrub *scrub = begin(fixture, nothing);
    assert_int_equal(store_step_begin(fixture->store), SK_OK);
    put(shard(fixture, 0), "b", "anew");
    store_step_end(fixture->store);
    assert_int_equal(scrub_state(scrub), SCRUB_DAMAGED);
    assert_kv(fixture, 0, "b", "anew");
    scrub_free(scrub);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_an_empty_shard_is_its_base),
        TEST(test_it_is_the_content_that_counts),
        TEST(test_writes_beside_it_do_not_count),
        TEST(test_keys_as_long_as_they_may_be),
        TEST(test_a_step_is_bounded),
        TEST(test_any_order_of_things),
        TEST(test_damage_is_found),
        TEST(test_damage_is_found_by_a_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

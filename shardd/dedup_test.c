#include "shardd/dedup.h"

#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "shardd/kv_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct kv *kv;
    struct dedup *dedup;
};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    return fixture == NULL || kv_new_memory(&fixture->kv) != SK_OK ||
           dedup_new(&fixture->dedup, fixture->kv) != SK_OK;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    dedup_free(fixture->dedup);
    kv_free_memory(fixture->kv);
    free(fixture);
    return 0;
}

static struct entry_name numbered(uint64_t session, uint64_t number, uint64_t floor) {
    return (struct entry_name){.session = session, .number = number, .floor = floor};
}

static struct entry_name with_id(const char *id, uint32_t part) {
    return (struct entry_name){.id = slice_of_text(id), .id_part = part, .window_ms = 1000};
}

static void store(struct fixture *fixture, struct entry_name name, uint64_t time_us, const char *result) {
    assert_int_equal(dedup_store(fixture->dedup, &name, time_us, SK_OK, slice_of_text(result)), SK_OK);
}

static int find(struct fixture *fixture, struct entry_name name, uint64_t time_us, struct dedup_result *result) {
    return dedup_find(fixture->dedup, &name, time_us, result);
}

static void expect(struct fixture *fixture, struct entry_name name, uint64_t time_us, const char *expected) {
    struct dedup_result result;
    assert_int_equal(find(fixture, name, time_us, &result), SK_OK);
    assert_true(slice_equal(result.body, slice_of_text(expected)));
}

static void test_numbers(void **state) {
    struct fixture *fixture = *state;
    struct dedup_result result;
    assert_int_equal(find(fixture, numbered(1, 5, 1), 0, &result), SK_NOT_FOUND);
    store(fixture, numbered(1, 5, 1), 10, "five");
    store(fixture, numbered(1, 9, 1), 11, "a result of more than sixteen bytes");
    store(fixture, numbered(1, 7, 1), 12, "seven");
    expect(fixture, numbered(1, 5, 1), 13, "five");
    expect(fixture, numbered(1, 7, 1), 13, "seven");
    expect(fixture, numbered(1, 9, 1), 13, "a result of more than sixteen bytes");
    assert_int_equal(find(fixture, numbered(2, 5, 1), 13, &result), SK_NOT_FOUND);
    assert_int_equal(find(fixture, numbered(1, 6, 1), 13, &result), SK_NOT_FOUND);
}

/* R10: below the forgotten number there is an error, never a second execution. */
static void test_r10_below_the_floor(void **state) {
    struct fixture *fixture = *state;
    struct dedup_result result;
    for (uint64_t number = 1; number <= 100; number++) store(fixture, numbered(1, number, 1), number, "x");
    store(fixture, numbered(1, 101, 60), 101, "y");
    assert_int_equal(find(fixture, numbered(1, 59, 1), 102, &result), SK_FORGOTTEN);
    expect(fixture, numbered(1, 60, 1), 102, "x");
    store(fixture, numbered(1, 102, 10), 103, "z"); /* a floor never falls */
    assert_int_equal(find(fixture, numbered(1, 59, 1), 102, &result), SK_FORGOTTEN);
}

static void test_errors_and_large_results(void **state) {
    struct fixture *fixture = *state;
    struct dedup_result result;
    struct entry_name name = numbered(1, 1, 1), id = with_id("id", 0);
    uint8_t large[RESULT_KEPT_BYTES_MAX + 1] = {0};
    assert_int_equal(dedup_store(fixture->dedup, &name, 1, SK_WRONGTYPE, slice_of_text("why")), SK_OK);
    assert_int_equal(find(fixture, name, 1, &result), SK_OK);
    assert_int_equal(result.err, SK_WRONGTYPE);
    assert_int_equal(dedup_store(fixture->dedup, &id, 1, SK_OK, slice_of(large, sizeof large)), SK_OK);
    assert_int_equal(find(fixture, id, 1, &result), SK_OK);
    assert_int_equal(result.err, SK_DONE);
    assert_int_equal(result.body.size, 0);
}

static void test_ids_live_for_their_window(void **state) {
    struct fixture *fixture = *state;
    struct dedup_result result;
    store(fixture, with_id("a", 0), 1000000, "first");
    expect(fixture, with_id("a", 0), 1999999, "first");
    assert_int_equal(find(fixture, with_id("a", 1), 1500000, &result), SK_NOT_FOUND);
    assert_int_equal(find(fixture, with_id("b", 0), 1500000, &result), SK_NOT_FOUND);
    assert_int_equal(find(fixture, with_id("a", 0), 2000000, &result), SK_NOT_FOUND);
    /* used again after its window, before anything swept it */
    store(fixture, with_id("a", 0), 2000000, "second");
    expect(fixture, with_id("a", 0), 2000001, "second");
    assert_int_equal(dedup_id_count(fixture->dedup), 1);
}

static size_t count_records(struct kv *kv) {
    struct kv_iter *iter;
    struct slice key, value;
    size_t count = 0;
    assert_int_equal(kv_iter_open(kv, slice_of("\0", 1), &iter), SK_OK);
    while (kv_iter_next(iter, &key, &value) == SK_OK) count++;
    kv_iter_close(iter);
    return count;
}

static void test_sweep_is_bounded_and_complete(void **state) {
    struct fixture *fixture = *state;
    char id[16];
    for (unsigned i = 0; i < 50; i++) {
        snprintf(id, sizeof id, "id-%u", i);
        store(fixture, with_id(id, 0), 1000 + i, "r");
    }
    assert_int_equal(dedup_next_expiry_us(fixture->dedup), 1000 + 1000000);
    assert_int_equal(dedup_sweep(fixture->dedup, 1000 + 1000000 + 19, 15), SK_OK);
    assert_int_equal(dedup_id_count(fixture->dedup), 35);
    assert_int_equal(dedup_sweep(fixture->dedup, 1000 + 1000000 + 19, 15), SK_OK);
    assert_int_equal(dedup_id_count(fixture->dedup), 30);
    assert_int_equal(dedup_sweep(fixture->dedup, 9000000, 1000), SK_OK);
    assert_int_equal(dedup_id_count(fixture->dedup), 0);
    assert_int_equal(dedup_next_expiry_us(fixture->dedup), UINT64_MAX);
    assert_int_equal(count_records(fixture->kv), 0);
}

/* Nothing is walked over again and again: what was removed stays in the memtable, marked, until a checkpoint. */
static void test_sweeping_passes_what_was_removed_once(void **state) {
    struct fixture *fixture = *state;
    enum { IDS = 1000 };
    char id[16];
    for (unsigned i = 0; i < IDS; i++) {
        snprintf(id, sizeof id, "id-%u", i);
        store(fixture, with_id(id, 0), 1000 + i, "r");
    }
    uint64_t before = kv_memory_passed(fixture->kv);
    for (unsigned i = 0; i < IDS; i++) {
        assert_int_equal(dedup_sweep(fixture->dedup, 1000 + 1000000 + i, 1), SK_OK);
        assert_int_equal(dedup_id_count(fixture->dedup), IDS - 1 - i);
    }
    assert_true(kv_memory_passed(fixture->kv) - before <= 2 * IDS);
}

/* Names travel with the shard's record. */
static void test_save_and_load(void **state) {
    struct fixture *fixture = *state;
    struct buffer saved;
    struct dedup_result result;
    struct dedup *loaded;
    buffer_init(&saved);
    for (uint64_t number = 1; number <= 40; number++) {
        store(fixture, numbered(number % 3, number, number > 20 ? 15 : 1), number,
              number % 2 ? "x" : "a long one, this");
    }
    store(fixture, with_id("kept", 4), 50, "k");
    dedup_save(fixture->dedup, &saved);
    assert_int_equal(dedup_new(&loaded, fixture->kv), SK_OK);
    assert_int_equal(dedup_load(loaded, buffer_slice(&saved)), SK_OK);
    for (uint64_t number = 1; number <= 40; number++) {
        struct entry_name name = numbered(number % 3, number, 1);
        struct dedup_result before;
        int err = dedup_find(fixture->dedup, &name, 60, &before);
        assert_int_equal(dedup_find(loaded, &name, 60, &result), err);
        if (err == SK_OK) assert_true(slice_equal(before.body, result.body));
    }
    struct entry_name kept = with_id("kept", 4);
    assert_int_equal(dedup_find(loaded, &kept, 60, &result), SK_OK);
    assert_int_equal(dedup_id_count(loaded), 1);
    assert_int_equal(dedup_sweep(loaded, 9000000, 10), SK_OK);
    assert_int_equal(dedup_id_count(loaded), 0);
    dedup_free(loaded);
    for (size_t cut = 0; cut < saved.size; cut++) {
        assert_int_equal(dedup_new(&loaded, fixture->kv), SK_OK);
        assert_int_equal(dedup_load(loaded, slice_of(saved.data, cut)), SK_ECORRUPT);
        dedup_free(loaded);
    }
    buffer_deinit(&saved);
}

/* A gateway that is gone for long is forgotten when another one appears. */
static void test_idle_sessions_are_forgotten(void **state) {
    struct fixture *fixture = *state;
    struct dedup_result result;
    store(fixture, numbered(1, 1, 1), 0, "old");
    store(fixture, numbered(2, 1, 1), 5ull * 60 * 1000000, "newer");
    store(fixture, numbered(3, 1, 1), 11ull * 60 * 1000000, "now");
    assert_int_equal(find(fixture, numbered(1, 1, 1), 11ull * 60 * 1000000, &result), SK_NOT_FOUND);
    expect(fixture, numbered(2, 1, 1), 11ull * 60 * 1000000, "newer");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_r10_below_the_floor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_and_large_results, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_live_for_their_window, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep_is_bounded_and_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweeping_passes_what_was_removed_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_save_and_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_sessions_are_forgotten, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

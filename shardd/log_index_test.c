#include "shardd/log_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SEGMENT UINT64_C(65536)

/* Allocations from the nth on fail; 0: none. */
static unsigned fails_from, allocations;

void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool allocation_fails(void) { return fails_from != 0 && ++allocations >= fails_from; }

void *__wrap_malloc(size_t size) { return allocation_fails() ? NULL : __real_malloc(size); }

void *__wrap_realloc(void *old, size_t size) { return allocation_fails() ? NULL : __real_realloc(old, size); }

static void fail_from(unsigned nth) {
    fails_from = nth;
    allocations = 0;
}

static void add(struct log_index *index, uint64_t number, wal_position position) {
    assert_int_equal(log_index_add(index, number, position), SK_OK);
}

static void assert_at(const struct log_index *index, uint64_t number, wal_position expected) {
    wal_position position;
    assert_int_equal(log_index_find(index, number, &position), SK_OK);
    assert_true(position == expected);
}

static void assert_unknown(const struct log_index *index, uint64_t number) {
    wal_position position;
    assert_int_equal(log_index_find(index, number, &position), SK_NOT_FOUND);
}

static void assert_run(const struct log_index *index, uint64_t first, uint64_t last) {
    assert_true(log_index_first(index) == first);
    assert_true(log_index_last(index) == last);
    assert_unknown(index, 0);
    if (first > 0) assert_unknown(index, first - 1);
    assert_unknown(index, last + 1);
    assert_unknown(index, UINT64_MAX);
}

static void test_empty(void **state) {
    (void)state;
    struct log_index index;
    log_index_init(&index, SEGMENT);
    assert_run(&index, 0, 0);
    assert_int_equal(log_index_bytes(&index), 0);
    log_index_cut(&index, 0);
    log_index_cut(&index, 7);
    log_index_release(&index, 9 * SEGMENT);
    log_index_clear(&index);
    assert_run(&index, 0, 0);
    log_index_deinit(&index);
}

static void test_positions_over_segments(void **state) {
    (void)state;
    struct log_index index;
    log_index_init(&index, SEGMENT);
    /* Segments 3, 5 and 6: in 4 there are only entries of other shards. */
    for (uint64_t i = 0; i < 100; i++) add(&index, 41 + i, 3 * SEGMENT + 8 * (i + 1));
    for (uint64_t i = 0; i < 100; i++) add(&index, 141 + i, 5 * SEGMENT + 800 * i);
    add(&index, 241, 7 * SEGMENT - 8);
    assert_run(&index, 41, 241);
    for (uint64_t i = 0; i < 100; i++) assert_at(&index, 41 + i, 3 * SEGMENT + 8 * (i + 1));
    for (uint64_t i = 0; i < 100; i++) assert_at(&index, 141 + i, 5 * SEGMENT + 800 * i);
    assert_at(&index, 241, 7 * SEGMENT - 8);
    log_index_deinit(&index);
}

static void test_largest_segments(void **state) {
    (void)state;
    uint64_t bytes = UINT64_C(1) << 32;
    struct log_index index;
    log_index_init(&index, bytes);
    add(&index, UINT64_MAX - 2, 9 * bytes + 4096);
    add(&index, UINT64_MAX - 1, 10 * bytes - 8);
    assert_at(&index, UINT64_MAX - 2, 9 * bytes + 4096);
    assert_at(&index, UINT64_MAX - 1, 10 * bytes - 8);
    log_index_deinit(&index);
}

static void test_what_is_added_after_a_cut_may_lie_later(void **state) {
    (void)state;
    struct log_index index;
    log_index_init(&index, SEGMENT);
    for (uint64_t i = 1; i <= 30; i++) add(&index, i, i / 10 * SEGMENT + SEGMENT + i * 8); /* segments 1 to 4 */
    log_index_cut(&index, 30);                                                             /* nothing is above */
    log_index_cut(&index, UINT64_MAX);
    assert_run(&index, 1, 30);
    log_index_cut(&index, 14);
    assert_run(&index, 1, 14);
    add(&index, 15, 4 * SEGMENT + 4096); /* where those that are gone were */
    add(&index, 16, 8 * SEGMENT + 4096);
    assert_run(&index, 1, 16);
    assert_at(&index, 14, 2 * SEGMENT + 14 * 8);
    assert_at(&index, 15, 4 * SEGMENT + 4096);
    assert_at(&index, 16, 8 * SEGMENT + 4096);
    log_index_cut(&index, 15);
    add(&index, 16, 8 * SEGMENT + 5000);
    assert_at(&index, 16, 8 * SEGMENT + 5000);
    log_index_cut(&index, 9); /* the end of a segment */
    assert_run(&index, 1, 9);
    add(&index, 10, 8 * SEGMENT + 6000);
    assert_at(&index, 9, SEGMENT + 9 * 8);
    assert_at(&index, 10, 8 * SEGMENT + 6000);
    log_index_cut(&index, 0);
    assert_run(&index, 0, 0);
    add(&index, 1, 8 * SEGMENT + 7000);
    assert_at(&index, 1, 8 * SEGMENT + 7000);
    log_index_deinit(&index);
}

static void test_release_forgets_whole_segments(void **state) {
    (void)state;
    struct log_index index;
    log_index_init(&index, SEGMENT);
    for (uint64_t i = 1; i <= 30; i++) add(&index, i, i / 10 * SEGMENT + SEGMENT + i * 8);
    log_index_release(&index, 2 * SEGMENT - 8);
    assert_run(&index, 1, 30);
    log_index_release(&index, 2 * SEGMENT);
    assert_run(&index, 10, 30);
    log_index_release(&index, SEGMENT); /* backwards: nothing */
    log_index_cut(&index, 25);
    log_index_release(&index, 3 * SEGMENT + 23 * 8);
    assert_run(&index, 20, 25);
    for (uint64_t i = 20; i <= 25; i++) assert_at(&index, i, 3 * SEGMENT + i * 8);
    log_index_cut(&index, 19); /* below what is known */
    assert_run(&index, 0, 0);
    add(&index, 20, 5 * SEGMENT);
    log_index_release(&index, 6 * SEGMENT);
    assert_run(&index, 0, 0);
    add(&index, 21, 6 * SEGMENT); /* goes on where it was, of a log that is gone */
    assert_run(&index, 21, 21);
    log_index_clear(&index);
    add(&index, 5000, 6 * SEGMENT + 800); /* a snapshot came */
    assert_run(&index, 5000, 5000);
    log_index_deinit(&index);
}

/* Beside the plain array of what it should know. The histories are the same at each run. */
struct model {
    struct log_index index;
    wal_position positions[4096];
    uint64_t first, last; /* 0, 0: none */
    wal_position position;
};

static uint64_t seed;

static uint64_t random_below(uint64_t limit) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 33) % limit;
}

static void model_add(struct model *model) {
    uint64_t number = model->last == 0 ? 1 + random_below(2000) : model->last + 1;
    if (number >= 4096) return;
    model->position += 8 * (1 + random_below(random_below(20) == 0 ? 20000 : 100));
    add(&model->index, number, model->position);
    if (model->first == 0) model->first = number;
    model->last = number;
    model->positions[number] = model->position;
}

static void model_keep(struct model *model, uint64_t first, uint64_t last) {
    if (first < model->first) first = model->first;
    if (last > model->last) last = model->last;
    bool any = model->last > 0 && first <= last;
    model->first = any ? first : 0;
    model->last = any ? last : 0;
}

static void model_cut(struct model *model) {
    uint64_t number = random_below(3) == 0 ? random_below(4096) : model->last - random_below(model->last / 8 + 1);
    log_index_cut(&model->index, number);
    model_keep(model, 0, number);
}

static void model_release(struct model *model) {
    if (model->first == 0) return;
    uint64_t number = model->first + random_below((model->last - model->first) / 4 + 1);
    wal_position position = model->positions[number];
    log_index_release(&model->index, position);
    while (model->positions[number] / SEGMENT == position / SEGMENT && number >= model->first) number--;
    model_keep(model, number + 1, UINT64_MAX);
}

static void model_check(const struct model *model) {
    assert_run(&model->index, model->first, model->last);
    if (model->first == 0) return;
    for (uint64_t i = model->first; i <= model->last; i++) assert_at(&model->index, i, model->positions[i]);
}

static void test_random_histories(void **state) {
    (void)state;
    for (uint64_t history = 1; history <= 200; history++) {
        seed = history;
        static struct model model;
        memset(&model, 0, sizeof model);
        log_index_init(&model.index, SEGMENT);
        model.position = SEGMENT;
        for (unsigned step = 0; step < 100; step++) {
            uint64_t kind = random_below(100);
            if (kind < 80) {
                for (uint64_t i = random_below(40); i > 0; i--) model_add(&model);
            } else if (kind < 89) {
                model_cut(&model);
            } else if (kind < 98) {
                model_release(&model);
            } else {
                log_index_clear(&model.index);
                model_keep(&model, 1, 0);
            }
            model_check(&model);
        }
        log_index_deinit(&model.index);
    }
}

/* Whatever cannot be had, nothing changes, and the same works later. */
static void test_without_memory(void **state) {
    (void)state;
    struct log_index index;
    log_index_init(&index, SEGMENT);
    unsigned refused = 0;
    for (uint64_t i = 1; i <= 400; i++) {
        wal_position position = i / 30 * SEGMENT + SEGMENT + i * 8;
        for (unsigned nth = 1;; nth++) {
            fail_from(nth);
            int err = log_index_add(&index, i, position);
            bool met = allocations >= nth;
            fail_from(0);
            if (err == SK_OK) {
                assert_true(!met || i % 30 == 0); /* giving back what a full segment has reserved may fail */
                break;
            }
            assert_int_equal(err, SK_ENOMEM);
            refused++;
            assert_true(log_index_last(&index) == i - 1);
            assert_unknown(&index, i);
        }
    }
    assert_true(refused > 30);
    for (uint64_t i = 1; i <= 400; i++) assert_at(&index, i, i / 30 * SEGMENT + SEGMENT + i * 8);
    log_index_deinit(&index);
}

static void test_what_is_reserved_cannot_fail(void **state) {
    (void)state;
    struct log_index index;
    log_index_init(&index, SEGMENT);
    for (uint64_t i = 1; i <= 400; i++) {
        assert_int_equal(log_index_reserve(&index), SK_OK);
        fail_from(1);
        add(&index, i, i / 70 * SEGMENT + SEGMENT + i * 8);
        fail_from(0);
    }
    fail_from(1);
    int err = SK_OK;
    for (uint64_t i = 401; err == SK_OK; i++) {
        err = log_index_reserve(&index);
        if (err == SK_OK) err = log_index_add(&index, i, i / 70 * SEGMENT + SEGMENT + i * 8);
    }
    fail_from(0);
    assert_int_equal(err, SK_ENOMEM);
    log_index_deinit(&index);
}

static void test_memory_is_four_bytes_an_entry(void **state) {
    (void)state;
    uint64_t bytes = UINT64_C(64) << 20, count = 200000;
    struct log_index index;
    log_index_init(&index, bytes);
    for (uint64_t segment = 1; segment <= 8; segment++) {
        for (uint64_t i = 0; i < count; i++) {
            add(&index, (segment - 1) * count + i + 1, segment * bytes + 4096 + i * 256);
        }
    }
    assert_in_range(log_index_bytes(&index), 8 * count * 4, 9 * count * 4 + 2000);
    add(&index, 8 * count + 1, 9 * bytes);
    assert_in_range(log_index_bytes(&index), 8 * count * 4, 8 * count * 4 + 2000);
    log_index_release(&index, 9 * bytes);
    assert_in_range(log_index_bytes(&index), 1, 2000);
    log_index_deinit(&index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_positions_over_segments),
        cmocka_unit_test(test_largest_segments),
        cmocka_unit_test(test_what_is_added_after_a_cut_may_lie_later),
        cmocka_unit_test(test_release_forgets_whole_segments),
        cmocka_unit_test(test_random_histories),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_what_is_reserved_cannot_fail),
        cmocka_unit_test(test_memory_is_four_bytes_an_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

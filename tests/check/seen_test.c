#include "index.h"
#include "libcommon/testing.h"
#include "seen.h"
#include "sums.h"

/* A covers callback that says what the context says. */
static bool says_cb(void *context, const uint64_t *then, const uint64_t *now) {
    (void)then;
    (void)now;
    return *(bool *)context;
}

static void test_a_place_is_seen_once(void **state) {
    (void)state;
    bool covers = false;
    struct seen *seen = seen_new(2, 10, says_cb, &covers);
    uint64_t slots[] = {1, 2};
    struct seen_place place = {.end = 7, .value = 3, .before = 4, .slots = slots};
    assert_false(seen_before(seen, &place));
    assert_true(seen_before(seen, &place));
    place.end = 8;
    assert_false(seen_before(seen, &place));
    place.value = 4;
    assert_false(seen_before(seen, &place));
    place.before = 5;
    assert_false(seen_before(seen, &place));
    slots[1] = 3;
    assert_false(seen_before(seen, &place));
    assert_true(seen_before(seen, &place));
    slots[1] = 2;
    assert_true(seen_before(seen, &place));
    seen_free(seen);
    seen_free(NULL);
}

static void test_sets_are_interned(void **state) {
    (void)state;
    bool covers = false;
    struct seen *seen = seen_new(1, 200, says_cb, &covers);
    uint32_t a = seen_set_with(seen, SEEN_SET_EMPTY, 1), b = seen_set_with(seen, SEEN_SET_EMPTY, 199);
    assert_int_not_equal(a, SEEN_SET_EMPTY);
    assert_int_not_equal(a, b);
    assert_int_equal(seen_set_with(seen, a, 199), seen_set_with(seen, b, 1));
    assert_int_equal(seen_set_with(seen, a, 1), a);
    seen_free(seen);
}

static void test_fewer_used_up_is_as_good(void **state) {
    (void)state;
    bool covers = false;
    struct seen *seen = seen_new(1, 200, says_cb, &covers);
    uint64_t slots[] = {0};
    uint32_t a = seen_set_with(seen, SEEN_SET_EMPTY, 1), ab = seen_set_with(seen, a, 2);
    struct seen_place place = {.end = 7, .used = ab, .slots = slots};
    assert_false(seen_before(seen, &place));
    place.used = a; /* better than what was seen: it stands for it from now on */
    assert_false(seen_before(seen, &place));
    place.used = ab;
    assert_true(seen_before(seen, &place));
    place.used = seen_set_with(seen, SEEN_SET_EMPTY, 3); /* another */
    assert_false(seen_before(seen, &place));
    assert_true(seen_before(seen, &place));
    place.used = seen_set_with(seen, SEEN_SET_EMPTY, 4);
    covers = true;
    assert_true(seen_before(seen, &place));
    seen_free(seen);
}

/* However many places differ in the set alone, few are kept, and the last is among them. */
static void test_places_may_be_forgotten(void **state) {
    (void)state;
    bool covers = false;
    struct seen *seen = seen_new(1, 5000, says_cb, &covers);
    uint64_t slots[] = {0};
    unsigned again = 0;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 1000; i++) {
            struct seen_place place = {.used = seen_set_with(seen, SEEN_SET_EMPTY, i), .slots = slots};
            if (seen_before(seen, &place)) {
                again++;
                assert_int_equal(round, 1);
            } else {
                assert_true(seen_before(seen, &place));
            }
        }
    }
    assert_true(again < 1000);
    seen_free(seen);
}

static void test_sums(void **state) {
    (void)state;
    for (uint32_t count = 1; count < 70; count++) {
        struct sums sums;
        sums_init(&sums, count);
        assert_int_equal(sums_find(&sums, 0), count);
        for (uint32_t i = 0; i < count; i++) sums_add(&sums, i, (int32_t)i % 3);
        for (uint32_t end = 0, sum = 0; end <= count; sum += end++ % 3) {
            assert_int_equal(sums_before(&sums, end), sum);
            if (end == count || end % 3 == 0) continue;
            assert_int_equal(sums_find(&sums, (int32_t)sum), end);
            assert_int_equal(sums_find(&sums, (int32_t)(sum + end % 3) - 1), end);
        }
        sums_deinit(&sums);
    }
}

static void test_index(void **state) {
    (void)state;
    struct index index = {0};
    struct index_walk walk;
    assert_int_equal(index_first(&index, 5, &walk), INDEX_NONE);
    for (uint32_t i = 0; i < 5000; i++) index_add(&index, (uint64_t)(i % 1000) << 32, i);
    for (uint32_t hash = 0; hash < 1000; hash++) {
        unsigned found = 0;
        for (uint32_t i = index_first(&index, (uint64_t)hash << 32, &walk); i != INDEX_NONE;
             i = index_next(&index, &walk)) {
            assert_int_equal(i % 1000, hash);
            found++;
        }
        assert_int_equal(found, 5);
    }
    assert_int_equal(index_first(&index, UINT64_C(1000) << 32, &walk), INDEX_NONE);
    index_deinit(&index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_place_is_seen_once),
        cmocka_unit_test(test_sets_are_interned),
        cmocka_unit_test(test_fewer_used_up_is_as_good),
        cmocka_unit_test(test_places_may_be_forgotten),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

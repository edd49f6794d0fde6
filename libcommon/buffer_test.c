#include "buffer.h"

#include "testing.h"

static void test_grows_and_keeps_content(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    for (unsigned i = 0; i < 10000; i++) buffer_append(&buffer, &i, sizeof i);
    assert_int_equal(buffer.size, 10000 * sizeof(unsigned));
    for (unsigned i = 0; i < 10000; i++) assert_memory_equal(buffer.data + i * sizeof i, &i, sizeof i);
    assert_false(buffer.failed);
    buffer_append(&buffer, NULL, 0);
    assert_int_equal(buffer_slice(&buffer).size, 10000 * sizeof(unsigned));
    buffer_deinit(&buffer);
    assert_null(buffer.data);
}

static void test_clear_keeps_only_so_much(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    assert_non_null(buffer_extend(&buffer, 1000));
    size_t capacity = buffer.capacity;
    buffer_clear(&buffer, capacity);
    assert_int_equal(buffer.size, 0);
    assert_int_equal(buffer.capacity, capacity);
    buffer_clear(&buffer, capacity - 1);
    assert_int_equal(buffer.capacity, 0);
    assert_null(buffer.data);
    buffer_deinit(&buffer);
}

static void test_failure_sticks_until_cleared(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    buffer_append(&buffer, "abc", 3);
    assert_null(buffer_extend(&buffer, SIZE_MAX));
    assert_true(buffer.failed);
    assert_null(buffer_extend(&buffer, 1));
    buffer_append(&buffer, "d", 1);
    assert_int_equal(buffer.size, 3);
    assert_int_equal(buffer_write_cb(&buffer, "d", 1), -1);
    buffer_clear(&buffer, SIZE_MAX);
    assert_false(buffer.failed);
    assert_int_equal(buffer_write_cb(&buffer, "de", 2), 0);
    assert_true(slice_equal(buffer_slice(&buffer), slice_of_text("de")));
    buffer_deinit(&buffer);
}

static void test_slices_compare_as_unsigned_bytes(void **state) {
    (void)state;
    assert_true(slice_compare(slice_of("a", 1), slice_of("b", 1)) < 0);
    assert_true(slice_compare(slice_of("\xff", 1), slice_of("a", 1)) > 0);
    assert_true(slice_compare(slice_of("ab", 2), slice_of("a", 1)) > 0);
    assert_true(slice_compare(slice_of(NULL, 0), slice_of("a", 1)) < 0);
    assert_int_equal(slice_compare(slice_of(NULL, 0), slice_of("", 0)), 0);
    assert_true(slice_equal(slice_of(NULL, 0), slice_of("", 0)));
    assert_false(slice_equal(slice_of("a", 1), slice_of("b", 1)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_and_keeps_content),
        cmocka_unit_test(test_clear_keeps_only_so_much),
        cmocka_unit_test(test_failure_sticks_until_cleared),
        cmocka_unit_test(test_slices_compare_as_unsigned_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/numbers.h"
#include "libcommon/error.h"

#define COUNT 20000u

/* Numbers in sequence, removed in an order of chance, some staying long: the table against a plain array. */
static void behaves_like_an_array(void **state) {
    (void)state;
    static int values[COUNT];
    static bool there[COUNT];
    struct numbers numbers;
    numbers_init(&numbers);
    assert_null(numbers_get(&numbers, 1));
    numbers_remove(&numbers, 1);
    uint32_t seed = 12345;
    for (uint32_t i = 1; i < COUNT; i++) {
        assert_int_equal(numbers_put(&numbers, i, &values[i]), SK_OK);
        there[i] = true;
        for (int j = 0; j < 2; j++) {
            seed = seed * 1664525u + 1013904223u;
            uint32_t at = 1 + (seed >> 8) % i;
            if (at % 100 == 0) continue; /* these stay */
            numbers_remove(&numbers, at);
            there[at] = false;
        }
    }
    uint32_t count = 0;
    for (uint32_t i = 1; i < COUNT; i++) {
        assert_ptr_equal(numbers_get(&numbers, i), there[i] ? &values[i] : NULL);
        count += there[i];
    }
    assert_int_equal(numbers.count, count);
    assert_null(numbers_get(&numbers, 0));
    numbers_deinit(&numbers);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(behaves_like_an_array)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

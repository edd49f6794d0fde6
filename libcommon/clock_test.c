#include "clock.h"

#include <time.h>

#include "testing.h"

static void test_boottime_advances_and_units_agree(void **state) {
    (void)state;
    uint64_t before_us = clock_boottime_us();
    uint64_t ms = clock_boottime_ms();
    uint64_t after_us = clock_boottime_us();
    assert_true(before_us > 0);
    assert_true(before_us / 1000 <= ms && ms <= after_us / 1000);
    uint64_t last_us = after_us;
    for (int i = 0; i < 10000; i++) {
        uint64_t now_us = clock_boottime_us();
        assert_true(now_us >= last_us);
        last_us = now_us;
    }
    while (clock_boottime_us() == last_us) continue; /* it does not stand still */
}

static void test_realtime_is_the_date(void **state) {
    (void)state;
    time_t before = time(NULL);
    uint64_t us = clock_realtime_us();
    time_t after = time(NULL);
    assert_true((uint64_t)before <= us / 1000000 + 1 && us / 1000000 <= (uint64_t)after + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boottime_advances_and_units_agree),
        cmocka_unit_test(test_realtime_is_the_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

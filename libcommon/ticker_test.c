#include "libcommon/ticker.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/testing.h"

#include <stdatomic.h>
#include <time.h>

#define WAIT_MS 10000u

static void count_call(void *arg) { atomic_fetch_add((atomic_uint *)arg, 1); }

static void wait_for_calls(atomic_uint *calls, unsigned count) {
    uint64_t end_ms = clock_boottime_ms() + WAIT_MS;
    while (atomic_load(calls) < count) {
        assert_true(clock_boottime_ms() < end_ms);
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void calls_over_and_over_until_freed(void **state) {
    (void)state;
    atomic_uint calls = 0;
    struct ticker *ticker;
    uint64_t start_us = clock_boottime_us();
    assert_int_equal(ticker_new(&ticker, 2, count_call, &calls), SK_OK);
    wait_for_calls(&calls, 5);
    assert_true(clock_boottime_us() - start_us >= 8000); /* four waits of 2 ms */
    ticker_free(ticker);
    ticker_free(NULL);
}

static void the_end_does_not_wait_for_the_next_turn(void **state) {
    (void)state;
    atomic_uint calls = 0;
    struct ticker *ticker;
    assert_int_equal(ticker_new(&ticker, UINT32_MAX, count_call, &calls), SK_OK);
    wait_for_calls(&calls, 1);
    ticker_free(ticker); /* else the test would take 49 days */
    assert_int_equal(atomic_load(&calls), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_over_and_over_until_freed),
        cmocka_unit_test(the_end_does_not_wait_for_the_next_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

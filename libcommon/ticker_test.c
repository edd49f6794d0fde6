#include "libcommon/ticker.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/testing.h"

#include <stdatomic.h>
#include <time.h>

#define WAIT_MS 10000u

static uint32_t count_call(void *arg) {
    atomic_fetch_add((atomic_uint *)arg, 1);
    return 2;
}

static uint32_t count_rare_call(void *arg) {
    atomic_fetch_add((atomic_uint *)arg, 1);
    return UINT32_MAX;
}

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
    assert_int_equal(ticker_new(&ticker, count_call, &calls), SK_OK);
    wait_for_calls(&calls, 5);
    assert_true(clock_boottime_us() - start_us >= 8000); /* four waits of 2 ms */
    ticker_free(ticker);
    ticker_free(NULL);
}

static void the_end_does_not_wait_for_the_next_turn(void **state) {
    (void)state;
    atomic_uint calls = 0;
    struct ticker *ticker;
    assert_int_equal(ticker_new(&ticker, count_rare_call, &calls), SK_OK);
    wait_for_calls(&calls, 1);
    ticker_free(ticker); /* else the test would take 49 days */
    assert_int_equal(atomic_load(&calls), 1);
}

struct sleeper {
    struct ticker *ticker;
    atomic_uint calls;
};

/* Wakes itself once, as what it does may make more to do. */
static uint32_t wake_once(void *arg) {
    struct sleeper *sleeper = arg;
    if (atomic_fetch_add(&sleeper->calls, 1) == 0) ticker_wake(sleeper->ticker);
    return UINT32_MAX;
}

static void a_wake_calls_at_once(void **state) {
    (void)state;
    struct sleeper sleeper = {.calls = 0};
    assert_int_equal(ticker_new(&sleeper.ticker, wake_once, &sleeper), SK_OK);
    wait_for_calls(&sleeper.calls, 2);
    ticker_wake(sleeper.ticker);
    wait_for_calls(&sleeper.calls, 3);
    ticker_stop(sleeper.ticker);
    ticker_wake(sleeper.ticker);
    ticker_stop(sleeper.ticker);
    ticker_free(sleeper.ticker);
    assert_int_equal(atomic_load(&sleeper.calls), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_over_and_over_until_freed),
        cmocka_unit_test(a_wake_calls_at_once),
        cmocka_unit_test(the_end_does_not_wait_for_the_next_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

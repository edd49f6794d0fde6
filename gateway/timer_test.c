#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/timer.h"

#include <stdlib.h>

#define START_MS 1000003u

static struct timer_wheel *wheel_new(void) {
    struct timer_wheel *wheel = malloc(sizeof *wheel);
    timer_wheel_init(wheel, START_MS);
    return wheel;
}

static void fires_at_or_after_its_time_and_once(void **state) {
    (void)state;
    struct timer_wheel *wheel = wheel_new();
    struct timer timer = {0};
    for (uint64_t delay = 0; delay <= 60000; delay += 37) {
        uint64_t now_ms = START_MS + delay * 2;
        (void)timer_wheel_advance(wheel, now_ms);
        timer_arm(wheel, &timer, now_ms + delay);
        if (delay > TIMER_TICK_MS) assert_null(timer_wheel_advance(wheel, now_ms + delay - TIMER_TICK_MS));
        assert_ptr_equal(timer_wheel_advance(wheel, now_ms + delay + TIMER_TICK_MS), &timer);
        assert_null(timer_wheel_advance(wheel, now_ms + delay + TIMER_TICK_MS));
        assert_int_equal(wheel->armed, 0);
        timer_wheel_init(wheel, START_MS + delay * 2);
    }
    free(wheel);
}

static void disarmed_timers_do_not_fire(void **state) {
    (void)state;
    struct timer_wheel *wheel = wheel_new();
    struct timer timers[3] = {0};
    for (int i = 0; i < 3; i++) timer_arm(wheel, &timers[i], START_MS + 100);
    timer_disarm(wheel, &timers[1]);
    timer_disarm(wheel, &timers[1]);
    assert_ptr_equal(timer_wheel_advance(wheel, START_MS + 200), &timers[0]);
    assert_ptr_equal(timer_wheel_advance(wheel, START_MS + 200), &timers[2]);
    assert_null(timer_wheel_advance(wheel, START_MS + 200));
    free(wheel);
}

static void armed_in_the_past_or_too_far_ahead(void **state) {
    (void)state;
    struct timer_wheel *wheel = wheel_new();
    struct timer past = {0}, far = {0};
    timer_arm(wheel, &past, 5);
    timer_arm(wheel, &far, START_MS + 10u * TIMER_SPAN_MS);
    assert_ptr_equal(timer_wheel_advance(wheel, START_MS), &past);
    assert_null(timer_wheel_advance(wheel, START_MS + TIMER_SPAN_MS - 2 * TIMER_TICK_MS));
    assert_ptr_equal(timer_wheel_advance(wheel, START_MS + TIMER_SPAN_MS), &far);
    free(wheel);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_at_or_after_its_time_and_once),
        cmocka_unit_test(disarmed_timers_do_not_fire),
        cmocka_unit_test(armed_in_the_past_or_too_far_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

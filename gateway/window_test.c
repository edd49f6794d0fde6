#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/window.h"

static void opens_as_frames_are_taken(void **state) {
    (void)state;
    struct window window;
    window_init(&window, 5);
    uint64_t first = window_send(&window, 100);
    assert_int_equal(window_node_of(first), 5);
    for (uint32_t i = 1; i < WINDOW_FRAMES_MAX; i++) {
        assert_true(window_open(&window));
        assert_int_equal(window_send(&window, 100), first + i);
    }
    assert_false(window_open(&window));
    window_on_taken(&window, first + 1, 200);
    assert_true(window_open(&window));
    window_on_taken(&window, first, 300);       /* old news */
    window_on_taken(&window, first + 100, 300); /* never sent */
    assert_int_equal(window.taken, first + 1);
    assert_int_equal(window.progress_ms, 200);
}

static void stalls_when_nothing_moves_for_a_while(void **state) {
    (void)state;
    struct window window;
    window_init(&window, 1);
    assert_false(window_stalled(&window, 1000000)); /* nothing is out */
    assert_false(window_slow(&window, 1000000));
    uint64_t first = window_send(&window, 100);
    assert_false(window_slow(&window, 100 + WINDOW_SLOW_MS - 1));
    assert_true(window_slow(&window, 100 + WINDOW_SLOW_MS));
    (void)window_send(&window, 900);
    assert_false(window_stalled(&window, 100 + WINDOW_STALL_MS - 1));
    assert_true(window_stalled(&window, 100 + WINDOW_STALL_MS));
    window_on_taken(&window, first, 1000);
    assert_false(window_stalled(&window, 100 + WINDOW_STALL_MS));
    assert_true(window_stalled(&window, 1000 + WINDOW_STALL_MS));
    window_reset(&window);
    assert_false(window_stalled(&window, 1000000));
    assert_int_equal(window_send(&window, 5000), first + 2); /* numbers go on */
}

static void each_stall_is_waited_for_longer(void **state) {
    (void)state;
    struct window window;
    uint64_t now_ms = 100, first = 0;
    window_init(&window, 1);
    for (uint64_t stall_ms = WINDOW_STALL_MS; stall_ms <= 2 * WINDOW_STALL_MS_MAX; stall_ms *= 2) {
        uint64_t wait_ms = stall_ms < WINDOW_STALL_MS_MAX ? stall_ms : WINDOW_STALL_MS_MAX;
        first = window_send(&window, now_ms);
        assert_false(window_stalled(&window, now_ms + wait_ms - 1));
        assert_true(window_stalled(&window, now_ms + wait_ms));
        now_ms += wait_ms;
        window_on_stall(&window);
        assert_true(window_open(&window) && !window_stalled(&window, now_ms));
    }
    window_on_taken(&window, first, now_ms); /* late, and nothing is out: no news */
    first = window_send(&window, now_ms);
    window_on_taken(&window, first, now_ms);
    (void)window_send(&window, now_ms);
    assert_true(window_stalled(&window, now_ms + WINDOW_STALL_MS)); /* it had moved */
}

static void frames_count_once(void **state) {
    (void)state;
    struct seen seen = {0};
    assert_true(seen_first_time(&seen, 9, 3));
    assert_false(seen_first_time(&seen, 9, 3));
    assert_true(seen_first_time(&seen, 9, 5));
    assert_true(seen_first_time(&seen, 9, 4)); /* late */
    assert_false(seen_first_time(&seen, 9, 4));
    assert_true(seen_first_time(&seen, 9, 5 + 64));
    assert_false(seen_first_time(&seen, 9, 5)); /* too old to tell */
    assert_true(seen_first_time(&seen, 9, 6));
    assert_true(seen_first_time(&seen, 9, 5000));
    assert_true(seen_first_time(&seen, 9, 4999));
    assert_true(seen_first_time(&seen, 10, 3)); /* a new start of the sender */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_as_frames_are_taken),
        cmocka_unit_test(stalls_when_nothing_moves_for_a_while),
        cmocka_unit_test(each_stall_is_waited_for_longer),
        cmocka_unit_test(frames_count_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/sim/queue.h"

#include "libcommon/testing.h"
#include "tests/sim/chance.h"

static void test_events_come_by_time_then_by_order(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    struct queue queue;
    struct chance chance;
    queue_init(&queue);
    chance_init(&chance, 7);
    for (uint64_t i = 0; i < COUNT; i++)
        queue_put(&queue, (struct event){.at_us = chance_below(&chance, 50), .a = i});
    struct event last = queue_take(&queue);
    for (int i = 1; i < COUNT; i++) {
        struct event event = queue_take(&queue);
        assert_true(event.at_us > last.at_us || (event.at_us == last.at_us && event.a > last.a));
        last = event;
    }
    assert_int_equal(queue.count, 0);
    queue_deinit(&queue);
}

static void test_taking_and_putting_in_turn(void **state) {
    (void)state;
    struct queue queue;
    struct chance chance;
    queue_init(&queue);
    chance_init(&chance, 8);
    queue_put(&queue, (struct event){.at_us = 1});
    uint64_t now_us = 0;
    for (int i = 0; i < 5000; i++) {
        struct event event = queue_take(&queue);
        assert_true(event.at_us >= now_us);
        now_us = event.at_us;
        for (uint64_t more = chance_between(&chance, 1, 1 + (queue.count < 20)); more > 0; more--) {
            queue_put(&queue, (struct event){.at_us = now_us + chance_below(&chance, 9)});
        }
    }
    queue_deinit(&queue);
}

static void test_a_spread_is_within_its_limits(void **state) {
    (void)state;
    struct chance chance;
    chance_init(&chance, 9);
    bool small = false, large = false;
    for (int i = 0; i < 2000; i++) {
        uint64_t value = chance_spread(&chance, 3, 1000000);
        assert_in_range(value, 3, 1000000);
        small |= value < 20;
        large |= value > 300000;
    }
    assert_true(small && large);
    assert_int_equal(chance_spread(&chance, 5, 5), 5);
    assert_false(chance_happens(&chance, 0));
    assert_true(chance_happens(&chance, CHANCE_ALWAYS));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come_by_time_then_by_order),
        cmocka_unit_test(test_taking_and_putting_in_turn),
        cmocka_unit_test(test_a_spread_is_within_its_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

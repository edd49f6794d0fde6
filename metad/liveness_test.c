#include "metad/liveness.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct liveness liveness;

static void silence_is_longer_than_the_timeout(void **state) {
    (void)state;
    liveness_init(&liveness, 2000, 10000);
    assert_false(liveness_silent(&liveness, 1, 12000));
    assert_true(liveness_silent(&liveness, 1, 12001));
    liveness_hear(&liveness, 1, 11000);
    assert_false(liveness_silent(&liveness, 1, 13000));
    assert_true(liveness_silent(&liveness, 1, 13001));
    assert_true(liveness_silent(&liveness, 2, 13000)); /* nobody else was heard */
}

/* R21: whoever begins to lead waits a full period, however long ago a node was heard of. */
static void a_new_leader_waits_a_full_period(void **state) {
    (void)state;
    liveness_init(&liveness, 2000, 0);
    assert_true(liveness_silent(&liveness, 7, 50000));
    liveness_reset(&liveness, 50000);
    assert_false(liveness_silent(&liveness, 7, 52000));
    assert_true(liveness_silent(&liveness, 7, 52001));
}

/* After a stop of our own the heartbeats of all wait in the sockets: nobody is dead for that. */
static void our_own_standstill_proves_nothing(void **state) {
    (void)state;
    liveness_init(&liveness, 2000, 0);
    liveness_hear(&liveness, 1, 900);
    liveness_tick(&liveness, 1000);
    assert_int_equal(liveness_age_ms(&liveness, 1, 1000), 100);
    liveness_tick(&liveness, 2001); /* more than half a timeout later */
    assert_int_equal(liveness_age_ms(&liveness, 1, 2001), 0);
    assert_false(liveness_silent(&liveness, 1, 4001));
}

static void regular_ticks_change_nothing(void **state) {
    (void)state;
    liveness_init(&liveness, 2000, 0);
    for (uint64_t now_ms = 1000; now_ms <= 3000; now_ms += 1000) liveness_tick(&liveness, now_ms);
    assert_true(liveness_silent(&liveness, 1, 3000));
}

static void time_never_goes_back(void **state) {
    (void)state;
    liveness_init(&liveness, 2000, 1000);
    liveness_hear(&liveness, MAP_NODES_MAX, 5000);
    liveness_hear(&liveness, MAP_NODES_MAX, 4000);
    assert_int_equal(liveness_age_ms(&liveness, MAP_NODES_MAX, 5500), 500);
    assert_int_equal(liveness_age_ms(&liveness, MAP_NODES_MAX, 4500), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_longer_than_the_timeout),
        cmocka_unit_test(a_new_leader_waits_a_full_period),
        cmocka_unit_test(our_own_standstill_proves_nothing),
        cmocka_unit_test(regular_ticks_change_nothing),
        cmocka_unit_test(time_never_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

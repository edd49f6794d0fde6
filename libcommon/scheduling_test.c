#include "libcommon/scheduling.h"

#include "libcommon/testing.h"

#include <pthread.h>
#include <sched.h>

static void *policy_of_thread(void *arg) {
    *(int *)arg = sched_getscheduler(0);
    return NULL;
}

static void threads_inherit_it(void **state) {
    (void)state;
    pthread_t thread;
    int policy = -1;
    scheduling_use(SCHEDULING_NORMAL);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    scheduling_use(SCHEDULING_BATCH);
    assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
    assert_int_equal(pthread_create(&thread, NULL, policy_of_thread, &policy), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(policy, SCHED_BATCH);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_inherit_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

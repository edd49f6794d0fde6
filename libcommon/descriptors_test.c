#include "libcommon/descriptors.h"

#include "libcommon/testing.h"

#include <fcntl.h>
#include <sys/resource.h>

static void as_many_as_there_may_be(void **state) {
    (void)state;
    struct rlimit old, now;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(old.rlim_max > 64);
    struct rlimit tight = {.rlim_cur = 32, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    assert_int_equal(fcntl(0, F_DUPFD, 40), -1);
    assert_int_equal(descriptors_raise(), old.rlim_max);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
    assert_int_equal(now.rlim_cur, old.rlim_max);
    int fd = fcntl(0, F_DUPFD, 40);
    assert_true(fd >= 40);
    (void)close(fd);
    assert_int_equal(descriptors_raise(), old.rlim_max); /* there already */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_many_as_there_may_be)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "libcommon/ending.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A process that hangs at its end ends with its own code. */
static void test_a_hung_process_ends(void **state) {
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ending_guard(1, 7);
        for (;;) pause();
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_hung_process_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "gateway/tally.h"

#include "libcommon/testing.h"

/* An outcome that has not been seen is there, as nothing; one of several commands is their sum. */
static void outcomes_are_summed_over_commands(void **state) {
    (void)state;
    struct tally tally = {0};
    struct buffer page;
    buffer_init(&page);
    tally_command(&tally, 0, SK_OK);
    tally_command(&tally, 1, SK_OK);
    tally_command(&tally, 1, SK_TIMEOUT);
    tally_command(&tally, TALLY_ATOMIC, SK_TIMEOUT);
    tally_command(&tally, TALLY_INVALID, SK_NOT_LEADER); /* clients see INTERNAL */
    tally_write(&tally, &page);
    buffer_append(&page, "", 1);
    assert_false(page.failed);
    const char *all = (const char *)page.data;
    assert_non_null(strstr(all, "\nskerry_command_outcomes_total{outcome=\"ok\"} 2\n"));
    assert_non_null(strstr(all, "\nskerry_command_outcomes_total{outcome=\"timeout\"} 2\n"));
    assert_non_null(strstr(all, "\nskerry_command_outcomes_total{outcome=\"internal\"} 1\n"));
    assert_non_null(strstr(all, "\nskerry_command_outcomes_total{outcome=\"unavailable\"} 0\n"));
    assert_non_null(strstr(all, "\nskerry_commands_total{command=\"atomic_batch\",outcome=\"timeout\"} 1\n"));
    buffer_deinit(&page);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(outcomes_are_summed_over_commands)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

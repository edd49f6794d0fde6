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

static void doors_are_told_apart(void **state) {
    static struct tally tally;
    struct buffer page;
    (void)state;
    buffer_init(&page);
    metrics_add(&tally.requests[DOOR_NNG], 2);
    metrics_add(&tally.requests[DOOR_RESP], 3);
    metrics_add(&tally.door_commands[DOOR_RESP], 40);
    tally_write(&tally, &page);
    buffer_append(&page, "", 1);
    assert_false(page.failed);
    const char *all = (const char *)page.data;
    assert_non_null(strstr(all, "\nskerry_requests_total{door=\"nng\"} 2\n"));
    assert_non_null(strstr(all, "\nskerry_requests_total{door=\"resp\"} 3\n"));
    assert_non_null(strstr(all, "\nskerry_requests_total{door=\"http\"} 0\n"));
    assert_non_null(strstr(all, "\nskerry_door_commands_total{door=\"resp\"} 40\n"));
    buffer_deinit(&page);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(outcomes_are_summed_over_commands),
                                       cmocka_unit_test(doors_are_told_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

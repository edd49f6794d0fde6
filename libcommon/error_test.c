#include "error.h"

#include <errno.h>
#include <string.h>

#include "testing.h"

static const struct {
    int err;
    const char *name;
    enum sk_outcome outcome;
} known[] = {
#define X(symbol, code, name, outcome, text) {symbol, name, outcome},
    SK_CLIENT_ERRORS(X) SK_DAEMON_ERRORS(X) SK_FAULTS(X)
#undef X
};

#define KNOWN_COUNT (sizeof known / sizeof known[0])

static void test_every_code_has_a_name_of_its_own(void **state) {
    (void)state;
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        assert_string_equal(error_name(known[i].err), known[i].name);
        assert_int_equal(error_from_name(known[i].name, strlen(known[i].name)), known[i].err);
        assert_int_equal(error_outcome(known[i].err), known[i].outcome);
        assert_true(strlen(error_text(known[i].err)) > 0);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(known[j].name, known[i].name);
            assert_int_not_equal(known[j].err, known[i].err);
        }
    }
}

static void test_unknown_codes_and_names(void **state) {
    (void)state;
    assert_string_equal(error_name(SK_OK), "OK");
    assert_string_equal(error_name(9999), "UNKNOWN");
    assert_string_equal(error_name(-9999), "UNKNOWN");
    assert_true(strlen(error_text(9999)) > 0);
    assert_int_equal(error_outcome(9999), SK_UNKNOWN);
    assert_int_equal(error_from_name("", 0), SK_EUNEXPECTED);
    assert_int_equal(error_from_name("TIMEOU", 6), SK_EUNEXPECTED);
    assert_int_equal(error_from_name("TIMEOUTS", 8), SK_EUNEXPECTED);
    assert_int_equal(error_from_name("timeout", 7), SK_EUNEXPECTED);
}

static void test_what_clients_see(void **state) {
    (void)state;
    assert_true(error_is_for_clients(SK_BADREQUEST));
    assert_true(error_is_for_clients(SK_CLIENT_LAST));
    assert_false(error_is_for_clients(SK_OK));
    assert_false(error_is_for_clients(SK_CLIENT_LAST + 1));
    assert_false(error_is_for_clients(SK_NOT_LEADER));
    assert_false(error_is_for_clients(SK_ENOMEM));
    assert_int_equal(error_outcome(SK_TIMEOUT), SK_UNKNOWN);
    assert_int_equal(error_outcome(SK_UNAVAILABLE), SK_NOT_DONE);
}

static void test_errno(void **state) {
    (void)state;
    assert_int_equal(error_from_errno(ENOMEM), SK_ENOMEM);
    assert_int_equal(error_from_errno(ENOSPC), SK_ENOSPC);
    assert_int_equal(error_from_errno(EDQUOT), SK_ENOSPC);
    assert_int_equal(error_from_errno(EIO), SK_EIO);
    assert_int_equal(error_from_errno(EBADF), SK_EIO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_a_name_of_its_own),
        cmocka_unit_test(test_unknown_codes_and_names),
        cmocka_unit_test(test_what_clients_see),
        cmocka_unit_test(test_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

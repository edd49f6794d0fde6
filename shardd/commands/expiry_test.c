#include "shardd/exec_fixture.h"

#define NOT_INT      "-BADREQUEST value is not an integer or out of range"
#define NX_NOT_ALONE "-BADREQUEST NX and XX, GT or LT options at the same time are not compatible"
#define GT_AND_LT    "-BADREQUEST GT and LT options at the same time are not compatible"

static void keys_expire(void **state) {
    (void)state;
    FIXTURE_TABLE({"EXPIRE k 10", "0"}, {"SET k v", "+OK"}, {"TTL k", "-1"}, {"PTTL k", "-1"},
                  {"EXPIRETIME k", "-1"}, {"PEXPIRETIME k", "-1"}, {"EXPIRE k 10", "1"}, {"TTL k", "10"},
                  {"EXPIRETIME k", "1700000010"}, {"PEXPIRETIME k", "1700000010000"}, {"PEXPIRE k 1501", "1"},
                  {"TTL k", "2"}, {"PTTL k", "1501"}, {"@2", ""}, {"TTL k", "1"}, {"EXPIREAT k 1700000005", "1"},
                  {"PTTL k", "4998"}, {"PEXPIREAT k 1700000000003", "1"}, {"TTL k", "0"}, {"PTTL k", "1"},
                  {"TYPE k", "+string"}, {"@1", ""}, {"PTTL k", "-2"}, {"TTL k", "-2"}, {"EXPIRETIME k", "-2"},
                  {"PEXPIRETIME k", "-2"}, {"TYPE k", "+none"}, {"EXISTS k", "0"}, {"DBSIZE", "1"},
                  {"EXPIRE k 10", "0"}, {"DBSIZE", "0"});
}

static void the_past_deletes(void **state) {
    (void)state;
    static const char *const past[] = {"EXPIRE k 0",
                                       "EXPIRE k -1",
                                       "PEXPIRE k 0",
                                       "PEXPIRE k -9223372036854775808",
                                       "EXPIREAT k 1700000000",
                                       "PEXPIREAT k 1700000000000",
                                       "EXPIREAT k 0",
                                       "EXPIREAT k -5",
                                       "EXPIRE k -9223372036854775",
                                       "EXPIRE k 0 LT",
                                       "GETEX k EXAT 5"};
    for (size_t i = 0; i < sizeof past / sizeof past[0]; i++) {
        struct fixture fixture;
        fixture_init(&fixture);
        fixture_expect(&fixture, "SET k v EX 100", "+OK");
        fixture_run(&fixture, past[i]);
        assert_int_equal(fixture.err, SK_OK);
        fixture_expect(&fixture, "DBSIZE", "0");
        fixture_audit(&fixture);
        fixture_deinit(&fixture);
    }
    FIXTURE_TABLE({"SET k v", "+OK"}, {"EXPIRE k -1", "1"}, {"EXPIRE k -1", "0"}, {"SET k v", "+OK"},
                  {"EXPIRE k -1 XX", "0"}, {"EXPIRE k -1 GT", "0"}, {"EXPIRE k -1 NX", "1"}, {"EXISTS k", "0"});
}

static void expire_has_conditions(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET k v", "+OK"}, {"EXPIRE k 10 XX", "0"}, {"EXPIRE k 10 GT", "0"}, {"EXPIRE k 10 nx", "1"},
                  {"EXPIRE k 20 NX", "0"}, {"EXPIRE k 20 XX", "1"}, {"EXPIRE k 20 GT", "0"},
                  {"EXPIRE k 21 GT", "1"}, {"EXPIRE k 21 LT", "0"}, {"EXPIRE k 5 LT", "1"},
                  {"PEXPIRE k 5001 GT XX", "1"}, {"PTTL k", "5001"}, {"PEXPIREAT k 1700000005001 LT", "0"},
                  {"EXPIREAT k 1700000005 LT XX", "1"}, {"PERSIST k", "1"}, {"EXPIRE k 100 LT", "1"},
                  {"TTL k", "100"}, {"EXPIRE n 1 LT", "0"});
    FIXTURE_TABLE({"SET k v", "+OK"}, {"EXPIRE k 10 NX XX", NX_NOT_ALONE}, {"EXPIRE k 10 GT NX", NX_NOT_ALONE},
                  {"EXPIRE k 10 NX LT", NX_NOT_ALONE}, {"EXPIRE k 10 GT LT", GT_AND_LT},
                  {"EXPIRE k 10 NX NX", "1"}, {"EXPIRE k 10 AB", "-BADREQUEST Unsupported option AB"},
                  {"EXPIRE k x \"A\\xff\\n%s\"", "-BADREQUEST Unsupported option A??%s"}, {"EXPIRE k x", NOT_INT},
                  {"EXPIRE n x", NOT_INT}, {"EXPIRE k 1.0", NOT_INT});
}

static void deadlines_have_limits(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET k v", "+OK"},
                  {"EXPIRE k 9223372036854775807", "-BADREQUEST invalid expire time in 'expire' command"},
                  {"EXPIRE k -9223372036854775808", "-BADREQUEST invalid expire time in 'expire' command"},
                  {"PEXPIRE k 9223372036854775807", "-BADREQUEST invalid expire time in 'pexpire' command"},
                  {"EXPIREAT k 9223372036854776", "-BADREQUEST invalid expire time in 'expireat' command"},
                  {"PEXPIREAT n 9223372036854776", "-BADREQUEST invalid expire time in 'pexpireat' command"},
                  {"TTL k", "-1"}, {"PEXPIREAT k 9223372036854775", "1"}, {"PEXPIRETIME k", "9223372036854775"},
                  {"EXPIREAT k 9223372036854", "1"}, {"EXPIRETIME k", "9223372036854"});
}

static void persists(void **state) {
    (void)state;
    FIXTURE_TABLE({"PERSIST k", "0"}, {"SET k v", "+OK"}, {"PERSIST k", "0"}, {"EXPIRE k 10", "1"},
                  {"PERSIST k", "1"}, {"TTL k", "-1"}, {"EXPIRE k 10", "1"}, {"@10000", ""}, {"PERSIST k", "0"},
                  {"DBSIZE", "0"});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_expire),
        cmocka_unit_test(the_past_deletes),
        cmocka_unit_test(expire_has_conditions),
        cmocka_unit_test(deadlines_have_limits),
        cmocka_unit_test(persists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

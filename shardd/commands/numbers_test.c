#include "shardd/exec_fixture.h"

#define NOT_INT   "-BADREQUEST value is not an integer or out of range"
#define NO_INT    "-BADVALUE value is not an integer or out of range"
#define OVERFLOW  "-BADVALUE increment or decrement would overflow"
#define NOT_FLOAT "-BADREQUEST value is not a valid float"
#define NO_FLOAT  "-BADVALUE value is not a valid float"
#define INFINITE  "-BADVALUE increment would produce NaN or Infinity"

static void counts(void **state) {
    (void)state;
    FIXTURE_TABLE({"INCR k", "1"}, {"INCR k", "2"}, {"INCRBY k 40", "42"}, {"DECR k", "41"}, {"DECRBY k 42", "-1"},
                  {"DECRBY k -2", "1"}, {"INCRBY k :-3", "-2"}, {"GET k", "\"-2\""}, {"DECR n", "-1"},
                  {"EXPIRE k 10", "1"}, {"INCR k", "-1"}, {"TTL k", "10"}, {"@10000", ""}, {"INCR k", "1"},
                  {"TTL k", "-1"});
}

static void counts_to_the_limits(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET k 9223372036854775806", "+OK"}, {"INCR k", "9223372036854775807"}, {"INCR k", OVERFLOW},
                  {"INCRBY k 9223372036854775807", OVERFLOW}, {"GET k", "\"9223372036854775807\""},
                  {"INCRBY k -9223372036854775808", "-1"}, {"INCRBY k -9223372036854775808", OVERFLOW},
                  {"SET k -9223372036854775807", "+OK"}, {"DECR k", "-9223372036854775808"}, {"DECR k", OVERFLOW},
                  {"DECRBY k -9223372036854775808", "-BADREQUEST decrement would overflow"},
                  {"DECRBY k -9223372036854775807", "-1"}, {"INCRBY k 9223372036854775808", NOT_INT},
                  {"INCRBY k :9223372036854775807", "9223372036854775806"});
}

static void only_integers_are_integers(void **state) {
    (void)state;
    static const char *const values[] = {"\" 1\"",
                                         "\"1 \"",
                                         "+1",
                                         "01",
                                         "-0",
                                         "\"\"",
                                         "1.0",
                                         "a",
                                         "1e3",
                                         "9223372036854775808",
                                         "-9223372036854775809"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct fixture fixture;
        fixture_init(&fixture);
        char line[100];
        snprintf(line, sizeof line, "SET k %s", values[i]);
        fixture_expect(&fixture, line, "+OK");
        fixture_expect(&fixture, "INCR k", NO_INT);
        fixture_expect(&fixture, "DECRBY k 5", NO_INT);
        snprintf(line, sizeof line, "INCRBY n %s", values[i]);
        fixture_expect(&fixture, line, NOT_INT);
        fixture_expect(&fixture, "EXISTS n", "0");
        fixture_audit(&fixture);
        fixture_deinit(&fixture);
    }
    FIXTURE_TABLE({"SET k 0", "+OK"}, {"INCR k", "1"});
}

static void adds_decimals(void **state) {
    (void)state;
    FIXTURE_TABLE({"INCRBYFLOAT k 10.5", "\"10.5\""}, {"INCRBYFLOAT k 0.1", "\"10.6\""},
                  {"INCRBYFLOAT k -5", "\"5.6\""}, {"SET k 5.0e3", "+OK"}, {"INCRBYFLOAT k 2.0e2", "\"5200\""},
                  {"GET k", "\"5200\""}, {"INCR k", "5201"}, {"SET k 3.0", "+OK"}, {"INCRBYFLOAT k 1.0", "\"4\""},
                  {"INCRBYFLOAT k -4", "\"0\""}, {"INCRBYFLOAT k 1e18", "\"1000000000000000000\""},
                  {"INCRBYFLOAT k :1", "\"1000000000000000001\""}, {"EXPIRE k 10", "1"},
                  {"INCRBYFLOAT k #-0.5", "\"1000000000000000000.5\""}, {"TTL k", "10"});
    FIXTURE_TABLE({"SET k a", "+OK"}, {"INCRBYFLOAT k 1", NO_FLOAT}, {"INCRBYFLOAT n 1a", NOT_FLOAT},
                  {"INCRBYFLOAT n \" 1\"", NOT_FLOAT}, {"INCRBYFLOAT n \"\"", NOT_FLOAT},
                  {"INCRBYFLOAT n nan", NOT_FLOAT}, {"INCRBYFLOAT n inf", INFINITE},
                  {"INCRBYFLOAT n -inf", INFINITE}, {"SET k \"\"", "+OK"}, {"INCRBYFLOAT k 1", NO_FLOAT},
                  {"SET k 1.18e4932", "+OK"}, {"INCRBYFLOAT k 1.18e4932", INFINITE}, {"GET k", "\"1.18e4932\""},
                  {"EXISTS n", "0"});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(counts_to_the_limits),
        cmocka_unit_test(only_integers_are_integers),
        cmocka_unit_test(adds_decimals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

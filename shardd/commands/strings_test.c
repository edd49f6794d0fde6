#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_INT   "-BADREQUEST value is not an integer or out of range"
#define SYNTAX    "-BADREQUEST syntax error"

static void sets_and_gets(void **state) {
    (void)state;
    FIXTURE_TABLE({"GET k", "nil"}, {"SET k v", "+OK"}, {"GET k", "\"v\""}, {"get k", "\"v\""}, {"DEL k k", "1"},
                  {"GET k", "nil"}, {"SET \"\" \"\"", "+OK"}, {"GET \"\"", "\"\""}, {"EXISTS \"\" k \"\"", "2"},
                  {"SET k :-12", "+OK"}, {"GET k", "\"-12\""}, {"SET k #0.5", "+OK"}, {"GET k", "\"0.5\""},
                  {"SET :7 \"\\x00\\xff\"", "+OK"}, {"GET 7", "\"\\x00\\xff\""}, {"DBSIZE", "3"});
}

/* A version is never the same again, whatever changes. */
static void values_have_versions(void **state) {
    (void)state;
    FIXTURE_TABLE({"VGET k", "nil"}, {"VERSION k", "0"}, {"SET k v", "+OK"}, {"VGET k", "[1 \"v\" -1]"},
                  {"VERSION k", "1"}, {"GET k", "\"v\""}, {"VERSION k", "1"}, {"SET k v PX 1500", "+OK"},
                  {"VGET k", "[2 \"v\" 1500]"}, {"@1499", ""}, {"VGET k", "[2 \"v\" 1]"}, {"SET n v", "+OK"},
                  {"PERSIST k", "1"}, {"VGET k", "[4 \"v\" -1]"}, {"DEL k", "1"}, {"VGET k", "nil"},
                  {"SET k v", "+OK"}, {"VERSION k", "5"},
                  {"VGET", "-BADREQUEST wrong number of arguments for 'vget' command"});
}

static void set_has_conditions(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET k 1 XX", "nil"}, {"EXISTS k", "0"}, {"SET k 1 NX", "+OK"}, {"SET k 2 NX", "nil"},
                  {"SET k 2 xx", "+OK"}, {"GET k", "\"2\""}, {"SET k 3 NX GET", "\"2\""}, {"GET k", "\"2\""},
                  {"SET k 3 XX GET", "\"2\""}, {"GET k", "\"3\""}, {"SET n 1 NX GET", "nil"}, {"GET n", "\"1\""},
                  {"SET m 1 XX GET", "nil"}, {"EXISTS m", "0"}, {"SET k 4 GET", "\"3\""}, {"SET k 5 NX NX", "nil"},
                  {"SET k 5 NX XX", SYNTAX}, {"SET k 5 XX NX", SYNTAX}, {"SET k 5 WHAT", SYNTAX});
    FIXTURE_TABLE({"SET k 1 IFEQ 0", "nil"}, {"EXISTS k", "0"}, {"SET k a", "+OK"}, {"SET k b IFEQ b", "nil"},
                  {"SET k b IFEQ a", "+OK"}, {"SET k c IFEQ x GET", "\"b\""}, {"SET k c IFEQ b GET", "\"b\""},
                  {"GET k", "\"c\""}, {"SET k d IFEQ", SYNTAX}, {"SET k d NX IFEQ c", SYNTAX},
                  {"SET k d IFEQ c XX", SYNTAX}, {"SET k d EX 10 IFEQ c", "+OK"}, {"TTL k", "10"});
}

static void set_has_deadlines(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET k v EX 10", "+OK"}, {"TTL k", "10"}, {"PTTL k", "10000"}, {"SET k v", "+OK"},
                  {"TTL k", "-1"}, {"SET k v PX 1500", "+OK"}, {"PTTL k", "1500"}, {"@1499", ""},
                  {"GET k", "\"v\""}, {"PTTL k", "1"}, {"@1", ""}, {"GET k", "nil"}, {"TTL k", "-2"},
                  {"DBSIZE", "1"}, {"SET k w", "+OK"}, {"DBSIZE", "1"}, {"TTL k", "-1"});
    FIXTURE_TABLE({"SET k v EXAT 1700000010", "+OK"}, {"TTL k", "10"}, {"SET k v PXAT 1700000000001", "+OK"},
                  {"PTTL k", "1"}, {"SET k w KEEPTTL", "+OK"}, {"PTTL k", "1"}, {"SET n v KEEPTTL", "+OK"},
                  {"TTL n", "-1"}, {"SET k v PXAT 1700000000000", "+OK"}, {"EXISTS k", "0"}, {"DBSIZE", "1"},
                  {"SET k v EXAT 1", "+OK"}, {"EXISTS k", "0"});
    FIXTURE_TABLE({"SET k v EX 0", "-BADREQUEST invalid expire time in 'set' command"},
                  {"SET k v PX -1", "-BADREQUEST invalid expire time in 'set' command"},
                  {"SET k v EXAT 0", "-BADREQUEST invalid expire time in 'set' command"},
                  {"SET k v EX 9223372036854775807", "-BADREQUEST invalid expire time in 'set' command"},
                  {"SET k v EX 9223372036854775808", NOT_INT}, {"SET k v PX 1.5", NOT_INT},
                  {"SET k v EX \" 1\"", NOT_INT}, {"SET k v EX", SYNTAX}, {"SET k v EX 10 PX 10", SYNTAX},
                  {"SET k v EX 10 KEEPTTL", SYNTAX}, {"SET k v KEEPTTL EXAT 10", SYNTAX},
                  {"SET k v PXAT 10 EXAT 10", SYNTAX}, {"SET k v PERSIST", SYNTAX}, {"SET k v EX 10 EX 20", "+OK"},
                  {"TTL k", "20"}, {"DBSIZE", "1"});
    FIXTURE_TABLE({"SETEX k 10 v", "+OK"}, {"TTL k", "10"}, {"PSETEX k 10 v", "+OK"}, {"PTTL k", "10"},
                  {"SETEX k 0 v", "-BADREQUEST invalid expire time in 'setex' command"},
                  {"PSETEX k -5 v", "-BADREQUEST invalid expire time in 'psetex' command"},
                  {"SETEX k x v", NOT_INT}, {"PTTL k", "10"}, {"@10", ""}, {"GETSET k new", "nil"},
                  {"TTL k", "-1"});
}

static void set_variants(void **state) {
    (void)state;
    FIXTURE_TABLE({"SETNX k 1", "1"}, {"SETNX k 2", "0"}, {"GET k", "\"1\""}, {"GETSET k 3", "\"1\""},
                  {"GETSET n 3", "nil"}, {"EXPIRE k 10", "1"}, {"GETSET k 4", "\"3\""}, {"TTL k", "-1"},
                  {"GETDEL k", "\"4\""}, {"GETDEL k", "nil"}, {"DBSIZE", "1"});
    FIXTURE_TABLE({"MSET a 1 b 2 a 3", "+OK"}, {"MGET a b c a", "[\"3\" \"2\" nil \"3\"]"}, {"DBSIZE", "2"},
                  {"MSET a", "-BADREQUEST wrong number of arguments for 'mset' command"},
                  {"MSET a 1 b", "-BADREQUEST wrong number of arguments for 'mset' command"}, {"EXPIRE a 10", "1"},
                  {"MSET a 9", "+OK"}, {"TTL a", "-1"});
}

static void getex_moves_deadlines(void **state) {
    (void)state;
    FIXTURE_TABLE({"GETEX k", "nil"}, {"GETEX k EX 0", "nil"}, {"SET k v", "+OK"}, {"GETEX k", "\"v\""},
                  {"TTL k", "-1"}, {"GETEX k EX 10", "\"v\""}, {"TTL k", "10"}, {"GETEX k", "\"v\""},
                  {"TTL k", "10"}, {"GETEX k PERSIST", "\"v\""}, {"TTL k", "-1"}, {"GETEX k PX 5", "\"v\""},
                  {"PTTL k", "5"}, {"GETEX k EXAT 1700000100", "\"v\""}, {"TTL k", "100"},
                  {"GETEX k PXAT 1700000000007", "\"v\""}, {"PTTL k", "7"},
                  {"GETEX k EX 0", "-BADREQUEST invalid expire time in 'getex' command"},
                  {"GETEX k EX x", NOT_INT}, {"GETEX k NX", SYNTAX}, {"GETEX k KEEPTTL", SYNTAX},
                  {"GETEX k EX 10 PERSIST", SYNTAX}, {"GETEX k EX", SYNTAX}, {"GETEX k EXAT 1", "\"v\""},
                  {"GETEX k", "nil"}, {"DBSIZE", "0"});
}

static void appends(void **state) {
    (void)state;
    FIXTURE_TABLE({"APPEND k ab", "2"}, {"APPEND k \"\"", "2"}, {"APPEND k cd", "4"}, {"GET k", "\"abcd\""},
                  {"STRLEN k", "4"}, {"STRLEN n", "0"}, {"EXPIRE k 10", "1"}, {"APPEND k e", "5"}, {"TTL k", "10"},
                  {"APPEND n \"\"", "0"}, {"EXISTS n", "1"}, {"@10000", ""}, {"APPEND k x", "1"}, {"TTL k", "-1"});
}

static void ranges(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET k \"This is a string\"", "+OK"}, {"GETRANGE k 0 3", "\"This\""},
                  {"GETRANGE k -3 -1", "\"ing\""}, {"GETRANGE k 0 -1", "\"This is a string\""},
                  {"GETRANGE k 10 100", "\"string\""}, {"GETRANGE k 5 3", "\"\""}, {"GETRANGE k -1 -5", "\"\""},
                  {"GETRANGE k -100 1", "\"Th\""}, {"GETRANGE k -100 -200", "\"\""},
                  {"GETRANGE k -200 -100", "\"T\""}, {"GETRANGE k 16 20", "\"\""},
                  {"GETRANGE k -9223372036854775808 9223372036854775807", "\"This is a string\""},
                  {"GETRANGE n 0 -1", "\"\""}, {"GETRANGE k a 1", NOT_INT}, {"GETRANGE k 0 01", NOT_INT});
    FIXTURE_TABLE({"SETRANGE k 0 \"\"", "0"}, {"EXISTS k", "0"}, {"SETRANGE k 2 ab", "4"},
                  {"GET k", "\"\\x00\\x00ab\""}, {"SETRANGE k 0 x", "4"}, {"GET k", "\"x\\x00ab\""},
                  {"SETRANGE k 3 yz", "5"}, {"GET k", "\"x\\x00ayz\""}, {"SETRANGE k 100 \"\"", "5"},
                  {"EXPIRE k 10", "1"}, {"SETRANGE k 5 !", "6"}, {"TTL k", "10"},
                  {"SETRANGE k -1 a", "-BADREQUEST offset is out of range"}, {"SETRANGE k a b", NOT_INT},
                  {"SETRANGE k 16777215 a", "16777216"},
                  {"SETRANGE k 16777216 a", "-TOOLARGE string exceeds maximum allowed size"},
                  {"SETRANGE k 9223372036854775807 a", "-TOOLARGE string exceeds maximum allowed size"},
                  {"APPEND k a", "-TOOLARGE string exceeds maximum allowed size"}, {"STRLEN k", "16777216"});
}

static void compares_and_swaps(void **state) {
    (void)state;
    FIXTURE_TABLE({"CAS k a b", "0"}, {"CAS k nil nil", "1"}, {"EXISTS k", "0"}, {"CAS k nil a", "1"},
                  {"CAS k nil b", "0"}, {"GET k", "\"a\""}, {"CAS k a b", "1"}, {"GET k", "\"b\""},
                  {"EXPIRE k 10", "1"}, {"CAS k b c", "1"}, {"TTL k", "10"}, {"CAS k \"\" d", "0"},
                  {"CAS k x nil", "0"}, {"CAS k c nil", "1"}, {"EXISTS k", "0"}, {"CAS n \"\" x", "0"},
                  {"CAS k nil \"\"", "1"}, {"CAS k \"\" :5", "1"}, {"CAS k :5 6", "1"}, {"GET k", "\"6\""},
                  {"CAS nil a b", "-BADREQUEST the key is nil"}, {"SET k nil", "-BADREQUEST an argument is nil"},
                  {"PEXPIRE k 1", "1"}, {"@1", ""}, {"CAS k 6 7", "0"}, {"CAS k nil 7", "1"}, {"TTL k", "-1"});
}

static void other_types_are_refused(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_put_other_type(&fixture, "k", 0);
    static const char *const refused[] = {
        "GET k",
        "VGET k",
        "GETSET k v",
        "GETDEL k",
        "GETEX k",
        "GETEX k EX 0",
        "APPEND k v",
        "STRLEN k",
        "GETRANGE k 0 1",
        "SETRANGE k 0 v",
        "SETRANGE k 0 \"\"",
        "INCR k",
        "INCRBYFLOAT k 1",
        "CAS k nil v",
        "CAS k a b",
        "SET k v GET",
        "SET k v NX GET",
        "SET k v IFEQ head",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        fixture_expect(&fixture, refused[i], WRONGTYPE);
    }
    fixture_expect(&fixture, "MGET k", "[nil]");
    fixture_expect(&fixture, "SET k v NX", "nil");
    fixture_expect(&fixture, "SETNX k v", "0");
    fixture_expect(&fixture, "TYPE k", "+unknown");
    fixture_expect(&fixture, "EXPIRE k 10", "1");
    fixture_audit(&fixture);
    fixture_expect(&fixture, "SET k v KEEPTTL", "+OK"); /* SET and MSET replace any type */
    fixture_expect(&fixture, "TTL k", "10");
    fixture_expect(&fixture, "TYPE k", "+string");
    fixture_audit(&fixture);
    fixture_put_other_type(&fixture, "k", fixture.now_us + 1000);
    fixture.now_us += 1000;
    fixture_expect(&fixture, "GET k", "nil"); /* expired: of no type */
    fixture_expect(&fixture, "APPEND k v", "1");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* What MGET would gather beyond a message is refused, not built. */
static void answers_are_limited(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SETRANGE k 16777215 x", "16777216");
    fixture_expect(&fixture, "MGET k k k", "[\"(16777216 bytes)\" \"(16777216 bytes)\" \"(16777216 bytes)\"]");
    fixture_expect(&fixture, "MGET k k k k", "-TOOLARGE the answer would be too large");
    static const char *const gets[] = {"SET {k}2 v", "GET k", "GET k", "GET k", "GET k"};
    assert_string_equal(fixture_run_atomic(&fixture, gets, 5),
                        "-TOOLARGE command 5: the answer would be too large");
    fixture_expect(&fixture, "GET {k}2", "nil");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_gets),
        cmocka_unit_test(values_have_versions),
        cmocka_unit_test(set_has_conditions),
        cmocka_unit_test(set_has_deadlines),
        cmocka_unit_test(set_variants),
        cmocka_unit_test(getex_moves_deadlines),
        cmocka_unit_test(appends),
        cmocka_unit_test(ranges),
        cmocka_unit_test(compares_and_swaps),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(answers_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

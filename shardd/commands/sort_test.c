/* What a real Redis 7 answers. */
#include "shardd/exec_fixture.h"

static void sorts(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"SORT {t}none", "[]"}, {"RPUSH {t}l 3 1 2 10 -5 2", "6"},
        {"SORT {t}l", "[\"-5\" \"1\" \"2\" \"2\" \"3\" \"10\"]"},
        {"SORT {t}l DESC", "[\"10\" \"3\" \"2\" \"2\" \"1\" \"-5\"]"},
        {"SORT {t}l desc ASC", "[\"-5\" \"1\" \"2\" \"2\" \"3\" \"10\"]"},
        {"SORT {t}l ALPHA", "[\"-5\" \"1\" \"10\" \"2\" \"2\" \"3\"]"},
        {"SORT {t}l ALPHA DESC", "[\"3\" \"2\" \"2\" \"10\" \"1\" \"-5\"]"},
        {"SORT {t}l LIMIT 1 2", "[\"1\" \"2\"]"}, {"SORT {t}l LIMIT -1 2", "[\"-5\" \"1\"]"},
        {"SORT {t}l LIMIT 2 -1", "[\"2\" \"2\" \"3\" \"10\"]"}, {"SORT {t}l LIMIT 10 2", "[]"},
        {"SORT {t}l LIMIT 0 0", "[]"}, {"SORT {t}l LIMIT 0 100 DESC", "[\"10\" \"3\" \"2\" \"2\" \"1\" \"-5\"]"},
        {"SORT {t}l BY nosort", "[\"3\" \"1\" \"2\" \"10\" \"-5\" \"2\"]"},
        {"SORT {t}l BY nosort DESC LIMIT 1 2", "[\"-5\" \"10\"]"},
        {"SORT {t}l LIMIT x 1", "-BADREQUEST value is not an integer or out of range"},
        {"SORT {t}l LIMIT 1", "-BADREQUEST syntax error"}, {"SORT {t}l FOO", "-BADREQUEST syntax error"},
        {"SORT {t}l BY", "-BADREQUEST syntax error"}, {"SORT {t}l GET", "-BADREQUEST syntax error"},
        {"SORT {t}l STORE", "-BADREQUEST syntax error"}, {"SADD {t}s 5 4 3", "3"},
        {"SORT {t}s", "[\"3\" \"4\" \"5\"]"}, {"SORT {t}s DESC GET \"#\"", "[\"5\" \"4\" \"3\"]"},
        {"ZADD {t}z 1 9 2 8 3 7", "3"}, {"SORT {t}z", "[\"7\" \"8\" \"9\"]"},
        {"SORT {t}z BY nosort", "[\"9\" \"8\" \"7\"]"}, {"SORT {t}z BY nosort DESC", "[\"7\" \"8\" \"9\"]"},
        {"SORT {t}z BY nosort DESC LIMIT 1 1", "[\"8\"]"}, {"SORT {t}z BY nosort LIMIT 1 10", "[\"8\" \"7\"]"},
        {"SORT {t}z BY nosort LIMIT 5 10", "[]"}, {"SET {t}str x", "+OK"},
        {"SORT {t}str", "-WRONGTYPE Operation against a key holding the wrong kind of value"},
        {"RPUSH {t}w a 1", "2"}, {"SORT {t}w", "-BADREQUEST One or more scores can't be converted into double"},
        {"SORT {t}w ALPHA", "[\"1\" \"a\"]"}, {"RPUSH {t}e \"\" 1 -1", "3"}, {"SORT {t}e", "[\"-1\" \"\" \"1\"]"},
        {"RPUSH {t}n nan", "1"}, {"SORT {t}n", "-BADREQUEST One or more scores can't be converted into double"},
        {"RPUSH {t}hex 0x10 \" 3\" 1e1 inf", "4"}, {"SORT {t}hex", "[\" 3\" \"1e1\" \"0x10\" \"inf\"]"},
        {"RPUSH {t}big 1e400 1", "2"},
        {"SORT {t}big", "-BADREQUEST One or more scores can't be converted into double"},
        {"SORT {t}l STORE {t}d", "6"}, {"LRANGE {t}d 0 -1", "[\"-5\" \"1\" \"2\" \"2\" \"3\" \"10\"]"},
        {"SORT {t}none STORE {t}d", "0"}, {"EXISTS {t}d", "0"}, {"SORT {t}s STORE {t}d BY nosort", "3"},
        {"LRANGE {t}d 0 -1", "[\"3\" \"4\" \"5\"]"}, {"SORT {t}l LIMIT 1 2 STORE {t}l", "2"},
        {"LRANGE {t}l 0 -1", "[\"1\" \"2\"]"},
        {"SORT {t}str STORE {t}d", "-WRONGTYPE Operation against a key holding the wrong kind of value"},
        {"EXISTS {t}d", "1"}, {"SORT_RO {t}l", "[\"1\" \"2\"]"},
        {"SORT_RO {t}l STORE {t}d", "-BADREQUEST syntax error"}, {"RPUSH {t}u 1 2 3", "3"},
        {"MSET {t}w_1 30 {t}w_2 20 {t}w_3 10 {t}o_1 one {t}o_3 three", "+OK"},
        {"SORT {t}u BY {t}w_*", "[\"3\" \"2\" \"1\"]"}, {"SORT {t}u BY {t}w_* DESC", "[\"1\" \"2\" \"3\"]"},
        {"SORT {t}u BY {t}w_* GET {t}o_* GET \"#\"", "[\"three\" \"3\" nil \"2\" \"one\" \"1\"]"},
        {"SORT {t}u BY {t}w_* GET {t}o_* STORE {t}d", "3"}, {"LRANGE {t}d 0 -1", "[\"three\" \"\" \"one\"]"},
        {"SORT {t}u BY {t}o_* ALPHA", "[\"2\" \"1\" \"3\"]"},
        {"SORT {t}u BY {t}o_* ALPHA DESC", "[\"3\" \"1\" \"2\"]"},
        {"SORT {t}u BY {t}o_*", "-BADREQUEST One or more scores can't be converted into double"},
        {"SORT {t}u BY {t}none_*", "[\"1\" \"2\" \"3\"]"}, {"HSET {t}h_1 f 3 g x", "2"}, {"HSET {t}h_2 f 2", "1"},
        {"HSET {t}h_3 f 1", "1"}, {"SORT {t}u BY {t}h_*->f", "[\"3\" \"2\" \"1\"]"},
        {"SORT {t}u BY {t}h_*->f GET {t}h_*->g", "[nil nil \"x\"]"},
        {"SORT {t}u BY {t}h_*->", "[\"1\" \"2\" \"3\"]"}, {"SORT {t}u GET {t}h_*", "[nil nil nil]"},
        {"SORT {t}u GET {t}w_*->f", "[nil nil nil]"}, {"SORT {t}u GET {t}fixed", "[nil nil nil]"},
        {"SORT {t}u BY {t}w_* LIMIT 0 1 GET \"#\"", "[\"3\"]"});
}

/* Keys that patterns name must lie in the slot of the key. */
static void patterns_need_the_slot(void **state) {
    (void)state;
#define NEEDS_TAG "-CROSSSLOT BY and GET need a pattern with a hash tag of the slot of the key"
    FIXTURE_TABLE(
        {"RPUSH {t}l 1 2", "2"}, {"SORT {t}l BY w_*", NEEDS_TAG}, {"SORT {t}l BY {u}w_*", NEEDS_TAG},
        {"SORT {t}l BY *{t}", NEEDS_TAG}, {"SORT {t}l BY {*}t", NEEDS_TAG}, {"SORT {t}l BY {}t*", NEEDS_TAG},
        {"SORT {t}l GET w_*", NEEDS_TAG}, {"SORT {t}l GET none", "[nil nil]"},
        {"SORT {t}l STORE d", "-CROSSSLOT Keys in request don't hash to the same slot"},
        {"SORT {t}l GET \"\"", "[nil nil]"}, {"SORT {t}l BY \"\"", "[\"1\" \"2\"]"},
        {"SORT {t}l BY GET", "[\"1\" \"2\"]"}, {"SORT {t}l BY GET GET \"#\" GET GET", "[\"1\" nil \"2\" nil]"});
}

static void what_is_stored_replaces(void **state) {
    (void)state;
    FIXTURE_TABLE({"RPUSH {t}l 2 1", "2"}, {"SET {t}d text EX 100", "+OK"}, {"SORT {t}l STORE {t}d", "2"},
                  {"TTL {t}d", "-1"}, {"LRANGE {t}d 0 -1", "[\"1\" \"2\"]"},
                  {"SORT {t}l LIMIT 5 5 STORE {t}d", "0"}, {"EXISTS {t}d", "0"}, {"SADD {t}set 1 2 3", "3"},
                  {"SORT {t}l STORE {t}set", "2"}, {"TYPE {t}set", "+list"});
}

/* A text ends at a zero, for strtod. */
static void numbers_end_at_a_zero(void **state) {
    (void)state;
    FIXTURE_TABLE({"RPUSH {t}l \"2\\x00x\" \"\\x00\" 1", "3"}, {"SORT {t}l", "[\"\\x00\" \"1\" \"2\\x00x\"]"});
}

static void too_much_is_refused(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    for (int i = 0; i <= 250; i++) {
        char line[4096] = "RPUSH {t}l";
        for (int j = 0; j < 1000; j++) strcat(line, " 1");
        (void)fixture_run(&fixture, line);
    }
    fixture_expect(&fixture, "SORT {t}l LIMIT 0 1", "-TOOLARGE there is too much to be sorted");
    fixture_expect(&fixture, "SORT {t}l STORE {t}d", "-TOOLARGE there is too much to be sorted");
    fixture_expect(&fixture, "EXISTS {t}d", "0");
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorts),
        cmocka_unit_test(patterns_need_the_slot),
        cmocka_unit_test(what_is_stored_replaces),
        cmocka_unit_test(numbers_end_at_a_zero),
        cmocka_unit_test(too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

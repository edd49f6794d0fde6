#include "shardd/exec_fixture.h"

static void counts_keys(void **state) {
    (void)state;
    FIXTURE_TABLE({"DEL a b", "0"}, {"MSET a 1 b 2 c 3", "+OK"}, {"EXISTS a b c d a", "4"}, {"TOUCH a d a", "2"},
                  {"DEL a a d", "1"}, {"UNLINK b c", "2"}, {"DBSIZE", "0"}, {"SET k v PX 1", "+OK"},
                  {"TYPE k", "+string"}, {"@1", ""}, {"EXISTS k", "0"}, {"TYPE k", "+none"}, {"DBSIZE", "1"},
                  {"DEL k", "0"}, {"DBSIZE", "0"});
}

static void tells_counters(void **state) {
    (void)state;
    FIXTURE_TABLE({"INFO", "{+keys 0 +expires 0 +key_bytes 0 +value_bytes 0}"}, {"SET key value EX 10", "+OK"},
                  {"SET k \"\"", "+OK"},
                  {"INFO keyspace memory", "{+keys 2 +expires 1 +key_bytes 4 +value_bytes 5}"},
                  {"APPEND k 12345", "5"}, {"PERSIST key", "1"},
                  {"INFO", "{+keys 2 +expires 0 +key_bytes 4 +value_bytes 10}"}, {"DEL key", "1"},
                  {"INFO", "{+keys 1 +expires 0 +key_bytes 1 +value_bytes 5}"},
                  {"DBSIZE x", "-BADREQUEST wrong number of arguments for 'dbsize' command"});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_keys),
        cmocka_unit_test(tells_counters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

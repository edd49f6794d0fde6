#include "shardd/exec_fixture.h"

static void sets_and_gets(void **state) {
    (void)state;
    FIXTURE_TABLE({"GET k", "nil"}, {"SET k v", "+OK"}, {"GET k", "\"v\""}, {"get k", "\"v\""}, {"DEL k k", "1"},
                  {"GET k", "nil"}, {"SET \"\" \"\"", "+OK"}, {"GET \"\"", "\"\""}, {"EXISTS \"\" k \"\"", "2"},
                  {"SET k :-12", "+OK"}, {"GET k", "\"-12\""}, {"SET k #0.5", "+OK"}, {"GET k", "\"0.5\""},
                  {"DBSIZE", "2"});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_gets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

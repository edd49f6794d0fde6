/* What a real Redis 7 answers: sketches are to be the same. */
#include "shardd/exec_fixture.h"

static void commands(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"PFADD p", "1"}, {"PFADD p", "0"}, {"PFCOUNT p", "0"}, {"PFADD p a b c d e f g", "1"}, {"PFADD p a", "0"},
        {"PFCOUNT p", "7"}, {"PFADD p \"\"", "1"}, {"PFCOUNT p", "8"}, {"TYPE p", "+string"},
        {"PFADD {t}a 1 2 3 4 5 6 7 8 9 10", "1"}, {"PFADD {t}b 8 9 10 11 12", "1"}, {"PFCOUNT {t}a {t}b", "12"},
        {"PFCOUNT {t}a {t}none", "10"}, {"PFMERGE {t}d {t}a {t}b", "+OK"}, {"PFCOUNT {t}d", "12"},
        {"PFMERGE {t}e", "+OK"}, {"PFCOUNT {t}e", "0"}, {"PFMERGE {t}d", "+OK"}, {"PFCOUNT {t}d {t}d", "12"},
        {"PFCOUNT none", "0"}, {"SET {t}s text", "+OK"},
        {"PFADD {t}s a", "-WRONGTYPE Key is not a valid HyperLogLog string value."},
        {"PFCOUNT {t}s", "-WRONGTYPE Key is not a valid HyperLogLog string value."},
        {"PFMERGE {t}d {t}s", "-WRONGTYPE Key is not a valid HyperLogLog string value."},
        {"SET short HYLL", "+OK"}, {"PFCOUNT short", "-WRONGTYPE Key is not a valid HyperLogLog string value."},
        {"SET bad \"HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\\x40\"", "+OK"},
        {"PFADD other a", "1"}, {"EXPIRE p 100", "1"}, {"PFADD p zzz", "1"}, {"TTL p", "100"});
}

static void what_is_no_sketch_is_refused(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"SET bad \"HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\\x40\"", "+OK"},
        {"PFCOUNT bad", "-BADVALUE Corrupted HLL object detected"},
        {"PFADD bad x", "-BADVALUE Corrupted HLL object detected"},
        {"SET long \"HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\\x7f\\xff\\x00\"", "+OK"},
        {"PFCOUNT long", "-BADVALUE Corrupted HLL object detected"},
        {"SET dense \"HYLL\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\\x40\"", "+OK"},
        {"PFCOUNT dense", "-WRONGTYPE Key is not a valid HyperLogLog string value."},
        {"SET other \"HYLL\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\\x40\"", "+OK"},
        {"PFCOUNT other", "-WRONGTYPE Key is not a valid HyperLogLog string value."});
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_put_other_type(&fixture, "o", 0);
    fixture_expect(&fixture, "PFADD o a", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    fixture_expect(&fixture, "PFCOUNT o", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    fixture_deinit(&fixture);
}

/* Up to the sizes where a sketch is sparse, where it becomes dense, and far beyond; counted by Redis 7.0. */
static void counts_are_those_of_redis(void **state) {
    (void)state;
    static const int expected[][2] = {{10, 10},     {100, 99},      {500, 502},     {1000, 997},
                                      {3000, 3002}, {10000, 10017}, {50000, 49716}, {200000, 198321}};
    struct fixture fixture;
    fixture_init(&fixture);
    int added = 0;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        char told[16];
        while (added < expected[i][0]) {
            char line[4096] = "PFADD {t}h";
            for (int n = 0; n < 100 && added < expected[i][0]; n++, added++) {
                size_t used = strlen(line);
                snprintf(line + used, sizeof line - used, " element:%d", added);
            }
            (void)fixture_run(&fixture, line);
        }
        snprintf(told, sizeof told, "%d", expected[i][1]);
        fixture_expect(&fixture, "PFCOUNT {t}h", told);
        fixture_expect(&fixture, "PFMERGE {t}copy {t}h", "+OK");
        fixture_expect(&fixture, "PFCOUNT {t}copy", told);
        const char *size = fixture_run(&fixture, "STRLEN {t}h");
        if (added <= 500) assert_true(atoi(size) < 2500);
        if (added >= 10000) assert_string_equal(size, "12304");
    }
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands),
        cmocka_unit_test(what_is_no_sketch_is_refused),
        cmocka_unit_test(counts_are_those_of_redis),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

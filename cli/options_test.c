#include "options.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct values {
    const char *text;
    uint64_t number, duration_ms, choice;
    bool on;
};

static int parse(struct values *values, int argc, const char **argv, int *at, char *text) {
    const struct option options[] = {
        {"--text", OPTION_TEXT, &values->text, 0, 0, NULL, "T", ""},
        {"--number", OPTION_UINT, &values->number, 2, 10, NULL, "N", ""},
        {"--any", OPTION_UINT, &values->number, 0, 0, NULL, "N", ""},
        {"--wait", OPTION_DURATION_MS, &values->duration_ms, 1, 60000, NULL, "T", ""},
        {"--kind", OPTION_CHOICE, &values->choice, 0, 0, "one|two|three", NULL, ""},
        {"--on", OPTION_SWITCH, &values->on, 0, 0, NULL, NULL, ""},
    };
    return options_parse(options, 6, argc, (char **)argv, at, text, 256);
}

static void values_are_read(void **state) {
    (void)state;
    const char *argv[] = {"--text", "a", "--number=10", "--wait", "2s", "--kind=three", "--on", "-5", NULL};
    struct values values = {0};
    char text[256];
    int at = 0;
    assert_int_equal(parse(&values, 7, argv, &at, text), SK_OK);
    assert_int_equal(at, 7);
    assert_string_equal(values.text, "a");
    assert_int_equal(values.number, 10);
    assert_int_equal(values.duration_ms, 2000);
    assert_int_equal(values.choice, 2);
    assert_true(values.on);
}

static void the_first_word_ends_them(void **state) {
    (void)state;
    const char *words[] = {"--on", "SET", "--text", NULL}, *dashes[] = {"--on", "--", "--text", NULL},
               *dash[] = {"-", NULL};
    struct values values = {0};
    char text[256];
    int at = 0;
    assert_int_equal(parse(&values, 3, words, &at, text), SK_OK);
    assert_int_equal(at, 1);
    at = 0;
    assert_int_equal(parse(&values, 3, dashes, &at, text), SK_OK);
    assert_int_equal(at, 2);
    at = 0;
    assert_int_equal(parse(&values, 1, dash, &at, text), SK_OK);
    assert_int_equal(at, 0);
}

static void mistakes_are_named(void **state) {
    (void)state;
    static const struct {
        const char *words[2];
        const char *says;
    } cases[] = {
        {{"--nope", NULL}, "unknown option '--nope'"},
        {{"--tex", "a"}, "unknown option '--tex'"},
        {{"--text", NULL}, "--text needs a value"},
        {{"--number", "1"}, "'1' is not a value for --number (2 to 10)"},
        {{"--number=11", NULL}, "'11' is not a value for --number (2 to 10)"},
        {{"--number", "5x"}, "'5x' is not a value for --number (2 to 10)"},
        {{"--any", "-1"}, "'-1' is not a value for --any"},
        {{"--any", "99999999999999999999"}, "'99999999999999999999' is not a value for --any"},
        {{"--wait", "0"}, "'0' is not a value for --wait (a duration such as 250ms, 5s, 2m)"},
        {{"--wait", "5d"}, "'5d' is not a value for --wait (a duration such as 250ms, 5s, 2m)"},
        {{"--kind", "tw"}, "'tw' is not a value for --kind (one|two|three)"},
        {{"--kind", "one|two"}, "'one|two' is not a value for --kind (one|two|three)"},
        {{"--on=yes", NULL}, "'yes' is not a value for --on, which takes none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct values values = {0};
        char text[256] = "";
        int at = 0, argc = cases[i].words[1] != NULL ? 2 : 1;
        assert_int_equal(parse(&values, argc, (const char **)cases[i].words, &at, text), SK_ECONFIG);
        assert_string_equal(text, cases[i].says);
    }
}

static void durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0}, {"5", 5000}, {"250ms", 250}, {"5s", 5000}, {"2m", 120000}, {"1h", 3600000}};
    uint64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(options_parse_duration(good[i].text, &ms), SK_OK);
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {"", "s", "-1s", "1.5s", "5 s", "18446744073709551615h", "1e3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(options_parse_duration(bad[i], &ms), SK_ECONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(the_first_word_ends_them),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

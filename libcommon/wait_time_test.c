#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "error.h"
#include "wait_time.h"

static void reads_seconds(void **state) {
    (void)state;
    static const struct {
        const char *word;
        uint64_t ms;
    } cases[] = {
        {"0", WAIT_FOR_EVER},
        {"0.0", WAIT_FOR_EVER},
        {"-0.0001", WAIT_FOR_EVER},
        {"1", 1000},
        {"0.0001", 1},
        {"1e-5", 1},
        {"0.25", 250},
        {"+2.5", 2500},
        {"0x1", 1000},
        {"10.0005", 10001},
        {"9223372036854775", 9223372036854775000u},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms;
        const char *text;
        assert_int_equal(wait_time_read(slice_of_text(cases[i].word), &ms, &text), SK_OK);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void refuses_what_is_none(void **state) {
    (void)state;
    static const char no_number[] = "timeout is not a float or out of range", negative[] = "timeout is negative";
    static const struct {
        const char *word, *text;
    } cases[] = {
        {"", no_number},    {"x", no_number},      {"1x", no_number},   {" 1", no_number},
        {"nan", no_number}, {"1e5000", no_number}, {"-1", negative},    {"-0.0011", negative},
        {"inf", negative},  {"-inf", negative},    {"1e300", negative}, {"9223372036854775807", negative},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms;
        const char *text = "";
        assert_int_equal(wait_time_read(slice_of_text(cases[i].word), &ms, &text), SK_BADREQUEST);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_seconds),
        cmocka_unit_test(refuses_what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "shardd/commands/args.h"

#include "libcommon/error.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void parses_integers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool valid;
        int64_t number;
    } cases[] = {
        {"0", true, 0},
        {"7", true, 7},
        {"-1", true, -1},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"18446744073709551616", false, 0},
        {"99999999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"-0", false, 0},
        {"00", false, 0},
        {"01", false, 0},
        {"-01", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1a", false, 0},
        {"--1", false, 0},
        {"1.0", false, 0},
        {"0x1", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t number = 0;
        assert_int_equal(args_parse_int(slice_of_text(cases[i].text), &number), cases[i].valid);
        assert_int_equal(number, cases[i].number);
    }
    int64_t number;
    assert_false(args_parse_int(slice_of("1\0", 2), &number));
}

static void parses_cursors(void **state) {
    (void)state;
    uint64_t number;
    assert_true(args_parse_uint(slice_of_text("18446744073709551615"), &number));
    assert_true(number == UINT64_MAX);
    assert_true(args_parse_uint(slice_of_text("007"), &number));
    assert_int_equal(number, 7);
    assert_false(args_parse_uint(slice_of_text("18446744073709551616"), &number));
    assert_false(args_parse_uint(slice_of_text("-1"), &number));
    assert_false(args_parse_uint(slice_of_text(""), &number));
}

static void parses_reals(void **state) {
    (void)state;
    static const char *const valid[] = {"0", "-0", "1.5", "-1.5e3", ".5", "5.", "+3", "1e-4000", "inf", "0x10"};
    static const char *const invalid[] = {"",    " 1",     "1 ",      "\t1",     "1,5", "nan",
                                          "NaN", "1e5000", "-1e5000", "1e-6000", "1x",  "."};
    long double number;
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++) {
        assert_true(args_parse_real(slice_of_text(valid[i]), &number));
    }
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        assert_false(args_parse_real(slice_of_text(invalid[i]), &number));
    }
    assert_false(args_parse_real(slice_of("1\0", 2), &number));
    static char digits[ARGS_REAL_TEXT_MAX];
    memset(digits, '0', sizeof digits);
    assert_true(args_parse_real(slice_of(digits, sizeof digits - 1), &number));
    assert_false(args_parse_real(slice_of(digits, sizeof digits), &number));
}

static void parses_scores(void **state) {
    (void)state;
    static const char *const bounds_only[] = {"", " 1", "1e400", "-1e400", "1e-400"};
    static const char *const invalid[] = {"x", "1 ", "nan", "1x", "(1"};
    double number;
    assert_true(args_parse_double(slice_of_text("-1.5"), &number) && number == -1.5);
    assert_true(args_parse_double(slice_of_text("-Infinity"), &number) && isinf(number) && number < 0);
    assert_true(args_parse_double(slice_of_text("0x1p-1"), &number) && number == 0.5);
    assert_true(args_parse_double(slice_of_text("5e-324"), &number) && number > 0);
    for (size_t i = 0; i < sizeof bounds_only / sizeof bounds_only[0]; i++) {
        assert_false(args_parse_double(slice_of_text(bounds_only[i]), &number));
        assert_true(args_parse_bound(slice_of_text(bounds_only[i]), &number));
    }
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        assert_false(args_parse_double(slice_of_text(invalid[i]), &number));
        assert_false(args_parse_bound(slice_of_text(invalid[i]), &number));
    }
    assert_false(args_parse_bound(slice_of("1\0", 2), &number));
    static char digits[ARGS_REAL_TEXT_MAX];
    memset(digits, '0', sizeof digits);
    assert_true(args_parse_double(slice_of(digits, sizeof digits - 1), &number));
    assert_false(args_parse_double(slice_of(digits, sizeof digits), &number));
}

static void assert_prints_real(long double number, const char *expected) {
    static char room[ARGS_REAL_TEXT_MAX];
    size_t size = args_print_real(number, room);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(room, expected, size);
}

static void prints_numbers(void **state) {
    (void)state;
    char room[ARGS_INT_TEXT_MAX];
    assert_int_equal(args_print_int(INT64_MIN, room), 20);
    assert_memory_equal(room, "-9223372036854775808", 20);
    assert_int_equal(args_print_uint(UINT64_MAX, room), 20);
    assert_memory_equal(room, "18446744073709551615", 20);
    assert_int_equal(args_print_int(0, room), 1);
    assert_memory_equal(room, "0", 1);
    assert_prints_real(0.5L, "0.5");
    assert_prints_real(3.0L, "3");
    assert_prints_real(100.0L, "100");
    assert_prints_real(-0.0L, "0");
    assert_prints_real(-1e-19L, "0");
    assert_prints_real(1e20L, "100000000000000000000");
    assert_prints_real(5.1L, "5.1");
    static char longest[ARGS_REAL_TEXT_MAX];
    assert_true(args_print_real(-LDBL_MAX, longest) < ARGS_REAL_TEXT_MAX);
}

static void is_the_same_in_any_locale(void **state) {
    (void)state;
    /* Not every machine has such a locale; where there is none this says nothing. */
    if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL) skip();
    long double number;
    assert_true(args_parse_real(slice_of_text("1.5"), &number));
    assert_prints_real(1.5L, "1.5");
    setlocale(LC_ALL, "C");
}

static void knows_words(void **state) {
    (void)state;
    assert_true(args_is_word(slice_of_text("keepttl"), "KEEPTTL"));
    assert_true(args_is_word(slice_of_text("KeepTTL"), "KEEPTTL"));
    assert_false(args_is_word(slice_of_text("KEEP"), "KEEPTTL"));
    assert_false(args_is_word(slice_of_text("KEEPTTLS"), "KEEPTTL"));
    assert_false(args_is_word(slice_of_text(""), "KEEPTTL"));
    assert_false(args_is_word(slice_of("NX\0", 3), "NX"));
}

/* Decoding */

struct decoding {
    struct args args;
    struct buffer bytes;
    const char *text;
};

static int decode(struct decoding *decoding, bool nil_allowed) {
    struct mp_reader reader = mp_reader_of(buffer_slice(&decoding->bytes));
    decoding->text = "";
    return args_decode(&decoding->args, &reader, nil_allowed, &decoding->text);
}

static void decoding_deinit(struct decoding *decoding) {
    args_deinit(&decoding->args);
    buffer_deinit(&decoding->bytes);
}

static void assert_arg(const struct decoding *decoding, size_t index, const char *expected) {
    assert_true(slice_equal(decoding->args.items[index], slice_of_text(expected)));
    assert_false(args_is_nil(decoding->args.items[index]));
}

static void decodes_arguments(void **state) {
    (void)state;
    struct decoding decoding = {0};
    args_init(&decoding.args);
    mp_write_array(&decoding.bytes, 8);
    mp_write_text(&decoding.bytes, "str");
    mp_write_bin(&decoding.bytes, slice_of_text("bin"));
    mp_write_uint(&decoding.bytes, UINT64_MAX);
    mp_write_int(&decoding.bytes, INT64_MIN);
    mp_write_float(&decoding.bytes, 0.1);
    mp_write_float(&decoding.bytes, -INFINITY);
    mp_write_bin(&decoding.bytes, slice_of(NULL, 0));
    mp_write_nil(&decoding.bytes);
    assert_int_equal(decode(&decoding, true), SK_OK);
    assert_int_equal(decoding.args.count, 8);
    assert_arg(&decoding, 0, "str");
    assert_arg(&decoding, 1, "bin");
    assert_arg(&decoding, 2, "18446744073709551615");
    assert_arg(&decoding, 3, "-9223372036854775808");
    assert_arg(&decoding, 4, "0.10000000000000001");
    assert_arg(&decoding, 5, "-inf");
    assert_arg(&decoding, 6, "");
    assert_true(args_is_nil(decoding.args.items[7]));
    assert_int_equal(decode(&decoding, false), SK_BADREQUEST);
    assert_string_equal(decoding.text, "an argument is nil");
    decoding_deinit(&decoding);
}

static void decodes_many_numbers(void **state) {
    (void)state;
    struct decoding decoding = {0};
    args_init(&decoding.args);
    mp_write_array(&decoding.bytes, ARGS_COUNT_MAX);
    for (size_t i = 0; i < ARGS_COUNT_MAX; i++) mp_write_uint(&decoding.bytes, i);
    assert_int_equal(decode(&decoding, false), SK_OK);
    assert_arg(&decoding, 0, "0");
    assert_arg(&decoding, 12345, "12345");
    assert_int_equal(decoding.args.count, ARGS_COUNT_MAX);
    decoding_deinit(&decoding);
}

static void refuses_what_is_no_argument(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *text;
    } cases[] = {
        {"", 0, "the arguments are not an array"},
        {"\xc0", 1, "the arguments are not an array"},
        {"\x80", 1, "the arguments are not an array"},
        {"\xdd\xff\xff\xff\xff", 5, "the arguments are not an array"}, /* more than there are bytes */
        {"\x92\x01\xa5", 3, "the arguments are malformed"},
        {"\x91\xa5"
         "ab",
         4, "the arguments are malformed"},
        {"\x91\xc1", 2, "the arguments are malformed"},
        {"\x91\xc3", 2, "an argument is neither text nor a number"},
        {"\x91\x90", 2, "an argument is neither text nor a number"},
        {"\x91\x80", 2, "an argument is neither text nor a number"},
        {"\x91\xd4\x01\x02", 4, "an argument is neither text nor a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decoding decoding = {0};
        args_init(&decoding.args);
        buffer_append(&decoding.bytes, cases[i].bytes, cases[i].size);
        assert_int_equal(decode(&decoding, true), SK_BADREQUEST);
        assert_string_equal(decoding.text, cases[i].text);
        assert_int_equal(decoding.args.count, 0);
        decoding_deinit(&decoding);
    }
}

static void refuses_too_much(void **state) {
    (void)state;
    struct decoding decoding = {0};
    args_init(&decoding.args);
    mp_write_array(&decoding.bytes, ARGS_COUNT_MAX + 1);
    for (size_t i = 0; i <= ARGS_COUNT_MAX; i++) mp_write_uint(&decoding.bytes, 1);
    assert_int_equal(decode(&decoding, true), SK_TOOLARGE);
    assert_string_equal(decoding.text, "too many arguments");

    buffer_clear(&decoding.bytes, 0);
    uint8_t *value = calloc(1, VALUE_BYTES_MAX + 1);
    assert_non_null(value);
    mp_write_array(&decoding.bytes, 1);
    mp_write_bin(&decoding.bytes, slice_of(value, VALUE_BYTES_MAX));
    assert_int_equal(decode(&decoding, true), SK_OK);
    buffer_clear(&decoding.bytes, SIZE_MAX);
    mp_write_array(&decoding.bytes, 1);
    mp_write_bin(&decoding.bytes, slice_of(value, VALUE_BYTES_MAX + 1));
    assert_int_equal(decode(&decoding, true), SK_TOOLARGE);
    assert_string_equal(decoding.text, "string exceeds maximum allowed size");
    free(value);
    decoding_deinit(&decoding);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_integers),      cmocka_unit_test(parses_cursors),
        cmocka_unit_test(parses_reals),         cmocka_unit_test(parses_scores),
        cmocka_unit_test(prints_numbers),       cmocka_unit_test(is_the_same_in_any_locale),
        cmocka_unit_test(knows_words),          cmocka_unit_test(decodes_arguments),
        cmocka_unit_test(decodes_many_numbers), cmocka_unit_test(refuses_what_is_no_argument),
        cmocka_unit_test(refuses_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/resp_reply.h"
#include "libcommon/error.h"

#include <math.h>

static struct buffer out;

static void expect_out(const char *text) {
    buffer_append(&out, "", 1);
    assert_false(out.failed);
    assert_string_equal(out.data, text);
    buffer_clear(&out, 65536);
}

static void expect(struct slice result, unsigned flags, const char *two, const char *three) {
    assert_int_equal(resp_write_result(&out, RESP2, flags, result), SK_OK);
    expect_out(two);
    assert_int_equal(resp_write_result(&out, RESP3, flags, result), SK_OK);
    expect_out(three);
}

#define RESULT(bytes) slice_of(bytes, sizeof bytes - 1)

static void scalars(void **state) {
    (void)state;
    expect(RESULT("\xa2OK"), 0, "+OK\r\n", "+OK\r\n");
    expect(RESULT("\xa3"
                  "a\rb"),
           0, "$3\r\na\rb\r\n", "$3\r\na\rb\r\n");
    expect(RESULT("\xc4\x03"
                  "a\nb"),
           0, "$3\r\na\nb\r\n", "$3\r\na\nb\r\n");
    expect(RESULT("\xc4\x00"), 0, "$0\r\n\r\n", "$0\r\n\r\n");
    expect(RESULT("\x07"), 0, ":7\r\n", ":7\r\n");
    expect(RESULT("\xff"), 0, ":-1\r\n", ":-1\r\n");
    expect(RESULT("\xd3\x80\0\0\0\0\0\0\0"), 0, ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
    expect(RESULT("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), 0, ":18446744073709551615\r\n",
           ":18446744073709551615\r\n");
    expect(RESULT("\xc3"), 0, ":1\r\n", ":1\r\n");
    expect(RESULT("\xc0"), 0, "$-1\r\n", "_\r\n");
    expect(RESULT("\xc0"), COMMAND_REPLY_NIL_ARRAY, "*-1\r\n", "_\r\n");
    expect(RESULT("\xcb\x3f\xf8\0\0\0\0\0\0"), 0, "$3\r\n1.5\r\n", ",1.5\r\n");
    expect(RESULT("\xc4\x02hi"), COMMAND_REPLY_TEXT, "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
}

static void containers(void **state) {
    (void)state;
    expect(RESULT("\x90"), 0, "*0\r\n", "*0\r\n");
    expect(RESULT("\x92\x01\x91\xc0"), 0, "*2\r\n:1\r\n*1\r\n$-1\r\n", "*2\r\n:1\r\n*1\r\n_\r\n");
    expect(RESULT("\x82\xc4\x01"
                  "a\x01\xc4\x01"
                  "b\x02"),
           0, "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:2\r\n", "%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:2\r\n");
    expect(RESULT("\x92\x01\x02"), COMMAND_REPLY_SET, "*2\r\n:1\r\n:2\r\n", "~2\r\n:1\r\n:2\r\n");
    expect(RESULT("\xc4\x01"
                  "a"),
           COMMAND_REPLY_SET, "$1\r\na\r\n", "$1\r\na\r\n"); /* SPOP without a count */
    /* nested ones are no sets, and what is nil in them no array */
    expect(RESULT("\x91\x91\xc0"), COMMAND_REPLY_SET | COMMAND_REPLY_NIL_ARRAY, "*1\r\n*1\r\n$-1\r\n",
           "~1\r\n*1\r\n_\r\n");
}

static void pairs_are_flat_in_two(void **state) {
    (void)state;
    expect(RESULT("\x92\x92\xc4\x01m\x01\x92\xc4\x01n\xcb\x3f\xf8\0\0\0\0\0\0"), COMMAND_REPLY_PAIRS,
           "*4\r\n$1\r\nm\r\n:1\r\n$1\r\nn\r\n$3\r\n1.5\r\n",
           "*2\r\n*2\r\n$1\r\nm\r\n:1\r\n*2\r\n$1\r\nn\r\n,1.5\r\n");
    expect(RESULT("\x92\xc4\x01m\xc4\x01n"), COMMAND_REPLY_PAIRS, "*2\r\n$1\r\nm\r\n$1\r\nn\r\n",
           "*2\r\n$1\r\nm\r\n$1\r\nn\r\n");
    expect(RESULT("\x90"), COMMAND_REPLY_PAIRS, "*0\r\n", "*0\r\n");
}

static void what_is_no_result(void **state) {
    (void)state;
    const struct slice broken[] = {RESULT(""), RESULT("\x92\x01"), RESULT("\x01\x02"), RESULT("\xd4\x01\x01"),
                                   RESULT("\x91\xc1")};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(resp_write_result(&out, RESP2, 0, broken[i]), SK_EPROTO);
        assert_int_equal(resp_write_result(&out, RESP2, COMMAND_REPLY_PAIRS, broken[i]), SK_EPROTO);
        buffer_clear(&out, 65536);
    }
    uint8_t deep[MP_DEPTH_MAX + 2];
    memset(deep, 0x91, sizeof deep);
    deep[sizeof deep - 1] = 0;
    assert_int_equal(resp_write_result(&out, RESP2, 0, slice_of(deep, sizeof deep)), SK_EPROTO);
    buffer_clear(&out, 65536);
}

static void doubles(void **state) {
    (void)state;
    static const struct {
        double real;
        const char *text;
    } cases[] = {{0, "0"},
                 {-0.0, "-0"},
                 {1, "1"},
                 {-3, "-3"},
                 {0.1, "0.10000000000000001"},
                 {1.1, "1.1000000000000001"},
                 {3.5, "3.5"},
                 {1e20, "1e+20"},
                 {1e16, "10000000000000000"},
                 {1e17, "1e+17"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {1.0 / 3, "0.33333333333333331"},
                 {INFINITY, "inf"},
                 {-INFINITY, "-inf"},
                 {NAN, "nan"},
                 {5e-324, "4.9406564584124654e-324"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char room[RESP_DOUBLE_BYTES];
        struct slice text = resp_print_double(cases[i].real, room);
        assert_true(slice_equal(text, slice_of_text(cases[i].text)));
    }
}

static void expect_error(const char *code, const char *text, const char *told) {
    struct buffer error;
    buffer_init(&error);
    mp_write_array(&error, 2);
    mp_write_text(&error, code);
    mp_write_text(&error, text);
    struct mp_reader reader = mp_reader_of(buffer_slice(&error));
    assert_int_equal(resp_write_contract_error(&out, &reader), SK_OK);
    expect_out(told);
    buffer_deinit(&error);
}

static void errors_have_prefixes(void **state) {
    (void)state;
    expect_error("BADREQUEST", "syntax error", "-ERR syntax error\r\n");
    expect_error("BADVALUE", "value is not an integer", "-ERR value is not an integer\r\n");
    expect_error("WRONGTYPE", "Operation", "-WRONGTYPE Operation\r\n");
    expect_error("UNAVAILABLE", "no leader", "-TRYAGAIN no leader\r\n");
    expect_error("TIMEOUT", "a\r\nb", "-TIMEOUT a  b\r\n");
    struct mp_reader none = mp_reader_of(RESULT("\x91\xa1x"));
    assert_int_equal(resp_write_contract_error(&out, &none), SK_EPROTO);
}

static void flags_of_commands(void **state) {
    (void)state;
    struct command command = {.flags = COMMAND_WRITE | COMMAND_REPLY_NIL_ARRAY | COMMAND_REPLY_SET};
    assert_int_equal(resp_reply_flags(&command, 2), COMMAND_REPLY_SET);
    assert_int_equal(resp_reply_flags(&command, 3), COMMAND_REPLY_SET | COMMAND_REPLY_NIL_ARRAY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars),           cmocka_unit_test(containers), cmocka_unit_test(pairs_are_flat_in_two),
        cmocka_unit_test(what_is_no_result), cmocka_unit_test(doubles),    cmocka_unit_test(errors_have_prefixes),
        cmocka_unit_test(flags_of_commands),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buffer_deinit(&out);
    return failed;
}

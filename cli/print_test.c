#include "print.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct print_case {
    const char *encoded;
    size_t size;
    const char *tty, *raw, *json;
};

#define CASE(encoded, tty, raw, json)                                                                             \
    { encoded, sizeof encoded - 1, tty, raw, json }

static const struct print_case cases[] = {
    CASE("\xc0", "(nil)\n", "\n", "null\n"),
    CASE("\xc3", "(true)\n", "(true)\n", "true\n"),
    CASE("\x01", "(integer) 1\n", "1\n", "1\n"),
    CASE("\xff", "(integer) -1\n", "-1\n", "-1\n"),
    CASE("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", "(integer) 9223372036854775807\n", "9223372036854775807\n",
         "9223372036854775807\n"),
    CASE("\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "(integer) -9223372036854775808\n", "-9223372036854775808\n",
         "-9223372036854775808\n"),
    CASE("\xcb\x40\x09\x1e\xb8\x51\xeb\x85\x1f", "(double) 3.14\n", "3.14\n", "3.1400000000000001\n"),
    CASE("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", "(double) inf\n", "inf\n", "\"inf\"\n"),
    CASE("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "(double) 0.1\n", "0.1\n", "0.10000000000000001\n"),
    CASE("\xa2OK", "OK\n", "OK\n", "\"OK\"\n"),
    CASE("\xc4\x00", "\"\"\n", "\n", "\"\"\n"),
    CASE("\xc4\x05hello", "\"hello\"\n", "hello\n", "\"hello\"\n"),
    CASE("\xc4\x04\"\\\n\xff", "\"\\\"\\\\\\n\\xff\"\n", "\"\\\n\xff\n", "{\"$bin\":\"IlwK/w==\"}\n"),
    CASE("\xc4\x03\xff\xfe\xfd", "\"\\xff\\xfe\\xfd\"\n", "\xff\xfe\xfd\n", "{\"$bin\":\"//79\"}\n"),
    CASE("\xc4\x05\xff\xfe\xfd\xfc\xfb", "\"\\xff\\xfe\\xfd\\xfc\\xfb\"\n", "\xff\xfe\xfd\xfc\xfb\n",
         "{\"$bin\":\"//79/Ps=\"}\n"),
    CASE("\xc4\x06h\xc3\xa9llo", "\"h\\xc3\\xa9llo\"\n", "h\xc3\xa9llo\n", "\"h\xc3\xa9llo\"\n"),
    CASE("\x90", "(empty array)\n", "\n", "[]\n"),
    CASE("\x93\xc4\x01"
         "a\xc0\x07",
         "1) \"a\"\n2) (nil)\n3) (integer) 7\n", "a\n\n7\n", "[\"a\",null,7]\n"),
    CASE("\x92\xc4\x01"
         "0\x92\xc4\x01"
         "a\xc4\x01"
         "b",
         "1) \"0\"\n2) 1) \"a\"\n   2) \"b\"\n", "0\na\nb\n", "[\"0\",[\"a\",\"b\"]]\n"),
    CASE("\x91\x90", "1) (empty array)\n", "\n", "[[]]\n"),
    CASE("\x9a\x00\x01\x02\x03\x04\x05\x06\x07\x08\x91\x09",
         " 1) (integer) 0\n 2) (integer) 1\n 3) (integer) 2\n 4) (integer) 3\n 5) (integer) 4\n"
         " 6) (integer) 5\n 7) (integer) 6\n 8) (integer) 7\n 9) (integer) 8\n10) 1) (integer) 9\n",
         "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", "[0,1,2,3,4,5,6,7,8,[9]]\n"),
    CASE("\x80", "(empty hash)\n", "\n", "{}\n"),
    CASE("\x82\xc4\x01"
         "f\x01\xc4\x01g\x91\x02",
         "1# \"f\" => (integer) 1\n2# \"g\" => 1) (integer) 2\n", "f 1\ng 2\n", "{\"f\":1,\"g\":[2]}\n"),
    CASE("\x81\x05\xc0", "1# (integer) 5 => (nil)\n", "5 \n", "{\"$map\":[[5,null]]}\n"),
};

static void check(enum print_format format, const struct print_case *one, const char *expected) {
    struct buffer out;
    buffer_init(&out);
    assert_int_equal(print_result(&out, format, slice_of(one->encoded, one->size)), SK_OK);
    assert_int_equal(out.size, strlen(expected));
    assert_memory_equal(out.data, expected, out.size);
    buffer_deinit(&out);
}

static void answers_look_as_in_redis_cli(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check(PRINT_TTY, &cases[i], cases[i].tty);
        check(PRINT_RAW, &cases[i], cases[i].raw);
        check(PRINT_JSON, &cases[i], cases[i].json);
    }
}

static void malformed_is_an_error(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"", 0},         {"\xc4\x05xy", 4}, {"\x92\x01", 2},
               {"\x81\x01", 2}, {"\xc1", 1},       {"\xdd\xff\xff\xff\xff", 5}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int format = PRINT_TTY; format <= PRINT_JSON; format++) {
            struct buffer out;
            buffer_init(&out);
            int err = print_result(&out, (enum print_format)format, slice_of(bad[i].bytes, bad[i].size));
            assert_int_equal(err, SK_EPROTO);
            buffer_deinit(&out);
        }
}

static void too_deep_is_an_error(void **state) {
    (void)state;
    uint8_t deep[10000];
    memset(deep, 0x91, sizeof deep);
    deep[sizeof deep - 1] = 0xc0;
    for (int format = PRINT_TTY; format <= PRINT_JSON; format++) {
        struct buffer out;
        buffer_init(&out);
        assert_int_equal(print_result(&out, (enum print_format)format, slice_of(deep, sizeof deep)), SK_EPROTO);
        buffer_deinit(&out);
    }
}

static void errors_name_code_and_text(void **state) {
    (void)state;
    struct buffer out;
    buffer_init(&out);
    assert_int_equal(print_failure(&out, PRINT_TTY, slice_of_text("WRONGTYPE"), slice_of_text("no \"such\"")),
                     SK_OK);
    assert_int_equal(print_failure(&out, PRINT_RAW, slice_of_text("TIMEOUT"), slice_of_text("")), SK_OK);
    assert_int_equal(print_failure(&out, PRINT_JSON, slice_of_text("WRONGTYPE"), slice_of_text("no \"such\"")),
                     SK_OK);
    buffer_append(&out, "", 1);
    assert_string_equal((char *)out.data, "(error) WRONGTYPE no \"such\"\n(error) TIMEOUT\n"
                                          "{\"error\":{\"code\":\"WRONGTYPE\",\"text\":\"no \\\"such\\\"\"}}\n");
    buffer_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_look_as_in_redis_cli),
        cmocka_unit_test(malformed_is_an_error),
        cmocka_unit_test(too_deep_is_an_error),
        cmocka_unit_test(errors_name_code_and_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "gateway/json.h"

#include "libcommon/testing.h"

#include <math.h>

static struct buffer out;
static struct json json;

static void begin(void) {
    buffer_init(&out);
    json_init(&json, &out);
}

static void expect(const char *text) {
    assert_false(out.failed);
    assert_int_equal(out.size, strlen(text));
    assert_memory_equal(out.data, text, out.size);
    buffer_deinit(&out);
}

static void expect_text(struct slice from, const char *to) {
    begin();
    json_text(&json, NULL, from);
    expect(to);
}

static void values_stand_between_commas(void **state) {
    (void)state;
    begin();
    json_begin_object(&json, NULL);
    json_begin_array(&json, "empty");
    json_end_array(&json);
    json_begin_array(&json, "some");
    json_uint(&json, NULL, UINT64_MAX);
    json_null(&json, NULL);
    json_begin_object(&json, NULL);
    json_end_object(&json);
    json_end_array(&json);
    json_bool(&json, "yes", true);
    json_raw(&json, "raw", slice_of_text("[1]"));
    json_named_uint(&json, slice_of_text("a\"b"), 7);
    json_named_bool(&json, slice_of_text("no"), false);
    json_end_object(&json);
    expect("{\"empty\":[],\"some\":[18446744073709551615,null,{}],\"yes\":true,\"raw\":[1],\"a\\\"b\":7,"
           "\"no\":false}");
}

static void texts_are_escaped(void **state) {
    (void)state;
    expect_text(slice_of(NULL, 0), "\"\"");
    expect_text(slice_of_text("\"\\\n\x1f"), "\"\\\"\\\\\\n\\u001f\"");
    expect_text(slice_of("\0", 1), "\"\\u0000\"");
    expect_text(slice_of_text("</script>"), "\"\\u003c/script>\"");
    expect_text(slice_of_text("\x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x8f\x9d"),
                "\"\x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x8f\x9d\"");
}

static void what_is_not_utf8_is_replaced(void **state) {
    static const char *const bad[] = {"\x80", "\xc3", "\xc0", "\xf5", "\xff"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect_text(slice_of_text(bad[i]), "\"\xef\xbf\xbd\"");
    expect_text(slice_of_text("\xc3("), "\"\xef\xbf\xbd(\"");
    /* overlong, a surrogate, beyond the last: each byte by itself */
    expect_text(slice_of_text("\xc1\xbf"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_text(slice_of_text("\xe0\x9f\xbf"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_text(slice_of_text("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_text(slice_of_text("\xf0\x8f\xbf\xbf"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_text(slice_of_text("\xf4\x90\x80\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_text(slice_of_text("\xed\x9f\xbf\xf4\x8f\xbf\xbf"), "\"\xed\x9f\xbf\xf4\x8f\xbf\xbf\"");
}

static void expect_bytes(struct slice from, const char *to) {
    begin();
    json_bytes(&json, NULL, from);
    expect(to);
}

static void bytes_that_are_no_text_are_in_base64(void **state) {
    (void)state;
    expect_bytes(slice_of(NULL, 0), "\"\"");
    expect_bytes(slice_of_text("\xc3\xa4\n"), "\"\xc3\xa4\\n\"");
    expect_bytes(slice_of("\0", 1), "{\"base64\":\"AA==\"}");
    expect_bytes(slice_of("a\xff", 2), "{\"base64\":\"Yf8=\"}");
    expect_bytes(slice_of("\xff\xfe\xfd", 3), "{\"base64\":\"//79\"}");
}

static void numbers_are_exact(void **state) {
    (void)state;
    begin();
    json_begin_array(&json, NULL);
    json_int(&json, NULL, INT64_MIN);
    json_int(&json, NULL, 9007199254740993);
    json_real(&json, NULL, 0.1);
    json_real(&json, NULL, 1e300);
    json_real(&json, NULL, -INFINITY);
    json_real(&json, NULL, NAN);
    json_end_array(&json);
    expect("[-9223372036854775808,9007199254740993,0.10000000000000001,1.0000000000000001e+300,\"-inf\",\"nan\"]");
}

static void names_come_from_outside(void **state) {
    (void)state;
    begin();
    json_begin_object(&json, NULL);
    json_name(&json, slice_of_text("a\"b"));
    json_int(&json, NULL, -1);
    json_name(&json, slice_of_text("c"));
    json_begin_array(&json, NULL);
    json_end_array(&json);
    json_bytes(&json, "d", slice_of("\x80", 1));
    json_end_object(&json);
    expect("{\"a\\\"b\":-1,\"c\":[],\"d\":{\"base64\":\"gA==\"}}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_stand_between_commas),
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(what_is_not_utf8_is_replaced),
        cmocka_unit_test(bytes_that_are_no_text_are_in_base64),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(names_come_from_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

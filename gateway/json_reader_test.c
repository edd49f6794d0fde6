#include "gateway/json_reader.h"

#include "libcommon/testing.h"

/* Copies a value, in a form of its own: numbers as they are, strings in <>, which shows all that the reader tells. */
static bool copy(struct json_reader *reader, struct buffer *out) {
    struct buffer name;
    struct slice digits;
    bool more, whole, fine = false;
    buffer_init(&name);
    switch (json_reader_kind(reader)) {
    case JSON_NULL:
        fine = json_reader_null(reader);
        buffer_append(out, "null", 4);
        break;
    case JSON_BOOL:
        fine = json_reader_bool(reader, &more);
        buffer_append(out, more ? "yes" : "no", more ? 3 : 2);
        break;
    case JSON_NUMBER:
        fine = json_reader_number(reader, &digits, &whole);
        if (!fine) break;
        buffer_append(out, digits.data, digits.size);
        buffer_append(out, whole ? "i" : "r", 1);
        break;
    case JSON_STRING:
        buffer_append(out, "<", 1);
        fine = json_reader_string(reader, out);
        buffer_append(out, ">", 1);
        break;
    case JSON_ARRAY:
        fine = json_reader_enter(reader, JSON_ARRAY);
        buffer_append(out, "(", 1);
        while (fine && (fine = json_reader_element(reader, &more)) && more) fine = copy(reader, out);
        buffer_append(out, ")", 1);
        break;
    case JSON_OBJECT:
        fine = json_reader_enter(reader, JSON_OBJECT);
        buffer_append(out, "{", 1);
        while (fine && (fine = json_reader_member(reader, &more, &name)) && more) {
            buffer_append(out, name.data, name.size);
            buffer_append(out, "=", 1);
            fine = copy(reader, out);
        }
        buffer_append(out, "}", 1);
        break;
    case JSON_NOTHING:
        reader->error = "nothing";
        break;
    }
    buffer_deinit(&name);
    return fine;
}

static void expect_slice(struct slice text, const char *wanted) {
    struct buffer out;
    buffer_init(&out);
    struct json_reader reader = json_reader_of(text);
    if (!copy(&reader, &out) || !json_reader_end(&reader)) fail_msg("%s", reader.error);
    buffer_append(&out, "", 1);
    assert_string_equal(out.data, wanted);
    buffer_deinit(&out);
}

static void expect(const char *text, const char *wanted) { expect_slice(slice_of_text(text), wanted); }

static void expect_bad_slice(struct slice text) {
    struct buffer out;
    buffer_init(&out);
    struct json_reader reader = json_reader_of(text);
    if (copy(&reader, &out) && json_reader_end(&reader))
        fail_msg("taken: %.*s", (int)text.size, (const char *)text.data);
    assert_non_null(reader.error);
    assert_true(json_reader_offset(&reader) <= text.size);
    buffer_deinit(&out);
}

static void expect_bad(const char *text) { expect_bad_slice(slice_of_text(text)); }

static void values_are_read(void **state) {
    (void)state;
    expect(" null ", "null");
    expect("[true,false]", "(yesno)");
    expect("[0,-0,12,-9007199254740993,1.50,1e3,1E-7,2e+1]", "(0i-0i12i-9007199254740993i1.50r1e3r1E-7r2e+1r)");
    expect("123456789012345678901234567890", "123456789012345678901234567890i");
    expect("{ \"a\" : [ ] , \"b\" : { } ,\t\"a\":\r\n1}", "{a=()b={}a=1i}");
    expect("[[[],[[]]],[]]", "((()(()))())");
    expect("\"\"", "<>");
    expect("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "<\"\\/\b\f\n\r\t>");
    expect("\"\\u0041\\u00e4\\u20AC\\ud83c\\udfdd x\"", "<A\xc3\xa4\xe2\x82\xac\xf0\x9f\x8f\x9d x>");
    expect("\"\xc3\xa4\xf0\x9f\x8f\x9d\"", "<\xc3\xa4\xf0\x9f\x8f\x9d>");
}

static void what_is_not_json_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "nul",
                                      "nulll",
                                      "True",
                                      "tru",
                                      "fals",
                                      "'a'",
                                      "[",
                                      "]",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "[1}",
                                      "{",
                                      "{}}",
                                      "{\"a\"}",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{1:1}",
                                      "{\"a\",1}",
                                      "{,}",
                                      "1 2",
                                      "01",
                                      "-",
                                      "+1",
                                      ".5",
                                      "1.",
                                      "1.e3",
                                      "1e",
                                      "1e+",
                                      "-01",
                                      "0x10",
                                      "NaN",
                                      "Infinity",
                                      "\"",
                                      "\"a",
                                      "\"\\",
                                      "\"\\x\"",
                                      "\"\\u",
                                      "\"\\u12\"",
                                      "\"\n\"",
                                      "\"\t\"",
                                      "\"\\u00g0\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\\ud800\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\\ud800\\n\"",
                                      "\"\x80\"",
                                      "\"\xc0\x80\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xe2\x82",
                                      "\xef\xbb\xbf[]",
                                      "[] //",
                                      "/**/[]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect_bad(bad[i]);
    expect_bad_slice(slice_of("[]\0", 3));
    expect_bad_slice(slice_of("\"\0\"", 3));
    expect_bad_slice(slice_of("\"\\\0\"", 4));
    expect_bad_slice(slice_of(NULL, 0));
}

static void every_beginning_of_a_text_is_refused(void **state) {
    (void)state;
    static const char text[] = "{\"a\":[1.5e-3,\"\\ud83c\\udfdd\xf0\x9f\x8f\x9d\",null,true,false,{}]}";
    for (size_t size = 0; size + 1 < sizeof text; size++) expect_bad_slice(slice_of(text, size));
}

static void depth_is_limited(void **state) {
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 3] = "", wanted[2 * JSON_DEPTH_MAX + 3] = "";
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    memset(wanted, '(', JSON_DEPTH_MAX);
    memset(wanted + JSON_DEPTH_MAX, ')', JSON_DEPTH_MAX);
    expect(text, wanted);
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    expect_bad(text);
}

static void kinds_that_are_not_there_are_refused(void **state) {
    (void)state;
    bool boolean, more;
    struct slice digits;
    struct buffer text;
    buffer_init(&text);
    for (int i = 0; i < 6; i++) {
        static const char *const values[] = {"1", "null", "null", "null", "{}", "[]"};
        struct json_reader reader = json_reader_of(slice_of_text(values[i]));
        bool taken = i == 0   ? json_reader_null(&reader)
                     : i == 1 ? json_reader_bool(&reader, &boolean)
                     : i == 2 ? json_reader_number(&reader, &digits, &more)
                     : i == 3 ? json_reader_string(&reader, &text)
                              : json_reader_enter(&reader, i == 4 ? JSON_ARRAY : JSON_OBJECT);
        assert_false(taken);
        assert_non_null(strstr(reader.error, "expected"));
    }
    buffer_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(every_beginning_of_a_text_is_refused),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(kinds_that_are_not_there_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

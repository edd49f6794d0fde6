#include "words.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct parse_case {
    const char *line;
    size_t count;
    const char *words[4];
    size_t sizes[4]; /* 0: as the text */
};

static void lines_split_as_in_redis_cli(void **state) {
    (void)state;
    static const struct parse_case cases[] = {
        {"", 0, {0}, {0}},
        {" \t\r\n", 0, {0}, {0}},
        {"GET k", 2, {"GET", "k"}, {0}},
        {"  GET\tk \n", 2, {"GET", "k"}, {0}},
        {"SET k \"a b\"", 3, {"SET", "k", "a b"}, {0}},
        {"SET k 'a b'", 3, {"SET", "k", "a b"}, {0}},
        {"\"\" ''", 2, {"", ""}, {0}},
        {"\"\\n\\r\\t\\a\\b\\\\\\\"\\q\"", 1, {"\n\r\t\a\b\\\"q"}, {0}},
        {"\"\\x00\\xfF\"", 1, {"\0\xff"}, {2}},
        {"\"\\x0\" \"\\xzz\"", 2, {"x0", "xzz"}, {0}},
        {"'\\x00' 'it\\'s' '\\n'", 3, {"\\x00", "it's", "\\n"}, {0}},
        {"a\\x00b", 1, {"a\\x00b"}, {0}},
        {"pre\"fix ed\" b", 2, {"prefix ed", "b"}, {0}},
        {"\"a\\", 0, {0}, {99}},
        {"\"open", 0, {0}, {99}},
        {"'open", 0, {0}, {99}},
        {"ok \"a\"b", 0, {0}, {99}},
        {"'a'b", 0, {0}, {99}},
        {"\"\\\"", 0, {0}, {99}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct parse_case *one = &cases[i];
        struct words words;
        int err = words_parse(slice_of_text(one->line), &words);
        assert_int_equal(err, one->sizes[0] == 99 ? SK_BADREQUEST : SK_OK);
        if (err != SK_OK) continue;
        assert_int_equal(words.count, one->count);
        for (size_t w = 0; w < one->count; w++) {
            size_t size = one->sizes[w] != 0 ? one->sizes[w] : strlen(one->words[w]);
            assert_int_equal(words.items[w].bytes.size, size);
            assert_memory_equal(words.items[w].bytes.data, one->words[w], size);
        }
        words_deinit(&words);
    }
}

static void quoted_is_told(void **state) {
    (void)state;
    struct words words;
    assert_int_equal(words_parse(slice_of_text("(nil) \"(nil)\" '(nil)' a\"b\""), &words), SK_OK);
    assert_false(words.items[0].quoted);
    for (int i = 1; i < 4; i++) assert_true(words.items[i].quoted);
    words_deinit(&words);
}

/* Any bytes, quoted, read back as one word of the same bytes. */
static void quoting_reads_back(void **state) {
    (void)state;
    uint8_t bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = (uint8_t)i;
    char line[4 * 256 + 2];
    size_t size = words_quote(slice_of(bytes, sizeof bytes), line);
    assert_true(size <= sizeof line);
    struct words words;
    assert_int_equal(words_parse(slice_of(line, size), &words), SK_OK);
    assert_int_equal(words.count, 1);
    assert_int_equal(words.items[0].bytes.size, sizeof bytes);
    assert_memory_equal(words.items[0].bytes.data, bytes, sizeof bytes);
    words_deinit(&words);
}

/* The shortest words fill the room to the last. */
static void many_words_fit(void **state) {
    (void)state;
    struct words words;
    assert_int_equal(words_parse(slice_of_text("a b c d e f g h i"), &words), SK_OK);
    assert_int_equal(words.count, 9);
    words_deinit(&words);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_split_as_in_redis_cli),
        cmocka_unit_test(quoted_is_told),
        cmocka_unit_test(quoting_reads_back),
        cmocka_unit_test(many_words_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

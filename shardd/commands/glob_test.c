#include "shardd/commands/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void matches_as_redis_does(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"*", "", true},
        {"*", "anything", true},
        {"**", "", true},
        {"h?llo", "hello", true},
        {"h?llo", "hllo", false},
        {"h*llo", "hllo", true},
        {"h*llo", "heeello", true},
        {"h*llo", "hell", false},
        {"*o", "hello", true},
        {"*l*o", "hello", true},
        {"a*b*c", "aXbYc", true},
        {"a*b*c", "aXcYb", false},
        {"?", "", false},
        {"h[ae]llo", "hello", true},
        {"h[ae]llo", "hillo", false},
        {"h[^e]llo", "hallo", true},
        {"h[^e]llo", "hello", false},
        {"h[a-c]llo", "hbllo", true},
        {"h[c-a]llo", "hbllo", true},
        {"h[a-c]llo", "hdllo", false},
        {"[a-]", "-", false},
        {"[a-]", "^", true},
        {"[a-", "-", true},
        {"[abc", "b", true},
        {"[abc", "d", false},
        {"[", "a", false},
        {"[^", "a", true},
        {"[]a", "]a", false},
        {"[^]", "a", true},
        {"[\\]]", "]", true},
        {"[\\]]", "\\", false},
        {"[\\a-c]", "b", false},
        {"[\\a-c]", "-", true},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"\\?", "a", false},
        {"a\\", "a\\", true},
        {"\\a", "a", true},
        {"A", "a", false},
        {"*[0-9]", "key:7", true},
        {"*[0-9]", "key:x", false},
        {"user:*:name", "user:1:name", true},
        {"user:*:name", "user:1:age", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (glob_match(slice_of_text(cases[i].pattern), slice_of_text(cases[i].text)) == cases[i].matches)
            continue;
        fail_msg("%s against %s", cases[i].pattern, cases[i].text);
    }
}

static void takes_any_bytes(void **state) {
    (void)state;
    assert_true(glob_match(slice_of("a\0?", 3), slice_of("a\0\xff", 3)));
    assert_true(glob_match(slice_of("[\x80-\xff]", 5), slice_of("\xc0", 1)));
    assert_false(glob_match(slice_of("[\x80-\xff]", 5), slice_of("\x7f", 1)));
    assert_true(glob_match(slice_of(NULL, 0), slice_of(NULL, 0)));
}

/* A matcher that tries every way for every star would not come back from this. */
static void is_not_exponential(void **state) {
    (void)state;
    char pattern[401], text[2000];
    for (size_t i = 0; i < 200; i++) memcpy(pattern + 2 * i, "*a", 2);
    pattern[400] = 'b';
    memset(text, 'a', sizeof text);
    assert_false(glob_match(slice_of(pattern, sizeof pattern), slice_of(text, sizeof text)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_as_redis_does),
        cmocka_unit_test(takes_any_bytes),
        cmocka_unit_test(is_not_exponential),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

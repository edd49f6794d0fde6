#include "libcommon/testing.h"
#include "number.h"
#include "value.h"

static uint32_t text(struct values *values, const char *word) {
    return values_of_text(values, slice_of_text(word));
}

static uint32_t append(struct values *values, uint32_t id, const char *piece) {
    return values_append(values, id, slice_of_text(piece));
}

static enum value_kind kind(struct values *values, uint32_t id) { return values_get(values, id)->kind; }

static struct values *with(bool appends, bool adds) {
    static struct slice named[4];
    named[0] = slice_of_text("b");
    named[1] = slice_of_text("abc");
    named[2] = slice_of_text("abd");
    named[3] = slice_of_text("b");
    return values_new(named, 4, appends, adds);
}

static void test_what_is_named_is_apart(void **state) {
    (void)state;
    struct values *values = with(false, false);
    assert_int_equal(values_target_count(values), 3 + 2);
    assert_int_equal(text(values, "abc"), text(values, "abc"));
    assert_int_not_equal(text(values, "abc"), text(values, "abd"));
    assert_int_equal(text(values, "x"), text(values, "yy")); /* all others are one */
    assert_int_equal(text(values, "12"), text(values, "yy"));
    assert_int_equal(kind(values, text(values, "x")), VALUE_IS_OTHER);
    for (uint32_t target = 0; target < values_target_count(values); target++) {
        assert_int_equal(values_get(values, values_of_target(values, target))->target, target);
    }
    assert_true(slice_equal(values_target_text(values, 0), slice_of_text("abc")));
    assert_int_equal(values_get(values, VALUE_NIL)->target, 3);
    values_free(values);
    values_free(NULL);
}

static void test_others_differ_in_length_if_lengths_are_seen(void **state) {
    (void)state;
    struct values *values = with(true, false);
    assert_int_equal(text(values, "x"), text(values, "y"));
    assert_int_not_equal(text(values, "x"), text(values, "yy"));
    assert_int_equal(append(values, text(values, "x"), "y"), text(values, "zz"));
    assert_int_equal(values_get(values, text(values, "xyz"))->bytes, 3);
    values_free(values);
}

static void test_appends_follow_what_is_named(void **state) {
    (void)state;
    struct values *values = with(true, false);
    uint32_t ab = append(values, append(values, VALUE_NIL, "a"), "b");
    assert_int_equal(ab, text(values, "ab"));
    assert_int_equal(kind(values, ab), VALUE_IS_TEXT);
    assert_int_equal(values_get(values, ab)->target, VALUE_NONE);
    assert_int_equal(append(values, ab, "d"), text(values, "abd"));
    assert_int_equal(append(values, ab, ""), ab);
    assert_int_equal(kind(values, append(values, ab, "x")), VALUE_IS_OTHER);
    assert_int_equal(kind(values, append(values, text(values, "abc"), "d")), VALUE_IS_OTHER);
    assert_true(values_begins(values, ab, text(values, "abc")));
    assert_true(values_begins(values, VALUE_NIL, ab));
    assert_false(values_begins(values, ab, ab));
    assert_false(values_begins(values, text(values, "b"), ab));
    assert_false(values_begins(values, ab, text(values, "xxx")));
    assert_true(slice_equal(values_text(values, ab), slice_of_text("ab")));
    assert_int_equal(values_text(values, VALUE_NIL).size, 0);
    values_free(values);
}

static void test_numbers_are_apart_if_they_can_be_counted(void **state) {
    (void)state;
    struct values *values = with(true, true);
    assert_int_not_equal(text(values, "12"), text(values, "13"));
    assert_int_equal(text(values, "12"), values_of_number(values, 12));
    assert_int_equal(append(values, values_of_number(values, 12), "3"), values_of_number(values, 123));
    assert_int_equal(append(values, text(values, "-"), "7"), values_of_number(values, -7));
    assert_int_equal(append(values, text(values, ""), "7"), values_of_number(values, 7));
    assert_int_equal(kind(values, append(values, values_of_number(values, 12), "x")), VALUE_IS_OTHER);
    assert_int_equal(kind(values, append(values, values_of_number(values, 12), "0123456789012345678901234")),
                     VALUE_IS_OTHER);
    assert_int_equal(kind(values, text(values, "007")), VALUE_IS_OTHER);
    values_free(values);
}

static void test_what_is_mentioned_no_more_is_one_of_the_others(void **state) {
    (void)state;
    struct values *values = with(true, false);
    uint32_t ab = text(values, "ab"), abc = text(values, "abc"), abd = text(values, "abd");
    values_mention(values, values_get(values, abc)->target, 1);
    assert_int_equal(values_reduce(values, abc), abc);
    assert_int_equal(values_reduce(values, ab), ab); /* it may become abc */
    assert_int_equal(values_reduce(values, abd), text(values, "xyz"));
    assert_int_equal(values_reduce(values, VALUE_NIL), VALUE_NIL);
    values_mention(values, values_get(values, abc)->target, -1);
    assert_int_equal(values_reduce(values, ab), text(values, "xy"));
    values_free(values);
    values = with(false, false);
    ab = text(values, "ab");
    values_mention(values, values_get(values, text(values, "abc"))->target, 1);
    assert_int_equal(values_reduce(values, ab), text(values, "xy")); /* it cannot become abc */
    values_free(values);
}

static void test_halves_of_numbers_stay(void **state) {
    (void)state;
    struct values *values = with(true, true);
    assert_int_equal(values_reduce(values, text(values, "-")), text(values, "-"));
    assert_int_equal(values_reduce(values, text(values, "")), text(values, ""));
    assert_int_not_equal(text(values, ""), text(values, "-"));
    values_free(values);
}

static void test_integers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_integer;
    } cases[] = {{"0", true},
                 {"-1", true},
                 {"9223372036854775807", true},
                 {"-9223372036854775808", true},
                 {"", false},
                 {"-", false},
                 {"-0", false},
                 {"+1", false},
                 {"01", false},
                 {" 1", false},
                 {"1 ", false},
                 {"1x", false},
                 {"9223372036854775808", false},
                 {"-9223372036854775809", false},
                 {"123456789012345678901234", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t number;
        char room[NUMBER_TEXT_MAX];
        assert_int_equal(number_parse(slice_of_text(cases[i].text), &number), cases[i].is_integer);
        if (!cases[i].is_integer) continue;
        assert_true(slice_equal(slice_of(room, number_print(number, room)), slice_of_text(cases[i].text)));
    }
    int64_t number;
    assert_false(number_parse(slice_of("1\0", 2), &number));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_named_is_apart),
        cmocka_unit_test(test_others_differ_in_length_if_lengths_are_seen),
        cmocka_unit_test(test_appends_follow_what_is_named),
        cmocka_unit_test(test_numbers_are_apart_if_they_can_be_counted),
        cmocka_unit_test(test_what_is_mentioned_no_more_is_one_of_the_others),
        cmocka_unit_test(test_halves_of_numbers_stay),
        cmocka_unit_test(test_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "gateway/utf8.h"

#include "libcommon/testing.h"

static void characters_are_told_from_bytes(void **state) {
    (void)state;
    static const char *const bad[] = {"\x80",         "\xc3",         "\xc0\x80",         "\xc1\xbf",
                                      "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                                      "\xf5",         "\xff",         "\xe2\x82",         "\xc3("};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(utf8_character_bytes(slice_of_text(bad[i])), 0);
        assert_false(utf8_is_readable(slice_of_text(bad[i])));
    }
    assert_int_equal(utf8_character_bytes(slice_of_text("ab")), 1);
    assert_int_equal(utf8_character_bytes(slice_of("\0", 1)), 1);
    assert_int_equal(utf8_character_bytes(slice_of_text("\xf4\x8f\xbf\xbf")), 4);
}

static void every_character_comes_back(void **state) {
    (void)state;
    for (uint32_t character = 0; character <= 0x10ffff; character++) {
        uint8_t room[4];
        if (character >= 0xd800 && character < 0xe000) continue;
        size_t bytes = utf8_encode(character, room);
        assert_int_equal(utf8_character_bytes(slice_of(room, bytes)), bytes);
        uint32_t back = bytes == 1 ? room[0] : room[0] & (0xffu >> (bytes + 1));
        for (size_t i = 1; i < bytes; i++) back = back << 6 | (room[i] & 0x3fu);
        assert_int_equal(back, character);
    }
}

static void control_characters_are_not_readable(void **state) {
    (void)state;
    assert_true(utf8_is_readable(slice_of(NULL, 0)));
    assert_true(utf8_is_readable(slice_of_text("two\r\n\tlines \xe2\x82\xac")));
    assert_false(utf8_is_readable(slice_of("a\0b", 3)));
    assert_false(utf8_is_readable(slice_of_text("\x1b[0m")));
    assert_false(utf8_is_readable(slice_of_text("\x7f")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_are_told_from_bytes),
        cmocka_unit_test(every_character_comes_back),
        cmocka_unit_test(control_characters_are_not_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

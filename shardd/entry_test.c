#include "shardd/entry.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct entry numbered(void) {
    return (struct entry){
        .commit_index = 7, .name = {.session = 11, .number = 12, .floor = 10}, .body = slice_of_text("body")};
}

static void round_trip(const struct entry *entry) {
    struct buffer buffer;
    struct entry back;
    buffer_init(&buffer);
    entry_encode_command(&buffer, entry);
    assert_int_equal(entry_decode(buffer_slice(&buffer), true, &back), SK_OK);
    assert_int_equal(back.commit_index, entry->commit_index);
    assert_int_equal(back.atomic, entry->atomic);
    assert_int_equal(back.waits, entry->waits);
    assert_true(back.chance == entry->chance);
    assert_int_equal(back.name.session, entry->name.session);
    assert_int_equal(back.name.number, entry->name.number);
    assert_int_equal(back.name.floor, entry->name.floor);
    assert_int_equal(back.name.id_part, entry->name.id_part);
    assert_int_equal(back.name.window_ms, entry->name.window_ms);
    assert_true(slice_equal(back.name.id, entry->name.id));
    assert_true(slice_equal(back.body, entry->body));
    buffer_deinit(&buffer);
}

static void test_round_trips(void **state) {
    (void)state;
    struct entry entry = numbered();
    round_trip(&entry);
    entry = (struct entry){.commit_index = 1,
                           .name = {.id = slice_of_text("an id"), .id_part = 3, .window_ms = 600000},
                           .atomic = true,
                           .body = slice_of_text("b")};
    round_trip(&entry);
    entry.chance = UINT64_MAX;
    round_trip(&entry);
    entry.atomic = false;
    entry.waits = true;
    round_trip(&entry);
}

/* The fixed part may not be cut anywhere; what follows it is the body. */
static void test_truncated_is_refused(void **state) {
    (void)state;
    struct entry entry = numbered(), back;
    struct buffer buffer;
    buffer_init(&buffer);
    entry.chance = 5;
    entry_encode_command(&buffer, &entry);
    size_t fixed = buffer.size - entry.body.size;
    for (size_t size = 0; size < fixed; size++) {
        assert_int_equal(entry_decode(slice_of(buffer.data, size), true, &back), SK_EPROTO);
    }
    buffer_deinit(&buffer);
}

static void test_bad_flags_and_ids_are_refused(void **state) {
    (void)state;
    struct entry back;
    uint8_t bytes[128] = {0};
    bytes[8] = 16; /* a flag that nobody writes */
    assert_int_equal(entry_decode(slice_of(bytes, sizeof bytes), true, &back), SK_EPROTO);
    bytes[8] = 4; /* nothing to draw from, where there should be something */
    assert_int_equal(entry_decode(slice_of(bytes, sizeof bytes), true, &back), SK_EPROTO);
    bytes[8] = 2; /* an id of no bytes */
    assert_int_equal(entry_decode(slice_of(bytes, sizeof bytes), true, &back), SK_EPROTO);
    bytes[9] = 65; /* a longer one than the contract allows */
    assert_int_equal(entry_decode(slice_of(bytes, sizeof bytes), true, &back), SK_EPROTO);
}

static void test_plain(void **state) {
    (void)state;
    struct buffer buffer;
    struct entry back;
    buffer_init(&buffer);
    entry_encode_plain(&buffer, 99);
    assert_int_equal(entry_decode(buffer_slice(&buffer), false, &back), SK_OK);
    assert_int_equal(back.commit_index, 99);
    buffer_append(&buffer, "x", 1);
    assert_int_equal(entry_decode(buffer_slice(&buffer), false, &back), SK_EPROTO);
    buffer_deinit(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_truncated_is_refused),
        cmocka_unit_test(test_bad_flags_and_ids_are_refused),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/local.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"

/* What `id` answers to these encoded params: SK_OK with the result in `result`, or an error with a text. */
static int ask(enum command_id id, const char *params, size_t size, struct buffer *result) {
    struct sub sub = {.command = &command_table[id], .params = slice_of(params, size)};
    const char *text = NULL;
    buffer_clear(result, 65536);
    int err = local_answer(&sub, 1234567890123456u, result, &text);
    assert_true(err == SK_OK || text != NULL);
    return err;
}

static void expect(const struct buffer *result, const char *bytes, size_t size) {
    assert_true(slice_equal(buffer_slice(result), slice_of(bytes, size)));
}

static uint32_t array_count(const struct buffer *result) {
    struct mp_reader reader = mp_reader_of(buffer_slice(result));
    uint32_t count;
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    return count;
}

static void ping_echo_time(void **state) {
    (void)state;
    struct buffer result;
    buffer_init(&result);
    assert_int_equal(ask(COMMAND_ID_PING, "\x90", 1, &result), SK_OK);
    expect(&result, "\xa4PONG", 5);
    assert_int_equal(ask(COMMAND_ID_PING, "\x91\xa1x", 3, &result), SK_OK);
    expect(&result, "\xc4\x01x", 3);
    assert_int_equal(ask(COMMAND_ID_PING, "\x92\xa1x\xa1y", 5, &result), SK_BADREQUEST);
    assert_int_equal(ask(COMMAND_ID_ECHO, "\x91\x07", 2, &result), SK_OK);
    expect(&result, "\x07", 1);
    assert_int_equal(ask(COMMAND_ID_TIME, "\x90", 1, &result), SK_OK);
    expect(&result, "\x92\xce\x49\x96\x02\xd2\xce\x00\x01\xe2\x40", 11);
    buffer_deinit(&result);
}

static void command_describes_the_table(void **state) {
    (void)state;
    struct buffer result;
    buffer_init(&result);
    assert_int_equal(ask(COMMAND_ID_COMMAND,
                         "\x91\xa5"
                         "count",
                         7, &result),
                     SK_OK);
    struct mp_reader counted = mp_reader_of(buffer_slice(&result));
    uint64_t count;
    assert_int_equal(mp_read_uint(&counted, &count), SK_OK);
    assert_int_equal(count, COMMAND_COUNT);
    assert_int_equal(ask(COMMAND_ID_COMMAND, "\x90", 1, &result), SK_OK);
    assert_int_equal(array_count(&result), COMMAND_COUNT);
    struct mp_reader all = mp_reader_of(buffer_slice(&result));
    assert_int_equal(mp_skip(&all, NULL), SK_OK);
    assert_int_equal(mp_left(&all), 0);
    assert_int_equal(ask(COMMAND_ID_COMMAND, "\x91\xa4LIST", 6, &result), SK_OK);
    assert_int_equal(array_count(&result), COMMAND_COUNT);
    assert_int_equal(ask(COMMAND_ID_COMMAND, "\x93\xa4INFO\xa3get\xa6nosuch", 17, &result), SK_OK);
    static const char info[] = "\x92\x9a\xc4\x03get\x02\x91\xa8readonly\x01\x01\x01\x90\x90\x90\x90\xc0";
    expect(&result, info, sizeof info - 1);
    assert_int_equal(ask(COMMAND_ID_COMMAND,
                         "\x92\xa4"
                         "DOCS\xa6nosuch",
                         13, &result),
                     SK_OK);
    expect(&result, "\x80", 1);
    static const char keys_of_mset[] = "\x96\xa7GETKEYS\xa4mset\xa1k\xa1v\xa1l\xa1w";
    assert_int_equal(ask(COMMAND_ID_COMMAND, keys_of_mset, sizeof keys_of_mset - 1, &result), SK_OK);
    expect(&result, "\x92\xc4\x01k\xc4\x01l", 7);
    static const char keys_of_ping[] = "\x92\xa7GETKEYS\xa4ping", too_few[] = "\x92\xa7GETKEYS\xa3get";
    assert_int_equal(ask(COMMAND_ID_COMMAND, keys_of_ping, sizeof keys_of_ping - 1, &result), SK_BADREQUEST);
    assert_int_equal(ask(COMMAND_ID_COMMAND, too_few, sizeof too_few - 1, &result), SK_BADREQUEST);
    assert_int_equal(ask(COMMAND_ID_COMMAND, "\x91\xa7GETKEYS", 9, &result), SK_BADREQUEST);
    assert_int_equal(ask(COMMAND_ID_COMMAND, "\x91\xa5nonse", 7, &result), SK_BADREQUEST);
    assert_int_equal(ask(COMMAND_ID_COMMAND, "\x91\x05", 2, &result), SK_BADREQUEST);
    buffer_deinit(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ping_echo_time),
        cmocka_unit_test(command_describes_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/resp_reader.h"
#include "libcommon/limits.h"

#include <stdio.h>
#include <stdlib.h>

#define LIMIT (1024u * 1024)

static struct resp_command *command;

/* Reads all of `input`, given in pieces of `step` bytes; tells each command as [word|word], then "more" or the error. */
static const char *read_all(struct slice input, size_t step, bool stranger) {
    static char told[65536];
    struct resp_reader reader;
    resp_reader_init(&reader, LIMIT);
    size_t at = 0, given = 0, size = 0;
    enum resp_event event = RESP_MORE;
    told[0] = '\0';
    while (event != RESP_BROKEN && (given < input.size || event == RESP_COMMAND)) {
        if (event == RESP_MORE) given = given + step < input.size ? given + step : input.size;
        size_t taken;
        /* a copy of its own: what is read beyond it is found by the sanitizer */
        uint8_t *copy = malloc(given - at + 1);
        memcpy(copy, input.data + at, given - at);
        event = resp_reader_next(&reader, slice_of(copy, given - at), stranger, command, &taken);
        if (event == RESP_COMMAND) size += (size_t)snprintf(told + size, sizeof told - size, "[");
        for (uint32_t i = 0; event == RESP_COMMAND && i < command->count; i++) {
            size += (size_t)snprintf(told + size, sizeof told - size, "%s%.*s", i > 0 ? "|" : "",
                                     (int)command->words[i].size, (const char *)command->words[i].data);
        }
        if (event == RESP_COMMAND) size += (size_t)snprintf(told + size, sizeof told - size, "]");
        at += taken;
        free(copy);
    }
    (void)snprintf(told + size, sizeof told - size, "%s", event == RESP_BROKEN ? command->error : "more");
    resp_reader_deinit(&reader);
    return told;
}

static void expect_bytes(const char *input, size_t size, bool stranger, const char *told) {
    for (size_t step = 1; step <= size; step++) {
        assert_string_equal(read_all(slice_of(input, size), step, stranger), told);
    }
}

static void expect(const char *input, const char *told) { expect_bytes(input, strlen(input), false, told); }

static void arrays_of_words(void **state) {
    (void)state;
    expect("*1\r\n$4\r\nPING\r\n", "[PING]more");
    expect("*2\r\n$3\r\nGET\r\n$0\r\n\r\n*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n", "[GET|][ECHO|a\r\nb]more");
    expect("*3\r\n$3\r\nSET\r\n$1\r\nk", "more");
    expect("*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", "[PING]more");
    static const char zeros[] = "*2\r\n$4\r\nECHO\r\n$3\r\n\0\r\n\r\n";
    expect_bytes(zeros, sizeof zeros - 1, false, "[ECHO|]more"); /* told as text, it ends at its zero */
    assert_int_equal(command->count, 0);
}

static void inline_commands(void **state) {
    (void)state;
    expect("PING\r\n", "[PING]more");
    expect("\r\n\n  \nPING\nGET  a \t b\r\n", "[PING][GET|a|b]more");
    expect("SET \"a b\" 'c d'\n", "[SET|a b|c d]more");
    expect("ECHO \"\\x41\\\"\\n\\r\\t\\b\\a\\q\\xzz\"\n", "[ECHO|A\"\n\r\t\b\aqxzz]more");
    expect("ECHO 'it\\'s \\n'\n", "[ECHO|it's \\n]more");
    expect("ECHO a\"b c\"\n", "[ECHO|ab c]more");
    expect("SET k \"\"\n*1\r\n$4\r\nPING\r\n", "[SET|k|][PING]more");
    expect("''\n\"\"  ''\n", "[][|]more");
    expect("ECHO \"a\n", "Protocol error: unbalanced quotes in request");
    expect("ECHO \"a\"b\n", "Protocol error: unbalanced quotes in request");
    expect("ECHO 'a\\'\n", "Protocol error: unbalanced quotes in request");
    expect("ECHO \"a\\\n", "Protocol error: unbalanced quotes in request");
}

static void what_is_broken(void **state) {
    (void)state;
    expect("PING\r\n*x\r\n", "[PING]Protocol error: invalid multibulk length");
    expect("*\r\n", "Protocol error: invalid multibulk length");
    expect("*01\r\n", "Protocol error: invalid multibulk length");
    expect("*1 \r\n", "Protocol error: invalid multibulk length");
    expect("*20001\r\n$1\r\n", "more");
    expect("*20002\r\n", "Protocol error: invalid multibulk length");
    expect("*99999999999999999999\r\n", "Protocol error: invalid multibulk length");
    expect("*1\r\n:4\r\n", "Protocol error: expected '$', got ':'");
    expect("*1\r\n\r\n", "Protocol error: expected '$', got '?'");
    expect("*2\r\n$1\r\na\r\nb\r\n", "Protocol error: expected '$', got 'b'");
    expect("*1\r\n$-1\r\n", "Protocol error: invalid bulk length");
    expect("*1\r\n$\r\n", "Protocol error: invalid bulk length");
    expect("*1\r\n$1x\r\n", "Protocol error: invalid bulk length");
    expect("*1\r\n$16777217\r\n", "Protocol error: invalid bulk length");
    expect("*1\r\n$1048577\r\n", "Protocol error: too big command");
}

static void strangers_have_little(void **state) {
    (void)state;
    static const char ten[] = "*10\r\n", eleven[] = "*11\r\n", large[] = "*1\r\n$16385\r\n",
                      fits[] = "*1\r\n$16384\r\n";
    expect_bytes(ten, sizeof ten - 1, true, "more");
    expect_bytes(eleven, sizeof eleven - 1, true, "Protocol error: unauthenticated multibulk length");
    expect_bytes(fits, sizeof fits - 1, true, "more");
    expect_bytes(large, sizeof large - 1, true, "Protocol error: unauthenticated bulk length");
}

/* A run of `byte` behind a beginning, longer than a line may be. */
static void expect_long(const char *start, char byte, const char *told) {
    static char input[RESP_INLINE_BYTES_MAX + 16];
    size_t size = strlen(start);
    memcpy(input, start, size);
    memset(input + size, byte, sizeof input - size);
    const size_t steps[] = {1000, 65535, sizeof input};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(read_all(slice_of(input, sizeof input), steps[i], false), told);
    }
}

static void lines_without_an_end(void **state) {
    (void)state;
    expect_long("", 'a', "Protocol error: too big inline request");
    expect_long("*", '1', "Protocol error: too big mbulk count string");
    expect_long("*1\r\n$", '1', "Protocol error: too big bulk count string");
}

static void as_many_words_as_there_may_be(void **state) {
    (void)state;
    struct buffer input;
    struct resp_reader reader;
    size_t taken;
    buffer_init(&input);
    buffer_append(&input, "*20001\r\n", 8);
    for (uint32_t i = 0; i < RESP_WORDS_MAX; i++) buffer_append(&input, "$1\r\nw\r\n", 7);
    resp_reader_init(&reader, LIMIT);
    assert_int_equal(resp_reader_next(&reader, slice_of(input.data, input.size - 1), false, command, &taken),
                     RESP_MORE);
    assert_int_equal(resp_reader_next(&reader, buffer_slice(&input), false, command, &taken), RESP_COMMAND);
    assert_int_equal(command->count, RESP_WORDS_MAX);
    assert_int_equal(taken, input.size);
    resp_reader_deinit(&reader);
    buffer_deinit(&input);
}

static int set_up(void **state) {
    (void)state;
    command = malloc(sizeof *command);
    return command == NULL;
}

static int tear_down(void **state) {
    (void)state;
    free(command);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_of_words),
        cmocka_unit_test(inline_commands),
        cmocka_unit_test(what_is_broken),
        cmocka_unit_test(strangers_have_little),
        cmocka_unit_test(lines_without_an_end),

        cmocka_unit_test(as_many_words_as_there_may_be),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

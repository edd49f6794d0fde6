#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/join.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/wire.h"

#include <stdio.h>
#include <stdlib.h>

struct fixture {
    struct arena_pool pool;
    struct arena arena;
    struct part parts[4];
    struct sub sub;
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    arena_pool_init(&fixture->pool);
    arena_init(&fixture->arena, &fixture->pool);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    arena_clear(&fixture->arena);
    arena_pool_deinit(&fixture->pool);
    free(fixture);
    return 0;
}

/* A command whose parts have these results, which all end with the array. */
static struct sub *sub_of(struct fixture *fixture, enum command_id id, const int *errors, uint32_t count) {
    const struct command *command = &command_table[id];
    memset(fixture->parts, 0, sizeof fixture->parts);
    fixture->sub = (struct sub){.command = command, .parts = fixture->parts, .part_count = count};
    for (uint32_t i = 0; i < count; i++) {
        fixture->parts[i].err = errors == NULL ? SK_OK : errors[i];
        fixture->parts[i].shard = i;
        fixture->parts[i].flags = (command->flags & COMMAND_WRITE) != 0 ? REQUEST_WRITE : 0;
        fixture->parts[i].result = fixture->parts[i].err == SK_OK ? slice_of("\x01", 1) : slice_of_text("because");
    }
    return &fixture->sub;
}

/* R9: done, surely not done, unknown; and what they make together. */
static void outcome_of_a_split_write(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        int parts[3];
        int err;
    } cases[] = {
        {{SK_OK, SK_OK, SK_OK}, SK_OK},
        {{SK_UNAVAILABLE, SK_UNAVAILABLE, SK_UNAVAILABLE}, SK_UNAVAILABLE},
        {{SK_DISKFULL, SK_UNAVAILABLE, SK_UNAVAILABLE}, SK_DISKFULL},
        {{SK_OK, SK_UNAVAILABLE, SK_OK}, SK_TIMEOUT},
        {{SK_OK, SK_DISKFULL, SK_OK}, SK_TIMEOUT},
        {{SK_OK, SK_OK, SK_OVERLOADED}, SK_TIMEOUT},
        {{SK_WRONGTYPE, SK_OK, SK_OK}, SK_TIMEOUT},
        {{SK_TIMEOUT, SK_OK, SK_OK}, SK_TIMEOUT},
        {{SK_TIMEOUT, SK_UNAVAILABLE, SK_UNAVAILABLE}, SK_TIMEOUT},
        {{SK_INTERNAL, SK_TIMEOUT, SK_OK}, SK_TIMEOUT},
        {{SK_INTERNAL, SK_UNAVAILABLE, SK_OK}, SK_INTERNAL},
        {{SK_FORGOTTEN, SK_OK, SK_OK}, SK_FORGOTTEN},
        {{SK_DONE, SK_OK, SK_OK}, SK_DONE},
        {{SK_DONE, SK_UNAVAILABLE, SK_OK}, SK_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice text;
        struct sub *sub = sub_of(fixture, COMMAND_ID_MSET, cases[i].parts, 3);
        assert_int_equal(join_outcome(sub, &fixture->arena, &text), cases[i].err);
    }
}

static void a_split_read_answers_its_first_error(void **state) {
    struct fixture *fixture = *state;
    struct slice text;
    static const int parts[] = {SK_OK, SK_UNAVAILABLE, SK_TIMEOUT};
    assert_int_equal(join_outcome(sub_of(fixture, COMMAND_ID_MGET, parts, 3), &fixture->arena, &text),
                     SK_UNAVAILABLE);
}

static void sums(void **state) {
    struct fixture *fixture = *state;
    struct gateway_facts facts = {0};
    struct sub *sub = sub_of(fixture, COMMAND_ID_DEL, NULL, 3);
    fixture->parts[2].result = slice_of("\xcd\x01\x00", 3);
    join_answer(sub, &fixture->arena, &facts);
    assert_int_equal(sub->err, SK_OK);
    struct mp_reader reader = mp_reader_of(sub->result);
    uint64_t sum;
    assert_int_equal(mp_read_uint(&reader, &sum), SK_OK);
    assert_int_equal(sum, 258);
    sub = sub_of(fixture, COMMAND_ID_DEL, NULL, 2);
    fixture->parts[1].result = slice_of("\xa1x", 2);
    join_answer(sub, &fixture->arena, &facts);
    assert_int_equal(sub->err, SK_INTERNAL);
}

static void values_go_back_into_the_order_of_the_keys(void **state) {
    struct fixture *fixture = *state;
    struct gateway_facts facts = {0};
    static const uint32_t key_parts[] = {0, 1, 0, 1, 0};
    struct sub *sub = sub_of(fixture, COMMAND_ID_MGET, NULL, 2);
    sub->key_count = 5;
    sub->key_parts = key_parts;
    fixture->parts[0].result = slice_of("\x93\xa1"
                                        "a\xc0\xa1"
                                        "c",
                                        6);
    fixture->parts[1].result = slice_of("\x92\xa1"
                                        "b\x05",
                                        4);
    join_answer(sub, &fixture->arena, &facts);
    assert_int_equal(sub->err, SK_OK);
    static const char expected[] = "\x95\xa1"
                                   "a\xa1"
                                   "b\xc0\x05\xa1"
                                   "c";
    assert_true(slice_equal(sub->result, slice_of(expected, sizeof expected - 1)));
    fixture->parts[1].result = slice_of("\x91\x05", 2); /* one too few */
    sub->answered = false;
    join_answer(sub, &fixture->arena, &facts);
    assert_int_equal(sub->err, SK_INTERNAL);
}

static void info_adds_counters_and_tells_sections(void **state) {
    struct fixture *fixture = *state;
    struct gateway_facts facts = {.requests = 77, .map_version = 9};
    struct sub *sub = sub_of(fixture, COMMAND_ID_INFO, NULL, 2);
    sub->params = slice_of("\x90", 1);
    fixture->parts[0].result = slice_of("\x82\xa4keys\x05\xa1x\x01", 10);
    fixture->parts[1].result = slice_of("\x81\xa4keys\x06", 7);
    join_answer(sub, &fixture->arena, &facts);
    struct mp_reader reader = mp_reader_of(sub->result);
    struct slice bytes;
    assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
    char text[4096];
    (void)snprintf(text, sizeof text, "%.*s", (int)bytes.size, (const char *)bytes.data);
    assert_non_null(strstr(text, "# Server\r\n"));
    assert_non_null(strstr(text, "total_requests_processed:77\r\n"));
    assert_non_null(strstr(text, "map_version:9\r\n"));
    static const char keyspace[] = "# Keyspace\r\ndb0:keys=11,expires=0,avg_ttl=0\r\nkeys:11\r\nx:1\r\n";
    assert_non_null(strstr(text, keyspace));
    /* what clients of Redis go by */
    assert_non_null(strstr(text, "\r\nredis_version:" REDIS_VERSION "\r\n"));
    assert_non_null(strstr(text, "\r\nloading:0\r\n"));
    assert_non_null(strstr(text, "\r\nrole:master\r\n"));
    sub->params = slice_of("\x91\xa8KEYSPACE", 10);
    join_answer(sub, &fixture->arena, &facts);
    reader = mp_reader_of(sub->result);
    assert_int_equal(mp_read_bytes(&reader, &bytes), SK_OK);
    assert_true(slice_equal(bytes, slice_of_text(keyspace)));
}

/* What splitting relies on. */
static void split_commands_are_keys_to_the_end(void **state) {
    (void)state;
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &command_table[i];
        if ((command->flags & COMMAND_SPLIT) == 0) continue;
        assert_int_equal(command->first_key, 1);
        assert_int_equal(command->last_key, -1);
        assert_int_not_equal(command->join, JOIN_NONE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(outcome_of_a_split_write),
        TEST(a_split_read_answers_its_first_error),
        TEST(sums),
        TEST(values_go_back_into_the_order_of_the_keys),
        TEST(info_adds_counters_and_tells_sections),
        TEST(split_commands_are_keys_to_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

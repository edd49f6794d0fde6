#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/message.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/secret.h"
#include "libcommon/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARDS 64u

struct fixture {
    struct arena_pool pool;
    struct arena arena;
    struct message_scratch *scratch;
    const struct tokens *tokens; /* borrowed; NULL: none are wanted */
    struct buffer bytes;
    struct message message;
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    arena_pool_init(&fixture->pool);
    arena_init(&fixture->arena, &fixture->pool);
    assert_int_equal(message_scratch_new(&fixture->scratch), SK_OK);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    arena_clear(&fixture->arena);
    arena_pool_deinit(&fixture->pool);
    message_scratch_free(fixture->scratch);
    buffer_deinit(&fixture->bytes);
    free(fixture);
    return 0;
}

static int parse_bytes(struct fixture *fixture, struct slice bytes) {
    arena_clear(&fixture->arena);
    return message_parse(&fixture->message, bytes, SHARDS, fixture->tokens, &fixture->arena, fixture->scratch);
}

static int parse(struct fixture *fixture) {
    assert_false(fixture->bytes.failed);
    return parse_bytes(fixture, buffer_slice(&fixture->bytes));
}

/* The words of one command: "SET a 1". */
static void write_words(struct buffer *bytes, const char *words) {
    char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", words);
    char *rest = NULL;
    uint32_t count = 0;
    struct buffer params;
    buffer_init(&params);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (count++ == 0) mp_write_text(bytes, word);
        else mp_write_bin(&params, slice_of_text(word));
    }
    mp_write_array(bytes, count - 1);
    mp_write_raw(bytes, buffer_slice(&params));
    buffer_deinit(&params);
}

static void begin(struct fixture *fixture, uint32_t elements) {
    buffer_clear(&fixture->bytes, 1024 * 1024);
    mp_write_array(&fixture->bytes, elements);
    mp_write_uint(&fixture->bytes, 0);
    mp_write_uint(&fixture->bytes, 7);
}

static int parse_words(struct fixture *fixture, const char *words) {
    begin(fixture, 4);
    write_words(&fixture->bytes, words);
    return parse(fixture);
}

/* A batch of `count` commands, with the option atomic if asked for. */
static int parse_batch(struct fixture *fixture, const char *const *commands, uint32_t count, bool atomic) {
    begin(fixture, atomic ? 5 : 4);
    mp_write_text(&fixture->bytes, "batch");
    mp_write_array(&fixture->bytes, count);
    for (uint32_t i = 0; i < count; i++) {
        mp_write_array(&fixture->bytes, 2);
        write_words(&fixture->bytes, commands[i]);
    }
    if (atomic) {
        mp_write_map(&fixture->bytes, 1);
        mp_write_text(&fixture->bytes, "atomic");
        mp_write_bool(&fixture->bytes, true);
    }
    return parse(fixture);
}

static uint32_t shard_of(const char *key) { return slot_shard(slot_of_key(slice_of_text(key)), SHARDS); }

static void single_command_is_one_part_of_the_clients_bytes(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(parse_words(fixture, "SET key value"), SK_OK);
    const struct message *message = &fixture->message;
    assert_int_equal(message->msgid, 7);
    assert_int_equal(message->sub_count, 1);
    const struct sub *sub = &message->subs[0];
    assert_int_equal(sub->part_count, 1);
    assert_int_equal(sub->parts[0].shard, shard_of("key"));
    assert_int_equal(sub->parts[0].flags, REQUEST_WRITE);
    const uint8_t *end = fixture->bytes.data + fixture->bytes.size;
    assert_ptr_equal(sub->parts[0].body.data, fixture->bytes.data + 3);
    assert_ptr_equal(sub->parts[0].body.data + sub->parts[0].body.size, end);
    assert_int_equal(parse_words(fixture, "get key"), SK_OK);
    assert_int_equal(fixture->message.subs[0].parts[0].flags, 0);
}

static void split_gives_each_shard_its_keys_in_order(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(parse_words(fixture, "MSET a 1 b 2 c 3 a 4"), SK_OK);
    const struct sub *sub = &fixture->message.subs[0];
    assert_int_equal(sub->part_count, 3);
    assert_int_equal(sub->key_count, 4);
    assert_int_equal(sub->key_parts[0], sub->key_parts[3]);
    for (uint32_t i = 0; i < 3; i++) {
        struct mp_reader reader = mp_reader_of(sub->parts[i].body);
        struct slice name, key;
        uint32_t count;
        assert_int_equal(mp_read_str(&reader, &name), SK_OK);
        assert_int_equal(mp_read_array(&reader, &count), SK_OK);
        assert_int_equal(count, i == sub->key_parts[0] ? 4 : 2);
        for (uint32_t word = 0; word < count; word += 2) {
            assert_int_equal(mp_read_bytes(&reader, &key), SK_OK);
            assert_int_equal(slot_shard(slot_of_key(key), SHARDS), sub->parts[i].shard);
            assert_int_equal(mp_skip(&reader, NULL), SK_OK);
        }
        assert_int_equal(mp_left(&reader), 0);
    }
    assert_int_equal(parse_words(fixture, "MGET {t}a {t}b"), SK_OK);
    assert_int_equal(fixture->message.subs[0].part_count, 1);
    assert_null(fixture->message.subs[0].key_parts);
    assert_int_equal(parse_words(fixture, "DBSIZE"), SK_OK);
    assert_int_equal(fixture->message.subs[0].part_count, SHARDS);
}

static void refused_commands_are_answered_in_their_sub(void **state) {
    static const struct {
        const char *words;
        int err;
    } cases[] = {
        {"NOSUCH a", SK_BADREQUEST},
        {"GET", SK_BADREQUEST},
        {"GET a b", SK_BADREQUEST},
        {"MSET a", SK_BADREQUEST},
        {"MSET a 1 b", SK_BADREQUEST},
        {"SCAN x", SK_BADREQUEST},
        {"SCAN -1", SK_BADREQUEST},
        {"SCAN 18446744073709551616", SK_BADREQUEST},
        {"SCAN 18446744073709551615", SK_BADREQUEST}, /* slot 65535 */
        {"SCAN 4611686018427387904", SK_BADREQUEST},  /* slot 16384 */
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse_words(fixture, cases[i].words), SK_OK);
        assert_true(fixture->message.subs[0].answered);
        assert_int_equal(fixture->message.subs[0].err, cases[i].err);
        assert_int_equal(fixture->message.part_count, 0);
    }
    assert_int_equal(parse_words(fixture, "SCAN 4611686018427387903"), SK_OK); /* slot 16383 */
    assert_int_equal(fixture->message.subs[0].parts[0].shard, SHARDS - 1);
}

static void keys_that_are_counted(void **state) {
    struct fixture *fixture = *state;
    const struct sub *sub;
    assert_int_equal(parse_words(fixture, "LMPOP 2 {t}a {t}b LEFT"), SK_OK);
    sub = &fixture->message.subs[0];
    assert_int_equal(sub->key_count, 2);
    assert_int_equal(sub->parts[0].shard, shard_of("t"));
    assert_int_equal(parse_words(fixture, "LMPOP 2 a b LEFT"), SK_OK);
    assert_int_equal(fixture->message.subs[0].err, SK_CROSSSLOT);
    assert_int_equal(parse_words(fixture, "LMPOP 1 a b LEFT"), SK_OK);
    assert_int_equal(fixture->message.subs[0].key_count, 1);
    assert_int_equal(parse_words(fixture, "LMPOP 9 a b LEFT"), SK_OK); /* any shard refuses it */
    sub = &fixture->message.subs[0];
    assert_false(sub->answered);
    assert_int_equal(sub->key_count, 0);
    assert_int_equal(sub->part_count, 1);
    begin(fixture, 4);
    mp_write_text(&fixture->bytes, "LMPOP");
    mp_write_array(&fixture->bytes, 3);
    mp_write_uint(&fixture->bytes, 1);
    mp_write_text(&fixture->bytes, "a");
    mp_write_text(&fixture->bytes, "LEFT");
    assert_int_equal(parse(fixture), SK_OK);
    assert_int_equal(fixture->message.subs[0].parts[0].shard, shard_of("a"));
}

static uint64_t wait_of(struct fixture *fixture, const char *words) {
    assert_int_equal(parse_words(fixture, words), SK_OK);
    const struct sub *sub = &fixture->message.subs[0];
    for (uint32_t i = 0; i < sub->part_count; i++) {
        assert_int_equal(sub->parts[i].waits, fixture->message.wait_ms != 0);
    }
    return fixture->message.wait_ms;
}

static void blocking_commands_say_how_long(void **state) {
    struct fixture *fixture = *state;
    static const char *const batch[] = {"BLPOP a 1"};
    assert_int_equal(wait_of(fixture, "BLPOP a 1.5"), 1500);
    assert_true(wait_of(fixture, "BLPOP {a}a {a}b 0") == UINT64_MAX);
    assert_int_equal(wait_of(fixture, "BLMPOP 0.25 1 a LEFT"), 250);
    assert_int_equal(wait_of(fixture, "BLMOVE {a}a {a}b LEFT LEFT 2"), 2000);
    assert_int_equal(wait_of(fixture, "BLPOP a -1"), 0);
    assert_int_equal(wait_of(fixture, "BLPOP a x"), 0);
    assert_int_equal(wait_of(fixture, "LPOP a 1"), 0);
    assert_int_equal(parse_batch(fixture, batch, 1, false), SK_OK);
    assert_int_equal(fixture->message.wait_ms, 0);
    assert_int_equal(parse_batch(fixture, batch, 1, true), SK_OK);
    assert_int_equal(fixture->message.wait_ms, 0);
    for (int kind = 0; kind < 3; kind++) {
        begin(fixture, 4);
        mp_write_text(&fixture->bytes, "BLPOP");
        mp_write_array(&fixture->bytes, 2);
        mp_write_text(&fixture->bytes, "a");
        if (kind == 0) mp_write_uint(&fixture->bytes, 3);
        if (kind == 1) mp_write_float(&fixture->bytes, 0.5);
        if (kind == 2) mp_write_int(&fixture->bytes, -3);
        assert_int_equal(parse(fixture), SK_OK);
        assert_int_equal(fixture->message.wait_ms, kind == 0 ? 3000 : kind == 1 ? 500 : 0);
    }
}

static void sizes_and_kinds_of_arguments_are_checked(void **state) {
    struct fixture *fixture = *state;
    struct {
        size_t key_bytes, value_bytes;
        int err;
    } cases[] = {
        {KEY_BYTES_MAX, 1, SK_OK},
        {KEY_BYTES_MAX + 1, 1, SK_TOOLARGE},
        {0, VALUE_BYTES_MAX, SK_OK},
        {0, VALUE_BYTES_MAX + 1, SK_TOOLARGE},
    };
    uint8_t *bytes = calloc(1, VALUE_BYTES_MAX + 1);
    for (size_t i = 0; i < 4; i++) {
        begin(fixture, 4);
        mp_write_text(&fixture->bytes, "SET");
        mp_write_array(&fixture->bytes, 2);
        mp_write_bin(&fixture->bytes, slice_of(bytes, cases[i].key_bytes));
        mp_write_bin(&fixture->bytes, slice_of(bytes, cases[i].value_bytes));
        assert_int_equal(parse(fixture), SK_OK);
        assert_int_equal(fixture->message.subs[0].err, cases[i].err);
    }
    free(bytes);
    for (int kind = 0; kind < 3; kind++) {
        begin(fixture, 4);
        mp_write_text(&fixture->bytes, "GET");
        mp_write_array(&fixture->bytes, 1);
        if (kind == 0) mp_write_uint(&fixture->bytes, 5); /* a key is no number */
        if (kind == 1) mp_write_nil(&fixture->bytes);
        if (kind == 2) mp_write_array(&fixture->bytes, 0);
        assert_int_equal(parse(fixture), SK_OK);
        assert_int_equal(fixture->message.subs[0].err, SK_BADREQUEST);
    }
}

static void a_message_takes_so_many_commands_and_keys(void **state) {
    struct fixture *fixture = *state;
    for (uint32_t extra = 0; extra < 2; extra++) {
        uint32_t count = MESSAGE_COMMANDS_MAX + extra;
        begin(fixture, 4);
        mp_write_text(&fixture->bytes, "DEL");
        mp_write_array(&fixture->bytes, count);
        for (uint32_t i = 0; i < count; i++) mp_write_bin(&fixture->bytes, slice_of(&i, sizeof i));
        assert_int_equal(parse(fixture), SK_OK);
        assert_int_equal(fixture->message.subs[0].err, extra == 0 ? SK_OK : SK_TOOLARGE);
        begin(fixture, 4);
        mp_write_text(&fixture->bytes, "BATCH");
        mp_write_array(&fixture->bytes, count);
        for (uint32_t i = 0; i < count; i++) {
            mp_write_array(&fixture->bytes, 2);
            write_words(&fixture->bytes, "GET k");
        }
        assert_int_equal(parse(fixture), extra == 0 ? SK_OK : SK_TOOLARGE);
    }
    begin(fixture, 4); /* 6,000 keys twice; nothing is made of what is behind them */
    mp_write_text(&fixture->bytes, "batch");
    mp_write_array(&fixture->bytes, 3);
    for (int i = 0; i < 2; i++) {
        mp_write_array(&fixture->bytes, 2);
        mp_write_text(&fixture->bytes, "EXISTS");
        mp_write_array(&fixture->bytes, 6000);
        for (int j = 0; j < 6000; j++) mp_write_text(&fixture->bytes, "k");
    }
    mp_write_nil(&fixture->bytes);
    assert_int_equal(parse(fixture), SK_TOOLARGE);
}

/* A batch of `count` commands, or the only one, with the option read: "follower". */
static void parse_stale(struct fixture *fixture, const char *const *commands, uint32_t count) {
    begin(fixture, 5);
    if (count > 1) {
        mp_write_text(&fixture->bytes, "batch");
        mp_write_array(&fixture->bytes, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (count > 1) mp_write_array(&fixture->bytes, 2);
        write_words(&fixture->bytes, commands[i]);
    }
    mp_write_map(&fixture->bytes, 1);
    mp_write_text(&fixture->bytes, "read");
    mp_write_text(&fixture->bytes, "follower");
    assert_int_equal(parse(fixture), SK_OK);
}

static void expect_flags(const struct fixture *fixture, uint32_t command, uint8_t flags) {
    const struct sub *sub = &fixture->message.subs[command];
    assert_true(sub->part_count > 0);
    for (uint32_t i = 0; i < sub->part_count; i++) assert_int_equal(sub->parts[i].flags, flags);
}

/* Every part of what only reads; a write is a write. */
static void reads_may_be_stale(void **state) {
    struct fixture *fixture = *state;
    parse_stale(fixture, (const char *const[]){"MGET a b c"}, 1);
    assert_int_equal(fixture->message.subs[0].part_count, 3);
    expect_flags(fixture, 0, REQUEST_STALE);
    parse_stale(fixture, (const char *const[]){"SET a 1"}, 1);
    expect_flags(fixture, 0, REQUEST_WRITE);
    parse_stale(fixture, (const char *const[]){"PING"}, 1);
    assert_int_equal(fixture->message.part_count, 0);
    parse_stale(fixture, (const char *const[]){"GET a", "GET", "DBSIZE"}, 3);
    expect_flags(fixture, 0, REQUEST_STALE);
    assert_true(fixture->message.subs[1].answered);
    expect_flags(fixture, 2, REQUEST_STALE);
}

/* A read before a write of its batch must not see that write, one behind it must. */
static void reads_beside_writes_are_the_leaders(void **state) {
    struct fixture *fixture = *state;
    parse_stale(fixture, (const char *const[]){"GET a", "SET a 1", "GET b"}, 3);
    expect_flags(fixture, 0, 0);
    expect_flags(fixture, 1, REQUEST_WRITE);
    expect_flags(fixture, 2, REQUEST_AFTER);
}

static void atomic_batches_are_one_part(void **state) {
    struct fixture *fixture = *state;
    static const char *const good[] = {"SET {t}a 1", "MGET {t}b {t}c"};
    assert_int_equal(parse_batch(fixture, good, 2, true), SK_OK);
    assert_int_equal(fixture->message.sub_count, 1);
    const struct part *part = &fixture->message.subs[0].parts[0];
    assert_int_equal(part->flags, REQUEST_WRITE | REQUEST_ATOMIC);
    assert_int_equal(part->shard, shard_of("t"));
    struct mp_reader reader = mp_reader_of(part->body);
    struct slice method;
    uint32_t count;
    assert_int_equal(mp_read_str(&reader, &method), SK_OK);
    assert_true(slice_equal(method, slice_of_text("batch")));
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(count, 2);

    static const char *const bad[][2] = {
        {"SET a 1", "SET b 1"}, {"SET a 1", "MGET a b"}, {"SET a 1", "PING"},   {"SET a 1", "DBSIZE"},
        {"SET a 1", "SCAN 0"},  {"SET a 1", "GET"},      {"SET a 1", "NOSUCH"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse_batch(fixture, bad[i], 2, true), i < 2 ? SK_CROSSSLOT : SK_BADREQUEST);
        assert_non_null(fixture->message.error);
    }
    assert_int_equal(parse_batch(fixture, NULL, 0, true), SK_OK);
    assert_int_equal(fixture->message.sub_count, 0);
}

/* EXEC with so many watched keys {t}w, and commands; alone, or as the second command of a batch. */
static int parse_exec(struct fixture *fixture, uint32_t watched, const char *const *commands, uint32_t count,
                      bool in_batch) {
    begin(fixture, 4);
    if (in_batch) {
        mp_write_text(&fixture->bytes, "batch");
        mp_write_array(&fixture->bytes, 3);
        mp_write_array(&fixture->bytes, 2);
        write_words(&fixture->bytes, "GET a");
        mp_write_array(&fixture->bytes, 2);
    }
    mp_write_text(&fixture->bytes, "exec");
    mp_write_array(&fixture->bytes, 2);
    mp_write_array(&fixture->bytes, watched);
    for (uint32_t i = 0; i < watched; i++) {
        mp_write_array(&fixture->bytes, 2);
        mp_write_text(&fixture->bytes, "{t}w");
        mp_write_uint(&fixture->bytes, i);
    }
    mp_write_array(&fixture->bytes, count);
    for (uint32_t i = 0; i < count; i++) {
        mp_write_array(&fixture->bytes, 2);
        write_words(&fixture->bytes, commands[i]);
    }
    if (in_batch) {
        mp_write_array(&fixture->bytes, 2);
        write_words(&fixture->bytes, "GET {t}a");
    }
    return parse(fixture);
}

static void exec_is_one_part(void **state) {
    struct fixture *fixture = *state;
    static const char *const good[] = {"SET {t}a 1", "MGET {t}b {t}c"};
    for (int in_batch = 0; in_batch < 2; in_batch++) {
        assert_int_equal(parse_exec(fixture, 1, good, 2, in_batch), SK_OK);
        const struct sub *sub = &fixture->message.subs[in_batch];
        assert_false(sub->answered);
        assert_int_equal(sub->part_count, 1);
        assert_int_equal(sub->parts[0].flags, REQUEST_WRITE | REQUEST_ATOMIC);
        assert_int_equal(sub->parts[0].shard, shard_of("t"));
        assert_int_equal(fixture->message.key_count, in_batch ? 6 : 4);
        struct mp_reader reader = mp_reader_of(sub->parts[0].body);
        struct slice method;
        uint32_t count;
        assert_int_equal(mp_read_str(&reader, &method), SK_OK);
        assert_true(slice_equal(method, slice_of_text("exec")));
        assert_int_equal(mp_read_array(&reader, &count), SK_OK);
        assert_int_equal(count, 2);
    }
    /* commands beside it in a batch are free in their slots, and a read behind it waits for it */
    assert_int_equal(fixture->message.subs[0].parts[0].flags, 0);
    assert_int_equal(fixture->message.subs[2].parts[0].flags, REQUEST_AFTER);
    /* a command that finds no keys is refused by its executor, wherever that is */
    static const char *const keyless[] = {"LMPOP x {t}a LEFT"}, *const mixed[] = {"LMPOP 0 {t}a LEFT", "GET {t}a"};
    assert_int_equal(parse_exec(fixture, 0, keyless, 1, false), SK_OK);
    assert_int_equal(fixture->message.subs[0].part_count, 1);
    assert_int_equal(parse_exec(fixture, 0, mixed, 2, false), SK_OK);
    assert_int_equal(fixture->message.subs[0].parts[0].shard, shard_of("t"));
    assert_int_equal(parse_batch(fixture, keyless, 1, true), SK_OK);
    /* nothing but watched keys; nothing at all */
    assert_int_equal(parse_exec(fixture, 1, NULL, 0, false), SK_OK);
    assert_int_equal(fixture->message.subs[0].part_count, 1);
    assert_int_equal(parse_exec(fixture, 0, NULL, 0, false), SK_OK);
    assert_true(fixture->message.subs[0].answered);
    assert_int_equal(fixture->message.subs[0].err, SK_OK);
    assert_true(slice_equal(fixture->message.subs[0].result, slice_of("\x90", 1)));
}

static void exec_is_checked(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        const char *command;
        int err;
    } bad[] = {{"SET a 1", SK_CROSSSLOT}, {"MGET {t}a b", SK_CROSSSLOT}, {"PING", SK_BADREQUEST},
               {"DBSIZE", SK_BADREQUEST}, {"NOSUCH", SK_BADREQUEST},     {"GET", SK_BADREQUEST},
               {"EXEC", SK_BADREQUEST},   {"MULTI", SK_BADREQUEST}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *const commands[] = {"SET {t}a 1", bad[i].command};
        for (int in_batch = 0; in_batch < 2; in_batch++) {
            assert_int_equal(parse_exec(fixture, 1, commands, 2, in_batch), SK_OK);
            assert_int_equal(fixture->message.subs[in_batch].err, bad[i].err);
            assert_int_equal(fixture->message.subs[in_batch].part_count, 0);
        }
    }
    static const struct {
        const char *bytes;
        size_t size;
    } malformed[] = {{"\xa4"
                      "EXEC\x90",
                      6},
                     {"\xa4"
                      "EXEC\x92\x01\x90",
                      8},
                     {"\xa4"
                      "EXEC\x92\x90\x01",
                      8},
                     {"\xa4"
                      "EXEC\x92\x91\x91\xa1k\x90",
                      11},
                     {"\xa4"
                      "EXEC\x92\x90\x91\x01",
                      9},
                     {"\xa4"
                      "EXEC\x92\x90\x91\x92\x01\x90",
                      11}};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        begin(fixture, 4);
        mp_write_raw(&fixture->bytes, slice_of(malformed[i].bytes, malformed[i].size));
        assert_int_equal(parse(fixture), SK_OK);
        assert_int_equal(fixture->message.subs[0].err, SK_BADREQUEST);
    }
    assert_int_equal(parse_exec(fixture, MESSAGE_COMMANDS_MAX, NULL, 0, true), SK_TOOLARGE);
}

static void what_is_of_a_connection_is_refused(void **state) {
    struct fixture *fixture = *state;
    static const char *const commands[] = {"MULTI", "WATCH a", "HELLO 3", "AUTH x"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_int_equal(parse_words(fixture, commands[i]), SK_OK);
        assert_int_equal(fixture->message.subs[0].err, SK_BADREQUEST);
    }
}

static void batches_keep_the_errors_of_their_commands(void **state) {
    struct fixture *fixture = *state;
    static const char *const commands[] = {"GET a", "NOSUCH", "PING", "batch x", "DEL a b c"};
    assert_int_equal(parse_batch(fixture, commands, 5, false), SK_OK);
    const struct sub *subs = fixture->message.subs;
    assert_int_equal(subs[0].part_count, 1);
    assert_int_equal(subs[1].err, SK_BADREQUEST);
    assert_false(subs[2].answered);
    assert_int_equal(subs[2].part_count, 0);
    assert_int_equal(subs[3].err, SK_BADREQUEST);
    assert_int_equal(subs[4].part_count, 3);
    assert_int_equal(subs[4].parts[2].command, 4);
}

/* A request with one option of the given name, written by `write`. */
static int parse_option(struct fixture *fixture, const char *method, const char *name, struct slice value) {
    begin(fixture, 5);
    mp_write_text(&fixture->bytes, method);
    mp_write_array(&fixture->bytes, 0);
    mp_write_map(&fixture->bytes, 1);
    mp_write_text(&fixture->bytes, name);
    mp_write_raw(&fixture->bytes, value);
    return parse(fixture);
}

static void options_are_checked(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        const char *method, *name, *value; /* MessagePack */
        size_t value_bytes;
        int err;
    } cases[] = {
        {"PING", "id", "\xa1x", 2, SK_OK},
        {"PING", "id", "\xc4\x01x", 3, SK_OK},
        {"PING", "id", "\xa0", 1, SK_BADREQUEST},
        {"PING", "id", "\x05", 1, SK_BADREQUEST},
        {"PING", "timeout_ms", "\x01", 1, SK_OK},
        {"PING", "timeout_ms", "\xcd\xea\x60", 3, SK_OK}, /* 60000 */
        {"PING", "timeout_ms", "\xcd\xea\x61", 3, SK_BADREQUEST},
        {"PING", "timeout_ms", "\x00", 1, SK_BADREQUEST},
        {"PING", "timeout_ms", "\xff", 1, SK_BADREQUEST},
        {"PING", "timeout_ms", "\xa1x", 2, SK_BADREQUEST},
        {"PING", "read", "\xa6leader", 7, SK_OK},
        {"PING", "read",
         "\xa8"
         "follower",
         9, SK_OK},
        {"PING", "read",
         "\xa3"
         "any",
         4, SK_BADREQUEST},
        {"PING", "atomic", "\xc3", 1, SK_BADREQUEST},
        {"batch", "atomic", "\xc2", 1, SK_OK},
        {"batch", "atomic", "\x01", 1, SK_BADREQUEST},
        {"PING", "other", "\x01", 1, SK_BADREQUEST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice value = slice_of(cases[i].value, cases[i].value_bytes);
        assert_int_equal(parse_option(fixture, cases[i].method, cases[i].name, value), cases[i].err);
        assert_int_equal(fixture->message.msgid, 7);
    }
    uint8_t id[67] = {0xc4, 65};
    assert_int_equal(parse_option(fixture, "PING", "id", slice_of(id, sizeof id)), SK_BADREQUEST);
    id[1] = 64;
    assert_int_equal(parse_option(fixture, "PING", "id", slice_of(id, sizeof id - 1)), SK_OK);
    assert_int_equal(fixture->message.id.size, 64);
}

static void malformed_messages_are_refused_with_their_msgid(void **state) {
    struct fixture *fixture = *state;
#define CASE(text, id)                                                                                            \
    { text, sizeof text - 1, id }
    static const struct {
        const char *bytes;
        size_t size;
        uint64_t msgid;
    } cases[] = {
        CASE("", 0),
        CASE("\xc0", 0),
        CASE("\x80", 0),
        CASE("\x90", 0),
        CASE("\x93\x00\x07\xa4PING", 0),
        CASE("\x96\x00\x07\xa4PING\x90\x80\x80", 0),
        CASE("\x94\x01\x07\xa4PING\x90", 0),             /* a reply */
        CASE("\x94\x00\xff\xa4PING\x90", 0),             /* msgid -1 */
        CASE("\x94\x00\xa1x\xa4PING\x90", 0),            /* msgid "x" */
        CASE("\x94\x00\x07\x05\x90", 7),                 /* method 5 */
        CASE("\x94\x00\x07\xc4\x04PING\x90", 7),         /* method bin */
        CASE("\x94\x00\x07\xa4PING\x90\xc0", 7),         /* trailing nil */
        CASE("\x94\x00\x07\xa4PING\x91", 7),             /* cut off */
        CASE("\x94\x00\x07\xa4PING\xc1", 7),             /* the byte that means nothing */
        CASE("\x94\x00\x07\xdb\xff\xff\xff\xff\x90", 7), /* a str of 4 GiB */
        CASE("\x94\x00\x07\xa4PING\xdd\xff\xff\xff\xff", 7),
        CASE("\x95\x00\x07\xa4PING\x90\x90", 7), /* options an array */
        CASE("\x95\x00\x07\xa4PING\x90\x81\x01\x01", 7),
        CASE("\x94\x00\x07\xa5"
             "batch\x05",
             7),
        CASE("\x94\x00\x07\xa5"
             "batch\x91\x05",
             7),
        CASE("\x94\x00\x07\xa5"
             "batch\x91\x91\xa4PING",
             7),
        CASE("\x94\x00\x07\xa5"
             "batch\x91\x92\x05\x90",
             7),
    };
#undef CASE
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse_bytes(fixture, slice_of(cases[i].bytes, cases[i].size)), SK_BADREQUEST);
        assert_int_equal(fixture->message.msgid, cases[i].msgid);
        assert_non_null(fixture->message.error);
    }
    /* params that are no array are the command's error, as in a batch */
    static const char map[] = "\x94\x00\x07\xa4PING\x80";
    assert_int_equal(parse_bytes(fixture, slice_of(map, sizeof map - 1)), SK_OK);
    assert_int_equal(fixture->message.subs[0].err, SK_BADREQUEST);
}

static void nested_10000_deep(void **state) {
    struct fixture *fixture = *state;
    begin(fixture, 4);
    mp_write_text(&fixture->bytes, "ECHO");
    for (int i = 0; i < 10000; i++) mp_write_array(&fixture->bytes, 1);
    mp_write_nil(&fixture->bytes);
    assert_int_equal(parse(fixture), SK_BADREQUEST);
    assert_int_equal(fixture->message.msgid, 7);
}

/* A GET with the options of a map that `shown` begins with; `nonsense` also gives options that are not valid. */
static int parse_with_token(struct fixture *fixture, struct slice shown, bool nonsense) {
    buffer_clear(&fixture->bytes, SIZE_MAX);
    mp_write_array(&fixture->bytes, 5);
    mp_write_uint(&fixture->bytes, 0);
    mp_write_uint(&fixture->bytes, 7);
    mp_write_text(&fixture->bytes, "GET");
    mp_write_array(&fixture->bytes, nonsense ? 0 : 1);
    if (!nonsense) mp_write_text(&fixture->bytes, "key");
    mp_write_map(&fixture->bytes, 1u + nonsense);
    if (nonsense) {
        mp_write_text(&fixture->bytes, "id");
        mp_write_nil(&fixture->bytes);
    }
    mp_write_text(&fixture->bytes, "token");
    mp_write_bin(&fixture->bytes, shown);
    return parse(fixture);
}

static void read_tokens(struct tokens **tokens, const char *content) {
    char path[] = "/tmp/tokens-XXXXXX", text[256];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(tokens_read(tokens, "--token-file", path, text, sizeof text), SK_OK);
    close(fd);
    unlink(path);
}

static void a_token_is_shown_where_one_is_wanted(void **state) {
    struct fixture *fixture = *state;
    struct tokens *tokens;
    read_tokens(&tokens, "the first token of them\nand the second one\n");
    struct slice second = slice_of_text("and the second one");

    assert_int_equal(parse_with_token(fixture, slice_of_text("any"), false), SK_OK); /* none is wanted */
    fixture->tokens = tokens;
    assert_int_equal(parse_with_token(fixture, slice_of_text("the first token of them"), false), SK_OK);
    assert_int_equal(parse_with_token(fixture, second, false), SK_OK);
    assert_int_equal(parse_with_token(fixture, slice_of_text("and the second on"), false), SK_NOAUTH);
    assert_int_equal(parse_with_token(fixture, slice_of_text("and the second onE"), false), SK_NOAUTH);
    assert_int_equal(parse_with_token(fixture, slice_of_text(""), false), SK_NOAUTH);
    assert_int_equal(fixture->message.msgid, 7);

    /* what else is wrong with a message is told to those alone who show one */
    assert_int_equal(parse_with_token(fixture, second, true), SK_BADREQUEST);
    assert_int_equal(parse_with_token(fixture, slice_of_text("wrong"), true), SK_NOAUTH);
    static const char *const commands[] = {"NOSUCH a"};
    assert_int_equal(parse_batch(fixture, commands, 1, false), SK_NOAUTH); /* no options at all */
    tokens_free(tokens);
}

/* In memory of its own size, so that the sanitizer sees a byte read too far. */
static int parse_copy(struct fixture *fixture, const uint8_t *bytes, size_t size) {
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, bytes, size);
    int err = parse_bytes(fixture, slice_of(copy, size));
    free(copy);
    return err;
}

static void every_truncation_is_refused(void **state) {
    struct fixture *fixture = *state;
    static const char *const commands[] = {"MSET a 1 b 2 c 3", "GET {x}y", "SCAN 0 COUNT 5", "INFO"};
    assert_int_equal(parse_batch(fixture, commands, 4, false), SK_OK);
    for (size_t size = 0; size < fixture->bytes.size; size++) {
        assert_int_equal(parse_copy(fixture, fixture->bytes.data, size), SK_BADREQUEST);
    }
}

static void damaged_messages_never_read_too_far(void **state) {
    struct fixture *fixture = *state;
    static const char *const commands[] = {"MSET a 1 b 2 c 3", "GET {x}y", "SCAN 0 COUNT 5", "INFO", "CAS a b c"};
    uint64_t seed = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        if (round % 100 == 0) (void)parse_batch(fixture, commands, 5, round % 200 == 0);
        uint8_t bytes[256];
        size_t size = fixture->bytes.size < sizeof bytes ? fixture->bytes.size : sizeof bytes;
        memcpy(bytes, fixture->bytes.data, size);
        for (int flip = 0; flip < 1 + round % 4; flip++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            bytes[seed % size] = (uint8_t)(seed >> 32);
        }
        (void)parse_copy(fixture, bytes, size);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(single_command_is_one_part_of_the_clients_bytes),
        TEST(split_gives_each_shard_its_keys_in_order),
        TEST(refused_commands_are_answered_in_their_sub),
        TEST(keys_that_are_counted),
        TEST(blocking_commands_say_how_long),
        TEST(sizes_and_kinds_of_arguments_are_checked),
        TEST(a_message_takes_so_many_commands_and_keys),
        TEST(reads_may_be_stale),
        TEST(reads_beside_writes_are_the_leaders),
        TEST(atomic_batches_are_one_part),
        TEST(exec_is_one_part),
        TEST(exec_is_checked),
        TEST(what_is_of_a_connection_is_refused),
        TEST(batches_keep_the_errors_of_their_commands),
        TEST(options_are_checked),
        TEST(malformed_messages_are_refused_with_their_msgid),
        TEST(a_token_is_shown_where_one_is_wanted),
        TEST(nested_10000_deep),
        TEST(every_truncation_is_refused),
        TEST(damaged_messages_never_read_too_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

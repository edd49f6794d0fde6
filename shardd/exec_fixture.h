/* For tests of commands: a shard in memory, commands as text, answers as text.
 *
 * A command is words with spaces between: a bare word or "quoted" (\xNN \n \" \\) is a bin, :12 an integer, #1.5 a
 * float, nil is nil. The word $name stands for the fixture's value of that name. An answer is told as: OK → +OK,
 * integers as they are, floats as #1.5, bin "quoted", nil, [elements], {key value}, an error as -CODE text. */
#pragma once

#include "libcommon/error.h"
#include "shardd/collection.h"
#include "shardd/exec.h"
#include "shardd/kv_memory.h"
#include "shardd/zset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct kv *kv;
    struct exec exec;
    uint64_t now_us;
    uint64_t chance; /* of the last command */
    struct buffer body;
    struct buffer answer; /* as MessagePack or text */
    struct buffer told;   /* the answer as text, terminated */
    int err;              /* of the last command */
};

#define FIXTURE_FUNCTION static __attribute__((unused))

FIXTURE_FUNCTION void fixture_init_shard(struct fixture *fixture, uint32_t shard, uint32_t shard_count) {
    *fixture = (struct fixture){.now_us = 1700000000000000};
    assert_int_equal(kv_new_memory(&fixture->kv), SK_OK);
    exec_init(&fixture->exec, fixture->kv, shard, shard_count);
}

FIXTURE_FUNCTION void fixture_init(struct fixture *fixture) { fixture_init_shard(fixture, 0, 1); }

FIXTURE_FUNCTION void fixture_deinit(struct fixture *fixture) {
    exec_deinit(&fixture->exec);
    kv_free_memory(fixture->kv);
    buffer_deinit(&fixture->body);
    buffer_deinit(&fixture->answer);
    buffer_deinit(&fixture->told);
}

/* Reading commands */

FIXTURE_FUNCTION uint8_t fixture_unescape(const char **at) {
    if (**at != '\\') return (uint8_t) * (*at)++;
    char kind = (*at)[1];
    if (kind == 'x') {
        char digits[3] = {(*at)[2], (*at)[3], '\0'};
        *at += 4;
        return (uint8_t)strtoul(digits, NULL, 16);
    }
    *at += 2;
    return (uint8_t)(kind == 'n' ? '\n' : kind);
}

FIXTURE_FUNCTION struct slice fixture_word(const char **at, char *room, size_t room_size, bool *quoted) {
    while (**at == ' ') (*at)++;
    *quoted = **at == '"';
    if (*quoted) (*at)++;
    size_t size = 0;
    while (**at != '\0' && **at != (*quoted ? '"' : ' ')) {
        assert_true(size + 1 < room_size);
        room[size++] = *quoted ? (char)fixture_unescape(at) : *(*at)++;
    }
    if (*quoted) (*at)++;
    room[size] = '\0';
    return slice_of(room, size);
}

FIXTURE_FUNCTION void fixture_encode_word(struct buffer *body, struct slice word, bool quoted) {
    const char *text = (const char *)word.data;
    if (!quoted && text[0] == ':') {
        mp_write_int(body, strtoll(text + 1, NULL, 10));
    } else if (!quoted && text[0] == '#') {
        mp_write_float(body, strtod(text + 1, NULL));
    } else if (!quoted && strcmp(text, "nil") == 0) {
        mp_write_nil(body);
    } else {
        mp_write_bin(body, word);
    }
}

FIXTURE_FUNCTION void fixture_encode(struct buffer *body, const char *line) {
    char room[4096];
    bool quoted;
    mp_write_str(body, fixture_word(&line, room, sizeof room, &quoted));
    struct buffer params = {0};
    uint32_t count = 0;
    while (line[strspn(line, " ")] != '\0') {
        struct slice word = fixture_word(&line, room, sizeof room, &quoted);
        fixture_encode_word(&params, word, quoted);
        count++;
    }
    mp_write_array(body, count);
    mp_write_raw(body, buffer_slice(&params));
    buffer_deinit(&params);
}

/* Telling answers */

FIXTURE_FUNCTION __attribute__((format(printf, 2, 3))) void fixture_tellf(struct buffer *told, const char *format,
                                                                          ...) {
    char text[256];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    buffer_append(told, text, (size_t)size);
}

FIXTURE_FUNCTION void fixture_tell_quoted(struct buffer *told, struct slice bytes) {
    if (bytes.size > 65536) {
        fixture_tellf(told, "\"(%zu bytes)\"", bytes.size);
        return;
    }
    fixture_tellf(told, "\"");
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        fixture_tellf(told, byte >= ' ' && byte <= '~' ? "%c" : "\\x%02x", byte);
    }
    fixture_tellf(told, "\"");
}

FIXTURE_FUNCTION void fixture_tell(struct buffer *told, struct mp_reader *reader) {
    struct mp_value value;
    assert_int_equal(mp_read(reader, &value), SK_OK);
    switch (value.type) {
    case MP_NIL:
        fixture_tellf(told, "nil");
        break;
    case MP_UINT:
        fixture_tellf(told, "%llu", (unsigned long long)value.uint);
        break;
    case MP_INT:
        fixture_tellf(told, "%lld", (long long)value.sint);
        break;
    case MP_FLOAT:
        fixture_tellf(told, "#%.17g", value.real);
        break;
    case MP_STR:
        fixture_tellf(told, "+%.*s", (int)value.bytes.size, (const char *)value.bytes.data);
        break;
    case MP_BIN:
        fixture_tell_quoted(told, value.bytes);
        break;
    case MP_ARRAY:
    case MP_MAP:
        fixture_tellf(told, value.type == MP_MAP ? "{" : "[");
        for (uint32_t i = 0; i < value.count * (value.type == MP_MAP ? 2 : 1); i++) {
            if (i > 0) fixture_tellf(told, " ");
            fixture_tell(told, reader);
        }
        fixture_tellf(told, value.type == MP_MAP ? "}" : "]");
        break;
    default:
        fail_msg("an answer of type %d", value.type);
    }
}

FIXTURE_FUNCTION const char *fixture_tell_answer(struct fixture *fixture, int err) {
    fixture->err = err;
    buffer_clear(&fixture->told, 65536);
    if (err == SK_OK) {
        struct mp_reader reader = mp_reader_of(buffer_slice(&fixture->answer));
        fixture_tell(&fixture->told, &reader);
        assert_int_equal(mp_left(&reader), 0);
    } else {
        assert_true(err > 0);
        struct slice text = buffer_slice(&fixture->answer);
        fixture_tellf(&fixture->told, "-%s %.*s", error_name(err), (int)text.size, (const char *)text.data);
    }
    buffer_append(&fixture->told, "", 1);
    return (const char *)fixture->told.data;
}

/* Running */

FIXTURE_FUNCTION struct exec_moment fixture_moment(struct fixture *fixture) {
    return (struct exec_moment){.time_us = fixture->now_us, .chance = ++fixture->chance};
}

/* Checks and runs the body, as the lane does. A read must leave the records as they were; that is asserted in fixture_audit. */
FIXTURE_FUNCTION const char *fixture_run_body(struct fixture *fixture, bool atomic, bool writes) {
    buffer_clear(&fixture->answer, 65536);
    if (!atomic && !writes) {
        struct exec_moment moment = fixture_moment(fixture);
        int err = exec_read(&fixture->exec, buffer_slice(&fixture->body), &moment, &fixture->answer);
        return fixture_tell_answer(fixture, err);
    }
    int err = exec_check(&fixture->exec, buffer_slice(&fixture->body), atomic, writes, &fixture->answer);
    if (err == SK_OK) {
        assert_int_equal(fixture->answer.size, 0);
        struct exec_moment moment = fixture_moment(fixture);
        if (!exec_draws(&fixture->exec)) moment.chance = 0;
        err = exec_run(&fixture->exec, buffer_slice(&fixture->body), atomic, &moment, &fixture->answer);
    }
    return fixture_tell_answer(fixture, err);
}

FIXTURE_FUNCTION bool fixture_is_write(const struct buffer *body) {
    struct mp_reader reader = mp_reader_of(buffer_slice(body));
    struct slice method;
    assert_int_equal(mp_read_str(&reader, &method), SK_OK);
    const struct command *command = command_find(method);
    return command != NULL && (command->flags & COMMAND_WRITE);
}

FIXTURE_FUNCTION const char *fixture_run(struct fixture *fixture, const char *line) {
    buffer_clear(&fixture->body, 65536);
    fixture_encode(&fixture->body, line);
    return fixture_run_body(fixture, false, fixture_is_write(&fixture->body));
}

FIXTURE_FUNCTION const char *fixture_run_atomic(struct fixture *fixture, const char *const *lines, size_t count) {
    buffer_clear(&fixture->body, 65536);
    mp_write_text(&fixture->body, "batch");
    mp_write_array(&fixture->body, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        mp_write_array(&fixture->body, 2);
        fixture_encode(&fixture->body, lines[i]);
    }
    return fixture_run_body(fixture, true, true);
}

#define fixture_expect(fixture, line, told) assert_string_equal(fixture_run(fixture, line), told)

/* Records of the elements under an id. */
FIXTURE_FUNCTION uint64_t fixture_elements(struct fixture *fixture, uint64_t id) {
    uint8_t room[ELEMENT_PREFIX_BYTES];
    struct kv_iter *iter;
    struct slice key, value;
    uint64_t count = 0;
    assert_int_equal(kv_iter_open(fixture->kv, element_prefix(id, 0, room), &iter), SK_OK);
    while (kv_iter_next(iter, &key, &value) == SK_OK && element_key_is_of(key, id)) count++;
    kv_iter_close(iter);
    return id == 0 ? 0 : count;
}

/* The head of a hash, set or sorted set says what its elements are. */
FIXTURE_FUNCTION void fixture_audit_named(struct fixture *fixture, const struct record *record) {
    struct collection collection;
    struct element_walk walk;
    struct slice name, value;
    uint64_t count = 0, bytes = 0, position;
    assert_int_equal(collection_read(record->type, record->payload, &collection), SK_OK);
    assert_int_equal(element_walk_open(&fixture->exec, collection.id, 0, &walk), SK_OK);
    while (element_walk_next(&walk, &position, &name, &value) == SK_OK) {
        count++;
        bytes += name.size + value.size;
    }
    element_walk_close(&walk);
    assert_true(count > 0 && count == collection.count && bytes == collection.bytes);
}

/* The order of a sorted set has its members, each where its score says, and ranks that say so. */
FIXTURE_FUNCTION void fixture_audit_order(struct fixture *fixture, const struct record *record) {
    struct call call = {.exec = &fixture->exec};
    struct zset zset;
    struct zset_range all;
    struct zset_walk walk;
    struct slice name;
    struct element element;
    double last = -INFINITY, score, stored;
    uint64_t count = 0, rank = 0;
    assert_int_equal(collection_read(record->type, record->payload, &zset.collection), SK_OK);
    assert_int_equal(zset_open(&call, &zset), SK_OK);
    zset_range_all(&all);
    assert_int_equal(zset_walk_open(&call, &zset, &all, false, 0, &walk), SK_OK);
    while (zset_walk_next(&walk, &name, &score) == SK_OK) {
        assert_int_equal(zset_find_member(&call, &zset.collection, name, &element, &stored), SK_OK);
        assert_true(element.found && stored == score && score >= last);
        if (count % 100 == 0) assert_int_equal(zset_rank(&zset, &element, &rank), SK_OK);
        if (count % 100 == 0) assert_true(rank == count);
        last = score;
        count++;
    }
    zset_walk_close(&walk);
    assert_true(count == zset.collection.count);
}

/* Counts everything anew: counters and index agree with the data records, and every element is of a collection. */
FIXTURE_FUNCTION void fixture_audit(struct fixture *fixture) {
    struct exec_counters counted = {0};
    uint64_t index_entries = 0, elements = 0, owned = 0;
    struct kv_iter *iter;
    assert_int_equal(kv_iter_open(fixture->kv, slice_of("", 1), &iter), SK_OK);
    struct slice key, value;
    int err;
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK) {
        if (key.data[0] == RECORD_ELEMENT) {
            elements++;
            continue;
        }
        if (key.data[0] == RECORD_GARBAGE) {
            counted.garbage++;
            continue;
        }
        if (key.data[0] >= RECORD_EXPIRY) {
            struct slice data_value;
            struct record record;
            struct slice record_key = slice_of(key.data + 9, key.size - 9);
            assert_int_equal(key.data[0], RECORD_EXPIRY);
            assert_int_equal(value.size, 0);
            assert_int_equal(kv_get(fixture->kv, record_key, &data_value), SK_OK);
            assert_int_equal(keyspace_read_record(record_key, data_value, &record), SK_OK);
            assert_true(record.deadline_us == keyspace_position(slice_of(key.data + 1, 8)));
            index_entries++;
            continue;
        }
        struct record record;
        assert_int_equal(keyspace_read_record(key, value, &record), SK_OK);
        assert_true(keyspace_position(key) >> 48 == slot_of_key(record.key));
        counted.keys++;
        counted.expires += record.deadline_us != 0;
        counted.key_bytes += record.key.size;
        counted.value_bytes += keyspace_value_bytes(&record);
        owned += fixture_elements(fixture, keyspace_elements_id(&record));
        bool named = record.type == OBJECT_HASH || record.type == OBJECT_SET || record.type == OBJECT_ZSET;
        if (named) fixture_audit_named(fixture, &record);
        if (record.type == OBJECT_ZSET) fixture_audit_order(fixture, &record);
    }
    assert_int_equal(err, SK_NOT_FOUND);
    kv_iter_close(iter);
    assert_int_equal(index_entries, counted.expires);
    if (counted.garbage == 0) assert_int_equal(elements, owned);
    counted.changes = fixture->exec.counters.changes; /* which only grows */
    assert_memory_equal(&counted, &fixture->exec.counters, sizeof counted);
}

/* A table of steps. A command "@250" moves the time by so many milliseconds. */
struct fixture_step {
    const char *line, *told;
};

FIXTURE_FUNCTION void fixture_run_steps(struct fixture *fixture, const struct fixture_step *steps, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (steps[i].line[0] == '@') {
            fixture->now_us += 1000 * strtoull(steps[i].line + 1, NULL, 10);
            continue;
        }
        const char *told = fixture_run(fixture, steps[i].line);
        if (strcmp(told, steps[i].told) != 0) {
            fail_msg("step %zu, %s: %s instead of %s", i, steps[i].line, told, steps[i].told);
        }
    }
    fixture_audit(fixture);
}

/* One table in a shard of its own. */
#define FIXTURE_TABLE(...)                                                                                        \
    do {                                                                                                          \
        static const struct fixture_step table_steps[] = {__VA_ARGS__};                                           \
        struct fixture table_fixture;                                                                             \
        fixture_init(&table_fixture);                                                                             \
        fixture_run_steps(&table_fixture, table_steps, sizeof table_steps / sizeof table_steps[0]);               \
        fixture_deinit(&table_fixture);                                                                           \
    } while (0)

/* A record of a type that no command of today makes. */
FIXTURE_FUNCTION void fixture_put_other_type(struct fixture *fixture, const char *key, uint64_t deadline_us) {
    struct object object;
    int err = keyspace_find_for_write(&fixture->exec, slice_of_text(key), fixture->now_us, &object);
    assert_int_equal(err, SK_OK);
    static const uint8_t head[KEYSPACE_HEAD_BYTES] = {0}; /* id 0: of no elements */
    err = keyspace_store(&fixture->exec, &object, 200, slice_of(head, sizeof head), deadline_us);
    assert_int_equal(err, SK_OK);
}

#include "gateway/message.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/secret.h"
#include "libcommon/wait_time.h"
#include "libcommon/wire.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ERROR_TEXT_BYTES 192u
#define NAME_SHOWN_BYTES 40

/* A key of a split command with the words that belong to it (MSET: its value). */
struct key_group {
    struct slice span;
    uint32_t part;
};

struct message_scratch {
    struct key_group groups[MESSAGE_COMMANDS_MAX];
    /* of each shard: its part in the command at hand, valid where the stamp is this command's */
    uint32_t stamps[SHARD_COUNT_MAX];
    uint32_t parts[SHARD_COUNT_MAX];
    uint32_t stamp;
};

/* One parse: what every step needs. */
struct parser {
    struct message *message;
    struct arena *arena;
    struct message_scratch *scratch;
    uint32_t shard_count;
    uint32_t atomic_slot; /* of the first key seen; SLOT_COUNT = none yet */
    bool atomic;          /* the commands at hand are only checked: all of them are one part */
    bool out_of_memory;
    bool wrote; /* a command of the message before this one writes */
};

int message_scratch_new(struct message_scratch **scratch) {
    *scratch = calloc(1, sizeof **scratch);
    return *scratch == NULL ? SK_ENOMEM : SK_OK;
}

void message_scratch_free(struct message_scratch *scratch) { free(scratch); }

__attribute__((format(printf, 2, 3))) static const char *say(struct parser *parser, const char *format, ...) {
    char *text = arena_alloc(parser->arena, ERROR_TEXT_BYTES);
    if (text == NULL) return "out of memory";
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, ERROR_TEXT_BYTES, format, arguments);
    va_end(arguments);
    return text;
}

static int refuse(struct parser *parser, int err, const char *text) {
    parser->message->error = text;
    return err;
}

/* `name` as it may stand in an error text: cut, and without bytes that are not printable. */
static const char *shown(struct slice name, char room[NAME_SHOWN_BYTES + 1]) {
    size_t size = name.size < NAME_SHOWN_BYTES ? name.size : NAME_SHOWN_BYTES;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = name.data[i];
        room[i] = byte < 0x20 || byte > 0x7e ? '?' : (char)byte;
    }
    room[size] = 0;
    return room;
}

/* A command's name as Redis's texts cite it. */
static const char *in_lower_case(const char *name, char room[NAME_SHOWN_BYTES + 1]) {
    size_t size = 0;
    for (; name[size] != '\0' && size < NAME_SHOWN_BYTES; size++)
        room[size] = (char)tolower((unsigned char)name[size]);
    room[size] = '\0';
    return room;
}

static bool is_text(struct slice bytes, const char *text) { return slice_equal(bytes, slice_of_text(text)); }

/* --- options ------------------------------------------------------------------------------------------------- */

static int parse_id(struct parser *parser, struct mp_reader *reader) {
    struct slice id;
    if (mp_read_bytes(reader, &id) != SK_OK) {
        return refuse(parser, SK_BADREQUEST, "option id is not a bin or str");
    }
    if (id.size == 0 || id.size > ID_BYTES_MAX) {
        return refuse(parser, SK_BADREQUEST, "option id is not of 1 to 64 bytes");
    }
    parser->message->id = id;
    return SK_OK;
}

static int parse_timeout(struct parser *parser, struct mp_reader *reader) {
    uint64_t timeout_ms;
    if (mp_read_uint(reader, &timeout_ms) != SK_OK || timeout_ms == 0 || timeout_ms > TIMEOUT_MS_MAX) {
        return refuse(parser, SK_BADREQUEST, "option timeout_ms is not an integer of 1 to 60000");
    }
    parser->message->timeout_ms = (uint32_t)timeout_ms;
    return SK_OK;
}

static int parse_read(struct parser *parser, struct mp_reader *reader) {
    struct slice text;
    bool known = mp_read_bytes(reader, &text) == SK_OK && (is_text(text, "leader") || is_text(text, "follower"));
    if (!known) return refuse(parser, SK_BADREQUEST, "option read is not \"leader\" or \"follower\"");
    parser->message->follower_reads = is_text(text, "follower");
    return SK_OK;
}

static int parse_atomic(struct parser *parser, struct mp_reader *reader) {
    bool atomic;
    if (mp_read_bool(reader, &atomic) != SK_OK) {
        return refuse(parser, SK_BADREQUEST, "option atomic is not true or false");
    }
    if (!parser->message->batch) return refuse(parser, SK_BADREQUEST, "option atomic is for batch only");
    parser->message->atomic = atomic;
    return SK_OK;
}

/* What it is was judged by check_token; without tokens at the gateway clients may show theirs all the same. */
static int parse_token(struct parser *parser, struct mp_reader *reader) {
    struct slice token;
    if (mp_read_bytes(reader, &token) == SK_OK) return SK_OK;
    return refuse(parser, SK_BADREQUEST, "option token is not a bin or str");
}

/* Looks for the token and for nothing else; if there are several, the first counts. */
static int check_token(struct parser *parser, const struct tokens *tokens, struct slice options) {
    struct mp_reader reader = mp_reader_of(options);
    uint32_t count = 0;
    if (options.size > 0 && mp_read_map(&reader, &count) != SK_OK) count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name, token;
        if (mp_read_bytes(&reader, &name) != SK_OK) break;
        if (is_text(name, "token")) {
            bool good = mp_read_bytes(&reader, &token) == SK_OK && tokens_match(tokens, token);
            return good ? SK_OK : refuse(parser, SK_NOAUTH, "the token is wrong");
        }
        if (mp_skip(&reader, NULL) != SK_OK) break;
    }
    return refuse(parser, SK_NOAUTH, "a token is missing");
}

static int parse_options(struct parser *parser, struct mp_reader *reader) {
    uint32_t count;
    if (mp_read_map(reader, &count) != SK_OK) {
        return refuse(parser, SK_BADREQUEST, "the fifth element of the request is not a map of options");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        if (mp_read_bytes(reader, &name) != SK_OK) {
            return refuse(parser, SK_BADREQUEST, "the name of an option is not a str");
        }
        int err;
        if (is_text(name, "id")) {
            err = parse_id(parser, reader);
        } else if (is_text(name, "timeout_ms")) {
            err = parse_timeout(parser, reader);
        } else if (is_text(name, "read")) {
            err = parse_read(parser, reader);
        } else if (is_text(name, "atomic")) {
            err = parse_atomic(parser, reader);
        } else if (is_text(name, "token")) {
            err = parse_token(parser, reader);
        } else {
            char room[NAME_SHOWN_BYTES + 1];
            return refuse(parser, SK_BADREQUEST, say(parser, "unknown option '%s'", shown(name, room)));
        }
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* --- one command --------------------------------------------------------------------------------------------- */

static void sub_refuse(struct sub *sub, int err, const char *text) {
    sub->answered = true;
    sub->err = err;
    sub->result = slice_of_text(text);
    sub->part_count = sub->parts_left = 0;
}

static struct part *add_parts(struct parser *parser, struct sub *sub, uint32_t count) {
    struct part *parts = arena_alloc(parser->arena, count * sizeof *parts);
    if (parts == NULL) {
        parser->out_of_memory = true;
        return NULL;
    }
    memset(parts, 0, count * sizeof *parts);
    uint32_t command = (uint32_t)(sub - parser->message->subs);
    bool writes = (sub->command->flags & COMMAND_WRITE) != 0;
    uint8_t flags = writes ? REQUEST_WRITE : parser->wrote ? REQUEST_AFTER : 0;
    parser->wrote = parser->wrote || writes;
    for (uint32_t i = 0; i < count; i++) {
        parts[i].command = command;
        parts[i].flags = flags;
    }
    sub->parts = parts;
    sub->part_count = sub->parts_left = count;
    parser->message->part_count += count;
    return parts;
}

/* The header of an array of `count`; returns its bytes. */
static size_t write_array_header(uint8_t *room, uint32_t count) {
    if (count < 16) {
        room[0] = (uint8_t)(0x90u | count);
        return 1;
    }
    if (count <= UINT16_MAX) {
        room[0] = 0xdc;
        room[1] = (uint8_t)(count >> 8);
        room[2] = (uint8_t)count;
        return 3;
    }
    room[0] = 0xdd;
    for (uint32_t i = 0; i < 4; i++) room[1 + i] = (uint8_t)(count >> (24 - 8 * i));
    return 5;
}

/* Gives each shard that the keys lie in a part and builds its body: the method, and the words of its keys in their
 * order. `groups` say the shard in `part` on entry. */
static void split(struct parser *parser, struct sub *sub, struct slice method, uint32_t first_shard) {
    struct message_scratch *scratch = parser->scratch;
    uint32_t step = (uint32_t)sub->command->key_step;
    if (++scratch->stamp == 0) { /* wrapped: old stamps would look new */
        memset(scratch->stamps, 0, sizeof scratch->stamps);
        scratch->stamp = 1;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < sub->key_count; i++) {
        uint32_t shard = scratch->groups[i].part;
        if (scratch->stamps[shard] != scratch->stamp) {
            scratch->stamps[shard] = scratch->stamp;
            scratch->parts[shard] = count++;
        }
    }
    struct part *parts = add_parts(parser, sub, count);
    if (parts == NULL) return;
    if (count == 1) {
        parts[0].shard = first_shard;
        parts[0].body = slice_of(method.data, (size_t)(sub->params.data + sub->params.size - method.data));
        return;
    }

    uint32_t *key_parts = arena_alloc(parser->arena, sub->key_count * sizeof *key_parts);
    uint32_t *key_counts = arena_alloc(parser->arena, count * sizeof *key_counts);
    if (key_parts == NULL || key_counts == NULL) {
        parser->out_of_memory = true;
        return;
    }
    memset(key_counts, 0, count * sizeof *key_counts);
    for (uint32_t i = 0; i < sub->key_count; i++) {
        struct key_group *group = &scratch->groups[i];
        uint32_t shard = group->part;
        group->part = scratch->parts[shard];
        parts[group->part].shard = shard;
        parts[group->part].body.size += group->span.size;
        key_parts[i] = group->part;
        key_counts[group->part]++;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *room = arena_alloc(parser->arena, method.size + 5 + parts[i].body.size);
        if (room == NULL) {
            parser->out_of_memory = true;
            return;
        }
        memcpy(room, method.data, method.size);
        size_t header = write_array_header(room + method.size, key_counts[i] * step);
        parts[i].body = slice_of(room, method.size + header);
    }
    for (uint32_t i = 0; i < sub->key_count; i++) {
        const struct key_group *group = &scratch->groups[i];
        struct slice *body = &parts[group->part].body;
        memcpy((uint8_t *)(uintptr_t)body->data + body->size, group->span.data, group->span.size);
        body->size += group->span.size;
    }
    sub->key_parts = key_parts;
}

/* One part for every shard, with the client's bytes. */
static void to_all_shards(struct parser *parser, struct sub *sub, struct slice body) {
    if (parser->message->part_count + parser->shard_count > MESSAGE_PARTS_MAX) {
        sub_refuse(sub, SK_TOOLARGE, "too many commands to all shards in one message");
        return;
    }
    struct part *parts = add_parts(parser, sub, parser->shard_count);
    for (uint32_t i = 0; parts != NULL && i < parser->shard_count; i++) {
        parts[i].shard = i;
        parts[i].body = body;
    }
}

/* A cursor is a uint64 with the slot in its top 16 bits, given as an integer or as decimal text. */
static bool read_cursor(struct mp_reader *reader, uint64_t *cursor) {
    struct mp_value value;
    if (mp_read(reader, &value) != SK_OK) return false;
    if (value.type == MP_UINT) {
        *cursor = value.uint;
        return true;
    }
    if ((value.type != MP_STR && value.type != MP_BIN) || value.bytes.size == 0 || value.bytes.size > 20)
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < value.bytes.size; i++) {
        uint8_t byte = value.bytes.data[i];
        if (byte < '0' || byte > '9') return false;
        uint64_t digit = (uint64_t)(byte - '0');
        if (number > (UINT64_MAX - digit) / 10) return false;
        number = number * 10 + digit;
    }
    *cursor = number;
    return true;
}

static void by_cursor(struct parser *parser, struct sub *sub, struct slice body) {
    struct mp_reader reader = mp_reader_of(sub->params);
    uint32_t words;
    uint64_t cursor;
    bool valid = mp_read_array(&reader, &words) == SK_OK && read_cursor(&reader, &cursor);
    if (!valid || cursor >> 48 >= SLOT_COUNT) {
        sub_refuse(sub, SK_BADREQUEST, "invalid cursor");
        return;
    }
    struct part *part = add_parts(parser, sub, 1);
    if (part == NULL) return;
    part->shard = slot_shard((uint32_t)(cursor >> 48), parser->shard_count);
    part->body = body;
}

/* What the word says that tells how many keys there are; 0: nothing that is valid. */
static size_t numkeys_of(const struct mp_value *value) {
    if (value->type == MP_UINT) return value->uint <= MESSAGE_COMMANDS_MAX ? (size_t)value->uint : 0;
    return value->type == MP_STR || value->type == MP_BIN ? command_read_numkeys(value->bytes) : 0;
}

/* What walking over a command's arguments finds. */
struct walk {
    uint32_t slot; /* of the first key; SLOT_COUNT = no keys */
    bool one_slot; /* the other keys share it */
    const char *error;
};

/* Every argument once: kinds and sizes; keys to slots, and into the scratch groups for a split command. SK_OK,
 * SK_BADREQUEST or SK_TOOLARGE. */
static int walk_arguments(struct parser *parser, struct sub *sub, struct mp_reader reader, uint32_t count,
                          struct walk *walk) {
    const struct command *command = sub->command;
    bool splits = (command->flags & COMMAND_SPLIT) != 0;
    *walk = (struct walk){.slot = SLOT_COUNT, .one_slot = true};
    struct key_group *open = NULL;
    struct command_keys keys = command_keys(command, (size_t)count + 1, 0);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *start = reader.at;
        struct mp_value value;
        int err = mp_read(&reader, &value);
        sk_assert(err == SK_OK); /* the whole message was skipped over, and so checked */
        if (value.type == MP_ARRAY || value.type == MP_MAP || value.type == MP_EXT || value.type == MP_BOOL) {
            walk->error = "an argument is not a string, number or nil";
            return SK_BADREQUEST;
        }
        bool bytes = value.type == MP_STR || value.type == MP_BIN;
        if (bytes && value.bytes.size > VALUE_BYTES_MAX) {
            walk->error = "a value is longer than 16 MiB";
            return SK_TOOLARGE;
        }
        size_t word = (size_t)i + 1;
        if (word == command_numkeys_word(command))
            keys = command_keys(command, (size_t)count + 1, numkeys_of(&value));
        if (!command_keys_have(&keys, word)) continue;
        if (!bytes) {
            walk->error = "a key is not a str or bin";
            return SK_BADREQUEST;
        }
        if (value.bytes.size > KEY_BYTES_MAX) {
            walk->error = "a key is longer than 64 KiB";
            return SK_TOOLARGE;
        }
        if (sub->key_count == MESSAGE_COMMANDS_MAX) {
            walk->error = "more than 10000 keys";
            return SK_TOOLARGE;
        }
        uint32_t slot = slot_of_key(value.bytes);
        if (walk->slot == SLOT_COUNT) walk->slot = slot;
        if (walk->slot != slot) walk->one_slot = false;
        if (splits) {
            if (open != NULL) open->span.size = (size_t)(start - open->span.data);
            open = &parser->scratch->groups[sub->key_count];
            open->span.data = start;
            open->part = slot_shard(slot, parser->shard_count);
        }
        sub->key_count++;
    }
    if (open != NULL) open->span.size = (size_t)(reader.at - open->span.data);
    return SK_OK;
}

/* Of keys; without any (commands that are refused by their executors) it does not matter. */
static uint32_t shard_of_slot(const struct parser *parser, uint32_t slot) {
    return slot == SLOT_COUNT ? 0 : slot_shard(slot, parser->shard_count);
}

/* A command of an atomic batch or of EXEC: only checked, since they go as they came. */
static int check_atomic(struct parser *parser, struct sub *sub, const struct walk *walk) {
    const unsigned others = COMMAND_GATEWAY | COMMAND_ALL_SHARDS | COMMAND_CURSOR | COMMAND_SESSION;
    bool refuses_itself = (sub->command->flags & COMMAND_NUMKEYS) != 0; /* where it finds no keys */
    if ((sub->command->flags & others) != 0 || (walk->slot == SLOT_COUNT && !refuses_itself)) {
        sub_refuse(sub, SK_BADREQUEST, say(parser, "%s is not for an atomic batch", sub->command->name));
        return SK_BADREQUEST;
    }
    if (parser->atomic_slot == SLOT_COUNT) parser->atomic_slot = walk->slot;
    if (!walk->one_slot || (walk->slot != SLOT_COUNT && walk->slot != parser->atomic_slot)) {
        sub_refuse(sub, SK_CROSSSLOT, "the keys of an atomic batch do not share a slot");
        return SK_CROSSSLOT;
    }
    return SK_OK;
}

/* How long a blocking command waits; 0: its word says no time, which the shard refuses. */
static uint64_t wait_ms_of(const struct sub *sub, uint32_t count) {
    struct mp_reader reader = mp_reader_of(sub->params);
    struct mp_value value;
    (void)mp_read(&reader, &value); /* the array's head */
    for (size_t word = 0; word < command_wait_word(sub->command, (size_t)count + 1); word++) {
        if (mp_read(&reader, &value) != SK_OK) return 0;
    }
    char room[32];
    struct slice text = slice_of(NULL, 0);
    if (value.type == MP_STR || value.type == MP_BIN) text = value.bytes;
    if (value.type == MP_UINT) text = slice_of(room, (size_t)snprintf(room, sizeof room, "%" PRIu64, value.uint));
    if (value.type == MP_FLOAT) text = slice_of(room, (size_t)snprintf(room, sizeof room, "%.17g", value.real));
    uint64_t wait_ms;
    const char *why;
    return wait_time_read(text, &wait_ms, &why) == SK_OK ? wait_ms : 0;
}

static void parse_exec(struct parser *parser, struct sub *sub, struct mp_reader reader, uint32_t count,
                       struct slice method);

/* A command that is not valid is answered in its sub; the caller looks there. */
static void parse_command(struct parser *parser, struct sub *sub, struct slice name, struct slice method) {
    struct mp_reader reader = mp_reader_of(sub->params);
    uint32_t count;
    char room[NAME_SHOWN_BYTES + 1];
    if (mp_read_array(&reader, &count) != SK_OK) {
        sub_refuse(sub, SK_BADREQUEST, "params is not an array");
        return;
    }
    sub->command = command_find(name);
    if (sub->command == NULL) {
        sub_refuse(sub, SK_BADREQUEST, say(parser, "unknown command '%s'", shown(name, room)));
        return;
    }
    const struct command *command = sub->command;
    if (command->id == COMMAND_ID_EXEC && !parser->atomic) {
        parse_exec(parser, sub, reader, count, method);
        return;
    }
    if (!command_arity_ok(command, (size_t)count + 1) || !command_groups_whole(command, (size_t)count + 1)) {
        sub_refuse(sub, SK_BADREQUEST,
                   say(parser, "wrong number of arguments for '%s' command", in_lower_case(command->name, room)));
        return;
    }
    struct walk walk;
    int err = walk_arguments(parser, sub, reader, count, &walk);
    if (err != SK_OK) {
        sub_refuse(sub, err, walk.error);
        return;
    }
    parser->message->key_count += sub->key_count;
    if (parser->atomic) {
        (void)check_atomic(parser, sub, &walk);
        return;
    }
    if ((command->flags & COMMAND_SESSION) != 0) {
        sub_refuse(sub, SK_BADREQUEST, say(parser, "%s is for connections of the Redis protocol", command->name));
        return;
    }
    if ((command->flags & COMMAND_GATEWAY) != 0) return;

    struct slice body = slice_of(method.data, (size_t)(sub->params.data + sub->params.size - method.data));
    if ((command->flags & COMMAND_ALL_SHARDS) != 0) {
        to_all_shards(parser, sub, body);
    } else if ((command->flags & COMMAND_CURSOR) != 0) {
        by_cursor(parser, sub, body);
    } else if ((command->flags & COMMAND_SPLIT) != 0) {
        split(parser, sub, method, slot_shard(walk.slot, parser->shard_count));
    } else if (!walk.one_slot) {
        sub_refuse(sub, SK_CROSSSLOT, error_text(SK_CROSSSLOT));
    } else {
        struct part *part = add_parts(parser, sub, 1);
        if (part == NULL) return;
        part->shard = shard_of_slot(parser, walk.slot);
        part->body = body;
        bool waits = (command->flags & COMMAND_BLOCKING) != 0 && !parser->message->batch;
        parser->message->wait_ms = waits ? wait_ms_of(sub, count) : 0;
        part->waits = parser->message->wait_ms != 0;
    }
}

/* --- EXEC ---------------------------------------------------------------------------------------------------- */

/* The keys whose versions it wants: [[key, version], …]. Tells what is wrong with them; NULL: nothing. */
static const char *check_watched(struct parser *parser, struct sub *sub, struct mp_reader *reader) {
    uint32_t count, two;
    if (mp_read_array(reader, &count) != SK_OK)
        return "the first argument of EXEC is not an array of [key, version]";
    for (uint32_t i = 0; i < count; i++) {
        struct slice key;
        uint64_t version;
        if (mp_read_array(reader, &two) != SK_OK || two != 2 || mp_read_bytes(reader, &key) != SK_OK ||
            mp_read_uint(reader, &version) != SK_OK) {
            return "the first argument of EXEC is not an array of [key, version]";
        }
        uint32_t slot = slot_of_key(key);
        if (parser->atomic_slot == SLOT_COUNT) parser->atomic_slot = slot;
        if (slot != parser->atomic_slot) {
            sub_refuse(sub, SK_CROSSSLOT, error_text(SK_CROSSSLOT));
            return NULL;
        }
    }
    sub->key_count += count;
    return NULL;
}

/* Its commands, [[method, params], …], as those of an atomic batch. */
static const char *check_commands(struct parser *parser, struct sub *sub, struct mp_reader *reader) {
    static const char malformed[] = "the second argument of EXEC is not an array of [method, params]";
    uint32_t count, two;
    if (mp_read_array(reader, &count) != SK_OK) return malformed;
    for (uint32_t i = 0; i < count && !sub->answered; i++) {
        struct sub inner = {0};
        struct slice name;
        if (mp_read_array(reader, &two) != SK_OK || two != 2) return malformed;
        const uint8_t *method = reader->at;
        if (mp_read_str(reader, &name) != SK_OK) return malformed;
        size_t method_bytes = (size_t)(reader->at - method);
        (void)mp_skip(reader, &inner.params);
        parse_command(parser, &inner, name, slice_of(method, method_bytes));
        if (!inner.answered) continue;
        sub_refuse(
            sub, inner.err,
            say(parser, "command %u: %.*s", i + 1, (int)inner.result.size, (const char *)inner.result.data));
    }
    return NULL;
}

/* EXEC of the contract, [[[key, version], …], [[method, params], …]], is one part with the client's bytes. */
static void parse_exec(struct parser *parser, struct sub *sub, struct mp_reader reader, uint32_t count,
                       struct slice method) {
    static const uint8_t nothing[] = {0x92, 0x90, 0x90};
    bool is_empty = slice_equal(sub->params, slice_of(nothing, sizeof nothing));
    uint32_t outer_slot = parser->atomic_slot;
    if (count != 2) {
        sub_refuse(sub, SK_BADREQUEST, "EXEC takes an array of [key, version] and one of [method, params]");
        return;
    }
    parser->atomic = true;
    parser->atomic_slot = SLOT_COUNT;
    const char *wrong = check_watched(parser, sub, &reader);
    if (wrong == NULL && !sub->answered) wrong = check_commands(parser, sub, &reader);
    uint32_t slot = parser->atomic_slot;
    parser->atomic = false;
    parser->atomic_slot = outer_slot;
    if (wrong != NULL) sub_refuse(sub, SK_BADREQUEST, wrong);
    if (sub->answered) return;
    parser->message->key_count += sub->key_count;
    if (is_empty) {
        sub->answered = true;
        sub->result = slice_of("\x90", 1);
        return;
    }
    struct part *part = add_parts(parser, sub, 1);
    if (part == NULL) return;
    parser->wrote = true;
    part->flags = REQUEST_WRITE | REQUEST_ATOMIC;
    part->shard = shard_of_slot(parser, slot);
    part->body = slice_of(method.data, (size_t)(sub->params.data + sub->params.size - method.data));
}

/* --- batch --------------------------------------------------------------------------------------------------- */

/* The commands of an atomic batch become one part: "batch" and the array as it came. */
static int make_atomic(struct parser *parser, struct slice array) {
    struct message *message = parser->message;
    for (uint32_t i = 0; i < message->sub_count; i++) {
        const struct sub *sub = &message->subs[i];
        if (!sub->answered) continue;
        return refuse(parser, sub->err,
                      say(parser, "command %u of the batch: %.*s", i + 1, (int)sub->result.size,
                          (const char *)sub->result.data));
    }
    static const uint8_t method[] = {0xa5, 'b', 'a', 't', 'c', 'h'};
    struct part *part = arena_alloc(parser->arena, sizeof *part);
    uint8_t *body = arena_alloc(parser->arena, sizeof method + array.size);
    if (part == NULL || body == NULL) return refuse(parser, SK_OVERLOADED, "out of memory");
    memcpy(body, method, sizeof method);
    memcpy(body + sizeof method, array.data, array.size);
    *part = (struct part){
        .body = slice_of(body, sizeof method + array.size),
        .shard = shard_of_slot(parser, parser->atomic_slot),
        .flags = REQUEST_WRITE | REQUEST_ATOMIC,
    };
    message->subs[0] = (struct sub){.params = array, .parts = part, .part_count = 1, .parts_left = 1};
    message->sub_count = 1;
    message->part_count = 1;
    return SK_OK;
}

static int parse_batch(struct parser *parser, struct slice params) {
    struct message *message = parser->message;
    struct mp_reader reader = mp_reader_of(params);
    uint32_t count;
    if (mp_read_array(&reader, &count) != SK_OK) {
        return refuse(parser, SK_BADREQUEST, "the params of batch are not an array of [method, params]");
    }
    if (count > MESSAGE_COMMANDS_MAX) return refuse(parser, SK_TOOLARGE, "more than 10000 commands");
    if (count == 0) return SK_OK;
    message->subs = arena_alloc(parser->arena, count * sizeof *message->subs);
    if (message->subs == NULL) return refuse(parser, SK_OVERLOADED, "out of memory");
    memset(message->subs, 0, count * sizeof *message->subs);
    message->sub_count = count;
    parser->atomic = message->atomic;
    for (uint32_t i = 0; i < count; i++) {
        struct sub *sub = &message->subs[i];
        uint32_t two;
        struct slice name;
        if (mp_read_array(&reader, &two) != SK_OK || two != 2) {
            return refuse(parser, SK_BADREQUEST, "a command of the batch is not [method, params]");
        }
        const uint8_t *method = reader.at;
        if (mp_read_str(&reader, &name) != SK_OK) {
            return refuse(parser, SK_BADREQUEST, "the method of a command of the batch is not a str");
        }
        size_t method_bytes = (size_t)(reader.at - method);
        (void)mp_skip(&reader, &sub->params);
        parse_command(parser, sub, name, slice_of(method, method_bytes));
        if (parser->out_of_memory) return refuse(parser, SK_OVERLOADED, "out of memory");
        /* at once: each key may take a part, which is larger than what it took in the message */
        if (message->key_count > MESSAGE_COMMANDS_MAX) return refuse(parser, SK_TOOLARGE, "more than 10000 keys");
    }
    return message->atomic ? make_atomic(parser, params) : SK_OK;
}

static int parse_single(struct parser *parser, struct slice name, struct slice method, struct slice params) {
    struct message *message = parser->message;
    message->subs = arena_alloc(parser->arena, sizeof *message->subs);
    if (message->subs == NULL) return refuse(parser, SK_OVERLOADED, "out of memory");
    memset(message->subs, 0, sizeof *message->subs);
    message->sub_count = 1;
    message->subs[0].params = params;
    parse_command(parser, &message->subs[0], name, method);
    return parser->out_of_memory ? refuse(parser, SK_OVERLOADED, "out of memory") : SK_OK;
}

/* --- the whole ----------------------------------------------------------------------------------------------- */

/* The message's frame: its elements as spans. */
struct envelope {
    uint32_t count;
    struct slice name, method, params, options;
};

/* msgid is read as early as can be, for the answer to what is wrong after it. */
static int open_envelope(struct parser *parser, struct slice bytes, struct envelope *envelope) {
    struct mp_reader reader = mp_reader_of(bytes);
    struct mp_value kind, id, method;
    if (mp_read_array(&reader, &envelope->count) != SK_OK) {
        return refuse(parser, SK_BADREQUEST, "the message is not a MessagePack array");
    }
    if (envelope->count != 4 && envelope->count != 5) {
        return refuse(parser, SK_BADREQUEST, "the message is not [0, msgid, method, params] or with options");
    }
    if (mp_read(&reader, &kind) != SK_OK || kind.type != MP_UINT || kind.uint != 0) {
        return refuse(parser, SK_BADREQUEST, "the first element of the message is not 0");
    }
    if (mp_read(&reader, &id) != SK_OK || id.type != MP_UINT) {
        return refuse(parser, SK_BADREQUEST, "msgid is not an integer of 0 or more");
    }
    parser->message->msgid = id.uint;
    struct mp_reader rest = reader;
    for (uint32_t i = 2; i < envelope->count; i++) {
        if (mp_skip(&rest, NULL) != SK_OK) {
            return refuse(parser, SK_BADREQUEST, "the message is cut off, nested too deep or not MessagePack");
        }
    }
    if (mp_left(&rest) != 0) return refuse(parser, SK_BADREQUEST, "bytes follow the message");

    envelope->method.data = reader.at;
    (void)mp_read(&reader, &method);
    if (method.type != MP_STR) return refuse(parser, SK_BADREQUEST, "method is not a str");
    envelope->name = method.bytes;
    envelope->method.size = (size_t)(reader.at - envelope->method.data);
    (void)mp_skip(&reader, &envelope->params);
    if (envelope->count == 5) (void)mp_skip(&reader, &envelope->options);
    return SK_OK;
}

static bool is_batch(struct slice name) {
    static const char batch[] = "batch";
    if (name.size != sizeof batch - 1) return false;
    for (size_t i = 0; i < name.size; i++) {
        if ((name.data[i] | 0x20) != batch[i]) return false;
    }
    return true;
}

/* Only if the message writes nothing: a read before a write of the same batch must not see it, one behind it must. */
static void let_followers_read(struct message *message) {
    for (uint32_t i = 0; i < message->sub_count; i++) {
        const struct sub *sub = &message->subs[i];
        for (uint32_t j = 0; j < sub->part_count; j++) {
            if (sub->parts[j].flags == 0) sub->parts[j].flags = REQUEST_STALE;
        }
    }
}

int message_parse(struct message *message, struct slice bytes, uint32_t shard_count, const struct tokens *tokens,
                  struct arena *arena, struct message_scratch *scratch) {
    *message = (struct message){0};
    struct parser parser = {
        .message = message,
        .arena = arena,
        .scratch = scratch,
        .shard_count = shard_count,
        .atomic_slot = SLOT_COUNT,
    };
    struct envelope envelope = {0};
    int err = open_envelope(&parser, bytes, &envelope);
    if (err == SK_OK && tokens != NULL) err = check_token(&parser, tokens, envelope.options);
    if (err != SK_OK) return err;
    message->batch = is_batch(envelope.name);
    if (envelope.count == 5) {
        struct mp_reader reader = mp_reader_of(envelope.options);
        err = parse_options(&parser, &reader);
        if (err != SK_OK) return err;
    }
    err = message->batch ? parse_batch(&parser, envelope.params)
                         : parse_single(&parser, envelope.name, envelope.method, envelope.params);
    if (err == SK_OK && message->follower_reads && !parser.wrote) let_followers_read(message);
    return err;
}

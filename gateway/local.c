#include "gateway/local.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <strings.h>

/* An argument as a bin; integers as they are. */
static void write_argument(struct buffer *result, struct slice encoded) {
    struct mp_reader reader = mp_reader_of(encoded);
    struct slice bytes;
    if (mp_read_bytes(&reader, &bytes) == SK_OK) {
        mp_write_bin(result, bytes);
    } else {
        mp_write_raw(result, encoded);
    }
}

static void write_lower(struct buffer *result, const char *name) {
    char lower[64];
    size_t size = 0;
    for (; name[size] != 0 && size < sizeof lower; size++) {
        char letter = name[size];
        lower[size] = letter >= 'A' && letter <= 'Z' ? (char)(letter + ('a' - 'A')) : letter;
    }
    mp_write_bin(result, slice_of(lower, size));
}

static void write_value(struct buffer *result, const char *text) { mp_write_bin(result, slice_of_text(text)); }

/* As Redis's COMMAND INFO: name, arity, flags, first key, last key, step; and what there is none of: categories of
 * access, tips, specifications of keys, subcommands. */
static void write_command(struct buffer *result, const struct command *command) {
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = {{COMMAND_READ, "readonly"},      {COMMAND_WRITE, "write"},      {COMMAND_GATEWAY, "fast"},
                 {COMMAND_SESSION, "fast"},       {COMMAND_SESSION, "noscript"}, {COMMAND_CHANCE, "random"},
                 {COMMAND_NUMKEYS, "movablekeys"}};
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) count += (command->flags & names[i].flag) != 0;
    mp_write_array(result, 10);
    write_lower(result, command->name);
    mp_write_int(result, command->arity);
    mp_write_array(result, count);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if ((command->flags & names[i].flag) != 0) mp_write_text(result, names[i].name);
    }
    bool moves = (command->flags & COMMAND_NUMKEYS) != 0; /* then only the key that does not is told */
    int also = (command->flags & COMMAND_KEY_ALSO) != 0;
    mp_write_int(result, moves ? also : command->first_key);
    mp_write_int(result, moves ? also : command->last_key);
    mp_write_int(result, moves ? also : command->key_step);
    for (int i = 0; i < 4; i++) mp_write_array(result, 0);
}

static void write_docs(struct buffer *result, const struct command *command) {
    mp_write_map(result, 2);
    write_value(result, "summary");
    write_value(result, command->summary);
    write_value(result, "arity");
    mp_write_int(result, command->arity);
}

static bool word_is(struct slice word, const char *text) {
    return word.size == strlen(text) && strncasecmp((const char *)word.data, text, word.size) == 0;
}

/* The commands that the rest of the arguments name; unknown ones and other types give NULL. */
static const struct command *next_named(struct mp_reader *reader) {
    struct slice span, name;
    if (mp_skip(reader, &span) != SK_OK) return NULL;
    struct mp_reader one = mp_reader_of(span);
    return mp_read_bytes(&one, &name) == SK_OK ? command_find(name) : NULL;
}

static void command_info(struct buffer *result, struct mp_reader *names, uint32_t count) {
    mp_write_array(result, count == 0 ? COMMAND_COUNT : count);
    for (uint32_t i = 0; count == 0 && i < COMMAND_COUNT; i++) write_command(result, &command_table[i]);
    for (uint32_t i = 0; i < count; i++) {
        const struct command *command = next_named(names);
        if (command == NULL) {
            mp_write_nil(result);
        } else {
            write_command(result, command);
        }
    }
}

static void command_docs(struct buffer *result, struct mp_reader *names, uint32_t count) {
    struct mp_reader counting = *names;
    uint32_t known = count == 0 ? COMMAND_COUNT : 0;
    for (uint32_t i = 0; i < count; i++) known += next_named(&counting) != NULL;
    mp_write_map(result, known);
    for (uint32_t i = 0; count == 0 && i < COMMAND_COUNT; i++) {
        write_lower(result, command_table[i].name);
        write_docs(result, &command_table[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct command *command = next_named(names);
        if (command == NULL) continue;
        write_lower(result, command->name);
        write_docs(result, command);
    }
}

/* What the word says that tells how many keys there are; `words` stand behind the name. */
static size_t numkeys_of(const struct command *command, struct mp_reader words) {
    size_t at = command_numkeys_word(command);
    struct slice word = {0}, bytes;
    for (size_t i = 0; i < at; i++) (void)mp_skip(&words, &word);
    struct mp_reader one = mp_reader_of(word);
    return at > 0 && mp_read_bytes(&one, &bytes) == SK_OK ? command_read_numkeys(bytes) : 0;
}

/* COMMAND GETKEYS name argument …: those of the words behind the name that are keys. */
static int command_getkeys(struct buffer *result, struct mp_reader *reader, uint32_t count, const char **text) {
    struct mp_reader words = *reader;
    const struct command *command = count == 0 ? NULL : next_named(&words);
    if (command == NULL || !command_arity_ok(command, count)) {
        *text =
            command == NULL ? "Invalid command specified" : "Invalid number of arguments specified for command";
        return SK_BADREQUEST;
    }
    struct command_keys keys = command_keys(command, count, numkeys_of(command, words));
    uint32_t found = 0;
    for (uint32_t i = 1; i < count; i++) found += command_keys_have(&keys, i);
    if (found == 0) {
        *text = "The command has no key arguments";
        return SK_BADREQUEST;
    }
    mp_write_array(result, found);
    for (uint32_t i = 1; i < count; i++) {
        struct slice word = {0};
        (void)mp_skip(&words, &word);
        if (command_keys_have(&keys, i)) write_argument(result, word);
    }
    return SK_OK;
}

static int answer_command(struct mp_reader *reader, uint32_t count, struct buffer *result, const char **text) {
    struct slice what = slice_of_text("INFO");
    if (count > 0 && mp_read_bytes(reader, &what) != SK_OK) {
        *text = "the subcommand is not a string";
        return SK_BADREQUEST;
    }
    uint32_t names = count == 0 ? 0 : count - 1;
    if (word_is(what, "INFO")) {
        command_info(result, reader, names);
    } else if (word_is(what, "DOCS")) {
        command_docs(result, reader, names);
    } else if (word_is(what, "COUNT") && names == 0) {
        mp_write_uint(result, COMMAND_COUNT);
    } else if (word_is(what, "LIST") && names == 0) {
        mp_write_array(result, COMMAND_COUNT);
        for (uint32_t i = 0; i < COMMAND_COUNT; i++) write_lower(result, command_table[i].name);
    } else if (word_is(what, "GETKEYS")) {
        return command_getkeys(result, reader, names, text);
    } else {
        *text = "COMMAND takes COUNT, LIST, INFO [name ...], DOCS [name ...] or GETKEYS name [argument ...]";
        return SK_BADREQUEST;
    }
    return SK_OK;
}

int local_answer(const struct sub *sub, uint64_t now_us, struct buffer *result, const char **text) {
    struct mp_reader reader = mp_reader_of(sub->params);
    struct slice argument;
    uint32_t count;
    int err = mp_read_array(&reader, &count);
    sk_assert(err == SK_OK);
    switch (sub->command->id) {
    case COMMAND_ID_PING:
        if (count > 1) {
            *text = "wrong number of arguments for 'ping'";
            return SK_BADREQUEST;
        }
        if (count == 0) {
            mp_write_text(result, "PONG");
            return SK_OK;
        }
        (void)mp_skip(&reader, &argument);
        write_argument(result, argument);
        return SK_OK;
    case COMMAND_ID_ECHO:
        (void)mp_skip(&reader, &argument);
        write_argument(result, argument);
        return SK_OK;
    case COMMAND_ID_TIME:
        mp_write_array(result, 2);
        mp_write_uint(result, now_us / 1000000u);
        mp_write_uint(result, now_us % 1000000u);
        return SK_OK;
    case COMMAND_ID_COMMAND:
        return answer_command(&reader, count, result, text);
    default:
        *text = "not implemented by this gateway";
        return SK_BADREQUEST;
    }
}

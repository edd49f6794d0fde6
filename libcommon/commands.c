#include "commands.h"

const struct command command_table[COMMAND_COUNT] = {
#define SK_COMMAND(NAME, executor, arity, flags, first, last, step, join, summary)                                \
    {#NAME, COMMAND_ID_##NAME, arity, flags, first, last, step, join, summary},
#include "commands.def"
#undef SK_COMMAND
};

/* A name is looked up as two words of eight bytes, in upper case and filled up with zeros. */
#define NAME_BYTES_MAX 16u

#define SK_COMMAND(NAME, ...) _Static_assert(sizeof #NAME - 1 <= NAME_BYTES_MAX, "name of a command: " #NAME);
#include "commands.def"
#undef SK_COMMAND

struct packed_name {
    uint64_t words[2];
    size_t size; /* zeros in a name are no filling */
};

/* Open addressing; built once before main, then only read. */
#define TABLE_BITS 10
#define TABLE_SIZE (1u << TABLE_BITS)
_Static_assert(COMMAND_COUNT * 3 < TABLE_SIZE, "a sparse table keeps the probes short");

static struct {
    struct packed_name name;
    const struct command *command; /* NULL = free */
} name_table[TABLE_SIZE];

static inline struct packed_name pack_name(struct slice name) {
    uint8_t bytes[NAME_BYTES_MAX] = {0};
    memcpy(bytes, name.data, name.size);
    for (size_t i = 0; i < NAME_BYTES_MAX; i++) {
        uint8_t byte = bytes[i];
        bytes[i] = (uint8_t)(byte - (byte >= 'a' && byte <= 'z' ? 'a' - 'A' : 0));
    }
    struct packed_name packed = {.size = name.size};
    memcpy(packed.words, bytes, sizeof packed.words);
    return packed;
}

static inline size_t place_of(const struct packed_name *name) {
    uint64_t mixed = (name->words[0] ^ (name->words[1] * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
    return (size_t)(mixed >> (64 - TABLE_BITS));
}

__attribute__((constructor)) static void name_table_init(void) {
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        struct packed_name packed = pack_name(slice_of_text(command_table[i].name));
        size_t place = place_of(&packed);
        while (name_table[place].command != NULL) place = (place + 1) % TABLE_SIZE;
        name_table[place].name = packed;
        name_table[place].command = &command_table[i];
    }
}

const struct command *command_find(struct slice name) {
    if (name.size == 0 || name.size > NAME_BYTES_MAX) return NULL;
    struct packed_name packed = pack_name(name);
    for (size_t place = place_of(&packed); name_table[place].command != NULL; place = (place + 1) % TABLE_SIZE) {
        const struct packed_name *there = &name_table[place].name;
        if (there->words[0] == packed.words[0] && there->words[1] == packed.words[1] && there->size == packed.size)
            return name_table[place].command;
    }
    return NULL;
}

bool command_arity_ok(const struct command *command, size_t words) {
    if (command->arity >= 0) return words == (size_t)command->arity;
    return words >= (size_t)-command->arity;
}

bool command_groups_whole(const struct command *command, size_t words) {
    if (command->last_key >= 0 || command->key_step <= 1) return true;
    return (words - (size_t)command->first_key) % (size_t)command->key_step == 0;
}

size_t command_read_numkeys(struct slice word) {
    if (word.size == 0 || word.size > 9 || word.data[0] == '0') return 0;
    size_t number = 0;
    for (size_t i = 0; i < word.size; i++) {
        if (word.data[i] < '0' || word.data[i] > '9') return 0;
        number = 10 * number + (word.data[i] - (size_t)'0');
    }
    return number;
}

struct command_keys command_keys(const struct command *command, size_t words, size_t numkeys) {
    struct command_keys keys = {.also = (command->flags & COMMAND_KEY_ALSO) != 0};
    if (command->first_key == 0) return keys;
    size_t first = (size_t)command->first_key;
    if ((command->flags & COMMAND_NUMKEYS) != 0) {
        if (numkeys == 0 || numkeys > words - first) return keys;
        keys.last = first + numkeys - 1;
    } else {
        keys.last = command->last_key < 0 ? words - (size_t)-command->last_key : (size_t)command->last_key;
    }
    keys.first = first;
    keys.step = (size_t)command->key_step;
    return keys;
}

struct command_keys command_awaited_keys(const struct command *command, size_t words, size_t numkeys) {
    struct command_keys keys = command_keys(command, words, numkeys);
    if (command->last_key > 0) keys.last = keys.first;
    return keys;
}

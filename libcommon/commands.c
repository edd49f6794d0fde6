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
#define TABLE_BITS 8
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

/* The command table as data (commands.def), for the gateway, the CLI and shardd. Static; any thread. */
#pragma once

#include "slice.h"

#define REDIS_VERSION                                                                                             \
    "7.0.0" /* whose commands these are, as far as they are Redis's: what clients go by is told this */

enum command_flags {
    COMMAND_READ = 1,        /* runs on the leader against executed state */
    COMMAND_WRITE = 2,       /* becomes a log entry */
    COMMAND_GATEWAY = 4,     /* the gateway answers by itself */
    COMMAND_SPLIT = 8,       /* its keys may lie in many shards: one part for each */
    COMMAND_ALL_SHARDS = 16, /* goes to every shard; the answers are added up */
    COMMAND_CURSOR = 32,     /* SCAN: the cursor says the shard */
    COMMAND_CHANCE = 64,     /* draws by chance: an entry with it carries what it draws from */
    COMMAND_NUMKEYS = 256,   /* the word before its first key says how many keys there are */
    COMMAND_KEY_ALSO = 512,  /* with COMMAND_NUMKEYS: word 1 is a key, too */
    COMMAND_SESSION = 128,   /* of a connection: a door that keeps state for its connections answers */
    COMMAND_BLOCKING = 1024, /* a write that waits where there is nothing to take; a word of it says how long */
    COMMAND_FOR_ZSET = 2048, /* with COMMAND_BLOCKING: for a sorted set, not for a list */

    /* what the Redis protocol must know to tell a result as Redis does */
    COMMAND_REPLY_SET = 1 << 24,   /* an array is a set */
    COMMAND_REPLY_PAIRS = 1 << 25, /* an array may be of [a, b]: RESP2 has a, b, a, b */
    COMMAND_REPLY_NIL_ARRAY =
        1 << 26,                  /* nil is an array that is not there, if the command has more than two words */
    COMMAND_REPLY_TEXT = 1 << 27, /* a bin is a text for people */
};

enum command_join {
    JOIN_NONE,      /* one shard, its answer as it is */
    JOIN_SUM,       /* integers are added */
    JOIN_STATUS,    /* OK if all are */
    JOIN_POSITIONS, /* arrays, back into the order of the keys */
    JOIN_INFO,      /* maps of counters, added by name and told as text */
};

enum command_id {
#define SK_COMMAND(NAME, executor, arity, flags, first, last, step, join, summary) COMMAND_ID_##NAME,
#include "commands.def"
#undef SK_COMMAND
    COMMAND_COUNT
};

struct command {
    const char *name; /* upper case */
    enum command_id id;
    int arity;
    unsigned flags;
    int first_key, last_key, key_step;
    enum command_join join;
    const char *summary;
};

extern const struct command command_table[COMMAND_COUNT];

/* By name in any case; NULL = unknown. */
const struct command *command_find(struct slice name);

/* Whether `words` (name and arguments) fit the arity. */
bool command_arity_ok(const struct command *command, size_t words);

/* Whether the words behind the first key come in whole groups, each a key with what belongs to it ("MSET k v k" has not). */
bool command_groups_whole(const struct command *command, size_t words);

/* Which words of a command are keys (the name is word 0): every `step`-th from `first` to `last`, and `also`. */
struct command_keys {
    size_t also;              /* 0 = none */
    size_t first, last, step; /* first 0 = none */
};

/* The word that says how many keys there are; 0 = the table says it. */
static inline size_t command_numkeys_word(const struct command *command) {
    return (command->flags & COMMAND_NUMKEYS) != 0 ? (size_t)command->first_key - 1 : 0;
}

/* What that word says, as bytes: a decimal number of 1 or more; else 0. */
size_t command_read_numkeys(struct slice word);

/* The keys of a command of so many words, which fit its arity. Where `numkeys` (0 without COMMAND_NUMKEYS) is 0 or more than
 * there are words, it has no keys but `also`: its executor refuses it, wherever it runs. */
struct command_keys command_keys(const struct command *command, size_t words, size_t numkeys);

/* The word of a blocking command that says how long it waits (wait_time.h). */
static inline size_t command_wait_word(const struct command *command, size_t words) {
    return (command->flags & COMMAND_NUMKEYS) != 0 ? 1 : words - 1;
}

/* Of the keys of a blocking command those that it waits for: the first where it says what each is for (BLMOVE), else all. */
struct command_keys command_awaited_keys(const struct command *command, size_t words, size_t numkeys);

static inline bool command_keys_have(const struct command_keys *keys, size_t word) {
    if (word == keys->also) return word != 0;
    return keys->first != 0 && word >= keys->first && word <= keys->last && (word - keys->first) % keys->step == 0;
}

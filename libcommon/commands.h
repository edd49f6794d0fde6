/* The command table as data (commands.def), for the gateway, the CLI and shardd. Static; any thread. */
#pragma once

#include "slice.h"

enum command_flags {
    COMMAND_READ = 1,        /* runs on the leader against executed state */
    COMMAND_WRITE = 2,       /* becomes a log entry */
    COMMAND_GATEWAY = 4,     /* the gateway answers by itself */
    COMMAND_SPLIT = 8,       /* its keys may lie in many shards: one part for each */
    COMMAND_ALL_SHARDS = 16, /* goes to every shard; the answers are added up */
    COMMAND_CURSOR = 32,     /* SCAN: the cursor says the shard */
    COMMAND_CHANCE = 64,     /* draws by chance: an entry with it carries what it draws from */
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

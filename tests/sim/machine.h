/* The state machine that the simulated replicas execute: some keys, and the names of the writes that have taken effect
 * (docs/replication.md, R10). Small, so that a copy of it is a checkpoint or a snapshot. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_KEYS        4u /* 0, 1: numbers; 2: text; 3: has a time to live */
#define MACHINE_EXPIRES     3u
#define CLIENTS_MAX         8u
#define MACHINE_VALUE_BYTES 20u

struct value {
    bool present;
    uint8_t length;
    char bytes[MACHINE_VALUE_BYTES];
};

enum command_op { COMMAND_GET, COMMAND_SET, COMMAND_DEL, COMMAND_CAS, COMMAND_INCR, COMMAND_APPEND };

struct command {
    uint32_t client; /* with `number` the name of a write */
    uint64_t number;
    enum command_op op;
    uint32_t key;
    struct value value;    /* SET, CAS: new, absent = delete; APPEND */
    struct value expected; /* CAS */
    int64_t amount;        /* INCR */
    uint64_t ttl_us;       /* SET of MACHINE_EXPIRES */
};

struct result {
    bool refused;     /* by the state: nothing was changed */
    int64_t answer;   /* DEL, CAS: 0 or 1; INCR: the number; APPEND: the length */
    struct value got; /* GET */
};

struct session {
    uint64_t number; /* of its last write that was executed; lower ones are forgotten */
    struct result result;
};

struct machine {
    uint64_t applied_index;
    uint64_t digest; /* of all that was executed and what it answered */
    struct value keys[MACHINE_KEYS];
    uint64_t expires_us; /* of MACHINE_EXPIRES */
    struct session sessions[CLIENTS_MAX];
};

enum machine_outcome { MACHINE_DONE, MACHINE_REPEAT, MACHINE_FORGOTTEN };

struct value value_of_number(int64_t number);
bool value_equal(const struct value *a, const struct value *b);

/* What an entry does to the state. */
struct machine_step {
    uint64_t index, epoch, time_us;
    bool sweep;                    /* removes what has expired */
    bool nameless;                 /* a planted bug: names are not looked at */
    const struct command *command; /* NULL: none */
};

/* Executes the next entry. */
enum machine_outcome machine_execute(struct machine *machine, const struct machine_step *step,
                                     struct result *result);

/* A write that was executed before: MACHINE_REPEAT and its result; MACHINE_DONE: it is new. */
enum machine_outcome machine_find(const struct machine *machine, const struct command *command,
                                  struct result *result);

/* Whether a sweep would remove something. */
bool machine_has_expired(const struct machine *machine, uint64_t time_us);

struct result machine_read(const struct machine *machine, const struct command *command, uint64_t time_us);

/* One command being executed: what its executor gets, and how it answers. An executor appends one MessagePack
 * value to the answer and returns SK_OK; or refuses by call_refuse before it has changed anything; or passes a
 * fault up. */
#pragma once

#include "shardd/commands/args.h"
#include "shardd/commands/chance.h"
#include "shardd/keyspace.h"

#include <stdarg.h>

/* A result of one command stays below this, so that it fits in a reply with its surroundings. */
#define RESULT_BYTES_MAX (MESSAGE_BYTES_MAX - 65536u)

struct call {
    struct exec *exec;
    const struct command *command;
    const struct slice *args; /* without the command's name; only CAS may have nil among them */
    size_t count;             /* fits the command's arity */
    uint64_t now_us;
    struct chance chance;
    bool in_batch; /* of an atomic batch, whose owner undoes all at an error */
    bool waits;    /* of a blocking command: it has to wait where it finds nothing, */
    bool looks;    /* and only that is asked: what finds something returns SK_OK before it changes anything */
    struct buffer *answer;
    size_t answer_start;
};

/* execute_get(struct call *) and so on, one for each executor of the table: SK_OK, a client error, or a fault. */
#define SK_COMMAND(NAME, executor, arity, flags, first, last, step, join, summary)                                \
    int execute_##executor(struct call *call);
#include "libcommon/commands.def"
#undef SK_COMMAND

/* Refuses with a client error and a text in place of what was answered so far. Returns `err`. */
int call_refuse(struct call *call, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
int call_refuse_syntax(struct call *call);
int call_refuse_wrong_type(struct call *call);
int call_refuse_not_int(struct call *call); /* an argument that should be an integer */

/* What the above and exec_check's refusals are written by: puts the text in place of what stands from `start` on.
 * A byte that is not plain ASCII (of an argument that is cited) becomes '?', so that a text is always valid UTF-8.
 */
void call_write_text(struct buffer *answer, size_t start, const char *format, va_list values)
    __attribute__((format(printf, 3, 0)));

/* The name of a command as texts cite it: in lower case, cut to fit. Returns `room`. */
#define CALL_NAME_SHOWN_MAX 64u
const char *call_name_shown(struct slice name, char room[CALL_NAME_SHOWN_MAX]);

/* Answers; return SK_OK. */
int call_answer_ok(struct call *call);
int call_answer_nil(struct call *call);
int call_answer_int(struct call *call, int64_t number);
int call_answer_bin(struct call *call, struct slice bytes);

/* Makes sure that an object that is found has the string's bytes as its payload, however they are stored; that of one in
 * chunks lives until the next such. SK_OK; SK_WRONGTYPE or SK_TOOLARGE (told); a fault. */
int call_load_string(struct call *call, struct object *object);

/* What a blocking command returns that finds nothing to take: nil, or that it has to wait. */
int call_answer_nothing(struct call *call);
/* Refuses what says no time to wait. SK_OK or SK_BADREQUEST. */
int call_check_wait_time(struct call *call, struct slice word);

/* SK_OK while what is answered so far fits in a reply, else SK_TOOLARGE (told). */
int call_limit_answer(struct call *call);

/* An array whose count is known at its end only: the start is for the end. */
size_t call_begin_array(struct call *call);
void call_end_array(struct call *call, size_t start, uint32_t count);

/* Refuses a member or a field that is longer than one can be. SK_OK or SK_TOOLARGE. */
int call_check_name(struct call *call, struct slice name);

/* The key that is the first argument, as a string or nothing: another type is refused. */
int call_find_string(struct call *call, struct object *object);
int call_find_string_for_write(struct call *call, struct object *object);

/* Stores a string: keyspace_store and keyspace_put with their client error told. */
int call_store_string(struct call *call, struct object *object, struct slice value, uint64_t deadline_us);
int call_put(struct call *call, struct object *object);

/* Runs `body`, which may be refused midway, so that it changes all or nothing. Not within a batch. */
int call_all_or_nothing(struct call *call, int (*body)(struct call *call));

/* The same in two steps: what is changed between them is undone if `err` of the end is not SK_OK, which it answers, or else a
 * fault. Only where it is `needed`, and in a batch it never is. */
struct call_attempt {
    struct exec_attempt attempt; /* private, */
    bool begun;                  /* and so is this */
};
int call_attempt_begin(struct call *call, bool needed, struct call_attempt *attempt);
int call_attempt_end(struct call *call, const struct call_attempt *attempt, int err);

/* When a key shall expire, from an argument: `amount` of `unit_us` from now, or since 1970. False: beyond what a
 * deadline can be. A date in the past, also before 1970, is `past`, without a deadline. */
struct call_deadline {
    uint64_t deadline_us;
    bool past; /* at or before now */
};
bool call_deadline_of(const struct call *call, int64_t amount, int64_t unit_us, bool from_now,
                      struct call_deadline *deadline);

/* "invalid expire time in 'set' command" */
int call_refuse_expire_time(struct call *call);

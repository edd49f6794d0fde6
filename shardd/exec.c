#include "exec.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/slot.h"
#include "shardd/collection.h"
#include "shardd/commands/call.h"
#include "shardd/commands/scan.h"
#include "shardd/garbage.h"

#include <stdarg.h>
#include <stdio.h>

static int (*const executors[COMMAND_COUNT])(struct call *call) = {
#define SK_COMMAND(NAME, executor, arity, flags, first, last, step, join, summary)                                \
    [COMMAND_ID_##NAME] = execute_##executor,
#include "libcommon/commands.def"
#undef SK_COMMAND
};

/* What the table calls `none`: the gateway's own commands. exec_check lets none through. */
int execute_none(struct call *call) {
    return call_refuse(call, SK_BADREQUEST, "the gateway answers this command");
}

void exec_init(struct exec *exec, struct kv *kv, uint32_t shard, uint32_t shard_count) {
    *exec = (struct exec){.kv = kv, .shard = shard, .shard_count = shard_count, .hasher = &keyspace_hasher_xxh3};
    buffer_init(&exec->scratch);
    buffer_init(&exec->gathered);
    buffer_init(&exec->assembled);
    args_init(&exec->args);
}

void exec_deinit(struct exec *exec) {
    buffer_deinit(&exec->scratch);
    buffer_deinit(&exec->gathered);
    buffer_deinit(&exec->assembled);
    args_deinit(&exec->args);
}

/* Form: what exec_check tells and exec_run relies on */

/* A refusal being written; `start` is where the text begins. */
struct refusal {
    struct buffer *answer;
    size_t start;
};

__attribute__((format(printf, 3, 4))) static int refuse(const struct refusal *refusal, int err, const char *format,
                                                        ...) {
    va_list values;
    va_start(values, format);
    call_write_text(refusal->answer, refusal->start, format, values);
    va_end(values);
    return err;
}

static int refuse_arity(const struct refusal *refusal, const struct command *command) {
    char name[CALL_NAME_SHOWN_MAX];
    return refuse(refusal, SK_BADREQUEST, "wrong number of arguments for '%s' command",
                  call_name_shown(slice_of_text(command->name), name));
}

/* Reads method and arguments (into exec->args) and checks what the table says of their form. */
static int decode_command(struct exec *exec, struct mp_reader *reader, const struct command **found,
                          const struct refusal *refusal) {
    struct slice method;
    if (mp_read_str(reader, &method) != SK_OK) return refuse(refusal, SK_BADREQUEST, "the method is not a text");
    const struct command *command = command_find(method);
    char name[CALL_NAME_SHOWN_MAX];
    if (command == NULL)
        return refuse(refusal, SK_BADREQUEST, "unknown command '%s'", call_name_shown(method, name));
    if (command->flags & (COMMAND_GATEWAY | COMMAND_SESSION)) {
        return refuse(refusal, SK_BADREQUEST, "command '%s' is not for a shard", call_name_shown(method, name));
    }
    const char *text = "";
    int err = args_decode(&exec->args, reader, command->id == COMMAND_ID_CAS, &text);
    if (err < 0) return err;
    if (err != SK_OK) return refuse(refusal, err, "%s", text);
    if (!command_arity_ok(command, exec->args.count + 1)) return refuse_arity(refusal, command);
    exec->draws = exec->draws || (command->flags & COMMAND_CHANCE) != 0;
    *found = command;
    return SK_OK;
}

/* `slot` is the one that the key must have if it must be of `one_slot`, SLOT_COUNT = any yet. */
static int check_key(const struct exec *exec, struct slice key, bool one_slot, uint32_t *slot,
                     const struct refusal *refusal) {
    if (args_is_nil(key)) return refuse(refusal, SK_BADREQUEST, "the key is nil");
    if (key.size > KEY_BYTES_MAX) {
        return refuse(refusal, SK_TOOLARGE, "key exceeds maximum allowed size of %u bytes", KEY_BYTES_MAX);
    }
    uint32_t here = slot_of_key(key);
    if (slot_shard(here, exec->shard_count) != exec->shard) {
        return refuse(refusal, SK_BADREQUEST, "a key is of another shard");
    }
    if (one_slot && *slot != SLOT_COUNT && *slot != here) {
        return refuse(refusal, SK_CROSSSLOT, "Keys in request don't hash to the same slot");
    }
    *slot = here;
    return SK_OK;
}

static size_t numkeys_of(const struct command *command, const struct args *args) {
    size_t word = command_numkeys_word(command);
    return word != 0 ? command_read_numkeys(args->items[word - 1]) : 0;
}

struct command_keys exec_keys(const struct command *command, const struct args *args) {
    return command_keys(command, args->count + 1, numkeys_of(command, args));
}

/* The keys of a command: of this shard, within limits, and of one slot where the command is not one that is split.
 * `slot` is the one that keys must have, SLOT_COUNT = any yet. */
static int check_keys(const struct exec *exec, const struct command *command, bool one_slot, uint32_t *slot,
                      const struct refusal *refusal) {
    struct command_keys keys = exec_keys(command, &exec->args);
    int err = keys.also != 0 ? check_key(exec, exec->args.items[keys.also - 1], one_slot, slot, refusal) : SK_OK;
    if (err != SK_OK || keys.first == 0) return err;
    bool groups = command->last_key < 0 && (command->flags & COMMAND_NUMKEYS) == 0;
    if (groups && (exec->args.count + 1 - keys.first) % keys.step != 0) return refuse_arity(refusal, command);
    if ((keys.last - keys.first) / keys.step + 1 > MESSAGE_COMMANDS_MAX) {
        return refuse(refusal, SK_TOOLARGE, "too many keys");
    }
    for (size_t word = keys.first; err == SK_OK && word <= keys.last; word += keys.step) {
        err = check_key(exec, exec->args.items[word - 1], one_slot, slot, refusal);
    }
    return err;
}

/* Leaves the arguments decoded. */
static int check_single(struct exec *exec, struct mp_reader *reader, bool writes, const struct command **found,
                        const struct refusal *refusal) {
    int err = decode_command(exec, reader, found, refusal);
    if (err != SK_OK) return err;
    const struct command *command = *found;
    if (((command->flags & COMMAND_WRITE) != 0) != writes) {
        return refuse(refusal, SK_BADREQUEST, writes ? "the command is not a write" : "the command is a write");
    }
    if (command->id == COMMAND_ID_SCAN &&
        !scan_cursor_is_for(exec->args.items[0], exec->shard, exec->shard_count)) {
        return refuse(refusal, SK_BADREQUEST, "invalid cursor");
    }
    uint32_t slot = SLOT_COUNT;
    return check_keys(exec, command, (command->flags & COMMAND_SPLIT) == 0, &slot, refusal);
}

/* The name of a body with several commands: "batch", or "EXEC". */
static int read_atomic_head(struct mp_reader *reader, bool *is_exec, const struct refusal *refusal) {
    struct slice method;
    bool named = mp_read_str(reader, &method) == SK_OK;
    *is_exec = named && args_is_word(method, "EXEC");
    if (*is_exec || (named && args_is_word(method, "BATCH"))) return SK_OK;
    return refuse(refusal, SK_BADREQUEST, "an atomic request is a batch");
}

static int read_commands_head(struct mp_reader *reader, uint32_t *count, const struct refusal *refusal) {
    if (mp_read_array(reader, count) != SK_OK) {
        return refuse(refusal, SK_BADREQUEST, "a batch is an array of [method, params]");
    }
    if (*count > MESSAGE_COMMANDS_MAX) return refuse(refusal, SK_TOOLARGE, "too many commands in a batch");
    return SK_OK;
}

/* What EXEC begins with: two arguments, the first of them the keys whose versions it wants. */
static int read_watched_head(struct mp_reader *reader, uint32_t *count, const struct refusal *refusal) {
    uint32_t two;
    if (mp_read_array(reader, &two) != SK_OK || two != 2 || mp_read_array(reader, count) != SK_OK) {
        return refuse(refusal, SK_BADREQUEST, "EXEC takes an array of [key, version] and one of [method, params]");
    }
    if (*count > MESSAGE_COMMANDS_MAX) return refuse(refusal, SK_TOOLARGE, "too many watched keys");
    return SK_OK;
}

static int read_watched(struct mp_reader *reader, struct slice *key, uint64_t *version,
                        const struct refusal *refusal) {
    uint32_t two;
    if (mp_read_array(reader, &two) == SK_OK && two == 2 && mp_read_bytes(reader, key) == SK_OK &&
        mp_read_uint(reader, version) == SK_OK) {
        return SK_OK;
    }
    return refuse(refusal, SK_BADREQUEST, "a watched key is [key, version]");
}

static int read_pair_head(struct mp_reader *reader, const struct refusal *refusal) {
    uint32_t two;
    if (mp_read_array(reader, &two) == SK_OK && two == 2) return SK_OK;
    return refuse(refusal, SK_BADREQUEST, "a batch is an array of [method, params]");
}

static int check_batched(struct exec *exec, struct mp_reader *reader, bool writes, uint32_t *slot,
                         const struct refusal *refusal) {
    const struct command *command;
    int err = read_pair_head(reader, refusal);
    if (err == SK_OK) err = decode_command(exec, reader, &command, refusal);
    if (err != SK_OK) return err;
    if (command->first_key == 0) {
        return refuse(refusal, SK_BADREQUEST, "a command without a key cannot be in an atomic batch");
    }
    if ((command->flags & COMMAND_WRITE) && !writes)
        return refuse(refusal, SK_BADREQUEST, "the command is a write");
    return check_keys(exec, command, true, slot, refusal);
}

/* Makes the refusal of a batch from the text of one of its commands, which stands at `text_start`. */
static int refuse_batch(const struct refusal *refusal, size_t text_start, int err, uint32_t position) {
    if (err <= 0 || refusal->answer->failed) return err;
    char text[256];
    size_t size = refusal->answer->size - text_start;
    if (size > sizeof text - 1) size = sizeof text - 1;
    memcpy(text, refusal->answer->data + text_start, size);
    text[size] = '\0';
    return refuse(refusal, err, "command %u: %s", position, text);
}

static int check_watched(struct exec *exec, struct mp_reader *reader, uint32_t *slot,
                         const struct refusal *refusal) {
    uint32_t count;
    int err = read_watched_head(reader, &count, refusal);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        struct slice key;
        uint64_t version;
        err = read_watched(reader, &key, &version, refusal);
        if (err == SK_OK) err = check_key(exec, key, true, slot, refusal);
    }
    return err;
}

static int check_batch(struct exec *exec, struct mp_reader *reader, bool writes, const struct refusal *refusal) {
    uint32_t count = 0, slot = SLOT_COUNT;
    bool is_exec;
    int err = read_atomic_head(reader, &is_exec, refusal);
    if (err == SK_OK && is_exec) err = check_watched(exec, reader, &slot, refusal);
    if (err == SK_OK) err = read_commands_head(reader, &count, refusal);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        err = check_batched(exec, reader, writes, &slot, refusal);
        err = refuse_batch(refusal, refusal->start, err, i + 1);
    }
    return err;
}

int exec_check(struct exec *exec, struct slice body, bool atomic, bool writes, struct buffer *answer) {
    struct refusal refusal = {.answer = answer, .start = answer->size};
    struct mp_reader reader = mp_reader_of(body);
    const struct command *command;
    exec->draws = false;
    int err = atomic ? check_batch(exec, &reader, writes, &refusal)
                     : check_single(exec, &reader, writes, &command, &refusal);
    if (err == SK_OK && mp_left(&reader) > 0) err = refuse(&refusal, SK_BADREQUEST, "bytes behind the request");
    return answer->failed ? SK_ENOMEM : err;
}

bool exec_draws(const struct exec *exec) { return exec->draws; }

/* Execution */

/* Runs a command whose arguments are decoded. */
static int run_decoded(struct exec *exec, const struct command *command, bool in_batch,
                       const struct exec_moment *moment, struct buffer *answer) {
    struct call call = {
        .waits = moment->waits && !in_batch,
        .exec = exec,
        .command = command,
        .args = exec->args.items,
        .count = exec->args.count,
        .now_us = moment->time_us,
        .chance = {.state = moment->chance},
        .in_batch = in_batch,
        .answer = answer,
        .answer_start = answer->size,
    };
    return executors[command->id](&call);
}

static int run_command(struct exec *exec, struct mp_reader *reader, bool in_batch,
                       const struct exec_moment *moment, struct buffer *answer) {
    struct refusal refusal = {.answer = answer, .start = answer->size};
    const struct command *command;
    int err = decode_command(exec, reader, &command, &refusal);
    return err == SK_OK ? run_decoded(exec, command, in_batch, moment, answer) : err;
}

/* One command of a batch: its [nil, result]. */
static int run_batched(struct exec *exec, struct mp_reader *reader, const struct exec_moment *moment,
                       size_t batch_start, struct buffer *answer) {
    struct refusal refusal = {.answer = answer, .start = answer->size};
    int err = read_pair_head(reader, &refusal);
    if (err != SK_OK) return err;
    mp_write_array(answer, 2);
    mp_write_nil(answer);
    size_t result_start = answer->size;
    err = run_command(exec, reader, true, moment, answer);
    if (err > 0 && !answer->failed) { /* the refusal's text takes the place of the pair */
        size_t size = answer->size - result_start;
        memmove(answer->data + refusal.start, answer->data + result_start, size);
        answer->size = refusal.start + size;
    }
    if (err == SK_OK && answer->size - batch_start > RESULT_BYTES_MAX) {
        return refuse(&refusal, SK_TOOLARGE, "the answer would be too large");
    }
    return err;
}

/* What the commands of a batch, or of EXEC, may cost together (kv_work): about half a second. The lane does nothing else
 * meanwhile, and what is to be undone is kept. A command by itself has its own limits. */
#define TOGETHER_WORK_MAX 3000000u

static int refuse_work(const struct refusal *refusal) {
    return refuse(refusal, SK_TOOLARGE, "the batch does too much at once");
}

static int run_commands(struct exec *exec, struct mp_reader *reader, const struct exec_moment *moment,
                        const struct refusal *refusal) {
    uint32_t count;
    int err = read_commands_head(reader, &count, refusal);
    if (err != SK_OK) return err;
    mp_write_array(refusal->answer, count);
    struct chance chance = {.state = moment->chance};
    uint64_t work = kv_work(exec->kv);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        if (kv_work(exec->kv) - work > TOGETHER_WORK_MAX) return refuse_work(refusal);
        size_t start = refusal->answer->size;
        struct exec_moment own = {.time_us = moment->time_us, .chance = chance_next(&chance)};
        err = run_batched(exec, reader, &own, refusal->start, refusal->answer);
        err = refuse_batch(refusal, start, err, i + 1);
    }
    return err;
}

int exec_attempt_begin(struct exec *exec, struct exec_attempt *attempt) {
    attempt->before = exec->counters;
    return kv_begin(exec->kv);
}

int exec_attempt_end(struct exec *exec, const struct exec_attempt *attempt, int err) {
    if (err == SK_OK) {
        kv_commit(exec->kv);
        return SK_OK;
    }
    exec->counters = attempt->before;
    exec->first_deadline_known = false;
    int undone = kv_rollback(exec->kv);
    return undone == SK_OK ? err : undone;
}

static int run_batch(struct exec *exec, struct mp_reader *reader, const struct exec_moment *moment,
                     const struct refusal *refusal) {
    struct exec_attempt attempt;
    int err = exec_attempt_begin(exec, &attempt);
    return err == SK_OK ? exec_attempt_end(exec, &attempt, run_commands(exec, reader, moment, refusal)) : err;
}

static struct exec_awaited awaited_by(const struct command *command, const struct args *args) {
    struct command_keys keys = command_awaited_keys(command, args->count + 1, numkeys_of(command, args));
    if (keys.first == 0) return (struct exec_awaited){0};
    return (struct exec_awaited){
        .type = (command->flags & COMMAND_FOR_ZSET) != 0 ? OBJECT_ZSET : OBJECT_LIST,
        .keys = args->items + keys.first - 1,
        .key_count = keys.last - keys.first + 1,
    };
}

int exec_awaits(struct exec *exec, struct slice body, uint64_t time_us, struct buffer *scratch,
                struct exec_awaited *awaited) {
    struct refusal refusal = {.answer = scratch, .start = scratch->size};
    struct mp_reader reader = mp_reader_of(body);
    const struct command *command;
    *awaited = (struct exec_awaited){0};
    int err = decode_command(exec, &reader, &command, &refusal);
    if (err != SK_OK) return err;
    if ((command->flags & COMMAND_BLOCKING) == 0) return SK_NOT_FOUND;
    struct call call = {
        .exec = exec,
        .command = command,
        .args = exec->args.items,
        .count = exec->args.count,
        .now_us = time_us,
        .waits = true,
        .looks = true,
        .answer = scratch,
        .answer_start = scratch->size,
    };
    err = executors[command->id](&call);
    *awaited = awaited_by(command, &exec->args);
    return err;
}

int exec_count_elements(struct exec *exec, struct slice key, uint8_t type, uint64_t time_us, uint64_t *count) {
    struct object object;
    struct collection collection;
    *count = 0;
    int err = keyspace_find(exec, key, time_us, &object);
    if (err != SK_OK || !object.found || object.type != type) return err;
    err = collection_read(type, object.payload, &collection);
    if (err == SK_OK) *count = collection.count;
    return err;
}

/* Whether all watched keys have the versions that EXEC wants. SK_OK, or a fault. */
static int compare_watched(struct exec *exec, struct mp_reader *reader, const struct exec_moment *moment,
                           bool *unchanged, const struct refusal *refusal) {
    uint32_t count;
    int err = read_watched_head(reader, &count, refusal);
    *unchanged = true;
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        struct slice key;
        uint64_t wanted;
        struct object object;
        err = read_watched(reader, &key, &wanted, refusal);
        if (err == SK_OK) err = keyspace_find(exec, key, moment->time_us, &object);
        if (err == SK_OK && (object.found ? object.version : 0) != wanted) *unchanged = false;
    }
    return err;
}

/* In place of what was answered from `start` on, a refusal's text: [[code, text], nil]. */
static void answer_refusal(struct buffer *answer, size_t start, size_t text_start, int err) {
    char text[256];
    size_t size = answer->size - text_start;
    if (answer->failed) return;
    if (size > sizeof text) size = sizeof text;
    memcpy(text, answer->data + text_start, size);
    answer->size = start;
    mp_write_array(answer, 2);
    mp_write_array(answer, 2);
    mp_write_text(answer, error_name(err));
    mp_write_str(answer, slice_of(text, size));
    mp_write_nil(answer);
}

/* One command of EXEC: its [error, result]. One that is refused has changed nothing, and the others stay as they are. */
static int run_queued(struct exec *exec, struct mp_reader *reader, const struct exec_moment *moment,
                      size_t exec_start, bool too_much, struct buffer *answer) {
    struct refusal refusal = {.answer = answer, .start = answer->size};
    const struct command *command;
    int err = read_pair_head(reader, &refusal);
    if (err != SK_OK) return err;
    mp_write_array(answer, 2);
    mp_write_nil(answer);
    size_t result_start = answer->size;
    struct refusal of_result = {.answer = answer, .start = result_start};
    err = decode_command(exec, reader, &command, &of_result);
    if (err == SK_OK && too_much) err = refuse_work(&of_result);
    if (err == SK_OK) err = run_decoded(exec, command, false, moment, answer);
    if (err > 0) {
        answer_refusal(answer, refusal.start, result_start, err);
    } else if (err == SK_OK && answer->size - exec_start > RESULT_BYTES_MAX) {
        (void)refuse(&of_result, SK_TOOLARGE, "the answer would be too large");
        answer_refusal(answer, refusal.start, result_start,
                       command->flags & COMMAND_WRITE ? SK_DONE : SK_TOOLARGE);
    }
    return err > 0 ? SK_OK : err;
}

static int run_exec(struct exec *exec, struct mp_reader *reader, const struct exec_moment *moment,
                    const struct refusal *refusal) {
    struct buffer *answer = refusal->answer;
    bool unchanged;
    uint32_t count;
    int err = compare_watched(exec, reader, moment, &unchanged, refusal);
    if (err == SK_OK && !unchanged) {
        mp_write_nil(answer);
        return SK_OK;
    }
    if (err == SK_OK) err = read_commands_head(reader, &count, refusal);
    if (err == SK_OK) mp_write_array(answer, count);
    struct chance chance = {.state = moment->chance};
    uint64_t work = kv_work(exec->kv);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        struct exec_moment own = {.time_us = moment->time_us, .chance = chance_next(&chance)};
        bool too_much = kv_work(exec->kv) - work > TOGETHER_WORK_MAX;
        err = run_queued(exec, reader, &own, refusal->start, too_much, answer);
    }
    return err;
}

static int run_atomic(struct exec *exec, struct mp_reader *reader, const struct exec_moment *moment,
                      const struct refusal *refusal) {
    bool is_exec;
    int err = read_atomic_head(reader, &is_exec, refusal);
    if (err != SK_OK) return err;
    return is_exec ? run_exec(exec, reader, moment, refusal) : run_batch(exec, reader, moment, refusal);
}

int exec_read(struct exec *exec, struct slice body, const struct exec_moment *moment, struct buffer *answer) {
    struct refusal refusal = {.answer = answer, .start = answer->size};
    struct mp_reader reader = mp_reader_of(body);
    const struct command *command;
    int err = check_single(exec, &reader, false, &command, &refusal);
    if (err == SK_OK && mp_left(&reader) > 0) err = refuse(&refusal, SK_BADREQUEST, "bytes behind the request");
    if (err == SK_OK) {
        kv_keep_reads(exec->kv, true);
        err = run_decoded(exec, command, false, moment, answer);
        kv_keep_reads(exec->kv, false);
    }
    return answer->failed ? SK_ENOMEM : err;
}

int exec_run(struct exec *exec, struct slice body, bool atomic, const struct exec_moment *moment,
             struct buffer *answer) {
    exec->removed_at_once = 0;
    struct refusal refusal = {.answer = answer, .start = answer->size};
    struct mp_reader reader = mp_reader_of(body);
    int err =
        atomic ? run_atomic(exec, &reader, moment, &refusal) : run_command(exec, &reader, false, moment, answer);
    return answer->failed ? SK_ENOMEM : err;
}

/* Expiry */

int exec_sweep(struct exec *exec, uint64_t now_us, uint32_t limit, uint32_t *removed) {
    exec->removed_at_once = 0;
    int err = keyspace_remove_expired(exec, now_us, limit, removed);
    return err == SK_OK ? garbage_sweep(exec, limit) : err;
}

int exec_next_deadline(struct exec *exec, uint64_t *deadline_us) {
    if (exec->counters.garbage > 0) {
        *deadline_us = 0;
        return SK_OK;
    }
    if (exec->counters.expires == 0) {
        *deadline_us = UINT64_MAX;
        return SK_OK;
    }
    if (!exec->first_deadline_known) {
        uint64_t first_us;
        int err = keyspace_first_deadline(exec, &first_us);
        if (err != SK_OK) return err;
        exec->first_deadline_us = first_us;
        exec->first_deadline_known = true;
    }
    *deadline_us = exec->first_deadline_us;
    return SK_OK;
}

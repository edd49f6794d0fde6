/* Keys of any type: DEL (UNLINK), EXISTS (TOUCH), TYPE, VERSION, MEMORY USAGE. */
#include "shardd/commands/call.h"

#include "libcommon/error.h"

int execute_del(struct call *call) {
    int64_t removed = 0;
    for (size_t i = 0; i < call->count; i++) {
        struct object object;
        int err = keyspace_find_for_write(call->exec, call->args[i], call->now_us, &object);
        if (err == SK_OK && object.found) {
            err = keyspace_remove(call->exec, &object);
            removed++;
        }
        if (err != SK_OK) return err;
    }
    return call_answer_int(call, removed);
}

/* A key that is named twice counts twice. */
int execute_exists(struct call *call) {
    int64_t found = 0;
    for (size_t i = 0; i < call->count; i++) {
        struct object object;
        int err = keyspace_find(call->exec, call->args[i], call->now_us, &object);
        if (err != SK_OK) return err;
        found += object.found;
    }
    return call_answer_int(call, found);
}

int execute_type(struct call *call) {
    struct object object;
    int err = keyspace_find(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    mp_write_text(call->answer, object.found ? keyspace_type_name(object.type) : "none");
    return SK_OK;
}

/* What WATCH notes and EXEC compares: unlike what any other value of the key has; 0: there is none. */
int execute_version(struct call *call) {
    struct object object;
    int err = keyspace_find(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    mp_write_uint(call->answer, object.found ? object.version : 0);
    return SK_OK;
}

/* MEMORY USAGE key [SAMPLES count]: the bytes of key and value, without what the store adds to each. All of them are counted,
 * so there is nothing to sample. */
int execute_memory(struct call *call) {
    if (!args_is_word(call->args[0], "USAGE")) {
        return call_refuse(call, SK_BADREQUEST, "unknown subcommand of MEMORY: there is USAGE");
    }
    bool samples = call->count == 4 && args_is_word(call->args[2], "SAMPLES");
    int64_t count;
    if (call->count != 2 && !samples) return call_refuse_syntax(call);
    if (samples && !args_parse_int(call->args[3], &count)) return call_refuse_not_int(call);
    struct object object;
    int err = keyspace_find(call->exec, call->args[1], call->now_us, &object);
    if (err != SK_OK) return err;
    if (!object.found) return call_answer_nil(call);
    return call_answer_int(call, (int64_t)(object.key.size + object.value_bytes));
}

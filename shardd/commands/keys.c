/* Keys of any type: DEL (UNLINK), EXISTS (TOUCH), TYPE. */
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

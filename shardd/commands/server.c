/* What a shard tells of itself; the gateway adds the shards up. */
#include "shardd/commands/call.h"

#include "libcommon/error.h"

int execute_dbsize(struct call *call) {
    mp_write_uint(call->answer, call->exec->counters.keys);
    return SK_OK;
}

static void write_counter(struct call *call, const char *name, uint64_t count) {
    mp_write_text(call->answer, name);
    mp_write_uint(call->answer, count);
}

int execute_info(struct call *call) {
    const struct exec_counters *counters = &call->exec->counters;
    mp_write_map(call->answer, 4);
    write_counter(call, "keys", counters->keys);
    write_counter(call, "expires", counters->expires);
    write_counter(call, "key_bytes", counters->key_bytes);
    write_counter(call, "value_bytes", counters->value_bytes);
    return SK_OK;
}

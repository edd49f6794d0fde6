/* Deadlines of keys: EXPIRE and its relatives, TTL and its relatives, PERSIST. */
#include "shardd/commands/call.h"

#include "libcommon/error.h"

#define SECOND_US      1000000
#define MILLISECOND_US 1000

enum expire_flags { EXPIRE_NX = 1, EXPIRE_XX = 2, EXPIRE_GT = 4, EXPIRE_LT = 8 };

static unsigned expire_flag(struct slice word) {
    if (args_is_word(word, "NX")) return EXPIRE_NX;
    if (args_is_word(word, "XX")) return EXPIRE_XX;
    if (args_is_word(word, "GT")) return EXPIRE_GT;
    if (args_is_word(word, "LT")) return EXPIRE_LT;
    return 0;
}

static int read_flags(struct call *call, unsigned *flags) {
    *flags = 0;
    for (size_t i = 2; i < call->count; i++) {
        unsigned flag = expire_flag(call->args[i]);
        int shown = call->args[i].size < 64 ? (int)call->args[i].size : 64;
        if (flag == 0) {
            return call_refuse(call, SK_BADREQUEST, "Unsupported option %.*s", shown,
                               (const char *)call->args[i].data);
        }
        *flags |= flag;
    }
    if ((*flags & EXPIRE_NX) && *flags != EXPIRE_NX) {
        return call_refuse(call, SK_BADREQUEST, "NX and XX, GT or LT options at the same time are not compatible");
    }
    if ((*flags & EXPIRE_GT) && (*flags & EXPIRE_LT)) {
        return call_refuse(call, SK_BADREQUEST, "GT and LT options at the same time are not compatible");
    }
    return SK_OK;
}

/* A key without a deadline lives for ever: nothing is later. What is past is earlier than any deadline of a living
 * key. */
static bool flags_hold(unsigned flags, const struct object *object, const struct call_deadline *deadline) {
    uint64_t now = object->deadline_us == 0 ? UINT64_MAX : object->deadline_us;
    if ((flags & EXPIRE_NX) && object->deadline_us != 0) return false;
    if ((flags & EXPIRE_XX) && object->deadline_us == 0) return false;
    if ((flags & EXPIRE_GT) && deadline->deadline_us <= now) return false;
    if ((flags & EXPIRE_LT) && deadline->deadline_us >= now) return false;
    return true;
}

static int expire(struct call *call, int64_t unit_us, bool from_now) {
    unsigned flags;
    int err = read_flags(call, &flags);
    if (err != SK_OK) return err;
    int64_t amount;
    struct call_deadline deadline;
    if (!args_parse_int(call->args[1], &amount)) return call_refuse_not_int(call);
    bool too_early = unit_us == SECOND_US && amount < INT64_MIN / 1000; /* Redis counts in milliseconds */
    if (too_early || !call_deadline_of(call, amount, unit_us, from_now, &deadline)) {
        return call_refuse_expire_time(call);
    }
    struct object object;
    err = keyspace_find_for_write(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    if (!object.found || !flags_hold(flags, &object, &deadline)) return call_answer_int(call, 0);
    call_answer_int(call, 1);
    if (deadline.past) return keyspace_remove(call->exec, &object);
    return keyspace_set_deadline(call->exec, &object, deadline.deadline_us);
}

int execute_expire(struct call *call) { return expire(call, SECOND_US, true); }

int execute_pexpire(struct call *call) { return expire(call, MILLISECOND_US, true); }

int execute_expireat(struct call *call) { return expire(call, SECOND_US, false); }

int execute_pexpireat(struct call *call) { return expire(call, MILLISECOND_US, false); }

int execute_persist(struct call *call) {
    struct object object;
    int err = keyspace_find_for_write(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    bool had = object.found && object.deadline_us != 0;
    call_answer_int(call, had);
    return had ? keyspace_set_deadline(call->exec, &object, 0) : SK_OK;
}

/* Asking */

/* Answers -2 and -1 for no key and no deadline; else SK_NOT_FOUND and the deadline. */
static int find_deadline(struct call *call, uint64_t *deadline_us) {
    struct object object;
    int err = keyspace_find(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    if (!object.found) return call_answer_int(call, -2);
    if (object.deadline_us == 0) return call_answer_int(call, -1);
    *deadline_us = object.deadline_us;
    return SK_NOT_FOUND;
}

/* Answers microseconds in a unit of milliseconds, by Redis's rounding: seconds to the nearest. */
static int answer_in(struct call *call, uint64_t ms, bool seconds) {
    return call_answer_int(call, (int64_t)(seconds ? (ms + 500) / 1000 : ms));
}

static int time_left(struct call *call, bool seconds) {
    uint64_t deadline_us;
    int err = find_deadline(call, &deadline_us);
    if (err != SK_NOT_FOUND) return err;
    return answer_in(call, (deadline_us - call->now_us + 999) / 1000, seconds); /* never 0 while the key lives */
}

static int time_of_expiry(struct call *call, bool seconds) {
    uint64_t deadline_us;
    int err = find_deadline(call, &deadline_us);
    if (err != SK_NOT_FOUND) return err;
    return answer_in(call, deadline_us / 1000, seconds);
}

int execute_ttl(struct call *call) { return time_left(call, true); }

int execute_pttl(struct call *call) { return time_left(call, false); }

int execute_expiretime(struct call *call) { return time_of_expiry(call, true); }

int execute_pexpiretime(struct call *call) { return time_of_expiry(call, false); }

/* Strings as numbers: INCR and its relatives. */
#include "shardd/commands/call.h"

#include "libcommon/error.h"

#include <math.h>

/* The deadline stays; the text of the result is stored. */
static int store_number(struct call *call, struct object *object, const char *text, size_t size) {
    return call_store_string(call, object, slice_of(text, size), object->found ? object->deadline_us : 0);
}

static int add(struct call *call, int64_t amount) {
    struct object object;
    int err = call_find_string_for_write(call, &object);
    if (err != SK_OK) return err;
    int64_t number = 0;
    if (object.found && !args_parse_int(object.payload, &number)) {
        return call_refuse(call, SK_BADVALUE, "value is not an integer or out of range");
    }
    if (__builtin_add_overflow(number, amount, &number)) {
        return call_refuse(call, SK_BADVALUE, "increment or decrement would overflow");
    }
    call_answer_int(call, number);
    char text[ARGS_INT_TEXT_MAX];
    return store_number(call, &object, text, args_print_int(number, text));
}

int execute_incr(struct call *call) { return add(call, 1); }

int execute_decr(struct call *call) { return add(call, -1); }

int execute_incrby(struct call *call) {
    int64_t amount;
    if (!args_parse_int(call->args[1], &amount)) return call_refuse_not_int(call);
    return add(call, amount);
}

int execute_decrby(struct call *call) {
    int64_t amount;
    if (!args_parse_int(call->args[1], &amount)) return call_refuse_not_int(call);
    if (amount == INT64_MIN) return call_refuse(call, SK_BADREQUEST, "decrement would overflow");
    return add(call, -amount);
}

/* long double as in Redis. Its width is the machine's: replicas of one cluster run on one architecture. */
int execute_incrbyfloat(struct call *call) {
    struct object object;
    int err = call_find_string_for_write(call, &object);
    if (err != SK_OK) return err;
    long double number = 0, amount;
    if (object.found && !args_parse_real(object.payload, &number)) {
        return call_refuse(call, SK_BADVALUE, "value is not a valid float");
    }
    if (!args_parse_real(call->args[1], &amount)) {
        return call_refuse(call, SK_BADREQUEST, "value is not a valid float");
    }
    number += amount;
    if (!isfinite(number)) {
        return call_refuse(call, SK_BADVALUE, "increment would produce NaN or Infinity");
    }
    char text[ARGS_REAL_TEXT_MAX];
    size_t size = args_print_real(number, text);
    call_answer_bin(call, slice_of(text, size));
    return store_number(call, &object, text, size);
}

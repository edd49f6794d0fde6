#include "shardd/commands/multiple_pop.h"

#include "libcommon/error.h"

int multiple_pop_read(struct call *call, size_t at, const char *first, const char *last,
                      struct multiple_pop *wanted) {
    int64_t numkeys;
    if (!args_parse_int(call->args[at], &numkeys) || numkeys < 1) {
        return call_refuse(call, SK_BADREQUEST, "numkeys should be greater than 0");
    }
    *wanted = (struct multiple_pop){.keys = call->args + at + 1, .count = 1};
    size_t words = call->count - at - 1; /* behind numkeys */
    if ((uint64_t)numkeys >= words) return call_refuse_syntax(call);
    wanted->key_count = (size_t)numkeys;
    const struct slice *rest = wanted->keys + numkeys;
    size_t left = words - wanted->key_count;
    wanted->from_last = args_is_word(rest[0], last);
    if (!wanted->from_last && !args_is_word(rest[0], first)) return call_refuse_syntax(call);
    if (left == 1) return SK_OK;
    if (left == 2 || !args_is_word(rest[1], "COUNT")) return call_refuse_syntax(call);
    if (!args_parse_int(rest[2], &wanted->count) || wanted->count < 1) {
        return call_refuse(call, SK_BADREQUEST, "count should be greater than 0");
    }
    return left == 3 ? SK_OK : call_refuse_syntax(call);
}

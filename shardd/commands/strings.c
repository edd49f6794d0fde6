/* Strings: GET and SET and their relatives. Semantics, order of checks and texts are Redis 7's. */
#include "shardd/commands/call.h"

#include "libcommon/error.h"
#include "shardd/bitmap.h"

#define SECOND_US       1000000
#define MILLISECOND_US  1000
#define PART_KEPT_BYTES 65536u

static int answer_value(struct call *call, const struct object *object) {
    return object->found ? call_answer_bin(call, object->payload) : call_answer_nil(call);
}

static int refuse_too_long(struct call *call) {
    return call_refuse(call, SK_TOOLARGE, "string exceeds maximum allowed size");
}

/* The options of SET and GETEX */

enum set_flags {
    SET_NX = 1,
    SET_XX = 2,
    SET_IFEQ = 4,
    SET_GET = 8,
    SET_KEEPTTL = 16,
    SET_PERSIST = 32,
    SET_EX = 64,
    SET_PX = 128,
    SET_EXAT = 256,
    SET_PXAT = 512,
};

#define SET_CONDITIONS (SET_NX | SET_XX | SET_IFEQ)
#define SET_EXPIRIES   (SET_KEEPTTL | SET_PERSIST | SET_EX | SET_PX | SET_EXAT | SET_PXAT)

static const struct set_option {
    const char *word;
    unsigned flag;
    unsigned excludes; /* flags that may not have come before; its own may be repeated */
    bool has_argument;
} set_options[] = {
    {"NX", SET_NX, SET_CONDITIONS & ~SET_NX, false},
    {"XX", SET_XX, SET_CONDITIONS & ~SET_XX, false},
    {"IFEQ", SET_IFEQ, SET_CONDITIONS & ~SET_IFEQ, true},
    {"GET", SET_GET, 0, false},
    {"KEEPTTL", SET_KEEPTTL, SET_EXPIRIES & ~SET_KEEPTTL, false},
    {"PERSIST", SET_PERSIST, SET_EXPIRIES & ~SET_PERSIST, false},
    {"EX", SET_EX, SET_EXPIRIES & ~SET_EX, true},
    {"PX", SET_PX, SET_EXPIRIES & ~SET_PX, true},
    {"EXAT", SET_EXAT, SET_EXPIRIES & ~SET_EXAT, true},
    {"PXAT", SET_PXAT, SET_EXPIRIES & ~SET_PXAT, true},
};
#define SET_OPTION_COUNT (sizeof set_options / sizeof set_options[0])

struct options {
    unsigned flags;
    struct slice expiry;   /* argument of EX and its like */
    struct slice expected; /* argument of IFEQ */
};

static const struct set_option *find_option(struct slice word, unsigned allowed) {
    for (size_t i = 0; i < SET_OPTION_COUNT; i++) {
        if ((set_options[i].flag & allowed) && args_is_word(word, set_options[i].word)) return &set_options[i];
    }
    return NULL;
}

/* Options from argument `at` on. False: a syntax error. */
static bool read_options(const struct call *call, size_t at, unsigned allowed, struct options *options) {
    *options = (struct options){0};
    while (at < call->count) {
        const struct set_option *option = find_option(call->args[at++], allowed);
        if (option == NULL || (options->flags & option->excludes)) return false;
        if (option->has_argument && at == call->count) return false;
        options->flags |= option->flag;
        if (option->has_argument)
            *(option->flag == SET_IFEQ ? &options->expected : &options->expiry) = call->args[at++];
    }
    return true;
}

/* The deadline that a positive amount of seconds or milliseconds makes; refuses what is no such amount. */
static int read_deadline(struct call *call, struct slice text, int64_t unit_us, bool from_now,
                         struct call_deadline *deadline) {
    int64_t amount;
    if (!args_parse_int(text, &amount)) return call_refuse_not_int(call);
    if (amount <= 0 || !call_deadline_of(call, amount, unit_us, from_now, deadline)) {
        return call_refuse_expire_time(call);
    }
    return SK_OK;
}

/* None of the options: no deadline, which is not past. */
static int read_option_deadline(struct call *call, const struct options *options, struct call_deadline *deadline) {
    *deadline = (struct call_deadline){0};
    if (!(options->flags & (SET_EX | SET_PX | SET_EXAT | SET_PXAT))) return SK_OK;
    int64_t unit_us = options->flags & (SET_EX | SET_EXAT) ? SECOND_US : MILLISECOND_US;
    return read_deadline(call, options->expiry, unit_us, (options->flags & (SET_EX | SET_PX)) != 0, deadline);
}

/* Setting */

/* Stores a value, or removes the key when its deadline is past already. */
static int set_until(struct call *call, struct object *object, struct slice value,
                     const struct call_deadline *deadline) {
    if (!deadline->past) return call_store_string(call, object, value, deadline->deadline_us);
    return object->found ? keyspace_remove(call->exec, object) : SK_OK;
}

static bool condition_holds(const struct options *options, const struct object *object) {
    if (options->flags & SET_NX) return !object->found;
    if (options->flags & SET_XX) return object->found;
    if (options->flags & SET_IFEQ) return object->found && slice_equal(object->payload, options->expected);
    return true;
}

int execute_set(struct call *call) {
    struct options options;
    struct call_deadline deadline;
    if (!read_options(call, 2, ~(unsigned)SET_PERSIST, &options)) return call_refuse_syntax(call);
    int err = read_option_deadline(call, &options, &deadline);
    if (err != SK_OK) return err;

    struct object object;
    bool looks_inside = (options.flags & (SET_GET | SET_IFEQ)) != 0;
    err = looks_inside ? call_find_string_for_write(call, &object)
                       : keyspace_find_for_write(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    bool holds = condition_holds(&options, &object);
    if (options.flags & SET_GET) {
        answer_value(call, &object);
    } else if (holds) {
        call_answer_ok(call);
    } else {
        call_answer_nil(call);
    }
    if (!holds) return SK_OK;
    if (options.flags & SET_KEEPTTL) deadline.deadline_us = object.found ? object.deadline_us : 0;
    return set_until(call, &object, call->args[1], &deadline);
}

int execute_setnx(struct call *call) {
    struct object object;
    int err = keyspace_find_for_write(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    call_answer_int(call, !object.found);
    return object.found ? SK_OK : call_store_string(call, &object, call->args[1], 0);
}

static int set_for(struct call *call, int64_t unit_us) {
    struct call_deadline deadline;
    int err = read_deadline(call, call->args[1], unit_us, true, &deadline);
    if (err != SK_OK) return err;
    struct object object;
    err = keyspace_find_for_write(call->exec, call->args[0], call->now_us, &object);
    if (err != SK_OK) return err;
    call_answer_ok(call);
    return set_until(call, &object, call->args[2], &deadline);
}

int execute_setex(struct call *call) { return set_for(call, SECOND_US); }

int execute_psetex(struct call *call) { return set_for(call, MILLISECOND_US); }

int execute_getset(struct call *call) {
    struct object object;
    int err = call_find_string_for_write(call, &object);
    if (err != SK_OK) return err;
    answer_value(call, &object);
    return call_store_string(call, &object, call->args[1], 0);
}

static int set_pairs(struct call *call) {
    for (size_t i = 0; i < call->count; i += 2) {
        struct object object;
        int err = keyspace_find_for_write(call->exec, call->args[i], call->now_us, &object);
        if (err == SK_OK) err = call_store_string(call, &object, call->args[i + 1], 0);
        if (err != SK_OK) return err;
    }
    return call_answer_ok(call);
}

/* Only a key whose record is shared with others (a long one) can be refused once the first is stored. */
static bool may_be_refused_midway(const struct call *call) {
    if (call->in_batch) return false;
    for (size_t i = 0; i < call->count; i += 2) {
        if (call->args[i].size > KEYSPACE_KEY_INLINE_MAX) return true;
    }
    return false;
}

int execute_mset(struct call *call) {
    return may_be_refused_midway(call) ? call_all_or_nothing(call, set_pairs) : set_pairs(call);
}

int execute_cas(struct call *call) {
    struct slice expected = call->args[1], value = call->args[2];
    struct object object;
    int err = call_find_string_for_write(call, &object);
    if (err != SK_OK) return err;
    bool holds = args_is_nil(expected) ? !object.found : object.found && slice_equal(object.payload, expected);
    call_answer_int(call, holds);
    if (!holds) return SK_OK;
    if (!args_is_nil(value)) return call_store_string(call, &object, value, object.found ? object.deadline_us : 0);
    return object.found ? keyspace_remove(call->exec, &object) : SK_OK;
}

/* Getting */

int execute_get(struct call *call) {
    struct object object;
    int err = call_find_string(call, &object);
    return err == SK_OK ? answer_value(call, &object) : err;
}

/* [version, value, milliseconds left], the last as PTTL has it: what an HTTP answer tells of a key, without a write between. */
int execute_vget(struct call *call) {
    struct object object;
    int err = call_find_string(call, &object);
    if (err != SK_OK) return err;
    if (!object.found) return call_answer_nil(call);
    mp_write_array(call->answer, 3);
    mp_write_uint(call->answer, object.version);
    mp_write_bin(call->answer, object.payload);
    mp_write_int(call->answer,
                 object.deadline_us == 0 ? -1 : (int64_t)((object.deadline_us - call->now_us + 999) / 1000));
    return SK_OK;
}

int execute_getdel(struct call *call) {
    struct object object;
    int err = call_find_string_for_write(call, &object);
    if (err != SK_OK) return err;
    answer_value(call, &object);
    return object.found ? keyspace_remove(call->exec, &object) : SK_OK;
}

int execute_getex(struct call *call) {
    struct options options;
    struct call_deadline deadline;
    unsigned allowed = SET_EX | SET_PX | SET_EXAT | SET_PXAT | SET_PERSIST;
    if (!read_options(call, 1, allowed, &options)) return call_refuse_syntax(call);
    struct object object;
    int err = call_find_string_for_write(call, &object);
    if (err != SK_OK) return err;
    if (!object.found) return call_answer_nil(call);
    err = read_option_deadline(call, &options, &deadline);
    if (err != SK_OK) return err;
    answer_value(call, &object);
    if (deadline.past) return keyspace_remove(call->exec, &object);
    return options.flags != 0 ? keyspace_set_deadline(call->exec, &object, deadline.deadline_us) : SK_OK;
}

int execute_mget(struct call *call) {
    mp_write_array(call->answer, (uint32_t)call->count);
    for (size_t i = 0; i < call->count; i++) {
        struct object object;
        int err = keyspace_find(call->exec, call->args[i], call->now_us, &object);
        if (err != SK_OK) return err;
        if (object.found && object.type != OBJECT_STRING && object.type != OBJECT_BITMAP) object.found = false;
        err = object.found ? call_load_string(call, &object) : SK_OK;
        if (err != SK_OK) return err;
        answer_value(call, &object);
        err = call_limit_answer(call);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* Parts */

int execute_strlen(struct call *call) {
    struct bitmap bitmap;
    int err = bitmap_find(call, call->args[0], &bitmap);
    return err == SK_OK ? call_answer_int(call, (int64_t)bitmap.size) : err;
}

/* Of one in chunks. */
static int write_into(struct call *call, struct bitmap *bitmap, uint64_t at, struct slice part) {
    if (at + part.size > BITMAP_BYTES_MAX) return refuse_too_long(call);
    int err = bitmap_write(call, bitmap, at, part);
    if (err != SK_OK) return err;
    call_answer_int(call, (int64_t)bitmap->size);
    return bitmap_save(call, bitmap);
}

int execute_append(struct call *call) {
    struct slice more = call->args[1];
    struct bitmap bitmap;
    int err = bitmap_find_for_write(call, call->args[0], &bitmap);
    if (err != SK_OK) return err;
    if (bitmap.chunked) return write_into(call, &bitmap, bitmap.size, more);
    struct object *object = &bitmap.collection.object;
    struct slice old = object->found ? object->payload : slice_of("", 0);
    if (old.size + more.size > VALUE_BYTES_MAX) return refuse_too_long(call);
    call_answer_int(call, (int64_t)(old.size + more.size));
    struct buffer *value =
        keyspace_build(call->exec, object, OBJECT_STRING, object->found ? object->deadline_us : 0);
    buffer_append(value, old.data, old.size);
    buffer_append(value, more.data, more.size);
    return call_put(call, object);
}

/* An index from the end when negative, as a place in a string; before its start is its start. */
static int64_t place_of(int64_t index, int64_t size) {
    if (index >= 0) return index;
    return index + size < 0 ? 0 : index + size;
}

static int answer_range(struct call *call, struct bitmap *bitmap, uint64_t at, uint64_t size) {
    if (!bitmap->chunked) {
        return call_answer_bin(call, slice_of(bitmap->collection.object.payload.data + at, size));
    }
    if (size > VALUE_BYTES_MAX) return refuse_too_long(call);
    struct buffer *part = &call->exec->assembled;
    buffer_clear(part, PART_KEPT_BYTES);
    uint8_t *room = buffer_extend(part, size);
    if (room == NULL) return SK_ENOMEM;
    int err = bitmap_read(call, bitmap, at, room, size);
    return err == SK_OK ? call_answer_bin(call, buffer_slice(part)) : err;
}

int execute_getrange(struct call *call) {
    int64_t start, end;
    if (!args_parse_int(call->args[1], &start) || !args_parse_int(call->args[2], &end)) {
        return call_refuse_not_int(call);
    }
    struct bitmap bitmap;
    int err = bitmap_find(call, call->args[0], &bitmap);
    if (err != SK_OK) return err;
    int64_t size = (int64_t)bitmap.size;
    bool backwards = start < 0 && end < 0 && start > end;
    start = place_of(start, size);
    end = place_of(end, size);
    if (end >= size) end = size - 1;
    if (backwards || start > end || size == 0) return call_answer_bin(call, slice_of("", 0));
    return answer_range(call, &bitmap, (uint64_t)start, (uint64_t)(end - start + 1));
}

/* The old bytes, zeros up to the offset, the new bytes over them, and what of the old stands behind. */
static int write_over(struct call *call, struct object *object, struct slice old, size_t offset,
                      struct slice part) {
    struct buffer *value =
        keyspace_build(call->exec, object, OBJECT_STRING, object->found ? object->deadline_us : 0);
    size_t kept = old.size < offset ? old.size : offset;
    buffer_append(value, old.data, kept);
    uint8_t *gap = buffer_extend(value, offset - kept);
    if (gap != NULL) memset(gap, 0, offset - kept);
    buffer_append(value, part.data, part.size);
    size_t behind = offset + part.size;
    if (behind < old.size) buffer_append(value, old.data + behind, old.size - behind);
    call_answer_int(call, (int64_t)(behind < old.size ? old.size : behind));
    return call_put(call, object);
}

int execute_setrange(struct call *call) {
    int64_t offset;
    struct slice part = call->args[2];
    if (!args_parse_int(call->args[1], &offset)) return call_refuse_not_int(call);
    if (offset < 0) return call_refuse(call, SK_BADREQUEST, "offset is out of range");
    struct bitmap bitmap;
    int err = bitmap_find_for_write(call, call->args[0], &bitmap);
    if (err != SK_OK) return err;
    if (part.size == 0) return call_answer_int(call, (int64_t)bitmap.size);
    if (bitmap.chunked) {
        if ((uint64_t)offset > BITMAP_BYTES_MAX) return refuse_too_long(call);
        return write_into(call, &bitmap, (uint64_t)offset, part);
    }
    struct object *object = &bitmap.collection.object;
    struct slice old = object->found ? object->payload : slice_of("", 0);
    if ((uint64_t)offset + part.size > VALUE_BYTES_MAX) return refuse_too_long(call);
    return write_over(call, object, old, (size_t)offset, part);
}

#include "shardd/commands/call.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/wait_time.h"
#include "shardd/bitmap.h"

#include <stdio.h>

void call_write_text(struct buffer *answer, size_t start, const char *format, va_list values) {
    char text[256];
    vsnprintf(text, sizeof text, format, values);
    for (char *at = text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') *at = '?';
    }
    answer->size = start;
    buffer_append(answer, text, strlen(text));
}

const char *call_name_shown(struct slice name, char room[CALL_NAME_SHOWN_MAX]) {
    size_t size = name.size < CALL_NAME_SHOWN_MAX ? name.size : CALL_NAME_SHOWN_MAX - 1;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = name.data[i];
        room[i] = (char)(byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte);
    }
    room[size] = '\0';
    return room;
}

int call_refuse(struct call *call, int err, const char *format, ...) {
    va_list values;
    va_start(values, format);
    call_write_text(call->answer, call->answer_start, format, values);
    va_end(values);
    return err;
}

int call_refuse_syntax(struct call *call) { return call_refuse(call, SK_BADREQUEST, "syntax error"); }

int call_refuse_wrong_type(struct call *call) {
    return call_refuse(call, SK_WRONGTYPE, "Operation against a key holding the wrong kind of value");
}

int call_refuse_not_int(struct call *call) {
    return call_refuse(call, SK_BADREQUEST, "value is not an integer or out of range");
}

int call_refuse_expire_time(struct call *call) {
    char name[CALL_NAME_SHOWN_MAX];
    call_name_shown(slice_of_text(call->command->name), name);
    return call_refuse(call, SK_BADREQUEST, "invalid expire time in '%s' command", name);
}

int call_answer_ok(struct call *call) {
    mp_write_text(call->answer, "OK");
    return SK_OK;
}

int call_answer_nil(struct call *call) {
    mp_write_nil(call->answer);
    return SK_OK;
}

int call_answer_int(struct call *call, int64_t number) {
    mp_write_int(call->answer, number);
    return SK_OK;
}

int call_answer_bin(struct call *call, struct slice bytes) {
    mp_write_bin(call->answer, bytes);
    return SK_OK;
}

int call_answer_nothing(struct call *call) { return call->waits ? SK_RETRY : call_answer_nil(call); }

size_t call_begin_array(struct call *call) {
    size_t start = call->answer->size;
    mp_write_array(call->answer, UINT32_MAX); /* in the form with four bytes of count */
    return start;
}

int call_check_wait_time(struct call *call, struct slice word) {
    uint64_t wait_ms; /* which the gateway counts */
    const char *text;
    int err = wait_time_read(word, &wait_ms, &text);
    return err == SK_OK ? SK_OK : call_refuse(call, err, "%s", text);
}

void call_end_array(struct call *call, size_t start, uint32_t count) {
    if (call->answer->failed) return;
    uint8_t *at = call->answer->data + start + 1;
    for (unsigned i = 0; i < 4; i++) at[i] = (uint8_t)(count >> (24 - 8 * i));
}

int call_limit_answer(struct call *call) {
    if (call->answer->size - call->answer_start <= RESULT_BYTES_MAX) return SK_OK;
    return call_refuse(call, SK_TOOLARGE, "the answer would be too large");
}

int call_check_name(struct call *call, struct slice name) {
    if (name.size <= KEY_BYTES_MAX) return SK_OK;
    return call_refuse(call, SK_TOOLARGE, "a member or field exceeds the maximum size of %u bytes", KEY_BYTES_MAX);
}

int call_load_string(struct call *call, struct object *object) {
    if (object->type == OBJECT_BITMAP) return bitmap_assemble(call, object, &object->payload);
    return object->type == OBJECT_STRING ? SK_OK : call_refuse_wrong_type(call);
}

static int only_string(struct call *call, int err, struct object *object) {
    return err == SK_OK && object->found ? call_load_string(call, object) : err;
}

int call_find_string(struct call *call, struct object *object) {
    return only_string(call, keyspace_find(call->exec, call->args[0], call->now_us, object), object);
}

int call_find_string_for_write(struct call *call, struct object *object) {
    return only_string(call, keyspace_find_for_write(call->exec, call->args[0], call->now_us, object), object);
}

static int told(struct call *call, int err) {
    if (err != SK_TOOLARGE) return err;
    return call_refuse(call, err, "too many keys with the hash of this one");
}

int call_store_string(struct call *call, struct object *object, struct slice value, uint64_t deadline_us) {
    return told(call, keyspace_store(call->exec, object, OBJECT_STRING, value, deadline_us));
}

int call_put(struct call *call, struct object *object) { return told(call, keyspace_put(call->exec, object)); }

int call_attempt_begin(struct call *call, bool needed, struct call_attempt *attempt) {
    attempt->begun = needed && !call->in_batch;
    return attempt->begun ? exec_attempt_begin(call->exec, &attempt->attempt) : SK_OK;
}

int call_attempt_end(struct call *call, const struct call_attempt *attempt, int err) {
    return attempt->begun ? exec_attempt_end(call->exec, &attempt->attempt, err) : err;
}

int call_all_or_nothing(struct call *call, int (*body)(struct call *call)) {
    sk_assert(!call->in_batch);
    struct call_attempt attempt;
    int err = call_attempt_begin(call, true, &attempt);
    return err == SK_OK ? call_attempt_end(call, &attempt, body(call)) : err;
}

bool call_deadline_of(const struct call *call, int64_t amount, int64_t unit_us, bool from_now,
                      struct call_deadline *deadline) {
    int64_t base_us = from_now ? (int64_t)call->now_us : 0;
    int64_t at_us;
    if (__builtin_mul_overflow(amount, unit_us, &at_us) || __builtin_add_overflow(at_us, base_us, &at_us)) {
        *deadline = (struct call_deadline){.past = true};
        return amount < 0;
    }
    deadline->past = at_us <= 0 || (uint64_t)at_us <= call->now_us;
    deadline->deadline_us = deadline->past ? 0 : (uint64_t)at_us;
    return true;
}

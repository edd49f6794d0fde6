/* BITFIELD: integers of any width within a string. Semantics, order of checks and texts are Redis 7's. */
#include "shardd/bitmap.h"
#include "shardd/commands/bits.h"

#include "libcommon/error.h"

#define FIELD_BYTES_MAX 9u /* 64 bits that do not begin at a byte */

enum kind { KIND_GET, KIND_SET, KIND_INCRBY };
enum overflow { OVERFLOW_WRAP, OVERFLOW_SAT, OVERFLOW_FAIL };

struct field {
    enum kind kind;
    enum overflow overflow;
    bool is_signed;
    unsigned bits; /* 1 to 64, unsigned 63 */
    uint64_t at;   /* its first bit */
    int64_t value; /* to set or to add */
};

/* ---- what is asked ---- */

static int refuse_type(struct call *call) {
    return call_refuse(call, SK_BADREQUEST,
                       "Invalid bitfield type. Use something like i16 u8. "
                       "Note that u64 is not supported but i64 is.");
}

static bool parse_type(struct slice text, struct field *field) {
    int64_t bits;
    if (text.size < 2 || (text.data[0] != 'i' && text.data[0] != 'u')) return false;
    field->is_signed = text.data[0] == 'i';
    if (!args_parse_int(slice_of(text.data + 1, text.size - 1), &bits)) return false;
    if (bits < 1 || bits > (field->is_signed ? 64 : 63)) return false;
    field->bits = (unsigned)bits;
    return true;
}

/* In bits, or with # in fields of this width. */
static bool parse_offset(struct slice text, struct field *field) {
    bool in_fields = text.size > 0 && text.data[0] == '#';
    if (in_fields) text = slice_of(text.data + 1, text.size - 1);
    if (!bits_parse_offset(text, &field->at)) return false;
    if (in_fields) field->at *= field->bits;
    return field->at <= BITS_OFFSET_MAX;
}

static int parse_overflow(struct call *call, struct slice word, enum overflow *overflow) {
    if (args_is_word(word, "WRAP")) *overflow = OVERFLOW_WRAP;
    else if (args_is_word(word, "SAT")) *overflow = OVERFLOW_SAT;
    else if (args_is_word(word, "FAIL")) *overflow = OVERFLOW_FAIL;
    else return call_refuse(call, SK_BADREQUEST, "Invalid OVERFLOW type specified");
    return SK_OK;
}

/* Walks over the operations; `at` is the argument that comes next. */
struct reader {
    size_t at;
    enum overflow overflow;
};

/* SK_OK; SK_NOT_FOUND behind the last; a refusal. */
static int read_field(struct call *call, struct reader *reader, struct field *field) {
    while (reader->at < call->count) {
        size_t left = call->count - reader->at - 1;
        const struct slice *word = &call->args[reader->at];
        if (args_is_word(word[0], "OVERFLOW") && left >= 1) {
            int err = parse_overflow(call, word[1], &reader->overflow);
            if (err != SK_OK) return err;
            reader->at += 2;
            continue;
        }
        if (args_is_word(word[0], "GET") && left >= 2) field->kind = KIND_GET;
        else if (args_is_word(word[0], "SET") && left >= 3) field->kind = KIND_SET;
        else if (args_is_word(word[0], "INCRBY") && left >= 3) field->kind = KIND_INCRBY;
        else return call_refuse_syntax(call);
        field->overflow = reader->overflow;
        if (!parse_type(word[1], field)) return refuse_type(call);
        if (!parse_offset(word[2], field)) return bits_refuse_offset(call);
        bool has_value = field->kind != KIND_GET;
        if (has_value && !args_parse_int(word[3], &field->value)) return call_refuse_not_int(call);
        reader->at += has_value ? 4 : 3;
        return SK_OK;
    }
    return SK_NOT_FOUND;
}

/* What all operations need together. */
struct plan {
    uint32_t count;
    bool writes;
    uint64_t write_end; /* bytes up to which the string must reach */
};

static int make_plan(struct call *call, struct plan *plan) {
    struct reader reader = {.at = 1};
    struct field field;
    int err;
    *plan = (struct plan){0};
    while ((err = read_field(call, &reader, &field)) == SK_OK) {
        uint64_t end = (field.at + field.bits + 7) / 8;
        plan->count++;
        if (field.kind == KIND_GET) continue;
        plan->writes = true;
        if (end > plan->write_end) plan->write_end = end;
    }
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* ---- arithmetic ---- */

static __int128 least(const struct field *field) {
    return field->is_signed ? -((__int128)1 << (field->bits - 1)) : 0;
}

static __int128 greatest(const struct field *field) {
    return ((__int128)1 << (field->is_signed ? field->bits - 1 : field->bits)) - 1;
}

/* The lowest bits of a number, as a field has them. */
static __int128 wrap(const struct field *field, __int128 number) {
    __int128 range = (__int128)1 << field->bits;
    __int128 low = number & (range - 1);
    return low > greatest(field) ? low - range : low;
}

/* What becomes of a number that may not fit. False: it is refused. */
static bool fit(const struct field *field, __int128 *number) {
    if (*number >= least(field) && *number <= greatest(field)) return true;
    if (field->overflow == OVERFLOW_FAIL) return false;
    if (field->overflow == OVERFLOW_WRAP) *number = wrap(field, *number);
    else *number = *number < least(field) ? least(field) : greatest(field);
    return true;
}

/* What it is set to, before it is made to fit: a negative number is a large one for a field without sign. */
static __int128 wanted(const struct field *field, __int128 old) {
    if (field->kind == KIND_INCRBY) return old + field->value;
    return field->is_signed ? field->value : (__int128)(uint64_t)field->value;
}

/* ---- fields in bytes ---- */

/* The bytes that a field lies in, as one number. */
static size_t field_bytes(const struct field *field) { return (size_t)((field->at % 8 + field->bits + 7) / 8); }

static unsigned bits_behind(const struct field *field) {
    return (unsigned)(field_bytes(field) * 8 - field->at % 8 - field->bits);
}

static int read_number(struct call *call, struct bitmap *bitmap, const struct field *field,
                       unsigned __int128 *raw) {
    uint8_t bytes[FIELD_BYTES_MAX];
    int err = bitmap_read(call, bitmap, field->at / 8, bytes, field_bytes(field));
    *raw = 0;
    for (size_t i = 0; i < field_bytes(field); i++) *raw = *raw << 8 | bytes[i];
    return err;
}

static int write_number(struct call *call, struct bitmap *bitmap, const struct field *field, unsigned __int128 raw,
                        __int128 number) {
    uint8_t bytes[FIELD_BYTES_MAX];
    size_t size = field_bytes(field);
    unsigned __int128 mask = (((unsigned __int128)1 << field->bits) - 1) << bits_behind(field);
    raw = (raw & ~mask) | (((unsigned __int128)number << bits_behind(field)) & mask);
    for (size_t i = size; i-- > 0; raw >>= 8) bytes[i] = (uint8_t)raw;
    return bitmap_write(call, bitmap, field->at / 8, slice_of(bytes, size));
}

/* ---- the command ---- */

static int do_field(struct call *call, struct bitmap *bitmap, const struct field *field) {
    unsigned __int128 raw;
    int err = read_number(call, bitmap, field, &raw);
    if (err != SK_OK) return err;
    __int128 old = wrap(field, (__int128)(raw >> bits_behind(field)));
    if (field->kind == KIND_GET) return call_answer_int(call, (int64_t)old);
    __int128 number = wanted(field, old);
    if (!fit(field, &number)) return call_answer_nil(call);
    call_answer_int(call, (int64_t)(field->kind == KIND_SET ? old : number));
    return write_number(call, bitmap, field, raw, number);
}

static int do_fields(struct call *call, struct bitmap *bitmap, const struct plan *plan) {
    struct reader reader = {.at = 1};
    struct field field;
    int err;
    mp_write_array(call->answer, plan->count);
    while ((err = read_field(call, &reader, &field)) == SK_OK) {
        err = do_field(call, bitmap, &field);
        if (err != SK_OK) return err;
    }
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* A string that is written to reaches as far as any of the writes, also one that is refused. */
int execute_bitfield(struct call *call) {
    struct plan plan;
    struct bitmap bitmap;
    int err = make_plan(call, &plan);
    if (err == SK_OK) err = bitmap_find_for_write(call, call->args[0], &bitmap);
    if (err == SK_OK && plan.writes) err = bitmap_grow(call, &bitmap, plan.write_end);
    if (err == SK_OK) err = do_fields(call, &bitmap, &plan);
    return err == SK_OK && plan.writes ? bitmap_save(call, &bitmap) : err;
}

int execute_bitfield_ro(struct call *call) {
    struct plan plan;
    struct bitmap bitmap;
    int err = make_plan(call, &plan);
    if (err != SK_OK) return err;
    if (plan.writes) return call_refuse(call, SK_BADREQUEST, "BITFIELD_RO only supports the GET subcommand");
    err = bitmap_find(call, call->args[0], &bitmap);
    return err == SK_OK ? do_fields(call, &bitmap, &plan) : err;
}

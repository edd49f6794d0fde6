/* Bits of strings: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the highest of the first byte. Semantics, order of checks
 * and texts are Redis 7's. */
#include "shardd/commands/bits.h"
#include "shardd/bitmap.h"

#include "libcommon/error.h"

#include <stdlib.h>

#define BITOP_READ_MAX   32768u /* chunks that are read, of all sources together: some 0.2 s */
#define BITOP_CHUNKS_MAX 16384u /* of a result that are not all zero: 64 MiB */

bool bits_parse_offset(struct slice text, uint64_t *offset) {
    int64_t number;
    if (!args_parse_int(text, &number) || number < 0 || number > (int64_t)BITS_OFFSET_MAX) return false;
    *offset = (uint64_t)number;
    return true;
}

int bits_refuse_offset(struct call *call) {
    return call_refuse(call, SK_BADREQUEST, "bit offset is not an integer or out of range");
}

static uint8_t mask_of(uint64_t offset) { return (uint8_t)(0x80u >> (offset % 8)); }

int execute_setbit(struct call *call) {
    uint64_t offset;
    int64_t bit;
    if (!bits_parse_offset(call->args[1], &offset)) return bits_refuse_offset(call);
    if (!args_parse_int(call->args[2], &bit) || bit < 0 || bit > 1) {
        return call_refuse(call, SK_BADREQUEST, "bit is not an integer or out of range");
    }
    struct bitmap bitmap;
    uint8_t byte = 0;
    int err = bitmap_find_for_write(call, call->args[0], &bitmap);
    if (err == SK_OK) err = bitmap_read(call, &bitmap, offset / 8, &byte, 1);
    if (err != SK_OK) return err;
    call_answer_int(call, (byte & mask_of(offset)) != 0);
    byte = (uint8_t)(bit ? byte | mask_of(offset) : byte & ~mask_of(offset));
    err = bitmap_write(call, &bitmap, offset / 8, slice_of(&byte, 1));
    return err == SK_OK ? bitmap_save(call, &bitmap) : err;
}

int execute_getbit(struct call *call) {
    uint64_t offset;
    if (!bits_parse_offset(call->args[1], &offset)) return bits_refuse_offset(call);
    struct bitmap bitmap;
    uint8_t byte = 0;
    int err = bitmap_find(call, call->args[0], &bitmap);
    if (err == SK_OK) err = bitmap_read(call, &bitmap, offset / 8, &byte, 1);
    return err == SK_OK ? call_answer_int(call, (byte & mask_of(offset)) != 0) : err;
}

/* ---- ranges ---- */

/* Bits from `first` up to `end`, not included. */
struct range {
    uint64_t first, end;
};

/* What is left of a byte when only its bits within the range count; the others become `others` (0 or 1). */
static uint8_t clip(const struct range *range, uint64_t byte_at, uint8_t byte, unsigned others) {
    uint8_t inside = 0xff;
    if (range->first > byte_at * 8) inside &= (uint8_t)(0xffu >> (range->first - byte_at * 8));
    if (range->end < byte_at * 8 + 8) inside &= (uint8_t)(0xffu << (byte_at * 8 + 8 - range->end));
    return (uint8_t)((byte & inside) | (others ? (uint8_t)~inside : 0));
}

/* start and end of BITCOUNT and BITPOS as they were given, and their unit. */
struct bounds {
    int64_t start, end;
    bool is_bits;
    bool end_given;
};

static bool parse_unit(struct slice word, bool *is_bits) {
    *is_bits = args_is_word(word, "BIT");
    return *is_bits || args_is_word(word, "BYTE");
}

/* Counted from the end where negative, and cut to the string of `size` bytes. False: it is empty. */
static bool resolve(const struct bounds *bounds, uint64_t size, struct range *range) {
    int64_t total = (int64_t)(bounds->is_bits ? size * 8 : size);
    int64_t start = bounds->start < 0 ? bounds->start + total : bounds->start;
    int64_t end = bounds->end < 0 ? bounds->end + total : bounds->end;
    if (start < 0) start = 0;
    if (end < 0) end = 0;
    if (end >= total) end = total - 1;
    uint64_t unit = bounds->is_bits ? 1 : 8;
    *range = (struct range){.first = (uint64_t)start * unit, .end = (uint64_t)(end + 1) * unit};
    return start <= end;
}

static uint64_t count_in(const struct range *range, uint64_t at, struct slice bytes) {
    uint64_t first = range->first / 8, end = (range->end + 7) / 8, count = 0;
    uint64_t from = first > at ? first : at, to = end < at + bytes.size ? end : at + bytes.size;
    for (uint64_t i = from; i < to; i++) {
        uint8_t byte = clip(range, i, bytes.data[i - at], 0);
        count += (uint64_t)__builtin_popcount(byte);
    }
    return count;
}

static int answer_count(struct call *call, struct bitmap *bitmap, const struct range *range) {
    uint64_t count = 0, next = range->first / 8, at;
    struct slice bytes;
    int err;
    while ((err = bitmap_next(call, bitmap, next, &at, &bytes)) == SK_OK && at * 8 < range->end) {
        count += count_in(range, at, bytes);
        next = at + bytes.size;
    }
    return err == SK_OK || err == SK_NOT_FOUND ? call_answer_int(call, (int64_t)count) : err;
}

int execute_bitcount(struct call *call) {
    struct bitmap bitmap;
    struct bounds bounds = {.start = 0, .end = -1};
    struct range range;
    int err = bitmap_find(call, call->args[0], &bitmap);
    if (err != SK_OK) return err;
    if (!bitmap.collection.object.found) return call_answer_int(call, 0);
    if (call->count == 2 || call->count > 4) return call_refuse_syntax(call);
    if (call->count > 2) {
        if (!args_parse_int(call->args[1], &bounds.start) || !args_parse_int(call->args[2], &bounds.end)) {
            return call_refuse_not_int(call);
        }
        if (bounds.start < 0 && bounds.end < 0 && bounds.start > bounds.end) return call_answer_int(call, 0);
    }
    if (call->count == 4 && !parse_unit(call->args[3], &bounds.is_bits)) return call_refuse_syntax(call);
    return resolve(&bounds, bitmap.size, &range) ? answer_count(call, &bitmap, &range) : call_answer_int(call, 0);
}

/* The first bit of `bytes` that is `bit`, within the range. False: none. */
static bool find_in(const struct range *range, uint64_t at, struct slice bytes, unsigned bit, uint64_t *found) {
    uint64_t first = range->first / 8, end = (range->end + 7) / 8;
    uint64_t from = first > at ? first : at, to = end < at + bytes.size ? end : at + bytes.size;
    for (uint64_t i = from; i < to; i++) {
        uint8_t byte = clip(range, i, bytes.data[i - at], !bit);
        if (!bit) byte = (uint8_t)~byte;
        if (byte == 0) continue;
        *found = i * 8 + (uint64_t)__builtin_clz(byte) - 24;
        return true;
    }
    return false;
}

/* The position of the first bit in the range, `range->end` if there is none. What is not stored is zeros. */
static int find_bit(struct call *call, struct bitmap *bitmap, const struct range *range, unsigned bit,
                    uint64_t *position) {
    uint64_t next = range->first / 8, at;
    struct slice bytes;
    int err = SK_OK;
    *position = range->end;
    while (next * 8 < range->end) {
        err = bitmap_next(call, bitmap, next, &at, &bytes);
        if (err != SK_OK || at * 8 >= range->end) at = (range->end + 7) / 8; /* zeros up to there */
        if (err != SK_OK && err != SK_NOT_FOUND) return err;
        if (!bit && at > next) { /* the first of the zeros that are not stored */
            *position = next * 8 > range->first ? next * 8 : range->first;
            return SK_OK;
        }
        if (err == SK_NOT_FOUND || at * 8 >= range->end) return SK_OK;
        if (find_in(range, at, bytes, bit, position)) return SK_OK;
        next = at + bytes.size;
    }
    return SK_OK;
}

static int read_bounds(struct call *call, struct bounds *bounds) {
    *bounds = (struct bounds){.start = 0, .end = -1, .end_given = call->count > 3};
    if (call->count > 5) return call_refuse_syntax(call);
    if (call->count > 2 && !args_parse_int(call->args[2], &bounds->start)) return call_refuse_not_int(call);
    if (call->count > 4 && !parse_unit(call->args[4], &bounds->is_bits)) return call_refuse_syntax(call);
    if (call->count > 3 && !args_parse_int(call->args[3], &bounds->end)) return call_refuse_not_int(call);
    return SK_OK;
}

/* A string is taken as followed by zeros, unless the end of the range was given. */
int execute_bitpos(struct call *call) {
    int64_t bit;
    struct bounds bounds;
    struct range range;
    if (!args_parse_int(call->args[1], &bit)) return call_refuse_not_int(call);
    if (bit != 0 && bit != 1) return call_refuse(call, SK_BADREQUEST, "The bit argument must be 1 or 0.");
    struct bitmap bitmap;
    int err = bitmap_find(call, call->args[0], &bitmap);
    if (err != SK_OK) return err;
    if (!bitmap.collection.object.found) return call_answer_int(call, bit ? -1 : 0);
    err = read_bounds(call, &bounds);
    if (err != SK_OK) return err;
    if (!resolve(&bounds, bitmap.size, &range)) return call_answer_int(call, -1);
    uint64_t position;
    err = find_bit(call, &bitmap, &range, (unsigned)bit, &position);
    if (err != SK_OK) return err;
    bool none = position == range.end && (bit || bounds.end_given);
    return call_answer_int(call, none ? -1 : (int64_t)position);
}

/* ---- BITOP ---- */

enum bitop { BITOP_AND, BITOP_OR, BITOP_XOR, BITOP_NOT, BITOP_COUNT };

static bool parse_operation(struct slice word, enum bitop *operation) {
    static const char *const names[BITOP_COUNT] = {"AND", "OR", "XOR", "NOT"};
    for (int i = 0; i < BITOP_COUNT; i++) {
        if (!args_is_word(word, names[i])) continue;
        *operation = (enum bitop)i;
        return true;
    }
    return false;
}

/* The result while it is put together: numbers of chunks, each with its bytes. All of it is read before anything changes, and is
 * not among the exec's buffers: finding a target that has expired removes its elements, which takes one of those. */
struct operation {
    enum bitop kind;
    struct bitmap *sources; /* owned */
    size_t source_count;
    uint64_t size;        /* of the longest */
    struct buffer chunks; /* number (8 bytes), BITMAP_CHUNK_BYTES bytes, and so on */
    uint32_t chunk_count;
};

/* The next chunk that any source has, from `number` on; of NOT each one up to the end. SK_NOT_FOUND: there is none. */
static int next_chunk(struct call *call, const struct operation *operation, uint64_t *number) {
    uint64_t next = UINT64_MAX, from = *number * BITMAP_CHUNK_BYTES, at;
    struct slice bytes;
    if (from >= operation->size) return SK_NOT_FOUND;
    if (operation->kind == BITOP_NOT) return SK_OK;
    for (size_t i = 0; i < operation->source_count; i++) {
        int err = bitmap_next(call, &operation->sources[i], from, &at, &bytes);
        if (err == SK_OK && at / BITMAP_CHUNK_BYTES < next) next = at / BITMAP_CHUNK_BYTES;
        if (err != SK_OK && err != SK_NOT_FOUND) return err;
    }
    *number = next;
    return next == UINT64_MAX ? SK_NOT_FOUND : SK_OK;
}

static void combine(enum bitop kind, uint8_t *result, const uint8_t *bytes) {
    for (size_t i = 0; i < BITMAP_CHUNK_BYTES; i++) {
        if (kind == BITOP_AND) result[i] &= bytes[i];
        else if (kind == BITOP_OR) result[i] |= bytes[i];
        else if (kind == BITOP_XOR) result[i] ^= bytes[i];
        else result[i] = (uint8_t)~result[i];
    }
}

static int make_chunk(struct call *call, struct operation *operation, uint64_t number) {
    uint8_t result[BITMAP_CHUNK_BYTES], bytes[BITMAP_CHUNK_BYTES];
    for (size_t i = 0; i < operation->source_count; i++) {
        uint8_t *room = i == 0 ? result : bytes;
        int err = bitmap_read(call, &operation->sources[i], number * BITMAP_CHUNK_BYTES, room, sizeof bytes);
        if (err != SK_OK) return err;
        if (i > 0) combine(operation->kind, result, bytes);
    }
    if (operation->kind == BITOP_NOT) combine(BITOP_NOT, result, bytes);
    buffer_append(&operation->chunks, &number, sizeof number);
    buffer_append(&operation->chunks, result, sizeof result);
    operation->chunk_count++;
    return operation->chunks.failed ? SK_ENOMEM : SK_OK;
}

static int make_result(struct call *call, struct operation *operation) {
    uint64_t number = 0;
    int err;
    for (; (err = next_chunk(call, operation, &number)) == SK_OK; number++) {
        bool is_much = (operation->chunk_count + 1) * operation->source_count > BITOP_READ_MAX;
        if (operation->chunk_count == BITOP_CHUNKS_MAX || is_much) {
            return call_refuse(call, SK_TOOLARGE, "the result of BITOP would be too large");
        }
        err = make_chunk(call, operation, number);
        if (err != SK_OK) return err;
    }
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int store_result(struct call *call, const struct operation *operation) {
    struct bitmap target;
    int err = bitmap_replace(call, call->args[1], &target);
    if (err == SK_OK) err = bitmap_grow(call, &target, operation->size);
    for (uint32_t i = 0; err == SK_OK && i < operation->chunk_count; i++) {
        const uint8_t *chunk = operation->chunks.data + i * (size_t)(8 + BITMAP_CHUNK_BYTES);
        uint64_t number;
        memcpy(&number, chunk, sizeof number);
        uint64_t at = number * BITMAP_CHUNK_BYTES, left = operation->size - at;
        size_t size = left < BITMAP_CHUNK_BYTES ? (size_t)left : BITMAP_CHUNK_BYTES;
        err = bitmap_write(call, &target, at, slice_of(chunk + 8, size));
    }
    if (err != SK_OK) return err;
    call_answer_int(call, (int64_t)operation->size);
    return bitmap_save_until(call, &target, 0);
}

static int operate(struct call *call, struct operation *operation) {
    for (size_t i = 0; i < operation->source_count; i++) {
        struct bitmap *source = &operation->sources[i];
        int err = bitmap_find(call, call->args[2 + i], source);
        if (err != SK_OK) return err;
        if (source->size > operation->size) operation->size = source->size;
    }
    int err = make_result(call, operation);
    return err == SK_OK ? store_result(call, operation) : err;
}

int execute_bitop(struct call *call) {
    struct operation operation = {.source_count = call->count - 2};
    if (!parse_operation(call->args[0], &operation.kind)) return call_refuse_syntax(call);
    if (operation.kind == BITOP_NOT && operation.source_count != 1) {
        return call_refuse(call, SK_BADREQUEST, "BITOP NOT must be called with a single source key.");
    }
    operation.sources = malloc(operation.source_count * sizeof *operation.sources);
    if (operation.sources == NULL) return SK_ENOMEM;
    buffer_init(&operation.chunks);
    int err = operate(call, &operation);
    buffer_deinit(&operation.chunks);
    free(operation.sources);
    return err;
}

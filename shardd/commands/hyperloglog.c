/* HyperLogLog: PFADD PFCOUNT PFMERGE. The sketch is a string of Redis's form, so that it can be moved between the two by GET and
 * SET, and its counts are the same:
 *
 *   "HYLL" ‖ encoding (1 byte) ‖ 3 zeros ‖ cached count (8 bytes, little-endian; we leave it marked as void) ‖ registers
 *
 * 16384 registers of 6 bits (Flajolet et al., 2007), counted by Ertl's estimator ("New cardinality estimation algorithms for
 * HyperLogLog sketches", 2017). Dense: packed, from the lowest bit of the first byte on. Sparse: runs of equal registers,
 * 00xxxxxx (1 to 64 zeros), 01xxxxxx yyyyyyyy (1 to 16384 zeros), 1vvvvvxx (1 to 4 times 1 to 32). */
#include "shardd/commands/call.h"

#include "libcommon/error.h"

#include <math.h>

#define REGISTERS        16384u
#define INDEX_BITS       14u
#define RANK_BITS        50u /* of the hash, behind those of the index */
#define HEADER_BYTES     16u
#define DENSE_BYTES      (HEADER_BYTES + REGISTERS * 6 / 8)
#define SPARSE_BYTES_MAX 3000u /* longer ones become dense, as by Redis's default */
#define SPARSE_VALUE_MAX 32u
#define VOID_COUNT_AT    15u /* the highest bit of the cached count */
#define HASH_SEED        0xadc83b19u

enum encoding { ENCODING_DENSE, ENCODING_SPARSE };

struct sketch {
    uint8_t registers[REGISTERS];
    bool dense; /* once a sketch is, it stays so */
};

/* ---- elements ---- */

/* MurmurHash64A (Appleby, 2008), as Redis takes it: words are read little-endian. */
static uint64_t hash_of(struct slice bytes) {
    const uint64_t m = 0xc6a4a7935bd1e995u;
    uint64_t hash = HASH_SEED ^ bytes.size * m;
    size_t whole = bytes.size & ~(size_t)7;
    for (size_t at = 0; at < whole; at += 8) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 8; i++) word |= (uint64_t)bytes.data[at + i] << (8 * i);
        word *= m;
        word ^= word >> 47;
        hash = (hash ^ word * m) * m;
    }
    if (whole < bytes.size) {
        for (size_t i = whole; i < bytes.size; i++) hash ^= (uint64_t)bytes.data[i] << (8 * (i - whole));
        hash *= m;
    }
    hash ^= hash >> 47;
    hash *= m;
    return hash ^ hash >> 47;
}

/* Whether a register has changed. */
static bool add(struct sketch *sketch, struct slice element) {
    uint64_t hash = hash_of(element);
    uint8_t *reg = &sketch->registers[hash % REGISTERS];
    uint64_t rest = hash >> INDEX_BITS | 1ull << RANK_BITS; /* which ends the run of zeros */
    uint8_t rank = (uint8_t)(__builtin_ctzll(rest) + 1);
    if (rank <= *reg) return false;
    *reg = rank;
    return true;
}

/* ---- as bytes ---- */

static void decode_dense(struct slice packed, struct sketch *sketch) {
    for (uint32_t i = 0; i < REGISTERS; i++) {
        size_t byte = i * 6 / 8;
        unsigned bits = packed.data[byte];
        if (byte + 1 < packed.size) bits |= (unsigned)packed.data[byte + 1] << 8;
        sketch->registers[i] = (uint8_t)(bits >> (i * 6 % 8) & 63);
    }
}

static bool decode_sparse(struct slice runs, struct sketch *sketch) {
    uint32_t at = 0;
    for (size_t i = 0; i < runs.size; i++) {
        uint8_t code = runs.data[i], value = 0;
        uint32_t length = (code & 0x3fu) + 1;
        if ((code & 0xc0) == 0x40) {
            if (++i == runs.size) return false;
            length = ((code & 0x3fu) << 8 | runs.data[i]) + 1;
        } else if (code & 0x80) {
            value = (uint8_t)((code >> 2 & 0x1f) + 1);
            length = (code & 3u) + 1;
        }
        if (length > REGISTERS - at) return false;
        memset(sketch->registers + at, value, length);
        at += length;
    }
    return at == REGISTERS;
}

/* False: it looks like a sketch and is none. */
static bool decode(struct slice bytes, struct sketch *sketch) {
    struct slice body = slice_of(bytes.data + HEADER_BYTES, bytes.size - HEADER_BYTES);
    sketch->dense = bytes.data[4] == ENCODING_DENSE;
    if (!sketch->dense) return decode_sparse(body, sketch);
    decode_dense(body, sketch);
    return true;
}

static bool is_sketch(struct slice bytes) {
    if (bytes.size < HEADER_BYTES || memcmp(bytes.data, "HYLL", 4) != 0 || bytes.data[4] > ENCODING_SPARSE)
        return false;
    return bytes.data[4] != ENCODING_DENSE || bytes.size == DENSE_BYTES;
}

static uint32_t run_length(const struct sketch *sketch, uint32_t at, uint32_t max) {
    uint32_t length = 1;
    while (length < max && at + length < REGISTERS && sketch->registers[at + length] == sketch->registers[at])
        length++;
    return length;
}

/* The runs' bytes into `room`; 0: they do not fit, or a value does not. */
static size_t encode_sparse(const struct sketch *sketch, uint8_t room[SPARSE_BYTES_MAX]) {
    size_t size = 0;
    for (uint32_t at = 0; at < REGISTERS;) {
        uint8_t value = sketch->registers[at];
        uint32_t length = run_length(sketch, at, value == 0 ? REGISTERS : 4);
        if (value > SPARSE_VALUE_MAX || size + 2 > SPARSE_BYTES_MAX - HEADER_BYTES) return 0;
        if (value > 0) {
            room[size++] = (uint8_t)(0x80u | (value - 1u) << 2 | (length - 1));
        } else if (length <= 64) {
            room[size++] = (uint8_t)(length - 1);
        } else {
            room[size++] = (uint8_t)(0x40u | (length - 1) >> 8);
            room[size++] = (uint8_t)(length - 1);
        }
        at += length;
    }
    return size;
}

static void encode_dense(const struct sketch *sketch, uint8_t *packed) {
    memset(packed, 0, DENSE_BYTES - HEADER_BYTES);
    for (uint32_t i = 0; i < REGISTERS; i++) {
        size_t byte = i * 6 / 8;
        unsigned bits = (unsigned)sketch->registers[i] << (i * 6 % 8);
        packed[byte] |= (uint8_t)bits;
        if (bits > 0xff) packed[byte + 1] |= (uint8_t)(bits >> 8);
    }
}

static int store(struct call *call, struct object *object, const struct sketch *sketch) {
    uint8_t bytes[DENSE_BYTES] = "HYLL";
    bytes[VOID_COUNT_AT] = 0x80;
    size_t size = sketch->dense ? 0 : encode_sparse(sketch, bytes + HEADER_BYTES);
    bytes[4] = size > 0 ? ENCODING_SPARSE : ENCODING_DENSE;
    if (size == 0) {
        encode_dense(sketch, bytes + HEADER_BYTES);
        size = DENSE_BYTES - HEADER_BYTES;
    }
    uint64_t deadline_us = object->found ? object->deadline_us : 0;
    return call_store_string(call, object, slice_of(bytes, HEADER_BYTES + size), deadline_us);
}

/* ---- counting ---- */

static double sigma(double x) {
    if (x == 1) return INFINITY;
    double y = 1, z = x, before;
    do {
        x *= x;
        before = z;
        z += x * y;
        y += y;
    } while (z != before);
    return z;
}

static double tau(double x) {
    if (x == 0 || x == 1) return 0;
    double y = 1, z = 1 - x, before;
    do {
        x = sqrt(x);
        before = z;
        y *= 0.5;
        z -= (1 - x) * (1 - x) * y;
    } while (z != before);
    return z / 3;
}

static int64_t estimate(const struct sketch *sketch) {
    const double m = REGISTERS, alpha = 0.721347520444481703680; /* 1 / (2 ln 2) */
    uint32_t counts[64] = {0};
    for (uint32_t i = 0; i < REGISTERS; i++) counts[sketch->registers[i]]++;
    double z = m * tau((m - counts[RANK_BITS + 1]) / m);
    for (unsigned rank = RANK_BITS; rank >= 1; rank--) z = (z + counts[rank]) * 0.5;
    z += m * sigma(counts[0] / m);
    return (int64_t)llround(alpha * m * m / z);
}

/* ---- commands ---- */

/* The sketch of an object; empty where there is none. */
static int load(struct call *call, struct object *object, struct sketch *sketch) {
    memset(sketch, 0, sizeof *sketch);
    if (!object->found) return SK_OK;
    int err = call_load_string(call, object);
    if (err != SK_OK) return err;
    if (!is_sketch(object->payload)) {
        return call_refuse(call, SK_WRONGTYPE, "Key is not a valid HyperLogLog string value.");
    }
    if (decode(object->payload, sketch)) return SK_OK;
    return call_refuse(call, SK_BADVALUE, "Corrupted HLL object detected");
}

int execute_pfadd(struct call *call) {
    struct object object;
    struct sketch sketch;
    int err = keyspace_find_for_write(call->exec, call->args[0], call->now_us, &object);
    if (err == SK_OK) err = load(call, &object, &sketch);
    if (err != SK_OK) return err;
    bool changed = !object.found;
    for (size_t i = 1; i < call->count; i++) changed = add(&sketch, call->args[i]) || changed;
    call_answer_int(call, changed);
    return changed ? store(call, &object, &sketch) : SK_OK;
}

static void merge(struct sketch *sketch, const struct sketch *other) {
    sketch->dense = sketch->dense || other->dense;
    for (uint32_t i = 0; i < REGISTERS; i++) {
        if (other->registers[i] > sketch->registers[i]) sketch->registers[i] = other->registers[i];
    }
}

/* All keys of the command together. */
static int merge_all(struct call *call, struct sketch *sketch) {
    memset(sketch, 0, sizeof *sketch);
    for (size_t i = 0; i < call->count; i++) {
        struct object object;
        struct sketch other;
        int err = keyspace_find(call->exec, call->args[i], call->now_us, &object);
        if (err == SK_OK) err = load(call, &object, &other);
        if (err != SK_OK) return err;
        merge(sketch, &other);
    }
    return SK_OK;
}

int execute_pfcount(struct call *call) {
    struct sketch sketch;
    int err = merge_all(call, &sketch);
    return err == SK_OK ? call_answer_int(call, estimate(&sketch)) : err;
}

int execute_pfmerge(struct call *call) {
    struct object target;
    struct sketch sketch;
    int err = merge_all(call, &sketch);
    if (err == SK_OK) err = keyspace_find_for_write(call->exec, call->args[0], call->now_us, &target);
    if (err != SK_OK) return err;
    call_answer_ok(call);
    return store(call, &target, &sketch);
}

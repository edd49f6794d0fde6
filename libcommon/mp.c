#include "mp.h"

#include "error.h"

/* https://github.com/msgpack/msgpack/blob/master/spec.md: the first byte says type and, for small values, the
 * value; numbers and lengths are big-endian. */

static inline uint16_t load16(const uint8_t *at) {
    uint16_t number;
    memcpy(&number, at, sizeof number);
    return __builtin_bswap16(number);
}

static inline uint32_t load32(const uint8_t *at) {
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return __builtin_bswap32(number);
}

static inline uint64_t load64(const uint8_t *at) {
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return __builtin_bswap64(number);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the loads swap");

/* Steps over `size` bytes and points at them; NULL when fewer are left. */
static inline const uint8_t *advance(struct mp_reader *reader, size_t size) {
    if (mp_left(reader) < size) return NULL;
    const uint8_t *at = reader->at;
    reader->at += size;
    return at;
}

/* A big-endian length of 1, 2 or 4 bytes. */
static inline bool read_length(struct mp_reader *reader, size_t width, uint32_t *length) {
    const uint8_t *at = advance(reader, width);
    if (at == NULL) return false;
    *length = width == 1 ? at[0] : width == 2 ? load16(at) : load32(at);
    return true;
}

static inline int read_run(struct mp_reader *reader, struct mp_value *value, enum mp_type type, size_t size) {
    const uint8_t *at = advance(reader, size);
    if (at == NULL) return SK_EPROTO;
    value->type = type;
    value->bytes = slice_of(at, size);
    return SK_OK;
}

static inline int read_run_of(struct mp_reader *reader, struct mp_value *value, enum mp_type type, size_t width) {
    uint32_t size;
    if (!read_length(reader, width, &size)) return SK_EPROTO;
    /* An ext's length leaves out its type byte. */
    if (type == MP_EXT && advance(reader, 1) == NULL) return SK_EPROTO;
    return read_run(reader, value, type, size);
}

static inline int read_fixed_ext(struct mp_reader *reader, struct mp_value *value, size_t size) {
    if (advance(reader, 1) == NULL) return SK_EPROTO;
    return read_run(reader, value, MP_EXT, size);
}

/* Every element takes a byte at least, so a count beyond the bytes left is a lie; a caller may size by it. */
static inline int read_container(struct mp_reader *reader, struct mp_value *value, enum mp_type type,
                                 uint32_t count) {
    uint64_t elements = type == MP_MAP ? 2 * (uint64_t)count : count;
    if (elements > mp_left(reader)) return SK_EPROTO;
    value->type = type;
    value->count = count;
    return SK_OK;
}

static inline int read_container_of(struct mp_reader *reader, struct mp_value *value, enum mp_type type,
                                    size_t width) {
    uint32_t count;
    if (!read_length(reader, width, &count)) return SK_EPROTO;
    return read_container(reader, value, type, count);
}

static inline int give_uint(struct mp_value *value, uint64_t number) {
    value->type = MP_UINT;
    value->uint = number;
    return SK_OK;
}

static inline int give_int(struct mp_value *value, int64_t number) {
    if (number >= 0) return give_uint(value, (uint64_t)number);
    value->type = MP_INT;
    value->sint = number;
    return SK_OK;
}

static inline int give_bool(struct mp_value *value, bool boolean) {
    value->type = MP_BOOL;
    value->boolean = boolean;
    return SK_OK;
}

static int read_float(struct mp_reader *reader, struct mp_value *value, size_t width) {
    const uint8_t *at = advance(reader, width);
    if (at == NULL) return SK_EPROTO;
    value->type = MP_FLOAT;
    if (width == 4) {
        uint32_t bits = load32(at);
        float real;
        memcpy(&real, &bits, sizeof real);
        value->real = (double)real;
    } else {
        uint64_t bits = load64(at);
        memcpy(&value->real, &bits, sizeof value->real);
    }
    return SK_OK;
}

static int read_unsigned(struct mp_reader *reader, struct mp_value *value, size_t width) {
    const uint8_t *at = advance(reader, width);
    if (at == NULL) return SK_EPROTO;
    switch (width) {
    case 1:
        return give_uint(value, at[0]);
    case 2:
        return give_uint(value, load16(at));
    case 4:
        return give_uint(value, load32(at));
    default:
        return give_uint(value, load64(at));
    }
}

static int read_signed(struct mp_reader *reader, struct mp_value *value, size_t width) {
    const uint8_t *at = advance(reader, width);
    if (at == NULL) return SK_EPROTO;
    switch (width) {
    case 1:
        return give_int(value, (int8_t)at[0]);
    case 2:
        return give_int(value, (int16_t)load16(at));
    case 4:
        return give_int(value, (int32_t)load32(at));
    default:
        return give_int(value, (int64_t)load64(at));
    }
}

/* The forms with a byte of their own, 0xc0 to 0xdf. */
static inline int read_long_form(struct mp_reader *reader, struct mp_value *value, uint8_t first) {
    switch (first) {
    case 0xc0:
        value->type = MP_NIL;
        return SK_OK;
    case 0xc2:
    case 0xc3:
        return give_bool(value, first == 0xc3);
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return read_run_of(reader, value, MP_BIN, (size_t)1 << (first - 0xc4));
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return read_run_of(reader, value, MP_EXT, (size_t)1 << (first - 0xc7));
    case 0xca:
        return read_float(reader, value, 4);
    case 0xcb:
        return read_float(reader, value, 8);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return read_unsigned(reader, value, (size_t)1 << (first - 0xcc));
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return read_signed(reader, value, (size_t)1 << (first - 0xd0));
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return read_fixed_ext(reader, value, (size_t)1 << (first - 0xd4));
    case 0xd9:
    case 0xda:
    case 0xdb:
        return read_run_of(reader, value, MP_STR, (size_t)1 << (first - 0xd9));
    case 0xdc:
    case 0xdd:
        return read_container_of(reader, value, MP_ARRAY, first == 0xdc ? 2 : 4);
    case 0xde:
    case 0xdf:
        return read_container_of(reader, value, MP_MAP, first == 0xde ? 2 : 4);
    default: /* 0xc1 is no value */
        return SK_EPROTO;
    }
}

static inline int read_value(struct mp_reader *reader, struct mp_value *value) {
    if (reader->at == reader->end) return SK_EPROTO;
    uint8_t first = *reader->at++;
    if (first < 0x80) return give_uint(value, first);
    if (first >= 0xe0) return give_int(value, (int8_t)first);
    if (first >= 0xc0) return read_long_form(reader, value, first);
    if (first >= 0xa0) return read_run(reader, value, MP_STR, first & 0x1fu);
    if (first >= 0x90) return read_container(reader, value, MP_ARRAY, first & 0x0fu);
    return read_container(reader, value, MP_MAP, first & 0x0fu);
}

int mp_read(struct mp_reader *reader, struct mp_value *value) { return read_value(reader, value); }

/* Steps over what a container holds; its `elements` (not 0) come next. A stack of what each open container still
 * lacks, so that depth costs the input nothing but an error. */
static int skip_elements(struct mp_reader *reader, uint64_t elements) {
    uint64_t lacking[MP_DEPTH_MAX - 1];
    size_t open = 0;
    lacking[open++] = elements;
    while (open > 0) {
        struct mp_value value;
        int rc = read_value(reader, &value);
        if (rc != SK_OK) return rc;
        lacking[open - 1]--;
        if ((value.type == MP_ARRAY || value.type == MP_MAP) && value.count > 0) {
            if (open == MP_DEPTH_MAX - 1) return SK_EPROTO;
            lacking[open++] = value.type == MP_MAP ? 2 * (uint64_t)value.count : value.count;
        }
        while (open > 0 && lacking[open - 1] == 0) open--;
    }
    return SK_OK;
}

int mp_skip(struct mp_reader *reader, struct slice *span) {
    const uint8_t *start = reader->at;
    struct mp_value value;
    int rc = read_value(reader, &value);
    if (rc != SK_OK) return rc;
    if ((value.type == MP_ARRAY || value.type == MP_MAP) && value.count > 0) {
        rc = skip_elements(reader, value.type == MP_MAP ? 2 * (uint64_t)value.count : value.count);
        if (rc != SK_OK) return rc;
    }
    if (span != NULL) *span = slice_of(start, (size_t)(reader->at - start));
    return SK_OK;
}

/* The next value, if it is of `type`. */
static inline int read_typed(struct mp_reader *reader, struct mp_value *value, enum mp_type type) {
    int rc = read_value(reader, value);
    if (rc != SK_OK) return rc;
    return value->type == type ? SK_OK : SK_EPROTO;
}

int mp_read_array(struct mp_reader *reader, uint32_t *count) {
    struct mp_value value;
    int rc = read_typed(reader, &value, MP_ARRAY);
    if (rc == SK_OK) *count = value.count;
    return rc;
}

int mp_read_map(struct mp_reader *reader, uint32_t *count) {
    struct mp_value value;
    int rc = read_typed(reader, &value, MP_MAP);
    if (rc == SK_OK) *count = value.count;
    return rc;
}

int mp_read_uint(struct mp_reader *reader, uint64_t *number) {
    struct mp_value value;
    int rc = read_typed(reader, &value, MP_UINT);
    if (rc == SK_OK) *number = value.uint;
    return rc;
}

int mp_read_bool(struct mp_reader *reader, bool *boolean) {
    struct mp_value value;
    int rc = read_typed(reader, &value, MP_BOOL);
    if (rc == SK_OK) *boolean = value.boolean;
    return rc;
}

int mp_read_str(struct mp_reader *reader, struct slice *text) {
    struct mp_value value;
    int rc = read_typed(reader, &value, MP_STR);
    if (rc == SK_OK) *text = value.bytes;
    return rc;
}

int mp_read_bytes(struct mp_reader *reader, struct slice *bytes) {
    struct mp_value value;
    int rc = read_value(reader, &value);
    if (rc != SK_OK) return rc;
    if (value.type != MP_STR && value.type != MP_BIN) return SK_EPROTO;
    *bytes = value.bytes;
    return SK_OK;
}

static inline msgpack_packer packer_of(struct buffer *buffer) {
    msgpack_packer packer;
    msgpack_packer_init(&packer, buffer, buffer_write_cb);
    return packer;
}

void mp_write_nil(struct buffer *buffer) {
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_nil(&packer);
}

void mp_write_bool(struct buffer *buffer, bool boolean) {
    msgpack_packer packer = packer_of(buffer);
    if (boolean) msgpack_pack_true(&packer);
    else msgpack_pack_false(&packer);
}

void mp_write_uint(struct buffer *buffer, uint64_t number) {
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_uint64(&packer, number);
}

void mp_write_int(struct buffer *buffer, int64_t number) {
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_int64(&packer, number);
}

void mp_write_float(struct buffer *buffer, double real) {
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_double(&packer, real);
}

/* MessagePack's lengths end at 32 bits. */
static bool refuse_length(struct buffer *buffer, struct slice bytes) {
    if (bytes.size <= UINT32_MAX) return false;
    buffer->failed = true;
    return true;
}

void mp_write_str(struct buffer *buffer, struct slice text) {
    if (refuse_length(buffer, text)) return;
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_str(&packer, text.size);
    buffer_append(buffer, text.data, text.size);
}

void mp_write_text(struct buffer *buffer, const char *text) { mp_write_str(buffer, slice_of_text(text)); }

void mp_write_bin(struct buffer *buffer, struct slice bytes) {
    if (refuse_length(buffer, bytes)) return;
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_bin(&packer, bytes.size);
    buffer_append(buffer, bytes.data, bytes.size);
}

void mp_write_array(struct buffer *buffer, uint32_t count) {
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_array(&packer, count);
}

void mp_write_map(struct buffer *buffer, uint32_t count) {
    msgpack_packer packer = packer_of(buffer);
    msgpack_pack_map(&packer, count);
}

void mp_write_raw(struct buffer *buffer, struct slice encoded) {
    buffer_append(buffer, encoded.data, encoded.size);
}

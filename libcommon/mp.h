/* Reading MessagePack without building a tree: a cursor over borrowed bytes. msgpack-c's unpacker allocates an object
 * tree and forgets where each value stood; the gateway and the log copy arguments through as the bytes that came, so
 * reading is ours and small. Writing is msgpack-c's packer over struct buffer. Bytes from outside go through here:
 * nothing is trusted, a declared length never makes anything be allocated. Any thread. */
#pragma once

#include "buffer.h"

#include <msgpack/pack.h>

/* Values nested deeper than this are refused. Requests need 5: message, batch, pair, params, argument. */
#define MP_DEPTH_MAX 32

enum mp_type { MP_NIL, MP_BOOL, MP_UINT, MP_INT, MP_FLOAT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP, MP_EXT };

struct mp_value {
    enum mp_type type;
    union {
        bool boolean;
        uint64_t uint;      /* MP_UINT: any integer >= 0, however it was encoded */
        int64_t sint;       /* MP_INT: an integer < 0 */
        double real;        /* MP_FLOAT: 32 or 64 bits */
        struct slice bytes; /* MP_STR, MP_BIN, MP_EXT: points into the input */
        uint32_t count;     /* MP_ARRAY: elements; MP_MAP: pairs. They follow at the cursor. */
    };
};

struct mp_reader {
    const uint8_t *at;
    const uint8_t *end;
};

static inline struct mp_reader mp_reader_of(struct slice bytes) {
    /* no arithmetic on NULL, even with 0 */
    return (struct mp_reader){.at = bytes.data, .end = bytes.size == 0 ? bytes.data : bytes.data + bytes.size};
}

static inline size_t mp_left(const struct mp_reader *reader) { return (size_t)(reader->end - reader->at); }

/* The next scalar whole, or the header of the next array or map. SK_OK, or SK_EPROTO (truncated or invalid; the cursor
 * is then anywhere). A container's count is not more than the bytes that are left. */
int mp_read(struct mp_reader *reader, struct mp_value *value);

/* Steps over one whole value, checking it; `span` (may be NULL) gets its bytes. SK_OK or SK_EPROTO. */
int mp_skip(struct mp_reader *reader, struct slice *span);

/* Typed reads: SK_OK, or SK_EPROTO also when the next value is of another type. */
int mp_read_array(struct mp_reader *reader, uint32_t *count);
int mp_read_map(struct mp_reader *reader, uint32_t *count);
int mp_read_uint(struct mp_reader *reader, uint64_t *number);
int mp_read_bool(struct mp_reader *reader, bool *boolean);
int mp_read_str(struct mp_reader *reader, struct slice *text);    /* str only */
int mp_read_bytes(struct mp_reader *reader, struct slice *bytes); /* str or bin */

/* Writers, short names for msgpack-c's packer over a buffer. Failure shows in buffer->failed. */
void mp_write_nil(struct buffer *buffer);
void mp_write_bool(struct buffer *buffer, bool boolean);
void mp_write_uint(struct buffer *buffer, uint64_t number);
void mp_write_int(struct buffer *buffer, int64_t number);
void mp_write_float(struct buffer *buffer, double real);
void mp_write_str(struct buffer *buffer, struct slice text);
void mp_write_text(struct buffer *buffer, const char *text);
void mp_write_bin(struct buffer *buffer, struct slice bytes);
void mp_write_array(struct buffer *buffer, uint32_t count);
void mp_write_map(struct buffer *buffer, uint32_t count);
void mp_write_raw(struct buffer *buffer, struct slice encoded); /* bytes that are MessagePack already */

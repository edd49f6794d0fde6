#include "gateway/resp_reply.h"

#include "libcommon/error.h"

#include <math.h>
#include <stdio.h>

#define ALL_REPLY_FLAGS (COMMAND_REPLY_SET | COMMAND_REPLY_PAIRS | COMMAND_REPLY_NIL_ARRAY | COMMAND_REPLY_TEXT)

/* --- writers ------------------------------------------------------------------------------------------------- */

static void append_text(struct buffer *out, const char *text) { buffer_append(out, text, strlen(text)); }

static void write_head(struct buffer *out, char type, uint64_t number) {
    char digits[24];
    size_t at = sizeof digits;
    digits[--at] = '\n';
    digits[--at] = '\r';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    digits[--at] = type;
    buffer_append(out, digits + at, sizeof digits - at);
}

void resp_write_status(struct buffer *out, const char *text) {
    append_text(out, "+");
    append_text(out, text);
    append_text(out, "\r\n");
}

void resp_write_error(struct buffer *out, const char *prefix, struct slice text) {
    append_text(out, "-");
    append_text(out, prefix);
    append_text(out, " ");
    size_t start = out->size;
    buffer_append(out, text.data, text.size);
    for (size_t i = start; !out->failed && i < out->size; i++) {
        if (out->data[i] < 0x20) out->data[i] = ' ';
    }
    append_text(out, "\r\n");
}

void resp_write_int(struct buffer *out, int64_t number) {
    if (number >= 0) {
        write_head(out, ':', (uint64_t)number);
    } else {
        append_text(out, ":");
        write_head(out, '-', (uint64_t)0 - (uint64_t)number);
    }
}

void resp_write_bulk(struct buffer *out, struct slice bytes) {
    write_head(out, '$', bytes.size);
    buffer_append(out, bytes.data, bytes.size);
    append_text(out, "\r\n");
}

void resp_write_text(struct buffer *out, const char *text) { resp_write_bulk(out, slice_of_text(text)); }

void resp_write_nil(struct buffer *out, enum resp_protocol protocol) {
    append_text(out, protocol == RESP3 ? "_\r\n" : "$-1\r\n");
}

void resp_write_nil_array(struct buffer *out, enum resp_protocol protocol) {
    append_text(out, protocol == RESP3 ? "_\r\n" : "*-1\r\n");
}

void resp_write_array(struct buffer *out, uint32_t count) { write_head(out, '*', count); }

void resp_write_map(struct buffer *out, enum resp_protocol protocol, uint32_t pairs) {
    if (protocol == RESP3) write_head(out, '%', pairs);
    else write_head(out, '*', 2 * (uint64_t)pairs);
}

void resp_write_verbatim(struct buffer *out, enum resp_protocol protocol, struct slice text) {
    if (protocol != RESP3) {
        resp_write_bulk(out, text);
        return;
    }
    write_head(out, '=', text.size + 4);
    append_text(out, "txt:");
    buffer_append(out, text.data, text.size);
    append_text(out, "\r\n");
}

/* --- doubles ------------------------------------------------------------------------------------------------- */

struct slice resp_print_double(double real, char room[RESP_DOUBLE_BYTES]) {
    if (isnan(real)) return slice_of_text("nan");
    if (isinf(real)) return slice_of_text(real > 0 ? "inf" : "-inf");
    int size = snprintf(room, RESP_DOUBLE_BYTES, "%.17g", real);
    return slice_of(room, (size_t)size);
}

static void write_double(struct buffer *out, enum resp_protocol protocol, double real) {
    char room[RESP_DOUBLE_BYTES];
    struct slice text = resp_print_double(real, room);
    if (protocol != RESP3) {
        resp_write_bulk(out, text);
        return;
    }
    append_text(out, ",");
    buffer_append(out, text.data, text.size);
    append_text(out, "\r\n");
}

/* --- results ------------------------------------------------------------------------------------------------- */

unsigned resp_reply_flags(const struct command *command, uint32_t words) {
    unsigned flags = command->flags & ALL_REPLY_FLAGS;
    /* LPOP key is nil, LPOP key count is an array or none */
    if (words <= 2) flags &= ~(unsigned)COMMAND_REPLY_NIL_ARRAY;
    return flags;
}

static bool is_one_line(struct slice text) {
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '\r' || text.data[i] == '\n') return false;
    }
    return true;
}

static void write_str(struct buffer *out, struct slice text) {
    if (!is_one_line(text)) {
        resp_write_bulk(out, text);
        return;
    }
    append_text(out, "+");
    buffer_append(out, text.data, text.size);
    append_text(out, "\r\n");
}

static int write_value(struct buffer *out, enum resp_protocol protocol, unsigned flags, struct mp_reader *reader,
                       unsigned depth);

static int write_values(struct buffer *out, enum resp_protocol protocol, struct mp_reader *reader, uint64_t count,
                        unsigned depth) {
    for (uint64_t i = 0; i < count; i++) {
        int err = write_value(out, protocol, 0, reader, depth);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* An array of [a, b], which RESP2 has as a, b, a, b. Elements that are no arrays stay as they are. */
static int write_pairs_flat(struct buffer *out, struct mp_reader *reader, uint32_t count, unsigned depth) {
    struct mp_reader look = *reader;
    uint64_t elements = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice span;
        uint32_t inner;
        if (mp_skip(&look, &span) != SK_OK) return SK_EPROTO;
        struct mp_reader one = mp_reader_of(span);
        elements += mp_read_array(&one, &inner) == SK_OK ? inner : 1;
    }
    write_head(out, '*', elements);
    for (uint32_t i = 0; i < count; i++) {
        struct mp_reader one = *reader;
        uint32_t inner = 1;
        if (mp_read_array(&one, &inner) == SK_OK) *reader = one;
        else inner = 1;
        int err = write_values(out, RESP2, reader, inner, depth);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

static int write_array_of(struct buffer *out, enum resp_protocol protocol, unsigned flags,
                          struct mp_reader *reader, uint32_t count, unsigned depth) {
    if ((flags & COMMAND_REPLY_PAIRS) != 0 && protocol == RESP2)
        return write_pairs_flat(out, reader, count, depth);
    bool is_set = (flags & COMMAND_REPLY_SET) != 0 && protocol == RESP3;
    write_head(out, is_set ? '~' : '*', count);
    return write_values(out, protocol, reader, count, depth);
}

static int write_value(struct buffer *out, enum resp_protocol protocol, unsigned flags, struct mp_reader *reader,
                       unsigned depth) {
    struct mp_value value;
    if (depth > MP_DEPTH_MAX || mp_read(reader, &value) != SK_OK) return SK_EPROTO;
    switch (value.type) {
    case MP_NIL:
        if ((flags & COMMAND_REPLY_NIL_ARRAY) != 0) resp_write_nil_array(out, protocol);
        else resp_write_nil(out, protocol);
        return SK_OK;
    case MP_BOOL:
        resp_write_int(out, value.boolean);
        return SK_OK;
    case MP_UINT:
        write_head(out, ':', value.uint);
        return SK_OK;
    case MP_INT:
        resp_write_int(out, value.sint);
        return SK_OK;
    case MP_FLOAT:
        write_double(out, protocol, value.real);
        return SK_OK;
    case MP_STR:
        write_str(out, value.bytes);
        return SK_OK;
    case MP_BIN:
        if ((flags & COMMAND_REPLY_TEXT) != 0) resp_write_verbatim(out, protocol, value.bytes);
        else resp_write_bulk(out, value.bytes);
        return SK_OK;
    case MP_ARRAY:
        return write_array_of(out, protocol, flags, reader, value.count, depth + 1);
    case MP_MAP:
        resp_write_map(out, protocol, value.count);
        return write_values(out, protocol, reader, 2 * (uint64_t)value.count, depth + 1);
    case MP_EXT:
        break;
    }
    return SK_EPROTO;
}

int resp_write_result(struct buffer *out, enum resp_protocol protocol, unsigned flags, struct slice result) {
    struct mp_reader reader = mp_reader_of(result);
    int err = write_value(out, protocol, flags, &reader, 0);
    return err == SK_OK && mp_left(&reader) > 0 ? SK_EPROTO : err;
}

/* --- errors -------------------------------------------------------------------------------------------------- */

/* Clients know Redis's prefixes; what Redis has no word for keeps its own (docs/protocol.md). */
static const char *prefix_of(int err) {
    switch (err) {
    case SK_BADREQUEST:
    case SK_BADVALUE:
        return "ERR";
    case SK_UNAVAILABLE: /* surely not done, and clients that know the word send it again */
        return "TRYAGAIN";
    default:
        return error_name(err);
    }
}

int resp_write_contract_error(struct buffer *out, struct mp_reader *error) {
    uint32_t two;
    struct slice name, text;
    if (mp_read_array(error, &two) != SK_OK || two != 2 || mp_read_bytes(error, &name) != SK_OK ||
        mp_read_bytes(error, &text) != SK_OK) {
        return SK_EPROTO;
    }
    resp_write_error(out, prefix_of(error_from_name((const char *)name.data, name.size)), text);
    return SK_OK;
}

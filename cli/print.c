#include "print.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "words.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define INDENT_MAX 256

static void append_text(struct buffer *out, const char *text) { buffer_append(out, text, strlen(text)); }

__attribute__((format(printf, 2, 3))) static void append_format(struct buffer *out, const char *format, ...) {
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append_text(out, text);
}

/* Shortest decimal text that reads back as the same number. */
static void append_float(struct buffer *out, double real) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, real);
        if (isnan(real) || strtod(text, NULL) == real) break;
    }
    append_text(out, text);
}

static void append_quoted(struct buffer *out, struct slice bytes) {
    size_t before = out->size;
    uint8_t *room = buffer_extend(out, 4 * bytes.size + 2);
    if (room != NULL) out->size = before + words_quote(bytes, (char *)room);
}

/* ---- as on a terminal ---- */

static int tty_value(struct buffer *out, struct mp_reader *reader, const char *indent, int depth);

static void append_scalar(struct buffer *out, const struct mp_value *value, bool tty) {
    switch (value->type) {
    case MP_NIL:
        append_text(out, tty ? "(nil)" : "");
        break;
    case MP_BOOL:
        append_text(out, value->boolean ? "(true)" : "(false)");
        break;
    case MP_UINT:
        append_format(out, "%s%" PRIu64, tty ? "(integer) " : "", value->uint);
        break;
    case MP_INT:
        append_format(out, "%s%" PRId64, tty ? "(integer) " : "", value->sint);
        break;
    case MP_FLOAT:
        append_text(out, tty ? "(double) " : "");
        append_float(out, value->real);
        break;
    case MP_STR:
        buffer_append(out, value->bytes.data, value->bytes.size);
        break;
    case MP_BIN:
    case MP_EXT:
        if (tty) append_quoted(out, value->bytes);
        else buffer_append(out, value->bytes.data, value->bytes.size);
        break;
    case MP_ARRAY:
    case MP_MAP:
        break; /* not scalars */
    }
}

static int decimal_digits(uint32_t number) {
    int digits = 1;
    for (; number >= 10; number /= 10) digits++;
    return digits;
}

/* "1) " or "1# " before each element; what is nested stands indented below its number. */
static int tty_container(struct buffer *out, struct mp_reader *reader, const struct mp_value *head,
                         const char *indent, int depth) {
    bool map = head->type == MP_MAP;
    if (head->count == 0) append_text(out, map ? "(empty hash)\n" : "(empty array)\n");
    int width = decimal_digits(head->count);
    char nested[INDENT_MAX];
    snprintf(nested, sizeof nested, "%s%*s", indent, width + 2, "");
    for (uint32_t i = 0; i < head->count; i++) {
        append_format(out, "%s%*" PRIu32 "%s ", i == 0 ? "" : indent, width, i + 1, map ? "#" : ")");
        if (map) {
            int err = tty_value(out, reader, nested, depth + 1);
            if (err != SK_OK) return err;
            if (out->size > 0 && !out->failed) out->size--; /* the newline after the key */
            append_text(out, " => ");
        }
        int err = tty_value(out, reader, nested, depth + 1);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* One value and a newline. `indent` goes before each line but the first. */
static int tty_value(struct buffer *out, struct mp_reader *reader, const char *indent, int depth) {
    struct mp_value value;
    int err = depth < MP_DEPTH_MAX ? mp_read(reader, &value) : SK_EPROTO;
    if (err != SK_OK) return err;
    if (value.type == MP_ARRAY || value.type == MP_MAP) return tty_container(out, reader, &value, indent, depth);
    append_scalar(out, &value, true);
    append_text(out, "\n");
    return SK_OK;
}

/* ---- raw ---- */

/* Elements on a line each, a map's key and value beside each other. */
static int raw_value(struct buffer *out, struct mp_reader *reader, int depth) {
    struct mp_value value;
    int err = depth < MP_DEPTH_MAX ? mp_read(reader, &value) : SK_EPROTO;
    if (err != SK_OK) return err;
    if (value.type != MP_ARRAY && value.type != MP_MAP) {
        append_scalar(out, &value, false);
        return SK_OK;
    }
    for (uint32_t i = 0; i < value.count; i++) {
        if (i > 0) append_text(out, "\n");
        if (value.type == MP_MAP) {
            err = raw_value(out, reader, depth + 1);
            if (err != SK_OK) return err;
            append_text(out, " ");
        }
        err = raw_value(out, reader, depth + 1);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* ---- JSON ---- */

static json_t *json_base64(struct slice bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(bytes.size / 3 * 4 + 5);
    if (text == NULL) return NULL;
    char *out = text;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t group = (uint32_t)bytes.data[i] << 16;
        if (left > 1) group |= (uint32_t)bytes.data[i + 1] << 8;
        if (left > 2) group |= bytes.data[i + 2];
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[group & 63] : '=';
    }
    json_t *json = json_stringn(text, (size_t)(out - text));
    free(text);
    return json;
}

/* jansson refuses a string that is not UTF-8. */
static json_t *json_bytes(struct slice bytes) {
    json_t *json = json_stringn(bytes.size == 0 ? "" : (const char *)bytes.data, bytes.size);
    if (json != NULL) return json;
    return json_pack("{s:o}", "$bin", json_base64(bytes));
}

static json_t *json_float(double real) {
    if (isnan(real)) return json_string("nan");
    if (isinf(real)) return json_string(real > 0 ? "inf" : "-inf");
    return json_real(real);
}

static json_t *json_value(struct mp_reader *reader, int depth);

static json_t *json_array_of(struct mp_reader *reader, uint32_t count, int depth) {
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++) {
        if (json_array_append_new(array, json_value(reader, depth + 1)) == 0) continue;
        json_decref(array);
        return NULL;
    }
    return array;
}

/* An object when every key is a string in JSON, else the pairs. */
static json_t *json_map_of(struct mp_reader *reader, uint32_t count, int depth) {
    json_t *pairs = json_array(), *object = json_object();
    bool named = true;
    bool failed = pairs == NULL || object == NULL;
    for (uint32_t i = 0; i < count && !failed; i++) {
        json_t *key = json_value(reader, depth + 1);
        json_t *value = key == NULL ? NULL : json_value(reader, depth + 1);
        failed = key == NULL || value == NULL;
        if (!failed) {
            named = named && json_is_string(key);
            if (named)
                failed = json_object_setn(object, json_string_value(key), json_string_length(key), value) != 0;
            failed = json_array_append_new(pairs, json_pack("[O,O]", key, value)) != 0 || failed;
        }
        json_decref(key);
        json_decref(value);
    }
    json_t *result = failed ? NULL : named ? json_incref(object) : json_pack("{s:O}", "$map", pairs);
    json_decref(pairs);
    json_decref(object);
    return result;
}

/* New reference; NULL when malformed or out of memory. */
static json_t *json_value(struct mp_reader *reader, int depth) {
    struct mp_value value;
    if (depth >= MP_DEPTH_MAX || mp_read(reader, &value) != SK_OK) return NULL;
    switch (value.type) {
    case MP_NIL:
        return json_null();
    case MP_BOOL:
        return json_boolean(value.boolean);
    case MP_UINT:
        return value.uint <= INT64_MAX ? json_integer((json_int_t)value.uint) : json_real((double)value.uint);
    case MP_INT:
        return json_integer(value.sint);
    case MP_FLOAT:
        return json_float(value.real);
    case MP_STR:
    case MP_BIN:
    case MP_EXT:
        return json_bytes(value.bytes);
    case MP_ARRAY:
        return json_array_of(reader, value.count, depth);
    case MP_MAP:
        return json_map_of(reader, value.count, depth);
    }
    return NULL;
}

static int append_json_cb(const char *text, size_t size, void *out) {
    buffer_append(out, text, size);
    return 0;
}

static int append_json(struct buffer *out, json_t *json /* owned */) {
    if (json == NULL) return SK_EPROTO;
    int rc = json_dump_callback(json, append_json_cb, out, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
    return rc == 0 ? SK_OK : SK_ENOMEM;
}

/* ---- the module ---- */

int print_result(struct buffer *out, enum print_format format, struct slice result) {
    struct mp_reader reader = mp_reader_of(result);
    int err;
    if (format == PRINT_TTY) err = tty_value(out, &reader, "", 0);
    else err = format == PRINT_RAW ? raw_value(out, &reader, 0) : append_json(out, json_value(&reader, 0));
    if (err != SK_OK) return err;
    if (format != PRINT_TTY) append_text(out, "\n");
    return out->failed ? SK_ENOMEM : SK_OK;
}

int print_failure(struct buffer *out, enum print_format format, struct slice code, struct slice text) {
    if (format == PRINT_JSON) {
        json_t *json = json_pack("{s:{s:o,s:o}}", "error", "code", json_bytes(code), "text", json_bytes(text));
        int err = append_json(out, json);
        if (err != SK_OK) return err;
    } else {
        append_text(out, "(error) ");
        buffer_append(out, code.data, code.size);
        if (text.size > 0) append_text(out, " ");
        buffer_append(out, text.data, text.size);
    }
    append_text(out, "\n");
    return out->failed ? SK_ENOMEM : SK_OK;
}

#include "gateway/json.h"

#include "gateway/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>

static void append(struct json *json, const char *text) { buffer_append(json->out, text, strlen(text)); }

void json_init(struct json *json, struct buffer *out) { *json = (struct json){.out = out}; }

/* ---- text ---- */

/* What ends a string, and what some reader of HTML could take for a tag. */
static bool must_escape(uint8_t byte, bool in_html) {
    return byte < 0x20 || byte == '"' || byte == '\\' || (byte == '<' && in_html);
}

/* How much at the front stands as it is. */
static size_t plain_bytes(struct slice text, bool in_html) {
    size_t size = 0;
    while (size < text.size) {
        size_t bytes = utf8_character_bytes(slice_of(text.data + size, text.size - size));
        if (bytes == 0 || (bytes == 1 && must_escape(text.data[size], in_html))) break;
        size += bytes;
    }
    return size;
}

static void append_escape(struct json *json, uint8_t byte) {
    static const char shorts[256] = {['"'] = '"', ['\\'] = '\\', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    char escape[8];
    if (byte >= 0x80) {
        append(json, "\xef\xbf\xbd");
        return;
    }
    if (shorts[byte] != 0) {
        (void)snprintf(escape, sizeof escape, "\\%c", shorts[byte]);
    } else {
        (void)snprintf(escape, sizeof escape, "\\u%04x", byte);
    }
    append(json, escape);
}

static void append_string(struct json *json, struct slice text, bool in_html) {
    append(json, "\"");
    while (text.size > 0) {
        size_t taken = plain_bytes(text, in_html);
        buffer_append(json->out, text.data, taken);
        if (taken < text.size) append_escape(json, text.data[taken++]);
        text = slice_of(text.data + taken, text.size - taken);
    }
    append(json, "\"");
}

/* ---- values ---- */

static void begin_value(struct json *json, const char *name) {
    if (json->comma) append(json, ",");
    json->comma = true;
    if (name == NULL) return;
    append(json, "\"");
    append(json, name);
    append(json, "\":");
}

static void begin_named(struct json *json, struct slice name) {
    begin_value(json, NULL);
    append_string(json, name, true);
    append(json, ":");
}

static void open_bracket(struct json *json, const char *name, const char *bracket) {
    begin_value(json, name);
    append(json, bracket);
    json->comma = false;
}

static void close_bracket(struct json *json, const char *bracket) {
    append(json, bracket);
    json->comma = true;
}

void json_begin_object(struct json *json, const char *name) { open_bracket(json, name, "{"); }

void json_end_object(struct json *json) { close_bracket(json, "}"); }

void json_begin_array(struct json *json, const char *name) { open_bracket(json, name, "["); }

void json_end_array(struct json *json) { close_bracket(json, "]"); }

void json_name(struct json *json, struct slice name) {
    begin_named(json, name);
    json->comma = false;
}

static void append_uint(struct json *json, uint64_t value) {
    char digits[24];
    (void)snprintf(digits, sizeof digits, "%" PRIu64, value);
    append(json, digits);
}

void json_null(struct json *json, const char *name) {
    begin_value(json, name);
    append(json, "null");
}

void json_bool(struct json *json, const char *name, bool value) {
    begin_value(json, name);
    append(json, value ? "true" : "false");
}

void json_uint(struct json *json, const char *name, uint64_t value) {
    begin_value(json, name);
    append_uint(json, value);
}

void json_int(struct json *json, const char *name, int64_t value) {
    char digits[24];
    begin_value(json, name);
    (void)snprintf(digits, sizeof digits, "%" PRId64, value);
    append(json, digits);
}

void json_real(struct json *json, const char *name, double value) {
    char digits[40];
    begin_value(json, name);
    (void)snprintf(digits, sizeof digits, isfinite(value) ? "%.17g" : "\"%g\"", value);
    append(json, digits);
}

void json_bytes(struct json *json, const char *name, struct slice value) {
    if (utf8_is_readable(value)) {
        begin_value(json, name);
        append_string(json, value, false);
        return;
    }
    json_begin_object(json, name);
    begin_value(json, JSON_BASE64);
    append(json, "\"");
    size_t size = sodium_base64_ENCODED_LEN(value.size, sodium_base64_VARIANT_ORIGINAL);
    char *room = (char *)buffer_extend(json->out, size);
    if (room != NULL) {
        (void)sodium_bin2base64(room, size, value.data, value.size, sodium_base64_VARIANT_ORIGINAL);
        json->out->size--; /* its zero */
    }
    append(json, "\"");
    json_end_object(json);
}

void json_text(struct json *json, const char *name, struct slice value) {
    begin_value(json, name);
    append_string(json, value, true);
}

void json_raw(struct json *json, const char *name, struct slice value) {
    begin_value(json, name);
    buffer_append(json->out, value.data, value.size);
}

void json_named_uint(struct json *json, struct slice name, uint64_t value) {
    begin_named(json, name);
    append_uint(json, value);
}

void json_named_bool(struct json *json, struct slice name, bool value) {
    begin_named(json, name);
    append(json, value ? "true" : "false");
}

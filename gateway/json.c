#include "gateway/json.h"

#include <inttypes.h>
#include <stdio.h>

static void append(struct json *json, const char *text) { buffer_append(json->out, text, strlen(text)); }

void json_init(struct json *json, struct buffer *out) { *json = (struct json){.out = out}; }

/* ---- text ---- */

/* Bytes of the character of UTF-8 at the front of `text`; 0: there is none. Neither overlong forms, nor surrogates,
 * nor beyond U+10FFFF (RFC 3629). */
static size_t character_bytes(struct slice text) {
    uint8_t lead = text.data[0];
    if (lead < 0x80) return 1;
    size_t bytes = lead >= 0xc2 && lead < 0xe0   ? 2
                   : (lead & 0xf0) == 0xe0       ? 3
                   : lead >= 0xf0 && lead < 0xf5 ? 4
                                                 : 0;
    if (bytes == 0 || text.size < bytes) return 0;
    for (size_t i = 1; i < bytes; i++) {
        if ((text.data[i] & 0xc0) != 0x80) return 0;
    }
    uint8_t second = text.data[1];
    bool fine = (lead != 0xe0 || second >= 0xa0) && (lead != 0xed || second < 0xa0) &&
                (lead != 0xf0 || second >= 0x90) && (lead != 0xf4 || second < 0x90);
    return fine ? bytes : 0;
}

/* What ends a string, and what some reader of HTML could take for a tag. */
static bool must_escape(uint8_t byte) { return byte < 0x20 || byte == '"' || byte == '\\' || byte == '<'; }

static void append_string(struct json *json, struct slice text) {
    append(json, "\"");
    while (text.size > 0) {
        size_t bytes = character_bytes(text);
        char escape[8];
        if (bytes == 0) {
            append(json, "\xef\xbf\xbd");
        } else if (bytes == 1 && must_escape(text.data[0])) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", text.data[0]);
            append(json, escape);
        } else {
            buffer_append(json->out, text.data, bytes);
        }
        size_t taken = bytes == 0 ? 1 : bytes;
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
    append_string(json, name);
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

void json_text(struct json *json, const char *name, struct slice value) {
    begin_value(json, name);
    append_string(json, value);
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

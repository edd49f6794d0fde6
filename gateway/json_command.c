#include "gateway/json_command.h"

#include "gateway/json_reader.h"
#include "gateway/utf8.h"
#include "libcommon/error.h"

#include <sodium.h>
#include <stdio.h>

#define SCRATCH_KEPT_BYTES 4096u
#define SHORT_ARRAY_MAX    15u /* of what MessagePack counts in the array's first byte */
#define MOVED_BYTES_MAX    65536u

struct reading {
    struct json_reader reader;
    struct buffer *message;
    struct buffer scratch; /* owned: the string at hand */
    struct buffer name;    /* owned: the member's name at hand */
    const char *error;     /* what the reader does not know of */
};

static bool refuse(struct reading *reading, const char *error) {
    reading->error = error;
    return false;
}

static bool name_is(const struct reading *reading, const char *name) {
    return slice_equal(buffer_slice(&reading->name), slice_of_text(name));
}

/* ---- arrays, whose length stands before them and is known behind them ---- */

static const uint8_t long_array[] = {0xdd, 0, 0, 0, 0};

static size_t open_array(struct reading *reading) {
    size_t at = reading->message->size;
    buffer_append(reading->message, long_array, sizeof long_array);
    return at;
}

/* A short one gets the short form, since a command lies in the log as it came; not where that moves much. */
static void close_array(struct reading *reading, size_t at, uint32_t count) {
    struct buffer *message = reading->message;
    if (message->failed) return;
    uint8_t *head = message->data + at;
    size_t content = message->size - at - sizeof long_array;
    if (count <= SHORT_ARRAY_MAX && content <= MOVED_BYTES_MAX) {
        head[0] = (uint8_t)(0x90 | count);
        memmove(head + 1, head + sizeof long_array, content);
        message->size -= sizeof long_array - 1;
        return;
    }
    for (size_t i = 0; i < 4; i++) head[1 + i] = (uint8_t)(count >> (24 - 8 * i));
}

/* ---- arguments ---- */

/* An integer that MessagePack has, and that is written as it would be. */
static bool write_integer(struct buffer *message, struct slice digits) {
    bool negative = digits.data[0] == '-';
    uint64_t number = 0, most = negative ? (uint64_t)INT64_MAX + 1 : UINT64_MAX;
    for (size_t i = negative; i < digits.size; i++) {
        uint64_t digit = (uint64_t)(digits.data[i] - '0');
        if (number > (most - digit) / 10) return false;
        number = number * 10 + digit;
    }
    if (negative && number == 0) return false;
    if (negative) mp_write_int(message, (int64_t)(0 - number));
    else mp_write_uint(message, number);
    return true;
}

static bool read_number(struct reading *reading) {
    struct slice digits;
    bool whole;
    if (!json_reader_number(&reading->reader, &digits, &whole)) return false;
    if (!whole || !write_integer(reading->message, digits)) mp_write_str(reading->message, digits);
    return true;
}

static bool read_string(struct reading *reading) {
    buffer_clear(&reading->scratch, SCRATCH_KEPT_BYTES);
    if (!json_reader_string(&reading->reader, &reading->scratch)) return false;
    if (reading->scratch.failed) reading->message->failed = true;
    return true;
}

/* {"base64": "…"} */
static bool read_base64(struct reading *reading) {
    bool more;
    if (!json_reader_enter(&reading->reader, JSON_OBJECT) ||
        !json_reader_member(&reading->reader, &more, &reading->name)) {
        return false;
    }
    if (!more || !name_is(reading, JSON_BASE64)) return refuse(reading, "an object is not {\"base64\": \"...\"}");
    if (!read_string(reading)) return false;
    struct buffer *text = &reading->scratch;
    size_t size = 0;
    if (text->size > 0 && sodium_base642bin(text->data, text->size, (const char *)text->data, text->size, NULL,
                                            &size, NULL, sodium_base64_VARIANT_ORIGINAL) != 0) {
        return refuse(reading, "a string is not base64 (RFC 4648, section 4, padded)");
    }
    mp_write_bin(reading->message, slice_of(text->data, size));
    if (!json_reader_member(&reading->reader, &more, &reading->name)) return false;
    return !more || refuse(reading, "an object is not {\"base64\": \"...\"}");
}

static bool read_argument(struct reading *reading);

/* What is left of an array that has been entered. */
static bool read_elements(struct reading *reading) {
    size_t at = open_array(reading);
    uint32_t count = 0;
    bool more;
    while (json_reader_element(&reading->reader, &more)) {
        if (!more) {
            close_array(reading, at, count);
            return true;
        }
        if (!read_argument(reading)) return false;
        count++;
    }
    return false;
}

/* Nested as deep as the reader allows. */
static bool read_argument(struct reading *reading) {
    bool value;
    switch (json_reader_kind(&reading->reader)) {
    case JSON_NULL:
        mp_write_nil(reading->message);
        return json_reader_null(&reading->reader);
    case JSON_BOOL:
        if (!json_reader_bool(&reading->reader, &value)) return false;
        mp_write_bool(reading->message, value);
        return true;
    case JSON_NUMBER:
        return read_number(reading);
    case JSON_STRING:
        if (!read_string(reading)) return false;
        mp_write_str(reading->message, buffer_slice(&reading->scratch));
        return true;
    case JSON_ARRAY:
        return json_reader_enter(&reading->reader, JSON_ARRAY) && read_elements(reading);
    case JSON_OBJECT:
        return read_base64(reading);
    case JSON_NOTHING:
        break;
    }
    return refuse(reading, "a value is expected");
}

/* ---- commands ---- */

/* ["SET", "k", "v"] as method and params. */
static bool read_command(struct reading *reading) {
    bool more;
    if (!json_reader_enter(&reading->reader, JSON_ARRAY) || !json_reader_element(&reading->reader, &more)) {
        return false;
    }
    if (!more) return refuse(reading, "a command has no name");
    if (!read_string(reading)) return false;
    mp_write_str(reading->message, buffer_slice(&reading->scratch));
    return read_elements(reading);
}

static bool read_batch(struct reading *reading) {
    static const uint8_t pair = 0x92;
    uint32_t count = 0;
    bool more;
    mp_write_text(reading->message, "batch");
    size_t at = open_array(reading);
    if (!json_reader_enter(&reading->reader, JSON_ARRAY)) return false;
    while (json_reader_element(&reading->reader, &more)) {
        if (!more) {
            close_array(reading, at, count);
            return true;
        }
        buffer_append(reading->message, &pair, 1);
        if (!read_command(reading)) return false;
        count++;
    }
    return false;
}

static bool read_body(struct reading *reading, struct json_command *command) {
    bool more, has_commands = false, has_atomic = false;
    if (!json_reader_enter(&reading->reader, JSON_OBJECT)) return false;
    while (json_reader_member(&reading->reader, &more, &reading->name)) {
        if (!more) break;
        bool single = name_is(reading, "command");
        if (single || name_is(reading, "commands")) {
            if (has_commands) return refuse(reading, "\"command\" or \"commands\" stands there once");
            has_commands = true;
            command->batch = !single;
            if (!(single ? read_command(reading) : read_batch(reading))) return false;
        } else if (name_is(reading, "atomic")) {
            if (has_atomic) return refuse(reading, "\"atomic\" stands there twice");
            has_atomic = true;
            if (!json_reader_bool(&reading->reader, &command->atomic)) return false;
        } else {
            return refuse(reading, "the names are \"command\", or \"commands\" and \"atomic\"");
        }
    }
    if (reading->reader.error != NULL || !json_reader_end(&reading->reader)) return false;
    if (!has_commands) return refuse(reading, "\"command\" or \"commands\" is missing");
    return !has_atomic || command->batch || refuse(reading, "\"atomic\" goes with \"commands\"");
}

int json_command_read(struct slice body, struct json_command *command, struct buffer *message, char *text,
                      size_t text_bytes) {
    struct reading reading = {.reader = json_reader_of(body), .message = message};
    *command = (struct json_command){0};
    buffer_init(&reading.scratch);
    buffer_init(&reading.name);
    bool fine = read_body(&reading, command);
    if (reading.name.failed) message->failed = true;
    if (!fine) {
        (void)snprintf(text, text_bytes, "at byte %zu: %s", json_reader_offset(&reading.reader),
                       reading.reader.error != NULL ? reading.reader.error : reading.error);
    }
    buffer_deinit(&reading.scratch);
    buffer_deinit(&reading.name);
    return fine ? SK_OK : SK_BADREQUEST;
}

/* ---- answers ---- */

static bool names_are_text(struct mp_reader reader, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        if (mp_read_bytes(&reader, &name) != SK_OK || !utf8_is_readable(name)) return false;
        if (mp_skip(&reader, NULL) != SK_OK) return false;
    }
    return true;
}

static int write_map(struct json *json, const char *name, struct mp_reader *value, uint32_t count) {
    bool object = names_are_text(*value, count);
    int err = SK_OK;
    if (object) json_begin_object(json, name);
    else json_begin_array(json, name);
    for (uint32_t i = 0; i < count && err == SK_OK; i++) {
        struct slice text;
        if (object) {
            (void)mp_read_bytes(value, &text);
            json_name(json, text);
            err = json_command_write(json, NULL, value);
            continue;
        }
        json_begin_array(json, NULL);
        err = json_command_write(json, NULL, value);
        if (err == SK_OK) err = json_command_write(json, NULL, value);
        json_end_array(json);
    }
    if (object) json_end_object(json);
    else json_end_array(json);
    return err;
}

int json_command_write(struct json *json, const char *name, struct mp_reader *reader) {
    struct mp_value value;
    int err = mp_read(reader, &value);
    if (err != SK_OK) return err;
    switch (value.type) {
    case MP_NIL:
        json_null(json, name);
        return SK_OK;
    case MP_BOOL:
        json_bool(json, name, value.boolean);
        return SK_OK;
    case MP_UINT:
        json_uint(json, name, value.uint);
        return SK_OK;
    case MP_INT:
        json_int(json, name, value.sint);
        return SK_OK;
    case MP_FLOAT:
        json_real(json, name, value.real);
        return SK_OK;
    case MP_STR:
    case MP_BIN:
        json_bytes(json, name, value.bytes);
        return SK_OK;
    case MP_ARRAY:
        json_begin_array(json, name);
        for (uint32_t i = 0; i < value.count && err == SK_OK; i++) err = json_command_write(json, NULL, reader);
        json_end_array(json);
        return err;
    case MP_MAP:
        return write_map(json, name, reader, value.count);
    case MP_EXT:
        break;
    }
    return SK_EPROTO;
}

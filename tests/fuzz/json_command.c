/* Whatever JSON a client sends: it becomes a message that stands on its own, or is refused at a byte of it; and what a message
 * says can be told as JSON that is read again. */
#include "gateway/json_command.h"
#include "gateway/json_reader.h"
#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Steps over a value, reading all of it. */
static bool skip(struct json_reader *reader, struct buffer *room) {
    struct slice digits;
    bool flag, more, fine;
    switch (json_reader_kind(reader)) {
    case JSON_NULL:
        return json_reader_null(reader);
    case JSON_BOOL:
        return json_reader_bool(reader, &flag);
    case JSON_NUMBER:
        return json_reader_number(reader, &digits, &flag);
    case JSON_STRING:
        buffer_clear(room, SIZE_MAX);
        return json_reader_string(reader, room);
    case JSON_ARRAY:
        fine = json_reader_enter(reader, JSON_ARRAY);
        while (fine && (fine = json_reader_element(reader, &more)) && more) fine = skip(reader, room);
        return fine;
    case JSON_OBJECT:
        fine = json_reader_enter(reader, JSON_OBJECT);
        while (fine && (fine = json_reader_member(reader, &more, room)) && more) fine = skip(reader, room);
        return fine;
    case JSON_NOTHING:
        break;
    }
    return false;
}

/* One value of MessagePack as JSON, which is none that this reader would refuse, unless it is nested deeper than a request may
 * be: a map can become arrays of arrays. */
static void tell(struct mp_reader *value, struct buffer *room) {
    struct buffer text;
    struct json json;
    buffer_init(&text);
    json_init(&json, &text);
    if (json_command_write(&json, NULL, value) == SK_OK) {
        struct json_reader reader = json_reader_of(buffer_slice(&text));
        bool fine = skip(&reader, room) && json_reader_end(&reader);
        sk_assert(fine || strcmp(reader.error, "nested too deep") == 0);
    }
    buffer_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buffer message, room;
    struct json_command command;
    char text[200] = "";
    buffer_init(&message);
    buffer_init(&room);
    if (json_command_read(slice_of(data, size), &command, &message, text, sizeof text) == SK_OK) {
        struct mp_reader reader = mp_reader_of(buffer_slice(&message)), params;
        struct slice method;
        sk_assert(command.batch || !command.atomic);
        sk_assert(mp_read_str(&reader, &method) == SK_OK);
        params = reader;
        sk_assert(mp_skip(&reader, NULL) == SK_OK && mp_left(&reader) == 0);
        sk_assert(message.size <= 3 * size);
        tell(&params, &room);
    } else {
        sk_assert(text[0] != '\0');
    }
    struct mp_reader answer = mp_reader_of(slice_of(data, size));
    if (mp_skip(&answer, NULL) == SK_OK) {
        answer = mp_reader_of(slice_of(data, size));
        tell(&answer, &room);
    }
    buffer_deinit(&message);
    buffer_deinit(&room);
    return 0;
}

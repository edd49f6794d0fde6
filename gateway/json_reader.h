/* Reading JSON (RFC 8259) without building a tree: a cursor over borrowed bytes, as libcommon/mp is for MessagePack. jansson
 * makes some 50 bytes of each two of "[[],[],…", keeps no number as it was written, and gives no way to hold it to less.
 * Strict: UTF-8, no lone surrogates, nothing after the value. Bytes from outside go through here. Any thread. */
#pragma once

#include "libcommon/buffer.h"

#define JSON_DEPTH_MAX 32u /* as MP_DEPTH_MAX: what is nested deeper could not be a message */

enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_NOTHING, /* no value begins so, or the text ends */
};

struct json_reader {
    const uint8_t *at, *end;
    const char *error; /* static; set by the call that answered false */

    /* private */
    const uint8_t *begin;
    uint32_t depth;
    uint32_t begun; /* bit d: the container at depth d has had an element */
};

struct json_reader json_reader_of(struct slice text);

/* Where the cursor stands, in bytes from the front. */
size_t json_reader_offset(const struct json_reader *reader);

/* What stands next, by its first byte. */
enum json_kind json_reader_kind(struct json_reader *reader);

/* All that follow answer false at what is not JSON, or not of that kind: then `error` is set and nothing more may be read. */

bool json_reader_null(struct json_reader *reader);
bool json_reader_bool(struct json_reader *reader, bool *value);

/* The number as it is written, and whether that is without fraction and exponent. */
bool json_reader_number(struct json_reader *reader, struct slice *digits, bool *whole);

/* Appends the string's characters in UTF-8. What the buffer could not take shows there. */
bool json_reader_string(struct json_reader *reader, struct buffer *text);

/* Into an array or object. Then, before each element, json_reader_element, or before each member json_reader_member, which reads
 * its name, too (in place of what `name` had). `more` false: it was the end, and has been stepped over. */
bool json_reader_enter(struct json_reader *reader, enum json_kind container);
bool json_reader_element(struct json_reader *reader, bool *more);
bool json_reader_member(struct json_reader *reader, bool *more, struct buffer *name);

/* Nothing but white space is left. */
bool json_reader_end(struct json_reader *reader);

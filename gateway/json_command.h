/* Commands as JSON, and what they answer. Pure.
 *
 *   {"command": ["SET", "k", "v"]}
 *   {"commands": [["SET", "k", "v"], ["GET", "k"]], "atomic": true}
 *
 * An argument is a string (its UTF-8), a number, null, an array (what EXEC takes), or {"base64": "…"} for bytes that are no
 * text. A whole number of up to 64 bits travels as an integer, another one as the text that it is written with: so
 * none is rounded. Values come back the same way: integers with all their digits, bytes as json_bytes writes them. */
#pragma once

#include "gateway/json.h"
#include "libcommon/mp.h"

struct json_command {
    bool batch;
    bool atomic;
};

/* Appends method and params of the contract's message (gateway/message.h) to `message`. SK_OK; SK_BADREQUEST, with the reason in
 * `text` of `text_bytes`. What the buffer could not take shows there. What the commands are is not looked at. */
int json_command_read(struct slice body, struct json_command *command, struct buffer *message, char *text,
                      size_t text_bytes);

/* Writes the next MessagePack value as JSON: a map whose names are all text as an object, any other as an array of [name,
 * value]. SK_OK; SK_EPROTO: it is none, or one that no command answers. */
int json_command_write(struct json *json, const char *name, struct mp_reader *value);

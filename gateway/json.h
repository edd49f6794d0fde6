/* Writes JSON straight into a buffer. jansson, which the CLI reads and writes with, makes a tree of allocations
 * for each answer and would hold the whole of it twice; the page's answers only ever go out. Names and texts may
 * be any bytes: what is not UTF-8 becomes U+FFFD. A failed allocation shows in buffer->failed. Any thread. */
#pragma once

#include "libcommon/buffer.h"

/* Embedded; the order of the calls is the caller's, and is not checked. */
struct json {
    struct buffer *out;
    bool comma; /* private: something stands before the next value */
};

void json_init(struct json *json, struct buffer *out);

/* `name` of a member, NULL for an element of an array and for the outermost value; plain text of ours. */
void json_begin_object(struct json *json, const char *name);
void json_end_object(struct json *json);
void json_begin_array(struct json *json, const char *name);
void json_end_array(struct json *json);
void json_null(struct json *json, const char *name);
void json_bool(struct json *json, const char *name, bool value);
void json_uint(struct json *json, const char *name, uint64_t value);
void json_text(struct json *json, const char *name, struct slice value);
void json_raw(struct json *json, const char *name, struct slice value); /* JSON already */

/* Bytes that need not be text, not for HTML: a string where people could read them (gateway/utf8.h), else {"base64": "…"}; at
 * most twice as long as they, and a little. */
#define JSON_BASE64 "base64"
void json_bytes(struct json *json, const char *name, struct slice value);
void json_int(struct json *json, const char *name, int64_t value);
void json_real(struct json *json, const char *name,
               double value); /* what is no number is a string: "inf", "nan" */

/* A member's name that comes from outside; its value follows, without a name. */
void json_name(struct json *json, struct slice name);

/* A member whose name comes from outside. */
void json_named_uint(struct json *json, struct slice name, uint64_t value);
void json_named_bool(struct json *json, struct slice name, bool value);

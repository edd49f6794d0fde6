/* Answers for people and programs. One thread.
 *
 * PRINT_TTY is what redis-cli shows on a terminal: (integer) 1, (nil), "quoted", 1) numbered. PRINT_RAW is what it
 * writes into a pipe: bytes as they are, one value a line, nil an empty line. PRINT_JSON is one line of JSON: text
 * that is UTF-8 as a string, other bytes as {"$bin": "<base64>"}, a float that JSON has no number for as a string
 * ("inf"), a map with a key that is no UTF-8 as {"$map": [[key, value], ...]}, an error as {"error": {"code",
 * "text"}}. */
#pragma once

#include "libcommon/buffer.h"

enum print_format { PRINT_TTY, PRINT_RAW, PRINT_JSON };

/* Appends `result`, one encoded MessagePack value, and a newline. SK_OK, SK_EPROTO (malformed; `out` then ends
 * anywhere), SK_ENOMEM. */
int print_result(struct buffer *out, enum print_format format, struct slice result);

/* Appends "(error) CODE text", or the JSON, and a newline. SK_OK, SK_ENOMEM. */
int print_failure(struct buffer *out, enum print_format format, struct slice code, struct slice text);

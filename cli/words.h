/* A line of commands into words, quoted as in redis-cli: "..." with \n \r \t \b \a \" \\ and \xNN, '...' with \';
 * a closing quote ends its word. Words may hold any bytes. One thread. */
#pragma once

#include "libcommon/slice.h"

struct word {
    struct slice bytes;
    bool quoted; /* then it is never the word for nil */
};

struct words {
    struct word *items; /* owned */
    size_t count;
    uint8_t *bytes; /* owned: what the items point into */
};

/* SK_OK, SK_BADREQUEST (a quote is not closed, or is followed by something else than space), SK_ENOMEM. On failure
 * there is nothing to free. */
int words_parse(struct slice line, struct words *words);
void words_deinit(struct words *words);

/* Appends nothing beyond `room`: `bytes` in double quotes with the same escapes, so that it reads back. Returns
 * the size, at most 4 * bytes.size + 2. */
size_t words_quote(struct slice bytes, char *room);

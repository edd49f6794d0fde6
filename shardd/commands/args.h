/* Arguments of a command: MessagePack values as the bytes that Redis would have got, and those bytes as numbers
 * and words. Nothing here depends on the locale. */
#pragma once

#include "libcommon/limits.h"
#include "libcommon/mp.h"

/* The largest command is an MSET of as many keys as a message may have. */
#define ARGS_COUNT_MAX (2 * MESSAGE_COMMANDS_MAX)

struct args {
    struct slice
        *items; /* owned; they point into what was decoded or into `rendered`. nil has data NULL, only nil has */
    size_t count;
    size_t capacity;
    struct buffer rendered; /* numbers as text */
};

void args_init(struct args *args);
void args_deinit(struct args *args);

/* Reads an array of arguments; the items live as long as the bytes that are read and until the next call. str and
 * bin are taken as they are, integers as decimal text, floats by %.17g, nil where `nil_allowed`. SK_OK;
 * SK_BADREQUEST or SK_TOOLARGE with a static `text`; SK_ENOMEM. */
int args_decode(struct args *args, struct mp_reader *reader, bool nil_allowed, const char **text);

static inline bool args_is_nil(struct slice arg) { return arg.data == NULL; }

/* An integer as Redis takes one: no spaces, no plus, no leading zeros, no "-0". */
bool args_parse_int(struct slice text, int64_t *number);
/* Digits alone, to 2^64-1: SCAN's cursor. */
bool args_parse_uint(struct slice text, uint64_t *number);
/* A decimal number as Redis takes one (strtold's, without space around). Not NaN. */
bool args_parse_real(struct slice text, long double *number);
/* The same as a double, to which infinities belong: a score. */
bool args_parse_double(struct slice text, double *number);
/* A bound of scores as Redis takes one: nothing is 0, space may stand in front, too large is infinite. Not NaN. */
bool args_parse_bound(struct slice text, double *number);

#define ARGS_INT_TEXT_MAX  21u
#define ARGS_REAL_TEXT_MAX 5120u

/* Decimal text into `room` (of the size above, not terminated); answers its length. args_print_real writes 17
 * digits behind the point without trailing zeros, never an exponent. */
size_t args_print_int(int64_t number, char *room);
size_t args_print_uint(uint64_t number, char *room);
size_t args_print_real(long double number, char *room);

/* Whether an argument is a word, in any case of ASCII letters. `word` is upper case. */
bool args_is_word(struct slice arg, const char *word);

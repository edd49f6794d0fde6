/* What a key can hold during a search, as small numbers.
 *
 * Two values that no operation can tell apart get one number, so that a search visits them once. What can be told apart
 * are the texts that some operation names (answers of GET, what CAS expects): the named ones. So a value is nil, the
 * beginning of a named text (if APPEND is used, it may still become one), a number (if an INCR may still come), or one
 * of all the others, of which only the length can ever be seen. */
#pragma once

#include "libcommon/slice.h"

#define VALUE_NIL   0u
#define VALUE_NEVER 1u /* what no key holds: an answer that cannot be explained */
#define VALUE_NONE  UINT32_MAX

enum value_kind { VALUE_IS_NIL, VALUE_IS_NEVER, VALUE_IS_TEXT, VALUE_IS_NUMBER, VALUE_IS_OTHER };

struct value {
    enum value_kind kind;
    uint32_t low, high; /* text: the named texts, in their order, that begin with it */
    uint32_t target;    /* of nil, never and named texts: a dense number from 0; else VALUE_NONE */
    uint64_t bytes;     /* its length; 0 for "other" if lengths are not seen */
    bool is_number;     /* INCR would take it */
    int64_t number;
};

struct values;

/* `named`, borrowed until values_free: all texts that operations name, in any order, repeated or not. `appends`: there are
 * APPENDs. `adds`: there are INCRs that may meet any number. */
struct values *values_new(const struct slice *named, size_t count, bool appends, bool adds);
void values_free(struct values *values);

uint32_t values_of_text(struct values *values, struct slice text);
uint32_t values_of_number(struct values *values, int64_t number);

/* What APPEND makes of it. */
uint32_t values_append(struct values *values, uint32_t id, struct slice piece);

/* Valid until the next value is made. */
const struct value *values_get(const struct values *values, uint32_t id);

/* How many values have been made so far: ids are below that. */
uint32_t values_count(const struct values *values);

/* The text of one that is a text, else empty. */
struct slice values_text(const struct values *values, uint32_t id);

/* How many targets there are; and the value and the text of one, which is empty for nil and never. */
uint32_t values_target_count(const struct values *values);
uint32_t values_of_target(struct values *values, uint32_t target);
struct slice values_target_text(const struct values *values, uint32_t target);

/* Counts how many operations that are still to come name the target. */
void values_mention(struct values *values, uint32_t target, int change);

/* Whether one of them names a text that begins with this one. */
bool values_is_mentioned(const struct values *values, uint32_t id);

/* The value as those operations see it: a text that none of them can meet is one of the others. */
uint32_t values_reduce(struct values *values, uint32_t id);

/* Whether text `id` is a proper beginning of text `longer`, or nil. */
bool values_begins(const struct values *values, uint32_t id, uint32_t longer);

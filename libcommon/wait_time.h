/* How long a blocking command waits, as its argument says it: seconds as a decimal number, 0 = for ever. The gateway counts
 * the time, the shard refuses what is none; both read it here. Any thread. */
#pragma once

#include "slice.h"

#define WAIT_FOR_EVER UINT64_MAX

/* Milliseconds, of a part of one a whole one; WAIT_FOR_EVER. SK_OK, or SK_BADREQUEST with Redis's text. */
int wait_time_read(struct slice word, uint64_t *wait_ms, const char **text);

/* A decimal number as Redis takes one (strtold's, without space around, whatever the locale). Not NaN. */
#define REAL_TEXT_MAX 5120u
bool real_parse(struct slice text, long double *number);

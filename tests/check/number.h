/* Integers as the store takes and writes them: no spaces, no plus, no leading zeros, no "-0". Written anew here: the
 * checker shares no code with what it checks. */
#pragma once

#include "libcommon/slice.h"

#define NUMBER_TEXT_MAX 21u

bool number_parse(struct slice text, int64_t *number);

/* Into `room` of the size above, not terminated; answers the length. */
size_t number_print(int64_t number, char *room);

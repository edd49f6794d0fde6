/* Glob patterns as Redis has them: * ? [abc] [a-z] [^abc] and \ before a character that is meant itself. Bytes, no
 * locale. Never worse than the product of the two lengths. */
#pragma once

#include "libcommon/slice.h"

bool glob_match(struct slice pattern, struct slice text);

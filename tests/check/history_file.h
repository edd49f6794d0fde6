/* Histories in files: JSON lines, one operation in each.
 *
 *   {"client": 3, "key": "k1", "op": "cas", "expected": "a", "value": "b", "begin": 123456, "end": 123999, "result": 1}
 *
 * op: get set del cas incr append. value: of set, append and cas (null = delete); expected: of cas (null = absent);
 * amount: of incr, 1 unless given. expires: of set, when the value may be gone by itself, at the earliest. result: the value or null of get, a number of the others, none of set. begin, end:
 * microseconds of one clock. "end": null or "outcome": "unknown": the outcome was never learnt. "outcome": "failed": it
 * surely has not happened, and is left out. Other fields are skipped, and so are empty lines. */
#pragma once

#include "check.h"

#include <stdio.h>

/* Adds the file's operations. False: `fault` says what is wrong, and in which line. */
bool history_read(FILE *file, struct check *check, char *fault, size_t fault_bytes);

/* How many files and sockets this process may have open. What it is started with is often a thousand, for the sake of programs that use
 * select(2), which ours do not; it may allow itself more, up to the hard limit. */
#pragma once

#include <stdint.h>

/* Allows as many as there may be, and returns that number. At the start. */
uint64_t descriptors_raise(void);

/* Contradictions that need no search: they are found at once and can be told in a sentence. Each is one by itself, whatever
 * else the history holds: a value was seen that nothing wrote, or that nothing could have written yet, or more operations
 * took a value away than made it. */
#pragma once

#include "problem.h"

/* True: there is one, and `text` tells it. `ops` are those the problem was made of. */
bool obvious_find(struct problem *problem, const struct check_op *ops, struct buffer *text);

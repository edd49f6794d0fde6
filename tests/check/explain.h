/* Why a key's history is bad: how far it can be explained, and which operation cannot be added to that. */
#pragma once

#include "search.h"

/* `ops` have no order; `furthest` is the place in them of the operation at whose end a search of all was last blocked.
 * Searches the history as it stood at one end and another, each within `states`, until the first end is found at which
 * it cannot be explained any more. Adds to `states_used`. */
void explain(const struct check_op *ops, size_t count, uint32_t furthest, uint64_t states, uint64_t *states_used,
             struct buffer *text);

/* Memory of the checker. Out of memory ends the process: a checker that cannot finish has no verdict to give, and what
 * it needs is bounded by the history and the budget of states. */
#pragma once

#include "libcommon/check.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Zeroed; to be freed with free(). Also for no items it is not NULL. */
static inline void *memory_zeroed(size_t count, size_t item_bytes) {
    void *items = calloc(count == 0 ? 1 : count, item_bytes);
    sk_assert(items != NULL);
    return items;
}

/* Room for one more item behind `count`; the new part is not zeroed. */
static inline void *memory_room(void *items, size_t count, size_t *capacity, size_t item_bytes) {
    if (count < *capacity) return items;
    *capacity = *capacity == 0 ? 16 : 2 * *capacity;
    items = realloc(items, *capacity * item_bytes);
    sk_assert(items != NULL);
    return items;
}

/* Items up to `at` at least, the new ones zeroed. */
static inline void *memory_reach(void *items, size_t at, size_t *capacity, size_t item_bytes) {
    if (at < *capacity) return items;
    size_t old = *capacity;
    *capacity = 2 * at + 16;
    uint8_t *reached = realloc(items, *capacity * item_bytes);
    sk_assert(reached != NULL);
    memset(reached + old * item_bytes, 0, (*capacity - old) * item_bytes);
    return reached;
}

/* A hash index: finds the numbers of items that are kept elsewhere. Several items may have one hash; who looks up walks
 * over the candidates and compares. Nothing is ever taken out. Not for two threads at once. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define INDEX_NONE UINT32_MAX

struct index {
    struct index_slot *slots; /* owned */
    size_t slot_count;        /* a power of two, or 0 */
    size_t count;
};

struct index_walk {
    uint32_t tag;
    size_t at;
};

void index_deinit(struct index *index); /* a zeroed struct is an empty index */

void index_add(struct index *index, uint64_t hash, uint32_t item);

/* The first and each further item that may have been added with this hash; INDEX_NONE = no more. Adding ends a walk. */
uint32_t index_first(const struct index *index, uint64_t hash, struct index_walk *walk);
uint32_t index_next(const struct index *index, struct index_walk *walk);

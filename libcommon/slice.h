/* A borrowed run of bytes. Whoever hands one out says how long it lives. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;         /* bytes */
};

static inline struct slice slice_of(const void *data, size_t size) {
    return (struct slice){.data = data, .size = size};
}

static inline struct slice slice_of_text(const char *text) { return slice_of(text, strlen(text)); }

static inline bool slice_equal(struct slice a, struct slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Order of unsigned bytes, a prefix before what continues it (LMDB's default order). */
static inline int slice_compare(struct slice a, struct slice b) {
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) return order;
    return (a.size > b.size) - (a.size < b.size);
}

/* Takes what stands before the next `separator` off `rest`. False: there is none, and `part` is all of the rest. */
static inline bool slice_cut(struct slice *rest, char separator, struct slice *part) {
    const uint8_t *found = rest->size == 0 ? NULL : memchr(rest->data, separator, rest->size);
    *part = *rest;
    if (found == NULL) return false;
    part->size = (size_t)(found - rest->data);
    *rest = slice_of(found + 1, rest->size - part->size - 1);
    return true;
}

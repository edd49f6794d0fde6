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

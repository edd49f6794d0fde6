/* A growing run of bytes, owned. A failed allocation marks the buffer `failed` and further appends do nothing, so a
 * writer checks once at the end. Not for two threads at once. */
#pragma once

#include "slice.h"

struct buffer {
    uint8_t *data; /* owned; NULL while empty */
    size_t size;
    size_t capacity;
    bool failed; /* an allocation failed since the last clear */
};

void buffer_init(struct buffer *buffer);
void buffer_deinit(struct buffer *buffer);

/* Forgets the content and keeps the memory, unless more than `keep_bytes` of it. */
void buffer_clear(struct buffer *buffer, size_t keep_bytes);

void buffer_append(struct buffer *buffer, const void *data, size_t size);

/* Room for `size` more bytes at the end, counted at once: the caller fills it. NULL when out of memory. */
uint8_t *buffer_extend(struct buffer *buffer, size_t size);

static inline struct slice buffer_slice(const struct buffer *buffer) {
    return slice_of(buffer->data, buffer->size);
}

/* msgpack-c's write callback: `msgpack_packer_init(&packer, &buffer, buffer_write_cb)`. 0, or -1 when out of memory. */
int buffer_write_cb(void *buffer, const char *data, size_t size);

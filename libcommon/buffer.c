#include "buffer.h"

#include <stdlib.h>

void buffer_init(struct buffer *buffer) { *buffer = (struct buffer){0}; }

void buffer_deinit(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

void buffer_clear(struct buffer *buffer, size_t keep_bytes) {
    if (buffer->capacity > keep_bytes) {
        buffer_deinit(buffer);
        return;
    }
    buffer->size = 0;
    buffer->failed = false;
}

uint8_t *buffer_extend(struct buffer *buffer, size_t size) {
    if (buffer->failed) return NULL;
    if (size > SIZE_MAX / 2 - buffer->size) {
        buffer->failed = true;
        return NULL;
    }
    size_t needed = buffer->size + size;
    if (needed > buffer->capacity) {
        size_t capacity = buffer->capacity == 0 ? 256 : buffer->capacity;
        while (capacity < needed) capacity *= 2;
        uint8_t *data = realloc(buffer->data, capacity);
        if (data == NULL) {
            buffer->failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    uint8_t *room = buffer->data + buffer->size;
    buffer->size = needed;
    return room;
}

void buffer_append(struct buffer *buffer, const void *data, size_t size) {
    if (size == 0) return;
    uint8_t *room = buffer_extend(buffer, size);
    if (room != NULL) memcpy(room, data, size);
}

int buffer_write_cb(void *buffer, const char *data, size_t size) {
    struct buffer *target = buffer;
    buffer_append(target, data, size);
    return target->failed ? -1 : 0;
}

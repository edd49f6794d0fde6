#include "gateway/arena.h"

#include <stdlib.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes; /* of data */
    _Alignas(16) uint8_t data[];
};

#define ALIGNED(size) (((size) + 15u) & ~(size_t)15)

void arena_pool_init(struct arena_pool *pool) { *pool = (struct arena_pool){0}; }

void arena_pool_deinit(struct arena_pool *pool) {
    while (pool->spare != NULL) {
        struct arena_chunk *chunk = pool->spare;
        pool->spare = chunk->next;
        free(chunk);
    }
    pool->spare_count = 0;
}

void arena_init(struct arena *arena, struct arena_pool *pool) {
    arena->pool = pool;
    arena->chunks = NULL;
    arena->at = arena->first;
    arena->end = arena->first + ARENA_FIRST_BYTES;
    arena->held_bytes = 0;
}

static struct arena_chunk *chunk_new(struct arena *arena, size_t bytes) {
    struct arena_pool *pool = arena->pool;
    struct arena_chunk *chunk;
    if (bytes == ARENA_CHUNK_BYTES && pool->spare != NULL) {
        chunk = pool->spare;
        pool->spare = chunk->next;
        pool->spare_count--;
    } else {
        chunk = malloc(sizeof *chunk + bytes);
        if (chunk == NULL) return NULL;
        chunk->bytes = bytes;
    }
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->held_bytes += bytes;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    size_t needed = ALIGNED(size == 0 ? 1 : size);
    if (needed > (size_t)(arena->end - arena->at)) {
        /* What is large gets a chunk of its own, so that the rest of the newest stays in use. */
        if (needed > ARENA_CHUNK_BYTES / 4) {
            struct arena_chunk *own = chunk_new(arena, needed == ARENA_CHUNK_BYTES ? needed + 16 : needed);
            return own == NULL ? NULL : own->data;
        }
        struct arena_chunk *chunk = chunk_new(arena, ARENA_CHUNK_BYTES);
        if (chunk == NULL) return NULL;
        arena->at = chunk->data;
        arena->end = chunk->data + ARENA_CHUNK_BYTES;
    }
    void *room = arena->at;
    arena->at += needed;
    return room;
}

void arena_clear(struct arena *arena) {
    struct arena_pool *pool = arena->pool;
    while (arena->chunks != NULL) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        if (chunk->bytes == ARENA_CHUNK_BYTES && pool->spare_count < ARENA_POOL_CHUNKS) {
            chunk->next = pool->spare;
            pool->spare = chunk;
            pool->spare_count++;
        } else {
            free(chunk);
        }
    }
    arena_init(arena, pool);
}

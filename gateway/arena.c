#include "gateway/arena.h"

#include <stdbool.h>
#include <stdlib.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes; /* of data */
    _Alignas(16) uint8_t data[];
};

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

static size_t aligned(size_t size) { return ((size == 0 ? 1 : size) + 15u) & ~(size_t)15; }

/* What is large gets a chunk of its own, so that the rest of the newest stays in use. */
static bool is_large(size_t size) { return aligned(size) > ARENA_CHUNK_BYTES / 4; }

size_t arena_growth(const struct arena *arena, size_t size) {
    size_t needed = aligned(size);
    if (needed <= (size_t)(arena->end - arena->at)) return 0;
    if (!is_large(size)) return ARENA_CHUNK_BYTES;
    return needed == ARENA_CHUNK_BYTES ? needed + 16 : needed; /* never taken for one of the pool's */
}

void *arena_alloc(struct arena *arena, size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    size_t growth = arena_growth(arena, size);
    if (growth > 0) {
        struct arena_chunk *chunk = chunk_new(arena, growth);
        if (chunk == NULL) return NULL;
        if (is_large(size)) return chunk->data;
        arena->at = chunk->data;
        arena->end = chunk->data + ARENA_CHUNK_BYTES;
    }
    void *room = arena->at;
    arena->at += aligned(size);
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

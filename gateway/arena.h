/* Memory of one request: everything that is made while it lives is carved from here and goes in one call (nginx's
 * ngx_palloc has this shape). The first ARENA_FIRST_BYTES are inside the struct, so a single command allocates
 * nothing. The loop thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define ARENA_FIRST_BYTES 768u
#define ARENA_CHUNK_BYTES (32u * 1024)
#define ARENA_POOL_CHUNKS 128u /* spare chunks kept for reuse: 4 MiB */

struct arena_chunk;

/* Spare chunks, shared by the arenas of a thread. */
struct arena_pool {
    struct arena_chunk *spare; /* private, owned */
    uint32_t spare_count;      /* private */
};

struct arena {
    struct arena_pool *pool;    /* private, borrowed */
    struct arena_chunk *chunks; /* private, owned */
    uint8_t *at, *end;          /* private: what is left of the newest chunk */
    size_t held_bytes;          /* in chunks: what this arena takes beyond its own struct */
    _Alignas(16) uint8_t first[ARENA_FIRST_BYTES];
};

void arena_pool_init(struct arena_pool *pool);
void arena_pool_deinit(struct arena_pool *pool); /* no arena of the pool holds anything any more */

void arena_init(struct arena *arena, struct arena_pool *pool);

/* What arena_alloc of `size` bytes would add to held_bytes. */
size_t arena_growth(const struct arena *arena, size_t size);

/* `size` bytes aligned for any type, not cleared. NULL = out of memory. */
void *arena_alloc(struct arena *arena, size_t size);

/* Frees all that was handed out; the arena can be used again. */
void arena_clear(struct arena *arena);

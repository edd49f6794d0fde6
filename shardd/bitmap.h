/* Strings as arrays of bytes that may be long and sparse, as SETBIT and its relatives use them. A string up to
 * BITMAP_PLAIN_MAX stays what it is, a record. One that such a command makes longer is kept in chunks under the id of a head
 * (collection.h, OBJECT_BITMAP, whose count and bytes are the string's length): a change costs a chunk, and a far bit costs
 * what it stands in. Clients know nothing of it: its type is "string", and commands of strings read it as one (call.h).
 *
 *   part 1 ‖ number of the chunk (4 bytes, big-endian) → its bytes, BITMAP_CHUNK_BYTES or fewer
 *
 * What a chunk lacks at its end is zeros, and so is a chunk that is not there. Only the shard's lane calls. */
#pragma once

#include "shardd/collection.h"

#define BITMAP_CHUNK_BYTES 4096u
#define BITMAP_PLAIN_MAX   BITMAP_CHUNK_BYTES
#define BITMAP_BYTES_MAX   (512u * 1024 * 1024 + 8) /* as in Redis: bits and fields begin below 2^32 */

struct bitmap {
    struct collection collection; /* object.found: there is such a string */
    bool chunked;
    uint64_t size; /* bytes; 0 when not found */

    /* private */
    struct slice plain;              /* not chunked: as found, borrowed from the store */
    bool changed;                    /* not chunked: `small` has it */
    uint8_t small[BITMAP_PLAIN_MAX]; /* up to `size` */
};

/* Finds the string at `key`. SK_OK also when there is none; SK_WRONGTYPE (told); a fault. */
int bitmap_find(struct call *call, struct slice key, struct bitmap *bitmap);
int bitmap_find_for_write(struct call *call, struct slice key, struct bitmap *bitmap);
/* An empty one in place of whatever is at the key. SK_OK or a fault. */
int bitmap_replace(struct call *call, struct slice key, struct bitmap *bitmap);

/* Copies `size` bytes from `at` on; zeros from the string's end on. SK_OK or a fault. */
int bitmap_read(struct call *call, struct bitmap *bitmap, uint64_t at, uint8_t *bytes, size_t size);

/* The bytes that are stored next, at `from` or behind: what lies between is zeros. `bytes` lives until the next change.
 * SK_OK, SK_NOT_FOUND (only zeros up to the end), or a fault. */
int bitmap_next(struct call *call, struct bitmap *bitmap, uint64_t from, uint64_t *at, struct slice *bytes);

/* Writes; the string grows as needed, to BITMAP_BYTES_MAX at most (asserted). `bytes` is not in the store. SK_OK or a fault.
 * An object that is new may be refused by bitmap_save only. */
int bitmap_write(struct call *call, struct bitmap *bitmap, uint64_t at, struct slice bytes);
/* Grows it to `size` by zeros at its end. */
int bitmap_grow(struct call *call, struct bitmap *bitmap, uint64_t size);

/* Stores what has been changed, under the deadline that it had. An empty string is removed. SK_OK, SK_TOOLARGE (told, as
 * collection_save), or a fault. */
int bitmap_save(struct call *call, struct bitmap *bitmap);
/* The same with another deadline; 0 = none. */
int bitmap_save_until(struct call *call, struct bitmap *bitmap, uint64_t deadline_us);

/* The whole string in one piece, which lives until the next call. SK_OK, SK_TOOLARGE (told: beyond VALUE_BYTES_MAX), or a
 * fault. `object` is found, of type OBJECT_BITMAP. */
int bitmap_assemble(struct call *call, const struct object *object, struct slice *bytes);

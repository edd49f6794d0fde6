/* The records of a collection's elements: how their keys are made, and those that have a name, as the fields of a hash
 * and the members of a set. Only the shard's lane calls.
 *
 * Key of an element: 0x50 ‖ id of the collection (8 bytes) ‖ part (1 byte) ‖ what the part makes of it. Numbers are
 * big-endian. A type divides its elements into parts as it likes; named elements are part 0 of every type that has such:
 *
 *   0x50 ‖ id ‖ 0 ‖ position (6 bytes: the top 48 bits of the name's XXH3-64) ‖ name
 *   of a name over ELEMENT_NAME_INLINE_MAX bytes: … ‖ its first ELEMENT_NAME_INLINE_MAX bytes ‖ XXH3-128 of it ‖
 *   discriminator (1 byte); the value then begins with the bytes of the name (4 bytes) and the name. Names that collide
 *   take different discriminators.
 *
 * So named elements lie in the order of their position, which is the cursor of HSCAN and its like, and a position drawn at
 * random finds one at random. */
#pragma once

#include "shardd/big_endian.h"
#include "shardd/exec.h"
#include "shardd/long_name.h"

#define ELEMENT_PREFIX_BYTES    10u /* 0x50, id, part */
#define ELEMENT_POSITION_BYTES  6u
#define ELEMENT_POSITION_MAX    ((1ull << 48) - 1)
#define ELEMENT_NAME_INLINE_MAX 400u
#define ELEMENT_DISCRIMINATORS  LONG_NAME_DISCRIMINATORS
#define ELEMENT_NAMED           0u /* the part */
#define ELEMENT_KEY_MAX         (ELEMENT_PREFIX_BYTES + ELEMENT_POSITION_BYTES + ELEMENT_NAME_INLINE_MAX + 16u + 1u)

_Static_assert(ELEMENT_KEY_MAX <= KV_KEY_BYTES_MAX, "an element must be a key of the store");

/* Writes the beginning of an element's key; returns it. */
struct slice element_prefix(uint64_t id, uint8_t part, uint8_t room[ELEMENT_PREFIX_BYTES]);
/* Whether a key of the store is one of an element of the collection; of that part of it. */
bool element_key_is_of(struct slice key, uint64_t id);
bool element_key_is_in(struct slice key, uint64_t id, uint8_t part);

/* A named element as it was found. Lives on the stack of the command. */
struct element {
    struct slice name; /* borrowed from the caller */
    bool found;
    struct slice value; /* if found: borrowed from the store until the next change */

    /* private */
    bool chain_full;
    size_t key_size;
    uint8_t key[ELEMENT_KEY_MAX];
};

/* SK_OK also when it is not found; a fault (SK_ECORRUPT: a record that nobody writes). */
int element_find(struct exec *exec, uint64_t id, struct slice name, struct element *element);

/* Stores the value, which may point into the one that was found; that is gone then. SK_OK, SK_TOOLARGE
 * (ELEMENT_DISCRIMINATORS other names have this one's hashes: crafted ones; nothing was changed), or a fault. */
int element_put(struct exec *exec, struct element *element, struct slice value);

/* Removes one that is found. SK_OK or a fault. */
int element_remove(struct exec *exec, struct element *element);

/* Where a name stands in an order of names, and what leads back from there to the element: the name itself; of a long one its
 * first ELEMENT_NAME_INLINE_MAX bytes ‖ XXH3-128 of it ‖ discriminator ‖ position. So names are in the order of their bytes,
 * but for long ones that agree in what is inline: those are in the order of their hashes. */
#define ELEMENT_PLACE_MAX (ELEMENT_NAME_INLINE_MAX + 16u + 1u + ELEMENT_POSITION_BYTES)

/* The place of an element that was looked up; one that is not found has the place that it would get. */
struct slice element_place(const struct element *element, uint8_t room[ELEMENT_PLACE_MAX]);
/* The name of the element at a place: the place itself, or borrowed from the store. SK_OK or a fault. */
int element_name_at(struct exec *exec, uint64_t id, struct slice place, struct slice *name);

/* Walks the named elements of a collection from a position on, in their order. Not across a change. */
struct element_walk {
    struct kv_iter *iter;                                       /* private */
    uint64_t id;                                                /* private */
    uint8_t end[ELEMENT_PREFIX_BYTES + ELEMENT_POSITION_BYTES]; /* private */
};
int element_walk_open(struct exec *exec, uint64_t id, uint64_t position, struct element_walk *walk);
/* Ends the walk before a position; without it, it ends with the collection. What was removed beyond is not passed. */
void element_walk_end_at(struct element_walk *walk, uint64_t position);
/* SK_OK, SK_NOT_FOUND at the end, or a fault. Slices live until the next call. */
int element_walk_next(struct element_walk *walk, uint64_t *position, struct slice *name, struct slice *value);
void element_walk_close(struct element_walk *walk);

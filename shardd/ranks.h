/* An ordered set of byte strings within a collection, which knows the rank of each without walking to it: the order of a sorted
 * set's elements. Only the shard's lane calls.
 *
 * The keys are records of one part of the collection, without values. About every 32nd of them is a boundary of level 1, of
 * these about every 32nd one of level 2 too, and so on: a skip list with widths (Pugh, 1990, "A Skip List Cookbook"), where the
 * key's hash stands for chance. A boundary has a record in its level's part, which holds how many keys there are from it up to
 * the next boundary of that level. So adding or removing a key changes one small
 * record of each level, the rank of a key and the key of a rank are found by meeting about 32 records of each level, and a
 * set of less than some 32 keys has no level at all. What is stored is a function of the keys alone, not of how they came.
 *
 *   part      0x50 ‖ id ‖ part ‖ key                   no value
 *   part + 1  0x50 ‖ id ‖ part + 1                     the root: levels (1 byte) ‖ for each of them the keys before its first
 *                                                      boundary (8 bytes) ‖ bytes of the first key (2) ‖ first key ‖ last key
 *   part + 1 + level  0x50 ‖ id ‖ part + 1 + level ‖ key   keys up to the next boundary (8 bytes)
 *
 * Every walk ends at the first or the last key, so keys that were removed at the ends, as from a queue, and whose deleted
 * records a checkpoint has yet to take away, are not met again. */
#pragma once

#include "shardd/element.h"

#define RANKS_KEY_MAX    448u
#define RANKS_LEVELS_MAX 12u
#define RANKS_PARTS      (2u + RANKS_LEVELS_MAX) /* that it takes, from the first on */

_Static_assert(ELEMENT_PREFIX_BYTES + RANKS_KEY_MAX + 1 <= KV_KEY_BYTES_MAX, "a key and what follows it at once");

struct ranks_key {
    size_t size;
    uint8_t bytes[RANKS_KEY_MAX];
};

static inline struct slice ranks_key_slice(const struct ranks_key *key) { return slice_of(key->bytes, key->size); }

/* Lives on the stack of the command. */
struct ranks {
    uint64_t count;         /* keys */
    struct ranks_key first; /* the least and the greatest of them; of size 0 if there are none */
    struct ranks_key last;

    /* private */
    struct exec *exec;
    uint64_t id;
    uint8_t part;
    bool stored; /* there is a root */
    bool changed;
    uint8_t levels;
    uint64_t ahead[RANKS_LEVELS_MAX + 1]; /* of each level: keys before its first boundary; [0] is not used */
};

/* Reads the root of the set of `count` keys in a part of a collection. Without any, `id` may be 0, and is given before the
 * first key is added. SK_OK; a fault (SK_ECORRUPT: records that nobody writes). */
int ranks_open(struct exec *exec, uint64_t id, uint8_t part, uint64_t count, struct ranks *ranks);

/* Adds a key that is not there, of 1 to RANKS_KEY_MAX bytes; removes one that is there. The key must not lie in `ranks`.
 * SK_OK or a fault. */
int ranks_add(struct ranks *ranks, struct slice key);
int ranks_remove(struct ranks *ranks, struct slice key);
/* Stores the root after changes. SK_OK or a fault. */
int ranks_save(struct ranks *ranks);

/* How many keys are before `key`, which need not be one of them. SK_OK or a fault. */
int ranks_before(struct ranks *ranks, struct slice key, uint64_t *count);
/* The key that has `rank` keys before it; rank < count. SK_OK or a fault. */
int ranks_select(struct ranks *ranks, uint64_t rank, struct ranks_key *key);

/* Walks the keys from `from` on (inclusive) that are before `below` (exclusive), upwards or downwards, after leaving out the
 * first `skip` of them. Not across a change. Close also what could not be opened. */
struct ranks_walk {
    struct kv_iter *iter;            /* private; NULL: nothing to walk */
    uint8_t bound[KV_KEY_BYTES_MAX]; /* private */
};
struct ranks_range {
    struct slice from, below;
};
int ranks_walk_open(struct ranks *ranks, const struct ranks_range *range, bool down, uint64_t skip,
                    struct ranks_walk *walk);
/* SK_OK, SK_NOT_FOUND at the end, or a fault. The key lives until the next call. */
int ranks_walk_next(struct ranks_walk *walk, struct slice *key);
void ranks_walk_close(struct ranks_walk *walk);

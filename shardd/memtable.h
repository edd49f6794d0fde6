/* The changes of one generation: for each shard an ordered map in memory of key to value or tombstone. Keys and
 * values are copied into an arena that goes back to the system as a whole. Each map is a B+tree whose nodes carry
 * the first eight bytes of their keys, so that a search rarely touches a key that it does not want. Nothing is
 * ever removed from a map: a deleted key stays as a tombstone, which hides what lies in the layers below.
 *
 * Threads: one thread at a time while it is changed. Once nobody changes it any more (it is frozen), any number of
 * threads may read it. */
#pragma once

#include "libcommon/slice.h"

struct memtable;

enum memtable_found {
    MEMTABLE_ABSENT,  /* this table says nothing about the key */
    MEMTABLE_VALUE,   /* it has a value */
    MEMTABLE_DELETED, /* it has a tombstone */
};

/* SK_ENOMEM. */
int memtable_new(struct memtable **table);
void memtable_free(struct memtable *table); /* NULL is allowed */

/* What the table knows of `key`. `value` (set for MEMTABLE_VALUE) lives until the next change of the table. */
enum memtable_found memtable_get(const struct memtable *table, uint32_t shard, struct slice key,
                                 struct slice *value);

/* Key and value are copied; both may point into a value of this table. SK_ENOMEM: the table is as it was. */
int memtable_put(struct memtable *table, uint32_t shard, struct slice key, struct slice value);

/* Leaves a tombstone, whether the key was there or not. SK_ENOMEM. */
int memtable_delete(struct memtable *table, uint32_t shard, struct slice key);

/* Forgets all that the table has of a shard. Its memory stays in use until the table is freed. */
void memtable_forget(struct memtable *table, uint32_t shard);

/* Bytes of memory in use: arena, nodes, large values, and what overwriting has left behind. */
uint64_t memtable_bytes(const struct memtable *table);

/* Shards to ask about are below this. */
uint32_t memtable_shard_limit(const struct memtable *table);

/* Keys of a shard, tombstones among them. */
uint64_t memtable_entries(const struct memtable *table, uint32_t shard);

/* A place in the map of a shard; void after a change. */
struct memtable_cursor {
    const struct memtable_node *leaf; /* private */
    uint32_t at;                      /* private */
};

/* The first key at or after `from`. */
struct memtable_cursor memtable_seek(const struct memtable *table, uint32_t shard, struct slice from);

/* What the cursor stands at; MEMTABLE_ABSENT at the end. A tombstone has a key and no value. */
enum memtable_found memtable_cursor_get(const struct memtable_cursor *cursor, struct slice *key,
                                        struct slice *value);

/* Moves to the next key. Not at the end. */
void memtable_cursor_next(struct memtable_cursor *cursor);

/* The last key before `below`, and from there down: at the end means before the first key then. */
struct memtable_cursor memtable_seek_below(const struct memtable *table, uint32_t shard, struct slice below);
void memtable_cursor_previous(struct memtable_cursor *cursor);

#include "memtable.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <endian.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xxhash.h>

/* Design. All memory but the table itself comes in mmap'd pieces, so that freeing a generation gives it back to
 * the system whatever malloc thinks: small things from chunks that are never freed singly, values over LARGE_BYTES
 * in a mapping of their own, freed when overwritten. An entry that is outgrown stays in its chunk: separators of
 * inner nodes may point at it for its key, which never changes.
 *
 * Most lookups are of keys that were not changed lately. A Bloom filter answers them without a walk down the tree:
 * three bits in one word per key (Putze, Sanders and Singler, 2007, "blocked"), so a lookup touches one cache line.
 * At 220,000 keys, some 32 MiB of them, it is wrong about one time in thirty.
 *
 * The elements of a collection share the first bytes of their keys, its id. So a node leaves out what its keys share, in
 * words of eight bytes: keys of clients, which are spread by their hash, share none, and are found without a look at them. A key
 * that shares less makes its node anew; where a node is split, both halves are. */

#define CHUNK_BYTES     (1u << 20)
#define LARGE_BYTES     (64u << 10)
#define FANOUT          32u
#define PAGE_BYTES      4096u
#define KEY_BYTES_LIMIT 65535u /* key_size is 16 bits */
#define FILTER_WORDS    32768u /* of 64 bits: 256 KiB; a power of two */

struct chunk {
    struct chunk *next;
};

/* A mapping that holds one value behind this header. */
struct large {
    struct large *previous;
    struct large *next;
    size_t mapped_bytes;
    uint8_t value[];
};

/* The value follows the key; or, if it is large, a `struct large *` does. */
struct entry {
    uint32_t size;
    uint32_t room; /* bytes that the value may have without moving */
    uint16_t key_size;
    bool deleted;
    bool is_large;
    uint8_t key[];
};

struct memtable_node {
    uint16_t count;
    uint16_t shared; /* bytes that all of its keys begin with, in whole words: `prefix` is of those behind */
    bool is_leaf;
    struct memtable_node *next;     /* leaves: the one to the right, */
    struct memtable_node *previous; /* and to the left */
    uint64_t prefix[FANOUT];        /* eight bytes of the keys of `entry`, as an integer that sorts like them */
    struct entry *entry[FANOUT];    /* inner nodes: has the least key of child i; not looked at for child 0 */
    struct memtable_node *child[];  /* inner nodes: FANOUT of them */
};

struct map {
    struct memtable_node *root; /* NULL: empty */
    uint64_t entries;
};

struct memtable {
    struct map *maps; /* owned; by shard */
    uint32_t map_count;
    struct chunk *chunks; /* owned; the first one is being filled */
    size_t chunk_used;    /* bytes of the first chunk */
    struct large *larges; /* owned */
    uint64_t bytes;
    uint64_t filter[FILTER_WORDS]; /* of all keys of all shards; not counted in `bytes`, which is 0 while empty */
};

int memtable_new(struct memtable **table) {
    struct memtable *created = calloc(1, sizeof *created);
    if (created == NULL) return SK_ENOMEM;
    created->chunk_used = CHUNK_BYTES;
    *table = created;
    return SK_OK;
}

void memtable_free(struct memtable *table) {
    if (table == NULL) return;
    for (struct chunk *chunk = table->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        munmap(chunk, CHUNK_BYTES);
    }
    for (struct large *large = table->larges, *next; large != NULL; large = next) {
        next = large->next;
        munmap(large, large->mapped_bytes);
    }
    free(table->maps);
    free(table);
}

/* ---- memory ---- */

static void *map_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void *arena_alloc(struct memtable *table, size_t bytes) {
    bytes = (bytes + 7) & ~(size_t)7;
    sk_assert(bytes <= CHUNK_BYTES - sizeof(struct chunk));
    if (table->chunk_used + bytes > CHUNK_BYTES) {
        struct chunk *chunk = map_memory(CHUNK_BYTES);
        if (chunk == NULL) return NULL;
        table->bytes += CHUNK_BYTES - table->chunk_used; /* the end of the old one is lost */
        table->bytes += sizeof *chunk;
        chunk->next = table->chunks;
        table->chunks = chunk;
        table->chunk_used = sizeof *chunk;
    }
    void *memory = (uint8_t *)table->chunks + table->chunk_used;
    table->chunk_used += bytes;
    table->bytes += bytes;
    return memory;
}

static struct large *large_new(struct memtable *table, size_t value_bytes) {
    size_t mapped_bytes = (sizeof(struct large) + value_bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    struct large *large = map_memory(mapped_bytes);
    if (large == NULL) return NULL;
    large->mapped_bytes = mapped_bytes;
    large->next = table->larges;
    if (large->next != NULL) large->next->previous = large;
    table->larges = large;
    table->bytes += mapped_bytes;
    return large;
}

static void large_free(struct memtable *table, struct large *large) {
    if (large->previous != NULL) large->previous->next = large->next;
    else table->larges = large->next;
    if (large->next != NULL) large->next->previous = large->previous;
    table->bytes -= large->mapped_bytes;
    munmap(large, large->mapped_bytes);
}

/* ---- entries ---- */

static struct slice entry_key(const struct entry *entry) { return slice_of(entry->key, entry->key_size); }

static struct large *entry_large(const struct entry *entry) {
    struct large *large;
    memcpy(&large, entry->key + entry->key_size, sizeof large);
    return large;
}

static void entry_set_large(struct entry *entry, struct large *large) {
    memcpy(entry->key + entry->key_size, &large, sizeof large);
    entry->is_large = true;
    entry->room = (uint32_t)(large->mapped_bytes - sizeof *large);
}

static uint8_t *entry_value(struct entry *entry) {
    return entry->is_large ? entry_large(entry)->value : entry->key + entry->key_size;
}

static enum memtable_found entry_read(struct entry *entry, struct slice *value) {
    if (entry->deleted) return MEMTABLE_DELETED;
    *value = slice_of(entry_value(entry), entry->size);
    return MEMTABLE_VALUE;
}

/* Gives the memory of a large value back; the entry is then without room. */
static void entry_release_large(struct memtable *table, struct entry *entry) {
    if (!entry->is_large) return;
    large_free(table, entry_large(entry));
    entry->is_large = false;
    entry->room = 0;
    entry->size = 0;
}

/* Room for a value of `size` bytes; some more if it has `grown`, since what grows tends to grow again. */
static size_t room_for(size_t size, bool grown) { return grown ? size + size / 4 : size; }

/* A tombstone with room for `room` bytes. */
static struct entry *entry_new(struct memtable *table, struct slice key, size_t room) {
    bool is_large = room > LARGE_BYTES;
    size_t inline_bytes = is_large ? sizeof(struct large *) : room;
    struct entry *entry = arena_alloc(table, sizeof *entry + key.size + inline_bytes);
    if (entry == NULL) return NULL;
    *entry = (struct entry){.key_size = (uint16_t)key.size, .deleted = true, .room = (uint32_t)room};
    memcpy(entry->key, key.data, key.size);
    if (is_large) {
        struct large *large = large_new(table, room);
        if (large == NULL) return NULL;
        entry_set_large(entry, large);
    }
    return entry;
}

static void entry_write(struct entry *entry, struct slice value) {
    sk_assert(value.size <= entry->room);
    if (value.size > 0) memmove(entry_value(entry), value.data, value.size);
    entry->size = (uint32_t)value.size;
    entry->deleted = false;
}

/* Whether `value` goes where the old one is. A small value does not keep a large mapping. */
static bool entry_has_room(const struct entry *entry, struct slice value) {
    return value.size <= entry->room && (!entry->is_large || value.size > LARGE_BYTES);
}

/* ---- the tree ---- */

#define WORD_BYTES sizeof(uint64_t)

/* The bytes from `at` on, with zeros behind the end. */
static inline uint64_t word_of(struct slice key, size_t at) {
    uint64_t word = 0;
    if (key.size >= at + sizeof word) memcpy(&word, key.data + at, sizeof word);
    else if (key.size > at) memcpy(&word, key.data + at, key.size - at);
    return be64toh(word);
}

/* What both begin with, in whole words. */
static size_t shared_bytes(struct slice a, struct slice b) {
    size_t least = a.size < b.size ? a.size : b.size, at = 0;
    while (least - at >= WORD_BYTES && memcmp(a.data + at, b.data + at, WORD_BYTES) == 0) at += WORD_BYTES;
    return at;
}

/* The first position whose key counts: that of an inner node's first child does not. */
static uint32_t first_position(const struct memtable_node *node) { return node->is_leaf ? 0 : 1; }

/* How `key` stands to what all keys of the node begin with: 0 = it begins so too. */
static int compare_shared(const struct memtable_node *node, struct slice key) {
    if (node->shared == 0) return 0;
    const uint8_t *shared = node->entry[first_position(node)]->key;
    size_t common = key.size < node->shared ? key.size : node->shared;
    int order = memcmp(key.data, shared, common);
    return order != 0 || key.size >= node->shared ? order : -1;
}

/* For a key that begins as the node's do; `prefix` is its word behind that. */
static int compare_at(const struct memtable_node *node, uint32_t i, uint64_t prefix, struct slice key) {
    if (node->prefix[i] != prefix) return node->prefix[i] < prefix ? -1 : 1;
    return slice_compare(entry_key(node->entry[i]), key);
}

/* The first position of a leaf whose key is not before `key`. */
static uint32_t leaf_position(const struct memtable_node *leaf, struct slice key) {
    uint32_t low = 0, high = leaf->count;
    int order = compare_shared(leaf, key);
    if (order != 0) return order < 0 ? 0 : high;
    uint64_t prefix = word_of(key, leaf->shared);
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (compare_at(leaf, middle, prefix, key) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Which child of an inner node has `key`: the last one whose least key is not after it. */
static uint32_t child_position(const struct memtable_node *node, struct slice key) {
    uint32_t low = 1, high = node->count;
    if (node->count < 2) return 0;
    int order = compare_shared(node, key);
    if (order != 0) return order < 0 ? 0 : node->count - 1u;
    uint64_t prefix = word_of(key, node->shared);
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (compare_at(node, middle, prefix, key) <= 0) low = middle + 1;
        else high = middle;
    }
    return low - 1;
}

static struct memtable_node *node_new(struct memtable *table, bool is_leaf) {
    size_t child_bytes = is_leaf ? 0 : FANOUT * sizeof(struct memtable_node *);
    struct memtable_node *node = arena_alloc(table, sizeof *node + child_bytes);
    if (node == NULL) return NULL;
    node->count = 0;
    node->shared = 0;
    node->is_leaf = is_leaf;
    node->next = node->previous = NULL;
    return node;
}

static void node_copy(struct memtable_node *to, uint32_t to_at, const struct memtable_node *from, uint32_t from_at,
                      uint32_t count) {
    memmove(to->prefix + to_at, from->prefix + from_at, count * sizeof *to->prefix);
    memmove(to->entry + to_at, from->entry + from_at, count * sizeof(*to->entry));
    if (!to->is_leaf) memmove(to->child + to_at, from->child + from_at, count * sizeof(*to->child));
}

/* Its keys share so many bytes from now on. */
static void node_set_shared(struct memtable_node *node, size_t shared) {
    if (node->shared == shared) return;
    node->shared = (uint16_t)shared;
    for (uint32_t i = first_position(node); i < node->count; i++)
        node->prefix[i] = word_of(entry_key(node->entry[i]), shared);
}

/* As many as its first and last key do, between which the others lie. */
static void node_find_shared(struct memtable_node *node) {
    uint32_t first = first_position(node);
    size_t shared = 0;
    if (first < node->count) {
        shared = shared_bytes(entry_key(node->entry[first]), entry_key(node->entry[node->count - 1]));
    }
    node_set_shared(node, shared);
}

static void node_insert(struct memtable_node *node, uint32_t at, struct entry *entry,
                        struct memtable_node *child) {
    sk_assert(node->count < FANOUT);
    struct slice key = entry_key(entry);
    if (node->shared > 0 && at >= first_position(node)) {
        size_t shared = shared_bytes(key, entry_key(node->entry[first_position(node)]));
        if (shared < node->shared) node_set_shared(node, shared);
    }
    node_copy(node, at + 1, node, at, node->count - at);
    node->prefix[at] = word_of(key, node->shared);
    node->entry[at] = entry;
    if (!node->is_leaf) node->child[at] = child;
    node->count++;
}

/* Halves the full child at `at`. `appending`: keys come in order, so the left one is left full. */
static int split_child(struct memtable *table, struct memtable_node *parent, uint32_t at, bool appending) {
    struct memtable_node *left = parent->child[at];
    struct memtable_node *right = node_new(table, left->is_leaf);
    if (right == NULL) return SK_ENOMEM;
    uint32_t kept = appending ? FANOUT - 1 : FANOUT / 2;
    node_copy(right, 0, left, kept, FANOUT - kept);
    right->count = (uint16_t)(FANOUT - kept);
    left->count = (uint16_t)kept;
    if (left->is_leaf) {
        right->next = left->next;
        right->previous = left;
        if (left->next != NULL) left->next->previous = right;
        left->next = right;
    }
    right->shared = left->shared;
    node_find_shared(left);
    node_find_shared(right);
    node_insert(parent, at + 1, right->entry[0], right);
    return SK_OK;
}

/* A root above the full one. */
static int grow_root(struct memtable *table, struct map *map) {
    struct memtable_node *root = node_new(table, false);
    if (root == NULL) return SK_ENOMEM;
    node_insert(root, 0, map->root->entry[0], map->root);
    map->root = root;
    return SK_OK;
}

/* ---- the filter ---- */

struct filter_place {
    uint32_t word;
    uint64_t bits;
};

static struct filter_place filter_place_of(struct slice key) {
    uint64_t hash = XXH3_64bits(key.data, key.size);
    return (struct filter_place){.word = (uint32_t)(hash % FILTER_WORDS),
                                 .bits =
                                     1ull << (hash >> 58) | 1ull << (hash >> 52 & 63) | 1ull << (hash >> 46 & 63)};
}

static bool filter_may_have(const struct memtable *table, struct filter_place place) {
    return (table->filter[place.word] & place.bits) == place.bits;
}

static void filter_add(struct memtable *table, struct filter_place place) {
    table->filter[place.word] |= place.bits;
}

/* Full nodes are split on the way down, so each step leaves a whole tree and running out of memory harms nothing.
 */
static int map_insert(struct memtable *table, struct map *map, struct entry *entry) {
    struct slice key = entry_key(entry);
    if (map->root == NULL) {
        map->root = node_new(table, true);
        if (map->root == NULL) return SK_ENOMEM;
    }
    if (map->root->count == FANOUT) {
        int err = grow_root(table, map);
        if (err != SK_OK) return err;
    }
    struct memtable_node *node = map->root;
    bool rightmost = true;
    while (!node->is_leaf) {
        uint32_t at = child_position(node, key);
        rightmost = rightmost && at == node->count - 1u;
        struct memtable_node *child = node->child[at];
        if (child->count == FANOUT) {
            bool appending = rightmost && slice_compare(entry_key(child->entry[FANOUT - 1]), key) < 0;
            int err = split_child(table, node, at, appending);
            if (err != SK_OK) return err;
            if (slice_compare(entry_key(node->entry[at + 1]), key) <= 0) at++;
            rightmost = rightmost && at == node->count - 1u;
        }
        node = node->child[at];
    }
    node_insert(node, leaf_position(node, key), entry, NULL);
    map->entries++;
    return SK_OK;
}

static int add_entry(struct memtable *table, struct map *map, struct entry *entry, struct filter_place place) {
    int err = map_insert(table, map, entry);
    if (err == SK_OK) filter_add(table, place);
    return err;
}

static const struct map *map_of(const struct memtable *table, uint32_t shard) {
    static const struct map empty;
    return shard < table->map_count ? &table->maps[shard] : &empty;
}

static int map_for_change(struct memtable *table, uint32_t shard, struct map **map) {
    if (shard >= table->map_count) {
        uint32_t count = table->map_count == 0 ? 16 : table->map_count;
        while (count <= shard) count *= 2;
        struct map *maps = realloc(table->maps, count * sizeof *maps);
        if (maps == NULL) return SK_ENOMEM;
        memset(maps + table->map_count, 0, (count - table->map_count) * sizeof *maps);
        table->bytes += (count - table->map_count) * sizeof *maps;
        table->maps = maps;
        table->map_count = count;
    }
    *map = &table->maps[shard];
    return SK_OK;
}

/* Where the leaf of `map` has `key`, or would have it: `leaf` may be NULL (empty map). */
static struct memtable_cursor map_seek(const struct map *map, struct slice key) {
    const struct memtable_node *node = map->root;
    if (node == NULL) return (struct memtable_cursor){.leaf = NULL};
    while (!node->is_leaf) node = node->child[child_position(node, key)];
    return (struct memtable_cursor){.leaf = node, .at = leaf_position(node, key)};
}

/* The slot of a node that has `key`, NULL if none does. */
static struct entry **map_find(const struct map *map, struct slice key) {
    struct memtable_cursor place = map_seek(map, key);
    if (place.leaf == NULL || place.at == place.leaf->count) return NULL;
    struct entry *const *slot = &place.leaf->entry[place.at];
    return slice_equal(entry_key(*slot), key) ? (struct entry **)slot : NULL;
}

/* ---- what the header promises ---- */

enum memtable_found memtable_get(const struct memtable *table, uint32_t shard, struct slice key,
                                 struct slice *value) {
    if (!filter_may_have(table, filter_place_of(key))) return MEMTABLE_ABSENT;
    struct entry **slot = map_find(map_of(table, shard), key);
    return slot == NULL ? MEMTABLE_ABSENT : entry_read(*slot, value);
}

/* A value that does not fit where the old one is. The old one is released only when copied, for it may be the
 * source. */
static int replace_value(struct memtable *table, struct entry **slot, struct slice value) {
    struct entry *old = *slot;
    bool grown = !old->deleted && value.size > old->size;
    struct entry *entry = entry_new(table, entry_key(old), room_for(value.size, grown));
    if (entry == NULL) return SK_ENOMEM;
    entry_write(entry, value);
    entry_release_large(table, old);
    *slot = entry;
    return SK_OK;
}

int memtable_put(struct memtable *table, uint32_t shard, struct slice key, struct slice value) {
    sk_assert(key.size > 0 && key.size <= KEY_BYTES_LIMIT);
    sk_assert(value.size <= UINT32_MAX / 2);
    struct map *map;
    int err = map_for_change(table, shard, &map);
    if (err != SK_OK) return err;
    struct filter_place place = filter_place_of(key);
    struct entry **slot = filter_may_have(table, place) ? map_find(map, key) : NULL;
    if (slot != NULL) {
        if (!entry_has_room(*slot, value)) return replace_value(table, slot, value);
        entry_write(*slot, value);
        return SK_OK;
    }
    struct entry *entry = entry_new(table, key, room_for(value.size, false));
    if (entry == NULL) return SK_ENOMEM;
    entry_write(entry, value);
    return add_entry(table, map, entry, place);
}

int memtable_delete(struct memtable *table, uint32_t shard, struct slice key) {
    sk_assert(key.size > 0 && key.size <= KEY_BYTES_LIMIT);
    struct map *map;
    int err = map_for_change(table, shard, &map);
    if (err != SK_OK) return err;
    struct filter_place place = filter_place_of(key);
    struct entry **slot = filter_may_have(table, place) ? map_find(map, key) : NULL;
    if (slot != NULL) {
        entry_release_large(table, *slot);
        (*slot)->deleted = true;
        return SK_OK;
    }
    struct entry *entry = entry_new(table, key, 0);
    if (entry == NULL) return SK_ENOMEM;
    return add_entry(table, map, entry, place);
}

void memtable_forget(struct memtable *table, uint32_t shard) {
    if (shard >= table->map_count) return;
    table->maps[shard] = (struct map){.root = NULL};
}

uint64_t memtable_bytes(const struct memtable *table) { return table->bytes; }

uint32_t memtable_shard_limit(const struct memtable *table) { return table->map_count; }

uint64_t memtable_entries(const struct memtable *table, uint32_t shard) { return map_of(table, shard)->entries; }

static void skip_leaf_end(struct memtable_cursor *cursor) {
    if (cursor->leaf == NULL || cursor->at < cursor->leaf->count) return;
    cursor->leaf = cursor->leaf->next;
    cursor->at = 0;
}

struct memtable_cursor memtable_seek(const struct memtable *table, uint32_t shard, struct slice from) {
    struct memtable_cursor cursor = map_seek(map_of(table, shard), from);
    skip_leaf_end(&cursor);
    return cursor;
}

enum memtable_found memtable_cursor_get(const struct memtable_cursor *cursor, struct slice *key,
                                        struct slice *value) {
    if (cursor->leaf == NULL) return MEMTABLE_ABSENT;
    struct entry *entry = cursor->leaf->entry[cursor->at];
    *key = entry_key(entry);
    *value = slice_of(NULL, 0);
    return entry_read(entry, value);
}

void memtable_cursor_next(struct memtable_cursor *cursor) {
    sk_assert(cursor->leaf != NULL);
    cursor->at++;
    skip_leaf_end(cursor);
}

/* No leaf is ever empty. */
static void step_back(struct memtable_cursor *cursor) {
    if (cursor->at > 0) {
        cursor->at--;
        return;
    }
    cursor->leaf = cursor->leaf->previous;
    cursor->at = cursor->leaf == NULL ? 0 : cursor->leaf->count - 1u;
}

struct memtable_cursor memtable_seek_below(const struct memtable *table, uint32_t shard, struct slice below) {
    struct memtable_cursor cursor = map_seek(map_of(table, shard), below);
    if (cursor.leaf != NULL) step_back(&cursor);
    return cursor;
}

void memtable_cursor_previous(struct memtable_cursor *cursor) {
    sk_assert(cursor->leaf != NULL);
    step_back(cursor);
}

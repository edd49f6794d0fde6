/* Keys of clients as records of a shard: the layout, and the bookkeeping that goes with every change (counters,
 * expiry index). Every data type uses it; only its payload is the type's own. Only the shard's lane calls.
 *
 * Records of a shard, told apart by their first byte:
 *
 *   0x00-0x3f  data record: slot (2 bytes, big-endian) ‖ hash (6 bytes: the top 48 bits of XXH3-64) ‖ key.
 *              A key over KEYSPACE_KEY_INLINE_MAX bytes: … ‖ its first KEYSPACE_KEY_INLINE_MAX bytes ‖ XXH3-128 of it
 *              ‖ discriminator (1 byte). The full key stands in the value; keys that collide take different
 *              discriminators, and a lookup walks them all.
 *   0x40       expiry index: 0x40 ‖ deadline_us (8 bytes, big-endian) ‖ key of the data record; no value
 *   0x50       elements of collections: collection.h
 *   0x51       collections that are gone, and whose elements are not: garbage.h
 *   0x60 0x61  names of client ids and their order: dedup's
 *   0xf0       the shard's own record: shard.c's
 *
 * Value of a data record: type (1 byte) ‖ flags (1 byte) ‖ version (8 bytes) ‖ [deadline_us, 8 bytes] ‖ [bytes of the
 * key, 4 bytes ‖ key] ‖ payload. Numbers are big-endian. A string's payload is its bytes; that of any other type is a
 * head: the id under which its elements lie (8 bytes), bytes of them as clients see them (8 bytes), and what is the
 * type's own (collection.h). Each storing of a record gives it a version that no record of the shard has had before.
 *
 * The data records of a shard lie in the order of (slot, hash): that pair is SCAN's cursor. */
#pragma once

#include "libcommon/limits.h"
#include "libcommon/slot.h"
#include "shardd/exec.h"
#include "shardd/long_name.h"
#include "shardd/record_kind.h"

#define KEYSPACE_POSITION_BYTES 8u /* slot and hash */
#define KEYSPACE_KEY_INLINE_MAX 400u
#define KEYSPACE_DISCRIMINATORS LONG_NAME_DISCRIMINATORS
#define KEYSPACE_RECORD_KEY_MAX (KEYSPACE_POSITION_BYTES + KEYSPACE_KEY_INLINE_MAX + 16u + 1u)
#define KEYSPACE_INDEX_KEY_MAX  (1u + 8u + KEYSPACE_RECORD_KEY_MAX)

_Static_assert(KEYSPACE_INDEX_KEY_MAX <= KV_KEY_BYTES_MAX, "an index entry must be a key of the store");
_Static_assert(((SLOT_COUNT - 1) >> 8) < RECORD_EXPIRY, "slots must not run into the other kinds of records");

enum object_type { OBJECT_STRING = 1, OBJECT_HASH, OBJECT_LIST, OBJECT_SET, OBJECT_ZSET, OBJECT_BITMAP };

#define KEYSPACE_HEAD_BYTES 16u /* of a collection's payload: its id, and the bytes of its elements */

/* Replaceable, so that tests can make keys collide. Part of the format otherwise. */
struct keyspace_hasher {
    uint64_t (*hash64)(struct slice key);
    void (*hash128)(struct slice key, uint8_t hash[16]);
};
extern const struct keyspace_hasher keyspace_hasher_xxh3;

/* A key as it was found. Lives on the stack of the command. */
struct object {
    struct slice key;     /* the client's, borrowed from the caller */
    bool found;           /* there and not expired; the next four only then */
    uint8_t type;         /* enum object_type */
    uint64_t deadline_us; /* since 1970; 0 = none */
    uint64_t version;
    struct slice payload; /* borrowed from the store: until the next change */

    /* private */
    bool writable;        /* from keyspace_find_for_write */
    bool chain_full;      /* no discriminator is left for this key */
    uint64_t value_bytes; /* as counted */
    uint64_t elements_id; /* of a collection; else 0 */
    size_t record_key_size;
    uint8_t record_key[KEYSPACE_RECORD_KEY_MAX];
};

/* Looks a key up for reading: what has expired by `now_us` is not found, and nothing changes. SK_OK also when it
 * is not found; a fault (SK_ECORRUPT: a record that nobody writes). */
int keyspace_find(struct exec *exec, struct slice key, uint64_t now_us, struct object *object);

/* The same before a change: an expired key is removed first, so the functions below need not know of it. */
int keyspace_find_for_write(struct exec *exec, struct slice key, uint64_t now_us, struct object *object);

/* Storing in two steps, so that a payload is put together where it is written from: keyspace_build starts the
 * value, the caller appends the payload to the buffer it gets, keyspace_put stores it, with counters and index.
 * The payload of the object may be appended; it is gone after keyspace_put. deadline_us 0 = none. The elements of a
 * collection that is overwritten by something else are removed, some later (garbage.h). SK_OK, SK_TOOLARGE (KEYSPACE_DISCRIMINATORS other keys have this one's hashes: crafted ones; nothing was changed), or a
 * fault. */
struct buffer *keyspace_build(struct exec *exec, const struct object *object, uint8_t type, uint64_t deadline_us);
int keyspace_put(struct exec *exec, struct object *object);

/* Tells that the elements of the collection that was found have been moved, to lie under another id: they are no others. */
void keyspace_elements_moved(struct object *object, uint64_t id);

/* Both steps for a payload that lies in one piece. */
int keyspace_store(struct exec *exec, struct object *object, uint8_t type, struct slice payload,
                   uint64_t deadline_us);

/* Stores the same payload with another deadline (0 = none). The object is found. SK_OK or a fault. */
int keyspace_set_deadline(struct exec *exec, struct object *object, uint64_t deadline_us);

/* Removes the record, and the elements of a collection, some later. The object is found. SK_OK or a fault. */
int keyspace_remove(struct exec *exec, struct object *object);
/* The same without the elements, which the caller has removed, or given to another key. */
int keyspace_remove_record(struct exec *exec, struct object *object);

/* What a data record says. Slices point into the record and its key. SK_OK or SK_ECORRUPT. */
struct record {
    uint8_t type;
    uint64_t deadline_us;
    uint64_t version;
    struct slice key; /* the client's */
    struct slice payload;
};
int keyspace_read_record(struct slice record_key, struct slice value, struct record *record);

/* The key of a data record and back: slot << 48 | hash. `record_key` has at least KEYSPACE_POSITION_BYTES. */
uint64_t keyspace_position(struct slice record_key);
void keyspace_position_key(uint64_t position, uint8_t key[KEYSPACE_POSITION_BYTES]);

/* Bytes of a value as clients see them. */
uint64_t keyspace_value_bytes(const struct record *record);
/* The id under which a collection's elements lie; 0: a string. */
uint64_t keyspace_elements_id(const struct record *record);

/* "string", "hash" and so on as Redis names them; "unknown" for a type of a later version. */
const char *keyspace_type_name(uint8_t type);

/* The index: exec_sweep and exec_next_deadline are built on these. */

/* The first entry of the index, `deadline_us` UINT64_MAX if there is none. SK_OK or a fault. */
int keyspace_first_deadline(struct exec *exec, uint64_t *deadline_us);
/* Removes the keys of the first `limit` entries at or before `now_us`. SK_OK or a fault. */
int keyspace_remove_expired(struct exec *exec, uint64_t now_us, uint32_t limit, uint32_t *removed);

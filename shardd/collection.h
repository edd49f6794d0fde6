/* Collections of clients' keys: a head, which is the key's data record, and elements under the head's id, each a record of its
 * own. So a change of one element costs its own size and that of the head, whatever the collection has. Only the shard's
 * lane calls.
 *
 * Payload of the head, numbers big-endian: id (8 bytes) ‖ bytes of the elements as clients see them (8) ‖ count of elements
 * (8) ‖ the type's own numbers (8 each). The id is one that no collection of the shard has had before, so what is left of an
 * earlier collection of the same key (garbage.h) is never met.
 *
 * A command finds the collection, changes elements and keeps `count`, `bytes` and `numbers` up to date, and saves it at its
 * end, also when it has changed elements only: the head's version tells whoever watches the key. One without elements does
 * not exist: saving it removes the key. */
#pragma once

#include "shardd/commands/call.h"
#include "shardd/element.h"

#define COLLECTION_NUMBERS_MAX 3u

/* Of hashes, sets and sorted sets: how many elements have been removed since the others lie under this id; of a sorted set also
 * how many scores have changed. What was removed stays in the memtable, marked, until a checkpoint, and whoever walks passes it. So
 * when many have gone and few are left, saving gives these a new id, where nothing has been. */
#define COLLECTION_REMOVED 0u

struct collection {
    struct object object;
    uint8_t type;   /* enum object_type, as asked for */
    uint64_t id;    /* of the elements; given by collection_begin if it was not found */
    uint64_t count; /* elements; of a bitmap: bytes */
    uint64_t bytes;
    uint64_t numbers[COLLECTION_NUMBERS_MAX]; /* what the type makes of them; 0 when new */
};

/* Numbers of a type's own. */
uint32_t collection_number_count(uint8_t type);

/* Finds the collection at `key`. SK_OK also when there is none (`count` is 0, object.found false); SK_WRONGTYPE (told) where
 * the key is of another type; a fault. */
int collection_find(struct call *call, struct slice key, uint8_t type, struct collection *collection);
int collection_find_for_write(struct call *call, struct slice key, uint8_t type, struct collection *collection);

/* A new collection in place of whatever is at the key: what was there goes when it is saved. SK_OK or a fault. */
int collection_replace(struct call *call, struct slice key, uint8_t type, struct collection *collection);

/* Makes sure that it has an id, before its first element is put. */
void collection_begin(struct call *call, struct collection *collection);

/* Stores or removes the head. SK_OK, SK_TOOLARGE (told: the key collides with too many; only of one that was not found, and
 * its elements are then for call_all_or_nothing to undo), or a fault. */
int collection_save(struct call *call, struct collection *collection);
/* The same with another deadline. */
int collection_save_until(struct call *call, struct collection *collection, uint64_t deadline_us);

/* Runs a body that puts named elements into the collection at the first argument so that it changes all or nothing: an element
 * or the head may be refused once another element is there, if its key is a long one. The names are every `step`-th argument from
 * `first` on. SK_TOOLARGE (told) also if one is over KEY_BYTES_MAX. */
int collection_change(struct call *call, size_t first, size_t step, int (*body)(struct call *call));

/* Named elements, with count and bytes. element_put and element_remove are those of element.h, and what they refuse is told. */
int collection_put(struct call *call, struct collection *collection, struct element *element, struct slice value);
int collection_remove(struct call *call, struct collection *collection, struct element *element);

/* Reads the payload of a head. SK_OK or SK_ECORRUPT. */
int collection_read(uint8_t type, struct slice payload, struct collection *collection);

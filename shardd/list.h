/* A list: a collection whose elements are part 0 (element.h), each under a sequence number of 8 bytes, big-endian, that follows on
 * the one before it. The numbers begin in the middle of what 8 bytes can say, so both ends grow. The list is dense: the
 * sequence of the first element and an index give the element's record. Only the shard's lane calls.
 *
 * Numbers of the head: the sequence of the first element, and from which (inclusive) to which (exclusive) there are records. What
 * lies outside the list, before its first or behind its last element, has been dropped, and is removed some later, by
 * what else changes the list: so LTRIM of a million elements costs what LTRIM of a thousand does. Until then the
 * head's bytes count it.
 *
 * Both ends, and an element at an index, cost the same however long the list is. Inserting and removing in the middle moves the
 * elements of one side by rewriting their records: O(i) at most for what was found at the i-th place from the end it was
 * searched from, O(min(i, n - i)) mostly; in Redis it is O(n), too. How far that may go is bounded, since nothing else of the
 * lane runs meanwhile: LIST_SEARCHED_MAX, LIST_MOVED_MAX. */
#pragma once

#include "shardd/collection.h"

#define LIST_SEARCHED_MAX       250000u /* elements that one command looks at for one that is equal to something */
#define LIST_SEARCHED_BYTES_MAX (32u * 1024 * 1024)
#define LIST_MOVED_MAX          50000u /* elements that one command moves */

/* Dropped elements that a command removes: so many, and for each of its arguments, too, so that what is dropped goes faster
 * than new elements can come. */
#define LIST_REMOVED_AT_ONCE 1024u
#define LIST_REMOVED_FOR_ARG 2u

enum list_end { LIST_HEAD, LIST_TAIL };

struct list {
    struct collection collection; /* its count is the list's */
    uint64_t first;               /* sequence of element 0 */
    uint64_t low, high;           /* records: low, low + 1, … high - 1 */
};

/* As collection_find and collection_find_for_write. */
int list_find(struct call *call, struct slice key, struct list *list);
int list_find_for_write(struct call *call, struct slice key, struct list *list);
/* As collection_replace. */
int list_replace(struct call *call, struct slice key, struct list *list);

/* The element at an index of the list. SK_OK or a fault. The value lives as kv_get says. */
int list_get(struct call *call, const struct list *list, uint64_t index, struct slice *value);

/* Changes; list_save makes them the list's. Values may point into an element that was read. SK_OK or a fault. */
int list_set(struct call *call, struct list *list, uint64_t index, struct slice value);
int list_push(struct call *call, struct list *list, enum list_end end, struct slice value);
void list_drop(struct list *list, enum list_end end, uint64_t count); /* not more than there are */

/* What a search from one end of the list has come past: the first elements from there, the one it found last among them. */
struct list_searched {
    enum list_end from;
    uint64_t count;
    uint64_t bytes;
};

/* Puts a value before the element at `index`, which was the last that was searched, or behind which the search ended. SK_OK;
 * SK_TOOLARGE (told; nothing was changed); a fault. */
int list_insert(struct call *call, struct list *list, uint64_t index, const struct list_searched *searched,
                struct slice value);

/* Removes the elements at these indexes, of which there is one and which rise; all of them were searched. As list_insert. */
int list_remove(struct call *call, struct list *list, const uint64_t *indexes, uint64_t count,
                const struct list_searched *searched);

/* Removes of what was dropped what is due, and stores or removes the head. As collection_save. */
int list_save(struct call *call, struct list *list);

/* Walks from an index to the tail, or, from the tail's side, down to the head. Not across a change. */
struct list_walk {
    struct kv_iter *iter; /* private, as the others */
    uint64_t id, sequence, left;
    enum list_end towards;
};
int list_walk_open(struct call *call, const struct list *list, uint64_t index, enum list_end towards,
                   struct list_walk *walk);
/* SK_OK, SK_NOT_FOUND at the end, or a fault. The value lives until the next call. */
int list_walk_next(struct list_walk *walk, struct slice *value);
void list_walk_close(struct list_walk *walk);

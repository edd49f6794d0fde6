#include "shardd/list.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#define PART          0u
#define KEY_BYTES     (ELEMENT_PREFIX_BYTES + 8u)
#define SEQUENCE_BASE (UINT64_MAX / 2 + 1)

enum list_number { NUMBER_FIRST, NUMBER_LOW, NUMBER_HIGH };

/* ---- records ---- */

static struct slice key_of(uint64_t id, uint64_t sequence, uint8_t room[KEY_BYTES]) {
    (void)element_prefix(id, PART, room);
    put_u64(room + ELEMENT_PREFIX_BYTES, sequence);
    return slice_of(room, KEY_BYTES);
}

/* A record that the head promises. SK_OK or a fault. */
static int get(struct call *call, const struct list *list, uint64_t sequence, struct slice *value) {
    uint8_t room[KEY_BYTES];
    int err = kv_get(call->exec->kv, key_of(list->collection.id, sequence, room), value);
    return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
}

/* Stores a record in place of one that is there, or next to those that are. */
static int put(struct call *call, struct list *list, uint64_t sequence, struct slice value) {
    uint8_t room[KEY_BYTES];
    struct slice old = slice_of("", 0);
    sk_assert(sequence + 1 >= list->low && sequence <= list->high);
    if (sequence >= list->low && sequence < list->high) {
        int err = get(call, list, sequence, &old);
        if (err != SK_OK) return err;
    }
    if (sequence < list->low) list->low = sequence;
    if (sequence >= list->high) list->high = sequence + 1;
    list->collection.bytes += value.size;
    list->collection.bytes -= old.size;
    return kv_put(call->exec->kv, key_of(list->collection.id, sequence, room), value);
}

static int move(struct call *call, struct list *list, uint64_t from, uint64_t to) {
    struct slice value;
    int err = get(call, list, from, &value);
    return err == SK_OK ? put(call, list, to, value) : err;
}

static int remove_record(struct call *call, struct list *list, uint64_t sequence) {
    uint8_t room[KEY_BYTES];
    struct slice value;
    int err = get(call, list, sequence, &value);
    if (err != SK_OK) return err;
    list->collection.bytes -= value.size;
    return kv_del(call->exec->kv, key_of(list->collection.id, sequence, room));
}

/* ---- finding ---- */

/* `err`: of finding the collection. */
static int found(int err, struct list *list) {
    const struct collection *collection = &list->collection;
    list->first = list->low = list->high = SEQUENCE_BASE;
    if (err != SK_OK || collection->count == 0) return err;
    list->first = collection->numbers[NUMBER_FIRST];
    list->low = collection->numbers[NUMBER_LOW];
    list->high = collection->numbers[NUMBER_HIGH];
    bool sound = list->low <= list->first && list->first <= list->high &&
                 collection->count <= list->high - list->first && list->low > 0 && list->high < UINT64_MAX;
    return sound ? SK_OK : SK_ECORRUPT;
}

int list_find(struct call *call, struct slice key, struct list *list) {
    return found(collection_find(call, key, OBJECT_LIST, &list->collection), list);
}

int list_find_for_write(struct call *call, struct slice key, struct list *list) {
    return found(collection_find_for_write(call, key, OBJECT_LIST, &list->collection), list);
}

int list_replace(struct call *call, struct slice key, struct list *list) {
    return found(collection_replace(call, key, OBJECT_LIST, &list->collection), list);
}

int list_get(struct call *call, const struct list *list, uint64_t index, struct slice *value) {
    sk_assert(index < list->collection.count);
    return get(call, list, list->first + index, value);
}

/* ---- changing ---- */

int list_set(struct call *call, struct list *list, uint64_t index, struct slice value) {
    sk_assert(index < list->collection.count);
    return put(call, list, list->first + index, value);
}

int list_push(struct call *call, struct list *list, enum list_end end, struct slice value) {
    collection_begin(call, &list->collection);
    uint64_t sequence = end == LIST_HEAD ? list->first - 1 : list->first + list->collection.count;
    int err = put(call, list, sequence, value);
    if (err != SK_OK) return err;
    if (end == LIST_HEAD) list->first--;
    list->collection.count++;
    return SK_OK;
}

void list_drop(struct list *list, enum list_end end, uint64_t count) {
    sk_assert(count <= list->collection.count);
    list->collection.count -= count;
    if (end == LIST_HEAD) list->first += count;
}

static int refuse_far(struct call *call) {
    return call_refuse(call, SK_TOOLARGE, "more than %u elements of the list would have to be moved",
                       LIST_MOVED_MAX);
}

/* Whether the side of `head` elements moves, or that of `tail`: the one that was searched, unless the other has fewer elements
 * and bytes. What was searched is bounded in both. */
static enum list_end side_to_move(const struct list *list, const struct list_searched *searched, uint64_t head,
                                  uint64_t tail) {
    bool from_head = searched->from == LIST_HEAD;
    uint64_t here = from_head ? head : tail, there = from_head ? tail : head;
    bool less = there < here && list->collection.bytes - searched->bytes < searched->bytes;
    return from_head != less ? LIST_HEAD : LIST_TAIL;
}

int list_insert(struct call *call, struct list *list, uint64_t index, const struct list_searched *searched,
                struct slice value) {
    uint64_t tail = list->collection.count - index;
    if (index == 0) return list_push(call, list, LIST_HEAD, value);
    if (tail == 0) return list_push(call, list, LIST_TAIL, value);
    enum list_end side = side_to_move(list, searched, index, tail);
    if ((side == LIST_HEAD ? index : tail) > LIST_MOVED_MAX) return refuse_far(call);
    /* The outermost is pushed once more, the others follow it, and the value takes the place that is left. */
    struct slice outermost;
    int err = list_get(call, list, side == LIST_HEAD ? 0 : list->collection.count - 1, &outermost);
    if (err == SK_OK) err = list_push(call, list, side, outermost);
    uint64_t place = list->first + index;
    if (side == LIST_HEAD) {
        for (uint64_t to = list->first + 1; err == SK_OK && to < place; to++) err = move(call, list, to + 1, to);
    } else {
        uint64_t last = list->first + list->collection.count - 1;
        for (uint64_t to = last - 1; err == SK_OK && to > place; to--) err = move(call, list, to - 1, to);
    }
    return err == SK_OK ? put(call, list, place, value) : err;
}

/* Elements before the last of the removed move towards the tail, into the places of the removed. */
static int close_from_head(struct call *call, struct list *list, const uint64_t *indexes, uint64_t count) {
    int err = SK_OK;
    uint64_t to = indexes[count - 1], next = count - 1;
    for (uint64_t from = to; err == SK_OK && from-- > 0;) {
        if (next > 0 && indexes[next - 1] == from) next--;
        else err = move(call, list, list->first + from, list->first + to--);
    }
    list_drop(list, LIST_HEAD, count);
    return err;
}

static int close_from_tail(struct call *call, struct list *list, const uint64_t *indexes, uint64_t count) {
    int err = SK_OK;
    uint64_t to = indexes[0], next = 1;
    for (uint64_t from = to + 1; err == SK_OK && from < list->collection.count; from++) {
        if (next < count && indexes[next] == from) next++;
        else err = move(call, list, list->first + from, list->first + to++);
    }
    list_drop(list, LIST_TAIL, count);
    return err;
}

int list_remove(struct call *call, struct list *list, const uint64_t *indexes, uint64_t count,
                const struct list_searched *searched) {
    uint64_t head = indexes[count - 1] + 1 - count;
    uint64_t tail = list->collection.count - indexes[0] - count;
    enum list_end side = side_to_move(list, searched, head, tail);
    if ((side == LIST_HEAD ? head : tail) > LIST_MOVED_MAX) return refuse_far(call);
    return side == LIST_HEAD ? close_from_head(call, list, indexes, count)
                             : close_from_tail(call, list, indexes, count);
}

/* ---- saving ---- */

static int remove_dropped(struct call *call, struct list *list, uint64_t limit) {
    int err = SK_OK;
    uint64_t end = list->first + list->collection.count;
    for (; err == SK_OK && limit > 0 && list->low < list->first; limit--) {
        err = remove_record(call, list, list->low++);
    }
    for (; err == SK_OK && limit > 0 && list->high > end; limit--) err = remove_record(call, list, --list->high);
    return err;
}

int list_save(struct call *call, struct list *list) {
    struct collection *collection = &list->collection;
    uint64_t limit = LIST_REMOVED_AT_ONCE + LIST_REMOVED_FOR_ARG * (uint64_t)call->count;
    bool garbage = collection->count == 0 && list->high - list->low > limit;
    if (garbage) return keyspace_remove(call->exec, &collection->object);
    int err = remove_dropped(call, list, limit);
    if (err != SK_OK) return err;
    collection->numbers[NUMBER_FIRST] = list->first;
    collection->numbers[NUMBER_LOW] = list->low;
    collection->numbers[NUMBER_HIGH] = list->high;
    return collection_save(call, collection);
}

/* ---- walking ---- */

int list_walk_open(struct call *call, const struct list *list, uint64_t index, enum list_end towards,
                   struct list_walk *walk) {
    uint64_t count = list->collection.count;
    bool down = towards == LIST_HEAD;
    *walk = (struct list_walk){.id = list->collection.id, .sequence = list->first + index, .towards = towards};
    if (index < count) walk->left = down ? index + 1 : count - index;
    if (walk->left == 0) return SK_OK;
    uint8_t room[KEY_BYTES];
    struct slice key = key_of(walk->id, walk->sequence + down, room);
    return down ? kv_iter_open_below(call->exec->kv, key, &walk->iter)
                : kv_iter_open(call->exec->kv, key, &walk->iter);
}

int list_walk_next(struct list_walk *walk, struct slice *value) {
    if (walk->left == 0) return SK_NOT_FOUND;
    struct slice key;
    int err = kv_iter_next(walk->iter, &key, value);
    if (err == SK_NOT_FOUND) return SK_ECORRUPT;
    if (err != SK_OK) return err;
    uint8_t room[KEY_BYTES];
    if (!slice_equal(key, key_of(walk->id, walk->sequence, room))) return SK_ECORRUPT;
    walk->left--;
    walk->sequence += walk->towards == LIST_HEAD ? UINT64_MAX : 1;
    return SK_OK;
}

void list_walk_close(struct list_walk *walk) { kv_iter_close(walk->iter); }

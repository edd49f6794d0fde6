#include "shardd/collection.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/pieces.h"

#define COUNT_AT   KEYSPACE_HEAD_BYTES
#define NUMBERS_AT (COUNT_AT + 8u)

/* Elements get a new id when at most so many are left, and more have been removed than moving them costs. */
#define MOVED_COUNT_MAX  1024u
#define MOVED_BYTES_MAX  1048576u
#define REMOVED_MIN      1024u
#define REMOVED_PER_LEFT 8u

uint32_t collection_number_count(uint8_t type) {
    switch (type) {
    case OBJECT_HASH:
    case OBJECT_SET:
    case OBJECT_ZSET:
        return 1; /* COLLECTION_REMOVED */
    case OBJECT_LIST:
        return 3; /* list.h */
    default:
        return 0;
    }
}

int collection_read(uint8_t type, struct slice payload, struct collection *collection) {
    uint32_t numbers = collection_number_count(type);
    if (payload.size != NUMBERS_AT + 8u * numbers) return SK_ECORRUPT;
    collection->type = type;
    collection->id = get_u64(payload.data);
    collection->bytes = get_u64(payload.data + 8);
    collection->count = get_u64(payload.data + COUNT_AT);
    for (uint32_t i = 0; i < numbers; i++) {
        collection->numbers[i] = get_u64(payload.data + NUMBERS_AT + 8 * (size_t)i);
    }
    /* What nobody stores: what follows may rely on it. */
    bool sound = collection->id != 0 && collection->count > 0 && collection->count <= INT64_MAX;
    return sound ? SK_OK : SK_ECORRUPT;
}

static void start(uint8_t type, struct collection *collection) {
    collection->type = type;
    collection->id = collection->count = collection->bytes = 0;
    memset(collection->numbers, 0, sizeof collection->numbers);
}

/* `err`: of finding the object. */
static int found(struct call *call, int err, uint8_t type, struct collection *collection) {
    const struct object *object = &collection->object;
    start(type, collection);
    if (err != SK_OK || !object->found) return err;
    if (object->type != type) return call_refuse_wrong_type(call);
    return collection_read(type, object->payload, collection);
}

int collection_find(struct call *call, struct slice key, uint8_t type, struct collection *collection) {
    int err = keyspace_find(call->exec, key, call->now_us, &collection->object);
    return found(call, err, type, collection);
}

int collection_find_for_write(struct call *call, struct slice key, uint8_t type, struct collection *collection) {
    int err = keyspace_find_for_write(call->exec, key, call->now_us, &collection->object);
    return found(call, err, type, collection);
}

int collection_replace(struct call *call, struct slice key, uint8_t type, struct collection *collection) {
    start(type, collection);
    return keyspace_find_for_write(call->exec, key, call->now_us, &collection->object);
}

void collection_begin(struct call *call, struct collection *collection) {
    if (collection->id == 0) collection->id = ++call->exec->counters.changes;
}

/* ---- a new id ---- */

static bool counts_removed(uint8_t type) {
    return type == OBJECT_HASH || type == OBJECT_SET || type == OBJECT_ZSET;
}

static bool should_move(const struct collection *collection) {
    if (!counts_removed(collection->type)) return false;
    if (collection->count > MOVED_COUNT_MAX || collection->bytes > MOVED_BYTES_MAX) return false;
    return collection->numbers[COLLECTION_REMOVED] >= REMOVED_MIN + REMOVED_PER_LEFT * collection->count;
}

/* Keys and values of all the element records, in turn. */
static int gather_records(struct exec *exec, uint64_t id, struct buffer *gathered) {
    uint8_t from[ELEMENT_PREFIX_BYTES], end[ELEMENT_PREFIX_BYTES];
    struct kv_iter *iter;
    buffer_clear(gathered, MOVED_BYTES_MAX);
    int err = kv_iter_open(exec->kv, element_prefix(id, 0, from), &iter);
    if (err != SK_OK) return err;
    kv_iter_end_at(iter, element_prefix(id + 1, 0, end));
    struct slice key, value;
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK) {
        pieces_add(gathered, key);
        pieces_add(gathered, value);
    }
    kv_iter_close(iter);
    if (gathered->failed) return SK_ENOMEM;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int move_record(struct exec *exec, uint64_t id, struct slice key, struct slice value) {
    uint8_t moved[KV_KEY_BYTES_MAX];
    memcpy(moved, key.data, key.size);
    put_u64(moved + 1, id);
    int err = kv_del(exec->kv, key);
    return err == SK_OK ? kv_put(exec->kv, slice_of(moved, key.size), value) : err;
}

static int move(struct exec *exec, struct collection *collection) {
    int err = gather_records(exec, collection->id, &exec->gathered);
    collection->id = ++exec->counters.changes;
    collection->numbers[COLLECTION_REMOVED] = 0;
    struct slice rest = buffer_slice(&exec->gathered);
    while (err == SK_OK && rest.size > 0) {
        struct slice key = pieces_take(&rest), value = pieces_take(&rest);
        err = move_record(exec, collection->id, key, value);
    }
    keyspace_elements_moved(&collection->object, collection->id);
    return err;
}

/* ---- storing ---- */

int collection_save_until(struct call *call, struct collection *collection, uint64_t deadline_us) {
    struct object *object = &collection->object;
    struct exec *exec = call->exec;
    /* Its own elements have been removed one by one; those of what it replaces have not. */
    bool own = object->found && object->elements_id == collection->id;
    if (collection->count == 0) {
        if (!object->found) return SK_OK;
        return own ? keyspace_remove_record(exec, object) : keyspace_remove(exec, object);
    }
    sk_assert(collection->id != 0);
    if (own && should_move(collection)) {
        int err = move(exec, collection);
        if (err != SK_OK) return err;
    }
    uint8_t head[NUMBERS_AT + 8 * COLLECTION_NUMBERS_MAX];
    uint32_t numbers = collection_number_count(collection->type);
    put_u64(head, collection->id);
    put_u64(head + 8, collection->bytes);
    put_u64(head + COUNT_AT, collection->count);
    for (uint32_t i = 0; i < numbers; i++) {
        put_u64(head + NUMBERS_AT + 8 * (size_t)i, collection->numbers[i]);
    }
    struct buffer *value = keyspace_build(exec, object, collection->type, deadline_us);
    buffer_append(value, head, NUMBERS_AT + 8 * (size_t)numbers);
    return call_put(call, object);
}

/* What replaces something else has no deadline. */
int collection_save(struct call *call, struct collection *collection) {
    const struct object *object = &collection->object;
    bool own = object->found && object->elements_id == collection->id;
    return collection_save_until(call, collection, own ? object->deadline_us : 0);
}

/* ---- named elements ---- */

int collection_change(struct call *call, size_t first, size_t step, int (*body)(struct call *call)) {
    bool may_be_refused_midway = call->args[0].size > KEYSPACE_KEY_INLINE_MAX;
    for (size_t i = first; i < call->count; i += step) {
        int err = call_check_name(call, call->args[i]);
        if (err != SK_OK) return err;
        may_be_refused_midway = may_be_refused_midway || call->args[i].size > ELEMENT_NAME_INLINE_MAX;
    }
    return may_be_refused_midway && !call->in_batch ? call_all_or_nothing(call, body) : body(call);
}

static uint64_t element_bytes(const struct element *element) {
    return element->found ? element->name.size + element->value.size : 0;
}

int collection_put(struct call *call, struct collection *collection, struct element *element, struct slice value) {
    bool is_new = !element->found;
    uint64_t old_bytes = element_bytes(element), new_bytes = element->name.size + value.size;
    collection_begin(call, collection);
    int err = element_put(call->exec, element, value);
    if (err == SK_TOOLARGE) return call_refuse(call, err, "too many elements with the hash of this one");
    if (err != SK_OK) return err;
    collection->count += is_new;
    collection->bytes += new_bytes - old_bytes;
    return SK_OK;
}

int collection_remove(struct call *call, struct collection *collection, struct element *element) {
    collection->bytes -= element_bytes(element);
    collection->count--;
    if (counts_removed(collection->type)) collection->numbers[COLLECTION_REMOVED]++;
    return element_remove(call->exec, element);
}

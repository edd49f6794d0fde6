#include "shardd/collection.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#define COUNT_AT   KEYSPACE_HEAD_BYTES
#define NUMBERS_AT (COUNT_AT + 8u)

uint32_t collection_number_count(uint8_t type) {
    switch (type) {
    case OBJECT_LIST:
        return 3; /* list.h */
    case OBJECT_ZSET:
        return 1; /* zset.h */
    default:
        return 0;
    }
}

int collection_read(uint8_t type, struct slice payload, struct collection *collection) {
    uint32_t numbers = collection_number_count(type);
    if (payload.size != NUMBERS_AT + 8u * numbers) return SK_ECORRUPT;
    collection->type = type;
    collection->id = element_get_id(payload.data);
    collection->bytes = element_get_id(payload.data + 8);
    collection->count = element_get_id(payload.data + COUNT_AT);
    for (uint32_t i = 0; i < numbers; i++) {
        collection->numbers[i] = element_get_id(payload.data + NUMBERS_AT + 8 * (size_t)i);
    }
    return SK_OK;
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

int collection_save_until(struct call *call, struct collection *collection, uint64_t deadline_us) {
    struct object *object = &collection->object;
    struct exec *exec = call->exec;
    if (collection->count == 0) {
        if (!object->found) return SK_OK;
        /* Its own elements have been removed one by one; those of what it replaces have not. */
        bool own = object->elements_id == collection->id;
        return own ? keyspace_remove_record(exec, object) : keyspace_remove(exec, object);
    }
    sk_assert(collection->id != 0);
    uint8_t head[NUMBERS_AT + 8 * COLLECTION_NUMBERS_MAX];
    uint32_t numbers = collection_number_count(collection->type);
    element_put_id(head, collection->id);
    element_put_id(head + 8, collection->bytes);
    element_put_id(head + COUNT_AT, collection->count);
    for (uint32_t i = 0; i < numbers; i++) {
        element_put_id(head + NUMBERS_AT + 8 * (size_t)i, collection->numbers[i]);
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
    return element_remove(call->exec, element);
}

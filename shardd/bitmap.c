#include "shardd/bitmap.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#define PART_CHUNKS     1u
#define CHUNK_KEY_BYTES (ELEMENT_PREFIX_BYTES + 4u)
#define ASSEMBLED_KEPT  65536u

_Static_assert(BITMAP_BYTES_MAX / BITMAP_CHUNK_BYTES <= UINT32_MAX, "a chunk's number has 4 bytes");

static struct slice chunk_key(uint64_t id, uint64_t number, uint8_t room[CHUNK_KEY_BYTES]) {
    (void)element_prefix(id, PART_CHUNKS, room);
    put_u32(room + ELEMENT_PREFIX_BYTES, (uint32_t)number);
    return slice_of(room, CHUNK_KEY_BYTES);
}

static uint64_t chunk_number(struct slice key) { return get_u32(key.data + ELEMENT_PREFIX_BYTES); }

/* Empty where there is none. */
static int read_chunk(struct call *call, uint64_t id, uint64_t number, struct slice *bytes) {
    uint8_t room[CHUNK_KEY_BYTES];
    *bytes = slice_of("", 0);
    int err = kv_get(call->exec->kv, chunk_key(id, number, room), bytes);
    if (err == SK_OK && bytes->size > BITMAP_CHUNK_BYTES) return SK_ECORRUPT;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* ---- finding ---- */

/* `err`: of finding the object. */
static int found(struct call *call, int err, struct bitmap *bitmap) {
    struct collection *collection = &bitmap->collection;
    const struct object *object = &collection->object;
    bitmap->chunked = bitmap->changed = false;
    bitmap->size = 0;
    bitmap->plain = slice_of("", 0);
    collection->id = 0;
    collection->type = OBJECT_BITMAP;
    if (err != SK_OK || !object->found) return err;
    if (object->type == OBJECT_STRING) {
        bitmap->plain = object->payload;
        bitmap->size = object->payload.size;
        return SK_OK;
    }
    if (object->type != OBJECT_BITMAP) return call_refuse_wrong_type(call);
    bitmap->chunked = true;
    err = collection_read(OBJECT_BITMAP, object->payload, collection);
    if (err == SK_OK && collection->count > BITMAP_BYTES_MAX) err = SK_ECORRUPT;
    bitmap->size = collection->count;
    return err;
}

int bitmap_find(struct call *call, struct slice key, struct bitmap *bitmap) {
    return found(call, keyspace_find(call->exec, key, call->now_us, &bitmap->collection.object), bitmap);
}

int bitmap_find_for_write(struct call *call, struct slice key, struct bitmap *bitmap) {
    return found(call, keyspace_find_for_write(call->exec, key, call->now_us, &bitmap->collection.object), bitmap);
}

int bitmap_replace(struct call *call, struct slice key, struct bitmap *bitmap) {
    bitmap->chunked = false;
    bitmap->changed = true;
    bitmap->size = 0;
    bitmap->plain = slice_of("", 0);
    return collection_replace(call, key, OBJECT_BITMAP, &bitmap->collection);
}

/* ---- reading ---- */

static struct slice plain_bytes(const struct bitmap *bitmap) {
    return bitmap->changed ? slice_of(bitmap->small, bitmap->size) : bitmap->plain;
}

/* What of `from`, which begins at `from_at`, falls into `size` bytes from `at` on. */
static void copy_part(struct slice from, uint64_t from_at, uint64_t at, uint8_t *bytes, size_t size) {
    uint64_t first = from_at > at ? from_at : at;
    uint64_t end = from_at + from.size < at + size ? from_at + from.size : at + size;
    if (first < end) memcpy(bytes + (first - at), from.data + (first - from_at), end - first);
}

int bitmap_read(struct call *call, struct bitmap *bitmap, uint64_t at, uint8_t *bytes, size_t size) {
    memset(bytes, 0, size);
    if (size == 0) return SK_OK;
    if (!bitmap->chunked) {
        copy_part(plain_bytes(bitmap), 0, at, bytes, size);
        return SK_OK;
    }
    uint64_t next = at, found_at;
    struct slice stored;
    int err;
    while ((err = bitmap_next(call, bitmap, next, &found_at, &stored)) == SK_OK && found_at < at + size) {
        copy_part(stored, found_at, at, bytes, size);
        next = found_at + stored.size;
    }
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* The number of the first chunk from `number` on. SK_OK, SK_NOT_FOUND, or a fault. */
static int find_chunk(struct call *call, uint64_t id, uint64_t *number) {
    uint8_t room[CHUNK_KEY_BYTES], end[ELEMENT_PREFIX_BYTES];
    struct kv_iter *iter;
    struct slice key, value;
    int err = kv_iter_open(call->exec->kv, chunk_key(id, *number, room), &iter);
    if (err != SK_OK) return err;
    kv_iter_end_at(iter, element_prefix(id, PART_CHUNKS + 1, end));
    err = kv_iter_next(iter, &key, &value);
    if (err == SK_OK && key.size != CHUNK_KEY_BYTES) err = SK_ECORRUPT;
    if (err == SK_OK) *number = chunk_number(key);
    kv_iter_close(iter);
    return err;
}

int bitmap_next(struct call *call, struct bitmap *bitmap, uint64_t from, uint64_t *at, struct slice *bytes) {
    if (from >= bitmap->size) return SK_NOT_FOUND;
    if (!bitmap->chunked) {
        struct slice plain = plain_bytes(bitmap);
        *at = from;
        *bytes = slice_of(plain.data + from, plain.size - from);
        return SK_OK;
    }
    uint64_t number = from / BITMAP_CHUNK_BYTES;
    for (;; number++) {
        int err = find_chunk(call, bitmap->collection.id, &number);
        if (err == SK_OK) err = read_chunk(call, bitmap->collection.id, number, bytes);
        if (err != SK_OK) return err;
        *at = number * BITMAP_CHUNK_BYTES;
        uint64_t passed = from > *at ? from - *at : 0;
        if (passed >= bytes->size) continue; /* `from` is in the zeros at its end */
        *at += passed;
        *bytes = slice_of(bytes->data + passed, bytes->size - passed);
        return SK_OK;
    }
}

/* ---- changing ---- */

/* Writes into one chunk. */
static int write_chunk(struct call *call, uint64_t id, uint64_t number, size_t at, struct slice bytes) {
    uint8_t chunk[BITMAP_CHUNK_BYTES], room[CHUNK_KEY_BYTES];
    struct slice stored;
    int err = read_chunk(call, id, number, &stored);
    if (err != SK_OK) return err;
    memset(chunk, 0, sizeof chunk);
    if (stored.size > 0) memcpy(chunk, stored.data, stored.size);
    memcpy(chunk + at, bytes.data, bytes.size);
    size_t size = at + bytes.size > stored.size ? at + bytes.size : stored.size;
    return kv_put(call->exec->kv, chunk_key(id, number, room), slice_of(chunk, size));
}

static bool is_zero(struct slice bytes) {
    return bytes.size == 0 || (bytes.data[0] == 0 && memcmp(bytes.data, bytes.data + 1, bytes.size - 1) == 0);
}

/* Zeros need no chunk where there is none. */
static int write_chunks(struct call *call, struct bitmap *bitmap, uint64_t at, struct slice bytes) {
    uint64_t id = bitmap->collection.id;
    while (bytes.size > 0) {
        uint64_t number = at / BITMAP_CHUNK_BYTES;
        size_t within = (size_t)(at % BITMAP_CHUNK_BYTES), size = BITMAP_CHUNK_BYTES - within;
        if (size > bytes.size) size = bytes.size;
        struct slice piece = slice_of(bytes.data, size), stored;
        int err = read_chunk(call, id, number, &stored);
        bool needless = err == SK_OK && stored.size == 0 && is_zero(piece);
        if (err == SK_OK && !needless) err = write_chunk(call, id, number, within, piece);
        if (err != SK_OK) return err;
        at += size;
        bytes = slice_of(bytes.data + size, bytes.size - size);
    }
    return SK_OK;
}

/* From a plain string to one in chunks. What was found lies in the store, which changes. */
static int make_chunks(struct call *call, struct bitmap *bitmap) {
    struct slice plain = plain_bytes(bitmap);
    struct buffer *copy = &call->exec->assembled;
    buffer_clear(copy, ASSEMBLED_KEPT);
    buffer_append(copy, plain.data, plain.size);
    if (copy->failed) return SK_ENOMEM;
    collection_begin(call, &bitmap->collection);
    bitmap->chunked = true;
    return write_chunks(call, bitmap, 0, buffer_slice(copy));
}

/* Ready for a change up to byte `end`. */
static int prepare(struct call *call, struct bitmap *bitmap, uint64_t end) {
    sk_assert(end <= BITMAP_BYTES_MAX);
    if (bitmap->chunked) return SK_OK;
    if (end > BITMAP_PLAIN_MAX || bitmap->size > BITMAP_PLAIN_MAX) return make_chunks(call, bitmap);
    if (!bitmap->changed && bitmap->size > 0) memcpy(bitmap->small, bitmap->plain.data, bitmap->size);
    bitmap->changed = true;
    return SK_OK;
}

int bitmap_grow(struct call *call, struct bitmap *bitmap, uint64_t size) {
    int err = prepare(call, bitmap, size);
    if (err != SK_OK || size <= bitmap->size) return err;
    if (!bitmap->chunked) memset(bitmap->small + bitmap->size, 0, size - bitmap->size);
    bitmap->size = size;
    return SK_OK;
}

int bitmap_write(struct call *call, struct bitmap *bitmap, uint64_t at, struct slice bytes) {
    int err = bitmap_grow(call, bitmap, at + bytes.size);
    if (err != SK_OK) return err;
    if (bitmap->chunked) return write_chunks(call, bitmap, at, bytes);
    memcpy(bitmap->small + at, bytes.data, bytes.size);
    return SK_OK;
}

int bitmap_save(struct call *call, struct bitmap *bitmap) {
    const struct object *object = &bitmap->collection.object;
    return bitmap_save_until(call, bitmap, object->found ? object->deadline_us : 0);
}

int bitmap_save_until(struct call *call, struct bitmap *bitmap, uint64_t deadline_us) {
    struct collection *collection = &bitmap->collection;
    collection->count = collection->bytes = bitmap->size;
    if (bitmap->chunked || bitmap->size == 0) return collection_save_until(call, collection, deadline_us);
    return call_store_string(call, &collection->object, plain_bytes(bitmap), deadline_us);
}

/* ---- in one piece ---- */

int bitmap_assemble(struct call *call, const struct object *object, struct slice *bytes) {
    struct bitmap bitmap;
    bitmap.collection.object = *object;
    int err = found(call, SK_OK, &bitmap);
    if (err != SK_OK) return err;
    if (bitmap.size > VALUE_BYTES_MAX) {
        return call_refuse(call, SK_TOOLARGE, "string exceeds maximum allowed size");
    }
    struct buffer *whole = &call->exec->assembled;
    buffer_clear(whole, ASSEMBLED_KEPT);
    uint8_t *room = buffer_extend(whole, bitmap.size);
    if (room == NULL) return SK_ENOMEM;
    err = bitmap_read(call, &bitmap, 0, room, bitmap.size);
    *bytes = buffer_slice(whole);
    return err;
}

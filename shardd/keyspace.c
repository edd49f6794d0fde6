#include "keyspace.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/big_endian.h"
#include "shardd/garbage.h"
#include "shardd/pieces.h"

#include <xxhash.h>

enum record_flags { RECORD_HAS_DEADLINE = 1, RECORD_HAS_KEY = 2 };

#define VERSION_AT 2u /* in a value, behind type and flags */

#define SCRATCH_KEPT_BYTES 65536u

static uint64_t xxh3_hash64(struct slice key) { return XXH3_64bits(key.data, key.size); }

static void xxh3_hash128(struct slice key, uint8_t hash[16]) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(key.data, key.size));
    memcpy(hash, canonical.digest, 16);
}

const struct keyspace_hasher keyspace_hasher_xxh3 = {.hash64 = xxh3_hash64, .hash128 = xxh3_hash128};

/* Records */

uint64_t keyspace_position(struct slice record_key) {
    sk_assert(record_key.size >= KEYSPACE_POSITION_BYTES);
    return get_u64(record_key.data);
}

void keyspace_position_key(uint64_t position, uint8_t key[KEYSPACE_POSITION_BYTES]) { put_u64(key, position); }

uint64_t keyspace_elements_id(const struct record *record) {
    return record->type == OBJECT_STRING ? 0 : get_u64(record->payload.data);
}

uint64_t keyspace_value_bytes(const struct record *record) {
    return record->type == OBJECT_STRING ? record->payload.size : get_u64(record->payload.data + 8);
}

const char *keyspace_type_name(uint8_t type) {
    switch (type) {
    case OBJECT_STRING:
    case OBJECT_BITMAP: /* how it is stored, and nothing that clients know */
        return "string";
    case OBJECT_HASH:
        return "hash";
    case OBJECT_LIST:
        return "list";
    case OBJECT_SET:
        return "set";
    case OBJECT_ZSET:
        return "zset";
    default:
        return "unknown";
    }
}

static bool is_long(struct slice key) { return key.size > KEYSPACE_KEY_INLINE_MAX; }

/* All of the record's key; a long key's discriminator is 0. */
static void build_record_key(const struct exec *exec, struct object *object) {
    uint64_t slot = slot_of_key(object->key);
    uint8_t *at = object->record_key;
    put_u64(at, slot << 48 | exec->hasher->hash64(object->key) >> 16);
    at += KEYSPACE_POSITION_BYTES;
    if (is_long(object->key)) {
        memcpy(at, object->key.data, KEYSPACE_KEY_INLINE_MAX);
        exec->hasher->hash128(object->key, at + KEYSPACE_KEY_INLINE_MAX);
        at[KEYSPACE_KEY_INLINE_MAX + 16] = 0;
        object->record_key_size = KEYSPACE_RECORD_KEY_MAX;
        return;
    }
    if (object->key.size > 0) memcpy(at, object->key.data, object->key.size);
    object->record_key_size = KEYSPACE_POSITION_BYTES + object->key.size;
}

static struct slice record_key_of(const struct object *object) {
    return slice_of(object->record_key, object->record_key_size);
}

/* Takes the next `size` bytes off the front. */
static bool take(struct slice *rest, size_t size, const uint8_t **at) {
    if (rest->size < size) return false;
    *at = rest->data;
    *rest = slice_of(rest->data + size, rest->size - size);
    return true;
}

int keyspace_read_record(struct slice record_key, struct slice value, struct record *record) {
    const uint8_t *at;
    if (record_key.size < KEYSPACE_POSITION_BYTES || !take(&value, VERSION_AT + 8, &at)) return SK_ECORRUPT;
    record->type = at[0];
    uint8_t flags = at[1];
    record->version = get_u64(at + VERSION_AT);
    if ((flags & ~(RECORD_HAS_DEADLINE | RECORD_HAS_KEY)) != 0) return SK_ECORRUPT;
    record->deadline_us = 0;
    if (flags & RECORD_HAS_DEADLINE) {
        if (!take(&value, 8, &at)) return SK_ECORRUPT;
        record->deadline_us = get_u64(at);
    }
    if (((flags & RECORD_HAS_KEY) != 0) != (record_key.size == KEYSPACE_RECORD_KEY_MAX)) return SK_ECORRUPT;
    record->key = slice_of(record_key.data + KEYSPACE_POSITION_BYTES, record_key.size - KEYSPACE_POSITION_BYTES);
    if (flags & RECORD_HAS_KEY) {
        if (!take(&value, 4, &at)) return SK_ECORRUPT;
        record->key.size = get_u32(at);
        if (!take(&value, record->key.size, &record->key.data)) return SK_ECORRUPT;
    }
    record->payload = value;
    if (record->type != OBJECT_STRING && value.size < KEYSPACE_HEAD_BYTES) return SK_ECORRUPT;
    return SK_OK;
}

/* Finding */

/* Reads the record at the object's record key. Whether it is the object's own is for the caller to compare. */
static int get_record(struct exec *exec, const struct object *object, struct record *record) {
    struct slice value;
    int err = kv_get(exec->kv, record_key_of(object), &value);
    return err == SK_OK ? keyspace_read_record(record_key_of(object), value, record) : err;
}

static int read_key(struct slice record_key, struct slice value, struct slice *key) {
    struct record record;
    int err = keyspace_read_record(record_key, value, &record);
    *key = record.key;
    return err;
}

static int get_long_record(struct exec *exec, struct object *object, struct record *record) {
    struct slice value;
    int err = long_name_find(exec->kv, object->record_key, object->record_key_size, object->key, read_key, &value,
                             &object->chain_full);
    return err == SK_OK ? keyspace_read_record(record_key_of(object), value, record) : err;
}

/* Looks up without judging the deadline. */
static int find_any(struct exec *exec, struct slice key, struct object *object) {
    object->key = key;
    object->found = false;
    object->writable = false;
    object->chain_full = false;
    object->value_bytes = 0;
    object->elements_id = 0;
    object->deadline_us = 0;
    object->version = 0;
    build_record_key(exec, object);
    struct record record;
    int err = is_long(key) ? get_long_record(exec, object, &record) : get_record(exec, object, &record);
    if (err == SK_NOT_FOUND) return SK_OK;
    if (err != SK_OK) return err;
    object->found = true;
    object->type = record.type;
    object->deadline_us = record.deadline_us;
    object->version = record.version;
    object->payload = record.payload;
    object->value_bytes = keyspace_value_bytes(&record);
    object->elements_id = keyspace_elements_id(&record);
    return SK_OK;
}

static bool has_expired(const struct object *object, uint64_t now_us) {
    return object->found && object->deadline_us != 0 && object->deadline_us <= now_us;
}

int keyspace_find(struct exec *exec, struct slice key, uint64_t now_us, struct object *object) {
    int err = find_any(exec, key, object);
    if (err == SK_OK && has_expired(object, now_us)) object->found = false;
    return err;
}

int keyspace_find_for_write(struct exec *exec, struct slice key, uint64_t now_us, struct object *object) {
    int err = find_any(exec, key, object);
    object->writable = true;
    if (err == SK_OK && has_expired(object, now_us)) err = keyspace_remove(exec, object);
    return err;
}

/* The expiry index */

struct index_key {
    uint8_t bytes[KEYSPACE_INDEX_KEY_MAX];
    size_t size;
};

static struct slice index_key_build(struct index_key *key, uint64_t deadline_us, struct slice record_key) {
    key->bytes[0] = RECORD_EXPIRY;
    put_u64(key->bytes + 1, deadline_us);
    memcpy(key->bytes + 9, record_key.data, record_key.size);
    key->size = 9 + record_key.size;
    return slice_of(key->bytes, key->size);
}

static int index_add(struct exec *exec, const struct object *object, uint64_t deadline_us) {
    struct index_key key;
    exec->counters.expires++;
    if (deadline_us < exec->first_deadline_us) exec->first_deadline_us = deadline_us;
    return kv_put(exec->kv, index_key_build(&key, deadline_us, record_key_of(object)), slice_of("", 0));
}

static int index_remove(struct exec *exec, const struct object *object, uint64_t deadline_us) {
    struct index_key key;
    exec->counters.expires--;
    if (deadline_us == exec->first_deadline_us) exec->first_deadline_known = false;
    return kv_del(exec->kv, index_key_build(&key, deadline_us, record_key_of(object)));
}

static int index_move(struct exec *exec, const struct object *object, uint64_t old_us, uint64_t new_us) {
    if (old_us == new_us) return SK_OK;
    int err = old_us == 0 ? SK_OK : index_remove(exec, object, old_us);
    if (err == SK_OK && new_us != 0) err = index_add(exec, object, new_us);
    return err;
}

/* Changing */

struct buffer *keyspace_build(struct exec *exec, const struct object *object, uint8_t type, uint64_t deadline_us) {
    struct buffer *value = &exec->scratch;
    buffer_clear(value, SCRATCH_KEPT_BYTES);
    bool with_key = is_long(object->key);
    uint8_t flags = (uint8_t)((deadline_us != 0 ? RECORD_HAS_DEADLINE : 0) | (with_key ? RECORD_HAS_KEY : 0));
    uint8_t head[VERSION_AT + 8 + 8 + 4] = {type, flags}; /* keyspace_put writes the version */
    size_t size = VERSION_AT + 8;
    if (deadline_us != 0) {
        put_u64(head + size, deadline_us);
        size += 8;
    }
    if (with_key) {
        put_u32(head + size, (uint32_t)object->key.size);
        size += 4;
    }
    buffer_append(value, head, size);
    if (with_key) buffer_append(value, object->key.data, object->key.size);
    return value;
}

int keyspace_put(struct exec *exec, struct object *object) {
    sk_assert(object->writable);
    if (exec->scratch.failed) return SK_ENOMEM;
    if (!object->found && object->chain_full) return SK_TOOLARGE;
    put_u64(exec->scratch.data + VERSION_AT, ++exec->counters.changes);
    struct record record;
    int err = keyspace_read_record(record_key_of(object), buffer_slice(&exec->scratch), &record);
    sk_assert(err == SK_OK);
    err = kv_put(exec->kv, record_key_of(object), buffer_slice(&exec->scratch));
    if (err != SK_OK) return err;
    uint64_t old_deadline_us = object->found ? object->deadline_us : 0;
    uint64_t old_elements_id = object->elements_id;
    if (!object->found) {
        exec->counters.keys++;
        exec->counters.key_bytes += object->key.size;
        object->value_bytes = 0;
    }
    exec->counters.value_bytes += keyspace_value_bytes(&record) - object->value_bytes;
    object->found = true;
    object->type = record.type;
    object->version = record.version;
    object->value_bytes = keyspace_value_bytes(&record);
    object->elements_id = keyspace_elements_id(&record);
    object->deadline_us = record.deadline_us;
    object->payload = slice_of("", 0);
    if (exec->stored_cb != NULL && object->elements_id != 0)
        exec->stored_cb(exec->stored_arg, object->key, object->type);
    bool replaces = old_elements_id != 0 && old_elements_id != object->elements_id;
    err = index_move(exec, object, old_deadline_us, record.deadline_us);
    return err == SK_OK && replaces ? garbage_add(exec, old_elements_id) : err;
}

void keyspace_elements_moved(struct object *object, uint64_t id) {
    sk_assert(object->found && object->elements_id != 0);
    object->elements_id = id;
}

int keyspace_store(struct exec *exec, struct object *object, uint8_t type, struct slice payload,
                   uint64_t deadline_us) {
    struct buffer *value = keyspace_build(exec, object, type, deadline_us);
    buffer_append(value, payload.data, payload.size);
    return keyspace_put(exec, object);
}

int keyspace_set_deadline(struct exec *exec, struct object *object, uint64_t deadline_us) {
    sk_assert(object->found);
    if (object->deadline_us == deadline_us) return SK_OK;
    struct record record; /* `payload` may be what a command has made of it */
    int err = get_record(exec, object, &record);
    if (err != SK_OK) return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
    return keyspace_store(exec, object, object->type, record.payload, deadline_us);
}

int keyspace_remove(struct exec *exec, struct object *object) {
    uint64_t elements_id = object->elements_id;
    int err = keyspace_remove_record(exec, object);
    return err == SK_OK && elements_id != 0 ? garbage_add(exec, elements_id) : err;
}

int keyspace_remove_record(struct exec *exec, struct object *object) {
    sk_assert(object->found && object->writable);
    int err = kv_del(exec->kv, record_key_of(object));
    if (err != SK_OK) return err;
    exec->counters.keys--;
    exec->counters.key_bytes -= object->key.size;
    exec->counters.value_bytes -= object->value_bytes;
    object->found = false;
    object->value_bytes = 0;
    object->elements_id = 0;
    return index_move(exec, object, object->deadline_us, 0);
}

/* What has expired */

/* The deadline and the data record's key of an index entry. */
static int index_entry_read(struct slice entry, uint64_t *deadline_us, struct slice *record_key) {
    if (entry.size < 9 + KEYSPACE_POSITION_BYTES || entry.size > KEYSPACE_INDEX_KEY_MAX) return SK_ECORRUPT;
    *deadline_us = get_u64(entry.data + 1);
    *record_key = slice_of(entry.data + 9, entry.size - 9);
    return SK_OK;
}

/* From the first deadline that there may be to the index's end: before it lies what was removed, and behind the index elements
 * that were swept; either may be a lot until a checkpoint takes it away. */
static int index_open(struct exec *exec, struct kv_iter **iter) {
    static const uint8_t end[1] = {RECORD_EXPIRY + 1};
    struct index_key from;
    int err = kv_iter_open(exec->kv, index_key_build(&from, exec->first_deadline_us, slice_of("", 0)), iter);
    if (err == SK_OK) kv_iter_end_at(*iter, slice_of(end, sizeof end));
    return err;
}

int keyspace_first_deadline(struct exec *exec, uint64_t *deadline_us) {
    *deadline_us = UINT64_MAX;
    struct kv_iter *iter;
    int err = index_open(exec, &iter);
    if (err != SK_OK) return err;
    struct slice entry, empty, record_key;
    err = kv_iter_next(iter, &entry, &empty);
    if (err == SK_OK) err = index_entry_read(entry, deadline_us, &record_key);
    kv_iter_close(iter);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* Gathers the record keys of the first entries that are due. */
static int gather_due(struct exec *exec, uint64_t now_us, uint32_t limit, struct buffer *due) {
    struct kv_iter *iter;
    int err = index_open(exec, &iter);
    if (err != SK_OK) return err;
    for (uint32_t count = 0; err == SK_OK && count < limit; count++) {
        struct slice entry, empty, record_key;
        uint64_t deadline_us;
        err = kv_iter_next(iter, &entry, &empty);
        if (err == SK_OK) err = index_entry_read(entry, &deadline_us, &record_key);
        if (err != SK_OK) break;
        exec->first_deadline_us = deadline_us; /* what is before it has been gathered, and goes */
        exec->first_deadline_known = true;
        if (deadline_us > now_us) break;
        pieces_add(due, record_key);
    }
    kv_iter_close(iter);
    if (due->failed) return SK_ENOMEM;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* Removes a data record that the index says is due. One that is not there or not due is damage. */
static int remove_due(struct exec *exec, struct slice record_key, uint64_t now_us) {
    struct object object = {.writable = true, .record_key_size = record_key.size};
    memcpy(object.record_key, record_key.data, record_key.size);
    struct record record;
    int err = get_record(exec, &object, &record);
    if (err != SK_OK) return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
    object.found = true;
    object.key = record.key; /* only its size is used */
    object.deadline_us = record.deadline_us;
    object.value_bytes = keyspace_value_bytes(&record);
    object.elements_id = keyspace_elements_id(&record);
    return has_expired(&object, now_us) ? keyspace_remove(exec, &object) : SK_ECORRUPT;
}

int keyspace_remove_expired(struct exec *exec, uint64_t now_us, uint32_t limit, uint32_t *removed) {
    *removed = 0;
    struct buffer *due = &exec->scratch;
    buffer_clear(due, SCRATCH_KEPT_BYTES);
    int err = gather_due(exec, now_us, limit, due);
    struct slice rest = buffer_slice(due);
    while (err == SK_OK && rest.size > 0) {
        err = remove_due(exec, pieces_take(&rest), now_us);
        if (err == SK_OK) (*removed)++;
    }
    return err;
}

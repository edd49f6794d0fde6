#include "shardd/element.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/keyspace.h"
#include "shardd/record_kind.h"

#define NAME_SIZE_BYTES    4u /* of a long name, in its value */
#define SCRATCH_KEPT_BYTES 65536u

struct slice element_prefix(uint64_t id, uint8_t part, uint8_t room[ELEMENT_PREFIX_BYTES]) {
    room[0] = RECORD_ELEMENT;
    put_u64(room + 1, id);
    room[9] = part;
    return slice_of(room, ELEMENT_PREFIX_BYTES);
}

bool element_key_is_of(struct slice key, uint64_t id) {
    return key.size >= ELEMENT_PREFIX_BYTES && key.data[0] == RECORD_ELEMENT && get_u64(key.data + 1) == id;
}

bool element_key_is_in(struct slice key, uint64_t id, uint8_t part) {
    return element_key_is_of(key, id) && key.data[9] == part;
}

/* ---- records ---- */

static bool is_long(struct slice name) { return name.size > ELEMENT_NAME_INLINE_MAX; }

static void put_position(uint8_t *at, uint64_t position) {
    for (unsigned i = 0; i < ELEMENT_POSITION_BYTES; i++) at[i] = (uint8_t)(position >> (40 - 8 * i));
}

/* All of the key; a long name's discriminator is 0. */
static void build_key(const struct exec *exec, uint64_t id, struct element *element) {
    struct slice name = element->name;
    (void)element_prefix(id, ELEMENT_NAMED, element->key);
    uint8_t *at = element->key + ELEMENT_PREFIX_BYTES;
    put_position(at, exec->hasher->hash64(name) >> 16);
    at += ELEMENT_POSITION_BYTES;
    size_t inline_bytes = is_long(name) ? ELEMENT_NAME_INLINE_MAX : name.size;
    if (inline_bytes > 0) memcpy(at, name.data, inline_bytes);
    at += inline_bytes;
    if (is_long(name)) {
        exec->hasher->hash128(name, at);
        at[16] = 0;
        at += 17;
    }
    element->key_size = (size_t)(at - element->key);
}

static struct slice key_of(const struct element *element) { return slice_of(element->key, element->key_size); }

/* Name and value of a named element's record. SK_OK or SK_ECORRUPT. */
static int read_record(struct slice key, struct slice stored, struct slice *name, struct slice *value) {
    size_t head = ELEMENT_PREFIX_BYTES + ELEMENT_POSITION_BYTES;
    if (key.size < head || key.size > ELEMENT_KEY_MAX) return SK_ECORRUPT;
    *name = slice_of(key.data + head, key.size - head);
    *value = stored;
    if (key.size < ELEMENT_KEY_MAX) return is_long(*name) ? SK_ECORRUPT : SK_OK;
    if (stored.size < NAME_SIZE_BYTES) return SK_ECORRUPT;
    size_t size = get_u32(stored.data);
    if (stored.size - NAME_SIZE_BYTES < size || size <= ELEMENT_NAME_INLINE_MAX) return SK_ECORRUPT;
    *name = slice_of(stored.data + NAME_SIZE_BYTES, size);
    *value = slice_of(name->data + size, stored.size - NAME_SIZE_BYTES - size);
    return SK_OK;
}

/* ---- finding ---- */

static int read_name(struct slice key, struct slice stored, struct slice *name) {
    struct slice value;
    return read_record(key, stored, name, &value);
}

int element_find(struct exec *exec, uint64_t id, struct slice name, struct element *element) {
    struct slice stored, own;
    element->name = name;
    element->chain_full = false;
    build_key(exec, id, element);
    int err = is_long(name) ? long_name_find(exec->kv, element->key, element->key_size, name, read_name, &stored,
                                             &element->chain_full)
                            : kv_get(exec->kv, key_of(element), &stored);
    if (err == SK_OK) err = read_record(key_of(element), stored, &own, &element->value);
    element->found = err == SK_OK;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* ---- changing ---- */

int element_put(struct exec *exec, struct element *element, struct slice value) {
    if (!element->found && element->chain_full) return SK_TOOLARGE;
    struct slice name = element->name;
    if (is_long(name)) {
        struct buffer *stored = &exec->scratch;
        uint8_t size[NAME_SIZE_BYTES];
        put_u32(size, (uint32_t)name.size);
        buffer_clear(stored, SCRATCH_KEPT_BYTES);
        buffer_append(stored, size, sizeof size);
        buffer_append(stored, name.data, name.size);
        buffer_append(stored, value.data, value.size);
        if (stored->failed) return SK_ENOMEM;
        value = buffer_slice(stored);
    }
    element->found = true;
    element->value = slice_of("", 0);
    return kv_put(exec->kv, key_of(element), value);
}

int element_remove(struct exec *exec, struct element *element) {
    sk_assert(element->found);
    element->found = false;
    return kv_del(exec->kv, key_of(element));
}

/* ---- places ---- */

#define KEY_HEAD_BYTES (ELEMENT_PREFIX_BYTES + ELEMENT_POSITION_BYTES) /* before what the name makes of the key */

struct slice element_place(const struct element *element, uint8_t room[ELEMENT_PLACE_MAX]) {
    size_t size = element->key_size - KEY_HEAD_BYTES;
    memcpy(room, element->key + KEY_HEAD_BYTES, size);
    if (!is_long(element->name)) return slice_of(room, size);
    memcpy(room + size, element->key + ELEMENT_PREFIX_BYTES, ELEMENT_POSITION_BYTES);
    return slice_of(room, size + ELEMENT_POSITION_BYTES);
}

int element_name_at(struct exec *exec, uint64_t id, struct slice place, struct slice *name) {
    *name = place;
    if (place.size <= ELEMENT_NAME_INLINE_MAX) return SK_OK;
    if (place.size != ELEMENT_PLACE_MAX) return SK_ECORRUPT;
    uint8_t key[ELEMENT_KEY_MAX];
    size_t size = place.size - ELEMENT_POSITION_BYTES;
    (void)element_prefix(id, ELEMENT_NAMED, key);
    memcpy(key + ELEMENT_PREFIX_BYTES, place.data + size, ELEMENT_POSITION_BYTES);
    memcpy(key + KEY_HEAD_BYTES, place.data, size);
    struct slice stored, value;
    int err = kv_get(exec->kv, slice_of(key, KEY_HEAD_BYTES + size), &stored);
    if (err == SK_NOT_FOUND) return SK_ECORRUPT;
    return err == SK_OK ? read_record(slice_of(key, KEY_HEAD_BYTES + size), stored, name, &value) : err;
}

/* ---- walking ---- */

int element_walk_open(struct exec *exec, uint64_t id, uint64_t position, struct element_walk *walk) {
    uint8_t from[ELEMENT_PREFIX_BYTES + ELEMENT_POSITION_BYTES];
    sk_assert(position <= ELEMENT_POSITION_MAX);
    (void)element_prefix(id, ELEMENT_NAMED, from);
    put_position(from + ELEMENT_PREFIX_BYTES, position);
    walk->id = id;
    int err = kv_iter_open(exec->kv, slice_of(from, sizeof from), &walk->iter);
    if (err == SK_OK) kv_iter_end_at(walk->iter, element_prefix(id, ELEMENT_NAMED + 1, walk->end));
    return err;
}

void element_walk_end_at(struct element_walk *walk, uint64_t position) {
    sk_assert(position <= ELEMENT_POSITION_MAX);
    (void)element_prefix(walk->id, ELEMENT_NAMED, walk->end);
    put_position(walk->end + ELEMENT_PREFIX_BYTES, position);
    kv_iter_end_at(walk->iter, slice_of(walk->end, sizeof walk->end));
}

int element_walk_next(struct element_walk *walk, uint64_t *position, struct slice *name, struct slice *value) {
    struct slice key, stored;
    int err = kv_iter_next(walk->iter, &key, &stored);
    if (err != SK_OK) return err;
    if (!element_key_is_in(key, walk->id, ELEMENT_NAMED)) return SK_NOT_FOUND;
    err = read_record(key, stored, name, value);
    if (err != SK_OK) return err;
    *position = 0;
    for (unsigned i = 0; i < ELEMENT_POSITION_BYTES; i++)
        *position = *position << 8 | key.data[ELEMENT_PREFIX_BYTES + i];
    return SK_OK;
}

void element_walk_close(struct element_walk *walk) { kv_iter_close(walk->iter); }

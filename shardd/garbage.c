#include "shardd/garbage.h"

#include "libcommon/error.h"
#include "shardd/element.h"
#include "shardd/pieces.h"
#include "shardd/record_kind.h"

#define REMOVED_AT_ONCE_MAX 256u     /* elements, by one entry of the log, */
#define PORTION_AT_ONCE     64u      /* and of one collection */
#define PORTION_BYTES       1048576u /* values that are read on the way are checked, which takes its time */
#define KEPT_BYTES          65536u
#define GARBAGE_KEY_BYTES   9u

/* Element keys of a collection in their order, gathered before they are removed. */
struct portion {
    struct buffer *keys; /* of the exec */
    uint32_t count;
    bool is_last; /* the collection has no more */
};

/* The elements under `id` at or after `from`, at most `limit`. */
static int gather(struct exec *exec, uint64_t id, struct slice from, uint32_t limit, struct portion *portion) {
    *portion = (struct portion){.keys = &exec->gathered};
    buffer_clear(portion->keys, KEPT_BYTES);
    struct kv_iter *iter;
    uint8_t end[ELEMENT_PREFIX_BYTES];
    int err = kv_iter_open(exec->kv, from, &iter);
    if (err != SK_OK) return err;
    kv_iter_end_at(iter, element_prefix(id + 1, 0, end));
    size_t bytes = 0;
    struct slice key, value;
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK) {
        if (portion->count == limit || bytes > PORTION_BYTES) break;
        pieces_add(portion->keys, key);
        portion->count++;
        bytes += key.size + value.size;
    }
    kv_iter_close(iter);
    portion->is_last = err == SK_NOT_FOUND;
    if (portion->keys->failed) return SK_ENOMEM;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* Removes what was gathered; `last` gets the last key, which lies in the portion. */
static int remove_portion(struct exec *exec, const struct portion *portion, struct slice *last) {
    int err = SK_OK;
    struct slice rest = buffer_slice(portion->keys);
    while (err == SK_OK && rest.size > 0) {
        *last = pieces_take(&rest);
        err = kv_del(exec->kv, *last);
    }
    return err;
}

static struct slice garbage_key(uint64_t id, uint8_t room[GARBAGE_KEY_BYTES]) {
    room[0] = RECORD_GARBAGE;
    put_u64(room + 1, id);
    return slice_of(room, GARBAGE_KEY_BYTES);
}

int garbage_add(struct exec *exec, uint64_t id) {
    uint8_t from[ELEMENT_PREFIX_BYTES], room[GARBAGE_KEY_BYTES];
    uint32_t left = REMOVED_AT_ONCE_MAX - exec->removed_at_once;
    struct portion portion;
    struct slice first = element_prefix(id, 0, from);
    int err = gather(exec, id, first, left < PORTION_AT_ONCE ? left : PORTION_AT_ONCE, &portion);
    if (err != SK_OK) return err;
    if (portion.is_last) {
        struct slice last;
        exec->removed_at_once += portion.count;
        return remove_portion(exec, &portion, &last);
    }
    exec->counters.garbage++;
    return kv_put(exec->kv, garbage_key(id, room), first);
}

/* The first of what is noted. SK_OK; SK_ECORRUPT: there should be one. */
static int find_first(struct exec *exec, uint64_t *id, uint8_t from[KV_KEY_BYTES_MAX], size_t *from_bytes) {
    static const uint8_t kind[1] = {RECORD_GARBAGE};
    struct kv_iter *iter;
    int err = kv_iter_open(exec->kv, slice_of(kind, 1), &iter);
    if (err != SK_OK) return err;
    struct slice key, value;
    err = kv_iter_next(iter, &key, &value);
    bool whole = err == SK_OK && key.size == GARBAGE_KEY_BYTES && key.data[0] == RECORD_GARBAGE;
    if (whole) {
        *id = get_u64(key.data + 1);
        whole = element_key_is_of(value, *id) && value.size <= KV_KEY_BYTES_MAX;
    }
    if (whole) {
        memcpy(from, value.data, value.size);
        *from_bytes = value.size;
    }
    kv_iter_close(iter);
    if (err == SK_OK || err == SK_NOT_FOUND) return whole ? SK_OK : SK_ECORRUPT;
    return err;
}

int garbage_sweep(struct exec *exec, uint32_t limit) {
    if (exec->counters.garbage == 0) return SK_OK;
    uint8_t from[KV_KEY_BYTES_MAX], room[GARBAGE_KEY_BYTES];
    size_t from_bytes;
    uint64_t id;
    struct portion portion;
    struct slice last = slice_of(NULL, 0);
    int err = find_first(exec, &id, from, &from_bytes);
    if (err == SK_OK) err = gather(exec, id, slice_of(from, from_bytes), limit, &portion);
    if (err == SK_OK) err = remove_portion(exec, &portion, &last);
    if (err != SK_OK) return err;
    if (!portion.is_last) return last.size == 0 ? SK_OK : kv_put(exec->kv, garbage_key(id, room), last);
    exec->counters.garbage--;
    return kv_del(exec->kv, garbage_key(id, room));
}

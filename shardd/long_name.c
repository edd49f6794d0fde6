#include "shardd/long_name.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

/* Walks the records that share all of the key but the discriminator: *discriminator gets the one of the name itself (SK_OK),
 * else the first free one (SK_NOT_FOUND), or LONG_NAME_DISCRIMINATORS when none is free. */
static int walk_chain(struct kv *kv, struct slice prefix, struct slice name, long_name_read_fn *read,
                      unsigned *discriminator) {
    uint8_t end[KV_KEY_BYTES_MAX]; /* behind the last discriminator: what was removed there is not passed */
    memcpy(end, prefix.data, prefix.size);
    end[prefix.size] = LONG_NAME_DISCRIMINATORS - 1;
    end[prefix.size + 1] = 0;
    struct kv_iter *iter;
    int err = kv_iter_open(kv, prefix, &iter);
    if (err != SK_OK) return err;
    kv_iter_end_at(iter, slice_of(end, prefix.size + 2));
    unsigned unused = 0;
    struct slice key, value, found;
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK) {
        if (key.size != prefix.size + 1 || memcmp(key.data, prefix.data, prefix.size) != 0) {
            err = SK_NOT_FOUND;
            break;
        }
        err = read(key, value, &found);
        if (err != SK_OK) break;
        uint8_t here = key.data[prefix.size];
        if (slice_equal(found, name)) {
            *discriminator = here;
            break;
        }
        if (here == unused) unused++;
    }
    kv_iter_close(iter);
    if (err == SK_NOT_FOUND) *discriminator = unused;
    return err;
}

/* The first discriminator has it nearly always; only where it has not, the chain is walked. */
int long_name_find(struct kv *kv, uint8_t *key, size_t key_size, struct slice name, long_name_read_fn *read,
                   struct slice *value, bool *full) {
    sk_assert(key_size > 1 && key_size < KV_KEY_BYTES_MAX);
    struct slice found;
    *full = false;
    int err = kv_get(kv, slice_of(key, key_size), value);
    if (err == SK_OK) err = read(slice_of(key, key_size), *value, &found);
    if (err == SK_OK && slice_equal(found, name)) return SK_OK;
    if (err != SK_OK && err != SK_NOT_FOUND) return err;
    unsigned discriminator = LONG_NAME_DISCRIMINATORS;
    err = walk_chain(kv, slice_of(key, key_size - 1), name, read, &discriminator);
    if (err != SK_OK && err != SK_NOT_FOUND) return err;
    *full = discriminator == LONG_NAME_DISCRIMINATORS;
    key[key_size - 1] = (uint8_t)discriminator;
    return err == SK_OK ? kv_get(kv, slice_of(key, key_size), value) : err;
}

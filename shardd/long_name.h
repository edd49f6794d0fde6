/* Names of clients that are too long for a key of the store (keys of data records, names of elements). Such a record's key
 * ends with a hash of the name and a discriminator of one byte, and the whole name stands in its value; names that share
 * the rest of the key take different discriminators. Only the shard's lane calls. */
#pragma once

#include "shardd/kv.h"

#define LONG_NAME_DISCRIMINATORS 256u

/* The name that stands in a record. SK_OK or SK_ECORRUPT. */
typedef int long_name_read_fn(struct slice key, struct slice value, struct slice *name);

/* Finds the record of `name`. `key`, of `key_size` (below KV_KEY_BYTES_MAX), comes with the discriminator 0, and gets that of the
 * name (SK_OK, with its `value`, as of kv_get), or the first free one (SK_NOT_FOUND); `full`: none is free. Or a fault. */
int long_name_find(struct kv *kv, uint8_t *key, size_t key_size, struct slice name, long_name_read_fn *read,
                   struct slice *value, bool *full);

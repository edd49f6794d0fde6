/* The first byte of a record's key in a shard; what each kind holds stands in shardd/keyspace.h. */
#pragma once

#include "libcommon/slice.h"

enum record_kind {
    RECORD_EXPIRY = 0x40,
    RECORD_ELEMENT = 0x50,
    RECORD_GARBAGE = 0x51,
    RECORD_NAME = 0x60,
    RECORD_NAME_ORDER = 0x61,
    RECORD_SHARD = 0xf0, /* one record, this byte its whole key */
};

/* The key of the shard's own record. */
static inline struct slice record_shard_key(void) {
    static const uint8_t key[1] = {RECORD_SHARD};
    return slice_of(key, sizeof key);
}

/* Records that reads have found in LMDB lately, in memory as they are: a lookup in LMDB touches a dozen lines of pages spread over
 * the whole file, one here three. The newest records push out the oldest; what is changed is dropped, and read anew when it has come to
 * LMDB. What the memtables know comes first, as it does before LMDB. The lane alone calls. */
#pragma once

#include "libcommon/slice.h"

struct record_cache;

#define RECORD_CACHE_BYTES_MIN 262144u

/* `bytes` of records, and up to a seventh more to find them. SK_ENOMEM. */
int record_cache_new(struct record_cache **cache, uint64_t bytes);
void record_cache_free(struct record_cache *cache); /* NULL is allowed */

/* A step begins: values that were given in the last one are void. */
void record_cache_step_begin(struct record_cache *cache);

/* False: not here. `value` lives until the next step begins. */
bool record_cache_get(struct record_cache *cache, uint32_t shard, struct slice key, struct slice *value);

/* Right behind record_cache_get, which has not found it: LMDB has this. It is copied if it was offered before, not long ago: of keys that are many more than
 * fit, and come in no order, none is worth a copy. Not if it is large, or if the step has put too many. */
void record_cache_offer(struct record_cache *cache, uint32_t shard, struct slice key, struct slice value);

/* What LMDB has is about to be old. */
void record_cache_drop(struct record_cache *cache, uint32_t shard, struct slice key);
void record_cache_clear(struct record_cache *cache);

#include "record_cache.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stdlib.h>
#include <xxhash.h>

/* Design. Records lie in a ring, one behind the other, each at a multiple of 8; a place in it is counted from the first record on
 * and never comes again, so that a place tells whether its record is still there. An index of buckets, a cache line each, has places
 * by hash; a place that is void is free. Values that were given out must stay for the step, so a step puts a share of the ring at
 * most, and a record that such a share could overwrite counts as gone. What is offered leaves a mark first, and is copied when it
 * meets its own (a doorkeeper: Einziger, Friedman and Manes, "TinyLFU", 2017, section 3.4.2). */

#define BUCKET_PLACES    7u
#define BUCKET_MARKS     4u
#define RECORD_BYTES_MAX 4096u /* larger ones are few, and would push out many */
#define STEP_SHARE       16u   /* of the ring is put in one step at most */
#define RECORD_USUAL     128u
#define TAG_BITS         16u

_Static_assert(RECORD_CACHE_BYTES_MIN >= (uint64_t)STEP_SHARE * 2 * RECORD_BYTES_MAX, "a step can put a record");

struct record {
    uint32_t shard;
    uint32_t value_size;
    uint16_t key_size;
    uint8_t key[]; /* the value follows */
};

struct bucket {
    uint64_t places[BUCKET_PLACES]; /* tag and place, in units of 8 bytes, in one word; 0: free */
    uint16_t marks[BUCKET_MARKS];   /* tags of what was offered */
};

_Static_assert(sizeof(struct bucket) == 64, "a line of the processor's cache");

struct record_cache {
    uint8_t *ring;          /* owned */
    struct bucket *buckets; /* owned */
    uint64_t ring_bytes, bucket_mask;
    uint64_t valid_from; /* records at places before this are void; not 0, which is no place */
    uint64_t missed;     /* the hash of what was last looked for and not found */
    uint64_t end;        /* where the next record goes: all that was ever put */
    uint64_t step_limit; /* end does not pass this in the step under way */
};

static uint64_t round_up(uint64_t bytes) { return (bytes + 7) & ~UINT64_C(7); }

int record_cache_new(struct record_cache **made, uint64_t bytes) {
    sk_assert(bytes >= RECORD_CACHE_BYTES_MIN);
    struct record_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL) return SK_ENOMEM;
    uint64_t buckets = 1;
    while (buckets * BUCKET_PLACES * RECORD_USUAL < bytes) buckets *= 2;
    cache->ring_bytes = round_up(bytes);
    cache->bucket_mask = buckets - 1;
    cache->ring = malloc(cache->ring_bytes); /* pages come as they are used */
    cache->buckets = aligned_alloc(sizeof *cache->buckets, buckets * sizeof *cache->buckets);
    if (cache->ring == NULL || cache->buckets == NULL) {
        record_cache_free(cache);
        return SK_ENOMEM;
    }
    memset(cache->buckets, 0, buckets * sizeof *cache->buckets);
    record_cache_clear(cache);
    *made = cache;
    return SK_OK;
}

void record_cache_free(struct record_cache *cache) {
    if (cache == NULL) return;
    free(cache->ring);
    free(cache->buckets);
    free(cache);
}

void record_cache_step_begin(struct record_cache *cache) {
    cache->step_limit = cache->end + cache->ring_bytes / STEP_SHARE;
}

/* Not by going over the index, which is a seventh of what may be gigabytes: the lane would stand still for so long. */
void record_cache_clear(struct record_cache *cache) { cache->valid_from = cache->end > 0 ? cache->end : 8; }

static uint64_t hash_of(uint32_t shard, struct slice key) {
    return XXH3_64bits_withSeed(key.data, key.size, shard);
}

static struct bucket *bucket_of(const struct record_cache *cache, uint64_t hash) {
    return &cache->buckets[hash & cache->bucket_mask];
}

/* A word of the index. */
static uint64_t entry_of(uint64_t hash, uint64_t place) {
    return hash >> (64 - TAG_BITS) << (64 - TAG_BITS) | place / 8;
}

static uint64_t place_of(uint64_t entry) { return (entry & (UINT64_MAX >> TAG_BITS)) * 8; }

/* It was not cleared, and cannot be overwritten before the step ends. */
static bool is_there(const struct record_cache *cache, uint64_t place) {
    return place >= cache->valid_from && place + cache->ring_bytes >= cache->step_limit;
}

static struct record *record_at(const struct record_cache *cache, uint64_t place) {
    return (struct record *)(void *)(cache->ring + place % cache->ring_bytes);
}

/* Where the bucket has it; NULL: nowhere. */
static uint64_t *find(const struct record_cache *cache, uint64_t hash, uint32_t shard, struct slice key) {
    struct bucket *bucket = bucket_of(cache, hash);
    for (unsigned i = 0; i < BUCKET_PLACES; i++) {
        uint64_t entry = bucket->places[i], place = place_of(entry);
        if ((entry ^ hash) >> (64 - TAG_BITS) != 0 || !is_there(cache, place)) continue;
        const struct record *record = record_at(cache, place);
        if (record->shard == shard && slice_equal(slice_of(record->key, record->key_size), key))
            return &bucket->places[i];
    }
    return NULL;
}

bool record_cache_get(struct record_cache *cache, uint32_t shard, struct slice key, struct slice *value) {
    uint64_t hash = hash_of(shard, key);
    const uint64_t *found = find(cache, hash, shard, key);
    if (found == NULL) {
        cache->missed = hash;
        return false;
    }
    const struct record *record = record_at(cache, place_of(*found));
    *value = slice_of(record->key + record->key_size, record->value_size);
    return true;
}

/* A place of the bucket that is void, or else its oldest. */
static uint64_t *choose_place(struct bucket *bucket) {
    uint64_t *oldest = &bucket->places[0];
    for (unsigned i = 1; i < BUCKET_PLACES; i++)
        if (place_of(bucket->places[i]) < place_of(*oldest)) oldest = &bucket->places[i];
    return oldest;
}

/* No record goes over the ring's end; and none lies at 0, which is no place. */
static uint64_t next_place(const struct record_cache *cache, uint64_t bytes) {
    uint64_t place = cache->end == 0 ? 8 : cache->end, left = cache->ring_bytes - place % cache->ring_bytes;
    return bytes <= left ? place : place + left;
}

/* Whether it was marked already; from now on it is. */
static bool mark(struct record_cache *cache, uint64_t hash) {
    uint16_t *place = &bucket_of(cache, hash)->marks[hash >> 40 & (BUCKET_MARKS - 1)];
    uint16_t tag = (uint16_t)(hash >> (64 - TAG_BITS));
    bool was_marked = *place == tag;
    *place = tag;
    return was_marked;
}

void record_cache_offer(struct record_cache *cache, uint32_t shard, struct slice key, struct slice value) {
    uint64_t hash = cache->missed;
    if (!mark(cache, hash)) return;
    uint64_t bytes = round_up(sizeof(struct record) + key.size + value.size);
    if (bytes > RECORD_BYTES_MAX) return;
    uint64_t place = next_place(cache, bytes);
    if (place + bytes > cache->step_limit) return;
    struct record *record = record_at(cache, place);
    *record = (struct record){.shard = shard, .value_size = (uint32_t)value.size, .key_size = (uint16_t)key.size};
    memcpy(record->key, key.data, key.size);
    if (value.size > 0) memcpy(record->key + key.size, value.data, value.size);
    cache->end = place + bytes;
    *choose_place(bucket_of(cache, hash)) = entry_of(hash, place);
}

void record_cache_drop(struct record_cache *cache, uint32_t shard, struct slice key) {
    uint64_t hash = hash_of(shard, key), *found;
    while ((found = find(cache, hash, shard, key)) != NULL) *found = 0;
}

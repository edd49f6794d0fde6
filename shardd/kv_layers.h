/* What a kv is made of. For kv.c and the store that makes the layers; commands see kv.h alone. */
#pragma once

#include "shardd/disk.h"
#include "shardd/kv.h"
#include "shardd/memtable.h"
#include "shardd/record_cache.h"

/* The layers of a lane's store, newest first. The store moves them; all its shards' views share one. */
struct kv_layers {
    struct memtable *active;    /* takes the changes */
    struct memtable *frozen;    /* being written by a checkpoint; NULL: none */
    struct record_cache *cache; /* of what the disk has; NULL: none */
    struct disk *disk;          /* NULL: none */
};

/* One change to be undone (kv_begin). */
struct kv_undo;

struct kv {
    struct kv_layers *layers; /* borrowed */
    uint32_t shard;
    bool locked; /* an install replaces what the shard has, or was broken off: nobody reads or changes it */
    bool keeps_reads;
    uint32_t open_iterators;
    uint64_t passed;        /* deleted records that iterators have met: what deletions cost those who walk */
    uint64_t met;           /* records that iterators have given: what walks cost */
    uint64_t work;          /* kv_work */
    struct kv_watch *watch; /* borrowed; NULL: none */
    bool journaling;
    struct kv_undo *journal; /* owned; newest first */
};

void kv_init(struct kv *kv, struct kv_layers *layers, uint32_t shard);
void kv_deinit(struct kv *kv);

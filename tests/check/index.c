#include "index.h"

#include "memory.h"

struct index_slot {
    uint32_t tag;  /* upper half of the hash */
    uint32_t item; /* INDEX_NONE = free */
};

#define SLOTS_FIRST 64

void index_deinit(struct index *index) {
    free(index->slots);
    *index = (struct index){0};
}

/* Where a walk begins. The tag is part of it, so that the index can grow without the hashes. */
static size_t place_of(const struct index *index, uint32_t tag) {
    return (size_t)((tag * UINT64_C(0x9e3779b97f4a7c15)) >> 24) & (index->slot_count - 1);
}

static void put(struct index *index, uint32_t tag, uint32_t item) {
    size_t at = place_of(index, tag);
    while (index->slots[at].item != INDEX_NONE) at = (at + 1) & (index->slot_count - 1);
    index->slots[at] = (struct index_slot){.tag = tag, .item = item};
}

static void grow(struct index *index) {
    struct index old = *index;
    index->slot_count = old.slot_count == 0 ? SLOTS_FIRST : 2 * old.slot_count;
    index->slots = memory_zeroed(index->slot_count, sizeof *index->slots);
    for (size_t i = 0; i < index->slot_count; i++) index->slots[i].item = INDEX_NONE;
    for (size_t i = 0; i < old.slot_count; i++) {
        if (old.slots[i].item != INDEX_NONE) put(index, old.slots[i].tag, old.slots[i].item);
    }
    free(old.slots);
}

void index_add(struct index *index, uint64_t hash, uint32_t item) {
    if (2 * (index->count + 1) > index->slot_count) grow(index);
    put(index, (uint32_t)(hash >> 32), item);
    index->count++;
}

uint32_t index_first(const struct index *index, uint64_t hash, struct index_walk *walk) {
    if (index->slot_count == 0) return INDEX_NONE;
    walk->tag = (uint32_t)(hash >> 32);
    walk->at = place_of(index, walk->tag);
    return index_next(index, walk);
}

uint32_t index_next(const struct index *index, struct index_walk *walk) {
    for (;;) {
        const struct index_slot *slot = &index->slots[walk->at];
        if (slot->item == INDEX_NONE) return INDEX_NONE;
        walk->at = (walk->at + 1) & (index->slot_count - 1);
        if (slot->tag == walk->tag) return slot->item;
    }
}

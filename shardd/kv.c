#include "kv.h"

#include "kv_layers.h"
#include "kv_memory.h"
#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stdlib.h>

struct kv_undo {
    struct kv_undo *older;
    bool was_there;
    size_t key_size;
    size_t value_size;
    uint8_t bytes[]; /* key, value */
};

void kv_init(struct kv *kv, struct kv_layers *layers, uint32_t shard) {
    *kv = (struct kv){.layers = layers, .shard = shard};
}

static void journal_clear(struct kv *kv) {
    while (kv->journal != NULL) {
        struct kv_undo *undo = kv->journal;
        kv->journal = undo->older;
        free(undo);
    }
    kv->journaling = false;
}

void kv_deinit(struct kv *kv) {
    sk_assert(kv->open_iterators == 0);
    journal_clear(kv);
}

static void check_key(struct slice key) { sk_assert(key.size > 0 && key.size <= KV_KEY_BYTES_MAX); }

int kv_get(struct kv *kv, struct slice key, struct slice *value) {
    check_key(key);
    const struct kv_layers *layers = kv->layers;
    enum memtable_found found = memtable_get(layers->active, kv->shard, key, value);
    if (found == MEMTABLE_ABSENT && layers->frozen != NULL) {
        found = memtable_get(layers->frozen, kv->shard, key, value);
    }
    return found == MEMTABLE_VALUE ? SK_OK : SK_NOT_FOUND;
}

/* ---- changes ---- */

/* Notes what `key` holds before it is changed. */
static int journal_add(struct kv *kv, struct slice key) {
    struct slice value = slice_of(NULL, 0);
    int err = kv_get(kv, key, &value);
    if (err != SK_OK && err != SK_NOT_FOUND) return err;
    struct kv_undo *undo = malloc(sizeof *undo + key.size + value.size);
    if (undo == NULL) return SK_ENOMEM;
    undo->was_there = err == SK_OK;
    undo->key_size = key.size;
    undo->value_size = value.size;
    memcpy(undo->bytes, key.data, key.size);
    if (value.size > 0) memcpy(undo->bytes + key.size, value.data, value.size);
    undo->older = kv->journal;
    kv->journal = undo;
    return SK_OK;
}

static int before_change(struct kv *kv, struct slice key) {
    check_key(key);
    sk_assert(kv->open_iterators == 0);
    return kv->journaling ? journal_add(kv, key) : SK_OK;
}

int kv_put(struct kv *kv, struct slice key, struct slice value) {
    int err = before_change(kv, key);
    if (err != SK_OK) return err;
    return memtable_put(kv->layers->active, kv->shard, key, value);
}

int kv_del(struct kv *kv, struct slice key) {
    int err = before_change(kv, key);
    if (err != SK_OK) return err;
    return memtable_delete(kv->layers->active, kv->shard, key);
}

int kv_begin(struct kv *kv) {
    sk_assert(!kv->journaling);
    kv->journaling = true;
    return SK_OK;
}

void kv_commit(struct kv *kv) {
    sk_assert(kv->journaling);
    journal_clear(kv);
}

int kv_rollback(struct kv *kv) {
    sk_assert(kv->journaling);
    sk_assert(kv->open_iterators == 0);
    int err = SK_OK;
    for (struct kv_undo *undo = kv->journal; undo != NULL && err == SK_OK; undo = undo->older) {
        struct slice key = slice_of(undo->bytes, undo->key_size);
        struct slice value = slice_of(undo->bytes + undo->key_size, undo->value_size);
        err = undo->was_there ? memtable_put(kv->layers->active, kv->shard, key, value)
                              : memtable_delete(kv->layers->active, kv->shard, key);
    }
    journal_clear(kv);
    return err;
}

/* ---- iteration ---- */

/* What a layer has next. */
struct layer_head {
    enum memtable_found found; /* MEMTABLE_ABSENT: the layer is at its end */
    struct slice key;
    struct slice value;
};

enum layer { LAYER_ACTIVE, LAYER_FROZEN, LAYER_COUNT };

struct kv_iter {
    struct kv *kv;                        /* borrowed */
    struct layer_head heads[LAYER_COUNT]; /* newest first */
    struct memtable_cursor cursors[LAYER_COUNT];
};

static void read_memtable_head(struct kv_iter *iter, enum layer layer) {
    struct layer_head *head = &iter->heads[layer];
    head->found = memtable_cursor_get(&iter->cursors[layer], &head->key, &head->value);
}

int kv_iter_open(struct kv *kv, struct slice from, struct kv_iter **iter) {
    struct kv_iter *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    opened->kv = kv;
    opened->cursors[LAYER_ACTIVE] = memtable_seek(kv->layers->active, kv->shard, from);
    read_memtable_head(opened, LAYER_ACTIVE);
    if (kv->layers->frozen != NULL) {
        opened->cursors[LAYER_FROZEN] = memtable_seek(kv->layers->frozen, kv->shard, from);
        read_memtable_head(opened, LAYER_FROZEN);
    }
    kv->open_iterators++;
    *iter = opened;
    return SK_OK;
}

static int advance(struct kv_iter *iter, enum layer layer) {
    memtable_cursor_next(&iter->cursors[layer]);
    read_memtable_head(iter, layer);
    return SK_OK;
}

/* The newest layer among those with the least key; NULL at the end of all. */
static const struct layer_head *least_head(const struct kv_iter *iter) {
    const struct layer_head *least = NULL;
    for (int layer = 0; layer < LAYER_COUNT; layer++) {
        const struct layer_head *head = &iter->heads[layer];
        if (head->found == MEMTABLE_ABSENT) continue;
        if (least == NULL || slice_compare(head->key, least->key) < 0) least = head;
    }
    return least;
}

int kv_iter_next(struct kv_iter *iter, struct slice *key, struct slice *value) {
    for (;;) {
        const struct layer_head *least = least_head(iter);
        if (least == NULL) return SK_NOT_FOUND;
        struct layer_head taken = *least;
        /* Every layer that has the key moves on: the newest has spoken for all. */
        for (int layer = 0; layer < LAYER_COUNT; layer++) {
            const struct layer_head *head = &iter->heads[layer];
            if (head->found == MEMTABLE_ABSENT || !slice_equal(head->key, taken.key)) continue;
            int err = advance(iter, (enum layer)layer);
            if (err != SK_OK) return err;
        }
        if (taken.found == MEMTABLE_DELETED) continue;
        *key = taken.key;
        *value = taken.value;
        return SK_OK;
    }
}

void kv_iter_close(struct kv_iter *iter) {
    if (iter == NULL) return;
    sk_assert(iter->kv->open_iterators > 0);
    iter->kv->open_iterators--;
    free(iter);
}

/* ---- in memory alone ---- */

struct memory {
    struct kv kv; /* first: the caller has this */
    struct kv_layers layers;
};

int kv_new_memory(struct kv **kv) {
    struct memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) return SK_ENOMEM;
    int err = memtable_new(&memory->layers.active);
    if (err != SK_OK) {
        free(memory);
        return err;
    }
    kv_init(&memory->kv, &memory->layers, 0);
    *kv = &memory->kv;
    return SK_OK;
}

void kv_free_memory(struct kv *kv) {
    if (kv == NULL) return;
    struct memory *memory = (struct memory *)kv;
    kv_deinit(kv);
    memtable_free(memory->layers.active);
    free(memory);
}

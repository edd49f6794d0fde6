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
    struct slice value; /* in `bytes`, or where no change of this step comes: in the frozen layer or on the disk */
    uint8_t bytes[];    /* key, value */
};

#define BYTES_PER_WORK 128u /* handling so many costs about as much as finding a record */

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

static void count_work(struct kv *kv, const struct slice *value) {
    kv->work += 1 + (value != NULL ? value->size / BYTES_PER_WORK : 0);
}

uint64_t kv_work(const struct kv *kv) { return kv->work; }

void kv_keep_reads(struct kv *kv, bool keep) { kv->keeps_reads = keep; }

static int find_on_disk(const struct kv *kv, struct slice key, struct slice *value) {
    const struct kv_layers *layers = kv->layers;
    struct record_cache *cache = layers->cache;
    if (cache != NULL && record_cache_get(cache, kv->shard, key, value)) return SK_OK;
    int err = disk_get(layers->disk, kv->shard, key, value);
    if (err == SK_OK && cache != NULL && kv->keeps_reads) record_cache_offer(cache, kv->shard, key, *value);
    return err;
}

/* `moves`: the value lies where changes are made. */
static int find(struct kv *kv, struct slice key, struct slice *value, bool *moves) {
    const struct kv_layers *layers = kv->layers;
    enum memtable_found found = memtable_get(layers->active, kv->shard, key, value);
    *moves = found == MEMTABLE_VALUE;
    if (found == MEMTABLE_ABSENT && layers->frozen != NULL) {
        found = memtable_get(layers->frozen, kv->shard, key, value);
    }
    if (found == MEMTABLE_VALUE) return SK_OK;
    if (found == MEMTABLE_DELETED || layers->disk == NULL) return SK_NOT_FOUND;
    return find_on_disk(kv, key, value);
}

int kv_get(struct kv *kv, struct slice key, struct slice *value) {
    bool moves;
    sk_assert(!kv->locked);
    check_key(key);
    int err = find(kv, key, value, &moves);
    count_work(kv, err == SK_OK ? value : NULL);
    return err;
}

/* ---- changes ---- */

/* Notes what `key` holds before it is changed. */
static int journal_add(struct kv *kv, struct slice key) {
    struct slice value = slice_of(NULL, 0);
    bool moves;
    int err = find(kv, key, &value, &moves);
    if (err != SK_OK && err != SK_NOT_FOUND) return err;
    if (err == SK_OK) count_work(kv, &value);
    struct kv_undo *undo = malloc(sizeof *undo + key.size + (moves ? value.size : 0));
    if (undo == NULL) return SK_ENOMEM;
    undo->was_there = err == SK_OK;
    undo->key_size = key.size;
    undo->value = moves ? slice_of(undo->bytes + key.size, value.size) : value;
    memcpy(undo->bytes, key.data, key.size);
    if (moves && value.size > 0) memcpy(undo->bytes + key.size, value.data, value.size);
    undo->older = kv->journal;
    kv->journal = undo;
    return SK_OK;
}

static int before_change(struct kv *kv, struct slice key) {
    sk_assert(!kv->locked);
    check_key(key);
    sk_assert(kv->open_iterators == 0);
    return kv->journaling ? journal_add(kv, key) : SK_OK;
}

void kv_set_watch(struct kv *kv, struct kv_watch *watch) {
    sk_assert(watch == NULL || kv->watch == NULL);
    kv->watch = watch;
}

/* `value` NULL: the key is deleted. */
static int change(struct kv *kv, struct slice key, const struct slice *value) {
    count_work(kv, value);
    if (kv->watch != NULL) kv->watch->changing_cb(kv->watch, key, value);
    if (kv->layers->cache != NULL) record_cache_drop(kv->layers->cache, kv->shard, key);
    struct memtable *active = kv->layers->active;
    return value != NULL ? memtable_put(active, kv->shard, key, *value) : memtable_delete(active, kv->shard, key);
}

int kv_put(struct kv *kv, struct slice key, struct slice value) {
    int err = before_change(kv, key);
    return err == SK_OK ? change(kv, key, &value) : err;
}

int kv_del(struct kv *kv, struct slice key) {
    int err = before_change(kv, key);
    return err == SK_OK ? change(kv, key, NULL) : err;
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
        err = change(kv, key, undo->was_there ? &undo->value : NULL);
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

enum layer { LAYER_ACTIVE, LAYER_FROZEN, LAYER_DISK, LAYER_COUNT };

struct kv_iter {
    struct kv *kv;                        /* borrowed */
    bool down;                            /* from the last key to the first */
    struct layer_head heads[LAYER_COUNT]; /* newest first */
    struct memtable_cursor active;
    struct memtable_cursor frozen;
    struct disk_cursor *disk; /* owned; NULL: no such layer, or nothing in it */
    struct slice taken;       /* the key that was handed out last, */
    bool passing;             /* if the layers still stand at it */
    struct slice bound;       /* borrowed; no data: none */
};

static void read_memtable_head(struct layer_head *head, const struct memtable_cursor *cursor) {
    head->found = memtable_cursor_get(cursor, &head->key, &head->value);
}

/* What moving the disk's cursor has answered. */
static int read_disk_head(struct layer_head *head, int err) {
    head->found = err == SK_OK ? MEMTABLE_VALUE : MEMTABLE_ABSENT;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static struct memtable_cursor seek_memtable(const struct kv_iter *iter, const struct memtable *table,
                                            struct slice bound) {
    uint32_t shard = iter->kv->shard;
    return iter->down ? memtable_seek_below(table, shard, bound) : memtable_seek(table, shard, bound);
}

static int open_layers(struct kv_iter *iter, struct slice bound) {
    const struct kv_layers *layers = iter->kv->layers;
    iter->active = seek_memtable(iter, layers->active, bound);
    read_memtable_head(&iter->heads[LAYER_ACTIVE], &iter->active);
    if (layers->frozen != NULL) {
        iter->frozen = seek_memtable(iter, layers->frozen, bound);
        read_memtable_head(&iter->heads[LAYER_FROZEN], &iter->frozen);
    }
    if (layers->disk == NULL) return SK_OK;
    int err = disk_cursor_open(layers->disk, iter->kv->shard, &iter->disk);
    if (err != SK_OK) return err;
    struct layer_head *head = &iter->heads[LAYER_DISK];
    err = iter->down ? disk_cursor_seek_below(iter->disk, bound, &head->key, &head->value)
                     : disk_cursor_seek(iter->disk, bound, &head->key, &head->value);
    return read_disk_head(head, err);
}

static int open_iter(struct kv *kv, bool down, struct slice bound, struct kv_iter **iter) {
    sk_assert(!kv->locked);
    struct kv_iter *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    opened->kv = kv;
    opened->down = down;
    kv->open_iterators++;
    int err = open_layers(opened, bound);
    if (err != SK_OK) {
        kv_iter_close(opened);
        return err;
    }
    *iter = opened;
    return SK_OK;
}

int kv_iter_open(struct kv *kv, struct slice from, struct kv_iter **iter) {
    return open_iter(kv, false, from, iter);
}

int kv_iter_open_below(struct kv *kv, struct slice below, struct kv_iter **iter) {
    check_key(below);
    return open_iter(kv, true, below, iter);
}

static void advance_memtable(const struct kv_iter *iter, struct memtable_cursor *cursor, struct layer_head *head) {
    if (iter->down) {
        memtable_cursor_previous(cursor);
    } else {
        memtable_cursor_next(cursor);
    }
    read_memtable_head(head, cursor);
}

static int advance(struct kv_iter *iter, enum layer layer) {
    struct layer_head *head = &iter->heads[layer];
    switch (layer) {
    case LAYER_ACTIVE:
        advance_memtable(iter, &iter->active, head);
        return SK_OK;
    case LAYER_FROZEN:
        advance_memtable(iter, &iter->frozen, head);
        return SK_OK;
    default:
        return read_disk_head(head, iter->down ? disk_cursor_previous(iter->disk, &head->key, &head->value)
                                               : disk_cursor_next(iter->disk, &head->key, &head->value));
    }
}

/* The newest layer among those whose key comes next; NULL at the end of all. */
static const struct layer_head *next_head(const struct kv_iter *iter) {
    const struct layer_head *next = NULL;
    for (int layer = 0; layer < LAYER_COUNT; layer++) {
        const struct layer_head *head = &iter->heads[layer];
        if (head->found == MEMTABLE_ABSENT) continue;
        int order = next == NULL ? -1 : slice_compare(head->key, next->key);
        if (next == NULL || (iter->down ? order > 0 : order < 0)) next = head;
    }
    return next;
}

/* Moves past `key` in every layer that has it. */
static int pass_key(struct kv_iter *iter, struct slice key) {
    for (int layer = 0; layer < LAYER_COUNT; layer++) {
        const struct layer_head *head = &iter->heads[layer];
        if (head->found == MEMTABLE_ABSENT || !slice_equal(head->key, key)) continue;
        int err = advance(iter, (enum layer)layer);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

void kv_iter_end_at(struct kv_iter *iter, struct slice bound) {
    check_key(bound);
    iter->bound = bound;
}

static bool is_beyond(const struct kv_iter *iter, struct slice key) {
    if (iter->bound.data == NULL) return false;
    int order = slice_compare(key, iter->bound);
    return iter->down ? order < 0 : order >= 0;
}

int kv_iter_next(struct kv_iter *iter, struct slice *key, struct slice *value) {
    for (;;) {
        if (iter->passing) {
            int err = pass_key(iter, iter->taken);
            if (err != SK_OK) return err;
            iter->passing = false;
        }
        const struct layer_head *next = next_head(iter);
        if (next == NULL || is_beyond(iter, next->key)) return SK_NOT_FOUND;
        /* Passed by the next call only: the caller still reads what the layers stand at. */
        iter->taken = next->key;
        iter->passing = true;
        if (next->found == MEMTABLE_DELETED) {
            iter->kv->passed++;
            continue;
        }
        iter->kv->met++;
        count_work(iter->kv, NULL);
        *key = next->key;
        *value = next->value;
        return SK_OK;
    }
}

void kv_iter_close(struct kv_iter *iter) {
    if (iter == NULL) return;
    sk_assert(iter->kv->open_iterators > 0);
    iter->kv->open_iterators--;
    disk_cursor_close(iter->disk);
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

uint64_t kv_memory_passed(const struct kv *kv) { return kv->passed; }

uint64_t kv_memory_met(const struct kv *kv) { return kv->met; }

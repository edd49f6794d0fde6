#include "store.h"

#include "disk.h"
#include "kv_layers.h"
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "store_writer.h"

#include <stdio.h>
#include <stdlib.h>

/* Memory of written pages that LMDB may keep. */
#define RETAINED_BYTES_MAX (32u << 20)

struct store {
    struct store_options options;
    struct kv_layers layers;           /* memtables and disk: owned */
    struct store_writer *writer;       /* owned */
    bool checkpoint_running;           /* from start or retry to complete */
    bool checkpoint_failed;            /* the frozen memtable waits for a retry */
    struct kv *views[SHARD_COUNT_MAX]; /* owned; NULL: not asked for yet */
};

static void ended_cb(void *arg, int err) {
    struct store *store = arg;
    store->options.checkpointed_cb(store->options.arg, err);
}

static int open_parts(struct store *store, char *text, size_t text_bytes) {
    const struct store_options *options = &store->options;
    int err = memtable_new(&store->layers.active);
    if (err != SK_OK) return err;
    err = disk_open(&store->layers.disk, options->directory, options->map_bytes, text, text_bytes);
    if (err != SK_OK) return err;
    struct store_writer_options writer_options = {
        .disk = store->layers.disk,
        .txn_bytes = options->txn_bytes,
        .pace_bytes_per_s = options->pace_bytes_per_s,
        .ended_cb = ended_cb,
        .arg = store,
    };
    return store_writer_new(&store->writer, &writer_options);
}

int store_open(struct store **store, const struct store_options *options, char *text, size_t text_bytes) {
    struct store *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    opened->options = *options;
    snprintf(text, text_bytes, "%s", "");
    int err = open_parts(opened, text, text_bytes);
    opened->options.directory = NULL; /* the caller's, for this call */
    if (err == SK_OK) {
        *store = opened;
        return SK_OK;
    }
    if (text_bytes > 0 && text[0] == '\0')
        snprintf(text, text_bytes, "%s: %s", options->directory, error_text(err));
    store_close(opened);
    return err;
}

static void free_view(struct store *store, uint32_t shard) {
    if (store->views[shard] == NULL) return;
    kv_deinit(store->views[shard]);
    free(store->views[shard]);
    store->views[shard] = NULL;
}

void store_close(struct store *store) {
    if (store == NULL) return;
    store_writer_free(store->writer);
    for (uint32_t shard = 0; shard < SHARD_COUNT_MAX; shard++) free_view(store, shard);
    disk_close(store->layers.disk);
    memtable_free(store->layers.frozen);
    memtable_free(store->layers.active);
    free(store);
}

int store_each_shard(struct store *store, int (*cb)(void *arg, uint32_t shard), void *arg) {
    for (uint32_t shard = 0; shard < SHARD_COUNT_MAX; shard++) {
        if (!disk_has_shard(store->layers.disk, shard)) continue;
        int err = cb(arg, shard);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

int store_shard(struct store *store, uint32_t shard, struct kv **kv) {
    sk_assert(shard < SHARD_COUNT_MAX);
    if (store->views[shard] == NULL) {
        struct kv *view = malloc(sizeof *view);
        if (view == NULL) return SK_ENOMEM;
        kv_init(view, &store->layers, shard);
        store->views[shard] = view;
    }
    *kv = store->views[shard];
    return SK_OK;
}

int store_drop_shard(struct store *store, uint32_t shard) {
    sk_assert(shard < SHARD_COUNT_MAX);
    if (store->checkpoint_running) return SK_BUSY;
    int err = disk_drop_shard(store->layers.disk, shard);
    if (err != SK_OK) return err;
    memtable_forget(store->layers.active, shard);
    if (store->layers.frozen != NULL) memtable_forget(store->layers.frozen, shard);
    free_view(store, shard);
    return SK_OK;
}

int store_step_begin(struct store *store) {
    disk_step_begin(store->layers.disk);
    return SK_OK;
}

void store_step_end(struct store *store) { disk_step_end(store->layers.disk); }

uint64_t store_memtable_bytes(const struct store *store) { return memtable_bytes(store->layers.active); }

bool store_memtable_full(const struct store *store) {
    return store_memtable_bytes(store) >= store->options.memtable_bytes;
}

bool store_checkpoint_running(const struct store *store) { return store->checkpoint_running; }

bool store_checkpoint_failed(const struct store *store) { return store->checkpoint_failed; }

static void run_checkpoint(struct store *store) {
    store->checkpoint_running = true;
    store->checkpoint_failed = false;
    store_writer_checkpoint(store->writer, store->layers.frozen);
}

int store_checkpoint_start(struct store *store) {
    if (store->layers.frozen != NULL) return SK_BUSY;
    struct memtable *fresh;
    int err = memtable_new(&fresh);
    if (err != SK_OK) return err;
    store->layers.frozen = store->layers.active;
    store->layers.active = fresh;
    run_checkpoint(store);
    return SK_OK;
}

/* Reopening gives back the pages that LMDB keeps, but holds up the lane for tens of milliseconds where they are
 * many (few shards, many changes): so not under load, which would only need them again, but after a small
 * checkpoint. */
static bool wants_reopening(const struct store *store, int err) {
    const struct disk *disk = store->layers.disk;
    if (disk_is_broken(disk)) return true;
    if (err != SK_OK || disk_retained_bytes(disk) <= RETAINED_BYTES_MAX) return false;
    return memtable_bytes(store->layers.frozen) < store->options.memtable_bytes / 4;
}

int store_checkpoint_complete(struct store *store) {
    sk_assert(store->checkpoint_running);
    struct disk *disk = store->layers.disk;
    sk_assert(!disk_in_step(disk));
    int err = store_writer_take_result(store->writer);
    store->checkpoint_running = false;
    disk_publish(disk, err != SK_OK);
    store->checkpoint_failed = err != SK_OK;
    bool reopens = wants_reopening(store, err);
    /* If this fails, what reads next fails. */
    if (reopens) (void)disk_reopen(disk);
    if (err != SK_OK) return err;
    store_writer_discard_take(store->writer, store->layers.frozen, reopens);
    store->layers.frozen = NULL;
    return SK_OK;
}

int store_checkpoint_retry(struct store *store) {
    if (store->checkpoint_running) return SK_BUSY;
    sk_assert(store->checkpoint_failed);
    run_checkpoint(store);
    return SK_OK;
}

uint64_t store_disk_bytes(const struct store *store) { return disk_bytes(store->layers.disk); }

const char *store_fault_text(const struct store *store) { return disk_fault_text(store->layers.disk); }

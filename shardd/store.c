#include "store.h"

#include "disk.h"
#include "kv_layers.h"
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "snapshot_export.h"
#include "store_writer.h"

#include <stdio.h>
#include <stdlib.h>

/* Memory of written pages that LMDB may keep. */
#define RETAINED_BYTES_MAX (32u << 20)

/* An install's transaction has this many times the bytes of a checkpoint's: fewer syncs, and where the lane writes one
 * checkpoint after the other, a fair share for the install. */
#define INSTALL_FACTOR 4u

struct store {
    struct store_options options;
    struct kv_layers layers;        /* memtables and disk: owned */
    struct store_writer *writer;    /* owned */
    bool checkpoint_running;        /* from start or retry to complete */
    bool checkpoint_failed;         /* the frozen memtable waits for a retry */
    struct snapshot_export *export; /* owned; from a start to the next; NULL: none yet */
    bool exporting;                 /* from start to complete */
    uint32_t exported_shard;
    struct snapshot_install *install; /* owned; from start to complete, else NULL */
    bool partial[SHARD_COUNT_MAX];
    struct kv *views[SHARD_COUNT_MAX]; /* owned; NULL: not asked for yet */
};

static void ended_cb(void *arg, enum store_job job, int err) {
    struct store *store = arg;
    const struct store_options *options = &store->options;
    if (job == STORE_CHECKPOINT) options->checkpointed_cb(options->arg, err);
    else options->installed_cb(options->arg, err);
}

static void exported_cb(void *arg, int err) {
    struct store *store = arg;
    store->options.snapshot_cb(store->options.arg, err);
}

static int open_parts(struct store *store, char *text, size_t text_bytes) {
    const struct store_options *options = &store->options;
    int err = memtable_new(&store->layers.active);
    if (err != SK_OK) return err;
    if (options->cache_bytes >= RECORD_CACHE_BYTES_MIN) {
        err = record_cache_new(&store->layers.cache, options->cache_bytes);
        if (err != SK_OK) return err;
    }
    err = disk_open(&store->layers.disk, options->directory, options->map_bytes, text, text_bytes);
    if (err != SK_OK) return err;
    for (uint32_t shard = 0; shard < SHARD_COUNT_MAX; shard++) {
        store->partial[shard] = disk_is_partial(store->layers.disk, shard);
    }
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
    snapshot_export_free(store->export);
    store_install_cancel(store);
    store_writer_free(store->writer);
    snapshot_install_free(store->install);
    for (uint32_t shard = 0; shard < SHARD_COUNT_MAX; shard++) free_view(store, shard);
    disk_close(store->layers.disk);
    record_cache_free(store->layers.cache);
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

bool store_shard_is_partial(const struct store *store, uint32_t shard) {
    sk_assert(shard < SHARD_COUNT_MAX);
    return store->partial[shard];
}

static bool is_installing(const struct store *store, uint32_t shard) {
    return store->install != NULL && snapshot_install_shard(store->install) == shard;
}

/* After each change of what it depends on. */
static void lock_view(struct store *store, uint32_t shard) {
    struct kv *view = store->views[shard];
    if (view == NULL) return;
    view->locked = store->partial[shard] || is_installing(store, shard);
    sk_assert(!view->locked || view->open_iterators == 0);
}

int store_shard(struct store *store, uint32_t shard, struct kv **kv) {
    sk_assert(shard < SHARD_COUNT_MAX);
    if (store->views[shard] == NULL) {
        struct kv *view = malloc(sizeof *view);
        if (view == NULL) return SK_ENOMEM;
        kv_init(view, &store->layers, shard);
        store->views[shard] = view;
        lock_view(store, shard);
    }
    *kv = store->views[shard];
    return SK_OK;
}

/* What is in memory of a shard. The frozen memtable is not being written, or not this shard of it. */
static void forget(struct store *store, uint32_t shard) {
    if (store->layers.cache != NULL) record_cache_clear(store->layers.cache); /* of all shards: it is rare */
    memtable_forget(store->layers.active, shard);
    if (store->layers.frozen != NULL) memtable_forget(store->layers.frozen, shard);
}

int store_drop_shard(struct store *store, uint32_t shard) {
    sk_assert(shard < SHARD_COUNT_MAX);
    if (store->checkpoint_running || store->install != NULL) return SK_BUSY;
    if (store->exporting && store->exported_shard == shard) return SK_BUSY;
    int err = disk_drop_shard(store->layers.disk, shard);
    if (err != SK_OK) return err;
    store->partial[shard] = false;
    store_forget_shard(store, shard);
    return SK_OK;
}

void store_forget_shard(struct store *store, uint32_t shard) {
    forget(store, shard);
    free_view(store, shard);
}

int store_step_begin(struct store *store) {
    if (store->layers.cache != NULL) record_cache_step_begin(store->layers.cache);
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
static bool is_worth_trimming(const struct store *store) {
    if (store->exporting || store->install != NULL) return false;
    if (disk_retained_bytes(store->layers.disk) <= RETAINED_BYTES_MAX) return false;
    return memtable_bytes(store->layers.frozen) < store->options.memtable_bytes / 4;
}

/* The writer has ended a job and rests: what it has written becomes visible. True: LMDB was opened anew. */
static bool take_over(struct store *store, int err, bool trim) {
    struct disk *disk = store->layers.disk;
    sk_assert(!disk_in_step(disk));
    disk_publish(disk, err != SK_OK);
    if (!trim && !disk_is_broken(disk)) return false;
    if (store->exporting) snapshot_export_stop(store->export); /* it reads from what is closed now */
    (void)disk_reopen(disk);                                   /* if this fails, what reads next fails */
    return true;
}

int store_checkpoint_complete(struct store *store) {
    sk_assert(store->checkpoint_running);
    int err = store_writer_result(store->writer, STORE_CHECKPOINT);
    store->checkpoint_running = false;
    store->checkpoint_failed = err != SK_OK;
    bool reopened = take_over(store, err, err == SK_OK && is_worth_trimming(store));
    store_writer_release(store->writer, STORE_CHECKPOINT);
    if (err != SK_OK) return err;
    store_writer_discard_take(store->writer, store->layers.frozen, reopened);
    store->layers.frozen = NULL;
    return SK_OK;
}

int store_checkpoint_retry(struct store *store) {
    if (store->checkpoint_running) return SK_BUSY;
    sk_assert(store->checkpoint_failed);
    run_checkpoint(store);
    return SK_OK;
}

/* ---- snapshots ---- */

int store_snapshot_start(struct store *store, uint32_t shard, uint64_t cluster, const char *path) {
    sk_assert(shard < SHARD_COUNT_MAX && store->options.snapshot_cb != NULL);
    if (store->exporting) return SK_BUSY;
    if (store->partial[shard] || is_installing(store, shard)) return SK_NOT_FOUND;
    snapshot_export_free(store->export);
    store->export = NULL;
    struct snapshot_export_options options = {
        .disk = store->layers.disk,
        .id = {.cluster = cluster, .shard = shard},
        .path = path,
        .ended_cb = exported_cb,
        .arg = store,
    };
    int err = snapshot_export_start(&store->export, &options);
    if (err != SK_OK) return err;
    store->exporting = true;
    store->exported_shard = shard;
    return SK_OK;
}

int store_snapshot_complete(struct store *store, struct store_snapshot *snapshot) {
    sk_assert(store->exporting);
    struct snapshot_export_result result;
    snapshot_export_stop(store->export); /* the callback has come: only its thread's last steps */
    store->exporting = false;
    int err = snapshot_export_result(store->export, &result);
    if (result.text[0] != '\0') disk_set_fault(store->layers.disk, result.text);
    *snapshot = (struct store_snapshot){.bytes = result.bytes, .records = result.records, .record = result.record};
    return err;
}

int store_install_start(struct store *store, uint32_t shard, uint64_t cluster, const char *path,
                        struct slice record) {
    sk_assert(shard < SHARD_COUNT_MAX && store->options.installed_cb != NULL);
    if (store->install != NULL) return SK_BUSY;
    struct snapshot_install_options options = {
        .disk = store->layers.disk,
        .id = {.cluster = cluster, .shard = shard},
        .path = path,
        .record = record,
        .txn_bytes = store->options.txn_bytes * INSTALL_FACTOR,
    };
    int err = snapshot_install_new(&store->install, &options);
    if (err != SK_OK) return err;
    lock_view(store, shard);
    store_writer_install(store->writer, store->install);
    return SK_OK;
}

void store_install_cancel(struct store *store) {
    if (store->install != NULL) snapshot_install_cancel(store->install);
}

/* What the memtables hold of the shard stays until here: where nothing was changed, nothing is to be lost. A checkpoint that
 * was written behind the first transaction has passed it over (store_writer_checkpoint). */
int store_install_complete(struct store *store) {
    sk_assert(store->install != NULL);
    struct snapshot_install *install = store->install;
    struct disk *disk = store->layers.disk;
    uint32_t shard = snapshot_install_shard(install);
    int err = store_writer_result(store->writer, STORE_INSTALL);
    bool has_cleared = snapshot_install_has_cleared(install);
    (void)take_over(store, err, false);
    if (snapshot_install_text(install)[0] != '\0') disk_set_fault(disk, snapshot_install_text(install));
    /* A commit that failed may have reached the disk all the same: of the two, what makes less of it counts. */
    bool may_be_partial = store->partial[shard] || has_cleared || disk_is_partial(disk, shard);
    store->partial[shard] = err != SK_OK && may_be_partial;
    if (err == SK_OK || store->partial[shard]) forget(store, shard);
    store->install = NULL;
    store_writer_release(store->writer, STORE_INSTALL);
    snapshot_install_free(install);
    lock_view(store, shard);
    return err;
}

uint64_t store_disk_bytes(const struct store *store) { return disk_bytes(store->layers.disk); }

const char *store_fault_text(const struct store *store) { return disk_fault_text(store->layers.disk); }

#include "checkpoint.h"

#include "libcommon/error.h"

/* A transaction's pages stay in memory (LMDB keeps them for the next ones), and a page takes several times the
 * bytes of the few changes in it: so a transaction also ends at this many times txn_bytes of pages. */
#define DIRTY_FACTOR 4u

/* A walk over the frozen table. */
struct run {
    const struct checkpoint_options *options;
    uint32_t commits;
    uint64_t txn_bytes; /* of the open transaction */
};

void (*checkpoint_committed_hook)(uint32_t commits);

/* Waits as long as `bytes` are to take. */
static void pace(const struct checkpoint_options *options, uint64_t bytes) {
    if (options->pace_bytes_per_s == 0) return;
    options->pause_cb(options->arg, bytes * 1000000 / options->pace_bytes_per_s);
}

static int commit(struct run *run) {
    if (run->txn_bytes == 0) return SK_OK;
    int err = disk_write_commit(run->options->disk);
    if (err != SK_OK) return err;
    run->commits++;
    if (checkpoint_committed_hook != NULL) checkpoint_committed_hook(run->commits);
    pace(run->options, run->txn_bytes);
    run->txn_bytes = 0;
    return SK_OK;
}

/* All changes of a shard, into the open transaction or a new one. */
static int write_shard(struct run *run, const struct memtable *frozen, uint32_t shard) {
    struct disk *disk = run->options->disk;
    int err = run->txn_bytes == 0 ? disk_write_begin(disk) : SK_OK;
    if (err == SK_OK) err = disk_write_shard(disk, shard);
    struct memtable_cursor cursor = memtable_seek(frozen, shard, slice_of("", 0));
    struct slice key, value;
    for (; err == SK_OK; memtable_cursor_next(&cursor)) {
        enum memtable_found found = memtable_cursor_get(&cursor, &key, &value);
        if (found == MEMTABLE_ABSENT) break;
        err = found == MEMTABLE_VALUE ? disk_write_put(disk, key, value) : disk_write_delete(disk, key);
        run->txn_bytes += key.size + value.size;
    }
    return err;
}

int checkpoint_write(const struct checkpoint_options *options, const struct memtable *frozen) {
    struct run run = {.options = options};
    int err = SK_OK;
    for (uint32_t shard = 0; shard < memtable_shard_limit(frozen) && err == SK_OK; shard++) {
        if (shard == options->skipped_shard || memtable_entries(frozen, shard) == 0) continue;
        err = write_shard(&run, frozen, shard);
        bool is_full = run.txn_bytes >= options->txn_bytes ||
                       disk_write_dirty_bytes(options->disk) >= options->txn_bytes * DIRTY_FACTOR;
        if (err == SK_OK && is_full) err = commit(&run);
    }
    if (err == SK_OK) err = commit(&run);
    if (err != SK_OK) disk_write_abort(options->disk);
    return err;
}

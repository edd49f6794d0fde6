#include "checkpoint.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* A transaction's pages stay in memory (LMDB keeps them for the next ones), and a page takes several times the
 * bytes of the few changes in it: so a transaction also ends at this many times txn_bytes of pages. */
#define DIRTY_FACTOR 4u

enum phase { IDLE, STARTED, ENDED };

struct checkpoint {
    struct checkpoint_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* Under the mutex. */
    enum phase phase;
    bool closing;
    const struct memtable *frozen; /* borrowed; from start to end */
    struct memtable *discarded;    /* owned; to be freed */
    bool trim;                     /* and then malloc's free memory */
    int result;
};

/* A walk over the frozen table. The thread's. */
struct run {
    struct checkpoint *checkpoint;
    uint32_t commits;
    uint64_t txn_bytes; /* of the open transaction */
};

void (*checkpoint_committed_hook)(uint32_t commits);

/* Waits as long as `bytes` are to take, unless the store is being closed. */
static void pace(struct checkpoint *checkpoint, uint64_t bytes) {
    uint64_t rate = checkpoint->options.pace_bytes_per_s;
    if (rate == 0) return;
    uint64_t wait_us = bytes * 1000000 / rate;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_us / 1000000);
    until.tv_nsec += (long)(wait_us % 1000000) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&checkpoint->mutex);
    while (!checkpoint->closing) {
        if (pthread_cond_timedwait(&checkpoint->changed, &checkpoint->mutex, &until) != 0) break;
    }
    pthread_mutex_unlock(&checkpoint->mutex);
}

static int commit(struct run *run) {
    if (run->txn_bytes == 0) return SK_OK;
    int err = disk_write_commit(run->checkpoint->options.disk);
    if (err != SK_OK) return err;
    run->commits++;
    if (checkpoint_committed_hook != NULL) checkpoint_committed_hook(run->commits);
    pace(run->checkpoint, run->txn_bytes);
    run->txn_bytes = 0;
    return SK_OK;
}

/* All changes of a shard, into the open transaction or a new one. */
static int write_shard(struct run *run, const struct memtable *frozen, uint32_t shard) {
    struct disk *disk = run->checkpoint->options.disk;
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

static int write_all(struct checkpoint *checkpoint, const struct memtable *frozen) {
    struct run run = {.checkpoint = checkpoint};
    const struct checkpoint_options *options = &checkpoint->options;
    int err = SK_OK;
    for (uint32_t shard = 0; shard < memtable_shard_limit(frozen) && err == SK_OK; shard++) {
        if (memtable_entries(frozen, shard) == 0) continue;
        err = write_shard(&run, frozen, shard);
        bool is_full = run.txn_bytes >= options->txn_bytes ||
                       disk_write_dirty_bytes(options->disk) >= options->txn_bytes * DIRTY_FACTOR;
        if (err == SK_OK && is_full) err = commit(&run);
    }
    if (err == SK_OK) err = commit(&run);
    if (err != SK_OK) disk_write_abort(options->disk);
    return err;
}

/* One round of the thread, called and left with the mutex held. False: it is to stop. */
static bool serve(struct checkpoint *checkpoint) {
    while (checkpoint->phase != STARTED && checkpoint->discarded == NULL && !checkpoint->closing) {
        pthread_cond_wait(&checkpoint->changed, &checkpoint->mutex);
    }
    if (checkpoint->discarded != NULL) {
        struct memtable *table = checkpoint->discarded;
        bool trim = checkpoint->trim;
        checkpoint->discarded = NULL;
        pthread_mutex_unlock(&checkpoint->mutex);
        memtable_free(table);
        if (trim) malloc_trim(0);
        pthread_mutex_lock(&checkpoint->mutex);
        return true;
    }
    if (checkpoint->phase != STARTED) return false;
    const struct memtable *frozen = checkpoint->frozen;
    pthread_mutex_unlock(&checkpoint->mutex);
    int err = write_all(checkpoint, frozen);
    pthread_mutex_lock(&checkpoint->mutex);
    checkpoint->phase = ENDED;
    checkpoint->result = err;
    pthread_mutex_unlock(&checkpoint->mutex);
    checkpoint->options.ended_cb(checkpoint->options.arg, err);
    pthread_mutex_lock(&checkpoint->mutex);
    return true;
}

static void *run_thread(void *arg) {
    struct checkpoint *checkpoint = arg;
    pthread_mutex_lock(&checkpoint->mutex);
    while (serve(checkpoint)) continue;
    pthread_mutex_unlock(&checkpoint->mutex);
    return NULL;
}

int checkpoint_new(struct checkpoint **checkpoint, const struct checkpoint_options *options) {
    struct checkpoint *created = calloc(1, sizeof *created);
    if (created == NULL) return SK_ENOMEM;
    created->options = *options;
    pthread_mutex_init(&created->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&created->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&created->thread, NULL, run_thread, created) != 0) {
        pthread_cond_destroy(&created->changed);
        pthread_mutex_destroy(&created->mutex);
        free(created);
        return SK_ENOMEM;
    }
    *checkpoint = created;
    return SK_OK;
}

void checkpoint_free(struct checkpoint *checkpoint) {
    if (checkpoint == NULL) return;
    pthread_mutex_lock(&checkpoint->mutex);
    checkpoint->closing = true;
    pthread_cond_broadcast(&checkpoint->changed);
    pthread_mutex_unlock(&checkpoint->mutex);
    pthread_join(checkpoint->thread, NULL);
    memtable_free(checkpoint->discarded);
    pthread_cond_destroy(&checkpoint->changed);
    pthread_mutex_destroy(&checkpoint->mutex);
    free(checkpoint);
}

void checkpoint_start(struct checkpoint *checkpoint, const struct memtable *frozen) {
    pthread_mutex_lock(&checkpoint->mutex);
    sk_assert(checkpoint->phase == IDLE);
    checkpoint->frozen = frozen;
    checkpoint->phase = STARTED;
    pthread_cond_broadcast(&checkpoint->changed);
    pthread_mutex_unlock(&checkpoint->mutex);
}

int checkpoint_take_result(struct checkpoint *checkpoint) {
    pthread_mutex_lock(&checkpoint->mutex);
    sk_assert(checkpoint->phase == ENDED);
    checkpoint->phase = IDLE;
    checkpoint->frozen = NULL;
    int result = checkpoint->result;
    pthread_mutex_unlock(&checkpoint->mutex);
    return result;
}

void checkpoint_discard_take(struct checkpoint *checkpoint, struct memtable *table, bool trim) {
    pthread_mutex_lock(&checkpoint->mutex);
    struct memtable *waiting = checkpoint->discarded;
    checkpoint->discarded = table;
    checkpoint->trim = trim;
    pthread_cond_broadcast(&checkpoint->changed);
    pthread_mutex_unlock(&checkpoint->mutex);
    memtable_free(waiting);
}

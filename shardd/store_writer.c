#include "shardd/store_writer.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "shardd/checkpoint.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum phase { IDLE, STARTED, ENDED };

struct store_writer {
    struct store_writer_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* Under the mutex. */
    enum phase phases[STORE_JOBS];
    int results[STORE_JOBS];
    bool closing;
    const struct memtable *frozen;    /* borrowed; NULL while there is no checkpoint */
    struct snapshot_install *install; /* borrowed; NULL while there is no install */
    struct memtable *discarded;       /* owned; to be freed */
    bool trim;                        /* and then malloc's free memory */
};

/* Waits, unless the store is being closed. */
static void pause_cb(void *arg, uint64_t wait_us) {
    struct store_writer *writer = arg;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_us / 1000000);
    until.tv_nsec += (long)(wait_us % 1000000) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&writer->mutex);
    while (!writer->closing) {
        if (pthread_cond_timedwait(&writer->changed, &writer->mutex, &until) != 0) break;
    }
    pthread_mutex_unlock(&writer->mutex);
}

/* With the mutex held, as the next three: what is to be done now. An ended job that is not released holds up the others,
 * unless nobody will release it any more. */
static bool choose_job(const struct store_writer *writer, enum store_job *job) {
    bool resting = writer->phases[STORE_CHECKPOINT] == ENDED || writer->phases[STORE_INSTALL] == ENDED;
    if (resting && !writer->closing) return false;
    *job = writer->phases[STORE_CHECKPOINT] == STARTED ? STORE_CHECKPOINT : STORE_INSTALL;
    return writer->phases[*job] == STARTED;
}

static void discard(struct store_writer *writer) {
    struct memtable *table = writer->discarded;
    bool trim = writer->trim;
    writer->discarded = NULL;
    pthread_mutex_unlock(&writer->mutex);
    memtable_free(table);
    if (trim) malloc_trim(0);
    pthread_mutex_lock(&writer->mutex);
}

/* A whole checkpoint or one step of an install. */
static void work(struct store_writer *writer, enum store_job job) {
    const struct memtable *frozen = writer->frozen;
    struct snapshot_install *install = writer->install;
    bool has_cleared = install != NULL && snapshot_install_has_cleared(install);
    pthread_mutex_unlock(&writer->mutex);
    bool has_ended = true;
    int err;
    if (job == STORE_INSTALL) {
        has_ended = snapshot_install_step(install, &err);
    } else {
        struct checkpoint_options options = {
            .disk = writer->options.disk,
            .txn_bytes = writer->options.txn_bytes,
            .pace_bytes_per_s = writer->options.pace_bytes_per_s,
            .skipped_shard = has_cleared ? snapshot_install_shard(install) : SHARD_COUNT_MAX,
            .pause_cb = pause_cb,
            .arg = writer,
        };
        err = checkpoint_write(&options, frozen);
    }
    pthread_mutex_lock(&writer->mutex);
    if (!has_ended) return;
    writer->phases[job] = ENDED;
    writer->results[job] = err;
    pthread_mutex_unlock(&writer->mutex);
    writer->options.ended_cb(writer->options.arg, job, err);
    pthread_mutex_lock(&writer->mutex);
}

static void *run_thread(void *arg) {
    struct store_writer *writer = arg;
    enum store_job job;
    pthread_mutex_lock(&writer->mutex);
    for (;;) {
        if (writer->discarded != NULL) {
            discard(writer);
        } else if (choose_job(writer, &job)) {
            work(writer, job);
        } else if (writer->closing) {
            break;
        } else {
            pthread_cond_wait(&writer->changed, &writer->mutex);
        }
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

int store_writer_new(struct store_writer **writer, const struct store_writer_options *options) {
    struct store_writer *created = calloc(1, sizeof *created);
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
    *writer = created;
    return SK_OK;
}

void store_writer_free(struct store_writer *writer) {
    if (writer == NULL) return;
    pthread_mutex_lock(&writer->mutex);
    writer->closing = true;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    pthread_join(writer->thread, NULL);
    memtable_free(writer->discarded);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->mutex);
    free(writer);
}

static void start(struct store_writer *writer, enum store_job job) {
    sk_assert(writer->phases[job] == IDLE);
    writer->phases[job] = STARTED;
    pthread_cond_broadcast(&writer->changed);
}

void store_writer_checkpoint(struct store_writer *writer, const struct memtable *frozen) {
    pthread_mutex_lock(&writer->mutex);
    writer->frozen = frozen;
    start(writer, STORE_CHECKPOINT);
    pthread_mutex_unlock(&writer->mutex);
}

void store_writer_install(struct store_writer *writer, struct snapshot_install *install) {
    pthread_mutex_lock(&writer->mutex);
    writer->install = install;
    start(writer, STORE_INSTALL);
    pthread_mutex_unlock(&writer->mutex);
}

int store_writer_result(struct store_writer *writer, enum store_job job) {
    pthread_mutex_lock(&writer->mutex);
    sk_assert(writer->phases[job] == ENDED);
    int result = writer->results[job];
    pthread_mutex_unlock(&writer->mutex);
    return result;
}

void store_writer_release(struct store_writer *writer, enum store_job job) {
    pthread_mutex_lock(&writer->mutex);
    sk_assert(writer->phases[job] == ENDED);
    writer->phases[job] = IDLE;
    if (job == STORE_CHECKPOINT) writer->frozen = NULL;
    else writer->install = NULL;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
}

void store_writer_discard_take(struct store_writer *writer, struct memtable *table, bool trim) {
    pthread_mutex_lock(&writer->mutex);
    struct memtable *waiting = writer->discarded;
    writer->discarded = table;
    writer->trim = trim;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    memtable_free(waiting);
}

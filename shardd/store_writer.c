#include "shardd/store_writer.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
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
    enum phase phase;
    bool closing;
    const struct memtable *frozen; /* borrowed; from start to end */
    struct memtable *discarded;    /* owned; to be freed */
    bool trim;                     /* and then malloc's free memory */
    int result;
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

/* One round of the thread, called and left with the mutex held. False: it is to stop. */
static bool serve(struct store_writer *writer) {
    while (writer->phase != STARTED && writer->discarded == NULL && !writer->closing) {
        pthread_cond_wait(&writer->changed, &writer->mutex);
    }
    if (writer->discarded != NULL) {
        struct memtable *table = writer->discarded;
        bool trim = writer->trim;
        writer->discarded = NULL;
        pthread_mutex_unlock(&writer->mutex);
        memtable_free(table);
        if (trim) malloc_trim(0);
        pthread_mutex_lock(&writer->mutex);
        return true;
    }
    if (writer->phase != STARTED) return false;
    const struct memtable *frozen = writer->frozen;
    pthread_mutex_unlock(&writer->mutex);
    struct checkpoint_options options = {
        .disk = writer->options.disk,
        .txn_bytes = writer->options.txn_bytes,
        .pace_bytes_per_s = writer->options.pace_bytes_per_s,
        .pause_cb = pause_cb,
        .arg = writer,
    };
    int err = checkpoint_write(&options, frozen);
    pthread_mutex_lock(&writer->mutex);
    writer->phase = ENDED;
    writer->result = err;
    pthread_mutex_unlock(&writer->mutex);
    writer->options.ended_cb(writer->options.arg, err);
    pthread_mutex_lock(&writer->mutex);
    return true;
}

static void *run_thread(void *arg) {
    struct store_writer *writer = arg;
    pthread_mutex_lock(&writer->mutex);
    while (serve(writer)) continue;
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

void store_writer_checkpoint(struct store_writer *writer, const struct memtable *frozen) {
    pthread_mutex_lock(&writer->mutex);
    sk_assert(writer->phase == IDLE);
    writer->frozen = frozen;
    writer->phase = STARTED;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
}

int store_writer_take_result(struct store_writer *writer) {
    pthread_mutex_lock(&writer->mutex);
    sk_assert(writer->phase == ENDED);
    writer->phase = IDLE;
    writer->frozen = NULL;
    int result = writer->result;
    pthread_mutex_unlock(&writer->mutex);
    return result;
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

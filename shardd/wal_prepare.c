#include "shardd/wal_prepare.h"

#include "libcommon/check.h"
#include "libcommon/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SPARES_MAX 2u

struct wal_prepare {
    const struct wal_files *files; /* borrowed */
    void (*ready_cb)(void *arg);
    void *arg;
    uint32_t retry_ms;
    pthread_t thread;
    atomic_bool stop;

    /* Guarded by `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint64_t release_before;
    uint64_t file_count;
    int ready_fd;  /* of the segment `next`; -1: none yet */
    uint64_t next; /* the one that is ready or being prepared */
    int err;       /* why it cannot be made, SK_OK while it may */
    bool refused;  /* somebody was sent away and waits for ready_cb */

    /* The thread's own. */
    uint64_t oldest;
    uint64_t spares[SPARES_MAX];
    size_t spare_count;
};

/* Oldest first, each durably, so that a crash leaves no gap. Called and left with the lock held; false after a
 * failure. */
static bool retire_released(struct wal_prepare *prepare) {
    while (prepare->oldest < prepare->release_before && !atomic_load(&prepare->stop)) {
        pthread_mutex_unlock(&prepare->lock);
        bool keep = prepare->spare_count < SPARES_MAX;
        int err = wal_segment_retire(prepare->files, prepare->oldest, keep);
        if (err != SK_OK) {
            log_event(LOG_WARNING, "wal_retire_failed", "directory=%s segment=%" PRIu64 " error=%s",
                      prepare->files->directory, prepare->oldest, error_name(err));
        }
        pthread_mutex_lock(&prepare->lock);
        if (err != SK_OK) return false;
        if (keep) prepare->spares[prepare->spare_count++] = prepare->oldest;
        else prepare->file_count--;
        prepare->oldest++;
    }
    return true;
}

/* The segment `sequence`, from a spare if there is one. `files_added` is by how much the number of files changed.
 */
static int make_segment(struct wal_prepare *prepare, uint64_t sequence, int *fd, int *files_added) {
    *files_added = 0;
    if (prepare->spare_count > 0) {
        uint64_t spare = prepare->spares[--prepare->spare_count];
        int err = wal_segment_recycle(prepare->files, spare, sequence, fd);
        if (err != SK_OK) *files_added = -1; /* it was removed */
        return err;
    }
    int err = wal_segment_create(prepare->files, sequence, &prepare->stop, fd);
    if (err == SK_OK) *files_added = 1;
    return err;
}

/* Called and left with the lock held; false after a failure. */
static bool prepare_next(struct wal_prepare *prepare) {
    uint64_t sequence = prepare->next;
    int fd = -1, files_added;
    pthread_mutex_unlock(&prepare->lock);
    int err = make_segment(prepare, sequence, &fd, &files_added);
    pthread_mutex_lock(&prepare->lock);

    prepare->file_count += (uint64_t)(int64_t)files_added;
    if (err == SK_ECLOSED) return true;
    if (err != prepare->err) {
        log_event(err == SK_OK ? LOG_INFO : LOG_ERROR, err == SK_OK ? "wal_prepare_resumed" : "wal_prepare_failed",
                  "directory=%s segment=%" PRIu64 " error=%s", prepare->files->directory, sequence,
                  error_name(err));
    }
    prepare->err = err;
    prepare->ready_fd = fd;
    if (prepare->refused) { /* who was told to wait asks again, and hears if it cannot be made */
        prepare->refused = false;
        pthread_mutex_unlock(&prepare->lock);
        prepare->ready_cb(prepare->arg);
        pthread_mutex_lock(&prepare->lock);
    }
    return err == SK_OK;
}

/* Work that a failure has left undone is tried again after a while, and sooner if something was released. */
static void wait_for_retry(struct wal_prepare *prepare) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + prepare->retry_ms * UINT64_C(1000000);
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    (void)pthread_cond_timedwait(&prepare->wake, &prepare->lock, &until);
}

static bool has_work(const struct wal_prepare *prepare) {
    return prepare->ready_fd < 0 || prepare->oldest < prepare->release_before;
}

static void *prepare_main(void *arg) {
    struct wal_prepare *prepare = arg;
    pthread_mutex_lock(&prepare->lock);
    while (!atomic_load(&prepare->stop)) {
        if (!has_work(prepare)) {
            pthread_cond_wait(&prepare->wake, &prepare->lock);
            continue;
        }
        bool failed = !retire_released(prepare);
        if (prepare->ready_fd < 0 && !atomic_load(&prepare->stop)) failed |= !prepare_next(prepare);
        if (failed && !atomic_load(&prepare->stop)) wait_for_retry(prepare);
    }
    pthread_mutex_unlock(&prepare->lock);
    return NULL;
}

int wal_prepare_start(struct wal_prepare **prepare_out, const struct wal_files *files, uint64_t oldest,
                      uint64_t newest, int ready_fd, uint32_t retry_ms, void (*ready_cb)(void *arg), void *arg) {
    struct wal_prepare *prepare = calloc(1, sizeof *prepare);
    if (prepare == NULL) {
        if (ready_fd >= 0) close(ready_fd);
        return SK_ENOMEM;
    }
    prepare->files = files;
    prepare->ready_cb = ready_cb;
    prepare->arg = arg;
    prepare->retry_ms = retry_ms;
    prepare->oldest = oldest;
    prepare->file_count = newest - oldest + (ready_fd >= 0 ? 2 : 1);
    prepare->ready_fd = ready_fd;
    prepare->next = newest + 1;

    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&prepare->lock, NULL);
    pthread_cond_init(&prepare->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&prepare->thread, NULL, prepare_main, prepare) != 0) {
        pthread_cond_destroy(&prepare->wake);
        pthread_mutex_destroy(&prepare->lock);
        if (ready_fd >= 0) close(ready_fd);
        free(prepare);
        return SK_ENOMEM;
    }
    *prepare_out = prepare;
    return SK_OK;
}

void wal_prepare_stop(struct wal_prepare *prepare) {
    if (prepare == NULL) return;
    atomic_store(&prepare->stop, true);
    pthread_mutex_lock(&prepare->lock);
    pthread_cond_signal(&prepare->wake);
    pthread_mutex_unlock(&prepare->lock);
    pthread_join(prepare->thread, NULL);
    if (prepare->ready_fd >= 0) close(prepare->ready_fd);
    pthread_cond_destroy(&prepare->wake);
    pthread_mutex_destroy(&prepare->lock);
    free(prepare);
}

/* With the lock held. */
static int answer(struct wal_prepare *prepare) {
    if (prepare->ready_fd >= 0) return SK_OK;
    prepare->refused = true;
    return prepare->err != SK_OK ? prepare->err : SK_BUSY;
}

int wal_prepare_take(struct wal_prepare *prepare, uint64_t *sequence, int *fd) {
    pthread_mutex_lock(&prepare->lock);
    int err = answer(prepare);
    if (err == SK_OK) {
        *sequence = prepare->next++;
        *fd = prepare->ready_fd;
        prepare->ready_fd = -1;
        pthread_cond_signal(&prepare->wake);
    }
    pthread_mutex_unlock(&prepare->lock);
    return err;
}

int wal_prepare_ask(struct wal_prepare *prepare) {
    pthread_mutex_lock(&prepare->lock);
    int err = answer(prepare);
    pthread_mutex_unlock(&prepare->lock);
    return err;
}

void wal_prepare_release(struct wal_prepare *prepare, uint64_t sequence) {
    pthread_mutex_lock(&prepare->lock);
    if (sequence > prepare->release_before) {
        prepare->release_before = sequence;
        pthread_cond_signal(&prepare->wake);
    }
    pthread_mutex_unlock(&prepare->lock);
}

uint64_t wal_prepare_disk_bytes(struct wal_prepare *prepare) {
    pthread_mutex_lock(&prepare->lock);
    uint64_t bytes = prepare->file_count * prepare->files->segment_bytes;
    pthread_mutex_unlock(&prepare->lock);
    return bytes;
}

#include "libcommon/disk_space.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/metrics.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <time.h>

struct disk_space {
    const char *directory;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows; never held while the disk is asked */
    pthread_cond_t changed;
    bool closing;
    uint64_t size_bytes, available_bytes;
    uint64_t told_ms; /* when the disk said so; 0: never */
};

static void ask(struct disk_space *space) {
    struct statvfs disk;
    if (statvfs(space->directory, &disk) != 0) return;
    pthread_mutex_lock(&space->lock);
    space->size_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
    space->available_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    space->told_ms = clock_boottime_ms();
    pthread_mutex_unlock(&space->lock);
}

/* False: it is to end. */
static bool wait_for_turn(struct disk_space *space) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += DISK_SPACE_EACH_MS / 1000u;
    pthread_mutex_lock(&space->lock);
    int err = 0;
    while (!space->closing && err == 0) err = pthread_cond_timedwait(&space->changed, &space->lock, &until);
    bool closing = space->closing;
    pthread_mutex_unlock(&space->lock);
    return !closing;
}

static void *run(void *arg) {
    do ask(arg);
    while (wait_for_turn(arg));
    return NULL;
}

static void free_space(struct disk_space *space) {
    pthread_cond_destroy(&space->changed);
    pthread_mutex_destroy(&space->lock);
    free(space);
}

struct disk_space *disk_space_open(const char *directory) {
    struct disk_space *space = calloc(1, sizeof *space);
    pthread_condattr_t attributes;
    if (space == NULL) return NULL;
    space->directory = directory;
    pthread_mutex_init(&space->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&space->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&space->thread, NULL, run, space) == 0) return space;
    free_space(space);
    return NULL;
}

void disk_space_close(struct disk_space *space) {
    if (space == NULL) return;
    pthread_mutex_lock(&space->lock);
    space->closing = true;
    pthread_cond_signal(&space->changed);
    pthread_mutex_unlock(&space->lock);
    int err = pthread_join(space->thread, NULL);
    sk_assert(err == 0);
    free_space(space);
}

void disk_space_write(struct disk_space *space, struct buffer *page) {
    if (space == NULL) return;
    pthread_mutex_lock(&space->lock);
    uint64_t size_bytes = space->size_bytes, available_bytes = space->available_bytes;
    bool known = space->told_ms != 0 && clock_boottime_ms() - space->told_ms <= DISK_SPACE_OLD_MS;
    pthread_mutex_unlock(&space->lock);
    if (!known) return;
    metrics_one(page, "skerry_disk_size_bytes", METRICS_GAUGE, size_bytes,
                "Size of the file system that has the data directory.");
    metrics_one(page, "skerry_disk_available_bytes", METRICS_GAUGE, available_bytes, "What is still free of it.");
}

#include "libcommon/disk_space.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/metrics.h"
#include "libcommon/ticker.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/statvfs.h>

struct disk_space {
    const char *directory;
    struct ticker *ticker; /* owned */
    pthread_mutex_t lock;  /* guards what follows; never held while the disk is asked */
    uint64_t size_bytes, available_bytes;
    uint64_t told_ms; /* when the disk said so; 0: never */
};

static uint32_t ask(void *arg) {
    struct disk_space *space = arg;
    struct statvfs disk;
    if (statvfs(space->directory, &disk) != 0) return DISK_SPACE_EACH_MS;
    pthread_mutex_lock(&space->lock);
    space->size_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
    space->available_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    space->told_ms = clock_boottime_ms();
    pthread_mutex_unlock(&space->lock);
    return DISK_SPACE_EACH_MS;
}

struct disk_space *disk_space_open(const char *directory) {
    struct disk_space *space = calloc(1, sizeof *space);
    if (space == NULL) return NULL;
    space->directory = directory;
    pthread_mutex_init(&space->lock, NULL);
    if (ticker_new(&space->ticker, ask, space) == SK_OK) return space;
    pthread_mutex_destroy(&space->lock);
    free(space);
    return NULL;
}

void disk_space_close(struct disk_space *space) {
    if (space == NULL) return;
    ticker_free(space->ticker);
    pthread_mutex_destroy(&space->lock);
    free(space);
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

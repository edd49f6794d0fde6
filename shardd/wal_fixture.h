/* For the tests of the log: a log in a directory of its own, a lane's waiting, entries whose content follows from
 * their number, and system calls that fail when told to. Included by one test program each. */
#pragma once

#include "libcommon/check.h"
#include "shardd/wal.h"
#include "shardd/wal_codec.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SEGMENT_BYTES   UINT64_C(65536)
#define GROUP_BYTES_MAX UINT64_C(16384)
#define ENTRIES_MAX     4096u

/* The faults below are global, as the calls carry no argument of ours; each test sets what it needs and log_setup
 * clears all. Calls of every kind are counted from 1. */
static struct {
    atomic_uint pwrites, fdatasyncs, fallocates, preads;
    atomic_uint pwrite_fails_at, fdatasync_fails_at, fallocate_fails_at, pread_fails_at; /* 0: never */
    atomic_int error;                                                                    /* errno of what fails */
    atomic_bool pwrite_tears;  /* the failing pwrite writes half of it first */
    atomic_bool disk_full;     /* new blocks cannot be had: fallocate fails */
    atomic_bool writes_full;   /* not even preallocated ones can be written */
    atomic_bool sync_for_show; /* fdatasync does nothing: the page cache is enough where no power is lost */
    atomic_bool sync_held;     /* fdatasync waits until this is false */
} faults;

static inline ssize_t faulty_pwrite(int fd, const void *data, size_t size, off_t offset) {
    unsigned call = ++faults.pwrites;
    if (faults.writes_full) {
        errno = ENOSPC;
        return -1;
    }
    if (call != faults.pwrite_fails_at) return pwrite(fd, data, size, offset);
    if (faults.pwrite_tears) {
        faults.pwrite_fails_at = call + 1; /* the rest is tried again, and fails */
        faults.pwrite_tears = false;
        return pwrite(fd, data, size / 2, offset);
    }
    errno = faults.error;
    return -1;
}

static inline int faulty_fdatasync(int fd) {
    while (faults.sync_held) sched_yield();
    if (++faults.fdatasyncs != faults.fdatasync_fails_at) return faults.sync_for_show ? 0 : fdatasync(fd);
    errno = faults.error;
    return -1;
}

static inline int faulty_fallocate(int fd, int mode, off_t offset, off_t size) {
    bool fails = ++faults.fallocates == faults.fallocate_fails_at;
    if (!fails && !faults.disk_full) return fallocate(fd, mode, offset, size);
    errno = faults.disk_full ? ENOSPC : faults.error;
    return -1;
}

static inline ssize_t faulty_pread(int fd, void *data, size_t size, off_t offset) {
    if (++faults.preads != faults.pread_fails_at) return pread(fd, data, size, offset);
    errno = EIO;
    return -1;
}

static const struct wal_io faulty_io = {faulty_pwrite, faulty_fdatasync, faulty_fallocate, faulty_pread};

struct log {
    char directory[64];
    char path[96]; /* of the log in it */
    struct wal_options options;
    struct wal *wal;
    wal_position synced; /* handed to wal_open */
    struct wal_report report;
    wal_position durable;

    unsigned replayed; /* entries */
    unsigned replayed_numbers[ENTRIES_MAX];
    wal_position positions[ENTRIES_MAX]; /* of appended entries, by number */

    pthread_mutex_t lock;
    pthread_cond_t called;
    unsigned callbacks; /* not yet taken */
    atomic_int err;     /* of the last one that was not SK_OK */
};

static inline uint8_t payload_byte(unsigned number, size_t at) { return (uint8_t)(number * 31u + at * 7u + 1u); }

static inline bool payload_is_of(struct slice payload, unsigned number) {
    for (size_t i = 0; i < payload.size; i++) {
        if (payload.data[i] != payload_byte(number, i)) return false;
    }
    return true;
}

static inline struct wal_entry make_entry(unsigned number, uint8_t *payload, size_t payload_bytes) {
    for (size_t i = 0; i < payload_bytes; i++) payload[i] = payload_byte(number, i);
    return (struct wal_entry){
        .shard = number % 64,
        .type = WAL_COMMAND,
        .replica_id = 7,
        .epoch = 3,
        .index = number + 1u,
        .time_us = 1000000u + number,
        .payload = slice_of(payload, payload_bytes),
    };
}

static inline int log_replay_cb(void *arg, const struct wal_entry *entry, wal_position position) {
    struct log *log = arg;
    unsigned number = (unsigned)(entry->index - 1);
    assert_true(number < ENTRIES_MAX && log->replayed < ENTRIES_MAX);
    assert_int_equal(entry->shard, number % 64);
    assert_int_equal(entry->type, WAL_COMMAND);
    assert_int_equal(entry->replica_id, 7);
    assert_int_equal(entry->epoch, 3);
    assert_int_equal(entry->time_us, 1000000u + number);
    assert_true(payload_is_of(entry->payload, number));
    assert_true(log->positions[number] == 0 || log->positions[number] == position);
    log->replayed_numbers[log->replayed++] = number;
    return SK_OK;
}

static inline void log_synced_cb(void *arg, int err) {
    struct log *log = arg;
    pthread_mutex_lock(&log->lock);
    log->callbacks++;
    if (err != SK_OK) log->err = err;
    pthread_cond_signal(&log->called);
    pthread_mutex_unlock(&log->lock);
}

/* Waits for a callback and takes all that have come. */
static inline void log_wait(struct log *log) {
    pthread_mutex_lock(&log->lock);
    while (log->callbacks == 0) pthread_cond_wait(&log->called, &log->lock);
    log->callbacks = 0;
    pthread_mutex_unlock(&log->lock);
    log->durable = wal_complete(log->wal);
}

static inline int log_try_open(struct log *log) {
    log->replayed = 0;
    log->callbacks = 0;
    log->err = SK_OK;
    log->wal = NULL;
    return wal_open(&log->wal, &log->options, log->synced, log_replay_cb, log, &log->report);
}

static inline void log_open(struct log *log) { assert_int_equal(log_try_open(log), SK_OK); }

static inline void log_close(struct log *log) {
    wal_close(log->wal);
    log->wal = NULL;
}

static inline void log_reopen(struct log *log) {
    log_close(log);
    log_open(log);
}

static inline int log_append(struct log *log, unsigned number, size_t payload_bytes) {
    uint8_t *payload = malloc(payload_bytes + 1);
    assert_non_null(payload);
    struct wal_entry entry = make_entry(number, payload, payload_bytes);
    wal_position position;
    int err = wal_append(log->wal, &entry, &position);
    if (err == SK_OK) log->positions[number] = position;
    free(payload);
    return err;
}

/* As a lane does: what is refused for now is tried again after the next callback. */
static inline void log_append_patiently(struct log *log, unsigned number, size_t payload_bytes) {
    int err;
    while ((err = log_append(log, number, payload_bytes)) == SK_BUSY || err == SK_ENOSPC) {
        wal_flush(log->wal);
        log_wait(log);
    }
    assert_int_equal(err, SK_OK);
}

/* Flushes and waits until `number` is durable. */
static inline void log_sync(struct log *log, unsigned number) {
    while (log->durable <= log->positions[number]) {
        wal_flush(log->wal);
        log_wait(log);
        assert_int_equal(log->err, SK_OK);
    }
}

/* One entry as a group of its own. */
static inline void log_commit(struct log *log, unsigned number, size_t payload_bytes) {
    log_append_patiently(log, number, payload_bytes);
    log_sync(log, number);
}

static inline void log_assert_replayed(const struct log *log, unsigned first, unsigned end) {
    assert_int_equal(log->replayed, end - first);
    for (unsigned i = first; i < end; i++) assert_int_equal(log->replayed_numbers[i - first], i);
    assert_int_equal(log->report.entries, end - first);
}

/* Until the thread that prepares has made `segments` files in all. */
static inline void log_wait_for_files(struct log *log, unsigned segments) {
    while (wal_disk_bytes(log->wal) != segments * SEGMENT_BYTES) sched_yield();
}

static inline void log_segment_path(const struct log *log, uint64_t segment, char *path, size_t path_bytes) {
    snprintf(path, path_bytes, "%s/%016" PRIx64 ".log", log->path, segment);
}

/* A whole file; free it. */
static inline uint8_t *log_read_segment(const struct log *log, uint64_t segment) {
    char path[160];
    log_segment_path(log, segment, path, sizeof path);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return NULL;
    uint8_t *bytes = malloc(SEGMENT_BYTES);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, SEGMENT_BYTES, 0), SEGMENT_BYTES);
    close(fd);
    return bytes;
}

static inline void log_write_segment(const struct log *log, uint64_t segment, const uint8_t *bytes) {
    char path[160];
    log_segment_path(log, segment, path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, SEGMENT_BYTES, 0), SEGMENT_BYTES);
    close(fd);
}

/* Until the segments before `segment` are gone. */
static inline void log_wait_for_oldest(const struct log *log, uint64_t segment) {
    char path[160];
    log_segment_path(log, segment - 1, path, sizeof path);
    while (access(path, F_OK) == 0) sched_yield();
}

static inline bool log_has_file(const struct log *log, const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", log->path, name);
    return access(path, F_OK) == 0;
}

static inline void log_make_file(const struct log *log, const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", log->path, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    assert_true(fd >= 0);
    close(fd);
}

/* The files of a log, to damage it and put it back. */
struct image {
    uint64_t first;
    size_t count;
    uint8_t *segments[16]; /* owned */
};

static inline void image_take(struct image *image, const struct log *log, uint64_t first) {
    *image = (struct image){.first = first};
    while (image->count < 16) {
        uint8_t *bytes = log_read_segment(log, first + image->count);
        if (bytes == NULL) break;
        image->segments[image->count++] = bytes;
    }
}

static inline void image_restore(const struct image *image, const struct log *log) {
    for (size_t i = 0; i < image->count; i++) log_write_segment(log, image->first + i, image->segments[i]);
    char path[160];
    for (uint64_t segment = image->first + image->count;; segment++) {
        log_segment_path(log, segment, path, sizeof path);
        if (unlink(path) != 0) break;
    }
}

static inline uint8_t *image_at(const struct image *image, wal_position position) {
    return image->segments[position / SEGMENT_BYTES - image->first] + position % SEGMENT_BYTES;
}

static inline void image_free(struct image *image) {
    for (size_t i = 0; i < image->count; i++) free(image->segments[i]);
}

static inline void log_assert_damaged(const struct log *log, wal_position from, wal_position end) {
    char path[160];
    log_segment_path(log, from / SEGMENT_BYTES, path, sizeof path);
    assert_string_equal(log->report.damaged_file, path);
    assert_in_range(log->report.damaged_offset, from % SEGMENT_BYTES, from % SEGMENT_BYTES + (end - from) - 1);
}

static inline int log_setup(void **state) {
    struct log *log = calloc(1, sizeof *log);
    if (log == NULL) return -1;
    strcpy(log->directory, "/tmp/skerry-wal-XXXXXX");
    if (mkdtemp(log->directory) == NULL) return -1;
    snprintf(log->path, sizeof log->path, "%s/log", log->directory);
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->called, NULL);
    log->options = (struct wal_options){
        .directory = log->path,
        .segment_bytes = SEGMENT_BYTES,
        .group_bytes_max = GROUP_BYTES_MAX,
        .retry_ms = 20,
        .io = &faulty_io,
        .synced_cb = log_synced_cb,
        .arg = log,
    };
    memset((void *)&faults, 0, sizeof faults);
    faults.error = EIO;
    *state = log;
    return 0;
}

static inline int log_teardown(void **state) {
    struct log *log = *state;
    wal_close(log->wal);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", log->directory);
    int rc = system(command);
    pthread_cond_destroy(&log->called);
    pthread_mutex_destroy(&log->lock);
    free(log);
    return rc;
}

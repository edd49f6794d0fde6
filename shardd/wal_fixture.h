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
    int err;            /* of the last one that was not SK_OK */
};

static uint8_t payload_byte(unsigned number, size_t at) { return (uint8_t)(number * 31u + at * 7u + 1u); }

static struct wal_entry make_entry(unsigned number, uint8_t *payload, size_t payload_bytes) {
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

static int log_replay_cb(void *arg, const struct wal_entry *entry, wal_position position) {
    struct log *log = arg;
    unsigned number = (unsigned)(entry->index - 1);
    assert_true(number < ENTRIES_MAX && log->replayed < ENTRIES_MAX);
    assert_int_equal(entry->shard, number % 64);
    assert_int_equal(entry->type, WAL_COMMAND);
    assert_int_equal(entry->replica_id, 7);
    assert_int_equal(entry->epoch, 3);
    assert_int_equal(entry->time_us, 1000000u + number);
    for (size_t i = 0; i < entry->payload.size; i++) {
        assert_int_equal(entry->payload.data[i], payload_byte(number, i));
    }
    assert_true(log->positions[number] == 0 || log->positions[number] == position);
    log->replayed_numbers[log->replayed++] = number;
    return SK_OK;
}

static void log_synced_cb(void *arg, int err) {
    struct log *log = arg;
    pthread_mutex_lock(&log->lock);
    log->callbacks++;
    if (err != SK_OK) log->err = err;
    pthread_cond_signal(&log->called);
    pthread_mutex_unlock(&log->lock);
}

/* Waits for a callback and takes all that have come. */
static void log_wait(struct log *log) {
    pthread_mutex_lock(&log->lock);
    while (log->callbacks == 0) pthread_cond_wait(&log->called, &log->lock);
    log->callbacks = 0;
    pthread_mutex_unlock(&log->lock);
    log->durable = wal_complete(log->wal);
}

static int log_try_open(struct log *log) {
    log->replayed = 0;
    log->callbacks = 0;
    log->err = SK_OK;
    log->wal = NULL;
    return wal_open(&log->wal, &log->options, log->synced, log_replay_cb, log, &log->report);
}

static void log_open(struct log *log) { assert_int_equal(log_try_open(log), SK_OK); }

static void log_close(struct log *log) {
    wal_close(log->wal);
    log->wal = NULL;
}

static void log_reopen(struct log *log) {
    log_close(log);
    log_open(log);
}

static int log_append(struct log *log, unsigned number, size_t payload_bytes) {
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
static void log_append_patiently(struct log *log, unsigned number, size_t payload_bytes) {
    int err;
    while ((err = log_append(log, number, payload_bytes)) == SK_BUSY || err == SK_ENOSPC) {
        wal_flush(log->wal);
        log_wait(log);
    }
    assert_int_equal(err, SK_OK);
}

/* Flushes and waits until `number` is durable. */
static void log_sync(struct log *log, unsigned number) {
    while (log->durable <= log->positions[number]) {
        wal_flush(log->wal);
        log_wait(log);
        assert_int_equal(log->err, SK_OK);
    }
}

/* One entry as a group of its own. */
static void log_commit(struct log *log, unsigned number, size_t payload_bytes) {
    log_append_patiently(log, number, payload_bytes);
    log_sync(log, number);
}

static void log_assert_replayed(const struct log *log, unsigned first, unsigned end) {
    assert_int_equal(log->replayed, end - first);
    for (unsigned i = first; i < end; i++) assert_int_equal(log->replayed_numbers[i - first], i);
    assert_int_equal(log->report.entries, end - first);
}

static int log_setup(void **state) {
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
        .synced_cb = log_synced_cb,
        .arg = log,
    };
    *state = log;
    return 0;
}

static int log_teardown(void **state) {
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

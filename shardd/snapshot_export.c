#include "shardd/snapshot_export.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/record_kind.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_BYTES 512u

struct snapshot_export {
    struct snapshot_export_options options;
    char *path; /* owned */
    atomic_bool stopping;
    pthread_t thread;
    bool joined;                /* the lane's; from then on it has the rest, before then the thread */
    struct disk_export *source; /* owned; the thread closes it */
    struct buffer record;
    uint64_t bytes, records;
    int err;
    char text[TEXT_BYTES];
};

/* A fault of the source has its words there, one of the file has them here already. */
static int of_source(struct snapshot_export *export, int err) {
    if (err < 0) snprintf(export->text, sizeof export->text, "%s", disk_export_fault_text(export->source));
    return err;
}

/* The shard's own record, which every whole database has. */
static int read_record(struct snapshot_export *export) {
    struct slice value;
    int err = of_source(export, disk_export_get(export->source, record_shard_key(), &value));
    if (err == SK_NOT_FOUND) {
        snprintf(export->text, sizeof export->text, "shard %u has no record of its own", export->options.id.shard);
        return SK_ECORRUPT;
    }
    if (err != SK_OK) return err;
    buffer_append(&export->record, value.data, value.size);
    return export->record.failed ? SK_ENOMEM : SK_OK;
}

static int copy_records(struct snapshot_export *export, struct snapshot_writer *writer) {
    struct slice key, value;
    int err;
    while ((err = of_source(export, disk_export_next(export->source, &key, &value))) == SK_OK) {
        if (atomic_load_explicit(&export->stopping, memory_order_relaxed)) return SK_RETRY;
        if (slice_equal(key, record_shard_key())) continue;
        err = snapshot_writer_put(writer, key, value);
        if (err != SK_OK) return err;
    }
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int run(struct snapshot_export *export) {
    struct snapshot_writer *writer;
    int err = read_record(export);
    if (err != SK_OK) return err;
    err = snapshot_writer_open(&writer, export->path, &export->options.id, buffer_slice(&export->record),
                               export->text, sizeof export->text);
    if (err != SK_OK) return err;
    err = copy_records(export, writer);
    if (err == SK_OK) err = snapshot_writer_finish(writer, &export->bytes, &export->records);
    snapshot_writer_close(writer);
    return err;
}

static void *run_thread(void *arg) {
    struct snapshot_export *export = arg;
    export->err = run(export);
    disk_export_close(export->source);
    export->source = NULL;
    export->options.ended_cb(export->options.arg, export->err);
    return NULL;
}

int snapshot_export_start(struct snapshot_export **export, const struct snapshot_export_options *options) {
    struct snapshot_export *started = calloc(1, sizeof *started);
    if (started == NULL) return SK_ENOMEM;
    started->options = *options;
    started->options.path = NULL; /* the caller's, for this call */
    started->joined = true;
    started->path = strdup(options->path);
    int err =
        started->path == NULL ? SK_ENOMEM : disk_export_open(options->disk, options->id.shard, &started->source);
    if (err == SK_OK && pthread_create(&started->thread, NULL, run_thread, started) != 0) err = SK_ENOMEM;
    if (err != SK_OK) {
        snapshot_export_free(started);
        return err;
    }
    started->joined = false;
    *export = started;
    return SK_OK;
}

void snapshot_export_stop(struct snapshot_export *export) {
    if (export->joined) return;
    atomic_store(&export->stopping, true);
    pthread_join(export->thread, NULL);
    export->joined = true;
}

int snapshot_export_result(const struct snapshot_export *export, struct snapshot_export_result *result) {
    sk_assert(export->joined);
    *result = (struct snapshot_export_result){.bytes = export->bytes,
                                              .records = export->records,
                                              .record = buffer_slice(&export->record),
                                              .text = export->text};
    return export->err;
}

void snapshot_export_free(struct snapshot_export *export) {
    if (export == NULL) return;
    snapshot_export_stop(export);
    disk_export_close(export->source);
    buffer_deinit(&export->record);
    free(export->path);
    free(export);
}

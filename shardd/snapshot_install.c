#include "shardd/snapshot_install.h"

#include "libcommon/error.h"
#include "shardd/record_kind.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_BYTES   512u
#define RECORD_BYTES 16u /* of a record beside key and value, about */

enum stage { VERIFYING, CLEARING, FILLING, INSTALLED };

struct snapshot_install {
    struct snapshot_install_options options;
    char *path;           /* owned */
    struct buffer record; /* what the shard's own becomes */
    atomic_bool cancelled;
    enum stage stage;
    uint32_t commits;
    struct snapshot_reader *reader; /* owned; NULL: not open */
    char text[TEXT_BYTES];
};

void (*snapshot_install_committed_hook)(uint32_t commits);

int snapshot_install_new(struct snapshot_install **install, const struct snapshot_install_options *options) {
    struct snapshot_install *created = calloc(1, sizeof *created);
    if (created == NULL) return SK_ENOMEM;
    created->options = *options;
    created->options.path = NULL; /* the caller's, for this call, as the record is */
    created->options.record = slice_of(NULL, 0);
    created->path = strdup(options->path);
    buffer_append(&created->record, options->record.data, options->record.size);
    if (created->path == NULL || created->record.failed) {
        snapshot_install_free(created);
        return SK_ENOMEM;
    }
    *install = created;
    return SK_OK;
}

static void close_reader(struct snapshot_install *install) {
    snapshot_reader_close(install->reader);
    install->reader = NULL;
}

void snapshot_install_free(struct snapshot_install *install) {
    if (install == NULL) return;
    close_reader(install);
    buffer_deinit(&install->record);
    free(install->path);
    free(install);
}

static int open_reader(struct snapshot_install *install) {
    if (install->reader != NULL) return SK_OK;
    return snapshot_reader_open(&install->reader, install->path, &install->options.id, install->text,
                                sizeof install->text);
}

static int verify_some(struct snapshot_install *install) {
    struct slice key, value;
    int err = open_reader(install);
    for (uint64_t bytes = 0; err == SK_OK && bytes < install->options.txn_bytes;
         bytes += RECORD_BYTES + key.size + value.size) {
        err = snapshot_reader_next(install->reader, &key, &value);
        if (err != SK_OK) break;
    }
    if (err != SK_NOT_FOUND) return err;
    close_reader(install);
    install->stage = CLEARING;
    return SK_OK;
}

static int commit(struct snapshot_install *install) {
    int err = disk_write_commit(install->options.disk);
    if (err != SK_OK) return err;
    install->commits++;
    if (snapshot_install_committed_hook != NULL) snapshot_install_committed_hook(install->commits);
    return SK_OK;
}

static int clear(struct snapshot_install *install) {
    struct disk *disk = install->options.disk;
    uint32_t shard = install->options.id.shard;
    int err = disk_write_begin(disk);
    if (err == SK_OK) err = disk_write_mark_partial(disk, shard, true);
    if (err == SK_OK) err = disk_write_shard(disk, shard);
    if (err == SK_OK) err = disk_write_clear(disk);
    if (err == SK_OK) err = commit(install);
    if (err == SK_OK) install->stage = FILLING;
    return err;
}

/* SK_OK: there is more. SK_NOT_FOUND: that was all of the file, which is verified once more by then. */
static int put_some(struct snapshot_install *install) {
    struct slice key, value;
    int err = open_reader(install);
    for (uint64_t bytes = 0; err == SK_OK && bytes < install->options.txn_bytes;
         bytes += RECORD_BYTES + key.size + value.size) {
        err = snapshot_reader_next(install->reader, &key, &value);
        if (err != SK_OK) break;
        err = disk_write_append(install->options.disk, key, value);
    }
    return err;
}

static int put_last(struct snapshot_install *install) {
    struct disk *disk = install->options.disk;
    int err = disk_write_put(disk, record_shard_key(), buffer_slice(&install->record));
    return err == SK_OK ? disk_write_mark_partial(disk, install->options.id.shard, false) : err;
}

static int fill_some(struct snapshot_install *install) {
    struct disk *disk = install->options.disk;
    int err = disk_write_begin(disk);
    if (err == SK_OK) err = disk_write_shard(disk, install->options.id.shard);
    if (err == SK_OK) err = put_some(install);
    bool is_last = err == SK_NOT_FOUND;
    if (is_last) err = put_last(install);
    if (err == SK_OK) err = commit(install);
    if (err == SK_OK && is_last) install->stage = INSTALLED;
    return err;
}

static int run_stage(struct snapshot_install *install) {
    switch (install->stage) {
    case VERIFYING:
        return verify_some(install);
    case CLEARING:
        return clear(install);
    default:
        return fill_some(install);
    }
}

static int say_cancelled(struct snapshot_install *install) {
    snprintf(install->text, sizeof install->text, "%s: the install was cancelled", install->path);
    return SK_ECLOSED;
}

bool snapshot_install_step(struct snapshot_install *install, int *err) {
    *err = atomic_load(&install->cancelled) ? say_cancelled(install) : run_stage(install);
    if (*err == SK_OK && install->stage != INSTALLED) return false;
    disk_write_abort(install->options.disk);
    close_reader(install);
    return true;
}

void snapshot_install_cancel(struct snapshot_install *install) { atomic_store(&install->cancelled, true); }

bool snapshot_install_has_cleared(const struct snapshot_install *install) {
    return install->stage == FILLING || install->stage == INSTALLED;
}

uint32_t snapshot_install_shard(const struct snapshot_install *install) { return install->options.id.shard; }

const char *snapshot_install_text(const struct snapshot_install *install) { return install->text; }

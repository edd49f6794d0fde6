/* A lane's LMDB environment: one named database per shard ("s17") and one of the store itself ("meta", with the
 * format version, and a mark for each shard whose content is not whole). disk.c alone includes lmdb.h and turns MDB_
 * codes into sk_err.
 *
 * Each value is followed on disk by a checksum over key and value, since LMDB has none: damage is an error that
 * names the place and never a wrong answer.
 *
 * Threads: the lane reads; one thread at a time writes (the checkpoint's, or the lane while no checkpoint runs).
 * What is marked "writer" belongs to that thread, everything else to the lane. */
#pragma once

#include "libcommon/slice.h"

#define DISK_FORMAT_VERSION 1u

struct disk;

/* The directory is made if missing. `text` gets what is wrong: SK_ECORRUPT, SK_EVERSION, SK_ENOSPC, SK_EIO,
 * SK_ENOMEM. */
int disk_open(struct disk **disk, const char *directory, uint64_t map_bytes, char *text, size_t text_bytes);
void disk_close(struct disk *disk); /* NULL is allowed; neither a step nor a writing transaction is open */

/* Closes and opens the environment, which gives back the memory of written pages (LMDB keeps what its largest
 * transaction had) and heals one that has failed. Not in a step, not while somebody writes, and not while an export is
 * open. After a failure nothing can be read or written: a fault. */
int disk_reopen(struct disk *disk);

/* Whether the shard has a database that is visible to reads. */
bool disk_has_shard(const struct disk *disk, uint32_t shard);

/* Whether the shard is marked as partial: what its database has is not to be used. As of the last publishing. */
bool disk_is_partial(const struct disk *disk, uint32_t shard);

/* Bytes of the file in use. */
uint64_t disk_bytes(const struct disk *disk);

/* What the last fault was: file, place and LMDB's words. Empty before the first. */
const char *disk_fault_text(const struct disk *disk);
/* Makes it the words of a fault that was met elsewhere. */
void disk_set_fault(struct disk *disk, const char *text);

/* ---- reads ---- */

/* Reads happen between these and see one state, the newest at the step's begin or a newer one. */
void disk_step_begin(struct disk *disk);
void disk_step_end(struct disk *disk);
bool disk_in_step(const struct disk *disk);

/* SK_OK, SK_NOT_FOUND, or a fault. `value` lives until the step ends. */
int disk_get(struct disk *disk, uint32_t shard, struct slice key, struct slice *value);

struct disk_cursor;

/* A cursor over a shard's keys. A shard without a database gives NULL, which the other functions take as empty. */
int disk_cursor_open(struct disk *disk, uint32_t shard, struct disk_cursor **cursor);
/* The first key at or after `from`, or the next one: SK_OK, SK_NOT_FOUND at the end, or a fault. */
int disk_cursor_seek(struct disk_cursor *cursor, struct slice from, struct slice *key, struct slice *value);
int disk_cursor_next(struct disk_cursor *cursor, struct slice *key, struct slice *value);
/* The last key before `below`, or the one before: SK_OK, SK_NOT_FOUND at the front, or a fault. */
int disk_cursor_seek_below(struct disk_cursor *cursor, struct slice below, struct slice *key, struct slice *value);
int disk_cursor_previous(struct disk_cursor *cursor, struct slice *key, struct slice *value);
void disk_cursor_close(struct disk_cursor *cursor);

/* ---- export ---- */

/* A walk over one shard's records that sees one state for as long as it is open, however long: meanwhile the pages that
 * writers replace cannot be used again, and the file grows. */
struct disk_export;

/* The lane. SK_OK, SK_NOT_FOUND (no database), or a fault. From here on the export may be used by any one thread at a time,
 * beside lane and writer, until it is closed. The shard is not dropped meanwhile. */
int disk_export_open(struct disk *disk, uint32_t shard, struct disk_export **export);
/* As disk_get and disk_cursor_next. Values live until the export is closed. */
int disk_export_get(struct disk_export *export, struct slice key, struct slice *value);
int disk_export_next(struct disk_export *export, struct slice *key, struct slice *value);
/* As disk_fault_text, of this export. */
const char *disk_export_fault_text(const struct disk_export *export);
void disk_export_close(struct disk_export *export); /* NULL is allowed */

/* ---- writer ---- */

/* After an error of any of these the transaction is to be aborted; nothing of it has happened then. */
int disk_write_begin(struct disk *disk);
/* Marks a shard as partial, or takes the mark away. One a transaction. */
int disk_write_mark_partial(struct disk *disk, uint32_t shard, bool partial);
/* Chooses the shard that puts and deletes go to; its database is made if missing. A shard once a transaction. */
int disk_write_shard(struct disk *disk, uint32_t shard);
/* Removes all of the shard's records. */
int disk_write_clear(struct disk *disk);
/* In order of keys they go fastest. */
int disk_write_put(struct disk *disk, struct slice key, struct slice value);
int disk_write_delete(struct disk *disk, struct slice key); /* also SK_OK when it was not there */
/* Faster, and fills pages: the key is behind all that the shard has. */
int disk_write_append(struct disk *disk, struct slice key, struct slice value);
/* At most about this much memory is taken by the pages that the transaction has changed, this shard's not counted.
 */
uint64_t disk_write_dirty_bytes(const struct disk *disk);
/* Synced when it returns SK_OK; else the transaction is aborted. */
int disk_write_commit(struct disk *disk);
void disk_write_abort(struct disk *disk);

/* ---- the lane, when nobody writes ---- */

/* Lets reads see the databases and marks that were made by the writer, and takes over its fault text if `failed`. */
void disk_publish(struct disk *disk, bool failed);

/* A commit failed so that LMDB refuses everything until it is reopened. */
bool disk_is_broken(const struct disk *disk);

/* The most bytes of changed pages that a transaction had since the environment was opened: LMDB keeps their memory. */
uint64_t disk_retained_bytes(const struct disk *disk);

/* Removes a shard's database and its mark, synced. SK_OK also when there is none. Not in a step. */
int disk_drop_shard(struct disk *disk, uint32_t shard);

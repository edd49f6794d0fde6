/* The key-value interface that commands execute against: one shard's state, memtable over LMDB, seen as one ordered map
 * of bytes. It hides the layers. A command collects what it needs before it changes anything: no iterator and no
 * value read lives across a put or del. Only the shard's lane calls.
 *
 * Keys are 1 to KV_KEY_BYTES_MAX bytes, values to 16 MiB and a little. The first byte or two tell kinds of records
 * apart (shardd/keyspace.h). Faults (negative) mean that the state can no longer be trusted: the lane ends the process
 * and replay starts over. */
#pragma once

#include "libcommon/slice.h"

#define KV_KEY_BYTES_MAX 511u /* LMDB's limit */

struct kv;

/* SK_OK, SK_NOT_FOUND, or a fault. `value` lives until the next kv_put, kv_del or the end of the lane's step. */
int kv_get(struct kv *kv, struct slice key, struct slice *value);

/* Whether what is read from the disk is kept in memory for the next reads: what a write reads is about to change. */
void kv_keep_reads(struct kv *kv, bool keep);

/* SK_OK or a fault. Key and value are copied; they may point into a value that was read. */
int kv_put(struct kv *kv, struct slice key, struct slice value);

/* SK_OK (also when it was not there) or a fault. */
int kv_del(struct kv *kv, struct slice key);

/* Walks keys from `from` on (inclusive) in order of bytes, or those before `below` (exclusive, not empty) from the last one
 * down. Not across a change. */
struct kv_iter;
int kv_iter_open(struct kv *kv, struct slice from, struct kv_iter **iter);
int kv_iter_open_below(struct kv *kv, struct slice below, struct kv_iter **iter);
/* Ends the walk before `bound`, or, of one downwards, behind it: what was deleted beyond is not passed either. Borrowed until
 * the iterator is closed. */
void kv_iter_end_at(struct kv_iter *iter, struct slice bound);
/* SK_OK, SK_NOT_FOUND at the end, or a fault. Slices live until the next call. */
int kv_iter_next(struct kv_iter *iter, struct slice *key, struct slice *value);
void kv_iter_close(struct kv_iter *iter); /* NULL is allowed */

/* Is told of each change before it is made, of those that a rollback makes, too; `value` NULL: the key is deleted. It may
 * read, and changes nothing. NULL: nobody is told. Borrowed. */
struct kv_watch {
    void (*changing_cb)(struct kv_watch *watch, struct slice key, const struct slice *value);
};
void kv_set_watch(struct kv *kv, struct kv_watch *watch);

/* What gets, changes and walks have cost so far, large values more than small ones. How it grows by a command is the same on every
 * replica: it does not know in which layer something lies, nor what deleted records a walk passes. */
uint64_t kv_work(const struct kv *kv);

/* All or nothing for several commands: changes after begin are undone by rollback, in reverse. Not nested; begun and ended in
 * one step of the lane. */
int kv_begin(struct kv *kv);
void kv_commit(struct kv *kv);
int kv_rollback(struct kv *kv);

/* Which writes of a shard have taken effect already, and what they answered (docs/replication.md, R10). Part of the
 * state: a name is checked and its result stored in the same step that executes the write, by log time and position
 * alone, so every replica that executes the same log remembers the same.
 *
 * Two kinds of names. A gateway's (session, number) lives only while the gateway may still send it again: its entries
 * carry the lowest such number and everything below is forgotten; these are few, lie in memory and travel with the
 * shard's record. A client's `id` lives for its window: a record of the shard each, and one more in order of age
 * (keyspace.h, RECORD_NAME and RECORD_NAME_ORDER).
 *
 * Only the shard's lane calls. */
#pragma once

#include "libcommon/buffer.h"
#include "shardd/entry.h"
#include "shardd/kv.h"

struct dedup;

/* A result that was stored. */
struct dedup_result {
    int err;           /* what the write answered: SK_OK or a client error; SK_DONE: happened, result not kept */
    struct slice body; /* result or text; valid until the next call that changes the shard */
};

/* `kv` is borrowed. SK_ENOMEM. */
int dedup_new(struct dedup **dedup, struct kv *kv);
void dedup_free(struct dedup *dedup);

/* SK_NOT_FOUND: a new name. SK_OK: it has taken effect, `result` says what it answered. SK_FORGOTTEN: below the
 * session's floor. Or a fault. */
int dedup_find(struct dedup *dedup, const struct entry_name *name, uint64_t time_us, struct dedup_result *result);

/* After executing: remembers the result (over RESULT_KEPT_BYTES_MAX only that it happened), raises the session's floor,
 * and forgets a few ids and sessions whose time is over. SK_OK or a fault. */
int dedup_store(struct dedup *dedup, const struct entry_name *name, uint64_t time_us, int err, struct slice body);

/* Forgets at most `limit` ids whose window is over by `time_us`. SK_OK or a fault. */
int dedup_sweep(struct dedup *dedup, uint64_t time_us, uint32_t limit);

/* Ids remembered now, and when the oldest may be forgotten (UINT64_MAX: none). */
uint64_t dedup_id_count(const struct dedup *dedup);
uint64_t dedup_next_expiry_us(const struct dedup *dedup);

/* The part that lies in memory, for the shard's record. dedup_load: SK_OK, SK_ECORRUPT, SK_ENOMEM. */
void dedup_save(const struct dedup *dedup, struct buffer *buffer);
int dedup_load(struct dedup *dedup, struct slice saved);

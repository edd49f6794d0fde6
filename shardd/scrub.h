/* A checksum over the logical content of a shard as it was when the scrub began, taken in small steps while writes go on.
 * The sum is one over all records, of a hash of each, so their order does not matter, nor in which layer they lie, nor when
 * checkpoints moved them; two replicas that have executed the same entries have the same.
 *
 *   keys    ──────────────|──────────────────────>
 *             reached       to come
 *
 * A cursor walks the records through kv.h, so it reads the very bytes that commands read, and whatever the store finds to be
 * damaged on the way shows. A change of a record that the cursor has not reached adds the hash of what it replaces and takes
 * away that of what it puts, which the cursor adds when it comes there. Reached records change as they like. So only changes
 * of what is to come pay, by one read and two hashes.
 *
 * The shard's own record (RECORD_SHARD) is not content: where checkpoints put it is each replica's own affair. Only the
 * shard's lane calls. */
#pragma once

#include "shardd/kv.h"

/* Adding is component by component, modulo 2^64. */
struct scrub_sum {
    uint64_t low, high;
};

bool scrub_sum_equal(struct scrub_sum a, struct scrub_sum b);

/* The hash of one record; of other bytes under a name of their own as well. */
struct scrub_sum scrub_hash(struct slice key, struct slice value);

enum scrub_state {
    SCRUB_RUNS,
    SCRUB_DONE,
    SCRUB_DAMAGED, /* a record cannot be read; the store says where */
};

struct scrub;

/* Begins at the state as it is now. `kv` is borrowed and watched from here on (kv_set_watch): until the scrub is done, found
 * damage, or is freed, nobody else watches it. `base` is what the sum begins with: content that is not in records.
 * SK_ENOMEM. */
int scrub_new(struct scrub **scrub, struct kv *kv, struct scrub_sum base);
/* Before `kv` goes, or is replaced by an install. NULL is allowed. */
void scrub_free(struct scrub *scrub);

/* Goes on by `records_max` records at most, or a few of `bytes_max` bytes together. No iterator of `kv` is open. SK_OK, or
 * SK_ENOMEM (nothing has happened). */
int scrub_step(struct scrub *scrub, uint32_t records_max, size_t bytes_max);

enum scrub_state scrub_state(const struct scrub *scrub);
/* Of a scrub that is done. */
struct scrub_sum scrub_result(const struct scrub *scrub);
/* Records that the cursor has read so far. */
uint64_t scrub_records(const struct scrub *scrub);

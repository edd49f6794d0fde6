/* Where in the log the entries of one shard lie: from index to position, for reading them again (wal_read). In memory, filled
 * by replay and by every append, since the log itself finds entries only from its begin on. Four bytes for an entry: a chunk
 * for each segment that holds entries of the shard, with their offsets in order.
 *
 * What it knows is one run of indexes without a gap. Embedded in its shard; the lane's thread only. */
#pragma once

#include "shardd/wal.h"

struct log_index {
    /* private */
    uint64_t segment_bytes;
    struct log_chunk *chunks; /* owned; none is empty; segments and indexes grow */
    size_t chunk_count, chunk_room;
    uint32_t *spare;     /* owned: the offsets of the next chunk, NULL until reserved */
    wal_position newest; /* highest that was ever added */
};

/* `segment_bytes` as in the options of the log. */
void log_index_init(struct log_index *index, uint64_t segment_bytes);
void log_index_deinit(struct log_index *index);

/* Makes room for one more: a log_index_add right after it does not fail. For before the entry is appended to the log. SK_OK,
 * SK_ENOMEM. */
int log_index_reserve(struct log_index *index);

/* Entry `number` lies at `position`. It is the one behind log_index_last, or any if nothing is known; positions grow, also
 * over cuts and clearing. SK_OK, SK_ENOMEM (nothing has changed). */
int log_index_add(struct log_index *index, uint64_t number, wal_position position);

/* Forgets the entries above `number` (R7). What is added instead may lie in the same segments or in later ones. */
void log_index_cut(struct log_index *index, uint64_t number);

/* Forgets the entries in whole segments before `position`: as wal_released says after wal_release. */
void log_index_release(struct log_index *index, wal_position position);

/* Forgets all: a snapshot has taken the place of the log (R30). */
void log_index_clear(struct log_index *index);

/* SK_OK, SK_NOT_FOUND (never known, cut or released). */
int log_index_find(const struct log_index *index, uint64_t number, wal_position *position);

/* The lowest and the highest entry that is known; 0 = none. */
uint64_t log_index_first(const struct log_index *index);
uint64_t log_index_last(const struct log_index *index);

/* Bytes of memory it holds. */
size_t log_index_bytes(const struct log_index *index);

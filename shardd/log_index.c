#include "shardd/log_index.h"

#include "libcommon/check.h"

#include <stdlib.h>

#define CHUNKS_LEAST  4u
#define OFFSETS_LEAST 16u /* of a chunk: many shards write little */
#define OFFSET_UNIT   8u  /* all that lies in the log does so at multiples of it */

/* The entries in one segment. */
struct log_chunk {
    uint64_t segment;
    uint64_t first;    /* entry */
    uint32_t *offsets; /* owned; in units, of first, first + 1, … */
    uint32_t count, room;
};

void log_index_init(struct log_index *index, uint64_t segment_bytes) {
    sk_assert(segment_bytes > 0 && segment_bytes / OFFSET_UNIT <= UINT32_MAX);
    *index = (struct log_index){.segment_bytes = segment_bytes};
}

void log_index_deinit(struct log_index *index) {
    log_index_clear(index);
    free(index->chunks);
    free(index->spare);
    *index = (struct log_index){0};
}

static struct log_chunk *last_chunk(const struct log_index *index) {
    return index->chunk_count == 0 ? NULL : &index->chunks[index->chunk_count - 1];
}

static int resize_offsets(struct log_chunk *chunk, uint32_t room) {
    uint32_t *offsets = realloc(chunk->offsets, room * sizeof *offsets);
    if (offsets == NULL) return SK_ENOMEM;
    chunk->offsets = offsets;
    chunk->room = room;
    return SK_OK;
}

static int reserve_chunk(struct log_index *index) {
    if (index->chunk_count == index->chunk_room) {
        size_t room = index->chunk_room == 0 ? CHUNKS_LEAST : index->chunk_room * 2;
        struct log_chunk *chunks = realloc(index->chunks, room * sizeof *chunks);
        if (chunks == NULL) return SK_ENOMEM;
        index->chunks = chunks;
        index->chunk_room = room;
    }
    if (index->spare == NULL) index->spare = malloc(OFFSETS_LEAST * sizeof *index->spare);
    return index->spare == NULL ? SK_ENOMEM : SK_OK;
}

int log_index_reserve(struct log_index *index) {
    int err = reserve_chunk(index);
    struct log_chunk *last = last_chunk(index);
    if (err != SK_OK || last == NULL || last->count < last->room) return err;
    return resize_offsets(last, last->room * 2);
}

/* The chunk of `segment`, which is that of the last or a later one. */
static struct log_chunk *chunk_for(struct log_index *index, uint64_t segment, uint64_t number) {
    struct log_chunk *last = last_chunk(index);
    if (last != NULL && last->segment == segment) return last;
    /* Nothing more is added to the last one, so what it has reserved goes back; if not, it costs memory only. */
    if (last != NULL) (void)resize_offsets(last, last->count);
    struct log_chunk *chunk = &index->chunks[index->chunk_count++];
    *chunk =
        (struct log_chunk){.segment = segment, .first = number, .offsets = index->spare, .room = OFFSETS_LEAST};
    index->spare = NULL;
    return chunk;
}

int log_index_add(struct log_index *index, uint64_t number, wal_position position) {
    uint64_t last = log_index_last(index);
    sk_assert(number > 0);
    sk_assert(last == 0 || number == last + 1);
    sk_assert(position > index->newest);
    sk_assert(position % OFFSET_UNIT == 0);
    int err = log_index_reserve(index);
    if (err != SK_OK) return err;
    struct log_chunk *chunk = chunk_for(index, position / index->segment_bytes, number);
    chunk->offsets[chunk->count++] = (uint32_t)(position % index->segment_bytes / OFFSET_UNIT);
    index->newest = position;
    return SK_OK;
}

void log_index_cut(struct log_index *index, uint64_t number) {
    struct log_chunk *last;
    while ((last = last_chunk(index)) != NULL && last->first > number) {
        free(last->offsets);
        index->chunk_count--;
    }
    if (last != NULL && number - last->first + 1 < last->count) last->count = (uint32_t)(number - last->first + 1);
}

void log_index_release(struct log_index *index, wal_position position) {
    uint64_t segment = position / index->segment_bytes;
    size_t gone = 0;
    while (gone < index->chunk_count && index->chunks[gone].segment < segment) free(index->chunks[gone++].offsets);
    if (gone == 0) return;
    index->chunk_count -= gone;
    memmove(index->chunks, index->chunks + gone, index->chunk_count * sizeof *index->chunks);
}

void log_index_clear(struct log_index *index) { log_index_cut(index, 0); }

int log_index_find(const struct log_index *index, uint64_t number, wal_position *position) {
    if (number == 0 || number < log_index_first(index) || number > log_index_last(index)) return SK_NOT_FOUND;
    size_t low = 0, high = index->chunk_count; /* the chunk is in [low, high) */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (index->chunks[middle].first <= number) low = middle;
        else high = middle;
    }
    const struct log_chunk *chunk = &index->chunks[low];
    uint64_t offset = (uint64_t)chunk->offsets[number - chunk->first] * OFFSET_UNIT;
    *position = chunk->segment * index->segment_bytes + offset;
    return SK_OK;
}

uint64_t log_index_first(const struct log_index *index) {
    return index->chunk_count == 0 ? 0 : index->chunks[0].first;
}

uint64_t log_index_last(const struct log_index *index) {
    const struct log_chunk *last = last_chunk(index);
    return last == NULL ? 0 : last->first + last->count - 1;
}

size_t log_index_bytes(const struct log_index *index) {
    size_t bytes = index->chunk_room * sizeof *index->chunks;
    if (index->spare != NULL) bytes += OFFSETS_LEAST * sizeof *index->spare;
    for (size_t i = 0; i < index->chunk_count; i++) bytes += index->chunks[i].room * sizeof(uint32_t);
    return bytes;
}

/* The bytes of the log: segment headers, groups and entries, little-endian, everything at multiples of 8.
 *
 *   segment = header (its first 64 bytes; the block of 4096 is otherwise zero), groups, an unused rest
 *   group   = header (56 bytes), entries, and 56 zero bytes where the next group will begin, if there is room
 *   entry   = header (56 bytes), payload, zeros up to a multiple of 8
 *
 * Every checksum below the segment header is seeded with the log's random seed and the position of what it covers,
 * and a position holds the segment's sequence number. So neither bytes that a user stored nor the leftovers of a
 * recycled segment nor a group at the wrong place ever pass. Pure functions, any thread. Bytes that are decoded
 * are not trusted. */
#pragma once

#include "libcommon/error.h"
#include "shardd/wal.h"

#define WAL_FORMAT_VERSION       3u    /* 2: EPOCH and TIME; 3: what commands draw from */
#define WAL_BLOCK_BYTES          4096u /* the segment header's block: groups begin behind it */
#define WAL_SEGMENT_HEADER_BYTES 64u
#define WAL_GROUP_HEADER_BYTES   56u
#define WAL_ENTRY_HEADER_BYTES   56u

struct wal_segment_header {
    uint64_t segment_bytes;
    uint64_t sequence; /* 1, 2, …: also the file's name */
    uint64_t seed;     /* random, one for the whole directory */
    bool recycled;     /* what follows the groups may be stale bytes; otherwise it is zeros */
};

struct wal_group_header {
    uint32_t entry_count;
    wal_position position;  /* of this header */
    uint64_t sequence;      /* grows by one for ever */
    wal_position synced;    /* everything before it was known to be synced when this group was written */
    uint64_t payload_bytes; /* of the entries, with their headers */
    uint64_t payload_checksum;
};

/* Writes WAL_SEGMENT_HEADER_BYTES. */
void wal_encode_segment_header(uint8_t *at, const struct wal_segment_header *header);
/* SK_OK, SK_ECORRUPT, or SK_EVERSION (whole, but of another version: every version keeps magic, version and
 * checksum at their places, so a flipped bit is not taken for a new version). */
int wal_decode_segment_header(const uint8_t *at, struct wal_segment_header *header);
/* The version that a header names for which wal_decode_segment_header answered SK_EVERSION. */
uint32_t wal_segment_header_version(const uint8_t *at);

/* Writes WAL_GROUP_HEADER_BYTES. */
void wal_encode_group_header(uint8_t *at, uint64_t seed, const struct wal_group_header *header);
/* Whether a whole group header lies at `at`, which is at `position`. Says nothing of the payload. */
bool wal_decode_group_header(const uint8_t *at, uint64_t seed, wal_position position,
                             struct wal_group_header *header);
/* The first four bytes of a group header: a quick look before decoding. */
bool wal_is_group_magic(uint64_t word);

uint64_t wal_payload_checksum(uint64_t seed, wal_position position, const uint8_t *payload, size_t payload_bytes);

/* Writes wal_entry_bytes(payload.size) bytes for an entry that will lie at `position`. */
void wal_encode_entry(uint8_t *at, uint64_t seed, wal_position position, const struct wal_entry *entry);
/* How many bytes the entry whose header lies at `at` claims to take: not to be trusted before it is decoded. */
uint64_t wal_entry_claimed_bytes(const uint8_t *at);
/* The entry at the begin of `bytes`, which is at `position`; `size` gets the bytes it takes, the payload points
 * into `bytes`. SK_OK or SK_ECORRUPT. */
int wal_decode_entry(struct slice bytes, uint64_t seed, wal_position position, struct wal_entry *entry,
                     size_t *size);

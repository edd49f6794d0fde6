#include "shardd/wal_codec.h"

#include "libcommon/check.h"

#include <endian.h>
#include <xxhash.h>

static const uint8_t SEGMENT_MAGIC[8] = "SKWALSEG";
#define GROUP_MAGIC 0x5052474cu /* "LGRP" */

#define SEGMENT_CHECKSUM_AT 56
#define SEGMENT_RECYCLED    1u
#define GROUP_CHECKSUM_AT   48
#define ENTRY_CHECKSUM_AT   48

_Static_assert(WAL_GROUP_HEADER_BYTES % 8 == 0 && WAL_ENTRY_HEADER_BYTES % 8 == 0,
               "all things lie at multiples of 8");

static void put_u32(uint8_t *at, uint32_t number) {
    number = htole32(number);
    memcpy(at, &number, sizeof number);
}

static void put_u64(uint8_t *at, uint64_t number) {
    number = htole64(number);
    memcpy(at, &number, sizeof number);
}

static uint32_t get_u32(const uint8_t *at) {
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return le32toh(number);
}

static uint64_t get_u64(const uint8_t *at) {
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return le64toh(number);
}

/* The multiplier spreads neighbouring positions; what keeps records unforgeable is the random seed. */
static uint64_t seed_at(uint64_t seed, wal_position position) {
    return seed + position * UINT64_C(0x9E3779B97F4A7C15);
}

void wal_encode_segment_header(uint8_t *at, const struct wal_segment_header *header) {
    memset(at, 0, WAL_SEGMENT_HEADER_BYTES);
    memcpy(at, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC);
    put_u32(at + 8, WAL_FORMAT_VERSION);
    put_u32(at + 12, header->recycled ? SEGMENT_RECYCLED : 0);
    put_u64(at + 16, header->segment_bytes);
    put_u64(at + 24, header->sequence);
    put_u64(at + 32, header->seed);
    put_u64(at + SEGMENT_CHECKSUM_AT, XXH3_64bits(at, SEGMENT_CHECKSUM_AT));
}

uint32_t wal_segment_header_version(const uint8_t *at) { return get_u32(at + 8); }

int wal_decode_segment_header(const uint8_t *at, struct wal_segment_header *header) {
    if (memcmp(at, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC) != 0) return SK_ECORRUPT;
    if (get_u64(at + SEGMENT_CHECKSUM_AT) != XXH3_64bits(at, SEGMENT_CHECKSUM_AT)) return SK_ECORRUPT;
    if (wal_segment_header_version(at) != WAL_FORMAT_VERSION) return SK_EVERSION;
    header->recycled = (get_u32(at + 12) & SEGMENT_RECYCLED) != 0;
    header->segment_bytes = get_u64(at + 16);
    header->sequence = get_u64(at + 24);
    header->seed = get_u64(at + 32);
    return SK_OK;
}

void wal_encode_group_header(uint8_t *at, uint64_t seed, const struct wal_group_header *header) {
    put_u32(at, GROUP_MAGIC);
    put_u32(at + 4, header->entry_count);
    put_u64(at + 8, header->position);
    put_u64(at + 16, header->sequence);
    put_u64(at + 24, header->synced);
    put_u64(at + 32, header->payload_bytes);
    put_u64(at + 40, header->payload_checksum);
    put_u64(at + GROUP_CHECKSUM_AT, XXH3_64bits_withSeed(at, GROUP_CHECKSUM_AT, seed_at(seed, header->position)));
}

bool wal_decode_group_header(const uint8_t *at, uint64_t seed, wal_position position,
                             struct wal_group_header *header) {
    if (get_u32(at) != GROUP_MAGIC || get_u64(at + 8) != position) return false;
    uint64_t checksum = XXH3_64bits_withSeed(at, GROUP_CHECKSUM_AT, seed_at(seed, position));
    if (get_u64(at + GROUP_CHECKSUM_AT) != checksum) return false;
    header->entry_count = get_u32(at + 4);
    header->position = position;
    header->sequence = get_u64(at + 16);
    header->synced = get_u64(at + 24);
    header->payload_bytes = get_u64(at + 32);
    header->payload_checksum = get_u64(at + 40);
    return true;
}

bool wal_is_group_magic(uint64_t word) { return (uint32_t)le64toh(word) == GROUP_MAGIC; }

uint64_t wal_payload_checksum(uint64_t seed, wal_position position, const uint8_t *payload, size_t payload_bytes) {
    return XXH3_64bits_withSeed(payload, payload_bytes, seed_at(seed, position));
}

uint64_t wal_entry_bytes(uint64_t payload_bytes) { return WAL_ENTRY_HEADER_BYTES + (payload_bytes + 7) / 8 * 8; }

/* Covers header and payload, padding included: a reader of single entries needs nothing else. */
static uint64_t entry_checksum(const uint8_t *at, uint64_t seed, wal_position position, size_t size) {
    uint64_t header = XXH3_64bits_withSeed(at, ENTRY_CHECKSUM_AT, seed_at(seed, position));
    return XXH3_64bits_withSeed(at + WAL_ENTRY_HEADER_BYTES, size - WAL_ENTRY_HEADER_BYTES, header);
}

void wal_encode_entry(uint8_t *at, uint64_t seed, wal_position position, const struct wal_entry *entry) {
    sk_assert(entry->type != 0);
    sk_assert(entry->payload.size <= UINT32_MAX);
    size_t size = wal_entry_bytes(entry->payload.size);
    memset(at, 0, WAL_ENTRY_HEADER_BYTES);
    put_u32(at, (uint32_t)entry->payload.size);
    put_u32(at + 4, entry->shard);
    at[8] = entry->type;
    put_u64(at + 16, entry->replica_id);
    put_u64(at + 24, entry->epoch);
    put_u64(at + 32, entry->index);
    put_u64(at + 40, entry->time_us);
    if (entry->payload.size > 0) memcpy(at + WAL_ENTRY_HEADER_BYTES, entry->payload.data, entry->payload.size);
    size_t used = WAL_ENTRY_HEADER_BYTES + entry->payload.size;
    memset(at + used, 0, size - used);
    put_u64(at + ENTRY_CHECKSUM_AT, entry_checksum(at, seed, position, size));
}

uint64_t wal_entry_claimed_bytes(const uint8_t *at) { return wal_entry_bytes(get_u32(at)); }

int wal_decode_entry(struct slice bytes, uint64_t seed, wal_position position, struct wal_entry *entry,
                     size_t *size) {
    if (bytes.size < WAL_ENTRY_HEADER_BYTES) return SK_ECORRUPT;
    const uint8_t *at = bytes.data;
    uint32_t payload_bytes = get_u32(at);
    uint64_t taken = wal_entry_claimed_bytes(at);
    if (taken > bytes.size) return SK_ECORRUPT;
    if (get_u64(at + ENTRY_CHECKSUM_AT) != entry_checksum(at, seed, position, taken)) return SK_ECORRUPT;
    if (at[8] == 0) return SK_ECORRUPT;
    *entry = (struct wal_entry){
        .shard = get_u32(at + 4),
        .type = at[8],
        .replica_id = get_u64(at + 16),
        .epoch = get_u64(at + 24),
        .index = get_u64(at + 32),
        .time_us = get_u64(at + 40),
        .payload = slice_of(at + WAL_ENTRY_HEADER_BYTES, payload_bytes),
    };
    *size = taken;
    return SK_OK;
}

/* Keys to slots, as in the Redis Cluster specification ("Key distribution model", "Hash tags"): CRC16/XMODEM of the
 * key, or of what stands between its first '{' and the next '}' if that is not empty, modulo 16384. */
#pragma once

#include "slice.h"

#define SLOT_COUNT 16384u

/* CRC16/XMODEM: polynomial 0x1021, initial value 0; of "123456789" it is 0x31C3. */
uint16_t slot_crc16(struct slice bytes);

/* The slot of a key, 0 to SLOT_COUNT-1. */
uint32_t slot_of_key(struct slice key);

/* The shard that owns a slot. `shard_count` is a power of two up to SLOT_COUNT; shard i has the i-th equal range. */
static inline uint32_t slot_shard(uint32_t slot, uint32_t shard_count) {
    return slot / (SLOT_COUNT / shard_count);
}

/* The first slot of a shard. */
static inline uint32_t slot_first_of_shard(uint32_t shard, uint32_t shard_count) {
    return shard * (SLOT_COUNT / shard_count);
}

#include "slot.h"

/* One step of the division by the polynomial. */
#define CRC_BIT(c) ((uint16_t)(((c) << 1) ^ (((c)&0x8000u) ? 0x1021u : 0u)))

static uint16_t crc_table[256];

__attribute__((constructor)) static void crc_table_init(void) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint16_t crc = (uint16_t)(byte << 8);
        for (int bit = 0; bit < 8; bit++) crc = CRC_BIT((unsigned)crc);
        crc_table[byte] = crc;
    }
}

uint16_t slot_crc16(struct slice bytes) {
    uint16_t crc = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        crc = (uint16_t)((crc << 8) ^ crc_table[((crc >> 8) ^ bytes.data[i]) & 0xffu]);
    }
    return crc;
}

/* The part of the key that is hashed: the tag between the first '{' and the first '}' after it, unless empty. */
static struct slice hashed_part(struct slice key) {
    if (key.size == 0) return key;
    const uint8_t *open = memchr(key.data, '{', key.size);
    if (open == NULL) return key;
    const uint8_t *tag = open + 1;
    size_t rest = key.size - (size_t)(tag - key.data);
    const uint8_t *close = rest == 0 ? NULL : memchr(tag, '}', rest);
    if (close == NULL || close == tag) return key;
    return slice_of(tag, (size_t)(close - tag));
}

uint32_t slot_of_key(struct slice key) { return slot_crc16(hashed_part(key)) % SLOT_COUNT; }

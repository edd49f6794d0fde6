#include "slot.h"

/* One step of the division by the polynomial. */
#define CRC_BIT(c) ((uint16_t)(((c) << 1) ^ (((c)&0x8000u) ? 0x1021u : 0u)))

#define STRIDE 8u

/* crc_table[n][byte]: what a byte comes to that n others follow. With a table for each byte of a stride these are looked up beside
 * each other, not one after the other (Kounavis and Berry, "Novel Table Lookup-Based Algorithms for High-Performance CRC
 * Generation", 2008). */
static uint16_t crc_table[STRIDE][256];

static inline uint16_t add_byte(uint16_t crc, uint8_t byte) {
    return (uint16_t)((crc << 8) ^ crc_table[0][((crc >> 8) ^ byte) & 0xffu]);
}

__attribute__((constructor)) static void crc_table_init(void) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint16_t crc = (uint16_t)(byte << 8);
        for (int bit = 0; bit < 8; bit++) crc = CRC_BIT((unsigned)crc);
        crc_table[0][byte] = crc;
    }
    for (unsigned n = 1; n < STRIDE; n++)
        for (unsigned byte = 0; byte < 256; byte++) crc_table[n][byte] = add_byte(crc_table[n - 1][byte], 0);
}

static inline uint16_t add_stride(uint16_t crc, const uint8_t *at) {
    return crc_table[7][at[0] ^ (crc >> 8)] ^ crc_table[6][at[1] ^ (crc & 0xffu)] ^ crc_table[5][at[2]] ^
           crc_table[4][at[3]] ^ crc_table[3][at[4]] ^ crc_table[2][at[5]] ^ crc_table[1][at[6]] ^
           crc_table[0][at[7]];
}

uint16_t slot_crc16(struct slice bytes) {
    uint16_t crc = 0;
    size_t at = 0;
    for (; bytes.size - at >= STRIDE; at += STRIDE) crc = add_stride(crc, bytes.data + at);
    for (; at < bytes.size; at++) crc = add_byte(crc, bytes.data[at]);
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

#include "gateway/utf8.h"

size_t utf8_character_bytes(struct slice text) {
    uint8_t lead = text.data[0];
    if (lead < 0x80) return 1;
    size_t bytes = lead >= 0xc2 && lead < 0xe0   ? 2
                   : (lead & 0xf0) == 0xe0       ? 3
                   : lead >= 0xf0 && lead < 0xf5 ? 4
                                                 : 0;
    if (bytes == 0 || text.size < bytes) return 0;
    for (size_t i = 1; i < bytes; i++) {
        if ((text.data[i] & 0xc0) != 0x80) return 0;
    }
    uint8_t second = text.data[1];
    bool fine = (lead != 0xe0 || second >= 0xa0) && (lead != 0xed || second < 0xa0) &&
                (lead != 0xf0 || second >= 0x90) && (lead != 0xf4 || second < 0x90);
    return fine ? bytes : 0;
}

static bool is_control(uint8_t byte) {
    return (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f;
}

bool utf8_is_readable(struct slice text) {
    while (text.size > 0) {
        size_t bytes = utf8_character_bytes(text);
        if (bytes == 0 || is_control(text.data[0])) return false;
        text = slice_of(text.data + bytes, text.size - bytes);
    }
    return true;
}

size_t utf8_encode(uint32_t character, uint8_t room[4]) {
    if (character < 0x80) {
        room[0] = (uint8_t)character;
        return 1;
    }
    size_t bytes = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = bytes - 1; i > 0; i--) {
        room[i] = (uint8_t)(0x80 | (character & 0x3f));
        character >>= 6;
    }
    room[0] = (uint8_t)(leads[bytes] | character);
    return bytes;
}

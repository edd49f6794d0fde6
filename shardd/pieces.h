/* Runs of bytes one behind the other in a buffer, each behind its size: what a command collects before it changes anything,
 * since what is read from the store does not live across a change (kv.h). */
#pragma once

#include "libcommon/buffer.h"
#include "shardd/big_endian.h"

#define PIECE_SIZE_BYTES 4u

static inline void pieces_add(struct buffer *pieces, struct slice piece) {
    uint8_t size[PIECE_SIZE_BYTES];
    put_u32(size, (uint32_t)piece.size);
    buffer_append(pieces, size, sizeof size);
    buffer_append(pieces, piece.data, piece.size);
}

/* Takes the first of what is left, which is not empty. */
static inline struct slice pieces_take(struct slice *rest) {
    struct slice piece = slice_of(rest->data + PIECE_SIZE_BYTES, get_u32(rest->data));
    size_t passed = PIECE_SIZE_BYTES + piece.size;
    *rest = slice_of(rest->data + passed, rest->size - passed);
    return piece;
}

/* What comes from one peer: which of its frames count, how much of them has been taken, and the items that come in
 * chunks. Pure; not for two threads at once. */
#pragma once

#include "shardd/peer_wire.h"

struct peer_intake {
    uint64_t incarnation; /* the highest that is known of the peer: what an earlier process sent is dropped */
    uint64_t connection;  /* its last; 0 = none yet */
    uint64_t number;      /* of the last frame with items */
    uint64_t arrived;     /* bytes of bulk items up to its end, lost ones among them */
    uint64_t held;        /* of them waiting to be processed */
    uint64_t generation;  /* ours of the connection: no peer can name one that was */

    /* an item that comes in chunks; one at a time, and its chunks follow one another */
    uint64_t stream;
    uint32_t total_bytes;
    struct buffer assembled; /* the first of them */
};

/* All zero is a peer that has not been heard of. */
void peer_intake_deinit(struct peer_intake *intake);

/* The map, or a frame, tells of the peer's incarnation. False: it is an earlier one's. */
bool peer_intake_on_incarnation(struct peer_intake *intake, uint64_t incarnation);

/* A frame has come, of the incarnation known. False: it is of an earlier connection, or came before; drop it. True: its
 * bulk bytes count as taken once peer_intake_hold and peer_intake_release say nothing else. */
bool peer_intake_on_frame(struct peer_intake *intake, const struct peer_header *header, size_t bulk_bytes);

/* So many bulk bytes of the frame that has just come wait to be processed. Returns what names its connection; then, that
 * they wait no more. */
uint64_t peer_intake_hold(struct peer_intake *intake, size_t bulk_bytes);
void peer_intake_release(struct peer_intake *intake, uint64_t generation, size_t bulk_bytes);

/* How many bulk bytes of this connection have been taken. */
uint64_t peer_intake_taken(const struct peer_intake *intake);

/* A chunk of a frame that counts. SK_OK: it was the last, and `item`, the caller's now, has the whole; it has been checked.
 * SK_RETRY: more is to come, or what came before it was lost and so is this. SK_EPROTO: the item is malformed. SK_ENOMEM:
 * the item is lost. */
int peer_intake_on_chunk(struct peer_intake *intake, const struct peer_chunk *chunk, struct buffer *item);

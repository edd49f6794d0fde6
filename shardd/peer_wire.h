/* Frames between shardd nodes: one nng message with items of many shards. Fixed little-endian layout, written and read
 * only here. A frame is never trusted: it is checked whole before anything of it is used. Any thread.
 *
 *   frame   = header, urgent items, bulk items
 *   item    = bytes u32 (of all of it), kind u8, and more by kind
 *   entry   = of a message APPEND, behind it: epoch, time, bytes of the payload, type, payload; its index follows from
 *             the message's
 *
 * Urgent items (beacons, promises, acknowledgements, ...) are small; what may be large or waits for a disk is bulk
 * (entries, pieces of snapshots), so that the receiver can look at the first without having room for the second. A large
 * item travels in chunks, each of which is the one bulk item of its frame (shardd/peer_intake).
 *
 * Frames are numbered within a connection; a connection is named by a number that its dialling side has not used before.
 * Each header says how far the sender has got in the other direction (docs/replication.md, R27). */
#pragma once

#include "libcommon/buffer.h"
#include "libcommon/limits.h"
#include "shardd/replica.h"
#include "shardd/snapshot_stream.h"
#include "shardd/verify.h"
#include "shardd/wal.h"

#define PEER_WIRE_VERSION 4u
#define PEER_HEADER_BYTES 96u
#define PEER_CHUNK_BYTES  (256u * 1024)

/* The largest item before it is cut: an APPEND of one entry that is as large as an entry may be. */
#define PEER_ITEM_BYTES_MAX (FRAME_BYTES_MAX + 65536u)

struct peer_header {
    uint64_t cluster;  /* a frame of another one is refused */
    uint32_t from, to; /* nodes: an address may have passed to another */
    uint64_t from_incarnation;
    uint64_t to_incarnation; /* as the sender knows it; 0 = it does not */
    uint64_t connection;     /* from this sender to this receiver; later ones are higher */
    uint64_t number;      /* 1, 2, …: of this frame in its connection; a frame without items repeats the last */
    uint64_t bulk_before; /* bytes of bulk items in the connection's earlier frames */
    uint64_t heard_connection; /* of the other side, the last that a frame came in; 0 = none. Of it: */
    uint64_t heard_number;     /* the last frame that came */
    uint64_t heard_taken;      /* bytes of bulk items that have come and are not waiting to be processed */
    uint32_t item_count;
    uint32_t urgent_bytes; /* of the urgent items; the others follow */
};

enum peer_item_kind {
    PEER_MESSAGE = 1, /* of the replication core; bulk if it is an APPEND */
    PEER_SNAPSHOT_BEGIN,
    PEER_SNAPSHOT_PIECE, /* both bulk: their order counts */
    PEER_SNAPSHOT_TAKEN,
    PEER_CHUNK, /* of an item; bulk. Nobody behind shardd/peers sees one. */
    PEER_VERIFY_QUESTION,
    PEER_VERIFY_REPLY,
};

struct peer_chunk {
    uint64_t stream; /* names the item among those of its sender's process */
    uint32_t total_bytes, offset;
    struct slice bytes;
};

struct peer_item {
    enum peer_item_kind kind;
    uint32_t shard;       /* of all but PEER_CHUNK */
    struct slice entries; /* of an APPEND: for peer_entries_of */
    union {
        struct replica_message message; /* `from`, `from_incarnation` and `to` are the frame's */
        struct snapshot_begin begin;
        struct snapshot_piece piece;
        struct snapshot_taken taken;
        struct peer_chunk chunk;
        struct verify_question question;
        struct verify_reply reply;
    } is;
};

/* ---- writing: items are appended to a buffer, which is marked as failed when out of memory ---- */

/* Writes PEER_HEADER_BYTES. */
void peer_wire_write_header(uint8_t *at, const struct peer_header *header);

/* A message that is not an APPEND. */
void peer_wire_add_message(struct buffer *buffer, const struct replica_message *message);

/* An APPEND: begin, then its entries from message->prev_index + 1 on, then end, which counts them. Returns where it
 * begins. */
size_t peer_wire_begin_append(struct buffer *buffer, const struct replica_message *message);
void peer_wire_add_entry(struct buffer *buffer, const struct wal_entry *entry);
void peer_wire_end_append(struct buffer *buffer, size_t begin, uint32_t entry_count);

/* Bytes that an entry takes. */
size_t peer_wire_entry_bytes(size_t payload_bytes);

void peer_wire_add_begin(struct buffer *buffer, const struct snapshot_begin *begin);
void peer_wire_add_piece(struct buffer *buffer, const struct snapshot_piece *piece);
void peer_wire_add_taken(struct buffer *buffer, const struct snapshot_taken *taken);
void peer_wire_add_question(struct buffer *buffer, const struct verify_question *question);
void peer_wire_add_reply(struct buffer *buffer, const struct verify_reply *reply);
void peer_wire_add_chunk(struct buffer *buffer, const struct peer_chunk *chunk);

/* ---- reading ---- */

/* Checks a frame whole. SK_OK: `urgent` and `bulk` are its items, and none of the calls below fails on them. SK_EPROTO
 * (malformed), SK_EVERSION. Slices point into the frame. */
int peer_wire_read_frame(struct slice frame, struct peer_header *header, struct slice *urgent, struct slice *bulk);

/* Checks an item that has come in chunks: nothing but one whole item that may be cut. SK_OK or SK_EPROTO. */
int peer_wire_check_assembled(struct slice item);

/* The next item; `rest` moves on. SK_OK, SK_NOT_FOUND (no more: `rest` is empty), SK_EPROTO. Slices point into `rest`. */
int peer_wire_read_item(const struct peer_header *header, struct slice *rest, struct peer_item *item);

/* The shard of the next item, without looking at more of it: for who only wants to know whom it concerns. As above, but
 * only for items that were checked. */
int peer_wire_skip_item(struct slice *rest, uint32_t *shard);

/* The entries of an APPEND, in order. */
struct peer_entries {
    struct slice rest;
    uint32_t shard;
    uint64_t replica_id;
    uint64_t next_index;
};

struct peer_entries peer_entries_of(const struct peer_item *item);

/* SK_OK, SK_NOT_FOUND (no more), SK_EPROTO. The payload points into the item. */
int peer_entries_next(struct peer_entries *entries, struct wal_entry *entry);

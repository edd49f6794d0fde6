/* Frames between gateway and shardd: one nng message with many items. Fixed little-endian layout, written and read
 * only here. A frame is never trusted: every length is checked before it is used. Any thread.
 *
 *   frame   = header, return address, items
 *   header  = magic u32, version u8, kind u8, address_bytes u16, cluster u64, session u64, incarnation u64,
 *             number u64, taken u64, item_count u32, reserved u32 (0)
 *   item    = bytes u32 (of the rest), fixed fields by kind, variable part
 *
 * Frames may be lost at a disconnect, repeated and delivered late (docs/replication.md, R27): an item is safe to see
 * twice, since a write carries its name (R10) and an answer its number. */
#pragma once

#include "buffer.h"

#define WIRE_MAGIC             0x59524b53u /* "SKRY" */
#define WIRE_VERSION           2u
#define WIRE_HEADER_BYTES      56u
#define WIRE_ADDRESS_BYTES_MAX 256u

enum frame_kind { FRAME_REQUESTS = 1, FRAME_ANSWERS = 2 };

struct frame_header {
    enum frame_kind kind;
    uint64_t cluster; /* id of the cluster: a frame of another one is refused */
    uint64_t session; /* of the gateway, both ways: random, new at each of its starts */
    /* of the shardd: requests carry the one that the gateway means (0: any), answers the sender's */
    uint64_t incarnation;
    uint64_t number;             /* 1, 2, …: of this frame among the frames from this sender to this receiver */
    uint64_t taken;              /* highest number taken from the other side; what is beyond counts as in flight */
    struct slice return_address; /* requests: the nng URL to which answers are pushed; borrowed from the frame */
    uint32_t item_count;
};

enum request_flags {
    REQUEST_WRITE = 1,  /* becomes a log entry; the name counts */
    REQUEST_ATOMIC = 2, /* body is a batch, one log entry */
    /* a read that follows a write of the same message: it runs after the writes of its shard that came before it, so
     * that a client that sends SET and GET together reads what it has set */
    REQUEST_AFTER = 4,
    REQUEST_STALE = 8, /* a read that a follower may serve (R17); not with any other */
    /* a blocking command, with REQUEST_WRITE alone: where it finds nothing, it may wait timeout_ms for something. Then its answer
     * is nil, and its name is not used again: it is as though it had not been asked */
    REQUEST_WAITS = 16,
};

/* One command for one shard. */
struct request_item {
    uint64_t number; /* the gateway's number of the command: matches the answer; with `session` a write's name */
    uint64_t floor;  /* writes: the gateway's lowest number of this shard that it may still send again */
    uint64_t epoch;  /* leader epoch of the shard by the gateway's map */
    uint64_t map_version; /* the gateway's */
    uint32_t shard;
    uint32_t timeout_ms; /* what is left of the deadline */
    uint8_t flags;
    uint64_t waited_us; /* with REQUEST_WAITS: since its client asked; in a frame only then, as the next */
    uint64_t follows;   /* the number under which the same client has waited before; 0 = none */
    uint32_t id_part;   /* with `id`: which command of the message this is, so that each has a name of its own */
    struct slice id;    /* the client's `id`, 1 to ID_BYTES_MAX bytes; empty: the name is (session, number) */
    struct slice body;  /* two MessagePack values: method (str), params (array); for REQUEST_ATOMIC "batch" and
                             an array of [method, params] */
};

/* What became of it. */
struct answer_item {
    uint64_t number;
    uint64_t map_version; /* the shardd's: a gateway that knows less asks metad */
    int err;              /* enum sk_err >= 0 */
    struct slice body;    /* SK_OK: the result as one MessagePack value; else a text, may be empty */
};

/* Starts a frame in `buffer` (any content stays before it). `item_count` is patched by frame_finish. */
void frame_begin(struct buffer *buffer, const struct frame_header *header);
void frame_add_request(struct buffer *buffer, const struct request_item *item);
void frame_add_answer(struct buffer *buffer, const struct answer_item *item);

/* Bytes that an item takes in a frame. */
size_t frame_request_bytes(const struct request_item *item);
size_t frame_answer_bytes(const struct answer_item *item);

/* Writes the final number, `taken` and item count into the header at `frame`. */
void frame_finish(uint8_t *frame, uint64_t number, uint64_t taken, uint32_t item_count);

/* Reads a header; `rest` gets the bytes of the items. SK_OK, SK_EPROTO (malformed), SK_EVERSION (version differs). */
int frame_read_header(struct slice frame, struct frame_header *header, struct slice *rest);

/* The next item; `rest` moves on. SK_OK, SK_NOT_FOUND (no more: `rest` is empty), SK_EPROTO. Slices point into the
 * frame. The caller checks that as many items came as the header says. */
int frame_read_request(struct slice *rest, struct request_item *item);
int frame_read_answer(struct slice *rest, struct answer_item *item);

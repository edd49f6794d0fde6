/* What waits to be sent to one peer, and the frames it leaves in. Urgent items go into the next frame first; bulk items
 * follow, until a frame has some PEER_FRAME_BYTES and while no more than PEER_WINDOW_BYTES of them are under way: sent, and
 * not yet taken by the other side. So what is urgent never stands behind more than that. What waits is lost with the
 * connection: who put it there begins again from what was acknowledged (docs/replication.md, R27). Pure; not for two
 * threads at once. */
#pragma once

#include "shardd/peer_wire.h"

#define PEER_FRAME_BYTES      (256u * 1024)
#define PEER_WINDOW_BYTES     (1024u * 1024)
#define PEER_BULK_BYTES_MAX   (16u * 1024 * 1024) /* that wait; peer_queue_room counts down to 0 */
#define PEER_URGENT_BYTES_MAX (16u * 1024 * 1024) /* that wait; more is dropped, and its senders ask again */

/* Items that were gathered in one step of a lane, one behind another. */
struct parcel {
    struct parcel *next;
    uint8_t *data; /* owned */
    size_t size;
    uint32_t count; /* of items */
    bool chunk;     /* it is one PEER_CHUNK, which goes alone */
};

struct parcel_list {
    struct parcel *head, *tail; /* owned */
    size_t bytes;
};

/* A parcel of what is in `buffer`, which is empty afterwards. False: out of memory, or the buffer had failed; it is empty
 * all the same. */
bool parcel_list_add(struct parcel_list *list, struct buffer *buffer, uint32_t count, bool chunk);
/* All of `from` to the end of `list`; `from` is empty afterwards. */
void parcel_list_move(struct parcel_list *list, struct parcel_list *from);
void parcel_list_free(struct parcel_list *list);

struct peer_queue {
    uint64_t connection; /* 0 = none */
    struct parcel_list urgent, bulk;
    uint64_t number;       /* of the last frame with items */
    uint64_t heard_number; /* which of them have come, as the other side says */
    uint64_t bulk_sent;    /* bytes on this connection */
    uint64_t bulk_taken;   /* of them the other side has taken */
    uint64_t moved_us;     /* when it last said something new, or frames were first under way */
    uint64_t dropped;      /* items, since they were too many; of all connections */
};

/* All zero is a queue without a connection. */
void peer_queue_deinit(struct peer_queue *queue);

/* A new connection, by a number that none has had; 0 = the connection is gone. What waits is dropped. */
void peer_queue_connect(struct peer_queue *queue, uint64_t connection);

/* Takes both lists; they are empty afterwards. Without a connection they are dropped. */
void peer_queue_add(struct peer_queue *queue, struct parcel_list *urgent, struct parcel_list *bulk);

/* Bytes of bulk items that should at most be added. Whoever has room may add one item of any size. */
size_t peer_queue_room(const struct peer_queue *queue);

/* The next frame: how many of the parcels it takes. */
struct peer_cut {
    uint32_t urgent_parcels, bulk_parcels;
    uint32_t item_count;
    size_t urgent_bytes, bulk_bytes;
};

/* False: nothing can go now. */
bool peer_queue_cut(const struct peer_queue *queue, struct peer_cut *cut);

/* Writes that frame to `at`, which has PEER_HEADER_BYTES + urgent_bytes + bulk_bytes, and removes it from the queue. An
 * all zero cut makes a frame without items. Who sends, to whom, and what was heard is set in `header`; the rest is filled
 * in. */
void peer_queue_fill(struct peer_queue *queue, const struct peer_cut *cut, struct peer_header *header, uint8_t *at,
                     uint64_t now_us);

/* The other side says how far it is. Old news and what cannot be is ignored. */
void peer_queue_on_heard(struct peer_queue *queue, const struct peer_header *header, uint64_t now_us);

/* Frames are under way, and for so long the other side has said nothing new of them. */
bool peer_queue_stalled(const struct peer_queue *queue, uint64_t now_us, uint64_t stall_us);

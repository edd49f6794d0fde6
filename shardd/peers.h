/* The pipelines between the nodes: one PULL listener here, one PUSH socket to each other node of the map, which dials its
 * replication address and never gives up. With frontend alone in including nng. What is sent may be lost whenever a
 * connection breaks; within a connection, bulk items of a lane arrive in the order in which they were sent, and so do its
 * urgent items (docs/replication.md, R27).
 *
 * A peer's shardd that has died shows as a closed connection; one that is stopped keeps it. A connection in which nothing
 * is heard of what was sent is closed and dialled anew after two seconds: where a network was cut, TCP may wait for
 * a minute before it tries again. */
#pragma once

#include "libcommon/map.h"
#include "shardd/peer_queue.h"

#include <stdatomic.h>

struct peers;
struct peer_link; /* to one node */

/* A frame that has come, whole and checked. Counted: each lane that has items in it holds it, since they point into it.
 * `urgent` is to be processed at once. While `bulk` is held its bytes count as under way, and a node has no more than some
 * PEER_WINDOW_BYTES of them: so a lane without room for entries slows their sender down. */
struct peer_frame {
    atomic_uint refs; /* private */
    struct peer_header header;
    struct slice urgent, bulk; /* items: peer_wire_read_item(&frame->header, …), which does not fail */

    /* private */
    struct peer_link *link; /* borrowed: lives until peers_close */
    void *message;          /* owned, nng's */
    struct buffer item;     /* owned: an item that came in chunks; then `bulk` is this */
    size_t held_bytes;
    uint64_t generation; /* shardd/peer_intake */
};

struct peer_frame *peer_frame_ref(struct peer_frame *frame);
void peer_frame_unref(struct peer_frame *frame); /* any thread; NULL is allowed */

struct peers_options {
    const char *listen; /* of cluster_net.h */
    void *arg;
    /* A frame has come: takes the caller's reference. On an nng thread, one call at a time; must not block. */
    void (*frame_cb)(void *arg, struct peer_frame *frame);
    /* There is a new connection to `node`; there has been none for 40 ms, or never one. In the order in which it happens,
     * first up or down, then both may repeat; a short loss shows as a second up. What was sent before an up may be lost.
     * Must not block nor call a function of this header. */
    void (*up_cb)(void *arg, uint32_t node);
    void (*down_cb)(void *arg, uint32_t node);
    /* peers_room(node), having come to 0, is large again. As above. */
    void (*room_cb)(void *arg, uint32_t node);
};

/* Opens the listener; nothing is received or dialled before peers_start. SK_ECONFIG: the address is not valid or in use
 * (`text` says which), SK_ENOMEM. `port` (may be NULL) gets the port that was bound, for URLs with port 0. */
int peers_open(struct peers **peers, const struct peers_options *options, char *text, size_t text_bytes,
               int *port);

/* Once. From now on frames of this cluster to this node are received. SK_ENOMEM: no thread; then it can only be closed. */
int peers_start(struct peers *peers, uint64_t cluster, uint32_t node, uint64_t incarnation);

/* After peers_start, one thread: connects to the other nodes of the map as it says. A map that is not newer is ignored. */
void peers_set_map(struct peers *peers, const struct map *map);

/* Any thread. Items for `node`: urgent ones, and bulk ones. Takes both lists. Dropped if there is no connection. */
void peers_send(struct peers *peers, uint32_t node, struct parcel_list *urgent, struct parcel_list *bulk);

/* Any thread. Bytes of bulk items that should at most be sent to `node` now; who has room may send one item of any size. 0
 * without a connection. */
size_t peers_room(struct peers *peers, uint32_t node);

/* Names an item that is sent in chunks. Any thread. */
uint64_t peers_next_stream(struct peers *peers);

struct peers_stats {
    uint64_t frames_in, bytes_in, refused_frames;
    uint64_t frames_out, bytes_out; /* handed to the network */
    uint32_t connected, known;      /* other nodes of the map */
};

/* Any thread. */
void peers_stats(struct peers *peers, struct peers_stats *stats);

/* Stops receiving: no frame_cb runs afterwards. What is sent still goes out. */
void peers_stop_receiving(struct peers *peers);

/* Waits until everything has been handed to the network, at most so long. */
void peers_flush(struct peers *peers, uint32_t timeout_ms);

/* Closes everything. No frame may be held any more, and no other call be under way. NULL is allowed. */
void peers_close(struct peers *peers);

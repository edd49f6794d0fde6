/* What a lane has for its peers in one step, gathered per node and handed over together. Only the lane calls. */
#pragma once

#include "shardd/peers.h"

#define PEER_APPEND_BYTES (128u * 1024) /* an APPEND ends here even if there are more entries */

struct peer_outbox {
    struct peers *peers; /* borrowed */

    /* private */
    struct peer_outbox_node {
        uint32_t node;
        struct peer_outbox_part {
            struct buffer items; /* being filled */
            uint32_t count;
            struct parcel_list parcels; /* filled */
        } urgent, bulk;
    } * nodes; /* owned; kept from step to step */
    uint32_t node_count;
    struct replica_message append; /* between begin and end */
    struct peer_outbox_node *to;   /* whom it is for; NULL: no memory */
    struct buffer *append_buffer;  /* where it is written: `large`, or the node's; NULL before its first entry */
    size_t append_begin;
    uint32_t append_count;
    struct buffer large; /* an entry that is to be cut */
};

/* All zero but `peers` is an empty outbox. Drops what was not flushed. */
void peer_outbox_deinit(struct peer_outbox *outbox);

/* Copied. Whatever there is no memory for is dropped, as the network may: it will be asked for again. An APPEND goes
 * by the next three. */
void peer_outbox_add_message(struct peer_outbox *outbox, const struct replica_message *message);
void peer_outbox_add_taken(struct peer_outbox *outbox, uint32_t node, const struct snapshot_taken *taken);
void peer_outbox_add_question(struct peer_outbox *outbox, uint32_t node, const struct verify_question *question);
void peer_outbox_add_reply(struct peer_outbox *outbox, uint32_t node, const struct verify_reply *reply);
void peer_outbox_add_begin(struct peer_outbox *outbox, uint32_t node, const struct snapshot_begin *begin);
void peer_outbox_add_piece(struct peer_outbox *outbox, uint32_t node, const struct snapshot_piece *piece);

/* Bytes of entries and pieces that may still be added for `node`; who has any may add one of any size. */
size_t peer_outbox_room(struct peer_outbox *outbox, uint32_t node);

/* An APPEND to message->to, with entries from message->prev_index + 1 on. An entry is refused (false) when the message is
 * large enough: end it, and go on with another. The first is always taken. */
void peer_outbox_begin_append(struct peer_outbox *outbox, const struct replica_message *message);
bool peer_outbox_add_entry(struct peer_outbox *outbox, const struct wal_entry *entry);
/* How many entries the message has; 0: none, or there was no memory, and there is no message. */
uint32_t peer_outbox_end_append(struct peer_outbox *outbox);

/* Hands everything to the peers. */
void peer_outbox_flush(struct peer_outbox *outbox);

#include "shardd/peer_outbox.h"

#include "libcommon/check.h"

#include <stdlib.h>

#define PARCEL_BYTES (128u * 1024) /* a parcel ends with the item that reaches this */

_Static_assert(PARCEL_BYTES <= PEER_FRAME_BYTES, "shardd/peers counts with it");
_Static_assert(PEER_APPEND_BYTES < PEER_CHUNK_BYTES && SNAPSHOT_PIECE_BYTES < PEER_CHUNK_BYTES,
               "these are not cut");

/* NULL when out of memory. */
static struct peer_outbox_node *node_of(struct peer_outbox *outbox, uint32_t node) {
    for (uint32_t i = 0; i < outbox->node_count; i++) {
        if (outbox->nodes[i].node == node) return &outbox->nodes[i];
    }
    struct peer_outbox_node *nodes = realloc(outbox->nodes, (outbox->node_count + 1) * sizeof *nodes);
    if (nodes == NULL) return NULL;
    outbox->nodes = nodes;
    nodes[outbox->node_count] = (struct peer_outbox_node){.node = node};
    return &nodes[outbox->node_count++];
}

/* What was filled becomes a parcel. One that cannot be is lost. */
static void seal(struct peer_outbox_part *part) {
    if (part->items.size > 0 || part->items.failed) {
        parcel_list_add(&part->parcels, &part->items, part->count, false);
    }
    part->count = 0;
}

static void count_item(struct peer_outbox_part *part) {
    part->count++;
    if (part->items.size >= PARCEL_BYTES || part->items.failed) seal(part);
}

/* ---- items ---- */

void peer_outbox_add_message(struct peer_outbox *outbox, const struct replica_message *message) {
    struct peer_outbox_node *to = node_of(outbox, message->to);
    if (to == NULL) return;
    peer_wire_add_message(&to->urgent.items, message);
    count_item(&to->urgent);
}

void peer_outbox_add_taken(struct peer_outbox *outbox, uint32_t node, const struct snapshot_taken *taken) {
    struct peer_outbox_node *to = node_of(outbox, node);
    if (to == NULL) return;
    peer_wire_add_taken(&to->urgent.items, taken);
    count_item(&to->urgent);
}

void peer_outbox_add_question(struct peer_outbox *outbox, uint32_t node, const struct verify_question *question) {
    struct peer_outbox_node *to = node_of(outbox, node);
    if (to == NULL) return;
    peer_wire_add_question(&to->urgent.items, question);
    count_item(&to->urgent);
}

void peer_outbox_add_reply(struct peer_outbox *outbox, uint32_t node, const struct verify_reply *reply) {
    struct peer_outbox_node *to = node_of(outbox, node);
    if (to == NULL) return;
    peer_wire_add_reply(&to->urgent.items, reply);
    count_item(&to->urgent);
}

void peer_outbox_add_begin(struct peer_outbox *outbox, uint32_t node, const struct snapshot_begin *begin) {
    struct peer_outbox_node *to = node_of(outbox, node);
    if (to == NULL) return;
    peer_wire_add_begin(&to->bulk.items, begin);
    count_item(&to->bulk);
}

void peer_outbox_add_piece(struct peer_outbox *outbox, uint32_t node, const struct snapshot_piece *piece) {
    struct peer_outbox_node *to = node_of(outbox, node);
    if (to == NULL) return;
    peer_wire_add_piece(&to->bulk.items, piece);
    count_item(&to->bulk);
}

size_t peer_outbox_room(struct peer_outbox *outbox, uint32_t node) {
    const struct peer_outbox_node *to = node_of(outbox, node);
    if (to == NULL) return 0;
    size_t gathered = to->bulk.parcels.bytes + to->bulk.items.size;
    size_t room = peers_room(outbox->peers, node);
    return room > gathered ? room - gathered : 0;
}

/* ---- entries ---- */

void peer_outbox_begin_append(struct peer_outbox *outbox, const struct replica_message *message) {
    outbox->append = *message;
    outbox->to = node_of(outbox, message->to);
    outbox->append_buffer = NULL;
    outbox->append_count = 0;
}

bool peer_outbox_add_entry(struct peer_outbox *outbox, const struct wal_entry *entry) {
    size_t bytes = peer_wire_entry_bytes(entry->payload.size);
    if (outbox->to == NULL) return false;
    if (outbox->append_count == 0) {
        bool large = bytes > PEER_APPEND_BYTES;
        outbox->append_buffer = large ? &outbox->large : &outbox->to->bulk.items;
        outbox->append_begin = peer_wire_begin_append(outbox->append_buffer, &outbox->append);
    } else if (outbox->append_buffer->size - outbox->append_begin + bytes > PEER_APPEND_BYTES) {
        return false;
    }
    peer_wire_add_entry(outbox->append_buffer, entry);
    outbox->append_count++;
    return true;
}

/* An item in parcels of one chunk each, behind what came before it. False: no memory for all of them. */
static bool add_chunks(struct peer_outbox_part *part, struct slice item, uint64_t stream) {
    struct parcel_list chunks = {0};
    seal(part);
    for (size_t offset = 0; offset < item.size; offset += PEER_CHUNK_BYTES) {
        size_t left = item.size - offset;
        struct peer_chunk chunk = {
            .stream = stream,
            .total_bytes = (uint32_t)item.size,
            .offset = (uint32_t)offset,
            .bytes = slice_of(item.data + offset, left < PEER_CHUNK_BYTES ? left : PEER_CHUNK_BYTES)};
        struct buffer buffer;
        buffer_init(&buffer);
        peer_wire_add_chunk(&buffer, &chunk);
        if (!parcel_list_add(&chunks, &buffer, 1, true)) {
            parcel_list_free(&chunks);
            return false;
        }
    }
    parcel_list_move(&part->parcels, &chunks);
    return true;
}

uint32_t peer_outbox_end_append(struct peer_outbox *outbox) {
    struct buffer *buffer = outbox->append_buffer;
    uint32_t count = outbox->append_count;
    outbox->append_buffer = NULL;
    outbox->append_count = 0;
    if (count == 0) return 0;
    struct peer_outbox_part *bulk = &outbox->to->bulk;
    peer_wire_end_append(buffer, outbox->append_begin, count);
    if (buffer == &bulk->items) {
        if (buffer->failed) count = 0;
        count_item(bulk);
        return count;
    }
    bool added = !buffer->failed && add_chunks(bulk, buffer_slice(buffer), peers_next_stream(outbox->peers));
    buffer_deinit(buffer);
    return added ? count : 0;
}

/* ---- handing over ---- */

void peer_outbox_flush(struct peer_outbox *outbox) {
    sk_assert(outbox->append_count == 0);
    for (uint32_t i = 0; i < outbox->node_count; i++) {
        struct peer_outbox_node *to = &outbox->nodes[i];
        seal(&to->urgent);
        seal(&to->bulk);
        if (to->urgent.parcels.head == NULL && to->bulk.parcels.head == NULL) continue;
        peers_send(outbox->peers, to->node, &to->urgent.parcels, &to->bulk.parcels);
    }
}

void peer_outbox_deinit(struct peer_outbox *outbox) {
    for (uint32_t i = 0; i < outbox->node_count; i++) {
        struct peer_outbox_node *to = &outbox->nodes[i];
        parcel_list_free(&to->urgent.parcels);
        parcel_list_free(&to->bulk.parcels);
        buffer_deinit(&to->urgent.items);
        buffer_deinit(&to->bulk.items);
    }
    buffer_deinit(&outbox->large);
    free(outbox->nodes);
    *outbox = (struct peer_outbox){.peers = outbox->peers};
}

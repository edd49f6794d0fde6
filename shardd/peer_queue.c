#include "shardd/peer_queue.h"

#include "libcommon/check.h"

#include <stdlib.h>

/* ---- parcels ---- */

static void parcel_free(struct parcel *parcel) {
    free(parcel->data);
    free(parcel);
}

bool parcel_list_add(struct parcel_list *list, struct buffer *buffer, uint32_t count, bool chunk) {
    struct parcel *parcel = buffer->failed ? NULL : malloc(sizeof *parcel);
    if (parcel == NULL) {
        buffer_deinit(buffer);
        return false;
    }
    *parcel = (struct parcel){.data = buffer->data, .size = buffer->size, .count = count, .chunk = chunk};
    buffer_init(buffer);
    if (list->tail == NULL) {
        list->head = parcel;
    } else {
        list->tail->next = parcel;
    }
    list->tail = parcel;
    list->bytes += parcel->size;
    return true;
}

void parcel_list_move(struct parcel_list *list, struct parcel_list *from) {
    if (from->head == NULL) return;
    if (list->tail == NULL) {
        list->head = from->head;
    } else {
        list->tail->next = from->head;
    }
    list->tail = from->tail;
    list->bytes += from->bytes;
    *from = (struct parcel_list){0};
}

void parcel_list_free(struct parcel_list *list) {
    while (list->head != NULL) {
        struct parcel *parcel = list->head;
        list->head = parcel->next;
        parcel_free(parcel);
    }
    *list = (struct parcel_list){0};
}

/* Copies the first `count` parcels to `at` and frees them; returns the end of the copy. */
static uint8_t *unpack(struct parcel_list *list, uint32_t count, uint8_t *at) {
    for (; count > 0; count--) {
        struct parcel *parcel = list->head;
        list->head = parcel->next;
        if (list->head == NULL) list->tail = NULL;
        list->bytes -= parcel->size;
        memcpy(at, parcel->data, parcel->size);
        at += parcel->size;
        parcel_free(parcel);
    }
    return at;
}

/* ---- the queue ---- */

static uint32_t count_items(const struct parcel_list *list) {
    uint32_t count = 0;
    for (const struct parcel *parcel = list->head; parcel != NULL; parcel = parcel->next) count += parcel->count;
    return count;
}

void peer_queue_deinit(struct peer_queue *queue) {
    parcel_list_free(&queue->urgent);
    parcel_list_free(&queue->bulk);
}

void peer_queue_connect(struct peer_queue *queue, uint64_t connection) {
    peer_queue_deinit(queue);
    *queue = (struct peer_queue){.connection = connection, .dropped = queue->dropped};
}

void peer_queue_add(struct peer_queue *queue, struct parcel_list *urgent, struct parcel_list *bulk) {
    if (queue->connection == 0) {
        parcel_list_free(urgent);
        parcel_list_free(bulk);
        return;
    }
    if (queue->urgent.bytes + urgent->bytes > PEER_URGENT_BYTES_MAX) {
        queue->dropped += count_items(urgent);
        parcel_list_free(urgent);
    }
    parcel_list_move(&queue->urgent, urgent);
    parcel_list_move(&queue->bulk, bulk);
}

size_t peer_queue_room(const struct peer_queue *queue) {
    if (queue->connection == 0 || queue->bulk.bytes >= PEER_BULK_BYTES_MAX) return 0;
    return PEER_BULK_BYTES_MAX - queue->bulk.bytes;
}

/* Parcels from the front of `list` until the frame is full: a frame may be longer by its last one. */
static uint32_t cut_list(const struct parcel_list *list, size_t *frame_bytes, size_t *bytes,
                         uint32_t *item_count) {
    uint32_t count = 0;
    for (const struct parcel *parcel = list->head; parcel != NULL; parcel = parcel->next) {
        if (*frame_bytes >= PEER_FRAME_BYTES || (parcel->chunk && count > 0)) break;
        *frame_bytes += parcel->size;
        *bytes += parcel->size;
        *item_count += parcel->count;
        count++;
        if (parcel->chunk) break;
    }
    return count;
}

bool peer_queue_cut(const struct peer_queue *queue, struct peer_cut *cut) {
    size_t frame_bytes = 0;
    *cut = (struct peer_cut){0};
    cut->urgent_parcels = cut_list(&queue->urgent, &frame_bytes, &cut->urgent_bytes, &cut->item_count);
    if (queue->bulk_sent - queue->bulk_taken < PEER_WINDOW_BYTES) {
        cut->bulk_parcels = cut_list(&queue->bulk, &frame_bytes, &cut->bulk_bytes, &cut->item_count);
    }
    return cut->item_count > 0;
}

void peer_queue_fill(struct peer_queue *queue, const struct peer_cut *cut, struct peer_header *header, uint8_t *at,
                     uint64_t now_us) {
    if (cut->item_count > 0) {
        if (queue->number == queue->heard_number) queue->moved_us = now_us;
        queue->number++;
    }
    header->connection = queue->connection;
    header->number = queue->number;
    header->bulk_before = queue->bulk_sent;
    header->item_count = cut->item_count;
    header->urgent_bytes = (uint32_t)cut->urgent_bytes;
    peer_wire_write_header(at, header);
    at = unpack(&queue->urgent, cut->urgent_parcels, at + PEER_HEADER_BYTES);
    unpack(&queue->bulk, cut->bulk_parcels, at);
    queue->bulk_sent += cut->bulk_bytes;
}

void peer_queue_on_heard(struct peer_queue *queue, const struct peer_header *header, uint64_t now_us) {
    if (queue->connection == 0 || header->heard_connection != queue->connection) return;
    if (header->heard_number > queue->number || header->heard_taken > queue->bulk_sent) return;
    if (header->heard_number > queue->heard_number) {
        queue->heard_number = header->heard_number;
        queue->moved_us = now_us;
    }
    if (header->heard_taken > queue->bulk_taken) queue->bulk_taken = header->heard_taken;
}

bool peer_queue_stalled(const struct peer_queue *queue, uint64_t now_us, uint64_t stall_us) {
    return queue->number != queue->heard_number && now_us >= queue->moved_us + stall_us;
}

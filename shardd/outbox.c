#include "shardd/outbox.h"

#define FLUSH_BYTES (1u << 20) /* more than this is handed on at once; and kept as room for the next step */

static void flush_link(struct outbox_link *link) {
    if (link->frame == NULL) return;
    if (link->items.failed) {
        frontend_release(link->frame->link, link->reserved_bytes);
    } else {
        frontend_answer(link->frame->link, buffer_slice(&link->items), link->count);
    }
    frame_unref(link->frame);
    link->frame = NULL;
    link->count = 0;
    link->reserved_bytes = 0;
    buffer_clear(&link->items, FLUSH_BYTES);
}

void outbox_flush(struct outbox *outbox) {
    for (unsigned i = 0; i < OUTBOX_LINKS; i++) flush_link(&outbox->links[i]);
}

static struct outbox_link *link_of(struct outbox *outbox, struct frame *frame) {
    struct outbox_link *unused = NULL;
    for (unsigned i = 0; i < OUTBOX_LINKS; i++) {
        struct outbox_link *link = &outbox->links[i];
        if (link->frame == NULL) {
            unused = link;
        } else if (link->frame->link == frame->link) {
            return link;
        }
    }
    if (unused == NULL) {
        unused = &outbox->links[0];
        flush_link(unused);
    }
    unused->frame = frame_ref(frame);
    return unused;
}

bool outbox_add(struct outbox *outbox, struct frame *frame, const struct answer_item *item) {
    size_t bytes = frame_answer_bytes(item);
    if (!frontend_reserve(frame->link, bytes)) return false;
    struct outbox_link *link = link_of(outbox, frame);
    link->reserved_bytes += bytes;
    frame_add_answer(&link->items, item);
    link->count++;
    if (link->items.size > FLUSH_BYTES) flush_link(link);
    return true;
}

void outbox_deinit(struct outbox *outbox) {
    for (unsigned i = 0; i < OUTBOX_LINKS; i++) {
        frame_unref(outbox->links[i].frame);
        buffer_deinit(&outbox->links[i].items);
    }
}

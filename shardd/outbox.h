/* Answers of a lane's step, gathered per gateway and handed to the frontend together. Only the lane calls. */
#pragma once

#include "shardd/frontend.h"

#define OUTBOX_LINKS 8u /* gateways answered in one step; more are flushed early */

struct outbox {
    /* private */
    struct outbox_link {
        struct frame *frame; /* owned reference: keeps the link */
        struct buffer items;
        uint32_t count;
        size_t reserved_bytes; /* of the link's room */
    } links[OUTBOX_LINKS];
};

/* All zero is an empty outbox. Drops what was not flushed. */
void outbox_deinit(struct outbox *outbox);

/* An answer to whoever sent `frame`; copied. False: there is no room for it (frontend_reserve), and nothing is added. */
bool outbox_add(struct outbox *outbox, struct frame *frame, const struct answer_item *item);

/* Hands everything to the frontend. */
void outbox_flush(struct outbox *outbox);

/* A queue into one thread: many post, one takes the whole list at once and handles it outside the lock
 * (h2o's multithread queue has this shape). */
#pragma once

#include <stdint.h>

/* Embedded in what is posted. The mailbox borrows it from post to take; then the taker has it. */
struct mail {
    struct mail *next;
};

struct mailbox;

/* `capacity` bounds mailbox_post only. SK_ENOMEM. */
int mailbox_new(struct mailbox **mailbox, uint32_t capacity);
/* Must be empty, and no call of another thread under way. */
void mailbox_free(struct mailbox *mailbox);

/* Any thread. SK_BUSY when full: the caller still has the mail. */
int mailbox_post(struct mailbox *mailbox, struct mail *mail);

/* Any thread. For what must arrive (completions, whose number is bounded by what was started): never refused. */
void mailbox_post_always(struct mailbox *mailbox, struct mail *mail);

/* Any thread: makes a waiting or the next take return, with or without mail. */
void mailbox_wake(struct mailbox *mailbox);

/* The owner. Everything posted, oldest first; waits for some until `deadline_us` of clock_boottime_us(), 0 = do not
 * wait. NULL when the time is over or mailbox_wake was called. */
struct mail *mailbox_take(struct mailbox *mailbox, uint64_t deadline_us);

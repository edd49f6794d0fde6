/* What happens next: a heap of events by virtual time; those of one instant happen in the order in which they were put.
 * Owner's thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sim;

/* An event is a call of `run`; what the numbers and `data` mean is between it and whoever put it. */
struct event {
    uint64_t at_us;
    uint64_t sequence; /* the queue's */
    void (*run)(struct sim *sim, const struct event *event);
    uint64_t a, b;
    void *data; /* borrowed: not freed by the queue */
};

struct queue {
    struct event *heap; /* owned */
    size_t count, room;
    uint64_t next_sequence;
};

void queue_init(struct queue *queue);
void queue_deinit(struct queue *queue);
void queue_put(struct queue *queue, struct event event);
struct event queue_take(struct queue *queue); /* the earliest; the queue is not empty */

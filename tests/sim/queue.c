#include "tests/sim/queue.h"

#include "libcommon/check.h"

#include <stdbool.h>
#include <stdlib.h>

void queue_init(struct queue *queue) { *queue = (struct queue){0}; }

void queue_deinit(struct queue *queue) {
    free(queue->heap);
    *queue = (struct queue){0};
}

static bool is_before(const struct event *a, const struct event *b) {
    if (a->at_us != b->at_us) return a->at_us < b->at_us;
    return a->sequence < b->sequence;
}

void queue_put(struct queue *queue, struct event event) {
    if (queue->count == queue->room) {
        queue->room = queue->room == 0 ? 256 : queue->room * 2;
        queue->heap = realloc(queue->heap, queue->room * sizeof *queue->heap);
        sk_assert(queue->heap != NULL);
    }
    event.sequence = queue->next_sequence++;
    size_t hole = queue->count++;
    while (hole > 0) {
        size_t parent = (hole - 1) / 2;
        if (!is_before(&event, &queue->heap[parent])) break;
        queue->heap[hole] = queue->heap[parent];
        hole = parent;
    }
    queue->heap[hole] = event;
}

struct event queue_take(struct queue *queue) {
    sk_assert(queue->count > 0);
    struct event first = queue->heap[0];
    struct event last = queue->heap[--queue->count];
    size_t hole = 0;
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= queue->count) break;
        if (child + 1 < queue->count && is_before(&queue->heap[child + 1], &queue->heap[child])) child++;
        if (!is_before(&queue->heap[child], &last)) break;
        queue->heap[hole] = queue->heap[child];
        hole = child;
    }
    if (queue->count > 0) queue->heap[hole] = last;
    return first;
}

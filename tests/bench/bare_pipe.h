/* A pipe for frames from one process of the bare chain to another: what comes while a frame is on its way gathers and
 * makes up the next one. Any thread may add. */
#pragma once

#include "bare_chain.h"

#include <nng/nng.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct bare_sender {
    nng_socket socket;
    nng_aio *aio;
    pthread_mutex_t lock;
    nng_msg *pending; /* under lock; NULL: nothing gathered */
    bool sending;     /* under lock */
};

void bare_sender_open(struct bare_sender *sender, const char *url);
void bare_sender_add(struct bare_sender *sender, const struct bare_item *items, size_t count);

/* Calls back with each frame that comes, one at a time, on nng's threads. */
struct bare_receiver {
    nng_socket socket;
    nng_aio *aio;
    void (*frame_cb)(void *arg, struct bare_item *items, size_t count);
    void *arg;
};

void bare_receiver_open(struct bare_receiver *receiver, const char *url,
                        void (*frame_cb)(void *arg, struct bare_item *items, size_t count), void *arg);

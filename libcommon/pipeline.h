/* One connection of a PUSH socket to a PULL listener elsewhere; whoever wants another opens another.
 *
 * nng 1.5.2 does not survive more with one socket: a send that completes in the moment in which its connection ends puts the
 * connection back among those that are ready, and after its memory is freed the next send goes there. So a socket has one
 * connection in its life, and nothing is sent once the end of that has been told. The rest is nng's: it dials until
 * there is somebody, and hands over one message at a time. */
#pragma once

#include <stdint.h>

/* For whoever opens the next one in the place of another. */
#define PIPELINE_PAUSE_MS 10u /* after a loss: who is about to close might still take the next, and say nothing */
#define PIPELINE_DIAL_MS  2000u /* an attempt that takes so long is given up: TCP would wait for a minute */

struct nng_msg;
struct pipeline;

struct pipeline_options {
    const char *address; /* of cluster_net.h */
    void *arg;
    /* On an nng thread; must not block. up_cb: it is connected, once. lost_cb: and not any more, once; what was sent may be
     * lost. A connection that ends while it begins may tell of its end only. sent_cb: the next message may be sent, if it
     * is still connected. */
    void (*up_cb)(void *arg, struct pipeline *pipeline);
    void (*lost_cb)(void *arg, struct pipeline *pipeline);
    void (*sent_cb)(void *arg, struct pipeline *pipeline);
};

/* Nothing happens before pipeline_dial. `address` is not kept. SK_ECONFIG: it is not valid. SK_ENOMEM. */
int pipeline_open(struct pipeline **pipeline, const struct pipeline_options *options);

/* Once. SK_ENOMEM, SK_ENET. */
int pipeline_dial(struct pipeline *pipeline);

/* Any thread, one at a time: the next after sent_cb. SK_OK: the message is taken, and sent_cb will come. SK_ECLOSED: there
 * is no connection yet, or no more; the message is still the caller's. */
int pipeline_send(struct pipeline *pipeline, struct nng_msg *message);

/* Ends the connection or the dialling. Waits for a callback that runs, so not from one, nor with a lock that they take;
 * none comes afterwards. NULL is allowed. */
void pipeline_close(struct pipeline *pipeline);

/* The same, but what nng has to wait for a thread of its own waits for: where another is to take its place at once. */
void pipeline_retire(struct pipeline *pipeline);

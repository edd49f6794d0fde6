/* The shardd's side of the frames between gateways and it: one PULL listener for requests, one pipeline per gateway
 * for answers. Of the node's files only this one and peers include nng.
 *
 * Answers gather: while a message to a gateway is on its way, what comes meanwhile goes into the next one. The message
 * that is on its way when the connection breaks may be lost, what waits goes out on the next connection. A gateway notices
 * the broken connection and sends its commands again under their names (docs/replication.md, R10, R27). */
#pragma once

#include "libcommon/limits.h"
#include "libcommon/mailbox.h"
#include "libcommon/wire.h"

#include <stdatomic.h>

struct frontend;
struct link; /* to one start (session) of one gateway; counted */

/* A frame of requests that has come, whole and checked. Counted: each lane and each waiting command holds it, since
 * bodies point into it. */
struct frame {
    atomic_uint refs;           /* private */
    struct frame_header header; /* return_address points into the message */
    struct slice items;
    struct link *link;    /* owned reference */
    void *message;        /* owned, nng's */
    uint64_t received_us; /* when, by CLOCK_BOOTTIME */
};

struct frame *frame_ref(struct frame *frame);
void frame_unref(struct frame *frame); /* any thread; NULL is allowed */
/* Who sent a frame, without what was in it: for an answer that comes much later. NULL: out of memory. */
struct frame *frame_stub(const struct frame *frame);

struct frontend_options {
    const char *listen; /* of cluster_net.h */
    /* A frame has come: takes the caller's reference. On an nng thread; must not block. */
    void (*frame_cb)(void *arg, struct frame *frame);
    void *arg;
};

/* Opens the listener; nothing is received before frontend_start. SK_ECONFIG: the address is not valid or in use (`text`
 * says which), SK_ENOMEM, SK_ENET. `port` (may be NULL) gets the port that was bound, for URLs with port 0. */
int frontend_open(struct frontend **frontend, const struct frontend_options *options, char *text,
                  size_t text_bytes, int *port);

/* From now on frames of this cluster are received and answered as this incarnation. */
void frontend_start(struct frontend *frontend, uint64_t cluster, uint64_t incarnation);

/* Stops receiving, waits for running callbacks, closes everything. No frame may be held any more. */
void frontend_close(struct frontend *frontend);

/* A gateway may take answers more slowly than they are made. As long as something small and definite can be said instead,
 * none is dropped: from ANSWERS_BYTES_SOFT on no read is executed and no large answer gets room, so a read is BUSY, which
 * the gateway tries again, and a write DONE. All lanes take room from one counter before they keep an answer, so large ones
 * together exceed the soft cap by one message at most, however many lanes and gateways there are; what is left up to
 * ANSWERS_BYTES_MAX is for small ones. Only beyond that an answer is dropped, and the gateway's deadline notices. */
#define ANSWERS_BYTES_SOFT (32u * 1024 * 1024)
#define ANSWERS_BYTES_MAX  (128u * 1024 * 1024)
#define ANSWER_BYTES_SMALL (RESULT_KEPT_BYTES_MAX + 64u) /* encoded */

/* Any thread: whether a read for the gateway of `link` should be executed. */
bool frontend_has_room(const struct link *link);

/* Any thread: room for `bytes` of encoded answers, to be filled by frontend_answer. False: there is none. */
bool frontend_reserve(struct link *link, size_t bytes);

/* Any thread: gives back room that is not going to be filled. */
void frontend_release(struct link *link, size_t bytes);

/* Any thread: `count` encoded answer items for the gateway of `link`, whose room has been reserved; copied. */
void frontend_answer(struct link *link, struct slice items, uint32_t count);

/* Any thread, now and then: tells gateways which of their frames have been taken where no answer did, and dials those again
 * whose connection was lost. */
void frontend_tick(struct frontend *frontend);

struct frontend_stats {
    uint64_t frames, commands;       /* that have come */
    uint64_t refused_frames;         /* malformed, of another cluster, or for another start of this node */
    uint64_t answer_frames, answers; /* handed to the network */
    uint64_t answers_dropped;
    uint32_t gateways; /* connected */
};

/* Any thread. */
void frontend_stats(struct frontend *frontend, struct frontend_stats *stats);

/* Stops receiving (drain); answers still go out. */
void frontend_stop_receiving(struct frontend *frontend);

/* Waits until every answer has been handed to the network, at most so long. */
void frontend_flush(struct frontend *frontend, uint32_t timeout_ms);

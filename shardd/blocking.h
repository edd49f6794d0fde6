/* Who waits at the shards of a lane until a key has something to take: blocking commands that found nothing. A pure data
 * structure: the lane (lane_blocking.c) says what happens, and asks whose turn it is. Only the lane's thread calls.
 *
 *                     has to wait               its key has elements, and it is the oldest
 *    add (in the log) ──────────▶ parked ─────────────────────────▶ in the log again ──▶ remove
 *    add (parked) ────────────────▶ │  ◀──── somebody was faster ───────┘   it has taken something
 *                                   └──── its time is over, or the shard is led elsewhere: remove
 *
 * Who waits for a key is served in the order in which the clients began to wait. Between two slices of one client's waiting its
 * place is kept for BLOCKING_KEPT_US: nobody behind it is served meanwhile. There is one waiter for each name (session, number), however often its request comes. Whose time was over is remembered
 * for a while: a request that was on its way twice must not take something for a gateway that does not ask any more. */
#pragma once

#include "libcommon/limits.h"
#include "libcommon/wire.h"

#define BLOCKING_WAITERS_MAX 65536u
#define BLOCKING_BYTES_MAX   (64u * 1024 * 1024) /* of all that waiters and their keys take */
#define BLOCKING_IN_LOG_MAX  64u                 /* of the waiters for one key, at a time */
#define BLOCKING_ENDED_US    10000000u /* so long it is remembered that a name has ended without anything */
#define BLOCKING_KEPT_US     50000u
#define BLOCKING_ENDED_MAX   (16u * BLOCKING_WAITERS_MAX)

struct blocking;
struct frame;
struct waiter;

/* Part of each shard. */
struct blocking_shard {
    struct blocking *blocking; /* borrowed */
    uint32_t shard;
    struct waiter *waiters; /* private: all of them */
};

struct waiter {
    struct frame *frame;      /* owned by the caller: who asked */
    struct request_item item; /* with copies of body and id */
    struct blocking_shard *at;
    uint64_t deadline_us;
    uint64_t behind; /* the caller's: its own entries of earlier, if there are any, are not behind this one */
    bool in_log;
    bool has_ended; /* its slice, with nothing: it is only its place that is kept, for what follows on it */
};

/* A key that may have something to take. */
struct blocking_ready {
    struct blocking_shard *at;
    struct slice key;
    uint8_t type; /* enum object_type */
    uint32_t in_log;
};

int blocking_new(struct blocking **blocking, uint64_t now_us); /* SK_ENOMEM */
void blocking_free(struct blocking *blocking);                 /* nobody waits */

uint32_t blocking_count(const struct blocking *blocking);

/* NULL: nobody of that name. */
struct waiter *blocking_find(const struct blocking *blocking, uint64_t session, uint64_t number);

/* Somebody new, in the place of whom it follows on, if that is kept; item and keys are copied. SK_OK; SK_BUSY: there are too many; SK_ENOMEM. */
struct blocking_request {
    const struct request_item *item;
    uint64_t session;
    uint8_t type;
    const struct slice *keys;
    size_t key_count;
    uint64_t since_us; /* since when its client waits */
    uint64_t deadline_us;
    bool in_log;
};
/* Whether somebody is parked at one of the keys, or has a place kept there, who is to be served before it. */
bool blocking_has_elders(const struct blocking_shard *at, const struct blocking_request *request);
int blocking_add(struct blocking_shard *at, const struct blocking_request *request, struct frame *frame,
                 struct waiter **waiter);

/* Out of everything, and freed. */
void blocking_remove(struct blocking *blocking, struct waiter *waiter);
/* One that is parked has got nothing and is told so: its name is remembered, and its place kept. */
void blocking_end(struct blocking *blocking, struct waiter *waiter, uint64_t now_us);
bool blocking_has_ended(const struct blocking *blocking, uint64_t session, uint64_t number);

/* Its entry of the log has found nothing. */
void blocking_park(struct waiter *waiter);
/* A parked one goes into the log, since the ready key has something. */
void blocking_wake(struct blocking *blocking, struct waiter *waiter);
/* It waits until then. */
void blocking_move_deadline(struct blocking *blocking, struct waiter *waiter, uint64_t deadline_us);

/* exec.h's stored_cb; `at` is a blocking_shard: that key is ready, if somebody waits for it. */
void blocking_stored_cb(void *at, struct slice key, uint8_t type);

/* The key that has been ready longest, until it is told to be served. */
bool blocking_first_ready(const struct blocking *blocking, struct blocking_ready *ready);
struct waiter *blocking_first_parked(
    const struct blocking *blocking); /* at that key; NULL: all are in the log, or a place is kept */
void blocking_served(struct blocking *blocking);

/* A parked one whose time is over, or the place of one, at most 5 ms late; NULL: none is left. To be called until then before anybody is added, so
 * that no deadline is more than a slice (WAIT_SLICE_MS) away. */
struct waiter *blocking_next_late(struct blocking *blocking, uint64_t now_us);
/* A parked one of a shard; NULL: none. */
struct waiter *blocking_next_parked(const struct blocking_shard *at);
